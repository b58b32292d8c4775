//! Filling a pack.

use super::{SLOTS, WRITE_LIMIT};
use crate::VersionRef;
use crate::bytes::{Page, put_difference, put_varint};
use crate::check::page_check;
use crate::log::Location;
use stillframe_image::PAGE_SIZE;

/// A pack being filled. It knows where it will stand, so that versions in it can be referred to
/// before it is written.
#[derive(Debug, Default)]
pub struct PackBuilder {
    at: Location,
    bases: Vec<VersionRef>,
    lengths: Vec<u32>,
    checks: Vec<u32>,
    bodies: Vec<u8>,
}

/// Marks a version without a base in [`PackBuilder::bases`]: no location is one.
const KEYFRAME: VersionRef = VersionRef { pack: 1, slot: 0 };

impl PackBuilder {
    /// Whether there is no version in it.
    pub fn is_empty(&self) -> bool {
        self.lengths.is_empty()
    }

    /// Bytes of versions in it, roughly.
    pub fn bytes(&self) -> usize {
        self.bodies.len() + 8 * self.lengths.len()
    }

    /// Whether it should be written: `target` bytes reached, or a limit of the format near.
    pub fn is_full(&self, target: usize) -> bool {
        self.bytes() >= target.min(WRITE_LIMIT) || self.lengths.len() >= SLOTS
    }

    /// Says where it will stand. Only while it is empty.
    pub fn place(&mut self, at: Location) {
        self.at = at;
    }

    fn push(&mut self, base: VersionRef, content: &Page, start: usize) -> VersionRef {
        let slot = self.lengths.len() as u32;
        self.bases.push(base);
        self.lengths.push((self.bodies.len() - start) as u32);
        self.checks.push(page_check(content));
        VersionRef {
            pack: self.at.0,
            slot,
        }
    }

    /// Adds whole content.
    pub fn keyframe(&mut self, content: &Page) -> VersionRef {
        let start = self.bodies.len();
        self.bodies.extend_from_slice(content);
        self.push(KEYFRAME, content, start)
    }

    /// Adds a difference against `base` that gives `content`.
    pub fn delta(&mut self, base: VersionRef, delta: &[u8], content: &Page) -> VersionRef {
        let start = self.bodies.len();
        self.bodies.extend_from_slice(delta);
        self.push(base, content, start)
    }

    /// The payload of the record; the pack is empty afterwards.
    pub fn finish(&mut self) -> Vec<u8> {
        let n = self.lengths.len();
        let mut packs: Vec<u64> = self
            .bases
            .iter()
            .filter(|b| **b != KEYFRAME && !b.is_zero() && b.pack != self.at.0)
            .map(|b| b.pack)
            .collect();
        packs.sort_unstable();
        packs.dedup();
        let mut out = Vec::with_capacity(self.bodies.len() + 10 * n + 6 * packs.len() + 16);
        put_varint(&mut out, n as u64);
        put_varint(&mut out, packs.len() as u64);
        let mut last = 0;
        for &pack in &packs {
            put_difference(&mut out, last, Location(pack).packed());
            last = Location(pack).packed();
        }
        let mut slot = 0;
        for (base, length) in self.bases.iter().zip(&self.lengths) {
            let code = if *base == KEYFRAME {
                0
            } else if base.is_zero() {
                1
            } else if base.pack == self.at.0 {
                2
            } else {
                3 + packs.partition_point(|p| *p < base.pack) as u64
            };
            put_varint(&mut out, code);
            if code >= 2 {
                put_difference(&mut out, slot, u64::from(base.slot));
                slot = u64::from(base.slot);
            }
            put_varint(&mut out, u64::from(*length));
        }
        for check in &self.checks {
            out.extend_from_slice(&check.to_le_bytes());
        }
        out.extend_from_slice(&self.bodies);
        self.bases.clear();
        self.lengths.clear();
        self.checks.clear();
        self.bodies.clear();
        self.bodies.shrink_to(WRITE_LIMIT + PAGE_SIZE);
        out
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.bodies.capacity()
            + 4 * (self.lengths.capacity() + self.checks.capacity())
            + size_of::<VersionRef>() * self.bases.capacity()
    }
}
