//! Keeping the content of files, in the store's thread.
//!
//! What was kept of a page is remembered as 128 bits of hash: 0.4 % of the file. Only pages that
//! differ go to the writer, which stores their differences like those of memory.

use super::{Content, FilesPolicy, Taken};
use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use stillframe_image::{CheckpointId, FileContent, PAGE_SIZE, PageNumber, SpaceId, WrittenFile};
use stillframe_linux::files::written::{self, Facts};
use stillframe_store::{Error, Writer};
use xxhash_rust::xxh3::xxh3_128;

/// Bytes read at once: a multiple of a page.
const CHUNK: usize = 1 << 20;

/// A page.
type Page = [u8; PAGE_SIZE];
const ZERO: Page = [0; PAGE_SIZE];

/// What takes pages. A trait, so that what is put can be looked at in tests.
pub trait Sink {
    /// Takes the content of a page.
    ///
    /// # Errors
    /// If it cannot be stored.
    fn page(&mut self, space: SpaceId, page: PageNumber, bytes: &Page) -> Result<(), Error>;
}

impl Sink for Writer {
    fn page(&mut self, space: SpaceId, page: PageNumber, bytes: &Page) -> Result<(), Error> {
        Writer::page(self, space, page, bytes)
    }
}

/// What is kept of files.
#[derive(Debug)]
pub struct Keeper {
    /// Bytes that may still be kept; `None` if nothing is.
    budget: Option<u64>,
    /// Whether that was used up.
    full: bool,
    known: HashMap<SpaceId, Known>,
}

/// Why content is not kept any more.
const FULL: &str = "the budget of --files version was used up";

#[derive(Debug, Default)]
struct Known {
    /// What was said of the content last.
    content: FileContent,
    /// Hashes of the pages, as kept.
    pages: Vec<u128>,
    /// Pages that ever had a version.
    ever: u64,
}

/// Why reading a file ended early.
enum Failed {
    Source(io::Error),
    Budget,
    Store(Error),
}

impl Keeper {
    /// Nothing kept yet.
    pub fn new(policy: FilesPolicy) -> Self {
        Self {
            budget: match policy {
                FilesPolicy::Version { budget } => Some(budget),
                _ => None,
            },
            full: false,
            known: HashMap::new(),
        }
    }

    /// Whether no more content is kept.
    pub const fn is_full(&self) -> bool {
        self.full
    }

    /// Those files are watched no more.
    pub fn forget(&mut self, dropped: &[SpaceId]) {
        for space in dropped {
            self.known.remove(space);
        }
    }

    /// Keeps what was taken at the boundary of checkpoint `now`, and says what the checkpoint knows
    /// of each file.
    ///
    /// # Errors
    /// If the recording cannot be written.
    pub fn keep(
        &mut self,
        all: Vec<Taken>,
        now: CheckpointId,
        sink: &mut dyn Sink,
    ) -> Result<Vec<WrittenFile>, Error> {
        let mut files = Vec::with_capacity(all.len());
        for taken in all {
            let Taken {
                mut file,
                facts,
                content,
            } = taken;
            self.one(&mut file, &facts, content, now, sink)?;
            files.push(file);
        }
        Ok(files)
    }

    fn one(
        &mut self,
        file: &mut WrittenFile,
        facts: &Facts,
        content: Content,
        now: CheckpointId,
        sink: &mut dyn Sink,
    ) -> Result<(), Error> {
        let full = self.full && self.budget.is_some();
        let known = self.known.entry(file.space).or_default();
        let budget = self.budget.as_mut();
        let put = match content {
            Content::Unchanged => {
                file.content = known.content.clone();
                return Ok(());
            }
            Content::Refused(why) => Ok(known.left(why)),
            _ if full => Ok(known.left(FULL.to_owned())),
            Content::Unknown => Ok(FileContent::Unknown),
            // In this thread, because opening may wait for a server.
            Content::Hash(held) => Ok(match written::open_held(&held, false) {
                Ok(source) => hash(&source, facts),
                Err(_) => FileContent::Unknown,
            }),
            Content::Copy(bytes) => known.put(file, &Source::Bytes(&bytes), budget, now, sink),
            Content::Clone(clone) => known.put(file, &Source::File(&clone), budget, now, sink),
            Content::Later { held, stores } => match written::open_held(&held, false) {
                Err(error) => Ok(known.left(format!("it cannot be read: {error}"))),
                Ok(source) => known
                    .put(file, &Source::File(&source), budget, now, sink)
                    .map(|kept| match kept {
                        FileContent::Kept { since } if stores || changed(&source, facts) => {
                            FileContent::Torn { since }
                        }
                        other => other,
                    }),
            },
        };
        known.content = match put {
            Ok(content) => content,
            Err(Failed::Store(error)) => return Err(error),
            Err(Failed::Source(error)) => known.left(format!("it cannot be read: {error}")),
            Err(Failed::Budget) => {
                tracing::warn!(
                    "{}: its content is not kept from checkpoint {now} on: the budget of --files \
                     version is used up",
                    String::from_utf8_lossy(&file.path)
                );
                self.full = true;
                known.left(FULL.to_owned())
            }
        };
        file.content = known.content.clone();
        Ok(())
    }
}

/// Where content is read from.
enum Source<'a> {
    Bytes(&'a [u8]),
    File(&'a File),
}

impl Source<'_> {
    /// Fills `out` from `offset` on, with zeros beyond the end.
    fn read(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let mut done = 0;
        match self {
            Self::Bytes(all) => {
                let from = usize::try_from(offset).unwrap_or(usize::MAX);
                let rest = all.get(from..).unwrap_or_default();
                done = rest.len().min(out.len());
                out[..done].copy_from_slice(&rest[..done]);
            }
            Self::File(file) => {
                while done < out.len() {
                    match file.read_at(&mut out[done..], offset + done as u64) {
                        Ok(0) => break,
                        Ok(n) => done += n,
                        Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                        Err(e) => return Err(e),
                    }
                }
            }
        }
        out[done..].fill(0);
        Ok(())
    }
}

impl Known {
    /// Nothing of it is kept from now on.
    fn left(&mut self, why: String) -> FileContent {
        self.pages = Vec::new();
        FileContent::Left(why)
    }

    /// Puts the pages that differ from those kept.
    fn put(
        &mut self,
        file: &WrittenFile,
        source: &Source<'_>,
        budget: Option<&mut u64>,
        now: CheckpointId,
        sink: &mut dyn Sink,
    ) -> Result<FileContent, Failed> {
        let since = match self.content {
            FileContent::Kept { since } | FileContent::Torn { since } => since,
            _ => now,
        };
        let mut none = 0;
        let budget = budget.unwrap_or(&mut none);
        let count = file.size.div_ceil(PAGE_SIZE as u64);
        let zero = xxh3_128(&ZERO);
        self.pages
            .truncate(usize::try_from(count).unwrap_or(usize::MAX));
        let mut buffer = vec![0; CHUNK.min(count as usize * PAGE_SIZE)];
        let mut number = 0;
        while number < count {
            let offset = number * PAGE_SIZE as u64;
            let pages = (count - number).min((CHUNK / PAGE_SIZE) as u64);
            let chunk = &mut buffer[..pages as usize * PAGE_SIZE];
            source.read(offset, chunk).map_err(Failed::Source)?;
            // Beyond the end that the checkpoint knows there is nothing.
            if let Some(rest) = file.size.checked_sub(offset)
                && rest < chunk.len() as u64
            {
                chunk[rest as usize..].fill(0);
            }
            for page in chunk.as_chunks::<PAGE_SIZE>().0 {
                let hash = xxh3_128(page);
                let at = number as usize;
                let before = self.pages.get(at).copied();
                if before != Some(hash) {
                    // A page never put reads as zeros.
                    if hash != zero || number < self.ever {
                        *budget = budget.checked_sub(PAGE_SIZE as u64).ok_or(Failed::Budget)?;
                        sink.page(file.space, PageNumber(number), page)
                            .map_err(Failed::Store)?;
                        self.ever = self.ever.max(number + 1);
                    }
                    match self.pages.get_mut(at) {
                        Some(known) => *known = hash,
                        None => self.pages.push(hash),
                    }
                }
                number += 1;
            }
        }
        Ok(FileContent::Kept { since })
    }
}

/// The BLAKE3 of a file that is as `facts` say, before and after.
fn hash(file: &File, facts: &Facts) -> FileContent {
    let mut hasher = blake3::Hasher::new();
    let mut buffer = vec![0; CHUNK.min(facts.size as usize + 1)];
    let mut at = 0;
    loop {
        match file.read_at(&mut buffer, at) {
            Ok(0) => break,
            Ok(n) => {
                hasher.update(&buffer[..n]);
                at += n as u64;
                if at > facts.size {
                    return FileContent::Unknown;
                }
            }
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => return FileContent::Unknown,
        }
    }
    if at != facts.size || changed(file, facts) {
        return FileContent::Unknown;
    }
    FileContent::Hash(*hasher.finalize().as_bytes())
}

/// Whether a file is not any more as `facts` say.
fn changed(file: &File, facts: &Facts) -> bool {
    Facts::of(file).map_or(true, |now| !now.says_the_same(facts))
}
