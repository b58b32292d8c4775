//! Answers followed through time are those that asking at every checkpoint gives, forward and
//! backward, whatever happened to memory, processes and checkpoints in between.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::*;
use proptest::prelude::*;
use stillframe_image::SpaceId;
use stillframe_timeline::find::{self, Checked, Halves, Stretch};
use stillframe_timeline::{
    Answer, Asked, Change, Comparison, Direction, How, Past, Question, Raw, Step as Moved, Truth,
    Walk, writes,
};

/// Follows a pointer: what it depends on is another page from time to time.
#[derive(Debug)]
struct Follow(u64);

impl Question for Follow {
    type Answer = Option<Vec<u8>>;

    fn ask(&self, asked: &Asked<'_, '_>) -> Self::Answer {
        let mut word = [0; 8];
        asked.bytes(self.0, &mut word).ok()?;
        let mut there = [0; 8];
        asked.bytes(u64::from_le_bytes(word), &mut there).ok()?;
        Some(there.to_vec())
    }
}

/// Reads where a register points, and counts threads.
#[derive(Debug)]
struct AtRegister;

/// Reads one register of the main thread.
#[derive(Debug)]
struct OneRegister;

impl Question for OneRegister {
    type Answer = (Option<u32>, Option<Vec<u8>>);

    fn ask(&self, asked: &Asked<'_, '_>) -> Self::Answer {
        let main = asked.main_thread();
        (main, main.and_then(|tid| asked.register(tid, 16)))
    }
}

impl Question for AtRegister {
    type Answer = (usize, u64, Option<Vec<u8>>);

    fn ask(&self, asked: &Asked<'_, '_>) -> Self::Answer {
        let threads = asked.thread_ids().len();
        let rip = asked.thread(1).map_or(0, |t| t.registers.rip);
        let mut there = [0; 4];
        let bytes = asked.bytes(rip, &mut there).ok().map(|()| there.to_vec());
        (threads, rip, bytes)
    }
}

/// The changes of what `at` says, as asking everywhere finds them.
fn expected<A: PartialEq + Clone>(
    range: std::ops::RangeInclusive<usize>,
    at: impl Fn(usize) -> Option<A>,
) -> Vec<Change<A>> {
    let mut changes = Vec::new();
    for p in range.clone().skip(1) {
        let (old, new) = (at(p - 1), at(p));
        if old != new {
            changes.push(Change { at: p, old, new });
        }
    }
    changes
}

fn walked<Q: Question>(
    past: &Past<'_>,
    question: &Q,
    range: std::ops::RangeInclusive<usize>,
    direction: Direction,
) -> Vec<Change<Q::Answer>>
where
    Q::Answer: std::fmt::Debug,
{
    let mut walk = Walk::new(past, question, range, direction).unwrap();
    let mut changes = Vec::new();
    loop {
        match walk.next(&mut |_| true).unwrap() {
            Moved::Change(change) => changes.push(change),
            Moved::End => break,
            Moved::Stopped => panic!("stopped"),
        }
    }
    if direction == Direction::Backward {
        changes.reverse();
    }
    changes
}

fn compare<Q: Question>(
    past: &Past<'_>,
    question: &Q,
    range: std::ops::RangeInclusive<usize>,
    at: impl Fn(usize) -> Option<Q::Answer>,
) where
    Q::Answer: std::fmt::Debug,
{
    let want = expected(range.clone(), at);
    for direction in [Direction::Forward, Direction::Backward] {
        let found = walked(past, question, range.clone(), direction);
        assert_eq!(found, want, "{direction:?} over {range:?}");
    }
}

fn check(model: &Model, past: &Past<'_>, process: u32, range: std::ops::RangeInclusive<usize>) {
    for number in 0..8 {
        let raw = Raw::bytes(place(number), 8);
        // Answers carry text; only what was read is compared.
        let want = expected(range.clone(), |p| {
            model.at(p, process).map(|m| m.read(place(number), 8))
        });
        for direction in [Direction::Forward, Direction::Backward] {
            let found: Vec<_> = walked(past, &raw, range.clone(), direction);
            let bytes = |a: Option<Answer>| a.map(|a| a.value().map(|v| v.content.clone()));
            // A reason for missing bytes may become another reason, which is a change too.
            let found: Vec<_> = found
                .into_iter()
                .map(|c| Change {
                    at: c.at,
                    old: bytes(c.old),
                    new: bytes(c.new),
                })
                .filter(|c| c.old != c.new)
                .collect();
            assert_eq!(found, want, "{direction:?} place {number} over {range:?}");
        }
        let follow = |p| {
            model.at(p, process).map(|m| {
                let word = m.read(place(number), 8)?;
                let to = u64::from_le_bytes(word.try_into().ok()?);
                if !(BASE * 4096..(BASE + PAGES) * 4096 - 8).contains(&to) {
                    return None;
                }
                m.read(to, 8)
            })
        };
        compare(past, &Follow(place(number)), range.clone(), follow);
        check_find(model, past, process, number, range.clone());
        check_writes(model, past, process, number, range.clone());
    }
    compare(past, &OneRegister, range.clone(), |p| {
        let rip = |m: &Process| Some(m.rip.to_le_bytes().to_vec());
        model.at(p, process).map(|m| (Some(1), rip(m)))
    });
    compare(past, &AtRegister, range, |p| {
        model
            .at(p, process)
            .map(|m| (m.tids.max(1) as usize, m.rip, m.read_from(m.rip)))
    });
}

trait From4 {
    fn read_from(&self, address: u64) -> Option<Vec<u8>>;
}

impl From4 for Process {
    fn read_from(&self, address: u64) -> Option<Vec<u8>> {
        (address >= BASE * 4096).then(|| self.read(address, 4))?
    }
}

fn check_find(
    model: &Model,
    past: &Past<'_>,
    process: u32,
    number: u8,
    range: std::ops::RangeInclusive<usize>,
) {
    let text = format!("bytes[8]@{:#x} == {}", place(number), hex(&word(1)));
    let question: Comparison = text.parse().unwrap();
    let holds = |p: usize| {
        model
            .at(p, process)
            .and_then(|m| m.read(place(number), 8))
            .is_some_and(|b| b == word(1))
    };
    let first = range.clone().find(|p| holds(*p));
    let last = range.clone().rev().find(|p| holds(*p));
    let found = find::first(past, &question, range.clone(), &mut |_| true).unwrap();
    assert_eq!((found.at, found.stopped), (first, false), "{text}");
    let found = find::last(past, &question, range.clone(), &mut |_| true).unwrap();
    assert_eq!((found.at, found.stopped), (last, false), "{text}");
    let mut want: Vec<Stretch> = Vec::new();
    for p in range.clone().filter(|p| holds(*p)) {
        match want.last_mut() {
            Some(s) if s.to + 1 == p => s.to = p,
            _ => want.push(Stretch { from: p, to: p }),
        }
    }
    let mut all = Vec::new();
    let (stopped, _) = find::all(past, &question, range.clone(), &mut |_| true, &mut |s| {
        all.push(s);
        true
    })
    .unwrap();
    assert!(!stopped);
    assert_eq!(all, want, "{text}");
    let life = past.life();
    let (lo, hi) = (
        (*range.start()).max(*life.start()),
        (*range.end()).min(*life.end()),
    );
    if lo > hi {
        return;
    }
    let (halves, _) = find::by_halves(past, &question, range, &mut |_| true).unwrap();
    match halves {
        Halves::First { at, checked } => {
            assert_eq!(checked, Checked::Everywhere);
            assert!((lo..=hi).all(|p| holds(p) == (p >= at)), "{text}");
        }
        Halves::Nowhere { checked } => {
            assert_eq!(checked, Checked::Everywhere);
            assert!(!(lo..=hi).any(holds), "{text}");
        }
        Halves::NotMonotone { holds: a, ceases } => {
            assert!(
                a < ceases && holds(a) && !holds(ceases),
                "{text}: {a} {ceases}"
            );
        }
    }
}

fn check_writes(
    model: &Model,
    past: &Past<'_>,
    process: u32,
    number: u8,
    range: std::ops::RangeInclusive<usize>,
) {
    let (address, length) = (place(number), 8);
    let mut found = Vec::new();
    let stopped = writes(
        past,
        (address, length),
        range.clone(),
        &mut |_| true,
        &mut |w| {
            found.push(w);
            true
        },
    )
    .unwrap();
    assert!(!stopped);
    let mut want = Vec::new();
    for p in range.skip(1) {
        let (Some(old), Some(new)) = (model.at(p - 1, process), model.at(p, process)) else {
            continue;
        };
        for a in address..address + length {
            let (then, now) = (old.read(a, 1), new.read(a, 1));
            if then != now {
                want.push((p, a));
            }
        }
    }
    for (p, a) in &want {
        let told = found
            .iter()
            .any(|w| w.at == *p && (w.address..w.address + w.length).contains(a));
        assert!(told, "{p} {a:#x}: {found:?}");
    }
    for w in &found {
        // The first and the last byte told of did change.
        let both_missing = w.old.is_empty() && w.new.is_empty();
        for a in [w.address, w.address + w.length - 1] {
            assert!(both_missing || want.contains(&(w.at, a)), "{w:?}");
        }
        match w.how {
            How::Written => assert_eq!(w.old.len(), w.new.len()),
            How::Mapped => assert!(both_missing || !w.new.is_empty()),
            How::Unmapped => assert!(w.new.is_empty()),
        }
    }
    assert!(found.is_sorted_by_key(|w| (w.at, w.address)));
}

fn hex(bytes: &[u8]) -> String {
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]
    #[test]
    fn as_asking_everywhere(
        steps in prop::collection::vec(step(), 1..160),
        gone in prop::collection::vec((0u64..60, 1u64..8), 0..4),
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
            let there = (0..=last).any(|p| model.at(p, process).is_some());
            let past = Past::new(&recording, SpaceId(process));
            prop_assert_eq!(past.is_ok(), there);
            let Ok(past) = past else { continue };
            let positions: Vec<usize> =
                (0..=last).filter(|p| model.at(*p, process).is_some()).collect();
            prop_assert_eq!(past.life(), positions[0]..=positions[positions.len() - 1]);
            check(&model, &past, process, 0..=last);
            let small = Past::new(&recording, SpaceId(process)).unwrap().with_window(7);
            check(&model, &small, process, 0..=last);
            let (from, to) = (cut.0.min(last), last - cut.1.min(last));
            if from <= to {
                check(&model, &past, process, from..=to);
            }
        }
    }
}

#[test]
fn a_walk_that_was_stopped_goes_on() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::mapped(&dir.path().join("r.still"));
    for i in 0..50u8 {
        model.step(&Step::Word {
            process: 0,
            place: 0,
            value: i % 3,
        });
        model.commit();
    }
    let recording = model.finish(&[]);
    let past = Past::new(&recording, SpaceId(0)).unwrap();
    let question = Raw::bytes(place(0), 8);
    let mut walk = Walk::new(&past, &question, 0..=49, Direction::Forward).unwrap();
    let mut changes = 0;
    let mut budget = 3;
    loop {
        match walk
            .next(&mut |_| {
                budget -= 1;
                budget > 0
            })
            .unwrap()
        {
            Moved::Change(_) => changes += 1,
            Moved::Stopped => budget = 3,
            Moved::End => break,
        }
    }
    assert_eq!(changes, 49);
}

#[test]
fn what_stays_the_same_is_not_asked_again() {
    let dir = tempfile::tempdir().unwrap();
    let mut model = Model::mapped(&dir.path().join("r.still"));
    for i in 0..400u32 {
        // The page changes all the time, the word seldom; another page not at all.
        model.step(&Step::Poke {
            process: 0,
            page: 0,
            at: 0x800,
            value: i as u8,
        });
        if i % 100 == 50 {
            model.step(&Step::Word {
                process: 0,
                place: 0,
                value: (i / 100 % 2 + 1) as u8,
            });
        }
        model.commit();
    }
    let recording = model.finish(&[]);
    let past = Past::new(&recording, SpaceId(0)).unwrap();
    let question = Raw::bytes(place(0), 8);
    let mut walk = Walk::new(&past, &question, 0..=399, Direction::Forward).unwrap();
    let mut changes = 0;
    while let Moved::Change(_) = walk.next(&mut |_| true).unwrap() {
        changes += 1;
    }
    assert_eq!(changes, 4);
    assert_eq!(walk.effort().asked, 5);
    assert!(walk.effort().compared >= 390);
    let still = Raw::bytes(place(7), 8);
    let mut walk = Walk::new(&past, &still, 0..=399, Direction::Forward).unwrap();
    assert_eq!(walk.next(&mut |_| true).unwrap(), Moved::End);
    assert_eq!((walk.effort().asked, walk.effort().compared), (1, 0));
    let truth: Comparison = format!("u8@{:#x} == 0", place(7)).parse().unwrap();
    let mut walk = Walk::new(&past, &truth, 0..=399, Direction::Backward).unwrap();
    assert_eq!(walk.answer(), Some(&Truth::Holds));
    assert_eq!(walk.next(&mut |_| true).unwrap(), Moved::End);
}
