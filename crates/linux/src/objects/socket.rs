//! Sockets.

use super::calls::{self, Which};
use crate::error::{Error, Result, Target};
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};
use stillframe_image::objects::{Message, Role, Socket, SocketOption};

/// Bytes of a queue that are read at most.
pub const LIMIT: usize = 1 << 20;

/// Messages of a queue that are read at most.
const MESSAGES: usize = 4096;

/// Options that are kept, by level and name: (domain or 0 for all, type or 0, level, name). In the
/// order in which they are to be set.
const OPTIONS: &[(i32, i32, i32, i32)] = &[
    (0, 0, libc::SOL_SOCKET, libc::SO_REUSEADDR),
    (0, 0, libc::SOL_SOCKET, libc::SO_REUSEPORT),
    (0, 0, libc::SOL_SOCKET, libc::SO_KEEPALIVE),
    (0, 0, libc::SOL_SOCKET, libc::SO_BROADCAST),
    (0, 0, libc::SOL_SOCKET, libc::SO_OOBINLINE),
    (0, 0, libc::SOL_SOCKET, libc::SO_LINGER),
    (0, 0, libc::SOL_SOCKET, libc::SO_RCVTIMEO),
    (0, 0, libc::SOL_SOCKET, libc::SO_SNDTIMEO),
    (0, 0, libc::SOL_SOCKET, libc::SO_RCVLOWAT),
    (0, 0, libc::SOL_SOCKET, libc::SO_RCVBUF),
    (0, 0, libc::SOL_SOCKET, libc::SO_SNDBUF),
    (libc::AF_UNIX, 0, libc::SOL_SOCKET, libc::SO_PASSCRED),
    (libc::AF_INET6, 0, libc::IPPROTO_IPV6, libc::IPV6_V6ONLY),
    (libc::AF_INET, 0, libc::IPPROTO_IP, libc::IP_TOS),
    (libc::AF_INET, 0, libc::IPPROTO_IP, libc::IP_TTL),
    (
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
    ),
    (
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPIDLE,
    ),
    (
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
    ),
    (
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPCNT,
    ),
    (
        libc::AF_INET,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
    ),
    (
        libc::AF_INET6,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_NODELAY,
    ),
    (
        libc::AF_INET6,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPIDLE,
    ),
    (
        libc::AF_INET6,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPINTVL,
    ),
    (
        libc::AF_INET6,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_KEEPCNT,
    ),
    (
        libc::AF_INET6,
        libc::SOCK_STREAM,
        libc::IPPROTO_TCP,
        libc::TCP_DEFER_ACCEPT,
    ),
];

fn number(fd: BorrowedFd<'_>, level: i32, name: i32) -> Result<i32> {
    let mut value = [0; 4];
    calls::getsockopt(fd, level, name, &mut value)?;
    Ok(i32::from_ne_bytes(value))
}

/// What a socket is and does; not its queue.
///
/// # Errors
/// If it is no socket.
pub fn read(fd: impl AsFd, inode: u64) -> Result<Socket> {
    let fd = fd.as_fd();
    let mut socket = Socket {
        domain: number(fd, libc::SOL_SOCKET, libc::SO_DOMAIN)?,
        kind: number(fd, libc::SOL_SOCKET, libc::SO_TYPE)?,
        protocol: number(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL)?,
        ..Socket::default()
    };
    for (domain, kind, level, name) in OPTIONS {
        let fits =
            (*domain == 0 || *domain == socket.domain) && (*kind == 0 || *kind == socket.kind);
        let mut value = [0; 16];
        if fits && let Ok(length) = calls::getsockopt(fd, *level, *name, &mut value) {
            let mut value = value[..length].to_vec();
            if *level == libc::SOL_SOCKET && matches!(*name, libc::SO_RCVBUF | libc::SO_SNDBUF) {
                // The kernel doubles what it is given.
                let size: [u8; 4] = value.as_slice().try_into().unwrap_or_default();
                value = (i32::from_ne_bytes(size) / 2).to_ne_bytes().to_vec();
            }
            socket.options.push(SocketOption {
                level: *level,
                name: *name,
                value,
            });
        }
    }
    role(fd, inode, &mut socket)?;
    Ok(socket)
}

/// What a socket does: role and addresses.
///
/// # Errors
/// If it is no socket.
pub fn role(fd: impl AsFd, inode: u64, socket: &mut Socket) -> Result<()> {
    let fd = fd.as_fd();
    let named = |address: Vec<u8>| {
        if address.len() > 2 {
            address
        } else {
            Vec::new()
        }
    };
    socket.local = named(calls::address(fd, Which::Own).unwrap_or_default());
    if number(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN).is_ok_and(|n| n != 0) {
        socket.role = Role::Listening(backlog(fd, socket, inode));
        return Ok(());
    }
    match calls::address(fd, Which::Peer) {
        // The kernel is the peer of every one of these.
        Ok(_) if socket.domain == libc::AF_NETLINK => socket.role = Role::Idle,
        Ok(peer) => {
            socket.role = Role::Connected;
            socket.peer = named(peer);
            if socket.domain == libc::AF_UNIX {
                socket.peer_inode = diag(inode).and_then(|d| d.peer);
            }
        }
        Err(_) => {
            let mut state = [0; 1];
            let tcp = socket.kind == libc::SOCK_STREAM
                && socket.domain != libc::AF_UNIX
                && calls::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut state).is_ok();
            // TCP_CLOSE: never connected, or over.
            socket.role = if tcp && state[0] != 7 {
                Role::Other
            } else {
                Role::Idle
            };
        }
    }
    Ok(())
}

/// Backlog of a listener; 128 if it cannot be told.
fn backlog(fd: BorrowedFd<'_>, socket: &Socket, inode: u64) -> u32 {
    if socket.domain == libc::AF_UNIX {
        return diag(inode).and_then(|d| d.backlog).unwrap_or(128);
    }
    // `struct tcp_info`: of a listener, tcpi_unacked (offset 24) is the length of its queue, and
    // tcpi_sacked (28) its bound (tcp_get_info in net/ipv4/tcp.c).
    let mut info = [0; 104];
    match calls::getsockopt(fd, libc::IPPROTO_TCP, libc::TCP_INFO, &mut info) {
        Ok(length) if length >= 32 => u32::from_ne_bytes([info[28], info[29], info[30], info[31]]),
        _ => 128,
    }
}

/// What a socket's queue holds, by looking. A stream's comes as one message, what follows passed
/// descriptors included.
///
/// # Errors
/// The kernel's.
pub fn queue(fd: impl AsFd, socket: &mut Socket) -> Result<()> {
    let fd = fd.as_fd();
    socket.queue.clear();
    socket.missing = 0;
    if matches!(socket.role, Role::Listening(_)) {
        return Ok(());
    }
    let there = super::waiting(fd).unwrap_or(0);
    if there == 0 {
        return Ok(());
    }
    // A look begins where the last one ended, while this is set; the target may have set it, too.
    let mut before = [0; 4];
    calls::getsockopt(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &mut before)?;
    calls::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &0i32.to_ne_bytes())?;
    let read = look(fd, socket);
    calls::setsockopt(fd, libc::SOL_SOCKET, libc::SO_PEEK_OFF, &before)?;
    read
}

fn look(fd: BorrowedFd<'_>, socket: &mut Socket) -> Result<()> {
    let stream = socket.kind == libc::SOCK_STREAM;
    let mut buffer = vec![0; 256 << 10];
    let mut total = 0;
    // Unless it asks for credentials, ancillary data means descriptors.
    let credentials = socket.options.iter().any(|o| {
        o.level == libc::SOL_SOCKET
            && o.name == libc::SO_PASSCRED
            && o.value.iter().any(|b| *b != 0)
    });
    for _ in 0..MESSAGES {
        let Some(seen) = calls::receive(fd, &mut buffer, true)? else {
            break;
        };
        if stream && seen.length == 0 {
            break;
        }
        let length = seen.length.min(buffer.len());
        total += length;
        if total > LIMIT || seen.length > buffer.len() {
            socket.missing += seen.length as u64;
            continue;
        }
        let ancillary = seen.ancillary && !credentials;
        match socket.queue.last_mut() {
            Some(last) if stream => {
                last.bytes.extend_from_slice(&buffer[..length]);
                last.ancillary |= ancillary;
            }
            _ => socket.queue.push(Message {
                from: if seen.from.len() > 2 {
                    seen.from
                } else {
                    Vec::new()
                },
                bytes: buffer[..length].to_vec(),
                ancillary,
            }),
        }
        if !stream && length == 0 {
            // The next look would find the same one.
            socket.missing += super::waiting(fd).unwrap_or(0);
            break;
        }
    }
    Ok(())
}

/// What the kernel tells of a unix socket.
#[derive(Clone, Copy, Debug, Default)]
struct Diag {
    peer: Option<u64>,
    backlog: Option<u32>,
}

/// Asks sock_diag(7) about one unix socket of our network namespace.
fn diag(inode: u64) -> Option<Diag> {
    const NETLINK_SOCK_DIAG: i32 = 4;
    const SOCK_DIAG_BY_FAMILY: u16 = 20;
    const SHOW_PEER: u32 = 4;
    const SHOW_QUEUES: u32 = 0x10;
    const PEER: u16 = 2;
    const QUEUES: u16 = 4;
    let fd = calls::socket(libc::AF_NETLINK, libc::SOCK_RAW, NETLINK_SOCK_DIAG).ok()?;
    let inode = u32::try_from(inode).ok()?;
    let mut request = Vec::with_capacity(40);
    request.extend(40u32.to_ne_bytes());
    request.extend(SOCK_DIAG_BY_FAMILY.to_ne_bytes());
    request.extend((libc::NLM_F_REQUEST as u16).to_ne_bytes());
    request.extend([0; 8]);
    request.extend([libc::AF_UNIX as u8, 0, 0, 0]);
    for word in [u32::MAX, inode, SHOW_PEER | SHOW_QUEUES, u32::MAX, u32::MAX] {
        request.extend(word.to_ne_bytes());
    }
    calls::send(fd.as_fd(), &request).ok()?;
    let mut answer = [0; 1024];
    let length = calls::receive(fd.as_fd(), &mut answer, false).ok()??.length;
    let answer = answer.get(..length)?;
    let half = |at: usize| Some(u16::from_ne_bytes(answer.get(at..at + 2)?.try_into().ok()?));
    let word = |at: usize| Some(u32::from_ne_bytes(answer.get(at..at + 4)?.try_into().ok()?));
    if half(4)? != SOCK_DIAG_BY_FAMILY {
        return None;
    }
    let mut found = Diag::default();
    // A header of 16 bytes, `struct unix_diag_msg` of 16, and the attributes.
    let mut at = 32;
    while let (Some(length), Some(kind)) = (half(at), half(at + 2)) {
        match kind {
            PEER => found.peer = word(at + 4).map(u64::from),
            QUEUES => found.backlog = word(at + 8),
            _ => {}
        }
        if length < 4 {
            break;
        }
        at += usize::from(length).next_multiple_of(4);
    }
    Some(found)
}

/// A new socket of the same sort, with its options, neither bound nor connected.
///
/// # Errors
/// If such a socket may not be made.
pub fn make(wanted: &Socket) -> Result<OwnedFd> {
    let fd = calls::socket(wanted.domain, wanted.kind, wanted.protocol)?;
    set_options(&fd, wanted);
    Ok(fd)
}

/// Two sockets connected with each other.
///
/// # Errors
/// If the domain has no such pairs.
pub fn pair(domain: i32, kind: i32, protocol: i32) -> Result<[OwnedFd; 2]> {
    calls::pair(domain, kind, protocol)
}

/// Sets the options that were read. One that cannot be set stays as it is: all of them tune.
pub fn set_options(fd: impl AsFd, wanted: &Socket) {
    for option in &wanted.options {
        if let Err(error) = calls::setsockopt(fd.as_fd(), option.level, option.name, &option.value)
        {
            tracing::debug!("option {}/{}: {error}", option.level, option.name);
        }
    }
}

/// Binds it to a raw address.
///
/// # Errors
/// If it is taken or not ours.
pub fn bind(fd: impl AsFd, address: &[u8]) -> Result<()> {
    calls::bind(fd.as_fd(), address)
}

/// Connects it to a raw address.
///
/// # Errors
/// If nobody answers.
pub fn connect(fd: impl AsFd, address: &[u8]) -> Result<()> {
    calls::connect(fd.as_fd(), address)
}

/// Listens.
///
/// # Errors
/// The kernel's.
pub fn listen(fd: impl AsFd, backlog: u32) -> Result<()> {
    calls::listen(fd.as_fd(), backlog)
}

/// Puts a message into what the other end of `fd` receives, whole.
///
/// # Errors
/// If it does not fit.
pub fn send(fd: impl AsFd, bytes: &[u8], stream: bool) -> Result<()> {
    let mut at = 0;
    loop {
        at += calls::send(fd.as_fd(), &bytes[at..])?;
        if at >= bytes.len() || !stream {
            return Ok(());
        }
    }
}

/// Takes everything out of a socket's queue.
///
/// # Errors
/// The kernel's.
pub fn drain(fd: impl AsFd, stream: bool) -> Result<()> {
    let mut buffer = vec![0; 64 << 10];
    while let Some(seen) = calls::receive(fd.as_fd(), &mut buffer, false)? {
        if seen.length == 0 && (stream || super::waiting(&fd).unwrap_or(0) == 0) {
            break;
        }
    }
    Ok(())
}

/// A connection of the same sort whose other end has gone: reading says the end, writing EPIPE.
///
/// # Errors
/// If no such socket can be made.
pub fn closed(wanted: &Socket) -> Result<OwnedFd> {
    let fd = if wanted.domain == libc::AF_UNIX {
        let [ours, _other] = pair(wanted.domain, wanted.kind, wanted.protocol)?;
        ours
    } else {
        loopback(wanted)?
    };
    set_options(&fd, wanted);
    Ok(fd)
}

/// A TCP connection with ourselves, shut down on both sides.
fn loopback(wanted: &Socket) -> Result<OwnedFd> {
    if wanted.kind != libc::SOCK_STREAM {
        return make(wanted);
    }
    let any: &[u8] = match wanted.domain {
        libc::AF_INET => &[2, 0, 0, 0, 127, 0, 0, 1, 0, 0, 0, 0, 0, 0, 0, 0],
        libc::AF_INET6 => &[
            10, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 1, 0, 0, 0, 0,
        ],
        domain => {
            return Err(Error::Malformed {
                what: "socket",
                target: Target::Us,
                detail: format!("domain {domain} has no connection that could be closed"),
            });
        }
    };
    let listener = calls::socket(wanted.domain, wanted.kind, wanted.protocol)?;
    calls::bind(listener.as_fd(), any)?;
    calls::listen(listener.as_fd(), 1)?;
    let address = calls::address(listener.as_fd(), Which::Own)?;
    let other = calls::socket(wanted.domain, wanted.kind, wanted.protocol)?;
    calls::connect(other.as_fd(), &address)?;
    let fd = calls::accept(listener.as_fd())?;
    calls::shutdown(other.as_fd(), libc::SHUT_RDWR)?;
    calls::shutdown(fd.as_fd(), libc::SHUT_RDWR)?;
    Ok(fd)
}

/// Whether somebody listens at a unix address. An address that nobody answers at may be bound anew
/// once its file is removed.
pub fn answers(address: &[u8], kind: i32) -> bool {
    calls::socket(libc::AF_UNIX, kind, 0)
        .is_ok_and(|fd| calls::connect(fd.as_fd(), address).is_ok())
}

/// The path of a raw unix address; `None` for an abstract or unnamed one, or another domain.
pub fn path_of(address: &[u8]) -> Option<&[u8]> {
    let (domain, path) = address.split_at_checked(2)?;
    if domain != (libc::AF_UNIX as u16).to_ne_bytes() || path.first()? == &0 {
        return None;
    }
    path.split(|b| *b == 0).next()
}
