//! What is measured of ours: questions put to the library as a session would put them, and to the
//! command as a user would.

use super::{Measure, Subject};
use crate::process::{PATIENCE, Running, file, program, status_bytes, tail};
use anyhow::{Context as _, Result, ensure};
use std::path::Path;
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::{Duration, Instant};
use stillframe_image::SpaceId;
use stillframe_store::Recording;
use stillframe_timeline::machine::Options;
use stillframe_timeline::{
    Answer, Asked, Comparison, Direction, Expression, Machine, Past, Question, Raw, Seen, Step,
    Walk, find,
};

fn ms(begun: Instant) -> f64 {
    begun.elapsed().as_secs_f64() * 1e3
}

fn raw(text: &str) -> Result<Raw> {
    text.parse().map_err(|e| anyhow::anyhow!("{text}: {e}"))
}

/// All changes of an answer over a whole recording: how many, and what it took, milliseconds. The
/// recording is open; nothing of the process has been looked at.
fn walk<Q: Question>(recording: &Recording, question: &Q) -> Result<(u64, f64)> {
    let begun = Instant::now();
    let past = Past::new(recording, SpaceId(0))?;
    let mut walk = Walk::new(&past, question, past.life(), Direction::Forward)?;
    let mut changes = 0;
    while let Step::Change(_) = walk.next(&mut |_| true)? {
        changes += 1;
    }
    Ok((changes, ms(begun)))
}

/// The same by looking at every checkpoint, as each would be looked at if it were the only one.
fn everywhere(recording: &Recording, address: u64) -> Result<(u64, f64)> {
    let begun = Instant::now();
    let (mut before, mut changes) = (None, 0);
    for row in recording.rows() {
        let mut bytes = [0; 8];
        let memory = recording.memory(row.id, SpaceId(0))?;
        let now = memory.read(address, &mut bytes).is_ok().then_some(bytes);
        changes += u64::from(before.is_some_and(|b| b != now));
        before = Some(now);
    }
    Ok((changes, ms(begun)))
}

/// The same with what a walk has at hand (looked-up versions, decoded pages), but asking everywhere.
fn asked_everywhere(
    recording: &Recording,
    question: &impl Question<Answer = Answer>,
) -> Result<(u64, f64)> {
    let begun = Instant::now();
    let past = Past::new(recording, SpaceId(0))?;
    let (mut before, mut changes): (Option<Answer>, u64) = (None, 0);
    for at in past.life() {
        let now = question.ask(&Asked::new(&past, at));
        changes += u64::from(before.as_ref().is_some_and(|b| *b != now));
        before = Some(now);
    }
    Ok((changes, ms(begun)))
}

/// What is asked of the library. Each measurement opens the recording for itself; the time of that
/// stands apart.
pub fn library<'a>(subject: &'a Subject, positions: u64) -> Vec<Measure<'a>> {
    let open = || Recording::open(&subject.recording);
    let mut all = Vec::new();
    all.push(Measure::new("open", "the recording", move || {
        let begun = Instant::now();
        let recording = open()?;
        ensure!(recording.rows().len() as u64 == positions, "it has grown");
        Ok(ms(begun))
    }));
    let changes = u64::from(super::maker::CHANGES);
    let enough = move |found: u64| {
        // Mapped and written for the first time before that; anything else is wrong.
        ensure!(
            (changes..changes + 4).contains(&found),
            "{found} changes of {changes}"
        );
        Ok(())
    };
    for (name, address) in [("alone", subject.alone), ("among", subject.among)] {
        let question = format!("i64@{address:#x}");
        let text = question.clone();
        all.push(Measure::new(
            &format!("history {name}"),
            "by what changed",
            move || {
                let (found, took) = walk(&open()?, &raw(&text)?)?;
                enough(found)?;
                Ok(took)
            },
        ));
        all.push(Measure::new(
            &format!("history {name}"),
            "every checkpoint",
            move || {
                let (found, took) = everywhere(&open()?, address)?;
                enough(found)?;
                Ok(took)
            },
        ));
        all.push(Measure::new(
            &format!("history {name}"),
            "every checkpoint, cached",
            move || {
                let (found, took) = asked_everywhere(&open()?, &raw(&question)?)?;
                enough(found)?;
                Ok(took)
            },
        ));
    }
    all.push(Measure::new(
        "stacks of a random moment",
        "warm",
        stacks(subject),
    ));
    if program("gdb").is_some() {
        let watch = "reverse-continue, watchpoint";
        all.push(Measure::new(watch, "in GDB", move || {
            reverse(subject, positions)
        }));
    }
    for (how, changed, loaded) in [
        ("by what changed", true, false),
        ("every checkpoint", false, false),
        ("by what changed, loaded", true, true),
        ("every checkpoint, loaded", false, true),
    ] {
        all.push(Measure::new(
            "history of the variable alone.value",
            how,
            move || {
                let recording = Arc::new(open()?);
                let machine = Machine::new(Arc::clone(&recording), Options::default());
                let mut begun = Instant::now();
                let question = Expression::parse(&machine, "alone.value", Seen::default())?;
                if loaded {
                    let past = Past::new(&recording, SpaceId(0))?;
                    question.ask(&Asked::new(&past, *past.life().end()));
                    begun = Instant::now();
                }
                let (found, _) = if changed {
                    walk(&recording, &question)?
                } else {
                    asked_everywhere(&recording, &question)?
                };
                enough(found)?;
                Ok(ms(begun))
            },
        ));
    }
    let hot = subject.hot;
    all.push(Measure::new("history hot", "by what changed", move || {
        let (found, took) = walk(&open()?, &raw(&format!("i64@{hot:#x}"))?)?;
        ensure!(found > positions / 2, "{found} changes of a hot variable");
        Ok(took)
    }));
    let last = move || -> Result<i64> {
        let recording = open()?;
        let row = recording.rows().last().context("no checkpoint")?;
        let mut bytes = [0; 8];
        recording
            .memory(row.id, SpaceId(0))?
            .read(hot, &mut bytes)?;
        Ok(i64::from_le_bytes(bytes))
    };
    for (how, halves) in [("first moment", false), ("first moment, by halves", true)] {
        all.push(Measure::new("find hot > 3/4 of its last", how, move || {
            let text = format!("i64@{hot:#x} > {}", last()? / 4 * 3);
            let condition: Comparison = text.parse().map_err(|e| anyhow::anyhow!("{text}: {e}"))?;
            let recording = open()?;
            let begun = Instant::now();
            let past = Past::new(&recording, SpaceId(0))?;
            let found = if halves {
                let (found, _) = find::by_halves(&past, &condition, past.life(), &mut |_| true)?;
                matches!(found, find::Halves::First { .. })
            } else {
                let found = find::first(&past, &condition, past.life(), &mut |_| true)?;
                found.at.is_some()
            };
            ensure!(found, "{text}: nowhere");
            Ok(ms(begun))
        }));
    }
    all
}

/// Call stacks of all threads at a moment that was not looked at before, by a machine that has
/// loaded the modules.
fn stacks(subject: &Subject) -> impl FnMut() -> Result<f64> + '_ {
    let mut warm: Option<Machine> = None;
    let mut turn = 0u64;
    move || {
        let machine = match &mut warm {
            Some(machine) => machine,
            none => {
                let recording = Arc::new(Recording::open(&subject.recording)?);
                let machine = Machine::new(recording, Options::default());
                walked(&machine, 1)?;
                none.insert(machine)
            }
        };
        turn += 1;
        let begun = Instant::now();
        let frames = walked(machine, turn * 7_919_317)?;
        ensure!(frames > 40, "only {frames} frames of four threads");
        Ok(ms(begun))
    }
}

/// Frames of all threads in the later half of a recording, `number` choosing where.
fn walked(machine: &Machine, number: u64) -> Result<usize> {
    let rows = machine.recording().rows();
    let half = rows.len() as u64 / 2;
    let at = half + number % (half - half / 8).max(1);
    let row = rows.get(at as usize).context("no such checkpoint")?;
    let view = machine.at(row.id, SpaceId(0))?;
    let mut frames = 0;
    for thread in view.threads()? {
        let stack = view.frames(thread.tid)?;
        frames += stack.len();
        for frame in &stack {
            // What a backtrace shows of it is part of the question.
            let _ = view.program().locate(frame.pc);
        }
    }
    Ok(frames)
}

/// From near the end of the recording back to the last change of a watched variable, as GDB's user waits
/// for it.
fn reverse(subject: &Subject, positions: u64) -> Result<f64> {
    let moment = format!("{}@{}", subject.recording.display(), positions / 20 * 19);
    let dir = tempfile::tempdir()?;
    let now = "python import time; begun = time.time()";
    let took = "python print('took', (time.time() - begun) * 1000)";
    let mut words = vec!["debug", &moment, "--batch"];
    for line in [
        "watch alone.value",
        now,
        "reverse-continue",
        took,
        "print alone.value",
    ] {
        words.extend(["-c", line]);
    }
    let (said, _, _) = command(&words, dir.path())?;
    let changed = super::maker::CHANGES - 1;
    ensure!(
        said.contains(&format!("New value = {changed}")) || said.contains(&format!("= {changed}")),
        "GDB did not come to the last change: {said:?}"
    );
    said.lines()
        .find_map(|l| l.strip_prefix("took ")?.trim().parse().ok())
        .with_context(|| format!("GDB did not say how long it took: {said:?}"))
}

/// A command as it is typed; `@` stands for a moment, another each time.
pub struct Typed {
    /// The words.
    pub words: Vec<String>,
    checkpoints: u64,
}

impl Typed {
    /// The words of a round.
    pub fn at(&self, round: u32) -> Vec<String> {
        // Far apart, never the same, and the same in every run of the bench.
        let at = (u64::from(round) + 1) * 7_919_317 % self.checkpoints.max(1);
        let words = self.words.iter();
        words
            .map(|w| match w.strip_suffix('@') {
                Some(recording) => format!("{recording}@{at}"),
                None => w.clone(),
            })
            .collect()
    }
}

/// The commands that are measured.
pub fn commands(subject: &Subject, checkpoints: u64) -> Vec<Typed> {
    let rec = subject.recording.display().to_string();
    let moment = format!("{rec}@");
    let typed = |words: &[&str]| Typed {
        words: words.iter().map(|w| (*w).to_owned()).collect(),
        checkpoints,
    };
    let alone = format!("i64@{:#x}", subject.alone);
    let write = format!("{:#x}:8", subject.alone);
    vec![
        typed(&["history", &rec, &alone]),
        typed(&["history", &rec, "alone.value"]),
        typed(&["history", &rec, "shared.among"]),
        typed(&["history", &rec, "queue->head->key", "--json"]),
        typed(&["find", &rec, "queue->len > 990"]),
        typed(&["find", &rec, "alone.value >= 25"]),
        typed(&["find", &rec, "alone.value >= 25", "--bisect"]),
        typed(&["find", &rec, "--write", &write]),
        typed(&["show", &moment]),
        typed(&["show", &moment, "--bt"]),
    ]
}

/// A command and the most memory it had, bytes, as far as looking at it every millisecond shows.
pub fn command(args: &[&str], dir: &Path) -> Result<(String, f64, u64)> {
    let (said, errors) = (dir.join("command.out"), dir.join("command.err"));
    let mut command = Command::new(std::env::current_exe().context("our own executable")?);
    command
        .args(args)
        .stdin(Stdio::null())
        .stdout(file(&said)?)
        .stderr(file(&errors)?);
    let begun = Instant::now();
    let mut running = Running::start(&mut command, args.first().copied().unwrap_or("still"))?;
    let mut peak = 0;
    let status = loop {
        peak = peak.max(status_bytes(running.pid(), "VmHWM"));
        if let Some(status) = running.child().try_wait()? {
            break status;
        }
        ensure!(begun.elapsed() < PATIENCE, "still {args:?} hangs");
        std::thread::sleep(Duration::from_micros(300));
    };
    let took = ms(begun);
    ensure!(
        status.success(),
        "still {args:?}: {status}: {}",
        tail(&errors)
    );
    Ok((std::fs::read_to_string(said)?, took, peak))
}
