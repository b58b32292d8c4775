//! The file `retention`: which checkpoints were removed, which have names, which stand for others.
//!
//! It is the one place where a removal happens: replaced as a whole, so that a reader sees all of a
//! removal or none of it, and made durable before any byte it lets go of is given back.

use super::ranges::Ranges;
use crate::Error;
use crate::bytes::{Cursor, Malformed};
use crate::check::Key;
use crate::files::Files;
use crate::header::from_postcard;
use crate::log::commit::{TICK, decode_tick, encode_tick};
use crate::log::segment::FORMAT;
use serde::{Deserialize, Serialize};
use std::collections::BTreeMap;
use std::io::{ErrorKind, Read};
use std::path::Path;
use stillframe_image::{CheckpointId, Tick};

/// Name of the file.
pub const NAME: &str = "retention";
/// Its name while it is being written.
pub const TEMPORARY: &str = "retention.tmp";
const MAGIC: [u8; 8] = *b"STILLRET";
/// Longest body that is read: ranges of ten million removals.
const LONGEST: u32 = 256 << 20;
/// Bytes before the body.
const HEAD: usize = 16;
/// Place that seeds its check; no location and no row is one.
const PLACE: u64 = u64::MAX;

/// What a checkpoint says once others were merged into it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Merged {
    /// The tick, summed where a sum means something.
    pub tick: Tick,
    /// Bytes of pages put, of all of them.
    pub raw_bytes: u64,
    /// How many checkpoints it stands for, itself included.
    pub checkpoints: u64,
}

/// What retention has decided.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Ledger {
    /// Counts changes; a reader compares it to see whether anything did.
    pub generation: u64,
    /// Numbers of checkpoints that were removed.
    pub removed: Ranges,
    /// Names of checkpoints.
    pub tags: BTreeMap<String, CheckpointId>,
    /// Checkpoints that others were merged into.
    pub merged: BTreeMap<u64, Merged>,
    /// What was noted beside a name.
    pub notes: BTreeMap<String, String>,
}

#[derive(Serialize, Deserialize)]
struct Body {
    generation: u64,
    removed: Ranges,
    tags: Vec<(String, u64)>,
    merged: Vec<Line>,
}

#[derive(Serialize, Deserialize)]
struct Line {
    number: u64,
    tick: Vec<u8>,
    raw_bytes: u64,
    checkpoints: u64,
}

impl Ledger {
    /// Encodes the file.
    ///
    /// # Errors
    /// [`Error::TooLarge`] beyond 256 MiB.
    pub fn encode(&self, key: Key) -> Result<Vec<u8>, Error> {
        let body = Body {
            generation: self.generation,
            removed: self.removed.clone(),
            tags: self.tags.iter().map(|(n, id)| (n.clone(), id.0)).collect(),
            merged: self
                .merged
                .iter()
                .map(|(number, m)| Line {
                    number: *number,
                    tick: encode_tick(&m.tick).to_vec(),
                    raw_bytes: m.raw_bytes,
                    checkpoints: m.checkpoints,
                })
                .collect(),
        };
        let too_large = || Error::TooLarge("the list of what was removed");
        let mut body = postcard::to_allocvec(&body).map_err(|_| too_large())?;
        // Behind everything else, and only if there are any, so that a recording without notes is
        // read by programs that know of none.
        if !self.notes.is_empty() {
            let notes = postcard::to_allocvec(&self.notes).map_err(|_| too_large())?;
            body.extend_from_slice(&notes);
        }
        if body.len() > LONGEST as usize {
            return Err(too_large());
        }
        let mut out = Vec::with_capacity(body.len() + HEAD + 8);
        out.extend_from_slice(&MAGIC);
        out.extend_from_slice(&FORMAT.to_le_bytes());
        out.extend_from_slice(&(body.len() as u32).to_le_bytes());
        out.extend_from_slice(&body);
        let sum = key.at(PLACE, &out);
        out.extend_from_slice(&sum.to_le_bytes());
        Ok(out)
    }

    /// Decodes the file.
    ///
    /// # Errors
    /// If it is damaged, or another recording's.
    pub fn decode(key: Key, bytes: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(bytes);
        if c.array::<8>()? != MAGIC {
            return Err(Malformed("it is something else"));
        }
        let (format, length) = (c.u32()?, c.u32()?);
        if length > LONGEST || c.rest().len() != length as usize + 8 {
            return Err(Malformed("it has another length"));
        }
        let body = c.take(length as usize)?;
        if c.u64()? != key.at(PLACE, &bytes[..HEAD + length as usize]) {
            return Err(Malformed("its check is wrong"));
        }
        if format != FORMAT {
            return Err(Malformed(
                "its version is unknown; a newer version of this program may read it",
            ));
        }
        let (body, rest) = postcard::take_from_bytes::<Body>(body)
            .map_err(|_| Malformed("it is not an encoding of what it should be"))?;
        let notes = if rest.is_empty() {
            BTreeMap::new()
        } else {
            from_postcard(rest)?
        };
        let mut merged = BTreeMap::new();
        for line in body.merged {
            let tick: [u8; TICK] = Cursor::new(&line.tick).array()?;
            let tick = decode_tick(&mut Cursor::new(&tick))?;
            let value = Merged {
                tick,
                raw_bytes: line.raw_bytes,
                checkpoints: line.checkpoints,
            };
            merged.insert(line.number, value);
        }
        Ok(Self {
            generation: body.generation,
            removed: body.removed.checked()?,
            tags: body
                .tags
                .into_iter()
                .map(|(name, number)| (name, CheckpointId(number)))
                .collect(),
            merged,
            notes,
        })
    }

    /// Reads the file of the recording in `dir`; nothing was ever removed if there is none.
    ///
    /// # Errors
    /// If it cannot be read or is damaged. A recording is not opened without it: what was removed
    /// would come up again, with pages missing from it.
    pub fn read(dir: &Path, key: Key) -> Result<Self, Error> {
        let path = dir.join(NAME);
        let mut bytes = Vec::new();
        match std::fs::File::open(&path) {
            Ok(file) => file
                .take(u64::from(LONGEST) + 64)
                .read_to_end(&mut bytes)
                .map_err(Error::io("read", &path))?,
            Err(e) if e.kind() == ErrorKind::NotFound => return Ok(Self::default()),
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        Self::decode(key, &bytes).map_err(|e| {
            Error::Damaged(format!(
                "{}: {e}; without it what remains cannot be told from what was removed",
                path.display()
            ))
        })
    }

    /// Replaces the file, durably and all at once.
    ///
    /// # Errors
    /// If that fails; then the old one still stands.
    pub fn write(&self, dir: &Path, files: &dyn Files, key: Key) -> Result<(), Error> {
        let bytes = self.encode(key)?;
        let (temporary, path) = (dir.join(TEMPORARY), dir.join(NAME));
        let file = files
            .create(&temporary)
            .map_err(Error::io("create", &temporary))?;
        file.write_at(0, &bytes)
            .map_err(Error::io("write", &temporary))?;
        file.sync().map_err(Error::io("sync", &temporary))?;
        files
            .rename(&temporary, &path)
            .map_err(Error::io("create", &path))?;
        files.sync_directory(dir).map_err(Error::io("sync", dir))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ledgers_come_back_and_damage_is_refused() {
        let key = Key::new(&[4; 16]);
        let mut ledger = Ledger {
            generation: 3,
            ..Ledger::default()
        };
        ledger.removed.add(4, 9);
        ledger.removed.add(11, 12);
        ledger.tags.insert("before".into(), CheckpointId(3));
        let without = ledger.encode(key).unwrap();
        assert_eq!(Ledger::decode(key, &without).unwrap(), ledger);
        ledger
            .notes
            .insert("before".into(), "the queue\nis still short".into());
        let tick = Tick {
            at_ns: 5,
            skipped: 7,
            ..Tick::default()
        };
        let merged = Merged {
            tick,
            raw_bytes: 4096,
            checkpoints: 5,
        };
        ledger.merged.insert(9, merged);
        let bytes = ledger.encode(key).unwrap();
        assert_eq!(Ledger::decode(key, &bytes).unwrap(), ledger);
        assert!(Ledger::decode(Key::new(&[5; 16]), &bytes).is_err());
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(Ledger::decode(key, &bad).is_err());
        }
        for cut in 0..bytes.len() {
            assert!(Ledger::decode(key, &bytes[..cut]).is_err());
        }
    }
}
