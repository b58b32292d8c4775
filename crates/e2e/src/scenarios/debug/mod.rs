//! Debuggers at moments of a recording: real GDB and LLDB, driven by `still debug`, and a hostile
//! client.

mod gdb;
mod hostile;
mod lldb;
mod questions;

use crate::process::{self, PATIENCE, Running, wait_for};
use crate::{Scenario, place, still};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use stillframe_image::SpaceId;
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "debug::session",
        about: "GDB opens a moment, watches, goes back and forth, changes threads, and leaves",
        run: gdb::session,
    },
    Scenario {
        name: "debug::questions",
        about: "GDB's monitor commands ask the past: history, find, running, as the recording has it",
        run: questions::questions,
    },
    Scenario {
        name: "debug::listen",
        about: "GDBs without set-up come one after the other, over a socket, TCP and a pipe",
        run: gdb::listen,
    },
    Scenario {
        name: "debug::crash",
        about: "a moment at a fatal signal stops with it, with its siginfo",
        run: gdb::crash,
    },
    Scenario {
        name: "debug::registers",
        about: "all registers of all threads are those that GDB finds in the exported core",
        run: gdb::registers,
    },
    Scenario {
        name: "debug::gone",
        about: "files come from the recording when they are gone; another build is refused",
        run: gdb::gone,
    },
    Scenario {
        name: "debug::tree",
        about: "each process of a tree can be debugged",
        run: gdb::tree,
    },
    Scenario {
        name: "debug::exec",
        about: "where the process runs another program than before, GDB's user is told",
        run: gdb::exec,
    },
    Scenario {
        name: "debug::lldb",
        about: "LLDB opens a moment, shows stacks and values, and goes on",
        run: lldb::session,
    },
    Scenario {
        name: "debug::hostile",
        about: "mutated packets neither end the server nor make it grow",
        run: hostile::packets,
    },
];

/// A recording of `debug_moves.c`.
struct Moves {
    dir: tempfile::TempDir,
    recording: PathBuf,
    /// Where `account.balance` is.
    balance: u64,
}

impl Moves {
    fn record() -> Result<Self> {
        let dir = place::scratch()?;
        let exe = place::target("debug_moves.c")?;
        let recording = still::fresh(dir.path(), "run.still");
        let cmd: Vec<OsString> = vec![exe.into(), "--seconds".into(), "1.5".into()];
        let mut recorder = still::record(dir.path(), &["--hz", "100"], &recording, &cmd)?;
        still::ended_with(&mut recorder, 0, PATIENCE)?;
        Ok(Self {
            balance: recorder.address("balance")?,
            dir,
            recording,
        })
    }

    /// The balance at every checkpoint; `None` where it cannot be read.
    fn balances(&self) -> Result<Vec<(u64, Option<i64>)>> {
        let recording = Recording::open(&self.recording)?;
        recording
            .rows()
            .iter()
            .map(|row| {
                let memory = recording.memory(row.id, SpaceId(0))?;
                let mut bytes = [0; 8];
                let read = memory.read(self.balance, &mut bytes);
                Ok((row.id.0, read.ok().map(|()| i64::from_le_bytes(bytes))))
            })
            .collect()
    }

    fn at(&self, moment: &str) -> OsString {
        still::moment(&self.recording, moment)
    }
}

/// Runs `still debug ARGS`, which must succeed: (stdout, stderr).
fn debug(dir: &Path, args: &[OsString]) -> Result<(String, String)> {
    let mut all: Vec<OsString> = vec!["debug".into()];
    all.extend_from_slice(args);
    let (status, out, err) =
        process::run(still::still(&all)?.env("HOME", dir).env_remove("TERM"), dir)?;
    ensure!(status.success(), "{args:?}: {status}: {out} {err}");
    Ok((out, err))
}

/// Starts `still debug ARGS --listen ADDRESS`; returns where it listens.
fn listen(dir: &Path, args: &[OsString], address: &str) -> Result<(Running, String)> {
    let mut all: Vec<OsString> = vec!["debug".into()];
    all.extend_from_slice(args);
    all.extend(["--listen".into(), address.into()]);
    let server = Running::start(&mut still::still(&all)?, dir)?;
    wait_for("the server listens", || server.stdout().contains('\n'))?;
    let said = server.stdout();
    let shown = said
        .lines()
        .find_map(|l| l.strip_prefix("listening on "))
        .with_context(|| format!("the server said: {said} {}", server.stderr()))?
        .to_owned();
    Ok((server, shown))
}

/// Checks that a text has these parts, in this order.
fn in_order(text: &str, parts: &[&str]) -> Result<()> {
    let mut rest = text;
    for part in parts {
        let at = rest
            .find(part)
            .with_context(|| format!("{part:?} is missing, or out of order, in: {text}"))?;
        rest = &rest[at + part.len()..];
    }
    Ok(())
}
