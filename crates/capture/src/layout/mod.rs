//! Which memory exists, since when, and how its content is found.
//!
//! The kernel shows mappings; a recording needs to know *which memory* they are. Between two
//! boundaries mappings appear, grow, shrink, move, split, merge and are replaced, sometimes by one
//! that looks the same. [`Layout::reconcile`] compares what is mapped now with what was known, and
//! keeps an [`Extent`] per stretch of addresses: since which checkpoint it has been the same
//! memory, and how it is tracked. What looks the same and is not (unmapped and mapped again with
//! equal attributes) shows when the tracker finds it unprotected; [`Layout::renew`] says so.
//!
//! Nothing here talks to the kernel.

mod rules;

use rules::rule_for;

use crate::ranges::append;
use std::ops::Range;
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, FileIdentity, Generation, Mapping, MappingKind,
};

/// How an extent's content is found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Tracking {
    /// Under the tracker's protection.
    Tracked,
    /// Should be tracked; not registered yet.
    Pending,
    /// Reserved addresses without any content, not worth a tracker's page tables. Watched for
    /// content.
    Reserved,
    /// Copied at every boundary.
    Copied,
    /// Left out.
    Omitted(String),
}

/// A stretch of addresses that is one piece of memory.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Extent {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// First checkpoint that has it.
    pub since: CheckpointId,
    /// How its content is found.
    pub tracking: Tracking,
    identity: Identity,
}

impl Extent {
    /// Its addresses.
    pub const fn range(&self) -> Range<u64> {
        self.start..self.end
    }
}

/// What two mappings of the same memory have in common.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Identity {
    shared: bool,
    device: (u32, u32),
    inode: u64,
    /// File offset of address 0, wrapping; 0 without a file.
    origin: u64,
}

impl Identity {
    const fn of(mapping: &Mapping) -> Self {
        let file = mapping.inode != 0 || mapping.shared;
        Self {
            shared: mapping.shared,
            device: mapping.device,
            inode: mapping.inode,
            origin: if file {
                mapping.offset.wrapping_sub(mapping.start)
            } else {
                0
            },
        }
    }
}

/// Mappings and extents of one address space.
#[derive(Debug, Default)]
pub struct Layout {
    mappings: Vec<Mapping>,
    extents: Vec<Extent>,
    files: Vec<FileIdentity>,
    merges: bool,
}

impl Layout {
    /// Without any mapping. `merges`: whether tracked memory stays tracked when it becomes one
    /// mapping with new memory.
    pub fn new(merges: bool) -> Self {
        Self {
            merges,
            ..Self::default()
        }
    }

    /// Mappings, ascending.
    pub fn mappings(&self) -> &[Mapping] {
        &self.mappings
    }

    /// Extents, ascending.
    pub fn extents(&self) -> &[Extent] {
        &self.extents
    }

    /// Takes in what is mapped now (ascending; `kind` set, `coverage` ignored) for the checkpoint
    /// `now`. Gives the addresses whose earlier content no longer exists (unmapped, or mapped anew);
    /// what is new and to be tracked is [`Tracking::Pending`].
    pub fn reconcile(
        &mut self,
        mappings: Vec<Mapping>,
        now: CheckpointId,
        shared_limit: u64,
    ) -> Vec<Range<u64>> {
        let mut gone = Vec::new();
        let mut extents = Vec::with_capacity(mappings.len() + 8);
        let mut old = self.extents.iter().peekable();
        for mapping in &mappings {
            let identity = Identity::of(mapping);
            let rule = rule_for(mapping, shared_limit);
            let mut at = mapping.start;
            let first = extents.len();
            while at < mapping.end {
                while old.peek().is_some_and(|e| e.end <= at) {
                    old.next();
                }
                let (end, before) = match old.peek() {
                    Some(e) if e.start <= at => (e.end.min(mapping.end), Some(*e)),
                    Some(e) => (e.start.min(mapping.end), None),
                    None => (mapping.end, None),
                };
                let kept = before
                    .filter(|e| e.identity == identity)
                    .and_then(|e| Some((e.since, rule.continues(&e.tracking)?)));
                let (since, tracking) = kept.unwrap_or_else(|| (now, rule.start()));
                extents.push(Extent {
                    start: at,
                    end,
                    since,
                    tracking,
                    identity,
                });
                at = end;
            }
            if !self.merges {
                renew_if_partly_new(mapping, now, &mut extents[first..]);
            }
        }
        self.gone(&extents, &mut gone);
        merge(&mut extents);
        self.mappings = mappings;
        self.extents = extents;
        self.apply_coverage();
        gone
    }

    /// Old addresses that are not continued by `next`.
    fn gone(&self, next: &[Extent], gone: &mut Vec<Range<u64>>) {
        let mut index = 0;
        for old in &self.extents {
            let mut at = old.start;
            while at < old.end {
                while next.get(index).is_some_and(|e| e.end <= at) {
                    index += 1;
                }
                match next.get(index) {
                    Some(e) if e.start <= at => {
                        let end = e.end.min(old.end);
                        if e.since != old.since || e.identity != old.identity {
                            append(gone, at..end);
                        }
                        at = end;
                    }
                    Some(e) => {
                        let end = e.start.min(old.end);
                        append(gone, at..end);
                        at = end;
                    }
                    None => {
                        append(gone, at..old.end);
                        at = old.end;
                    }
                }
            }
        }
    }

    /// The memory at `range` turned out to be new although it looks as before: starts a new
    /// generation there.
    pub fn renew(&mut self, range: Range<u64>, now: CheckpointId) {
        self.change(range, |extent| {
            extent.since = now;
            extent.tracking = Tracking::Pending;
        });
    }

    /// Sets how the content of `range` is found from now on.
    pub fn track(&mut self, range: Range<u64>, tracking: &Tracking) {
        self.change(range, |extent| extent.tracking = tracking.clone());
    }

    fn change(&mut self, range: Range<u64>, mut alter: impl FnMut(&mut Extent)) {
        let mut extents = Vec::with_capacity(self.extents.len() + 2);
        for extent in self.extents.drain(..) {
            let start = extent.start.max(range.start);
            let end = extent.end.min(range.end);
            if start >= end {
                extents.push(extent);
                continue;
            }
            if extent.start < start {
                extents.push(Extent {
                    end: start,
                    ..extent.clone()
                });
            }
            let mut inner = Extent {
                start,
                end,
                ..extent.clone()
            };
            alter(&mut inner);
            extents.push(inner);
            if end < extent.end {
                extents.push(Extent {
                    start: end,
                    ..extent
                });
            }
        }
        merge(&mut extents);
        self.extents = extents;
        self.apply_coverage();
    }

    /// The mapping that holds `address`.
    pub fn mapping_at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|m| m.start <= address);
        self.mappings[..after]
            .last()
            .filter(|m| m.contains(address))
    }

    /// Gives a file's identity to all mappings of it, and returns its position.
    pub fn set_file(&mut self, identity: FileIdentity) -> u32 {
        let (device, inode) = (identity.device, identity.inode);
        let at = self
            .files
            .iter()
            .position(|f| (f.device, f.inode) == (device, inode));
        let position = at.unwrap_or(self.files.len());
        match at {
            Some(at) => self.files[at] = identity,
            None => self.files.push(identity),
        }
        let position = u32::try_from(position).unwrap_or(u32::MAX);
        for mapping in &mut self.mappings {
            if !mapping.shared && (mapping.device, mapping.inode) == (device, inode) {
                mapping.file = Some(position);
            }
        }
        position
    }

    /// What is known of the file with this device and inode.
    pub fn file(&self, device: (u32, u32), inode: u64) -> Option<&FileIdentity> {
        self.files
            .iter()
            .find(|f| (f.device, f.inode) == (device, inode))
    }

    /// The address space as a checkpoint holds it.
    pub fn image(&self) -> AddressSpace {
        let mut generations: Vec<Generation> = Vec::with_capacity(self.extents.len());
        for extent in &self.extents {
            match generations.last_mut() {
                Some(last) if last.end == extent.start && last.since == extent.since => {
                    last.end = extent.end;
                }
                _ => generations.push(Generation {
                    start: extent.start,
                    end: extent.end,
                    since: extent.since,
                }),
            }
        }
        AddressSpace {
            mappings: self.mappings.clone(),
            files: self.files.clone(),
            generations,
        }
    }

    /// Gives each mapping the coverage of the extents in it, and the file known for it. A mapping
    /// with several extents gets the weakest.
    fn apply_coverage(&mut self) {
        let mut first = 0;
        for mapping in &mut self.mappings {
            while self
                .extents
                .get(first)
                .is_some_and(|e| e.end <= mapping.start)
            {
                first += 1;
            }
            mapping.coverage = Coverage::Tracked;
            for extent in self.extents[first..]
                .iter()
                .take_while(|e| e.start < mapping.end)
            {
                match &extent.tracking {
                    Tracking::Omitted(why) => mapping.coverage = Coverage::Omitted(why.clone()),
                    Tracking::Copied if mapping.coverage == Coverage::Tracked => {
                        mapping.coverage = Coverage::Copied;
                    }
                    _ => {}
                }
            }
            if mapping.file.is_none() && mapping.inode != 0 && !mapping.shared {
                mapping.file = self
                    .files
                    .iter()
                    .position(|f| (f.device, f.inode) == (mapping.device, mapping.inode))
                    .and_then(|p| u32::try_from(p).ok());
            }
        }
    }
}

/// The kernel never merges registered memory with other memory, so a mapping with a part that cannot
/// be registered yet is new as a whole, however familiar the rest looks. (Registering only the part
/// would split the mapping, which a program can notice: `mremap` takes one mapping at a time.) A
/// stack is the exception: it grows, and the registration with it.
fn renew_if_partly_new(mapping: &Mapping, now: CheckpointId, extents: &mut [Extent]) {
    let pending = extents.iter().any(|e| e.tracking == Tracking::Pending);
    if !pending || mapping.kind == MappingKind::Stack {
        return;
    }
    for extent in extents
        .iter_mut()
        .filter(|e| e.tracking == Tracking::Tracked)
    {
        extent.tracking = Tracking::Pending;
        extent.since = now;
    }
}

/// Joins neighbours that are alike.
fn merge(extents: &mut Vec<Extent>) {
    extents.dedup_by(|next, last| {
        let alike = last.end == next.start
            && last.since == next.since
            && last.tracking == next.tracking
            && last.identity == next.identity;
        if alike {
            last.end = next.end;
        }
        alike
    });
}

#[cfg(test)]
mod tests;
