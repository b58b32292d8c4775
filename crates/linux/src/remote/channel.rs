//! Descriptors of ours into the target.
//!
//! The kernel has `pidfd_getfd` for one direction only. For the other, the target makes a pair of
//! sockets, of which we take one end, and receives what we send there (SCM_RIGHTS).

use super::{Remote, word};
use crate::error::{Error, Result, Target};
use crate::tracee::Halt;
use std::mem::MaybeUninit;
use std::os::fd::{BorrowedFd, OwnedFd};

/// Lowest number for the target's end, if its limit allows.
const HIGH: u32 = 900;

/// Offsets in our page of the target: `msghdr`, `iovec`, a byte, the control message.
const HEADER: u64 = 0;
const VECTOR: u64 = 64;
const BYTE: u64 = 96;
const CONTROL: u64 = 128;
const CONTROL_LENGTH: u64 = 24;

#[derive(Debug)]
pub(super) struct Channel {
    ours: OwnedFd,
    number: u32,
}

impl Channel {
    pub(super) fn open(
        remote: &mut Remote,
        halt: &mut Halt<'_>,
        tid: u32,
        reserved: u32,
    ) -> Result<Self> {
        let own = remote.own().start;
        let kind = word(libc::SOCK_STREAM | libc::SOCK_CLOEXEC);
        let args = [word(libc::AF_UNIX), kind, 0, own, 0, 0];
        remote.call(halt, tid, libc::SYS_socketpair, args)?;
        let mut bytes = [[0u8; 4]; 2];
        let [theirs, given] = &mut bytes;
        remote.read(own, theirs)?;
        remote.read(own + 4, given)?;
        let [theirs, given] = bytes.map(u32::from_le_bytes);
        let ours = remote.take_fd(given);
        remote.call(
            halt,
            tid,
            libc::SYS_close,
            [u64::from(given), 0, 0, 0, 0, 0],
        )?;
        let ours = ours?;
        let mut number = theirs;
        for lowest in [
            HIGH.max(reserved.saturating_add(1)),
            reserved.saturating_add(1),
        ] {
            let dup = word(libc::F_DUPFD_CLOEXEC);
            let args = [u64::from(theirs), dup, u64::from(lowest), 0, 0, 0];
            match remote.call(halt, tid, libc::SYS_fcntl, args) {
                Ok(moved) => {
                    number = u32::try_from(moved).unwrap_or(theirs);
                    let args = [u64::from(theirs), 0, 0, 0, 0, 0];
                    remote.call(halt, tid, libc::SYS_close, args)?;
                    break;
                }
                // Beyond the limit: lower, or where it is.
                Err(Error::Call { .. }) => {}
                Err(e) => return Err(e),
            }
        }
        Ok(Self { ours, number })
    }

    pub(super) const fn number(&self) -> u32 {
        self.number
    }

    pub(super) fn send(
        &self,
        remote: &mut Remote,
        halt: &mut Halt<'_>,
        tid: u32,
        fd: BorrowedFd<'_>,
    ) -> Result<u32> {
        use rustix::net::{SendAncillaryBuffer, SendAncillaryMessage, SendFlags, sendmsg};
        let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
        let mut control = SendAncillaryBuffer::new(&mut space);
        let fds = [fd];
        control.push(SendAncillaryMessage::ScmRights(&fds));
        let byte = [std::io::IoSlice::new(b"d")];
        sendmsg(&self.ours, &byte, &mut control, SendFlags::NOSIGNAL)
            .map_err(|e| Error::syscall("sendmsg", Target::Process(remote.pid()), e))?;

        let own = remote.own().start;
        // struct msghdr: name, namelen, iov, iovlen, control, controllen, flags.
        let words = [0, 0, own + VECTOR, 1, own + CONTROL, CONTROL_LENGTH, 0];
        let header: Vec<u8> = words.iter().flat_map(|w: &u64| w.to_le_bytes()).collect();
        remote.write(own + HEADER, &header)?;
        let vector = [(own + BYTE).to_le_bytes(), 1u64.to_le_bytes()].concat();
        remote.write(own + VECTOR, &vector)?;
        remote.write(own + CONTROL, &[0; CONTROL_LENGTH as usize])?;
        let flags = word(libc::MSG_CMSG_CLOEXEC | libc::MSG_DONTWAIT);
        let args = [u64::from(self.number), own + HEADER, flags, 0, 0, 0];
        remote.call(halt, tid, libc::SYS_recvmsg, args)?;
        // struct cmsghdr: length u64, level u32, type u32; then the number.
        let mut got = [0u8; 20];
        remote.read(own + CONTROL, &mut got)?;
        let part = |at: usize| {
            got.get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map_or(0, u32::from_le_bytes)
        };
        let rights = libc::SCM_RIGHTS.cast_unsigned();
        if (part(0), part(8), part(12)) != (20, libc::SOL_SOCKET.cast_unsigned(), rights) {
            // It has no number left.
            return Err(Error::Call {
                call: "recvmsg",
                tid,
                source: std::io::Error::from_raw_os_error(libc::EMFILE),
            });
        }
        Ok(part(16))
    }
}
