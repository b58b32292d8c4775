//! The programs themselves.

use super::asm::{Alu, Asm, Cond, Helper, Label, Reg::*, Size};
use super::btf::Btf;
use super::layout::{self, Layout, Origin};
use super::save::Save;
use crate::error::{Error, Result};

/// Where the fields are that the programs read.
#[derive(Clone, Copy, Debug)]
pub(super) struct Offsets {
    pub(super) task_mm: i16,
    task_pid: i16,
    task_tgid: i16,
    pub(super) mm_pgd: i16,
    /// Absent without CONFIG_MEMCG.
    pub(super) mm_owner: Option<i16>,
    /// Absent without CONFIG_PER_VMA_LOCK, and under another name before 6.13.
    mm_sequence: Option<i16>,
    /// bpf_task_from_vpid, or bpf_task_from_pid.
    task_from_pid: Option<u32>,
    task_release: Option<u32>,
}

impl Offsets {
    pub(super) fn new(btf: &Btf) -> Result<Self> {
        let optional = |structure, path| {
            btf.field(structure, path)
                .and_then(|offset| i16::try_from(offset).ok())
        };
        Ok(Self {
            task_mm: btf.need("task_struct", "mm")?,
            task_pid: btf.need("task_struct", "pid")?,
            task_tgid: btf.need("task_struct", "tgid")?,
            mm_pgd: btf.need("mm_struct", "pgd")?,
            mm_owner: optional("mm_struct", "owner"),
            // A seqcount_t; before 6.13 an int counted differently, which we do not know.
            mm_sequence: optional("mm_struct", "mm_lock_seq.sequence"),
            task_from_pid: btf
                .function("bpf_task_from_vpid")
                .or_else(|| btf.function("bpf_task_from_pid")),
            task_release: btf.function("bpf_task_release"),
        })
    }
}

/// `lea`: `dst` = `base` + `off`.
fn address(a: &mut Asm, dst: super::asm::Reg, base: super::asm::Reg, off: i32) {
    a.mov(dst, base);
    a.alu(Alu::Add, dst, off);
}

/// Puts the process whose memory `task` (R7) uses into the 32 bits at `R10 - 8`, or goes to `none`.
///
/// That is the owner of the memory where the kernel knows it, so that a `vfork`ed child and a
/// kernel worker that borrow the memory of a watched process are not missed.
pub(super) fn memory_owner(a: &mut Asm, o: &Offsets, none: Label) {
    a.load(Size::Double, R1, R7, o.task_mm);
    a.jump_if(Cond::Equal, R1, 0, none);
    match o.mm_owner {
        Some(owner) => {
            a.load(Size::Double, R1, R1, owner);
            a.jump_if(Cond::Equal, R1, 0, none);
            a.load(Size::Word, R1, R1, o.task_tgid);
        }
        None => a.load(Size::Word, R1, R7, o.task_tgid),
    }
    a.store(Size::Word, R10, -8, R1);
}

/// Looks the process in R1 and at `R10 - 8` up among the watched ones; goes to `none`, or on with
/// `R0` pointing to its slot.
pub(super) fn watched(a: &mut Asm, map: i32, shared: i32, none: Label) {
    a.alu(Alu::And, R1, layout::HINT_COUNT as i32 - 1);
    a.map_value(R2, shared, layout::HINTS as u32);
    a.alu(Alu::Add, R2, R1);
    a.load(Size::Byte, R2, R2, 0);
    a.jump_if(Cond::Equal, R2, 0, none);
    a.map(R1, map);
    address(a, R2, R10, -8);
    a.call(Helper::MapLookup);
    a.jump_if(Cond::Equal, R0, 0, none);
}

/// What a fault program works with.
#[derive(Clone, Copy, Debug)]
pub(super) struct Fault<'a> {
    pub(super) offsets: &'a Offsets,
    pub(super) layout: &'a Layout,
    pub(super) origin: Origin,
    /// Descriptor of the map of watched processes.
    pub(super) watched: i32,
    /// Descriptor of the shared memory.
    pub(super) shared: i32,
    /// Log reads too.
    pub(super) reads: bool,
    /// How to save pre-images, if at all.
    pub(super) save: Option<Save>,
}

/// A store caused the fault: a bit of the error code.
pub(super) const WRITE: i32 = 2;

impl Fault<'_> {
    /// For `page_fault_user(address, regs, error_code)` and `page_fault_kernel`.
    pub(super) fn assemble(self) -> Asm {
        let mut asm = Asm::new();
        let a = &mut asm;
        let (wanted, out) = (a.label(), a.label());
        a.load(Size::Double, R8, R1, 16);
        a.load(Size::Double, R9, R1, 0);
        if !self.reads {
            a.jump_if(Cond::AnySet, R8, WRITE, wanted);
            a.jump(out);
        }
        a.place(wanted);
        // The upper half is the kernel's own.
        a.jump_if(Cond::SignedLess, R9, 0, out);
        a.call(Helper::CurrentTask);
        a.mov(R7, R0);
        memory_owner(a, self.offsets, out);
        watched(a, self.watched, self.shared, out);
        match &self.save {
            Some(save) => save.assemble(a, &self),
            None => a.mov(R6, 0),
        }
        self.log(a, out);
        a.place(out);
        a.mov(R0, 0);
        a.exit();
        asm
    }

    /// Gives this processor's ring in R1.
    pub(super) fn ring(&self, a: &mut Asm, none: Label) {
        a.call(Helper::ProcessorId);
        a.jump_if(Cond::AboveOrEqual, R0, self.layout.processors as i32, none);
        a.alu(Alu::Mul, R0, self.layout.stride(self.origin) as i32);
        a.map_value(R1, self.shared, self.layout.rings(self.origin) as u32);
        a.alu(Alu::Add, R1, R0);
    }

    /// Appends to this processor's ring: R6 what became of the pre-image, R7 the task, R8 the error
    /// code, R9 the address.
    fn log(&self, a: &mut Asm, out: Label) {
        let entries = self.layout.entries(self.origin) as i32;
        let full = a.label();
        a.call(Helper::KtimeNs);
        a.store(Size::Double, R10, -16, R0);
        self.ring(a, out);
        a.load(Size::Double, R2, R1, layout::HEAD as i16);
        a.load(Size::Double, R3, R1, layout::TAIL as i16);
        a.mov(R4, R2);
        a.alu(Alu::Sub, R4, R3);
        a.jump_if(Cond::AboveOrEqual, R4, entries, full);
        a.mov(R3, R2);
        a.alu(Alu::And, R3, entries - 1);
        a.alu(Alu::Shl, R3, layout::ENTRY.ilog2() as i32);
        a.alu(Alu::Add, R3, R1);
        let at = layout::ENTRIES as i16;
        a.store(Size::Double, R3, at, R9);
        a.load(Size::Double, R4, R10, -16);
        a.store(Size::Double, R3, at + 8, R4);
        a.load(Size::Word, R4, R10, -8);
        a.store(Size::Word, R3, at + 16, R4);
        a.load(Size::Word, R4, R7, self.offsets.task_pid);
        a.store(Size::Word, R3, at + 20, R4);
        a.store(Size::Word, R3, at + 24, R8);
        a.store(Size::Word, R3, at + 28, R6);
        a.alu(Alu::Add, R2, 1);
        a.store(Size::Double, R1, layout::HEAD as i16, R2);
        a.jump(out);
        a.place(full);
        a.load(Size::Double, R2, R1, layout::LOST as i16);
        a.alu(Alu::Add, R2, 1);
        a.store(Size::Double, R1, layout::LOST as i16, R2);
    }
}

/// At `SEQUENCE` in the shared memory: a process id; then 0 or 1 for found; then the sequence. The
/// sequence's upper half tells address spaces apart, so that one made by `exec` differs.
///
/// # Errors
/// [`Error::Unsupported`] if the kernel does not have what it needs.
pub(super) fn sequence(o: &Offsets, shared: i32) -> Result<Asm> {
    let (Some(sequence), Some(from), Some(release)) =
        (o.mm_sequence, o.task_from_pid, o.task_release)
    else {
        return Err(Error::Unsupported {
            what: "sequence of mapping changes that BPF can read (mm_lock_seq)",
            advice: "use Linux 6.13 or later, built with CONFIG_PER_VMA_LOCK",
        });
    };
    let mut asm = Asm::new();
    let a = &mut asm;
    let (none, put) = (a.label(), a.label());
    a.map_value(R6, shared, layout::SEQUENCE as u32);
    a.load(Size::Word, R1, R6, 0);
    a.call_kernel(from);
    a.jump_if(Cond::Equal, R0, 0, none);
    a.mov(R7, R0);
    a.load(Size::Double, R1, R7, o.task_mm);
    a.jump_if(Cond::Equal, R1, 0, put);
    a.load(Size::Word, R2, R1, sequence);
    a.mov32(R3, R1);
    // Structures are aligned to 64 bytes and more: these bits say nothing.
    a.alu(Alu::Shr, R3, 6);
    a.alu(Alu::Shl, R3, 32);
    a.alu(Alu::Or, R2, R3);
    a.store(Size::Double, R6, 8, 1);
    a.store(Size::Double, R6, 16, R2);
    a.place(put);
    a.mov(R1, R7);
    a.call_kernel(release);
    a.place(none);
    a.mov(R0, 0);
    a.exit();
    Ok(asm)
}

/// Context: filled with what the kernel calls our process. Differs from `getpid` in a namespace.
pub(super) fn own_process(o: &Offsets) -> Asm {
    let mut asm = Asm::new();
    let a = &mut asm;
    a.mov(R6, R1);
    a.call(Helper::CurrentTask);
    a.load(Size::Word, R1, R0, o.task_tgid);
    a.store(Size::Double, R6, 0, R1);
    a.mov(R0, 0);
    a.exit();
    asm
}
