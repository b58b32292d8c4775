//! What lies behind mappings: files, and memory that is shared.
//!
//! A path is only a hint: the file may have been replaced by another build since, and a process that
//! continues with other code crashes in the strangest ways. So a file is taken only if size and
//! modification time, or the build-id, are those recorded. Otherwise the recording's own copy is
//! used, as a memfd.

use super::Step;
use crate::error::{Error, Result};
use crate::source::Source;
use rustix::fs::{MemfdFlags, Mode, OFlags};
use std::collections::HashMap;
use std::ffi::OsStr;
use std::fs::File;
use std::io::Read as _;
use std::ops::Range;
use std::os::fd::AsFd;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{FileExt, MetadataExt};
use std::path::Path;
use stillframe_image::{FileIdentity, Gap, Mapping, MappingKind};
use stillframe_linux::files::build_id;

/// Device and inode, as recorded.
pub type Key = ((u32, u32), u64);

/// Open files behind the mappings of one or several processes: what two of them shared, they share
/// again.
#[derive(Debug, Default)]
pub struct Backing {
    open: HashMap<Key, Opened>,
}

/// One of them.
#[derive(Debug)]
pub struct Opened {
    /// The file.
    pub file: File,
    /// Made by us for memory that was shared and has no file, its content yet to be written.
    pub fresh: bool,
    /// Which bytes of it have been written.
    pub filled: Vec<Range<u64>>,
}

impl Opened {
    /// Whether all of a stretch has been written, by one process that maps it.
    pub(super) fn is_filled(&self, part: &Range<u64>) -> bool {
        let covers = |r: &Range<u64>| r.start <= part.start && part.end <= r.end;
        self.filled.iter().any(covers)
    }
}

impl Backing {
    /// The file of a mapping, if it has one.
    pub fn get(&self, mapping: &Mapping) -> Option<&Opened> {
        self.open.get(&key(mapping))
    }

    /// The file that stands for what was recorded under this device and inode (a memfd, SysV
    /// memory), once a process that maps it has been conformed.
    pub fn by_inode(&self, device: (u32, u32), inode: u64) -> Option<&File> {
        self.open.get(&(device, inode)).map(|o| &o.file)
    }

    /// Offers a file to be mapped where this device and inode were, e.g. a memfd that was made for
    /// a descriptor. `fresh`: its content is still to be written.
    pub fn offer(&mut self, device: (u32, u32), inode: u64, file: File, fresh: bool) {
        self.open.entry((device, inode)).or_insert(Opened {
            file,
            fresh,
            filled: Vec::new(),
        });
    }

    pub(super) fn mark_filled(&mut self, mapping: &Mapping, part: Range<u64>) {
        if let Some(opened) = self.open.get_mut(&key(mapping))
            && !opened.is_filled(&part)
        {
            opened.filled.push(part);
        }
    }

    /// Opens what the steps map.
    pub(super) fn open_all(
        &mut self,
        source: &Source<'_>,
        steps: &[Step],
        gaps: &mut Vec<Gap>,
    ) -> Result<()> {
        let space = &source.image().space;
        for step in steps {
            let Step::Map { mapping, .. } = step else {
                continue;
            };
            let Some(mapping) = space.mappings.get(*mapping) else {
                continue;
            };
            if !has_backing(mapping) || self.open.contains_key(&key(mapping)) {
                continue;
            }
            let opened = match mapping.kind {
                MappingKind::SharedMemory => shared(source, mapping)?,
                _ => Opened {
                    file: open(source, mapping, space.file_of(mapping), gaps)?,
                    fresh: false,
                    filled: Vec::new(),
                },
            };
            self.open.insert(key(mapping), opened);
        }
        Ok(())
    }
}

const fn key(mapping: &Mapping) -> Key {
    (mapping.device, mapping.inode)
}

/// Whether a mapping is of something with an inode: a file, or shared memory. (Private huge pages
/// come back as ordinary memory.)
pub(super) fn has_backing(mapping: &Mapping) -> bool {
    mapping.inode != 0 && (mapping.shared || mapping.kind != MappingKind::Huge)
}

/// New memory to be shared, large enough for every mapping of it.
fn shared(source: &Source<'_>, mapping: &Mapping) -> Result<Opened> {
    let all = source.image().space.mappings.iter();
    let length = all
        .filter(|m| key(m) == key(mapping))
        .map(|m| m.offset.saturating_add(m.len()))
        .max()
        .unwrap_or(0);
    let name = mapping
        .name
        .strip_prefix(b"/memfd:")
        .unwrap_or(&mapping.name);
    let name = name.strip_suffix(b" (deleted)").unwrap_or(name);
    let file = memfd(name)?;
    file.set_len(length)
        .map_err(|e| Error::io("making", super::describe(mapping), e))?;
    Ok(Opened {
        file,
        fresh: true,
        filled: Vec::new(),
    })
}

fn memfd(name: &[u8]) -> Result<File> {
    // A memfd's name has at most 249 bytes.
    let name = name.get(..name.len().min(200)).unwrap_or_default();
    let name: Vec<u8> = name.iter().copied().filter(|b| *b != 0).collect();
    let flags = MemfdFlags::CLOEXEC | MemfdFlags::ALLOW_SEALING;
    rustix::fs::memfd_create(OsStr::from_bytes(&name), flags)
        .map(File::from)
        .map_err(|e| Error::io("making", "memory for a mapping", e))
}

fn open(
    source: &Source<'_>,
    mapping: &Mapping,
    identity: Option<&FileIdentity>,
    gaps: &mut Vec<Gap>,
) -> Result<File> {
    let deleted = || mapping.name.strip_suffix(b" (deleted)");
    let path = match identity {
        Some(identity) => &identity.path[..],
        None => deleted().unwrap_or(&mapping.name),
    };
    let shown = String::from_utf8_lossy(path).escape_debug().to_string();
    let why = match regular(Path::new(OsStr::from_bytes(path)), mapping.shared) {
        Ok(file) => match identity.map_or(Ok(()), |identity| is_that(&file, identity)) {
            Ok(()) => return Ok(file),
            Err(why) => why,
        },
        Err(e) => format!("cannot be opened ({e})"),
    };
    let Some(object) = identity.and_then(|i| i.object) else {
        return Err(Error::File { path: shown, why });
    };
    gaps.push(Gap {
        subject: shown,
        reason: format!("it {why}; the recording's copy is mapped instead, as a memfd"),
    });
    let file = memfd(path.rsplit(|b| *b == b'/').next().unwrap_or(path))?;
    let object = source.object(&object)?;
    let mut buffer = vec![0u8; 128 << 10];
    let mut at = 0;
    while at < object.len() {
        let n = object.read_at(at, &mut buffer)?;
        if n == 0 {
            break;
        }
        let part = buffer.get(..n).unwrap_or_default();
        file.write_all_at(part, at)
            .map_err(|e| Error::io("writing a copy of", shown_again(path), e))?;
        at += n as u64;
    }
    Ok(file)
}

fn shown_again(path: &[u8]) -> String {
    String::from_utf8_lossy(path).escape_debug().to_string()
}

/// Opens without waiting, should the path now name a pipe or a device.
fn regular(path: &Path, shared: bool) -> std::io::Result<File> {
    let flags = OFlags::CLOEXEC | OFlags::NONBLOCK | OFlags::NOCTTY;
    let wanted = if shared { OFlags::RDWR } else { OFlags::RDONLY };
    let open = |access| rustix::fs::open(path, flags | access, Mode::empty());
    let file = match open(wanted) {
        // Shared and read-only: the mapping may be, too.
        Err(_) if shared => open(OFlags::RDONLY)?,
        other => other?,
    };
    let file = File::from(file);
    if file.metadata()?.is_file() {
        Ok(file)
    } else {
        Err(std::io::Error::other("it is not a regular file now"))
    }
}

/// Whether it is the file that was recorded; if not, what is wrong.
fn is_that(file: &File, identity: &FileIdentity) -> Result<(), String> {
    let now = file
        .metadata()
        .map_err(|e| format!("cannot be looked at ({e})"))?;
    let modified = now
        .mtime()
        .saturating_mul(1_000_000_000)
        .saturating_add(now.mtime_nsec());
    if now.len() != identity.size {
        return Err(format!(
            "has {} bytes, and had {}",
            now.len(),
            identity.size
        ));
    }
    if modified == identity.modified_ns {
        return Ok(());
    }
    // Another copy of the same build, e.g. on another machine.
    if let Some(wanted) = &identity.build_id
        && build_id(file).ok().flatten().as_ref() == Some(wanted)
    {
        return Ok(());
    }
    if let Some(object) = &identity.object
        && is_object(file, object)
    {
        return Ok(());
    }
    Err("has been changed since".into())
}

/// Whether a file's bytes are those of a copy.
fn is_object(file: &File, object: &[u8; 32]) -> bool {
    // The same hash as the store's; reading the whole file is worth it only for what was touched.
    let mut hasher = blake3::Hasher::new();
    let mut reader = file.as_fd().try_clone_to_owned().map(File::from);
    let Ok(reader) = &mut reader else {
        return false;
    };
    let mut buffer = vec![0u8; 128 << 10];
    loop {
        match reader.read(&mut buffer) {
            Ok(0) => return hasher.finalize().as_bytes() == object,
            Ok(n) => {
                hasher.update(buffer.get(..n).unwrap_or_default());
            }
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(_) => return false,
        }
    }
}
