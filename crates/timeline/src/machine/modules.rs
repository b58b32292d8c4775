//! Which file stands for a module.
//!
//! The copy in the recording, if it has one. Else the file on this machine, if it is what was
//! mapped: the same build-id, or, for a file without one, the same size and time of change. Else
//! none, and the reason is kept.

use super::RecordedMemory;
use std::collections::HashMap;
use std::ffi::OsStr;
use std::io;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};
use stillframe_image::{AddressSpace, FileIdentity, MappingKind};
use stillframe_store::{Object, Recording};
use stillframe_symbols::files::OpenFile;
use stillframe_symbols::{
    ElfError, Files, Mapped, Module, ModuleError, Program, Source, SystemFiles,
};

/// Largest vDSO, bytes. It has two to four pages.
const VDSO: u64 = 1 << 20;

/// How modules are looked for.
#[derive(Clone, Debug)]
pub struct Options {
    /// Where separate debug files are.
    pub files: Arc<dyn Files>,
    /// Use files on this machine although they are not those that were recorded.
    pub force: bool,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            files: Arc::new(SystemFiles::default()),
            force: false,
        }
    }
}

impl Options {
    /// With these directories searched for debug information before /usr/lib/debug.
    pub fn with_directories(directories: impl IntoIterator<Item = PathBuf>) -> Self {
        Self {
            files: Arc::new(SystemFiles::new(directories)),
            force: false,
        }
    }
}

/// A file kept in a recording.
#[derive(Debug)]
pub struct RecordedFile(Object);

impl RecordedFile {
    /// Of an object.
    pub const fn new(object: Object) -> Self {
        Self(object)
    }
}

impl Source for RecordedFile {
    fn len(&self) -> u64 {
        self.0.len()
    }

    fn read_at(&self, offset: u64, out: &mut [u8]) -> io::Result<()> {
        match self.0.read_at(offset, out) {
            Ok(read) if read == out.len() => Ok(()),
            Ok(_) => Err(io::ErrorKind::UnexpectedEof.into()),
            Err(error) => Err(io::Error::other(error)),
        }
    }
}

/// What tells files apart.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
struct Key {
    path: Vec<u8>,
    device: (u32, u32),
    inode: u64,
    size: u64,
    modified_ns: i64,
    build_id: Option<Vec<u8>>,
    object: Option<[u8; 32]>,
}

impl Key {
    fn of(file: &FileIdentity) -> Self {
        Self {
            path: file.path.clone(),
            device: file.device,
            inode: file.inode,
            size: file.size,
            modified_ns: file.modified_ns,
            build_id: file.build_id.clone(),
            object: file.object,
        }
    }
}

/// A module, or why there is none; `Err(None)` for files that cannot be modules.
type Found = Result<Arc<Module>, Option<String>>;

/// Modules loaded so far.
#[derive(Debug)]
pub(super) struct Modules {
    options: Options,
    files: Mutex<HashMap<Key, Found>>,
    /// By content: it differs only between kernels.
    vdso: Mutex<Vec<(Vec<u8>, Arc<Module>)>>,
}

impl Modules {
    pub(super) fn new(options: Options) -> Self {
        Self {
            options,
            files: Mutex::default(),
            vdso: Mutex::default(),
        }
    }

    /// The modules that are mapped: files of which some part is code, and the vDSO.
    pub(super) fn program(&self, recording: &Recording, memory: &RecordedMemory<'_>) -> Program {
        let layout = memory.inner().layout();
        let mut mapped = Vec::new();
        let mut notes = Vec::new();
        let mut code = vec![false; layout.files.len()];
        let index = |file: Option<u32>| file.and_then(|f| usize::try_from(f).ok());
        for m in layout.mappings.iter().filter(|m| m.execute) {
            if let Some(flag) = index(m.file).and_then(|f| code.get_mut(f)) {
                *flag = true;
            }
        }
        let found: Vec<Option<Arc<Module>>> = layout
            .files
            .iter()
            .zip(&code)
            .map(|(file, code)| {
                if !code {
                    return None;
                }
                match self.file(recording, file) {
                    Ok(module) => Some(module),
                    Err(reason) => {
                        notes.extend(reason);
                        None
                    }
                }
            })
            .collect();
        for m in &layout.mappings {
            let module = if m.kind == MappingKind::Vdso {
                self.vdso(memory, m.start, m.len())
            } else {
                index(m.file).and_then(|f| found.get(f)).cloned().flatten()
            };
            if let Some(module) = module {
                mapped.push(Mapped {
                    start: m.start,
                    end: m.end,
                    offset: m.offset,
                    module,
                });
            }
        }
        Program::new(mapped).with_notes(notes)
    }

    fn file(&self, recording: &Recording, file: &FileIdentity) -> Found {
        let lock = || self.files.lock().unwrap_or_else(PoisonError::into_inner);
        let key = Key::of(file);
        if let Some(found) = lock().get(&key) {
            return found.clone();
        }
        let found = self.load(recording, file);
        lock().insert(key, found.clone());
        found
    }

    fn load(&self, recording: &Recording, file: &FileIdentity) -> Found {
        let name = String::from_utf8_lossy(&file.path).into_owned();
        let kept = file.object.and_then(|hash| match recording.object(&hash) {
            Ok(object) => Some(Ok(object)),
            Err(stillframe_store::Error::NoObject(_)) => None,
            Err(error) => Some(Err(error)),
        });
        let source: Arc<dyn Source> = match kept {
            Some(Ok(object)) => Arc::new(RecordedFile(object)),
            Some(Err(error)) => return Err(Some(format!("{name}: {error}"))),
            None => Arc::new(self.on_disk(&name, file)?),
        };
        let build_id = file.build_id.as_deref().filter(|_| !self.options.force);
        match Module::open(&name, source, build_id, Arc::clone(&self.options.files)) {
            Ok(module) => Ok(Arc::new(module)),
            // Something else that was mapped as code.
            Err(ModuleError::Elf {
                error: ElfError::NotElf,
                ..
            }) => Err(None),
            Err(error @ ModuleError::Mismatch { .. }) => Err(Some(format!(
                "{error}; it is not used (--force uses it all the same)"
            ))),
            Err(error) => Err(Some(error.to_string())),
        }
    }

    fn on_disk(&self, name: &str, file: &FileIdentity) -> Result<OpenFile, Option<String>> {
        let path = Path::new(OsStr::from_bytes(&file.path));
        let forced = self.options.force;
        if file.build_id.is_none() && !forced && unchanged(file).is_none() {
            return Err(Some(format!(
                "{name} is not in the recording, and what is there now cannot be told to be the \
                 same file; its functions have no names"
            )));
        }
        OpenFile::open(path).map_err(|error| {
            Some(format!(
                "{name} is not in the recording and cannot be opened here ({error}); its functions \
                 have no names"
            ))
        })
    }

    /// The vDSO has no file, but its memory is one.
    fn vdso(&self, memory: &RecordedMemory<'_>, start: u64, length: u64) -> Option<Arc<Module>> {
        let mut bytes = vec![0; usize::try_from(length.min(VDSO)).ok()?];
        memory.inner().read(start, &mut bytes).ok()?;
        let mut known = self.vdso.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, module)) = known.iter().find(|(content, _)| *content == bytes) {
            return Some(Arc::clone(module));
        }
        let source = Arc::new(bytes.clone());
        let files = Arc::clone(&self.options.files);
        let module = Arc::new(Module::open("[vdso]", source, None, files).ok()?);
        known.push((bytes, Arc::clone(&module)));
        Some(module)
    }
}

/// The path of a mapped file, if what is there now is what was mapped: of the same size, not changed
/// since.
pub fn unchanged(file: &FileIdentity) -> Option<&Path> {
    let path = Path::new(OsStr::from_bytes(&file.path));
    let now = std::fs::metadata(path).ok()?;
    let modified = now
        .mtime()
        .checked_mul(1_000_000_000)?
        .checked_add(now.mtime_nsec())?;
    let same = now.is_file() && now.len() == file.size && modified == file.modified_ns;
    (same && !file.deleted).then_some(path)
}

/// Whether the same files are mapped at the same places, as far as modules go.
pub(crate) fn same_files(a: &AddressSpace, b: &AddressSpace) -> bool {
    fn parts(
        space: &AddressSpace,
    ) -> impl Iterator<Item = (u64, u64, u64, bool, Option<&FileIdentity>)> {
        let modules =
            |m: &&stillframe_image::Mapping| m.file.is_some() || m.kind == MappingKind::Vdso;
        let mappings = space.mappings.iter().filter(modules);
        mappings.map(|m| (m.start, m.end, m.offset, m.execute, space.file_of(m)))
    }
    parts(a).eq(parts(b))
}
