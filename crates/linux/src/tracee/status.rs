//! The few lines of /proc that tracing itself needs.
//!
//! The rest of /proc is read elsewhere. What is here is asked at attach, and at every signal whose
//! default action would end the process.

use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io;
use std::os::unix::fs::{FileExt, MetadataExt};

/// More than any status file needs; the supplementary groups are what can make one long.
const LIMIT: usize = 1 << 20;

/// Text of a /proc/.../status file.
#[derive(Debug, Default)]
pub(super) struct Status {
    text: String,
}

impl Status {
    pub(super) fn read(pid: u32) -> io::Result<Self> {
        Self::read_path(&format!("/proc/{pid}/status"))
    }

    pub(super) fn read_thread(pid: u32, tid: u32) -> io::Result<Self> {
        Self::read_path(&format!("/proc/{pid}/task/{tid}/status"))
    }

    fn read_path(path: &str) -> io::Result<Self> {
        let mut this = Self::default();
        this.refill(&File::open(path)?)?;
        Ok(this)
    }

    /// Reads it anew through a descriptor kept open, into the same buffer.
    pub(super) fn refill(&mut self, file: &File) -> io::Result<()> {
        let mut bytes = std::mem::take(&mut self.text).into_bytes();
        bytes.clear();
        let mut chunk = [0u8; 4096];
        loop {
            let n = file.read_at(&mut chunk, bytes.len() as u64)?;
            if n == 0 || bytes.len() > LIMIT {
                break;
            }
            bytes.extend(chunk.iter().take(n));
        }
        // A thread's name can hold any bytes.
        self.text = match String::from_utf8(bytes) {
            Ok(text) => text,
            Err(e) => String::from_utf8_lossy(e.as_bytes()).into_owned(),
        };
        Ok(())
    }

    /// What follows `key:`. The name comes first in the file with its newlines escaped, so no
    /// thread can forge another line.
    pub(super) fn field(&self, key: &str) -> Option<&str> {
        self.text
            .lines()
            .find_map(|line| line.strip_prefix(key)?.strip_prefix(':'))
            .map(str::trim)
    }

    pub(super) fn number(&self, key: &str) -> Option<u32> {
        self.field(key)?
            .split_ascii_whitespace()
            .next()?
            .parse()
            .ok()
    }

    pub(super) fn mask(&self, key: &str) -> Option<u64> {
        u64::from_str_radix(self.field(key)?, 16).ok()
    }

    /// One letter: R, S, D, T, t, Z, X ...
    pub(super) fn state(&self) -> Option<char> {
        self.field("State")?.chars().next()
    }
}

/// PF_KTHREAD: a thread of the kernel's own.
pub(super) const PF_KTHREAD: u64 = 0x0020_0000;
/// PF_IO_WORKER | PF_USER_WORKER: threads that io_uring and vhost start inside a process and that
/// never run its code.
pub(super) const PF_WORKER: u64 = 0x0000_0010 | 0x0000_4000;

/// The flags (PF_*) of a thread, from its `stat` line.
pub(super) fn task_flags(pid: u32, tid: u32) -> Option<u64> {
    let line = std::fs::read(format!("/proc/{pid}/task/{tid}/stat")).ok()?;
    let line = String::from_utf8_lossy(&line);
    // The name is in parentheses and may hold any, so the last one ends it.
    let (_, rest) = line.rsplit_once(')')?;
    // state ppid pgrp session tty tpgid flags
    rest.split_ascii_whitespace().nth(6)?.parse().ok()
}

/// Thread ids of a process as /proc shows them now, ascending.
pub(super) fn list_threads(pid: u32) -> Result<Vec<u32>> {
    let path = format!("/proc/{pid}/task");
    let gone = |source: io::Error| match source.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Error::ProcessGone(pid),
        _ => Error::Syscall {
            what: "readdir",
            target: Target::Path(path.clone()),
            source,
        },
    };
    let mut tids = Vec::new();
    for entry in std::fs::read_dir(&path).map_err(&gone)? {
        let name = entry.map_err(&gone)?.file_name();
        tids.extend(name.to_str().and_then(|n| n.parse::<u32>().ok()));
    }
    tids.sort_unstable();
    Ok(tids)
}

/// Whether `tid` is a thread of `pid`.
pub(super) fn is_thread_of(pid: u32, tid: u32) -> bool {
    std::fs::metadata(format!("/proc/{pid}/task/{tid}")).is_ok()
}

/// Threads of a process, by the link count of its `task` directory kept open: much cheaper than
/// listing it.
pub(super) fn count_threads(task: &File) -> Option<usize> {
    let links = task.metadata().ok()?.nlink();
    usize::try_from(links.checked_sub(2)?).ok()
}

/// The system call a thread is blocked in; `None` if it runs or may not be asked.
pub(super) fn blocked_in(pid: u32, tid: u32) -> Option<i64> {
    let line = std::fs::read_to_string(format!("/proc/{pid}/task/{tid}/syscall")).ok()?;
    line.split_ascii_whitespace().next()?.parse().ok()
}

/// Name of a thread, without a terminator.
pub(super) fn thread_name(pid: u32, tid: u32) -> Option<Vec<u8>> {
    let mut name = std::fs::read(format!("/proc/{pid}/task/{tid}/comm")).ok()?;
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    Some(name)
}

/// Name of a process for messages.
pub(super) fn process_name(pid: u32) -> String {
    thread_name(pid, pid).map_or_else(
        || "?".into(),
        |n| String::from_utf8_lossy(&n).escape_debug().to_string(),
    )
}

/// What sort of program a process runs.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Machine {
    X86_64,
    Other,
    /// Not to be found out: no executable, or not ours to read.
    Unknown,
}

/// Looks at the executable's ELF header.
pub(super) fn machine(pid: u32) -> Machine {
    let mut header = [0u8; 20];
    let read = File::open(format!("/proc/{pid}/exe")).and_then(|f| f.read_exact_at(&mut header, 0));
    if read.is_err() {
        return Machine::Unknown;
    }
    match header {
        // 64-bit, little-endian, EM_X86_64.
        [0x7f, b'E', b'L', b'F', 2, 1, .., 62, 0] => Machine::X86_64,
        [0x7f, b'E', b'L', b'F', ..] => Machine::Other,
        _ => Machine::Unknown,
    }
}

/// Whether the default action of a signal ends the process.
pub(super) const fn kills_by_default(signal: i32) -> bool {
    !matches!(
        signal,
        libc::SIGCHLD
            | libc::SIGCONT
            | libc::SIGURG
            | libc::SIGWINCH
            | libc::SIGSTOP
            | libc::SIGTSTP
            | libc::SIGTTIN
            | libc::SIGTTOU
    )
}

/// Bit of a signal in a mask.
pub(crate) const fn bit(signal: i32) -> u64 {
    if signal >= 1 && signal <= 64 {
        1 << (signal - 1)
    } else {
        0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn own_status_is_understood() {
        let me = std::process::id();
        let s = Status::read(me).unwrap();
        assert_eq!(s.number("Tgid"), Some(me));
        assert!(s.mask("SigCgt").is_some());
        assert!(s.state().is_some());
        assert_eq!(machine(me), Machine::X86_64);
        assert!(task_flags(me, me).is_some());
        assert!(list_threads(me).unwrap().contains(&me));
        let dir = File::open(format!("/proc/{me}/task")).unwrap();
        assert!(count_threads(&dir).unwrap() >= 1);
    }

    #[test]
    fn kernel_threads_are_recognised() {
        // kthreadd is 2 in the first PID namespace; elsewhere there is none to look at.
        if process_name(2) == "kthreadd" {
            assert!(task_flags(2, 2).unwrap() & PF_KTHREAD != 0);
        }
        let me = std::process::id();
        assert_eq!(task_flags(me, me).unwrap() & PF_KTHREAD, 0);
    }
}
