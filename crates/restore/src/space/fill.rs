//! The bytes of pages.

use super::files::{Backing, has_backing};
use super::{Done, Fill, Step, describe};
use crate::error::{Error, Result};
use crate::source::{Page, Source};
use std::ops::Range;
use std::os::unix::fs::FileExt;
use stillframe_image::{Coverage, Gap, Mapping, MappingKind, PAGE_SIZE, PageNumber};
use stillframe_linux::remote::Remote;

const ZERO: Page = [0; PAGE_SIZE];
/// Most bytes written at once.
const RUN: usize = 64 * PAGE_SIZE;

pub(super) fn fill(
    remote: &Remote,
    source: &Source<'_>,
    backing: &mut Backing,
    steps: &[Step],
    how: Fill,
    done: &mut Done,
) -> Result<()> {
    let space = &source.image().space;
    let mut writer = Writer::new(remote);
    let mut fresh = Vec::new();
    for step in steps {
        let Step::Map { mapping, range } = step else {
            continue;
        };
        let Some(mapping) = space.mappings.get(*mapping) else {
            continue;
        };
        if let Coverage::Omitted(why) = &mapping.coverage {
            done.gaps.push(Gap {
                subject: describe(mapping),
                reason: format!("it has no content: {why}"),
            });
        } else if mapping.shared {
            share(source, backing, mapping, range, done)?;
            fresh.push((mapping, offsets(mapping, range)));
        } else if matches!(how, Fill::Lazily) && is_lazy(mapping) {
            done.left.push(range.clone());
        } else {
            for (page, version) in source.versions(range.clone())? {
                if version.is_zero() && !has_backing(mapping) {
                    continue;
                }
                source.content(version, writer.page(page)?)?;
            }
        }
    }
    for (mapping, part) in fresh {
        backing.mark_filled(mapping, part);
    }
    writer.flush()?;
    done.pages += writer.written;
    Ok(())
}

/// Whether memory can be filled while the process runs: nothing but zeros is there before.
pub(crate) fn is_lazy(mapping: &Mapping) -> bool {
    !mapping.shared && !has_backing(mapping) && mapping.kind != MappingKind::Stack
}

/// Which bytes of its file a part of a mapping shows.
fn offsets(mapping: &Mapping, part: &Range<u64>) -> Range<u64> {
    let at = |address: u64| {
        mapping
            .offset
            .saturating_add(address.saturating_sub(mapping.start))
    };
    at(part.start)..at(part.end)
}

/// Content of shared memory goes to what is mapped, once; a file of the user's is left as it is.
fn share(
    source: &Source<'_>,
    backing: &Backing,
    mapping: &Mapping,
    range: &Range<u64>,
    done: &mut Done,
) -> Result<()> {
    let Some(opened) = backing.get(mapping) else {
        return Ok(());
    };
    if opened.fresh && opened.is_filled(&offsets(mapping, range)) {
        return Ok(());
    }
    let mut page = ZERO;
    let mut other = 0u64;
    for (number, version) in source.versions(range.clone())? {
        let offset = mapping.offset + (number.address() - mapping.start);
        if opened.fresh {
            if !version.is_zero() {
                source.content(version, &mut page)?;
                opened
                    .file
                    .write_all_at(&page, offset)
                    .map_err(|e| Error::io("filling", describe(mapping), e))?;
                done.pages += 1;
            }
        } else {
            source.content(version, &mut page)?;
            let mut now = ZERO;
            let got = opened.file.read_at(&mut now, offset).unwrap_or(0);
            if got < PAGE_SIZE {
                now.get_mut(got..).unwrap_or_default().fill(0);
            }
            other += u64::from(now != page);
        }
    }
    if other > 0 {
        done.gaps.push(Gap {
            subject: describe(mapping),
            reason: format!("the file has been written since; {other} pages are those of now"),
        });
    }
    Ok(())
}

/// Writes neighbouring pages together.
struct Writer<'r> {
    remote: &'r Remote,
    start: u64,
    bytes: Vec<u8>,
    written: u64,
}

impl<'r> Writer<'r> {
    fn new(remote: &'r Remote) -> Self {
        Self {
            remote,
            start: 0,
            bytes: Vec::with_capacity(RUN),
            written: 0,
        }
    }

    /// Room for the bytes of a page.
    fn page(&mut self, page: PageNumber) -> Result<&mut Page> {
        let address = page.address();
        if self.bytes.len() >= RUN || address != self.start + self.bytes.len() as u64 {
            self.flush()?;
            self.start = address;
        }
        let at = self.bytes.len();
        self.bytes.resize(at + PAGE_SIZE, 0);
        self.written += 1;
        match self.bytes.get_mut(at..).and_then(|b| b.try_into().ok()) {
            Some(page) => Ok(page),
            None => Err(Error::unsupported("a page", "it has no room")),
        }
    }

    fn flush(&mut self) -> Result<()> {
        if !self.bytes.is_empty() {
            self.remote.write(self.start, &self.bytes)?;
            self.bytes.clear();
        }
        Ok(())
    }
}

/// Parts of `range` that have content in the recording, as addresses, neighbours together.
///
/// # Errors
/// If the index is damaged.
pub fn populated(source: &Source<'_>, range: Range<u64>) -> Result<Vec<Range<u64>>> {
    let mut out: Vec<Range<u64>> = Vec::new();
    for (page, version) in source.versions(range)? {
        if version.is_zero() {
            continue;
        }
        let (start, end) = (page.address(), page.address() + PAGE_SIZE as u64);
        match out.last_mut() {
            Some(last) if last.end == start => last.end = end,
            _ => out.push(start..end),
        }
    }
    Ok(out)
}
