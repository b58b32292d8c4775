//! Opening what the user named: a recording, or a moment of one.

use crate::args::ProcessArgs;
use crate::exit::{Code, fail};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use stillframe_image::{CheckpointId, ProcessImage, SpaceId};
use stillframe_store::{Error, Moment, Recording};

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

/// Splits `REC@MOMENT`. A directory may have an @ in its own name, and then no moment was given.
fn split(text: &OsStr) -> anyhow::Result<(PathBuf, Option<Moment>)> {
    if Path::new(text).is_dir() {
        return Ok((PathBuf::from(text), None));
    }
    let Some(text) = text.to_str() else {
        return Err(fail(
            Code::Usage,
            format!(
                "{} is not UTF-8; rename the recording",
                text.to_string_lossy()
            ),
        ));
    };
    Ok(stillframe_store::split_moment(text)?)
}

/// Opens `REC` or `REC@MOMENT`; the checkpoint is the moment's, if there is one.
///
/// # Errors
/// If the recording cannot be opened or has no such moment.
#[cfg(feature = "view")]
pub fn recording_or_moment(
    text: &OsStr,
) -> anyhow::Result<(PathBuf, Recording, Option<CheckpointId>)> {
    let (path, moment) = split(text)?;
    let recording = recording(&path)?;
    let at = match moment {
        Some(moment) => Some(recording.resolve(&moment)?),
        None => None,
    };
    Ok((path, recording, at))
}

/// Opens `REC@MOMENT`.
///
/// # Errors
/// If the recording cannot be opened or has no such moment.
pub fn moment(text: &OsStr) -> anyhow::Result<Opened> {
    let (path, moment) = split(text)?;
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

/// The process that was chosen, else the one that stands for the whole tree. Sections of others are
/// read only where a pid has to be looked for, so that damage to one leaves the rest open.
///
/// # Errors
/// If the moment has no such process, or more than one of that pid.
pub fn process(
    recording: &Recording,
    id: CheckpointId,
    chosen: &ProcessArgs,
) -> anyhow::Result<ProcessImage> {
    if let Some(number) = chosen.process {
        return Ok(recording.process(id, SpaceId(number))?);
    }
    let Some(pid) = chosen.pid else {
        let tree = recording.tree(id)?;
        let Some(root) = tree.processes.first() else {
            return Err(fail(Code::Damaged, "the checkpoint holds no process"));
        };
        return Ok(recording.process(id, root.id)?);
    };
    let mut found: Vec<ProcessImage> = Vec::new();
    let mut there: Vec<String> = Vec::new();
    let mut damage = None;
    recording.each_process(id, |_, process| match process {
        Ok(process) if process.process.pid == pid => found.push(process),
        Ok(process) => there.push(process.process.pid.to_string()),
        Err(error) => damage = damage.take().or(Some(error)),
    })?;
    match (found.len(), damage) {
        (1, _) => Ok(found.swap_remove(0)),
        (0, Some(error)) => Err(error.into()),
        (0, None) => Err(fail(
            Code::Recording,
            format!(
                "checkpoint {id} has no process with pid {pid}; it has {}",
                listed(&there)
            ),
        )),
        _ => {
            let numbers: Vec<String> = found.iter().map(|p| p.id.0.to_string()).collect();
            Err(fail(
                Code::Usage,
                format!(
                    "checkpoint {id} has several processes with pid {pid}; choose one with \
                     --process N, N being one of {}",
                    listed(&numbers)
                ),
            ))
        }
    }
}

/// The first few of a list.
fn listed(all: &[String]) -> String {
    const SHOWN: usize = 20;
    let mut text = all[..all.len().min(SHOWN)].join(", ");
    if all.len() > SHOWN {
        text.push_str(", ...");
    }
    text
}
