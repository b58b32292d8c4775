//! The index as it is read: runs from files, and the rest made from the log.

use super::open::read_commit;
use crate::index::Entry;
use crate::index::lookup::IndexSet;
use crate::index::merge::{Merged, due};
use crate::index::run::{self, Data, Run};
use crate::log::Location;
use crate::log::commit::Commit;
use crate::log::record::Kind;
use crate::log::scan::LogReader;
use crate::log::table::{self, PageEntry};
use crate::rows::Row;
use crate::{Error, Recording};
use std::fs::File;
use std::path::Path;
use std::sync::Arc;

/// Entries sorted at once when an index is made from the log.
const BATCH: usize = 1 << 18;

/// Opens the runs in the directory, oldest first, their ranges apart. What cannot be opened is left
/// out, and told.
pub fn open_runs(dir: &Path, id: &[u8; 16]) -> (Vec<Arc<Run>>, Vec<String>) {
    let folder = dir.join("index");
    let mut problems = Vec::new();
    let mut names: Vec<(u64, u64)> = match std::fs::read_dir(&folder) {
        Ok(entries) => entries
            .filter_map(|e| run::parse_name(e.ok()?.file_name().to_str()?))
            .collect(),
        Err(e) => {
            problems.push(format!("cannot read {}: {e}", folder.display()));
            Vec::new()
        }
    };
    // The longest of those that begin together comes first, and those within it are passed over.
    names.sort_unstable_by_key(|(first, last)| (*first, u64::MAX - last));
    let mut runs: Vec<Arc<Run>> = Vec::new();
    for (first, last) in names {
        if runs.last().is_some_and(|r| first <= r.last) {
            continue;
        }
        let path = run::path(dir, first, last);
        let opened = File::open(&path)
            .map_err(Into::into)
            .and_then(|f| Run::open(Data::File(f), id));
        match opened {
            Ok(run) if (run.first, run.last) == (first, last) => runs.push(Arc::new(run)),
            Ok(_) => problems.push(format!("{} has another's name", path.display())),
            Err(e) => problems.push(format!("{}: {e}", path.display())),
        }
    }
    (runs, problems)
}

/// Reads the page tables of a commit.
///
/// # Errors
/// If one is damaged or has another number of entries than the commit says.
pub fn read_tables(log: &LogReader, commit: &Commit) -> Result<Vec<PageEntry>, Error> {
    let mut all = Vec::new();
    for &(at, count) in &commit.tables {
        let (bytes, _) = log.read(at, Kind::Table)?;
        let mut part = table::decode(&bytes).map_err(LogReader::malformed(at, Kind::Table))?;
        let last = all.last().map(|e: &PageEntry| (e.space, e.page));
        if part.len() != count as usize || part.first().map(|e| (e.space, e.page)) <= last {
            return Err(Error::Damaged(format!(
                "the table in {at}: it is not the one committed"
            )));
        }
        all.append(&mut part);
    }
    Ok(all)
}

/// Makes runs for checkpoints `first` to `last` from the log. Those whose tables cannot be read
/// become holes.
pub fn from_log(
    log: &LogReader,
    id: &[u8; 16],
    rows: &[Row],
    commits: &[(Location, u64)],
    (first, last): (u64, u64),
    holes: &mut Vec<u64>,
) -> Result<Vec<Arc<Run>>, Error> {
    let mut runs: Vec<Arc<Run>> = Vec::new();
    let mut entries: Vec<Entry> = Vec::new();
    let mut begin = first;
    let mut expected = first;
    let mut at = rows.partition_point(|r| r.id.0 < first);
    while let (Some(row), Some((place, check))) = (rows.get(at), commits.get(at)) {
        let number = row.id.0;
        if number > last {
            break;
        }
        holes.extend(expected..number);
        expected = number + 1;
        at += 1;
        let tables = read_commit(log, *place).and_then(|(commit, found)| {
            if commit.id != row.id || found != *check {
                return Err(Error::Damaged(format!("the commit in {place} is another")));
            }
            read_tables(log, &commit)
        });
        match tables {
            Ok(tables) => entries.extend(tables.iter().map(|e| Entry {
                space: e.space,
                page: e.page,
                checkpoint: number,
                version: e.version,
            })),
            Err(_) => holes.push(number),
        }
        if entries.len() >= BATCH {
            runs.push(build(id, begin, number, &mut entries)?);
            begin = number + 1;
        }
    }
    // Numbers missing at the end of the range, but not past the last checkpoint there is.
    if let Some(newest) = rows.last() {
        holes.extend(expected..=last.min(newest.id.0));
    }
    if begin <= last {
        runs.push(build(id, begin, last, &mut entries)?);
    }
    holes.sort_unstable();
    holes.dedup();
    Ok(runs)
}

fn build(
    id: &[u8; 16],
    first: u64,
    last: u64,
    entries: &mut Vec<Entry>,
) -> Result<Arc<Run>, Error> {
    entries.sort_unstable();
    let run = Run::in_memory(id, first, last, entries).map_err(broken)?;
    entries.clear();
    Ok(Arc::new(run))
}

fn broken(e: run::RunError) -> Error {
    Error::Damaged(format!("the index could not be made again: {e}"))
}

/// Merges small runs held in memory at the end of the list, so that a recording followed live does
/// not end up with one run for each look.
pub fn compact(id: &[u8; 16], runs: &mut Vec<Arc<Run>>) -> Result<(), Error> {
    loop {
        let held = runs.iter().rev().take_while(|r| r.is_in_memory()).count();
        let sizes: Vec<u64> = runs[runs.len() - held..]
            .iter()
            .map(|r| r.entries)
            .collect();
        let Some(n) = due(&sizes, 4096) else {
            return Ok(());
        };
        let old = runs.split_off(runs.len() - n);
        let (Some(first), Some(last)) = (old.first(), old.last()) else {
            return Ok(());
        };
        let (first, last) = (first.first, last.last);
        let mut merged = Merged::new(&old, (0, 0, 0)).map_err(|(_, e)| broken(e))?;
        let mut entries = Vec::new();
        while let Some(e) = merged.next().map_err(|(_, e)| broken(e))? {
            entries.push(e);
        }
        runs.push(Arc::new(
            Run::in_memory(id, first, last, &entries).map_err(broken)?,
        ));
    }
}

impl Recording {
    /// The index, loaded when first asked for.
    pub(super) fn index(&self) -> Result<Arc<IndexSet>, Error> {
        let mut slot = self.lock_index();
        if let Some(set) = &*slot {
            return Ok(Arc::clone(set));
        }
        let (files, problems) = open_runs(&self.dir, &self.header.id);
        for problem in problems {
            tracing::debug!("index: {problem}; the log is used instead");
        }
        let mut set = IndexSet::default();
        let newest = self.list.rows.last().map(|r| r.id.0);
        let mut next = 0;
        for run in files {
            if run.first > next {
                self.cover(&mut set, next, run.first - 1)?;
            }
            next = run.last.saturating_add(1);
            set.runs.push(run);
        }
        if let Some(newest) = newest.filter(|n| *n >= next) {
            self.cover(&mut set, next, newest)?;
        }
        let set = Arc::new(set);
        *slot = Some(Arc::clone(&set));
        Ok(set)
    }

    fn cover(&self, set: &mut IndexSet, first: u64, last: u64) -> Result<(), Error> {
        let list = &self.list;
        let mut runs = from_log(
            &self.log,
            &self.header.id,
            &list.rows,
            &list.commits,
            (first, last),
            &mut set.holes,
        )?;
        set.runs.append(&mut runs);
        Ok(())
    }

    /// After new checkpoints were found.
    pub(super) fn extend_index(&self) -> Result<(), Error> {
        let mut slot = self.lock_index();
        let (Some(old), Some(newest)) = (slot.as_ref(), self.list.rows.last()) else {
            return Ok(());
        };
        let mut set = IndexSet::clone(old);
        let next = set.runs.last().map_or(0, |r| r.last.saturating_add(1));
        if newest.id.0 >= next {
            self.cover(&mut set, next, newest.id.0)?;
            compact(&self.header.id, &mut set.runs)?;
        }
        *slot = Some(Arc::new(set));
        Ok(())
    }

    /// A run turned out to be damaged: makes it again from the log.
    pub(super) fn replace_run(
        &self,
        asked: &Arc<IndexSet>,
        number: usize,
        why: &run::RunError,
    ) -> Result<(), Error> {
        let mut slot = self.lock_index();
        let Some(set) = slot.as_ref() else {
            return Ok(());
        };
        if !Arc::ptr_eq(set, asked) {
            // Someone else was here.
            return Ok(());
        }
        let mut set = IndexSet::clone(set);
        let bad = match set.runs.get(number) {
            Some(run) if !run.is_in_memory() => Arc::clone(run),
            _ => return Err(Error::Damaged(format!("the index cannot be read: {why}"))),
        };
        tracing::warn!(
            "the index of checkpoints {} to {} is damaged ({why}); the log is used instead",
            bad.first,
            bad.last
        );
        let mut new = IndexSet {
            runs: Vec::new(),
            holes: std::mem::take(&mut set.holes),
        };
        self.cover(&mut new, bad.first, bad.last)?;
        set.holes = new.holes;
        set.runs.splice(number..=number, new.runs);
        *slot = Some(Arc::new(set));
        Ok(())
    }
}
