//! A file that appears whole or not at all.

use crate::exit::{Code, fail};
use anyhow::Context as _;
use std::ffi::OsString;
use std::fs::{File, OpenOptions};
use std::io::ErrorKind;
use std::path::{Path, PathBuf};

/// Says no early, before hours of work.
///
/// # Errors
/// If the path exists, without `force`; or is a directory.
pub fn refuse_existing(path: &Path, force: bool) -> anyhow::Result<()> {
    match std::fs::symlink_metadata(path) {
        Err(_) => Ok(()),
        Ok(found) if found.is_dir() => Err(fail(
            Code::Exists,
            format!("{} is a directory; name a file", path.display()),
        )),
        Ok(_) if force => Ok(()),
        Ok(_) => Err(exists(path)),
    }
}

fn exists(path: &Path) -> anyhow::Error {
    fail(
        Code::Exists,
        format!(
            "{} exists; choose another name, or use --force to replace it",
            path.display()
        ),
    )
}

/// A file under a temporary name beside its final one. Removed unless published.
pub struct Partial {
    file: File,
    temporary: PathBuf,
    target: PathBuf,
}

impl Partial {
    /// Creates the temporary file.
    ///
    /// # Errors
    /// If the directory does not exist or cannot be written.
    pub fn create(target: &Path) -> anyhow::Result<Self> {
        let Some(name) = target.file_name() else {
            return Err(fail(
                Code::Usage,
                format!("{} names no file", target.display()),
            ));
        };
        let mut hidden = OsString::from(".");
        hidden.push(name);
        hidden.push(format!(".{}.partial", std::process::id()));
        let temporary = target.with_file_name(hidden);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .open(&temporary)
            .map_err(|e| {
                fail(
                    Code::Write,
                    format!("cannot create {}: {e}", target.display()),
                )
            })?;
        Ok(Self {
            file,
            temporary,
            target: target.to_owned(),
        })
    }

    /// The file.
    pub const fn file(&self) -> &File {
        &self.file
    }

    /// Gives the file its name.
    ///
    /// # Errors
    /// If something has that name by now, without `force`; or renaming fails.
    pub fn publish(self, force: bool) -> anyhow::Result<()> {
        if !force {
            // A link fails where something has the name; a rename would replace it.
            match std::fs::hard_link(&self.temporary, &self.target) {
                Ok(()) => return Ok(()),
                Err(e) if e.kind() == ErrorKind::AlreadyExists => return Err(exists(&self.target)),
                // A file system without links.
                Err(_) => refuse_existing(&self.target, false)?,
            }
        }
        std::fs::rename(&self.temporary, &self.target)
            .with_context(|| format!("cannot rename to {}", self.target.display()))
    }
}

impl Drop for Partial {
    fn drop(&mut self) {
        // After a rename there is nothing left to remove.
        let _ = std::fs::remove_file(&self.temporary);
    }
}
