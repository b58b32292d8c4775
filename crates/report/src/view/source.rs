//! Source text, if it is on this machine.
//!
//! Paths come from debug information, so from whoever built the program: only regular files of
//! reasonable size are opened, and what is in them is shown as text.

use super::asked::Excerpt;
use std::collections::HashMap;
use std::fs::File;
use std::io::Read as _;
use std::path::{Component, Path, PathBuf};
use std::sync::Arc;

/// Largest file read, bytes.
const LARGEST: u64 = 16 << 20;
/// Files kept.
const KEPT: usize = 32;
/// Lines given before and after the one that runs.
const AROUND: usize = 60;

/// Source files, and where else to look for them.
#[derive(Debug, Default)]
pub struct Sources {
    directories: Vec<PathBuf>,
    kept: HashMap<String, Option<Arc<Vec<String>>>>,
}

impl Sources {
    /// Looks for files where debug information says, and then under these directories: the file
    /// `/build/queue/src/a.c` is found as `DIR/build/queue/src/a.c`, `DIR/queue/src/a.c`,
    /// `DIR/src/a.c` or `DIR/a.c`.
    pub fn new(directories: Vec<PathBuf>) -> Self {
        Self {
            directories,
            kept: HashMap::new(),
        }
    }

    /// The lines around one; `None` if the file is not here or has no such line.
    pub fn around(&mut self, path: &str, line: u32, frame: usize) -> Option<Excerpt> {
        let lines = self.lines(path)?;
        let index = (line as usize).checked_sub(1)?;
        if index >= lines.len() {
            return None;
        }
        let from = index.saturating_sub(AROUND);
        let to = (index + AROUND + 1).min(lines.len());
        Some(Excerpt {
            path: path.to_owned(),
            first: from as u32 + 1,
            lines: lines.get(from..to)?.to_vec(),
            at: line,
            frame,
        })
    }

    fn lines(&mut self, path: &str) -> Option<Arc<Vec<String>>> {
        if let Some(known) = self.kept.get(path) {
            return known.clone();
        }
        let found = self
            .candidates(Path::new(path))
            .iter()
            .find_map(|p| read(p));
        if self.kept.len() >= KEPT {
            self.kept.clear();
        }
        self.kept.insert(path.to_owned(), found.clone());
        found
    }

    fn candidates(&self, path: &Path) -> Vec<PathBuf> {
        let mut all = Vec::new();
        if path.is_absolute() {
            all.push(path.to_owned());
        }
        // No way out of the directory that was given.
        let parts: Vec<&std::ffi::OsStr> = path
            .components()
            .filter_map(|c| match c {
                Component::Normal(name) => Some(name),
                _ => None,
            })
            .collect();
        for directory in &self.directories {
            for from in 0..parts.len().min(64) {
                let tail: PathBuf = parts[from..].iter().collect();
                all.push(directory.join(tail));
            }
        }
        all
    }
}

fn read(path: &Path) -> Option<Arc<Vec<String>>> {
    // Looked at before it is opened: a fifo in its place would hold us up.
    let meta = std::fs::metadata(path).ok()?;
    if !meta.is_file() || meta.len() > LARGEST {
        return None;
    }
    let mut bytes = Vec::new();
    let mut file = File::open(path).ok()?.take(LARGEST);
    file.read_to_end(&mut bytes).ok()?;
    let text = String::from_utf8_lossy(&bytes);
    Some(Arc::new(text.lines().map(super::text::tame).collect()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn files_are_found_by_the_end_of_their_path() {
        let here = Path::new(env!("CARGO_MANIFEST_DIR"));
        let mut sources = Sources::new(vec![here.to_owned()]);
        let found = sources
            .around("/nowhere/../x/src/view/source.rs", 1, 2)
            .unwrap();
        assert!(found.lines[0].starts_with("//! Source text"));
        assert_eq!((found.first, found.at, found.frame), (1, 1, 2));
        assert_eq!(found.lines.len(), AROUND + 1);
        assert!(sources.around("src/view/source.rs", 0, 0).is_none());
        assert!(sources.around("src/view/source.rs", 1 << 30, 0).is_none());
        let own = here.join("src/view/source.rs");
        assert!(sources.around(own.to_str().unwrap(), 5, 0).is_some());
    }

    #[test]
    fn what_is_no_file_is_not_opened() {
        let mut sources = Sources::default();
        for path in ["/dev/zero", "/", "src/view/source.rs", "", "/nonexistent"] {
            assert!(sources.around(path, 1, 0).is_none(), "{path}");
        }
    }
}
