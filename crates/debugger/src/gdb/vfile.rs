//! Host I/O: `vFile` packets, by which a debugger opens files through us.

use super::files::{self, Content, Refused};
use super::packet::{LARGEST, number, push_escaped, split, unhex};
use super::scene::Scene;
use std::collections::BTreeMap;

/// Most files open at once.
const OPEN: usize = 4096;
/// Most bytes of one read: each may need an escape.
const PART: u64 = (LARGEST / 2 - 32) as u64;

// Errors in the protocol's numbers (GDB manual, "Errno Values").
const ENOENT: u32 = 2;
const EIO: u32 = 5;
const EBADF: u32 = 9;
const EACCES: u32 = 13;
const EINVAL: u32 = 22;
const ENFILE: u32 = 23;
const EROFS: u32 = 30;
const ENOSYS: u32 = 88;

/// The files that a debugger has open.
#[derive(Default)]
pub struct OpenFiles {
    open: BTreeMap<u64, Content>,
    next: u64,
}

fn failed(errno: u32) -> Vec<u8> {
    format!("F-1,{errno:x}").into_bytes()
}

impl OpenFiles {
    /// Answers `vFile:REQUEST`.
    pub fn answer(&mut self, scene: &Scene<'_>, request: &[u8], force: bool) -> Vec<u8> {
        let Some((operation, rest)) = split(request, b':') else {
            return Vec::new();
        };
        let mut parts = rest.split(|b| *b == b',');
        let mut part = || parts.next().unwrap_or_default();
        let answer = match operation {
            b"open" => {
                let (path, flags) = (unhex(part()), number(part()));
                match path.zip(flags) {
                    // Writing, creating, truncating: the low flags of the protocol.
                    Some((_, flags)) if flags != 0 => Err(EROFS),
                    Some((path, _)) => self.open(scene, &path, force),
                    None => Err(EINVAL),
                }
            }
            b"close" => number(part())
                .and_then(|fd| self.open.remove(&fd))
                .map(|_| b"F0".to_vec())
                .ok_or(EBADF),
            b"pread" => {
                let (fd, count, offset) = (number(part()), number(part()), number(part()));
                match (fd, count, offset) {
                    (Some(fd), Some(count), Some(offset)) => self.read(fd, count, offset),
                    _ => Err(EINVAL),
                }
            }
            b"fstat" => number(part())
                .and_then(|fd| self.open.get(&fd))
                .map(|content| status(content.len()))
                .ok_or(EBADF),
            b"readlink" => unhex(part())
                .and_then(|path| files::link(scene, &path))
                .map(|target| attached(target.len(), &target))
                .ok_or(ENOENT),
            b"setfs" => Ok(b"F0".to_vec()),
            b"pwrite" | b"unlink" => Err(EROFS),
            // What is not known gets an empty reply, so that it is not asked for again.
            b"stat" | b"lstat" => return Vec::new(),
            _ => Err(ENOSYS),
        };
        answer.unwrap_or_else(failed)
    }

    fn open(&mut self, scene: &Scene<'_>, path: &[u8], force: bool) -> Result<Vec<u8>, u32> {
        if self.open.len() >= OPEN {
            return Err(ENFILE);
        }
        match files::open(scene, path, force) {
            Ok(content) => {
                let fd = self.next;
                self.next += 1;
                self.open.insert(fd, content);
                Ok(format!("F{fd:x}").into_bytes())
            }
            Err(Refused::Unknown) => Err(ENOENT),
            Err(Refused::Other(why)) => {
                tracing::warn!("{why}");
                Err(EACCES)
            }
        }
    }

    fn read(&self, fd: u64, count: u64, offset: u64) -> Result<Vec<u8>, u32> {
        let content = self.open.get(&fd).ok_or(EBADF)?;
        let left = content.len().saturating_sub(offset);
        let n = usize::try_from(count.min(PART).min(left)).map_err(|_| EINVAL)?;
        let mut bytes = vec![0; n];
        let n = content.read(offset, &mut bytes).map_err(|why| {
            tracing::warn!("{why}");
            EIO
        })?;
        Ok(attached(n, &bytes[..n]))
    }
}

/// A result with bytes.
fn attached(result: usize, bytes: &[u8]) -> Vec<u8> {
    let mut out = format!("F{result:x};").into_bytes();
    push_escaped(&mut out, bytes);
    out
}

/// The protocol's `struct stat` of a regular file that nobody may write.
fn status(length: u64) -> Vec<u8> {
    const MODE: u32 = 0o100_444;
    let mut stat = Vec::with_capacity(64);
    for word in [0u32, 0, MODE, 1, 0, 0, 0] {
        stat.extend_from_slice(&word.to_be_bytes());
    }
    for word in [length, 4096, length.div_ceil(512)] {
        stat.extend_from_slice(&word.to_be_bytes());
    }
    stat.extend_from_slice(&[0; 12]);
    attached(stat.len(), &stat)
}
