//! Call stacks.
//!
//! A frame is found from the one it called by the tables that compilers leave for exceptions
//! (.eh_frame), else by those for debuggers (.debug_frame), else by the frame pointer. Signal
//! handlers are unwound through: their frames' addresses are those of the interrupted instructions,
//! not of calls. Whatever memory and tables hold, a stack has a last frame: it grows in one
//! direction, no frame comes twice, and its depth is limited.

mod cfi;
mod expression;
mod guess;
mod registers;

pub(crate) use cfi::UnwindTables;
pub use registers::FrameRegisters;

use crate::lines::Place;
use crate::locate::{Function, Location};
use crate::memory::{Memory, Registers};
use crate::program::Program;
use crate::variables::{Caller, Here};
use registers::{RIP, RSP};
use std::collections::HashSet;
use std::sync::Arc;

/// What bounds a stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most frames, inlined ones not counted.
    pub frames: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { frames: 1024 }
    }
}

/// How a frame was found.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum FoundBy {
    /// It is the thread's own.
    Context,
    /// By .eh_frame.
    Cfi,
    /// By .debug_frame.
    DebugFrame,
    /// By the frame pointer, or by how functions begin.
    FramePointer,
    /// By what the kernel saved for a signal handler.
    SignalFrame,
}

/// Why a stack ends where it does.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum End {
    /// The last frame is the first function of its thread.
    Outermost,
    /// There may be more, but no more were wanted.
    Limit,
    /// How the last frame was called is not known.
    Lost(String),
}

/// One frame.
#[derive(Clone, Debug)]
pub struct Frame {
    /// Registers as they will be when control returns to it; those of callers as far as they are
    /// known. An inlined frame has those of the function it is inlined into.
    pub registers: FrameRegisters,
    /// Address of the next instruction of it.
    pub pc: u64,
    /// Canonical frame address: the stack pointer just before it was called.
    pub cfa: Option<u64>,
    /// What `pc` belongs to; shared by the frames inlined into each other.
    pub location: Option<Arc<Location>>,
    /// Position in [`Location::functions`] of this frame's function.
    pub function: Option<usize>,
    /// Whether it is inlined into the next frame.
    pub inlined: bool,
    /// Whether it is the kernel's, between a signal handler and what it interrupted.
    pub signal: bool,
    /// How it was found.
    pub found_by: FoundBy,
    /// Whether the frame it is stopped in is a call (so that `pc` is behind it).
    pub called: bool,
}

impl Frame {
    /// The address by which to look up what the frame is doing: inside the call if it has called.
    pub const fn lookup(&self) -> u64 {
        if self.called {
            self.pc.wrapping_sub(1)
        } else {
            self.pc
        }
    }

    /// Its function, as debug information has it.
    pub fn function(&self) -> Option<&Function> {
        self.location.as_ref()?.functions.get(self.function?)
    }

    /// The name of its function: from debug information, else from the symbol table.
    pub fn name(&self) -> Option<&str> {
        match self.function() {
            Some(function) => Some(&function.name),
            None => self.location.as_ref()?.name(),
        }
    }

    /// Where it is in its source.
    pub fn place(&self) -> Option<&Place> {
        let location = self.location.as_ref()?;
        match self.function {
            Some(function) => location.place_in(function),
            None => location.place.as_ref(),
        }
    }
}

/// A call stack, the innermost frame first.
#[derive(Clone, Debug)]
pub struct Stack {
    /// Its frames; at least one.
    pub frames: Vec<Frame>,
    /// Why there are no more.
    pub end: End,
}

/// The frames of a thread, the innermost first; inlined calls are frames of their own.
pub fn unwind(
    program: &Program,
    memory: &dyn Memory,
    registers: &dyn Registers,
    limits: Limits,
) -> Vec<Frame> {
    stack(program, memory, registers, limits).frames
}

/// As [`unwind`], with the reason for the end.
pub fn stack(
    program: &Program,
    memory: &dyn Memory,
    registers: &dyn Registers,
    limits: Limits,
) -> Stack {
    let mut frames = Vec::new();
    let mut here = Physical {
        registers: FrameRegisters::of_thread(registers),
        found_by: FoundBy::Context,
        called: false,
    };
    let mut seen = HashSet::new();
    let mut count = 0;
    let end = loop {
        let step = step(program, memory, &here, count == 0);
        add(program, &here, &step, &mut frames);
        count += 1;
        let next = match step.caller {
            Ok(Some(next)) => next,
            Ok(None) => break End::Outermost,
            Err(reason) => break End::Lost(reason),
        };
        let (pc, sp) = (next.registers.get(RIP), next.registers.get(RSP));
        // Stacks grow downwards, so callers lie higher; only a signal can move to another stack.
        if !step.signal && sp <= here.registers.get(RSP) {
            break End::Lost("the frame before it would not lie above it".to_owned());
        }
        if !seen.insert((pc, sp)) {
            break End::Lost("the frame before it is one that was here already".to_owned());
        }
        if count >= limits.frames {
            break End::Limit;
        }
        here = next;
    };
    Stack { frames, end }
}

/// A frame without the inlined ones in it.
struct Physical {
    registers: FrameRegisters,
    found_by: FoundBy,
    called: bool,
}

/// What is found out about a frame.
struct Step {
    cfa: Option<u64>,
    signal: bool,
    /// The frame that called it; none if nothing did; or why it cannot be found.
    caller: Result<Option<Physical>, String>,
}

fn step(program: &Program, memory: &dyn Memory, here: &Physical, innermost: bool) -> Step {
    let pc = here.registers.get(RIP).unwrap_or(0);
    let lookup = if here.called { pc.wrapping_sub(1) } else { pc };
    let by_table = program.module_at(lookup).and_then(|(module, bias)| {
        let tables = module.unwind_tables();
        tables.step(lookup.wrapping_sub(bias), memory, &here.registers)
    });
    let found = match by_table {
        Some(found) => found,
        None => guess::step(program, memory, &here.registers, lookup, innermost),
    };
    let signal = found.signal;
    let caller = found.caller.map(|caller| {
        // A return address of zero ends a stack: nothing returns there.
        let caller = caller.filter(|r| r.get(RIP).is_some_and(|pc| pc != 0));
        caller.map(|registers| Physical {
            registers,
            found_by: found.by,
            called: !signal,
        })
    });
    Step {
        cfa: found.cfa,
        signal,
        caller,
    }
}

/// A frame and those inlined into it, the innermost first.
fn add(program: &Program, here: &Physical, step: &Step, frames: &mut Vec<Frame>) {
    let pc = here.registers.get(RIP).unwrap_or(0);
    let lookup = if here.called { pc.wrapping_sub(1) } else { pc };
    let location = program.locate(lookup).map(Arc::new);
    let functions = location.as_ref().map_or(0, |l| l.functions.len());
    let frame = |function: Option<usize>| Frame {
        registers: here.registers.clone(),
        pc,
        cfa: step.cfa,
        location: location.clone(),
        function,
        inlined: function.is_some_and(|f| f > 0),
        signal: step.signal,
        found_by: here.found_by,
        called: here.called,
    };
    if functions == 0 {
        frames.push(frame(None));
    }
    frames.extend((0..functions).rev().map(|f| frame(Some(f))));
}

impl Stack {
    /// The frame at a position, in the words in which locals and arguments are asked for
    /// ([`crate::Scope::here`]); none if there is no such frame.
    pub fn here(&self, level: usize) -> Option<Here<'_>> {
        let frame = self.frames.get(level)?;
        // The frames inlined into one function share its registers; the one that called it is the
        // first behind the last of them.
        let within = self.frames.get(level..)?;
        let physical = within.iter().position(|f| !f.inlined)?;
        let caller = within.get(physical + 1..).and_then(|outer| {
            let next = outer.first().filter(|f| f.called)?;
            Some(Caller {
                registers: &next.registers,
                pc: next.pc,
                cfa: next.cfa,
                physical: next.physical(),
            })
        });
        Some(Here {
            pc: frame.lookup(),
            cfa: frame.cfa,
            physical: frame.physical(),
            function: frame.function().map(|f| (f.unit, f.die)),
            caller,
        })
    }
}

impl Frame {
    /// The function that holds it, not an inlined one: its unit and entry.
    fn physical(&self) -> Option<(usize, gimli::UnitOffset)> {
        let outermost = self.location.as_ref()?.functions.first()?;
        Some((outermost.unit, outermost.die))
    }
}
