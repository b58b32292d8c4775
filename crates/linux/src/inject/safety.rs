//! Which thread can be used, and whether any may.

use super::{SUSPEND_SECCOMP, SeccompPolicy, frame};
use crate::error::{Error, Result};
use crate::proc::status::Status;
use crate::ptrace::{StopKind, Stopped};
use crate::tracee::Halt;
use std::fs::File;
use std::os::unix::fs::FileExt;
use stillframe_image::Registers;

/// `__USER_CS`.
const CODE_64: u64 = 0x33;

/// A thread whose registers can be read.
pub(super) fn any_readable(halt: &Halt<'_>) -> Result<u32> {
    let pid = halt.pid();
    let readable = |tid: &&u32| halt.registers(**tid).is_ok();
    halt.threads()
        .iter()
        .find(readable)
        .copied()
        .ok_or(Error::ProcessGone(pid))
}

/// The best thread for a call: one stopped in user mode, else one in an interrupted call.
pub(super) fn pick(halt: &Halt<'_>, memory: &File) -> Result<u32> {
    let mut second = None;
    let mut reason = String::from("it has no thread left");
    for tid in halt.threads() {
        match check(halt, memory, *tid) {
            Ok(Ok(Fitness::User)) => return Ok(*tid),
            Ok(Ok(Fitness::InCall)) => second = second.or(Some(*tid)),
            Ok(Err(why)) => reason = why,
            Err(e) if e.is_gone() => {}
            Err(e) => return Err(e),
        }
    }
    second.ok_or(Error::NoSafeThread {
        pid: halt.pid(),
        why: reason,
    })
}

/// How good a thread is.
pub(super) enum Fitness {
    User,
    InCall,
}

/// Whether a thread can be used; if not, why not.
pub(super) fn check(
    halt: &Halt<'_>,
    memory: &File,
    tid: u32,
) -> Result<std::result::Result<Fitness, String>> {
    let stopped = halt.stopped(tid)?;
    let why = match stopped.kind() {
        StopKind::Trap | StopKind::Group(_) => None,
        StopKind::Signal(n) => Some(format!("thread {tid} is about to be killed by signal {n}")),
        StopKind::Exit => Some(format!("thread {tid} is exiting")),
        other => Some(format!(
            "thread {tid} is stopped inside the kernel ({other:?})"
        )),
    };
    if let Some(why) = why {
        return Ok(Err(why));
    }
    let registers = stopped.registers()?;
    if registers.cs != CODE_64 {
        return Ok(Err(format!("thread {tid} runs 32-bit code")));
    }
    if stopped.has_shadow_stack()? {
        return Err(Error::ShadowStack { pid: halt.pid() });
    }
    if stopped.dispatch()?.mode != 0 {
        return Ok(Err(format!(
            "thread {tid} intercepts its own system calls (user dispatch)"
        )));
    }
    if in_critical_section(stopped, &registers, memory)? {
        return Ok(Err(format!(
            "thread {tid} is inside a restartable sequence"
        )));
    }
    if going_on(halt, memory, tid, &registers).is_err() {
        let why = "goes on with an interrupted call, and which one is not known";
        return Ok(Err(format!("thread {tid} {why}")));
    }
    let in_call = registers.orig_rax.cast_signed() >= 0;
    Ok(Ok(if in_call {
        Fitness::InCall
    } else {
        Fitness::User
    }))
}

/// Whether the thread is in a restartable sequence. The kernel would look at it on the way to our
/// instructions, find it left, and forget it: the sequence would go on as if never interrupted.
fn in_critical_section(stopped: &Stopped, registers: &Registers, memory: &File) -> Result<bool> {
    let Some(rseq) = stopped.rseq()? else {
        return Ok(false);
    };
    // struct rseq: cpu_id_start u32, cpu_id u32, rseq_cs u64, ...
    let mut word = [0u8; 8];
    if memory
        .read_exact_at(&mut word, rseq.address.wrapping_add(8))
        .is_err()
    {
        return Ok(true);
    }
    let section = u64::from_le_bytes(word);
    if section == 0 {
        return Ok(false);
    }
    // struct rseq_cs: version u32, flags u32, start_ip u64, post_commit_offset u64, abort_ip u64.
    let mut words = [[0u8; 8]; 2];
    let [start, length] = &mut words;
    let read = memory
        .read_exact_at(start, section.wrapping_add(8))
        .and_then(|()| memory.read_exact_at(length, section.wrapping_add(16)));
    if read.is_err() {
        return Ok(true);
    }
    let [start, length] = words.map(u64::from_le_bytes);
    Ok(registers.rip.wrapping_sub(start) < length)
}

/// The call that a thread is to make anew if it restores itself, where its registers do not say.
///
/// Only `nanosleep`, `clock_nanosleep`, `poll` and `futex` are gone on with in this way. Which it is
/// was seen when it was first interrupted; if that was not by us, the instruction before the call
/// tells it, as compilers and C libraries write it.
pub(super) fn going_on(
    halt: &Halt<'_>,
    memory: &File,
    tid: u32,
    registers: &Registers,
) -> std::result::Result<Option<u64>, Unknown> {
    const SYSCALL: [u8; 2] = [0x0f, 0x05];
    const MOV_EAX: u8 = 0xb8;
    const CALLS: [i64; 4] = [
        libc::SYS_nanosleep,
        libc::SYS_clock_nanosleep,
        libc::SYS_poll,
        libc::SYS_futex,
    ];
    let mut next = [0u8; 2];
    let at_syscall = memory.read_exact_at(&mut next, registers.rip).is_ok() && next == SYSCALL;
    let Some(to) = frame::goes_on(registers, at_syscall) else {
        return Ok(None);
    };
    if let Some(number) = halt.restarted_call(tid, to) {
        return Ok(Some(number));
    }
    let mut code = [0u8; 7];
    memory
        .read_exact_at(&mut code, to.wrapping_sub(7))
        .map_err(|_| Unknown)?;
    let [MOV_EAX, a, b, c, d, 0x0f, 0x05] = code else {
        return Err(Unknown);
    };
    let number = u32::from_le_bytes([a, b, c, d]);
    if CALLS.contains(&i64::from(number)) {
        Ok(Some(u64::from(number)))
    } else {
        Err(Unknown)
    }
}

/// Which call it is cannot be told.
#[derive(Debug)]
pub(super) struct Unknown;

/// Whether the filter must be suspended for calls in this thread.
///
/// # Errors
/// [`Error::Seccomp`] if the thread is confined and nothing can be done about it.
pub(super) fn seccomp(halt: &Halt<'_>, tid: u32, policy: SeccompPolicy) -> Result<bool> {
    const STRICT: u32 = 1;
    // The mode is the thread's own.
    let mode = Status::read(tid).map_or(STRICT, |s| s.seccomp);
    let refuse = Err(Error::Seccomp {
        pid: halt.pid(),
        mode,
    });
    match (mode, policy) {
        (0, _) => Ok(false),
        (STRICT, _) | (_, SeccompPolicy::Refuse) => refuse,
        (_, SeccompPolicy::Ignore) => Ok(false),
        (_, SeccompPolicy::Suspend) => match halt.set_extra_options(tid, SUSPEND_SECCOMP) {
            Ok(()) => Ok(true),
            Err(e) if e.is_gone() => Err(e),
            Err(_) => refuse,
        },
    }
}
