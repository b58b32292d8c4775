//! Asynchronous write protection with a log of the faults.
//!
//! Protection is as with [`WpAsync`]. In addition BPF programs at the page-fault tracepoints log
//! every write to a protected page and save what it held, so that a boundary costs what was
//! written and not what is mapped, a page that is written before its copy was taken is no
//! conflict, and whether the mappings changed is known without reading them. Needs CAP_BPF,
//! CAP_PERFMON and CAP_SYS_ADMIN.
//!
//! Not every write can be logged: what the kernel writes through `get_user_pages`, and what
//! `madvise` throws away, passes the tracepoints by. The log therefore also says whether a system
//! call was made that may do so; then the look is a scan. So is one look a second, in case, and
//! every look that is quicker so.

use super::{Found, Refused, Tracker, WpAsync};
use crate::layout::Layout;
use crate::ranges::{Pieces, join};
use std::cell::RefCell;
use std::collections::HashMap;
use std::ops::Range;
use std::rc::Rc;
use std::time::{Duration, Instant};
use stillframe_image::account::Fault;
use stillframe_image::{CheckpointId, PAGE_SIZE};
use stillframe_linux::Result;
use stillframe_linux::bpf::{FaultLog, LoggedFault, Options};
use stillframe_linux::pagemap::Scanner;

/// Everything is looked at at least this often.
const TRUST: Duration = Duration::from_secs(1);

/// Weight of the newest measurement.
const WEIGHT: f64 = 0.1;

/// Pre-images kept at once: 8 MiB. What is beyond is a conflict.
const IMAGES: u32 = 2048;

const PAGE: u64 = PAGE_SIZE as u64;

/// The one log of a recorder, which serves all processes of a tree.
#[derive(Debug)]
pub struct Hub {
    log: FaultLog,
    /// Whether system calls are looked at, without which no log is complete.
    calls: bool,
    drained: Vec<LoggedFault>,
    queues: HashMap<u32, Queue>,
    /// Trackers made so far.
    made: u64,
}

/// What was logged of one process since it was last asked for.
#[derive(Debug, Default)]
struct Queue {
    /// The tracker that asks.
    owner: u64,
    /// Addresses of pages, in no order.
    pages: Vec<u64>,
    faults: Vec<Fault>,
    count: u64,
    /// Some were lost, so only a scan knows.
    lost: bool,
}

impl Hub {
    /// Loads the programs. No process is watched yet. `calls`: look at system calls, too, which
    /// costs each of them, but without which only a scan knows all that was written.
    ///
    /// # Errors
    /// If we lack the privilege or the kernel a feature; the message says which.
    pub fn open(calls: bool) -> Result<Self> {
        Ok(Self {
            log: FaultLog::open(Options {
                images: IMAGES,
                calls,
                ..Options::default()
            })?,
            calls,
            drained: Vec::new(),
            queues: HashMap::new(),
            made: 0,
        })
    }

    /// Whether it can say that the log holds all that was written.
    pub const fn is_complete(&self) -> bool {
        self.calls
    }

    fn drain(&mut self) -> Result<()> {
        self.drained.clear();
        let drained = self.log.drain(&mut self.drained)?;
        if drained.lost > 0 {
            for queue in self.queues.values_mut() {
                queue.lost = true;
            }
        }
        for fault in &self.drained {
            let Some(queue) = self.queues.get_mut(&fault.tgid) else {
                continue;
            };
            let page = fault.address / PAGE;
            queue.pages.push(page * PAGE);
            queue.count += 1;
            if queue.faults.len() < FAULTS {
                queue.faults.push(Fault {
                    tid: fault.tid,
                    at_ns: fault.at_ns,
                    page,
                });
            }
        }
        Ok(())
    }
}

/// Faults kept one by one between two boundaries.
const FAULTS: usize = 1 << 16;

/// See the head of this module.
#[derive(Debug)]
pub struct Bpf {
    inner: WpAsync,
    hub: Rc<RefCell<Hub>>,
    pid: u32,
    /// Tells it from an earlier one of the same process, before `exec`.
    number: u64,
    layout: Option<u64>,
    /// Pages that faulted since the last look, ascending.
    candidates: Vec<Range<u64>>,
    /// Nanoseconds to look at one, and at everything.
    candidate_ns: f64,
    scan_ns: f64,
    /// When everything was looked at.
    scanned: Instant,
    /// We wrote to the target ourselves.
    touched: bool,
    /// The last look failed half-way.
    unsure: bool,
    /// Pages left unprotected by the last look: a write to one does not fault.
    unprotected: Vec<Range<u64>>,
}

impl Bpf {
    /// Over the address space of process `pid`.
    ///
    /// # Errors
    /// If there are too many processes.
    pub fn new(inner: WpAsync, hub: Rc<RefCell<Hub>>, pid: u32) -> Result<Self> {
        let number = {
            let mut hub = hub.borrow_mut();
            hub.log.watch(pid, true)?;
            hub.made += 1;
            let queue = Queue {
                owner: hub.made,
                ..Queue::default()
            };
            hub.queues.insert(pid, queue);
            hub.made
        };
        Ok(Self {
            inner,
            hub,
            pid,
            number,
            layout: None,
            candidates: Vec::new(),
            candidate_ns: 500.0,
            scan_ns: 200_000.0,
            scanned: Instant::now(),
            touched: true,
            unsure: false,
            unprotected: Vec::new(),
        })
    }
}

impl Bpf {
    /// Moves what was logged since the last look into `candidates`. `false` if that is not all that
    /// can have been written.
    fn take_candidates(&mut self) -> Result<bool> {
        self.candidates.clear();
        let mut hub = self.hub.borrow_mut();
        hub.drain()?;
        let risk = match hub.calls {
            true => Some(hub.log.risky_in(self.pid)?),
            false => None,
        };
        let Some(queue) = hub.queues.get_mut(&self.pid) else {
            return Ok(false);
        };
        let lost = std::mem::take(&mut queue.lost) || std::mem::take(&mut self.touched);
        let quiet = risk.is_some_and(|r| r.writes == 0 && r.mappings == 0);
        if quiet && !lost {
            queue.pages.sort_unstable();
            for page in &queue.pages {
                match self.candidates.last_mut() {
                    Some(last) if *page < last.end => {}
                    Some(last) if *page == last.end => last.end += PAGE,
                    _ => self.candidates.push(*page..*page + PAGE),
                }
            }
        }
        queue.pages.clear();
        Ok(quiet && !lost)
    }

    /// Pages in `skip` stay unprotected; those that were left so by the last look and are no longer
    /// among them are looked at, too, whether they faulted or not.
    fn leave_unprotected(&mut self, skip: &[Range<u64>]) {
        if self.unprotected == skip {
            return;
        }
        for range in &self.unprotected {
            self.candidates.extend(Pieces::outside(range.clone(), skip));
        }
        join(&mut self.candidates);
        self.unprotected.clear();
        self.unprotected.extend_from_slice(skip);
    }
}

impl Drop for Bpf {
    fn drop(&mut self) {
        let mut hub = self.hub.borrow_mut();
        if hub.queues.get(&self.pid).map(|q| q.owner) != Some(self.number) {
            return;
        }
        hub.queues.remove(&self.pid);
        if let Err(error) = hub.log.watch(self.pid, false) {
            tracing::debug!("ending to watch: {error}");
        }
    }
}

impl Tracker for Bpf {
    fn register_pending(&mut self, layout: &mut Layout) -> Result<Refused> {
        self.inner.register_pending(layout)
    }

    fn prepare(&mut self) -> Result<()> {
        self.hub.borrow_mut().drain()
    }

    fn find(
        &mut self,
        layout: &mut Layout,
        skip: &[Range<u64>],
        now: CheckpointId,
        found: &mut Found,
    ) -> Result<()> {
        let begun = Instant::now();
        // What is taken from the log and not looked at is lost to it.
        let unsure = std::mem::replace(&mut self.unsure, true);
        let known = !unsure && self.take_candidates()? && !self.inner.has_fresh();
        self.leave_unprotected(skip);
        let likely = self.candidates.len() as f64 * self.candidate_ns;
        if known && self.scanned.elapsed() < TRUST && likely < self.scan_ns {
            self.inner
                .find_among(&self.candidates, layout, skip, now, found)?;
            if self.candidates.len() >= 32 {
                let each = begun.elapsed().as_nanos() as f64 / self.candidates.len() as f64;
                self.candidate_ns += (each - self.candidate_ns) * WEIGHT;
            }
            self.unsure = false;
            return Ok(());
        }
        self.inner.find(layout, skip, now, found)?;
        self.unsure = false;
        self.scanned = Instant::now();
        self.scan_ns += (begun.elapsed().as_nanos() as f64 - self.scan_ns) * WEIGHT;
        Ok(())
    }

    fn check(&mut self, ranges: &[Range<u64>], written: &mut Vec<Range<u64>>) -> Result<()> {
        self.inner.check(ranges, written)
    }

    fn touched(&mut self) {
        self.touched = true;
    }

    fn layout_may_differ(&mut self) -> bool {
        let now = self.hub.borrow().log.layout_sequence(self.pid);
        now.is_none() || now != self.layout
    }

    fn layout_seen(&mut self) {
        self.layout = self.hub.borrow().log.layout_sequence(self.pid);
    }

    fn save(&mut self) -> Result<()> {
        self.hub.borrow_mut().log.saving(true)
    }

    fn saved_enough(&mut self) -> Result<()> {
        self.hub.borrow_mut().log.clear_saved()
    }

    fn saved(&self, show: &mut dyn FnMut(u64, Option<&[u8; PAGE_SIZE]>)) {
        for saved in self.hub.borrow().log.saved() {
            if saved.tgid == self.pid {
                show(saved.page, saved.content);
            }
        }
    }

    fn logged(&mut self, faults: &mut Vec<Fault>, room: usize) -> u64 {
        let mut hub = self.hub.borrow_mut();
        let Some(queue) = hub.queues.get_mut(&self.pid) else {
            return 0;
        };
        faults.extend(queue.faults.drain(..).take(room));
        std::mem::take(&mut queue.count)
    }

    fn scanner(&mut self) -> &mut Scanner {
        self.inner.scanner()
    }
}
