//! Interval timers and POSIX timers.
//!
//! A checkpoint knows an interval timer as it was when it was last asked for, which may have been
//! long before; and a POSIX timer without the time it had left. So one that runs now and ran then
//! goes on running as it does, one that ran then and does not now is started again, and one that
//! was not known to run then is left alone, since it may have been started before the checkpoint.

use super::note;
use crate::threads::{bytes_of, call};
use stillframe_image::{Gap, PosixTimer, Process};
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

const GETITIMER: i64 = 36;
/// PR_TIMER_CREATE_RESTORE_IDS, and its argument (Linux 6.16).
const PR_TIMER_CREATE_RESTORE_IDS: u64 = 77;

pub(super) fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    now: &Process,
    wanted: &Process,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let scratch = remote.scratch().start;
    for (which, timer) in wanted.interval_timers.iter().flatten().enumerate() {
        // A periodic one that has just expired has nothing left until its signal is taken.
        let left_us = match timer.value_us {
            0 => timer.interval_us,
            left => left,
        };
        if left_us == 0 {
            continue;
        }
        let args = [which as u64, scratch, 0, 0, 0, 0];
        remote.call(halt, caller, GETITIMER, args)?;
        let mut left = [0u8; 32];
        remote.read(scratch, &mut left)?;
        let runs = left.iter().skip(16).any(|b| *b != 0);
        if runs {
            continue;
        }
        let parts = |us: u64| [us / 1_000_000, us % 1_000_000];
        let words = [parts(timer.interval_us), parts(left_us)].concat();
        remote.write(scratch, &bytes_of(&words))?;
        let args = [which as u64, scratch, 0, 0, 0, 0];
        let result = remote.call(halt, caller, call::SETITIMER, args);
        note(result, || format!("interval timer {which}"), gaps)?;
    }
    for timer in &now.posix_timers {
        if !wanted.posix_timers.iter().any(|t| same(t, timer)) {
            let args = [u64::from(timer.id), 0, 0, 0, 0, 0];
            let result = remote.call(halt, caller, call::TIMER_DELETE, args);
            note(result, || format!("POSIX timer {}", timer.id), gaps)?;
        }
    }
    let missing: Vec<&PosixTimer> = wanted
        .posix_timers
        .iter()
        .filter(|t| !now.posix_timers.iter().any(|n| same(t, n)))
        .collect();
    if missing.is_empty() {
        return Ok(());
    }
    let on = [PR_TIMER_CREATE_RESTORE_IDS, 1, 0, 0, 0, 0];
    let by_number = remote.call(halt, caller, call::PRCTL, on).is_ok();
    for timer in missing {
        let made = make(remote, halt, caller, timer, by_number);
        let name = || format!("POSIX timer {}", timer.id);
        match made {
            Ok(true) => {}
            Ok(false) => gaps.push(Gap {
                subject: name(),
                reason: "was deleted since and cannot get its number back on this kernel"
                    .to_owned(),
            }),
            Err(e) => note(Err(e), name, gaps)?,
        }
    }
    if by_number {
        let off = [PR_TIMER_CREATE_RESTORE_IDS, 0, 0, 0, 0, 0];
        remote.call(halt, caller, call::PRCTL, off)?;
    }
    Ok(())
}

fn same(a: &PosixTimer, b: &PosixTimer) -> bool {
    (a.id, a.clock, a.signal, a.value, a.notify) == (b.id, b.clock, b.signal, b.value, b.notify)
}

/// Makes a timer; `false` if it got another number, and is gone again.
fn make(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    timer: &PosixTimer,
    by_number: bool,
) -> Result<bool> {
    let scratch = remote.scratch().start;
    let (event, number, time) = (scratch, scratch + 128, scratch + 192);
    // struct sigevent: value, signo, notify, tid, 64 bytes.
    let mut bytes = bytes_of(&[timer.value]);
    bytes.extend(timer.signal.to_le_bytes());
    bytes.extend(timer.notify.to_le_bytes());
    bytes.extend(timer.target.to_le_bytes());
    bytes.resize(64, 0);
    remote.write(event, &bytes)?;
    let asked = if by_number { timer.id } else { 0 };
    remote.write(number, &asked.to_le_bytes())?;
    let clock = u64::from(timer.clock.cast_unsigned());
    remote.call(
        halt,
        caller,
        call::TIMER_CREATE,
        [clock, event, number, 0, 0, 0],
    )?;
    let mut got = [0u8; 4];
    remote.read(number, &mut got)?;
    let got = u32::from_le_bytes(got);
    if got != timer.id {
        let args = [u64::from(got), 0, 0, 0, 0, 0];
        remote.call(halt, caller, call::TIMER_DELETE, args)?;
        return Ok(false);
    }
    if let Some((interval, left)) = timer.armed_ns.filter(|(_, left)| *left != 0) {
        let parts = |ns: u64| [ns / 1_000_000_000, ns % 1_000_000_000];
        let words = [parts(interval), parts(left)].concat();
        remote.write(time, &bytes_of(&words))?;
        let args = [u64::from(timer.id), 0, time, 0, 0, 0];
        remote.call(halt, caller, call::TIMER_SETTIME, args)?;
    } else if timer.armed_ns.is_none() {
        return Err(Error::Call {
            call: "timer_settime",
            tid: caller,
            source: std::io::Error::other("the time it had left is not in the checkpoint"),
        });
    }
    Ok(true)
}
