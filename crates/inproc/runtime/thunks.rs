//! Functions of the C library that write memory of the program, interposed.
//!
//! Each is a few instructions in front of the real one. Outside of checkpoints they jump there.
//! Under one they first call a hook of [`crate::writers`] with the arguments (as registers, and for
//! variadic functions in the layout of a `va_list`'s save area), which logs what will be written;
//! then they jump to the real one with everything as it was. So the real function runs unchanged,
//! and none of our frames is on the stack while it does (callbacks, cancellation and exceptions
//! pass). The definitions are weak, and stand in the executable: libraries call them too.

use crate::state::Thread;
use crate::thread::kind;
use crate::{granule, log, sys, thread, writers};
use core::arch::global_asm;
use core::ffi::{c_char, c_void};
use core::mem::offset_of;

#[cfg(granule = "line")]
macro_rules! under_checkpoint {
    () => {
        "cmp dword ptr [rip + __still_thread + {depth}], 0"
    };
}
#[cfg(not(granule = "line"))]
macro_rules! under_checkpoint {
    () => {
        "cmp dword ptr fs:[__still_thread@tpoff + {depth}], 0"
    };
}

#[cfg(granule = "line")]
macro_rules! load_tag {
    () => {
        "movzx r11d, byte ptr [rip + __still_tag]"
    };
}
#[cfg(granule = "word")]
macro_rules! load_tag {
    () => {
        "movzx r11d, byte ptr fs:[__still_tag@tpoff]"
    };
}

macro_rules! record {
    ($name:literal) => {
        concat!(
            ".pushsection .data.still,\"aw\"\n.balign 8\n.globl __still_real_",
            $name,
            "\n.hidden __still_real_",
            $name,
            "\n__still_real_",
            $name,
            ": .quad 7f\n.popsection\n",
            ".pushsection .rodata.still,\"a\"\n8: .asciz \"",
            $name,
            "\"\n.popsection\n",
            ".pushsection still_reals,\"awR\"\n.balign 8\n.quad __still_real_",
            $name,
            ", 8b\n.popsection\n",
            "7: lea r11, [rip + __still_real_",
            $name,
            "]\njmp __still_early",
        )
    };
}

/// The first three arguments of a call, at the end of the stack.
macro_rules! save_three {
    () => {
        "mov [rsp], rdi\nmov [rsp + 8], rsi\nmov [rsp + 16], rdx"
    };
}
macro_rules! load_three {
    () => {
        "mov rdi, [rsp]\nmov rsi, [rsp + 8]\nmov rdx, [rsp + 16]"
    };
}

/// All that are passed in general registers.
macro_rules! save_arguments {
    () => {
        concat!(
            save_three!(),
            "\nmov [rsp + 24], rcx\nmov [rsp + 32], r8\nmov [rsp + 40], r9"
        )
    };
}
macro_rules! load_arguments {
    () => {
        concat!(
            load_three!(),
            "\nmov rcx, [rsp + 24]\nmov r8, [rsp + 32]\nmov r9, [rsp + 40]"
        )
    };
}

macro_rules! plain {
    ($($name:literal $hook:ident)*) => {$(
        global_asm!(
            concat!(".weak ", $name, "\n.type ", $name, ",@function\n", $name, ":"),
            under_checkpoint!(),
            "jne 2f",
            concat!("jmp qword ptr [rip + __still_real_", $name, "]"),
            "2: sub rsp, 56",
            save_arguments!(),
            "mov rdi, rsp",
            "lea rsi, [rsp + 64]",
            "call {hook}",
            load_arguments!(),
            "add rsp, 56",
            concat!("jmp qword ptr [rip + __still_real_", $name, "]"),
            record!($name),
            depth = const offset_of!(Thread, depth),
            hook = sym writers::$hook,
        );
    )*};
}

macro_rules! variadic {
    ($($name:literal $hook:ident)*) => {$(
        global_asm!(
            concat!(".weak ", $name, "\n.type ", $name, ",@function\n", $name, ":"),
            under_checkpoint!(),
            "jne 2f",
            concat!("jmp qword ptr [rip + __still_real_", $name, "]"),
            "2: sub rsp, 200",
            save_arguments!(),
            "movups [rsp + 48], xmm0",
            "movups [rsp + 64], xmm1",
            "movups [rsp + 80], xmm2",
            "movups [rsp + 96], xmm3",
            "movups [rsp + 112], xmm4",
            "movups [rsp + 128], xmm5",
            "movups [rsp + 144], xmm6",
            "movups [rsp + 160], xmm7",
            "mov [rsp + 176], rax",
            "mov rdi, rsp",
            "lea rsi, [rsp + 208]",
            "call {hook}",
            load_arguments!(),
            "movups xmm0, [rsp + 48]",
            "movups xmm1, [rsp + 64]",
            "movups xmm2, [rsp + 80]",
            "movups xmm3, [rsp + 96]",
            "movups xmm4, [rsp + 112]",
            "movups xmm5, [rsp + 128]",
            "movups xmm6, [rsp + 144]",
            "movups xmm7, [rsp + 160]",
            "mov rax, [rsp + 176]",
            "add rsp, 200",
            concat!("jmp qword ptr [rip + __still_real_", $name, "]"),
            record!($name),
            depth = const offset_of!(Thread, depth),
            hook = sym writers::$hook,
        );
    )*};
}

/// As `plain`, for those that write `rdx` bytes at `rdi` and are called most: where nothing has to be
/// logged any more, that is seen here.
#[cfg(not(granule = "log"))]
macro_rules! copies {
    ($($name:literal $hook:ident)*) => {$(
        global_asm!(
            concat!(".weak ", $name, "\n.type ", $name, ",@function\n.balign 32\n", $name, ":"),
            under_checkpoint!(),
            "jne 3f",
            concat!("2: jmp qword ptr [rip + __still_real_", $name, "]"),
            "3: lea rax, [rdi + rdx - 1]",
            "mov r11, rax",
            "shr r11, 47",
            "jnz 4f",
            "shr rax, {shift}",
            "mov r10, rdi",
            "shr r10, {shift}",
            "mov r11, rax",
            "sub r11, r10",
            "cmp r11, 1",
            "ja 4f",
            load_tag!(),
            "cmp byte ptr [r10 + {shadow}], r11b",
            "jne 4f",
            "cmp byte ptr [rax + {shadow}], r11b",
            "je 2b",
            "4: sub rsp, 24",
            save_three!(),
            "mov rsi, rdx",
            "call {range}",
            load_three!(),
            "add rsp, 24",
            concat!("jmp qword ptr [rip + __still_real_", $name, "]"),
            record!($name),
            depth = const offset_of!(Thread, depth),
            shift = const granule::SHIFT,
            shadow = const granule::SHADOW,
            range = sym written,
        );
    )*};
}

#[cfg(not(granule = "log"))]
unsafe extern "C" fn written(at: usize, bytes: usize) {
    log::range(at, bytes);
}

/// Functions that are ours and need the real one.
macro_rules! replaced {
    ($($name:literal $ours:ident)*) => {$(
        global_asm!(
            concat!(".weak ", $name, "\n.type ", $name, ",@function\n.set ", $name, ", {ours}"),
            record!($name),
            ours = sym $ours,
        );
    )*};
}

#[cfg(not(granule = "log"))]
copies! { "memcpy" at0_len2 "memmove" at0_len2 "memset" at0_len2 "mempcpy" at0_len2 }
#[cfg(granule = "log")]
plain! { "memcpy" at0_len2 "memmove" at0_len2 "memset" at0_len2 "mempcpy" at0_len2 }
plain! {
    "memccpy" at0_len3
    "__memcpy_chk" at0_len2 "__memmove_chk" at0_len2 "__memset_chk" at0_len2
    "bcopy" at1_len2 "bzero" at0_len1 "explicit_bzero" at0_len1 "swab" at1_len2
    "wmemcpy" at0_wide2 "wmemmove" at0_wide2 "wmemset" at0_wide2
    "wcscpy" wide_copy "wcsncpy" at0_wide2 "wcscat" wide_append
    "strcpy" text_copy "stpcpy" text_copy "strncpy" at0_len2 "stpncpy" at0_len2
    "strcat" text_append "strncat" text_append_some "strxfrm" at0_len2
    "strtok" text0 "strtok_r" token "strsep" separated "strfry" text0
    "vsnprintf" vsnprintf "vsprintf" vsprintf "vasprintf" at0_word
    "strftime" at0_len1 "strerror_r" at1_len2 "__xpg_strerror_r" at1_len2
    "inet_ntop" at2_len3 "inet_pton" at2_16 "inet_aton" at1_16
    "realpath" at1_path "getcwd" at0_len1 "readlink" at1_len2 "readlinkat" at2_len3
    "gethostname" at0_len1 "getdomainname" at0_len1 "uname" at0_390 "ttyname_r" at1_len2
    "strtol" at1_word "strtoul" at1_word "strtoll" at1_word "strtoull" at1_word
    "strtod" at1_word "strtof" at1_word "strtold" at1_word "strtoimax" at1_word "strtoumax" at1_word
    "wcstol" at1_word "mbstowcs" at0_wide2 "wcstombs" at0_len2 "mbrtowc" multibyte
    "mbtowc" at0_word "wcrtomb" at0_16 "wctomb" at0_16 "iconv" converted
    "frexp" at0_word "frexpf" at0_word "modf" at0_16 "modff" at0_16 "sincos" at01_16 "sincosf" at01_16
    "remquo" at0_word "lgamma_r" at0_word
    "qsort" sorted "qsort_r" sorted "lsearch" searched
    "rand_r" at0_word "drand48_r" random48 "random_r" random_state "srandom_r" at1_state
    "erand48" at0_word "nrand48" at0_word "jrand48" at0_word
    "read" at1_len2 "pread" at1_len2 "pread64" at1_len2 "recv" at1_len2 "getrandom" at0_len1
    "getentropy" at0_len1 "readv" vector "preadv" vector "preadv64" vector
    "recvfrom" received_from "recvmsg" received_message "recvmmsg" received_messages
    "getdents64" at1_len2
    "fread" stream_read "fread_unlocked" stream_read "fgets" at0_len1 "fgets_unlocked" at0_len1
    "getline" line_read "getdelim" line_read "__getdelim" line_read
    "time" at0_word "clock_gettime" at1_16 "clock_getres" at1_16 "gettimeofday" at01_16
    "timespec_get" at0_16 "nanosleep" at1_16 "clock_nanosleep" at3_16
    "localtime_r" at1_56 "gmtime_r" at1_56 "asctime_r" at1_56 "ctime_r" at1_56 "mktime" at0_56
    "timegm" at0_56 "strptime" at2_56
    "stat" at1_144 "lstat" at1_144 "fstat" at1_144 "fstatat" at2_144 "stat64" at1_144
    "lstat64" at1_144 "fstat64" at1_144 "fstatat64" at2_144 "statfs" at1_144 "fstatfs" at1_144
    "statvfs" at1_144 "fstatvfs" at1_144 "statx" at4_256 "getrlimit" at1_16 "getrlimit64" at1_16
    "getrusage" at1_144 "times" at0_32 "sysinfo" at0_144
    "pipe" at0_word "pipe2" at0_word "socketpair" at3_word
    "accept" named12 "accept4" named12 "getsockname" named12 "getpeername" named12
    "getsockopt" named34 "poll" polled "ppoll" polled "select" selected "pselect" selected
    "epoll_wait" events "epoll_pwait" events "sendfile" at2_word "sendfile64" at2_word
    "wait" at0_word "waitpid" at1_word "wait3" waited3 "wait4" waited4 "waitid" at2_128
    "sigemptyset" at0_128 "sigfillset" at0_128 "sigaddset" at0_128 "sigdelset" at0_128
    "sigaction" at2_152 "sigpending" at0_128 "sigaltstack" at1_32 "tcgetattr" at1_144
    "_ZSt29_Rb_tree_insert_and_rebalancebPSt18_Rb_tree_node_baseS0_RS_" tree_insert
    "_ZSt28_Rb_tree_rebalance_for_erasePSt18_Rb_tree_node_baseRS_" tree_erase
    "_ZNSt8__detail15_List_node_base7_M_hookEPS0_" list_hook
    "_ZNSt8__detail15_List_node_base9_M_unhookEv" list_unhook
    "_ZNSt8__detail15_List_node_base11_M_transferEPS0_S1_" list_transfer
    "_ZNSt8__detail15_List_node_base4swapERS0_S1_" list_swap
    "_ZNSt8__detail15_List_node_base10_M_reverseEv" list_reverse
    "regexec" matched "_setjmp" at0_200 "setjmp" at0_200 "__sigsetjmp" at0_200
}
variadic! {
    "snprintf" snprintf "sprintf" sprintf "asprintf" at0_word
    "sscanf" sscanf "__isoc99_sscanf" sscanf "ioctl" control
}
#[cfg(granule = "line")]
plain! {
    "pthread_mutex_lock" lock40 "pthread_mutex_trylock" lock40 "pthread_mutex_unlock" lock40
    "pthread_mutex_timedlock" lock40 "pthread_mutex_init" lock40 "pthread_mutex_destroy" lock40
    "pthread_rwlock_rdlock" lock56 "pthread_rwlock_wrlock" lock56 "pthread_rwlock_unlock" lock56
    "pthread_rwlock_tryrdlock" lock56 "pthread_rwlock_trywrlock" lock56 "pthread_rwlock_init" lock56
    "pthread_rwlock_destroy" lock56 "pthread_cond_init" lock56 "pthread_cond_destroy" lock56
    "pthread_cond_signal" lock56 "pthread_cond_broadcast" lock56 "pthread_spin_lock" at0_word
    "pthread_spin_unlock" at0_word "pthread_spin_trylock" at0_word "pthread_spin_init" at0_word
    "sem_init" lock56 "sem_post" lock56 "sem_wait" lock56 "sem_trywait" lock56
    "pthread_mutexattr_init" at0_word "pthread_mutexattr_settype" at0_word
    "pthread_attr_init" lock56 "pthread_once" at0_word
}
#[cfg(not(granule = "line"))]
replaced! {
    "pthread_mutex_lock" mutex_lock "pthread_mutex_trylock" mutex_trylock
    "pthread_mutex_unlock" mutex_unlock
    "pthread_rwlock_rdlock" rw_read "pthread_rwlock_tryrdlock" rw_tryread
    "pthread_rwlock_wrlock" rw_write "pthread_rwlock_trywrlock" rw_trywrite
    "pthread_rwlock_unlock" rw_unlock
}
replaced! {
    "pthread_create" thread_create "sigprocmask" mask_process "pthread_sigmask" mask_thread
}

global_asm!(
    ".globl __still_early",
    ".hidden __still_early",
    "__still_early:",
    "push rbp",
    "mov rbp, rsp",
    "push rax",
    "push rdi",
    "push rsi",
    "push rdx",
    "push rcx",
    "push r8",
    "push r9",
    "push r11",
    "sub rsp, 128",
    "and rsp, -16",
    "movups [rsp], xmm0",
    "movups [rsp + 16], xmm1",
    "movups [rsp + 32], xmm2",
    "movups [rsp + 48], xmm3",
    "movups [rsp + 64], xmm4",
    "movups [rsp + 80], xmm5",
    "movups [rsp + 96], xmm6",
    "movups [rsp + 112], xmm7",
    "call {resolve}",
    "movups xmm0, [rsp]",
    "movups xmm1, [rsp + 16]",
    "movups xmm2, [rsp + 32]",
    "movups xmm3, [rsp + 48]",
    "movups xmm4, [rsp + 64]",
    "movups xmm5, [rsp + 80]",
    "movups xmm6, [rsp + 96]",
    "movups xmm7, [rsp + 112]",
    "lea rsp, [rbp - 64]",
    "pop r11",
    "pop r9",
    "pop r8",
    "pop rcx",
    "pop rdx",
    "pop rsi",
    "pop rdi",
    "pop rax",
    "pop rbp",
    "jmp qword ptr [r11]",
    resolve = sym resolve,
);

#[repr(C)]
struct Record {
    slot: *mut usize,
    name: *const c_char,
}

unsafe extern "C" {
    static __start_still_reals: Record;
    static __stop_still_reals: Record;
    static __still_real_memcpy: unsafe extern "C" fn(usize, usize, usize) -> usize;
    static __still_real_memmove: unsafe extern "C" fn(usize, usize, usize) -> usize;
    static __still_real_memset: unsafe extern "C" fn(usize, i32, usize) -> usize;
    static __still_real_vsnprintf:
        unsafe extern "C" fn(*mut u8, usize, *const c_char, *mut c_void) -> i32;
    static __still_real_pthread_create: unsafe extern "C" fn(usize, usize, usize, usize) -> i32;
    static __still_real_sigprocmask: unsafe extern "C" fn(i32, usize, usize) -> i32;
    static __still_real_pthread_sigmask: unsafe extern "C" fn(i32, usize, usize) -> i32;
}

unsafe extern "C" fn absent() {
    sys::die("a function was called that this C library does not have");
}

/// Finds the real functions. The slots are filled once, before the program's own code runs, or by
/// the first call if a library's code runs earlier.
pub unsafe extern "C" fn resolve() {
    const NEXT: *mut c_void = usize::MAX as *mut c_void;
    // SAFETY: the records lie between the two symbols, which the linker makes.
    unsafe {
        let mut record = &raw const __start_still_reals;
        while record < &raw const __stop_still_reals {
            let found = sys::dlsym(NEXT, (*record).name) as usize;
            *(*record).slot = if found == 0 {
                absent as *const () as usize
            } else {
                found
            };
            record = record.add(1);
        }
    }
}

/// # Safety
/// As `memcpy`.
pub unsafe fn real_memcpy(to: usize, from: usize, bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { __still_real_memcpy(to, from, bytes) }
}

/// # Safety
/// As `memmove`.
pub unsafe fn real_memmove(to: usize, from: usize, bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { __still_real_memmove(to, from, bytes) }
}

/// # Safety
/// As `memset`.
pub unsafe fn real_memset(to: usize, byte: i32, bytes: usize) -> usize {
    // SAFETY: the caller's promise.
    unsafe { __still_real_memset(to, byte, bytes) }
}

/// Bytes that a format makes, without the end.
///
/// # Safety
/// A format and its arguments; the list is used up.
pub unsafe fn formatted(format: *const c_char, list: *mut c_void) -> usize {
    // SAFETY: writes nothing, as the size is 0.
    let n = unsafe { __still_real_vsnprintf(core::ptr::null_mut(), 0, format, list) };
    if n < 0 { 0 } else { n as usize }
}

unsafe extern "C" fn thread_create(id: usize, with: usize, run: usize, argument: usize) -> i32 {
    // SAFETY: the caller's call.
    unsafe {
        let no = thread::another();
        if no != 0 {
            return no;
        }
        log::range(id, 8);
        __still_real_pthread_create(id, with, run, argument)
    }
}

/// Keeps what the mask is now, so that a checkpoint need not ask the kernel.
unsafe fn masked(result: i32, set: usize) {
    if result == 0 && set != 0 {
        // SAFETY: this thread's.
        unsafe { (*crate::state::me()).mask = sys::mask() };
    }
}

unsafe extern "C" fn mask_process(how: i32, set: usize, old: usize) -> i32 {
    // SAFETY: the caller's call.
    unsafe {
        writers::out(old, 128);
        let result = __still_real_sigprocmask(how, set, old);
        masked(result, set);
        result
    }
}

unsafe extern "C" fn mask_thread(how: i32, set: usize, old: usize) -> i32 {
    // SAFETY: the caller's call.
    unsafe {
        writers::out(old, 128);
        let result = __still_real_pthread_sigmask(how, set, old);
        masked(result, set);
        result
    }
}

#[cfg(not(granule = "line"))]
mod locks {
    use super::{kind, thread};
    unsafe extern "C" {
        pub static __still_real_pthread_mutex_lock: unsafe extern "C" fn(usize) -> i32;
        static __still_real_pthread_mutex_trylock: unsafe extern "C" fn(usize) -> i32;
        pub static __still_real_pthread_mutex_unlock: unsafe extern "C" fn(usize) -> i32;
        static __still_real_pthread_rwlock_rdlock: unsafe extern "C" fn(usize) -> i32;
        static __still_real_pthread_rwlock_tryrdlock: unsafe extern "C" fn(usize) -> i32;
        pub static __still_real_pthread_rwlock_wrlock: unsafe extern "C" fn(usize) -> i32;
        static __still_real_pthread_rwlock_trywrlock: unsafe extern "C" fn(usize) -> i32;
        pub static __still_real_pthread_rwlock_unlock: unsafe extern "C" fn(usize) -> i32;
    }
    macro_rules! noted {
        ($($name:ident $real:ident $kind:ident)*) => {$(
            pub unsafe extern "C" fn $name(lock: usize) -> i32 {
                // SAFETY: the caller's call.
                let result = unsafe { $real(lock) };
                if result == 0 {
                    thread::lock_changed(lock, kind::$kind);
                }
                result
            }
        )*};
    }
    noted! {
        mutex_lock __still_real_pthread_mutex_lock MUTEX_TAKEN
        mutex_trylock __still_real_pthread_mutex_trylock MUTEX_TAKEN
        mutex_unlock __still_real_pthread_mutex_unlock MUTEX_LEFT
        rw_read __still_real_pthread_rwlock_rdlock RW_TAKEN
        rw_tryread __still_real_pthread_rwlock_tryrdlock RW_TAKEN
        rw_write __still_real_pthread_rwlock_wrlock RW_TAKEN
        rw_trywrite __still_real_pthread_rwlock_trywrlock RW_TAKEN
        rw_unlock __still_real_pthread_rwlock_unlock RW_LEFT
    }
}
#[cfg(not(granule = "line"))]
use locks::*;

/// Does the opposite of what became of a lock.
///
/// # Safety
/// A lock of the program, as noted.
pub unsafe fn turn_back(lock: usize, what: usize) {
    #[cfg(not(granule = "line"))]
    // SAFETY: the caller's promise.
    unsafe {
        match what {
            kind::MUTEX_TAKEN => __still_real_pthread_mutex_unlock(lock),
            kind::MUTEX_LEFT => __still_real_pthread_mutex_lock(lock),
            kind::RW_TAKEN => __still_real_pthread_rwlock_unlock(lock),
            // Whether it was held for reading is not known: for writing is enough for both.
            _ => __still_real_pthread_rwlock_wrlock(lock),
        };
    }
    #[cfg(granule = "line")]
    let _ = (
        lock,
        what,
        kind::MUTEX_TAKEN,
        kind::MUTEX_LEFT,
        kind::RW_TAKEN,
        kind::RW_LEFT,
    );
}

/// The runtime begins, before any constructor.
unsafe extern "C" fn begin() {
    if !granule::reserve() {
        sys::say(&[
            "still: there are no addresses for the tags (2 TiB, or 16 TiB with --threads): is there a limit (ulimit -v), or a tool that lays out memory itself?\n",
        ]);
        sys::die("the program cannot run with checkpoints");
    }
    // SAFETY: once.
    unsafe { resolve() };
    thread::begin();
}

#[used]
#[unsafe(link_section = ".preinit_array")]
static BEGIN: unsafe extern "C" fn() = begin;
