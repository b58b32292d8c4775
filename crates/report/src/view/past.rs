//! Values over time: one expression after the other, a slice of work each.
//!
//! A history goes from one change of what the expression reads to the next ([`Walk`]), and is handed
//! over in parts as it grows. Slices keep a hot expression, which changes at every checkpoint, from
//! holding up the others, and messages are looked at all the while, so that what is no longer wanted
//! ends within a step.

use super::asked::{Answer, Ask, Change, Context};
use super::question;
use super::watch::CHANGES;
use super::work::panicked;
use std::collections::hash_map::Entry;
use std::collections::{HashMap, VecDeque};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::path::Path;
use std::sync::Arc;
use std::sync::mpsc::{Receiver, Sender, TryRecvError};
use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, SpaceId};
use stillframe_store::Recording;
use stillframe_timeline::{Direction, Machine, Past, Step, Walk, machine};

/// How long one history is worked on before the next has its turn.
const SLICE: Duration = Duration::from_millis(120);
/// Changes handed over at once.
const BATCH: usize = 2048;
/// How long a checkpoint that was asked about may take to be seen here.
const PATIENCE: Duration = Duration::from_secs(2);

/// A history that is asked for.
#[derive(Debug)]
struct Job {
    turn: u64,
    watch: u64,
    text: String,
    context: Context,
    /// The first checkpoint that is not known yet.
    from: CheckpointId,
    /// Changes handed over.
    found: usize,
    since: Instant,
}

/// Histories asked for, in the order in which they have their turns.
#[derive(Debug, Default)]
struct Jobs {
    queue: VecDeque<Job>,
    /// The watch whose turn it is.
    current: Option<u64>,
    /// It is not wanted any more.
    dropped: bool,
    /// Nobody asks any more.
    closed: bool,
}

impl Job {
    fn part(
        &self,
        changes: Vec<Change>,
        covered: Option<CheckpointId>,
        done: Option<Result<(), String>>,
        local: bool,
    ) -> Answer {
        Answer::History {
            turn: self.turn,
            watch: self.watch,
            changes,
            covered,
            done,
            local,
        }
    }

    /// The process it is about: that of the chosen thread, else the first that was recorded.
    fn space(&self) -> SpaceId {
        self.context.thread.map_or(SpaceId(0), |t| t.space)
    }
}

impl Jobs {
    fn take(&mut self, ask: Ask) {
        if let Ask::History { watch, .. } | Ask::Forget { watch } = &ask
            && self.current == Some(*watch)
        {
            self.dropped = true;
        }
        match ask {
            Ask::History {
                turn,
                watch,
                text,
                context,
                from,
            } => {
                self.queue.retain(|j| j.watch != watch);
                self.queue.push_back(Job {
                    turn,
                    watch,
                    text,
                    context,
                    from,
                    found: 0,
                    since: Instant::now(),
                });
            }
            Ask::Forget { watch } => self.queue.retain(|j| j.watch != watch),
            _ => {}
        }
    }

    /// Takes what has come.
    fn look(&mut self, asked: &Receiver<Ask>) {
        loop {
            match asked.try_recv() {
                Ok(ask) => self.take(ask),
                Err(TryRecvError::Empty) => return,
                Err(TryRecvError::Disconnected) => {
                    self.closed = true;
                    return;
                }
            }
        }
    }
}

/// Answers questions for histories until nobody is there to ask.
pub fn serve(path: &Path, asked: &Receiver<Ask>, to: &Sender<Answer>) {
    let mut jobs = Jobs::default();
    let mut machine: Option<Arc<Machine>> = None;
    loop {
        if jobs.queue.is_empty() {
            match asked.recv() {
                Ok(ask) => jobs.take(ask),
                Err(_) => return,
            }
        }
        let round = match renewed(path, machine.take()) {
            Ok(renewed) => {
                let renewed = machine.insert(renewed);
                let round = || work(renewed, &mut jobs, asked, to);
                catch_unwind(AssertUnwindSafe(round)).unwrap_or_else(|_| Err(panicked().to_owned()))
            }
            Err(e) => Err(e.to_string()),
        };
        if let Err(why) = round {
            // Whatever was in the middle of its turn is given up, and read anew.
            machine = None;
            if let Some(job) = jobs.queue.pop_front() {
                // Whether anybody hears it shows at the next look.
                let _ = to.send(job.part(Vec::new(), None, Some(Err(why)), false));
            }
        }
        if jobs.closed {
            return;
        }
    }
}

/// The recording as it is now; what was loaded stays loaded.
///
/// # Errors
/// If it cannot be opened.
pub fn renewed(
    path: &Path,
    old: Option<Arc<Machine>>,
) -> Result<Arc<Machine>, stillframe_store::Error> {
    let recording = Arc::new(Recording::open(path)?);
    Ok(Arc::new(match old.and_then(Arc::into_inner) {
        Some(mut machine) => {
            machine.renew(recording);
            machine
        }
        None => Machine::new(recording, machine::Options::default()),
    }))
}

/// Works on what is asked for until there is nothing, or the recording must be looked at again.
fn work(
    machine: &Arc<Machine>,
    jobs: &mut Jobs,
    asked: &Receiver<Ask>,
    to: &Sender<Answer>,
) -> Result<(), String> {
    let recording = machine.recording();
    let Some(last) = recording.rows().last().map(|r| r.id) else {
        std::thread::sleep(Duration::from_millis(50));
        return Ok(());
    };
    let mut pasts: HashMap<SpaceId, Past<'_>> = HashMap::new();
    loop {
        jobs.current = None;
        jobs.look(asked);
        if jobs.closed {
            return Ok(());
        }
        let Some(job) = jobs.queue.front() else {
            // What was read stays at hand while nothing is asked.
            match asked.recv() {
                Ok(ask) => jobs.take(ask),
                Err(_) => jobs.closed = true,
            }
            continue;
        };
        if job.from > last {
            if job.since.elapsed() < PATIENCE {
                std::thread::sleep(Duration::from_millis(20));
                return Ok(());
            }
            // Gone meanwhile: removed, or lost with its recorder.
            let answer = job.part(Vec::new(), Some(last), Some(Ok(())), false);
            let _ = to.send(answer);
            jobs.queue.pop_front();
            continue;
        }
        let space = job.space();
        let past = match pasts.entry(space) {
            Entry::Occupied(known) => known.into_mut(),
            Entry::Vacant(new) => {
                new.insert(Past::new(recording, space).map_err(|e| e.to_string())?)
            }
        };
        slice(machine, past, last, jobs, asked, to)?;
    }
}

/// Gives the first history its turn.
fn slice(
    machine: &Arc<Machine>,
    past: &Past<'_>,
    last: CheckpointId,
    jobs: &mut Jobs,
    asked: &Receiver<Ask>,
    to: &Sender<Answer>,
) -> Result<(), String> {
    let Some(job) = jobs.queue.front() else {
        return Ok(());
    };
    let meaning = question::meaning(machine, &job.text, job.context)?;
    // Only now: what goes wrong is told of the first in the queue.
    let Some(mut job) = jobs.queue.pop_front() else {
        return Ok(());
    };
    (jobs.current, jobs.dropped) = (Some(job.watch), false);
    let end = Instant::now() + SLICE;
    let mut begun = false;
    let mut changes = Vec::new();
    let walked = (|| {
        let to = past.recording().rows().len().saturating_sub(1);
        let range = past.position(job.from)..=to;
        let mut walk = Walk::new(past, &meaning.question, range, Direction::Forward)?;
        changes.push(change(past, walk.position(), walk.answer()));
        loop {
            let step = walk.next(&mut |_| {
                jobs.look(asked);
                // One step in any case, or a slow question would never get on.
                let on = !begun || Instant::now() < end;
                begun = true;
                on && !jobs.dropped && !jobs.closed
            })?;
            match step {
                Step::Change(found) => {
                    changes.push(change(past, found.at, found.new.as_ref()));
                    let full = changes.len() >= BATCH || job.found + changes.len() >= CHANGES;
                    if full || Instant::now() >= end {
                        return Ok((walk.checkpoint(), false));
                    }
                }
                Step::End => return Ok((last, true)),
                Step::Stopped => return Ok((walk.checkpoint(), false)),
            }
        }
    })();
    let dropped = std::mem::take(&mut jobs.dropped);
    jobs.current = None;
    if dropped {
        return Ok(());
    }
    let walked: Result<(CheckpointId, bool), stillframe_timeline::Error> = walked;
    let answer = match walked {
        Ok((covered, ended)) => {
            job.found += changes.len();
            // Of what changes more often than that the beginning is all that is kept.
            let done = (ended || job.found >= CHANGES).then_some(Ok(()));
            job.from = covered;
            let more = done.is_none();
            let answer = job.part(changes, Some(covered), done, meaning.local);
            if more {
                jobs.queue.push_back(job);
            }
            answer
        }
        Err(e) => job.part(changes, None, Some(Err(e.to_string())), meaning.local),
    };
    if to.send(answer).is_err() {
        jobs.closed = true;
    }
    Ok(())
}

fn change(past: &Past<'_>, at: usize, value: Option<&stillframe_timeline::Answer>) -> Change {
    Change {
        id: past.id(at),
        at_ns: past.row(at).map_or(0, |r| r.tick.at_ns),
        value: question::reading(value),
    }
}
