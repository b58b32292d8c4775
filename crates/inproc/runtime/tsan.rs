//! What gcc's `-fsanitize=thread` calls. Its atomic operations are calls, so they are done here.

use crate::log;
use core::sync::atomic::{AtomicU8, AtomicU16, AtomicU32, AtomicU64, Ordering::SeqCst, fence};

macro_rules! writes {
    ($($bytes:literal: $($name:ident)*;)*) => {$($(
        #[unsafe(no_mangle)]
        extern "C" fn $name(address: usize) {
            log::range(address, $bytes);
        }
    )*)*};
}
writes! {
    1: __tsan_write1 __tsan_volatile_write1 __tsan_read_write1;
    2: __tsan_write2 __tsan_unaligned_write2 __tsan_volatile_write2 __tsan_read_write2
       __tsan_unaligned_read_write2 __tsan_unaligned_volatile_write2;
    4: __tsan_write4 __tsan_unaligned_write4 __tsan_volatile_write4 __tsan_read_write4
       __tsan_unaligned_read_write4 __tsan_unaligned_volatile_write4;
    8: __tsan_write8 __tsan_unaligned_write8 __tsan_volatile_write8 __tsan_read_write8
       __tsan_unaligned_read_write8 __tsan_unaligned_volatile_write8 __tsan_vptr_update;
    16: __tsan_write16 __tsan_unaligned_write16 __tsan_volatile_write16
       __tsan_unaligned_volatile_write16;
}

macro_rules! nothing {
    ($($name:ident)*) => {$(
        #[unsafe(no_mangle)]
        extern "C" fn $name() {}
    )*};
}
nothing! {
    __tsan_init __tsan_func_entry __tsan_func_exit __tsan_vptr_read __tsan_read_range
    __tsan_read1 __tsan_read2 __tsan_read4 __tsan_read8 __tsan_read16
    __tsan_unaligned_read2 __tsan_unaligned_read4 __tsan_unaligned_read8 __tsan_unaligned_read16
    __tsan_volatile_read1 __tsan_volatile_read2 __tsan_volatile_read4 __tsan_volatile_read8
    __tsan_volatile_read16 __tsan_unaligned_volatile_read2 __tsan_unaligned_volatile_read4
    __tsan_unaligned_volatile_read8 __tsan_unaligned_volatile_read16
}

#[unsafe(no_mangle)]
extern "C" fn __tsan_write_range(address: usize, bytes: usize) {
    log::range(address, bytes);
}

macro_rules! atomics {
    ($($type:ty, $atomic:ty: $load:ident $store:ident $exchange:ident $add:ident $sub:ident $and:ident
       $or:ident $xor:ident $nand:ident $strong:ident $weak:ident $value:ident;)*) => {$(
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $load(at: *const $atomic, _order: i32) -> $type {
            // SAFETY: the program's atomic.
            unsafe { (*at).load(SeqCst) }
        }
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $store(at: *const $atomic, value: $type, _order: i32) {
            log::small(at as usize, size_of::<$type>());
            // SAFETY: the program's atomic.
            unsafe { (*at).store(value, SeqCst) }
        }
        atomics!(@rmw $type, $atomic, $exchange, swap);
        atomics!(@rmw $type, $atomic, $add, fetch_add);
        atomics!(@rmw $type, $atomic, $sub, fetch_sub);
        atomics!(@rmw $type, $atomic, $and, fetch_and);
        atomics!(@rmw $type, $atomic, $or, fetch_or);
        atomics!(@rmw $type, $atomic, $xor, fetch_xor);
        atomics!(@rmw $type, $atomic, $nand, fetch_nand);
        atomics!(@cas $type, $atomic, $strong);
        atomics!(@cas $type, $atomic, $weak);
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $value(at: *const $atomic, expected: $type, new: $type, _s: i32, _f: i32) -> $type {
            log::small(at as usize, size_of::<$type>());
            // SAFETY: the program's atomic.
            match unsafe { (*at).compare_exchange(expected, new, SeqCst, SeqCst) } {
                Ok(old) | Err(old) => old,
            }
        }
    )*};
    (@rmw $type:ty, $atomic:ty, $name:ident, $method:ident) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(at: *const $atomic, value: $type, _order: i32) -> $type {
            log::small(at as usize, size_of::<$type>());
            // SAFETY: the program's atomic.
            unsafe { (*at).$method(value, SeqCst) }
        }
    };
    (@cas $type:ty, $atomic:ty, $name:ident) => {
        #[unsafe(no_mangle)]
        unsafe extern "C" fn $name(at: *const $atomic, expected: *mut $type, new: $type, _s: i32, _f: i32) -> i32 {
            log::small(at as usize, size_of::<$type>());
            // SAFETY: the program's atomic and its expected value.
            unsafe {
                match (*at).compare_exchange(*expected, new, SeqCst, SeqCst) {
                    Ok(_) => 1,
                    Err(old) => {
                        log::small(expected as usize, size_of::<$type>());
                        *expected = old;
                        0
                    }
                }
            }
        }
    };
}
atomics! {
    u8, AtomicU8: __tsan_atomic8_load __tsan_atomic8_store __tsan_atomic8_exchange
        __tsan_atomic8_fetch_add __tsan_atomic8_fetch_sub __tsan_atomic8_fetch_and
        __tsan_atomic8_fetch_or __tsan_atomic8_fetch_xor __tsan_atomic8_fetch_nand
        __tsan_atomic8_compare_exchange_strong __tsan_atomic8_compare_exchange_weak
        __tsan_atomic8_compare_exchange_val;
    u16, AtomicU16: __tsan_atomic16_load __tsan_atomic16_store __tsan_atomic16_exchange
        __tsan_atomic16_fetch_add __tsan_atomic16_fetch_sub __tsan_atomic16_fetch_and
        __tsan_atomic16_fetch_or __tsan_atomic16_fetch_xor __tsan_atomic16_fetch_nand
        __tsan_atomic16_compare_exchange_strong __tsan_atomic16_compare_exchange_weak
        __tsan_atomic16_compare_exchange_val;
    u32, AtomicU32: __tsan_atomic32_load __tsan_atomic32_store __tsan_atomic32_exchange
        __tsan_atomic32_fetch_add __tsan_atomic32_fetch_sub __tsan_atomic32_fetch_and
        __tsan_atomic32_fetch_or __tsan_atomic32_fetch_xor __tsan_atomic32_fetch_nand
        __tsan_atomic32_compare_exchange_strong __tsan_atomic32_compare_exchange_weak
        __tsan_atomic32_compare_exchange_val;
    u64, AtomicU64: __tsan_atomic64_load __tsan_atomic64_store __tsan_atomic64_exchange
        __tsan_atomic64_fetch_add __tsan_atomic64_fetch_sub __tsan_atomic64_fetch_and
        __tsan_atomic64_fetch_or __tsan_atomic64_fetch_xor __tsan_atomic64_fetch_nand
        __tsan_atomic64_compare_exchange_strong __tsan_atomic64_compare_exchange_weak
        __tsan_atomic64_compare_exchange_val;
}

#[unsafe(no_mangle)]
extern "C" fn __tsan_atomic_thread_fence(_order: i32) {
    fence(SeqCst);
}

#[unsafe(no_mangle)]
extern "C" fn __tsan_atomic_signal_fence(_order: i32) {}
