//! Watched expressions: their value at the cursor, and what of their history each column shows.

use super::asked::{Change, Context, Reading};
use super::window::Window;
use stillframe_image::CheckpointId;

/// Most changes kept of one expression.
pub const CHANGES: usize = 200_000;

/// Where the history of an expression stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Progress {
    /// Asked for in this turn.
    Asked(u64),
    /// Known as far as it is covered.
    Known,
    /// It cannot be had.
    Failed(String),
}

/// A watched expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Watch {
    /// Its number, never used again.
    pub number: u64,
    /// The expression.
    pub text: String,
    /// The value at the cursor; `None` while it is not known.
    pub value: Option<Result<Reading, String>>,
    /// Values that differ from the one before, in order of time.
    pub changes: Vec<Change>,
    /// The newest checkpoint for which the history is known.
    pub covered: Option<CheckpointId>,
    /// Whether more of it is on its way.
    pub progress: Progress,
    /// It depends on thread and frame.
    pub local: bool,
    /// The checkpoint at which the thread and frame are those that are meant.
    pub meant: CheckpointId,
}

/// What one column shows of an expression.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Cell {
    /// Not known yet.
    Unknown,
    /// There was no value.
    Without,
    /// A number: of those in the column the one that is farthest from the value before.
    Number {
        /// The number.
        value: f64,
        /// One of the column's numbers is negative.
        negative: bool,
    },
    /// Something else.
    Other {
        /// It changed in this column.
        changed: bool,
    },
    /// A condition.
    Condition {
        /// It held somewhere in the column.
        held: bool,
    },
}

impl Watch {
    /// A new one, in the words of the frame that is chosen at a checkpoint.
    pub fn new(number: u64, text: &str, meant: CheckpointId) -> Self {
        Self {
            number,
            text: text.to_owned(),
            value: None,
            changes: Vec::new(),
            covered: None,
            progress: Progress::Known,
            local: false,
            meant,
        }
    }

    /// In whose words it is meant, given what is chosen.
    pub fn context(&self, chosen: Context) -> Context {
        Context {
            at: Some(self.meant),
            ..chosen
        }
    }

    /// Another thread or frame was chosen at a checkpoint: what depends on that, or had no value
    /// before, is asked again.
    pub fn choose(&mut self, at: CheckpointId) {
        if self.local || matches!(self.progress, Progress::Failed(_)) {
            self.forget();
            self.meant = at;
        }
    }

    /// Takes in more of its history. Values equal to the one before are no changes.
    pub fn add(&mut self, changes: Vec<Change>, covered: Option<CheckpointId>) {
        for change in changes {
            let last = self.changes.last();
            let new = last.is_none_or(|l| l.id < change.id && l.value != change.value);
            if !new {
                continue;
            }
            if self.changes.len() >= CHANGES {
                let why =
                    format!("it changes more often than {CHANGES} times; the rest is left out");
                self.progress = Progress::Failed(why);
                self.covered = self.changes.last().map(|c| c.id);
                return;
            }
            self.changes.push(change);
        }
        self.covered = self.covered.max(covered);
    }

    /// Forgets its history.
    pub fn forget(&mut self) {
        self.changes.clear();
        self.covered = None;
        self.progress = Progress::Known;
    }

    /// Forgets what came before the first checkpoint that is left of a recording that loses its
    /// beginning.
    pub fn prune(&mut self, first: CheckpointId) {
        let gone = self.changes.partition_point(|c| c.id <= first);
        // The last of them is the value that `first` has.
        self.changes.drain(..gone.saturating_sub(1));
    }

    /// The change that gave it the value it has at a checkpoint.
    pub fn at(&self, id: CheckpointId) -> Option<&Change> {
        if self.covered.is_none_or(|covered| covered < id) {
            return None;
        }
        let after = self.changes.partition_point(|c| c.id <= id);
        self.changes.get(after.checked_sub(1)?)
    }

    /// The next checkpoint after `id` in which it changed.
    pub fn next_change(&self, id: CheckpointId) -> Option<CheckpointId> {
        let after = self.changes.partition_point(|c| c.id <= id);
        self.changes.get(after.max(1)).map(|c| c.id)
    }

    /// The last checkpoint before `id` in which it changed. The first value is no change.
    pub fn previous_change(&self, id: CheckpointId) -> Option<CheckpointId> {
        let before = self.changes.partition_point(|c| c.id < id);
        let at = before.checked_sub(1).filter(|at| *at > 0)?;
        self.changes.get(at).map(|c| c.id)
    }

    /// Checkpoints from which on it holds, as a condition, and did not before.
    pub fn begins(&self) -> impl DoubleEndedIterator<Item = CheckpointId> {
        let holds = |c: &Change| matches!(&c.value, Ok(r) if r.truth == Some(true));
        let before = std::iter::once(None).chain(self.changes.iter().map(Some));
        let pairs: Vec<CheckpointId> = before
            .zip(&self.changes)
            .filter(|(before, now)| holds(now) && !before.is_some_and(holds))
            .map(|(_, now)| now.id)
            .collect();
        pairs.into_iter()
    }

    /// What each column of a window shows. `end` is the last instant of the recording, and
    /// `covered` the last one that the history knows.
    pub fn cells(
        &self,
        window: &Window,
        columns: usize,
        covered: Option<u64>,
        end: u64,
        condition: bool,
    ) -> Vec<Cell> {
        let mut out = Vec::with_capacity(columns);
        let mut next = self.changes.partition_point(|c| c.at_ns < window.start);
        let mut held = next.checked_sub(1).and_then(|n| self.changes.get(n));
        for column in 0..columns {
            let until = window.instant(column + 1, columns);
            let from = next;
            while self.changes.get(next).is_some_and(|c| c.at_ns < until) {
                next += 1;
            }
            let new = self.changes.get(from..next).unwrap_or_default();
            let begins = window.instant(column, columns);
            out.push(if begins > end {
                Cell::Without
            } else if covered.is_none_or(|covered| covered < begins) {
                Cell::Unknown
            } else {
                cell(held, new, condition)
            });
            held = new.last().or(held);
        }
        out
    }
}

fn cell(held: Option<&Change>, new: &[Change], condition: bool) -> Cell {
    let all = || {
        let values = held.into_iter().chain(new);
        values.filter_map(|c| c.value.as_ref().ok())
    };
    if all().next().is_none() {
        return Cell::Without;
    }
    if condition {
        return Cell::Condition {
            held: all().any(|r| r.truth == Some(true)),
        };
    }
    if all().any(|r| r.number.is_none()) {
        // The value that is there at the beginning is not a change.
        let changed = if held.is_some() { 0 } else { 1 };
        return Cell::Other {
            changed: new.len() > changed,
        };
    }
    let numbers = || all().filter_map(|r| r.number).filter(|n| n.is_finite());
    let Some(before) = numbers().next() else {
        return Cell::Without;
    };
    let distance = |n: &f64| (n - before).abs();
    let farthest = numbers().max_by(|a, b| distance(a).total_cmp(&distance(b)));
    Cell::Number {
        value: farthest.unwrap_or(before),
        negative: numbers().any(|n| n < 0.0),
    }
}

/// The heights of the numbers among cells, in eighths of one row: the least is 1, the most 8.
pub fn heights(cells: &[Cell]) -> Vec<Option<u32>> {
    let number = |c: &Cell| match c {
        Cell::Number { value, .. } => Some(*value),
        _ => None,
    };
    let (mut least, mut most) = (f64::INFINITY, f64::NEG_INFINITY);
    for value in cells.iter().filter_map(number) {
        least = least.min(value);
        most = most.max(value);
    }
    let range = most - least;
    let height = |value: f64| {
        if range > 0.0 && range.is_finite() {
            1 + ((value - least) / range * 7.0).round().clamp(0.0, 7.0) as u32
        } else {
            1
        }
    };
    cells.iter().map(|c| number(c).map(height)).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    fn number(id: u64, number: f64) -> Change {
        Change {
            id: CheckpointId(id),
            at_ns: id * 10,
            value: Ok(Reading {
                text: number.to_string(),
                number: Some(number),
                truth: Some(number != 0.0),
            }),
        }
    }

    fn window(length: u64) -> Window {
        Window {
            start: 0,
            length,
            whole: true,
        }
    }

    fn watch(changes: &[(u64, f64)], covered: u64) -> Watch {
        let mut watch = Watch::new(1, "x", CheckpointId(0));
        let changes = changes.iter().map(|(id, n)| number(*id, *n)).collect();
        watch.add(changes, Some(CheckpointId(covered)));
        watch
    }

    #[test]
    fn a_column_shows_what_is_farthest_from_before() {
        let watch = watch(&[(0, 5.0), (2, 5.0), (4, 0.0), (5, 6.0), (8, -1.0)], 9);
        assert_eq!(watch.changes.len(), 4);
        let cells = watch.cells(&window(100), 5, Some(90), 90, false);
        let value = |value, negative| Cell::Number { value, negative };
        assert_eq!(
            cells,
            [
                value(5.0, false),
                value(5.0, false),
                value(0.0, false),
                value(6.0, false),
                value(-1.0, true)
            ]
        );
        assert_eq!(
            heights(&cells),
            [Some(7), Some(7), Some(2), Some(8), Some(1)]
        );
    }

    #[test]
    fn what_is_not_known_is_not_shown() {
        let watch = watch(&[(0, 1.0)], 4);
        let cells = watch.cells(&window(100), 10, Some(40), 60, false);
        assert!(matches!(cells[4], Cell::Number { .. }));
        assert_eq!(cells[5], Cell::Unknown);
        assert_eq!(cells[7], Cell::Without);
        assert_eq!(watch.at(CheckpointId(5)), None);
        assert_eq!(watch.at(CheckpointId(4)).unwrap().id.0, 0);
    }

    #[test]
    fn conditions_begin() {
        let mut watch = watch(&[(0, 1.0), (2, 0.0), (4, 1.0), (5, 2.0), (7, 0.0)], 9);
        watch.changes[1].value = Err("not mapped".to_owned());
        let begins: Vec<u64> = watch.begins().map(|c| c.0).collect();
        assert_eq!(begins, [0, 4]);
        let cells = watch.cells(&window(100), 10, Some(90), 90, true);
        let held: Vec<bool> = cells
            .iter()
            .map(|c| *c == Cell::Condition { held: true })
            .collect();
        assert_eq!(
            held,
            [
                true, true, true, false, true, true, true, true, false, false
            ]
        );
    }

    #[test]
    fn changes_are_found_both_ways() {
        let watch = watch(&[(0, 1.0), (3, 2.0), (6, 3.0)], 9);
        let next = |id| watch.next_change(CheckpointId(id)).map(|c| c.0);
        let previous = |id| watch.previous_change(CheckpointId(id)).map(|c| c.0);
        assert_eq!([next(0), next(3), next(6)], [Some(3), Some(6), None]);
        assert_eq!(
            [previous(9), previous(6), previous(3)],
            [Some(6), Some(3), None]
        );
    }

    #[test]
    fn what_changes_all_the_time_is_cut_off_and_says_so() {
        let mut watch = Watch::new(1, "x", CheckpointId(0));
        watch.progress = Progress::Asked(1);
        let more = CHANGES as u64 + 7;
        let changes = (0..more).map(|n| number(n, n as f64)).collect();
        watch.add(changes, Some(CheckpointId(more)));
        assert_eq!(watch.changes.len(), CHANGES);
        assert_eq!(watch.covered, Some(CheckpointId(CHANGES as u64 - 1)));
        assert!(matches!(watch.progress, Progress::Failed(_)));
    }

    #[test]
    fn a_lost_beginning_leaves_the_value_it_had() {
        let mut watch = watch(&[(0, 1.0), (3, 2.0), (6, 3.0)], 9);
        watch.prune(CheckpointId(5));
        let left: Vec<u64> = watch.changes.iter().map(|c| c.id.0).collect();
        assert_eq!(left, [3, 6]);
        assert_eq!(watch.at(CheckpointId(5)).unwrap().id.0, 3);
    }
}
