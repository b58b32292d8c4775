//! Files that the target writes: how they were at each checkpoint, and what they held.
//!
//! Two halves. [`look`] runs in the stop: it finds the files that are open for writing or mapped
//! shared and writable, asks the kernel about each (0.6 us), and takes hold of the content of those
//! that have changed: a copy of what is small, a clone where the file system can make one, nothing of
//! the rest. [`keeper`] runs in the store's thread: it finds the pages that differ from those kept
//! before and hands them to the writer, reads what was not copied, and says if that was written
//! meanwhile.
//!
//! A file that was seen once stays watched after it was closed, so that putting it back undoes what
//! was written in between.

pub mod keeper;
pub mod look;

use std::fs::File;
use std::os::fd::OwnedFd;
use stillframe_image::WrittenFile;
use stillframe_linux::files::written::Facts;

pub use keeper::Keeper;
pub use look::Look;

/// What is recorded of files that the target writes.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum FilesPolicy {
    /// Nothing.
    Ignore,
    /// Size and times at each checkpoint; the hash of the content of small ones about once a second.
    #[default]
    Check,
    /// Their content at each checkpoint, as long as what changed of it is not more than this many
    /// bytes in all.
    Version {
        /// Bytes, before compression.
        budget: u64,
    },
}

/// Bytes of one file that are copied in the stop: 4-8 ms.
pub const STOP_FILE: u64 = 16 << 20;
/// Bytes of all files that are copied in one stop.
pub const STOP_ALL: u64 = 32 << 20;
/// Files larger than this are not kept, whatever the budget.
pub const LARGEST: u64 = 1 << 40;
/// Bytes of a file that is hashed to be recognised by.
pub const HASHED: u64 = 8 << 20;

/// One file at a boundary.
#[derive(Debug)]
pub struct Taken {
    /// All but its content.
    pub file: WrittenFile,
    /// The same as the kernel said it.
    pub facts: Facts,
    /// Its content, if that may have changed.
    pub content: Content,
}

/// What was had of a file's content in the stop.
#[derive(Debug)]
pub enum Content {
    /// As it was at the checkpoint before.
    Unchanged,
    /// Not looked at.
    Unknown,
    /// A copy.
    Copy(Vec<u8>),
    /// A clone that shares its blocks.
    Clone(File),
    /// The file itself, to be read while the target runs. `stores`: the target has it mapped, so that
    /// a change in the meantime need not show.
    Later {
        /// The file.
        held: OwnedFd,
        /// Whether writes may not show in size and times.
        stores: bool,
    },
    /// To be hashed, if it is still the same.
    Hash(OwnedFd),
    /// It cannot be had, for this reason.
    Refused(String),
}

#[cfg(test)]
mod tests;
