//! The one error of this crate.
//!
//! Every failed system call says which call it was, on what, and the kernel's reason; what can be
//! told more precisely than that has a variant of its own, so that callers can act on it.

use std::fmt;
use std::io;

/// A specialised result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// What a failed call was about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Target {
    /// A process.
    Process(u32),
    /// A thread.
    Thread(u32),
    /// A descriptor of ours.
    Descriptor(i32),
    /// A path.
    Path(String),
    /// Ourselves.
    Us,
}

impl fmt::Display for Target {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Process(pid) => write!(f, "process {pid}"),
            Self::Thread(tid) => write!(f, "thread {tid}"),
            Self::Descriptor(fd) => write!(f, "descriptor {fd}"),
            Self::Path(path) => f.write_str(path),
            Self::Us => f.write_str("ourselves"),
        }
    }
}

/// What went wrong at the kernel's door.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// A system call failed.
    #[error("{what} on {target}: {source}")]
    Syscall {
        /// The call.
        what: &'static str,
        /// What it was about.
        target: Target,
        /// The kernel's reason.
        source: io::Error,
    },
    /// The thread no longer exists, or was killed while stopped.
    #[error("thread {0} is gone")]
    ThreadGone(u32),
    /// The process no longer exists.
    #[error("process {0} is gone")]
    ProcessGone(u32),
    /// Text or a structure from the kernel is not as expected.
    #[error("{what} of {target} cannot be understood: {detail}")]
    Malformed {
        /// Which file or structure.
        what: &'static str,
        /// Whose.
        target: Target,
        /// What is wrong with it.
        detail: String,
    },
    /// No thread is stopped where a system call can be injected without being noticed.
    #[error("no thread of process {pid} is at a point where a system call can be injected: {why}")]
    NoSafeThread {
        /// The process.
        pid: u32,
        /// Why not, for the last thread looked at.
        why: String,
    },
    /// No place for the injected instructions or their data.
    #[error("process {pid} has no room for {what}")]
    NoRoom {
        /// The process.
        pid: u32,
        /// For what.
        what: &'static str,
    },
    /// A seccomp filter would see the injected call, and could kill the target for it.
    #[error(
        "process {pid} is confined by seccomp (mode {mode}), which could kill it for a system call \
         of ours; run the recorder with CAP_SYS_ADMIN to suspend the filter"
    )]
    Seccomp {
        /// The process.
        pid: u32,
        /// 1 strict, 2 filter.
        mode: u32,
    },
    /// A shadow stack is active, and would kill the target for our signal frame.
    #[error("process {pid} runs with a shadow stack (CET), under which calls cannot be injected")]
    ShadowStack {
        /// The process.
        pid: u32,
    },
    /// An injected call returned an error in the target.
    #[error("{call} injected into thread {tid}: {source}")]
    Injected {
        /// The call.
        call: &'static str,
        /// In which thread.
        tid: u32,
        /// Its error.
        source: io::Error,
    },
    /// A call made in a process that is being put together failed.
    #[error("{call} made in thread {tid}: {source}")]
    Call {
        /// The call.
        call: &'static str,
        /// In which thread.
        tid: u32,
        /// Its error.
        source: io::Error,
    },
    /// An injected call did not come back.
    #[error("thread {tid} did not come back from an injected call; it will finish it by itself")]
    Stuck {
        /// The thread.
        tid: u32,
    },
    /// An injected instruction raised a signal, which was dropped.
    #[error("a call injected into thread {tid} raised signal {signal}; it was undone")]
    Fault {
        /// The thread.
        tid: u32,
        /// The signal: SIGSYS if a seccomp filter refused the call.
        signal: i32,
    },
    /// A thread could not be stopped, and so not be detached.
    #[error("thread {tid} cannot be detached yet: {why}; it is released when the recorder ends")]
    StillAttached {
        /// The thread.
        tid: u32,
        /// What it does.
        why: String,
    },
    /// `bpf(2)` refused something.
    #[error("BPF {what}: {source}; {advice}")]
    Bpf {
        /// The program or map.
        what: &'static str,
        /// The kernel's reason.
        source: io::Error,
        /// What to do, or what its verifier says.
        advice: std::borrow::Cow<'static, str>,
    },
    /// The kernel lacks something needed.
    #[error("this kernel has no {what}: {advice}")]
    Unsupported {
        /// What is missing.
        what: &'static str,
        /// What to do.
        advice: &'static str,
    },
}

impl Error {
    /// A failed call, the reason being `errno` as it stands now.
    pub(crate) fn last(what: &'static str, target: Target) -> Self {
        Self::Syscall {
            what,
            target,
            source: io::Error::last_os_error(),
        }
    }

    /// A failed call with its reason.
    pub(crate) fn syscall(
        what: &'static str,
        target: Target,
        source: impl Into<io::Error>,
    ) -> Self {
        Self::Syscall {
            what,
            target,
            source: source.into(),
        }
    }

    /// The kernel's error number, if a system call of ours failed.
    pub fn errno(&self) -> Option<i32> {
        match self {
            Self::Syscall { source, .. }
            | Self::Injected { source, .. }
            | Self::Call { source, .. }
            | Self::Bpf { source, .. } => source.raw_os_error(),
            _ => None,
        }
    }

    /// Whether the thread or process was gone: it exited or was killed meanwhile.
    pub fn is_gone(&self) -> bool {
        matches!(self, Self::ThreadGone(_) | Self::ProcessGone(_))
            || self.errno() == Some(libc::ESRCH)
    }
}
