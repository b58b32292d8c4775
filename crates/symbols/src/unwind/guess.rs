//! Unwinding without tables: what the kernel saved for a signal handler, how functions begin, the
//! frame pointer.
//!
//! A guess is taken only if what it finds looks like a return address: memory of a module's code,
//! or at least memory that can be read.

use super::FoundBy;
use super::cfi::Found;
use super::registers::{FrameRegisters, RBP, RIP, RSP};
use crate::memory::{Memory, Registers as _};
use crate::program::Program;

/// `mov $15, %rax; syscall`: how every C library returns from a signal handler.
const SIGRETURN: [u8; 9] = [0x48, 0xc7, 0xc0, 0x0f, 0, 0, 0, 0x0f, 0x05];
/// `endbr64`, with which functions begin where the processor checks branches.
const ENDBR: [u8; 4] = [0xf3, 0x0f, 0x1e, 0xfa];
/// `push %rbp`.
const PUSH: u8 = 0x55;

pub(super) fn step(
    program: &Program,
    memory: &dyn Memory,
    registers: &FrameRegisters,
    lookup: u64,
    innermost: bool,
) -> Found {
    if let Some(found) = signal(memory, registers) {
        return found;
    }
    let entered = innermost
        .then(|| just_entered(program, memory, registers, lookup))
        .flatten();
    let found = entered.or_else(|| frame_pointer(program, memory, registers));
    match found {
        Some((cfa, caller)) => Found {
            cfa: Some(cfa),
            signal: false,
            by: FoundBy::FramePointer,
            caller: Ok(Some(caller)),
        },
        None => Found {
            cfa: None,
            signal: false,
            by: FoundBy::FramePointer,
            caller: Err("there is no unwind table for it, and no frame pointer".to_owned()),
        },
    }
}

/// The kernel's frame under a handler: at the stack pointer lies a `ucontext`, whose registers begin
/// after flags, link and stack (arch/x86/include/uapi/asm/ucontext.h, sigcontext.h).
fn signal(memory: &dyn Memory, registers: &FrameRegisters) -> Option<Found> {
    const SAVED: u64 = 40;
    /// Registers by their DWARF numbers, in the order of `struct sigcontext`.
    const ORDER: [u16; 17] = [8, 9, 10, 11, 12, 13, 14, 15, 5, 4, 6, 3, 1, 0, 2, 7, 16];
    let mut code = [0; SIGRETURN.len()];
    memory.read(registers.get(RIP)?, &mut code).ok()?;
    if code != SIGRETURN {
        return None;
    }
    let context = registers.get(RSP)?;
    let mut caller = registers.empty_caller();
    for (at, register) in (0..).zip(ORDER) {
        let word = memory.word(context.wrapping_add(SAVED + 8 * at)).ok()?;
        caller.set(register, Some(word));
    }
    Some(Found {
        cfa: Some(context),
        signal: true,
        by: FoundBy::SignalFrame,
        caller: Ok(Some(caller)),
    })
}

/// A function that has not made its frame yet: at its first instruction, or with only the frame
/// pointer saved; or no function at all, but a call through a bad pointer.
fn just_entered(
    program: &Program,
    memory: &dyn Memory,
    registers: &FrameRegisters,
    pc: u64,
) -> Option<(u64, FrameRegisters)> {
    let sp = registers.get(RSP)?;
    let pushed = match program.module_at(pc) {
        Some((module, bias)) => {
            let start = module.symbol_at(pc.wrapping_sub(bias))?.address;
            let mut within = pc.wrapping_sub(bias).wrapping_sub(start);
            let mut code = [0; 5];
            memory.read(start.wrapping_add(bias), &mut code).ok()?;
            let mut first = code[0];
            if code[..4] == ENDBR {
                first = code[4];
                within = within.saturating_sub(4);
            }
            match (first, within) {
                (_, 0) => 0,
                (PUSH, 1) => 1,
                (PUSH, _) => return None,
                // A function without a frame, so far as can be seen.
                _ => 0,
            }
        }
        None => {
            let mut byte = [0];
            if memory.read(pc, &mut byte).is_ok() {
                return None;
            }
            0
        }
    };
    let cfa = sp.wrapping_add(8 + 8 * pushed);
    let back = memory.word(cfa.wrapping_sub(8)).ok()?;
    if !is_code(program, back) {
        return None;
    }
    let mut caller = kept(registers);
    if pushed > 0 {
        caller.set(RBP, memory.word(sp).ok());
    }
    caller.set(RSP, Some(cfa));
    caller.set(RIP, Some(back));
    Some((cfa, caller))
}

/// By the chain of saved frame pointers.
fn frame_pointer(
    program: &Program,
    memory: &dyn Memory,
    registers: &FrameRegisters,
) -> Option<(u64, FrameRegisters)> {
    let (bp, sp) = (registers.get(RBP)?, registers.get(RSP)?);
    if bp < sp || bp % 8 != 0 {
        return None;
    }
    let saved = memory.word(bp).ok()?;
    let back = memory.word(bp.wrapping_add(8)).ok()?;
    let mut byte = [0];
    let plausible = is_code(program, back)
        || (program.module_at(back).is_none()
            && memory.read(back.wrapping_sub(1), &mut byte).is_ok());
    if back != 0 && !plausible {
        return None;
    }
    let cfa = bp.wrapping_add(16);
    let mut caller = kept(registers);
    // What it saved besides the frame pointer is not known.
    for register in [3, 12, 13, 14, 15] {
        caller.set(register, None);
    }
    caller.set(RBP, Some(saved));
    caller.set(RSP, Some(cfa));
    caller.set(RIP, Some(back));
    Some((cfa, caller))
}

/// What a function that has saved nothing yet leaves to its caller.
fn kept(registers: &FrameRegisters) -> FrameRegisters {
    let mut caller = registers.empty_caller();
    for register in super::registers::PRESERVED {
        caller.set(register, registers.get(register));
    }
    caller
}

fn is_code(program: &Program, address: u64) -> bool {
    program
        .module_at(address)
        .is_some_and(|(module, bias)| module.is_code(address.wrapping_sub(bias)))
}
