//! `still history`.

use super::control::Control;
use super::{At, past, question, range};
use crate::args::history::HistoryArgs;
use crate::exit::{Code, fail};
use crate::{open, output};
use serde::Serialize;
use std::sync::Arc;
use stillframe_timeline::expression;
use stillframe_timeline::machine::Options;
use stillframe_timeline::{Answer, Direction, Machine, Number, Past, Step, Walk};

/// An answer in JSON: a value, or why there is none.
#[derive(Serialize)]
pub struct Shown {
    /// All of it, up to 1 MiB; the table has the beginning.
    #[serde(skip_serializing_if = "Option::is_none")]
    text: Option<String>,
    /// Absent unless it is a number that JSON can hold exactly.
    #[serde(skip_serializing_if = "Option::is_none")]
    number: Option<serde_json::Number>,
    #[serde(skip_serializing_if = "Option::is_none")]
    missing: Option<String>,
}

impl Shown {
    /// Of an answer; `None` is a process that is not there.
    pub fn of(answer: Option<&Answer>) -> Self {
        match answer {
            Some(Answer::Value(value)) => Self {
                text: Some(value.whole.as_ref().unwrap_or(&value.text).clone()),
                number: value.number.and_then(exact),
                missing: None,
            },
            Some(Answer::Missing(why)) => Self {
                text: None,
                number: None,
                missing: Some(why.clone()),
            },
            None => Self {
                text: None,
                number: None,
                missing: Some("the process is not there".to_owned()),
            },
        }
    }
}

fn exact(number: Number) -> Option<serde_json::Number> {
    match number {
        Number::Integer(n) => match (u64::try_from(n), i64::try_from(n)) {
            (Ok(n), _) => Some(n.into()),
            (_, Ok(n)) => Some(n.into()),
            _ => None,
        },
        Number::Real(x) => serde_json::Number::from_f64(x),
    }
}

/// For people.
pub fn text(answer: Option<&Answer>) -> String {
    match answer {
        Some(Answer::Value(value)) => output::printable(value.text.as_bytes()).into_owned(),
        Some(Answer::Missing(why)) => format!("- ({})", output::printable(why.as_bytes())),
        None => "- (the process is not there)".to_owned(),
    }
}

/// A change, or the value that it begins with.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    at: At,
    /// The moment before; what changed, changed after it. Absent for the first line.
    #[serde(skip_serializing_if = "Option::is_none")]
    after: Option<At>,
    #[serde(skip_serializing_if = "Option::is_none")]
    old: Option<Shown>,
    new: Shown,
}

/// Prints each change.
pub fn run(args: &HistoryArgs) -> anyhow::Result<u8> {
    let recording = Arc::new(open::recording(&args.recording)?);
    let options = Options::with_directories(args.scope.directories.iter().cloned());
    let machine = Machine::new(Arc::clone(&recording), options);
    let range = range(&recording, &args.ask)?;
    let past = past(&recording, &args.ask.process, &range)?;
    let question = expression::value(&machine, &args.expression, question::seen(&args.scope))?;
    let direction = if args.backward {
        Direction::Backward
    } else {
        Direction::Forward
    };
    let mut control = Control::new("following", args.ask.limit)?;
    let (first, all) = (*range.start(), (range.end() - range.start() + 1) as u64);
    let mut walk = Walk::new(&past, &question, range, direction)?;
    let begin = Line {
        at: At::of(&past, walk.position()),
        after: None,
        old: None,
        new: Shown::of(walk.answer()),
    };
    let value = text(walk.answer());
    let mut more = say(&mut control, args, &begin, &value);
    while more {
        let backward = args.backward;
        let step = walk.next(&mut |at| {
            let done = (at - first) as u64;
            control.go_on(if backward { all - done } else { done }, all, "checkpoints")
        })?;
        let Step::Change(change) = step else { break };
        let line = change_line(&past, change.at, change.old.as_ref(), change.new.as_ref());
        let value = format!(
            "{} -> {}",
            text(change.old.as_ref()),
            text(change.new.as_ref())
        );
        more = say(&mut control, args, &line, &value);
    }
    let effort = walk.effort();
    tracing::info!(
        "asked {} times, compared {} times; it depends on {} pages at the end",
        effort.asked,
        effort.compared,
        walk.trace().page_count()
    );
    let never = match walk.answer() {
        Some(Answer::Missing(why)) if control.printed() == 1 => Some(why.clone()),
        _ => None,
    };
    let code = control.finish()?;
    match never {
        Some(why) if code == 0 => Err(fail(
            Code::Nothing,
            format!(
                "`{}` has no value at any moment looked at: {why}",
                args.expression
            ),
        )),
        _ => Ok(code),
    }
}

fn change_line(past: &Past<'_>, at: usize, old: Option<&Answer>, new: Option<&Answer>) -> Line {
    Line {
        at: At::of(past, at),
        after: at.checked_sub(1).map(|before| At::of(past, before)),
        old: Some(Shown::of(old)),
        new: Shown::of(new),
    }
}

fn say(control: &mut Control, args: &HistoryArgs, line: &Line, value: &str) -> bool {
    if args.ask.json {
        return control.json(line);
    }
    if line.old.is_none() && !control.head("checkpoint        time  value") {
        return false;
    }
    control.line(&format!(
        "{:>10}  {:8.3} s  {value}",
        line.at.checkpoint,
        line.at.seconds()
    ))
}
