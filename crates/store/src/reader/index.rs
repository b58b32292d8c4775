//! The index as it is read: runs from files, and the rest made from the log.

use super::open::read_commit;
use crate::index::Entry;
use crate::index::lookup::IndexSet;
use crate::index::merge::{Merged, due};
use crate::index::run::{self, Data, Run};
use crate::log::Location;
use crate::log::commit::Commit;
use crate::log::left;
use crate::log::record::Kind;
use crate::log::scan::{LogReader, Step};
use crate::log::table::{self, PageEntry};
use crate::retention::ranges::Ranges;
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

/// What the log holds of removed checkpoints.
#[derive(Debug, Default)]
pub struct Ghosts {
    /// Their page versions, ascending by checkpoint.
    pub entries: Vec<Entry>,
    /// Those of which something is lost.
    pub holes: Vec<u64>,
}

/// The entries of a removed checkpoint whose commit still stands in the log.
///
/// # Errors
/// If its tables are damaged.
pub fn ghost_entries(log: &LogReader, commit: &Commit) -> Result<Vec<Entry>, Error> {
    let tables = read_tables(log, commit)?;
    Ok(tables
        .iter()
        .map(|e| Entry {
            space: e.space,
            page: e.page,
            checkpoint: commit.id.0,
            version: e.version,
        })
        .collect())
}

/// Reads leftovers.
///
/// # Errors
/// If they are damaged.
pub fn read_left(log: &LogReader, at: Location) -> Result<Vec<Entry>, Error> {
    let (bytes, _) = log.read(at, Kind::Left)?;
    left::decode(&bytes).map_err(LogReader::malformed(at, Kind::Left))
}

/// Makes runs for checkpoints `first` to `last` from the log. Those whose tables cannot be read
/// become holes.
pub fn from_log(
    log: &LogReader,
    id: &[u8; 16],
    rows: &[Row],
    commits: &[(Location, u64)],
    (first, last): (u64, u64),
    (removed, ghosts): (&Ranges, &Ghosts),
    holes: &mut Vec<u64>,
) -> Result<Vec<Arc<Run>>, Error> {
    let lost = |from: u64, to: u64| (from..to).filter(|n| !removed.contains(*n));
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
        holes.extend(lost(expected, number));
        entries.extend(between(&ghosts.entries, expected, number));
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
        holes.extend(lost(expected, last.saturating_add(1).min(newest.id.0 + 1)));
    }
    entries.extend(between(&ghosts.entries, expected, last.saturating_add(1)));
    if begin <= last {
        runs.push(build(id, begin, last, &mut entries)?);
    }
    let lost = |n: &&u64| (first..=last).contains(*n);
    holes.extend(ghosts.holes.iter().filter(lost));
    holes.sort_unstable();
    holes.dedup();
    Ok(runs)
}

/// The entries of checkpoints `from` to `to`, the last not included. `ghosts` ascend by checkpoint.
fn between(ghosts: &[Entry], from: u64, to: u64) -> impl Iterator<Item = Entry> + '_ {
    let begin = ghosts.partition_point(|e| e.checkpoint < from);
    let end = ghosts.partition_point(|e| e.checkpoint < to).max(begin);
    ghosts[begin..end].iter().copied()
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
        let mut merged = Merged::new(&old, 0, (0, 0, 0)).map_err(|(_, e)| broken(e))?;
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
    pub(crate) fn index(&self) -> Result<Arc<IndexSet>, Error> {
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
        let removed = &list.ledger.removed;
        let ghosts = if removed.meets(first, last.saturating_add(1)) {
            self.ghosts()?
        } else {
            Arc::default()
        };
        let mut runs = from_log(
            &self.log,
            &self.header.id,
            &list.rows,
            &list.commits,
            (first, last),
            (removed, &ghosts),
            &mut set.holes,
        )?;
        set.runs.append(&mut runs);
        Ok(())
    }

    /// The page versions that removed checkpoints left in the log, ascending by checkpoint: those
    /// in leftovers, and the tables of commits that have not been compacted away. Some may be
    /// visible to nobody; none that is visible is missing.
    pub(crate) fn ghosts(&self) -> Result<Arc<Ghosts>, Error> {
        if let Some(ghosts) = self.ghosts.get() {
            return Ok(Arc::clone(ghosts));
        }
        let removed = &self.list.ledger.removed;
        let Ghosts {
            mut entries,
            mut holes,
        } = Ghosts::default();
        let mut lost = false;
        let mut at = LogReader::first();
        loop {
            match self.log.step(at)? {
                Step::End { .. } => break,
                Step::Damage { at: bad, next, .. } => {
                    // In a compacted file it is known what is no leftover.
                    lost |= !bad.offset().is_multiple_of(8)
                        || bad.offset() == 0
                        || !self.log.is_compacted(bad.segment());
                    at = next;
                }
                Step::Record(met) => {
                    at = met.next;
                    match met.header.kind {
                        Kind::Left => match read_left(&self.log, met.at) {
                            Ok(mut left) => entries.append(&mut left),
                            Err(_) => lost = true,
                        },
                        Kind::Commit => {
                            let Ok((commit, _)) = read_commit(&self.log, met.at) else {
                                lost |= !self.log.is_compacted(met.at.segment());
                                continue;
                            };
                            if !removed.contains(commit.id.0) {
                                continue;
                            }
                            match ghost_entries(&self.log, &commit) {
                                Ok(mut ghosts) => entries.append(&mut ghosts),
                                Err(_) => holes.push(commit.id.0),
                            }
                        }
                        _ => {}
                    }
                }
            }
        }
        if lost {
            // It may have been about any removed checkpoint. What remains comes after, so the last
            // of each range stands for all of it.
            holes.extend(removed.iter().map(|(_, end)| end - 1));
        }
        entries.sort_unstable_by_key(|e| (e.checkpoint, e.space, e.page));
        // A crash between compaction and the removal of what was compacted shows an entry twice.
        entries.dedup();
        Ok(Arc::clone(
            self.ghosts
                .get_or_init(|| Arc::new(Ghosts { entries, holes })),
        ))
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
