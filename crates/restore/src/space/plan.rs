//! How a blank process's address space becomes another one, as steps. Pure.

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

/// The steps from `now` to `wanted`: nothing of now stays but `ours` and the kernel's mappings. (What
/// a live process keeps is compared by [`crate::rollback::layout`].)
///
/// # Errors
/// [`Error::Kernel`] if the kernel's mappings of the image cannot be had by moving those of now.
pub fn plan(now: &[MapsEntry], wanted: &AddressSpace, ours: &Range<u64>) -> Result<Vec<Step>> {
    let mut steps = unmaps(now, ours, wanted);
    steps.extend(kernel_moves(now, wanted)?);
    for (index, mapping) in wanted.mappings.iter().enumerate() {
        if is_kernels(mapping.kind) || mapping.kind == MappingKind::Vsyscall {
            continue;
        }
        steps.push(Step::Map {
            mapping: index,
            range: mapping.start..mapping.end,
        });
    }
    Ok(steps)
}

/// Unmaps all of now but what stays, with as few calls as can be: one may cover holes.
fn unmaps(now: &[MapsEntry], ours: &Range<u64>, wanted: &AddressSpace) -> Vec<Step> {
    let kernel = wanted.mappings.iter().any(|m| is_kernels(m.kind));
    let mut stay: Vec<Range<u64>> = vec![ours.clone()];
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
