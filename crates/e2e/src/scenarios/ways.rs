//! The ways to capture: every combination of tracker, time of copying and policy for hot pages gives
//! the same memory.
//!
//! The comparison is `--paranoid`, the programs are those that are hardest on it. Short forms take a
//! few combinations each, in such a way that all programs together see all policies with each
//! tracker; the soak takes all, and divides its checkpoints among those that copy after the stop.

use super::loads;
use crate::process::{PATIENCE, Running, command, verdict};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::path::Path;
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use stillframe_image::account::After;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "ways::churn_wp_async",
        about: "changing mappings: bit-exact with every policy, copied in the stop or after it",
        run: |length| of_target("churn.c", &["--seconds", "20000"], WP_ASYNC, 0, length),
    },
    Scenario {
        name: "ways::churn_bpf",
        about: "the same with the log of faults",
        run: |length| of_target("churn.c", &["--seconds", "20000"], BPF, 0, length),
    },
    Scenario {
        name: "ways::shared_wp_async",
        about: "huge pages, shared memory and file mappings: the same",
        run: |length| of_target("shared.c", &["--seconds", "20000"], WP_ASYNC, 1, length),
    },
    Scenario {
        name: "ways::shared_bpf",
        about: "the same with the log of faults",
        run: |length| of_target("shared.c", &["--seconds", "20000"], BPF, 1, length),
    },
    Scenario {
        name: "ways::random_writes_wp_async",
        about: "two threads writing random words: the same",
        run: |length| random_writes(WP_ASYNC, length),
    },
    Scenario {
        name: "ways::random_writes_bpf",
        about: "the same with the log of faults",
        run: |length| random_writes(BPF, length),
    },
    Scenario {
        name: "ways::python_wp_async",
        about: "a python3 program: the same, and its result is right",
        run: |length| python(WP_ASYNC, 3, length),
    },
    Scenario {
        name: "ways::python_bpf",
        about: "the same with the log of faults",
        run: |length| python(BPF, 3, length),
    },
    Scenario {
        name: "ways::redis_wp_async",
        about: "redis-server under redis-benchmark: the same, and it keeps its values",
        run: |length| redis(WP_ASYNC, 4, length),
    },
    Scenario {
        name: "ways::redis_bpf",
        about: "the same with the log of faults",
        run: |length| redis(BPF, 4, length),
    },
];

fn random_writes(tracker: &str, length: &Length) -> Result<Outcome> {
    let mib = if length.full { "64" } else { "16" };
    let options = [
        "--mib",
        mib,
        "--spin",
        "100",
        "--threads",
        "2",
        "--seconds",
        "20000",
    ];
    of_target("random_writes.c", &options, tracker, 2, length)
}

const WP_ASYNC: &str = "wp-async";
const BPF: &str = "bpf";

/// Both trackers.
pub const TRACKERS: [&str; 2] = [WP_ASYNC, BPF];

const POLICIES: [&str; 5] = ["adaptive", "all", "random", "checksum", "genetic"];

/// Why a tracker cannot be had here, asked once by recording a program with it.
///
/// # Errors
/// If `still` cannot be run.
pub fn refused(tracker: &str) -> Result<Option<String>> {
    static BPF_REFUSED: OnceLock<Option<String>> = OnceLock::new();
    if tracker != BPF {
        return Ok(None);
    }
    if let Some(known) = BPF_REFUSED.get() {
        return Ok(known.clone());
    }
    let dir = place::scratch()?;
    let out = dir.path().join("probe.still");
    let (status, _, err) = still::run(
        dir.path(),
        &[
            "record".into(),
            "--tracker".into(),
            tracker.into(),
            "-o".into(),
            OsString::from(&out),
            "--".into(),
            "true".into(),
        ],
    )?;
    let why = (!status.success()).then(|| format!("no tracker {tracker} here: {}", err.trim()));
    Ok(BPF_REFUSED.get_or_init(|| why).clone())
}

/// When pages are copied, by which policy, and for how many checkpoints.
type Way = (&'static str, &'static str, u64);

/// The combinations for one tracker and the program of this number.
fn ways(program: usize, length: &Length) -> Vec<Way> {
    let policies = POLICIES.len();
    if length.full {
        let each = length.checkpoints.div_ceil(policies as u64);
        let after = POLICIES.map(|policy| ("after", policy, each));
        let now = POLICIES.map(|policy| ("now", policy, each.div_ceil(10)));
        return [after, now].concat();
    }
    let each = length.checkpoints.div_ceil(6);
    vec![
        ("after", POLICIES[program % policies], each),
        ("after", POLICIES[(program + 2) % policies], each),
        ("now", POLICIES[(program + 4) % policies], each),
    ]
}

/// What came of all combinations.
#[derive(Debug, Default)]
struct Sum {
    checkpoints: u64,
    pages: u64,
    after: After,
}

impl Sum {
    /// Checks one recording.
    fn add(&mut self, dir: &Path, out: &Path, copy: &str, stdout: &str) -> Result<u64> {
        let summary = still::summary(stdout)?;
        let paranoid = summary.is_exact()?;
        self.checkpoints += paranoid.checkpoints;
        self.pages += paranoid.pages_compared;
        still::verify(dir, out)?;
        let recording = still::open(out)?;
        for row in recording.rows() {
            let after = recording.account(row.id)?.after;
            ensure!(
                copy == "after" || after == After::default(),
                "checkpoint {}: pages were copied after the stop",
                row.id
            );
            self.after.copied += after.copied;
            self.after.conflicts += after.conflicts;
            self.after.pre_images += after.pre_images;
            self.after.repairs += after.repairs;
        }
        Ok(paranoid.checkpoints)
    }

    fn told(&self) -> Result<Outcome> {
        ensure!(
            self.after.copied > 0,
            "no page was copied after a stop: {self:?}"
        );
        passed(format!(
            "checkpoints {} differences 0 pages compared {} copied after the stop {} conflicts {} pre-images {} boundaries made again {}",
            self.checkpoints,
            self.pages,
            self.after.copied,
            self.after.conflicts,
            self.after.pre_images,
            self.after.repairs,
        ))
    }
}

fn options<'a>(tracker: &'a str, copy: &'a str, policy: &'a str) -> [&'a str; 9] {
    [
        "--paranoid",
        "--hz",
        "100",
        "--tracker",
        tracker,
        "--copy",
        copy,
        "--speculate",
        policy,
    ]
}

/// Attaches once for each combination, calling `drive` meanwhile.
fn attached(
    dir: &Path,
    pid: u32,
    tracker: &str,
    program: usize,
    length: &Length,
    mut drive: impl FnMut() -> Result<()>,
) -> Result<Outcome> {
    let mut sum = Sum::default();
    for (copy, policy, checkpoints) in ways(program, length) {
        let what = || format!("--tracker {tracker} --copy {copy} --speculate {policy}");
        let out = still::fresh(dir, "run.still");
        let count = checkpoints.to_string();
        let mut args = options(tracker, copy, policy).to_vec();
        args.extend(["--count", &count]);
        let mut recorder = still::attach(dir, &args, &out, pid)?;
        let end = Instant::now() + PATIENCE + Duration::from_secs(checkpoints * 3);
        while recorder.ended()?.is_none() && Instant::now() < end {
            drive().with_context(what)?;
        }
        still::ended_with(&mut recorder, 0, PATIENCE).with_context(what)?;
        let compared = sum
            .add(dir, &out, copy, &recorder.stdout())
            .with_context(what)?;
        ensure!(
            compared >= checkpoints,
            "{}: only {compared} checkpoints",
            what()
        );
        crate::process::left_alone(pid).with_context(what)?;
    }
    sum.told()
}

fn of_target(
    name: &str,
    arguments: &[&str],
    tracker: &str,
    program: usize,
    length: &Length,
) -> Result<Outcome> {
    if let Some(why) = refused(tracker)? {
        return skip(why);
    }
    let dir = place::scratch()?;
    let mut target = Running::start(&mut command(place::target(name)?, arguments), dir.path())?;
    let pid = target.ready()?;
    let outcome = attached(dir.path(), pid, tracker, program, length, || {
        std::thread::sleep(Duration::from_millis(20));
        match target.ended()? {
            Some(status) => verdict(name, status, &target.stdout()),
            None => Ok(()),
        }
    })?;
    target.finish()?;
    Ok(outcome)
}

fn redis(tracker: &str, program: usize, length: &Length) -> Result<Outcome> {
    if let Some(why) = refused(tracker)? {
        return skip(why);
    }
    let dir = place::scratch()?;
    let Some(mut server) = loads::Redis::start(dir.path())? else {
        return skip("no redis-server or redis-benchmark on this machine");
    };
    server.fill()?;
    let pid = server.pid();
    let outcome = attached(dir.path(), pid, tracker, program, length, || server.load())?;
    server.check()?;
    server.stop()?;
    Ok(outcome)
}

/// Whole runs, so that the program's own result can be compared.
fn python(tracker: &str, program: usize, length: &Length) -> Result<Outcome> {
    if let Some(why) = refused(tracker)? {
        return skip(why);
    }
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
    let mut sum = Sum::default();
    for (copy, policy, checkpoints) in ways(program, length) {
        let what = || format!("--tracker {tracker} --copy {copy} --speculate {policy}");
        let (mut compared, mut runs) = (0, 0);
        while compared < checkpoints {
            let out = still::fresh(dir.path(), "run.still");
            let args = options(tracker, copy, policy);
            let mut recorder = still::record(dir.path(), &args, &out, &cmd)?;
            let patience = PATIENCE + Duration::from_secs(checkpoints * 3);
            still::ended_with(&mut recorder, 0, patience).with_context(what)?;
            let said = recorder.stdout();
            ensure!(
                result(&said) == result(&expected),
                "{}: the result is {:?} instead of {:?}",
                what(),
                result(&said),
                result(&expected)
            );
            compared += sum.add(dir.path(), &out, copy, &said).with_context(what)?;
            runs += 1;
            ensure!(
                runs < 400,
                "{}: {compared} checkpoints in {runs} runs",
                what()
            );
        }
    }
    sum.told()
}

/// What a program found out, in its own words.
fn result(said: &str) -> Option<&str> {
    said.lines().find(|l| l.starts_with("ok"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::BTreeSet;

    #[test]
    fn all_programs_together_see_every_policy_both_ways() {
        for copy in ["now", "after"] {
            let seen: BTreeSet<&str> = (0..5)
                .flat_map(|program| ways(program, &Length::SHORT))
                .filter(|way| way.0 == copy)
                .map(|way| way.1)
                .collect();
            assert_eq!(seen.len(), POLICIES.len(), "{copy}");
        }
        let after: u64 = ways(0, &Length::SOAK)
            .iter()
            .filter(|way| way.0 == "after")
            .map(|way| way.2)
            .sum();
        assert!(after >= Length::SOAK.checkpoints);
    }
}
