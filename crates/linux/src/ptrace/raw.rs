//! The requests themselves, each as a function that is safe to call with any argument.

use super::status::{Outcome, StopKind};
use crate::error::{Error, Result, Target};
use std::ffi::{c_int, c_long, c_void};
use std::io;
use std::sync::atomic::{AtomicUsize, Ordering};

pub(super) const OPTIONS: u32 = (libc::PTRACE_O_TRACECLONE
    | libc::PTRACE_O_TRACEEXEC
    | libc::PTRACE_O_TRACEEXIT
    | libc::PTRACE_O_TRACESYSGOOD) as u32;

/// What makes children ours too.
pub(super) const FOLLOW: u32 = (libc::PTRACE_O_TRACEFORK | libc::PTRACE_O_TRACEVFORK) as u32;

/// Bytes of a `siginfo_t`.
pub(super) const SIGINFO: usize = 128;

const NT_PRSTATUS: usize = 1;
const NT_X86_XSTATE: usize = 0x202;
const NT_X86_SHSTK: usize = 0x204;
const PTRACE_GET_RSEQ_CONFIGURATION: u32 = 0x420f;
const PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG: u32 = 0x4211;

/// One request. ESRCH becomes [`Error::ThreadGone`].
///
/// # Safety
/// `addr` and `data` must be what `request` needs: where it takes a pointer of ours, the memory it
/// points to must be valid for what the kernel does with it.
unsafe fn request(
    what: &'static str,
    request: u32,
    tid: u32,
    addr: usize,
    data: usize,
) -> Result<c_long> {
    // SAFETY: the caller vouches for the two arguments; the raw call is used because the C
    // library's wrapper changes the meaning of the PEEK requests. Nothing else is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_ptrace,
            c_long::from(request),
            c_long::from(tid),
            addr as c_long,
            data as c_long,
        )
    };
    if result >= 0 {
        return Ok(result);
    }
    let source = io::Error::last_os_error();
    if source.raw_os_error() == Some(libc::ESRCH) {
        return Err(Error::ThreadGone(tid));
    }
    Err(Error::Syscall {
        what,
        target: Target::Thread(tid),
        source,
    })
}

fn plain(what: &'static str, req: u32, tid: u32, data: usize) -> Result<()> {
    // SAFETY: only called with requests that take no pointer (SEIZE, INTERRUPT, LISTEN, CONT,
    // SYSCALL, DETACH, SETOPTIONS); any `data` is answered with an error at worst.
    unsafe { request(what, req, tid, 0, data) }.map(|_| ())
}

pub(super) fn seize(tid: u32, options: u32) -> Result<()> {
    plain("PTRACE_SEIZE", libc::PTRACE_SEIZE, tid, options as usize)
}

pub(super) fn interrupt(tid: u32) -> Result<()> {
    plain("PTRACE_INTERRUPT", libc::PTRACE_INTERRUPT, tid, 0)
}

pub(super) fn listen(tid: u32) -> Result<()> {
    plain("PTRACE_LISTEN", libc::PTRACE_LISTEN, tid, 0)
}

pub(super) fn cont(tid: u32, signal: i32) -> Result<()> {
    plain("PTRACE_CONT", libc::PTRACE_CONT, tid, signal as usize)
}

pub(super) fn syscall(tid: u32, signal: i32) -> Result<()> {
    plain("PTRACE_SYSCALL", libc::PTRACE_SYSCALL, tid, signal as usize)
}

pub(super) fn detach(tid: u32, signal: i32) -> Result<()> {
    plain("PTRACE_DETACH", libc::PTRACE_DETACH, tid, signal as usize)
}

pub(super) fn set_options(tid: u32, options: u32) -> Result<()> {
    plain(
        "PTRACE_SETOPTIONS",
        libc::PTRACE_SETOPTIONS,
        tid,
        options as usize,
    )
}

fn get_regset(tid: u32, note: usize, buffer: &mut [u8]) -> Result<usize> {
    let mut iov = libc::iovec {
        iov_base: buffer.as_mut_ptr().cast::<c_void>(),
        iov_len: buffer.len(),
    };
    // SAFETY: `iov` describes `buffer`, which is exclusively borrowed for the call; the kernel
    // writes at most `iov_len` bytes into it and stores how many into `iov`.
    unsafe {
        request(
            "PTRACE_GETREGSET",
            libc::PTRACE_GETREGSET,
            tid,
            note,
            (&raw mut iov) as usize,
        )?;
    }
    Ok(iov.iov_len.min(buffer.len()))
}

pub(super) fn get_words(tid: u32) -> Result<[u64; 27]> {
    let mut words = [0u64; 27];
    let mut iov = libc::iovec {
        iov_base: words.as_mut_ptr().cast::<c_void>(),
        iov_len: size_of_val(&words),
    };
    // SAFETY: `iov` describes `words`, exclusively ours; any bit pattern is a valid `u64`.
    unsafe {
        request(
            "PTRACE_GETREGSET",
            libc::PTRACE_GETREGSET,
            tid,
            NT_PRSTATUS,
            (&raw mut iov) as usize,
        )?;
    }
    if iov.iov_len != size_of_val(&words) {
        return Err(Error::Malformed {
            what: "register set",
            target: Target::Thread(tid),
            detail: format!("{} bytes, not those of a 64-bit thread", iov.iov_len),
        });
    }
    Ok(words)
}

pub(super) fn set_words(tid: u32, words: &[u64; 27]) -> Result<()> {
    let iov = libc::iovec {
        iov_base: words.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: size_of_val(words),
    };
    // SAFETY: `iov` describes `words`, which the kernel only reads for SETREGSET.
    unsafe {
        request(
            "PTRACE_SETREGSET",
            libc::PTRACE_SETREGSET,
            tid,
            NT_PRSTATUS,
            (&raw const iov) as usize,
        )?;
    }
    Ok(())
}

/// Size of the XSAVE area as this machine's kernel gives it; 0 until first asked.
static XSTATE_SIZE: AtomicUsize = AtomicUsize::new(0);
/// Upper bound for it: 16 times what any CPU has today.
const XSTATE_LIMIT: usize = 256 * 1024;

pub(super) fn get_xstate(tid: u32, buffer: &mut Vec<u8>) -> Result<()> {
    let known = XSTATE_SIZE.load(Ordering::Relaxed);
    if known != 0 {
        buffer.resize(known, 0);
        let got = get_regset(tid, NT_X86_XSTATE, buffer)?;
        buffer.truncate(got);
        return Ok(());
    }
    // The size is a property of the machine. A buffer that was not filled tells it.
    let mut size = 16 * 1024;
    loop {
        buffer.resize(size, 0);
        let got = get_regset(tid, NT_X86_XSTATE, buffer)?;
        if got < size || size >= XSTATE_LIMIT {
            buffer.truncate(got);
            XSTATE_SIZE.store(got, Ordering::Relaxed);
            return Ok(());
        }
        size *= 2;
    }
}

/// Sets the XSAVE area. What the bytes do not cover goes to its initial state.
pub(super) fn set_xstate(tid: u32, bytes: &[u8]) -> Result<()> {
    let iov = libc::iovec {
        iov_base: bytes.as_ptr().cast_mut().cast::<c_void>(),
        iov_len: bytes.len(),
    };
    // SAFETY: `iov` describes `bytes`, which the kernel only reads for SETREGSET.
    unsafe {
        request(
            "PTRACE_SETREGSET",
            libc::PTRACE_SETREGSET,
            tid,
            NT_X86_XSTATE,
            (&raw const iov) as usize,
        )?;
    }
    Ok(())
}

/// Whether the thread runs with a user shadow stack.
pub(super) fn has_shadow_stack(tid: u32) -> Result<bool> {
    let mut word = [0u8; 8];
    match get_regset(tid, NT_X86_SHSTK, &mut word) {
        Ok(_) => Ok(true),
        Err(Error::Syscall { .. }) => Ok(false),
        Err(gone) => Err(gone),
    }
}

pub(super) fn get_mask(tid: u32) -> Result<u64> {
    let mut mask = 0u64;
    // SAFETY: the request writes `addr` = 8 bytes to `data`, a `u64` of ours.
    unsafe {
        request(
            "PTRACE_GETSIGMASK",
            libc::PTRACE_GETSIGMASK,
            tid,
            8,
            (&raw mut mask) as usize,
        )?;
    }
    Ok(mask)
}

pub(super) fn set_mask(tid: u32, mask: u64) -> Result<()> {
    // SAFETY: the request reads `addr` = 8 bytes from `data`, a `u64` of ours.
    unsafe {
        request(
            "PTRACE_SETSIGMASK",
            libc::PTRACE_SETSIGMASK,
            tid,
            8,
            (&raw const mask) as usize,
        )?;
    }
    Ok(())
}

pub(super) fn get_siginfo(tid: u32) -> Result<[u8; SIGINFO]> {
    let mut info = [0u64; SIGINFO / 8];
    // SAFETY: the request writes one `siginfo_t`, 128 bytes, to `data`, an array of that size.
    unsafe {
        request(
            "PTRACE_GETSIGINFO",
            libc::PTRACE_GETSIGINFO,
            tid,
            0,
            info.as_mut_ptr() as usize,
        )?;
    }
    let mut bytes = [0u8; SIGINFO];
    for (to, from) in bytes.chunks_exact_mut(8).zip(info) {
        to.copy_from_slice(&from.to_ne_bytes());
    }
    Ok(bytes)
}

/// Reads up to `into.len() / 128` queued signals from position `from` on; returns how many.
pub(super) fn peek_siginfo(tid: u32, shared: bool, from: u64, into: &mut [u8]) -> Result<usize> {
    let count = into.len() / SIGINFO;
    let args = libc::ptrace_peeksiginfo_args {
        off: from,
        flags: u32::from(shared),
        nr: i32::try_from(count).unwrap_or(i32::MAX),
    };
    // SAFETY: the request reads `args` through `addr` and writes at most `args.nr` structures of
    // 128 bytes to `data`; `into` holds that many. The kernel copies byte-wise: no alignment.
    let got = unsafe {
        request(
            "PTRACE_PEEKSIGINFO",
            libc::PTRACE_PEEKSIGINFO,
            tid,
            (&raw const args) as usize,
            into.as_mut_ptr() as usize,
        )?
    };
    Ok(usize::try_from(got).unwrap_or(0).min(count))
}

pub(super) fn get_message(tid: u32) -> Result<u64> {
    let mut message = 0u64;
    // SAFETY: the request writes one `unsigned long` to `data`.
    unsafe {
        request(
            "PTRACE_GETEVENTMSG",
            libc::PTRACE_GETEVENTMSG,
            tid,
            0,
            (&raw mut message) as usize,
        )?;
    }
    Ok(message)
}

/// `struct ptrace_rseq_configuration`.
#[repr(C)]
#[derive(Clone, Copy, Default)]
pub(super) struct RseqConfiguration {
    pub address: u64,
    pub size: u32,
    pub signature: u32,
    pub flags: u32,
    pub pad: u32,
}

pub(super) fn get_rseq(tid: u32) -> Result<RseqConfiguration> {
    let mut c = RseqConfiguration::default();
    // SAFETY: the request writes at most `addr` = size_of bytes to `data`, a plain structure.
    unsafe {
        request(
            "PTRACE_GET_RSEQ_CONFIGURATION",
            PTRACE_GET_RSEQ_CONFIGURATION,
            tid,
            size_of::<RseqConfiguration>(),
            (&raw mut c) as usize,
        )?;
    }
    Ok(c)
}

/// Syscall user dispatch of a thread.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispatch {
    /// 0 off.
    pub mode: u64,
    /// Address of the selector byte.
    pub selector: u64,
    /// First address from which calls are always let through.
    pub offset: u64,
    /// Bytes of that range.
    pub length: u64,
}

pub(super) fn get_dispatch(tid: u32) -> Result<Dispatch> {
    let mut d = Dispatch::default();
    // SAFETY: the request writes exactly `addr` = size_of bytes to `data`, a plain structure.
    let got = unsafe {
        request(
            "PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG",
            PTRACE_GET_SYSCALL_USER_DISPATCH_CONFIG,
            tid,
            size_of::<Dispatch>(),
            (&raw mut d) as usize,
        )
    };
    match got {
        // Kernels before 6.4 do not know the request.
        Err(Error::Syscall { source, .. })
            if matches!(source.raw_os_error(), Some(libc::EIO | libc::EINVAL)) =>
        {
            Ok(Dispatch::default())
        }
        other => other.map(|_| d),
    }
}

/// What PTRACE_GET_SYSCALL_INFO says of a stop.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum SyscallInfo {
    /// Not stopped at a system call.
    None,
    /// About to enter it.
    Entry {
        /// Its number.
        number: u64,
        /// Its arguments.
        arguments: [u64; 6],
    },
    /// About to leave it.
    Exit {
        /// Result, a negated error number if it failed.
        result: i64,
    },
    /// At a seccomp stop.
    Seccomp,
}

pub(super) fn get_syscall_info(tid: u32) -> Result<SyscallInfo> {
    // struct ptrace_syscall_info: op u8, pad[3], arch u32, ip u64, sp u64, then a union.
    let mut words = [0u64; 12];
    // SAFETY: the request writes at most `addr` = size_of_val bytes to `data`.
    unsafe {
        request(
            "PTRACE_GET_SYSCALL_INFO",
            libc::PTRACE_GET_SYSCALL_INFO,
            tid,
            size_of_val(&words),
            words.as_mut_ptr() as usize,
        )?;
    }
    let [head, _ip, _sp, first, a, b, c, d, e, f, ..] = words;
    Ok(match head.to_ne_bytes()[0] {
        libc::PTRACE_SYSCALL_INFO_ENTRY => SyscallInfo::Entry {
            number: first,
            arguments: [a, b, c, d, e, f],
        },
        libc::PTRACE_SYSCALL_INFO_EXIT => SyscallInfo::Exit {
            result: first.cast_signed(),
        },
        libc::PTRACE_SYSCALL_INFO_SECCOMP => SyscallInfo::Seccomp,
        _ => SyscallInfo::None,
    })
}

/// Whether two processes have one address space; `None` where the kernel does not tell (no `kcmp`,
/// or one of them is gone).
pub(crate) fn same_memory(a: u32, b: u32) -> Option<bool> {
    const KCMP_VM: c_long = 1;
    // SAFETY: no memory is passed.
    let result = unsafe {
        libc::syscall(
            libc::SYS_kcmp,
            c_long::from(a),
            c_long::from(b),
            KCMP_VM,
            0,
            0,
        )
    };
    (result >= 0).then_some(result == 0)
}

pub(super) fn robust_list(tid: u32) -> Result<(u64, u64)> {
    let (mut head, mut length) = (0u64, 0u64);
    // SAFETY: the call writes a pointer and a size, one word each, to the two places.
    let result = unsafe {
        libc::syscall(
            libc::SYS_get_robust_list,
            c_long::from(tid),
            &raw mut head,
            &raw mut length,
        )
    };
    if result < 0 {
        return Err(Error::last("get_robust_list", Target::Thread(tid)));
    }
    Ok((head, length))
}

/// What a wait found.
pub(super) enum Found {
    Nothing,
    Stop(StopKind),
    End(Outcome),
}

fn waitid(kind: libc::idtype_t, id: u32, flags: c_int) -> Result<Option<libc::siginfo_t>> {
    loop {
        // SAFETY: all-zero is a valid `siginfo_t`, a C structure of integers and pointers.
        let mut info: libc::siginfo_t = unsafe { std::mem::zeroed() };
        // SAFETY: `info` is ours for the call to fill.
        let result = unsafe { libc::waitid(kind, id, &raw mut info, flags) };
        if result == 0 {
            // SAFETY: si_pid is at the same place for every way waitid fills the structure, and
            // stays 0 when it found nothing.
            let pid = unsafe { info.si_pid() };
            return Ok((pid != 0).then_some(info));
        }
        let source = io::Error::last_os_error();
        match source.raw_os_error() {
            Some(libc::EINTR) => {}
            Some(libc::ECHILD) => return Err(Error::ThreadGone(id)),
            _ => {
                return Err(Error::Syscall {
                    what: "waitid",
                    target: Target::Thread(id),
                    source,
                });
            }
        }
    }
}

/// Asks for a report of one thread, not waiting for it.
///
/// A signal about to be delivered is looked at and not taken: taking the report makes the kernel
/// forget the signal until it is told what to deliver, and if we were killed in between it would be
/// lost to the target. The same report is there again until the thread is resumed.
pub(super) fn wait(tid: u32) -> Result<Found> {
    let found = wait_with(tid, libc::WNOWAIT)?;
    match found {
        Found::Nothing | Found::Stop(StopKind::Signal(_)) => Ok(found),
        // What is taken may be another report than the one seen: it has been killed meanwhile.
        Found::Stop(_) | Found::End(_) => wait_with(tid, 0),
    }
}

fn wait_with(tid: u32, how: c_int) -> Result<Found> {
    // Stops of tracees are reported with WEXITED alone; WSTOPPED would add job-control stops of
    // ordinary children.
    let flags = libc::WEXITED | libc::WNOHANG | libc::__WALL | libc::__WNOTHREAD | how;
    let Some(info) = waitid(libc::P_PID, tid, flags)? else {
        return Ok(Found::Nothing);
    };
    // SAFETY: waitid filled the structure for a child, so si_status is the member in use.
    let status = unsafe { info.si_status() };
    Ok(match info.si_code {
        libc::CLD_EXITED => Found::End(Outcome::Exited(status)),
        libc::CLD_KILLED => Found::End(Outcome::Killed {
            signal: status,
            core: false,
        }),
        libc::CLD_DUMPED => Found::End(Outcome::Killed {
            signal: status,
            core: true,
        }),
        _ => Found::Stop(StopKind::from_status(status)),
    })
}

/// Waits until a thread has a report, which is left for [`wait`], or until a signal is handled.
/// Returns whether there is a report, the thread's disappearance included.
pub(crate) fn wait_blocking(tid: u32) -> Result<bool> {
    let flags = libc::WEXITED | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    // SAFETY: all-zero is a valid `siginfo_t`, and it is ours for the call to fill.
    let result = unsafe {
        let mut info: libc::siginfo_t = std::mem::zeroed();
        libc::waitid(libc::P_PID, tid, &raw mut info, flags)
    };
    if result == 0 {
        return Ok(true);
    }
    let source = io::Error::last_os_error();
    match source.raw_os_error() {
        Some(libc::EINTR) => Ok(false),
        Some(libc::ECHILD) => Ok(true),
        _ => Err(Error::Syscall {
            what: "waitid",
            target: Target::Thread(tid),
            source,
        }),
    }
}

/// Looks, without consuming it, for a report of any child or tracee of this thread. Returns its id
/// and whether the report is a stop of a tracee; an ordinary child can only have ended.
pub(crate) fn wait_any_peek() -> Result<Option<(u32, bool)>> {
    let flags = libc::WEXITED | libc::WNOHANG | libc::WNOWAIT | libc::__WALL | libc::__WNOTHREAD;
    match waitid(libc::P_ALL, 0, flags) {
        Ok(Some(info)) => {
            // SAFETY: as in `waitid`.
            let pid = unsafe { info.si_pid() };
            Ok(Some((
                pid.cast_unsigned(),
                info.si_code == libc::CLD_TRAPPED,
            )))
        }
        Ok(None) | Err(Error::ThreadGone(_)) => Ok(None),
        Err(e) => Err(e),
    }
}
