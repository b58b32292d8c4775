//! Making a recording.

pub(crate) mod create;
mod discard;
pub(crate) mod index;
mod keep;
mod page;
mod sync;

use crate::bytes::Page;
use crate::check::Key;
use crate::dedup::Dedup;
use crate::files::{Disk, Files, Output};
use crate::index::Entry;
use crate::log::Location;
use crate::log::commit::Commit;
use crate::log::record::{FRAME, Kind};
use crate::log::segment::LogWriter;
use crate::log::table::{self, PageEntry};
use crate::pack::encode::PackBuilder;
use crate::retention::Bound;
use crate::rows::{self, FullRow, Row};
use crate::shadow::Shadow;
use crate::{Error, Header, Summary, VersionRef, header, objects};
use std::fs::File;
use std::io::Read;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use stillframe_image::file::FILE_SPACES;
use stillframe_image::section::{Section, SectionKey, SectionKind};
use stillframe_image::{Checkpoint, CheckpointId, Objects, PageNumber, SpaceId, Tick, WrittenFile};

/// Limits and choices of a [`Writer`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct WriterOptions {
    /// Bytes of recent page contents kept to compare with. 1 GiB.
    pub shadow_bytes: u64,
    /// zstd level. 1.
    pub level: i32,
    /// A segment of the log is closed once it is this long. 256 MiB.
    pub segment_bytes: u64,
    /// Versions between a page's version and whole content, at most. 16.
    pub chain_limit: u8,
    /// How often the disk is asked to make data durable, in the background. 1 s; `None` never.
    pub sync_every: Option<Duration>,
    /// Encoded page versions collected into one compressed frame, bytes. 128 KiB.
    pub pack_bytes: usize,
    /// Index entries held in memory before they become a run. 65,536.
    pub flush_entries: usize,
    /// Contents remembered for finding duplicates. 262,144.
    pub dedup_entries: usize,
    /// What the recording may grow to: older checkpoints are removed. Nothing.
    pub keep: Bound,
    /// Whether changes that other processes ask for are made while recording. No.
    pub control: bool,
}

impl Default for WriterOptions {
    fn default() -> Self {
        Self {
            shadow_bytes: 1 << 30,
            level: 1,
            segment_bytes: 256 << 20,
            chain_limit: 16,
            sync_every: Some(Duration::from_secs(1)),
            pack_bytes: 128 << 10,
            flush_entries: 1 << 16,
            dedup_entries: 1 << 18,
            keep: Bound::default(),
            control: false,
        }
    }
}

/// What a commit did.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Committed {
    /// Number of the new checkpoint.
    pub id: CheckpointId,
    /// Bytes it added to the log.
    pub stored_bytes: u64,
    /// Bytes of the pages put, zero pages included.
    pub raw_bytes: u64,
    /// Pages stored as new versions.
    pub new_versions: u64,
    /// Pages whose content was there already.
    pub duplicates: u64,
    /// Pages found or known to be zero.
    pub zeros: u64,
}

/// A page put with the content it had: it needs an entry only if its memory turns out to be newer
/// than the entry it has.
#[derive(Clone, Copy, Debug)]
struct Unchanged {
    entry: PageEntry,
    indexed: u64,
}

/// An encoded part of the last checkpoint.
#[derive(Debug)]
struct LastSection {
    key: SectionKey,
    bytes: Vec<u8>,
    at: Location,
}

/// A recording being written.
#[derive(Debug)]
pub struct Writer {
    dir: PathBuf,
    files: Arc<dyn Files>,
    key: Key,
    options: WriterOptions,
    log: LogWriter,
    pack: PackBuilder,
    shadow: Shadow,
    dedup: Dedup,
    pending: Vec<PageEntry>,
    unchanged: Vec<Unchanged>,
    scratch: Vec<u8>,
    counts: Committed,
    /// Ascending by key.
    sections: Vec<LastSection>,
    rows: Arc<dyn Output>,
    /// Rows in the table.
    rows_written: u64,
    keeper: Option<keep::Kept>,
    index: index::IndexWriter,
    sync: sync::Syncer,
    next: u64,
    previous: (Location, u64),
    committed_bytes: u64,
    synced_segment: u32,
    stopped: Option<String>,
    /// Held for its lock.
    _lock: File,
}

impl Writer {
    /// Creates the recording `dir` and locks it for writing.
    ///
    /// # Errors
    /// [`Error::Exists`] if the path exists, unless `force` and it is a recording that nobody is
    /// writing, which is then replaced; nothing else is ever removed.
    pub fn create(
        dir: &Path,
        header: &Header,
        options: WriterOptions,
        force: bool,
    ) -> Result<Self, Error> {
        Self::create_with(dir, header, options, force, Arc::new(Disk))
    }

    /// As [`Writer::create`], writing through `files`: the door for tests that make writes fail.
    ///
    /// # Errors
    /// As [`Writer::create`].
    pub fn create_with(
        dir: &Path,
        header: &Header,
        options: WriterOptions,
        force: bool,
        files: Arc<dyn Files>,
    ) -> Result<Self, Error> {
        let mut options = options;
        options.segment_bytes = options.keep.segment_bytes(options.segment_bytes);
        let lock = create::prepare(dir, force)?;
        let mut header = header.clone();
        if header.id == [0; 16] {
            header.id = create::random()?;
        }
        let id = header.id;
        header::write(dir, &*files, &header)?;
        create::directories(dir)?;
        let log = LogWriter::create(
            dir.into(),
            Arc::clone(&files),
            id,
            options.segment_bytes,
            options.level,
        )?;
        let rows_path = dir.join(rows::NAME);
        let table = files
            .create(&rows_path)
            .map_err(Error::io("create", &rows_path))?;
        table
            .write_at(0, &rows::header(&id))
            .map_err(Error::io("write", &rows_path))?;
        let keeper = keep::Kept::start(dir, &files, id, &options)?;
        let index = index::IndexWriter::new(
            dir.into(),
            Arc::clone(&files),
            id,
            options.flush_entries,
            keeper.as_ref().map(keep::Kept::shared),
        )
        .map_err(Error::io("start a thread for", dir))?;
        let sync = sync::Syncer::new(dir.into(), Arc::clone(&files), options.sync_every)
            .map_err(Error::io("start a thread for", dir))?;
        sync.add(rows_path, Arc::clone(&table));
        Ok(Self {
            dir: dir.into(),
            files,
            key: Key::new(&id),
            log,
            pack: PackBuilder::default(),
            shadow: Shadow::new(options.shadow_bytes),
            dedup: Dedup::new(options.dedup_entries, create::random()?),
            pending: Vec::new(),
            unchanged: Vec::new(),
            scratch: Vec::new(),
            counts: Committed::default(),
            sections: Vec::new(),
            rows: table,
            rows_written: 0,
            keeper,
            index,
            sync,
            next: 0,
            previous: (Location::NONE, 0),
            committed_bytes: 0,
            synced_segment: 0,
            stopped: None,
            options,
            _lock: lock,
        })
    }

    /// Number that the next commit will have.
    pub const fn next_id(&self) -> CheckpointId {
        CheckpointId(self.next)
    }

    /// Copies a file into the recording, once by content, and returns its BLAKE3.
    ///
    /// # Errors
    /// If reading `source` or writing fails; after a failed write the writer refuses all work.
    pub fn add_object(&mut self, source: &mut dyn Read) -> Result<[u8; 32], Error> {
        self.check()?;
        match objects::add(&self.dir, &*self.files, self.options.level, source) {
            Ok(id) => Ok(id),
            Err(objects::AddError::Source(e)) => Err(e),
            Err(objects::AddError::Store(e)) => Err(self.stop(e)),
        }
    }

    /// Puts the content of a page into the checkpoint being built. Of several for the same page
    /// the last counts.
    ///
    /// # Errors
    /// If writing fails; the writer then refuses all work.
    pub fn page(&mut self, space: SpaceId, page: PageNumber, bytes: &Page) -> Result<(), Error> {
        self.check()?;
        self.put(space, page, bytes).map_err(|e| self.stop(e))
    }

    /// Puts a page that is known to be all zero.
    ///
    /// # Errors
    /// As [`Writer::page`].
    pub fn zero(&mut self, space: SpaceId, page: PageNumber) -> Result<(), Error> {
        self.page(space, page, &crate::bytes::ZERO_PAGE)
    }

    /// Forgets what was put since the last commit: a checkpoint that could not be completed.
    pub fn abandon(&mut self) {
        // What was put stays a good base for differences; it is in no page table, though.
        for entry in self.pending.drain(..) {
            self.shadow.abandon((entry.space, entry.page));
        }
        self.unchanged.clear();
        self.counts = Committed::default();
    }

    /// After `exec`: contents of `space` are no longer a base for differences.
    pub fn forget(&mut self, space: SpaceId) {
        self.shadow.forget(space.0);
    }

    /// Commits the checkpoint being built. The tick is kept as it is, but for the number of
    /// processes, which is counted here.
    ///
    /// # Errors
    /// If the processes are no [`stillframe_image::Tree`] or something is beyond a limit of the
    /// format.
    /// If writing fails or the recording was removed; what was committed before stays readable,
    /// and the writer refuses all further work.
    pub fn commit(&mut self, checkpoint: &Checkpoint, tick: &Tick) -> Result<Committed, Error> {
        self.check()?;
        self.try_commit(checkpoint, tick).map_err(|e| self.stop(e))
    }

    fn try_commit(&mut self, checkpoint: &Checkpoint, tick: &Tick) -> Result<Committed, Error> {
        let sections = encode_sections(checkpoint)?;
        let tick = &Tick {
            processes: checkpoint.processes.len() as u32,
            ..*tick
        };
        self.flush_pack()?;
        let entries = self.page_table(checkpoint);
        let mut commit = Commit {
            id: CheckpointId(self.next),
            previous: self.previous.0,
            previous_check: self.previous.1,
            tick: *tick,
            raw_bytes: self.counts.raw_bytes,
            new_versions: self.counts.new_versions,
            duplicates: self.counts.duplicates,
            zeros: self.counts.zeros,
            ..Commit::default()
        };
        commit.sections = self.sections(sections)?;
        for part in entries.chunks(table::ENTRIES) {
            let (at, _) = self.log.append(Kind::Table, &table::encode(part))?;
            commit.tables.push((at, part.len() as u32));
        }
        let size = FRAME + 200 + 16 * (commit.sections.len() + commit.tables.len());
        commit.stored_bytes = self.log.appended() - self.committed_bytes + size as u64;
        let (at, check) = self.log.append(Kind::Commit, &commit.encode())?;
        self.write_log()?;
        let row = Row {
            id: commit.id,
            tick: *tick,
            stored_bytes: commit.stored_bytes,
            raw_bytes: commit.raw_bytes,
        };
        let row = rows::encode(
            self.key,
            self.next,
            &FullRow {
                row,
                commit: at,
                check,
            },
        );
        self.rows
            .write_at(rows::offset(self.rows_written), &row)
            .map_err(Error::io("write", self.dir.join(rows::NAME)))?;
        let (file, path) = self.log.file();
        if file.links().map_err(Error::io("look at", &path))? == 0 {
            return Err(Error::Removed(self.dir.clone()));
        }
        self.sync
            .wrote()
            .map_err(|(path, e)| Error::io("sync", path)(e))?;
        // From here on it is committed and nothing fails.
        self.log.mark();
        let id = self.next;
        self.next += 1;
        self.rows_written += 1;
        self.previous = (at, check);
        self.committed_bytes = self.log.appended();
        self.index.add(
            id,
            entries.iter().map(|e| Entry {
                space: e.space,
                page: e.page,
                checkpoint: id,
                version: e.version,
            }),
        );
        self.keep(checkpoint, tick, commit.stored_bytes);
        let counts = std::mem::take(&mut self.counts);
        Ok(Committed {
            id: commit.id,
            stored_bytes: commit.stored_bytes,
            ..counts
        })
    }

    /// The page table of the checkpoint: entries ascending, one for each page.
    fn page_table(&mut self, checkpoint: &Checkpoint) -> Vec<PageEntry> {
        let mut entries: Vec<PageEntry> = self
            .unchanged
            .drain(..)
            .filter(|u| {
                let space = SpaceId(u.entry.space);
                let since = if space.0 >= FILE_SPACES {
                    let file = checkpoint.files.iter().find(|f| f.space == space);
                    file.and_then(WrittenFile::since)
                } else {
                    let process = checkpoint.process(space);
                    process.and_then(|p| p.space.since(PageNumber(u.entry.page).address()))
                };
                since.is_some_and(|s| s.0 > u.indexed)
            })
            .map(|u| u.entry)
            .collect();
        if entries.is_empty() {
            std::mem::swap(&mut entries, &mut self.pending);
        } else {
            for e in &entries {
                if let Some(i) = self.shadow.find((e.space, e.page)) {
                    let meta = self.shadow.meta(i);
                    if meta.current.version == e.version {
                        meta.indexed = Some(self.next);
                    }
                }
            }
            // What was put later stands later, and the last counts.
            entries.append(&mut self.pending);
        }
        let ascends = entries.is_sorted_by(|a, b| (a.space, a.page) < (b.space, b.page));
        if !ascends {
            entries.sort_by_key(|e| (e.space, e.page));
            entries.reverse();
            entries.dedup_by_key(|e| (e.space, e.page));
            entries.reverse();
        }
        entries
    }

    /// Writes the sections that are not those of the last checkpoint; gives the places of all. The
    /// sections of processes that have ended are forgotten.
    fn sections(
        &mut self,
        new: Vec<(SectionKey, Vec<u8>)>,
    ) -> Result<Vec<(SectionKey, Location)>, Error> {
        let mut last = std::mem::take(&mut self.sections).into_iter().peekable();
        let mut places = Vec::with_capacity(new.len());
        self.sections.reserve(new.len());
        for (key, bytes) in new {
            while last.next_if(|l| l.key < key).is_some() {}
            let section = match last.next_if(|l| l.key == key) {
                Some(same) if same.bytes == bytes => same,
                _ => {
                    let (at, _) = self.log.append(Kind::Section, &bytes)?;
                    LastSection { key, bytes, at }
                }
            };
            places.push((key, section.at));
            self.sections.push(section);
        }
        Ok(places)
    }

    /// Writes the pack being filled, if there is anything in it.
    fn flush_pack(&mut self) -> Result<(), Error> {
        if self.pack.is_empty() {
            return Ok(());
        }
        let payload = self.pack.finish();
        self.log.append(Kind::Pack, &payload)?;
        self.write_log()
    }

    fn write_log(&mut self) -> Result<(), Error> {
        self.log.write()?;
        if self.synced_segment != self.log.segment() {
            self.synced_segment = self.log.segment();
            let (file, path) = self.log.file();
            self.sync.add(path, file);
        }
        Ok(())
    }

    fn check(&self) -> Result<(), Error> {
        match &self.stopped {
            None => Ok(()),
            Some(why) => Err(Error::Stopped(why.clone())),
        }
    }

    fn stop(&mut self, error: Error) -> Error {
        self.log.cut();
        self.stopped = Some(error.to_string());
        error
    }

    /// Seals the index, writes the closing record, and makes everything durable. What was put
    /// since the last commit is not kept.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(mut self, summary: &Summary) -> Result<(), Error> {
        self.check()?;
        if let Some(kept) = &mut self.keeper {
            kept.stop();
        }
        let encode =
            |s: &Summary| postcard::to_allocvec(s).map_err(|_| Error::TooLarge("the summary"));
        let mut payload = encode(summary)?;
        if payload.len() > Kind::Summary.limit() {
            // Never fail to close over a note.
            payload = encode(&Summary {
                notes: Vec::new(),
                how: String::new(),
                ..*summary
            })?;
        }
        let written = self
            .log
            .append(Kind::Summary, &payload)
            .map(drop)
            .and_then(|()| self.write_log());
        if let Err(e) = written {
            return Err(self.stop(e));
        }
        self.index.finish(self.next);
        self.sync
            .finish()
            .map_err(|(path, e)| Error::io("sync", path)(e))
    }

    /// Bytes of memory held now.
    pub fn memory_bytes(&self) -> u64 {
        let pending = self.pending.capacity() * size_of::<PageEntry>()
            + self.unchanged.capacity() * size_of::<Unchanged>();
        let sections: usize = self.sections.iter().map(|s| s.bytes.capacity()).sum();
        (self.shadow.memory()
            + self.dedup.memory()
            + self.pack.memory()
            + self.log.memory()
            + self.index.memory()
            + pending
            + sections) as u64
    }

    fn entry(space: u32, page: u64, version: VersionRef) -> PageEntry {
        PageEntry {
            space,
            page,
            version,
        }
    }
}

/// All sections of a checkpoint, ascending by key.
fn encode_sections(checkpoint: &Checkpoint) -> Result<Vec<(SectionKey, Vec<u8>)>, Error> {
    let mut sections = vec![
        (
            SectionKey::whole(SectionKind::Tree),
            checkpoint.tree().encode()?,
        ),
        (
            SectionKey::whole(SectionKind::Account),
            checkpoint.account.encode()?,
        ),
        (
            SectionKey::whole(SectionKind::Points),
            checkpoint.points.encode()?,
        ),
    ];
    if !checkpoint.files.is_empty() {
        let key = SectionKey::whole(SectionKind::Files);
        sections.push((key, checkpoint.files.encode()?));
    }
    for p in &checkpoint.processes {
        let key = |kind| SectionKey::of(p.id, kind);
        sections.extend([
            (key(SectionKind::Space), p.space.encode()?),
            (key(SectionKind::Threads), p.threads.encode()?),
            (key(SectionKind::Descriptors), p.descriptors.encode()?),
            (key(SectionKind::Process), p.process.encode()?),
            (key(SectionKind::Gaps), p.gaps.encode()?),
        ]);
        if p.objects != Objects::default() {
            sections.push((key(SectionKind::Objects), p.objects.encode()?));
        }
    }
    sections.sort_by_key(|(key, _)| *key);
    Ok(sections)
}
