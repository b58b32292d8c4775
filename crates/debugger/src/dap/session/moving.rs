//! Requests that move, and what clients are told about it.

use super::super::arguments::{Goto, GotoMoment, Launch, OfLine, OfThread, Step as StepArguments};
use super::super::bodies::{GotoTarget, Stopped};
use super::super::breakpoints::{Breakpoint, Spot, Standing, standing};
use super::super::debuggee::{Debuggee, Direction, Failure};
use super::super::moves::{Ended, Step, Witness, travel};
use super::super::wire::{Outbox, Request};
use super::answers::{in_words, moment_out};
use super::{Session, Stage, read, tid_of};
use serde_json::{Value, json};
use std::collections::BTreeSet;
use stillframe_image::CheckpointId;

/// Tells the client what happens on the way: progress, if it wants to know, and log points.
struct Teller<'a, 'b> {
    out: &'a mut Outbox<'b>,
    /// The number of this way, if progress is shown.
    progress: Option<u64>,
    began: bool,
    of: u64,
}

impl Witness for Teller<'_, '_> {
    fn visited(&mut self, count: u64, at: CheckpointId) {
        let Some(number) = self.progress else {
            return;
        };
        let id = number.to_string();
        if !self.began {
            self.began = true;
            self.out.event(
                "progressStart",
                &json!({ "progressId": id, "title": "Looking through checkpoints", "cancellable": false }),
            );
        }
        let share = 100.0 * count as f64 / self.of.max(1) as f64;
        self.out.event(
            "progressUpdate",
            &json!({
                "progressId": id,
                "message": format!("at checkpoint {at}"),
                "percentage": share.min(100.0),
            }),
        );
    }

    fn say(&mut self, message: &str) {
        let output = format!("{message}\n");
        self.out.event(
            "output",
            &json!({ "category": "console", "output": output }),
        );
    }
}

impl Teller<'_, '_> {
    fn end(self) {
        if let Some(number) = self.progress.filter(|_| self.began) {
            self.out
                .event("progressEnd", &json!({ "progressId": number.to_string() }));
        }
    }
}

impl<D, O> Session<D, O>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    pub(super) fn configuration_done(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let about = self.debuggee()?.about();
        out.respond(request, &Value::Null);
        self.stage = Stage::Looking;
        out.event(
            "process",
            &json!({
                "name": about.name,
                "isLocalProcess": false,
                "startMethod": self.method,
                "pointerSize": 64,
            }),
        );
        for note in &about.notes {
            let output = format!("{note}\n");
            out.event(
                "output",
                &json!({ "category": "console", "output": output }),
            );
        }
        if self.run_at_once {
            return self.go_on(Direction::Forward, None, out);
        }
        self.arrived("entry", "opened".to_owned(), None, Vec::new(), out);
        Ok(())
    }

    pub(super) fn step(&mut self, request: &Request, out: &mut Outbox<'_>) -> Result<(), Failure> {
        let asked: StepArguments = read(request)?;
        let tid = self.existing(asked.thread_id)?;
        let (direction, step) = match request.command.as_str() {
            "stepIn" => (Direction::Forward, Step::In),
            "stepOut" => (Direction::Forward, Step::Out),
            "stepBack" => (Direction::Backward, Step::Over),
            _ => (Direction::Forward, Step::Over),
        };
        let step = match asked.granularity.as_deref() {
            Some("instruction") => Step::Checkpoint,
            _ => step,
        };
        self.focus = Some(tid);
        out.respond(request, &Value::Null);
        self.go_on(direction, Some((tid, step)), out)
    }

    pub(super) fn run(&mut self, request: &Request, out: &mut Outbox<'_>) -> Result<(), Failure> {
        let asked: OfThread = read(request)?;
        self.focus = Some(self.existing(asked.thread_id)?);
        match request.command.as_str() {
            "continue" => {
                out.respond(request, &json!({ "allThreadsContinued": true }));
                self.go_on(Direction::Forward, None, out)
            }
            _ => {
                out.respond(request, &Value::Null);
                self.go_on(Direction::Backward, None, out)
            }
        }
    }

    /// A move is over by the time that this is answered; it was told to end when this was read.
    pub(super) fn pause(&mut self, request: &Request, out: &mut Outbox<'_>) -> Result<(), Failure> {
        let _: OfThread = read(request)?;
        out.respond(request, &Value::Null);
        Ok(())
    }

    /// A thread that the client means, which exists here.
    fn existing(&mut self, number: i64) -> Result<u32, Failure> {
        let tid = tid_of(number)?;
        let threads = self.debuggee()?.threads()?;
        if threads.iter().any(|t| t.tid == tid) {
            return Ok(tid);
        }
        // Some clients send 0 when the user chose none.
        match (number, threads.first()) {
            (0, Some(first)) => Ok(self
                .focus
                .filter(|f| threads.iter().any(|t| t.tid == *f))
                .unwrap_or(first.tid)),
            _ => Err(Failure::told(format!(
                "there is no thread {tid} at this checkpoint"
            ))),
        }
    }

    /// Travels, and says where that led. The request was answered before: failures are told as output
    /// and as a stop where we are.
    fn go_on(
        &mut self,
        direction: Direction,
        step: Option<(u32, Step)>,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let interrupt = std::sync::Arc::clone(&self.interrupt);
        self.progress += 1;
        let progress = self.client.progress.then_some(self.progress);
        let mut stops = std::mem::take(&mut self.stops);
        let debuggee = self.debuggee()?;
        let of = debuggee.moment().count;
        let mut teller = Teller {
            out,
            progress,
            began: false,
            of,
        };
        let ended = travel(
            debuggee,
            direction,
            step,
            &mut stops,
            &interrupt,
            &mut teller,
        );
        teller.end();
        self.stops = stops;
        self.keep_counts();
        let end = match direction {
            Direction::Forward => "the end",
            Direction::Backward => "the beginning",
        };
        match ended {
            Ok(Ended::Stepped(tid, what)) => self.arrived("step", what, Some(tid), Vec::new(), out),
            Ok(Ended::Code(frame, ids)) => {
                let line = self.files.values().flatten().any(|b| ids.contains(&b.id));
                let reason = if line {
                    "breakpoint"
                } else {
                    "function breakpoint"
                };
                self.arrived(reason, reason.to_owned(), Some(frame.tid), ids, out);
            }
            Ok(Ended::Data(ids, what)) => self.arrived("data breakpoint", what, None, ids, out),
            Ok(Ended::Marked) => {
                let moment = self.debuggee()?.moment();
                let mut words: Vec<&str> = moment.marks.names().collect();
                words.extend(moment.tags.iter().map(String::as_str));
                self.arrived("pause", words.join(", "), None, Vec::new(), out);
            }
            Ok(Ended::End) => {
                self.arrived(
                    "pause",
                    format!("{end} of the recording"),
                    None,
                    Vec::new(),
                    out,
                );
            }
            Ok(Ended::Paused) | Err(Failure::Interrupted) => {
                self.arrived(
                    "pause",
                    "paused on the way".to_owned(),
                    None,
                    Vec::new(),
                    out,
                );
            }
            Err(Failure::Told(why)) => {
                let output = format!("cannot go on {}: {why}\n", direction.word());
                out.event(
                    "output",
                    &json!({ "category": "important", "output": output }),
                );
                self.arrived("pause", why, None, Vec::new(), out);
            }
        }
        Ok(())
    }

    /// Hits are counted in the list that was travelled with.
    fn keep_counts(&mut self) {
        let all = self.files.values_mut().flatten().chain(&mut self.functions);
        for (mine, counted) in all.zip(&self.stops.code) {
            mine.count = counted.count;
        }
    }

    /// Tells the client that everything is new, and why.
    pub(super) fn arrived(
        &mut self,
        reason: &'static str,
        what: String,
        tid: Option<u32>,
        hit_breakpoint_ids: Vec<i64>,
        out: &mut Outbox<'_>,
    ) {
        self.handles.clear();
        let known = std::mem::take(&mut self.threads);
        let Some(debuggee) = self.debuggee.as_mut() else {
            return;
        };
        let moment = debuggee.moment();
        let threads = debuggee.threads().unwrap_or_default();
        let now: BTreeSet<u32> = threads.iter().map(|t| t.tid).collect();
        for (reason, tid) in known
            .difference(&now)
            .map(|t| ("exited", *t))
            .chain(now.difference(&known).map(|t| ("started", *t)))
        {
            out.event("thread", &json!({ "reason": reason, "threadId": tid }));
        }
        let signalled = threads.iter().find(|t| t.signal.is_some());
        let focus = tid
            .filter(|t| now.contains(t))
            .or(signalled.map(|t| t.tid))
            .or(self.focus.filter(|t| now.contains(t)))
            .or(threads.first().map(|t| t.tid));
        self.threads = now;
        self.focus = focus;
        let signal = signalled
            .filter(|t| Some(t.tid) == focus)
            .and_then(|t| t.signal.clone());
        let (reason, text) = match signal {
            Some(signal) if !matches!(reason, "breakpoint" | "data breakpoint") => {
                ("exception", Some(signal.description))
            }
            _ => (reason, None),
        };
        let place = in_words(&moment);
        let output = format!("{place}: {what}\n");
        out.event(
            "output",
            &json!({ "category": "console", "output": output }),
        );
        out.event("stillframe/moment", &moment_out(&moment));
        out.event(
            "stopped",
            &Stopped {
                reason,
                description: format!("{what}, at {place}"),
                text,
                thread_id: focus.map(i64::from),
                all_threads_stopped: true,
                hit_breakpoint_ids,
            },
        );
    }

    pub(super) fn goto_targets(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: OfLine = read(request)?;
        let path = self.path_in(asked.source.path.as_deref())?;
        let line = self.line_in(asked.line);
        let lines = self.debuggee()?.lines(&path)?.unwrap_or_default();
        let mut targets = Vec::new();
        if let Some(line) = lines.get(lines.partition_point(|l| *l < line)).copied() {
            let spot = Spot::Line(path, line);
            for direction in [Direction::Backward, Direction::Forward] {
                let Some(moment) = self.nearest(&spot, direction)? else {
                    continue;
                };
                targets.push(GotoTarget {
                    id: self.handles.target(moment.checkpoint)?,
                    label: format!("{}: {}", direction.word(), in_words(&moment)),
                    line: self.line_out(line),
                });
            }
        }
        out.respond(request, &json!({ "targets": targets }));
        Ok(())
    }

    /// The nearest moment in a direction where a thread stands at a spot. Looks, and comes back.
    fn nearest(
        &mut self,
        spot: &Spot,
        direction: Direction,
    ) -> Result<Option<super::super::debuggee::Moment>, Failure> {
        let interrupt = std::sync::Arc::clone(&self.interrupt);
        let debuggee = self.debuggee()?;
        let here = debuggee.moment().checkpoint;
        let spots = [Breakpoint {
            id: 0,
            spot: spot.clone(),
            condition: None,
            hits: None,
            log: None,
            count: 0,
        }];
        let mut look = || -> Result<Option<_>, Failure> {
            let mut before: Standing = standing(debuggee, &spots, &Standing::new())?.1;
            while let Some(next) = debuggee.neighbour(direction) {
                if interrupt.is_set() {
                    return Err(Failure::Interrupted);
                }
                debuggee.go(next)?;
                let (hits, now) = standing(debuggee, &spots, &before)?;
                if !hits.is_empty() {
                    return Ok(Some(debuggee.moment()));
                }
                before = now;
            }
            Ok(None)
        };
        let found = look();
        debuggee.go(here)?;
        found
    }

    pub(super) fn goto(&mut self, request: &Request, out: &mut Outbox<'_>) -> Result<(), Failure> {
        let asked: Goto = read(request)?;
        let to = self.handles.target_of(asked.target_id)?;
        self.debuggee()?.go(to)?;
        out.respond(request, &Value::Null);
        let tid = tid_of(asked.thread_id).ok();
        self.arrived("goto", "gone to".to_owned(), tid, Vec::new(), out);
        Ok(())
    }

    pub(super) fn goto_moment(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: GotoMoment = read(request)?;
        let tid = asked.thread_id.and_then(|t| tid_of(t).ok());
        self.go_to(&asked.moment.to_string())?;
        let moment = self.debuggee()?.moment();
        out.respond(request, &moment_out(&moment));
        self.arrived("goto", "gone to".to_owned(), tid, Vec::new(), out);
        Ok(())
    }

    /// Goes to a moment as users write it; `+1` and `-1` count checkpoints from here.
    pub(super) fn go_to(&mut self, text: &str) -> Result<(), Failure> {
        let text = text.trim();
        let debuggee = self.debuggee()?;
        let relative = match text.split_at_checked(1) {
            Some(("+", n)) => n.parse().ok().map(|n: u64| (Direction::Forward, n)),
            Some(("-", n)) => n.parse().ok().map(|n: u64| (Direction::Backward, n)),
            _ => None,
        };
        let Some((direction, count)) = relative else {
            let to = debuggee.resolve(text)?;
            return debuggee.go(to);
        };
        let here = debuggee.moment();
        let position = match direction {
            Direction::Forward => here.position.checked_add(count),
            Direction::Backward => here.position.checked_sub(count),
        };
        let to = position.and_then(|p| debuggee.moments(p, 1).pop());
        match to {
            Some(to) => debuggee.go(to.checkpoint),
            None => Err(Failure::told(format!(
                "there are not {count} checkpoints {} than this one",
                direction.word()
            ))),
        }
    }
}
