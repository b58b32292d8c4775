//! The target survives: recorders are killed with SIGKILL at random instants.
//!
//! Half of the rounds attach to one long-lived target again and again, so that whatever a dead
//! recorder leaves behind piles up; in the others the recorder starts the target. After each kill
//! the target must be untraced, hold nothing of ours, go on, and find itself right at the end; and
//! the recording must open, verify, and hold at least every checkpoint that had been seen.

use crate::process::{self, Footprint, PATIENCE, Running, command};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::Path;
use std::time::Duration;
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "survive::attached",
        about: "SIGKILL of a recorder that attached: nothing stays behind, the target is right",
        run: |length| attached(&["--hz", "100"], length.kills / 2),
    },
    Scenario {
        name: "survive::pending_wp_async",
        about: "the same while pages are copied after the stop, a thousand times a second",
        run: |length| pending("wp-async", length),
    },
    Scenario {
        name: "survive::pending_bpf",
        about: "the same with the log of faults and pre-images",
        run: |length| pending("bpf", length),
    },
    Scenario {
        name: "survive::launched",
        about: "SIGKILL of a recorder that started the target: the target goes on and is right",
        run: launched,
    },
    Scenario {
        name: "survive::no_recorder",
        about: "the check itself: a target under a stopped tracer is noticed",
        run: check_notices,
    },
];

/// Targets, and whether their mappings stay the same while they run.
const TARGETS: [(&str, &[&str], bool); 4] = [
    (
        "random_writes.c",
        &["--mib", "32", "--seconds", "20000"],
        true,
    ),
    ("signals.c", &["--seconds", "20000"], true),
    ("churn.c", &["--seconds", "20000"], false),
    ("shared.c", &["--seconds", "20000"], true),
];

/// Kills at random: most within the first checkpoints, where setting up is under way, the others
/// in the steady state.
pub(super) fn delay(random: &mut Random) -> Duration {
    let most = if random.below(2) == 0 {
        60_000
    } else {
        700_000
    };
    Duration::from_micros(random.below(most))
}

/// It must have been at work when the signal came: killing one that gave up shows nothing.
pub(super) fn killed(recorder: &mut Running) -> Result<()> {
    let status = recorder.wait(PATIENCE)?;
    ensure!(
        status.signal() == Some(9),
        "the recorder ended by itself ({status}): {}",
        still::tail(&recorder.stderr())
    );
    Ok(())
}

/// Checkpoints that a reader sees now.
pub(super) fn seen(recording: &Path) -> usize {
    Recording::open(recording).map_or(0, |r| r.rows().len())
}

/// The recording of a killed recorder: whole as far as it goes. If the recorder died before the
/// first commit there may be nothing that opens.
pub(super) fn recording_is_whole(dir: &Path, out: &Path, seen: usize) -> Result<usize> {
    let opened = match Recording::open(out) {
        Ok(opened) => opened,
        Err(_) if seen == 0 => return Ok(0),
        Err(error) => return Err(error).context("a recording that had checkpoints"),
    };
    let rows = opened.rows().len();
    ensure!(
        rows >= seen,
        "{rows} checkpoints are left of {seen} that were committed"
    );
    if let Some(row) = opened.rows().last() {
        opened.checkpoint(row.id).context("the last checkpoint")?;
    }
    drop(opened);
    still::verify(dir, out)?;
    Ok(rows)
}

fn pending(tracker: &str, length: &Length) -> Result<Outcome> {
    if let Some(why) = super::ways::refused(tracker)? {
        return crate::skip(why);
    }
    attached(
        &["--hz", "1000", "--copy", "after", "--tracker", tracker],
        length.kills / 2,
    )
}

fn attached(how: &[&str], all: u32) -> Result<Outcome> {
    let (mut random, seed) = Random::seeded();
    let rounds = all.div_ceil(TARGETS.len() as u32);
    let (mut kills, mut checkpoints) = (0, 0);
    for (name, options, steady) in TARGETS {
        let dir = place::scratch()?;
        let mut target = Running::start(&mut command(place::target(name)?, options), dir.path())?;
        let pid = target.ready()?;
        let before = Footprint::of(pid)?;
        for round in 0..rounds {
            let context = || format!("{name}, kill {round}, seed {seed}");
            let out = still::fresh(dir.path(), "run.still");
            let mut recorder = still::attach(dir.path(), how, &out, pid)?;
            std::thread::sleep(delay(&mut random));
            let known = if random.below(2) == 0 { seen(&out) } else { 0 };
            recorder.signal(Signal::KILL).with_context(context)?;
            killed(&mut recorder).with_context(context)?;
            kills += 1;
            // The kernel detaches and drops protection as the dead recorder's descriptors close.
            let left = after_kill(pid, &before, steady);
            if let Some(status) = target.ended()? {
                anyhow::bail!(
                    "{}: the target ended ({status}): {}",
                    context(),
                    target.stdout()
                );
            }
            left.with_context(context)?;
            checkpoints += recording_is_whole(dir.path(), &out, known).with_context(context)?;
        }
        target
            .finish()
            .with_context(|| format!("{name}, seed {seed}"))?;
    }
    passed(format!(
        "kills {kills}, checkpoints left {checkpoints}, seed {seed}"
    ))
}

/// Waits for the kernel to finish with the dead recorder, and for a thread that was making a call
/// for it to undo that, then tells what is left.
fn after_kill(pid: u32, before: &Footprint, steady: bool) -> Result<()> {
    let mut last = Ok(());
    for _ in 0..500 {
        last = process::left_alone(pid).and_then(|()| nothing_left(pid, before, steady));
        if last.is_ok() || !process::alive(pid) {
            break;
        }
        std::thread::sleep(Duration::from_millis(2));
    }
    last
}

fn nothing_left(pid: u32, before: &Footprint, steady: bool) -> Result<()> {
    let now = Footprint::of(pid)?;
    ensure!(
        now.descriptors == before.descriptors,
        "descriptors were {:?} and are {:?}",
        before.descriptors,
        now.descriptors
    );
    if steady && now.mappings != before.mappings {
        let odd: Vec<&String> = now
            .mappings
            .iter()
            .filter(|m| !before.mappings.contains(m))
            .collect();
        let gone: Vec<&String> = before
            .mappings
            .iter()
            .filter(|m| !now.mappings.contains(m))
            .collect();
        // A program may move its break or grow its stack; a mapping in a new place is ours.
        ensure!(
            odd.iter()
                .all(|m| m.ends_with("[heap]") || m.ends_with("[stack]")),
            "mappings {gone:?} became {odd:?}"
        );
    }
    ensure!(
        process::state_of(pid) != Some('T'),
        "the target was left stopped"
    );
    Ok(())
}

fn launched(length: &Length) -> Result<Outcome> {
    let (mut random, seed) = Random::seeded();
    let (mut kills, mut checkpoints) = (0, 0);
    for round in 0..length.kills / 2 {
        let (name, options, _) = TARGETS[round as usize % TARGETS.len()];
        let context = || format!("{name}, kill {round}, seed {seed}");
        let dir = place::scratch()?;
        let mut cmd: Vec<OsString> = vec![place::target(name)?.into()];
        cmd.extend(options.iter().map(OsString::from));
        let out = dir.path().join("run.still");
        let mut recorder = still::record(dir.path(), &["--hz", "100"], &out, &cmd)?;
        // Before the target runs its own code there is no target that could go on.
        let pid = recorder.ready().with_context(context)?;
        std::thread::sleep(delay(&mut random));
        let known = if random.below(2) == 0 { seen(&out) } else { 0 };
        recorder.signal(Signal::KILL)?;
        killed(&mut recorder).with_context(context)?;
        kills += 1;
        let mut left = Ok(());
        for _ in 0..500 {
            left = process::left_alone(pid);
            if left.is_ok() || !process::alive(pid) {
                break;
            }
            std::thread::sleep(Duration::from_millis(2));
        }
        left.with_context(context)?;
        checkpoints += recording_is_whole(dir.path(), &out, known).with_context(context)?;
        process::signal(pid, Signal::TERM).with_context(context)?;
        process::wait_for("the orphaned target ends", || !process::alive(pid))
            .with_context(context)?;
        let said = recorder.stdout();
        ensure!(
            said.lines().any(|l| l.starts_with("ok")) && !said.contains("wrong"),
            "{}: the target said: {said}",
            context()
        );
    }
    passed(format!(
        "kills {kills}, checkpoints left {checkpoints}, seed {seed}"
    ))
}

/// A negative control: a process held by a tracer (GDB, stopped in it) is not left alone.
fn check_notices(_: &Length) -> Result<Outcome> {
    let Some(gdb) = place::program("gdb") else {
        return crate::skip("no gdb on this machine");
    };
    let dir = place::scratch()?;
    let mut target = Running::start(
        &mut command(place::target("quiet.c")?, &["--seconds", "100"]),
        dir.path(),
    )?;
    let pid = target.ready()?;
    process::left_alone(pid)?;
    let mut c = command(gdb, &["-nx", "-batch", "-ex", "shell sleep 100", "-p"]);
    let mut holder = Running::start(c.arg(pid.to_string()), dir.path())?;
    process::wait_for("gdb holds it", || {
        process::status_value(pid, "TracerPid").is_ok_and(|t| t != "0")
    })?;
    ensure!(
        process::left_alone(pid).is_err(),
        "a traced process passed for one left alone"
    );
    holder.signal(Signal::KILL)?;
    holder.wait(PATIENCE)?;
    drop(holder);
    // GDB attaches with SIGSTOP; killed, it leaves that behind.
    process::signal(pid, Signal::CONT)?;
    target.finish()?;
    passed("")
}
