//! The stop that makes a checkpoint.

use super::{ATTEMPTS, Engine, Outcome};
use crate::Error;
use crate::chunks::chunks;
use crate::control::Cost;
use crate::ledger::nanos;
use crate::pipeline::{BATCH_PAGES, Batch, Pipeline, QUEUE_BATCHES};
use crate::space::Space;
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stillframe_image::account::StopKind;
use stillframe_image::{Checkpoint, Marks, Phases, SigInfo, Tick};
use stillframe_linux::copy::PageArena;
use stillframe_linux::tracee::{Event, Stop};

/// Pages of memory that one witness may hold: 64 GiB of addresses, taken as used.
const WITNESS_PAGES: usize = 16 << 20;

/// Batches that may be filled in one stop before the target has to wait for the store: 1 GiB.
const STOP_BATCHES: usize = 64;

/// More pages than the pipeline takes at once are not copied in a stop as long as there is another
/// way.
const STOP_PAGES: u64 = (QUEUE_BATCHES * BATCH_PAGES) as u64;

/// What came of a boundary.
pub(super) enum Made {
    /// A checkpoint was handed to the pipeline. Perhaps something happened meanwhile.
    Standing(Option<Event>),
    /// Pages were written before they were copied: it has to be made again, or the event to be
    /// dealt with first.
    Conflict(Option<Event>),
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
        let mut clock = Clock::start();
        let begun = clock.last;
        let mut halt = match self.tracee.stop(limit)? {
            Stop::All(halt) => halt,
            Stop::TimedOut { why, .. } => return Ok(Made::Nothing(Outcome::NotStopped(why))),
            Stop::Event(event) => return Ok(Made::Nothing(Outcome::Event(event))),
        };
        let wall = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        tick.at_ns = nanos(halt.stopped_at().saturating_duration_since(self.started));
        tick.wall_ns = nanos(wall);
        tick.phases.stop = clock.lap();

        let (space, state) = (&mut self.member.space, &mut self.member.state);
        space.refresh_layout(self.next, &self.pipeline)?;
        tick.phases.layout = clock.lap();
        space.find(self.next, &self.pipeline)?;
        tick.phases.scan = clock.lap();
        state.read_threads(&mut halt)?;
        if let Some((tid, info)) = crash {
            state.note_signal(*tid, info.clone());
        }
        tick.phases.threads = clock.lap();

        let dirty = crate::ranges::pages(space.dirty());
        let after = match attempt {
            1 => self.strategy.after(dirty) || dirty > STOP_PAGES,
            2..ATTEMPTS => dirty > STOP_PAGES,
            _ => false,
        };
        space.divide(!after);
        let now = space.plan_now()?;
        let untracked = space.plan_untracked()?;
        let batches = copy_now(space, &self.pipeline)?;
        tick.phases.copy = clock.lap();

        let special = tick.marks != Marks::default();
        state.read_rest(&mut halt, self.next, special)?;
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

        self.strategy.boundary(now, &tick.phases, attempt > 1);
        self.ledger.look(space.id(), space.dirty());
        self.pipeline.zeros(space.id(), space.take_zeros());
        for mut batch in batches {
            space.populate(&batch);
            space.thin_out(&mut batch);
            self.pipeline.pages(batch);
        }
        tick.untracked_pages = untracked;
        let mut event = None;
        if after {
            let copied = self.copy_running(true)?;
            self.strategy.copied_after(copied.stands);
            let account = &mut self.ledger.account().after;
            account.copied += copied.pages - copied.conflicts;
            account.conflicts += copied.conflicts;
            if !copied.stands {
                account.repairs += 1;
                let pause = tick.pause_ns();
                self.ledger.stop(StopKind::Conflict, begun, pause, dirty);
                tick.precopy_stops += 1;
                tick.precopy_pause_ns += pause;
                tick.precopied_pages += dirty;
                tick.phases = Phases::default();
                return Ok(Made::Conflict(copied.event));
            }
            event = copied.event;
        }
        let space = &mut self.member.space;
        space.settle();
        tick.threads = u32::try_from(self.member.state.threads().len()).unwrap_or(u32::MAX);
        tick.skipped = std::mem::take(&mut self.skipped);
        tick.dirty_pages = dirty + tick.precopied_pages;
        self.pace.boundary(dirty, &tick.phases);
        self.ledger
            .stop(StopKind::Boundary, begun, tick.pause_ns(), dirty);
        let running = self.member.state.running();
        self.cost = Cost {
            stalled: Duration::from_nanos(tick.pause_ns() + tick.precopy_pause_ns),
            pause: Duration::from_nanos(tick.pause_ns()),
            faults: self.ledger.account().faults.write,
            running,
            ..Cost::default()
        };
        let costs = self.strategy.costs(after, running);
        self.ledger.account().hot = self.member.space.conclude(&costs);
        let checkpoint = Checkpoint {
            processes: vec![self.member.image()],
            account: self.ledger.close(),
            points: Vec::new(),
        };
        self.pipeline.commit(Box::new(checkpoint), *tick, witness);
        self.next.0 += 1;
        Ok(Made::Standing(event))
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
            let mut batch = pipeline.batch(space.id())?;
            space.copy(&chunk, forced, &mut batch)?;
            space.drop_unreadable();
            batches.push(batch);
        }
    }
    space.give_plan(plan);
    Ok(batches)
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
