//! A recording beside a model of what it should hold.
#![allow(dead_code, reason = "each test file uses its part")]
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

use std::collections::BTreeMap;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;
use stillframe_image::*;
use stillframe_store::files::{Disk, Files};
use stillframe_store::*;

pub type Page = [u8; PAGE_SIZE];

/// First page of the one mapping of the model.
pub const BASE: u64 = 0x7_f000_0000;
pub const PAGES: u64 = 24;

/// What a checkpoint should hold: for each page its content, if it was ever written.
#[derive(Clone, Debug, Default)]
pub struct Expected {
    pub space: AddressSpace,
    pub pages: BTreeMap<u64, Page>,
    pub threads: Vec<Thread>,
}

#[derive(Clone, Debug)]
pub enum Step {
    /// Change some bytes of a page.
    Poke {
        page: u64,
        at: u16,
        value: u8,
        n: u8,
    },
    /// Fill a page with noise.
    Noise {
        page: u64,
        seed: u32,
    },
    /// Make a page equal to another.
    Copy {
        page: u64,
        from: u64,
    },
    Zero {
        page: u64,
    },
    /// Put a page as it is.
    Again {
        page: u64,
    },
    /// New memory in place of some pages.
    Remap {
        page: u64,
        n: u64,
    },
    Forget,
    Abandon,
    Commit,
}

pub fn header() -> Header {
    Header {
        id: *b"0123456789abcdef",
        program: b"/bin/prog".to_vec(),
        arguments: b"prog\0-x\0".to_vec(),
        pid: 77,
        requested_hz: 100.0,
        tracker: "model".into(),
        ..Header::default()
    }
}

pub fn small() -> WriterOptions {
    WriterOptions {
        shadow_bytes: 64 << 10,
        segment_bytes: 16 << 10,
        pack_bytes: 8 << 10,
        flush_entries: 20,
        dedup_entries: 64,
        chain_limit: 3,
        sync_every: None,
        ..WriterOptions::default()
    }
}

pub struct Model {
    pub writer: Option<Writer>,
    pub now: Expected,
    /// As of the last commit: what an abandoned checkpoint falls back to.
    pub committed: Vec<Expected>,
    /// Pages put since the last commit.
    dirty: std::collections::BTreeSet<u64>,
    since: BTreeMap<u64, u64>,
}

fn noise(seed: u32) -> Page {
    let mut s = seed | 1;
    std::array::from_fn(|_| {
        s ^= s << 13;
        s ^= s >> 17;
        s ^= s << 5;
        (s >> 11) as u8
    })
}

impl Model {
    pub fn new(dir: &Path, options: WriterOptions) -> Self {
        Self::with(dir, options, Arc::new(Disk)).unwrap()
    }

    pub fn with(dir: &Path, options: WriterOptions, files: Arc<dyn Files>) -> Result<Self, Error> {
        let writer = Writer::create_with(dir, &header(), options, false, files)?;
        Ok(Self {
            writer: Some(writer),
            now: Expected::default(),
            committed: Vec::new(),
            dirty: Default::default(),
            since: (0..PAGES).map(|p| (p, 0)).collect(),
        })
    }

    fn content(&self, page: u64) -> Page {
        self.now.pages.get(&page).copied().unwrap_or([0; PAGE_SIZE])
    }

    fn put(&mut self, page: u64, content: Page) -> Result<(), Error> {
        let number = PageNumber(BASE + page);
        self.now.pages.insert(page, content);
        self.dirty.insert(page);
        self.writer
            .as_mut()
            .unwrap()
            .page(SpaceId(0), number, &content)
    }

    pub fn step(&mut self, step: &Step) -> Result<(), Error> {
        match *step {
            Step::Poke { page, at, value, n } => {
                let mut p = self.content(page);
                for i in 0..usize::from(n) {
                    p[(usize::from(at) + i * 37) % PAGE_SIZE] = value.wrapping_add(i as u8);
                }
                self.put(page, p)
            }
            Step::Noise { page, seed } => self.put(page, noise(seed)),
            Step::Copy { page, from } => self.put(page, self.content(from)),
            Step::Again { page } => self.put(page, self.content(page)),
            Step::Zero { page } => {
                self.now.pages.insert(page, [0; PAGE_SIZE]);
                self.dirty.insert(page);
                let number = PageNumber(BASE + page);
                self.writer.as_mut().unwrap().zero(SpaceId(0), number)
            }
            Step::Remap { page, n } => {
                let next = self.writer.as_ref().unwrap().next_id().0;
                for p in page..(page + n).min(PAGES) {
                    self.since.insert(p, next);
                    // The tracker would put what the new memory holds; some of it stays untouched.
                    if p % 3 == 0 {
                        self.put(p, self.content(p))?;
                    } else {
                        self.now.pages.remove(&p);
                        self.dirty.remove(&p);
                        // It may have been put in this very checkpoint, before the remapping.
                        self.writer
                            .as_mut()
                            .unwrap()
                            .zero(SpaceId(0), PageNumber(BASE + p))?;
                    }
                }
                Ok(())
            }
            Step::Forget => {
                self.writer.as_mut().unwrap().forget(SpaceId(0));
                Ok(())
            }
            Step::Abandon => {
                self.writer.as_mut().unwrap().abandon();
                // The target went on: what was dirty stays dirty and is put again.
                let again: Vec<(u64, Page)> =
                    self.dirty.iter().map(|p| (*p, self.content(*p))).collect();
                for (p, content) in again {
                    self.put(p, content)?;
                }
                Ok(())
            }
            Step::Commit => self.commit(),
        }
    }

    pub fn commit(&mut self) -> Result<(), Error> {
        let page = PAGE_SIZE as u64;
        let mut generations: Vec<Generation> = Vec::new();
        for (p, since) in &self.since {
            let (start, end) = ((BASE + p) * page, (BASE + p + 1) * page);
            match generations.last_mut() {
                Some(g) if g.since.0 == *since && g.end == start => g.end = end,
                _ => generations.push(Generation {
                    start,
                    end,
                    since: CheckpointId(*since),
                }),
            }
        }
        self.now.space = AddressSpace {
            mappings: vec![Mapping {
                start: BASE * page,
                end: (BASE + PAGES) * page,
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
            generations,
        };
        let id = self.committed.len() as u64;
        self.now.threads = vec![Thread {
            tid: 1,
            registers: Registers {
                rip: id,
                ..Registers::default()
            },
            ..Thread::default()
        }];
        let checkpoint = ProcessImage {
            space: self.now.space.clone(),
            threads: self.now.threads.clone(),
            ..ProcessImage::default()
        }
        .into();
        let done = self
            .writer
            .as_mut()
            .unwrap()
            .commit(&checkpoint, &tick(id))?;
        assert_eq!(done.id.0, id);
        self.dirty.clear();
        self.committed.push(self.now.clone());
        Ok(())
    }

    pub fn finish(&mut self) -> Result<(), Error> {
        let summary = Summary {
            how: "exited 0".into(),
            ..Summary::default()
        };
        self.writer.take().unwrap().finish(&summary)
    }
}

pub fn tick(id: u64) -> Tick {
    Tick {
        at_ns: id * 10_000_000,
        dirty_pages: id * 3,
        processes: 1,
        ..Tick::default()
    }
}

/// Compares one checkpoint with what it should hold. `Err` is the recording's error; wrong data
/// panics.
pub fn compare(rec: &Recording, id: u64, want: &Expected) -> Result<(), Error> {
    assert_eq!(rec.row(CheckpointId(id)).unwrap().tick, tick(id));
    compare_content(rec, id, want)
}

/// As [`compare`], whatever the tick says.
pub fn compare_content(rec: &Recording, id: u64, want: &Expected) -> Result<(), Error> {
    let id = CheckpointId(id);
    let checkpoint = rec.checkpoint(id)?;
    let [process] = &checkpoint.processes[..] else {
        panic!("{} processes", checkpoint.processes.len());
    };
    assert_eq!(process.space, want.space);
    assert_eq!(process.threads, want.threads);
    let memory = rec.memory(id, SpaceId(0))?;
    let mut out = [0; PAGE_SIZE];
    let mut first_error = None;
    for p in 0..PAGES {
        match memory.page(PageNumber(BASE + p), &mut out) {
            Ok(source) => {
                let page = want.pages.get(&p).copied().unwrap_or([0; PAGE_SIZE]);
                assert!(out == page, "checkpoint {id} page {p} from {source:?}");
            }
            Err(e) => first_error = Some(e),
        }
    }
    match memory.pages_with_versions(PageNumber(0)..PageNumber(u64::MAX)) {
        Ok(list) => {
            assert!(list.is_sorted_by(|a, b| a.0 < b.0));
            if first_error.is_none() {
                for p in 0..PAGES {
                    let page = PageNumber(BASE + p);
                    let listed = list.iter().find(|(n, _)| *n == page).map(|(_, v)| *v);
                    assert_eq!(memory.version(page)?, listed, "checkpoint {id} page {p}");
                }
            }
        }
        Err(e) => first_error = first_error.or(Some(e)),
    }
    first_error.map_or(Ok(()), Err)
}

/// A fixed history with a bit of everything.
pub fn history(model: &mut Model, checkpoints: u64) -> Result<(), Error> {
    let mut seed = 12345u32;
    let mut next = move || {
        seed = seed.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
        seed >> 8
    };
    for _ in 0..checkpoints {
        for _ in 0..6 {
            let page = u64::from(next()) % PAGES;
            let step = match next() % 10 {
                0 => Step::Noise { page, seed: next() },
                1 => Step::Copy {
                    page,
                    from: u64::from(next()) % PAGES,
                },
                2 => Step::Zero { page },
                3 => Step::Again { page },
                4 if next() % 4 == 0 => Step::Remap { page, n: 5 },
                _ => Step::Poke {
                    page,
                    at: next() as u16,
                    value: next() as u8,
                    n: 5,
                },
            };
            model.step(&step)?;
        }
        if next() % 8 == 0 {
            model.step(&Step::Abandon)?;
        }
        model.commit()?;
    }
    Ok(())
}

/// A sync that is on, for tests of its errors.
pub fn synced() -> WriterOptions {
    WriterOptions {
        sync_every: Some(Duration::from_millis(1)),
        ..small()
    }
}

/// Copies a directory tree.
pub fn copy_tree(from: &Path, to: &Path) {
    std::fs::create_dir_all(to).unwrap();
    for entry in std::fs::read_dir(from).unwrap() {
        let entry = entry.unwrap();
        let target = to.join(entry.file_name());
        if entry.file_type().unwrap().is_dir() {
            copy_tree(&entry.path(), &target);
        } else {
            std::fs::copy(entry.path(), target).unwrap();
        }
    }
}
