//! What can be asked of retention, and what it does to the ledger.

use super::ledger::{Ledger, Merged};
use crate::{Error, Recording, moment};
use serde::{Deserialize, Serialize};
use stillframe_image::{CheckpointId, Marks};

/// A request.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Change {
    /// Remove checkpoints: half-open ranges of numbers, of which those that exist are meant.
    Remove(Vec<(u64, u64)>),
    /// Merge checkpoints into the last of them.
    Squash {
        /// The first.
        from: u64,
        /// The last, which stays.
        to: u64,
    },
    /// Name a checkpoint; a name that exists moves.
    Tag {
        /// The name.
        name: String,
        /// The checkpoint.
        id: u64,
    },
    /// Take a name away.
    Untag(String),
    /// Give back the space of what was removed before.
    Compact,
    /// Name a checkpoint and note something beside the name.
    Bookmark {
        /// The name.
        name: String,
        /// The checkpoint.
        id: u64,
        /// The note: any text of at most [`LONGEST_NOTE`] bytes; none if empty.
        note: String,
        /// Refuse if the name exists, instead of moving it.
        fresh: bool,
    },
}

/// Longest note, bytes.
pub const LONGEST_NOTE: usize = 4096;

impl Change {
    /// Whether it only concerns names, and so neither removes anything nor takes long.
    pub const fn only_names(&self) -> bool {
        matches!(
            self,
            Self::Tag { .. } | Self::Untag(_) | Self::Bookmark { .. }
        )
    }
}

/// What a change did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Changed {
    /// Checkpoints removed.
    pub removed: u64,
    /// Checkpoints that remain.
    pub remaining: u64,
    /// Bytes by which the recording is shorter.
    pub freed: u64,
    /// Whether space is given back later, by the recorder as it goes on.
    pub pending: bool,
}

fn refuse(why: impl Into<String>) -> Error {
    Error::Retention(why.into())
}

/// Applies a change to a ledger; how many checkpoints it removes. Nothing is written.
///
/// # Errors
/// If a checkpoint does not exist, is tagged, or has to stay.
pub fn apply(
    change: &Change,
    recording: &Recording,
    live: bool,
    ledger: &mut Ledger,
) -> Result<u64, Error> {
    match change {
        Change::Remove(ranges) => {
            for (from, to) in ranges {
                remove(recording, live, (*from, *to), ledger)?;
            }
            // Ranges may overlap.
            let rows = recording.rows();
            let gone = rows.iter().filter(|r| ledger.removed.contains(r.id.0));
            let removed = gone.count() as u64;
            if removed > 0 && removed as usize >= rows.len() {
                return Err(refuse(
                    "that is every checkpoint there is; remove the directory instead",
                ));
            }
            Ok(removed)
        }
        Change::Squash { from, to } => squash(recording, live, (*from, *to), ledger),
        Change::Tag { name, id } => {
            set_name(recording, ledger, name, *id)?;
            Ok(0)
        }
        Change::Bookmark {
            name,
            id,
            note,
            fresh,
        } => {
            if *fresh && ledger.tags.contains_key(name) {
                return Err(refuse(format!("there is a moment named `{name}` already")));
            }
            if note.len() > LONGEST_NOTE {
                return Err(refuse(format!(
                    "a note has at most {LONGEST_NOTE} bytes, and this one has {}",
                    note.len()
                )));
            }
            set_name(recording, ledger, name, *id)?;
            if note.is_empty() {
                ledger.notes.remove(name);
            } else {
                ledger.notes.insert(name.clone(), note.clone());
            }
            Ok(0)
        }
        Change::Untag(name) => match ledger.tags.remove(name) {
            Some(_) => {
                ledger.notes.remove(name);
                Ok(0)
            }
            None => Err(Error::NoMoment {
                moment: name.chars().take(80).collect(),
                available: "no moment has that name".to_owned(),
            }),
        },
        Change::Compact => Ok(0),
    }
}

/// Gives a name to a checkpoint. A note is about the moment that it was made for, so it goes when
/// the name moves on.
fn set_name(recording: &Recording, ledger: &mut Ledger, name: &str, id: u64) -> Result<(), Error> {
    if !moment::is_tag(name) {
        return Err(refuse(format!(
            "`{}` is no name; take letters, digits, `_`, `-` and `.`, a letter first, and none of \
             first, last, crash, exit",
            name.chars().take(80).collect::<String>()
        )));
    }
    exists(recording, id)?;
    let before = ledger.tags.insert(name.to_owned(), CheckpointId(id));
    if before.is_some_and(|before| before.0 != id) {
        ledger.notes.remove(name);
    }
    Ok(())
}

fn exists(recording: &Recording, id: u64) -> Result<(), Error> {
    recording.resolve(&crate::Moment::Number(id)).map(drop)
}

fn remove(
    recording: &Recording,
    live: bool,
    (from, to): (u64, u64),
    ledger: &mut Ledger,
) -> Result<u64, Error> {
    let rows = recording.rows();
    let begin = rows.partition_point(|r| r.id.0 < from);
    let end = rows.partition_point(|r| r.id.0 < to).max(begin);
    if begin == end {
        // A single one that does not exist is a mistake; of a range what exists is meant.
        if to.saturating_sub(from) == 1 {
            exists(recording, from)?;
        }
        return Ok(0);
    }
    if live && end == rows.len() {
        return Err(refuse(
            "the newest checkpoint cannot be removed while it is being recorded",
        ));
    }
    let tagged = |(_, id): &(&String, &CheckpointId)| (from..to).contains(&id.0);
    if let Some((name, id)) = ledger.tags.iter().find(tagged) {
        return Err(refuse(format!(
            "checkpoint {id} is tagged `{name}`; tagged moments stay (delete the tag first)"
        )));
    }
    // Only up to the last that exists: numbers to come are not removed before they exist.
    let last = rows.get(end - 1).map_or(to, |r| r.id.0 + 1);
    ledger.removed.add(from, to.min(last));
    ledger.merged.retain(|n, _| !(from..to).contains(n));
    Ok((end - begin) as u64)
}

fn squash(
    recording: &Recording,
    live: bool,
    (from, to): (u64, u64),
    ledger: &mut Ledger,
) -> Result<u64, Error> {
    exists(recording, from)?;
    exists(recording, to)?;
    if from >= to {
        return Err(refuse(format!(
            "a range goes from an earlier checkpoint to a later one, and {from}..{to} does not"
        )));
    }
    let mut sum = Merged {
        tick: recording
            .row(CheckpointId(to))
            .map_or_else(Default::default, |r| r.tick),
        raw_bytes: 0,
        checkpoints: 0,
    };
    let rows = recording.rows();
    let begin = rows.partition_point(|r| r.id.0 < from);
    let end = rows.partition_point(|r| r.id.0 <= to);
    let kept = sum.tick;
    for row in &rows[begin..end] {
        sum.raw_bytes = sum.raw_bytes.saturating_add(row.raw_bytes);
        sum.checkpoints += recording.stands_for(row.id);
        if row.id.0 == to {
            continue;
        }
        let (all, one) = (&mut sum.tick, &row.tick);
        // What happened on the way happened before this one. How it was taken itself is its own.
        for mark in [Marks::EXEC, Marks::POINT, Marks::FORK] {
            if one.marks.contains(mark) {
                all.marks = all.marks.with(mark);
            }
        }
        all.skipped = all.skipped.saturating_add(one.skipped);
        all.precopy_stops = all.precopy_stops.saturating_add(one.precopy_stops);
        for (a, b) in [
            (&mut all.dirty_pages, one.dirty_pages),
            (&mut all.precopied_pages, one.precopied_pages),
            (&mut all.untracked_pages, one.untracked_pages),
            (&mut all.precopy_pause_ns, one.precopy_pause_ns),
        ] {
            *a = a.saturating_add(b);
        }
    }
    debug_assert_eq!(kept.at_ns, sum.tick.at_ns);
    let removed = remove(recording, live, (from, to), ledger)?;
    ledger.merged.insert(to, sum);
    Ok(removed)
}
