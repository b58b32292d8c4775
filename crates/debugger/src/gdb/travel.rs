//! Moving through checkpoints until something happens.
//!
//! Works on positions (rows of the list of checkpoints) and on [`Past`], so that it can be held
//! against brute force without a recording. Where watched bytes change, the index of page versions
//! knows ([`stillframe_timeline::Walk`]).

use std::collections::BTreeSet;

/// What moving needs to know of a recording. Positions count checkpoints, removed ones left out.
pub trait Past {
    /// What keeps a question from being answered.
    type Error;

    /// The first position of `at + 1 ..= last` whose bytes differ from those one before.
    ///
    /// # Errors
    /// Damage.
    fn next_change(
        &self,
        span: Span,
        at: usize,
        last: usize,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Found, Self::Error>;

    /// The last position of `first .. at` whose bytes differ from those one after.
    ///
    /// # Errors
    /// Damage.
    fn previous_change(
        &self,
        span: Span,
        at: usize,
        first: usize,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Found, Self::Error>;

    /// Bytes at a position; `None` if they cannot be read there.
    fn bytes(&self, at: usize, bytes: Span) -> Option<Vec<u8>>;

    /// The threads and where they execute.
    ///
    /// # Errors
    /// Damage.
    fn counters(&self, at: usize) -> Result<Vec<(u32, u64)>, Self::Error>;

    /// The thread about to be killed by a signal, and the signal.
    ///
    /// # Errors
    /// Damage.
    fn fatal(&self, at: usize) -> Result<Option<(u32, i32)>, Self::Error>;
}

/// Some bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Span {
    /// The first.
    pub address: u64,
    /// How many, at least 1.
    pub length: u64,
}

/// What to stop for.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Plan {
    /// Bytes whose change counts.
    pub watches: Vec<Span>,
    /// Addresses at which a thread stands.
    pub breaks: BTreeSet<u64>,
}

/// Why moving ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Halt {
    /// It went as far as it was told.
    Moved,
    /// The watched bytes of that number in the plan differ between here and the neighbour: the one
    /// before when moving forward, the one after when moving back.
    Watch(usize),
    /// A thread stands at a breakpoint.
    Break(u32),
    /// A thread is about to be killed by a signal.
    Fatal(u32, i32),
    /// There is nothing before.
    Begin,
    /// There is nothing after.
    End,
    /// The user asked to stop.
    Interrupted,
}

/// Positions there are to move in, and a way to be interrupted.
pub struct Road<'a> {
    /// The first.
    pub first: usize,
    /// The last.
    pub last: usize,
    /// Whether to give up; asked now and then.
    pub interrupted: &'a mut dyn FnMut() -> bool,
}

/// Goes one forward.
///
/// # Errors
/// Damage.
pub fn step<P: Past>(
    past: &P,
    plan: &Plan,
    at: usize,
    road: &Road<'_>,
) -> Result<(usize, Halt), P::Error> {
    if at >= road.last {
        return Ok((at, Halt::End));
    }
    let there = at + 1;
    if let Some(n) = differs(past, plan, at, there) {
        return Ok((there, Halt::Watch(n)));
    }
    let fatal = past.fatal(there)?;
    Ok((
        there,
        fatal.map_or(Halt::Moved, |(tid, signal)| Halt::Fatal(tid, signal)),
    ))
}

/// Goes one back.
///
/// # Errors
/// Never; it is what [`step`] may have.
pub fn step_back<P: Past>(
    past: &P,
    plan: &Plan,
    at: usize,
    road: &Road<'_>,
) -> Result<(usize, Halt), P::Error> {
    if at <= road.first {
        return Ok((at, Halt::Begin));
    }
    let there = at - 1;
    let watched = differs(past, plan, at, there);
    Ok((there, watched.map_or(Halt::Moved, Halt::Watch)))
}

/// The first watch whose bytes are not the same at two positions.
pub fn differs<P: Past>(past: &P, plan: &Plan, a: usize, b: usize) -> Option<usize> {
    plan.watches
        .iter()
        .position(|span| past.bytes(a, *span) != past.bytes(b, *span))
}

/// Goes forward until something happens.
///
/// # Errors
/// Damage.
pub fn forward<P: Past>(
    past: &P,
    plan: &Plan,
    at: usize,
    road: &mut Road<'_>,
) -> Result<(usize, Halt), P::Error> {
    if at >= road.last {
        return Ok((at, Halt::End));
    }
    let mut stop = (road.last, Halt::End);
    for (n, span) in plan.watches.iter().enumerate() {
        // One that changes where another already stops comes no earlier.
        let until = match stop.1 {
            Halt::Watch(_) => stop.0 - 1,
            _ => stop.0,
        };
        match past.next_change(*span, at, until, road.interrupted)? {
            Found::At(there) => stop = (there, Halt::Watch(n)),
            Found::Nowhere => {}
            Found::Interrupted(there) => return Ok((there, Halt::Interrupted)),
        }
    }
    for there in at + 1..=stop.0 {
        if there == stop.0 && matches!(stop.1, Halt::Watch(_)) {
            break;
        }
        if let Some((tid, signal)) = past.fatal(there)? {
            stop = (there, Halt::Fatal(tid, signal));
            break;
        }
    }
    if plan.breaks.is_empty() {
        return Ok(stop);
    }
    // Where it stops anyway needs no look.
    let end = stop.0 + usize::from(stop.1 == Halt::End);
    Ok(breaks(past, plan, at + 1..end, road)?.unwrap_or(stop))
}

/// Goes back until something happens. A change of watched bytes ends it where they still have, or
/// once more have, their old content: just before the write, as executing backwards does.
///
/// # Errors
/// Damage.
pub fn backward<P: Past>(
    past: &P,
    plan: &Plan,
    at: usize,
    road: &mut Road<'_>,
) -> Result<(usize, Halt), P::Error> {
    if at <= road.first {
        return Ok((at, Halt::Begin));
    }
    let mut stop = (road.first, Halt::Begin);
    for (n, span) in plan.watches.iter().enumerate() {
        let until = match stop.1 {
            Halt::Watch(_) => stop.0 + 1,
            _ => stop.0,
        };
        match past.previous_change(*span, at, until, road.interrupted)? {
            Found::At(there) => stop = (there, Halt::Watch(n)),
            Found::Nowhere => {}
            Found::Interrupted(there) => return Ok((there, Halt::Interrupted)),
        }
    }
    if plan.breaks.is_empty() {
        return Ok(stop);
    }
    // Where it stops anyway needs no look.
    let begin = stop.0 + usize::from(stop.1 != Halt::Begin);
    Ok(breaks(past, plan, (begin..at).rev(), road)?.unwrap_or(stop))
}

/// The first of these positions with a thread at a breakpoint, or where it is interrupted.
fn breaks<P: Past>(
    past: &P,
    plan: &Plan,
    positions: impl Iterator<Item = usize>,
    road: &mut Road<'_>,
) -> Result<Option<(usize, Halt)>, P::Error> {
    for there in positions {
        if let Some(tid) = stands(past, plan, there)? {
            return Ok(Some((there, Halt::Break(tid))));
        }
        if there.is_multiple_of(64) && (road.interrupted)() {
            return Ok(Some((there, Halt::Interrupted)));
        }
    }
    Ok(None)
}

fn stands<P: Past>(past: &P, plan: &Plan, at: usize) -> Result<Option<u32>, P::Error> {
    let counters = past.counters(at)?;
    let found = counters.iter().find(|(_, pc)| plan.breaks.contains(pc));
    Ok(found.map(|(tid, _)| *tid))
}

/// What a search found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Found {
    /// This position.
    At(usize),
    /// None.
    Nowhere,
    /// It was interrupted, having come this far.
    Interrupted(usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::convert::Infallible;
    use stillframe_image::PAGE_SIZE;

    /// Two pages; each position has, for each, when it was mapped and a byte.
    #[derive(Clone, Debug)]
    struct Fake {
        pages: Vec<[Option<(u64, u8)>; 2]>,
        counters: Vec<Vec<(u32, u64)>>,
        fatal: Option<usize>,
    }

    impl Past for Fake {
        type Error = Infallible;

        fn next_change(
            &self,
            span: Span,
            at: usize,
            last: usize,
            interrupted: &mut dyn FnMut() -> bool,
        ) -> Result<Found, Infallible> {
            if interrupted() {
                return Ok(Found::Interrupted(at));
            }
            let mut found = at + 1..=last;
            let found = found.find(|i| self.bytes(*i, span) != self.bytes(i - 1, span));
            Ok(found.map_or(Found::Nowhere, Found::At))
        }

        fn previous_change(
            &self,
            span: Span,
            at: usize,
            first: usize,
            interrupted: &mut dyn FnMut() -> bool,
        ) -> Result<Found, Infallible> {
            if interrupted() {
                return Ok(Found::Interrupted(at));
            }
            let mut found = (first..at).rev();
            let found = found.find(|i| self.bytes(*i, span) != self.bytes(i + 1, span));
            Ok(found.map_or(Found::Nowhere, Found::At))
        }

        fn bytes(&self, at: usize, span: Span) -> Option<Vec<u8>> {
            (span.address..span.address + span.length)
                .map(|a| self.pages[at][a as usize / PAGE_SIZE].map(|x| x.1))
                .collect()
        }

        fn counters(&self, at: usize) -> Result<Vec<(u32, u64)>, Infallible> {
            Ok(self.counters[at].clone())
        }

        fn fatal(&self, at: usize) -> Result<Option<(u32, i32)>, Infallible> {
            Ok((self.fatal == Some(at)).then_some((1, 11)))
        }
    }

    /// Memory that is written, thrown away and mapped anew.
    fn fake() -> impl Strategy<Value = Fake> {
        let page = prop::collection::vec((0u8..12, 0u8..3), 2..150);
        (
            page.clone(),
            page,
            prop::collection::vec(0u64..40, 150),
            prop::option::of(0usize..150),
        )
            .prop_map(|(a, b, pcs, fatal)| {
                let n = a.len().min(b.len());
                let mut pages = vec![[None; 2]; n];
                for (which, events) in [a, b].into_iter().enumerate() {
                    let mut now: Option<(u64, u8)> = None;
                    for (i, (event, value)) in events.into_iter().take(n).enumerate() {
                        now = match (event, now) {
                            (0, _) => None,
                            (1, _) => Some((i as u64, value)),
                            (2 | 3, Some((generation, _))) => Some((generation, value)),
                            (_, now) => now,
                        };
                        pages[i][which] = now;
                    }
                }
                let counters = pcs[..n]
                    .iter()
                    .map(|pc| vec![(1, 1000), (2, *pc)])
                    .collect();
                Fake {
                    pages,
                    counters,
                    fatal,
                }
            })
    }

    fn spans() -> [Span; 3] {
        [(100, 4), (4094, 4), (4096 + 8, 1)].map(|(address, length)| Span { address, length })
    }

    fn brute(fake: &Fake, plan: &Plan, at: usize, back: bool) -> (usize, Halt) {
        let last = fake.pages.len() - 1;
        let mut here = at;
        loop {
            if back && here == 0 {
                return (here, Halt::Begin);
            }
            if !back && here == last {
                return (here, Halt::End);
            }
            let there = if back { here - 1 } else { here + 1 };
            if let Some(n) = differs(fake, plan, here, there) {
                return (there, Halt::Watch(n));
            }
            if !back && fake.fatal == Some(there) {
                return (there, Halt::Fatal(1, 11));
            }
            if let Some((tid, _)) = fake.counters[there]
                .iter()
                .find(|(_, pc)| plan.breaks.contains(pc))
            {
                return (there, Halt::Break(*tid));
            }
            here = there;
        }
    }

    proptest! {
        #[test]
        fn as_one_by_one(
            fake in fake(),
            at in any::<prop::sample::Index>(),
            chosen in prop::collection::vec(0usize..3, 0..3),
            breaks in prop::collection::btree_set(0u64..40, 0..3),
        ) {
            let plan = Plan { watches: chosen.iter().map(|n| spans()[*n]).collect(), breaks };
            let at = at.index(fake.pages.len());
            let mut never = || false;
            let mut road = Road { first: 0, last: fake.pages.len() - 1, interrupted: &mut never };
            let Ok(found) = forward(&fake, &plan, at, &mut road);
            prop_assert_eq!(found, brute(&fake, &plan, at, false));
            let Ok(found) = backward(&fake, &plan, at, &mut road);
            prop_assert_eq!(found, brute(&fake, &plan, at, true));
        }
    }

    #[test]
    fn interrupts_are_heard() {
        let fake = Fake {
            pages: vec![[Some((0, 1)); 2]; 500],
            counters: vec![vec![(1, 5)]; 500],
            fatal: None,
        };
        let plan = Plan {
            watches: Vec::new(),
            breaks: BTreeSet::from([6]),
        };
        let mut asked = 0;
        let mut stop = || {
            asked += 1;
            asked == 3
        };
        let mut road = Road {
            first: 0,
            last: 499,
            interrupted: &mut stop,
        };
        let Ok((there, halt)) = forward(&fake, &plan, 0, &mut road);
        assert_eq!(halt, Halt::Interrupted);
        assert!(there > 0 && there < 499);
    }
}
