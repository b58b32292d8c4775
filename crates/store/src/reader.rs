//! Reading a recording.

use crate::{Error, Header, Moment, Summary};
use std::ops::Range;
use std::path::Path;
use stillframe_image::{
    AddressSpace, Checkpoint, CheckpointId, PAGE_SIZE, PageNumber, SpaceId, Tick,
};

/// One committed checkpoint, as listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Number.
    pub id: CheckpointId,
    /// Account of the tick.
    pub tick: Tick,
    /// Bytes it added to the log.
    pub stored_bytes: u64,
    /// Bytes of the pages put into it.
    pub raw_bytes: u64,
}

/// Where a page's content is stored. Equal references mean equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionRef {
    pub(crate) pack: u64,
    pub(crate) slot: u32,
}

/// Where the bytes of a page came from.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Source {
    /// A version in the recording.
    Version(VersionRef),
    /// The file behind the mapping.
    File,
    /// Memory never written.
    Zero,
}

/// A file kept in a recording.
#[derive(Debug)]
pub struct Object {
    length: u64,
}

impl Object {
    /// Length in bytes.
    pub fn len(&self) -> u64 {
        self.length
    }

    /// Whether it is empty.
    pub fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// Fills `out` from `offset` as far as the object reaches; returns the bytes filled.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let _ = (offset, out);
        Ok(0)
    }
}

/// A recording opened for reading. Never writes; needs no lock.
#[derive(Debug)]
pub struct Recording {
    header: Header,
    summary: Option<Summary>,
    rows: Vec<Row>,
    damage: Vec<String>,
}

impl Recording {
    /// Opens the recording in `dir`.
    ///
    /// # Errors
    /// If it is no recording, of another version, or unreadable.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Err(Error::NotRecording {
            path: dir.into(),
            why: String::new(),
        })
    }

    /// Looks for checkpoints committed since; returns how many there are.
    ///
    /// # Errors
    /// If files cannot be read.
    pub fn refresh(&mut self) -> Result<usize, Error> {
        Ok(0)
    }

    /// What was recorded.
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// How it ended, if it did.
    pub fn summary(&self) -> Option<&Summary> {
        self.summary.as_ref()
    }

    /// All checkpoints, in ascending order of number.
    pub fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// One checkpoint.
    pub fn row(&self, id: CheckpointId) -> Option<&Row> {
        self.rows
            .binary_search_by_key(&id, |r| r.id)
            .ok()
            .and_then(|i| self.rows.get(i))
    }

    /// What opening found wrong, one line each.
    pub fn damage(&self) -> &[String] {
        &self.damage
    }

    /// All of a checkpoint but its pages.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn checkpoint(&self, id: CheckpointId) -> Result<Checkpoint, Error> {
        Err(Error::Damaged(id.to_string()))
    }

    /// The memory of an address space at a checkpoint.
    ///
    /// # Errors
    /// If there is none of that number, or it is damaged.
    pub fn memory(&self, id: CheckpointId, space: SpaceId) -> Result<Memory<'_>, Error> {
        let _ = space;
        Err(Error::Damaged(id.to_string()))
    }

    /// Checkpoints of `range` in which the page got a new version, ascending.
    ///
    /// # Errors
    /// If the index is damaged and the log, too.
    pub fn changes(
        &self,
        space: SpaceId,
        page: PageNumber,
        range: Range<CheckpointId>,
    ) -> Result<Vec<CheckpointId>, Error> {
        let _ = (space, page, range);
        Ok(Vec::new())
    }

    /// A file kept in the recording, by its BLAKE3.
    ///
    /// # Errors
    /// [`Error::NoObject`], or damage.
    pub fn object(&self, id: &[u8; 32]) -> Result<Object, Error> {
        let _ = id;
        Err(Error::NoObject(String::new()))
    }

    /// The checkpoint that a moment means.
    ///
    /// # Errors
    /// [`Error::NoMoment`], which says what moments there are.
    pub fn resolve(&self, moment: &Moment) -> Result<CheckpointId, Error> {
        let _ = moment;
        Ok(CheckpointId(0))
    }
}

/// The memory of one address space at one checkpoint.
#[derive(Debug)]
pub struct Memory<'a> {
    _recording: &'a Recording,
    layout: AddressSpace,
}

impl Memory<'_> {
    /// The mappings.
    pub fn layout(&self) -> &AddressSpace {
        &self.layout
    }

    /// Reads one page.
    ///
    /// # Errors
    /// [`Error::Unmapped`], [`Error::Unavailable`], or damage.
    pub fn page(&self, page: PageNumber, out: &mut [u8; PAGE_SIZE]) -> Result<Source, Error> {
        let _ = (page, out);
        Ok(Source::Zero)
    }

    /// Reads bytes from any address, across pages.
    ///
    /// # Errors
    /// As [`Memory::page`], for the first page that cannot be read.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Error> {
        let _ = (address, out);
        Ok(())
    }

    /// The version that holds a page's content; `None` when the content is the file's or zero.
    ///
    /// # Errors
    /// If the page is unmapped or the index is damaged.
    pub fn version(&self, page: PageNumber) -> Result<Option<VersionRef>, Error> {
        let _ = page;
        Ok(None)
    }

    /// All pages of `range` that have a version, ascending. Costs in proportion to the part of the
    /// index that `range` covers.
    ///
    /// # Errors
    /// If the index is damaged.
    pub fn pages_with_versions(
        &self,
        range: Range<PageNumber>,
    ) -> Result<Vec<(PageNumber, VersionRef)>, Error> {
        let _ = range;
        Ok(Vec::new())
    }
}
