use super::world::Named;
use super::*;
use proptest::prelude::*;
use std::collections::{HashMap, HashSet};
use std::io;
use stillframe_image::host::{Host, WORDS};
use stillframe_image::{
    Descriptor, DescriptorKind, FileContent, FileIdentity, Mapping, MappingKind, Process,
    ProcessImage, ResourceLimit, Thread, WrittenFile,
};
use stillframe_linux::files::written::Facts;

/// A world that says what it is told to.
struct Told {
    files: HashMap<Vec<u8>, (Named, Vec<u8>)>,
    locked: HashSet<Vec<u8>>,
    build_ids: HashMap<Vec<u8>, Vec<u8>>,
    kernel: String,
    vdso: Vec<u8>,
    host: Host,
    pids: HashSet<u32>,
    us: Process,
    namespaces: std::result::Result<(), String>,
    writer: Option<u32>,
}

impl Default for Told {
    fn default() -> Self {
        let limit = ResourceLimit {
            soft: 1024,
            hard: 4096,
        };
        Self {
            files: HashMap::from([(b"/work".to_vec(), (Named::Directory, Vec::new()))]),
            locked: HashSet::new(),
            build_ids: HashMap::new(),
            kernel: "6.12".into(),
            vdso: vec![7; 4096],
            host: host(),
            pids: HashSet::new(),
            us: Process {
                uids: [1000; 4],
                gids: [1000; 4],
                limits: vec![limit; 16],
                terminal: 1,
                ..Process::default()
            },
            namespaces: Ok(()),
            writer: None,
        }
    }
}

impl World for Told {
    fn named(&self, path: &[u8]) -> Named {
        let found = self.files.get(path);
        found.map_or(Named::Nothing, |(named, _)| named.clone())
    }
    fn hash(&self, path: &[u8], length: u64) -> io::Result<[u8; 32]> {
        let (_, bytes) = self.files.get(path).ok_or(io::ErrorKind::NotFound)?;
        let bytes = bytes.get(..length as usize);
        Ok(*blake3::hash(bytes.ok_or(io::ErrorKind::UnexpectedEof)?).as_bytes())
    }
    fn build_id(&self, path: &[u8]) -> Option<Vec<u8>> {
        self.build_ids.get(path).cloned()
    }
    fn may_open(&self, path: &[u8], _: bool) -> bool {
        !self.locked.contains(path)
    }
    fn kernel(&self) -> String {
        self.kernel.clone()
    }
    fn vdso(&self) -> Vec<u8> {
        self.vdso.clone()
    }
    fn processor(&self) -> Host {
        self.host.clone()
    }
    fn pid_taken(&self, pid: u32) -> bool {
        self.pids.contains(&pid)
    }
    fn us(&self) -> &Process {
        &self.us
    }
    fn namespaces(&self) -> std::result::Result<(), String> {
        self.namespaces.clone()
    }
    fn listens(&self, _: u16) -> bool {
        false
    }
    fn writer_of(&self, _: &Facts, ours: &[u32]) -> Option<u32> {
        self.writer.filter(|pid| !ours.contains(pid))
    }
}

impl Told {
    fn put(&mut self, path: &str, facts: Facts, bytes: &[u8]) {
        let named = Named::File(facts);
        self.files.insert(path.into(), (named, bytes.to_vec()));
    }
}

fn host() -> Host {
    Host {
        vendor: "GenuineIntel".into(),
        features: vec![u32::MAX; WORDS.len()],
        xcr0: 7,
    }
}

fn xstate(saved: u64, used: u64) -> Vec<u8> {
    let mut area = vec![0; 832];
    area[464..472].copy_from_slice(&saved.to_le_bytes());
    area[512..520].copy_from_slice(&used.to_le_bytes());
    area
}

/// A process that the world `Told::default()` can take.
fn wanted() -> Wanted {
    let process = ProcessImage {
        threads: vec![Thread {
            tid: 77,
            xstate: xstate(7, 3),
            ..Thread::default()
        }],
        process: Process {
            pid: 77,
            cwd: b"/work".to_vec(),
            root: b"/".to_vec(),
            uids: [1000; 4],
            gids: [1000; 4],
            limits: vec![
                ResourceLimit {
                    soft: 1024,
                    hard: 4096,
                };
                16
            ],
            terminal: 1,
            ..Process::default()
        },
        ..ProcessImage::default()
    };
    Wanted {
        header: Header {
            kernel: "6.12".into(),
            host: host(),
            ..Header::default()
        },
        checkpoint: process.into(),
        vdso: Some(vec![7; 4096]),
    }
}

fn facts(inode: u64, size: u64, at: i64) -> Facts {
    Facts {
        size,
        modified_ns: at,
        changed_ns: at,
        born_ns: Some(1),
        links: 1,
        mode: 0o100_644,
        inode,
        ..Facts::default()
    }
}

fn file(path: &str, facts: &Facts, content: FileContent) -> WrittenFile {
    WrittenFile {
        space: stillframe_image::SpaceId(1 << 31 | facts.inode as u32),
        path: path.into(),
        inode: facts.inode,
        links: facts.links,
        open: true,
        mode: facts.mode,
        size: facts.size,
        modified_ns: facts.modified_ns,
        changed_ns: facts.changed_ns,
        born_ns: facts.born_ns,
        content,
        ..WrittenFile::default()
    }
}

const KEPT: FileContent = FileContent::Kept {
    since: CheckpointId(0),
};
const TORN: FileContent = FileContent::Torn {
    since: CheckpointId(0),
};

fn policy(files: Files) -> Policy {
    Policy {
        files,
        ..Policy::default()
    }
}

/// The findings that are not ok, as `severity: subject`.
fn bad(wanted: &Wanted, world: &Told, policy: Policy) -> Vec<String> {
    let findings = examine(wanted, world, policy);
    let bad = findings.all.iter().filter(|f| f.severity != Severity::Ok);
    bad.map(|f| format!("{}: {}", f.severity.name(), f.subject))
        .collect()
}

#[test]
fn an_unchanged_world_is_fine() {
    let findings = examine(&wanted(), &Told::default(), Policy::default());
    assert_eq!(findings.worst(), Severity::Ok, "{findings:#?}");
    assert_eq!(findings.refusal(), None);
    assert!(findings.all.len() >= 5);
}

#[test]
fn kernels_and_processors() {
    let mut world = Told {
        kernel: "6.18".into(),
        ..Told::default()
    };
    assert_eq!(
        bad(&wanted(), &world, Policy::default()),
        ["warning: kernel"]
    );
    world.vdso[5] = 0;
    assert_eq!(bad(&wanted(), &world, Policy::default()), ["refuse: vDSO"]);
    // The live process is where it was.
    let live = Policy {
        purpose: Purpose::Live,
        ..Policy::default()
    };
    assert!(bad(&wanted(), &world, live).is_empty());
    // What a recorder left at the end is no difference; another length is.
    let mut world = Told::default();
    world.vdso[4090] = 0;
    assert!(bad(&wanted(), &world, Policy::default()).is_empty());
    world.vdso.push(7);
    assert_eq!(bad(&wanted(), &world, Policy::default()), ["refuse: vDSO"]);
    // AVX state that is in use needs a place; unused, it is only noted.
    let mut world = Told::default();
    world.host.xcr0 = 3;
    assert_eq!(
        bad(&wanted(), &world, Policy::default()),
        ["warning: registers"]
    );
    let mut used = wanted();
    used.checkpoint.processes[0].threads[0].xstate = xstate(7, 7);
    assert_eq!(bad(&used, &world, Policy::default()), ["refuse: registers"]);
    let mut world = Told::default();
    world.host.features[2] &= !(1 << 5);
    let findings = examine(&wanted(), &world, Policy::default());
    assert!(findings.refusal().unwrap().contains("avx2"));
    let mut older = wanted();
    older.header.host = Host::default();
    assert_eq!(
        bad(&older, &world, Policy::default()),
        ["warning: instructions"]
    );
}

#[test]
fn pids_users_limits_and_places() {
    let same = Policy {
        purpose: Purpose::New { same_pids: true },
        ..Policy::default()
    };
    let mut world = Told::default();
    world.pids.insert(77);
    assert_eq!(bad(&wanted(), &world, same), ["refuse: pid 77"]);
    assert!(bad(&wanted(), &world, Policy::default()).is_empty());

    let mut other = wanted();
    other.checkpoint.processes[0].process.uids = [0; 4];
    assert_eq!(
        bad(&other, &Told::default(), Policy::default()),
        ["refuse: process 77"]
    );
    let mut root = Told::default();
    root.us.uids = [0; 4];
    assert!(bad(&other, &root, Policy::default()).is_empty());

    let mut high = wanted();
    high.checkpoint.processes[0].process.limits[7].hard = 1 << 20;
    assert_eq!(
        bad(&high, &Told::default(), Policy::default()),
        ["warning: process 77"]
    );
    high.checkpoint.processes[0].descriptors.open = vec![descriptor(5000, "/dev/null", 0)];
    assert_eq!(
        bad(&high, &Told::default(), Policy::default())[0],
        "refuse: process 77"
    );
    let mut capable = Told::default();
    capable.us.capabilities[2] = 1 << 24;
    capable
        .files
        .insert(b"/dev/null".to_vec(), (Named::Other, Vec::new()));
    assert!(bad(&high, &capable, Policy::default()).is_empty());

    let mut moved = wanted();
    moved.checkpoint.processes[0].process.cwd = b"/gone".to_vec();
    moved.checkpoint.processes[0].process.root = b"/jail".to_vec();
    assert_eq!(
        bad(&moved, &Told::default(), Policy::default()),
        ["refuse: /gone", "refuse: /jail"]
    );
}

fn descriptor(fd: u32, path: &str, flags: u32) -> Descriptor {
    Descriptor {
        fd,
        kind: DescriptorKind::CharDevice,
        flags,
        offset: 0,
        target: path.into(),
        mount: 1,
        inode: 3,
        file: None,
        detail: Vec::new(),
    }
}

#[test]
fn mapped_files_are_told_by_size_times_and_build() {
    let identity = |object| FileIdentity {
        path: b"/lib".to_vec(),
        device: (0, 0),
        inode: 9,
        size: 100,
        modified_ns: 5,
        build_id: Some(vec![1, 2]),
        object,
        deleted: false,
    };
    let with = |object| {
        let mut w = wanted();
        let space = &mut w.checkpoint.processes[0].space;
        space.files = vec![identity(object)];
        space.mappings = vec![Mapping {
            start: 0x1000,
            end: 0x2000,
            read: true,
            write: false,
            execute: true,
            shared: false,
            offset: 0,
            device: (0, 0),
            inode: 9,
            name: b"/lib".to_vec(),
            kind: MappingKind::File,
            coverage: stillframe_image::Coverage::Tracked,
            file: Some(0),
        }];
        w
    };
    let mut world = Told::default();
    assert_eq!(
        bad(&with(None), &world, Policy::default()),
        ["refuse: /lib"]
    );
    assert_eq!(
        bad(&with(Some([1; 32])), &world, Policy::default()),
        ["warning: /lib"]
    );
    world.put("/lib", facts(9, 100, 5), b"");
    assert!(bad(&with(None), &world, Policy::default()).is_empty());
    world.put("/lib", facts(10, 100, 6), b"");
    assert_eq!(
        bad(&with(None), &world, Policy::default()),
        ["refuse: /lib"]
    );
    world.build_ids.insert(b"/lib".to_vec(), vec![1, 2]);
    assert!(bad(&with(None), &world, Policy::default()).is_empty());
    // Files of earlier mappings do not matter.
    let mut unused = with(None);
    unused.checkpoint.processes[0].space.mappings.clear();
    assert!(bad(&unused, &Told::default(), Policy::default()).is_empty());
}

/// Every way a written file can have changed, under every policy.
#[test]
fn written_files() {
    let then = facts(5, 10, 100);
    let hash = FileContent::Hash(*blake3::hash(b"0123456789").as_bytes());
    let named = |f: Facts, bytes: &[u8]| Some((f, bytes.to_vec()));
    let same = named(then, b"0123456789");
    let touched = named(facts(5, 10, 200), b"0123456789");
    let changed = named(facts(5, 10, 200), b"012345678X");
    let shorter = named(facts(5, 4, 200), b"0123");
    let grown = named(facts(5, 20, 200), b"01234567890123456789");
    let replaced = named(facts(6, 10, 200), b"0123456789");
    // A file born since can have the inode that was free.
    let reborn = named(
        Facts {
            born_ns: Some(150),
            ..then
        },
        b"0123456789",
    );
    let unknown = FileContent::Unknown;
    // (content, now, under: ignore, check, version, private)
    let rows = [
        (&unknown, &same, ["ok", "ok", "ok", "ok"]),
        (&hash, &touched, ["ok", "ok", "ok", "ok"]),
        (&hash, &replaced, ["ok", "ok", "ok", "ok"]),
        (
            &unknown,
            &touched,
            ["warning", "refuse", "refuse", "refuse"],
        ),
        (&hash, &changed, ["warning", "refuse", "refuse", "refuse"]),
        (&hash, &shorter, ["warning", "refuse", "refuse", "refuse"]),
        (&hash, &grown, ["warning", "refuse", "refuse", "refuse"]),
        (
            &unknown,
            &replaced,
            ["warning", "refuse", "refuse", "refuse"],
        ),
        (&unknown, &reborn, ["warning", "refuse", "refuse", "refuse"]),
        (&hash, &None, ["refuse", "refuse", "refuse", "refuse"]),
        (&KEPT, &same, ["ok", "ok", "ok", "ok"]),
        (&KEPT, &changed, ["warning", "refuse", "ok", "ok"]),
        (&KEPT, &grown, ["warning", "refuse", "ok", "ok"]),
        (&KEPT, &replaced, ["warning", "refuse", "ok", "ok"]),
        (&KEPT, &None, ["refuse", "refuse", "ok", "ok"]),
        (&TORN, &changed, ["warning", "refuse", "refuse", "refuse"]),
        (&TORN, &same, ["ok", "ok", "ok", "ok"]),
    ];
    for (i, (content, now, want)) in rows.iter().enumerate() {
        let mut w = wanted();
        w.checkpoint.files = vec![file("/f", &then, (*content).clone())];
        w.checkpoint.processes[0].descriptors.open = vec![Descriptor {
            kind: DescriptorKind::Regular,
            inode: 5,
            ..descriptor(3, "/f", 2)
        }];
        let mut world = Told::default();
        if let Some((f, bytes)) = now {
            world.put("/f", *f, bytes);
        }
        for (files, want) in [Files::Ignore, Files::Check, Files::Version, Files::Private]
            .into_iter()
            .zip(want)
        {
            let findings = examine(&w, &world, policy(files));
            let found: Vec<_> = findings.all.iter().filter(|f| f.subject == "/f").collect();
            assert_eq!(found.len(), 1, "row {i} {files:?}: {found:?}");
            assert_eq!(
                found[0].severity.name(),
                *want,
                "row {i} {files:?}: {found:?}"
            );
        }
    }
}

#[test]
fn logs_may_have_grown() {
    let then = facts(5, 10, 100);
    let mut w = wanted();
    w.checkpoint.files = vec![file("/log", &then, FileContent::Unknown)];
    let mut d = Descriptor {
        kind: DescriptorKind::Regular,
        inode: 5,
        offset: 10,
        ..descriptor(1, "/log", 1)
    };
    let mut world = Told::default();
    world.put("/log", facts(5, 99, 300), &[0; 99]);
    let severity = |w: &Wanted| examine(w, &world, Policy::default()).worst();
    w.checkpoint.processes[0].descriptors.open = vec![d.clone()];
    assert_eq!(severity(&w), Severity::Warning);
    d.offset = 3;
    w.checkpoint.processes[0].descriptors.open = vec![d.clone()];
    assert_eq!(severity(&w), Severity::Refuse);
    d.flags |= 0o2000;
    w.checkpoint.processes[0].descriptors.open = vec![d];
    assert_eq!(severity(&w), Severity::Warning);
}

#[test]
fn deleted_closed_locked_and_shared_files() {
    let then = facts(5, 10, 100);
    let mut world = Told::default();
    let gone = |content| WrittenFile {
        links: 0,
        ..file("/f", &then, content)
    };
    let mut w = wanted();
    w.checkpoint.files = vec![gone(FileContent::Unknown)];
    assert_eq!(bad(&w, &world, Policy::default()), ["refuse: /f"]);
    w.checkpoint.files = vec![gone(KEPT)];
    assert_eq!(bad(&w, &world, Policy::default()), ["warning: /f"]);
    assert!(bad(&w, &world, policy(Files::Version)).is_empty());
    w.checkpoint.files[0].open = false;
    assert!(bad(&w, &world, Policy::default()).is_empty());

    world.put("/f", facts(5, 11, 300), b"0123456789a");
    w.checkpoint.files = vec![file("/f", &then, KEPT)];
    world.writer = Some(99);
    assert_eq!(bad(&w, &world, policy(Files::Version)), ["warning: /f"]);
    world.writer = Some(77);
    let live = Policy {
        files: Files::Version,
        purpose: Purpose::Live,
    };
    assert!(bad(&w, &world, live).is_empty(), "it is its own file");
    world.locked.insert(b"/f".to_vec());
    assert_eq!(bad(&w, &world, policy(Files::Version)), ["refuse: /f"]);
    // One that was closed does not keep the process from coming back.
    world.locked.clear();
    w.checkpoint.files[0].open = false;
    assert_eq!(bad(&w, &world, Policy::default()), ["warning: /f"]);
}

#[test]
fn what_cannot_be_brought_back_is_named() {
    let mut w = wanted();
    let ring = Descriptor {
        kind: DescriptorKind::IoUring,
        ..descriptor(7, "anon_inode:[io_uring]", 2)
    };
    w.checkpoint.processes[0].descriptors.open = vec![ring];
    w.checkpoint.processes[0].gaps = vec![stillframe_image::Gap {
        subject: "thread 77".into(),
        reason: "not read".into(),
    }];
    assert_eq!(
        bad(&w, &Told::default(), Policy::default()),
        [
            "refuse: process 77, descriptor 7",
            "warning: process 77, thread 77"
        ]
    );
    let findings = examine(&w, &Told::default(), Policy::default());
    assert!(findings.refusal().unwrap().contains("io_uring"));
}

proptest! {
    /// Whatever a checkpoint says of files, each gets one line under each policy, on one line.
    #[test]
    fn hostile_files_get_one_line(
        path in proptest::collection::vec(any::<u8>(), 0..40),
        size in any::<u64>(), links in 0u32..2, open: bool, now in 0u8..5, which in 0u8..5,
    ) {
        let content = match which {
            0 => FileContent::Unknown,
            1 => FileContent::Hash([0; 32]),
            2 => KEPT,
            3 => TORN,
            _ => FileContent::Left("x\ny".into()),
        };
        let mut w = wanted();
        let mut f = file("/f", &Facts { size, links, ..facts(5, 1, 1) }, content);
        f.path = path.clone();
        f.open = open;
        w.checkpoint.files = vec![f];
        let mut world = Told::default();
        let named = match now {
            0 => Named::Nothing,
            1 => Named::File(facts(5, size ^ 1, 2)),
            2 => Named::Directory,
            3 => Named::Other,
            _ => Named::Hidden("no".into()),
        };
        world.files.insert(path, (named, Vec::new()));
        for files in [Files::Ignore, Files::Check, Files::Version, Files::Private] {
            let findings = examine(&w, &world, policy(files));
            prop_assert_eq!(findings.all.iter().filter(|f| f.area == "file").count(), 1);
            for finding in &findings.all {
                prop_assert!(!finding.to_string().contains('\n'));
            }
        }
    }
}
