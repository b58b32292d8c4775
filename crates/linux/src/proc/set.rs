//! What of a process can be set from outside.

use crate::error::{Error, Result, Target};
use std::io;
use stillframe_image::ResourceLimit;

/// Sets a resource limit (RLIMIT_* by number).
///
/// # Errors
/// EPERM without the privilege to raise a hard limit, or for another user's process.
pub fn set_limit(pid: u32, resource: u32, limit: ResourceLimit) -> Result<()> {
    let new = libc::rlimit {
        rlim_cur: limit.soft,
        rlim_max: limit.hard,
    };
    // SAFETY: the new limit is read, and the old one is not asked for.
    let done = unsafe {
        libc::prlimit(
            pid.cast_signed(),
            resource as libc::__rlimit_resource_t,
            &raw const new,
            std::ptr::null_mut(),
        )
    };
    if done == 0 {
        Ok(())
    } else {
        Err(Error::last("prlimit", Target::Process(pid)))
    }
}

/// Sets the nice value of a thread.
///
/// # Errors
/// EACCES without the privilege to lower it.
pub fn set_nice(tid: u32, nice: i32) -> Result<()> {
    // SAFETY: no memory is passed.
    if unsafe { libc::setpriority(libc::PRIO_PROCESS, tid, nice) } == 0 {
        Ok(())
    } else {
        Err(Error::last("setpriority", Target::Thread(tid)))
    }
}

/// Makes `tid` the number that the next thread or process of our PID namespace gets, if nobody else
/// is quicker and it is free. Takes CAP_SYS_ADMIN or CAP_CHECKPOINT_RESTORE over the namespace.
///
/// # Errors
/// Without that.
pub fn next_tid(tid: u32) -> Result<()> {
    let path = "/proc/sys/kernel/ns_last_pid";
    std::fs::write(path, tid.saturating_sub(1).to_string())
        .map_err(|e: io::Error| Error::syscall("write", Target::Path(path.into()), e))
}

/// Whether a descriptor of another process is one of our own standard ones: the same open file, and
/// so the same offset. `false` where the kernel does not tell.
pub fn is_our_standard(pid: u32, fd: u32) -> bool {
    const KCMP_FILE: libc::c_long = 0;
    (0..3).any(|ours: libc::c_long| {
        // SAFETY: no memory is passed.
        let order = unsafe {
            libc::syscall(
                libc::SYS_kcmp,
                libc::c_long::from(std::process::id()),
                libc::c_long::from(pid),
                KCMP_FILE,
                ours,
                libc::c_long::from(fd),
            )
        };
        order == 0
    })
}

/// Puts the offset of an open file of another process, shared with us, somewhere.
///
/// # Errors
/// The kernel's.
pub fn set_offset(file: &std::os::fd::OwnedFd, offset: u64) -> Result<()> {
    use std::os::fd::AsRawFd;
    rustix::fs::seek(file, rustix::fs::SeekFrom::Start(offset))
        .map(|_| ())
        .map_err(|e| Error::syscall("lseek", Target::Descriptor(file.as_raw_fd()), e))
}
