//! One process over time: where it begins and ends, which memory its pages are, what they hold.
//!
//! Moments are *positions* here: places in the list of checkpoints that remain, so that neighbours
//! differ by one whatever was removed between them. Everything is found from the ends of stretches:
//! a page that is the same memory at two positions is the same memory at all between, and the index
//! has its versions side by side. So nothing here is done once for each checkpoint, except where a
//! process changed its mappings at each one and the question is about memory that is not there.

use crate::Error;
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::RangeInclusive;
use std::rc::Rc;
use std::sync::Arc;
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, Marks, PAGE_SIZE, PageNumber, SpaceId, Thread,
};
use stillframe_store::{Bases, PageVersion, Part, Parts, Recording, Row, VersionRef};

/// The bytes of a page.
pub type Page = [u8; PAGE_SIZE];
/// Bytes of a page.
pub(crate) const PAGE: u64 = PAGE_SIZE as u64;

/// Checkpoint numbers whose versions of a page are looked up at once.
const WINDOW: u64 = 1 << 16;
/// Versions kept looked up: 24 bytes each.
const ENTRIES: usize = 2 << 20;
/// Pages with versions looked up.
const TRACKS: usize = 1 << 16;
/// Versions of a page looked up one by one; whoever needs more gets all of them at once, which costs
/// as much as some thousand in a long recording.
const FEW: u32 = 1000;
/// Decoded pages in each of two generations of the cache.
const PAGES: usize = 2048;
/// Positions whose mappings are kept at hand.
const LAYOUTS: usize = 4096;

/// What memory a page is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// Nothing is mapped there.
    Unmapped,
    /// Something is mapped there that was not captured.
    Omitted,
    /// Memory, the same since a checkpoint (which may have been removed); `None` if all its content
    /// is the file's, or zero.
    Memory(Option<CheckpointId>),
}

/// Why there are no bytes.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Missing {
    /// Nothing is mapped there.
    Unmapped,
    /// It was not captured, or the file behind it is not to be had.
    NotCaptured(String),
}

impl std::fmt::Display for Missing {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Unmapped => f.write_str("not mapped"),
            Self::NotCaptured(why) => write!(f, "not captured: {why}"),
        }
    }
}

/// What a page holds at a position.
pub type Content = Result<Arc<Page>, Missing>;

/// Versions of a page, looked up.
#[derive(Debug)]
struct Track {
    /// The newest one before.
    base: Option<PageVersion>,
    entries: Vec<PageVersion>,
}

#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
enum Held {
    Version(VersionRef),
    /// A page without a version, of this memory.
    Beneath(PageNumber, Option<CheckpointId>),
}

/// A stretch of positions at which a page is the same memory.
#[derive(Clone, Copy, Debug)]
struct Memory {
    from: usize,
    to: usize,
    since: CheckpointId,
}

impl Caches {
    fn held(&mut self, key: Held) -> Option<Content> {
        if let Some(content) = self.young.get(&key) {
            return Some(content.clone());
        }
        let content = self.old.remove(&key)?;
        self.young.insert(key, content.clone());
        Some(content)
    }

    fn hold(&mut self, key: Held, content: &Content) {
        if self.young.len() >= PAGES {
            self.old = std::mem::take(&mut self.young);
        }
        self.young.insert(key, content.clone());
    }
}

/// What was decoded is what the next version stands on, mostly.
impl Bases for Caches {
    fn find(&mut self, version: VersionRef, out: &mut Page) -> bool {
        match self.held(Held::Version(version)) {
            Some(Ok(page)) => {
                *out = *page;
                true
            }
            _ => false,
        }
    }

    fn keep(&mut self, version: VersionRef, content: &Page) {
        self.hold(Held::Version(version), &Ok(Arc::new(*content)));
    }
}

#[derive(Debug, Default)]
struct Caches {
    /// Positions, first and last, between which the mappings are the same: where that was looked for
    /// last. A walk asks again at every change, and mappings seldom change.
    stretch: Option<(usize, usize)>,
    parts: HashMap<usize, Parts>,
    layouts: HashMap<usize, (Part, Arc<AddressSpace>)>,
    tracks: HashMap<(PageNumber, u64), Rc<Track>>,
    entries: usize,
    young: HashMap<Held, Content>,
    old: HashMap<Held, Content>,
    /// How often versions were looked up one by one, where no track is.
    looked_up: HashMap<(PageNumber, u64), u32>,
    /// For pages asked about, the memory found last: its first and last position, and since when it
    /// is the same. While that lasts nobody needs to read mappings.
    memories: HashMap<PageNumber, Memory>,
    threads: Option<(Part, Rc<Vec<Thread>>)>,
}

/// A process over time. Reading only; what was decoded is kept, within bounds (about 100 MiB, most
/// of it for page versions of very long histories).
#[derive(Debug)]
pub struct Past<'a> {
    recording: &'a Recording,
    space: SpaceId,
    life: (usize, usize),
    zero: Arc<Page>,
    /// As [`WINDOW`].
    window: u64,
    caches: RefCell<Caches>,
}

impl<'a> Past<'a> {
    /// Of a process of a recording.
    ///
    /// # Errors
    /// [`Error::NoProcess`]; damage.
    pub fn new(recording: &'a Recording, space: SpaceId) -> Result<Self, Error> {
        let life = life(recording, space)?.ok_or(Error::NoProcess(space.0))?;
        Ok(Self {
            recording,
            space,
            life,
            zero: Arc::new([0; PAGE_SIZE]),
            window: WINDOW,
            caches: RefCell::default(),
        })
    }

    /// The same, looking up the versions of so many checkpoints at once.
    #[doc(hidden)]
    #[must_use]
    pub const fn with_window(mut self, window: u64) -> Self {
        self.window = window;
        self
    }

    /// The recording.
    pub const fn recording(&self) -> &'a Recording {
        self.recording
    }

    /// The process.
    pub const fn space(&self) -> SpaceId {
        self.space
    }

    /// The positions at which the process is there.
    pub const fn life(&self) -> RangeInclusive<usize> {
        self.life.0..=self.life.1
    }

    /// The checkpoint at a position.
    pub fn row(&self, at: usize) -> Option<&'a Row> {
        self.recording.rows().get(at)
    }

    /// The number of the checkpoint at a position; that of the last if there are not as many.
    pub fn id(&self, at: usize) -> CheckpointId {
        let rows = self.recording.rows();
        rows.get(at)
            .or(rows.last())
            .map_or(CheckpointId(0), |r| r.id)
    }

    /// The position of the first remaining checkpoint not before one; the number of positions if
    /// there is none.
    pub fn position(&self, id: CheckpointId) -> usize {
        position(self.recording, id)
    }

    /// The parts of the process at a position of its life.
    ///
    /// # Errors
    /// Damage.
    pub fn parts(&self, at: usize) -> Result<Parts, Error> {
        if let Some(parts) = self.caches.borrow().parts.get(&at) {
            return Ok(*parts);
        }
        let parts = self.recording.parts(self.id(at), self.space)?;
        let parts = parts.ok_or(Error::NoProcess(self.space.0))?;
        let mut caches = self.caches.borrow_mut();
        if caches.parts.len() >= 16 * LAYOUTS {
            caches.parts.clear();
        }
        caches.parts.insert(at, parts);
        Ok(parts)
    }

    /// The mappings at a position of the process's life.
    ///
    /// # Errors
    /// Damage.
    pub fn layout(&self, at: usize) -> Result<Arc<AddressSpace>, Error> {
        let at = match self.caches.borrow().stretch {
            Some((from, to)) if (from..=to).contains(&at) => from,
            _ => at,
        };
        if let Some((_, layout)) = self.caches.borrow().layouts.get(&at) {
            return Ok(Arc::clone(layout));
        }
        let found = self.recording.layout(self.id(at), self.space)?;
        let (part, layout) = found.ok_or(Error::NoProcess(self.space.0))?;
        let mut caches = self.caches.borrow_mut();
        if caches.layouts.len() >= LAYOUTS {
            caches.layouts.clear();
        }
        caches.layouts.insert(at, (part, Arc::clone(&layout)));
        Ok(layout)
    }

    /// The threads at a position of the process's life.
    ///
    /// # Errors
    /// Damage.
    pub fn threads(&self, at: usize) -> Result<Rc<Vec<Thread>>, Error> {
        let part = self.parts(at)?.threads;
        if let Some((held, threads)) = &self.caches.borrow().threads
            && *held == part
        {
            return Ok(Rc::clone(threads));
        }
        let threads = Rc::new(self.recording.threads(self.id(at), self.space)?);
        self.caches.borrow_mut().threads = Some((part, Rc::clone(&threads)));
        Ok(threads)
    }

    /// What memory a page is at a position.
    ///
    /// # Errors
    /// Damage.
    pub fn kind(&self, page: PageNumber, at: usize) -> Result<Kind, Error> {
        match self.memory(page, at)? {
            Some(memory) => Ok(Kind::Memory(Some(memory.since))),
            None => Ok(kind_in(&*self.layout(at)?, page)),
        }
    }

    /// The stretch over which a page is the memory that it is at `at`; `None` unless that is memory
    /// of which it is known since when it is the same.
    fn memory(&self, page: PageNumber, at: usize) -> Result<Option<Memory>, Error> {
        if let Some(memory) = self.caches.borrow().memories.get(&page)
            && (memory.from..=memory.to).contains(&at)
        {
            return Ok(Some(*memory));
        }
        let kind = kind_in(&*self.layout(at)?, page);
        let Kind::Memory(Some(since)) = kind else {
            return Ok(None);
        };
        let same = |p: usize| Ok(kind_in(&*self.layout(p)?, page) == kind);
        let to = match same(self.life.1)? {
            true => self.life.1,
            false => self.last_such(at, same)?,
        };
        let from = self.position(since).clamp(self.life.0, at);
        let memory = Memory { from, to, since };
        let mut caches = self.caches.borrow_mut();
        if caches.memories.len() >= TRACKS {
            caches.memories.clear();
        }
        caches.memories.insert(page, memory);
        Ok(Some(memory))
    }

    /// The last position up to which `same` holds, which holds at `at`: found by doubling steps, so
    /// `same` must not hold again once it has ceased to.
    fn last_such(
        &self,
        at: usize,
        mut same: impl FnMut(usize) -> Result<bool, Error>,
    ) -> Result<usize, Error> {
        let end = self.life.1;
        let (mut good, mut step) = (at, 1);
        let mut bad = loop {
            if good >= end {
                return Ok(end);
            }
            let probe = good.saturating_add(step).min(end);
            if !same(probe)? {
                break probe;
            }
            good = probe;
            step *= 2;
        };
        while bad - good > 1 {
            let middle = good + (bad - good) / 2;
            if same(middle)? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Ok(good)
    }

    /// As [`Past::last_such`], the other way.
    fn first_such(
        &self,
        at: usize,
        mut same: impl FnMut(usize) -> Result<bool, Error>,
    ) -> Result<usize, Error> {
        let begin = self.life.0;
        let (mut good, mut step) = (at, 1);
        let mut bad = loop {
            if good <= begin {
                return Ok(begin);
            }
            let probe = good.saturating_sub(step).max(begin);
            if !same(probe)? {
                break probe;
            }
            good = probe;
            step *= 2;
        };
        while good - bad > 1 {
            let middle = bad + (good - bad) / 2;
            if same(middle)? {
                good = middle;
            } else {
                bad = middle;
            }
        }
        Ok(good)
    }

    /// The last position that shares its mappings with `at` and all between.
    ///
    /// # Errors
    /// Damage.
    pub fn layout_until(&self, at: usize) -> Result<usize, Error> {
        if let Some((from, to)) = self.caches.borrow().stretch
            && (from..=to).contains(&at)
        {
            return Ok(to);
        }
        let part = self.parts(at)?.layout;
        let to = self.last_such(at, |p| Ok(self.parts(p)?.layout == part))?;
        self.caches.borrow_mut().stretch = Some((at, to));
        Ok(to)
    }

    /// The first position that shares its mappings with `at` and all between.
    ///
    /// # Errors
    /// Damage.
    pub fn layout_from(&self, at: usize) -> Result<usize, Error> {
        let part = self.parts(at)?.layout;
        self.first_such(at, |p| Ok(self.parts(p)?.layout == part))
    }

    /// The last position that shares its threads and their registers with `at` and all between.
    ///
    /// # Errors
    /// Damage.
    pub fn threads_until(&self, at: usize) -> Result<usize, Error> {
        let part = self.parts(at)?.threads;
        self.last_such(at, |p| Ok(self.parts(p)?.threads == part))
    }

    /// The first position that shares its threads and their registers with `at` and all between.
    ///
    /// # Errors
    /// Damage.
    pub fn threads_from(&self, at: usize) -> Result<usize, Error> {
        let part = self.parts(at)?.threads;
        self.first_such(at, |p| Ok(self.parts(p)?.threads == part))
    }

    /// The last position up to which a page is the memory that it is at `at`.
    ///
    /// # Errors
    /// Damage.
    pub fn until(&self, page: PageNumber, at: usize) -> Result<usize, Error> {
        if let Some(memory) = self.memory(page, at)? {
            return Ok(memory.to);
        }
        let kind = self.kind(page, at)?;
        // Without a generation nothing tells that it was the same between two looks.
        let mut end = self.layout_until(at)?;
        while end < self.life.1 && self.kind(page, end + 1)? == kind && !is_beneath(kind) {
            end = self.layout_until(end + 1)?;
        }
        Ok(end)
    }

    /// The first position from which on a page is the memory that it is at `at`.
    ///
    /// # Errors
    /// Damage.
    pub fn from(&self, page: PageNumber, at: usize) -> Result<usize, Error> {
        if let Some(memory) = self.memory(page, at)? {
            return Ok(memory.from);
        }
        let kind = self.kind(page, at)?;
        let mut begin = self.layout_from(at)?;
        while begin > self.life.0 && self.kind(page, begin - 1)? == kind && !is_beneath(kind) {
            begin = self.layout_from(begin - 1)?;
        }
        Ok(begin)
    }

    /// The versions of a page in a window; `None` as long as so few were asked for that it is cheaper
    /// to look them up one by one.
    fn track(&self, page: PageNumber, window: u64) -> Result<Option<Rc<Track>>, Error> {
        {
            let mut caches = self.caches.borrow_mut();
            if let Some(track) = caches.tracks.get(&(page, window)) {
                return Ok(Some(Rc::clone(track)));
            }
            if caches.looked_up.len() >= TRACKS {
                caches.looked_up.clear();
            }
            let times = caches.looked_up.entry((page, window)).or_default();
            *times += 1;
            if *times <= FEW {
                return Ok(None);
            }
        }
        let begin = window * self.window;
        let range = CheckpointId(begin)..CheckpointId(begin.saturating_add(self.window));
        let entries = self.recording.versions(self.space, page, range)?;
        let base = match begin.checked_sub(1) {
            Some(before) => {
                self.recording
                    .version_before(self.space, page, CheckpointId(before))?
            }
            None => None,
        };
        let track = Rc::new(Track { base, entries });
        let mut caches = self.caches.borrow_mut();
        let size = track.entries.len() + 4;
        if caches.entries + size > ENTRIES || caches.tracks.len() >= TRACKS {
            caches.tracks.clear();
            caches.entries = 0;
        }
        caches.entries += size;
        caches.tracks.insert((page, window), Rc::clone(&track));
        Ok(Some(track))
    }

    /// The newest version of a page made not after a position.
    fn newest(&self, page: PageNumber, at: usize) -> Result<Option<PageVersion>, Error> {
        let id = self.id(at);
        let Some(track) = self.track(page, id.0 / self.window)? else {
            return Ok(self.recording.version_before(self.space, page, id)?);
        };
        let after = track.entries.partition_point(|e| e.made <= id);
        let found = after.checked_sub(1).and_then(|i| track.entries.get(i));
        Ok(found.copied().or(track.base))
    }

    /// The version that holds a page's content at a position; `None` if it has none.
    ///
    /// # Errors
    /// Damage.
    pub fn version(&self, page: PageNumber, at: usize) -> Result<Option<VersionRef>, Error> {
        let Kind::Memory(Some(since)) = self.kind(page, at)? else {
            return Ok(None);
        };
        let newest = self.newest(page, at)?;
        Ok(newest.filter(|v| v.made >= since).map(|v| v.version))
    }

    /// What a page holds at a position.
    ///
    /// # Errors
    /// Damage; memory that is not there is [`Missing`], and no error.
    pub fn content(&self, page: PageNumber, at: usize) -> Result<Content, Error> {
        let since = match self.kind(page, at)? {
            Kind::Unmapped => return Ok(Err(Missing::Unmapped)),
            Kind::Omitted => return Ok(Err(self.omitted(page, at)?)),
            Kind::Memory(since) => since,
        };
        let newest = match since {
            Some(since) => self.newest(page, at)?.filter(|v| v.made >= since),
            None => None,
        };
        if let Some(version) = newest {
            return self.bytes_of(version.version).map(Ok);
        }
        let held = Held::Beneath(page, since);
        // Without a generation the same page may be of another file tomorrow.
        if since.is_some()
            && let Some(content) = self.held(held)
        {
            return Ok(content);
        }
        let layout = self.layout(at)?;
        let memory = self.recording.memory_in(self.id(at), self.space, layout);
        let mut bytes = [0; PAGE_SIZE];
        let content = match memory.unversioned(page, &mut bytes) {
            Ok(_) if bytes == *self.zero => Ok(Arc::clone(&self.zero)),
            Ok(_) => Ok(Arc::new(bytes)),
            Err(stillframe_store::Error::Unavailable { reason, .. }) => {
                Err(Missing::NotCaptured(reason))
            }
            Err(stillframe_store::Error::Unmapped { .. }) => Err(Missing::Unmapped),
            Err(e) => return Err(e.into()),
        };
        if since.is_some() {
            self.hold(held, &content);
        }
        Ok(content)
    }

    /// The bytes of a version of a page of this process.
    ///
    /// # Errors
    /// Damage.
    pub fn bytes_of(&self, version: VersionRef) -> Result<Arc<Page>, Error> {
        if version.is_zero() {
            return Ok(Arc::clone(&self.zero));
        }
        let held = Held::Version(version);
        let mut caches = self.caches.borrow_mut();
        if let Some(Ok(page)) = caches.held(held) {
            return Ok(page);
        }
        let mut bytes = [0; PAGE_SIZE];
        self.recording.content(version, &mut *caches, &mut bytes)?;
        let page = Arc::new(bytes);
        caches.hold(held, &Ok(Arc::clone(&page)));
        Ok(page)
    }

    fn held(&self, key: Held) -> Option<Content> {
        self.caches.borrow_mut().held(key)
    }

    fn hold(&self, key: Held, content: &Content) {
        self.caches.borrow_mut().hold(key, content);
    }

    fn omitted(&self, page: PageNumber, at: usize) -> Result<Missing, Error> {
        let layout = self.layout(at)?;
        let reason = match layout.mapping_at(page.address()).map(|m| &m.coverage) {
            Some(Coverage::Omitted(reason)) => reason.clone(),
            _ => String::new(),
        };
        Ok(Missing::NotCaptured(reason))
    }

    /// The first position after `at` at which a page may hold something else than at the position
    /// before it; `None` if there is none.
    ///
    /// # Errors
    /// Damage.
    pub fn next_event(&self, page: PageNumber, at: usize) -> Result<Option<usize>, Error> {
        let end = self.until(page, at)?;
        if let Kind::Memory(Some(_)) = self.kind(page, at)? {
            let (id, last) = (self.id(at), self.id(end));
            for window in id.0 / self.window..=last.0 / self.window {
                let Some(track) = self.track(page, window)? else {
                    let range = CheckpointId(id.0 + 1)..CheckpointId(last.0 + 1);
                    let next = self.recording.version_after(self.space, page, range)?;
                    if let Some(next) = next {
                        return Ok(Some(self.position(next.made)));
                    }
                    break;
                };
                let after = track.entries.partition_point(|e| e.made <= id);
                if let Some(entry) = track.entries.get(after) {
                    if entry.made <= last {
                        return Ok(Some(self.position(entry.made)));
                    }
                    break;
                }
            }
        }
        Ok((end < self.life.1).then_some(end + 1))
    }

    /// The last position up to `at` at which a page may hold something else than at the position
    /// before it; the first position of the process if there is none.
    ///
    /// # Errors
    /// Damage.
    pub fn last_event(&self, page: PageNumber, at: usize) -> Result<usize, Error> {
        let begin = self.from(page, at)?;
        if let Kind::Memory(Some(since)) = self.kind(page, at)?
            && let Some(newest) = self.newest(page, at)?.filter(|v| v.made >= since)
        {
            return Ok(self.position(newest.made).clamp(begin, at));
        }
        Ok(begin)
    }
}

/// Whether it is memory that has neither versions nor a generation.
fn is_beneath(kind: Kind) -> bool {
    kind == Kind::Memory(None)
}

/// What memory a page is in an address space.
pub fn kind_in(layout: &AddressSpace, page: PageNumber) -> Kind {
    let address = page.address();
    if PageNumber::of(address) != page {
        return Kind::Unmapped;
    }
    match layout.mapping_at(address).map(|m| &m.coverage) {
        None => Kind::Unmapped,
        Some(Coverage::Omitted(_)) => Kind::Omitted,
        Some(Coverage::Tracked | Coverage::Copied) => Kind::Memory(layout.since(address)),
    }
}

/// The position of the first remaining checkpoint not before one.
pub fn position(recording: &Recording, id: CheckpointId) -> usize {
    let rows = recording.rows();
    // Numbers ascend by one unless some were removed.
    match usize::try_from(id.0)
        .ok()
        .filter(|g| rows.get(*g).is_some_and(|r| r.id == id))
    {
        Some(guess) => guess,
        None => rows.partition_point(|r| r.id < id),
    }
}

/// The first and last position at which a process is there. It is there at all between.
fn life(recording: &Recording, space: SpaceId) -> Result<Option<(usize, usize)>, Error> {
    let rows = recording.rows();
    let Some(end) = rows.len().checked_sub(1) else {
        return Ok(None);
    };
    let there = |at: usize| -> Result<bool, Error> {
        match rows.get(at) {
            Some(row) => Ok(recording.parts(row.id, space)?.is_some()),
            None => Ok(false),
        }
    };
    let mut first = None;
    for (at, row) in rows.iter().enumerate() {
        // A process appears at the beginning or where a mark says that some process did; removing
        // checkpoints removes marks.
        let may = at == 0 || recording.removed() > 0 || row.tick.marks.contains(Marks::FORK);
        if may && there(at)? {
            first = Some(at);
            break;
        }
    }
    let Some(first) = first else {
        return Ok(None);
    };
    if there(end)? {
        return Ok(Some((first, end)));
    }
    let (mut good, mut bad) = (first, end);
    while bad - good > 1 {
        let middle = good + (bad - good) / 2;
        if there(middle)? {
            good = middle;
        } else {
            bad = middle;
        }
    }
    Ok(Some((first, good)))
}
