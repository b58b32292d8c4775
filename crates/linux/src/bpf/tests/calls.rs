//! Which system calls the log sees, and that those it does not see are told.

use super::{logged_pages, pages_of};
use crate::test_support::{Map, PAGE, Steps};
use std::collections::BTreeSet;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

/// Pages for each case.
const ROOM: usize = 32;

/// What is expected of a case.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Expect {
    /// All that was written is in the log, and the call is not called risky.
    Seen,
    /// Something that was written is not in the log, and the call is called risky.
    Escapes,
    /// Called risky, whether or not anything escapes here.
    Risky,
    /// It changes mappings only.
    Mappings,
}
use Expect::{Escapes, Mappings, Risky, Seen};

type Case = (&'static str, Expect, Box<dyn Fn(*mut u8) -> bool>);

fn case(name: &'static str, expect: Expect, run: impl Fn(*mut u8) -> bool + 'static) -> Case {
    (name, expect, Box::new(run))
}

/// A raw call, by number, so that the C library cannot choose another.
fn call(number: i64, arguments: [u64; 6]) -> i64 {
    let [a, b, c, d, e, f] = arguments;
    // SAFETY: the cases pass pointers into their own room in the tests' mapping, or to what they
    // own, with lengths that fit.
    unsafe { libc::syscall(number, a, b, c, d, e, f) }
}

fn at(p: *mut u8) -> u64 {
    p.expose_provenance() as u64
}

/// The byte `offset` into a case's room.
fn plus(p: *mut u8, offset: usize) -> *mut u8 {
    assert!(offset < ROOM * PAGE);
    // SAFETY: inside the room, just checked.
    unsafe { p.add(offset) }
}

fn owned(fd: i64) -> OwnedFd {
    assert!(fd >= 0, "{}", std::io::Error::last_os_error());
    // SAFETY: a descriptor that a call just made for us.
    unsafe { OwnedFd::from_raw_fd(fd as i32) }
}

fn file(path: &str, flags: i32) -> OwnedFd {
    let path = std::ffi::CString::new(path).unwrap();
    let name = path.as_ptr().expose_provenance() as u64;
    let at_cwd = libc::AT_FDCWD as u64;
    owned(call(
        libc::SYS_openat,
        [at_cwd, name, flags as u64, 0o600, 0, 0],
    ))
}

/// Two ends of a pipe or of a pair of sockets.
fn pair(number: i64, domain: i32, kind: i32) -> (OwnedFd, OwnedFd) {
    let mut fds = [0_i32; 2];
    let to = fds.as_mut_ptr().expose_provenance() as u64;
    let done = match number {
        libc::SYS_pipe2 => call(number, [to, 0, 0, 0, 0, 0]),
        _ => call(number, [domain as u64, kind as u64, 0, to, 0, 0]),
    };
    assert_eq!(done, 0);
    (owned(fds[0].into()), owned(fds[1].into()))
}

fn store(p: *mut u8, value: u8) {
    // SAFETY: inside the case's room.
    unsafe { p.write_volatile(value) };
}

fn files(cases: &mut Vec<Case>) {
    let plain = tempfile::NamedTempFile::new().unwrap();
    std::fs::write(plain.path(), vec![0x5a; 1 << 20]).unwrap();
    plain.as_file().sync_all().unwrap();
    let name = plain.path().to_str().unwrap().to_owned();
    let read = |fd: &OwnedFd, p, length: usize| {
        let fd = fd.as_raw_fd() as u64;
        call(libc::SYS_read, [fd, at(p), length as u64, 0, 0, 0])
    };
    let fd = file(&name, libc::O_RDWR);
    cases.push(case("read", Seen, move |p| {
        read(&fd, plus(p, 100), 3 * PAGE) == 3 * PAGE as i64
    }));
    let fd = file(&name, libc::O_RDWR);
    cases.push(case("pread64", Seen, move |p| {
        let fd = fd.as_raw_fd() as u64;
        call(libc::SYS_pread64, [fd, at(p), 5000, 64, 0, 0]) == 5000
    }));
    let fd = file(&name, libc::O_RDWR);
    cases.push(case("readv", Seen, move |p| {
        let fd = fd.as_raw_fd() as u64;
        let to = |offset| libc::iovec {
            iov_base: plus(p, offset).cast(),
            iov_len: 100,
        };
        let vectors = [to(0), to(5 * PAGE)];
        let list = vectors.as_ptr().expose_provenance() as u64;
        call(libc::SYS_readv, [fd, list, 2, 0, 0, 0]) == 200
    }));
    // A file system that cannot do it refuses to open.
    let direct = std::ffi::CString::new(name.clone()).unwrap();
    // SAFETY: opens a file of ours by a name that ends.
    let fd = unsafe { libc::open(direct.as_ptr(), libc::O_RDWR | libc::O_DIRECT) };
    if fd >= 0 {
        let fd = owned(fd.into());
        cases.push(case("read, O_DIRECT", Risky, move |p| {
            read(&fd, p, 4 * PAGE) == 4 * PAGE as i64
        }));
    }
    for (name, path) in [
        ("read of /dev/zero", "/dev/zero"),
        ("read of /proc", "/proc/self/stat"),
    ] {
        let fd = file(path, libc::O_RDONLY);
        cases.push(case(name, Seen, move |p| read(&fd, p, 64) > 0));
    }
    let fd = file("/", libc::O_RDONLY);
    cases.push(case("getdents64", Seen, move |p| {
        let fd = fd.as_raw_fd() as u64;
        call(libc::SYS_getdents64, [fd, at(p), 4096, 0, 0, 0]) > 0
    }));
    let fd = file(&name, libc::O_RDWR);
    cases.push(case("fstat", Seen, move |p| {
        let fd = fd.as_raw_fd() as u64;
        call(libc::SYS_fstat, [fd, at(p), 0, 0, 0, 0]) == 0
    }));
    let fd = file(&name, libc::O_RDWR);
    cases.push(case("write to a file", Seen, move |p| {
        let fd = fd.as_raw_fd() as u64;
        call(libc::SYS_write, [fd, at(p), 4096, 0, 0, 0]) == 4096
    }));
    cases.push(case("write to /proc/self/mem", Escapes, move |p| {
        let path = c"/proc/self/mem".as_ptr().expose_provenance() as u64;
        let cwd = libc::AT_FDCWD as u64;
        let mem = call(libc::SYS_openat, [cwd, path, libc::O_RDWR as u64, 0, 0, 0]);
        mem >= 0 && call(libc::SYS_pwrite64, [mem as u64, path, 8, at(p), 0, 0]) == 8
    }));
    // Keeps the file until all cases are done.
    cases.push(case("a descriptor that is not there", Seen, move |p| {
        let _ = &plain;
        call(libc::SYS_read, [9999, at(p), 8, 0, 0, 0]) == -1
    }));
}

fn pipes_and_sockets(cases: &mut Vec<Case>) {
    let (to, from) = pair(libc::SYS_pipe2, 0, 0);
    cases.push(case("pipe, and ioctl", Seen, move |p| {
        let (to, from) = (to.as_raw_fd() as u64, from.as_raw_fd() as u64);
        call(libc::SYS_write, [from, at(p), 5000, 0, 0, 0]) == 5000
            && call(
                libc::SYS_ioctl,
                [to, libc::FIONREAD, at(plus(p, 3 * PAGE)), 0, 0, 0],
            ) == 0
            && call(libc::SYS_read, [to, at(p), 5000, 0, 0, 0]) == 5000
    }));
    let (to, from) = pair(libc::SYS_socketpair, libc::AF_UNIX, libc::SOCK_STREAM);
    cases.push(case("unix socket", Seen, move |p| {
        let (to, from) = (to.as_raw_fd() as u64, from.as_raw_fd() as u64);
        call(libc::SYS_sendto, [from, at(p), 5000, 0, 0, 0]) == 5000
            && call(libc::SYS_recvfrom, [to, at(p), 5000, 0, 0, 0]) == 5000
    }));
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let to = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let (from, _) = listener.accept().unwrap();
    cases.push(case("TCP", Seen, move |p| {
        let (to, from) = (to.as_raw_fd() as u64, from.as_raw_fd() as u64);
        call(libc::SYS_sendto, [from, at(p), 5000, 0, 0, 0]) == 5000
            && call(libc::SYS_recvfrom, [to, at(p), 4000, 0, 0, 0]) == 4000
            && call(libc::SYS_read, [to, at(plus(p, 4 * PAGE)), 1000, 0, 0, 0]) == 1000
            && call(
                libc::SYS_getsockopt,
                [to, 1, 4, at(plus(p, 8 * PAGE)), at(plus(p, 9 * PAGE)), 0],
            ) <= 0
    }));
    // SAFETY: makes a socket.
    let crypto = unsafe { libc::socket(libc::AF_ALG, libc::SOCK_SEQPACKET, 0) };
    if crypto >= 0 {
        let crypto = owned(crypto.into());
        cases.push(case("socket of the crypto layer", Risky, move |p| {
            let fd = crypto.as_raw_fd() as u64;
            call(libc::SYS_recvfrom, [fd, at(p), 16, 0, 0, 0]) == -1
        }));
    }
    let (to, from) = pair(libc::SYS_pipe2, 0, 0);
    cases.push(case("vmsplice", Risky, move |p| {
        let (to, from) = (to.as_raw_fd() as u64, from.as_raw_fd() as u64);
        let vector = libc::iovec {
            iov_base: p.cast(),
            iov_len: 100,
        };
        let list = (&raw const vector).expose_provenance() as u64;
        call(libc::SYS_write, [from, at(p), 100, 0, 0, 0]) == 100
            && call(libc::SYS_vmsplice, [to, list, 1, 0, 0, 0]) == 100
    }));
    let event = owned(call(libc::SYS_eventfd2, [3, 0, 0, 0, 0, 0]));
    let epoll = owned(call(libc::SYS_epoll_create1, [0; 6]));
    let wanted = libc::epoll_event {
        events: libc::EPOLLIN as u32,
        u64: 7,
    };
    let (e, v) = (epoll.as_raw_fd() as u64, event.as_raw_fd() as u64);
    let list = (&raw const wanted).expose_provenance() as u64;
    assert_eq!(call(libc::SYS_epoll_ctl, [e, 1, v, list, 0, 0]), 0);
    cases.push(case(
        "epoll_wait, poll, read of an eventfd",
        Seen,
        move |p| {
            let (e, v) = (epoll.as_raw_fd() as u64, event.as_raw_fd() as u64);
            call(libc::SYS_epoll_wait, [e, at(p), 1, 0, 0, 0]) == 1
                && call(libc::SYS_read, [v, at(plus(p, 2 * PAGE)), 8, 0, 0, 0]) == 8
                && call(libc::SYS_poll, [at(plus(p, 4 * PAGE)), 1, 0, 0, 0, 0]) >= 0
        },
    ));
}

fn futexes_and_signals(cases: &mut Vec<Case>) {
    // Sets the second word to 5, wakes nobody.
    let wake = |p, operation| {
        let second = at(plus(p, 2 * PAGE));
        call(libc::SYS_futex, [at(p), operation, 1, 0, second, 5 << 12]) == 0
    };
    cases.push(case("FUTEX_WAKE_OP, private", Seen, move |p| {
        wake(p, 5 | 128)
    }));
    cases.push(case("FUTEX_WAKE_OP", Escapes, move |p| wake(p, 5)));
    let lock = |p, operation| call(libc::SYS_futex, [at(p), operation, 0, 0, 0, 0]) == 0;
    cases.push(case("FUTEX_LOCK_PI, private", Seen, move |p| {
        lock(p, 6 | 128)
    }));
    cases.push(case("FUTEX_LOCK_PI", Escapes, move |p| lock(p, 6)));
    cases.push(case("getrandom, clock_gettime, uname, getcwd", Seen, |p| {
        call(libc::SYS_getrandom, [at(p), 100, 0, 0, 0, 0]) == 100
            && call(
                libc::SYS_clock_gettime,
                [1, at(plus(p, 2 * PAGE)), 0, 0, 0, 0],
            ) == 0
            && call(libc::SYS_uname, [at(plus(p, 4 * PAGE)), 0, 0, 0, 0, 0]) == 0
            && call(libc::SYS_getcwd, [at(plus(p, 6 * PAGE)), 100, 0, 0, 0, 0]) > 0
    }));
    cases.push(case("a signal's frame", Seen, |p| {
        extern "C" fn nothing(_: libc::c_int) {}
        let stack = libc::stack_t {
            ss_sp: p.cast(),
            ss_flags: 0,
            ss_size: ROOM * PAGE,
        };
        // SAFETY: the handler does nothing; the stack is the case's own room; both stay for as
        // long as the child runs.
        unsafe {
            let mut action: libc::sigaction = std::mem::zeroed();
            action.sa_sigaction = (nothing as extern "C" fn(libc::c_int)) as usize;
            action.sa_flags = libc::SA_ONSTACK;
            let none = std::ptr::null_mut();
            libc::sigaltstack(&raw const stack, std::ptr::null_mut()) == 0
                && libc::sigaction(libc::SIGUSR1, &raw const action, none) == 0
                && libc::raise(libc::SIGUSR1) == 0
        }
    }));
}

fn memory(cases: &mut Vec<Case>) {
    cases.push(case("a store", Seen, |p| {
        store(p, 9);
        true
    }));
    cases.push(case("fork", Seen, |p| {
        // SAFETY: the child of the child ends at once.
        let pid = unsafe { libc::fork() };
        if pid == 0 {
            // SAFETY: ends the process.
            unsafe { libc::_exit(0) };
        }
        call(libc::SYS_wait4, [pid as u64, at(p), 0, 0, 0, 0]) == pid.into()
    }));
    let length = (4 * PAGE) as u64;
    for (name, expect, number, argument) in [
        ("MADV_DONTNEED", Escapes, libc::SYS_madvise, 4),
        ("MADV_POPULATE_WRITE", Escapes, libc::SYS_madvise, 23),
        ("MADV_WILLNEED", Seen, libc::SYS_madvise, 3),
        ("mlock", Risky, libc::SYS_mlock, 0),
        ("mprotect", Mappings, libc::SYS_mprotect, 1),
    ] {
        cases.push(case(name, expect, move |p| {
            call(number, [at(p), length, argument, 0, 0, 0]) == 0
        }));
    }
    cases.push(case("mmap and munmap", Mappings, |_| {
        let new = call(libc::SYS_mmap, [0, 4096, 3, 0x22, u64::MAX, 0]);
        new > 0 && call(libc::SYS_munmap, [new as u64, 4096, 0, 0, 0, 0]) == 0
    }));
    cases.push(case("brk", Mappings, |_| call(libc::SYS_brk, [0; 6]) > 0));
    cases.push(case("process_vm_writev", Escapes, |p| {
        let from = 7_u64;
        let vector = |base: *mut u8| libc::iovec {
            iov_base: base.cast(),
            iov_len: 8,
        };
        let (local, remote) = (
            vector((&raw const from).cast_mut().cast()),
            vector(plus(p, PAGE)),
        );
        let list = |v: &libc::iovec| std::ptr::from_ref(v).expose_provenance() as u64;
        let us = call(libc::SYS_getpid, [0; 6]) as u64;
        let (local, remote) = (list(&local), list(&remote));
        call(libc::SYS_process_vm_writev, [us, local, 1, remote, 1, 0]) == 8
    }));
    cases.push(case("io_uring_enter", Risky, |_| {
        call(libc::SYS_io_uring_enter, [9999, 0, 0, 0, 0, 0]) == -1
    }));
    cases.push(case("a call that does not exist", Risky, |_| {
        call(511, [0; 6]) == -1
    }));
    cases.push(case("a number out of range", Risky, |_| {
        call(70_000, [0; 6]) == -1
    }));
}

#[test]
fn what_the_log_does_not_see_is_called_risky() {
    let Some(mut log) = super::open() else { return };
    let mut cases = Vec::new();
    files(&mut cases);
    pipes_and_sockets(&mut cases);
    futexes_and_signals(&mut cases);
    memory(&mut cases);
    let map = Map::anonymous(cases.len() * ROOM);
    map.advise(0..cases.len() * ROOM, libc::MADV_NOHUGEPAGE);
    map.fill(0);
    let prepare = || {
        (0..map.length / PAGE).for_each(|page| map.write(page, 0));
        super::protect_here(&map)
    };
    let nothing = || true;
    let runs: Vec<_> = cases
        .iter()
        .enumerate()
        .map(|(n, (_, _, run))| {
            let room = at(map.base) as usize + n * ROOM * PAGE;
            move || run(std::ptr::with_exposed_provenance_mut(room))
        })
        .collect();
    let mut steps: Vec<&dyn Fn() -> bool> = vec![&prepare, &nothing];
    steps.extend(runs.iter().map(|run| run as &dyn Fn() -> bool));
    let child = Steps::fork(&steps);
    let pid = child.pid.cast_unsigned();
    child.step();
    log.watch(pid, true).unwrap();
    child.step();
    let _ = log.risky().unwrap();
    let mut scanner = crate::pagemap::Scanner::open(pid).unwrap();
    for (n, (name, expect, _)) in cases.iter().enumerate() {
        child.step();
        let room = map.pages(n * ROOM..(n + 1) * ROOM);
        let mut faults = Vec::new();
        let drained = log.drain(&mut faults).unwrap();
        assert_eq!(drained.lost, 0);
        faults.retain(|f| room.contains(&f.address));
        let mut written = Vec::new();
        let _ = scanner.written_and_protect(room, &mut written).unwrap();
        let written = pages_of(&written);
        let logged = logged_pages(&faults);
        let escaped: BTreeSet<_> = written.difference(&logged).collect();
        let risk = log.risky_in(pid).unwrap();
        println!(
            "{name}: {} written, {} escaped, {risk:?}",
            written.len(),
            escaped.len()
        );
        let as_expected = match expect {
            Seen => escaped.is_empty() && !risk.any(),
            Escapes => !escaped.is_empty() && risk.writes > 0,
            Risky => risk.writes > 0,
            Mappings => escaped.is_empty() && risk.writes == 0 && risk.mappings > 0,
        };
        assert!(
            as_expected,
            "{name} is not {expect:?}: {escaped:?} of {written:?}, {risk:?}"
        );
    }
    // By another process: us.
    let value = 7_u64;
    let local = libc::iovec {
        iov_base: (&raw const value).cast_mut().cast(),
        iov_len: 8,
    };
    let remote = libc::iovec {
        iov_base: map.base.cast(),
        iov_len: 8,
    };
    // SAFETY: writes eight bytes to the child's own copy of the mapping.
    let done =
        unsafe { libc::process_vm_writev(child.pid, &raw const local, 1, &raw const remote, 1, 0) };
    assert_eq!(done, 8);
    assert!(log.risky_in(pid).unwrap().writes > 0);
    assert!(!log.risky_in(pid).unwrap().any());
    assert_eq!(log.risky_in(1).unwrap(), crate::bpf::Risk::default());
}
