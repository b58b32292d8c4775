//! Mappings, and where the bytes of their pages come from.

use crate::ids::CheckpointId;
use serde::{Deserialize, Serialize};

/// All mappings of a process at one instant.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct AddressSpace {
    /// In ascending order of address, not overlapping.
    pub mappings: Vec<Mapping>,
    /// Files that mappings refer to by position in this list.
    pub files: Vec<FileIdentity>,
    /// Since when each part of the address space has been the same memory. In ascending order,
    /// not overlapping, covering every mapping whose content is versioned.
    pub generations: Vec<Generation>,
}

/// One mapping (VMA).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Mapping {
    /// First address, a multiple of the page size.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// PROT_READ.
    pub read: bool,
    /// PROT_WRITE.
    pub write: bool,
    /// PROT_EXEC.
    pub execute: bool,
    /// MAP_SHARED rather than MAP_PRIVATE.
    pub shared: bool,
    /// Offset into the file, bytes.
    pub offset: u64,
    /// Device of the file as (major, minor); (0, 0) without a file.
    pub device: (u32, u32),
    /// Inode of the file; 0 without one.
    pub inode: u64,
    /// Last column of /proc/PID/maps, unescaped: a path, a `[name]`, or empty.
    pub name: Vec<u8>,
    /// What sort of memory this is.
    pub kind: MappingKind,
    /// How its content is captured.
    pub coverage: Coverage,
    /// Position in [`AddressSpace::files`] of the file behind it, if there is one.
    pub file: Option<u32>,
}

impl Mapping {
    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.end - self.start
    }

    /// True for an impossible, empty mapping.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Whether `address` lies inside.
    pub const fn contains(&self, address: u64) -> bool {
        address >= self.start && address < self.end
    }
}

/// Sorts of memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
pub enum MappingKind {
    /// MAP_ANONYMOUS | MAP_PRIVATE.
    Anonymous,
    /// `[heap]`.
    Heap,
    /// `[stack]`, the main thread's.
    Stack,
    /// A regular file.
    File,
    /// Memory without a path of its own that can be shared: memfd, SysV, /dev/shm, /dev/zero.
    SharedMemory,
    /// `[vdso]`.
    Vdso,
    /// `[vvar]` and its relatives: written by the kernel, read by the vDSO.
    Vvar,
    /// `[vsyscall]`: in the kernel's half, the same in every process.
    Vsyscall,
    /// A device, an io_uring or AIO ring, perf buffers: memory with a life of its own.
    Device,
    /// Hugetlb pages.
    Huge,
}

/// How the content of a mapping gets into checkpoints.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub enum Coverage {
    /// Written pages are found by the tracker.
    Tracked,
    /// The tracker cannot be trusted for it; every page is copied at every boundary.
    Copied,
    /// Not captured, for the reason given. Its pages have no content in this checkpoint.
    Omitted(String),
}

/// Identity of a file that memory was mapped from.
///
/// A page of a private file mapping that has no version of its own has the file's bytes. They are
/// found by `object` when the recording holds a copy, else by `path` as long as size and times
/// still agree.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct FileIdentity {
    /// Path as the target saw it.
    pub path: Vec<u8>,
    /// Device as (major, minor).
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Size in bytes when identified.
    pub size: u64,
    /// Modification time, nanoseconds since the epoch.
    pub modified_ns: i64,
    /// GNU build-id, if it is an ELF file with one.
    pub build_id: Option<Vec<u8>>,
    /// BLAKE3 of the copy kept in the recording, if one is kept.
    pub object: Option<[u8; 32]>,
    /// The path no longer named this file.
    pub deleted: bool,
}

/// A stretch of addresses that has been the same memory since a checkpoint.
///
/// Page versions older than `since` belong to something that was mapped there before and must not
/// be seen.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Generation {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// First checkpoint that saw this memory.
    pub since: CheckpointId,
}

impl AddressSpace {
    /// The mapping that holds `address`.
    pub fn mapping_at(&self, address: u64) -> Option<&Mapping> {
        let after = self.mappings.partition_point(|m| m.start <= address);
        self.mappings[..after]
            .last()
            .filter(|m| m.contains(address))
    }

    /// The checkpoint since which `address` has been the same memory.
    pub fn since(&self, address: u64) -> Option<CheckpointId> {
        let after = self.generations.partition_point(|g| g.start <= address);
        self.generations[..after]
            .last()
            .filter(|g| address < g.end)
            .map(|g| g.since)
    }

    /// The file behind a mapping.
    pub fn file_of(&self, mapping: &Mapping) -> Option<&FileIdentity> {
        self.files.get(usize::try_from(mapping.file?).ok()?)
    }
}
