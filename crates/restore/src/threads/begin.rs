//! A thread that ended since begins again.

use super::{bytes_of, call};
use std::io;
use stillframe_image::Thread;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result, proc};

/// CLONE_VM | CLONE_FS | CLONE_FILES | CLONE_SIGHAND | CLONE_THREAD | CLONE_SYSVSEM: what every
/// thread shares with its process.
const SHARED: u64 = 0x100 | 0x200 | 0x400 | 0x800 | 0x1_0000 | 0x4_0000;

/// Attempts at a number by way of the namespace's last one, which others may take first.
const TRIES: u32 = 16;

const EPERM: i32 = 1;
const EEXIST: i32 = 17;
const EINVAL: i32 = 22;
const ENOSYS: i32 = 38;

/// A thread that was made.
pub(super) struct Begun {
    /// Its number.
    pub tid: u32,
    /// Where its number was changed in memory, and to what.
    pub patched: Option<(u64, u32)>,
    /// Where the kernel is to clear it at the thread's end.
    pub note: Option<u64>,
}

/// Makes a thread with the number it had, or with another one where that is not to be had and can be
/// told to the program.
pub(super) fn begin(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    wanted: &Thread,
) -> Result<Begun> {
    let note = note_of_number(remote, wanted);
    let own = |tid| Begun {
        tid,
        patched: None,
        note,
    };
    let taken = match numbered(remote, halt, caller, wanted.tid) {
        Ok(tid) => return Ok(own(tid)),
        Err(Error::Call { source, .. })
            if matches!(
                source.raw_os_error(),
                Some(EPERM | EEXIST | EINVAL | ENOSYS)
            ) =>
        {
            // Another thread or process has it by now: a copy of this one, perhaps.
            source.raw_os_error() == Some(EEXIST)
        }
        Err(e) => return Err(e),
    };
    // We may have the privilege where the process has not.
    for _ in 0..TRIES {
        if taken || proc::set::next_tid(wanted.tid).is_err() {
            break;
        }
        let tid = any(remote, halt, caller)?;
        if own_number(tid) == wanted.tid {
            return Ok(own(tid));
        }
        end(remote, halt, tid)?;
    }
    let Some(at) = note else {
        return Err(Error::Call {
            call: "clone3 (set_tid)",
            tid: caller,
            source: io::Error::other(format!(
                "thread {} has ended and cannot get its number back without CAP_CHECKPOINT_RESTORE, \
                 and where its C library keeps the number is not known; run as root",
                wanted.tid
            )),
        });
    };
    let tid = any(remote, halt, caller)?;
    let number = own_number(tid);
    remote.write(at, &number.to_le_bytes())?;
    Ok(Begun {
        tid,
        patched: Some((at, number)),
        note,
    })
}

/// Tells the C library that a thread is `tid` now, if it is known where it keeps that: the address
/// and the number written there. It is in another PID namespace perhaps.
pub(super) fn note(remote: &Remote, tid: u32, wanted: &Thread) -> Result<Option<(u64, u32)>> {
    let number = own_number(tid);
    let Some(at) = note_of_number(remote, wanted).filter(|_| number != wanted.tid) else {
        return Ok(None);
    };
    remote.write(at, &number.to_le_bytes())?;
    Ok(Some((at, number)))
}

/// Where the C library keeps a thread's number. It has the kernel clear that very word at the thread's
/// end; where that address was not asked for in time, glibc's own place is looked at.
pub(super) fn note_of_number(remote: &Remote, wanted: &Thread) -> Option<u64> {
    /// Offsets in glibc's `struct pthread` of x86-64: its own address, and the number.
    const SELF: u64 = 0x10;
    const TID: u64 = 0x2d0;
    let holds = |at: u64| {
        let mut word = [0u8; 4];
        remote.read(at, &mut word).is_ok() && u32::from_le_bytes(word) == wanted.tid
    };
    if let Some(at) = wanted.tid_address {
        return (at != 0 && holds(at)).then_some(at);
    }
    let base = wanted.registers.fs_base;
    let mut own = [0u8; 8];
    remote.read(base.wrapping_add(SELF), &mut own).ok()?;
    let at = base.wrapping_add(TID);
    (u64::from_le_bytes(own) == base && holds(at)).then_some(at)
}

fn numbered(remote: &mut Remote, halt: &mut Halt<'_>, caller: u32, tid: u32) -> Result<u32> {
    let scratch = remote.scratch().start;
    let list = scratch + 128;
    remote.write(list, &tid.to_le_bytes())?;
    // struct clone_args: flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls,
    // set_tid, set_tid_size, cgroup.
    let words = [SHARED, 0, 0, 0, 0, 0, 0, 0, list, 1, 0];
    remote.write(scratch, &bytes_of(&words))?;
    let made = remote.call(halt, caller, call::CLONE3, [scratch, 88, 0, 0, 0, 0])?;
    taken_in(halt, made)
}

/// Number of a thread in its own PID namespace.
pub(crate) fn own_number(tid: u32) -> u32 {
    let status = proc::status::Status::read(tid);
    status
        .ok()
        .and_then(|s| s.namespace_pids.last().copied())
        .unwrap_or(tid)
}

fn any(remote: &mut Remote, halt: &mut Halt<'_>, caller: u32) -> Result<u32> {
    let made = remote.call(halt, caller, call::CLONE, [SHARED, 0, 0, 0, 0, 0])?;
    taken_in(halt, made)
}

fn taken_in(halt: &mut Halt<'_>, _made: u64) -> Result<u32> {
    halt.take_in_new()
}

/// A thread that got the wrong number.
fn end(remote: &mut Remote, halt: &mut Halt<'_>, tid: u32) -> Result<()> {
    match remote.call(halt, tid, call::EXIT, [0; 6]) {
        Err(Error::ThreadGone(_)) => halt.see_out(tid),
        Ok(_) => Err(Error::Stuck { tid }),
        Err(e) => Err(e),
    }
}
