//! Reading all memory of a stopped target, for `--paranoid`.

use crate::paranoid::Witness;
use std::ops::Range;
use stillframe_image::{Coverage, Mapping, PAGE_SIZE, SpaceId};
use stillframe_linux::Result;
use stillframe_linux::copy::{Copier, PageArena};
use stillframe_linux::pagemap::{Categories, Region, Scanner};

/// Reads every page of every captured mapping that has one, through /proc/PID/mem alone.
///
/// Private anonymous pages that do not exist are not read (that would create them, and hide
/// mistakes about them), but noted as reading zero.
///
/// # Errors
/// If the target is gone.
pub fn take(
    space: SpaceId,
    mappings: &[Mapping],
    scanner: &mut Scanner,
    copier: &mut Copier,
    swapping: &mut dyn FnMut() -> bool,
    mut arena: PageArena,
) -> Result<Witness> {
    arena.clear();
    let mut spans: Vec<Range<u64>> = Vec::new();
    let mut absent = Vec::new();
    let mut regions: Vec<Region> = Vec::new();
    for mapping in mappings {
        if matches!(mapping.coverage, Coverage::Omitted(_)) {
            continue;
        }
        if mapping.shared || mapping.inode != 0 {
            spans.push(mapping.start..mapping.end);
            continue;
        }
        regions.clear();
        let any = Categories::PRESENT.with(Categories::SWAPPED);
        scanner.classify_any(mapping.start..mapping.end, any, &mut regions)?;
        let mut at = mapping.start;
        for region in &regions {
            if region.categories.contains(Categories::PRESENT) || swapping() {
                if at < region.start {
                    absent.push(at..region.start);
                }
                spans.push(region.start..region.end);
                at = region.end;
            }
        }
        if at < mapping.end {
            absent.push(at..mapping.end);
        }
    }
    let mut unreadable = Vec::new();
    // In pieces, so that one mapping larger than the arena is an error and not a surprise.
    for span in &spans {
        copier.copy_forced(std::slice::from_ref(span), &mut arena)?;
        unreadable.extend_from_slice(copier.unreadable());
    }
    unreadable.sort_unstable();
    debug_assert!(unreadable.iter().all(|a| a % PAGE_SIZE as u64 == 0));
    Ok(Witness {
        space,
        spans,
        unreadable,
        absent,
        arena,
    })
}
