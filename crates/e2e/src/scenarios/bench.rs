//! The bench measures what it says: its JSON is whole and its figures agree with each other.

use crate::process::{PATIENCE, Running};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::path::Path;
use stillframe_image::SpaceId;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bench::capture",
        about: "`still bench capture` measures, and its JSON is sane",
        run: capture,
    },
    Scenario {
        name: "bench::history",
        about: "`still bench history` answers its own questions rightly, and its JSON is sane",
        run: history,
    },
    Scenario {
        name: "bench::restore",
        about: "`still bench restore` restores and rolls back, and its JSON is sane",
        run: restore,
    },
    Scenario {
        name: "bench::failure",
        about: "what could not be measured is said, in the output and by the exit code",
        run: failure,
    },
];

fn number(value: &Value, path: &str) -> Result<f64> {
    value
        .pointer(path)
        .and_then(Value::as_f64)
        .with_context(|| format!("no number at {path}"))
}

fn capture(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let json = dir.path().join("bench.json");
    let out = dir.path().join("recordings");
    let mut c = still::still(&["bench", "capture", "--quick", "--workload", "random"])?;
    c.args([
        "--seconds",
        "1",
        "--pairs",
        "1",
        "--mib",
        "16",
        "--dirty",
        "50",
        "--hz",
        "50",
    ]);
    c.arg("--json").arg(&json).arg("--out").arg(&out);
    let mut run = Running::start(&mut c, dir.path())?;
    still::ended_with(&mut run, 0, PATIENCE * 4)?;
    let text = run.stdout();
    ensure!(
        text.contains("random 16M d50 t2"),
        "no such setting in: {text}"
    );
    let wide = text.lines().find(|l| l.chars().count() > 120);
    ensure!(wide.is_none(), "wider than 120 columns: {wide:?}");
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    let cell = report.pointer("/cells/0").context("no cell")?;
    let at = |path: &str| number(cell, &format!("/ways/0/figures{path}"));
    let checkpoints = at("/checkpoints")?;
    ensure!(
        checkpoints >= 2.0,
        "{checkpoints} checkpoints in a second at 50 Hz"
    );
    ensure!(
        at("/slowdown/median")? > 0.2,
        "the slowdown is no ratio of times"
    );
    ensure!(at("/pause_us/p50")? > 0.0, "no pause");
    ensure!(
        at("/pause_us/p50")? <= at("/pause_us/p99")?,
        "percentiles out of order"
    );
    ensure!(
        at("/pause_us/p99")? <= at("/pause_us/max")?,
        "percentiles out of order"
    );
    ensure!(at("/dirty_pages/mean")? > 0.0, "no dirty page");
    ensure!(
        at("/resident_peak")? >= at("/resident_end")?,
        "more memory than the most"
    );
    ensure!(at("/stored_bytes")? > 0.0, "nothing was stored");
    ensure!(number(cell, "/bare_seconds/median")? > 0.0, "no time");
    let marks = report
        .pointer("/marks")
        .and_then(Value::as_array)
        .context("no marks")?;
    ensure!(marks.len() > 15, "only {} marks", marks.len());
    // None of the marks is about this setting, but for the memory of the recorder.
    let judged = marks
        .iter()
        .filter(|m| m["verdict"] == "met" || m["verdict"] == "missed")
        .count();
    ensure!(
        judged <= 1,
        "{judged} marks judged by a setting they are not about"
    );
    let left = std::fs::read_dir(&out)?.count();
    ensure!(left == 0, "{left} things left in the output directory");
    passed(format!("checkpoints {checkpoints}"))
}

/// The value of the bench's variable at every checkpoint that shows it.
fn values(recording: &Path) -> Result<Vec<(u64, i64)>> {
    let said = std::fs::read_to_string(recording.with_extension("said"))?;
    let address = said
        .lines()
        .find_map(|l| u64::from_str_radix(l.strip_prefix("addr alone ")?, 16).ok())
        .context("the program did not say where its variable is")?;
    let recording = still::open(recording)?;
    let mut found = Vec::new();
    for row in recording.rows() {
        let mut bytes = [0; 8];
        let memory = recording.memory(row.id, SpaceId(0))?;
        if memory.read(address, &mut bytes).is_ok() {
            found.push((row.id.0, i64::from_le_bytes(bytes)));
        }
    }
    Ok(found)
}

fn history(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let json = dir.path().join("bench.json");
    let recording = dir.path().join("bench.still");
    let mut c = still::still(&["bench", "history", "--checkpoints", "600", "--hz", "100"])?;
    c.args(["--mib", "16", "--rounds", "2", "--cores", "1"])
        .arg("--json")
        .arg(&json)
        .arg("--recording")
        .arg(&recording);
    let mut run = Running::start(&mut c, dir.path())?;
    // Wrong answers fail it: each of its questions has one that is known.
    still::ended_with(&mut run, 0, PATIENCE * 4)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    ensure!(
        number(&report, "/recording/checkpoints")? >= 600.0
            && number(&report, "/recording/process_mib")? >= 16.0,
        "the recording is smaller than asked for: {}",
        report["recording"]
    );
    let list = |path: &str| report.pointer(path).and_then(Value::as_array);
    let cases = list("/cases").context("no cases")?;
    for (name, how) in [
        ("open", "the recording"),
        ("history alone", "by what changed"),
        ("history alone", "every checkpoint"),
        ("history among", "by what changed"),
        ("history of the variable alone.value", "by what changed"),
        ("history hot", "by what changed"),
        ("find hot > 3/4 of its last", "first moment"),
        ("find hot > 3/4 of its last", "first moment, by halves"),
        ("stacks of a random moment", "warm"),
    ] {
        let case = cases.iter().find(|c| c["name"] == name && c["how"] == how);
        let case = case.with_context(|| format!("{name}, {how} was not measured"))?;
        ensure!(
            case["rounds"] == 2 && number(case, "/ms/median")? > 0.0,
            "{case}"
        );
    }
    let commands = list("/commands").context("no commands")?;
    ensure!(commands.len() >= 10, "only {} commands", commands.len());
    for command in commands {
        ensure!(
            number(command, "/output_bytes")? > 0.0 && number(command, "/peak_mib")? > 0.0,
            "{command}"
        );
    }
    ensure!(list("/failed").is_some_and(Vec::is_empty), "{report}");
    let gdb = place::program("gdb").is_some();
    ensure!(gdb == report["gdb"].is_object(), "{}", report["gdb"]);
    // A recording of this size can meet no mark, nor miss one.
    let marks = list("/marks").context("no marks")?;
    let judged = |m: &&Value| m["verdict"] == "met" || m["verdict"] == "missed";
    ensure!(
        marks.len() >= 5 && !marks.iter().any(|m| judged(&m)),
        "{marks:?}"
    );
    // What it asked of, asked by hand and compared with the bytes of every checkpoint.
    let values = values(&recording)?;
    let mut expected: Vec<(u64, i64)> = Vec::new();
    for (at, value) in &values {
        if expected.last().is_none_or(|(_, before)| before != value) {
            expected.push((*at, *value));
        }
    }
    ensure!(expected.len() > 40, "only {} values", expected.len());
    let words = |words: &[&str]| -> Vec<OsString> {
        let (first, rest) = words.split_first().unwrap_or((&"", &[]));
        let mut all: Vec<OsString> = vec![first.into(), recording.clone().into()];
        all.extend(rest.iter().map(OsString::from));
        all
    };
    let (status, out, err) = still::run(dir.path(), &words(&["history", "alone.value", "--json"]))?;
    ensure!(status.success(), "history: {err}");
    let mut told: Vec<(u64, i64)> = Vec::new();
    for line in out.lines() {
        let line: Value = serde_json::from_str(line)?;
        let at = line["checkpoint"].as_u64();
        if let Some(value) = line.pointer("/new/number").and_then(Value::as_i64) {
            told.push((at.context("no checkpoint")?, value));
        }
    }
    ensure!(told == expected, "told {told:?}, recorded {expected:?}");
    let first = values.iter().find(|(_, v)| *v >= 25).context("never 25")?.0;
    for extra in [&[][..], &["--bisect"]] {
        let mut question = vec!["find", "alone.value >= 25", "--json"];
        question.extend(extra);
        let (status, out, err) = still::run(dir.path(), &words(&question))?;
        ensure!(status.success(), "find: {err}");
        let line: Value = serde_json::from_str(out.lines().next().context("nothing found")?)?;
        ensure!(line["checkpoint"] == first, "{line} for {first}");
    }
    passed(format!("values {}, cases {}", expected.len(), cases.len()))
}

fn restore(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let json = dir.path().join("bench.json");
    let mut c = still::still(&["bench", "restore", "--mib", "16", "--rounds", "2"])?;
    c.args(["--no-peers", "--json"]).arg(&json);
    let mut run = Running::start(&mut c, dir.path())?;
    still::ended_with(&mut run, 0, PATIENCE)?;
    let report: Value = serde_json::from_slice(&std::fs::read(&json)?)?;
    for case in ["/cases/0", "/cases/1"] {
        let of = |key: &str| number(&report, &format!("{case}/{key}"));
        let (ready, whole) = (of("ready_ms/median")?, of("command_ms/median")?);
        ensure!(
            0.0 < ready && ready < whole && of("mib")? == 16.0,
            "{case} makes no sense: {}",
            report["cases"]
        );
    }
    let of = |key: &str| number(&report, &format!("/rollbacks/{key}/median"));
    let (pages, stood, whole) = (of("pages")?, of("stood_ms")?, of("command_ms")?);
    ensure!(
        pages > 50.0 && 0.0 < stood && stood < whole,
        "rollbacks make no sense: {}",
        report["rollbacks"]
    );
    passed("")
}

fn failure(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let mut c = still::still(&["bench", "capture", "--workload", "random", "--no-peers"])?;
    c.args([
        "--seconds",
        "0.1",
        "--pairs",
        "1",
        "--mib",
        "4",
        "--dirty",
        "5",
        "--hz",
        "50",
    ]);
    c.args(["--record-arg", "--no-such-option"])
        .arg("--out")
        .arg(dir.path());
    let mut run = Running::start(&mut c, dir.path())?;
    still::ended_with(&mut run, 1, PATIENCE * 2)?;
    ensure!(
        run.stdout().contains("FAILED: ") && run.stdout().contains("no-such-option"),
        "the failure is not told: {}",
        run.stdout()
    );
    passed("")
}
