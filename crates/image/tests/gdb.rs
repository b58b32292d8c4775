//! GDB is the judge of our cores.
//!
//! A stopped process is looked at three times: live, through GDB's own core of it, and through a
//! core that we lay out from the same parts. All three must say the same. No recording is involved,
//! so a difference is one of layout.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test"
)]

use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use std::fs;
use std::io::{BufRead as _, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use stillframe_image::elfcore::{self, Content};
use stillframe_image::{
    AddressSpace, Coverage, Mapping, MappingKind, PAGE_SIZE, Process, ProcessImage, Registers,
    Thread,
};

const PROGRAM: &str = r#"
#define _GNU_SOURCE
#include <pthread.h>
#include <stdio.h>
#include <unistd.h>
#include <immintrin.h>

struct account { const char *owner; long balance; double rate; };
struct account accounts[3] = { {"ada", 100, 0.5}, {"bob", -7, 1.25}, {"eve", 1L << 40, 3.0} };
int zeroed[5000];
static __thread int mine = 7;

static void deeper(int depth, struct account *a) {
    volatile long local = depth * 1000 + a->balance;
    if (depth > 0) deeper(depth - 1, a);
    else { mine += (int)local; for (;;) pause(); }
}

static void *spin(void *arg) {
    volatile unsigned long n = 0;
    pthread_setname_np(pthread_self(), "spinner");
    double vector[4] = { 1.5, 2.5, -3.5, 4.5 };
    __asm__ volatile("movupd %0, %%xmm9" :: "m"(vector) : "xmm9");
    for (;;) { n++; __asm__ volatile("" ::: "memory"); }
    return arg;
}

static void *sleep_in(void *arg) { deeper(4, arg); return 0; }

int main(void) {
    pthread_t threads[3];
    pthread_create(&threads[0], 0, spin, 0);
    pthread_create(&threads[1], 0, sleep_in, &accounts[1]);
    pthread_create(&threads[2], 0, sleep_in, &accounts[2]);
    zeroed[4999] = 42;
    usleep(200000);
    puts("ready");
    fflush(stdout);
    deeper(2, &accounts[0]);
    return 0;
}
"#;

/// A child that dies with the test.
struct Target(Child);

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn start(dir: &Path) -> (PathBuf, Target) {
    let source = dir.join("prog.c");
    let program = dir.join("prog");
    fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc")
        .args(["-g", "-O1", "-pthread", "-o"])
        .arg(&program)
        .arg(&source)
        .status()
        .expect("cc is needed for this test");
    assert!(built.success());
    let mut child = Command::new(&program)
        .stdout(Stdio::piped())
        .spawn()
        .unwrap();
    let mut line = String::new();
    BufReader::new(child.stdout.take().unwrap())
        .read_line(&mut line)
        .unwrap();
    assert_eq!(line, "ready\n");
    let target = Target(child);
    let stop = Command::new("kill")
        .arg("-STOP")
        .arg(target.0.id().to_string())
        .status()
        .unwrap();
    assert!(stop.success());
    (program, target)
}

const QUESTIONS: [&str; 9] = [
    "info threads",
    "thread apply all bt full",
    "thread apply all info registers",
    "thread apply all info registers float",
    "thread apply all info registers vector",
    "print accounts",
    "print zeroed[4999]",
    "info auxv",
    "x/40i $pc",
];

/// The answers, and whatever GDB complained about.
fn ask(target: &[&std::ffi::OsStr], more: &[String]) -> (String, String) {
    let mut gdb = Command::new("gdb");
    gdb.args([
        "-batch",
        "-nx",
        "-ex",
        "set pagination off",
        "-ex",
        "set width 0",
    ]);
    gdb.args(["-ex", "set print thread-events off"]);
    for command in more {
        gdb.args(["-ex", command]);
    }
    for (at, question) in QUESTIONS.iter().enumerate() {
        gdb.args(["-ex", &format!("echo @@{at}\\n"), "-ex", question]);
    }
    gdb.args(["-ex", "echo @@end\\n"]);
    gdb.env("DEBUGINFOD_URLS", "").env("LC_ALL", "C");
    let out = gdb
        .args(target)
        .output()
        .expect("gdb is needed for this test");
    let text = String::from_utf8(out.stdout).unwrap();
    // What comes before the first answer is the banner: which file, which thread, which program.
    // What comes after the last is about letting go.
    let text = text
        .split_once("@@end\n")
        .map_or("", |(answers, _)| answers);
    let answers = text
        .split_once("@@0\n")
        .map(|(_, rest)| rest.to_owned())
        .unwrap_or_default();
    let complaints = String::from_utf8(out.stderr).unwrap();
    // Sources of the C library are not ours to have.
    let complaints = complaints
        .lines()
        .filter(|line| !line.ends_with(".c: No such file or directory."))
        .collect::<Vec<_>>()
        .join("\n");
    (answers, complaints)
}

/// GDB's own core taken apart into what a checkpoint holds.
fn take_apart(core: &[u8]) -> (ProcessImage, Vec<(u64, Vec<u8>)>) {
    let word = |bytes: &[u8], at: usize| -> u64 {
        u64::from_le_bytes(bytes[at..at + 8].try_into().unwrap())
    };
    let half = |bytes: &[u8], at: usize| -> u32 {
        u32::from_le_bytes(bytes[at..at + 4].try_into().unwrap())
    };
    let header = FileHeader64::<Endianness>::parse(core).unwrap();
    let endian = header.endian().unwrap();
    let mut checkpoint = ProcessImage::default();
    let mut named = Vec::new();
    let mut memory = Vec::new();
    let mut space = AddressSpace::default();
    for segment in header.program_headers(endian, core).unwrap() {
        if let Some(mut notes) = segment.notes(endian, core).unwrap() {
            while let Some(note) = notes.next().unwrap() {
                let desc = note.desc();
                match note.n_type(endian).0 {
                    1 => {
                        let words: Vec<u64> = (0..27).map(|n| word(desc, 112 + n * 8)).collect();
                        checkpoint.threads.push(Thread {
                            tid: half(desc, 32),
                            registers: Registers::from_words(&words.try_into().unwrap()),
                            ..Thread::default()
                        });
                    }
                    3 => {
                        checkpoint.process = Process {
                            pid: half(desc, 24),
                            parent: half(desc, 28),
                            name: b"prog".to_vec(),
                            arguments: b"prog\0".to_vec(),
                            ..checkpoint.process
                        }
                    }
                    6 => checkpoint.process.auxv = desc.to_vec(),
                    0x202 => checkpoint.threads.last_mut().unwrap().xstate = desc.to_vec(),
                    0x4649_4c45 => {
                        let count = usize::try_from(word(desc, 0)).unwrap();
                        let mut names = desc[16 + count * 24..].split(|b| *b == 0);
                        for n in 0..count {
                            let row = &desc[16 + n * 24..];
                            let page = word(desc, 8);
                            named.push((
                                word(row, 0),
                                word(row, 8),
                                word(row, 16) * page,
                                names.next().unwrap().to_vec(),
                            ));
                        }
                    }
                    _ => {}
                }
            }
            continue;
        }
        let start = segment.p_vaddr(endian);
        let data = segment.data(endian, core).unwrap();
        let flags = segment.p_flags(endian).0;
        space.mappings.push(Mapping {
            start,
            end: start + segment.p_memsz(endian),
            read: flags & 4 != 0,
            write: flags & 2 != 0,
            execute: flags & 1 != 0,
            shared: false,
            offset: 0,
            device: (0, 0),
            inode: 0,
            name: Vec::new(),
            kind: MappingKind::Anonymous,
            coverage: Coverage::Tracked,
            file: None,
        });
        if !data.is_empty() {
            memory.push((start, data.to_vec()));
        }
    }
    // GDB leaves file mappings that it did not copy out of the program headers.
    for (start, end, offset, name) in named {
        match space.mappings.iter_mut().find(|m| m.start == start) {
            Some(mapping) => {
                mapping.kind = MappingKind::File;
                mapping.offset = offset;
                mapping.name = name;
            }
            None => space.mappings.push(Mapping {
                start,
                end,
                read: true,
                write: false,
                execute: false,
                shared: false,
                offset,
                device: (0, 0),
                inode: 0,
                name,
                kind: MappingKind::File,
                coverage: Coverage::Tracked,
                file: None,
            }),
        }
    }
    space.mappings.sort_by_key(|m| m.start);
    checkpoint.space = space;
    (checkpoint, memory)
}

/// A core has no place for thread names, so GDB shows them of live processes only, in columns as
/// wide as the longest.
fn without_names(answers: &str) -> String {
    let mut text = answers.to_owned();
    for name in [" \"prog\"", " \"spinner\""] {
        text = text.replace(name, "");
    }
    text.lines()
        .map(|line| line.split_whitespace().collect::<Vec<_>>().join(" ") + "\n")
        .collect()
}

#[test]
fn gdb_reads_our_core_as_it_reads_the_process() {
    let dir = tempfile::tempdir().unwrap();
    let (program, target) = start(dir.path());
    let pid = target.0.id().to_string();
    let theirs = dir.path().join("theirs.core");

    let (live, _) = ask(
        &["-p".as_ref(), pid.as_ref()],
        &[format!("generate-core-file {}", theirs.display())],
    );
    assert!(live.contains("deeper"), "{live}");
    assert!(live.contains("$1 = {{owner = "), "{live}");

    let bytes = fs::read(&theirs).unwrap();
    let (checkpoint, memory) = take_apart(&bytes);
    assert_eq!(checkpoint.threads.len(), 4);
    let plan = elfcore::plan(&checkpoint, |mapping| {
        if memory.iter().any(|(start, _)| *start == mapping.start) {
            Content::Whole
        } else {
            Content::Nothing
        }
    })
    .unwrap();
    let mut core = plan.head.clone();
    core.resize(usize::try_from(plan.file_size).unwrap(), 0);
    for segment in plan.segments.iter().filter(|s| s.file_size > 0) {
        let (_, bytes) = memory
            .iter()
            .find(|(start, _)| *start == segment.start)
            .unwrap();
        let at = usize::try_from(segment.file_offset).unwrap();
        assert!(at.is_multiple_of(PAGE_SIZE));
        core[at..at + bytes.len()].copy_from_slice(bytes);
    }
    let ours = dir.path().join("ours.core");
    fs::write(&ours, core).unwrap();

    let (from_theirs, their_complaints) = ask(&[program.as_os_str(), theirs.as_os_str()], &[]);
    let (from_ours, our_complaints) = ask(&[program.as_os_str(), ours.as_os_str()], &[]);
    assert_eq!(
        our_complaints, "",
        "GDB complains; of its own core it says: {their_complaints}"
    );
    assert_eq!(from_ours, from_theirs);
    assert_eq!(without_names(&from_ours), without_names(&live));
}
