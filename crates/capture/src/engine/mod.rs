//! How a checkpoint is made.
//!
//! [`Engine::checkpoint`] is a tick of the design: pre-copy rounds while the target runs, the
//! boundary, and what is copied after it. The boundary ([`boundary`]) holds what must be atomic:
//! mappings, which pages were written, registers, hot pages, descriptors. The other pages are
//! copied once the target runs again ([`after`]); each copy counts only if its page is found
//! unwritten afterwards. If one was written first, the boundary is made again, and what was copied
//! serves as a pre-copy round: what was written since is found again, so nothing copied early can
//! be wrong.

mod after;
mod boundary;
mod member;
mod setup;

pub use member::Member;
pub use setup::Prepared;

use crate::Error;
use crate::control::Cost;
use crate::descriptions::Descriptions;
use crate::files::Look;
use crate::ledger::{Ledger, nanos};
use crate::options::{Options, Precopy};
use crate::pipeline::Pipeline;
use crate::precopy::{Next, Pace};
use crate::strategy::Strategy;
use crate::tracker::Trackers;
use after::Purpose;
use boundary::Made;
use crossbeam_channel::Receiver;
use std::num::NonZero;
use std::time::{Duration, Instant};
use stillframe_image::account::{SkipReason, StopKind};
use stillframe_image::{CheckpointId, Gap, Marks, ProcessImage, SigInfo, SpaceId, Tick};
use stillframe_linux::copy::PageArena;
use stillframe_linux::inject::Injector;
use stillframe_linux::proc::status::Status;
use stillframe_linux::tracee::{Event, Family, FamilyStop, Stop, Wish};

/// Boundaries made for one checkpoint, at most. All pages are copied inside the last one.
const ATTEMPTS: u32 = 4;

/// Calls made inside the target for one completion, at most: about a hundred microseconds each.
const COMPLETION_CALLS: usize = 16;

/// Completions are at least this far apart.
const COMPLETION_PERIOD: Duration = Duration::from_secs(1);

/// How long a target may take to stop for a completion.
const COMPLETION_LIMIT: Duration = Duration::from_millis(5);

/// What came of a tick.
#[derive(Debug)]
pub enum Outcome {
    /// A checkpoint was handed to the pipeline.
    Taken,
    /// The target could not be stopped in time; it runs on.
    NotStopped(String),
    /// Something happened to a process that must be dealt with first.
    Event(Happened),
}

/// An event, and the process that it is about.
pub type Happened = (u32, Event);

/// Processors that we and the target may use.
pub fn processors() -> usize {
    std::thread::available_parallelism().map_or(1, NonZero::get)
}

/// The capture side of a recording.
#[derive(Debug)]
pub struct Engine {
    family: Family,
    trackers: Trackers,
    /// The processes recorded, in the order in which they became known.
    members: Vec<Member>,
    descriptions: Descriptions,
    /// Number of the next process that becomes known.
    next_space: u32,
    pipeline: Pipeline,
    options: Options,
    pace: Pace,
    strategy: Strategy,
    ledger: Ledger,
    /// The files that the target writes.
    look: Look,
    started: Instant,
    next: CheckpointId,
    /// Arenas for witnesses to be used again; none unless paranoid.
    witnesses: Option<Receiver<PageArena>>,
    skipped: u32,
    skipped_in_all: u64,
    /// Something that happened while pages were copied, to be dealt with.
    pending: Option<Happened>,
    /// Pages found written at the last look.
    found_before: u64,
    /// Pre-copy rounds asked for to keep the pause short.
    rounds: u32,
    /// What the last checkpoint cost, but for the interval.
    cost: Cost,
    completed: Instant,
    /// Time the target stood still for completions since the last checkpoint.
    completion_ns: u64,
    /// The next checkpoint leaves the processes standing.
    standing: bool,
}

impl Engine {
    /// Over a target in which tracking has been set up. The recording begins now.
    pub fn new(
        prepared: Prepared,
        pipeline: Pipeline,
        options: Options,
        witnesses: Option<Receiver<PageArena>>,
    ) -> Self {
        let Prepared {
            mut family,
            trackers,
            members,
        } = prepared;
        family.hold_at_points(options.at_points);
        let started = Instant::now();
        let next_space = members.iter().map(|m| m.space.id().0 + 1).max();
        Self {
            family,
            trackers,
            members,
            descriptions: Descriptions::default(),
            next_space: next_space.unwrap_or(0),
            pipeline,
            pace: Pace::default(),
            strategy: Strategy::new(options.copying, processors()),
            ledger: Ledger::new(started, options.exact_account),
            look: Look::new(options.files, &options.output),
            options,
            started,
            next: CheckpointId(0),
            witnesses,
            skipped: 0,
            skipped_in_all: 0,
            pending: None,
            found_before: 0,
            rounds: 0,
            cost: Cost::default(),
            completed: started,
            completion_ns: 0,
            standing: false,
        }
    }

    /// A process was made by `parent`: it is recorded from now on.
    ///
    /// # Errors
    /// As [`Prepared::set_up`].
    pub fn born(&mut self, pid: u32, parent: u32) -> Result<(), Error> {
        let parent = self.members.iter().find(|m| m.pid == parent);
        let parent = parent.map(|m| m.space.id());
        let id = SpaceId(self.next_space);
        let member = self.set_up(pid, id, parent)?;
        self.next_space += 1;
        self.members.retain(|m| m.pid != pid);
        self.members.push(member);
        Ok(())
    }

    /// After `exec`: the address space and its tracking are gone; begins anew.
    ///
    /// # Errors
    /// As [`Prepared::set_up`].
    pub fn replaced(&mut self, pid: u32) -> Result<(), Error> {
        let Some(at) = self.members.iter().position(|m| m.pid == pid) else {
            // It ran in the memory of another until now, or could not be recorded before.
            let parent = Status::read(pid).map_or(0, |s| s.parent);
            return self.born(pid, parent);
        };
        let (id, parent) = (self.members[at].space.id(), self.members[at].parent);
        let member = self.set_up(pid, id, parent);
        self.pipeline.forget(id);
        match member {
            Ok(member) => self.members[at] = member,
            Err(error) => {
                self.members.remove(at);
                return Err(error);
            }
        }
        self.pace = Pace::default();
        Ok(())
    }

    fn set_up(&mut self, pid: u32, id: SpaceId, parent: Option<SpaceId>) -> Result<Member, Error> {
        self.family.hold_at_points(self.options.at_points);
        setup::member(
            &mut self.family,
            pid,
            id,
            parent,
            &self.trackers,
            &self.options,
        )
    }

    /// A process has ended.
    pub fn ended(&mut self, pid: u32) {
        self.members.retain(|m| m.pid != pid);
    }

    /// The processes and the pipeline.
    pub const fn parts(&mut self) -> (&mut Family, &mut Pipeline) {
        (&mut self.family, &mut self.pipeline)
    }

    /// Takes the engine apart: the processes and the pipeline.
    pub fn into_parts(self) -> (Family, Pipeline) {
        (self.family, self.pipeline)
    }

    /// When the recording began.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Checkpoints handed to the pipeline.
    pub const fn taken(&self) -> u64 {
        self.next.0
    }

    /// A thread stands at a point. A boundary answers it, but for what can be told at once.
    ///
    /// # Errors
    /// The kernel's.
    pub fn point(&mut self, pid: u32, tid: u32, wish: Wish) -> Result<(), Error> {
        if !self.members.iter().any(|m| m.pid == pid) {
            // It is not recorded, so there is nothing to wait for.
            self.family.decline_points(Some(pid), Duration::ZERO)?;
        } else if wish == Wish::Count {
            self.family.answer(pid, tid, self.next.0)?;
        }
        Ok(())
    }

    /// Opens gates that are new, where it is time to, and tells when it is again.
    pub fn look_at_gates(&mut self) -> Option<Instant> {
        let mut due = None;
        for member in &mut self.members {
            let (next, written) = member.points.look();
            if written {
                member.space.touched();
            }
            due = [due, next].into_iter().flatten().min();
        }
        due
    }

    /// Closes the gates: the target is about to be alone.
    pub fn close_gates(&mut self) {
        self.members.iter_mut().for_each(|m| m.points.close());
    }

    /// Notes ticks that were due and not taken.
    pub fn skip(&mut self, ticks: u32, reason: SkipReason) {
        if ticks > 0 {
            self.skipped = self.skipped.saturating_add(ticks);
            self.skipped_in_all += u64::from(ticks);
            self.ledger.skip(ticks, reason);
        }
    }

    /// Ticks that were due and not taken, since the recording began.
    pub const fn skipped(&self) -> u64 {
        self.skipped_in_all
    }

    /// What the last checkpoint cost, but for the interval.
    pub const fn cost(&self) -> Cost {
        self.cost
    }

    /// Makes so many pre-copy rounds before each boundary, if the user has not said how many.
    pub const fn set_rounds(&mut self, rounds: u32) {
        self.rounds = rounds;
    }

    /// What the last checkpoint does not hold.
    pub fn gaps(&self) -> Vec<Gap> {
        self.members.iter().flat_map(Member::gaps).collect()
    }

    /// Takes a checkpoint of all processes at one instant. `crash`: the thread and the fatal signal
    /// that it is about to get.
    /// `limit`: how long the target may take to stop.
    ///
    /// # Errors
    /// If the kernel fails in a way that ends the recording. The target is running (or held, if it
    /// was) in every case.
    pub fn checkpoint(
        &mut self,
        marks: Marks,
        crash: Option<&(u32, SigInfo)>,
        limit: Duration,
    ) -> Result<Outcome, Error> {
        let made = self.make(marks, crash, limit);
        match (self.pending.take(), made) {
            // What happened explains what failed.
            (Some(event), Err(Error::Kernel(error))) if error.is_gone() => {
                tracing::debug!("given up: {error}");
                Ok(Outcome::Event(event))
            }
            (Some(event), Ok(_)) => Ok(Outcome::Event(event)),
            (_, made) => made,
        }
    }

    fn make(
        &mut self,
        marks: Marks,
        crash: Option<&(u32, SigInfo)>,
        limit: Duration,
    ) -> Result<Outcome, Error> {
        for member in &mut self.members {
            member.follow_threads(&self.family)?;
        }
        let full = marks.contains(Marks::FULL);
        let mut tick = Tick {
            marks,
            precopy_pause_ns: std::mem::take(&mut self.completion_ns),
            ..Tick::default()
        };
        // A dying target does not run, so there is nothing to gain from copying while it does.
        let dying = marks.contains(Marks::CRASH) || marks.contains(Marks::EXIT);
        if !dying {
            let rounds = match self.options.precopy {
                Precopy::Fixed(rounds) => rounds,
                Precopy::Auto => self.pace.rounds(full).max(self.rounds),
            };
            for round in 0..rounds {
                // All memory passes any bound: it goes to the store while it is copied.
                let waits = full && round == 0;
                if !waits {
                    self.pipeline.hold();
                }
                let purpose = match self.pace.next(full) {
                    Next::Boundary if round > 0 => break,
                    Next::Throttled => Purpose::Throttled,
                    Next::Boundary | Next::Round => Purpose::Early,
                };
                match self.precopy(&mut tick, limit, purpose, waits)? {
                    Outcome::Taken if self.pending.is_some() => return Ok(Outcome::Taken),
                    Outcome::Taken => {}
                    other => return Ok(other),
                }
            }
        }
        self.pipeline.hold();
        let mut attempt = if dying || self.standing { ATTEMPTS } else { 0 };
        loop {
            attempt += 1;
            match self.boundary(&mut tick, crash, limit, attempt)? {
                Made::Nothing(outcome) => return Ok(outcome),
                Made::Standing => return Ok(Outcome::Taken),
                Made::Conflict if self.pending.is_some() => return Ok(Outcome::Taken),
                Made::Conflict => {}
            }
        }
    }

    /// Takes a checkpoint after which all processes stand still as they were in it, until they are
    /// stopped and resumed again.
    ///
    /// # Errors
    /// As [`Engine::checkpoint`].
    pub fn stand(
        &mut self,
        marks: Marks,
        crash: Option<&(u32, SigInfo)>,
        limit: Duration,
    ) -> Result<Outcome, Error> {
        self.standing = true;
        let made = self.checkpoint(marks, crash, limit);
        self.standing = false;
        made
    }

    /// The number in the recording of a recorded process.
    pub fn space_of(&self, pid: u32) -> Option<SpaceId> {
        let member = self.members.iter().find(|m| m.pid == pid);
        member.map(|m| m.space.id())
    }

    /// A process was made what it was at an earlier checkpoint: what is known of it is of another
    /// time, and is to be found out again. `number`: its threads' numbers now.
    pub fn remade(&mut self, pid: u32, image: &ProcessImage, number: impl Fn(u32) -> u32) {
        if let Some(member) = self.members.iter_mut().find(|m| m.pid == pid) {
            member.space.touched();
            member.state.adopt(image, number);
        }
    }

    /// Between ticks: reads by injected calls what has come up since set-up (handlers, threads), a
    /// little at a time. Gives an event that must be dealt with first, if there is one.
    ///
    /// # Errors
    /// If the kernel fails in a way that ends the recording.
    pub fn complete(&mut self) -> Result<Option<Happened>, Error> {
        if self.completed.elapsed() < COMPLETION_PERIOD {
            return Ok(None);
        }
        let Some(member) = self.members.iter_mut().find(|m| m.state.wants_injection()) else {
            return Ok(None);
        };
        self.completed = Instant::now();
        let mut halt = match self.family.stop_one(member.pid, COMPLETION_LIMIT)? {
            Stop::All(halt) => halt,
            Stop::TimedOut { .. } => return Ok(None),
            Stop::Event(event) => return Ok(Some((member.pid, event))),
        };
        member.space.touched();
        match Injector::prepare(&mut halt) {
            Ok(mut injector) => {
                member
                    .state
                    .inject(&mut injector, &mut halt, COMPLETION_CALLS);
                injector.finish(&mut halt)?;
            }
            Err(error) => tracing::debug!("state is not completed: {error}"),
        }
        halt.resume()?;
        let pause = nanos(self.completed.elapsed());
        self.ledger
            .stop(StopKind::Completion, self.completed, pause, 0);
        self.completion_ns += pause;
        Ok(None)
    }

    /// One pre-copy round. `waits`: whether copying waits for the store.
    fn precopy(
        &mut self,
        tick: &mut Tick,
        limit: Duration,
        purpose: Purpose,
        waits: bool,
    ) -> Result<Outcome, Error> {
        let begun = Instant::now();
        let mut halt = match stop_all(&mut self.family, &self.pipeline, limit)? {
            FamilyStop::All(halt) => halt,
            FamilyStop::TimedOut { why, .. } => return Ok(Outcome::NotStopped(why)),
            FamilyStop::Event { pid, event } => return Ok(Outcome::Event((pid, event))),
        };
        for member in &mut self.members {
            if halt.process(member.pid).is_some() {
                let space = &mut member.space;
                space.refresh_layout(self.next, &self.pipeline)?;
                space.find(self.next, &self.pipeline)?;
            }
        }
        halt.resume()?;
        let stalled = begun.elapsed();
        tick.precopy_stops += 1;
        tick.precopy_pause_ns += nanos(stalled);

        for member in &mut self.members {
            member.space.divide(false);
            self.ledger.look(member.space.id(), member.space.dirty());
        }
        let copying = Instant::now();
        let copied = self.copy_running(purpose)?;
        tick.precopied_pages += copied.pages;
        tick.precopy_stops += copied.slices;
        tick.precopy_pause_ns += nanos(copied.stalled);
        self.ledger
            .stop(StopKind::Precopy, begun, nanos(stalled), copied.pages);
        let took = copying.elapsed();
        let stalled = stalled + copied.stalled;
        tracing::debug!(pages = copied.pages, ?purpose, ?took, waits, "copied early");
        self.found_before = copied.pages;
        self.pace.round(copied.pages, stalled, took, waits);
        Ok(Outcome::Taken)
    }
}

/// Stops all processes, and keeps the store's thread off the processors until they stand still.
fn stop_all<'a>(
    family: &'a mut Family,
    pipeline: &Pipeline,
    limit: Duration,
) -> Result<FamilyStop<'a>, Error> {
    let courtesy = pipeline.courtesy();
    courtesy.ask();
    let stopped = family.stop_all(limit);
    courtesy.thank();
    Ok(stopped?)
}
