//! Copies of files, kept once by content.
//!
//! Frames of 128 KiB are compressed on their own, so that reading one page of a large library
//! decodes one frame.

use crate::Error;
use crate::bytes::{Cursor, Malformed, set_u32, set_u64};
use crate::check::check;
use crate::files::Files;
use crate::log::segment::{FORMAT, Packer};
use std::fs::File;
use std::io::{self, Read};
use std::os::unix::fs::FileExt;
use std::path::{Path, PathBuf};
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of content in a frame.
const FRAME: usize = 128 << 10;
const LINE: usize = 16;
const TRAILER: usize = 80;
const MAGIC: [u8; 8] = *b"STILLOBJ";
/// Set in a frame's stored length if it is not compressed.
const PLAIN: u32 = 1 << 31;

/// Lower-case hexadecimal.
pub fn hex(id: &[u8; 32]) -> String {
    id.iter().map(|b| format!("{b:02x}")).collect()
}

/// Path of an object.
pub fn path(dir: &Path, id: &[u8; 32]) -> PathBuf {
    dir.join("objects").join(hex(id))
}

/// Why an object was not stored.
pub enum AddError {
    /// The source could not be read; the recording is as it was.
    Source(Error),
    /// The recording could not be written.
    Store(Error),
}

/// Copies `source` into the recording in `dir`.
pub fn add(
    dir: &Path,
    files: &dyn Files,
    level: i32,
    source: &mut dyn Read,
) -> Result<[u8; 32], AddError> {
    let temporary = dir.join("objects").join("new.tmp");
    let failed = |action| {
        let path = temporary.clone();
        move |e| AddError::Store(Error::io(action, path)(e))
    };
    let mut packer = Packer::new(level).map_err(failed("set up compression for"))?;
    let out = files.create(&temporary).map_err(failed("create"))?;
    let mut hasher = blake3::Hasher::new();
    let mut frame = vec![0u8; FRAME];
    let mut lines = Vec::new();
    let (mut offset, mut length) = (0u64, 0u64);
    loop {
        let n = fill(source, &mut frame).map_err(|e| {
            let _ = files.remove(&temporary);
            AddError::Source(Error::io("read the file to keep in", dir)(e))
        })?;
        let content = &frame[..n];
        if n > 0 {
            hasher.update(content);
            let (stored, flag) = match packer.compress(content) {
                Some(packed) => (packed, 0),
                None => (content, PLAIN),
            };
            out.write_at(offset, stored).map_err(failed("write"))?;
            lines.extend_from_slice(&(stored.len() as u32 | flag).to_le_bytes());
            lines.extend_from_slice(&[0; 4]);
            lines.extend_from_slice(&check(0, stored).to_le_bytes());
            offset += stored.len() as u64;
            length += n as u64;
        }
        if n < FRAME {
            break;
        }
    }
    let id = *hasher.finalize().as_bytes();
    let path = path(dir, &id);
    if path.exists() {
        files.remove(&temporary).map_err(failed("remove"))?;
        return Ok(id);
    }
    let trailer = trailer(length, &lines, &id);
    lines.extend_from_slice(&trailer);
    out.write_at(offset, &lines).map_err(failed("write"))?;
    out.sync().map_err(failed("sync"))?;
    files.rename(&temporary, &path).map_err(failed("rename"))?;
    Ok(id)
}

/// The file that [`add`] makes of a content of at most one frame, not compressed.
pub(crate) fn encoded(content: &[u8]) -> Result<Vec<u8>, Error> {
    if content.len() > FRAME {
        return Err(Error::TooLarge("an object of one frame"));
    }
    let mut out = content.to_vec();
    let mut lines = Vec::new();
    if !content.is_empty() {
        lines.extend_from_slice(&(content.len() as u32 | PLAIN).to_le_bytes());
        lines.extend_from_slice(&[0; 4]);
        lines.extend_from_slice(&check(0, content).to_le_bytes());
    }
    let trailer = trailer(
        content.len() as u64,
        &lines,
        blake3::hash(content).as_bytes(),
    );
    out.extend_from_slice(&lines);
    out.extend_from_slice(&trailer);
    Ok(out)
}

/// The end of an object.
fn trailer(length: u64, lines: &[u8], id: &[u8; 32]) -> [u8; TRAILER] {
    let mut trailer = [0u8; TRAILER];
    trailer[..8].copy_from_slice(&MAGIC);
    set_u32(&mut trailer, 8, FORMAT);
    set_u32(&mut trailer, 12, FRAME as u32);
    set_u64(&mut trailer, 16, length);
    set_u64(&mut trailer, 24, (lines.len() / LINE) as u64);
    set_u64(&mut trailer, 32, check(0, lines));
    trailer[40..72].copy_from_slice(id);
    let sum = check(0, &trailer[..72]);
    set_u64(&mut trailer, 72, sum);
    trailer
}

/// Reads until the buffer is full or the source ends.
fn fill(source: &mut dyn Read, out: &mut [u8]) -> io::Result<usize> {
    let mut n = 0;
    while n < out.len() {
        match source.read(&mut out[n..]) {
            Ok(0) => break,
            Ok(k) => n += k,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(n)
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct FrameInfo {
    offset: u64,
    stored: u32,
    plain: bool,
    check: u64,
}

/// A file kept in a recording.
#[derive(Debug)]
pub struct Object {
    file: File,
    name: String,
    length: u64,
    frames: Vec<FrameInfo>,
    id: [u8; 32],
    last: Mutex<Option<(usize, Arc<Vec<u8>>)>>,
}

/// What the end of an object says.
struct Layout {
    length: u64,
    frames: u64,
    table: u64,
    table_check: u64,
    id: [u8; 32],
}

fn decode_trailer(bytes: &[u8], size: u64) -> Result<Layout, Malformed> {
    let bytes: [u8; TRAILER] = Cursor::new(bytes).array()?;
    let mut c = Cursor::new(&bytes);
    let (magic, format, frame): ([u8; 8], _, _) = (c.array()?, c.u32()?, c.u32()?);
    let (length, frames, table_check, id) = (c.u64()?, c.u64()?, c.u64()?, c.array()?);
    if magic != MAGIC || c.u64()? != check(0, &bytes[..72]) {
        return Err(Malformed("its end is not an object's"));
    }
    if format != FORMAT || frame as usize != FRAME {
        return Err(Malformed(
            "its version is unknown; a newer version of this program may read it",
        ));
    }
    let rest = size.saturating_sub(TRAILER as u64);
    let table = frames
        .checked_mul(LINE as u64)
        .and_then(|t| rest.checked_sub(t));
    match table {
        Some(table) if frames == length.div_ceil(FRAME as u64) => Ok(Layout {
            length,
            frames,
            table,
            table_check,
            id,
        }),
        _ => Err(Malformed("its frames do not fit its length")),
    }
}

fn decode_table(bytes: &[u8], layout: &Layout) -> Result<Vec<FrameInfo>, Malformed> {
    if check(0, bytes) != layout.table_check {
        return Err(Malformed("the check of its frame table is wrong"));
    }
    let mut frames = Vec::with_capacity(layout.frames as usize);
    let mut c = Cursor::new(bytes);
    let mut offset = 0u64;
    while !c.is_empty() {
        let (stored, _, check) = (c.u32()?, c.u32()?, c.u64()?);
        let plain = stored & PLAIN != 0;
        let stored = stored & !PLAIN;
        if stored as usize > FRAME {
            return Err(Malformed("a frame is too long"));
        }
        frames.push(FrameInfo {
            offset,
            stored,
            plain,
            check,
        });
        offset += u64::from(stored);
    }
    if offset == layout.table {
        Ok(frames)
    } else {
        Err(Malformed("its frames leave a gap"))
    }
}

impl Object {
    /// Opens an object of the recording in `dir`.
    ///
    /// # Errors
    /// [`Error::NoObject`], or damage.
    pub fn open(dir: &Path, id: &[u8; 32]) -> Result<Self, Error> {
        let path = path(dir, id);
        let file = match File::open(&path) {
            Ok(file) => file,
            Err(e) if e.kind() == io::ErrorKind::NotFound => return Err(Error::NoObject(hex(id))),
            Err(e) => return Err(Error::io("open", &path)(e)),
        };
        let object = Self::from_file(file, hex(id))?;
        if object.id == *id {
            Ok(object)
        } else {
            Err(object.damaged("it is another object"))
        }
    }

    /// Opens an object, whatever its name.
    ///
    /// # Errors
    /// If it is damaged or cannot be read.
    pub fn from_file(file: File, name: String) -> Result<Self, Error> {
        let mut object = Self {
            file,
            name,
            length: 0,
            frames: Vec::new(),
            id: [0; 32],
            last: Mutex::new(None),
        };
        let size = object.file.metadata().map_err(object.io())?.len();
        let at = size
            .checked_sub(TRAILER as u64)
            .ok_or_else(|| object.damaged("it is too short"))?;
        let mut trailer = [0u8; TRAILER];
        object
            .file
            .read_exact_at(&mut trailer, at)
            .map_err(object.io())?;
        let layout = decode_trailer(&trailer, size).map_err(|e| object.damaged(e.0))?;
        let mut table = vec![0u8; (at - layout.table) as usize];
        object
            .file
            .read_exact_at(&mut table, layout.table)
            .map_err(object.io())?;
        object.frames = decode_table(&table, &layout).map_err(|e| object.damaged(e.0))?;
        object.length = layout.length;
        object.id = layout.id;
        Ok(object)
    }

    fn io(&self) -> impl FnOnce(io::Error) -> Error {
        Error::io("read", format!("objects/{}", self.name))
    }

    fn damaged(&self, why: &str) -> Error {
        Error::Damaged(format!("object {}: {why}", self.name))
    }

    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.length
    }

    /// Whether it is empty.
    pub const fn is_empty(&self) -> bool {
        self.length == 0
    }

    /// The BLAKE3 of its content that it claims.
    pub const fn id(&self) -> [u8; 32] {
        self.id
    }

    fn frame(&self, number: usize) -> Result<Arc<Vec<u8>>, Error> {
        let last = self
            .last
            .lock()
            .unwrap_or_else(PoisonError::into_inner)
            .clone();
        if let Some((n, content)) = last
            && n == number
        {
            return Ok(content);
        }
        let info = *self
            .frames
            .get(number)
            .ok_or_else(|| self.damaged("it has no such frame"))?;
        let mut stored = vec![0u8; info.stored as usize];
        self.file
            .read_exact_at(&mut stored, info.offset)
            .map_err(self.io())?;
        if check(0, &stored) != info.check {
            return Err(self.damaged("the check of a frame is wrong"));
        }
        let want = (self.length - number as u64 * FRAME as u64).min(FRAME as u64) as usize;
        let content = if info.plain {
            stored
        } else {
            crate::log::record::decompress(&stored, want).map_err(|e| self.damaged(e.0))?
        };
        if content.len() != want {
            return Err(self.damaged("a frame has another length"));
        }
        let content = Arc::new(content);
        *self.last.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((number, Arc::clone(&content)));
        Ok(content)
    }

    /// Fills `out` from `offset` as far as the object reaches; returns the bytes filled.
    ///
    /// # Errors
    /// If the file cannot be read or is damaged.
    pub fn read_at(&self, offset: u64, out: &mut [u8]) -> Result<usize, Error> {
        let mut done = 0;
        while done < out.len() {
            let at = offset.saturating_add(done as u64);
            if at >= self.length {
                break;
            }
            let frame = self.frame((at / FRAME as u64) as usize)?;
            let from = (at % FRAME as u64) as usize;
            let n = (frame.len() - from).min(out.len() - done);
            out[done..done + n].copy_from_slice(&frame[from..from + n]);
            done += n;
        }
        Ok(done)
    }

    /// Reads all of it and recomputes its hash; returns the bytes of the file read.
    ///
    /// # Errors
    /// If it is damaged.
    pub fn verify(&self) -> Result<u64, Error> {
        let mut hasher = blake3::Hasher::new();
        for i in 0..self.frames.len() {
            hasher.update(&self.frame(i)?);
        }
        if *hasher.finalize().as_bytes() == self.id {
            Ok(self.frames.iter().map(|f| u64::from(f.stored)).sum())
        } else {
            Err(self.damaged("its content has another hash"))
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::files::Disk;
    use proptest::prelude::*;

    fn stored(content: &[u8]) -> (tempfile::TempDir, [u8; 32]) {
        let dir = tempfile::tempdir().unwrap();
        std::fs::create_dir(dir.path().join("objects")).unwrap();
        let Ok(id) = add(dir.path(), &Disk, 1, &mut &content[..]) else {
            panic!()
        };
        assert_eq!(id, *blake3::hash(content).as_bytes());
        (dir, id)
    }

    #[test]
    fn any_part_can_be_read() {
        for length in [0, 1, FRAME - 1, FRAME, FRAME + 1, 3 * FRAME + 77] {
            let mut noise = 1u32;
            let content: Vec<u8> = (0..length)
                .map(|i| {
                    noise = noise.wrapping_mul(1_664_525).wrapping_add(1_013_904_223);
                    if i / FRAME == 1 {
                        (noise >> 24) as u8
                    } else {
                        (i / 100) as u8
                    }
                })
                .collect();
            let (dir, id) = stored(&content);
            let object = Object::open(dir.path(), &id).unwrap();
            assert_eq!(object.len(), length as u64);
            for at in [0, 1, FRAME - 3, FRAME, length / 2, length, length + 5] {
                let mut out = vec![0u8; 5000];
                let n = object.read_at(at as u64, &mut out).unwrap();
                let want = content.get(at..).unwrap_or_default();
                assert_eq!(out[..n], want[..want.len().min(5000)]);
            }
            object.verify().unwrap();
        }
    }

    proptest! {
        #![proptest_config(ProptestConfig::with_cases(64))]
        #[test]
        fn damage_is_refused(bit: prop::sample::Index, cut: Option<prop::sample::Index>) {
            let content: Vec<u8> = (0..300_000u32).map(|i| (i / 7) as u8).collect();
            let (dir, id) = stored(&content);
            let path = path(dir.path(), &id);
            let mut bytes = std::fs::read(&path).unwrap();
            let bit = bit.index(bytes.len() * 8);
            bytes[bit / 8] ^= 1 << (bit % 8);
            if let Some(cut) = cut {
                let n = cut.index(bytes.len());
                bytes.truncate(n);
            }
            std::fs::write(&path, &bytes).unwrap();
            if let Ok(object) = Object::open(dir.path(), &id) {
                let mut out = vec![0u8; content.len()];
                if let Ok(n) = object.read_at(0, &mut out) {
                    prop_assert_eq!(&out[..n], &content[..]);
                }
            }
        }
    }
}
