//! Numbers of calls and flags, for crates that know no C library.

/// `mmap`.
pub const MMAP: i64 = libc::SYS_mmap;
/// `munmap`.
pub const MUNMAP: i64 = libc::SYS_munmap;
/// `mprotect`.
pub const MPROTECT: i64 = libc::SYS_mprotect;
/// `mremap`.
pub const MREMAP: i64 = libc::SYS_mremap;
/// `madvise`.
pub const MADVISE: i64 = libc::SYS_madvise;
/// `brk`.
pub const BRK: i64 = libc::SYS_brk;
/// `close`.
pub const CLOSE: i64 = libc::SYS_close;
/// `fcntl`.
pub const FCNTL: i64 = libc::SYS_fcntl;
/// `dup3`.
pub const DUP3: i64 = libc::SYS_dup3;
/// `openat`.
pub const OPENAT: i64 = libc::SYS_openat;
/// `close_range`.
pub const CLOSE_RANGE: i64 = libc::SYS_close_range;
/// `epoll_ctl`.
pub const EPOLL_CTL: i64 = libc::SYS_epoll_ctl;
/// `pidfd_open`.
pub const PIDFD_OPEN: i64 = libc::SYS_pidfd_open;
/// `getpid`.
pub const GETPID: i64 = libc::SYS_getpid;
/// `times`.
pub const TIMES: i64 = libc::SYS_times;
/// `prctl`.
pub const PRCTL: i64 = libc::SYS_prctl;
/// `setsid`.
pub const SETSID: i64 = libc::SYS_setsid;
/// `setpgid`.
pub const SETPGID: i64 = libc::SYS_setpgid;
/// `capset`.
pub const CAPSET: i64 = libc::SYS_capset;
/// `setgroups`.
pub const SETGROUPS: i64 = libc::SYS_setgroups;
/// `setresgid`.
pub const SETRESGID: i64 = libc::SYS_setresgid;
/// `setresuid`.
pub const SETRESUID: i64 = libc::SYS_setresuid;
/// `rseq`.
pub const RSEQ: i64 = libc::SYS_rseq;
/// `sigaltstack`.
pub const SIGALTSTACK: i64 = libc::SYS_sigaltstack;
/// `set_robust_list`.
pub const SET_ROBUST_LIST: i64 = libc::SYS_set_robust_list;
/// `set_tid_address`.
pub const SET_TID_ADDRESS: i64 = libc::SYS_set_tid_address;
/// `userfaultfd`.
pub const USERFAULTFD: i64 = libc::SYS_userfaultfd;

/// Flags of memory calls.
pub mod map {
    use super::super::word;

    /// PROT_READ.
    pub const READ: u64 = word(libc::PROT_READ);
    /// PROT_WRITE.
    pub const WRITE: u64 = word(libc::PROT_WRITE);
    /// PROT_EXEC.
    pub const EXECUTE: u64 = word(libc::PROT_EXEC);
    /// MAP_SHARED.
    pub const SHARED: u64 = word(libc::MAP_SHARED);
    /// MAP_PRIVATE.
    pub const PRIVATE: u64 = word(libc::MAP_PRIVATE);
    /// MAP_ANONYMOUS.
    pub const ANONYMOUS: u64 = word(libc::MAP_ANONYMOUS);
    /// MAP_FIXED.
    pub const FIXED: u64 = word(libc::MAP_FIXED);
    /// MAP_FIXED_NOREPLACE.
    pub const FIXED_NOREPLACE: u64 = word(libc::MAP_FIXED_NOREPLACE);
    /// MAP_GROWSDOWN.
    pub const GROWSDOWN: u64 = word(libc::MAP_GROWSDOWN);
    /// MAP_STACK.
    pub const STACK: u64 = word(libc::MAP_STACK);
    /// MAP_NORESERVE.
    pub const NORESERVE: u64 = word(libc::MAP_NORESERVE);
    /// MREMAP_MAYMOVE.
    pub const MREMAP_MAYMOVE: u64 = word(libc::MREMAP_MAYMOVE);
    /// MREMAP_FIXED.
    pub const MREMAP_FIXED: u64 = word(libc::MREMAP_FIXED);
}

/// Options of `prctl`.
pub mod prctl {
    use super::super::word;

    /// PR_SET_MM.
    pub const SET_MM: u64 = word(libc::PR_SET_MM);
    /// PR_SET_MM_MAP.
    pub const SET_MM_MAP: u64 = word(libc::PR_SET_MM_MAP);
    /// PR_SET_VMA.
    pub const SET_VMA: u64 = word(libc::PR_SET_VMA);
    /// PR_SET_VMA_ANON_NAME.
    pub const SET_VMA_ANON_NAME: u64 = word(libc::PR_SET_VMA_ANON_NAME);
    /// PR_SET_DUMPABLE.
    pub const SET_DUMPABLE: u64 = word(libc::PR_SET_DUMPABLE);
    /// PR_SET_NO_NEW_PRIVS.
    pub const SET_NO_NEW_PRIVS: u64 = word(libc::PR_SET_NO_NEW_PRIVS);
    /// PR_SET_PDEATHSIG.
    pub const SET_PDEATHSIG: u64 = word(libc::PR_SET_PDEATHSIG);
}
