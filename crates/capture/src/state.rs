//! Threads, descriptors and process-wide state.
//!
//! Registers, signal masks and queues, file offsets, and all of the process that /proc and system
//! calls tell from outside are read at every boundary. What only the process itself tells is asked
//! for when there is reason to ([`asked`]). What cannot change but by `exec`, or costs much and is
//! no part of what a restore needs to the instant (details of descriptors), is read at special
//! checkpoints and at most once a second otherwise, always inside a boundary.

mod asked;

use asked::{Answers, Told};
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use stillframe_image::{
    CheckpointId, Descriptors, Gap, Process, ProcessImage, RobustList, Rseq, SigInfo, SignalAction,
    Thread,
};
use stillframe_linux::inject::Injector;
use stillframe_linux::objects::Door;
use stillframe_linux::proc::fds::{Depth, Fds};
use stillframe_linux::proc::moving::{Moving, Name};
use stillframe_linux::proc::{identity, process};
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

/// How often state that changes seldom is read.
const SLOW: Duration = Duration::from_secs(1);

/// Threads whose names are read at every boundary; those of others once a second.
const NAMED: usize = 64;

/// Boundaries after which a thread has registered with the kernel what its C library registers.
const YOUNG: u32 = 4;

/// Kernel-side state of a target other than its memory.
#[derive(Debug)]
pub struct State {
    pid: u32,
    /// The thread through which /proc is read.
    via: u32,
    threads: Vec<Thread>,
    known: HashMap<u32, Known>,
    fds: Fds,
    descriptors: Descriptors,
    /// The way to the descriptors, and whether any were opened or closed since the last boundary.
    door: Option<Door>,
    descriptors_moved: bool,
    process: Process,
    moving: Moving,
    read_at: Option<Instant>,
    answers: Answers,
}

/// Of one thread.
#[derive(Debug, Default)]
struct Known {
    name: Vec<u8>,
    /// Where that is read again and again; none if it could not be opened, or there are too many.
    named: Option<Name>,
    robust_list: Option<RobustList>,
    rseq: Option<Rseq>,
    /// Boundaries that saw it.
    age: u32,
}

impl State {
    /// For process `pid`.
    ///
    /// # Errors
    /// If it is gone or may not be looked at.
    pub fn new(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            via: pid,
            threads: Vec::new(),
            known: HashMap::new(),
            fds: Fds::open(pid)?,
            descriptors: Descriptors::default(),
            door: Door::open(pid).ok(),
            descriptors_moved: false,
            process: process::read(pid)?,
            moving: Moving::open(pid, pid)?,
            read_at: None,
            answers: Answers::default(),
        })
    }

    /// From now on the process is looked at through its thread `tid`: /proc shows nothing of a
    /// process through a main thread that has ended.
    ///
    /// # Errors
    /// If that thread is gone, too.
    pub fn look_through(&mut self, tid: u32) -> Result<()> {
        self.via = tid;
        self.fds = Fds::open(tid)?;
        self.moving = Moving::open(self.pid, tid)?;
        Ok(())
    }

    /// The process was made what it was at an earlier checkpoint: all of it is read again, but for
    /// what only the process itself tells, which is as it was then. `number`: threads' numbers now.
    pub fn adopt(&mut self, image: &ProcessImage, number: impl Fn(u32) -> u32) {
        self.read_at = None;
        self.known.clear();
        let of = |t: &Thread| {
            let told = Told {
                alt_stack: t.alt_stack,
                tid_address: t.tid_address,
            };
            (number(t.tid), told)
        };
        let threads = image.threads.iter().map(of).collect();
        self.answers.adopt(&image.process, threads);
    }

    /// Whether something is missing, or may have changed, that only the target itself can be asked
    /// for.
    pub fn wants_injection(&self) -> bool {
        self.answers.wants()
    }

    /// Asks for it between boundaries, with at most `calls` calls made inside the target. What
    /// cannot be had is named in [`State::gaps`].
    pub fn inject(&mut self, injector: &mut Injector, halt: &mut Halt<'_>, calls: usize) {
        self.answers.ask(injector, halt, calls);
    }

    /// Reads the threads' registers and signal state.
    ///
    /// # Errors
    /// If the target is gone.
    pub fn read_threads(&mut self, halt: &mut Halt<'_>) -> Result<()> {
        let slow = self.slow_is_due();
        let tids = halt.threads().to_vec();
        self.threads.resize_with(tids.len(), Thread::default);
        let mut count = 0;
        for tid in &tids {
            let thread = &mut self.threads[count];
            match halt.thread_state(*tid, thread) {
                Ok(()) => count += 1,
                Err(error) if error.is_gone() => continue,
                Err(error) => return Err(error),
            }
            let (pid, many) = (self.pid, self.known.len());
            let known = self.known.entry(*tid).or_insert_with(|| Known {
                named: (many < NAMED).then(|| Name::open(pid, *tid).ok()).flatten(),
                ..Known::default()
            });
            match &known.named {
                Some(name) => drop(name.read(&mut known.name)),
                None if slow || known.name.is_empty() => {
                    known.name = identity::thread_name(pid, *tid).unwrap_or_default();
                }
                None => {}
            }
            if slow || known.age < YOUNG {
                known.age += 1;
                known.robust_list = halt.robust_list(*tid).unwrap_or_default();
                known.rseq = halt.rseq(*tid).unwrap_or_default();
            }
            let told = self.answers.of(*tid);
            thread.name.clone_from(&known.name);
            thread.robust_list = known.robust_list;
            thread.rseq = known.rseq;
            thread.alt_stack = told.alt_stack;
            thread.tid_address = told.tid_address;
            thread.signal = None;
        }
        self.threads.truncate(count);
        if self.known.len() > tids.len() {
            self.known.retain(|tid, _| tids.contains(tid));
        }
        let main = self.pid;
        self.threads.sort_by_key(|t| (t.tid != main, t.tid));
        Ok(())
    }

    /// Notes the signal that a thread is about to die of.
    pub fn note_signal(&mut self, tid: u32, info: SigInfo) {
        if let Some(thread) = self.threads.iter_mut().find(|t| t.tid == tid) {
            thread.signal = Some(info);
        }
    }

    /// The first thing of a boundary: reads what can change of the process, and asks it inside what
    /// only it can tell, if there is reason to. Whether it was asked: a thread of it then ran, and the
    /// kernel may have written to its memory, so that must come before memory is looked at.
    ///
    /// # Errors
    /// If the target is gone.
    pub fn ask(&mut self, halt: &mut Halt<'_>, now: CheckpointId, dying: bool) -> Result<bool> {
        let seen = self.moving.read(&mut self.process)?;
        let (threads, timers) = (halt.threads(), &self.process.posix_timers);
        self.answers.see(now, seen, threads, timers);
        // A thread about to die of a signal is left to it.
        let asks = !dying && self.answers.wants_now();
        if asks {
            self.answers.ask_now(halt);
        }
        Ok(asks)
    }

    /// Reads descriptors, and process-wide state if it is due or `whole`.
    ///
    /// # Errors
    /// If the target is gone.
    pub fn read_rest(&mut self, halt: &mut Halt<'_>, now: CheckpointId, whole: bool) -> Result<()> {
        let due = whole || self.slow_is_due();
        let depth = if due {
            Depth::Everything
        } else {
            Depth::Moving
        };
        let change = self.fds.refresh(&mut self.descriptors, depth)?;
        self.descriptors_moved = change.opened > 0 || change.closed > 0;
        if due {
            self.read_at = Some(Instant::now());
            let mut read = process::read(self.via)?;
            read.pid = self.pid;
            read.as_of = now;
            self.process = read;
        }
        if let Some(main) = self.threads.first().filter(|t| t.tid == self.pid) {
            self.process.name.clone_from(&main.name);
        }
        self.answers.complete(&mut self.process);
        self.process.pending.clear();
        halt.shared_pending(&mut self.process.pending)?;
        Ok(())
    }

    fn slow_is_due(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= SLOW)
    }

    /// Threads in the last checkpoint, the main thread first.
    pub fn threads(&self) -> &[Thread] {
        &self.threads
    }

    /// Threads that the last stop interrupted in the program's own code, not in a system call.
    pub fn running(&self) -> usize {
        let interrupted = |t: &&Thread| t.registers.orig_rax == u64::MAX;
        self.threads.iter().filter(interrupted).count()
    }

    /// Descriptors as last read.
    pub const fn descriptors(&self) -> &Descriptors {
        &self.descriptors
    }

    /// Numbers of descriptors that are new since the boundary before, ascending.
    pub fn opened(&self) -> &[u32] {
        self.fds.opened()
    }

    /// Whether descriptors were opened or closed since the boundary before.
    pub const fn descriptors_moved(&self) -> bool {
        self.descriptors_moved
    }

    /// A copy of a descriptor.
    ///
    /// # Errors
    /// If it cannot be had.
    pub fn take_descriptor(&self, fd: u32) -> Result<OwnedFd> {
        match &self.door {
            Some(door) => door.take(fd),
            None => Err(Error::ProcessGone(self.pid)),
        }
    }

    /// The thread through which /proc is read.
    pub const fn via(&self) -> u32 {
        self.via
    }

    /// The foreground process group of the controlling terminal, 0 without one.
    pub fn foreground(&self) -> u32 {
        identity::foreground(self.via)
    }

    /// Process-wide state as last read.
    pub const fn process(&self) -> &Process {
        &self.process
    }

    /// What of this state is not in the checkpoint.
    pub fn gaps(&self, gaps: &mut Vec<Gap>) {
        for thread in &self.threads {
            if thread.alt_stack.is_none() {
                gaps.push(Gap {
                    subject: format!("thread {}", thread.tid),
                    reason: "alternate signal stack and tid address not read yet".to_owned(),
                });
            }
        }
        if self
            .process
            .actions
            .iter()
            .any(|a| a.handler == SignalAction::UNKNOWN)
        {
            gaps.push(Gap {
                subject: "signal actions".to_owned(),
                reason: "addresses of some handlers not read yet".to_owned(),
            });
        }
    }
}
