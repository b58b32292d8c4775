//! `still bench capture`: everything, side by side, in one go.

use crate::args::CaptureBench;
use crate::load;
use crate::marks;
use crate::measure::Bench;
use crate::peers;
use crate::plan::{Plan, Way};
use crate::recorder::wall_ns;
use crate::report::{self, Absent, Machine, Report};
use anyhow::{Context as _, Result, bail};
use std::io::Write as _;
use std::time::Instant;

/// Measures, prints, writes.
///
/// # Errors
/// If something could not be measured: after everything else has been, and reported.
pub fn run(args: &CaptureBench) -> Result<()> {
    let begun = Instant::now();
    let started_wall_ns = wall_ns();
    let machine = Machine::here();
    let plan = Plan::new(args);
    let mut say = |line: &str| {
        // Progress that nobody reads is no reason to stop.
        let _ = writeln!(
            std::io::stderr(),
            "bench: {:>5.0} s: {line}",
            begun.elapsed().as_secs_f64()
        );
    };
    let dir = match &args.out {
        Some(dir) => dir.clone(),
        None => std::env::temp_dir(),
    };
    let dir = std::path::absolute(&dir)?;
    std::fs::create_dir_all(&dir).with_context(|| format!("cannot make {}", dir.display()))?;
    let bench = Bench {
        recorder: match &args.recorder {
            Some(path) => std::path::absolute(path)?,
            None => std::env::current_exe().context("our own executable")?,
        },
        dir,
        keep: args.keep,
        ways: plan
            .variants
            .iter()
            .map(|v| Way {
                name: v.name.clone(),
                args: v.args.clone(),
            })
            .collect(),
    };
    let peer_seconds = if args.no_peers { 0.0 } else { 20.0 };
    say(&format!(
        "{} settings, about {:.0} s in all",
        plan.settings.len(),
        plan.estimate() + peer_seconds
    ));
    if machine.debug_build {
        say("this is not a release build: its figures are no figures");
    }
    let (mut cells, mut skipped, mut failed) = (Vec::new(), Vec::new(), Vec::new());
    for setting in &plan.settings {
        let what = format!("{} at {} Hz", setting.label(), setting.hz);
        if let Some(why) = load::missing(setting.workload, setting) {
            say(&format!("SKIPPED: {what}: {why}"));
            skipped.push(Absent { what, why });
            continue;
        }
        match bench.cell(setting, &mut say) {
            Ok(cell) => cells.push(cell),
            Err(error) => {
                let why = format!("{error:#}").replace('\n', " ");
                say(&format!("FAILED: {what}: {why}"));
                failed.push(Absent { what, why });
            }
        }
    }
    let mut measured_peers = Vec::new();
    if !args.no_peers && !cells.is_empty() {
        match peers::measure(&bench, &cells, &mut say) {
            Ok(found) => measured_peers = found,
            Err(error) => failed.push(Absent {
                what: "peers".to_owned(),
                why: format!("{error:#}"),
            }),
        }
    }
    let report = Report {
        machine,
        started_wall_ns,
        seconds: begun.elapsed().as_secs_f64(),
        recorder: bench.recorder.to_string_lossy().into_owned(),
        marks: marks::judge(&cells, &measured_peers),
        cells,
        peers: measured_peers,
        skipped,
        failed,
    };
    report::publish(&report, &report.text()?, args.json.as_deref())?;
    match report.failed.len() {
        0 => Ok(()),
        n => bail!(
            "{n} of {} settings could not be measured",
            plan.settings.len()
        ),
    }
}
