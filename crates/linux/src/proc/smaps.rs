//! Kernel flags of each mapping: /proc/PID/smaps.
//!
//! Nothing else tells an ordinary user that a mapping is hugetlb, device memory, left out of core
//! dumps, wiped on fork, or registered with a userfaultfd. But the kernel walks all page tables to
//! produce this file (milliseconds a GiB), so it is read on demand only: when the layout changed.

use super::maps::{MapsEntry, parse_line};
use super::text::{self, decimal, fields, split_once};
use crate::error::Result;
use std::fs::File;

macro_rules! vm_flags {
    ($($name:ident $code:literal $doc:literal,)*) => {
        /// Flags of a mapping (VmFlags), a bit set.
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
        pub struct VmFlags(pub u64);

        #[allow(non_camel_case_types, clippy::upper_case_acronyms, reason = "positions only")]
        enum Position { $($name,)* }

        impl VmFlags {
            $(#[doc = $doc] pub const $name: Self = Self(1 << Position::$name as u64);)*

            const CODES: &[(&[u8; 2], Self)] = &[$(($code, Self::$name),)*];
        }
    };
}

vm_flags! {
    READ b"rd" "Readable.",
    WRITE b"wr" "Writable.",
    EXECUTE b"ex" "Executable.",
    SHARED b"sh" "Shared.",
    MAY_READ b"mr" "May be made readable.",
    MAY_WRITE b"mw" "May be made writable.",
    MAY_EXECUTE b"me" "May be made executable.",
    MAY_SHARE b"ms" "May share: a shared mapping, also of a read-only descriptor.",
    GROWS_DOWN b"gd" "Grows down: a stack.",
    PFN_MAP b"pf" "Raw page frames without page structures.",
    LOCKED b"lo" "Locked in memory.",
    IO b"io" "Device memory.",
    SEQUENTIAL b"sr" "Advised: sequential reads.",
    RANDOM b"rr" "Advised: random reads.",
    DONT_COPY b"dc" "Not inherited by fork.",
    DONT_EXPAND b"de" "Cannot be grown by mremap.",
    ACCOUNT b"ac" "Counts against the commit limit.",
    NO_RESERVE b"nr" "No swap space is reserved.",
    HUGETLB b"ht" "Hugetlb pages.",
    SYNC_FAULT b"sf" "Synchronous page faults (DAX).",
    ARCH_1 b"ar" "Architecture's own.",
    WIPE_ON_FORK b"wf" "Zeroes in a child.",
    DONT_DUMP b"dd" "Left out of core dumps.",
    SOFT_DIRTY b"sd" "Soft-dirty.",
    MIXED_MAP b"mm" "Page frames with and without page structures.",
    HUGE_PAGE b"hg" "Advised: transparent huge pages.",
    NO_HUGE_PAGE b"nh" "Advised: no transparent huge pages.",
    MERGEABLE b"mg" "May be merged (KSM).",
    UFFD_MISSING b"um" "Registered with a userfaultfd: missing pages.",
    UFFD_WP b"uw" "Registered with a userfaultfd: write protection.",
    UFFD_MINOR b"ui" "Registered with a userfaultfd: minor faults.",
    SHADOW_STACK b"ss" "A shadow stack.",
    SEALED b"sl" "Sealed (mseal).",
    DROPPABLE b"dp" "Droppable: the kernel may discard its content at any time.",
    GUARDS b"gu" "Holds guard pages.",
    LOCK_ON_FAULT b"lf" "Pages are locked as they are touched.",
}

impl VmFlags {
    /// Whether all bits of `other` are set.
    pub const fn contains(self, other: Self) -> bool {
        self.0 & other.0 == other.0
    }

    /// Whether any bit of `other` is set.
    pub const fn intersects(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Both.
    #[must_use]
    pub const fn with(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// From the text after `VmFlags:`. Codes this build does not know are passed over.
    pub fn parse(line: &[u8]) -> Self {
        fields(line).fold(Self::default(), |flags, code| {
            let known = Self::CODES.iter().find(|(c, _)| c.as_slice() == code);
            known.map_or(flags, |(_, bit)| flags.with(*bit))
        })
    }
}

/// One mapping with what smaps adds.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct SmapsEntry {
    /// As in maps.
    pub mapping: MapsEntry,
    /// Flags.
    pub flags: VmFlags,
    /// Size of its pages in bytes: 4096, or a hugetlb size.
    pub page_size: u64,
    /// Bytes in memory.
    pub resident: u64,
    /// Bytes in memory that are anonymous: written private copies, for a file mapping.
    pub anonymous: u64,
    /// Bytes in swap.
    pub swapped: u64,
}

/// Parses a whole smaps text.
///
/// # Errors
/// A line that is neither a mapping nor a `Key: value`.
pub fn parse(text: &[u8]) -> Result<Vec<SmapsEntry>, &[u8]> {
    let mut entries: Vec<SmapsEntry> = Vec::new();
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        // Keys begin with a capital letter, addresses are lower-case hexadecimal.
        if !line[0].is_ascii_uppercase() {
            let mapping = parse_line(line).ok_or(line)?;
            entries.push(SmapsEntry {
                mapping,
                ..SmapsEntry::default()
            });
            continue;
        }
        let Some(entry) = entries.last_mut() else {
            return Err(line);
        };
        let (key, value) = split_once(line, b':').ok_or(line)?;
        let kilobytes = || {
            fields(value)
                .next()
                .and_then(decimal)
                .and_then(|kb| kb.checked_mul(1024))
                .ok_or(line)
        };
        match key {
            b"KernelPageSize" => entry.page_size = kilobytes()?,
            b"Rss" => entry.resident = kilobytes()?,
            b"Anonymous" => entry.anonymous = kilobytes()?,
            b"Swap" => entry.swapped = kilobytes()?,
            b"VmFlags" => entry.flags = VmFlags::parse(value),
            _ => {}
        }
    }
    Ok(entries)
}

/// An open /proc/PID/smaps.
#[derive(Debug)]
pub struct Smaps {
    pid: u32,
    file: File,
    text: Vec<u8>,
}

impl Smaps {
    /// Opens that of process `pid`; after `exec` it must be opened anew.
    ///
    /// # Errors
    /// If the process is gone or not ours to look at.
    pub fn open(pid: u32) -> Result<Self> {
        Ok(Self {
            pid,
            file: text::open(pid, "smaps")?,
            text: Vec::new(),
        })
    }

    /// Reads it. Empty when the address space is gone.
    ///
    /// # Errors
    /// If reading fails or the text is not understood.
    pub fn read(&mut self) -> Result<Vec<SmapsEntry>> {
        text::read_into(&self.file, &mut self.text)
            .map_err(|e| text::error(self.pid, "smaps", e))?;
        parse(&self.text).map_err(|line| text::malformed(self.pid, "smaps", line))
    }
}
