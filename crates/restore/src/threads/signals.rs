//! Queued signals.
//!
//! The queue of a checkpoint replaces the one of now: what came since is taken away, what was
//! waiting then waits again, with the `siginfo` it came with. Only a process itself may queue a
//! signal as if the kernel or somebody else had sent it, so each thread is made to.

use super::begin::own_number;
use super::call;
use stillframe_image::{Gap, SigInfo, Thread};
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

/// Signals taken from a queue at most; RLIMIT_SIGPENDING bounds it before.
const MOST: usize = 1 << 20;
const EAGAIN: i32 = 11;
const SIGSTOP: i32 = 19;

/// Where in scratch memory things are: a set, a timeout of zero, a siginfo.
const SET: u64 = 0;
const TIMEOUT: u64 = 16;
const INFO: u64 = 64;

/// Signals that are queued otherwise than we want. The stop signals of ours do not count.
fn differ(now: &[SigInfo], wanted: &[SigInfo]) -> bool {
    let counted = |list: &[SigInfo]| -> Vec<SigInfo> {
        list.iter()
            .filter(|i| i.signal != SIGSTOP)
            .cloned()
            .collect()
    };
    counted(now) != counted(wanted)
}

/// Makes the signals queued for a thread what they were. Masks must block everything.
///
/// # Errors
/// The kernel's.
pub(super) fn conform_own(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    tid: u32,
    wanted: &Thread,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let mut now = Vec::new();
    halt.pending(tid, &mut now)?;
    if !differ(&now, &wanted.pending) {
        return Ok(());
    }
    // Whatever is queued for the process as a whole must not be taken on the way.
    for info in now.iter().filter(|i| i.signal != SIGSTOP) {
        take(remote, halt, tid, Some(info.signal))?;
    }
    let pid = u64::from(own_number(halt.pid()));
    let own = u64::from(own_number(tid));
    for info in wanted.pending.iter().filter(|i| i.signal != SIGSTOP) {
        let scratch = remote.scratch().start;
        remote.write(scratch + INFO, &info.raw)?;
        let number = u64::from(info.signal.unsigned_abs());
        let args = [pid, own, number, scratch + INFO, 0, 0];
        let result = remote.call(halt, tid, call::RT_TGSIGQUEUEINFO, args);
        name(result, info, gaps)?;
    }
    Ok(())
}

/// Makes the signals queued for the process what they were: to be called after the threads' own.
/// `main`: its first thread, which alone may queue what the kernel sent; masks must block
/// everything.
///
/// # Errors
/// The kernel's.
pub fn conform_shared(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    main: u32,
    wanted: &[SigInfo],
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let mut now = Vec::new();
    halt.shared_pending(&mut now)?;
    if !differ(&now, wanted) {
        return Ok(());
    }
    // A thread takes its own signals before those of the process, so its own are put aside.
    let mut own = Vec::new();
    halt.pending(main, &mut own)?;
    take(remote, halt, main, None)?;
    let pid = u64::from(own_number(halt.pid()));
    let scratch = remote.scratch().start;
    for info in own.iter().filter(|i| i.signal != SIGSTOP) {
        remote.write(scratch + INFO, &info.raw)?;
        let number = u64::from(info.signal.unsigned_abs());
        let args = [pid, pid, number, scratch + INFO, 0, 0];
        let result = remote.call(halt, main, call::RT_TGSIGQUEUEINFO, args);
        name(result, info, gaps)?;
    }
    for info in wanted.iter().filter(|i| i.signal != SIGSTOP) {
        remote.write(scratch + INFO, &info.raw)?;
        let number = u64::from(info.signal.unsigned_abs());
        let args = [pid, number, scratch + INFO, 0, 0, 0];
        let result = remote.call(halt, main, call::RT_SIGQUEUEINFO, args);
        name(result, info, gaps)?;
    }
    Ok(())
}

fn name(result: Result<u64>, info: &SigInfo, gaps: &mut Vec<Gap>) -> Result<()> {
    match result {
        Err(Error::Call { source, .. }) => {
            gaps.push(Gap {
                subject: stillframe_image::signal::name(i64::from(info.signal)),
                reason: format!("was queued and could not be queued again: {source}"),
            });
            Ok(())
        }
        Err(e) => Err(e),
        Ok(_) => Ok(()),
    }
}

/// Takes signals away: one of this number, or all there are.
fn take(remote: &mut Remote, halt: &mut Halt<'_>, tid: u32, signal: Option<i32>) -> Result<()> {
    let scratch = remote.scratch().start;
    let set = signal.map_or(u64::MAX, |n| 1 << (n.unsigned_abs().saturating_sub(1) & 63));
    remote.write(scratch + SET, &set.to_le_bytes())?;
    remote.write(scratch + TIMEOUT, &[0; 16])?;
    for _ in 0..MOST {
        let args = [scratch + SET, 0, scratch + TIMEOUT, 8, 0, 0];
        match remote.call(halt, tid, call::RT_SIGTIMEDWAIT, args) {
            Ok(_) if signal.is_some() => return Ok(()),
            Ok(_) => {}
            Err(Error::Call { source, .. }) if source.raw_os_error() == Some(EAGAIN) => break,
            Err(e) => return Err(e),
        }
    }
    Ok(())
}
