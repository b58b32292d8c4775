//! The result, for people and for programs.

use crate::marks::{Mark, Verdict};
use crate::measure::{Cell, WayResult};
use crate::peers::Peer;
use anyhow::Context as _;
use serde::Serialize;
use std::fmt::{self, Write};
use std::io::Write as _;
use std::path::Path;

/// Writes a report as JSON into a file, if one was asked for, and its text to standard output.
///
/// # Errors
/// If one of them cannot be written.
pub fn publish(report: &impl Serialize, text: &str, json: Option<&Path>) -> anyhow::Result<()> {
    if let Some(path) = json {
        let mut all = serde_json::to_vec_pretty(report)?;
        all.push(b'\n');
        std::fs::write(path, all).with_context(|| format!("cannot write {}", path.display()))?;
    }
    let mut out = std::io::stdout().lock();
    out.write_all(text.as_bytes())?;
    out.flush()?;
    Ok(())
}

/// The machine it was measured on.
#[derive(Clone, Debug, Serialize)]
pub struct Machine {
    /// Processors online.
    pub cpus: usize,
    /// Memory, MiB.
    pub memory_mib: u64,
    /// Release of the kernel.
    pub kernel: String,
    /// Load averages before the first run.
    pub load: String,
    /// Whether the bench, and with it the targets, are an unoptimised or checked build.
    pub debug_build: bool,
}

impl Machine {
    /// This one.
    pub fn here() -> Self {
        let read = |path| std::fs::read_to_string(path).unwrap_or_default();
        Self {
            cpus: std::thread::available_parallelism().map_or(0, usize::from),
            memory_mib: crate::process::kib(&read("/proc/meminfo"), "MemTotal") / 1024,
            kernel: read("/proc/sys/kernel/osrelease").trim().to_owned(),
            load: read("/proc/loadavg")
                .split_whitespace()
                .take(3)
                .collect::<Vec<_>>()
                .join(" "),
            debug_build: cfg!(debug_assertions),
        }
    }

    /// The first line of a report for people; it took `seconds`.
    pub fn headline(&self, seconds: f64) -> String {
        format!(
            "{} processors, {} MiB, Linux {}, load before {}; {seconds:.0} s{}",
            self.cpus,
            self.memory_mib,
            self.kernel,
            self.load,
            if self.debug_build {
                "; NOT a release build"
            } else {
                ""
            }
        )
    }
}

/// Something that was to be measured and was not.
#[derive(Clone, Debug, Serialize)]
pub struct Absent {
    /// What.
    pub what: String,
    /// Why.
    pub why: String,
}

/// Everything.
#[derive(Clone, Debug, Serialize)]
pub struct Report {
    /// Where.
    pub machine: Machine,
    /// When it began, nanoseconds since the epoch.
    pub started_wall_ns: u64,
    /// How long it took, seconds.
    pub seconds: f64,
    /// The program that recorded.
    pub recorder: String,
    /// What was measured.
    pub cells: Vec<Cell>,
    /// Peers.
    pub peers: Vec<Peer>,
    /// Marks.
    pub marks: Vec<Mark>,
    /// Left out, because this machine lacks something.
    pub skipped: Vec<Absent>,
    /// Gone wrong.
    pub failed: Vec<Absent>,
}

/// A rate without needless decimals.
struct Hz(f64);

impl fmt::Display for Hz {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        if self.0 < 99.95 {
            write!(f, "{:.1}", self.0)
        } else {
            write!(f, "{:.0}", self.0)
        }
    }
}

/// Columns of a line, at most.
const COLUMNS: usize = 120;

/// `text` in lines of at most [`COLUMNS`], broken between words; further lines are indented. Longer
/// words stand alone.
fn wrapped(text: &str) -> String {
    let mut out = String::new();
    let mut column = 0;
    for word in text.split_inclusive(' ') {
        let length = word.trim_end().chars().count();
        if column > 8 && column + length > COLUMNS {
            out.truncate(out.trim_end().len());
            out.push_str("\n        ");
            column = 8;
        }
        out.push_str(word);
        column += word.chars().count();
    }
    out.truncate(out.trim_end().len());
    out.push('\n');
    out
}

/// What tables call a way of recording in a setting.
fn name(cell: &Cell, way: &WayResult) -> String {
    if cell.ways.len() > 1 {
        format!("{} {}", cell.label, way.way.name)
    } else {
        cell.label.clone()
    }
}

fn mib(bytes: u64) -> f64 {
    bytes as f64 / f64::from(1u32 << 20)
}

impl Report {
    /// For people: at most 120 columns.
    ///
    /// # Errors
    /// Never.
    pub fn text(&self) -> Result<String, fmt::Error> {
        let mut out = String::new();
        writeln!(out, "{}", self.machine.headline(self.seconds))?;
        self.costs(&mut out)?;
        self.pauses(&mut out)?;
        self.accounts(&mut out)?;
        self.peers(&mut out)?;
        self.marks(&mut out)?;
        for absent in &self.skipped {
            out.push_str(&wrapped(&format!(
                "SKIPPED: {}: {}",
                absent.what, absent.why
            )));
        }
        for absent in &self.failed {
            out.push_str(&wrapped(&format!(
                "FAILED: {}: {}",
                absent.what, absent.why
            )));
        }
        Ok(out)
    }

    fn costs(&self, out: &mut String) -> fmt::Result {
        if self.cells.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:26} {:>5} {:>7}  {:>19} {:>5} {:>5} {:>6} {:>7} {:>6} {:>5} {:>11}",
            "setting, way of recording",
            "Hz",
            "reached",
            "slowdown (min-max)",
            "cpu",
            "skips",
            "dirty",
            "KiB/ckp",
            "stored",
            "cores",
            "MiB mid/end"
        )?;
        for cell in &self.cells {
            for way in &cell.ways {
                let f = &way.figures;
                let name = name(cell, way);
                let s = f.slowdown;
                writeln!(
                    out,
                    "{:26} {:>5} {:>7}  {:>19} {:>5.2} {:>5} {:>6.0} {:>7.0} {:>6} {:>5.2} {:>11}",
                    name,
                    cell.setting.hz,
                    Hz(f.hz).to_string(),
                    format!("{:.3} ({:.2}-{:.2})", s.median, s.min, s.max),
                    f.cpu_slowdown.median,
                    f.skipped,
                    f.dirty_pages.p50,
                    f.stored_bytes as f64 / 1024.0 / f.checkpoints.max(1) as f64,
                    format!("{:.1}%", 100.0 * f.stored_ratio),
                    f.recorder_cores,
                    format!("{:.0}/{:.0}", mib(f.resident_middle), mib(f.resident_end)),
                )?;
            }
        }
        Ok(())
    }

    fn pauses(&self, out: &mut String) -> fmt::Result {
        if self.cells.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:26} {:>6} {:>6} {:>6} {:>7}  {:>5} {:>6} {:>5} {:>5} {:>6} {:>5} {:>6} {:>7} {:>6}",
            "pause, us",
            "Hz",
            "p50",
            "p99",
            "max",
            "stop",
            "layout",
            "scan",
            "regs",
            "copy",
            "state",
            "resume",
            "other",
            "1st s"
        )?;
        for cell in &self.cells {
            for way in &cell.ways {
                let f = &way.figures;
                let name = name(cell, way);
                let phase = |name: &str| {
                    f.phases
                        .iter()
                        .find(|p| p.phase == name)
                        .map_or(0.0, |p| p.us.p50)
                };
                writeln!(
                    out,
                    "{:26} {:>6} {:>6.0} {:>6.0} {:>7.0}  {:>5.0} {:>6.0} {:>5.0} {:>5.0} {:>6.0} {:>5.0} {:>6.0} \
                     {:>7.0} {:>6.1}",
                    name,
                    cell.setting.hz,
                    f.pause_us.p50,
                    f.pause_us.p99,
                    f.pause_us.max,
                    phase("stop"),
                    phase("layout"),
                    phase("scan"),
                    phase("threads"),
                    phase("copy"),
                    phase("state"),
                    phase("resume"),
                    phase("other stops"),
                    f.first_seconds.median
                )?;
            }
        }
        writeln!(
            out,
            "(phases: medians; other: stops beside the boundary, per checkpoint; 1st s: until the full first one was committed)"
        )
    }

    fn accounts(&self, out: &mut String) -> fmt::Result {
        if self.cells.is_empty() {
            return Ok(());
        }
        writeln!(
            out,
            "\n{:26} {:>5} {:>9} {:>9} {:>9} {:>8} {:>8} {:>9} {:>6} {:>6} {:>6} {:>6}",
            "per checkpoint",
            "Hz",
            "faults/s",
            "hot",
            "hit/miss",
            "after",
            "conflict",
            "more stop",
            "late",
            "store",
            "stuck",
            "budget"
        )?;
        for (cell, way) in self
            .cells
            .iter()
            .flat_map(|c| c.ways.iter().map(move |w| (c, w)))
        {
            let f = &way.figures;
            let s = &f.account.sums;
            let each = |sum: u64| sum as f64 / f.checkpoints.max(1) as f64;
            writeln!(
                out,
                "{:26} {:>5} {:>9.0} {:>9.1} {:>9} {:>8.1} {:>8.2} {:>9.2} {:>6} {:>6} {:>6} {:>6}",
                name(cell, way),
                cell.setting.hz,
                f.account.faults_per_second,
                each(s.hot_copied),
                format!("{:.1}/{:.1}", each(s.hot_hits), each(s.hot_misses)),
                each(s.after_copied),
                each(s.conflicts),
                each(s.precopy_stops + s.conflict_stops + s.completion_stops),
                s.skipped_late,
                s.skipped_store,
                s.skipped_not_stopped,
                s.skipped_budget
            )?;
        }
        writeln!(
            out,
            "(late, store, stuck, budget: ticks not taken in all, by reason)"
        )
    }

    fn peers(&self, out: &mut String) -> fmt::Result {
        if self.peers.is_empty() {
            return Ok(());
        }
        writeln!(out, "\npeers")?;
        for peer in &self.peers {
            for trouble in &peer.trouble {
                out.push_str(&wrapped(&format!("  {}: {trouble}", peer.name)));
            }
            for case in &peer.cases {
                let mut line = format!(
                    "  {}: {} of {}: stood still {:.0} us",
                    peer.name, case.what, case.target, case.frozen_us
                );
                if let Some(ours) = case.our_pause_us {
                    write!(line, " (ours {ours:.0})")?;
                }
                if let Some(slowdown) = case.slowdown {
                    write!(line, ", slowdown {slowdown:.3}")?;
                }
                if let Some(hz) = case.hz {
                    write!(line, " at {} Hz", Hz(hz))?;
                }
                write!(line, "; {}", case.note)?;
                out.push_str(&wrapped(&line));
            }
        }
        Ok(())
    }

    fn marks(&self, out: &mut String) -> fmt::Result {
        writeln!(out, "\n{:48} {:26} {:8} measured", "figure", "mark", "")?;
        for mark in &self.marks {
            if mark.verdict == Verdict::NotMeasured {
                continue;
            }
            let line = format!(
                "{:48} {:26} {:8}",
                mark.figure,
                mark.mark,
                mark.verdict.word()
            );
            if mark.measured.chars().count() <= 35 {
                writeln!(out, "{line} {}", mark.measured)?;
            } else {
                writeln!(out, "{}\n    {}", line.trim_end(), mark.measured)?;
            }
        }
        let missing = self
            .marks
            .iter()
            .filter(|m| m.verdict == Verdict::NotMeasured)
            .count();
        if missing > 0 {
            writeln!(
                out,
                "({missing} marks are about settings that were not measured)"
            )?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn long_lines_are_broken_between_words() {
        let text = format!("  peer: {}", "some words that go on and on, ".repeat(20));
        let lines = wrapped(&text);
        assert!(lines.lines().count() > 4 && lines.ends_with(",\n"));
        assert!(
            lines
                .lines()
                .all(|l| l.chars().count() <= COLUMNS && l == l.trim_end())
        );
        assert!(lines.starts_with("  peer: some"));
        let words = |t: &str| t.split_whitespace().map(str::to_owned).collect::<Vec<_>>();
        assert_eq!(words(&lines), words(&text));
        assert_eq!(wrapped("short"), "short\n");
    }
}
