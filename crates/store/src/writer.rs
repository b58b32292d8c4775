//! Making a recording.

use crate::{Error, Header, Summary};
use std::io::Read;
use std::path::Path;
use std::time::Duration;
use stillframe_image::{Checkpoint, CheckpointId, PAGE_SIZE, PageNumber, SpaceId, Tick};

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

/// A recording being written.
#[derive(Debug)]
pub struct Writer {
    next: CheckpointId,
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
        let _ = (header, options, force);
        Err(Error::Exists(dir.into()))
    }

    /// Number that the next commit will have.
    pub fn next_id(&self) -> CheckpointId {
        self.next
    }

    /// Copies a file into the recording, once by content, and returns its BLAKE3.
    ///
    /// # Errors
    /// If reading `source` or writing fails; after a failed write the writer refuses all work.
    pub fn add_object(&mut self, source: &mut dyn Read) -> Result<[u8; 32], Error> {
        let _ = source;
        Err(Error::Stopped(String::new()))
    }

    /// Puts the content of a page into the checkpoint being built. Of several for the same page
    /// the last counts.
    ///
    /// # Errors
    /// If writing fails; the writer then refuses all work.
    pub fn page(
        &mut self,
        space: SpaceId,
        page: PageNumber,
        bytes: &[u8; PAGE_SIZE],
    ) -> Result<(), Error> {
        let _ = (space, page, bytes);
        Err(Error::Stopped(String::new()))
    }

    /// Puts a page that is known to be all zero.
    ///
    /// # Errors
    /// As [`Writer::page`].
    pub fn zero(&mut self, space: SpaceId, page: PageNumber) -> Result<(), Error> {
        let _ = (space, page);
        Err(Error::Stopped(String::new()))
    }

    /// Forgets what was put since the last commit.
    pub fn abandon(&mut self) {}

    /// After `exec`: contents of `space` are no longer a base for differences.
    pub fn forget(&mut self, space: SpaceId) {
        let _ = space;
    }

    /// Commits the checkpoint being built.
    ///
    /// # Errors
    /// If writing fails or the recording was removed; what was committed before stays readable.
    pub fn commit(&mut self, checkpoint: &Checkpoint, tick: &Tick) -> Result<Committed, Error> {
        let _ = (checkpoint, tick);
        Err(Error::Stopped(String::new()))
    }

    /// Seals the index, writes the closing record, and makes everything durable.
    ///
    /// # Errors
    /// If writing fails.
    pub fn finish(self, summary: &Summary) -> Result<(), Error> {
        let _ = summary;
        Err(Error::Stopped(String::new()))
    }

    /// Bytes of memory held now.
    pub fn memory_bytes(&self) -> u64 {
        0
    }
}
