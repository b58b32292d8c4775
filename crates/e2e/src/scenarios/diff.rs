//! `still diff` as a whole: what it says of two moments of a program whose state is known at both.

use crate::process::PATIENCE;
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::path::{Path, PathBuf};
use stillframe_image::SpaceId;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[Scenario {
    name: "diff::variables",
    about: "what differs between two moments, by member: variables, blocks, mappings, files, threads",
    run: variables,
}];

/// `still diff REC@A @B`.
pub fn diff(dir: &Path, recording: &Path, (a, b): (u64, u64), more: &[&str]) -> Result<String> {
    let mut args: Vec<OsString> = vec![
        "diff".into(),
        still::moment(recording, &a.to_string()),
        format!("@{b}").into(),
    ];
    args.extend(more.iter().map(OsString::from));
    let (status, out, err) = still::run(dir, &args)?;
    ensure!(status.success(), "diff: {status}: {}", still::tail(&err));
    Ok(out)
}

/// The variables of a difference in JSON: their paths with type, old and new value.
pub fn told(document: &Value) -> Result<BTreeMap<String, (String, String, String)>> {
    let list = document
        .pointer("/memory/variables")
        .and_then(Value::as_array)
        .context("no variables")?;
    let text = |v: &Value, name: &str| -> Result<String> {
        let text = v[name].as_str().with_context(|| format!("{name}: {v}"))?;
        Ok(text.to_owned())
    };
    let mut found = BTreeMap::new();
    for v in list {
        let entry = (text(v, "type")?, text(v, "old")?, text(v, "new")?);
        let path = text(v, "path")?;
        ensure!(
            found.insert(path.clone(), entry).is_none(),
            "{path} is told twice"
        );
    }
    Ok(found)
}

/// A recording of the target, and for each number of steps a checkpoint at which no step was being
/// taken.
fn recorded(dir: &Path) -> Result<(PathBuf, BTreeMap<u64, u64>)> {
    let exe = place::target("diff.c")?;
    let recording = still::fresh(dir, "run.still");
    let cmd: Vec<OsString> = vec![exe.into()];
    let mut recorder = still::record(dir, &["--hz", "200"], &recording, &cmd)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let turns = recorder.address("turns")?;
    let opened = still::open(&recording)?;
    let mut settled = BTreeMap::new();
    for row in opened.rows() {
        let mut bytes = [0; 8];
        let memory = opened.memory(row.id, SpaceId(0))?;
        if memory.read(turns, &mut bytes).is_ok() {
            let turns = u64::from_le_bytes(bytes);
            if turns.is_multiple_of(2) {
                settled.insert(turns / 2, row.id.0);
            }
        }
    }
    Ok((recording, settled))
}

fn variables(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (recording, settled) = recorded(dir.path())?;
    let at = |n: u64| settled.get(&n).copied();
    let Some(moments) = at(3).zip(at(8)) else {
        bail!("no checkpoint after step 3 or 8: {settled:?}");
    };
    let json = diff(dir.path(), &recording, moments, &["--json"])?;
    let document: Value = serde_json::from_str(&json)?;
    let told = told(&document)?;
    // What the steps 4 to 8 wrote.
    let mut expected: Vec<(String, &str, String, String)> = Vec::new();
    let mut expect = |path: &str, ty: &'static str, old: &str, new: &str| {
        expected.push((path.to_owned(), ty, old.to_owned(), new.to_owned()));
    };
    for (slot, old, new) in [(0, 0, 8), (1, 1, 5), (2, 2, 6), (3, 3, 7)] {
        let item = format!("shelf.items[{slot}]");
        expect(
            &format!("{item}.count"),
            "int32_t",
            &old.to_string(),
            &new.to_string(),
        );
        let label = |n: i32| match n {
            0 => "'\\000' <repeats 15 times>".to_owned(),
            n => format!("\"label-{n}"),
        };
        expect(
            &format!("{item}.label"),
            "char [16]",
            &label(old),
            &label(new),
        );
        let price = |n: i32| {
            let price = f64::from(n) * 1.5;
            format!("{price}")
        };
        expect(&format!("{item}.price"), "double", &price(old), &price(new));
    }
    expect("shelf.best", "struct item *", "shelf+96", "shelf>");
    expect("shelf.flags", "unsigned int", "3", "0");
    expect("shelf.kind", "unsigned int", "3", "8");
    expect("shelf.phase", "enum phase", "WARMING", "WORKING");
    // All members of a union lie in the same bytes.
    expect("shelf.mixed.whole", "uint32_t", "3", "8");
    expect("shelf.mixed.part", "float", "4.2", "1.1");
    expect("title", "const char *", "\"odd\"", "\"even\"");
    expect("turns", "uint64_t", "6", "16");
    expect("list", "struct node *", "0x", "0x");
    for (path, ty, old, new) in &expected {
        let (told_type, told_old, told_new) = told
            .get(path)
            .with_context(|| format!("{path} is not told: {told:?}"))?;
        // A pointer is an address that nobody knows beforehand.
        let pointer = path == "shelf.best";
        ensure!(
            told_type.contains(ty)
                && (pointer || told_old.contains(old.as_str()) && told_new.contains(new.as_str())),
            "{path}: told {told_type} {told_old} -> {told_new}, expected {ty} {old} -> {new}"
        );
        ensure!(told_old != told_new, "{path}: {told_old} both times");
    }
    for path in told.keys() {
        let ours = path.starts_with("shelf") || path == "untouched";
        ensure!(
            !ours || expected.iter().any(|e| e.0 == *path),
            "{path} is told, and did not change"
        );
    }
    let count = |path: &str, what: &str| -> usize {
        let list = document.pointer(path).and_then(Value::as_array);
        list.map_or(0, |l| l.iter().filter(|e| e["what"] == what).count())
    };
    let line = |path: &str, what: &str| -> String {
        let list = document.pointer(path).and_then(Value::as_array);
        let mut all = list.into_iter().flatten();
        let found = all.find(|e| e["what"] == what);
        found.map_or_else(String::new, |e| e["line"].to_string())
    };
    ensure!(count("/mappings", "added") >= 1, "no mapping: {document}");
    ensure!(
        line("/descriptors", "opened").contains("/dev/zero"),
        "no descriptor: {document}"
    );
    ensure!(
        count("/threads", "began") == 1 && line("/threads", "began").contains("late"),
        "no thread: {document}"
    );
    // Steps 4 to 8 each allocated a node.
    let blocks = document
        .pointer("/heap/blocks")
        .and_then(Value::as_array)
        .context("no blocks")?;
    let nodes = blocks
        .iter()
        .filter(|b| b["what"] == "allocated" && b["bytes"].as_u64().is_some_and(|n| n >= 1016))
        .count();
    ensure!(nodes >= 5, "{nodes} nodes: {blocks:?}");
    // The same for people.
    let table = diff(dir.path(), &recording, moments, &["--all"])?;
    for wanted in [
        "\nvariables\n",
        "shelf.items[1].count",
        "1 -> 5",
        "/dev/zero",
        "late",
    ] {
        ensure!(table.contains(wanted), "no {wanted:?} in: {table}");
    }
    // Nothing happened between two looks at the same step but time.
    let same = diff(dir.path(), &recording, (moments.0, moments.0), &["--json"])?;
    let same: Value = serde_json::from_str(&same)?;
    ensure!(same["memory"]["differing_bytes"] == 0, "{same}");
    passed(format!(
        "variables {}, of them known {}",
        told.len(),
        expected.len()
    ))
}
