//! A process in a moment of a tree: ls, show and export over a recording of one that grows and
//! shrinks, and has two processes of one pid.

use super::still;
use serde_json::{Value, json};
use std::fs;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use stillframe_image::account::{Heat, Skip, SkipReason, StopKind, StopRecord, ThreadStall};
use stillframe_image::{
    Account, AddressSpace, Checkpoint, CheckpointId, Coverage, Generation, Mapping, MappingKind,
    Marks, PAGE_SIZE, PageNumber, Point, Process, ProcessImage, Registers, SpaceId, Thread, Tick,
};
use stillframe_store::{Header, Summary, Writer, WriterOptions};

const HEAP: u64 = 0x5555_7000_0000;

struct Tree {
    dir: tempfile::TempDir,
    recording: PathBuf,
}

impl Tree {
    fn at(&self, moment: impl std::fmt::Display) -> String {
        format!("{}@{moment}", self.recording.display())
    }
}

/// Content of the heap of a process at a checkpoint.
fn heap(process: u32, checkpoint: u64) -> [u8; PAGE_SIZE] {
    std::array::from_fn(|at| (at as u64 * 3 + checkpoint * 17 + u64::from(process) * 101) as u8)
}

fn process(id: u32, parent: Option<u32>, pid: u32, born: u64) -> ProcessImage {
    let mapping = Mapping {
        start: HEAP,
        end: HEAP + 4096,
        read: true,
        write: true,
        execute: false,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: b"[heap]".to_vec(),
        kind: MappingKind::Heap,
        coverage: Coverage::Tracked,
        file: None,
    };
    ProcessImage {
        id: SpaceId(id),
        parent: parent.map(SpaceId),
        space: AddressSpace {
            generations: vec![Generation {
                start: mapping.start,
                end: mapping.end,
                since: CheckpointId(born),
            }],
            mappings: vec![mapping],
            files: Vec::new(),
        },
        threads: vec![Thread {
            tid: pid,
            name: format!("thread-{id}").into_bytes(),
            registers: Registers {
                rip: HEAP + u64::from(id),
                orig_rax: u64::MAX,
                ..Registers::default()
            },
            ..Thread::default()
        }],
        process: Process {
            pid,
            parent: 7,
            name: format!("name-{id}").into_bytes(),
            executable: format!("/bin/\x1bprog-{id}").into_bytes(),
            auxv: vec![0; 16],
            ..Process::default()
        },
        ..ProcessImage::default()
    }
}

/// Checkpoint 0 has the root alone; 1 a child as well, with an account and two points; 2 a child of
/// that child, with the pid of its parent; in 3 the root has ended.
fn make() -> Tree {
    let dir = tempfile::tempdir().unwrap();
    let recording = dir.path().join("tree.still");
    let header = Header {
        program: b"/bin/prog-0".to_vec(),
        pid: 100,
        requested_hz: 10.0,
        ..Header::default()
    };
    let mut writer = Writer::create(&recording, &header, WriterOptions::default(), false).unwrap();
    let root = || process(0, None, 100, 0);
    let child = || process(1, Some(0), 200, 1);
    let grandchild = || process(2, Some(1), 200, 2);
    let point = |name: &[u8], space| Point {
        space: SpaceId(space),
        tid: 200,
        name: name.to_vec(),
    };
    let account = Account {
        stops: vec![StopRecord {
            kind: StopKind::Boundary,
            at_ns: 99_000_000,
            pause_ns: 250_000,
            pages: 2,
        }],
        stalls: vec![ThreadStall {
            space: SpaceId(1),
            tid: 200,
            stopped_ns: 99_000_000,
            resumed_ns: 99_240_000,
        }],
        skips: vec![Skip {
            at_ns: 50_000_000,
            ticks: 3,
            reason: SkipReason::Budget,
        }],
        heat: vec![Heat {
            space: SpaceId(1),
            cell: HEAP >> 21,
            pages: 1,
        }],
        ..Account::default()
    };
    let checkpoints = [
        (vec![root()], Marks::FULL, vec![], Account::default()),
        (
            vec![root(), child()],
            Marks::FORK.with(Marks::POINT),
            vec![point(b"loaded", 0), point(b"go\x1b[2J", 1)],
            account,
        ),
        (
            vec![root(), child(), grandchild()],
            Marks::FORK,
            vec![],
            Account::default(),
        ),
        (
            vec![child(), grandchild()],
            Marks::default(),
            vec![],
            Account::default(),
        ),
    ];
    for (n, (processes, marks, points, account)) in (0u64..).zip(checkpoints) {
        for p in &processes {
            let content = heap(p.id.0, n);
            writer.page(p.id, PageNumber::of(HEAP), &content).unwrap();
        }
        let tick = Tick {
            at_ns: n * 100_000_000,
            marks,
            threads: processes.len() as u32,
            ..Tick::default()
        };
        let checkpoint = Checkpoint {
            processes,
            account,
            points,
            ..Checkpoint::default()
        };
        writer.commit(&checkpoint, &tick).unwrap();
    }
    writer.finish(&Summary::default()).unwrap();
    Tree { dir, recording }
}

fn json_of(arguments: &[&str]) -> Value {
    serde_json::from_str(&still(arguments).ok()).unwrap()
}

/// The words of the lines of a table, from the line that begins with `title` on.
fn table(text: &str, title: &str) -> Vec<Vec<String>> {
    text.lines()
        .skip_while(|line| !line.trim_start().starts_with(title))
        .skip(1)
        .take_while(|line| !line.is_empty())
        .map(|line| line.split_whitespace().map(str::to_owned).collect())
        .collect()
}

#[test]
fn ls_counts_processes_and_names_points() {
    let tree = make();
    let path = tree.recording.to_str().unwrap();
    for more in [&[][..], &["--all"]] {
        let text = still(&[&["ls", path], more].concat()).ok();
        let head = text.lines().nth(1).unwrap();
        assert!(head.contains(" PROCESSES "), "{text}");
        assert!(head.ends_with(" POINTS"), "{text}");
        let at = head.split_whitespace().position(|w| w == "PROCESSES");
        // WALL CLOCK and the like are two words in the head; count from the end instead.
        let from_end = head.split_whitespace().count() - at.unwrap();
        assert_eq!(from_end, 5);
        let line = |n: usize| text.lines().nth(2 + n).unwrap();
        for (n, processes) in ["1", "2", "3", "2"].iter().enumerate() {
            let before_marks: Vec<&str> = line(n).split_whitespace().collect();
            // ... PROCESSES THREADS SKIPPED [MARKS] [POINTS]
            let skipped = before_marks.iter().rposition(|w| *w == "0").unwrap();
            assert_eq!(before_marks[skipped - 2], *processes, "{text}");
        }
        assert!(line(1).contains("point,fork"), "{text}");
        assert!(line(1).ends_with("loaded, go\\u{1b}[2J"), "{text}");
        assert!(line(2).ends_with("fork"), "{text}");
    }
    let only = still(&["ls", "--points", path]).ok();
    let rows: Vec<&str> = only.lines().skip(2).take(2).collect();
    assert!(rows[0].contains("loaded"), "{only}");
    assert!(rows[1].starts_with("4 checkpoints"), "{only}");

    let all = json_of(&["ls", "--json", path]);
    let rows = all["checkpoints"].as_array().unwrap();
    assert_eq!(rows.len(), 4);
    assert_eq!(rows[2]["processes"], 3);
    assert_eq!(rows[0]["points"], json!([]));
    assert_eq!(
        rows[1]["points"][0],
        json!({"process": 0, "tid": 200, "name": "loaded"})
    );
    let some = json_of(&["ls", "--json", "--points", path]);
    assert_eq!(some["checkpoints"].as_array().unwrap().len(), 1);
    assert_eq!(some["checkpoints"][0]["number"], 1);
}

#[test]
fn ls_of_one_process_has_no_such_columns() {
    let made = super::synthetic::make(false);
    let text = still(&["ls".as_ref(), made.recording.as_os_str()]).ok();
    let head = text.lines().nth(1).unwrap();
    assert!(
        !head.contains("PROCESSES") && !head.contains("POINTS"),
        "{text}"
    );
    let show = still(&["show", &made.at(2)]).ok();
    assert!(!show.contains("\nprocesses: "), "{show}");
    let chosen = still(&["show", &made.at(2), "--pid", "4242"]).ok();
    assert_eq!(chosen, show);
    let tree = still(&["show", &made.at(2), "--tree"]).ok();
    assert!(tree.contains("\nprocesses: 1\n"), "{tree}");
    assert!(!tree.contains("\nthreads: "), "{tree}");
}

#[test]
fn show_prints_the_tree_and_then_the_root() {
    let tree = make();
    let text = still(&["show", &tree.at(2)]).ok();
    assert!(text.contains("\nprocesses: 3\n"), "{text}");
    let rows = table(&text, "PROCESS ");
    assert_eq!(rows.len(), 3, "{text}");
    assert_eq!(
        rows[1],
        [
            "1",
            "200",
            "7",
            "1",
            "1",
            "4.0",
            "KiB",
            "/bin/\\u{1b}prog-1"
        ],
        "{text}"
    );
    assert!(text.contains("  /bin/\\u{1b}prog-0\n"), "{text}");
    assert!(
        text.contains("      /bin/\\u{1b}prog-2\n"),
        "moved to the right: {text}"
    );
    assert!(text.contains("\nprocess 100 (name-0)"), "{text}");
    assert!(
        text.contains("thread-0") && !text.contains("thread-1"),
        "{text}"
    );
    assert!(!text.contains('\x1b'), "{text}");

    // Nothing but the root, as ever.
    assert!(!still(&["show", &tree.at(0)]).ok().contains("processes: "));
    // Only a section: no tree before it.
    let threads = still(&["show", &tree.at(2), "--threads"]).ok();
    assert!(
        !threads.contains("processes: ") && threads.contains("thread-0"),
        "{threads}"
    );
    // The root has ended: its child stands for the whole.
    let late = still(&["show", &tree.at(3)]).ok();
    assert!(late.contains("\nprocess 200 (name-1)"), "{late}");
    assert_eq!(table(&late, "PROCESS ").len(), 2, "{late}");
    // Points stand at the top.
    let points = still(&["show", &tree.at(1)]).ok();
    assert!(
        points.contains("\npoint \"loaded\", marked by thread 200 of process 0\n"),
        "{points}"
    );
}

#[test]
fn a_process_is_chosen_by_pid_or_by_number() {
    let tree = make();
    let by_pid = still(&["show", &tree.at(1), "--pid", "200"]).ok();
    assert!(by_pid.contains("\nprocess 200 (name-1)"), "{by_pid}");
    assert!(
        by_pid.contains("thread-1") && !by_pid.contains("thread-0"),
        "{by_pid}"
    );
    assert!(!by_pid.contains("processes: "), "{by_pid}");
    assert_eq!(still(&["show", &tree.at(1), "--process", "1"]).ok(), by_pid);
    let third = still(&["show", &tree.at(2), "--process", "2"]).ok();
    assert!(third.contains("\nprocess 200 (name-2)"), "{third}");

    let line = still(&["show", &tree.at(1), "--pid", "999"]).refused(4);
    assert!(
        line.contains("no process with pid 999; it has 100, 200"),
        "{line}"
    );
    let line = still(&["show", &tree.at(3), "--pid", "100"]).refused(4);
    assert!(line.contains("it has 200"), "{line}");
    let line = still(&["show", &tree.at(1), "--process", "2"]).refused(4);
    assert!(line.contains("no process 2; it has 0, 1"), "{line}");
    let line = still(&["show", &tree.at(2), "--pid", "200"]).refused(2);
    assert!(line.contains("--process N, N being one of 1, 2"), "{line}");
    still(&["show", &tree.at(2), "--pid", "200", "--process", "1"]).refused(2);
}

#[test]
fn show_as_json_lists_all_and_details_one() {
    let tree = make();
    let root = json_of(&["show", "--json", &tree.at(2)]);
    assert_eq!(root["process"]["number"], 0);
    assert_eq!(root["threads"][0]["name"], "thread-0");
    let processes = root["processes"].as_array().unwrap();
    let fields = |at: usize, field: &str| processes[at][field].clone();
    assert_eq!(processes.len(), 3);
    assert_eq!(
        [
            fields(2, "process"),
            fields(2, "parent_process"),
            fields(2, "depth")
        ],
        [json!(2), json!(1), json!(2)]
    );
    assert_eq!(fields(0, "parent_process"), Value::Null);
    assert_eq!(fields(1, "mapped_bytes"), 4096);
    assert_eq!(fields(1, "problem"), Value::Null);
    let child = json_of(&["show", "--json", &tree.at(1), "--pid", "200"]);
    assert_eq!(child["process"]["number"], 1);
    assert_eq!(child["process"]["pid"], 200);
    assert_eq!(child["threads"][0]["place"]["address"], "0x555570000001");
    assert_eq!(child["points"][1]["process"], 1);
    assert_eq!(child["marks"], json!(["point", "fork"]));
}

#[test]
fn show_prints_the_account() {
    let tree = make();
    let text = still(&["show", &tree.at(1), "--account"]).ok();
    for part in [
        "stops: 1, 250 us in all",
        "thread 200      of process 1",
        "3 ticks not taken",
        "to keep the budget",
        "0x555570000000 of process 1    1 page\n",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
    assert!(
        !text.contains("\nthreads: ") && !text.contains("processes: "),
        "{text}"
    );
    assert!(
        still(&["show", &tree.at(1), "--all"])
            .ok()
            .contains("\naccount of")
    );
    let none = still(&["show", &tree.at(0), "--account"]).ok();
    assert!(none.contains("account: none was kept"), "{none}");
    let json = json_of(&["show", &tree.at(1), "--account", "--json"]);
    assert_eq!(json["checkpoint"], 1);
    assert_eq!(json["at_ns"], 100_000_000);
    assert_eq!(
        json["stops"][0],
        json!({"kind": "boundary", "at_ns": 99_000_000, "pause_ns": 250_000, "written_pages": 2})
    );
    assert_eq!(json["stalls"][0]["stall_ns"], 240_000);
    assert_eq!(json["skips"][0]["reason"], "budget");
    assert_eq!(
        json["heat"][0],
        json!({"process": 1, "start": "0x555570000000", "written_pages": 1})
    );
}

/// What the core has at the heap.
fn core_heap(core: &Path) -> Vec<u8> {
    use object::{Object as _, ObjectSegment as _};
    let bytes = fs::read(core).unwrap();
    let file = object::File::parse(&*bytes).unwrap();
    let segment = file.segments().find(|s| s.address() == HEAP).unwrap();
    segment.data().unwrap().to_vec()
}

#[test]
fn export_writes_the_chosen_process() {
    let tree = make();
    for (n, (moment, choice, process, pid, of)) in [
        (1, &[][..], 0, 100, 2),
        (1, &["--pid", "200"], 1, 200, 2),
        (2, &["--process", "2"], 2, 200, 3),
        (2, &["--process", "0"], 0, 100, 3),
        (3, &[], 1, 200, 2),
    ]
    .into_iter()
    .enumerate()
    {
        let core = tree.dir.path().join(format!("{n}.core"));
        let at = tree.at(moment);
        let mut arguments = vec![
            "export",
            "--core",
            &at,
            "-o",
            core.to_str().unwrap(),
            "--json",
        ];
        arguments.extend(choice);
        let json = json_of(&arguments);
        assert_eq!(json["process"], process);
        assert_eq!(json["pid"], pid);
        assert_eq!(json["processes"], of);
        assert!(core_heap(&core) == heap(process, moment), "{arguments:?}");
    }
    let core = tree.dir.path().join("said.core");
    let core = core.to_str().unwrap();
    let at = tree.at(1);
    let said = still(&["export", "--core", &at, "-o", core, "--pid", "200"]).ok();
    assert!(said.contains("process 200 of 2, threads: 1"), "{said}");
    let none = tree.dir.path().join("none.core");
    let arguments = [
        "export",
        "--core",
        &at,
        "-o",
        none.to_str().unwrap(),
        "--pid",
        "1",
    ];
    let line = still(&arguments).refused(4);
    assert!(line.contains("it has 100, 200"), "{line}");
    assert!(!none.exists());
}

#[test]
fn damage_to_one_process_leaves_the_others() {
    let tree = make();
    let log = tree.recording.join("log/00000001.seg");
    let bytes = fs::read(&log).unwrap();
    // The section of the child that holds its name, wherever it was first written.
    let at = bytes.windows(6).position(|w| w == b"name-1").unwrap();
    let file = fs::OpenOptions::new().write(true).open(&log).unwrap();
    file.write_all_at(b"X", at as u64).unwrap();
    let text = still(&["show", &tree.at(2)]).ok();
    let rows = table(&text, "PROCESS ");
    assert_eq!(rows.len(), 3, "{text}");
    assert!(rows[1].join(" ").contains("damaged"), "{text}");
    assert!(text.contains("\nprocess 100 (name-0)"), "{text}");
    let ok = still(&["show", &tree.at(2), "--pid", "200"]).ok();
    assert!(ok.contains("(name-2)"), "{ok}");
    still(&["show", &tree.at(2), "--process", "1"]).refused(5);
    still(&["show", &tree.at(1), "--pid", "200"]).refused(5);
    assert_eq!(
        still(&["verify".as_ref(), tree.recording.as_os_str()]).code,
        5
    );
}
