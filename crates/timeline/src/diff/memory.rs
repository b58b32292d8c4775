//! Bytes and blocks that differ.

use crate::Error;
use crate::heap::{self, Block, Region};
use crate::past::{Kind, PAGE, Page, Past, kind_in};
use std::collections::{BTreeMap, BTreeSet};
use stillframe_image::{AddressSpace, CheckpointId, PAGE_SIZE, PageNumber};

/// Equal bytes between two differing ones that do not part a stretch in two.
const JOIN: usize = 8;
/// Stretches kept; further ones are only counted.
const STRETCHES: usize = 100_000;
/// Checkpoints in between up to which their own lists of pages are read instead of the index.
const NEAR: usize = 64;
/// Blocks of a heap looked at: 48 bytes each, twice.
const BLOCKS: usize = 8 << 20;
/// Blocks told of one by one.
const TOLD: usize = 10_000;

/// A stretch of bytes that differ, within a page.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Bytes {
    /// The first address.
    pub address: u64,
    /// What they were.
    pub old: Vec<u8>,
    /// What they are.
    pub new: Vec<u8>,
}

/// What differs in memory.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct MemoryDifference {
    /// Pages that were looked at.
    pub compared_pages: u64,
    /// Pages of them that differ.
    pub differing_pages: u64,
    /// Bytes that differ in memory that was there at both moments.
    pub differing_bytes: u64,
    /// Where; ascending.
    pub stretches: Vec<Bytes>,
    /// Stretches beyond those, not kept.
    pub more_stretches: u64,
    /// Pages mapped at the second moment only, or other memory than at the first, that hold
    /// something.
    pub new_pages: u64,
    /// Pages mapped at the first moment only that held something.
    pub gone_pages: u64,
    /// Whether it was stopped before everything was compared.
    pub stopped: bool,
}

/// Pages of a process that may differ between two positions.
fn changed_pages(past: &Past<'_>, (a, b): (usize, usize)) -> Result<BTreeSet<PageNumber>, Error> {
    let recording = past.recording();
    let (from, to) = (past.id(a).0 + 1, past.id(b).0 + 1);
    let mut pages = BTreeSet::new();
    let every_one_is_there = to - from == (b - a) as u64;
    if b - a <= NEAR && every_one_is_there {
        for id in from..to {
            pages.extend(recording.pages_made(CheckpointId(id), past.space())?);
        }
        return Ok(pages);
    }
    let all = PageNumber(0)..PageNumber(u64::MAX);
    let range = CheckpointId(from)..CheckpointId(to);
    recording.each_version(past.space(), all, range, &mut |entry| {
        match entry {
            None => pages.clear(),
            Some((page, _)) => {
                pages.insert(page);
            }
        }
        Ok(true)
    })?;
    Ok(pages)
}

/// Generations of `b` that are not in `a`: memory that is not what it was.
fn fresh(a: &AddressSpace, b: &AddressSpace) -> Vec<(u64, u64)> {
    let mut out = Vec::new();
    for part in &b.generations {
        let mut at = part.start;
        let begin = a.generations.partition_point(|g| g.end <= part.start);
        for old in a.generations.get(begin..).unwrap_or_default() {
            if old.start >= part.end {
                break;
            }
            if old.since == part.since {
                if at < old.start {
                    out.push((at, old.start));
                }
                at = at.max(old.end);
            }
        }
        if at < part.end {
            out.push((at, part.end));
        }
    }
    out
}

/// Compares memory. The earlier position must come first.
pub(super) fn compare(
    past: &Past<'_>,
    (a, b): (usize, usize),
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<MemoryDifference, Error> {
    let mut found = MemoryDifference::default();
    let (first, second) = (past.layout(a)?, past.layout(b)?);
    let mut pages = changed_pages(past, (a, b))?;
    // Pages of memory that is new may have no version in between, if they are a file's; those of
    // memory that is gone are counted by their versions.
    for (start, end) in fresh(&first, &second) {
        for page in start / PAGE..end.div_ceil(PAGE) {
            let page = PageNumber(page);
            let both = matches!(kind_in(&first, page), Kind::Memory(_));
            let file = second
                .mapping_at(page.address())
                .is_some_and(|m| m.file.is_some());
            if both || file {
                pages.insert(page);
            }
        }
    }
    let all = pages.len() as u64;
    let gone: Vec<(u64, u64)> = fresh(&second, &first);
    for (start, end) in gone {
        let range = PageNumber(start / PAGE)..PageNumber(end.div_ceil(PAGE));
        let layout = std::sync::Arc::clone(&first);
        let memory = past.recording().memory_in(past.id(a), past.space(), layout);
        found.gone_pages += memory.pages_with_versions(range)?.len() as u64;
    }
    for page in pages {
        found.compared_pages += 1;
        if found.compared_pages.is_multiple_of(64) && !go_on(found.compared_pages, all) {
            found.stopped = true;
            break;
        }
        let (was, is) = (kind_in(&first, page), kind_in(&second, page));
        match (was, is) {
            (Kind::Memory(then), Kind::Memory(now)) => {
                // Equal versions are equal bytes, without decoding them.
                if then == now && past.version(page, a)? == past.version(page, b)? {
                    continue;
                }
                let (old, new) = (past.content(page, a)?, past.content(page, b)?);
                if let (Ok(old), Ok(new)) = (old, new) {
                    stretches(page, &old, &new, &mut found);
                }
            }
            (_, Kind::Memory(_)) => {
                let content = past.content(page, b)?;
                if content.is_ok_and(|c| *c != [0; PAGE_SIZE]) {
                    found.new_pages += 1;
                }
            }
            _ => {}
        }
    }
    Ok(found)
}

fn stretches(page: PageNumber, old: &Page, new: &Page, found: &mut MemoryDifference) {
    let mut at = 0;
    let mut open: Option<(usize, usize)> = None;
    let mut differs = false;
    let mut close = |(from, to): (usize, usize)| {
        if found.stretches.len() >= STRETCHES {
            found.more_stretches += 1;
            return;
        }
        found.stretches.push(Bytes {
            address: page.address() + from as u64,
            old: old[from..=to].to_vec(),
            new: new[from..=to].to_vec(),
        });
    };
    let mut bytes = 0;
    while at < PAGE_SIZE {
        // Most of a page is equal: eight bytes at a time.
        if at.is_multiple_of(8) && old[at..at + 8] == new[at..at + 8] {
            at += 8;
            continue;
        }
        if old[at] != new[at] {
            bytes += 1;
            differs = true;
            open = match open {
                Some((from, to)) if at - to <= JOIN => Some((from, at)),
                Some(done) => {
                    close(done);
                    Some((at, at))
                }
                None => Some((at, at)),
            };
        }
        at += 1;
    }
    if let Some(done) = open {
        close(done);
    }
    found.differing_bytes += bytes;
    found.differing_pages += u64::from(differs);
}

/// What became of a block.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum HeapChange {
    /// It was allocated.
    Allocated(Block),
    /// It was freed.
    Freed(Block),
    /// The block that is there has another size: freed and allocated again, or resized.
    Resized {
        /// What it was.
        old: Block,
        /// What it is.
        new: Block,
    },
    /// Bytes in it were written.
    Written {
        /// The block.
        block: Block,
        /// How many bytes in it differ.
        bytes: u64,
    },
}

/// Blocks of one size.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct SizeClass {
    /// Bytes that can be used of each.
    pub size: u64,
    /// How many there were.
    pub old: u64,
    /// How many there are.
    pub new: u64,
}

/// What differs in the heaps of the allocator.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct HeapDifference {
    /// Heaps of glibc that were recognised, at the second moment.
    pub regions: Vec<Region>,
    /// Why there is nothing more to say, if so.
    pub note: Option<String>,
    /// Bytes of stretches that lie in no block in use: sizes and links of the allocator, and what
    /// is free. They are not among the stretches told.
    pub bookkeeping_bytes: u64,
    /// Blocks in use, and their bytes, at the first moment.
    pub old_blocks: (u64, u64),
    /// At the second.
    pub new_blocks: (u64, u64),
    /// Sizes whose count differs, the one with the most bytes between first.
    pub classes: Vec<SizeClass>,
    /// Blocks, by address.
    pub changes: Vec<HeapChange>,
    /// Blocks beyond those, not told.
    pub more_changes: u64,
}

/// Compares the blocks of the heaps, and takes out of `memory`'s stretches those of blocks that are
/// new or resized, and those that lie between blocks.
pub(super) fn heap(
    past: &Past<'_>,
    (a, b): (usize, usize),
    memory: &mut MemoryDifference,
) -> Result<HeapDifference, Error> {
    let mut out = HeapDifference::default();
    let (old_regions, new_regions) = (heap::regions(past, a)?, heap::regions(past, b)?);
    out.regions.clone_from(&new_regions);
    if new_regions.is_empty() && old_regions.is_empty() {
        out.note = Some("no heap of glibc's malloc was recognised".to_owned());
        return Ok(out);
    }
    let old = heap::all_blocks(past, a, &old_regions, BLOCKS)?;
    let new = heap::all_blocks(past, b, &new_regions, BLOCKS)?;
    let (Some(old), Some(new)) = (old, new) else {
        out.note = Some(format!("the heap has more than {BLOCKS} blocks"));
        return Ok(out);
    };
    let used =
        |blocks: Vec<Block>| -> Vec<Block> { blocks.into_iter().filter(|b| b.used).collect() };
    let (old, new) = (used(old), used(new));
    let total = |blocks: &[Block]| {
        let bytes = blocks.iter().map(|b| b.size).sum();
        (blocks.len() as u64, bytes)
    };
    (out.old_blocks, out.new_blocks) = (total(&old), total(&new));
    out.classes = classes(&old, &new);
    let mut changes: BTreeMap<u64, HeapChange> = BTreeMap::new();
    let find = |blocks: &[Block], address: u64| -> Option<Block> {
        let i = blocks.binary_search_by_key(&address, |b| b.address).ok()?;
        blocks.get(i).copied()
    };
    for block in &old {
        match find(&new, block.address) {
            None => {
                changes.insert(block.address, HeapChange::Freed(*block));
            }
            Some(now) if now.size != block.size => {
                let change = HeapChange::Resized {
                    old: *block,
                    new: now,
                };
                changes.insert(block.address, change);
            }
            Some(_) => {}
        }
    }
    for block in &new {
        if find(&old, block.address).is_none() {
            changes.insert(block.address, HeapChange::Allocated(*block));
        }
    }
    let holder = |address: u64| {
        let after = new.partition_point(|b| b.address <= address);
        let block = *new.get(after.checked_sub(1)?)?;
        (address < block.address + block.size).then_some(block)
    };
    memory.stretches.retain(|stretch| {
        let Some(block) = holder(stretch.address) else {
            let within = |r: &Region| (r.first..r.end).contains(&stretch.address);
            let bookkeeping = new_regions.iter().any(within);
            if bookkeeping {
                out.bookkeeping_bytes += stretch.new.len() as u64;
            }
            return !bookkeeping;
        };
        let differing = stretch.old.iter().zip(&stretch.new).filter(|(a, b)| a != b);
        let n = differing.count() as u64;
        match changes
            .entry(block.address)
            .or_insert(HeapChange::Written { block, bytes: 0 })
        {
            HeapChange::Written { bytes, .. } => {
                *bytes += n;
                // What was written into a block that stays is worth seeing.
                true
            }
            // All of a new block is new.
            _ => false,
        }
    });
    out.more_changes = (changes.len().saturating_sub(TOLD)) as u64;
    out.changes = changes.into_values().take(TOLD).collect();
    Ok(out)
}

fn classes(old: &[Block], new: &[Block]) -> Vec<SizeClass> {
    let mut by_size: BTreeMap<u64, SizeClass> = BTreeMap::new();
    for (blocks, is_new) in [(old, false), (new, true)] {
        for block in blocks {
            let class = by_size.entry(block.size).or_insert(SizeClass {
                size: block.size,
                ..SizeClass::default()
            });
            if is_new {
                class.new += 1;
            } else {
                class.old += 1;
            }
        }
    }
    let mut all: Vec<SizeClass> = by_size.into_values().filter(|c| c.old != c.new).collect();
    all.sort_by_key(|c| std::cmp::Reverse(c.size.saturating_mul(c.old.abs_diff(c.new))));
    all
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn stretches_are_what_differs() {
        let old = [0u8; PAGE_SIZE];
        let mut new = old;
        for at in [0, 1, 9, 100, 109, 118, 4095] {
            new[at] = 1;
        }
        let mut found = MemoryDifference::default();
        stretches(PageNumber(2), &old, &new, &mut found);
        let at: Vec<(u64, usize)> = found
            .stretches
            .iter()
            .map(|s| (s.address - 8192, s.new.len()))
            .collect();
        assert_eq!(at, [(0, 10), (100, 1), (109, 1), (118, 1), (4095, 1)]);
        assert_eq!((found.differing_bytes, found.differing_pages), (7, 1));
        let mut none = MemoryDifference::default();
        stretches(PageNumber(2), &old, &old, &mut none);
        assert_eq!(none, MemoryDifference::default());
    }

    #[test]
    fn fresh_memory_is_what_is_not_the_same() {
        let space = |parts: &[(u64, u64, u64)]| AddressSpace {
            generations: parts
                .iter()
                .map(|(start, end, since)| stillframe_image::Generation {
                    start: *start,
                    end: *end,
                    since: CheckpointId(*since),
                })
                .collect(),
            ..AddressSpace::default()
        };
        let a = space(&[(0, 10, 1), (10, 20, 2), (30, 40, 1)]);
        let b = space(&[(0, 5, 1), (5, 15, 2), (15, 20, 3), (35, 50, 1)]);
        assert_eq!(fresh(&a, &b), [(5, 10), (15, 20), (40, 50)]);
        assert_eq!(fresh(&a, &a), []);
    }
}
