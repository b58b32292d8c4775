//! The first process of a PID namespace: what makes every number free.
//!
//! In a namespace of its own a process can have any number, whoever has it outside. The namespace's
//! first process is ours: it reaps what has lost its parent, tells us how the one that we wait for
//! ended, and ends with the last of the others. It has a mount namespace, so that /proc shows the numbers
//! that the processes know each other by; and, where we are not privileged, a user namespace in which we
//! are nobody else.

use super::{CloneArgs, call, forget_signals, seize};
use crate::error::{Error, Result, Target};
use crate::tracee::Tracee;
use std::ffi::{CStr, c_long};
use std::fs::File;
use std::io::{Read, Write as _};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};

/// What was made.
#[derive(Debug)]
pub struct First {
    /// The namespace's first process, about to wait for children.
    pub tracee: Tracee,
    /// Tells how the process waited for ended, as `wait` does, four bytes; the end if it was killed.
    pub status: File,
    /// Whether /proc shows the namespace's numbers.
    pub has_proc: bool,
}

/// Makes one. `waited`: number in it of the process whose end it tells. `user`: it takes a user
/// namespace.
///
/// # Errors
/// The kernel's, e.g. EPERM, or ENOSPC where namespaces are limited.
pub fn make(waited: u32, user: bool) -> Result<First> {
    crate::tracee::prepare()?;
    let spaces =
        libc::CLONE_NEWPID | libc::CLONE_NEWNS | if user { libc::CLONE_NEWUSER } else { 0 };
    let args = CloneArgs {
        flags: u64::from(spaces.cast_unsigned()),
        exit_signal: libc::SIGCHLD as u64,
        ..CloneArgs::default()
    };
    let pipe = || {
        rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
            .map_err(|e| Error::syscall("pipe2", Target::Us, e))
    };
    let (ready, keep) = pipe()?;
    let (status, tell) = pipe()?;
    let (mapped, map) = pipe()?;
    let waited = waited.cast_signed();
    // SAFETY: the structure is initialised and says its own size. Without CLONE_VM the child has its own
    // copy of all memory; it runs only `live`, which makes system calls on values made before and
    // never returns.
    let child = unsafe {
        let made = libc::syscall(libc::SYS_clone3, &raw const args, size_of::<CloneArgs>());
        if made == 0 {
            live(
                waited,
                mapped.as_raw_fd(),
                keep.as_raw_fd(),
                tell.as_raw_fd(),
            );
        }
        made
    };
    let Ok(child @ 1..) = u32::try_from(child) else {
        return Err(Error::last("clone3 (namespaces)", Target::Us));
    };
    drop((keep, tell, mapped));
    if user && let Err(error) = stay_who_we_are(child) {
        crate::child::kill(child);
        return Err(error);
    }
    drop(map);
    let mut said = [0];
    let has_proc = File::from(ready).read(&mut said).is_ok() && said == [1];
    Ok(First {
        tracee: seize(child)?,
        status: own(status),
        has_proc,
    })
}

fn own(fd: OwnedFd) -> File {
    File::from(fd)
}

/// User and group of ours mean the same inside.
fn stay_who_we_are(child: u32) -> Result<()> {
    let write = |name: &str, text: String| {
        let path = format!("/proc/{child}/{name}");
        let opened = File::options().write(true).open(&path);
        opened
            .and_then(|mut file| file.write_all(text.as_bytes()))
            .map_err(|source| Error::Syscall {
                what: "write",
                target: Target::Path(path),
                source,
            })
    };
    let uid = rustix::process::geteuid().as_raw();
    let gid = rustix::process::getegid().as_raw();
    write("uid_map", format!("{uid} {uid} 1"))?;
    write("setgroups", "deny".to_owned())?;
    write("gid_map", format!("{gid} {gid} 1"))
}

/// The child's life.
fn live(waited: i32, mapped: RawFd, ready: RawFd, tell: RawFd) -> ! {
    let address = |text: &CStr| text.as_ptr().addr().cast_signed() as c_long;
    let mut word = [0i32; 4];
    let at = (&raw mut word).addr().cast_signed() as c_long;
    let call = |number: c_long, args: [c_long; 5]| {
        // SAFETY: the calls below take numbers, strings that are static, or `word`, which outlives
        // them and is large enough.
        unsafe { call(number, args) }
    };
    let death = [libc::PR_SET_PDEATHSIG.into(), libc::SIGKILL.into(), 0, 0, 0];
    call(libc::SYS_prctl, death);
    // Ours have to be closed first, or the other end is never seen to be.
    let keep = [mapped, ready, tell];
    let mut next: c_long = 0;
    loop {
        let above = keep.iter().copied().filter(|fd| c_long::from(*fd) >= next);
        let Some(fd) = above.min().map(c_long::from) else {
            break;
        };
        if fd > next {
            call(libc::SYS_close_range, [next, fd - 1, 0, 0, 0]);
        }
        next = fd + 1;
    }
    call(libc::SYS_close_range, [next, u32::MAX.into(), 0, 0, 0]);
    forget_signals();
    call(libc::SYS_read, [mapped.into(), at, 1, 0, 0]);
    call(libc::SYS_close, [mapped.into(), 0, 0, 0, 0]);
    let flags = (libc::MS_REC | libc::MS_SLAVE) as c_long;
    call(libc::SYS_mount, [0, address(c"/"), 0, flags, 0]);
    let flags = (libc::MS_NOSUID | libc::MS_NODEV | libc::MS_NOEXEC) as c_long;
    let proc = address(c"proc");
    let mounted = call(libc::SYS_mount, [proc, address(c"/proc"), proc, flags, 0]);
    if mounted == 0 {
        let one = address(c"\x01");
        call(libc::SYS_write, [ready.into(), one, 1, 0, 0]);
    }
    call(libc::SYS_close, [ready.into(), 0, 0, 0, 0]);
    let mut seen = false;
    // Seconds and nanoseconds to wait for the first.
    let pause = [0i64, 20_000_000];
    let pause = (&raw const pause).addr().cast_signed() as c_long;
    loop {
        let all = libc::__WALL.into();
        let child = call(libc::SYS_wait4, [-1, at, all, 0, 0]);
        if child > 0 {
            seen = true;
            if child == c_long::from(waited) {
                call(libc::SYS_write, [tell.into(), at, 4, 0, 0]);
                call(libc::SYS_close, [tell.into(), 0, 0, 0, 0]);
            }
        } else if std::io::Error::last_os_error().raw_os_error() == Some(libc::ECHILD) {
            if seen {
                call(libc::SYS_exit_group, [0; 5]);
            }
            call(libc::SYS_nanosleep, [pause, 0, 0, 0, 0]);
        }
    }
}
