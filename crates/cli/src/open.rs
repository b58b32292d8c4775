//! Opening what the user named: a recording, or a moment of one.

use crate::exit::{Code, fail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use stillframe_image::{Checkpoint, CheckpointId, ProcessImage};
use stillframe_store::{Error, Recording};

/// A moment found.
pub struct Opened {
    /// Where the recording is.
    pub path: PathBuf,
    /// The recording.
    pub recording: Recording,
    /// The checkpoint that was meant.
    pub id: CheckpointId,
}

/// Opens a recording. A failure to read one is exit code 4, whatever its cause.
///
/// # Errors
/// If it cannot be opened.
pub fn recording(path: &Path) -> anyhow::Result<Recording> {
    Recording::open(path).map_err(|error| match error {
        Error::Io { .. } | Error::NotRecording { .. } => fail(Code::Recording, error.to_string()),
        other => other.into(),
    })
}

/// Opens `REC@MOMENT`.
///
/// # Errors
/// If the recording cannot be opened or has no such moment.
pub fn moment(text: &OsStr) -> anyhow::Result<Opened> {
    let Some(text) = text.to_str() else {
        return Err(fail(
            Code::Usage,
            format!(
                "{} is not UTF-8; rename the recording",
                text.to_string_lossy()
            ),
        ));
    };
    // A directory may have an @ in its own name, and then no moment was given.
    let (path, moment) = if Path::new(text).is_dir() {
        (PathBuf::from(text), None)
    } else {
        stillframe_store::split_moment(text)?
    };
    let recording = recording(&path)?;
    let Some(moment) = moment else {
        let shown = path.display();
        let hint = match recording.rows() {
            [] => "it holds no checkpoints".to_owned(),
            [only] => format!("write {shown}@{}", only.id),
            [first, .., last] => {
                format!(
                    "write {shown}@N with N from {} to {}, or {shown}@last",
                    first.id, last.id
                )
            }
        };
        return Err(fail(
            Code::Usage,
            format!("which moment of {shown}? {hint}"),
        ));
    };
    let id = recording.resolve(&moment)?;
    Ok(Opened {
        path,
        recording,
        id,
    })
}

/// The process that stands for the whole tree.
///
/// # Errors
/// If there is none, which no recording holds.
pub fn root(checkpoint: &Checkpoint) -> anyhow::Result<&ProcessImage> {
    checkpoint
        .root()
        .ok_or_else(|| fail(Code::Damaged, "the checkpoint holds no process"))
}
