//! Reading the log: one record by its place, or one after the other.

use super::parts::{self, Parts};
use super::record::{FRAME, HEADER, Kind, RecordHeader};
use super::segment::{self, decode_header};
use super::{Location, segment_path};
use crate::Error;
use crate::bytes::Malformed;
use crate::check::Key;
use crate::pack::decode::Pack;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Segments kept open at once.
const OPEN_FILES: usize = 64;
/// Bytes fetched with a record's header, which for most is all of it.
const FETCH: usize = 4096;

/// A file of the log: a segment, or what is left of several.
#[derive(Debug)]
struct Segment {
    file: File,
    /// Where its records are, if it is a compacted one.
    parts: Option<Parts>,
}

/// What a file of the log is called: first and last segment, and whether it is a compacted one.
pub type Name = (u32, u32, bool);

#[derive(Debug, Default)]
struct Open {
    files: HashMap<Name, Arc<Segment>>,
    /// The files there are, ascending, without those that were compacted into others.
    names: Vec<Name>,
}

impl Open {
    fn name(&self, number: u32) -> Option<Name> {
        let after = self.names.partition_point(|n| n.0 <= number);
        let name = *self.names.get(after.checked_sub(1)?)?;
        (number <= name.1).then_some(name)
    }
}

/// The log of a recording, opened for reading.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    key: Key,
    id: [u8; 16],
    open: Mutex<Open>,
}

/// A record met by [`LogReader::step`].
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Met {
    /// Where.
    pub at: Location,
    /// Its header.
    pub header: RecordHeader,
    /// Where the next one should be.
    pub next: Location,
}

/// What comes next in the log.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// A record.
    Record(Met),
    /// Bytes that are no record; the next one is at `next`.
    Damage {
        /// Where the bytes begin.
        at: Location,
        /// Where a record, or the next segment, begins.
        next: Location,
        /// What is wrong.
        why: String,
    },
    /// The end. `torn` is the number of bytes of an incomplete record there.
    End {
        /// Where a record may be appended, or may be growing.
        at: Location,
        /// Bytes that are no whole record.
        torn: u64,
    },
}

impl LogReader {
    /// For the recording in `dir`.
    pub fn new(dir: &Path, id: [u8; 16]) -> Self {
        Self {
            dir: dir.into(),
            key: Key::new(&id),
            id,
            open: Mutex::default(),
        }
    }

    /// The key of its checks.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The first record of the log.
    pub const fn first() -> Location {
        parts::start(1)
    }

    fn file(&self, number: u32) -> std::io::Result<Arc<Segment>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        let mut fresh = false;
        loop {
            if let Some(name) = open.name(number) {
                if let Some(segment) = open.files.get(&name) {
                    return Ok(Arc::clone(segment));
                }
                match self.open_file(name) {
                    Ok(segment) => {
                        let segment = Arc::new(segment);
                        if open.files.len() >= OPEN_FILES {
                            open.files.clear();
                        }
                        open.files.insert(name, Arc::clone(&segment));
                        return Ok(segment);
                    }
                    // It was compacted into another since the directory was read.
                    Err(e) if e.kind() == std::io::ErrorKind::NotFound => fresh = false,
                    Err(e) => return Err(e),
                }
            }
            if fresh {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            let names = file_names(&self.dir)?;
            // A name that is listed and cannot be opened, twice: it is a dangling link or the like.
            if open.name(number).is_some() && names == open.names {
                return Err(std::io::ErrorKind::NotFound.into());
            }
            open.names = names;
            fresh = true;
        }
    }

    fn open_file(&self, (first, last, compacted): Name) -> std::io::Result<Segment> {
        if !compacted {
            let file = File::open(segment_path(&self.dir, first))?;
            return Ok(Segment { file, parts: None });
        }
        let file = File::open(parts::path(&self.dir, first, last))?;
        let parts = Parts::read(&file, self.key, first, last)?;
        let parts = Some(parts);
        Ok(Segment { file, parts })
    }

    /// Whether a segment is part of a compacted one.
    pub fn is_compacted(&self, number: u32) -> bool {
        self.file(number).is_ok_and(|s| s.parts.is_some())
    }

    /// Forgets which files there are, so that what was compacted away is let go of.
    pub fn forget_files(&self) {
        *self.open.lock().unwrap_or_else(PoisonError::into_inner) = Open::default();
    }

    /// Whether a record may begin at a location: the log reaches that far.
    pub fn reaches(&self, at: Location) -> bool {
        self.file(at.segment()).is_ok_and(|s| match &s.parts {
            Some(parts) => parts.offset(at).is_some(),
            None => s
                .file
                .metadata()
                .is_ok_and(|m| m.len() > u64::from(at.offset())),
        })
    }

    fn damaged(at: Location, kind: &str, why: impl std::fmt::Display) -> Error {
        Error::Damaged(format!("the {kind} in {at}: {why}"))
    }

    fn io(&self, at: Location) -> impl FnOnce(std::io::Error) -> Error {
        Error::io("read", segment_path(&self.dir, at.segment()))
    }

    /// Reads the record of a kind at a place; gives its decompressed payload and the check of it.
    ///
    /// # Errors
    /// If it is damaged, or another kind, or the file cannot be read. [`Error::Changed`] if it was
    /// removed.
    pub fn read(&self, at: Location, kind: Kind) -> Result<(Vec<u8>, u64), Error> {
        let (header, bytes) = self.frame(at, &[kind])?;
        let body = &bytes[HEADER..];
        let name = header.kind.name();
        let payload = header
            .payload(body)
            .map_err(|e| Self::damaged(at, name, e))?;
        let sum = header
            .payload_check(body)
            .map_err(|e| Self::damaged(at, name, e))?;
        Ok((payload, sum))
    }

    /// Reads and decodes a pack, whole or what is left of it.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn pack(&self, at: Location) -> Result<Pack, Error> {
        let (header, bytes) = self.frame(at, &[Kind::Pack, Kind::Remnant])?;
        let payload = header
            .payload(&bytes[HEADER..])
            .map_err(|e| Self::damaged(at, header.kind.name(), e))?;
        let pack = if header.kind == Kind::Remnant {
            Pack::decode_remnant(at, payload)
        } else {
            Pack::decode(at, payload)
        };
        pack.map_err(Self::malformed(at, header.kind))
    }

    /// Reads a record of one of several kinds as it stands, frame and all, its header checked.
    ///
    /// # Errors
    /// As [`LogReader::read`].
    pub fn frame(&self, at: Location, kinds: &[Kind]) -> Result<(RecordHeader, Vec<u8>), Error> {
        let name = kinds.first().map_or("record", |k| k.name());
        let aligned = at.offset().is_multiple_of(8) && at.offset() as usize >= segment::HEADER;
        if at.segment() == 0 || !(aligned || kinds == [Kind::Left]) {
            return Err(Self::damaged(at, name, "no record can stand there"));
        }
        let segment = match self.file(at.segment()) {
            Ok(segment) => segment,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Self::damaged(at, name, "the segment is missing"));
            }
            Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                return Err(Self::damaged(at, name, e));
            }
            Err(e) => return Err(self.io(at)(e)),
        };
        let file = &segment.file;
        let (offset, length) = match &segment.parts {
            None => (
                u64::from(at.offset()),
                file.metadata().map_err(self.io(at))?.len(),
            ),
            Some(parts) => match parts.offset(at) {
                Some(offset) => (offset, parts.end),
                None => return Err(Error::Changed(self.dir.clone())),
            },
        };
        let available = length.saturating_sub(offset);
        let mut bytes = vec![0u8; FETCH.min(usize::try_from(available).unwrap_or(FETCH))];
        file.read_exact_at(&mut bytes, offset)
            .map_err(self.io(at))?;
        let header = RecordHeader::decode(self.key, at, &bytes, available)
            .map_err(|e| Self::damaged(at, name, e))?;
        if !kinds.contains(&header.kind) {
            return Err(Self::damaged(
                at,
                name,
                format_args!("it is a {}", header.kind.name()),
            ));
        }
        let total = header.total() as usize;
        let have = bytes.len();
        bytes.resize(total, 0);
        if total > have {
            file.read_exact_at(&mut bytes[have..], offset + have as u64)
                .map_err(self.io(at))?;
        }
        Ok((header, bytes))
    }

    /// An error for a payload that is whole but makes no sense.
    pub fn malformed(at: Location, kind: Kind) -> impl FnOnce(Malformed) -> Error {
        move |e| Self::damaged(at, kind.name(), e)
    }

    /// Looks at what stands at `at`, without reading payloads.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn step(&self, mut at: Location) -> Result<Step, Error> {
        loop {
            let number = at.segment();
            let segment = match self.file(number) {
                Ok(segment) => segment,
                Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                    // A gap in the numbers is damage; past the last segment is the end.
                    return Ok(match self.segments_after(number)? {
                        Some(next) => Step::Damage {
                            at,
                            next: parts::start(next),
                            why: format!("segment {number} is missing"),
                        },
                        None => Step::End { at, torn: 0 },
                    });
                }
                Err(e) if e.kind() == std::io::ErrorKind::InvalidData => {
                    let next = self.segments_after(number)?;
                    let next = next.unwrap_or(number.saturating_add(1));
                    return Ok(Step::Damage {
                        at,
                        next: parts::start(next),
                        why: format!("compacted segment: {e}"),
                    });
                }
                Err(e) => return Err(self.io(at)(e)),
            };
            let step = match &segment.parts {
                Some(parts) => self.step_parts(&segment.file, parts, at)?,
                None => self.step_plain(&segment.file, at)?,
            };
            match step {
                Ok(step) => return Ok(step),
                Err(next) => at = next,
            }
        }
    }

    /// In a compacted segment; `Err` is where to look next.
    fn step_parts(
        &self,
        file: &File,
        parts: &Parts,
        at: Location,
    ) -> Result<Result<Step, Location>, Error> {
        let after = parts::start(parts.last.saturating_add(1));
        let Some((place, offset)) = parts.from(at) else {
            return Ok(match self.segments_after(parts.last)? {
                None => Ok(Step::End { at: after, torn: 0 }),
                Some(_) => Err(after),
            });
        };
        let next = parts
            .from(Location(place.0 + 1))
            .map_or(after, |(next, _)| next);
        let mut head = [0u8; HEADER];
        file.read_exact_at(&mut head, offset)
            .map_err(self.io(place))?;
        let header = RecordHeader::decode(self.key, place, &head, parts.end - offset);
        Ok(Ok(match header {
            Ok(header) => Step::Record(Met {
                at: place,
                header,
                next,
            }),
            Err(why) => Step::Damage {
                at: place,
                next,
                why: why.to_string(),
            },
        }))
    }

    /// In a segment as it was written; `Err` is where to look next.
    fn step_plain(&self, file: &File, at: Location) -> Result<Result<Step, Location>, Error> {
        let number = at.segment();
        let after = parts::start(number.saturating_add(1));
        let at = Location::new(number, at.offset().max(segment::HEADER as u32));
        let length = file.metadata().map_err(self.io(at))?.len();
        let offset = u64::from(at.offset());
        if offset as usize == segment::HEADER {
            let mut head = [0u8; segment::HEADER];
            let bad = if length < segment::HEADER as u64 {
                true
            } else {
                file.read_exact_at(&mut head, 0).map_err(self.io(at))?;
                decode_header(&head, segment::MAGIC, number, &self.id).is_err()
            };
            // Records carry their own identity; a damaged header costs nothing but this line.
            if bad && length > segment::HEADER as u64 {
                tracing::debug!("the header of segment {number} is damaged");
            }
        }
        if offset + FRAME as u64 <= length {
            let mut head = [0u8; HEADER];
            file.read_exact_at(&mut head, offset).map_err(self.io(at))?;
            match RecordHeader::decode(self.key, at, &head, length - offset) {
                Ok(header) => {
                    let end = offset + header.total();
                    return Ok(Ok(Step::Record(Met {
                        at,
                        header,
                        next: Location::new(number, end as u32),
                    })));
                }
                Err(why) => {
                    if let Some(next) = self.resync(file, number, offset + 8, length)? {
                        return Ok(Ok(Step::Damage {
                            at,
                            next,
                            why: why.to_string(),
                        }));
                    }
                }
            }
        }
        let torn = length.saturating_sub(offset);
        Ok(match self.segments_after(number)? {
            None => Ok(Step::End { at, torn }),
            Some(next) => {
                let next = parts::start(next);
                if torn == 0 && offset <= length && next == after {
                    Err(next)
                } else {
                    let why = format!("segment {number} ends too early or in something else");
                    Ok(Step::Damage { at, next, why })
                }
            }
        })
    }

    /// The next segment that exists after `number`.
    fn segments_after(&self, number: u32) -> Result<Option<u32>, Error> {
        let next = number.saturating_add(1);
        {
            let open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
            if open.name(next).is_some() {
                return Ok(Some(next));
            }
        }
        if segment_path(&self.dir, next).exists() {
            return Ok(Some(next));
        }
        let names = self.names()?;
        Ok(names
            .into_iter()
            .find(|n| n.1 > number)
            .map(|n| n.0.max(next)))
    }

    /// The files of the log, ascending, without those that were compacted into others.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn names(&self) -> Result<Vec<Name>, Error> {
        file_names(&self.dir).map_err(Error::io("read", self.dir.join("log")))
    }

    /// The first offset from `from` at which a record's header stands.
    fn resync(
        &self,
        file: &File,
        number: u32,
        from: u64,
        length: u64,
    ) -> Result<Option<Location>, Error> {
        const WINDOW: usize = 1 << 20;
        let mut window = Vec::new();
        let mut start = from;
        while start + FRAME as u64 <= length {
            let n = WINDOW.min((length - start) as usize);
            window.resize(n, 0);
            let at = Location::new(number, start as u32);
            file.read_exact_at(&mut window, start)
                .map_err(self.io(at))?;
            let mut i = 0;
            while i + HEADER <= n {
                if window[i..i + 4] == *b"SFRC" {
                    let offset = start + i as u64;
                    let at = Location::new(number, offset as u32);
                    let head = &window[i..i + HEADER];
                    if RecordHeader::decode(self.key, at, head, length - offset).is_ok() {
                        return Ok(Some(at));
                    }
                }
                i += 8;
            }
            if n < WINDOW {
                break;
            }
            start += (n - HEADER) as u64 / 8 * 8;
        }
        Ok(None)
    }
}

/// The files of the log, ascending, without those that were compacted into others.
pub fn file_names(dir: &Path) -> std::io::Result<Vec<Name>> {
    let mut names = match std::fs::read_dir(dir.join("log")) {
        Ok(entries) => entries
            .filter_map(|e| parts::parse_name(e.ok()?.file_name().to_str()?))
            .collect::<Vec<Name>>(),
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => Vec::new(),
        Err(e) => return Err(e),
    };
    // The longest of those that begin together comes first, compacted before plain, and those
    // within it are passed over.
    names.sort_unstable_by_key(|(first, last, compacted)| {
        (*first, std::cmp::Reverse(*last), !compacted)
    });
    let mut end = 0;
    names.retain(|(_, last, _)| {
        let new = *last > end;
        end = end.max(*last);
        new
    });
    Ok(names)
}
