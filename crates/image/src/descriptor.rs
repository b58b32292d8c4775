//! Open file descriptors.

use serde::{Deserialize, Serialize};

/// All descriptors of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptors {
    /// In ascending order of number.
    pub open: Vec<Descriptor>,
}

/// One open descriptor.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Descriptor {
    /// Number.
    pub fd: u32,
    /// What it refers to.
    pub kind: DescriptorKind,
    /// Open flags (O_*), O_CLOEXEC included.
    pub flags: u32,
    /// File offset, bytes.
    pub offset: u64,
    /// Target of the link in /proc/PID/fd, as the kernel writes it.
    pub target: Vec<u8>,
    /// Mount the file is on.
    pub mount: u32,
    /// Inode number.
    pub inode: u64,
    /// For regular files: (size in bytes, modification time in ns since the epoch).
    pub file: Option<(u64, i64)>,
    /// The rest of fdinfo, line by line, as the kernel wrote it.
    pub detail: Vec<u8>,
}

/// Sorts of descriptors.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[allow(missing_docs, reason = "the names are the kernel's names")]
pub enum DescriptorKind {
    Regular,
    Directory,
    Pipe,
    Fifo,
    Socket,
    Epoll,
    EventFd,
    TimerFd,
    SignalFd,
    Inotify,
    Fanotify,
    MemFd,
    PidFd,
    Userfaultfd,
    IoUring,
    Terminal,
    CharDevice,
    BlockDevice,
    /// Anything else, by the kernel's name for it.
    Other(String),
}
