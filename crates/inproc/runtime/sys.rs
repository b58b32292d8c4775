//! The few system calls and functions of the C library that the runtime itself needs. Calls go
//! to the kernel directly: the C library's functions of the same name are interposed by us.

use core::arch::asm;
use core::ffi::{c_char, c_int, c_void};

unsafe extern "C" {
    pub fn dlsym(handle: *mut c_void, name: *const c_char) -> *mut c_void;
    pub fn pthread_key_create(key: *mut u32, end: unsafe extern "C" fn(*mut c_void)) -> c_int;
    pub fn pthread_setspecific(key: u32, value: *const c_void) -> c_int;
    pub fn pthread_atfork(
        before: unsafe extern "C" fn(),
        parent: unsafe extern "C" fn(),
        child: unsafe extern "C" fn(),
    ) -> c_int;
    pub fn strlen(s: *const c_char) -> usize;
    pub fn strnlen(s: *const c_char, max: usize) -> usize;
    pub fn wcslen(s: *const i32) -> usize;
    pub fn __errno_location() -> *mut c_int;
}

pub const MMAP: usize = 9;
pub const MUNMAP: usize = 11;
const SIGPROCMASK: usize = 14;
const SCHED_YIELD: usize = 24;
const MADVISE: usize = 28;
const WRITE: usize = 1;
const EXIT_GROUP: usize = 231;
const SIGALTSTACK: usize = 131;
const GETPID: usize = 39;
const GETTID: usize = 186;
const TGKILL: usize = 234;

/// A system call.
///
/// # Safety
/// As the call itself.
#[inline(always)]
pub unsafe fn call(n: usize, a: usize, b: usize, c: usize, d: usize, e: usize, f: usize) -> isize {
    let result: isize;
    // SAFETY: the kernel's calling convention; what the call does is the caller's promise.
    unsafe {
        asm!("syscall", inlateout("rax") n as isize => result, in("rdi") a, in("rsi") b, in("rdx") c,
             in("r10") d, in("r8") e, in("r9") f, lateout("rcx") _, lateout("r11") _,
             options(nostack));
    }
    result
}

const PRIVATE_ANON_NORESERVE: usize = 0x2 | 0x20 | 0x4000;
const FIXED_NOREPLACE: usize = 0x10_0000;

/// Memory anywhere that takes room only where it is touched; 0 if there is none.
pub fn reserve(bytes: usize) -> usize {
    // SAFETY: a new mapping touches nothing that exists.
    let at = unsafe { call(MMAP, 0, bytes, 3, PRIVATE_ANON_NORESERVE, usize::MAX, 0) };
    if at < 0 { 0 } else { at as usize }
}

/// The same at an address; false if it is taken or cannot be had.
pub fn reserve_at(address: usize, bytes: usize) -> bool {
    // SAFETY: FIXED_NOREPLACE never replaces a mapping.
    let at = unsafe {
        call(
            MMAP,
            address,
            bytes,
            3,
            PRIVATE_ANON_NORESERVE | FIXED_NOREPLACE,
            usize::MAX,
            0,
        )
    };
    at == address as isize
}

/// Gives memory back to the kernel, keeping the addresses.
///
/// # Safety
/// Nobody needs the content.
pub unsafe fn forget(address: usize, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe { call(MADVISE, address, bytes, 4, 0, 0, 0) };
}

/// Asks for large pages where they fit.
pub fn large_pages(address: usize, bytes: usize) {
    // SAFETY: advice changes no content.
    unsafe { call(MADVISE, address, bytes, 14, 0, 0, 0) };
}

/// # Safety
/// Nobody needs the memory.
pub unsafe fn unmap(address: usize, bytes: usize) -> isize {
    // SAFETY: the caller's promise.
    unsafe { call(MUNMAP, address, bytes, 0, 0, 0, 0) }
}

pub fn yield_now() {
    // SAFETY: no memory is involved.
    unsafe { call(SCHED_YIELD, 0, 0, 0, 0, 0, 0) };
}

/// The thread's signal mask.
pub fn mask() -> u64 {
    let mut old = 0u64;
    // SAFETY: writes 8 bytes to `old`.
    unsafe { call(SIGPROCMASK, 0, 0, &raw mut old as usize, 8, 0, 0) };
    old
}

pub fn set_mask(mask: u64) {
    // SAFETY: reads 8 bytes of `mask`.
    unsafe { call(SIGPROCMASK, 2, &raw const mask as usize, 0, 8, 0, 0) };
}

#[repr(C)]
pub struct AltStack {
    pub sp: usize,
    pub flags: i32,
    pub size: usize,
}

/// The alternate signal stack now, after setting `new` if there is one.
///
/// # Safety
/// `new` is memory that is used for nothing else.
pub unsafe fn altstack(new: Option<&AltStack>) -> AltStack {
    let mut old = AltStack {
        sp: 0,
        flags: 0,
        size: 0,
    };
    let set = new.map_or(0, |n| &raw const *n as usize);
    // SAFETY: reads and writes one such structure each.
    unsafe { call(SIGALTSTACK, set, &raw mut old as usize, 0, 0, 0, 0) };
    old
}

/// Raises a signal in this thread, without the C library.
pub fn raise(signal: usize) {
    // SAFETY: no memory is involved.
    unsafe {
        let pid = call(GETPID, 0, 0, 0, 0, 0, 0) as usize;
        let tid = call(GETTID, 0, 0, 0, 0, 0, 0) as usize;
        call(TGKILL, pid, tid, signal, 0, 0, 0);
    }
}

/// One line on stderr; never allocates.
pub fn say(parts: &[&str]) {
    for part in parts {
        // SAFETY: reads the text.
        unsafe { call(WRITE, 2, part.as_ptr() as usize, part.len(), 0, 0, 0) };
    }
}

/// Says why, and ends the program with SIGABRT's default action.
pub fn die(why: &str) -> ! {
    say(&["still: ", why, "\n"]);
    // SAFETY: only ends the process. SIGABRT's handler is put back to the default: it may be ours.
    unsafe {
        let default = [0usize; 4];
        call(13, 6, default.as_ptr() as usize, 0, 8, 0, 0);
        set_mask(0);
        raise(6);
        loop {
            call(EXIT_GROUP, 134, 0, 0, 0, 0, 0);
        }
    }
}

/// Copies, by words and then by bytes: `memcpy` itself is ours, and logs.
///
/// # Safety
/// Both ranges are accessible; they may be the same but not overlap otherwise.
#[inline(always)]
pub unsafe fn copy(from: usize, to: usize, bytes: usize) {
    // SAFETY: the caller's promise; the direction flag is clear by the ABI.
    unsafe {
        asm!("rep movsb", inout("rcx") bytes => _, inout("rsi") from => _, inout("rdi") to => _,
             options(nostack, preserves_flags));
    }
}

/// # Safety
/// The range is writable.
#[inline(always)]
pub unsafe fn fill(to: usize, byte: u8, bytes: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        asm!("rep stosb", inout("rcx") bytes => _, inout("rdi") to => _, in("al") byte,
             options(nostack, preserves_flags));
    }
}
