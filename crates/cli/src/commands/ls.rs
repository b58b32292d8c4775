//! `still ls`.

use crate::args::LsArgs;
use crate::{open, output, units};
use serde::{Serialize, Serializer};
use std::io::Write;
use stillframe_store::{Recording, Row};

/// Lists the checkpoints. Rows are written as they are made, so a long recording starts to show at
/// once and `| head` costs nothing.
pub fn run(args: &LsArgs) -> anyhow::Result<u8> {
    let recording = open::recording(&args.recording)?;
    let name = args.recording.display().to_string();
    if args.json {
        output::json(&Listing::new(&name, &recording))?;
        return Ok(0);
    }
    let mut out = output::stdout();
    header(&mut out, &name, &recording)?;
    if args.all {
        rows_in_full(&mut out, &recording)?;
    } else {
        rows(&mut out, &recording)?;
    }
    footer(&mut out, &recording)?;
    out.flush()?;
    Ok(0)
}

/// The arguments of a program on one line; quoting only what would read as two.
fn command_line(arguments: &[u8], program: &[u8]) -> String {
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
        "{}: {} (pid {}), from {}, {} Hz asked, tracker {}, kernel {}",
        output::printable(name.as_bytes()),
        command_line(&header.arguments, &header.program),
        header.pid,
        units::show_wall(header.started_wall_ns),
        header.requested_hz,
        output::printable(header.tracker.as_bytes()),
        output::printable(header.kernel.as_bytes()),
    )
}

/// Seconds with milliseconds' worth of digits.
fn seconds(ns: u64) -> String {
    format!("{}.{:04}", ns / 1_000_000_000, ns % 1_000_000_000 / 100_000)
}

/// Microseconds, whole.
fn micros(ns: u64) -> u64 {
    ns.saturating_add(500) / 1000
}

fn marks(row: &Row) -> String {
    row.tick.marks.names().collect::<Vec<_>>().join(",")
}

fn rows(out: &mut impl Write, recording: &Recording) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>8} {:>11} {:>9} {:>9} {:>10} {:>7} {:>7}  MARKS",
        "N", "TIME s", "PAUSE us", "DIRTY", "STORED", "THREADS", "SKIPPED"
    )?;
    for row in recording.rows() {
        let tick = &row.tick;
        let line = format!(
            "{:>8} {:>11} {:>9} {:>9} {:>10} {:>7} {:>7}  {}",
            row.id.0,
            seconds(tick.at_ns),
            micros(tick.pause_ns()),
            tick.dirty_pages,
            units::show_size(row.stored_bytes),
            tick.threads,
            tick.skipped,
            marks(row),
        );
        writeln!(out, "{}", line.trim_end())?;
    }
    Ok(())
}

fn rows_in_full(out: &mut impl Write, recording: &Recording) -> std::io::Result<()> {
    writeln!(
        out,
        "{:>8} {:>11} {:>23} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} {:>9} \
         {:>6} {:>9} {:>10} {:>10} {:>7} {:>7}  MARKS",
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
        "THREADS",
        "SKIPPED"
    )?;
    for row in recording.rows() {
        let tick = &row.tick;
        let phases = &tick.phases;
        let line = format!(
            "{:>8} {:>11} {:>23} {:>9} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>7} {:>9} {:>9} \
             {:>9} {:>6} {:>9} {:>10} {:>10} {:>7} {:>7}  {}",
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
            tick.threads,
            tick.skipped,
            marks(row),
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
            recording.header().requested_hz
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

/// The listing as JSON. Times are in the unit their name ends with.
#[derive(Serialize)]
struct Listing<'a> {
    recording: &'a str,
    id: String,
    program: String,
    arguments: Vec<String>,
    pid: u32,
    started_wall_ns: u64,
    requested_hz: f64,
    tracker: &'a str,
    kernel: &'a str,
    writer_version: &'a str,
    checkpoints: Rows<'a>,
    totals: Totals,
    end: Option<End<'a>>,
    damage: &'a [String],
}

#[derive(Serialize)]
struct End<'a> {
    ended_wall_ns: u64,
    how: &'a str,
    skipped: u64,
    notes: &'a [String],
}

struct Rows<'a>(&'a [Row]);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.iter().map(Checkpoint::new))
    }
}

#[derive(Serialize)]
struct Checkpoint {
    number: u64,
    at_ns: u64,
    wall_ns: u64,
    pause_ns: u64,
    stop_ns: u64,
    layout_ns: u64,
    scan_ns: u64,
    threads_ns: u64,
    copy_ns: u64,
    state_ns: u64,
    resume_ns: u64,
    precopy_stops: u32,
    precopy_pause_ns: u64,
    dirty_pages: u64,
    precopied_pages: u64,
    untracked_pages: u64,
    stored_bytes: u64,
    raw_bytes: u64,
    threads: u32,
    skipped: u32,
    marks: Vec<&'static str>,
}

impl Checkpoint {
    fn new(row: &Row) -> Self {
        let tick = &row.tick;
        Self {
            number: row.id.0,
            at_ns: tick.at_ns,
            wall_ns: tick.wall_ns,
            pause_ns: tick.pause_ns(),
            stop_ns: tick.phases.stop,
            layout_ns: tick.phases.layout,
            scan_ns: tick.phases.scan,
            threads_ns: tick.phases.threads,
            copy_ns: tick.phases.copy,
            state_ns: tick.phases.state,
            resume_ns: tick.phases.resume,
            precopy_stops: tick.precopy_stops,
            precopy_pause_ns: tick.precopy_pause_ns,
            dirty_pages: tick.dirty_pages,
            precopied_pages: tick.precopied_pages,
            untracked_pages: tick.untracked_pages,
            stored_bytes: row.stored_bytes,
            raw_bytes: row.raw_bytes,
            threads: tick.threads,
            skipped: tick.skipped,
            marks: tick.marks.names().collect(),
        }
    }
}

impl<'a> Listing<'a> {
    fn new(name: &'a str, recording: &'a Recording) -> Self {
        let header = recording.header();
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        let arguments = header
            .arguments
            .strip_suffix(&[0])
            .unwrap_or(&header.arguments);
        Self {
            recording: name,
            id: header.id.iter().map(|byte| format!("{byte:02x}")).collect(),
            program: text(&header.program),
            arguments: arguments.split(|b| *b == 0).map(text).collect(),
            pid: header.pid,
            started_wall_ns: header.started_wall_ns,
            requested_hz: header.requested_hz,
            tracker: &header.tracker,
            kernel: &header.kernel,
            writer_version: &header.writer_version,
            checkpoints: Rows(recording.rows()),
            totals: Totals::of(recording.rows(), recording.summary().map(|s| s.skipped)),
            end: recording.summary().map(|summary| End {
                ended_wall_ns: summary.ended_wall_ns,
                how: &summary.how,
                skipped: summary.skipped,
                notes: &summary.notes,
            }),
            damage: recording.damage(),
        }
    }
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
