//! Files behind mappings: identified when first seen, kept by content.

use crate::layout::Layout;
use crate::pipeline::Pipeline;
use std::collections::{HashMap, HashSet};
use std::fs::File;
use std::ops::Range;
use stillframe_image::{Gap, Mapping, MappingKind, PAGE_SIZE};

use stillframe_linux::files::{self, MappedFile};
use stillframe_linux::proc::maps::MapsEntry;

const PAGE: u64 = PAGE_SIZE as u64;

/// Larger files are referred to by path only.
const KEEP_LIMIT: u64 = 256 << 20;

/// A file, by device and inode.
type Key = ((u32, u32), u64);

/// Files of one address space.
#[derive(Debug)]
pub struct Objects {
    pid: u32,
    keep: bool,
    /// Files that could not be opened: their pages are captured as memory.
    closed: HashSet<Key>,
    /// Files without a name of their own behind shared memory, to tell where it has content.
    shared: HashMap<Key, Option<File>>,
    gaps: Vec<Gap>,
}

impl Objects {
    /// For process `pid`. `keep`: copy files into the recording.
    pub fn new(pid: u32, keep: bool) -> Self {
        Self {
            pid,
            keep,
            closed: HashSet::new(),
            shared: HashMap::new(),
            gaps: Vec::new(),
        }
    }

    /// Looks at files that were not mapped before: those mapped privately are handed over to be
    /// kept, those of shared memory are opened. `entries` are the mappings of `layout` as the
    /// kernel shows them.
    pub fn identify_new(
        &mut self,
        entries: &[MapsEntry],
        layout: &mut Layout,
        pipeline: &Pipeline,
    ) {
        let mut seen = HashSet::new();
        let new: Vec<Mapping> = layout
            .mappings()
            .iter()
            .filter(|m| m.inode != 0 && seen.insert((m.shared, key(m))))
            .filter(|m| match (m.kind, m.shared) {
                (MappingKind::File, false) => {
                    layout.file(m.device, m.inode).is_none() && !self.closed.contains(&key(m))
                }
                (MappingKind::SharedMemory, true) => !self.shared.contains_key(&key(m)),
                _ => false,
            })
            .cloned()
            .collect();
        for mapping in new {
            let found = entries.iter().find(|e| e.start == mapping.start);
            let found = found.and_then(|entry| {
                files::identify(self.pid, entry)
                    .inspect_err(|error| tracing::debug!("a mapped file cannot be read: {error}"))
                    .ok()
                    .flatten()
            });
            if mapping.shared {
                self.shared.insert(key(&mapping), found.map(|f| f.file));
            } else {
                self.private(&mapping, found, layout, pipeline);
            }
        }
        self.shared.retain(|file, _| {
            layout
                .mappings()
                .iter()
                .any(|m| m.shared && key(m) == *file)
        });
    }

    fn private(
        &mut self,
        mapping: &Mapping,
        found: Option<MappedFile>,
        layout: &mut Layout,
        pipeline: &Pipeline,
    ) {
        let Some(MappedFile { file, identity, .. }) = found else {
            self.closed.insert(key(mapping));
            return;
        };
        if self.keep && identity.size <= KEEP_LIMIT {
            pipeline.object(mapping.device, mapping.inode, file);
        } else if self.keep {
            self.gaps.push(Gap {
                subject: format!("file {}", String::from_utf8_lossy(&mapping.name)),
                reason: format!(
                    "unwritten pages are kept by reference only: the file is larger than {} MiB",
                    KEEP_LIMIT >> 20
                ),
            });
        }
        layout.set_file(identity);
    }

    /// Whether pages of this mapping must be copied even if clean, since the file is not to be
    /// had.
    pub fn by_value(&self, mapping: &Mapping) -> bool {
        self.closed.contains(&key(mapping))
    }

    /// The addresses of a shared mapping that have content; all, if that cannot be told. Reading
    /// the others would create pages in memory that the target left sparse.
    pub fn content(&self, mapping: &Mapping) -> Vec<Range<u64>> {
        let whole = mapping.start..mapping.end;
        let Some(Some(file)) = self.shared.get(&key(mapping)) else {
            return vec![whole];
        };
        let mut extents = Vec::new();
        let range = mapping.offset..mapping.offset.saturating_add(mapping.len());
        if let Err(error) = files::data_extents(file, range.clone(), &mut extents) {
            tracing::debug!("shared memory is copied whole: {error}");
            return vec![whole];
        }
        for extent in &mut extents {
            let start = extent.start.max(range.start) / PAGE * PAGE;
            let end = extent.end.min(range.end).div_ceil(PAGE) * PAGE;
            *extent = start - range.start + mapping.start..end - range.start + mapping.start;
        }
        extents
    }

    /// What is kept by reference only.
    pub fn gaps(&self, gaps: &mut Vec<Gap>) {
        gaps.extend_from_slice(&self.gaps);
    }
}

const fn key(mapping: &Mapping) -> Key {
    (mapping.device, mapping.inode)
}
