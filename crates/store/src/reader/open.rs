//! Finding the checkpoints: the table as far as it goes, then the log.

use crate::check::Key;
use crate::log::Location;
use crate::log::commit::Commit;
use crate::log::record::Kind;
use crate::log::scan::{LogReader, Step};
use crate::log::segment::{self, decode_header};
use crate::retention::ledger::Ledger;
use crate::rows::{self, FullRow, ROW, Row};
use crate::{Error, Summary, header};
use std::io::{ErrorKind, Read};
use std::path::Path;
use std::sync::Arc;

/// What is known about a recording's checkpoints.
#[derive(Debug, Default)]
pub struct Listing {
    /// For each checkpoint, ascending.
    pub rows: Vec<Row>,
    /// For each, where its commit is and the check of it.
    pub commits: Vec<(Location, u64)>,
    /// The closing record.
    pub summary: Option<Summary>,
    /// What is wrong.
    pub damage: Vec<String>,
    /// Where reading the log goes on.
    pub tail: Location,
    /// Bytes of an incomplete record there.
    pub torn: u64,
    /// What retention has decided.
    pub ledger: Arc<Ledger>,
}

/// Most lines of damage kept; a thoroughly broken file has no end of them.
const LINES: usize = 1000;

impl Listing {
    /// Reads the table, and the log from where the table ends.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn read(dir: &Path, log: &LogReader, id: &[u8; 16]) -> Result<Self, Error> {
        let mut list = Self {
            tail: LogReader::first(),
            ledger: Arc::new(Ledger::read(dir, log.key())?),
            ..Self::default()
        };
        list.read_table(dir, log, id)?;
        if let Some((commit, _)) = list.commits.last() {
            list.tail = *commit;
        }
        list.follow(log)?;
        Ok(list)
    }

    /// Takes up what retention has decided since; whether it has.
    ///
    /// # Errors
    /// If the ledger cannot be read.
    pub fn renew(&mut self, dir: &Path, log: &LogReader) -> Result<bool, Error> {
        let ledger = Ledger::read(dir, log.key())?;
        if ledger.generation == self.ledger.generation {
            return Ok(false);
        }
        self.take_up(ledger);
        Ok(true)
    }

    /// Goes by another ledger from now on.
    pub fn take_up(&mut self, ledger: Ledger) {
        self.ledger = Arc::new(ledger);
        let ledger = &self.ledger;
        let kept = |row: &Row| !ledger.removed.contains(row.id.0);
        let keep: Vec<bool> = self.rows.iter().map(kept).collect();
        let mut marks = keep.iter();
        self.commits.retain(|_| marks.next() == Some(&true));
        self.rows.retain(kept);
        for row in &mut self.rows {
            apply(ledger, row);
        }
    }

    /// Adds a line about damage.
    pub fn note(&mut self, line: String) {
        if self.damage.len() < LINES && !self.damage.contains(&line) {
            self.damage.push(line);
        }
    }

    fn push(&mut self, full: &FullRow) {
        let mut row = full.row;
        if self.ledger.removed.contains(row.id.0) {
            return;
        }
        apply(&self.ledger, &mut row);
        self.rows.push(row);
        self.commits.push((full.commit, full.check));
    }

    fn read_table(&mut self, dir: &Path, log: &LogReader, id: &[u8; 16]) -> Result<(), Error> {
        let path = dir.join(rows::NAME);
        let mut bytes = Vec::new();
        match std::fs::File::open(&path) {
            Ok(mut file) => file
                .read_to_end(&mut bytes)
                .map_err(Error::io("read", &path))?,
            Err(e) if e.kind() == ErrorKind::NotFound => {
                if log.names().is_ok_and(|n| !n.is_empty()) {
                    self.note(format!("{} is missing; used the log instead", rows::NAME));
                }
                return Ok(());
            }
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        if decode_header(&bytes, rows::MAGIC, ROW as u32, id).is_err() {
            if !bytes.is_empty() {
                self.note(format!(
                    "{}: its header is damaged; used the log",
                    rows::NAME
                ));
            }
            return Ok(());
        }
        let body = bytes.get(segment::HEADER..).unwrap_or_default();
        let key: Key = log.key();
        let mut next = 0;
        for (number, row) in (0u64..).zip(body.chunks_exact(ROW)) {
            // Rows of removed checkpoints may be missing, others not.
            let follows = |full: &FullRow| {
                let id = full.row.id.0;
                id >= next && self.ledger.removed.contains_all(next, id)
            };
            match rows::decode_any(key, row) {
                Ok(full) if follows(&full) => {
                    next = full.row.id.0 + 1;
                    self.push(&full);
                }
                _ => {
                    self.note(format!(
                        "{}: row {number} is damaged; used the log",
                        rows::NAME
                    ));
                    break;
                }
            }
        }
        // After a cut the table may know more than the log.
        while let Some((at, _)) = self.commits.last() {
            if log.reaches(*at) {
                break;
            }
            self.commits.pop();
            if let Some(row) = self.rows.pop() {
                self.note(format!(
                    "checkpoint {} is cut off the end of the log",
                    row.id
                ));
            }
        }
        Ok(())
    }

    /// Reads the log from `tail` to its end; returns how many checkpoints were found.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn follow(&mut self, log: &LogReader) -> Result<usize, Error> {
        let before = self.rows.len();
        loop {
            match log.step(self.tail)? {
                Step::End { at, torn } => {
                    self.tail = at;
                    self.torn = torn;
                    return Ok(self.rows.len() - before);
                }
                Step::Damage { at, next, why } => {
                    self.note(format!("{at}: {why}"));
                    self.tail = next;
                }
                Step::Record(met) => {
                    self.tail = met.next;
                    match met.header.kind {
                        Kind::Commit => self.commit(log, met.at),
                        Kind::Summary => self.summary(log, met.at),
                        Kind::Pack | Kind::Section | Kind::Table | Kind::Remnant | Kind::Left => {}
                    }
                }
            }
        }
    }

    fn commit(&mut self, log: &LogReader, at: Location) {
        let (commit, check) = match read_commit(log, at) {
            Ok(read) => read,
            Err(e) => return self.note(e.to_string()),
        };
        let id = commit.id.0;
        let removed = &self.ledger.removed;
        if removed.contains(id) {
            return;
        }
        if let (Some(last), Some((place, last_check))) = (self.rows.last(), self.commits.last()) {
            let last = last.id.0;
            if id <= last {
                // The one that reading began at.
                if *place != at || *last_check != check {
                    self.note(format!("{at}: it repeats checkpoint {id}"));
                }
                return;
            }
            if !removed.contains_all(last + 1, id) {
                self.note(format!("checkpoints {} to {} are lost", last + 1, id - 1));
            } else if id == last + 1 && commit.previous_check != *last_check {
                self.note(format!(
                    "{at}: checkpoint {id} does not follow checkpoint {last}"
                ));
            }
        } else if !removed.contains_all(0, id) {
            self.note(format!("checkpoints 0 to {} are lost", id - 1));
        }
        let row = Row {
            id: commit.id,
            tick: commit.tick,
            stored_bytes: commit.stored_bytes,
            raw_bytes: commit.raw_bytes,
        };
        self.push(&FullRow {
            row,
            commit: at,
            check,
        });
    }

    fn summary(&mut self, log: &LogReader, at: Location) {
        let read = log.read(at, Kind::Summary).and_then(|(bytes, _)| {
            header::from_postcard(&bytes).map_err(LogReader::malformed(at, Kind::Summary))
        });
        match read {
            Ok(summary) => self.summary = Some(summary),
            Err(e) => self.note(e.to_string()),
        }
    }
}

/// What a row says once others were merged into its checkpoint.
fn apply(ledger: &Ledger, row: &mut Row) {
    if let Some(merged) = ledger.merged.get(&row.id.0) {
        row.tick = merged.tick;
        row.raw_bytes = merged.raw_bytes;
    }
}

/// Reads a commit and the check of its payload.
///
/// # Errors
/// If it is damaged or cannot be read.
pub fn read_commit(log: &LogReader, at: Location) -> Result<(Commit, u64), Error> {
    let (bytes, check) = log.read(at, Kind::Commit)?;
    let commit = Commit::decode(&bytes).map_err(LogReader::malformed(at, Kind::Commit))?;
    Ok((commit, check))
}
