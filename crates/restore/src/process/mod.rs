//! State that all threads of a process share, other than memory and descriptors, made equal to that
//! of a checkpoint.
//!
//! Only what differs is set, as far as what holds now can be seen from outside; signal actions
//! cannot, and are set where either moment has a handler. What a process cannot take back
//! (privileges given up, a filter on its system calls) is told before anything is changed, by
//! [`obstacles`]; what it may not set is named in what [`conform`] returns.

mod timers;

use crate::threads::{bytes_of, call};
use stillframe_image::{Gap, Process, SignalAction};
use stillframe_linux::proc;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

/// What of `wanted` the process `now` can never be again: what to say of it, in a clause each.
pub fn obstacles(now: &Process, wanted: &Process) -> Vec<String> {
    let mut found = Vec::new();
    if now.uids != wanted.uids || now.gids != wanted.gids {
        found.push("it changed its user or group since, which cannot be taken back".to_owned());
    }
    if now.seccomp != wanted.seccomp {
        found.push(
            "it put a filter on its system calls since, which cannot be taken off".to_owned(),
        );
    }
    if now.root != wanted.root {
        found.push("it changed its root directory since".to_owned());
    }
    found
}

/// What of `wanted` cannot be put back and does little harm.
pub fn remarks(now: &Process, wanted: &Process) -> Vec<Gap> {
    let mut gaps = Vec::new();
    let mut gap = |subject: &str, reason: &str| {
        gaps.push(Gap {
            subject: subject.to_owned(),
            reason: reason.to_owned(),
        });
    };
    if now.no_new_privs && !wanted.no_new_privs {
        gap("no_new_privs", "was set since and cannot be taken back");
    }
    if now.capabilities != wanted.capabilities {
        gap("capabilities", "changed since and stay as they are");
    }
    if now.session != wanted.session {
        gap("session", "changed since and stays as it is");
    }
    if now.groups != wanted.groups {
        gap("supplementary groups", "changed since and stay as they are");
    }
    gaps
}

/// State of a process at a checkpoint, whose answers (handlers of signals, interval timers) are known
/// only of some time `before` and some time `after` it: what is the same on both sides held between
/// them, too; of the rest nothing is known, and it is to stay as it is `now`. Everything else is read
/// at every checkpoint.
pub fn between(before: &Process, after: &Process, now: &Process) -> Process {
    let mut known = before.clone();
    let sort = |p: &Process| {
        p.interval_timers
            .map(|all| all.map(|t| (t.interval_us, t.value_us == 0)))
    };
    if sort(before) != sort(after) {
        known.interval_timers = now.interval_timers;
    }
    known.actions.clear();
    for signal in 1..=64 {
        let find = |of: &Process| of.actions.iter().find(|a| a.signal == signal).copied();
        // Where a handler is not known on one side, that there is one must do.
        let same = match (find(before), find(after)) {
            (None, None) => true,
            (Some(b), Some(a)) => {
                b == a || (b.handler == 1) == (a.handler == 1) && is_unknown(&b, &a)
            }
            _ => false,
        };
        known
            .actions
            .extend(if same { find(before) } else { find(now) });
    }
    known
}

fn is_unknown(a: &SignalAction, b: &SignalAction) -> bool {
    [a, b].iter().any(|x| x.handler == SignalAction::UNKNOWN)
}

/// Makes the process what it was. `caller`: a thread in which calls are made. `now`: what was read of
/// it, with handlers as far as known. Actions that were replaced are appended to `replaced` as they
/// were.
///
/// # Errors
/// The kernel's, about the thread; what single calls refuse is in the result.
pub fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    now: &Process,
    wanted: &Process,
    replaced: &mut Vec<SignalAction>,
) -> Result<Vec<Gap>> {
    let mut gaps = remarks(now, wanted);
    actions(remote, halt, caller, now, wanted, replaced, &mut gaps)?;
    timers::conform(remote, halt, caller, now, wanted, &mut gaps)?;
    let pid = halt.pid();
    for (resource, limit) in wanted.limits.iter().enumerate() {
        let held = now.limits.get(resource);
        if held.is_none_or(|l| l == limit) {
            continue;
        }
        let resource = u32::try_from(resource).unwrap_or(u32::MAX);
        if let Err(e) = proc::set::set_limit(pid, resource, *limit) {
            gaps.push(gap(format!("resource limit {resource}"), &e));
        }
    }
    if now.nice != wanted.nice
        && let Err(e) = proc::set::set_nice(pid, wanted.nice)
    {
        gaps.push(gap("nice value".to_owned(), &e));
    }
    let scratch = remote.scratch().start;
    if now.cwd != wanted.cwd && wanted.cwd.len() < 4096 {
        let mut path = wanted.cwd.clone();
        path.push(0);
        remote.write(scratch, &path)?;
        let result = remote.call(halt, caller, call::CHDIR, [scratch, 0, 0, 0, 0, 0]);
        note(result, || "working directory".to_owned(), &mut gaps)?;
    }
    if now.umask != wanted.umask {
        let args = [u64::from(wanted.umask), 0, 0, 0, 0, 0];
        remote.call(halt, caller, call::UMASK, args)?;
    }
    if now.group != wanted.group && wanted.group != 0 {
        let args = [0, u64::from(wanted.group), 0, 0, 0, 0];
        let result = remote.call(halt, caller, call::SETPGID, args);
        note(result, || "process group".to_owned(), &mut gaps)?;
    }
    Ok(gaps)
}

/// Actions of signals. Those that are the same by what the kernel shows from outside may still have
/// other handlers, so every caught one is set.
fn actions(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    now: &Process,
    wanted: &Process,
    replaced: &mut Vec<SignalAction>,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    for signal in (1..=64).filter(|s| !matches!(s, 9 | 19)) {
        let find = |of: &Process| of.actions.iter().find(|a| a.signal == signal).copied();
        let (held, want) = (find(now), find(wanted));
        let action = match (held, want) {
            (None, None) => continue,
            (Some(h), Some(w)) if h == w && h.handler != SignalAction::UNKNOWN => continue,
            (Some(h), Some(w)) if h.handler == 1 && w.handler == 1 => continue,
            (Some(h), Some(w)) if w.handler == SignalAction::UNKNOWN => {
                if h.handler <= 1 {
                    gaps.push(unknown(signal));
                }
                continue;
            }
            (None, Some(w)) if w.handler == SignalAction::UNKNOWN => {
                gaps.push(unknown(signal));
                continue;
            }
            (_, Some(w)) => w,
            (Some(_), None) => SignalAction {
                signal,
                handler: 0,
                flags: 0,
                restorer: 0,
                mask: 0,
            },
        };
        let scratch = remote.scratch().start;
        let words = [action.handler, action.flags, action.restorer, action.mask];
        remote.write(scratch, &bytes_of(&words))?;
        let old = scratch + 64;
        let args = [u64::from(signal), scratch, old, 8, 0, 0];
        let result = remote.call(halt, caller, call::RT_SIGACTION, args);
        if result.is_ok() {
            let mut words = [[0u8; 8]; 4];
            for (word, at) in words.iter_mut().zip((old..).step_by(8)) {
                remote.read(at, word)?;
            }
            let [handler, flags, restorer, mask] = words.map(u64::from_le_bytes);
            replaced.push(SignalAction {
                signal,
                handler,
                flags,
                restorer,
                mask,
            });
        }
        note(
            result,
            || {
                format!(
                    "action of {}",
                    stillframe_image::signal::name(i64::from(signal))
                )
            },
            gaps,
        )?;
    }
    Ok(())
}

fn unknown(signal: u32) -> Gap {
    Gap {
        subject: format!(
            "action of {}",
            stillframe_image::signal::name(i64::from(signal))
        ),
        reason: "its handler is not in the checkpoint".to_owned(),
    }
}

fn gap(subject: String, error: &Error) -> Gap {
    Gap {
        subject,
        reason: format!("could not be put back: {error}"),
    }
}

/// Names what a call refused; what is wrong with the thread itself is an error.
fn note(result: Result<u64>, subject: impl FnOnce() -> String, gaps: &mut Vec<Gap>) -> Result<()> {
    match result {
        Ok(_) => Ok(()),
        Err(e @ Error::Call { .. }) => {
            gaps.push(gap(subject(), &e));
            Ok(())
        }
        Err(e) => Err(e),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_taken_back_is_told() {
        let then = Process {
            uids: [0; 4],
            ..Process::default()
        };
        let now = Process {
            uids: [1000; 4],
            seccomp: 2,
            ..Process::default()
        };
        assert_eq!(obstacles(&then, &then), Vec::<String>::new());
        assert_eq!(obstacles(&now, &then).len(), 2);
    }

    #[test]
    fn what_changed_around_a_checkpoint_is_left() {
        let with = |signal, handler| SignalAction {
            signal,
            handler,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        let before = Process {
            umask: 0o22,
            nice: 1,
            actions: vec![with(1, 0x100), with(2, 0x200)],
            ..Process::default()
        };
        let after = Process {
            umask: 0o22,
            nice: 2,
            actions: vec![
                with(1, SignalAction::UNKNOWN),
                with(2, 0x300),
                with(15, 0x400),
            ],
            ..Process::default()
        };
        let now = Process {
            umask: 0o77,
            nice: 3,
            actions: vec![with(2, 0x500), with(15, SignalAction::UNKNOWN)],
            ..Process::default()
        };
        let known = between(&before, &after, &now);
        assert_eq!((known.umask, known.nice), (0o22, 1));
        assert_eq!(
            known.actions,
            [
                with(1, 0x100),
                with(2, 0x500),
                with(15, SignalAction::UNKNOWN)
            ]
        );
    }

    #[test]
    fn small_things_are_remarked() {
        let then = Process::default();
        let now = Process {
            no_new_privs: true,
            ..Process::default()
        };
        assert_eq!(remarks(&now, &then).len(), 1);
        assert!(remarks(&then, &now).is_empty());
    }
}
