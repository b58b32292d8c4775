//! What stands behind descriptors: what it takes, beyond [`Descriptor`](crate::Descriptor), to make
//! them live again.
//!
//! A number in a process names an *open file description*, which several numbers, also of several
//! processes, may share: they then share the offset and the status flags, and a pipe's end is closed
//! only when the last of them is. So each description has a number of its own in a checkpoint
//! ([`Opened`]), and what is known of it ([`Object`]) stands once, with the first process that has
//! it. What the kernel tells in `fdinfo` (counts, masks, timers, watch lists, locks) is kept as text in
//! [`Descriptor::detail`](crate::Descriptor::detail); [`detail`] reads it.

pub mod address;
pub mod detail;
mod gaps;

pub use gaps::gaps;

use serde::{Deserialize, Serialize};

/// What stands behind the descriptors of one process.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Objects {
    /// Which description each number refers to, ascending by number.
    pub opened: Vec<Opened>,
    /// What is known of descriptions, ascending; of those that an earlier process of the checkpoint
    /// has as well, that process says it.
    pub objects: Vec<Object>,
}

/// A descriptor and the description it refers to.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Opened {
    /// Number in the process.
    pub fd: u32,
    /// Number of the description: the same in all processes of a checkpoint that share it.
    pub description: u32,
}

/// What is known of one description.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Object {
    /// Its number.
    pub description: u32,
    /// Who gets its signals, if O_ASYNC is set.
    pub owner: Option<Owner>,
    /// Its state.
    pub state: State,
}

/// Who gets SIGIO (`F_SETOWN_EX`, `F_SETSIG`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Owner {
    /// F_OWNER_TID (0), F_OWNER_PID (1) or F_OWNER_PGRP (2).
    pub kind: i32,
    /// Of the thread, process or group.
    pub id: i32,
    /// Signal, 0 for SIGIO.
    pub signal: i32,
}

/// State of a description, by what it is.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum State {
    /// An end of a pipe or FIFO. Its inode says which.
    Pipe(Pipe),
    /// A socket.
    Socket(Box<Socket>),
    /// A terminal, or the master of one.
    Terminal(Terminal),
    /// A file in memory only.
    Memory(Memory),
    /// An inotify instance.
    Inotify(Inotify),
    /// Nothing more than the descriptor says.
    Plain,
}

/// A pipe or FIFO.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Pipe {
    /// Capacity, bytes.
    pub capacity: u32,
    /// What is in it, told once, by a description that can read it; `None` if another one tells it or
    /// no process recorded can read it.
    pub content: Option<Content>,
}

/// Bytes on their way.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Content {
    /// All of them, oldest first.
    pub bytes: Vec<u8>,
    /// Lengths of the packets, if the pipe has O_DIRECT; else empty.
    pub packets: Vec<u32>,
    /// Bytes that are there and were not read.
    pub missing: u64,
}

/// A socket.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Socket {
    /// AF_*.
    pub domain: i32,
    /// SOCK_*, without flags.
    pub kind: i32,
    /// Protocol.
    pub protocol: i32,
    /// What it does.
    pub role: Role,
    /// Own address, a raw `struct sockaddr`; empty for none.
    pub local: Vec<u8>,
    /// The other end's address, likewise.
    pub peer: Vec<u8>,
    /// Inode of the other end of a connected unix socket, if the kernel tells.
    pub peer_inode: Option<u64>,
    /// Options that were read.
    pub options: Vec<SocketOption>,
    /// What waits to be received, oldest first; of a unix socket only.
    pub queue: Vec<Message>,
    /// Bytes (for a listener: connections) that wait and are not in `queue`.
    pub missing: u64,
}

/// What a socket does.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Role {
    /// Neither connected nor listening.
    #[default]
    Idle,
    /// Listening, with this backlog.
    Listening(u32),
    /// Connected.
    Connected,
    /// Was connected, or is about to be: closed or shut down by the other end, or connecting.
    Other,
}

/// One option of a socket.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct SocketOption {
    /// SOL_*.
    pub level: i32,
    /// SO_*, TCP_*, ...
    pub name: i32,
    /// Its value, as getsockopt(2) gave it.
    pub value: Vec<u8>,
}

/// A message in a socket's queue; of a stream, all that waits.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Message {
    /// Sender's address, raw; empty for none.
    pub from: Vec<u8>,
    /// Its bytes.
    pub bytes: Vec<u8>,
    /// Whether descriptors or credentials come with it, which were not read.
    pub ancillary: bool,
}

/// A terminal.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Terminal {
    /// `struct termios2`, raw; empty if it could not be read.
    pub settings: Vec<u8>,
    /// Rows, columns, and their size in pixels.
    pub size: [u16; 4],
    /// Foreground process group, 0 if it is not the process's controlling terminal.
    pub foreground: u32,
    /// For the master of a pseudo-terminal: the number of its slave in /dev/pts.
    pub master_of: Option<u32>,
    /// Bytes that wait to be read here, which were not.
    pub waiting: u32,
}

/// A file in memory only.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Memory {
    /// F_SEAL_*.
    pub seals: u32,
    /// Size, bytes.
    pub size: u64,
    /// Its bytes up to the last that is not zero, if no process recorded maps it and it is not too big.
    pub content: Option<Vec<u8>>,
    /// Whether some of its content is nowhere in the checkpoint.
    pub missing: bool,
}

/// An inotify instance.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Inotify {
    /// What it watches, in the order of fdinfo.
    pub watches: Vec<Watch>,
    /// Bytes of events that wait to be read, which were not.
    pub waiting: u32,
}

/// One watch.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Watch {
    /// Its descriptor.
    pub wd: i32,
    /// IN_*.
    pub mask: u32,
    /// What is watched, if that could be found out.
    pub path: Option<Vec<u8>>,
}

impl Objects {
    /// The description that a number refers to.
    pub fn description(&self, fd: u32) -> Option<u32> {
        let at = self.opened.binary_search_by_key(&fd, |o| o.fd).ok()?;
        self.opened.get(at).map(|o| o.description)
    }

    /// What this process says of a description.
    pub fn object(&self, description: u32) -> Option<&Object> {
        let at = self
            .objects
            .binary_search_by_key(&description, |o| o.description)
            .ok()?;
        self.objects.get(at)
    }
}
