//! Recovery: a fault of the program becomes a rollback, on request and with limits.
//!
//! The handler leaves by jumping to the checkpoint; the rollback restores the signal mask. It does
//! not do so in the middle of the runtime's own work (`busy`, or the heap's lock is held), without
//! a checkpoint, or beyond the limits: then the disposition that was there before is put back, and
//! the instruction faults again.

use crate::state::{Thread, me};
use crate::{checkpoint, heap, sys};
use core::ffi::c_int;
use core::sync::atomic::{AtomicU32, Ordering};

/// Added to a signal's number in a reason.
pub const FAULT: i32 = 0x1_0000;
const SIGNALS: [i32; 5] = [4, 6, 7, 8, 11];
const ALTERNATE: usize = 64 << 10;

#[repr(C)]
#[derive(Clone, Copy)]
struct Action {
    handler: usize,
    flags: u64,
    restorer: usize,
    mask: u64,
}

const EMPTY: Action = Action {
    handler: 0,
    flags: 0,
    restorer: 0,
    mask: 0,
};
static mut BEFORE: [Action; 5] = [EMPTY; 5];
static WANTED: AtomicU32 = AtomicU32::new(0);
static IN_A_ROW: AtomicU32 = AtomicU32::new(0);
static LEFT: AtomicU32 = AtomicU32::new(0);

const SIGACTION: usize = 13;
const SIGINFO: u64 = 4;
const ONSTACK: u64 = 0x0800_0000;
const NODEFER: u64 = 0x4000_0000;
const RESTORER: u64 = 0x0400_0000;

core::arch::global_asm!(
    ".type __still_return,@function",
    ".globl __still_return",
    ".hidden __still_return",
    "__still_return:",
    "mov eax, 15",
    "syscall",
);
unsafe extern "C" {
    fn __still_return();
}

fn bit(signal: i32) -> u32 {
    1 << signal
}

/// Asks for recovery from the signals of the set (bit n: signal n), at most `in_a_row` times
/// without a commit between them, and `total` times in all. 0, or -1 if the set holds others.
#[unsafe(no_mangle)]
unsafe extern "C" fn still_inproc_recover(signals: u32, in_a_row: u32, total: u32) -> c_int {
    let mut known = 0;
    for signal in SIGNALS {
        known |= bit(signal);
    }
    if signals & !known != 0 {
        return -1;
    }
    IN_A_ROW.store(in_a_row, Ordering::Relaxed);
    LEFT.store(total, Ordering::Relaxed);
    let before = WANTED.swap(signals, Ordering::Relaxed);
    for (i, signal) in SIGNALS.into_iter().enumerate() {
        // SAFETY: signal actions as the kernel defines them; the handler is `caught`.
        unsafe {
            let old = (&raw mut BEFORE).cast::<Action>().add(i);
            if signals & bit(signal) != 0 && before & bit(signal) == 0 {
                let new = Action {
                    handler: caught as *const () as usize,
                    flags: SIGINFO | ONSTACK | NODEFER | RESTORER,
                    restorer: __still_return as *const () as usize,
                    mask: 0,
                };
                sys::call(
                    SIGACTION,
                    signal as usize,
                    &raw const new as usize,
                    old as usize,
                    8,
                    0,
                    0,
                );
            } else if signals & bit(signal) == 0 && before & bit(signal) != 0 {
                sys::call(SIGACTION, signal as usize, old as usize, 0, 8, 0, 0);
            }
        }
    }
    // SAFETY: this thread's.
    unsafe { alternate(me()) };
    0
}

/// Gives the thread a stack for the handler, if it has none.
///
/// # Safety
/// `t` is this thread's.
pub unsafe fn alternate(t: *mut Thread) {
    // SAFETY: the memory is new; it is never given back.
    unsafe {
        if WANTED.load(Ordering::Relaxed) == 0 || (*t).alternate != 0 {
            return;
        }
        const DISABLED: i32 = 2;
        if sys::altstack(None).flags & DISABLED != 0 {
            let at = sys::reserve(ALTERNATE);
            if at == 0 {
                return;
            }
            sys::altstack(Some(&sys::AltStack {
                sp: at,
                flags: 0,
                size: ALTERNATE,
            }));
        }
        (*t).alternate = 1;
    }
}

unsafe extern "C" fn caught(signal: c_int, info: *const u64, context: *const usize) {
    let t = me();
    // SAFETY: the kernel calls with valid arguments; this thread's state is only read if nothing
    // is in the middle of it.
    unsafe {
        let mut why = "no checkpoint";
        if (*t).depth != 0 {
            why = "in the middle of the runtime's work";
            if (*t).busy == 0 && !heap::held() {
                why = "the limit of recoveries is reached";
                if (*t).recoveries < IN_A_ROW.load(Ordering::Relaxed) && one_left() {
                    (*t).recoveries += 1;
                    let address = if signal == 6 {
                        0
                    } else {
                        *info.add(2) as usize
                    };
                    // ucontext_t: general registers from the sixth word on, rsp is the sixteenth.
                    let sp = *context.add(5 + 15);
                    checkpoint::roll_back(t, FAULT + signal, address, sp);
                }
            }
        }
        sys::say(&["still: a fault is not recovered from: ", why, "\n"]);
        for (i, known) in SIGNALS.into_iter().enumerate() {
            if known == signal {
                let old = (&raw mut BEFORE).cast::<Action>().add(i);
                sys::call(SIGACTION, signal as usize, old as usize, 0, 8, 0, 0);
            }
        }
        // Sent (by abort, kill) rather than met: it will not come again by itself.
        if (*info.cast::<i32>().add(2)) <= 0 {
            sys::raise(signal as usize);
        }
    }
}

fn one_left() -> bool {
    LEFT.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |n| n.checked_sub(1))
        .is_ok()
}
