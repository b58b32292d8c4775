//! Expressions: `stillframe_symbols` and GDB, asked the same of the same moment, say the same.
//!
//! A target is stopped and recorded; GDB is asked about the core that `still export` makes of the
//! checkpoint, and we about the checkpoint itself. The texts must be equal after [`normal`], which
//! says what may differ. The questions are in `targets/expressions/`; a line `@ function n` chooses
//! the n-th frame of a function, innermost first, for the lines behind it.

use crate::process::{self, PATIENCE, Running, command, wait_for};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::Path;
use std::sync::Arc;
use stillframe_symbols::{Scope, Style, expr, unwind};
use stillframe_timeline::machine::{Machine, Options};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "expressions::c",
        about: "at least 150 expressions of C mean what GDB says",
        run: c,
    },
    Scenario {
        name: "expressions::cpp",
        about: "at least 150 expressions of C++ mean what GDB says",
        run: cpp,
    },
    Scenario {
        name: "expressions::rust",
        about: "at least 150 expressions of Rust mean what GDB says",
        run: rust,
    },
];

fn c(_: &Length) -> Result<Outcome> {
    agree(
        "debug_values.c",
        "c",
        include_str!("../../targets/expressions/c.txt"),
        include_str!("../../targets/expressions/c.own.txt"),
    )
}

fn cpp(_: &Length) -> Result<Outcome> {
    agree(
        "debug_values.cpp",
        "c++",
        include_str!("../../targets/expressions/cpp.txt"),
        include_str!("../../targets/expressions/cpp.own.txt"),
    )
}

fn rust(_: &Length) -> Result<Outcome> {
    agree(
        "debug_values.rs",
        "rust",
        include_str!("../../targets/expressions/rust.txt"),
        include_str!("../../targets/expressions/rust.own.txt"),
    )
}

/// A question and the frame in which it is asked.
#[derive(Clone, Copy)]
struct Question<'a> {
    frame: Option<(&'a str, usize)>,
    text: &'a str,
}

fn questions(text: &str) -> Result<Vec<Question<'_>>> {
    let mut frame = None;
    let mut found = Vec::new();
    for line in text.lines().map(str::trim) {
        if let Some(chosen) = line.strip_prefix("@ ") {
            let (name, number) = chosen.rsplit_once(' ').context("@ function n")?;
            frame = Some((name, number.parse()?));
        } else if !line.is_empty() && !line.starts_with('#') {
            found.push(Question { frame, text: line });
        }
    }
    Ok(found)
}

fn agree(target: &str, language: &str, table: &str, own: &str) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip("no gdb on this machine");
    }
    let questions = questions(table)?;
    ensure!(
        questions.len() >= 150,
        "only {} questions for {language}",
        questions.len()
    );
    let dir = place::scratch()?;
    let exe = place::target(target)?;
    let mut running = Running::start(&mut command::<&str>(&exe, &[]), dir.path())?;
    let pid = running.ready()?;
    process::signal(pid, Signal::STOP)?;
    wait_for("the target is stopped", || {
        process::state_of(pid) == Some('T')
    })?;
    let out = still::fresh(dir.path(), "run.still");
    let mut recorder = still::attach(dir.path(), &["--count", "1", "--hz", "50"], &out, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    process::signal(pid, Signal::KILL)?;
    running.wait(PATIENCE)?;
    let core = dir.path().join("at.core");
    let export: [OsString; 5] = [
        "export".into(),
        "--core".into(),
        still::moment(&out, "last"),
        "-o".into(),
        core.clone().into(),
    ];
    let (status, _, err) = still::run(dir.path(), &export)?;
    ensure!(status.success(), "export: {status}: {err}");
    let theirs = gdb(dir.path(), &exe, &core, language, &questions)?;
    let ours = answers(&out, &questions)?;
    let mut wrong = Vec::new();
    for ((question, a), b) in questions.iter().zip(&theirs).zip(&ours) {
        if normal(a) != normal(b) {
            wrong.push(format!("`{}` is {b}; GDB says {a}", question.text));
        }
    }
    let own = known(own)?;
    let asked: Vec<Question<'_>> = own.iter().map(|(q, _)| *q).collect();
    let ours = answers(&out, &asked)?;
    for ((question, wanted), answer) in own.iter().zip(&ours) {
        let holds = match wanted.strip_prefix("! ") {
            Some(message) => answer.starts_with("error: ") && answer.contains(message),
            // The rest of an address cannot be known.
            None if wanted.ends_with("0x") => answer.starts_with(wanted),
            None => answer == wanted,
        };
        if !holds {
            wrong.push(format!(
                "`{}` is {answer} instead of {wanted}",
                question.text
            ));
        }
    }
    ensure!(
        wrong.is_empty(),
        "{} of {} are wrong: {}",
        wrong.len(),
        questions.len() + own.len(),
        wrong[..wrong.len().min(40)].join("\n    ")
    );
    passed(format!("as GDB {}, own {}", questions.len(), own.len()))
}

/// Questions that GDB cannot be asked, and the answers: `expression => text`.
fn known(table: &str) -> Result<Vec<(Question<'_>, &str)>> {
    questions(table)?
        .into_iter()
        .map(|q| {
            let (text, answer) = q
                .text
                .split_once(" => ")
                .with_context(|| q.text.to_owned())?;
            Ok((Question { text, ..q }, answer))
        })
        .collect()
}

/// What GDB prints, question by question.
fn gdb(
    dir: &Path,
    exe: &Path,
    core: &Path,
    language: &str,
    questions: &[Question<'_>],
) -> Result<Vec<String>> {
    let program = place::program("gdb").context("gdb has gone")?;
    let mut c = command(program, &["-nx", "-batch"]);
    c.env("LC_ALL", "C.UTF-8");
    for setting in [
        "set pagination off",
        "set width 0",
        "set debuginfod enabled off",
        "set python print-stack none",
        "set auto-load safe-path /",
    ] {
        c.args(["-iex", setting]);
    }
    c.arg(exe).arg(core);
    let set = format!("set language {language}");
    c.args(["-ex", &set]);
    let mut frame = None;
    for question in questions {
        if question.frame != frame {
            frame = question.frame;
            let (name, number) = frame.unwrap_or(("main", 0));
            c.args(["-ex", &format!("frame function {name}")]);
            for _ in 0..number {
                c.args(["-ex", "up"]);
            }
            c.args(["-ex", &set]);
        }
        c.args(["-ex", "echo \\n==answer\\n"]);
        c.args(["-ex", &format!("print {}", question.text)]);
        c.args(["-ex", "echo \\n==end\\n"]);
    }
    let (_, out, err) = process::run(&mut c, dir)?;
    let found: Vec<String> = out
        .split("\n==answer\n")
        .skip(1)
        .map(|part| {
            let answer = part.split("\n==end\n").next().unwrap_or(part);
            // `$12 = value`.
            let answer = answer.trim();
            let value = answer.split_once(" = ").filter(|(n, _)| n.starts_with('$'));
            value.map_or(answer, |(_, v)| v).to_owned()
        })
        .collect();
    if found.len() != questions.len() {
        let last = questions.get(found.len().saturating_sub(1));
        let last = last.map_or("", |q| q.text);
        bail!("GDB ended at `{last}`: {}", still::tail(&err));
    }
    if let Some((question, _)) = questions.iter().zip(&found).find(|(_, a)| a.is_empty()) {
        bail!(
            "GDB has no answer to `{}`: {}",
            question.text,
            still::tail(&err)
        );
    }
    Ok(found)
}

/// What we print.
fn answers(recording: &Path, questions: &[Question<'_>]) -> Result<Vec<String>> {
    let recording = Arc::new(still::open(recording)?);
    let last = recording.rows().last().context("a checkpoint")?.id;
    let tree = recording.tree(last)?;
    let space = tree.processes.first().context("a process")?.id;
    let machine = Machine::new(Arc::clone(&recording), Options::default());
    let view = machine.at(last, space)?;
    let first = view.threads()?.first().context("a thread")?.tid;
    let registers = view.registers(first)?.context("its registers")?;
    let stack = unwind::stack(
        view.program(),
        view.memory(),
        &registers,
        unwind::Limits::default(),
    );
    let style = Style::default();
    questions
        .iter()
        .map(|question| {
            let mut scope = Scope::new(view.program(), view.memory(), &registers);
            if let Some((name, number)) = question.frame {
                let mut named = stack.frames.iter().enumerate();
                let found = named.find(|(_, f)| f.name() == Some(name));
                let level = found.with_context(|| format!("no frame of {name}"))?.0 + number;
                scope = Scope::in_frame(view.program(), view.memory(), &stack, level)
                    .context("a frame")?;
            }
            let parsed = expr::parse(question.text)
                .with_context(|| format!("reading `{}`", question.text))?;
            Ok(match expr::evaluate(&parsed, &scope) {
                // A value that cannot be read is one; here it counts as an error.
                Ok(value) => match value.bytes(&scope) {
                    Err(fault) if value.ty().size().is_some_and(|s| s <= 8) => {
                        format!("error: {fault}")
                    }
                    _ => value.display(&scope, &style),
                },
                Err(error) => format!("error: {error}"),
            })
        })
        .collect()
}

/// Takes out what may differ:
/// - GDB calls every pointer of Rust `*mut T`; the debug information tells `*const T` and `&T` apart;
/// - GDB shows Rust's symbols with their hash (`::h0123456789abcdef`);
/// - GDB's symbols of C++ functions without parameters end in `()`;
/// - GDB shows how `std::array` is built.
fn normal(text: &str) -> String {
    let mut text = text.replace("()>", ">");
    for reference in ["(*const ", "(&mut ", "(&"] {
        if let Some(rest) = text.strip_prefix(reference) {
            text = format!("(*mut {rest}");
            break;
        }
    }
    if text.starts_with("(fn(") {
        text = text.replacen("(fn(", "(*mut fn (", 1);
    }
    if let Some(inner) = text.strip_prefix("{_M_elems = ") {
        text = inner.strip_suffix('}').unwrap_or(inner).to_owned();
    }
    while let Some(at) = text.find("::h") {
        let hash: &str = text.get(at + 3..at + 19).unwrap_or_default();
        if hash.len() < 16 || !hash.bytes().all(|b| b.is_ascii_hexdigit()) {
            break;
        }
        text.replace_range(at..at + 19, "");
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_may_differ() {
        assert_eq!(
            normal("(*mut i32) 0x10 <a::B::h0123456789abcdef+4>"),
            normal("(*const i32) 0x10 <a::B+4>")
        );
        assert_eq!(
            normal("{int (void)} 0x10 <main()>"),
            normal("{int (void)} 0x10 <main>")
        );
        assert_eq!(normal("{_M_elems = {1, 2}}"), "{1, 2}");
        assert_ne!(normal("1"), normal("2"));
        assert_ne!(normal("(*mut u32) 0x10"), normal("(*mut i32) 0x10"));
    }

    #[test]
    fn tables_are_read() {
        let found = questions("# x\na\n\n@ f 1\nb\n").unwrap();
        assert_eq!(found.len(), 2);
        assert_eq!((found[1].frame, found[1].text), (Some(("f", 1)), "b"));
        assert!(questions("@ f\n").is_err());
    }
}
