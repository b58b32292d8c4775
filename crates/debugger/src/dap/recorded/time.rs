//! Checkpoints as places in time.

use super::super::debuggee::{Direction, Moment};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use stillframe_image::{CheckpointId, Marks};
use stillframe_store::Recording;

/// The checkpoints at which a process is there, and their names.
#[derive(Debug)]
pub(super) struct Time<'r> {
    recording: &'r Recording,
    /// Positions in the list of checkpoints.
    life: RangeInclusive<usize>,
    tags: HashMap<CheckpointId, Vec<String>>,
}

impl<'r> Time<'r> {
    pub(super) fn new(recording: &'r Recording, life: RangeInclusive<usize>) -> Self {
        let mut tags: HashMap<CheckpointId, Vec<String>> = HashMap::new();
        for (name, id) in recording.tags() {
            tags.entry(*id).or_default().push(name.clone());
        }
        Self {
            recording,
            life,
            tags,
        }
    }

    /// What is at a position.
    pub(super) fn moment(&self, position: usize) -> Option<Moment> {
        let rows = self.recording.rows();
        let row = rows.get(position)?;
        Some(Moment {
            checkpoint: row.id,
            at_ns: row.tick.at_ns,
            marks: row.tick.marks,
            tags: self.tags.get(&row.id).cloned().unwrap_or_default(),
            position: position as u64,
            count: rows.len() as u64,
        })
    }

    /// The position of a checkpoint at which the process is there.
    pub(super) fn position(&self, id: CheckpointId) -> Option<usize> {
        let rows = self.recording.rows();
        let position = rows.binary_search_by_key(&id, |r| r.id).ok()?;
        self.life.contains(&position).then_some(position)
    }

    /// The checkpoint at a position.
    pub(super) fn id(&self, position: usize) -> Option<CheckpointId> {
        self.recording.rows().get(position).map(|r| r.id)
    }

    /// Positions on the way from one, nearest first, without it.
    fn way(&self, from: usize, direction: Direction) -> Box<dyn Iterator<Item = usize>> {
        match direction {
            Direction::Forward => Box::new(from + 1..=*self.life.end()),
            Direction::Backward => Box::new((*self.life.start()..from).rev()),
        }
    }

    pub(super) fn neighbour(&self, from: usize, direction: Direction) -> Option<CheckpointId> {
        self.way(from, direction).next().and_then(|p| self.id(p))
    }

    pub(super) fn next_marked(
        &self,
        from: usize,
        marks: Marks,
        direction: Direction,
    ) -> Option<CheckpointId> {
        let rows = self.recording.rows();
        let fits = |p: &usize| rows.get(*p).is_some_and(|r| r.tick.marks.0 & marks.0 != 0);
        let found = self.way(from, direction).find(fits)?;
        self.id(found)
    }

    pub(super) fn next_tagged(&self, from: usize, direction: Direction) -> Option<CheckpointId> {
        let positions = self.tags.keys().filter_map(|id| self.position(*id));
        let found = match direction {
            Direction::Forward => positions.filter(|p| *p > from).min(),
            Direction::Backward => positions.filter(|p| *p < from).max(),
        };
        self.id(found?)
    }

    /// Moments from the `start`th on, of the whole recording.
    pub(super) fn moments(&self, start: u64, count: u64) -> Vec<Moment> {
        let all = self.recording.rows().len() as u64;
        let end = start.saturating_add(count).min(all);
        (start..end)
            .filter_map(|p| self.moment(usize::try_from(p).ok()?))
            .collect()
    }
}
