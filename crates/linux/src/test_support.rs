//! What the unit tests of several modules need: memory of ours to write to, a tracker over it, a
//! forked child.

use crate::pagemap::{ScanEnd, Scanner};
use crate::uffd::{Registration, Userfaultfd};
use std::ops::Range;
use std::ptr;

pub(crate) const PAGE: usize = 4096;

/// A mapping of ours, unmapped when dropped.
pub(crate) struct Map {
    pub(crate) base: *mut u8,
    pub(crate) length: usize,
}

impl Map {
    pub(crate) fn anonymous(pages: usize) -> Self {
        Self::new(
            pages * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
        )
    }

    pub(crate) fn new(length: usize, protection: i32, flags: i32, fd: i32) -> Self {
        // SAFETY: a new mapping at an address of the kernel's choice.
        let base = unsafe { libc::mmap(ptr::null_mut(), length, protection, flags, fd, 0) };
        assert_ne!(
            base,
            libc::MAP_FAILED,
            "{}",
            std::io::Error::last_os_error()
        );
        Self {
            base: base.cast(),
            length,
        }
    }

    /// Reserved with room, so that the start can be aligned to 2 MiB.
    pub(crate) fn aligned(length: usize) -> Self {
        const HUGE: usize = 2 << 20;
        let map = Self::anonymous((length + HUGE) / PAGE);
        let skip = map.base.align_offset(HUGE);
        // SAFETY: unmaps the unaligned head and the rest behind, both inside our mapping.
        unsafe {
            if skip > 0 {
                libc::munmap(map.base.cast(), skip);
            }
            let base = map.base.add(skip);
            libc::munmap(base.add(length).cast(), HUGE - skip);
            std::mem::forget(map);
            Self { base, length }
        }
    }

    pub(crate) fn start(&self) -> u64 {
        self.base.addr() as u64
    }

    pub(crate) fn range(&self) -> Range<u64> {
        self.start()..self.start() + self.length as u64
    }

    pub(crate) fn page(&self, index: usize) -> Range<u64> {
        self.pages(index..index + 1)
    }

    pub(crate) fn pages(&self, pages: Range<usize>) -> Range<u64> {
        self.start() + (pages.start * PAGE) as u64..self.start() + (pages.end * PAGE) as u64
    }

    pub(crate) fn write(&self, page: usize, value: u8) {
        assert!(page * PAGE < self.length);
        // SAFETY: inside our mapping, which the caller left writable.
        unsafe { self.base.add(page * PAGE).write_volatile(value) };
    }

    pub(crate) fn read(&self, page: usize) -> u8 {
        assert!(page * PAGE < self.length);
        // SAFETY: inside our mapping, which the caller left readable.
        unsafe { self.base.add(page * PAGE).read_volatile() }
    }

    pub(crate) fn fill(&self, value: u8) {
        for page in 0..self.length / PAGE {
            self.write(page, value);
        }
    }

    pub(crate) fn advise(&self, pages: Range<usize>, advice: i32) -> i32 {
        // SAFETY: inside our mapping; no references into it exist.
        unsafe {
            libc::madvise(
                self.base.add(pages.start * PAGE).cast(),
                pages.len() * PAGE,
                advice,
            )
        }
    }

    pub(crate) fn protect(&self, pages: Range<usize>, protection: i32) {
        // SAFETY: inside our mapping; no references into it exist.
        let done = unsafe {
            libc::mprotect(
                self.base.add(pages.start * PAGE).cast(),
                pages.len() * PAGE,
                protection,
            )
        };
        assert_eq!(done, 0);
    }
}

impl Drop for Map {
    fn drop(&mut self) {
        // SAFETY: exactly our mapping, no references into it exist.
        unsafe { libc::munmap(self.base.cast(), self.length) };
    }
}

/// A tracker over ourselves.
pub(crate) struct Tracker {
    pub(crate) uffd: Userfaultfd,
    pub(crate) scanner: Scanner,
}

impl Tracker {
    pub(crate) fn new() -> Self {
        Self {
            uffd: Userfaultfd::for_self().unwrap(),
            scanner: Scanner::open(std::process::id()).unwrap(),
        }
    }

    pub(crate) fn track(&mut self, map: &Map) {
        assert_eq!(
            self.uffd.register(map.range()).unwrap(),
            Registration::Registered
        );
        self.written(map.range());
    }

    pub(crate) fn written(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        assert_eq!(
            self.scanner.written_and_protect(range, &mut out).unwrap(),
            ScanEnd::Complete
        );
        out
    }

    pub(crate) fn holes(&mut self, range: Range<u64>) -> Vec<Range<u64>> {
        let mut out = Vec::new();
        self.scanner.holes(range, &mut out).unwrap();
        out
    }
}

/// A forked child that runs a few steps, each when told to. It may only do what a signal handler
/// may: no allocation, no panic.
pub(crate) struct Steps {
    pub(crate) pid: libc::pid_t,
    pub(crate) go: std::os::fd::OwnedFd,
    pub(crate) done: std::os::fd::OwnedFd,
}

impl Steps {
    pub(crate) fn fork(steps: &[&dyn Fn() -> bool]) -> Self {
        let (child_go, go) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        let (done, child_done) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC).unwrap();
        // SAFETY: the child runs only the steps, which are system calls and plain stores, and
        // leaves by _exit.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            for step in steps {
                let mut byte = [0];
                let told = rustix::io::read(&child_go, &mut byte[..]) == Ok(1);
                if !told || !step() || rustix::io::write(&child_done, &byte) != Ok(1) {
                    break;
                }
            }
            // Stay until told to go or the parent is gone.
            drop(child_done);
            let _ = rustix::io::read(&child_go, &mut [0][..]);
            // SAFETY: ends this process at once.
            unsafe { libc::_exit(0) };
        }
        Self { pid, go, done }
    }

    pub(crate) fn step(&self) {
        rustix::io::write(&self.go, b"x").unwrap();
        let mut byte = [0];
        assert_eq!(
            rustix::io::read(&self.done, &mut byte[..]),
            Ok(1),
            "the child's step failed"
        );
    }
}

impl Drop for Steps {
    fn drop(&mut self) {
        // SAFETY: our child, not yet waited for.
        unsafe {
            libc::kill(self.pid, libc::SIGKILL);
            libc::waitpid(self.pid, ptr::null_mut(), 0);
        }
    }
}
