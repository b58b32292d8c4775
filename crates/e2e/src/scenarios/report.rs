//! `still report`: figures that agree with the listing, and a page that needs nothing else.

use crate::process::PATIENCE;
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::Value;
use std::ffi::{OsStr, OsString};
use std::path::Path;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "report::figures",
    about: "text, JSON and page of a recording, live and ended, agree with its listing",
    run: figures,
}];

fn said(dir: &Path, args: &[&OsStr]) -> Result<String> {
    let (status, out, err) = still::run(dir, args)?;
    ensure!(
        status.success(),
        "{args:?}: {status}: {}",
        still::tail(&err)
    );
    Ok(out)
}

fn json(dir: &Path, command: &str, recording: &Path) -> Result<Value> {
    let out = said(
        dir,
        &[command.as_ref(), "--json".as_ref(), recording.as_os_str()],
    )?;
    serde_json::from_str(&out).with_context(|| format!("the JSON of {command}"))
}

fn at<'a>(value: &'a Value, pointer: &str) -> Result<&'a Value> {
    value
        .pointer(pointer)
        .with_context(|| format!("no {pointer}"))
}

/// Sum of a column of the listing.
fn sum(ls: &Value, of: &[&str]) -> Result<u64> {
    let rows = at(ls, "/checkpoints")?.as_array().context("no rows")?;
    Ok(rows
        .iter()
        .flat_map(|row| of.iter().filter_map(|name| row[*name].as_u64()))
        .sum())
}

fn agree(report: &Value, ls: &Value) -> Result<u64> {
    for (ours, theirs) in [
        ("/pages/dirty", "/totals/dirty_pages"),
        ("/pages/raw_bytes", "/totals/raw_bytes"),
        ("/pages/stored_bytes", "/totals/stored_bytes"),
        ("/checkpoints/count", "/totals/checkpoints"),
        ("/rate/skipped", "/totals/skipped"),
        ("/subject/pid", "/pid"),
        ("/subject/arguments", "/arguments"),
    ] {
        let (a, b) = (at(report, ours)?, at(ls, theirs)?);
        ensure!(a == b, "{ours} is {a}, {theirs} is {b}");
    }
    let total = |name: &str| at(report, name).map(|v| v.as_u64().unwrap_or(0));
    // The rows have all stops but the boundary in one sum.
    let sums = [
        (&["/stall/boundary_ns"][..], "pause_ns"),
        (
            &["/stall/precopy_ns", "/stall/other_ns"],
            "precopy_pause_ns",
        ),
        (&["/pages/untracked"], "untracked_pages"),
    ];
    for (ours, column) in sums {
        let mut a = 0;
        for name in ours {
            a += total(name)?;
        }
        let b = sum(ls, &[column])?;
        ensure!(a == b, "{ours:?} are {a}, the rows add up to {b}");
    }
    let parts =
        total("/stall/boundary_ns")? + total("/stall/precopy_ns")? + total("/stall/other_ns")?;
    ensure!(
        parts == total("/stall/total_ns")?,
        "the stalls do not add up"
    );
    ensure!(parts > 0, "the target never stood still");
    total("/checkpoints/count")
}

fn figures(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let out = dir.path().join("run.still");
    let cmd: [OsString; 5] = [
        place::target("crash.c")?.into(),
        "--after".into(),
        "2".into(),
        "--kind".into(),
        "segv".into(),
    ];
    let mut run = still::record(dir.path(), &["--hz", "100"], &out, &cmd)?;
    // While it is being written: whatever is there by then must be reported.
    let begun = std::time::Instant::now();
    let mut live = 0;
    while live < 3 && begun.elapsed() < PATIENCE {
        std::thread::sleep(std::time::Duration::from_millis(20));
        if out.join("recording").exists() {
            let report = json(dir.path(), "report", &out)?;
            live = at(&report, "/checkpoints/count")?.as_u64().unwrap_or(0);
        }
    }
    ensure!(live >= 3, "a growing recording shows {live} checkpoints");
    still::ended_with(&mut run, 128 + 11, PATIENCE)?;

    let report = json(dir.path(), "report", &out)?;
    let count = agree(&report, &json(dir.path(), "ls", &out)?)?;
    ensure!(count >= live, "checkpoints were lost");
    let text = said(dir.path(), &["report".as_ref(), out.as_os_str()])?;
    for part in ["PAUSES", "OVERHEAD", "standing still", "cost of a fault"] {
        ensure!(text.contains(part), "the text lacks {part}: {text}");
    }
    let page = dir.path().join("report.html");
    said(
        dir.path(),
        &[
            "report".as_ref(),
            out.as_os_str(),
            "--html".as_ref(),
            page.as_os_str(),
        ],
    )?;
    let html = std::fs::read_to_string(&page)?;
    for outside in [
        "http:",
        "https:",
        "//cdn",
        "@import",
        "url(",
        "<link rel=\"style",
        "src=",
    ] {
        ensure!(!html.contains(outside), "the page refers to {outside}");
    }
    ensure!(
        html.contains("default-src 'none'"),
        "the page has no policy"
    );
    ensure!(html.ends_with("</html>\n"), "the page is cut off");
    passed(format!("checkpoints {count}, page {} bytes", html.len()))
}
