//! Why a process was not rolled back.

/// One line each.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// It cannot become what it was. Nothing was changed.
    #[error("not rolled back: {0}")]
    Refused(String),
    /// A step failed, and everything was put back.
    #[error("rolling back failed ({0}); everything is as it was, and the process is left stopped")]
    PutBack(String),
    /// A step failed, and putting back failed, too.
    #[error(
        "rolling back failed ({step}), and so did putting back ({undo}); the process is left \
         stopped and must not go on: roll it back again or kill it"
    )]
    Mixed {
        /// What failed first.
        step: String,
        /// What failed then.
        undo: String,
    },
    /// The one who records the process could not be asked.
    #[error("asking the recorder: {0}")]
    Ask(std::io::Error),
    /// The recorder's answer.
    #[error("{0}")]
    Told(String),
    /// The process cannot be attached to.
    #[error(transparent)]
    Attach(#[from] stillframe_linux::tracee::AttachError),
    /// The recording.
    #[error(transparent)]
    Store(#[from] stillframe_store::Error),
    /// A part of it could not be made or put back.
    #[error(transparent)]
    Part(#[from] crate::Error),
    /// The kernel.
    #[error(transparent)]
    Kernel(#[from] stillframe_linux::Error),
}
