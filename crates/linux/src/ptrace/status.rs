//! What a wait says about a thread.

/// Why a thread is stopped.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StopKind {
    /// Interrupted by us, newly attached, or told that the job continues.
    Trap,
    /// Stopped with the whole process by job control; the stopping signal.
    Group(i32),
    /// This signal is about to be delivered.
    Signal(i32),
    /// Entering or leaving a system call.
    Syscall,
    /// Inside `clone`, the new thread made, or a process that tells its end by another signal than
    /// SIGCHLD.
    Clone,
    /// Inside `fork` or a call like it, the new process made.
    Fork,
    /// Inside `vfork` or a call like it, the new process made, before the wait for it.
    Vfork,
    /// Inside `execve`, the new program in place.
    Exec,
    /// Exiting, its memory still there.
    Exit,
    /// Another event, by number.
    Other(i32),
}

impl StopKind {
    /// From the status of a stop: the signal in the low byte, the event above it.
    pub(super) const fn from_status(status: i32) -> Self {
        let (signal, event) = (status & 0xff, status >> 8);
        match event {
            0 if signal == libc::SIGTRAP | 0x80 => Self::Syscall,
            0 => Self::Signal(signal),
            libc::PTRACE_EVENT_STOP if signal == libc::SIGTRAP => Self::Trap,
            libc::PTRACE_EVENT_STOP => Self::Group(signal),
            libc::PTRACE_EVENT_CLONE => Self::Clone,
            libc::PTRACE_EVENT_FORK => Self::Fork,
            libc::PTRACE_EVENT_VFORK => Self::Vfork,
            libc::PTRACE_EVENT_EXEC => Self::Exec,
            libc::PTRACE_EVENT_EXIT => Self::Exit,
            other => Self::Other(other),
        }
    }
}

/// How a thread or process ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// By exiting, with this code.
    Exited(i32),
    /// By a signal.
    Killed {
        /// Its number.
        signal: i32,
        /// Whether a core was dumped.
        core: bool,
    },
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn statuses_are_told_apart() {
        assert_eq!(StopKind::from_status(5 | 0x80), StopKind::Syscall);
        assert_eq!(StopKind::from_status(5), StopKind::Signal(5));
        assert_eq!(StopKind::from_status(5 | (128 << 8)), StopKind::Trap);
        assert_eq!(StopKind::from_status(19 | (128 << 8)), StopKind::Group(19));
        assert_eq!(StopKind::from_status(5 | (3 << 8)), StopKind::Clone);
        assert_eq!(StopKind::from_status(5 | (4 << 8)), StopKind::Exec);
        assert_eq!(StopKind::from_status(5 | (6 << 8)), StopKind::Exit);
        assert_eq!(StopKind::from_status(5 | (1 << 8)), StopKind::Fork);
        assert_eq!(StopKind::from_status(5 | (2 << 8)), StopKind::Vfork);
        assert_eq!(StopKind::from_status(5 | (7 << 8)), StopKind::Other(7));
        assert_eq!(StopKind::from_status(64), StopKind::Signal(64));
    }
}
