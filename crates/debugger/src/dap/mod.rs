//! The Debug Adapter Protocol: editors at any moment of a recording.
//!
//! Four layers, each of which can be tested alone. `framing` and `wire` cut a stream into requests.
//! [`session`] knows what may be asked when, and how it is answered; it performs no I/O and knows the
//! program only as a [`debuggee::Debuggee`]. `moves` and `breakpoints` say what stepping and
//! breakpoints mean where only checkpoints can be visited. [`serve`] moves bytes, and reads requests
//! while one is being answered, so that long work can be given up.
//!
//! The protocol is specified at <https://microsoft.github.io/debug-adapter-protocol>; this is version
//! 1.68. Tests hold every message sent to its schema.

pub mod arguments;
pub mod bodies;
pub mod breakpoints;
pub mod debuggee;
pub mod framing;
pub mod interrupt;
pub mod moves;
pub mod recorded;
pub mod serve;
pub mod session;
pub mod wire;
