//! Proof against ourselves.
//!
//! With `--paranoid`, every boundary also reads all memory by another way than the tracker and the
//! copier use (straight through /proc/PID/mem, whatever was written or not), while the target is
//! stopped. Once the checkpoint is committed, a thread opens the recording as any reader would and
//! compares what it gives back with that witness, page by page.

use crate::Error;
use crossbeam_channel::{Receiver, Sender, bounded};
use std::borrow::Cow;
use std::collections::HashMap;
use std::collections::hash_map::Entry;
use std::ops::Range;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use std::thread::JoinHandle;
use stillframe_image::{CheckpointId, PAGE_SIZE, PageNumber, SpaceId};
use stillframe_linux::copy::PageArena;
use stillframe_store::{Memory, Recording, VersionRef};

/// Differences described in full; further ones are counted.
const DESCRIBED: usize = 20;

/// All memory of one process at a boundary.
#[derive(Debug)]
pub struct Witness {
    /// Which process.
    pub space: SpaceId,
    /// Addresses read, in the order of the arena's pages.
    pub spans: Vec<Range<u64>>,
    /// Addresses of pages in them that could not be read; their arena page means nothing.
    pub unreadable: Vec<u64>,
    /// Addresses that had no memory behind them and must read as zero.
    pub absent: Vec<Range<u64>>,
    /// The bytes.
    pub arena: PageArena,
}

/// What the comparison found.
#[derive(Clone, Debug, Default)]
pub struct Findings {
    /// Checkpoints compared.
    pub checkpoints: u64,
    /// Pages compared.
    pub pages: u64,
    /// Pages that differed.
    pub differences: u64,
    /// The first of them, in words.
    pub described: Vec<String>,
}

/// The comparing thread.
#[derive(Debug)]
pub struct Checker {
    sender: Sender<(CheckpointId, Vec<Witness>)>,
    thread: JoinHandle<Result<(), Error>>,
}

impl Checker {
    /// Starts it for the recording at `path`. Arenas come back through the receiver.
    ///
    /// # Errors
    /// If the operating system gives no thread.
    pub fn start(
        path: &Path,
        findings: Arc<Mutex<Findings>>,
    ) -> std::io::Result<(Self, Receiver<PageArena>)> {
        let (sender, receiver) = bounded::<(CheckpointId, Vec<Witness>)>(0);
        let (spare, spares) = bounded(4);
        let path = path.to_owned();
        let thread = std::thread::Builder::new()
            .name("still-paranoid".into())
            .spawn(move || {
                let mut mirror = Mirror {
                    path,
                    recording: None,
                    pages: HashMap::new(),
                };
                while let Ok((id, witnesses)) = receiver.recv() {
                    for witness in witnesses {
                        let result = mirror.compare(id, &witness)?;
                        let mut total = findings.lock().unwrap_or_else(PoisonError::into_inner);
                        total.pages += result.pages;
                        total.differences += result.differences;
                        for line in result.described {
                            if total.described.len() < DESCRIBED {
                                tracing::error!("{line}");
                                total.described.push(line);
                            }
                        }
                        drop(total);
                        let mut arena = witness.arena;
                        arena.clear();
                        let _ = spare.try_send(arena);
                    }
                    let mut total = findings.lock().unwrap_or_else(PoisonError::into_inner);
                    total.checkpoints += 1;
                }
                Ok(())
            })?;
        Ok((Self { sender, thread }, spares))
    }

    /// Hands over the witnesses of a checkpoint; waits while earlier ones are being compared.
    pub fn check(&self, id: CheckpointId, witnesses: Vec<Witness>) {
        // A thread that has failed says so at `finish`.
        let _ = self.sender.send((id, witnesses));
    }

    /// Waits for the last comparison.
    ///
    /// # Errors
    /// If the recording could not be read.
    pub fn finish(self) -> Result<(), Error> {
        drop(self.sender);
        self.thread.join().map_err(|_| Error::Thread("paranoid"))?
    }
}

/// Contents by version, so that each version is decoded once: equal references mean equal bytes.
struct Mirror {
    path: PathBuf,
    recording: Option<Recording>,
    pages: HashMap<SpaceId, Pages>,
}

type Pages = HashMap<PageNumber, (VersionRef, Box<[u8; PAGE_SIZE]>)>;

impl Mirror {
    fn compare(&mut self, id: CheckpointId, witness: &Witness) -> Result<Findings, Error> {
        let recording = match &mut self.recording {
            Some(recording) => {
                recording.refresh()?;
                recording
            }
            none => none.insert(Recording::open(&self.path)?),
        };
        let memory = recording.memory(id, witness.space)?;
        let mirror = self.pages.entry(witness.space).or_default();
        let mut found = Findings::default();
        let mut contents = witness.arena.pages().iter();
        for span in &witness.spans {
            let pages = PageNumber::of(span.start)..PageNumber::of(span.end);
            let mut versions = memory
                .pages_with_versions(pages.clone())?
                .into_iter()
                .peekable();
            for page in (pages.start.0..pages.end.0).map(PageNumber) {
                let version = versions.next_if(|(p, _)| *p == page).map(|(_, v)| v);
                let Some(expected) = contents.next() else {
                    break;
                };
                if witness.unreadable.binary_search(&page.address()).is_ok() {
                    continue;
                }
                found.pages += 1;
                match Self::content(mirror, &memory, page, version) {
                    Ok(bytes) if *bytes == *expected => {}
                    Ok(bytes) => {
                        let source = provenance(recording, &memory, (id, witness.space), page);
                        found.differ(id, page, &source, &bytes, expected);
                    }
                    Err(error) => found.note(format!(
                        "checkpoint {id}: page {:#x} cannot be read: {error}",
                        page.address()
                    )),
                }
            }
        }
        for span in &witness.absent {
            let pages = PageNumber::of(span.start)..PageNumber::of(span.end);
            for (page, version) in memory.pages_with_versions(pages)? {
                found.pages += 1;
                let bytes = Self::content(mirror, &memory, page, Some(version))?;
                if *bytes != [0; PAGE_SIZE] {
                    let source = provenance(recording, &memory, (id, witness.space), page);
                    found.differ(id, page, &source, &bytes, &[0; PAGE_SIZE]);
                }
            }
        }
        Ok(found)
    }

    fn content<'a>(
        mirror: &'a mut Pages,
        memory: &Memory<'_>,
        page: PageNumber,
        version: Option<VersionRef>,
    ) -> Result<Cow<'a, [u8; PAGE_SIZE]>, stillframe_store::Error> {
        let Some(version) = version else {
            let mut bytes = [0; PAGE_SIZE];
            memory.page(page, &mut bytes)?;
            return Ok(Cow::Owned(bytes));
        };
        match mirror.entry(page) {
            Entry::Occupied(known) if known.get().0 == version => {
                Ok(Cow::Borrowed(&known.into_mut().1))
            }
            entry => {
                let mut bytes = Box::new([0; PAGE_SIZE]);
                memory.page(page, &mut bytes)?;
                let known = entry.insert_entry((version, bytes));
                Ok(Cow::Borrowed(&known.into_mut().1))
            }
        }
    }
}

/// Where a reader takes a page's content from, in words.
fn provenance(
    recording: &Recording,
    memory: &Memory<'_>,
    (id, space): (CheckpointId, SpaceId),
    page: PageNumber,
) -> String {
    let until = CheckpointId(0)..CheckpointId(id.0 + 1);
    let last = match recording.changes(space, page, until) {
        Ok(changes) => changes
            .last()
            .map_or("none".to_owned(), ToString::to_string),
        Err(error) => error.to_string(),
    };
    let since = memory.layout().since(page.address());
    let since = since.map_or("never".to_owned(), |s| s.to_string());
    let mapping = memory.layout().mapping_at(page.address());
    let name = mapping.map_or_else(String::new, |m| {
        String::from_utf8_lossy(&m.name).into_owned()
    });
    format!("last version at checkpoint {last}, mapped since {since} {name}")
}

impl Findings {
    fn differ(
        &mut self,
        id: CheckpointId,
        page: PageNumber,
        source: &str,
        stored: &[u8; PAGE_SIZE],
        expected: &[u8; PAGE_SIZE],
    ) {
        let bytes = stored.iter().zip(expected).filter(|(a, b)| a != b).count();
        let first = stored
            .iter()
            .zip(expected)
            .position(|(a, b)| a != b)
            .unwrap_or(0);
        self.note(format!(
            "checkpoint {id}: page {:#x} differs in {bytes} bytes from offset {first} ({source}: \
             {:#04x}, memory {:#04x})",
            page.address(),
            stored[first],
            expected[first]
        ));
    }

    fn note(&mut self, line: String) {
        self.differences += 1;
        if self.described.len() < DESCRIBED {
            self.described.push(line);
        }
    }
}
