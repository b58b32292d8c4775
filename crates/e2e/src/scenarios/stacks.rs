//! Call stacks agree with GDB's: `show --bt` of a checkpoint, and GDB on the core exported from the
//! same one, name the same frames at the same addresses and lines.

use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use serde::Deserialize;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::Path;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "stacks::c",
        about: "signal handlers, callbacks and inlined code of a C program",
        run: c,
    },
    Scenario {
        name: "stacks::cpp",
        about: "exceptions, destructors, templates and lambdas of a C++ program",
        run: cpp,
    },
    Scenario {
        name: "stacks::rust",
        about: "panics, destructors, closures and iterators of a Rust program",
        run: rust,
    },
    Scenario {
        name: "stacks::stripped",
        about: "a program without symbols: the same addresses, no invented names",
        run: stripped,
    },
];

fn c(_: &Length) -> Result<Outcome> {
    agree(
        "stacks.c",
        &["caught", "spin", "blend", "compare", "sorting", "main"],
        None,
    )
}

fn cpp(_: &Length) -> Result<Outcome> {
    agree(
        "stacks.cpp",
        &["rest", "fail", "~Holder", "area", "main"],
        None,
    )
}

fn rust(_: &Length) -> Result<Outcome> {
    agree("stacks.rs", &["rest", "fall", "visit", "main"], None)
}

fn stripped(_: &Length) -> Result<Outcome> {
    let Some(strip) = place::program("strip") else {
        return skip("no strip on this machine");
    };
    agree("stacks.c", &["start_thread"], Some(&strip))
}

/// A frame, as far as both sides say the same of it.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Frame {
    pc: u64,
    name: Option<String>,
    line: Option<u64>,
    inlined: bool,
    signal: bool,
}

/// The output of `show --bt --json`.
#[derive(Deserialize)]
struct Stacks {
    threads: Vec<Thread>,
}

#[derive(Deserialize)]
struct Thread {
    tid: u32,
    frames: Vec<Shown>,
}

#[derive(Deserialize)]
struct Shown {
    pc: String,
    function: Option<String>,
    line: Option<u64>,
    inlined: bool,
    signal: bool,
}

/// What GDB is asked through its own Python, so that nothing has to be parsed from what it prints
/// for people.
const ASK: &str = r#"
import gdb
for thread in gdb.selected_inferior().threads():
    thread.switch()
    frame = gdb.newest_frame()
    while frame is not None:
        line = frame.find_sal().line
        kind = frame.type()
        if kind == gdb.TAILCALL_FRAME:
            # GDB reasons that a function was left by a jump; it has no frame, and we show none.
            frame = frame.older()
            continue
        print("FRAME\t%d\t%d\t%d\t%d\t%d\t%s" % (thread.ptid[1], frame.pc(), line,
            kind == gdb.INLINE_FRAME, kind == gdb.SIGTRAMP_FRAME, frame.name() or ""))
        frame = frame.older()
"#;

fn of_gdb(dir: &Path, exe: &Path, core: &Path) -> Result<BTreeMap<u32, Vec<Frame>>> {
    let script = dir.join("ask.py");
    std::fs::write(&script, ASK)?;
    let gdb = place::program("gdb").context("gdb has gone")?;
    let mut c = command(gdb, &["-nx", "-batch"]);
    for setting in [
        "set debuginfod enabled off",
        "set backtrace past-main on",
        "set backtrace past-entry off",
    ] {
        c.args(["-iex", setting]);
    }
    c.arg(exe).arg(core).arg("-x").arg(&script);
    let (_, out, err) = process::run(&mut c, dir)?;
    let mut found: BTreeMap<u32, Vec<Frame>> = BTreeMap::new();
    for line in out.lines().filter_map(|l| l.strip_prefix("FRAME\t")) {
        let words: Vec<&str> = line.splitn(6, '\t').collect();
        let [tid, pc, line, inlined, signal, name] = words.as_slice() else {
            anyhow::bail!("GDB said {line:?}");
        };
        let line: u64 = line.parse()?;
        found.entry(tid.parse()?).or_default().push(Frame {
            pc: pc.parse()?,
            name: plain(name),
            line: (line != 0).then_some(line),
            inlined: *inlined == "1",
            signal: *signal == "1",
        });
    }
    ensure!(!found.is_empty(), "GDB said: {out} {err}");
    Ok(found)
}

/// The last part of a name, without parameters, template arguments and numbers of closures: GDB
/// composes names from debug information, we take them from linkage names.
fn plain(name: &str) -> Option<String> {
    let mut depth = 0;
    let mut flat = String::new();
    for c in name.chars() {
        match c {
            '<' | '(' | '[' => depth += 1,
            '>' | ')' | ']' => depth -= 1,
            _ if depth == 0 => flat.push(c),
            _ => {}
        }
    }
    let last = flat.rsplit("::").find(|part| !part.trim().is_empty())?;
    let last = last.trim().trim_end_matches(" const");
    // A version of a symbol, a part of a function that was moved away, a clone.
    let last = last.split(['@', '.', ' ']).next().unwrap_or(last);
    // `call_once{{vtable.shim}}`
    let last = last
        .split_once("{{")
        .map_or(last, |(name, rest)| match name {
            "" => rest,
            _ => name,
        });
    let last = if last.contains("closure") || last.contains("lambda") {
        "closure"
    } else {
        last
    };
    (!last.is_empty() && last != "??").then(|| last.to_owned())
}

fn agree(name: &str, expected: &[&str], strip: Option<&Path>) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip("no gdb on this machine");
    }
    let dir = place::scratch()?;
    let mut exe = place::target(name)?;
    if let Some(strip) = strip {
        let bare = dir.path().join("bare");
        let (status, _, err) =
            process::run(command(strip, &["-o"]).arg(&bare).arg(&exe), dir.path())?;
        ensure!(status.success(), "strip: {err}");
        exe = bare;
    }
    let mut target = Running::start(&mut command::<&str>(&exe, &[]), dir.path())?;
    let pid = target.ready()?;
    let out = still::fresh(dir.path(), "run.still");
    let mut recorder = still::attach(dir.path(), &["--count", "3", "--hz", "20"], &out, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let core = dir.path().join("at.core");
    let at = still::moment(&out, "last");
    let export: [OsString; 5] = [
        "export".into(),
        "--core".into(),
        at.clone(),
        "-o".into(),
        core.clone().into(),
    ];
    let (status, _, err) = still::run(dir.path(), &export)?;
    ensure!(status.success(), "export: {status}: {err}");
    let show: [OsString; 4] = ["show".into(), at, "--bt".into(), "--json".into()];
    let (status, text, err) = still::run(dir.path(), &show)?;
    ensure!(status.success(), "show --bt: {status}: {err}");
    let stacks: Stacks = serde_json::from_str(&text).with_context(|| text.clone())?;
    let gdb = of_gdb(dir.path(), &exe, &core)?;

    let mut frames = 0;
    let mut names: Vec<String> = Vec::new();
    ensure!(
        stacks.threads.len() == gdb.len(),
        "{} threads, GDB has {}",
        stacks.threads.len(),
        gdb.len()
    );
    for thread in &stacks.threads {
        let ours: Vec<Frame> = thread
            .frames
            .iter()
            .map(|f| {
                let pc = u64::from_str_radix(f.pc.trim_start_matches("0x"), 16)?;
                Ok(Frame {
                    pc,
                    // GDB gives the kernel's frames no name.
                    name: f.function.as_deref().filter(|_| !f.signal).and_then(plain),
                    line: f.line.filter(|_| !f.signal),
                    inlined: f.inlined,
                    signal: f.signal,
                })
            })
            .collect::<Result<_>>()?;
        let theirs: Vec<Frame> = gdb
            .get(&thread.tid)
            .with_context(|| format!("GDB does not know thread {}", thread.tid))?
            .iter()
            .cloned()
            .map(|f| match f.signal {
                true => Frame {
                    name: None,
                    line: None,
                    ..f
                },
                false => f,
            })
            .collect();
        for (level, pair) in ours.iter().zip(&theirs).enumerate() {
            ensure!(
                pair.0 == pair.1,
                "thread {} frame {level}: {:x?}, GDB has {:x?}",
                thread.tid,
                pair.0,
                pair.1
            );
        }
        ensure!(
            ours.len() == theirs.len(),
            "thread {}: {} frames, GDB has {}: {ours:x?}; GDB's {theirs:x?}",
            thread.tid,
            ours.len(),
            theirs.len()
        );
        frames += ours.len();
        names.extend(ours.into_iter().filter_map(|f| f.name));
    }
    for word in expected {
        ensure!(
            names.iter().any(|n| n == word),
            "no frame is of {word:?}: {names:?}"
        );
    }
    passed(format!("threads {}, frames {frames}", gdb.len()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_made_alike() {
        for (name, wanted) in [
            ("main", "main"),
            (
                "std::vector<int, std::allocator<int> >::push_back(int&&)",
                "push_back",
            ),
            ("stacks::fall", "fall"),
            ("<alloc::vec::Vec<u32> as stacks::Visit>::visit", "visit"),
            ("stacks::main::{{closure}}", "closure"),
            ("stacks::main::{closure#0}", "closure"),
            ("__libc_start_main@@GLIBC_2.34", "__libc_start_main"),
        ] {
            assert_eq!(plain(name).as_deref(), Some(wanted), "{name}");
        }
        assert_eq!(plain(""), None);
        assert_eq!(plain("??"), None);
    }
}
