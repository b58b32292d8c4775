//! Reading every byte of a recording.

use crate::bytes::ZERO_PAGE;
use crate::index::Entry;
use crate::log::Location;
use crate::log::commit::Commit;
use crate::log::record::Kind;
use crate::log::scan::{LogReader, Met, Step};
use crate::log::{parts, segment};
use crate::pack::decode::{NoBases, Pack, Packs, content};
use crate::reader::index::{open_runs, read_left, read_tables};
use crate::reader::open::read_commit;
use crate::retention::tidy;
use crate::retention::view::View;
use crate::rows::{self, ROW};
use crate::writer::create;
use crate::{Error, Object, Recording, VersionRef};
use std::collections::{HashMap, HashSet};
use std::path::Path;
use std::sync::Arc;
use stillframe_image::section::{Section, SectionKey, SectionKind};
use stillframe_image::{
    Account, AddressSpace, CheckpointId, Descriptors, Gap, Objects, Point, Process, Thread, Tree,
    WrittenFile,
};

/// Most lines of problems and of notes kept.
const LINES: usize = 1000;

/// What [`verify`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct VerifyReport {
    /// Committed checkpoints.
    pub checkpoints: u64,
    /// Page versions decoded and checked.
    pub versions: u64,
    /// Objects whose hash was recomputed.
    pub objects: u64,
    /// Bytes read.
    pub bytes: u64,
    /// Whether a recorder is writing it now.
    pub live: bool,
    /// Whether its closing record is there.
    pub finished: bool,
    /// What is wrong: data that is lost or would be refused. Empty means that all is well.
    pub problems: Vec<String>,
    /// What is odd but loses nothing, such as a torn tail or an index that has to be made again.
    pub notes: Vec<String>,
}

impl VerifyReport {
    fn problem(&mut self, line: impl Into<String>) {
        push(&mut self.problems, line.into());
    }

    fn note(&mut self, line: impl Into<String>) {
        push(&mut self.notes, line.into());
    }
}

fn push(lines: &mut Vec<String>, line: String) {
    if lines.len() < LINES {
        lines.push(line);
    } else if lines.len() == LINES {
        lines.push("and more of the same".into());
    }
}

/// Reads every byte of the recording in `dir`, checks every checksum and every reference, decodes
/// every page version, recomputes the hashes of objects, and compares index and table with the
/// log. `progress` gets bytes done and bytes in all.
///
/// # Errors
/// Only if `dir` is no recording or cannot be read at all; damage is in the report.
pub fn verify(dir: &Path, progress: &mut dyn FnMut(u64, u64)) -> Result<VerifyReport, Error> {
    let live = create::is_live(dir);
    let recording = Recording::open(dir)?;
    let mut check = Check {
        total: tidy::size(dir),
        recording: &recording,
        report: VerifyReport {
            live,
            ..VerifyReport::default()
        },
        packs: Recent::default(),
        slots: HashMap::new(),
        whole: HashMap::new(),
        left: Vec::new(),
        tree: None,
        bounds: Location::NONE,
        progress,
    };
    check.log()?;
    check.leftovers();
    check.commits();
    check.index();
    if let Err(e) = check.ghosts() {
        check.report.problem(e.to_string());
    }
    check.objects()?;
    check.names()?;
    let mut report = check.report;
    report.checkpoints = recording.rows().len() as u64;
    report.finished = recording.summary().is_some();
    if !report.finished && !live {
        report.note("it has no closing record: the recorder was stopped before it could write one");
    }
    progress(report.bytes, report.bytes);
    Ok(report)
}

/// Which versions a pack has.
#[derive(Debug)]
enum Slots {
    /// All up to a number.
    All(u32),
    /// These, ascending.
    Some(Vec<u32>),
}

/// The last packs decoded. Versions refer backwards and mostly not far.
#[derive(Debug, Default)]
struct Recent {
    held: std::sync::Mutex<std::collections::VecDeque<(u64, Arc<Pack>, usize)>>,
}

struct Check<'a> {
    total: u64,
    recording: &'a Recording,
    report: VerifyReport,
    packs: Recent,
    /// Versions in each whole pack.
    slots: HashMap<u64, Slots>,
    /// Whole sections and tables, by place; the kind of a section.
    whole: HashMap<u64, u8>,
    /// Leftovers met.
    left: Vec<Location>,
    /// The list of processes last met, and where it stands.
    tree: Option<(Location, Tree)>,
    /// Where reading began to be complete: the end of the log.
    bounds: Location,
    progress: &'a mut dyn FnMut(u64, u64),
}

struct Through<'a> {
    log: &'a LogReader,
    recent: &'a Recent,
}

impl Packs for Through<'_> {
    fn pack(&self, at: Location) -> Result<Arc<Pack>, Error> {
        const LIMIT: usize = 128 << 20;
        let lock = || {
            self.recent
                .held
                .lock()
                .unwrap_or_else(std::sync::PoisonError::into_inner)
        };
        {
            let mut held = lock();
            let place = held.iter().rposition(|(place, _, _)| *place == at.0);
            if let Some(found) = place.and_then(|i| held.remove(i)) {
                let pack = Arc::clone(&found.1);
                held.push_back(found);
                return Ok(pack);
            }
        }
        let pack = Arc::new(self.log.pack(at)?);
        let mut held = lock();
        held.push_back((at.0, Arc::clone(&pack), pack.memory()));
        let mut bytes: usize = held.iter().map(|(_, _, n)| n).sum();
        while bytes > LIMIT && held.len() > 1 {
            bytes -= held.pop_front().map_or(0, |(_, _, n)| n);
        }
        Ok(pack)
    }
}

impl Check<'_> {
    fn read(&mut self, bytes: u64) {
        self.report.bytes += bytes;
        (self.progress)(self.report.bytes, self.total.max(self.report.bytes));
    }

    /// Every record of the log.
    fn log(&mut self) -> Result<(), Error> {
        let log = &self.recording.log;
        for (first, last, compacted) in log.names()? {
            self.read(segment::HEADER as u64);
            let dir = &self.recording.dir;
            let (path, magic) = if compacted {
                (parts::path(dir, first, last), parts::MAGIC)
            } else {
                (crate::log::segment_path(dir, first), segment::MAGIC)
            };
            let mut head = [0u8; segment::HEADER];
            let length = std::fs::metadata(&path).map_or(0, |m| m.len());
            let read = std::fs::File::open(&path)
                .and_then(|f| std::os::unix::fs::FileExt::read_exact_at(&f, &mut head, 0));
            let id = &self.recording.header.id;
            if read.is_err() || segment::decode_header(&head, magic, first, id).is_err() {
                if length <= segment::HEADER as u64 {
                    self.report
                        .note(format!("segment {first} was only just begun"));
                } else {
                    self.report
                        .problem(format!("{}: its header is damaged", path.display()));
                }
            }
        }
        let mut at = LogReader::first();
        loop {
            match log.step(at)? {
                Step::End { at: end, torn } => {
                    if torn > 0 {
                        self.read(torn);
                        let line = format!("{end}: {torn} bytes were being written at the end");
                        self.report.note(line);
                    }
                    self.bounds = end;
                    return Ok(());
                }
                Step::Damage { at: bad, next, why } => {
                    let bytes = if bad.segment() == next.segment() {
                        format!(", {} bytes", next.offset() - bad.offset())
                    } else {
                        String::new()
                    };
                    self.report.problem(format!("{bad}: damaged{bytes}: {why}"));
                    at = next;
                }
                Step::Record(met) => {
                    self.record(&met);
                    self.read(met.header.total());
                    at = met.next;
                }
            }
        }
    }

    fn record(&mut self, met: &Met) {
        let at = met.at;
        let log = &self.recording.log;
        let result = match met.header.kind {
            Kind::Pack | Kind::Remnant => self.pack(at),
            Kind::Section => log.read(at, Kind::Section).and_then(|(bytes, _)| {
                let kind = decode_section(&bytes)?;
                self.whole.insert(at.0, kind);
                Ok(())
            }),
            Kind::Table => log.read(at, Kind::Table).and_then(|(bytes, _)| {
                let table = crate::log::table::decode(&bytes)
                    .map_err(LogReader::malformed(at, Kind::Table))?;
                let dangling = table.iter().filter(|e| !self.holds(e.version)).count();
                if dangling > 0 {
                    return Err(Error::Damaged(format!(
                        "the table in {at}: {dangling} of its page versions are lost"
                    )));
                }
                Ok(())
            }),
            // They stand before what they refer to.
            Kind::Left => {
                self.left.push(at);
                Ok(())
            }
            // Read in `commits`, with what they refer to.
            Kind::Commit => read_commit(log, at).map(drop),
            Kind::Summary => log.read(at, Kind::Summary).map(drop),
        };
        if let Err(e) = result {
            self.report.problem(e.to_string());
        }
    }

    /// The leftovers that were met.
    fn leftovers(&mut self) {
        for at in std::mem::take(&mut self.left) {
            let dangling = read_left(&self.recording.log, at)
                .map(|entries| entries.iter().filter(|e| !self.holds(e.version)).count());
            match dangling {
                Ok(0) => {}
                Ok(n) => self.report.problem(format!(
                    "the leftovers in {at}: {n} of their page versions are lost"
                )),
                Err(e) => self.report.problem(e.to_string()),
            }
        }
    }

    fn holds(&self, version: VersionRef) -> bool {
        version.is_zero()
            || self.slots.get(&version.pack).is_some_and(|s| match s {
                Slots::All(n) => version.slot < *n,
                Slots::Some(numbers) => numbers.binary_search(&version.slot).is_ok(),
            })
    }

    /// Decodes a pack and every version in it.
    fn pack(&mut self, at: Location) -> Result<(), Error> {
        let through = Through {
            log: &self.recording.log,
            recent: &self.packs,
        };
        let pack = through.pack(at)?;
        let numbers: Vec<u32> = pack.numbers().collect();
        let whole = numbers.last().is_none_or(|n| *n + 1 == pack.len());
        let mut page = ZERO_PAGE;
        let (mut lost, mut why) = (0, None);
        for &slot in &numbers {
            match content(
                &through,
                VersionRef { pack: at.0, slot },
                &mut NoBases,
                &mut page,
            ) {
                Ok(()) => self.report.versions += 1,
                Err(e) => {
                    lost += 1;
                    why.get_or_insert(e);
                }
            }
        }
        let slots = if whole {
            Slots::All(pack.len())
        } else {
            Slots::Some(numbers)
        };
        self.slots.insert(at.0, slots);
        match why {
            None => Ok(()),
            Some(e) => Err(Error::Damaged(format!(
                "{lost} of {} page versions in {at} cannot be read, the first because: {e}",
                pack.len()
            ))),
        }
    }

    /// Every commit: its chain, and what it refers to.
    fn commits(&mut self) {
        let list = &self.recording.list;
        let table = std::fs::read(self.recording.dir.join(rows::NAME)).unwrap_or_default();
        self.read(table.len() as u64);
        let key = self.recording.log.key();
        let body = table.get(segment::HEADER..).unwrap_or_default();
        let in_table: HashSet<u64> = body
            .chunks_exact(ROW)
            .map_while(|row| rows::decode_any(key, row).ok())
            .map(|full| full.row.id.0)
            .collect();
        for line in &list.damage {
            // Damage of the log was met again above; what remains is about the table.
            if line.contains(rows::NAME) {
                self.report.note(line.clone());
            } else if line.contains("lost") || line.contains("cut off") {
                self.report.problem(line.clone());
            }
        }
        let mut previous: Option<(CheckpointId, Location, u64)> = None;
        for (row, (at, check)) in list.rows.iter().zip(&list.commits) {
            let id = row.id;
            let commit = match read_commit(&self.recording.log, *at) {
                Ok((commit, found)) if commit.id == id && found == *check => commit,
                Ok(_) => {
                    self.report
                        .problem(format!("the commit in {at} is not checkpoint {id}'s"));
                    continue;
                }
                Err(e) => {
                    self.report.problem(format!("checkpoint {id}: {e}"));
                    continue;
                }
            };
            if let Some((last, place, sum)) = previous {
                let follows = commit.previous == place && commit.previous_check == sum;
                if last.0 + 1 == id.0 && !follows {
                    self.report
                        .problem(format!("checkpoint {id} does not follow {last}"));
                }
            }
            previous = Some((id, *at, *check));
            let merged = list.ledger.merged.contains_key(&id.0);
            if commit.stored_bytes != row.stored_bytes
                || !merged && (commit.tick != row.tick || commit.raw_bytes != row.raw_bytes)
            {
                self.report.problem(format!(
                    "row {id} of {} differs from its commit",
                    rows::NAME
                ));
            }
            if !in_table.contains(&id.0) {
                self.report.note(format!("{} has no row {id}", rows::NAME));
            }
            self.references(&commit, *at);
        }
    }

    /// The processes of a checkpoint. The list seldom changes.
    fn tree(&mut self, commit: &Commit) -> Result<Tree, Error> {
        let at = commit.section(SectionKey::whole(SectionKind::Tree));
        if let (Some(at), Some((place, tree))) = (at, &self.tree)
            && *place == at
        {
            return Ok(tree.clone());
        }
        let tree = self.recording.tree(commit.id)?;
        self.tree = at.map(|at| (at, tree.clone()));
        Ok(tree)
    }

    fn references(&mut self, commit: &Commit, at: Location) {
        let id = commit.id;
        let mut wanted: Vec<SectionKey> =
            SectionKind::OF_CHECKPOINT.map(SectionKey::whole).to_vec();
        match self.tree(commit) {
            Ok(tree) => {
                for node in &tree.processes {
                    wanted
                        .extend(SectionKind::OF_PROCESS.map(|kind| SectionKey::of(node.id, kind)));
                }
                let strange = |(key, _): &&(SectionKey, Location)| {
                    SectionKind::OF_PROCESS.contains(&key.kind) && !tree.contains(key.process)
                };
                if let Some((key, _)) = commit.sections.iter().find(strange) {
                    self.report.problem(format!(
                        "checkpoint {id}: it has sections of process {}, which it does not list",
                        key.process.0
                    ));
                }
            }
            Err(e) => self.report.problem(format!("checkpoint {id}: {e}")),
        }
        for key in wanted {
            let SectionKey { process, kind } = key;
            match commit.section(key) {
                Some(place) if place < at && self.whole.get(&place.0) == Some(&(kind as u8)) => {}
                None if kind.may_be_absent() => {}
                _ => self.report.problem(format!(
                    "checkpoint {id}: its {kind:?} section for process {} is lost",
                    process.0
                )),
            }
        }
        if let Err(e) = read_tables(&self.recording.log, commit) {
            self.report.problem(format!("checkpoint {id}: {e}"));
        }
    }

    /// Every run, against the tables of the log.
    fn index(&mut self) {
        let (runs, problems) = open_runs(&self.recording.dir, &self.recording.header.id);
        for line in problems {
            self.report
                .note(format!("index: {line}; it is made again from the log"));
        }
        let list = &self.recording.list;
        let removed = &list.ledger.removed;
        for run in runs {
            // An order-independent sum over all entries: equal sums mean equal sets.
            let (mut count, mut sum, mut all) = (0u64, 0u64, 0u64);
            let mut broken = None;
            for number in 0..run.blocks() {
                match run.block(number) {
                    Ok(entries) => {
                        all += entries.len() as u64;
                        let kept = entries.iter().filter(|e| !removed.contains(e.checkpoint));
                        for e in kept {
                            count += 1;
                            sum = sum.wrapping_add(fingerprint(e));
                        }
                    }
                    Err(e) => broken = Some(e.to_string()),
                }
                self.read(4096);
            }
            let (mut want_count, mut want_sum, mut known) = (0u64, 0u64, true);
            let covered = list.rows.partition_point(|r| r.id.0 < run.first);
            let covered = &list.rows[covered..];
            let mut expected = removed.next_outside(run.first);
            for number in covered
                .iter()
                .map(|r| r.id.0)
                .take_while(|n| *n <= run.last)
            {
                known &= number == expected;
                expected = removed.next_outside(number + 1);
                let tables = self
                    .recording
                    .commit(CheckpointId(number))
                    .and_then(|c| read_tables(&self.recording.log, &c));
                let Ok(tables) = tables else {
                    known = false;
                    continue;
                };
                want_count += tables.len() as u64;
                want_sum = tables.iter().fold(want_sum, |s, e| {
                    s.wrapping_add(fingerprint(&Entry {
                        space: e.space,
                        page: e.page,
                        checkpoint: number,
                        version: e.version,
                    }))
                });
            }
            known &= expected > run.last;
            let name = format!("the index of checkpoints {} to {}", run.first, run.last);
            if let Some(why) = broken {
                self.report
                    .note(format!("{name}: {why}; it is made again from the log"));
            } else if known && (count, sum) != (want_count, want_sum) {
                self.report.problem(format!("{name} differs from the log"));
            } else if all != run.entries {
                self.report
                    .problem(format!("{name} has another number of entries than it says"));
            }
        }
    }

    /// What removed checkpoints left and remaining ones see: the same by the log and by the index.
    fn ghosts(&mut self) -> Result<(), Error> {
        let recording = self.recording;
        if recording.list.ledger.removed.is_empty() {
            return Ok(());
        }
        let ghosts = recording.ghosts()?;
        if !ghosts.holes.is_empty() {
            self.report
                .problem("what removed checkpoints left behind is damaged".to_owned());
        }
        let sum = |entries: &[Entry]| {
            entries
                .iter()
                .fold(0u64, |s, e| s.wrapping_add(fingerprint(e)))
        };
        let view = View::new(recording);
        let mut by_log = view.visible(&ghosts.entries)?;
        let indexed = view.indexed_ghosts()?;
        let mut by_index = view.visible(&indexed)?;
        by_log.sort_unstable();
        by_index.sort_unstable();
        if (by_log.len(), sum(&by_log)) != (by_index.len(), sum(&by_index)) {
            self.report.problem(
                "the index of removed checkpoints differs from what the log has of them".to_owned(),
            );
        }
        Ok(())
    }

    fn objects(&mut self) -> Result<(), Error> {
        for id in create::object_names(&self.recording.dir)? {
            match Object::open(&self.recording.dir, &id).and_then(|o| o.verify()) {
                Ok(bytes) => {
                    self.report.objects += 1;
                    self.read(bytes);
                }
                Err(e) => self.report.problem(e.to_string()),
            }
        }
        // Files that checkpoints refer to; address spaces change seldom, so few are decoded.
        let mut seen = HashSet::new();
        for row in self.recording.rows() {
            let Ok(commit) = self.recording.commit(row.id) else {
                continue;
            };
            for (key, at) in &commit.sections {
                if key.kind == SectionKind::Space && seen.insert(*at) {
                    self.files_of(row.id, *at);
                }
            }
        }
        Ok(())
    }

    /// Whether the copies that an address space refers to are there.
    fn files_of(&mut self, id: CheckpointId, at: Location) {
        let Ok((bytes, _)) = self.recording.log.read(at, Kind::Section) else {
            return;
        };
        let Ok(space) = AddressSpace::decode(&bytes) else {
            return;
        };
        for file in &space.files {
            let Some(object) = &file.object else { continue };
            if let Err(e) = Object::open(&self.recording.dir, object) {
                let name = String::from_utf8_lossy(&file.path);
                let line = format!("checkpoint {id}: the copy of {name}: {e}");
                if !self.report.problems.contains(&line) {
                    self.report.problem(line);
                }
            }
        }
    }

    /// Names that do not belong.
    fn names(&mut self) -> Result<(), Error> {
        let dir = &self.recording.dir;
        for entry in std::fs::read_dir(dir).map_err(Error::io("read", dir))? {
            let name = entry.map_err(Error::io("read", dir))?.file_name();
            if !create::NAMES.iter().any(|n| name == *n) {
                self.report
                    .note(format!("{} is no part of a recording", name.display()));
            }
        }
        let size = std::fs::metadata(dir.join(crate::header::NAME)).map_or(0, |m| m.len());
        self.read(size);
        Ok(())
    }
}

fn fingerprint(e: &Entry) -> u64 {
    let mut bytes = [0u8; 32];
    crate::bytes::set_u64(&mut bytes, 0, e.page);
    crate::bytes::set_u64(&mut bytes, 8, e.checkpoint);
    crate::bytes::set_u64(&mut bytes, 16, e.version.pack);
    crate::bytes::set_u32(&mut bytes, 24, e.version.slot);
    crate::bytes::set_u32(&mut bytes, 28, e.space);
    crate::check::check(0, &bytes)
}

/// Decodes a section of any kind; gives the kind.
fn decode_section(bytes: &[u8]) -> Result<u8, Error> {
    let kind = bytes.first().and_then(|b| SectionKind::from_u8(*b));
    let Some(kind) = kind else {
        return Err(Error::Damaged("a section has an unknown kind".into()));
    };
    match kind {
        SectionKind::Space => AddressSpace::decode(bytes).map(drop),
        SectionKind::Threads => Vec::<Thread>::decode(bytes).map(drop),
        SectionKind::Descriptors => Descriptors::decode(bytes).map(drop),
        SectionKind::Process => Process::decode(bytes).map(drop),
        SectionKind::Gaps => Vec::<Gap>::decode(bytes).map(drop),
        SectionKind::Tree => Tree::decode(bytes).map(drop),
        SectionKind::Account => Account::decode(bytes).map(drop),
        SectionKind::Points => Vec::<Point>::decode(bytes).map(drop),
        SectionKind::Files => Vec::<WrittenFile>::decode(bytes).map(drop),
        SectionKind::Objects => Objects::decode(bytes).map(drop),
    }?;
    Ok(kind as u8)
}
