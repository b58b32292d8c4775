//! Feeds a [`Gatherer`] from a recording, finished or still being written.

use crate::bookmarks;
use crate::figures::Subject;
use crate::gather::{Analysis, Gatherer, Options};
use crate::names::Names;
use std::path::Path;
use stillframe_image::{Account, CheckpointId};
use stillframe_store::{Recording, Row};

/// Checkpoints looked at for names.
const LOOKS: usize = 9;

fn subject(path: &Path, recording: &Recording) -> Subject {
    let header = recording.header();
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let arguments = header.arguments.strip_suffix(&[0]);
    let arguments = arguments.unwrap_or(&header.arguments);
    let summary = recording.summary();
    Subject {
        recording: path.display().to_string(),
        program: text(&header.program),
        arguments: if arguments.is_empty() {
            Vec::new()
        } else {
            arguments.split(|b| *b == 0).map(text).collect()
        },
        pid: header.pid,
        started_wall_ns: header.started_wall_ns,
        requested_hz: header.requested_hz,
        tracker: header.tracker.clone(),
        kernel: header.kernel.clone(),
        writer_version: header.writer_version.clone(),
        live: recording.is_live(),
        how: summary.map(|s| s.how.clone()),
        skipped: summary.map(|s| s.skipped),
        notes: summary.map(|s| s.notes.clone()).unwrap_or_default(),
        damage: recording.damage().to_vec(),
    }
}

/// Checkpoints spread over the recording, the last one among them, ascending.
fn looks(rows: &[Row]) -> Vec<CheckpointId> {
    let Some(last) = rows.len().checked_sub(1) else {
        return Vec::new();
    };
    let mut places: Vec<usize> = (0..LOOKS).map(|n| n * last / (LOOKS - 1)).collect();
    places.dedup();
    places
        .iter()
        .filter_map(|at| rows.get(*at))
        .map(|r| r.id)
        .collect()
}

/// Reads a recording. `progress` is told how many checkpoints have been read. Accounts that cannot
/// be read are counted and left out.
pub fn read(
    path: &Path,
    recording: &Recording,
    options: Options,
    mut progress: impl FnMut(usize),
) -> Analysis {
    let rows = recording.rows();
    let mut gatherer = Gatherer::new(rows, recording.header().requested_hz, options);
    for (n, row) in rows.iter().enumerate() {
        match recording.account(row.id) {
            Ok(account) => gatherer.add(row, &account),
            Err(_) => {
                gatherer.unreadable();
                gatherer.add(row, &Account::default());
            }
        }
        progress(n + 1);
    }
    let mut names = Names::default();
    for id in looks(rows) {
        // A damaged checkpoint only leaves names unknown.
        if let Ok(checkpoint) = recording.checkpoint(id) {
            for p in &checkpoint.processes {
                names.look(p.id, &p.space, &p.process, &p.threads);
            }
        }
    }
    let mut analysis = gatherer.finish(subject(path, recording), &names);
    analysis.bookmarks = bookmarks::of(recording);
    analysis
}
