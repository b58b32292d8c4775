//! Keeping a stated budget and a limit of the pause.

use crate::process::{PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use stillframe_image::account::SkipReason;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "control::budget",
        about: "--hz auto: a program that writes much is recorded at a lower rate than an idle one",
        run: budget,
    },
    Scenario {
        name: "control::max_pause",
        about: "--max-pause: pauses above the limit bring pre-copy rounds",
        run: max_pause,
    },
    Scenario {
        name: "control::usage",
        about: "values that mean nothing are code 2, in one line",
        run: usage,
    },
];

/// Records a target for `time`; returns the rate reached and the ticks left out for the budget.
fn rate(dir: &Path, name: &str, arguments: &[&str], time: &str) -> Result<(f64, u64)> {
    let mut target = Running::start(&mut command(place::target(name)?, arguments), dir)?;
    let pid = target.ready()?;
    let out = still::fresh(dir, "run.still");
    let args = ["--hz", "auto", "--budget", "3%", "--for", time];
    let mut recorder = still::attach(dir, &args, &out, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE).with_context(|| name.to_owned())?;
    let summary = still::summary(&recorder.stdout())?;
    target.finish()?;
    still::verify(dir, &out)?;
    let recording = still::open(&out)?;
    let mut left_out = 0;
    for row in recording.rows() {
        let skips = recording.account(row.id)?.skips;
        let budget = skips.iter().filter(|s| s.reason == SkipReason::Budget);
        left_out += budget.map(|s| u64::from(s.ticks)).sum::<u64>();
    }
    Ok((summary.rate, left_out))
}

fn budget(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let mib = if length.full { "512" } else { "64" };
    let heavy = ["--mib", mib, "--threads", "2", "--seconds", "20000"];
    // A busy machine takes processors from both; it does not do so every time.
    let mut seen = Vec::new();
    for time in ["2s", "4s", "8s"] {
        let (much, left_out) = rate(dir.path(), "random_writes.c", &heavy, time)?;
        let (little, _) = rate(dir.path(), "quiet.c", &["--seconds", "20000"], time)?;
        ensure!(
            left_out > 0,
            "no tick was left out for the budget at {much:.1} Hz"
        );
        seen.push(format!("{much:.1} against {little:.1} Hz"));
        if much < little {
            return passed(seen.join(", "));
        }
    }
    anyhow::bail!("writing much against little: {}", seen.join(", "))
}

fn max_pause(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let arguments = ["--mib", "4", "--spin", "100", "--seconds", "20000"];
    let exe = place::target("random_writes.c")?;
    let mut target = Running::start(&mut command(exe, &arguments), dir.path())?;
    let pid = target.ready()?;
    let mut rounds = Vec::new();
    for limit in ["500us", "1us"] {
        let out = still::fresh(dir.path(), "run.still");
        let args = ["--hz", "50", "--max-pause", limit, "--count", "40"];
        let mut recorder = still::attach(dir.path(), &args, &out, pid)?;
        still::ended_with(&mut recorder, 0, PATIENCE).context(limit)?;
        still::verify(dir.path(), &out)?;
        let recording = still::open(&out)?;
        let with = recording.rows().iter().skip(1);
        rounds.push(with.filter(|r| r.tick.precopy_stops > 0).count());
    }
    target.finish()?;
    // No pause is that short, so rounds must have been asked for.
    ensure!(
        rounds[1] > 0,
        "with --max-pause 1us no checkpoint had a pre-copy round"
    );
    passed(format!(
        "checkpoints with rounds of 40: 500us {}, 1us {}",
        rounds[0], rounds[1]
    ))
}

fn usage(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let cases = [
        ["--hz", "automatic"],
        ["--budget", "0%"],
        ["--budget", "-3%"],
        ["--budget", "101%"],
        ["--budget", "some"],
        ["--max-pause", "0"],
        ["--max-pause", "short"],
        ["--max-pause", "-1ms"],
        ["--copy", "later"],
        ["--tracker", "magic"],
        ["--speculate", "best"],
        ["--account", "none"],
    ];
    for [option, value] in cases {
        let typed = format!("{option}={value}");
        let line = still::refused(dir.path(), &["record", &typed, "--", "true"], 2)?;
        ensure!(line.contains(option), "{option} {value}: {line}");
    }
    passed(format!("cases {}", cases.len()))
}
