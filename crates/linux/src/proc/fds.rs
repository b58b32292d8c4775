//! Open descriptors: /proc/PID/fd and /proc/PID/fdinfo.
//!
//! At two speeds. [`Fds::full`] asks everything of every descriptor. [`Fds::refresh`] runs inside
//! the stop of every tick: it lists the numbers, reads each link to notice a number that now means
//! something else, and asks for more only where something can have changed unseen: new
//! descriptors, offsets, file sizes, counters.

use super::text::{self, decimal, fields, octal, split_once};
use crate::error::{Error, Result, Target};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, RawDir, StatxFlags};
use rustix::io::Errno;
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use std::time::{Duration, Instant};
use stillframe_image::objects::detail;
use stillframe_image::{Descriptor, DescriptorKind, Descriptors};

/// Bytes of fdinfo kept. An epoll with tens of thousands of descriptors has more; the cut is at a
/// line's end.
const DETAIL_LIMIT: usize = 1 << 20;

/// Bytes of fdinfo from which on a watch list is not read at every boundary: about a hundred and
/// fifty entries, which take the kernel a tenth of a millisecond.
pub const LONG_DETAIL: usize = 16 << 10;

/// Most fdinfo files kept open: they are descriptors of ours.
const KEPT_LIMIT: usize = 256;

/// Descriptors without offset or count (sockets, pipes, terminals, devices) whose status flags are
/// read at a boundary, in turn: each takes the kernel some microseconds.
const OTHERS: usize = 3;

/// How late a processor may be with a timer that ran out; all timers of one reading together.
const DUE: Duration = Duration::from_micros(200);

/// Boundaries at which flags are read again that have just been seen to change.
const RESTLESS: u8 = 32;

/// How much [`Fds::refresh`] asks about descriptors that still refer to the same thing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    /// Offsets, flags and sizes of files, counters of eventfds and timerfds, masks, and watch lists of
    /// epoll and inotify up to [`LONG_DETAIL`], and the flags of some sockets, pipes, terminals and
    /// devices in turn, those first that changed of late. What can go stale: such flags, until it is
    /// their turn, and longer watch lists.
    Moving,
    /// All of fdinfo of all descriptors.
    Everything,
}

/// What [`Fds::refresh`] found.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FdsChange {
    /// Descriptors that were not there before, or mean something else now.
    pub opened: u32,
    /// Descriptors that are gone.
    pub closed: u32,
    /// Descriptors with another offset, size, flag or detail.
    pub changed: u32,
}

impl FdsChange {
    /// Whether anything differs.
    pub fn any(self) -> bool {
        self != Self::default()
    }
}

/// The descriptors of one process, with what is needed to read them again quickly.
#[derive(Debug)]
pub struct Fds {
    pid: u32,
    links: OwnedFd,
    infos: OwnedFd,
    turns: Turns,
    listing: Vec<MaybeUninit<u8>>,
    numbers: Vec<u32>,
    link: Vec<u8>,
    info: Vec<u8>,
    /// Open fdinfo files of descriptors that are asked again and again, by number in ascending
    /// order. Such a file shows whatever has that number when it is read, and reading it again
    /// saves opening it, the dearest part.
    kept: Vec<(u32, OwnedFd)>,
    /// Numbers that the last refresh found new, ascending.
    opened: Vec<u32>,
    /// Until when this reading waits for timers that are due.
    patience: Option<Instant>,
}

impl Fds {
    /// Opens the directories of process `pid`. They show the process as it is at each reading,
    /// also after `exec`.
    ///
    /// # Errors
    /// If it is gone or not ours to look at.
    pub fn open(pid: u32) -> Result<Self> {
        let directory = |name: &'static str| {
            let path = format!("/proc/{pid}/{name}");
            let flags = OFlags::RDONLY | OFlags::DIRECTORY | OFlags::CLOEXEC;
            rustix::fs::open(path, flags, Mode::empty())
                .map_err(|e| text::error(pid, name, e.into()))
        };
        Ok(Self {
            pid,
            links: directory("fd")?,
            infos: directory("fdinfo")?,
            turns: Turns::default(),
            listing: vec![MaybeUninit::uninit(); 32 << 10],
            numbers: Vec::new(),
            link: vec![0; libc::PATH_MAX as usize + 64],
            info: Vec::new(),
            kept: Vec::new(),
            opened: Vec::new(),
            patience: None,
        })
    }

    /// Reads everything about every descriptor. One that closes while we look is left out.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn full(&mut self) -> Result<Descriptors> {
        self.list()?;
        let mut open = Vec::with_capacity(self.numbers.len());
        for position in 0..self.numbers.len() {
            let number = Number::of(self.numbers[position]);
            if let Some(length) = self.read_link(&number)? {
                open.extend(self.describe(&number, length)?);
            }
        }
        Ok(Descriptors { open })
    }

    /// Brings `known` up to date; what is kept keeps its buffers.
    ///
    /// # Errors
    /// If the process is gone; `known` is then partly updated.
    pub fn refresh(&mut self, known: &mut Descriptors, depth: Depth) -> Result<FdsChange> {
        self.list()?;
        self.opened.clear();
        self.turns.begin();
        let mut change = FdsChange::default();
        let mut at = 0;
        for position in 0..self.numbers.len() {
            let number = Number::of(self.numbers[position]);
            while known.open.get(at).is_some_and(|d| d.fd < number.value) {
                known.open.remove(at);
                change.closed += 1;
            }
            let Some(length) = self.read_link(&number)? else {
                continue;
            };
            let same = known
                .open
                .get(at)
                .is_some_and(|d| d.fd == number.value && d.target == self.link[..length]);
            if same {
                match self.update(&number, &mut known.open[at], depth)? {
                    Updated::Same => {}
                    Updated::Changed => change.changed += 1,
                    Updated::Replaced(new) => {
                        known.open[at] = new;
                        change.opened += 1;
                        change.closed += 1;
                        self.opened.push(number.value);
                    }
                    Updated::Gone => continue,
                }
                at += 1;
                continue;
            }
            let replaced = known.open.get(at).is_some_and(|d| d.fd == number.value);
            if replaced {
                known.open.remove(at);
                change.closed += 1;
            }
            if let Some(new) = self.describe(&number, length)? {
                known.open.insert(at, new);
                change.opened += 1;
                self.opened.push(number.value);
                at += 1;
            }
        }
        change.closed += u32::try_from(known.open.len() - at).unwrap_or(u32::MAX);
        known.open.truncate(at);
        Ok(change)
    }

    /// Numbers that the last [`Fds::refresh`] found new, or found to mean something else, ascending.
    pub fn opened(&self) -> &[u32] {
        &self.opened
    }

    /// Lists the open numbers, in ascending order.
    fn list(&mut self) -> Result<()> {
        self.patience = None;
        self.numbers.clear();
        rustix::fs::seek(&self.links, rustix::fs::SeekFrom::Start(0))
            .map_err(|e| text::error(self.pid, "fd", e.into()))?;
        let mut directory = RawDir::new(self.links.as_fd(), &mut self.listing);
        while let Some(entry) = directory.next() {
            let entry = entry.map_err(|e| text::error(self.pid, "fd", e.into()))?;
            // `.` and `..` are no numbers.
            let number = decimal(entry.file_name().to_bytes()).and_then(|n| u32::try_from(n).ok());
            self.numbers.extend(number);
        }
        self.numbers.sort_unstable();
        self.kept
            .retain(|(number, _)| self.numbers.binary_search(number).is_ok());
        Ok(())
    }

    /// Reads the link into `self.link`. `None` if the descriptor is not open any more.
    fn read_link(&mut self, number: &Number) -> Result<Option<usize>> {
        match rustix::fs::readlinkat_raw(&self.links, number.name(), &mut self.link[..]) {
            Ok(length) => Ok(Some(length)),
            Err(Errno::NOENT) => Ok(None),
            // The kernel does not build a path longer than a page.
            Err(Errno::NAMETOOLONG) => Ok(Some(self.long_name())),
            Err(e) => Err(self.error(number, e)),
        }
    }

    fn long_name(&mut self) -> usize {
        const TEXT: &[u8] = b"(path too long)";
        self.link[..TEXT.len()].copy_from_slice(TEXT);
        TEXT.len()
    }

    /// Everything about the descriptor whose link is in `self.link`.
    fn describe(&mut self, number: &Number, length: usize) -> Result<Option<Descriptor>> {
        let Some(stat) = self.stat(number)? else {
            return Ok(None);
        };
        let mut descriptor = Descriptor {
            fd: number.value,
            kind: kind_of(&self.link[..length], &stat),
            flags: 0,
            offset: 0,
            target: self.link[..length].to_vec(),
            mount: 0,
            inode: stat.inode,
            file: None,
            detail: Vec::new(),
        };
        descriptor.file = stat.size_and_time(&descriptor.kind);
        Ok(self.read_info(number, &mut descriptor)?.map(|_| descriptor))
    }

    fn update(&mut self, number: &Number, known: &mut Descriptor, depth: Depth) -> Result<Updated> {
        let moves = moves(&known.kind) && known.detail.len() <= LONG_DETAIL;
        if !moves && depth == Depth::Moving {
            let turn = !self::moves(&known.kind) && self.turns.next(number.value);
            if !turn {
                return Ok(Updated::Same);
            }
        }
        let mut changed = false;
        if matches!(known.kind, DescriptorKind::Regular | DescriptorKind::MemFd) {
            let Some(stat) = self.stat(number)? else {
                return Ok(Updated::Gone);
            };
            if stat.inode != known.inode {
                // Another file under the same path.
                let length = known.target.len();
                self.link[..length].copy_from_slice(&known.target);
                return Ok(match self.describe(number, length)? {
                    Some(new) => Updated::Replaced(new),
                    None => Updated::Gone,
                });
            }
            let file = stat.size_and_time(&known.kind);
            changed |= file != known.file;
            known.file = file;
        }
        match self.read_info(number, known)? {
            Some(other) if changed || other => {
                if !moves {
                    self.turns.changed(number.value);
                }
                Ok(Updated::Changed)
            }
            Some(_) => Ok(Updated::Same),
            None => Ok(Updated::Gone),
        }
    }

    /// Reads fdinfo into `descriptor` and tells whether that changed it. `None` if it is closed.
    fn read_info(&mut self, number: &Number, descriptor: &mut Descriptor) -> Result<Option<bool>> {
        let position = self.kept.binary_search_by_key(&number.value, |(n, _)| *n);
        let file = match position {
            Ok(at) => Err(at),
            Err(_) => {
                let flags = OFlags::RDONLY | OFlags::CLOEXEC;
                match rustix::fs::openat(&self.infos, number.name(), flags, Mode::empty()) {
                    Ok(file) => Ok(file),
                    Err(Errno::NOENT) => return Ok(None),
                    Err(e) => return Err(self.error(number, e)),
                }
            }
        };
        let borrowed = match &file {
            Ok(file) => file.as_fd(),
            Err(at) => self.kept[*at].1.as_fd(),
        };
        let mut read = read_bounded(borrowed, &mut self.info);
        // A timer that ran out in this instant has not been told so by its processor. What is read
        // then looks like one that was never set, so it is asked until it is told.
        if descriptor.kind == DescriptorKind::TimerFd {
            let is_due = |text: &[u8]| {
                let detail = Info::parse(text).detail;
                detail != descriptor.detail
                    && detail::timerfd(detail).is_some_and(|t| t.value_ns == 0 && t.ticks == 0)
            };
            while read.is_ok() && is_due(&self.info) {
                let end = *self.patience.get_or_insert_with(|| Instant::now() + DUE);
                if Instant::now() >= end {
                    break;
                }
                read = read_bounded(borrowed, &mut self.info);
            }
        }
        match read {
            Ok(()) => {}
            Err(Errno::NOENT) => return Ok(None),
            Err(e) => return Err(self.error(number, e)),
        }
        if let (Ok(file), Err(at)) = (file, position)
            && self.kept.len() < KEPT_LIMIT
        {
            self.kept.insert(at, (number.value, file));
        }
        let info = Info::parse(&self.info);
        let changed = descriptor.offset != info.offset
            || descriptor.flags != info.flags
            || descriptor.mount != info.mount
            || descriptor.detail != info.detail;
        if changed {
            descriptor.offset = info.offset;
            descriptor.flags = info.flags;
            descriptor.mount = info.mount;
            descriptor.detail.clear();
            descriptor.detail.extend_from_slice(info.detail);
        }
        Ok(Some(changed))
    }

    /// Asks for no more than is cached, so that a network file system cannot keep the target
    /// standing. `None` if the descriptor is closed.
    fn stat(&self, number: &Number) -> Result<Option<Stat>> {
        let wanted = StatxFlags::TYPE
            | StatxFlags::INO
            | StatxFlags::SIZE
            | StatxFlags::MTIME
            | StatxFlags::NLINK;
        match rustix::fs::statx(&self.links, number.name(), AtFlags::STATX_DONT_SYNC, wanted) {
            Ok(s) => Ok(Some(Stat {
                mode: FileType::from_raw_mode(s.stx_mode.into()),
                inode: s.stx_ino,
                size: s.stx_size,
                modified_ns: s
                    .stx_mtime
                    .tv_sec
                    .saturating_mul(1_000_000_000)
                    .saturating_add(s.stx_mtime.tv_nsec.into()),
                device: (s.stx_rdev_major, s.stx_rdev_minor),
                unlinked: s.stx_nlink == 0,
            })),
            Err(Errno::NOENT) => Ok(None),
            // Some file systems refuse (a dead FUSE or NFS server): what the link says remains.
            Err(e) if e != Errno::SRCH => Ok(Some(Stat::default())),
            Err(e) => Err(self.error(number, e)),
        }
    }

    fn error(&self, number: &Number, e: Errno) -> Error {
        if e == Errno::SRCH {
            return Error::ProcessGone(self.pid);
        }
        let target = Target::Path(format!("/proc/{}/fd/{}", self.pid, number.value));
        Error::syscall("reading a descriptor", target, e)
    }
}

enum Updated {
    Same,
    Changed,
    Replaced(Descriptor),
    Gone,
}

/// A descriptor's number and its name in a directory, without allocation.
struct Number {
    value: u32,
    digits: [u8; 11],
    first: usize,
}

impl Number {
    fn of(value: u32) -> Self {
        // The last byte stays NUL.
        let mut digits = [0; 11];
        let mut first = 10;
        let mut rest = value;
        loop {
            first -= 1;
            digits[first] = b'0' + (rest % 10) as u8;
            rest /= 10;
            if rest == 0 {
                return Self {
                    value,
                    digits,
                    first,
                };
            }
        }
    }

    fn name(&self) -> &std::ffi::CStr {
        std::ffi::CStr::from_bytes_until_nul(&self.digits[self.first..]).unwrap_or(c"0")
    }
}

struct Stat {
    mode: FileType,
    inode: u64,
    size: u64,
    modified_ns: i64,
    device: (u32, u32),
    unlinked: bool,
}

impl Default for Stat {
    fn default() -> Self {
        Self {
            mode: FileType::Unknown,
            inode: 0,
            size: 0,
            modified_ns: 0,
            device: (0, 0),
            unlinked: false,
        }
    }
}

impl Stat {
    fn size_and_time(&self, kind: &DescriptorKind) -> Option<(u64, i64)> {
        let sized = matches!(kind, DescriptorKind::Regular | DescriptorKind::MemFd);
        sized.then_some((self.size, self.modified_ns))
    }
}

/// fdinfo: the four lines every descriptor has, and the rest.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct Info<'a> {
    pub(crate) offset: u64,
    pub(crate) flags: u32,
    pub(crate) mount: u32,
    pub(crate) detail: &'a [u8],
}

impl<'a> Info<'a> {
    /// Parses the text; what is missing stays zero.
    pub(crate) fn parse(text: &'a [u8]) -> Self {
        let mut info = Self {
            detail: text,
            ..Self::default()
        };
        // The common lines come first, in an order that grew with kernel versions.
        while let Some((line, rest)) = split_once(info.detail, b'\n') {
            let Some((key, value)) = split_once(line, b':') else {
                break;
            };
            let value = fields(value).next().unwrap_or_default();
            match key {
                b"pos" => info.offset = decimal(value).unwrap_or(0),
                b"flags" => {
                    info.flags = octal(value)
                        .and_then(|v| u32::try_from(v).ok())
                        .unwrap_or(0);
                }
                b"mnt_id" => {
                    info.mount = decimal(value)
                        .and_then(|v| u32::try_from(v).ok())
                        .unwrap_or(0);
                }
                b"ino" => {}
                _ => break,
            }
            info.detail = rest;
        }
        info
    }
}

/// Whose turn it is of those that are not read at every boundary.
#[derive(Clone, Debug, Default)]
struct Turns {
    /// How many there were, and are so far.
    before: usize,
    now: usize,
    first: usize,
    /// Numbers that changed of late, and for how long they count as such.
    restless: Vec<(u32, u8)>,
}

impl Turns {
    fn begin(&mut self) {
        self.before = std::mem::take(&mut self.now);
        self.first = match self.before {
            0 => 0,
            all => (self.first + OTHERS) % all,
        };
        for (_, left) in &mut self.restless {
            *left -= 1;
        }
        self.restless.retain(|(_, left)| *left > 0);
    }

    fn next(&mut self, number: u32) -> bool {
        let at = self.now;
        self.now += 1;
        let all = self.before.max(1);
        // A new one, beyond what was counted, was read when it was found.
        let turn = (at + all - self.first) % all < OTHERS;
        turn || self.restless.iter().any(|(n, _)| *n == number)
    }

    fn changed(&mut self, number: u32) {
        self.restless.retain(|(n, _)| *n != number);
        // No more than take turns anyway.
        if self.restless.len() < OTHERS {
            self.restless.push((number, RESTLESS));
        }
    }
}

/// Whether what fdinfo says of such a descriptor changes by its mere use.
fn moves(kind: &DescriptorKind) -> bool {
    matches!(
        kind,
        DescriptorKind::Regular
            | DescriptorKind::Directory
            | DescriptorKind::MemFd
            | DescriptorKind::BlockDevice
            | DescriptorKind::EventFd
            | DescriptorKind::TimerFd
            | DescriptorKind::SignalFd
            | DescriptorKind::Epoll
            | DescriptorKind::Inotify
    )
}

/// Reads from the beginning to the end or [`DETAIL_LIMIT`].
fn read_bounded(file: BorrowedFd<'_>, buffer: &mut Vec<u8>) -> Result<(), Errno> {
    buffer.resize(buffer.capacity().max(4096), 0);
    let mut length = 0;
    loop {
        if length == buffer.len() {
            if length >= DETAIL_LIMIT {
                let whole_lines = buffer
                    .iter()
                    .rposition(|b| *b == b'\n')
                    .map_or(0, |at| at + 1);
                length = whole_lines;
                break;
            }
            buffer.resize(length * 2, 0);
        }
        match rustix::io::pread(file, &mut buffer[length..], length as u64) {
            Ok(n) => {
                length += n;
                // fdinfo is one record to the kernel, given whole if there is room for it.
                if length < buffer.len() {
                    break;
                }
            }
            Err(Errno::INTR) => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(length);
    Ok(())
}

/// The sort of a descriptor, from its link and what `stat` says.
fn kind_of(link: &[u8], stat: &Stat) -> DescriptorKind {
    if let Some(name) = link.strip_prefix(b"anon_inode:") {
        let name = name.strip_prefix(b"[").unwrap_or(name);
        let name = name.strip_suffix(b"]").unwrap_or(name);
        return match name {
            b"eventpoll" => DescriptorKind::Epoll,
            b"eventfd" => DescriptorKind::EventFd,
            b"timerfd" => DescriptorKind::TimerFd,
            b"signalfd" => DescriptorKind::SignalFd,
            b"inotify" => DescriptorKind::Inotify,
            b"fanotify" => DescriptorKind::Fanotify,
            b"userfaultfd" => DescriptorKind::Userfaultfd,
            b"io_uring" => DescriptorKind::IoUring,
            b"pidfd" => DescriptorKind::PidFd,
            other => DescriptorKind::Other(String::from_utf8_lossy(other).into_owned()),
        };
    }
    // Names of file systems without paths: `pipe:[12345]`.
    if !link.starts_with(b"/")
        && let Some((name, _)) = split_once(link, b':')
    {
        return match name {
            b"pipe" => DescriptorKind::Pipe,
            b"socket" => DescriptorKind::Socket,
            b"pidfd" => DescriptorKind::PidFd,
            other => DescriptorKind::Other(String::from_utf8_lossy(other).into_owned()),
        };
    }
    match stat.mode {
        FileType::RegularFile if stat.unlinked && link.starts_with(b"/memfd:") => {
            DescriptorKind::MemFd
        }
        FileType::RegularFile => DescriptorKind::Regular,
        FileType::Directory => DescriptorKind::Directory,
        FileType::Fifo => DescriptorKind::Fifo,
        FileType::Socket => DescriptorKind::Socket,
        // Majors of Documentation/admin-guide/devices.txt: virtual and serial terminals,
        // /dev/tty and /dev/console, and both sides of pseudo-terminals.
        FileType::CharacterDevice if matches!(stat.device.0, 4 | 5 | 128..=143) => {
            DescriptorKind::Terminal
        }
        FileType::CharacterDevice => DescriptorKind::CharDevice,
        FileType::BlockDevice => DescriptorKind::BlockDevice,
        FileType::Symlink => DescriptorKind::Other("symlink".to_owned()),
        FileType::Unknown => DescriptorKind::Other("unknown".to_owned()),
    }
}

#[cfg(test)]
#[path = "fds_tests.rs"]
mod tests;
