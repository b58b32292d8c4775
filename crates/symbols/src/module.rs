//! One object file that a process has mapped, with all that describes it.
//!
//! What a recording says of a file decides which file may stand for it: by build-id where there is
//! one. The same goes for separate debug files, which are looked for where Debian, Fedora and GDB
//! put them. A wrong file is refused with a reason, because wrong names are worse than none.

use crate::catalog::Catalog;
use crate::debuginfo::{DebugInfo, Dwarf};
use crate::elf::{Elf, ElfError, Segment, Slice};
use crate::files::{Files, Source};
use crate::locate::Tables;
use crate::symtab::{Symbol, SymbolTable};
use crate::unwind::UnwindTables;
use std::ffi::OsStr;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, MutexGuard, OnceLock, PoisonError};

/// Why a file cannot stand for a module.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ModuleError {
    /// It is no ELF file, or damaged.
    #[error("{name}: {error}")]
    Elf {
        /// The file.
        name: String,
        /// What is wrong.
        error: ElfError,
    },
    /// Another build.
    #[error(
        "{name} is not the file that was recorded: its build-id is {}, not {}",
        hex(found.as_deref().unwrap_or_default()),
        hex(wanted)
    )]
    Mismatch {
        /// The file.
        name: String,
        /// The build-id it has, if any.
        found: Option<Vec<u8>>,
        /// The one that was recorded.
        wanted: Vec<u8>,
    },
}

/// Bytes in hexadecimal; `none` for none.
pub(crate) fn hex(bytes: &[u8]) -> String {
    if bytes.is_empty() {
        return "none".to_owned();
    }
    bytes.iter().map(|b| format!("{b:02x}")).collect()
}

/// An object file and what describes it. Everything but its headers is read when first asked for.
#[derive(Debug)]
pub struct Module {
    name: String,
    file: Elf,
    files: Arc<dyn Files>,
    separate: OnceLock<Option<Elf>>,
    symbols: OnceLock<SymbolTable>,
    info: OnceLock<Option<DebugInfo>>,
    catalog: OnceLock<Option<Catalog>>,
    tables: Tables,
    unwind: OnceLock<UnwindTables>,
    notes: Mutex<Vec<String>>,
}

impl Module {
    /// Opens a module. `name` is its path as the process saw it, `build_id` the one it must have.
    ///
    /// # Errors
    /// [`ModuleError`].
    pub fn open(
        name: &str,
        source: Arc<dyn Source>,
        build_id: Option<&[u8]>,
        files: Arc<dyn Files>,
    ) -> Result<Self, ModuleError> {
        let file = Elf::open(source).map_err(|error| ModuleError::Elf {
            name: name.to_owned(),
            error,
        })?;
        if let Some(wanted) = build_id
            && file.build_id() != Some(wanted)
        {
            return Err(ModuleError::Mismatch {
                name: name.to_owned(),
                found: file.build_id().map(<[u8]>::to_vec),
                wanted: wanted.to_vec(),
            });
        }
        Ok(Self {
            name: name.to_owned(),
            file,
            files,
            separate: OnceLock::new(),
            symbols: OnceLock::new(),
            info: OnceLock::new(),
            catalog: OnceLock::new(),
            tables: Tables::default(),
            unwind: OnceLock::new(),
            notes: Mutex::default(),
        })
    }

    /// Its path, as the process saw it; `[vdso]` for the kernel's.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its own file.
    pub const fn file(&self) -> &Elf {
        &self.file
    }

    /// GNU build-id.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.file.build_id()
    }

    /// What is missing or wrong, as far as it has shown, one line each.
    pub fn notes(&self) -> Vec<String> {
        self.lock_notes().clone()
    }

    fn lock_notes(&self) -> MutexGuard<'_, Vec<String>> {
        self.notes.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(crate) fn note(&self, note: impl std::fmt::Display) {
        let note = format!("{}: {note}", self.name);
        let mut notes = self.lock_notes();
        if notes.len() < 100 && !notes.contains(&note) {
            notes.push(note);
        }
    }

    /// The separate debug file, if there is one and it is the right one.
    pub fn separate(&self) -> Option<&Elf> {
        self.separate.get_or_init(|| self.find_separate()).as_ref()
    }

    /// Its symbols.
    pub fn symbols(&self) -> &SymbolTable {
        self.symbols.get_or_init(|| {
            // What was stripped from the one stands in the other.
            let files = match self.file.section(".symtab") {
                Ok(Some(_)) => None,
                _ => self.separate(),
            };
            let mut notes = Vec::new();
            let table = SymbolTable::read([&self.file].into_iter().chain(files), &mut notes);
            notes.into_iter().for_each(|n| self.note(n));
            table
        })
    }

    /// The symbol that holds an address of the file's own.
    pub fn symbol_at(&self, address: u64) -> Option<Symbol<'_>> {
        self.symbols().at(address)
    }

    /// Its debug information, from its own file or the separate one.
    pub fn info(&self) -> Option<&DebugInfo> {
        self.info.get_or_init(|| self.read_info()).as_ref()
    }

    /// Where names stand in its debug information, and the types that were read from it.
    pub(crate) fn catalog(&self) -> Option<&Catalog> {
        self.catalog
            .get_or_init(|| {
                let catalog = Catalog::new(self.info()?);
                if catalog.cut {
                    self.note("it has more names than are kept, so some are not found");
                }
                Some(catalog)
            })
            .as_ref()
    }

    /// Its DWARF.
    pub fn dwarf(&self) -> Option<&Dwarf> {
        self.info().map(DebugInfo::dwarf)
    }

    pub(crate) const fn tables(&self) -> &Tables {
        &self.tables
    }

    pub(crate) fn unwind_tables(&self) -> &UnwindTables {
        self.unwind.get_or_init(|| UnwindTables::read(self))
    }

    fn read_info(&self) -> Option<DebugInfo> {
        let own = |name| matches!(self.file.section(name), Ok(Some(_)));
        let file = if own(".debug_info") {
            &self.file
        } else if let Some(separate) = self.separate() {
            separate
        } else {
            let id = self.build_id().map(hex);
            let id = id.map_or_else(String::new, |id| format!(" (build-id {id})"));
            self.note(format_args!(
                "no debug information{id}, so functions come from its symbol table"
            ));
            return None;
        };
        let supplementary = file
            .supplementary_link()
            .and_then(|link| self.find_supplementary(&link.name, &link.proof));
        match DebugInfo::read(file, supplementary) {
            Ok(Some(info)) => {
                info.notes().iter().for_each(|n| self.note(n));
                Some(info)
            }
            Ok(None) => {
                self.note("its separate debug file has no debug information");
                None
            }
            Err(error) => {
                self.note(format_args!("its debug information is not used: {error}"));
                None
            }
        }
    }

    /// A section for unwinding or for thread-local storage; damage is noted and hides it.
    pub(crate) fn section(&self, file: &Elf, name: &str) -> Option<Slice> {
        file.section(name).unwrap_or_else(|error| {
            self.note(format_args!("{name} is not used: {error}"));
            None
        })
    }

    fn find_separate(&self) -> Option<Elf> {
        let link = self.file.debug_link();
        let mut candidates: Vec<PathBuf> = Vec::new();
        if let Some(id) = self.build_id() {
            let dirs = self.files.directories().iter();
            candidates.extend(dirs.filter_map(|d| build_id_path(d, id)));
        }
        if let Some(link) = &link {
            let name = Path::new(OsStr::from_bytes(&link.name));
            // A name is meant, not a path; but a path below the directory does no harm.
            let plain = !name.is_absolute() && name.components().all(is_plain);
            let dir = Path::new(&self.name).parent();
            if let (true, Some(dir)) = (plain, dir.filter(|d| d.is_absolute())) {
                candidates.push(dir.join(name));
                candidates.push(dir.join(".debug").join(name));
                let below = dir.strip_prefix("/").unwrap_or(dir);
                let dirs = self.files.directories().iter();
                candidates.extend(dirs.map(|d| d.join(below).join(name)));
            }
        }
        candidates.into_iter().find_map(|path| {
            let source = self.files.open(&path).ok()?;
            match self.check_separate(Arc::clone(&source), link.as_ref().map(|l| l.proof)) {
                Ok(elf) => Some(elf),
                Err(reason) => {
                    self.note(format_args!("{} is not used: {reason}", path.display()));
                    None
                }
            }
        })
    }

    fn check_separate(&self, source: Arc<dyn Source>, crc: Option<u32>) -> Result<Elf, String> {
        let elf = Elf::open(Arc::clone(&source)).map_err(|e| e.to_string())?;
        match (self.build_id(), elf.build_id(), crc) {
            (Some(wanted), Some(found), _) if wanted == found => Ok(elf),
            (Some(wanted), Some(found), _) => Err(format!(
                "its build-id is {}, not {}",
                hex(found),
                hex(wanted)
            )),
            (_, _, Some(crc)) => match crc32(&*source) {
                Ok(found) if found == crc => Ok(elf),
                Ok(_) => Err("its checksum is another".to_owned()),
                Err(error) => Err(format!("it cannot be read: {error}")),
            },
            _ => Err("nothing proves that it belongs to this module".to_owned()),
        }
    }

    fn find_supplementary(&self, name: &[u8], id: &[u8]) -> Option<Arc<DebugInfo>> {
        let path = Path::new(OsStr::from_bytes(name));
        let mut candidates: Vec<PathBuf> = Vec::new();
        // Debian writes absolute paths; relative ones begin at the debug file, whose place is that
        // of its build-id.
        let mut homes = Vec::new();
        if path.is_absolute() {
            candidates.push(path.into());
        } else {
            if let Some(own) = self.build_id() {
                let dirs = self.files.directories().iter();
                homes.extend(dirs.filter_map(|d| build_id_path(d, own)));
            }
            homes.push(PathBuf::from(&self.name));
            let homes = homes.iter().filter_map(|h| h.parent());
            candidates.extend(homes.map(|h| h.join(path)));
        }
        for dir in self.files.directories() {
            candidates.extend(build_id_path(dir, id));
            if let Some(file) = path.file_name() {
                candidates.push(dir.join(".dwz").join(file));
            }
        }
        let found = candidates.into_iter().find_map(|path| {
            let elf = Elf::open(self.files.open(&path).ok()?).ok()?;
            (elf.build_id() == Some(id)).then_some(elf)
        });
        let Some(elf) = found else {
            self.note(format_args!(
                "{}, which holds part of its debug information, is missing",
                path.display()
            ));
            return None;
        };
        match DebugInfo::read(&elf, None) {
            Ok(info) => info.map(Arc::new),
            Err(error) => {
                self.note(format_args!("{} is not used: {error}", path.display()));
                None
            }
        }
    }

    /// The addresses, by the file's own count, that may stand for an offset of the file, as
    /// differences `address - offset`. Two segments can share a page of the file, so there may be
    /// two; the first is the likelier.
    pub(crate) fn deltas(&self, offset: u64) -> impl Iterator<Item = u64> {
        const PAGE: u64 = 4096;
        let inside = move |s: &&Segment| {
            let begin = s.offset & !(PAGE - 1);
            let end = s.offset.saturating_add(s.file).saturating_add(PAGE - 1) & !(PAGE - 1);
            s.file > 0 && offset >= begin && offset < end
        };
        let segments = self.file.segments().iter();
        // The segment that begins in this page was mapped by it; another only reaches into it.
        let starts = move |s: &&Segment| s.offset & !(PAGE - 1) == offset & !(PAGE - 1);
        let first = segments.clone().filter(inside).filter(starts);
        let others = segments.filter(inside).filter(move |s| !starts(s));
        first
            .chain(others)
            .map(|s| s.address.wrapping_sub(s.offset))
    }

    /// The addresses, by the file's own count, that its segments take: (first, after the last).
    pub fn extent(&self) -> (u64, u64) {
        let segments = self.file.segments().iter();
        let begin = segments.clone().map(|s| s.address).min().unwrap_or(0);
        let end = segments.map(|s| s.address.saturating_add(s.memory)).max();
        (begin, end.unwrap_or(0))
    }
}

fn is_plain(component: std::path::Component<'_>) -> bool {
    matches!(component, std::path::Component::Normal(_))
}

fn build_id_path(dir: &Path, id: &[u8]) -> Option<PathBuf> {
    let (first, rest) = id.split_first()?;
    if rest.is_empty() || rest.len() > 63 {
        return None;
    }
    let file = format!("{}.debug", hex(rest));
    Some(dir.join(".build-id").join(hex(&[*first])).join(file))
}

/// CRC-32 as `.gnu_debuglink` has it (polynomial 0xedb88320 reflected, as in zlib).
fn crc32(source: &dyn Source) -> std::io::Result<u32> {
    let table: Vec<u32> = (0..256u32)
        .map(|byte| (0..8).fold(byte, |crc, _| (crc >> 1) ^ (0xedb8_8320 * (crc & 1))))
        .collect();
    let mut crc = u32::MAX;
    let mut buffer = vec![0; 1 << 16];
    let mut at = 0;
    while at < source.len() {
        let n = (source.len() - at).min(buffer.len() as u64);
        let part = &mut buffer[..usize::try_from(n).unwrap_or(0)];
        source.read_at(at, part)?;
        for byte in part.iter() {
            let index = (crc ^ u32::from(*byte)) & 0xff;
            crc = (crc >> 8) ^ table.get(index as usize).copied().unwrap_or(0);
        }
        at += n;
    }
    Ok(!crc)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn checksums_are_zlibs() {
        assert_eq!(crc32(&b"123456789".to_vec()).unwrap(), 0xcbf4_3926);
        assert_eq!(crc32(&Vec::new()).unwrap(), 0);
    }
}
