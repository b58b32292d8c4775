//! `monitor history` and `monitor find`: questions about all moments, answered by the index.
//!
//! What is found is sent as it is found, so that a long search is of use before it is over, and up to
//! a limit, because a debugger's console is no place for a hundred thousand lines.

use super::super::link::Link;
use super::super::session::{Session, console};
use super::{moment, plain, resolve, shown};
use std::cell::RefCell;
use std::ops::RangeInclusive;
use stillframe_timeline::find::{self, Stretch};
use stillframe_timeline::{Answer, Direction, InFrame, Past, Seen, Step, Truth, Walk, expression};

/// Lines printed unless told otherwise.
const LINES: u64 = 200;
/// Steps of a search between two looks for Ctrl-C.
const OFTEN: u32 = 16;

/// What was typed in front of the expression.
struct Options<'t> {
    range: Option<RangeInclusive<usize>>,
    limit: u64,
    all: bool,
    backward: bool,
    seen: Seen,
    text: &'t str,
}

impl<'t> Options<'t> {
    fn parse(session: &Session<'_>, rest: &'t str) -> Result<Self, String> {
        let lives = session.scene.lives();
        let (mut from, mut to) = (None, None);
        let mut options = Self {
            range: None,
            limit: LINES,
            all: false,
            backward: false,
            seen: Seen {
                thread: Some(session.current()),
                frame: None,
            },
            text: rest.trim(),
        };
        while let Some(option) = options.text.strip_prefix("--") {
            let (name, rest) = split(option);
            let (word, after) = split(rest);
            let number = || {
                let n = word.parse::<u32>();
                n.map_err(|_| format!("--{name} needs a number, not `{}`", plain(word)))
            };
            let mut takes = true;
            match name {
                "from" => from = Some(resolve(session, word)?),
                "to" => to = Some(resolve(session, word)?),
                "limit" => options.limit = u64::from(number()?.max(1)),
                "thread" => options.seen.thread = Some(number()?),
                "frame" => {
                    options.seen.frame = Some(InFrame::Number(number()? as usize));
                }
                "function" => options.seen.frame = Some(InFrame::Function(word.to_owned())),
                _ => {
                    takes = false;
                    match name {
                        "all" => options.all = true,
                        "backward" => options.backward = true,
                        // What follows is the expression, whatever it begins with.
                        "" => {
                            options.text = rest;
                            break;
                        }
                        _ => {
                            return Err(format!(
                                "there is no option --{}; monitor help lists them",
                                plain(name)
                            ));
                        }
                    }
                }
            }
            options.text = if takes { after } else { rest };
        }
        if options.text.is_empty() {
            return Err("what? write an expression, or bytes: u32@0x404010, 0x404010:8".to_owned());
        }
        if from.is_some() || to.is_some() {
            let range = from.unwrap_or(*lives.start())..=to.unwrap_or(*lives.end());
            if range.is_empty() {
                return Err(shown(stillframe_timeline::Error::Empty));
            }
            options.range = Some(range);
        }
        Ok(options)
    }
}

/// The first word, and what follows it.
fn split(text: &str) -> (&str, &str) {
    let (word, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
    (word, rest.trim_start())
}

/// Ends a search when its user wants that.
struct Patience<'l>(&'l mut Link, u32);

impl Patience<'_> {
    fn go_on(&mut self) -> bool {
        self.1 = self.1.wrapping_add(1);
        !self.1.is_multiple_of(OFTEN) || !self.0.interrupted() && !self.0.abandoned()
    }
}

fn answer(answer: Option<&Answer>) -> String {
    match answer {
        Some(Answer::Value(value)) => plain(&value.text),
        Some(Answer::Missing(why)) => format!("- ({})", plain(why)),
        None => "- (the process is not there)".to_owned(),
    }
}

fn at(past: &Past<'_>, position: usize) -> String {
    past.row(position).map_or_else(String::new, moment)
}

/// Each change of a value.
pub fn history(session: &Session<'_>, rest: &str, link: &mut Link) -> Result<String, String> {
    let options = Options::parse(session, rest)?;
    if options.all {
        return Err("history has no --all".to_owned());
    }
    let past = session.scene.past().map_err(shown)?;
    let question = expression::value(session.machine, options.text, options.seen);
    let question = question.map_err(shown)?;
    let range = options.range.unwrap_or_else(|| past.life());
    let direction = match options.backward {
        true => Direction::Backward,
        false => Direction::Forward,
    };
    let mut walk = Walk::new(past, &question, range, direction).map_err(shown)?;
    let first = format!("{}: {}\n", at(past, walk.position()), answer(walk.answer()));
    console(link, &first).map_err(shown)?;
    let mut changes = 0;
    let mut patience = Patience(link, 0);
    loop {
        match walk.next(&mut |_| patience.go_on()).map_err(shown)? {
            Step::End => {
                let times = if changes == 1 { "time" } else { "times" };
                return Ok(format!("it changed {changes} {times}\n"));
            }
            Step::Stopped => {
                return Err(format!(
                    "interrupted at checkpoint {}; it changed {changes} times up to there",
                    walk.checkpoint()
                ));
            }
            Step::Change(change) => {
                if changes == options.limit {
                    return Ok(format!(
                        "and more; --from and --to choose a part, --limit N more lines than {}\n",
                        options.limit
                    ));
                }
                changes += 1;
                let (old, new) = (answer(change.old.as_ref()), answer(change.new.as_ref()));
                let line = format!("{}: {old} -> {new}\n", at(past, change.at));
                console(patience.0, &line).map_err(shown)?;
            }
        }
    }
}

/// Goes to where something begins to hold, or lists where it holds.
pub fn find(
    session: &mut Session<'_>,
    rest: &str,
    forward: bool,
    link: &mut Link,
) -> Result<String, String> {
    let options = Options::parse(session, rest)?;
    if options.backward {
        return Err("use monitor find-back".to_owned());
    }
    let past = session.scene.past().map_err(shown)?;
    let condition = expression::condition(session.machine, options.text, options.seen.clone());
    let condition = condition.map_err(shown)?;
    if options.all {
        return all(past, &condition, &options, link);
    }
    let here = session.scene.row();
    let range = match (options.range, forward) {
        (Some(range), _) => range,
        (None, true) => here..=*past.life().end(),
        (None, false) => *past.life().start()..=here,
    };
    let first = *range.start();
    let direction = match forward {
        true => Direction::Forward,
        false => Direction::Backward,
    };
    let mut patience = Patience(link, 0);
    let mut walk = Walk::new(past, &condition, range, direction).map_err(shown)?;
    let holds = |truth: Option<&Truth>| truth == Some(&Truth::Holds);
    let begins = |at: usize| if forward { at > here } else { at < here };
    let mut unknown = None;
    let mut note = |truth: Option<&Truth>| {
        if let Some(Truth::Unknown(why)) = truth {
            unknown = Some(why.clone());
        }
    };
    note(walk.answer());
    // Where the search begins it may hold already: that is a beginning only if it is not here.
    let mut found = (forward && holds(walk.answer()) && begins(first)).then_some(first);
    while found.is_none() {
        match walk.next(&mut |_| patience.go_on()).map_err(shown)? {
            Step::Change(change) => {
                note(change.new.as_ref());
                if holds(change.new.as_ref()) && begins(change.at) {
                    found = Some(change.at);
                }
            }
            Step::Stopped => {
                return Err(format!(
                    "interrupted at checkpoint {}; nothing found so far",
                    walk.checkpoint()
                ));
            }
            Step::End => {
                if !forward && holds(walk.answer()) && begins(first) {
                    found = Some(first.max(*past.life().start()));
                }
                break;
            }
        }
    }
    let Some(row) = found else {
        let text = plain(options.text);
        let why = unknown.map_or_else(String::new, |why| {
            format!("; where it cannot be said: {}", plain(&why))
        });
        let side = if forward { "after" } else { "before" };
        return Err(format!(
            "`{text}` begins to hold at no checkpoint {side} this one{why}"
        ));
    };
    session.go(row).map_err(shown)?;
    Ok(format!("{}\n", moment(&session.scene.listed())))
}

/// Every stretch of moments over which it holds.
fn all(
    past: &Past<'_>,
    condition: &stillframe_timeline::AnyCondition<'_>,
    options: &Options<'_>,
    link: &mut Link,
) -> Result<String, String> {
    let range = options.range.clone().unwrap_or_else(|| past.life());
    let patience = RefCell::new(Patience(link, 0));
    let mut lines = 0;
    let mut failed = None;
    let mut cut = false;
    let searched = find::all(
        past,
        condition,
        range,
        &mut |_| patience.borrow_mut().go_on(),
        &mut |stretch: Stretch| {
            if lines == options.limit {
                cut = true;
                return false;
            }
            lines += 1;
            let line = match stretch.from == stretch.to {
                true => format!("{}\n", at(past, stretch.from)),
                false => format!("{} to {}\n", at(past, stretch.from), at(past, stretch.to)),
            };
            failed = console(patience.borrow_mut().0, &line).err();
            failed.is_none()
        },
    );
    let (stopped, _) = searched.map_err(shown)?;
    if let Some(error) = failed {
        return Err(shown(error));
    }
    match (cut, stopped) {
        (true, _) => Ok(format!(
            "and more than these {lines}; --limit N shows more\n"
        )),
        (false, true) => Err(format!("interrupted; it held {lines} times so far")),
        (false, false) => Ok(format!(
            "it holds over {lines} {}\n",
            if lines == 1 { "stretch" } else { "stretches" }
        )),
    }
}
