//! `still ls`.

mod json;

use crate::args::LsArgs;
use crate::{open, output, units};
use serde::Serialize;
use std::io::Write;
use stillframe_image::{Marks, Point};
use stillframe_store::{Error, Recording, Row};

/// Lists the checkpoints. Rows are written as they are made, so a long recording starts to show at
/// once and `| head` costs nothing.
pub fn run(args: &LsArgs) -> anyhow::Result<u8> {
    let recording = open::recording(&args.recording)?;
    let name = args.recording.display().to_string();
    let chosen = Chosen {
        recording: &recording,
        only_points: args.points,
    };
    if args.json {
        output::json(&json::Listing::new(&name, &chosen))?;
        return Ok(0);
    }
    let mut out = output::stdout();
    header(&mut out, &name, &recording)?;
    if args.all {
        rows_in_full(&mut out, &chosen)?;
    } else {
        rows(&mut out, &chosen)?;
    }
    footer(&mut out, &recording)?;
    out.flush()?;
    Ok(0)
}

/// The arguments of a program on one line; quoting only what would read as two.
pub fn command_line(arguments: &[u8], program: &[u8]) -> String {
    let shown: Vec<String> = arguments
        .strip_suffix(&[0])
        .unwrap_or(arguments)
        .split(|b| *b == 0)
        .map(|argument| {
            let text = output::printable(argument);
            let plain =
                !text.is_empty() && !text.contains(|c: char| c.is_whitespace() || c == '\'');
            if plain {
                text.into_owned()
            } else {
                format!("'{}'", text.replace('\'', "'\\''"))
            }
        })
        .collect();
    if arguments.is_empty() {
        output::printable(program).into_owned()
    } else {
        shown.join(" ")
    }
}

fn header(out: &mut impl Write, name: &str, recording: &Recording) -> std::io::Result<()> {
    let header = recording.header();
    writeln!(
        out,
        "{}: {} (pid {}), from {}, {} asked, tracker {}, kernel {}",
        output::printable(name.as_bytes()),
        command_line(&header.arguments, &header.program),
        header.pid,
        units::show_wall(header.started_wall_ns),
        asked(header.requested_hz),
        output::printable(header.tracker.as_bytes()),
        output::printable(header.kernel.as_bytes()),
    )
}

/// The rate asked for; 0 is one by the program's points alone.
fn asked(hz: f64) -> String {
    if hz > 0.0 {
        format!("{hz} Hz")
    } else {
        "points".to_owned()
    }
}

/// Seconds with milliseconds' worth of digits.
fn seconds(ns: u64) -> String {
    format!("{}.{:04}", ns / 1_000_000_000, ns % 1_000_000_000 / 100_000)
}

/// Microseconds, whole.
fn micros(ns: u64) -> u64 {
    ns.saturating_add(500) / 1000
}

/// The rows that are listed.
struct Chosen<'a> {
    recording: &'a Recording,
    /// Only those that answer points.
    only_points: bool,
}

impl<'a> Chosen<'a> {
    fn rows(&self) -> impl Iterator<Item = &'a Row> {
        let only = self.only_points;
        let rows = self.recording.rows().iter();
        rows.filter(move |row| !only || row.tick.marks.contains(Marks::POINT))
    }

    /// What a checkpoint answers. Read only for those that are marked so, since each costs a look
    /// into the log.
    fn points(&self, row: &Row) -> Result<Vec<Point>, Error> {
        if row.tick.marks.contains(Marks::POINT) {
            self.recording.points(row.id)
        } else {
            Ok(Vec::new())
        }
    }

    /// Columns that only some recordings need.
    fn columns(&self) -> Columns {
        let any = |of: fn(&Row) -> bool| self.recording.rows().iter().any(of);
        Columns {
            processes: any(|row| row.tick.processes > 1),
            points: any(|row| row.tick.marks.contains(Marks::POINT)),
        }
    }

    /// Marks and points: the end of a line.
    fn end(&self, row: &Row, columns: Columns) -> String {
        const SHOWN: usize = 8;
        let marks = row.tick.marks.names().collect::<Vec<_>>().join(",");
        if !columns.points {
            return marks;
        }
        let points = match self.points(row) {
            Err(_) => "(damaged)".to_owned(),
            Ok(points) => {
                let mut names: Vec<String> = points
                    .iter()
                    .take(SHOWN)
                    .map(|p| output::printable(&p.name).into_owned())
                    .collect();
                if points.len() > SHOWN {
                    names.push(format!("and {} more", points.len() - SHOWN));
                }
                names.join(", ")
            }
        };
        format!("{marks:<16} {points}")
    }
}

/// See [`Chosen::columns`].
#[derive(Clone, Copy)]
struct Columns {
    processes: bool,
    points: bool,
}

impl Columns {
    /// ` PROCESSES`, or its value, or nothing.
    fn processes(self, text: &dyn std::fmt::Display) -> String {
        if self.processes {
            format!(" {text:>9}")
        } else {
            String::new()
        }
    }

    fn end(self) -> &'static str {
        if self.points {
            "MARKS            POINTS"
        } else {
            "MARKS"
        }
    }
}

fn rows(out: &mut impl Write, chosen: &Chosen<'_>) -> std::io::Result<()> {
    let columns = chosen.columns();
    writeln!(
        out,
        "{:>8} {:>11} {:>9} {:>9} {:>10}{} {:>7} {:>7}  {}",
        "N",
        "TIME s",
        "PAUSE us",
        "DIRTY",
        "STORED",
        columns.processes(&"PROCESSES"),
        "THREADS",
        "SKIPPED",
        columns.end()
    )?;
    for row in chosen.rows() {
        let tick = &row.tick;
        let line = format!(
            "{:>8} {:>11} {:>9} {:>9} {:>10}{} {:>7} {:>7}  {}",
            row.id.0,
            seconds(tick.at_ns),
            micros(tick.pause_ns()),
            tick.dirty_pages,
            units::show_size(row.stored_bytes),
            columns.processes(&tick.processes),
            tick.threads,
            tick.skipped,
            chosen.end(row, columns),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn rows_in_full(out: &mut impl Write, chosen: &Chosen<'_>) -> std::io::Result<()> {
    let columns = chosen.columns();
    writeln!(
        out,
        "{:>8} {:>11} {:>23} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} {:>9} \
         {:>6} {:>9} {:>10} {:>10}{} {:>7} {:>7}  {}",
        "N",
        "TIME s",
        "WALL CLOCK",
        "PAUSE us",
        "STOP",
        "LAYOUT",
        "SCAN",
        "THREADS",
        "COPY",
        "STATE",
        "RESUME",
        "DIRTY",
        "PRECOPIED",
        "UNTRACKED",
        "ROUNDS",
        "THEIRS us",
        "STORED",
        "RAW",
        columns.processes(&"PROCESSES"),
        "THREADS",
        "SKIPPED",
        columns.end()
    )?;
    for row in chosen.rows() {
        let tick = &row.tick;
        let phases = &tick.phases;
        let line = format!(
            "{:>8} {:>11} {:>23} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} \
             {:>9} {:>6} {:>9} {:>10} {:>10}{} {:>7} {:>7}  {}",
            row.id.0,
            seconds(tick.at_ns),
            units::show_wall(tick.wall_ns),
            micros(tick.pause_ns()),
            micros(phases.stop),
            micros(phases.layout),
            micros(phases.scan),
            micros(phases.threads),
            micros(phases.copy),
            micros(phases.state),
            micros(phases.resume),
            tick.dirty_pages,
            tick.precopied_pages,
            tick.untracked_pages,
            tick.precopy_stops,
            micros(tick.precopy_pause_ns),
            units::show_size(row.stored_bytes),
            units::show_size(row.raw_bytes),
            columns.processes(&tick.processes),
            tick.threads,
            tick.skipped,
            chosen.end(row, columns),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

/// What the rows amount to.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
struct Totals {
    checkpoints: usize,
    /// From the first checkpoint to the last, seconds.
    seconds: f64,
    /// Checkpoints per second over that time; absent with fewer than two.
    hz: Option<f64>,
    pause_p50_us: f64,
    pause_p99_us: f64,
    pause_max_us: f64,
    dirty_pages: u64,
    stored_bytes: u64,
    raw_bytes: u64,
    skipped: u64,
}

impl Totals {
    fn of(rows: &[Row], skipped: Option<u64>) -> Self {
        // The first checkpoint holds everything and would hide what the others cost.
        let mut pauses: Vec<u64> = rows.iter().skip(1).map(|r| r.tick.pause_ns()).collect();
        if pauses.is_empty() {
            pauses = rows.iter().map(|r| r.tick.pause_ns()).collect();
        }
        pauses.sort_unstable();
        let at = |quantile: f64| {
            let last = pauses.len().saturating_sub(1) as f64;
            let index = (last * quantile).round() as usize;
            pauses.get(index).map_or(0.0, |ns| *ns as f64 / 1e3)
        };
        let span = match rows {
            [first, .., last] => last.tick.at_ns.saturating_sub(first.tick.at_ns) as f64 / 1e9,
            _ => 0.0,
        };
        let sum = |of: fn(&Row) -> u64| rows.iter().map(of).fold(0, u64::saturating_add);
        Self {
            checkpoints: rows.len(),
            seconds: span,
            hz: (span > 0.0).then(|| (rows.len() - 1) as f64 / span),
            pause_p50_us: at(0.5),
            pause_p99_us: at(0.99),
            pause_max_us: at(1.0),
            dirty_pages: sum(|r| r.tick.dirty_pages),
            stored_bytes: sum(|r| r.stored_bytes),
            raw_bytes: sum(|r| r.raw_bytes),
            skipped: skipped.unwrap_or_else(|| sum(|r| u64::from(r.tick.skipped))),
        }
    }
}

fn footer(out: &mut impl Write, recording: &Recording) -> std::io::Result<()> {
    let summary = recording.summary();
    let totals = Totals::of(recording.rows(), summary.map(|s| s.skipped));
    let reached = match totals.hz {
        Some(hz) => format!(
            "{hz:.2} Hz reached of {} asked",
            asked(recording.header().requested_hz).trim_end_matches(" Hz")
        ),
        None => "no rate to speak of".to_owned(),
    };
    let plural = if totals.checkpoints == 1 {
        "checkpoint"
    } else {
        "checkpoints"
    };
    writeln!(
        out,
        "{} {plural} in {:.2} s ({reached}), {} ticks skipped; pause p50 {:.0} us, p99 {:.0} us, \
         max {:.0} us; {} stored for {} of written pages",
        totals.checkpoints,
        totals.seconds,
        totals.skipped,
        totals.pause_p50_us,
        totals.pause_p99_us,
        totals.pause_max_us,
        units::show_size(totals.stored_bytes),
        units::show_size(totals.raw_bytes),
    )?;
    match summary {
        Some(summary) => {
            let how = output::printable(summary.how.as_bytes());
            writeln!(
                out,
                "ended {}: {how}",
                units::show_wall(summary.ended_wall_ns)
            )?;
            for note in &summary.notes {
                writeln!(out, "note: {}", output::printable(note.as_bytes()))?;
            }
        }
        None => writeln!(out, "not ended: its recorder is at work, or was killed")?,
    }
    for damage in recording.damage() {
        writeln!(out, "damage: {}", output::printable(damage.as_bytes()))?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::{CheckpointId, Phases, Tick};

    fn row(id: u64, at_ns: u64, pause: u64) -> Row {
        Row {
            id: CheckpointId(id),
            tick: Tick {
                at_ns,
                skipped: 1,
                dirty_pages: 10,
                phases: Phases {
                    copy: pause,
                    ..Phases::default()
                },
                ..Tick::default()
            },
            stored_bytes: 100,
            raw_bytes: 40960,
        }
    }

    #[test]
    fn totals_leave_the_first_pause_out() {
        let rows: Vec<Row> = (0..101)
            .map(|n| row(n, n * 10_000_000, if n == 0 { 1 << 40 } else { n * 1000 }))
            .collect();
        let totals = Totals::of(&rows, None);
        assert_eq!(totals.pause_max_us, 100.0);
        assert_eq!(totals.pause_p99_us, 99.0);
        assert_eq!(totals.skipped, 101);
        assert!((totals.hz.unwrap() - 100.0).abs() < 1e-9);
        assert_eq!(Totals::of(&rows, Some(7)).skipped, 7);
        assert_eq!(Totals::of(&[], None), Totals::default());
    }

    #[test]
    fn command_lines_read_back() {
        assert_eq!(command_line(b"a\0b c\0\0", b""), "a 'b c' ''");
        assert_eq!(command_line(b"", b"/bin/x"), "/bin/x");
    }
}
