//! Files that a debugger may open: those that the process had mapped, as they were, and a few of
//! its /proc files.
//!
//! Nothing else of this machine can be read through us, whoever connects. A mapped file comes from
//! the recording if that has a copy; else from this machine if it is still the same: by size and
//! time, or by build-id. Anything else is refused unless the user forces it, because symbols of
//! another build are wrong without looking wrong.

use super::libraries::{self, Loaded};
use super::scene::Scene;
use object::Object as _;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{self, Write as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::Path;
use stillframe_image::{FileIdentity, Mapping};
use stillframe_store::Object;
use stillframe_timeline::machine::unchanged;

/// Largest ELF file whose build-id is looked for on this machine, bytes.
const LARGEST: u64 = 4 << 30;

/// The content of an open file.
pub enum Content {
    /// A copy in the recording.
    Recorded(Box<Object>),
    /// A file of this machine that is what was mapped.
    Here(File, u64),
    /// Made up.
    Made(Vec<u8>),
}

/// Why a file is not opened.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Refused {
    /// The process had none of that name mapped.
    Unknown,
    /// It is not what was mapped, for the reason given.
    Other(String),
}

impl Content {
    /// Bytes.
    pub const fn len(&self) -> u64 {
        match self {
            Self::Recorded(object) => object.len(),
            Self::Here(_, length) => *length,
            Self::Made(bytes) => bytes.len() as u64,
        }
    }

    /// Reads from `offset` on; returns how many bytes were there.
    pub fn read(&self, offset: u64, out: &mut [u8]) -> Result<usize, String> {
        let mut done = 0;
        while done < out.len() {
            let at = offset.saturating_add(done as u64);
            let rest = &mut out[done..];
            let n = match self {
                Self::Recorded(object) => object.read_at(at, rest).map_err(|e| e.to_string())?,
                Self::Here(file, _) => file.read_at(rest, at).map_err(|e| e.to_string())?,
                Self::Made(bytes) => {
                    let from = usize::try_from(at).map_or(bytes.len(), |at| at.min(bytes.len()));
                    let n = rest.len().min(bytes.len() - from);
                    rest[..n].copy_from_slice(&bytes[from..from + n]);
                    n
                }
            };
            if n == 0 {
                break;
            }
            done += n;
        }
        Ok(done)
    }

    /// Writes all of it.
    pub fn copy_to(&self, out: &mut File) -> io::Result<()> {
        let mut buffer = vec![0; 1 << 20];
        let mut at = 0;
        loop {
            let n = self.read(at, &mut buffer).map_err(io::Error::other)?;
            if n == 0 {
                return Ok(());
            }
            out.write_all(&buffer[..n])?;
            at += n as u64;
        }
    }
}

/// Opens a file by the path that the program knew it by.
///
/// # Errors
/// If the process had none of that name, or what is left of it is another file.
pub fn open(scene: &Scene<'_>, path: &[u8], force: bool) -> Result<Content, Refused> {
    if let Some(made) = made(scene, path) {
        return Ok(Content::Made(made));
    }
    let file = find(scene, path).ok_or(Refused::Unknown)?;
    content(scene, file, force)
}

/// The mapped file of a name. The dynamic loader's names count too: /lib/libc.so.6 may be a link
/// to what was mapped.
pub fn find<'s>(scene: &'s Scene<'_>, path: &[u8]) -> Option<&'s FileIdentity> {
    let same = |name: &[u8]| name == path || name.strip_suffix(b" (deleted)") == Some(path);
    let by_path = scene.space().files.iter().find(|f| same(&f.path));
    by_path.or_else(|| {
        let all: Vec<Loaded> = libraries::loaded(scene);
        let object = all.iter().find(|o| o.asked == path)?;
        libraries::file_of(scene, object)
    })
}

/// The content of a mapped file.
///
/// # Errors
/// If it cannot be had, or is another by now.
pub fn content(scene: &Scene<'_>, file: &FileIdentity, force: bool) -> Result<Content, Refused> {
    let shown = String::from_utf8_lossy(&file.path).into_owned();
    let mut why = "the recording keeps no copy of it".to_owned();
    if let Some(hash) = &file.object {
        match scene.recording().object(hash) {
            Ok(object) => return Ok(Content::Recorded(Box::new(object))),
            Err(error) => why = error.to_string(),
        }
    }
    match here(file) {
        Ok((opened, length, Same::Yes)) => Ok(Content::Here(opened, length)),
        Ok((opened, length, Same::No(_))) if force => Ok(Content::Here(opened, length)),
        Ok((_, _, Same::No(difference))) => Err(Refused::Other(format!(
            "{shown} is not the file that was recorded ({difference}), and {why}; --force uses it \
             all the same"
        ))),
        Err(error) => Err(Refused::Other(format!("{shown}: {error}, and {why}"))),
    }
}

enum Same {
    Yes,
    No(String),
}

/// The file as it is on this machine, and whether it is what was mapped.
fn here(file: &FileIdentity) -> Result<(File, u64, Same), String> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
    let now = std::fs::metadata(path).map_err(|e| e.to_string())?;
    if !now.is_file() {
        return Err("it is no regular file".to_owned());
    }
    let opened = File::open(path).map_err(|e| e.to_string())?;
    let same = match &file.build_id {
        _ if unchanged(file).is_some() => Same::Yes,
        None => Same::No("size or time differ, and it has no build-id".to_owned()),
        Some(recorded) => match build_id(&opened, now.len()) {
            Some(found) if found == *recorded => Same::Yes,
            Some(found) => Same::No(format!(
                "build-id {} instead of {}",
                super::packet::hex(&found),
                super::packet::hex(recorded)
            )),
            None => Same::No("it has no build-id, the recorded one had".to_owned()),
        },
    };
    Ok((opened, now.len(), same))
}

/// Whether this machine still has a mapped file as it was, under its own name.
pub fn is_here(file: &FileIdentity) -> bool {
    matches!(here(file), Ok((_, _, Same::Yes)))
}

/// The build-id of an ELF file.
pub fn build_id(file: &File, length: u64) -> Option<Vec<u8>> {
    if length > LARGEST {
        return None;
    }
    let cache = object::read::ReadCache::new(file);
    let parsed = object::File::parse(&cache).ok()?;
    parsed.build_id().ok()?.map(<[u8]>::to_vec)
}

/// A file of /proc/PID, as far as a recording has what it shows.
fn made(scene: &Scene<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let process = &scene.image().process;
    match below_proc(scene, path)? {
        b"maps" | b"smaps" => Some(maps(scene)),
        b"cmdline" => Some(process.arguments.clone()),
        b"auxv" => Some(process.auxv.clone()),
        b"comm" => Some([&process.name[..], b"\n"].concat()),
        b"status" => Some(
            format!(
                "Name:\t{}\nPid:\t{}\nPPid:\t{}\nThreads:\t{}\n",
                String::from_utf8_lossy(&process.name).replace('\n', "?"),
                process.pid,
                process.parent,
                scene.image().threads.len()
            )
            .into_bytes(),
        ),
        _ => None,
    }
}

/// What follows /proc/PID/ in a path, `task/TID/` left out.
fn below_proc<'p>(scene: &Scene<'_>, path: &'p [u8]) -> Option<&'p [u8]> {
    let pid = scene.image().process.pid.to_string();
    let below = path.strip_prefix(b"/proc/")?;
    let below = below.strip_prefix(pid.as_bytes())?.strip_prefix(b"/")?;
    match below.strip_prefix(b"task/") {
        Some(rest) => rest.splitn(2, |b| *b == b'/').nth(1),
        None => Some(below),
    }
}

/// The target of a symbolic link that the debugger asks for.
pub fn link(scene: &Scene<'_>, path: &[u8]) -> Option<Vec<u8>> {
    let process = &scene.image().process;
    match below_proc(scene, path)? {
        b"exe" => Some(process.executable.clone()),
        b"cwd" => Some(process.cwd.clone()),
        b"root" => Some(process.root.clone()),
        _ => None,
    }
}

/// As /proc/PID/maps has it.
fn maps(scene: &Scene<'_>) -> Vec<u8> {
    let mut out = Vec::new();
    for m in &scene.space().mappings {
        let mut line = String::new();
        // Writing to a String cannot fail.
        let _ = write!(
            line,
            "{:x}-{:x} {} {:08x} {:02x}:{:02x} {} ",
            m.start,
            m.end,
            permissions(m),
            m.offset,
            m.device.0,
            m.device.1,
            m.inode
        );
        out.extend_from_slice(format!("{line:<73}").as_bytes());
        out.extend(m.name.iter().filter(|b| **b != b'\n'));
        out.push(b'\n');
    }
    out
}

fn permissions(m: &Mapping) -> String {
    [
        (m.read, 'r', '-'),
        (m.write, 'w', '-'),
        (m.execute, 'x', '-'),
        (m.shared, 's', 'p'),
    ]
    .map(|(set, yes, no)| if set { yes } else { no })
    .iter()
    .collect()
}
