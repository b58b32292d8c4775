//! Checkpoints inside a Rust program that was built with instrumentation.
//!
//! ```no_run
//! use stillframe_inproc::{Outcome, checkpoint, rollback};
//! let mut table = vec![0u64; 1000];
//! let outcome = checkpoint(|| {
//!     table[3] = 7;
//!     table.push(1);
//!     rollback(42) // as if nothing had been done
//! });
//! assert!(matches!(outcome, Outcome::<()>::RolledBack(_)));
//! assert_eq!(table.len(), 1000);
//! ```
//!
//! The flags that instrument a program are printed by `still inproc rustflags`; docs/inproc.md has the
//! recipe. Without them every checkpoint is [refused](Refusal::NotInstrumented): nothing would be
//! undone.
//!
//! # What a rollback means
//! [`rollback`] and panics unwind to the checkpoint first, so destructors run; then all memory that
//! was written since is put back, heap blocks and all. A destructor's effect on memory is undone with
//! the rest; what it does outside the process (closing a file) is not. A recovered fault
//! ([`recover_faults`]) does not unwind: destructors between are not run, and what they own is as it
//! was before it was made.
//!
//! # Why it can be safe
//! Going back is sound if all memory goes back at once. That is why a checkpoint is refused where the
//! program has other threads: they would keep pointers to what was undone. For those there is
//! [`checkpoint_among_threads`], which is `unsafe` and states what it needs.

use std::ffi::c_void;
use std::mem::ManuallyDrop;
use std::panic::{AssertUnwindSafe, catch_unwind, resume_unwind};
use std::sync::Once;
use std::sync::atomic::{AtomicU8, AtomicU64, Ordering};

unsafe extern "C" {
    fn still_inproc_try(function: extern "C" fn(*mut c_void) -> i32, argument: *mut c_void) -> i32;
    fn still_inproc_depth() -> u32;
    fn still_inproc_reason() -> i32;
    fn still_inproc_fault_address() -> usize;
    fn still_inproc_refusal() -> i32;
    fn still_inproc_recover(signals: u32, in_a_row: u32, total: u32) -> i32;
    fn still_inproc_threads() -> i32;
    fn still_inproc_note(n: i32);
    fn still_inproc_noted() -> i32;
    fn still_inproc_figures(out: *mut Figures);
}

/// How a checkpoint ended.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum Outcome<T> {
    /// What was done stays.
    Committed(T),
    /// What was done is undone.
    RolledBack(Reason),
    /// The function was not called.
    Refused(Refusal),
}

/// Why memory was put back.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// [`rollback`] was called, with this number.
    Asked(i32),
    /// The function panicked. The payload's memory is undone like all other.
    Panicked,
    /// A signal was recovered from: its number, and the address that was touched (0 for SIGABRT).
    Fault {
        /// The signal.
        signal: i32,
        /// Where.
        address: usize,
    },
}

/// Why no checkpoint was taken.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// There are no addresses for the log.
    Memory,
    /// More than 24 checkpoints inside each other.
    Depth,
    /// The process has other threads.
    Threads,
    /// More than 255 checkpoints are open in all threads.
    Tags,
    /// The program was not compiled with the flags that `still inproc rustflags` prints.
    NotInstrumented,
}

/// What the runtime counted in this thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Figures {
    /// Checkpoints taken.
    pub checkpoints: u64,
    /// Rollbacks.
    pub rollbacks: u64,
    /// Granules that rollbacks wrote back.
    pub undone: u64,
    /// Granules written while another thread's checkpoint held them.
    pub conflicts: u64,
    /// Address of the last of them.
    pub conflict_at: usize,
    /// Bytes of the log now.
    pub log_bytes: usize,
    /// Most bytes of the log.
    pub log_high_bytes: usize,
    /// Bytes of a granule; 0 for a plain undo log.
    pub granule: usize,
    /// Bytes of the heap that are in use, in chunks of 256 KiB.
    pub heap_bytes: usize,
}

const PANICKED: i32 = 0x4_0000;
const ASKED: i32 = 0x8_0000;
const FAULT: i32 = 0x1_0000;

/// What [`rollback`] unwinds with.
struct Asked(i32);

struct Call<F, T> {
    function: ManuallyDrop<F>,
    result: Option<T>,
}

/// Runs `function` under a checkpoint of all memory of the program.
///
/// A panic inside rolls back (its message is printed as always), and so does [`rollback`]. May be
/// nested: an inner rollback undoes the inner part alone, an inner commit is undone by an outer
/// rollback.
pub fn checkpoint<F: FnOnce() -> T, T>(function: F) -> Outcome<T> {
    // SAFETY: takes no arguments and touches no memory of ours.
    if unsafe { still_inproc_threads() } != 0 {
        return Outcome::Refused(Refusal::Threads);
    }
    // SAFETY: there are no other threads, and none can begin below without being seen: memory goes
    // back as a whole.
    unsafe { checkpoint_among_threads(function) }
}

/// The same while other threads run (feature `threads`).
///
/// # Safety
/// Until the checkpoint ends, nothing that this thread wrote since may be read or written by
/// another thread (also behind a mutex, in a channel, in an atomic), and this thread must write
/// nothing that another one writes. A rollback would turn the bytes back under the other's hands.
pub unsafe fn checkpoint_among_threads<F: FnOnce() -> T, T>(function: F) -> Outcome<T> {
    prime();
    if !instrumented() {
        return Outcome::Refused(Refusal::NotInstrumented);
    }
    // SAFETY: the caller's promise.
    unsafe { run(function) }
}

/// # Safety
/// As [`checkpoint_among_threads`].
unsafe fn run<F: FnOnce() -> T, T>(function: F) -> Outcome<T> {
    let mut call = Call {
        function: ManuallyDrop::new(function),
        result: None,
    };
    let argument = (&raw mut call).cast::<c_void>();
    // SAFETY: `entry` gets the `Call` it is made for. The runtime returns here once.
    let ended = unsafe { still_inproc_try(std::hint::black_box(entry::<F, T>), argument) };
    // What `entry` did to it happened behind the compiler's back.
    let call = std::hint::black_box(&mut call);
    match ended {
        0 => match call.result.take() {
            Some(result) => Outcome::Committed(result),
            // `entry` says 0 only with a result.
            None => Outcome::Refused(Refusal::NotInstrumented),
        },
        1 => {
            // The function is as it was before it ran.
            // SAFETY: its bytes are whole, and nobody uses it again.
            unsafe { ManuallyDrop::drop(&mut call.function) };
            // SAFETY: these read the thread's state.
            let (reason, address) =
                unsafe { (still_inproc_reason(), still_inproc_fault_address()) };
            Outcome::RolledBack(match reason {
                PANICKED => Reason::Panicked,
                // SAFETY: reads the thread's state.
                ASKED => Reason::Asked(unsafe { still_inproc_noted() }),
                n if n & FAULT != 0 && n & !(FAULT | 127) == 0 => Reason::Fault {
                    signal: n & 127,
                    address,
                },
                n => Reason::Asked(n),
            })
        }
        _ => {
            // SAFETY: it was not called.
            unsafe { ManuallyDrop::drop(&mut call.function) };
            // SAFETY: reads the thread's state.
            Outcome::Refused(match unsafe { still_inproc_refusal() } {
                2 => Refusal::Depth,
                3 => Refusal::Threads,
                4 => Refusal::Tags,
                _ => Refusal::Memory,
            })
        }
    }
}

extern "C" fn entry<F: FnOnce() -> T, T>(argument: *mut c_void) -> i32 {
    // SAFETY: `run` passes its `Call`, which nobody else uses meanwhile.
    let call = unsafe { &mut *argument.cast::<Call<F, T>>() };
    // SAFETY: read once here; `run` drops it only when that is undone.
    let function = unsafe { ManuallyDrop::take(&mut call.function) };
    match catch_unwind(AssertUnwindSafe(function)) {
        Ok(result) => {
            call.result = Some(result);
            0
        }
        Err(payload) => {
            let asked = payload.downcast_ref::<Asked>().map(|a| a.0);
            // Its memory is given back by the rollback.
            std::mem::forget(payload);
            match asked {
                Some(n) => {
                    // SAFETY: a number for the runtime to keep; it is not turned back.
                    unsafe { still_inproc_note(n) };
                    ASKED
                }
                None => PANICKED,
            }
        }
    }
}

/// Goes back to the innermost [`checkpoint`], by unwinding. The number comes back as
/// [`Reason::Asked`]. Outside of a checkpoint this is a panic that no hook reports.
pub fn rollback(reason: i32) -> ! {
    resume_unwind(Box::new(Asked(reason)))
}

/// How many checkpoints of this thread have not ended.
pub fn depth() -> u32 {
    // SAFETY: reads the thread's state.
    unsafe { still_inproc_depth() }
}

/// What the runtime counted in this thread.
pub fn figures() -> Figures {
    let mut figures = Figures::default();
    // SAFETY: writes one such structure.
    unsafe { still_inproc_figures(&mut figures) };
    figures
}

/// Recovers from SIGSEGV, SIGBUS, SIGFPE, SIGILL and SIGABRT under a checkpoint, by a rollback: at
/// most `in_a_row` times without a commit between them and `total` times in all. 0 and 0 end it.
///
/// # Safety
/// A fault leaves the functions between it and the checkpoint without running their destructors.
/// Nothing may rely on them: no scoped threads, no pins whose owner must be told, no foreign frames.
pub unsafe fn recover_faults(in_a_row: u32, total: u32) {
    let all = 1 << 4 | 1 << 6 | 1 << 7 | 1 << 8 | 1 << 11;
    let signals = if in_a_row == 0 { 0 } else { all };
    // SAFETY: installs or removes handlers that the runtime brings.
    unsafe { still_inproc_recover(signals, in_a_row, total) };
}

/// Has the prebuilt standard library, whose stores nobody sees, make what it makes once, before it
/// could be made under a checkpoint: a rollback would give back memory that it still points to.
fn prime() {
    static DONE: Once = Once::new();
    DONE.call_once(|| {
        drop(std::io::stdout().lock());
        drop(std::io::stderr().lock());
        drop(std::io::stdin().lock());
        drop(std::hash::RandomState::new());
        drop(std::thread::current());
        drop(catch_unwind(|| ()));
    });
}

static INSTRUMENTED: AtomicU8 = AtomicU8::new(0);
static PROBE: [AtomicU64; 32] = [const { AtomicU64::new(0) }; 32];

/// Whether a store of this program reaches the log: of this crate, which has the program's flags.
#[inline(never)]
fn instrumented() -> bool {
    match INSTRUMENTED.load(Ordering::Relaxed) {
        1 => return true,
        2 => return false,
        _ => {}
    }
    // SAFETY: runs under a checkpoint of its own, which touches nothing but the probe.
    let seen = unsafe {
        run(|| {
            // Asking writes as well, by functions that the runtime sees in any program: what that
            // logs it logs the first time round.
            let mut logged = [0; 3];
            for (round, logged) in logged.iter_mut().enumerate() {
                *logged = std::hint::black_box(figures()).log_bytes;
                if round == 1 {
                    std::hint::black_box(&PROBE)[16].store(1, Ordering::Relaxed);
                }
            }
            logged[2] > logged[1]
        })
    };
    let yes = matches!(seen, Outcome::Committed(true));
    INSTRUMENTED.store(if yes { 1 } else { 2 }, Ordering::Relaxed);
    yes
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn without_instrumentation_nothing_is_promised() {
        // The test harness has threads; the check for instrumentation is what is looked at here.
        // SAFETY: the function does nothing.
        let outcome = unsafe { checkpoint_among_threads(|| ()) };
        assert!(matches!(
            outcome,
            Outcome::Refused(Refusal::NotInstrumented | Refusal::Threads)
        ));
        assert_eq!(depth(), 0);
    }
}
