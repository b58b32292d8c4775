//! The index as it is written: runs are sealed and merged in a thread of their own, so that no
//! commit waits for them.
//!
//! The index holds nothing that the log does not. A run that cannot be written is therefore a
//! warning, and readers take its range from the log.

use crate::files::Files;
use crate::index::Entry;
use crate::index::merge::{FAN, Merged, due};
use crate::index::run::{self, Data, Run, RunBuilder, RunError};
use crate::retention::keeper as retention;
use std::fs::File;
use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::mpsc::{Receiver, SyncSender, TrySendError, sync_channel};
use std::thread::JoinHandle;

/// Memory in flight is bounded by this many batches.
const QUEUE: usize = 2;
/// A batch may grow this many times its size while the thread is busy; then commits wait.
const SLACK: usize = 4;
/// A run is sealed after this many checkpoints, however few entries they have, so that opening a
/// recording has a bounded tail to read.
const CHECKPOINTS: u64 = 1024;

struct Batch {
    first: u64,
    last: u64,
    entries: Vec<Entry>,
}

#[derive(Debug, Default)]
struct Shared {
    stop: AtomicBool,
    in_flight: AtomicU64,
}

/// Takes entries and makes runs of them.
#[derive(Debug)]
pub struct IndexWriter {
    threshold: usize,
    first: u64,
    entries: Vec<Entry>,
    sender: Option<SyncSender<Batch>>,
    thread: Option<JoinHandle<()>>,
    shared: Arc<Shared>,
}

impl IndexWriter {
    /// For the recording in `dir`; seals a run each `threshold` entries.
    pub fn new(
        dir: PathBuf,
        files: Arc<dyn Files>,
        id: [u8; 16],
        threshold: usize,
        retention: Option<Arc<retention::Shared>>,
    ) -> io::Result<Self> {
        let (sender, receiver) = sync_channel(QUEUE);
        let shared = Arc::new(Shared::default());
        let threshold = threshold.max(1);
        let worker = Worker {
            dir,
            files,
            id,
            unit: threshold as u64,
            runs: Vec::new(),
            shared: Arc::clone(&shared),
            retention,
        };
        let thread = std::thread::Builder::new()
            .name("still-index".into())
            .spawn(move || worker.work(&receiver))?;
        Ok(Self {
            threshold,
            first: 0,
            entries: Vec::new(),
            sender: Some(sender),
            thread: Some(thread),
            shared,
        })
    }

    /// Adds the entries of checkpoint `id`, which follows the one before.
    pub fn add(&mut self, id: u64, entries: impl Iterator<Item = Entry>) {
        self.entries.extend(entries);
        let due = self.entries.len() >= self.threshold || id + 1 - self.first >= CHECKPOINTS;
        if due {
            self.seal(id, self.entries.len() >= SLACK * self.threshold);
        }
    }

    fn seal(&mut self, last: u64, wait: bool) {
        let Some(sender) = &self.sender else { return };
        let entries = std::mem::take(&mut self.entries);
        let bytes = (entries.capacity() * size_of::<Entry>()) as u64;
        let batch = Batch {
            first: self.first,
            last,
            entries,
        };
        self.shared.in_flight.fetch_add(bytes, Ordering::Relaxed);
        let refused = if wait {
            sender.send(batch).err().map(|e| e.0)
        } else {
            match sender.try_send(batch) {
                Ok(()) => None,
                Err(TrySendError::Full(b) | TrySendError::Disconnected(b)) => Some(b),
            }
        };
        match refused {
            None => self.first = last + 1,
            Some(batch) => {
                self.shared.in_flight.fetch_sub(bytes, Ordering::Relaxed);
                if wait {
                    // The thread is gone; the log has it all.
                    self.first = last + 1;
                    self.sender = None;
                } else {
                    self.entries = batch.entries;
                }
            }
        }
    }

    /// Seals what is left and waits until all is on disk. `next` is the number of the checkpoint
    /// that would come next.
    pub fn finish(&mut self, next: u64) {
        if next > self.first {
            self.seal(next - 1, true);
        }
        self.end();
    }

    fn end(&mut self) {
        self.sender = None;
        if self.thread.take().is_some_and(|t| t.join().is_err()) {
            tracing::warn!("the index thread failed; readers will use the log");
        }
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.entries.capacity() * size_of::<Entry>()
            + self.shared.in_flight.load(Ordering::Relaxed) as usize
    }
}

impl Drop for IndexWriter {
    fn drop(&mut self) {
        self.shared.stop.store(true, Ordering::Relaxed);
        self.end();
    }
}

struct Worker {
    dir: PathBuf,
    files: Arc<dyn Files>,
    id: [u8; 16],
    unit: u64,
    runs: Vec<Sealed>,
    shared: Arc<Shared>,
    /// What was removed while recording: entries that nobody sees are left out of merged runs.
    retention: Option<Arc<retention::Shared>>,
}

struct Sealed {
    first: u64,
    last: u64,
    entries: u64,
    path: PathBuf,
}

impl Worker {
    fn work(mut self, receiver: &Receiver<Batch>) {
        while let Ok(batch) = receiver.recv() {
            let Batch {
                first,
                last,
                mut entries,
            } = batch;
            let bytes = (entries.capacity() * size_of::<Entry>()) as u64;
            entries.sort_unstable();
            let mut left = entries.iter();
            let sealed = self.write(first, last, &mut || Ok(left.next().copied()));
            drop(entries);
            self.shared.in_flight.fetch_sub(bytes, Ordering::Relaxed);
            match sealed {
                Ok(run) => {
                    self.runs.push(run);
                    self.merge();
                }
                Err(e) => {
                    tracing::warn!("cannot write the index of checkpoints {first} to {last}: {e}");
                    // Merging across the gap would claim to cover it.
                    self.runs.clear();
                }
            }
        }
    }

    /// Writes a run from entries that ascend.
    fn write(
        &self,
        first: u64,
        last: u64,
        next: &mut dyn FnMut() -> Result<Option<Entry>, RunError>,
    ) -> Result<Sealed, RunError> {
        let entries = write_run(&self.dir, &*self.files, &self.id, (first, last), next)?;
        Ok(Sealed {
            first,
            last,
            entries,
            path: run::path(&self.dir, first, last),
        })
    }

    fn merge(&mut self) {
        loop {
            let sizes: Vec<u64> = self.runs.iter().map(|r| r.entries).collect();
            let Some(n) = due(&sizes, self.unit) else {
                return;
            };
            debug_assert!(n >= FAN);
            let old = self.runs.split_off(self.runs.len() - n);
            match self.merge_runs(&old) {
                Ok(merged) => {
                    for run in &old {
                        if let Err(e) = self.files.remove(&run.path) {
                            tracing::warn!("cannot remove {}: {e}", run.path.display());
                        }
                    }
                    self.runs.push(merged);
                }
                Err(e) => {
                    if !self.shared.stop.load(Ordering::Relaxed) {
                        tracing::warn!("cannot merge index runs: {e}");
                    }
                    // They stay as they are, and are not tried again.
                    self.runs.clear();
                    return;
                }
            }
        }
    }

    fn merge_runs(&self, old: &[Sealed]) -> Result<Sealed, RunError> {
        let mut runs = Vec::with_capacity(old.len());
        for sealed in old {
            let file = File::open(&sealed.path)?;
            runs.push(Arc::new(Run::open(Data::File(file), &self.id)?));
        }
        let first = old.iter().map(|r| r.first).min().unwrap_or(0);
        let last = old.iter().map(|r| r.last).max().unwrap_or(0);
        let mut merged = Merged::new(&runs, 0, (0, 0, 0)).map_err(|(_, e)| e)?;
        let ledger = self.retention.as_ref().map(|r| r.ledger());
        let mut following = merged.next().map_err(|(_, e)| e)?;
        self.write(first, last, &mut || {
            loop {
                if self.shared.stop.load(Ordering::Relaxed) {
                    return Err(io::Error::from(io::ErrorKind::Interrupted).into());
                }
                let Some(entry) = following.take() else {
                    return Ok(None);
                };
                following = merged.next().map_err(|(_, e)| e)?;
                let hidden = ledger.as_ref().is_some_and(|ledger| {
                    let shown = ledger.removed.next_outside(entry.checkpoint);
                    following.is_some_and(|next| {
                        (next.space, next.page) == (entry.space, entry.page)
                            && next.checkpoint <= shown
                    })
                });
                if !hidden {
                    return Ok(Some(entry));
                }
            }
        })
    }
}

/// Writes the run of checkpoints `first` to `last` from entries that ascend; how many there are.
///
/// # Errors
/// If it cannot be written.
pub fn write_run(
    dir: &Path,
    files: &dyn Files,
    id: &[u8; 16],
    (first, last): (u64, u64),
    next: &mut dyn FnMut() -> Result<Option<Entry>, RunError>,
) -> Result<u64, RunError> {
    const BUFFER: usize = 256 << 10;
    let temporary = dir.join("index").join("new.tmp");
    let out = files.create(&temporary)?;
    let mut buffer: Vec<u8> = Vec::with_capacity(BUFFER + 4096);
    let mut offset = 0u64;
    let mut sink = |bytes: &[u8]| {
        buffer.extend_from_slice(bytes);
        if buffer.len() >= BUFFER {
            out.write_at(offset, &buffer)?;
            offset += buffer.len() as u64;
            buffer.clear();
        }
        Ok(())
    };
    let mut builder = RunBuilder::new(id, first, last, &mut sink)?;
    while let Some(entry) = next()? {
        builder.push(&entry)?;
    }
    let entries = builder.finish()?;
    out.write_at(offset, &buffer)?;
    out.sync()?;
    files.rename(&temporary, &run::path(dir, first, last))?;
    Ok(entries)
}
