//! Where an address is: mapping, offset, and the ELF symbol that holds it.
//!
//! Only symbol tables are read, not debug information: that is enough to say which function a
//! thread is in, and needs little from a recording that may have been made elsewhere. A file that
//! is neither in the recording nor still the same on this machine gives no symbols; then the
//! mapping and the offset are the answer.

use object::read::{ObjectSegment as _, ReadCache};
use object::{Object as _, ObjectSymbol as _, SymbolKind};
use std::collections::HashMap;
use std::fs::File;
use std::io::{self, Read, Seek, SeekFrom};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::MetadataExt as _;
use std::path::Path;
use stillframe_image::{AddressSpace, FileIdentity, Mapping, MappingKind};
use stillframe_store::{Memory, Object, Recording};

/// An address described.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Place<'a> {
    /// The mapping that holds it.
    pub mapping: &'a Mapping,
    /// Offset into the file of the mapping, or into the mapping if it has none.
    pub offset: u64,
    /// Function or object that holds it, and the distance from its start.
    pub symbol: Option<(String, u64)>,
}

/// Finds symbols; loads each file's table once.
pub struct Symbols<'a> {
    recording: &'a Recording,
    memory: &'a Memory<'a>,
    files: HashMap<u32, Table>,
    vdso: Option<Table>,
}

impl<'a> Symbols<'a> {
    /// For the memory of one checkpoint.
    pub fn new(recording: &'a Recording, memory: &'a Memory<'a>) -> Self {
        Self {
            recording,
            memory,
            files: HashMap::new(),
            vdso: None,
        }
    }

    /// Describes an address; `None` if nothing is mapped there.
    pub fn locate<'s>(&mut self, space: &'s AddressSpace, address: u64) -> Option<Place<'s>> {
        let mapping = space.mapping_at(address)?;
        let within = address - mapping.start;
        let offset = within.saturating_add(mapping.offset);
        let symbol = match (mapping.kind, mapping.file) {
            (MappingKind::Vdso, _) => self
                .vdso
                .get_or_insert_with(|| vdso(self.memory, mapping))
                .find(within),
            (_, Some(index)) => {
                let recording = self.recording;
                let table = self.files.entry(index).or_insert_with(|| {
                    space
                        .file_of(mapping)
                        .and_then(|f| of_file(recording, f))
                        .unwrap_or_default()
                });
                table.find(offset)
            }
            _ => None,
        };
        Some(Place {
            mapping,
            offset,
            symbol,
        })
    }
}

/// Symbols of one file, by offset into the file.
#[derive(Debug, Default)]
struct Table {
    /// (offset of the first byte, size or 0, name), ascending.
    symbols: Vec<(u64, u64, Box<str>)>,
}

impl Table {
    fn find(&self, offset: u64) -> Option<(String, u64)> {
        let after = self.symbols.partition_point(|s| s.0 <= offset);
        let (start, size, name) = self.symbols[..after].last()?;
        let distance = offset - start;
        // A symbol of unknown size (hand-written assembly) reaches to the next one.
        (*size == 0 || distance < *size).then(|| (name.to_string(), distance))
    }
}

/// The table of a file: from the recording if it is there, else from this machine if the file is
/// still what it was.
fn of_file(recording: &Recording, file: &FileIdentity) -> Option<Table> {
    if let Some(hash) = &file.object {
        match recording.object(hash) {
            Ok(object) => return table(&ReadCache::new(ObjectReader { object, at: 0 })),
            Err(error) => tracing::debug!(%error, "an object cannot be opened"),
        }
    }
    let path = unchanged(file)?;
    table(&ReadCache::new(File::open(path).ok()?))
}

/// The path of a mapped file, if what is there now is what was mapped.
pub fn unchanged(file: &FileIdentity) -> Option<&Path> {
    let path = Path::new(std::ffi::OsStr::from_bytes(&file.path));
    let now = std::fs::metadata(path).ok()?;
    let modified = now
        .mtime()
        .checked_mul(1_000_000_000)?
        .checked_add(now.mtime_nsec())?;
    let same = now.is_file() && now.len() == file.size && modified == file.modified_ns;
    (same && !file.deleted).then_some(path)
}

/// The vDSO has no file, but its memory is one.
fn vdso(memory: &Memory<'_>, mapping: &Mapping) -> Table {
    // Four pages on every kernel so far.
    let length = mapping.len().min(1 << 20);
    let mut bytes = vec![0; usize::try_from(length).unwrap_or(0)];
    match memory.read(mapping.start, &mut bytes) {
        Ok(()) => table(bytes.as_slice()).unwrap_or_default(),
        Err(_) => Table::default(),
    }
}

fn table<'a, R: object::ReadRef<'a>>(data: R) -> Option<Table> {
    let file = object::File::parse(data).ok()?;
    // Symbols have addresses; mappings have file offsets. The segments say which is which.
    let segments: Vec<(u64, u64, u64)> = file
        .segments()
        .map(|s| {
            let (offset, size) = s.file_range();
            (s.address(), size, offset)
        })
        .collect();
    let offset_of = |address: u64| {
        segments.iter().find_map(|&(start, size, offset)| {
            let within = address.checked_sub(start).filter(|within| *within < size)?;
            offset.checked_add(within)
        })
    };
    let mut symbols: Vec<(u64, u64, Box<str>)> = file
        .symbols()
        .chain(file.dynamic_symbols())
        .filter(|s| s.is_definition())
        .filter(|s| matches!(s.kind(), SymbolKind::Text | SymbolKind::Data))
        .filter_map(|s| {
            let name = s.name().ok().filter(|name| !name.is_empty())?;
            Some((offset_of(s.address())?, s.size(), name.into()))
        })
        .collect();
    // Of several names for one address the largest extent wins, and then the shortest name; it is
    // put last, where `find` looks.
    symbols.sort_unstable_by(|a, b| (a.0, a.1, b.2.len(), &b.2).cmp(&(b.0, b.1, a.2.len(), &a.2)));
    symbols.dedup_by(|next, kept| {
        let same = next.0 == kept.0;
        if same {
            std::mem::swap(next, kept);
        }
        same
    });
    Some(Table { symbols })
}

/// A recorded file as something to read and seek in.
struct ObjectReader {
    object: Object,
    at: u64,
}

impl Read for ObjectReader {
    fn read(&mut self, out: &mut [u8]) -> io::Result<usize> {
        let read = self
            .object
            .read_at(self.at, out)
            .map_err(io::Error::other)?;
        self.at += read as u64;
        Ok(read)
    }
}

impl Seek for ObjectReader {
    fn seek(&mut self, to: SeekFrom) -> io::Result<u64> {
        let (base, delta) = match to {
            SeekFrom::Start(at) => (at, 0),
            SeekFrom::End(delta) => (self.object.len(), delta),
            SeekFrom::Current(delta) => (self.at, delta),
        };
        self.at = base
            .checked_add_signed(delta)
            .ok_or_else(|| io::Error::from(io::ErrorKind::InvalidInput))?;
        Ok(self.at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn our_own_executable_has_this_function() {
        let path = std::env::current_exe().unwrap();
        let table = table(&ReadCache::new(File::open(path).unwrap())).unwrap();
        let (offset, _, name) = table
            .symbols
            .iter()
            .find(|s| s.2.contains("our_own_executable_has_this_function") && s.1 > 4)
            .unwrap();
        let (found, distance) = table.find(offset + 3).unwrap();
        assert_eq!((found.as_str(), distance), (&**name, 3));
    }

    #[test]
    fn addresses_between_symbols_have_none() {
        let table = Table {
            symbols: vec![
                (10, 5, "a".into()),
                (20, 0, "b".into()),
                (30, 1, "c".into()),
            ],
        };
        assert_eq!(table.find(9), None);
        assert_eq!(table.find(14), Some(("a".to_owned(), 4)));
        assert_eq!(table.find(15), None);
        assert_eq!(table.find(29), Some(("b".to_owned(), 9)));
        assert_eq!(table.find(31), None);
    }

    #[test]
    fn garbage_gives_no_table() {
        assert!(table(&b"\x7fELF\x02\x01\x01garbage"[..]).is_none());
    }
}
