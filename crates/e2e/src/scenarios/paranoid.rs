//! Bit-exactness: every checkpoint equals an independent copy of memory taken at its boundary.
//!
//! The comparison is the recorder's (`--paranoid`); here are the programs, the load on them, and
//! the check that it really compared something: as many checkpoints as were made, and pages.

use super::loads;
use crate::process::{PATIENCE, Running, command, verdict};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Result, ensure};
use std::ffi::OsString;
use std::path::Path;
use std::time::{Duration, Instant};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "paranoid::random_writes",
        about: "two threads writing random words all over their memory",
        run: random_writes,
    },
    Scenario {
        name: "paranoid::churn",
        about: "mappings, heap, stack, protections and threads that change all the time",
        run: churn,
    },
    Scenario {
        name: "paranoid::shared",
        about: "huge pages, shared memory of every kind, shared and private file mappings",
        run: shared,
    },
    Scenario {
        name: "paranoid::redis",
        about: "redis-server under redis-benchmark, saving now and then",
        run: redis,
    },
    Scenario {
        name: "paranoid::sqlite",
        about: "sqlite3 building a database",
        run: sqlite,
    },
    Scenario {
        name: "paranoid::nginx",
        about: "nginx under ab",
        run: nginx,
    },
    Scenario {
        name: "paranoid::python",
        about: "a python3 program gives the same result as without us",
        run: python,
    },
    Scenario {
        name: "paranoid::rust",
        about: "a multi-threaded Rust program gives the same result as without us",
        run: rust,
    },
];

/// What was compared, summed over recordings.
#[derive(Clone, Debug, Default)]
struct Compared {
    checkpoints: u64,
    skipped: u64,
    pages: u64,
    dirty: u64,
    stored: u64,
    raw: u64,
    worst_pause_us: f64,
}

impl Compared {
    /// Takes the summary of one recording; an error if anything differed or was not compared.
    fn add(&mut self, summary: &still::Summary) -> Result<()> {
        let p = summary.is_exact()?;
        self.checkpoints += p.checkpoints;
        self.skipped += summary.skipped;
        self.pages += p.pages_compared;
        self.dirty += summary.dirty_pages;
        self.stored += summary.stored_bytes;
        self.raw += summary.raw_bytes;
        self.worst_pause_us = self.worst_pause_us.max(summary.pause_us.max);
        Ok(())
    }

    fn told(&self) -> String {
        format!(
            "checkpoints {} differences 0 pages compared {} dirty {} skipped {} MiB stored {:.1} of {:.1}",
            self.checkpoints,
            self.pages,
            self.dirty,
            self.skipped,
            self.stored as f64 / 1048576.0,
            self.raw as f64 / 1048576.0,
        )
    }
}

/// Patience with a paranoid recording: each checkpoint copies and compares everything.
fn patience(checkpoints: u64) -> Duration {
    PATIENCE + Duration::from_secs(checkpoints * 3)
}

/// Attaches to a running process until `checkpoints` were compared, calling `drive` meanwhile.
fn attached(
    dir: &Path,
    pid: u32,
    checkpoints: u64,
    mut drive: impl FnMut() -> Result<()>,
) -> Result<Compared> {
    let out = still::fresh(dir, "run.still");
    let count = checkpoints.to_string();
    let mut recorder = still::attach(
        dir,
        &["--paranoid", "--hz", "100", "--count", &count],
        &out,
        pid,
    )?;
    let end = Instant::now() + patience(checkpoints);
    while recorder.ended()?.is_none() && Instant::now() < end {
        drive()?;
    }
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let mut compared = Compared::default();
    compared.add(&still::summary(&recorder.stdout())?)?;
    ensure!(
        compared.checkpoints >= checkpoints,
        "only {} checkpoints",
        compared.checkpoints
    );
    still::verify(dir, &out)?;
    std::fs::remove_dir_all(&out)?;
    Ok(compared)
}

/// A target that works by itself until told to stop: attach, compare, finish.
fn of_target(name: &str, options: &[&str], checkpoints: u64) -> Result<Compared> {
    let dir = place::scratch()?;
    let mut target = Running::start(&mut command(place::target(name)?, options), dir.path())?;
    let pid = target.ready()?;
    let compared = attached(dir.path(), pid, checkpoints, || {
        std::thread::sleep(Duration::from_millis(20));
        match target.ended()? {
            // Its last words explain more than a recording that is too short.
            Some(status) => verdict(name, status, &target.stdout()),
            None => Ok(()),
        }
    })?;
    crate::process::left_alone(pid)?;
    target.finish()?;
    Ok(compared)
}

/// Records whole runs of a program until enough checkpoints were compared. `check` sees what each
/// run printed (the summary included) and the directory it ran in.
fn recorded(
    checkpoints: u64,
    cmd: impl Fn(&Path) -> Vec<OsString>,
    check: impl Fn(&Path, &str) -> Result<()>,
) -> Result<Compared> {
    let mut compared = Compared::default();
    let mut runs = 0;
    while compared.checkpoints < checkpoints {
        let dir = place::scratch()?;
        let out = dir.path().join("run.still");
        let mut recorder = still::record(
            dir.path(),
            &["--paranoid", "--hz", "100"],
            &out,
            &cmd(dir.path()),
        )?;
        still::ended_with(&mut recorder, 0, patience(checkpoints))?;
        let text = recorder.stdout();
        compared.add(&still::summary(&text)?)?;
        check(dir.path(), &text)?;
        still::verify(dir.path(), &out)?;
        runs += 1;
        ensure!(
            runs < 400 && (runs < 8 || compared.checkpoints > 0),
            "{} checkpoints in {runs} runs",
            compared.checkpoints
        );
    }
    Ok(compared)
}

fn random_writes(length: &Length) -> Result<Outcome> {
    // Unpaced, two threads write all of 512 MiB again in every interval of a paranoid recording, and
    // two thousand checkpoints would be a terabyte.
    let (mib, spin) = if length.full {
        ("512", "10000")
    } else {
        ("32", "100")
    };
    let options = [
        "--mib",
        mib,
        "--spin",
        spin,
        "--threads",
        "2",
        "--seconds",
        "20000",
    ];
    passed(of_target("random_writes.c", &options, length.checkpoints)?.told())
}

fn churn(length: &Length) -> Result<Outcome> {
    let compared = of_target("churn.c", &["--seconds", "20000"], length.checkpoints)?;
    passed(compared.told())
}

fn shared(length: &Length) -> Result<Outcome> {
    let compared = of_target("shared.c", &["--seconds", "20000"], length.checkpoints)?;
    passed(compared.told())
}

fn rust(length: &Length) -> Result<Outcome> {
    let exe = place::target("workers.rs")?;
    let rounds = if length.full { "40000" } else { "8000" };
    let dir = place::scratch()?;
    let (status, expected, _) = crate::process::run(&mut command(&exe, &[rounds]), dir.path())?;
    verdict("workers", status, &expected)?;
    let result = ok_line(&expected);
    let compared = recorded(
        length.checkpoints,
        |_| vec![exe.clone().into(), rounds.into()],
        |_, text| {
            ensure!(
                ok_line(text) == result,
                "the result is {:?}, not {result:?}",
                ok_line(text)
            );
            Ok(())
        },
    )?;
    passed(compared.told())
}

fn python(length: &Length) -> Result<Outcome> {
    let Some(python) = loads::python() else {
        return skip("no python3 on this machine");
    };
    let rounds = if length.full { "20000" } else { "3000" };
    let cmd: Vec<OsString> = vec![
        python.into(),
        place::script("digest.py").into(),
        rounds.into(),
    ];
    let dir = place::scratch()?;
    let (status, expected, _) = crate::process::run(&mut command(&cmd[0], &cmd[1..]), dir.path())?;
    verdict("python3", status, &expected)?;
    let result = ok_line(&expected);
    let compared = recorded(
        length.checkpoints,
        |_| cmd.clone(),
        |_, text| {
            ensure!(
                ok_line(text) == result,
                "the result is {:?}, not {result:?}",
                ok_line(text)
            );
            Ok(())
        },
    )?;
    passed(compared.told())
}

fn sqlite(length: &Length) -> Result<Outcome> {
    let Some(sqlite) = place::program("sqlite3") else {
        return skip("no sqlite3 on this machine");
    };
    let sql = loads::sql(if length.full { 900_000 } else { 60_000 });
    let cmd = |dir: &Path| -> Vec<OsString> {
        vec![
            sqlite.clone().into(),
            dir.join("test.db").into(),
            sql.clone().into(),
        ]
    };
    let dir = place::scratch()?;
    let native = cmd(dir.path());
    let mut run = Running::start(&mut command(&native[0], &native[1..]), dir.path())?;
    ensure!(
        run.wait(PATIENCE * 5)?.success(),
        "sqlite3 fails by itself: {}",
        run.stderr()
    );
    let expected = run.stdout();
    ensure!(
        expected.contains("\nok"),
        "sqlite3 by itself said {expected}"
    );
    let compared = recorded(length.checkpoints, cmd, |dir, text| {
        ensure!(
            text.contains(expected.trim()),
            "sqlite3 said something else: {text}"
        );
        let size = std::fs::metadata(dir.join("test.db"))?.len();
        ensure!(
            !length.full || size > 100 << 20,
            "the database has only {size} bytes"
        );
        Ok(())
    })?;
    passed(compared.told())
}

fn redis(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let Some(mut server) = loads::Redis::start(dir.path())? else {
        return skip("no redis-server or redis-benchmark on this machine");
    };
    server.fill()?;
    let pid = server.pid();
    let compared = attached(dir.path(), pid, length.checkpoints, || server.load())?;
    crate::process::left_alone(pid)?;
    server.check()?;
    server.stop()?;
    passed(compared.told())
}

fn nginx(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let Some(mut server) = loads::Nginx::start(dir.path())? else {
        return skip("no nginx or ab on this machine");
    };
    let pid = server.pid();
    let compared = attached(dir.path(), pid, length.checkpoints, || server.load())?;
    crate::process::left_alone(pid)?;
    server.check()?;
    server.stop()?;
    passed(compared.told())
}

fn ok_line(text: &str) -> Option<String> {
    text.lines()
        .find(|l| l.starts_with("ok"))
        .map(str::to_owned)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn summary(paranoid: &str) -> still::Summary {
        let text = format!(
            r#"{{"checkpoints":3,"skipped":0,"seconds":1.0,"rate":3.0,
            "pause_us":{{"p50":1,"p99":2,"max":3}},"stored_bytes":1,"raw_bytes":2,"dirty_pages":3,
            "paranoid":{paranoid},"recorder_cpu_seconds":0,"recorder_peak_bytes":1,"how":"x"}}"#
        );
        still::summary(&text).unwrap()
    }

    #[test]
    fn a_difference_or_a_missing_comparison_fails() {
        let cases = [
            (
                r#"{"checkpoints":3,"pages_compared":9,"differences":0}"#,
                true,
            ),
            (
                r#"{"checkpoints":3,"pages_compared":9,"differences":1}"#,
                false,
            ),
            (
                r#"{"checkpoints":2,"pages_compared":9,"differences":0}"#,
                false,
            ),
            (
                r#"{"checkpoints":3,"pages_compared":0,"differences":0}"#,
                false,
            ),
            ("null", false),
        ];
        for (text, good) in cases {
            assert_eq!(
                Compared::default().add(&summary(text)).is_ok(),
                good,
                "{text}"
            );
        }
    }
}
