//! Where pages of ours can lie, and an instruction to make the first call with.

use crate::memory::Door;
use crate::proc::maps::MapsEntry;
use std::ops::Range;

/// What a process can map without asking for more than 47 bits, and not so low that
/// `vm.mmap_min_addr` forbids it.
const LOWEST: u64 = 1 << 20;
const HIGHEST: u64 = 0x7fff_ffff_f000;
/// Distance kept from neighbours: a stack grows, and never into what is this near (the kernel keeps
/// 1 MiB free before it).
const DISTANCE: u64 = 16 << 20;
/// Largest part of a mapping that is looked through for an instruction.
const PIECE: u64 = 1 << 20;

/// The middle of the largest gap between what is mapped now and `avoid`, if it has room for `length`
/// bytes and its distances.
pub(super) fn free(entries: &[MapsEntry], avoid: &[Range<u64>], length: u64) -> Option<u64> {
    let mut taken: Vec<Range<u64>> = entries
        .iter()
        .map(|m| m.start..m.end)
        .chain(avoid.iter().cloned())
        .filter(|r| r.start < HIGHEST)
        .collect();
    taken.push(HIGHEST..HIGHEST);
    taken.sort_unstable_by_key(|r| r.start);
    let mut best: Option<Range<u64>> = None;
    let mut end = LOWEST;
    for range in taken {
        if range.start > end {
            let gap = end..range.start;
            if best
                .as_ref()
                .is_none_or(|b| b.end - b.start < gap.end - gap.start)
            {
                best = Some(gap);
            }
        }
        end = end.max(range.end);
    }
    let best = best?;
    let room = best.end - best.start;
    (room >= length + 2 * DISTANCE).then(|| (best.start + (room - length) / 2) & !0xfff)
}

/// The address of a `syscall` instruction in executable memory: the vDSO has some as a way out of
/// what it cannot answer itself.
pub(super) fn instruction(entries: &[MapsEntry], memory: &Door) -> Option<u64> {
    let vdso = entries.iter().filter(|m| m.name == b"[vdso]");
    let others = entries.iter().filter(|m| !m.name.starts_with(b"[v"));
    let mut bytes = Vec::new();
    vdso.chain(others)
        .filter(|m| m.execute && m.start < HIGHEST)
        .find_map(|m| {
            let length = usize::try_from(m.len().min(PIECE)).ok()?;
            bytes.resize(length, 0);
            memory.read(m.start, &mut bytes).ok()?;
            let at = bytes.windows(2).position(|w| w == [0x0f, 0x05])?;
            Some(m.start + at as u64)
        })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn entry(start: u64, end: u64) -> MapsEntry {
        MapsEntry {
            start,
            end,
            ..MapsEntry::default()
        }
    }

    #[test]
    fn the_place_is_free_in_both_layouts() {
        let now = [
            entry(0x5555_0000_0000, 0x5555_0010_0000),
            entry(0x7fff_0000_0000, 0x7fff_0010_0000),
            entry(0xffff_ffff_ff60_0000, 0xffff_ffff_ff60_1000),
        ];
        let at = free(&now, &[], 0x1_2000).unwrap();
        assert!(at > DISTANCE + LOWEST && at.is_multiple_of(4096));
        // Whatever is to be avoided is.
        let avoid = [at - 4096..at + 4096, 0x10_0000..0x2000_0000_0000];
        let other = free(&now, &avoid, 0x1_2000).unwrap();
        assert!(other > 0x2000_0000_0000 && other.abs_diff(at) > DISTANCE);
        assert_eq!(
            free(&now, std::slice::from_ref(&(0..u64::MAX)), 0x1_2000),
            None
        );
    }
}
