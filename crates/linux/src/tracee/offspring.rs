//! Processes that a stopped one is made to make, and processes that are thrown away.

use super::{Halt, State, Tracee};
use crate::error::{Error, Result, Target};
use crate::ptrace::{FOLLOW, Resume, Running, Waited};
use rustix::process::Signal;
use std::time::{Duration, Instant};

/// How long a killed process may take to end.
const LIMIT: Duration = Duration::from_secs(5);

impl Halt<'_> {
    /// From now on, until it is let go: what this thread makes is ours, too, and all of them are killed
    /// if the thread that traces them ends.
    ///
    /// # Errors
    /// If it is gone.
    pub fn own_offspring(&self, tid: u32) -> Result<()> {
        self.set_extra_options(tid, FOLLOW | libc::PTRACE_O_EXITKILL.cast_unsigned())
    }

    /// Takes in the process that this one was just made to make, which the kernel has attached to us
    /// ([`Halt::own_offspring`]): it has not run an instruction, and stands still from its first stop on.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if there is none, or it was killed; else the kernel's.
    pub fn take_in_child(&mut self) -> Result<Tracee> {
        let pid = self.tracee.made.take().ok_or(Error::ThreadGone(0))?;
        Tracee::with_first(pid, Running::adopted(pid))
    }
}

impl Tracee {
    /// Kills the process and waits until it has ended. Its parent, if that is not us, is told.
    ///
    /// # Errors
    /// [`Error::Stuck`] if it does not end in time.
    pub fn put_down(mut self) -> Result<()> {
        crate::child::signal(self.pid, Signal::KILL);
        let end = Instant::now() + LIMIT;
        let mut threads = std::mem::take(&mut self.threads);
        // The first thread is told of last.
        threads.sort_by_key(|t| t.tid == self.pid);
        for thread in threads {
            let tid = thread.tid;
            let mut running = match thread.state {
                State::Stopped(s) => s.into_running(),
                State::Running(r) | State::Listening(r) | State::Ending(r) => r,
                State::Moving => Running::adopted(tid),
            };
            loop {
                running = match running.try_wait() {
                    Ok(Waited::Running(r)) => r,
                    Ok(Waited::Stopped(s)) => s.resume(Resume::Continue, 0)?,
                    // Another thread's end, or its own.
                    Ok(Waited::Ended(_)) | Err(_) => break,
                };
                if Instant::now() >= end {
                    return Err(Error::Stuck { tid });
                }
                std::thread::sleep(Duration::from_micros(50));
            }
        }
        self.list_tids();
        Ok(())
    }
}

/// Has orphans of our descendants become children of ours, or no longer: so that what is killed can be
/// reaped by us.
///
/// # Errors
/// The kernel's.
pub fn adopt_orphans(on: bool) -> Result<()> {
    let child = on.then(rustix::process::getpid);
    rustix::process::set_child_subreaper(child).map_err(|e| Error::syscall("prctl", Target::Us, e))
}
