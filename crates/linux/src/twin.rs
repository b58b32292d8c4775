//! A frozen copy of this process, made by `fork`.
//!
//! For measuring what snapshots by `fork` cost a program, as a peer of what we do. Not part of
//! recording.

use crate::error::{Error, Result, Target};
use rustix::process::{Pid, Signal, WaitOptions, kill_process, waitpid};

/// A child that holds the memory of this process as it was, and does nothing. Killed on drop.
#[derive(Debug)]
pub struct Twin(Pid);

impl Twin {
    /// Forks.
    ///
    /// # Errors
    /// If the kernel refuses, for want of memory or of processes.
    pub fn of_this_process() -> Result<Self> {
        // SAFETY: the child of a process with several threads may only make async-signal-safe calls
        // before it ends. It makes three system calls (prctl, getppid, pause), which are, touches no
        // lock and no allocator, and never returns from this block: it ends in `_exit`.
        let pid = unsafe {
            let parent = libc::getpid();
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                // The parent may have ended before the line above.
                while libc::getppid() == parent {
                    libc::pause();
                }
                libc::_exit(0);
            }
            pid
        };
        match Pid::from_raw(pid) {
            Some(pid) if pid.as_raw_nonzero().get() > 0 => Ok(Self(pid)),
            _ => {
                let errno = std::io::Error::last_os_error().raw_os_error().unwrap_or(0);
                let errno = rustix::io::Errno::from_raw_os_error(errno);
                Err(Error::syscall("fork", Target::Us, errno))
            }
        }
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // Our child and not waited for yet, so the number is still its own.
        let _ = kill_process(self.0, Signal::KILL);
        let _ = waitpid(Some(self.0), WaitOptions::empty());
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_twin_stands_still_and_ends_with_its_handle() {
        let twin = Twin::of_this_process().unwrap();
        let pid = twin.0;
        assert!(rustix::process::test_kill_process(pid).is_ok());
        drop(twin);
        assert!(rustix::process::test_kill_process(pid).is_err());
    }
}
