//! What can go wrong with a recording.

use std::io;
use std::path::PathBuf;

/// An error of this crate. Messages are one line and name the file or the moment meant.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The operating system refused.
    #[error("cannot {action} {}: {source}", path.display())]
    Io {
        /// What was being done, as a verb.
        action: &'static str,
        /// To which file.
        path: PathBuf,
        /// What it said.
        source: io::Error,
    },
    /// The output is there already.
    #[error("{} exists; choose another name, or use --force to replace a recording", .0.display())]
    Exists(PathBuf),
    /// Not a recording.
    #[error("{} is not a recording: {why}", path.display())]
    NotRecording {
        /// What was opened.
        path: PathBuf,
        /// Why not.
        why: String,
    },
    /// Another process is writing it.
    #[error("{} is being recorded right now; stop that recorder first", .0.display())]
    Busy(PathBuf),
    /// Another process is changing it, and takes no requests.
    #[error("{} is being changed by another process; try again when that is done", .0.display())]
    Held(PathBuf),
    /// Bytes are not what they were when written.
    #[error("the recording is damaged: {0}")]
    Damaged(String),
    /// What was asked for has been removed since the recording was opened.
    #[error("{} changed underneath: what was asked for has been removed; open it again", .0.display())]
    Changed(PathBuf),
    /// A request that retention refuses.
    #[error("{0}")]
    Retention(String),
    /// The directory was removed or replaced while being written.
    #[error("{} was removed while it was being written", .0.display())]
    Removed(PathBuf),
    /// An earlier error stopped this writer.
    #[error("recording has stopped after an earlier error: {0}")]
    Stopped(String),
    /// Something too large for the format.
    #[error("{0} is larger than the format allows")]
    TooLarge(&'static str),
    /// A moment that cannot be understood.
    #[error(
        "`{0}` is no moment; write a checkpoint number, a time such as 12.5s, -3s or 500ms, first, last, crash, exit or a tag"
    )]
    MomentSyntax(String),
    /// A moment that this recording does not have.
    #[error("there is no moment `{moment}`; {available}")]
    NoMoment {
        /// What was asked for.
        moment: String,
        /// What there is.
        available: String,
    },
    /// A process that a checkpoint does not have.
    #[error("checkpoint {checkpoint} has no process {process}; it has {available}")]
    NoProcess {
        /// When.
        checkpoint: u64,
        /// Its number.
        process: u32,
        /// Those it has.
        available: String,
    },
    /// An address that was not mapped.
    #[error("address {address:#x} is not mapped at checkpoint {checkpoint}")]
    Unmapped {
        /// The address.
        address: u64,
        /// When.
        checkpoint: u64,
    },
    /// An address whose content the recording does not hold.
    #[error("the bytes at {address:#x} are not available: {reason}")]
    Unavailable {
        /// The address.
        address: u64,
        /// Why not.
        reason: String,
    },
    /// An object that is not in the recording.
    #[error("object {0} is not in the recording")]
    NoObject(String),
    /// A part of a checkpoint has no encoding or decoding.
    #[error(transparent)]
    Section(#[from] stillframe_image::section::SectionError),
}

impl Error {
    /// For `map_err` on I/O results.
    pub(crate) fn io(
        action: &'static str,
        path: impl Into<PathBuf>,
    ) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io {
            action,
            path,
            source,
        }
    }

    /// Whether the cause is that no more can be stored: disk full, quota, file-size limit.
    pub fn is_full(&self) -> bool {
        matches!(self, Self::Io { source, .. } if matches!(
            source.kind(),
            io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded | io::ErrorKind::FileTooLarge
        ))
    }
}
