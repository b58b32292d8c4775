//! Runs one setting: without recording, with it, without, with it, ...
//!
//! Runs alternate so that drift of the machine falls on all ways alike, and the order within a
//! round turns with each round. Every run is a process of its own that does the same work from the
//! same state; slowdown is the ratio of its own elapsed times. The recorder is attached, and has its
//! full first checkpoint behind it, before the measured work begins.

use crate::accounts::Accounts;
use crate::figures::{Figures, Run};
use crate::load;
use crate::plan::{Setting, Way};
use crate::process::cpu_seconds;
use crate::recorder::Recorder;
use crate::stats::Spread;
use crate::targets::Outcome;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use std::path::PathBuf;
use stillframe_store::Recording;

/// How one way of recording did in a setting.
#[derive(Clone, Debug, Serialize)]
pub struct WayResult {
    /// How it was recorded.
    pub way: Way,
    /// Its figures.
    pub figures: Figures,
}

/// A measured setting.
#[derive(Clone, Debug, Serialize)]
pub struct Cell {
    /// What was measured.
    pub setting: Setting,
    /// What tables call it.
    pub label: String,
    /// Units of work in each run.
    pub units: u64,
    /// Seconds that a run took without recording.
    pub bare_seconds: Spread,
    /// Pages that the target says it wrote per second without recording, where it counts them.
    pub bare_pages_per_second: Option<f64>,
    /// The ways of recording; the first is the default.
    pub ways: Vec<WayResult>,
}

impl Cell {
    /// The figures of a way of recording.
    pub fn way(&self, name: &str) -> Option<&Figures> {
        self.ways
            .iter()
            .find(|w| w.way.name == name)
            .map(|w| &w.figures)
    }

    /// The figures of the default way.
    pub fn default_way(&self) -> Option<&Figures> {
        self.ways.first().map(|w| &w.figures)
    }
}

/// Where and with what to measure.
#[derive(Clone, Debug)]
pub struct Bench {
    /// The `still` that records.
    pub recorder: PathBuf,
    /// For recordings and the programs' own files.
    pub dir: PathBuf,
    /// Whether recordings stay.
    pub keep: bool,
    /// The ways to record.
    pub ways: Vec<Way>,
}

impl Bench {
    /// Measures a setting. `say` hears about progress.
    ///
    /// # Errors
    /// If a run fails.
    pub fn cell(&self, setting: &Setting, say: &mut dyn FnMut(&str)) -> Result<Cell> {
        let mut setting = *setting;
        let units = self.calibrate(&mut setting)?;
        // The long run is about the default alone.
        let ways = &self.ways[..if setting.long { 1 } else { self.ways.len() }];
        let mut bare = Vec::new();
        let mut pages = None;
        let mut runs: Vec<Vec<Run>> = vec![Vec::new(); ways.len()];
        for round in 0..setting.pairs as usize {
            // Place 0 is the run without recording.
            let places = ways.len() + 1;
            let mut times = vec![0.0; places];
            let mut cpus = vec![0.0; places];
            for turn in 0..places {
                let place = (turn + round) % places;
                say(&format!(
                    "{} at {} Hz, round {} of {}: {}",
                    setting.label(),
                    setting.hz,
                    round + 1,
                    setting.pairs,
                    if place == 0 {
                        "not recorded"
                    } else {
                        &ways[place - 1].name
                    }
                ));
                if place == 0 {
                    let (outcome, cpu) = self.bare(&setting, units)?;
                    times[0] = outcome.seconds;
                    cpus[0] = cpu;
                    bare.push(outcome.seconds);
                    pages = outcome.pages_written.map(|p| p as f64 / outcome.seconds);
                } else {
                    let name = format!(
                        "{}-{}hz-{}-{round}",
                        setting.label().replace(' ', "-"),
                        setting.hz,
                        ways[place - 1].name
                    );
                    let (run, cpu) = self.recorded(&setting, units, &ways[place - 1], &name)?;
                    cpus[place] = cpu;
                    times[place] = run.seconds;
                    runs[place - 1].push(run);
                }
            }
            for (way, of_way) in runs.iter_mut().enumerate() {
                if let Some(run) = of_way.last_mut() {
                    run.slowdown = times[way + 1] / times[0];
                    run.cpu_slowdown = cpus[way + 1] / cpus[0].max(1e-3);
                }
            }
        }
        Ok(Cell {
            setting,
            label: setting.label(),
            units,
            bare_seconds: Spread::of(&bare),
            bare_pages_per_second: pages,
            ways: ways
                .iter()
                .zip(&runs)
                .map(|(way, runs)| WayResult {
                    way: way.clone(),
                    figures: Figures::of(runs, setting.hz),
                })
                .collect(),
        })
    }

    /// Finds the units of work that take as long as the setting asks for when nobody records, and
    /// the arithmetic between the writes of a closed loop.
    ///
    /// # Errors
    /// If the program fails.
    pub fn calibrate(&self, setting: &mut Setting) -> Result<u64> {
        if setting.closed_rounds.is_some() {
            // Rounds so that the loop, when not recorded, writes as often as the paced one would:
            // from the speed of a loop that is nearly all arithmetic.
            const ROUNDS: u64 = 10_000;
            let probe = Setting {
                closed_rounds: Some(ROUNDS),
                mib: 1,
                ..*setting
            };
            let (units, seconds) = self.probe(&probe)?;
            let per_thread = setting.pages_per_second() / f64::from(setting.threads);
            let rounds_per_second =
                units as f64 * ROUNDS as f64 / seconds / f64::from(setting.threads);
            setting.closed_rounds = Some((rounds_per_second / per_thread.max(1e-3)) as u64);
        }
        let (units, seconds) = self.probe(setting)?;
        Ok(((units as f64 * setting.seconds / seconds) as u64).max(1))
    }

    /// Doubles the work until it takes long enough to judge: (units, seconds).
    fn probe(&self, setting: &Setting) -> Result<(u64, f64)> {
        let enough = (setting.seconds / 4.0).clamp(0.05, 0.5);
        let dir = self.scratch()?;
        let mut load = load::start(setting, dir.path(), None)?;
        let mut units = 4;
        let found = loop {
            let outcome = load.run(units)?;
            ensure!(
                outcome.seconds.is_finite() && units < 1 << 50,
                "{} does no work",
                setting.label()
            );
            if outcome.seconds >= enough {
                break (units, outcome.seconds);
            }
            units *= if outcome.seconds < enough / 16.0 {
                8
            } else {
                2
            };
        };
        load.end()?;
        Ok(found)
    }

    /// A run without recording, and the CPU time it took in seconds.
    ///
    /// # Errors
    /// If the program fails.
    pub fn bare(&self, setting: &Setting, units: u64) -> Result<(Outcome, f64)> {
        let dir = self.scratch()?;
        let mut load = load::start(setting, dir.path(), None)?;
        let before = cpu_seconds(load.pid())?;
        let outcome = load.run(units)?;
        let cpu = cpu_seconds(load.pid())? - before;
        load.end()?;
        Ok((outcome, cpu))
    }

    fn recorded(&self, setting: &Setting, units: u64, way: &Way, name: &str) -> Result<(Run, f64)> {
        let dir = self.scratch()?;
        let mut load = load::start(setting, dir.path(), None)?;
        let place = self.dir.join(format!("{name}.still"));
        let recording = if self.keep {
            place
        } else {
            dir.path().join("run.still")
        };
        let mut recorder = Recorder::start(
            &self.recorder,
            load.pid(),
            setting.hz,
            &way.args,
            &recording,
        )?;
        let first_seconds = recorder.settle()?;
        let before = cpu_seconds(load.pid())?;
        let (outcome, watched) = recorder.watch(|| load.run(units))?;
        let cpu = cpu_seconds(load.pid())? - before;
        load.end()?;
        let summary = recorder.finish()?;
        let opened =
            Recording::open(&recording).with_context(|| recording.display().to_string())?;
        let (begin, end) = watched.window;
        let rows: Vec<_> = opened
            .rows()
            .iter()
            .filter(|row| (begin..=end).contains(&row.tick.wall_ns))
            .copied()
            .collect();
        ensure!(
            !rows.is_empty(),
            "no checkpoint was taken during the run of {}",
            setting.label()
        );
        let mut accounts = Accounts::default();
        for row in &rows {
            accounts.add(&opened.account(row.id)?);
        }
        let run = Run {
            rows,
            accounts,
            seconds: outcome.seconds,
            watched,
            first_seconds,
            first_bytes: opened.rows().first().map_or(0, |row| row.stored_bytes),
            peak: summary["recorder_peak_bytes"].as_u64().unwrap_or(0),
            slowdown: 0.0,
            cpu_slowdown: 0.0,
            tracker: opened.header().tracker.clone(),
        };
        Ok((run, cpu))
    }

    /// A directory that is gone when dropped.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn scratch(&self) -> Result<tempfile::TempDir> {
        tempfile::Builder::new()
            .prefix("still-bench-")
            .tempdir_in(&self.dir)
            .with_context(|| format!("cannot write into {}", self.dir.display()))
    }
}
