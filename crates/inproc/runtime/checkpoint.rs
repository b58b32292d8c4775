//! Taking a checkpoint, going back to it, keeping what was done since.
//!
//! Two forms. The *open* form returns twice, as `setjmp` does: registers are kept, and the frame of
//! the function that called it ([sp, its frame's end)), because spilled registers are written by
//! instructions that nobody instruments. Stores of any function to its own locals need no log: a
//! function called since the checkpoint is dead after a rollback, one further out does not run, and
//! that of the checkpoint has its frame copied. The *closed* form calls a function and returns once;
//! it copies nothing of the stack.

use crate::state::{self, DEPTH, Frame, Thread, me};
use crate::{blocks, granule, log, sys, thread};
use core::arch::global_asm;
use core::arch::x86_64::__m128i;
use core::mem::offset_of;

pub const TAKEN: i32 = 0;
pub const REFUSED: i32 = -1;

/// Why a checkpoint was refused; the header has the same.
pub mod refusal {
    pub const MEMORY: u8 = 1;
    pub const DEPTH: u8 = 2;
    pub const THREADS: u8 = 3;
    pub const TAGS: u8 = 4;
}

#[cfg(granule = "line")]
macro_rules! this_thread {
    () => {
        "lea rax, [rip + __still_thread]"
    };
}
#[cfg(not(granule = "line"))]
macro_rules! this_thread {
    () => {
        "mov rax, fs:0\nlea rax, [rax + __still_thread@tpoff]"
    };
}

// The outermost level of a thread that had one before is taken here: what it keeps that does not change
// was written once (`state::prepare`), so that nothing is asked, and nothing waits for what the last
// commit has just written. All else is `begin`'s.
#[cfg(granule = "line")]
macro_rules! outer_end {
    () => {
        "# {limit}"
    };
}
// With threads, only the end of the log tells that there is a level.
#[cfg(not(granule = "line"))]
macro_rules! outer_end {
    () => {
        "mov rdx, [rax + {limit}]\nmov [rax + 8], rdx"
    };
}

/// The registers a caller keeps, into the outermost frame. `rsi`: its stack pointer after the call.
macro_rules! save_outermost {
    () => {
        "mov [rax + {frames}], rsi
        mov rdx, [rsp]
        mov [rax + {frames} + 8], rdx
        mov [rax + {frames} + 16], rbx
        mov [rax + {frames} + 24], rbp
        mov [rax + {frames} + 32], r12
        mov [rax + {frames} + 40], r13
        mov [rax + {frames} + 48], r14
        mov [rax + {frames} + 56], r15"
    };
}

global_asm!(
    ".globl still_inproc_checkpoint_at",
    ".type still_inproc_checkpoint_at,@function",
    ".balign 64",
    "still_inproc_checkpoint_at:",
    this_thread!(),
    "cmp qword ptr [rax + {word}], {outside}",
    "jne 5f",
    "lea rsi, [rsp + 8]",
    "mov rcx, rdi",
    "sub rcx, rsi",
    "cmp rcx, 4096",
    "ja 4f",
    save_outermost!(),
    // The frame, from its end: the last 16 bytes, then what is before them, by 64 and by 16.
    "mov rdi, [rax + {stack_base}]",
    "movups xmm0, [rsi + rcx]",
    "movups [rdi + rcx], xmm0",
    "lea rdx, [rdi + rcx + 16]",
    "mov [rax + {stack}], rdx",
    "cmp rcx, 64",
    "jb 2f",
    "22: movups xmm0, [rsi]",
    "movups xmm1, [rsi + 16]",
    "movups xmm2, [rsi + 32]",
    "movups xmm3, [rsi + 48]",
    "movups [rdi], xmm0",
    "movups [rdi + 16], xmm1",
    "movups [rdi + 32], xmm2",
    "movups [rdi + 48], xmm3",
    "add rsi, 64",
    "add rdi, 64",
    "sub rcx, 64",
    "cmp rcx, 64",
    "jae 22b",
    "2: test rcx, rcx",
    "jz 3f",
    "23: movups xmm0, [rsi]",
    "movups [rdi], xmm0",
    "add rsi, 16",
    "add rdi, 16",
    "sub rcx, 16",
    "ja 23b",
    "3: mov rdx, [rax + {mask}]",
    "mov [rax + {frames} + {mask_of}], rdx",
    outer_end!(),
    "inc qword ptr [rax + {checkpoints}]",
    "mov rdx, [rax + {inside}]",
    "mov [rax + {word}], rdx",
    "xor eax, eax",
    "ret",
    // The closed form: no frame.
    "4: test rdi, rdi",
    "jnz 5f",
    save_outermost!(),
    "mov rdx, [rax + {stack_base}]",
    "mov [rax + {stack}], rdx",
    "jmp 3b",
    "5: cmp byte ptr [rax + {prepared}], 0",
    "je 7f",
    "6: mov ecx, [rax + {depth}]",
    "shl rcx, {frame}",
    "lea rcx, [rax + rcx + {frames}]",
    "mov rdx, [rsp]",
    "mov [rcx + 8], rdx",
    "lea rdx, [rsp + 8]",
    "mov [rcx], rdx",
    "mov [rcx + 16], rbx",
    "mov [rcx + 24], rbp",
    "mov [rcx + 32], r12",
    "mov [rcx + 40], r13",
    "mov [rcx + 48], r14",
    "mov [rcx + 56], r15",
    "mov rsi, rax",
    "mov rdx, rcx",
    "jmp {begin}",
    "7: push rdi",
    "mov rdi, rax",
    "call {prepare}",
    "pop rdi",
    "test al, al",
    "jz 8f",
    this_thread!(),
    "jmp 6b",
    "8: mov eax, -1",
    "ret",
    word = const state::WORD,
    outside = const state::OUTSIDE,
    frames = const offset_of!(Thread, frames),
    frame = const size_of::<Frame>().trailing_zeros(),
    prepared = const offset_of!(Thread, prepared),
    depth = const offset_of!(Thread, depth),
    mask_of = const offset_of!(Frame, mask),
    stack = const offset_of!(Thread, stack),
    stack_base = const offset_of!(Thread, stack_base),
    mask = const offset_of!(Thread, mask),
    inside = const offset_of!(Thread, inside),
    limit = const offset_of!(Thread, limit),
    checkpoints = const offset_of!(Thread, checkpoints),
    begin = sym begin,
    prepare = sym first,
);

global_asm!(
    ".hidden __still_resume",
    ".globl __still_resume",
    ".type __still_resume,@function",
    "__still_resume:",
    "mov r8, rdi",
    "mov rdi, [r8]",
    "mov rcx, rdx",
    "cld",
    "rep movsb",
    "mov rbx, [r8 + 16]",
    "mov rbp, [r8 + 24]",
    "mov r12, [r8 + 32]",
    "mov r13, [r8 + 40]",
    "mov r14, [r8 + 48]",
    "mov r15, [r8 + 56]",
    "mov rsp, [r8]",
    "mov eax, 1",
    "jmp [r8 + 8]",
);

unsafe extern "C" {
    /// Puts the stack back as it was kept (`rsi`, `rdx` bytes), then the registers, and returns 1
    /// from the checkpoint.
    fn __still_resume(frame: *const Frame, stack: usize, bytes: usize) -> !;
}

// The closed form. What the function returns says how it ends: 0 keeps, all else rolls back.
global_asm!(
    ".globl still_inproc_try",
    ".type still_inproc_try,@function",
    "still_inproc_try:",
    ".cfi_startproc",
    "push rbp",
    ".cfi_def_cfa_offset 16",
    ".cfi_offset rbp, -16",
    "mov rbp, rsp",
    ".cfi_def_cfa_register rbp",
    "push rbx",
    ".cfi_offset rbx, -24",
    "push r12",
    ".cfi_offset r12, -32",
    "mov rbx, rdi",
    "mov r12, rsi",
    "xor edi, edi",
    "call still_inproc_checkpoint_at",
    "test eax, eax",
    "jnz 3f",
    this_thread!(),
    "mov rdi, r12",
    "mov r12d, [rax + {depth}]",
    "call rbx",
    "mov edi, eax",
    "test eax, eax",
    "jnz 2f",
    this_thread!(),
    "cmp r12d, [rax + {depth}]",
    "jne 2f",
    "call still_inproc_commit",
    "jmp 3f",
    "2: mov esi, r12d",
    "call __still_finish",
    "3: pop r12",
    "pop rbx",
    "pop rbp",
    ".cfi_def_cfa rsp, 8",
    "ret",
    ".cfi_endproc",
    depth = const offset_of!(Thread, depth),
);

const _: () = assert!(size_of::<Frame>().is_power_of_two());

unsafe extern "C" fn first(t: *mut Thread) -> bool {
    // SAFETY: assembly passes this thread's.
    let ready = unsafe { state::prepare(t) };
    if !ready {
        // SAFETY: as above.
        unsafe { (*t).refused = refusal::MEMORY };
    }
    ready
}

unsafe extern "C" fn begin(fp: usize, t: *mut Thread, frame: *mut Frame) -> i32 {
    // SAFETY: assembly passes this thread's state and the frame it has just filled.
    unsafe {
        if (*t).depth as usize >= DEPTH {
            return refuse(t, refusal::DEPTH);
        }
        if !granule::THREADS && thread::many() {
            return refuse(t, refusal::THREADS);
        }
        if (*frame).tag == 0 && !state::tag_for(t, frame) {
            return refuse(t, refusal::TAGS);
        }
        if (*t).depth == 0 {
            (*t).stack = (*t).stack_base;
            (*t).new = (*t).new_base;
            if !thread::many() || granule::THREADS {
                (*t).quick = 1;
                (*t).inside = u64::from((*frame).tag) | state::OUTSIDE | 1 << 32;
            }
        }
        let sp = (*frame).rsp;
        (*frame).stack = (*t).stack;
        (*frame).log = (*t).top;
        if fp >= sp {
            let end = fp + 16;
            let bytes = end - sp;
            if !state::stack_fits(t, bytes + 16) {
                return refuse(t, refusal::MEMORY);
            }
            // A frame has a few dozen words, and an even number of them or one more.
            let (from, to) = (sp, (*t).stack);
            let words = bytes / 8;
            let mut i = 0;
            while i + 16 <= bytes {
                let two = ((from + i) as *const __m128i).read_unaligned();
                ((to + i) as *mut __m128i).write_unaligned(two);
                i += 16;
            }
            if i + 8 <= bytes {
                *((to + i) as *mut u64) = *((from + i) as *const u64);
            }
            (*t).stack += words * 8;
        }
        (*frame).new = (*t).new;
        (*frame).gone = (*t).gone;
        if granule::THREADS {
            (*frame).locks = (*t).locks;
        }
        (*frame).mask = (*t).mask;
        (*t).depth += 1;
        (*t).checkpoints += 1;
        (*t).end = (*t).limit;
        (*t).tag = (*frame).tag;
        TAKEN
    }
}

#[cold]
unsafe fn refuse(t: *mut Thread, why: u8) -> i32 {
    // SAFETY: this thread's.
    unsafe { (*t).refused = why };
    REFUSED
}

/// Ends the innermost level: what is outside it is the innermost now.
///
/// # Safety
/// `t` is this thread's, with a level.
unsafe fn end(t: *mut Thread, frame: *mut Frame) {
    // SAFETY: the caller's promise.
    unsafe {
        (*t).depth -= 1;
        (*t).stack = (*frame).stack;
        if (*t).depth == 0 {
            (*t).tag = 0;
            if granule::THREADS {
                (*t).end = 0;
            }
        } else {
            (*t).tag = (*frame.sub(1)).tag;
        }
    }
}

/// Whether the function that took the innermost checkpoint has returned, by the stack pointer of whoever
/// wants to go back (0: not known): it has if that is past what was copied of the stack.
unsafe fn returned(t: *const Thread, frame: *const Frame, sp: usize) -> bool {
    // SAFETY: the frame is the innermost level's.
    let anchor = unsafe {
        let bytes = (*t).stack - (*frame).stack;
        // The closed form's own frame.
        (*frame).rsp + if bytes == 0 { 32 } else { bytes }
    };
    // Far away is another stack: a signal's, a coroutine's.
    sp >= anchor && sp - anchor < 8 << 20
}

/// Goes back to the innermost checkpoint, which ends.
///
/// # Safety
/// `t` is this thread's.
pub unsafe fn roll_back(t: *mut Thread, reason: i32, fault: usize, sp: usize) -> ! {
    // SAFETY: the caller's promise; the frame is a level's, and its stack was looked at.
    unsafe {
        if (*t).depth == 0 {
            sys::die("a rollback without a checkpoint");
        }
        let frame = state::next(t).sub(1);
        if returned(t, frame, sp) {
            sys::die("a rollback to a checkpoint whose function has returned");
        }
        (*t).busy = 1;
        log::undo(t, frame);
        let (stack, bytes) = ((*frame).stack, (*t).stack - (*frame).stack);
        end(t, frame);
        blocks::roll_back(t, (*frame).new, (*frame).gone);
        if granule::THREADS {
            thread::unlock(t, (*frame).locks);
        }
        (*t).rollbacks += 1;
        (*t).reason = reason;
        (*t).fault = fault;
        (*t).busy = 0;
        (*t).mask = (*frame).mask;
        sys::set_mask((*frame).mask);
        __still_resume(frame, stack, bytes)
    }
}

/// Ends the innermost checkpoint and keeps what was done since.
///
/// # Safety
/// `t` is this thread's, with a level.
pub unsafe fn commit(t: *mut Thread) {
    // SAFETY: the caller's promise.
    unsafe {
        let frame = state::next(t).sub(1);
        let outer = if (*t).depth > 1 {
            (*frame.sub(1)).tag
        } else {
            0
        };
        (*t).busy = 1;
        if (*t).top != (*frame).log {
            log::keep(t, frame, outer);
        }
        end(t, frame);
        if outer == 0 {
            blocks::commit(t);
            if granule::THREADS {
                (*t).locks = (*t).locks_base;
            }
            (*t).recoveries = 0;
        }
        (*t).busy = 0;
    }
}

// With the caller's stack pointer.
global_asm!(
    ".globl still_inproc_rollback",
    ".type still_inproc_rollback,@function",
    "still_inproc_rollback:",
    "lea rsi, [rsp + 8]",
    "push rbp",
    "call {asked}",
    asked = sym asked,
);

unsafe extern "C" fn asked(reason: i32, sp: usize) -> ! {
    // SAFETY: this thread's.
    unsafe { roll_back(me(), reason, 0, sp) }
}

// The end of an outermost level that was taken quickly, and under which nothing was written or freed.
#[cfg(granule = "line")]
macro_rules! outer_over {
    () => {
        "# {locks} {locks_base}"
    };
}
#[cfg(not(granule = "line"))]
macro_rules! outer_over {
    () => {
        "mov qword ptr [rax + 8], 0\nmov rdx, [rax + {locks_base}]\nmov [rax + {locks}], rdx"
    };
}

global_asm!(
    ".globl still_inproc_commit",
    ".type still_inproc_commit,@function",
    ".balign 64",
    "still_inproc_commit:",
    this_thread!(),
    "mov rcx, [rax + {inside}]",
    "test rcx, rcx",
    "jz 3f",
    "cmp [rax + {word}], rcx",
    "jne 3f",
    "cmp qword ptr [rax + {recoveries}], 0",
    "jne 3f",
    "mov rdx, [rax]",
    "cmp rdx, [rax + 16]",
    "jne 2f",
    "mov rdx, [rax + {gone}]",
    "cmp rdx, [rax + {gone_base}]",
    "jne 2f",
    "mov rdx, [rax + {new}]",
    "cmp rdx, [rax + {new_base}]",
    "jne 2f",
    outer_over!(),
    "mov qword ptr [rax + {word}], {outside}",
    "xor eax, eax",
    "ret",
    "2: mov rdi, rax",
    "jmp {outermost}",
    "3: mov rdi, rax",
    "jmp {any}",
    word = const state::WORD,
    outside = const state::OUTSIDE,
    inside = const offset_of!(Thread, inside),
    recoveries = const offset_of!(Thread, recoveries),
    new = const offset_of!(Thread, new),
    new_base = const offset_of!(Thread, new_base),
    gone = const offset_of!(Thread, gone),
    gone_base = const offset_of!(Thread, gone_base),
    locks = const offset_of!(Thread, locks),
    locks_base = const offset_of!(Thread, locks_base),
    outermost = sym commit_outermost,
    any = sym commit_any,
);

/// As the assembly above, where something was written.
unsafe extern "C" fn commit_outermost(t: *mut Thread) -> i32 {
    // SAFETY: assembly passes this thread's, with one level, taken quickly.
    unsafe {
        let frame = (&raw mut (*t).frames).cast::<Frame>();
        state::set_word(t, (*t).inside | state::BUSY);
        log::keep(t, frame, 0);
        if granule::THREADS {
            (*t).end = 0;
            (*t).locks = (*t).locks_base;
        }
        // What is freed below is freed outside of the checkpoint.
        state::set_word(t, state::OUTSIDE | state::BUSY);
        blocks::commit(t);
        state::set_word(t, state::OUTSIDE);
    }
    0
}

unsafe extern "C" fn commit_any(t: *mut Thread) -> i32 {
    // SAFETY: assembly passes this thread's.
    unsafe {
        if (*t).depth == 0 {
            return -1;
        }
        commit(t);
    }
    0
}

/// The end of the closed form.
#[unsafe(no_mangle)]
unsafe extern "C" fn __still_finish(verdict: i32, depth: u32) -> i32 {
    let t = me();
    // SAFETY: this thread's.
    unsafe {
        if (*t).depth != depth {
            sys::die(
                "a function called by still_try() left more or fewer checkpoints than it found",
            );
        }
        if verdict != 0 {
            roll_back(t, verdict, 0, 0);
        }
        commit(t);
    }
    0
}

#[unsafe(no_mangle)]
extern "C" fn still_inproc_depth() -> u32 {
    // SAFETY: this thread's.
    unsafe { (*me()).depth }
}

#[unsafe(no_mangle)]
extern "C" fn still_inproc_reason() -> i32 {
    // SAFETY: this thread's.
    unsafe { (*me()).reason }
}

#[unsafe(no_mangle)]
extern "C" fn still_inproc_fault_address() -> usize {
    // SAFETY: this thread's.
    unsafe { (*me()).fault }
}

#[unsafe(no_mangle)]
extern "C" fn still_inproc_refusal() -> i32 {
    // SAFETY: this thread's.
    i32::from(unsafe { (*me()).refused })
}

/// Whether the program ever made a second thread.
#[unsafe(no_mangle)]
extern "C" fn still_inproc_threads() -> i32 {
    i32::from(thread::many())
}

/// A number that outlives a rollback.
#[unsafe(no_mangle)]
extern "C" fn still_inproc_note(n: i32) {
    // SAFETY: this thread's.
    unsafe { (*me()).noted = n };
}

#[unsafe(no_mangle)]
extern "C" fn still_inproc_noted() -> i32 {
    // SAFETY: this thread's.
    unsafe { (*me()).noted }
}

/// Figures about this thread; the header has the same structure.
#[repr(C)]
struct Figures {
    checkpoints: u64,
    rollbacks: u64,
    undone: u64,
    conflicts: u64,
    conflict_at: usize,
    log_bytes: usize,
    log_high_bytes: usize,
    granule: usize,
    heap_bytes: usize,
}

#[unsafe(no_mangle)]
unsafe extern "C" fn still_inproc_figures(out: *mut Figures) {
    let t = me();
    // SAFETY: this thread's; `out` is the caller's.
    unsafe {
        let used = (*t).top - (*t).base;
        *out = Figures {
            checkpoints: (*t).checkpoints,
            rollbacks: (*t).rollbacks,
            undone: (*t).undone,
            conflicts: (*t).conflicts,
            conflict_at: (*t).conflict_at,
            log_bytes: used,
            log_high_bytes: if used > (*t).high { used } else { (*t).high },
            granule: if granule::TAGGED { granule::SIZE } else { 0 },
            heap_bytes: crate::heap::taken(),
        };
    }
}
