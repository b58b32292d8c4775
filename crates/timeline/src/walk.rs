//! Walking through time from one change of an answer to the next.
//!
//! At each moment looked at there is an answer and what it was made from. For everything it was made
//! from, the next moment at which that can have changed is known from the index; the earliest of
//! these is looked at next. There the pages that have a new version are compared, and if the bytes
//! that were read are as they were, so is the answer. Otherwise the question is asked again.
//!
//! The cost is that of the changes to the pages that the question looks at, however many checkpoints
//! lie between. It works the same both ways.

use crate::Error;
use crate::asked::{Asked, Depends, Trace};
use crate::past::Past;
use crate::question::Question;
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use stillframe_image::CheckpointId;

/// Which way.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Direction {
    /// To later moments.
    Forward,
    /// To earlier ones.
    Backward,
}

/// An answer became another.
#[derive(Clone, Debug, PartialEq)]
pub struct Change<A> {
    /// The position that is the first to have the new one.
    pub at: usize,
    /// The answer at the position before; `None` if the process was not there.
    pub old: Option<A>,
    /// The answer from here on; `None` if the process has ended.
    pub new: Option<A>,
}

/// What it took so far.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Effort {
    /// How often the question was asked.
    pub asked: u64,
    /// Moments at which it was seen that nothing the answer was made from had changed.
    pub compared: u64,
}

/// A walk.
#[derive(Debug)]
pub struct Walk<'p, 'a, Q: Question> {
    past: &'p Past<'a>,
    question: &'p Q,
    /// Positions to walk over.
    range: (usize, usize),
    direction: Direction,
    at: usize,
    answer: Option<Q::Answer>,
    trace: Trace,
    /// The next event of each thing the answer depends on, as [`key`] turns it.
    events: BinaryHeap<Reverse<(usize, Depends)>>,
    effort: Effort,
}

impl<'p, 'a, Q: Question> Walk<'p, 'a, Q> {
    /// Begins at the first position of a range, or at its last when walking backward.
    ///
    /// # Errors
    /// [`Error::Empty`]; damage; what [`Asked::finish`] refuses.
    pub fn new(
        past: &'p Past<'a>,
        question: &'p Q,
        range: RangeInclusive<usize>,
        direction: Direction,
    ) -> Result<Self, Error> {
        let last = past.recording().rows().len().checked_sub(1);
        let range = (
            *range.start(),
            (*range.end()).min(last.ok_or(Error::Empty)?),
        );
        if range.0 > range.1 {
            return Err(Error::Empty);
        }
        let at = match direction {
            Direction::Forward => range.0,
            Direction::Backward => range.1,
        };
        let mut walk = Self {
            past,
            question,
            range,
            direction,
            at,
            answer: None,
            trace: Trace::default(),
            events: BinaryHeap::new(),
            effort: Effort::default(),
        };
        walk.ask(at)?;
        Ok(walk)
    }

    /// The position it is at.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The checkpoint it is at.
    pub fn checkpoint(&self) -> CheckpointId {
        self.past.id(self.at)
    }

    /// The answer there; `None` if the process is not.
    pub const fn answer(&self) -> Option<&Q::Answer> {
        self.answer.as_ref()
    }

    /// What the answer was made from.
    pub const fn trace(&self) -> &Trace {
        &self.trace
    }

    /// What it took so far.
    pub const fn effort(&self) -> Effort {
        self.effort
    }

    /// Walks to the next change of the answer; `None` at the end of the range. `go_on` is told the
    /// position now and then, and says whether to; if not, the walk stands where it is and can be
    /// taken up again, and [`Stopped`](Step::Stopped) is returned.
    ///
    /// # Errors
    /// Damage; what [`Asked::finish`] refuses.
    pub fn next(&mut self, go_on: &mut dyn FnMut(usize) -> bool) -> Result<Step<Q::Answer>, Error> {
        loop {
            if !go_on(self.at) {
                return Ok(Step::Stopped);
            }
            let Some(to) = self.candidate() else {
                return Ok(Step::End);
            };
            if self.unchanged(to)? {
                continue;
            }
            let before = self.answer.take();
            self.ask(to)?;
            if self.answer != before {
                let after = self.answer.clone();
                return Ok(Step::Change(match self.direction {
                    Direction::Forward => Change {
                        at: to,
                        old: before,
                        new: after,
                    },
                    Direction::Backward => Change {
                        at: to + 1,
                        old: after,
                        new: before,
                    },
                }));
            }
        }
    }

    /// The next position to look at.
    fn candidate(&self) -> Option<usize> {
        let (first, last) = self.range;
        let life = self.past.life();
        match self.direction {
            Direction::Forward => {
                let to = if self.at < *life.start() {
                    *life.start()
                } else if self.at > *life.end() {
                    return None;
                } else {
                    let event = self.events.peek().map_or(usize::MAX, |Reverse((k, _))| *k);
                    event.min(life.end() + 1)
                };
                (to <= last).then_some(to)
            }
            Direction::Backward => {
                let to = if self.at > *life.end() {
                    *life.end()
                } else if self.at < *life.start() {
                    return None;
                } else {
                    let event = self
                        .events
                        .peek()
                        .map_or(0, |Reverse((k, _))| usize::MAX - *k);
                    event.max(*life.start()).checked_sub(1)?
                };
                (to >= first).then_some(to)
            }
        }
    }

    /// Moves to `to` if nothing that the answer was made from is different there; whether it was so.
    fn unchanged(&mut self, to: usize) -> Result<bool, Error> {
        let life = self.past.life();
        if !life.contains(&to) || !life.contains(&self.at) {
            return Ok(false);
        }
        let due = match self.direction {
            Direction::Forward => to,
            Direction::Backward => usize::MAX - (to + 1),
        };
        let mut looked_at = Vec::new();
        while let Some(Reverse((key, what))) = self.events.peek().copied() {
            if key > due {
                break;
            }
            self.events.pop();
            if !self.trace.still(what, self.past, to)? {
                return Ok(false);
            }
            looked_at.push(what);
        }
        self.at = to;
        self.effort.compared += 1;
        for what in looked_at {
            self.expect(what)?;
        }
        Ok(true)
    }

    /// Puts the next event of something into the heap.
    fn expect(&mut self, what: Depends) -> Result<(), Error> {
        let (past, at) = (self.past, self.at);
        let end = *past.life().end();
        let key = match self.direction {
            Direction::Forward => {
                let next = match what {
                    Depends::Page(page) => past.next_event(page, at)?,
                    Depends::Threads => Some(past.threads_until(at)? + 1).filter(|n| *n <= end),
                    Depends::Layout => Some(past.layout_until(at)? + 1).filter(|n| *n <= end),
                };
                match next {
                    Some(next) => next,
                    None => return Ok(()),
                }
            }
            Direction::Backward => {
                let last = match what {
                    Depends::Page(page) => past.last_event(page, at)?,
                    Depends::Threads => past.threads_from(at)?,
                    Depends::Layout => past.layout_from(at)?,
                };
                usize::MAX - last
            }
        };
        self.events.push(Reverse((key, what)));
        Ok(())
    }

    fn ask(&mut self, at: usize) -> Result<(), Error> {
        self.at = at;
        self.events.clear();
        if !self.past.life().contains(&at) {
            self.answer = None;
            self.trace = Trace::default();
            return Ok(());
        }
        let asked = Asked::new(self.past, at);
        let answer = self.question.ask(&asked);
        self.trace = asked.finish()?;
        self.answer = Some(answer);
        self.effort.asked += 1;
        let depends: Vec<Depends> = self.trace.depends().collect();
        for what in depends {
            self.expect(what)?;
        }
        Ok(())
    }
}

/// What a step of a walk led to.
#[derive(Clone, Debug, PartialEq)]
pub enum Step<A> {
    /// A change.
    Change(Change<A>),
    /// The end of the range: no further change.
    End,
    /// It was told to stop.
    Stopped,
}
