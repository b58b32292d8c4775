//! What questions cost: makes a recording of many checkpoints of a large process, and asks it.
//!
//! `cargo run --release -p stillframe-timeline --example speed -- DIR [CHECKPOINTS [MIB [DIRTY]]]`
#![allow(clippy::unwrap_used, clippy::expect_used, reason = "an example")]

use std::path::Path;
use std::time::Instant;
use stillframe_image::*;
use stillframe_store::*;
use stillframe_timeline::grep::{Match, Needle, Progress, Watch, grep};
use stillframe_timeline::{Direction, Past, Question, Raw, Step, Walk, find, writes};

const BASE: u64 = 0x7_f000_0000;
/// The page of the variable that changes fifty times and of nothing else.
const QUIET: u64 = 1000;
/// The page of one that changes fifty times while the rest of the page changes always.
const BUSY: u64 = 2000;

fn random(state: &mut u64) -> u64 {
    *state ^= *state << 13;
    *state ^= *state >> 7;
    *state ^= *state << 17;
    *state
}

fn make(dir: &Path, checkpoints: u64, pages: u64, dirty: u64) {
    let header = Header {
        id: *b"speedspeedspeed!",
        ..Header::default()
    };
    let mut writer = Writer::create(dir, &header, WriterOptions::default(), false).unwrap();
    let size = PAGE_SIZE as u64;
    let space = AddressSpace {
        mappings: vec![Mapping {
            start: BASE * size,
            end: (BASE + pages) * size,
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
            start: BASE * size,
            end: (BASE + pages) * size,
            since: CheckpointId(0),
        }],
    };
    let mut seed = 88_172_645_463_325_252;
    let mut memory: Vec<[u8; PAGE_SIZE]> = (0..pages)
        .map(|_| {
            let mut page = [0; PAGE_SIZE];
            for word in page.chunks_exact_mut(8).step_by(4) {
                word.copy_from_slice(&random(&mut seed).to_le_bytes());
            }
            page
        })
        .collect();
    for page in [QUIET, BUSY] {
        memory[page as usize][0x100..0x108].fill(0);
    }
    let every = (checkpoints / 50).max(1);
    for id in 0..checkpoints {
        let mut touched: Vec<u64> = if id == 0 {
            (0..pages).collect()
        } else {
            (0..dirty).map(|_| random(&mut seed) % pages).collect()
        };
        touched.retain(|p| id == 0 || *p != QUIET);
        touched.push(BUSY);
        if id % every == every / 2 {
            touched.push(QUIET);
            for page in [QUIET, BUSY] {
                memory[page as usize][0x100..0x108].copy_from_slice(&id.to_le_bytes());
            }
        }
        for page in touched {
            let at = 0x800 + (random(&mut seed) % 256) as usize * 8;
            if page != QUIET {
                let bytes = random(&mut seed).to_le_bytes();
                memory[page as usize][at..at + 8].copy_from_slice(&bytes);
            }
            let number = PageNumber(BASE + page);
            writer
                .page(SpaceId(0), number, &memory[page as usize])
                .unwrap();
        }
        let thread = Thread {
            tid: 1,
            registers: Registers {
                rip: id,
                ..Registers::default()
            },
            ..Thread::default()
        };
        let image = ProcessImage {
            space: space.clone(),
            threads: vec![thread],
            ..ProcessImage::default()
        };
        let tick = Tick {
            at_ns: id * 10_000_000,
            ..Tick::default()
        };
        writer.commit(&image.into(), &tick).unwrap();
    }
    writer.finish(&Summary::default()).unwrap();
}

fn timed<T>(what: &str, work: impl FnOnce() -> T) -> T {
    let begun = Instant::now();
    let out = work();
    println!("{:>12.3} ms  {what}", begun.elapsed().as_secs_f64() * 1e3);
    out
}

fn changes<Q: Question>(past: &Past<'_>, question: &Q, direction: Direction) -> (usize, u64, u64) {
    let life = past.life();
    let mut walk = Walk::new(past, question, life, direction).unwrap();
    let mut n = 0;
    while let Step::Change(_) = walk.next(&mut |_| true).unwrap() {
        n += 1;
    }
    (n, walk.effort().asked, walk.effort().compared)
}

struct Count(u64);

impl Watch for Count {
    fn found(&mut self, _: Match) -> bool {
        self.0 += 1;
        true
    }
    fn progress(&mut self, _: Progress) -> bool {
        true
    }
}

fn resident() -> String {
    let status = std::fs::read_to_string("/proc/self/status").unwrap_or_default();
    let line = status.lines().find(|l| l.starts_with("VmHWM"));
    line.unwrap_or_default().to_owned()
}

fn main() {
    let mut args = std::env::args().skip(1);
    let dir = args.next().expect("a directory");
    let mut number = |default| args.next().map_or(default, |n| n.parse().unwrap());
    let (checkpoints, mib, dirty) = (number(20_000), number(512), number(50));
    let dir = Path::new(&dir);
    if !dir.exists() {
        timed("to make it", || make(dir, checkpoints, mib * 256, dirty));
    }
    println!("{}", resident());
    let quiet: Raw = format!("u64@{:#x}", (BASE + QUIET) * 4096 + 0x100)
        .parse()
        .unwrap();
    let busy: Raw = format!("u64@{:#x}", (BASE + BUSY) * 4096 + 0x100)
        .parse()
        .unwrap();
    for round in ["first", "again"] {
        let recording = timed("opening", || Recording::open(dir).unwrap());
        let past = timed("the life of the process", || {
            Past::new(&recording, SpaceId(0)).unwrap()
        });
        let found = timed("history of the quiet one", || {
            changes(&past, &quiet, Direction::Forward)
        });
        println!("{round}: (changes, asked, compared) = {found:?}");
        let found = timed("once more", || changes(&past, &quiet, Direction::Forward));
        println!("{round}: {found:?}");
        let found = timed("backward", || changes(&past, &quiet, Direction::Backward));
        println!("{round}: {found:?}");
        let found = timed("history of the busy one", || {
            changes(&past, &busy, Direction::Forward)
        });
        println!("{round}: {found:?}");
    }
    let recording = Recording::open(dir).unwrap();
    let past = Past::new(&recording, SpaceId(0)).unwrap();
    let life = past.life();
    timed("the last change of the quiet one, from the end", || {
        let mut walk = Walk::new(&past, &quiet, life.clone(), Direction::Backward).unwrap();
        walk.next(&mut |_| true).unwrap()
    });
    let text = format!(
        "u64@{:#x} > {}",
        (BASE + BUSY) * 4096 + 0x100,
        checkpoints / 2
    );
    let condition: stillframe_timeline::Comparison = text.parse().unwrap();
    timed("first moment of a condition on the busy one", || {
        find::first(&past, &condition, life.clone(), &mut |_| true).unwrap()
    });
    timed("the same by halves", || {
        find::by_halves(&past, &condition, life.clone(), &mut |_| true).unwrap()
    });
    let mut n = 0;
    timed("writes to 64 KiB", || {
        let stretch = ((BASE + 5000) * 4096, 65536);
        writes(&past, stretch, life.clone(), &mut |_| true, &mut |_| {
            n += 1;
            true
        })
        .unwrap()
    });
    println!("{n} writes");
    timed(
        "evaluating at every checkpoint, with a reader for each",
        || {
            let mut changes = 0;
            let mut last = None;
            for row in recording.rows() {
                let memory = recording.memory(row.id, SpaceId(0)).unwrap();
                let mut bytes = [0; 8];
                memory.read(quiet.address, &mut bytes).unwrap();
                changes += u32::from(last.is_some_and(|l| l != bytes));
                last = Some(bytes);
            }
            println!("{changes} changes");
        },
    );
    println!("{}", resident());
    let mut count = Count(0);
    let needle = Needle::new(&77u64.wrapping_mul(0x1234_5678_9abc_def1).to_le_bytes(), 8).unwrap();
    let outcome = timed("grep", || {
        grep(&past, &needle, life.clone(), &mut count).unwrap()
    });
    println!("{} found, {outcome:?}", count.0);
    println!("{}", resident());
}
