//! `still history` gives exactly the changes that a program made and that were visible at
//! checkpoints.
//!
//! The program says what it did ([`crate::truth`]); the truth is first held to GDB on exported
//! cores, so that a mistake in the log, the names or the programs is not taken for one of ours.

use super::planted::Planted;
use crate::process::{self, command};
use crate::truth::{Known, plain, same_history};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::ffi::OsString;
use std::fmt::Write as _;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "history::truth_c",
        about: "what the C program says of itself is what GDB finds in exported cores",
        run: |l| exported("planted.c", l),
    },
    Scenario {
        name: "history::truth_cpp",
        about: "the same of the C++ program",
        run: |l| exported("planted.cpp", l),
    },
    Scenario {
        name: "history::truth_rust",
        about: "the same of the Rust program",
        run: |l| exported("planted.rs", l),
    },
    Scenario {
        name: "history::raw",
        about: "the history of bytes at addresses is what the program did, forward, backward, in part",
        run: raw,
    },
    Scenario {
        name: "history::c",
        about: "the history of expressions over the C program is what it did",
        run: |l| expressions("planted.c", C, l),
    },
    Scenario {
        name: "history::cpp",
        about: "the same over the C++ program",
        run: |l| expressions("planted.cpp", CPP, l),
    },
    Scenario {
        name: "history::rust",
        about: "the same over the Rust program",
        run: |l| expressions("planted.rs", RUST, l),
    },
];

/// Expressions, and what the program calls them where that is something else.
type Asked = &'static [(&'static str, &'static str)];

const C: Asked = &[
    ("count", "count"),
    ("queue->len", "queue->len"),
    ("queue->head->key", "queue->head->key"),
    ("box->weight", "box->weight"),
    ("box->kind", "box->kind"),
    ("level", "level"),
    ("state.phase", "state.phase"),
    ("state.flags.mode", "state.flags.mode"),
    ("state.flags.ready", "state.flags.ready"),
    ("label", "label"),
    ("name", "name"),
    ("table[7]", "table[7]"),
    ("*(long *)&table[7]", "table[7]"),
    ("rare", "rare"),
    ("ratio", "ratio"),
    ("*window", "*window"),
];

const CPP: Asked = &[
    ("plant::level", "plant::level"),
    ("pump->id", "pump->id"),
    ("pump->speed", "pump->speed"),
    ("pump->open", "pump->open"),
    ("plant::Pump::made", "plant::Pump::made"),
    ("plant::Counter<long>::value", "plant::Counter<long>::value"),
    ("depth", "depth"),
    ("plant::phase", "plant::phase"),
    ("title", "title"),
    ("sizes[1500]", "sizes[1500]"),
    ("alias", "alias"),
    ("owned->id", "owned.id"),
    ("cell == &sizes[1500]", "cell-at"),
];

const RUST: Asked = &[
    ("COUNT", "COUNT"),
    ("(*QUEUE).len", "QUEUE.len"),
    ("(*QUEUE).weight", "QUEUE.weight"),
    ("TOTAL", "TOTAL"),
    ("PHASE", "PHASE"),
    ("CHOICE", "CHOICE"),
    ("SHAPE", "SHAPE"),
    ("TITLE", "TITLE"),
    ("SIZES[1500]", "SIZES[1500]"),
    ("FLAG", "FLAG"),
    ("LETTER", "LETTER"),
    ("LABEL", "LABEL"),
];

/// What `still history` says of an expression: checkpoints and values, the first one included.
fn history(planted: &Planted, expression: &str, more: &[&str]) -> Result<Vec<(u64, String)>> {
    let mut args: Vec<OsString> = vec!["history".into(), (&planted.recording).into()];
    args.extend(["--json".into(), "--".into(), expression.into()]);
    args.splice(2..2, more.iter().map(OsString::from));
    let (status, out, err) = still::run(planted.dir(), &args)?;
    ensure!(
        status.success(),
        "history of {expression}: {status}: {}",
        still::tail(&err)
    );
    out.lines().map(change).collect()
}

fn change(line: &str) -> Result<(u64, String)> {
    let value: Value = serde_json::from_str(line)?;
    let at = value["checkpoint"].as_u64().context("no checkpoint")?;
    let new = &value["new"];
    let text = match (new["text"].as_str(), new["missing"].as_str()) {
        (Some(text), None) => plain(text),
        (None, Some(_)) => "?".to_owned(),
        _ => bail!("neither a value nor why there is none: {line}"),
    };
    Ok((at, text))
}

/// Holds the history of one expression to the truth about a name; how many changes there were.
fn follow(planted: &Planted, expression: &str, name: &str) -> Result<usize> {
    let truth = planted.plain_truth(name)?;
    let answer = history(planted, expression, &[])?;
    same_history(&truth, &answer).with_context(|| format!("history of {expression}"))?;
    Ok(answer.len() - 1)
}

fn raw(length: &Length) -> Result<Outcome> {
    let planted = Planted::record("planted.c", length)?;
    let mut changes = 0;
    for (form, address, name) in [
        ("i32", "count", "count"),
        ("u64", "len", "@len"),
        ("i64", "table7", "table[7]"),
        ("u64", "rare", "rare"),
        ("str", "name", "name"),
        ("i32", "window", "*window"),
    ] {
        let expression = format!("{form}@{:#x}", planted.address(address)?);
        changes += follow(&planted, &expression, name)?;
        // Backward it is the same changes, with the value that each ends instead.
        let forward = history(&planted, &expression, &[])?;
        let backward = history(&planted, &expression, &["--backward"])?;
        let places = |all: &[(u64, String)]| all[1..].iter().map(|c| c.0).collect::<Vec<_>>();
        let mut turned = places(&backward);
        turned.reverse();
        ensure!(
            turned == places(&forward),
            "{expression}: other changes backward than forward"
        );
        // A part of time has that part of the changes.
        let (from, to) = (planted.truth.len() / 3, planted.truth.len() / 2);
        let part = history(
            &planted,
            &expression,
            &["--from", &from.to_string(), "--to", &to.to_string()],
        )?;
        let wanted: Vec<_> = forward
            .iter()
            .filter(|c| c.0 > from as u64 && c.0 <= to as u64)
            .cloned()
            .collect();
        ensure!(
            part.first().is_some_and(|c| c.0 == from as u64) && part[1..] == wanted,
            "{expression}: from {from} to {to} it has {} changes instead of {}",
            part.len().saturating_sub(1),
            wanted.len()
        );
        let few = history(&planted, &expression, &["--limit", "3"])?;
        ensure!(
            few[..] == forward[..forward.len().min(3)],
            "{expression}: --limit 3 gives {few:?}"
        );
    }
    passed(format!("{}, reported {changes}", planted.figures()))
}

fn expressions(name: &str, asked: Asked, length: &Length) -> Result<Outcome> {
    let planted = Planted::record(name, length)?;
    let mut changes = 0;
    let mut wrong = Vec::new();
    for (expression, name) in asked {
        match follow(&planted, expression, name) {
            Ok(found) => changes += found,
            Err(error) => wrong.push(format!("{error:#}")),
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} expressions: {}",
        wrong.len(),
        asked.len(),
        wrong.join("\n    ")
    );
    passed(format!(
        "{}, expressions {}, reported {changes}",
        planted.figures(),
        asked.len()
    ))
}

/// How GDB is asked for what the programs call `name`; `None` if it cannot be.
fn for_gdb(name: &str) -> Option<String> {
    Some(match name {
        "alias" => "*&alias".to_owned(),
        "sizes[1500]" => "sizes._M_impl._M_start[1500]".to_owned(),
        "cell-at" => "(cell - sizes._M_impl._M_start) / 1500".to_owned(),
        "owned.id" => "(*(plant::Pump **)&owned)->id".to_owned(),
        "QUEUE.len" | "QUEUE.weight" => format!("(*planted::QUEUE){}", &name[5..]),
        "COUNT" | "TOTAL" | "FLAG" | "PHASE" | "LETTER" => format!("planted::{name}"),
        // What an address holds, and what is hard to say to GDB in Rust.
        _ if name.starts_with(|c: char| c == '@' || c.is_ascii_uppercase()) => return None,
        _ => name.to_owned(),
    })
}

fn exported(name: &str, length: &Length) -> Result<Outcome> {
    let Some(gdb) = place::program("gdb") else {
        return skip("no gdb on this machine");
    };
    let planted = Planted::record(name, length)?;
    let asked: Vec<(String, String, Vec<Known>)> = planted
        .truth
        .names()
        .into_iter()
        .filter_map(|n| Some((for_gdb(&n)?, n)))
        .map(|(expression, n)| Ok((expression, planted.truth.of_expression(&n)?, n)))
        .map(|r: Result<_>| r.map(|(e, known, n)| (n, e, known)))
        .collect::<Result<_>>()?;
    let cores = if length.full { 40 } else { 5 };
    let mut compared = 0;
    for i in 0..cores {
        let at = i * (planted.truth.len() - 1) / (cores - 1);
        let core = planted.dir().join("at.core");
        let export: [OsString; 6] = [
            "export".into(),
            "--core".into(),
            still::moment(&planted.recording, &at.to_string()),
            "--force".into(),
            "-o".into(),
            core.clone().into(),
        ];
        let (status, _, err) = still::run(planted.dir(), &export)?;
        ensure!(status.success(), "export: {status}: {err}");
        let mut c = command(&gdb, &["-nx", "-batch"]);
        for setting in [
            "set width 0",
            "set debuginfod enabled off",
            "set print null-stop on",
            "set auto-load safe-path /",
        ] {
            c.args(["-iex", setting]);
        }
        c.arg(&planted.exe).arg(&core);
        // The innermost frame is the C library's.
        let language = match name.rsplit('.').next() {
            Some("cpp") => "c++",
            Some("rs") => "rust",
            _ => "c",
        };
        c.args(["-ex", &format!("set language {language}")]);
        for (i, (_, expression, _)) in asked.iter().enumerate() {
            c.args(["-ex", &format!("echo \\n=={i}==\\n")]);
            c.args(["-ex", &format!("output {expression}")]);
        }
        c.args(["-ex", "echo \\n==end==\\n"]);
        let (_, out, err) = process::run(&mut c, planted.dir())?;
        for (i, (name, _, known)) in asked.iter().enumerate() {
            let answer = out
                .split_once(&format!("\n=={i}==\n"))
                .and_then(|(_, rest)| rest.split_once("\n=="))
                .map(|(answer, _)| answer)
                .with_context(|| format!("GDB stopped: {out} {err}"))?;
            // Where it cannot read it says so on stderr.
            let answer = if answer.is_empty() { "?" } else { answer };
            let allowed = |value: &str| plain(value) == plain(answer);
            ensure!(
                allowed(&known[at].value) || known[at].or.as_deref().is_some_and(allowed),
                "{name} at checkpoint {at}: GDB says {answer}, the program {:?}; {err}",
                known[at]
            );
            compared += 1;
        }
    }
    let mut figures = planted.figures();
    write!(figures, ", values compared {compared}")?;
    passed(figures)
}
