//! inotify.

use super::calls;
use crate::error::{Error, Result, Target};
use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use std::fs::File;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use stillframe_image::objects::Watch;
use stillframe_image::objects::detail::Watched;

/// Watch descriptors that are tried to get the one wanted.
const TRIES: i32 = 65_536;

/// Finds the path of what is watched: through its file handle where that is allowed, which takes
/// CAP_DAC_READ_SEARCH; else among `guesses`.
pub fn path_of(watched: &Watched, guesses: &[&Path]) -> Option<Vec<u8>> {
    by_handle(watched).or_else(|| {
        let same = |path: &&&Path| {
            let found = std::fs::metadata(path).ok();
            found.is_some_and(|m| {
                m.ino() == watched.inode && kernel_device(m.dev()) == watched.device
            })
        };
        guesses
            .iter()
            .find(same)
            .map(|p| p.as_os_str().as_bytes().to_vec())
    })
}

/// A device as the kernel numbers it inside, major << 20 | minor.
fn kernel_device(device: u64) -> u64 {
    u64::from(rustix::fs::major(device)) << 20 | u64::from(rustix::fs::minor(device))
}

fn by_handle(watched: &Watched) -> Option<Vec<u8>> {
    if watched.handle.is_empty() {
        return None;
    }
    // Any directory on the right file system does. Few are mounted, so all are tried.
    let mounts = std::fs::read_to_string("/proc/self/mountinfo").ok()?;
    for line in mounts.lines() {
        let mut words = line.split(' ');
        let device = words.nth(2)?;
        let (major, minor) = device.split_once(':')?;
        let device = major.parse::<u64>().ok()? << 20 | minor.parse::<u64>().ok()?;
        let at = words.nth(1)?;
        if device != watched.device {
            continue;
        }
        let Ok(mount) = File::open(at) else { continue };
        let found = calls::open_handle(mount.as_fd(), watched.handle_type, &watched.handle);
        let Ok(found) = found else { continue };
        let link = format!("/proc/self/fd/{}", found.as_raw_fd());
        let path = std::fs::read_link(link).ok()?;
        let bytes = path.as_os_str().as_bytes();
        let whole = bytes.starts_with(b"/")
            && std::fs::metadata(&path).is_ok_and(|m| m.ino() == watched.inode);
        if whole {
            return Some(bytes.to_vec());
        }
    }
    None
}

/// A new instance with these watches, each under its number.
///
/// # Errors
/// If a path cannot be watched, or a number not be had.
pub fn make(watches: &[Watch]) -> Result<OwnedFd> {
    let fail = |what, path: &[u8]| {
        let target = Target::Path(String::from_utf8_lossy(path).into_owned());
        move |e| Error::syscall(what, target, e)
    };
    let fd = inotify::init(CreateFlags::CLOEXEC).map_err(fail("inotify_init1", b""))?;
    // Numbers count up.
    let mut sorted: Vec<&Watch> = watches.iter().collect();
    sorted.sort_by_key(|w| w.wd);
    for watch in sorted {
        let Some(path) = &watch.path else { continue };
        let flags = WatchFlags::from_bits_retain(watch.mask & 0x0fff);
        let name = Path::new(std::ffi::OsStr::from_bytes(path));
        let mut tries = 0;
        loop {
            let wd =
                inotify::add_watch(&fd, name, flags).map_err(fail("inotify_add_watch", path))?;
            if wd == watch.wd {
                break;
            }
            inotify::remove_watch(&fd, wd).map_err(fail("inotify_rm_watch", path))?;
            tries += 1;
            if wd > watch.wd || tries > TRIES {
                return Err(fail("inotify_add_watch: the watch's number", path)(
                    rustix::io::Errno::BUSY,
                ));
            }
        }
    }
    // Removing a watch leaves an event.
    let mut buffer = [0; 4096];
    while super::waiting(&fd)? > 0 {
        if rustix::io::read(&fd, &mut buffer[..]).is_err() {
            break;
        }
    }
    Ok(fd)
}
