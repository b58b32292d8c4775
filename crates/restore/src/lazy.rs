//! Memory that comes when it is touched.
//!
//! A process of a gibibyte can run after some milliseconds if its pages come when they are wanted:
//! private anonymous memory is left empty and its missing pages are ours to bring
//! ([`stillframe_linux::missing`]). A thread that touches one waits for it; in between all others are
//! brought, those first that were written around the checkpoint, because they are wanted again. When
//! all are there the process is like any other.
//!
//! Until then it must not outlive us, since it would read zeros: it stays asked to be killed with us,
//! and is let off by a call made in it at the end.

use crate::error::{Error, Result};
use crate::source::{Page, Source};
use std::collections::BTreeSet;
use std::ops::Range;
use std::time::Duration;
use stillframe_image::{CheckpointId, PAGE_SIZE, PageNumber};
use stillframe_linux::inject::Injector;
use stillframe_linux::missing::{Copied, Happened, Missing};
use stillframe_linux::remote::Remote;
use stillframe_linux::remote::numbers::{self, prctl};
use stillframe_linux::tracee::{Event, Halt, Outcome, Stop, Tracee};

const SIZE: u64 = PAGE_SIZE as u64;
/// Most pages brought between two looks at who waits.
const RUN: u64 = 32;
/// How long it may take to stop.
const LIMIT: Duration = Duration::from_secs(10);
/// Checkpoints from this one on whose pages are brought first.
const AROUND: u64 = 3;

/// Addresses whose pages are still to be brought, and what they were in the checkpoint: memory moves.
#[derive(Clone, Debug, PartialEq, Eq)]
struct View {
    range: Range<u64>,
    origin: u64,
}

/// All views of one address space, in no order.
#[derive(Clone, Debug, Default)]
struct Views(Vec<View>);

impl Views {
    fn of(ranges: &[Range<u64>]) -> Self {
        let view = |r: &Range<u64>| View {
            range: r.clone(),
            origin: r.start,
        };
        Self(ranges.iter().map(view).collect())
    }

    /// The address in the checkpoint of what is to come here.
    fn origin(&self, address: u64) -> Option<u64> {
        let view = self.0.iter().find(|v| v.range.contains(&address))?;
        Some(view.origin + (address - view.range.start))
    }

    /// Takes a range out; what was in it, in views.
    fn cut(&mut self, gone: &Range<u64>) -> Vec<View> {
        let mut cut = Vec::new();
        let mut left = Vec::with_capacity(self.0.len() + 1);
        for view in self.0.drain(..) {
            let part = |range: Range<u64>| View {
                origin: view.origin + (range.start - view.range.start),
                range,
            };
            let start = view.range.start.max(gone.start);
            let end = view.range.end.min(gone.end);
            if start >= end {
                left.push(view);
                continue;
            }
            if view.range.start < start {
                left.push(part(view.range.start..start));
            }
            if end < view.range.end {
                left.push(part(end..view.range.end));
            }
            cut.push(part(start..end));
        }
        self.0 = left;
        cut
    }

    fn shift(&mut self, from: &Range<u64>, to: u64) {
        // What was at the destination has been unmapped, which was told before.
        let moved = self.cut(from);
        self.0.extend(moved.into_iter().map(|view| {
            let start = to + (view.range.start - from.start);
            View {
                range: start..start + (view.range.end - view.range.start),
                origin: view.origin,
            }
        }));
    }

    /// The next stretch to be brought. It stays until it is [`Views::cut`]: it may be thrown away or
    /// moved while it is being brought.
    fn next(&self) -> Option<View> {
        let last = self.0.last()?;
        let end = last.range.end.min(last.range.start + RUN * SIZE);
        Some(View {
            range: last.range.start..end,
            origin: last.origin,
        })
    }
}

/// One address space that is being filled.
#[derive(Debug)]
struct Space {
    missing: Missing,
    views: Views,
    gone: bool,
}

/// Brings the pages of a process, and of children that it forks meanwhile.
#[derive(Debug)]
pub struct Server<'a> {
    source: &'a Source<'a>,
    spaces: Vec<Space>,
    first: Vec<PageNumber>,
    brought: u64,
}

impl<'a> Server<'a> {
    /// Registers what was left empty.
    ///
    /// # Errors
    /// The kernel's.
    pub fn new(source: &'a Source<'a>, missing: Missing, left: &[Range<u64>]) -> Result<Self> {
        for range in left {
            missing.register(range)?;
        }
        let mut first = Vec::new();
        let (id, space) = (source.checkpoint(), source.image().id);
        for number in id.0..id.0.saturating_add(AROUND) {
            let made = source.recording().pages_made(CheckpointId(number), space);
            first.extend(made.unwrap_or_default());
        }
        first.sort_unstable();
        first.dedup();
        Ok(Self {
            source,
            spaces: vec![Space {
                missing,
                views: Views::of(left),
                gone: false,
            }],
            first,
            brought: 0,
        })
    }

    /// Pages brought so far.
    pub const fn brought(&self) -> u64 {
        self.brought
    }

    /// Serves until every page is there or the process is gone.
    ///
    /// # Errors
    /// If a page cannot be read: the process then waits for it, and is to be killed.
    pub fn serve(&mut self) -> Result<()> {
        for page in std::mem::take(&mut self.first) {
            self.answer()?;
            let address = page.address();
            let here = self.spaces.first().map(|s| s.views.origin(address));
            if here == Some(Some(address)) {
                self.bring(0, address, address, SIZE)?;
            }
        }
        loop {
            self.answer()?;
            self.spaces.retain(|s| !s.gone);
            let pending = |s: &Space| s.views.next();
            let Some((at, next)) = self
                .spaces
                .iter()
                .enumerate()
                .find_map(|(at, s)| Some((at, pending(s)?)))
            else {
                return Ok(());
            };
            let length = next.range.end - next.range.start;
            if self.bring(at, next.range.start, next.origin, length)?
                && let Some(space) = self.spaces.get_mut(at)
            {
                space.views.cut(&next.range);
            }
        }
    }

    /// Takes all reports there are.
    fn answer(&mut self) -> Result<()> {
        let mut at = 0;
        while at < self.spaces.len() {
            while let Some(happened) = self.spaces.get(at).map(|s| s.missing.take()).transpose()? {
                let Some(happened) = happened else {
                    break;
                };
                self.deal(at, happened)?;
            }
            at += 1;
        }
        Ok(())
    }

    fn deal(&mut self, at: usize, happened: Happened) -> Result<()> {
        let Some(space) = self.spaces.get_mut(at) else {
            return Ok(());
        };
        match happened {
            Happened::Fault(address) => {
                let page = address & !(SIZE - 1);
                let done = match space.views.origin(page) {
                    Some(origin) => self.bring(at, page, origin, SIZE)?,
                    None => self.zero(at, page)?,
                };
                if !done && let Some(space) = self.spaces.get(at) {
                    // It tries again, and asks again.
                    space.missing.wake(&(page..page + SIZE));
                }
            }
            Happened::Removed(range) | Happened::Unmapped(range) => {
                space.views.cut(&range);
            }
            Happened::Moved(from, to) => space.views.shift(&from, to),
            Happened::Forked(missing) => {
                let views = space.views.clone();
                self.spaces.push(Space {
                    missing,
                    views,
                    gone: false,
                });
            }
        }
        Ok(())
    }

    /// A page that has no content. Whether it is there now.
    fn zero(&mut self, at: usize, page: u64) -> Result<bool> {
        let Some(space) = self.spaces.get_mut(at) else {
            return Ok(true);
        };
        match space.missing.zero(page, SIZE)? {
            Copied::Done => {}
            Copied::Again(_) | Copied::Partly(_) => return Ok(false),
            Copied::Gone => space.gone = true,
        }
        Ok(true)
    }

    /// Brings the pages of a stretch: those that have content, and a single one in any case. Whether
    /// all are there now; if not, something happens to the memory that has to be heard of first.
    fn bring(&mut self, at: usize, to: u64, origin: u64, length: u64) -> Result<bool> {
        let found = self.source.versions(origin..origin + length)?;
        if found.iter().all(|(_, v)| v.is_zero()) {
            return if length == SIZE {
                self.zero(at, to)
            } else {
                Ok(true)
            };
        }
        let mut bytes: Vec<u8> = Vec::with_capacity(found.len() * PAGE_SIZE);
        let mut start = 0;
        let mut page: Page = [0; PAGE_SIZE];
        for (number, version) in found {
            if version.is_zero() {
                continue;
            }
            let here = to + (number.address() - origin);
            if here != start + bytes.len() as u64 {
                if !self.put(at, start, &bytes)? {
                    return Ok(false);
                }
                bytes.clear();
                start = here;
            }
            self.source.content(version, &mut page)?;
            bytes.extend_from_slice(&page);
        }
        self.put(at, start, &bytes)
    }

    /// Copies pages in. Some may be there already.
    fn put(&mut self, at: usize, to: u64, bytes: &[u8]) -> Result<bool> {
        let mut done = 0usize;
        while done < bytes.len() {
            let Some(space) = self.spaces.get_mut(at) else {
                return Ok(true);
            };
            let here = to + done as u64;
            let rest = bytes.get(done..).unwrap_or_default();
            match space.missing.copy(here, rest)? {
                Copied::Done => {
                    self.brought += (rest.len() / PAGE_SIZE) as u64;
                    return Ok(true);
                }
                Copied::Partly(n) => {
                    self.brought += n / SIZE;
                    let there = here + n;
                    space.missing.wake(&(there..there + SIZE));
                    done += usize::try_from(n).unwrap_or(0) + PAGE_SIZE;
                }
                Copied::Again(_) => return Ok(false),
                Copied::Gone => {
                    space.gone = true;
                    return Ok(true);
                }
            }
        }
        Ok(true)
    }
}

/// Writes the pages that are read and written while the process is put together: what lies around
/// thread pointers and stack pointers, and what the kernel keeps up to date. How many.
///
/// # Errors
/// If one cannot be read or written.
pub(crate) fn needed_now(remote: &Remote, source: &Source<'_>) -> Result<u64> {
    let mut pages = BTreeSet::new();
    let image = source.image();
    for thread in &image.threads {
        let r = &thread.registers;
        let words = [
            Some(r.fs_base.wrapping_sub(SIZE)),
            Some(r.fs_base),
            Some(r.fs_base.wrapping_add(SIZE)),
            Some(r.rsp.wrapping_sub(128)),
            Some(r.rsp),
            thread.tid_address,
            thread.robust_list.map(|l| l.head),
            thread.rseq.map(|q| q.address),
            thread
                .rseq
                .map(|q| q.address.wrapping_add(u64::from(q.size))),
        ];
        pages.extend(words.into_iter().flatten().map(PageNumber::of));
    }
    let mut bytes: Page = [0; PAGE_SIZE];
    let mut written = 0;
    for page in pages {
        let mapping = image.space.mapping_at(page.address());
        if mapping.is_some_and(crate::space::is_lazy) {
            source.page(page, &mut bytes)?;
            remote.write(page.address(), &bytes)?;
            written += 1;
        }
    }
    Ok(written)
}

/// Has the process make what its faults are told by.
///
/// # Errors
/// [`Error::NotSupported`] if that is not allowed.
pub(crate) fn arrange(remote: &mut Remote, halt: &mut Halt<'_>) -> Result<Missing> {
    let refused = |e: stillframe_linux::Error| match e.errno() {
        Some(1 | 22) => Error::unsupported(
            "memory that comes when it is touched",
            format!("it takes CAP_SYS_PTRACE and Linux 4.11 or later ({e}); leave out --lazy"),
        ),
        _ => e.into(),
    };
    let tid = halt.pid();
    let flags = [u64::from(Missing::CREATE_FLAGS), 0, 0, 0, 0, 0];
    let number = remote
        .call(halt, tid, numbers::USERFAULTFD, flags)
        .map_err(refused)?;
    let taken = remote.take_fd(u32::try_from(number).unwrap_or(u32::MAX));
    remote.call(halt, tid, numbers::CLOSE, [number, 0, 0, 0, 0, 0])?;
    Missing::handshake(taken?).map_err(refused)
}

/// Every page is there: the process may outlive us. It is stopped for a moment. If it ends in that
/// moment its end is told here, and to nobody who waits for it.
///
/// # Errors
/// If it cannot be stopped; it then still ends with us.
pub fn let_off(pid: u32) -> Result<Option<Outcome>> {
    let mut tracee = Tracee::attach(pid).map_err(|e| {
        Error::unsupported(
            format!("process {pid}"),
            format!("it cannot be let off: {e}"),
        )
    })?;
    let done = loop {
        match tracee.stop(LIMIT)? {
            Stop::All(mut halt) => {
                let mut injector = Injector::prepare(&mut halt)?;
                let args = [prctl::SET_PDEATHSIG, 0, 0, 0, 0, 0];
                let called = injector.syscall(&mut halt, pid, numbers::PRCTL, args);
                injector.finish(&mut halt)?;
                halt.resume()?;
                break called.map(drop).map_err(Error::from);
            }
            Stop::TimedOut { why, .. } => {
                break Err(Error::unsupported(
                    format!("process {pid}"),
                    format!("it does not stop ({why}), and ends when we do"),
                ));
            }
            Stop::Event(Event::Ended(outcome)) => return Ok(Some(outcome)),
            // It is about to end by itself, and whoever waits for it will see that.
            Stop::Event(Event::Exiting { .. } | Event::Fatal { .. }) => break Ok(()),
            Stop::Event(_) => {}
        }
    };
    tracee.detach()?;
    done.map(|()| None)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn view(start: u64, end: u64, origin: u64) -> View {
        View {
            range: start..end,
            origin,
        }
    }

    #[test]
    fn memory_moves_and_goes_while_it_comes() {
        let mut views = Views::of(&[0x1000..0x9000, 0x2_0000..0x2_4000]);
        assert_eq!(views.origin(0x8000), Some(0x8000));
        assert_eq!(views.origin(0x9000), None);
        // A part in the middle goes elsewhere, and keeps what it is.
        views.shift(&(0x3000..0x5000), 0x10_0000);
        assert_eq!(views.origin(0x3000), None);
        assert_eq!(views.origin(0x10_1000), Some(0x4000));
        assert_eq!(views.origin(0x5000), Some(0x5000));
        // A part of that is thrown away.
        assert_eq!(
            views.cut(&(0x10_1000..0x11_0000)),
            [view(0x10_1000, 0x10_2000, 0x4000)]
        );
        assert_eq!(views.origin(0x10_1000), None);
        assert_eq!(views.origin(0x10_0000), Some(0x3000));
        // What is left comes to an end, each page once.
        let mut seen = Vec::new();
        while let Some(next) = views.next() {
            assert!(next.range.end - next.range.start <= RUN * SIZE);
            let pages = (next.range.end - next.range.start) / SIZE;
            seen.extend((0..pages).map(|n| next.origin + n * SIZE));
            views.cut(&next.range);
        }
        seen.sort_unstable();
        let all = [0x1000, 0x2000, 0x3000, 0x5000, 0x6000, 0x7000, 0x8000];
        let others = [0x2_0000, 0x2_1000, 0x2_2000, 0x2_3000];
        assert_eq!(seen, [&all[..], &others].concat());
    }
}
