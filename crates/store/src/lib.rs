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

pub mod error;
pub mod header;
pub mod moment;
pub mod reader;
pub mod verify;
pub mod writer;

pub use error::Error;
pub use header::{Header, Summary};
pub use moment::{Moment, split_moment};
pub use reader::{Memory, Object, Recording, Row, Source, VersionRef};
pub use verify::{VerifyReport, verify};
pub use writer::{Committed, Writer, WriterOptions};
