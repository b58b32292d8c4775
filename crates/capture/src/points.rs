//! Cooperative points: what the target says to us, and how it knows that we are there.
//!
//! The target knows by its gates (`stillframe_linux::gates`), which are opened before the first
//! checkpoint, so that every checkpoint holds them open, and looked after while it runs: libraries
//! come and go. That is done between ticks and stops nothing. What it says arrives as
//! [`Event::Point`](stillframe_linux::tracee::Event) and with the boundary.

use std::time::{Duration, Instant};
use stillframe_image::section::MAX_POINTS;
use stillframe_image::{Point, SpaceId};
use stillframe_linux::gates::Gates;
use stillframe_linux::proc::status::Status;
use stillframe_linux::tracee::Halt;

/// Longest a thread waits for the checkpoint it asked for. Only a target that cannot be stopped, or
/// a store that does not keep up, makes it wait so long.
pub const ANSWER_LIMIT: Duration = Duration::from_secs(2);

/// How soon a checkpoint that was asked for and could not be taken is tried again.
pub const RETRY: Duration = Duration::from_millis(1);

/// Looks for new libraries: often while a program starts, seldom later.
const LOOKS: [(Duration, Duration); 2] = [
    (Duration::from_millis(500), Duration::from_millis(2)),
    (Duration::from_secs(5), Duration::from_millis(10)),
];
const LATER: Duration = Duration::from_millis(50);

/// The gates of the target, and when to look at them again.
#[derive(Debug)]
pub struct Points {
    pid: u32,
    gates: Option<Gates>,
    since: Instant,
    next: Option<Instant>,
}

impl Points {
    /// Of process `pid`. Nothing is looked at yet.
    pub fn new(pid: u32) -> Self {
        let now = Instant::now();
        Self {
            pid,
            gates: None,
            since: now,
            next: Some(now),
        }
    }

    /// Opens gates that are new, if it is time to. Tells when it is again, and whether any were
    /// opened, and so memory of the process written. A process confined by seccomp keeps its gates
    /// closed: the call behind a point could end it.
    pub fn look(&mut self) -> (Option<Instant>, bool) {
        let now = Instant::now();
        if self.next.is_none_or(|next| next > now) {
            return (self.next, false);
        }
        if self.gates.is_none() && Status::read(self.pid).is_ok_and(|s| s.seccomp == 0) {
            self.gates = Gates::find(self.pid)
                .inspect_err(|error| tracing::debug!("points cannot be used: {error}"))
                .ok();
        }
        let age = now.duration_since(self.since);
        let pause = LOOKS
            .iter()
            .find(|(until, _)| age < *until)
            .map_or(LATER, |(_, pause)| *pause);
        let mut opened = false;
        self.next = match self.gates.as_mut().map(Gates::open) {
            None => None,
            Some(Ok(written)) => {
                opened = !written.is_empty();
                if opened {
                    tracing::debug!(pid = self.pid, "{} gates opened", written.len());
                }
                Some(now + pause)
            }
            Some(Err(error)) => {
                tracing::debug!("gates cannot be looked at: {error}");
                None
            }
        };
        (self.next, opened)
    }

    /// Closes the gates: the target is about to be alone.
    pub fn close(&mut self) {
        if let Some(gates) = &mut self.gates {
            gates.close();
        }
        self.next = None;
    }
}

/// Adds the points of a process that a checkpoint answers.
pub fn list(halt: &mut Halt<'_>, space: SpaceId, into: &mut Vec<Point>) {
    let room = MAX_POINTS.saturating_sub(into.len());
    into.extend(halt.points().into_iter().take(room).map(|point| Point {
        space,
        tid: point.tid,
        name: point.name,
    }));
}
