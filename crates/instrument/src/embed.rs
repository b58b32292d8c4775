//! The files that `still cc` hands to compilers: the runtime's objects, the header, the pass's
//! source. They are part of the command and are written into the user's cache when first needed, in
//! a directory named by their content, so that two versions of the command never share one.

use crate::Error;
use crate::compiler::Granule;
use std::path::{Path, PathBuf};

const LINE: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/line.o"));
const WORD: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/word.o"));
const LOG: &[u8] = include_bytes!(concat!(env!("OUT_DIR"), "/log.o"));
const HEADER: &[u8] = include_bytes!("../../../include/stillframe/inproc.h");
const POINTS: &[u8] = include_bytes!("../../../include/stillframe/points.h");
const FIRST: &[u8] = include_bytes!("../../../include/stillframe/instrumented.h");
const PASS: &[u8] = include_bytes!("../pass/still_pass.cpp");

/// The cache of this version.
#[derive(Clone, Debug)]
pub struct Files {
    root: PathBuf,
}

impl Files {
    /// Finds or makes the cache.
    ///
    /// # Errors
    /// If no file can be written there.
    pub fn open() -> Result<Self, Error> {
        let mut hash = xxhash_rust::xxh3::Xxh3::new();
        for part in [LINE, WORD, LOG, HEADER, POINTS, FIRST, PASS] {
            hash.update(part);
        }
        let root = base().join(format!("inproc-{:016x}", hash.digest()));
        let files = Self { root };
        for (name, content) in [
            ("line.o", LINE),
            ("word.o", WORD),
            ("log.o", LOG),
            ("include/stillframe/inproc.h", HEADER),
            ("include/stillframe/points.h", POINTS),
            ("include/stillframe/instrumented.h", FIRST),
            ("still_pass.cpp", PASS),
        ] {
            write(&files.root.join(name), content)?;
        }
        Ok(files)
    }

    /// The directory.
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// The runtime's object.
    pub fn runtime(&self, granule: Granule) -> PathBuf {
        self.root.join(format!("{}.o", granule.name()))
    }

    /// What to name with `-isystem`.
    pub fn include(&self) -> PathBuf {
        self.root.join("include")
    }

    /// The pass's source.
    pub fn pass_source(&self) -> PathBuf {
        self.root.join("still_pass.cpp")
    }
}

/// `$XDG_CACHE_HOME/stillframe`, `~/.cache/stillframe`, or beside temporary files.
fn base() -> PathBuf {
    let set = |name: &str| {
        std::env::var_os(name)
            .filter(|v| !v.is_empty())
            .map(PathBuf::from)
    };
    set("XDG_CACHE_HOME")
        .or_else(|| set("HOME").map(|home| home.join(".cache")))
        .unwrap_or_else(std::env::temp_dir)
        .join("stillframe")
}

/// Writes a file unless it is there; whole or not at all, also if two write at once.
fn write(path: &Path, content: &[u8]) -> Result<(), Error> {
    if std::fs::metadata(path).is_ok_and(|m| m.len() == content.len() as u64) {
        return Ok(());
    }
    let directory = path.parent().unwrap_or(Path::new("."));
    std::fs::create_dir_all(directory).map_err(Error::io("making", directory))?;
    let mut file =
        tempfile::NamedTempFile::new_in(directory).map_err(Error::io("writing in", directory))?;
    std::io::Write::write_all(&mut file, content).map_err(Error::io("writing", path))?;
    file.persist(path).map_err(|e| Error::Io {
        what: "writing",
        path: path.into(),
        error: e.error,
    })?;
    Ok(())
}
