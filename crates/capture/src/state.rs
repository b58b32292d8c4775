//! Threads, descriptors and process-wide state.
//!
//! What changes with every instruction (registers, signal masks and queues, file offsets) is read
//! at every boundary. What changes seldom and costs much (credentials, limits, timers, signal
//! actions, alternate stacks) is read at special checkpoints and at most once a second otherwise,
//! always inside a boundary; the checkpoint says as of when.

use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::time::{Duration, Instant};
use stillframe_image::{
    AltStack, CheckpointId, Descriptors, Gap, IntervalTimer, Process, ProcessImage, RobustList,
    Rseq, SigInfo, SignalAction, Thread,
};
use stillframe_linux::inject::Injector;
use stillframe_linux::objects::Door;
use stillframe_linux::proc::fds::{Depth, Fds};
use stillframe_linux::proc::{identity, process};
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

/// How often state that changes seldom is read.
const SLOW: Duration = Duration::from_secs(1);

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
    read_at: Option<Instant>,
    injected: Injected,
}

/// Of one thread, read when it is first seen and once a second.
#[derive(Clone, Debug, Default)]
struct Known {
    name: Vec<u8>,
    robust_list: Option<RobustList>,
    rseq: Option<Rseq>,
    alt_stack: Option<AltStack>,
    tid_address: Option<u64>,
    /// Whether the last two were asked for.
    asked: bool,
}

/// What could only be read by calls made inside the target.
#[derive(Debug, Default)]
struct Injected {
    actions: Vec<SignalAction>,
    /// Signals whose action was asked for.
    asked: Vec<u32>,
    interval_timers: Option<[IntervalTimer; 3]>,
    brk: u64,
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
            read_at: None,
            injected: Injected::default(),
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
        Ok(())
    }

    /// The process was made what it was at an earlier checkpoint: all of it is read again, but for
    /// what only the process itself tells, which is as it was then. `number`: threads' numbers now.
    pub fn adopt(&mut self, image: &ProcessImage, number: impl Fn(u32) -> u32) {
        self.read_at = None;
        let of = |t: &Thread| {
            let known = Known {
                alt_stack: t.alt_stack,
                tid_address: t.tid_address,
                asked: t.alt_stack.is_some(),
                ..Known::default()
            };
            (number(t.tid), known)
        };
        self.known = image.threads.iter().map(of).collect();
        let told = |a: &&SignalAction| a.handler != SignalAction::UNKNOWN;
        self.injected.actions = image.process.actions.iter().filter(told).copied().collect();
        self.injected.asked = self.injected.actions.iter().map(|a| a.signal).collect();
    }

    /// Whether something is missing that only the target itself can be asked for.
    pub fn wants_injection(&self) -> bool {
        self.unasked_signals().next().is_some() || self.known.values().any(|k| !k.asked)
    }

    /// Signals that are caught by a handler not known yet.
    fn unasked_signals(&self) -> impl Iterator<Item = u32> + '_ {
        let caught = self
            .process
            .actions
            .iter()
            .filter(|a| a.handler == SignalAction::UNKNOWN);
        caught
            .map(|a| a.signal)
            .filter(|signal| !self.injected.asked.contains(signal))
    }

    /// Reads what only the target itself can be asked for, with at most `calls` calls made inside
    /// it. What cannot be had is named in [`State::gaps`].
    pub fn inject(&mut self, injector: &mut Injector, halt: &mut Halt<'_>, calls: usize) {
        let mut left = calls;
        for signal in self.unasked_signals().take(calls).collect::<Vec<_>>() {
            left -= 1;
            self.injected.asked.push(signal);
            match injector.sigaction(halt, signal) {
                Ok(action) => self.injected.actions.push(action),
                Err(error) => tracing::debug!("action of signal {signal}: {error}"),
            }
        }
        for tid in halt.threads().to_vec() {
            let known = self.known.entry(tid).or_default();
            if known.asked || left < 2 {
                continue;
            }
            left -= 2;
            known.asked = true;
            known.alt_stack = injector
                .sigaltstack(halt, tid)
                .inspect_err(|error| tracing::debug!("alternate stack of {tid}: {error}"))
                .ok();
            known.tid_address = injector.tid_address(halt, tid).ok();
        }
        if left >= 4 {
            self.injected.brk = injector.brk(halt).unwrap_or(self.injected.brk);
            let timers = [0, 1, 2].map(|which| injector.getitimer(halt, which).ok());
            if let [Some(real), Some(virt), Some(prof)] = timers {
                self.injected.interval_timers = Some([real, virt, prof]);
            }
        }
        let mut process = std::mem::take(&mut self.process);
        self.merge_injected(&mut process);
        self.process = process;
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
            let fresh = !self.known.contains_key(tid);
            let known = self.known.entry(*tid).or_default();
            if fresh || slow || known.name.is_empty() {
                known.name = identity::thread_name(self.pid, *tid).unwrap_or_default();
                known.robust_list = halt.robust_list(*tid).unwrap_or_default();
                known.rseq = halt.rseq(*tid).unwrap_or_default();
            }
            thread.name.clone_from(&known.name);
            thread.robust_list = known.robust_list;
            thread.rseq = known.rseq;
            thread.alt_stack = known.alt_stack;
            thread.tid_address = known.tid_address;
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
            self.merge_injected(&mut read);
            read.as_of = now;
            self.process = read;
        }
        self.process.pending.clear();
        halt.shared_pending(&mut self.process.pending)?;
        Ok(())
    }

    fn slow_is_due(&self) -> bool {
        self.read_at.is_none_or(|at| at.elapsed() >= SLOW)
    }

    /// Completes `read` with what was read by injection, as far as it still agrees.
    fn merge_injected(&self, read: &mut Process) {
        for action in &mut read.actions {
            let known = self
                .injected
                .actions
                .iter()
                .rev()
                .find(|a| a.signal == action.signal);
            if let Some(known) = known.filter(|k| same_disposition(k, action)) {
                *action = *known;
            }
        }
        read.interval_timers = self.injected.interval_timers;
        read.layout.brk = self.injected.brk;
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

/// Whether both ignore or both catch the signal.
const fn same_disposition(a: &SignalAction, b: &SignalAction) -> bool {
    (a.handler == 1) == (b.handler == 1)
}
