//! What recording costs: the measurement, as a report.
//!
//! The target writes random words over 512 MiB in a closed loop, with arithmetic after each write,
//! calibrated so that it dirties 1,000 pages per 10 ms when nobody watches. Slowdown is the ratio
//! of its writes per second in runs that alternate: not recorded, recorded, not recorded, ... so
//! that drift of the machine falls on both alike. The recorder competes for the same cores.

use crate::process::{PATIENCE, Running, command};
use crate::{place, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::Path;
use std::time::Instant;
use stillframe_image::Tick;
use stillframe_store::Recording;

/// What is measured.
#[derive(Clone, Copy, Debug)]
pub struct Setting {
    /// Memory of the target, MiB.
    pub mib: u32,
    /// Its writing threads.
    pub threads: u32,
    /// Pages it dirties per interval when not recorded.
    pub dirty: u32,
    /// Checkpoints per second.
    pub hz: u32,
    /// Seconds of each run.
    pub seconds: u32,
    /// Pairs of runs.
    pub pairs: u32,
}

/// Nearest-rank percentile of sorted values.
fn percentile(sorted: &[u64], p: f64) -> u64 {
    if sorted.is_empty() {
        return 0;
    }
    let rank = (p / 100.0 * sorted.len() as f64).ceil() as usize;
    sorted[rank.clamp(1, sorted.len()) - 1]
}

fn median(values: &mut [f64]) -> f64 {
    values.sort_by(f64::total_cmp);
    values.get(values.len() / 2).copied().unwrap_or(f64::NAN)
}

fn target_args(setting: &Setting, spin: &str) -> Result<Vec<OsString>> {
    let mut args: Vec<OsString> = vec![place::target("random_writes.c")?.into()];
    for (flag, value) in [
        ("--mib", setting.mib.to_string()),
        ("--threads", setting.threads.to_string()),
        ("--seconds", setting.seconds.to_string()),
        ("--spin", spin.to_owned()),
        ("--unmarked", "300".to_owned()),
    ] {
        args.push(flag.into());
        args.push(value.into());
    }
    Ok(args)
}

fn per_second(stdout: &str) -> Result<f64> {
    let line = stdout
        .lines()
        .find(|l| l.starts_with("ok writes"))
        .context("no result")?;
    Ok(line.rsplit(' ').next().unwrap_or_default().parse()?)
}

type Column = (&'static str, fn(&Tick) -> u64);

const COLUMNS: [Column; 10] = [
    ("pause", |t| t.pause_ns()),
    ("  stop", |t| t.phases.stop),
    ("  layout", |t| t.phases.layout),
    ("  scan", |t| t.phases.scan),
    ("  threads", |t| t.phases.threads),
    ("  copy", |t| t.phases.copy),
    ("  state", |t| t.phases.state),
    ("  resume", |t| t.phases.resume),
    ("pre-copy stops", |t| t.precopy_pause_ns),
    ("all stops", |t| t.pause_ns() + t.precopy_pause_ns),
];

/// Measures one setting; the report is Markdown.
///
/// # Errors
/// If a run fails.
pub fn measure(setting: &Setting, options: &[&str]) -> Result<String> {
    let dir = place::scratch()?;
    let rate = f64::from(setting.dirty * setting.hz);
    let mut c = command(
        place::target("random_writes.c")?,
        &["--threads", &setting.threads.to_string()],
    );
    let (_, spin, _) = crate::process::run(c.args(["--calibrate", &rate.to_string()]), dir.path())?;
    let args = target_args(setting, spin.trim())?;
    let (mut ratios, mut bases, mut recorded) = (Vec::new(), Vec::new(), Vec::new());
    let mut ticks: Vec<Tick> = Vec::new();
    let (mut stored, mut raw, mut cpu, mut seconds, mut peak) = (0, 0, 0.0, 0.0, 0);
    let mut skipped = 0;
    let mut first = Vec::new();
    for pair in 0..setting.pairs {
        // The order within a pair alternates, too.
        let mut rates = [0.0; 2];
        for turn in 0..2 {
            let with = (turn + pair) % 2 == 1;
            rates[usize::from(with)] = if with {
                let out = still::fresh(dir.path(), "run.still");
                let hz = setting.hz.to_string();
                let mut all = vec!["--hz", hz.as_str()];
                all.extend(options);
                let mut run = Running::start(&mut command(&args[0], &args[1..]), dir.path())?;
                let pid = run.ready()?;
                let mut recorder = still::attach(dir.path(), &all, &out, pid)?;
                // The steady state is measured: from when the full first checkpoint is there.
                crate::process::wait_for("the first checkpoints are there", || {
                    Recording::open(&out).is_ok_and(|r| r.rows().len() > 3)
                        || recorder.ended().is_ok_and(|e| e.is_some())
                })?;
                crate::process::signal(pid, Signal::USR1)?;
                let (begun, cpu_before) = (Instant::now(), cpu_seconds(recorder.pid())?);
                let before = still::open(&out)?.rows().len();
                run.wait(PATIENCE * 10)?;
                run.verdict()?;
                let took = begun.elapsed().as_secs_f64();
                still::ended_with(&mut recorder, 0, PATIENCE)?;
                let summary = still::summary(&recorder.stdout())?;
                let recording = still::open(&out)?;
                // The last one is at the exit, when the target has read all.
                let rows = recording.rows();
                ensure!(rows.len() > before + 4, "only {} checkpoints", rows.len());
                first.push((rows[0].tick.at_ns as f64 / 1e9, rows[0].stored_bytes));
                for row in &rows[before..rows.len() - 1] {
                    ticks.push(row.tick);
                    stored += row.stored_bytes;
                    raw += row.raw_bytes;
                    skipped += u64::from(row.tick.skipped);
                }
                cpu += summary.recorder_cpu_seconds - cpu_before;
                seconds += took;
                peak = peak.max(summary.recorder_peak_bytes);
                per_second(&run.stdout())?
            } else {
                native(&args, dir.path())?
            };
        }
        bases.push(rates[0]);
        recorded.push(rates[1]);
        ratios.push(rates[0] / rates[1]);
    }
    let mut sorted_ratios = ratios.clone();
    let mut text = String::new();
    writeln!(
        text,
        "### {} MiB, {} threads, {} pages per interval at {} Hz {}\n",
        setting.mib,
        setting.threads,
        setting.dirty,
        setting.hz,
        options.join(" ")
    )?;
    writeln!(
        text,
        "{} pairs of {} s; checkpoints {}, skipped {skipped}, rate {:.1} Hz\n",
        setting.pairs,
        setting.seconds,
        ticks.len(),
        ticks.len() as f64 / seconds
    )?;
    writeln!(text, "| us | p50 | p99 | max |\n|---|---|---|---|")?;
    for (name, value) in COLUMNS {
        let mut values: Vec<u64> = ticks.iter().map(value).collect();
        values.sort_unstable();
        let us = |p| percentile(&values, p) as f64 / 1000.0;
        writeln!(
            text,
            "| {name} | {:.0} | {:.0} | {:.0} |",
            us(50.0),
            us(99.0),
            us(100.0)
        )?;
    }
    let mut dirty: Vec<u64> = ticks.iter().map(|t| t.dirty_pages).collect();
    dirty.sort_unstable();
    let checkpoints = ticks.len().max(1) as f64;
    writeln!(
        text,
        "\n- slowdown: median {:.3}x over pairs ({})",
        median(&mut sorted_ratios),
        ratios
            .iter()
            .map(|r| format!("{r:.3}"))
            .collect::<Vec<_>>()
            .join(", ")
    )?;
    writeln!(
        text,
        "- writes per second: {:.0} not recorded, {:.0} recorded",
        median(&mut bases),
        median(&mut recorded)
    )?;
    writeln!(
        text,
        "- dirty pages per checkpoint: p50 {}, p99 {}",
        percentile(&dirty, 50.0),
        percentile(&dirty, 99.0)
    )?;
    writeln!(
        text,
        "- bytes per checkpoint: {:.0} stored of {:.0} raw dirty ({:.1} %)",
        stored as f64 / checkpoints,
        raw as f64 / checkpoints,
        100.0 * stored as f64 / (raw as f64).max(1.0)
    )?;
    for (at, bytes) in first {
        writeln!(
            text,
            "- the full first one was complete after {at:.1} s: {:.0} MiB stored",
            bytes as f64 / 1048576.0
        )?;
    }
    writeln!(
        text,
        "- recorder: {:.1} % of a core, peak {:.0} MiB\n",
        100.0 * cpu / seconds,
        peak as f64 / 1048576.0
    )?;
    Ok(text)
}

/// CPU time of a process so far.
fn cpu_seconds(pid: u32) -> Result<f64> {
    let ticks = crate::process::cpu_ticks(pid)?;
    Ok(ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
}

fn native(args: &[OsString], dir: &Path) -> Result<f64> {
    let mut run = Running::start(&mut command(&args[0], &args[1..]), dir)?;
    run.ready()?;
    crate::process::signal(run.pid(), Signal::USR1)?;
    let status = run.wait(PATIENCE * 10)?;
    crate::process::verdict("random_writes", status, &run.stdout())?;
    per_second(&run.stdout())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranks() {
        let values: Vec<u64> = (1..=100).collect();
        assert_eq!(percentile(&values, 50.0), 50);
        assert_eq!(percentile(&values, 99.0), 99);
        assert_eq!(percentile(&values, 100.0), 100);
        assert_eq!(percentile(&[], 50.0), 0);
        assert!((median(&mut [3.0, 1.0, 2.0]) - 2.0).abs() < 1e-12);
    }
}
