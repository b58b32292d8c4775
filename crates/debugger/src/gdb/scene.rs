//! One process at one moment, and the moments around it: what the protocol asks about.

use super::Error;
use super::travel::{self, Found, Span};
use std::cell::{OnceCell, RefCell};
use std::collections::HashMap;
use std::ops::RangeInclusive;
use stillframe_image::{
    AddressSpace, CheckpointId, Marks, PAGE_SIZE, PageNumber, ProcessImage, SpaceId, Thread,
};
use stillframe_store::{Memory, Recording, Row};
use stillframe_timeline::{Direction, Past, Raw, Step, Walk};

type Page = [u8; PAGE_SIZE];

/// Pages of a moment kept, so that a debugger's small reads do not decode one anew each time.
const PAGES: usize = 1024;
/// Threads of all moments whose place is kept.
const PLACES: usize = 1 << 21;

/// A process in a recording, with a moment chosen.
pub struct Scene<'r> {
    recording: &'r Recording,
    process: SpaceId,
    /// Rows in which the process is.
    lives: RangeInclusive<usize>,
    at: usize,
    image: ProcessImage,
    memory: Memory<'r>,
    pages: RefCell<HashMap<PageNumber, Option<Box<Page>>>>,
    places: RefCell<Places>,
    /// The process over time, once something was asked about that.
    past: OnceCell<Past<'r>>,
}

/// Where threads stood, by row, once it was asked.
#[derive(Default)]
struct Places {
    by_row: HashMap<usize, Box<[(u32, u64)]>>,
    threads: usize,
}

impl<'r> Scene<'r> {
    /// A process at a checkpoint.
    ///
    /// # Errors
    /// If there is no such checkpoint, no such process in it, or it is damaged.
    pub fn new(
        recording: &'r Recording,
        at: CheckpointId,
        process: SpaceId,
    ) -> Result<Self, Error> {
        let rows = recording.rows();
        let image = recording.process(at, process)?;
        if image.threads.is_empty() {
            return Err(Error::NoThreads {
                process: process.0,
                checkpoint: at.0,
            });
        }
        let memory = recording.memory(at, process)?;
        let row = rows.partition_point(|r| r.id < at);
        Ok(Self {
            recording,
            process,
            lives: lives(recording, process, row),
            at: row,
            image,
            memory,
            pages: RefCell::default(),
            places: RefCell::default(),
            past: OnceCell::new(),
        })
    }

    /// Goes to another row.
    ///
    /// # Errors
    /// As [`Scene::new`]; then it stays where it was.
    pub fn go(&mut self, row: usize) -> Result<(), Error> {
        if row == self.at {
            return Ok(());
        }
        let Some(id) = self.recording.rows().get(row).map(|r| r.id) else {
            return Ok(());
        };
        let image = self.recording.process(id, self.process)?;
        if image.threads.is_empty() {
            return Err(Error::NoThreads {
                process: self.process.0,
                checkpoint: id.0,
            });
        }
        self.memory = self.recording.memory(id, self.process)?;
        self.image = image;
        self.at = row;
        self.pages.borrow_mut().clear();
        Ok(())
    }

    /// The recording.
    pub const fn recording(&self) -> &'r Recording {
        self.recording
    }

    /// Which process.
    pub const fn process(&self) -> SpaceId {
        self.process
    }

    /// It over time.
    ///
    /// # Errors
    /// Damage.
    pub fn past(&self) -> Result<&Past<'r>, stillframe_timeline::Error> {
        if let Some(past) = self.past.get() {
            return Ok(past);
        }
        let past = Past::new(self.recording, self.process)?;
        Ok(self.past.get_or_init(|| past))
    }

    /// The nearest change of some bytes within a range of positions: the first position that shows
    /// it. `None` if the search was interrupted, at the position given.
    fn change(
        &self,
        span: Span,
        range: RangeInclusive<usize>,
        direction: Direction,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Result<Option<usize>, usize>, Error> {
        /// Steps of a search between two looks for Ctrl-C.
        const OFTEN: u32 = 16;
        let question = Raw::bytes(span.address, span.length);
        let mut walk = Walk::new(self.past()?, &question, range, direction)?;
        let mut steps = 0u32;
        let step = walk.next(&mut |_| {
            steps = steps.wrapping_add(1);
            !steps.is_multiple_of(OFTEN) || !interrupted()
        })?;
        Ok(match step {
            Step::Change(change) => Ok(Some(change.at)),
            Step::End => Ok(None),
            Step::Stopped => Err(walk.position()),
        })
    }

    /// The process as it is.
    pub const fn image(&self) -> &ProcessImage {
        &self.image
    }

    /// Its mappings.
    pub const fn space(&self) -> &AddressSpace {
        &self.image.space
    }

    /// The row of the moment.
    pub const fn row(&self) -> usize {
        self.at
    }

    /// The rows in which the process is.
    pub const fn lives(&self) -> &RangeInclusive<usize> {
        &self.lives
    }

    /// The moment as it is listed.
    pub fn listed(&self) -> Row {
        self.recording
            .rows()
            .get(self.at)
            .copied()
            .unwrap_or_default()
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> CheckpointId {
        self.listed().id
    }

    /// A thread.
    pub fn thread(&self, tid: u32) -> Option<&Thread> {
        self.image.threads.iter().find(|t| t.tid == tid)
    }

    /// The thread to look at first: the one that a signal is about to kill, else the main thread.
    pub fn first(&self) -> u32 {
        let threads = &self.image.threads;
        let dying = threads.iter().find(|t| t.signal.is_some());
        dying.or_else(|| threads.first()).map_or(0, |t| t.tid)
    }

    /// Reads what can be read from `address` on; returns how many bytes were, which is 0 if the
    /// first cannot.
    pub fn read(&self, address: u64, out: &mut [u8]) -> usize {
        let mut done = 0;
        while done < out.len() {
            let Some(at) = address.checked_add(done as u64) else {
                break;
            };
            let within = (at % PAGE_SIZE as u64) as usize;
            let n = (PAGE_SIZE - within).min(out.len() - done);
            if !self.page(PageNumber::of(at), &mut |page| {
                out[done..done + n].copy_from_slice(&page[within..within + n]);
            }) {
                break;
            }
            done += n;
        }
        done
    }

    fn page(&self, number: PageNumber, take: &mut dyn FnMut(&Page)) -> bool {
        let mut pages = self.pages.borrow_mut();
        if pages.len() >= PAGES && !pages.contains_key(&number) {
            pages.clear();
        }
        let page = pages.entry(number).or_insert_with(|| {
            let mut page = Box::new([0; PAGE_SIZE]);
            match self.memory.page(number, &mut page) {
                Ok(_) => Some(page),
                Err(error) => {
                    tracing::debug!(%error, "a page that the debugger asked for");
                    None
                }
            }
        });
        page.as_ref().is_some_and(|page| {
            take(page);
            true
        })
    }

    /// Exactly these bytes, if all can be read.
    pub fn exact(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        let mut out = vec![0; length];
        (self.read(address, &mut out) == length).then_some(out)
    }

    /// The word at an address.
    pub fn word(&self, address: u64) -> Option<u64> {
        let bytes = self.exact(address, 8)?;
        Some(u64::from_le_bytes(bytes.try_into().ok()?))
    }

    /// The bytes from an address up to the first zero, if that comes within `most`.
    pub fn text(&self, address: u64, most: usize) -> Option<Vec<u8>> {
        let mut out = vec![0; most];
        let n = self.read(address, &mut out);
        let end = out[..n].iter().position(|b| *b == 0)?;
        out.truncate(end);
        Some(out)
    }

    /// A value of the auxiliary vector.
    pub fn aux(&self, kind: u64) -> Option<u64> {
        let word = |b: &[u8]| b.try_into().map(u64::from_le_bytes).ok();
        self.image
            .process
            .auxv
            .chunks_exact(16)
            .find(|entry| word(&entry[..8]) == Some(kind))
            .and_then(|entry| word(&entry[8..]))
    }

    /// Whether an address belongs to the dynamic loader's file.
    pub fn in_loader(&self, address: u64) -> bool {
        const AT_BASE: u64 = 7;
        let loader = self.aux(AT_BASE).filter(|base| *base != 0);
        let file = |address| {
            let mapping = self.space().mapping_at(address)?;
            mapping.file
        };
        loader
            .and_then(file)
            .is_some_and(|f| file(address) == Some(f))
    }

    fn id(&self, row: usize) -> CheckpointId {
        let rows = self.recording.rows();
        rows.get(row).map(|r| r.id).unwrap_or_default()
    }
}

/// The rows around `row` in which the process is. It joins the tree once and leaves it once, so
/// both ends are found by halving. A checkpoint that cannot be read counts as without it.
fn lives(recording: &Recording, process: SpaceId, row: usize) -> RangeInclusive<usize> {
    let rows = recording.rows();
    let has = |i: usize| {
        rows.get(i)
            .and_then(|r| recording.tree(r.id).ok())
            .is_some_and(|tree| tree.contains(process))
    };
    let last = rows.len().saturating_sub(1);
    let first = if has(0) {
        0
    } else {
        let (mut without, mut with) = (0, row);
        while with > without + 1 {
            let middle = without + (with - without) / 2;
            if has(middle) {
                with = middle;
            } else {
                without = middle;
            }
        }
        with
    };
    if has(last) {
        return first..=last;
    }
    let (mut with, mut without) = (row, last.max(row));
    while without > with + 1 {
        let middle = with + (without - with) / 2;
        if has(middle) {
            with = middle;
        } else {
            without = middle;
        }
    }
    first..=with
}

impl travel::Past for Scene<'_> {
    type Error = Error;

    fn next_change(
        &self,
        span: Span,
        at: usize,
        last: usize,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Found, Error> {
        if at >= last {
            return Ok(Found::Nowhere);
        }
        Ok(
            match self.change(span, at..=last, Direction::Forward, interrupted)? {
                Ok(Some(there)) => Found::At(there),
                Ok(None) => Found::Nowhere,
                Err(there) => Found::Interrupted(there),
            },
        )
    }

    fn previous_change(
        &self,
        span: Span,
        at: usize,
        first: usize,
        interrupted: &mut dyn FnMut() -> bool,
    ) -> Result<Found, Error> {
        if first >= at {
            return Ok(Found::Nowhere);
        }
        Ok(
            match self.change(span, first..=at, Direction::Backward, interrupted)? {
                // Just before the change the bytes are what they were.
                Ok(Some(there)) => there.checked_sub(1).map_or(Found::Nowhere, Found::At),
                Ok(None) => Found::Nowhere,
                Err(there) => Found::Interrupted(there),
            },
        )
    }

    fn bytes(&self, at: usize, bytes: Span) -> Option<Vec<u8>> {
        let length = usize::try_from(bytes.length).ok()?;
        if at == self.at {
            return self.exact(bytes.address, length);
        }
        let memory = self.recording.memory(self.id(at), self.process).ok()?;
        let mut out = vec![0; length];
        memory.read(bytes.address, &mut out).ok()?;
        Some(out)
    }

    fn counters(&self, at: usize) -> Result<Vec<(u32, u64)>, Error> {
        let mut places = self.places.borrow_mut();
        if let Some(known) = places.by_row.get(&at) {
            return Ok(known.to_vec());
        }
        let threads = self.recording.threads(self.id(at), self.process)?;
        let found: Box<[(u32, u64)]> = threads.iter().map(|t| (t.tid, t.registers.rip)).collect();
        if places.threads + found.len() <= PLACES {
            places.threads += found.len();
            places.by_row.insert(at, found.clone());
        }
        Ok(found.into_vec())
    }

    fn fatal(&self, at: usize) -> Result<Option<(u32, i32)>, Error> {
        let Some(row) = self.recording.rows().get(at) else {
            return Ok(None);
        };
        if !row.tick.marks.contains(Marks::CRASH) {
            return Ok(None);
        }
        let threads = self.recording.threads(row.id, self.process)?;
        let dying = threads
            .iter()
            .find_map(|t| Some((t.tid, t.signal.as_ref()?.signal)));
        Ok(dying)
    }
}
