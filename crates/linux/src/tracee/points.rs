//! What the process itself asks of its recorder: named points, and checkpoints at once.
//!
//! A program asks by sending its own thread a SIGURG that carries the address of a request (the
//! header `stillframe/points.h`). We see the signal before it is delivered. That it was the process
//! itself that sent it is vouched for by the kernel: nobody else may queue a signal with the code
//! SI_TKILL and a value. We make the signal vanish, and answer by the value that the system call
//! which sent it returns: a register, so that no memory of the process is written.
//!
//! A thread that is to be answered later is first resumed without the signal, into a trap before
//! its next instruction, and waits there. Nothing hangs on us then: if we are killed the kernel
//! lets it run, and its call has returned 0, nobody answered.

use super::{Event, State, Tracee};
use crate::error::Result;
use crate::ptrace::{Resume, StopKind, Stopped};
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::time::{Duration, Instant};
use stillframe_image::SigInfo;

/// "stil", in `si_errno`.
const MAGIC: i32 = 0x6c69_7473;
/// "stlpoint", in the request.
const REQUEST_MAGIC: u64 = 0x746e_696f_706c_7473;
const VERSION: u32 = 1;
const SI_TKILL: i32 = -6;
const SYS_RT_TGSIGQUEUEINFO: u64 = 297;
/// Bytes of a name that count.
const NAME_LIMIT: usize = 255;
/// Points kept until the next checkpoint.
const POINTS_LIMIT: usize = 4096;

const DECLINED: u64 = 1;
const NUMBERS: u64 = 2;

/// What is asked.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wish {
    /// That the next checkpoint carries a name.
    Point,
    /// A checkpoint of this moment. The thread waits for it.
    Checkpoint,
    /// How many checkpoints there are. The thread waits for [`Tracee::answer`].
    Count,
}

/// A moment that the process named.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedPoint {
    /// The thread.
    pub tid: u32,
    /// The name as the process gave it, at most 255 bytes. Empty only where a checkpoint was asked
    /// for without one.
    pub name: Vec<u8>,
}

/// What a thread asks, and waits to be answered.
#[derive(Debug)]
pub(super) struct Asking {
    wish: Wish,
    name: Vec<u8>,
    since: Instant,
    /// In its trap; before that, on its way there.
    standing: bool,
    /// It stood there when the points were last listed.
    listed: bool,
}

/// Points of the whole process.
#[derive(Debug, Default)]
pub(super) struct Points {
    passed: Vec<NamedPoint>,
    /// Of `passed`, how many have been listed.
    listed: usize,
    /// Not kept for lack of room.
    dropped: u64,
    /// Every point asks for a checkpoint.
    all_ask: bool,
}

struct Request {
    wish: Wish,
    name: Vec<u8>,
}

impl Tracee {
    /// Whether every named point is taken as asking for a checkpoint.
    pub const fn hold_at_points(&mut self, hold: bool) {
        self.points.all_ask = hold;
    }

    /// Whether a thread waits for a checkpoint.
    pub fn is_asked(&self) -> bool {
        self.threads
            .iter()
            .filter_map(|t| t.point.as_ref())
            .any(|p| p.standing && p.wish != Wish::Count)
    }

    /// After a checkpoint with this number that holds what [`Halt::points`](super::Halt::points)
    /// gave: forgets those points, and answers the threads that stood at theirs.
    ///
    /// # Errors
    /// The kernel's.
    pub fn points_taken(&mut self, number: u64) -> Result<()> {
        let listed = self.points.listed.min(self.points.passed.len());
        self.points.passed.drain(..listed);
        self.points.listed = 0;
        if self.points.dropped > 0 {
            let dropped = std::mem::take(&mut self.points.dropped);
            tracing::warn!("{dropped} points between two checkpoints were too many to keep");
        }
        self.answer_where(number.saturating_add(NUMBERS), |p| {
            p.listed && p.wish != Wish::Count
        })
    }

    /// Answers thread `tid`, which asked for the number of checkpoints.
    ///
    /// # Errors
    /// The kernel's.
    pub fn answer(&mut self, tid: u32, checkpoints: u64) -> Result<()> {
        match self.find(tid) {
            Some(at) => self.answer_at(at, checkpoints.saturating_add(NUMBERS), |p| {
                p.wish == Wish::Count
            }),
            None => Ok(()),
        }
    }

    /// Tells threads that have waited this long that there will be no checkpoint.
    ///
    /// # Errors
    /// The kernel's.
    pub fn decline_points(&mut self, after: Duration) -> Result<()> {
        self.answer_where(DECLINED, |p| p.since.elapsed() >= after)
    }

    fn answer_where(&mut self, value: u64, which: impl Fn(&Asking) -> bool) -> Result<()> {
        for at in 0..self.threads.len() {
            self.answer_at(at, value, &which)?;
        }
        Ok(())
    }

    fn answer_at(&mut self, at: usize, value: u64, which: impl Fn(&Asking) -> bool) -> Result<()> {
        let Some(thread) = self.threads.get_mut(at) else {
            return Ok(());
        };
        if thread.point.take_if(|p| p.standing && which(p)).is_none() {
            return Ok(());
        }
        thread.held = false;
        thread.state = match std::mem::replace(&mut thread.state, State::Moving) {
            State::Stopped(s) => {
                give(&s, value)?;
                match s.kind() {
                    StopKind::Group(_) => State::Listening(s.listen()?),
                    _ => State::Running(s.resume(Resume::Continue, 0)?),
                }
            }
            other => other,
        };
        Ok(())
    }

    /// Points passed since the last checkpoint, and those at which threads stand. Called while all
    /// threads are stopped.
    pub(super) fn list_points(&mut self) -> Vec<NamedPoint> {
        let mut all = self.points.passed.clone();
        self.points.listed = all.len();
        for thread in &mut self.threads {
            if let Some(point) = &mut thread.point {
                point.listed = point.standing;
                if point.listed && point.wish != Wish::Count {
                    all.push(NamedPoint {
                        tid: thread.tid,
                        name: point.name.clone(),
                    });
                }
            }
        }
        all
    }

    /// Deals with a request: the stopped thread to go on, and whether it must stop again at once
    /// and wait. `None` if the stop carries no request.
    pub(super) fn take_request(&mut self, at: usize, s: &Stopped) -> Option<bool> {
        let request = read(s)?;
        if self.guest.is_some() {
            // It is no process of its own, and not recorded; nor is its host's gate to be closed.
            if let Err(error) = give(s, DECLINED) {
                tracing::debug!(tid = s.tid(), %error, "a point was not answered");
            }
            return Some(false);
        }
        if request.wish == Wish::Point && !self.points.all_ask {
            if self.points.passed.len() >= POINTS_LIMIT {
                self.points.dropped += 1;
            } else if !request.name.is_empty() {
                self.points.passed.push(NamedPoint {
                    tid: s.tid(),
                    name: request.name,
                });
            }
            if let Err(error) = give(s, NUMBERS) {
                tracing::debug!(tid = s.tid(), %error, "a point was not answered");
            }
            return Some(false);
        }
        let thread = self.threads.get_mut(at)?;
        thread.point = Some(Asking {
            wish: request.wish,
            name: request.name,
            since: Instant::now(),
            standing: false,
            listed: false,
        });
        Some(true)
    }

    /// The thread at `at` is in a trap: whether it is the one in which it waits for an answer.
    pub(super) fn stands_at_point(&mut self, at: usize) -> bool {
        let Some(thread) = self.threads.get_mut(at) else {
            return false;
        };
        let Some(point) = thread.point.as_mut().filter(|p| !p.standing) else {
            return false;
        };
        point.standing = true;
        thread.held = true;
        let (tid, wish) = (thread.tid, point.wish);
        self.queue.push_back(Event::Point { tid, wish });
        true
    }
}

/// Makes the system call that the thread has just left return `value`.
fn give(s: &Stopped, value: u64) -> Result<()> {
    let set = s.registers().and_then(|mut registers| {
        registers.rax = value.min(i64::MAX.cast_unsigned());
        s.set_registers(&registers)
    });
    match set {
        Err(e) if !e.is_gone() => Err(e),
        _ => Ok(()),
    }
}

/// The request that a thread stopped for SIGURG makes.
fn read(s: &Stopped) -> Option<Request> {
    let address = address(&s.siginfo().ok()?)?;
    // It has just left the call, with nothing between: not a handler, not another thread's signal.
    let r = s.registers().ok()?;
    let (left, signal) = (
        r.orig_rax == SYS_RT_TGSIGQUEUEINFO && r.rax == 0,
        r.rdx & 0xffff_ffff,
    );
    if !left || signal != libc::SIGURG.cast_unsigned().into() {
        return None;
    }
    let memory = File::open(format!("/proc/{}/mem", s.tid())).ok()?;
    let mut bytes = [0u8; 32];
    memory.read_exact_at(&mut bytes, address).ok()?;
    let (wish, name, length) = parse(&bytes)?;
    let mut text = vec![0; length];
    // A name that cannot be read is none.
    if name == 0 || memory.read_exact_at(&mut text, name).is_err() {
        text.clear();
    }
    Some(Request { wish, name: text })
}

/// Where the request is, if the signal carries one.
fn address(info: &SigInfo) -> Option<u64> {
    if info.signal != libc::SIGURG || info.errno != MAGIC || info.code != SI_TKILL {
        return None;
    }
    let address = u64::from_ne_bytes(*info.raw.get(24..)?.first_chunk()?);
    i64::try_from(address)
        .is_ok_and(|a| a > 0)
        .then_some(address)
}

/// What is asked, where the name is, and how many bytes of it count.
fn parse(bytes: &[u8; 32]) -> Option<(Wish, u64, usize)> {
    let word = |at: usize| Some(u64::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    let half = |at: usize| Some(u32::from_ne_bytes(*bytes.get(at..)?.first_chunk()?));
    if word(0)? != REQUEST_MAGIC || half(8)? != VERSION {
        return None;
    }
    let wish = match half(12)? {
        1 => Wish::Point,
        2 => Wish::Checkpoint,
        3 => Wish::Count,
        _ => return None,
    };
    let name = i64::try_from(word(16)?).map_or(0, i64::cast_unsigned);
    let length = usize::try_from(word(24)?).unwrap_or(usize::MAX);
    Some((wish, name, length.min(NAME_LIMIT)))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn request(kind: u32, name: u64, length: u64) -> [u8; 32] {
        let mut bytes = [0; 32];
        bytes[..8].copy_from_slice(&REQUEST_MAGIC.to_ne_bytes());
        bytes[8..12].copy_from_slice(&VERSION.to_ne_bytes());
        bytes[12..16].copy_from_slice(&kind.to_ne_bytes());
        bytes[16..24].copy_from_slice(&name.to_ne_bytes());
        bytes[24..].copy_from_slice(&length.to_ne_bytes());
        bytes
    }

    #[test]
    fn requests_are_read_and_bounded() {
        assert_eq!(parse(&request(1, 64, 3)), Some((Wish::Point, 64, 3)));
        let long = parse(&request(2, 64, u64::MAX));
        assert_eq!(long, Some((Wish::Checkpoint, 64, NAME_LIMIT)));
        // A name in the kernel's half is none.
        assert_eq!(parse(&request(3, u64::MAX, 1)), Some((Wish::Count, 0, 1)));
        assert_eq!(parse(&request(4, 64, 3)), None);
        for byte in 0..12 {
            let mut bytes = request(1, 64, 3);
            bytes[byte] ^= 1;
            assert_eq!(parse(&bytes), None, "byte {byte}");
        }
    }

    #[test]
    fn only_a_signal_from_the_process_itself_is_a_request() {
        let info = |errno, code, address: u64| {
            let mut raw = vec![0; 128];
            raw[24..32].copy_from_slice(&address.to_ne_bytes());
            SigInfo {
                signal: libc::SIGURG,
                errno,
                code,
                raw,
            }
        };
        assert_eq!(address(&info(MAGIC, SI_TKILL, 4096)), Some(4096));
        assert_eq!(address(&info(MAGIC, -1, 4096)), None);
        assert_eq!(address(&info(0, SI_TKILL, 4096)), None);
        assert_eq!(address(&info(MAGIC, SI_TKILL, 0)), None);
        assert_eq!(address(&info(MAGIC, SI_TKILL, 1 << 63)), None);
        let mut short = info(MAGIC, SI_TKILL, 4096);
        short.raw.truncate(20);
        assert_eq!(address(&short), None);
    }
}
