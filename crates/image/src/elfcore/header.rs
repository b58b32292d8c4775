//! The ELF header, the program headers, and where things stand in the file.
//!
//! Constants from the System V ABI, AMD64 supplement, and `elf.h`.

use super::{CoreError, Segment};
use crate::PAGE_SIZE;

const EHDR: usize = 64;
const PHDR: usize = 56;
const SHDR: usize = 64;
/// `e_phnum` saying that the true number stands in section header 0.
const PN_XNUM: u16 = 0xffff;
/// Notes are aligned to this.
const NOTE_ALIGN: usize = 4;

/// Bytes before the notes.
fn before_notes(segments: usize) -> usize {
    let count = segments + 1;
    let extra = if count >= usize::from(PN_XNUM) {
        SHDR
    } else {
        0
    };
    EHDR + count * PHDR + extra
}

/// Gives each segment its place after the head; returns the size of the file.
pub(super) fn place(segments: &mut [Segment], notes: usize) -> Result<u64, CoreError> {
    let head = (before_notes(segments.len()) + notes)
        .checked_next_multiple_of(PAGE_SIZE)
        .ok_or(CoreError::TooLarge)?;
    let mut at = head as u64;
    for segment in segments {
        segment.file_offset = at;
        at = at
            .checked_add(segment.file_size)
            .filter(|end| i64::try_from(*end).is_ok())
            .ok_or(CoreError::TooLarge)?;
    }
    Ok(at)
}

/// Everything before the memory. `segments` have their places.
pub(super) fn write(segments: &[Segment], notes: &[u8]) -> Result<Vec<u8>, CoreError> {
    let count = segments.len() + 1;
    let extended = count >= usize::from(PN_XNUM);
    let notes_at = before_notes(segments.len());
    let head_size = (notes_at + notes.len()).next_multiple_of(PAGE_SIZE);
    let mut out = Vec::with_capacity(head_size);

    out.extend_from_slice(b"\x7fELF");
    out.extend_from_slice(&[2, 1, 1, 0]); // 64 bits, little-endian, version 1, System V
    out.extend_from_slice(&[0; 8]);
    out.extend_from_slice(&4u16.to_le_bytes()); // ET_CORE
    out.extend_from_slice(&62u16.to_le_bytes()); // EM_X86_64
    out.extend_from_slice(&1u32.to_le_bytes()); // version
    out.extend_from_slice(&0u64.to_le_bytes()); // entry
    out.extend_from_slice(&(EHDR as u64).to_le_bytes()); // program headers
    let sections_at = if extended {
        (EHDR + count * PHDR) as u64
    } else {
        0
    };
    out.extend_from_slice(&sections_at.to_le_bytes());
    out.extend_from_slice(&0u32.to_le_bytes()); // flags
    let phnum = if extended {
        PN_XNUM
    } else {
        u16::try_from(count).unwrap_or(PN_XNUM)
    };
    let (shentsize, shnum) = if extended { (SHDR as u16, 1) } else { (0, 0) };
    for half in [EHDR as u16, PHDR as u16, phnum, shentsize, shnum, 0] {
        out.extend_from_slice(&half.to_le_bytes());
    }

    let note = ProgramHeader {
        kind: 4, // PT_NOTE
        flags: 0,
        offset: notes_at as u64,
        address: 0,
        file_size: notes.len() as u64,
        memory_size: 0,
        align: NOTE_ALIGN as u64,
    };
    note.write(&mut out);
    for segment in segments {
        let load = ProgramHeader {
            kind: 1, // PT_LOAD
            flags: segment.flags,
            offset: segment.file_offset,
            address: segment.start,
            file_size: segment.file_size,
            memory_size: segment.end - segment.start,
            align: PAGE_SIZE as u64,
        };
        load.write(&mut out);
    }
    if extended {
        let count = u32::try_from(count).map_err(|_| CoreError::TooLarge)?;
        // Section 0, of type SHT_NULL: sh_size is the number of sections, sh_info that of program
        // headers.
        out.extend_from_slice(&[0; 32]);
        out.extend_from_slice(&1u64.to_le_bytes());
        out.extend_from_slice(&0u32.to_le_bytes());
        out.extend_from_slice(&count.to_le_bytes());
        out.extend_from_slice(&[0; 16]);
    }
    out.extend_from_slice(notes);
    out.resize(head_size, 0);
    Ok(out)
}

/// `Elf64_Phdr`.
struct ProgramHeader {
    kind: u32,
    flags: u32,
    offset: u64,
    address: u64,
    file_size: u64,
    memory_size: u64,
    align: u64,
}

impl ProgramHeader {
    fn write(&self, out: &mut Vec<u8>) {
        out.extend_from_slice(&self.kind.to_le_bytes());
        out.extend_from_slice(&self.flags.to_le_bytes());
        let physical = 0;
        for word in [
            self.offset,
            self.address,
            physical,
            self.file_size,
            self.memory_size,
            self.align,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
}
