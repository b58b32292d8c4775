//! Where the bytes of object files come from.
//!
//! A module's own file may lie in a recording, on this machine, or in memory; its debug information
//! often lies in another file, found by build-id or by name. What is looked for, and how a file
//! found is checked, is decided in [`crate::module`]; here is only how bytes are reached, so that
//! tests need no files and recordings no copies.

use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;

/// Bytes that can be read at any offset.
pub trait Source: Send + Sync + std::fmt::Debug {
    /// How many there are.
    fn len(&self) -> u64;

    /// Whether there are none.
    fn is_empty(&self) -> bool {
        self.len() == 0
    }

    /// Fills `out` with the bytes from `offset` on.
    ///
    /// # Errors
    /// If they cannot all be read.
    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()>;
}

impl Source for Vec<u8> {
    fn len(&self) -> u64 {
        Self::len(self) as u64
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        let from = usize::try_from(offset).ok();
        let part = from.and_then(|from| self.get(from..from.checked_add(out.len())?));
        match part {
            Some(part) => {
                out.copy_from_slice(part);
                Ok(())
            }
            None => Err(io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// A file that is open.
#[derive(Debug)]
pub struct OpenFile {
    file: File,
    length: u64,
}

impl OpenFile {
    /// Opens a regular file.
    ///
    /// # Errors
    /// If it is not there, not a regular file, or may not be read.
    pub fn open(path: &Path) -> io::Result<Self> {
        // Looked at before it is opened, so that a fifo in its place cannot hold us up.
        if !std::fs::metadata(path)?.is_file() {
            return Err(io::Error::new(
                io::ErrorKind::InvalidInput,
                "it is not a regular file",
            ));
        }
        let file = File::open(path)?;
        let length = file.metadata()?.len();
        Ok(Self { file, length })
    }
}

impl Source for OpenFile {
    fn len(&self) -> u64 {
        self.length
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        self.file.read_exact_at(out, offset)
    }
}

/// A place in which separate debug files are looked for.
pub trait Files: Send + Sync + std::fmt::Debug {
    /// Directories laid out as /usr/lib/debug is: `.build-id/ab/cdef.debug`, and the paths of
    /// modules under it.
    fn directories(&self) -> &[PathBuf];

    /// Opens the file at a path.
    ///
    /// # Errors
    /// If it cannot be read.
    fn open(&self, path: &Path) -> io::Result<Arc<dyn Source>>;
}

/// The files of this machine.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct SystemFiles {
    directories: Vec<PathBuf>,
}

impl SystemFiles {
    /// With these directories in front of /usr/lib/debug.
    pub fn new(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        let mut directories: Vec<PathBuf> = directories.into_iter().collect();
        directories.push("/usr/lib/debug".into());
        Self { directories }
    }
}

impl Default for SystemFiles {
    fn default() -> Self {
        Self::new([])
    }
}

impl Files for SystemFiles {
    fn directories(&self) -> &[PathBuf] {
        &self.directories
    }

    fn open(&self, path: &Path) -> io::Result<Arc<dyn Source>> {
        Ok(Arc::new(OpenFile::open(path)?))
    }
}

/// No files at all: modules have what they carry themselves.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct NoFiles;

impl Files for NoFiles {
    fn directories(&self) -> &[PathBuf] {
        &[]
    }

    fn open(&self, _: &Path) -> io::Result<Arc<dyn Source>> {
        Err(io::ErrorKind::NotFound.into())
    }
}
