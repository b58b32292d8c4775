//! Page faults as they happen: the kernel side of the `bpf` tracker.
//!
//! A scan finds what was written by looking at all that is mapped. A [`FaultLog`] costs what was
//! written: two small BPF programs on the kernel's page-fault tracepoints append the address of
//! every write fault of the watched processes to rings that we read without a system call. Three
//! more things come with it: *pre-images*, what a protected page held before a write that came
//! while it was still to be copied; *risk*, whether a process made system calls that write without
//! a page fault, so that only a scan is right; and the *layout sequence*, which tells without
//! reading /proc that no mapping changed.
//!
//! The programs are assembled here, with constants from the kernel's own type information, loaded
//! by `bpf(2)`, and live exactly as long as our descriptors: nothing is pinned, a killed recorder
//! leaves nothing behind. They leave other processes alone before they do anything else, never
//! wait, and write only to bounded memory of ours; what does not fit is counted. Only tracepoints
//! and programs run on demand are used: kprobes, fentry and LSM hooks are missing on many kernels.
//!
//! Measured on 2 virtual CPUs, Linux 6.18, with many other processes at work (CPU time, medians of
//! 15 rounds in turns; pages of one mapping in order; 1,000 pages / 20,000 pages):
//!
//! | ns | | |
//! |---|---|---|
//! | first write to a protected page, without us | 1035 | 840 |
//! | of a process that is not watched | +55 | +53 |
//! | logged | +213 | +190 |
//! | logged, and pre-image saved | +947 | +1045 |
//! | draining, an entry | 17 | 3.4 |
//! | draining nothing (two calls to the kernel for what it left out) | 2130 | |
//! | [`FaultLog::layout_sequence`] | 1270 | |
//! | [`FaultLog::risky`], one process | 1070 | |
//! | [`FaultLog::saving`], on and off | 61 | |
//! | a system call (`getppid`, 170) of a process not watched, [`Options::calls`] | +115 | |
//! | of which the kernel's own, with an empty program | +93 | |
//! | of a watched process: `getppid` / `read` of a byte (220) | +167 | +140 |

mod asm;
mod btf;
mod calls;
mod layout;
mod programs;
mod save;
mod sys;
#[cfg(test)]
mod tests;
mod walk;

pub use save::SavedPage;

use crate::copy::PageArena;
use crate::error::{Error, Result};
use crate::uffd::{Registration, Userfaultfd};
use calls::Calls;
use layout::{Layout, Origin};
use programs::{Fault, Offsets};
use save::Images;
use std::collections::BTreeMap;
use std::sync::atomic::Ordering;
use sys::{HashMap, Kind, Link, Program, Shared};
use walk::{Look, Walker};

/// How large a [`FaultLog`] is and what it sees.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Options {
    /// Entries of the log, of 32 bytes each, shared out evenly to all processors the machine can
    /// have (at least 512 each), plus an eighth of that for faults of the kernel.
    pub entries: u32,
    /// Log read faults too, which change no content.
    pub reads: bool,
    /// Look at system calls, for [`FaultLog::risky`]. Costs every system call of every process on
    /// the machine some 0.1 us, most of it the kernel's own for any program on `sys_enter`.
    pub calls: bool,
    /// Pre-images that can be kept at once, 4 KiB each, at most 65,536; 0 to save none. Saving
    /// needs CAP_SYS_ADMIN.
    pub images: u32,
}

impl Default for Options {
    fn default() -> Self {
        Self {
            entries: 1 << 18,
            reads: false,
            calls: true,
            images: 0,
        }
    }
}

/// What sort of fault it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct FaultFlags(u64);

impl FaultFlags {
    /// A page was there, and forbade it: a write-protected page. Otherwise no page was there.
    pub fn present(self) -> bool {
        self.0 & 1 != 0
    }

    /// A store, or an instruction that reads and stores.
    pub fn write(self) -> bool {
        self.0 & 2 != 0
    }

    /// By the program itself. Otherwise by the kernel in its name, such as in `read(2)`.
    pub fn user(self) -> bool {
        self.0 & 4 != 0
    }

    /// Saving was on, and the page's pre-image was saved.
    pub fn saved(self) -> bool {
        self.0 >> 32 == u64::from(save::SAVED)
    }

    /// Saving was on, the page was protected, and its pre-image is lost.
    pub fn unsaved(self) -> bool {
        self.0 >> 32 == u64::from(save::UNSAVED)
    }
}

/// One fault.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct LoggedFault {
    /// The process whose memory it was.
    pub tgid: u32,
    /// The thread that ran into it.
    pub tid: u32,
    /// The byte accessed (of an access that spans pages, the first byte on the page that was
    /// missing or protected).
    pub address: u64,
    /// When, in nanoseconds of CLOCK_MONOTONIC.
    pub at_ns: u64,
    /// What sort.
    pub flags: FaultFlags,
}

/// What a [`FaultLog::drain`] could not give.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Drained {
    /// Faults since the last drain that are not in the log: rings were full. Not zero means that
    /// only a scan knows what was written.
    pub lost: u64,
}

/// What watched processes did that the log may not show.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[must_use]
pub struct Risk {
    /// Calls that can write to memory, or take away a page's protection, without a page fault.
    /// Not zero means: scan, and protect what the scan finds.
    pub writes: u64,
    /// Calls that can change mappings. Not zero means: read the mappings again, register what is
    /// new, and scan it (all, if that is not known).
    pub mappings: u64,
    /// The number of a call counted in `writes`, for the account; of no meaning otherwise.
    pub last_call: u64,
}

impl Risk {
    /// Whether there is any.
    pub fn any(self) -> bool {
        self.writes + self.mappings > 0
    }

    fn add(&mut self, other: Self) {
        self.writes += other.writes;
        self.mappings += other.mappings;
        if other.writes > 0 {
            self.last_call = other.last_call;
        }
    }
}

/// One watched process.
#[derive(Clone, Copy, Debug)]
struct Watched {
    slot: u32,
    /// Its counts when last asked for.
    seen: Risk,
    /// The count of writes by others, and of calls the kernel did not show us.
    seen_by_others: u64,
}

/// A log of the page faults of some processes.
#[derive(Debug)]
pub struct FaultLog {
    // Dropped in this order: detached before the memory goes.
    _links: Vec<Link>,
    faults: [Program; 2],
    watched: HashMap,
    slots: BTreeMap<u32, Watched>,
    calls: Option<Program>,
    shared: Shared,
    layout: Layout,
    /// What was lost up to the last drain.
    lost: u64,
    sequence: Option<Program>,
    images: Option<Images>,
}

impl FaultLog {
    /// Loads and attaches the programs. No process is watched yet. Takes some 50 ms, most of it to
    /// read the kernel's type information.
    ///
    /// # Errors
    /// [`Error::Bpf`] with advice if we lack the privilege (CAP_BPF and CAP_PERFMON, or root),
    /// [`Error::Unsupported`] if the kernel lacks a feature.
    pub fn open(options: Options) -> Result<Self> {
        if !cfg!(target_arch = "x86_64") {
            return Err(Error::Unsupported {
                what: "fault log for this architecture",
                advice: "use another tracker",
            });
        }
        let layout = Layout::new(&options)?;
        let watched = HashMap::new(layout::WATCHED_LIMIT)?;
        let btf = btf::Btf::of_the_kernel()?;
        let offsets = Offsets::new(&btf)?;
        check_namespace(&offsets)?;
        let shared = Shared::new(layout.total())?;
        let mut images = None;
        let mut save = None;
        let mut walker = None;
        if options.images > 0 {
            let new = Images::new(options.images)?;
            let calibrated = Walker::calibrate(&offsets, &shared)?;
            save = Some(new.save(calibrated.walk));
            images = Some(new);
            walker = Some(calibrated);
        }
        let load = |origin, name| {
            let fault = Fault {
                offsets: &offsets,
                layout: &layout,
                origin,
                watched: watched.fd(),
                shared: shared.fd(),
                reads: options.reads,
                save,
            };
            Program::load(Kind::RawTracepoint, name, fault.assemble())
        };
        let faults = [
            load(Origin::User, "log of the program's faults")?,
            load(Origin::Kernel, "log of the kernel's faults")?,
        ];
        let calls = if options.calls {
            calls::fill(&shared, offsets.mm_owner.is_some());
            let calls = Calls::new(&btf, &offsets, watched.fd(), shared.fd())?;
            let name = "look at system calls";
            Some(Program::load(Kind::RawTracepoint, name, calls.assemble())?)
        } else {
            None
        };
        let mut links = vec![
            faults[0].attach(c"page_fault_user")?,
            faults[1].attach(c"page_fault_kernel")?,
        ];
        if let Some(calls) = &calls {
            links.push(calls.attach(c"sys_enter")?);
        }
        let sequence = match load_sequence(&offsets, shared.fd()) {
            Ok(program) => Some(program),
            Err(e) => {
                tracing::debug!("no layout sequence: {e}");
                None
            }
        };
        let mut log = Self {
            _links: links,
            faults,
            watched,
            slots: BTreeMap::new(),
            calls,
            shared,
            layout,
            lost: 0,
            sequence,
            images,
        };
        if let Some(walker) = walker {
            log.try_saving(&walker)?;
        }
        Ok(log)
    }

    /// Begins or ends watching the memory of a process, all its threads included. Not its children.
    /// Watching what is watched, or ending what is not, changes nothing.
    ///
    /// A process that ended must be unwatched too: its number may be used again.
    ///
    /// # Errors
    /// [`Error::NoRoom`] beyond 1024 processes.
    pub fn watch(&mut self, tgid: u32, on: bool) -> Result<()> {
        if !on {
            if self.slots.remove(&tgid).is_some() {
                self.hint();
                self.watched.remove(tgid)?;
            }
            return Ok(());
        }
        if self.slots.contains_key(&tgid) {
            return Ok(());
        }
        let used: std::collections::BTreeSet<u32> = self.slots.values().map(|w| w.slot).collect();
        let slot = (0..layout::WATCHED_LIMIT)
            .find(|slot| !used.contains(slot))
            .ok_or(Error::NoRoom {
                pid: std::process::id(),
                what: "more than 1024 watched processes",
            })?;
        let watched = Watched {
            slot,
            seen: self.counts(slot),
            seen_by_others: self.by_others()?,
        };
        self.watched.insert(tgid, slot)?;
        self.slots.insert(tgid, watched);
        self.hint();
        Ok(())
    }

    /// Tells the programs which processes are worth looking up.
    fn hint(&self) {
        let mut hints = [0_u8; layout::HINT_COUNT];
        for &tgid in self.slots.keys() {
            hints[tgid as usize % layout::HINT_COUNT] = 1;
        }
        for (n, bytes) in hints.as_chunks::<8>().0.iter().enumerate() {
            let word = self.shared.word(layout::HINTS + 8 * n);
            word.store(u64::from_le_bytes(*bytes), Ordering::Release);
        }
    }

    /// Appends what was logged since the last call to `into`: in order for each processor and for
    /// each side (program, kernel), not over all; sort by `at_ns` where that matters. One page may
    /// come several times, when threads race for it. Pages that were not protected and not missing
    /// cause no fault and are not here.
    ///
    /// # Errors
    /// If the kernel does not tell how often it left a program out.
    pub fn drain(&mut self, into: &mut Vec<LoggedFault>) -> Result<Drained> {
        let mut lost = 0;
        for (origin, ring) in self.layout.all_rings() {
            let mask = self.layout.entries(origin) as u64 - 1;
            let head = self
                .shared
                .word(ring + layout::HEAD)
                .load(Ordering::Acquire);
            let tail = self.shared.word(ring + layout::TAIL);
            let from = tail.load(Ordering::Relaxed);
            into.reserve(head.wrapping_sub(from).min(mask + 1) as usize);
            let mut next = from;
            while next != head {
                let at = ring + layout::ENTRIES + (next & mask) as usize * layout::ENTRY;
                // SAFETY: `at` checks that the entry lies in the mapping and is aligned; any bytes
                // are a valid entry. Its program finished it before it moved `head`, which we
                // acquired, and leaves it alone until we move `tail`.
                let entry = unsafe { self.shared.at::<Entry>(at).read() };
                into.push(LoggedFault {
                    tgid: entry.tgid,
                    tid: entry.tid,
                    address: entry.address,
                    at_ns: entry.at_ns,
                    flags: FaultFlags(u64::from(entry.error) | u64::from(entry.saved) << 32),
                });
                next = next.wrapping_add(1);
            }
            tail.store(next, Ordering::Release);
            lost += self
                .shared
                .word(ring + layout::LOST)
                .load(Ordering::Relaxed);
        }
        for program in &self.faults {
            lost += program.misses()?;
        }
        let drained = Drained {
            lost: lost.saturating_sub(self.lost),
        };
        self.lost = lost;
        Ok(drained)
    }

    /// What process `tgid` did since this was last asked for it, or since it is watched, that can
    /// have written memory without a page fault: then only a scan knows what was written. To be
    /// asked with its threads stopped; [`Risk::default`] if it is not watched. Costs a microsecond.
    ///
    /// Beyond this, treat memory as always written that a process has given to `io_uring` (fixed
    /// buffers), AIO or a device, which go on writing by themselves; and know that another process
    /// that writes through /proc/PID/mem is not seen.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the log was opened without the look at system calls.
    pub fn risky_in(&mut self, tgid: u32) -> Result<Risk> {
        if self.calls.is_none() {
            return Err(Error::Unsupported {
                what: "look at system calls in this log",
                advice: "open it with one",
            });
        }
        let others = self.by_others()?;
        let Some(watched) = self.slots.get(&tgid).copied() else {
            return Ok(Risk::default());
        };
        let now = self.counts(watched.slot);
        let by_others = others.saturating_sub(watched.seen_by_others);
        if let Some(watched) = self.slots.get_mut(&tgid) {
            watched.seen = now;
            watched.seen_by_others = others;
        }
        Ok(Risk {
            writes: now.writes.wrapping_sub(watched.seen.writes) + by_others,
            mappings: now.mappings.wrapping_sub(watched.seen.mappings),
            last_call: now.last_call,
        })
    }

    /// [`FaultLog::risky_in`] of all watched processes together.
    ///
    /// # Errors
    /// As [`FaultLog::risky_in`].
    pub fn risky(&mut self) -> Result<Risk> {
        let all: Vec<u32> = self.slots.keys().copied().collect();
        let mut sum = Risk::default();
        for tgid in all {
            sum.add(self.risky_in(tgid)?);
        }
        Ok(sum)
    }

    /// The counts of a slot as they are.
    fn counts(&self, slot: u32) -> Risk {
        let word = |at| {
            let word = self.shared.word(Layout::watched(slot) + at);
            word.load(Ordering::Acquire)
        };
        Risk {
            writes: word(layout::RISKY),
            mappings: word(layout::MAPPED),
            last_call: word(layout::LAST),
        }
    }

    /// Writes of anyone to another process's memory, and system calls that were not looked at.
    fn by_others(&self) -> Result<u64> {
        let calls = self.calls.as_ref().map_or(Ok(0), Program::misses)?;
        Ok(calls + self.shared.word(layout::FOREIGN).load(Ordering::Acquire))
    }

    /// Switches the saving of pre-images on or off. While it is on, a write fault on a protected
    /// page (one whose write since it was protected is still to come) saves what it holds before
    /// the write happens. Switch it on while the target is stopped, and resume; when it is off
    /// again, no page is being saved any more.
    ///
    /// Not saved: writes that cause no page fault (see [`FaultLog::risky`]), and huge pages of
    /// hugetlb, of which one fault lifts the protection of 2 MiB: copy those inside the boundary.
    ///
    /// # Errors
    /// [`Error::Unsupported`] if the log was opened without room for images.
    pub fn saving(&mut self, on: bool) -> Result<()> {
        match &self.images {
            Some(images) => images.switch(on, &self.shared, &self.layout),
            None => Err(Error::Unsupported {
                what: "room for pre-images in this log",
                advice: "open it with room for some",
            }),
        }
    }

    /// The pages saved since [`FaultLog::clear_saved`], in no order. A page may be there twice, with
    /// the same content: threads raced for it, or it did not exist, was made (still protected) by
    /// the first fault, and is there once as nothing and once as what it was made with.
    pub fn saved(&self) -> impl Iterator<Item = SavedPage<'_>> {
        self.images
            .iter()
            .flat_map(|images| images.saved(&self.shared))
    }

    /// Pre-images that could not be saved since [`FaultLog::clear_saved`]: no room, swapped out, or
    /// the page tables changed too often while they were read.
    pub fn unsaved(&self) -> u64 {
        self.shared.word(layout::UNSAVED).load(Ordering::Acquire)
    }

    /// Forgets what was saved; switches saving off.
    ///
    /// # Errors
    /// If a program does not end: never seen.
    pub fn clear_saved(&mut self) -> Result<()> {
        if let Some(images) = &mut self.images {
            images.switch(false, &self.shared, &self.layout)?;
            images.clear(&self.shared);
        }
        Ok(())
    }

    /// Saves two pages of ours in earnest: one with content, and one that does not exist yet,
    /// whose entry is learnt here. What this kernel does otherwise than we think shows now.
    fn try_saving(&mut self, walker: &Walker) -> Result<()> {
        let us = std::process::id();
        let mut arena = PageArena::new(2)?;
        for (page, value) in arena.extend(1)?.iter_mut().zip([0x5a]) {
            page.fill(value);
        }
        let start = arena.pages().as_ptr().addr() as u64;
        let pages = [start, start + 4096];
        let uffd = Userfaultfd::for_self()?;
        let registered = uffd.register(start..start + 8192)?;
        // A page that no table leads to has no entry to be marked; the first one has made it.
        uffd.write_protect(start..start + 8192, true)?;
        let marker = match walker.look(pages[1])? {
            Look::Absent(entry) => entry,
            _ => 0,
        };
        self.shared
            .word(layout::MARKER)
            .store(marker, Ordering::SeqCst);
        self.watch(us, true)?;
        self.saving(true)?;
        for page in arena.extend(1)? {
            page[0] = std::hint::black_box(1);
        }
        arena.clear();
        for page in arena.extend(1)? {
            page[7] = std::hint::black_box(1);
        }
        self.saving(false)?;
        self.watch(us, false)?;
        let find = |page| self.saved().find(|s| s.page == page).map(|s| s.content);
        let works = registered == Registration::Registered
            && matches!(find(pages[0]), Some(Some(content)) if *content == [0x5a; 4096])
            && (marker == 0 || find(pages[1]) == Some(None));
        self.clear_saved()?;
        let _ = self.drain(&mut Vec::new())?;
        if works {
            Ok(())
        } else {
            Err(Error::Unsupported {
                what: "page tables as we know them: a pre-image saved for a test was not right",
                advice: "record without pre-images",
            })
        }
    }

    /// A number that changes whenever the mappings of `pid` may have changed (`mmap`, `munmap`,
    /// `mprotect`, `brk`, `exec`..., also our own registrations), and not by faults or scans. `None`
    /// if there is no such process, or the kernel does not tell. About a microsecond.
    pub fn layout_sequence(&self, pid: u32) -> Option<u64> {
        let word = |n: usize| self.shared.word(layout::SEQUENCE + 8 * n);
        word(0).store(pid.into(), Ordering::Relaxed);
        word(1).store(0, Ordering::Release);
        self.sequence.as_ref()?.run(&mut []).ok()?;
        (word(1).load(Ordering::Acquire) == 1).then(|| word(2).load(Ordering::Relaxed))
    }
}

/// One entry as the programs write it.
#[repr(C)]
#[derive(Clone, Copy)]
struct Entry {
    address: u64,
    at_ns: u64,
    tgid: u32,
    tid: u32,
    error: u32,
    saved: u32,
}

/// Programs see process ids of the initial namespace; ours must be those.
fn check_namespace(offsets: &Offsets) -> Result<()> {
    let program = programs::own_process(offsets);
    let program = Program::load(Kind::Syscall, "look at our own process id", program)?;
    let mut context = [0];
    program.run(&mut context)?;
    if context[0] == u64::from(std::process::id()) {
        Ok(())
    } else {
        Err(Error::Unsupported {
            what: "fault log inside a PID namespace",
            advice: "run the recorder in the host's (docker run --pid=host)",
        })
    }
}

fn load_sequence(offsets: &Offsets, shared: i32) -> Result<Program> {
    let program = programs::sequence(offsets, shared)?;
    Program::load(Kind::Syscall, "layout sequence", program)
}
