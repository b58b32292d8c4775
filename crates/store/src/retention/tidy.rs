//! What only saves time, and what nobody refers to: index, table, copies of files, leftovers of an
//! interrupted run.

use super::compact::file_path;
use super::ledger;
use super::view::View;
use crate::files::Files;
use crate::index::run;
use crate::log::scan::file_names;
use crate::log::{parts, segment};
use crate::reader::open::read_commit;
use crate::rows::{self, FullRow, ROW, Row};
use crate::writer::create::object_names;
use crate::writer::index::write_run;
use crate::{Error, Recording, objects};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use stillframe_image::AddressSpace;
use stillframe_image::section::{Section, SectionKind};

fn remove(files: &dyn Files, path: &Path) -> Result<(), Error> {
    match files.remove(path) {
        Err(e) if e.kind() != std::io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Removes what an interrupted run left: files half written, and files that were compacted into
/// others.
///
/// # Errors
/// If files cannot be read or removed.
pub fn clean(dir: &Path, files: &dyn Files) -> Result<(), Error> {
    for name in [
        "log/new.tmp",
        "index/new.tmp",
        ledger::TEMPORARY,
        rows::TEMPORARY,
    ] {
        let path = dir.join(name);
        if path.symlink_metadata().is_ok() {
            remove(files, &path)?;
        }
    }
    let log = dir.join("log");
    let names = file_names(dir).map_err(Error::io("read", &log))?;
    for entry in std::fs::read_dir(&log).map_err(Error::io("read", &log))? {
        let entry = entry.map_err(Error::io("read", &log))?;
        if let Some(name) = entry.file_name().to_str().and_then(parts::parse_name)
            && !names.contains(&name)
        {
            remove(files, &file_path(dir, name))?;
        }
    }
    Ok(())
}

/// Writes the index again without what is hidden from all that remain, if there is anything such.
///
/// # Errors
/// If the index cannot be read, or made from the log. That it cannot be written is a warning:
/// nothing depends on it.
pub fn index(recording: &Recording, files: &dyn Files) -> Result<(), Error> {
    let Some(newest) = recording.rows().last().map(|r| r.id.0) else {
        return Ok(());
    };
    let view = View::new(recording);
    let removed = &recording.list.ledger.removed;
    // Damaged runs are made again on the way.
    let garbage = recording.ask(|set| {
        let mut merged = set.merged(u64::MAX, (0, 0, 0))?;
        let (mut last, mut garbage): (Option<crate::index::Entry>, u64) = (None, 0);
        loop {
            let next = merged
                .next()
                .map_err(|(i, e)| crate::index::lookup::Failed::Run(i, e))?;
            if let Some(e) = &last {
                garbage +=
                    u64::from(removed.contains(e.checkpoint) && view.hides(next.as_ref(), e));
            }
            match next {
                None => return Ok(garbage),
                next => last = next,
            }
        }
    })?;
    let set = recording.index()?;
    if garbage == 0 || !set.holes.is_empty() {
        return Ok(());
    }
    let mut merged = match set.merged(u64::MAX, (0, 0, 0)) {
        Ok(merged) => merged,
        Err(_) => return Ok(()),
    };
    let mut pending = None;
    let mut begun = false;
    let id = recording.header.id;
    let last = set.runs.last().map_or(newest, |r| r.last.max(newest));
    let written = write_run(&recording.dir, files, &id, (0, last), &mut || {
        if !begun {
            begun = true;
            pending = merged.next().map_err(|(_, e)| e)?;
        }
        loop {
            let Some(entry) = pending.take() else {
                return Ok(None);
            };
            pending = merged.next().map_err(|(_, e)| e)?;
            if !(removed.contains(entry.checkpoint) && view.hides(pending.as_ref(), &entry)) {
                return Ok(Some(entry));
            }
        }
    });
    if let Err(e) = written {
        tracing::warn!("the index cannot be written again: {e}; readers will use what is there");
        return Ok(());
    }
    let folder = recording.dir.join("index");
    for entry in std::fs::read_dir(&folder).map_err(Error::io("read", &folder))? {
        let entry = entry.map_err(Error::io("read", &folder))?;
        let name = entry.file_name();
        let range = name.to_str().and_then(run::parse_name);
        if range.is_some_and(|r| r != (0, last)) {
            remove(files, &entry.path())?;
        }
    }
    Ok(())
}

/// Writes the table again without the rows of removed checkpoints, if there are any.
///
/// # Errors
/// If it cannot be read or written; the old one then still stands.
pub fn table(recording: &Recording, files: &dyn Files) -> Result<(), Error> {
    let dir = &recording.dir;
    let key = recording.log.key();
    let path = dir.join(rows::NAME);
    let old = std::fs::read(&path).unwrap_or_default();
    let body = old.get(segment::HEADER..).unwrap_or_default();
    let rows: HashMap<u64, &[u8]> = body
        .chunks_exact(ROW)
        .map_while(|bytes| Some((rows::decode_any(key, bytes).ok()?.row.id.0, bytes)))
        .collect();
    let removed = &recording.list.ledger.removed;
    if !rows.keys().any(|n| removed.contains(*n)) {
        return Ok(());
    }
    let mut out = rows::header(&recording.header.id).to_vec();
    for (row, (at, check)) in recording.list.rows.iter().zip(&recording.list.commits) {
        if let Some(bytes) = rows.get(&row.id.0) {
            out.extend_from_slice(bytes);
            continue;
        }
        let (commit, _) = read_commit(&recording.log, *at)?;
        let full = FullRow {
            row: Row {
                id: row.id,
                tick: commit.tick,
                stored_bytes: commit.stored_bytes,
                raw_bytes: commit.raw_bytes,
            },
            commit: *at,
            check: *check,
        };
        out.extend_from_slice(&rows::encode(key, row.id.0, &full));
    }
    let temporary = dir.join(rows::TEMPORARY);
    let file = files
        .create(&temporary)
        .map_err(Error::io("create", &temporary))?;
    file.write_at(0, &out)
        .map_err(Error::io("write", &temporary))?;
    file.sync().map_err(Error::io("sync", &temporary))?;
    files
        .rename(&temporary, &path)
        .map_err(Error::io("create", &path))
}

/// Removes the copies of files that no remaining checkpoint refers to.
///
/// # Errors
/// If address spaces cannot be read, or copies not removed.
pub fn copies(recording: &Recording, files: &dyn Files) -> Result<(), Error> {
    let mut known = HashSet::new();
    let mut seen = HashSet::new();
    for row in recording.rows() {
        let commit = recording.commit(row.id)?;
        for (key, at) in &commit.sections {
            if key.kind != SectionKind::Space || !seen.insert(*at) {
                continue;
            }
            let (bytes, _) = recording.log.read(*at, crate::log::record::Kind::Section)?;
            let space = AddressSpace::decode(&bytes)?;
            known.extend(space.files.iter().filter_map(|f| f.object));
        }
    }
    for id in object_names(&recording.dir)? {
        if !known.contains(&id) {
            remove(files, &objects::path(&recording.dir, &id))?;
        }
    }
    Ok(())
}

/// Bytes of all files of a recording.
pub fn size(dir: &Path) -> u64 {
    let files = |path: &Path| -> u64 {
        std::fs::read_dir(path).map_or(0, |entries| {
            entries
                .filter_map(|e| e.ok()?.metadata().ok())
                .filter(std::fs::Metadata::is_file)
                .map(|m| m.len())
                .sum()
        })
    };
    ["", "log", "index", "objects"]
        .iter()
        .map(|f| files(&dir.join(f)))
        .sum()
}
