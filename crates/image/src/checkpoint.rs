//! A checkpoint put together, and the figures of the tick that made it.

use crate::account::Account;
use crate::descriptor::Descriptors;
use crate::file::WrittenFile;
use crate::ids::SpaceId;
use crate::mapping::AddressSpace;
use crate::objects::Objects;
use crate::process::Process;
use crate::thread::Thread;
use crate::tree::{Node, Tree};
use serde::{Deserialize, Serialize};

/// One instant of a process tree: everything except the bytes of its pages.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Checkpoint {
    /// The processes that were there, ascending by [`ProcessImage::id`]. The recorded root is
    /// [`SpaceId`] 0; a process that has ended is absent.
    pub processes: Vec<ProcessImage>,
    /// The event account of the interval that ends here.
    pub account: Account,
    /// The marks of the program that this checkpoint answers, in the order they were made.
    pub points: Vec<Point>,
    /// The files that the processes write, ascending by [`WrittenFile::space`].
    pub files: Vec<WrittenFile>,
}

/// One process of a checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct ProcessImage {
    /// Its number, and its address space's, for the life of the recording. Counts up in the order in
    /// which processes joined the tree and is never used again, unlike a pid.
    pub id: SpaceId,
    /// The process it was forked by, which may have ended; `None` for the root. Less than `id`.
    pub parent: Option<SpaceId>,
    /// Mappings.
    pub space: AddressSpace,
    /// Threads, the main thread first, then in ascending order of id.
    pub threads: Vec<Thread>,
    /// Descriptors.
    pub descriptors: Descriptors,
    /// What stands behind them.
    pub objects: Objects,
    /// Process-wide state.
    pub process: Process,
    /// What was not captured.
    pub gaps: Vec<Gap>,
}

/// A point in the program, marked by the program.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Point {
    /// The process that marked it.
    pub space: SpaceId,
    /// The thread that did.
    pub tid: u32,
    /// What the program calls it; any bytes.
    pub name: Vec<u8>,
}

impl From<ProcessImage> for Checkpoint {
    /// One process, with nothing on account.
    fn from(process: ProcessImage) -> Self {
        Self {
            processes: vec![process],
            ..Self::default()
        }
    }
}

impl Checkpoint {
    /// The process that stands for the whole: the recorded root or, once that has ended, the oldest
    /// process left. `None` only if there is no process at all, which no recording holds.
    pub fn root(&self) -> Option<&ProcessImage> {
        self.processes.first()
    }

    /// The process of a number.
    pub fn process(&self, id: SpaceId) -> Option<&ProcessImage> {
        let at = self.processes.binary_search_by_key(&id, |p| p.id).ok()?;
        self.processes.get(at)
    }

    /// The processes of a pid: one, unless the tree spans several pid namespaces.
    pub fn by_pid(&self, pid: u32) -> impl Iterator<Item = &ProcessImage> {
        self.processes.iter().filter(move |p| p.process.pid == pid)
    }

    /// Who is whose child.
    pub fn tree(&self) -> Tree {
        let node = |p: &ProcessImage| Node {
            id: p.id,
            parent: p.parent,
        };
        Tree {
            processes: self.processes.iter().map(node).collect(),
        }
    }

    /// Threads of all processes.
    pub fn thread_count(&self) -> usize {
        self.processes.iter().map(|p| p.threads.len()).sum()
    }
}

/// Something that exists in the process and is not in the checkpoint.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub struct Gap {
    /// What it is about, e.g. `mapping 7f12a000-7f12b000` or `fd 7`.
    pub subject: String,
    /// What is missing and why, in one sentence.
    pub reason: String,
}

/// Why a checkpoint is special. A bit set.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Marks(pub u32);

impl Marks {
    /// Every page was captured anew: the first one, or the first after `exec`.
    pub const FULL: Self = Self(1);
    /// Taken as a fatal signal was about to be delivered.
    pub const CRASH: Self = Self(2);
    /// Taken as the process was exiting.
    pub const EXIT: Self = Self(4);
    /// First one after `exec`.
    pub const EXEC: Self = Self(8);
    /// The program asked for it, at points that it marked.
    pub const POINT: Self = Self(16);
    /// First one in which some process of the tree appears.
    pub const FORK: Self = Self(32);
    /// First one after a process was taken back to an earlier checkpoint.
    pub const ROLLBACK: Self = Self(64);

    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// The names of the bits set, in bit order.
    pub fn names(self) -> impl Iterator<Item = &'static str> {
        [
            (Self::FULL, "full"),
            (Self::CRASH, "crash"),
            (Self::EXIT, "exit"),
            (Self::EXEC, "exec"),
            (Self::POINT, "point"),
            (Self::FORK, "fork"),
            (Self::ROLLBACK, "rollback"),
        ]
        .into_iter()
        .filter_map(move |(bit, name)| self.contains(bit).then_some(name))
    }
}

/// The account of one tick. Times are nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Tick {
    /// Since the recording began (CLOCK_MONOTONIC), taken when all threads had stopped.
    pub at_ns: u64,
    /// The same instant on the wall clock, since the epoch.
    pub wall_ns: u64,
    /// Why it is special.
    pub marks: Marks,
    /// Processes in the checkpoint. The store counts them when it commits.
    pub processes: u32,
    /// Threads in the checkpoint, of all processes.
    pub threads: u32,
    /// Ticks that were due since the previous checkpoint and were not taken.
    pub skipped: u32,
    /// Pages found written since the previous checkpoint.
    pub dirty_pages: u64,
    /// Of those, copied while the target ran and not written again.
    pub precopied_pages: u64,
    /// Pages copied because their mapping cannot be tracked.
    pub untracked_pages: u64,
    /// Stops made before the boundary to find written pages: pre-copy rounds, and boundaries given
    /// up because a page was written before it was copied.
    pub precopy_stops: u32,
    /// Time the target stood still for them, and for reading state by calls made inside it.
    pub precopy_pause_ns: u64,
    /// The boundary, by phase.
    pub phases: Phases,
}

impl Tick {
    /// Time the target stood still at the boundary, first interrupt to last resume.
    pub const fn pause_ns(&self) -> u64 {
        let p = &self.phases;
        p.stop + p.layout + p.scan + p.threads + p.copy + p.state + p.resume
    }
}

/// Phases of a boundary, nanoseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Phases {
    /// From the first interrupt until every thread had stopped.
    pub stop: u64,
    /// Reading the mappings and registering new ones.
    pub layout: u64,
    /// Finding and protecting what was written.
    pub scan: u64,
    /// Registers and signal state of the threads.
    pub threads: u64,
    /// Copying pages.
    pub copy: u64,
    /// Descriptors and process-wide state.
    pub state: u64,
    /// Resuming.
    pub resume: u64,
}
