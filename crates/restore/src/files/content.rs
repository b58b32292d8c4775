//! The bytes of a file at a checkpoint.

use crate::error::Result;
use std::io::Write;
use stillframe_image::{CheckpointId, PAGE_SIZE, PageNumber, WrittenFile};
use stillframe_store::{Memory, Recording};

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes that are read at once: a multiple of a page.
pub(super) const CHUNK: usize = 1 << 20;

/// The content of a file that a recording keeps.
#[derive(Debug)]
pub struct Content<'a> {
    memory: Memory<'a>,
    size: u64,
}

impl<'a> Content<'a> {
    /// Of a file of a checkpoint; `None` if it is not kept.
    pub fn of(recording: &'a Recording, id: CheckpointId, file: &WrittenFile) -> Option<Self> {
        Some(Self {
            memory: recording.file_memory(id, file)?,
            size: file.size,
        })
    }

    /// Bytes.
    pub const fn len(&self) -> u64 {
        self.size
    }

    /// Whether it has none.
    pub const fn is_empty(&self) -> bool {
        self.size == 0
    }

    /// Fills `out` from `offset` on, as far as the file reached; returns the bytes filled.
    ///
    /// # Errors
    /// If the recording is damaged there.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize> {
        let rest = self.size.saturating_sub(offset);
        let want = usize::try_from(rest).unwrap_or(usize::MAX).min(out.len());
        self.memory.read(offset, &mut out[..want])?;
        Ok(want)
    }

    /// The pages, numbered from 0, that are not all zero for never having been written. Ascending.
    ///
    /// # Errors
    /// If the index is damaged.
    pub fn pages(&self) -> Result<Vec<u64>> {
        let all = PageNumber(0)..PageNumber(self.size.div_ceil(PAGE));
        let pages = self.memory.pages_with_versions(all)?;
        Ok(pages.into_iter().map(|(page, _)| page.0).collect())
    }

    /// Reads all of it.
    ///
    /// # Errors
    /// If the recording is damaged.
    pub fn check(&self) -> Result<()> {
        let mut page = [0; PAGE_SIZE];
        for number in self.pages()? {
            self.memory.page(PageNumber(number), &mut page)?;
        }
        Ok(())
    }

    /// Writes all of it, in order.
    ///
    /// # Errors
    /// If the recording is damaged, or `out` fails.
    pub fn write_to(&self, out: &mut impl Write) -> std::io::Result<Result<()>> {
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < self.size {
            let read = match self.read_at(at, &mut buffer) {
                Ok(read) => read,
                Err(error) => return Ok(Err(error)),
            };
            out.write_all(&buffer[..read])?;
            at += read as u64;
        }
        Ok(Ok(()))
    }
}
