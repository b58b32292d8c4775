//! One target, and how a checkpoint of it is made.
//!
//! [`Engine::checkpoint`] is a tick of the design: pre-copy rounds while the target runs, then the
//! boundary. A round stops the target only to find and protect what was written, and copies while
//! it runs again; what is written meanwhile is found again at the boundary, so nothing copied
//! early can be wrong. The boundary holds what must be atomic: mappings, the last written pages,
//! registers, descriptors.
//!
//! Copying *after* the boundary, and choosing hot pages, have their place in
//! [`Engine::boundary`](Engine), between the plan and the copy.

use crate::Error;
use crate::chunks::chunks;
use crate::options::{Options, Precopy};
use crate::pipeline::{BATCH_PAGES, Batch, Pipeline, QUEUE_BATCHES};
use crate::precopy::Pace;
use crate::space::Space;
use crate::state::State;
use crossbeam_channel::Receiver;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stillframe_image::{CheckpointId, Gap, Marks, Phases, ProcessImage, SigInfo, Tick};
use stillframe_linux::copy::PageArena;
use stillframe_linux::inject::Injector;
use stillframe_linux::tracee::{Event, Stop, Tracee, Wake};
use stillframe_linux::uffd::Userfaultfd;

/// Pages of memory that one witness may hold: 64 GiB of addresses, taken as used.
const WITNESS_PAGES: usize = 16 << 20;

/// Batches that may be filled in one stop before the target has to wait for the store: 1 GiB.
const STOP_BATCHES: usize = 64;

/// Times that a boundary gives way to copying while the target runs, because it would hold more than
/// the pipeline takes at once.
const EARLY_ROUNDS: u32 = 3;

/// Calls made inside the target at set-up, at most: about a hundred microseconds each.
const SET_UP_CALLS: usize = 256;

/// Same for one completion.
const COMPLETION_CALLS: usize = 16;

/// Completions are at least this far apart.
const COMPLETION_PERIOD: Duration = Duration::from_secs(1);

/// How long a target may take to stop for a completion.
const COMPLETION_LIMIT: Duration = Duration::from_millis(5);

/// How long a target may take to stop for set-up.
const SET_UP_LIMIT: Duration = Duration::from_secs(10);

/// What came of a tick.
#[derive(Debug)]
pub enum Outcome {
    /// A checkpoint was handed to the pipeline.
    Taken,
    /// The target could not be stopped in time; it runs on.
    NotStopped(String),
    /// Something happened to the target that must be dealt with first.
    Event(Event),
}

/// A target in which tracking is set up.
#[derive(Debug)]
pub struct Prepared {
    tracee: Tracee,
    space: Space,
    state: State,
}

impl Prepared {
    /// Sets up tracking in a target that has just been attached to or launched.
    ///
    /// # Errors
    /// If the target cannot be stopped, or tracking cannot be set up in it; it then runs on
    /// untouched.
    pub fn set_up(mut tracee: Tracee, options: &Options) -> Result<Self, Error> {
        let mut state = State::new(tracee.pid())?;
        let space = set_up(&mut tracee, &mut state, options)?;
        Ok(Self {
            tracee,
            space,
            state,
        })
    }
}

/// The capture side of a recording.
#[derive(Debug)]
pub struct Engine {
    tracee: Tracee,
    space: Space,
    state: State,
    pipeline: Pipeline,
    options: Options,
    pace: Pace,
    started: Instant,
    next: CheckpointId,
    /// Arenas for witnesses to be used again; none unless paranoid.
    witnesses: Option<Receiver<PageArena>>,
    skipped: u32,
    /// The thread through which /proc is read.
    via: u32,
    completed: Instant,
    /// Time the target stood still for completions since the last checkpoint.
    completion_ns: u64,
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
            tracee,
            space,
            state,
        } = prepared;
        Self {
            via: tracee.pid(),
            tracee,
            space,
            state,
            pipeline,
            options,
            pace: Pace::default(),
            started: Instant::now(),
            next: CheckpointId(0),
            witnesses,
            skipped: 0,
            completed: Instant::now(),
            completion_ns: 0,
        }
    }

    /// After `exec`: the address space and its tracking are gone; begins anew.
    ///
    /// # Errors
    /// As [`Prepared::set_up`].
    pub fn replaced(&mut self) -> Result<(), Error> {
        self.via = self.tracee.pid();
        self.state = State::new(self.via)?;
        self.space = set_up(&mut self.tracee, &mut self.state, &self.options)?;
        self.pipeline.forget();
        self.pace = Pace::default();
        Ok(())
    }

    /// The target and the pipeline.
    pub const fn parts(&mut self) -> (&mut Tracee, &mut Pipeline) {
        (&mut self.tracee, &mut self.pipeline)
    }

    /// Takes the engine apart: the target, the pipeline, and the ticks skipped since the last
    /// checkpoint.
    pub fn into_parts(self) -> (Tracee, Pipeline, u32) {
        (self.tracee, self.pipeline, self.skipped)
    }

    /// When the recording began.
    pub const fn started(&self) -> Instant {
        self.started
    }

    /// Checkpoints handed to the pipeline.
    pub const fn taken(&self) -> u64 {
        self.next.0
    }

    /// Notes ticks that were due and not taken.
    pub const fn skip(&mut self, ticks: u32) {
        self.skipped = self.skipped.saturating_add(ticks);
    }

    /// What the last checkpoint does not hold.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        self.space.gaps(&mut gaps);
        self.state.gaps(&mut gaps);
        gaps
    }

    /// Keeps looking at the process when its main thread has ended before the others.
    fn follow_threads(&mut self) -> Result<(), Error> {
        let tids = self.tracee.tids();
        if tids.binary_search(&self.via).is_ok() {
            return Ok(());
        }
        if let Some(tid) = tids.first().copied() {
            self.space.look_through(tid)?;
            self.state.look_through(tid)?;
            self.via = tid;
        }
        Ok(())
    }

    /// Takes a checkpoint. `crash`: the thread and the fatal signal that it is about to get.
    /// `limit`: how long the target may take to stop.
    ///
    /// # Errors
    /// If the kernel fails in a way that ends the recording. The target is running (or held, if it
    /// was) in every case.
    pub fn checkpoint(
        &mut self,
        marks: Marks,
        crash: Option<(u32, SigInfo)>,
        limit: Duration,
    ) -> Result<Outcome, Error> {
        self.follow_threads()?;
        let full = marks.contains(Marks::FULL);
        let mut tick = Tick {
            marks,
            precopy_pause_ns: self.completion_ns,
            ..Tick::default()
        };
        self.completion_ns = 0;
        // A dying target does not run, so there is nothing to gain from copying early.
        let last_words = marks.contains(Marks::CRASH) || marks.contains(Marks::EXIT);
        if !last_words {
            let rounds = match (self.options.precopy, self.pace.rounds(full)) {
                (Precopy::Fixed(rounds), _) | (Precopy::Auto, rounds) => rounds,
            };
            for _ in 0..rounds {
                match self.precopy(&mut tick, limit)? {
                    Outcome::Taken if self.pace.settled(full) => break,
                    Outcome::Taken => {}
                    other => return Ok(other),
                }
            }
        }
        let mut early = if last_words { 0 } else { EARLY_ROUNDS };
        loop {
            match self.boundary(&mut tick, crash.clone(), limit, early > 0)? {
                Some(outcome) => return Ok(outcome),
                None => early -= 1,
            }
            if let Some(event) = self.copy_running()? {
                return Ok(Outcome::Event(event));
            }
        }
    }

    /// Between ticks: reads by injected calls what has come up since set-up (handlers, threads), a
    /// little at a time. Gives an event that must be dealt with first, if there is one.
    ///
    /// # Errors
    /// If the kernel fails in a way that ends the recording.
    pub fn complete(&mut self) -> Result<Option<Event>, Error> {
        if self.completed.elapsed() < COMPLETION_PERIOD || !self.state.wants_injection() {
            return Ok(None);
        }
        self.completed = Instant::now();
        let mut halt = match self.tracee.stop(COMPLETION_LIMIT)? {
            Stop::All(halt) => halt,
            Stop::TimedOut { .. } => return Ok(None),
            Stop::Event(event) => return Ok(Some(event)),
        };
        match Injector::prepare(&mut halt) {
            Ok(mut injector) => {
                self.state
                    .inject(&mut injector, &mut halt, COMPLETION_CALLS);
                injector.finish(&mut halt)?;
            }
            Err(error) => tracing::debug!("state is not completed: {error}"),
        }
        halt.resume()?;
        self.completion_ns += nanos(self.completed.elapsed());
        Ok(None)
    }

    /// One pre-copy round.
    fn precopy(&mut self, tick: &mut Tick, limit: Duration) -> Result<Outcome, Error> {
        let begun = Instant::now();
        let halt = match self.tracee.stop(limit)? {
            Stop::All(halt) => halt,
            Stop::TimedOut { why, .. } => return Ok(Outcome::NotStopped(why)),
            Stop::Event(event) => return Ok(Outcome::Event(event)),
        };
        let space = &mut self.space;
        space.refresh_layout(self.next, &self.pipeline)?;
        space.find(self.next, &self.pipeline)?;
        halt.resume()?;
        let stalled = begun.elapsed();
        tick.precopy_stops += 1;
        tick.precopy_pause_ns += nanos(stalled);

        let pages = space.plan_dirty()?;
        let copying = Instant::now();
        let event = self.copy_running()?;
        tick.precopied_pages += pages;
        self.pace.round(pages, stalled, copying.elapsed());
        Ok(event.map_or(Outcome::Taken, Outcome::Event))
    }

    /// Copies what is planned while the target runs, and sees to the target meanwhile: a thread
    /// with a signal waits for us. If something happens that must be dealt with first, the rest is
    /// left to the boundary.
    fn copy_running(&mut self) -> Result<Option<Event>, Error> {
        self.pipeline.zeros(self.space.take_zeros());
        let plan = self.space.take_plan();
        let mut event = None;
        for (ranges, forced) in [(&plan.copy, false), (&plan.force, true)] {
            for chunk in chunks(ranges, BATCH_PAGES) {
                if event.is_none() {
                    event = self.see_to_target()?;
                }
                if event.is_some() {
                    self.space.carry(&chunk);
                    continue;
                }
                let mut batch = self.pipeline.batch()?;
                self.space.copy(&chunk, forced, &mut batch)?;
                // What could not be read was unmapped since, or is being replaced: the boundary
                // will tell.
                self.space.carry_unreadable();
                self.space.populate(&batch);
                self.pipeline.pages(batch);
            }
        }
        self.space.give_plan(plan);
        self.space.settle();
        Ok(event)
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

    /// The stop that makes a checkpoint. `may_defer`: if more was written than the pipeline takes at
    /// once, the target goes on instead, and `None` says that the plan is to be carried out while it
    /// runs.
    fn boundary(
        &mut self,
        tick: &mut Tick,
        crash: Option<(u32, SigInfo)>,
        limit: Duration,
        may_defer: bool,
    ) -> Result<Option<Outcome>, Error> {
        let mut clock = Clock::start();
        let mut halt = match self.tracee.stop(limit)? {
            Stop::All(halt) => halt,
            Stop::TimedOut { why, .. } => return Ok(Some(Outcome::NotStopped(why))),
            Stop::Event(event) => return Ok(Some(Outcome::Event(event))),
        };
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        tick.at_ns = nanos(halt.stopped_at().saturating_duration_since(self.started));
        tick.wall_ns = nanos(wall);
        tick.phases.stop = clock.lap();

        let space = &mut self.space;
        space.refresh_layout(self.next, &self.pipeline)?;
        tick.phases.layout = clock.lap();
        space.find(self.next, &self.pipeline)?;
        tick.phases.scan = clock.lap();
        self.state.read_threads(&mut halt)?;
        if let Some((tid, info)) = crash {
            self.state.note_signal(tid, info);
        }
        tick.phases.threads = clock.lap();

        let dirty = space.plan_dirty()?;
        if may_defer && dirty > (QUEUE_BATCHES * BATCH_PAGES) as u64 {
            halt.resume()?;
            tick.phases.resume = clock.lap();
            tick.precopy_stops += 1;
            tick.precopy_pause_ns += tick.pause_ns();
            tick.precopied_pages += dirty;
            tick.phases = Phases::default();
            return Ok(None);
        }
        tick.untracked_pages = space.plan_untracked()?;
        let batches = copy_now(space, &self.pipeline)?;
        tick.phases.copy = clock.lap();

        let special = tick.marks != Marks::default();
        self.state.read_rest(&mut halt, self.next, special)?;
        tick.phases.state = clock.lap();
        let witness = match &self.witnesses {
            Some(spares) => {
                let arena = match spares.try_recv() {
                    Ok(arena) => arena,
                    Err(_) => PageArena::new(WITNESS_PAGES)?,
                };
                Some(space.witness(arena)?)
            }
            None => None,
        };
        // Being paranoid is no part of the pause that is reported.
        clock.lap();
        halt.resume()?;
        tick.phases.resume = clock.lap();

        tick.threads = u32::try_from(self.state.threads().len()).unwrap_or(u32::MAX);
        tick.skipped = std::mem::take(&mut self.skipped);
        tick.dirty_pages = dirty + tick.precopied_pages;
        self.pace.boundary(dirty, &tick.phases);
        self.pipeline.zeros(space.take_zeros());
        for batch in batches {
            space.populate(&batch);
            self.pipeline.pages(batch);
        }
        space.settle();
        let process = ProcessImage {
            space: space.image(),
            threads: self.state.threads().to_vec(),
            descriptors: self.state.descriptors().clone(),
            process: self.state.process().clone(),
            gaps: self.gaps(),
            ..ProcessImage::default()
        };
        self.pipeline
            .commit(Box::new(process.into()), *tick, witness);
        self.next.0 += 1;
        Ok(Some(Outcome::Taken))
    }
}

/// Copies what is planned while the target stands still. What passes [`STOP_BATCHES`] is handed over
/// at once, and the target waits for the store: long, but bounded in memory and still one instant.
fn copy_now(space: &mut Space, pipeline: &Pipeline) -> Result<Vec<Batch>, Error> {
    let mut batches = Vec::new();
    let plan = space.take_plan();
    for (ranges, forced) in [(&plan.copy, false), (&plan.force, true)] {
        for chunk in chunks(ranges, BATCH_PAGES) {
            if batches.len() >= STOP_BATCHES {
                for batch in batches.drain(..) {
                    space.populate(&batch);
                    pipeline.pages(batch);
                }
                pipeline.wait_for_room();
            }
            let mut batch = pipeline.batch()?;
            space.copy(&chunk, forced, &mut batch)?;
            space.drop_unreadable();
            batches.push(batch);
        }
    }
    space.give_plan(plan);
    Ok(batches)
}

/// Stops the target, gets its userfaultfd, and reads the state that needs injected calls.
fn set_up(tracee: &mut Tracee, state: &mut State, options: &Options) -> Result<Space, Error> {
    let pid = tracee.pid();
    if !tracee.is_x86_64() {
        return Err(Error::NotX86_64(pid));
    }
    let setup = |source| Error::Setup { pid, source };
    let mut halt = match tracee.stop(SET_UP_LIMIT)? {
        Stop::All(halt) => halt,
        Stop::TimedOut { why, .. } => return Err(Error::NotStopped { pid, why }),
        Stop::Event(event) => return Err(Error::EndedEarly { pid, event }),
    };
    let mut injector = Injector::prepare(&mut halt).map_err(setup)?;
    let fd = injector
        .userfaultfd(&mut halt, Userfaultfd::CREATE_FLAGS)
        .map_err(setup)?;
    let uffd = Userfaultfd::handshake(fd).map_err(setup)?;
    state.inject(&mut injector, &mut halt, SET_UP_CALLS);
    injector.finish(&mut halt).map_err(setup)?;
    let space = Space::new(pid, uffd, options.objects, options.shared_limit).map_err(setup)?;
    halt.resume()?;
    Ok(space)
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

fn nanos(duration: Duration) -> u64 {
    u64::try_from(duration.as_nanos()).unwrap_or(u64::MAX)
}
