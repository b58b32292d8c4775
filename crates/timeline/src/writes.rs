//! Moments in whose interval bytes changed.
//!
//! For stretches of any length up to a mebibyte: what is kept for each page is only where its
//! content is, and both contents are decoded where it changes.

use crate::Error;
use crate::past::{Content, Missing, PAGE, Past};
use crate::raw::Raw;
use crate::walk::{Direction, Step, Walk};
use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::ops::RangeInclusive;
use stillframe_image::PageNumber;

/// How bytes came to be different.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum How {
    /// They were written.
    Written,
    /// The memory was mapped, or is another than before.
    Mapped,
    /// The memory is gone.
    Unmapped,
}

/// Bytes that differ from those of the checkpoint before.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Write {
    /// The position that shows them first: they changed in the interval that ends there.
    pub at: usize,
    /// The first address that differs.
    pub address: u64,
    /// How many bytes from there to the last that differs, within one page.
    pub length: u64,
    /// What they were; empty if there was no memory.
    pub old: Vec<u8>,
    /// What they are; empty if there is no memory.
    pub new: Vec<u8>,
    /// How.
    pub how: How,
}

/// Visits the changes of the `length` bytes from `address` on, in order of time and then address,
/// until `visit` returns false. Whether it ended early, by `visit` or by `go_on`.
///
/// A byte that was written and holds at the next checkpoint what it held at the one before has not
/// changed.
///
/// # Errors
/// Damage; [`Error::Empty`].
pub fn writes(
    past: &Past<'_>,
    (address, length): (u64, u64),
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
    visit: &mut dyn FnMut(Write) -> bool,
) -> Result<bool, Error> {
    let (first, last) = (
        (*range.start()).max(*past.life().start()),
        (*range.end()).min(*past.life().end()),
    );
    if range.is_empty() {
        return Err(Error::Empty);
    }
    let end = address.saturating_add(length.saturating_sub(1));
    if first > last || length == 0 {
        return Ok(false);
    }
    let mut events = BinaryHeap::new();
    for page in PageNumber::of(address).0..=PageNumber::of(end).0 {
        let page = PageNumber(page);
        if let Some(next) = past.next_event(page, first)? {
            events.push(Reverse((next, page)));
        }
    }
    while let Some(Reverse((at, page))) = events.pop() {
        if at > last {
            break;
        }
        if !go_on(at) {
            return Ok(true);
        }
        let begin = address.max(page.address());
        let stop = end.min(page.address() + (PAGE - 1));
        let part = (begin % PAGE) as usize..=(stop % PAGE) as usize;
        let (old, new) = (past.content(page, at - 1)?, past.content(page, at)?);
        let same_memory = past.kind(page, at - 1)? == past.kind(page, at)?;
        if let Some(write) = difference(&old, &new, part, same_memory) {
            let write = Write {
                at,
                address: page.address() + write.address,
                ..write
            };
            if !visit(write) {
                return Ok(true);
            }
        }
        if let Some(next) = past.next_event(page, at)? {
            events.push(Reverse((next, page)));
        }
    }
    Ok(false)
}

/// The changes of the last interval of a range in which any of the bytes changed. Goes backward from
/// the end, and so costs only what came after.
///
/// # Errors
/// Damage; [`Error::Empty`]; more bytes than [`Asked`](crate::Asked) lets one answer read.
pub fn last_writes(
    past: &Past<'_>,
    (address, length): (u64, u64),
    range: RangeInclusive<usize>,
    go_on: &mut dyn FnMut(usize) -> bool,
) -> Result<Vec<Write>, Error> {
    let question = Raw::bytes(address, length);
    let mut walk = Walk::new(past, &question, range, Direction::Backward)?;
    while let Step::Change(change) = walk.next(go_on)? {
        let Some(before) = change.at.checked_sub(1) else {
            break;
        };
        let mut found = Vec::new();
        writes(
            past,
            (address, length),
            before..=change.at,
            &mut |_| true,
            &mut |w| {
                found.push(w);
                true
            },
        )?;
        // Where the process begins or ends nothing is written.
        if !found.is_empty() {
            return Ok(found);
        }
    }
    Ok(Vec::new())
}

/// What differs in a part of a page, its address counted from the page's beginning.
fn difference(
    old: &Content,
    new: &Content,
    part: RangeInclusive<usize>,
    same_memory: bool,
) -> Option<Write> {
    let (from, to) = (*part.start(), *part.end());
    let write = |from: usize, to: usize, old: Vec<u8>, new: Vec<u8>, how| Write {
        at: 0,
        address: from as u64,
        length: (to - from + 1) as u64,
        old,
        new,
        how,
    };
    let slice =
        |page: &[u8], from: usize, to: usize| page.get(from..=to).unwrap_or_default().to_vec();
    match (old, new) {
        (Ok(old), Ok(new)) => {
            let differs = |i: &usize| old.get(*i) != new.get(*i);
            let from = part.clone().find(differs)?;
            let to = part.rev().find(differs)?;
            let how = if same_memory {
                How::Written
            } else {
                How::Mapped
            };
            let (a, b) = (slice(&**old, from, to), slice(&**new, from, to));
            Some(write(from, to, a, b, how))
        }
        (Err(_), Ok(new)) => {
            let new = slice(&**new, from, to);
            Some(write(from, to, Vec::new(), new, How::Mapped))
        }
        (Ok(old), Err(_)) => {
            let old = slice(&**old, from, to);
            Some(write(from, to, old, Vec::new(), How::Unmapped))
        }
        (Err(Missing::Unmapped), Err(Missing::NotCaptured(_))) => {
            Some(write(from, to, Vec::new(), Vec::new(), How::Mapped))
        }
        (Err(Missing::NotCaptured(_)), Err(Missing::Unmapped)) => {
            Some(write(from, to, Vec::new(), Vec::new(), How::Unmapped))
        }
        (Err(_), Err(_)) => None,
    }
}
