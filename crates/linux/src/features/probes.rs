//! Probes that do in small what a recording does.

use super::Feature;
use crate::copy::{Copier, PageArena};
use crate::error::Result;
use crate::pagemap::{Categories, ScanEnd, Scanner};
use crate::softdirty::SoftDirty;
use crate::uffd::{Features, Registration, Userfaultfd};
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Names of features.
pub(super) const CATCHES_WRITES: &str = "wp-catches-writes";
pub(super) const SOFT_DIRTY: &str = "soft-dirty";

const PAGE: u64 = stillframe_image::PAGE_SIZE as u64;

/// What tracking stands on; all must be available.
pub(super) fn tracking() -> Vec<Feature> {
    vec![userfaultfd(), wp_async(), pagemap_scan(), catches_writes()]
}

fn userfaultfd() -> Feature {
    let advice = "enable CONFIG_USERFAULTFD; in a container, allow the userfaultfd system call";
    Feature::new(
        "userfaultfd",
        "tracking written pages",
        Userfaultfd::supported_features()
            .map(|_| "a user-mode one can be made without privilege")
            .map_err(|e| format!("{e}; {advice}")),
    )
}

fn wp_async() -> Feature {
    let outcome = match Userfaultfd::supported_features() {
        Err(e) => Err(e.to_string()),
        Ok(has) => match Features::TRACKING.without(has) {
            Features(0) => Ok(has.to_string()),
            missing => Err(format!("without {missing}; use Linux 6.7 or later")),
        },
    };
    Feature::new(
        "wp-async",
        "tracking without stopping the target at each write",
        outcome,
    )
}

fn pagemap_scan() -> Feature {
    let outcome = Scanner::open(std::process::id())
        .map_err(|e| e.to_string())
        .map(|scanner| {
            let guards = scanner.known().contains(Categories::GUARD);
            format!(
                "available, {} guard pages",
                if guards { "tells" } else { "does not tell" }
            )
        });
    Feature::new(
        "pagemap-scan",
        "finding and protecting written pages in one pass",
        outcome,
    )
}

/// What tracking stands on where those are not; none of them is needed besides.
pub(super) fn soft_dirty() -> Feature {
    Feature::new(
        SOFT_DIRTY,
        "tracking written pages on kernels before 6.7",
        SoftDirty::require()
            .map(|()| "a write to a page of ours was found, and cleared")
            .map_err(|e| e.to_string()),
    )
}

fn catches_writes() -> Feature {
    let outcome = match watch_one_write() {
        Ok(true) => Ok("a write to a protected page was found, and nothing else"),
        Ok(false) => Err("a write to a protected page was not found".to_owned()),
        Err(e) => Err(e.to_string()),
    };
    Feature::new(CATCHES_WRITES, "trusting the tracker", outcome)
}

/// Protects eight pages of ours, reads one and writes another: is exactly the latter found?
fn watch_one_write() -> Result<bool> {
    let mut arena = PageArena::new(8)?;
    for page in arena.extend(8)? {
        page.fill(1);
    }
    let start = arena.pages().as_ptr().addr() as u64;
    let range = start..start + 8 * PAGE;
    let uffd = Userfaultfd::for_self()?;
    if uffd.register(range.clone())? != Registration::Registered {
        return Ok(false);
    }
    let mut scanner = Scanner::open(std::process::id())?;
    let mut found = Vec::new();
    if scanner.written_and_protect(range.clone(), &mut found)? != ScanEnd::Complete {
        return Ok(false);
    }
    arena.truncate(3);
    std::hint::black_box(arena.pages()[1][0]);
    for page in arena.extend(1)? {
        page[0] = std::hint::black_box(2);
    }
    found.clear();
    let end = scanner.written_and_protect(range, &mut found)?;
    let written = start + 3 * PAGE;
    Ok(end == ScanEnd::Complete && found == std::slice::from_ref(&(written..written + PAGE)))
}

/// What else is asked of the kernel about another process.
pub(super) fn tracing() -> Vec<Feature> {
    // Made before the child, which so has it at the same address.
    let mut page = match PageArena::new(1) {
        Ok(page) => page,
        Err(e) => {
            return vec![Feature::new(
                "ptrace",
                STOPPING,
                Err::<&str, _>(e.to_string()),
            )];
        }
    };
    if let Ok(slots) = page.extend(1) {
        slots[0].fill(0x5a);
    }
    let child = match Child::start() {
        Ok(child) => child,
        Err(e) => {
            let why = format!("no child process to try on: {e}");
            return vec![Feature::new("ptrace", STOPPING, Err::<&str, _>(why))];
        }
    };
    let mut features = vec![pidfd_getfd(&child), process_vm_readv(&child, &page)];
    features.extend(ptrace(&child));
    features
}

const STOPPING: &str = "stopping the target, its registers, calls made inside it";

/// A fork of ours that waits until it is dropped.
struct Child {
    pid: libc::pid_t,
}

impl Child {
    fn start() -> io::Result<Self> {
        let parent = std::process::id().cast_signed();
        // SAFETY: the child calls only async-signal-safe functions (prctl, getppid, pause, _exit)
        // and never returns from this block, which is what a fork of a threaded process requires.
        let pid = unsafe {
            let pid = libc::fork();
            if pid == 0 {
                libc::prctl(libc::PR_SET_PDEATHSIG, libc::SIGKILL);
                if libc::getppid() != parent {
                    libc::_exit(0);
                }
                loop {
                    libc::pause();
                }
            }
            pid
        };
        if pid < 0 {
            Err(io::Error::last_os_error())
        } else {
            Ok(Self { pid })
        }
    }
}

impl Drop for Child {
    fn drop(&mut self) {
        // SAFETY: `pid` is our child and has not been waited for, so the number still means it.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, std::ptr::null_mut(), libc::__WALL);
        }
    }
}

fn pidfd_getfd(child: &Child) -> Feature {
    let outcome = (|| {
        // SAFETY: takes two integers; the result, if not negative, is a new descriptor of ours.
        let pidfd = unsafe { libc::syscall(libc::SYS_pidfd_open, child.pid, 0) };
        let pidfd = owned(pidfd)?;
        // The pidfd came after the fork; ask for a number that is open in the child for sure.
        let listing = std::fs::read_dir(format!("/proc/{}/fd", child.pid))?;
        let number = listing
            .flatten()
            .find_map(|e| e.file_name().to_str()?.parse::<i32>().ok())
            .ok_or_else(|| io::Error::other("the child has no open descriptor"))?;
        // SAFETY: takes three integers; as above.
        let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), number, 0) };
        owned(taken).map(|_| "a descriptor of a child was taken")
    })();
    let outcome: io::Result<&str> = outcome;
    Feature::new(
        "pidfd-getfd",
        "taking the userfaultfd out of the target",
        outcome.map_err(|e| format!("{e}; needs Linux 5.6 and ptrace permission")),
    )
}

fn owned(fd: libc::c_long) -> io::Result<OwnedFd> {
    match i32::try_from(fd) {
        // SAFETY: callers pass the result of a call that makes a new descriptor.
        Ok(fd) if fd >= 0 => Ok(unsafe { OwnedFd::from_raw_fd(fd) }),
        _ => Err(io::Error::last_os_error()),
    }
}

fn process_vm_readv(child: &Child, page: &PageArena) -> Feature {
    let outcome = (|| {
        let start = page.pages().as_ptr().addr() as u64;
        let mut arena = PageArena::new(1)?;
        let mut copier = Copier::open(child.pid.cast_unsigned())?;
        let report = copier.copy(std::slice::from_ref(&(start..start + PAGE)), &mut arena)?;
        Ok((report, arena.pages() == page.pages()))
    })();
    let outcome: Result<_> = outcome;
    Feature::new(
        "process-vm-readv",
        "copying pages in batches",
        match outcome {
            Ok((report, true)) if report.forced == 0 => Ok("a page of a child was copied"),
            Ok((_, true)) => Err("only /proc/PID/mem works, more slowly".to_owned()),
            Ok(_) => Err("a page of a child was not copied right".to_owned()),
            Err(e) => Err(format!("{e}; allow the process_vm_readv system call")),
        },
    )
}

fn ptrace(child: &Child) -> Vec<Feature> {
    let none = std::ptr::null_mut::<libc::c_void>();
    // SAFETY: PTRACE_SEIZE takes no pointers; the child stays ours.
    let seized = unsafe { libc::ptrace(libc::PTRACE_SEIZE, child.pid, none, none) } == 0;
    let error = io::Error::last_os_error();
    let mut features = vec![Feature::new(
        "ptrace",
        STOPPING,
        if seized {
            Ok("a child was seized")
        } else {
            Err(format!(
                "{error}; a container may forbid ptrace, or yama at scope 3"
            ))
        },
    )];
    if !seized {
        return features;
    }
    let mut status = 0;
    // SAFETY: PTRACE_INTERRUPT takes no pointers; waitpid writes one int.
    let stopped = unsafe {
        libc::ptrace(libc::PTRACE_INTERRUPT, child.pid, none, none) == 0
            && libc::waitpid(child.pid, &raw mut status, libc::__WALL) == child.pid
    } && libc::WIFSTOPPED(status);
    if !stopped {
        return features;
    }
    features.push(rseq(child));
    features.push(xsave(child));
    features
}

fn rseq(child: &Child) -> Feature {
    let mut rseq = linux_raw_sys::ptrace::ptrace_rseq_configuration {
        rseq_abi_pointer: 0,
        rseq_abi_size: 0,
        signature: 0,
        flags: 0,
        pad: 0,
    };
    // SAFETY: with the size given as the third argument the kernel writes at most that many bytes
    // at the fourth, which is that large.
    let read = unsafe {
        libc::ptrace(
            linux_raw_sys::ptrace::PTRACE_GET_RSEQ_CONFIGURATION,
            child.pid,
            std::ptr::without_provenance_mut::<libc::c_void>(size_of_val(&rseq)),
            (&raw mut rseq).cast::<libc::c_void>(),
        )
    };
    let outcome = if read > 0 {
        Ok(match rseq.rseq_abi_pointer {
            0 => "readable; our child has none registered".to_owned(),
            _ => format!(
                "readable; our child registered {} bytes",
                rseq.rseq_abi_size
            ),
        })
    } else {
        Err(format!("{}; needs Linux 5.13", io::Error::last_os_error()))
    };
    Feature::new("rseq", "restartable sequences of threads", outcome)
}

fn xsave(child: &Child) -> Feature {
    let mut area = vec![0_u8; 64 << 10];
    let mut vector = libc::iovec {
        iov_base: area.as_mut_ptr().cast(),
        iov_len: area.len(),
    };
    // SAFETY: the kernel writes at most `iov_len` bytes at `iov_base`, which is `area`, and updates
    // the length in `vector`.
    let read = unsafe {
        libc::ptrace(
            libc::PTRACE_GETREGSET,
            child.pid,
            std::ptr::without_provenance_mut::<libc::c_void>(NT_X86_XSTATE),
            &raw mut vector,
        )
    };
    let outcome = if read == 0 {
        // XCR0 stands in the software-reserved bytes of the legacy area (asm/sigcontext.h,
        // `sw_reserved`, at 464).
        let features = area.get(464..472).and_then(|b| b.first_chunk()).copied();
        let features = u64::from_le_bytes(features.unwrap_or_default());
        Ok(format!("{} bytes, {}", vector.iov_len, xfeatures(features)))
    } else {
        Err(io::Error::last_os_error().to_string())
    };
    Feature::new("xsave", "vector registers", outcome)
}

const NT_X86_XSTATE: usize = 0x202;

/// Names of XCR0's bits (Intel SDM volume 1, 13.1).
fn xfeatures(bits: u64) -> String {
    let names = [
        (0, "x87"),
        (1, "sse"),
        (2, "avx"),
        (5, "avx512"),
        (9, "pkru"),
        (17, "amx"),
        (19, "apx"),
    ];
    let present: Vec<_> = names
        .iter()
        .filter(|(bit, _)| bits >> bit & 1 != 0)
        .map(|(_, name)| *name)
        .collect();
    format!("{} (xcr0 {bits:#x})", present.join(" "))
}
