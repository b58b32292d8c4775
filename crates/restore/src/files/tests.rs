use super::*;
use proptest::prelude::*;
use std::fs::OpenOptions;
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use stillframe_image::file::FILE_SPACES;
use stillframe_image::{
    Checkpoint, Descriptor, Descriptors, PAGE_SIZE, PageNumber, ProcessImage, SpaceId, Tick,
};
use stillframe_store::{Header, Summary, Writer, WriterOptions};

const KEPT: FileContent = FileContent::Kept {
    since: CheckpointId(0),
};

type Identity = ((u32, u32), u64, Option<i64>);

/// A recording made of files as they are on disk.
struct Recorder {
    dir: tempfile::TempDir,
    writer: Option<Writer>,
    next: u32,
    /// By device, inode and birth: numbers of inodes are used again.
    known: HashMap<Identity, SpaceId>,
}

impl Recorder {
    fn new() -> Self {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("work")).unwrap();
        let rec = dir.path().join("r.still");
        let writer =
            Writer::create(&rec, &Header::default(), WriterOptions::default(), false).unwrap();
        Self {
            dir,
            writer: Some(writer),
            next: FILE_SPACES,
            known: HashMap::new(),
        }
    }

    fn path(&self, name: &str) -> PathBuf {
        self.dir.path().join("work").join(name)
    }

    fn put(&self, name: &str, bytes: &[u8]) {
        std::fs::write(self.path(name), bytes).unwrap();
    }

    fn read(&self, name: &str) -> Option<Vec<u8>> {
        std::fs::read(self.path(name)).ok()
    }

    /// Takes a checkpoint of these files, `content` saying what is kept of them.
    fn checkpoint(&mut self, names: &[&str], content: &FileContent) {
        let mut files: Vec<WrittenFile> = names.iter().map(|n| self.file(n, content)).collect();
        files.sort_by_key(|f| f.space);
        let writer = self.writer.as_mut().unwrap();
        for file in files.iter().filter(|f| f.since().is_some()) {
            let bytes = std::fs::read(OsStr::from_bytes(&file.path)).unwrap();
            for (number, part) in bytes.chunks(PAGE_SIZE).enumerate() {
                let mut page = [0; PAGE_SIZE];
                page[..part.len()].copy_from_slice(part);
                writer
                    .page(file.space, PageNumber(number as u64), &page)
                    .unwrap();
            }
        }
        let wall = std::time::SystemTime::now().duration_since(std::time::UNIX_EPOCH);
        let checkpoint = Checkpoint {
            processes: vec![ProcessImage::default()],
            files,
            ..Checkpoint::default()
        };
        let tick = Tick {
            wall_ns: wall.unwrap().as_nanos() as u64,
            ..Tick::default()
        };
        writer.commit(&checkpoint, &tick).unwrap();
    }

    fn file(&mut self, name: &str, content: &FileContent) -> WrittenFile {
        let path = self.path(name);
        let f = Facts::named(&path).unwrap();
        let next = &mut self.next;
        let space = *self
            .known
            .entry((f.device, f.inode, f.born_ns))
            .or_insert_with(|| {
                *next += 1;
                SpaceId(*next - 1)
            });
        WrittenFile {
            space,
            path: path.into_os_string().into_vec(),
            device: f.device,
            inode: f.inode,
            links: f.links,
            open: true,
            mode: f.mode,
            uid: f.uid,
            gid: f.gid,
            size: f.size,
            modified_ns: f.modified_ns,
            changed_ns: f.changed_ns,
            born_ns: f.born_ns,
            content: content.clone(),
        }
    }

    fn recording(&mut self) -> Recording {
        if let Some(writer) = self.writer.take() {
            writer.finish(&Summary::default()).unwrap();
        }
        Recording::open(&self.dir.path().join("r.still")).unwrap()
    }

    /// What is in the directory of the files.
    fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = std::fs::read_dir(self.dir.path().join("work"))
            .unwrap()
            .map(|e| e.unwrap().file_name().into_string().unwrap())
            .collect();
        names.sort();
        names
    }
}

fn noise(seed: u64, length: usize) -> Vec<u8> {
    let mut x = seed | 1;
    (0..length)
        .map(|_| {
            x ^= x << 13;
            x ^= x >> 7;
            x ^= x << 17;
            x as u8
        })
        .collect()
}

#[test]
fn every_outcome_in_place_and_back() {
    let mut r = Recorder::new();
    let then: Vec<(&str, Vec<u8>)> = ["same", "grown", "cut", "over", "moved", "gone", "replaced"]
        .into_iter()
        .enumerate()
        .map(|(i, name)| (name, noise(i as u64 + 1, 3 * PAGE_SIZE + 77 * i)))
        .collect();
    for (name, bytes) in &then {
        r.put(name, bytes);
    }
    let names: Vec<&str> = then.iter().map(|(n, _)| *n).collect();
    // What was written just before a checkpoint may have been written again just after it.
    std::thread::sleep(std::time::Duration::from_millis(30));
    r.checkpoint(&names, &KEPT);
    // Time goes on.
    let inode = |r: &Recorder, name: &str| std::fs::metadata(r.path(name)).unwrap().ino();
    let kept = ["grown", "cut", "over"].map(|n| inode(&r, n));
    let open =
        |r: &Recorder, name: &str| OpenOptions::new().write(true).open(r.path(name)).unwrap();
    let length = then[1].1.len() as u64;
    open(&r, "grown")
        .write_all_at(&noise(9, 100_000), length)
        .unwrap();
    open(&r, "cut").set_len(5).unwrap();
    open(&r, "over").write_all_at(b"over", 5000).unwrap();
    std::fs::rename(r.path("moved"), r.path("elsewhere")).unwrap();
    std::fs::remove_file(r.path("gone")).unwrap();
    r.put("another", b"another");
    std::fs::rename(r.path("another"), r.path("replaced")).unwrap();
    std::thread::sleep(std::time::Duration::from_millis(30));
    r.put("journal", b"made since");
    let mine = "not the process's";
    r.put("mine", mine.as_bytes());
    r.checkpoint(
        &["same", "grown", "cut", "over", "replaced", "journal"],
        &KEPT,
    );
    let before: Vec<(String, Vec<u8>)> = r
        .names()
        .into_iter()
        .map(|n| (n.clone(), r.read(&n).unwrap()))
        .collect();

    let recording = r.recording();
    let id = CheckpointId(0);
    let none = Path::new("/nowhere");
    let mut putting = Putting::plan(&recording, id, Files::Version, none).unwrap();
    let mut steps: Vec<(String, &str)> = putting
        .steps()
        .iter()
        .map(|s| {
            (
                name(s.file().path.rsplit(|b| *b == b'/').next().unwrap()),
                s.name(),
            )
        })
        .collect();
    steps.sort();
    let want = [
        ("cut", "rewrite"),
        ("gone", "make"),
        ("grown", "rewrite"),
        ("journal", "remove"),
        ("moved", "make"),
        ("over", "rewrite"),
        ("replaced", "make"),
    ];
    assert_eq!(steps, want.map(|(a, b)| (a.to_owned(), b)));
    putting.apply().unwrap();
    for (name, bytes) in &then {
        assert!(r.read(name).as_ref() == Some(bytes), "{name}");
    }
    assert_eq!(["grown", "cut", "over"].map(|n| inode(&r, n)), kept);
    assert!(r.read("journal").is_none());
    assert_eq!(r.read("elsewhere").unwrap(), then[4].1);
    assert_eq!(r.read("mine").unwrap(), mine.as_bytes());
    // Back to how it was.
    putting.undo().unwrap();
    let after: Vec<(String, Vec<u8>)> = r
        .names()
        .into_iter()
        .map(|n| (n.clone(), r.read(&n).unwrap()))
        .collect();
    assert!(before == after, "{:?}", r.names());
    // And for good: nothing is left lying about.
    let mut putting = Putting::plan(&recording, id, Files::Version, none).unwrap();
    putting.apply().unwrap();
    putting.finish();
    let mut names: Vec<String> = then.iter().map(|(n, _)| (*n).to_owned()).collect();
    names.extend(["elsewhere".to_owned(), "mine".to_owned()]);
    names.sort();
    assert_eq!(r.names(), names);
    // A second time there is nothing left to do but what times tell.
    let again = Putting::plan(&recording, id, Files::Version, none).unwrap();
    assert!(again.steps().iter().all(|s| s.name() != "remove"));
}

#[test]
fn copies_are_used_and_originals_left_alone() {
    let mut r = Recorder::new();
    let then = noise(3, 10_000);
    r.put("f", &then);
    r.put("untouched", b"as ever");
    r.checkpoint(&["f"], &KEPT);
    r.put("f", b"later");
    let inode = std::fs::metadata(r.path("f")).unwrap().ino();
    let recording = r.recording();
    let private = r.dir.path().join("private/deep");
    let mut putting = Putting::plan(&recording, CheckpointId(0), Files::Private, &private).unwrap();
    putting.apply().unwrap();
    let path = r.path("f");
    let descriptor = |inode| Descriptor {
        fd: 3,
        kind: DescriptorKind::Regular,
        flags: 2,
        offset: 7,
        target: path.as_os_str().as_bytes().to_vec(),
        mount: 1,
        inode,
        file: None,
        detail: Vec::new(),
    };
    let mut image = ProcessImage {
        descriptors: Descriptors {
            open: vec![descriptor(inode), descriptor(inode + 1)],
        },
        ..ProcessImage::default()
    };
    putting.redirect(&mut image);
    let open = &image.descriptors.open;
    let to = Path::new(OsStr::from_bytes(&open[0].target)).to_path_buf();
    assert!(
        to.starts_with(&private) && to.ends_with("work/f"),
        "{}",
        to.display()
    );
    assert!(std::fs::read(&to).unwrap() == then);
    assert_eq!(std::fs::metadata(&to).unwrap().ino(), open[0].inode);
    assert_eq!(open[0].offset, 7);
    assert_eq!(open[1], descriptor(inode + 1));
    assert_eq!(r.read("f").unwrap(), b"later");
    putting.undo().unwrap();
    assert!(!private.exists() && !r.dir.path().join("private").exists());
    assert_eq!(r.read("f").unwrap(), b"later");
}

#[test]
fn what_is_not_kept_is_refused_before_anything_is_touched() {
    let mut r = Recorder::new();
    r.put("a", b"one");
    r.put("b", b"two");
    let torn = FileContent::Torn {
        since: CheckpointId(0),
    };
    r.checkpoint(&["a"], &KEPT);
    r.checkpoint(&["a", "b"], &torn);
    r.checkpoint(&["b"], &FileContent::Left("too large".into()));
    r.put("a", b"later");
    r.put("b", b"later");
    let recording = r.recording();
    for (id, files) in [
        (1, Files::Version),
        (1, Files::Private),
        (2, Files::Version),
    ] {
        let error = Putting::plan(&recording, CheckpointId(id), files, Path::new("/nowhere"));
        let line = error.unwrap_err().to_string();
        assert!(line.contains("/work/"), "{line}");
    }
    for files in [Files::Ignore, Files::Check] {
        let plan = Putting::plan(&recording, CheckpointId(1), files, Path::new("/nowhere"));
        assert!(plan.unwrap().steps().is_empty());
    }
    assert_eq!(r.read("a").unwrap(), b"later");
}

#[test]
fn a_step_that_fails_leaves_everything_as_it_was() {
    let mut r = Recorder::new();
    r.put("a", &noise(1, 9000));
    r.put("b", &noise(2, 9000));
    r.checkpoint(&["a", "b"], &KEPT);
    r.put("a", b"a, later, and quite a bit longer than a page is not");
    std::fs::remove_file(r.path("b")).unwrap();
    // Its name is a directory's now.
    std::fs::create_dir(r.path("b")).unwrap();
    let recording = r.recording();
    let none = Path::new("/nowhere");
    let mut putting = Putting::plan(&recording, CheckpointId(0), Files::Version, none).unwrap();
    let error = putting.apply().unwrap_err().to_string();
    assert!(error.contains("directory"), "{error}");
    assert_eq!(
        r.read("a").unwrap(),
        b"a, later, and quite a bit longer than a page is not"
    );
    assert_eq!(r.names(), ["a", "b"]);
}

#[test]
fn damage_is_met_before_anything_is_touched() {
    let mut r = Recorder::new();
    r.put("a", &noise(1, 40_000));
    r.checkpoint(&["a"], &KEPT);
    r.put("a", b"later");
    drop(r.recording());
    // A flipped bit in the pages.
    let log = r.dir.path().join("r.still/log/00000001.seg");
    let mut bytes = std::fs::read(&log).unwrap();
    bytes[2000] ^= 1;
    std::fs::write(&log, bytes).unwrap();
    let recording = r.recording();
    let none = Path::new("/nowhere");
    let mut putting = Putting::plan(&recording, CheckpointId(0), Files::Version, none).unwrap();
    assert!(putting.apply().is_err());
    assert_eq!(r.read("a").unwrap(), b"later");
}

#[test]
fn no_path_leads_out_of_the_directory() {
    for path in ["/../../etc/x", "../x", "/a/../../b", "x", "/./.."] {
        let file = WrittenFile {
            path: path.into(),
            links: 1,
            ..WrittenFile::default()
        };
        let to = beside(&file, Path::new("/private"));
        let normal = |c: std::path::Component<'_>| !matches!(c, std::path::Component::ParentDir);
        assert!(
            to.starts_with("/private") && to.components().all(normal),
            "{path}: {to:?}"
        );
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, ..ProptestConfig::default() })]
    /// Whatever became of a file, rewriting gives what it was, and undoing what it had become.
    #[test]
    fn any_content_is_put_back_and_taken_back(
        then in proptest::collection::vec(any::<u8>(), 0..20_000),
        cut in 0usize..30_000,
        writes in proptest::collection::vec((0usize..25_000, proptest::collection::vec(any::<u8>(), 1..5000)), 0..6),
    ) {
        let mut r = Recorder::new();
        r.put("f", &then);
        r.checkpoint(&["f"], &KEPT);
        let file = OpenOptions::new().write(true).open(r.path("f")).unwrap();
        file.set_len(cut as u64).unwrap();
        for (at, bytes) in &writes {
            file.write_all_at(bytes, *at as u64).unwrap();
        }
        let now = r.read("f").unwrap();
        let recording = r.recording();
        let mut putting = Putting::plan(&recording, CheckpointId(0), Files::Version, Path::new("/nowhere")).unwrap();
        putting.apply().unwrap();
        prop_assert!(r.read("f").unwrap() == then);
        putting.undo().unwrap();
        prop_assert!(r.read("f").unwrap() == now);
    }
}
