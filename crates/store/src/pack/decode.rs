//! Reading packs, and following chains of differences to a page's content.

use super::{CHAIN, SLOTS, delta};
use crate::bytes::{Cursor, Malformed, Page, ZERO_PAGE, put_difference, put_varint};
use crate::check::page_check;
use crate::log::Location;
use crate::{Error, VersionRef};
use std::sync::Arc;

/// A decoded pack.
#[derive(Debug)]
pub struct Pack {
    at: Location,
    bytes: Vec<u8>,
    /// Other packs referred to.
    packs: Vec<u64>,
    slots: Vec<Slot>,
    /// In a remnant the number of each slot, ascending; empty if none is missing.
    numbers: Vec<u32>,
    /// Where the checks begin in the payload.
    checks: usize,
}

/// One version of a pack.
struct Version<'a> {
    base: Base,
    body: &'a [u8],
    check: u32,
}

/// Kept small: a cache of packs of differences is mostly these.
#[derive(Clone, Copy, Debug)]
struct Slot {
    /// As on disk: 0 none, 1 zeros, 2 this pack, 3+i the i-th of the list.
    base: u32,
    base_slot: u32,
    /// Where the body begins in the payload.
    start: u32,
}

#[derive(Clone, Copy, Debug)]
enum Base {
    None,
    Version(VersionRef),
}

impl Pack {
    /// Decodes the payload of the PACK record at `at`.
    ///
    /// # Errors
    /// If it is malformed, or refers to what does not lie before it.
    pub fn decode(at: Location, bytes: Vec<u8>) -> Result<Self, Malformed> {
        Self::decode_any(at, bytes, false)
    }

    /// Decodes the payload of the REMNANT record at `at`: what is left of a pack.
    ///
    /// # Errors
    /// As [`Pack::decode`].
    pub fn decode_remnant(at: Location, bytes: Vec<u8>) -> Result<Self, Malformed> {
        Self::decode_any(at, bytes, true)
    }

    fn decode_any(at: Location, bytes: Vec<u8>, remnant: bool) -> Result<Self, Malformed> {
        let mut c = Cursor::new(&bytes);
        let n = c.varint_up_to(SLOTS as u64)?;
        let b = c.varint_up_to(n as u64)?;
        // A pack takes at least one byte for each base and six for each version.
        if n == 0 || c.rest().len() < b + 6 * n {
            return Err(Malformed("it is shorter than its versions"));
        }
        let mut packs = Vec::with_capacity(b);
        let mut last = 0;
        for _ in 0..b {
            last = c.difference(last)?;
            let pack = Location::unpack(last).ok_or(Malformed("it names an impossible place"))?;
            if pack >= at {
                return Err(Malformed("it refers to what does not lie before it"));
            }
            packs.push(pack.0);
        }
        let mut slots: Vec<Slot> = Vec::with_capacity(n);
        let mut numbers: Vec<u32> = Vec::with_capacity(if remnant { n } else { 0 });
        let (mut slot, mut start, mut number) = (0u64, 0u32, 0u32);
        for i in 0..n {
            if remnant {
                let skipped = c.varint_up_to(SLOTS as u64 - 1 - u64::from(number.min(65_535)))?;
                number += skipped as u32;
                numbers.push(number);
            } else {
                number = i as u32;
            }
            let base = c.varint_up_to(2 + b as u64)? as u32;
            if base >= 2 {
                slot = c.difference(slot)?;
            }
            let base_slot = u32::try_from(slot).map_err(|_| Malformed("a slot is impossible"))?;
            if base == 2 && base_slot >= number {
                return Err(Malformed("it refers to what does not lie before it"));
            }
            let length = c.varint_up_to(2 << 20)? as u32;
            if base == 0 && length as usize != ZERO_PAGE.len() {
                return Err(Malformed("a keyframe is not a page long"));
            }
            slots.push(Slot {
                base,
                base_slot,
                start,
            });
            start = start
                .checked_add(length)
                .ok_or(Malformed("it is too long"))?;
            number += 1;
        }
        let checks = bytes.len() - c.rest().len();
        c.take(4 * n)?;
        if c.rest().len() != start as usize {
            return Err(Malformed("its versions have another length"));
        }
        let offset = (bytes.len() - start as usize) as u32;
        for slot in &mut slots {
            slot.start += offset;
        }
        Ok(Self {
            at,
            bytes,
            packs,
            slots,
            numbers,
            checks,
        })
    }

    /// The numbers of its slots, ascending.
    pub fn numbers(&self) -> impl DoubleEndedIterator<Item = u32> + '_ {
        (0..self.slots.len()).map(|i| self.numbers.get(i).copied().unwrap_or(i as u32))
    }

    /// Bytes of the body of a slot, and the version it is a difference against, if any.
    ///
    /// # Errors
    /// If it has no such slot.
    pub fn describe(&self, number: u32) -> Result<(usize, Option<VersionRef>), Error> {
        let version = self.version(number)?;
        let base = match version.base {
            Base::None => None,
            Base::Version(base) => Some(base),
        };
        Ok((version.body.len(), base))
    }

    /// The payload of a REMNANT with the slots given, which ascend.
    ///
    /// # Errors
    /// If it has not all of them.
    pub fn remnant(&self, keep: &[u32]) -> Result<Vec<u8>, Error> {
        let mut packs = Vec::new();
        for number in keep {
            if let (_, Some(base)) = self.describe(*number)?
                && !base.is_zero()
                && base.pack != self.at.0
            {
                packs.push(base.pack);
            }
        }
        packs.sort_unstable();
        packs.dedup();
        let mut out = Vec::new();
        put_varint(&mut out, keep.len() as u64);
        put_varint(&mut out, packs.len() as u64);
        let mut last = 0;
        for &pack in &packs {
            put_difference(&mut out, last, Location(pack).packed());
            last = Location(pack).packed();
        }
        let (mut slot, mut next) = (0, 0);
        for number in keep {
            put_varint(&mut out, u64::from(number - next));
            next = number + 1;
            let (length, base) = self.describe(*number)?;
            let code = match base {
                None => 0,
                Some(base) if base.is_zero() => 1,
                Some(base) if base.pack == self.at.0 => 2,
                Some(base) => 3 + packs.partition_point(|p| *p < base.pack) as u64,
            };
            put_varint(&mut out, code);
            if let Some(base) = base.filter(|_| code >= 2) {
                put_difference(&mut out, slot, u64::from(base.slot));
                slot = u64::from(base.slot);
            }
            put_varint(&mut out, length as u64);
        }
        for number in keep {
            out.extend_from_slice(&self.version(*number)?.check.to_le_bytes());
        }
        for number in keep {
            out.extend_from_slice(self.version(*number)?.body);
        }
        Ok(out)
    }

    /// How many versions it has.
    pub fn len(&self) -> u32 {
        self.slots.len() as u32
    }

    /// Whether its versions are long on the whole: keyframes rather than differences.
    pub fn is_mostly_whole(&self) -> bool {
        self.bytes.len() > 1024 * self.slots.len()
    }

    /// Bytes of memory it takes.
    pub fn memory(&self) -> usize {
        self.bytes.capacity()
            + self.slots.capacity() * size_of::<Slot>()
            + self.numbers.capacity() * 4
            + 128
    }

    fn version(&self, number: u32) -> Result<Version<'_>, Error> {
        let place = if self.numbers.is_empty() {
            Some(number as usize)
        } else {
            self.numbers.binary_search(&number).ok()
        };
        place
            .and_then(|i| self.find(i))
            .ok_or_else(|| Error::Damaged(format!("the pack in {} has no slot {number}", self.at)))
    }

    fn find(&self, i: usize) -> Option<Version<'_>> {
        let slot = self.slots.get(i)?;
        let end = self
            .slots
            .get(i + 1)
            .map_or(self.bytes.len(), |next| next.start as usize);
        let body = self.bytes.get(slot.start as usize..end)?;
        let check = self.bytes.get(self.checks + 4 * i..)?.first_chunk()?;
        let base = match slot.base {
            0 => Base::None,
            1 => Base::Version(VersionRef::ZERO),
            code => {
                let pack = match code.checked_sub(3) {
                    None => self.at.0,
                    Some(i) => *self.packs.get(i as usize)?,
                };
                Base::Version(VersionRef {
                    pack,
                    slot: slot.base_slot,
                })
            }
        };
        Some(Version {
            base,
            body,
            check: u32::from_le_bytes(*check),
        })
    }
}

/// Where packs come from: the log through a cache, or a test.
pub trait Packs {
    /// The pack at a place.
    ///
    /// # Errors
    /// If it cannot be read or is damaged.
    fn pack(&self, at: Location) -> Result<Arc<Pack>, Error>;
}

/// Contents at hand. Versions of a page are mostly stored against few others of it, so whoever reads
/// many of them spares decoding those again and again.
pub trait Bases {
    /// Copies the content of a version, if it is at hand; whether it was.
    fn find(&mut self, version: VersionRef, out: &mut Page) -> bool;
    /// The verified content of a version on which others stand.
    fn keep(&mut self, version: VersionRef, content: &Page);
}

/// Nothing is at hand.
pub struct NoBases;

impl Bases for NoBases {
    fn find(&mut self, _: VersionRef, _: &mut Page) -> bool {
        false
    }

    fn keep(&mut self, _: VersionRef, _: &Page) {}
}

/// Rebuilds the content of a version, from the nearest of its bases that is at hand, and verifies it.
///
/// # Errors
/// If a pack of the chain is damaged, the chain is too long, or the content fails its check.
pub fn content(
    packs: &dyn Packs,
    version: VersionRef,
    bases: &mut dyn Bases,
    out: &mut Page,
) -> Result<(), Error> {
    if version.is_zero() {
        *out = ZERO_PAGE;
        return Ok(());
    }
    let wrong = |why: &str| {
        let at = Location(version.pack);
        Error::Damaged(format!(
            "the page version in slot {} of the pack in {at}: {why}",
            version.slot
        ))
    };
    let mut chain: Vec<(Arc<Pack>, u32)> = Vec::new();
    let mut next = version;
    let mut expected = None;
    loop {
        if chain.len() > CHAIN {
            return Err(wrong("its chain is too long"));
        }
        let pack = match chain.last() {
            Some((last, _)) if last.at.0 == next.pack => Arc::clone(last),
            _ => packs.pack(Location(next.pack))?,
        };
        let Version { base, body, check } = pack.version(next.slot)?;
        expected.get_or_insert(check);
        match base {
            Base::None => {
                out.copy_from_slice(body);
                if !chain.is_empty() && check == page_check(out) {
                    bases.keep(next, out);
                }
                break;
            }
            Base::Version(base) => {
                chain.push((pack, next.slot));
                if base.is_zero() {
                    *out = ZERO_PAGE;
                    break;
                }
                if bases.find(base, out) {
                    break;
                }
                next = base;
            }
        }
    }
    for (pack, slot) in chain.iter().rev() {
        delta::apply(pack.version(*slot)?.body, out).map_err(|e| wrong(e.0))?;
    }
    if expected == Some(page_check(out)) {
        Ok(())
    } else {
        Err(wrong("its content fails its check"))
    }
}

#[cfg(test)]
mod tests {
    use super::super::encode::PackBuilder;
    use super::*;
    use std::collections::HashMap;
    use stillframe_image::PAGE_SIZE;

    struct Held(HashMap<u64, Arc<Pack>>);

    impl Packs for Held {
        fn pack(&self, at: Location) -> Result<Arc<Pack>, Error> {
            self.0
                .get(&at.0)
                .cloned()
                .ok_or_else(|| Error::Damaged(at.to_string()))
        }
    }

    /// Contents, and how often one of them was of use.
    struct Few(HashMap<VersionRef, Page>, u32);

    impl Bases for Few {
        fn find(&mut self, version: VersionRef, out: &mut Page) -> bool {
            let found = self.0.get(&version);
            self.1 += u32::from(found.is_some());
            found.is_some_and(|page| {
                *out = *page;
                true
            })
        }

        fn keep(&mut self, version: VersionRef, content: &Page) {
            self.0.insert(version, *content);
        }
    }

    #[test]
    fn chains_within_and_across_packs() {
        let (a, b) = (Location::new(1, 40), Location::new(1, 4000));
        let mut builder = PackBuilder::default();
        let mut held = Held(HashMap::new());
        let mut page = ZERO_PAGE;
        let mut want = Vec::new();
        let mut last = VersionRef::ZERO;
        for place in [a, b] {
            builder.place(place);
            for step in 0..20u8 {
                let old = page;
                page[usize::from(step) * 9] = step + 1;
                page[4000] = (place.0 as u8).wrapping_add(step);
                let mut d = Vec::new();
                delta::encode(&delta::changed(&old, &page), Some(&old), &page, &mut d);
                last = builder.delta(last, &d, &page);
                want.push((last, page));
            }
            let key = builder.keyframe(&page);
            want.push((key, page));
            held.0.insert(
                place.0,
                Arc::new(Pack::decode(place, builder.finish()).unwrap()),
            );
        }
        let mut bases = Few(HashMap::new(), 0);
        for (version, page) in &want {
            let mut out = ZERO_PAGE;
            content(&held, *version, &mut bases, &mut out).unwrap();
            assert!(out == *page);
            bases.0.insert(*version, out);
        }
        // Every one but the first is one step from the one before.
        assert!(bases.1 > 30, "{} bases were at hand", bases.1);
        // What is at hand is believed, and so what stands on it is checked all the same.
        let wrong = want.iter().map(|(v, _)| (*v, [7; PAGE_SIZE])).collect();
        let mut wrong = Few(wrong, 0);
        let mut out = ZERO_PAGE;
        assert!(content(&held, want[10].0, &mut wrong, &mut out).is_err());
        for (version, page) in want {
            let mut out = ZERO_PAGE;
            content(&held, version, &mut NoBases, &mut out).unwrap();
            assert!(out == page);
        }
        let none = VersionRef {
            pack: a.0,
            slot: 99,
        };
        assert!(content(&held, none, &mut NoBases, &mut page).is_err());
    }

    #[test]
    fn a_pack_cannot_refer_forward_or_to_itself() {
        let at = Location::new(1, 40);
        let mut builder = PackBuilder::default();
        builder.place(at);
        let later = VersionRef {
            pack: Location::new(1, 48).0,
            slot: 0,
        };
        builder.delta(later, &[], &ZERO_PAGE);
        assert!(Pack::decode(at, builder.finish()).is_err());
        let itself = VersionRef {
            pack: at.0,
            slot: 0,
        };
        builder.delta(itself, &[], &ZERO_PAGE);
        assert!(Pack::decode(at, builder.finish()).is_err());
    }
}
