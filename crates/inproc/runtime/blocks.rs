//! Blocks and mappings under a checkpoint: what is given back waits for the commit, what is taken
//! is given back by a rollback.
//!
//! Both lists hold words: a block's address, or a mapping's length and then its address with the
//! lowest bit set.

use crate::state::{Thread, me};
use crate::{heap, log, sys};

unsafe fn push(list: *mut usize, limit: usize, word: usize) {
    // SAFETY: `list` is the top of a list of this thread, which ends at `limit`.
    unsafe {
        if *list + 8 > limit {
            sys::die("too many blocks were allocated or freed since the checkpoint");
        }
        *(*list as *mut usize) = word;
        *list += 8;
    }
}

/// Notes a block that was taken, and the bytes it has.
#[inline(always)]
pub fn took(block: usize, bytes: usize) {
    let t = me();
    // SAFETY: this thread's.
    unsafe {
        if (*t).depth != 0 && block != 0 {
            push(&raw mut (*t).new, (*t).gone_base, block);
            log::fresh(t, block, bytes);
        }
    }
}

/// Whether a block's end was put off. If not, it ends now.
pub fn put_off(block: usize) -> bool {
    let t = me();
    // SAFETY: this thread's.
    unsafe {
        if (*t).depth == 0 || (*t).busy != 0 {
            return false;
        }
        push(&raw mut (*t).gone, (*t).locks_base, block);
    }
    true
}

pub fn mapped(at: usize, bytes: usize) {
    let t = me();
    // SAFETY: this thread's.
    unsafe {
        if (*t).depth != 0 {
            push(&raw mut (*t).new, (*t).gone_base, bytes);
            push(&raw mut (*t).new, (*t).gone_base, at | 1);
        }
    }
}

pub fn unmap_later(at: usize, bytes: usize) -> bool {
    let t = me();
    // SAFETY: this thread's.
    unsafe {
        if (*t).depth == 0 {
            return false;
        }
        push(&raw mut (*t).gone, (*t).locks_base, bytes);
        push(&raw mut (*t).gone, (*t).locks_base, at | 1);
    }
    true
}

/// A block that a rolled-back level took, while a level outside it goes on.
const DEAD: usize = 2;

/// Ends everything on a list above `floor`, or only what is dead.
unsafe fn drain(top: &mut usize, floor: usize, only_dead: bool) {
    // SAFETY: the list's words are as the functions above push them.
    unsafe {
        let mut at = *top;
        while at > floor {
            at -= 8;
            let word = *(at as *const usize);
            if word & 1 == 0 {
                if !only_dead || word & DEAD != 0 {
                    heap::give(word & !DEAD);
                }
            } else {
                at -= 8;
                if !only_dead {
                    sys::unmap(word & !1, *(at as *const usize));
                }
            }
        }
        *top = floor;
    }
}

/// Gives back what the level took that began at the marks, and forgets what it would have ended.
///
/// A block is linked into its free list only when no level is left: the line that holds the link
/// may be in the log of a level outside, and its rollback would turn the link back.
///
/// # Safety
/// `t` is this thread's and busy; the log was undone, and the level has ended.
pub unsafe fn roll_back(t: *mut Thread, new: usize, gone: usize) {
    // SAFETY: the caller's promise.
    unsafe {
        (*t).gone = gone;
        if (*t).depth == 0 {
            drain(&mut (*t).new, new, false);
            (*t).dead = 0;
            return;
        }
        let (mut from, mut to) = (new, new);
        while from < (*t).new {
            let word = *(from as *const usize);
            from += 8;
            let next = *(from as *const usize);
            if from < (*t).new && next & 1 != 0 {
                // A mapping: its length is this word.
                sys::unmap(next & !1, word);
                from += 8;
            } else {
                *(to as *mut usize) = word | DEAD;
                to += 8;
                (*t).dead = 1;
            }
        }
        (*t).new = to;
    }
}

/// # Safety
/// `t` is this thread's and busy, and has no level any more.
#[inline(always)]
pub unsafe fn commit(t: *mut Thread) {
    // SAFETY: the caller's promise.
    unsafe {
        if (*t).dead != 0 {
            drain(&mut (*t).new, (*t).new_base, true);
            (*t).dead = 0;
        }
        (*t).new = (*t).new_base;
        if (*t).gone != (*t).gone_base {
            drain(&mut (*t).gone, (*t).gone_base, false);
        }
    }
}
