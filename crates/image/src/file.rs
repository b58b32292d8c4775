//! Files that recorded processes write.
//!
//! A file is no memory, and yet what it holds belongs to the instant as much as memory does: a
//! process put back beside a file that went on is a database that corrupts itself. So a checkpoint
//! says of every written file how it was, and may hold its content.
//!
//! Content is kept the way memory is: **a file is a space of its own**, page P being its bytes from
//! 4096 P on, so that versions, differences, duplicates, the index, verification and retention are
//! those of memory, and content at any checkpoint is one look-up per page.

use crate::ids::{CheckpointId, PAGE_SIZE, SpaceId};
use crate::mapping::{AddressSpace, Coverage, Generation, Mapping, MappingKind};
use serde::{Deserialize, Serialize};

/// Spaces from this number on are files.
pub const FILE_SPACES: u32 = 1 << 31;

/// Most files in one checkpoint.
pub const MAX_FILES: usize = 4096;

/// A file that a recorded process has open for writing or maps shared and writable, or had so at an
/// earlier checkpoint.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct WrittenFile {
    /// Its number, [`FILE_SPACES`] or more, for the life of the recording; its content is that
    /// space's. Another file under the same path has another one.
    pub space: SpaceId,
    /// Its path, as the kernel shows it; the last one it had, if it was deleted.
    pub path: Vec<u8>,
    /// Device as (major, minor).
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
    /// Names it has; 0: it is deleted.
    pub links: u32,
    /// Whether a recorded process had it open for writing, or mapped, at this instant.
    pub open: bool,
    /// `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Length in bytes.
    pub size: u64,
    /// Content changed, ns since the epoch.
    pub modified_ns: i64,
    /// Anything changed, ns since the epoch.
    pub changed_ns: i64,
    /// Created, ns since the epoch, where the file system tells.
    pub born_ns: Option<i64>,
    /// What is known of its content.
    pub content: FileContent,
}

/// What a checkpoint knows of a file's content.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum FileContent {
    /// Nothing but size and times.
    #[default]
    Unknown,
    /// Its BLAKE3.
    Hash([u8; 32]),
    /// Kept in the recording. Versions of its pages older than `since` do not count.
    Kept {
        /// The first checkpoint that kept it.
        since: CheckpointId,
    },
    /// Kept, but it was written while it was read: some of its pages may be later than this
    /// instant.
    Torn {
        /// As above.
        since: CheckpointId,
    },
    /// It was to be kept and was not, for this reason.
    Left(String),
}

impl WrittenFile {
    /// Since when its content is kept, if it is.
    pub const fn since(&self) -> Option<CheckpointId> {
        match self.content {
            FileContent::Kept { since } | FileContent::Torn { since } => Some(since),
            _ => None,
        }
    }

    /// Its content as memory: one mapping that begins at 0, if it is kept.
    pub fn layout(&self) -> Option<AddressSpace> {
        let since = self.since()?;
        let page = PAGE_SIZE as u64;
        let end = self.size.checked_next_multiple_of(page)?;
        let mapping = Mapping {
            start: 0,
            end,
            read: true,
            write: true,
            execute: false,
            shared: false,
            offset: 0,
            device: self.device,
            inode: self.inode,
            name: self.path.clone(),
            kind: MappingKind::Anonymous,
            coverage: Coverage::Tracked,
            file: None,
        };
        Some(AddressSpace {
            mappings: if end > 0 { vec![mapping] } else { Vec::new() },
            files: Vec::new(),
            generations: vec![Self::generation(since)],
        })
    }

    /// Since when the pages of a file whose content is kept are what they are: all of them, also
    /// those beyond its end, so that what was cut off and grew again is not taken for something
    /// never written.
    pub const fn generation(since: CheckpointId) -> Generation {
        Generation {
            start: 0,
            end: u64::MAX - (PAGE_SIZE as u64 - 1),
            since,
        }
    }
}

/// Whether a list of files is one that a checkpoint can hold: numbers of files, ascending, and sizes
/// that are a file's.
pub(crate) fn well_formed(files: &[WrittenFile]) -> bool {
    files.is_sorted_by(|a, b| a.space < b.space)
        && files
            .iter()
            .all(|f| f.space.0 >= FILE_SPACES && f.size <= i64::MAX as u64)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::section::Section;

    fn file(number: u32, size: u64, content: FileContent) -> WrittenFile {
        WrittenFile {
            space: SpaceId(FILE_SPACES + number),
            size,
            content,
            ..WrittenFile::default()
        }
    }

    #[test]
    fn content_is_memory_from_zero_to_the_end() {
        let kept = FileContent::Kept {
            since: CheckpointId(3),
        };
        for (size, end) in [(1, 4096), (4096, 4096), (4097, 8192)] {
            let layout = file(0, size, kept.clone()).layout().unwrap();
            assert_eq!(layout.mappings.len(), 1);
            assert_eq!((layout.mappings[0].start, layout.mappings[0].end), (0, end));
            assert_eq!(layout.since(0), Some(CheckpointId(3)));
            assert_eq!(layout.since(1 << 40), Some(CheckpointId(3)));
        }
        assert!(file(0, 0, kept).layout().unwrap().mappings.is_empty());
        assert!(file(0, 1, FileContent::Unknown).layout().is_none());
    }

    #[test]
    fn lists_are_checked() {
        let good = vec![
            file(0, 1, FileContent::Unknown),
            file(1, 2, FileContent::Hash([7; 32])),
        ];
        assert_eq!(
            Vec::<WrittenFile>::decode(&good.encode().unwrap()).unwrap(),
            good
        );
        let mut twice = good.clone();
        twice[1].space = twice[0].space;
        assert!(twice.encode().is_err());
        let mut process = good.clone();
        process[0].space = SpaceId(0);
        assert!(process.encode().is_err());
        let mut endless = good;
        endless[1].size = u64::MAX;
        assert!(endless.encode().is_err());
        let many = vec![WrittenFile::default(); MAX_FILES + 1];
        assert!(many.encode().is_err());
    }
}
