//! Which system calls write without the page-fault tracepoints seeing it.
//!
//! The kernel writes to a program's memory in two ways. By storing to the program's addresses,
//! which faults like the program's own stores and so is logged. Or by looking the page up
//! (`get_user_pages`) and storing through its own mapping, or by changing the page table itself:
//! no exception happens, and the page loses its protection unseen, so that *later* stores by the
//! program are missed too. Only a scan finds these.
//!
//! So a program on `sys_enter` marks a process that makes a call which is not known to use the
//! first way only. The list is of what is known; everything else, unknown calls included, counts
//! as risky. Where it depends on the file (O_DIRECT, FUSE, network file systems, AF_ALG, kTLS,
//! drivers), the file is looked at. A call that has begun has also ended by the time its thread can
//! be stopped, so a mark taken in a boundary covers what was written before it; except for what
//! goes on by itself after its call (`io_uring`, AIO, long-term pins): treat mappings of processes
//! that use those as always written.
//!
//! Not seen at all: another process that writes through /proc/PID/mem.

use super::asm::{Alu, Asm, Cond, Helper, Label, Reg, Reg::*, Size};
use super::btf::Btf;
use super::layout::{self, Layout};
use super::programs::{Offsets, memory_owner, watched};
use super::sys::Shared;
use super::walk::peek;
use crate::error::{Error, Result};

/// On the stack: the call's number.
const NUMBER: i16 = -32;

/// What a call can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Class {
    /// Write unseen.
    Risky = 0,
    /// Nothing, or stores to the program's addresses.
    Safe = 1,
    /// As `Safe`, if the file is a sort whose reading is.
    Reads = 2,
    /// As `Reads`, and the file is not one that leads to memory.
    Writes = 3,
    /// Change which mappings there are.
    Mappings = 4,
    /// It depends on the advice.
    Madvise = 5,
    /// It depends on the request and the file.
    Ioctl = 6,
    /// It depends on the level.
    SetOption = 7,
    GetOption = 8,
    /// Futexes that are not private are found by looking their page up, for writing.
    Futex = 9,
}

/// The kernel fails to tell a thread of another process from one of its own: `process_vm_writev`
/// by anyone marks all.
const FOREIGN_WRITE: i32 = libc::SYS_process_vm_writev as i32;

const READS: &[i64] = &[
    libc::SYS_read,
    libc::SYS_readv,
    libc::SYS_pread64,
    libc::SYS_preadv,
    libc::SYS_preadv2,
    libc::SYS_recvfrom,
    libc::SYS_recvmsg,
    libc::SYS_recvmmsg,
    libc::SYS_getdents,
    libc::SYS_getdents64,
];

const WRITES: &[i64] = &[
    libc::SYS_write,
    libc::SYS_writev,
    libc::SYS_pwrite64,
    libc::SYS_pwritev,
    libc::SYS_pwritev2,
];

const MAPPINGS: &[i64] = &[
    libc::SYS_mmap,
    libc::SYS_munmap,
    libc::SYS_mremap,
    libc::SYS_mprotect,
    libc::SYS_pkey_mprotect,
    libc::SYS_remap_file_pages,
    libc::SYS_brk,
    libc::SYS_shmat,
    libc::SYS_shmdt,
];

/// Calls that share memory with a child that is another process: safe if the log knows whose the
/// memory is.
const CLONES: &[i64] = &[libc::SYS_clone, libc::SYS_clone3, libc::SYS_vfork];

/// As far as they write to the program's memory at all, by `put_user` and `copy_to_user`.
const SAFE: &[i64] = &[
    // files by name
    libc::SYS_open,
    libc::SYS_openat,
    libc::SYS_openat2,
    libc::SYS_creat,
    libc::SYS_stat,
    libc::SYS_lstat,
    libc::SYS_fstat,
    libc::SYS_newfstatat,
    libc::SYS_statx,
    libc::SYS_statfs,
    libc::SYS_fstatfs,
    libc::SYS_access,
    libc::SYS_faccessat,
    libc::SYS_faccessat2,
    libc::SYS_rename,
    libc::SYS_renameat,
    libc::SYS_renameat2,
    libc::SYS_mkdir,
    libc::SYS_mkdirat,
    libc::SYS_rmdir,
    libc::SYS_link,
    libc::SYS_linkat,
    libc::SYS_unlink,
    libc::SYS_unlinkat,
    libc::SYS_symlink,
    libc::SYS_symlinkat,
    libc::SYS_readlink,
    libc::SYS_readlinkat,
    libc::SYS_chmod,
    libc::SYS_fchmod,
    libc::SYS_fchmodat,
    libc::SYS_chown,
    libc::SYS_fchown,
    libc::SYS_lchown,
    libc::SYS_fchownat,
    libc::SYS_utime,
    libc::SYS_utimes,
    libc::SYS_utimensat,
    libc::SYS_futimesat,
    libc::SYS_getcwd,
    libc::SYS_chdir,
    libc::SYS_fchdir,
    libc::SYS_umask,
    libc::SYS_getxattr,
    libc::SYS_lgetxattr,
    libc::SYS_fgetxattr,
    libc::SYS_listxattr,
    libc::SYS_llistxattr,
    libc::SYS_flistxattr,
    // descriptors
    libc::SYS_close,
    libc::SYS_close_range,
    libc::SYS_dup,
    libc::SYS_dup2,
    libc::SYS_dup3,
    libc::SYS_fcntl,
    libc::SYS_flock,
    libc::SYS_lseek,
    libc::SYS_fsync,
    libc::SYS_fdatasync,
    libc::SYS_sync,
    libc::SYS_syncfs,
    libc::SYS_sync_file_range,
    libc::SYS_fadvise64,
    libc::SYS_readahead,
    libc::SYS_sendfile,
    libc::SYS_tee,
    libc::SYS_pipe,
    libc::SYS_pipe2,
    libc::SYS_memfd_create,
    libc::SYS_eventfd,
    libc::SYS_eventfd2,
    libc::SYS_signalfd,
    libc::SYS_signalfd4,
    libc::SYS_timerfd_create,
    libc::SYS_timerfd_settime,
    libc::SYS_timerfd_gettime,
    libc::SYS_inotify_init,
    libc::SYS_inotify_init1,
    libc::SYS_inotify_add_watch,
    libc::SYS_inotify_rm_watch,
    libc::SYS_poll,
    libc::SYS_ppoll,
    libc::SYS_select,
    libc::SYS_pselect6,
    libc::SYS_epoll_create,
    libc::SYS_epoll_create1,
    libc::SYS_epoll_ctl,
    libc::SYS_epoll_wait,
    libc::SYS_epoll_pwait,
    libc::SYS_epoll_pwait2,
    // sockets
    libc::SYS_socket,
    libc::SYS_socketpair,
    libc::SYS_connect,
    libc::SYS_accept,
    libc::SYS_accept4,
    libc::SYS_bind,
    libc::SYS_listen,
    libc::SYS_shutdown,
    libc::SYS_getsockname,
    libc::SYS_getpeername,
    libc::SYS_sendto,
    libc::SYS_sendmsg,
    libc::SYS_sendmmsg,
    // signals, waiting, time
    libc::SYS_rt_sigaction,
    libc::SYS_rt_sigprocmask,
    libc::SYS_rt_sigreturn,
    libc::SYS_rt_sigpending,
    libc::SYS_rt_sigtimedwait,
    libc::SYS_rt_sigsuspend,
    libc::SYS_rt_sigqueueinfo,
    libc::SYS_rt_tgsigqueueinfo,
    libc::SYS_sigaltstack,
    libc::SYS_kill,
    libc::SYS_tkill,
    libc::SYS_tgkill,
    libc::SYS_pause,
    libc::SYS_alarm,
    libc::SYS_getitimer,
    libc::SYS_setitimer,
    libc::SYS_nanosleep,
    libc::SYS_clock_nanosleep,
    libc::SYS_clock_gettime,
    libc::SYS_clock_getres,
    libc::SYS_gettimeofday,
    libc::SYS_time,
    libc::SYS_times,
    libc::SYS_timer_create,
    libc::SYS_timer_settime,
    libc::SYS_timer_gettime,
    libc::SYS_timer_getoverrun,
    libc::SYS_timer_delete,
    libc::SYS_set_robust_list,
    libc::SYS_get_robust_list,
    libc::SYS_restart_syscall,
    libc::SYS_wait4,
    libc::SYS_waitid,
    libc::SYS_semop,
    libc::SYS_semtimedop,
    libc::SYS_semget,
    libc::SYS_msgget,
    libc::SYS_msgsnd,
    libc::SYS_msgrcv,
    libc::SYS_mq_timedsend,
    libc::SYS_mq_timedreceive,
    // the process
    libc::SYS_fork,
    libc::SYS_exit,
    libc::SYS_exit_group,
    libc::SYS_getpid,
    libc::SYS_getppid,
    libc::SYS_gettid,
    libc::SYS_getpgid,
    libc::SYS_getpgrp,
    libc::SYS_getsid,
    libc::SYS_setpgid,
    libc::SYS_setsid,
    libc::SYS_getuid,
    libc::SYS_geteuid,
    libc::SYS_getgid,
    libc::SYS_getegid,
    libc::SYS_getresuid,
    libc::SYS_getresgid,
    libc::SYS_getgroups,
    libc::SYS_capget,
    libc::SYS_getrlimit,
    libc::SYS_prlimit64,
    libc::SYS_getrusage,
    libc::SYS_getpriority,
    libc::SYS_setpriority,
    libc::SYS_sysinfo,
    libc::SYS_uname,
    libc::SYS_getrandom,
    libc::SYS_set_tid_address,
    libc::SYS_rseq,
    libc::SYS_membarrier,
    libc::SYS_getcpu,
    libc::SYS_sched_yield,
    libc::SYS_sched_getaffinity,
    libc::SYS_sched_setaffinity,
    libc::SYS_sched_getparam,
    libc::SYS_sched_setparam,
    libc::SYS_sched_getscheduler,
    libc::SYS_sched_setscheduler,
    libc::SYS_sched_getattr,
    libc::SYS_sched_setattr,
    libc::SYS_sched_get_priority_max,
    libc::SYS_sched_get_priority_min,
    libc::SYS_sched_rr_get_interval,
    libc::SYS_pidfd_open,
    libc::SYS_pidfd_send_signal,
    libc::SYS_mincore,
    libc::SYS_msync,
];

/// Requests of `ioctl` that terminals, sockets, pipes and files answer by `put_user`.
const REQUESTS: &[u64] = &[
    libc::TCGETS,
    libc::TCSETS,
    libc::TCSETSW,
    libc::TIOCGWINSZ,
    libc::TIOCGPGRP,
    libc::FIONREAD,
    libc::FIONBIO,
    libc::FIOCLEX,
    libc::FIONCLEX,
];

/// Advice that changes no content and makes no page.
const ADVICE: &[i32] = &[
    libc::MADV_NORMAL,
    libc::MADV_RANDOM,
    libc::MADV_SEQUENTIAL,
    libc::MADV_WILLNEED,
    libc::MADV_DONTFORK,
    libc::MADV_DOFORK,
    libc::MADV_HUGEPAGE,
    libc::MADV_NOHUGEPAGE,
    libc::MADV_DONTDUMP,
    libc::MADV_DODUMP,
    libc::MADV_COLD,
    libc::MADV_POPULATE_READ,
];

/// File systems that read by copying to the program's addresses, unless O_DIRECT.
const FILE_SYSTEMS: &[i32] = &[
    0xef53,                        // ext2, ext3, ext4
    0x5846_5342,                   // xfs
    0x9123_683e_u32.cast_signed(), // btrfs
    0x0102_1994,                   // tmpfs
    0x8584_58f6_u32.cast_signed(), // ramfs
    0x9fa0,                        // proc
    0x6265_6572,                   // sysfs
    0x6367_7270,                   // cgroup2
    0x1cd1,                        // devpts
    0x5049_5045,                   // pipefs
    0x0904_1934,                   // eventfd, epoll, inotify, timerfd...
    0x7371_7368,                   // squashfs
    0x9660,                        // iso9660
];
const PROC: i32 = 0x9fa0;

/// Puts the classes where the program looks them up.
pub(super) fn fill(shared: &Shared, knows_owner: bool) {
    let mut classes = [Class::Risky as u8; layout::SYSCALL_LIMIT];
    let mut set = |numbers: &[i64], class: Class| {
        for &number in numbers {
            if let Some(to) = usize::try_from(number)
                .ok()
                .and_then(|n| classes.get_mut(n))
            {
                *to = class as u8;
            }
        }
    };
    set(READS, Class::Reads);
    set(WRITES, Class::Writes);
    set(MAPPINGS, Class::Mappings);
    set(SAFE, Class::Safe);
    if knows_owner {
        set(CLONES, Class::Safe);
    }
    set(&[libc::SYS_madvise], Class::Madvise);
    set(&[libc::SYS_ioctl], Class::Ioctl);
    set(&[libc::SYS_futex], Class::Futex);
    set(&[libc::SYS_setsockopt], Class::SetOption);
    set(&[libc::SYS_getsockopt], Class::GetOption);
    for (word, bytes) in classes.as_chunks::<8>().0.iter().enumerate() {
        let to = shared.word(layout::SYSCALLS + 8 * word);
        to.store(
            u64::from_le_bytes(*bytes),
            std::sync::atomic::Ordering::SeqCst,
        );
    }
}

/// A structure: its type, to read through a plain number as if it were a pointer to one, and
/// where its fields are.
#[derive(Clone, Copy, Debug)]
struct Types {
    /// `bpf_rdonly_cast`.
    cast: u32,
    pt_regs: u32,
    file: u32,
    socket: u32,
    connection: u32,
    di: i16,
    si: i16,
    dx: i16,
    task_status: i16,
    task_files: i16,
    files_table: i16,
    table_limit: i16,
    table_files: i16,
    file_flags: i16,
    file_inode: i16,
    file_private: i16,
    inode_mode: i16,
    inode_device: i16,
    inode_super: i16,
    super_magic: i16,
    socket_sk: i16,
    sk_family: i16,
    sk_protocol: i16,
    connection_ulp: i16,
}

impl Types {
    fn new(btf: &Btf) -> Result<Self> {
        let id = |name| {
            btf.structure(name).ok_or(Error::Unsupported {
                what: "type information for files and sockets",
                advice: "open the log without the look at system calls",
            })
        };
        Ok(Self {
            cast: btf.function("bpf_rdonly_cast").ok_or(Error::Unsupported {
                what: "bpf_rdonly_cast",
                advice: "use Linux 6.2 or later, or open the log without the look at system calls",
            })?,
            pt_regs: id("pt_regs")?,
            file: id("file")?,
            socket: id("socket")?,
            connection: id("inet_connection_sock")?,
            di: btf.need("pt_regs", "di")?,
            si: btf.need("pt_regs", "si")?,
            dx: btf.need("pt_regs", "dx")?,
            task_status: btf.need("task_struct", "thread_info.status")?,
            task_files: btf.need("task_struct", "files")?,
            files_table: btf.need("files_struct", "fdt")?,
            table_limit: btf.need("fdtable", "max_fds")?,
            table_files: btf.need("fdtable", "fd")?,
            file_flags: btf.need("file", "f_flags")?,
            file_inode: btf.need("file", "f_inode")?,
            file_private: btf.need("file", "private_data")?,
            inode_mode: btf.need("inode", "i_mode")?,
            inode_device: btf.need("inode", "i_rdev")?,
            inode_super: btf.need("inode", "i_sb")?,
            super_magic: btf.need("super_block", "s_magic")?,
            socket_sk: btf.need("socket", "sk")?,
            sk_family: btf.need("sock", "__sk_common.skc_family")?,
            sk_protocol: btf.need("sock", "sk_protocol")?,
            connection_ulp: btf.need("inet_connection_sock", "icsk_ulp_ops")?,
        })
    }
}

/// Where a decision goes.
#[derive(Clone, Copy)]
struct Ends {
    risky: Label,
    mappings: Label,
    safe: Label,
}

/// The program for `sys_enter(regs, number)`.
pub(super) struct Calls<'a> {
    offsets: &'a Offsets,
    types: Types,
    watched: i32,
    shared: i32,
}

impl<'a> Calls<'a> {
    pub(super) fn new(btf: &Btf, offsets: &'a Offsets, watched: i32, shared: i32) -> Result<Self> {
        Ok(Self {
            offsets,
            types: Types::new(btf)?,
            watched,
            shared,
        })
    }

    /// R0 becomes the number in `from`, as a pointer to a structure that may be read.
    fn cast(&self, a: &mut Asm, from: Reg, id: u32) {
        if from != R1 {
            a.mov(R1, from);
        }
        a.mov(R2, id.cast_signed());
        a.call_kernel(self.types.cast);
    }

    pub(super) fn assemble(&self) -> Asm {
        let mut asm = Asm::new();
        let a = &mut asm;
        let ends = Ends {
            risky: a.label(),
            mappings: a.label(),
            safe: a.label(),
        };
        let (ours, mark) = (a.label(), a.label());
        a.load(Size::Double, R8, R1, 8);
        a.load(Size::Double, R6, R1, 0);
        // Of anyone, onto anyone.
        a.jump_if(Cond::NotEqual, R8, FOREIGN_WRITE, ours);
        a.map_value(R1, self.shared, layout::FOREIGN as u32);
        a.mov(R2, 1);
        a.fetch_add(R1, 0, R2);
        a.place(ours);
        a.store(Size::Double, R10, NUMBER, R8);
        a.call(Helper::CurrentTask);
        a.mov(R7, R0);
        memory_owner(a, self.offsets, ends.safe);
        watched(a, self.watched, self.shared, ends.safe);
        a.load(Size::Word, R9, R0, 0);
        a.jump_if(
            Cond::AboveOrEqual,
            R9,
            layout::WATCHED_LIMIT.cast_signed(),
            ends.safe,
        );
        // Numbers of 32-bit programs mean other calls: TS_COMPAT.
        a.load(Size::Word, R1, R7, self.types.task_status);
        a.jump_if(Cond::AnySet, R1, 2, ends.risky);
        a.jump_if(
            Cond::AboveOrEqual,
            R8,
            layout::SYSCALL_LIMIT as i32,
            ends.risky,
        );
        a.map_value(R1, self.shared, layout::SYSCALLS as u32);
        a.alu(Alu::Add, R1, R8);
        a.load(Size::Byte, R1, R1, 0);
        self.decide(a, ends);

        let total = |a: &mut Asm, word: usize| {
            a.mov(R1, R9);
            a.alu(Alu::Mul, R1, layout::WATCHED_SIZE as i32);
            a.map_value(R2, self.shared, Layout::watched(0) as u32);
            a.alu(Alu::Add, R1, R2);
            a.mov(R2, 1);
            a.fetch_add(R1, word as i16, R2);
        };
        a.place(ends.risky);
        total(a, layout::RISKY);
        a.jump(mark);
        a.place(ends.mappings);
        total(a, layout::MAPPED);
        a.jump(ends.safe);
        a.place(mark);
        a.load(Size::Double, R8, R10, NUMBER);
        a.store(Size::Double, R1, layout::LAST as i16, R8);
        a.place(ends.safe);
        a.mov(R0, 0);
        a.exit();
        asm
    }

    /// R1 is the class, R6 the registers' address, R7 the task.
    fn decide(&self, a: &mut Asm, ends: Ends) {
        let t = &self.types;
        let (madvise, ioctl, futex) = (a.label(), a.label(), a.label());
        let (set_option, get_option, file) = (a.label(), a.label(), a.label());
        let classes = [
            (Class::Risky, ends.risky),
            (Class::Safe, ends.safe),
            (Class::Mappings, ends.mappings),
        ];
        for (class, to) in classes {
            a.jump_if(Cond::Equal, R1, class as i32, to);
        }
        a.store(Size::Double, R10, -16, R1);
        self.cast(a, R6, t.pt_regs);
        a.mov(R6, R0);
        a.load(Size::Double, R1, R10, -16);
        let classes = [
            (Class::Reads, file),
            (Class::Writes, file),
            (Class::Madvise, madvise),
            (Class::Ioctl, ioctl),
            (Class::Futex, futex),
            (Class::SetOption, set_option),
            (Class::GetOption, get_option),
        ];
        for (class, to) in classes {
            a.jump_if(Cond::Equal, R1, class as i32, to);
        }
        a.jump(ends.risky);

        a.place(madvise);
        a.load(Size::Double, R1, R6, t.dx);
        for &advice in ADVICE {
            a.jump_if(Cond::Equal, R1, advice, ends.safe);
        }
        a.jump(ends.risky);

        a.place(futex);
        a.load(Size::Double, R1, R6, t.si);
        a.jump_if(Cond::AnySet, R1, libc::FUTEX_PRIVATE_FLAG, ends.safe);
        a.jump(ends.risky);

        a.place(set_option);
        a.load(Size::Double, R1, R6, t.si);
        for level in [libc::IPPROTO_IP, libc::IPPROTO_TCP, libc::IPPROTO_IPV6] {
            a.jump_if(Cond::Equal, R1, level, ends.safe);
        }
        a.place(get_option);
        a.load(Size::Double, R1, R6, t.si);
        a.jump_if(Cond::Equal, R1, libc::SOL_SOCKET, ends.safe);
        a.jump(ends.risky);

        a.place(ioctl);
        a.load(Size::Double, R1, R6, t.si);
        for &request in REQUESTS {
            a.jump_if(Cond::Equal, R1, request as i32, file);
        }
        a.jump(ends.risky);

        a.place(file);
        self.file(a, ends);
    }

    /// Of the file that is the first argument. The class is at `R10 - 16`.
    fn file(&self, a: &mut Asm, ends: Ends) {
        const O_DIRECT: i32 = libc::O_DIRECT;
        let t = &self.types;
        let (socket, device, checked) = (a.label(), a.label(), a.label());
        a.load(Size::Word, R8, R6, t.di);
        a.load(Size::Double, R1, R7, t.task_files);
        a.jump_if(Cond::Equal, R1, 0, ends.risky);
        a.load(Size::Double, R1, R1, t.files_table);
        a.jump_if(Cond::Equal, R1, 0, ends.risky);
        // No such descriptor: the call fails.
        a.load(Size::Word, R2, R1, t.table_limit);
        a.jump_if(Cond::AboveOrEqual, R8, R2, ends.safe);
        a.load(Size::Double, R3, R1, t.table_files);
        a.alu(Alu::Shl, R8, 3);
        a.alu(Alu::Add, R3, R8);
        peek(a, -24, ends.risky);
        a.load(Size::Double, R1, R10, -24);
        a.jump_if(Cond::Equal, R1, 0, ends.safe);
        self.cast(a, R1, t.file);
        a.mov(R8, R0);
        a.load(Size::Word, R1, R8, t.file_flags);
        a.jump_if(Cond::AnySet, R1, O_DIRECT, ends.risky);
        a.load(Size::Double, R3, R8, t.file_inode);
        a.jump_if(Cond::Equal, R3, 0, ends.risky);
        a.load(Size::Half, R1, R3, t.inode_mode);
        a.alu(Alu::And, R1, libc::S_IFMT as i32);
        a.jump_if(Cond::Equal, R1, libc::S_IFIFO as i32, ends.safe);
        a.jump_if(Cond::Equal, R1, libc::S_IFBLK as i32, ends.safe);
        a.jump_if(Cond::Equal, R1, libc::S_IFCHR as i32, device);
        a.jump_if(Cond::Equal, R1, libc::S_IFSOCK as i32, socket);
        a.load(Size::Double, R2, R3, t.inode_super);
        a.jump_if(Cond::Equal, R2, 0, ends.risky);
        a.load(Size::Double, R2, R2, t.super_magic);
        // As numbers of 32 bits; magic numbers are.
        a.alu(Alu::Shl, R2, 32);
        a.alu(Alu::Shr, R2, 32);
        for &magic in FILE_SYSTEMS {
            a.constant(R4, u64::from(magic.cast_unsigned()));
            a.jump_if(Cond::Equal, R2, R4, checked);
        }
        a.jump(ends.risky);
        // /proc/PID/mem is written to by looking pages up.
        a.place(checked);
        a.load(Size::Double, R1, R10, -16);
        a.jump_if(Cond::NotEqual, R1, Class::Writes as i32, ends.safe);
        a.jump_if(Cond::Equal, R2, PROC, ends.risky);
        a.jump(ends.safe);

        // Memory devices (null, zero, random) and terminals.
        a.place(device);
        a.load(Size::Word, R1, R3, t.inode_device);
        a.alu(Alu::Shr, R1, 20);
        for major in [1, 4, 5].into_iter().chain(136..=143) {
            a.jump_if(Cond::Equal, R1, major, ends.safe);
        }
        a.jump(ends.risky);

        a.place(socket);
        let inet = a.label();
        a.load(Size::Double, R1, R8, t.file_private);
        self.cast(a, R1, t.socket);
        a.load(Size::Double, R8, R0, t.socket_sk);
        a.jump_if(Cond::Equal, R8, 0, ends.safe);
        a.load(Size::Half, R1, R8, t.sk_family);
        a.jump_if(Cond::Equal, R1, libc::AF_UNIX, ends.safe);
        a.jump_if(Cond::Equal, R1, libc::AF_NETLINK, ends.safe);
        a.jump_if(Cond::Equal, R1, libc::AF_INET, inet);
        a.jump_if(Cond::Equal, R1, libc::AF_INET6, inet);
        a.jump(ends.risky);
        // kTLS decrypts into looked-up pages.
        a.place(inet);
        a.load(Size::Half, R1, R8, t.sk_protocol);
        a.jump_if(Cond::Equal, R1, libc::IPPROTO_UDP, ends.safe);
        a.jump_if(Cond::Equal, R1, libc::IPPROTO_ICMP, ends.safe);
        a.jump_if(Cond::NotEqual, R1, libc::IPPROTO_TCP, ends.risky);
        self.cast(a, R8, t.connection);
        a.load(Size::Double, R1, R0, t.connection_ulp);
        a.jump_if(Cond::Equal, R1, 0, ends.safe);
        a.jump(ends.risky);
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn no_call_is_in_two_lists_and_all_fit() {
        let mut all: Vec<i64> = [READS, WRITES, MAPPINGS, CLONES, SAFE].concat();
        let count = all.len();
        all.sort_unstable();
        all.dedup();
        assert_eq!(all.len(), count);
        assert!(all.iter().all(|&n| (n as usize) < layout::SYSCALL_LIMIT));
        for risky in [
            libc::SYS_io_uring_enter,
            libc::SYS_io_submit,
            libc::SYS_vmsplice,
            libc::SYS_futex,
            libc::SYS_futex_waitv,
            libc::SYS_splice,
            libc::SYS_ptrace,
            libc::SYS_process_vm_readv,
            libc::SYS_process_vm_writev,
            libc::SYS_mlock,
            libc::SYS_ftruncate,
            libc::SYS_execve,
        ] {
            assert!(!all.contains(&risky));
        }
    }
}
