//! State that all threads of a process share, other than memory and descriptors.

use crate::ids::CheckpointId;
use crate::thread::SigInfo;
use serde::{Deserialize, Serialize};

/// Kernel-side state of a process.
///
/// It changes seldom and costs much to read, so a checkpoint may carry it as it was at an earlier
/// one; `as_of` says at which.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Process {
    /// The checkpoint at whose boundary this was read.
    pub as_of: CheckpointId,
    /// Process id.
    pub pid: u32,
    /// Parent.
    pub parent: u32,
    /// Process group.
    pub group: u32,
    /// Session.
    pub session: u32,
    /// Controlling terminal's device number, 0 for none.
    pub terminal: u64,
    /// Name (`comm`) of the main thread.
    pub name: Vec<u8>,
    /// Path of the executable.
    pub executable: Vec<u8>,
    /// Arguments, as /proc/PID/cmdline holds them (NUL after each).
    pub arguments: Vec<u8>,
    /// The auxiliary vector, raw.
    pub auxv: Vec<u8>,
    /// Working directory.
    pub cwd: Vec<u8>,
    /// Root directory.
    pub root: Vec<u8>,
    /// File creation mask.
    pub umask: u32,
    /// Real, effective, saved and file-system user ids.
    pub uids: [u32; 4],
    /// Real, effective, saved and file-system group ids.
    pub gids: [u32; 4],
    /// Supplementary groups.
    pub groups: Vec<u32>,
    /// Inheritable, permitted, effective, bounding and ambient capabilities.
    pub capabilities: [u64; 5],
    /// PR_SET_NO_NEW_PRIVS.
    pub no_new_privs: bool,
    /// 0 none, 1 strict, 2 filter.
    pub seccomp: u32,
    /// Personality flags, if readable.
    pub personality: Option<u32>,
    /// Resource limits, RLIMIT_* by position.
    pub limits: Vec<ResourceLimit>,
    /// Actions of signals that are not at their default; if reading them needed injection that was
    /// not possible, only `handler` is meaningful and 0 or 1 (default or ignored) or
    /// [`SignalAction::UNKNOWN`].
    pub actions: Vec<SignalAction>,
    /// Signals queued for the whole process, oldest first.
    pub pending: Vec<SigInfo>,
    /// ITIMER_REAL, ITIMER_VIRTUAL and ITIMER_PROF, if they could be read.
    pub interval_timers: Option<[IntervalTimer; 3]>,
    /// POSIX timers.
    pub posix_timers: Vec<PosixTimer>,
    /// Code, data, heap, stack, arguments and environment boundaries.
    pub layout: Layout,
    /// Nice value.
    pub nice: i32,
}

/// The `mm_struct` addresses that /proc/PID/stat shows and PR_SET_MM_MAP takes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the kernel's names")]
pub struct Layout {
    pub start_code: u64,
    pub end_code: u64,
    pub start_data: u64,
    pub end_data: u64,
    pub start_brk: u64,
    /// Current program break, if known.
    pub brk: u64,
    pub start_stack: u64,
    pub arg_start: u64,
    pub arg_end: u64,
    pub env_start: u64,
    pub env_end: u64,
}

/// One soft and hard limit; `u64::MAX` is RLIM_INFINITY.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ResourceLimit {
    /// Soft.
    pub soft: u64,
    /// Hard.
    pub hard: u64,
}

/// Names of resource limits, RLIMIT_* by position.
pub const LIMIT_NAMES: [&str; 16] = [
    "cpu",
    "fsize",
    "data",
    "stack",
    "core",
    "rss",
    "nproc",
    "nofile",
    "memlock",
    "as",
    "locks",
    "sigpending",
    "msgqueue",
    "nice",
    "rtprio",
    "rttime",
];

/// The kernel's `struct sigaction` for one signal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SignalAction {
    /// Signal number.
    pub signal: u32,
    /// SIG_DFL (0), SIG_IGN (1), or the handler's address.
    pub handler: u64,
    /// SA_* flags.
    pub flags: u64,
    /// `sa_restorer`.
    pub restorer: u64,
    /// Signals blocked while the handler runs.
    pub mask: u64,
}

impl SignalAction {
    /// `handler` of a signal known to be caught, by an address that could not be read.
    pub const UNKNOWN: u64 = u64::MAX;
}

/// `struct itimerval`, microseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct IntervalTimer {
    /// Period, 0 for one shot.
    pub interval_us: u64,
    /// Until the next expiry, 0 when disarmed.
    pub value_us: u64,
}

/// A POSIX timer.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct PosixTimer {
    /// Kernel timer id.
    pub id: u32,
    /// Clock it runs on.
    pub clock: i32,
    /// Signal sent, 0 for none.
    pub signal: i32,
    /// `sigev_value` as an address.
    pub value: u64,
    /// SIGEV_* (0 signal, 1 none, 4 thread id).
    pub notify: i32,
    /// Thread notified, for SIGEV_THREAD_ID.
    pub target: u32,
    /// (interval, until next expiry) in nanoseconds, if it could be read.
    pub armed_ns: Option<(u64, u64)>,
}
