//! One debugger, from its first packet to its last.
//!
//! The protocol is GDB's (GDB manual, appendix E), with the few packets that LLDB adds. It is
//! written out here and not taken from a library, because a recording needs what libraries for
//! live targets leave out: a first stop that carries the fatal signal and its thread, `siginfo`,
//! names of threads, the real pid, replies to malformed packets instead of an end, and a search
//! that Ctrl-C interrupts.
//!
//! Time goes by checkpoints. Stepping goes to the next one, or to the one before; continuing goes
//! on until a watched value differs, a thread stands at a breakpoint, a signal is fatal, or the
//! recording ends. Debuggers learn of a new moment only by a stop, so that `monitor goto` moves at
//! once but is told with the next stop: the next step or continue then only arrives.

use super::documents::Documents;
use super::link::Link;
use super::monitor;
use super::packet::{self, LARGEST, number, pair, push_hex, split, unhex};
use super::registers::Layout;
use super::scene::Scene;
use super::travel::{self, Halt, Plan, Road, Span};
use super::vfile::OpenFiles;
use super::{Error, Settings, signals};
use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use stillframe_image::{SpaceId, Thread};
use stillframe_timeline::Machine;

/// Most bytes that one watchpoint covers.
const WATCHED: u64 = 1 << 16;
/// Most watchpoints, and breakpoints, at once.
const POINTS: usize = 4096;
/// Threads in one packet of a list.
const LISTED: usize = 512;

/// What becomes of a packet.
pub enum Answer {
    /// This reply, its escapes made.
    Reply(Vec<u8>),
    /// This reply, then the end.
    Last(Vec<u8>),
    /// The end.
    End,
    /// None: the debugger does not wait any more.
    None,
}

/// A reply of plain text.
fn text(reply: impl AsRef<[u8]>) -> Answer {
    Answer::Reply(reply.as_ref().to_vec())
}

/// A packet that is not known.
fn unknown() -> Answer {
    text("")
}

/// An error that GDB shows as it is.
fn refused(why: &str) -> Answer {
    text(format!("E.{why}"))
}

/// A packet that cannot be understood.
fn malformed() -> Answer {
    text("E16")
}

/// What is asked of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Motion {
    Step,
    StepBack,
    Forward,
    Backward,
}

impl Motion {
    const fn steps(self) -> bool {
        matches!(self, Self::Step | Self::StepBack)
    }
}

/// A watchpoint as the debugger set it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
struct Watch {
    span: Span,
    /// `awatch` rather than `watch`.
    access: bool,
}

/// A session.
pub struct Session<'r> {
    pub(super) scene: Scene<'r>,
    pub(super) machine: &'r Machine,
    pub(super) settings: &'r Settings,
    layout: Layout,
    documents: Documents,
    files: OpenFiles,
    /// The client names processes in thread ids.
    multiprocess: bool,
    lldb: bool,
    /// Thread that registers and memory are asked of; 0 for the first.
    thread: u32,
    watches: BTreeSet<Watch>,
    breaks: BTreeMap<u64, u32>,
    /// Where the debugger believes to be, if it has not been told of a move.
    left: Option<usize>,
    /// A stop that was found, and follows one that told of other libraries.
    held: Option<(Motion, Halt)>,
    /// The row whose fatal signal was told.
    told: Option<usize>,
    /// Threads of a list that are yet to be sent.
    listing: Vec<u32>,
    /// Rows that were given names in this session.
    pub(super) named: BTreeMap<String, usize>,
    /// Which process the next client is to have, if one was chosen.
    pub(super) next_process: Option<SpaceId>,
}

impl<'r> Session<'r> {
    /// For a client that has connected.
    pub fn new(scene: Scene<'r>, machine: &'r Machine, settings: &'r Settings) -> Self {
        let layout = Layout::of(&scene.image().threads);
        Self {
            scene,
            machine,
            settings,
            layout,
            documents: Documents::default(),
            files: OpenFiles::default(),
            multiprocess: false,
            lldb: false,
            thread: 0,
            watches: BTreeSet::new(),
            breaks: BTreeMap::new(),
            left: None,
            held: None,
            told: None,
            listing: Vec::new(),
            named: BTreeMap::new(),
            next_process: None,
        }
    }

    /// Answers until the debugger leaves.
    ///
    /// # Errors
    /// If the connection fails.
    pub fn run(&mut self, link: &mut Link) -> Result<(), Error> {
        while let Some(body) = link.next()? {
            tracing::trace!(packet = %String::from_utf8_lossy(&body), "from the debugger");
            match self.answer(&body, link)? {
                Answer::Reply(reply) => {
                    tracing::trace!(reply = %String::from_utf8_lossy(&reply), "to the debugger");
                    link.reply(&reply)?;
                    if body == b"QStartNoAckMode" {
                        link.trust();
                    }
                }
                Answer::Last(reply) => {
                    link.reply(&reply)?;
                    break;
                }
                Answer::End => break,
                Answer::None => {}
            }
        }
        Ok(())
    }

    fn answer(&mut self, body: &[u8], link: &mut Link) -> Result<Answer, Error> {
        let Some((&kind, rest)) = body.split_first() else {
            return Ok(unknown());
        };
        Ok(match kind {
            b'?' => text(self.first_stop()),
            b'g' => self.all_registers(),
            b'p' => self.one_register(rest),
            b'G' | b'P' | b'M' | b'X' => {
                refused("a recording is read-only: registers and memory cannot be changed")
            }
            b'm' => self.memory(rest, false),
            b'x' => self.memory(rest, true),
            b'H' => self.choose_thread(rest),
            b'T' => match self.thread_id(rest) {
                Some(tid) if self.scene.thread(tid).is_some() => text("OK"),
                _ => text("E03"),
            },
            b'Z' | b'z' => self.point(kind == b'Z', rest),
            b'c' | b'C' => self.travel(Motion::Forward, link)?,
            b's' | b'S' => self.travel(Motion::Step, link)?,
            b'b' => match rest {
                b"c" => self.travel(Motion::Backward, link)?,
                b"s" => self.travel(Motion::StepBack, link)?,
                _ => unknown(),
            },
            b'D' => Answer::Last(b"OK".to_vec()),
            b'k' => Answer::End,
            b'v' => self.verbose(rest, link)?,
            b'q' | b'Q' => self.query(body, link)?,
            _ => unknown(),
        })
    }

    fn verbose(&mut self, rest: &[u8], link: &mut Link) -> Result<Answer, Error> {
        if let Some(actions) = rest.strip_prefix(b"Cont") {
            return match actions.split_first() {
                Some((b'?', _)) => Ok(text("vCont;c;C;s;S")),
                Some((b';', actions)) => {
                    let steps = actions
                        .split(|b| *b == b';')
                        .any(|a| matches!(a.first(), Some(b's' | b'S')));
                    let known = actions
                        .split(|b| *b == b';')
                        .all(|a| matches!(a.first(), Some(b's' | b'S' | b'c' | b'C')));
                    if let Some(tid) = actions
                        .split(|b| *b == b';')
                        .find(|a| matches!(a.first(), Some(b's' | b'S')))
                        .and_then(|a| self.thread_id(split(a, b':')?.1))
                    {
                        self.thread = tid;
                    }
                    match (known, steps) {
                        (false, _) => Ok(malformed()),
                        (true, true) => self.travel(Motion::Step, link),
                        (true, false) => self.travel(Motion::Forward, link),
                    }
                }
                _ => Ok(malformed()),
            };
        }
        if let Some(request) = rest.strip_prefix(b"File:") {
            return Ok(Answer::Reply(self.files.answer(
                &self.scene,
                request,
                self.settings.force,
            )));
        }
        if rest.starts_with(b"Kill") {
            return Ok(Answer::Last(b"OK".to_vec()));
        }
        if rest.starts_with(b"Run") || rest.starts_with(b"Attach") {
            return Ok(refused("a recording cannot be started or attached to"));
        }
        Ok(unknown())
    }

    fn query(&mut self, body: &[u8], link: &mut Link) -> Result<Answer, Error> {
        let end = body
            .iter()
            .position(|b| matches!(b, b':' | b',' | b';'))
            .unwrap_or(body.len());
        let (name, rest) = body.split_at(end);
        let rest = rest.get(1..).unwrap_or_default();
        Ok(match name {
            b"qSupported" => self.features(rest),
            b"QStartNoAckMode" => text("OK"),
            b"qXfer" => self.transfer(rest),
            b"qAttached" => text("1"),
            b"qC" => text(format!("QC{}", self.id_text(self.current()))),
            b"qfThreadInfo" => {
                let threads = &self.scene.image().threads;
                self.listing = threads.iter().rev().map(|t| t.tid).collect();
                self.more_threads()
            }
            b"qsThreadInfo" => self.more_threads(),
            b"qThreadExtraInfo" => match self.thread_id(rest).and_then(|t| self.scene.thread(t)) {
                Some(thread) => Answer::Reply(packet::hex(&thread.name).into_bytes()),
                None => text("E03"),
            },
            b"qGetTLSAddr" => self.thread_local(rest),
            stop if stop.starts_with(b"qThreadStopInfo") => {
                let tid = self.thread_id(&stop[b"qThreadStopInfo".len()..]);
                match tid.filter(|tid| self.scene.thread(*tid).is_some()) {
                    Some(tid) => text(format!(
                        "T{:02x}thread:{};{}",
                        if tid == self.current() {
                            signals::TRAP
                        } else {
                            0
                        },
                        self.id_text(tid),
                        self.name_for_lldb(tid)
                    )),
                    None => text("E03"),
                }
            }
            b"qRcmd" => match unhex(rest) {
                Some(command) => match monitor::run(self, &command, link)? {
                    true => text("OK"),
                    false => Answer::None,
                },
                None => malformed(),
            },
            b"qSymbol" => text("OK"),
            b"QThreadSuffixSupported" | b"qVAttachOrWaitSupported" => {
                self.lldb = true;
                unknown()
            }
            b"qHostInfo" => {
                self.lldb = true;
                text(super::lldb::host())
            }
            b"qProcessInfo" => {
                self.lldb = true;
                text(super::lldb::process(&self.scene))
            }
            b"qMemoryRegionInfo" => match number(rest) {
                Some(address) => text(super::lldb::region(&self.scene, address)),
                None => malformed(),
            },
            b"qModuleInfo" => match super::lldb::module(&self.scene, rest) {
                Some(reply) => text(reply),
                None => text("E01"),
            },
            b"qWatchpointSupportInfo" => text(format!("num:{POINTS};")),
            b"qShlibInfoAddr" => unknown(),
            b"qGetPid" => text(format!("{:x}", self.pid())),
            _ => unknown(),
        })
    }

    fn features(&mut self, theirs: &[u8]) -> Answer {
        self.multiprocess = theirs.split(|b| *b == b';').any(|f| f == b"multiprocess+");
        // An escape needs two bytes, and a reply is to fit.
        text(format!(
            "PacketSize={:x};QStartNoAckMode+;vContSupported+;multiprocess+;swbreak+;hwbreak+;\
             ReverseStep+;ReverseContinue+;qXfer:features:read+;qXfer:auxv:read+;\
             qXfer:exec-file:read+;qXfer:threads:read+;qXfer:siginfo:read+;\
             qXfer:libraries-svr4:read+",
            LARGEST
        ))
    }

    fn transfer(&mut self, request: &[u8]) -> Answer {
        let mut parts = request.splitn(4, |b| *b == b':');
        let (Some(object), Some(operation), Some(annex), Some(range)) =
            (parts.next(), parts.next(), parts.next(), parts.next())
        else {
            return malformed();
        };
        if operation != b"read" {
            return unknown();
        }
        let Some((offset, length)) = pair(range) else {
            return malformed();
        };
        let thread = self.current();
        let threads = (object == b"threads").then(|| self.thread_document());
        match self.documents.part(
            &self.scene,
            &self.layout,
            (object, annex),
            (thread, threads),
            offset,
            length,
        ) {
            Some(Ok(reply)) => Answer::Reply(reply),
            Some(Err(why)) => refused(why),
            None => unknown(),
        }
    }

    fn thread_document(&self) -> String {
        let mut out = String::from("<?xml version=\"1.0\"?>\n<threads>\n");
        for thread in &self.scene.image().threads {
            // Writing to a String cannot fail.
            let _ = writeln!(
                out,
                "<thread id=\"{}\" name=\"{}\"/>",
                self.id_text(thread.tid),
                super::libraries::xml(&thread.name)
            );
        }
        out.push_str("</threads>\n");
        out
    }

    fn more_threads(&mut self) -> Answer {
        let rest = self.listing.len().saturating_sub(LISTED);
        let part = self.listing.split_off(rest);
        if part.is_empty() {
            return text("l");
        }
        let ids: Vec<String> = part.iter().rev().map(|t| self.id_text(*t)).collect();
        text(format!("m{}", ids.join(",")))
    }

    // Threads and registers.

    fn pid(&self) -> u32 {
        self.scene.image().process.pid.max(1)
    }

    fn id_text(&self, tid: u32) -> String {
        if self.multiprocess {
            format!("p{:x}.{tid:x}", self.pid())
        } else {
            format!("{tid:x}")
        }
    }

    /// The thread that an id names: `p12.34`, `34`; 0 for any, all, or one of another process.
    fn thread_id(&self, id: &[u8]) -> Option<u32> {
        let tid = match id.strip_prefix(b"p") {
            None => id,
            Some(id) => match split(id, b'.') {
                Some((_, tid)) => tid,
                None => b"0",
            },
        };
        if tid == b"-1" {
            return Some(0);
        }
        u32::try_from(number(tid)?).ok()
    }

    /// The thread that is asked about.
    pub(super) fn current(&self) -> u32 {
        match self.scene.thread(self.thread) {
            Some(thread) => thread.tid,
            None => self.scene.first(),
        }
    }

    fn choose_thread(&mut self, rest: &[u8]) -> Answer {
        let Some((&kind, id)) = rest.split_first() else {
            return malformed();
        };
        match (kind, self.thread_id(id)) {
            // What is to run is all or nothing.
            (b'c' | b's', Some(_)) => text("OK"),
            (b'g', Some(tid)) if tid == 0 || self.scene.thread(tid).is_some() => {
                self.thread = tid;
                text("OK")
            }
            (b'g', Some(_)) => text("E03"),
            _ => malformed(),
        }
    }

    fn chosen(&self) -> Option<&Thread> {
        self.scene.thread(match self.thread {
            0 => self.scene.first(),
            tid => tid,
        })
    }

    fn all_registers(&self) -> Answer {
        let Some(thread) = self.chosen() else {
            return text("E03");
        };
        let mut out = Vec::new();
        for (size, bytes) in self.layout.all(thread, self.scene.checkpoint()) {
            push_register(&mut out, size, bytes);
        }
        Answer::Reply(out)
    }

    fn one_register(&self, rest: &[u8]) -> Answer {
        let Some(n) = number(rest).and_then(|n| usize::try_from(n).ok()) else {
            return malformed();
        };
        let Some(thread) = self.chosen() else {
            return text("E03");
        };
        match self.layout.one(n, thread, self.scene.checkpoint()) {
            Some((size, bytes)) => {
                let mut out = Vec::new();
                push_register(&mut out, size, bytes);
                Answer::Reply(out)
            }
            None => text("E45"),
        }
    }

    fn thread_local(&mut self, rest: &[u8]) -> Answer {
        let mut parts = rest.split(|b| *b == b',');
        let tid = parts.next().and_then(|id| self.thread_id(id));
        let offset = parts.next().and_then(number);
        let map = parts.next().and_then(number);
        match (tid, offset, map) {
            (Some(tid), Some(offset), Some(map)) => {
                match self.thread_local_address(tid, offset, map) {
                    Ok(address) => text(format!("{address:x}")),
                    Err(why) => refused(&why),
                }
            }
            _ => malformed(),
        }
    }

    fn thread_local_address(&self, tid: u32, offset: u64, map: u64) -> Result<u64, String> {
        let thread = self.scene.thread(tid).ok_or("there is no such thread")?;
        let at = (self.scene.checkpoint(), self.scene.process());
        let view = self.machine.at(at.0, at.1).map_err(|e| e.to_string())?;
        let pointer = thread.registers.fs_base;
        stillframe_symbols::tls::of_link_map(view.program(), view.memory(), pointer, map, offset)
            .map_err(|e| e.to_string())
    }

    // Memory.

    fn memory(&self, rest: &[u8], binary: bool) -> Answer {
        let Some((address, length)) = pair(rest) else {
            return malformed();
        };
        let length = usize::try_from(length).map_or(LARGEST / 2, |n| n.min(LARGEST / 2));
        if length == 0 {
            return text(if binary { "OK" } else { "" });
        }
        let mut bytes = vec![0; length];
        let n = self.scene.read(address, &mut bytes);
        if n == 0 {
            return text("E0e");
        }
        let mut out = Vec::with_capacity(2 * n);
        if binary {
            packet::push_escaped(&mut out, &bytes[..n]);
        } else {
            push_hex(&mut out, &bytes[..n]);
        }
        Answer::Reply(out)
    }

    // Breakpoints and watchpoints.

    fn point(&mut self, set: bool, rest: &[u8]) -> Answer {
        // Conditions and commands that follow a `;` are the debugger's own to evaluate.
        let rest = rest.split(|b| *b == b';').next().unwrap_or_default();
        let Some((kind, place)) = split(rest, b',') else {
            return malformed();
        };
        let Some((address, length)) = pair(place) else {
            return malformed();
        };
        match kind {
            b"0" | b"1" => {
                if !set {
                    self.breaks.remove(&address);
                } else if self.breaks.len() < POINTS {
                    // The loader's own, by which debuggers learn of libraries: we tell them.
                    let counts = u32::from(!self.scene.in_loader(address));
                    self.breaks.insert(address, counts);
                } else {
                    return refused("too many breakpoints");
                }
                text("OK")
            }
            b"2" | b"4" => {
                let watch = Watch {
                    span: Span { address, length },
                    access: kind == b"4",
                };
                if !set {
                    self.watches.remove(&watch);
                } else if length == 0 || length > WATCHED {
                    return refused("a watchpoint covers 1 to 65536 bytes");
                } else if self.watches.len() < POINTS {
                    self.watches.insert(watch);
                } else {
                    return refused("too many watchpoints");
                }
                text("OK")
            }
            b"3" => refused("a recording does not say who read what; use watch"),
            _ => unknown(),
        }
    }

    // Moving.

    /// Goes to a row. The debugger is told with the next stop.
    ///
    /// # Errors
    /// If that checkpoint cannot be read; then nothing has changed.
    pub(super) fn go(&mut self, row: usize) -> Result<(), Error> {
        let from = self.scene.row();
        self.scene.go(row)?;
        self.held = None;
        self.told = None;
        let left = self.left.unwrap_or(from);
        self.left = (left != row).then_some(left);
        Ok(())
    }

    fn plan(&self) -> Plan {
        Plan {
            watches: self.watches.iter().map(|w| w.span).collect(),
            breaks: self
                .breaks
                .iter()
                .filter_map(|(address, counts)| (*counts > 0).then_some(*address))
                .collect(),
        }
    }

    fn travel(&mut self, motion: Motion, link: &mut Link) -> Result<Answer, Error> {
        let plan = self.plan();
        if let Some((motion, halt)) = self.held.take() {
            return Ok(text(self.stop(motion, halt)));
        }
        if let Some(left) = self.left.take() {
            let watched = travel::differs(&self.scene, &plan, left, self.scene.row());
            let halt = match (watched, self.dying()) {
                (Some(n), _) => Halt::Watch(n),
                (None, Some((tid, signal))) => Halt::Fatal(tid, signal),
                (None, None) => Halt::Moved,
            };
            return Ok(text(self.told_stop(motion, halt, left, link)?));
        }
        let at = self.scene.row();
        let forward = matches!(motion, Motion::Step | Motion::Forward);
        if forward
            && self.told != Some(at)
            && let Some((tid, signal)) = self.dying()
        {
            return Ok(text(self.stop(motion, Halt::Fatal(tid, signal))));
        }
        let lives = self.scene.lives().clone();
        let mut interrupted = || link.interrupted();
        let mut road = Road {
            first: *lives.start(),
            last: *lives.end(),
            interrupted: &mut interrupted,
        };
        let found = match motion {
            Motion::Step => travel::step(&self.scene, &plan, at, &road),
            Motion::StepBack => travel::step_back(&self.scene, &plan, at, &road),
            Motion::Forward => travel::forward(&self.scene, &plan, at, &mut road),
            Motion::Backward => travel::backward(&self.scene, &plan, at, &mut road),
        };
        let moved = found.and_then(|(row, halt)| {
            self.scene.go(row)?;
            Ok(halt)
        });
        let halt = match moved {
            Ok(halt) => halt,
            Err(error) => {
                console(link, &format!("{error}\n"))?;
                Halt::Moved
            }
        };
        Ok(text(self.told_stop(motion, halt, at, link)?))
    }

    /// A stop after a move from a row. If other libraries are mapped than there, that is told first;
    /// the debugger reads the list and goes on, and then gets the stop itself.
    fn told_stop(
        &mut self,
        motion: Motion,
        halt: Halt,
        from: usize,
        link: &mut Link,
    ) -> Result<String, Error> {
        if self.scene.row() != from {
            self.told = None;
            self.documents.forget();
            if self.other_libraries(from) {
                if let Some(told) = self.other_program(from) {
                    console(link, &told)?;
                }
                if !self.lldb {
                    self.held = Some((motion, halt));
                    let thread = self.id_text(self.current());
                    return Ok(format!("T05thread:{thread};library:;"));
                }
            }
        }
        Ok(self.stop(motion, halt))
    }

    /// What to say if the process runs another program than at a row: debuggers go on with the
    /// symbols of the one that they began with.
    fn other_program(&self, row: usize) -> Option<String> {
        let recording = self.scene.recording();
        let id = recording.rows().get(row)?.id;
        let before = recording.process(id, self.scene.process()).ok()?;
        let (before, now) = (&before.process, &self.scene.image().process);
        (before.executable != now.executable).then(|| {
            let name = |path: &[u8]| monitor::plain(&String::from_utf8_lossy(path));
            format!(
                "here the process runs {now}, and not {before}: between the two moments it called \
                 exec.\nSymbols of the executable are still those of {before}; `file {now}` loads \
                 the others.\n",
                now = name(&now.executable),
                before = name(&before.executable)
            )
        })
    }

    /// Whether code of other files is mapped than at a row.
    fn other_libraries(&self, row: usize) -> bool {
        let rows = self.scene.recording().rows();
        let Some(id) = rows.get(row).map(|r| r.id) else {
            return false;
        };
        let Ok(memory) = self.scene.recording().memory(id, self.scene.process()) else {
            return false;
        };
        let code = |space: &stillframe_image::AddressSpace| -> Vec<(u64, Vec<u8>)> {
            let mapped = space.mappings.iter().filter(|m| m.execute);
            mapped
                .filter_map(|m| Some((m.start, space.file_of(m)?.path.clone())))
                .collect()
        };
        code(memory.layout()) != code(self.scene.space())
    }

    fn dying(&self) -> Option<(u32, i32)> {
        let threads = &self.scene.image().threads;
        threads
            .iter()
            .find_map(|t| Some((t.tid, t.signal.as_ref()?.signal)))
    }

    /// What `?` gets.
    fn first_stop(&mut self) -> String {
        match self.dying() {
            Some((tid, signal)) => self.stop(Motion::Step, Halt::Fatal(tid, signal)),
            None => self.stop(Motion::Step, Halt::Moved),
        }
    }

    fn stop(&mut self, motion: Motion, halt: Halt) -> String {
        let mut signal = signals::TRAP;
        let mut tid = self.current();
        let mut reason = String::new();
        match halt {
            // LLDB would go on where there is no signal, and takes any but this for a crash. At an
            // end it would step for ever, if the thread stays where it is.
            Halt::Moved if self.lldb && !motion.steps() => signal = signals::INT,
            Halt::Begin | Halt::End if self.lldb => signal = signals::INT,
            // Nothing was asked for that stopped it: GDB says "stopped", not "received SIGTRAP".
            Halt::Moved if !motion.steps() => signal = 0,
            Halt::Moved => {}
            Halt::Watch(n) => {
                if let Some(watch) = self.watches.iter().nth(n) {
                    let kind = if watch.access { "awatch" } else { "watch" };
                    reason = format!("{kind}:{:x};", watch.span.address);
                }
            }
            Halt::Break(thread) => {
                tid = thread;
                reason = "swbreak:;".to_owned();
            }
            Halt::Fatal(thread, number) => {
                tid = thread;
                signal = signals::of_linux(number);
                self.told = Some(self.scene.row());
            }
            Halt::Begin => reason = "replaylog:begin;".to_owned(),
            Halt::End => reason = "replaylog:end;".to_owned(),
            Halt::Interrupted => signal = signals::INT,
        }
        self.thread = tid;
        let name = if self.lldb {
            self.name_for_lldb(tid)
        } else {
            String::new()
        };
        format!("T{signal:02x}thread:{};{name}{reason}", self.id_text(tid))
    }

    /// The part of a stop that names a thread.
    fn name_for_lldb(&self, tid: u32) -> String {
        let thread = self.scene.thread(tid);
        thread.map_or_else(String::new, |t| {
            format!("hexname:{};", packet::hex(&t.name))
        })
    }
}

fn push_register(out: &mut Vec<u8>, size: usize, bytes: Option<Vec<u8>>) {
    match bytes {
        Some(bytes) => push_hex(out, &bytes),
        None => out.extend(std::iter::repeat_n(b'x', 2 * size)),
    }
}

/// Text on the debugger's console, as long as it waits for a reply.
///
/// # Errors
/// If it cannot be sent.
pub fn console(link: &mut Link, message: &str) -> Result<(), Error> {
    for part in message.as_bytes().chunks(LARGEST / 4) {
        let mut body = vec![b'O'];
        push_hex(&mut body, part);
        link.reply(&body)?;
    }
    Ok(())
}
