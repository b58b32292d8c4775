//! Removing, merging and bounding: what remains is the same, and the space comes back.

use crate::process::{PATIENCE, Running, command};
use crate::random::Random;
use crate::scenarios::loads;
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, PAGE_SIZE, PageNumber};
use stillframe_store::Recording;
use xxhash_rust::xxh3::Xxh3;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "retention::thinned",
        about: "rm, squash, prune and tag on a recording of sqlite3: the rest is the same, bytes come back",
        run: thinned,
    },
    Scenario {
        name: "retention::killed",
        about: "prune killed at random instants: nothing is lost, and the next one finishes it",
        run: killed,
    },
    Scenario {
        name: "retention::flight",
        about: "--keep bounds a recording while it is made, and others may change it meanwhile",
        run: flight,
    },
];

/// Everything in one checkpoint, as one number.
fn digest(recording: &Recording, id: CheckpointId) -> Result<u64> {
    let mut hasher = Xxh3::new();
    let checkpoint = recording.checkpoint(id)?;
    hasher.update(format!("{checkpoint:?}").as_bytes());
    let mut page = [0; PAGE_SIZE];
    for process in &checkpoint.processes {
        let memory = recording.memory(id, process.id)?;
        for (number, version) in memory.pages_with_versions(PageNumber(0)..PageNumber(u64::MAX))? {
            memory
                .content(version, &mut page)
                .with_context(|| format!("checkpoint {id} page {:#x}", number.address()))?;
            hasher.update(&number.0.to_le_bytes());
            hasher.update(&page);
        }
    }
    Ok(hasher.digest())
}

fn digests(recording: &Path) -> Result<BTreeMap<u64, u64>> {
    let recording = Recording::open(recording)?;
    let rows = recording.rows().iter();
    rows.map(|r| Ok((r.id.0, digest(&recording, r.id)?)))
        .collect()
}

fn same(before: &BTreeMap<u64, u64>, recording: &Path) -> Result<BTreeMap<u64, u64>> {
    let after = digests(recording)?;
    for (id, digest) in &after {
        ensure!(
            before.get(id) == Some(digest),
            "checkpoint {id} is not what it was"
        );
    }
    Ok(after)
}

fn size(dir: &Path) -> u64 {
    ["", "log", "index", "objects"]
        .iter()
        .filter_map(|f| std::fs::read_dir(dir.join(f)).ok())
        .flatten()
        .filter_map(|e| e.ok()?.metadata().ok())
        .filter(std::fs::Metadata::is_file)
        .map(|m| m.len())
        .sum()
}

/// A recording of sqlite3 at work, of so many checkpoints.
fn recorded(dir: &Path, checkpoints: u32) -> Result<Option<PathBuf>> {
    let Some(sqlite) = place::program("sqlite3") else {
        return Ok(None);
    };
    let out = still::fresh(dir, "r.still");
    let cmd: [OsString; 3] = [
        sqlite.into(),
        ":memory:".into(),
        loads::sql(2000 * u64::from(checkpoints)).into(),
    ];
    let count = checkpoints.to_string();
    let options = ["--hz", "200", "--count", &count];
    let mut recorder = still::record(dir, &options, &out, &cmd)?;
    recorder.wait(PATIENCE * 2)?;
    still::verify(dir, &out)?;
    Ok(Some(out))
}

fn done(dir: &Path, args: &[OsString]) -> Result<serde_json::Value> {
    let (status, text, err) = still::run(dir, args)?;
    ensure!(status.success(), "{args:?}: {status} {}", still::tail(&err));
    Ok(serde_json::from_str(&text).unwrap_or_default())
}

fn core(dir: &Path, recording: &Path, moment: &str) -> Result<Vec<u8>> {
    let file = dir.join("moment.core");
    let args: [OsString; 6] = [
        "export".into(),
        "--force".into(),
        "--core".into(),
        still::moment(recording, moment),
        "-o".into(),
        file.clone().into(),
    ];
    done(dir, &args)?;
    Ok(std::fs::read(file)?)
}

fn thinned(_: &Length) -> Result<Outcome> {
    let scratch = place::scratch()?;
    let dir = scratch.path();
    let Some(out) = recorded(dir, 120)? else {
        return skip("no sqlite3 on this machine");
    };
    let before = digests(&out)?;
    let n = before.len() as u64;
    ensure!(n >= 40, "only {n} checkpoints");
    let bytes = size(&out);
    let cores: Vec<Vec<u8>> = ["0", "20", "25"]
        .iter()
        .map(|m| core(dir, &out, m))
        .collect::<Result<_>>()?;
    done(
        dir,
        &["tag".into(), still::moment(&out, "25"), "here".into()],
    )?;
    let rm = |moment: &str| ["rm".into(), "--json".into(), still::moment(&out, moment)];
    ensure!(done(dir, &rm("7"))?["removed_checkpoints"] == 1);
    let gone = still::refused(dir, &["show".into(), still::moment(&out, "7")], 4)?;
    ensure!(gone.contains("neighbours are 6 and 8"), "{gone}");
    still::refused(dir, &rm("here"), 1)?;
    let squash = [
        "squash".into(),
        "--json".into(),
        still::moment(&out, "10..20"),
    ];
    ensure!(done(dir, &squash)?["removed_checkpoints"] == 10);
    still::verify(dir, &out)?;
    let after = same(&before, &out)?;
    ensure!(after.len() as u64 == n - 11);
    let mut prune: Vec<OsString> = ["prune", "--keep", "every=20", "--json"]
        .map(Into::into)
        .into();
    prune.push(out.clone().into());
    prune.push("--dry-run".into());
    let foreseen = done(dir, &prune)?;
    ensure!(
        same(&after, &out)?.len() == after.len(),
        "a dry run removed something"
    );
    prune.pop();
    let pruned = done(dir, &prune)?;
    ensure!(foreseen["removed_checkpoints"] == pruned["removed_checkpoints"]);
    still::verify(dir, &out)?;
    let left = same(&before, &out)?;
    let wanted = |id: &u64| id.is_multiple_of(20) || *id == 25 || *id == n - 1;
    ensure!(left.keys().all(wanted), "{:?} are left", left.keys());
    for (moment, core_before) in ["0", "20", "here"].iter().zip(&cores) {
        ensure!(
            core(dir, &out, moment)? == *core_before,
            "the core of {moment} differs"
        );
    }
    let log = size(&out.join("log"));
    let now = size(&out);
    ensure!(now < bytes, "{bytes} bytes became {now}");
    passed(format!(
        "{n} checkpoints, {bytes} bytes; {} left, {now} bytes, {log} of them log",
        left.len()
    ))
}

fn killed(length: &Length) -> Result<Outcome> {
    let scratch = place::scratch()?;
    let dir = scratch.path();
    let Some(original) = recorded(dir, 40)? else {
        return skip("no sqlite3 on this machine");
    };
    let before = digests(&original)?;
    let kills = length.kills.max(30);
    let (mut random, seed) = Random::seeded();
    let (mut undone, mut cut) = (0, 0);
    let mut took = Duration::from_millis(400);
    for round in 0..kills {
        let out = still::fresh(dir, "copy.still");
        let copied = command(
            "cp",
            &[
                OsString::from("-r"),
                original.clone().into(),
                out.clone().into(),
            ],
        )
        .status()?;
        ensure!(copied.success());
        let args: [OsString; 4] = [
            "prune".into(),
            "--keep".into(),
            "every=7".into(),
            out.clone().into(),
        ];
        let begun = Instant::now();
        let mut prune = Running::start(&mut still::still(&args)?, dir)?;
        if round == 0 {
            // The first one shows how long it takes.
            ensure!(prune.wait(PATIENCE)?.success());
            took = begun.elapsed();
        } else {
            let at = random.below(u64::try_from(took.as_micros())?.max(1));
            std::thread::sleep(Duration::from_micros(at));
            let _ = prune.signal(Signal::KILL);
            prune.wait(PATIENCE)?;
        }
        still::verify(dir, &out).with_context(|| format!("round {round}, seed {seed}"))?;
        let now = same(&before, &out)?;
        if now.len() == before.len() {
            undone += 1;
        }
        if out.join("log/new.tmp").exists() {
            cut += 1;
        }
        done(dir, &args)?;
        still::verify(dir, &out).with_context(|| format!("after round {round}"))?;
        let now = same(&before, &out)?;
        let last = before.len() as u64 - 1;
        ensure!(
            now.keys().all(|id| id.is_multiple_of(7) || *id == last),
            "{:?} are left",
            now.keys()
        );
        ensure!(!out.join("log/new.tmp").exists());
    }
    passed(format!(
        "{kills} runs killed within {} ms, {undone} before the removal, {cut} amid a file",
        took.as_millis()
    ))
}

/// Tags a moment of a recording that is being made, and removes another.
fn change_meanwhile(dir: &Path, out: &Path) -> Result<()> {
    // What is named may leave the window before the command has begun; then another is taken.
    for _ in 0..20 {
        let recording = Recording::open(out)?;
        let newest = recording.rows().last().context("no checkpoint")?.id;
        let other = CheckpointId(newest.0 - 1);
        let rm = ["rm".into(), still::moment(out, &other.to_string())];
        let (status, _, err) = still::run::<OsString>(dir, &rm)?;
        if !status.success() {
            ensure!(status.code() == Some(4), "rm: {status} {err}");
            continue;
        }
        ensure!(Recording::open(out)?.row(other).is_none());
        let tag = ["tag".into(), still::moment(out, "last"), "here".into()];
        let (status, _, err) = still::run::<OsString>(dir, &tag)?;
        if status.success() {
            return Ok(());
        }
        ensure!(status.code() == Some(4), "tag: {status} {err}");
    }
    anyhow::bail!("no moment stayed long enough to be named")
}

fn flight(length: &Length) -> Result<Outcome> {
    let scratch = place::scratch()?;
    let dir = scratch.path();
    let exe = place::target("random_writes.c")?;
    let mut target = Running::start(
        &mut command(exe, &["--mib", "8", "--seconds", "20000"]),
        dir,
    )?;
    let pid = target.ready()?;
    let out = still::fresh(dir, "r.still");
    let mut recorder = still::attach(dir, &["--hz", "100", "--keep", "2s"], &out, pid)?;
    crate::process::wait_for("two seconds are recorded", || {
        Recording::open(&out).is_ok_and(|r| r.rows().last().is_some_and(|l| l.id.0 > 200))
    })?;
    let (mut sizes, mut counts) = (Vec::new(), Vec::new());
    let rounds = if length.full { 300 } else { 12 };
    for round in 0..rounds {
        std::thread::sleep(Duration::from_millis(500));
        sizes.push(size(&out));
        let recording = Recording::open(&out)?;
        let rows = recording.rows();
        counts.push(rows.len());
        let newest = rows.last().context("no checkpoint")?.id;
        // On a machine busy with other things it may have left the window while we looked.
        if let Err(e) = digest(&recording, newest) {
            let changed = e.downcast_ref::<stillframe_store::Error>();
            let changed = matches!(changed, Some(stillframe_store::Error::Changed(_)));
            ensure!(changed, "checkpoint {newest}: {e:#}");
        }
        if round == 2 {
            change_meanwhile(dir, &out)?;
        }
    }
    recorder.signal(Signal::INT)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    target.finish()?;
    still::verify(dir, &out)?;
    let recording = Recording::open(&out)?;
    let here = recording.resolve(&"here".parse()?)?;
    digest(&recording, here)?;
    let rows = recording.rows();
    let span = rows
        .last()
        .zip(rows.iter().find(|r| r.id != here))
        .map_or(0, |(last, first)| last.tick.at_ns - first.tick.at_ns);
    ensure!(
        span < 4_000_000_000,
        "it reaches back {:.1} s",
        span as f64 / 1e9
    );
    ensure!(recording.removed() > 0);
    let (first, last) = sizes.split_at(sizes.len() / 2);
    let most = |s: &[u64]| s.iter().copied().max().unwrap_or(0);
    ensure!(most(last) < 2 * most(first), "it grows: {sizes:?}");
    passed(format!(
        "{} checkpoints removed, {} to {} held, {} to {} bytes",
        recording.removed(),
        counts.iter().min().unwrap_or(&0),
        counts.iter().max().unwrap_or(&0),
        sizes.iter().min().unwrap_or(&0),
        most(&sizes)
    ))
}
