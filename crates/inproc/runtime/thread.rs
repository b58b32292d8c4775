//! Threads: whether there are several, what ends with one, and the locks it took.
//!
//! A lock taken since the checkpoint is released by its rollback, and one released since is taken
//! again, in reverse order. (Where granules are lines a program has one thread; then a lock is data
//! like all other, and logged before the C library writes it.)

use crate::state::{self, Thread, me};
use crate::{checkpoint, granule, heap, sys};
use core::ffi::c_void;
use core::sync::atomic::{AtomicBool, AtomicU32, Ordering};

static MANY: AtomicBool = AtomicBool::new(false);
static KEY: AtomicU32 = AtomicU32::new(u32::MAX);

/// Whether a second thread was ever made.
#[inline(always)]
pub fn many() -> bool {
    MANY.load(Ordering::Relaxed)
}

/// Before the first instruction of the program's own.
pub fn begin() {
    let mut key = 0;
    // SAFETY: plain registrations with functions that live as long as the program.
    unsafe {
        if sys::pthread_key_create(&mut key, ended) == 0 {
            KEY.store(key, Ordering::Relaxed);
        }
        sys::pthread_atfork(before_fork, after_fork, after_fork);
    }
}

unsafe extern "C" fn before_fork() {
    heap::lock();
}

unsafe extern "C" fn after_fork() {
    heap::unlock();
}

/// A thread has state from now on: have its end told.
pub fn entered(t: *mut Thread) {
    let key = KEY.load(Ordering::Relaxed);
    if key != u32::MAX {
        // SAFETY: the key exists.
        unsafe { sys::pthread_setspecific(key, t.cast::<c_void>()) };
    }
}

/// A thread ends: what it did stays.
unsafe extern "C" fn ended(_: *mut c_void) {
    let t = me();
    // SAFETY: this thread's; called by it.
    unsafe {
        if (*t).prepared != 0 {
            for _ in 0..(*t).depth {
                checkpoint::commit(t);
            }
            state::leave(t);
        }
    }
}

/// Called before `pthread_create` makes a thread. Not 0: it must not.
pub unsafe fn another() -> i32 {
    // SAFETY: this thread's.
    if !granule::THREADS && unsafe { (*me()).depth } != 0 {
        sys::say(&[
            "still: no thread can begin under a checkpoint in a program built for one thread; build it with --threads\n",
        ]);
        return 11;
    }
    MANY.store(true, Ordering::Relaxed);
    if !granule::THREADS {
        // SAFETY: this thread's. Its next checkpoint has to be refused.
        unsafe { (*me()).quick = 0 };
    }
    0
}

/// What became of a lock: the low bits of its address.
pub mod kind {
    pub const MUTEX_TAKEN: usize = 0;
    pub const MUTEX_LEFT: usize = 1;
    pub const RW_TAKEN: usize = 2;
    pub const RW_LEFT: usize = 3;
}

/// Notes what became of a lock.
#[cfg(not(granule = "line"))]
pub fn lock_changed(lock: usize, kind: usize) {
    let t = me();
    // SAFETY: this thread's; the list is bounded by what it was reserved for.
    unsafe {
        if (*t).depth == 0 || (*t).busy != 0 {
            return;
        }
        let floor = (*state::next(t).sub(1)).locks;
        // Taken and left again at the same level: nothing to undo.
        if kind & 1 == 1
            && (*t).locks > floor
            && *(((*t).locks - 8) as *const usize) == lock | (kind & 2)
        {
            (*t).locks -= 8;
            return;
        }
        if (*t).locks + 8 > (*t).region + (*t).region_bytes {
            sys::die("too many locks were taken or left since the checkpoint");
        }
        *((*t).locks as *mut usize) = lock | kind;
        (*t).locks += 8;
    }
}

/// Turns back what became of locks since the level began.
///
/// # Safety
/// `t` is this thread's and busy.
pub unsafe fn unlock(t: *mut Thread, floor: usize) {
    // SAFETY: the list holds locks of the program.
    unsafe {
        while (*t).locks > floor {
            (*t).locks -= 8;
            let word = *((*t).locks as *const usize);
            crate::thunks::turn_back(word & !7, word & 7);
        }
    }
}
