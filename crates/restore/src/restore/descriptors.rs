//! Descriptors of the plain sorts: files, directories, devices, and the standard three.
//!
//! What the process had as standard input, output and error is ours now where it was a terminal, a
//! pipe or a socket: they led to somebody who is not there any more.

use crate::error::{Error, Result};
use rustix::fs::{Mode, OFlags, SeekFrom};
use std::ffi::OsStr;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use stillframe_image::{Descriptor, DescriptorKind, Gap, ProcessImage};
use stillframe_linux::remote::Remote;
use stillframe_linux::remote::numbers;
use stillframe_linux::tracee::Halt;

/// O_CLOEXEC.
const CLOEXEC: u32 = 0o2_000_000;
/// O_CREAT, O_EXCL, O_NOCTTY, O_TRUNC: of the opening alone.
const OPENING: u32 = 0o1700;

pub(super) fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    wanted: &ProcessImage,
    gaps: &mut Vec<Gap>,
) -> Result<()> {
    let tid = halt.pid();
    for descriptor in &wanted.descriptors.open {
        let sent = match reopen(descriptor) {
            Ok(fd) => remote.send_fd(halt, tid, fd.as_fd()),
            Err(reason) => {
                let target = String::from_utf8_lossy(&descriptor.target);
                gaps.push(Gap {
                    subject: format!("fd {} ({})", descriptor.fd, target.escape_debug()),
                    reason,
                });
                continue;
            }
        };
        let subject = || format!("fd {}", descriptor.fd);
        let number = sent.map_err(Error::step(subject()))?;
        let flags = u64::from(descriptor.flags & CLOEXEC);
        let (from, to) = (u64::from(number), u64::from(descriptor.fd));
        if from == to {
            // Close-on-exec from its arrival.
            let set = [from, 2, u64::from(flags != 0), 0, 0, 0];
            remote
                .call(halt, tid, numbers::FCNTL, set)
                .map_err(Error::step(subject()))?;
            continue;
        }
        remote
            .call(halt, tid, numbers::DUP3, [from, to, flags, 0, 0, 0])
            .map_err(Error::step(subject()))?;
        remote.call(halt, tid, numbers::CLOSE, [from, 0, 0, 0, 0, 0])?;
    }
    Ok(())
}

fn reopen(descriptor: &Descriptor) -> Result<OwnedFd, String> {
    use DescriptorKind as Kind;
    match descriptor.kind {
        Kind::Regular | Kind::Directory | Kind::CharDevice => file(descriptor),
        Kind::Terminal | Kind::Pipe | Kind::Socket | Kind::Fifo if descriptor.fd < 3 => {
            let ours = match descriptor.fd {
                0 => std::io::stdin().as_fd().try_clone_to_owned(),
                1 => std::io::stdout().as_fd().try_clone_to_owned(),
                _ => std::io::stderr().as_fd().try_clone_to_owned(),
            };
            ours.map_err(|e| format!("ours cannot be given to it ({e}); it is closed"))
        }
        Kind::Terminal => {
            let flags = OFlags::RDWR | OFlags::CLOEXEC | OFlags::NOCTTY;
            rustix::fs::open("/dev/tty", flags, Mode::empty())
                .map_err(|e| format!("there is no terminal here ({e}); it is closed"))
        }
        _ => Err("it is closed: this sort of descriptor is not restored".into()),
    }
}

fn file(descriptor: &Descriptor) -> Result<OwnedFd, String> {
    let path = Path::new(OsStr::from_bytes(&descriptor.target));
    let kept = descriptor.flags & !(OPENING | CLOEXEC);
    let flags = OFlags::from_bits_retain(kept) | OFlags::CLOEXEC | OFlags::NOCTTY;
    let fd = rustix::fs::open(path, flags, Mode::empty())
        .map_err(|e| format!("it is closed: it cannot be opened ({e})"))?;
    if descriptor.kind == DescriptorKind::Regular {
        rustix::fs::seek(&fd, SeekFrom::Start(descriptor.offset))
            .map_err(|e| format!("it is closed: its offset cannot be set ({e})"))?;
    }
    Ok(fd)
}
