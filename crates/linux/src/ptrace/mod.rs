//! ptrace as a typestate.
//!
//! The kernel answers most requests only while a thread is stopped, and answers ESRCH otherwise;
//! which of the two it is cannot be asked. So it is kept in the type: [`Running`] can be interrupted
//! and waited for, [`Stopped`] can be read, written and resumed, and each turns into the other by
//! value. A thread that is killed while stopped still looks stopped to us: every request on it then
//! fails with [`Error::ThreadGone`](crate::Error::ThreadGone), and the next wait reports its end.
//!
//! Everything here must be called from the thread that seized; the kernel knows a tracer by thread,
//! not by process. [`Tracee`](crate::tracee::Tracee) enforces that by not being `Send`.

mod raw;
mod status;
mod thread;

pub use raw::{Dispatch, SyscallInfo};
pub(crate) use raw::{same_memory, wait_any_peek, wait_blocking};
pub use status::{Outcome, StopKind};
pub use thread::{Resume, Running, Stopped, Waited};

/// Options that every tracee of ours has.
///
/// TRACESYSGOOD is not for convenience: if a tracer dies while its tracee is in a syscall stop, the
/// kernel sends the tracee the number of that stop as a signal. With this option that number is 133,
/// which is no signal and is dropped; without it, it is SIGTRAP, and kills.
///
/// There is no TRACEFORK and no TRACEVFORK ([`FOLLOW`] has them): children are not ours. There is no
/// EXITKILL, of course.
pub const OPTIONS: u32 = raw::OPTIONS;

/// Options that tracees have besides if their children are to be ours. The kernel then seizes a
/// child before it runs, with the same options, and it stops before its first instruction.
pub const FOLLOW: u32 = raw::FOLLOW;
