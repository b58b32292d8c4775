//! What a thread's checkpoints consist of. The layout is known to assembly (and to code that the
//! compiler pass emits): the first fields must stay where they are.

use crate::{granule, sys};
use core::arch::{asm, global_asm};
use core::sync::atomic::AtomicU64;

/// Most checkpoints inside each other in one thread.
pub const DEPTH: usize = 24;

/// Bytes reserved for a thread's log: addresses only, memory is taken as it is written.
pub const LOG: usize = 1 << 36;
const POINTERS: usize = 1 << 32;
const STACKS: usize = 1 << 28;

/// One checkpoint that has not ended. The registers come first, for assembly.
#[repr(C)]
pub struct Frame {
    pub rsp: usize,
    pub rip: usize,
    pub rbx: usize,
    pub rbp: usize,
    pub r12: usize,
    pub r13: usize,
    pub r14: usize,
    pub r15: usize,
    pub tag: u8,
    pub log: usize,
    pub stack: usize,
    pub new: usize,
    pub gone: usize,
    pub locks: usize,
    pub mask: u64,
    /// Rounds the size up to a power of two.
    pub rest: u64,
}

#[repr(C, align(64))]
pub struct Thread {
    /// Where the next entry of the log goes.
    pub top: usize,
    /// The last place where one fits; with threads 0 outside of checkpoints.
    pub end: usize,
    pub base: usize,
    // The eight bytes from here on are also read and written as one word, see `OUTSIDE`.
    /// The tag of the innermost level; 0 outside of checkpoints.
    pub tag: u8,
    /// Nothing may be rolled back in the middle of what the runtime does now.
    pub busy: u8,
    pub prepared: u8,
    /// Whether the outermost level can be taken without asking anything: it has its tag.
    pub quick: u8,
    /// Checkpoints that have not ended.
    pub depth: u32,
    pub stack: usize,
    pub stack_base: usize,
    pub new: usize,
    pub new_base: usize,
    pub gone: usize,
    pub gone_base: usize,
    pub locks: usize,
    pub locks_base: usize,
    pub mask: u64,
    /// The word of a thread with one level; 0 before it had one.
    pub inside: u64,
    /// The last place of the log where an entry fits.
    pub limit: usize,
    /// Recoveries from faults since the last commit. This and the next are read as one word.
    pub recoveries: u32,
    /// Whether blocks of rolled-back levels wait for the end of those outside.
    pub dead: u32,
    pub reason: i32,
    pub noted: i32,
    pub fault: usize,
    pub conflicts: u64,
    pub conflict_at: usize,
    pub quiet: u32,
    pub refused: u8,
    pub high: usize,
    pub region: usize,
    pub region_bytes: usize,
    pub alternate: usize,
    pub checkpoints: u64,
    pub rollbacks: u64,
    pub undone: u64,
    /// One more than there may be levels: assembly writes registers before the depth is looked at.
    pub frames: [Frame; DEPTH + 1],
}

pub const ROOM: usize = 8192;
const _: () = assert!(size_of::<Thread>() <= ROOM);

/// Where the word begins that says at one look that a thread may take its outermost level quickly,
/// or has just that level: its bytes are written together, so that a read of all is not held up.
pub const WORD: usize = core::mem::offset_of!(Thread, tag);
/// The word outside of checkpoints: prepared and quick.
pub const OUTSIDE: u64 = 1 << 16 | 1 << 24;
/// The bit of `busy`.
pub const BUSY: u64 = 1 << 8;

/// The frame that the next checkpoint takes. Not kept, so that the shortest checkpoint need not write it.
///
/// # Safety
/// `t` is this thread's.
#[inline(always)]
pub unsafe fn next(t: *mut Thread) -> *mut Frame {
    // SAFETY: the caller's promise; one frame more than there may be levels.
    unsafe {
        (&raw mut (*t).frames)
            .cast::<Frame>()
            .add((*t).depth as usize)
    }
}

/// Writes the word.
///
/// # Safety
/// `t` is this thread's.
#[inline(always)]
pub unsafe fn set_word(t: *mut Thread, word: u64) {
    // SAFETY: the caller's promise; the word is aligned, see the assertion below.
    unsafe { t.byte_add(WORD).cast::<u64>().write_volatile(word) };
}
const _: () = assert!(WORD == 24 && core::mem::offset_of!(Thread, depth) == 28);
const _: () = assert!(core::mem::offset_of!(Thread, recoveries) % 8 == 0);

#[cfg(granule = "line")]
global_asm!(
    ".pushsection .bss.still,\"aw\",@nobits",
    ".balign 64",
    ".globl __still_thread",
    ".globl __still_tag",
    ".type __still_thread,@object",
    ".size __still_thread,{room}",
    ".type __still_tag,@object",
    ".size __still_tag,1",
    ".globl __still_line",
    ".set __still_line,__still_thread",
    "__still_thread: .zero 24",
    "__still_tag: .zero {room} - 24",
    ".popsection",
    room = const ROOM,
);
#[cfg(not(granule = "line"))]
global_asm!(
    ".pushsection .tbss.still,\"awT\",@nobits",
    ".balign 64",
    ".globl __still_thread",
    ".globl __still_tag",
    ".type __still_thread,@object",
    ".size __still_thread,{room}",
    ".type __still_tag,@object",
    ".size __still_tag,1",
    "__still_thread: .zero 24",
    "__still_tag: .zero {room} - 24",
    ".popsection",
    ".pushsection .rodata.still,\"a\"",
    ".globl __still_word",
    "__still_word: .zero 8",
    ".popsection",
    room = const ROOM,
);

/// The state of this thread.
#[inline(always)]
pub fn me() -> *mut Thread {
    let thread: *mut Thread;
    #[cfg(granule = "line")]
    // SAFETY: the address of a static object.
    unsafe {
        asm!("lea {0}, [rip + __still_thread]", out(reg) thread,
             options(nostack, nomem, preserves_flags, pure));
    }
    #[cfg(not(granule = "line"))]
    // SAFETY: the address of a thread-local object in the executable (local-exec model).
    unsafe {
        asm!("mov {0}, fs:0", "lea {0}, [{0} + __still_thread@tpoff]", out(reg) thread,
             options(nostack, readonly, preserves_flags, pure));
    }
    thread
}

/// Tags in use, by threads and depths: bit n of the four words. 0 is never given.
static TAGS: [AtomicU64; 4] = [
    AtomicU64::new(1),
    AtomicU64::new(0),
    AtomicU64::new(0),
    AtomicU64::new(0),
];

/// A tag that nobody has; 0 if there is none.
fn take_tag() -> u8 {
    use core::sync::atomic::Ordering::Relaxed;
    for (index, word) in TAGS.iter().enumerate() {
        loop {
            let seen = word.load(Relaxed);
            if seen == u64::MAX {
                break;
            }
            let bit = (!seen).trailing_zeros();
            if word
                .compare_exchange(seen, seen | 1 << bit, Relaxed, Relaxed)
                .is_ok()
            {
                return (index as u32 * 64 + bit) as u8;
            }
        }
    }
    0
}

fn give_tag(tag: u8) {
    use core::sync::atomic::Ordering::Relaxed;
    for (index, word) in TAGS.iter().enumerate() {
        if index == usize::from(tag) / 64 {
            word.fetch_and(!(1 << (tag % 64)), Relaxed);
        }
    }
}

/// Whether a tag belongs to a level of this thread.
///
/// # Safety
/// `t` is this thread's.
pub unsafe fn mine(t: *mut Thread, tag: u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let mut frame = (&raw mut (*t).frames).cast::<Frame>();
        let end = next(t);
        while frame < end {
            if (*frame).tag == tag {
                return true;
            }
            frame = frame.add(1);
        }
    }
    false
}

/// Whether a tag belongs to a level that this thread has or had.
///
/// # Safety
/// `t` is this thread's.
pub unsafe fn ever_mine(t: *mut Thread, tag: u8) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let mut frame = (&raw mut (*t).frames).cast::<Frame>();
        let end = frame.add(DEPTH);
        while frame < end && (*frame).tag != 0 {
            if (*frame).tag == tag {
                return true;
            }
            frame = frame.add(1);
        }
    }
    false
}

/// Gives the thread its regions. False if there is no room for them.
///
/// # Safety
/// `t` is this thread's.
pub unsafe fn prepare(t: *mut Thread) -> bool {
    let mut log = LOG;
    let mut bytes;
    let mut at;
    loop {
        bytes = log + 3 * POINTERS + STACKS;
        at = sys::reserve(bytes);
        if at != 0 {
            break;
        }
        // A limit on addresses (ulimit -v): make do with less.
        log /= 4;
        if log < 1 << 24 {
            return false;
        }
    }
    sys::large_pages(at, log);
    // SAFETY: the caller's promise; the regions are new.
    unsafe {
        (*t).region = at;
        (*t).region_bytes = bytes;
        (*t).base = at;
        (*t).top = at;
        (*t).stack_base = at + log;
        (*t).stack = at + log;
        (*t).new_base = at + log + STACKS;
        (*t).new = (*t).new_base;
        (*t).gone_base = (*t).new_base + POINTERS;
        (*t).gone = (*t).gone_base;
        (*t).locks_base = (*t).gone_base + POINTERS;
        (*t).locks = (*t).locks_base;
        (*t).mask = sys::mask();
        (*t).prepared = 1;
        (*t).limit = at + log - 2 * (granule::SIZE + 8);
        if !granule::THREADS {
            (*t).end = (*t).limit;
        }
        // What the outermost level begins with never changes.
        let outermost = (&raw mut (*t).frames).cast::<Frame>();
        (*outermost).log = (*t).base;
        (*outermost).stack = (*t).stack_base;
        (*outermost).new = (*t).new_base;
        (*outermost).gone = (*t).gone_base;
        (*outermost).locks = (*t).locks_base;
    }
    crate::thread::entered(t);
    // SAFETY: this thread's.
    unsafe { crate::fault::alternate(t) };
    true
}

/// Whether saved stack of so many bytes fits.
///
/// # Safety
/// `t` is prepared.
pub unsafe fn stack_fits(t: *mut Thread, bytes: usize) -> bool {
    // SAFETY: the caller's promise.
    unsafe { (*t).new_base - (*t).stack > bytes }
}

/// Makes sure that the frame at the current depth has a tag.
///
/// # Safety
/// `t` is prepared.
pub unsafe fn tag_for(t: *mut Thread, frame: *mut Frame) -> bool {
    // SAFETY: the caller's promise.
    unsafe {
        let _ = t;
        if (*frame).tag == 0 {
            (*frame).tag = take_tag();
        }
        (*frame).tag != 0
    }
}

/// Ends the thread's state; its checkpoints were committed before.
///
/// # Safety
/// `t` is this thread's, prepared, with depth 0.
pub unsafe fn leave(t: *mut Thread) {
    // SAFETY: the caller's promise.
    unsafe {
        let mut frame = (&raw mut (*t).frames).cast::<Frame>();
        let end = frame.add(DEPTH);
        while frame < end {
            if (*frame).tag != 0 {
                give_tag((*frame).tag);
                (*frame).tag = 0;
            }
            frame = frame.add(1);
        }
        (*t).prepared = 0;
        (*t).quick = 0;
        (*t).inside = 0;
        sys::unmap((*t).region, (*t).region_bytes);
    }
}
