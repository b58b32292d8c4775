//! Our own descriptors, opened, moved, replaced and closed.

use super::*;
use std::fs::File;
use std::io::{Seek, SeekFrom, Write};
use std::os::fd::AsRawFd;

fn find(all: &Descriptors, fd: &impl AsRawFd) -> Option<Descriptor> {
    let number = fd.as_raw_fd().cast_unsigned();
    all.open.iter().find(|d| d.fd == number).cloned()
}

#[test]
fn kinds_are_told_apart() {
    let stat = |mode| Stat {
        mode,
        ..Stat::default()
    };
    let regular = || stat(FileType::RegularFile);
    for (link, expected) in [
        (&b"anon_inode:[eventpoll]"[..], DescriptorKind::Epoll),
        (b"anon_inode:[eventfd]", DescriptorKind::EventFd),
        (b"anon_inode:[timerfd]", DescriptorKind::TimerFd),
        (b"anon_inode:[signalfd]", DescriptorKind::SignalFd),
        (b"anon_inode:inotify", DescriptorKind::Inotify),
        (b"anon_inode:[fanotify]", DescriptorKind::Fanotify),
        (b"anon_inode:[userfaultfd]", DescriptorKind::Userfaultfd),
        (b"anon_inode:[io_uring]", DescriptorKind::IoUring),
        (b"anon_inode:[pidfd]", DescriptorKind::PidFd),
        (b"pidfd:[123]", DescriptorKind::PidFd),
        (
            b"anon_inode:bpf-map",
            DescriptorKind::Other("bpf-map".to_owned()),
        ),
        (b"pipe:[1]", DescriptorKind::Pipe),
        (b"socket:[1]", DescriptorKind::Socket),
        (b"net:[4026531840]", DescriptorKind::Other("net".to_owned())),
        (b"/home/a:b", DescriptorKind::Regular),
        (b"/memfd:x (deleted)", DescriptorKind::Regular),
        (b"", DescriptorKind::Regular),
    ] {
        assert_eq!(
            kind_of(link, &regular()),
            expected,
            "{}",
            link.escape_ascii()
        );
    }
    let unlinked = Stat {
        unlinked: true,
        ..regular()
    };
    assert_eq!(
        kind_of(b"/memfd:x (deleted)", &unlinked),
        DescriptorKind::MemFd
    );
    let terminal = Stat {
        device: (136, 3),
        ..stat(FileType::CharacterDevice)
    };
    assert_eq!(kind_of(b"/dev/pts/3", &terminal), DescriptorKind::Terminal);
    let null = Stat {
        device: (1, 3),
        ..stat(FileType::CharacterDevice)
    };
    assert_eq!(kind_of(b"/dev/null", &null), DescriptorKind::CharDevice);
}

#[test]
fn numbers_have_names() {
    for value in [0, 7, 10, 1_048_575, u32::MAX] {
        assert_eq!(
            Number::of(value).name().to_str().unwrap(),
            value.to_string()
        );
    }
}

#[test]
fn full_and_refresh_tell_the_same_story() {
    let directory = tempfile::tempdir().unwrap();
    // Newline and ` (deleted)` in a name that is not.
    let path = directory.path().join("odd\nname (deleted)");
    let mut file = File::create(&path).unwrap();
    file.write_all(b"0123456789").unwrap();
    let (reader, writer) = rustix::pipe::pipe().unwrap();
    let event = rustix::event::eventfd(5, rustix::event::EventfdFlags::empty()).unwrap();
    let memfd = File::from(rustix::fs::memfd_create("m", rustix::fs::MemfdFlags::CLOEXEC).unwrap());
    memfd.set_len(8192).unwrap();
    let null = File::open("/dev/null").unwrap();
    let dir = File::open(directory.path()).unwrap();

    let mut fds = Fds::open(std::process::id()).unwrap();
    let mut all = fds.full().unwrap();
    assert!(all.open.windows(2).all(|w| w[0].fd < w[1].fd));
    let d = find(&all, &file).unwrap();
    assert_eq!(d.kind, DescriptorKind::Regular);
    assert_eq!((d.offset, d.file.unwrap().0), (10, 10));
    assert_eq!(d.target, path.as_os_str().as_encoded_bytes());
    assert_eq!(d.flags & 0o3, libc::O_WRONLY.cast_unsigned());
    assert!(d.flags & libc::O_CLOEXEC.cast_unsigned() != 0);
    assert!(d.mount > 0 && d.inode > 0);
    assert_eq!(find(&all, &reader).unwrap().kind, DescriptorKind::Pipe);
    assert_eq!(find(&all, &writer).unwrap().kind, DescriptorKind::Pipe);
    let d = find(&all, &event).unwrap();
    assert_eq!(d.kind, DescriptorKind::EventFd);
    assert!(
        d.detail.windows(14).any(|w| w == b"eventfd-count:"),
        "{}",
        d.detail.escape_ascii()
    );
    let d = find(&all, &memfd).unwrap();
    assert_eq!((d.kind, d.file.unwrap().0), (DescriptorKind::MemFd, 8192));
    assert_eq!(find(&all, &null).unwrap().kind, DescriptorKind::CharDevice);
    assert_eq!(find(&all, &dir).unwrap().kind, DescriptorKind::Directory);

    // An offset, a size and a counter move.
    file.write_all(b"abc").unwrap();
    file.seek(SeekFrom::Start(2)).unwrap();
    rustix::io::write(&event, &7_u64.to_ne_bytes()).unwrap();
    let change = fds.refresh(&mut all, Depth::Moving).unwrap();
    assert!(change.changed >= 2, "{change:?}");
    let d = find(&all, &file).unwrap();
    assert_eq!((d.offset, d.file.unwrap().0), (2, 13));
    let d = find(&all, &event).unwrap();
    assert!(
        d.detail.windows(2).any(|w| w == b" c"),
        "5 + 7: {}",
        d.detail.escape_ascii()
    );

    // A number means something else from one tick to the next: another path's file.
    let other = File::create(directory.path().join("other")).unwrap();
    let mut slot = OwnedFd::from(null);
    rustix::io::dup2(&other, &mut slot).unwrap();
    let change = fds.refresh(&mut all, Depth::Moving).unwrap();
    assert!(change.opened >= 1 && change.closed >= 1, "{change:?}");
    let d = find(&all, &slot).unwrap();
    assert_eq!((d.kind, d.file.unwrap().0), (DescriptorKind::Regular, 0));

    // The same path, a new file under the same number.
    let before = find(&all, &file).unwrap();
    let mut slot = OwnedFd::from(file);
    std::fs::remove_file(&path).unwrap();
    let again = File::create(&path).unwrap();
    rustix::io::dup2(&again, &mut slot).unwrap();
    fds.refresh(&mut all, Depth::Moving).unwrap();
    let after = find(&all, &slot).unwrap();
    assert_eq!(after.target, before.target);
    assert!(after.inode != before.inode || after.file != before.file);
    assert_eq!(after.file.unwrap().0, 0);

    // A flag of a pipe is only seen when everything is asked.
    rustix::io::ioctl_fionbio(&reader, true).unwrap();
    fds.refresh(&mut all, Depth::Everything).unwrap();
    let flags = find(&all, &reader).unwrap().flags;
    assert!(flags & libc::O_NONBLOCK.cast_unsigned() != 0);

    let number = writer.as_raw_fd();
    drop(writer);
    fds.refresh(&mut all, Depth::Moving).unwrap();
    // Another test's thread may have taken the number since, but not for our pipe.
    let pipe = find(&all, &reader).unwrap();
    let reused = all.open.iter().find(|d| d.fd == number.cast_unsigned());
    assert!(reused.is_none_or(|d| d.target != pipe.target));
}

/// In a process nobody else changes, a refresh gives exactly what a full reading gives.
#[test]
fn refresh_equals_full_for_a_quiet_process() {
    let mut child = std::process::Command::new("sh")
        .args(["-c", "exec 3</etc/passwd 4</ 5>/dev/null; echo; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    let mut ready = [0];
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut ready).unwrap();
    let mut fds = Fds::open(child.id()).unwrap();
    let full = fds.full().unwrap();
    assert!(full.open.len() >= 6);
    let mut refreshed = full.clone();
    assert!(
        !fds.refresh(&mut refreshed, Depth::Everything)
            .unwrap()
            .any()
    );
    assert_eq!(refreshed, full);
    let mut from_nothing = Descriptors::default();
    let change = fds.refresh(&mut from_nothing, Depth::Moving).unwrap();
    assert_eq!(change.opened as usize, full.open.len());
    assert_eq!(from_nothing, full);
    child.kill().unwrap();
    // A zombie has no descriptors; once reaped, it is gone.
    child.wait().unwrap();
    assert!(fds.full().unwrap_err().is_gone());
}

#[test]
#[ignore = "prints measurements: cargo test --release -- --ignored --nocapture measure"]
fn measure_descriptors() {
    let directory = tempfile::tempdir().unwrap();
    let files: Vec<_> = (0..200)
        .map(|n| File::create(directory.path().join(n.to_string())).unwrap())
        .collect();
    // A fork has the same descriptors, and not those that looking at it takes.
    let child = Twin::fork();
    let mut fds = Fds::open(child.0.cast_unsigned()).unwrap();
    let mut all = fds.full().unwrap();
    let report = |what: &str, start: u64, count: usize| {
        println!(
            "{what}: {} ns a descriptor",
            (cpu() - start) as usize / count
        );
    };
    let count = all.open.len();
    let start = cpu();
    for _ in 0..50 {
        all = fds.full().unwrap();
    }
    report("full, files", start, count * 50);
    let start = cpu();
    for _ in 0..50 {
        fds.refresh(&mut all, Depth::Moving).unwrap();
    }
    report("refresh, files", start, count * 50);
    let start = cpu();
    for _ in 0..50 {
        fds.list().unwrap();
    }
    report("- listing", start, count * 50);
    let numbers: Vec<_> = all.open.iter().map(|d| Number::of(d.fd)).collect();
    let start = cpu();
    for number in numbers.iter().cycle().take(count * 50) {
        fds.read_link(number).unwrap();
    }
    report("- link", start, count * 50);
    let start = cpu();
    for number in numbers.iter().cycle().take(count * 50) {
        fds.stat(number).unwrap();
    }
    report("- stat", start, count * 50);
    let start = cpu();
    for (number, d) in numbers.iter().zip(&mut all.open) {
        for _ in 0..50 {
            fds.read_info(number, d).unwrap();
        }
    }
    report("- fdinfo", start, count * 50);
    drop(files);
    let pipes: Vec<_> = (0..100).map(|_| rustix::pipe::pipe().unwrap()).collect();
    let child = Twin::fork();
    let mut fds = Fds::open(child.0.cast_unsigned()).unwrap();
    let mut all = fds.full().unwrap();
    let count = all.open.len();
    let start = cpu();
    for _ in 0..50 {
        fds.refresh(&mut all, Depth::Moving).unwrap();
    }
    report("refresh, pipes", start, count * 50);
    drop(pipes);
    let mut maps = crate::proc::maps::Maps::open(child.0.cast_unsigned()).unwrap();
    let _ = maps.refresh().unwrap();
    let start = cpu();
    for _ in 0..1000 {
        let _ = maps.refresh().unwrap();
    }
    println!(
        "maps: {} ns for {}",
        (cpu() - start) / 1000,
        maps.entries().len()
    );
    let file = File::create(directory.path().join("stamped")).unwrap();
    let start = cpu();
    for _ in 0..1000 {
        crate::files::Stamp::of(&file).unwrap();
    }
    println!("stamp: {} ns", (cpu() - start) / 1000);
}

/// A forked child that does nothing until it is dropped.
struct Twin(libc::pid_t);

impl Twin {
    fn fork() -> Self {
        // SAFETY: the child only waits for signals, which is allowed after a fork of a threaded
        // process.
        let pid = unsafe { libc::fork() };
        assert!(pid >= 0);
        if pid == 0 {
            loop {
                // SAFETY: waits for a signal.
                unsafe { libc::pause() };
            }
        }
        Self(pid)
    }
}

impl Drop for Twin {
    fn drop(&mut self) {
        // SAFETY: our child, not yet waited for.
        unsafe {
            libc::kill(self.0, libc::SIGKILL);
            libc::waitpid(self.0, std::ptr::null_mut(), 0);
        }
    }
}

/// Nanoseconds this thread ran on a CPU: on a busy machine, wall time would measure the others.
fn cpu() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

#[test]
fn a_timer_that_is_due_is_not_taken_for_one_that_is_not_set() {
    use crate::objects::timer;
    use stillframe_image::objects::detail::TimerFd;
    let unset = TimerFd {
        clock: libc::CLOCK_MONOTONIC,
        ticks: 0,
        flags: 0,
        value_ns: 0,
        interval_ns: 0,
    };
    let fd = timer::make(&unset).unwrap();
    let mut fds = Fds::open(std::process::id()).unwrap();
    let read = |fds: &mut Fds| {
        let found = find(&fds.full().unwrap(), &fd).unwrap();
        detail::timerfd(&found.detail).unwrap()
    };
    assert_eq!(read(&mut fds).value_ns, 0);
    let mut lost = 0;
    for round in 0..500 {
        let set = TimerFd {
            value_ns: 20_000 + round % 50 * 1000,
            interval_ns: 3_000_000,
            ..unset
        };
        timer::set(&fd, &set).unwrap();
        let now = read(&mut fds);
        lost += u32::from(now.value_ns == 0 && now.ticks == 0);
    }
    // A processor that was taken away meanwhile may be later than anybody waits.
    assert!(
        lost < 20,
        "{lost} of 2000 timers seem never to have been set"
    );
}
