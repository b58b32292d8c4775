//! `still history` gives exactly the changes that a program made and that were visible at
//! checkpoints.
//!
//! The program says what it did ([`crate::truth`]); the truth is first held to GDB on exported
//! cores, so that a mistake in the log, the names or the programs is not taken for one of ours.

use super::planted::Planted;
use crate::process::{self, command};
use crate::truth::Known;
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
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
];

/// A value without what differs between those who print it: an address before a text, the scope of
/// an enumerator, spaces, the way to write a fraction.
pub fn plain(value: &str) -> String {
    let value = value.trim();
    if let Some(at) = value.find('"') {
        return value[at..].to_owned();
    }
    if let Some(at) = value.find('\'') {
        return value[at..].to_owned();
    }
    if let Ok(number) = value.parse::<i128>() {
        return number.to_string();
    }
    if let Ok(number) = value.parse::<f64>() {
        return number.to_string();
    }
    let mut out = String::new();
    for word in value.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        out.push_str(word.rsplit("::").next().unwrap_or(word).trim());
    }
    out
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
            let allowed = |value: &str| {
                let (a, b) = (plain(value), plain(answer));
                a == b || matches!((&*a, &*b), ("0", "false") | ("1", "true"))
            };
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

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn values_are_compared_without_trimmings() {
        for (a, b) in [
            ("0x55 \"alpha :: x\"", "\"alpha :: x\""),
            ("plant::Phase::Running", "Running"),
            ("planted::Shape::Circle{radius: 5}", "Circle{radius:5}"),
            ("core::option::Option<u32>::Some(3)", "Some(3)"),
            ("97 'a'", "'a'"),
            ("1.50", "1.5"),
            ("-7", "-7"),
        ] {
            assert_eq!(plain(a), plain(b), "{a}");
        }
        assert_ne!(plain("1"), plain("-1"));
    }
}
