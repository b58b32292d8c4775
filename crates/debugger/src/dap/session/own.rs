//! What the protocol has no words for: moments, and histories of values. As requests of our own for
//! scripts and extensions, and as commands for the console of any editor.

use super::super::arguments::{CheckpointsArguments, HistoryArguments, Launch};
use super::super::bodies::Changed;
use super::super::debuggee::{Debuggee, Failure, FrameId};
use super::super::wire::{Outbox, Request};
use super::answers::{in_words, moment_out};
use super::{Session, read};
use serde_json::json;

/// Changes in one answer, unless asked for otherwise, and at most.
const CHANGES: (u64, u64) = (1_000, 1_000_000);
/// Checkpoints in one answer, unless asked for otherwise, and at most.
const CHECKPOINTS: (u64, u64) = (1_000, 10_000);
/// Changes that the console shows.
const SHOWN: u64 = 100;

/// Commands of the console, with what they do.
pub(super) const COMMANDS: [(&str, &str); 5] = [
    ("where", "which checkpoint this is"),
    (
        "goto",
        "MOMENT  go there: 42, 12.5s, -3s, first, last, crash, a tag; +1 and -1 count checkpoints",
    ),
    (
        "history",
        "EXPR  every change of a value, with its checkpoint",
    ),
    ("tags", "moments that have a name or a mark"),
    ("help", "this list"),
];

impl<D, O> Session<D, O>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    /// Changes of a value, and whether these are all.
    fn changes(
        &mut self,
        asked: &HistoryArguments,
        limit: u64,
    ) -> Result<(Vec<Changed>, bool), Failure> {
        let interrupt = std::sync::Arc::clone(&self.interrupt);
        let frame = self.frame(asked.frame_id)?;
        let debuggee = self.debuggee()?;
        let end = |text: &Option<_>, or: &str, d: &mut D| match text {
            Some(moment) => d.resolve(&format!("{moment}")),
            None => d.resolve(or),
        };
        let from = end(&asked.from, "first", debuggee)?;
        let to = end(&asked.to, "last", debuggee)?;
        if from > to {
            return Err(Failure::told(format!(
                "the range is empty: {from} is later than {to}"
            )));
        }
        let mut found: Vec<Changed> = Vec::new();
        let mut complete = true;
        debuggee.history(
            frame,
            &asked.expression,
            (from, to),
            &interrupt,
            &mut |step| {
                if found.len() as u64 >= limit {
                    complete = false;
                    return false;
                }
                found.push(Changed {
                    checkpoint: step.moment.checkpoint.0,
                    seconds: step.moment.at_ns as f64 / 1e9,
                    old: found.last().map(|before| before.new.clone()),
                    new: step.value,
                });
                true
            },
        )?;
        Ok((found, complete))
    }

    pub(super) fn history(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: HistoryArguments = read(request)?;
        let limit = asked.limit.unwrap_or(CHANGES.0).min(CHANGES.1);
        let (changes, complete) = self.changes(&asked, limit)?;
        out.respond(
            request,
            &json!({
                "expression": asked.expression,
                "changes": changes,
                "complete": complete,
            }),
        );
        Ok(())
    }

    pub(super) fn checkpoints(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: CheckpointsArguments = read(request)?;
        let count = asked.count.unwrap_or(CHECKPOINTS.0).min(CHECKPOINTS.1);
        let debuggee = self.debuggee()?;
        let here = debuggee.moment();
        let all: Vec<_> = debuggee
            .moments(asked.start, count)
            .iter()
            .map(moment_out)
            .collect();
        out.respond(
            request,
            &json!({
                "checkpoints": all,
                "count": here.count,
                "current": moment_out(&here),
            }),
        );
        Ok(())
    }

    /// A command of the console.
    pub(super) fn command(
        &mut self,
        request: &Request,
        text: &str,
        frame: Option<FrameId>,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let text = text.trim();
        let (name, rest) = text.split_once(char::is_whitespace).unwrap_or((text, ""));
        let rest = rest.trim();
        let mut moved = false;
        let result = match name {
            "where" => in_words(&self.debuggee()?.moment()),
            "goto" => {
                self.go_to(rest)?;
                moved = true;
                in_words(&self.debuggee()?.moment())
            }
            "history" => {
                if rest.is_empty() {
                    return Err(Failure::told("say of what: :history EXPR"));
                }
                let frame_id = frame.map(|f| self.handles.frame(f)).transpose()?;
                let asked = HistoryArguments {
                    expression: rest.to_owned(),
                    frame_id,
                    ..HistoryArguments::default()
                };
                let (changes, complete) = self.changes(&asked, SHOWN)?;
                let mut lines: Vec<String> = changes
                    .iter()
                    .map(|c| format!("{:>8} {:>10.3} s  {}", c.checkpoint, c.seconds, c.new))
                    .collect();
                if !complete {
                    lines.push(format!(
                        "more than {SHOWN} changes; still history shows all"
                    ));
                }
                lines.join("\n")
            }
            "tags" => self.special()?,
            "help" => COMMANDS
                .iter()
                .map(|(name, what)| format!(":{name}  {what}"))
                .collect::<Vec<_>>()
                .join("\n"),
            other => {
                let shown: String = other.chars().take(40).collect();
                return Err(Failure::told(format!(
                    "there is no command :{shown}; :help lists them"
                )));
            }
        };
        out.respond(
            request,
            &json!({ "result": result, "variablesReference": 0 }),
        );
        if moved {
            self.arrived("goto", "gone to".to_owned(), None, Vec::new(), out);
        }
        Ok(())
    }

    /// Moments with a name or a mark, one line each.
    fn special(&mut self) -> Result<String, Failure> {
        let debuggee = self.debuggee()?;
        let mut lines = Vec::new();
        let mut start = 0;
        loop {
            let some = debuggee.moments(start, CHECKPOINTS.1);
            if some.is_empty() {
                break;
            }
            start += some.len() as u64;
            for moment in &some {
                if !moment.tags.is_empty() || moment.marks != stillframe_image::Marks::default() {
                    lines.push(in_words(moment));
                }
                if lines.len() as u64 >= SHOWN {
                    lines.push("...".to_owned());
                    return Ok(lines.join("\n"));
                }
            }
        }
        Ok(match lines.is_empty() {
            true => "no moment has a name or a mark".to_owned(),
            false => lines.join("\n"),
        })
    }
}
