//! Measures what tracking costs with asynchronous write protection, with synchronous write
//! protection and a handler thread, and with a fork twin: `cargo run --release -p stillframe-linux
//! --example trackers`. Results: docs/trackers.md.
//!
//! The target is a child that writes random pages of its memory in ten bursts an interval. At a
//! boundary it waits for us on a pipe, so the stop itself, which is the same for all, is left out.
//! It calls `fork` itself, which an injected call would do for it. Both sides run under SCHED_FIFO
//! on a processor of their own where that is allowed, since the machine may be shared.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    missing_docs,
    reason = "a program to measure with"
)]

use linux_raw_sys::{general as uapi, ioctl};
use std::io::{Read, Write};
use std::ops::Range;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::ptr;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stillframe_linux::pagemap::{ScanEnd, Scanner};
use stillframe_linux::uffd::{Registration, Userfaultfd};

const PAGE: usize = 4096;
const BURSTS: u64 = 10;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Mode {
    Nothing,
    Async,
    Sync,
    Fork,
}

/// What the child tells: shared with it.
#[repr(C)]
struct Shared {
    base: AtomicU64,
    uffd: AtomicU64,
    write_ns: AtomicU64,
    fork_ns: AtomicU64,
    twin: AtomicU64,
}

fn main() {
    println!("dirty, Hz, GiB: mode, median us: boundary; a first write; recorder CPU an interval");
    for (size, name) in [(64 << 20, "64 MiB"), (1 << 30, "1 GiB")] {
        for hz in [10, 100] {
            for dirty in [100, 1000] {
                for mode in [Mode::Nothing, Mode::Async, Mode::Sync, Mode::Fork] {
                    let intervals = if hz == 10 { 12 } else { 40 };
                    let [boundary, write, cpu] = measure(mode, size, hz, dirty, intervals);
                    println!(
                        "{name:>6} {hz:>3} Hz {dirty:>4} dirty {mode:?}: {boundary:.0}; {write:.2}; {cpu:.0}"
                    );
                }
            }
        }
    }
    pieces();
}

/// Boundary, first write, recorder CPU an interval, medians in microseconds.
fn measure(mode: Mode, size: usize, hz: u64, dirty: u64, intervals: usize) -> [f64; 3] {
    let shared = share();
    let (mut child_go, mut go) = std::io::pipe().unwrap();
    let (mut done, mut child_done) = std::io::pipe().unwrap();
    // SAFETY: no other thread runs here yet or any more, so the child may do anything.
    let pid = unsafe { libc::fork() };
    assert!(pid >= 0);
    if pid == 0 {
        // Otherwise it would never see the end of the pipe.
        drop((go, done));
        target(
            mode,
            size,
            hz,
            dirty,
            shared,
            &mut child_go,
            &mut child_done,
        );
    }
    drop((child_go, child_done));
    favour(1);
    let mut byte = [0];
    done.read_exact(&mut byte).unwrap();
    let base = shared.base.load(Ordering::SeqCst);
    let range = base..base + size as u64;
    let mut recorder = Recorder::new(mode, pid, &range, shared);
    let mut samples: [Vec<f64>; 3] = Default::default();
    for n in 0..intervals + 3 {
        let cpu = recorder.cpu();
        let begun = Instant::now();
        recorder.boundary(&range);
        let mut boundary = begun.elapsed();
        go.write_all(if mode == Mode::Fork { b"f" } else { b"g" })
            .unwrap();
        done.read_exact(&mut byte).unwrap();
        if mode == Mode::Fork {
            boundary = Duration::from_nanos(shared.fork_ns.load(Ordering::SeqCst));
        }
        let mut spent = recorder.cpu() - cpu;
        if mode == Mode::Fork {
            spent += reap(shared.twin.load(Ordering::SeqCst));
        }
        if n >= 3 {
            let write = shared.write_ns.load(Ordering::SeqCst) as f64 / dirty as f64;
            samples[0].push(boundary.as_nanos() as f64 / 1000.0);
            samples[1].push(write / 1000.0);
            samples[2].push(spent.as_nanos() as f64 / 1000.0);
        }
    }
    drop(go);
    // SAFETY: our child, which ends by itself when the pipe closes; kept for its zombie until here.
    unsafe {
        libc::kill(pid, libc::SIGKILL);
        libc::waitpid(pid, ptr::null_mut(), 0);
    }
    recorder.finish();
    samples.map(|mut s| {
        s.sort_by(f64::total_cmp);
        s[s.len() / 2]
    })
}

/// The child. Never returns.
fn target(
    mode: Mode,
    size: usize,
    hz: u64,
    dirty: u64,
    shared: &Shared,
    go: &mut impl Read,
    done: &mut impl Write,
) -> ! {
    let base = map(size);
    for page in 0..size / PAGE {
        touch(base, page);
    }
    favour(0);
    shared.base.store(base.addr() as u64, Ordering::SeqCst);
    // SAFETY: takes one integer.
    let fd = unsafe { libc::syscall(libc::SYS_userfaultfd, Userfaultfd::CREATE_FLAGS) };
    shared.uffd.store(fd as u64, Ordering::SeqCst);
    done.write_all(b"x").unwrap();
    let mut seed = 1_u64;
    let mut byte = [0];
    let slice = Duration::from_nanos(1_000_000_000 / hz / BURSTS);
    while go.read_exact(&mut byte).is_ok() {
        if mode == Mode::Fork {
            let begun = Instant::now();
            // SAFETY: a plain fork whose child is our parent's; it only waits to be killed.
            let twin = unsafe {
                libc::syscall(
                    libc::SYS_clone,
                    libc::CLONE_PARENT | libc::SIGCHLD,
                    0,
                    0,
                    0,
                    0,
                )
            };
            if twin == 0 {
                loop {
                    // SAFETY: waits.
                    unsafe { libc::pause() };
                }
            }
            shared
                .fork_ns
                .store(begun.elapsed().as_nanos() as u64, Ordering::SeqCst);
            shared.twin.store(twin as u64, Ordering::SeqCst);
        }
        let mut spent = 0;
        for _ in 0..BURSTS {
            let begun = Instant::now();
            for _ in 0..dirty / BURSTS {
                seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                touch(base, (seed >> 33) as usize % (size / PAGE));
            }
            let took = begun.elapsed();
            spent += took.as_nanos() as u64;
            std::thread::sleep(slice.saturating_sub(took));
        }
        shared.write_ns.store(spent, Ordering::SeqCst);
        done.write_all(b"x").unwrap();
    }
    // SAFETY: ends this process.
    unsafe { libc::_exit(0) }
}

/// The recorder's side of a mode.
enum Recorder {
    Nothing,
    Async {
        _uffd: Userfaultfd,
        scanner: Scanner,
        found: Vec<Range<u64>>,
    },
    Sync {
        fd: Arc<OwnedFd>,
        handler: Option<std::thread::JoinHandle<()>>,
        log: Arc<std::sync::Mutex<Vec<u64>>>,
        cpu_ns: Arc<AtomicU64>,
        ended: Arc<AtomicBool>,
    },
}

impl Recorder {
    fn new(mode: Mode, pid: libc::pid_t, range: &Range<u64>, shared: &Shared) -> Self {
        if matches!(mode, Mode::Nothing | Mode::Fork) {
            return Self::Nothing;
        }
        let fd = take(pid, shared.uffd.load(Ordering::SeqCst));
        if mode == Mode::Async {
            let uffd = Userfaultfd::handshake(fd).unwrap();
            assert_eq!(
                uffd.register(range.clone()).unwrap(),
                Registration::Registered
            );
            return Self::Async {
                _uffd: uffd,
                scanner: Scanner::open(pid.cast_unsigned()).unwrap(),
                found: Vec::new(),
            };
        }
        let mut api = uapi::uffdio_api {
            api: uapi::UFFD_API.into(),
            features: uapi::UFFD_FEATURE_PAGEFAULT_FLAG_WP.into(),
            ioctls: 0,
        };
        // SAFETY: reads and writes one `uffdio_api`.
        let ok = unsafe { libc::ioctl(fd.as_raw_fd(), ioctl::UFFDIO_API.into(), &raw mut api) };
        assert_eq!(ok, 0, "{}", std::io::Error::last_os_error());
        let mut register = uapi::uffdio_register {
            range: wire(range),
            mode: uapi::UFFDIO_REGISTER_MODE_WP.into(),
            ioctls: 0,
        };
        // SAFETY: reads and writes one `uffdio_register`.
        let ok = unsafe {
            libc::ioctl(
                fd.as_raw_fd(),
                ioctl::UFFDIO_REGISTER.into(),
                &raw mut register,
            )
        };
        assert_eq!(ok, 0, "{}", std::io::Error::last_os_error());
        protect(&fd, range, true);
        let fd = Arc::new(fd);
        let log = Arc::new(std::sync::Mutex::new(Vec::new()));
        let cpu_ns = Arc::new(AtomicU64::new(0));
        let ended = Arc::new(AtomicBool::new(false));
        let handler = {
            let (fd, log) = (fd.clone(), log.clone());
            let (cpu_ns, ended) = (cpu_ns.clone(), ended.clone());
            std::thread::spawn(move || resolve(&fd, &log, &cpu_ns, &ended))
        };
        Self::Sync {
            fd,
            handler: Some(handler),
            log,
            cpu_ns,
            ended,
        }
    }

    /// Finds and protects.
    fn boundary(&mut self, range: &Range<u64>) {
        match self {
            Self::Nothing => {}
            Self::Async { scanner, found, .. } => {
                found.clear();
                let end = scanner.written_and_protect(range.clone(), found).unwrap();
                assert_eq!(end, ScanEnd::Complete);
            }
            Self::Sync { fd, log, .. } => {
                for at in log.lock().unwrap().drain(..) {
                    protect(fd, &(at..at + PAGE as u64), true);
                }
            }
        }
    }

    /// CPU time of the recorder.
    fn cpu(&self) -> Duration {
        let mut spent = thread_cpu();
        if let Self::Sync { cpu_ns, .. } = self {
            spent += Duration::from_nanos(cpu_ns.load(Ordering::SeqCst));
        }
        spent
    }

    fn finish(&mut self) {
        if let Self::Sync { handler, ended, .. } = self {
            ended.store(true, Ordering::SeqCst);
            handler.take().unwrap().join().unwrap();
        }
    }
}

/// The handler thread: logs the address and lets the writer go on.
fn resolve(fd: &OwnedFd, log: &std::sync::Mutex<Vec<u64>>, cpu_ns: &AtomicU64, ended: &AtomicBool) {
    favour(1);
    let mut poll = libc::pollfd {
        fd: fd.as_raw_fd(),
        events: libc::POLLIN,
        revents: 0,
    };
    // The descriptor does not tell when the process has ended.
    while !ended.load(Ordering::SeqCst) {
        // SAFETY: one pollfd of ours.
        if unsafe { libc::poll(&raw mut poll, 1, 100) } <= 0 {
            continue;
        }
        let mut message = [0_u8; size_of::<uapi::uffd_msg>()];
        // SAFETY: a buffer of the size told.
        let got = unsafe { libc::read(fd.as_raw_fd(), message.as_mut_ptr().cast(), message.len()) };
        if got == 0 {
            return;
        }
        if got > 0 && u32::from(message[0]) == uapi::UFFD_EVENT_PAGEFAULT {
            let at = u64::from_ne_bytes(message[16..24].try_into().unwrap()) & !0xfff;
            log.lock().unwrap().push(at);
            protect(fd, &(at..at + PAGE as u64), false);
        }
        cpu_ns.store(thread_cpu().as_nanos() as u64, Ordering::SeqCst);
    }
}

fn protect(fd: &OwnedFd, range: &Range<u64>, on: bool) {
    let mut arg = uapi::uffdio_writeprotect {
        range: wire(range),
        mode: u64::from(on),
    };
    // SAFETY: reads one `uffdio_writeprotect`; the memory is the child's.
    unsafe {
        libc::ioctl(
            fd.as_raw_fd(),
            ioctl::UFFDIO_WRITEPROTECT.into(),
            &raw mut arg,
        )
    };
}

const fn wire(range: &Range<u64>) -> uapi::uffdio_range {
    uapi::uffdio_range {
        start: range.start,
        len: range.end - range.start,
    }
}

/// Takes a descriptor out of a process.
fn take(pid: libc::pid_t, fd: u64) -> OwnedFd {
    // SAFETY: calls that take integers; the descriptors they give are new and ours.
    unsafe {
        let pidfd = libc::syscall(libc::SYS_pidfd_open, pid, 0);
        assert!(pidfd >= 0);
        let pidfd = OwnedFd::from_raw_fd(pidfd as i32);
        let ours = libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0);
        assert!(ours >= 0, "{}", std::io::Error::last_os_error());
        OwnedFd::from_raw_fd(ours as i32)
    }
}

/// Ends a twin. Gives the CPU time that took.
fn reap(twin: u64) -> Duration {
    let begun = thread_cpu();
    // SAFETY: a child of ours, not waited for yet; `rusage` is plain numbers.
    let usage = unsafe {
        let mut usage: libc::rusage = std::mem::zeroed();
        libc::kill(twin as i32, libc::SIGKILL);
        libc::wait4(twin as i32, ptr::null_mut(), 0, &raw mut usage);
        usage
    };
    let system = usage.ru_stime;
    thread_cpu() - begun
        + Duration::from_secs(system.tv_sec as u64)
        + Duration::from_micros(system.tv_usec as u64)
}

fn share() -> &'static Shared {
    // SAFETY: a new page of shared memory, zeroed, never unmapped.
    unsafe {
        let at = libc::mmap(
            ptr::null_mut(),
            PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_SHARED | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        &*at.cast::<Shared>()
    }
}

fn map(size: usize) -> *mut u8 {
    // SAFETY: a new mapping at an address of the kernel's choice.
    unsafe {
        let at = libc::mmap(
            ptr::null_mut(),
            size,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
            -1,
            0,
        );
        assert_ne!(at, libc::MAP_FAILED);
        libc::madvise(at, size, libc::MADV_NOHUGEPAGE);
        at.cast()
    }
}

fn touch(base: *mut u8, page: usize) {
    // SAFETY: callers name a page of the mapping, which is never unmapped.
    unsafe {
        let at = base.add(page * PAGE);
        at.write_volatile(at.read_volatile().wrapping_add(1));
    }
}

/// Pins this thread to a processor and asks for real time.
fn favour(processor: usize) {
    // SAFETY: plain data of ours, read during the calls only. Refusal is no harm.
    unsafe {
        let mut set: libc::cpu_set_t = std::mem::zeroed();
        libc::CPU_SET(processor, &mut set);
        libc::sched_setaffinity(0, size_of::<libc::cpu_set_t>(), &raw const set);
        let parameter = libc::sched_param { sched_priority: 10 };
        libc::sched_setscheduler(0, libc::SCHED_FIFO, &raw const parameter);
    }
}

fn thread_cpu() -> Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}

/// What leaving out unprotected pages costs a scan: 1 GiB in one piece, and in many.
fn pieces() {
    let size = 1 << 30;
    let base = map(size);
    for page in 0..size / PAGE {
        touch(base, page);
    }
    let uffd = Userfaultfd::for_self().unwrap();
    let start = base.addr() as u64;
    let range = start..start + size as u64;
    assert_eq!(
        uffd.register(range.clone()).unwrap(),
        Registration::Registered
    );
    let mut scanner = Scanner::open(std::process::id()).unwrap();
    let mut found = Vec::new();
    let _ = scanner
        .written_and_protect(range.clone(), &mut found)
        .unwrap();
    for count in [1_u64, 101, 1001] {
        let length = size as u64 / count / PAGE as u64 * PAGE as u64;
        let mut samples: Vec<f64> = (0..21)
            .map(|_| {
                let begun = thread_cpu();
                found.clear();
                for n in 0..count {
                    let from = start + n * length;
                    // The page left out.
                    let to = from + length - if count > 1 { PAGE as u64 } else { 0 };
                    let _ = scanner.written_and_protect(from..to, &mut found).unwrap();
                }
                (thread_cpu() - begun).as_nanos() as f64 / 1000.0
            })
            .collect();
        samples.sort_by(f64::total_cmp);
        println!("scan of 1 GiB in {count} pieces: {:.0} us", samples[10]);
    }
}
