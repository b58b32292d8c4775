//! Finding moments at which something holds.

use crate::Error;
use crate::asked::Asked;
use crate::past::Past;
use crate::question::{Question, Truth};
use crate::walk::{Direction, Effort, Step, Walk};
use std::ops::RangeInclusive;

/// Where something holds: a stretch of positions, and whether the search came to its end.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stretch {
    /// The first position at which it holds.
    pub from: usize,
    /// The last.
    pub to: usize,
}

/// What a search found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// The position, if there is one.
    pub at: Option<usize>,
    /// Whether the search was stopped before it was over.
    pub stopped: bool,
    /// What it took.
    pub effort: Effort,
}

/// The first position of a range at which it holds.
///
/// # Errors
/// As [`Walk::next`].
pub fn first<Q: Question<Answer = Truth>>(
    past: &Past<'_>,
    question: &Q,
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Found, Error> {
    let mut found = None;
    let (stopped, effort) = each(past, question, range, go_on, &mut |stretch| {
        found = Some(stretch.from);
        false
    })?;
    Ok(Found {
        at: found,
        stopped: stopped && found.is_none(),
        effort,
    })
}

/// The last position of a range at which it holds.
///
/// # Errors
/// As [`Walk::next`].
pub fn last<Q: Question<Answer = Truth>>(
    past: &Past<'_>,
    question: &Q,
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Found, Error> {
    let mut walk = Walk::new(past, question, range, Direction::Backward)?;
    let (mut at, mut stopped) = (None, false);
    if walk.answer() == Some(&Truth::Holds) {
        at = Some(walk.position());
    }
    while at.is_none() {
        match walk.next(go_on)? {
            Step::Change(change) if change.old == Some(Truth::Holds) => {
                at = change.at.checked_sub(1);
            }
            Step::Change(_) => {}
            Step::End => break,
            Step::Stopped => {
                stopped = true;
                break;
            }
        }
    }
    Ok(Found {
        at,
        stopped,
        effort: walk.effort(),
    })
}

/// Every stretch of positions at which it holds, in order, until `visit` returns false. Whether it
/// ended early. A stretch is told when its end is known, except the first position of each, which is
/// told at once when `visit` would stop there.
///
/// # Errors
/// As [`Walk::next`].
fn each<Q: Question<Answer = Truth>>(
    past: &Past<'_>,
    question: &Q,
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
    begins: &mut dyn FnMut(Stretch) -> bool,
) -> Result<(bool, Effort), Error> {
    let mut walk = Walk::new(past, question, range, Direction::Forward)?;
    let begin = |at| Stretch { from: at, to: at };
    if walk.answer() == Some(&Truth::Holds) && !begins(begin(walk.position())) {
        return Ok((true, walk.effort()));
    }
    loop {
        match walk.next(go_on)? {
            Step::Change(change) => {
                if change.new == Some(Truth::Holds) && !begins(begin(change.at)) {
                    return Ok((true, walk.effort()));
                }
            }
            Step::End => return Ok((false, walk.effort())),
            Step::Stopped => return Ok((true, walk.effort())),
        }
    }
}

/// Every stretch of positions at which it holds, in order, each told as soon as its end is known,
/// until `visit` returns false. Whether it was stopped before the end of the range; then the last
/// stretch told may go on beyond where the search was.
///
/// # Errors
/// As [`Walk::next`].
pub fn all<Q: Question<Answer = Truth>>(
    past: &Past<'_>,
    question: &Q,
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
    visit: &mut dyn FnMut(Stretch) -> bool,
) -> Result<(bool, Effort), Error> {
    let end = *range.end();
    let mut walk = Walk::new(past, question, range, Direction::Forward)?;
    let holds = walk.answer() == Some(&Truth::Holds);
    let mut open = holds.then_some(walk.position());
    loop {
        match walk.next(go_on)? {
            Step::Change(change) => {
                if let Some(from) = open.take()
                    && !visit(Stretch {
                        from,
                        to: change.at - 1,
                    })
                {
                    return Ok((true, walk.effort()));
                }
                if change.new == Some(Truth::Holds) {
                    open = Some(change.at);
                }
            }
            Step::End => {
                if let Some(from) = open {
                    let last = past.recording().rows().len().saturating_sub(1);
                    let to = end.min(last);
                    visit(Stretch { from, to });
                }
                return Ok((false, walk.effort()));
            }
            Step::Stopped => {
                if let Some(from) = open {
                    let to = walk.position();
                    visit(Stretch { from, to });
                }
                return Ok((true, walk.effort()));
            }
        }
    }
}

/// How a search by halves was checked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Checked {
    /// At every moment of the range: it holds from the found one on, and at none before.
    Everywhere,
    /// At so many moments spread over the range.
    At(u64),
    /// Not at all, because the search was stopped.
    Not,
}

/// What a search by halves found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Halves {
    /// The first position at which it holds.
    First {
        /// The position.
        at: usize,
        /// How it was checked that it holds everywhere after and nowhere before.
        checked: Checked,
    },
    /// It does not hold at the last position, so by monotony nowhere.
    Nowhere {
        /// How that was checked.
        checked: Checked,
    },
    /// It does hold and cease to hold again: it is not monotone, and nothing was found.
    NotMonotone {
        /// A position at which it holds.
        holds: usize,
        /// A later one at which it does not.
        ceases: usize,
    },
}

/// Moments looked at to check a search by halves, if looking everywhere would cost more.
const SPREAD: usize = 64;
/// How often the question is asked to check it everywhere.
const THOROUGH: u64 = 256;

/// The first position of a range at which it holds, found by halving, for what holds from some
/// moment on and not before (the search of IGOR and of Delorean). Asks about the logarithm of the
/// number of moments, then checks that it was so: everywhere, if that takes few askings, else at
/// moments spread over the range.
///
/// # Errors
/// As [`Walk::next`].
pub fn by_halves<Q: Question<Answer = Truth>>(
    past: &Past<'_>,
    question: &Q,
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Result<(Halves, u64), Error> {
    let last = past.recording().rows().len().checked_sub(1);
    let (lo, hi) = (
        *range.start(),
        (*range.end()).min(last.ok_or(Error::Empty)?),
    );
    if lo > hi {
        return Err(Error::Empty);
    }
    let mut asked = 0u64;
    // What holds while there is no process to ask is nothing.
    let mut holds = |at: usize| -> Result<bool, Error> {
        if !past.life().contains(&at) {
            return Ok(false);
        }
        asked += 1;
        let moment = Asked::new(past, at);
        let answer = question.ask(&moment);
        moment.finish()?;
        Ok(answer == Truth::Holds)
    };
    // A process that has ended cannot have anything hold; the search is over its life.
    let (lo, hi) = (lo.max(*past.life().start()), hi.min(*past.life().end()));
    if lo > hi {
        let checked = Checked::Everywhere;
        return Ok((Halves::Nowhere { checked }, asked));
    }
    let found = if !holds(hi)? {
        None
    } else if holds(lo)? {
        Some(lo)
    } else {
        let (mut not, mut does) = (lo, hi);
        while does - not > 1 {
            let middle = not + (does - not) / 2;
            if holds(middle)? {
                does = middle;
            } else {
                not = middle;
            }
        }
        Some(does)
    };
    let first = found.unwrap_or(hi + 1);
    // Thoroughly, as long as that is cheap.
    let mut walk = Walk::new(past, question, lo..=hi, Direction::Forward)?;
    let checked = loop {
        let now = walk.answer() == Some(&Truth::Holds);
        if now && walk.position() < first {
            return Ok((violation(walk.position(), &mut holds, first, hi)?, asked));
        }
        if !now && walk.position() >= first {
            let (holds, ceases) = (first, walk.position());
            return Ok((Halves::NotMonotone { holds, ceases }, asked));
        }
        let mut stop = false;
        let effort = walk.effort();
        if effort.asked + effort.compared / 16 > THOROUGH {
            break None;
        }
        match walk.next(&mut |at| {
            stop = !go_on(at);
            !stop
        })? {
            Step::Change(_) => {}
            Step::End => break Some(Checked::Everywhere),
            Step::Stopped => break Some(Checked::Not),
        }
    };
    let asked_walking = walk.effort().asked;
    let checked = match checked {
        Some(checked) => checked,
        None => {
            let mut looked = 0;
            for i in 1..=SPREAD {
                let at = lo + (hi - lo) * i / (SPREAD + 1);
                let now = holds(at)?;
                looked += 1;
                if now && at < first {
                    return Ok((violation(at, &mut holds, first, hi)?, asked));
                }
                if !now && at >= first {
                    return Ok((
                        Halves::NotMonotone {
                            holds: first,
                            ceases: at,
                        },
                        asked,
                    ));
                }
            }
            Checked::At(looked)
        }
    };
    let asked = asked + asked_walking;
    Ok(match found {
        Some(at) => (Halves::First { at, checked }, asked),
        None => (Halves::Nowhere { checked }, asked),
    })
}

/// It holds at a position before the one that halving found, where it does not hold just before.
fn violation(
    at: usize,
    holds: &mut dyn FnMut(usize) -> Result<bool, Error>,
    first: usize,
    hi: usize,
) -> Result<Halves, Error> {
    // One before `first` it was seen not to hold, unless `first` is past the end: then at the end.
    let ceases = if first > hi { hi } else { first - 1 };
    debug_assert!(!holds(ceases)?);
    Ok(Halves::NotMonotone { holds: at, ceases })
}
