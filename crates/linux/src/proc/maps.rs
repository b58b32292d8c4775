//! The mappings of a process: /proc/PID/maps.
//!
//! Read at every boundary, and nearly always equal to the time before. So the file stays open, the
//! text goes to a reused buffer and is compared as it stands; only when it differs is it parsed,
//! into entries that are reused too.
//!
//! The kernel gives the text in pieces of at most a page and lets go of its lock in between. Of a
//! stopped process the result is exact; of a running one it may miss or repeat a mapping that
//! moves meanwhile, but entries always are in ascending order of address.

use super::text::{self, decimal, hexadecimal, split_once};
use crate::error::{Error, Result, Target};
use std::fs::File;
use stillframe_image::{Coverage, Mapping, MappingKind};

/// One line of /proc/PID/maps.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct MapsEntry {
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// PROT_READ.
    pub read: bool,
    /// PROT_WRITE.
    pub write: bool,
    /// PROT_EXEC.
    pub execute: bool,
    /// MAP_SHARED rather than MAP_PRIVATE.
    pub shared: bool,
    /// Offset into the file, bytes.
    pub offset: u64,
    /// Device as (major, minor); (0, 0) without a file.
    pub device: (u32, u32),
    /// Inode number; 0 without a file.
    pub inode: u64,
    /// Path, `[name]`, or empty. Newlines are real ones here. ` (deleted)` is kept, since a file
    /// may really be called so: see [`MapsEntry::without_deleted`].
    pub name: Vec<u8>,
}

impl MapsEntry {
    /// Length in bytes.
    pub const fn len(&self) -> u64 {
        self.end.saturating_sub(self.start)
    }

    /// Whether it has no bytes, which never comes from the kernel.
    pub const fn is_empty(&self) -> bool {
        self.end <= self.start
    }

    /// Sort of memory, from what this line shows. Hugetlb cannot be told from it except by name.
    pub fn kind(&self) -> MappingKind {
        let starts = |prefix: &[u8]| self.name.starts_with(prefix);
        match self.name.as_slice() {
            b"[heap]" => MappingKind::Heap,
            b"[stack]" => MappingKind::Stack,
            b"[vdso]" => MappingKind::Vdso,
            b"[vsyscall]" | b"[uprobes]" => MappingKind::Vsyscall,
            _ if starts(b"[vvar") => MappingKind::Vvar,
            _ if starts(b"anon_inode:[") || starts(b"anon_inode:") => MappingKind::Device,
            _ if starts(b"/[aio]") || starts(b"socket:[") => MappingKind::Device,
            _ if starts(b"/anon_hugepage") => MappingKind::Huge,
            _ if starts(b"/memfd:") || starts(b"/SYSV") || starts(b"/dev/shm/") => {
                MappingKind::SharedMemory
            }
            _ if starts(b"/dev/zero") => {
                if self.shared {
                    MappingKind::SharedMemory
                } else {
                    MappingKind::Anonymous
                }
            }
            _ if starts(b"/dev/") => MappingKind::Device,
            _ if starts(b"/memfd_secret") || starts(b"/secretmem") => MappingKind::Device,
            _ if self.inode == 0 => {
                if self.shared {
                    MappingKind::SharedMemory
                } else {
                    MappingKind::Anonymous
                }
            }
            // An unnamed device of shared anonymous memory has no path prefix of its own.
            _ if self.shared && self.device == (0, 1) => MappingKind::SharedMemory,
            _ => MappingKind::File,
        }
    }

    /// The mapping it tells of, as one of private memory that is tracked would be covered, and with no
    /// file behind it known yet.
    pub fn mapping(&self) -> Mapping {
        Mapping {
            start: self.start,
            end: self.end,
            read: self.read,
            write: self.write,
            execute: self.execute,
            shared: self.shared,
            offset: self.offset,
            device: self.device,
            inode: self.inode,
            name: self.name.clone(),
            kind: self.kind(),
            coverage: Coverage::Tracked,
            file: None,
        }
    }

    /// The name without ` (deleted)`, if it ends so. Only comparing device and inode with the file
    /// of the full name tells whether the kernel added the ending.
    pub fn without_deleted(&self) -> Option<&[u8]> {
        self.name.strip_suffix(b" (deleted)")
    }

    /// Overwrites `self` with what a line says, keeping its buffer. `None` if it says nothing
    /// sensible; `self` is then undefined, though valid.
    fn parse(&mut self, line: &[u8]) -> Option<()> {
        let (range, rest) = split_once(line, b' ')?;
        let (protection, rest) = split_once(rest, b' ')?;
        let (offset, rest) = split_once(rest, b' ')?;
        let (device, rest) = split_once(rest, b' ')?;
        let (inode, name) = split_once(rest, b' ').unwrap_or((rest, b""));

        let (start, end) = split_once(range, b'-')?;
        (self.start, self.end) = (hexadecimal(start)?, hexadecimal(end)?);
        if self.start >= self.end {
            return None;
        }
        let [r, w, x, s] = protection else {
            return None;
        };
        let bit = |byte: u8, set: u8| match byte {
            b'-' => Some(false),
            _ if byte == set => Some(true),
            _ => None,
        };
        (self.read, self.write, self.execute) = (bit(*r, b'r')?, bit(*w, b'w')?, bit(*x, b'x')?);
        self.shared = match s {
            b's' => true,
            b'p' => false,
            _ => return None,
        };
        self.offset = hexadecimal(offset)?;
        let (major, minor) = split_once(device, b':')?;
        self.device = (
            u32::try_from(hexadecimal(major)?).ok()?,
            u32::try_from(hexadecimal(minor)?).ok()?,
        );
        self.inode = decimal(inode)?;
        self.name.clear();
        // The column is padded on the left; names begin with `/`, `[`, or a word, never a space
        // (a path is absolute, an anonymous name is in brackets).
        unescape(name.trim_ascii_start(), &mut self.name);
        Some(())
    }
}

/// Undoes the only escape the kernel uses here: `\012` for a newline. A backslash itself is not
/// escaped, so a file really called `\012` comes out wrong; comparing device and inode shows that.
fn unescape(mut text: &[u8], out: &mut Vec<u8>) {
    while let Some(at) = text.iter().position(|b| *b == b'\\') {
        out.extend_from_slice(&text[..at]);
        text = &text[at..];
        if let Some(rest) = text.strip_prefix(br"\012") {
            out.push(b'\n');
            text = rest;
        } else {
            out.push(b'\\');
            text = &text[1..];
        }
    }
    out.extend_from_slice(text);
}

/// Parses one line, without its newline.
pub fn parse_line(line: &[u8]) -> Option<MapsEntry> {
    let mut entry = MapsEntry::default();
    entry.parse(line).map(|()| entry)
}

/// Parses a whole text into `entries`, reusing what is there. On an error it gives the line that
/// is not understood, or is out of order, and `entries` holds those before.
///
/// # Errors
/// The line.
pub fn parse<'a>(text: &'a [u8], entries: &mut Vec<MapsEntry>) -> Result<(), &'a [u8]> {
    let mut count = 0;
    let mut last_end = 0;
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        if count == entries.len() {
            entries.push(MapsEntry::default());
        }
        let entry = &mut entries[count];
        // `[vsyscall]` is last and above all others, so the order holds for it too.
        if entry.parse(line).is_none() || entry.start < last_end {
            entries.truncate(count);
            return Err(line);
        }
        last_end = entry.end;
        count += 1;
    }
    entries.truncate(count);
    Ok(())
}

/// What [`Maps::refresh`] found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[must_use]
pub enum MapsChange {
    /// The same text as the time before.
    Same,
    /// Another; the entries are new.
    Changed,
    /// The address space is gone, by exit or `exec`; the entries are as they were.
    Gone,
}

/// The mappings of one process, kept up to date.
#[derive(Debug)]
pub struct Maps {
    pid: u32,
    file: File,
    text: Vec<u8>,
    spare: Vec<u8>,
    entries: Vec<MapsEntry>,
}

impl Maps {
    /// Opens process `pid` and reads its mappings. It stays with the address space the process
    /// has now: after `exec` it must be opened anew.
    ///
    /// # Errors
    /// If the process is gone or not ours to look at.
    pub fn open(pid: u32) -> Result<Self> {
        let file = text::open(pid, "maps")?;
        let mut maps = Self {
            pid,
            file,
            text: Vec::new(),
            spare: Vec::new(),
            entries: Vec::new(),
        };
        match maps.refresh()? {
            MapsChange::Gone => Err(Error::ProcessGone(pid)),
            MapsChange::Same | MapsChange::Changed => Ok(maps),
        }
    }

    /// Reads the mappings again.
    ///
    /// # Errors
    /// If reading fails, or the text is not understood; the entries are then those before the line
    /// in question, and the next call parses anew.
    pub fn refresh(&mut self) -> Result<MapsChange> {
        if let Err(e) = text::read_into(&self.file, &mut self.spare) {
            return match e.raw_os_error() {
                Some(libc::ESRCH) => Ok(MapsChange::Gone),
                _ => Err(text::error(self.pid, "maps", e)),
            };
        }
        if self.spare.is_empty() {
            return Ok(MapsChange::Gone);
        }
        if self.spare == self.text {
            return Ok(MapsChange::Same);
        }
        if let Err(line) = parse(&self.spare, &mut self.entries) {
            let error = text::malformed(self.pid, "maps", line);
            self.text.clear();
            return Err(error);
        }
        std::mem::swap(&mut self.text, &mut self.spare);
        Ok(MapsChange::Changed)
    }

    /// The mappings as last read, in ascending order of address.
    pub fn entries(&self) -> &[MapsEntry] {
        &self.entries
    }

    /// The mapping that holds `address`.
    pub fn at(&self, address: u64) -> Option<&MapsEntry> {
        let after = self.entries.partition_point(|e| e.start <= address);
        self.entries[..after].last().filter(|e| address < e.end)
    }

    /// The process.
    pub fn target(&self) -> Target {
        Target::Process(self.pid)
    }
}
