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

/// The pages that differ between two checkpoints of one recording, `to` the earlier or later one,
/// ascending. Some may turn out to be equal.
///
/// # Errors
/// If the recording is damaged.
pub fn between(
    recording: &Recording,
    to: &Memory<'_>,
    present: &Memory<'_>,
) -> Result<Vec<PageNumber>, Error> {
    let (a, b) = (to.checkpoint(), present.checkpoint());
    let (first, last) = (a.min(b), a.max(b));
    let mut found = BTreeSet::new();
    let all = PageNumber(0)..PageNumber(u64::MAX);
    let since = CheckpointId(first.0 + 1)..CheckpointId(last.0 + 1);
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
    let mut differ = Vec::new();
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
    Ok(differ)
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
/// # Errors
/// If one cannot be had or not be written.
pub fn write(
    door: &Door,
    pages: &[PageNumber],
    bytes: &dyn Bytes,
    words: &[KernelWords],
    mut kept: Option<&mut Kept>,
) -> Result<u64, Error> {
    let room = pages.len().min(AT_ONCE) * PAGE_SIZE;
    let (mut now, mut then) = (vec![0u8; room], vec![0u8; room]);
    let mut written = 0;
    let mut addresses = Vec::with_capacity(AT_ONCE);
    for part in pages.chunks(AT_ONCE) {
        addresses.clear();
        addresses.extend(part.iter().map(|p| p.address()));
        let whole = door.read_pages(&addresses, &mut now);
        let mut changed = Vec::new();
        let both = now.as_chunks_mut::<PAGE_SIZE>().0.iter_mut();
        let both = both.zip(then.as_chunks_mut::<PAGE_SIZE>().0);
        for (at, (page, (held, wanted))) in part.iter().zip(both).enumerate() {
            let address = page.address();
            if at >= whole && door.read(address, held).is_err() {
                // A guard, or what is gone from the end of a file: no content then either.
                continue;
            }
            bytes.page(*page, wanted)?;
            for words in words {
                words.put(address, wanted);
            }
            if held == wanted {
                continue;
            }
            if let Some(kept) = kept.as_deref_mut() {
                kept.keep(*page, Box::new(*held));
            }
            changed.push((address, at));
        }
        let then = then.as_chunks::<PAGE_SIZE>().0;
        let parts: Vec<(u64, &Page)> = changed
            .iter()
            .filter_map(|(address, at)| Some((*address, then.get(*at)?)))
            .collect();
        door.write_pages(&parts)?;
        written += parts.len() as u64;
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
