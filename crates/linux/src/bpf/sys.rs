//! `bpf(2)`: maps, programs, attaching. Everything is a descriptor and nothing is pinned, so the
//! kernel takes it all back when the recorder dies.

use super::asm::Asm;
use crate::error::{Error, Result, Target};
use std::ffi::CStr;
use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr::NonNull;

const MAP_CREATE: u32 = 0;
const MAP_UPDATE: u32 = 2;
const MAP_DELETE: u32 = 3;
const PROG_LOAD: u32 = 5;
const TEST_RUN: u32 = 10;
const INFO_BY_FD: u32 = 15;
const TRACEPOINT_OPEN: u32 = 17;

const MAP_TYPE_HASH: u32 = 1;
const MAP_TYPE_ARRAY: u32 = 2;
const NO_PREALLOC: u32 = 1;
const MMAPABLE: u32 = 1 << 10;

/// What a program says about its license; the kernel lets only GPL-compatible ones read its
/// structures.
const LICENSE: &CStr = c"Dual MIT/GPL";

/// The kinds of program we load.
#[derive(Clone, Copy, Debug)]
pub(super) enum Kind {
    RawTracepoint = 17,
    /// Runs when asked to, by [`Program::run`].
    Syscall = 31,
}

/// Makes one call.
///
/// # Safety
/// `attributes` must be what `command` reads and writes, pointers in it included.
unsafe fn bpf<T>(command: u32, attributes: &mut T) -> io::Result<i32> {
    let size = size_of::<T>();
    // SAFETY: the kernel reads and writes `size` bytes of `attributes`, and what they point to,
    // which the caller answers for.
    let done = unsafe { libc::syscall(libc::SYS_bpf, command, &raw mut *attributes, size) };
    match i32::try_from(done) {
        Ok(done) if done >= 0 => Ok(done),
        _ => Err(io::Error::last_os_error()),
    }
}

/// As [`bpf`], for commands that give a new descriptor.
///
/// # Safety
/// As [`bpf`].
unsafe fn bpf_fd<T>(command: u32, attributes: &mut T) -> io::Result<OwnedFd> {
    // SAFETY: as the caller promises.
    let fd = unsafe { bpf(command, attributes)? };
    // SAFETY: the kernel just made this descriptor for us; nothing else owns it.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// A failure, with what to do about it.
fn fail(what: &'static str, source: io::Error) -> Error {
    let advice = match source.raw_os_error() {
        Some(libc::EPERM | libc::EACCES) => {
            "run the recorder as root, or with CAP_BPF and CAP_PERFMON (for pre-images CAP_SYS_ADMIN too)"
        }
        Some(libc::ENOSYS) => "this kernel has no bpf(2), or a seccomp filter forbids it",
        Some(libc::ENOENT) => "this kernel has no such tracepoint",
        Some(libc::ENOMEM | libc::E2BIG) => "ask for smaller buffers",
        _ => "see still doctor",
    };
    Error::Bpf {
        what,
        source,
        advice: advice.into(),
    }
}

/// A hash map from a 32-bit key to a 32-bit value.
#[derive(Debug)]
pub(super) struct HashMap {
    fd: OwnedFd,
}

#[repr(C)]
struct MapCreate {
    kind: u32,
    key: u32,
    value: u32,
    entries: u32,
    flags: u32,
}

#[repr(C)]
struct MapElement {
    fd: u32,
    pad: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl HashMap {
    pub(super) fn new(entries: u32) -> Result<Self> {
        let mut create = MapCreate {
            kind: MAP_TYPE_HASH,
            key: 4,
            value: 4,
            entries,
            flags: NO_PREALLOC,
        };
        // SAFETY: BPF_MAP_CREATE reads `create`, which holds no pointers.
        let fd = unsafe { bpf_fd(MAP_CREATE, &mut create) }.map_err(|e| fail("map", e))?;
        Ok(Self { fd })
    }

    pub(super) fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    fn element(&self, command: u32, key: &u32, value: Option<&u32>) -> io::Result<()> {
        let mut element = MapElement {
            fd: self.fd.as_raw_fd().cast_unsigned(),
            pad: 0,
            key: std::ptr::from_ref(key).expose_provenance() as u64,
            value: value.map_or(0, |v| std::ptr::from_ref(v).expose_provenance() as u64),
            flags: 0,
        };
        // SAFETY: both commands read a key of four bytes and at most a value of four, which are
        // what the pointers lead to and what the map was made with.
        unsafe { bpf(command, &mut element) }.map(drop)
    }

    pub(super) fn insert(&self, key: u32, value: u32) -> Result<()> {
        self.element(MAP_UPDATE, &key, Some(&value))
            .map_err(|e| fail("map entry", e))
    }

    /// Removes a key; whether it was there.
    pub(super) fn remove(&self, key: u32) -> Result<bool> {
        match self.element(MAP_DELETE, &key, None) {
            Ok(()) => Ok(true),
            Err(e) if e.raw_os_error() == Some(libc::ENOENT) => Ok(false),
            Err(e) => Err(fail("map entry", e)),
        }
    }
}

/// Memory that programs and we both have: an array map of one value.
#[derive(Debug)]
pub(super) struct Shared {
    fd: OwnedFd,
    base: NonNull<u8>,
    length: usize,
}

// SAFETY: the mapping belongs to this value alone; it is reached only by raw pointers and atomics
// whose users answer for it.
unsafe impl Send for Shared {}

impl Shared {
    /// Makes `length` zeroed bytes, rounded up to whole pages.
    pub(super) fn new(length: usize) -> Result<Self> {
        let length = length.next_multiple_of(4096);
        let value = u32::try_from(length)
            .map_err(|_| fail("map", io::Error::from_raw_os_error(libc::E2BIG)))?;
        let mut create = MapCreate {
            kind: MAP_TYPE_ARRAY,
            key: 4,
            value,
            entries: 1,
            flags: MMAPABLE,
        };
        // SAFETY: BPF_MAP_CREATE reads `create`, which holds no pointers.
        let fd = unsafe { bpf_fd(MAP_CREATE, &mut create) }.map_err(|e| fail("map", e))?;
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe {
            libc::mmap(
                std::ptr::null_mut(),
                length,
                libc::PROT_READ | libc::PROT_WRITE,
                libc::MAP_SHARED,
                fd.as_raw_fd(),
                0,
            )
        };
        match NonNull::new(base.cast::<u8>()) {
            Some(at) if base != libc::MAP_FAILED => Ok(Self {
                fd,
                base: at,
                length,
            }),
            _ => Err(Error::last("mmap", Target::Us)),
        }
    }

    pub(super) fn fd(&self) -> i32 {
        self.fd.as_raw_fd()
    }

    /// A pointer to `length` bytes at `offset`, checked to lie inside and to be aligned for `T`.
    /// Programs may write there at any time.
    ///
    /// # Panics
    /// If they do not lie inside: a mistake in the layout.
    pub(super) fn at<T>(&self, offset: usize) -> NonNull<T> {
        let inside = offset
            .checked_add(size_of::<T>())
            .is_some_and(|end| end <= self.length);
        assert!(
            inside && offset.is_multiple_of(align_of::<T>()),
            "offset {offset} is outside the shared memory"
        );
        // SAFETY: `offset` is inside the mapping, just checked.
        unsafe { self.base.add(offset) }.cast()
    }

    /// 64 bits that both sides use.
    pub(super) fn word(&self, offset: usize) -> &std::sync::atomic::AtomicU64 {
        // SAFETY: inside the mapping and aligned, as `at` checked; any content is a valid integer;
        // the mapping lives as long as `self`; programs use whole-word loads and stores there.
        unsafe { self.at::<std::sync::atomic::AtomicU64>(offset).as_ref() }
    }
}

impl Drop for Shared {
    fn drop(&mut self) {
        // SAFETY: exactly our mapping; references into it were borrows of `self`.
        unsafe { libc::munmap(self.base.as_ptr().cast(), self.length) };
    }
}

/// A loaded program.
#[derive(Debug)]
pub(super) struct Program {
    fd: OwnedFd,
    name: &'static str,
}

#[repr(C)]
struct Load {
    kind: u32,
    instructions: u32,
    code: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log: u64,
    kernel_version: u32,
    flags: u32,
    name: [u8; 16],
}

#[repr(C)]
struct Run {
    fd: u32,
    retval: u32,
    data_size_in: u32,
    data_size_out: u32,
    data_in: u64,
    data_out: u64,
    repeat: u32,
    duration: u32,
    ctx_size_in: u32,
    ctx_size_out: u32,
    ctx_in: u64,
    ctx_out: u64,
    flags: u32,
    cpu: u32,
    batch: u32,
    pad: u32,
}

#[repr(C)]
struct Info {
    fd: u32,
    length: u32,
    info: u64,
}

/// The start of `struct bpf_prog_info`, up to `recursion_misses`.
#[repr(C)]
struct ProgramInfo {
    ignored: [u64; 26],
    misses: u64,
}

#[repr(C)]
struct Attach {
    name: u64,
    fd: u32,
    pad: u32,
    cookie: u64,
}

/// Only programs that may sleep are run by asking; the verifier wants to be told.
const SLEEPABLE: u32 = 1 << 4;

impl Program {
    /// Assembles and loads one.
    ///
    /// # Errors
    /// [`Error::Bpf`] with the verifier's last words if it refused.
    pub(super) fn load(kind: Kind, name: &'static str, asm: Asm) -> Result<Self> {
        let code = asm.finish().map_err(|e| {
            let detail = io::Error::other(e.to_string());
            fail(name, detail)
        })?;
        let address = |p: *const u8| p.expose_provenance() as u64;
        let mut load = Load {
            kind: kind as u32,
            instructions: code.len() as u32,
            code: address(code.as_ptr().cast()),
            license: address(LICENSE.as_ptr().cast()),
            log_level: 0,
            log_size: 0,
            log: 0,
            kernel_version: 0,
            flags: match kind {
                Kind::RawTracepoint => 0,
                Kind::Syscall => SLEEPABLE,
            },
            name: [0; 16],
        };
        for (to, from) in load.name.iter_mut().take(15).zip(b"stillframe") {
            *to = *from;
        }
        // SAFETY: BPF_PROG_LOAD reads `load`, `instructions` instructions at `code` and the license
        // up to its end; both outlive the call.
        let error = match unsafe { bpf_fd(PROG_LOAD, &mut load) } {
            Ok(fd) => return Ok(Self { fd, name }),
            Err(e) => e,
        };
        let verdict = matches!(error.raw_os_error(), Some(libc::EACCES | libc::EINVAL));
        if !verdict {
            return Err(fail(name, error));
        }
        // The verifier does not like it: once more, to hear why.
        let mut log = vec![0_u8; 1 << 20];
        load.log_level = 1;
        load.log_size = log.len() as u32;
        load.log = address(log.as_mut_ptr());
        // SAFETY: as before, and it writes at most `log_size` bytes at `log`.
        match unsafe { bpf_fd(PROG_LOAD, &mut load) } {
            Ok(fd) => Ok(Self { fd, name }),
            Err(source) => {
                let text = String::from_utf8_lossy(&log);
                let text = text.trim_end_matches('\0');
                tracing::debug!(program = name, "verifier: {text}");
                #[cfg(test)]
                println!("{name}: {text}");
                let last = text
                    .lines()
                    .rev()
                    .find(|l| !l.is_empty() && !l.starts_with("processed "))
                    .unwrap_or("no reason given");
                Err(Error::Bpf {
                    what: name,
                    source,
                    advice: format!("the verifier says: {last}").into(),
                })
            }
        }
    }

    /// Runs it once, with `context` as its context, which it may change; gives its result.
    pub(super) fn run<const N: usize>(&self, context: &mut [u64; N]) -> Result<u32> {
        let mut run = Run {
            fd: self.fd.as_raw_fd().cast_unsigned(),
            retval: 0,
            data_size_in: 0,
            data_size_out: 0,
            data_in: 0,
            data_out: 0,
            repeat: 0,
            duration: 0,
            ctx_size_in: size_of_val(context) as u32,
            ctx_size_out: 0,
            ctx_in: match N {
                0 => 0,
                _ => context.as_mut_ptr().expose_provenance() as u64,
            },
            ctx_out: 0,
            flags: 0,
            cpu: 0,
            batch: 0,
            pad: 0,
        };
        // SAFETY: BPF_PROG_TEST_RUN of a `syscall` program reads and writes `ctx_size_in` bytes at
        // `ctx_in`, which is `context`.
        unsafe { bpf(TEST_RUN, &mut run) }.map_err(|e| fail(self.name, e))?;
        Ok(run.retval)
    }

    /// How many times the kernel left it out because it was running on that processor already.
    pub(super) fn misses(&self) -> Result<u64> {
        let mut program = ProgramInfo {
            ignored: [0; 26],
            misses: 0,
        };
        let mut info = Info {
            fd: self.fd.as_raw_fd().cast_unsigned(),
            length: size_of::<ProgramInfo>() as u32,
            info: (&raw mut program).expose_provenance() as u64,
        };
        // SAFETY: BPF_OBJ_GET_INFO_BY_FD reads and writes `length` bytes at `info`. The pointers
        // in them are null with lengths of zero, so nothing else is written.
        unsafe { bpf(INFO_BY_FD, &mut info) }.map_err(|e| fail(self.name, e))?;
        Ok(program.misses)
    }

    /// Attaches it to a tracepoint until the link is dropped.
    pub(super) fn attach(&self, tracepoint: &'static CStr) -> Result<Link> {
        let mut attach = Attach {
            name: tracepoint.as_ptr().expose_provenance() as u64,
            fd: self.fd.as_raw_fd().cast_unsigned(),
            pad: 0,
            cookie: 0,
        };
        // SAFETY: BPF_RAW_TRACEPOINT_OPEN reads `attach` and the name up to its end.
        let fd = unsafe { bpf_fd(TRACEPOINT_OPEN, &mut attach) }.map_err(|e| fail(self.name, e))?;
        Ok(Link(fd))
    }
}

/// An attachment; dropping it ends it.
#[derive(Debug)]
pub(super) struct Link(#[allow(dead_code, reason = "held, never used")] OwnedFd);
