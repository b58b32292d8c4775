//! Pipes and FIFOs.

use super::calls;
use crate::error::{Error, Result, Target};
use rustix::io::Errno;
use rustix::pipe::{PipeFlags, SpliceFlags};
use std::os::fd::{AsFd, OwnedFd};
use stillframe_image::objects::Content;

/// Bytes of a pipe that are read at most.
pub const LIMIT: u64 = 1 << 20;

/// Capacity in bytes.
///
/// # Errors
/// If it is no pipe.
pub fn capacity(fd: impl AsFd) -> Result<u32> {
    let bytes = calls::fcntl(fd.as_fd(), "fcntl F_GETPIPE_SZ", libc::F_GETPIPE_SZ, 0)?;
    Ok(bytes.cast_unsigned())
}

/// Sets the capacity.
///
/// # Errors
/// If more is in it, or it is more than an unprivileged user may have.
pub fn set_capacity(fd: impl AsFd, bytes: u32) -> Result<()> {
    calls::fcntl(
        fd.as_fd(),
        "fcntl F_SETPIPE_SZ",
        libc::F_SETPIPE_SZ,
        bytes.into(),
    )
    .map(drop)
}

/// A pipe of ours, to duplicate others into.
#[derive(Debug, Default)]
pub struct Tee {
    ends: Option<Ends>,
    buffer: Vec<u8>,
}

#[derive(Debug)]
struct Ends {
    read: OwnedFd,
    write: OwnedFd,
    capacity: u32,
}

impl Tee {
    /// Reads what is in a pipe and leaves it there. `fd` must be able to read it; `packets` says whether
    /// it has O_DIRECT.
    ///
    /// # Errors
    /// The kernel's.
    pub fn read(&mut self, fd: impl AsFd, capacity: u32, packets: bool) -> Result<Content> {
        let there = super::waiting(&fd)?;
        if there == 0 {
            return Ok(Content::default());
        }
        let result = self.copy(fd, capacity, packets, there);
        if result.is_err() {
            // It may hold a rest.
            self.ends = None;
        }
        result
    }

    fn copy(&mut self, fd: impl AsFd, capacity: u32, packets: bool, there: u64) -> Result<Content> {
        let fail = |what| move |e: Errno| Error::syscall(what, Target::Us, e);
        let ends = match self.ends.take() {
            Some(ends) if ends.capacity >= capacity => ends,
            _ => Ends::new(capacity)?,
        };
        // What one call duplicates are whole buffers from the first on, so one call has to do.
        let room = usize::try_from(there).unwrap_or(usize::MAX);
        let length = match rustix::pipe::tee(&fd, &ends.write, room, SpliceFlags::NONBLOCK) {
            Ok(length) => length,
            Err(Errno::AGAIN) => 0,
            Err(e) => return Err(fail("tee")(e)),
        };
        let mut content = Content::default();
        self.buffer.resize(64 << 10, 0);
        let mut left = length;
        while left > 0 {
            let n = rustix::io::read(&ends.read, &mut self.buffer[..]).map_err(fail("read"))?;
            if n == 0 {
                break;
            }
            left = left.saturating_sub(n);
            if content.bytes.len() as u64 + n as u64 <= LIMIT {
                content.bytes.extend_from_slice(&self.buffer[..n]);
                if packets {
                    content.packets.push(u32::try_from(n).unwrap_or(u32::MAX));
                }
            }
        }
        content.missing = there.saturating_sub(content.bytes.len() as u64);
        self.ends = Some(ends);
        Ok(content)
    }
}

impl Ends {
    fn new(capacity: u32) -> Result<Self> {
        let flags = PipeFlags::CLOEXEC | PipeFlags::NONBLOCK | PipeFlags::DIRECT;
        // Packets that are read one by one stay apart; what is no packet is unaffected, because tee
        // takes the buffers as they are.
        let (read, write) =
            rustix::pipe::pipe_with(flags).map_err(|e| Error::syscall("pipe2", Target::Us, e))?;
        let got = match set_capacity(&write, capacity) {
            Ok(()) => self::capacity(&write)?,
            // Less than there may be: what does not fit is named.
            Err(_) => self::capacity(&write)?.max(capacity),
        };
        Ok(Self {
            read,
            write,
            capacity: got,
        })
    }
}

/// Takes everything out of a pipe, through a description of ours.
///
/// # Errors
/// The kernel's.
pub fn drain(fd: impl AsFd) -> Result<()> {
    let own = super::reopen(fd, (libc::O_RDONLY | libc::O_NONBLOCK) as u32)?;
    let mut buffer = vec![0; 64 << 10];
    loop {
        match rustix::io::read(&own, &mut buffer[..]) {
            Ok(0) | Err(Errno::AGAIN) => return Ok(()),
            Ok(_) | Err(Errno::INTR) => {}
            Err(e) => return Err(Error::syscall("read", Target::Us, e)),
        }
    }
}

/// Puts bytes into a pipe, through a description of ours.
///
/// # Errors
/// If they do not fit.
pub fn fill(fd: impl AsFd, content: &Content) -> Result<()> {
    let own = super::reopen(fd, (libc::O_WRONLY | libc::O_NONBLOCK) as u32)?;
    if !content.packets.is_empty() {
        // open(2) refuses it for a pipe.
        super::set_flags(&own, (libc::O_NONBLOCK | libc::O_DIRECT) as u32)?;
    }
    let mut at = 0;
    let mut packets = content.packets.iter();
    while at < content.bytes.len() {
        let length = match packets.next() {
            Some(length) => *length as usize,
            None => content.bytes.len() - at,
        };
        let end = (at + length).min(content.bytes.len());
        if end == at {
            continue;
        }
        match rustix::io::write(&own, &content.bytes[at..end]) {
            Ok(n) => at += n,
            Err(Errno::INTR) => {}
            Err(e) => return Err(Error::syscall("write", Target::Us, e)),
        }
    }
    Ok(())
}
