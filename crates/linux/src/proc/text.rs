//! Reading /proc files into reused buffers, and the few kinds of fields they are made of.

use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io;
use std::os::unix::fs::FileExt;

/// No /proc file we read is longer; what is, is not believed. 65,530 mappings of the default
/// `vm.max_map_count` with paths of 4 KiB each would be 270 MB.
const LIMIT: usize = 512 << 20;

/// Reads `file` from its beginning to its end into `buffer`, replacing what is there.
pub(crate) fn read_into(file: &File, buffer: &mut Vec<u8>) -> io::Result<()> {
    // Its capacity is what the longest text so far needed: in steady state nothing is allocated.
    let mut length = 0;
    buffer.resize(buffer.capacity().max(4096), 0);
    loop {
        if buffer.len() - length < 4096 {
            if length > LIMIT {
                return Err(io::Error::from(io::ErrorKind::FileTooLarge));
            }
            buffer.resize(buffer.len() * 2, 0);
        }
        match file.read_at(&mut buffer[length..], length as u64) {
            Ok(0) => break,
            Ok(n) => length += n,
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    buffer.truncate(length);
    Ok(())
}

/// Opens `/proc/PID/NAME`.
pub(crate) fn open(pid: u32, name: &'static str) -> Result<File> {
    File::open(format!("/proc/{pid}/{name}")).map_err(|e| error(pid, name, e))
}

/// Reads `/proc/PID/NAME` whole.
pub(crate) fn read(pid: u32, name: &'static str) -> Result<Vec<u8>> {
    let mut buffer = Vec::new();
    read_into(&open(pid, name)?, &mut buffer).map_err(|e| error(pid, name, e))?;
    Ok(buffer)
}

/// An error from `/proc/PID/NAME`; one that means that the process is gone says so.
pub(crate) fn error(pid: u32, name: &'static str, e: io::Error) -> Error {
    match e.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) if !exists(pid) => Error::ProcessGone(pid),
        Some(libc::ESRCH) => Error::ProcessGone(pid),
        _ => Error::syscall(name, Target::Path(format!("/proc/{pid}/{name}")), e),
    }
}

fn exists(pid: u32) -> bool {
    std::path::Path::new(&format!("/proc/{pid}")).exists()
}

/// Text that is not as expected. Quotes at most 100 bytes of it.
pub(crate) fn malformed(pid: u32, what: &'static str, line: &[u8]) -> Error {
    let shown = &line[..line.len().min(100)];
    Error::Malformed {
        what,
        target: Target::Process(pid),
        detail: shown.escape_ascii().to_string(),
    }
}

/// A decimal number, nothing else.
pub(crate) fn decimal(text: &[u8]) -> Option<u64> {
    number(text, 10)
}

/// A hexadecimal number without prefix, nothing else.
pub(crate) fn hexadecimal(text: &[u8]) -> Option<u64> {
    number(text, 16)
}

/// An octal number, nothing else.
pub(crate) fn octal(text: &[u8]) -> Option<u64> {
    number(text, 8)
}

fn number(text: &[u8], base: u64) -> Option<u64> {
    if text.is_empty() {
        return None;
    }
    text.iter().try_fold(0_u64, |value, byte| {
        let digit = match byte {
            b'0'..=b'9' => byte - b'0',
            b'a'..=b'f' => byte - b'a' + 10,
            b'A'..=b'F' => byte - b'A' + 10,
            _ => return None,
        };
        let digit = u64::from(digit);
        if digit >= base {
            return None;
        }
        value.checked_mul(base)?.checked_add(digit)
    })
}

/// A decimal number that may be negative.
pub(crate) fn signed(text: &[u8]) -> Option<i64> {
    match text.strip_prefix(b"-") {
        Some(rest) => 0_i64.checked_sub_unsigned(decimal(rest)?),
        None => i64::try_from(decimal(text)?).ok(),
    }
}

/// The fields of a line, separated by any number of spaces and tabs.
pub(crate) fn fields(line: &[u8]) -> impl Iterator<Item = &[u8]> {
    line.split(|b| matches!(b, b' ' | b'\t'))
        .filter(|f| !f.is_empty())
}

/// Splits at the first `separator`, which is in neither part.
pub(crate) fn split_once(text: &[u8], separator: u8) -> Option<(&[u8], &[u8])> {
    let at = text.iter().position(|b| *b == separator)?;
    Some((&text[..at], &text[at + 1..]))
}
