//! Calls by name, for messages.

macro_rules! names {
    ($number:expr; $($name:ident $call:ident),* $(,)?) => {
        match $number {
            $(libc::$call => stringify!($name),)*
            _ => "a system call",
        }
    };
}

/// The name of a call that putting a process together takes; `a system call` for others.
pub const fn call_name(number: i64) -> &'static str {
    names!(number;
        read SYS_read, write SYS_write, open SYS_open, openat SYS_openat, close SYS_close,
        lseek SYS_lseek, mmap SYS_mmap, mprotect SYS_mprotect, munmap SYS_munmap, brk SYS_brk,
        mremap SYS_mremap, madvise SYS_madvise, mlock2 SYS_mlock2, munlock SYS_munlock,
        mseal SYS_mseal, shmat SYS_shmat, memfd_create SYS_memfd_create,
        rt_sigaction SYS_rt_sigaction, rt_sigprocmask SYS_rt_sigprocmask,
        rt_sigqueueinfo SYS_rt_sigqueueinfo, rt_tgsigqueueinfo SYS_rt_tgsigqueueinfo,
        sigaltstack SYS_sigaltstack, ioctl SYS_ioctl, fcntl SYS_fcntl, flock SYS_flock,
        pipe2 SYS_pipe2, dup SYS_dup, dup2 SYS_dup2, dup3 SYS_dup3, close_range SYS_close_range,
        socket SYS_socket, socketpair SYS_socketpair, connect SYS_connect, bind SYS_bind,
        listen SYS_listen, setsockopt SYS_setsockopt, sendmsg SYS_sendmsg, recvmsg SYS_recvmsg,
        clone SYS_clone, clone3 SYS_clone3, fork SYS_fork, vfork SYS_vfork, exit SYS_exit,
        exit_group SYS_exit_group, kill SYS_kill, tgkill SYS_tgkill, wait4 SYS_wait4,
        waitid SYS_waitid, getitimer SYS_getitimer, setitimer SYS_setitimer,
        timer_create SYS_timer_create, timer_settime SYS_timer_settime,
        timer_gettime SYS_timer_gettime, timer_delete SYS_timer_delete,
        timerfd_create SYS_timerfd_create, timerfd_settime SYS_timerfd_settime,
        eventfd2 SYS_eventfd2, signalfd4 SYS_signalfd4, epoll_create1 SYS_epoll_create1,
        epoll_ctl SYS_epoll_ctl, inotify_init1 SYS_inotify_init1,
        inotify_add_watch SYS_inotify_add_watch, userfaultfd SYS_userfaultfd,
        prctl SYS_prctl, arch_prctl SYS_arch_prctl, prlimit64 SYS_prlimit64,
        setrlimit SYS_setrlimit, personality SYS_personality, setpriority SYS_setpriority,
        chdir SYS_chdir, fchdir SYS_fchdir, chroot SYS_chroot, umask SYS_umask,
        setsid SYS_setsid, setpgid SYS_setpgid, setuid SYS_setuid, setgid SYS_setgid,
        setresuid SYS_setresuid, setresgid SYS_setresgid, setgroups SYS_setgroups,
        capset SYS_capset, set_tid_address SYS_set_tid_address,
        set_robust_list SYS_set_robust_list, rseq SYS_rseq, getpid SYS_getpid,
        gettid SYS_gettid,
    )
}
