//! The C header under every compiler, language and linkage at hand, and what it costs where nobody
//! records.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    reason = "helpers of tests, which stand outside of them"
)]

use std::path::{Path, PathBuf};
use std::process::{Command, Output};

/// Calls everything without a recorder, then with a gate that a dead one left open.
const MAIN: &str = r#"
#include <stillframe/points.h>
#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
int other(void);
int library(void);
static volatile sig_atomic_t urgent;
static void on_urgent(int s) { (void)s; urgent = urgent + 1; }
static int stale(int blocked) {
    sigset_t before, after, pending;
    sigemptyset(&before);
    if (blocked) sigaddset(&before, SIGURG);
    sigprocmask(SIG_SETMASK, &before, NULL);
    still_gate_v1.open = 77;
    errno = 5;
    if (still_checkpoint("a") != -1 || errno != 5) return 1;
    if (still_gate_v1.open != 0) return 2;
    sigprocmask(SIG_SETMASK, NULL, &after);
    if (sigismember(&after, SIGURG) != blocked) return 3;
    sigpending(&pending);
    return sigismember(&pending, SIGURG) ? 4 : 0;
}
int main(void) {
    int handled, blocked, bad;
    still_point("a");
    if (still_checkpoint(NULL) != -1 || still_checkpoints() != -1) return 10;
    if (still_recording() || still_wait_recording(3) || still_wait_recording(0)) return 11;
    if (other() != 0) return 12;
    if (LIBRARY && library() != 0) return 13;
    for (handled = 0; handled < 2; handled++) {
        struct sigaction action;
        memset(&action, 0, sizeof action);
        action.sa_handler = on_urgent;
        if (handled) sigaction(SIGURG, &action, NULL);
        for (blocked = 0; blocked < 2; blocked++)
            if ((bad = stale(blocked)) != 0) return 20 + bad + 10 * blocked;
    }
    /* Once for each dead recorder, and not again. */
    if (urgent != 2) return 50;
    still_point("a");
    if (urgent != 2) return 51;
    /* One that waits already is not disturbed. */
    {
        sigset_t set;
        sigemptyset(&set);
        sigaddset(&set, SIGURG);
        sigprocmask(SIG_SETMASK, &set, NULL);
        raise(SIGURG);
        still_gate_v1.open = 78;
        if (still_checkpoint("a") != -1 || urgent != 2) return 52;
        sigpending(&set);
        if (!sigismember(&set, SIGURG)) return 53;
    }
    printf("%p\n", (void *)&still_gate_v1);
    return 0;
}
"#;

/// Part of the same program: the same gate.
const OTHER: &str = r#"
#include <stillframe/points.h>
int other(void);
void *gate(void);
void only_a_point(void);
int other(void) { return still_checkpoint("b") == -1 ? 0 : 1; }
void *gate(void) { return &still_gate_v1; }
void only_a_point(void) { still_point("c"); }
"#;

/// A library: a gate of its own, whatever the program's is.
const LIBRARY: &str = r#"
#include <stillframe/points.h>
int library(void);
int library(void) {
    if (still_gate_v1.open != 0) return 1;
    return still_checkpoint("d") == -1 ? 0 : 2;
}
"#;

/// Runs a command; `None` if there is no such program.
fn run(command: &mut Command) -> Option<Output> {
    match command.output() {
        Ok(output) => Some(output),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            eprintln!("SKIPPED: no {:?}", command.get_program());
            None
        }
        Err(e) => panic!("{command:?}: {e}"),
    }
}

fn done(command: &mut Command) -> Option<String> {
    let output = run(command)?;
    assert!(
        output.status.success(),
        "{command:?}: {}{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    Some(String::from_utf8(output.stdout).unwrap())
}

struct Place(tempfile::TempDir);

impl Place {
    fn new() -> Self {
        let place = Self(tempfile::tempdir().unwrap());
        for (name, text) in [("main.c", MAIN), ("other.c", OTHER), ("library.c", LIBRARY)] {
            std::fs::write(place.path(name), text).unwrap();
        }
        place
    }

    fn path(&self, name: &str) -> PathBuf {
        self.0.path().join(name)
    }

    /// The compiler with what every use has in common.
    fn compiler(&self, name: &str, language: &str, standard: &str) -> Command {
        let include = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../include");
        let mut c = Command::new(name);
        c.current_dir(self.0.path());
        c.args(["-Wall", "-Wextra", "-Werror", "-pedantic", "-x", language]);
        c.arg(format!("-std={standard}")).arg("-I").arg(include);
        c.arg("-D_POSIX_C_SOURCE=200809L");
        c
    }
}

const COMPILERS: [(&str, &str, &str); 8] = [
    ("gcc", "c", "c99"),
    ("gcc", "c", "c11"),
    ("clang", "c", "c99"),
    ("clang", "c", "c11"),
    ("g++", "c++", "c++98"),
    ("g++", "c++", "c++17"),
    ("clang++", "c++", "c++98"),
    ("clang++", "c++", "c++17"),
];

#[test]
fn every_compiler_takes_it_and_nobody_records() {
    let place = Place::new();
    for (name, language, standard) in COMPILERS {
        for flags in [&["-O0"][..], &["-O2"], &["-O2", "-static"]] {
            let mut c = place.compiler(name, language, standard);
            c.args(flags).args(["-DLIBRARY=0", "-Dlibrary=other"]);
            c.args(["main.c", "other.c", "-o", "main"]);
            if done(&mut c).is_some() {
                done(&mut Command::new(place.path("main")));
            }
        }
    }
}

#[test]
fn parts_share_a_gate_and_a_library_has_its_own() {
    let place = Place::new();
    for compiler in ["gcc", "clang"] {
        for flags in [
            &["-O2"][..],
            &["-O2", "-no-pie", "-fno-pic"],
            &[
                "-O2",
                "-ffunction-sections",
                "-fdata-sections",
                "-Wl,--gc-sections",
            ],
            &["-O2", "-flto"],
        ] {
            if flags.contains(&"-flto") && compiler == "clang" {
                continue; // needs a linker of its own
            }
            let mut c = place.compiler(compiler, "c", "c11");
            c.args([
                "-O2",
                "-shared",
                "-fPIC",
                "library.c",
                "-o",
                "liblibrary.so",
            ]);
            if done(&mut c).is_none() {
                continue;
            }
            let mut c = place.compiler(compiler, "c", "c11");
            c.args(flags).args(["-DLIBRARY=1", "main.c", "other.c"]);
            c.args(["-o", "main", "-x", "none", "./liblibrary.so"]);
            done(&mut c);
            done(Command::new("./main").current_dir(place.0.path()));
            for (file, wanted) in [("main", 1), ("liblibrary.so", 1)] {
                let Some(symbols) = done(Command::new("nm").arg(place.path(file))) else {
                    return;
                };
                let gates = symbols.lines().filter(|l| l.ends_with(" still_gate_v1"));
                assert_eq!(
                    gates.count(),
                    wanted,
                    "{compiler} {flags:?} {file}: {symbols}"
                );
                let mut c = Command::new("readelf");
                let notes = done(c.arg("-nW").arg(place.path(file))).unwrap();
                assert!(
                    notes.contains("stillframe"),
                    "{compiler} {flags:?}: {notes}"
                );
                // Nothing is asked of the dynamic linker, and nothing is exported.
                let mut c = Command::new("readelf");
                let dynamic = done(c.args(["-W", "--dyn-syms", "-r"]).arg(place.path(file)));
                assert!(
                    !dynamic.unwrap().contains("still_gate"),
                    "{compiler} {flags:?}"
                );
            }
        }
    }
}

/// What a call does where nobody records, read from the machine code: one look at memory and one
/// branch, no call, no system call.
#[test]
fn unrecorded_a_point_is_a_load_and_a_branch() {
    let place = Place::new();
    for compiler in ["gcc", "clang"] {
        for flags in [&["-O2"][..], &["-O2", "-fPIC"], &["-Os"]] {
            let mut c = place.compiler(compiler, "c", "c11");
            c.args(flags)
                .args(["-shared", "-fPIC", "other.c", "-o", "other.so"]);
            if done(&mut c).is_none() {
                continue;
            }
            let mut c = Command::new("objdump");
            c.args(["-d", "--no-show-raw-insn", "--disassemble=only_a_point"]);
            let Some(text) = done(c.arg(place.path("other.so"))) else {
                return;
            };
            let body = text.split("<only_a_point>:").nth(1).unwrap();
            // (address, instruction)
            let list: Vec<(&str, &str)> = body
                .lines()
                .filter_map(|l| l.trim().split_once(":\t"))
                .map(|(at, code)| (at, code.trim()))
                .collect();
            let context = || format!("{compiler} {flags:?}: {body}");
            let (mut looks, mut branches, mut at, mut steps) = (0, 0, 0, 0);
            loop {
                let (_, code) = list.get(at).unwrap_or_else(|| panic!("{}", context()));
                let mut words = code.split_whitespace();
                let mnemonic = words.next().unwrap();
                at += 1;
                steps += 1;
                if code.contains("(%") && !code.contains("push") && !code.contains("nop") {
                    looks += 1;
                    assert!(code.contains("still_gate_v1"), "{}", context());
                }
                match mnemonic {
                    "ret" | "retq" => break,
                    "jne" => branches += 1,
                    "je" => {
                        branches += 1;
                        let to = words.next().unwrap();
                        let to = list.iter().position(|(at, _)| *at == to);
                        at = to.unwrap_or_else(|| panic!("{}", context()));
                    }
                    "mov" | "test" | "cmpl" | "endbr64" => {}
                    _ => panic!("{mnemonic} in {}", context()),
                }
            }
            assert_eq!((looks, branches), (1, 1), "{}", context());
            assert!(steps <= 5, "{}", context());
        }
    }
}

/// docs/points.md shows what the scenarios run.
#[test]
fn the_documented_examples_are_the_tested_ones() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
    let docs = std::fs::read_to_string(root.join("docs/points.md")).unwrap();
    for name in ["shim.c", "points.py"] {
        let text = std::fs::read_to_string(root.join("examples/points").join(name)).unwrap();
        assert!(docs.contains(&text), "{name}");
    }
}
