//! Records: the frame around everything in the log.

use super::Location;
use crate::bytes::{Cursor, Malformed, set_u32, set_u64};
use crate::check::{Key, check};
use std::cell::RefCell;
use zstd::bulk::Decompressor;

/// Bytes before the payload.
pub const HEADER: usize = 24;
/// Bytes of a record that are not payload, padding apart.
pub const FRAME: usize = HEADER + 8;

const MAGIC: u32 = u32::from_le_bytes(*b"SFRC");
const VERSION: u16 = 1;
const COMPRESSED: u8 = 1;

/// What a record holds.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
#[repr(u8)]
pub enum Kind {
    /// Page versions.
    Pack = 1,
    /// A part of a checkpoint.
    Section = 2,
    /// Which pages got a version.
    Table = 3,
    /// A checkpoint.
    Commit = 4,
    /// The end.
    Summary = 5,
    /// What is left of a pack.
    Remnant = 6,
    /// What is left of the tables of removed checkpoints.
    Left = 7,
}

impl Kind {
    const ALL: [Self; 7] = [
        Self::Pack,
        Self::Section,
        Self::Table,
        Self::Commit,
        Self::Summary,
        Self::Remnant,
        Self::Left,
    ];

    /// Most bytes of decompressed payload.
    pub const fn limit(self) -> usize {
        match self {
            Self::Pack | Self::Remnant => 2 << 20,
            Self::Section => 64 << 20,
            Self::Table | Self::Left => 4 << 20,
            Self::Commit | Self::Summary => 1 << 20,
        }
    }

    /// What messages call it.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Pack => "pack",
            Self::Section => "section",
            Self::Table => "table",
            Self::Commit => "commit",
            Self::Summary => "summary",
            Self::Remnant => "remnant",
            Self::Left => "leftovers",
        }
    }
}

/// A record's header, its check verified.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct RecordHeader {
    /// What it holds.
    pub kind: Kind,
    /// Whether the payload is a zstd frame.
    pub compressed: bool,
    /// Bytes of payload as stored.
    pub stored: u32,
    /// Bytes of payload when decompressed.
    pub raw: u32,
    /// The header's check, which seeds the payload's.
    pub check: u64,
}

impl RecordHeader {
    /// Bytes of the whole record.
    pub const fn total(&self) -> u64 {
        FRAME as u64 + (self.stored as u64).next_multiple_of(8)
    }

    /// Decodes the header of the record at `at`, of which `available` bytes of segment are left.
    ///
    /// # Errors
    /// If it is none, or lies beyond a limit.
    pub fn decode(key: Key, at: Location, bytes: &[u8], available: u64) -> Result<Self, Malformed> {
        let mut c = Cursor::new(bytes);
        let head: [u8; 16] = c.array()?;
        let stored_check = c.u64()?;
        let mut c = Cursor::new(&head);
        if c.u32()? != MAGIC {
            return Err(Malformed("no record begins there"));
        }
        if key.at(at.0, &head) != stored_check {
            return Err(Malformed("the check of its header is wrong"));
        }
        let number = c.u8()?;
        let flags = c.u8()?;
        let version = u16::from_le_bytes(c.array()?);
        let (stored, raw) = (c.u32()?, c.u32()?);
        let kind = Kind::ALL
            .into_iter()
            .find(|k| *k as u8 == number)
            .ok_or(Malformed(
                "its kind is unknown; a newer version of this program may read it",
            ))?;
        if version != VERSION || flags & !COMPRESSED != 0 {
            return Err(Malformed(
                "its version is unknown; a newer version of this program may read it",
            ));
        }
        let header = Self {
            kind,
            compressed: flags & COMPRESSED != 0,
            stored,
            raw,
            check: stored_check,
        };
        if raw as usize > kind.limit()
            || stored as usize > kind.limit()
            || (!header.compressed && stored != raw)
        {
            return Err(Malformed("its length is beyond the limit of its kind"));
        }
        if header.total() > available {
            return Err(Malformed("it reaches beyond the end of its segment"));
        }
        Ok(header)
    }

    /// Checks and decompresses the payload. `bytes` follow the header: payload, padding, check.
    ///
    /// # Errors
    /// If the check is wrong or it does not decompress to the length it claims.
    pub fn payload(&self, bytes: &[u8]) -> Result<Vec<u8>, Malformed> {
        let mut c = Cursor::new(bytes);
        let stored = c.take(self.stored as usize)?;
        c.take((self.stored as usize).next_multiple_of(8) - self.stored as usize)?;
        if c.u64()? != check(self.check, stored) {
            return Err(Malformed("the check of its payload is wrong"));
        }
        if self.compressed {
            decompress(stored, self.raw as usize)
        } else {
            Ok(stored.to_vec())
        }
    }

    /// Checks the payload of a whole record, without decompressing it.
    ///
    /// # Errors
    /// If the check is wrong.
    pub fn payload_matches(&self, frame: &[u8]) -> Result<(), Malformed> {
        let mut c = Cursor::new(frame);
        c.take(HEADER)?;
        let rest = c.rest();
        let stored = c.take(self.stored as usize)?;
        if self.payload_check(rest)? == check(self.check, stored) {
            Ok(())
        } else {
            Err(Malformed("the check of its payload is wrong"))
        }
    }

    /// The payload's check as stored in `bytes`, which follow the header.
    pub fn payload_check(&self, bytes: &[u8]) -> Result<u64, Malformed> {
        let mut c = Cursor::new(bytes);
        c.take((self.stored as usize).next_multiple_of(8))?;
        c.u64()
    }
}

thread_local! {
    /// Making one takes longer than decompressing a record mostly does.
    static CONTEXT: RefCell<Option<Decompressor<'static>>> = const { RefCell::new(None) };
}

/// Decompresses a zstd frame that must give exactly `raw` bytes.
pub fn decompress(stored: &[u8], raw: usize) -> Result<Vec<u8>, Malformed> {
    let out = CONTEXT
        .with_borrow_mut(|context| {
            let context = match context {
                Some(context) => context,
                none => none.insert(Decompressor::new()?),
            };
            context.decompress(stored, raw)
        })
        .map_err(|_| Malformed("its payload does not decompress"))?;
    if out.len() == raw {
        Ok(out)
    } else {
        Err(Malformed("its payload has another length"))
    }
}

/// Appends the record that is to stand at `at` to `out`; returns the payload's check.
///
/// `raw` is the decompressed length if `payload` is a zstd frame.
pub fn encode(
    key: Key,
    at: Location,
    kind: Kind,
    payload: &[u8],
    raw: Option<u32>,
    out: &mut Vec<u8>,
) -> u64 {
    let stored = payload.len() as u32;
    let mut head = [0u8; HEADER];
    set_u32(&mut head, 0, MAGIC);
    head[4] = kind as u8;
    head[5] = if raw.is_some() { COMPRESSED } else { 0 };
    head[6..8].copy_from_slice(&VERSION.to_le_bytes());
    set_u32(&mut head, 8, stored);
    set_u32(&mut head, 12, raw.unwrap_or(stored));
    let head_check = key.at(at.0, &head[..16]);
    set_u64(&mut head, 16, head_check);
    let payload_check = check(head_check, payload);
    out.extend_from_slice(&head);
    out.extend_from_slice(payload);
    out.resize(
        out.len() + payload.len().next_multiple_of(8) - payload.len(),
        0,
    );
    out.extend_from_slice(&payload_check.to_le_bytes());
    payload_check
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    const AT: Location = Location::new(3, 4096);

    fn key() -> Key {
        Key::new(&[7; 16])
    }

    proptest! {
        #[test]
        fn records_come_back(payload: Vec<u8>) {
            let mut out = Vec::new();
            let sum = encode(key(), AT, Kind::Pack, &payload, None, &mut out);
            let h = RecordHeader::decode(key(), AT, &out, out.len() as u64).unwrap();
            prop_assert_eq!(h.total(), out.len() as u64);
            prop_assert_eq!(h.payload(&out[HEADER..]).unwrap(), payload);
            prop_assert_eq!(h.payload_check(&out[HEADER..]).unwrap(), sum);
        }

        #[test]
        fn a_flipped_bit_is_noticed(payload in prop::collection::vec(any::<u8>(), 1..100), bit: prop::sample::Index) {
            let mut out = Vec::new();
            encode(key(), AT, Kind::Section, &payload, None, &mut out);
            let padding = HEADER + payload.len()..out.len() - 8;
            let bit = bit.index(out.len() * 8);
            out[bit / 8] ^= 1 << (bit % 8);
            let result = RecordHeader::decode(key(), AT, &out, out.len() as u64)
                .and_then(|h| h.payload(&out[HEADER..]));
            prop_assert!(result.is_err() || padding.contains(&(bit / 8)));
        }
    }

    #[test]
    fn a_record_is_bound_to_its_place_and_recording() {
        let mut out = Vec::new();
        encode(key(), AT, Kind::Pack, b"abc", None, &mut out);
        let len = out.len() as u64;
        assert!(RecordHeader::decode(key(), AT, &out, len).is_ok());
        assert!(RecordHeader::decode(key(), Location::new(3, 4104), &out, len).is_err());
        assert!(RecordHeader::decode(Key::new(&[8; 16]), AT, &out, len).is_err());
        assert!(RecordHeader::decode(key(), AT, &out, len - 1).is_err());
    }
}
