//! The file behind a mapping: opening it, and proving that it is the one.
//!
//! A path is only a hint. It may have been replaced since it was mapped, it may lie in another
//! mount namespace, and the target may have chosen it to mislead us. So a candidate is first opened
//! with O_PATH, which has no side effects (a FIFO does not block, a device does nothing), its
//! device and inode are compared with those of the mapping, and only then is it opened for reading.

pub(crate) mod elf;
pub mod written;

pub use elf::build_id;

use crate::error::{Error, Result, Target};
use crate::proc::maps::MapsEntry;
use rustix::fs::{AtFlags, FileType, Mode, OFlags, SeekFrom, Stat, StatxFlags};
use rustix::io::Errno;
use std::ffi::OsStr;
use std::fs::File;
use std::ops::Range;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use stillframe_image::FileIdentity;

/// How a mapped file was reached.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// /proc/PID/map_files, which leads to the very file.
    MapFiles,
    /// Its path, as we see it.
    Path,
    /// Its path in the target's root.
    TargetRoot,
    /// /proc/PID/exe.
    Executable,
    /// A descriptor of the target that refers to it.
    Descriptor,
}

/// A mapped file, open for reading.
#[derive(Debug)]
pub struct MappedFile {
    /// The file.
    pub file: File,
    /// What proves its identity; `object` is left empty.
    pub identity: FileIdentity,
    /// How it was reached.
    pub way: Way,
}

/// What changes about a file when its content does, in whatever way: by stores through a mapping
/// (at the fault that the protection causes), `write`, truncation, holes punched; by the target or
/// anybody else.
///
/// A scan of a shared mapping sees only the first of these. So a shared mapping whose file has the
/// same stamp at two boundaries has not changed between them; one whose stamp differs may have
/// changed in any page, unless nobody, the target included, has the file open for writing
/// ([`crate::proc::sharers`]) and nobody else maps it. Then only stores remain, which the scan
/// finds, and MADV_REMOVE, after which `blocks` is smaller than pages known to exist.
///
/// tmpfs, memfds, ext4, xfs and btrfs (Linux 6.13 and later) give a new time to each change that
/// follows a look; elsewhere times are as coarse as a clock tick (1-10 ms), and a change right
/// after a look may be missed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    /// Bytes.
    pub size: u64,
    /// Blocks of 512 bytes taken; of shared memory, its pages.
    pub blocks: u64,
    /// Content changed, ns since the epoch.
    pub modified_ns: i64,
    /// Anything changed, ns since the epoch.
    pub changed_ns: i64,
}

impl Stamp {
    /// That of an open file. About 0.5 us; never goes to a server.
    ///
    /// # Errors
    /// If the file system refuses.
    pub fn of(file: &File) -> Result<Self> {
        let wanted = StatxFlags::SIZE | StatxFlags::BLOCKS | StatxFlags::MTIME | StatxFlags::CTIME;
        let flags = AtFlags::EMPTY_PATH | AtFlags::STATX_DONT_SYNC;
        let s = rustix::fs::statx(file, "", flags, wanted)
            .map_err(|e| Error::syscall("statx", Target::Descriptor(file.as_raw_fd()), e))?;
        let ns = |seconds: i64, rest: u32| {
            seconds
                .saturating_mul(1_000_000_000)
                .saturating_add(rest.into())
        };
        Ok(Self {
            size: s.stx_size,
            blocks: s.stx_blocks,
            modified_ns: ns(s.stx_mtime.tv_sec, s.stx_mtime.tv_nsec),
            changed_ns: ns(s.stx_ctime.tv_sec, s.stx_ctime.tv_nsec),
        })
    }
}

/// Opens and identifies the file behind a mapping of process `pid`. `None` if there is none, or it
/// cannot be reached any more: deleted, and neither privilege nor a descriptor leads to it.
///
/// # Errors
/// If the file was found and cannot be read.
pub fn identify(pid: u32, entry: &MapsEntry) -> Result<Option<MappedFile>> {
    if entry.inode == 0 {
        return Ok(None);
    }
    let Some((handle, stat, way)) = reach(pid, entry) else {
        return Ok(None);
    };
    // Opening what O_PATH already holds opens that inode, whatever its path means by now.
    let flags = OFlags::RDONLY | OFlags::NONBLOCK | OFlags::NOCTTY | OFlags::CLOEXEC;
    let again = format!("/proc/self/fd/{}", handle.as_raw_fd());
    let target = || Target::Path(entry.name.escape_ascii().to_string());
    let file: File = rustix::fs::open(again, flags, Mode::empty())
        .map_err(|e| Error::syscall("open of a mapped file", target(), e))?
        .into();
    let (path, deleted) = match entry.without_deleted() {
        Some(path) if !names(&entry.name, entry) => (path, true),
        _ => (&entry.name[..], stat.st_nlink == 0),
    };
    // No file system has failed reads of the first pages of a file that is mapped, but if one does,
    // the file still has its other marks.
    let build_id = build_id(&file).unwrap_or(None);
    let identity = FileIdentity {
        path: path.to_vec(),
        device: entry.device,
        inode: entry.inode,
        size: u64::try_from(stat.st_size).unwrap_or(0),
        modified_ns: stat
            .st_mtime
            .saturating_mul(1_000_000_000)
            .saturating_add_unsigned(stat.st_mtime_nsec),
        build_id,
        object: None,
        deleted,
    };
    Ok(Some(MappedFile {
        file,
        identity,
        way,
    }))
}

/// Whether `path` names the mapped file, as we see it.
fn names(path: &[u8], entry: &MapsEntry) -> bool {
    candidate(Path::new(OsStr::from_bytes(path)), entry, true).is_some()
}

fn reach(pid: u32, entry: &MapsEntry) -> Option<(OwnedFd, Stat, Way)> {
    // Allowed only with CAP_CHECKPOINT_RESTORE or CAP_SYS_ADMIN. The link is the mapping's own
    // file, so device numbers need not be compared (btrfs shows others here than in maps).
    let link = format!("/proc/{pid}/map_files/{:x}-{:x}", entry.start, entry.end);
    if let Some((handle, stat)) = candidate(Path::new(&link), entry, false) {
        return Some((handle, stat, Way::MapFiles));
    }
    let full = &entry.name[..];
    for name in std::iter::once(full).chain(entry.without_deleted()) {
        if !name.starts_with(b"/") {
            continue;
        }
        let path = Path::new(OsStr::from_bytes(name));
        if let Some((handle, stat)) = candidate(path, entry, true) {
            return Some((handle, stat, Way::Path));
        }
        let mut inside = format!("/proc/{pid}/root").into_bytes();
        inside.extend_from_slice(name);
        let path = Path::new(OsStr::from_bytes(&inside));
        if let Some((handle, stat)) = candidate(path, entry, true) {
            return Some((handle, stat, Way::TargetRoot));
        }
    }
    let executable = format!("/proc/{pid}/exe");
    if let Some((handle, stat)) = candidate(Path::new(&executable), entry, true) {
        return Some((handle, stat, Way::Executable));
    }
    std::fs::read_dir(format!("/proc/{pid}/fd"))
        .ok()?
        .flatten()
        .find_map(|fd| {
            candidate(&fd.path(), entry, true).map(|(handle, stat)| (handle, stat, Way::Descriptor))
        })
}

/// Opens `path` without side effects if it is the regular file of the mapping.
fn candidate(path: &Path, entry: &MapsEntry, compare_device: bool) -> Option<(OwnedFd, Stat)> {
    let handle = rustix::fs::open(path, OFlags::PATH | OFlags::CLOEXEC, Mode::empty()).ok()?;
    let stat = rustix::fs::statat(&handle, "", AtFlags::EMPTY_PATH).ok()?;
    let device = (
        rustix::fs::major(stat.st_dev),
        rustix::fs::minor(stat.st_dev),
    );
    let same = FileType::from_raw_mode(stat.st_mode) == FileType::RegularFile
        && stat.st_ino == entry.inode
        && (!compare_device || device == entry.device);
    same.then_some((handle, stat))
}

/// Appends to `out` the parts of `range` (bytes of the file) that hold data; the rest are holes
/// that read as zeroes. For shared memory this tells which pages exist, without making them exist
/// by reading them. File systems that do not tell say that all is data.
///
/// # Errors
/// If seeking fails.
pub fn data_extents(file: &File, range: Range<u64>, out: &mut Vec<Range<u64>>) -> Result<()> {
    let failed = |e: Errno| Error::syscall("lseek", Target::Descriptor(file.as_raw_fd()), e);
    let mut at = range.start;
    while at < range.end {
        let start = match rustix::fs::seek(file, SeekFrom::Data(at)) {
            Ok(start) => start,
            // No data from here to the end.
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        if start >= range.end {
            return Ok(());
        }
        let end = match rustix::fs::seek(file, SeekFrom::Hole(start)) {
            Ok(end) => end,
            Err(Errno::NXIO) => return Ok(()),
            Err(e) => return Err(failed(e)),
        };
        if end <= start {
            // The file changes as we look; what follows is seen next time.
            return Ok(());
        }
        out.push(start.max(range.start)..end.min(range.end));
        at = end;
    }
    Ok(())
}

#[cfg(test)]
mod tests;
