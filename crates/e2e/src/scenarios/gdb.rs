//! GDB agrees: the same questions to a live GDB and to the core of a checkpoint taken at the same
//! stop have the same answers.

use crate::process::{self, PATIENCE, Running, command, wait_for};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "gdb::c",
        about: "bt full and info registers of a C program",
        run: c,
    },
    Scenario {
        name: "gdb::cpp",
        about: "bt full and info registers of a C++ program",
        run: cpp,
    },
    Scenario {
        name: "gdb::rust",
        about: "bt full and info registers of a Rust program",
        run: rust,
    },
    Scenario {
        name: "gdb::vector",
        about: "vector, mask and control registers that a program loaded are in its core",
        run: vector,
    },
];

fn c(_: &Length) -> Result<Outcome> {
    agree(
        "debug_c.c",
        &[
            "print origin",
            "print table",
            "x/8xg &table",
            "print arrived",
            "ptype origin",
        ],
        &["descend", "spin", "local = {", "name = ", "\"local\""],
    )
}

fn cpp(_: &Length) -> Result<Outcome> {
    agree(
        "debug_cpp.cpp",
        &["print arrived", "print sizeof(ages)", "print ages"],
        &["Box<long>::area", "words = ", "sides = "],
    )
}

fn rust(_: &Length) -> Result<Outcome> {
    agree(
        "debug_rust.rs",
        &["print debug_rust::TABLE", "print debug_rust::ARRIVED"],
        &["debug_rust::descend", "depth", "own = "],
    )
}

/// What the live comparison leaves out (see [`comparable`]) is checked against what the program
/// itself says.
fn vector(_: &Length) -> Result<Outcome> {
    let Some(gdb) = place::program("gdb") else {
        return skip("no gdb on this machine");
    };
    let dir = place::scratch()?;
    let exe = place::target("vector.c")?;
    let mut target = Running::start(&mut command::<&str>(&exe, &[]), dir.path())?;
    let pid = target.ready()?;
    // It loads the registers right after it said so, and spins.
    std::thread::sleep(std::time::Duration::from_millis(300));
    let core = core_of(dir.path(), pid, "20")?;
    let text = target.stdout();
    let mut c = command(gdb, &["-nx", "-batch"]);
    let mut expected = Vec::new();
    for line in text.lines().filter_map(|l| l.strip_prefix("expect ")) {
        let (question, answer) = line.rsplit_once(' ').context("a target's line")?;
        c.args(["-ex", question]);
        expected.push((question.to_owned(), answer.to_owned()));
    }
    let (_, out, err) = process::run(c.arg(&exe).arg(&core), dir.path())?;
    let answers: Vec<&str> = out
        .lines()
        .filter(|l| l.starts_with('$'))
        .filter_map(|l| l.rsplit(' ').next())
        .collect();
    ensure!(
        answers.len() == expected.len() && expected.len() >= 3,
        "GDB said: {out} {err}"
    );
    for ((question, wanted), answer) in expected.iter().zip(answers) {
        ensure!(
            answer == wanted,
            "{question} is {answer} instead of {wanted}"
        );
    }
    passed(format!("registers {}", expected.len()))
}

/// Attaches for some checkpoints and exports the last.
fn core_of(dir: &Path, pid: u32, count: &str) -> Result<std::path::PathBuf> {
    let out = still::fresh(dir, "run.still");
    let mut recorder = still::attach(dir, &["--count", count, "--hz", "50"], &out, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let core = dir.join("at.core");
    let at = still::moment(&out, "last");
    let export: [OsString; 5] = [
        "export".into(),
        "--core".into(),
        at,
        "-o".into(),
        core.clone().into(),
    ];
    let (status, _, err) = still::run(dir, &export)?;
    ensure!(status.success(), "export: {status}: {err}");
    Ok(core)
}

/// Registers as far as the live GDB can be believed: GDB 13 shows the AVX-512 mask registers of a
/// live process as 0 on processors with AMX, whatever they hold.
fn comparable(registers: &str) -> String {
    registers
        .lines()
        .filter(|l| !(l.starts_with('k') && l[1..].starts_with(|c: char| c.is_ascii_digit())))
        .collect::<Vec<_>>()
        .join("\n")
}

/// What GDB says about a program: per thread (by LWP) backtrace and registers, and the answers to
/// questions about globals.
#[derive(Debug, Default, PartialEq, Eq)]
struct Said {
    backtraces: BTreeMap<u32, String>,
    registers: BTreeMap<u32, String>,
    globals: String,
}

fn ask(dir: &Path, subject: &[OsString], questions: &[&str]) -> Result<(Said, String)> {
    let gdb = place::program("gdb").context("gdb has gone")?;
    let mut c = command(gdb, &["-nx", "-batch"]);
    for setting in [
        "set pagination off",
        "set width 0",
        "set print thread-events off",
        "set debuginfod enabled off",
        "set python print-stack none",
        "set auto-load safe-path /",
    ] {
        c.args(["-iex", setting]);
    }
    c.args(subject);
    c.args(["-ex", "echo \\n==bt\\n", "-ex", "thread apply all bt full"]);
    c.args([
        "-ex",
        "echo \\n==registers\\n",
        "-ex",
        "thread apply all info registers",
    ]);
    c.args(["-ex", "echo \\n==globals\\n"]);
    for question in questions {
        c.args(["-ex", question]);
    }
    c.args(["-ex", "echo \\n==end\\n"]);
    let (_, out, err) = process::run(&mut c, dir)?;
    let part = |from: &str, to: &str| -> Result<String> {
        let start = out
            .find(from)
            .with_context(|| format!("GDB said: {out} {err}"))?
            + from.len();
        let end = out[start..]
            .find(to)
            .with_context(|| format!("GDB stopped: {out} {err}"))?;
        Ok(out[start..start + end].trim().to_owned())
    };
    let said = Said {
        backtraces: by_thread(&part("\n==bt\n", "\n==registers\n")?)?,
        registers: by_thread(&part("\n==registers\n", "\n==globals\n")?)?,
        globals: part("\n==globals\n", "\n==end\n")?,
    };
    Ok((said, err))
}

/// Splits the output of `thread apply all` by LWP.
fn by_thread(text: &str) -> Result<BTreeMap<u32, String>> {
    let mut threads = BTreeMap::new();
    let mut current = None;
    for line in text.lines() {
        if line.starts_with("Thread ") && line.contains("LWP ") {
            let digits = line.split("LWP ").nth(1).unwrap_or_default();
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            let lwp: u32 = digits.parse().with_context(|| line.to_owned())?;
            current = Some(lwp);
            threads.insert(lwp, String::new());
        } else if let Some(block) = current.and_then(|lwp| threads.get_mut(&lwp)) {
            block.push_str(line.trim_end());
            block.push('\n');
        }
    }
    for block in threads.values_mut() {
        *block = block.trim().to_owned();
    }
    ensure!(!threads.is_empty(), "GDB shows no thread: {text}");
    Ok(threads)
}

/// The first lines that differ.
fn difference(what: &str, live: &str, core: &str) -> Result<()> {
    if live == core {
        return Ok(());
    }
    let (mut a, mut b) = (live.lines(), core.lines());
    let mut told = Vec::new();
    loop {
        match (a.next(), b.next()) {
            (None, None) => break,
            (x, y) if x == y => {}
            (x, y) => told.push(format!(
                "live [{}] core [{}]",
                x.unwrap_or("nothing").trim(),
                y.unwrap_or("nothing").trim()
            )),
        }
    }
    told.truncate(6);
    bail!("{what}: {}", told.join("; "))
}

fn agree(name: &str, questions: &[&str], expected: &[&str]) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip("no gdb on this machine");
    }
    let dir = place::scratch()?;
    let exe = place::target(name)?;
    let mut target = Running::start(&mut command::<&str>(&exe, &[]), dir.path())?;
    let pid = target.ready()?;
    process::signal(pid, Signal::STOP)?;
    wait_for("all threads have stopped", || {
        std::fs::read_dir(format!("/proc/{pid}/task")).is_ok_and(|mut threads| {
            threads.all(|t| {
                t.is_ok_and(|t| {
                    std::fs::read_to_string(t.path().join("stat")).is_ok_and(|s| s.contains(") T "))
                })
            })
        })
    })?;
    let core = core_of(dir.path(), pid, "1").context("a stopped target")?;
    wait_for("the target is stopped as before", || {
        process::state_of(pid) == Some('T')
    })?;
    let (dead, complaints) = ask(dir.path(), &[exe.clone().into(), core.into()], questions)?;
    let (live, usual) = ask(
        dir.path(),
        &[exe.into(), "-p".into(), pid.to_string().into()],
        questions,
    )?;
    process::signal(pid, Signal::KILL)?;
    target.wait(PATIENCE)?;
    let warned: Vec<&str> = complaints
        .lines()
        .filter(|l| l.contains("warning") || l.contains("rror") || l.contains("BFD"))
        // What GDB has against the program itself it says in both cases.
        .filter(|l| !usual.contains(*l))
        .collect();
    ensure!(
        warned.is_empty(),
        "GDB complains about the core: {}",
        warned.join(" / ")
    );
    let all: String = live.backtraces.values().cloned().collect();
    for word in expected {
        ensure!(
            all.contains(word),
            "the live backtraces do not even show {word:?}: {all}"
        );
    }
    ensure!(
        live.backtraces.keys().eq(dead.backtraces.keys()),
        "threads: live {:?}, core {:?}",
        live.backtraces.keys(),
        dead.backtraces.keys()
    );
    for (lwp, text) in &live.registers {
        difference(
            &format!("registers of {lwp}"),
            &comparable(text),
            &comparable(&dead.registers[lwp]),
        )?;
    }
    for (lwp, text) in &live.backtraces {
        difference(&format!("bt full of {lwp}"), text, &dead.backtraces[lwp])?;
    }
    difference("globals", &live.globals, &dead.globals)?;
    passed(format!(
        "threads {}, lines {}",
        live.backtraces.len(),
        all.lines().count()
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_by_thread() {
        let text = "\nThread 2 (Thread 0x7f (LWP 12) \"x\"):\n#0 a\n\nThread 1 (LWP 11):\n#0 b\n";
        let threads = by_thread(text).unwrap();
        assert_eq!(threads[&12], "#0 a");
        assert_eq!(threads[&11], "#0 b");
        assert!(by_thread("nothing").is_err());
    }

    #[test]
    fn differences_are_told() {
        assert!(difference("x", "a\nb", "a\nb").is_ok());
        let told = difference("x", "a\nb", "a\nc").unwrap_err().to_string();
        assert_eq!(told, "x: live [b] core [c]");
    }
}
