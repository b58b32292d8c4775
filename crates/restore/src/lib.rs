//! A checkpoint becomes a process again.
//!
//! One mechanism serves both ways: *make a stopped, traced process equal to an image*. A restore
//! makes a blank process and conforms it; a rollback conforms the live one. Each part of the image
//! has a module with the same shape: `plan` is pure and says what differs, `conform` does it, with
//! system calls made in the process ([`stillframe_linux::remote`]).
//!
//! Until the last step the process is ours to throw away: a restore that fails kills it, and nothing
//! half-made stays behind.
#![forbid(unsafe_code)]

pub mod blank;
pub mod check;
pub mod error;
pub mod files;
pub mod lazy;
pub mod objects;
mod part;
pub mod process;
pub mod restore;
pub mod rollback;
pub mod source;
pub mod space;
pub mod threads;
pub mod tree;
pub mod verify;

pub use error::{Error, Result};
pub use source::Source;
