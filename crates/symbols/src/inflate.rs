//! Compressed sections.
//!
//! The size after decompression stands in front of the data, and can say anything: it is believed
//! only as far as the compressed bytes can carry it.

use crate::elf::{ElfError, LARGEST_SECTION};
use object::read::{CompressedData, CompressionFormat};
use std::sync::Arc;

/// No stream of deflate grows beyond 1032 to 1; zstd could, but debug information does not.
const RATIO: u64 = 1100;

/// A section in the standard form (SHF_COMPRESSED): an `Elf64_Chdr`, then the stream.
pub(crate) fn section(bytes: &[u8], name: &str) -> Result<Arc<[u8]>, ElfError> {
    let damaged = || ElfError::Damaged(name.to_owned());
    let word = |at: usize| -> Option<[u8; 8]> { bytes.get(at..at + 8)?.try_into().ok() };
    let kind = bytes
        .first_chunk::<4>()
        .map(|b| u32::from_le_bytes(*b))
        .ok_or_else(damaged)?;
    let size = word(8).map(u64::from_le_bytes).ok_or_else(damaged)?;
    let stream = bytes.get(24..).ok_or_else(damaged)?;
    let format = match kind {
        1 => CompressionFormat::Zlib,
        2 => CompressionFormat::Zstandard,
        _ => return Err(damaged()),
    };
    expand(format, stream, size, name)
}

/// A section in the GNU form: `ZLIB`, the size in big-endian order, then the stream.
pub(crate) fn gnu(bytes: &[u8], name: &str) -> Result<Arc<[u8]>, ElfError> {
    let damaged = || ElfError::Damaged(name.to_owned());
    let size = match (bytes.get(..4), bytes.get(4..12).map(TryInto::try_into)) {
        (Some(b"ZLIB"), Some(Ok(size))) => u64::from_be_bytes(size),
        _ => return Err(damaged()),
    };
    let stream = bytes.get(12..).ok_or_else(damaged)?;
    expand(CompressionFormat::Zlib, stream, size, name)
}

fn expand(
    format: CompressionFormat,
    stream: &[u8],
    size: u64,
    name: &str,
) -> Result<Arc<[u8]>, ElfError> {
    let damaged = || ElfError::Damaged(name.to_owned());
    if size > LARGEST_SECTION {
        let name = name.to_owned();
        return Err(ElfError::TooLarge { name, size });
    }
    if size
        > (stream.len() as u64)
            .saturating_add(64)
            .saturating_mul(RATIO)
    {
        return Err(damaged());
    }
    let data = CompressedData {
        format,
        data: stream,
        uncompressed_size: size,
    };
    let out = data.decompress().map_err(|_| damaged())?;
    if out.len() as u64 != size {
        return Err(damaged());
    }
    Ok(out.into())
}
