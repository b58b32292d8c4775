//! `still bench policies`: what each policy for hot pages would have cost, simulated.
//!
//! Live runs with different policies are never the same run; these are. See
//! [`stillframe_capture::speculation::simulate`] for what is computed and how far it holds.

use crate::args::PoliciesBench;
use anyhow::{Context as _, Result, bail};
use serde::Serialize;
use std::fmt::Write as _;
use std::io::Write as _;
use std::path::Path;
use stillframe_capture::speculation::simulate::{Interval, Runs, compare};
use stillframe_capture::speculation::{Costs, NAMES, traces};
use stillframe_store::Recording;

/// Intervals of a made-up run.
const INTERVALS: u64 = 1000;

/// Pages copied in the stops of a recording from which their cost is computed, at least.
const ENOUGH: u64 = 1000;

/// One run in one situation. Microseconds of the target's time per interval.
#[derive(Debug, Serialize)]
struct Line {
    run: String,
    situation: &'static str,
    intervals: u64,
    pages_per_interval: f64,
    oracle_us: f64,
    policies: Vec<Cost>,
}

/// One policy.
#[derive(Debug, Serialize)]
struct Cost {
    name: &'static str,
    us: f64,
    faults_us: f64,
    stopped_us: f64,
    after_us: f64,
    conflicts_us: f64,
    hot_pages: f64,
    needless_pages: f64,
    repairs: f64,
}

/// A run to be simulated, and the costs that go with it.
struct Subject {
    name: String,
    run: Vec<Interval>,
    costs: Costs,
}

/// Simulates, prints, writes.
///
/// # Errors
/// If a recording cannot be read or does not hold what is needed, or the result cannot be written.
pub fn run(args: &PoliciesBench) -> Result<()> {
    let subjects = if args.recordings.is_empty() {
        traces::all(INTERVALS)
            .into_iter()
            .map(|trace| Subject {
                name: trace.name.to_owned(),
                run: trace.run,
                costs: Costs::default(),
            })
            .collect()
    } else {
        let mut subjects = Vec::new();
        for path in &args.recordings {
            subjects.extend(read(path)?);
        }
        subjects
    };
    let lines: Vec<Line> = subjects.iter().flat_map(simulate).collect();
    std::io::stdout().write_all(table(&lines).as_bytes())?;
    if let Some(path) = &args.json {
        let text = serde_json::to_string_pretty(&lines)?;
        std::fs::write(path, text).with_context(|| format!("cannot write {}", path.display()))?;
    }
    Ok(())
}

/// The runs of a recording, with the costs that it measured itself.
fn read(path: &Path) -> Result<Vec<Subject>> {
    let recording = Recording::open(path)?;
    let mut costs = Costs::default();
    let (mut pages, mut copying) = (0_u64, 0_u64);
    let mut stops = Vec::new();
    for row in recording.rows() {
        let (tick, phases) = (&row.tick, &row.tick.phases);
        let after = recording.account(row.id)?.after.copied;
        pages += (tick.dirty_pages + tick.untracked_pages).saturating_sub(after);
        copying += phases.copy;
        stops.push(phases.stop + phases.layout + phases.scan + phases.threads + phases.resume);
    }
    if pages >= ENOUGH {
        costs.copy = copying as f64 / pages as f64;
    }
    stops.sort_unstable();
    if let Some(middle) = stops.get(stops.len() / 2) {
        costs.repair = *middle as f64;
    }
    let mut runs = Runs::new(costs.copy as u64);
    for row in recording.rows() {
        runs.add(row.tick.at_ns, &recording.account(row.id)?);
    }
    let runs = runs.finish();
    if runs.is_empty() {
        bail!(
            "{} does not say which pages were written; record with --account full --speculate none",
            path.display()
        );
    }
    let alone = runs.len() == 1;
    Ok(runs
        .into_iter()
        .map(|(space, run)| Subject {
            name: if alone {
                path.display().to_string()
            } else {
                format!("{} process {}", path.display(), space.0)
            },
            run,
            costs,
        })
        .collect())
}

fn simulate(subject: &Subject) -> Vec<Line> {
    let intervals = subject.run.len() as u64;
    let per = |n: f64| n / intervals.max(1) as f64;
    let written: u64 = subject
        .run
        .iter()
        .map(|interval| stillframe_capture::ranges::pages(&interval.dirty))
        .sum();
    subject
        .costs
        .situations()
        .into_iter()
        .map(|(situation, costs)| {
            let (rows, oracle_us) = compare(&subject.run, &costs);
            let policies = rows
                .into_iter()
                .map(|row| Cost {
                    name: row.policy,
                    us: row.spent.us_per_interval(),
                    faults_us: per(row.spent.faults / 1000.0),
                    stopped_us: per(row.spent.stopped / 1000.0),
                    after_us: per(row.spent.after / 1000.0),
                    conflicts_us: per(row.spent.conflicts / 1000.0),
                    hot_pages: per(row.spent.hot as f64),
                    needless_pages: per(row.spent.needless as f64),
                    repairs: per(row.spent.repairs as f64),
                })
                .collect();
            Line {
                run: subject.name.clone(),
                situation,
                intervals,
                pages_per_interval: per(written as f64),
                oracle_us,
                policies,
            }
        })
        .collect()
}

fn table(lines: &[Line]) -> String {
    let mut text = String::from("added cost, us of the target's time per interval, simulated\n\n");
    let runs = lines.iter().map(|line| line.run.len()).max().unwrap_or(0);
    let situations = lines.iter().map(|line| line.situation.len()).max();
    let situations = situations.unwrap_or(0);
    let _ = write!(
        text,
        "{:<runs$}  {:<situations$} {:>8} {:>8}",
        "run", "copied", "pages", "oracle"
    );
    for name in NAMES {
        let _ = write!(text, " {name:>9}");
    }
    text.push('\n');
    for line in lines {
        let _ = write!(
            text,
            "{:<runs$}  {:<situations$} {:>8.0} {:>8.0}",
            line.run, line.situation, line.pages_per_interval, line.oracle_us
        );
        for cost in &line.policies {
            let _ = write!(text, " {:>9.0}", cost.us);
        }
        text.push('\n');
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_policy_has_its_column_in_every_line() {
        let subject = Subject {
            name: "a".to_owned(),
            run: traces::all(20).swap_remove(0).run,
            costs: Costs::default(),
        };
        let lines = simulate(&subject);
        assert_eq!(lines.len(), 4);
        for line in &lines {
            let names: Vec<_> = line.policies.iter().map(|cost| cost.name).collect();
            assert_eq!(names, NAMES);
            for cost in &line.policies {
                let sum = cost.faults_us + cost.stopped_us + cost.after_us + cost.conflicts_us;
                assert!((sum - cost.us).abs() < 1e-6);
            }
        }
        assert_eq!(table(&lines).lines().count(), 2 + 1 + 4);
    }
}
