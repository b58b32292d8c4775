//! What can go wrong when the past is asked.

/// An error of this crate. Messages are one line and say what to do.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The recording.
    #[error(transparent)]
    Store(#[from] stillframe_store::Error),
    /// A process that no checkpoint of the recording has.
    #[error(
        "no checkpoint of the recording has a process {0}; `still show REC@MOMENT --tree` lists them"
    )]
    NoProcess(u32),
    /// One answer needs more memory of the target than is sensible.
    #[error("one answer would read more than {} MiB of the target's memory; ask for less of it", .0 >> 20)]
    TooMuch(u64),
    /// A range of moments without one in it.
    #[error(
        "there is no checkpoint in the range; its first moment must not be later than its last"
    )]
    Empty,
    /// A question that is not one.
    #[error("`{text}` is no question: {why}")]
    Question {
        /// What was asked.
        text: String,
        /// What is wrong with it.
        why: String,
    },
    /// Something was to be searched that cannot be.
    #[error("{0}")]
    Needle(String),
}
