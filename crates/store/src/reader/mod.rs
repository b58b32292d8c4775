//! Reading a recording.

mod cache;
mod file;
mod history;
pub(crate) mod index;
mod memory;
pub(crate) mod open;

pub use history::{PageVersion, Part, Parts};
pub use memory::{Memory, Source};

use crate::index::lookup::{Failed, IndexSet};
use crate::log::commit::Commit;
use crate::log::record::Kind;
use crate::log::scan::LogReader;
use crate::rows::Row;
use crate::writer::create::is_live;
use crate::{Error, Header, Moment, Object, Summary, header};
use cache::PackCache;
use open::{Listing, read_commit};
use std::collections::{BTreeMap, HashMap};
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};
use stillframe_image::file::FILE_SPACES;
use stillframe_image::section::{Section, SectionKey, SectionKind};
use stillframe_image::tree::Node;
use stillframe_image::{
    Account, AddressSpace, Checkpoint, CheckpointId, Marks, Objects, PageNumber, Point,
    ProcessImage, SpaceId, Thread, Tree, WrittenFile,
};

/// Objects kept open.
const OBJECTS: usize = 64;
/// Address spaces kept decoded.
const SPACES: usize = 32;

/// A recording opened for reading. Never writes; needs no lock.
///
/// Opening reads the list of checkpoints and the end of the log; the index is loaded when memory is
/// first asked for. All methods but [`Recording::refresh`] may be called from several threads.
#[derive(Debug)]
pub struct Recording {
    pub(crate) dir: PathBuf,
    pub(crate) header: Header,
    pub(crate) log: LogReader,
    pub(crate) list: Listing,
    index: Mutex<Option<Arc<IndexSet>>>,
    packs: PackCache,
    /// Page versions of removed checkpoints, ascending; read when an index has to be made.
    ghosts: OnceLock<Arc<index::Ghosts>>,
    objects: Mutex<HashMap<[u8; 32], Arc<Object>>>,
    spaces: Mutex<Vec<(u64, Arc<AddressSpace>)>>,
}

impl Recording {
    /// Opens the recording in `dir`.
    ///
    /// # Errors
    /// If it is no recording, of another version, or unreadable. Damage is no error: see
    /// [`Recording::damage`].
    pub fn open(dir: &Path) -> Result<Self, Error> {
        let header = header::read(dir)?;
        let log = LogReader::new(dir, header.id);
        let mut list = Listing::read(dir, &log, &header.id)?;
        if list.torn > 0 && !is_live(dir) {
            list.note(format!(
                "{}: {} bytes were being written at the end",
                list.tail, list.torn
            ));
        }
        Ok(Self {
            dir: dir.into(),
            header,
            log,
            list,
            index: Mutex::default(),
            packs: PackCache::default(),
            ghosts: OnceLock::new(),
            objects: Mutex::default(),
            spaces: Mutex::default(),
        })
    }

    /// Looks for checkpoints committed since; returns how many there are. Takes up what was removed
    /// since, too: those checkpoints are gone from [`Recording::rows`] afterwards.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn refresh(&mut self) -> Result<usize, Error> {
        if self.list.renew(&self.dir, &self.log)? {
            // What is at hand is right for what remains; but it holds on to files that are gone.
            self.log.forget_files();
            *self.lock_index() = None;
            self.ghosts = OnceLock::new();
        }
        let found = self.list.follow(&self.log)?;
        if found > 0 {
            self.ghosts = OnceLock::new();
            self.extend_index()?;
        }
        Ok(found)
    }

    /// Names of checkpoints, in alphabetical order.
    pub fn tags(&self) -> &BTreeMap<String, CheckpointId> {
        &self.list.ledger.tags
    }

    /// What was noted beside names of checkpoints.
    pub fn notes(&self) -> &BTreeMap<String, String> {
        &self.list.ledger.notes
    }

    /// How many checkpoints a checkpoint stands for: 1, or more if others were merged into it.
    pub fn stands_for(&self, id: CheckpointId) -> u64 {
        let merged = self.list.ledger.merged.get(&id.0);
        merged.map_or(1, |m| m.checkpoints)
    }

    /// How many checkpoints were removed from it.
    pub fn removed(&self) -> u64 {
        self.list.ledger.removed.iter().map(|(a, b)| b - a).sum()
    }

    /// What was recorded.
    pub const fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended, if it did.
    pub const fn summary(&self) -> Option<&Summary> {
        self.list.summary.as_ref()
    }

    /// Whether a recorder is writing it now.
    pub fn is_live(&self) -> bool {
        is_live(&self.dir)
    }

    /// All checkpoints, in ascending order of number.
    pub fn rows(&self) -> &[Row] {
        &self.list.rows
    }

    /// One checkpoint.
    pub fn row(&self, id: CheckpointId) -> Option<&Row> {
        self.position(id).and_then(|i| self.list.rows.get(i))
    }

    fn position(&self, id: CheckpointId) -> Option<usize> {
        // Numbers ascend by one unless some were lost.
        let guess = usize::try_from(id.0).ok();
        match guess.and_then(|g| self.list.rows.get(g)) {
            Some(row) if row.id == id => guess,
            _ => self.list.rows.binary_search_by_key(&id, |r| r.id).ok(),
        }
    }

    /// What opening found wrong, one line each.
    pub fn damage(&self) -> &[String] {
        &self.list.damage
    }

    fn lock_index(&self) -> MutexGuard<'_, Option<Arc<IndexSet>>> {
        self.index.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn commit(&self, id: CheckpointId) -> Result<Commit, Error> {
        let found = self.position(id).and_then(|i| self.list.commits.get(i));
        let (at, check) = found.ok_or_else(|| self.no_moment(&id.to_string()))?;
        let (commit, found) = read_commit(&self.log, *at)?;
        if commit.id == id && found == *check {
            Ok(commit)
        } else {
            Err(Error::Damaged(format!(
                "the commit in {at} is not checkpoint {id}'s"
            )))
        }
    }

    fn section<T: Section>(&self, commit: &Commit, process: SpaceId) -> Result<T, Error> {
        let at = commit
            .section(SectionKey::of(process, T::KIND))
            .ok_or_else(|| {
                Error::Damaged(format!(
                    "checkpoint {} has no {:?} section for process {}",
                    commit.id,
                    T::KIND,
                    process.0
                ))
            })?;
        let (bytes, _) = self.log.read(at, Kind::Section)?;
        Ok(T::decode(&bytes)?)
    }

    /// A section of the checkpoint as a whole.
    fn whole<T: Section>(&self, commit: &Commit) -> Result<T, Error> {
        self.section(commit, SpaceId(0))
    }

    /// All of a checkpoint but its pages.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint, Error> {
        let commit = self.commit(id)?;
        let tree: Tree = self.whole(&commit)?;
        let processes = tree.processes.iter();
        Ok(Checkpoint {
            processes: processes
                .map(|node| self.process_of(&commit, node.id, node.parent))
                .collect::<Result<_, _>>()?,
            account: self.whole(&commit)?,
            points: self.whole(&commit)?,
            files: self.files_of(&commit)?,
        })
    }

    /// One process of a checkpoint, all but its pages.
    ///
    /// # Errors
    /// [`Error::NoProcess`]; if there is no checkpoint of that number, or it is damaged.
    pub fn process(&self, id: CheckpointId, process: SpaceId) -> Result<ProcessImage, Error> {
        let commit = self.commit(id)?;
        let tree: Tree = self.whole(&commit)?;
        match tree.processes.iter().find(|n| n.id == process) {
            Some(node) => self.process_of(&commit, node.id, node.parent),
            None => Err(no_process(id, process, &tree)),
        }
    }

    /// The threads of one process of a checkpoint, without the rest of it.
    ///
    /// # Errors
    /// As [`Recording::process`].
    pub fn threads(&self, id: CheckpointId, process: SpaceId) -> Result<Vec<Thread>, Error> {
        let commit = self.commit(id)?;
        let key = SectionKey::of(process, SectionKind::Threads);
        if commit.section(key).is_none() {
            return Err(no_process(id, process, &self.whole(&commit)?));
        }
        self.section(&commit, process)
    }

    fn process_of(
        &self,
        commit: &Commit,
        id: SpaceId,
        parent: Option<SpaceId>,
    ) -> Result<ProcessImage, Error> {
        Ok(ProcessImage {
            id,
            parent,
            space: AddressSpace::clone(&*self.space_of(commit, id)?),
            threads: self.section(commit, id)?,
            descriptors: self.section(commit, id)?,
            process: self.section(commit, id)?,
            gaps: self.section(commit, id)?,
            objects: match commit.section(SectionKey::of(id, SectionKind::Objects)) {
                Some(_) => self.section(commit, id)?,
                None => Objects::default(),
            },
        })
    }

    /// Every process of a checkpoint, one at a time, so that no more than one is held and one that is
    /// damaged does not hide the others.
    ///
    /// # Errors
    /// If there is no checkpoint of that number, or its list of processes is damaged.
    pub fn each_process(
        &self,
        id: CheckpointId,
        mut visit: impl FnMut(Node, Result<ProcessImage, Error>),
    ) -> Result<(), Error> {
        let commit = self.commit(id)?;
        let tree: Tree = self.whole(&commit)?;
        for node in tree.processes {
            visit(node, self.process_of(&commit, node.id, node.parent));
        }
        Ok(())
    }

    /// Which processes a checkpoint has.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn tree(&self, id: CheckpointId) -> Result<Tree, Error> {
        self.whole(&self.commit(id)?)
    }

    /// The event account of the interval that ends with a checkpoint.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn account(&self, id: CheckpointId) -> Result<Account, Error> {
        self.whole(&self.commit(id)?)
    }

    /// The points that a checkpoint answers.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn points(&self, id: CheckpointId) -> Result<Vec<Point>, Error> {
        self.whole(&self.commit(id)?)
    }

    /// The files that the processes of a checkpoint write.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn files(&self, id: CheckpointId) -> Result<Vec<WrittenFile>, Error> {
        self.files_of(&self.commit(id)?)
    }

    /// The files that processes write at any checkpoint after one, each as it was at the last that
    /// lists it. Ascending by [`WrittenFile::space`].
    ///
    /// # Errors
    /// If a checkpoint is damaged.
    pub fn files_after(&self, id: CheckpointId) -> Result<Vec<WrittenFile>, Error> {
        let mut found: BTreeMap<SpaceId, WrittenFile> = BTreeMap::new();
        let mut last = None;
        for row in self.rows().iter().rev().take_while(|r| r.id > id) {
            let commit = self.commit(row.id)?;
            let at = commit.section(SectionKey::whole(SectionKind::Files));
            // Most checkpoints share the list of their neighbour.
            if at.is_none() || at == last {
                continue;
            }
            last = at;
            for file in self.files_of(&commit)? {
                found.entry(file.space).or_insert(file);
            }
        }
        Ok(found.into_values().collect())
    }

    fn files_of(&self, commit: &Commit) -> Result<Vec<WrittenFile>, Error> {
        match commit.section(SectionKey::whole(SectionKind::Files)) {
            Some(_) => self.whole(commit),
            None => Ok(Vec::new()),
        }
    }

    /// The content of a file at a checkpoint as memory, byte N being at address N; `None` if the
    /// recording does not keep it.
    pub fn file_memory(&self, id: CheckpointId, file: &WrittenFile) -> Option<Memory<'_>> {
        let layout = file.layout()?;
        Some(Memory::new(self, id, file.space, Arc::new(layout)))
    }

    /// An address space of a checkpoint; the last few stay decoded, since they seldom change.
    fn space_of(&self, commit: &Commit, process: SpaceId) -> Result<Arc<AddressSpace>, Error> {
        let key = SectionKey::of(process, SectionKind::Space);
        let at = commit.section(key).map_or(0, |at| at.0);
        let lock = || self.spaces.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, space)) = lock().iter().find(|(place, _)| *place == at) {
            return Ok(Arc::clone(space));
        }
        let space = Arc::new(self.section::<AddressSpace>(commit, process)?);
        let mut held = lock();
        if held.len() >= SPACES {
            held.remove(0);
        }
        held.push((at, Arc::clone(&space)));
        Ok(space)
    }

    /// The memory of a process at a checkpoint.
    ///
    /// # Errors
    /// [`Error::NoProcess`]; if there is no checkpoint of that number, or it is damaged.
    pub fn memory(&self, id: CheckpointId, space: SpaceId) -> Result<Memory<'_>, Error> {
        let commit = self.commit(id)?;
        if space.0 >= FILE_SPACES {
            let files = self.files_of(&commit)?;
            let file = files.iter().find(|f| f.space == space);
            return match file.and_then(|f| self.file_memory(id, f)) {
                Some(memory) => Ok(memory),
                None => Err(no_process(id, space, &self.whole(&commit)?)),
            };
        }
        if commit
            .section(SectionKey::of(space, SectionKind::Space))
            .is_none()
        {
            return Err(no_process(id, space, &self.whole(&commit)?));
        }
        let layout = self.space_of(&commit, space)?;
        Ok(Memory::new(self, id, space, layout))
    }

    /// Asks the index, making damaged runs again from the log.
    pub(crate) fn ask<T>(
        &self,
        question: impl Fn(&IndexSet) -> Result<T, Failed>,
    ) -> Result<T, Error> {
        loop {
            let set = self.index()?;
            match question(&set) {
                Ok(answer) => return Ok(answer),
                Err(Failed::Run(number, why)) => self.replace_run(&set, number, &why)?,
                Err(Failed::Hole(id)) => {
                    return Err(Error::Damaged(format!(
                        "which pages checkpoint {id} changed is lost, so later content is unknown"
                    )));
                }
            }
        }
    }

    /// Checkpoints of `range` in which the page got a new version, ascending. A version that a
    /// removed checkpoint made belongs to the first one after it that remains, if it is visible
    /// there.
    ///
    /// # Errors
    /// If the index and the log are both damaged there.
    pub fn changes(
        &self,
        space: SpaceId,
        page: PageNumber,
        range: Range<CheckpointId>,
    ) -> Result<Vec<CheckpointId>, Error> {
        let newest = self
            .list
            .rows
            .last()
            .map_or(0, |r| r.id.0.saturating_add(1));
        let (from, to) = (range.start.0, range.end.0.min(newest));
        if from >= to {
            return Ok(Vec::new());
        }
        let removed = &self.list.ledger.removed;
        // What was made in the removed ones just before belongs to the first of the range.
        let from = match from.checked_sub(1).and_then(|n| removed.range_of(n)) {
            Some((begin, _)) => begin,
            None => from,
        };
        let made = self.ask(|set| {
            if let Some(hole) = set.hole(from, to - 1) {
                return Err(Failed::Hole(hole));
            }
            let (begin, runs) = set.covering(from, to - 1);
            let mut found = Vec::new();
            for (i, run) in runs.iter().enumerate() {
                let failed = |e| Failed::Run(begin + i, e);
                let mut iter = run.iter_from((space.0, page.0, from));
                while let Some(e) = iter.next().map_err(failed)? {
                    if (e.space, e.page) != (space.0, page.0) || e.checkpoint >= to {
                        break;
                    }
                    found.push(CheckpointId(e.checkpoint));
                }
            }
            Ok(found)
        })?;
        let mut found: Vec<CheckpointId> = Vec::with_capacity(made.len());
        for id in made {
            let shown = CheckpointId(removed.next_outside(id.0));
            if shown.0 < range.start.0 || shown.0 >= to || found.last() == Some(&shown) {
                continue;
            }
            let visible = shown == id
                || match self.memory(shown, space) {
                    Ok(memory) => memory
                        .layout()
                        .since(page.address())
                        .is_some_and(|since| since <= id),
                    Err(Error::NoProcess { .. }) => false,
                    Err(e) => return Err(e),
                };
            if visible {
                found.push(shown);
            }
        }
        Ok(found)
    }

    /// A file kept in the recording, by its BLAKE3.
    ///
    /// # Errors
    /// [`Error::NoObject`], or damage.
    pub fn object(&self, id: &[u8; 32]) -> Result<Object, Error> {
        Object::open(&self.dir, id)
    }

    /// As [`Recording::object`], kept open for the next time.
    fn shared_object(&self, id: &[u8; 32]) -> Result<Arc<Object>, Error> {
        let mut objects = self.objects.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(object) = objects.get(id) {
            return Ok(Arc::clone(object));
        }
        let object = Arc::new(Object::open(&self.dir, id)?);
        if objects.len() >= OBJECTS {
            objects.clear();
        }
        objects.insert(*id, Arc::clone(&object));
        Ok(object)
    }

    /// The checkpoint that a moment means.
    ///
    /// # Errors
    /// [`Error::NoMoment`], which says what moments there are; damage, if it is in the points.
    pub fn resolve(&self, moment: &Moment) -> Result<CheckpointId, Error> {
        let found = match moment {
            Moment::Point { name, number } => self.named(name.as_bytes(), *number)?,
            _ => moment.find(self.rows(), self.length_ns(), &self.list.ledger),
        };
        found.ok_or_else(|| self.no_moment(&moment.to_string()))
    }

    /// The checkpoint that carries the `number`th point of this name, counted from 1, or the last.
    fn named(&self, name: &[u8], number: Option<u64>) -> Result<Option<CheckpointId>, Error> {
        let marked = |row: &&Row| row.tick.marks.contains(Marks::POINT);
        let count = |id| -> Result<u64, Error> {
            let points = self.points(id)?;
            Ok(points.iter().filter(|p| p.name == name).count() as u64)
        };
        let rows = self.rows().iter().filter(marked);
        match number {
            Some(mut left) => {
                for row in rows {
                    let here = count(row.id)?;
                    if here >= left {
                        return Ok(Some(row.id));
                    }
                    left -= here;
                }
            }
            None => {
                for row in rows.rev() {
                    if count(row.id)? > 0 {
                        return Ok(Some(row.id));
                    }
                }
            }
        }
        Ok(None)
    }

    /// How long it recorded, as far as is known.
    fn length_ns(&self) -> u64 {
        let last = self.list.rows.last().map_or(0, |r| r.tick.at_ns);
        let ended = self.summary().map_or(0, |s| {
            s.ended_wall_ns.saturating_sub(self.header.started_wall_ns)
        });
        last.max(ended)
    }

    fn no_moment(&self, moment: &str) -> Error {
        let ledger = &self.list.ledger;
        let number = match ledger.tags.get(moment) {
            Some(id) => Some(id.0),
            None => moment.parse().ok(),
        };
        let removed = number.and_then(|n| crate::moment::removed(n, self.rows(), ledger));
        Error::NoMoment {
            moment: moment.to_owned(),
            available: removed
                .unwrap_or_else(|| crate::moment::available(self.rows(), ledger, &self.dir)),
        }
    }
}

fn no_process(id: CheckpointId, process: SpaceId, tree: &Tree) -> Error {
    const SHOWN: usize = 20;
    let mut available: Vec<String> = tree
        .processes
        .iter()
        .take(SHOWN)
        .map(|n| n.id.0.to_string())
        .collect();
    if tree.processes.len() > SHOWN {
        available.push("...".to_owned());
    }
    Error::NoProcess {
        checkpoint: id.0,
        process: process.0,
        available: available.join(", "),
    }
}
