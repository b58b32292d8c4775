//! The recording over time, in at most a few thousand points.
//!
//! A point is one checkpoint while there are few, else the checkpoints of a slice of time; it keeps
//! sums, and beside them the largest of each quantity that has one, so that a single bad checkpoint
//! among 20,000 still shows. Full checkpoints (the first, those after exec) hold everything; they are
//! told apart and are not in the points.

use serde::Serialize;
use std::collections::BTreeMap;
use stillframe_image::account::{Account, SkipReason};
use stillframe_image::{Marks, Phases};
use stillframe_store::Row;

/// Most points.
pub const POINTS: usize = 1200;
/// Most slices of the rate.
pub const SLICES: usize = 400;
/// Most special checkpoints told apart.
const SPECIAL: usize = 400;

/// Names of the phases of a boundary, in their order.
pub const PHASES: [&str; 7] = [
    "stop", "layout", "scan", "threads", "copy", "state", "resume",
];

/// Phases as a list, nanoseconds.
pub const fn phases(p: &Phases) -> [u64; 7] {
    [
        p.stop, p.layout, p.scan, p.threads, p.copy, p.state, p.resume,
    ]
}

/// The time that a recording covers, nanoseconds since its start.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Span {
    /// First checkpoint.
    pub start_ns: u64,
    /// Last checkpoint.
    pub end_ns: u64,
}

impl Span {
    /// Of these rows.
    pub fn of(rows: &[Row]) -> Self {
        let times = rows.iter().map(|r| r.tick.at_ns);
        Self {
            start_ns: times.clone().min().unwrap_or(0),
            end_ns: times.max().unwrap_or(0),
        }
    }

    /// Its length.
    pub const fn length_ns(&self) -> u64 {
        self.end_ns.saturating_sub(self.start_ns)
    }

    /// Which of `slices` equal parts holds `at_ns`.
    fn slice(&self, at_ns: u64, slices: usize) -> usize {
        let offset = u128::from(at_ns.saturating_sub(self.start_ns));
        let length = u128::from(self.length_ns()) + 1;
        ((offset * slices as u128 / length) as usize).min(slices.saturating_sub(1))
    }
}

/// One point: columns of the page's charts. Times nanoseconds, sizes bytes.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Point {
    /// Last checkpoint's time.
    pub at: u64,
    /// Number of the first checkpoint in it.
    pub id: u64,
    /// Checkpoints in it.
    pub n: u64,
    /// Sums of the phases.
    pub phases: [u64; 7],
    /// Sum of the pauses of pre-copy stops.
    pub precopy: u64,
    /// Longest pause of a boundary.
    pub max: u64,
    /// Number of the checkpoint that has it.
    pub max_id: u64,
    /// Sum of pages found written.
    pub dirty: u64,
    /// Most in one checkpoint.
    pub dirty_max: u64,
    /// Of the sum, copied while the target ran.
    pub precopied: u64,
    /// Sum of bytes of pages.
    pub raw: u64,
    /// Sum of bytes stored.
    pub stored: u64,
    /// Pages written before they were copied.
    pub conflicts: u64,
}

/// A checkpoint with marks.
#[derive(Clone, Debug, PartialEq, Eq, Serialize)]
pub struct Special {
    /// Its number.
    pub id: u64,
    /// Its time, nanoseconds.
    pub at: u64,
    /// Its pause, nanoseconds.
    pub pause: u64,
    /// Pages found written.
    pub dirty: u64,
    /// Bytes stored.
    pub stored: u64,
    /// Its marks.
    pub marks: Vec<&'static str>,
}

/// A slice of the rate: how many checkpoints were made in it, and ticks not taken by reason.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize)]
pub struct Slice {
    /// Checkpoints.
    pub made: u64,
    /// Ticks not taken: late, store, not stopped, budget, reason not recorded.
    pub skipped: [u64; 5],
}

/// The recording over time.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Series {
    /// What it covers.
    pub span: Span,
    /// Whether each point is a single checkpoint.
    pub single: bool,
    /// Points in order of time.
    pub points: Vec<Point>,
    /// Slices of equal length that cover the span.
    pub slices: Vec<Slice>,
    /// Checkpoints with marks, in order; the first and last of them if there are very many.
    pub special: Vec<Special>,
}

/// Gathers a [`Series`].
#[derive(Clone, Debug)]
pub struct SeriesGatherer {
    span: Span,
    single: bool,
    points: BTreeMap<usize, Point>,
    slices: Vec<Slice>,
    special: Vec<Special>,
    seen: usize,
}

/// Index of a reason in [`Slice::skipped`].
pub const fn reason(reason: SkipReason) -> usize {
    match reason {
        SkipReason::Late => 0,
        SkipReason::Store => 1,
        SkipReason::NotStopped => 2,
        SkipReason::Budget => 3,
    }
}

/// Ticks not taken before a checkpoint, by reason; those that the account does not explain last.
pub fn skipped(row: &Row, account: &Account) -> [u64; 5] {
    let mut out = [0u64; 5];
    for skip in &account.skips {
        out[reason(skip.reason)] += u64::from(skip.ticks);
    }
    let told: u64 = out.iter().sum();
    out[4] = u64::from(row.tick.skipped).saturating_sub(told);
    out
}

impl SeriesGatherer {
    /// For a span, a number of checkpoints, and the rate asked for.
    pub fn new(span: Span, checkpoints: usize, hz: f64) -> Self {
        // A slice holds ten ticks or more, or its count would jump between n and n + 1.
        let ticks = span.length_ns() as f64 / 1e9 * hz;
        let slices = if ticks.is_finite() {
            ((ticks / 10.0) as usize).clamp(1, SLICES)
        } else {
            1
        };
        Self {
            span,
            single: checkpoints <= POINTS,
            points: BTreeMap::new(),
            slices: vec![Slice::default(); slices],
            special: Vec::new(),
            seen: 0,
        }
    }

    /// Takes in a checkpoint.
    pub fn add(&mut self, row: &Row, account: &Account) {
        let t = &row.tick;
        let number = self.seen;
        self.seen += 1;
        let slices = self.slices.len();
        if let Some(slice) = self.slices.get_mut(self.span.slice(t.at_ns, slices)) {
            // The first checkpoint begins the span: counting it would make n + 1 of n periods.
            slice.made += u64::from(number > 0);
            for (sum, more) in slice.skipped.iter_mut().zip(skipped(row, account)) {
                *sum += more;
            }
        }
        if t.marks != Marks::default() {
            if self.special.len() >= SPECIAL {
                self.special.remove(SPECIAL / 2);
            }
            self.special.push(Special {
                id: row.id.0,
                at: t.at_ns,
                pause: t.pause_ns(),
                dirty: t.dirty_pages,
                stored: row.stored_bytes,
                marks: t.marks.names().collect(),
            });
        }
        if t.marks.contains(Marks::FULL) {
            return;
        }
        let key = if self.single {
            number
        } else {
            self.span.slice(t.at_ns, POINTS)
        };
        let p = self.points.entry(key).or_default();
        if p.n == 0 {
            p.id = row.id.0;
        }
        p.n += 1;
        p.at = t.at_ns;
        for (sum, more) in p.phases.iter_mut().zip(phases(&t.phases)) {
            *sum = sum.saturating_add(more);
        }
        p.precopy = p.precopy.saturating_add(t.precopy_pause_ns);
        if t.pause_ns() >= p.max {
            p.max = t.pause_ns();
            p.max_id = row.id.0;
        }
        p.dirty = p.dirty.saturating_add(t.dirty_pages);
        p.dirty_max = p.dirty_max.max(t.dirty_pages);
        p.precopied = p.precopied.saturating_add(t.precopied_pages);
        p.raw = p.raw.saturating_add(row.raw_bytes);
        p.stored = p.stored.saturating_add(row.stored_bytes);
        p.conflicts = p.conflicts.saturating_add(account.after.conflicts);
    }

    /// The series.
    pub fn finish(self) -> Series {
        Series {
            span: self.span,
            single: self.single,
            points: self.points.into_values().collect(),
            slices: self.slices,
            special: self.special,
        }
    }
}
