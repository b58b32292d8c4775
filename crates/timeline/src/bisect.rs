//! The last moment at which something holds that only a run of some program can tell.
//!
//! Such a run is dear, so the moments are halved, and what is assumed is that it holds up to some
//! moment and not from then on. Both ends are asked first: an assumption that is wrong already there
//! is said to be. A moment that cannot be judged is left out, and the next to be asked lies in the
//! middle of the longest stretch that nobody asked yet, so that a stretch of moments that cannot be
//! judged costs few runs (git-bisect jumps aside at random for the same reason).
//!
//! No I/O: [`Bisect::next`] says which moment to ask, [`Bisect::tell`] takes the answer.

use std::collections::BTreeMap;

/// What a run said of a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verdict {
    /// It holds.
    Good,
    /// It does not.
    Bad,
    /// That cannot be told.
    Skip,
}

/// What to do next. Numbers are positions in the list of moments.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Next {
    /// Ask about this one.
    Ask(usize),
    /// It is over.
    Over(Outcome),
}

/// How a search ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Outcome {
    /// `good` is the last good one; the one after it is bad.
    Found {
        /// The last good one.
        good: usize,
        /// The first bad one.
        bad: usize,
    },
    /// The last good one is `good` or one of those between it and `bad`, which cannot be judged.
    Between {
        /// The last that is known to be good.
        good: usize,
        /// The first that is known to be bad.
        bad: usize,
    },
    /// Good at both ends: the last that could be judged is good.
    AllGood {
        /// It.
        last: usize,
    },
    /// Bad at both ends.
    AllBad,
    /// Bad at the first, good at the last: whatever it is, it does not end.
    Reversed {
        /// The first that could be judged, a bad one.
        bad: usize,
        /// The last that could be judged, a good one.
        good: usize,
    },
    /// None could be judged.
    NoneJudged,
}

/// A search over `count` moments.
#[derive(Clone, Debug)]
pub struct Bisect {
    count: usize,
    asked: BTreeMap<usize, Verdict>,
}

impl Bisect {
    /// Nothing asked yet.
    pub const fn new(count: usize) -> Self {
        Self {
            count,
            asked: BTreeMap::new(),
        }
    }

    /// Takes an answer. What was said last of a moment counts.
    pub fn tell(&mut self, at: usize, verdict: Verdict) {
        self.asked.insert(at, verdict);
    }

    /// How many moments were asked about.
    pub fn asked(&self) -> usize {
        self.asked.len()
    }

    /// About how many are still to be asked.
    pub fn left(&self) -> u32 {
        let open = match self.ends() {
            Some(((first, Verdict::Good), (last, Verdict::Bad))) => {
                let (good, bad) = self.closest(first, last);
                bad - good
            }
            _ => self.count,
        };
        open.max(1).ilog2() + u32::from(!open.max(1).is_power_of_two())
    }

    /// What to do now.
    pub fn next(&self) -> Next {
        let judged = |at: &usize| !matches!(self.asked.get(at), Some(Verdict::Skip));
        // The ends: the first and the last that can be judged.
        let Some(first) = (0..self.count).find(judged) else {
            return Next::Over(Outcome::NoneJudged);
        };
        let last = (first..self.count).rev().find(judged).unwrap_or(first);
        for end in [first, last] {
            if !self.asked.contains_key(&end) {
                return Next::Ask(end);
            }
        }
        let verdict = |at: usize| self.asked.get(&at).copied().unwrap_or(Verdict::Skip);
        let outcome = match (verdict(first), verdict(last)) {
            (Verdict::Good, Verdict::Bad) => return self.between(first, last),
            (Verdict::Good, _) => Outcome::AllGood { last },
            (_, Verdict::Good) => Outcome::Reversed {
                bad: first,
                good: last,
            },
            _ => Outcome::AllBad,
        };
        Next::Over(outcome)
    }

    /// The first and the last judged, if they are the ends.
    fn ends(&self) -> Option<((usize, Verdict), (usize, Verdict))> {
        let mut judged = self.asked.iter().filter(|(_, v)| **v != Verdict::Skip);
        let (first, a) = judged.next()?;
        let (last, b) = judged.next_back()?;
        Some(((*first, *a), (*last, *b)))
    }

    /// The last good one and the first bad one after it, where `first` is good and `last` bad.
    fn closest(&self, first: usize, last: usize) -> (usize, usize) {
        let mut good = first;
        for (at, verdict) in self.asked.range(first..=last) {
            match verdict {
                Verdict::Good => good = *at,
                Verdict::Bad => return (good, *at),
                Verdict::Skip => {}
            }
        }
        (good, last)
    }

    fn between(&self, first: usize, last: usize) -> Next {
        let (good, bad) = self.closest(first, last);
        if bad == good + 1 {
            return Next::Over(Outcome::Found { good, bad });
        }
        // What was skipped cuts the stretch into pieces; the longest is halved.
        let mut longest = 0..0;
        let mut begin = good + 1;
        let inside = self.asked.range(good + 1..bad).map(|(at, _)| *at);
        for at in inside.chain([bad]) {
            if at - begin > longest.len() {
                longest = begin..at;
            }
            begin = at + 1;
        }
        if longest.is_empty() {
            return Next::Over(Outcome::Between { good, bad });
        }
        Next::Ask(longest.start + longest.len() / 2)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Runs a search to its end: how it ended and how many were asked.
    fn search(truth: &[Verdict]) -> (Outcome, usize) {
        let mut bisect = Bisect::new(truth.len());
        for asked in 0..=truth.len() {
            match bisect.next() {
                Next::Ask(at) => {
                    assert!(!bisect.asked.contains_key(&at), "{at} was asked before");
                    bisect.tell(at, truth[at]);
                }
                Next::Over(outcome) => {
                    assert_eq!(bisect.asked(), asked);
                    return (outcome, asked);
                }
            }
        }
        panic!("no end: {bisect:?}")
    }

    fn of(text: &str) -> Vec<Verdict> {
        text.chars()
            .map(|c| match c {
                'g' => Verdict::Good,
                'b' => Verdict::Bad,
                _ => Verdict::Skip,
            })
            .collect()
    }

    #[test]
    fn all_outcomes() {
        for (text, want) in [
            ("", Outcome::NoneJudged),
            ("s", Outcome::NoneJudged),
            ("sss", Outcome::NoneJudged),
            ("g", Outcome::AllGood { last: 0 }),
            ("b", Outcome::AllBad),
            ("sg", Outcome::AllGood { last: 1 }),
            ("gs", Outcome::AllGood { last: 0 }),
            ("gb", Outcome::Found { good: 0, bad: 1 }),
            ("ggggbb", Outcome::Found { good: 3, bad: 4 }),
            ("sgbs", Outcome::Found { good: 1, bad: 2 }),
            ("gsb", Outcome::Between { good: 0, bad: 2 }),
            ("ggssbb", Outcome::Between { good: 1, bad: 4 }),
            ("bg", Outcome::Reversed { bad: 0, good: 1 }),
            ("bggb", Outcome::AllBad),
        ] {
            assert_eq!(search(&of(text)).0, want, "{text}");
        }
    }

    #[test]
    fn halves() {
        let mut truth = vec![Verdict::Good; 1000];
        truth[417..].fill(Verdict::Bad);
        let (outcome, asked) = search(&truth);
        assert_eq!(
            outcome,
            Outcome::Found {
                good: 416,
                bad: 417
            }
        );
        assert!(asked <= 12, "{asked}");
        // A long stretch that cannot be judged beside the change does not have to be gone through.
        truth[417..717].fill(Verdict::Skip);
        truth[300..400].fill(Verdict::Skip);
        let (outcome, asked) = search(&truth);
        assert_eq!(
            outcome,
            Outcome::Between {
                good: 416,
                bad: 717
            }
        );
        assert!(asked > 300, "each of them was asked: {asked}");
        truth[417..717].fill(Verdict::Bad);
        let (outcome, asked) = search(&truth);
        assert_eq!(
            outcome,
            Outcome::Found {
                good: 416,
                bad: 417
            }
        );
        assert!(asked <= 20, "{asked}");
    }

    proptest! {
        #[test]
        fn what_ends_once_is_found(
            good in 1usize..80,
            bad in 1usize..80,
            skips in proptest::collection::vec(0usize..160, 0..40),
        ) {
            let mut truth = vec![Verdict::Good; good];
            truth.resize(good + bad, Verdict::Bad);
            for at in skips {
                if at != 0 && at + 1 < truth.len() && at < truth.len() {
                    truth[at] = Verdict::Skip;
                }
            }
            let (outcome, _) = search(&truth);
            let last = truth.iter().rposition(|v| *v == Verdict::Good).unwrap();
            let first = truth.iter().position(|v| *v == Verdict::Bad).unwrap();
            let want = if first == last + 1 {
                Outcome::Found { good: last, bad: first }
            } else {
                Outcome::Between { good: last, bad: first }
            };
            prop_assert_eq!(outcome, want);
        }

        #[test]
        fn whatever_is_said_it_ends_and_what_it_says_was_seen(text in "[gbs]{0,60}") {
            let truth = of(&text);
            let (outcome, asked) = search(&truth);
            prop_assert!(asked <= truth.len());
            match outcome {
                Outcome::Found { good, bad } | Outcome::Between { good, bad } => {
                    prop_assert!(good < bad);
                    prop_assert_eq!(truth[good], Verdict::Good);
                    prop_assert_eq!(truth[bad], Verdict::Bad);
                }
                Outcome::AllGood { last } => prop_assert_eq!(truth[last], Verdict::Good),
                Outcome::Reversed { bad, good } => {
                    prop_assert_eq!(truth[good], Verdict::Good);
                    prop_assert_eq!(truth[bad], Verdict::Bad);
                }
                Outcome::AllBad => prop_assert!(truth.contains(&Verdict::Bad)),
                Outcome::NoneJudged => prop_assert!(truth.iter().all(|v| *v == Verdict::Skip)),
            }
        }
    }
}
