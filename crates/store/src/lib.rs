//! Recordings on disk.
//!
//! A recording is a directory of append-only files, specified byte by byte in docs/format.md.
//! [`Writer`] makes one, checkpoint by checkpoint; [`Recording`] reads one, finished or still
//! growing; [`verify()`] reads every byte of one and says what is wrong with it.
//!
//! Two ideas carry the rest. A checkpoint exists once its commit record is whole: everything else
//! (tables, index, even the list of checkpoints) can be made again from the log, so no crash or
//! lost file can take a committed checkpoint away. And memory at any checkpoint is one look-up per
//! page: pages are versioned one by one, and the newest version not younger than the checkpoint is
//! the answer, however many checkpoints lie between.
#![forbid(unsafe_code)]

mod bytes;
mod check;
#[doc(hidden)]
pub mod decoders;
mod dedup;
pub mod error;
pub mod files;
pub mod header;
mod index;
mod log;
pub mod moment;
pub mod objects;
mod pack;
pub mod reader;
pub mod retention;
mod rows;
mod shadow;
pub mod talk;
pub mod verify;
pub mod writer;

pub use error::Error;
pub use header::{Header, Summary};
pub use moment::{Moment, split_moment};
pub use objects::Object;
pub use pack::decode::{Bases, NoBases};
pub use reader::{Memory, PageVersion, Part, Parts, Recording, Source};
pub use rows::Row;
pub use verify::{VerifyReport, verify};
pub use writer::{Committed, Writer, WriterOptions};

/// Where a page's content is stored. Equal references mean equal bytes.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct VersionRef {
    pub(crate) pack: u64,
    pub(crate) slot: u32,
}

impl VersionRef {
    /// The page of zeros.
    pub const ZERO: Self = Self { pack: 0, slot: 0 };

    /// Whether it is the page of zeros.
    pub const fn is_zero(self) -> bool {
        self.pack == 0
    }
}
