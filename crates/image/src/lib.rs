//! What a process is.
//!
//! A checkpoint is one instant of a process tree: for each process its mappings, its threads, its
//! descriptors, its kernel-side state, and the bytes of its pages. This crate names those parts, gives them
//! versioned encodings ([`section`]), and turns them into an ELF core ([`elfcore`]). It performs
//! no I/O: what reads the kernel lives in `linux`, what reads and writes files lives in `store`.
//!
//! Page *contents* are not here. They are versioned page by page in a recording; this crate only
//! says which addresses exist and where the bytes of an unversioned page come from.
#![forbid(unsafe_code)]

pub mod account;
pub mod checkpoint;
pub mod descriptor;
pub mod elfcore;
pub mod file;
pub mod host;
pub mod ids;
pub mod mapping;
pub mod objects;
pub mod process;
pub mod section;
pub mod signal;
pub mod text;
pub mod thread;
pub mod tree;

pub use account::Account;
pub use checkpoint::{Checkpoint, Gap, Marks, Phases, Point, ProcessImage, Tick};
pub use descriptor::{Descriptor, DescriptorKind, Descriptors};
pub use file::{FileContent, WrittenFile};
pub use ids::{CheckpointId, PAGE_SIZE, PageNumber, SpaceId};
pub use mapping::{AddressSpace, Coverage, FileIdentity, Generation, Mapping, MappingKind};
pub use objects::{Object, Objects};
pub use process::{IntervalTimer, PosixTimer, Process, ResourceLimit, SignalAction};
pub use thread::{AltStack, Registers, RobustList, Rseq, SigInfo, Thread};
pub use tree::Tree;
