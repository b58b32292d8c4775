//! Making the directory: what may be replaced, what never is, and the lock.

use crate::log::parts;
use crate::retention::{control, ledger};
use crate::{Error, header, index, objects, rows};
use rustix::fs::{FlockOperation, flock};
use std::fs::{File, OpenOptions};
use std::io::{self, Read};
use std::path::{Path, PathBuf};

/// Name of the lock file.
pub const LOCK: &str = "lock";

/// Creates the directory, or empties the recording in it if `force`, and takes the lock.
pub fn prepare(dir: &Path, force: bool) -> Result<File, Error> {
    match std::fs::create_dir(dir) {
        Ok(()) => take_lock(dir),
        Err(e) if e.kind() == io::ErrorKind::AlreadyExists => {
            if !force {
                return Err(Error::Exists(dir.into()));
            }
            check_replaceable(dir)?;
            let lock = take_lock(dir)?;
            remove_recording(dir)?;
            Ok(lock)
        }
        Err(e) => Err(Error::io("create", dir)(e)),
    }
}

/// Creates the directories inside.
pub fn directories(dir: &Path) -> Result<(), Error> {
    for name in ["log", "index", "objects"] {
        let path = dir.join(name);
        match std::fs::create_dir(&path) {
            Err(e) if e.kind() != io::ErrorKind::AlreadyExists => {
                return Err(Error::io("create", &path)(e));
            }
            _ => {}
        }
    }
    Ok(())
}

/// Takes the writer's lock.
///
/// # Errors
/// [`Error::Busy`] if another process has it.
pub fn take_lock(dir: &Path) -> Result<File, Error> {
    let path = dir.join(LOCK);
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create(true)
        .truncate(false)
        .open(&path)
        .map_err(Error::io("create", &path))?;
    match flock(&file, FlockOperation::NonBlockingLockExclusive) {
        Ok(()) => Ok(file),
        Err(rustix::io::Errno::WOULDBLOCK) => Err(Error::Busy(dir.into())),
        Err(e) => Err(Error::io("lock", &path)(e.into())),
    }
}

/// Whether a live process holds the writer's lock.
pub fn is_live(dir: &Path) -> bool {
    File::open(dir.join(LOCK)).is_ok_and(|file| {
        matches!(
            flock(&file, FlockOperation::NonBlockingLockShared),
            Err(rustix::io::Errno::WOULDBLOCK)
        )
    })
}

/// Only a recording may be replaced, or a directory in which none was begun.
fn check_replaceable(dir: &Path) -> Result<(), Error> {
    let not = |why: &str| Error::NotRecording {
        path: dir.into(),
        why: format!("{why}, so --force does not replace it"),
    };
    if !dir.is_dir() {
        return Err(not("it is no directory"));
    }
    let mut magic = [0u8; 8];
    let path = dir.join(header::NAME);
    match File::open(&path).and_then(|mut f| f.read_exact(&mut magic)) {
        Ok(()) if magic == header::MAGIC => Ok(()),
        Err(e) if e.kind() == io::ErrorKind::NotFound => {
            let entries = std::fs::read_dir(dir).map_err(Error::io("read", dir))?;
            for entry in entries {
                let name = entry.map_err(Error::io("read", dir))?.file_name();
                if name != LOCK && name != "recording.tmp" {
                    return Err(not("it holds other files"));
                }
            }
            Ok(())
        }
        _ => Err(not("its file `recording` is something else")),
    }
}

/// Removes what a recording consists of, by name, and nothing else; the file that makes it one
/// goes last.
fn remove_recording(dir: &Path) -> Result<(), Error> {
    let ours = |folder: &str, name: &str| match folder {
        "log" => name == "new.tmp" || parts::parse_name(name).is_some(),
        "index" => name == "new.tmp" || index::run::parse_name(name).is_some(),
        _ => name == "new.tmp" || (name.len() == 64 && name.bytes().all(|b| b.is_ascii_hexdigit())),
    };
    for folder in ["log", "index", "objects"] {
        let path = dir.join(folder);
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == io::ErrorKind::NotFound => continue,
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        for entry in entries {
            let name = entry.map_err(Error::io("read", &path))?.file_name();
            if name.to_str().is_some_and(|n| ours(folder, n)) {
                remove(path.join(name))?;
            }
        }
    }
    for name in [
        rows::NAME,
        rows::TEMPORARY,
        ledger::NAME,
        ledger::TEMPORARY,
        "recording.tmp",
        header::NAME,
    ] {
        remove(dir.join(name))?;
    }
    Ok(())
}

fn remove(path: PathBuf) -> Result<(), Error> {
    match std::fs::remove_file(&path) {
        Err(e) if e.kind() != io::ErrorKind::NotFound => Err(Error::io("remove", path)(e)),
        _ => Ok(()),
    }
}

/// Bytes nobody can guess.
pub fn random<const N: usize>() -> Result<[u8; N], Error> {
    let mut out = [0u8; N];
    let path = "/dev/urandom";
    File::open(path)
        .and_then(|mut f| f.read_exact(&mut out))
        .map_err(Error::io("read", path))?;
    Ok(out)
}

/// Names that a recording may have at its top.
pub const NAMES: [&str; 9] = [
    header::NAME,
    LOCK,
    "log",
    rows::NAME,
    "index",
    "objects",
    ledger::NAME,
    control::NAME,
    // Where the recorder is asked for a rollback.
    "rollback",
];

/// The names in the objects folder that are objects.
pub fn object_names(dir: &Path) -> Result<Vec<[u8; 32]>, Error> {
    let path = dir.join("objects");
    let entries = match std::fs::read_dir(&path) {
        Ok(entries) => entries,
        Err(e) if e.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(e) => return Err(Error::io("read", &path)(e)),
    };
    let mut out = Vec::new();
    for entry in entries {
        let name = entry.map_err(Error::io("read", &path))?.file_name();
        let Some(name) = name.to_str().filter(|n| n.len() == 64) else {
            continue;
        };
        let mut id = [0u8; 32];
        let parsed = id.iter_mut().enumerate().all(|(i, byte)| {
            name.get(2 * i..2 * i + 2)
                .and_then(|h| u8::from_str_radix(h, 16).ok())
                .map(|b| *byte = b)
                .is_some()
        });
        if parsed && objects::hex(&id) == name {
            out.push(id);
        }
    }
    out.sort_unstable();
    Ok(out)
}
