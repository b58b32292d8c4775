//! What is found in memory over time is what looking at every byte of every checkpoint finds.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use stillframe_image::SpaceId;
use stillframe_timeline::Past;
use stillframe_timeline::grep::{Match, Needle, Outcome, Progress, Watch, grep, grep_by};

#[derive(Default)]
struct Collected {
    found: Vec<Match>,
    stop_after: Option<usize>,
}

impl Watch for Collected {
    fn found(&mut self, found: Match) -> bool {
        self.found.push(found);
        self.stop_after.is_none_or(|n| self.found.len() < n)
    }
    fn progress(&mut self, _: Progress) -> bool {
        true
    }
}

fn run(
    past: &Past<'_>,
    needle: &Needle,
    range: std::ops::RangeInclusive<usize>,
) -> (Vec<Match>, Outcome) {
    let mut watch = Collected::default();
    let outcome = grep(past, needle, range, &mut watch).unwrap();
    watch.found.sort_unstable();
    (watch.found, outcome)
}

/// Addresses at which the needle stands in a process, by looking everywhere.
fn standing(process: &Process, needle: &[u8], align: u64) -> BTreeSet<u64> {
    let size = 4096;
    let mut found = BTreeSet::new();
    // Stretches of pages that are there.
    let mut runs: BTreeMap<u64, Vec<u8>> = BTreeMap::new();
    let mut last: Option<(u64, u64)> = None;
    for (page, held) in process.pages.iter().filter(|(_, h)| !h.omitted) {
        let begin = match last {
            Some((begin, before)) if before + 1 == *page => begin,
            _ => *page,
        };
        runs.entry(begin)
            .or_default()
            .extend_from_slice(&*held.content);
        last = Some((begin, *page));
    }
    for (begin, bytes) in runs {
        for (i, w) in bytes.windows(needle.len()).enumerate() {
            let address = (BASE + begin) * size + i as u64;
            if w == needle && address.is_multiple_of(align) {
                found.insert(address);
            }
        }
    }
    found
}

fn check(model: &Model, past: &Past<'_>, process: u32, range: std::ops::RangeInclusive<usize>) {
    for (bytes, align) in [
        (&b"stillfra"[..], 1),
        (b"ill", 1),
        (b"still", 4),
        (b"l", 1),
        (&place(0).to_le_bytes(), 1),
        (&place(0).to_le_bytes(), 8),
        (&[7, 0, 0, 0], 4),
        (&[0, 0, 7], 1),
        (&[0, b's'], 1),
    ] {
        let needle = Needle::new(bytes, align).unwrap();
        let mut want = Vec::new();
        let mut open: BTreeMap<u64, usize> = BTreeMap::new();
        let last = *range.end();
        for p in range.clone() {
            let now = model
                .at(p, process)
                .map_or_else(BTreeSet::new, |m| standing(m, bytes, align));
            open.retain(|address, from| {
                let stays = now.contains(address);
                if !stays {
                    want.push(Match {
                        address: *address,
                        from: *from,
                        to: p - 1,
                    });
                }
                stays
            });
            for address in now {
                open.entry(address).or_insert(p);
            }
        }
        want.extend(open.into_iter().map(|(address, from)| Match {
            address,
            from,
            to: last,
        }));
        want.sort_unstable();
        let (found, outcome) = run(past, &needle, range.clone());
        assert!(!outcome.stopped);
        let mut watch = Collected::default();
        grep_by(past, &needle, range.clone(), &mut watch, 30).unwrap();
        watch.found.sort_unstable();
        assert_eq!(watch.found, found, "in small batches");
        assert_eq!(found, want, "{bytes:?} align {align} over {range:?}");
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]
    #[test]
    fn as_looking_everywhere(
        steps in prop::collection::vec(step(), 1..120),
        gone in prop::collection::vec((0u64..40, 1u64..8), 0..4),
        cut in (0usize..20, 0usize..20),
    ) {
        let dir = tempfile::tempdir().unwrap();
        let mut model = Model::mapped(&dir.path().join("r.still"));
        for step in &steps {
            model.step(step);
        }
        model.commit();
        let recording = model.finish(&gone);
        let last = recording.rows().len() - 1;
        for process in 0..PROCESSES {
            let Ok(past) = Past::new(&recording, SpaceId(process)) else { continue };
            check(&model, &past, process, 0..=last);
            let (from, to) = (cut.0.min(last), last - cut.1.min(last));
            if from <= to {
                check(&model, &past, process, from..=to);
            }
        }
    }
}

#[test]
fn each_version_is_searched_once() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::mapped(&dir.path().join("r.still"));
    for i in 0..100u8 {
        if i % 10 == 5 {
            model.step(&Step::Word {
                process: 0,
                place: 0,
                value: i / 10 % 2 + 1,
            });
        }
        model.commit();
    }
    let recording = model.finish(&[]);
    let past = Past::new(&recording, SpaceId(0)).unwrap();
    let needle = Needle::new(b"stillfra", 1).unwrap();
    let (found, outcome) = run(&past, &needle, 0..=99);
    assert_eq!(found.len(), 5);
    assert_eq!(outcome.searched, PAGES + 10);
    // Stopped, it has told what it found.
    let mut watch = Collected {
        stop_after: Some(2),
        ..Collected::default()
    };
    let outcome = grep(&past, &needle, 0..=99, &mut watch).unwrap();
    assert!(outcome.stopped);
    assert!(watch.found.len() >= 2 && watch.found[..2] == found[..2]);
}
