//! A process made to become another one.
//!
//! It begins as a copy of us that does nothing but wait: with default signal actions, no descriptors,
//! and a request to the kernel to kill it when the thread that made it ends, so that no half-made
//! process stays behind. Its memory is ours until it is conformed; nothing in it runs.
//!
//! Its number can be chosen: `clone3` takes one (`set_tid`) from who has CAP_CHECKPOINT_RESTORE in
//! the PID namespace.

pub mod first;

use crate::error::{Error, Result, Target};
use crate::ptrace::Running;
use crate::tracee::Tracee;
use std::ffi::c_long;
use std::io::Read;
use std::os::fd::{AsRawFd, RawFd};

/// `struct clone_args`, as of its second version.
#[repr(C)]
#[derive(Default)]
struct CloneArgs {
    flags: u64,
    pidfd: u64,
    child_tid: u64,
    parent_tid: u64,
    exit_signal: u64,
    stack: u64,
    stack_size: u64,
    tls: u64,
    set_tid: u64,
    set_tid_size: u64,
}

/// Makes one, seized and about to wait; `pid`: the number it is to have. It is a child of ours.
///
/// # Errors
/// EEXIST if the number is taken, EPERM if choosing one takes privileges; else the kernel's.
pub fn make(pid: Option<u32>) -> Result<Tracee> {
    crate::tracee::prepare()?;
    let number = pid.unwrap_or(0).cast_signed();
    let mut args = CloneArgs {
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    if pid.is_some() {
        args.set_tid = (&raw const number).addr() as u64;
        args.set_tid_size = 1;
    }
    let fail = |e: rustix::io::Errno| Error::syscall("pipe2", Target::Us, e);
    let (ready, keep) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).map_err(fail)?;
    let us = std::process::id().cast_signed();
    // SAFETY: the structure is initialised and says its own size, and `number` outlives the call.
    // Without CLONE_VM the child has its own copy of all memory; it runs only `wait`, which makes
    // system calls on values made before and never returns.
    let child = unsafe {
        let made = libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>());
        if made == 0 {
            wait(us, keep.as_raw_fd());
        }
        made
    };
    let Ok(child @ 1..) = u32::try_from(child) else {
        return Err(Error::last("clone3", Target::Us));
    };
    drop(keep);
    // It is ready when it has closed its end.
    let _ = std::fs::File::from(ready).read(&mut [0]);
    seize(child)
}

/// Attaches to a child, or kills it.
fn seize(child: u32) -> Result<Tracee> {
    let seized = Running::seize(child, false).and_then(|first| Tracee::with_first(child, first));
    if seized.is_err() {
        crate::child::kill(child);
    }
    seized
}

/// A call of a process that runs nothing of ours but calls.
///
/// # Safety
/// Pointers among the arguments must be what the call takes.
unsafe fn call(number: c_long, args: [c_long; 5]) -> c_long {
    let [a, b, c, d, e] = args;
    // SAFETY: the caller vouches for the arguments.
    unsafe { libc::syscall(number, a, b, c, d, e) }
}

/// Gives all signals their default actions.
fn forget_signals() {
    // The kernel's structure: handler, flags, restorer, mask.
    let action = [0u64; 4];
    for signal in 1..=64 {
        let action = (&raw const action).addr().cast_signed() as c_long;
        // SAFETY: `action` outlives the call.
        unsafe { call(libc::SYS_rt_sigaction, [signal, action, 0, 8, 0]) };
    }
}

/// The child's life.
fn wait(parent: i32, ready: RawFd) -> ! {
    let call = |number: c_long, args: [c_long; 4]| {
        let [a, b, c, d] = args;
        // SAFETY: the calls below take numbers only.
        unsafe { call(number, [a, b, c, d, 0]) }
    };
    call(
        libc::SYS_prctl,
        [libc::PR_SET_PDEATHSIG.into(), libc::SIGKILL.into(), 0, 0],
    );
    if call(libc::SYS_getppid, [0; 4]) != c_long::from(parent) {
        call(libc::SYS_exit_group, [0; 4]);
    }
    forget_signals();
    let last = c_long::from(u32::MAX);
    call(libc::SYS_close_range, [c_long::from(ready) + 1, last, 0, 0]);
    call(libc::SYS_close_range, [0, c_long::from(ready), 0, 0]);
    loop {
        call(libc::SYS_pause, [0; 4]);
    }
}
