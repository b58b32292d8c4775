//! A process held under ptrace for as long as it is recorded.
//!
//! [`Tracee`] keeps every thread of one process seized while threads come and go, and answers two
//! questions: *what happens next* ([`Tracee::wait`]) and *hold still* ([`Tracee::stop`]). Between
//! the two the process runs as if we were not there: signals are passed on with what they came
//! with, job control works, children are left alone. [`Family`] does the same for a process and
//! its descendants.
//!
//! How it knows that it has all threads: every thread is seized with TRACECLONE, so a new one is
//! attached by the kernel before it runs, and its maker stops to report it. Hence, once every known
//! thread is stopped and every report has been taken, there is no unknown one. The exceptions are
//! threads made with CLONE_UNTRACED and the kernel's own helpers; the number of threads, which the
//! kernel tells cheaply, is compared at every stop to notice them.
//!
//! A recorder may be killed at any instant. The kernel then detaches all its tracees: a signal that
//! was about to be delivered is delivered, a stopped job stays stopped, everything else runs on.

mod attach;
mod bell;
mod error;
mod events;
mod family;
mod halt;
mod offspring;
mod points;
mod put;
mod remake;
mod stalls;
mod status;
mod stop;
mod wait;
mod waits;

pub use crate::launch::{Launch, LaunchError};
pub use crate::ptrace::Outcome;
pub use bell::prepare;
pub(crate) use bell::{block, first_mask, set_of, signal_fd, take_signal};
pub use error::{AttachError, Forbidden};
pub use family::{Family, FamilyHalt, FamilyStop, FamilyWake};
pub use halt::Halt;
pub use offspring::adopt_orphans;
pub use points::{NamedPoint, Wish};
pub use stalls::Stall;
pub(crate) use status::bit;
pub use stop::Stop;
pub use wait::Wake;

use crate::error::{Error, Result};
use crate::ptrace::{Resume, Running, StopKind, Stopped};
use bell::Bell;
use status::Status;
use std::collections::VecDeque;
use std::fs::File;
use std::marker::PhantomData;
use std::rc::Rc;
use std::time::{Duration, Instant};
use stillframe_image::SigInfo;

/// Something that happened to the process and that its recorder may want to know.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Event {
    /// Threads came or went. Several changes may be told by one event.
    ThreadsChanged,
    /// It runs another program now, of whose instructions none has run yet. Its first thread, the
    /// only one left, is held until [`Tracee::release`].
    Exec,
    /// A signal is about to end the process. The thread it is for is held until
    /// [`Tracee::release`]; the others run until stopped.
    Fatal {
        /// The thread.
        tid: u32,
        /// The signal.
        siginfo: SigInfo,
    },
    /// The process is exiting or being killed, its memory still there. Its threads are held until
    /// [`Tracee::release`].
    Exiting {
        /// The thread that was first to say so.
        tid: u32,
        /// As `wait` would give it: exit code in bits 8-15, or signal in bits 0-6.
        status: i32,
    },
    /// It has ended. There is nothing left to detach from.
    Ended(Outcome),
    /// Job control stopped it.
    JobStopped,
    /// Job control let it go on.
    JobContinued,
    /// It was made by a followed process ([`Family`]); it says so itself. One that is killed before
    /// it has stopped for the first time never says so, nor that it ended.
    Born {
        /// Who made it.
        parent: u32,
        /// It runs in its parent's memory (`vfork`, `posix_spawn`, `clone` with CLONE_VM) and is
        /// not a process of its own before it execs. It is not held. Without that, it is held
        /// before its first instruction, until [`Family::release`].
        shares_memory: bool,
    },
    /// A thread asks for something. It is held until it is answered, by [`Tracee::answer`] or
    /// [`Tracee::points_taken`]; the others run.
    Point {
        /// The thread.
        tid: u32,
        /// What it asks.
        wish: Wish,
    },
}

impl Event {
    /// Whether the process waits, in whole or in part, until this is dealt with.
    const fn is_urgent(&self) -> bool {
        matches!(
            self,
            Self::Exec
                | Self::Fatal { .. }
                | Self::Exiting { .. }
                | Self::Ended(_)
                | Self::Born {
                    shares_memory: false,
                    ..
                }
        )
    }
}

/// All threads of one process, seized.
///
/// The kernel knows a tracer by thread: a `Tracee` stays on the thread that made it. Dropping it
/// detaches, as well as that can be done without reporting errors.
#[derive(Debug)]
pub struct Tracee {
    pid: u32,
    /// Ascending.
    threads: Vec<Thread>,
    /// Ids of `threads` that can run, in the same order.
    tids: Vec<u32>,
    /// Kernel helpers inside the process (io_uring, vhost), which cannot be stopped.
    workers: Vec<u32>,
    /// Processes that share memory with a tracee and were attached to us with it, on their way out.
    strays: Vec<Running>,
    /// Its children are ours too.
    follow: bool,
    /// Children it was seen to make, for the family to take in.
    children: Vec<Child>,
    /// The process that it was last made to make, if its children were to be ours for that.
    made: Option<u32>,
    birth: Birth,
    /// It runs in another process's memory.
    guest: Option<Guest>,
    stalls: Vec<Stall>,
    queue: VecDeque<Event>,
    job_stopped: bool,
    dying: Option<Dying>,
    /// Its exit has been reported and released: exit stops need no more attention.
    doomed: bool,
    outcome: Option<Outcome>,
    bell: Rc<Bell>,
    status_file: File,
    status: Status,
    task_dir: File,
    points: points::Points,
    _stays_on_its_thread: PhantomData<*const ()>,
}

#[derive(Debug)]
struct Thread {
    tid: u32,
    state: State,
    /// Stopped for something that was reported, until released.
    held: bool,
    /// It has execed and will be held once its trap comes.
    execed: bool,
    /// Made by a followed process, and its first stop is to come.
    newborn: bool,
    /// When it was seen to have stopped.
    seen: Instant,
    /// Ended, but not to be reaped while others live.
    zombie: bool,
    /// Interrupted system calls.
    waits: waits::Waits,
    /// What it asks of us.
    point: Option<points::Asking>,
}

#[derive(Debug)]
enum State {
    Running(Running),
    /// In a group stop, able to report.
    Listening(Running),
    Stopped(Stopped),
    /// Past its exit stop: there is only its end to come.
    Ending(Running),
    /// Between two states.
    Moving,
}

/// A process that a followed one has made.
#[derive(Clone, Copy, Debug)]
struct Child {
    pid: u32,
    /// What its parent called, by the stop that told of it.
    how: StopKind,
}

/// How far a process that was made by a followed one has come into the world.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Birth {
    /// It was there before, or all has been told.
    Over,
    /// It has reported before its parent told of it.
    Unclaimed { since: Instant },
    /// Its parent has told of it, its own first stop is to come.
    Expected { parent: u32 },
}

/// A process in another one's memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Guest {
    /// Whose memory it is.
    host: u32,
    /// Who made it: the host, or another of its guests.
    maker: u32,
    /// Its maker waits in the kernel until it execs or ends, and cannot be stopped until then.
    awaited: bool,
}

/// The process seems to be on its way out.
#[derive(Debug)]
struct Dying {
    since: Instant,
    tid: u32,
    status: i32,
    /// It is not another thread's `exec` that ends these.
    certain: bool,
    reported: bool,
}

/// How long threads may take to reach their exit stops once one has.
const DYING_LIMIT: Duration = Duration::from_millis(300);
/// How long to wonder whether it is an exit or an `exec`.
const WONDER_LIMIT: Duration = Duration::from_millis(100);

impl Tracee {
    /// The process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Its threads that can still run, ascending. Not the kernel's helpers.
    pub fn tids(&self) -> &[u32] {
        &self.tids
    }

    /// Threads inside the process that belong to the kernel (io_uring's and vhost's). They cannot be
    /// stopped and have no registers; what they write is the kernel's writing. Looked at whenever
    /// the number of threads is not the one expected.
    pub fn kernel_workers(&self) -> &[u32] {
        &self.workers
    }

    /// Whether it has ended.
    pub const fn has_exited(&self) -> bool {
        self.outcome.is_some()
    }

    /// How it ended, once it has.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether job control has it stopped.
    pub const fn is_job_stopped(&self) -> bool {
        self.job_stopped
    }

    /// Whether the program it runs is 64-bit x86: worth asking after [`Event::Exec`].
    pub fn is_x86_64(&self) -> bool {
        status::machine(self.pid) != status::Machine::Other
    }

    /// Lets go what is held for an event, [`Event::Point`] excepted. A signal is delivered with the
    /// siginfo it came with.
    ///
    /// # Errors
    /// None if the process was killed meanwhile; else the kernel's.
    pub fn release(&mut self) -> Result<()> {
        for thread in &mut self.threads {
            if !thread.held || thread.point.is_some() {
                continue;
            }
            thread.held = false;
            thread.state = match std::mem::replace(&mut thread.state, State::Moving) {
                State::Stopped(s) => match s.kind() {
                    StopKind::Exit => State::Ending(s.resume(Resume::Continue, 0)?),
                    StopKind::Signal(n) => State::Running(s.resume(Resume::Continue, n)?),
                    StopKind::Group(_) => State::Listening(s.listen()?),
                    _ => State::Running(s.resume(Resume::Continue, 0)?),
                },
                other => other,
            };
        }
        if self.dying.take_if(|d| d.reported).is_some() {
            self.doomed = true;
        }
        self.list_tids();
        Ok(())
    }

    /// Detaches every thread. They run on; signals about to be delivered are delivered; a stopped
    /// job stays stopped.
    ///
    /// # Errors
    /// If a thread cannot be stopped, and so not be detached, for two seconds: it waits for a child
    /// it made with `vfork`, or for a device. It is released when the calling thread ends.
    pub fn detach(mut self) -> Result<()> {
        self.detach_all(Duration::from_secs(2))
    }

    fn detach_all(&mut self, limit: Duration) -> Result<()> {
        let end = Instant::now() + limit;
        let mut stuck = None;
        while !self.has_exited() {
            match self.bring_to_halt(end)? {
                stop::Brought::All => break,
                // Whatever it is, it is held or over, and detaching suits it.
                stop::Brought::Event => self.queue.clear(),
                stop::Brought::TimedOut { tid, why } => {
                    stuck = Some((tid, why));
                    break;
                }
            }
        }
        self.detach_stopped()?;
        match stuck {
            Some((tid, why)) if self.threads.iter().any(|t| t.tid == tid) => {
                Err(Error::StillAttached { tid, why })
            }
            _ => Ok(()),
        }
    }

    fn detach_stopped(&mut self) -> Result<()> {
        for thread in &mut self.threads {
            match std::mem::replace(&mut thread.state, State::Moving) {
                State::Stopped(s) => {
                    let signal = match s.kind() {
                        StopKind::Signal(n) => n,
                        _ => 0,
                    };
                    s.detach(signal)?;
                }
                other => thread.state = other,
            }
        }
        self.threads.retain(|t| !matches!(t.state, State::Moving));
        self.list_tids();
        Ok(())
    }

    fn find(&self, tid: u32) -> Option<usize> {
        self.threads.binary_search_by_key(&tid, |t| t.tid).ok()
    }

    fn list_tids(&mut self) {
        self.tids.clear();
        self.tids.extend(
            self.threads
                .iter()
                .filter(|t| !matches!(t.state, State::Ending(_)))
                .map(|t| t.tid),
        );
    }

    /// Adds a thread that is attached and, as far as known, running.
    fn add(&mut self, running: Running) {
        let tid = running.tid();
        if let Err(at) = self.threads.binary_search_by_key(&tid, |t| t.tid) {
            let state = State::Running(running);
            self.threads.insert(
                at,
                Thread {
                    tid,
                    state,
                    held: false,
                    execed: false,
                    newborn: false,
                    seen: Instant::now(),
                    zombie: false,
                    waits: waits::Waits::default(),
                    point: None,
                },
            );
            self.list_tids();
        }
    }

    fn remove(&mut self, tid: u32) {
        if let Some(at) = self.find(tid) {
            self.threads.remove(at);
            self.list_tids();
        }
    }

    /// Tells that threads changed, once until it is taken.
    fn tell_change(&mut self) {
        if !self.queue.contains(&Event::ThreadsChanged) {
            self.queue.push_back(Event::ThreadsChanged);
        }
    }
}

impl Drop for Tracee {
    fn drop(&mut self) {
        if self.threads.is_empty() || self.has_exited() {
            return;
        }
        if let Err(error) = self.detach_all(Duration::from_millis(500)) {
            tracing::warn!(pid = self.pid, %error, "could not detach");
        }
    }
}
