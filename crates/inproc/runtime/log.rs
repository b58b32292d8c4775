//! The undo log: what a granule held before it was first written since the checkpoint.
//!
//! An entry is the granule's bytes and one word: its address, and in the upper byte the tag it had.
//! Neighbours that are logged together (a range) are one entry: their bytes, their number, and the word
//! with its lowest bit set. Ending a level then costs a range one fill of its tags. A block that the heap
//! hands out is an entry without bytes: nobody needs what it held, but its granules count as logged.
//! The bytes are read before anything else happens: a wild store then faults with log and tag as
//! they were, and can be recovered from. A rollback writes only what differs, so it cannot fault on
//! a granule that was read and never could be written.

use crate::granule::{self, SIZE};
use crate::state::{self, Frame, Thread, me};
use crate::sys;
use core::arch::global_asm;

/// Bytes of an entry.
pub const ENTRY: usize = SIZE + 8;
const ADDRESS: usize = (1 << 56) - 1;
const RUN: u64 = 1;
const BARE: u64 = 2;

/// Logs the granule of `address`, whose tag is not the innermost level's.
///
/// # Safety
/// `t` is this thread's.
#[inline(never)]
pub unsafe fn slow(t: *mut Thread, address: usize) {
    // SAFETY: `t` by promise; the granule is about to be written by the program, or the fault is
    // the program's own; between base and end the log is ours.
    unsafe {
        let at = address & !(SIZE - 1);
        if (*t).depth == 0 {
            // Only with threads: another thread's checkpoint holds this granule.
            if granule::THREADS && (*t).prepared != 0 {
                conflict(t, at);
            }
            return;
        }
        let top = (*t).top;
        if top > (*t).end {
            full();
        }
        // If it cannot be read, the fault is to tell the very address.
        (address as *const u8).read_volatile();
        let (from, to) = (at as *const u64, top as *mut u64);
        let mut i = 0;
        while i < SIZE / 8 {
            to.add(i).write_volatile(from.add(i).read_volatile());
            i += 1;
        }
        let mut old = if granule::TAGGED {
            *granule::tag(at)
        } else {
            0
        };
        if granule::THREADS && old != 0 && !state::mine(t, old) {
            // Never put back: that level may have ended by then, and its number have another owner.
            old = 0;
            conflict(t, at);
        }
        to.add(SIZE / 8).write(at as u64 | u64::from(old) << 56);
        (*t).top = top + ENTRY;
        if granule::TAGGED {
            *granule::tag(at) = (*t).tag;
        }
    }
}

#[cold]
unsafe fn conflict(t: *mut Thread, at: usize) {
    // SAFETY: `t` is this thread's.
    unsafe {
        (*t).conflicts += 1;
        (*t).conflict_at = at;
    }
}

/// One granule is about to be written.
#[inline(always)]
pub fn granule(address: usize) {
    let t = me();
    // SAFETY: the tag of any address of the program is mapped; `t` is this thread's.
    unsafe {
        if granule::TAGGED {
            if *granule::tag(address) != (*t).tag {
                slow(t, address);
            }
        } else if (*t).depth != 0 {
            slow(t, address);
        }
    }
}

/// `bytes` (at most a granule's) are about to be written.
#[inline(always)]
pub fn small(address: usize, bytes: usize) {
    let t = me();
    // SAFETY: as in `granule`.
    unsafe {
        if granule::TAGGED {
            if (address & (SIZE - 1)) + bytes <= SIZE && *granule::tag(address) == (*t).tag {
                return;
            }
        } else if (*t).depth == 0 {
            return;
        }
    }
    ends(address, bytes);
}

/// Its own function, so that the callers above need no frame.
#[inline(never)]
fn ends(address: usize, bytes: usize) {
    granule(address);
    if (address & (SIZE - 1)) + bytes > SIZE {
        granule(address + bytes - 1);
    }
}

/// Any number of bytes are about to be written.
#[inline(always)]
pub fn range(address: usize, bytes: usize) {
    if bytes == 0 {
        return;
    }
    let t = me();
    // SAFETY: `t` is this thread's. Tags of a range that the program writes are mapped; one that
    // wraps or leaves the addresses of programs is left to the store itself to fault on.
    unsafe {
        if (*t).depth == 0 && !granule::THREADS {
            return;
        }
        let last = address.wrapping_add(bytes - 1);
        if last < address || last >> 47 != 0 {
            return;
        }
        // Most ranges are short, and logged already.
        if granule::TAGGED
            && last / SIZE - address / SIZE <= 1
            && *granule::tag(address) == (*t).tag
            && *granule::tag(last) == (*t).tag
        {
            return;
        }
        span(t, address, last);
    }
}

/// Logs what is not logged yet of `address` to `last`.
#[inline(never)]
unsafe fn span(t: *mut Thread, address: usize, last: usize) {
    // SAFETY: as in `range`.
    unsafe {
        let mut at = address & !(SIZE - 1);
        if !granule::TAGGED {
            while at <= last && (*t).depth != 0 {
                slow(t, at);
                at += SIZE;
            }
            return;
        }
        let mine = (*t).tag;
        if *granule::tag(at) != mine {
            // If it cannot be read, the fault is to tell the very address.
            (address as *const u8).read_volatile();
        }
        while at <= last {
            let tag = *granule::tag(at);
            let left = (last - at) / SIZE + 1;
            let same = alike(at, tag, left);
            if tag != mine {
                if same > 1 && (*t).depth != 0 && (tag == 0 || !granule::THREADS) {
                    run(t, at, same, tag);
                } else {
                    let mut i = 0;
                    while i < same {
                        slow(t, at + i * SIZE);
                        i += 1;
                    }
                }
            }
            at += same * SIZE;
        }
    }
}

/// How many granules from `at` on, at most `most`, have this tag. At least one has.
#[inline(always)]
unsafe fn alike(at: usize, tag: u8, most: usize) -> usize {
    let tags = granule::tag(at);
    let all = u64::from(tag) * 0x0101_0101_0101_0101;
    let mut n = 1;
    // SAFETY: the tags of a range of the program.
    unsafe {
        while n + 8 <= most && tags.add(n).cast::<u64>().read_unaligned() == all {
            n += 8;
        }
        while n < most && *tags.add(n) == tag {
            n += 1;
        }
    }
    n
}

/// Logs `n` neighbours that have one tag.
#[inline(never)]
unsafe fn run(t: *mut Thread, at: usize, n: usize, old: u8) {
    // SAFETY: as in `slow`.
    unsafe {
        let top = (*t).top;
        let bytes = n * SIZE;
        if top + bytes > (*t).end {
            full();
        }
        if bytes < 1024 {
            let (from, to) = (at as *const u64, top as *mut u64);
            let mut i = 0;
            while i < bytes / 8 {
                to.add(i).write(from.add(i).read());
                i += 1;
            }
        } else {
            sys::copy(at, top, bytes);
        }
        let words = (top + bytes) as *mut u64;
        words.write(n as u64);
        words.add(1).write(at as u64 | u64::from(old) << 56 | RUN);
        (*t).top = top + bytes + 16;
        set_tags(at, n, (*t).tag);
    }
}

unsafe fn set_tags(at: usize, n: usize, tag: u8) {
    // SAFETY: tags of the program's granules.
    unsafe {
        if n >= 256 {
            sys::fill(granule::tag(at) as usize, tag, n);
        } else {
            let mut i = 0;
            let eight = u64::from(tag) * 0x0101_0101_0101_0101;
            while i + 8 <= n {
                let at = granule::tag(at).add(i).cast::<u64>();
                at.write_unaligned(eight);
                i += 8;
            }
            while i < n {
                granule::tag(at).add(i).write_volatile(tag);
                i += 1;
            }
        }
    }
}

/// Bytes of blocks beyond which [`fresh`] is not worth it: what is written of them is logged.
const FRESH: usize = 32 << 10;

/// A block was taken under a checkpoint: a rollback gives it back, so what it holds need not be kept,
/// and writes to it need no entries. Only for blocks that share no granule with others.
#[inline(always)]
pub fn fresh(t: *mut Thread, block: usize, bytes: usize) {
    if !granule::TAGGED || (block | bytes) & (SIZE - 1) != 0 || bytes > FRESH {
        return;
    }
    // SAFETY: `t` is this thread's; the block is nobody else's, nor was it at any checkpoint that
    // has not ended (a block freed under one is taken again only after it): its granules have no owner.
    unsafe {
        let top = (*t).top;
        if (*t).depth == 0 || top > (*t).end {
            return;
        }
        let words = top as *mut u64;
        words.write((bytes / SIZE) as u64);
        words.add(1).write(block as u64 | BARE);
        (*t).top = top + 16;
        set_tags(block, bytes / SIZE, (*t).tag);
    }
}

#[cold]
fn full() -> ! {
    sys::die("the log of a checkpoint is full: too much was written since it was taken")
}

/// An entry of the log, found from its end.
struct Entry {
    begin: usize,
    at: usize,
    granules: usize,
    old: u8,
    /// Whether it has the granules' bytes.
    whole: bool,
}

/// The entry that ends at `end`.
#[inline(always)]
unsafe fn entry(end: usize) -> Entry {
    // SAFETY: entries end with their word.
    unsafe {
        let word = *((end - 8) as *const u64);
        let at = word as usize & ADDRESS & !((RUN | BARE) as usize);
        let old = (word >> 56) as u8;
        if word & (RUN | BARE) == 0 {
            return Entry {
                begin: end - ENTRY,
                at,
                granules: 1,
                old,
                whole: true,
            };
        }
        let granules = *((end - 16) as *const u64) as usize;
        let whole = word & BARE == 0;
        Entry {
            begin: end - 16 - if whole { granules * SIZE } else { 0 },
            at,
            granules,
            old,
            whole,
        }
    }
}

/// Writes back what was logged since `frame`, and gives the granules their former tags.
///
/// Bytes of the stack below the checkpoint are dead, and our own frames lie there: they are left.
///
/// # Safety
/// `t` is this thread's and busy; `frame` is its innermost.
pub unsafe fn undo(t: *mut Thread, frame: *mut Frame) {
    let here = 0u8;
    let here = (&raw const here as usize).saturating_sub(1 << 16);
    // SAFETY: entries between the frame's mark and the top were made by `slow`; what they name was
    // readable then and stays mapped (`maps` defers unmapping); what differs was writable.
    unsafe {
        let floor = (*frame).rsp;
        let dead = if floor > here && floor - here < 1 << 30 {
            here
        } else {
            floor
        };
        let mut end = (*t).top;
        while end > (*frame).log {
            let one = entry(end);
            end = one.begin;
            let (from, to) = (one.begin as *const u64, one.at as *mut u64);
            let bytes = if one.whole { one.granules * SIZE } else { 0 };
            if one.at + bytes <= dead || one.at >= floor {
                let mut i = 0;
                while i < bytes / 8 {
                    let value = from.add(i).read_volatile();
                    if to.add(i).read_volatile() != value {
                        to.add(i).write_volatile(value);
                    }
                    i += 1;
                }
            } else {
                let mut i = 0;
                while i < bytes {
                    if one.at + i < dead || one.at + i >= floor {
                        let value = from.cast::<u8>().add(i).read_volatile();
                        to.cast::<u8>().add(i).write_volatile(value);
                    }
                    i += 1;
                }
            }
            (*t).undone += (bytes / SIZE) as u64;
            if granule::TAGGED {
                let mut i = 0;
                while i < one.granules {
                    // The oldest entry has the last word: later ones, of levels that ended inside
                    // this one, name levels that are no more. Another thread's tag is left.
                    let tag = granule::tag(one.at).add(i);
                    if !granule::THREADS || *tag == (*frame).tag || state::ever_mine(t, *tag) {
                        *tag = one.old;
                    }
                    i += 1;
                }
            }
        }
        note_high(t);
        (*t).top = (*frame).log;
    }
}

/// Keeps what was logged since `frame`: the granules belong to the level outside from now on.
///
/// # Safety
/// As [`undo`].
pub unsafe fn keep(t: *mut Thread, frame: *mut Frame, outer: u8) {
    // SAFETY: as in `undo`; only tags are written.
    unsafe {
        let tag = (*frame).tag;
        let mut end = (*t).top;
        if granule::TAGGED {
            while end > (*frame).log {
                let one = entry(end);
                end = one.begin;
                if !granule::THREADS {
                    if one.granules == 1 {
                        *granule::tag(one.at) = outer;
                    } else {
                        set_tags(one.at, one.granules, outer);
                    }
                } else {
                    let mut i = 0;
                    while i < one.granules {
                        let shadow = granule::tag(one.at).add(i);
                        if *shadow == tag {
                            *shadow = outer;
                        }
                        i += 1;
                    }
                }
            }
        }
        if outer == 0 {
            note_high(t);
            (*t).top = (*frame).log;
        }
    }
}

/// Gives memory of the log back if much more than is needed was needed long ago.
///
/// # Safety
/// `t` is this thread's, and the log is whole.
unsafe fn note_high(t: *mut Thread) {
    // SAFETY: above the top nothing is needed.
    unsafe {
        let used = (*t).top - (*t).base;
        if used > (*t).high {
            (*t).high = used;
            (*t).quiet = 0;
        } else if (*t).high > 8 << 20 && used < (*t).high / 8 {
            (*t).quiet += 1;
            if (*t).quiet > 4096 {
                let keep = (used + (2 << 20)) & !((1 << 20) - 1);
                sys::forget(
                    (*t).base + keep,
                    ((*t).high + 4096).saturating_sub(keep) & !4095,
                );
                (*t).high = keep;
                (*t).quiet = 0;
            }
        } else {
            (*t).quiet = 0;
        }
    }
}

// For the pass: logs one granule (`rdi`), changing no register but r11, so that the code around a
// check need not save any (LLVM's preserve_all convention). What is rare goes to Rust.
#[cfg(granule = "line")]
global_asm!(
    ".globl __still_slow",
    ".type __still_slow,@function",
    ".balign 64",
    "__still_slow:",
    // What is changed is kept below the stack pointer: nothing is called before it is restored.
    "mov [rsp - 8], rax",
    "mov [rsp - 16], rcx",
    "mov [rsp - 24], rsi",
    "movups [rsp - 48], xmm0",
    "movups [rsp - 64], xmm1",
    "lea r11, [rip + __still_thread]",
    "mov rcx, [r11]",
    "cmp rcx, [r11 + 8]",
    "ja 9f",
    // Faults, if it does, at the very address.
    "mov al, [rdi]",
    "mov rsi, rdi",
    "shr rsi, 6",
    "cmp byte ptr [rsi + {shadow}], 0",
    "jne 9f",
    "mov rax, rdi",
    "and rax, -64",
    "movaps xmm0, [rax]",
    "movaps xmm1, [rax + 16]",
    "movups [rcx], xmm0",
    "movups [rcx + 16], xmm1",
    "movaps xmm0, [rax + 32]",
    "movaps xmm1, [rax + 48]",
    "movups [rcx + 32], xmm0",
    "movups [rcx + 48], xmm1",
    "mov [rcx + 64], rax",
    "add rcx, 72",
    "mov [r11], rcx",
    "movzx eax, byte ptr [r11 + 24]",
    "mov [rsi + {shadow}], al",
    "movups xmm0, [rsp - 48]",
    "movups xmm1, [rsp - 64]",
    "mov rsi, [rsp - 24]",
    "mov rcx, [rsp - 16]",
    "mov rax, [rsp - 8]",
    "ret",
    "9: mov rsi, [rsp - 24]",
    "mov rcx, [rsp - 16]",
    "mov rax, [rsp - 8]",
    "jmp __still_rare",
    shadow = const granule::SHADOW,
);
#[cfg(granule = "word")]
global_asm!(
    ".globl __still_slow",
    ".type __still_slow,@function",
    "__still_slow:",
    "push rax",
    "push rcx",
    "push rdx",
    "push rsi",
    "mov rdx, fs:0",
    "lea rdx, [rdx + __still_thread@tpoff]",
    "mov rcx, [rdx]",
    "cmp rcx, [rdx + 8]",
    "ja 9f",
    "mov rsi, rdi",
    "shr rsi, 3",
    "cmp byte ptr [rsi + {shadow}], 0",
    "jne 9f",
    "mov r11, rdi",
    "and r11, -8",
    "mov rax, [r11]",
    "mov [rcx], rax",
    "mov [rcx + 8], r11",
    "add rcx, 16",
    "mov [rdx], rcx",
    "movzx eax, byte ptr [rdx + 24]",
    "mov [rsi + {shadow}], al",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "ret",
    "9: pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "jmp __still_rare",
    shadow = const granule::SHADOW,
);
#[cfg(granule = "log")]
global_asm!(
    ".globl __still_slow",
    ".type __still_slow,@function",
    "__still_slow:",
    "jmp __still_rare",
);
// What the pass calls keeps every register: general ones and the lower halves of the vectors (their
// upper halves are left alone by code that is compiled for plain x86-64, as this is).
global_asm!(
    ".macro __still_kept name, function",
    ".globl \\name",
    ".type \\name,@function",
    "\\name:",
    "push rbp",
    "mov rbp, rsp",
    "push rax",
    "push rcx",
    "push rdx",
    "push rsi",
    "push rdi",
    "push r8",
    "push r9",
    "push r10",
    "sub rsp, 256",
    "and rsp, -16",
    "movups [rsp], xmm0",
    "movups [rsp + 16], xmm1",
    "movups [rsp + 32], xmm2",
    "movups [rsp + 48], xmm3",
    "movups [rsp + 64], xmm4",
    "movups [rsp + 80], xmm5",
    "movups [rsp + 96], xmm6",
    "movups [rsp + 112], xmm7",
    "movups [rsp + 128], xmm8",
    "movups [rsp + 144], xmm9",
    "movups [rsp + 160], xmm10",
    "movups [rsp + 176], xmm11",
    "movups [rsp + 192], xmm12",
    "movups [rsp + 208], xmm13",
    "movups [rsp + 224], xmm14",
    "movups [rsp + 240], xmm15",
    "call \\function",
    "movups xmm0, [rsp]",
    "movups xmm1, [rsp + 16]",
    "movups xmm2, [rsp + 32]",
    "movups xmm3, [rsp + 48]",
    "movups xmm4, [rsp + 64]",
    "movups xmm5, [rsp + 80]",
    "movups xmm6, [rsp + 96]",
    "movups xmm7, [rsp + 112]",
    "movups xmm8, [rsp + 128]",
    "movups xmm9, [rsp + 144]",
    "movups xmm10, [rsp + 160]",
    "movups xmm11, [rsp + 176]",
    "movups xmm12, [rsp + 192]",
    "movups xmm13, [rsp + 208]",
    "movups xmm14, [rsp + 224]",
    "movups xmm15, [rsp + 240]",
    "lea rsp, [rbp - 64]",
    "pop r10",
    "pop r9",
    "pop r8",
    "pop rdi",
    "pop rsi",
    "pop rdx",
    "pop rcx",
    "pop rax",
    "pop rbp",
    "ret",
    ".endm",
    ".hidden __still_rare",
    "__still_kept __still_rare, {granule}",
    "__still_kept __still_slow_span, {range}",
    granule = sym rare,
    range = sym kept_range,
);

unsafe extern "C" fn rare(address: usize) {
    granule(address);
}

unsafe extern "C" fn kept_range(address: usize, bytes: usize) {
    range(address, bytes);
}

/// One lane of a store under a mask.
#[unsafe(no_mangle)]
extern "C" fn __still_lane(address: usize, bytes: usize, on: usize) {
    if on != 0 {
        range(address, bytes);
    }
}
