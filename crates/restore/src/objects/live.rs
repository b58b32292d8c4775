//! The descriptors of a live process put back.
//!
//! What is still the same object stays: connections, terminals, pipes to others. Its flags, offset,
//! count, timer or set are put back, if they differ. What was opened since is closed. What was closed
//! since is taken from another number that still refers to it, or made anew.

use super::gap;
use super::place::{Inside, fill, posix_locks};
use super::shared::{O_ACCMODE, SOCK_STREAM, Shared, described};
use crate::error::{Error, Result};
use rustix::fs::SeekFrom;
use std::collections::{BTreeMap, HashMap, HashSet};
use std::os::fd::{AsFd, OwnedFd};
use stillframe_image::objects::detail::{self, Lock, LockSort};
use stillframe_image::objects::{Opened, State};
use stillframe_image::{Descriptor, DescriptorKind, Descriptors, Gap, ProcessImage};
use stillframe_linux::objects::{self, memory, pipe, socket, terminal, timer};
use stillframe_linux::proc::fds::Fds;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

const O_CLOEXEC: u32 = 0o2_000_000;
const O_ASYNC: u32 = 0o20_000;

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
    if now.kind != then.kind || now.inode != then.inode || now.target != then.target {
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
    let mut after = Vec::new();
    for (description, group) in &groups {
        let Some(first) = group.first() else { continue };
        // A number of its own that still refers to it; else any that does.
        let own = group.iter().filter_map(|d| open.get(&d.fd));
        let others = open.values().filter(|_| is_unique(&first.kind));
        let survivor = own
            .chain(others)
            .find(|d| same_object(d, first) && !used.contains(&of_now(d.fd)));
        let place = |d: &&Descriptor| (d.fd, d.flags & O_CLOEXEC != 0);
        let Some(survivor) = survivor else {
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
        used.insert(kept);
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

/// Puts the descriptors of a live process back as they were. `shared` is made of all processes
/// that are put back together. What cannot be put back is returned.
///
/// # Errors
/// If a step fails; what has been done so far stays done.
pub fn put_back(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    wanted: &ProcessImage,
    shared: &mut Shared,
) -> Result<Vec<Gap>> {
    let pid = halt.pid();
    let now = Fds::open(pid)?.full()?;
    let shares = shares(pid, &now);
    let steps = plan(&now, &shares, wanted);
    let highest = wanted.descriptors.open.last().map_or(2, |d| d.fd);
    remote.reserve_descriptors(highest.max(now.open.last().map_or(2, |d| d.fd)));
    let mut sources: HashMap<u32, OwnedFd> = HashMap::new();
    for step in &steps {
        if let Step::Copy { from, .. } = step {
            sources.insert(*from, remote.take_fd(*from)?);
        }
    }
    let mut gaps = Vec::new();
    let mut made = HashSet::new();
    let mut inside = Inside::new(remote, halt);
    for step in steps {
        match step {
            Step::Close(fd) => inside.close(fd)?,
            Step::Copy { from, to } => {
                if let Some(fd) = sources.get(&from) {
                    inside.place(fd.as_fd(), &to)?;
                }
            }
            Step::Make { description, to } => {
                made.insert(description);
                if let Some(fd) = shared.make(description, &mut gaps)? {
                    inside.place(fd.as_fd(), &to)?;
                }
            }
            Step::Cloexec(fd, on) => inside.set_cloexec(fd, on)?,
            Step::Flags(fd, flags) => {
                let own = inside.remote.take_fd(fd)?;
                let asynchronous = objects::flags(&own)? & O_ASYNC;
                objects::set_flags(&own, flags & !O_ASYNC | asynchronous)?;
            }
            Step::Seek(fd, offset) => {
                let own = inside.remote.take_fd(fd)?;
                rustix::fs::seek(&own, SeekFrom::Start(offset))
                    .map_err(|e| Error::io("seek in", format!("fd {fd}"), e))?;
            }
            Step::State { fd, description } => {
                let is = now.open.iter().find(|d| d.fd == fd);
                let is = is.filter(|_| !made.contains(&description));
                state(&mut inside, wanted, shared, fd, description, is, &mut gaps)?;
            }
        }
    }
    locks(&mut inside, &now, wanted, &mut gaps);
    Ok(gaps)
}

/// Which numbers share a description now.
fn shares(pid: u32, now: &Descriptors) -> Vec<Opened> {
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

/// Puts the state of one object back.
fn state(
    inside: &mut Inside<'_, '_>,
    wanted: &ProcessImage,
    shared: &Shared,
    fd: u32,
    description: u32,
    is: Option<&Descriptor>,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let Some(was) = wanted.descriptors.open.iter().find(|d| d.fd == fd) else {
        return Ok(());
    };
    let step = || Error::step(format!("fd {fd}"));
    let own = inside.remote.take_fd(fd).map_err(step())?;
    let known = shared.wanted.get(&description);
    let object = known.and_then(|w| w.object.as_ref()).map(|o| &o.state);
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
            fill(inside, wanted, was, &now, gaps)?;
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
                if state.domain == 1 {
                    gaps.push(gap(
                        fd,
                        "what was received since is not put back: it came from outside",
                    ));
                }
                return Ok(());
            };
            let peer = inside.remote.take_fd(other.descriptor.fd).map_err(step())?;
            socket::drain(&own, stream).map_err(step())?;
            for message in &state.queue {
                socket::send(&peer, &message.bytes, stream).map_err(step())?;
            }
        }
        (DescriptorKind::Terminal, Some(State::Terminal(settings))) => {
            let mut there = settings.clone();
            let read = terminal::read(&own, &mut there);
            if read.is_ok() && there.settings != settings.settings {
                terminal::write(&own, settings).map_err(step())?;
            }
        }
        (DescriptorKind::MemFd, Some(State::Memory(state))) => {
            let seals = memory::seals(&own).unwrap_or(0);
            let size = rustix::fs::fstat(&own).map_or(0, |s| s.st_size.cast_unsigned());
            if state.content.is_some() || size != state.size {
                memory::put(own, state).map_err(step())?;
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

/// Sets the count of an eventfd, which can only be read down to nothing and added to; of a semaphore,
/// only be counted down by one.
fn set_count(fd: &OwnedFd, count: u64, semaphore: bool) -> std::io::Result<()> {
    const MOST: u64 = 1 << 20;
    let before = objects::flags(fd).unwrap_or(0);
    const O_NONBLOCK: u32 = 0o4000;
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
