//! `still find`.

use super::control::Control;
use super::{At, past, question, range};
use crate::args::history::FindArgs;
use crate::exit::{Code, fail};
use crate::open;
use serde::Serialize;
use std::ops::RangeInclusive;
use std::sync::Arc;
use stillframe_timeline::expression;
use stillframe_timeline::find::{self, Checked, Halves, Stretch};
use stillframe_timeline::machine::Options;
use stillframe_timeline::writes::last_writes;
use stillframe_timeline::{AnyCondition, How, Machine, Past, Write, writes};

/// A moment, or a stretch of them.
#[derive(Serialize)]
struct Line {
    #[serde(flatten)]
    at: At,
    /// The last moment of the stretch; absent unless stretches were asked for.
    #[serde(skip_serializing_if = "Option::is_none")]
    to: Option<At>,
    /// How a search by halves was checked.
    #[serde(skip_serializing_if = "Option::is_none")]
    checked: Option<String>,
}

/// Bytes that changed.
#[derive(Serialize)]
struct WriteLine {
    #[serde(flatten)]
    at: At,
    after: At,
    address: String,
    bytes: u64,
    old: String,
    new: String,
    how: &'static str,
}

/// Prints what was found; exit code 10 if nothing was.
pub fn run(args: &FindArgs) -> anyhow::Result<u8> {
    let recording = Arc::new(open::recording(&args.recording)?);
    let options = Options::with_directories(args.scope.directories.iter().cloned());
    let machine = Machine::new(Arc::clone(&recording), options);
    let range = range(&recording, &args.ask)?;
    let past = past(&recording, &args.ask.process, &range)?;
    let mut control = Control::new("searching", args.ask.limit)?;
    if let Some(stretch) = args.write {
        find_writes(args, &past, stretch, range, &mut control)?;
    } else {
        let text = args.expression.as_deref().unwrap_or_default();
        let condition = expression::condition(&machine, text, question::seen(&args.scope))?;
        find_truth(args, &past, &condition, range, &mut control)?;
    }
    let found = control.printed() > 0;
    let code = control.finish()?;
    if code == 0 && !found {
        let what = match (&args.expression, args.write) {
            (Some(text), _) => format!("`{text}` holds at no moment looked at"),
            (None, _) => "these bytes changed in no interval looked at".to_owned(),
        };
        return Err(fail(Code::Nothing, what));
    }
    Ok(code)
}

fn say(control: &mut Control, json: bool, line: &Line) -> bool {
    if json {
        return control.json(line);
    }
    let checked = match &line.checked {
        Some(how) => format!("  ({how})"),
        None => String::new(),
    };
    control.line(&match line.to {
        None => format!(
            "{:>10}  {:8.3} s{checked}",
            line.at.checkpoint,
            line.at.seconds()
        ),
        Some(to) => format!(
            "{:>10} .. {:<10}  {:8.3} s .. {:.3} s",
            line.at.checkpoint,
            to.checkpoint,
            line.at.seconds(),
            to.seconds()
        ),
    })
}

fn find_truth(
    args: &FindArgs,
    past: &Past<'_>,
    condition: &AnyCondition<'_>,
    range: RangeInclusive<usize>,
    control: &mut Control,
) -> anyhow::Result<()> {
    let json = args.ask.json;
    let line = |at: usize| Line {
        at: At::of(past, at),
        to: None,
        checked: None,
    };
    let (first, all) = (*range.start(), (range.end() - range.start() + 1) as u64);
    let control = std::cell::RefCell::new(control);
    let mut go_on = |at: usize| {
        let done = (at.saturating_sub(first)) as u64;
        control.borrow_mut().go_on(done, all, "checkpoints")
    };
    if args.all {
        let mut visit = |stretch: Stretch| {
            let line = Line {
                to: Some(At::of(past, stretch.to)),
                ..line(stretch.from)
            };
            say(&mut control.borrow_mut(), json, &line)
        };
        let (_, effort) = find::all(past, condition, range, &mut go_on, &mut visit)?;
        tracing::info!(
            "asked {} times, compared {} times",
            effort.asked,
            effort.compared
        );
        return Ok(());
    }
    if args.bisect {
        let (halves, asked) = find::by_halves(past, condition, range, &mut go_on)?;
        tracing::info!("asked {asked} times");
        let how = |checked: Checked| match checked {
            Checked::Everywhere => "checked at every moment".to_owned(),
            Checked::At(n) => format!("checked at {n} moments"),
            Checked::Not => "not checked".to_owned(),
        };
        return match halves {
            Halves::First { at, checked } => {
                let line = Line {
                    checked: Some(how(checked)),
                    ..line(at)
                };
                say(&mut control.borrow_mut(), json, &line);
                Ok(())
            }
            Halves::Nowhere { .. } => Ok(()),
            Halves::NotMonotone { holds, ceases } => Err(fail(
                Code::Failure,
                format!(
                    "it is not monotone: it holds at checkpoint {} and no longer at {}; search \
                     without --bisect",
                    past.id(holds),
                    past.id(ceases)
                ),
            )),
        };
    }
    let found = if args.last {
        find::last(past, condition, range, &mut go_on)?
    } else {
        find::first(past, condition, range, &mut go_on)?
    };
    let effort = found.effort;
    tracing::info!(
        "asked {} times, compared {} times",
        effort.asked,
        effort.compared
    );
    if let Some(at) = found.at {
        say(&mut control.borrow_mut(), json, &line(at));
    }
    Ok(())
}

fn find_writes(
    args: &FindArgs,
    past: &Past<'_>,
    stretch: (u64, u64),
    range: RangeInclusive<usize>,
    control: &mut Control,
) -> anyhow::Result<()> {
    let (first, all) = (*range.start(), (range.end() - range.start() + 1) as u64);
    let control = std::cell::RefCell::new(control);
    let mut go_on = |at: usize| {
        let done = (at.saturating_sub(first)) as u64;
        control.borrow_mut().go_on(done, all, "checkpoints")
    };
    if args.last {
        for write in last_writes(past, stretch, range, &mut go_on)? {
            say_write(&mut control.borrow_mut(), past, args.ask.json, &write);
        }
        return Ok(());
    }
    let mut at = None;
    writes(past, stretch, range, &mut go_on, &mut |write| {
        // All that changed in the first interval belongs to it.
        if args.first && at.is_some_and(|at| at != write.at) {
            return false;
        }
        at = Some(write.at);
        say_write(&mut control.borrow_mut(), past, args.ask.json, &write)
    })?;
    Ok(())
}

fn hexadecimal(bytes: &[u8], most: usize) -> String {
    let mut text: String = bytes
        .iter()
        .take(most)
        .map(|b| format!("{b:02x}"))
        .collect();
    if bytes.len() > most {
        text.push_str("..");
    }
    text
}

fn say_write(control: &mut Control, past: &Past<'_>, json: bool, write: &Write) -> bool {
    let how = match write.how {
        How::Written => "written",
        How::Mapped => "mapped",
        How::Unmapped => "unmapped",
    };
    let at = At::of(past, write.at);
    if json {
        return control.json(&WriteLine {
            at,
            after: At::of(past, write.at.saturating_sub(1)),
            address: format!("{:#x}", write.address),
            bytes: write.length,
            old: hexadecimal(&write.old, usize::MAX),
            new: hexadecimal(&write.new, usize::MAX),
            how,
        });
    }
    let shown = |bytes: &[u8]| match bytes {
        [] => "-".to_owned(),
        bytes => hexadecimal(bytes, 16),
    };
    control.line(&format!(
        "{:>10}  {:8.3} s  {:#x} {:>4} bytes {how}  {} -> {}",
        at.checkpoint,
        at.seconds(),
        write.address,
        write.length,
        shown(&write.old),
        shown(&write.new)
    ))
}
