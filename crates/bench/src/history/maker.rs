//! The recording that questions are asked of: made by the real recorder, or used again.

use super::Subject;
use crate::args::HistoryBench;
use crate::load::PATIENCE;
use crate::process::{Running, file, program, tail, wait_for};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;
use stillframe_store::Recording;

const SOURCE: &str = include_str!("target.c");

/// How often the variables with a known history change.
pub const CHANGES: u32 = 50;

/// What a recording needs beside it: the program's own file and what it said.
#[derive(Debug)]
struct Places {
    recording: PathBuf,
    program: PathBuf,
    said: PathBuf,
}

impl Places {
    fn of(recording: &Path) -> Self {
        Self {
            recording: recording.to_path_buf(),
            program: recording.with_extension("program"),
            said: recording.with_extension("said"),
        }
    }

    fn subject(&self, made_seconds: Option<f64>) -> Result<Subject> {
        let said =
            std::fs::read_to_string(&self.said).with_context(|| self.said.display().to_string())?;
        let address = |name: &str| {
            let prefix = format!("addr {name} ");
            said.lines()
                .find_map(|l| u64::from_str_radix(l.strip_prefix(&prefix)?, 16).ok())
                .with_context(|| format!("{} has no line {prefix:?}", self.said.display()))
        };
        Ok(Subject {
            recording: self.recording.clone(),
            program: self.program.clone(),
            alone: address("alone")?,
            among: address("among")?,
            hot: address("hot")?,
            made_seconds,
        })
    }
}

/// Uses the recording again that is there, or makes it.
///
/// # Errors
/// If there is no C compiler, the recorder fails, or what is there is too short.
pub fn recording(args: &HistoryBench, path: &Path, say: &mut dyn FnMut(&str)) -> Result<Subject> {
    let places = Places::of(path);
    if path.exists() {
        let found = Recording::open(path)?.rows().len();
        ensure!(
            found as u64 >= u64::from(args.checkpoints),
            "{} has {found} of {} checkpoints; remove it, or ask for fewer",
            path.display(),
            args.checkpoints
        );
        say(&format!(
            "using {} again, {found} checkpoints",
            path.display()
        ));
        return places.subject(None);
    }
    let Some(compiler) = program("cc") else {
        bail!("there is no C compiler (cc) for the program that is recorded");
    };
    let source = path.with_extension("c");
    std::fs::write(&source, SOURCE)
        .with_context(|| format!("cannot write {}", source.display()))?;
    let out = Command::new(compiler)
        .args(["-O1", "-g", "-pthread", "-o"])
        .arg(&places.program)
        .arg(&source)
        .output()
        .context("running the compiler")?;
    ensure!(
        out.status.success(),
        "the program does not compile: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    // Ticks can be late or left out; the history is spread over this time.
    let seconds = f64::from(args.checkpoints) / args.hz;
    say(&format!(
        "recording {} checkpoints of {} MiB at {} Hz, about {seconds:.0} s",
        args.checkpoints, args.mib, args.hz
    ));
    let begun = std::time::Instant::now();
    make(args, &places, seconds)?;
    places.subject(Some(begun.elapsed().as_secs_f64()))
}

/// Between two looks at the recording.
const LOOK: Duration = Duration::from_millis(200);

/// The program, once it has written its memory.
fn ready(said: &Path) -> Option<Pid> {
    let said = std::fs::read_to_string(said).ok()?;
    let pid = said.lines().find_map(|l| l.strip_prefix("ready "))?;
    pid.parse().ok().and_then(Pid::from_raw)
}

fn make(args: &HistoryBench, places: &Places, seconds: f64) -> Result<()> {
    let errors = places.said.with_extension("errors");
    let mut command = Command::new(std::env::current_exe().context("our own executable")?);
    command
        .args(["record", "--quiet", "--hz", &args.hz.to_string()])
        .arg("-o")
        .arg(&places.recording)
        .arg("--")
        .arg(&places.program)
        // Its time begins when it is told so; some checkpoints are made before that.
        .args([
            args.mib.to_string(),
            (seconds * 0.8).to_string(),
            CHANGES.to_string(),
        ])
        .stdin(Stdio::null())
        .stdout(file(&places.said)?)
        .stderr(file(&errors)?);
    let mut recorder = Running::start(&mut command, "still record")?;
    let wanted = u64::from(args.checkpoints);
    let patience = PATIENCE + Duration::from_secs_f64(seconds * 4.0);
    let mut opened: Option<Recording> = None;
    let (mut before, mut program) = (0, None);
    let made = wait_for("all the checkpoints", patience, || {
        if let Some(status) = recorder.child().try_wait()? {
            bail!("the recorder ended with {status}: {}", tail(&errors));
        }
        // Looking costs the recorder processor time where there is little.
        std::thread::sleep(LOOK);
        let Some(recording) = &mut opened else {
            // There is nothing to open at first.
            opened = Recording::open(&places.recording).ok();
            return Ok(false);
        };
        recording.refresh()?;
        let now = recording.rows().len();
        let keeps_up = (now - before) as f64 > args.hz * LOOK.as_secs_f64() / 2.0;
        before = now;
        if program.is_none() && keeps_up {
            program = ready(&places.said);
            if let Some(pid) = program {
                kill_process(pid, Signal::USR1).context("telling the program to begin")?;
            }
        }
        Ok(now as u64 >= wanted && program.is_some())
    });
    if let Some(pid) = program {
        kill_process(pid, Signal::TERM).context("ending the program")?;
    }
    made?;
    let status = recorder.wait(patience)?;
    ensure!(
        status.success(),
        "the recorder ended with {status}: {}",
        tail(&errors)
    );
    Ok(())
}
