//! Made-up runs, each with one trait that real programs mix.

use super::PAGE;
use super::list::Random;
use super::simulate::Interval;
use crate::ranges::push;
use std::ops::Range;

/// Share of an interval that passes before the last page is copied after a boundary.
const WINDOW: f64 = 0.05;

/// A run by name.
#[derive(Clone, Debug)]
pub struct Trace {
    /// Its name.
    pub name: &'static str,
    /// What is written.
    pub run: Vec<Interval>,
}

/// Where the pages are: any address will do.
const BASE: u64 = 0x7f00_0000_0000;

/// All made-up runs, of `intervals` intervals each. The same every time.
#[must_use]
pub fn all(intervals: u64) -> Vec<Trace> {
    vec![
        Trace {
            name: "stable",
            run: make(intervals, stable),
        },
        Trace {
            name: "random",
            run: make(intervals, random),
        },
        Trace {
            name: "phases",
            run: make(intervals, phases),
        },
        Trace {
            name: "sweep",
            run: make(intervals, sweep),
        },
        Trace {
            name: "zipf",
            run: make(intervals, zipf),
        },
        Trace {
            name: "alternating",
            run: make(intervals, alternating),
        },
        Trace {
            name: "server",
            run: make(intervals, server),
        },
    ]
}

/// Collects the writes of one interval.
struct Writes {
    random: Random,
    /// Page and how often it is written.
    pages: Vec<(u64, u32)>,
}

impl Writes {
    fn write(&mut self, page: u64, times: u32) {
        self.pages.push((page, times));
    }

    /// In the order of addresses; a page is early if the first of its writes, at random times, is.
    fn take(&mut self) -> Interval {
        self.pages.sort_unstable();
        let mut interval = Interval::default();
        let mut rest = &self.pages[..];
        while let [(page, _), ..] = *rest {
            let same = rest.partition_point(|(p, _)| *p == page);
            let times: u32 = rest[..same].iter().map(|(_, times)| times).sum();
            rest = &rest[same..];
            let at = range(page);
            let copied = WINDOW * self.random.unit();
            if self.random.unit() > (1.0 - copied).powf(f64::from(times)) {
                push(&mut interval.early, at.clone());
            }
            push(&mut interval.dirty, at);
        }
        self.pages.clear();
        interval
    }
}

const fn range(page: u64) -> Range<u64> {
    BASE + page * PAGE..BASE + (page + 1) * PAGE
}

fn make(intervals: u64, each: fn(&mut Writes, u64)) -> Vec<Interval> {
    let mut writes = Writes {
        random: Random(7),
        pages: Vec::new(),
    };
    (0..intervals)
        .map(|n| {
            each(&mut writes, n);
            writes.take()
        })
        .collect()
}

/// Two hundred pages in runs of four, in every interval, and twenty at random.
fn stable(to: &mut Writes, _: u64) {
    for page in 0..200 {
        to.write(page / 4 * 64 + page % 4, 50);
    }
    for _ in 0..20 {
        let page = to.random.below(1 << 18);
        to.write(page, 1);
    }
}

/// A thousand random pages of 1 GiB.
fn random(to: &mut Writes, _: u64) {
    for _ in 0..1000 {
        let page = to.random.below(1 << 18);
        to.write(page, 1);
    }
}

/// Three hundred pages in runs of four, others after every hundred intervals.
fn phases(to: &mut Writes, n: u64) {
    let base = n / 100 * 4096;
    for page in 0..300 {
        to.write(base + page / 4 * 10 + page % 4, 20);
    }
}

/// Four hundred pages on from where the last interval ended, through 256 MiB, over and over, and a
/// stack.
fn sweep(to: &mut Writes, n: u64) {
    for page in 0..400 {
        to.write((n * 400 + page) % (1 << 16), 8);
    }
    for page in 0..3 {
        to.write((1 << 17) + page, 10_000);
    }
}

/// Two thousand writes to 256 MiB, Zipf-distributed with exponent 1, popular pages scattered.
fn zipf(to: &mut Writes, _: u64) {
    for _ in 0..2000 {
        // The inverse of the distribution's integral.
        let rank = f64::from(1_u32 << 16).powf(to.random.unit());
        // An odd factor permutes the pages.
        let page = (rank as u64).wrapping_mul(40_503) % (1 << 16);
        to.write(page, 1);
    }
}

/// Three hundred pages in eight intervals, others in the next eight: what was learnt is always late.
fn alternating(to: &mut Writes, n: u64) {
    let base = n / 8 % 2 * 4096;
    for page in 0..300 {
        to.write(base + page * 2, 20);
    }
}

/// Like a server: four stacks, hot allocator and statistics pages, popular objects, a log.
fn server(to: &mut Writes, n: u64) {
    for stack in 0..4 {
        for page in 0..3 {
            to.write(stack * 2048 + page, 5000);
        }
    }
    for page in 0..40 {
        if to.random.below(10) < 9 {
            to.write(10_000 + page, 100);
        }
    }
    for _ in 0..300 {
        let rank = f64::from(1_u32 << 14).powf(to.random.unit());
        let page = (rank as u64).wrapping_mul(40_503) % (1 << 14);
        to.write(100_000 + page, 1);
    }
    for page in 0..20 {
        to.write(200_000 + (n * 20 + page) % 65_536, 4);
    }
}
