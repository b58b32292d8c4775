//! A live process taken back to earlier moments of itself.
//!
//! The targets compute something that depends on nothing but their own memory, registers and threads,
//! check themselves all the while, and must end with the same result as without us, however often and
//! to whatever moments they were taken back. Every rollback is made with `--paranoid`: all that was
//! put back is read back and compared before the first instruction.

mod hostile;
mod programs;

use crate::process::{PATIENCE, Running, command};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde::Deserialize;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "rollback::alone",
        about: "a process that nobody records goes back to random moments, same result",
        run: alone,
    },
    Scenario {
        name: "rollback::recorded",
        about: "a process goes back while it is recorded, and the recording goes on",
        run: recorded,
    },
    Scenario {
        name: "rollback::maps",
        about: "memory mapped, unmapped, moved and protected since",
        run: maps,
    },
    Scenario {
        name: "rollback::threads",
        about: "four threads that make others which end: begun and ended since",
        run: threads,
    },
    Scenario {
        name: "rollback::hundred",
        about: "one process goes back dozens of times, to few and to many moments",
        run: hundred,
    },
    Scenario {
        name: "rollback::exact_recording",
        about: "what a recorder takes after rollbacks equals memory, with every tracker there is",
        run: exact_recording,
    },
    Scenario {
        name: "rollback::signals",
        about: "signals queued then and since, masks, actions, alternate stacks, names",
        run: hostile::signals,
    },
    Scenario {
        name: "rollback::identity",
        about: "another process, or another program, is refused and runs on",
        run: hostile::identity,
    },
    Scenario {
        name: "rollback::killed",
        about: "we are killed midway: the process stands, goes back again, and ends rightly",
        run: hostile::killed,
    },
    Scenario {
        name: "rollback::failing",
        about: "a step fails midway: all is put back, the process is stopped, and ends rightly",
        run: hostile::failing,
    },
    Scenario {
        name: "rollback::redis",
        about: "a client stays connected while redis-server goes back, and sees the older data",
        run: programs::redis,
    },
];

/// What `still rollback --json` says.
#[derive(Clone, Debug, Deserialize)]
pub struct Said {
    /// Pages written.
    pub pages: u64,
    /// Changes of mappings.
    pub mappings: u64,
    /// Threads ended.
    pub threads_ended: u64,
    /// Threads begun.
    pub threads_begun: u64,
    /// Time the process stood still.
    pub milliseconds: f64,
    /// Pages compared.
    pub pages_compared: Option<u64>,
    /// The checkpoint of the present.
    pub present: Option<u64>,
}

/// Sums over rollbacks.
#[derive(Clone, Debug, Default)]
pub struct Sums {
    count: u64,
    pages: u64,
    mappings: u64,
    ended: u64,
    begun: u64,
    compared: u64,
    ms: Vec<f64>,
}

impl Sums {
    fn add(&mut self, said: &Said) {
        self.count += 1;
        self.pages += said.pages;
        self.mappings += said.mappings;
        self.ended += said.threads_ended;
        self.begun += said.threads_begun;
        self.compared += said.pages_compared.unwrap_or(0);
        self.ms.push(said.milliseconds);
    }

    fn told(&self) -> String {
        let mut ms = self.ms.clone();
        ms.sort_by(f64::total_cmp);
        let at = |q: usize| ms.get(ms.len() * q / 100).copied().unwrap_or(0.0);
        format!(
            "rollbacks {} pages {} mappings {} threads ended {} begun {} pages compared {} ms p50 \
             {:.1} max {:.1}",
            self.count,
            self.pages,
            self.mappings,
            self.ended,
            self.begun,
            self.compared,
            at(50),
            ms.last().copied().unwrap_or(0.0)
        )
    }
}

/// Takes a process back, everything compared.
pub fn back(dir: &Path, pid: u32, rec: &Path, to: &str) -> Result<Said> {
    let mut args = vec!["rollback".into(), "--paranoid".into(), "--json".into()];
    args.push(pid.to_string().into());
    args.push(still::moment(rec, to));
    let (status, out, err) = still::run(dir, &args)?;
    ensure!(
        status.success(),
        "rollback to {to}: {status}: {}",
        still::tail(&err)
    );
    let said: Said = serde_json::from_str(&out).with_context(|| out.clone())?;
    ensure!(
        said.pages_compared.unwrap_or(0) > 0,
        "no page was compared: {out}"
    );
    Ok(said)
}

/// The target `rollback.c` at work.
pub struct Target {
    /// It.
    pub run: Running,
    /// Its number.
    pub pid: u32,
    options: Vec<String>,
}

impl Target {
    /// Starts it.
    pub fn start(dir: &Path, options: &[&str]) -> Result<Self> {
        let options: Vec<String> = options.iter().map(|o| (*o).to_owned()).collect();
        let mut run = Running::start(&mut command(place::target("rollback.c")?, &options), dir)?;
        let pid = run.ready()?;
        Ok(Self { run, pid, options })
    }

    /// Whether its work is done, or is so within a second.
    fn is_over(&mut self) -> Result<bool> {
        for _ in 0..50 {
            if let Some(status) = self.run.ended()? {
                return Ok(status.success());
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        Ok(false)
    }

    /// Waits for its end, and checks its result against that of a run without us.
    pub fn same_result(mut self, dir: &Path) -> Result<()> {
        self.run.verdict()?;
        let mut other = Self::start(
            dir,
            &self.options.iter().map(String::as_str).collect::<Vec<_>>(),
        )?;
        other.run.verdict()?;
        let result = |r: &Running| r.stdout().lines().last().map(str::to_owned);
        ensure!(
            result(&self.run) == result(&other.run),
            "the result is {:?}, and {:?} without rollbacks",
            result(&self.run),
            result(&other.run)
        );
        Ok(())
    }
}

/// Attaches to a process until it has so many checkpoints; it runs on.
pub fn record(dir: &Path, pid: u32, checkpoints: u64) -> Result<PathBuf> {
    let rec = still::fresh(dir, "run.still");
    let count = checkpoints.to_string();
    let mut recorder = still::attach(dir, &["--hz", "50", "--count", &count], &rec, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    Ok(rec)
}

/// Rolls a target back that nobody records.
fn without_recorder(options: &[&str], times: u64, checkpoints: u64) -> Result<Sums> {
    let dir = place::scratch()?;
    let target = Target::start(dir.path(), options)?;
    let rec = record(dir.path(), target.pid, checkpoints)?;
    let (mut random, _) = Random::seeded();
    let mut sums = Sums::default();
    for _ in 0..times {
        std::thread::sleep(Duration::from_millis(random.below(30)));
        let to = random.below(checkpoints).to_string();
        let said = back(dir.path(), target.pid, &rec, &to)
            .with_context(|| format!("after {}", sums.told()))?;
        sums.add(&said);
    }
    crate::process::left_alone(target.pid)?;
    target.same_result(dir.path())?;
    Ok(sums)
}

/// Rolls a target back through its recorder.
fn with_recorder(options: &[&str], recorder: &[&str], times: u64) -> Result<Sums> {
    let dir = place::scratch()?;
    let mut target = Target::start(dir.path(), options)?;
    let rec = still::fresh(dir.path(), "run.still");
    let mut recorder = still::attach(dir.path(), recorder, &rec, target.pid)?;
    let mut over = None;
    crate::process::wait_for("there are checkpoints", || {
        over = recorder.ended().ok().flatten();
        over.is_some() || Recording::open(&rec).is_ok_and(|r| r.rows().len() > 10)
    })?;
    if let Some(status) = over {
        anyhow::bail!(
            "the recorder ended: {status} {}",
            still::tail(&recorder.stderr())
        );
    }
    let (mut random, _) = Random::seeded();
    let mut sums = Sums::default();
    for done in 0..times {
        std::thread::sleep(Duration::from_millis(random.below(60)));
        let rows = Recording::open(&rec)?.rows().len() as u64;
        let to = random.below(rows).to_string();
        let said = match back(dir.path(), target.pid, &rec, &to) {
            Ok(said) => said,
            // Moments near its end leave it little to do. Whether that end is right is asked below.
            Err(_) if done > times / 4 && target.is_over()? => break,
            Err(error) => {
                let end = target.run.ended()?;
                let words = target.run.stdout();
                return Err(error.context(format!("after {}: {end:?} {words}", sums.told())));
            }
        };
        ensure!(said.present.is_some(), "the recorder was not asked");
        sums.add(&said);
        if let Some(status) = recorder.ended()? {
            anyhow::bail!(
                "the recorder ended: {status} {}",
                still::tail(&recorder.stderr())
            );
        }
    }
    if recorder.ended()?.is_none() {
        recorder.signal(Signal::INT)?;
    }
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let summary = still::summary(&recorder.stdout())?;
    if summary.paranoid.is_some() {
        summary.is_exact()?;
    }
    still::verify(dir.path(), &rec)?;
    target.same_result(dir.path())?;
    Ok(sums)
}

/// Options that make the target work for a while.
const ONE: &[&str] = &["--steps", "400000", "--pace", "400"];
const MAPS: &[&str] = &["--steps", "300000", "--pace", "500", "--maps", "1"];
const MANY: &[&str] = &[
    "--threads",
    "4",
    "--steps",
    "400000",
    "--pace",
    "800",
    "--helpers",
    "1",
    "--maps",
    "1",
];

fn times(length: &Length, short: u64) -> u64 {
    if length.full { short * 10 } else { short }
}

fn alone(length: &Length) -> Result<Outcome> {
    let sums = without_recorder(ONE, times(length, 20), 40)?;
    passed(sums.told())
}

fn recorded(length: &Length) -> Result<Outcome> {
    let sums = with_recorder(ONE, &["--hz", "50"], times(length, 20))?;
    passed(sums.told())
}

fn maps(length: &Length) -> Result<Outcome> {
    let alone = without_recorder(MAPS, times(length, 15), 40)?;
    let recorded = with_recorder(MAPS, &["--hz", "50"], times(length, 15))?;
    ensure!(
        alone.mappings + recorded.mappings > 0,
        "no mapping ever differed"
    );
    passed(format!("{}; recorded: {}", alone.told(), recorded.told()))
}

fn threads(length: &Length) -> Result<Outcome> {
    let alone = without_recorder(MANY, times(length, 20), 40)?;
    let recorded = with_recorder(MANY, &["--hz", "50"], times(length, 20))?;
    passed(format!("{}; recorded: {}", alone.told(), recorded.told()))
}

fn hundred(_: &Length) -> Result<Outcome> {
    let one = without_recorder(ONE, 50, 3)?;
    let many = with_recorder(MANY, &["--hz", "100"], 30)?;
    passed(format!("{}; {}", one.told(), many.told()))
}

fn exact_recording(length: &Length) -> Result<Outcome> {
    let mut told = Vec::new();
    for tracker in ["wp-async", "soft-dirty", "bpf"] {
        if tracker == "bpf" && !place::is_root() {
            continue;
        }
        let options = ["--paranoid", "--hz", "20", "--tracker", tracker];
        match with_recorder(MAPS, &options, times(length, 5)) {
            Ok(sums) => told.push(format!("{tracker}: {}", sums.told())),
            // Not every kernel has every tracker.
            Err(e) if format!("{e:#}").contains("cannot be used here") => {}
            Err(e) => return Err(e.context(tracker)),
        }
    }
    ensure!(!told.is_empty(), "no tracker could be used");
    passed(told.join("; "))
}
