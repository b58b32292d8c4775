//! The first and the last word of a recording: what is being recorded, and how it ended.

use crate::Error;
use crate::bytes::{Cursor, Malformed};
use crate::check::check;
use crate::files::Files;
use crate::log::segment::FORMAT;
use serde::{Deserialize, Serialize};
use std::io::Read;
use std::path::Path;
use stillframe_image::PAGE_SIZE;
use stillframe_image::host::Host;

/// Name of the file.
pub const NAME: &str = "recording";
/// Its first bytes.
pub const MAGIC: [u8; 8] = *b"\x89STILL\r\n";
const ARCHITECTURE: u32 = 62;
const LONGEST: u32 = 1 << 20;

/// What is recorded, and by what. Written once, before anything else.
#[derive(Clone, Debug, Default, PartialEq, Serialize, Deserialize)]
pub struct Header {
    /// Random identity. All zero asks [`crate::Writer::create`] to draw one.
    pub id: [u8; 16],
    /// Path of the program.
    pub program: Vec<u8>,
    /// Its arguments, NUL after each.
    pub arguments: Vec<u8>,
    /// Process id.
    pub pid: u32,
    /// When the recording began, nanoseconds since the epoch.
    pub started_wall_ns: u64,
    /// Checkpoints asked for per second.
    pub requested_hz: f64,
    /// Mechanism that finds written pages.
    pub tracker: String,
    /// Release of the kernel it ran on.
    pub kernel: String,
    /// Version of the program that wrote it.
    pub writer_version: String,
    /// The processor it ran on; earlier versions did not say.
    #[serde(skip)]
    pub host: Host,
}

/// How a recording ended. Absent when the recorder was killed.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Summary {
    /// When, nanoseconds since the epoch.
    pub ended_wall_ns: u64,
    /// How, e.g. `exited 0`, `stopped by user`, `killed by SIGSEGV`.
    pub how: String,
    /// Ticks that were due and not taken.
    pub skipped: u64,
    /// Anything a reader should know.
    pub notes: Vec<String>,
}

/// Decodes postcard that must fill `bytes`.
pub(crate) fn from_postcard<T: serde::de::DeserializeOwned>(bytes: &[u8]) -> Result<T, Malformed> {
    match postcard::take_from_bytes(bytes) {
        Ok((value, [])) => Ok(value),
        _ => Err(Malformed("it is not an encoding of what it should be")),
    }
}

/// Encodes the file `recording`.
///
/// # Errors
/// [`Error::TooLarge`] beyond a mebibyte.
pub fn encode(header: &Header) -> Result<Vec<u8>, Error> {
    let mut body = postcard::to_allocvec(header).map_err(|_| Error::TooLarge("the header"))?;
    if header.host != Host::default() {
        body =
            postcard::to_extend(&header.host, body).map_err(|_| Error::TooLarge("the header"))?;
    }
    if body.len() > LONGEST as usize {
        return Err(Error::TooLarge("the header (program and arguments)"));
    }
    let mut out = Vec::with_capacity(body.len() + 32);
    out.extend_from_slice(&MAGIC);
    for v in [FORMAT, PAGE_SIZE as u32, ARCHITECTURE, body.len() as u32] {
        out.extend_from_slice(&v.to_le_bytes());
    }
    out.extend_from_slice(&body);
    let sum = check(0, &out);
    out.extend_from_slice(&sum.to_le_bytes());
    Ok(out)
}

/// Decodes the file `recording`.
///
/// # Errors
/// What is wrong with it, as a clause.
pub fn decode(bytes: &[u8]) -> Result<Header, String> {
    let too_short = |e: Malformed| e.to_string();
    let mut c = Cursor::new(bytes);
    if c.array::<8>() != Ok(MAGIC) {
        return Err("its file `recording` is something else".into());
    }
    let format = c.u32().map_err(too_short)?;
    if format != FORMAT {
        return Err(format!(
            "it has format {format} and this program reads format {FORMAT}; use the version of \
             stillframe that wrote it"
        ));
    }
    let page = c.u32().map_err(too_short)?;
    let machine = c.u32().map_err(too_short)?;
    if page as usize != PAGE_SIZE || machine != ARCHITECTURE {
        return Err(format!(
            "its pages have {page} bytes and its machine number is {machine}"
        ));
    }
    let length = c.u32().map_err(too_short)?;
    if length > LONGEST || c.rest().len() != length as usize + 8 {
        return Err("its file `recording` is damaged: it has another length".into());
    }
    let body = c.take(length as usize).map_err(too_short)?;
    if c.u64() != Ok(check(0, &bytes[..24 + length as usize])) {
        return Err("its file `recording` is damaged: its check is wrong".into());
    }
    let damaged = |why: Malformed| format!("its file `recording` is damaged: {why}");
    let (mut header, rest): (Header, _) = postcard::take_from_bytes(body)
        .map_err(|_| damaged(Malformed("it is not an encoding of what it should be")))?;
    if !rest.is_empty() {
        header.host = from_postcard(rest).map_err(damaged)?;
    }
    Ok(header)
}

/// Reads the header of the recording in `dir`.
///
/// # Errors
/// [`Error::NotRecording`], or that it cannot be read.
pub fn read(dir: &Path) -> Result<Header, Error> {
    let path = dir.join(NAME);
    let not = |why: String| Error::NotRecording {
        path: dir.into(),
        why,
    };
    let mut bytes = Vec::new();
    match std::fs::File::open(&path) {
        Ok(file) => {
            let limit = u64::from(LONGEST) + 64;
            file.take(limit)
                .read_to_end(&mut bytes)
                .map_err(Error::io("read", &path))?;
        }
        Err(e) => match e.kind() {
            std::io::ErrorKind::NotFound if !dir.exists() => {
                return Err(Error::io("open", dir)(e));
            }
            std::io::ErrorKind::NotFound => {
                return Err(not("it has no file `recording`".into()));
            }
            std::io::ErrorKind::NotADirectory => return Err(not("it is no directory".into())),
            _ => return Err(Error::io("open", &path)(e)),
        },
    }
    decode(&bytes).map_err(not)
}

/// Writes the header into `dir`, durably and all at once.
pub(crate) fn write(dir: &Path, files: &dyn Files, header: &Header) -> Result<(), Error> {
    let bytes = encode(header)?;
    let (temporary, path) = (dir.join("recording.tmp"), dir.join(NAME));
    let file = files
        .create(&temporary)
        .map_err(Error::io("create", &temporary))?;
    file.write_at(0, &bytes)
        .map_err(Error::io("write", &temporary))?;
    file.sync().map_err(Error::io("sync", &temporary))?;
    files
        .rename(&temporary, &path)
        .map_err(Error::io("create", &path))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn headers_come_back_and_damage_is_named() {
        let header = Header {
            id: [9; 16],
            program: b"/bin/true".to_vec(),
            arguments: b"true\0".to_vec(),
            pid: 12,
            started_wall_ns: 34,
            requested_hz: 99.5,
            tracker: "uffd".into(),
            kernel: "6.12".into(),
            writer_version: "0.1.0".into(),
            host: Host {
                vendor: "GenuineIntel".into(),
                features: vec![1, 2, u32::MAX],
                xcr0: 7,
            },
        };
        let before = Header {
            host: Host::default(),
            ..header.clone()
        };
        assert_eq!(decode(&encode(&before).unwrap()).unwrap(), before);
        let bytes = encode(&header).unwrap();
        assert_eq!(decode(&bytes).unwrap(), header);
        for bit in 0..bytes.len() * 8 {
            let mut bad = bytes.clone();
            bad[bit / 8] ^= 1 << (bit % 8);
            assert!(decode(&bad).is_err());
        }
        for cut in 0..bytes.len() {
            assert!(decode(&bytes[..cut]).is_err());
        }
    }
}
