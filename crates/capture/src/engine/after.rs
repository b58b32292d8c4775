//! Copying while the target runs.

use super::{Engine, stop_all};
use crate::Error;
use crate::chunks::{Chunk, chunks};
use crate::pipeline::{BATCH_PAGES, Batch};
use crate::space::Conflicts;
use std::time::{Duration, Instant};
use stillframe_linux::tracee::{Event, FamilyStop, FamilyWake};

/// Pages copied between two checks for conflicts. The sooner a page is checked, the smaller the
/// chance that it is written first; a check costs about as much as copying a page or two.
const CHECKED_PAGES: usize = 128;

/// Pages copied in one go of a throttled round, some milliseconds: with the target standing still,
/// and then as many with it running.
const SLICE_PAGES: usize = 2048;

/// How long the target may take to stop for such a slice.
const SLICE_LIMIT: Duration = Duration::from_millis(5);

/// What the copying is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Purpose {
    /// A pre-copy round.
    Early,
    /// The same for a target that writes as fast as it is copied: it stands still for half of the
    /// time, a little at a time.
    Throttled,
    /// A boundary: it is asked of each page whether it was written since.
    After,
}

/// What came of copying.
#[derive(Debug, Default)]
pub(super) struct Copied {
    /// Pages that had been found written.
    pub pages: u64,
    /// Pages written, or gone, before they were copied and checked. Only if asked for.
    pub conflicts: u64,
    /// Of those, had from what was saved at the fault.
    pub repaired: u64,
    /// How often and how long the target stood still meanwhile.
    pub slices: u32,
    pub stalled: Duration,
    /// Whether everything copied is what it was when the target last stood still. Only if asked
    /// for.
    pub stands: bool,
}

impl Copied {
    const fn add(&mut self, conflicts: Conflicts) {
        self.conflicts += conflicts.written;
        self.repaired += conflicts.repaired;
    }
}

impl Engine {
    /// Copies the written pages that were left for later, and sees to the target meanwhile: a
    /// thread with a signal waits for us. If something happens that must be dealt with first, the
    /// rest is left to the boundary to come.
    pub(super) fn copy_running(&mut self, purpose: Purpose) -> Result<Copied, Error> {
        let mut copied = Copied::default();
        for at in 0..self.members.len() {
            self.copy_member(at, purpose, &mut copied)?;
        }
        if purpose == Purpose::After {
            for member in &mut self.members {
                member.space.end_after()?;
            }
        }
        copied.stands = copied.conflicts == copied.repaired;
        Ok(copied)
    }

    /// Does so for one process, the `at`th.
    fn copy_member(
        &mut self,
        at: usize,
        purpose: Purpose,
        copied: &mut Copied,
    ) -> Result<(), Error> {
        let check = purpose == Purpose::After;
        if check && !self.members[at].stands {
            return Ok(());
        }
        let space = &mut self.members[at].space;
        copied.pages += space.plan_later()?;
        self.pipeline.zeros(space.id(), space.take_zeros());
        let plan = space.take_plan();
        let limit = match purpose {
            Purpose::Early => BATCH_PAGES,
            Purpose::Throttled => SLICE_PAGES,
            Purpose::After => CHECKED_PAGES,
        };
        let mut batch = None;
        let mut stand = purpose == Purpose::Throttled;
        for (ranges, forced) in [(&plan.copy, false), (&plan.force, true)] {
            for chunk in chunks(ranges, limit) {
                self.see_to_target()?;
                if self.pending.is_some() && !check {
                    self.members[at].space.carry(&chunk);
                    continue;
                }
                let stood = (stand && self.stand_still()?).then(Instant::now);
                let chunk_copied = self.copy_chunk(at, &chunk, forced, check, &mut batch);
                if let Some(since) = stood {
                    self.go_on()?;
                    copied.slices += 1;
                    copied.stalled += since.elapsed();
                }
                stand = purpose == Purpose::Throttled && !stand;
                match chunk_copied {
                    Ok(conflicts) => copied.add(conflicts),
                    // The event is its end, or the end of its memory.
                    Err(Error::Kernel(error)) if error.is_gone() && self.pending.is_some() => {
                        copied.conflicts += chunk.pages().count() as u64;
                    }
                    Err(error) => return Err(error),
                }
            }
        }
        self.hand_over(at, batch);
        let space = &mut self.members[at].space;
        if check {
            let rest = space.not_copied(&plan);
            match space.settle_conflicts(&rest, None) {
                Ok(conflicts) => copied.add(conflicts),
                Err(error) if error.is_gone() && self.pending.is_some() => copied.conflicts += 1,
                Err(error) => return Err(error.into()),
            }
        }
        space.give_plan(plan);
        if check {
            space.settle();
        } else {
            space.settle_early();
        }
        Ok(())
    }

    /// Stops all processes and leaves them standing, unless something else comes first. Tells whether
    /// they stand.
    fn stand_still(&mut self) -> Result<bool, Error> {
        match stop_all(&mut self.family, &self.pipeline, SLICE_LIMIT)? {
            FamilyStop::All(halt) => {
                halt.stay();
                return Ok(true);
            }
            FamilyStop::TimedOut { .. } => {}
            FamilyStop::Event { pid, event } => self.pending = Some((pid, event)),
        }
        Ok(false)
    }

    /// Lets them run again.
    fn go_on(&mut self) -> Result<(), Error> {
        match stop_all(&mut self.family, &self.pipeline, SLICE_LIMIT)? {
            FamilyStop::All(halt) => halt.resume()?,
            FamilyStop::TimedOut { .. } => {}
            FamilyStop::Event { pid, event } => self.pending = Some((pid, event)),
        }
        Ok(())
    }

    /// Copies a chunk into `current`, or into a new batch if that has no room.
    fn copy_chunk(
        &mut self,
        at: usize,
        chunk: &Chunk,
        forced: bool,
        check: bool,
        current: &mut Option<Batch>,
    ) -> Result<Conflicts, Error> {
        let room = chunk.pages().count();
        if current.as_ref().is_some_and(|b| b.arena.free() < room) {
            self.hand_over(at, current.take());
        }
        let space = &mut self.members[at].space;
        let batch = match current {
            Some(batch) => batch,
            None => current.insert(self.pipeline.batch(space.id())?),
        };
        let first = batch.pages.len();
        space.copy(chunk, forced, batch)?;
        space.copied_running(chunk);
        // What could not be read was unmapped since, or is being replaced: the boundary to come
        // will tell.
        let unreadable = space.carry_unreadable();
        let mut conflicts = Conflicts::default();
        if check {
            conflicts = space.settle_conflicts(&chunk.ranges, Some((batch, first)))?;
        }
        conflicts.written += unreadable;
        Ok(conflicts)
    }

    fn hand_over(&mut self, at: usize, batch: Option<Batch>) {
        if let Some(batch) = batch {
            self.members[at].space.populate(&batch);
            self.pipeline.pages(batch);
        }
    }

    /// Passes on what the processes' threads report, at least once, and until the pipeline has room
    /// or something happened that must be dealt with first. That is kept in `pending`.
    fn see_to_target(&mut self) -> Result<(), Error> {
        let mut until = Instant::now();
        while self.pending.is_none() {
            match self.family.wait(Some(until), &[])? {
                FamilyWake::Event {
                    event: Event::ThreadsChanged | Event::JobStopped | Event::JobContinued,
                    ..
                } => {}
                FamilyWake::Event {
                    pid,
                    event: Event::Point { tid, wish },
                } => self.point(pid, tid, wish)?,
                FamilyWake::Event { pid, event } => self.pending = Some((pid, event)),
                FamilyWake::Deadline | FamilyWake::Descriptor(_) => {
                    if self.pipeline.has_room_for_pages() {
                        break;
                    }
                    until = Instant::now() + Duration::from_millis(1);
                }
            }
        }
        Ok(())
    }
}
