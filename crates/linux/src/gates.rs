//! Gates: the words by which a process knows that it is recorded.
//!
//! Every executable or library built with `stillframe/points.h` (or the Rust crate) holds one, and
//! an ELF note that tells where. We look for the notes in memory, not in files, so that neither
//! containers nor deleted files matter, and write a number other than zero while we record. All
//! that is read belongs to the process and may be anything: every size is bounded, and a word is
//! only written where the gate's own magic stands before it, in writable private memory.
//!
//! A process closes a gate whose recorder does not answer. It may do so by mistake (from a `vfork`
//! child, which shares its memory and is not traced), so gates are opened again at every look.

use crate::error::Result;
use crate::files::elf::{half, notes, quarter, word};
use crate::proc::maps::{Maps, MapsChange, MapsEntry};
use std::collections::BTreeMap;
use std::fs::File;
use std::os::unix::fs::FileExt;
use std::sync::OnceLock;
use std::time::{SystemTime, UNIX_EPOCH};

/// Note type: place of the gate, version.
const NOTE_GATE: u32 = 1;
const NOTE_NAME: &[u8] = b"stillframe\0";
const VERSION: u32 = 1;
/// "stil", before the word.
const MAGIC: [u8; 4] = *b"stil";
/// Program headers looked at. Real files have about a dozen.
const HEADERS: usize = 128;
/// Bytes of notes looked at, per segment.
const NOTES: usize = 64 << 10;
/// Gates of one process.
const LIMIT: usize = 4096;

/// The gates of one address space.
#[derive(Debug)]
pub struct Gates {
    maps: Maps,
    memory: File,
    token: u32,
    /// Files mapped from their beginning that have been looked at, by address.
    seen: BTreeMap<u64, ((u32, u32), u64)>,
    /// Addresses of gates, with that of the file each belongs to.
    gates: BTreeMap<u64, u64>,
}

impl Gates {
    /// Of the address space that process `pid` has now. After `exec`, make another. None are opened
    /// yet.
    ///
    /// # Errors
    /// If the process is gone, or its memory may not be written.
    pub fn find(pid: u32) -> Result<Self> {
        let memory = crate::memory::open(pid)?;
        let mut this = Self {
            maps: Maps::open(pid)?,
            memory,
            token: token(),
            seen: BTreeMap::new(),
            gates: BTreeMap::new(),
        };
        this.look();
        Ok(this)
    }

    /// Looks for gates in what was mapped since, and opens every one that is not open. Returns the
    /// addresses written. The process need not be stopped: the word is aligned, and any value but
    /// zero opens a gate.
    ///
    /// # Errors
    /// If the mappings cannot be read.
    pub fn open(&mut self) -> Result<Vec<u64>> {
        if self.maps.refresh()? == MapsChange::Changed {
            self.look();
        }
        let mut written = Vec::new();
        for gate in self.gates.keys().copied() {
            if self.value(gate) == Some(0) && self.set(gate, self.token) {
                written.push(gate);
            }
        }
        Ok(written)
    }

    /// Closes the gates that we opened.
    pub fn close(&mut self) {
        for gate in self.gates.keys().copied() {
            if self.value(gate) == Some(self.token) {
                self.set(gate, 0);
            }
        }
    }

    /// How many there are.
    pub fn len(&self) -> usize {
        self.gates.len()
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.gates.is_empty()
    }

    /// The word of a gate, if there is one.
    fn value(&self, gate: u64) -> Option<u32> {
        let bytes: [u8; 8] = self.array(gate)?;
        let [magic @ .., a, b, c, d] = bytes;
        (magic == MAGIC).then_some(u32::from_ne_bytes([a, b, c, d]))
    }

    fn set(&self, gate: u64, value: u32) -> bool {
        self.memory
            .write_all_at(&value.to_ne_bytes(), gate + 4)
            .is_ok()
    }

    /// Looks at files that were not mapped before, and forgets those that are gone.
    fn look(&mut self) {
        let mut seen = BTreeMap::new();
        let mut found = Vec::new();
        for entry in self.maps.entries() {
            if entry.offset != 0 || entry.inode == 0 || entry.shared || !entry.read {
                continue;
            }
            let file = (entry.device, entry.inode);
            if self.seen.get(&entry.start) != Some(&file) {
                found.push(entry.start);
            }
            seen.insert(entry.start, file);
        }
        self.seen = seen;
        let known = &self.seen;
        self.gates
            .retain(|_, file| known.contains_key(file) && !found.contains(file));
        for start in found {
            for gate in self.gates_of(start).unwrap_or_default() {
                if !self.may_write(gate) || self.value(gate).is_none() {
                    // The rest of a library that is just being mapped: to be looked at again.
                    self.seen.remove(&start);
                } else if self.gates.len() < LIMIT {
                    self.gates.insert(gate, start);
                }
            }
        }
    }

    /// Whether a gate could be there.
    fn may_write(&self, gate: u64) -> bool {
        let fits = |e: &&MapsEntry| e.write && !e.shared && e.end - gate >= 8;
        gate.is_multiple_of(4) && self.maps.at(gate).is_some_and(|e| fits(&e))
    }

    /// Places that the notes of the ELF file mapped at `start` name. `None` if it is none, or says
    /// nothing sensible.
    fn gates_of(&self, start: u64) -> Option<Vec<u64>> {
        let header: [u8; 64] = self.array(start)?;
        // 64-bit, little-endian, EM_X86_64.
        if !header.starts_with(b"\x7fELF\x02\x01") || half(&header, 18) != Some(62) {
            return None;
        }
        let (table, size, count) = (word(&header, 32)?, half(&header, 54)?, half(&header, 56)?);
        if size != 56 {
            return None;
        }
        let headers = self.bytes(start.checked_add(table)?, size * count.min(HEADERS))?;
        let headers = || headers.chunks_exact(size);
        // The segment that holds the beginning of the file says where the file thinks it is.
        let first = headers().find(|h| quarter(h, 0) == Some(1) && word(h, 8) < Some(4096))?;
        let bias = start.wrapping_sub(word(first, 16)? & !0xfff);
        let mut places = Vec::new();
        for note in headers().filter(|h| quarter(h, 0) == Some(4)) {
            let (Some(address), Some(length)) = (word(note, 16), word(note, 40)) else {
                continue;
            };
            let length = usize::try_from(length).unwrap_or(NOTES).min(NOTES);
            let address = bias.wrapping_add(address);
            let align = if word(note, 48) == Some(8) { 8 } else { 4 };
            if let Some(bytes) = self.bytes(address, length) {
                gates_in(&bytes, address, align, &mut places);
            }
        }
        Some(places)
    }

    fn bytes(&self, at: u64, length: usize) -> Option<Vec<u8>> {
        let mut bytes = vec![0; length];
        i64::try_from(at).ok()?;
        self.memory.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }

    fn array<const N: usize>(&self, at: u64) -> Option<[u8; N]> {
        let mut bytes = [0; N];
        i64::try_from(at).ok()?;
        self.memory.read_exact_at(&mut bytes, at).ok()?;
        Some(bytes)
    }
}

/// What we open gates with: the same for all processes, since a child inherits its parent's, and
/// not another recorder's, so that a gate found dead is not closed under us.
fn token() -> u32 {
    static TOKEN: OnceLock<u32> = OnceLock::new();
    *TOKEN.get_or_init(|| {
        let since = SystemTime::now()
            .duration_since(UNIX_EPOCH)
            .unwrap_or_default();
        (since.subsec_nanos() ^ std::process::id().rotate_left(8)).max(1)
    })
}

/// Places that notes name. `address` is where the notes are.
fn gates_in(bytes: &[u8], address: u64, align: usize, into: &mut Vec<u64>) {
    for note in notes(bytes, align).filter(|n| n.sort == NOTE_GATE && n.name == NOTE_NAME) {
        let Some(said) = bytes.get(note.place.clone()) else {
            continue;
        };
        if let (Some(offset), Some(VERSION)) = (quarter(said, 0), quarter(said, 4)) {
            let gate = address
                .wrapping_add(note.place.start as u64)
                .wrapping_add_signed(i64::from(offset.cast_signed()));
            if i64::try_from(gate).is_ok() && into.len() < LIMIT {
                into.push(gate);
            }
        }
    }
    into.sort_unstable();
    into.dedup();
}

#[cfg(test)]
mod tests {
    use super::*;

    fn note(name: &[u8], sort: u32, description: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        for n in [name.len(), description.len()] {
            bytes.extend(u32::try_from(n).unwrap().to_le_bytes());
        }
        bytes.extend(sort.to_le_bytes());
        for part in [name, description] {
            bytes.extend(part);
            bytes.resize(bytes.len().next_multiple_of(4), 0);
        }
        bytes
    }

    fn places(notes: &[u8]) -> Vec<u64> {
        let mut into = Vec::new();
        gates_in(notes, 0x10_0000, 4, &mut into);
        into
    }

    #[test]
    fn notes_name_gates() {
        let mut ours = 0x2000i32.to_le_bytes().to_vec();
        ours.extend(VERSION.to_le_bytes());
        let mut notes = note(b"GNU\0", 3, &[7; 20]);
        let before = notes.len() as u64;
        notes.extend(note(NOTE_NAME, NOTE_GATE, &ours));
        // 12 bytes of header, 11 of name and one of padding.
        assert_eq!(places(&notes), [0x10_0000 + before + 24 + 0x2000]);
        let mut twice = notes.clone();
        twice.extend(note(NOTE_NAME, NOTE_GATE + 1, &ours));
        twice.extend(note(b"stillframe!", NOTE_GATE, &ours));
        twice.extend(note(NOTE_NAME, NOTE_GATE, &ours[..4]));
        assert_eq!(places(&twice), places(&notes));
        // Another version is another thing.
        ours[4] = 2;
        assert_eq!(places(&note(NOTE_NAME, NOTE_GATE, &ours)), []);
    }

    #[test]
    fn any_notes_are_read_or_refused() {
        let mut ours = i32::MIN.to_le_bytes().to_vec();
        ours.extend(VERSION.to_le_bytes());
        let whole = note(NOTE_NAME, NOTE_GATE, &ours);
        assert_eq!(places(&whole), []);
        for length in 0..whole.len() {
            assert_eq!(places(&whole[..length]), []);
            for value in [0, 1, 0x7f, 0xff] {
                let mut odd = whole.clone();
                odd[length] = value;
                let _ = places(&odd);
            }
        }
    }

    #[test]
    fn a_process_without_gates_has_none() {
        let mut gates = Gates::find(std::process::id()).unwrap();
        assert!(gates.is_empty());
        assert_eq!(gates.len(), 0);
        assert_eq!(gates.open().unwrap(), []);
    }
}
