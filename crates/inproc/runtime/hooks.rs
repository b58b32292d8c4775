//! What LLVM's `kernel-address` instrumentation calls, and what our own pass calls.

use crate::{granule, log, thunks};

macro_rules! stores {
    ($($name:ident $report:ident $bytes:literal)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(address: usize) {
            log::small(address, $bytes);
        }
        #[unsafe(no_mangle)]
        extern "C" fn $report(address: usize) {
            log::small(address, $bytes);
        }
    )*};
}
stores! {
    __asan_store1_noabort __asan_store1 1
    __asan_store2_noabort __asan_store2 2
    __asan_store4_noabort __asan_store4 4
    __asan_store8_noabort __asan_store8 8
}
macro_rules! wide {
    ($($name:ident $bytes:literal)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name(address: usize) {
            if granule::TAGGED && granule::SIZE >= $bytes {
                log::small(address, $bytes);
            } else {
                log::range(address, $bytes);
            }
        }
    )*};
}
wide! { __asan_store16_noabort 16 __asan_store16 16 }

macro_rules! nothing {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() {}
    )*};
}
nothing! {
    __asan_load1_noabort __asan_load2_noabort __asan_load4_noabort __asan_load8_noabort
    __asan_load16_noabort __asan_loadN_noabort __asan_load1 __asan_load2 __asan_load4 __asan_load8
    __asan_load16 __asan_loadN __asan_handle_no_return
}

#[unsafe(no_mangle)]
extern "C" fn __asan_storeN(address: usize, bytes: usize) {
    log::range(address, bytes);
}

#[unsafe(no_mangle)]
extern "C" fn __asan_storeN_noabort(address: usize, bytes: usize) {
    log::range(address, bytes);
}

/// A range is about to be written: for the pass, and for programs that know of a writer that
/// nobody instruments.
#[unsafe(no_mangle)]
extern "C" fn still_inproc_range(address: usize, bytes: usize) {
    log::range(address, bytes);
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __asan_memcpy(to: usize, from: usize, bytes: usize) -> usize {
    log::range(to, bytes);
    // SAFETY: the program's own copy.
    unsafe { thunks::real_memcpy(to, from, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __asan_memmove(to: usize, from: usize, bytes: usize) -> usize {
    log::range(to, bytes);
    // SAFETY: the program's own copy.
    unsafe { thunks::real_memmove(to, from, bytes) }
}

#[unsafe(no_mangle)]
unsafe extern "C" fn __asan_memset(to: usize, byte: i32, bytes: usize) -> usize {
    log::range(to, bytes);
    // SAFETY: the program's own fill.
    unsafe { thunks::real_memset(to, byte, bytes) }
}
