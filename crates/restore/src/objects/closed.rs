//! What putting descriptors back took away, for putting that back.

use super::place::Inside;
use crate::error::{Error, Result};
use std::os::fd::{AsFd as _, OwnedFd};
use stillframe_image::objects::{Content, Memory, Message, Opened, Terminal};
use stillframe_linux::objects::{memory, pipe, socket, terminal};
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

/// Bytes of a file in memory that are kept at most; the pages of one that is mapped are kept anyway.
const MEMORY_LIMIT: u64 = 64 << 20;

/// Descriptors that were closed or replaced, and contents that were, as they were.
#[derive(Debug, Default)]
pub struct Closed {
    /// Which numbers shared a description before.
    pub shares: Vec<Opened>,
    numbers: Vec<(u32, OwnedFd, bool)>,
    contents: Vec<Emptied>,
}

#[derive(Debug)]
enum Emptied {
    Pipe(OwnedFd, Content),
    Queue {
        receiver: OwnedFd,
        peer: OwnedFd,
        stream: bool,
        messages: Vec<Message>,
    },
    Terminal(OwnedFd, Terminal),
    Memory(OwnedFd, Memory),
}

impl Closed {
    pub(super) fn keep(&mut self, number: u32, copy: OwnedFd, cloexec: bool) {
        // The first is what was there before.
        if self.numbers.iter().all(|(n, ..)| *n != number) {
            self.numbers.push((number, copy, cloexec));
        }
    }

    pub(super) fn emptied_pipe(&mut self, fd: OwnedFd, content: Content) {
        self.contents.push(Emptied::Pipe(fd, content));
    }

    pub(super) fn emptied_queue(
        &mut self,
        receiver: OwnedFd,
        peer: OwnedFd,
        stream: bool,
        messages: Vec<Message>,
    ) {
        self.contents.push(Emptied::Queue {
            receiver,
            peer,
            stream,
            messages,
        });
    }

    pub(super) fn terminal(&mut self, fd: OwnedFd, settings: Terminal) {
        self.contents.push(Emptied::Terminal(fd, settings));
    }

    /// A file in memory is about to be written.
    pub(super) fn memory(&mut self, fd: OwnedFd, size: u64) {
        let Ok(copy) = fd.try_clone() else { return };
        let content = memory::content(copy, size, MEMORY_LIMIT).ok();
        let before = Memory {
            size,
            content,
            ..Memory::default()
        };
        self.contents.push(Emptied::Memory(fd, before));
    }
}

/// Puts closed and replaced descriptors back, and what was in them.
///
/// # Errors
/// The kernel's.
pub fn undo(remote: &mut Remote, halt: &mut Halt<'_>, caller: u32, closed: Closed) -> Result<()> {
    let mut inside = Inside::of(remote, halt, caller);
    for (number, copy, cloexec) in &closed.numbers {
        inside.place(copy.as_fd(), &[(*number, *cloexec)])?;
    }
    let step = || Error::step("what was emptied");
    for emptied in closed.contents {
        match emptied {
            Emptied::Pipe(fd, content) => {
                pipe::drain(&fd).map_err(step())?;
                pipe::fill(&fd, &content).map_err(step())?;
            }
            Emptied::Queue {
                receiver,
                peer,
                stream,
                messages,
            } => {
                socket::drain(&receiver, stream).map_err(step())?;
                for message in &messages {
                    socket::send(&peer, &message.bytes, stream).map_err(step())?;
                }
            }
            Emptied::Terminal(fd, settings) => terminal::write(&fd, &settings).map_err(step())?,
            Emptied::Memory(fd, content) => memory::put(fd, &content).map_err(step())?,
        }
    }
    Ok(())
}
