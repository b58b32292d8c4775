//! Saving what a page held before the write that faults on it.
//!
//! While saving is on, a write fault on a page whose entry carries the write-protect bit of
//! userfaultfd copies the page to a slot, before the fault is resolved. Two threads can fault on
//! one page at once: one copies, is resolved and writes while the other still copies. So the entry
//! is read again after the copy; a copy is good only if the entry is the same (but for the accessed
//! and dirty bits), since whoever writes must first have cleared the bit. It cannot have been set
//! again meanwhile: only a boundary protects, and it waits for all threads to leave the kernel.
//! If the entry changed, the walk starts again: a huge page was split, or another thread resolved
//! the fault, having saved the page itself.
//!
//! Slots are taken by one atomic addition and written once. Clearing them must not overtake a
//! program that writes to one: each announces itself in its ring by an atomic exchange (a full
//! barrier) and then looks again whether saving is on; we switch it off, wait for none to be
//! announced, and clear.

use super::asm::{Alu, Asm, Cond, Helper, Reg::*, Size};
use super::layout::{self, Layout};
use super::programs::{Fault, WRITE};
use super::sys::Shared;
use super::walk::{self, Ends, Walk};
use crate::error::{Error, Result, Target};
use std::io;
use std::sync::atomic::{Ordering, fence};
use std::time::{Duration, Instant};
use stillframe_image::PAGE_SIZE;

/// What a slot holds.
const CONTENT: i32 = 1;
const ABSENT: i32 = 2;

/// In the log, of one fault: a pre-image was saved, or should have been.
pub(super) const SAVED: u32 = 1;
pub(super) const UNSAVED: u32 = 2;

/// Bytes that describe a slot: page, tgid, kind, epoch.
const NOTE: usize = 32;
/// Walks of one fault before it is given up.
const ATTEMPTS: usize = 3;
/// _PAGE_UFFD_WP of x86.
const PROTECTED: i32 = 1 << 10;
/// _PAGE_SWP_UFFD_WP of x86: the same of a page that is not there.
const PROTECTED_ABSENT: i32 = 1 << 2;
/// _PAGE_PROTNONE of x86.
const NO_ACCESS: i32 = 1 << 8;
/// The accessed and dirty bits, which the processor sets by itself.
const TOUCHED: i32 = 0x60;

/// On the stack, below what [`walk`] uses.
const RING: i16 = -48;
const SLOT: i16 = -56;
const AGAIN: i16 = -64;
const OUTCOME: i16 = -72;

/// How programs save.
#[derive(Clone, Copy, Debug)]
pub(super) struct Save {
    pub(super) walk: Walk,
    /// Descriptor of the memory of the slots.
    pub(super) images: i32,
    /// How many there are.
    pub(super) slots: u32,
}

/// Offset of the first slot's page.
const fn pages_at(slots: u32) -> usize {
    (slots as usize * NOTE).next_multiple_of(PAGE_SIZE)
}

impl Save {
    /// R7 is the task, R8 the error code, R9 the address, the process is at `R10 - 8`. Leaves the
    /// outcome in R6.
    pub(super) fn assemble(&self, a: &mut Asm, fault: &Fault<'_>) {
        let (done, off, retire) = (a.label(), a.label(), a.label());
        let (unsaved, absent) = (a.label(), a.label());
        a.mov(R6, 0);
        a.map_value(R1, fault.shared, layout::SAVING as u32);
        a.load(Size::Double, R2, R1, 0);
        a.jump_if(Cond::Equal, R2, 0, off);
        if fault.reads {
            let write = a.label();
            a.jump_if(Cond::AnySet, R8, WRITE, write);
            a.jump(off);
            a.place(write);
        }
        fault.ring(a, off);
        a.mov(R2, 1);
        a.exchange(R1, layout::ACTIVE as i16, R2);
        a.store(Size::Double, R10, RING, R1);
        a.store(Size::Double, R10, OUTCOME, 0);
        a.map_value(R1, fault.shared, layout::SAVING as u32);
        a.load(Size::Double, R6, R1, 0);
        a.jump_if(Cond::Equal, R6, 0, retire);

        for attempt in 0..ATTEMPTS {
            let again = a.label();
            let ends = Ends {
                nothing: retire,
                absent,
                failed: unsaved,
            };
            self.walk.assemble(a, fault.offsets, fault.shared, ends);
            a.load(Size::Double, R1, R10, walk::ENTRY);
            let protected = a.label();
            a.jump_if(Cond::AnySet, R1, PROTECTED, protected);
            a.jump(retire);
            a.place(protected);
            a.map_value(R1, fault.shared, layout::DIRECT_MAP as u32);
            a.load(Size::Double, R1, R1, 0);
            a.alu(Alu::Add, R2, R1);
            a.mov(R3, R2);
            if attempt == 0 {
                self.take_slot(a, fault, unsaved);
            }
            a.load(Size::Double, R1, R10, SLOT);
            a.alu(Alu::Shl, R1, PAGE_SIZE.ilog2() as i32);
            a.map_value(R2, self.images, pages_at(self.slots) as u32);
            a.alu(Alu::Add, R1, R2);
            a.mov(R2, PAGE_SIZE as i32);
            a.call(Helper::ProbeReadKernel);
            a.jump_if(Cond::NotEqual, R0, 0, unsaved);
            a.load(Size::Double, R3, R10, walk::ENTRY_AT);
            walk::peek(a, AGAIN, unsaved);
            a.load(Size::Double, R1, R10, AGAIN);
            a.load(Size::Double, R2, R10, walk::ENTRY);
            a.alu(Alu::And, R1, !TOUCHED);
            a.alu(Alu::And, R2, !TOUCHED);
            a.jump_if(Cond::NotEqual, R1, R2, again);
            self.note(a, CONTENT);
            a.jump(retire);
            a.place(again);
        }
        a.jump(unsaved);

        // Not there: protected before it ever was, or swapped out, or on its way.
        a.place(absent);
        let (marker, lost) = (a.label(), a.label());
        a.map_value(R1, fault.shared, layout::MARKER as u32);
        a.load(Size::Double, R1, R1, 0);
        a.jump_if(Cond::Equal, R1, R2, marker);
        // The kernel will make it accessible and the write will fault again.
        a.jump_if(Cond::AnySet, R2, NO_ACCESS, retire);
        a.jump_if(Cond::AnySet, R2, PROTECTED_ABSENT, lost);
        a.jump(retire);
        a.place(marker);
        self.take_slot(a, fault, unsaved);
        self.note(a, ABSENT);
        a.jump(retire);

        a.place(lost);
        a.place(unsaved);
        a.map_value(R1, fault.shared, layout::UNSAVED as u32);
        a.mov(R2, 1);
        a.fetch_add(R1, 0, R2);
        a.store(Size::Double, R10, OUTCOME, UNSAVED as i32);
        a.place(retire);
        a.load(Size::Double, R1, R10, RING);
        a.store(Size::Double, R1, layout::ACTIVE as i16, 0);
        a.load(Size::Double, R6, R10, OUTCOME);
        a.jump(done);
        a.place(off);
        a.mov(R6, 0);
        a.place(done);
    }

    /// Takes a slot, whose number goes to the stack. Keeps R3.
    fn take_slot(&self, a: &mut Asm, fault: &Fault<'_>, none: super::asm::Label) {
        a.map_value(R1, fault.shared, layout::TAKEN as u32);
        a.mov(R2, 1);
        a.fetch_add(R1, 0, R2);
        a.jump_if(Cond::AboveOrEqual, R2, self.slots as i32, none);
        a.store(Size::Double, R10, SLOT, R2);
    }

    /// Says what the slot holds; the epoch, in R6, comes last.
    fn note(&self, a: &mut Asm, kind: i32) {
        a.load(Size::Double, R1, R10, SLOT);
        a.alu(Alu::Shl, R1, NOTE.ilog2() as i32);
        a.map_value(R2, self.images, 0);
        a.alu(Alu::Add, R1, R2);
        a.mov(R2, R9);
        a.alu(Alu::And, R2, -(PAGE_SIZE as i32));
        a.store(Size::Double, R1, 0, R2);
        a.load(Size::Word, R2, R10, -8);
        a.store(Size::Word, R1, 8, R2);
        a.store(Size::Word, R1, 12, kind);
        a.store(Size::Double, R1, 16, R6);
        a.store(Size::Double, R10, OUTCOME, SAVED as i32);
    }
}

/// A page as it was before it was written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct SavedPage<'a> {
    /// The process whose memory it is.
    pub tgid: u32,
    /// Address of the page.
    pub page: u64,
    /// What it held. `None` if it did not exist yet: zeroes if it is anonymous, otherwise what its
    /// file has there.
    pub content: Option<&'a [u8; PAGE_SIZE]>,
}

/// Our side of the slots.
#[derive(Debug)]
pub(super) struct Images {
    memory: Shared,
    slots: u32,
    /// Never 0.
    epoch: u64,
}

impl Images {
    pub(super) fn new(slots: u32) -> Result<Self> {
        let slots = slots.clamp(1, 64 << 10);
        let memory = Shared::new(pages_at(slots) + slots as usize * PAGE_SIZE)?;
        Ok(Self {
            memory,
            slots,
            epoch: 1,
        })
    }

    pub(super) fn save(&self, walk: Walk) -> Save {
        Save {
            walk,
            images: self.memory.fd(),
            slots: self.slots,
        }
    }

    /// Switches saving on, or off and waits until no program is at it.
    pub(super) fn switch(&self, on: bool, shared: &Shared, layout: &Layout) -> Result<()> {
        let saving = shared.word(layout::SAVING);
        if on {
            saving.store(self.epoch, Ordering::SeqCst);
            return Ok(());
        }
        saving.store(0, Ordering::SeqCst);
        fence(Ordering::SeqCst);
        // A program takes microseconds and is not preempted; a virtual processor can be.
        let give_up = Instant::now() + Duration::from_secs(5);
        for (_, ring) in layout.all_rings() {
            let active = shared.word(ring + layout::ACTIVE);
            while active.load(Ordering::Acquire) != 0 {
                if Instant::now() > give_up {
                    let late = io::Error::from_raw_os_error(libc::ETIMEDOUT);
                    return Err(Error::syscall(
                        "waiting for a BPF program",
                        Target::Us,
                        late,
                    ));
                }
                std::thread::yield_now();
            }
        }
        Ok(())
    }

    /// Makes all slots free. No program may be saving.
    pub(super) fn clear(&mut self, shared: &Shared) {
        self.epoch += 1;
        shared.word(layout::TAKEN).store(0, Ordering::SeqCst);
        shared.word(layout::UNSAVED).store(0, Ordering::SeqCst);
    }

    pub(super) fn saved(&self, shared: &Shared) -> impl Iterator<Item = SavedPage<'_>> {
        let taken = shared.word(layout::TAKEN).load(Ordering::Acquire);
        (0..taken.min(u64::from(self.slots)) as usize).filter_map(|slot| self.slot(slot))
    }

    /// What is in a slot, if it was filled since the slots were cleared.
    fn slot(&self, slot: usize) -> Option<SavedPage<'_>> {
        let at = slot * NOTE;
        if self.memory.word(at + 16).load(Ordering::Acquire) != self.epoch {
            return None;
        }
        let page = self.memory.word(at).load(Ordering::Relaxed);
        let who = self.memory.word(at + 8).load(Ordering::Relaxed);
        let content = (who >> 32 == CONTENT as u64).then(|| {
            let at = pages_at(self.slots) + slot * PAGE_SIZE;
            // SAFETY: `at` checks that the page lies in the mapping; bytes need no alignment and
            // any are valid. Its program finished it before it stored the epoch, which we acquired,
            // and nobody writes to it again before `clear`, which takes `&mut self` and so ends
            // this borrow.
            unsafe { self.memory.at::<[u8; PAGE_SIZE]>(at).as_ref() }
        });
        Some(SavedPage {
            tgid: who as u32,
            page,
            content,
        })
    }
}
