//! `still last-good` finds the moment after which a command says no.
//!
//! A program breaks its own invariant once, at a step that its memory tells of; what the command says
//! is compared with what every checkpoint holds, read one by one.

use crate::process::PATIENCE;
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "last_good::corruption",
        about: "the last checkpoint before a program damages its own list, by still find and by GDB",
        run: corruption,
    },
    Scenario {
        name: "last_good::python",
        about: "the last checkpoint at which a Python program's file-like buffer was whole",
        run: python,
    },
    Scenario {
        name: "last_good::ends",
        about: "what is good, bad or unclear from end to end; a command that stops the search",
        run: ends,
    },
];

/// The exit code that says that nothing was found.
const NOTHING: i32 = 10;

struct Recorded {
    dir: tempfile::TempDir,
    recording: PathBuf,
    exe: PathBuf,
    count: u64,
}

fn recorded(source: &str) -> Result<Recorded> {
    let dir = place::scratch()?;
    let exe = place::target(source)?;
    let recording = dir.path().join("r.still");
    let mut run = still::record(
        dir.path(),
        &["--hz", "100"],
        &recording,
        &[exe.clone().into()],
    )?;
    still::ended_with(&mut run, 0, PATIENCE)?;
    let count = still::open(&recording)?.rows().len() as u64;
    Ok(Recorded {
        dir,
        recording,
        exe,
        count,
    })
}

/// `still last-good REC OPTIONS --json -- COMMAND`: exit code and answer.
fn last_good(
    dir: &Path,
    recording: &Path,
    options: &[&str],
    command: &[&str],
) -> Result<(i32, Value)> {
    let mut c = still::still(&["last-good", "--json"])?;
    c.arg(recording).args(options).arg("--").args(command);
    c.env("STILL", place::still()?);
    let (status, out, err) = crate::process::run(&mut c, dir)?;
    let code = status.code().context("killed")?;
    let answer = serde_json::from_str(&out).with_context(|| {
        format!(
            "{options:?} {command:?}: {status}: {out} {}",
            still::tail(&err)
        )
    })?;
    Ok((code, answer))
}

fn number(value: &Value) -> Result<u64> {
    let at = value["checkpoint"].as_u64();
    at.with_context(|| format!("no checkpoint in {value}"))
}

/// Runs `still find` for every checkpoint: at which the list is whole.
fn truth(r: &Recorded) -> Result<Vec<bool>> {
    let mut c = still::still(&["find", "--json", "--all"])?;
    c.arg(&r.recording).args(["--", "damaged == 0"]);
    let (status, out, err) = crate::process::run(&mut c, r.dir.path())?;
    ensure!(status.success(), "find: {status} {}", still::tail(&err));
    let mut whole = vec![false; r.count as usize];
    for line in out.lines() {
        let stretch: Value = serde_json::from_str(line)?;
        let (from, to) = (number(&stretch)?, number(&stretch["to"])?);
        for at in from..=to {
            whole[at as usize] = true;
        }
    }
    Ok(whole)
}

fn corruption(_: &Length) -> Result<Outcome> {
    let r = recorded("corrupts.c")?;
    let whole = truth(&r)?;
    let wanted = whole.iter().rposition(|w| *w).context("never whole")? as u64;
    ensure!(
        whole[..=wanted as usize].iter().skip(2).all(|w| *w) && wanted + 1 < r.count,
        "the program was to break once: {whole:?}"
    );
    // The first checkpoints may come before main begins; what `damaged` says there is 0 as well.
    let ask = "test $(\"$STILL\" find \"$1\" --from $STILL_CHECKPOINT --to $STILL_CHECKPOINT --json \
               -- 'damaged == 0' | wc -l) = 1";
    let command = [
        "sh",
        "-c",
        ask,
        "sh",
        r.recording.to_str().context("a path")?,
    ];
    let (code, answer) = last_good(r.dir.path(), &r.recording, &[], &command)?;
    ensure!(
        code == 0 && answer["outcome"] == "found",
        "{code}: {answer}"
    );
    ensure!(
        number(&answer["last_good"])? == wanted && number(&answer["first_bad"])? == wanted + 1,
        "{answer} instead of {wanted}"
    );
    let runs = answer["runs"].as_array().context("no runs")?.len();
    let most = 4 + r.count.ilog2() as usize;
    ensure!(runs <= most, "{runs} runs for {} checkpoints", r.count);
    let Some(gdb) = place::program("gdb") else {
        return skip("gdb is not installed: the search by cores was not made");
    };
    // The same by a debugger that reads the list itself: it is damaged from the step on at which a
    // node's check no longer fits, whatever the program's own flag says.
    let core = r.dir.path().join("at.core");
    let core = core.to_str().context("a path")?;
    let script = format!(
        "{} -nx -batch -ex 'print damaged' {} {core} | grep -q '^.1 = 0$'",
        gdb.display(),
        r.exe.display()
    );
    let (code, answer) = last_good(
        r.dir.path(),
        &r.recording,
        &["--core", core],
        &["sh", "-c", &script],
    )?;
    ensure!(code == 0, "by cores: {code}: {answer}");
    ensure!(
        number(&answer["last_good"])? == wanted,
        "by cores: {answer} instead of {wanted}"
    );
    passed(format!("{} checkpoints, {runs} runs", r.count))
}

/// A program whose memory holds a text that is broken at some moment.
const PYTHON: &str = r#"
import time, ctypes
text = ctypes.create_string_buffer(b"whole-and-sound-", 64)
print(ctypes.addressof(text), flush=True)
for i in range(60):
    if i == 35:
        text[3] = b"?"
    time.sleep(0.01)
"#;

fn python(_: &Length) -> Result<Outcome> {
    let Some(python) = place::program("python3") else {
        return skip("python3 is not installed");
    };
    let dir = place::scratch()?;
    let recording = dir.path().join("r.still");
    let program = [python.into(), "-c".into(), PYTHON.into()];
    let mut run = still::record(dir.path(), &["--hz", "100"], &recording, &program)?;
    still::ended_with(&mut run, 0, PATIENCE)?;
    let out = run.stdout();
    let address: u64 = out.lines().next().context("no address")?.trim().parse()?;
    let opened = still::open(&recording)?;
    let mut whole = Vec::new();
    for row in opened.rows() {
        let memory = opened.memory(row.id, stillframe_image::SpaceId(0))?;
        let mut bytes = [0; 5];
        whole.push(match memory.read(address, &mut bytes) {
            Ok(()) => Some(&bytes == b"whole"),
            Err(_) => None,
        });
    }
    let wanted = whole.iter().rposition(|w| *w == Some(true));
    let wanted = wanted.context("never whole")? as u64;
    // Before the text exists nothing can be said, which the command says with 125.
    let ask = format!(
        "\"$STILL\" find \"$STILL_RECORDING\" --from $STILL_CHECKPOINT --to $STILL_CHECKPOINT \
         -- 'str@{address:#x} == \"whole-and-sound-\"' >&2 && exit 0; \
         \"$STILL\" find \"$STILL_RECORDING\" --from $STILL_CHECKPOINT --to $STILL_CHECKPOINT \
         -- 'str@{address:#x} == \"who?e-and-sound-\"' >&2 && exit 1; exit 125"
    );
    let (code, answer) = last_good(dir.path(), &recording, &[], &["sh", "-c", &ask])?;
    ensure!(
        code == 0 && answer["outcome"] == "found",
        "{code}: {answer}"
    );
    ensure!(
        number(&answer["last_good"])? == wanted,
        "{answer} instead of {wanted}: {whole:?}"
    );
    passed(format!("{} checkpoints", whole.len()))
}

fn ends(_: &Length) -> Result<Outcome> {
    let r = recorded("corrupts.c")?;
    let last = r.count - 1;
    let search = |options: &[&str], script: &str| {
        last_good(r.dir.path(), &r.recording, options, &["sh", "-c", script])
    };
    for (script, code, outcome, good) in [
        ("exit 0", 0, "all-good", Some(last)),
        ("exit 1", NOTHING, "all-bad", None),
        ("exit 127", NOTHING, "all-bad", None),
        ("exit 125", NOTHING, "none-judged", None),
        ("test $STILL_CHECKPOINT -gt 4", NOTHING, "reversed", None),
        ("test $STILL_CHECKPOINT -le 7", 0, "found", Some(7)),
        (
            "test \"$STILL_MOMENT\" = \"$STILL_RECORDING@$STILL_CHECKPOINT\"",
            0,
            "all-good",
            Some(last),
        ),
        (
            "case $STILL_CHECKPOINT in 8|9|10) exit 125;; esac; test $STILL_CHECKPOINT -lt 9",
            0,
            "between",
            Some(7),
        ),
    ] {
        let (status, answer) = search(&[], script)?;
        ensure!(
            status == code && answer["outcome"] == outcome,
            "{script}: {status}: {answer}"
        );
        let found = answer["last_good"]["checkpoint"].as_u64();
        ensure!(found == good, "{script}: {answer}");
    }
    let (_, answer) = search(
        &["--from", "3", "--to", "20"],
        "test $STILL_CHECKPOINT -le 11",
    )?;
    ensure!(number(&answer["last_good"])? == 11, "{answer}");
    for run in answer["runs"].as_array().context("no runs")? {
        ensure!((3..=20).contains(&number(run)?), "{run} was not asked for");
    }
    // What stands in the arguments is replaced wherever it stands.
    let (code, answer) = last_good(
        r.dir.path(),
        &r.recording,
        &["--to", "2"],
        &[
            "sh",
            "-c",
            "test \"$1\" = \"a${STILL_MOMENT}b$STILL_MOMENT\"",
            "sh",
            "a{}b{}",
        ],
    )?;
    ensure!(code == 0 && number(&answer["last_good"])? == 2, "{answer}");
    // And brought back to life: it writes its last line again, where it did.
    let said = std::fs::read_dir(r.dir.path())?
        .flatten()
        .map(|e| e.path())
        .find(|p| std::fs::read(p).is_ok_and(|text| text.starts_with(b"60 1\n")))
        .context("nobody said what it said")?;
    std::fs::write(&said, "")?;
    let mut c = still::still(&["last-good", "-q", "--restore", "--files", "ignore"])?;
    c.arg(&r.recording)
        .args(["--", "sh", "-c", "test $STILL_CHECKPOINT -le 40"]);
    let (status, out, err) = crate::process::run(&mut c, r.dir.path())?;
    ensure!(
        status.success() && out.lines().next().is_some_and(|l| l.contains("@40 ")),
        "{status}: {out} {err}"
    );
    ensure!(
        std::fs::read(&said)? == b"60 1\n",
        "it did not go on to its end: {out} {err}"
    );
    let refused = |command: &[&str], code: i32| {
        let mut c = still::still(&["last-good", "-q"])?;
        c.arg(&r.recording).arg("--").args(command);
        still::one_line_failure(&mut c, r.dir.path(), code)
    };
    let line = refused(&["sh", "-c", "exit 128"], 1)?;
    ensure!(line.contains("end the search"), "{line}");
    let line = refused(&["sh", "-c", "kill -9 $$"], 1)?;
    ensure!(line.contains("SIGKILL"), "{line}");
    refused(&["/nowhere/to/be/found"], 2)?;
    refused(&["false"], NOTHING)?;
    let core = r.dir.path().join("there");
    std::fs::write(&core, "mine")?;
    let mut c = still::still(&["last-good"])?;
    c.arg(&r.recording)
        .arg("--core")
        .arg(&core)
        .args(["--", "true"]);
    still::one_line_failure(&mut c, r.dir.path(), 6)?;
    ensure!(
        std::fs::read(&core)? == b"mine",
        "the user's file was written"
    );
    passed(format!("{} checkpoints", r.count))
}
