//! The GNU build-id of an ELF file, and its notes.

use std::fs::File;
use std::io;
use std::ops::Range;
use std::os::unix::fs::FileExt;

/// Program headers looked at. Real files have about a dozen.
const HEADERS: usize = 128;
/// Bytes of notes looked at, per segment.
const NOTES: usize = 64 << 10;
/// Longest build-id believed; SHA-1 has 20 bytes, the longest in use 32.
const LONGEST: usize = 64;

/// The build-id (note `GNU`, type 3), found by the program headers as a debugger does. `None` if it
/// has none, or is no 64-bit little-endian ELF file.
///
/// # Errors
/// If reading fails.
pub fn build_id(file: &File) -> io::Result<Option<Vec<u8>>> {
    let header = read(file, 0, 64)?;
    if !header.starts_with(b"\x7fELF\x02\x01") {
        return Ok(None);
    }
    let (Some(table), Some(size), Some(count)) =
        (word(&header, 32), half(&header, 54), half(&header, 56))
    else {
        return Ok(None);
    };
    if size < 56 {
        return Ok(None);
    }
    let headers = read(file, table, size * count.min(HEADERS))?;
    for entry in headers.chunks_exact(size) {
        // PT_NOTE
        if quarter(entry, 0) != Some(4) {
            continue;
        }
        let (Some(offset), Some(length)) = (word(entry, 8), word(entry, 32)) else {
            continue;
        };
        let length = usize::try_from(length).unwrap_or(NOTES).min(NOTES);
        let notes = read(file, offset, length)?;
        // Notes are aligned to 4 bytes, but to 8 in a segment aligned so.
        let align = if word(entry, 48) == Some(8) { 8 } else { 4 };
        if let Some(id) = find(&notes, align) {
            return Ok(Some(id.to_vec()));
        }
    }
    Ok(None)
}

fn find(bytes: &[u8], align: usize) -> Option<&[u8]> {
    notes(bytes, align)
        .find(|n| n.sort == 3 && n.name == b"GNU\0" && (1..=LONGEST).contains(&n.place.len()))
        .and_then(|n| bytes.get(n.place))
}

/// A note.
pub(crate) struct Note<'a> {
    /// Its type.
    pub(crate) sort: u32,
    /// Whose it is, with its terminator.
    pub(crate) name: &'a [u8],
    /// Where among the bytes its description is. It may reach past their end.
    pub(crate) place: Range<usize>,
}

/// The notes in `bytes`, up to the first that is not whole.
pub(crate) fn notes(bytes: &[u8], align: usize) -> impl Iterator<Item = Note<'_>> {
    let mut at = Some(0);
    std::iter::from_fn(move || {
        let rest = bytes.get(at?..)?;
        let name_length = usize::try_from(quarter(rest, 0)?).ok()?;
        let length = usize::try_from(quarter(rest, 4)?).ok()?;
        let sort = quarter(rest, 8)?;
        let name = rest.get(12..12_usize.checked_add(name_length)?)?;
        // A note takes at least twelve bytes, so this ends.
        let start = at?
            .checked_add(12)?
            .checked_add(name_length)?
            .checked_next_multiple_of(align)?;
        let place = start..start.checked_add(length)?;
        at = place.end.checked_next_multiple_of(align);
        Some(Note { sort, name, place })
    })
}

/// Up to `length` bytes from `offset`; fewer at the end of the file.
fn read(file: &File, offset: u64, length: usize) -> io::Result<Vec<u8>> {
    let mut bytes = vec![0; length];
    let mut done = 0;
    while done < length {
        let Some(at) = offset
            .checked_add(done as u64)
            .filter(|at| i64::try_from(*at).is_ok())
        else {
            break;
        };
        match file.read_at(&mut bytes[done..], at) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    bytes.truncate(done);
    Ok(bytes)
}

pub(crate) fn word(bytes: &[u8], at: usize) -> Option<u64> {
    Some(u64::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn quarter(bytes: &[u8], at: usize) -> Option<u32> {
    Some(u32::from_le_bytes(*bytes.get(at..)?.first_chunk()?))
}

pub(crate) fn half(bytes: &[u8], at: usize) -> Option<usize> {
    Some(usize::from(u16::from_le_bytes(
        *bytes.get(at..)?.first_chunk()?,
    )))
}
