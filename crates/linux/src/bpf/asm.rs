//! An assembler for BPF, just large enough for our programs.
//!
//! Instructions are assembled at run time so that the offsets of kernel structures, read from the
//! running kernel's own type information, become constants in them; neither a BPF toolchain nor a
//! relocating loader is needed. Encodings follow the kernel's
//! `Documentation/bpf/standardization/instruction-set.rst` (RFC 9669).

use std::fmt;

/// A register. `R0` is a call's result, `R1`-`R5` its arguments (lost by it), `R6`-`R9` survive
/// calls, `R10` is the end of the stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Reg {
    R0 = 0,
    R1 = 1,
    R2 = 2,
    R3 = 3,
    R4 = 4,
    // R5, a call's last argument, is not used.
    R6 = 6,
    R7 = 7,
    R8 = 8,
    R9 = 9,
    R10 = 10,
}

/// Width of a load or store.
#[derive(Clone, Copy, Debug)]
pub(super) enum Size {
    Byte,
    Half,
    Word,
    Double,
}

impl Size {
    const fn bits(self) -> u8 {
        match self {
            Self::Word => 0x00,
            Self::Half => 0x08,
            Self::Byte => 0x10,
            Self::Double => 0x18,
        }
    }
}

/// A register or a sign-extended constant.
#[derive(Clone, Copy, Debug)]
pub(super) enum Operand {
    Reg(Reg),
    Imm(i32),
}

impl From<Reg> for Operand {
    fn from(reg: Reg) -> Self {
        Self::Reg(reg)
    }
}

impl From<i32> for Operand {
    fn from(imm: i32) -> Self {
        Self::Imm(imm)
    }
}

/// 64-bit arithmetic.
#[derive(Clone, Copy, Debug)]
pub(super) enum Alu {
    Add = 0x00,
    Sub = 0x10,
    Mul = 0x20,
    Or = 0x40,
    And = 0x50,
    Shl = 0x60,
    Shr = 0x70,
}

/// 64-bit comparisons; unsigned but for `SignedLess`.
#[derive(Clone, Copy, Debug)]
pub(super) enum Cond {
    Equal = 0x10,
    AboveOrEqual = 0x30,
    /// Any of the bits is set.
    AnySet = 0x40,
    NotEqual = 0x50,
    SignedLess = 0xc0,
}

/// Helper functions of the kernel, by their number in its stable ABI.
#[derive(Clone, Copy, Debug)]
pub(super) enum Helper {
    MapLookup = 1,
    KtimeNs = 5,
    ProcessorId = 8,
    ProbeReadKernel = 113,
    CurrentTask = 158,
}

/// A place to jump to.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Label(usize);

/// Why a program cannot be assembled: always a mistake in this crate.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum AsmError {
    /// A label is jumped to and stands nowhere.
    Unbound(Label),
    /// A jump is longer than 32,767 instructions.
    TooFar(Label),
}

impl fmt::Display for AsmError {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unbound(label) => write!(f, "label {} stands nowhere", label.0),
            Self::TooFar(label) => write!(f, "label {} is too far away", label.0),
        }
    }
}

/// A program being assembled.
#[derive(Debug, Default)]
pub(super) struct Asm {
    code: Vec<u64>,
    labels: Vec<Option<usize>>,
    jumps: Vec<(usize, Label)>,
}

const fn encode(op: u8, dst: u8, src: u8, off: i16, imm: i32) -> u64 {
    op as u64
        | (dst as u64) << 8
        | (src as u64) << 12
        | (off.cast_unsigned() as u64) << 16
        | (imm.cast_unsigned() as u64) << 32
}

impl Asm {
    pub(super) fn new() -> Self {
        Self::default()
    }

    fn emit(&mut self, op: u8, dst: Reg, src: Reg, off: i16, imm: i32) {
        self.code.push(encode(op, dst as u8, src as u8, off, imm));
    }

    /// A label, to be placed by [`Asm::place`].
    pub(super) fn label(&mut self) -> Label {
        self.labels.push(None);
        Label(self.labels.len() - 1)
    }

    /// Puts `label` before the next instruction.
    pub(super) fn place(&mut self, label: Label) {
        self.labels[label.0] = Some(self.code.len());
    }

    pub(super) fn mov(&mut self, dst: Reg, value: impl Into<Operand>) {
        match value.into() {
            Operand::Reg(src) => self.emit(0xbf, dst, src, 0, 0),
            Operand::Imm(imm) => self.emit(0xb7, dst, Reg::R0, 0, imm),
        }
    }

    /// Moves the low 32 bits and clears the high ones. Of a kernel pointer, makes a plain number.
    pub(super) fn mov32(&mut self, dst: Reg, src: Reg) {
        self.emit(0xbc, dst, src, 0, 0);
    }

    /// A 64-bit constant. (Two instructions.)
    pub(super) fn constant(&mut self, dst: Reg, value: u64) {
        self.wide(
            dst,
            0,
            (value as u32).cast_signed(),
            ((value >> 32) as u32).cast_signed(),
        );
    }

    /// The map behind a descriptor of ours.
    pub(super) fn map(&mut self, dst: Reg, fd: i32) {
        self.wide(dst, 1, fd, 0);
    }

    /// The address `offset` bytes into the only value of the array map behind a descriptor of ours.
    pub(super) fn map_value(&mut self, dst: Reg, fd: i32, offset: u32) {
        self.wide(dst, 2, fd, offset.cast_signed());
    }

    fn wide(&mut self, dst: Reg, pseudo: u8, low: i32, high: i32) {
        self.code.push(encode(0x18, dst as u8, pseudo, 0, low));
        self.code.push(encode(0, 0, 0, 0, high));
    }

    pub(super) fn alu(&mut self, op: Alu, dst: Reg, value: impl Into<Operand>) {
        match value.into() {
            Operand::Reg(src) => self.emit(op as u8 | 0x0f, dst, src, 0, 0),
            Operand::Imm(imm) => self.emit(op as u8 | 0x07, dst, Reg::R0, 0, imm),
        }
    }

    pub(super) fn load(&mut self, size: Size, dst: Reg, base: Reg, off: i16) {
        self.emit(0x61 | size.bits(), dst, base, off, 0);
    }

    pub(super) fn store(&mut self, size: Size, base: Reg, off: i16, value: impl Into<Operand>) {
        match value.into() {
            Operand::Reg(src) => self.emit(0x63 | size.bits(), base, src, off, 0),
            Operand::Imm(imm) => self.emit(0x62 | size.bits(), base, Reg::R0, off, imm),
        }
    }

    /// Adds `value` to 64 bits of memory and gives what was there; a full barrier.
    pub(super) fn fetch_add(&mut self, base: Reg, off: i16, value: Reg) {
        self.emit(0xdb, base, value, off, 0x01);
    }

    /// Swaps `value` with 64 bits of memory; a full barrier.
    pub(super) fn exchange(&mut self, base: Reg, off: i16, value: Reg) {
        self.emit(0xdb, base, value, off, 0xe1);
    }

    pub(super) fn jump(&mut self, to: Label) {
        self.jumps.push((self.code.len(), to));
        self.emit(0x05, Reg::R0, Reg::R0, 0, 0);
    }

    pub(super) fn jump_if(&mut self, cond: Cond, left: Reg, right: impl Into<Operand>, to: Label) {
        self.jumps.push((self.code.len(), to));
        match right.into() {
            Operand::Reg(src) => self.emit(cond as u8 | 0x0d, left, src, 0, 0),
            Operand::Imm(imm) => self.emit(cond as u8 | 0x05, left, Reg::R0, 0, imm),
        }
    }

    pub(super) fn call(&mut self, helper: Helper) {
        self.code.push(encode(0x85, 0, 0, 0, helper as i32));
    }

    /// Calls a kernel function that programs may call, by the id of its type.
    pub(super) fn call_kernel(&mut self, id: u32) {
        self.code.push(encode(0x85, 0, 2, 0, id.cast_signed()));
    }

    /// Ends the program with `R0`.
    pub(super) fn exit(&mut self) {
        self.emit(0x95, Reg::R0, Reg::R0, 0, 0);
    }

    /// The instructions, jumps resolved.
    pub(super) fn finish(mut self) -> Result<Vec<u64>, AsmError> {
        for (at, label) in self.jumps {
            let to = self.labels[label.0].ok_or(AsmError::Unbound(label))?;
            // Counted from the instruction behind the jump.
            let distance = to.cast_signed() - at.cast_signed() - 1;
            let off = i16::try_from(distance).map_err(|_| AsmError::TooFar(label))?;
            self.code[at] |= u64::from(off.cast_unsigned()) << 16;
        }
        Ok(self.code)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    /// What clang and llvm-objdump make of the same instructions.
    #[test]
    fn encodings_are_the_published_ones() {
        let mut a = Asm::new();
        a.mov(Reg::R1, -1);
        a.mov(Reg::R6, Reg::R1);
        a.mov32(Reg::R2, Reg::R7);
        a.constant(Reg::R3, 0x1122_3344_8899_aabb);
        a.alu(Alu::And, Reg::R4, 0xfff);
        a.alu(Alu::Mul, Reg::R0, Reg::R9);
        a.load(Size::Word, Reg::R4, Reg::R10, -8);
        a.load(Size::Byte, Reg::R4, Reg::R1, 3);
        a.store(Size::Double, Reg::R10, -16, Reg::R8);
        a.store(Size::Half, Reg::R10, -2, 7);
        a.fetch_add(Reg::R1, 8, Reg::R2);
        a.exchange(Reg::R1, 8, Reg::R2);
        a.call(Helper::ProbeReadKernel);
        a.exit();
        assert_eq!(
            a.finish().unwrap(),
            [
                0xffff_ffff_0000_01b7,
                0x0000_0000_0000_16bf,
                0x0000_0000_0000_72bc,
                0x8899_aabb_0000_0318,
                0x1122_3344_0000_0000,
                0x0000_0fff_0000_0457,
                0x0000_0000_0000_902f,
                0x0000_0000_fff8_a461,
                0x0000_0000_0003_1471,
                0x0000_0000_fff0_8a7b,
                0x0000_0007_fffe_0a6a,
                0x0000_0001_0008_21db,
                0x0000_00e1_0008_21db,
                0x0000_0071_0000_0085,
                0x0000_0000_0000_0095,
            ]
        );
    }

    #[test]
    fn jumps_count_from_the_next_instruction() {
        let mut a = Asm::new();
        let (back, ahead) = (a.label(), a.label());
        a.place(back);
        a.jump_if(Cond::Equal, Reg::R1, 0, ahead);
        a.constant(Reg::R2, 1);
        a.jump(back);
        a.place(ahead);
        a.exit();
        let code = a.finish().unwrap();
        assert_eq!(code[0], 0x0000_0000_0003_0115);
        assert_eq!(code[3], 0x0000_0000_fffc_0005);
    }

    #[test]
    fn a_label_that_stands_nowhere_is_an_error() {
        let mut a = Asm::new();
        let label = a.label();
        a.jump(label);
        assert_eq!(a.finish(), Err(AsmError::Unbound(label)));
        let mut a = Asm::new();
        let label = a.label();
        a.jump(label);
        for _ in 0..40_000 {
            a.exit();
        }
        a.place(label);
        assert_eq!(a.finish(), Err(AsmError::TooFar(label)));
    }
}
