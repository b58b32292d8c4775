//! Moving and searching in time.
//!
//! Questions about the past go to the page-version index first, so that they cost what changed and
//! not what was recorded.
#![forbid(unsafe_code)]

pub mod machine;

pub use machine::{Machine, View};
