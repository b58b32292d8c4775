//! How far to go back.
//!
//! A fault comes out of what the program took in since it was well, so the newest checkpoint before
//! it is tried first: it loses least. If the fault is there again within a tenth of a second, or
//! before the program has lived through two more checkpoints, it was in that checkpoint already; the next attempt goes to an
//! earlier one, each time twice as far. After some attempts, or when there is nothing earlier, it is
//! given up.

use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, Marks};
use stillframe_store::Row;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Fault {
    /// A signal, by number, at an instruction.
    Signal(i32, u64),
    /// It was found sick.
    Health {
        /// How long it may have been so before that was noticed.
        unseen: Duration,
        /// Whether it was found well since it was last taken back.
        well: bool,
    },
}

/// What to do.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Sentence {
    /// Back to this checkpoint.
    Back(CheckpointId),
    /// Leave it to its fate, for this reason.
    GiveUp(String),
}

/// The last attempt.
#[derive(Clone, Copy, Debug)]
struct Attempt {
    /// Where it went.
    to: CheckpointId,
    /// The checkpoint of the moment it left.
    from: CheckpointId,
    at: Instant,
    /// How many there were in a row for the same fault.
    row: u32,
}

/// Decides.
#[derive(Debug)]
pub struct Policy {
    retries: u32,
    limit: Option<u64>,
    done: u64,
    last: Option<Attempt>,
}

/// A fault this soon after going back is the same one, whatever checkpoints were taken.
const AT_ONCE: Duration = Duration::from_millis(100);

/// Checkpoints it must have lived through for a fault to be another one.
const LIVED: usize = 2;

impl Policy {
    /// `retries`: attempts in a row; `limit`: attempts in all.
    pub const fn new(retries: u32, limit: Option<u64>) -> Self {
        Self {
            retries,
            limit,
            done: 0,
            last: None,
        }
    }

    /// Decides on a fault at checkpoint `present`, the last of `rows`.
    pub fn judge(
        &mut self,
        fault: Fault,
        present: CheckpointId,
        rows: &[Row],
        now: Instant,
    ) -> Sentence {
        if self.limit.is_some_and(|limit| self.done >= limit) {
            return Sentence::GiveUp(format!("it was taken back {} times already", self.done));
        }
        let same = self.last.filter(|last| {
            if let Fault::Health { well, .. } = fault {
                return !well;
            }
            let lived = rows
                .iter()
                .filter(|r| r.id > last.from && r.id < present)
                .count();
            // The first of them is taken at once.
            lived < 1 + LIVED || now.duration_since(last.at) < AT_ONCE
        });
        let row = same.map_or(0, |last| last.row);
        if row >= self.retries {
            return Sentence::GiveUp(format!(
                "it came again at once {row} times in a row, each time from further back"
            ));
        }
        // What was taken of a dying or a sick program is no place to go to.
        let good = |r: &&Row| r.id < present && !r.tick.marks.contains(Marks::CRASH);
        let before = same.map_or(present, |last| last.to);
        // A program that hangs was not well for a while before that was noticed.
        let unseen = match fault {
            Fault::Signal(..) => Duration::ZERO,
            Fault::Health { unseen, .. } => unseen,
        };
        let unseen = u64::try_from(unseen.as_nanos()).unwrap_or(u64::MAX);
        let at = |id| rows.iter().find(|r| r.id == id).map_or(0, |r| r.tick.at_ns);
        let latest = at(before).saturating_sub(unseen);
        let before_it = |r: &&Row| r.id < before && (unseen == 0 || r.tick.at_ns <= latest);
        let good: Vec<CheckpointId> = rows.iter().filter(good).map(|r| r.id).collect();
        let earlier: Vec<CheckpointId> = rows
            .iter()
            .filter(before_it)
            .map(|r| r.id)
            .filter(|id| good.contains(id))
            .collect();
        let steps = 1usize << row.min(20);
        let first = good.iter().find(|id| **id < before);
        let Some(to) = earlier
            .iter()
            .rev()
            .nth(steps - 1)
            .or(earlier.first())
            .or(first)
        else {
            return Sentence::GiveUp("there is no earlier checkpoint to go to".to_owned());
        };
        self.done += 1;
        self.last = Some(Attempt {
            to: *to,
            from: present,
            at: now,
            row: row + 1,
        });
        Sentence::Back(*to)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::Tick;

    const SEGV: Fault = Fault::Signal(11, 0x1000);
    const SICK: Fault = Fault::Health {
        unseen: Duration::from_secs(1),
        well: false,
    };

    fn rows(to: u64, crashes: &[u64]) -> Vec<Row> {
        (0..=to)
            .map(|id| Row {
                id: CheckpointId(id),
                tick: Tick {
                    at_ns: id * 20_000_000,
                    marks: if crashes.contains(&id) {
                        Marks::CRASH
                    } else {
                        Marks::default()
                    },
                    ..Tick::default()
                },
                ..Row::default()
            })
            .collect()
    }

    fn later(at: Instant, ms: u64) -> Instant {
        at + Duration::from_millis(ms)
    }

    #[test]
    fn the_newest_first_then_further_and_further() {
        let mut policy = Policy::new(3, None);
        let t = Instant::now();
        let judge = |p: &mut Policy, present: u64, crashes: &[u64], ms| {
            p.judge(
                SEGV,
                CheckpointId(present),
                &rows(present, crashes),
                later(t, ms),
            )
        };
        let back = |id| Sentence::Back(CheckpointId(id));
        assert_eq!(judge(&mut policy, 50, &[50], 0), back(49));
        // Again before it lived: further back.
        assert_eq!(judge(&mut policy, 52, &[50, 52], 30), back(47));
        assert_eq!(judge(&mut policy, 54, &[50, 52, 54], 60), back(43));
        assert!(matches!(
            judge(&mut policy, 56, &[50, 52, 54, 56], 90),
            Sentence::GiveUp(_)
        ));
    }

    #[test]
    fn another_fault_begins_anew() {
        let mut policy = Policy::new(2, None);
        let t = Instant::now();
        for n in 1..50u64 {
            let present = CheckpointId(n * 10);
            let rows = rows(present.0, &[present.0]);
            let sentence = policy.judge(SEGV, present, &rows, later(t, n * 200));
            assert_eq!(sentence, Sentence::Back(CheckpointId(n * 10 - 1)));
        }
    }

    #[test]
    fn a_hang_began_before_it_was_noticed() {
        let mut policy = Policy::new(4, None);
        let t = Instant::now();
        let all = rows(300, &[]);
        let judge = |p: &mut Policy, present: u64, ms| {
            let rows = &all[..=present as usize];
            p.judge(SICK, CheckpointId(present), rows, later(t, ms))
        };
        let back = |id| Sentence::Back(CheckpointId(id));
        // A second is fifty checkpoints.
        assert_eq!(judge(&mut policy, 200, 0), back(150));
        // It hangs still, long after it was taken back.
        assert_eq!(judge(&mut policy, 260, 1200), back(99));
    }

    #[test]
    fn there_is_an_end() {
        let t = Instant::now();
        let mut none = Policy::new(9, None);
        assert!(matches!(
            none.judge(SEGV, CheckpointId(0), &rows(0, &[0]), t),
            Sentence::GiveUp(_)
        ));
        let mut few = Policy::new(9, Some(1));
        assert!(matches!(
            few.judge(SEGV, CheckpointId(9), &rows(9, &[9]), t),
            Sentence::Back(_)
        ));
        assert!(matches!(
            few.judge(SEGV, CheckpointId(30), &rows(30, &[9, 30]), later(t, 900)),
            Sentence::GiveUp(_)
        ));
        // Fewer checkpoints than it would go back: the first.
        let mut hangs = Policy::new(9, None);
        assert_eq!(
            hangs.judge(SICK, CheckpointId(3), &rows(3, &[]), t),
            Sentence::Back(CheckpointId(0))
        );
    }
}
