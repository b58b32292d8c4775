//! Segments: the files that hold the records, and the writer that fills them.

use super::record::{self, Kind};
use super::{Location, segment_path};
use crate::Error;
use crate::bytes::{Cursor, Malformed, set_u32, set_u64};
use crate::check::{Key, check};
use crate::files::{Files, Output};
use std::path::PathBuf;
use std::sync::Arc;

/// Bytes before the first record.
pub const HEADER: usize = 40;
/// Version of the format.
pub const FORMAT: u32 = 2;
/// A record never begins at or beyond this offset, so that offsets fit 32 bits.
const HIGHEST: u64 = (1 << 32) - (256 << 20);

/// The forty bytes that begin segments and the checkpoint table.
pub fn encode_header(magic: [u8; 8], number: u32, id: &[u8; 16]) -> [u8; HEADER] {
    let mut out = [0u8; HEADER];
    out[..8].copy_from_slice(&magic);
    set_u32(&mut out, 8, FORMAT);
    set_u32(&mut out, 12, number);
    out[16..32].copy_from_slice(id);
    let sum = check(0, &out[..32]);
    set_u64(&mut out, 32, sum);
    out
}

/// Checks such a header.
///
/// # Errors
/// If it is another's.
pub fn decode_header(
    bytes: &[u8],
    magic: [u8; 8],
    number: u32,
    id: &[u8; 16],
) -> Result<(), Malformed> {
    let head: [u8; HEADER] = Cursor::new(bytes).array()?;
    if head == encode_header(magic, number, id) {
        Ok(())
    } else {
        Err(Malformed("its header is not this recording's"))
    }
}

/// Magic of a segment.
pub const MAGIC: [u8; 8] = *b"STILLSEG";

/// Payloads from this length on are sampled before they are compressed.
const SAMPLED: usize = 32 << 10;
/// Bytes of a sample.
const SAMPLE: usize = 4096;

/// Compresses payloads where that helps.
pub struct Packer {
    context: zstd::bulk::Compressor<'static>,
    buffer: Vec<u8>,
}

impl std::fmt::Debug for Packer {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Packer").finish_non_exhaustive()
    }
}

impl Packer {
    /// At a zstd level.
    pub fn new(level: i32) -> std::io::Result<Self> {
        Ok(Self {
            context: zstd::bulk::Compressor::new(level)?,
            buffer: Vec::new(),
        })
    }

    /// The compressed bytes, or `None` if that does not save at least a thirty-second.
    pub fn compress(&mut self, raw: &[u8]) -> Option<&[u8]> {
        if raw.len() < 32 {
            return None;
        }
        if raw.len() >= SAMPLED && self.is_noise(raw) {
            return None;
        }
        self.buffer.clear();
        // zstd gives up by itself once the output would not fit.
        self.buffer.reserve(raw.len() - raw.len() / 32);
        let limit = raw.len() - raw.len() / 32;
        match self.context.compress_to_buffer(raw, &mut self.buffer) {
            Ok(n) if n < limit => Some(&self.buffer),
            _ => None,
        }
    }

    /// Whether samples from the beginning, the middle and the end do not compress at all.
    fn is_noise(&mut self, raw: &[u8]) -> bool {
        [0, raw.len() / 2, raw.len() - SAMPLE]
            .into_iter()
            .all(|at| {
                let sample = raw.get(at..at + SAMPLE).unwrap_or_default();
                self.buffer.clear();
                self.buffer.reserve(SAMPLE + 512);
                let done = self.context.compress_to_buffer(sample, &mut self.buffer);
                done.is_ok_and(|n| n >= SAMPLE - SAMPLE / 32)
            })
    }

    /// Bytes held.
    pub fn memory(&self) -> usize {
        self.buffer.capacity() + (1 << 20)
    }
}

/// Appends records.
///
/// Where the next record will stand is known before it is written ([`LogWriter::next`]), which is
/// what lets page versions refer to others of a pack still being filled.
#[derive(Debug)]
pub struct LogWriter {
    dir: PathBuf,
    files: Arc<dyn Files>,
    id: [u8; 16],
    key: Key,
    limit: u64,
    segment: u32,
    file: Arc<dyn Output>,
    /// End of the current segment, what is buffered included.
    end: u64,
    /// What has been appended and not written yet; it ends at `end`.
    buffer: Vec<u8>,
    /// Where the last commit ended; an error cuts back to here.
    committed: (u32, u64),
    packer: Packer,
    /// Bytes appended in all.
    appended: u64,
    /// The segment is closed although it is shorter than the limit.
    closed: bool,
}

impl LogWriter {
    /// Begins the log with its first segment.
    pub fn create(
        dir: PathBuf,
        files: Arc<dyn Files>,
        id: [u8; 16],
        limit: u64,
        level: i32,
    ) -> Result<Self, Error> {
        let path = segment_path(&dir, 1);
        let file = files.create(&path).map_err(Error::io("create", &path))?;
        let packer = Packer::new(level).map_err(Error::io("set up compression for", &path))?;
        let mut log = Self {
            dir,
            files,
            id,
            key: Key::new(&id),
            limit: limit.clamp(HEADER as u64 + 1, HIGHEST),
            segment: 1,
            file,
            end: 0,
            buffer: Vec::new(),
            committed: (1, HEADER as u64),
            packer,
            appended: 0,
            closed: false,
        };
        log.head();
        Ok(log)
    }

    fn head(&mut self) {
        self.buffer
            .extend_from_slice(&encode_header(MAGIC, self.segment, &self.id));
        self.end = HEADER as u64;
    }

    /// Where the next record will stand.
    pub fn next(&self) -> Location {
        if self.end >= self.limit || self.closed {
            Location::new(self.segment + 1, HEADER as u32)
        } else {
            Location::new(self.segment, self.end as u32)
        }
    }

    /// Appends a record; it may stay in memory until [`LogWriter::write`]. Returns its location and
    /// the check of its payload.
    pub fn append(&mut self, kind: Kind, payload: &[u8]) -> Result<(Location, u64), Error> {
        if payload.len() > kind.limit() {
            return Err(Error::TooLarge(kind.name()));
        }
        let at = self.next();
        if at.segment() != self.segment {
            self.write()?;
            let path = segment_path(&self.dir, at.segment());
            self.file = self
                .files
                .create(&path)
                .map_err(Error::io("create", &path))?;
            self.segment = at.segment();
            self.closed = false;
            self.head();
        }
        let before = self.buffer.len();
        let packed = match kind {
            Kind::Commit | Kind::Summary => None,
            _ => self.packer.compress(payload),
        };
        let sum = match packed {
            Some(p) => record::encode(
                self.key,
                at,
                kind,
                p,
                Some(payload.len() as u32),
                &mut self.buffer,
            ),
            None => record::encode(self.key, at, kind, payload, None, &mut self.buffer),
        };
        let grown = (self.buffer.len() - before) as u64;
        self.end += grown;
        self.appended += grown;
        Ok((at, sum))
    }

    /// Hands everything appended to the system.
    pub fn write(&mut self) -> Result<(), Error> {
        if self.buffer.is_empty() {
            return Ok(());
        }
        let at = self.end - self.buffer.len() as u64;
        self.file
            .write_at(at, &self.buffer)
            .map_err(Error::io("write", segment_path(&self.dir, self.segment)))?;
        self.buffer.clear();
        self.buffer.shrink_to(1 << 20);
        Ok(())
    }

    /// Notes that everything written so far is committed.
    pub fn mark(&mut self) {
        self.committed = (self.segment, self.end);
    }

    /// After an error: cuts off what was written since the last commit, as far as possible.
    pub fn cut(&mut self) {
        self.buffer = Vec::new();
        let (segment, end) = self.committed;
        if self.segment == segment {
            if let Err(e) = self.file.truncate(end) {
                tracing::warn!("cannot cut the torn end off segment {segment}: {e}");
            }
        } else {
            // Segments after the committed one hold nothing that counts, but what was written to
            // the committed one is whole records. Emptying the last is all that is called for.
            let _ = self.file.truncate(0);
        }
    }

    /// The file being appended to, and its path.
    pub fn file(&self) -> (Arc<dyn Output>, PathBuf) {
        (
            Arc::clone(&self.file),
            segment_path(&self.dir, self.segment),
        )
    }

    /// Closes the segment: the next record begins another. Only where nothing has been promised a
    /// place at [`LogWriter::next`].
    pub fn close_segment(&mut self) {
        self.closed = true;
    }

    /// Bytes of the segment being appended to.
    pub fn filled(&self) -> u64 {
        self.end
    }

    /// Number of the segment being appended to.
    pub fn segment(&self) -> u32 {
        self.segment
    }

    /// Bytes of records appended in all.
    pub fn appended(&self) -> u64 {
        self.appended
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.buffer.capacity() + self.packer.memory()
    }
}
