//! Retention while recording: a thread beside the writer that bounds the recording and makes the
//! changes that others ask for.
//!
//! It never stops the writer. What the two have to agree on is the *horizon*: a segment before which
//! the writer begins no new reference to a page version, unless the version can be seen at its last
//! checkpoint. Such a version is needed by what is committed already; any other may be let go of.
//! So the thread asks for a horizon, the writer takes it up after its next commit and says where the
//! log ended then, and everything that refers to files before the horizon has then been written.

use super::change::{self, Change, Changed};
use super::compact::{Compactor, Outcome, Policy, file_path};
use super::control::{Listener, Request};
use super::ledger::Ledger;
use super::tidy;
use crate::files::Files;
use crate::log::Location;
use crate::log::scan::{Name, file_names};
use crate::{Error, Recording};
use std::collections::{HashMap, VecDeque};
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU32, Ordering};
use std::sync::mpsc::{Receiver, RecvTimeoutError, Sender, channel};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};

/// What a recording may grow to. What is set holds together.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Bound {
    /// The time it reaches back.
    pub time: Option<Duration>,
    /// Bytes of its directory.
    pub bytes: Option<u64>,
    /// Checkpoints.
    pub count: Option<u64>,
}

impl Bound {
    /// Whether nothing is bounded.
    pub const fn is_none(&self) -> bool {
        self.time.is_none() && self.bytes.is_none() && self.count.is_none()
    }

    /// The segment limit that lets the bound be held, given what was wanted: a thirty-second of the
    /// bytes, since space is given back by whole segments.
    pub fn segment_bytes(&self, wanted: u64) -> u64 {
        self.bytes
            .map_or(wanted, |b| wanted.min((b / 32).clamp(256 << 10, 256 << 20)))
    }
}

/// A removal is written down when this part of the bound is due.
const STEP: u64 = 20;
/// Removing and giving back each take at most one part in this many of the time.
const SHARE: u32 = 10;
/// How long to wait for something to do.
const IDLE: Duration = Duration::from_millis(500);
/// A segment is closed early when it holds this part of a bound in time or number.
const PARTS: u64 = 8;
/// ... if it is at least this long.
const SHORTEST: u64 = 64 << 10;
/// A file of what is left from before the window is written again after this many times the bytes of
/// all such files have been recorded.
const PATIENCE: u64 = 4;

/// What the writer says of a commit.
#[derive(Clone, Copy, Debug)]
pub struct Note {
    /// Number.
    pub id: u64,
    /// When.
    pub at_ns: u64,
    /// Bytes of log it took.
    pub bytes: u64,
    /// Segment in which its records begin.
    pub segment: u32,
}

enum Message {
    Committed(Note),
    Request(Request),
    Stop,
}

#[derive(Debug, Default)]
struct Barrier {
    horizon: u32,
    end: Location,
    failed: bool,
}

/// What the writer and the thread share.
#[derive(Debug, Default)]
pub struct Shared {
    wanted: AtomicU32,
    stop: AtomicBool,
    barrier: Mutex<Barrier>,
    passed: Condvar,
    ledger: Mutex<Arc<Ledger>>,
}

fn locked<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}

impl Shared {
    /// What was removed so far.
    pub fn ledger(&self) -> Arc<Ledger> {
        Arc::clone(&locked(&self.ledger))
    }
}

/// The writer's end.
#[derive(Debug)]
pub struct Keeper {
    bound: Bound,
    sender: Sender<Message>,
    thread: Option<JoinHandle<()>>,
    listener: Option<Listener>,
    shared: Arc<Shared>,
    /// Time and number of the first checkpoint of the segment being filled.
    began: (u64, u64),
    horizon: u32,
}

impl Keeper {
    /// Starts the thread for the recording in `dir`, whose lock is held.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        dir: &Path,
        files: Arc<dyn Files>,
        id: [u8; 16],
        level: i32,
        segment_bytes: u64,
        bound: Bound,
    ) -> Result<Self, Error> {
        let (sender, receiver) = channel();
        let shared = Arc::new(Shared::default());
        let compactor = Compactor::new(dir, Arc::clone(&files), id, level, !bound.is_none())?;
        let worker = Worker {
            dir: dir.into(),
            files,
            bound,
            join: segment_bytes,
            compactor,
            shared: Arc::clone(&shared),
            window: VecDeque::new(),
            gone: VecDeque::new(),
            logged: 0,
            written: HashMap::new(),
            compacted: 0,
            next_removal: Instant::now(),
            next_round: Instant::now(),
            stopped: false,
        };
        let thread = std::thread::Builder::new()
            .name("still-keep".into())
            .spawn(move || worker.work(&receiver))
            .map_err(Error::io("start a thread for", dir))?;
        let requests = sender.clone();
        let listener = Listener::start(dir, move |r| requests.send(Message::Request(r)).is_ok());
        let listener = match listener {
            Ok(listener) => Some(listener),
            Err(e) => {
                tracing::warn!("no requests are taken while recording: {e}");
                None
            }
        };
        Ok(Self {
            bound,
            sender,
            thread: Some(thread),
            listener,
            shared,
            began: (0, 0),
            horizon: 0,
        })
    }

    /// What is shared with the thread.
    pub fn shared(&self) -> Arc<Shared> {
        Arc::clone(&self.shared)
    }

    /// The segment before which no new reference may begin.
    pub const fn horizon(&self) -> u32 {
        self.horizon
    }

    /// Tells of a commit, after which the log ends at `end`, with `filled` bytes in its segment.
    /// Whether that segment should be closed.
    pub fn committed(&mut self, note: Note, end: Location, filled: u64) -> bool {
        let wanted = self.shared.wanted.load(Ordering::Acquire);
        if wanted > self.horizon {
            self.horizon = wanted;
            let mut barrier = locked(&self.shared.barrier);
            barrier.horizon = wanted;
            barrier.end = end;
            self.shared.passed.notify_all();
        }
        // If the thread is gone nothing is removed any more; recording goes on.
        let _ = self.sender.send(Message::Committed(note));
        if filled < SHORTEST {
            return false;
        }
        let time = self.bound.time.is_some_and(|t| {
            let part = t.as_nanos() / u128::from(PARTS);
            u128::from(note.at_ns.saturating_sub(self.began.0)) >= part
        });
        let count = self
            .bound
            .count
            .is_some_and(|n| note.id - self.began.1 >= n / PARTS);
        let close = time || count;
        if close {
            self.began = (note.at_ns, note.id);
        }
        close
    }

    /// Ends the thread.
    pub fn stop(&mut self) {
        self.listener = None;
        self.shared.stop.store(true, Ordering::Release);
        locked(&self.shared.barrier).failed = true;
        self.shared.passed.notify_all();
        let _ = self.sender.send(Message::Stop);
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::warn!("the retention thread failed");
        }
    }
}

impl Drop for Keeper {
    fn drop(&mut self) {
        self.stop();
    }
}

struct Worker {
    dir: PathBuf,
    files: Arc<dyn Files>,
    bound: Bound,
    join: u64,
    compactor: Compactor,
    shared: Arc<Shared>,
    /// Checkpoints that are kept because they are young enough, oldest first.
    window: VecDeque<Note>,
    /// Removed ones whose space has not been given back.
    gone: VecDeque<Note>,
    /// Bytes recorded in all.
    logged: u64,
    /// For each compacted file, `logged` when it was written.
    written: HashMap<Name, u64>,
    /// The horizon up to which space was given back.
    compacted: u32,
    next_removal: Instant,
    next_round: Instant,
    stopped: bool,
}

impl Worker {
    fn work(mut self, receiver: &Receiver<Message>) {
        loop {
            let first = match receiver.recv_timeout(IDLE) {
                Ok(message) => Some(message),
                Err(RecvTimeoutError::Timeout) => None,
                Err(RecvTimeoutError::Disconnected) => return,
            };
            let mut requests = Vec::new();
            for message in first.into_iter().chain(receiver.try_iter()) {
                match message {
                    Message::Committed(note) => {
                        self.logged += note.bytes;
                        // Without a bound nobody asks which ones there are.
                        if !self.bound.is_none() {
                            self.window.push_back(note);
                        }
                    }
                    Message::Request(request) => requests.push(request),
                    Message::Stop => self.stopped = true,
                }
            }
            if self.stopped || self.shared.stop.load(Ordering::Acquire) {
                return;
            }
            for request in requests {
                let result = self.request(&request.change);
                // Whoever asked may be gone.
                let _ = request.answer.send(result);
            }
            if let Err(e) = self.bound() {
                if self.shared.stop.load(Ordering::Acquire) {
                    return;
                }
                tracing::warn!("cannot give back what is too old: {e}");
                // Not again for every commit: a disk that is full stays so for a while.
                self.next_round = Instant::now() + Duration::from_secs(5);
                self.next_removal = self.next_round;
            }
        }
    }

    fn publish(&mut self, mut ledger: Ledger) -> Result<(), Error> {
        ledger.generation += 1;
        let key = crate::check::Key::new(&crate::header::read(&self.dir)?.id);
        ledger.write(&self.dir, &*self.files, key)?;
        *locked(&self.shared.ledger) = Arc::new(ledger);
        Ok(())
    }

    /// Makes a change that another process asks for.
    fn request(&mut self, change: &Change) -> Result<Changed, Error> {
        let recording = Recording::open(&self.dir)?;
        let mut ledger = (*self.shared.ledger()).clone();
        let removed = change::apply(change, &recording, true, &mut ledger)?;
        if ledger != *self.shared.ledger() {
            self.publish(ledger)?;
        }
        let mut changed = Changed {
            removed,
            remaining: recording.rows().len() as u64 - removed,
            ..Changed::default()
        };
        if change.only_names() {
            return Ok(changed);
        }
        let ledger = self.shared.ledger();
        self.window.retain(|n| !ledger.removed.contains(n.id));
        drop(recording);
        let active = file_names(&self.dir)
            .map_err(Error::io("read", self.dir.join("log")))?
            .last()
            .map_or(1, |n| n.1);
        match self.pass_barrier(active, Duration::from_secs(10)) {
            Some(end) => {
                let policy = Policy {
                    horizon: active,
                    end: Some(end),
                    join: self.join,
                    only: None,
                    always: false,
                    dry: false,
                };
                let outcome = self.compact(&policy)?;
                changed.freed = outcome.freed;
                changed.pending = outcome.stopped;
            }
            // The target may be stopped, or the rate very low.
            None => changed.pending = true,
        }
        Ok(changed)
    }

    /// Asks the writer for a horizon; where the log ended when it took it up.
    fn pass_barrier(&self, horizon: u32, patience: Duration) -> Option<Location> {
        self.shared.wanted.fetch_max(horizon, Ordering::Release);
        let guard = locked(&self.shared.barrier);
        let wait = |b: &mut Barrier| b.horizon < horizon && !b.failed;
        let (guard, _) = self
            .shared
            .passed
            .wait_timeout_while(guard, patience, wait)
            .unwrap_or_else(PoisonError::into_inner);
        (guard.horizon >= horizon && !guard.failed).then_some(guard.end)
    }

    fn compact(&mut self, policy: &Policy) -> Result<Outcome, Error> {
        let recording = Recording::open(&self.dir)?;
        let shared = Arc::clone(&self.shared);
        let mut go_on = |_, _| !shared.stop.load(Ordering::Acquire);
        let outcome = self.compactor.run(&recording, policy, &mut go_on)?;
        tracing::debug!(?outcome, "compacted");
        Ok(outcome)
    }

    /// Removes what the bound says, and gives back its space.
    fn bound(&mut self) -> Result<(), Error> {
        if self.bound.is_none() {
            return Ok(());
        }
        let n = self.excess();
        let begun = Instant::now();
        if n > 0 && begun >= self.next_removal {
            let mut ledger = (*self.shared.ledger()).clone();
            let (Some(from), Some(to)) = (self.window.front(), self.window.get(n)) else {
                return Ok(());
            };
            let (mut from, to) = (from.id, to.id);
            let mut tagged: Vec<u64> = ledger.tags.values().map(|id| id.0).collect();
            tagged.sort_unstable();
            for id in tagged {
                if (from..to).contains(&id) {
                    ledger.removed.add(from, id);
                    from = id + 1;
                }
            }
            ledger.removed.add(from, to);
            ledger.merged.retain(|id, _| !ledger.removed.contains(*id));
            self.publish(ledger)?;
            self.gone.extend(self.window.drain(..n));
            self.next_removal = Instant::now() + begun.elapsed() * SHARE;
        }
        let horizon = self.window.front().map_or(0, |n| n.segment);
        let begun = Instant::now();
        if horizon <= self.compacted || begun < self.next_round {
            return Ok(());
        }
        let Some(end) = self.pass_barrier(horizon, Duration::from_secs(1)) else {
            return Ok(());
        };
        let policy = Policy {
            horizon,
            end: Some(end),
            join: self.join,
            only: Some(self.choose(horizon)?),
            always: true,
            dry: false,
        };
        self.compact(&policy)?;
        self.compacted = horizon;
        while self.gone.front().is_some_and(|n| n.segment < horizon) {
            self.gone.pop_front();
        }
        let names = file_names(&self.dir).map_err(Error::io("read", self.dir.join("log")))?;
        let logged = self.logged;
        self.written.retain(|name, _| names.contains(name));
        for name in names.into_iter().filter(|n| n.2) {
            self.written.entry(name).or_insert(logged);
        }
        self.next_round = Instant::now() + begun.elapsed() * SHARE;
        Ok(())
    }

    /// How many of the oldest checkpoints are too many.
    fn excess(&self) -> usize {
        let Some(newest) = self.window.back() else {
            return 0;
        };
        let most = self.window.len() - 1;
        let mut n = 0;
        if let Some(time) = self.bound.time {
            let time = u64::try_from(time.as_nanos()).unwrap_or(u64::MAX);
            let limit = newest.at_ns.saturating_sub(time);
            let oldest = self.window.front().map_or(0, |o| o.at_ns);
            if oldest.saturating_add(time / STEP) <= limit {
                n = n.max(self.window.partition_point(|o| o.at_ns < limit));
            }
        }
        if let Some(count) = self.bound.count {
            let over = (self.window.len() as u64).saturating_sub(count.max(1));
            if over > count / STEP {
                n = n.max(usize::try_from(over).unwrap_or(usize::MAX));
            }
        }
        if let Some(bytes) = self.bound.bytes {
            let gone: u64 = self.gone.iter().map(|g| g.bytes).sum();
            let expected = tidy::size(&self.dir).saturating_sub(gone);
            // Room for the segment being filled, the one being given back, and its copy.
            let mut over = (expected + 3 * self.join).saturating_sub(bytes);
            if over > 0 {
                // A step at least, or every commit would be a removal.
                over = over.max(bytes / (2 * STEP));
                let mut sum = 0;
                let by_bytes = self
                    .window
                    .iter()
                    .take_while(|note| {
                        let more = sum < over;
                        sum += note.bytes;
                        more
                    })
                    .count();
                n = n.max(by_bytes);
            }
        }
        n.min(most)
    }

    /// Which files before the window to write again: all that have just left it; with them smaller
    /// ones before, as the merging of sorted runs does it; and any that has not been for long.
    fn choose(&self, horizon: u32) -> Result<Vec<Name>, Error> {
        let log = self.dir.join("log");
        let names = file_names(&self.dir).map_err(Error::io("read", log))?;
        let size =
            |name: &Name| std::fs::metadata(file_path(&self.dir, *name)).map_or(0, |m| m.len());
        let old: Vec<(Name, u64)> = names
            .into_iter()
            .filter(|n| n.1 < horizon)
            .map(|n| (n, size(&n)))
            .collect();
        let left: u64 = old.iter().filter(|(n, _)| n.2).map(|(_, s)| s).sum();
        let (mut sum, mut joined) = (0, true);
        let mut chosen = Vec::new();
        for (name, bytes) in old.iter().rev() {
            let stale = self
                .written
                .get(name)
                .is_none_or(|w| self.logged.saturating_sub(*w) >= PATIENCE * left);
            joined &= !name.2 || *bytes < 2 * sum;
            if !name.2 || stale || joined && *bytes < self.join {
                sum += bytes;
                chosen.push(*name);
            }
        }
        Ok(chosen)
    }
}
