//! Reads a stopped process back and compares it with the checkpoint it was made equal to.
//!
//! For `--paranoid`, before the first instruction runs: memory of every mapping whose content is put
//! back, the mappings themselves, and of each thread registers, vector state, mask, queue, name,
//! robust list and `rseq` registration. By another way than it was written: nothing is taken for
//! granted that the steps before believed, but for the words that are known to be about now.

use crate::rollback::pages::{Bytes, KernelWords, is_ours};
use crate::rollback::{Error, Mappings};
use crate::threads::{Tids, resumed};
use std::ops::Range;
use stillframe_image::{Mapping, PAGE_SIZE, PageNumber, ProcessImage, SigInfo};
use stillframe_linux::memory::Door;
use stillframe_linux::tracee::Halt;

/// Differences described, at most.
const MOST: usize = 20;

const PAGE: u64 = PAGE_SIZE as u64;

/// Bytes read at once.
const STRETCH: usize = 1 << 20;

/// What was compared and what differed.
#[derive(Clone, Debug, Default)]
pub struct Verified {
    /// Pages compared.
    pub pages: u64,
    /// Threads compared.
    pub threads: u64,
    /// What differs, a clause each, at most some.
    pub differences: Vec<String>,
    /// How many.
    pub count: u64,
}

impl Verified {
    fn differs(&mut self, what: impl FnOnce() -> String) {
        self.count += 1;
        if self.differences.len() < MOST {
            self.differences.push(what());
        }
    }
}

/// Compares. `ours`: addresses that are ours and in no checkpoint. `patched`: addresses of words that
/// were changed on purpose.
///
/// # Errors
/// If the process is gone, or the checkpoint cannot be read.
pub fn verify(
    halt: &Halt<'_>,
    wanted: &ProcessImage,
    bytes: &dyn Bytes,
    tids: &Tids,
    ours: &Range<u64>,
    patched: &[(u64, u32)],
) -> Result<Verified, Error> {
    let mut found = Verified::default();
    let door = Door::open(halt.pid())?;
    mappings(halt.pid(), wanted, ours, &mut found)?;
    let exempt = |address: u64| {
        let thread =
            |t: &stillframe_image::Thread| t.rseq.is_some_and(|r| KernelWords::covers(&r, address));
        wanted.threads.iter().any(thread)
            || patched
                .iter()
                .any(|(at, _)| (*at..*at + 4).contains(&address))
    };
    for mapping in wanted.space.mappings.iter().filter(|m| is_ours(m)) {
        memory(&door, mapping, bytes, &exempt, &mut found)?;
    }
    threads(halt, wanted, bytes, tids, &mut found)?;
    let mut shared = Vec::new();
    halt.shared_pending(&mut shared)?;
    if !same_queue(&shared, &wanted.process.pending) {
        // Its timers run again by now, and one may have ended meanwhile.
        let since = shared.iter().filter(|now| of_timer(now));
        let since = since.filter(|now| !wanted.process.pending.contains(now));
        let late: Vec<SigInfo> = since.cloned().collect();
        shared.retain(|now| !late.contains(now));
        if !same_queue(&shared, &wanted.process.pending) {
            let then = numbers(&wanted.process.pending);
            let now = numbers(&shared);
            found.differs(|| format!("signals queued for the process: {now}, not {then}"));
        }
    }
    Ok(found)
}

/// Whether a timer of the process sent it: by `timer_create` or `setitimer`.
fn of_timer(info: &SigInfo) -> bool {
    const SI_TIMER: i32 = -2;
    const SI_KERNEL: i32 = 0x80;
    const SIGALRM: i32 = 14;
    const SIGVTALRM: i32 = 26;
    const SIGPROF: i32 = 27;
    match info.code {
        SI_TIMER => true,
        SI_KERNEL => matches!(info.signal, SIGALRM | SIGVTALRM | SIGPROF),
        _ => false,
    }
}

fn numbers(queue: &[SigInfo]) -> String {
    let names = queue
        .iter()
        .map(|info| stillframe_image::signal::name(i64::from(info.signal)));
    match names.collect::<Vec<_>>().join(" ") {
        none if none.is_empty() => "none".to_owned(),
        names => names,
    }
}

fn mappings(
    pid: u32,
    wanted: &ProcessImage,
    ours: &Range<u64>,
    found: &mut Verified,
) -> Result<(), Error> {
    let now = Mappings::read(pid)?;
    // Neighbours that the kernel would merge may be apart on either side.
    let pages = |list: &[Mapping]| {
        let mut parts: Vec<(Range<u64>, [bool; 4])> = Vec::new();
        for m in list {
            let outside = m.end <= ours.start || m.start >= ours.end;
            let kernels = m.name == b"[vsyscall]" || m.name.starts_with(b"[vvar");
            if !outside || kernels || m.name == b"[vdso]" {
                continue;
            }
            let how = [m.read, m.write, m.execute, m.shared];
            match parts.last_mut() {
                Some((last, same)) if last.end == m.start && *same == how => last.end = m.end,
                _ => parts.push((m.start..m.end, how)),
            }
        }
        parts
    };
    let (now, then) = (pages(&now.list), pages(&wanted.space.mappings));
    for (range, _) in then.iter().filter(|m| !now.contains(m)) {
        found.differs(|| format!("mapping {:x}-{:x} is not as it was", range.start, range.end));
    }
    for (range, _) in now.iter().filter(|m| !then.contains(m)) {
        found.differs(|| format!("mapping {:x}-{:x} was not so", range.start, range.end));
    }
    Ok(())
}

fn memory(
    door: &Door,
    mapping: &Mapping,
    bytes: &dyn Bytes,
    exempt: &dyn Fn(u64) -> bool,
    found: &mut Verified,
) -> Result<(), Error> {
    let mut at = mapping.start;
    let mut buffer = vec![0; STRETCH];
    while at < mapping.end {
        let length = usize::try_from(mapping.end - at).map_or(STRETCH, |n| n.min(STRETCH));
        let buffer = &mut buffer[..length];
        let whole = door.read(at, buffer).is_ok();
        for (page, now) in (at / PAGE..).zip(buffer.as_chunks::<PAGE_SIZE>().0) {
            let page = PageNumber(page);
            let mut now = *now;
            if !whole && door.read(page.address(), &mut now).is_err() {
                // Guard pages and the like: what was not readable then has no content either.
                continue;
            }
            let mut then = [0; PAGE_SIZE];
            if bytes.page(page, &mut then).is_err() {
                continue;
            }
            found.pages += 1;
            if now == then {
                continue;
            }
            let differs = now
                .iter()
                .zip(&then)
                .zip(page.address()..)
                .find(|((a, b), at)| a != b && !exempt(*at));
            if let Some(((a, b), at)) = differs {
                found.differs(|| format!("memory at {at:#x} is {a:#04x}, was {b:#04x}"));
            }
        }
        at += length as u64;
    }
    Ok(())
}

fn threads(
    halt: &Halt<'_>,
    wanted: &ProcessImage,
    bytes: &dyn Bytes,
    tids: &Tids,
    found: &mut Verified,
) -> Result<(), Error> {
    if halt.threads().len() != wanted.threads.len() {
        let (now, then) = (halt.threads().len(), wanted.threads.len());
        found.differs(|| format!("{now} threads, were {then}"));
    }
    let (mut xstate, mut pending) = (Vec::new(), Vec::new());
    for thread in &wanted.threads {
        let Some(tid) = tids.get(&thread.tid).copied() else {
            found.differs(|| format!("thread {} is missing", thread.tid));
            continue;
        };
        found.threads += 1;
        let mut differs = |what: &str| found.differs(|| format!("{what} of thread {tid}"));
        let read = |at: u64, into: &mut [u8]| read_bytes(bytes, at, into);
        if halt.registers(tid)? != resumed(&thread.registers, &read) {
            differs("registers");
        }
        halt.xstate(tid, &mut xstate)?;
        if !thread.xstate.is_empty() && xstate != thread.xstate {
            differs("vector state");
        }
        if halt.blocked(tid)? != thread.blocked {
            differs("signal mask");
        }
        pending.clear();
        halt.pending(tid, &mut pending)?;
        if !same_queue(&pending, &thread.pending) {
            differs("queued signals");
        }
        if halt.name(tid)? != thread.name && !thread.name.is_empty() {
            differs("name");
        }
        if halt.robust_list(tid)? != thread.robust_list {
            differs("robust futex list");
        }
        if halt.rseq(tid)? != thread.rseq {
            differs("rseq registration");
        }
    }
    Ok(())
}

fn same_queue(now: &[SigInfo], then: &[SigInfo]) -> bool {
    const SIGSTOP: i32 = 19;
    let counted = |list: &[SigInfo]| -> Vec<(i32, Vec<u8>)> {
        list.iter()
            .filter(|i| i.signal != SIGSTOP)
            .map(|i| (i.signal, i.raw.clone()))
            .collect()
    };
    counted(now) == counted(then)
}

/// Reads bytes of a moment across pages; `false` if they are not to be had.
pub fn read_bytes(bytes: &dyn Bytes, address: u64, into: &mut [u8]) -> bool {
    let mut page = [0; PAGE_SIZE];
    for (at, byte) in (address..).zip(into) {
        let within = (at % PAGE) as usize;
        if (at == address || within == 0) && bytes.page(PageNumber::of(at), &mut page).is_err() {
            return false;
        }
        *byte = page.get(within).copied().unwrap_or(0);
    }
    true
}
