//! A recording from beginning to end.
//!
//! [`record`] waits: for the next tick, for something to happen to the target, for the user, for
//! the store to fail. Whatever comes first decides what is done; nothing here takes a checkpoint
//! itself. What follows from an event is in `events`, what comes before the first tick in `opening`.

mod events;
mod keeper;
mod opening;
mod rollback;

pub use keeper::{Ailment, Case, Keeper, Remedy};

use crate::Error;
use crate::control::{self, Control, Cost};
use crate::engine::{Engine, Happened, Outcome, Prepared, processors};
use crate::options::Options;
use crate::paranoid::{Checker, Findings};
use crate::pipeline::Pipeline;
use crate::points;
use crate::stats::Stats;
use crate::tracker::Trackers;
use std::os::fd::{AsFd, BorrowedFd};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stillframe_image::account::SkipReason;
use stillframe_image::{Gap, Marks};
use stillframe_linux::sched;
use stillframe_linux::tracee::{FamilyWake, Outcome as Ended, Tracee};
use stillframe_restore::rollback::ask::Listener;
use stillframe_store::{Recording, Summary};

/// Longest a target may take to stop for an ordinary tick. Threads waiting for a disk, or for a
/// child of `vfork`, cannot be stopped; the tick is then skipped and the target runs on.
const STOP_LIMIT: Duration = Duration::from_millis(20);

/// Same for the first and the last checkpoint, which are worth waiting for.
const PATIENT_LIMIT: Duration = Duration::from_secs(1);

/// Notes in a summary, at most.
const NOTES: usize = 8;

/// The observer hears at least this often.
const SHOW_PERIOD: Duration = Duration::from_millis(500);

/// What the user may do while a recording runs.
pub trait Observer {
    /// Called after every tick, and at least twice a second.
    fn progress(&mut self, stats: &Stats, elapsed: Duration, lag: bool);

    /// A descriptor that becomes readable when the user wants something.
    fn wish(&self) -> BorrowedFd<'_>;

    /// Reads it: whether the recording shall end now.
    fn shall_stop(&mut self, pid: u32) -> bool;
}

/// How a recording ended.
#[derive(Debug)]
pub struct Report {
    /// Figures.
    pub stats: Stats,
    /// Time from the first to the last moment of recording.
    pub elapsed: Duration,
    /// In words, as the recording's summary has it.
    pub how: String,
    /// The target's end, if it ended while recorded.
    pub ended: Option<Ended>,
    /// The target's process id.
    pub pid: u32,
    /// What `--paranoid` found.
    pub paranoid: Option<Findings>,
    /// Most memory the store's writer held, bytes.
    pub writer_bytes: u64,
    /// Anything the user should know.
    pub notes: Vec<String>,
    /// What cut the recording short, if anything did. What was committed before is readable.
    pub failure: Option<Error>,
}

/// Records a target, which `begin` attaches to or launches, until it ends, the user or a limit says
/// stop, or the recording can no longer be written. An attached target runs on; a launched one that
/// has not ended, too.
///
/// # Errors
/// If recording could not begin. The target then runs on untouched.
pub fn record(
    begin: impl FnOnce() -> Result<Tracee, Error>,
    options: &Options,
    observer: &mut dyn Observer,
) -> Result<Report, Error> {
    record_kept(begin, options, observer, None)
}

/// The same with somebody who decides what becomes of the target when it is about to die, or ails.
///
/// # Errors
/// As [`record`].
pub fn record_kept<'a>(
    begin: impl FnOnce() -> Result<Tracee, Error>,
    options: &'a Options,
    observer: &'a mut (dyn Observer + 'a),
    keeper: Option<&'a mut (dyn Keeper + 'a)>,
) -> Result<Report, Error> {
    // Before the target is ours: what its threads report from then on waits for us.
    let trackers = Trackers::choose(options.tracker)?;
    let tracee = begin()?;
    let pid = tracee.pid();
    // A target that cannot be recorded leaves nothing behind on disk.
    let mut prepared = Prepared::set_up(tracee, trackers, options)?;
    let (writer, early) = opening::create(&mut prepared, pid, options)?;
    let findings = Arc::new(Mutex::new(Findings::default()));
    let (checker, spares) =
        if options.paranoid {
            let (checker, spares) = Checker::start(&options.output, Arc::clone(&findings))
                .map_err(|source| Error::Resources {
                    what: "a thread",
                    source,
                })?;
            (Some(checker), Some(spares))
        } else {
            (None, None)
        };
    let pipeline =
        Pipeline::start(writer, checker, options.files).map_err(|source| Error::Resources {
            what: "a thread",
            source,
        })?;
    let engine = Engine::new(prepared, pipeline, options.clone(), spares);
    // A thread that is resumed must not take the processor from the one that has others to resume.
    let precedence = sched::try_realtime();
    tracing::debug!(?precedence, "scheduling of the capture thread");
    let mut session = Session {
        engine,
        options,
        observer,
        counts: Counts::default(),
        crashed: false,
        last_seen: Instant::now(),
        control: control(options),
        last_tick: Instant::now(),
        recorder: 0.0,
        early,
        door: Listener::start(&options.output)
            .inspect_err(|error| tracing::warn!("nobody can ask for a rollback: {error}"))
            .ok(),
        reader: None,
        keeper,
    };
    let verdict = session.run();
    session.close(verdict, findings)
}

fn kernel_release() -> String {
    let text = std::fs::read_to_string("/proc/sys/kernel/osrelease").unwrap_or_default();
    text.trim().to_owned()
}

fn wall_ns() -> u64 {
    let since = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    u64::try_from(since.as_nanos()).unwrap_or(u64::MAX)
}

/// What the loop works towards.
struct Goals {
    period: Duration,
    end: Option<Instant>,
    /// When the next tick is.
    due: Instant,
    /// When to try again after a checkpoint that the target asked for could not be taken.
    retry: Instant,
    /// Marks of the next checkpoint.
    marks: Marks,
    /// Processes that do not run before it.
    held: Vec<u32>,
}

/// Why the loop ended.
enum Verdict {
    Ended(Ended),
    Stopped,
    Limit(&'static str),
    StoreFailed,
    Failed(Error),
}

/// Figures of what the store has committed.
#[derive(Default)]
struct Counts {
    stats: Stats,
    writer_bytes: u64,
}

impl Counts {
    fn take(&mut self, pipeline: &Pipeline) {
        for done in pipeline.done() {
            self.stats.add(&done.tick, &done.committed);
            self.writer_bytes = self.writer_bytes.max(done.writer_bytes);
        }
    }
}

struct Session<'a> {
    engine: Engine,
    options: &'a Options,
    observer: &'a mut (dyn Observer + 'a),
    counts: Counts,
    crashed: bool,
    last_seen: Instant,
    /// Keeps the budget, if there is one.
    control: Option<Control>,
    last_tick: Instant,
    /// Processor time of ours at the last judgement, seconds.
    recorder: f64,
    /// What happened to the target before the recording was there.
    early: Option<Happened>,
    /// Where others ask for a rollback.
    door: Option<Listener>,
    /// The recording as read for a rollback.
    reader: Option<Recording>,
    /// Who looks after the target.
    keeper: Option<&'a mut (dyn Keeper + 'a)>,
}

fn control(options: &Options) -> Option<Control> {
    if options.budget.is_none() && options.max_pause.is_none() {
        return None;
    }
    let goals = control::Goals {
        ceiling: options.hz,
        budget: options.budget,
        max_pause: options.max_pause,
    };
    Some(Control::new(goals, processors()))
}

impl Session<'_> {
    fn run(&mut self) -> Verdict {
        let mut goals = Goals {
            period: self.options.period(),
            end: self.options.duration.map(|d| self.engine.started() + d),
            due: self.engine.started(),
            retry: self.engine.started(),
            // A launched target stands at its first instruction, and that is the first checkpoint.
            marks: Marks::FULL,
            held: self.engine.parts().0.pids().collect(),
        };
        let (mut gone, mut taken) = (0, 0);
        loop {
            if self.engine.taken() > taken {
                (gone, taken) = (0, self.engine.taken());
            }
            match self.step(&mut goals) {
                Ok(None) => {}
                Ok(Some(verdict)) => return verdict,
                // Killed under our hands: its end is about to be reported.
                Err(Error::Kernel(error)) if error.is_gone() && gone < 100 => {
                    gone += 1;
                    tracing::debug!("the target is ending: {error}");
                    let family = self.engine.parts().0;
                    if let (Some(outcome), true) = (family.outcome(), family.is_over()) {
                        return Verdict::Ended(outcome);
                    }
                    goals.due = Instant::now() + Duration::from_millis(10);
                }
                Err(error) => return Verdict::Failed(error),
            }
        }
    }

    /// Whatever is due, then a wait. Gives the verdict once there is one.
    fn step(&mut self, goals: &mut Goals) -> Result<Option<Verdict>, Error> {
        if let Some((pid, event)) = self.early.take() {
            return self.event(pid, event, goals);
        }
        let now = Instant::now();
        if goals.end.is_some_and(|end| now >= end) {
            return Ok(Some(Verdict::Limit("time")));
        }
        if self
            .options
            .count
            .is_some_and(|count| self.engine.taken() >= count)
        {
            return Ok(Some(Verdict::Limit("count")));
        }
        if let Some(verdict) = self.look_after(goals)? {
            return Ok(Some(verdict));
        }
        let gates_due = self.engine.look_at_gates();
        let asked = self.engine.parts().0.is_asked();
        if asked {
            let family = self.engine.parts().0;
            family.decline_points(None, points::ANSWER_LIMIT)?;
        }
        if asked && now >= goals.retry && now < goals.due {
            match self.tick_and_release(goals)? {
                Some(Outcome::Taken) => {
                    if let Some((pid, event)) = self.engine.complete()? {
                        return self.event(pid, event, goals);
                    }
                }
                Some(Outcome::Event((pid, event))) => return self.event(pid, event, goals),
                Some(Outcome::NotStopped(_)) | None => {
                    goals.retry = Instant::now() + points::RETRY;
                }
            }
        }
        if now >= goals.due {
            let before = self.engine.taken();
            let outcome = self.tick_and_release(goals)?;
            if self.engine.taken() > before {
                self.steer(goals);
            }
            match outcome {
                Some(Outcome::Taken) => {}
                Some(Outcome::Event((pid, event))) => return self.event(pid, event, goals),
                Some(Outcome::NotStopped(why)) => {
                    tracing::debug!("tick skipped: {why}");
                    self.engine.skip(1, SkipReason::NotStopped);
                }
                None => self.engine.skip(1, SkipReason::Store),
            }
            goals.due = self.next_due(goals.due, goals.period);
            self.show();
            if let Some((pid, event)) = self.engine.complete()? {
                return self.event(pid, event, goals);
            }
        }
        let wake_at = [
            Some(goals.due),
            goals.end,
            Some(self.last_seen + SHOW_PERIOD),
            gates_due,
            self.engine.parts().0.is_asked().then_some(goals.retry),
            self.keeper.as_ref().map(|_| now + keeper::LOOK),
        ];
        match self.wait(wake_at.into_iter().flatten().min())? {
            FamilyWake::Deadline => {
                if self.last_seen.elapsed() >= SHOW_PERIOD {
                    self.show();
                }
            }
            FamilyWake::Descriptor(0) => {
                let pid = self.engine.parts().0.pid();
                if self.observer.shall_stop(pid) {
                    return Ok(Some(Verdict::Stopped));
                }
            }
            FamilyWake::Descriptor(1) => return Ok(Some(Verdict::StoreFailed)),
            FamilyWake::Descriptor(_) => {
                let happened = self.asked(goals)?;
                return self.events(happened, goals);
            }
            FamilyWake::Event { pid, event } => return self.event(pid, event, goals),
        }
        Ok(None)
    }

    /// Sets rate and rounds for what is to be kept.
    fn steer(&mut self, goals: &mut Goals) {
        let Some(control) = &mut self.control else {
            return;
        };
        let now = Instant::now();
        let cost = Cost {
            interval: now - self.last_tick,
            ..self.engine.cost()
        };
        self.last_tick = now;
        let recorder = &mut self.recorder;
        control.tick(&cost, || {
            let used = sched::processor_time().as_secs_f64();
            let since = used - *recorder;
            *recorder = used;
            since
        });
        goals.period = control.period();
        self.engine.set_rounds(control.rounds());
        let ticks = goals.period.as_secs_f64() * self.options.hz;
        let left_out = (ticks.round() as u32).saturating_sub(1);
        self.engine.skip(left_out, SkipReason::Budget);
    }

    /// A tick. If it took the first checkpoint, what was held until then goes on.
    fn tick_and_release(&mut self, goals: &mut Goals) -> Result<Option<Outcome>, Error> {
        let before = self.engine.taken();
        let outcome = self.tick(goals.marks)?;
        if self.engine.taken() > before && goals.marks != Marks::default() {
            goals.marks = Marks::default();
            for pid in std::mem::take(&mut goals.held) {
                self.engine.parts().0.release(pid)?;
            }
        }
        Ok(outcome)
    }

    fn wait(&mut self, deadline: Option<Instant>) -> Result<FamilyWake, Error> {
        let wish = self.observer.wish();
        let (family, pipeline) = self.engine.parts();
        let mut wake = vec![wish, pipeline.failed()];
        wake.extend(self.door.as_ref().map(AsFd::as_fd));
        Ok(family.wait(deadline, &wake)?)
    }

    /// The next tick after `due`; ticks that have passed meanwhile are skipped.
    fn next_due(&mut self, due: Instant, period: Duration) -> Instant {
        let now = Instant::now();
        let mut next = due + period;
        if next < now {
            let missed = (now - next).as_nanos() / period.as_nanos().max(1);
            let missed = u32::try_from(missed).unwrap_or(u32::MAX);
            // A tick that is late by less than a period is taken late, not skipped.
            self.engine.skip(missed, SkipReason::Late);
            next += period * missed;
        }
        if self.options.paranoid {
            // A witness takes longer than a period. The target shall run for one between two.
            next = next.max(now + period);
        }
        next
    }

    /// A tick, unless the pipeline has no room.
    fn tick(&mut self, marks: Marks) -> Result<Option<Outcome>, Error> {
        let first = marks != Marks::default();
        if !first && !self.engine.parts().1.has_room() {
            return Ok(None);
        }
        let limit = if first { PATIENT_LIMIT } else { STOP_LIMIT };
        self.engine.checkpoint(marks, None, limit).map(Some)
    }

    fn show(&mut self) {
        self.count();
        self.last_seen = Instant::now();
        let lag = !self.engine.parts().1.has_room();
        self.observer
            .progress(&self.counts.stats, self.engine.started().elapsed(), lag);
    }

    fn count(&mut self) {
        let (_, pipeline) = self.engine.parts();
        self.counts.take(pipeline);
    }

    fn close(mut self, verdict: Verdict, findings: Arc<Mutex<Findings>>) -> Result<Report, Error> {
        let elapsed = self.engine.started().elapsed();
        let pid = self.engine.parts().0.pid();
        let (how, ended, mut failure) = match verdict {
            Verdict::Ended(ended) => (describe(&ended), Some(ended), None),
            Verdict::Stopped => ("stopped by the user".to_owned(), None, None),
            Verdict::Limit(which) => (format!("reached the {which} limit"), None, None),
            Verdict::StoreFailed => ("storing failed".to_owned(), None, None),
            Verdict::Failed(error) => (format!("failed: {error}"), None, Some(error)),
        };
        let notes = notes(&self.engine.gaps());
        // The target first: whatever storing still takes is not its business.
        self.engine.close_gates();
        let skipped = self.engine.skipped();
        let (family, mut pipeline) = self.engine.into_parts();
        if ended.is_none()
            && let Err(error) = family.detach()
        {
            tracing::debug!("detaching: {error}");
        }
        let summary = Summary {
            ended_wall_ns: wall_ns(),
            how: how.clone(),
            skipped,
            notes: notes.clone(),
        };
        if let Err(error) = pipeline.finish(summary) {
            failure = Some(error);
        }
        self.counts.take(&pipeline);
        self.counts.stats.skipped = skipped;
        let paranoid = self.options.paranoid.then(|| {
            findings
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
                .clone()
        });
        Ok(Report {
            stats: self.counts.stats,
            elapsed,
            how,
            ended,
            pid,
            paranoid,
            writer_bytes: self.counts.writer_bytes,
            notes,
            failure,
        })
    }
}

/// What a user should know of what is not captured, in a line each; what every process has (kernel
/// time pages) is not worth one.
fn notes(gaps: &[Gap]) -> Vec<String> {
    gaps.iter()
        .filter(|gap| !gap.subject.contains(" [v"))
        .map(|gap| format!("{}: {}", gap.subject, gap.reason))
        .take(NOTES)
        .collect()
}

fn describe(ended: &Ended) -> String {
    match ended {
        Ended::Exited(code) => format!("exited {code}"),
        Ended::Killed { signal, core } => {
            let dumped = if *core { ", core dumped" } else { "" };
            format!(
                "killed by {}{dumped}",
                stillframe_image::signal::name(i64::from(*signal))
            )
        }
    }
}
