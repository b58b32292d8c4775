//! Which pages are worth copying inside the boundary.
//!
//! A page that is not *hot* is copied after the boundary, while the target runs again. That is
//! cheap unless the target writes it before its copy was taken: a *conflict*, which costs another
//! stop. And every page is protected at the boundary, so that its next first write costs a fault.
//! A hot page is copied inside the boundary instead:
//!
//! - *protected*: copied inside the boundary if it was written. No conflict can come of it. For
//!   pages that are written at once after every boundary.
//! - *unprotected*: copied at every boundary, written or not, and never protected: no fault, and
//!   the tracker need not look. For pages that are written in nearly every interval: stacks,
//!   counters, the heads of allocators. What we then learn is only whether the content changed.
//!
//! A wrong guess costs one needless copy or one fault and never makes a checkpoint wrong. A
//! [`Policy`] guesses from what the boundaries saw; the idea, and all of the policies but
//! [`adaptive`](Adaptive), are those of speculative memory checkpointing (Vogt et al., 2015). What
//! pays depends on costs that differ between machines and trackers, so they are handed in
//! ([`Costs`]) as measured while recording.
//!
//! A policy serves one address space. Everything here runs outside the stop, needs memory bounded
//! by constants, and none in the steady state that it does not have already.

mod adaptive;
mod bounded;
mod controls;
mod genetic;
mod list;
pub mod simulate;
#[cfg(test)]
mod tests;
pub mod traces;

pub use adaptive::Adaptive;
pub use bounded::{DropUnchanged, RandomEviction};
pub use controls::{Everything, Nothing};
pub use genetic::Genetic;

use crate::ranges;
use std::fmt;
use std::ops::Range;
use stillframe_image::PAGE_SIZE;

const PAGE: u64 = PAGE_SIZE as u64;

/// Most pages that a policy keeps a note of: 64 MiB of the target's memory.
const MAX_PAGES: usize = 16_384;

/// What things cost, in nanoseconds of the target's thread time.
#[derive(Clone, Copy, Debug, PartialEq)]
pub struct Costs {
    /// First write to a protected page, for the thread that writes.
    pub fault: f64,
    /// Protecting a page again, in the stop.
    pub protect: f64,
    /// Copying a page, in the stop.
    pub copy: f64,
    /// What a page that is copied while the target runs costs it all the same: memory bandwidth,
    /// and a processor where there are not enough. Where nothing is copied after the boundary,
    /// this is `copy * threads`.
    pub after: f64,
    /// A conflict, for each page: its copy in the further stop, or its pre-image at the fault.
    pub conflict: f64,
    /// The further stop after conflicts, however many; 0 where pre-images repair them.
    pub repair: f64,
    /// Leaving out one run of unprotected pages when looking for written ones, in the stop.
    pub skip: f64,
    /// Threads that stand still in a stop and would otherwise run: what happens in a stop is paid
    /// by each of them. May be a mean; at least a little above 0.
    pub threads: f64,
}

impl Default for Costs {
    /// As measured with `wp-async` on the project's machine, copying after the boundary.
    fn default() -> Self {
        Self {
            fault: 950.0,
            protect: 150.0,
            copy: 1000.0,
            after: 300.0,
            conflict: 1000.0,
            repair: 200_000.0,
            skip: 1000.0,
            threads: 1.0,
        }
    }
}

impl Costs {
    /// The same where everything is copied inside the boundary.
    #[must_use]
    pub fn all_in_stop(self) -> Self {
        Self {
            after: self.copy * self.threads,
            conflict: 0.0,
            repair: 0.0,
            ..self
        }
    }

    /// The situations in which policies are compared, each with a name: everything copied in the
    /// stop; copied after it; the same with two threads, from which copying takes a processor; and
    /// with pre-images and a log of faults instead of a scan, so that a conflict needs no stop and
    /// nothing has to be left out.
    #[must_use]
    pub fn situations(self) -> [(&'static str, Self); 4] {
        [
            ("in the stop", self.all_in_stop()),
            ("after it", self),
            (
                "after it, 2 threads",
                Self {
                    threads: 2.0,
                    after: self.copy,
                    ..self
                },
            ),
            (
                "after it, pre-images",
                Self {
                    repair: 0.0,
                    skip: 0.0,
                    ..self
                },
            ),
        ]
    }

    /// Copying a page in the stop, for all threads.
    #[must_use]
    pub fn stopped_copy(&self) -> f64 {
        self.copy * self.threads
    }

    /// What a protected page costs when it is written, without its copy.
    #[must_use]
    pub fn tracked_write(&self) -> f64 {
        self.fault + self.protect * self.threads
    }
}

/// What was seen at a boundary and by the copying after it. All lists ascending, neighbours joined,
/// page-aligned addresses.
#[derive(Clone, Copy, Debug)]
pub struct Seen<'a> {
    /// Pages that the tracker found written in the interval that ended: all that were not
    /// protected, and so also those left unprotected at the boundary before and not chosen again.
    pub written: &'a [Range<u64>],
    /// Pages that were copied without a look, because [`Choice::unprotected`] had them. May be that
    /// of an earlier boundary, or empty, if the checksums are not there yet.
    pub unprotected: &'a [Range<u64>],
    /// Those of them whose content had changed.
    pub changed: &'a [Range<u64>],
    /// Pages that were written before their copy was taken after this boundary.
    pub conflicts: &'a [Range<u64>],
    /// What things cost now.
    pub costs: &'a Costs,
}

/// The hot pages for one boundary. Both lists ascending, neighbours joined, disjoint.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Choice {
    /// To be copied inside the boundary if found written; protected as all others.
    pub protected: Vec<Range<u64>>,
    /// To be copied inside the boundary, written or not, and left unprotected.
    pub unprotected: Vec<Range<u64>>,
}

impl Choice {
    /// Empties it, keeping its memory.
    pub fn clear(&mut self) {
        self.protected.clear();
        self.unprotected.clear();
    }

    /// Whether there is nothing in it.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.protected.is_empty() && self.unprotected.is_empty()
    }

    /// Divides what was found written into what is copied inside the boundary and what after it.
    /// Both are appended to, in ascending order; `inside` does not get the unprotected pages.
    pub fn divide(
        &self,
        written: &[Range<u64>],
        inside: &mut Vec<Range<u64>>,
        after: &mut Vec<Range<u64>>,
    ) {
        ranges::divide(written, &self.protected, inside, after);
    }
}

/// Guesses hot pages.
pub trait Policy: fmt::Debug + Send {
    /// Its name, as in [`NAMES`].
    fn name(&self) -> &'static str;

    /// Takes in what a boundary saw. To be called once after each, when the target runs again and
    /// the copying is done.
    fn observe(&mut self, seen: &Seen<'_>);

    /// The hot pages for the boundary to come; replaces what is in `out`. To be called once after
    /// each [`Policy::observe`]. Never has pages that were not seen written or in conflict.
    fn choose(&mut self, out: &mut Choice);

    /// Mappings have gone or were replaced: forgets the pages of `range`.
    fn forget(&mut self, range: Range<u64>);
}

/// Names of all policies, the default first.
pub const NAMES: [&str; 6] = ["adaptive", "none", "all", "random", "checksum", "genetic"];

/// A new policy by its name.
#[must_use]
pub fn by_name(name: &str) -> Option<Box<dyn Policy>> {
    Some(match name {
        "adaptive" => Box::new(Adaptive::default()),
        "none" => Box::new(Nothing),
        "all" => Box::new(Everything::default()),
        "random" => Box::new(RandomEviction::default()),
        "checksum" => Box::new(DropUnchanged::default()),
        "genetic" => Box::new(Genetic::default()),
        _ => return None,
    })
}
