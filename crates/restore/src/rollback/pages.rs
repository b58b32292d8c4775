//! Which pages are not what they were, and writing them.
//!
//! With a checkpoint of the present at hand, the index of page versions tells: what has a version
//! made since, or is other memory since. Without one, what exists now and what existed then is read
//! and compared. What was found is not what is written in two cases: memory that has a life of its
//! own (devices, the kernel's time pages), and files mapped shared, whose content is a matter of
//! files and not of memory.

use super::{Error, Kept};
use std::collections::BTreeSet;
use std::ops::Range;
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, Mapping, MappingKind, PAGE_SIZE, PageNumber, Rseq,
};
use stillframe_linux::memory::Door;
use stillframe_linux::pagemap::{Categories, Region, Scanner};
use stillframe_store::{Memory, Recording};

/// A page's bytes.
pub type Page = [u8; PAGE_SIZE];

const PAGE: u64 = PAGE_SIZE as u64;

/// Pages read, compared and written at once.
const AT_ONCE: usize = 512;

/// Whether the content of a mapping is put back.
pub fn is_ours(mapping: &Mapping) -> bool {
    let kept = !matches!(mapping.coverage, Coverage::Omitted(_));
    let sort = match mapping.kind {
        MappingKind::Anonymous | MappingKind::Heap | MappingKind::Stack => true,
        MappingKind::SharedMemory => mapping.write || !mapping.shared,
        MappingKind::File => !mapping.shared,
        MappingKind::Huge => mapping.write,
        MappingKind::Vdso | MappingKind::Vvar | MappingKind::Vsyscall | MappingKind::Device => {
            false
        }
    };
    kept && sort
}

/// The bytes of a moment.
pub trait Bytes {
    /// One page.
    ///
    /// # Errors
    /// If it is not to be had.
    fn page(&self, page: PageNumber, out: &mut Page) -> Result<(), Error>;

    /// One page, where it lies in memory as a whole.
    fn borrow(&self, _page: PageNumber) -> Option<&Page> {
        None
    }

    /// Pages of a range that are more than zeros, ascending; some may be zeros all the same.
    ///
    /// # Errors
    /// If they are not to be had.
    fn pages_in(&self, range: Range<PageNumber>) -> Result<Vec<PageNumber>, Error>;
}

impl Bytes for Memory<'_> {
    fn page(&self, page: PageNumber, out: &mut Page) -> Result<(), Error> {
        Memory::page(self, page, out)?;
        Ok(())
    }

    fn pages_in(&self, range: Range<PageNumber>) -> Result<Vec<PageNumber>, Error> {
        let found = self.pages_with_versions(range)?;
        Ok(found.into_iter().map(|(page, _)| page).collect())
    }
}

/// Pages that are known to differ between a moment and a later checkpoint.
#[derive(Clone, Debug)]
pub struct Differ {
    /// They, ascending. Some may be equal.
    pub pages: Vec<PageNumber>,
    /// The later checkpoint.
    pub until: CheckpointId,
}

/// The pages that differ between two checkpoints of one recording, `to` the earlier or later one.
/// `known`: what differs between `to` and a checkpoint before `present`, so that only what came since
/// is looked for.
///
/// # Errors
/// If the recording is damaged.
pub fn between(
    recording: &Recording,
    to: &Memory<'_>,
    present: &Memory<'_>,
    known: Option<&Differ>,
) -> Result<Differ, Error> {
    let (a, b) = (to.checkpoint(), present.checkpoint());
    let (first, last) = (a.min(b), a.max(b));
    let known = known.filter(|k| a <= k.until && k.until <= b);
    let mut found = BTreeSet::new();
    let all = PageNumber(0)..PageNumber(u64::MAX);
    let seen = known.map_or(first, |k| k.until);
    let since = CheckpointId(seen.0 + 1)..CheckpointId(last.0 + 1);
    recording.each_version(to.space(), all, since, &mut |version| {
        match version {
            Some((page, _)) => {
                found.insert(page);
            }
            None => found.clear(),
        }
        Ok(true)
    })?;
    for range in renewed(to.layout(), present.layout(), first) {
        let pages = PageNumber::of(range.start)..PageNumber::of(range.end);
        found.extend(
            to.pages_with_versions(pages.clone())?
                .iter()
                .map(|(p, _)| *p),
        );
        found.extend(present.pages_with_versions(pages)?.iter().map(|(p, _)| *p));
    }
    let mut differ = known.map_or_else(Vec::new, |k| k.pages.clone());
    for page in found {
        let Some(mapping) = to.layout().mapping_at(page.address()) else {
            continue;
        };
        if !is_ours(mapping) {
            continue;
        }
        let same_sort = present
            .layout()
            .mapping_at(page.address())
            .is_some_and(|m| {
                (m.inode, m.device, m.offset.wrapping_sub(m.start))
                    == (
                        mapping.inode,
                        mapping.device,
                        mapping.offset.wrapping_sub(mapping.start),
                    )
            });
        let equal = same_sort
            && match (to.version(page), present.version(page)) {
                (Ok(then), Ok(now)) => then == now,
                _ => false,
            };
        if !equal {
            differ.push(page);
        }
    }
    differ.sort_unstable();
    differ.dedup();
    Ok(Differ {
        pages: differ,
        until: b,
    })
}

/// Parts of `to`'s mappings that are other memory in `present`: not there, or made anew between.
fn renewed(to: &AddressSpace, present: &AddressSpace, before: CheckpointId) -> Vec<Range<u64>> {
    let mut parts = Vec::new();
    for mapping in to.mappings.iter().filter(|m| is_ours(m)) {
        let mut at = mapping.start;
        while at < mapping.end {
            let after = present.generations.partition_point(|g| g.end <= at);
            let here = present.generations.get(after);
            let (end, new) = match here {
                Some(g) if g.start <= at => (g.end, g.since > before),
                Some(g) => (g.start, true),
                None => (mapping.end, true),
            };
            let end = end.min(mapping.end);
            let mapped = present.mapping_at(at);
            let old = to.since(at).is_some_and(|s| s > before);
            if new || old || mapped.is_none() {
                parts.push(at..end);
            }
            at = end;
        }
    }
    parts
}

/// The pages of a live process, its mappings being those of `to` already, that may not be what they
/// are there, ascending: what exists now and what existed then.
///
/// # Errors
/// If the process is gone, or the recording damaged.
pub fn candidates(pid: u32, to: &Memory<'_>) -> Result<Vec<PageNumber>, Error> {
    let mut scanner = Scanner::for_classifying(pid)?;
    let mut found = BTreeSet::new();
    for mapping in to.layout().mappings.iter().filter(|m| is_ours(m)) {
        let whole = mapping.start..mapping.end;
        let mut regions: Vec<Region> = Vec::new();
        let any = Categories::PRESENT.with(Categories::SWAPPED);
        scanner.classify_any(whole.clone(), any, &mut regions)?;
        for region in regions {
            // Pages of a file, not written in private: as they were, unless they were written then.
            if region.categories.contains(Categories::FILE) && !mapping.shared {
                continue;
            }
            found.extend((region.start / PAGE..region.end / PAGE).map(PageNumber));
        }
        let pages = PageNumber::of(whole.start)..PageNumber::of(whole.end);
        found.extend(to.pages_with_versions(pages)?.iter().map(|(p, _)| *p));
    }
    Ok(found.into_iter().collect())
}

/// Writes those of `pages` (ascending) that are not as they are in a moment, but for the words that
/// the kernel keeps for a thread that runs now (`words`). What is written over goes to `kept`.
/// Returns how many were written.
///
/// Nothing is copied that can be looked at where it is: copies go to memory that was not used before,
/// and its first touch costs more than all else.
///
/// # Errors
/// If one cannot be had or not be written.
pub fn write(
    door: &Door,
    pages: &[PageNumber],
    bytes: &dyn Bytes,
    words: &[KernelWords],
    kept: &mut Kept,
) -> Result<u64, Error> {
    let mut written = 0;
    let mut addresses = Vec::with_capacity(AT_ONCE);
    // Pages that do not lie anywhere as they are to be.
    let mut made: Vec<Page> = Vec::new();
    for part in pages.chunks(AT_ONCE) {
        addresses.clear();
        addresses.extend(part.iter().map(|p| p.address()));
        let now = kept.free(part.len());
        let whole = door.read_pages(&addresses, now.as_flattened_mut());
        // A guard, or what is gone from the end of a file, has no content, and had none then.
        let mut there = vec![true; part.len()];
        let each = addresses.iter().zip(now.iter_mut()).zip(&mut there);
        for ((address, now), there) in each.skip(whole) {
            *there = door.read(*address, now).is_ok();
        }
        let wanted = |page: &PageNumber| match bytes.borrow(*page) {
            Some(content) if !words.iter().any(|w| w.touches(page.address())) => Some(content),
            _ => None,
        };
        made.clear();
        let had = part.iter().zip(&there).filter(|(_, there)| **there);
        for (page, _) in had.filter(|(p, _)| wanted(p).is_none()) {
            let mut content = [0; PAGE_SIZE];
            bytes.page(*page, &mut content)?;
            for words in words {
                words.put(page.address(), &mut content);
            }
            made.push(content);
        }
        let mut next = made.iter();
        let mut named = Vec::new();
        let mut changes: Vec<(u64, &Page)> = Vec::new();
        for (at, (page, held)) in part.iter().zip(&*now).enumerate() {
            if !there.get(at).is_some_and(|there| *there) {
                continue;
            }
            let Some(content) = wanted(page).or_else(|| next.next()) else {
                continue;
            };
            if held != content {
                named.push((*page, at));
                changes.push((page.address(), content));
            }
        }
        kept.keep(&named);
        door.write_pages(&changes)?;
        written += changes.len() as u64;
    }
    Ok(written)
}

/// The words of an `rseq` area that the kernel writes: the processor a thread runs on. They are
/// about now, whatever moment memory is of.
#[derive(Clone, Copy, Debug)]
pub struct KernelWords {
    address: u64,
    now: [u8; 32],
}

impl KernelWords {
    /// Bytes of the area that are the kernel's: cpu_id_start and cpu_id; node_id and mm_cid. The
    /// descriptor of a sequence and the flags between them are the program's.
    pub const OFFSETS: [Range<usize>; 2] = [0..8, 20..28];

    /// Reads those of a thread.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn read(door: &Door, rseq: &Rseq) -> Result<Self, Error> {
        let mut now = [0; 32];
        door.read(rseq.address, &mut now)?;
        Ok(Self {
            address: rseq.address,
            now,
        })
    }

    /// Whether any of them is in the page at `base`.
    const fn touches(&self, base: u64) -> bool {
        self.address < base.saturating_add(PAGE) && base < self.address.saturating_add(32)
    }

    /// Puts them into the page at `base`.
    fn put(&self, base: u64, page: &mut Page) {
        for range in Self::OFFSETS {
            for at in range {
                let address = self.address + at as u64;
                if let Some(offset) = address.checked_sub(base)
                    && let Some(byte) = usize::try_from(offset).ok().and_then(|o| page.get_mut(o))
                    && let Some(now) = self.now.get(at)
                {
                    *byte = *now;
                }
            }
        }
    }

    /// Whether the kernel may have written the byte at an address.
    pub fn covers(rseq: &Rseq, address: u64) -> bool {
        let at = address.wrapping_sub(rseq.address);
        usize::try_from(at).is_ok_and(|at| Self::OFFSETS.iter().any(|r| r.contains(&at)))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_kernels_words_stay() {
        let words = KernelWords {
            address: 0x1ff8,
            now: [7; 32],
        };
        let mut page = [0; PAGE_SIZE];
        words.put(0x1000, &mut page);
        assert_eq!(page.iter().filter(|b| **b == 7).count(), 8);
        let mut next = [0; PAGE_SIZE];
        words.put(0x2000, &mut next);
        assert_eq!(next.iter().filter(|b| **b == 7).count(), 8);
        assert_eq!(next[12..20], [7; 8]);
    }
}
