//! Debuggers and editors at any moment of a recording.
#![forbid(unsafe_code)]

pub mod dap;
pub mod gdb;
