//! Removing checkpoints from random recordings: what remains is the same to the bit, whatever was
//! removed, in whatever order, and wherever the machine stopped in the middle of it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::*;
use proptest::prelude::*;
use std::collections::BTreeSet;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use stillframe_image::*;
use stillframe_store::files::{Disk, Files, Output};
use stillframe_store::retention::*;
use stillframe_store::*;

/// A file system that stops after so many steps. A step that is cut off by the stop may have been
/// done in part, and nothing is done after it.
#[derive(Debug)]
struct Stopping {
    left: AtomicU64,
    taken: AtomicU64,
}

#[derive(Debug)]
struct Fs(Arc<Stopping>);

#[derive(Debug)]
struct FsFile(Arc<dyn Output>, Arc<Stopping>);

impl Stopping {
    fn new(left: u64) -> Arc<Self> {
        Arc::new(Self {
            left: AtomicU64::new(left),
            taken: AtomicU64::new(0),
        })
    }

    fn step(&self) -> io::Result<()> {
        let more = self
            .left
            .fetch_update(Ordering::SeqCst, Ordering::SeqCst, |n| n.checked_sub(1));
        self.taken.fetch_add(1, Ordering::SeqCst);
        more.map(drop).map_err(|_| io::Error::from_raw_os_error(28))
    }
}

impl Files for Fs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        self.0.step()?;
        Ok(Arc::new(FsFile(Disk.create(path)?, Arc::clone(&self.0))))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        self.0.step()?;
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        self.0.step()?;
        Disk.remove(path)
    }
    fn sync_directory(&self, _: &Path) -> io::Result<()> {
        self.0.step()
    }
}

impl Output for FsFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        if let Err(e) = self.1.step() {
            // The step at which it stopped may be half done.
            if self.1.taken.load(Ordering::SeqCst).is_multiple_of(2) && bytes.len() > 1 {
                let _ = self.0.write_at(offset, &bytes[..bytes.len() / 2]);
            }
            return Err(e);
        }
        self.0.write_at(offset, bytes)
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.1.step()?;
        self.0.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        self.1.step()
    }
    fn links(&self) -> io::Result<u64> {
        self.0.links()
    }
}

fn recorded(
    checkpoints: u64,
    options: WriterOptions,
) -> (tempfile::TempDir, PathBuf, Vec<Expected>) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let mut model = Model::new(&dir, options);
    history(&mut model, checkpoints).unwrap();
    model.finish().unwrap();
    (tmp, dir, model.committed)
}

/// Every checkpoint that is to be there is, bit for bit, and no other.
fn check(dir: &Path, want: &[Expected], remain: &BTreeSet<u64>, merged: bool) {
    let rec = Recording::open(dir).unwrap();
    assert_eq!(rec.damage(), &[] as &[String]);
    let there: BTreeSet<u64> = rec.rows().iter().map(|r| r.id.0).collect();
    assert_eq!(&there, remain);
    for id in remain {
        if !merged {
            compare(&rec, *id, &want[*id as usize]).unwrap();
        } else {
            compare_content(&rec, *id, &want[*id as usize]).unwrap();
        }
    }
    // What is reported as changed is what differs between neighbours that remain.
    for page in 0..PAGES {
        let end = CheckpointId(want.len() as u64);
        let changes = rec
            .changes(SpaceId(0), PageNumber(BASE + page), CheckpointId(0)..end)
            .unwrap();
        assert!(changes.is_sorted_by(|a, b| a < b));
        assert!(changes.iter().all(|c| remain.contains(&c.0)));
        let mut last = [0; PAGE_SIZE];
        for id in remain {
            let now = want[*id as usize].pages.get(&page);
            let now = now.copied().unwrap_or([0; PAGE_SIZE]);
            // New memory reads as zero without a version.
            if now != last && now != [0; PAGE_SIZE] {
                assert!(changes.contains(&CheckpointId(*id)), "page {page} at {id}");
            }
            last = now;
        }
    }
}

fn verified(dir: &Path, when: &str) {
    let report = verify(dir, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new(), "{when}");
}

fn size(dir: &Path) -> u64 {
    ["", "log", "index"]
        .iter()
        .flat_map(|f| std::fs::read_dir(dir.join(f)).unwrap())
        .map(|e| e.unwrap().metadata().unwrap())
        .filter(|m| m.is_file())
        .map(|m| m.len())
        .sum()
}

#[test]
fn one_removed_and_all_others_unchanged() {
    for gone in [0, 1, 30, 58, 59] {
        let (_tmp, dir, want) = recorded(60, small());
        let mut remain: BTreeSet<u64> = (0..60).collect();
        remain.remove(&gone);
        let mut retainer = Retainer::open(&dir).unwrap();
        let done = retainer
            .change(&Change::Remove(vec![(gone, gone + 1)]), &mut |_, _| true)
            .unwrap();
        assert_eq!((done.removed, done.remaining), (1, 59));
        drop(retainer);
        check(&dir, &want, &remain, false);
        verified(&dir, "after rm");
        let rec = Recording::open(&dir).unwrap();
        let error = rec.resolve(&Moment::Number(gone)).unwrap_err().to_string();
        assert!(error.contains("was removed"), "{error}");
    }
}

#[test]
fn nearly_all_removed_gives_nearly_all_back() {
    let (_tmp, dir, want) = recorded(200, small());
    let before = size(&dir);
    let remain: BTreeSet<u64> = [0, 199].into();
    let mut retainer = Retainer::open(&dir).unwrap();
    let done = retainer
        .change(&Change::Remove(vec![(1, 199)]), &mut |_, _| true)
        .unwrap();
    drop(retainer);
    let after = size(&dir);
    assert_eq!(done.freed, before - after);
    check(&dir, &want, &remain, false);
    verified(&dir, "after rm");
    // Two checkpoints of 24 pages, each with some history below it.
    assert!(
        after < 2 * 24 * 4096 * 2 && after < before / 4,
        "{before} -> {after}"
    );
}

#[test]
fn squash_sums_and_keeps_the_last() {
    let (_tmp, dir, want) = recorded(60, small());
    let mut retainer = Retainer::open(&dir).unwrap();
    let squash = |from, to| Change::Squash { from, to };
    retainer.change(&squash(10, 20), &mut |_, _| true).unwrap();
    retainer.change(&squash(20, 25), &mut |_, _| true).unwrap();
    assert!(retainer.change(&squash(30, 30), &mut |_, _| true).is_err());
    assert!(retainer.change(&squash(12, 30), &mut |_, _| true).is_err());
    drop(retainer);
    let remain: BTreeSet<u64> = (0..10).chain(25..60).collect();
    check(&dir, &want, &remain, true);
    verified(&dir, "after squash");
    let rec = Recording::open(&dir).unwrap();
    let row = rec.row(CheckpointId(25)).unwrap();
    assert_eq!(row.tick.dirty_pages, (10..=25).map(|n| n * 3).sum::<u64>());
    assert_eq!(row.tick.at_ns, tick(25).at_ns);
    assert_eq!(rec.stands_for(CheckpointId(25)), 16);
    assert_eq!(rec.removed(), 15);
}

#[test]
fn tagged_moments_stay_and_are_found() {
    let (_tmp, dir, want) = recorded(40, small());
    let mut retainer = Retainer::open(&dir).unwrap();
    let mut change = |c: Change| retainer.change(&c, &mut |_, _| true);
    let tag = |name: &str, id| Change::Tag {
        name: name.into(),
        id,
    };
    change(tag("before", 17)).unwrap();
    for bad in ["first", "12", "-3s", "a b", ""] {
        assert!(change(tag(bad, 17)).is_err(), "{bad}");
    }
    assert!(change(tag("none", 99)).is_err());
    assert!(change(Change::Remove(vec![(17, 18)])).is_err());
    assert!(change(Change::Squash { from: 10, to: 20 }).is_err());
    let rec = Recording::open(&dir).unwrap();
    let ranges = select(&rec, &[Rule::Every(10)], None);
    change(Change::Remove(ranges)).unwrap();
    check(&dir, &want, &[0, 10, 17, 20, 30, 39].into(), false);
    let rec = Recording::open(&dir).unwrap();
    assert_eq!(
        rec.resolve(&"before".parse().unwrap()).unwrap(),
        CheckpointId(17)
    );
    change(Change::Untag("before".into())).unwrap();
    assert!(change(Change::Untag("before".into())).is_err());
    change(Change::Remove(vec![(17, 18)])).unwrap();
    check(&dir, &want, &[0, 10, 20, 30, 39].into(), false);
    assert!(change(Change::Remove(vec![(0, 40)])).is_err());
    verified(&dir, "after prune");
}

#[test]
fn a_reader_that_was_there_before_is_right_or_says_so() {
    let (_tmp, dir, want) = recorded(80, small());
    let mut old = Recording::open(&dir).unwrap();
    // One that has looked at everything, and one that has not even loaded the index.
    compare(&old, 79, &want[79]).unwrap();
    let fresh = Recording::open(&dir).unwrap();
    let mut retainer = Retainer::open(&dir).unwrap();
    retainer
        .change(&Change::Remove(vec![(5, 60)]), &mut |_, _| true)
        .unwrap();
    let mut changed = 0;
    for rec in [&old, &fresh] {
        for id in 0..80u64 {
            match compare(rec, id, &want[id as usize]) {
                Ok(()) => {}
                Err(Error::Changed(_)) if (5..60).contains(&id) => changed += 1,
                Err(e) => panic!("{id}: {e}"),
            }
        }
    }
    assert!(changed > 0);
    old.refresh().unwrap();
    assert_eq!(old.rows().len(), 25);
    for id in (0..5).chain(60..80u64) {
        compare(&old, id, &want[id as usize]).unwrap();
    }
    assert!(matches!(
        old.checkpoint(CheckpointId(7)),
        Err(Error::NoMoment { .. })
    ));
}

#[test]
fn stopped_after_every_step() {
    let (_tmp, dir, want) = recorded(60, small());
    let remain: BTreeSet<u64> = (0..60u64)
        .filter(|n| n.is_multiple_of(10) || *n == 33)
        .collect();
    let ranges = |keep: &BTreeSet<u64>| -> Vec<(u64, u64)> {
        (0..60)
            .filter(|n| !keep.contains(n))
            .map(|n| (n, n + 1))
            .collect()
    };
    let all: BTreeSet<u64> = (0..60).collect();
    let mut steps = 0;
    for stop in 0.. {
        let tmp = tempfile::tempdir().unwrap();
        let copy = tmp.path().join("r.still");
        copy_tree(&dir, &copy);
        let fs = Stopping::new(stop);
        let change = Change::Remove(ranges(&remain));
        let result = Retainer::open_with(&copy, Arc::new(Fs(Arc::clone(&fs))))
            .and_then(|mut r| r.change(&change, &mut |_, _| true));
        let there = Recording::open(&copy).unwrap().rows().len();
        let now = if there == 60 { &all } else { &remain };
        check(&copy, &want, now, false);
        verified(&copy, &format!("stopped after {stop} steps"));
        // Without what only saves time, too.
        if stop % 5 == 0 {
            let bare = tmp.path().join("bare.still");
            copy_tree(&copy, &bare);
            std::fs::remove_dir_all(bare.join("index")).unwrap();
            std::fs::remove_file(bare.join("checkpoints.tab")).unwrap();
            let rec = Recording::open(&bare).unwrap();
            for id in now {
                compare(&rec, *id, &want[*id as usize]).unwrap();
            }
        }
        // The next run finishes what was begun.
        let mut again = Retainer::open(&copy).unwrap();
        if there == 60 {
            again.change(&change, &mut |_, _| true).unwrap();
        } else {
            again.change(&Change::Compact, &mut |_, _| true).unwrap();
        }
        drop(again);
        check(&copy, &want, &remain, false);
        verified(&copy, &format!("finished after {stop} steps"));
        assert!(!copy.join("log/new.tmp").exists());
        if result.is_ok() {
            steps = stop;
            break;
        }
    }
    assert!(steps > 20, "{steps}");
}

/// A compacted recording with bits flipped anywhere gives right data or none.
#[test]
fn flipped_bits_in_what_is_left_never_give_wrong_data() {
    let (_tmp, dir, want) = recorded(80, small());
    let remain: BTreeSet<u64> = (0..80u64)
        .filter(|n| n.is_multiple_of(4) || *n == 79)
        .collect();
    let ranges = (0..80).filter(|n| !remain.contains(n)).map(|n| (n, n + 1));
    let mut retainer = Retainer::open(&dir).unwrap();
    retainer
        .change(&Change::Remove(ranges.collect()), &mut |_, _| true)
        .unwrap();
    drop(retainer);
    let mut all: Vec<PathBuf> = ["log", "index"]
        .iter()
        .flat_map(|f| std::fs::read_dir(dir.join(f)).unwrap())
        .map(|e| e.unwrap().path())
        .collect();
    all.push(dir.join("retention"));
    all.sort();
    let mut seed = 77u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (seed >> 24) as usize
    };
    let mut lost = 0;
    for round in 0..600 {
        let path = &all[next() % all.len()];
        let original = std::fs::read(path).unwrap();
        let mut bad = original.clone();
        let at = next() % bad.len();
        bad[at] ^= 1 << (next() % 8);
        if round % 7 == 0 {
            bad.truncate(next() % original.len());
        }
        std::fs::write(path, &bad).unwrap();
        if round % 3 == 0 {
            // The index hides what is lost; without it the log has to speak.
            std::fs::rename(dir.join("index"), dir.join("elsewhere")).unwrap();
        }
        if let Ok(rec) = Recording::open(&dir) {
            assert!(rec.rows().iter().all(|r| remain.contains(&r.id.0)));
            let good = rec
                .rows()
                .iter()
                .filter(|r| compare(&rec, r.id.0, &want[r.id.0 as usize]).is_ok())
                .count();
            lost += usize::from(good < remain.len());
            let report = verify(&dir, &mut |_, _| {}).unwrap();
            assert!(
                good == remain.len() || !report.problems.is_empty(),
                "{path:?} at {at}"
            );
        } else {
            lost += 1;
        }
        if round % 3 == 0 {
            std::fs::rename(dir.join("elsewhere"), dir.join("index")).unwrap();
        }
        std::fs::write(path, &original).unwrap();
    }
    assert!(lost > 50, "{lost}");
    check(&dir, &want, &remain, false);
}

fn step() -> impl Strategy<Value = Step> {
    let page = || 0..PAGES;
    prop_oneof![
        8 => (page(), any::<u16>(), any::<u8>(), 1u8..20)
            .prop_map(|(page, at, value, n)| Step::Poke { page, at, value, n }),
        2 => (page(), 0u32..6).prop_map(|(page, seed)| Step::Noise { page, seed }),
        2 => (page(), page()).prop_map(|(page, from)| Step::Copy { page, from }),
        1 => page().prop_map(|page| Step::Zero { page }),
        1 => page().prop_map(|page| Step::Again { page }),
        1 => (page(), 1u64..8).prop_map(|(page, n)| Step::Remap { page, n }),
        1 => Just(Step::Forget),
        1 => Just(Step::Abandon),
        6 => Just(Step::Commit),
    ]
}

fn options() -> impl Strategy<Value = WriterOptions> {
    (
        prop_oneof![Just(0u64), Just(20_000), Just(1 << 20)],
        prop_oneof![Just(1u64), Just(3000), Just(16 << 10), Just(1 << 20)],
        prop_oneof![Just(1usize), Just(500), Just(8 << 10)],
        prop_oneof![Just(1usize), Just(10), Just(10_000)],
        0u8..6,
        prop_oneof![Just(0usize), Just(64)],
    )
        .prop_map(
            |(shadow, segment, pack, flush, chain, dedup)| WriterOptions {
                shadow_bytes: shadow,
                segment_bytes: segment,
                pack_bytes: pack,
                flush_entries: flush,
                chain_limit: chain,
                dedup_entries: dedup,
                sync_every: None,
                ..WriterOptions::default()
            },
        )
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(64))]

    #[test]
    fn whatever_is_removed_the_rest_is_the_same(
        steps in prop::collection::vec(step(), 1..120),
        options in options(),
        finish: bool,
        rounds in prop::collection::vec(
            (prop::collection::vec((any::<prop::sample::Index>(), 1u64..9), 1..6), 0u64..60), 1..4),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let mut model = Model::new(&dir, options);
        model.commit().unwrap();
        for step in &steps {
            model.step(step).unwrap();
        }
        if finish {
            model.finish().unwrap();
        } else {
            drop(model.writer.take());
        }
        let want = &model.committed;
        let n = want.len() as u64;
        let mut remain: BTreeSet<u64> = (0..n).collect();
        for (removals, stop) in rounds {
            let ranges: Vec<(u64, u64)> = removals
                .iter()
                .map(|(i, k)| (i.index(n as usize) as u64, *k))
                .map(|(from, k)| (from, (from + k).min(n)))
                .filter(|(from, to)| to - from > 1 || remain.contains(from))
                .collect();
            let mut next = remain.clone();
            for (from, to) in &ranges {
                next.retain(|id| !(from..to).contains(&id));
            }
            if next.is_empty() {
                continue;
            }
            let change = Change::Remove(ranges);
            // Stopped somewhere in the middle, then done.
            let fs = Stopping::new(stop);
            let _ = Retainer::open_with(&dir, Arc::new(Fs(fs)))
                .and_then(|mut r| r.change(&change, &mut |_, _| true));
            let there = Recording::open(&dir).unwrap().rows().len();
            let now = if there == next.len() { &next } else { &remain };
            check(&dir, want, now, false);
            verified(&dir, "stopped");
            let mut retainer = Retainer::open(&dir).unwrap();
            if there == next.len() {
                retainer.change(&Change::Compact, &mut |_, _| true).unwrap();
            } else {
                retainer.change(&change, &mut |_, _| true).unwrap();
            }
            drop(retainer);
            remain = next;
            check(&dir, want, &remain, false);
            verified(&dir, "done");
        }
        std::fs::remove_dir_all(dir.join("index")).unwrap();
        check(&dir, want, &remain, false);
        verified(&dir, "without an index");
        std::fs::remove_file(dir.join("checkpoints.tab")).unwrap();
        check_rows(&dir, want, &remain);
    }
}

fn check_rows(dir: &Path, want: &[Expected], remain: &BTreeSet<u64>) {
    let rec = Recording::open(dir).unwrap();
    let there: BTreeSet<u64> = rec.rows().iter().map(|r| r.id.0).collect();
    assert_eq!(&there, remain);
    for id in remain {
        compare(&rec, *id, &want[*id as usize]).unwrap();
    }
}

/// What a recording holds that is bounded while it is made.
fn check_live(dir: &Path, want: &[Expected]) -> usize {
    let rec = Recording::open(dir).unwrap();
    assert_eq!(rec.damage(), &[] as &[String]);
    let mut read = 0;
    for row in rec.rows() {
        match compare(&rec, row.id.0, &want[row.id.0 as usize]) {
            Ok(()) => read += 1,
            // Removed while we looked.
            Err(Error::Changed(_)) => {}
            Err(e) => panic!("checkpoint {}: {e}", row.id),
        }
    }
    assert!(read > 0 || rec.rows().is_empty());
    rec.rows().len()
}

#[test]
fn a_bounded_recording_stays_bounded_and_right() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let options = WriterOptions {
        keep: Bound {
            count: Some(40),
            ..Bound::default()
        },
        control: true,
        ..small()
    };
    let mut model = Model::new(&dir, options);
    let mut largest = 0;
    for round in 0..60 {
        history(&mut model, 40).unwrap();
        if round == 20 {
            let id = model.committed.len() as u64 - 3;
            let tag = Change::Tag {
                name: "here".into(),
                id,
            };
            change(&dir, &tag, &mut |_, _| true).unwrap();
        }
        std::thread::sleep(std::time::Duration::from_millis(20));
        check_live(&dir, &model.committed);
        largest = largest.max(size(&dir));
    }
    // It catches up when there is time.
    let mut rows = 0;
    for _ in 0..200 {
        model.commit().unwrap();
        std::thread::sleep(std::time::Duration::from_millis(10));
        rows = check_live(&dir, &model.committed);
        if rows <= 43 && size(&dir) < 2 << 20 {
            break;
        }
    }
    assert!((40..=43).contains(&rows), "{rows} checkpoints");
    let after = size(&dir);
    assert!(after < 2 << 20, "{after} bytes, at most {largest}");
    assert!(dir.join("control").exists());
    model.finish().unwrap();
    assert!(!dir.join("control").exists());
    check_live(&dir, &model.committed);
    verified(&dir, "bounded");
    let rec = Recording::open(&dir).unwrap();
    let here = rec.resolve(&"here".parse().unwrap()).unwrap();
    compare(&rec, here.0, &model.committed[here.0 as usize]).unwrap();
    drop(rec);
    // What is left over can be given back afterwards.
    let mut retainer = Retainer::open(&dir).unwrap();
    retainer.change(&Change::Compact, &mut |_, _| true).unwrap();
    check_live(&dir, &model.committed);
    verified(&dir, "compacted");
}

#[test]
fn others_change_a_recording_while_it_is_made() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let options = WriterOptions {
        control: true,
        ..small()
    };
    let mut model = Model::new(&dir, options);
    history(&mut model, 100).unwrap();
    assert!(matches!(Retainer::open(&dir), Err(Error::Busy(_))));
    let mut removed = BTreeSet::new();
    for from in [10, 30, 95] {
        let asked = dir.clone();
        let asking = std::thread::spawn(move || {
            let all = Change::Remove(vec![(from, from + 15)]);
            change(&asked, &all, &mut |_, _| true)
        });
        // The writer goes on meanwhile.
        while !asking.is_finished() {
            history(&mut model, 1).unwrap();
        }
        let done = asking.join().unwrap().unwrap();
        assert_eq!(done.removed, 15);
        assert!(!done.pending && done.freed > 0 || from == 95, "{done:?}");
        removed.extend(from..from + 15);
    }
    let newest = model.committed.len() as u64 - 1;
    let refused = change(
        &dir,
        &Change::Remove(vec![(newest, newest + 1)]),
        &mut |_, _| true,
    );
    assert!(refused.is_err());
    let none = change(&dir, &Change::Remove(vec![(12, 13)]), &mut |_, _| true);
    assert!(matches!(none, Err(Error::NoMoment { .. })));
    history(&mut model, 50).unwrap();
    let remain: BTreeSet<u64> = (0..model.committed.len() as u64)
        .filter(|n| !removed.contains(n))
        .collect();
    check(&dir, &model.committed, &remain, false);
    model.finish().unwrap();
    check(&dir, &model.committed, &remain, false);
    verified(&dir, "changed while it was made");
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(24))]

    #[test]
    fn whatever_is_recorded_under_a_bound_is_right(
        steps in prop::collection::vec(step(), 100..400),
        options in options(),
        count in 1u64..12,
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let options = WriterOptions {
            keep: Bound { count: Some(count), ..Bound::default() },
            ..options
        };
        let mut model = Model::new(&dir, options);
        model.commit().unwrap();
        for (i, step) in steps.iter().enumerate() {
            model.step(step).unwrap();
            if i % 16 == 0 {
                // Gives the other thread a chance to run, at any place.
                std::thread::sleep(std::time::Duration::from_millis(2));
                check_live(&dir, &model.committed);
            }
        }
        drop(model.writer.take());
        check_live(&dir, &model.committed);
        verified(&dir, "killed");
        std::fs::remove_dir_all(dir.join("index")).unwrap();
        std::fs::remove_file(dir.join("checkpoints.tab")).unwrap();
        let rec = Recording::open(&dir).unwrap();
        let remain = rec.rows().iter().map(|r| r.id.0).collect();
        check_rows(&dir, &model.committed, &remain);
    }
}
