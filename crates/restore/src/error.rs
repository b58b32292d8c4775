//! The one error of this crate.

/// A specialised result.
pub type Result<T, E = Error> = std::result::Result<T, E>;

/// Why a process could not be made equal to a checkpoint. One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recording cannot be read.
    #[error(transparent)]
    Store(#[from] stillframe_store::Error),
    /// The kernel refused something.
    #[error(transparent)]
    Linux(#[from] stillframe_linux::Error),
    /// The kernel refused something, and this is what it was for.
    #[error("{subject}: {source}")]
    Step {
        /// What was being put in place.
        subject: String,
        /// The kernel's reason.
        source: stillframe_linux::Error,
    },
    /// A file behind a mapping is not the one that was recorded.
    #[error(
        "{path} {why}, and the recording keeps no copy of it; put the file of then in its place"
    )]
    File {
        /// Its path.
        path: String,
        /// What is wrong with it.
        why: String,
    },
    /// A system call of ours failed.
    #[error("{what} {subject}: {source}")]
    Io {
        /// What was tried.
        what: &'static str,
        /// On what.
        subject: String,
        /// The kernel's reason.
        source: std::io::Error,
    },
    /// Something the checkpoint holds cannot be made here.
    #[error("{subject} cannot be restored: {why}")]
    NotSupported {
        /// What.
        subject: String,
        /// Why not, and what to do.
        why: String,
    },
    /// The kernel's part of the address space differs.
    #[error(
        "the recording was made under another kernel, whose vDSO differs from this one's; restore \
         it under that kernel"
    )]
    Kernel,
    /// The pid is in use.
    #[error("pid {0} is taken; end that process, or use --pid new")]
    PidTaken(u32),
    /// What was read back is not what was to be made.
    #[error("{count} differences from the checkpoint before it ran: {first}; it was not started")]
    Differs {
        /// How many.
        count: u64,
        /// The first.
        first: String,
    },
    /// The process ended while it was being made or put back.
    #[error("process {pid} ended before it was complete: {how}")]
    Ended {
        /// Which.
        pid: u32,
        /// As what.
        how: String,
    },
}

impl Error {
    /// Says what a step was for.
    pub(crate) fn step(subject: impl Into<String>) -> impl FnOnce(stillframe_linux::Error) -> Self {
        let subject = subject.into();
        move |source| Self::Step { subject, source }
    }

    /// A failed call of ours.
    pub(crate) fn io(
        what: &'static str,
        subject: impl Into<String>,
        source: impl Into<std::io::Error>,
    ) -> Self {
        Self::Io {
            what,
            subject: subject.into(),
            source: source.into(),
        }
    }

    /// Something that cannot be made here.
    pub(crate) fn unsupported(subject: impl Into<String>, why: impl Into<String>) -> Self {
        Self::NotSupported {
            subject: subject.into(),
            why: why.into(),
        }
    }
}
