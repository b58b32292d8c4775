//! Figures of recorded runs, read back from what the recording itself says of each tick.

use crate::accounts::{AccountFigures, Accounts};
use crate::recorder::Watched;
use crate::stats::{Distribution, Spread, mean};
use serde::Serialize;
use stillframe_image::Tick;
use stillframe_store::Row;

type Phase = (&'static str, fn(&Tick) -> u64);

/// The parts of a pause, and what else stops the target.
const PHASES: [Phase; 9] = [
    ("stop", |t| t.phases.stop),
    ("layout", |t| t.phases.layout),
    ("scan", |t| t.phases.scan),
    ("threads", |t| t.phases.threads),
    ("copy", |t| t.phases.copy),
    ("state", |t| t.phases.state),
    ("resume", |t| t.phases.resume),
    ("other stops", |t| t.precopy_pause_ns),
    ("all stops", |t| t.pause_ns() + t.precopy_pause_ns),
];

/// One recorded run.
#[derive(Clone, Debug, Default)]
pub struct Run {
    /// The rows of the measured part.
    pub rows: Vec<Row>,
    /// Their event accounts, added up.
    pub accounts: Accounts,
    /// Length of that part, seconds.
    pub seconds: f64,
    /// What the recorder cost meanwhile.
    pub watched: Watched,
    /// From the recorder's start to the commit of its full first checkpoint, seconds.
    pub first_seconds: f64,
    /// Bytes stored by the first checkpoint.
    pub first_bytes: u64,
    /// Most memory the recorder had, as it says itself at its end, bytes.
    pub peak: u64,
    /// Time with recording over time without.
    pub slowdown: f64,
    /// CPU time of the target with recording over the same without.
    pub cpu_slowdown: f64,
    /// What found the written pages, as the recording says.
    pub tracker: String,
}

/// How the ticks kept to their times.
#[derive(Clone, Copy, Debug, Default, PartialEq, Serialize)]
pub struct Lag {
    /// Checkpoints per second in the first fifth of the run.
    pub first_hz: f64,
    /// Same in the last fifth.
    pub last_hz: f64,
    /// Mean distance of the ticks from their times in the first fifth, ms. Ticks that were skipped
    /// count as taken: their number is reported apart.
    pub first_ms: f64,
    /// Same in the last fifth.
    pub last_ms: f64,
}

impl Lag {
    /// Of the rows of one run, recorded at `hz`.
    pub fn of(rows: &[Row], hz: f64) -> Self {
        let fifth = rows.len() / 5;
        let (Some(first), true) = (rows.first(), fifth >= 2) else {
            return Self::default();
        };
        let mut due = 0u64;
        let late: Vec<f64> = rows
            .iter()
            .enumerate()
            .map(|(i, row)| {
                if i > 0 {
                    due += 1 + u64::from(row.tick.skipped);
                }
                (row.tick.at_ns as f64 - first.tick.at_ns as f64) / 1e6 - due as f64 * 1e3 / hz
            })
            .collect();
        // The first tick was itself late or early; the least late one is the schedule.
        let schedule = late[..fifth].iter().copied().fold(f64::INFINITY, f64::min);
        let rate = |rows: &[Row]| {
            let span = |a: &Row, b: &Row| b.tick.at_ns.saturating_sub(a.tick.at_ns) as f64 / 1e9;
            match (rows.first(), rows.last()) {
                (Some(a), Some(b)) if span(a, b) > 0.0 => (rows.len() - 1) as f64 / span(a, b),
                _ => 0.0,
            }
        };
        let last = rows.len() - fifth;
        Self {
            first_hz: rate(&rows[..fifth]),
            last_hz: rate(&rows[last..]),
            first_ms: mean(&late[..fifth]) - schedule,
            last_ms: mean(&late[last..]) - schedule,
        }
    }
}

/// A phase over all ticks, microseconds.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct PhaseTimes {
    /// Its name.
    pub phase: &'static str,
    /// How long it took.
    pub us: Distribution,
}

/// The recorded runs of one setting, taken together.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Figures {
    /// Time with recording over time without, over the pairs.
    pub slowdown: Spread,
    /// The same of each pair, in the order they were run.
    pub slowdowns: Vec<f64>,
    /// CPU time that the target used with recording over the same without, over the pairs: what
    /// faults cost it, without the stops, and less disturbed by what else the machine does.
    pub cpu_slowdown: Spread,
    /// Checkpoints in the measured parts.
    pub checkpoints: u64,
    /// Their length in all, seconds.
    pub seconds: f64,
    /// Checkpoints per second reached.
    pub hz: f64,
    /// Ticks that were due and not taken.
    pub skipped: u64,
    /// How long the target stood still for a checkpoint, microseconds.
    pub pause_us: Distribution,
    /// The same by phase; and stops for pre-copy, per checkpoint.
    pub phases: Vec<PhaseTimes>,
    /// What the event accounts add up to.
    pub account: AccountFigures,
    /// Pages found written per checkpoint.
    pub dirty_pages: Distribution,
    /// Bytes of the pages put into the recording.
    pub raw_bytes: u64,
    /// Bytes the recording grew by.
    pub stored_bytes: u64,
    /// Stored over raw bytes.
    pub stored_ratio: f64,
    /// How the ticks kept to their times: the run in which this got worst.
    pub lag: Lag,
    /// CPU time of the recorder over elapsed time: 1 is a whole core.
    pub recorder_cores: f64,
    /// Resident memory of the recorder in the middle of the run, bytes; the largest of all runs.
    pub resident_middle: u64,
    /// Same at the end.
    pub resident_end: u64,
    /// Most memory a recorder ever had, bytes.
    pub resident_peak: u64,
    /// Seconds from attaching to the commit of the full first checkpoint.
    pub first_seconds: Spread,
    /// Bytes stored by it.
    pub first_bytes: u64,
    /// What found the written pages, as the recordings say.
    pub tracker: String,
}

impl Figures {
    /// Of runs recorded at `hz`.
    pub fn of(runs: &[Run], hz: f64) -> Self {
        let rows: Vec<Row> = runs.iter().flat_map(|r| r.rows.iter().copied()).collect();
        let distribution =
            |value: &dyn Fn(&Row) -> f64| Distribution::of(rows.iter().map(value).collect());
        let sum = |value: &dyn Fn(&Row) -> u64| rows.iter().map(value).sum::<u64>();
        let slowdowns: Vec<f64> = runs.iter().map(|r| r.slowdown).collect();
        let seconds: f64 = runs.iter().map(|r| r.seconds).sum();
        let cpu: f64 = runs.iter().map(|r| r.watched.cpu_seconds).sum();
        let (raw, stored) = (sum(&|r| r.raw_bytes), sum(&|r| r.stored_bytes));
        let most = |value: &dyn Fn(&Run) -> u64| runs.iter().map(value).max().unwrap_or(0);
        let firsts: Vec<f64> = runs.iter().map(|r| r.first_seconds).collect();
        let mut accounts = Accounts::default();
        runs.iter().for_each(|r| accounts.merge(&r.accounts));
        let per_second = |value: f64| if seconds > 0.0 { value / seconds } else { 0.0 };
        Self {
            slowdown: Spread::of(&slowdowns),
            slowdowns,
            cpu_slowdown: Spread::of(&runs.iter().map(|r| r.cpu_slowdown).collect::<Vec<_>>()),
            checkpoints: rows.len() as u64,
            seconds,
            hz: per_second(rows.len() as f64),
            skipped: sum(&|r| u64::from(r.tick.skipped)),
            pause_us: distribution(&|r| r.tick.pause_ns() as f64 / 1e3),
            phases: PHASES
                .iter()
                .map(|(phase, value)| PhaseTimes {
                    phase,
                    us: distribution(&|r| value(&r.tick) as f64 / 1e3),
                })
                .collect(),
            account: accounts.figures(seconds),
            dirty_pages: distribution(&|r| r.tick.dirty_pages as f64),
            raw_bytes: raw,
            stored_bytes: stored,
            stored_ratio: if raw > 0 {
                stored as f64 / raw as f64
            } else {
                0.0
            },
            lag: runs
                .iter()
                .map(|r| Lag::of(&r.rows, hz))
                .max_by(|a, b| (a.last_ms - a.first_ms).total_cmp(&(b.last_ms - b.first_ms)))
                .unwrap_or_default(),
            recorder_cores: per_second(cpu),
            resident_middle: most(&|r| around(&r.watched.resident, 0.5)),
            resident_end: most(&|r| around(&r.watched.resident, 0.95)),
            resident_peak: most(&|r| r.peak.max(r.watched.peak)),
            first_seconds: Spread::of(&firsts),
            first_bytes: most(&|r| r.first_bytes),
            tracker: runs.last().map_or_else(String::new, |r| r.tracker.clone()),
        }
    }
}

/// The largest of the samples around `place` (0 to 1) of the run: a tenth of them.
fn around(samples: &[u64], place: f64) -> u64 {
    let n = samples.len();
    let from = ((place - 0.05) * n as f64).round().max(0.0) as usize;
    let to = (((place + 0.05) * n as f64).round() as usize).clamp((from + 1).min(n), n);
    samples
        .get(from..to)
        .and_then(|s| s.iter().max())
        .copied()
        .unwrap_or(0)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::Phases;

    fn row(at_ms: f64, skipped: u32) -> Row {
        Row {
            tick: Tick {
                at_ns: (at_ms * 1e6) as u64,
                skipped,
                dirty_pages: 10,
                phases: Phases {
                    stop: 30_000,
                    copy: 70_000,
                    ..Phases::default()
                },
                precopy_pause_ns: 50_000,
                ..Tick::default()
            },
            stored_bytes: 4096,
            raw_bytes: 40_960,
            ..Row::default()
        }
    }

    #[test]
    fn steady_ticks_have_no_growing_lag() {
        let rows: Vec<Row> = (0..100).map(|i| row(f64::from(i) * 10.0, 0)).collect();
        let lag = Lag::of(&rows, 100.0);
        assert!(
            (lag.first_hz - 100.0).abs() < 0.1 && (lag.last_hz - 100.0).abs() < 0.1,
            "{lag:?}"
        );
        assert!(
            lag.first_ms.abs() < 0.01 && lag.last_ms.abs() < 0.01,
            "{lag:?}"
        );
    }

    #[test]
    fn skipped_ticks_keep_the_schedule() {
        // Every second tick is skipped: half the rate, and no lag.
        let rows: Vec<Row> = (0..100)
            .map(|i| row(f64::from(i) * 20.0, u32::from(i > 0)))
            .collect();
        let lag = Lag::of(&rows, 100.0);
        assert!(
            (lag.last_hz - 50.0).abs() < 0.1 && lag.last_ms.abs() < 0.01,
            "{lag:?}"
        );
    }

    #[test]
    fn a_recorder_that_falls_behind_is_seen() {
        let rows: Vec<Row> = (0..100).map(|i| row(f64::from(i) * 11.0, 0)).collect();
        let lag = Lag::of(&rows, 100.0);
        assert!(lag.last_ms - lag.first_ms > 70.0, "{lag:?}");
        assert_eq!(Lag::of(&rows[..5], 100.0), Lag::default());
    }

    #[test]
    fn runs_are_pooled() {
        let run = Run {
            rows: (0..10).map(|i| row(f64::from(i) * 10.0, 1)).collect(),
            seconds: 0.1,
            watched: Watched {
                cpu_seconds: 0.05,
                resident: (1..=100).collect(),
                peak: 120,
                window: (0, 0),
            },
            slowdown: 1.5,
            ..Run::default()
        };
        let other = Run {
            slowdown: 1.1,
            ..run.clone()
        };
        let figures = Figures::of(&[run, other], 100.0);
        assert_eq!((figures.checkpoints, figures.skipped), (20, 20));
        assert!((figures.hz - 100.0).abs() < 1e-9 && (figures.slowdown.median - 1.3).abs() < 1e-9);
        assert!((figures.pause_us.p50 - 100.0).abs() < 1e-9);
        let all = figures.phases.last().unwrap();
        assert!(all.phase == "all stops" && (all.us.p50 - 150.0).abs() < 1e-9);
        assert!(
            (figures.stored_ratio - 0.1).abs() < 1e-9
                && (figures.recorder_cores - 0.5).abs() < 1e-9
        );
        assert_eq!(
            (
                figures.resident_middle,
                figures.resident_end,
                figures.resident_peak
            ),
            (55, 100, 120)
        );
        assert_eq!(Figures::of(&[], 100.0).checkpoints, 0);
    }
}
