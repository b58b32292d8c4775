//! What several processes of a tree share, and what becomes of ends that lead out of it.

use super::gap;
use crate::error::{Error, Result};
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use stillframe_image::objects::{Content, Memory, Object, Objects, Role, State};
use stillframe_image::{Checkpoint, Descriptor, DescriptorKind, Gap, ProcessImage, SpaceId};
use stillframe_linux::objects::memory;

pub(super) const O_ACCMODE: u32 = 3;
pub(super) const O_WRONLY: u32 = 1;
pub(super) const AF_UNIX: i32 = 1;
pub(super) const SOCK_STREAM: i32 = 1;
pub(super) const SOCK_DGRAM: i32 = 2;

/// Where standard streams come from that led to a terminal or another process.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Stdio {
    /// Ours.
    #[default]
    Inherit,
    /// /dev/null.
    Null,
}

/// What becomes of what cannot come back as it was.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Policy {
    /// Standard streams.
    pub stdio: Stdio,
}

/// A description of the checkpoint: the first descriptor that refers to it, and what is known.
#[derive(Clone, Debug)]
pub(super) struct Wanted {
    pub(super) process: SpaceId,
    pub(super) descriptor: Descriptor,
    pub(super) object: Option<Object>,
    /// All numbers by which any process has it.
    pub(super) numbers: Vec<u32>,
    /// The last process that has it.
    pub(super) last: SpaceId,
    /// Working directory of the process, for relative addresses.
    pub(super) cwd: Vec<u8>,
}

/// Both ends of a pipe. The first description of each side is the end itself, others are opened anew.
#[derive(Debug)]
pub(super) struct Ends {
    pub(super) read: OwnedFd,
    pub(super) write: OwnedFd,
    /// Whether the end itself was given away, or never may be.
    pub(super) taken: [bool; 2],
}

/// Everything that outlives the making of one process. To be dropped before any process of the tree
/// runs: it may hold ends of pipes that keep a reader from seeing the end.
#[derive(Debug)]
pub struct Shared {
    pub(super) policy: Policy,
    /// Descriptions by number.
    pub(super) wanted: BTreeMap<u32, Wanted>,
    /// Made, by description.
    pub(super) made: HashMap<u32, OwnedFd>,
    /// Pipes and FIFOs by inode.
    pub(super) pipes: HashMap<u64, Ends>,
    /// Files in memory by inode.
    memory: HashMap<u64, (OwnedFd, u32)>,
    /// Pseudo-terminals: number then, number now.
    pub(super) terminals: HashMap<u32, u32>,
    /// Entries of epoll sets that are made, by description and number.
    pub(super) polled: HashSet<(u32, u32)>,
}

impl Shared {
    /// For all processes of a checkpoint that are to come back together.
    pub fn new(checkpoint: &Checkpoint, policy: Policy) -> Self {
        let images: Vec<&ProcessImage> = checkpoint.processes.iter().collect();
        Self::of(&images, policy)
    }

    /// The same, of some processes.
    pub fn of(images: &[&ProcessImage], policy: Policy) -> Self {
        let mut wanted: BTreeMap<u32, Wanted> = BTreeMap::new();
        for image in images {
            for (description, descriptor) in described(image) {
                let object = image.objects.object(description);
                let entry = wanted.entry(description).or_insert_with(|| Wanted {
                    process: image.id,
                    descriptor: descriptor.clone(),
                    object: None,
                    numbers: Vec::new(),
                    last: image.id,
                    cwd: image.process.cwd.clone(),
                });
                entry.numbers.push(descriptor.fd);
                entry.last = image.id;
                if entry.object.is_none() {
                    entry.object = object.cloned();
                }
            }
        }
        Self {
            policy,
            wanted,
            made: HashMap::new(),
            pipes: HashMap::new(),
            memory: HashMap::new(),
            terminals: HashMap::new(),
            polled: HashSet::new(),
        }
    }

    /// Has a description be this one instead of one made here, e.g. a private copy of a file.
    pub fn provide(&mut self, description: u32, fd: OwnedFd) {
        self.made.insert(description, fd);
    }

    /// A file in memory that was mapped or open, by its inode then and its name as /proc/PID/maps
    /// writes it (`/memfd:NAME (deleted)`), `size` bytes at least: to be mapped, and its pages to be
    /// written, before [`Shared::finish`]. The same for all processes.
    ///
    /// # Errors
    /// If it cannot be made.
    pub fn memory(&mut self, inode: u64, name: &[u8], size: u64) -> Result<BorrowedFd<'_>> {
        if !self.memory.contains_key(&inode) {
            let known = self.wanted.values().find_map(|w| match &w.object {
                Some(Object {
                    state: State::Memory(memory),
                    ..
                }) if w.descriptor.inode == inode => Some(memory.clone()),
                _ => None,
            });
            let wanted = known.unwrap_or(Memory {
                size,
                ..Memory::default()
            });
            let name = name.strip_prefix(b"/memfd:").unwrap_or(name);
            let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
            let made = memory::make(name, &wanted).map_err(Error::step(format!(
                "memfd {}",
                String::from_utf8_lossy(name)
            )))?;
            self.memory.insert(inode, (made, wanted.seals));
        }
        match self.memory.get(&inode) {
            Some((fd, _)) => Ok(fd.as_fd()),
            None => Err(Error::unsupported("a file in memory", "it was not made")),
        }
    }

    /// When all processes have their memory and descriptors: seals files in memory.
    pub fn finish(&mut self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        for (fd, seals) in self.memory.values() {
            if *seals != 0
                && let Err(error) = memory::seal(fd, *seals)
            {
                gaps.push(Gap {
                    subject: "a file in memory".to_owned(),
                    reason: format!("is not sealed: {error}"),
                });
            }
        }
        gaps
    }

    /// What a pipe or FIFO held.
    pub(super) fn content(&self, inode: u64) -> Option<&Content> {
        self.wanted.values().find_map(|w| match &w.object {
            Some(Object {
                state: State::Pipe(pipe),
                ..
            }) if w.descriptor.inode == inode => pipe.content.as_ref(),
            _ => None,
        })
    }

    /// Whether some process of the tree has that end of a pipe.
    pub(super) fn has_end(&self, inode: u64, writing: bool) -> bool {
        self.wanted.values().any(|w| {
            let mode = w.descriptor.flags & O_ACCMODE;
            let is_pipe = matches!(
                w.descriptor.kind,
                DescriptorKind::Pipe | DescriptorKind::Fifo
            );
            is_pipe
                && w.descriptor.inode == inode
                && (mode > O_WRONLY || (mode == O_WRONLY) == writing)
        })
    }

    /// The description of the socket with an inode.
    pub(super) fn socket_of(&self, inode: u64) -> Option<u32> {
        let mut all = self.wanted.iter();
        all.find(|(_, w)| {
            w.descriptor.kind == DescriptorKind::Socket && w.descriptor.inode == inode
        })
        .map(|(description, _)| *description)
    }

    /// Whether this is a standard stream that is to come from us.
    pub(super) fn inherited(&self, wanted: &Wanted) -> Option<u32> {
        let number = wanted.numbers.iter().copied().find(|n| *n <= 2)?;
        let outside = match &wanted.descriptor.kind {
            DescriptorKind::Terminal => !self.own_terminal(&wanted.descriptor),
            DescriptorKind::Pipe => {
                let writing = wanted.descriptor.flags & O_ACCMODE == O_WRONLY;
                !self.has_end(wanted.descriptor.inode, !writing)
            }
            DescriptorKind::Socket => match wanted.object.as_ref().map(|o| &o.state) {
                Some(State::Socket(socket)) if socket.role == Role::Connected => socket
                    .peer_inode
                    .is_none_or(|peer| self.socket_of(peer).is_none()),
                _ => false,
            },
            _ => false,
        };
        outside.then_some(number)
    }

    /// Whether the master of a slave, or the terminal's own master side, is in the tree.
    pub(super) fn own_terminal(&self, descriptor: &Descriptor) -> bool {
        descriptor.target == b"/dev/ptmx"
            || slave_number(&descriptor.target).is_some_and(|number| self.has_master(number))
    }

    fn has_master(&self, number: u32) -> bool {
        self.wanted.values().any(|w| match &w.object {
            Some(Object {
                state: State::Terminal(t),
                ..
            }) => t.master_of == Some(number),
            _ => false,
        })
    }
}

/// N of `/dev/pts/N`.
pub(super) fn slave_number(target: &[u8]) -> Option<u32> {
    std::str::from_utf8(target.strip_prefix(b"/dev/pts/")?)
        .ok()?
        .parse()
        .ok()
}

/// Descriptors with the numbers of their descriptions. A recording made before these were kept has
/// none: every descriptor then counts as a description of its own.
pub(super) fn described(image: &ProcessImage) -> impl Iterator<Item = (u32, &Descriptor)> {
    let Objects { opened, .. } = &image.objects;
    let known = !opened.is_empty();
    image.descriptors.open.iter().map(move |d| {
        let number = if known {
            image.objects.description(d.fd)
        } else {
            None
        };
        // Beyond what the recorder counts to.
        let own = (1 << 31) | (image.id.0 & 0x7ff) << 20 | (d.fd & 0xf_ffff);
        (number.unwrap_or(own), d)
    })
}

/// What would come back otherwise than it was if these processes were restored: ends that lead out of
/// the tree. What the checkpoint does not hold is named in it. Nothing is touched.
pub fn foresee(checkpoint: &Checkpoint, policy: Policy) -> Vec<Gap> {
    let shared = Shared::new(checkpoint, policy);
    let mut gaps = Vec::new();
    for wanted in shared.wanted.values() {
        if let Some(reason) = shared.outcome(wanted) {
            gaps.push(gap(wanted.descriptor.fd, reason));
        }
    }
    gaps
}

impl Shared {
    /// What becomes of a description that cannot come back as it was; `None` if it can.
    pub(super) fn outcome(&self, wanted: &Wanted) -> Option<String> {
        let descriptor = &wanted.descriptor;
        if let Some(number) = self.inherited(wanted) {
            return Some(match self.policy.stdio {
                Stdio::Inherit => {
                    format!("led outside; comes from stream {number} of the restorer")
                }
                Stdio::Null => "led outside; becomes /dev/null".to_owned(),
            });
        }
        let state = wanted.object.as_ref().map(|o| &o.state);
        match (&descriptor.kind, state) {
            (DescriptorKind::Pipe, _) => {
                let mode = descriptor.flags & O_ACCMODE;
                let writing = mode == O_WRONLY;
                (mode <= O_WRONLY && !self.has_end(descriptor.inode, !writing)).then(|| {
                    if writing {
                        "its reader is outside; writing fails with EPIPE".to_owned()
                    } else {
                        "its writer is outside; reading gives what had arrived, then the end"
                            .to_owned()
                    }
                })
            }
            (DescriptorKind::Socket, Some(State::Socket(socket))) => {
                let outside = socket
                    .peer_inode
                    .is_none_or(|p| self.socket_of(p).is_none());
                (socket.domain == AF_UNIX && socket.role == Role::Connected && outside).then(|| {
                    if socket.kind == SOCK_DGRAM && !socket.peer.is_empty() {
                        "connects again to where it sent to".to_owned()
                    } else {
                        "its other end is outside; it comes back closed by it".to_owned()
                    }
                })
            }
            (DescriptorKind::Terminal, _) if !self.own_terminal(descriptor) => Some(
                "becomes the terminal of the restorer, or /dev/null if that has none".to_owned(),
            ),
            _ => None,
        }
    }
}
