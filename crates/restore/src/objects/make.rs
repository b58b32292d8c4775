//! Making a description anew, in our own process.

use super::gap;
use super::shared::{
    AF_UNIX, Ends, O_ACCMODE, O_WRONLY, SOCK_DGRAM, SOCK_STREAM, Shared, Stdio, Wanted,
    slave_number,
};
use crate::error::{Error, Result};
use rustix::event::EventfdFlags;
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use stillframe_image::objects::detail::{self, LockSort};
use stillframe_image::objects::{Role, Socket, State, address};
use stillframe_image::{Descriptor, DescriptorKind, Gap};
use stillframe_linux::objects::{self, pipe, socket, terminal, timer, watch};

const O_PATH: u32 = 0o10_000_000;
const O_ASYNC: u32 = 0o20_000;
const O_DIRECT: u32 = 0o40_000;
const O_CLOEXEC: u32 = 0o2_000_000;

impl Shared {
    /// The description of that number, made if it is not yet. `None` if it has to be made inside the
    /// process, or is left out and named.
    pub(super) fn make(
        &mut self,
        description: u32,
        gaps: &mut Vec<Gap>,
    ) -> Result<Option<&OwnedFd>> {
        if !self.made.contains_key(&description) {
            let Some(wanted) = self.wanted.get(&description).cloned() else {
                return Ok(None);
            };
            gaps.extend(
                self.outcome(&wanted)
                    .map(|why| gap(wanted.descriptor.fd, why)),
            );
            let Some(fd) = self.new_one(description, &wanted, gaps)? else {
                return Ok(None);
            };
            finish(&fd, &wanted, gaps)?;
            self.made.insert(description, fd);
        }
        Ok(self.made.get(&description))
    }

    fn new_one(
        &mut self,
        description: u32,
        wanted: &Wanted,
        gaps: &mut Vec<Gap>,
    ) -> Result<Option<OwnedFd>> {
        let descriptor = &wanted.descriptor;
        let number = descriptor.fd;
        let step = |what: &str| Error::step(format!("fd {number} ({what})"));
        if let Some(stream) = self.inherited(wanted) {
            return self.standard_stream(stream).map(Some);
        }
        let state = wanted.object.as_ref().map(|o| &o.state);
        if descriptor.flags & O_PATH != 0 {
            return open(descriptor, &descriptor.target).map(Some);
        }
        let made = match &descriptor.kind {
            DescriptorKind::Regular if descriptor.target.ends_with(b" (deleted)") => {
                return Err(Error::unsupported(
                    format!("fd {number}"),
                    format!(
                        "{} was deleted while it was open, and its content is not in the recording",
                        text(&descriptor.target)
                    ),
                ));
            }
            DescriptorKind::Regular
            | DescriptorKind::Directory
            | DescriptorKind::CharDevice
            | DescriptorKind::BlockDevice => {
                let fd = open(descriptor, &descriptor.target)?;
                if descriptor.kind != DescriptorKind::CharDevice {
                    rustix::fs::seek(&fd, SeekFrom::Start(descriptor.offset))
                        .map_err(|e| Error::io("seek in", text(&descriptor.target), e))?;
                }
                fd
            }
            DescriptorKind::Pipe | DescriptorKind::Fifo => self.pipe_end(wanted)?,
            DescriptorKind::Socket => match state {
                Some(State::Socket(socket)) => {
                    return self.socket(description, wanted, socket, gaps).map(Some);
                }
                _ => return Err(unknown(descriptor)),
            },
            DescriptorKind::Terminal => self.terminal(wanted, gaps)?,
            DescriptorKind::EventFd => {
                let found =
                    detail::eventfd(&descriptor.detail).ok_or_else(|| unknown(descriptor))?;
                let mut flags = EventfdFlags::CLOEXEC;
                if found.semaphore == Some(true) {
                    flags |= EventfdFlags::SEMAPHORE;
                }
                let fd = rustix::event::eventfd(0, flags)
                    .map_err(|e| Error::io("make an eventfd for", format!("fd {number}"), e))?;
                if found.count > 0 {
                    rustix::io::write(&fd, &found.count.to_ne_bytes())
                        .map_err(|e| Error::io("count up", format!("fd {number}"), e))?;
                }
                fd
            }
            DescriptorKind::TimerFd => {
                let found =
                    detail::timerfd(&descriptor.detail).ok_or_else(|| unknown(descriptor))?;
                timer::make(&found).map_err(step("timerfd"))?
            }
            DescriptorKind::SignalFd => {
                let mask =
                    detail::signalfd(&descriptor.detail).ok_or_else(|| unknown(descriptor))?;
                timer::new_signalfd(mask).map_err(step("signalfd"))?
            }
            DescriptorKind::Epoll => {
                rustix::event::epoll::create(rustix::event::epoll::CreateFlags::CLOEXEC)
                    .map_err(|e| Error::io("make an epoll set for", format!("fd {number}"), e))?
            }
            DescriptorKind::Inotify => {
                let watches = match state {
                    Some(State::Inotify(inotify)) => inotify.watches.as_slice(),
                    _ => &[],
                };
                match watch::make(watches) {
                    Ok(fd) => fd,
                    Err(error) => {
                        gaps.push(gap(number, format!("watches nothing: {error}")));
                        watch::make(&[]).map_err(step("inotify"))?
                    }
                }
            }
            DescriptorKind::MemFd => {
                let size = descriptor.file.map_or(0, |f| f.0);
                let flags = descriptor.flags & !O_CLOEXEC;
                let fd = self.memory(descriptor.inode, &descriptor.target, size)?;
                let own = objects::reopen(fd, flags).map_err(step("memfd"))?;
                rustix::fs::seek(&own, SeekFrom::Start(descriptor.offset))
                    .map_err(|e| Error::io("seek in", text(&descriptor.target), e))?;
                own
            }
            // A process of the tree can be meant, so it is made when that is there.
            DescriptorKind::PidFd => return Ok(None),
            DescriptorKind::Fanotify
            | DescriptorKind::Userfaultfd
            | DescriptorKind::IoUring
            | DescriptorKind::Other(_) => {
                return Err(Error::unsupported(
                    format!("fd {number}"),
                    format!("{} cannot be made again", text(&descriptor.target)),
                ));
            }
        };
        Ok(Some(made))
    }

    /// A stream of ours, or /dev/null.
    fn standard_stream(&self, number: u32) -> Result<OwnedFd> {
        let clone = |fd: std::os::fd::BorrowedFd<'_>| fd.try_clone_to_owned();
        let own = match (self.policy.stdio, number) {
            (Stdio::Null, _) => return null(),
            (Stdio::Inherit, 0) => clone(std::io::stdin().as_fd()),
            (Stdio::Inherit, 1) => clone(std::io::stdout().as_fd()),
            (Stdio::Inherit, _) => clone(std::io::stderr().as_fd()),
        };
        own.or_else(|_| null())
    }

    /// One end of a pipe or FIFO.
    fn pipe_end(&mut self, wanted: &Wanted) -> Result<OwnedFd> {
        let descriptor = &wanted.descriptor;
        let inode = descriptor.inode;
        let step = || Error::step(format!("fd {} (pipe)", descriptor.fd));
        if !self.pipes.contains_key(&inode) {
            let ends = self.new_pipe(wanted)?;
            self.pipes.insert(inode, ends);
        }
        let Some(ends) = self.pipes.get_mut(&inode) else {
            return Err(unknown(descriptor));
        };
        let mode = descriptor.flags & O_ACCMODE;
        let (end, taken) = match mode {
            O_WRONLY => (&ends.write, &mut ends.taken[1]),
            _ => (&ends.read, &mut ends.taken[0]),
        };
        if mode <= O_WRONLY && !std::mem::replace(taken, true) {
            return end
                .try_clone()
                .map_err(|e| Error::io("copy", format!("fd {}", descriptor.fd), e));
        }
        objects::reopen(end, mode | O_NONBLOCK).map_err(step())
    }

    fn new_pipe(&self, wanted: &Wanted) -> Result<Ends> {
        let descriptor = &wanted.descriptor;
        let step = || Error::step(format!("fd {} (pipe)", descriptor.fd));
        let capacity = match wanted.object.as_ref().map(|o| &o.state) {
            Some(State::Pipe(pipe)) => pipe.capacity,
            _ => 0,
        };
        let (read, write) = if descriptor.kind == DescriptorKind::Fifo {
            let path = path_of(&descriptor.target);
            let both = OFlags::RDWR | OFlags::NONBLOCK | OFlags::CLOEXEC;
            let both = rustix::fs::open(&path, both, Mode::empty())
                .map_err(|e| Error::io("open", path.display().to_string(), e))?;
            let write = both
                .try_clone()
                .map_err(|e| Error::io("open", path.display().to_string(), e))?;
            (both, write)
        } else {
            rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
                .map_err(|e| Error::io("make a pipe for", format!("fd {}", descriptor.fd), e))?
        };
        if capacity > 0 && pipe::capacity(&write).map_err(step())? != capacity {
            pipe::set_capacity(&write, capacity).map_err(step())?;
        }
        if let Some(content) = self.content(descriptor.inode)
            && objects::waiting(&read).unwrap_or(0) == 0
        {
            pipe::fill(&write, content).map_err(step())?;
        }
        let fifo = descriptor.kind == DescriptorKind::Fifo;
        Ok(Ends {
            read,
            write,
            taken: [fifo, fifo],
        })
    }

    fn terminal(&mut self, wanted: &Wanted, gaps: &mut Vec<Gap>) -> Result<OwnedFd> {
        let descriptor = &wanted.descriptor;
        let settings = match wanted.object.as_ref().map(|o| &o.state) {
            Some(State::Terminal(terminal)) => Some(terminal),
            _ => None,
        };
        if let Some(number) = settings.and_then(|t| t.master_of) {
            let fd = open(descriptor, b"/dev/ptmx")?;
            let now = terminal::unlock(&fd)
                .map_err(Error::step(format!("fd {} (terminal)", descriptor.fd)))?;
            self.terminals.insert(number, now);
            return Ok(fd);
        }
        if let Some(number) =
            slave_number(&descriptor.target).filter(|_| self.own_terminal(descriptor))
        {
            // Its master comes first.
            if !self.terminals.contains_key(&number) {
                let master =
                    self.wanted
                        .iter()
                        .find_map(|(at, w)| match &w.object.as_ref()?.state {
                            State::Terminal(t) if t.master_of == Some(number) => Some(*at),
                            _ => None,
                        });
                if let Some(master) = master {
                    self.make(master, gaps)?;
                }
            }
            if let Some(now) = self.terminals.get(&number) {
                if *now != number {
                    gaps.push(gap(
                        descriptor.fd,
                        format!("/dev/pts/{number} is now /dev/pts/{now}"),
                    ));
                }
                return open(descriptor, format!("/dev/pts/{now}").as_bytes());
            }
        }
        // Of somebody else: ours, if we have one.
        let streams = [0, 1, 2].into_iter();
        for stream in streams {
            if let Ok(fd) = self.standard_stream(stream)
                && rustix::termios::isatty(&fd)
            {
                return Ok(fd);
            }
        }
        null()
    }

    fn socket(
        &mut self,
        description: u32,
        wanted: &Wanted,
        socket: &Socket,
        gaps: &mut Vec<Gap>,
    ) -> Result<OwnedFd> {
        let number = wanted.descriptor.fd;
        let step = |what: &str| Error::step(format!("fd {number} ({what})"));
        let unix = socket.domain == AF_UNIX;
        let stream = socket.kind == SOCK_STREAM;
        if !socket.local.is_empty() && matches!(socket.role, Role::Listening(_) | Role::Idle)
            || socket.kind == SOCK_DGRAM && !unix
            || socket.role == Role::Idle
        {
            let fd = socket::make(socket).map_err(step("socket"))?;
            if address::is_bound(&socket.local) {
                bind(&fd, wanted, socket)?;
            }
            if let Role::Listening(backlog) = socket.role {
                socket::listen(&fd, backlog).map_err(step("listen"))?;
            }
            if !socket.peer.is_empty() && socket.role == Role::Connected {
                connect(&fd, number, socket, gaps);
            }
            return Ok(fd);
        }
        if !unix {
            return socket::closed(socket).map_err(step("connection"));
        }
        let peer = socket.peer_inode.and_then(|inode| self.socket_of(inode));
        let other = peer.and_then(|peer| Some((peer, self.wanted.get(&peer)?.clone())));
        if let Some((peer, other)) = other
            && peer != description
            && let Some(State::Socket(theirs)) = other.object.as_ref().map(|o| &o.state)
        {
            let [ours, fd] = socket::pair(socket.domain, socket.kind, socket.protocol)
                .map_err(step("socketpair"))?;
            socket::set_options(&ours, socket);
            socket::set_options(&fd, theirs);
            for message in &socket.queue {
                socket::send(&fd, &message.bytes, stream).map_err(step("what waits"))?;
            }
            for message in &theirs.queue {
                socket::send(&ours, &message.bytes, stream).map_err(step("what waits"))?;
            }
            finish(&fd, &other, gaps)?;
            self.made.insert(peer, fd);
            return Ok(ours);
        }
        if !stream && !socket.peer.is_empty() {
            let fd = socket::make(socket).map_err(step("socket"))?;
            if address::is_bound(&socket.local) {
                bind(&fd, wanted, socket)?;
            }
            connect(&fd, number, socket, gaps);
            return Ok(fd);
        }
        let [ours, gone] = socket::pair(socket.domain, socket.kind, socket.protocol)
            .map_err(step("socketpair"))?;
        socket::set_options(&ours, socket);
        for message in &socket.queue {
            socket::send(&gone, &message.bytes, stream).map_err(step("what waits"))?;
        }
        Ok(ours)
    }
}

const O_NONBLOCK: u32 = 0o4000;

fn connect(fd: &OwnedFd, number: u32, socket: &Socket, gaps: &mut Vec<Gap>) {
    if let Err(error) = socket::connect(fd, &socket.peer) {
        gaps.push(gap(number, format!("is not connected: {error}")));
    }
}

/// Binds a socket to the address it had.
fn bind(fd: &OwnedFd, wanted: &Wanted, socket: &Socket) -> Result<()> {
    let number = wanted.descriptor.fd;
    let mut address = socket.local.clone();
    if let Some(path) = socket::path_of(&socket.local) {
        let full = if path.starts_with(b"/") {
            path_of(path)
        } else {
            path_of(&wanted.cwd).join(path_of(path))
        };
        address.truncate(2);
        address.extend_from_slice(full.as_os_str().as_bytes());
        address.push(0);
        if address.len() > 110 {
            return Err(Error::unsupported(
                format!("fd {number}"),
                format!(
                    "{} is too long for a socket's address from here",
                    full.display()
                ),
            ));
        }
        // A file that nobody answers at is what the process of then left behind.
        if full.exists() && !socket::answers(&address, socket.kind) {
            std::fs::remove_file(&full)
                .map_err(|e| Error::io("remove", full.display().to_string(), e))?;
        }
    }
    const AF_NETLINK: i32 = 16;
    if socket.domain == AF_NETLINK
        && let Some(pid) = address.get_mut(4..8)
    {
        // The kernel chooses.
        pid.fill(0);
    }
    match socket::bind(fd, &address) {
        Ok(()) => Ok(()),
        Err(error) => Err(Error::unsupported(
            format!("fd {number} ({})", show_address(&socket.local)),
            format!("{error}; end whoever has this address"),
        )),
    }
}

/// An address in words.
pub(super) fn show_address(address: &[u8]) -> String {
    address::show(address)
}

/// What all sorts have: status flags and locks. The owner of its signals is set inside the process.
fn finish(fd: &OwnedFd, wanted: &Wanted, gaps: &mut Vec<Gap>) -> Result<()> {
    let descriptor = &wanted.descriptor;
    if descriptor.flags & O_PATH != 0 {
        return Ok(());
    }
    let flags = descriptor.flags & !O_ASYNC;
    let now = objects::flags(fd).map_err(Error::step(format!("fd {}", descriptor.fd)))?;
    let shared_stream = matches!(descriptor.kind, DescriptorKind::Terminal);
    if !shared_stream && (now ^ flags) & (objects::SETTABLE & !O_ASYNC) != 0 {
        let set = objects::set_flags(fd, flags);
        if let Err(error) = set {
            // O_DIRECT is refused by file systems that open(2) was not asked about.
            let rest = objects::set_flags(fd, flags & !O_DIRECT);
            rest.map_err(Error::step(format!("flags of fd {}", descriptor.fd)))?;
            gaps.push(gap(descriptor.fd, format!("has other flags: {error}")));
        }
    }
    for lock in detail::locks(&descriptor.detail) {
        let taken = match lock.sort {
            LockSort::Flock => objects::flock(fd, lock.exclusive),
            LockSort::Description => objects::lock_range(fd, lock.exclusive, lock.start, lock.end),
            // Taken inside the process, or named at capture.
            LockSort::Posix | LockSort::Lease => Ok(()),
        };
        taken.map_err(|e| {
            Error::unsupported(
                format!(
                    "the lock of fd {} on {}",
                    descriptor.fd,
                    text(&descriptor.target)
                ),
                format!("{e}; end whoever holds it"),
            )
        })?;
    }
    if let Some(State::Terminal(settings)) = wanted.object.as_ref().map(|o| &o.state)
        && rustix::termios::isatty(fd)
        && let Err(error) = terminal::write(fd, settings)
    {
        gaps.push(gap(descriptor.fd, format!("has other settings: {error}")));
    }
    Ok(())
}

fn null() -> Result<OwnedFd> {
    rustix::fs::open("/dev/null", OFlags::RDWR | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::io("open", "/dev/null", e))
}

fn open(descriptor: &Descriptor, path: &[u8]) -> Result<OwnedFd> {
    let path = path_of(path);
    let flags =
        OFlags::from_bits_retain(descriptor.flags & !O_ASYNC) | OFlags::CLOEXEC | OFlags::NOCTTY;
    rustix::fs::open(&path, flags, Mode::empty()).map_err(|e| {
        Error::io(
            "open",
            format!("{} (fd {})", path.display(), descriptor.fd),
            e,
        )
    })
}

fn path_of(bytes: &[u8]) -> PathBuf {
    Path::new(&std::ffi::OsString::from_vec(bytes.to_vec())).to_path_buf()
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn unknown(descriptor: &Descriptor) -> Error {
    Error::unsupported(
        format!("fd {} ({})", descriptor.fd, text(&descriptor.target)),
        "the recording does not say enough about it; record with this version",
    )
}
