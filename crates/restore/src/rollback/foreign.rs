//! Memory that a process shares with others, who do not go back: it stays as it is.

use stillframe_image::{Checkpoint, Coverage, Gap, PageNumber, ProcessImage, SpaceId};

/// Why the content of a mapping stays as it is.
const SHARED: &str = "it is shared with another process, which does not go back";

/// Memory that others have, who do not go back, stays as it is.
pub(super) fn leave_shared(image: &mut ProcessImage, foreign: &[(u32, u32, u64)]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for mapping in &mut image.space.mappings {
        let file = (mapping.device.0, mapping.device.1, mapping.inode);
        if mapping.shared && mapping.write && mapping.inode != 0 && foreign.contains(&file) {
            mapping.coverage = Coverage::Omitted(SHARED.to_owned());
            gaps.push(Gap {
                subject: crate::space::describe(mapping),
                reason: format!("{SHARED}: its content is left"),
            });
        }
    }
    gaps
}

pub(super) fn is_left(image: &ProcessImage, page: &PageNumber) -> bool {
    image
        .space
        .mapping_at(page.address())
        .is_some_and(|m| matches!(&m.coverage, Coverage::Omitted(why) if why == SHARED))
}

/// Memory of a process that others of its checkpoint map, too, by device and inode.
pub fn foreign_memory(checkpoint: &Checkpoint, process: SpaceId) -> Vec<(u32, u32, u64)> {
    let of = |own: bool| {
        let images = checkpoint.processes.iter();
        let images = images.filter(move |p| (p.id == process) == own);
        let mappings = images.flat_map(|p| &p.space.mappings);
        mappings
            .filter(|m| m.shared && m.inode != 0)
            .map(|m| (m.device.0, m.device.1, m.inode))
            .collect::<std::collections::BTreeSet<_>>()
    };
    of(true).intersection(&of(false)).copied().collect()
}
