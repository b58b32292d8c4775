//! The listing as JSON. Times are in the unit their name ends with.

use super::{Chosen, Totals};
use crate::commands::show::PointView;
use serde::{Serialize, Serializer};
use stillframe_store::Row;

/// The whole listing.
#[derive(Serialize)]
pub(super) struct Listing<'a> {
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

struct Rows<'a>(&'a Chosen<'a>);

impl Serialize for Rows<'_> {
    fn serialize<S: Serializer>(&self, serializer: S) -> Result<S::Ok, S::Error> {
        serializer.collect_seq(self.0.rows().map(|row| Checkpoint::new(self.0, row)))
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
    processes: u32,
    threads: u32,
    skipped: u32,
    marks: Vec<&'static str>,
    /// Null if they cannot be read.
    points: Option<Vec<PointView>>,
}

impl Checkpoint {
    fn new(chosen: &Chosen<'_>, row: &Row) -> Self {
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
            processes: tick.processes,
            threads: tick.threads,
            skipped: tick.skipped,
            marks: tick.marks.names().collect(),
            points: chosen
                .points(row)
                .ok()
                .map(|points| points.iter().map(PointView::of).collect()),
        }
    }
}

impl<'a> Listing<'a> {
    pub(super) fn new(name: &'a str, chosen: &'a Chosen<'a>) -> Self {
        let recording = chosen.recording;
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
            checkpoints: Rows(chosen),
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
