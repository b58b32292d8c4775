//! A moment as a question sees it, and what the question looked at.
//!
//! An answer holds for as long as everything it was made from stays the same. So a question is not
//! trusted to say what it depends on: it reads through [`Asked`], which writes down every byte,
//! register and mapping it was shown. What was written down is compared at the next moment at which
//! any of it can have changed; only if something did is the question asked again.

use crate::Error;
use crate::machine::{ThreadRegisters, same_files};
use crate::past::{Content, Missing, Past};
use std::cell::{Cell, RefCell};
use std::collections::BTreeMap;
use std::sync::Arc;
use stillframe_image::{AddressSpace, CheckpointId, PAGE_SIZE, PageNumber, Registers, Thread};
use stillframe_symbols::{Memory, Registers as _, Unreadable};

/// Most pages that one answer may read: 64 MiB.
const MOST: usize = (64 << 20) / PAGE_SIZE;

/// A page that was looked at.
#[derive(Clone, Debug)]
struct Seen {
    content: Content,
    /// Which bytes, as half-open ranges that ascend and do not touch. Of a page that is missing,
    /// that it is missing.
    parts: Vec<(u16, u16)>,
}

/// What is taken down of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
struct ThreadSeen {
    registers: Registers,
    xstate: Vec<u8>,
}

impl ThreadSeen {
    fn of(thread: &Thread) -> Self {
        Self {
            registers: thread.registers,
            xstate: thread.xstate.clone(),
        }
    }
}

/// Everything an answer was made from.
#[derive(Clone, Debug, Default)]
pub struct Trace {
    pages: BTreeMap<PageNumber, Seen>,
    /// Threads that were looked at as a whole, and what they held; `None` if there was no such
    /// thread.
    whole: BTreeMap<u32, Option<ThreadSeen>>,
    /// Registers that were looked at, by thread and DWARF's number, and what they held.
    registers: BTreeMap<(u32, u16), Option<Vec<u8>>>,
    /// The main thread, if it was looked for.
    main: Option<Option<u32>>,
    /// The list of threads, if it was looked at.
    threads: Option<Vec<u32>>,
    /// The mappings, if they were looked at as a whole.
    layout: Option<Arc<AddressSpace>>,
}

/// One thing that an answer depends on.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Depends {
    /// Bytes of a page.
    Page(PageNumber),
    /// Threads or their registers.
    Threads,
    /// Which files are mapped where.
    Layout,
}

impl Trace {
    /// What it depends on.
    pub fn depends(&self) -> impl Iterator<Item = Depends> + '_ {
        self.pages
            .keys()
            .map(|p| Depends::Page(*p))
            .chain(self.uses_threads().then_some(Depends::Threads))
            .chain(self.layout.is_some().then_some(Depends::Layout))
    }

    /// The bytes it depends on: first address and length of each stretch, ascending.
    pub fn bytes(&self) -> Vec<(u64, u64)> {
        let mut all: Vec<(u64, u64)> = Vec::new();
        for (page, seen) in &self.pages {
            for (from, to) in &seen.parts {
                let start = page.address().saturating_add(u64::from(*from));
                let length = u64::from(to - from);
                match all.last_mut() {
                    Some((a, n)) if a.saturating_add(*n) == start => *n += length,
                    _ => all.push((start, length)),
                }
            }
        }
        all
    }

    /// How many pages it depends on.
    pub fn page_count(&self) -> usize {
        self.pages.len()
    }

    /// Whether it depends on registers or on which threads there are.
    pub fn uses_threads(&self) -> bool {
        self.threads.is_some()
            || self.main.is_some()
            || !self.whole.is_empty()
            || !self.registers.is_empty()
    }

    /// Whether one of the things it depends on is as it was. Remembers the present copy of a page
    /// that is, so that what it was compared with can be let go of.
    ///
    /// # Errors
    /// Damage.
    pub fn still(&mut self, what: Depends, past: &Past<'_>, at: usize) -> Result<bool, Error> {
        match what {
            Depends::Page(page) => {
                let Some(seen) = self.pages.get_mut(&page) else {
                    return Ok(true);
                };
                let now = past.content(page, at)?;
                let same = match (&seen.content, &now) {
                    (Ok(then), Ok(now)) => {
                        Arc::ptr_eq(then, now)
                            || seen.parts.iter().all(|(from, to)| {
                                let part = usize::from(*from)..usize::from(*to);
                                then.get(part.clone()) == now.get(part)
                            })
                    }
                    (Err(then), Err(now)) => then == now,
                    _ => false,
                };
                if same {
                    seen.content = now;
                }
                Ok(same)
            }
            Depends::Threads => {
                let threads = past.threads(at)?;
                let list = self.threads.as_ref();
                if list.is_some_and(|l| !l.iter().eq(threads.iter().map(|t| &t.tid)))
                    || self
                        .main
                        .is_some_and(|m| m != threads.first().map(|t| t.tid))
                {
                    return Ok(false);
                }
                let find = |tid: u32| threads.iter().find(|t| t.tid == tid);
                let same_whole = self
                    .whole
                    .iter()
                    .all(|(tid, then)| match (then, find(*tid)) {
                        (None, None) => true,
                        (Some(then), Some(now)) => {
                            then.registers == now.registers && then.xstate == now.xstate
                        }
                        _ => false,
                    });
                Ok(same_whole
                    && self.registers.iter().all(|((tid, number), then)| {
                        find(*tid).and_then(|t| ThreadRegisters::new(t).bytes(*number)) == *then
                    }))
            }
            Depends::Layout => {
                let Some(then) = &self.layout else {
                    return Ok(true);
                };
                let now = past.layout(at)?;
                let same = Arc::ptr_eq(then, &now) || same_files(then, &now);
                if same {
                    self.layout = Some(now);
                }
                Ok(same)
            }
        }
    }
}

/// A moment, for one question. Reads memory as [`Memory`].
#[derive(Debug)]
pub struct Asked<'p, 'a> {
    past: &'p Past<'a>,
    at: usize,
    trace: RefCell<Trace>,
    failed: RefCell<Option<Error>>,
    full: Cell<bool>,
}

impl<'p, 'a> Asked<'p, 'a> {
    /// At a position of the process's life.
    pub fn new(past: &'p Past<'a>, at: usize) -> Self {
        Self {
            past,
            at,
            trace: RefCell::default(),
            failed: RefCell::default(),
            full: Cell::new(false),
        }
    }

    /// The process. What is read through it is not taken down.
    pub const fn past(&self) -> &'p Past<'a> {
        self.past
    }

    /// The position.
    pub const fn position(&self) -> usize {
        self.at
    }

    /// The checkpoint.
    pub fn checkpoint(&self) -> CheckpointId {
        self.past.id(self.at)
    }

    /// The threads, main thread first.
    pub fn thread_ids(&self) -> Vec<u32> {
        let ids: Vec<u32> = match self.past.threads(self.at) {
            Ok(threads) => threads.iter().map(|t| t.tid).collect(),
            Err(e) => {
                self.fail(e);
                return Vec::new();
            }
        };
        self.trace.borrow_mut().threads = Some(ids.clone());
        ids
    }

    /// The state of a thread; `None` if there is no such thread.
    pub fn thread(&self, tid: u32) -> Option<Thread> {
        let threads = match self.past.threads(self.at) {
            Ok(threads) => threads,
            Err(e) => {
                self.fail(e);
                return None;
            }
        };
        let found = threads.iter().find(|t| t.tid == tid);
        let mut trace = self.trace.borrow_mut();
        let seen = || found.map(ThreadSeen::of);
        trace.whole.entry(tid).or_insert_with(seen);
        found.cloned()
    }

    /// The tid of the main thread; `None` if there are no threads.
    pub fn main_thread(&self) -> Option<u32> {
        match self.past.threads(self.at) {
            Ok(threads) => {
                let main = threads.first().map(|t| t.tid);
                self.trace.borrow_mut().main = Some(main);
                main
            }
            Err(e) => {
                self.fail(e);
                None
            }
        }
    }

    /// The bytes of a register of a thread, by DWARF's number; `None` if it is not known or there is
    /// no such thread. Only this register is taken down.
    pub fn register(&self, tid: u32, number: u16) -> Option<Vec<u8>> {
        match self.past.threads(self.at) {
            Ok(threads) => {
                let thread = threads.iter().find(|t| t.tid == tid);
                let bytes = thread.and_then(|t| ThreadRegisters::new(t).bytes(number));
                let mut trace = self.trace.borrow_mut();
                trace.registers.insert((tid, number), bytes.clone());
                bytes
            }
            Err(e) => {
                self.fail(e);
                None
            }
        }
    }

    /// The mappings. What is taken down is which files are mapped where.
    pub fn layout(&self) -> Option<Arc<AddressSpace>> {
        match self.past.layout(self.at) {
            Ok(layout) => {
                self.trace.borrow_mut().layout = Some(Arc::clone(&layout));
                Some(layout)
            }
            Err(e) => {
                self.fail(e);
                None
            }
        }
    }

    /// Reads bytes, or says why they are missing and from where.
    ///
    /// # Errors
    /// The first address that is missing, and why.
    pub fn bytes(&self, address: u64, out: &mut [u8]) -> Result<(), (u64, Missing)> {
        let mut done = 0;
        while done < out.len() {
            let at = address
                .checked_add(done as u64)
                .ok_or((u64::MAX, Missing::Unmapped))?;
            let within = (at % PAGE_SIZE as u64) as usize;
            let n = (PAGE_SIZE - within).min(out.len() - done);
            match self.page(PageNumber::of(at), within, n) {
                Ok(page) => out[done..done + n].copy_from_slice(&page[within..within + n]),
                Err(missing) => return Err((at, missing)),
            }
            done += n;
        }
        Ok(())
    }

    fn page(&self, page: PageNumber, within: usize, n: usize) -> Content {
        let mut trace = self.trace.borrow_mut();
        let part = (within as u16, (within + n) as u16);
        if let Some(seen) = trace.pages.get_mut(&page) {
            add(&mut seen.parts, part);
            return seen.content.clone();
        }
        if trace.pages.len() >= MOST {
            self.full.set(true);
            return Err(Missing::NotCaptured("too much was read".to_owned()));
        }
        match self.past.content(page, self.at) {
            Ok(content) => {
                let seen = Seen {
                    content: content.clone(),
                    parts: vec![part],
                };
                trace.pages.insert(page, seen);
                content
            }
            Err(e) => {
                let why = e.to_string();
                self.fail(e);
                Err(Missing::NotCaptured(why))
            }
        }
    }

    fn fail(&self, error: Error) {
        self.failed.borrow_mut().get_or_insert(error);
    }

    /// What was looked at.
    ///
    /// # Errors
    /// If anything that was looked at is damaged, or too much was.
    pub fn finish(self) -> Result<Trace, Error> {
        if self.full.get() {
            return Err(Error::TooMuch((MOST * PAGE_SIZE) as u64));
        }
        match self.failed.into_inner() {
            Some(error) => Err(error),
            None => Ok(self.trace.into_inner()),
        }
    }
}

impl Memory for Asked<'_, '_> {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        self.bytes(address, out)
            .map_err(|(address, missing)| Unreadable {
                address,
                reason: missing.to_string(),
            })
    }
}

/// Adds a half-open range to those that ascend and do not touch.
fn add(parts: &mut Vec<(u16, u16)>, (mut from, mut to): (u16, u16)) {
    let begin = parts.partition_point(|p| p.1 < from);
    let mut end = begin;
    while let Some(p) = parts.get(end).filter(|p| p.0 <= to) {
        from = from.min(p.0);
        to = to.max(p.1);
        end += 1;
    }
    parts.splice(begin..end, [(from, to)]);
}
