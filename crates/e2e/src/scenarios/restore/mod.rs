//! Moments brought back to life: programs that check themselves, started again at random moments of
//! their recording, must come to the result that they came to without.

mod programs;
mod refusals;
mod trees;

use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, process, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::path::{Path, PathBuf};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "restore::alone",
        about: "a program with one thread, restored at random moments, gives the same result",
        run: alone,
    },
    Scenario {
        name: "restore::threads",
        about: "threads, locks, barriers, timers and signals, restored at random moments, likewise",
        run: threads,
    },
    Scenario {
        name: "restore::lazy",
        about: "the same with memory that comes when it is touched",
        run: lazy,
    },
    Scenario {
        name: "restore::copies",
        about: "several copies of one moment run side by side; detached and stopped ones too",
        run: copies,
    },
    Scenario {
        name: "restore::python",
        about: "python3, restored at random moments, gives the same result",
        run: programs::python,
    },
    Scenario {
        name: "restore::sqlite",
        about: "sqlite3 on a database in memory, restored at random moments, gives the same answer",
        run: programs::sqlite,
    },
    Scenario {
        name: "restore::family",
        about: "processes that share pipes, memory, offsets, locks, groups and each other's pids, likewise",
        run: trees::family,
    },
    Scenario {
        name: "restore::refusals",
        about: "what cannot be restored is refused in one line, and no process stays behind",
        run: refusals::all,
    },
];

/// A command with its standard output going through a pipe, as in a pipeline, and its exit status
/// at the end of that: what a process wrote to it before is gone, as with a terminal.
pub(super) fn piped(dir: &Path, cmd: &[OsString]) -> Result<(String, i32, String)> {
    let mut args: Vec<OsString> = vec![
        "-c".into(),
        r#"("$@"; echo "status $?") | cat"#.into(),
        "sh".into(),
    ];
    args.extend_from_slice(cmd);
    let (shell, out, err) = process::run(&mut process::command("sh", &args), dir)?;
    let (text, status) = out
        .trim_end()
        .rsplit_once("status ")
        .with_context(|| format!("no status in {out:?}, {shell}; {}", still::tail(&err)))?;
    Ok((text.to_owned(), status.parse()?, err))
}

/// A recording of a program that ran to its end, and the last line it printed.
pub(super) struct Recorded {
    pub recording: PathBuf,
    pub result: String,
    pub checkpoints: u64,
}

/// Records a program whose last line is its result.
pub(super) fn record(dir: &Path, hz: &str, cmd: &[OsString]) -> Result<Recorded> {
    record_with(dir, &["--hz", hz], cmd)
}

/// The same, with options.
pub(super) fn record_with(dir: &Path, options: &[&str], cmd: &[OsString]) -> Result<Recorded> {
    let recording = dir.join("run.still");
    let mut all: Vec<OsString> = vec![place::still()?.into()];
    all.push("record".into());
    all.extend(options.iter().map(OsString::from));
    all.push("-o".into());
    all.extend([recording.clone().into(), "--".into()]);
    all.extend_from_slice(cmd);
    let (out, status, err) = piped(dir, &all)?;
    ensure!(
        status == 0,
        "recording ended with {status}: {}",
        still::tail(&err)
    );
    let result = last_line(&out);
    let checkpoints = still::open(&recording)?.rows().len() as u64;
    ensure!(checkpoints > 10, "only {checkpoints} checkpoints");
    Ok(Recorded {
        recording,
        result,
        checkpoints,
    })
}

pub(super) fn last_line(out: &str) -> String {
    let mut lines = out.lines().filter(|l| !l.trim().is_empty());
    // The recorder's own summary, if there is one, comes on stderr.
    lines.next_back().unwrap_or_default().to_owned()
}

/// Restores `times` random moments, and the first; each must end well and with the same result.
pub(super) fn same_result(
    dir: &Path,
    run: &Recorded,
    times: u64,
    options: &[&str],
) -> Result<String> {
    let (mut random, seed) = Random::seeded();
    // Towards the end the result may have been printed already.
    let end = run.checkpoints * 9 / 10;
    let mut moments = vec![0, end];
    moments.extend((0..times).map(|_| random.below(end)));
    for moment in &moments {
        let mut cmd: Vec<OsString> = vec![place::still()?.into(), "restore".into()];
        cmd.extend(options.iter().map(OsString::from));
        cmd.push(still::moment(&run.recording, &moment.to_string()));
        let (out, status, err) = piped(dir, &cmd)?;
        ensure!(
            status == 0 && last_line(&out) == run.result,
            "moment {moment} of {} (seed {seed}): status {status}, {:?} instead of {:?}: {}",
            run.checkpoints,
            still::tail(&out),
            run.result,
            still::tail(&err)
        );
    }
    Ok(format!(
        "{} moments of {} checkpoints",
        moments.len(),
        run.checkpoints
    ))
}

/// Restores moments that do not run: each is read back whole and compared with its checkpoint before
/// its first instruction.
fn equal(dir: &Path, run: &Recorded, times: u64) -> Result<String> {
    let (mut random, seed) = Random::seeded();
    let mut pages = 0;
    for _ in 0..times {
        let at = random.below(run.checkpoints);
        let mut args: Vec<OsString> = vec!["restore".into()];
        args.extend(["--paranoid", "--detach", "--stopped", "--json"].map(OsString::from));
        args.push(still::moment(&run.recording, &at.to_string()));
        let (status, out, err) = still::run(dir, &args)?;
        ensure!(
            status.success(),
            "moment {at} of {} (seed {seed}): {}",
            run.checkpoints,
            still::tail(&err)
        );
        let told: serde_json::Value = serde_json::from_str(&out)?;
        let number = |name: &str| told[0][name].as_u64();
        // The end of a parent is the end of stopped children that are left alone by it (SIGHUP).
        for pid in pids(&told[0])?.into_iter().rev() {
            process::signal(pid, rustix::process::Signal::KILL)?;
        }
        let compared = number("pages_compared").context("nothing was compared")?;
        ensure!(compared > 0, "no page was compared at moment {at}");
        pages += compared;
    }
    Ok(format!("{times} moments equal, {pages} pages compared"))
}

/// Pids of a restored process, or of all of a tree, by `--json`.
fn pids(told: &serde_json::Value) -> Result<Vec<u32>> {
    let number = |of: &serde_json::Value| {
        let pid = of["pid"].as_u64().context("no pid")?;
        anyhow::Ok(u32::try_from(pid)?)
    };
    match told["processes"].as_array() {
        Some(all) => all.iter().map(number).collect(),
        None => Ok(vec![number(told)?]),
    }
}

/// How many moments are restored.
pub(super) const fn times(length: &Length) -> u64 {
    if length.full { 200 } else { 12 }
}

fn alone(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("revive.c")?;
    let run = record(dir.path(), "100", &[exe.into(), "9000".into(), "1".into()])?;
    let equal = equal(dir.path(), &run, 2 * times(length))?;
    let same = same_result(dir.path(), &run, times(length), &[])?;
    passed(format!("{same}; {equal}"))
}

fn threads(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("revive.c")?;
    // Longer than a second, by which a recorder knows where handlers are.
    let cmd = [exe.into(), "6000".into(), "4".into(), "signals".into()];
    let run = record(dir.path(), "100", &cmd)?;
    let equal = equal(dir.path(), &run, times(length))?;
    let same = same_result(dir.path(), &run, times(length), &["--paranoid"])?;
    passed(format!("{same}; {equal}"))
}

fn lazy(length: &Length) -> Result<Outcome> {
    if !rustix::process::geteuid().is_root() {
        return skip("--lazy takes CAP_SYS_PTRACE: run as root");
    }
    let dir = place::scratch()?;
    let exe = place::target("revive.c")?;
    let cmd = [exe.into(), "6000".into(), "3".into(), "signals".into()];
    let run = record(dir.path(), "100", &cmd)?;
    passed(same_result(dir.path(), &run, times(length), &["--lazy"])?)
}

fn copies(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("revive.c")?;
    let run = record(dir.path(), "100", &[exe.into(), "9000".into(), "1".into()])?;
    let moment = still::moment(&run.recording, &(run.checkpoints / 2).to_string());
    let restore = |options: &[&str]| -> Result<Vec<OsString>> {
        let mut cmd: Vec<OsString> = vec![place::still()?.into(), "restore".into()];
        cmd.push(moment.clone());
        cmd.extend(options.iter().map(OsString::from));
        Ok(cmd)
    };
    let (out, status, err) = piped(dir.path(), &restore(&["-n", "4"])?)?;
    ensure!(
        status == 0,
        "copies ended with {status}: {}",
        still::tail(&err)
    );
    let results: Vec<&str> = out.lines().filter(|l| l.starts_with("ok")).collect();
    ensure!(
        results.len() == 4 && results.iter().all(|r| *r == run.result),
        "four copies printed {results:?} instead of {}",
        run.result
    );
    // Stopped and left alone: it waits for SIGCONT. What they hold of ours is no pipe.
    let left = restore(&["--detach", "--stopped", "-n", "2"])?;
    let (status, out, err) = still::run(dir.path(), &left[1..])?;
    ensure!(
        status.success(),
        "ended with {status}: {}",
        still::tail(&err)
    );
    let pids: Vec<u32> = out.lines().filter_map(|l| l.trim().parse().ok()).collect();
    ensure!(pids.len() == 2, "two pids were to be printed: {out:?}");
    for pid in pids {
        let state = process::state_of(pid);
        process::signal(pid, rustix::process::Signal::KILL)?;
        ensure!(
            state == Some('T'),
            "process {pid} is not stopped: {state:?}"
        );
    }
    passed("")
}
