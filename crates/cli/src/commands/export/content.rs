//! The memory of a core: which of it has bytes, and writing them.
//!
//! Time and size follow the content. A page that was never written and has no file behind it is
//! zero and becomes a hole; a reservation of terabytes costs a program header.

use crate::exit::{Code, fail};
use std::collections::HashSet;
use std::fs::File;
use std::ops::Range;
use std::os::unix::fs::FileExt as _;
use stillframe_image::elfcore::{self, Content, Plan, Segment};
use stillframe_image::{Coverage, Mapping, MappingKind, PAGE_SIZE, PageNumber, ProcessImage};
use stillframe_store::{Error, Memory};

const PAGE: u64 = PAGE_SIZE as u64;
/// Mappings up to this long are one segment, holes and all, as the kernel would write them.
const WHOLE: u64 = 1 << 30;
/// In longer ones, content with less than this between it stays one segment.
const GAP: u64 = 64 << 20;
/// Pages written with one call.
const BATCH: usize = 256;

/// What was written.
pub struct Written {
    /// Size of the file.
    pub bytes: u64,
    /// Of that, bytes that are not holes.
    pub content_bytes: u64,
    /// What a reader of the core should know.
    pub notes: Vec<String>,
}

/// A core being made.
pub struct Export<'a> {
    image: &'a ProcessImage,
    memory: &'a Memory<'a>,
    /// Start addresses of mappings whose file is missing: only pages with a version of their own
    /// are written.
    without_file: HashSet<u64>,
}

/// Why writing had to stop.
enum Stop {
    /// A page of this mapping is not available.
    Unavailable { mapping: u64 },
    /// Anything else.
    Failed(anyhow::Error),
}

impl<E: Into<anyhow::Error>> From<E> for Stop {
    fn from(error: E) -> Self {
        Self::Failed(error.into())
    }
}

impl<'a> Export<'a> {
    /// The core of one checkpoint.
    pub fn new(image: &'a ProcessImage, memory: &'a Memory<'a>) -> Self {
        Self {
            image,
            memory,
            without_file: HashSet::new(),
        }
    }

    /// Writes it into an empty file.
    ///
    /// A page that proves unavailable (its file is neither recorded nor on this machine any more)
    /// must not read as zero. Its mapping is then laid out again with the pages that are there.
    ///
    /// # Errors
    /// If the recording cannot be read or the file not be written.
    pub fn write(mut self, file: &File) -> anyhow::Result<Written> {
        loop {
            match self.attempt(file) {
                Ok((plan, content_bytes)) => {
                    return Ok(Written {
                        bytes: plan.file_size,
                        content_bytes,
                        notes: self.notes(),
                    });
                }
                Err(Stop::Failed(error)) => return Err(error),
                Err(Stop::Unavailable { mapping }) => {
                    if !self.without_file.insert(mapping) {
                        return Err(fail(
                            Code::Damaged,
                            format!("the memory at {mapping:#x} cannot be read, though recorded"),
                        ));
                    }
                    file.set_len(0)?;
                }
            }
        }
    }

    fn attempt(&self, file: &File) -> Result<(Plan, u64), Stop> {
        let mut failure = None;
        let plan = elfcore::plan(self.image, |mapping| {
            self.content(mapping).unwrap_or_else(|error| {
                failure.get_or_insert(error);
                Content::Nothing
            })
        })
        .map_err(|error| fail(Code::Damaged, error.to_string()))?;
        if let Some(error) = failure {
            return Err(error.into());
        }
        file.write_all_at(&plan.head, 0)?;
        let mut content_bytes = plan.head.len() as u64;
        let mut batch = Batch::default();
        for segment in plan.segments.iter().filter(|s| s.file_size > 0) {
            content_bytes += self.segment(file, segment, &mut batch)?;
        }
        file.set_len(plan.file_size)?;
        Ok((plan, content_bytes))
    }

    /// What of a mapping to write.
    fn content(&self, mapping: &Mapping) -> Result<Content, Error> {
        let captured = !matches!(mapping.coverage, Coverage::Omitted(_));
        if !captured || matches!(mapping.kind, MappingKind::Vvar | MappingKind::Vsyscall) {
            return Ok(Content::Nothing);
        }
        let mut parts = merge(&self.versions(mapping.start..mapping.end)?, 0);
        if reads_file(mapping) {
            if !self.without_file.contains(&mapping.start) {
                // Pages beyond the end of the file do not exist; touching one is SIGBUS.
                let size = self
                    .image
                    .space
                    .file_of(mapping)
                    .map_or(0, |file| file.size);
                let bytes = size.saturating_sub(mapping.offset).min(mapping.len());
                let end = mapping.start + bytes.next_multiple_of(PAGE);
                parts.retain(|part| part.end > end);
                if let Some(first) = parts.first_mut() {
                    first.start = first.start.max(end);
                }
                if bytes > 0 {
                    parts.insert(0, mapping.start..end);
                }
            }
            return Ok(Content::Parts(parts));
        }
        if parts.is_empty() && !(mapping.read || mapping.write) {
            return Ok(Content::Nothing);
        }
        if mapping.len() <= WHOLE {
            return Ok(Content::Whole);
        }
        Ok(Content::Parts(join(parts, GAP)))
    }

    /// Pages of a range that have a version of their own.
    fn versions(&self, range: Range<u64>) -> Result<Vec<PageNumber>, Error> {
        let pages = PageNumber::of(range.start)..PageNumber::of(range.end);
        Ok(self
            .memory
            .pages_with_versions(pages)?
            .into_iter()
            .map(|(page, _)| page)
            .collect())
    }

    /// Writes a segment; returns the bytes that are not holes.
    fn segment(&self, file: &File, segment: &Segment, batch: &mut Batch) -> Result<u64, Stop> {
        let mapping = self
            .image
            .space
            .mapping_at(segment.start)
            .ok_or_else(|| fail(Code::Damaged, "a segment without its mapping"))?;
        let mut content = 0;
        let mut put = |page: PageNumber, batch: &mut Batch| -> Result<(), Stop> {
            let mut bytes = [0; PAGE_SIZE];
            match self.memory.page(page, &mut bytes) {
                Ok(_) => {}
                Err(Error::Unavailable { .. }) => {
                    return Err(Stop::Unavailable {
                        mapping: mapping.start,
                    });
                }
                Err(error) => return Err(error.into()),
            }
            if bytes != [0; PAGE_SIZE] {
                content += PAGE;
                let at = segment.file_offset + (page.address() - segment.start);
                batch.add(file, at, &bytes)?;
            }
            Ok(())
        };
        if reads_file(mapping) {
            let pages = PageNumber::of(segment.start).0..PageNumber::of(segment.end).0;
            for page in pages {
                put(PageNumber(page), batch)?;
            }
        } else {
            for page in self.versions(segment.start..segment.end)? {
                put(page, batch)?;
            }
        }
        batch.flush(file)?;
        Ok(content)
    }

    fn notes(&self) -> Vec<String> {
        let mut files: Vec<String> = self
            .image
            .space
            .mappings
            .iter()
            .filter(|m| self.without_file.contains(&m.start))
            .map(|m| crate::output::printable(&m.name).into_owned())
            .collect();
        files.dedup();
        files
            .into_iter()
            .map(|name| {
                format!(
                    "{name} is neither in the recording nor unchanged on this machine; its \
                     unmodified pages are not in the core"
                )
            })
            .collect()
    }
}

/// Whether pages without a version have the bytes of a file.
fn reads_file(mapping: &Mapping) -> bool {
    mapping.kind == MappingKind::File
}

/// Pages as ranges of addresses, joined where at most `gap` bytes are between.
fn merge(pages: &[PageNumber], gap: u64) -> Vec<Range<u64>> {
    join(
        pages
            .iter()
            .map(|p| p.address()..p.address() + PAGE)
            .collect(),
        gap,
    )
}

fn join(ranges: Vec<Range<u64>>, gap: u64) -> Vec<Range<u64>> {
    let mut joined: Vec<Range<u64>> = Vec::new();
    for range in ranges {
        match joined.last_mut() {
            Some(last) if range.start <= last.end.saturating_add(gap) => last.end = range.end,
            _ => joined.push(range),
        }
    }
    joined
}

/// Neighbouring pages, written together.
#[derive(Default)]
struct Batch {
    at: u64,
    bytes: Vec<u8>,
}

impl Batch {
    fn add(&mut self, file: &File, at: u64, page: &[u8; PAGE_SIZE]) -> std::io::Result<()> {
        let follows = at == self.at + self.bytes.len() as u64;
        if !follows || self.bytes.len() >= BATCH * PAGE_SIZE {
            self.flush(file)?;
            self.at = at;
        }
        self.bytes.extend_from_slice(page);
        Ok(())
    }

    fn flush(&mut self, file: &File) -> std::io::Result<()> {
        file.write_all_at(&self.bytes, self.at)?;
        self.bytes.clear();
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pages_join_over_gaps() {
        let pages: Vec<PageNumber> = [1, 2, 3, 7, 9, 10].map(PageNumber).to_vec();
        let all = merge(&pages, 0);
        assert_eq!(
            all,
            [PAGE..4 * PAGE, 7 * PAGE..8 * PAGE, 9 * PAGE..11 * PAGE]
        );
        assert_eq!(
            join(all.clone(), PAGE),
            [PAGE..4 * PAGE, 7 * PAGE..11 * PAGE]
        );
        let one = join(all, 3 * PAGE);
        assert_eq!((one.len(), one[0].start, one[0].end), (1, PAGE, 11 * PAGE));
        assert!(merge(&[], 0).is_empty());
    }
}
