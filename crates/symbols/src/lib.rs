//! What addresses mean.
//!
//! Names, types, source lines, call stacks and expressions, from ELF and DWARF. Nothing here knows
//! where memory comes from: it is read through [`Memory`] and [`Registers`], which a checkpoint
//! offers as well as a live process or a test.
#![forbid(unsafe_code)]

mod catalog;
pub mod children;
pub mod debuginfo;
pub mod demangle;
mod dies;
pub mod elf;
pub mod expr;
pub mod files;
pub mod format;
mod functions;
pub mod globals;
mod inflate;
mod intervals;
mod layer;
pub mod lines;
pub mod locate;
mod location;
mod members;
pub mod memory;
pub mod module;
pub mod program;
mod registers;
pub mod symtab;
pub mod tls;
pub mod types;
pub mod unwind;
pub mod value;
pub mod variables;

pub use children::Child;
pub use debuginfo::{DebugInfo, Dwarf, Unit};
pub use demangle::demangle;
pub use dies::Language;
pub use elf::{Elf, ElfError, Slice};
pub use files::{Files, NoFiles, Source, SystemFiles};
pub use format::Style;
pub use lines::Place;
pub use locate::{Function, Location};
pub use memory::{Memory, Registers, Unreadable};
pub use module::{Module, ModuleError};
pub use program::{Loaded, Mapped, Program};
pub use symtab::{Symbol, SymbolKind};
pub use types::Type;
pub use unwind::{Frame, Limits, Stack, stack, unwind};
pub use value::{Fault, NoRegisters, Scope, Value};
pub use variables::{Here, Local, locals};
