//! A stopped process as it is: what may have to be put back.

use super::layout::Step;
use super::{Error, Kept};
use crate::rollback::pages::is_ours;
use stillframe_image::{Mapping, MappingKind, PAGE_SIZE, PageNumber, ProcessImage, Thread};
use stillframe_linux::memory::Door;
use stillframe_linux::pagemap::{Categories, Scanner};
use stillframe_linux::proc::fds::Fds;
use stillframe_linux::proc::maps::{Maps, MapsEntry};
use stillframe_linux::proc::process;
use stillframe_linux::tracee::Halt;

const PAGE: u64 = PAGE_SIZE as u64;

/// The mappings of a live process.
#[derive(Debug, Default)]
pub struct Mappings {
    /// As /proc tells them.
    pub list: Vec<Mapping>,
}

impl Mappings {
    /// Reads them.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn read(pid: u32) -> Result<Self, Error> {
        let mut maps = Maps::open(pid)?;
        let _ = maps.refresh()?;
        Ok(Self {
            list: maps.entries().iter().map(MapsEntry::mapping).collect(),
        })
    }
}

/// All that can be seen from outside.
pub(super) fn read(halt: &Halt<'_>) -> Result<ProcessImage, Error> {
    let pid = halt.pid();
    let mut image = ProcessImage::default();
    image.space.mappings = Mappings::read(pid)?.list;
    for tid in halt.threads() {
        let mut thread = Thread::default();
        halt.thread_state(*tid, &mut thread)?;
        thread.name = halt.name(*tid)?;
        thread.robust_list = halt.robust_list(*tid)?;
        thread.rseq = halt.rseq(*tid)?;
        image.threads.push(thread);
    }
    image.threads.sort_by_key(|t| (t.tid != pid, t.tid));
    image.process = process::read(halt.threads().first().copied().unwrap_or(pid))?;
    image.process.pid = pid;
    halt.shared_pending(&mut image.process.pending)?;
    image.descriptors = Fds::open(pid)?.full()?;
    Ok(image)
}

/// Keeps the content of memory that a plan takes away.
pub(super) fn keep_what_goes(
    pid: u32,
    door: &Door,
    steps: &[Step],
    now: &[Mapping],
    kept: &mut Kept,
) -> Result<(), Error> {
    let mut scanner = Scanner::for_classifying(pid)?;
    for step in steps {
        let range = match step {
            Step::Unmap(range) => range.clone(),
            Step::Map(m) => m.start..m.end,
            Step::Break(end) => match now.iter().find(|m| m.kind == MappingKind::Heap) {
                Some(heap) if heap.end > *end => *end..heap.end,
                _ => continue,
            },
            Step::Protect(..) | Step::GrowStack(_) => continue,
        };
        for mapping in now.iter().filter(|m| is_ours(m)) {
            let part = mapping.start.max(range.start)..mapping.end.min(range.end);
            if part.start >= part.end {
                continue;
            }
            let mut regions = Vec::new();
            let any = Categories::PRESENT.with(Categories::SWAPPED);
            scanner.classify_any(part, any, &mut regions)?;
            for region in regions {
                if region.categories.contains(Categories::FILE) && !mapping.shared {
                    continue;
                }
                for page in region.start / PAGE..region.end / PAGE {
                    let room = kept.free(1).as_flattened_mut();
                    if door.read(page * PAGE, room).is_ok() {
                        kept.keep(&[(PageNumber(page), 0)]);
                    }
                }
            }
        }
    }
    Ok(())
}
