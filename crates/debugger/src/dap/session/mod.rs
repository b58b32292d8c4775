//! A session: requests in, answers and events out, in the order that the protocol wants.
//!
//! It performs no I/O. What it shows comes from a [`Debuggee`]; who opens one is given to it.

mod answers;
mod breaking;
mod capabilities;
mod handles;
mod inspect;
mod moving;
mod own;
#[cfg(test)]
mod tests;

use super::arguments::{Cancel, Initialize, Launch};
use super::breakpoints::normal;
use super::debuggee::{Debuggee, Failure, FrameId};
use super::interrupt::Interrupt;
use super::moves::Stops;
use super::wire::{self, Outbox, Request};
use handles::Handles;
use serde_json::Value;
use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

/// Whether to go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Flow {
    /// More requests may come.
    GoOn,
    /// The session is over.
    End,
}

/// How far a session is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Stage {
    /// Nothing was said.
    New,
    /// Both sides know what the other can do.
    Initialized,
    /// A recording is open; breakpoints are being set.
    Opened,
    /// The user looks at it.
    Looking,
    /// It was closed.
    Closed,
}

/// What the client wants things to look like.
#[derive(Clone, Copy, Debug)]
struct Client {
    /// Lines begin with this.
    first_line: i64,
    /// Columns begin with this.
    first_column: i64,
    /// Paths are URIs.
    uris: bool,
    /// It shows progress.
    progress: bool,
}

/// A session over whatever `open` opens.
pub struct Session<D: Debuggee, O> {
    open: O,
    interrupt: Arc<Interrupt>,
    seq: i64,
    stage: Stage,
    client: Client,
    launch: Launch,
    /// Go to where something happens before the first stop.
    run_at_once: bool,
    /// `launch` or `attach`.
    method: &'static str,
    debuggee: Option<D>,
    handles: Handles<D::Node>,
    stops: Stops,
    /// What each file's breakpoints are, by the client's path.
    next_breakpoint: i64,
    /// The thread that the user looks at.
    focus: Option<u32>,
    /// Threads that the client knows of.
    threads: BTreeSet<u32>,
    /// Breakpoints of each file, by path: positions are in `stops.code` as a whole.
    files: BTreeMap<String, Vec<super::breakpoints::Breakpoint>>,
    functions: Vec<super::breakpoints::Breakpoint>,
    progress: u64,
}

impl<D: Debuggee, O> std::fmt::Debug for Session<D, O> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Session")
            .field("stage", &self.stage)
            .finish_non_exhaustive()
    }
}

impl<D, O> Session<D, O>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    /// A session in which nothing was said yet.
    pub fn new(open: O, interrupt: Arc<Interrupt>) -> Self {
        Self {
            open,
            interrupt,
            seq: 0,
            stage: Stage::New,
            client: Client {
                first_line: 1,
                first_column: 1,
                uris: false,
                progress: false,
            },
            launch: Launch::default(),
            run_at_once: false,
            method: "launch",
            debuggee: None,
            handles: Handles::default(),
            stops: Stops::default(),
            next_breakpoint: 1,
            focus: None,
            threads: BTreeSet::new(),
            files: BTreeMap::new(),
            functions: Vec::new(),
            progress: 0,
        }
    }

    /// The body of one message; what is to be said to it goes to `sink`, one message at a time, as
    /// soon as it is known.
    pub fn receive(&mut self, body: &[u8], sink: &mut dyn FnMut(Value)) -> Flow {
        let mut seq = self.seq;
        let flow = {
            let mut out = Outbox::new(&mut seq, sink);
            match wire::parse(body) {
                Ok(None) => Flow::GoOn,
                Ok(Some(request)) => {
                    self.interrupt.begin(request.seq);
                    let flow = self.answer(&request, &mut out);
                    self.interrupt.end();
                    flow
                }
                Err(malformed) => {
                    out.malformed(&malformed);
                    Flow::GoOn
                }
            }
        };
        self.seq = seq;
        flow
    }

    /// The stream is broken: says so, as an answer to nothing.
    pub fn broken(&mut self, why: &str, sink: &mut dyn FnMut(Value)) {
        let mut seq = self.seq;
        Outbox::new(&mut seq, sink).malformed(&wire::Malformed {
            seq: 0,
            command: String::new(),
            why: why.to_owned(),
        });
        self.seq = seq;
    }

    fn answer(&mut self, request: &Request, out: &mut Outbox<'_>) -> Flow {
        if self.interrupt.is_cancelled()
            && !matches!(request.command.as_str(), "disconnect" | "cancel")
        {
            out.cancelled(request);
            return Flow::GoOn;
        }
        match request.command.as_str() {
            "disconnect" => {
                self.close();
                out.respond(request, &Value::Null);
                return Flow::End;
            }
            "terminate" => {
                self.close();
                out.respond(request, &Value::Null);
                out.event("terminated", &Value::Null);
                return Flow::GoOn;
            }
            _ => {}
        }
        let done = match self.admits(&request.command) {
            Ok(()) => self.dispatch(request, out),
            Err(why) => Err(Failure::Told(why)),
        };
        match done {
            Ok(()) => {}
            Err(Failure::Interrupted) => out.cancelled(request),
            Err(Failure::Told(why)) => out.refuse(request, &why),
        }
        Flow::GoOn
    }

    /// Whether a request may come now.
    fn admits(&self, command: &str) -> Result<(), String> {
        let needs_launch = !matches!(command, "initialize" | "launch" | "attach" | "cancel");
        match (self.stage, command) {
            (_, "cancel") => Ok(()),
            (Stage::New, "initialize") | (Stage::Initialized, "launch" | "attach") => Ok(()),
            (Stage::New, _) => Err(format!("{command} came before initialize")),
            (_, "initialize") => Err("initialize came before; it may come once".to_owned()),
            (Stage::Closed, _) => Err(format!("{command} came after the session was ended")),
            (_, "launch" | "attach") => Err(format!(
                "{command} came after a recording was opened; begin a new session"
            )),
            (Stage::Initialized, _) if needs_launch && self.knows(command) => Err(format!(
                "{command} came before launch or attach; no recording is open"
            )),
            (Stage::Opened, "configurationDone") => Ok(()),
            (Stage::Looking, "configurationDone") => {
                Err("configurationDone came before; it may come once".to_owned())
            }
            (Stage::Opened, c) if Self::moves(c) => {
                Err(format!("{command} came before configurationDone"))
            }
            _ => Ok(()),
        }
    }

    fn moves(command: &str) -> bool {
        matches!(
            command,
            "next"
                | "stepIn"
                | "stepOut"
                | "stepBack"
                | "continue"
                | "reverseContinue"
                | "goto"
                | "stillframe/goto"
        )
    }

    fn close(&mut self) {
        self.stage = Stage::Closed;
        self.debuggee = None;
        self.handles.clear();
    }

    fn dispatch(&mut self, request: &Request, out: &mut Outbox<'_>) -> Result<(), Failure> {
        match request.command.as_str() {
            "initialize" => self.initialize(request, out),
            "launch" => self.launch(request, out, "launch"),
            "attach" => self.launch(request, out, "attach"),
            "configurationDone" => self.configuration_done(request, out),
            "cancel" => {
                let cancel: Cancel = read(request)?;
                if let Some(seq) = cancel.request_id {
                    self.interrupt.cancel(seq);
                }
                out.respond(request, &Value::Null);
                Ok(())
            }
            "setBreakpoints" => self.set_breakpoints(request, out),
            "setFunctionBreakpoints" => self.set_function_breakpoints(request, out),
            "setExceptionBreakpoints" => self.set_exception_breakpoints(request, out),
            "dataBreakpointInfo" => self.data_breakpoint_info(request, out),
            "setDataBreakpoints" => self.set_data_breakpoints(request, out),
            "breakpointLocations" => self.breakpoint_locations(request, out),
            "threads" => self.threads(request, out),
            "stackTrace" => self.stack_trace(request, out),
            "scopes" => self.scopes(request, out),
            "variables" => self.variables(request, out),
            "evaluate" => self.evaluate(request, out),
            "completions" => self.completions(request, out),
            "readMemory" => self.read_memory(request, out),
            "disassemble" => self.disassemble(request, out),
            "modules" => self.modules(request, out),
            "loadedSources" => self.loaded_sources(request, out),
            "source" => self.source(request, out),
            "exceptionInfo" => self.exception_info(request, out),
            "next" | "stepIn" | "stepOut" | "stepBack" => self.step(request, out),
            "continue" | "reverseContinue" => self.run(request, out),
            "pause" => self.pause(request, out),
            "gotoTargets" => self.goto_targets(request, out),
            "goto" => self.goto(request, out),
            "stillframe/goto" => self.goto_moment(request, out),
            "stillframe/history" => self.history(request, out),
            "stillframe/checkpoints" => self.checkpoints(request, out),
            other => Err(Failure::Told(unknown(other))),
        }
    }

    /// Whether `dispatch` has an answer other than that it has none.
    fn knows(&self, command: &str) -> bool {
        !(NOT_HERE.iter().any(|(name, _)| *name == command))
    }

    fn initialize(&mut self, request: &Request, out: &mut Outbox<'_>) -> Result<(), Failure> {
        let wishes: Initialize = read(request)?;
        let first = |at_one: Option<bool>| i64::from(at_one.unwrap_or(true));
        self.client = Client {
            first_line: first(wishes.lines_start_at1),
            first_column: first(wishes.columns_start_at1),
            uris: wishes.path_format.as_deref() == Some("uri"),
            progress: wishes.supports_progress_reporting,
        };
        self.stage = Stage::Initialized;
        out.respond(request, &capabilities::ours());
        Ok(())
    }

    fn launch(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
        method: &'static str,
    ) -> Result<(), Failure> {
        let launch: Launch = read(request)?;
        let debuggee = (self.open)(&launch)?;
        self.run_at_once = request.arguments.get("stopOnEntry") == Some(&Value::Bool(false));
        self.debuggee = Some(debuggee);
        self.launch = launch;
        self.method = method;
        self.stage = Stage::Opened;
        out.respond(request, &Value::Null);
        out.event("initialized", &Value::Null);
        Ok(())
    }

    /// What is shown; there is something once a recording was opened.
    fn debuggee(&mut self) -> Result<&mut D, Failure> {
        self.debuggee
            .as_mut()
            .ok_or_else(|| Failure::told("no recording is open; launch or attach first"))
    }

    fn frame(&self, number: Option<i64>) -> Result<Option<FrameId>, Failure> {
        match number {
            // What some clients say when no frame is chosen.
            None | Some(0) => Ok(None),
            Some(number) => self.handles.frame_of(number).map(Some),
        }
    }

    /// A line of ours as the client counts them.
    fn line_out(&self, line: u64) -> i64 {
        let line = i64::try_from(line).unwrap_or(i64::MAX);
        if line == 0 {
            0
        } else {
            line - 1 + self.client.first_line
        }
    }

    fn column_out(&self, column: u64) -> i64 {
        let column = i64::try_from(column).unwrap_or(i64::MAX);
        if column == 0 {
            0
        } else {
            column - 1 + self.client.first_column
        }
    }

    /// A line of the client's as we count them.
    fn line_in(&self, line: i64) -> u64 {
        let line = line
            .saturating_sub(self.client.first_line)
            .saturating_add(1);
        u64::try_from(line).unwrap_or(0)
    }

    fn path_out(&self, path: String) -> String {
        if self.client.uris { uri(&path) } else { path }
    }

    /// A client's path as we have it.
    fn path_in(&self, path: Option<&str>) -> Result<String, Failure> {
        let path = path.ok_or_else(|| Failure::told("the source has no path"))?;
        let path = path
            .strip_prefix("file://")
            .map_or_else(|| path.to_owned(), unescape);
        Ok(normal(&path))
    }
}

/// Requests of the protocol that mean nothing here, and why.
const NOT_HERE: [(&str, &str); 13] = [
    ("setVariable", "the past cannot be changed"),
    ("setExpression", "the past cannot be changed"),
    ("writeMemory", "the past cannot be changed"),
    (
        "restartFrame",
        "the past cannot be run again; go to an earlier checkpoint",
    ),
    ("restart", "nothing runs here; go to another moment"),
    ("terminateThreads", "nothing runs here"),
    (
        "stepInTargets",
        "there are no instructions between checkpoints to step into",
    ),
    (
        "setInstructionBreakpoints",
        "there are no instructions between checkpoints to stop at; break on a line or function",
    ),
    ("runInTerminal", "this is a request of adapters"),
    ("startDebugging", "this is a request of adapters"),
    ("locations", "values carry no places in sources"),
    ("loadedSource", "this is an event"),
    ("", "it has no name"),
];

fn unknown(command: &str) -> String {
    match NOT_HERE.iter().find(|(name, _)| *name == command) {
        Some((_, why)) => format!("{command:?} is not possible: {why}"),
        None => {
            let shown: String = command.chars().take(60).collect();
            format!("the request {shown:?} is not known here")
        }
    }
}

/// The arguments of a request.
fn read<T: serde::de::DeserializeOwned>(request: &Request) -> Result<T, Failure> {
    request.read().map_err(Failure::Told)
}

/// A thread's kernel id.
fn tid_of(number: i64) -> Result<u32, Failure> {
    u32::try_from(number).map_err(|_| Failure::told(format!("there is no thread {number}")))
}

/// A path as a URI.
fn uri(path: &str) -> String {
    let mut out = "file://".to_owned();
    for byte in path.bytes() {
        match byte {
            b'a'..=b'z' | b'A'..=b'Z' | b'0'..=b'9' | b'/' | b'-' | b'.' | b'_' | b'~' | b'+' => {
                out.push(char::from(byte));
            }
            other => out.push_str(&format!("%{other:02X}")),
        }
    }
    out
}

/// What percent signs hide.
fn unescape(text: &str) -> String {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text.as_bytes();
    while let [first, tail @ ..] = rest {
        rest = tail;
        let hex = |b: u8| {
            char::from(b)
                .to_digit(16)
                .and_then(|d| u8::try_from(d).ok())
        };
        match (first, tail) {
            (b'%', [a, b, after @ ..]) => match (hex(*a), hex(*b)) {
                (Some(a), Some(b)) => {
                    out.push(a * 16 + b);
                    rest = after;
                }
                _ => out.push(b'%'),
            },
            (other, _) => out.push(*other),
        }
    }
    String::from_utf8_lossy(&out).into_owned()
}
