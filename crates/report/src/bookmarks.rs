//! Moments that have a name, and what was noted beside it.
//!
//! A bookmark is a tag with a note (`still bookmark`, `still tag`); whoever marks a moment without
//! naming it gets a name made up.

use std::path::Path;
use stillframe_image::CheckpointId;
use stillframe_store::retention::{self, Change};
use stillframe_store::{Error, Recording};

/// Names made up for one moment.
const NAMES: u32 = 1000;

/// A moment that has a name.
#[derive(Clone, Debug, Default, PartialEq, Eq, PartialOrd, Ord)]
pub struct Bookmark {
    /// Where it is.
    pub at: CheckpointId,
    /// When, nanoseconds since the recording began; `None` if the checkpoint was removed.
    pub at_ns: Option<u64>,
    /// What it is called.
    pub name: String,
    /// What was noted; may be empty.
    pub note: String,
}

impl Bookmark {
    /// The note, or the name if there is none.
    pub fn says(&self) -> &str {
        if self.note.is_empty() {
            &self.name
        } else {
            &self.note
        }
    }
}

/// All of a recording, in order of time.
pub fn of(recording: &Recording) -> Vec<Bookmark> {
    let notes = recording.notes();
    let mut all: Vec<Bookmark> = recording
        .tags()
        .iter()
        .map(|(name, at)| Bookmark {
            at: *at,
            at_ns: recording.row(*at).map(|r| r.tick.at_ns),
            name: name.clone(),
            note: notes.get(name).cloned().unwrap_or_default(),
        })
        .collect();
    all.sort();
    all
}

/// Marks a checkpoint under a name that nobody has, which is returned: whoever does the same at the
/// same time gets another.
///
/// # Errors
/// If there is no such checkpoint, the note is too long, or the recording cannot be changed.
pub fn keep(path: &Path, id: CheckpointId, note: &str) -> Result<String, Error> {
    for number in 1..NAMES {
        let name = match number {
            1 => format!("at-{id}"),
            n => format!("at-{id}-{n}"),
        };
        let taken = || Ok::<_, Error>(Recording::open(path)?.tags().contains_key(&name));
        if taken()? {
            continue;
        }
        match named(path, id, &name, note) {
            Ok(()) => return Ok(name),
            Err(Error::Retention(_)) if taken()? => {}
            Err(error) => return Err(error),
        }
    }
    Err(Error::Retention(format!(
        "checkpoint {id} has {NAMES} bookmarks; give this one a name"
    )))
}

/// Marks a checkpoint under a new name.
///
/// # Errors
/// As [`keep`]; if the name exists.
pub fn named(path: &Path, id: CheckpointId, name: &str, note: &str) -> Result<(), Error> {
    let change = Change::Bookmark {
        name: name.to_owned(),
        id: id.0,
        note: note.to_owned(),
        fresh: true,
    };
    retention::change(path, &change, &mut |_, _| true).map(drop)
}

/// Takes a name away.
///
/// # Errors
/// If it is not there, or the recording cannot be changed.
pub fn remove(path: &Path, name: &str) -> Result<(), Error> {
    let change = Change::Untag(name.to_owned());
    retention::change(path, &change, &mut |_, _| true).map(drop)
}
