//! The file system's side of putting files back, each step with its way back.

use super::content::{CHUNK, Content};
use super::name;
use crate::error::{Error, Result};
use std::ffi::OsStr;
use std::fs::{File, OpenOptions, Permissions};
use std::io;
use std::os::fd::AsFd as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::{FileExt as _, OpenOptionsExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use stillframe_image::{PAGE_SIZE, WrittenFile};
use stillframe_linux::files::written::{self, Facts};

/// A file whose content was changed, and what it was.
#[derive(Debug)]
pub(super) struct Changed {
    file: File,
    path: String,
    /// Bytes it had.
    size: u64,
    /// When it had been modified, ns since the epoch.
    modified_ns: i64,
    /// Without a name: what stood where something was written or cut off.
    before: Option<File>,
    /// Offset in the file, offset in `before`, bytes.
    pieces: Vec<(u64, u64, u64)>,
    end: u64,
}

/// A name that was given or taken away.
#[derive(Debug)]
pub(super) struct Made {
    /// Where it is.
    path: PathBuf,
    /// Where what stood there before is, until the end.
    aside: Option<PathBuf>,
    /// Whether there is something at `path` now.
    here: bool,
}

fn failed<E: Into<io::Error>>(what: &'static str, path: &Path) -> impl FnOnce(E) -> Error {
    let path = path.display().to_string();
    move |e| Error::io(what, path, e)
}

fn path_of(file: &WrittenFile) -> &Path {
    Path::new(OsStr::from_bytes(&file.path))
}

/// Writes the content over what the file is now, opened `at` another path than its own if that is
/// given. Only pages that differ are written.
pub(super) fn rewrite(
    wanted: &WrittenFile,
    at: Option<&Path>,
    content: &Content<'_>,
    changed: &mut Vec<Changed>,
) -> Result<()> {
    let path = path_of(wanted);
    let held = written::hold(at.unwrap_or(path))?;
    let facts = Facts::of(&held)?;
    if (facts.device, facts.inode) != (wanted.device, wanted.inode) {
        return Err(Error::unsupported(
            name(&wanted.path),
            "another file took its place just now; try again",
        ));
    }
    let file = written::open_held(&held, true)?;
    changed.push(Changed {
        file,
        path: path.display().to_string(),
        size: facts.size,
        modified_ns: facts.modified_ns,
        before: None,
        pieces: Vec::new(),
        end: 0,
    });
    let Some(entry) = changed.last_mut() else {
        return Ok(());
    };
    entry.overwrite(content, path)?;
    set_times(&entry.file, wanted.modified_ns, path)
}

impl Changed {
    fn overwrite(&mut self, content: &Content<'_>, path: &Path) -> Result<()> {
        let read = |e: io::Error| failed("read", path)(e);
        let write = |e: io::Error| failed("write", path)(e);
        let (mut now, mut then) = (vec![0; CHUNK], vec![0; CHUNK]);
        let size = content.len();
        let mut at = 0;
        while at < size {
            let length = content.read_at(at, &mut then)?;
            let had = fill(&self.file, at, &mut now[..length]).map_err(read)?;
            now[had..length].fill(0);
            for start in (0..length).step_by(PAGE_SIZE) {
                let end = (start + PAGE_SIZE).min(length);
                let (old, new) = (&now[start..end], &then[start..end]);
                if old == new {
                    continue;
                }
                let offset = at + start as u64;
                let old = &old[..old.len().min(had.saturating_sub(start))];
                self.save(offset, old, path)?;
                self.file.write_all_at(new, offset).map_err(write)?;
            }
            at += length as u64;
        }
        // What follows the end is cut off, and has to be kept until then.
        while at < self.size {
            let length = (self.size - at).min(CHUNK as u64) as usize;
            let had = fill(&self.file, at, &mut now[..length]).map_err(read)?;
            if had == 0 {
                break;
            }
            self.save(at, &now[..had], path)?;
            at += had as u64;
        }
        self.file.set_len(size).map_err(write)
    }

    /// Keeps bytes that are about to be lost.
    fn save(&mut self, offset: u64, bytes: &[u8], path: &Path) -> Result<()> {
        if bytes.is_empty() {
            return Ok(());
        }
        let before = match &self.before {
            Some(before) => before,
            None => self.before.insert(unnamed(path)?),
        };
        before
            .write_all_at(bytes, self.end)
            .map_err(failed("keep what was in", path))?;
        self.pieces.push((offset, self.end, bytes.len() as u64));
        self.end += bytes.len() as u64;
        Ok(())
    }

    /// Makes the file what it was.
    pub(super) fn undo(self) -> Result<()> {
        let path = Path::new(&self.path);
        let mut buffer = vec![0; CHUNK];
        for (offset, from, length) in &self.pieces {
            let bytes = &mut buffer[..*length as usize];
            if let Some(before) = &self.before {
                before
                    .read_exact_at(bytes, *from)
                    .map_err(failed("read what was in", path))?;
                self.file
                    .write_all_at(bytes, *offset)
                    .map_err(failed("write", path))?;
            }
        }
        self.file
            .set_len(self.size)
            .map_err(failed("write", path))?;
        set_times(&self.file, self.modified_ns, path)
    }
}

/// A file without a name, beside `path` if that is possible, so that it is on a disk that has as much
/// room as files there need.
fn unnamed(path: &Path) -> Result<File> {
    use rustix::fs::{Mode, OFlags};
    let flags = OFlags::TMPFILE | OFlags::RDWR | OFlags::CLOEXEC;
    let beside = path.parent().map(Path::to_path_buf);
    let other = std::env::temp_dir();
    let mut last = None;
    for directory in beside.into_iter().chain([other]) {
        match rustix::fs::open(&directory, flags, Mode::RUSR | Mode::WUSR) {
            Ok(file) => return Ok(file.into()),
            Err(e) => last = Some((directory, e)),
        }
    }
    let (directory, e) = last.unwrap_or_else(|| (std::env::temp_dir(), rustix::io::Errno::NOENT));
    Err(failed("make a file without a name in", &directory)(e))
}

/// Reads until the buffer is full or the file ends.
fn fill(file: &File, offset: u64, out: &mut [u8]) -> io::Result<usize> {
    let mut done = 0;
    while done < out.len() {
        match file.read_at(&mut out[done..], offset + done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(done)
}

/// Gives a file the modification time of then, as far as we may.
fn set_times(file: &File, modified_ns: i64, path: &Path) -> Result<()> {
    use rustix::fs::{Timespec, Timestamps, UTIME_OMIT};
    let modified = Timespec {
        tv_sec: modified_ns.div_euclid(1_000_000_000),
        tv_nsec: modified_ns.rem_euclid(1_000_000_000),
    };
    let times = Timestamps {
        last_access: Timespec {
            tv_sec: 0,
            tv_nsec: UTIME_OMIT,
        },
        last_modification: modified,
    };
    match rustix::fs::futimens(file.as_fd(), &times) {
        // Only the owner may; the content is what counts.
        Ok(()) | Err(rustix::io::Errno::PERM) => Ok(()),
        Err(e) => Err(failed("set the time of", path)(e)),
    }
}

/// A new file with the content, under a name that nothing has; its facts.
fn fresh(path: &Path, wanted: &WrittenFile, content: &Content<'_>) -> Result<Facts> {
    let file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(path)
        .map_err(failed("make", path))?;
    let write = |e: io::Error| failed("write", path)(e);
    let mut page = [0; PAGE_SIZE];
    for number in content.pages()? {
        let offset = number * PAGE_SIZE as u64;
        let length = content.read_at(offset, &mut page)?;
        file.write_all_at(&page[..length], offset).map_err(write)?;
    }
    file.set_len(content.len()).map_err(write)?;
    finish(&file, wanted, path)
}

/// Owner, permissions, time.
fn finish(file: &File, wanted: &WrittenFile, path: &Path) -> Result<Facts> {
    let us = Facts::of(file)?;
    if (us.uid, us.gid) != (wanted.uid, wanted.gid) {
        // Only root may give files away; for others it is theirs, and they may use it.
        let _ = std::os::unix::fs::fchown(file, Some(wanted.uid), Some(wanted.gid));
    }
    file.set_permissions(Permissions::from_mode(wanted.mode & 0o777))
        .map_err(failed("set permissions of", path))?;
    set_times(file, wanted.modified_ns, path)?;
    Ok(Facts::of(file)?)
}

/// Makes the file under its name; what it is then. What has that name is put aside, and goes when all
/// is done.
pub(super) fn make(wanted: &WrittenFile, content: &Content<'_>) -> Result<(Made, Facts)> {
    let path = path_of(wanted);
    let new = hidden(path, "new");
    let facts = match fresh(&new, wanted, content) {
        Ok(facts) => facts,
        Err(error) => {
            let _ = std::fs::remove_file(&new);
            return Err(error);
        }
    };
    let mut made = Made {
        path: path.into(),
        aside: None,
        here: false,
    };
    let placed = put_aside(path)
        .map(|aside| made.aside = aside)
        .and_then(|()| std::fs::hard_link(&new, path).map_err(failed("make", path)));
    let _ = std::fs::remove_file(&new);
    match placed {
        Ok(()) => {
            made.here = true;
            Ok((made, facts))
        }
        Err(error) => made.undo().and(Err(error)),
    }
}

/// Takes the name of a file away that was made since; `None` if it is not that file any more.
pub(super) fn remove(wanted: &WrittenFile) -> Result<Option<Made>> {
    let path = path_of(wanted);
    let there = Facts::named(path).is_ok_and(|f| {
        (f.device, f.inode, f.born_ns) == (wanted.device, wanted.inode, wanted.born_ns)
    });
    if !there {
        return Ok(None);
    }
    Ok(Some(Made {
        path: path.into(),
        aside: put_aside(path)?,
        here: false,
    }))
}

/// Gives what has a name another one beside it; `None` if nothing has it.
fn put_aside(path: &Path) -> Result<Option<PathBuf>> {
    let aside = hidden(path, "before");
    match std::fs::symlink_metadata(path) {
        Err(e) if e.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(e) => Err(failed("look at", path)(e)),
        Ok(found) if found.is_dir() => Err(Error::unsupported(
            path.display().to_string(),
            "a directory has its name now; take that away",
        )),
        Ok(_) => {
            std::fs::rename(path, &aside).map_err(failed("put aside", path))?;
            Ok(Some(aside))
        }
    }
}

/// A name beside a path that nothing has.
fn hidden(path: &Path, what: &str) -> PathBuf {
    let base = path.file_name().unwrap_or_default();
    for number in 0u32.. {
        let mut name = std::ffi::OsString::from(".");
        // A name may have 255 bytes.
        let bytes = base.as_bytes();
        name.push(OsStr::from_bytes(&bytes[..bytes.len().min(200)]));
        name.push(format!(".still-{what}-{}-{number}", std::process::id()));
        let candidate = path.with_file_name(name);
        if candidate.symlink_metadata().is_err() {
            return candidate;
        }
    }
    path.to_path_buf()
}

impl Made {
    /// A file that was made where nothing was.
    pub(super) const fn new(path: PathBuf) -> Self {
        Self {
            path,
            aside: None,
            here: true,
        }
    }

    /// Gives the name back to what had it.
    pub(super) fn undo(self) -> Result<()> {
        match &self.aside {
            Some(aside) => {
                std::fs::rename(aside, &self.path).map_err(failed("put back", &self.path))
            }
            None if self.here => {
                std::fs::remove_file(&self.path).map_err(failed("remove", &self.path))
            }
            None => Ok(()),
        }
    }

    /// What was put aside goes.
    pub(super) fn keep(self) {
        if let Some(aside) = &self.aside {
            let _ = std::fs::remove_file(aside);
        }
    }
}

/// Makes the directories that a path needs; those made are added to `made`.
pub(super) fn directories(path: &Path, made: &mut Vec<PathBuf>) -> Result<()> {
    let Some(parent) = path.parent() else {
        return Ok(());
    };
    let missing: Vec<&Path> = parent
        .ancestors()
        .take_while(|p| !p.as_os_str().is_empty() && !p.exists())
        .collect();
    for directory in missing.into_iter().rev() {
        std::fs::create_dir(directory).map_err(failed("make", directory))?;
        made.push(directory.into());
    }
    Ok(())
}

/// A copy of a file: of the content kept, else of what it is now; its facts.
pub(super) fn copy(
    wanted: &WrittenFile,
    content: Option<&Content<'_>>,
    to: &Path,
) -> Result<Facts> {
    let result = match content {
        Some(content) => fresh(to, wanted, content),
        None => present(wanted, to),
    };
    if result.is_err() && !matches!(&result, Err(Error::Io { what: "make", .. })) {
        let _ = std::fs::remove_file(to);
    }
    result
}

/// A copy of the file as it is now, blocks shared where the file system can.
fn present(wanted: &WrittenFile, to: &Path) -> Result<Facts> {
    let from = path_of(wanted);
    let source = written::open_held(&written::hold(from)?, false)?;
    let mut file = OpenOptions::new()
        .read(true)
        .write(true)
        .create_new(true)
        .mode(0o600)
        .open(to)
        .map_err(failed("make", to))?;
    let mut source = &source;
    io::copy(&mut source, &mut file).map_err(failed("copy to", to))?;
    finish(&file, wanted, to)
}
