//! Sealed runs: building one, and finding entries in one.

use super::Entry;
use crate::VersionRef;
use crate::bytes::{Cursor, Malformed, put_difference, put_varint, set_u32, set_u64};
use crate::check::{Key, check};
use crate::log::Location;
use crate::log::segment::FORMAT;
use std::collections::VecDeque;
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

const MAGIC: [u8; 8] = *b"STILLRUN";
const HEADER: usize = 56;
const TRAILER: usize = 48;
/// Bytes of entries after which a block is closed.
const BLOCK: usize = 4096;
/// Longest block that a reader takes.
const LONGEST: u32 = 64 << 10;
/// Bytes of a block's line in the footer.
const LINE: usize = 32;
/// Decoded blocks kept for each run.
const KEPT: usize = 8;

/// Path of the run of a range of checkpoints.
pub fn path(dir: &Path, first: u64, last: u64) -> PathBuf {
    dir.join("index")
        .join(format!("{first:016x}-{last:016x}.run"))
}

/// The range in a run's file name.
pub fn parse_name(name: &str) -> Option<(u64, u64)> {
    let (first, last) = name.strip_suffix(".run")?.split_once('-')?;
    let number = |s: &str| {
        let fits = s.len() == 16
            && s.bytes()
                .all(|b| b.is_ascii_digit() || b.is_ascii_lowercase());
        fits.then(|| u64::from_str_radix(s, 16).ok()).flatten()
    };
    let (first, last) = (number(first)?, number(last)?);
    (first <= last).then_some((first, last))
}

/// First entry of a block and where it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct BlockInfo {
    key: (u32, u64, u64),
    offset: u64,
    length: u32,
}

/// Builds a run from entries in ascending order. Gives bytes to `sink` as it goes.
pub struct RunBuilder<'a> {
    key: Key,
    sink: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    offset: u64,
    block: Vec<u8>,
    first: Option<(u32, u64, u64)>,
    last: Entry,
    blocks: Vec<BlockInfo>,
    entries: u64,
}

const NOTHING: Entry = Entry {
    space: 0,
    page: 0,
    checkpoint: 0,
    version: VersionRef::ZERO,
};

impl<'a> RunBuilder<'a> {
    /// Begins a run of checkpoints `first` to `last`.
    ///
    /// # Errors
    /// The sink's.
    pub fn new(
        id: &[u8; 16],
        first: u64,
        last: u64,
        sink: &'a mut dyn FnMut(&[u8]) -> io::Result<()>,
    ) -> io::Result<Self> {
        let mut head = [0u8; HEADER];
        head[..8].copy_from_slice(&MAGIC);
        set_u32(&mut head, 8, FORMAT);
        head[16..32].copy_from_slice(id);
        set_u64(&mut head, 32, first);
        set_u64(&mut head, 40, last);
        let sum = check(0, &head[..48]);
        set_u64(&mut head, 48, sum);
        sink(&head)?;
        Ok(Self {
            key: Key::new(id),
            sink,
            offset: HEADER as u64,
            block: Vec::with_capacity(BLOCK + 64),
            first: None,
            last: NOTHING,
            blocks: Vec::new(),
            entries: 0,
        })
    }

    /// Adds an entry.
    ///
    /// # Errors
    /// The sink's.
    pub fn push(&mut self, e: &Entry) -> io::Result<()> {
        if self.first.is_none() {
            self.first = Some(e.key());
            self.last = NOTHING;
        }
        let (last, out) = (&self.last, &mut self.block);
        put_varint(out, u64::from(e.space - last.space));
        let same_space = e.space == last.space;
        put_varint(
            out,
            if same_space {
                e.page - last.page
            } else {
                e.page
            },
        );
        let same_page = same_space && e.page == last.page;
        put_varint(
            out,
            if same_page {
                e.checkpoint - last.checkpoint
            } else {
                e.checkpoint
            },
        );
        let mut version = last.version;
        if e.version.is_zero() {
            put_varint(out, 0);
        } else {
            let (old, new) = (
                Location(version.pack).packed(),
                Location(e.version.pack).packed(),
            );
            put_varint(out, 1 + crate::bytes::zigzag(old, new));
            put_difference(out, u64::from(version.slot), u64::from(e.version.slot));
            version = e.version;
        }
        self.last = Entry { version, ..*e };
        self.entries += 1;
        if self.block.len() >= BLOCK {
            self.close()
        } else {
            Ok(())
        }
    }

    fn close(&mut self) -> io::Result<()> {
        let Some(key) = self.first.take() else {
            return Ok(());
        };
        let sum = self.key.at(self.offset, &self.block);
        self.block.extend_from_slice(&sum.to_le_bytes());
        (self.sink)(&self.block)?;
        let length = self.block.len() as u32;
        self.blocks.push(BlockInfo {
            key,
            offset: self.offset,
            length,
        });
        self.offset += u64::from(length);
        self.block.clear();
        Ok(())
    }

    /// Ends the run; returns how many entries it has.
    ///
    /// # Errors
    /// The sink's.
    pub fn finish(mut self) -> io::Result<u64> {
        self.close()?;
        let mut footer = Vec::with_capacity(self.blocks.len() * LINE);
        for b in &self.blocks {
            footer.extend_from_slice(&b.key.0.to_le_bytes());
            footer.extend_from_slice(&b.length.to_le_bytes());
            for v in [b.key.1, b.key.2, b.offset] {
                footer.extend_from_slice(&v.to_le_bytes());
            }
        }
        let mut trailer = [0u8; TRAILER];
        set_u64(&mut trailer, 0, self.offset);
        set_u64(&mut trailer, 8, self.blocks.len() as u64);
        set_u64(&mut trailer, 16, self.entries);
        set_u64(&mut trailer, 24, self.key.at(0, &footer));
        let sum = self.key.at(0, &trailer[..32]);
        set_u64(&mut trailer, 32, sum);
        trailer[40..].copy_from_slice(&MAGIC);
        (self.sink)(&footer)?;
        (self.sink)(&trailer)?;
        Ok(self.entries)
    }
}

/// Where a run's bytes are.
#[derive(Debug)]
pub enum Data {
    /// In a file.
    File(File),
    /// In memory: made from the log because no file has it.
    Memory(Vec<u8>),
}

impl Data {
    fn len(&self) -> io::Result<u64> {
        match self {
            Self::File(f) => f.metadata().map(|m| m.len()),
            Self::Memory(v) => Ok(v.len() as u64),
        }
    }

    fn read(&self, offset: u64, length: usize) -> io::Result<Vec<u8>> {
        match self {
            Self::File(f) => {
                let mut out = vec![0; length];
                f.read_exact_at(&mut out, offset)?;
                Ok(out)
            }
            Self::Memory(v) => usize::try_from(offset)
                .ok()
                .and_then(|o| v.get(o..o.checked_add(length)?))
                .map(<[u8]>::to_vec)
                .ok_or_else(|| io::ErrorKind::UnexpectedEof.into()),
        }
    }
}

/// Why a run cannot be used. The caller goes back to the log.
#[derive(Debug, thiserror::Error)]
pub enum RunError {
    /// It cannot be read.
    #[error(transparent)]
    Io(#[from] io::Error),
    /// It is damaged.
    #[error(transparent)]
    Malformed(#[from] Malformed),
}

type Block = Arc<Vec<Entry>>;

/// A sealed run.
#[derive(Debug)]
pub struct Run {
    data: Data,
    key: Key,
    /// First checkpoint covered.
    pub first: u64,
    /// Last checkpoint covered.
    pub last: u64,
    /// How many entries it has.
    pub entries: u64,
    blocks: Vec<BlockInfo>,
    cache: Mutex<VecDeque<(usize, Block)>>,
}

impl Run {
    /// Opens a run: reads its header and footer.
    ///
    /// # Errors
    /// If it is damaged, or another recording's.
    pub fn open(data: Data, id: &[u8; 16]) -> Result<Self, RunError> {
        let key = Key::new(id);
        let length = data.len()?;
        if length < (HEADER + TRAILER) as u64 {
            return Err(Malformed("it is too short").into());
        }
        let head = data.read(0, HEADER)?;
        let mut c = Cursor::new(&head);
        let (magic, format, _, owner): ([u8; 8], _, _, [u8; 16]) =
            (c.array()?, c.u32()?, c.u32()?, c.array()?);
        let (first, last) = (c.u64()?, c.u64()?);
        if magic != MAGIC
            || format != FORMAT
            || owner != *id
            || c.u64()? != check(0, &head[..48])
            || first > last
        {
            return Err(Malformed("its header is not this recording's").into());
        }
        let trailer = data.read(length - TRAILER as u64, TRAILER)?;
        let mut c = Cursor::new(&trailer);
        let (offset, count, entries, footer_check) = (c.u64()?, c.u64()?, c.u64()?, c.u64()?);
        if c.u64()? != key.at(0, &trailer[..32]) {
            return Err(Malformed("the check of its end is wrong").into());
        }
        let size = length - TRAILER as u64;
        let footer_length = count.checked_mul(LINE as u64);
        if offset < HEADER as u64 || footer_length.and_then(|l| l.checked_add(offset)) != Some(size)
        {
            return Err(Malformed("its footer is not where it should be").into());
        }
        let footer = data.read(offset, (size - offset) as usize)?;
        if key.at(0, &footer) != footer_check {
            return Err(Malformed("the check of its footer is wrong").into());
        }
        let mut blocks: Vec<BlockInfo> = Vec::with_capacity(footer.len() / LINE);
        let mut c = Cursor::new(&footer);
        let mut at = HEADER as u64;
        while !c.is_empty() {
            let (space, length) = (c.u32()?, c.u32()?);
            let (page, checkpoint, offset) = (c.u64()?, c.u64()?, c.u64()?);
            let key = (space, page, checkpoint);
            let ascends = blocks.last().is_none_or(|b| b.key < key);
            if offset != at || !(9..=LONGEST).contains(&length) || !ascends {
                return Err(Malformed("its footer makes no sense").into());
            }
            at += u64::from(length);
            blocks.push(BlockInfo {
                key,
                offset,
                length,
            });
        }
        if at != offset {
            return Err(Malformed("its footer does not cover its blocks").into());
        }
        Ok(Self {
            data,
            key,
            first,
            last,
            entries,
            blocks,
            cache: Mutex::default(),
        })
    }

    /// Builds a run in memory. Entries must ascend.
    ///
    /// # Errors
    /// None in practice: memory does not fail to be written, and what was built can be read.
    pub fn in_memory(
        id: &[u8; 16],
        first: u64,
        last: u64,
        entries: &[Entry],
    ) -> Result<Self, RunError> {
        let mut bytes = Vec::new();
        let mut sink = |b: &[u8]| {
            bytes.extend_from_slice(b);
            Ok(())
        };
        let mut builder = RunBuilder::new(id, first, last, &mut sink)?;
        for e in entries {
            builder.push(e)?;
        }
        builder.finish()?;
        Self::open(Data::Memory(bytes), id)
    }

    /// Whether it is held in memory.
    pub fn is_in_memory(&self) -> bool {
        matches!(self.data, Data::Memory(_))
    }

    /// How many blocks it has.
    pub fn blocks(&self) -> usize {
        self.blocks.len()
    }

    /// Decodes a block.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn block(&self, number: usize) -> Result<Block, RunError> {
        let mut cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if let Some((_, block)) = cache.iter().find(|(n, _)| *n == number) {
            return Ok(Arc::clone(block));
        }
        drop(cache);
        let info = self
            .blocks
            .get(number)
            .ok_or(Malformed("it has no such block"))?;
        let bytes = self.data.read(info.offset, info.length as usize)?;
        let (body, sum) = bytes
            .split_last_chunk::<8>()
            .map(|(b, s)| (b, u64::from_le_bytes(*s)))
            .ok_or(Malformed("a block is too short"))?;
        if self.key.at(info.offset, body) != sum {
            return Err(Malformed("the check of a block is wrong").into());
        }
        let entries = decode_block(body)?;
        let inside = |e: &Entry| self.first <= e.checkpoint && e.checkpoint <= self.last;
        if entries.first().map(Entry::key) != Some(info.key) || !entries.iter().all(inside) {
            return Err(Malformed("a block is not the one its footer describes").into());
        }
        let block = Arc::new(entries);
        cache = self.cache.lock().unwrap_or_else(PoisonError::into_inner);
        if cache.len() >= KEPT {
            cache.pop_front();
        }
        cache.push_back((number, Arc::clone(&block)));
        Ok(block)
    }

    /// The entry with the greatest key not above (space, page, checkpoint), if it is of that page.
    ///
    /// # Errors
    /// If the block is damaged.
    pub fn newest(
        &self,
        space: u32,
        page: u64,
        checkpoint: u64,
    ) -> Result<Option<Entry>, RunError> {
        let key = (space, page, checkpoint);
        let after = self.blocks.partition_point(|b| b.key <= key);
        let Some(number) = after.checked_sub(1) else {
            return Ok(None);
        };
        let block = self.block(number)?;
        let after = block.partition_point(|e| e.key() <= key);
        let found = after.checked_sub(1).and_then(|i| block.get(i));
        Ok(found
            .filter(|e| e.space == space && e.page == page)
            .copied())
    }

    /// Entries from the first not below a key on.
    pub fn iter_from(self: &Arc<Self>, key: (u32, u64, u64)) -> RunIter {
        let after = self.blocks.partition_point(|b| b.key <= key);
        RunIter {
            run: Arc::clone(self),
            next: after.saturating_sub(1),
            block: Block::default(),
            at: 0,
            from: key,
        }
    }
}

/// Entries of a run in order.
#[derive(Debug)]
pub struct RunIter {
    run: Arc<Run>,
    next: usize,
    block: Block,
    at: usize,
    from: (u32, u64, u64),
}

impl RunIter {
    /// The next entry.
    ///
    /// # Errors
    /// If its block is damaged.
    pub fn next(&mut self) -> Result<Option<Entry>, RunError> {
        loop {
            if let Some(e) = self.block.get(self.at) {
                self.at += 1;
                if e.key() >= self.from {
                    return Ok(Some(*e));
                }
                continue;
            }
            if self.next >= self.run.blocks.len() {
                return Ok(None);
            }
            self.block = self.run.block(self.next)?;
            self.at = 0;
            self.next += 1;
        }
    }
}

/// Decodes the entries of a block, its check taken off.
///
/// # Errors
/// If they are malformed or do not ascend.
pub fn decode_block(body: &[u8]) -> Result<Vec<Entry>, Malformed> {
    const IMPOSSIBLE: Malformed = Malformed("a block holds an impossible entry");
    let mut c = Cursor::new(body);
    let mut entries: Vec<Entry> = Vec::with_capacity(body.len().min(LONGEST as usize) / 4);
    let mut last = NOTHING;
    while !c.is_empty() {
        let space = u32::try_from(c.varint()?)
            .ok()
            .and_then(|d| last.space.checked_add(d));
        let space = space.ok_or(IMPOSSIBLE)?;
        let mut page = c.varint()?;
        if space == last.space {
            page = last.page.checked_add(page).ok_or(IMPOSSIBLE)?;
        }
        let mut checkpoint = c.varint()?;
        if space == last.space && page == last.page {
            checkpoint = last.checkpoint.checked_add(checkpoint).ok_or(IMPOSSIBLE)?;
        }
        let tag = c.varint()?;
        let version = if tag == 0 {
            VersionRef::ZERO
        } else {
            let packed = crate::bytes::unzigzag(Location(last.version.pack).packed(), tag - 1);
            let pack = Location::unpack(packed).ok_or(IMPOSSIBLE)?;
            let slot = c.difference(u64::from(last.version.slot))?;
            VersionRef {
                pack: pack.0,
                slot: u32::try_from(slot).map_err(|_| IMPOSSIBLE)?,
            }
        };
        let entry = Entry {
            space,
            page,
            checkpoint,
            version,
        };
        if entries.last().is_some_and(|l| l.key() >= entry.key()) {
            return Err(Malformed("the entries of a block do not ascend"));
        }
        entries.push(entry);
        last = Entry {
            version: if version.is_zero() {
                last.version
            } else {
                version
            },
            ..entry
        };
    }
    Ok(entries)
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    const ID: [u8; 16] = [3; 16];

    fn entries(map: &BTreeMap<(u32, u64, u64), (u64, u32)>) -> Vec<Entry> {
        map.iter()
            .map(|(&(space, page, checkpoint), &(pack, slot))| Entry {
                space,
                page,
                checkpoint,
                version: if pack == 0 {
                    VersionRef::ZERO
                } else {
                    VersionRef {
                        pack: Location::new(1, 40 + 8 * pack as u32).0,
                        slot,
                    }
                },
            })
            .collect()
    }

    proptest! {
        #[test]
        fn runs_answer_as_a_sorted_map(
            map in prop::collection::btree_map((0u32..2, 0u64..50, 0u64..200), (0u64..1000, any::<u32>()), 0..3000),
            asks in prop::collection::vec((0u32..2, 0u64..50, 0u64..200), 50),
        ) {
            let all = entries(&map);
            let run = Arc::new(Run::in_memory(&ID, 0, 200, &all).unwrap());
            let mut iter = run.iter_from((0, 0, 0));
            let mut back = Vec::new();
            while let Some(e) = iter.next().unwrap() {
                back.push(e);
            }
            prop_assert_eq!(&back, &all);
            for (s, p, c) in asks {
                let want = all.iter().rfind(|e| e.space == s && e.page == p && e.checkpoint <= c);
                prop_assert_eq!(run.newest(s, p, c).unwrap(), want.copied());
            }
        }

        #[test]
        fn damaged_runs_are_refused_or_right(flips in prop::collection::vec(any::<prop::sample::Index>(), 1..3)) {
            let all: Vec<_> = (0..2000u64)
                .map(|i| Entry { space: 0, page: i, checkpoint: i % 7, version: VersionRef { pack: Location::new(1, 40 + i as u32 * 8).0, slot: 3 } })
                .collect();
            let mut bytes = Vec::new();
            let mut sink = |b: &[u8]| { bytes.extend_from_slice(b); Ok(()) };
            let mut b = RunBuilder::new(&ID, 0, 6, &mut sink).unwrap();
            for e in &all { b.push(e).unwrap(); }
            b.finish().unwrap();
            for f in flips {
                let bit = f.index(bytes.len() * 8);
                bytes[bit / 8] ^= 1 << (bit % 8);
            }
            if let Ok(run) = Run::open(Data::Memory(bytes), &ID) {
                for e in all.iter().step_by(37) {
                    if let Ok(found) = run.newest(0, e.page, 6) {
                        prop_assert_eq!(found, Some(*e));
                    }
                }
            }
        }
    }
}
