//! What differs between two address spaces, as steps. Pure.

use crate::error::{Error, Result};
use std::ops::Range;
use stillframe_image::{AddressSpace, Mapping, MappingKind};
use stillframe_linux::proc::maps::MapsEntry;

/// One thing to be done, in the order of the list.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Unmap these addresses; parts of them may be unmapped already.
    Unmap(Range<u64>),
    /// Move the kernel's mappings, each (from, to); all distances between them stay.
    MoveKernel(Vec<(Range<u64>, u64)>),
    /// Map this part of a mapping of the image.
    Map {
        /// Position in [`AddressSpace::mappings`].
        mapping: usize,
        /// The addresses.
        range: Range<u64>,
    },
    /// Give this part the protection that the image's mapping has.
    Protect {
        /// Position in [`AddressSpace::mappings`].
        mapping: usize,
        /// The addresses.
        range: Range<u64>,
    },
}

/// The kernel's: neither mapped nor unmapped like others.
const fn is_kernels(kind: MappingKind) -> bool {
    matches!(kind, MappingKind::Vdso | MappingKind::Vvar)
}

fn is_kernels_name(name: &[u8]) -> bool {
    name == b"[vdso]" || name.starts_with(b"[vvar")
}

/// What is outside of every process's reach.
fn is_fixed_name(name: &[u8]) -> bool {
    name == b"[vsyscall]" || name == b"[uprobes]"
}

/// Whether a mapping of now is the same memory as one of the image, where they overlap.
fn same(now: &MapsEntry, wanted: &Mapping) -> bool {
    if now.shared != wanted.shared {
        return false;
    }
    if wanted.inode != 0 || now.inode != 0 {
        return (now.device, now.inode) == (wanted.device, wanted.inode)
            && now.offset.wrapping_sub(now.start) == wanted.offset.wrapping_sub(wanted.start);
    }
    // A stack grows; other memory does not.
    (now.name == b"[stack]") == (wanted.kind == MappingKind::Stack)
}

/// The steps from `now` to `wanted`. `ours` is left alone; without `keep`, nothing else of now stays
/// but the kernel's mappings; with it, what is the same memory stays, but for `replaced`.
///
/// # Errors
/// [`Error::Kernel`] if the kernel's mappings of the image cannot be had by moving those of now.
pub fn plan(
    now: &[MapsEntry],
    wanted: &AddressSpace,
    ours: &Range<u64>,
    keep: bool,
    replaced: &[Range<u64>],
) -> Result<Vec<Step>> {
    let mut kept: Vec<Range<u64>> = Vec::new();
    let mut protect = Vec::new();
    if keep {
        for (index, mapping) in wanted.mappings.iter().enumerate() {
            if is_kernels(mapping.kind) || mapping.kind == MappingKind::Vsyscall {
                continue;
            }
            let first = now.partition_point(|n| n.end <= mapping.start);
            for n in now.iter().skip(first).take_while(|n| n.start < mapping.end) {
                if !same(n, mapping) {
                    continue;
                }
                let common = n.start.max(mapping.start)..n.end.min(mapping.end);
                for part in minus(&common, replaced) {
                    let protection = (n.read, n.write, n.execute);
                    if protection != (mapping.read, mapping.write, mapping.execute) {
                        protect.push(Step::Protect {
                            mapping: index,
                            range: part.clone(),
                        });
                    }
                    kept.push(part);
                }
            }
        }
    }
    let mut steps = unmaps(now, &kept, ours, wanted);
    steps.extend(kernel_moves(now, wanted)?);
    for (index, mapping) in wanted.mappings.iter().enumerate() {
        if is_kernels(mapping.kind) || mapping.kind == MappingKind::Vsyscall {
            continue;
        }
        let parts = minus(&(mapping.start..mapping.end), &kept);
        steps.extend(parts.into_iter().map(|range| Step::Map {
            mapping: index,
            range,
        }));
    }
    steps.extend(protect);
    Ok(steps)
}

/// Unmaps all of now but what stays, with as few calls as can be: one may cover holes.
fn unmaps(
    now: &[MapsEntry],
    kept: &[Range<u64>],
    ours: &Range<u64>,
    wanted: &AddressSpace,
) -> Vec<Step> {
    let kernel = wanted.mappings.iter().any(|m| is_kernels(m.kind));
    let mut stay: Vec<Range<u64>> = kept.to_vec();
    stay.push(ours.clone());
    let kernels = now
        .iter()
        .filter(|n| is_fixed_name(&n.name) || kernel && is_kernels_name(&n.name));
    stay.extend(kernels.map(|n| n.start..n.end));
    stay.sort_unstable_by_key(|r| r.start);
    let mut steps: Vec<Range<u64>> = Vec::new();
    for n in now {
        for part in minus(&(n.start..n.end), &stay) {
            match steps.last_mut() {
                Some(last) if !overlaps(&(last.end..part.start), &stay) => last.end = part.end,
                _ => steps.push(part),
            }
        }
    }
    steps.into_iter().map(Step::Unmap).collect()
}

/// Where the kernel's mappings have to go.
fn kernel_moves(now: &[MapsEntry], wanted: &AddressSpace) -> Result<Option<Step>> {
    let have: Vec<&MapsEntry> = now.iter().filter(|n| is_kernels_name(&n.name)).collect();
    let want: Vec<&Mapping> = wanted
        .mappings
        .iter()
        .filter(|m| is_kernels(m.kind))
        .collect();
    if want.is_empty() {
        return Ok(None);
    }
    if have.len() != want.len() {
        return Err(Error::Kernel);
    }
    let mut moves = Vec::new();
    for (h, w) in have.iter().zip(&want) {
        if h.name != w.name || h.len() != w.len() {
            return Err(Error::Kernel);
        }
        moves.push((h.start..h.end, w.start));
    }
    let shift = |(from, to): &(Range<u64>, u64)| to.wrapping_sub(from.start);
    let first = moves.first().map(shift);
    if moves.iter().any(|m| Some(shift(m)) != first) {
        return Err(Error::Kernel);
    }
    Ok((first != Some(0)).then_some(Step::MoveKernel(moves)))
}

fn overlaps(range: &Range<u64>, others: &[Range<u64>]) -> bool {
    others
        .iter()
        .any(|o| o.start < range.end && range.start < o.end)
}

/// `range` without `others`, which may be in any order; ascending.
pub(crate) fn minus(range: &Range<u64>, others: &[Range<u64>]) -> Vec<Range<u64>> {
    let mut cuts: Vec<&Range<u64>> = others
        .iter()
        .filter(|o| o.start < range.end && range.start < o.end)
        .collect();
    cuts.sort_unstable_by_key(|r| r.start);
    let mut out = Vec::new();
    let mut at = range.start;
    for cut in cuts {
        if cut.start > at {
            out.push(at..cut.start);
        }
        at = at.max(cut.end);
    }
    if at < range.end {
        out.push(at..range.end);
    }
    out
}

#[cfg(test)]
mod tests;
