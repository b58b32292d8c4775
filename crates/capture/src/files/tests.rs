use super::keeper::Sink;
use super::*;
use proptest::prelude::*;
use std::collections::{BTreeMap, HashMap};
use std::io::{Seek as _, Write as _};
use std::os::fd::AsRawFd as _;
use std::path::Path;
use stillframe_image::{
    CheckpointId, Descriptor, DescriptorKind, FileContent, PAGE_SIZE, PageNumber, SpaceId,
};
use stillframe_store::Error;

/// Every version of every page.
#[derive(Debug, Default)]
struct Put {
    now: u64,
    versions: HashMap<(SpaceId, u64), BTreeMap<u64, Vec<u8>>>,
    pages: u64,
}

impl Sink for Put {
    fn page(
        &mut self,
        space: SpaceId,
        page: PageNumber,
        bytes: &[u8; PAGE_SIZE],
    ) -> Result<(), Error> {
        let versions = self.versions.entry((space, page.0)).or_default();
        versions.insert(self.now, bytes.to_vec());
        self.pages += 1;
        Ok(())
    }
}

impl Put {
    /// The content of a file at a checkpoint, as a reader finds it.
    fn content(&self, file: &WrittenFile, at: u64) -> Option<Vec<u8>> {
        let since = file.since()?.0;
        let mut all = Vec::new();
        for page in 0..file.size.div_ceil(PAGE_SIZE as u64) {
            let versions = self.versions.get(&(file.space, page));
            let found = versions.and_then(|v| v.range(since..=at).next_back());
            match found {
                Some((_, bytes)) => all.extend_from_slice(bytes),
                None => all.resize(all.len() + PAGE_SIZE, 0),
            }
        }
        all.truncate(file.size as usize);
        Some(all)
    }
}

/// A recorder of our own process's files.
struct Recorder {
    look: Look,
    keeper: Keeper,
    put: Put,
}

impl Recorder {
    fn new(policy: FilesPolicy, dir: &Path) -> Self {
        Self {
            look: Look::new(policy, dir),
            keeper: Keeper::new(policy),
            put: Put::default(),
        }
    }

    fn checkpoint(&mut self, open: &[(&File, &Path)]) -> Vec<WrittenFile> {
        let descriptors: Vec<Descriptor> = open.iter().map(|(f, p)| descriptor(f, p)).collect();
        self.look.begin();
        self.look.process(std::process::id(), &descriptors, &[]);
        let taken = self.look.take(true, self.keeper.is_full());
        let now = std::time::SystemTime::now()
            .duration_since(std::time::UNIX_EPOCH)
            .unwrap();
        self.look.handed_over(now.as_nanos() as i64, &taken);
        let dropped = self.look.dropped();
        let files = self
            .keeper
            .keep(taken, CheckpointId(self.put.now), &mut self.put)
            .unwrap();
        self.keeper.forget(&dropped);
        self.put.now += 1;
        files
    }
}

fn descriptor(file: &File, path: &Path) -> Descriptor {
    let facts = Facts::of(file).unwrap();
    let deleted = if facts.links == 0 { " (deleted)" } else { "" };
    Descriptor {
        fd: file.as_raw_fd() as u32,
        kind: DescriptorKind::Regular,
        flags: 2,
        offset: 0,
        target: format!("{}{deleted}", path.display()).into_bytes(),
        mount: 1,
        inode: facts.inode,
        file: None,
        detail: Vec::new(),
    }
}

fn file(path: &Path) -> File {
    std::fs::OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(true)
        .open(path)
        .unwrap()
}

const VERSION: FilesPolicy = FilesPolicy::Version { budget: 64 << 20 };

#[test]
fn a_file_that_is_closed_stays_watched_and_a_deleted_one_is_let_go() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut f = file(&path);
    f.write_all(b"one").unwrap();
    let mut r = Recorder::new(VERSION, dir.path());
    let first = r.checkpoint(&[(&f, &path)]);
    assert_eq!(first.len(), 1);
    assert!(first[0].open && first[0].links == 1);
    assert_eq!(r.put.content(&first[0], 0).unwrap(), b"one");
    drop(f);
    std::fs::write(&path, "more than one").unwrap();
    let second = r.checkpoint(&[]);
    assert!(!second[0].open);
    assert_eq!(r.put.content(&second[0], 1).unwrap(), b"more than one");
    assert_eq!(r.put.content(&first[0], 0).unwrap(), b"one");
    // Deleted while open: its content belongs to the instant.
    let f = std::fs::OpenOptions::new().write(true).open(&path).unwrap();
    std::fs::remove_file(&path).unwrap();
    let third = r.checkpoint(&[(&f, &path)]);
    assert_eq!((third[0].links, &third[0].path), (0, &second[0].path));
    assert_eq!(r.put.content(&third[0], 2).unwrap(), b"more than one");
    drop(f);
    assert!(r.checkpoint(&[]).is_empty());
    // Another file under that name is another file.
    let f = file(&path);
    let fifth = r.checkpoint(&[(&f, &path)]);
    assert_ne!(fifth[0].space, third[0].space);
}

#[test]
fn a_renamed_file_is_the_same_one() {
    let dir = tempfile::tempdir().unwrap();
    let (a, b) = (dir.path().join("a"), dir.path().join("b"));
    let f = file(&a);
    let mut r = Recorder::new(VERSION, dir.path());
    let first = r.checkpoint(&[(&f, &a)]);
    std::fs::rename(&a, &b).unwrap();
    let second = r.checkpoint(&[(&f, &b)]);
    assert_eq!(first[0].space, second[0].space);
    assert_eq!(second[0].path, b.as_os_str().as_encoded_bytes());
}

#[test]
fn what_passes_the_budget_is_left_and_said_to_be() {
    let dir = tempfile::tempdir().unwrap();
    let (small, large) = (dir.path().join("small"), dir.path().join("large"));
    let (mut s, mut l) = (file(&small), file(&large));
    s.write_all(b"small").unwrap();
    l.write_all(&vec![1; 40 * PAGE_SIZE]).unwrap();
    let policy = FilesPolicy::Version {
        budget: 30 * PAGE_SIZE as u64,
    };
    let mut r = Recorder::new(policy, dir.path());
    let files = r.checkpoint(&[(&s, &small), (&l, &large)]);
    assert_eq!(r.put.content(&files[0], 0).unwrap(), b"small");
    let FileContent::Left(why) = &files[1].content else {
        panic!("{:?}", files[1].content)
    };
    assert!(why.contains("budget"), "{why}");
    s.write_all(b", too").unwrap();
    let later = r.checkpoint(&[(&s, &small), (&l, &large)]);
    assert!(matches!(later[0].content, FileContent::Left(_)));
    assert_eq!(r.put.content(&files[0], 0).unwrap(), b"small");
}

#[test]
fn without_versions_small_files_are_hashed_and_nothing_is_kept() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut f = file(&path);
    f.write_all(b"content").unwrap();
    let mut r = Recorder::new(FilesPolicy::Check, dir.path());
    let files = r.checkpoint(&[(&f, &path)]);
    assert_eq!(
        files[0].content,
        FileContent::Hash(*blake3::hash(b"content").as_bytes())
    );
    assert_eq!(r.put.pages, 0);
    let mut none = Recorder::new(FilesPolicy::Ignore, dir.path());
    assert!(none.checkpoint(&[(&f, &path)]).is_empty());
}

#[test]
fn only_pages_that_differ_are_put() {
    let dir = tempfile::tempdir().unwrap();
    let path = dir.path().join("f");
    let mut f = file(&path);
    let content: Vec<u8> = (0..100 * PAGE_SIZE).map(|i| (i / 777) as u8 | 1).collect();
    f.write_all(&content).unwrap();
    let mut r = Recorder::new(VERSION, dir.path());
    r.checkpoint(&[(&f, &path)]);
    assert_eq!(r.put.pages, 100);
    f.seek(std::io::SeekFrom::Start(5000)).unwrap();
    f.write_all(b"!!").unwrap();
    let files = r.checkpoint(&[(&f, &path)]);
    assert_eq!(r.put.pages, 101);
    let mut want = content;
    want[5000..5002].copy_from_slice(b"!!");
    assert!(r.put.content(&files[0], 1).unwrap() == want);
    // A hole costs nothing.
    f.set_len(1 << 30).unwrap();
    f.set_len(100 * PAGE_SIZE as u64).unwrap();
    r.checkpoint(&[(&f, &path)]);
    assert_eq!(r.put.pages, 101);
}

#[derive(Clone, Debug)]
enum Change {
    Write(usize, Vec<u8>),
    Cut(usize),
    Checkpoint,
}

fn change() -> impl Strategy<Value = Change> {
    let at = 0..5 * PAGE_SIZE;
    prop_oneof![
        4 => (at.clone(), proptest::collection::vec(0u8..3, 1..6000)).prop_map(|(a, b)| Change::Write(a, b)),
        2 => at.prop_map(Change::Cut),
        3 => Just(Change::Checkpoint),
    ]
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 48, ..ProptestConfig::default() })]
    #[test]
    fn every_checkpoint_gives_back_what_the_file_held(changes in proptest::collection::vec(change(), 1..40)) {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        let f = file(&path);
        let mut r = Recorder::new(VERSION, dir.path());
        let mut model: Vec<u8> = Vec::new();
        let mut kept: Vec<(Vec<WrittenFile>, Vec<u8>)> = Vec::new();
        for change in changes {
            match change {
                Change::Write(at, bytes) => {
                    let end = at + bytes.len();
                    if model.len() < end {
                        model.resize(end, 0);
                    }
                    model[at..end].copy_from_slice(&bytes);
                    std::os::unix::fs::FileExt::write_all_at(&f, &bytes, at as u64).unwrap();
                }
                Change::Cut(length) => {
                    model.resize(length, 0);
                    f.set_len(length as u64).unwrap();
                }
                Change::Checkpoint => kept.push((r.checkpoint(&[(&f, &path)]), model.clone())),
            }
        }
        for (at, (files, want)) in kept.iter().enumerate() {
            let got = r.put.content(&files[0], at as u64).unwrap();
            prop_assert!(&got == want, "checkpoint {at}: {} bytes instead of {}", got.len(), want.len());
        }
    }
}
