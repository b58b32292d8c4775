//! A recording as a program that a session can show.

mod code;
mod history;
mod registers;
mod sources;
mod stack;
mod time;
mod values;

use super::arguments::Launch;
use super::debuggee::{
    About, Change, Debuggee, Direction, Disassembled, Failure, FrameId, FrameInfo, HistoryStep,
    Item, ModuleInfo, Moment, Page, ScopeInfo, Signal, SourceAt, ThreadInfo, Watch,
};
use super::interrupt::Interrupt;
use code::Code;
use sources::Sources;
use std::cell::OnceCell;
use std::collections::{BTreeSet, HashMap};
use std::io::{self, Read, Write};
use std::path::Path;
use std::sync::Arc;
use stillframe_image::{CheckpointId, Marks, PAGE_SIZE, SigInfo, SpaceId, Thread, signal};
use stillframe_store::{Recording, split_moment};
use stillframe_symbols::Memory as _;
use stillframe_timeline::machine::Options;
use stillframe_timeline::{Machine, Past, View};
use time::Time;
pub use values::Node;

/// Serves one client that opens a recording; `defaults` stand for what its launch leaves open.
///
/// # Errors
/// As [`serve`](super::serve::serve).
pub fn serve(
    input: impl Read + Send + 'static,
    output: &mut impl Write,
    defaults: &Launch,
) -> io::Result<()> {
    // What is opened is borrowed by what is shown, and so has to live here.
    let opened: OnceCell<Opened> = OnceCell::new();
    super::serve::serve(input, output, |launch| {
        let mut launch = launch.clone();
        if launch.recording.is_none() {
            launch.recording.clone_from(&defaults.recording);
        }
        if launch.process.is_none() && launch.pid.is_none() {
            (launch.process, launch.pid) = (defaults.process, defaults.pid);
        }
        launch.force |= defaults.force;
        launch
            .debug_dirs
            .extend(defaults.debug_dirs.iter().cloned());
        let fresh = Opened::new(&launch)?;
        if opened.set(fresh).is_err() {
            return Err(Failure::told(
                "a recording was opened before; begin a new session",
            ));
        }
        let opened = opened.get();
        opened.map_or_else(|| Err(Failure::told("nothing is open")), Opened::debuggee)
    })
}

/// A process of a recording, opened at a moment.
#[derive(Debug)]
pub struct Opened {
    machine: Machine,
    process: SpaceId,
    at: CheckpointId,
    launch: Launch,
}

impl Opened {
    /// Opens what a client asks for.
    ///
    /// # Errors
    /// If there is no such recording, moment or process.
    pub fn new(launch: &Launch) -> Result<Self, Failure> {
        let text = launch.recording.as_deref().ok_or_else(|| {
            Failure::told("which recording? say \"recording\": \"REC\" or \"REC@MOMENT\"")
        })?;
        let (path, within) = match Path::new(text).is_dir() {
            true => (text.into(), None),
            false => split_moment(text).map_err(Failure::told)?,
        };
        let recording = Recording::open(&path).map_err(Failure::told)?;
        let at = match (&launch.moment, within) {
            (Some(moment), _) => resolve(&recording, &moment.to_string())?,
            (None, Some(moment)) => recording.resolve(&moment).map_err(Failure::told)?,
            (None, None) => resolve(&recording, "last")?,
        };
        let process = chosen(&recording, at, launch)?;
        let mut options = Options::with_directories(launch.debug_dirs.clone());
        options.force = launch.force;
        Ok(Self {
            machine: Machine::new(Arc::new(recording), options),
            process,
            at,
            launch: launch.clone(),
        })
    }

    /// The program at that moment.
    ///
    /// # Errors
    /// If the recording is damaged.
    pub fn debuggee(&self) -> Result<Recorded<'_>, Failure> {
        let recording = self.machine.recording();
        let past = Past::new(recording, self.process).map_err(Failure::told)?;
        let time = Time::new(recording, past.life());
        let position = time
            .position(self.at)
            .ok_or_else(|| Failure::told("the process is not there at that moment"))?;
        let view = self
            .machine
            .at(self.at, self.process)
            .map_err(Failure::told)?;
        Ok(Recorded {
            machine: &self.machine,
            process: self.process,
            past,
            time,
            position,
            view,
            frames: HashMap::new(),
            sources: Sources::new(&self.launch.source_map),
            functions: None,
        })
    }
}

fn resolve(recording: &Recording, text: &str) -> Result<CheckpointId, Failure> {
    let moment = text.trim().parse().map_err(Failure::told)?;
    recording.resolve(&moment).map_err(Failure::told)
}

/// The process that was asked for, else the oldest.
fn chosen(recording: &Recording, at: CheckpointId, launch: &Launch) -> Result<SpaceId, Failure> {
    let tree = recording.tree(at).map_err(Failure::told)?;
    if let Some(number) = launch.process {
        return recording
            .process(at, SpaceId(number))
            .map(|p| p.id)
            .map_err(Failure::told);
    }
    let Some(pid) = launch.pid else {
        let root = tree.processes.first().map(|node| node.id);
        return root.ok_or_else(|| Failure::told("the checkpoint holds no process"));
    };
    let mut found = Vec::new();
    let visited = recording.each_process(at, |node, process| {
        if process.is_ok_and(|p| p.process.pid == pid) {
            found.push(node.id);
        }
    });
    visited.map_err(Failure::told)?;
    match found.as_slice() {
        [one] => Ok(*one),
        [] => Err(Failure::told(format!(
            "checkpoint {at} has no process with pid {pid}"
        ))),
        _ => Err(Failure::told(format!(
            "checkpoint {at} has several processes with pid {pid}; choose one by \"process\""
        ))),
    }
}

/// A process of a recording at a moment that can be moved.
#[derive(Debug)]
pub struct Recorded<'m> {
    machine: &'m Machine,
    process: SpaceId,
    past: Past<'m>,
    time: Time<'m>,
    position: usize,
    view: View<'m>,
    /// Frames of threads at this moment, as far as they were asked for.
    frames: HashMap<u32, Arc<stack::Stack>>,
    sources: Sources,
    /// Names of functions of every module, once they were asked for.
    functions: Option<Arc<BTreeSet<String>>>,
}

impl Recorded<'_> {
    fn threads_here(&self) -> Result<&[Thread], Failure> {
        self.view.threads().map_err(Failure::told)
    }

    fn id(&self) -> CheckpointId {
        self.view.checkpoint()
    }
}

impl<'m> Debuggee for Recorded<'m> {
    type Node = Node;

    fn about(&self) -> About {
        let image = self.machine.recording().process(self.id(), self.process);
        let (name, pid) = match &image {
            Ok(image) => (
                String::from_utf8_lossy(&image.process.executable).into_owned(),
                image.process.pid,
            ),
            Err(_) => (String::new(), 0),
        };
        let mut notes = self.machine.recording().damage().to_vec();
        notes.extend(self.view.program().notes());
        About { name, pid, notes }
    }

    fn moment(&self) -> Moment {
        self.time.moment(self.position).unwrap_or_default()
    }

    fn go(&mut self, to: CheckpointId) -> Result<(), Failure> {
        if to == self.id() {
            return Ok(());
        }
        let position = self.time.position(to).ok_or_else(|| {
            Failure::told(format!(
                "there is no checkpoint {to}, or the process is not there at it"
            ))
        })?;
        self.view = self.machine.at(to, self.process).map_err(Failure::told)?;
        self.position = position;
        self.frames.clear();
        Ok(())
    }

    fn neighbour(&self, direction: Direction) -> Option<CheckpointId> {
        self.time.neighbour(self.position, direction)
    }

    fn next_marked(&self, marks: Marks, direction: Direction) -> Option<CheckpointId> {
        self.time.next_marked(self.position, marks, direction)
    }

    fn next_tagged(&self, direction: Direction) -> Option<CheckpointId> {
        self.time.next_tagged(self.position, direction)
    }

    fn resolve(&self, moment: &str) -> Result<CheckpointId, Failure> {
        resolve(self.machine.recording(), moment)
    }

    fn moments(&self, start: u64, count: u64) -> Vec<Moment> {
        self.time.moments(start, count)
    }

    fn threads(&mut self) -> Result<Vec<ThreadInfo>, Failure> {
        let threads = self.threads_here()?;
        Ok(threads
            .iter()
            .map(|t| ThreadInfo {
                tid: t.tid,
                name: String::from_utf8_lossy(&t.name).into_owned(),
                signal: t.signal.as_ref().map(told),
            })
            .collect())
    }

    fn frames(&mut self, tid: u32, limit: usize) -> Result<Vec<FrameInfo>, Failure> {
        self.stack(tid, limit).map(|s| s.shown(limit))
    }

    fn scopes(&mut self, frame: FrameId) -> Result<Vec<ScopeInfo<Node>>, Failure> {
        self.scopes_of(frame)
    }

    fn parts(&mut self, of: &Node, page: Page) -> Result<Vec<Item<Node>>, Failure> {
        self.parts_of(of, page)
    }

    fn evaluate(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        hex: bool,
    ) -> Result<Item<Node>, Failure> {
        self.value_of(frame, expression, hex)
    }

    fn holds(&mut self, frame: Option<FrameId>, expression: &str) -> Result<bool, Failure> {
        self.truth_of(frame, expression)
    }

    fn next_change(
        &mut self,
        watched: &[Watch],
        direction: Direction,
        interrupt: &Interrupt,
    ) -> Result<Option<Change>, Failure> {
        self.change(watched, direction, interrupt)
    }

    fn history(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        range: (CheckpointId, CheckpointId),
        interrupt: &Interrupt,
        visit: &mut dyn FnMut(HistoryStep) -> bool,
    ) -> Result<(), Failure> {
        self.steps(frame, expression, range, interrupt, visit)
    }

    fn read(&mut self, address: u64, out: &mut [u8]) -> usize {
        read(&self.view, address, out)
    }

    fn modules(&mut self) -> Result<Vec<ModuleInfo>, Failure> {
        let program = self.view.program();
        Ok(program
            .modules()
            .iter()
            .map(|loaded| {
                let module = &loaded.module;
                let (begin, end) = module.extent();
                let status = match (module.info().is_some(), module.symbols().is_empty()) {
                    (true, _) => "lines, types and variables",
                    (false, false) => "names of functions only",
                    (false, true) => "no symbols",
                };
                ModuleInfo {
                    start: begin.wrapping_add(loaded.bias),
                    end: end.wrapping_add(loaded.bias),
                    path: module.name().to_owned(),
                    status: status.to_owned(),
                }
            })
            .collect())
    }

    fn sources(&mut self) -> Result<Vec<String>, Failure> {
        let program = Arc::clone(self.view.program());
        Ok(self.sources.all(&program).into_iter().collect())
    }

    fn lines(&mut self, path: &str) -> Result<Option<Vec<u64>>, Failure> {
        let program = Arc::clone(self.view.program());
        Ok(self.sources.lines(&program, path))
    }

    fn has_function(&mut self, name: &str) -> Result<bool, Failure> {
        let names = self.function_names();
        Ok(names
            .iter()
            .any(|full| super::breakpoints::is_called(full, name)))
    }

    fn place_source(&mut self, path: &str) -> SourceAt {
        self.sources.place(path)
    }

    fn source(&mut self, path: &str) -> Result<String, Failure> {
        self.sources.text(path).map_err(Failure::Told)
    }

    fn disassemble(
        &mut self,
        address: u64,
        before: i64,
        count: u64,
    ) -> Result<Vec<Disassembled>, Failure> {
        let mut code = FromView(&self.view);
        Ok(code::disassemble(&mut code, address, before, count))
    }

    fn completions(
        &mut self,
        frame: Option<FrameId>,
        prefix: &str,
    ) -> Result<Vec<String>, Failure> {
        self.names(frame, prefix)
    }
}

/// Reads up to the first page that cannot be.
fn read(view: &View<'_>, address: u64, out: &mut [u8]) -> usize {
    let mut done = 0;
    while done < out.len() {
        let Some(at) = address.checked_add(done as u64) else {
            break;
        };
        let within = usize::try_from(at % PAGE_SIZE as u64).unwrap_or(0);
        let n = (PAGE_SIZE - within).min(out.len() - done);
        let Some(part) = out.get_mut(done..done + n) else {
            break;
        };
        if view.memory().read(at, part).is_err() {
            break;
        }
        done += n;
    }
    done
}

struct FromView<'a, 'm>(&'a View<'m>);

impl Code for FromView<'_, '_> {
    fn read(&mut self, address: u64, out: &mut [u8]) -> usize {
        read(self.0, address, out)
    }

    fn function(&mut self, address: u64) -> Option<(String, u64)> {
        stack::symbol(self.0.program(), address)
    }
}

/// A signal in words.
fn told(info: &SigInfo) -> Signal {
    let name = signal::name(i64::from(info.signal));
    let word = info.raw.get(16..24).and_then(|b| b.try_into().ok());
    let word = word.map(u64::from_le_bytes);
    // si_addr after a fault; si_pid where a process sent it.
    let fault = matches!(info.signal, 4 | 5 | 7 | 8 | 11) && info.code > 0 && info.code != 0x80;
    let description = match word {
        Some(address) if fault => format!("{name} (code {}) at {address:#x}", info.code),
        Some(sender) if matches!(info.code, 0 | -1 | -6) => {
            let pid = sender & 0xffff_ffff;
            format!("{name} (code {}) from process {pid}", info.code)
        }
        _ => format!("{name} (code {})", info.code),
    };
    Signal { name, description }
}
