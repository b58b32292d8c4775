//! Copying while the target runs.

use super::Engine;
use crate::Error;
use crate::chunks::{Chunk, chunks};
use crate::pipeline::{BATCH_PAGES, Batch};
use crate::ranges::pages;
use std::time::{Duration, Instant};
use stillframe_linux::tracee::{Event, Wake};

/// Pages copied between two checks for conflicts. The sooner a page is checked, the smaller the
/// chance that it is written first; a check costs about as much as copying a page or two.
const CHECKED_PAGES: usize = 128;

/// What came of copying.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Pages that had been found written.
    pub pages: u64,
    /// Pages written, or gone, before they were copied and checked. Only if asked for.
    pub conflicts: u64,
    /// Whether everything copied is what it was when the target last stood still. Only if asked
    /// for.
    pub stands: bool,
    /// Something that happened to the target and must be dealt with.
    pub event: Option<Event>,
}

impl Engine {
    /// Copies the written pages that were left for later, and sees to the target meanwhile: a
    /// thread with a signal waits for us. If something happens that must be dealt with first, the
    /// rest is left to the boundary to come. `check`: whether it is asked if they were written
    /// since.
    pub(super) fn copy_running(&mut self, check: bool) -> Result<Copied, Error> {
        let space = &mut self.member.space;
        let mut copied = Copied {
            pages: space.plan_later()?,
            ..Copied::default()
        };
        self.pipeline.zeros(space.id(), space.take_zeros());
        let plan = space.take_plan();
        let limit = if check { CHECKED_PAGES } else { BATCH_PAGES };
        let mut batch = None;
        for (ranges, forced) in [(&plan.copy, false), (&plan.force, true)] {
            for chunk in chunks(ranges, limit) {
                if copied.event.is_none() {
                    copied.event = self.see_to_target()?;
                }
                if copied.event.is_some() && !check {
                    self.member.space.carry(&chunk);
                    continue;
                }
                match self.copy_chunk(&chunk, forced, check, &mut batch) {
                    Ok(conflicts) => copied.conflicts += conflicts,
                    // The event is its end, or the end of its memory.
                    Err(Error::Kernel(error)) if error.is_gone() && copied.event.is_some() => {
                        copied.conflicts += chunk.pages().count() as u64;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.hand_over(batch);
        let space = &mut self.member.space;
        if check && copied.conflicts == 0 {
            let rest = space.not_copied(&plan);
            copied.conflicts += pages(space.conflicts(&rest)?);
        }
        space.give_plan(plan);
        space.settle();
        copied.stands = copied.conflicts == 0;
        Ok(copied)
    }

    /// Copies a chunk into `current`, or into a new batch if that has no room. Returns how many of
    /// its pages were written or gone before they were copied and checked.
    fn copy_chunk(
        &mut self,
        chunk: &Chunk,
        forced: bool,
        check: bool,
        current: &mut Option<Batch>,
    ) -> Result<u64, Error> {
        let room = chunk.pages().count();
        if current.as_ref().is_some_and(|b| b.arena.free() < room) {
            self.hand_over(current.take());
        }
        let space = &mut self.member.space;
        let batch = match current {
            Some(batch) => batch,
            None => current.insert(self.pipeline.batch(space.id())?),
        };
        space.copy(chunk, forced, batch)?;
        // What could not be read was unmapped since, or is being replaced: the boundary to come
        // will tell.
        let mut conflicts = space.carry_unreadable();
        if check {
            conflicts += pages(space.conflicts(&chunk.ranges)?);
        }
        Ok(conflicts)
    }

    fn hand_over(&mut self, batch: Option<Batch>) {
        if let Some(batch) = batch {
            self.member.space.populate(&batch);
            self.pipeline.pages(batch);
        }
    }

    /// Passes on what the target's threads report, at least once, and until the pipeline has room.
    fn see_to_target(&mut self) -> Result<Option<Event>, Error> {
        let mut until = Instant::now();
        loop {
            match self.tracee.wait(Some(until), &[])? {
                Wake::Event(Event::ThreadsChanged | Event::JobStopped | Event::JobContinued) => {}
                Wake::Event(event) => return Ok(Some(event)),
                Wake::Deadline | Wake::Descriptor(_) => {
                    if self.pipeline.has_room_for_pages() {
                        return Ok(None);
                    }
                    until = Instant::now() + Duration::from_millis(1);
                }
            }
        }
    }
}
