//! The stop that makes a checkpoint.

use super::after::Purpose;
use super::member::Member;
use super::{ATTEMPTS, Engine, Outcome, stop_all};
use crate::Error;
use crate::chunks::chunks;
use crate::control::Cost;
use crate::ledger::nanos;
use crate::paranoid::Witness;
use crate::pipeline::{BATCH_PAGES, Batch, Pipeline, QUEUE_BATCHES};
use crate::points;
use crate::ranges::pages;
use crate::space::Space;
use crate::strategy::Strategy;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stillframe_image::account::{Hot, StopKind, ThreadStall};
use stillframe_image::{Checkpoint, Marks, Phases, Point, SigInfo, Tick};
use stillframe_linux::copy::PageArena;
use stillframe_linux::tracee::FamilyStop;

/// Pages of memory that one witness may hold: 64 GiB of addresses, taken as used.
const WITNESS_PAGES: usize = 16 << 20;

/// Batches filled in one stop before the first of them are handed over.
const STOP_BATCHES: usize = 8;

/// More pages than the pipeline takes at once are not copied in a stop as long as there is another
/// way.
const STOP_PAGES: u64 = (QUEUE_BATCHES * BATCH_PAGES) as u64;

/// Single faults noted for one checkpoint.
const LOGGED_FAULTS: usize = 1 << 16;

/// What came of a boundary.
pub(super) enum Made {
    /// A checkpoint was handed to the pipeline.
    Standing,
    /// Pages were written before they were copied: it has to be made again.
    Conflict,
    /// The target was not stopped.
    Nothing(Outcome),
}

impl Engine {
    /// Makes one attempt, the `attempt`th.
    pub(super) fn boundary(
        &mut self,
        tick: &mut Tick,
        crash: Option<&(u32, SigInfo)>,
        limit: Duration,
        attempt: u32,
    ) -> Result<Made, Error> {
        for member in &mut self.members {
            member.space.prepare()?;
        }
        let mut clock = Clock::start();
        let begun = clock.last;
        let mut halt = match stop_all(&mut self.family, &self.pipeline, limit)? {
            FamilyStop::All(halt) => halt,
            FamilyStop::TimedOut { why, .. } => {
                return Ok(Made::Nothing(Outcome::NotStopped(why)));
            }
            FamilyStop::Event { pid, event } => {
                return Ok(Made::Nothing(Outcome::Event((pid, event))));
            }
        };
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        tick.at_ns = nanos(halt.stopped_at().saturating_duration_since(self.started));
        tick.wall_ns = nanos(wall);
        tick.phases.stop = clock.lap();

        for member in &mut self.members {
            member.stands = halt.process(member.pid).is_some();
        }
        for member in self.members.iter_mut().filter(|m| m.stands) {
            if let Some(mut process) = halt.process(member.pid)
                && member.state.ask(&mut process, self.next, crash.is_some())?
            {
                member.space.touched();
            }
        }
        let asked = clock.lap();
        for member in self.members.iter_mut().filter(|m| m.stands) {
            member.space.refresh_layout(self.next, &self.pipeline)?;
        }
        tick.phases.layout = clock.lap();
        let mut dirty = 0;
        for member in self.members.iter_mut().filter(|m| m.stands) {
            member.space.find(self.next, &self.pipeline)?;
            dirty += pages(member.space.dirty());
        }
        tick.phases.scan = clock.lap();
        for member in self.members.iter_mut().filter(|m| m.stands) {
            if let Some(mut process) = halt.process(member.pid) {
                member.state.read_threads(&mut process)?;
            }
            if let Some((tid, info)) = crash {
                member.state.note_signal(*tid, info.clone());
            }
        }
        tick.phases.threads = clock.lap();

        let full = tick.marks.contains(Marks::FULL);
        let before = std::mem::replace(&mut self.found_before, dirty);
        let after = shall_copy_after(&mut self.strategy, dirty, before, attempt, full);
        let (mut now, mut untracked) = (0, 0);
        let mut batches = Vec::new();
        for member in self.members.iter_mut().filter(|m| m.stands) {
            let space = &mut member.space;
            space.divide(!after);
            now += space.plan_now()?;
            untracked += space.plan_untracked()?;
            copy_now(space, &self.pipeline, &mut batches)?;
        }
        tick.phases.copy = clock.lap();

        let special = tick.marks != Marks::default();
        for member in self.members.iter_mut().filter(|m| m.stands) {
            if let Some(mut process) = halt.process(member.pid) {
                member.state.read_rest(&mut process, self.next, special)?;
            }
        }
        let wall_ns = i64::try_from(tick.wall_ns).unwrap_or(i64::MAX);
        self.look.begin();
        for member in self.members.iter().filter(|m| m.stands) {
            let descriptors = &member.state.descriptors().open;
            let mappings = member.space.mappings();
            self.look.process(member.via, descriptors, mappings);
        }
        let full = self.pipeline.files_are_full();
        let files = self.look.take(special, full);
        self.descriptions.update(&self.members, special);
        let mut points = Vec::new();
        for member in self.members.iter().filter(|m| m.stands) {
            if let Some(mut process) = halt.process(member.pid) {
                points::list(&mut process, member.space.id(), &mut points);
            }
        }
        if !points.is_empty() {
            tick.marks = tick.marks.with(Marks::POINT);
        }
        tick.phases.state = asked + clock.lap();
        let mut witnesses = Vec::new();
        if let Some(spares) = &self.witnesses {
            for member in self.members.iter_mut().filter(|m| m.stands) {
                let arena = match spares.try_recv() {
                    Ok(arena) => arena,
                    Err(_) => PageArena::new(WITNESS_PAGES)?,
                };
                witnesses.push(member.space.witness(arena)?);
            }
        }
        // Being paranoid is no part of the pause that is reported.
        clock.lap();
        if after {
            for member in self.members.iter_mut().filter(|m| m.stands) {
                member.space.begin_after()?;
            }
        }
        if self.standing {
            halt.stay();
        } else {
            halt.resume()?;
        }
        tick.phases.resume = clock.lap();

        tracing::trace!(attempt, dirty, now, after, phases = ?tick.phases, "a boundary");
        self.strategy.boundary(now, &tick.phases, attempt > 1);
        tick.untracked_pages = untracked;
        self.hand_over_all(batches);
        if after {
            let copied = self.copy_running(Purpose::After)?;
            self.strategy.copied_after(dirty, copied.stands);
            let account = &mut self.ledger.account().after;
            account.copied += copied.pages.saturating_sub(copied.conflicts);
            account.conflicts += copied.conflicts;
            account.pre_images += copied.repaired;
            if !copied.stands {
                account.repairs += 1;
                let pause = tick.pause_ns();
                self.ledger.stop(StopKind::Conflict, begun, pause, dirty);
                tick.precopy_stops += 1;
                tick.precopy_pause_ns += pause;
                tick.precopied_pages += dirty;
                tick.phases = Phases::default();
                return Ok(Made::Conflict);
            }
        }
        self.ledger
            .stop(StopKind::Boundary, begun, tick.pause_ns(), dirty);
        self.look.handed_over(wall_ns, &files);
        self.pipeline.files(files, self.look.dropped(), self.next);
        self.commit(tick, dirty, after, witnesses, points)?;
        Ok(Made::Standing)
    }

    /// What was copied in the stop goes its way.
    fn hand_over_all(&mut self, batches: Vec<Batch>) {
        for member in self.members.iter_mut().filter(|m| m.stands) {
            let space = &mut member.space;
            self.ledger.look(space.id(), space.dirty());
            self.pipeline.zeros(space.id(), space.take_zeros());
        }
        for mut batch in batches {
            let of = |m: &&mut Member| m.space.id() == batch.space;
            if let Some(member) = self.members.iter_mut().find(of) {
                member.space.populate(&batch);
                member.space.thin_out(&mut batch);
            }
            self.pipeline.pages(batch);
        }
    }

    /// The boundary stands: puts the checkpoint together and chooses the hot pages for the next.
    fn commit(
        &mut self,
        tick: &mut Tick,
        dirty: u64,
        after: bool,
        witnesses: Vec<Witness>,
        points: Vec<Point>,
    ) -> Result<(), Error> {
        self.note_stalls();
        let mut threads = 0;
        let mut running = 0;
        let mut hot = Hot::default();
        for member in self.members.iter_mut().filter(|m| m.stands) {
            threads += member.state.threads().len();
            running += member.state.running();
        }
        tick.threads = u32::try_from(threads).unwrap_or(u32::MAX);
        tick.skipped = std::mem::take(&mut self.skipped);
        tick.dirty_pages = dirty + tick.precopied_pages;
        self.pace.boundary(dirty, &tick.phases);
        self.cost = Cost {
            stalled: Duration::from_nanos(tick.pause_ns() + tick.precopy_pause_ns),
            pause: Duration::from_nanos(tick.pause_ns()),
            faults: self.ledger.account().faults.write,
            running,
            ..Cost::default()
        };
        let (saves, logs) = (self.trackers.saves(), self.trackers.logs());
        let costs = self.strategy.costs(after, running, saves, logs);
        let room = if self.options.exact_account {
            LOGGED_FAULTS
        } else {
            0
        };
        let mut processes = Vec::with_capacity(self.members.len());
        for member in self.members.iter_mut().filter(|m| m.stands) {
            let space = &mut member.space;
            space.settle();
            self.ledger
                .faults(|faults, room| space.logged(faults, room), room);
            let concluded = space.conclude(&costs);
            hot.copied += concluded.copied;
            hot.unprotected += concluded.unprotected;
            hot.hits += concluded.hits;
            hot.misses += concluded.misses;
            processes.push(member.image(self.descriptions.of(member.pid)));
        }
        self.ledger.account().hot = hot;
        let checkpoint = Checkpoint {
            processes,
            account: self.ledger.close(),
            points,
            // The store's thread knows what it kept of them.
            files: Vec::new(),
        };
        self.pipeline.commit(Box::new(checkpoint), *tick, witnesses);
        for member in self.members.iter().filter(|m| m.stands) {
            self.family.points_taken(member.pid, self.next.0)?;
        }
        self.next.0 += 1;
        Ok(())
    }

    /// How long each thread stood still goes on account.
    fn note_stalls(&mut self) {
        for (pid, stall) in self.family.stalls() {
            let Some(member) = self.members.iter().find(|m| m.pid == pid) else {
                continue;
            };
            let stall = ThreadStall {
                space: member.space.id(),
                tid: stall.tid,
                stopped_ns: self.ledger.at(stall.stopped),
                resumed_ns: self.ledger.at(stall.resumed),
            };
            self.ledger.account().stalls.push(stall);
        }
    }
}

/// Whether this boundary, the `attempt`th, leaves its `dirty` pages for later. More than the
/// pipeline takes at once takes so long to copy that most targets will have written to it; it is
/// left for later all the same as long as that makes it fewer than the look `before` found.
fn shall_copy_after(
    strategy: &mut Strategy,
    dirty: u64,
    before: u64,
    attempt: u32,
    full: bool,
) -> bool {
    match attempt {
        1 if full && dirty > STOP_PAGES => dirty < before / 2,
        1 => strategy.after(dirty),
        2..ATTEMPTS => dirty > STOP_PAGES && dirty < before / 2,
        _ => false,
    }
}

/// Copies what is planned while the target stands still. What passes [`STOP_BATCHES`] is handed over
/// at once, and what the pipeline does not hold back, too, lets the target
/// wait for the store: long, but bounded in memory and still one instant.
fn copy_now(space: &mut Space, pipeline: &Pipeline, batches: &mut Vec<Batch>) -> Result<(), Error> {
    let first = batches.len();
    let plan = space.take_plan();
    for (ranges, forced) in [(&plan.copy, false), (&plan.force, true)] {
        for chunk in chunks(ranges, BATCH_PAGES) {
            if batches.len() >= first + STOP_BATCHES {
                for mut batch in batches.drain(first..) {
                    space.populate(&batch);
                    space.thin_out(&mut batch);
                    pipeline.pages(batch);
                }
                pipeline.wait_for_room();
            }
            let mut batch = pipeline.batch(space.id())?;
            space.copy(&chunk, forced, &mut batch)?;
            space.drop_unreadable();
            batches.push(batch);
        }
    }
    space.give_plan(plan);
    Ok(())
}

/// Measures phases.
struct Clock {
    last: Instant,
}

impl Clock {
    fn start() -> Self {
        Self {
            last: Instant::now(),
        }
    }

    /// Nanoseconds since the last lap.
    fn lap(&mut self) -> u64 {
        let now = Instant::now();
        nanos(now.duration_since(std::mem::replace(&mut self.last, now)))
    }
}
