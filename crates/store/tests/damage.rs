//! Cut, flipped, unwritable: what was committed is given back bit for bit, or refused.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::*;
use proptest::prelude::*;
use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use stillframe_store::files::{Disk, Files, Output};
use stillframe_store::*;

/// A recording of several segments and runs, made once, and the model of it.
fn recorded(finish: bool) -> (tempfile::TempDir, PathBuf, Vec<Expected>) {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let mut model = Model::new(&dir, small());
    history(&mut model, 60).unwrap();
    if finish {
        model.finish().unwrap();
    } else {
        drop(model.writer.take());
    }
    assert!(fs::read_dir(dir.join("log")).unwrap().count() > 3);
    (tmp, dir, model.committed)
}

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut out = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let entry = entry.unwrap();
        if entry.file_type().unwrap().is_dir() {
            out.append(&mut files(&entry.path()));
        } else if entry.file_name() != "lock" {
            out.push(entry.path());
        }
    }
    out.sort();
    out
}

/// Checkpoints that are whole; wrong data panics inside `compare`.
fn readable(dir: &Path, want: &[Expected]) -> Vec<u64> {
    let Ok(rec) = Recording::open(dir) else {
        return Vec::new();
    };
    let _ = rec.resolve(&Moment::Last);
    rec.rows()
        .iter()
        .map(|r| r.id.0)
        .filter(|id| compare(&rec, *id, &want[*id as usize]).is_ok())
        .collect()
}

/// Where each checkpoint ends in a log taken as one file: (segment, offset).
fn ends(dir: &Path) -> Vec<(u64, u64)> {
    let rec = Recording::open(dir).unwrap();
    // The row says how many bytes of log a checkpoint took; walking the segments gives the places.
    let mut lengths: Vec<u64> = Vec::new();
    for n in 1.. {
        match fs::metadata(dir.join("log").join(format!("{n:08}.seg"))) {
            Ok(m) => lengths.push(m.len()),
            Err(_) => break,
        }
    }
    let (mut segment, mut at) = (0usize, 40u64);
    rec.rows()
        .iter()
        .map(|row| {
            let mut left = row.stored_bytes;
            while left > lengths[segment] - at {
                left -= lengths[segment] - at;
                segment += 1;
                at = 40;
            }
            at += left;
            (segment as u64 + 1, at)
        })
        .collect()
}

#[test]
fn a_cut_log_keeps_every_checkpoint_before_the_cut() {
    let (_tmp, dir, want) = recorded(false);
    let ends = ends(&dir);
    let log = dir.join("log");
    let segments = fs::read_dir(&log).unwrap().count() as u64;
    let originals: Vec<Vec<u8>> = (1..=segments)
        .map(|n| fs::read(log.join(format!("{n:08}.seg"))).unwrap())
        .collect();
    let mut seed = 99u32;
    for round in 0..1000u32 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let segment = u64::from(seed >> 8) % segments + 1;
        let length = originals[segment as usize - 1].len() as u64;
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let cut = u64::from(seed >> 4) % length;
        // As after a crash: nothing behind the cut. Every fourth time only this segment is short.
        let only_this = round % 4 == 3;
        for n in 1..=segments {
            let path = log.join(format!("{n:08}.seg"));
            let original = &originals[n as usize - 1];
            if n == segment {
                fs::write(&path, &original[..cut as usize]).unwrap();
            } else if n > segment && !only_this {
                let _ = fs::remove_file(&path);
            } else if fs::metadata(&path).map_or(0, |m| m.len()) != original.len() as u64 {
                fs::write(&path, original).unwrap();
            }
        }
        let good = readable(&dir, &want);
        for (id, end) in ends.iter().enumerate() {
            if *end <= (segment, cut) {
                assert!(
                    good.contains(&(id as u64)),
                    "checkpoint {id} lost by cut {segment}:{cut}"
                );
            }
        }
        if round % 50 == 0 {
            let report = verify(&dir, &mut |_, _| {}).unwrap();
            assert!(report.checkpoints >= good.len() as u64);
        }
    }
}

#[test]
fn any_file_cut_anywhere() {
    let (_tmp, dir, want) = recorded(true);
    let all = files(&dir);
    let mut seed = 7u32;
    for _ in 0..300 {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let path = &all[(seed >> 8) as usize % all.len()];
        let original = fs::read(path).unwrap();
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        let cut = (seed >> 8) as usize % original.len();
        fs::write(path, &original[..cut]).unwrap();
        let good = readable(&dir, &want);
        let data = path.starts_with(dir.join("log")) || path.ends_with("recording");
        assert!(
            data || good.len() == want.len(),
            "{} cut at {cut}",
            path.display()
        );
        fs::write(path, &original).unwrap();
    }
    assert_eq!(readable(&dir, &want).len(), want.len());
}

#[test]
fn flipped_bits_never_give_wrong_data() {
    let (_tmp, dir, want) = recorded(true);
    let all = files(&dir);
    let sizes: Vec<u64> = all.iter().map(|p| fs::metadata(p).unwrap().len()).collect();
    let total: u64 = sizes.iter().sum();
    let mut seed = 31337u64;
    let mut next = move || {
        seed = seed
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        seed >> 20
    };
    let mut most_lost = 0;
    for round in 0..1000 {
        let mut at = next() % total;
        let i = sizes
            .iter()
            .position(|n| {
                at < *n || {
                    at -= n;
                    false
                }
            })
            .unwrap();
        let path = &all[i];
        let original = fs::read(path).unwrap();
        let mut bad = original.clone();
        for _ in 0..=round % 3 {
            bad[at as usize] ^= 1 << (next() % 8);
            at = next() % original.len() as u64;
        }
        fs::write(path, &bad).unwrap();
        let good = readable(&dir, &want);
        let data = path.starts_with(dir.join("log")) || path.ends_with("recording");
        assert!(data || good.len() == want.len(), "{}", path.display());
        most_lost = most_lost.max(want.len() - good.len());
        if round % 20 == 0 && Recording::open(&dir).is_ok() {
            let report = verify(&dir, &mut |_, _| {}).unwrap();
            // Not everything matters (padding, reserved bytes), but what is lost is told.
            let silent = report.problems.is_empty() && report.notes.is_empty();
            assert!(good.len() == want.len() || !silent);
        }
        fs::write(path, &original).unwrap();
    }
    assert!(most_lost > 0);
    assert_eq!(readable(&dir, &want).len(), want.len());
}

/// Files of which writes fail after so many bytes, and go on failing.
#[derive(Debug)]
struct Failing {
    left: AtomicU64,
    errno: i32,
    failed: AtomicBool,
    syncs_fail: bool,
}

#[derive(Debug)]
struct FailingFile(Arc<dyn Output>, Arc<Failing>);

impl Failing {
    fn error(&self) -> io::Error {
        self.failed.store(true, Ordering::SeqCst);
        io::Error::from_raw_os_error(self.errno)
    }
}

#[derive(Debug)]
struct Fs(Arc<Failing>);

impl Files for Fs {
    fn create(&self, path: &Path) -> io::Result<Arc<dyn Output>> {
        Ok(Arc::new(FailingFile(
            Disk.create(path)?,
            Arc::clone(&self.0),
        )))
    }
    fn rename(&self, from: &Path, to: &Path) -> io::Result<()> {
        Disk.rename(from, to)
    }
    fn remove(&self, path: &Path) -> io::Result<()> {
        Disk.remove(path)
    }
    fn sync_directory(&self, path: &Path) -> io::Result<()> {
        Disk.sync_directory(path)
    }
}

impl Output for FailingFile {
    fn write_at(&self, offset: u64, bytes: &[u8]) -> io::Result<()> {
        let left = self.1.left.load(Ordering::SeqCst);
        if (bytes.len() as u64) <= left {
            self.1.left.fetch_sub(bytes.len() as u64, Ordering::SeqCst);
            return self.0.write_at(offset, bytes);
        }
        // A full disk takes what fits.
        self.1.left.store(0, Ordering::SeqCst);
        self.0.write_at(offset, &bytes[..left as usize])?;
        Err(self.1.error())
    }
    fn truncate(&self, length: u64) -> io::Result<()> {
        self.0.truncate(length)
    }
    fn sync(&self) -> io::Result<()> {
        if self.1.syncs_fail {
            Err(self.1.error())
        } else {
            Ok(())
        }
    }
    fn links(&self) -> io::Result<u64> {
        self.0.links()
    }
}

fn failing(left: u64, errno: i32) -> Arc<Failing> {
    let failed = AtomicBool::new(false);
    Arc::new(Failing {
        left: AtomicU64::new(left),
        errno,
        failed,
        syncs_fail: false,
    })
}

const ENOSPC: i32 = 28;
const EFBIG: i32 = 27;
const EIO: i32 = 5;

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_full_disk_keeps_what_was_committed(
        left in 0u64..200_000,
        errno in prop::sample::select(vec![ENOSPC, EFBIG, EIO]),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let fault = failing(left, errno);
        let Ok(mut model) = Model::with(&dir, small(), Arc::new(Fs(Arc::clone(&fault)))) else {
            prop_assert!(fault.failed.load(Ordering::SeqCst));
            return Ok(());
        };
        match history(&mut model, 60) {
            Ok(()) => {}
            Err(e) => {
                prop_assert_eq!(e.is_full(), errno != EIO, "{}", e);
                // It refuses everything from then on, even if there is room again.
                fault.left.store(u64::MAX, Ordering::SeqCst);
                let again = model.step(&Step::Noise { page: 0, seed: 1 });
                prop_assert!(matches!(again, Err(Error::Stopped(_))));
                let again = model.commit();
                prop_assert!(matches!(again, Err(Error::Stopped(_))));
            }
        }
        let committed = std::mem::take(&mut model.committed);
        drop(model);
        let good = readable(&dir, &committed);
        prop_assert_eq!(good.len(), committed.len());
        prop_assert_eq!(Recording::open(&dir).unwrap().rows().len(), committed.len());
    }
}

#[test]
fn a_failed_sync_stops_the_recording() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let fault = Arc::new(Failing {
        left: AtomicU64::new(u64::MAX),
        errno: EIO,
        failed: AtomicBool::new(false),
        syncs_fail: true,
    });
    // The header is made durable first, so creation itself tells.
    let made = Model::with(&dir, synced(), Arc::new(Fs(fault)));
    assert!(matches!(made.err(), Some(Error::Io { action: "sync", .. })));
}

#[test]
fn a_removed_directory_is_noticed() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let mut model = Model::new(&dir, small());
    model.commit().unwrap();
    fs::remove_dir_all(&dir).unwrap();
    let error = model.commit().unwrap_err();
    assert!(matches!(error, Error::Removed(_)), "{error}");
}

#[test]
fn only_a_recording_is_replaced_and_only_by_force() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let create = |force| Writer::create(&dir, &header(), small(), force);
    let first = create(false).unwrap();
    assert!(matches!(create(false), Err(Error::Exists(_))));
    assert!(matches!(create(true), Err(Error::Busy(_))));
    drop(first);
    fs::write(dir.join("notes.txt"), "mine").unwrap();
    fs::write(dir.join("log").join("notes.txt"), "mine").unwrap();
    drop(create(true).unwrap());
    assert_eq!(fs::read(dir.join("notes.txt")).unwrap(), b"mine");
    assert_eq!(
        fs::read(dir.join("log").join("notes.txt")).unwrap(),
        b"mine"
    );
    fs::write(dir.join("recording"), "something else").unwrap();
    assert!(matches!(create(true), Err(Error::NotRecording { .. })));
    fs::remove_file(dir.join("recording")).unwrap();
    assert!(matches!(create(true), Err(Error::NotRecording { .. })));
    let file = tmp.path().join("file");
    fs::write(&file, "x").unwrap();
    let made = Writer::create(&file, &header(), small(), true);
    assert!(matches!(made, Err(Error::NotRecording { .. })));
    assert!(matches!(
        Recording::open(&file),
        Err(Error::NotRecording { .. })
    ));
    assert_eq!(fs::read(&file).unwrap(), b"x");
}

/// Without the index a lost page table leaves a hole: what may have changed in it is refused, not
/// answered with older content.
#[test]
fn a_lost_table_never_gives_older_content() {
    let (_tmp, dir, want) = recorded(true);
    fs::remove_dir_all(dir.join("index")).unwrap();
    let mut refused = 0;
    for path in files(&dir.join("log")) {
        let original = fs::read(&path).unwrap();
        // Each record in turn that is a table (3) or a commit (4): a bit of its payload.
        for at in (40..original.len() - 32).step_by(8) {
            if original[at..at + 4] != *b"SFRC" || !matches!(original[at + 4], 3 | 4) {
                continue;
            }
            let mut bad = original.clone();
            bad[at + 24] ^= 1;
            fs::write(&path, &bad).unwrap();
            let good = readable(&dir, &want);
            refused += usize::from(good.len() < want.len());
        }
        fs::write(&path, &original).unwrap();
    }
    assert!(refused > want.len(), "{refused}");
}
