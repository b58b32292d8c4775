//! What the log still needs: marking, from the newest file to the oldest.
//!
//! Everything in the log refers backwards only: commits to sections and tables, tables to page
//! versions, versions to the bases of their differences. So one pass from the end to the beginning
//! sees every reference to a record before the record itself, and needs to hold no more than a bit
//! for each page version that is referred to.

use super::view::View;
use crate::index::Entry;
use crate::log::commit::Commit;
use crate::log::record::Kind;
use crate::log::scan::{LogReader, Name, Step};
use crate::log::{Location, left, parts, table};
use crate::reader::index::{ghost_entries, read_left};
use crate::reader::open::read_commit;
use crate::{Error, Recording, VersionRef};
use std::collections::{HashMap, HashSet};

/// A set of slots of a pack.
#[derive(Clone, Debug, Default)]
struct Slots(Vec<u64>);

impl Slots {
    fn insert(&mut self, slot: u32) {
        let word = slot as usize / 64;
        if self.0.len() <= word {
            self.0.resize(word + 1, 0);
        }
        if let Some(bits) = self.0.get_mut(word) {
            *bits |= 1 << (slot % 64);
        }
    }

    fn contains(&self, slot: u32) -> bool {
        self.0
            .get(slot as usize / 64)
            .is_some_and(|bits| bits >> (slot % 64) & 1 == 1)
    }
}

/// What of earlier files a file refers to.
#[derive(Clone, Debug, Default)]
pub struct References {
    /// Page versions.
    versions: Vec<VersionRef>,
    /// Sections and tables.
    records: Vec<u64>,
}

/// A record of the log, as a walk over it meets it.
#[derive(Clone, Copy, Debug)]
pub struct Item {
    /// Where.
    pub at: Location,
    /// What.
    pub kind: Kind,
    /// Bytes, frame included.
    pub total: u64,
}

/// What a file of the log still has to hold.
#[derive(Debug)]
pub struct Holding {
    /// Which file.
    pub name: Name,
    /// Its records, ascending.
    pub items: Vec<Item>,
    /// Entries of removed checkpoints that are still seen.
    pub left: Vec<Entry>,
    /// Bytes of its records.
    pub bytes: u64,
    /// Bytes it would have without what nobody needs, about.
    pub live: u64,
}

/// The marks.
#[derive(Debug)]
pub struct Marks<'a> {
    recording: &'a Recording,
    view: View<'a>,
    versions: HashMap<u64, Slots>,
    records: HashSet<u64>,
}

impl<'a> Marks<'a> {
    /// None yet.
    pub fn new(recording: &'a Recording) -> Self {
        Self {
            recording,
            view: View::new(recording),
            versions: HashMap::new(),
            records: HashSet::new(),
        }
    }

    fn mark(&mut self, version: VersionRef) {
        if !version.is_zero() {
            self.versions
                .entry(version.pack)
                .or_default()
                .insert(version.slot);
        }
    }

    /// Takes up what a later file refers to.
    pub fn add(&mut self, references: &References) {
        for version in &references.versions {
            self.mark(*version);
        }
        self.records.extend(&references.records);
    }

    /// Whether a section or a table is needed.
    pub fn needs(&self, at: Location) -> bool {
        self.records.contains(&at.0)
    }

    /// Whether anything of a pack is needed.
    pub fn has(&self, at: Location) -> bool {
        self.versions.contains_key(&at.0)
    }

    /// The slots of a pack that are needed, of those it has.
    pub fn slots(&self, at: Location, have: impl Iterator<Item = u32>) -> Vec<u32> {
        match self.versions.get(&at.0) {
            None => Vec::new(),
            Some(slots) => have.filter(|s| slots.contains(*s)).collect(),
        }
    }

    /// Whether a commit is of a checkpoint that was removed.
    fn is_removed(&self, commit: &Commit) -> bool {
        self.recording.list.ledger.removed.contains(commit.id.0)
    }

    fn table(&self, at: Location) -> Result<Vec<table::PageEntry>, Error> {
        let (bytes, _) = self.recording.log.read(at, Kind::Table)?;
        table::decode(&bytes).map_err(LogReader::malformed(at, Kind::Table))
    }

    /// All that a file refers to in earlier ones, needed or not; of a file that is being written, up
    /// to `end`.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn references(&self, name: Name, end: Option<Location>) -> Result<References, Error> {
        let log = &self.recording.log;
        let (mut versions, mut records) = (HashSet::new(), HashSet::new());
        let before = |segment: u32| segment < name.0;
        let mut refer = |version: VersionRef| {
            if !version.is_zero() && before(Location(version.pack).segment()) {
                versions.insert(version);
            }
        };
        for item in items(log, name, end)? {
            match item.kind {
                Kind::Pack | Kind::Remnant => {
                    let pack = log.pack(item.at)?;
                    for slot in pack.numbers() {
                        if let (_, Some(base)) = pack.describe(slot)? {
                            refer(base);
                        }
                    }
                }
                Kind::Table => self.table(item.at)?.iter().for_each(|e| refer(e.version)),
                Kind::Left => read_left(log, item.at)?
                    .iter()
                    .for_each(|e| refer(e.version)),
                Kind::Commit => {
                    let (commit, _) = read_commit(log, item.at)?;
                    let sections = commit.sections.iter().map(|(_, at)| *at);
                    let sections = sections.filter(|_| !self.is_removed(&commit));
                    let tables = commit.tables.iter().map(|(at, _)| *at);
                    records.extend(
                        sections
                            .chain(tables)
                            .filter(|at| before(at.segment()))
                            .map(|at| at.0),
                    );
                }
                Kind::Section | Kind::Summary => {}
            }
        }
        Ok(References {
            versions: versions.into_iter().collect(),
            records: records.into_iter().collect(),
        })
    }

    /// Marks what a file needs for what remains, itself and of earlier ones, and says what it has
    /// to hold. Everything that later files refer to must have been marked before.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn evaluate(&mut self, name: Name) -> Result<Holding, Error> {
        let recording = self.recording;
        let log = &recording.log;
        let items = items(log, name, None)?;
        let bytes = items.iter().map(|i| i.total).sum();
        let mut live = 0;
        let mut ghosts = Vec::new();
        for item in items.iter().rev() {
            match item.kind {
                Kind::Commit => {
                    let (commit, _) = read_commit(log, item.at)?;
                    if self.is_removed(&commit) {
                        ghosts.append(&mut ghost_entries(log, &commit)?);
                        continue;
                    }
                    live += item.total;
                    let sections = commit.sections.iter().map(|(_, at)| at.0);
                    let tables = commit.tables.iter().map(|(at, _)| at.0);
                    self.records.extend(sections.chain(tables));
                }
                Kind::Left => ghosts.append(&mut read_left(log, item.at)?),
                _ => {}
            }
        }
        let left = self.view.visible(&ghosts)?;
        drop(ghosts);
        live += 10 * left.len() as u64;
        for entry in &left {
            self.mark(entry.version);
        }
        for item in items.iter().rev() {
            match item.kind {
                Kind::Section if self.needs(item.at) => live += item.total,
                Kind::Table if self.needs(item.at) => {
                    live += item.total;
                    for entry in self.table(item.at)? {
                        self.mark(entry.version);
                    }
                }
                Kind::Pack | Kind::Remnant => live += self.pack(item)?,
                Kind::Summary => live += item.total,
                _ => {}
            }
        }
        Ok(Holding {
            name,
            items,
            left,
            bytes,
            live,
        })
    }

    /// Marks the bases of the slots needed of a pack; about how many bytes of it are needed.
    fn pack(&mut self, item: &Item) -> Result<u64, Error> {
        if !self.versions.contains_key(&item.at.0) {
            return Ok(0);
        }
        let pack = self.recording.log.pack(item.at)?;
        let (mut all, mut needed) = (0u64, 0u64);
        for slot in pack.numbers().rev() {
            let (length, base) = pack.describe(slot)?;
            let length = length as u64 + 8;
            all += length;
            let marked = self.versions.get(&item.at.0);
            if marked.is_some_and(|s| s.contains(slot)) {
                needed += length;
                if let Some(base) = base {
                    self.mark(base);
                }
            }
        }
        Ok((item.total * needed).checked_div(all).unwrap_or(0))
    }
}

/// The records of a file, ascending; of a file that is being written, up to `end`.
fn items(log: &LogReader, name: Name, end: Option<Location>) -> Result<Vec<Item>, Error> {
    let mut out = Vec::new();
    let mut at = parts::start(name.0);
    loop {
        match log.step(at)? {
            Step::Record(met) if met.at.segment() <= name.1 && end.is_none_or(|e| met.at < e) => {
                out.push(Item {
                    at: met.at,
                    kind: met.header.kind,
                    total: met.header.total(),
                });
                at = met.next;
            }
            Step::Damage { at, why, .. }
                if at.segment() <= name.1 && end.is_none_or(|e| at < e) =>
            {
                return Err(Error::Damaged(format!(
                    "{at}: {why}; a damaged recording is not compacted"
                )));
            }
            _ => return Ok(out),
        }
    }
}

/// The payloads of leftovers that hold `entries`, which ascend by (space, page, checkpoint).
pub fn left_payloads(entries: &[Entry]) -> impl Iterator<Item = Vec<u8>> + '_ {
    entries.chunks(left::ENTRIES).map(left::encode)
}
