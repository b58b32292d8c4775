//! The bench measures what it says: its JSON is whole and its figures agree with each other.

use crate::process::{PATIENCE, Running};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "bench::capture",
        about: "`still bench capture` measures, and its JSON is sane",
        run: capture,
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
