//! What a process is to become: one process of a checkpoint, and the bytes of its pages.

pub(crate) mod complete;

use crate::error::Result;
use std::ops::Range;
use stillframe_image::{CheckpointId, PAGE_SIZE, PageNumber, ProcessImage, SpaceId};
use stillframe_store::{Memory, Object, Recording, VersionRef};

/// The bytes of a page.
pub type Page = [u8; PAGE_SIZE];

/// One process of a checkpoint.
#[derive(Debug)]
pub struct Source<'a> {
    recording: &'a Recording,
    id: CheckpointId,
    image: ProcessImage,
    memory: Memory<'a>,
}

impl<'a> Source<'a> {
    /// Reads all of it but its pages. What the recorder learned of it only later (addresses of
    /// handlers, of alternate stacks, of the words that are cleared when threads end) is filled in.
    ///
    /// # Errors
    /// If there is no such checkpoint or process, or the recording is damaged.
    pub fn open(recording: &'a Recording, id: CheckpointId, process: SpaceId) -> Result<Self> {
        let memory = recording.memory(id, process)?;
        let mut image = recording.process(id, process)?;
        complete::complete(recording, id, &memory, &mut image);
        Ok(Self {
            recording,
            id,
            image,
            memory,
        })
    }

    /// The recording.
    pub const fn recording(&self) -> &'a Recording {
        self.recording
    }

    /// The checkpoint.
    pub const fn checkpoint(&self) -> CheckpointId {
        self.id
    }

    /// Everything but the pages.
    pub const fn image(&self) -> &ProcessImage {
        &self.image
    }

    /// The same, to be changed before it is made: other files in place of some
    /// ([`crate::files::Putting::redirect`]).
    pub const fn image_mut(&mut self) -> &mut ProcessImage {
        &mut self.image
    }

    /// The memory.
    pub const fn memory(&self) -> &Memory<'a> {
        &self.memory
    }

    /// Pages in `range` (addresses) whose bytes are kept in the recording, ascending. The others are
    /// the file's, or zeros where there is no file.
    ///
    /// # Errors
    /// If the index is damaged.
    pub fn versions(&self, range: Range<u64>) -> Result<Vec<(PageNumber, VersionRef)>> {
        let pages = PageNumber::of(range.start)..PageNumber(range.end.div_ceil(PAGE_SIZE as u64));
        Ok(self.memory.pages_with_versions(pages)?)
    }

    /// The bytes of a version.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn content(&self, version: VersionRef, into: &mut Page) -> Result<()> {
        Ok(self.memory.content(version, into)?)
    }

    /// The bytes of any page that is mapped and captured.
    ///
    /// # Errors
    /// If it is not, or damaged, or its file has changed and the recording keeps no copy.
    pub fn page(&self, page: PageNumber, into: &mut Page) -> Result<()> {
        self.memory.page(page, into)?;
        Ok(())
    }

    /// A file kept in the recording.
    ///
    /// # Errors
    /// If it is not there or damaged.
    pub fn object(&self, id: &[u8; 32]) -> Result<Object> {
        Ok(self.recording.object(id)?)
    }
}
