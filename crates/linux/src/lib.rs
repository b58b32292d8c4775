//! The kernel's door.
//!
//! Everything that must be asked of the kernel about another process is asked here, and so all of
//! the product's `unsafe` lives here: ptrace as a typestate ([`ptrace`]), a whole process held
//! under it ([`tracee`]), system calls made inside it that leave no trace ([`inject`]) or that make
//! it another one ([`remote`]); which pages were written ([`uffd`], [`pagemap`], [`bpf`]) and copying them ([`copy`]). The crates above see plain
//! Rust.

pub mod blank;
pub mod bpf;
pub mod child;
pub mod copy;
pub mod error;
pub mod features;
pub mod files;
pub mod gates;
pub mod host;
pub mod inject;
pub mod launch;
pub mod memory;
pub mod missing;
pub mod objects;
pub mod pagemap;
pub mod proc;
pub mod ptrace;
pub mod remote;
pub mod sched;
pub mod signals;
pub mod sockets;
pub mod softdirty;
#[cfg(test)]
mod test_support;
pub mod tracee;
pub mod twin;
pub mod uffd;

pub use error::{Error, Result, Target};
