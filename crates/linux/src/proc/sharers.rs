//! Who else can write memory or a file that the target shares.
//!
//! A tracker sees only the writes of the process it was set up in. A shared mapping can therefore
//! only be tracked while nobody else maps it or has it open for writing; else it is copied whole
//! at every boundary. This looks through every process visible to us, which takes milliseconds:
//! it is for when the layout changed, not for every tick.

use super::fds::Info;
use super::maps::parse_line;
use super::text::{self, decimal};
use crate::error::{Error, Result, Target};
use std::fs::File;
use std::os::unix::fs::MetadataExt;

/// A process that shares a file or memory.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sharer {
    /// Process id.
    pub pid: u32,
    /// It maps it shared.
    pub maps: bool,
    /// It has it open for writing.
    pub writes: bool,
}

/// What [`sharers`] found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Sharers {
    /// In ascending order of process id.
    pub found: Vec<Sharer>,
    /// Processes that exist and could not be looked into; they may share it too.
    pub hidden: u32,
}

impl Sharers {
    /// Whether, as far as can be seen, nobody shares it.
    pub fn nobody(&self) -> bool {
        self.found.is_empty()
    }
}

/// Processes other than `except` that map the file (`device`, `inode`) shared or have it open for
/// writing. Numbers as /proc/PID/maps has them.
///
/// # Errors
/// If /proc cannot be listed.
pub fn sharers(device: (u32, u32), inode: u64, except: u32) -> Result<Sharers> {
    let listing = std::fs::read_dir("/proc")
        .map_err(|e| Error::syscall("listing", Target::Path("/proc".to_owned()), e))?;
    let mut result = Sharers::default();
    let mut buffer = Vec::new();
    for entry in listing.flatten() {
        let name = entry.file_name();
        let pid = decimal(name.as_encoded_bytes()).and_then(|n| u32::try_from(n).ok());
        let Some(pid) = pid.filter(|pid| *pid != except) else {
            continue;
        };
        let maps = maps_it(pid, device, inode, &mut buffer);
        let writes = writes_it(pid, device, inode, &mut buffer);
        let found = |answer: &std::io::Result<bool>| matches!(answer, Ok(true));
        if found(&maps) || found(&writes) {
            result.found.push(Sharer {
                pid,
                maps: found(&maps),
                writes: found(&writes),
            });
            continue;
        }
        // One that ended meanwhile shares nothing; any other failure hides it from us.
        let hidden = |answer: &std::io::Result<bool>| {
            let e = answer.as_ref().err().and_then(std::io::Error::raw_os_error);
            answer.is_err() && !matches!(e, Some(libc::ENOENT | libc::ESRCH))
        };
        if hidden(&maps) || hidden(&writes) {
            result.hidden += 1;
        }
    }
    result.found.sort_unstable_by_key(|s| s.pid);
    Ok(result)
}

/// Whether process `pid` has the file (`device`, `inode`) open for writing. Asked about the target
/// itself: what it writes so is not seen through its shared mappings.
///
/// # Errors
/// If it is gone or not ours to look at.
pub fn open_for_writing(pid: u32, device: (u32, u32), inode: u64) -> Result<bool> {
    writes_it(pid, device, inode, &mut Vec::new()).map_err(|e| text::error(pid, "fd", e))
}

fn maps_it(
    pid: u32,
    device: (u32, u32),
    inode: u64,
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    let file = File::open(format!("/proc/{pid}/maps"))?;
    text::read_into(&file, buffer)?;
    Ok(buffer
        .split(|b| *b == b'\n')
        .filter_map(parse_line)
        .any(|entry| {
            // One that is only readable now may be made writable at any time.
            entry.shared && entry.inode == inode && entry.device == device
        }))
}

fn writes_it(
    pid: u32,
    device: (u32, u32),
    inode: u64,
    buffer: &mut Vec<u8>,
) -> std::io::Result<bool> {
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let Ok(entry) = entry else { continue };
        let Ok(metadata) = std::fs::metadata(entry.path()) else {
            continue;
        };
        if !metadata.is_file() || metadata.ino() != inode || !same_device(metadata.dev(), device) {
            continue;
        }
        let name = entry.file_name();
        let Some(number) = decimal(name.as_encoded_bytes()) else {
            continue;
        };
        let Ok(info) = File::open(format!("/proc/{pid}/fdinfo/{number}")) else {
            continue;
        };
        text::read_into(&info, buffer)?;
        let access = Info::parse(buffer).flags & libc::O_ACCMODE.cast_unsigned();
        if access != libc::O_RDONLY.cast_unsigned() {
            return Ok(true);
        }
    }
    Ok(false)
}

/// Whether a device number from `stat` may be the one that maps shows. File systems without a block
/// device (btrfs, overlayfs) may give different ones in the two places, so among those (major 0)
/// any two are taken as equal: one sharer too many costs copies, one too few costs correctness.
fn same_device(stat: u64, maps: (u32, u32)) -> bool {
    let stat = (rustix::fs::major(stat), rustix::fs::minor(stat));
    stat == maps || (stat.0 == 0 && maps.0 == 0)
}
