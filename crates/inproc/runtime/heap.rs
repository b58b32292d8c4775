//! The program's heap: `malloc` and its family.
//!
//! An allocator of our own, because others keep their books next to the blocks, in lines that the
//! program writes: a rollback would turn the books back. Here nothing lies next to a block but
//! blocks. Small blocks (up to 32 KiB) come from chunks of 256 KiB that hold one size each; larger
//! ones are runs of chunks. Blocks of 64 bytes and more begin a line of their own, so that what an
//! uninstrumented library keeps in its blocks is not turned back with its neighbours.
//!
//! A free block's first word links to the next free one. It needs no log: blocks that are freed
//! under a checkpoint are linked at its end, and blocks taken under one are linked again after the
//! rollback has put their lines back.

use crate::{blocks, log, sys};
use core::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

const CHUNK: usize = 1 << 18;
const SMALL: usize = 1 << 15;
const RUN: u8 = 255;
const INSIDE: u8 = 254;
/// Bytes of freed runs that keep their memory, so that they need no page faults when used again.
const WARM: usize = 64 << 20;
const CLASSES: usize = 48;

/// Number of a size's class.
const fn class(bytes: usize) -> usize {
    if bytes <= 48 {
        return if bytes == 0 { 0 } else { (bytes - 1) / 16 };
    }
    if bytes <= 512 {
        return 3 + (bytes - 1) / 64;
    }
    // Four classes for each doubling.
    let top = usize::BITS as usize - 1 - (bytes - 1).leading_zeros() as usize;
    let quarter = ((bytes - 1) >> (top - 2)) & 3;
    11 + (top - 9) * 4 + quarter
}

/// Bytes of a class's blocks.
const fn bytes_of(class: usize) -> usize {
    if class < 3 {
        return (class + 1) * 16;
    }
    if class < 11 {
        return (class - 2) * 64;
    }
    let top = (class - 11) / 4 + 9;
    (5 + (class - 11) % 4) << (top - 2)
}

const _: () = {
    let mut bytes = 1;
    while bytes <= SMALL {
        let c = class(bytes);
        assert!(c < CLASSES && bytes_of(c) >= bytes);
        assert!(c == 0 || bytes_of(c - 1) < bytes);
        bytes += if bytes < 4096 { 1 } else { 37 };
    }
};

#[repr(C, align(64))]
struct Heap {
    base: usize,
    chunks: usize,
    /// First chunk never used yet.
    fresh: usize,
    classes: usize,
    runs: usize,
    warm: usize,
    free: [usize; CLASSES],
    bump: [usize; CLASSES],
    limit: [usize; CLASSES],
    /// Free runs of 1 to 63 chunks, and longer ones in 0: index of the first chunk + 1.
    spans: [u32; 64],
}

static mut HEAP: Heap = Heap {
    base: 0,
    chunks: 0,
    fresh: 0,
    classes: 0,
    runs: 0,
    warm: 0,
    free: [0; CLASSES],
    bump: [0; CLASSES],
    limit: [0; CLASSES],
    spans: [0; 64],
};

#[repr(C, align(64))]
struct Lock {
    held: AtomicBool,
    taken: AtomicUsize,
    rest: [usize; 6],
}
static LOCK: Lock = Lock {
    held: AtomicBool::new(false),
    taken: AtomicUsize::new(0),
    rest: [0; 6],
};

/// Bytes of chunks in use.
pub fn taken() -> usize {
    LOCK.taken.load(Ordering::Relaxed)
}

pub fn lock() {
    if !crate::thread::many() {
        LOCK.held.store(true, Ordering::Relaxed);
        return;
    }
    let mut tries = 0;
    while LOCK.held.swap(true, Ordering::Acquire) {
        tries += 1;
        if tries > 64 {
            sys::yield_now();
        }
        core::hint::spin_loop();
    }
}

pub fn unlock() {
    LOCK.held.store(false, Ordering::Release);
}

/// Whether a fault now may be in the middle of the heap's books.
pub fn held() -> bool {
    LOCK.held.load(Ordering::Relaxed)
}

#[inline(always)]
fn heap() -> *mut Heap {
    &raw mut HEAP
}

#[inline(always)]
fn each(list: *mut [usize; CLASSES], i: usize) -> *mut usize {
    list.cast::<usize>().wrapping_add(i)
}

#[inline(always)]
unsafe fn class_at(h: *mut Heap, chunk: usize) -> *mut u8 {
    // SAFETY: under the lock, or of a block that is in use.
    unsafe { ((*h).classes + chunk) as *mut u8 }
}

#[inline(always)]
unsafe fn run_at(h: *mut Heap, chunk: usize) -> *mut u32 {
    // SAFETY: as above. Two words for each chunk: chunks of the run (upper bit: warm), next free.
    unsafe { ((*h).runs + chunk * 8) as *mut u32 }
}

#[cold]
unsafe fn begin(h: *mut Heap) -> bool {
    // SAFETY: under the lock.
    unsafe {
        let mut bytes = 1usize << 40;
        loop {
            let base = sys::reserve(bytes + CHUNK);
            if base != 0 {
                (*h).chunks = bytes / CHUNK;
                let books = sys::reserve((*h).chunks * 9);
                if books == 0 {
                    return false;
                }
                (*h).classes = books;
                (*h).runs = books + (*h).chunks;
                (*h).base = (base + CHUNK - 1) & !(CHUNK - 1);
                return true;
            }
            bytes /= 4;
            if bytes < 1 << 28 {
                return false;
            }
        }
    }
}

const IS_WARM: u32 = 1 << 31;

/// A run of chunks: its first, and whether its memory may hold old content. usize::MAX if none.
unsafe fn take_run(h: *mut Heap, n: usize) -> (usize, bool) {
    // SAFETY: under the lock; free runs are linked through their entries.
    unsafe {
        let spans = (&raw mut (*h).spans).cast::<u32>();
        let mut bin = if n < 64 { n } else { 0 };
        let mut looked = 0;
        loop {
            let mut link = spans.add(bin);
            while *link != 0 && looked < 512 {
                looked += 1;
                let chunk = *link as usize - 1;
                let run = run_at(h, chunk);
                let have = (*run & !IS_WARM) as usize;
                if have >= n {
                    let warm = *run & IS_WARM != 0;
                    *link = *run.add(1);
                    if warm {
                        (*h).warm -= have * CHUNK;
                    }
                    if have > n {
                        put_run(h, chunk + n, have - n, warm);
                    }
                    return (chunk, warm);
                }
                link = run.add(1);
            }
            if bin == 0 {
                break;
            }
            // The next larger sizes, at last the long ones.
            bin = if bin + 1 < 64 { bin + 1 } else { 0 };
        }
        if (*h).fresh + n > (*h).chunks {
            return (usize::MAX, false);
        }
        let chunk = (*h).fresh;
        (*h).fresh += n;
        (chunk, false)
    }
}

/// Makes a run free.
unsafe fn put_run(h: *mut Heap, chunk: usize, n: usize, warm: bool) {
    // SAFETY: under the lock; the run is nobody's.
    unsafe {
        let bin = if n < 64 { n } else { 0 };
        let head = (&raw mut (*h).spans).cast::<u32>().add(bin);
        let run = run_at(h, chunk);
        *run = n as u32 | if warm { IS_WARM } else { 0 };
        *run.add(1) = *head;
        *head = chunk as u32 + 1;
        *class_at(h, chunk) = 0;
        if warm {
            (*h).warm += n * CHUNK;
        }
    }
}

/// A block of a class.
#[inline(always)]
unsafe fn small(h: *mut Heap, c: usize) -> usize {
    // SAFETY: under the lock.
    unsafe {
        let head = each(&raw mut (*h).free, c);
        let block = *head;
        if block != 0 {
            *head = *(block as *const usize);
            return block;
        }
        let (bump, limit) = (each(&raw mut (*h).bump, c), each(&raw mut (*h).limit, c));
        let bytes = bytes_of(c);
        if *bump + bytes > *limit {
            if (*h).base == 0 && !begin(h) {
                return 0;
            }
            let (chunk, _) = take_run(h, 1);
            if chunk == usize::MAX {
                return 0;
            }
            *class_at(h, chunk) = c as u8 + 1;
            LOCK.taken.fetch_add(CHUNK, Ordering::Relaxed);
            *bump = (*h).base + chunk * CHUNK;
            *limit = *bump + CHUNK;
        }
        let block = *bump;
        *bump += bytes;
        block
    }
}

/// A run for `bytes` at a multiple of `align` (at least a chunk), and whether it may be dirty.
unsafe fn large(h: *mut Heap, bytes: usize, align: usize) -> (usize, bool) {
    // SAFETY: under the lock.
    unsafe {
        if bytes > 1 << 46 || ((*h).base == 0 && !begin(h)) {
            return (0, false);
        }
        let n = bytes.div_ceil(CHUNK);
        let extra = if align > CHUNK { align / CHUNK } else { 0 };
        let (mut chunk, warm) = take_run(h, n + extra);
        if chunk == usize::MAX {
            return (0, false);
        }
        if extra != 0 {
            let at = (*h).base + chunk * CHUNK;
            let skip = (((at + align - 1) & !(align - 1)) - at) / CHUNK;
            if skip > 0 {
                put_run(h, chunk, skip, warm);
            }
            if extra > skip {
                put_run(h, chunk + skip + n, extra - skip, warm);
            }
            chunk += skip;
        }
        *class_at(h, chunk) = RUN;
        *run_at(h, chunk) = n as u32;
        LOCK.taken.fetch_add(n * CHUNK, Ordering::Relaxed);
        ((*h).base + chunk * CHUNK, warm)
    }
}

/// A block, and whether it may hold old content; 0 if there is none.
unsafe fn take(bytes: usize, align: usize) -> (usize, bool) {
    // SAFETY: the books are ours under the lock.
    unsafe {
        let h = heap();
        let mut bytes = bytes;
        if align > 16 {
            if bytes < align {
                bytes = align;
            }
            if align > 64 && bytes < SMALL {
                bytes = bytes.next_power_of_two();
            } else if bytes < 64 {
                bytes = 64;
            }
        }
        lock();
        if bytes <= SMALL && align <= SMALL {
            let class = class(bytes);
            let block = small(h, class);
            unlock();
            blocks::took(block, bytes_of(class));
            (block, true)
        } else {
            let (block, dirty) = large(h, bytes, align);
            unlock();
            blocks::took(block, (bytes + CHUNK - 1) & !(CHUNK - 1));
            (block, dirty)
        }
    }
}

/// Whether an address may be a block's.
unsafe fn ours(h: *mut Heap, block: usize) -> bool {
    // SAFETY: the bounds change once, before any block exists.
    unsafe { (*h).base != 0 && block.wrapping_sub((*h).base) < (*h).chunks * CHUNK }
}

/// Makes a block free now.
///
/// # Safety
/// It is one, and nobody uses it.
pub unsafe fn give(block: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        let h = heap();
        if !ours(h, block) {
            return;
        }
        lock();
        let chunk = (block - (*h).base) / CHUNK;
        match *class_at(h, chunk) {
            RUN => {
                let n = (*run_at(h, chunk) & !IS_WARM) as usize;
                let warm = (*h).warm + n * CHUNK <= WARM;
                if !warm {
                    sys::forget(block, n * CHUNK);
                }
                LOCK.taken.fetch_sub(n * CHUNK, Ordering::Relaxed);
                put_run(h, chunk, n, warm);
            }
            0 | INSIDE => {
                unlock();
                sys::die("free() of something that is no block, or of a large block twice");
            }
            c => {
                let head = each(&raw mut (*h).free, c as usize - 1);
                *(block as *mut usize) = *head;
                *head = block;
            }
        }
        unlock();
    }
}

/// Usable bytes of a block.
unsafe fn size(block: usize) -> usize {
    // SAFETY: the block is in use.
    unsafe {
        let h = heap();
        if !ours(h, block) {
            return 0;
        }
        let chunk = (block - (*h).base) / CHUNK;
        match *class_at(h, chunk) {
            RUN => (*run_at(h, chunk) & !IS_WARM) as usize * CHUNK,
            0 => 0,
            c => bytes_of(c as usize - 1),
        }
    }
}

#[cold]
fn none() -> usize {
    // SAFETY: errno is this thread's.
    unsafe { *sys::__errno_location() = 12 };
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_malloc(bytes: usize) -> usize {
    // SAFETY: any size and the least alignment are fine.
    let (block, _) = unsafe { take(bytes, 16) };
    if block == 0 { none() } else { block }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_calloc(n: usize, each: usize) -> usize {
    let Some(bytes) = n.checked_mul(each) else {
        return none();
    };
    // SAFETY: the block is new; nobody else knows it, and a rollback gives it back: no log.
    unsafe {
        let (block, dirty) = take(bytes, 16);
        if block == 0 {
            return none();
        }
        if dirty {
            sys::fill(block, 0, bytes);
        }
        block
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_free(block: usize) {
    if block != 0 && !blocks::put_off(block) {
        // SAFETY: `free`'s contract.
        unsafe { give(block) };
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_realloc(block: usize, bytes: usize) -> usize {
    // SAFETY: `realloc`'s contract. The new block needs no log, see `calloc`.
    unsafe {
        if block == 0 {
            return __still_malloc(bytes);
        }
        if bytes == 0 {
            __still_free(block);
            return 0;
        }
        let have = size(block);
        if bytes <= have && (bytes > have / 2 || have <= 64) {
            return block;
        }
        let (new, _) = take(bytes, 16);
        if new == 0 {
            return none();
        }
        sys::copy(block, new, if have < bytes { have } else { bytes });
        __still_free(block);
        new
    }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_reallocarray(block: usize, n: usize, each: usize) -> usize {
    let Some(bytes) = n.checked_mul(each) else {
        return none();
    };
    // SAFETY: as `realloc`.
    unsafe { __still_realloc(block, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_memalign(align: usize, bytes: usize) -> usize {
    if !align.is_power_of_two() || align > 1 << 40 {
        return none();
    }
    // SAFETY: a power of two.
    let (block, _) = unsafe { take(bytes, align) };
    if block == 0 { none() } else { block }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_posix_memalign(out: *mut usize, align: usize, bytes: usize) -> i32 {
    if !align.is_power_of_two() || !align.is_multiple_of(8) || align > 1 << 40 {
        return 22;
    }
    // SAFETY: a power of two; `out` is the caller's.
    unsafe {
        let (block, _) = take(bytes, align);
        if block == 0 {
            return 12;
        }
        log::range(out as usize, 8);
        *out = block;
    }
    0
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_valloc(bytes: usize) -> usize {
    // SAFETY: as `memalign`.
    unsafe { __still_memalign(4096, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_malloc_usable_size(block: usize) -> usize {
    if block == 0 {
        return 0;
    }
    // SAFETY: the caller's block.
    unsafe { size(block) }
}

// Weak, so that a program that brings its own allocator keeps it.
core::arch::global_asm!(
    ".irp name, malloc, calloc, free, realloc, reallocarray, memalign, posix_memalign, valloc, malloc_usable_size",
    ".weak \\name",
    ".type \\name,@function",
    ".set \\name, __still_\\name",
    ".endr",
    ".weak aligned_alloc",
    ".type aligned_alloc,@function",
    ".set aligned_alloc, __still_memalign",
    ".weak cfree",
    ".set cfree, __still_free",
);
