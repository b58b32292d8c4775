//! Leftovers: page versions that removed checkpoints made and remaining ones still see.
//!
//! When a removed checkpoint's commit and tables are dropped from the log, those of its entries
//! that are still visible at the next remaining checkpoint are kept in these records, so that the
//! index can still be made again from the log alone.

use crate::VersionRef;
use crate::bytes::{Cursor, Malformed, put_difference, put_varint};
use crate::index::Entry;
use crate::log::Location;

/// Most entries of one record.
pub const ENTRIES: usize = 1 << 16;

/// Encodes entries, which ascend by (space, page, checkpoint).
pub fn encode(entries: &[Entry]) -> Vec<u8> {
    let mut out = Vec::with_capacity(entries.len() * 10 + 8);
    put_varint(&mut out, entries.len() as u64);
    let (mut checkpoint, mut version) = (0u64, VersionRef::ZERO);
    let (mut space, mut page) = (0u32, 0u64);
    for e in entries {
        put_varint(&mut out, u64::from(e.space - space));
        let same = e.space == space;
        put_varint(&mut out, if same { e.page - page } else { e.page });
        put_difference(&mut out, checkpoint, e.checkpoint);
        (space, page, checkpoint) = (e.space, e.page, e.checkpoint);
        if e.version.is_zero() {
            put_varint(&mut out, 0);
            continue;
        }
        let (old, new) = (
            Location(version.pack).packed(),
            Location(e.version.pack).packed(),
        );
        put_varint(&mut out, 1 + crate::bytes::zigzag(old, new));
        put_difference(&mut out, u64::from(version.slot), u64::from(e.version.slot));
        version = e.version;
    }
    out
}

/// Decodes them.
///
/// # Errors
/// If it is none, or the entries do not ascend.
pub fn decode(payload: &[u8]) -> Result<Vec<Entry>, Malformed> {
    let mut c = Cursor::new(payload);
    let n = c.varint_up_to(ENTRIES as u64)?;
    if c.rest().len() < 4 * n {
        return Err(Malformed("it is shorter than its entries"));
    }
    let mut entries: Vec<Entry> = Vec::with_capacity(n);
    let (mut space, mut page, mut checkpoint) = (0u64, 0u64, 0u64);
    let mut version = VersionRef::ZERO;
    let overflow = Malformed("it names an impossible page");
    for _ in 0..n {
        let next_space = c.varint()?;
        let next_page = c.varint()?;
        if next_space == 0 {
            page = page.checked_add(next_page).ok_or(overflow)?;
        } else {
            space = space.checked_add(next_space).ok_or(overflow)?;
            page = next_page;
        }
        checkpoint = c.difference(checkpoint)?;
        let this = match c.varint()? {
            0 => VersionRef::ZERO,
            coded => {
                let pack = crate::bytes::unzigzag(Location(version.pack).packed(), coded - 1);
                let pack =
                    Location::unpack(pack).ok_or(Malformed("it names an impossible place"))?;
                let slot = c.difference(u64::from(version.slot))?;
                version = VersionRef {
                    pack: pack.0,
                    slot: u32::try_from(slot).map_err(|_| Malformed("a slot is impossible"))?,
                };
                version
            }
        };
        let entry = Entry {
            space: u32::try_from(space).map_err(|_| overflow)?,
            page,
            checkpoint,
            version: this,
        };
        if entries.last().is_some_and(|e| e.key() >= entry.key()) {
            return Err(Malformed("its entries do not ascend"));
        }
        entries.push(entry);
    }
    if c.is_empty() {
        Ok(entries)
    } else {
        Err(Malformed("it has bytes after its end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn leftovers_come_back(
            map in prop::collection::btree_map(
                (0u32..3, any::<u64>(), any::<u64>()), (0u64..9, any::<u32>()), 0..200),
        ) {
            let entries: Vec<_> = map
                .into_iter()
                .map(|((space, page, checkpoint), (pack, slot))| Entry {
                    space,
                    page,
                    checkpoint,
                    version: if pack == 0 {
                        VersionRef::ZERO
                    } else {
                        VersionRef { pack: Location::new(1, 40 + pack as u32 * 8).0, slot }
                    },
                })
                .collect();
            let bytes = encode(&entries);
            prop_assert_eq!(decode(&bytes).unwrap(), entries);
        }

        #[test]
        fn any_bytes_are_refused_or_understood(bytes: Vec<u8>) {
            let _ = decode(&bytes);
        }
    }
}
