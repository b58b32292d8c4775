//! Walking page tables inside a program, and finding where the kernel maps physical memory.
//!
//! A pre-image is read through the kernel's own mapping of all physical memory: reading through the
//! faulting address would reload a stale TLB entry and cost a second fault. Where that mapping
//! begins is random and not exported. But the top page table's address lies in it and is known, so
//! its start is that address less a whole number of GiB: we try them all against two pages of ours
//! whose frame numbers `/proc/self/pagemap` tells. Wrong guesses are only ever too low, and every
//! table's physical address is checked to be below the end of memory, so that no guess makes us
//! read anything but memory or a hole (where reading fails, harmlessly).

use super::asm::{Alu, Asm, Cond, Helper, Label, Reg::*, Size};
use super::layout;
use super::programs::Offsets;
use super::sys::{Kind, Program, Shared};
use crate::copy::PageArena;
use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io::Read;
use std::os::unix::fs::FileExt;
use std::sync::atomic::Ordering;

/// The entry maps something.
const PRESENT: i32 = 1;
/// The entry maps a huge page instead of a table.
const HUGE: i32 = 0x80;
/// The physical address in an entry.
const FRAME: u64 = 0x000f_ffff_ffff_f000;
const GIB: u64 = 1 << 30;

/// On the stack: where the entry is.
pub(super) const ENTRY_AT: i16 = -32;
/// On the stack: the entry.
pub(super) const ENTRY: i16 = -40;
/// On the stack: where the next table is.
const TABLE: i16 = -24;

/// What a walk needs to know.
#[derive(Clone, Copy, Debug)]
pub(super) struct Walk {
    /// Levels of tables, 4 or 5.
    pub(super) levels: u32,
    /// End of physical memory.
    pub(super) memory_end: u64,
}

/// Where a walk goes on.
#[derive(Clone, Copy, Debug)]
pub(super) struct Ends {
    /// There is no table, or an empty entry in one.
    pub(super) nothing: Label,
    /// A last-level entry that maps nothing and is not empty; it is in R2.
    pub(super) absent: Label,
    /// Something that cannot be followed.
    pub(super) failed: Label,
}

/// Reads 8 bytes at R3 to the stack.
pub(super) fn peek(a: &mut Asm, to: i16, failed: Label) {
    a.mov(R1, R10);
    a.alu(Alu::Add, R1, i32::from(to));
    a.mov(R2, 8);
    a.call(Helper::ProbeReadKernel);
    a.jump_if(Cond::NotEqual, R0, 0, failed);
}

impl Walk {
    /// Falls through with the page's physical address in R2 and its entry, however large the page,
    /// at `ENTRY` and `ENTRY_AT`. R7 is the task, R9 the address; both stay.
    pub(super) fn assemble(self, a: &mut Asm, o: &Offsets, shared: i32, ends: Ends) {
        let found = a.label();
        a.load(Size::Double, R3, R7, o.task_mm);
        a.jump_if(Cond::Equal, R3, 0, ends.nothing);
        a.alu(Alu::Add, R3, i32::from(o.mm_pgd));
        peek(a, TABLE, ends.failed);
        for level in (1..=self.levels).rev() {
            let shift = 12 + 9 * (level - 1);
            a.load(Size::Double, R3, R10, TABLE);
            a.mov(R1, R9);
            a.alu(Alu::Shr, R1, shift as i32);
            a.alu(Alu::And, R1, 511);
            a.alu(Alu::Shl, R1, 3);
            a.alu(Alu::Add, R3, R1);
            a.store(Size::Double, R10, ENTRY_AT, R3);
            peek(a, ENTRY, ends.failed);
            a.load(Size::Double, R2, R10, ENTRY);
            a.jump_if(Cond::Equal, R2, 0, ends.nothing);
            let present = a.label();
            a.jump_if(Cond::AnySet, R2, PRESENT, present);
            a.jump(if level == 1 { ends.absent } else { ends.failed });
            a.place(present);
            if level == 2 || level == 3 {
                let table = a.label();
                let huge = a.label();
                a.jump_if(Cond::AnySet, R2, HUGE, huge);
                a.jump(table);
                a.place(huge);
                // The low bits of the frame come from the address; bit 12 of the entry is none.
                a.constant(R1, FRAME >> shift << shift);
                a.alu(Alu::And, R2, R1);
                a.constant(R1, (1 << shift) - 4096);
                a.alu(Alu::And, R1, R9);
                a.alu(Alu::Or, R2, R1);
                a.constant(R1, self.memory_end);
                a.jump_if(Cond::AboveOrEqual, R2, R1, ends.failed);
                a.jump(found);
                a.place(table);
            }
            a.constant(R1, FRAME);
            a.alu(Alu::And, R2, R1);
            a.constant(R1, self.memory_end);
            a.jump_if(Cond::AboveOrEqual, R2, R1, ends.failed);
            if level > 1 {
                a.map_value(R1, shared, layout::DIRECT_MAP as u32);
                a.load(Size::Double, R1, R1, 0);
                a.alu(Alu::Add, R2, R1);
                a.store(Size::Double, R10, TABLE, R2);
            }
        }
        a.place(found);
    }
}

/// Looks at one page of our own. Context: its address; then 1 for found, 2 for absent; then its
/// physical address; its entry; the top table's address.
fn look(o: &Offsets, shared: i32, walk: Walk) -> Asm {
    let mut asm = Asm::new();
    let a = &mut asm;
    let out = a.label();
    let absent = a.label();
    a.mov(R6, R1);
    a.load(Size::Double, R9, R6, 0);
    a.call(Helper::CurrentTask);
    a.mov(R7, R0);
    a.load(Size::Double, R3, R7, o.task_mm);
    a.jump_if(Cond::Equal, R3, 0, out);
    a.alu(Alu::Add, R3, i32::from(o.mm_pgd));
    peek(a, TABLE, out);
    a.load(Size::Double, R1, R10, TABLE);
    a.store(Size::Double, R6, 32, R1);
    let ends = Ends {
        nothing: out,
        absent,
        failed: out,
    };
    walk.assemble(a, o, shared, ends);
    a.store(Size::Double, R6, 8, 1);
    a.store(Size::Double, R6, 16, R2);
    a.load(Size::Double, R1, R10, ENTRY);
    a.store(Size::Double, R6, 24, R1);
    a.jump(out);
    a.place(absent);
    a.store(Size::Double, R6, 8, 2);
    a.store(Size::Double, R6, 24, R2);
    a.place(out);
    a.mov(R0, 0);
    a.exit();
    asm
}

/// One page of ours as a walk sees it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Look {
    Nothing,
    /// The raw entry of a page that is not there.
    Absent(u64),
    /// The physical address.
    Page(u64),
}

/// A walk that works on this machine.
#[derive(Debug)]
pub(super) struct Walker {
    pub(super) walk: Walk,
    look: Program,
}

impl Walker {
    /// Finds the number of levels and the start of the direct map, and puts the latter into
    /// `shared`.
    ///
    /// # Errors
    /// [`Error::Unsupported`] without CAP_SYS_ADMIN (frame numbers are hidden then), or if no
    /// guess fits.
    pub(super) fn calibrate(o: &Offsets, shared: &Shared) -> Result<Self> {
        let memory_end = memory_end()?;
        let mut arena = PageArena::new(2)?;
        for page in arena.extend(2)? {
            page.fill(0x3c);
        }
        let first = arena.pages().as_ptr().addr() as u64;
        let pages = [first, first + 4096];
        let direct_map = shared.word(layout::DIRECT_MAP);
        for levels in [4, 5] {
            let walk = Walk { levels, memory_end };
            let look = look(o, shared.fd(), walk);
            let look = Program::load(Kind::Syscall, "page-table walk", look)?;
            let walker = Self { walk, look };
            let mut context = [first, 0, 0, 0, 0];
            direct_map.store(0, Ordering::SeqCst);
            walker.look.run(&mut context)?;
            let top = context[4] & !(GIB - 1);
            // From the lowest up to the one that fits.
            for gib in (0..=memory_end.div_ceil(GIB)).rev() {
                let Some(guess) = top.checked_sub(gib * GIB) else {
                    continue;
                };
                direct_map.store(guess, Ordering::SeqCst);
                let mut fits = true;
                for page in pages {
                    // Read each time: a page can move.
                    fits = fits && walker.look(page)? == Look::Page(frame(page)?);
                }
                if fits {
                    return Ok(walker);
                }
            }
        }
        Err(Error::Unsupported {
            what: "page tables that can be walked",
            advice: "record without pre-images; encrypted guests are among those where they can not",
        })
    }

    /// Looks at the page of ours at `address`.
    pub(super) fn look(&self, address: u64) -> Result<Look> {
        let mut context = [address, 0, 0, 0, 0];
        self.look.run(&mut context)?;
        Ok(match context[1] {
            1 => Look::Page(context[2]),
            2 => Look::Absent(context[3]),
            _ => Look::Nothing,
        })
    }
}

/// The physical address of a page of ours.
fn frame(page: u64) -> Result<u64> {
    const PATH: &str = "/proc/self/pagemap";
    let fail = |e| Error::syscall("reading", Target::Path(PATH.to_owned()), e);
    let mut raw = [0; 8];
    let file = File::open(PATH).map_err(fail)?;
    file.read_exact_at(&mut raw, page / 4096 * 8)
        .map_err(fail)?;
    match u64::from_le_bytes(raw) & ((1 << 55) - 1) {
        0 => Err(Error::Unsupported {
            what: "page frame numbers for us in /proc/self/pagemap",
            advice: "run the recorder with CAP_SYS_ADMIN, or record without pre-images",
        }),
        frame => Ok(frame * 4096),
    }
}

/// The end of physical memory, of /proc/zoneinfo.
fn memory_end() -> Result<u64> {
    const PATH: &str = "/proc/zoneinfo";
    let target = || Target::Path(PATH.to_owned());
    let mut text = String::new();
    File::open(PATH)
        .and_then(|file| file.take(16 << 20).read_to_string(&mut text))
        .map_err(|e| Error::syscall("reading", target(), e))?;
    memory_end_in(&text).ok_or_else(|| Error::Malformed {
        what: "the list of memory zones",
        target: target(),
        detail: "no zone spans any memory".to_owned(),
    })
}

/// Each zone has a line `spanned PAGES`, and later `start_pfn: PAGE`.
fn memory_end_in(text: &str) -> Option<u64> {
    let mut spanned = 0;
    let mut end = 0_u64;
    for line in text.lines() {
        let mut words = line.split_whitespace();
        match (
            words.next(),
            words.next().and_then(|w| w.parse::<u64>().ok()),
        ) {
            (Some("spanned"), Some(pages)) => spanned = pages,
            (Some("start_pfn:"), Some(start)) if spanned > 0 => {
                end = end.max(start.checked_add(spanned)?);
                spanned = 0;
            }
            _ => {}
        }
    }
    // Physical addresses have at most 52 bits.
    (1..=1 << 40).contains(&end).then_some(end * 4096)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_end_of_memory_is_that_of_the_last_zone() {
        let text = "Node 0, zone DMA\n        spanned  4095\n  start_pfn:           1\n\
                    Node 0, zone Normal\n        spanned  5505024\n  start_pfn:           1048576\n\
                    Node 0, zone Movable\n        spanned  0\n";
        assert_eq!(memory_end_in(text), Some((1_048_576 + 5_505_024) * 4096));
        assert_eq!(memory_end_in(""), None);
        let huge = format!("spanned {}\nstart_pfn: {}", u64::MAX, u64::MAX);
        assert_eq!(memory_end_in(&huge), None);
        assert!(memory_end().unwrap() > 1 << 20);
    }
}
