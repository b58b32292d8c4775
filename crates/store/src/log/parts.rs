//! Compacted segments: what is left of a range of segments, in one file.
//!
//! A record keeps its location for ever: `log/<first>-<last>.seg` holds the records that remain of
//! segments first to last, and a directory says where each of them stands in the file. So nothing
//! that refers to a record has to be rewritten when records beside it go, the checks (which bind a
//! record to its location) stay right, and a reader that still holds the old files open reads the
//! same bytes as one that opens the new.

use super::segment::{HEADER, encode_header};
use super::{Location, record};
use crate::bytes::{Cursor, Malformed, set_u32, set_u64};
use crate::check::Key;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};

/// Magic of the file.
pub const MAGIC: [u8; 8] = *b"STILLCPT";
const TRAILER: usize = 48;
const LINE: usize = 16;
/// What seeds the check of the directory and of the trailer.
const DIRECTORY: u64 = u64::MAX - 1;

/// Path of the compacted segments `first` to `last`.
pub fn path(dir: &Path, first: u32, last: u32) -> PathBuf {
    dir.join("log").join(format!("{first:08}-{last:08}.seg"))
}

/// The range in a file name of the log: a plain segment is a range of one.
pub fn parse_name(name: &str) -> Option<(u32, u32, bool)> {
    let stem = name.strip_suffix(".seg")?;
    let number = |s: &str| {
        let fits = s.len() >= 8 && s.bytes().all(|b| b.is_ascii_digit());
        fits.then(|| s.parse::<u32>().ok())
            .flatten()
            .filter(|n| *n > 0)
    };
    match stem.split_once('-') {
        None => number(stem).map(|n| (n, n, false)),
        Some((first, last)) => {
            let (first, last) = (number(first)?, number(last)?);
            (first <= last).then_some((first, last, true))
        }
    }
}

/// The directory of a compacted segment.
#[derive(Debug)]
pub struct Parts {
    /// First segment.
    pub first: u32,
    /// Last segment.
    pub last: u32,
    /// Location of each record, ascending, and its offset in the file.
    pub records: Vec<(Location, u64)>,
    /// Where the records end in the file.
    pub end: u64,
}

impl Parts {
    /// Where a record stands in the file.
    pub fn offset(&self, at: Location) -> Option<u64> {
        let i = self.records.binary_search_by_key(&at, |r| r.0).ok()?;
        self.records.get(i).map(|r| r.1)
    }

    /// The first record at or after a location.
    pub fn from(&self, at: Location) -> Option<(Location, u64)> {
        let i = self.records.partition_point(|r| r.0 < at);
        self.records.get(i).copied()
    }

    /// Encodes what follows the records.
    pub fn encode(&self, key: Key) -> Vec<u8> {
        let mut out = Vec::with_capacity(self.records.len() * LINE + TRAILER);
        for (at, offset) in &self.records {
            out.extend_from_slice(&at.0.to_le_bytes());
            out.extend_from_slice(&offset.to_le_bytes());
        }
        let mut trailer = [0u8; TRAILER];
        set_u64(&mut trailer, 0, self.end);
        set_u64(&mut trailer, 8, self.records.len() as u64);
        set_u32(&mut trailer, 16, self.first);
        set_u32(&mut trailer, 20, self.last);
        set_u64(&mut trailer, 24, key.at(DIRECTORY, &out));
        let sum = key.at(DIRECTORY, &trailer[..32]);
        set_u64(&mut trailer, 32, sum);
        trailer[40..].copy_from_slice(&MAGIC);
        out.extend_from_slice(&trailer);
        out
    }

    /// The bytes before the records.
    pub fn head(first: u32, id: &[u8; 16]) -> [u8; HEADER] {
        encode_header(MAGIC, first, id)
    }

    /// Reads the directory of a file that is named as `first` to `last`.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn read(file: &File, key: Key, first: u32, last: u32) -> std::io::Result<Self> {
        let bad = |e: Malformed| std::io::Error::new(std::io::ErrorKind::InvalidData, e);
        let length = file.metadata()?.len();
        let at = length
            .checked_sub(TRAILER as u64)
            .filter(|at| *at >= HEADER as u64)
            .ok_or_else(|| bad(Malformed("it is too short")))?;
        let mut trailer = [0u8; TRAILER];
        file.read_exact_at(&mut trailer, at)?;
        let (end, count, sum) = decode_trailer(&trailer, key, first, last).map_err(bad)?;
        let bytes = count.checked_mul(LINE as u64);
        if end < HEADER as u64 || bytes.and_then(|n| n.checked_add(end)) != Some(at) {
            return Err(bad(Malformed("its directory is not where it should be")));
        }
        let mut directory = vec![0u8; (at - end) as usize];
        file.read_exact_at(&mut directory, end)?;
        if key.at(DIRECTORY, &directory) != sum {
            return Err(bad(Malformed("the check of its directory is wrong")));
        }
        decode_directory(&directory, first, last, end).map_err(bad)
    }
}

fn decode_trailer(
    bytes: &[u8; TRAILER],
    key: Key,
    first: u32,
    last: u32,
) -> Result<(u64, u64, u64), Malformed> {
    let mut c = Cursor::new(bytes);
    let (end, count) = (c.u64()?, c.u64()?);
    let (from, to, sum) = (c.u32()?, c.u32()?, c.u64()?);
    if c.u64()? != key.at(DIRECTORY, &bytes[..32]) || c.array::<8>()? != MAGIC {
        return Err(Malformed("the check of its end is wrong"));
    }
    if (from, to) != (first, last) {
        return Err(Malformed("it has another's name"));
    }
    Ok((end, count, sum))
}

fn decode_directory(bytes: &[u8], first: u32, last: u32, end: u64) -> Result<Parts, Malformed> {
    let mut records: Vec<(Location, u64)> = Vec::with_capacity(bytes.len() / LINE);
    let mut c = Cursor::new(bytes);
    while !c.is_empty() {
        let (at, offset) = (Location(c.u64()?), c.u64()?);
        let inside = (first..=last).contains(&at.segment());
        let fits = offset >= HEADER as u64 && offset.saturating_add(record::FRAME as u64) <= end;
        let ascends = records.last().is_none_or(|r| r.0 < at && r.1 < offset);
        if !inside || !fits || !ascends {
            return Err(Malformed("its directory makes no sense"));
        }
        records.push((at, offset));
    }
    Ok(Parts {
        first,
        last,
        records,
        end,
    })
}

/// Where reading a segment begins: before its leftovers, if it is a compacted one.
pub const fn start(segment: u32) -> Location {
    Location::new(segment, 0)
}

/// The place of the n-th record of leftovers ([`record::Kind::Left`]) of a file: no other record
/// can stand at a location that is no multiple of 8.
pub const fn left_location(first: u32, n: u32) -> Location {
    Location::new(first, 8 * n + 1)
}
