//! Giving threads another state than the one they were stopped in.

use super::Halt;
use crate::error::{Error, Result};
use crate::ptrace::StopKind;
use std::time::Duration;
use stillframe_image::Registers;

/// How long a thread may take from one stop to the next without running an instruction.
const LIMIT: Duration = Duration::from_secs(5);

impl Halt<'_> {
    /// Sets the general registers of a thread for when it goes on.
    ///
    /// If they say that a system call is to be restarted (`orig_rax` its number, `rax` an internal
    /// code from -512 on), the kernel does so when the thread is resumed: it is brought to a stop
    /// from which it looks at them. -516 (`ERESTART_RESTARTBLOCK`) is meant for a kernel that
    /// remembers the rest of the wait, which is of another time; callers replace it.
    ///
    /// # Errors
    /// [`Error::ThreadGone`], or values the kernel refuses (EIO).
    pub fn put_registers(&mut self, tid: u32, registers: &Registers) -> Result<()> {
        match self.stopped(tid)?.kind() {
            StopKind::Exit => return Err(Error::ThreadGone(tid)),
            // It stands on its way to user mode, about to look at an interrupted call.
            StopKind::Trap | StopKind::Group(_) => {}
            _ => {
                let stopped = self.stopped(tid)?;
                stopped.interrupt()?;
                // From a call made in it the thread would return to our instructions, from an event
                // the kernel goes on to fill in a result. In the next stop both are over.
                self.run_to_trap(tid, LIMIT)?;
            }
        }
        self.stopped(tid)?.set_registers(registers)
    }

    /// Sets the XSAVE area of a thread, in the format that [`Halt::xstate`] gives.
    ///
    /// # Errors
    /// [`Error::ThreadGone`], or state that this processor or kernel does not have (EINVAL).
    pub fn put_xstate(&self, tid: u32, bytes: &[u8]) -> Result<()> {
        self.stopped(tid)?.set_xstate(bytes)
    }

    /// Sets the blocked signals of a thread, bit n-1 for signal n.
    ///
    /// # Errors
    /// [`Error::ThreadGone`] if it was killed.
    pub fn put_blocked(&self, tid: u32, mask: u64) -> Result<()> {
        self.stopped(tid)?.set_blocked(mask)
    }
}
