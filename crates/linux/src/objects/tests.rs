//! Descriptors of our own, looked at as if they were another's.

use super::*;
use rustix::pipe::{PipeFlags, pipe_with};
use std::io::{Read as _, Write as _};
use std::os::unix::net::{UnixDatagram, UnixStream};
use stillframe_image::objects::detail::TimerFd;
use stillframe_image::objects::{Content, Memory, Role, Watch};

fn number(fd: &impl AsRawFd) -> u32 {
    fd.as_raw_fd().cast_unsigned()
}

#[test]
fn shared_descriptions_are_told_from_equal_ones() {
    let us = std::process::id();
    let a = std::fs::File::open("/dev/null").unwrap();
    let same = a.try_clone().unwrap();
    let other = std::fs::File::open("/dev/null").unwrap();
    let order = |x: &std::fs::File, y: &std::fs::File| compare((us, number(x)), (us, number(y)));
    assert_eq!(order(&a, &same).unwrap(), Ordering::Equal);
    let one = order(&a, &other).unwrap();
    assert_ne!(one, Ordering::Equal);
    assert_eq!(order(&other, &a).unwrap(), one.reverse());
    let door = Door::open(us).unwrap();
    let copy = std::fs::File::from(door.take(number(&a)).unwrap());
    assert_eq!(order(&a, &copy).unwrap(), Ordering::Equal);
    assert!(door.take(1_000_000).is_err());
}

#[test]
fn pipes_are_read_and_left_as_they_are() {
    let mut tee = Tee::default();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let capacity = pipe::capacity(&read).unwrap();
    assert_eq!(
        tee.read(&read, capacity, false).unwrap(),
        Content::default()
    );
    let bytes: Vec<u8> = (0..capacity).map(|i| (i * 7) as u8).collect();
    rustix::io::write(&write, &bytes).unwrap();
    for _ in 0..2 {
        let content = tee.read(&read, capacity, false).unwrap();
        assert_eq!(content.bytes, bytes);
        assert_eq!((content.packets.len(), content.missing), (0, 0));
        assert_eq!(waiting(&read).unwrap(), u64::from(capacity));
    }
    let content = tee.read(&read, capacity, false).unwrap();
    pipe::drain(&read).unwrap();
    assert_eq!(waiting(&read).unwrap(), 0);
    pipe::fill(&write, &content).unwrap();
    assert_eq!(tee.read(&read, capacity, false).unwrap().bytes, bytes);
    // A bigger one needs more room.
    let (read, write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    pipe::set_capacity(&read, 1 << 20).unwrap();
    rustix::io::write(&write, &vec![9; 300_000]).unwrap();
    let content = tee.read(&read, 1 << 20, false).unwrap();
    assert_eq!((content.bytes.len(), content.missing), (300_000, 0));
}

#[test]
fn packets_stay_apart() {
    let mut tee = Tee::default();
    let (read, write) = pipe_with(PipeFlags::CLOEXEC | PipeFlags::DIRECT).unwrap();
    for part in [&b"one"[..], b"fifteen", b"x"] {
        rustix::io::write(&write, part).unwrap();
    }
    let content = tee
        .read(&read, pipe::capacity(&read).unwrap(), true)
        .unwrap();
    assert_eq!(content.packets, [3, 7, 1]);
    pipe::drain(&read).unwrap();
    pipe::fill(&write, &content).unwrap();
    let mut buffer = [0; 64];
    assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 3);
    assert_eq!(rustix::io::read(&read, &mut buffer).unwrap(), 7);
    assert_eq!(&buffer[..7], b"fifteen");
}

fn inode(fd: &impl AsFd) -> u64 {
    rustix::fs::fstat(fd).unwrap().st_ino
}

#[test]
fn unix_sockets() {
    let (mut a, mut b) = UnixStream::pair().unwrap();
    a.write_all(b"hello ").unwrap();
    a.write_all(b"world").unwrap();
    let mut socket = socket::read(&b, inode(&b)).unwrap();
    assert_eq!(
        (socket.domain, socket.kind),
        (libc::AF_UNIX, libc::SOCK_STREAM)
    );
    assert_eq!(socket.role, Role::Connected);
    assert_eq!(socket.peer_inode, Some(inode(&a)));
    for _ in 0..2 {
        socket::queue(&b, &mut socket).unwrap();
        assert_eq!(socket.queue.len(), 1);
        assert_eq!(socket.queue[0].bytes, b"hello world");
        assert!(!socket.queue[0].ancillary);
    }
    let mut got = [0; 11];
    b.read_exact(&mut got).unwrap();
    assert_eq!(&got, b"hello world");
    let (a, b) = UnixDatagram::pair().unwrap();
    for part in [&b"1"[..], b"22", b"333"] {
        a.send(part).unwrap();
    }
    let mut socket = socket::read(&b, inode(&b)).unwrap();
    socket::queue(&b, &mut socket).unwrap();
    let lengths: Vec<usize> = socket.queue.iter().map(|m| m.bytes.len()).collect();
    assert_eq!(lengths, [1, 2, 3]);
    socket::drain(&b, false).unwrap();
    assert_eq!(waiting(&b).unwrap(), 0);
    // As made new, the last one gone: first what waits, then the end.
    let made = UnixStream::from(socket::closed(&socket::read(got_pair(), 0).unwrap()).unwrap());
    let mut made = made;
    assert_eq!(made.read(&mut got).unwrap(), 0);
    assert!(made.write(b"x").is_err());
}

fn got_pair() -> UnixStream {
    UnixStream::pair().unwrap().0
}

#[test]
fn listeners_and_connections() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").unwrap();
    let read = socket::read(&listener, inode(&listener)).unwrap();
    assert!(
        matches!(read.role, Role::Listening(n) if n >= 128),
        "{:?}",
        read.role
    );
    let client = std::net::TcpStream::connect(listener.local_addr().unwrap()).unwrap();
    let connected = socket::read(&client, 0).unwrap();
    assert_eq!(connected.role, Role::Connected);
    assert_eq!(connected.peer, read.local);
    drop(listener);
    drop(client);
    let made = socket::make(&read).unwrap();
    socket::bind(&made, &read.local).unwrap();
    socket::listen(&made, 128).unwrap();
    assert_eq!(socket::read(&made, 0).unwrap().local, read.local);
    let mut closed = std::net::TcpStream::from(socket::closed(&connected).unwrap());
    assert_eq!(closed.read(&mut [0; 4]).unwrap(), 0);
    assert_eq!(
        closed.write(b"x").unwrap_err().kind(),
        std::io::ErrorKind::BrokenPipe
    );
}

#[test]
fn files_in_memory() {
    let wanted = Memory {
        seals: (libc::F_SEAL_SHRINK | libc::F_SEAL_GROW) as u32,
        size: 10_000,
        content: Some(b"something".to_vec()),
        missing: false,
    };
    let fd = memory::make(b"name", &wanted).unwrap();
    memory::seal(&fd, wanted.seals).unwrap();
    assert_eq!(memory::seals(&fd).unwrap(), wanted.seals);
    let size = rustix::fs::fstat(&fd).unwrap().st_size;
    assert_eq!(size, 10_000);
    assert_eq!(memory::content(fd, 10_000, 1 << 20).unwrap(), b"something");
}

#[test]
fn timers_go_on_with_what_is_left() {
    let wanted = TimerFd {
        clock: libc::CLOCK_MONOTONIC,
        ticks: 3,
        flags: 0,
        value_ns: 3_600_000_000_000,
        interval_ns: 5_000_000,
    };
    let fd = timer::make(&wanted).unwrap();
    let mut count = [0; 8];
    assert_eq!(rustix::io::read(&fd, &mut count).unwrap(), 8);
    assert_eq!(u64::from_ne_bytes(count), 3);
}

#[test]
fn watches_have_their_numbers() {
    let dir = tempfile::tempdir().unwrap();
    let path = |name: &str| {
        let path = dir.path().join(name);
        std::fs::create_dir(&path).unwrap();
        Some(path.to_string_lossy().into_owned().into_bytes())
    };
    let watches: Vec<Watch> = [(5, "a"), (2, "b")]
        .map(|(wd, name)| Watch {
            wd,
            mask: libc::IN_CREATE,
            path: path(name),
        })
        .to_vec();
    let fd = watch::make(&watches).unwrap();
    assert_eq!(waiting(&fd).unwrap(), 0);
    std::fs::write(dir.path().join("a/new"), b"").unwrap();
    let mut event = [0; 64];
    let n = rustix::io::read(&fd, &mut event).unwrap();
    assert!(n >= 16);
    assert_eq!(i32::from_ne_bytes(event[..4].try_into().unwrap()), 5);
    // And found again through fdinfo.
    let info = std::fs::read(format!("/proc/self/fdinfo/{}", fd.as_raw_fd())).unwrap();
    let found = stillframe_image::objects::detail::inotify(&info);
    assert_eq!(found.len(), 2);
    let a = found.iter().find(|w| w.wd == 5).unwrap();
    let guess = dir.path().join("a");
    assert_eq!(watch::path_of(a, &[&guess]), watches[0].path);
}

#[test]
fn owners_and_flags() {
    let (read, _write) = pipe_with(PipeFlags::CLOEXEC).unwrap();
    let wanted = Owner {
        kind: 1,
        id: std::process::id().cast_signed(),
        signal: libc::SIGUSR1,
    };
    set_owner(&read, wanted).unwrap();
    assert_eq!(owner(&read).unwrap(), wanted);
    set_flags(&read, (libc::O_NONBLOCK) as u32).unwrap();
    assert_ne!(flags(&read).unwrap() & libc::O_NONBLOCK as u32, 0);
}

use pipe::Tee;
