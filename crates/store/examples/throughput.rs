//! What storing and reading pages costs: `cargo run --release --example throughput [DIR]`.
//!
//! Prints one line for each kind of load. All figures are wall-clock time of one thread, with the
//! index and sync threads running beside it.
#![allow(clippy::unwrap_used, reason = "a measuring program")]

use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stillframe_image::*;
use stillframe_store::*;

const BASE: u64 = 0x5_5550_0000;

struct Rng(u64);

impl Rng {
    fn next(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn checkpoint(pages: u64) -> Checkpoint {
    let (start, end) = (BASE * 4096, (BASE + pages) * 4096);
    ProcessImage {
        space: AddressSpace {
            mappings: vec![Mapping {
                start,
                end,
                read: true,
                write: true,
                execute: false,
                shared: false,
                offset: 0,
                device: (0, 0),
                inode: 0,
                name: Vec::new(),
                kind: MappingKind::Anonymous,
                coverage: Coverage::Tracked,
                file: None,
            }],
            files: Vec::new(),
            generations: vec![Generation {
                start,
                end,
                since: CheckpointId(0),
            }],
        },
        threads: vec![Thread {
            xstate: vec![0; 2696],
            ..Thread::default()
        }],
        ..ProcessImage::default()
    }
    .into()
}

fn fresh(dir: &Path, options: WriterOptions) -> Writer {
    let header = Header {
        program: b"throughput".to_vec(),
        ..Header::default()
    };
    Writer::create(dir, &header, options, true).unwrap()
}

fn report(name: &str, pages: u64, took: Duration, stored: u64) {
    println!(
        "{name:<44} {:>9.0} pages/s {:>7.2} us/page {:>8.1} B/page",
        pages as f64 / took.as_secs_f64(),
        took.as_secs_f64() * 1e6 / pages as f64,
        stored as f64 / pages as f64
    );
}

/// What a page costs, by what it holds: medians of five rounds of 200 checkpoints of 500 pages, put in
/// ascending order as boundaries put them, with one word changed, unchanged, or new.
fn kinds(dir: &Path, mib: u64) {
    type Change = fn(&mut [u8; 4096], &mut Rng);
    const KINDS: [(&str, Change); 3] = [
        ("one random word", |page, rng| {
            let word = (rng.next() % 512) as usize;
            page.as_chunks_mut::<8>().0[word] = rng.next().to_le_bytes();
        }),
        ("unchanged", |_, _| {}),
        ("noise", |page, rng| {
            for word in page.as_chunks_mut::<8>().0 {
                *word = rng.next().to_le_bytes();
            }
        }),
    ];
    let options = WriterOptions {
        sync_every: None,
        ..WriterOptions::default()
    };
    let mut writer = fresh(dir, options);
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut memory = vec![[0u8; 4096]; (mib as usize) << 8];
    for page in &mut memory {
        page[..8].copy_from_slice(&rng.next().to_le_bytes());
    }
    let at = checkpoint(memory.len() as u64);
    let put = |writer: &mut Writer, memory: &[[u8; 4096]], chosen: &[usize]| {
        for &p in chosen {
            writer
                .page(SpaceId(0), PageNumber(BASE + p as u64), &memory[p])
                .unwrap();
        }
        writer.commit(&at, &Tick::default()).unwrap().stored_bytes
    };
    put(&mut writer, &memory, &Vec::from_iter(0..memory.len()));
    for (name, change) in KINDS {
        let mut rounds = Vec::new();
        for _ in 0..5 {
            let (mut pages, mut spent, mut stored) = (0, Duration::ZERO, 0);
            for _ in 0..200 {
                let mut chosen: Vec<usize> = (0..500)
                    .map(|_| rng.next() as usize % memory.len())
                    .collect();
                chosen.sort_unstable();
                chosen.dedup();
                for &p in &chosen {
                    change(&mut memory[p], &mut rng);
                }
                let begin = Instant::now();
                stored += put(&mut writer, &memory, &chosen);
                spent += begin.elapsed();
                pages += chosen.len() as u64;
            }
            rounds.push((spent, pages, stored));
        }
        rounds.sort_unstable();
        let (spent, pages, stored) = rounds[2];
        let name = format!("500 of {mib} MiB a checkpoint: {name}");
        report(&name, pages, spent, stored);
    }
}

/// Random words of random pages of 512 MiB, 1,000 pages a checkpoint.
fn sparse(dir: &Path, checkpoints: u64) {
    const PAGES: u64 = 131_072;
    let mut memory = vec![[0u8; 4096]; PAGES as usize];
    let mut rng = Rng(88172645463325252);
    for page in &mut memory {
        for word in page.as_chunks_mut::<8>().0 {
            *word = rng.next().to_le_bytes();
        }
    }
    let mut writer = fresh(dir, WriterOptions::default());
    let mut at = checkpoint(PAGES);
    let begin = Instant::now();
    for (i, page) in memory.iter().enumerate() {
        writer
            .page(SpaceId(0), PageNumber(BASE + i as u64), page)
            .unwrap();
    }
    let done = writer.commit(&at, &Tick::default()).unwrap();
    report(
        "first: 512 MiB of noise",
        PAGES,
        begin.elapsed(),
        done.stored_bytes,
    );
    let (mut spent, mut commits, mut stored) = (Duration::ZERO, Vec::new(), 0);
    for n in 0..checkpoints {
        let mut dirty: Vec<usize> = (0..1000).map(|_| (rng.next() % PAGES) as usize).collect();
        dirty.sort_unstable();
        dirty.dedup();
        for &p in &dirty {
            let word = (rng.next() % 512) as usize;
            memory[p].as_chunks_mut::<8>().0[word] = rng.next().to_le_bytes();
        }
        at.processes[0].threads[0].registers.rip = n;
        let begin = Instant::now();
        for &p in &dirty {
            writer
                .page(SpaceId(0), PageNumber(BASE + p as u64), &memory[p])
                .unwrap();
        }
        let putting = begin.elapsed();
        let done = writer
            .commit(
                &at,
                &Tick {
                    at_ns: n,
                    ..Tick::default()
                },
            )
            .unwrap();
        spent += begin.elapsed();
        commits.push(begin.elapsed() - putting);
        stored += done.stored_bytes;
    }
    report(
        "then: one random word, 1,000 pages/checkpoint",
        checkpoints * 1000,
        spent,
        stored,
    );
    commits.sort_unstable();
    println!(
        "  commit p50 {:?} p99 {:?} max {:?}; writer holds {} MiB",
        commits[commits.len() / 2],
        commits[commits.len() * 99 / 100],
        commits[commits.len() - 1],
        writer.memory_bytes() >> 20
    );
    let begin = Instant::now();
    writer.finish(&Summary::default()).unwrap();
    println!(
        "  finish {:?}; on disk {} MiB",
        begin.elapsed(),
        tree(dir) >> 20
    );
    let begin = Instant::now();
    let recording = Recording::open(dir).unwrap();
    let opened = begin.elapsed();
    let last = recording.resolve(&Moment::Last).unwrap();
    let begin = Instant::now();
    let view = recording.memory(last, SpaceId(0)).unwrap();
    let mut out = [0u8; 4096];
    view.page(PageNumber(BASE + 77), &mut out).unwrap();
    println!("  open {opened:?}; first page {:?}", begin.elapsed());
    let begin = Instant::now();
    for _ in 0..2000 {
        let p = rng.next() % PAGES;
        view.page(PageNumber(BASE + p), &mut out).unwrap();
        assert!(out == memory[p as usize]);
    }
    report(
        "read: random pages of the last checkpoint",
        2000,
        begin.elapsed(),
        0,
    );
    let begin = Instant::now();
    let n = view
        .pages_with_versions(PageNumber(0)..PageNumber(u64::MAX))
        .unwrap()
        .len();
    println!("  versions of all {n} pages: {:?}", begin.elapsed());
    let begin = Instant::now();
    for (p, page) in memory.iter().enumerate() {
        view.page(PageNumber(BASE + p as u64), &mut out).unwrap();
        assert!(out == *page);
    }
    report("read: all pages in order", PAGES, begin.elapsed(), 0);
}

/// Pages of this machine's libraries, as new content.
fn library(dir: &Path) {
    let mut pages = Vec::new();
    for folder in [
        "/usr/lib/x86_64-linux-gnu",
        "/usr/lib/gcc/x86_64-linux-gnu/14",
        "/usr/bin",
    ] {
        for entry in std::fs::read_dir(folder).into_iter().flatten().flatten() {
            if pages.len() < 60_000 && entry.file_type().is_ok_and(|t| t.is_file()) {
                let bytes = std::fs::read(entry.path()).unwrap_or_default();
                pages.extend(bytes.as_chunks::<4096>().0.iter().copied());
            }
        }
    }
    let mut writer = fresh(dir, WriterOptions::default());
    let begin = Instant::now();
    for (i, page) in pages.iter().enumerate() {
        writer
            .page(SpaceId(0), PageNumber(BASE + i as u64), page)
            .unwrap();
    }
    let done = writer
        .commit(&checkpoint(pages.len() as u64), &Tick::default())
        .unwrap();
    report(
        "new: pages of libraries and programs",
        pages.len() as u64,
        begin.elapsed(),
        done.stored_bytes,
    );
    println!(
        "  {} new, {} duplicates, {} zero",
        done.new_versions, done.duplicates, done.zeros
    );
}

/// Many small checkpoints, opened.
fn many(dir: &Path, finish: bool) {
    let mut writer = fresh(dir, WriterOptions::default());
    let mut at = checkpoint(64);
    let mut page = [0u8; 4096];
    let begin = Instant::now();
    for n in 0..20_000u64 {
        for p in 0..10 {
            page[(n as usize * 8) % 4096] = n as u8 + p;
            writer
                .page(SpaceId(0), PageNumber(BASE + u64::from(p)), &page)
                .unwrap();
        }
        at.processes[0].threads[0].registers.rip = n;
        writer
            .commit(
                &at,
                &Tick {
                    at_ns: n * 1000,
                    ..Tick::default()
                },
            )
            .unwrap();
    }
    println!("20,000 checkpoints of 10 pages: {:?}", begin.elapsed());
    if finish {
        writer.finish(&Summary::default()).unwrap();
    } else {
        drop(writer);
    }
    let begin = Instant::now();
    let recording = Recording::open(dir).unwrap();
    let opened = begin.elapsed();
    let mut out = [0u8; 4096];
    let last = recording.resolve(&Moment::Last).unwrap();
    recording
        .memory(last, SpaceId(0))
        .unwrap()
        .page(PageNumber(BASE), &mut out)
        .unwrap();
    println!(
        "  {}: open {opened:?}, then first page {:?}; {} MiB",
        if finish { "finished" } else { "killed" },
        begin.elapsed() - opened,
        tree(dir) >> 20
    );
}

fn tree(dir: &Path) -> u64 {
    let entries = std::fs::read_dir(dir).into_iter().flatten().flatten();
    entries
        .map(|e| match e.metadata() {
            Ok(m) if m.is_dir() => tree(&e.path()),
            Ok(m) => m.len(),
            Err(_) => 0,
        })
        .sum()
}

fn main() {
    let dir = std::env::args_os()
        .nth(1)
        .map_or_else(std::env::temp_dir, PathBuf::from);
    let dir = dir.join(format!("throughput-{}.still", std::process::id()));
    kinds(&dir, 64);
    kinds(&dir, 512);
    sparse(&dir, 2000);
    library(&dir);
    many(&dir, true);
    many(&dir, false);
    std::fs::remove_dir_all(&dir).unwrap();
}
