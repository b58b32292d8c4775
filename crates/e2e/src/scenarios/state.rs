//! The matrix of states: every kind of state in `targets/state.c`, restored and rolled back.
//!
//! Each kind is a program that checks itself step by step, so that its memory and what the kernel
//! holds for it must be of one instant. It is recorded to its end; then moments of it are restored,
//! and each life must end well, too. In another run it is rolled back while it works. Both are done
//! with one process and with the state in a child of a recorded tree.
//!
//! docs/support.md is what comes out, and a test holds the file to it: `cargo xtask support` writes it.

use crate::process::{PATIENCE, Running};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicUsize, Ordering::Relaxed};
use std::sync::{Mutex, PoisonError};
use std::time::Duration;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "state::matrix",
    about: "every kind of state survives restore and rollback, or is refused by name, as docs/support.md says",
    run: matrix,
}];

/// Kinds that cannot come back, and the word that the refusal must name.
const REFUSED: [(&str, &str); 2] = [("deleted_file", "deleted"), ("io_uring", "io_uring")];

/// Kinds of the short form: at least one of each sort.
const SHORT: [&str; 16] = [
    "file",
    "pipe_packets",
    "unix_stream",
    "tcp_listener",
    "eventfd",
    "timerfd",
    "signalfd",
    "epoll",
    "memfd_mapped",
    "pidfd",
    "mappings",
    "cwd",
    "signal_action",
    "signal_queue",
    "posix_timer",
    "threads",
];

/// Cells at once. They mostly wait.
const AT_ONCE: usize = 4;

/// Kinds whose restored form is closed by the other end, as the program then says.
const CLOSED: [&str; 1] = ["tcp_connection"];

/// What became of one cell.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Cell {
    Pass,
    /// Comes back closed by the other end, named.
    Closed,
    /// Refused before anything started, with this line.
    Refuse(String),
    Fail(String),
    /// Not available on this machine.
    None,
}

impl Cell {
    const fn word(&self) -> &'static str {
        match self {
            Self::Pass => "pass",
            Self::Closed => "closed",
            Self::Refuse(_) => "refuse",
            Self::Fail(_) => "fail",
            Self::None => "-",
        }
    }
}

/// A way to bring a moment back, as a column of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Way {
    Restore,
    RestoreTree,
    Rollback,
    RollbackTree,
}

const WAYS: [(Way, &str); 4] = [
    (Way::Restore, "restore"),
    (Way::RestoreTree, "restore, tree"),
    (Way::Rollback, "rollback"),
    (Way::RollbackTree, "rollback, tree"),
];

struct Stage {
    dir: tempfile::TempDir,
    program: PathBuf,
    /// Of five milliseconds and a little.
    steps: u32,
    moments: usize,
}

impl Stage {
    fn command(&self, kind: &str, home: &Path, tree: bool) -> Vec<OsString> {
        let mut all: Vec<OsString> = vec![self.program.clone().into(), kind.into()];
        all.extend(["--dir".into(), home.into(), "--steps".into()]);
        all.push(self.steps.to_string().into());
        all.extend(["--pause".into(), "5".into()]);
        if tree {
            all.extend(["--tree".into(), "1".into()]);
        }
        all
    }

    /// A directory of its own for a cell.
    fn home(&self, kind: &str, way: Way) -> Result<PathBuf> {
        let home = self.dir.path().join(format!("{kind}-{way:?}"));
        std::fs::create_dir_all(&home)?;
        Ok(home)
    }
}

fn options(tree: bool) -> Vec<&'static str> {
    let mut all = vec!["--hz", "50"];
    if tree {
        all.push("--follow");
    }
    all
}

/// Restores moments of a life that was recorded to its end.
fn restore(stage: &Stage, kind: &str, tree: bool, random: &mut Random) -> Result<Cell> {
    let way = if tree { Way::RestoreTree } else { Way::Restore };
    let home = stage.home(kind, way)?;
    let out = home.join("run.still");
    let command = stage.command(kind, &home, tree);
    let mut recorder = still::record(&home, &options(tree), &out, &command)?;
    let status = recorder.wait(PATIENCE)?;
    if status.code() == Some(77) {
        return Ok(Cell::None);
    }
    ensure!(
        status.success(),
        "recorded, it ends with {status}: {} {}",
        still::tail(&recorder.stdout()),
        still::tail(&recorder.stderr())
    );
    let count = still::open(&out)?.rows().len() as u64;
    ensure!(count > 4, "only {count} checkpoints");
    let mut cell = Cell::Pass;
    for _ in 0..stage.moments {
        // Not the first, which is before the program has set up its state, nor the end.
        let at = 2 + random.below(count - 4);
        let moment = still::moment(&out, &at.to_string());
        let args: [OsString; 2] = ["restore".into(), moment];
        let mut run = Running::start(&mut still::still(&args)?, &home)?;
        let status = run.wait(PATIENCE)?;
        let said = format!("{}\n{}", run.stdout(), run.stderr());
        let all = format!("{}{}", recorder.stdout(), run.stdout());
        match status.code() {
            Some(0) if all.contains(" closed\n") => cell = cell.max(Cell::Closed),
            Some(0) => {}
            _ if REFUSED
                .iter()
                .any(|(k, word)| *k == kind && said.contains(word)) =>
            {
                let line = run.stderr().lines().last().unwrap_or_default().to_owned();
                cell = cell.max(Cell::Refuse(line));
            }
            _ => {
                let why = format!("checkpoint {at}: {status}: {}", still::tail(&said));
                return Ok(Cell::Fail(why));
            }
        }
    }
    Ok(cell)
}

/// Rolls a recorded process back while it works.
fn rollback(stage: &Stage, kind: &str, tree: bool, random: &mut Random) -> Result<Cell> {
    let way = if tree {
        Way::RollbackTree
    } else {
        Way::Rollback
    };
    let home = stage.home(kind, way)?;
    let out = home.join("run.still");
    let command = stage.command(kind, &home, tree);
    let mut recorder = still::record(&home, &options(tree), &out, &command)?;
    let mut refused = None;
    let mut made = 0;
    while made < stage.moments {
        std::thread::sleep(Duration::from_millis(30 + random.below(200)));
        if let Some(status) = recorder.ended()? {
            if status.code() == Some(77) {
                return Ok(Cell::None);
            }
            break;
        }
        let Ok(opened) = still::open(&out) else {
            // Not there yet.
            continue;
        };
        let Some(last) = opened.rows().last().filter(|r| r.id.0 > 5) else {
            continue;
        };
        let root = opened
            .checkpoint(last.id)?
            .root()
            .map_or(0, |p| p.process.pid);
        let at = 2 + random.below(last.id.0 - 3);
        let args: [OsString; 3] = [
            "rollback".into(),
            root.to_string().into(),
            still::moment(&out, &at.to_string()),
        ];
        let (status, _, err) = still::run(&home, &args)?;
        if !status.success() {
            if REFUSED
                .iter()
                .any(|(k, word)| *k == kind && err.contains(word))
            {
                refused = Some(err.lines().last().unwrap_or_default().to_owned());
                made += 1;
                continue;
            }
            if recorder.ended()?.is_none() {
                return Ok(Cell::Fail(format!(
                    "to {at}: {status}: {}",
                    still::tail(&err)
                )));
            }
            continue;
        }
        made += 1;
    }
    ensure!(made > 0, "it ended before it could be rolled back");
    let status = recorder.wait(PATIENCE)?;
    if !status.success() {
        let said = format!("{} {}", recorder.stdout(), recorder.stderr());
        return Ok(Cell::Fail(format!("{status}: {}", still::tail(&said))));
    }
    Ok(refused.map_or(Cell::Pass, Cell::Refuse))
}

/// Runs cells side by side.
fn run_all(stage: &Stage, cells: &[(&String, Way, &str)]) -> BTreeMap<(String, Way), Cell> {
    let next = AtomicUsize::new(0);
    let results = Mutex::new(BTreeMap::new());
    std::thread::scope(|scope| {
        for _ in 0..AT_ONCE {
            scope.spawn(|| {
                while let Some((kind, way, name)) = cells.get(next.fetch_add(1, Relaxed)) {
                    let cell = one(stage, kind, *way, name);
                    let mut results = results.lock().unwrap_or_else(PoisonError::into_inner);
                    results.insert(((*kind).clone(), *way), cell);
                }
            });
        }
    });
    results.into_inner().unwrap_or_else(PoisonError::into_inner)
}

fn one(stage: &Stage, kind: &str, way: Way, name: &str) -> Cell {
    let mut random = Random::new(0x57a7e + kind.len() as u64 + way as u64);
    let cell = match way {
        Way::Restore => restore(stage, kind, false, &mut random),
        Way::RestoreTree => restore(stage, kind, true, &mut random),
        Way::Rollback => rollback(stage, kind, false, &mut random),
        Way::RollbackTree => rollback(stage, kind, true, &mut random),
    };
    cell.with_context(|| format!("{kind}, {name}"))
        .unwrap_or_else(|e| Cell::Fail(format!("{e:#}")))
}

/// All kinds that the program knows.
fn kinds(program: &Path) -> Result<Vec<String>> {
    let out = std::process::Command::new(program).arg("--list").output()?;
    let text = String::from_utf8(out.stdout)?;
    Ok(text.lines().map(str::to_owned).collect())
}

/// The table's rows.
fn rows(results: &BTreeMap<(String, Way), Cell>, kinds: &[String]) -> String {
    let mut text = String::new();
    for kind in kinds {
        let _ = write!(text, "| {kind} |");
        for (way, _) in WAYS {
            let word = results.get(&(kind.clone(), way)).map_or("-", Cell::word);
            let _ = write!(text, " {word} |");
        }
        text.push('\n');
    }
    text
}

fn document(rows: &str) -> String {
    let names: Vec<&str> = WAYS.iter().map(|(_, name)| *name).collect();
    format!(
        "# What comes back\n\n\
         Written by `cargo xtask support`, from running `crates/e2e/targets/state.c`: a program that \
         checks itself, once for each kind of state. *restore*: moments of a recorded life were started \
         anew, and each life ended well. *rollback*: the live process was taken back while it worked, and \
         ended well. *tree*: the state was in a child of a recorded tree, which was restored whole, or whose \
         first process was rolled back. *closed*: comes back closed by the other end, and `check` says so. *refuse*: refused by name \
         before anything starts. *-*: not to be had on the machine where this was written.\n\n\
         | kind | {} |\n|---|{}\n{rows}",
        names.join(" | "),
        "---|".repeat(WAYS.len())
    )
}

fn matrix(length: &Length) -> Result<Outcome> {
    let program = place::target("state.c")?;
    let path = place::workspace().join("docs/support.md");
    let writes = std::env::var_os("STILL_WRITE_SUPPORT").is_some();
    let only = std::env::var("STILL_STATE_KINDS").ok();
    if !writes && only.is_none() && !path.exists() {
        return skip("docs/support.md is not there yet: cargo xtask support writes it");
    }
    let help = still::run(Path::new("/tmp"), &["--help"])?.1;
    if !help.contains("restore") || !help.contains("rollback") {
        return skip("this build has no restore and no rollback");
    }
    let stage = Stage {
        dir: place::scratch()?,
        program,
        steps: if length.full { 400 } else { 120 },
        moments: if length.full { 8 } else { 1 },
    };
    let all = kinds(&stage.program)?;
    let chosen = |kind: &&String| match &only {
        Some(only) => only.split(',').any(|o| o == kind.as_str()),
        None => length.full || writes || SHORT.contains(&kind.as_str()),
    };
    let ways = |way: Way| {
        let tree = matches!(way, Way::RestoreTree | Way::RollbackTree);
        !tree || length.full || writes || only.is_some()
    };
    let mut cells: Vec<(&String, Way, &str)> = Vec::new();
    for kind in all.iter().filter(chosen) {
        let these = WAYS.iter().filter(|(way, _)| ways(*way));
        cells.extend(these.map(|(way, name)| (kind, *way, *name)));
    }
    let results = run_all(&stage, &cells);
    let mut failures = Vec::new();
    for (kind, way, name) in &cells {
        let Some(cell) = results.get(&((*kind).clone(), *way)) else {
            continue;
        };
        if let Cell::Fail(why) = cell {
            println!("    {kind}, {name}: {why}");
            failures.push(format!("{kind}, {name}"));
        }
        let expected = REFUSED.iter().any(|(k, _)| k == kind) || CLOSED.contains(&kind.as_str());
        if matches!(cell, Cell::Refuse(_) | Cell::Closed) && !expected {
            failures.push(format!("{kind}, {name}: {}", cell.word()));
        }
    }
    let count = |word| results.values().filter(|c| c.word() == word).count();
    let figures = format!(
        "{} kinds: {} pass, {} closed, {} refuse, {} fail",
        all.iter().filter(chosen).count(),
        count("pass"),
        count("closed"),
        count("refuse"),
        count("fail")
    );
    if writes {
        std::fs::write(&path, document(&rows(&results, &all)))?;
        ensure!(failures.is_empty(), "{figures}: {}", failures.join("; "));
        return passed(format!("{figures}; written to docs/support.md"));
    }
    if only.is_some() {
        ensure!(failures.is_empty(), "{figures}: {}", failures.join("; "));
        return passed(figures);
    }
    ensure!(failures.is_empty(), "{figures}: {}", failures.join("; "));
    // What the document promises must hold.
    let promised =
        std::fs::read_to_string(&path).context("docs/support.md: run cargo xtask support")?;
    let mut wrong = Vec::new();
    for line in rows(&results, &all).lines() {
        let kind = line.split('|').nth(1).unwrap_or_default().trim();
        let said = promised
            .lines()
            .find(|l| l.split('|').nth(1).is_some_and(|c| c.trim() == kind));
        let said =
            said.with_context(|| format!("docs/support.md lacks {kind}: run cargo xtask support"))?;
        let cells = |l: &str| -> Vec<String> {
            l.split('|').skip(2).map(|c| c.trim().to_owned()).collect()
        };
        for (is, was) in cells(line).iter().zip(cells(said)) {
            if is != "-" && was != "-" && *is != was {
                wrong.push(format!("{kind}: {is} instead of {was}"));
            }
        }
    }
    ensure!(
        wrong.is_empty(),
        "docs/support.md says otherwise: {}",
        wrong.join("; ")
    );
    passed(figures)
}
