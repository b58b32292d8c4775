//! Talking to the process that writes a recording, through a socket in the recording's directory.
//!
//! A message is a u32 length and postcard. Both ends bound what they read; how long they wait is set
//! on the stream.

use serde::{Serialize, de::DeserializeOwned};
use std::fs::File;
use std::io::{self, Read, Write};
use std::os::fd::AsRawFd;
use std::os::unix::net::{UnixListener, UnixStream};
use std::path::{Path, PathBuf};

/// Sends a message.
///
/// # Errors
/// The stream's.
pub fn send(stream: &mut UnixStream, value: &impl Serialize) -> io::Result<()> {
    let body = postcard::to_allocvec(value).map_err(io::Error::other)?;
    let length = u32::try_from(body.len()).map_err(io::Error::other)?;
    stream.write_all(&length.to_le_bytes())?;
    stream.write_all(&body)
}

/// Receives a message of at most `longest` bytes.
///
/// # Errors
/// The stream's; InvalidData if it is longer; if it is no encoding of what it should be.
pub fn receive<T: DeserializeOwned>(stream: &mut UnixStream, longest: u32) -> io::Result<T> {
    let mut length = [0u8; 4];
    stream.read_exact(&mut length)?;
    let length = u32::from_le_bytes(length);
    if length > longest {
        return Err(io::ErrorKind::InvalidData.into());
    }
    let mut body = Vec::new();
    stream.take(u64::from(length)).read_to_end(&mut body)?;
    crate::header::from_postcard(&body).map_err(io::Error::other)
}

/// A path to the socket that is short, whatever the directory is called: a socket's address holds
/// 107 bytes. Good as long as the directory is held open.
fn address(dir: &Path, name: &str) -> io::Result<(File, PathBuf)> {
    let dir = File::open(dir)?;
    let path = PathBuf::from(format!("/proc/self/fd/{}/{name}", dir.as_raw_fd()));
    Ok((dir, path))
}

/// Connects to the socket `name` in `dir`; `None` if nobody listens.
///
/// # Errors
/// If the directory cannot be opened.
pub fn connect(dir: &Path, name: &str) -> io::Result<Option<UnixStream>> {
    let (_held, short) = address(dir, name)?;
    Ok(UnixStream::connect(short).ok())
}

/// Listens at the socket `name` in `dir`, whose lock is held, without waiting in `accept`: whoever has
/// gone again must not keep it there.
///
/// # Errors
/// If there can be no socket there, as on some network file systems.
pub fn listen(dir: &Path, name: &str) -> io::Result<UnixListener> {
    match std::fs::remove_file(dir.join(name)) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => return Err(e),
        _ => {}
    }
    let (_held, short) = address(dir, name)?;
    let socket = UnixListener::bind(short)?;
    socket.set_nonblocking(true)?;
    Ok(socket)
}
