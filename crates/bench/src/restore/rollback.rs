//! What a rollback costs: a process that writes a thousand pages a second is recorded, and goes back by
//! a second, again and again.

use super::{subject, us};
use crate::process::{PATIENCE, Running, file, tail, wait_for};
use crate::stats::Spread;
use anyhow::{Context as _, Result, ensure};
use serde::Serialize;
use serde_json::Value;
use std::io::Write as _;
use std::path::Path;
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};
use stillframe_store::Recording;

/// Memory of the process, MiB.
const MIB: u32 = 64;
/// Pages it writes first in a second.
const RATE: u32 = 1000;
/// As the command tells moments: so long ago.
const BACK: &str = "@-1s";
/// Recorded before the first, ns.
const ENOUGH_NS: u64 = 1_300_000_000;
/// Between two rollbacks, so that each goes back to after the one before.
const APART: Duration = Duration::from_millis(1300);

/// Rollbacks, measured.
#[derive(Clone, Debug, Serialize)]
pub struct Rollbacks {
    /// Pages written back.
    pub pages: Spread,
    /// How long the process stood still, checkpoint of the present included, ms.
    pub stood_ms: Spread,
    /// The command from its start to its end, ms.
    pub command_ms: Spread,
    /// How many.
    pub rounds: usize,
}

/// Records a process and takes it back.
///
/// # Errors
/// If it cannot be recorded or rolled back.
pub fn measure(rounds: u32, dir: &Path) -> Result<Rollbacks> {
    let mut process = subject(MIB, &["--threads", "1", "--rate", &RATE.to_string()])?;
    let input = process.child().stdin.as_mut().context("its input")?;
    writeln!(input, "go {}", u64::from(u32::MAX)).context("starting its work")?;
    let (recording, errors) = (dir.join("rollback.still"), dir.join("rollback.err"));
    let mut command = Command::new(us()?);
    command
        .args(["attach", "--quiet", "--hz", "100", "-o"])
        .arg(&recording)
        .arg(process.pid().to_string())
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(file(&errors)?);
    let mut recorder = Running::start(&mut command, "the recorder")?;
    let recorded = || {
        let rows = Recording::open(&recording).ok();
        rows.is_some_and(|r| {
            r.rows()
                .last()
                .is_some_and(|last| last.tick.at_ns > ENOUGH_NS)
        })
    };
    wait_for("a second is recorded", PATIENCE, || Ok(recorded()))?;
    let mut moment = recording.into_os_string();
    moment.push(BACK);
    let (mut pages, mut stood, mut whole) = (Vec::new(), Vec::new(), Vec::new());
    for round in 0..rounds {
        if round > 0 {
            std::thread::sleep(APART);
        }
        let mut command = Command::new(us()?);
        command
            .args(["rollback", "--json", &process.pid().to_string()])
            .arg(&moment)
            .stdin(Stdio::null());
        let begun = Instant::now();
        let out = command.output().context("cannot start still rollback")?;
        whole.push(begun.elapsed().as_secs_f64() * 1e3);
        ensure!(
            out.status.success(),
            "still rollback: {}{}",
            String::from_utf8_lossy(&out.stderr).trim(),
            tail(&errors)
        );
        let said: Value = serde_json::from_slice(&out.stdout).context("what it printed")?;
        let number = |key: &str| said.get(key).and_then(Value::as_f64);
        pages.push(number("pages").context("it printed no pages")?);
        stood.push(number("milliseconds").context("it printed no time")?);
    }
    // First the recorder, which sees its end.
    drop(process);
    recorder.wait(PATIENCE)?;
    Ok(Rollbacks {
        pages: Spread::of(&pages),
        stood_ms: Spread::of(&stood),
        command_ms: Spread::of(&whole),
        rounds: whole.len(),
    })
}
