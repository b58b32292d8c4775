//! The blocks of glibc's `malloc`, found by walking its chunks.
//!
//! A heap of glibc is a row of chunks without gaps. Each begins with its size, whose low bits say
//! among other things whether the chunk *before* it is in use; the last is the free top (glibc,
//! malloc/malloc.c and arena.c). The main arena lies in `[heap]`; others in mappings aligned to 64
//! MiB which begin with a `heap_info`. A region counts as recognised only if the walk ends exactly
//! where the heap does, so that what is not glibc's is not taken for it. Large blocks have mappings
//! of their own and are not seen here.

use crate::Error;
use crate::past::{PAGE, Page, Past};
use std::sync::Arc;
use stillframe_image::{AddressSpace, Coverage, Mapping, MappingKind, PageNumber};

/// What every heap but the main one is aligned to.
const HEAP_ALIGN: u64 = 64 << 20;
/// Least size of a chunk.
const LEAST: u64 = 32;
/// Bytes before a block that belong to its chunk.
const HEADER: u64 = 16;
/// Bit of a size: the chunk before is in use.
const BEFORE_IN_USE: u64 = 1;
/// The low bits of a size.
const FLAGS: u64 = 7;

/// A block.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Block {
    /// What `malloc` returned.
    pub address: u64,
    /// Bytes that can be used.
    pub size: u64,
    /// Whether the allocator counts it as used. Blocks freed into a thread's cache (tcache) or a
    /// fast bin still do.
    pub used: bool,
}

/// A part of the address space that holds a heap.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Region {
    /// Where the first chunk begins.
    pub first: u64,
    /// Address after the top chunk.
    pub end: u64,
}

/// Reads words of one moment, a page at a time.
struct Words<'p, 'a> {
    past: &'p Past<'a>,
    at: usize,
    held: Option<(PageNumber, Arc<Page>)>,
}

impl Words<'_, '_> {
    fn word(&mut self, address: u64) -> Result<Option<u64>, Error> {
        if !address.is_multiple_of(8) {
            return Ok(None);
        }
        let number = PageNumber::of(address);
        let page = match &self.held {
            Some((held, page)) if *held == number => Arc::clone(page),
            _ => match self.past.content(number, self.at)? {
                Ok(page) => {
                    self.held = Some((number, Arc::clone(&page)));
                    page
                }
                Err(_) => return Ok(None),
            },
        };
        let within = (address % PAGE) as usize;
        let bytes = page.get(within..within + 8).and_then(|b| b.first_chunk());
        Ok(bytes.map(|b| u64::from_le_bytes(*b)))
    }
}

/// Visits the blocks of a region in order; whether it is a heap to its end. `visit` says whether to
/// go on.
fn walk(
    words: &mut Words<'_, '_>,
    region: Region,
    visit: &mut dyn FnMut(Block) -> bool,
) -> Result<bool, Error> {
    let Some(first) = words.word(region.first.wrapping_add(8))? else {
        return Ok(false);
    };
    let (mut chunk, mut word) = (region.first, first);
    loop {
        let size = word & !FLAGS;
        let next = chunk.checked_add(size).filter(|n| *n <= region.end);
        let Some(next) = next.filter(|_| size.is_multiple_of(16) && size >= LEAST) else {
            return Ok(false);
        };
        if next == region.end {
            // The top.
            return Ok(true);
        }
        let Some(after) = words.word(next.wrapping_add(8))? else {
            return Ok(false);
        };
        let block = Block {
            address: chunk + HEADER,
            // The first word of the next chunk belongs to this one while it is in use.
            size: size - 8,
            used: after & BEFORE_IN_USE != 0,
        };
        if !visit(block) {
            return Ok(true);
        }
        (chunk, word) = (next, after);
    }
}

fn captured(mapping: &Mapping) -> bool {
    mapping.write && !matches!(mapping.coverage, Coverage::Omitted(_))
}

/// Where heaps may be: candidates of which the first that proves to be one is taken.
fn candidates(words: &mut Words<'_, '_>, layout: &AddressSpace) -> Result<Vec<Vec<Region>>, Error> {
    let mut all = Vec::new();
    // Neighbours are one: a heap's mapping may be split by attributes of its pages.
    let mut joined: Vec<(u64, u64, MappingKind)> = Vec::new();
    for mapping in layout.mappings.iter().filter(|m| captured(m)) {
        match joined.last_mut() {
            Some((_, end, kind)) if *end == mapping.start && *kind == mapping.kind => {
                *end = mapping.end;
            }
            _ => joined.push((mapping.start, mapping.end, mapping.kind)),
        }
    }
    for (start, end, kind) in joined {
        match kind {
            MappingKind::Heap => all.push(vec![Region { first: start, end }]),
            MappingKind::Anonymous => {
                // It may have been joined with what lies before it.
                let mut base = start.next_multiple_of(HEAP_ALIGN);
                while base < end {
                    all.push(secondary(words, base, end)?);
                    let Some(next) = base.checked_add(HEAP_ALIGN) else {
                        break;
                    };
                    base = next;
                }
            }
            _ => {}
        }
    }
    all.retain(|c| !c.is_empty());
    Ok(all)
}

/// A heap of an arena other than the main one: `heap_info { ar_ptr, prev, size, ... }`, in the first
/// heap of an arena followed by the arena itself, whose size differs by version.
fn secondary(words: &mut Words<'_, '_>, base: u64, mapped_end: u64) -> Result<Vec<Region>, Error> {
    let mut get = |offset: u64| words.word(base + offset);
    let (Some(arena), Some(previous), Some(size)) = (get(0)?, get(8)?, get(16)?) else {
        return Ok(Vec::new());
    };
    let end = base.checked_add(size);
    let well = size > 0x40 && size <= HEAP_ALIGN && size.is_multiple_of(PAGE);
    let Some(end) = end.filter(|e| well && *e <= mapped_end) else {
        return Ok(Vec::new());
    };
    let firsts: Vec<u64> = if arena.wrapping_sub(base) <= 0x40 && previous == 0 {
        // sizeof(struct malloc_state): 2.27 and later, 2.26, 2.23 and before.
        [0x898, 0x890, 0x888]
            .iter()
            .map(|state| (arena + state).next_multiple_of(16))
            .collect()
    } else if previous.is_multiple_of(HEAP_ALIGN) && previous != 0 {
        vec![base + 0x20, base + 0x30, base + 0x40]
    } else {
        return Ok(Vec::new());
    };
    let region = |first| Region { first, end };
    Ok(firsts.into_iter().map(region).collect())
}

/// The heaps of a process at a position, ascending.
///
/// # Errors
/// Damage.
pub fn regions(past: &Past<'_>, at: usize) -> Result<Vec<Region>, Error> {
    let mut words = Words {
        past,
        at,
        held: None,
    };
    let layout = past.layout(at)?;
    let mut found = Vec::new();
    for candidates in candidates(&mut words, &layout)? {
        for region in candidates {
            if walk(&mut words, region, &mut |_| true)? {
                found.push(region);
                break;
            }
        }
    }
    found.sort_unstable_by_key(|r| r.first);
    Ok(found)
}

/// Visits the blocks of a heap in order of address, until `visit` returns false.
///
/// # Errors
/// Damage.
pub fn blocks(
    past: &Past<'_>,
    at: usize,
    region: Region,
    visit: &mut dyn FnMut(Block) -> bool,
) -> Result<(), Error> {
    let mut words = Words {
        past,
        at,
        held: None,
    };
    walk(&mut words, region, visit).map(drop)
}

/// All blocks at a position, ascending, up to `most`; `None` beyond that.
///
/// # Errors
/// Damage.
pub fn all_blocks(
    past: &Past<'_>,
    at: usize,
    regions: &[Region],
    most: usize,
) -> Result<Option<Vec<Block>>, Error> {
    let mut all = Vec::new();
    for region in regions {
        blocks(past, at, *region, &mut |block| {
            all.push(block);
            all.len() <= most
        })?;
        if all.len() > most {
            return Ok(None);
        }
    }
    Ok(Some(all))
}
