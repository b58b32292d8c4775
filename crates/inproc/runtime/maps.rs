//! `mmap` and `munmap` under a checkpoint: a mapping that ends stays until the commit (its content
//! may be needed again), one that begins is removed by a rollback. Mappings that replace others
//! (`MAP_FIXED`), `mremap` and `mprotect` go through as they are: their effect is not undone.

use crate::{blocks, sys};

const FIXED: i32 = 0x10;

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_mmap(
    at: usize,
    bytes: usize,
    protection: i32,
    flags: i32,
    file: i32,
    offset: usize,
) -> isize {
    // SAFETY: the caller's call.
    let result = unsafe {
        sys::call(
            sys::MMAP,
            at,
            bytes,
            protection as usize,
            flags as usize,
            file as usize,
            offset,
        )
    };
    if (-4095..0).contains(&result) {
        // SAFETY: errno is this thread's.
        unsafe { *sys::__errno_location() = -result as i32 };
        return -1;
    }
    if flags & FIXED == 0 {
        blocks::mapped(result as usize, (bytes + 4095) & !4095);
    }
    result
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __still_munmap(at: usize, bytes: usize) -> i32 {
    if at & 4095 == 0 && bytes != 0 && blocks::unmap_later(at, (bytes + 4095) & !4095) {
        return 0;
    }
    // SAFETY: the caller's call.
    let result = unsafe { sys::unmap(at, bytes) };
    if result < 0 {
        // SAFETY: errno is this thread's.
        unsafe { *sys::__errno_location() = -result as i32 };
        return -1;
    }
    0
}

core::arch::global_asm!(
    ".weak mmap",
    ".type mmap,@function",
    ".set mmap, __still_mmap",
    ".weak mmap64",
    ".type mmap64,@function",
    ".set mmap64, __still_mmap",
    ".weak munmap",
    ".type munmap,@function",
    ".set munmap, __still_munmap",
);
