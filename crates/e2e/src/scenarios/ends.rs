//! Ends: crashes, exits of every kind, their last checkpoints and exit statuses.

use crate::process::{PATIENCE, Running};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use stillframe_image::{Marks, SpaceId};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ends::crash",
        about: "a fatal signal makes a last checkpoint at that instant, marked, that GDB opens",
        run: crash,
    },
    Scenario {
        name: "ends::exit",
        about: "every way to exit makes a last checkpoint, marked, and passes the status on",
        run: exit,
    },
    Scenario {
        name: "ends::short",
        about: "a program that ends at once is recorded without hanging",
        run: short,
    },
];

/// Reads a word of the last checkpoint and checks the marks of all.
fn last_word(run: &Running, out: &std::path::Path, name: &str, mark: Marks) -> Result<u64> {
    let recording = still::open(out)?;
    let (last, before) = recording.rows().split_last().context("no checkpoint")?;
    ensure!(
        last.tick.marks.contains(mark),
        "the last checkpoint is not marked {:?}",
        mark.names().collect::<Vec<_>>()
    );
    ensure!(
        before
            .iter()
            .all(|r| !r.tick.marks.contains(Marks::CRASH) && !r.tick.marks.contains(Marks::EXIT)),
        "a checkpoint before the last is marked as an end"
    );
    ensure!(
        recording.rows()[0].tick.marks.contains(Marks::FULL),
        "the first checkpoint is not marked full"
    );
    let mut bytes = [0; 8];
    recording
        .memory(last.id, SpaceId(0))?
        .read(run.address(name)?, &mut bytes)?;
    Ok(u64::from_le_bytes(bytes))
}

fn crash(_: &Length) -> Result<Outcome> {
    let exe = place::target("crash.c")?;
    for (kind, status, value) in [
        ("segv", 128 + 11, 0x5ca1_ab1e_5ca1_ab1e_u64),
        ("abort", 128 + 6, 0xab_0047),
    ] {
        let dir = place::scratch()?;
        let out = dir.path().join("run.still");
        let cmd: [OsString; 5] = [
            exe.clone().into(),
            "--after".into(),
            "0.3".into(),
            "--kind".into(),
            kind.into(),
        ];
        let mut run = still::record(dir.path(), &["--hz", "50"], &out, &cmd)?;
        still::ended_with(&mut run, status, PATIENCE).context(kind)?;
        let word = last_word(&run, &out, "last_words", Marks::CRASH).context(kind)?;
        ensure!(word == value, "{kind}: the last words are {word:#x}");
        let recording = still::open(&out)?;
        let last = recording.rows().last().context("no checkpoint")?;
        let threads = recording.process(last.id, SpaceId(0))?.threads;
        let died: Vec<i32> = threads
            .iter()
            .filter_map(|t| t.signal.as_ref().map(|s| s.signal))
            .collect();
        ensure!(
            died == [status - 128],
            "{kind}: signals of the threads: {died:?}"
        );
        still::verify(dir.path(), &out)?;
        let core = dir.path().join("crash.core");
        let (ended, _, err) = still::run(
            dir.path(),
            &[
                "export".into(),
                "--core".into(),
                still::moment(&out, "crash"),
                OsString::from("-o"),
                core.clone().into(),
            ],
        )?;
        ensure!(ended.success(), "export of @crash: {err}");
        let Some(gdb) = place::program("gdb") else {
            return skip("no gdb on this machine");
        };
        let mut c = std::process::Command::new(gdb);
        c.args([
            "-nx",
            "-batch",
            "-ex",
            "bt",
            "-ex",
            "p/x last_words",
            "-ex",
            "info threads",
        ]);
        let (_, said, err) = crate::process::run(c.arg(&exe).arg(&core), dir.path())?;
        let frames = said.matches(" in fall (").count();
        ensure!(
            (kind != "segv" || frames == 5) && said.contains(&format!("{value:#x}")),
            "GDB on the core of {kind}: {said} {err}"
        );
    }
    passed("")
}

fn exit(_: &Length) -> Result<Outcome> {
    let exe = place::target("exiter.c")?;
    let cases = [
        ("return", 7, 7),
        ("exit", 0, 0),
        ("_exit", 255, 255),
        ("thread", 42, 42),
        ("leader", 9, 0),
        ("signal", 9, 128 + 9),
        ("signal", 15, 128 + 15),
    ];
    for (how, argument, status) in cases {
        let what = || format!("{how} {argument}");
        let dir = place::scratch()?;
        let out = dir.path().join("run.still");
        let cmd: [OsString; 4] = [
            exe.clone().into(),
            how.into(),
            argument.to_string().into(),
            "0.2".into(),
        ];
        let mut run = still::record(dir.path(), &["--hz", "50"], &out, &cmd)?;
        still::ended_with(&mut run, status, PATIENCE).with_context(what)?;
        still::verify(dir.path(), &out).with_context(what)?;
        // SIGKILL leaves nobody to ask; every other end has its checkpoint.
        if status != 128 + 9 {
            let mark = if how == "signal" {
                Marks::CRASH
            } else {
                Marks::EXIT
            };
            let word = last_word(&run, &out, "final_value", mark).with_context(what)?;
            ensure!(word == 0xf1a1, "{}: the final value is {word:#x}", what());
        }
    }
    passed(format!("cases {}", cases.len()))
}

fn short(_: &Length) -> Result<Outcome> {
    for (cmd, status) in [("true", 0), ("false", 1)] {
        let Some(program) = place::program(cmd) else {
            return skip("no true or false");
        };
        for _ in 0..5 {
            let dir = place::scratch()?;
            let out = dir.path().join("run.still");
            let mut run = still::record(
                dir.path(),
                &["--hz", "100"],
                &out,
                &[program.clone().into()],
            )?;
            still::ended_with(&mut run, status, PATIENCE).context(cmd)?;
            still::open(&out)?;
            still::verify(dir.path(), &out)?;
        }
    }
    passed("")
}
