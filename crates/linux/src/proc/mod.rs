//! What /proc tells about a process.
//!
//! Parsed by hand, for two reasons: what runs in every tick must not allocate, and the text is
//! partly the target's own (file names, thread names), so nothing in it may surprise us. Parsers
//! work on bytes, are separate from the reading, and answer `None` or an error to text they do not
//! understand; none can panic.

pub mod fds;
pub mod identity;
pub mod maps;
pub mod moving;
pub mod process;
pub mod set;
pub mod sharers;
pub mod smaps;
pub mod stat;
pub mod status;
mod text;

#[cfg(test)]
mod tests;
