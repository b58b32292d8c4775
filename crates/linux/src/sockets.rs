//! What the kernel tells of another process's connections.

use crate::objects::Door;
use std::os::fd::{AsRawFd, OwnedFd};

/// The descriptor of the TCP connection that data came in by last and was taken from, among those of
/// a process: the one that brought what it was working on. `None` if there is none, or it cannot be
/// looked at.
pub fn last_to_receive(pid: u32) -> Option<u32> {
    let door = Door::open(pid).ok()?;
    let entries = std::fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    let mut best: Option<(u32, u32)> = None;
    for entry in entries.flatten() {
        let Some(number) = entry
            .file_name()
            .to_str()
            .and_then(|n| n.parse::<u32>().ok())
        else {
            continue;
        };
        let is_socket = std::fs::read_link(entry.path())
            .is_ok_and(|to| to.to_string_lossy().starts_with("socket:"));
        if !is_socket {
            continue;
        }
        let Ok(fd) = door.take(number) else {
            continue;
        };
        if let Some(ago) = since_received(&fd)
            && best.is_none_or(|(least, _)| ago < least)
        {
            best = Some((ago, number));
        }
    }
    best.map(|(_, number)| number)
}

/// Milliseconds since data came in by a connection whose data has been taken.
fn since_received(fd: &OwnedFd) -> Option<u32> {
    /// States (enum in net/tcp_states.h) of a connection that can have been received from.
    const ESTABLISHED: u8 = 1;
    const CLOSE_WAIT: u8 = 8;
    const LAST_DATA_RECEIVED: usize = 52;
    let mut info = [0u8; 104];
    let mut length = libc::socklen_t::try_from(info.len()).ok()?;
    // SAFETY: the call writes at most `length` bytes to `info`, which is that long.
    let done = unsafe {
        libc::getsockopt(
            fd.as_raw_fd(),
            libc::IPPROTO_TCP,
            libc::TCP_INFO,
            info.as_mut_ptr().cast(),
            &raw mut length,
        )
    };
    let state = *info.first()?;
    if done != 0 || !matches!(state, ESTABLISHED | CLOSE_WAIT) {
        return None;
    }
    if rustix::io::ioctl_fionread(fd).ok()? != 0 {
        return None;
    }
    let at = info.get(LAST_DATA_RECEIVED..LAST_DATA_RECEIVED + 4)?;
    Some(u32::from_ne_bytes(at.try_into().ok()?))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::io::{Read, Write};
    use std::net::{TcpListener, TcpStream};
    use std::os::fd::AsRawFd;
    use std::time::Duration;

    #[test]
    fn the_connection_that_brought_the_last_data_is_found() {
        let listener = TcpListener::bind(("127.0.0.1", 0)).unwrap();
        let address = listener.local_addr().unwrap();
        let mut pairs: Vec<(TcpStream, TcpStream)> = (0..3)
            .map(|_| {
                let ours = TcpStream::connect(address).unwrap();
                (ours, listener.accept().unwrap().0)
            })
            .collect();
        let mut byte = [0];
        for which in [2, 0, 1] {
            std::thread::sleep(Duration::from_millis(30));
            let (ours, theirs) = &mut pairs[which];
            ours.write_all(b"x").unwrap();
            theirs.read_exact(&mut byte).unwrap();
            let fd = theirs.as_raw_fd().cast_unsigned();
            let OwnedCopy(copy) = OwnedCopy::of(theirs);
            assert!(since_received(&copy).unwrap() < 30, "{fd}");
        }
    }

    struct OwnedCopy(OwnedFd);

    impl OwnedCopy {
        fn of(stream: &TcpStream) -> Self {
            Self(stream.try_clone().unwrap().into())
        }
    }
}
