//! Random histories of a process tree against a model: processes come and go, each with memory of
//! its own, and every part of every checkpoint reads back, from the index and without it.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::{copy_tree, header, small};
use proptest::prelude::*;
use std::collections::BTreeMap;
use std::path::Path;
use stillframe_image::account::{Heat, StopRecord};
use stillframe_image::*;
use stillframe_store::*;

const START: u64 = 0x10_0000;
const PAGES: u64 = 8;

type Page = [u8; PAGE_SIZE];

/// A process as the model has it.
#[derive(Clone, Debug)]
struct Life {
    parent: Option<u32>,
    since: u64,
    pages: BTreeMap<u64, Page>,
    name: Vec<u8>,
}

#[derive(Clone, Debug)]
enum Step {
    /// A new process; it has the memory of its parent, which is put anew, as capture does.
    Fork {
        of: usize,
    },
    End {
        which: usize,
    },
    Write {
        which: usize,
        page: u64,
        value: u8,
    },
    /// New memory in place of all pages.
    Exec {
        which: usize,
    },
    Rename {
        which: usize,
        to: u8,
    },
    Point {
        which: usize,
        name: Vec<u8>,
    },
    Commit,
}

struct Model {
    writer: Option<Writer>,
    lives: BTreeMap<u32, Life>,
    born: u32,
    points: Vec<Point>,
    committed: Vec<(Checkpoint, BTreeMap<u32, Life>)>,
}

impl Model {
    fn new(dir: &Path) -> Self {
        let root = Life {
            parent: None,
            since: 0,
            pages: BTreeMap::new(),
            name: b"root".to_vec(),
        };
        Self {
            writer: Some(Writer::create(dir, &header(), small(), false).unwrap()),
            lives: BTreeMap::from([(0, root)]),
            born: 1,
            points: Vec::new(),
            committed: Vec::new(),
        }
    }

    fn writer(&mut self) -> &mut Writer {
        self.writer.as_mut().unwrap()
    }

    fn pick(&self, which: usize) -> u32 {
        *self.lives.keys().nth(which % self.lives.len()).unwrap()
    }

    fn put(&mut self, id: u32) {
        let next = self.writer().next_id().0;
        let life = self.lives.get_mut(&id).unwrap();
        life.since = next;
        let pages = life.pages.clone();
        for page in 0..PAGES {
            let number = PageNumber(START + page);
            match pages.get(&page) {
                Some(content) => self.writer().page(SpaceId(id), number, content).unwrap(),
                None => self.writer().zero(SpaceId(id), number).unwrap(),
            }
        }
    }

    fn step(&mut self, step: &Step) {
        match step {
            Step::Fork { of } => {
                let of = self.pick(*of);
                let id = self.born;
                self.born += 1;
                let parent = Some(of);
                let child = Life {
                    parent,
                    ..self.lives[&of].clone()
                };
                self.lives.insert(id, child);
                self.put(id);
            }
            Step::End { which } if self.lives.len() > 1 => {
                let id = self.pick(*which);
                self.lives.remove(&id);
            }
            Step::End { .. } => {}
            Step::Write { which, page, value } => {
                let id = self.pick(*which);
                let life = self.lives.get_mut(&id).unwrap();
                let content = life.pages.entry(*page).or_insert([0; PAGE_SIZE]);
                content[usize::from(*value) * 16] = value.wrapping_add(1);
                let content = *content;
                let number = PageNumber(START + page);
                self.writer().page(SpaceId(id), number, &content).unwrap();
            }
            Step::Exec { which } => {
                let id = self.pick(*which);
                self.lives.get_mut(&id).unwrap().pages.clear();
                self.writer().forget(SpaceId(id));
                self.put(id);
            }
            Step::Rename { which, to } => {
                let id = self.pick(*which);
                self.lives.get_mut(&id).unwrap().name = vec![*to];
            }
            Step::Point { which, name } => {
                let space = SpaceId(self.pick(*which));
                self.points.push(Point {
                    space,
                    tid: 100 + space.0,
                    name: name.clone(),
                });
            }
            Step::Commit => self.commit(),
        }
    }

    fn commit(&mut self) {
        let number = self.committed.len() as u64;
        let image = |(id, life): (&u32, &Life)| ProcessImage {
            id: SpaceId(*id),
            parent: life.parent.map(SpaceId),
            space: AddressSpace {
                mappings: vec![mapping()],
                files: Vec::new(),
                generations: vec![Generation {
                    start: mapping().start,
                    end: mapping().end,
                    since: CheckpointId(life.since),
                }],
            },
            threads: vec![Thread {
                tid: 100 + id,
                ..Thread::default()
            }],
            process: Process {
                pid: 100 + id,
                name: life.name.clone(),
                ..Process::default()
            },
            ..ProcessImage::default()
        };
        let checkpoint = Checkpoint {
            processes: self.lives.iter().map(image).collect(),
            account: Account {
                stops: vec![StopRecord {
                    at_ns: number,
                    ..StopRecord::default()
                }],
                heat: vec![Heat {
                    space: SpaceId(self.born - 1),
                    cell: number,
                    pages: 1,
                }],
                ..Account::default()
            },
            points: std::mem::take(&mut self.points),
            files: Vec::new(),
        };
        let tick = Tick {
            at_ns: number,
            ..Tick::default()
        };
        assert_eq!(
            self.writer().commit(&checkpoint, &tick).unwrap().id.0,
            number
        );
        self.committed.push((checkpoint, self.lives.clone()));
    }
}

fn mapping() -> Mapping {
    Mapping {
        start: START * PAGE_SIZE as u64,
        end: (START + PAGES) * PAGE_SIZE as u64,
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
    }
}

fn compare(dir: &Path, model: &Model) {
    let rec = Recording::open(dir).unwrap();
    assert_eq!(rec.rows().len(), model.committed.len());
    for (n, (want, lives)) in model.committed.iter().enumerate() {
        let id = CheckpointId(n as u64);
        let found = rec.checkpoint(id).unwrap();
        assert_eq!(&found, want);
        assert_eq!(rec.row(id).unwrap().tick.processes as usize, lives.len());
        assert_eq!(rec.account(id).unwrap(), want.account);
        assert_eq!(rec.points(id).unwrap(), want.points);
        assert_eq!(rec.tree(id).unwrap(), want.tree());
        assert_eq!(found.root().unwrap().id.0, *lives.keys().next().unwrap());
        let mut each = Vec::new();
        rec.each_process(id, |node, process| {
            each.push(process.unwrap());
            assert_eq!(each.last().map(|p| p.id), Some(node.id));
        })
        .unwrap();
        assert_eq!(each, want.processes);
        for (space, life) in lives {
            let image = rec.process(id, SpaceId(*space)).unwrap();
            assert_eq!(Some(&image), found.process(SpaceId(*space)));
            assert_eq!(found.by_pid(100 + space).collect::<Vec<_>>(), [&image]);
            let memory = rec.memory(id, SpaceId(*space)).unwrap();
            let mut out = [0; PAGE_SIZE];
            for page in 0..PAGES {
                memory.page(PageNumber(START + page), &mut out).unwrap();
                let want = life.pages.get(&page).copied().unwrap_or([0; PAGE_SIZE]);
                assert!(out == want, "checkpoint {id}, process {space}, page {page}");
            }
        }
        let gone = SpaceId((0..).find(|n| !lives.contains_key(n)).unwrap());
        assert!(found.process(gone).is_none());
        for error in [
            rec.memory(id, gone).map(drop).unwrap_err(),
            rec.process(id, gone).map(drop).unwrap_err(),
        ] {
            assert!(matches!(error, Error::NoProcess { .. }), "{error}");
        }
    }
    let report = verify(dir, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

fn step() -> impl Strategy<Value = Step> {
    let which = || 0usize..16;
    prop_oneof![
        2 => which().prop_map(|of| Step::Fork { of }),
        1 => which().prop_map(|which| Step::End { which }),
        8 => (which(), 0..PAGES, any::<u8>())
            .prop_map(|(which, page, value)| Step::Write { which, page, value }),
        1 => which().prop_map(|which| Step::Exec { which }),
        1 => (which(), any::<u8>()).prop_map(|(which, to)| Step::Rename { which, to }),
        1 => (which(), any::<Vec<u8>>()).prop_map(|(which, name)| Step::Point { which, name }),
        5 => Just(Step::Commit),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(48))]

    #[test]
    fn every_process_of_every_checkpoint(
        steps in prop::collection::vec(step(), 1..120),
        finish: bool,
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let mut model = Model::new(&dir);
        for step in &steps {
            model.step(step);
        }
        model.commit();
        let writer = model.writer.take().unwrap();
        if finish {
            writer.finish(&Summary::default()).unwrap();
        } else {
            drop(writer);
        }
        prop_assert!(Recording::open(&dir).unwrap().damage().is_empty());
        compare(&dir, &model);
        let bare = tmp.path().join("bare.still");
        copy_tree(&dir, &bare);
        std::fs::remove_dir_all(bare.join("index")).unwrap();
        std::fs::remove_file(bare.join("checkpoints.tab")).unwrap();
        compare(&bare, &model);
    }
}

fn one(id: u32, parent: Option<u32>) -> ProcessImage {
    ProcessImage {
        id: SpaceId(id),
        parent: parent.map(SpaceId),
        ..ProcessImage::default()
    }
}

#[test]
fn sections_that_did_not_change_are_not_written_again() {
    let tmp = tempfile::tempdir().unwrap();
    let mut model = Model::new(&tmp.path().join("r.still"));
    for _ in 0..20 {
        model.step(&Step::Fork { of: 0 });
    }
    model.commit();
    let tick = Tick::default();
    let (mut checkpoint, _) = model.committed[0].clone();
    let mut stored = |checkpoint: &Checkpoint| {
        let done = model.writer().commit(checkpoint, &tick).unwrap();
        done.stored_bytes
    };
    // The record itself: 21 processes of five sections and three more, all referred to.
    let framed = 32;
    assert_eq!(stored(&checkpoint), framed + 200 + 16 * (21 * 5 + 3));
    // One section of one process.
    checkpoint.processes[7].threads[0].registers.rip = 1;
    let one_more = stored(&checkpoint) - (framed + 200 + 16 * (21 * 5 + 3));
    assert!((1..400).contains(&one_more), "{one_more}");
    // A process that ended and one that takes its place in the list.
    checkpoint.processes.pop();
    stored(&checkpoint);
    let bytes = stored(&checkpoint);
    assert_eq!(bytes, framed + 200 + 16 * (20 * 5 + 3));
}

#[test]
fn what_is_no_tree_is_not_committed() {
    let tmp = tempfile::tempdir().unwrap();
    for (name, processes) in [
        ("none", vec![]),
        ("twice", vec![one(0, None), one(0, None)]),
        ("backwards", vec![one(1, None), one(0, None)]),
        ("older", vec![one(0, None), one(1, Some(2))]),
        ("many", (0..4097).map(|n| one(n, None)).collect()),
    ] {
        let dir = tmp.path().join(name);
        let mut writer = Writer::create(&dir, &header(), small(), false).unwrap();
        let good = Checkpoint::from(one(0, None));
        writer.commit(&good, &Tick::default()).unwrap();
        let bad = Checkpoint {
            processes,
            ..Checkpoint::default()
        };
        let error = writer.commit(&bad, &Tick::default()).unwrap_err();
        assert!(matches!(error, Error::Section(_)), "{name}: {error}");
        drop(writer);
        let rec = Recording::open(&dir).unwrap();
        assert_eq!(rec.checkpoint(CheckpointId(0)).unwrap(), good, "{name}");
        assert_eq!(rec.rows().len(), 1);
    }
    let dir = tmp.path().join("most");
    let mut writer = Writer::create(&dir, &header(), small(), false).unwrap();
    let most = Checkpoint {
        processes: (0..4096).map(|n| one(n, n.checked_sub(1))).collect(),
        ..Checkpoint::default()
    };
    writer.commit(&most, &Tick::default()).unwrap();
    writer.finish(&Summary::default()).unwrap();
    let rec = Recording::open(&dir).unwrap();
    assert_eq!(rec.checkpoint(CheckpointId(0)).unwrap(), most);
    let report = verify(&dir, &mut |_, _| {}).unwrap();
    assert_eq!(report.problems, Vec::<String>::new());
}

#[test]
fn another_version_of_the_format_is_refused_by_name() {
    let tmp = tempfile::tempdir().unwrap();
    let dir = tmp.path().join("r.still");
    let mut model = Model::new(&dir);
    model.commit();
    model
        .writer
        .take()
        .unwrap()
        .finish(&Summary::default())
        .unwrap();
    let path = dir.join("recording");
    let mut bytes = std::fs::read(&path).unwrap();
    bytes[8] = 1;
    std::fs::write(&path, bytes).unwrap();
    let error = Recording::open(&dir).unwrap_err().to_string();
    assert!(
        error.contains("it has format 1 and this program reads format 2"),
        "{error}"
    );
}
