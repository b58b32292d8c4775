//! The written rule for each kind of mapping (docs/mappings.md is the same for readers).

use super::Tracking;
use stillframe_image::{Mapping, MappingKind};

/// Writable private mappings larger than this are not registered with the tracker: registering
/// gives every page a page-table entry (2 MiB of page tables per GiB), which for the terabytes
/// that sanitizers reserve would be more than the machine has.
const TRACKED_LIMIT: u64 = 1 << 38;

/// What should be done with a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Private memory: tracked.
    Track,
    /// Inaccessible private memory: reserved until it has content.
    Reserve,
    /// Copied at every boundary.
    Copy,
    /// Left out.
    Omit(String),
}

impl Rule {
    /// How memory under this rule begins.
    pub(super) fn start(&self) -> Tracking {
        match self {
            Self::Track => Tracking::Pending,
            Self::Reserve => Tracking::Reserved,
            Self::Copy => Tracking::Copied,
            Self::Omit(why) => Tracking::Omitted(why.clone()),
        }
    }

    /// How memory that was tracked as `before` goes on under this rule; `None` if it must be taken
    /// as new.
    pub(super) fn continues(&self, before: &Tracking) -> Option<Tracking> {
        match (self, before) {
            // Registered memory stays registered whatever its protection.
            (Self::Track | Self::Reserve, Tracking::Tracked) => Some(Tracking::Tracked),
            // The tracker refused it earlier; it would again.
            (Self::Track, Tracking::Copied) => Some(Tracking::Copied),
            (Self::Track, Tracking::Omitted(why)) => Some(Tracking::Omitted(why.clone())),
            (Self::Reserve, Tracking::Reserved) => Some(Tracking::Reserved),
            (Self::Copy, Tracking::Copied) => Some(Tracking::Copied),
            (Self::Omit(now), Tracking::Omitted(_)) => Some(Tracking::Omitted(now.clone())),
            _ => None,
        }
    }
}

/// The rule for a mapping whose `kind` is set. `shared_limit` in bytes.
pub fn rule_for(mapping: &Mapping, shared_limit: u64) -> Rule {
    match mapping.kind {
        MappingKind::Vvar => Rule::Omit("kernel time data, written by the kernel".into()),
        MappingKind::Vsyscall => Rule::Omit("part of the kernel, the same in every process".into()),
        MappingKind::Device => Rule::Omit("memory of a device or of a kernel ring".into()),
        MappingKind::Vdso => Rule::Copy,
        _ if mapping.shared && mapping.len() > shared_limit => Rule::Omit(format!(
            "{} MiB of shared memory, above the limit of {} MiB; raise --shared-limit",
            mapping.len() >> 20,
            shared_limit >> 20
        )),
        _ if mapping.shared => Rule::Copy,
        _ if !mapping.read && !mapping.write && !mapping.execute && mapping.inode == 0 => {
            Rule::Reserve
        }
        _ if mapping.inode == 0 && mapping.len() > TRACKED_LIMIT => Rule::Copy,
        _ => Rule::Track,
    }
}
