//! Descriptors: made again in a new process, put back in a live one.
//!
//! Objects are made by *us* and handed to the process (SCM_RIGHTS), so most need no call made inside it,
//! and what several processes share is made once ([`Shared`]). Inside the process only those calls
//! are made that depend on its own table of descriptors: placing them, filling epoll sets, and locks that belong to
//! the process.
//!
//! What the restored tree held one end of, and somebody else the other, cannot come back: its
//! outcome is defined ([`Policy`]) and named ([`gaps`], [`foresee`]). Standard streams that led to a
//! terminal or to another process come from whoever restores; every other such pipe or connection is
//! there and closed by the other end: reading gives what had arrived, then the end; writing fails
//! with EPIPE.

mod closed;
mod live;
mod make;
mod place;
mod shared;

pub use closed::{Closed, undo};
pub use live::{Step, Way, foreign, plan, put_back, shares};
pub use place::conform;
pub use shared::{Policy, Shared, Stdio, foresee};

use stillframe_image::Gap;

/// A gap about one descriptor.
pub(crate) fn gap(fd: u32, reason: impl Into<String>) -> Gap {
    Gap {
        subject: format!("fd {fd}"),
        reason: reason.into(),
    }
}

#[cfg(test)]
mod tests;
