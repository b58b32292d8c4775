//! A process of a checkpoint as a standard ELF core.
//!
//! Cores are what every debugger on Linux already reads, so exporting one opens a moment to tools
//! that know nothing of recordings. The layout is the one the kernel writes (`fs/binfmt_elf.c`,
//! `elf_core_dump`), because readers were tested against that and little else: ELF header, program
//! headers, notes, then the memory, page-aligned.
//!
//! Nothing is read or written here. [`plan`] gives the bytes before the memory and says which
//! stretch of memory goes where; the caller streams it, and may leave zero pages as holes.

mod header;
mod note;
#[cfg(test)]
mod tests;
pub mod xsave;

use crate::{Mapping, PAGE_SIZE, ProcessImage};
use std::ops::Range;

/// Where everything goes in the file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Plan {
    /// The first bytes of the file, up to the first byte of memory; a multiple of the page size.
    pub head: Vec<u8>,
    /// The memory, in ascending order of address, without overlap.
    pub segments: Vec<Segment>,
    /// Size of the whole file, bytes. Set it at the end, so that trailing holes count.
    pub file_size: u64,
}

/// A PT_LOAD segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Where its bytes stand in the file; a multiple of the page size.
    pub file_offset: u64,
    /// How many bytes from `start` are in the file: all or none. The rest reads as zero, or from
    /// the file that NT_FILE names.
    pub file_size: u64,
    /// PF_R (4), PF_W (2), PF_X (1).
    pub flags: u32,
}

/// How much of a mapping has content to be written.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Content {
    /// None of it.
    Nothing,
    /// All of it.
    Whole,
    /// These stretches of addresses, ascending. They are cut to the mapping and rounded outwards
    /// to pages; what lies between becomes segments without bytes.
    Parts(Vec<Range<u64>>),
}

/// A checkpoint that does not fit a core.
#[derive(Debug, thiserror::Error, PartialEq, Eq)]
pub enum CoreError {
    /// No thread, and so no register state: no debugger opens such a core.
    #[error("the process has no threads, so there is no core to make of it")]
    NoThreads,
    /// A note's length does not fit its 32-bit field.
    #[error("the {0} note would be larger than 4 GiB; a core cannot hold it")]
    Note(&'static str),
    /// Mappings that are not a valid address space.
    #[error("mapping {start:#x}-{end:#x} overlaps its neighbour or is not made of pages")]
    Mapping {
        /// Its first address.
        start: u64,
        /// The address after its last byte.
        end: u64,
    },
    /// File offsets beyond 63 bits.
    #[error("the core would be larger than any file can be")]
    TooLarge,
}

/// Lays out the core of `process`. `content` says, mapping by mapping in ascending order, what
/// of its memory will be written.
///
/// The thread of interest comes first, as a debugger selects the first: the one about to be killed
/// by a signal if there is one, else the main thread.
///
/// # Errors
/// If there is no thread, or the process has not a possible address space (only a recording made
/// by an attacker holds one).
pub fn plan(
    process: &ProcessImage,
    mut content: impl FnMut(&Mapping) -> Content,
) -> Result<Plan, CoreError> {
    let notes = note::all(process)?;
    let mut segments = Vec::with_capacity(process.space.mappings.len());
    let mut floor = 0;
    for mapping in &process.space.mappings {
        let wrong = CoreError::Mapping {
            start: mapping.start,
            end: mapping.end,
        };
        let paged = (mapping.start | mapping.end).is_multiple_of(PAGE_SIZE as u64);
        if mapping.start < floor || mapping.is_empty() || !paged {
            return Err(wrong);
        }
        floor = mapping.end;
        split(mapping, content(mapping), &mut segments);
    }
    let file_size = header::place(&mut segments, notes.len())?;
    Ok(Plan {
        head: header::write(&segments, &notes)?,
        segments,
        file_size,
    })
}

/// Adds the segments of one mapping, without their place in the file.
fn split(mapping: &Mapping, content: Content, segments: &mut Vec<Segment>) {
    let flags =
        u32::from(mapping.read) << 2 | u32::from(mapping.write) << 1 | u32::from(mapping.execute);
    let mut add = |start: u64, end: u64, filled: bool| {
        if start < end {
            let file_size = if filled { end - start } else { 0 };
            segments.push(Segment {
                start,
                end,
                file_offset: 0,
                file_size,
                flags,
            });
        }
    };
    let parts = match content {
        Content::Nothing => Vec::new(),
        Content::Whole => return add(mapping.start, mapping.end, true),
        Content::Parts(parts) => parts,
    };
    let page = PAGE_SIZE as u64;
    let mut at = mapping.start;
    for part in parts {
        let start = (part.start / page * page).max(at);
        let end = part
            .end
            .checked_next_multiple_of(page)
            .unwrap_or(mapping.end)
            .min(mapping.end);
        if start < end {
            add(at, start, false);
            add(start, end, true);
            at = end;
        }
    }
    add(at, mapping.end, false);
}
