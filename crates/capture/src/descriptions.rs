//! Open file descriptions: which descriptors share one, and what stands behind each.
//!
//! All of it is read inside the boundary, so it must cost little there. Which numbers share a description
//! is asked only when numbers are new, and once a second; what cannot change unseen is read then,
//! too. At every boundary only this is looked at: pipes that can be read, unix sockets and terminals,
//! sockets that have not found their role yet, files in memory that were written. Such a look is
//! a copy of the descriptor, one question (how many bytes wait), and closing the copy; contents are read only
//! where there are any.

use crate::engine::Member;
use std::collections::HashMap;
use std::os::fd::OwnedFd;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant, SystemTime, UNIX_EPOCH};
use stillframe_image::objects::{
    Inotify, Memory, Object, Objects, Opened, Pipe, Role, State, Terminal, Watch, detail,
};
use stillframe_image::{Descriptor, DescriptorKind};
use stillframe_linux::objects::{self, memory, pipe, socket, terminal, watch};

/// How often what seldom changes is read.
const SLOW: Duration = Duration::from_secs(1);

/// Bytes of a file in memory that are read at most.
const MEMORY_LIMIT: u64 = 16 << 20;

/// A file written so shortly before it was read may have been written again with the same time.
const RACY: Duration = Duration::from_millis(20);

const O_ACCMODE: u32 = 3;
const O_WRONLY: u32 = 1;
const O_ASYNC: u32 = 0o20_000;
const O_DIRECT: u32 = 0o40_000;
const O_CLOEXEC: u32 = 0o2_000_000;
const O_PATH: u32 = 0o10_000_000;

/// Descriptions of all processes of a recording.
#[derive(Debug, Default)]
pub struct Descriptions {
    next: u32,
    processes: Vec<Numbers>,
    known: HashMap<u32, Known>,
    visits: Vec<Visit>,
    tee: pipe::Tee,
    read_at: Option<Instant>,
}

/// The descriptors of one process.
#[derive(Debug)]
struct Numbers {
    pid: u32,
    opened: Vec<Opened>,
}

#[derive(Debug)]
struct Known {
    /// Which process tells of it.
    pid: u32,
    object: Object,
    /// A file in memory: size and time when its content was read, and whether that can be trusted.
    written: Option<(u64, i64)>,
    /// inotify: the text that the watches were made from.
    text: Vec<u8>,
}

/// A description that is looked at at every boundary.
#[derive(Clone, Copy, Debug)]
struct Visit {
    pid: u32,
    fd: u32,
    description: u32,
    /// Whether its content is told here.
    content: bool,
}

/// Where a descriptor is: position of its process, number, whether it is new.
struct Place {
    member: usize,
    fd: u32,
    had: Option<u32>,
}

impl Descriptions {
    /// Brings everything up to date with `members`, all of which stand still. `whole`: reads all.
    pub fn update(&mut self, members: &[Member], whole: bool) {
        let slow = whole || self.read_at.is_none_or(|at| at.elapsed() >= SLOW);
        let standing = || members.iter().filter(|m| m.stands);
        let others = !standing()
            .map(|m| m.pid)
            .eq(self.processes.iter().map(|p| p.pid));
        let moved = standing().any(|m| m.state.descriptors_moved());
        if slow || others || moved || self.diverged(members) {
            self.assign(members, slow);
            self.plan(members, slow);
        }
        if slow {
            self.read_at = Some(Instant::now());
        }
        for visit in std::mem::take(&mut self.visits) {
            let member = members.iter().find(|m| m.pid == visit.pid);
            if let Some((member, descriptor)) = member.and_then(|m| Some((m, find(m, visit.fd)?))) {
                self.look(member, descriptor, visit, members, slow);
            }
            self.visits.push(visit);
        }
    }

    /// What stands behind the descriptors of a process.
    pub fn of(&self, pid: u32) -> Objects {
        let numbers = self.processes.iter().find(|p| p.pid == pid);
        let mut objects: Vec<Object> = self
            .known
            .values()
            .filter(|k| k.pid == pid)
            .map(|k| k.object.clone())
            .collect();
        objects.sort_unstable_by_key(|o| o.description);
        Objects {
            opened: numbers.map(|n| n.opened.clone()).unwrap_or_default(),
            objects,
        }
    }

    /// Whether descriptors that shared a description do not look alike any more: a number was closed
    /// and its file opened again between two boundaries.
    fn diverged(&self, members: &[Member]) -> bool {
        for numbers in &self.processes {
            let Some(member) = members.iter().find(|m| m.pid == numbers.pid) else {
                continue;
            };
            let open = &member.state.descriptors().open;
            if open.len() != numbers.opened.len() {
                return true;
            }
            let mut last: Option<(&Opened, &Descriptor)> = None;
            for (opened, descriptor) in numbers.opened.iter().zip(open) {
                if opened.fd != descriptor.fd {
                    return true;
                }
                if let Some((before, other)) = last
                    && before.description == opened.description
                    && (other.offset != descriptor.offset
                        || (other.flags ^ descriptor.flags) & !O_CLOEXEC != 0)
                {
                    return true;
                }
                last = Some((opened, descriptor));
            }
        }
        false
    }

    /// Finds out which numbers share a description. What was known of numbers that are not new is
    /// taken over, unless all is to be asked anew.
    fn assign(&mut self, members: &[Member], anew: bool) {
        let mut buckets: HashMap<(u64, u32), Vec<Place>> = HashMap::new();
        for (position, member) in members.iter().enumerate().filter(|(_, m)| m.stands) {
            let before = self.processes.iter().find(|p| p.pid == member.pid);
            let fresh = member.state.opened();
            for descriptor in &member.state.descriptors().open {
                let known = before.and_then(|p| {
                    let at = p
                        .opened
                        .binary_search_by_key(&descriptor.fd, |o| o.fd)
                        .ok()?;
                    Some(p.opened.get(at)?.description)
                });
                let had = known.filter(|_| fresh.binary_search(&descriptor.fd).is_err());
                let key = (descriptor.inode, descriptor.mount);
                buckets.entry(key).or_default().push(Place {
                    member: position,
                    fd: descriptor.fd,
                    had,
                });
            }
        }
        let mut processes: Vec<Numbers> = members
            .iter()
            .map(|m| Numbers {
                pid: m.pid,
                opened: Vec::new(),
            })
            .collect();
        for places in buckets.into_values() {
            let ask = places.len() > 1 && (anew || places.iter().any(|p| p.had.is_none()));
            if !ask {
                for place in &places {
                    let description = place.had.unwrap_or_else(|| self.number());
                    processes[place.member].opened.push(Opened {
                        fd: place.fd,
                        description,
                    });
                }
                continue;
            }
            let mut taken = Vec::new();
            for group in groups(members, &places) {
                let had = group
                    .iter()
                    .filter_map(|p| p.had)
                    .find(|id| !taken.contains(id));
                let description = had.unwrap_or_else(|| self.number());
                taken.push(description);
                for place in group {
                    processes[place.member].opened.push(Opened {
                        fd: place.fd,
                        description,
                    });
                }
            }
        }
        for process in &mut processes {
            process.opened.sort_unstable_by_key(|o| o.fd);
        }
        processes.retain(|p| members.iter().any(|m| m.stands && m.pid == p.pid));
        self.processes = processes;
    }

    fn number(&mut self) -> u32 {
        self.next = self.next.wrapping_add(1);
        self.next
    }

    /// Says who tells of each description, reads what is new, and notes what is to be looked at from
    /// now on.
    fn plan(&mut self, members: &[Member], slow: bool) {
        let mut told: HashMap<u32, ()> = HashMap::new();
        let mut readable: HashMap<u64, ()> = HashMap::new();
        let mut known = HashMap::new();
        self.visits.clear();
        let processes = std::mem::take(&mut self.processes);
        for numbers in &processes {
            let Some(member) = members.iter().find(|m| m.pid == numbers.pid) else {
                continue;
            };
            for opened in &numbers.opened {
                if told.insert(opened.description, ()).is_some() {
                    continue;
                }
                let Some(descriptor) = find(member, opened.fd) else {
                    continue;
                };
                let before = self.known.remove(&opened.description);
                let fresh =
                    before.is_none() || member.state.opened().binary_search(&opened.fd).is_ok();
                let found = match before {
                    Some(mut before) if !slow && !fresh => {
                        before.pid = member.pid;
                        Some(before)
                    }
                    before => read(member, descriptor, opened.description, before),
                };
                let Some(found) = found else { continue };
                let content = !matches!(found.object.state, State::Pipe(_))
                    || descriptor.flags & O_ACCMODE != O_WRONLY
                        && readable.insert(descriptor.inode, ()).is_none();
                if content && is_visited(&found.object.state) {
                    self.visits.push(Visit {
                        pid: member.pid,
                        fd: opened.fd,
                        description: opened.description,
                        content,
                    });
                }
                known.insert(opened.description, found);
            }
        }
        self.processes = processes;
        self.known = known;
    }

    /// Looks at what may have changed.
    fn look(
        &mut self,
        member: &Member,
        descriptor: &Descriptor,
        visit: Visit,
        members: &[Member],
        slow: bool,
    ) {
        let Some(known) = self.known.get_mut(&visit.description) else {
            return;
        };
        if let State::Memory(memory) = &mut known.object.state {
            look_memory(member, descriptor, memory, &mut known.written, members);
            return;
        }
        let Ok(fd) = member.state.take_descriptor(visit.fd) else {
            return;
        };
        let result = match &mut known.object.state {
            State::Pipe(pipe) => {
                let packets = has_packets(descriptor, members);
                let content = self.tee.read(&fd, pipe.capacity, packets);
                content.map(|content| pipe.content = visit.content.then_some(content))
            }
            State::Socket(socket) => {
                let settled = matches!(socket.role, Role::Connected | Role::Listening(_));
                if !settled && !slow {
                    let _ = socket::role(&fd, descriptor.inode, socket);
                }
                if socket.domain == AF_UNIX {
                    socket::queue(&fd, socket)
                } else {
                    socket.missing = objects::waiting(&fd).unwrap_or(0);
                    Ok(())
                }
            }
            State::Terminal(terminal) => {
                terminal.waiting = waiting(&fd);
                terminal::read(&fd, terminal)
            }
            State::Inotify(inotify) => {
                inotify.waiting = waiting(&fd);
                if known.text != descriptor.detail {
                    known.text.clone_from(&descriptor.detail);
                    inotify.watches = watches(member, descriptor);
                }
                Ok(())
            }
            State::Memory(_) | State::Plain => Ok(()),
        };
        if let Err(error) = result {
            tracing::debug!("descriptor {} of {}: {error}", visit.fd, visit.pid);
        }
    }
}

const AF_UNIX: i32 = 1;

/// Whether what is in a pipe may be packets: they are made by a writing end with O_DIRECT, and the
/// reading end need not have it.
fn has_packets(descriptor: &Descriptor, members: &[Member]) -> bool {
    let mut open = members
        .iter()
        .filter(|m| m.stands)
        .flat_map(|m| &m.state.descriptors().open);
    open.any(|d| {
        d.inode == descriptor.inode
            && matches!(d.kind, DescriptorKind::Pipe | DescriptorKind::Fifo)
            && d.flags & O_DIRECT != 0
    })
}

fn waiting(fd: &OwnedFd) -> u32 {
    objects::waiting(fd).map_or(0, |n| u32::try_from(n).unwrap_or(u32::MAX))
}

fn find(member: &Member, fd: u32) -> Option<&Descriptor> {
    let open = &member.state.descriptors().open;
    let at = open.binary_search_by_key(&fd, |d| d.fd).ok()?;
    open.get(at)
}

/// Those that share a description, in groups. The kernel's order is used to need few questions;
/// where it gives no answer, nothing is shared.
fn groups<'a>(members: &[Member], places: &'a [Place]) -> Vec<Vec<&'a Place>> {
    let name = |place: &Place| (members[place.member].state.via(), place.fd);
    let mut groups: Vec<Vec<&Place>> = Vec::new();
    for place in places {
        let found = groups.binary_search_by(|group| {
            let first = group.first().map_or((0, 0), |p| name(p));
            objects::compare(first, name(place)).unwrap_or(std::cmp::Ordering::Less)
        });
        match found {
            Ok(at) => groups[at].push(place),
            Err(at) => groups.insert(at, vec![place]),
        }
    }
    groups
}

/// Whether a description of that sort is looked at at every boundary.
fn is_visited(state: &State) -> bool {
    match state {
        State::Socket(socket) => {
            socket.domain == AF_UNIX && !matches!(socket.role, Role::Listening(_))
                || !matches!(socket.role, Role::Listening(_) | Role::Connected)
        }
        State::Pipe(_) | State::Terminal(_) | State::Memory(_) | State::Inotify(_) => true,
        State::Plain => false,
    }
}

/// Everything about a description but what is looked at at every boundary. `None` if there is
/// nothing that the descriptor does not say.
fn read(
    member: &Member,
    descriptor: &Descriptor,
    description: u32,
    before: Option<Known>,
) -> Option<Known> {
    let asynchronous = descriptor.flags & O_ASYNC != 0;
    let interesting = matches!(
        descriptor.kind,
        DescriptorKind::Pipe
            | DescriptorKind::Fifo
            | DescriptorKind::Socket
            | DescriptorKind::Terminal
            | DescriptorKind::MemFd
            | DescriptorKind::Inotify
    );
    if (!interesting && !asynchronous) || descriptor.flags & O_PATH != 0 {
        return None;
    }
    let fd = match member.state.take_descriptor(descriptor.fd) {
        Ok(fd) => fd,
        Err(error) => {
            tracing::debug!("descriptor {}: {error}", descriptor.fd);
            return None;
        }
    };
    let owner = asynchronous.then(|| objects::owner(&fd).ok()).flatten();
    let (mut written, mut text) = (None, Vec::new());
    let (content, watched, held) = match before {
        Some(before) => {
            (written, text) = (before.written, before.text);
            match before.object.state {
                State::Pipe(pipe) => (pipe.content, Vec::new(), None),
                State::Inotify(inotify) => (None, inotify.watches, None),
                State::Memory(memory) => (None, Vec::new(), memory.content),
                _ => (None, Vec::new(), None),
            }
        }
        None => (None, Vec::new(), None),
    };
    let state = match descriptor.kind {
        DescriptorKind::Pipe | DescriptorKind::Fifo => State::Pipe(Pipe {
            capacity: pipe::capacity(&fd).unwrap_or(0),
            content,
        }),
        DescriptorKind::Socket => State::Socket(Box::new(
            socket::read(&fd, descriptor.inode).unwrap_or_default(),
        )),
        DescriptorKind::Terminal => {
            let own =
                descriptor.target.starts_with(b"/dev/pts/") || descriptor.target == b"/dev/tty";
            State::Terminal(Terminal {
                foreground: if own { member.state.foreground() } else { 0 },
                master_of: detail::tty_index(&descriptor.detail),
                ..Terminal::default()
            })
        }
        DescriptorKind::MemFd => State::Memory(Memory {
            seals: memory::seals(&fd).unwrap_or(0),
            size: descriptor.file.map_or(0, |f| f.0),
            content: held,
            missing: false,
        }),
        DescriptorKind::Inotify => State::Inotify(Inotify {
            watches: watched,
            waiting: 0,
        }),
        _ => State::Plain,
    };
    if !matches!(state, State::Memory(_)) {
        written = None;
    }
    if !matches!(state, State::Inotify(_)) {
        text = Vec::new();
    }
    Some(Known {
        pid: member.pid,
        object: Object {
            description,
            owner,
            state,
        },
        written,
        text,
    })
}

/// Reads a file in memory again if it was written and no process maps all of it.
fn look_memory(
    member: &Member,
    descriptor: &Descriptor,
    memory: &mut Memory,
    written: &mut Option<(u64, i64)>,
    members: &[Member],
) {
    let (size, modified) = descriptor.file.unwrap_or_default();
    memory.size = size;
    let covered = size == 0 || covered(members, descriptor, size);
    memory.missing = !covered && size > MEMORY_LIMIT;
    if covered || memory.missing {
        memory.content = None;
        *written = None;
        return;
    }
    if memory.content.is_some() && *written == Some((size, modified)) {
        return;
    }
    let now = SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .unwrap_or_default();
    let age = now
        .as_nanos()
        .saturating_sub(u128::from(modified.cast_unsigned()));
    let fd = member.state.take_descriptor(descriptor.fd);
    memory.content = fd
        .and_then(|fd| memory::content(fd, size, MEMORY_LIMIT))
        .ok();
    *written = (age > RACY.as_nanos()).then_some((size, modified));
}

/// Whether the mappings of a file hold all of it, so that its content is among the pages.
fn covered(members: &[Member], descriptor: &Descriptor, size: u64) -> bool {
    let mut ranges: Vec<(u64, u64)> = members
        .iter()
        .filter(|m| m.stands)
        .flat_map(|m| m.space.mappings())
        .filter(|m| m.shared && m.inode == descriptor.inode && m.name == descriptor.target)
        .map(|m| (m.offset, m.offset + m.len()))
        .collect();
    ranges.sort_unstable();
    let mut end = 0;
    for (from, to) in ranges {
        if from > end {
            return false;
        }
        end = end.max(to);
    }
    end >= size && size > 0
}

/// What an inotify instance watches, by path.
fn watches(member: &Member, descriptor: &Descriptor) -> Vec<Watch> {
    let mut guesses: Vec<PathBuf> = vec![path(&member.state.process().cwd)];
    for other in &member.state.descriptors().open {
        if matches!(
            other.kind,
            DescriptorKind::Directory | DescriptorKind::Regular
        ) {
            let own = path(&other.target);
            guesses.extend(own.parent().map(Path::to_path_buf));
            guesses.push(own);
        }
    }
    let guesses: Vec<&Path> = guesses.iter().map(PathBuf::as_path).collect();
    detail::inotify(&descriptor.detail)
        .iter()
        .map(|w| Watch {
            wd: w.wd,
            mask: w.mask,
            path: watch::path_of(w, &guesses),
        })
        .collect()
}

fn path(bytes: &[u8]) -> PathBuf {
    use std::os::unix::ffi::OsStrExt as _;
    PathBuf::from(std::ffi::OsStr::from_bytes(bytes))
}
