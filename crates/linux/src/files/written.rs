//! Files that a process writes: held without opening them, looked at, read, and cloned.
//!
//! Looking must not be noticed. So a file is held by an O_PATH descriptor, which breaks no lease and
//! makes no event of opening for anybody who watches it; it is opened for reading only where its
//! content is wanted.

use crate::error::{Error, Result, Target};
use rustix::fs::{AtFlags, FileType, Mode, OFlags, StatxFlags};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;

/// What the kernel says of a file beside its content.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// Bytes.
    pub size: u64,
    /// Content changed, ns since the epoch.
    pub modified_ns: i64,
    /// Anything changed, ns since the epoch.
    pub changed_ns: i64,
    /// Created, ns since the epoch, where the file system tells.
    pub born_ns: Option<i64>,
    /// Names it has.
    pub links: u32,
    /// `st_mode`.
    pub mode: u32,
    /// Owner.
    pub uid: u32,
    /// Group.
    pub gid: u32,
    /// Device as (major, minor).
    pub device: (u32, u32),
    /// Inode number.
    pub inode: u64,
}

impl Facts {
    /// Of a file that is open, in whatever way. About 0.6 us; never goes to a server.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn of(file: impl AsFd) -> Result<Self> {
        let fd = file.as_fd();
        Self::at(fd, "", AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC)
            .map_err(|e| Error::syscall("statx", Target::Descriptor(fd.as_raw_fd()), e))
    }

    /// Of what a path names, links followed.
    ///
    /// # Errors
    /// The system's.
    pub fn named(path: &Path) -> std::io::Result<Self> {
        Ok(Self::at(rustix::fs::CWD, path, AtFlags::empty())?)
    }

    fn at(
        directory: impl AsFd,
        path: impl rustix::path::Arg,
        flags: AtFlags,
    ) -> rustix::io::Result<Self> {
        let wanted = StatxFlags::BASIC_STATS | StatxFlags::BTIME;
        let s = rustix::fs::statx(directory, path, flags, wanted)?;
        let ns = |seconds: i64, rest: u32| {
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(rest.into())
        };
        let born = s.stx_mask & StatxFlags::BTIME.bits() != 0;
        Ok(Self {
            size: s.stx_size,
            modified_ns: ns(s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
            changed_ns: ns(s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
            born_ns: born.then(|| ns(s.stx_btime.tv_sec, s.stx_btime.tv_nsec)),
            links: s.stx_nlink,
            mode: s.stx_mode.into(),
            uid: s.stx_uid,
            gid: s.stx_gid,
            device: (s.stx_dev_major, s.stx_dev_minor),
            inode: s.stx_ino,
        })
    }

    /// Whether it is a regular file.
    pub fn is_regular(&self) -> bool {
        FileType::from_raw_mode(self.mode) == FileType::RegularFile
    }

    /// Whether this is the same file.
    pub fn is_file_of(&self, other: &Self) -> bool {
        (self.device, self.inode) == (other.device, other.inode)
    }

    /// Whether nothing says that the content was changed in between. On file systems whose times are
    /// coarse a change within a clock tick (1-10 ms) of the first look may not show; see
    /// [`super::Stamp`].
    pub fn says_the_same(&self, other: &Self) -> bool {
        (self.size, self.modified_ns, self.changed_ns)
            == (other.size, other.modified_ns, other.changed_ns)
    }
}

/// Holds the file behind a descriptor of a process, without opening it.
///
/// # Errors
/// If the descriptor is closed, or the process gone or not ours to look at.
pub fn hold_descriptor(pid: u32, fd: u32) -> Result<OwnedFd> {
    hold(Path::new(&format!("/proc/{pid}/fd/{fd}")))
}

/// Holds the file that a path names, without opening it.
///
/// # Errors
/// If it cannot be found.
pub fn hold(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty())
        .map_err(|e| Error::syscall("open", Target::Path(path.display().to_string()), e))
}

/// Whether a file system that process `pid` has mounted is this machine's own: reading it asks no
/// server, on another machine or in another process. What is not found is not.
pub fn is_local(pid: u32, device: (u32, u32)) -> bool {
    let mounts = std::fs::read(format!("/proc/{pid}/mountinfo")).unwrap_or_default();
    let kind = mounts
        .split(|b| *b == b'\n')
        .find_map(|line| kind_of_mount(line, device));
    kind.is_some_and(|kind| {
        let served: [&[u8]; 8] = [
            b"fuse",
            b"nfs",
            b"cifs",
            b"smb",
            b"9p",
            b"ceph",
            b"afs",
            b"virtiofs",
        ];
        !served.iter().any(|s| kind.starts_with(s))
    })
}

/// The kind of file system in a line of mountinfo, if it is that of a device: `36 35 98:0 /mnt1
/// /mnt2 rw master:1 - ext3 /dev/root rw`.
fn kind_of_mount(line: &[u8], device: (u32, u32)) -> Option<&[u8]> {
    let mut fields = line.split(|b| *b == b' ');
    let wanted = format!("{}:{}", device.0, device.1);
    (fields.nth(2)? == wanted.as_bytes()).then_some(())?;
    fields.find(|f| *f == b"-")?;
    fields.next()
}

/// Opens a file that is held, whatever its name means by now. Neither waits nor becomes a terminal.
///
/// # Errors
/// If it may not be opened so.
pub fn open_held(held: &OwnedFd, write: bool) -> Result<File> {
    let access = if write { OFlags::RDWR } else { OFlags::RDONLY };
    let flags = access | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let path = format!("/proc/self/fd/{}", held.as_raw_fd());
    Ok(rustix::fs::open(&path, flags, Mode::empty())
        .map_err(|e| Error::syscall("open", Target::Path(path), e))?
        .into())
}

/// A clone of a file: its content at this instant, sharing its blocks, without a name, in the file
/// system of `directory`. About as dear as the file has extents.
///
/// # Errors
/// Where the file system cannot do it, or `directory` is on another one.
pub fn clone_of(file: &File, directory: &Path) -> Result<File> {
    let failed = |e| Error::syscall("clone", Target::Path(directory.display().to_string()), e);
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let clone = rustix::fs::open(directory, flags, Mode::RUSR | Mode::WUSR).map_err(failed)?;
    rustix::fs::ioctl_ficlone(&clone, file).map_err(failed)?;
    Ok(clone.into())
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::os::unix::fs::FileExt;

    #[test]
    fn what_is_held_stays_the_same_file() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "first").unwrap();
        let ours = File::open(&path).unwrap();
        let held = hold_descriptor(std::process::id(), ours.as_raw_fd() as u32).unwrap();
        let before = Facts::of(&held).unwrap();
        assert!(before.is_regular());
        assert_eq!((before.size, before.links), (5, 1));
        assert_eq!(before, Facts::named(&path).unwrap());
        std::fs::write(&path, "second").unwrap();
        let after = Facts::of(&held).unwrap();
        assert!(!before.says_the_same(&after) && before.is_file_of(&after));
        std::fs::remove_file(&path).unwrap();
        std::fs::write(&path, "another").unwrap();
        assert_eq!(Facts::of(&held).unwrap().links, 0);
        assert!(!Facts::named(&path).unwrap().is_file_of(&after));
        let mut bytes = [0; 6];
        let file = open_held(&held, false).unwrap();
        file.read_exact_at(&mut bytes, 0).unwrap();
        assert_eq!(&bytes, b"second");
        assert!(hold(&dir.path().join("none")).is_err());
    }

    #[test]
    fn file_systems_of_others_are_told() {
        let line = b"36 35 0:98 /mnt1 /mnt2 rw,noatime master:1 shared:2 - fuse.sshfs x rw";
        assert_eq!(kind_of_mount(line, (0, 98)), Some(&b"fuse.sshfs"[..]));
        assert_eq!(kind_of_mount(line, (0, 9)), None);
        assert_eq!(kind_of_mount(b"", (0, 0)), None);
        assert_eq!(kind_of_mount(b"1 2 0:98 - ", (0, 98)), Some(&b""[..]));
        let us = std::process::id();
        let proc = Facts::named(Path::new("/proc")).unwrap();
        assert!(is_local(us, proc.device));
        assert!(!is_local(us, (4095, 1)));
    }

    #[test]
    fn a_clone_is_the_instant_or_is_refused() {
        let dir = tempfile::tempdir().unwrap();
        let path = dir.path().join("f");
        std::fs::write(&path, "first").unwrap();
        let file = File::open(&path).unwrap();
        // Most file systems cannot; then it must not pretend.
        if let Ok(clone) = clone_of(&file, dir.path()) {
            std::fs::write(&path, "later").unwrap();
            let mut bytes = [0; 5];
            clone.read_exact_at(&mut bytes, 0).unwrap();
            assert_eq!(&bytes, b"first");
        }
    }
}
