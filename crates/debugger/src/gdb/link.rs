//! The connection to a debugger.
//!
//! A thread reads, so that Ctrl-C is heard while the server searches. What it may read ahead is
//! bounded, and so is what may wait to be handled.

use super::packet::{Decoder, Event, frame};
use std::collections::VecDeque;
use std::io::{self, Read, Write};
use std::sync::mpsc::{Receiver, TryRecvError, sync_channel};

/// Chunks read ahead of what is handled.
const AHEAD: usize = 32;
/// Bytes of a chunk.
const CHUNK: usize = 8 << 10;
/// Events looked at while searching for an interrupt. More mean that the client does not wait for
/// answers.
const WAITING: usize = 256;

/// A connection.
pub struct Link {
    out: Box<dyn Write + Send>,
    incoming: Receiver<Vec<u8>>,
    decoder: Decoder,
    waiting: VecDeque<Event>,
    acknowledges: bool,
    last: Vec<u8>,
}

impl Link {
    /// Begins to read.
    ///
    /// # Errors
    /// If there can be no thread.
    pub fn new(mut input: Box<dyn Read + Send>, out: Box<dyn Write + Send>) -> io::Result<Self> {
        let (send, incoming) = sync_channel(AHEAD);
        std::thread::Builder::new()
            .name("debugger".into())
            .spawn(move || {
                let mut chunk = vec![0; CHUNK];
                loop {
                    match input.read(&mut chunk) {
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Ok(0) | Err(_) => break,
                        Ok(n) => {
                            if send.send(chunk[..n].to_vec()).is_err() {
                                break;
                            }
                        }
                    }
                }
            })?;
        Ok(Self {
            out,
            incoming,
            decoder: Decoder::default(),
            waiting: VecDeque::new(),
            acknowledges: true,
            last: Vec::new(),
        })
    }

    /// The next packet; `None` when the debugger has gone.
    ///
    /// # Errors
    /// If acknowledging fails.
    pub fn next(&mut self) -> io::Result<Option<Vec<u8>>> {
        loop {
            while let Some(event) = self.waiting.pop_front() {
                match event {
                    Event::Packet(body) => {
                        if self.acknowledges {
                            self.send(b"+")?;
                        }
                        return Ok(Some(body));
                    }
                    Event::Corrupt if self.acknowledges => self.send(b"-")?,
                    // Without acknowledgements nobody would send it again.
                    Event::Corrupt | Event::TooLong => {
                        if self.acknowledges {
                            self.send(b"+")?;
                        }
                        self.reply(b"E16")?;
                    }
                    Event::Nack if self.acknowledges && !self.last.is_empty() => {
                        let last = std::mem::take(&mut self.last);
                        self.send(&last)?;
                        self.last = last;
                    }
                    // An interrupt of something that had ended by itself.
                    Event::Ack | Event::Nack | Event::Interrupt => {}
                }
            }
            match self.incoming.recv() {
                Ok(chunk) => self.take(&chunk),
                Err(_) => return Ok(None),
            }
        }
    }

    fn take(&mut self, chunk: &[u8]) {
        for byte in chunk {
            self.waiting.extend(self.decoder.push(*byte));
        }
    }

    /// Whether the user pressed Ctrl-C, or the debugger has gone, since the last packet. Does not
    /// wait.
    pub fn interrupted(&mut self) -> bool {
        while self.waiting.len() < WAITING {
            match self.incoming.try_recv() {
                Ok(chunk) => self.take(&chunk),
                Err(TryRecvError::Empty) => break,
                Err(TryRecvError::Disconnected) => return true,
            }
        }
        let found = self.waiting.iter().position(|e| *e == Event::Interrupt);
        found.is_some_and(|at| self.waiting.remove(at).is_some())
    }

    /// Whether another packet has come since the last, so that nobody waits for its reply: GDB's
    /// user pressed Ctrl-C in a `monitor` command, of which GDB tells nobody, and typed another.
    pub fn abandoned(&self) -> bool {
        let packet = |e: &Event| matches!(e, Event::Packet(_));
        self.waiting.iter().any(packet)
    }

    /// Sends a packet, its escapes made already.
    ///
    /// # Errors
    /// If it cannot be sent.
    pub fn reply(&mut self, body: &[u8]) -> io::Result<()> {
        let packet = frame(body);
        self.send(&packet)?;
        if self.acknowledges {
            self.last = packet;
        }
        Ok(())
    }

    /// From now on nothing is acknowledged.
    pub fn trust(&mut self) {
        self.acknowledges = false;
        self.last = Vec::new();
    }

    fn send(&mut self, bytes: &[u8]) -> io::Result<()> {
        self.out.write_all(bytes)?;
        self.out.flush()
    }
}
