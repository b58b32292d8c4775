//! Where instructions and data can lie unnoticed.

use super::{frame, stub};
use crate::error::{Error, Result};
use crate::proc::maps::{Maps, MapsEntry};
use crate::tracee::Halt;
use std::fs::File;
use std::os::unix::fs::FileExt;

/// The places chosen.
#[derive(Clone, Copy, Debug)]
pub(super) struct Place {
    /// Of the instructions.
    pub code: u64,
    /// Of the signal frame; results of calls come after it.
    pub frame: u64,
    /// Of results.
    pub results: u64,
    /// First byte to be saved and restored.
    pub data: u64,
    /// How many.
    pub data_length: usize,
}

/// Room for results of calls.
pub(super) const RESULTS: usize = 256;
/// Bytes at the end of a mapping that must be unused.
const SLACK: u64 = 128;
/// Where in them the instructions go, from the end.
const CODE_FROM_END: u64 = 64;
/// Below a stack pointer, what its owner may use without moving it.
const RED_ZONE: u64 = 128;
/// How far from any stack pointer data should be, and must be.
const FAR: u64 = 64 * 1024;
const NEAR: u64 = 8 * 1024;
/// Room below the data for a signal handler, in case we are killed and one comes then.
const HANDLER: u64 = 16 * 1024;
const PAGE: u64 = 4096;

pub(super) fn find(
    halt: &Halt<'_>,
    maps: &Maps,
    memory: &File,
    frame_length: usize,
) -> Result<Place> {
    let mut pointers = Vec::with_capacity(halt.threads().len());
    let mut counters = Vec::with_capacity(halt.threads().len());
    for tid in halt.threads() {
        // A thread that was killed needs no stack.
        if let Ok(registers) = halt.registers(*tid) {
            pointers.push(registers.rsp);
            counters.push(registers.rip);
        }
    }
    let code = code(maps, memory).ok_or(Error::NoRoom {
        pid: halt.pid(),
        what: "a few instructions of ours",
    })?;
    if counters
        .iter()
        .any(|rip| (code..=code + SLACK).contains(rip))
    {
        let why = "a call of a recorder that was killed is not over yet; try again".into();
        return Err(Error::NoSafeThread {
            pid: halt.pid(),
            why,
        });
    }
    let length = frame_length.next_multiple_of(64) + RESULTS;
    let data = data(maps, &pointers, length as u64).ok_or(Error::NoRoom {
        pid: halt.pid(),
        what: "a signal frame of ours",
    })?;
    Ok(Place {
        code,
        frame: data,
        results: data + (length - RESULTS) as u64,
        data,
        data_length: length,
    })
}

/// Zeros at the end of the vDSO, or of another executable mapping whose changes are private.
fn code(maps: &Maps, memory: &File) -> Option<u64> {
    let entries = maps.entries();
    let vdso = entries.iter().filter(|m| m.name == b"[vdso]");
    let files = entries.iter().filter(|m| m.inode != 0);
    vdso.chain(files)
        .filter(|m| m.execute && !m.shared && m.len() >= PAGE)
        .find_map(|m| is_free(m, memory).then(|| m.end - CODE_FROM_END))
}

fn is_free(m: &MapsEntry, memory: &File) -> bool {
    let mut slack = [0u8; SLACK as usize];
    if memory.read_exact_at(&mut slack, m.end - SLACK).is_err() {
        return false;
    }
    let (before, rest) = slack.split_at((SLACK - CODE_FROM_END) as usize);
    let (code, after) = rest.split_at(stub::BYTES.len());
    let zero = |bytes: &[u8]| bytes.iter().all(|b| *b == 0);
    zero(before) && zero(after) && (zero(code) || code == stub::BYTES)
}

/// The far end of the main stack, or of another thread's that has a guard.
fn data(maps: &Maps, pointers: &[u64], length: u64) -> Option<u64> {
    let entries = maps.entries();
    let usable = |m: &&MapsEntry| m.read && m.write && !m.shared && m.inode == 0;
    let main = entries
        .iter()
        .filter(|m| m.name == b"[stack]")
        .filter(usable);
    let guarded = entries.iter().enumerate().filter(|(at, m)| {
        let before = at.checked_sub(1).and_then(|at| entries.get(at));
        let guard = before.is_none_or(|b| b.end < m.start || !(b.read || b.write || b.execute));
        guard && m.name.first() != Some(&b'[')
    });
    // A stack has exactly one stack pointer in it, near its top.
    let others = guarded
        .map(|(_, m)| m)
        .filter(usable)
        .filter(|m| pointers.iter().filter(|p| m.contains(**p)).count() == 1);
    main.chain(others).find_map(|m| {
        let lowest = pointers.iter().filter(|p| m.contains(**p)).min().copied();
        let top = lowest.unwrap_or(m.end).checked_sub(RED_ZONE)?;
        let room = top
            .checked_sub(m.start)?
            .checked_sub(length + frame::ALIGN)?;
        let (below, gap) = if room >= HANDLER + FAR {
            (HANDLER, FAR)
        } else if room >= HANDLER + NEAR {
            (HANDLER, NEAR)
        } else {
            (PAGE, NEAR)
        };
        (room >= below + gap).then(|| (m.start + below).next_multiple_of(frame::ALIGN))
    })
}

trait Contains {
    fn contains(&self, address: u64) -> bool;
}

impl Contains for MapsEntry {
    fn contains(&self, address: u64) -> bool {
        (self.start..self.end).contains(&address)
    }
}
