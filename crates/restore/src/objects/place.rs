//! Placing what was made at its numbers, and the calls that only the process itself can make.

use super::gap;
use super::shared::{Shared, described};
use crate::error::{Error, Result};
use crate::threads::own_number;
use std::collections::{BTreeMap, HashSet};
use std::os::fd::{AsFd, BorrowedFd};
use stillframe_image::objects::Owner;
use stillframe_image::objects::detail::{self, Lock, LockSort, Polled};
use stillframe_image::{Descriptor, DescriptorKind, Gap, ProcessImage};
use stillframe_linux::objects;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

const O_CLOEXEC: u32 = 0o2_000_000;
const O_ASYNC: u32 = 0o20_000;

/// The calls that are made inside the process, and the words of fcntl(2).
mod call {
    pub use stillframe_linux::remote::numbers::{
        CLOSE, CLOSE_RANGE, DUP3, EPOLL_CTL, FCNTL, PIDFD_OPEN,
    };
    pub const F_SETFD: u64 = 2;
    pub const F_SETFL: u64 = 4;
    pub const F_SETLK: u64 = 6;
    pub const F_SETSIG: u64 = 10;
    pub const F_SETOWN_EX: u64 = 15;
}

/// A process in which calls are made, through one of its threads.
pub(super) struct Inside<'a, 'h> {
    pub(super) remote: &'a mut Remote,
    pub(super) halt: &'a mut Halt<'h>,
    pub(super) tid: u32,
}

impl<'a, 'h> Inside<'a, 'h> {
    pub(super) fn new(remote: &'a mut Remote, halt: &'a mut Halt<'h>) -> Self {
        let tid = halt.threads().first().copied().unwrap_or(halt.pid());
        Self::of(remote, halt, tid)
    }

    pub(super) const fn of(remote: &'a mut Remote, halt: &'a mut Halt<'h>, tid: u32) -> Self {
        Self { remote, halt, tid }
    }

    fn call(&mut self, number: i64, args: [u64; 6]) -> stillframe_linux::Result<u64> {
        self.remote.call(self.halt, self.tid, number, args)
    }

    /// Puts a descriptor of ours at these numbers, each with its O_CLOEXEC.
    pub(super) fn place(&mut self, fd: BorrowedFd<'_>, numbers: &[(u32, bool)]) -> Result<()> {
        let subject = || format!("fd {}", numbers.first().map_or(0, |n| n.0));
        let sent = self
            .remote
            .send_fd(self.halt, self.tid, fd)
            .map_err(Error::step(subject()))?;
        self.spread(sent, numbers)
    }

    /// Has a descriptor of the process's own at these numbers only.
    fn spread(&mut self, sent: u32, numbers: &[(u32, bool)]) -> Result<()> {
        let mut stays = false;
        for (number, cloexec) in numbers {
            let done = if *number == sent {
                stays = true;
                let args = [sent.into(), call::F_SETFD, (*cloexec).into(), 0, 0, 0];
                self.call(call::FCNTL, args)
            } else {
                let flags = if *cloexec { O_CLOEXEC } else { 0 };
                let args = [sent.into(), (*number).into(), flags.into(), 0, 0, 0];
                self.call(call::DUP3, args)
            };
            done.map_err(Error::step(format!("fd {number}")))?;
        }
        if !stays {
            self.close(sent)?;
        }
        Ok(())
    }

    pub(super) fn close(&mut self, number: u32) -> Result<()> {
        self.call(call::CLOSE, [number.into(), 0, 0, 0, 0, 0])
            .map(drop)
            .map_err(Error::step(format!("fd {number}")))
    }

    pub(super) fn set_cloexec(&mut self, number: u32, on: bool) -> Result<()> {
        let args = [number.into(), call::F_SETFD, on.into(), 0, 0, 0];
        self.call(call::FCNTL, args)
            .map(drop)
            .map_err(Error::step(format!("fd {number}")))
    }

    /// Closes everything but the descriptor that descriptors are sent through.
    fn close_all(&mut self) -> Result<()> {
        let mut ranges = vec![(0, u32::MAX)];
        if let Some(channel) = self.remote.channel() {
            ranges = vec![
                (0, channel.saturating_sub(1)),
                (channel.saturating_add(1), u32::MAX),
            ];
            if channel == 0 {
                ranges.remove(0);
            }
        }
        for (first, last) in ranges {
            self.call(call::CLOSE_RANGE, [first.into(), last.into(), 0, 0, 0, 0])
                .map_err(Error::step("descriptors of before"))?;
        }
        Ok(())
    }

    /// Adds, changes (`operation` 3) or removes (2) an entry of an epoll set.
    pub(super) fn poll(
        &mut self,
        epoll: u32,
        operation: u64,
        entry: &Polled,
    ) -> stillframe_linux::Result<()> {
        let at = self.remote.scratch().start;
        // struct epoll_event is packed on x86-64.
        let mut event = entry.events.to_ne_bytes().to_vec();
        event.extend(entry.data.to_ne_bytes());
        self.remote.write(at, &event)?;
        let args = [epoll.into(), operation, entry.fd.into(), at, 0, 0];
        self.call(call::EPOLL_CTL, args).map(drop)
    }

    /// Takes (or, `taken` false, gives back) a lock that belongs to the process.
    pub(super) fn lock(
        &mut self,
        number: u32,
        lock: &Lock,
        taken: bool,
    ) -> stillframe_linux::Result<()> {
        let at = self.remote.scratch().start;
        let kind: i16 = match (taken, lock.exclusive) {
            (true, false) => 0,
            (true, true) => 1,
            (false, _) => 2,
        };
        let length = lock
            .end
            .map_or(0, |end| end.saturating_sub(lock.start).saturating_add(1));
        // struct flock: type, whence, start, length, pid.
        let mut bytes = kind.to_ne_bytes().to_vec();
        bytes.extend([0; 6]);
        bytes.extend(lock.start.to_ne_bytes());
        bytes.extend(length.to_ne_bytes());
        bytes.extend([0; 8]);
        self.remote.write(at, &bytes)?;
        let args = [number.into(), call::F_SETLK, at, 0, 0, 0];
        self.call(call::FCNTL, args).map(drop)
    }

    /// Has the signals of a descriptor go to somebody; ids as the process sees them.
    fn own(&mut self, number: u32, owner: Owner, flags: u32) -> stillframe_linux::Result<()> {
        let at = self.remote.scratch().start;
        let mut bytes = owner.kind.to_ne_bytes().to_vec();
        bytes.extend(owner.id.to_ne_bytes());
        self.remote.write(at, &bytes)?;
        self.call(call::FCNTL, [number.into(), call::F_SETOWN_EX, at, 0, 0, 0])?;
        let signal = u64::from(owner.signal.cast_unsigned());
        self.call(
            call::FCNTL,
            [number.into(), call::F_SETSIG, signal, 0, 0, 0],
        )?;
        let flags = u64::from(flags & objects::SETTABLE);
        self.call(call::FCNTL, [number.into(), call::F_SETFL, flags, 0, 0, 0])
            .map(drop)
    }
}

/// Gives a new process the descriptors of `wanted`: those it has are closed first. What came out
/// differently is returned.
///
/// To be called for all processes of the tree, then [`Shared::finish`], and `shared` dropped before
/// any of them runs. Epoll sets and locks are made whole here, so a process is conformed when those
/// whose memory it shares are there.
///
/// # Errors
/// If something of it cannot be made; the process is then half-made and to be ended.
pub fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    wanted: &ProcessImage,
    shared: &mut Shared,
) -> Result<Vec<Gap>> {
    let mut gaps = Vec::new();
    let highest = wanted.descriptors.open.last().map_or(2, |d| d.fd);
    remote.reserve_descriptors(highest);
    let mut inside = Inside::new(remote, halt);
    inside.close_all()?;
    let mut places: BTreeMap<u32, Vec<(u32, bool)>> = BTreeMap::new();
    for (description, descriptor) in described(wanted) {
        let cloexec = descriptor.flags & O_CLOEXEC != 0;
        places
            .entry(description)
            .or_default()
            .push((descriptor.fd, cloexec));
    }
    for (description, numbers) in &places {
        if let Some(fd) = shared.make(*description, &mut gaps)? {
            inside.place(fd.as_fd(), numbers)?;
        }
    }
    for (description, descriptor) in described(wanted) {
        let numbers = places
            .get(&description)
            .map(Vec::as_slice)
            .unwrap_or_default();
        let first = numbers.first().is_some_and(|n| n.0 == descriptor.fd);
        if first && descriptor.kind == DescriptorKind::PidFd {
            pidfd(&mut inside, wanted, descriptor, numbers, &mut gaps)?;
        }
    }
    within(&mut inside, wanted, shared, &mut gaps)?;
    Ok(gaps)
}

/// F_OWNER_TID and F_OWNER_PID.
const THREAD: i32 = 0;
const PROCESS: i32 = 1;

/// What only works once all numbers are in place.
fn within(
    inside: &mut Inside<'_, '_>,
    wanted: &ProcessImage,
    shared: &mut Shared,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let mut filled = HashSet::new();
    for (description, descriptor) in described(wanted) {
        if descriptor.kind == DescriptorKind::Epoll && filled.insert(description) {
            fill_new(inside, wanted, (description, descriptor), shared, gaps);
        }
        let known = shared.wanted.get(&description);
        let first =
            known.is_some_and(|w| w.process == wanted.id && w.descriptor.fd == descriptor.fd);
        if !first {
            continue;
        }
        let owner = known.and_then(|w| w.object.as_ref()).and_then(|o| o.owner);
        let owner = owner.map(|o| match o.kind {
            THREAD | PROCESS => Owner {
                id: number_now(inside, wanted, o.id.cast_unsigned()).cast_signed(),
                ..o
            },
            _ => o,
        });
        if let Some(owner) = owner.filter(|_| descriptor.flags & O_ASYNC != 0)
            && let Err(error) = inside.own(descriptor.fd, owner, descriptor.flags)
        {
            gaps.push(gap(descriptor.fd, format!("sends no signals: {error}")));
        }
    }
    let mut taken: Vec<(u64, Lock)> = Vec::new();
    for descriptor in &wanted.descriptors.open {
        for lock in posix_locks(descriptor) {
            if taken.contains(&(descriptor.inode, lock)) {
                continue;
            }
            taken.push((descriptor.inode, lock));
            inside.lock(descriptor.fd, &lock, true).map_err(|e| {
                let file = String::from_utf8_lossy(&descriptor.target).into_owned();
                Error::unsupported(
                    format!("the lock of fd {} on {file}", descriptor.fd),
                    format!("{e}; end whoever holds it"),
                )
            })?;
        }
    }
    Ok(())
}

/// Locks that belong to the process.
pub(super) fn posix_locks(descriptor: &Descriptor) -> impl Iterator<Item = Lock> {
    let all = detail::locks(&descriptor.detail);
    all.into_iter().filter(|l| l.sort == LockSort::Posix)
}

/// Adds to a new epoll set what this process has under the numbers that the entries were made with. The
/// rest is another one's that has the set, too.
fn fill_new(
    inside: &mut Inside<'_, '_>,
    wanted: &ProcessImage,
    (description, epoll): (u32, &Descriptor),
    shared: &mut Shared,
    gaps: &mut Vec<Gap>,
) {
    const ADD: u64 = 1;
    let last = shared.wanted.get(&description);
    let last = last.is_none_or(|w| w.last == wanted.id);
    for entry in detail::epoll(&epoll.detail) {
        if shared.polled.contains(&(description, entry.fd)) {
            continue;
        }
        let target = wanted.descriptors.open.iter().find(|d| d.fd == entry.fd);
        let agrees = target.is_some_and(|d| entry.inode.is_none_or(|inode| inode == d.inode));
        if agrees {
            match inside.poll(epoll.fd, ADD, &entry) {
                Ok(()) => {
                    shared.polled.insert((description, entry.fd));
                    continue;
                }
                Err(error) if last => {
                    let why = format!("does not poll fd {}: {error}", entry.fd);
                    gaps.push(gap(epoll.fd, why));
                }
                Err(_) => {}
            }
        } else if last {
            gaps.push(not_polled(epoll, &entry));
        }
    }
}

fn not_polled(epoll: &Descriptor, entry: &Polled) -> Gap {
    gap(
        epoll.fd,
        format!(
            "does not poll what fd {} was: that number was closed or given to another since",
            entry.fd
        ),
    )
}

/// Brings an epoll set from the entries `now` to those wanted. `placed`: numbers that refer to
/// something else since `now` was read, and so are in no set.
pub(super) fn fill(
    inside: &mut Inside<'_, '_>,
    wanted: &ProcessImage,
    epoll: &Descriptor,
    now: &[Polled],
    placed: &HashSet<u32>,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    const ADD: u64 = 1;
    const DELETE: u64 = 2;
    const CHANGE: u64 = 3;
    let entries = detail::epoll(&epoll.detail);
    for entry in now {
        if !entries.iter().any(|e| e.fd == entry.fd) {
            // One whose number is closed or another's cannot be removed by it, and goes by itself.
            let _ = inside.poll(epoll.fd, DELETE, entry);
        }
    }
    for entry in &entries {
        let target = wanted.descriptors.open.iter().find(|d| d.fd == entry.fd);
        let agrees = target.is_some_and(|d| entry.inode.is_none_or(|inode| inode == d.inode));
        if !agrees {
            gaps.push(not_polled(epoll, entry));
            continue;
        }
        let known = now.iter().find(|e| e.fd == entry.fd);
        let known = known.filter(|e| !placed.contains(&e.fd));
        if known.is_some_and(|k| (k.events, k.data) == (entry.events, entry.data)) {
            continue;
        }
        let mut done = inside.poll(epoll.fd, if known.is_some() { CHANGE } else { ADD }, entry);
        if done.is_err() {
            let other = if known.is_some() { ADD } else { CHANGE };
            done = inside.poll(epoll.fd, other, entry);
        }
        if let Err(error) = done {
            gaps.push(gap(
                epoll.fd,
                format!("does not poll fd {}: {error}", entry.fd),
            ));
        }
    }
    Ok(())
}

/// A process by its number then: itself has another one now, if that is what was asked for.
fn number_now(inside: &Inside<'_, '_>, wanted: &ProcessImage, then: u32) -> u32 {
    if then == wanted.process.pid {
        own_number(inside.halt.pid())
    } else {
        then
    }
}

fn pidfd(
    inside: &mut Inside<'_, '_>,
    wanted: &ProcessImage,
    descriptor: &Descriptor,
    numbers: &[(u32, bool)],
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let pid = detail::pidfd(&descriptor.detail).filter(|pid| *pid > 0);
    let Some(pid) = pid else {
        gaps.push(gap(
            descriptor.fd,
            "its process had ended; it is closed now",
        ));
        return Ok(());
    };
    let number = number_now(inside, wanted, pid.cast_unsigned());
    let args = [u64::from(number), 0, 0, 0, 0, 0];
    match inside.call(call::PIDFD_OPEN, args) {
        Ok(made) => inside.spread(u32::try_from(made).unwrap_or(u32::MAX), numbers),
        Err(error) => {
            let why = format!("is closed: process {pid} is not there: {error}");
            gaps.push(gap(descriptor.fd, why));
            Ok(())
        }
    }
}
