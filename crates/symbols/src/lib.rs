//! What addresses mean.
//!
//! Names, types, source lines, call stacks and expressions, from ELF and DWARF. Nothing here knows
//! where memory comes from: it is read through [`Memory`] and [`Registers`], which a checkpoint
//! offers as well as a live process or a test.
#![forbid(unsafe_code)]

pub mod debuginfo;
pub mod demangle;
pub mod elf;
pub mod files;
mod inflate;
pub mod memory;
pub mod module;
pub mod program;
pub mod symtab;

pub use debuginfo::{DebugInfo, Dwarf, Unit};
pub use demangle::demangle;
pub use elf::{Elf, ElfError, Slice};
pub use files::{Files, NoFiles, Source, SystemFiles};
pub use memory::{Memory, Registers, Unreadable};
pub use module::{Module, ModuleError};
pub use program::{Loaded, Mapped, Program};
pub use symtab::{Symbol, SymbolKind};
