//! From the boundary to the disk.
//!
//! The capture thread never touches a file. It fills batches of pages, hands them over, and goes
//! back to its target; a thread behind a queue gives them to the store. The queue is bounded by
//! [`Pipeline::has_room`], which the capture thread asks before it starts a tick: when the store
//! cannot keep up, ticks are skipped, and neither memory nor the target's stalls grow. Batches go
//! back and forth, so that in steady state nothing is allocated.
//!
//! Storing a page takes several times as long as copying it. While copying waits for the store, a
//! target that writes all the time has written again what was copied, round after round, and in the
//! end everything must be copied in a stop. So what is copied for a checkpoint is held back until
//! its boundary stands ([`Pipeline::hold`]), and only the last copy of each page goes on (`held`).

mod held;
mod store;

use crate::Error;
use crate::courtesy::Courtesy;
use crate::files::{Content, FilesPolicy, Keeper, Taken};
use crate::paranoid::{Checker, Witness};
use crossbeam_channel::{Receiver, Sender, unbounded};
use held::Held;
use std::cell::{Cell, RefCell};
use std::collections::HashMap;
use std::fs::File;
use std::io::Write;
use std::os::fd::{AsFd, BorrowedFd};
use std::os::unix::net::UnixStream;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::thread::JoinHandle;
use std::time::{Duration, Instant};
use stillframe_image::{Checkpoint, CheckpointId, PAGE_SIZE, PageNumber, SpaceId, Tick};
use stillframe_linux::copy::PageArena;
use stillframe_store::{Committed, Summary, Writer};
use store::Store;

/// Pages in one batch: 16 MiB.
pub const BATCH_PAGES: usize = 4096;

/// Batches that may wait for the store.
pub const QUEUE_BATCHES: usize = 8;

/// Bytes of pages that may wait for the store.
const QUEUE_BYTES: u64 = (QUEUE_BATCHES * BATCH_PAGES * PAGE_SIZE) as u64;

/// Checkpoints that may wait for the store.
const QUEUE_COMMITS: u64 = 4;

/// Spare batches kept beyond what checkpoints lately needed.
const SPARES: usize = 2;

/// Time between two spare batches that are given up.
const SHRINKING: Duration = Duration::from_millis(500);

/// Pages copied from the target, on their way to the store.
#[derive(Debug)]
pub struct Batch {
    /// The address space they are of.
    pub space: SpaceId,
    /// Which page each page of the arena is. `None`: it could not be read.
    pub pages: Vec<Option<PageNumber>>,
    /// Their contents, in the same order.
    pub arena: PageArena,
}

/// A committed checkpoint.
#[derive(Clone, Debug)]
pub struct Done {
    /// Its account.
    pub tick: Tick,
    /// What storing it took.
    pub committed: Committed,
    /// Bytes the writer holds in memory.
    pub writer_bytes: u64,
}

#[derive(Debug)]
enum Message {
    Pages(Batch),
    Zeros(SpaceId, Vec<PageNumber>),
    Discard(SpaceId, Vec<std::ops::Range<u64>>),
    Forget(SpaceId),
    Object {
        device: (u32, u32),
        inode: u64,
        file: File,
    },
    Files {
        taken: Vec<Taken>,
        dropped: Vec<SpaceId>,
        now: CheckpointId,
        bytes: u64,
    },
    Commit {
        checkpoint: Box<Checkpoint>,
        tick: Tick,
        witnesses: Vec<Witness>,
    },
    Finish(Summary),
}

#[derive(Debug, Default)]
struct Gauge {
    bytes: AtomicU64,
    commits: AtomicU64,
    /// Batches waiting to be used again, and how many of them are worth keeping.
    spares: AtomicUsize,
    wanted: AtomicUsize,
    /// No more content of files is kept.
    full: AtomicBool,
}

/// The capture thread's end of the pipeline.
#[derive(Debug)]
pub struct Pipeline {
    sender: Sender<Message>,
    spare: Receiver<Batch>,
    done: Receiver<Done>,
    gauge: Arc<Gauge>,
    failed: UnixStream,
    courtesy: Courtesy,
    /// What is held back, if anything is to be. Only the capture thread looks at it.
    held: RefCell<Option<Held>>,
    /// Batches used for the checkpoint being made.
    used: Cell<usize>,
    /// When a spare was last given up.
    shrunk: Cell<Instant>,
    thread: Option<JoinHandle<Result<(), Error>>>,
}

impl Pipeline {
    /// Starts the thread. With a checker, every commit is compared with its witness.
    ///
    /// # Errors
    /// If the operating system gives no thread or socket pair.
    pub fn start(
        writer: Writer,
        checker: Option<Checker>,
        files: FilesPolicy,
    ) -> std::io::Result<Self> {
        let (sender, receiver) = unbounded();
        let (spare_sender, spare) = unbounded();
        let (done_sender, done) = unbounded();
        let (failed, alarm) = UnixStream::pair()?;
        let gauge = Arc::new(Gauge::default());
        let courtesy = Courtesy::default();
        let store = Store {
            writer,
            checker,
            receiver,
            spare: spare_sender,
            done: done_sender,
            gauge: Arc::clone(&gauge),
            courtesy: courtesy.clone(),
            objects: HashMap::new(),
            keeper: Keeper::new(files),
            files: Vec::new(),
        };
        let thread = std::thread::Builder::new()
            .name("still-store".into())
            .spawn(move || {
                let result = store.run();
                if result.is_err() {
                    // The capture thread may be waiting for its target for a long time; wake it. If
                    // it is gone there is nobody to wake.
                    let _ = (&alarm).write_all(b"!");
                }
                result
            })?;
        Ok(Self {
            sender,
            spare,
            done,
            gauge,
            failed,
            courtesy,
            held: RefCell::new(None),
            used: Cell::new(0),
            shrunk: Cell::new(Instant::now()),
            thread: Some(thread),
        })
    }

    /// Readable once storing has failed (or ended).
    pub fn failed(&self) -> BorrowedFd<'_> {
        self.failed.as_fd()
    }

    /// By which the store's thread can be asked to stand back.
    pub const fn courtesy(&self) -> &Courtesy {
        &self.courtesy
    }

    /// Whether another checkpoint may be started.
    pub fn has_room(&self) -> bool {
        self.gauge.bytes.load(Ordering::Relaxed) < QUEUE_BYTES
            && self.gauge.commits.load(Ordering::Relaxed) < QUEUE_COMMITS
    }

    /// Holds back from now on what is handed over, so that copying need not wait for the store.
    pub fn hold(&self) {
        self.held.borrow_mut().get_or_insert_with(Held::default);
    }

    /// Lets go of what is held back.
    pub fn release(&self) {
        for message in self.held.take().map_or_else(Vec::new, Held::messages) {
            match message {
                Message::Pages(batch) => self.queue(batch),
                other => self.pass(other),
            }
        }
    }

    /// Whether there is room for more pages. There always is when storing has failed: what is sent
    /// then goes nowhere, and the failure shows at [`Pipeline::finish`].
    pub fn has_room_for_pages(&self) -> bool {
        let full = self.held.borrow().as_ref().map(Held::is_full);
        match full {
            Some(false) => return true,
            Some(true) => self.release(),
            None => {}
        }
        self.gauge.bytes.load(Ordering::Relaxed) < QUEUE_BYTES
            || self.thread.as_ref().is_none_or(JoinHandle::is_finished)
    }

    /// Waits until there is room for more pages.
    pub fn wait_for_room(&self) {
        while !self.has_room_for_pages() {
            std::thread::sleep(Duration::from_micros(500));
        }
    }

    /// An empty batch for pages of `space`, used before if there is one.
    ///
    /// # Errors
    /// If there is no address space for a new one.
    pub fn batch(&self, space: SpaceId) -> stillframe_linux::Result<Batch> {
        self.used.set(self.used.get() + 1);
        if let Some(batch) = self.held.borrow_mut().as_mut().and_then(Held::spare) {
            return Ok(Batch { space, ..batch });
        }
        match self.spare.try_recv() {
            Ok(batch) => {
                self.gauge.spares.fetch_sub(1, Ordering::Relaxed);
                Ok(Batch { space, ..batch })
            }
            Err(_) => Ok(Batch {
                space,
                pages: Vec::with_capacity(BATCH_PAGES),
                arena: PageArena::new(BATCH_PAGES)?,
            }),
        }
    }

    /// Hands over pages.
    pub fn pages(&self, batch: Batch) {
        match self.held.borrow_mut().as_mut() {
            Some(held) => held.pages(batch),
            None => self.queue(batch),
        }
    }

    fn queue(&self, batch: Batch) {
        self.gauge
            .bytes
            .fetch_add((batch.pages.len() * PAGE_SIZE) as u64, Ordering::Relaxed);
        self.pass(Message::Pages(batch));
    }

    /// Hands over pages known to be zero.
    pub fn zeros(&self, space: SpaceId, pages: Vec<PageNumber>) {
        if !pages.is_empty() {
            self.send(Message::Zeros(space, pages));
        }
    }

    /// The memory at these addresses is not what it was: earlier contents do not count.
    pub fn discard(&self, space: SpaceId, ranges: Vec<std::ops::Range<u64>>) {
        if !ranges.is_empty() {
            self.send(Message::Discard(space, ranges));
        }
    }

    /// The whole address space was replaced.
    pub fn forget(&self, space: SpaceId) {
        self.send(Message::Forget(space));
    }

    /// Hands over a mapped file to be kept by content.
    pub fn object(&self, device: (u32, u32), inode: u64, file: File) {
        self.send(Message::Object {
            device,
            inode,
            file,
        });
    }

    /// Whether no more content of files is kept.
    pub fn files_are_full(&self) -> bool {
        self.gauge.full.load(Ordering::Relaxed)
    }

    /// Hands over the files of checkpoint `now`, and which are watched no more.
    pub fn files(&self, taken: Vec<Taken>, dropped: Vec<SpaceId>, now: CheckpointId) {
        if taken.is_empty() && dropped.is_empty() {
            return;
        }
        let copied = taken.iter().map(|t| match &t.content {
            Content::Copy(bytes) => bytes.len() as u64,
            _ => 0,
        });
        let bytes = copied.sum();
        self.gauge.bytes.fetch_add(bytes, Ordering::Relaxed);
        self.send(Message::Files {
            taken,
            dropped,
            now,
            bytes,
        });
    }

    /// Commits the checkpoint whose pages were handed over before.
    pub fn commit(&self, checkpoint: Box<Checkpoint>, tick: Tick, witnesses: Vec<Witness>) {
        self.release();
        self.keep_spares();
        self.gauge.commits.fetch_add(1, Ordering::Relaxed);
        self.send(Message::Commit {
            checkpoint,
            tick,
            witnesses,
        });
    }

    /// As many spare batches as this checkpoint needed are kept; when the need shrinks, one less
    /// from time to time: new memory costs several times what is copied into it.
    fn keep_spares(&self) {
        let used = self.used.take() + SPARES;
        let wanted = self.gauge.wanted.load(Ordering::Relaxed);
        let now = Instant::now();
        let less = used < wanted && now - self.shrunk.get() > SHRINKING;
        if less {
            self.shrunk.set(now);
        }
        let wanted = used.max(wanted - usize::from(less));
        self.gauge.wanted.store(wanted, Ordering::Relaxed);
    }

    /// Checkpoints committed since this was last asked.
    pub fn done(&self) -> impl Iterator<Item = Done> + '_ {
        self.done.try_iter()
    }

    /// Stores what is left, closes the recording, and ends the thread.
    ///
    /// # Errors
    /// The first error that storing met.
    pub fn finish(&mut self, summary: Summary) -> Result<(), Error> {
        self.release();
        self.send(Message::Finish(summary));
        match self.thread.take().map(JoinHandle::join) {
            Some(Ok(result)) => result,
            Some(Err(_)) => Err(Error::Thread("store")),
            None => Ok(()),
        }
    }

    fn send(&self, message: Message) {
        match self.held.borrow_mut().as_mut() {
            Some(held) => held.other(message),
            None => self.pass(message),
        }
    }

    fn pass(&self, message: Message) {
        // Without a receiver the thread has failed; `failed` says so to whoever waits.
        let _ = self.sender.send(message);
    }
}
