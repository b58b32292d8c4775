//! The memory of a process at a checkpoint.

use super::Recording;
use crate::bytes::{Page, ZERO_PAGE};
use crate::index::lookup::Failed;
use crate::pack::decode::NoBases;
use crate::{Error, VersionRef};
use std::ops::Range;
use std::sync::Arc;
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, Mapping, PAGE_SIZE, PageNumber, SpaceId,
};

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

/// The memory of one address space at one checkpoint.
#[derive(Clone, Debug)]
pub struct Memory<'a> {
    recording: &'a Recording,
    id: CheckpointId,
    space: SpaceId,
    layout: Arc<AddressSpace>,
}

impl<'a> Memory<'a> {
    pub(super) const fn new(
        recording: &'a Recording,
        id: CheckpointId,
        space: SpaceId,
        layout: Arc<AddressSpace>,
    ) -> Self {
        Self {
            recording,
            id,
            space,
            layout,
        }
    }

    /// The mappings.
    pub fn layout(&self) -> &AddressSpace {
        &self.layout
    }

    /// The mappings, to keep. While they do not change from checkpoint to checkpoint they are mostly
    /// the same allocation, so that what was worked out from them can be found again.
    pub fn shared_layout(&self) -> Arc<AddressSpace> {
        Arc::clone(&self.layout)
    }

    /// The process.
    pub const fn space(&self) -> SpaceId {
        self.space
    }

    /// The checkpoint.
    pub const fn checkpoint(&self) -> CheckpointId {
        self.id
    }

    fn mapping(&self, page: PageNumber) -> Result<&Mapping, Error> {
        let address = page.address();
        let unmapped = Error::Unmapped {
            address,
            checkpoint: self.id.0,
        };
        if PageNumber::of(address) != page {
            return Err(unmapped);
        }
        let mapping = self.layout.mapping_at(address).ok_or(unmapped)?;
        match &mapping.coverage {
            Coverage::Omitted(reason) => Err(Error::Unavailable {
                address,
                reason: reason.clone(),
            }),
            Coverage::Tracked | Coverage::Copied => Ok(mapping),
        }
    }

    /// The version that holds a page's content; `None` when the content is the file's or zero.
    ///
    /// # Errors
    /// If the page is unmapped or not captured, or the index is damaged.
    pub fn version(&self, page: PageNumber) -> Result<Option<VersionRef>, Error> {
        self.mapping(page)?;
        self.find(page)
    }

    fn find(&self, page: PageNumber) -> Result<Option<VersionRef>, Error> {
        let Some(since) = self.layout.since(page.address()) else {
            return Ok(None);
        };
        self.recording
            .ask(|set| set.newest(self.space.0, page.0, since.0, self.id.0))
            .map(|entry| entry.map(|e| e.version))
    }

    /// Reads one page.
    ///
    /// # Errors
    /// [`Error::Unmapped`], [`Error::Unavailable`], or damage.
    pub fn page(&self, page: PageNumber, out: &mut Page) -> Result<Source, Error> {
        let mapping = self.mapping(page)?;
        if let Some(version) = self.find(page)? {
            self.content(version, out)?;
            return Ok(Source::Version(version));
        }
        self.beneath(mapping, page, out)
    }

    /// Reads a page as it is without a version: the file's bytes, or zeros.
    ///
    /// # Errors
    /// As [`Memory::page`].
    pub fn unversioned(&self, page: PageNumber, out: &mut Page) -> Result<Source, Error> {
        self.beneath(self.mapping(page)?, page, out)
    }

    fn beneath(
        &self,
        mapping: &Mapping,
        page: PageNumber,
        out: &mut Page,
    ) -> Result<Source, Error> {
        let Some(file) = self.layout.file_of(mapping) else {
            *out = ZERO_PAGE;
            return Ok(Source::Zero);
        };
        let address = page.address();
        let offset = mapping.offset.saturating_add(address - mapping.start);
        match self.recording.file_page(file, offset, out) {
            Ok(()) => Ok(Source::File),
            Err(reason) => Err(Error::Unavailable { address, reason }),
        }
    }

    /// The bytes of a version, as [`Memory::version`] or [`Memory::pages_with_versions`] gave it.
    ///
    /// # Errors
    /// If what it depends on is damaged.
    pub fn content(&self, version: VersionRef, out: &mut Page) -> Result<(), Error> {
        self.recording.content(version, &mut NoBases, out)
    }

    /// Reads bytes from any address, across pages.
    ///
    /// # Errors
    /// As [`Memory::page`], for the first page that cannot be read.
    pub fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Error> {
        let mut page = ZERO_PAGE;
        let mut done = 0;
        while done < out.len() {
            let at = address.checked_add(done as u64).ok_or(Error::Unmapped {
                address: u64::MAX,
                checkpoint: self.id.0,
            })?;
            let within = (at % PAGE_SIZE as u64) as usize;
            let n = (PAGE_SIZE - within).min(out.len() - done);
            self.page(PageNumber::of(at), &mut page)?;
            out[done..done + n].copy_from_slice(&page[within..within + n]);
            done += n;
        }
        Ok(())
    }

    /// All pages of `range` that are mapped and have a version, ascending. Costs in proportion to
    /// the part of the index that `range` covers.
    ///
    /// # Errors
    /// If the index is damaged.
    pub fn pages_with_versions(
        &self,
        range: Range<PageNumber>,
    ) -> Result<Vec<(PageNumber, VersionRef)>, Error> {
        self.recording.ask(|set| {
            let mut out = Vec::new();
            for part in &self.layout.generations {
                let begin = range.start.0.max(part.start / PAGE_SIZE as u64);
                let end = range.end.0.min(part.end.div_ceil(PAGE_SIZE as u64));
                if begin >= end || part.since > self.id {
                    continue;
                }
                if let Some(hole) = set.hole(part.since.0, self.id.0) {
                    return Err(Failed::Hole(hole));
                }
                self.part(set, begin..end, part.since.0, &mut out)?;
            }
            Ok(out)
        })
    }

    /// Pages with versions among those that have been the same memory since a checkpoint.
    fn part(
        &self,
        set: &crate::index::lookup::IndexSet,
        pages: Range<u64>,
        since: u64,
        out: &mut Vec<(PageNumber, VersionRef)>,
    ) -> Result<(), Failed> {
        let space = self.space.0;
        let mut entries = set.merged(self.id.0, (space, pages.start, 0))?;
        let mut best: Option<(PageNumber, VersionRef)> = None;
        while let Some(e) = entries.next().map_err(|(i, e)| Failed::Run(i, e))? {
            if e.space != space || e.page >= pages.end {
                break;
            }
            if e.checkpoint < since || e.checkpoint > self.id.0 {
                continue;
            }
            let page = PageNumber(e.page);
            if best.is_some_and(|(p, _)| p != page) {
                out.extend(best.filter(|(p, _)| self.mapping(*p).is_ok()));
            }
            best = Some((page, e.version));
        }
        out.extend(best.filter(|(p, _)| self.mapping(*p).is_ok()));
        Ok(())
    }
}
