//! The thread that gives what was captured to the store.

use super::{Batch, Done, Gauge, Message};
use crate::Error;
use crate::courtesy::Courtesy;
use crate::files::Keeper;
use crate::paranoid::{Checker, Witness};
use crossbeam_channel::{Receiver, Sender};
use std::collections::HashMap;
use std::fs::File;
use std::io::{Seek, SeekFrom};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Instant;
use stillframe_image::{Checkpoint, PAGE_SIZE, PageNumber, Tick, WrittenFile};
use stillframe_store::Writer;

/// Its state.
pub(super) struct Store {
    pub writer: Writer,
    pub checker: Option<Checker>,
    pub receiver: Receiver<Message>,
    pub spare: Sender<Batch>,
    pub done: Sender<Done>,
    pub gauge: Arc<Gauge>,
    pub courtesy: Courtesy,
    pub objects: HashMap<((u32, u32), u64), [u8; 32]>,
    pub keeper: Keeper,
    /// Of the checkpoint being made.
    pub files: Vec<WrittenFile>,
}

impl Store {
    /// Works until the recording is closed, or the capture thread is gone.
    ///
    /// # Errors
    /// The first that storing meets.
    pub fn run(mut self) -> Result<(), Error> {
        while let Ok(message) = self.receiver.recv() {
            match message {
                Message::Pages(batch) => self.pages(batch)?,
                Message::Zeros(space, pages) => {
                    for page in pages {
                        self.writer.zero(space, page)?;
                    }
                }
                Message::Discard(space, ranges) => {
                    for range in ranges {
                        let pages = PageNumber::of(range.start)..PageNumber::of(range.end);
                        self.writer.discard(space, pages);
                    }
                }
                Message::Forget(space) => self.writer.forget(space),
                Message::Object {
                    device,
                    inode,
                    file,
                } => self.object(device, inode, file)?,
                Message::Files {
                    taken,
                    dropped,
                    now,
                    bytes,
                } => {
                    self.files = self.keeper.keep(taken, now, &mut self.writer)?;
                    self.keeper.forget(&dropped);
                    self.gauge.bytes.fetch_sub(bytes, Ordering::Relaxed);
                    let full = self.keeper.is_full();
                    self.gauge.full.store(full, Ordering::Relaxed);
                }
                Message::Commit {
                    checkpoint,
                    tick,
                    witnesses,
                } => {
                    self.commit(checkpoint, &tick, witnesses)?;
                }
                Message::Finish(summary) => {
                    self.writer.finish(&summary)?;
                    return self.checker.map_or(Ok(()), Checker::finish);
                }
            }
        }
        // The capture thread is gone without a word: leave the recording as a crash would.
        Ok(())
    }

    fn pages(&mut self, mut batch: Batch) -> Result<(), Error> {
        for (page, bytes) in batch.pages.iter().zip(batch.arena.pages()) {
            self.courtesy.show();
            if let Some(page) = page {
                self.writer.page(batch.space, *page, bytes)?;
            }
        }
        self.gauge
            .bytes
            .fetch_sub((batch.pages.len() * PAGE_SIZE) as u64, Ordering::Relaxed);
        batch.pages.clear();
        batch.arena.clear();
        if self.gauge.spares.load(Ordering::Relaxed) < self.gauge.wanted.load(Ordering::Relaxed) {
            self.gauge.spares.fetch_add(1, Ordering::Relaxed);
            // The capture thread may have ended already.
            let _ = self.spare.send(batch);
        }
        Ok(())
    }

    fn object(&mut self, device: (u32, u32), inode: u64, mut file: File) -> Result<(), Error> {
        let begun = Instant::now();
        if let Err(error) = file.seek(SeekFrom::Start(0)) {
            tracing::warn!("cannot read a mapped file (inode {inode}): {error}");
            return Ok(());
        }
        let id = self.writer.add_object(&mut file)?;
        tracing::debug!(inode, elapsed = ?begun.elapsed(), "kept a mapped file");
        self.objects.insert((device, inode), id);
        Ok(())
    }

    fn commit(
        &mut self,
        mut checkpoint: Box<Checkpoint>,
        tick: &Tick,
        witnesses: Vec<Witness>,
    ) -> Result<(), Error> {
        let processes = checkpoint.processes.iter_mut();
        for file in processes.flat_map(|p| &mut p.space.files) {
            file.object = self.objects.get(&(file.device, file.inode)).copied();
        }
        checkpoint.files = std::mem::take(&mut self.files);
        let committed = self.writer.commit(&checkpoint, tick)?;
        self.gauge.commits.fetch_sub(1, Ordering::Relaxed);
        if let Some(checker) = &self.checker {
            checker.check(committed.id, witnesses);
        }
        let writer_bytes = self.writer.memory_bytes();
        // The capture thread may have ended already; then nobody counts.
        let _ = self.done.send(Done {
            tick: *tick,
            committed,
            writer_bytes,
        });
        Ok(())
    }
}
