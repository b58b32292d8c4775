//! Open descriptors of a live process put back.
//!
//! What refers to the same thing still is put where it was (offset, flags). What was opened since is
//! closed. What was closed since is opened again if it has a path and is the same file; a connection
//! is not to be had again and comes back *broken*: reading says ECONNRESET and writing EPIPE, as if
//! its peer had gone, which is what every program that talks to others must bear. What an epoll set
//! watches is what it watched.
//!
//! Every descriptor that is closed or replaced is kept until the end, to be put back if a step fails.

use super::Error;
use std::os::fd::{AsFd, OwnedFd};
use stillframe_image::{Descriptor, DescriptorKind, Descriptors, Gap, ProcessImage};
use stillframe_linux::proc::fds::Fds;
use stillframe_linux::proc::set::{is_our_standard, set_offset};
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

const WRITE: i64 = 1;
const CLOSE: i64 = 3;
const SOCKETPAIR: i64 = 53;
const FCNTL: i64 = 72;
const EPOLL_CTL: i64 = 233;
const OPENAT: i64 = 257;
const DUP3: i64 = 292;

const O_CLOEXEC: u32 = 0o2_000_000;
const O_ACCMODE: u32 = 3;
/// O_APPEND | O_NONBLOCK | O_DIRECT | O_NOATIME: what F_SETFL can change.
const SETTABLE: u32 = 0o2000 | 0o4000 | 0o40_000 | 0o1_000_000;

/// Descriptors that were closed or replaced, as they were.
#[derive(Debug, Default)]
pub struct Closed {
    list: Vec<(u32, OwnedFd, bool)>,
}

/// Works in one process.
struct Hands<'a, 'h> {
    remote: &'a mut Remote,
    halt: &'a mut Halt<'h>,
    caller: u32,
    closed: Option<&'a mut Closed>,
}

impl Hands<'_, '_> {
    fn call(&mut self, number: i64, args: [u64; 6]) -> Result<u64, Error> {
        Ok(self.remote.call(self.halt, self.caller, number, args)?)
    }

    /// A descriptor is about to go.
    fn keep(&mut self, d: &Descriptor) {
        if let Some(closed) = self.closed.as_deref_mut()
            && let Ok(copy) = self.remote.take_fd(d.fd)
        {
            closed.list.push((d.fd, copy, d.flags & O_CLOEXEC != 0));
        }
    }

    fn close(&mut self, fd: u64) -> Result<(), Error> {
        self.call(CLOSE, [fd, 0, 0, 0, 0, 0]).map(|_| ())
    }

    /// Moves a descriptor to its number.
    fn place(&mut self, from: u64, to: u32, cloexec: bool) -> Result<(), Error> {
        if from == u64::from(to) {
            return Ok(());
        }
        let flags = if cloexec { u64::from(O_CLOEXEC) } else { 0 };
        self.call(DUP3, [from, u64::from(to), flags, 0, 0, 0])?;
        self.close(from)
    }

    /// A connection whose peer is gone, at a number.
    fn break_at(&mut self, d: &Descriptor) -> Result<(), Error> {
        let scratch = self.remote.scratch().start;
        self.call(SOCKETPAIR, [1, 1, 0, scratch, 0, 0])?;
        let mut pair = [[0u8; 4]; 2];
        let [ours, theirs] = &mut pair;
        self.remote.read(scratch, ours)?;
        self.remote.read(scratch + 4, theirs)?;
        let [ours, theirs] = pair.map(|b| u64::from(u32::from_le_bytes(b)));
        // What the peer has not read when it closes makes it a reset.
        self.call(WRITE, [ours, scratch, 1, 0, 0, 0])?;
        self.close(theirs)?;
        self.place(ours, d.fd, d.flags & O_CLOEXEC != 0)?;
        self.set_flags(d)
    }

    fn set_flags(&mut self, d: &Descriptor) -> Result<(), Error> {
        const F_SETFL: u64 = 4;
        let flags = u64::from(d.flags & SETTABLE);
        self.call(FCNTL, [u64::from(d.fd), F_SETFL, flags, 0, 0, 0])
            .map(|_| ())
    }

    /// Opens a path again; `false` if it is not the same file.
    fn reopen(&mut self, d: &Descriptor) -> Result<bool, Error> {
        use std::os::unix::ffi::OsStrExt;
        use std::os::unix::fs::MetadataExt;
        const AT_FDCWD: u64 = (-100i64).cast_unsigned();
        let path = std::ffi::OsStr::from_bytes(&d.target);
        let meta = std::fs::metadata(path);
        if !d.target.starts_with(b"/") || !meta.is_ok_and(|m| m.ino() == d.inode) {
            return Ok(false);
        }
        let scratch = self.remote.scratch().start;
        let mut name = d.target.clone();
        name.push(0);
        self.remote.write(scratch, &name)?;
        let flags = d.flags & (SETTABLE | O_ACCMODE) | O_CLOEXEC;
        let opened = self.call(OPENAT, [AT_FDCWD, scratch, u64::from(flags), 0, 0, 0]);
        let Ok(fd) = opened else { return Ok(false) };
        self.place(fd, d.fd, d.flags & O_CLOEXEC != 0)?;
        if d.kind == DescriptorKind::Regular {
            set_offset(&self.remote.take_fd(d.fd)?, d.offset)?;
        }
        Ok(true)
    }
}

fn is_same(a: &Descriptor, b: &Descriptor) -> bool {
    // Anonymous inodes are one for all: two of a kind cannot be told apart, and need not be.
    (&a.kind, a.inode, a.mount) == (&b.kind, b.inode, b.mount)
}

/// Makes the descriptors what they were. `broken`: connections that come back broken though they are
/// still there. Returns what could not be put back.
///
/// # Errors
/// The kernel's.
pub fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    wanted: &ProcessImage,
    broken: &[u32],
    closed: Option<&mut Closed>,
) -> Result<Vec<Gap>, Error> {
    let now = Fds::open(remote.pid())?.full()?;
    let mut hands = Hands {
        remote,
        halt,
        caller,
        closed,
    };
    let mut gaps = Vec::new();
    let then = &wanted.descriptors.open;
    let find = |list: &[Descriptor], fd: u32| list.iter().position(|d| d.fd == fd);
    for held in &now.open {
        let ours = hands.remote.channel() == Some(held.fd);
        if !ours && find(then, held.fd).is_none() {
            hands.keep(held);
            hands.close(u64::from(held.fd))?;
        }
    }
    let mut renewed = Vec::new();
    for want in then {
        let held = find(&now.open, want.fd).and_then(|at| now.open.get(at));
        if let Some(held) = held
            && is_same(held, want)
            && !broken.contains(&want.fd)
        {
            let moved = held.offset != want.offset;
            let file = matches!(want.kind, DescriptorKind::Regular | DescriptorKind::MemFd);
            // What we write there comes behind what was written, whoever goes back.
            if moved && file && !is_our_standard(hands.remote.pid(), want.fd) {
                set_offset(&hands.remote.take_fd(want.fd)?, want.offset)?;
            }
            if (held.flags ^ want.flags) & SETTABLE != 0 {
                hands.set_flags(want)?;
            }
            continue;
        }
        let mut gap = |reason: &str| {
            gaps.push(Gap {
                subject: format!("fd {}", want.fd),
                reason: reason.to_owned(),
            });
        };
        match want.kind {
            DescriptorKind::Socket => {
                if let Some(held) = held {
                    hands.keep(held);
                }
                hands.break_at(want)?;
                renewed.push(want.fd);
                gap("its connection is gone and came back broken");
            }
            DescriptorKind::Regular
            | DescriptorKind::Directory
            | DescriptorKind::CharDevice
            | DescriptorKind::Fifo => {
                if let Some(held) = held {
                    hands.keep(held);
                }
                if hands.reopen(want)? {
                    renewed.push(want.fd);
                } else {
                    gap("was closed since, and what it was is not to be had any more");
                }
            }
            _ if held.is_some() => gap("refers to something else since, and stays so"),
            _ => gap("was closed since, and stays closed"),
        }
    }
    for set in then.iter().filter(|d| d.kind == DescriptorKind::Epoll) {
        let held = now
            .open
            .iter()
            .find(|d| d.fd == set.fd && d.kind == DescriptorKind::Epoll);
        if let Some(held) = held {
            watch(&mut hands, held, set, &renewed, &now, &mut gaps)?;
        }
    }
    Ok(gaps)
}

/// One descriptor that an epoll set watches.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Watched {
    fd: u32,
    events: u32,
    data: u64,
}

/// `tfd:        5 events:       19 data:                5  pos:0 ino:...`, all but the first
/// hexadecimal.
fn watched(d: &Descriptor) -> Vec<Watched> {
    let text = String::from_utf8_lossy(&d.detail);
    text.lines()
        .filter_map(|line| {
            let mut words = line.strip_prefix("tfd:")?.split_whitespace();
            let fd = words.next()?.parse().ok()?;
            let mut value = |key: &str| {
                (words.next()? == key).then_some(())?;
                u64::from_str_radix(words.next()?, 16).ok()
            };
            let events = u32::try_from(value("events:")?).ok()?;
            let data = value("data:")?;
            Some(Watched { fd, events, data })
        })
        .collect()
}

fn watch(
    hands: &mut Hands<'_, '_>,
    held: &Descriptor,
    set: &Descriptor,
    renewed: &[u32],
    now: &Descriptors,
    gaps: &mut Vec<Gap>,
) -> Result<(), Error> {
    const ADD: u64 = 1;
    const DEL: u64 = 2;
    const MOD: u64 = 3;
    let (held, wanted) = (watched(held), watched(set));
    let mut control = |how: u64, w: &Watched| -> Result<(), Error> {
        let scratch = hands.remote.scratch().start;
        let mut event = w.events.to_le_bytes().to_vec();
        event.extend(w.data.to_le_bytes());
        hands.remote.write(scratch, &event)?;
        let args = [u64::from(set.fd), how, u64::from(w.fd), scratch, 0, 0];
        if let Err(e) = hands.call(EPOLL_CTL, args) {
            gaps.push(Gap {
                subject: format!("fd {}", set.fd),
                reason: format!("its watch on fd {} is not as it was: {e}", w.fd),
            });
        }
        Ok(())
    };
    for w in &wanted {
        match held.iter().find(|h| h.fd == w.fd) {
            // Closing what was there took it out of the set.
            _ if renewed.contains(&w.fd) => control(ADD, w)?,
            Some(h) if h == w => {}
            Some(_) => control(MOD, w)?,
            None => control(ADD, w)?,
        }
    }
    for h in &held {
        let stays = now.open.iter().any(|d| d.fd == h.fd) && !renewed.contains(&h.fd);
        if stays && !wanted.iter().any(|w| w.fd == h.fd) {
            control(DEL, h)?;
        }
    }
    Ok(())
}

/// Puts closed and replaced descriptors back.
///
/// # Errors
/// The kernel's.
pub fn put_back(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    caller: u32,
    closed: Closed,
) -> Result<(), Error> {
    for (number, copy, cloexec) in closed.list {
        let fd = remote.send_fd(halt, caller, copy.as_fd())?;
        let mut hands = Hands {
            remote,
            halt,
            caller,
            closed: None,
        };
        hands.place(u64::from(fd), number, cloexec)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_an_epoll_set_watches_is_understood() {
        let d = Descriptor {
            fd: 5,
            kind: DescriptorKind::Epoll,
            flags: 0,
            offset: 0,
            target: Vec::new(),
            mount: 0,
            inode: 0,
            file: None,
            detail:
                b"tfd:        6 events:       19 data:         7f0000000006  pos:0 ino:2 sdev:9\n\
                      tfd:       10 events: 8000001d data:                a\nother: 3\n"
                    .to_vec(),
        };
        assert_eq!(
            watched(&d),
            [
                Watched {
                    fd: 6,
                    events: 0x19,
                    data: 0x7f00_0000_0006
                },
                Watched {
                    fd: 10,
                    events: 0x8000_001d,
                    data: 10
                }
            ]
        );
    }
}
