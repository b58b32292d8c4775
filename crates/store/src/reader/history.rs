//! Pages over time: which versions a page has had, and for how long a checkpoint's parts stayed the
//! same.
//!
//! A question about history goes here first. A page's versions are neighbours in the index, so all
//! of them cost a look into each run and not one for each checkpoint; and a section of a checkpoint
//! is stored again only when it differs from the one before, so that two look-ups at the ends of a
//! stretch tell about everything between.

use super::cache::CachedPacks;
use super::index::read_tables;
use super::{Memory, Recording};
use crate::bytes::Page;
use crate::index::lookup::Failed;
use crate::log::commit::Commit;
use crate::pack::decode::{self, Bases};
use crate::{Error, VersionRef};
use std::ops::Range;
use std::sync::Arc;
use stillframe_image::section::{SectionKey, SectionKind};
use stillframe_image::{AddressSpace, CheckpointId, PageNumber, SpaceId};

/// A version of a page.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageVersion {
    /// The checkpoint that made it. It may have been removed since: then the version is what the
    /// first checkpoint after it that remains shows, if the page is the same memory there
    /// ([`AddressSpace::since`] is not later).
    pub made: CheckpointId,
    /// The version.
    pub version: VersionRef,
}

/// Which copy of a part of a process a checkpoint refers to.
///
/// Equal parts are equal in content. A copy is only ever shared by checkpoints that follow one
/// another, so two checkpoints with equal parts have that part in common with all between them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct Part(u64);

/// The parts of a process at a checkpoint that are looked at most.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Parts {
    /// Its mappings.
    pub layout: Part,
    /// Its threads.
    pub threads: Part,
}

fn part(commit: &Commit, process: SpaceId, kind: SectionKind) -> Option<Part> {
    commit
        .section(SectionKey::of(process, kind))
        .map(|at| Part(at.0))
}

impl Recording {
    /// The versions of a page that checkpoints of `range` made, removed ones included, ascending.
    /// Costs a look into each run of the index that covers the range, and what it finds.
    ///
    /// # Errors
    /// If the index and the log are both damaged there.
    pub fn versions(
        &self,
        space: SpaceId,
        page: PageNumber,
        range: Range<CheckpointId>,
    ) -> Result<Vec<PageVersion>, Error> {
        let newest = self.rows().last().map_or(0, |r| r.id.0.saturating_add(1));
        let (from, to) = (range.start.0, range.end.0.min(newest));
        if from >= to {
            return Ok(Vec::new());
        }
        self.ask(|set| {
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
                    found.push(PageVersion {
                        made: CheckpointId(e.checkpoint),
                        version: e.version,
                    });
                }
            }
            Ok(found)
        })
    }

    /// The bytes of a version, as the index gives it, from what is at hand of those it stands on.
    ///
    /// # Errors
    /// If what it depends on is damaged.
    pub fn content(
        &self,
        version: VersionRef,
        bases: &mut dyn Bases,
        out: &mut Page,
    ) -> Result<(), Error> {
        let packs = CachedPacks {
            log: &self.log,
            cache: &self.packs,
        };
        decode::content(&packs, version, bases, out)
    }

    /// The oldest version of a page that a checkpoint of `range` made, whatever was mapped there
    /// then; removed checkpoints included. Costs a look into the runs of the index up to it.
    ///
    /// # Errors
    /// If the index and the log are both damaged where the answer may lie.
    pub fn version_after(
        &self,
        space: SpaceId,
        page: PageNumber,
        range: Range<CheckpointId>,
    ) -> Result<Option<PageVersion>, Error> {
        let newest = self.rows().last().map_or(0, |r| r.id.0.saturating_add(1));
        let (from, to) = (range.start.0, range.end.0.min(newest));
        if from >= to {
            return Ok(None);
        }
        self.ask(|set| {
            let (begin, runs) = set.covering(from, to - 1);
            let mut found = None;
            for (i, run) in runs.iter().enumerate() {
                let failed = |e| Failed::Run(begin + i, e);
                let next = run.iter_from((space.0, page.0, from)).next();
                found = next
                    .map_err(failed)?
                    .filter(|e| (e.space, e.page) == (space.0, page.0) && e.checkpoint < to);
                if found.is_some() {
                    break;
                }
            }
            let until = found.map_or(to - 1, |e| e.checkpoint);
            if let Some(hole) = set.hole(from, until) {
                return Err(Failed::Hole(hole));
            }
            Ok(found.map(|e| PageVersion {
                made: CheckpointId(e.checkpoint),
                version: e.version,
            }))
        })
    }

    /// The newest version of a page that a checkpoint up to `at` made, whatever was mapped there
    /// then.
    ///
    /// # Errors
    /// If the index and the log are both damaged where the answer may lie.
    pub fn version_before(
        &self,
        space: SpaceId,
        page: PageNumber,
        at: CheckpointId,
    ) -> Result<Option<PageVersion>, Error> {
        let found = self.ask(|set| set.newest(space.0, page.0, 0, at.0))?;
        Ok(found.map(|e| PageVersion {
            made: CheckpointId(e.checkpoint),
            version: e.version,
        }))
    }

    /// Visits the versions that checkpoints of `range` made of `pages`, ascending by page and then
    /// by checkpoint, removed ones included, until `visit` says not to go on; whether it never did.
    /// Costs what the index holds of those pages and of the checkpoints around.
    ///
    /// `visit` may be told of some again if the index turns out to be damaged and is made anew: it
    /// is then called with `None`, and everything begins again.
    ///
    /// # Errors
    /// If the index and the log are both damaged there; what `visit` returns.
    pub fn each_version(
        &self,
        space: SpaceId,
        pages: Range<PageNumber>,
        range: Range<CheckpointId>,
        visit: &mut dyn FnMut(Option<(PageNumber, PageVersion)>) -> Result<bool, Error>,
    ) -> Result<bool, Error> {
        let newest = self.rows().last().map_or(0, |r| r.id.0.saturating_add(1));
        let (from, to) = (range.start.0, range.end.0.min(newest));
        if from >= to || pages.start >= pages.end {
            return Ok(true);
        }
        let visit = std::cell::RefCell::new(visit);
        self.ask(|set| {
            if let Some(hole) = set.hole(from, to - 1) {
                return Err(Failed::Hole(hole));
            }
            let mut visit = visit.borrow_mut();
            if let Err(e) = visit(None) {
                return Ok(Err(e));
            }
            let mut entries = set.merged_between(from, to - 1, (space.0, pages.start.0, 0))?;
            while let Some(e) = entries.next().map_err(|(i, e)| Failed::Run(i, e))? {
                if e.space != space.0 || e.page >= pages.end.0 {
                    break;
                }
                if e.checkpoint < from || e.checkpoint >= to {
                    continue;
                }
                let version = PageVersion {
                    made: CheckpointId(e.checkpoint),
                    version: e.version,
                };
                match visit(Some((PageNumber(e.page), version))) {
                    Ok(true) => {}
                    Ok(false) => return Ok(Ok(false)),
                    Err(e) => return Ok(Err(e)),
                }
            }
            Ok(Ok(true))
        })?
    }

    /// The pages of a process that a checkpoint made versions of, ascending, from its own list.
    ///
    /// # Errors
    /// If there is no checkpoint of that number, or it is damaged.
    pub fn pages_made(&self, id: CheckpointId, space: SpaceId) -> Result<Vec<PageNumber>, Error> {
        let tables = read_tables(&self.log, &self.commit(id)?)?;
        let ours = tables.iter().filter(|e| e.space == space.0);
        Ok(ours.map(|e| PageNumber(e.page)).collect())
    }

    /// How many versions the index knows, of all pages: what reading every one would be.
    ///
    /// # Errors
    /// If the index and the log are both damaged.
    pub fn version_count(&self) -> Result<u64, Error> {
        Ok(self.index()?.runs.iter().map(|r| r.entries).sum())
    }

    /// The parts of a process at a checkpoint; `None` if the process is not there.
    ///
    /// # Errors
    /// If there is no checkpoint of that number, or its commit is damaged.
    pub fn parts(&self, id: CheckpointId, process: SpaceId) -> Result<Option<Parts>, Error> {
        let commit = self.commit(id)?;
        let layout = part(&commit, process, SectionKind::Space);
        let threads = part(&commit, process, SectionKind::Threads);
        Ok(layout
            .zip(threads)
            .map(|(layout, threads)| Parts { layout, threads }))
    }

    /// The mappings of a process at a checkpoint, and which copy of them; `None` if the process is
    /// not there.
    ///
    /// # Errors
    /// If there is no checkpoint of that number, or it is damaged.
    pub fn layout(
        &self,
        id: CheckpointId,
        process: SpaceId,
    ) -> Result<Option<(Part, Arc<AddressSpace>)>, Error> {
        let commit = self.commit(id)?;
        match part(&commit, process, SectionKind::Space) {
            Some(part) => Ok(Some((part, self.space_of(&commit, process)?))),
            None => Ok(None),
        }
    }

    /// The memory of a process at a checkpoint whose mappings are known already.
    pub const fn memory_in(
        &self,
        id: CheckpointId,
        space: SpaceId,
        layout: Arc<AddressSpace>,
    ) -> Memory<'_> {
        Memory::new(self, id, space, layout)
    }

    /// The first checkpoint from `id` on that has not been removed.
    pub fn next_remaining(&self, id: CheckpointId) -> CheckpointId {
        CheckpointId(self.list.ledger.removed.next_outside(id.0))
    }
}
