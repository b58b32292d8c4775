//! The marks the project set itself, and how what was measured compares with them.
//!
//! Judging is pure: cells and peers in, verdicts out. A mark about a setting that was not measured
//! is `not measured`, never met.

use crate::args::WorkloadName as W;
use crate::figures::Figures;
use crate::measure::Cell;
use crate::peers::Peer;
use serde::Serialize;

/// How a figure compares with its mark.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[serde(rename_all = "kebab-case")]
pub enum Verdict {
    /// At or beyond it.
    Met,
    /// Short of it.
    Missed,
    /// There is no figure.
    NotMeasured,
    /// There is a figure and no mark for it.
    Reported,
}

impl Verdict {
    /// As tables say it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Met => "met",
            Self::Missed => "MISSED",
            Self::NotMeasured => "not measured",
            Self::Reported => "reported",
        }
    }
}

/// A mark and what became of it.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct Mark {
    /// The figure.
    pub figure: String,
    /// What it is held to.
    pub mark: String,
    /// What was measured.
    pub measured: String,
    /// How the two compare.
    pub verdict: Verdict,
}

/// Holds a figure to its mark: (what was measured, whether that is at or beyond the mark).
pub(crate) fn mark(
    figure: impl Into<String>,
    mark: impl Into<String>,
    measured: Option<(String, bool)>,
) -> Mark {
    let (measured, verdict) = match measured {
        None => ("-".to_owned(), Verdict::NotMeasured),
        Some((text, true)) => (text, Verdict::Met),
        Some((text, false)) => (text, Verdict::Missed),
    };
    Mark {
        figure: figure.into(),
        mark: mark.into(),
        measured,
        verdict,
    }
}

/// All marks.
pub fn judge(cells: &[Cell], peers: &[Peer]) -> Vec<Mark> {
    let mut marks = slowdowns(cells);
    marks.extend(pauses(cells));
    marks.extend(rates(cells));
    marks.extend(speculation(cells));
    marks.extend(bytes(cells));
    marks.push(memory(cells));
    marks.push(criu(peers));
    marks
}

fn slowdowns(cells: &[Cell]) -> Vec<Mark> {
    let limits = [(10.0, 1.01), (50.0, 1.03), (100.0, 1.05), (1000.0, 1.15)];
    let mut marks = Vec::new();
    for workload in [W::Pricing, W::Annealing] {
        for (hz, limit) in limits {
            let found = cells.iter().find(|c| {
                c.setting.workload == workload && c.setting.threads == 2 && c.setting.hz == hz
            });
            marks.push(mark(
                format!("{} t2 at {hz} Hz: slowdown", workload.as_str()),
                format!("<= {limit}"),
                found.and_then(Cell::default_way).map(|f| {
                    let s = f.slowdown;
                    (
                        format!("{:.3} ({:.3} to {:.3})", s.median, s.min, s.max),
                        s.median <= limit,
                    )
                }),
            ));
        }
    }
    marks
}

/// The random writer of the marks for pauses: 1,000 pages, two threads, nearest to 100 Hz.
fn writer(cells: &[Cell], mib: u32) -> Option<&Figures> {
    let far = |c: &&Cell| ((c.setting.hz / 100.0).ln().abs() * 1e6) as u64;
    cells
        .iter()
        .filter(|c| c.setting.workload == W::Random && !c.setting.long)
        .filter(|c| (c.setting.mib, c.setting.dirty, c.setting.threads) == (mib, 1000, 2))
        .min_by_key(far)
        .and_then(Cell::default_way)
}

fn pauses(cells: &[Cell]) -> Vec<Mark> {
    let small = writer(cells, 1024);
    let mut marks = vec![mark(
        "pause at 1 GiB, 1,000 dirty pages, t2",
        "p50 <= 0.4 ms, p99 <= 1 ms",
        small.map(|f| {
            let (p50, p99) = (f.pause_us.p50 / 1e3, f.pause_us.p99 / 1e3);
            // A pause moved into another stop is still a pause.
            let other = f.account.other_stops_us.p99 / 1e3;
            (
                format!("p50 {p50:.2} ms, p99 {p99:.2} ms; other stops p99 {other:.2} ms"),
                p50 <= 0.4 && p99.max(other) <= 1.0,
            )
        }),
    )];
    let both = small.zip(writer(cells, 8192));
    let mut eight = mark(
        "same with 8 GiB, over the 1 GiB pause",
        "<= 1.5 with tracker bpf",
        both.map(|(one, eight)| {
            let ratio = eight.pause_us.p50 / one.pause_us.p50;
            let text = format!(
                "{ratio:.2} (p50 {:.2} ms, tracker {})",
                eight.pause_us.p50 / 1e3,
                eight.tracker
            );
            (text, ratio <= 1.5)
        }),
    );
    if both.is_some_and(|(_, eight)| !eight.tracker.contains("bpf")) {
        eight.verdict = Verdict::Reported;
    }
    marks.push(eight);
    marks
}

fn rates(cells: &[Cell]) -> Vec<Mark> {
    let asked: Vec<&Cell> = cells
        .iter()
        .filter(|c| {
            c.setting.workload == W::Random && c.setting.hz == 1000.0 && c.setting.dirty == 500
        })
        .collect();
    let worst = asked
        .iter()
        .filter_map(|c| c.default_way().map(|f| (c, f)))
        .min_by(|a, b| a.1.hz.total_cmp(&b.1.hz));
    let long = asked
        .iter()
        .filter(|c| c.setting.seconds >= 300.0)
        .find_map(|c| c.default_way());
    vec![
        mark(
            "rate reached at 1000 Hz, 500 dirty pages",
            ">= 950 Hz",
            worst.map(|(c, f)| (format!("{:.0} Hz ({})", f.hz, c.label), f.hz >= 950.0)),
        ),
        mark(
            "lag over 5 minutes of it",
            "no growth",
            long.map(|f| {
                let grown = f.lag.last_ms - f.lag.first_ms;
                let text = format!(
                    "{grown:+.2} ms; {:.0} Hz at first, {:.0} at last",
                    f.lag.first_hz, f.lag.last_hz
                );
                // A period, and a fiftieth of the rate: what neighbours on the machine cause.
                (text, grown <= 1.0 && f.lag.last_hz >= f.lag.first_hz * 0.98)
            }),
        ),
    ]
}

fn speculation(cells: &[Cell]) -> Vec<Mark> {
    let pairs: Vec<(&Cell, &Figures, &Figures)> = cells
        .iter()
        .filter_map(|c| Some((c, c.default_way()?, c.way("none")?)))
        .collect();
    let measured = !pairs.is_empty();
    let dearer: Vec<String> = pairs
        .iter()
        // Beyond noise: even its best run is worse than the worst one without.
        .filter(|(_, ours, none)| ours.slowdown.min > none.slowdown.max)
        .map(|(c, ..)| format!("{} at {} Hz", c.label, c.setting.hz))
        .collect();
    let mut saved: Vec<W> = Vec::new();
    let mut best = 0.0f64;
    for (cell, ours, none) in &pairs {
        let (with, without) = (ours.slowdown.median - 1.0, none.slowdown.median - 1.0);
        // A saving on next to no cost is noise.
        if without < 0.02 {
            continue;
        }
        let share = 1.0 - with / without;
        best = best.max(share);
        if share >= 0.15 && !saved.contains(&cell.setting.workload) {
            saved.push(cell.setting.workload);
        }
    }
    vec![
        mark(
            "speculation against none: dearer",
            "on no workload",
            measured.then(|| {
                let text = if dearer.is_empty() {
                    format!("on none of {}", pairs.len())
                } else {
                    dearer.join(", ")
                };
                (text, dearer.is_empty())
            }),
        ),
        mark(
            "speculation against none: added cost saved",
            ">= 15 % on two workloads",
            measured.then(|| {
                let names: Vec<&str> = saved.iter().map(|w| w.as_str()).collect();
                let text = format!(
                    "on {} ({}), best {:.0} %",
                    names.len(),
                    names.join(", "),
                    best * 100.0
                );
                (text, names.len() >= 2)
            }),
        ),
    ]
}

fn bytes(cells: &[Cell]) -> Vec<Mark> {
    let limit = |w| match w {
        W::Redis | W::Sqlite | W::Annealing => Some(("1/10", 0.1)),
        W::Pricing | W::Market | W::Python => Some(("1/4", 0.25)),
        W::Random => None,
    };
    [
        W::Redis,
        W::Sqlite,
        W::Annealing,
        W::Pricing,
        W::Market,
        W::Python,
    ]
    .into_iter()
    .filter_map(|w| {
        let (text, most) = limit(w)?;
        let worst = cells
            .iter()
            .filter(|c| c.setting.workload == w)
            .filter_map(|c| Some((c, c.default_way()?.stored_ratio)))
            .max_by(|a, b| a.1.total_cmp(&b.1));
        Some(mark(
            format!("{}: bytes stored over raw dirty bytes", w.as_str()),
            format!("<= {text}"),
            worst.map(|(c, ratio)| {
                (
                    format!(
                        "{ratio:.3} (worst: t{} at {} Hz)",
                        c.setting.threads, c.setting.hz
                    ),
                    ratio <= most,
                )
            }),
        ))
    })
    .collect()
}

fn memory(cells: &[Cell]) -> Mark {
    let mib = |bytes: u64| bytes as f64 / f64::from(1u32 << 20);
    let longest = cells
        .iter()
        .filter(|c| c.default_way().is_some_and(|f| f.resident_end > 0))
        .max_by(|a, b| a.setting.seconds.total_cmp(&b.setting.seconds));
    mark(
        "recorder memory: growth from the middle to the end",
        "none",
        longest
            .and_then(|c| Some((c, c.default_way()?)))
            .map(|(c, f)| {
                let (middle, end) = (mib(f.resident_middle), mib(f.resident_end));
                (
                    format!(
                        "{middle:.0} -> {end:.0} MiB in {:.0} s of {}; peak {:.0}",
                        c.setting.seconds,
                        c.label,
                        mib(f.resident_peak)
                    ),
                    end <= middle * 1.05 + 4.0,
                )
            }),
    )
}

fn criu(peers: &[Peer]) -> Mark {
    let worst = peers
        .iter()
        .filter(|p| p.name.starts_with("CRIU"))
        .flat_map(|p| &p.cases)
        .filter(|c| c.what == "dump")
        .filter_map(|c| Some((c, c.ratio()?)))
        .max_by(|a, b| a.1.total_cmp(&b.1));
    mark(
        "pause over CRIU's frozen time, same process",
        "<= 1/50",
        worst.map(|(c, ratio)| {
            (
                format!(
                    "1/{:.0} ({}; CRIU {:.1} ms)",
                    1.0 / ratio,
                    c.target,
                    c.frozen_us / 1e3
                ),
                ratio <= 1.0 / 50.0,
            )
        }),
    )
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::measure::WayResult;
    use crate::peers::PeerCase;
    use crate::plan::{Setting, Way};
    use crate::stats::{Distribution, Spread};

    fn setting(workload: W, threads: u8, hz: f64) -> Setting {
        Setting {
            workload,
            threads,
            hz,
            mib: 0,
            dirty: 0,
            closed_rounds: None,
            small: false,
            seconds: 5.0,
            pairs: 3,
            long: false,
        }
    }

    fn cell(setting: Setting, figures: &[(&str, Figures)]) -> Cell {
        Cell {
            setting,
            label: setting.label(),
            units: 1,
            bare_seconds: Spread::default(),
            bare_pages_per_second: None,
            ways: figures
                .iter()
                .map(|(name, figures)| WayResult {
                    way: Way {
                        name: (*name).to_owned(),
                        args: Vec::new(),
                    },
                    figures: figures.clone(),
                })
                .collect(),
        }
    }

    fn slowed(median: f64) -> Figures {
        Figures {
            slowdown: Spread {
                median,
                min: median - 0.01,
                max: median + 0.01,
            },
            ..Figures::default()
        }
    }

    fn find<'a>(marks: &'a [Mark], part: &str) -> &'a Mark {
        marks.iter().find(|m| m.figure.contains(part)).unwrap()
    }

    #[test]
    fn nothing_measured_is_nothing_met() {
        let marks = judge(&[], &[]);
        assert_eq!(marks.len(), 8 + 2 + 2 + 2 + 6 + 1 + 1);
        assert!(
            marks.iter().all(|m| m.verdict == Verdict::NotMeasured),
            "{marks:?}"
        );
    }

    #[test]
    fn slowdowns_are_held_to_the_mark_of_their_rate() {
        let cells = [
            cell(setting(W::Pricing, 2, 10.0), &[("default", slowed(1.01))]),
            cell(setting(W::Pricing, 2, 50.0), &[("default", slowed(1.031))]),
            cell(
                setting(W::Annealing, 2, 1000.0),
                &[("default", slowed(1.15))],
            ),
            cell(setting(W::Annealing, 3, 100.0), &[("default", slowed(1.0))]),
        ];
        let marks = judge(&cells, &[]);
        assert_eq!(find(&marks, "pricing t2 at 10 Hz").verdict, Verdict::Met);
        assert_eq!(find(&marks, "pricing t2 at 50 Hz").verdict, Verdict::Missed);
        assert_eq!(
            find(&marks, "annealing t2 at 1000 Hz").verdict,
            Verdict::Met
        );
        assert_eq!(
            find(&marks, "annealing t2 at 100 Hz").verdict,
            Verdict::NotMeasured
        );
    }

    #[test]
    fn pauses_need_both_percentiles_and_the_right_tracker() {
        let paused = |p50: f64, p99: f64, tracker: &str| Figures {
            pause_us: Distribution {
                p50,
                p99,
                ..Distribution::default()
            },
            tracker: tracker.to_owned(),
            ..Figures::default()
        };
        let random = |mib| Setting {
            mib,
            dirty: 1000,
            ..setting(W::Random, 2, 100.0)
        };
        let judged = |p99, tracker| {
            judge(
                &[
                    cell(random(1024), &[("default", paused(400.0, p99, tracker))]),
                    cell(random(8192), &[("default", paused(700.0, p99, tracker))]),
                ],
                &[],
            )
        };
        let marks = judged(1000.0, "wp-async");
        assert_eq!(find(&marks, "pause at 1 GiB").verdict, Verdict::Met);
        assert_eq!(find(&marks, "8 GiB").verdict, Verdict::Reported);
        let mut moved = paused(100.0, 200.0, "wp-async");
        moved.account.other_stops_us.p99 = 1001.0;
        let marks = judge(&[cell(random(1024), &[("default", moved)])], &[]);
        assert_eq!(find(&marks, "pause at 1 GiB").verdict, Verdict::Missed);
        let marks = judged(1001.0, "bpf");
        assert_eq!(find(&marks, "pause at 1 GiB").verdict, Verdict::Missed);
        assert_eq!(find(&marks, "8 GiB").verdict, Verdict::Missed);
    }

    #[test]
    fn speculation_needs_two_workloads_and_no_victim() {
        let both = |ours, none| [("default", slowed(ours)), ("none", slowed(none))];
        let two = [
            cell(setting(W::Pricing, 2, 100.0), &both(1.04, 1.05)),
            cell(setting(W::Annealing, 2, 100.0), &both(1.08, 1.10)),
            cell(setting(W::Redis, 1, 100.0), &both(1.011, 1.011)),
        ];
        let marks = judge(&two, &[]);
        assert_eq!(find(&marks, "dearer").verdict, Verdict::Met);
        assert_eq!(find(&marks, "saved").verdict, Verdict::Met);
        let mut victim = two.to_vec();
        victim[2] = cell(setting(W::Redis, 1, 100.0), &both(1.20, 1.10));
        let marks = judge(&victim, &[]);
        assert_eq!(find(&marks, "dearer").verdict, Verdict::Missed);
        let marks = judge(&two[1..], &[]);
        assert_eq!(find(&marks, "saved").verdict, Verdict::Missed);
    }

    #[test]
    fn rates_and_lag() {
        let run = |hz, seconds, grown| {
            let mut figures = Figures {
                hz,
                ..Figures::default()
            };
            (figures.lag.first_hz, figures.lag.last_hz) = (hz, hz);
            figures.lag.last_ms = grown;
            let setting = Setting {
                mib: 1024,
                dirty: 500,
                seconds,
                ..setting(W::Random, 2, 1000.0)
            };
            judge(&[cell(setting, &[("default", figures)])], &[])
        };
        let marks = run(951.0, 300.0, 0.5);
        assert_eq!(find(&marks, "rate reached").verdict, Verdict::Met);
        assert_eq!(find(&marks, "lag").verdict, Verdict::Met);
        let marks = run(949.0, 300.0, 5.0);
        assert_eq!(find(&marks, "rate reached").verdict, Verdict::Missed);
        assert_eq!(find(&marks, "lag").verdict, Verdict::Missed);
        assert_eq!(
            find(&run(999.0, 10.0, 0.0), "lag").verdict,
            Verdict::NotMeasured
        );
    }

    #[test]
    fn bytes_are_those_of_the_worst_setting() {
        let stored = |ratio| Figures {
            stored_ratio: ratio,
            ..Figures::default()
        };
        let cells = [
            cell(setting(W::Redis, 1, 10.0), &[("default", stored(0.05))]),
            cell(setting(W::Redis, 1, 100.0), &[("default", stored(0.11))]),
            cell(setting(W::Python, 1, 100.0), &[("default", stored(0.2))]),
        ];
        let marks = judge(&cells, &[]);
        assert_eq!(find(&marks, "redis: bytes").verdict, Verdict::Missed);
        assert_eq!(find(&marks, "python: bytes").verdict, Verdict::Met);
    }

    #[test]
    fn memory_and_criu() {
        let figures = Figures {
            resident_middle: 100 << 20,
            resident_end: 130 << 20,
            ..Figures::default()
        };
        let peer = Peer {
            name: "CRIU 4".to_owned(),
            trouble: Vec::new(),
            cases: vec![PeerCase {
                target: "x".to_owned(),
                what: "dump".to_owned(),
                frozen_us: 50_000.0,
                our_pause_us: Some(400.0),
                slowdown: None,
                hz: None,
                note: String::new(),
            }],
        };
        let marks = judge(
            &[cell(setting(W::Redis, 1, 10.0), &[("default", figures)])],
            &[peer],
        );
        assert_eq!(find(&marks, "memory").verdict, Verdict::Missed);
        assert_eq!(find(&marks, "CRIU").verdict, Verdict::Met);
        assert!(find(&marks, "CRIU").measured.starts_with("1/125"));
    }
}
