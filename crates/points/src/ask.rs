//! The gate and the system calls, by inline assembly: the crate links to nothing.

use core::arch::{asm, global_asm};
use core::sync::atomic::{AtomicU32, Ordering};

/// "stil", in the gate and in the signal.
const MAGIC: u32 = 0x6c69_7473;
/// "stlpoint".
const REQUEST_MAGIC: u64 = 0x746e_696f_706c_7473;
const SIGURG: u32 = 23;
const URGENT: u64 = 1 << (SIGURG - 1);
/// With a value, only the process itself can send it.
const SI_TKILL: i32 = -6;

const SYS_RT_SIGPROCMASK: usize = 14;
const SYS_NANOSLEEP: usize = 35;
const SYS_GETPID: usize = 39;
const SYS_RT_SIGPENDING: usize = 127;
const SYS_GETTID: usize = 186;
const SYS_CLOCK_GETTIME: usize = 228;
const SYS_RT_TGSIGQUEUEINFO: usize = 297;

const SIG_BLOCK: usize = 0;
const SIG_SETMASK: usize = 2;

/// What the recorder opens: other than zero while it records.
#[repr(C, align(8))]
struct Gate {
    magic: u32,
    open: AtomicU32,
}

#[used]
static GATE: Gate = Gate {
    magic: MAGIC,
    open: AtomicU32::new(0),
};

// Note "stillframe", type 1: how far the gate is from here, and the version of all this.
global_asm!(
    ".pushsection .note.stillframe,\"a\",@note",
    ".balign 4",
    ".long 11, 8, 1",
    ".asciz \"stillframe\"",
    ".balign 4",
    ".long {gate} - .",
    ".long 1",
    ".popsection",
    gate = sym GATE,
);

/// As the recorder reads it.
#[repr(C)]
struct Request {
    magic: u64,
    version: u32,
    kind: u32,
    name: *const u8,
    name_bytes: u64,
}

/// `siginfo_t` of a queued signal.
#[repr(C, align(8))]
struct Info {
    signal: u32,
    errno: u32,
    code: i32,
    _pad: u32,
    pid: u32,
    uid: u32,
    value: *const Request,
    _rest: [u64; 12],
}

/// Whether a recorder has opened the gate.
#[inline]
pub fn is_open() -> bool {
    // SAFETY: a pointer to a static. The read is volatile because it is another process that writes
    // there, which the compiler must not assume away; the write is of an aligned word.
    unsafe { core::ptr::read_volatile(GATE.open.as_ptr()) != 0 }
}

/// # Safety
/// As the call requires: every argument that the kernel takes for a pointer is valid for what the
/// call reads or writes there.
unsafe fn syscall(number: usize, a: usize, b: usize, c: usize, d: usize) -> isize {
    let result;
    // SAFETY: the caller's. The instruction itself changes rax, rcx and r11; memory is not declared
    // untouched, and the stack is not used.
    unsafe {
        asm!(
            "syscall",
            inlateout("rax") number as isize => result,
            in("rdi") a,
            in("rsi") b,
            in("rdx") c,
            in("r10") d,
            lateout("rcx") _,
            lateout("r11") _,
            options(nostack),
        );
    }
    result
}

fn address<T>(of: &T) -> usize {
    core::ptr::from_ref(of).expose_provenance()
}

fn set_mask(how: usize, mask: &u64) {
    // SAFETY: the kernel reads eight bytes at `mask`. Masks are the thread's own, and the caller
    // puts back what it found.
    unsafe { syscall(SYS_RT_SIGPROCMASK, how, address(mask), 0, size_of::<u64>()) };
}

/// Asks the recorder: 0 or less, nobody; 1, declined; else a number and 2.
#[cold]
#[inline(never)]
pub fn ask(kind: u32, name: &[u8]) -> i64 {
    let token = GATE.open.load(Ordering::Relaxed);
    if token == 0 {
        return 0;
    }
    let request = Request {
        magic: REQUEST_MAGIC,
        version: 1,
        kind,
        name: name.as_ptr(),
        name_bytes: name.len() as u64,
    };
    // No handler may come between the call and its answer. A blocked SIGURG would wait, and so is
    // let through, unless another waits already.
    let (others, mut blocked) = (!URGENT, 0u64);
    let into = core::ptr::from_mut(&mut blocked).expose_provenance();
    // SAFETY: the kernel reads eight bytes at `others` and writes eight at `blocked`, both locals.
    unsafe { syscall(SYS_RT_SIGPROCMASK, SIG_BLOCK, address(&others), into, 8) };
    if blocked & URGENT != 0 {
        let mut waiting = 0u64;
        let into = core::ptr::from_mut(&mut waiting).expose_provenance();
        // SAFETY: the kernel writes eight bytes at `waiting`, a local.
        unsafe { syscall(SYS_RT_SIGPENDING, into, 8, 0, 0) };
        if waiting & URGENT != 0 {
            set_mask(SIG_SETMASK, &blocked);
            return 1;
        }
        set_mask(SIG_SETMASK, &others);
    }
    // SAFETY: these take no pointers.
    let (pid, tid) = unsafe {
        (
            syscall(SYS_GETPID, 0, 0, 0, 0),
            syscall(SYS_GETTID, 0, 0, 0, 0),
        )
    };
    let info = Info {
        signal: SIGURG,
        errno: MAGIC,
        code: SI_TKILL,
        _pad: 0,
        pid: u32::try_from(pid).unwrap_or(0),
        uid: 0,
        value: &raw const request,
        _rest: [0; 12],
    };
    // SAFETY: the kernel reads the 128 bytes of `info`, a local; a recorder reads, while this
    // thread waits, `request` and the name it points to, both alive.
    let result = unsafe {
        syscall(
            SYS_RT_TGSIGQUEUEINFO,
            pid.cast_unsigned(),
            tid.cast_unsigned(),
            SIGURG as usize,
            address(&info),
        )
    };
    set_mask(SIG_SETMASK, &blocked);
    if result <= 0 {
        // The recorder is gone. Another one may have come since: leave its gate.
        let _ = GATE
            .open
            .compare_exchange(token, 0, Ordering::Relaxed, Ordering::Relaxed);
    }
    result as i64
}

/// The monotonic clock.
pub fn milliseconds() -> i64 {
    let mut now = [0i64; 2];
    let into = core::ptr::from_mut(&mut now).expose_provenance();
    // SAFETY: the kernel writes a timespec, two words, at `now`, a local. 1 is CLOCK_MONOTONIC.
    unsafe { syscall(SYS_CLOCK_GETTIME, 1, into, 0, 0) };
    now[0] * 1000 + now[1] / 1_000_000
}

/// Sleeps for a millisecond.
pub fn nap() {
    let step = [0i64, 1_000_000];
    // SAFETY: the kernel reads a timespec, two words, at `step`, a local.
    unsafe { syscall(SYS_NANOSLEEP, address(&step), 0, 0, 0) };
}
