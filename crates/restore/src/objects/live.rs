//! The descriptors of a live process put back.
//!
//! What is still the same object stays: connections, terminals, pipes to others. Its flags, offset,
//! count, timer or set are put back, if they differ. What was opened since is closed. What was closed
//! since is taken from another number that still refers to it, or made anew. A connection to somebody
//! else is not to be had again and comes back *broken*: reading says ECONNRESET and writing EPIPE, as
//! if its peer had gone, which is what every program that talks to others must bear.
//!
//! What is closed, replaced or emptied on the way is kept ([`Closed`]), to be put back if a later
//! step fails.

use super::closed::Closed;
use super::gap;
use super::place::{Inside, fill, posix_locks};
use super::shared::{AF_UNIX, Ends, O_ACCMODE, SOCK_STREAM, Shared, described};
use crate::error::{Error, Result};
use rustix::fs::SeekFrom;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use stillframe_image::objects::detail::{self, Lock, LockSort};
use stillframe_image::objects::{Opened, Role, State, Terminal, address};
use stillframe_image::{
    Checkpoint, Descriptor, DescriptorKind, Descriptors, Gap, ProcessImage, SpaceId,
};
use stillframe_linux::objects::{self, memory, pipe, socket, terminal, timer};
use stillframe_linux::proc::fds::Fds;
use stillframe_linux::proc::set::is_our_standard;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

const O_CLOEXEC: u32 = 0o2_000_000;
const O_ASYNC: u32 = 0o20_000;
const O_NONBLOCK: u32 = 0o4000;

/// What is to be done about descriptors. In this order they can be done one after the other, if a copy
/// of every `Copy`'s source is taken beforehand.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Opened since: closes it.
    Close(u32),
    /// Puts what number `from` refers to at these numbers, each with its O_CLOEXEC.
    Copy {
        /// A number that refers to it now.
        from: u32,
        /// Where it is to be.
        to: Vec<(u32, bool)>,
    },
    /// Makes a description anew.
    Make {
        /// Which.
        description: u32,
        /// Where it is to be.
        to: Vec<(u32, bool)>,
    },
    /// Sets or clears O_CLOEXEC.
    Cloexec(u32, bool),
    /// Sets status flags.
    Flags(u32, u32),
    /// Sets the offset.
    Seek(u32, u64),
    /// Compares what else there is of the object at this number, and puts it back: counts, timers,
    /// sets, contents, settings, locks.
    State {
        /// The number.
        fd: u32,
        /// The description of the checkpoint.
        description: u32,
    },
}

/// Whether two descriptors, one of now and one of then, can refer to the same object.
fn same_object(now: &Descriptor, then: &Descriptor) -> bool {
    if now.kind != then.kind || now.inode != then.inode {
        return false;
    }
    // What has a path may have another by now; what has none says its sort there.
    let same_name = match now.kind {
        DescriptorKind::Regular
        | DescriptorKind::Directory
        | DescriptorKind::CharDevice
        | DescriptorKind::BlockDevice
        | DescriptorKind::Fifo => now.mount == then.mount,
        _ => now.target == then.target,
    };
    if !same_name {
        return false;
    }
    if (now.flags ^ then.flags) & O_ACCMODE != 0 {
        return false;
    }
    match now.kind {
        // All have one inode.
        DescriptorKind::EventFd => {
            let id = |d: &Descriptor| detail::eventfd(&d.detail).and_then(|e| e.id);
            match (id(now), id(then)) {
                (Some(a), Some(b)) => a == b,
                _ => true,
            }
        }
        DescriptorKind::TimerFd => {
            let clock = |d: &Descriptor| detail::timerfd(&d.detail).map(|t| t.clock);
            clock(now) == clock(then)
        }
        DescriptorKind::Inotify => {
            let watches = |d: &Descriptor| {
                let mut all = detail::inotify(&d.detail);
                all.sort_by_key(|w| w.wd);
                all
            };
            watches(now) == watches(then)
        }
        DescriptorKind::PidFd => detail::pidfd(&now.detail) == detail::pidfd(&then.detail),
        _ => true,
    }
}

/// Whether its inode names one object as long as that lives, so that it is itself under any number.
const fn is_unique(kind: &DescriptorKind) -> bool {
    matches!(
        kind,
        DescriptorKind::Pipe | DescriptorKind::Socket | DescriptorKind::MemFd
    )
}

/// What takes the descriptors `now` to those of a checkpoint. `shares` says which description each number
/// refers to now; its numbers mean nothing beyond being equal or not.
pub fn plan(now: &Descriptors, shares: &[Opened], wanted: &ProcessImage) -> Vec<Step> {
    let open: BTreeMap<u32, &Descriptor> = now.open.iter().map(|d| (d.fd, d)).collect();
    let described_now: HashMap<u32, u32> = shares.iter().map(|o| (o.fd, o.description)).collect();
    let of_now = |fd: u32| described_now.get(&fd).copied().unwrap_or(u32::MAX - fd);
    let mut groups: BTreeMap<u32, Vec<&Descriptor>> = BTreeMap::new();
    let mut numbers = HashSet::new();
    for (description, descriptor) in described(wanted) {
        groups.entry(description).or_default().push(descriptor);
        numbers.insert(descriptor.fd);
    }
    let mut steps: Vec<Step> = now
        .open
        .iter()
        .filter(|d| !numbers.contains(&d.fd))
        .map(|d| Step::Close(d.fd))
        .collect();
    let mut used = HashSet::new();
    let mut survivors = HashMap::new();
    for (description, group) in &groups {
        let Some(first) = group.first() else { continue };
        // A number of its own that still refers to it; else any that does.
        let own = group.iter().filter_map(|d| open.get(&d.fd));
        let others = open.values().filter(|_| is_unique(&first.kind));
        let survivor = own
            .chain(others)
            .find(|d| same_object(d, first) && !used.contains(&of_now(d.fd)));
        if let Some(survivor) = survivor {
            used.insert(of_now(survivor.fd));
            survivors.insert(*description, *survivor);
        }
    }
    // Of a pair with one end gone the other end leads nowhere: both are made.
    for (description, group) in &groups {
        let peer = peer_of(wanted, *description, group);
        let other = groups.iter().find(|(_, g)| {
            g.first()
                .is_some_and(|d| d.kind == DescriptorKind::Socket && Some(d.inode) == peer)
        });
        if let Some((other, _)) = other
            && !survivors.contains_key(description)
        {
            survivors.remove(other);
        }
    }
    let mut after = Vec::new();
    for (description, group) in &groups {
        let Some(first) = group.first() else { continue };
        let place = |d: &&Descriptor| (d.fd, d.flags & O_CLOEXEC != 0);
        let Some(survivor) = survivors.get(description).copied() else {
            let to = group.iter().map(place).collect();
            let description = *description;
            steps.push(Step::Make { description, to });
            if first.kind == DescriptorKind::Epoll {
                // Made empty.
                let fd = first.fd;
                after.push(Step::State { fd, description });
            }
            continue;
        };
        let kept = of_now(survivor.fd);
        let stays = |d: &&&Descriptor| open.contains_key(&d.fd) && of_now(d.fd) == kept;
        let to: Vec<(u32, bool)> = group.iter().filter(|d| !stays(d)).map(place).collect();
        if !to.is_empty() {
            let from = survivor.fd;
            steps.push(Step::Copy { from, to });
        }
        for descriptor in group.iter().filter(stays) {
            let cloexec = |d: &Descriptor| d.flags & O_CLOEXEC != 0;
            if let Some(is) = open.get(&descriptor.fd)
                && cloexec(is) != cloexec(descriptor)
            {
                after.push(Step::Cloexec(descriptor.fd, cloexec(descriptor)));
            }
        }
        let differ = (survivor.flags ^ first.flags) & objects::SETTABLE & !O_ASYNC;
        if differ != 0 {
            after.push(Step::Flags(first.fd, first.flags));
        }
        let seekable = matches!(
            first.kind,
            DescriptorKind::Regular
                | DescriptorKind::Directory
                | DescriptorKind::MemFd
                | DescriptorKind::BlockDevice
        );
        if seekable && survivor.offset != first.offset {
            after.push(Step::Seek(first.fd, first.offset));
        }
        if has_state(&first.kind) || survivor.detail != first.detail {
            after.push(Step::State {
                fd: first.fd,
                description: *description,
            });
        }
    }
    // Copies come before anything is made, since a thing made may need a number that is a source.
    steps.sort_by_key(|s| match s {
        Step::Close(_) => 0,
        Step::Copy { .. } => 1,
        _ => 2,
    });
    steps.extend(after);
    steps
}

/// The inode of the other end of a socket.
fn peer_of(wanted: &ProcessImage, description: u32, group: &[&Descriptor]) -> Option<u64> {
    let first = group.first()?;
    if first.kind != DescriptorKind::Socket {
        return None;
    }
    match &wanted.objects.object(description)?.state {
        State::Socket(socket) if socket.domain == AF_UNIX => socket.peer_inode,
        _ => None,
    }
}

/// Whether there can be a difference that fdinfo does not show, or that time makes.
const fn has_state(kind: &DescriptorKind) -> bool {
    matches!(
        kind,
        DescriptorKind::Pipe
            | DescriptorKind::Fifo
            | DescriptorKind::Socket
            | DescriptorKind::MemFd
            | DescriptorKind::Terminal
            | DescriptorKind::TimerFd
    )
}

/// How descriptors are put back.
#[derive(Debug, Default)]
pub struct Way<'a> {
    /// Connections, by number, that come back broken though they are still there.
    pub broken: &'a [u32],
    /// Where what goes is kept; none if it is not to be put back.
    pub closed: Option<&'a mut Closed>,
    /// Descriptions that processes share which do not go back: what they are is left alone.
    pub foreign: &'a [u32],
}

/// Descriptions of a process that others of its checkpoint have, too.
pub fn foreign(checkpoint: &Checkpoint, process: SpaceId) -> Vec<u32> {
    let of = |image: &ProcessImage| -> HashSet<u32> {
        image.objects.opened.iter().map(|o| o.description).collect()
    };
    let mut own = HashSet::new();
    let mut others = HashSet::new();
    for image in &checkpoint.processes {
        if image.id == process {
            own = of(image);
        } else {
            others.extend(of(image));
        }
    }
    let mut both: Vec<u32> = own.intersection(&others).copied().collect();
    both.sort_unstable();
    both
}

/// Puts the descriptors of a live process back as they were, by calls in `caller`. `shared` is made
/// of all processes that are put back together. What cannot be put back is returned.
///
/// # Errors
/// If a step fails; what has been done so far stays done, and [`super::undo`] takes it back.
pub fn put_back(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    wanted: &ProcessImage,
    shared: &mut Shared,
    way: Way<'_>,
) -> Result<Vec<Gap>> {
    let Way {
        broken,
        mut closed,
        foreign,
    } = way;
    let pid = halt.pid();
    let mut now = Fds::open(pid)?.full()?;
    let ours = remote.channel();
    now.open.retain(|d| Some(d.fd) != ours);
    let shares = shares(pid, &now);
    if let Some(closed) = closed.as_deref_mut() {
        closed.shares.clone_from(&shares);
    }
    let used = used_since(remote, &now, wanted);
    let kept = Descriptors {
        open: now
            .open
            .iter()
            .filter(|d| !broken.contains(&d.fd) && !used.contains(&d.inode))
            .cloned()
            .collect(),
    };
    let mut steps = plan(&kept, &shares, wanted);
    let was_there = |fd: &u32| wanted.descriptors.open.iter().any(|d| d.fd == *fd);
    for fd in broken.iter().filter(|fd| !was_there(fd)) {
        if now.open.iter().any(|d| d.fd == *fd) {
            steps.insert(0, Step::Close(*fd));
        }
    }
    let mut gaps = Vec::new();
    leave(&mut steps, wanted, foreign, &mut gaps);
    let highest = wanted.descriptors.open.last().map_or(2, |d| d.fd);
    remote.reserve_descriptors(highest.max(now.open.last().map_or(2, |d| d.fd)));
    let mut sources: HashMap<u32, OwnedFd> = HashMap::new();
    for step in &steps {
        if let Step::Copy { from, .. } = step {
            sources.insert(*from, remote.take_fd(*from)?);
        }
    }
    if steps.iter().any(|s| matches!(s, Step::Make { .. })) {
        offer_pipes(remote, &now, wanted, shared);
    }
    let mut placed: HashSet<u32> = HashSet::new();
    let mut inside = Inside::of(remote, halt, caller);
    let keep = |inside: &Inside<'_, '_>, fd: u32, closed: &mut Option<&mut Closed>| {
        if let Some(closed) = closed.as_deref_mut()
            && let Some(held) = now.open.iter().find(|d| d.fd == fd)
            && let Ok(copy) = inside.remote.take_fd(fd)
        {
            closed.keep(fd, copy, held.flags & O_CLOEXEC != 0);
        }
    };
    for step in steps {
        match step {
            Step::Close(fd) => {
                keep(&inside, fd, &mut closed);
                inside.close(fd)?;
            }
            Step::Copy { from, to } => {
                if let Some(fd) = sources.get(&from) {
                    for (number, _) in &to {
                        keep(&inside, *number, &mut closed);
                        placed.insert(*number);
                    }
                    inside.place(fd.as_fd(), &to)?;
                }
            }
            Step::Make { description, to } => {
                for (number, _) in &to {
                    keep(&inside, *number, &mut closed);
                    placed.insert(*number);
                }
                if let Some(fd) = again(description, shared, broken, &mut gaps) {
                    inside.place(fd.as_fd(), &to)?;
                }
            }
            Step::Cloexec(fd, on) => inside.set_cloexec(fd, on)?,
            Step::Flags(fd, flags) => {
                let own = inside.remote.take_fd(fd)?;
                let asynchronous = objects::flags(&own)? & O_ASYNC;
                objects::set_flags(&own, flags & !O_ASYNC | asynchronous)?;
            }
            // What we write to a stream of ours comes behind what was written, whoever goes back.
            Step::Seek(fd, _) if is_our_standard(pid, fd) => {}
            Step::Seek(fd, offset) => {
                let own = inside.remote.take_fd(fd)?;
                rustix::fs::seek(&own, SeekFrom::Start(offset))
                    .map_err(|e| Error::io("seek in", format!("fd {fd}"), e))?;
            }
            Step::State { fd, description } => {
                let is = now.open.iter().find(|d| d.fd == fd);
                let is = is.filter(|_| !placed.contains(&fd));
                let mut work = Work {
                    inside: &mut inside,
                    wanted,
                    shared,
                    placed: &placed,
                    closed: closed.as_deref_mut(),
                };
                work.state(fd, description, is, &mut gaps)?;
            }
        }
    }
    locks(&mut inside, &now, wanted, &mut gaps);
    Ok(gaps)
}

/// Takes out what would change what processes see that do not go back.
fn leave(steps: &mut Vec<Step>, wanted: &ProcessImage, foreign: &[u32], gaps: &mut Vec<Gap>) {
    if foreign.is_empty() {
        return;
    }
    let shared: HashSet<u32> = described(wanted)
        .filter(|(description, _)| foreign.contains(description))
        .map(|(_, d)| d.fd)
        .collect();
    let mut named = HashSet::new();
    steps.retain(|step| match step {
        Step::Flags(fd, _) | Step::Seek(fd, _) | Step::State { fd, .. } if shared.contains(fd) => {
            if named.insert(*fd) {
                let why =
                    "is shared with another process, which does not go back: its state is left";
                gaps.push(gap(*fd, why));
            }
            false
        }
        _ => true,
    });
}

/// Inodes of stream sockets that were neither bound nor connected then, and are now: that cannot be
/// undone, so such a one is made anew.
fn used_since(remote: &Remote, now: &Descriptors, wanted: &ProcessImage) -> HashSet<u64> {
    let mut used = HashSet::new();
    for (description, then) in described(wanted) {
        let Some(State::Socket(socket)) = wanted.objects.object(description).map(|o| &o.state)
        else {
            continue;
        };
        let fresh = socket.role == Role::Idle && !address::is_bound(&socket.local);
        let held = now.open.iter().find(|d| same_object(d, then));
        if let Some(held) = held
            && fresh
            && socket.kind == SOCK_STREAM
            && let Ok(own) = remote.take_fd(held.fd)
        {
            let mut found = socket.clone();
            if socket::role(&own, held.inode, &mut found).is_ok()
                && (found.role != Role::Idle || address::is_bound(&found.local))
            {
                used.insert(held.inode);
            }
        }
    }
    used
}

/// Pipes that still exist are not made anew: their ends are opened again.
fn offer_pipes(remote: &Remote, now: &Descriptors, wanted: &ProcessImage, shared: &mut Shared) {
    let is_pipe = |d: &&Descriptor| matches!(d.kind, DescriptorKind::Pipe | DescriptorKind::Fifo);
    for held in now.open.iter().filter(is_pipe) {
        let open = &wanted.descriptors.open;
        if !open.iter().any(|d| is_pipe(&d) && d.inode == held.inode) {
            continue;
        }
        let Ok(own) = remote.take_fd(held.fd) else {
            continue;
        };
        // The reading end first: without one, the writing end is not to be had.
        let read = objects::reopen(&own, O_NONBLOCK);
        let write = objects::reopen(&own, 1 | O_NONBLOCK);
        if let (Ok(read), Ok(write)) = (read, write) {
            shared.pipes.entry(held.inode).or_insert(Ends {
                read,
                write,
                taken: [true, true],
            });
        }
    }
}

/// What was closed since, anew; `None` if it stays closed, and is named.
fn again(
    description: u32,
    shared: &mut Shared,
    broken: &[u32],
    gaps: &mut Vec<Gap>,
) -> Option<OwnedFd> {
    let wanted = shared.wanted.get(&description)?.clone();
    let descriptor = &wanted.descriptor;
    let state = wanted.object.as_ref().map(|o| &o.state);
    let connected = match state {
        Some(State::Socket(socket)) => {
            let peer = socket.peer_inode.and_then(|inode| shared.socket_of(inode));
            socket.role == Role::Connected && peer.is_none()
        }
        _ => descriptor.kind == DescriptorKind::Socket,
    };
    if connected || broken.contains(&descriptor.fd) {
        return match broken_connection(descriptor) {
            Ok(fd) => {
                gaps.push(gap(
                    descriptor.fd,
                    "its connection is gone and came back broken",
                ));
                Some(fd)
            }
            Err(error) => {
                gaps.push(gap(
                    descriptor.fd,
                    format!("its connection is gone: {error}"),
                ));
                None
            }
        };
    }
    let made = match shared.make(description, gaps) {
        Ok(made) => made.and_then(|fd| fd.try_clone().ok()),
        Err(error) => {
            gaps.push(gap(
                descriptor.fd,
                format!("was closed since and stays closed: {error}"),
            ));
            return None;
        }
    };
    let has_path = matches!(
        descriptor.kind,
        DescriptorKind::Regular | DescriptorKind::Directory | DescriptorKind::Fifo
    );
    let Some(fd) = made else {
        gaps.push(gap(descriptor.fd, "was closed since and stays closed"));
        return None;
    };
    if has_path && !rustix::fs::fstat(&fd).is_ok_and(|s| s.st_ino == descriptor.inode) {
        gaps.push(gap(
            descriptor.fd,
            "was closed since, and what it was is not to be had any more",
        ));
        return None;
    }
    Some(fd)
}

/// A connection whose peer is gone.
fn broken_connection(descriptor: &Descriptor) -> Result<OwnedFd> {
    let step = || Error::step(format!("fd {}", descriptor.fd));
    let [ours, theirs] = socket::pair(AF_UNIX, SOCK_STREAM, 0).map_err(step())?;
    // What the peer has not read when it closes makes it a reset.
    socket::send(&ours, &[0], true).map_err(step())?;
    drop(theirs);
    objects::set_flags(&ours, descriptor.flags & !O_ASYNC).map_err(step())?;
    Ok(ours)
}

/// Which numbers share a description now.
pub fn shares(pid: u32, now: &Descriptors) -> Vec<Opened> {
    let mut all: Vec<Opened> = Vec::new();
    let mut of_inode: HashMap<(u64, u32), Vec<Opened>> = HashMap::new();
    for descriptor in &now.open {
        let others = of_inode
            .entry((descriptor.inode, descriptor.mount))
            .or_default();
        let same = others.iter().find(|o| {
            objects::compare((pid, o.fd), (pid, descriptor.fd)).is_ok_and(std::cmp::Ordering::is_eq)
        });
        let opened = Opened {
            fd: descriptor.fd,
            description: same.map_or(descriptor.fd, |o| o.description),
        };
        if same.is_none() {
            others.push(opened);
        }
        all.push(opened);
    }
    all
}

/// What putting one object's state back works with.
struct Work<'a, 'i, 'h> {
    inside: &'a mut Inside<'i, 'h>,
    wanted: &'a ProcessImage,
    shared: &'a Shared,
    /// Numbers that refer to something else than before.
    placed: &'a HashSet<u32>,
    closed: Option<&'a mut Closed>,
}

impl Work<'_, '_, '_> {
    /// Puts the state of one object back.
    fn state(
        &mut self,
        fd: u32,
        description: u32,
        is: Option<&Descriptor>,
        gaps: &mut Vec<Gap>,
    ) -> Result<()> {
        let (wanted, shared) = (self.wanted, self.shared);
        let Some(was) = wanted.descriptors.open.iter().find(|d| d.fd == fd) else {
            return Ok(());
        };
        let step = || Error::step(format!("fd {fd}"));
        let known = shared.wanted.get(&description);
        let object = known.and_then(|w| w.object.as_ref()).map(|o| &o.state);
        if let Some(State::Socket(socket)) = object
            && socket.domain != AF_UNIX
        {
            // What a network brought since is not ours to take back.
            return Ok(());
        }
        let own = self.inside.remote.take_fd(fd).map_err(step())?;
        match (&was.kind, object) {
            (DescriptorKind::EventFd, _) => {
                if let Some(count) = detail::eventfd(&was.detail) {
                    set_count(&own, count.count, count.semaphore == Some(true))
                        .map_err(|e| Error::io("set the count of", format!("fd {fd}"), e))?;
                }
            }
            (DescriptorKind::TimerFd, _) => {
                if let Some(timer) = detail::timerfd(&was.detail) {
                    timer::set(&own, &timer).map_err(step())?;
                }
            }
            (DescriptorKind::SignalFd, _) => {
                if let Some(mask) = detail::signalfd(&was.detail) {
                    timer::signalfd(Some(&own), mask).map_err(step())?;
                }
            }
            (DescriptorKind::Epoll, _) => {
                // As it is after numbers were placed.
                let now = is.map(|d| detail::epoll(&d.detail)).unwrap_or_default();
                fill(self.inside, wanted, was, &now, self.placed, gaps)?;
            }
            (DescriptorKind::Pipe | DescriptorKind::Fifo, Some(State::Pipe(state))) => {
                let Some(content) = &state.content else {
                    return Ok(());
                };
                let mut tee = pipe::Tee::default();
                let capacity = pipe::capacity(&own).map_err(step())?;
                let packets = !content.packets.is_empty();
                let there = tee.read(&own, capacity, packets).map_err(step())?;
                if there == *content {
                    return Ok(());
                }
                if was.kind == DescriptorKind::Pipe && !shared.has_end(was.inode, true) {
                    gaps.push(gap(
                    fd,
                    "what was read from the pipe since is not put back: another process writes to it",
                ));
                    return Ok(());
                }
                pipe::drain(&own).map_err(step())?;
                if let Some(closed) = self.closed.as_deref_mut()
                    && let Ok(copy) = own.try_clone()
                {
                    closed.emptied_pipe(copy, there);
                }
                pipe::fill(&own, content).map_err(step())?;
            }
            (DescriptorKind::Socket, Some(State::Socket(state))) => {
                let peer = state.peer_inode.and_then(|inode| shared.socket_of(inode));
                let other = peer.and_then(|peer| shared.wanted.get(&peer));
                let other = other.filter(|w| w.process == wanted.id);
                let stream = state.kind == SOCK_STREAM;
                let mut there = socket::read(&own, was.inode).map_err(step())?;
                socket::queue(&own, &mut there).map_err(step())?;
                if there.queue == state.queue {
                    return Ok(());
                }
                let Some(other) = other else {
                    // What a peer outside sent stays; what was taken from it is gone.
                    gaps.push(gap(
                        fd,
                        "what was received since is not put back: it came from outside",
                    ));
                    return Ok(());
                };
                let number = other.descriptor.fd;
                let peer = self.inside.remote.take_fd(number).map_err(step())?;
                socket::drain(&own, stream).map_err(step())?;
                if let Some(closed) = self.closed.as_deref_mut()
                    && let Ok(copy) = peer.try_clone()
                {
                    closed.emptied_queue(own, copy, stream, there.queue);
                }
                for message in &state.queue {
                    socket::send(&peer, &message.bytes, stream).map_err(step())?;
                }
            }
            (DescriptorKind::Terminal, Some(State::Terminal(settings))) => {
                let mut there = settings.clone();
                let read = terminal::read(&own, &mut there);
                // The window of somebody else's terminal is as large as it is now.
                let size = if shared.own_terminal(was) {
                    settings.size
                } else {
                    there.size
                };
                let then = Terminal {
                    size,
                    ..settings.clone()
                };
                if read.is_ok() && (&there.settings, there.size) != (&then.settings, then.size) {
                    terminal::write(&own, &then).map_err(step())?;
                    if let Some(closed) = self.closed.as_deref_mut() {
                        closed.terminal(own, there);
                    }
                }
            }
            (DescriptorKind::MemFd, Some(State::Memory(state))) => {
                let seals = memory::seals(&own).unwrap_or(0);
                let size = rustix::fs::fstat(&own).map_or(0, |s| s.st_size.cast_unsigned());
                let there = state.content.as_ref().and_then(|_| {
                    let copy = own.try_clone().ok()?;
                    memory::content(copy, size, u64::MAX).ok()
                });
                if size != state.size || there != state.content {
                    if let Some(closed) = self.closed.as_deref_mut()
                        && let Ok(copy) = own.try_clone()
                    {
                        closed.memory(copy, size);
                    }
                    if let Err(error) = memory::put(own, state) {
                        gaps.push(gap(fd, format!("its content is not put back: {error}")));
                        return Ok(());
                    }
                }
                if seals != state.seals {
                    gaps.push(gap(fd, "was sealed since, which cannot be undone"));
                }
            }
            (DescriptorKind::Regular, _) => {
                let flock = |d: &Descriptor| {
                    detail::locks(&d.detail)
                        .into_iter()
                        .find(|l| l.sort == LockSort::Flock)
                };
                match (is.and_then(flock), flock(was)) {
                    (now, then) if now == then => {}
                    (_, None) => objects::unflock(&own).map_err(step())?,
                    (_, Some(lock)) => {
                        if let Err(error) = objects::flock(&own, lock.exclusive) {
                            gaps.push(gap(fd, format!("its lock is not back: {error}")));
                        }
                    }
                }
            }
            _ => {}
        }
        Ok(())
    }
}

/// Sets the count of an eventfd, which can only be read down to nothing and added to; of a semaphore,
/// only be counted down by one.
fn set_count(fd: &OwnedFd, count: u64, semaphore: bool) -> std::io::Result<()> {
    const MOST: u64 = 1 << 20;
    let before = objects::flags(fd).unwrap_or(0);
    let failed = |e: stillframe_linux::Error| std::io::Error::other(e.to_string());
    objects::set_flags(fd, before | O_NONBLOCK).map_err(failed)?;
    let mut buffer = [0; 8];
    let mut turns = 0;
    while rustix::io::read(fd, &mut buffer[..]).is_ok() && semaphore && turns < MOST {
        turns += 1;
    }
    let done = match count {
        0 => Ok(0),
        count => rustix::io::write(fd, &count.to_ne_bytes()),
    };
    objects::set_flags(fd, before).map_err(failed)?;
    done.map(drop).map_err(Into::into)
}

/// Locks that belong to the process.
fn locks(
    inside: &mut Inside<'_, '_>,
    now: &Descriptors,
    wanted: &ProcessImage,
    gaps: &mut Vec<Gap>,
) {
    let all = |d: &Descriptors| -> Vec<(u32, u64, Lock)> {
        let each = d.open.iter();
        each.flat_map(|d| posix_locks(d).map(move |l| (d.fd, d.inode, l)))
            .collect()
    };
    let (is, was) = (all(now), all(&wanted.descriptors));
    let has = |list: &[(u32, u64, Lock)], inode, lock| {
        list.iter().any(|(_, i, l)| (*i, *l) == (inode, lock))
    };
    let open = |fd: u32| wanted.descriptors.open.iter().any(|d| d.fd == fd);
    for (fd, inode, lock) in &is {
        if !has(&was, *inode, *lock) && open(*fd) {
            let _ = inside.lock(*fd, lock, false);
        }
    }
    let mut done = Vec::new();
    for (fd, inode, lock) in &was {
        // Closing any descriptor of a file gives up all locks on it, so all are asked for again.
        if done.contains(&(*inode, *lock)) {
            continue;
        }
        done.push((*inode, *lock));
        if let Err(error) = inside.lock(*fd, lock, true) {
            gaps.push(gap(*fd, format!("its lock is not back: {error}")));
        }
    }
}
