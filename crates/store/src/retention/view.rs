//! Which page versions remaining checkpoints can see.
//!
//! A version that checkpoint c made can be seen by a remaining checkpoint exactly if it can be seen
//! by the first one at or after c: a page's memory never becomes what it was before, so a version
//! that was overwritten, unmapped or replaced once is never seen again.

use crate::index::Entry;
use crate::index::lookup::Failed;
use crate::{Error, Memory, Recording};
use std::collections::HashMap;
use stillframe_image::{CheckpointId, PageNumber, SpaceId};

/// What remaining checkpoints see.
#[derive(Debug)]
pub struct View<'a> {
    recording: &'a Recording,
    newest: Option<u64>,
}

/// The memory of a process at a checkpoint.
#[derive(Debug)]
enum Layout<'a> {
    Known(Memory<'a>),
    /// The process had ended.
    Gone,
    /// It cannot be read.
    Damaged,
}

impl<'a> View<'a> {
    /// Of a recording as it was opened.
    pub fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            newest: recording.rows().last().map(|r| r.id.0),
        }
    }

    /// The first remaining checkpoint at or after one, if there is any.
    pub fn shown(&self, checkpoint: u64) -> Option<u64> {
        let next = self.recording.list.ledger.removed.next_outside(checkpoint);
        self.newest.filter(|n| next <= *n).map(|_| next)
    }

    /// Those entries that a remaining checkpoint sees, ascending by checkpoint. Where damage leaves
    /// it open, they count as seen.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn visible(&self, entries: &[Entry]) -> Result<Vec<Entry>, Error> {
        let mut shown: Vec<(u64, Entry)> = entries
            .iter()
            .filter_map(|e| self.shown(e.checkpoint).map(|n| (n, *e)))
            .collect();
        shown.sort_unstable_by_key(|(n, e)| (*n, e.key()));
        let mut out = Vec::new();
        let mut memories: HashMap<u32, Layout<'_>> = HashMap::new();
        let mut at = None;
        for (i, (number, e)) in shown.iter().enumerate() {
            let same_page = |(n, next): &(u64, Entry)| {
                (*n, next.space, next.page) == (*number, e.space, e.page)
                    && next.checkpoint > e.checkpoint
            };
            if shown.get(i + 1).is_some_and(same_page) {
                continue;
            }
            if at != Some(*number) {
                memories.clear();
                at = Some(*number);
            }
            let layout = memories.entry(e.space).or_insert_with(|| {
                match self
                    .recording
                    .memory(CheckpointId(*number), SpaceId(e.space))
                {
                    Ok(memory) => Layout::Known(memory),
                    Err(Error::NoProcess { .. }) => Layout::Gone,
                    Err(_) => Layout::Damaged,
                }
            });
            if self.is_seen(layout, *number, e)? {
                out.push(*e);
            }
        }
        out.sort_unstable_by_key(|e| (e.checkpoint, e.space, e.page));
        Ok(out)
    }

    fn is_seen(&self, layout: &Layout<'_>, at: u64, e: &Entry) -> Result<bool, Error> {
        match layout {
            Layout::Gone => return Ok(false),
            Layout::Damaged => {}
            Layout::Known(memory) => {
                let since = memory.layout().since(PageNumber(e.page).address());
                if since.is_none_or(|s| s.0 > e.checkpoint) {
                    return Ok(false);
                }
            }
        }
        let newest = self
            .recording
            .ask(|set| set.newest(e.space, e.page, e.checkpoint, at));
        match newest {
            Ok(newest) => Ok(newest.is_none_or(|n| n.checkpoint <= e.checkpoint)),
            Err(Error::Damaged(_)) => Ok(true),
            Err(error) => Err(error),
        }
    }

    /// Entries of removed checkpoints in the index, without those that a later entry hides from
    /// every remaining one.
    ///
    /// # Errors
    /// If the index cannot be read.
    pub fn indexed_ghosts(&self) -> Result<Vec<Entry>, Error> {
        let removed = &self.recording.list.ledger.removed;
        self.recording.ask(|set| {
            let mut merged = set.merged(u64::MAX, (0, 0, 0))?;
            let mut out = Vec::new();
            let mut last: Option<Entry> = None;
            loop {
                let next = merged.next().map_err(|(i, e)| Failed::Run(i, e))?;
                if let Some(e) = last
                    && removed.contains(e.checkpoint)
                    && !self.hides(next.as_ref(), &e)
                {
                    out.push(e);
                }
                if next.is_none() {
                    return Ok(out);
                }
                last = next;
            }
        })
    }

    /// Whether the entry that follows one in the index hides it from all that remain.
    pub fn hides(&self, next: Option<&Entry>, e: &Entry) -> bool {
        match self.shown(e.checkpoint) {
            None => true,
            Some(shown) => next
                .is_some_and(|n| (n.space, n.page) == (e.space, e.page) && n.checkpoint <= shown),
        }
    }
}
