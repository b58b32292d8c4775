//! The content of written files in a recording: whatever is written, cut off, let go of and taken up
//! again, removed, compacted and read after all that, every checkpoint gives out what each file held.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::*;
use proptest::prelude::*;
use std::collections::BTreeMap;
use stillframe_image::file::FILE_SPACES;
use stillframe_image::*;
use stillframe_store::retention::*;
use stillframe_store::*;

const PAGE: usize = PAGE_SIZE;

#[derive(Clone, Debug)]
enum Op {
    /// A new file.
    Open,
    /// Bytes of a file change.
    Write {
        file: usize,
        at: usize,
        seed: u8,
        length: usize,
    },
    /// It gets another length.
    Cut {
        file: usize,
        length: usize,
    },
    /// It is watched no more.
    Drop {
        file: usize,
    },
    /// Its content is not kept at the next checkpoint, and anew from the one after.
    Leave {
        file: usize,
    },
    Commit,
}

fn op() -> impl Strategy<Value = Op> {
    let file = 0usize..4;
    prop_oneof![
        1 => Just(Op::Open),
        5 => (file.clone(), 0usize..6 * PAGE, any::<u8>(), 1usize..9000)
            .prop_map(|(file, at, seed, length)| Op::Write { file, at, seed, length }),
        2 => (file.clone(), 0usize..7 * PAGE).prop_map(|(file, length)| Op::Cut { file, length }),
        1 => file.clone().prop_map(|file| Op::Drop { file }),
        1 => file.prop_map(|file| Op::Leave { file }),
        5 => Just(Op::Commit),
    ]
}

/// A file, and what of its pages the recording was given.
#[derive(Clone, Debug, Default)]
struct Life {
    bytes: Vec<u8>,
    since: Option<u64>,
    leave: bool,
    given: Vec<[u8; PAGE]>,
    ever: usize,
}

struct Model {
    writer: Writer,
    lives: BTreeMap<u32, Life>,
    born: u32,
    committed: BTreeMap<u64, Vec<(WrittenFile, Vec<u8>)>>,
}

impl Model {
    fn pick(&self, which: usize) -> Option<u32> {
        let count = self.lives.len();
        (count > 0).then(|| *self.lives.keys().nth(which % count).unwrap())
    }

    fn apply(&mut self, op: &Op) {
        let chosen = |which: &usize| self.pick(*which);
        match op {
            Op::Open => {
                self.lives.insert(FILE_SPACES + self.born, Life::default());
                self.born += 1;
            }
            Op::Write {
                file,
                at,
                seed,
                length,
            } => {
                let Some(space) = chosen(file) else { return };
                let bytes = &mut self.lives.get_mut(&space).unwrap().bytes;
                if bytes.len() < at + length {
                    bytes.resize(at + length, 0);
                }
                for (i, b) in bytes[*at..at + length].iter_mut().enumerate() {
                    *b = if *seed < 40 {
                        0
                    } else {
                        seed.wrapping_mul((i / 97) as u8 | 1)
                    };
                }
            }
            Op::Cut { file, length } => {
                let Some(space) = chosen(file) else { return };
                self.lives.get_mut(&space).unwrap().bytes.resize(*length, 0);
            }
            Op::Drop { file } => {
                let Some(space) = chosen(file) else { return };
                self.lives.remove(&space);
            }
            Op::Leave { file } => {
                let Some(space) = chosen(file) else { return };
                self.lives.get_mut(&space).unwrap().leave = true;
            }
            Op::Commit => self.commit(),
        }
    }

    fn commit(&mut self) {
        let now = self.writer.next_id();
        let mut files = Vec::new();
        for (space, life) in &mut self.lives {
            let content = if std::mem::take(&mut life.leave) {
                life.since = None;
                life.given.clear();
                FileContent::Left("for once".into())
            } else {
                let since = *life.since.get_or_insert(now.0);
                life.given.truncate(life.bytes.len().div_ceil(PAGE));
                for (number, part) in life.bytes.chunks(PAGE).enumerate() {
                    let mut page = [0; PAGE];
                    page[..part.len()].copy_from_slice(part);
                    if life.given.get(number) == Some(&page) {
                        continue;
                    }
                    if page != [0; PAGE] || number < life.ever {
                        let at = PageNumber(number as u64);
                        self.writer.page(SpaceId(*space), at, &page).unwrap();
                        life.ever = life.ever.max(number + 1);
                    }
                    match life.given.get_mut(number) {
                        Some(given) => *given = page,
                        None => life.given.push(page),
                    }
                }
                FileContent::Kept {
                    since: CheckpointId(since),
                }
            };
            let file = WrittenFile {
                space: SpaceId(*space),
                path: format!("/file {space}").into_bytes(),
                links: 1,
                open: true,
                size: life.bytes.len() as u64,
                content,
                ..WrittenFile::default()
            };
            files.push((file, life.bytes.clone()));
        }
        let checkpoint = Checkpoint {
            processes: vec![ProcessImage::default()],
            files: files.iter().map(|(f, _)| f.clone()).collect(),
            ..Checkpoint::default()
        };
        let done = self.writer.commit(&checkpoint, &Tick::default()).unwrap();
        self.committed.insert(done.id.0, files);
    }
}

fn read(recording: &Recording, id: u64, file: &WrittenFile) -> Option<Vec<u8>> {
    let memory = recording.file_memory(CheckpointId(id), file)?;
    let mut out = vec![0xee; file.size as usize];
    memory.read(0, &mut out).unwrap();
    Some(out)
}

fn holds(recording: &Recording, committed: &BTreeMap<u64, Vec<(WrittenFile, Vec<u8>)>>) {
    for row in recording.rows() {
        let id = row.id.0;
        let wanted = &committed[&id];
        let files = recording.files(row.id).unwrap();
        assert_eq!(
            files,
            wanted.iter().map(|(f, _)| f.clone()).collect::<Vec<_>>()
        );
        assert_eq!(recording.checkpoint(row.id).unwrap().files, files);
        for (file, bytes) in wanted {
            match read(recording, id, file) {
                Some(got) => assert!(&got == bytes, "checkpoint {id}, {:?}", file.space),
                None => assert!(matches!(file.content, FileContent::Left(_))),
            }
            // The same by number alone.
            let by_number = recording.memory(row.id, file.space);
            assert_eq!(by_number.is_ok(), file.since().is_some());
        }
    }
}

fn clean(dir: &std::path::Path) {
    let report = verify(dir, &mut |_, _| {}).unwrap();
    assert!(report.problems.is_empty(), "{:?}", report.problems);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 60, ..ProptestConfig::default() })]
    #[test]
    fn files_are_what_they_were(
        ops in proptest::collection::vec(op(), 1..80),
        removed in proptest::collection::vec(any::<u16>(), 0..12),
        keep in proptest::option::of(1u64..6),
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let writer = Writer::create(&dir, &Header::default(), small(), false).unwrap();
        let mut model = Model { writer, lives: BTreeMap::new(), born: 0, committed: BTreeMap::new() };
        model.apply(&Op::Open);
        for op in &ops {
            model.apply(op);
        }
        model.commit();
        let Model { writer, committed, .. } = model;
        holds(&Recording::open(&dir).unwrap(), &committed);
        writer.finish(&Summary::default()).unwrap();
        holds(&Recording::open(&dir).unwrap(), &committed);
        clean(&dir);
        // Some are removed, and space is given back.
        let last = *committed.keys().next_back().unwrap();
        let mut gone: Vec<u64> = removed.iter().map(|n| u64::from(*n) % (last + 1)).collect();
        if let Some(keep) = keep {
            gone.extend((0..=last).filter(|n| n % keep != 0));
        }
        gone.retain(|n| *n != last);
        gone.sort_unstable();
        gone.dedup();
        for n in gone {
            change(&dir, &Change::Remove(vec![(n, n + 1)]), &mut |_, _| true).unwrap();
        }
        clean(&dir);
        holds(&Recording::open(&dir).unwrap(), &committed);
        // Without the index it is made again from the log.
        for run in std::fs::read_dir(dir.join("index")).unwrap() {
            std::fs::remove_file(run.unwrap().path()).unwrap();
        }
        holds(&Recording::open(&dir).unwrap(), &committed);
    }
}

#[test]
fn a_recorder_that_keeps_only_the_newest_keeps_their_files() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let options = WriterOptions {
        keep: Bound {
            count: Some(6),
            ..Bound::default()
        },
        ..small()
    };
    let writer = Writer::create(&dir, &Header::default(), options, false).unwrap();
    let mut model = Model {
        writer,
        lives: BTreeMap::new(),
        born: 0,
        committed: BTreeMap::new(),
    };
    model.apply(&Op::Open);
    model.apply(&Op::Open);
    for i in 0..400usize {
        for file in 0..2 {
            model.apply(&Op::Write {
                file,
                at: i * 1237 % (20 * PAGE),
                seed: i as u8,
                length: 3000,
            });
        }
        std::thread::sleep(std::time::Duration::from_millis(1));
        if i % 50 == 0 {
            model.apply(&Op::Leave { file: i / 50 });
        }
        model.commit();
    }
    let Model {
        writer, committed, ..
    } = model;
    writer.finish(&Summary::default()).unwrap();
    let recording = Recording::open(&dir).unwrap();
    // It removes beside the writer, so how many are gone by now is its own business.
    assert!(recording.rows().len() < 400, "{}", recording.rows().len());
    holds(&recording, &committed);
    clean(&dir);
}
