//! `checkpoints.tab`: one row per commit, so that listing a long recording reads one file.

use crate::bytes::{Cursor, Malformed};
use crate::check::Key;
use crate::log::Location;
use crate::log::commit::{decode_tick, encode_tick};
use crate::log::segment;
use stillframe_image::{CheckpointId, Tick};

/// Name of the file.
pub const NAME: &str = "checkpoints.tab";
/// Its name while it is being written anew.
pub const TEMPORARY: &str = "checkpoints.tmp";
/// Magic of the file.
pub const MAGIC: [u8; 8] = *b"STILLTAB";
/// Bytes of a row.
pub const ROW: usize = 176;

/// One committed checkpoint, as listed.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Row {
    /// Number.
    pub id: CheckpointId,
    /// Account of the tick.
    pub tick: Tick,
    /// Bytes it added to the log.
    pub stored_bytes: u64,
    /// Bytes of the pages put into it.
    pub raw_bytes: u64,
}

/// A row with what binds it to the log.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct FullRow {
    /// What is shown.
    pub row: Row,
    /// Where the commit is.
    pub commit: Location,
    /// The check of its payload.
    pub check: u64,
}

/// The file's header.
pub fn header(id: &[u8; 16]) -> [u8; segment::HEADER] {
    segment::encode_header(MAGIC, ROW as u32, id)
}

/// Where the `number`-th row stands in the file.
pub const fn offset(number: u64) -> u64 {
    segment::HEADER as u64 + number * ROW as u64
}

/// Decodes whichever row stands there.
///
/// # Errors
/// If it is none.
pub fn decode_any(key: Key, bytes: &[u8]) -> Result<FullRow, Malformed> {
    let number = Cursor::new(bytes).u64()?;
    decode(key, number, bytes)
}

/// Encodes row `number`.
pub fn encode(key: Key, number: u64, full: &FullRow) -> [u8; ROW] {
    let mut out = [0u8; ROW];
    let words = [
        full.row.id.0,
        full.commit.0,
        full.row.stored_bytes,
        full.row.raw_bytes,
    ];
    for (i, v) in words.into_iter().enumerate() {
        crate::bytes::set_u64(&mut out, 8 * i, v);
    }
    out[32..160].copy_from_slice(&encode_tick(&full.row.tick));
    crate::bytes::set_u64(&mut out, 160, full.check);
    let sum = key.at(number, &out[..168]);
    crate::bytes::set_u64(&mut out, 168, sum);
    out
}

/// Decodes row `number`.
///
/// # Errors
/// If it is not that row.
pub fn decode(key: Key, number: u64, bytes: &[u8]) -> Result<FullRow, Malformed> {
    let bytes: [u8; ROW] = Cursor::new(bytes).array()?;
    let mut c = Cursor::new(&bytes);
    let (id, commit, stored_bytes, raw_bytes) = (c.u64()?, c.u64()?, c.u64()?, c.u64()?);
    let tick = decode_tick(&mut c)?;
    let check = c.u64()?;
    if key.at(number, &bytes[..168]) != c.u64()? || id != number {
        return Err(Malformed("the check of a row is wrong"));
    }
    let row = Row {
        id: CheckpointId(id),
        tick,
        stored_bytes,
        raw_bytes,
    };
    Ok(FullRow {
        row,
        commit: Location(commit),
        check,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rows_come_back_and_are_bound_to_their_number() {
        let key = Key::new(&[1; 16]);
        let tick = Tick {
            at_ns: 5,
            dirty_pages: 9,
            ..Tick::default()
        };
        let row = Row {
            id: CheckpointId(7),
            tick,
            stored_bytes: 2,
            raw_bytes: 3,
        };
        let full = FullRow {
            row,
            commit: Location::new(1, 48),
            check: 77,
        };
        let bytes = encode(key, 7, &full);
        assert_eq!(decode(key, 7, &bytes).unwrap(), full);
        assert!(decode(key, 8, &bytes).is_err());
        for bit in 0..ROW * 8 {
            let mut bad = bytes;
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(key, 7, &bad).is_err());
        }
    }
}
