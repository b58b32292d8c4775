//! Why a process cannot be attached to, or a program not started.

use super::status::{self, Machine, Status};
use crate::error::Error;
use std::fmt;

/// Why a process cannot be attached to.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum AttachError {
    /// No process has the id.
    #[error("there is no process {0}; `ps` or `pgrep` tell the number")]
    NoSuchProcess(u32),
    /// The id is that of a thread that is not a process's first.
    #[error("{tid} is a thread of process {pid}; attach to {pid}")]
    NotAProcess {
        /// What was asked for.
        tid: u32,
        /// Whose thread it is.
        pid: u32,
    },
    /// The system forbids it.
    #[error("process {pid} may not be attached to: {why}")]
    NotPermitted {
        /// The process.
        pid: u32,
        /// Which rule forbids it, and what to do.
        why: Forbidden,
    },
    /// Another process traces it.
    #[error("process {pid} is already traced by process {by} ({name}); detach that first")]
    AlreadyTraced {
        /// The process.
        pid: u32,
        /// Its tracer.
        by: u32,
        /// The tracer's name.
        name: String,
    },
    /// It has no address space of its own.
    #[error("process {0} is a kernel thread, which has no memory to record")]
    KernelThread(u32),
    /// It is not a 64-bit x86 program.
    #[error("process {0} is not an x86-64 program; only those can be recorded")]
    NotX86_64(u32),
    /// It has ended, and its parent has not taken notice.
    #[error("process {0} has already exited (it is a zombie)")]
    Zombie(u32),
    /// It is this process.
    #[error("process {0} is the recorder itself; it cannot record itself")]
    Ourselves(u32),
    /// Something else.
    #[error(transparent)]
    Other(#[from] Error),
}

/// A rule that forbids attaching.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Forbidden {
    /// It belongs to somebody else.
    OtherUser {
        /// Its user.
        owner: u32,
        /// Ours.
        us: u32,
    },
    /// It is setuid, setgid, has file capabilities, or asked not to be dumped.
    NotDumpable,
    /// Yama's `ptrace_scope`.
    Yama(u32),
    /// It has capabilities that we lack, or lives in another user namespace, or a security module
    /// refused.
    Capability,
}

impl fmt::Display for Forbidden {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::OtherUser { owner, us } => {
                write!(
                    f,
                    "it belongs to user {owner} and we are user {us}; run as that user or root"
                )
            }
            Self::NotDumpable => f.write_str(
                "it is setuid, setgid or has made itself undumpable; run as root (CAP_SYS_PTRACE)",
            ),
            Self::Yama(1) => f.write_str(
                "kernel.yama.ptrace_scope is 1 and it is not our child; start it under the \
                 recorder, or `sysctl kernel.yama.ptrace_scope=0`, or run as root",
            ),
            Self::Yama(2) => f.write_str(
                "kernel.yama.ptrace_scope is 2; run as root or `sysctl kernel.yama.ptrace_scope=0`",
            ),
            Self::Yama(n) => write!(
                f,
                "kernel.yama.ptrace_scope is {n}, which forbids tracing until the next boot"
            ),
            Self::Capability => f.write_str(
                "it has privileges that we lack, or a security module refused; run as root \
                 (CAP_SYS_PTRACE)",
            ),
        }
    }
}

/// What can be told before trying.
pub(super) fn examine(pid: u32) -> Result<(), AttachError> {
    if pid == std::process::id() {
        return Err(AttachError::Ourselves(pid));
    }
    let Ok(status) = Status::read(pid) else {
        return Err(AttachError::NoSuchProcess(pid));
    };
    match status.number("Tgid") {
        Some(leader) if leader == std::process::id() => return Err(AttachError::Ourselves(pid)),
        Some(leader) if leader != pid => {
            return Err(AttachError::NotAProcess {
                tid: pid,
                pid: leader,
            });
        }
        _ => {}
    }
    let kernel = status::task_flags(pid, pid).is_some_and(|f| f & status::PF_KTHREAD != 0);
    if kernel || status.number("Kthread") == Some(1) {
        return Err(AttachError::KernelThread(pid));
    }
    // A process whose first thread has ended shows that thread's state but goes on.
    let ended = matches!(status.state(), Some('Z' | 'X'));
    if ended && status.number("Threads").unwrap_or(0) <= 1 {
        return Err(AttachError::Zombie(pid));
    }
    if let Some(by) = status.number("TracerPid").filter(|by| *by != 0) {
        return Err(AttachError::AlreadyTraced {
            pid,
            by,
            name: status::process_name(by),
        });
    }
    if status::machine(pid) == Machine::Other {
        return Err(AttachError::NotX86_64(pid));
    }
    Ok(())
}

/// Why the kernel said EPERM.
pub(super) fn explain(pid: u32) -> AttachError {
    if let Err(changed) = examine(pid) {
        return changed;
    }
    let us = rustix::process::geteuid().as_raw();
    let owner = Status::read(pid).ok().and_then(|s| s.number("Uid"));
    let yama = std::fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope")
        .ok()
        .and_then(|s| s.trim().parse::<u32>().ok())
        .unwrap_or(0);
    // /proc/PID belongs to root when the process is not dumpable.
    let apparent = std::os::unix::fs::MetadataExt::uid;
    let directory = std::fs::metadata(format!("/proc/{pid}"))
        .ok()
        .map(|m| apparent(&m));
    let why = match (owner, directory) {
        _ if yama >= 3 => Forbidden::Yama(yama),
        (Some(owner), _) if owner != us && us != 0 => Forbidden::OtherUser { owner, us },
        (Some(owner), Some(shown)) if shown != owner && us != 0 => Forbidden::NotDumpable,
        _ if yama >= 1 && us != 0 => Forbidden::Yama(yama),
        _ => Forbidden::Capability,
    };
    AttachError::NotPermitted { pid, why }
}
