//! Moving through a recording as an editor's buttons mean it.
//!
//! Time has no instructions here, only checkpoints; so a step goes to the nearest checkpoint where
//! something a user would call a step has happened:
//!
//! - The *line of a thread* is that of its innermost frame that has one. That frame is the *current
//!   call*; it is told from other calls of the same function by its frame address and by all places it
//!   was called from.
//! - `next` stops where the current call stands on another line, or has returned; `stepBack` is the
//!   same backward. What the line calls does not stop them.
//! - `stepIn` stops where the innermost frame with a line is another call, or on another line.
//! - `stepOut` stops where the current call is gone.
//! - With the granularity of instructions each of them goes to the neighbouring checkpoint.
//!
//! Every way ends early where a breakpoint is hit (see `breakpoints`), a watched value changes, a
//! chosen sort of moment comes, the recording ends, or the user says so. If only values and moments
//! can end it, the index answers at once and nothing is visited in between.

use super::breakpoints::{Breakpoint, DEPTH, DataBreakpoint, Standing, interpolate, standing};
use super::debuggee::{Change, Debuggee, Direction, Failure, FrameId, FrameInfo};
use super::interrupt::Interrupt;
use stillframe_image::{CheckpointId, Marks};

/// Checkpoints visited between two words about progress.
const WORD: u64 = 256;

/// Which step.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Step {
    /// Over calls.
    Over,
    /// Into calls.
    In,
    /// Out of the current call.
    Out,
    /// To the neighbouring checkpoint.
    Checkpoint,
}

/// What ends a way besides a step.
#[derive(Debug, Default)]
pub struct Stops {
    /// Breakpoints on code.
    pub code: Vec<Breakpoint>,
    /// Breakpoints on values.
    pub data: Vec<DataBreakpoint>,
    /// Sorts of moments.
    pub marks: Marks,
    /// Moments with a name.
    pub tags: bool,
}

/// Why a way ended, and so why we stand where we stand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Ended {
    /// The step is done; a thread, and what differs.
    Stepped(u32, String),
    /// A thread is at these breakpoints.
    Code(FrameId, Vec<i64>),
    /// These values changed, in words.
    Data(Vec<i64>, String),
    /// A moment of a sort that was asked for.
    Marked,
    /// There are no more checkpoints.
    End,
    /// The user said so.
    Paused,
}

/// Whom to tell what happens on the way.
pub trait Witness {
    /// So many checkpoints were visited; this one is where we are.
    fn visited(&mut self, count: u64, at: CheckpointId);
    /// What a log point says.
    fn say(&mut self, message: &str);
}

/// Goes from where we stand until something ends it.
///
/// # Errors
/// If a checkpoint cannot be read; we stand wherever that was.
pub fn travel<D: Debuggee>(
    debuggee: &mut D,
    direction: Direction,
    step: Option<(u32, Step)>,
    stops: &mut Stops,
    interrupt: &Interrupt,
    witness: &mut dyn Witness,
) -> Result<Ended, Failure> {
    let aim = match step {
        Some((tid, step)) => Some(Aim::new(debuggee, tid, step)?),
        None => None,
    };
    let visits = aim.is_some() || !stops.code.is_empty();
    let mut before = Standing::new();
    if !stops.code.is_empty() {
        before = standing(debuggee, &stops.code, &before)?.1;
    }
    let mut count: u64 = 0;
    loop {
        // Each round goes to the nearest moment that the index knows of, visiting or jumping.
        let change = match stops.data.is_empty() {
            true => None,
            false => {
                let watched: Vec<_> = stops.data.iter().map(|d| d.watch.clone()).collect();
                match debuggee.next_change(&watched, direction, interrupt) {
                    Err(Failure::Interrupted) => return Ok(Ended::Paused),
                    other => other?,
                }
            }
        };
        let changed_at = change.as_ref().map(|c| match direction {
            Direction::Forward => c.after,
            Direction::Backward => c.before,
        });
        let marked = (stops.marks != Marks::default())
            .then(|| debuggee.next_marked(stops.marks, direction))
            .flatten();
        let tagged = stops
            .tags
            .then(|| debuggee.next_tagged(direction))
            .flatten();
        let bound = nearest(direction, [changed_at, marked, tagged]);
        if visits {
            loop {
                if interrupt.is_set() {
                    return Ok(Ended::Paused);
                }
                let Some(next) = debuggee.neighbour(direction) else {
                    return Ok(Ended::End);
                };
                debuggee.go(next)?;
                count += 1;
                if count.is_multiple_of(WORD) {
                    witness.visited(count, next);
                }
                if !stops.code.is_empty() {
                    let (hits, now) = standing(debuggee, &stops.code, &before)?;
                    before = now;
                    if let Some(ended) = hit(debuggee, &mut stops.code, &hits, witness) {
                        return Ok(ended);
                    }
                }
                if let Some(aim) = &aim
                    && let Some(what) = aim.reached(debuggee, direction)?
                {
                    // A value that changed right here is the better news.
                    if changed_at != Some(next) {
                        return Ok(Ended::Stepped(aim.tid, what));
                    }
                    break;
                }
                if bound == Some(next) {
                    break;
                }
            }
        } else {
            match bound {
                Some(bound) => debuggee.go(bound)?,
                None => {
                    return go_to_end(debuggee, direction);
                }
            }
        }
        let here = Some(debuggee.moment().checkpoint);
        if let Some(change) = change.as_ref().filter(|_| changed_at == here)
            && let Some(ended) = data_hit(debuggee, &mut stops.data, change)?
        {
            return Ok(ended);
        }
        if marked == here || tagged == here {
            return Ok(Ended::Marked);
        }
        if let Some(aim) = &aim
            && let Some(what) = aim.reached(debuggee, direction)?
        {
            return Ok(Ended::Stepped(aim.tid, what));
        }
    }
}

/// The first or last checkpoint, if we are not there.
fn go_to_end<D: Debuggee>(debuggee: &mut D, direction: Direction) -> Result<Ended, Failure> {
    while debuggee.neighbour(direction).is_some() {
        let moments = debuggee.moment().count;
        let position = match direction {
            Direction::Forward => moments.saturating_sub(1),
            Direction::Backward => 0,
        };
        let far = debuggee.moments(position, 1);
        let before = debuggee.moment().checkpoint;
        match far.first() {
            Some(far) if debuggee.go(far.checkpoint).is_ok() => {}
            // The process is not there at the far end: go as far as it is.
            _ => {
                while let Some(next) = debuggee.neighbour(direction) {
                    debuggee.go(next)?;
                }
            }
        }
        if debuggee.moment().checkpoint == before {
            break;
        }
    }
    Ok(Ended::End)
}

fn nearest(direction: Direction, of: [Option<CheckpointId>; 3]) -> Option<CheckpointId> {
    let all = of.into_iter().flatten();
    match direction {
        Direction::Forward => all.min(),
        Direction::Backward => all.max(),
    }
}

/// What threads at breakpoints mean: conditions, counts, messages.
fn hit<D: Debuggee>(
    debuggee: &mut D,
    breakpoints: &mut [Breakpoint],
    hits: &[super::breakpoints::Hit],
    witness: &mut dyn Witness,
) -> Option<Ended> {
    let mut found: Option<FrameId> = None;
    let mut ids = Vec::new();
    for hit in hits {
        let Some(breakpoint) = breakpoints.get_mut(hit.breakpoint) else {
            continue;
        };
        if !applies(debuggee, hit.frame, breakpoint.condition.as_deref()) {
            continue;
        }
        breakpoint.count += 1;
        if breakpoint
            .hits
            .is_some_and(|rule| !rule.takes(breakpoint.count))
        {
            continue;
        }
        match &breakpoint.log {
            Some(message) => {
                let message = interpolate(debuggee, hit.frame, message);
                witness.say(&message);
            }
            None => {
                found = found.or(Some(hit.frame));
                if !ids.contains(&breakpoint.id) {
                    ids.push(breakpoint.id);
                }
            }
        }
    }
    found.map(|frame| Ended::Code(frame, ids))
}

/// Whether a condition holds; one that cannot be evaluated there does, so that it is noticed.
fn applies<D: Debuggee>(debuggee: &mut D, frame: FrameId, condition: Option<&str>) -> bool {
    condition.is_none_or(|c| debuggee.holds(Some(frame), c).unwrap_or(true))
}

/// What changed values mean.
fn data_hit<D: Debuggee>(
    debuggee: &mut D,
    breakpoints: &mut [DataBreakpoint],
    change: &Change,
) -> Result<Option<Ended>, Failure> {
    let mut ids = Vec::new();
    let mut words = Vec::new();
    let here = debuggee.moment().checkpoint;
    for which in &change.which {
        let Some(breakpoint) = breakpoints.get_mut(*which) else {
            continue;
        };
        let holds = match breakpoint.condition.as_deref() {
            Some(condition) => debuggee.holds(None, condition).unwrap_or(true),
            None => true,
        };
        if !holds {
            continue;
        }
        breakpoint.count += 1;
        if breakpoint
            .hits
            .is_some_and(|rule| !rule.takes(breakpoint.count))
        {
            continue;
        }
        ids.push(breakpoint.id);
        let mut value = |at| -> Result<String, Failure> {
            debuggee.go(at)?;
            Ok(shown(debuggee, breakpoint))
        };
        let old = value(change.before)?;
        let new = value(change.after)?;
        words.push(format!("{} was {old}, became {new}", breakpoint.shown));
    }
    debuggee.go(here)?;
    if ids.is_empty() {
        return Ok(None);
    }
    let words = format!(
        "{}, between checkpoints {} and {}",
        words.join("; "),
        change.before,
        change.after
    );
    Ok(Some(Ended::Data(ids, words)))
}

/// A watched value where we stand.
fn shown<D: Debuggee>(debuggee: &mut D, breakpoint: &DataBreakpoint) -> String {
    use super::debuggee::Watch;
    const BYTES: usize = 16;
    match &breakpoint.watch {
        Watch::Expression(text) => match debuggee.evaluate(None, text, false) {
            Ok(item) => item.value,
            Err(e) => format!("<{e}>"),
        },
        Watch::Bytes { address, length } => {
            let n = usize::try_from(*length).unwrap_or(BYTES).min(BYTES);
            let mut bytes = vec![0; n];
            if debuggee.read(*address, &mut bytes) < n {
                return "not readable".to_owned();
            }
            match (n as u64 == *length, n) {
                (true, 1 | 2 | 4 | 8) => {
                    let mut word = [0; 8];
                    word[..n].copy_from_slice(&bytes);
                    format!("{:#x}", u64::from_le_bytes(word))
                }
                (whole, _) => {
                    let hex: Vec<String> = bytes.iter().map(|b| format!("{b:02x}")).collect();
                    format!("{}{}", hex.join(" "), if whole { "" } else { " ..." })
                }
            }
        }
    }
}

/// The call that a step is about.
#[derive(Debug)]
struct Aim {
    tid: u32,
    step: Step,
    /// It and its callers, innermost first.
    stack: Vec<FrameInfo>,
}

impl Aim {
    fn new<D: Debuggee>(debuggee: &mut D, tid: u32, step: Step) -> Result<Self, Failure> {
        let mut stack = debuggee.frames(tid, DEPTH)?;
        let level = stack.iter().position(|f| f.place.is_some()).unwrap_or(0);
        stack.drain(..level);
        Ok(Self { tid, step, stack })
    }

    /// Which of the frames is the same call: the same function at the same place of the stack, called
    /// from where it was called.
    fn find(&self, frames: &[FrameInfo]) -> Option<usize> {
        let (call, callers) = self.stack.split_first()?;
        let of = |f: &FrameInfo| (f.pc, f.cfa);
        frames.iter().enumerate().position(|(level, f)| {
            let outward = frames.get(level + 1..).unwrap_or_default();
            f.name == call.name
                && f.cfa == call.cfa
                && outward
                    .iter()
                    .map(of)
                    .take(DEPTH / 2)
                    .eq(callers.iter().map(of).take(DEPTH / 2))
        })
    }

    /// What of the step has happened, if anything.
    fn reached<D: Debuggee>(
        &self,
        debuggee: &mut D,
        direction: Direction,
    ) -> Result<Option<String>, Failure> {
        if self.step == Step::Checkpoint {
            return Ok(Some("the neighbouring checkpoint".to_owned()));
        }
        if !debuggee.threads()?.iter().any(|t| t.tid == self.tid) {
            return Ok(Some(match direction {
                Direction::Forward => format!("thread {} has ended", self.tid),
                Direction::Backward => format!("thread {} had not begun", self.tid),
            }));
        }
        let Some(call) = self.stack.first() else {
            return Ok(Some("the thread has moved".to_owned()));
        };
        let frames = debuggee.frames(self.tid, DEPTH)?;
        let found = self.find(&frames);
        let line = |f: &FrameInfo| f.place.as_ref().map(|p| p.line);
        let moved = |f: &FrameInfo| match (line(f), line(call)) {
            (None, None) => f.pc != call.pc,
            (a, b) => a != b,
        };
        let gone = || match direction {
            Direction::Forward => format!("{} has returned", call.name),
            Direction::Backward => format!("{} had not been called", call.name),
        };
        let here = found.and_then(|level| frames.get(level));
        Ok(match self.step {
            Step::Over => match here {
                None => Some(gone()),
                Some(f) if moved(f) => Some(to_line(f)),
                Some(_) => None,
            },
            Step::Out => here.is_none().then(gone),
            Step::In => {
                let inner = frames.iter().position(|f| f.place.is_some()).unwrap_or(0);
                match frames.get(inner) {
                    None => Some(gone()),
                    Some(f) if found != Some(inner) => Some(format!("in {}", f.name)),
                    Some(f) if moved(f) => Some(to_line(f)),
                    Some(_) => None,
                }
            }
            Step::Checkpoint => None,
        })
    }
}

fn to_line(frame: &FrameInfo) -> String {
    match &frame.place {
        Some(place) => format!("line {}", place.line),
        None => format!("{:#x}", frame.pc),
    }
}
