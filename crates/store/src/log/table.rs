//! Page tables of commits: which pages got a version, and where it is.

use super::Location;
use crate::VersionRef;
use crate::bytes::{Cursor, Malformed, put_difference, put_varint};

/// Most entries of one TABLE record.
pub const ENTRIES: usize = 1 << 16;

/// A page and its version.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct PageEntry {
    /// Address space.
    pub space: u32,
    /// Page number.
    pub page: u64,
    /// Its version.
    pub version: VersionRef,
}

/// Encodes entries, which ascend by (space, page).
pub fn encode(entries: &[PageEntry]) -> Vec<u8> {
    let mut packs: Vec<u64> = entries
        .iter()
        .filter(|e| !e.version.is_zero())
        .map(|e| e.version.pack)
        .collect();
    packs.sort_unstable();
    packs.dedup();
    let mut out = Vec::with_capacity(entries.len() * 4 + packs.len() * 6 + 16);
    put_varint(&mut out, entries.len() as u64);
    put_varint(&mut out, packs.len() as u64);
    let mut last = 0;
    for &pack in &packs {
        put_difference(&mut out, last, Location(pack).packed());
        last = Location(pack).packed();
    }
    let (mut space, mut page, mut slot) = (0u32, 0u64, 0u64);
    // Versions of one checkpoint lie in few packs and in runs, so the last one is mostly the next.
    let (mut hint, mut hint_pack) = (0usize, None);
    for e in entries {
        put_varint(&mut out, u64::from(e.space - space));
        put_varint(
            &mut out,
            if e.space == space {
                e.page - page
            } else {
                e.page
            },
        );
        (space, page) = (e.space, e.page);
        if e.version.is_zero() {
            put_varint(&mut out, 0);
            continue;
        }
        if hint_pack != Some(e.version.pack) {
            hint = packs.partition_point(|p| *p < e.version.pack);
            hint_pack = Some(e.version.pack);
        }
        put_varint(&mut out, 1 + hint as u64);
        put_difference(&mut out, slot, u64::from(e.version.slot));
        slot = u64::from(e.version.slot);
    }
    out
}

/// Decodes a table.
///
/// # Errors
/// If it is not a table, or its entries do not ascend.
pub fn decode(payload: &[u8]) -> Result<Vec<PageEntry>, Malformed> {
    let mut c = Cursor::new(payload);
    let n = c.varint_up_to(ENTRIES as u64)?;
    let p = c.varint_up_to(n as u64)?;
    // Each takes at least a byte (packs) or three (entries).
    if c.rest().len() < p + 3 * n {
        return Err(Malformed("a table is shorter than its entries"));
    }
    let mut packs = Vec::with_capacity(p);
    let mut last = 0;
    for _ in 0..p {
        last = c.difference(last)?;
        packs.push(Location::unpack(last).ok_or(Malformed("a table names an impossible place"))?);
    }
    let mut entries = Vec::with_capacity(n);
    let (mut space, mut page, mut slot) = (0u64, 0u64, 0u64);
    for i in 0..n {
        let next_space = c.varint()?;
        let next_page = c.varint()?;
        let overflow = Malformed("a table names an impossible page");
        if next_space == 0 {
            if next_page == 0 && i > 0 {
                return Err(Malformed("a table's entries do not ascend"));
            }
            page = page.checked_add(next_page).ok_or(overflow)?;
        } else {
            space = space.checked_add(next_space).ok_or(overflow)?;
            page = next_page;
        }
        let version = match c.varint_up_to(p as u64)? {
            0 => VersionRef::ZERO,
            i => {
                slot = c.difference(slot)?;
                VersionRef {
                    pack: packs[i - 1].0,
                    slot: u32::try_from(slot).map_err(|_| Malformed("a slot is impossible"))?,
                }
            }
        };
        let space = u32::try_from(space).map_err(|_| overflow)?;
        entries.push(PageEntry {
            space,
            page,
            version,
        });
    }
    if c.is_empty() {
        Ok(entries)
    } else {
        Err(Malformed("a table has bytes after its end"))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn tables_come_back(
            map in prop::collection::btree_map((0u32..3, any::<u64>()), (0u64..9, any::<u32>()), 0..200),
        ) {
            let map: BTreeMap<_, _> = map;
            let entries: Vec<_> = map
                .into_iter()
                .map(|((space, page), (pack, slot))| PageEntry {
                    space,
                    page,
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
    }
}
