//! Giving space back: files of the log written again without what nobody needs.
//!
//! Records keep their locations (see [`crate::log::parts`]), so nothing but the files that hold
//! garbage is touched: the cost of giving space back follows what is given back. Files are written
//! again from the newest to the oldest, so that at every instant whatever stands in the log finds
//! what it refers to.

use super::mark::{Holding, Item, Marks, References, left_payloads};
use crate::check::Key;
use crate::files::{Files, Output};
use crate::index::Entry;
use crate::log::parts::{self, Parts};
use crate::log::record::{self, Kind};
use crate::log::scan::Name;
use crate::log::segment::{HEADER, Packer};
use crate::log::{Location, segment_path};
use crate::{Error, Recording};
use std::collections::HashMap;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Path of a file of the log.
pub fn file_path(dir: &Path, (first, last, compacted): Name) -> PathBuf {
    if compacted {
        parts::path(dir, first, last)
    } else {
        segment_path(dir, first)
    }
}

/// What may be written again, and when it pays.
#[derive(Clone, Debug)]
pub struct Policy {
    /// Only files before this segment.
    pub horizon: u32,
    /// Where the log ends for us, if it is being written.
    pub end: Option<Location>,
    /// Longest file that is made of several.
    pub join: u64,
    /// Files that are looked at; all if `None`.
    pub only: Option<Vec<Name>>,
    /// Files written again even if little of them is garbage.
    pub always: bool,
    /// Nothing is written, only told.
    pub dry: bool,
}

/// How it ended.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Outcome {
    /// Files written again or let go of.
    pub rewritten: u64,
    /// Bytes the log had less afterwards.
    pub freed: u64,
    /// Bytes written.
    pub written: u64,
    /// Whether it was told to stop.
    pub stopped: bool,
}

/// Compacts the log of one recording.
#[derive(Debug)]
pub struct Compactor {
    dir: PathBuf,
    files: Arc<dyn Files>,
    id: [u8; 16],
    key: Key,
    packer: Packer,
    /// What complete files refer to, for those that were looked at. Kept while recording only.
    cache: HashMap<Name, References>,
    keep_cache: bool,
}

impl Compactor {
    /// For the recording in `dir`. With `keep_cache`, files are not read again only to see what
    /// they refer to.
    ///
    /// # Errors
    /// If compression cannot be set up.
    pub fn new(
        dir: &Path,
        files: Arc<dyn Files>,
        id: [u8; 16],
        level: i32,
        keep_cache: bool,
    ) -> Result<Self, Error> {
        Ok(Self {
            dir: dir.into(),
            files,
            id,
            key: Key::new(&id),
            packer: Packer::new(level).map_err(Error::io("set up compression for", dir))?,
            cache: HashMap::new(),
            keep_cache,
        })
    }

    /// Writes again what pays. `progress` gets bytes done and bytes in all, and says whether to go
    /// on.
    ///
    /// # Errors
    /// If the log is damaged, or files cannot be read or written. Whenever it fails or stops, the
    /// log holds everything that is needed.
    pub fn run(
        &mut self,
        recording: &Recording,
        policy: &Policy,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Outcome, Error> {
        let names = recording.log.names()?;
        self.cache.retain(|name, _| names.contains(name));
        let dir = self.dir.clone();
        let size = |name: &Name| std::fs::metadata(file_path(&dir, *name)).map_or(0, |m| m.len());
        let total: u64 = names.iter().map(size).sum();
        let mut done = 0;
        let mut marks = Marks::new(recording);
        let mut plans: Vec<Holding> = Vec::new();
        let mut outcome = Outcome::default();
        for name in names.iter().rev() {
            if policy.end.is_some_and(|end| name.0 > end.segment()) {
                // Begun since the horizon was taken up: it needs nothing that is not needed anyway.
                continue;
            }
            let old = name.1 < policy.horizon;
            let looked_at = old && policy.only.as_ref().is_none_or(|o| o.contains(name));
            let mut plan = None;
            if looked_at {
                let holding = marks.evaluate(*name)?;
                let joins = plans.last().is_some_and(|p| p.name.0 == name.1 + 1);
                if pays(&holding, policy, joins) {
                    plan = Some(holding);
                } else if holding.live < holding.bytes {
                    self.mark_all(&mut marks, *name, None)?;
                }
            } else {
                let end = policy.end.filter(|end| name.1 >= end.segment());
                self.mark_all(&mut marks, *name, end)?;
            }
            plans.extend(plan);
            done += size(name);
            if !progress(done / 2, total) {
                outcome.stopped = true;
                return Ok(outcome);
            }
        }
        if policy.dry {
            outcome.rewritten = plans.len() as u64;
            outcome.freed = plans.iter().map(|p| p.bytes.saturating_sub(p.live)).sum();
            return Ok(outcome);
        }
        let mut at = 0;
        while at < plans.len() {
            let n = group(&plans[at..], policy.join);
            let group = &plans[at..at + n];
            self.rewrite(recording, &marks, group, &mut outcome)?;
            at += n;
            let part = total.saturating_mul(at as u64) / plans.len() as u64;
            if !progress(total / 2 + part / 2, total) {
                outcome.stopped = true;
                return Ok(outcome);
            }
        }
        Ok(outcome)
    }

    fn mark_all(
        &mut self,
        marks: &mut Marks<'_>,
        name: Name,
        end: Option<Location>,
    ) -> Result<(), Error> {
        if let Some(known) = self.cache.get(&name).filter(|_| end.is_none()) {
            marks.add(known);
            return Ok(());
        }
        let references = marks.references(name, end)?;
        marks.add(&references);
        if self.keep_cache && end.is_none() {
            self.cache.insert(name, references);
        }
        Ok(())
    }

    /// Writes a group of neighbouring files, newest first, as one.
    fn rewrite(
        &mut self,
        recording: &Recording,
        marks: &Marks<'_>,
        group: &[Holding],
        outcome: &mut Outcome,
    ) -> Result<(), Error> {
        let (Some(newest), Some(oldest)) = (group.first(), group.last()) else {
            return Ok(());
        };
        let (first, last) = (oldest.name.0, newest.name.1);
        let temporary = self.dir.join("log").join("new.tmp");
        let out = self
            .files
            .create(&temporary)
            .map_err(Error::io("create", &temporary))?;
        let mut sink = Sink {
            out: &*out,
            path: &temporary,
            buffer: Parts::head(first, &self.id).to_vec(),
            offset: 0,
            parts: Parts {
                first,
                last,
                records: Vec::new(),
                end: 0,
            },
        };
        let mut left: Vec<Entry> = group.iter().flat_map(|h| h.left.iter().copied()).collect();
        left.sort_unstable_by_key(Entry::key);
        left.dedup();
        let mut frame = Vec::new();
        for (n, payload) in left_payloads(&left).enumerate() {
            let at = parts::left_location(first, n as u32);
            frame.clear();
            self.encode(at, Kind::Left, &payload, &mut frame);
            sink.record(at, &frame)?;
        }
        let removed = &recording.list.ledger.removed;
        for item in group.iter().rev().flat_map(|h| &h.items) {
            match item.kind {
                Kind::Left => {}
                Kind::Pack | Kind::Remnant => {
                    self.pack(recording, marks, item, &mut frame, &mut sink)?;
                }
                Kind::Commit => {
                    let (commit, _) = crate::reader::open::read_commit(&recording.log, item.at)?;
                    if !removed.contains(commit.id.0) {
                        copy(recording, item, &mut sink)?;
                    }
                }
                Kind::Section | Kind::Table => {
                    if marks.needs(item.at) {
                        copy(recording, item, &mut sink)?;
                    }
                }
                Kind::Summary => copy(recording, item, &mut sink)?,
            }
        }
        let length = sink.finish(self.key)?;
        out.sync().map_err(Error::io("sync", &temporary))?;
        drop(out);
        let path = parts::path(&self.dir, first, last);
        let log = self.dir.join("log");
        let before: u64 = group
            .iter()
            .filter_map(|h| std::fs::metadata(file_path(&self.dir, h.name)).ok())
            .map(|m| m.len())
            .sum();
        self.files
            .rename(&temporary, &path)
            .map_err(Error::io("create", &path))?;
        self.files
            .sync_directory(&log)
            .map_err(Error::io("sync", &log))?;
        for holding in group {
            self.cache.remove(&holding.name);
            let old = file_path(&self.dir, holding.name);
            if old != path {
                self.files.remove(&old).map_err(Error::io("remove", &old))?;
            }
        }
        self.cache.remove(&(first, last, true));
        recording.log.forget_files();
        outcome.rewritten += group.len() as u64;
        outcome.freed += before.saturating_sub(length);
        outcome.written += length;
        Ok(())
    }

    fn encode(&mut self, at: Location, kind: Kind, payload: &[u8], out: &mut Vec<u8>) {
        match self.packer.compress(payload) {
            Some(p) => record::encode(self.key, at, kind, p, Some(payload.len() as u32), out),
            None => record::encode(self.key, at, kind, payload, None, out),
        };
    }

    fn pack(
        &mut self,
        recording: &Recording,
        marks: &Marks<'_>,
        item: &Item,
        frame: &mut Vec<u8>,
        sink: &mut Sink<'_>,
    ) -> Result<(), Error> {
        if !marks.has(item.at) {
            return Ok(());
        }
        let pack = recording.log.pack(item.at)?;
        let keep = marks.slots(item.at, pack.numbers());
        if keep.is_empty() {
            return Ok(());
        }
        if keep.len() == pack.len() as usize {
            return copy(recording, item, sink);
        }
        frame.clear();
        self.encode(item.at, Kind::Remnant, &pack.remnant(&keep)?, frame);
        sink.record(item.at, frame)
    }
}

/// Copies a record as it stands.
fn copy(recording: &Recording, item: &Item, sink: &mut Sink<'_>) -> Result<(), Error> {
    let (header, bytes) = recording.log.frame(item.at, &[item.kind])?;
    header
        .payload_matches(&bytes)
        .map_err(crate::log::scan::LogReader::malformed(item.at, item.kind))?;
    sink.record(item.at, &bytes)
}

/// Whether a file is worth writing again: a sixteenth of it is garbage, or it is small, or it joins
/// one that is written again and is small.
fn pays(holding: &Holding, policy: &Policy, joins: bool) -> bool {
    const SMALL: u64 = 4 << 20;
    let dead = holding.bytes.saturating_sub(holding.live);
    policy.always
        || dead * 16 >= holding.bytes.max(1)
        || holding.bytes <= SMALL && dead >= 4096
        || joins && holding.name.2 && holding.live * 8 < policy.join
}

/// How many plans at the beginning go into one file: neighbours, as many as fit.
fn group(plans: &[Holding], join: u64) -> usize {
    let mut live = 0;
    let mut n = 0;
    for pair in plans.iter().enumerate() {
        let (i, plan) = pair;
        live += plan.live;
        let next = i == 0 || plans[i - 1].name.0 == plan.name.1 + 1;
        if i > 0 && (!next || live > join) {
            break;
        }
        n = i + 1;
    }
    n.max(1)
}

/// A compacted segment being written.
struct Sink<'a> {
    out: &'a dyn Output,
    path: &'a Path,
    buffer: Vec<u8>,
    /// Where the buffer begins in the file.
    offset: u64,
    parts: Parts,
}

impl Sink<'_> {
    fn record(&mut self, at: Location, frame: &[u8]) -> Result<(), Error> {
        const BUFFER: usize = 1 << 20;
        let offset = self.offset + self.buffer.len() as u64;
        self.parts.records.push((at, offset));
        self.buffer.extend_from_slice(frame);
        if self.buffer.len() >= BUFFER {
            self.flush()?;
        }
        Ok(())
    }

    fn flush(&mut self) -> Result<(), Error> {
        self.out
            .write_at(self.offset, &self.buffer)
            .map_err(Error::io("write", self.path))?;
        self.offset += self.buffer.len() as u64;
        self.buffer.clear();
        Ok(())
    }

    /// Writes the directory; the length of the file.
    fn finish(mut self, key: Key) -> Result<u64, Error> {
        debug_assert!(self.offset + self.buffer.len() as u64 >= HEADER as u64);
        self.parts.end = self.offset + self.buffer.len() as u64;
        let directory = self.parts.encode(key);
        self.buffer.extend_from_slice(&directory);
        self.flush()?;
        Ok(self.offset)
    }
}
