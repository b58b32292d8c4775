//! What addresses mean.
//!
//! Names, types, source lines, call stacks and expressions, from ELF and DWARF. Nothing here knows
//! where memory comes from: it is read through [`Memory`] and [`Registers`], which a checkpoint
//! offers as well as a live process or a test.
#![forbid(unsafe_code)]

pub mod memory;

pub use memory::{Memory, Registers, Unreadable};
