//! Bytes anywhere in a process's memory, over time: where, and from when to when.
//!
//! Goes through time once. At the first moment every page with content is searched; after it, at
//! each checkpoint, the pages that got a new version, and those that were mapped anew. So each
//! version of a page is decoded and searched once. That is done for a stretch of time page by page,
//! because versions of a page stand on few others of it, which may be as old as the recording: read in
//! the order of time, each of them would be looked for again for every page that is written at random.
//! What stands across the border of two pages is found from the end of one and the beginning of the
//! other. An interval is told when it ends.

mod needle;

pub use needle::{Hits, Needle};

use crate::Error;
use crate::past::{Kind, PAGE, Page, Past, kind_in};
use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet, VecDeque};
use std::ops::RangeInclusive;
use std::sync::Arc;
use stillframe_image::{AddressSpace, CheckpointId, Mapping, PAGE_SIZE, PageNumber};
use stillframe_store::{Bases, PageVersion, VersionRef};

/// Most versions searched at once: 48 bytes each.
const BATCH: u64 = 1 << 20;
/// At first it is so many, so that what is near the beginning is told soon; then four times as many
/// each time.
const SOON: u64 = 1 << 14;
/// Contents of a page kept while its versions are read.
const CONTENTS: usize = 8;

/// Where bytes stood, and when.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Match {
    /// The first address.
    pub address: u64,
    /// The first position at which they stand there.
    pub from: usize,
    /// The last.
    pub to: usize,
}

/// How far it is.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Pages searched.
    pub searched: u64,
    /// Versions that the index has of all processes and times; about as many are searched at most.
    pub versions: u64,
}

/// What is told as it goes on.
pub trait Watch {
    /// A match, when its interval has ended; `false` to stop.
    fn found(&mut self, found: Match) -> bool;
    /// How far it is; `false` to stop.
    fn progress(&mut self, progress: Progress) -> bool;
}

/// What came of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Outcome {
    /// Whether it was stopped: then intervals end at the moment it had come to.
    pub stopped: bool,
    /// Pages searched.
    pub searched: u64,
    /// Pages whose bytes are not to be had: of files that are neither in the recording nor
    /// unchanged.
    pub missing: u64,
    /// Positions searched.
    pub range: (usize, usize),
}

/// Looks for bytes in the memory of a process at every moment of a range.
///
/// # Errors
/// Damage; [`Error::Empty`].
pub fn grep(
    past: &Past<'_>,
    needle: &Needle,
    range: RangeInclusive<usize>,
    watch: &mut dyn Watch,
) -> Result<Outcome, Error> {
    grep_by(past, needle, range, watch, BATCH)
}

/// As [`grep`], holding the places of about `batch` versions at once.
#[doc(hidden)]
pub fn grep_by(
    past: &Past<'_>,
    needle: &Needle,
    range: RangeInclusive<usize>,
    watch: &mut dyn Watch,
    batch: u64,
) -> Result<Outcome, Error> {
    if range.is_empty() {
        return Err(Error::Empty);
    }
    let first = (*range.start()).max(*past.life().start());
    let last = (*range.end()).min(*past.life().end());
    let mut outcome = Outcome {
        stopped: false,
        searched: 0,
        missing: 0,
        range: (first, last),
    };
    if first > last {
        return Ok(outcome);
    }
    let zeros = needle.in_zeros();
    let mut search = Search {
        past,
        needle,
        watch,
        versions: past.recording().version_count()?,
        searched: 0,
        missing: 0,
        stopped: false,
        edges: !zeros.tails.is_empty() || !zeros.heads.is_empty(),
        at: first,
        layout: past.layout(first)?,
        pages: HashMap::new(),
        open: BTreeMap::new(),
        borders: BTreeMap::new(),
        touched: BTreeSet::new(),
        contents: Contents::default(),
    };
    search.begin(first)?;
    let mut end = first;
    if !search.stopped {
        end = search.go(first, last, batch)?;
    }
    search.close(end);
    outcome.stopped = search.stopped;
    outcome.searched = search.searched;
    outcome.missing = search.missing;
    outcome.range.1 = end;
    Ok(outcome)
}

struct Search<'s, 'a> {
    past: &'s Past<'a>,
    needle: &'s Needle,
    watch: &'s mut dyn Watch,
    versions: u64,
    searched: u64,
    missing: u64,
    stopped: bool,
    /// Whether a page of zeros can be part of a match, and so every page has to be remembered.
    edges: bool,
    at: usize,
    layout: Arc<AddressSpace>,
    /// What the present content of pages shows. A page that is not here shows nothing, or is zero if
    /// `edges`.
    pages: HashMap<PageNumber, Hits>,
    /// Matches inside pages, and since when.
    open: BTreeMap<(PageNumber, u16), usize>,
    /// Matches that begin at so many bytes before the end of a page, and since when.
    borders: BTreeMap<(PageNumber, u16), usize>,
    /// Pages whose border with the next page has to be looked at.
    touched: BTreeSet<PageNumber>,
    contents: Contents,
}

/// A version of a page that became visible at a position.
struct Entry {
    at: usize,
    page: PageNumber,
    version: PageVersion,
    /// What it shows, once it was searched; nothing, mostly.
    hits: Option<Box<Hits>>,
    /// It is all zeros.
    zero: bool,
}

/// Contents of the page whose versions are read: the oldest goes first.
#[derive(Default)]
struct Contents {
    page: PageNumber,
    held: VecDeque<(VersionRef, Box<Page>)>,
}

impl Contents {
    /// Another page shares nothing with the one before.
    fn turn_to(&mut self, page: PageNumber) {
        if self.page != page {
            self.page = page;
            self.held.clear();
        }
    }
}

impl Bases for Contents {
    fn find(&mut self, version: VersionRef, out: &mut Page) -> bool {
        let Some(at) = self.held.iter().position(|(v, _)| *v == version) else {
            return false;
        };
        // What is of use stays.
        if let Some(held) = self.held.remove(at) {
            *out = *held.1;
            self.held.push_back(held);
        }
        true
    }

    fn keep(&mut self, version: VersionRef, content: &Page) {
        let mut place = match self.held.len() < CONTENTS {
            true => Box::new([0; PAGE_SIZE]),
            false => match self.held.pop_front() {
                Some((_, place)) => place,
                None => return,
            },
        };
        *place = *content;
        self.held.push_back((version, place));
    }
}

/// A stretch of captured memory of one generation in one mapping.
#[derive(Clone, Copy, PartialEq, Eq, Hash)]
struct Piece {
    start: u64,
    end: u64,
    since: Option<CheckpointId>,
}

/// The file-backed memory of a mapping, by generation.
fn pieces(layout: &AddressSpace, mapping: &Mapping) -> Vec<Piece> {
    let mut all = Vec::new();
    let mut at = mapping.start;
    let begin = layout.generations.partition_point(|g| g.end <= at);
    for part in layout.generations.get(begin..).unwrap_or_default() {
        if part.start >= mapping.end {
            break;
        }
        let (start, end) = (part.start.max(at), part.end.min(mapping.end));
        let piece = |start, end, since| Piece { start, end, since };
        if at < start {
            all.push(piece(at, start, None));
        }
        all.push(piece(start, end, Some(part.since)));
        at = end;
    }
    if at < mapping.end {
        all.push(Piece {
            start: at,
            end: mapping.end,
            since: None,
        });
    }
    all
}

fn file_pieces(layout: &AddressSpace) -> impl Iterator<Item = Piece> + '_ {
    layout
        .mappings
        .iter()
        .filter(|m| m.file.is_some() && !m.is_empty())
        .flat_map(|m| pieces(layout, m))
}

fn pages_of(piece: &Piece) -> impl Iterator<Item = PageNumber> + use<> {
    (piece.start / PAGE..piece.end.div_ceil(PAGE)).map(PageNumber)
}

impl Search<'_, '_> {
    /// Everything there is at the first moment.
    fn begin(&mut self, first: usize) -> Result<(), Error> {
        let layout = Arc::clone(&self.layout);
        let (recording, space) = (self.past.recording(), self.past.space());
        let memory = recording.memory_in(self.past.id(first), space, Arc::clone(&layout));
        let everything = PageNumber(0)..PageNumber(u64::MAX);
        let mut versions = memory.pages_with_versions(everything)?;
        let with: HashSet<PageNumber> = versions.iter().map(|(p, _)| *p).collect();
        // In the order in which they are stored, so that each pack is decoded once.
        versions.sort_unstable_by_key(|(page, version)| (*version, *page));
        for (page, version) in versions {
            if !self.version(page, version)? {
                return Ok(());
            }
        }
        for piece in file_pieces(&layout) {
            for page in pages_of(&piece).filter(|p| !with.contains(p)) {
                if !self.beneath(page)? {
                    return Ok(());
                }
            }
        }
        self.settle();
        Ok(())
    }

    /// From one moment to the next; the position it came to.
    fn go(&mut self, first: usize, last: usize, batch: u64) -> Result<usize, Error> {
        let past = self.past;
        let mut layout_end = past.layout_until(first)?;
        let mut from = past.id(first).0 + 1;
        let end = past.id(last).0;
        let per_checkpoint = self.versions / (end + 1).max(1) + 1;
        let mut many = batch.min(SOON);
        while from <= end {
            let to = from
                .saturating_add((many / per_checkpoint).max(1))
                .min(end + 1);
            many = many.saturating_mul(4).min(batch);
            // What removed checkpoints made belongs to the first one after them that remains, which
            // must be told of in one go.
            let to = past.recording().next_remaining(CheckpointId(to - 1)).0 + 1;
            let mut entries = self.entries(from, to)?;
            if !self.search(&mut entries)? {
                return Ok(past.position(CheckpointId(from)).saturating_sub(1));
            }
            // Stable: of several versions of a page at a position the last counts.
            entries.sort_by_key(|e| (e.at, e.page));
            let mut rest = &mut entries[..];
            let window_end = past.position(CheckpointId(to)).min(last + 1);
            loop {
                let version_at = rest.first().map_or(usize::MAX, |e| e.at);
                let at = version_at.min(layout_end + 1);
                if at >= window_end {
                    break;
                }
                self.at = at;
                let mut other = BTreeSet::new();
                if at > layout_end {
                    other = self.relayout(at)?;
                    layout_end = past.layout_until(at)?;
                }
                let n = rest.partition_point(|e| e.at == at);
                let (now, later) = rest.split_at_mut(n);
                rest = later;
                self.versions_at(now, &mut other);
                self.without_version(other)?;
                self.settle();
                if self.stopped {
                    return Ok(at);
                }
            }
            from = to;
        }
        Ok(last)
    }

    /// The versions that checkpoints `from` to before `to` made, by page and then by time.
    fn entries(&self, from: u64, to: u64) -> Result<Vec<Entry>, Error> {
        let past = self.past;
        let mut entries: Vec<Entry> = Vec::new();
        let pages = PageNumber(0)..PageNumber(u64::MAX);
        let range = CheckpointId(from)..CheckpointId(to);
        past.recording()
            .each_version(past.space(), pages, range, &mut |entry| {
                match entry {
                    None => entries.clear(),
                    Some((page, version)) => entries.push(Entry {
                        at: past.position(version.made),
                        page,
                        version,
                        hits: None,
                        zero: version.version.is_zero(),
                    }),
                }
                Ok(true)
            })?;
        Ok(entries)
    }

    /// Searches versions; whether to go on.
    fn search(&mut self, entries: &mut [Entry]) -> Result<bool, Error> {
        for n in 0..entries.len() {
            let after = entries.get(n + 1).map(|e| (e.at, e.page));
            let Some(entry) = entries.get_mut(n) else {
                break;
            };
            // Of several at a position the last counts.
            let over = entry.at > *self.past.life().end();
            if over || entry.zero || after == Some((entry.at, entry.page)) {
                continue;
            }
            // What no moment shows may be gone with the checkpoint that made it.
            match self.past.kind(entry.page, entry.at)? {
                Kind::Memory(Some(since)) if since <= entry.version.made => {}
                _ => continue,
            }
            let mut bytes = [0; PAGE_SIZE];
            self.bytes(entry.page, entry.version.version, &mut bytes)?;
            let hits = self.needle.search(&bytes);
            entry.zero = self.edges && bytes == [0; PAGE_SIZE];
            entry.hits = (!hits.is_empty()).then(|| Box::new(hits));
            if !self.counted() {
                return Ok(false);
            }
        }
        Ok(true)
    }

    /// The bytes of a version of a page.
    fn bytes(
        &mut self,
        page: PageNumber,
        version: VersionRef,
        out: &mut Page,
    ) -> Result<(), Error> {
        self.contents.turn_to(page);
        let recording = self.past.recording();
        recording.content(version, &mut self.contents, out)?;
        self.contents.keep(version, out);
        Ok(())
    }

    /// The versions of a moment. Takes the pages that have one out of `other`.
    fn versions_at(&mut self, now: &mut [Entry], other: &mut BTreeSet<PageNumber>) {
        for n in 0..now.len() {
            let after = now.get(n + 1).map(|e| e.page);
            let Some(entry) = now.get_mut(n) else { break };
            if after == Some(entry.page) {
                continue;
            }
            // Made in memory that is gone, or that the checkpoint does not show.
            let visible = match kind_in(&self.layout, entry.page) {
                Kind::Memory(Some(since)) => since <= entry.version.made,
                _ => false,
            };
            if visible {
                other.remove(&entry.page);
                let hits = entry.hits.take().map_or_else(Hits::default, |h| *h);
                self.show(entry.page, hits, entry.zero);
            }
        }
    }

    /// Pages that are other memory than before and have no version.
    fn without_version(&mut self, pages: BTreeSet<PageNumber>) -> Result<(), Error> {
        for page in pages {
            let mapping = self.layout.mapping_at(page.address());
            if mapping.is_some_and(|m| m.file.is_some()) {
                if !self.beneath(page)? {
                    break;
                }
            } else {
                self.show(page, Hits::default(), true);
            }
        }
        Ok(())
    }

    /// The mappings are others from here on; gives the pages that are other memory.
    fn relayout(&mut self, at: usize) -> Result<BTreeSet<PageNumber>, Error> {
        let new = self.past.layout(at)?;
        let old = std::mem::replace(&mut self.layout, Arc::clone(&new));
        let mut again: BTreeSet<PageNumber> = BTreeSet::new();
        for (page, hits) in &self.pages {
            if kind_in(&old, *page) != kind_in(&new, *page) {
                again.insert(*page);
            }
            // What is beside it may have come or gone.
            if !hits.tails.is_empty() {
                self.touched.insert(*page);
            }
            if !hits.heads.is_empty() {
                self.touched.insert(PageNumber(page.0.wrapping_sub(1)));
            }
        }
        let known: HashSet<Piece> = file_pieces(&old).collect();
        for piece in file_pieces(&new).filter(|p| p.since.is_none() || !known.contains(p)) {
            let changed =
                |p: &PageNumber| piece.since.is_none() || kind_in(&old, *p) != kind_in(&new, *p);
            again.extend(pages_of(&piece).filter(changed));
        }
        Ok(again)
    }

    /// A page has a version; whether to go on.
    fn version(&mut self, page: PageNumber, version: VersionRef) -> Result<bool, Error> {
        if version.is_zero() {
            self.show(page, Hits::default(), true);
            return Ok(true);
        }
        let mut bytes = [0; PAGE_SIZE];
        self.bytes(page, version, &mut bytes)?;
        Ok(self.searched(page, &bytes))
    }

    /// A page has no version; whether to go on.
    fn beneath(&mut self, page: PageNumber) -> Result<bool, Error> {
        let (recording, space) = (self.past.recording(), self.past.space());
        let id = self.past.id(self.at);
        let memory = recording.memory_in(id, space, Arc::clone(&self.layout));
        let mut bytes = [0; PAGE_SIZE];
        match memory.unversioned(page, &mut bytes) {
            Ok(_) => Ok(self.searched(page, &bytes)),
            Err(
                stillframe_store::Error::Unavailable { .. }
                | stillframe_store::Error::Unmapped { .. },
            ) => {
                self.missing += 1;
                self.show(page, Hits::default(), false);
                Ok(true)
            }
            Err(e) => Err(e.into()),
        }
    }

    fn searched(&mut self, page: PageNumber, bytes: &Page) -> bool {
        let hits = self.needle.search(bytes);
        let zero = self.edges && *bytes == [0; PAGE_SIZE];
        self.show(page, hits, zero);
        self.counted()
    }

    /// One more page was searched; whether to go on.
    fn counted(&mut self) -> bool {
        self.searched += 1;
        if self.searched.is_multiple_of(256) {
            let progress = Progress {
                searched: self.searched,
                versions: self.versions,
            };
            self.stopped |= !self.watch.progress(progress);
        }
        !self.stopped
    }

    /// Takes in what a page shows from here on. `zero`: it is all zeros, or not there.
    fn show(&mut self, page: PageNumber, hits: Hits, zero: bool) {
        let before = self.pages.get(&page).cloned().unwrap_or_default();
        for offset in &before.whole {
            if hits.whole.binary_search(offset).is_err()
                && let Some(from) = self.open.remove(&(page, *offset))
            {
                let address = page.address() + u64::from(*offset);
                self.tell(address, from, self.at);
            }
        }
        for offset in &hits.whole {
            self.open.entry((page, *offset)).or_insert(self.at);
        }
        let before_page = PageNumber(page.0.wrapping_sub(1));
        if before.tails != hits.tails || self.edges {
            self.touched.insert(page);
        }
        if before.heads != hits.heads || self.edges {
            self.touched.insert(before_page);
        }
        if (hits.is_empty() && !self.edges) || zero {
            self.pages.remove(&page);
        } else {
            self.pages.insert(page, hits);
        }
    }

    /// What a page shows at its borders.
    fn shown(&self, page: PageNumber) -> &Hits {
        const NOTHING: &Hits = &Hits {
            whole: Vec::new(),
            tails: Vec::new(),
            heads: Vec::new(),
        };
        match self.pages.get(&page) {
            Some(hits) => hits,
            None if self.edges && matches!(kind_in(&self.layout, page), Kind::Memory(_)) => {
                self.needle.in_zeros()
            }
            None => NOTHING,
        }
    }

    /// Looks at the borders of pages that have changed, once all of a moment have.
    fn settle(&mut self) {
        for page in std::mem::take(&mut self.touched) {
            let heads = &self.shown(PageNumber(page.0.wrapping_add(1))).heads;
            let tails = &self.shown(page).tails;
            let now: BTreeSet<u16> = tails
                .iter()
                .filter(|n| heads.contains(n))
                .copied()
                .collect();
            let open: Vec<u16> = self
                .borders
                .range((page, 0)..=(page, u16::MAX))
                .map(|((_, n), _)| *n)
                .collect();
            for n in open.into_iter().filter(|n| !now.contains(n)) {
                if let Some(from) = self.borders.remove(&(page, n)) {
                    self.tell(page.address() + (PAGE - u64::from(n)), from, self.at);
                }
            }
            for n in now {
                self.borders.entry((page, n)).or_insert(self.at);
            }
        }
    }

    /// A match that was there until before a position.
    fn tell(&mut self, address: u64, from: usize, until: usize) {
        // It came and went between the parts of one moment.
        if from >= until {
            return;
        }
        let found = Match {
            address,
            from,
            to: until - 1,
        };
        self.stopped |= !self.watch.found(found);
    }

    /// Tells of everything that is there at the end.
    fn close(&mut self, end: usize) {
        let whole = std::mem::take(&mut self.open).into_iter();
        let borders = std::mem::take(&mut self.borders).into_iter();
        let mut all: Vec<(u64, usize)> = whole
            .map(|((page, offset), from)| (page.address() + u64::from(offset), from))
            .chain(borders.map(|((page, n), from)| (page.address() + (PAGE - u64::from(n)), from)))
            .collect();
        all.sort_unstable();
        for (address, from) in all {
            let found = Match {
                address,
                from,
                to: end,
            };
            if from <= end && !self.watch.found(found) {
                self.stopped = true;
                return;
            }
        }
    }
}
