//! Reading the log: one record by its place, or one after the other.

use super::record::{FRAME, HEADER, Kind, RecordHeader};
use super::segment::{self, decode_header};
use super::{Location, segment_path};
use crate::Error;
use crate::bytes::Malformed;
use crate::check::Key;
use std::collections::HashMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Segments kept open at once.
const OPEN_FILES: usize = 64;
/// Bytes fetched with a record's header, which for most is all of it.
const FETCH: usize = 4096;

/// The log of a recording, opened for reading.
#[derive(Debug)]
pub struct LogReader {
    dir: PathBuf,
    key: Key,
    id: [u8; 16],
    open: Mutex<HashMap<u32, Arc<File>>>,
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
            open: Mutex::new(HashMap::new()),
        }
    }

    /// The key of its checks.
    pub fn key(&self) -> Key {
        self.key
    }

    /// The first record of the log.
    pub const fn first() -> Location {
        Location::new(1, segment::HEADER as u32)
    }

    fn file(&self, number: u32) -> std::io::Result<Arc<File>> {
        let mut open = self.open.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some(file) = open.get(&number) {
            return Ok(Arc::clone(file));
        }
        let file = Arc::new(File::open(segment_path(&self.dir, number))?);
        if open.len() >= OPEN_FILES {
            open.clear();
        }
        open.insert(number, Arc::clone(&file));
        Ok(file)
    }

    /// Length of a segment; `None` if it is not there.
    pub fn segment_length(&self, number: u32) -> Option<u64> {
        self.file(number)
            .and_then(|f| f.metadata())
            .map(|m| m.len())
            .ok()
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
    /// If it is damaged, or another kind, or the file cannot be read.
    pub fn read(&self, at: Location, kind: Kind) -> Result<(Vec<u8>, u64), Error> {
        let name = kind.name();
        if !at.offset().is_multiple_of(8)
            || (at.offset() as usize) < segment::HEADER
            || at.segment() == 0
        {
            return Err(Self::damaged(at, name, "no record can stand there"));
        }
        let file = match self.file(at.segment()) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(Self::damaged(at, name, "the segment is missing"));
            }
            Err(e) => return Err(self.io(at)(e)),
        };
        let offset = u64::from(at.offset());
        let length = file.metadata().map_err(self.io(at))?.len();
        let available = length.saturating_sub(offset);
        let mut bytes = vec![0u8; FETCH.min(usize::try_from(available).unwrap_or(FETCH))];
        file.read_exact_at(&mut bytes, offset)
            .map_err(self.io(at))?;
        let header = RecordHeader::decode(self.key, at, &bytes, available)
            .map_err(|e| Self::damaged(at, name, e))?;
        if header.kind != kind {
            return Err(Self::damaged(
                at,
                name,
                format_args!("it is a {}", header.kind.name()),
            ));
        }
        let total = header.total() as usize;
        if total > bytes.len() {
            let have = bytes.len();
            bytes.resize(total, 0);
            file.read_exact_at(&mut bytes[have..], offset + have as u64)
                .map_err(self.io(at))?;
        }
        let body = &bytes[HEADER..total];
        let payload = header
            .payload(body)
            .map_err(|e| Self::damaged(at, name, e))?;
        let sum = header
            .payload_check(body)
            .map_err(|e| Self::damaged(at, name, e))?;
        Ok((payload, sum))
    }

    /// An error for a payload that is whole but makes no sense.
    pub fn malformed(at: Location, kind: Kind) -> impl FnOnce(Malformed) -> Error {
        move |e| Self::damaged(at, kind.name(), e)
    }

    /// Looks at what stands at `at`, without reading payloads.
    ///
    /// # Errors
    /// If a file cannot be read.
    pub fn step(&self, at: Location) -> Result<Step, Error> {
        let number = at.segment();
        let after = Location::new(number.saturating_add(1), segment::HEADER as u32);
        let file = match self.file(number) {
            Ok(file) => file,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                // A gap in the numbers is damage; past the last segment is the end.
                return Ok(match self.segments_after(number)? {
                    Some(next) => Step::Damage {
                        at,
                        next: Location::new(next, segment::HEADER as u32),
                        why: format!("segment {number} is missing"),
                    },
                    None => Step::End { at, torn: 0 },
                });
            }
            Err(e) => return Err(self.io(at)(e)),
        };
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
                    return Ok(Step::Record(Met {
                        at,
                        header,
                        next: Location::new(number, end as u32),
                    }));
                }
                Err(why) => {
                    if let Some(next) = self.resync(&file, number, offset + 8, length)? {
                        return Ok(Step::Damage {
                            at,
                            next,
                            why: why.to_string(),
                        });
                    }
                }
            }
        }
        let torn = length.saturating_sub(offset);
        match self.segments_after(number)? {
            None => Ok(Step::End { at, torn }),
            Some(next) => {
                let next = Location::new(next, segment::HEADER as u32);
                if torn == 0 && offset <= length && next == after {
                    self.step(next)
                } else {
                    let why = format!("segment {number} ends too early or in something else");
                    Ok(Step::Damage { at, next, why })
                }
            }
        }
    }

    /// The next segment that exists after `number`.
    fn segments_after(&self, number: u32) -> Result<Option<u32>, Error> {
        let next = number.saturating_add(1);
        if segment_path(&self.dir, next).exists() {
            return Ok(Some(next));
        }
        Ok(self.segments()?.into_iter().find(|n| *n > number))
    }

    /// Numbers of all segments, ascending.
    ///
    /// # Errors
    /// If the directory cannot be read.
    pub fn segments(&self) -> Result<Vec<u32>, Error> {
        let path = self.dir.join("log");
        let entries = match std::fs::read_dir(&path) {
            Ok(entries) => entries,
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => return Ok(Vec::new()),
            Err(e) => return Err(Error::io("read", &path)(e)),
        };
        let mut numbers: Vec<u32> = entries
            .filter_map(|e| {
                let name = e.ok()?.file_name();
                let stem = name.to_str()?.strip_suffix(".seg")?;
                let all_digits = stem.len() >= 8 && stem.bytes().all(|b| b.is_ascii_digit());
                if all_digits {
                    stem.parse().ok().filter(|n| *n > 0)
                } else {
                    None
                }
            })
            .collect();
        numbers.sort_unstable();
        Ok(numbers)
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
