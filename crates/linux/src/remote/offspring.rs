//! A process made to make another one.

use super::Remote;
use crate::error::Result;
use crate::tracee::{Halt, Tracee};

/// Bytes of `struct clone_args` as of its second version.
const CLONE_ARGS: u64 = 80;

impl Remote {
    /// Has a thread fork a process with this number in its PID namespace. The child is a copy that has
    /// not run an instruction since, traced by us as [`Halt::own_offspring`] says, which is to be
    /// called before.
    ///
    /// # Errors
    /// [`Error::Call`](crate::Error::Call): EEXIST if the number is taken, EPERM if choosing one takes
    /// privileges.
    pub fn fork(&mut self, halt: &mut Halt<'_>, tid: u32, number: u32) -> Result<Tracee> {
        let at = self.scratch().start;
        let list = at + 128;
        self.write(list, &number.to_le_bytes())?;
        // flags, pidfd, child_tid, parent_tid, exit_signal, stack, stack_size, tls, set_tid,
        // set_tid_size.
        let signal = u64::from(libc::SIGCHLD.cast_unsigned());
        let words = [0, 0, 0, 0, signal, 0, 0, 0, list, 1];
        let bytes: Vec<u8> = words.iter().flat_map(|w: &u64| w.to_le_bytes()).collect();
        self.write(at, &bytes)?;
        let args = [at, CLONE_ARGS, 0, 0, 0, 0];
        self.call(halt, tid, libc::SYS_clone3, args)?;
        halt.take_in_child()
    }

    /// Has a thread wait for a child that is ending, and forget it.
    ///
    /// # Errors
    /// [`Error::Call`](crate::Error::Call): ECHILD if it has no such child.
    pub fn reap(&mut self, halt: &mut Halt<'_>, tid: u32, number: u32) -> Result<()> {
        let args = [u64::from(number), 0, 0, 0, 0, 0];
        self.call(halt, tid, libc::SYS_wait4, args).map(drop)
    }
}
