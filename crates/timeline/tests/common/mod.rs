//! Random recordings beside a model of what they hold.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use proptest::prelude::*;
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};
use stillframe_image::*;
use stillframe_store::retention::{Change, Retainer};
use stillframe_store::*;

pub type Page = [u8; PAGE_SIZE];

/// First page of what is mapped.
pub const BASE: u64 = 0x7_f000_0000;
/// Pages that may be mapped.
pub const PAGES: u64 = 6;
/// Processes that may be there.
pub const PROCESSES: u32 = 3;

/// A page of the model.
#[derive(Clone, Debug, PartialEq)]
pub struct Held {
    pub since: u64,
    pub omitted: bool,
    pub content: Box<Page>,
}

/// A process of the model.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Process {
    pub pages: BTreeMap<u64, Held>,
    pub rip: u64,
    pub tids: u32,
}

/// What happens between checkpoints.
#[derive(Clone, Debug)]
pub enum Step {
    /// Writes a few bytes.
    Poke {
        process: u32,
        page: u64,
        at: u16,
        value: u8,
    },
    /// Writes a word of few possible values at one of few places, perhaps across pages.
    Word {
        process: u32,
        place: u8,
        value: u8,
    },
    /// A page is given as it is.
    Again {
        process: u32,
        page: u64,
    },
    Zero {
        process: u32,
        page: u64,
    },
    /// Pages are mapped anew.
    Map {
        process: u32,
        page: u64,
        n: u64,
        written: bool,
    },
    /// Pages are mapped that are not captured.
    Omit {
        process: u32,
        page: u64,
    },
    Unmap {
        process: u32,
        page: u64,
        n: u64,
    },
    Begin {
        process: u32,
    },
    End {
        process: u32,
    },
    Registers {
        process: u32,
        rip: u8,
        tids: u8,
    },
    Commit,
}

pub fn step() -> impl Strategy<Value = Step> {
    let (process, page) = (0..PROCESSES, 0..PAGES);
    prop_oneof![
        4 => (process.clone(), page.clone(), 0u16..4096, any::<u8>())
            .prop_map(|(process, page, at, value)| Step::Poke { process, page, at, value }),
        8 => (process.clone(), 0u8..8, 0u8..4)
            .prop_map(|(process, place, value)| Step::Word { process, place, value }),
        2 => (process.clone(), page.clone()).prop_map(|(process, page)| Step::Again { process, page }),
        1 => (process.clone(), page.clone()).prop_map(|(process, page)| Step::Zero { process, page }),
        2 => (process.clone(), page.clone(), 1..4u64, any::<bool>())
            .prop_map(|(process, page, n, written)| Step::Map { process, page, n, written }),
        1 => (process.clone(), page.clone()).prop_map(|(process, page)| Step::Omit { process, page }),
        1 => (process.clone(), page, 1..3u64)
            .prop_map(|(process, page, n)| Step::Unmap { process, page, n }),
        1 => (process.clone()).prop_map(|process| Step::Begin { process }),
        1 => (process.clone()).prop_map(|process| Step::End { process }),
        2 => (process, 0u8..4, 1u8..3)
            .prop_map(|(process, rip, tids)| Step::Registers { process, rip, tids }),
        10 => Just(Step::Commit),
    ]
}

/// Places of words: inside a page, at its ends, and across two.
pub fn place(number: u8) -> u64 {
    let page = PAGE_SIZE as u64;
    BASE * page
        + match number {
            0 => 0x100,
            1 => 0x104,
            2 => page - 8,
            3 => page - 4,
            4 => 2 * page - 3,
            5 => 3 * page,
            6 => 4 * page - 1,
            _ => 5 * page + 0x20,
        }
}

/// What a word of a number holds.
pub fn word(value: u8) -> [u8; 8] {
    match value {
        0 => [0; 8],
        1 => *b"stillfra",
        2 => place(0).to_le_bytes(),
        _ => place(5).to_le_bytes(),
    }
}

pub struct Model {
    pub dir: PathBuf,
    writer: Option<Writer>,
    pub now: BTreeMap<u32, Process>,
    /// For each checkpoint made, what it holds; processes that are not there are absent.
    pub all: Vec<BTreeMap<u32, Process>>,
    pub remaining: Vec<u64>,
    ended: Vec<u32>,
    appeared: bool,
    /// Pages put for the checkpoint to come.
    put: BTreeSet<(u32, u64)>,
}

impl Model {
    pub fn new(dir: &Path) -> Self {
        let header = Header {
            id: *b"0123456789abcdef",
            ..Header::default()
        };
        let options = WriterOptions {
            shadow_bytes: 64 << 10,
            segment_bytes: 16 << 10,
            pack_bytes: 8 << 10,
            flush_entries: 20,
            dedup_entries: 64,
            chain_limit: 3,
            sync_every: None,
            ..WriterOptions::default()
        };
        let mut now = BTreeMap::new();
        now.insert(0, Process::default());
        Self {
            dir: dir.into(),
            writer: Some(Writer::create(dir, &header, options, false).unwrap()),
            now,
            all: Vec::new(),
            remaining: Vec::new(),
            ended: Vec::new(),
            appeared: false,
            put: BTreeSet::new(),
        }
    }

    /// One whose first process has all its pages.
    pub fn mapped(dir: &Path) -> Self {
        let mut model = Self::new(dir);
        model.step(&Step::Map {
            process: 0,
            page: 0,
            n: PAGES,
            written: true,
        });
        model
    }

    fn next(&self) -> u64 {
        self.all.len() as u64
    }

    fn put(&mut self, process: u32, page: u64) {
        let Some(held) = self.now.get(&process).and_then(|p| p.pages.get(&page)) else {
            return;
        };
        if held.omitted {
            return;
        }
        let (number, content) = (PageNumber(BASE + page), held.content.clone());
        let writer = self.writer.as_mut().unwrap();
        writer.page(SpaceId(process), number, &content).unwrap();
        self.put.insert((process, page));
    }

    fn write(&mut self, process: u32, address: u64, bytes: &[u8]) {
        let page_size = PAGE_SIZE as u64;
        let mut touched = Vec::new();
        let Some(there) = self.now.get_mut(&process) else {
            return;
        };
        for (i, byte) in bytes.iter().enumerate() {
            let at = address + i as u64 - BASE * page_size;
            if let Some(held) = there.pages.get_mut(&(at / page_size)) {
                held.content[(at % page_size) as usize] = *byte;
                touched.push(at / page_size);
            }
        }
        touched.dedup();
        for page in touched {
            self.put(process, page);
        }
    }

    pub fn step(&mut self, step: &Step) {
        let next = self.next();
        match *step {
            Step::Poke {
                process,
                page,
                at,
                value,
            } => {
                let address = (BASE + page) * PAGE_SIZE as u64 + u64::from(at);
                self.write(process, address, &[value]);
            }
            Step::Word {
                process,
                place: at,
                value,
            } => {
                self.write(process, place(at), &word(value));
            }
            Step::Again { process, page } => self.put(process, page),
            Step::Zero { process, page } => {
                if let Some(held) = self
                    .now
                    .get_mut(&process)
                    .and_then(|p| p.pages.get_mut(&page))
                {
                    *held.content = [0; PAGE_SIZE];
                }
                self.put(process, page);
            }
            Step::Map {
                process,
                page,
                n,
                written,
            } => {
                for page in page..(page + n).min(PAGES) {
                    let Some(there) = self.now.get_mut(&process) else {
                        return;
                    };
                    let mut content = Box::new([0; PAGE_SIZE]);
                    if written {
                        content[0x100] = 7;
                    }
                    there.pages.insert(
                        page,
                        Held {
                            since: next,
                            omitted: false,
                            content,
                        },
                    );
                    // What was put for this checkpoint before is of the memory that is gone, even if
                    // something else, or nothing, was there in between.
                    if written || self.put.contains(&(process, page)) {
                        self.put(process, page);
                    }
                }
            }
            Step::Omit { process, page } => {
                if let Some(there) = self.now.get_mut(&process) {
                    let content = Box::new([0; PAGE_SIZE]);
                    let held = Held {
                        since: next,
                        omitted: true,
                        content,
                    };
                    there.pages.insert(page, held);
                }
            }
            Step::Unmap { process, page, n } => {
                if let Some(there) = self.now.get_mut(&process) {
                    for page in page..page + n {
                        there.pages.remove(&page);
                    }
                }
            }
            Step::Begin { process } => {
                let fresh = !self.now.contains_key(&process) && !self.ended.contains(&process);
                // Numbers count up.
                let above = self.now.keys().chain(&self.ended).all(|p| *p < process);
                if fresh && above {
                    self.now.insert(process, Process::default());
                    self.appeared = true;
                    for page in 0..PAGES {
                        self.step(&Step::Map {
                            process,
                            page,
                            n: 1,
                            written: page % 2 == 0,
                        });
                    }
                }
            }
            Step::End { process } => {
                if self.now.len() > 1 && self.now.remove(&process).is_some() {
                    self.ended.push(process);
                    self.writer.as_mut().unwrap().forget(SpaceId(process));
                }
            }
            Step::Registers { process, rip, tids } => {
                if let Some(there) = self.now.get_mut(&process) {
                    there.rip = place(rip);
                    there.tids = u32::from(tids);
                }
            }
            Step::Commit => self.commit(),
        }
    }

    pub fn commit(&mut self) {
        let id = self.next();
        let processes = self
            .now
            .iter()
            .map(|(number, process)| ProcessImage {
                id: SpaceId(*number),
                parent: (*number > 0).then_some(SpaceId(0)),
                space: space_of(process),
                threads: threads_of(process),
                ..ProcessImage::default()
            })
            .collect();
        let checkpoint = Checkpoint {
            processes,
            ..Checkpoint::default()
        };
        let marks = if self.appeared { Marks::FORK } else { Marks(0) };
        self.appeared = false;
        self.put.clear();
        let tick = Tick {
            at_ns: id * 10_000_000,
            marks,
            ..Tick::default()
        };
        let done = self
            .writer
            .as_mut()
            .unwrap()
            .commit(&checkpoint, &tick)
            .unwrap();
        assert_eq!(done.id.0, id);
        self.all.push(self.now.clone());
        self.remaining.push(id);
    }

    /// Ends the recording, removes and merges some checkpoints, and opens it.
    pub fn finish(&mut self, gone: &[(u64, u64)]) -> Recording {
        let writer = self.writer.take().unwrap();
        writer.finish(&Summary::default()).unwrap();
        if !gone.is_empty() {
            let mut retainer = Retainer::open(&self.dir).unwrap();
            for (i, (from, n)) in gone.iter().enumerate() {
                let end = self.all.len() as u64;
                let (from, to) = (from % end, (from % end + n).min(end));
                let there = |n: &u64| (from..to).contains(n);
                let left = self.remaining.iter().filter(|n| !there(n)).count();
                if left == 0 {
                    continue;
                }
                let squash = i % 2 == 1 && self.remaining.contains(&from);
                if squash && self.remaining.contains(&to) && from < to {
                    let change = Change::Squash { from, to };
                    retainer.change(&change, &mut |_, _| true).unwrap();
                } else if to - from > 1 || self.remaining.contains(&from) {
                    let change = Change::Remove(vec![(from, to)]);
                    // Half of them stay in the log, unseen.
                    retainer.change(&change, &mut |_, _| i % 3 == 0).unwrap();
                } else {
                    continue;
                }
                self.remaining.retain(|n| !there(n));
            }
        }
        let recording = Recording::open(&self.dir).unwrap();
        let ids: Vec<u64> = recording.rows().iter().map(|r| r.id.0).collect();
        assert_eq!(ids, self.remaining);
        recording
    }

    /// What a process is at a position.
    pub fn at(&self, position: usize, process: u32) -> Option<&Process> {
        self.all[self.remaining[position] as usize].get(&process)
    }
}

fn space_of(process: &Process) -> AddressSpace {
    let size = PAGE_SIZE as u64;
    let mut space = AddressSpace::default();
    for (page, held) in &process.pages {
        let (start, end) = ((BASE + page) * size, (BASE + page + 1) * size);
        space.mappings.push(Mapping {
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
            coverage: if held.omitted {
                Coverage::Omitted("a model".into())
            } else {
                Coverage::Tracked
            },
            file: None,
        });
        let since = CheckpointId(held.since);
        match space.generations.last_mut() {
            Some(g) if g.since == since && g.end == start => g.end = end,
            _ => space.generations.push(Generation { start, end, since }),
        }
    }
    space
}

fn threads_of(process: &Process) -> Vec<Thread> {
    (0..process.tids.max(1))
        .map(|n| Thread {
            tid: n + 1,
            registers: Registers {
                rip: process.rip + u64::from(n),
                ..Registers::default()
            },
            ..Thread::default()
        })
        .collect()
}

impl Process {
    /// Bytes at an address; `None` if one of them is not there.
    pub fn read(&self, address: u64, length: u64) -> Option<Vec<u8>> {
        let size = PAGE_SIZE as u64;
        (address..address + length)
            .map(|a| {
                let page = (a / size).checked_sub(BASE)?;
                let held = self.pages.get(&page).filter(|h| !h.omitted)?;
                Some(held.content[(a % size) as usize])
            })
            .collect()
    }
}
