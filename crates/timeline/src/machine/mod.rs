//! Moments of a recording as a debugger sees them: memory, threads, registers, modules.
//!
//! `store` knows bytes and `symbols` knows their meaning; neither knows the other. A [`Machine`]
//! joins them for one recording and keeps what is dear across moments: modules stay loaded, and the
//! list of modules is made again only where mappings changed.

mod modules;
mod registers;

pub(crate) use modules::same_files;
pub use modules::{Options, RecordedFile, unchanged};
pub use registers::ThreadRegisters;

use modules::Modules;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};
use stillframe_image::{AddressSpace, CheckpointId, SpaceId, Thread};
use stillframe_store::{Error, Recording};
use stillframe_symbols::{Frame, Limits, Program, Stack, Unreadable};

/// Programs kept for address spaces seen before.
const PROGRAMS: usize = 64;

/// A recording, and the modules of its processes.
#[derive(Debug)]
pub struct Machine {
    recording: Arc<Recording>,
    modules: Modules,
    programs: Mutex<Vec<(Arc<AddressSpace>, Arc<Program>)>>,
}

impl Machine {
    /// For a recording.
    pub fn new(recording: Arc<Recording>, options: Options) -> Self {
        Self {
            recording,
            modules: Modules::new(options),
            programs: Mutex::default(),
        }
    }

    /// Takes a newer reading of the same recording: what is loaded stays loaded.
    pub fn renew(&mut self, recording: Arc<Recording>) {
        self.recording = recording;
    }

    /// The recording.
    pub const fn recording(&self) -> &Arc<Recording> {
        &self.recording
    }

    /// A process at a checkpoint.
    ///
    /// # Errors
    /// If there is no such checkpoint or process, or it is damaged.
    pub fn at(&self, checkpoint: CheckpointId, process: SpaceId) -> Result<View<'_>, Error> {
        let memory = self.recording.memory(checkpoint, process)?;
        Ok(View {
            machine: self,
            memory: RecordedMemory(memory),
            threads: OnceLock::new(),
            program: OnceLock::new(),
        })
    }

    /// The modules of an address space, found once for mappings that stay the same.
    fn program(&self, memory: &RecordedMemory<'_>) -> Arc<Program> {
        let layout = memory.0.shared_layout();
        let lock = || self.programs.lock().unwrap_or_else(PoisonError::into_inner);
        let find = |same: &dyn Fn(&Arc<AddressSpace>) -> bool| {
            let programs = lock();
            let found = programs.iter().find(|(known, _)| same(known));
            found.map(|(_, program)| Arc::clone(program))
        };
        if let Some(known) = find(&|known| Arc::ptr_eq(known, &layout)) {
            return known;
        }
        let program = find(&|known| modules::same_files(known, &layout))
            .unwrap_or_else(|| Arc::new(self.modules.program(&self.recording, memory)));
        let mut programs = lock();
        if programs.len() >= PROGRAMS {
            programs.remove(0);
        }
        programs.push((layout, Arc::clone(&program)));
        program
    }
}

/// Memory of a recording, as what reads symbols wants it.
#[derive(Clone, Debug)]
pub struct RecordedMemory<'a>(stillframe_store::Memory<'a>);

impl<'a> RecordedMemory<'a> {
    /// The recording's own view of it.
    pub const fn inner(&self) -> &stillframe_store::Memory<'a> {
        &self.0
    }
}

impl stillframe_symbols::Memory for RecordedMemory<'_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        self.0.read(address, out).map_err(|error| {
            let at = match &error {
                Error::Unmapped { address, .. } | Error::Unavailable { address, .. } => *address,
                _ => address,
            };
            let reason = match error {
                Error::Unmapped { .. } => "it is not mapped".to_owned(),
                Error::Unavailable { reason, .. } => reason,
                other => other.to_string(),
            };
            // A page is missing as a whole; the first byte wanted of it is.
            let address = at.max(address);
            Unreadable { address, reason }
        })
    }
}

/// A process at a checkpoint. Parts are read when they are asked for.
#[derive(Debug)]
pub struct View<'a> {
    machine: &'a Machine,
    memory: RecordedMemory<'a>,
    threads: OnceLock<Vec<Thread>>,
    program: OnceLock<Arc<Program>>,
}

impl<'a> View<'a> {
    /// What it is a view of.
    pub const fn machine(&self) -> &'a Machine {
        self.machine
    }

    /// The checkpoint.
    pub const fn checkpoint(&self) -> CheckpointId {
        self.memory.0.checkpoint()
    }

    /// The process.
    pub const fn process(&self) -> SpaceId {
        self.memory.0.space()
    }

    /// Its memory.
    pub const fn memory(&self) -> &RecordedMemory<'a> {
        &self.memory
    }

    /// Its mappings.
    pub fn layout(&self) -> &AddressSpace {
        self.memory.0.layout()
    }

    /// Its threads, the main thread first.
    ///
    /// # Errors
    /// If they are damaged.
    pub fn threads(&self) -> Result<&[Thread], Error> {
        if let Some(threads) = self.threads.get() {
            return Ok(threads);
        }
        let threads = self
            .machine
            .recording
            .threads(self.checkpoint(), self.process())?;
        Ok(self.threads.get_or_init(|| threads))
    }

    /// The registers of a thread; `None` if there is no such thread.
    ///
    /// # Errors
    /// As [`View::threads`].
    pub fn registers(&self, tid: u32) -> Result<Option<ThreadRegisters<'_>>, Error> {
        let mut threads = self.threads()?.iter();
        Ok(threads.find(|t| t.tid == tid).map(ThreadRegisters::new))
    }

    /// The call stack of a thread, the innermost frame first; inlined calls are frames of their own.
    /// Empty if there is no such thread.
    ///
    /// # Errors
    /// As [`View::threads`].
    pub fn frames(&self, tid: u32) -> Result<Vec<Frame>, Error> {
        let thread = self.threads()?.iter().find(|t| t.tid == tid);
        let stack = thread.map(|t| self.stack_of(t, Limits::default()));
        Ok(stack.map(|s| s.frames).unwrap_or_default())
    }

    /// The call stack of a thread of this moment, with the reason for its end.
    pub fn stack_of(&self, thread: &Thread, limits: Limits) -> Stack {
        let registers = ThreadRegisters::new(thread);
        stillframe_symbols::stack(self.program(), &self.memory, &registers, limits)
    }

    /// Its modules. What could not be loaded is in [`Program::notes`].
    pub fn program(&self) -> &Arc<Program> {
        self.program
            .get_or_init(|| self.machine.program(&self.memory))
    }
}
