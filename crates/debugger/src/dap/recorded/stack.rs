//! Stacks of threads.

use super::super::debuggee::{Failure, FrameId, FrameInfo, Place};
use super::Recorded;
use std::collections::BTreeSet;
use std::sync::Arc;
use stillframe_symbols::unwind::{self, Frame, Limits};
use stillframe_symbols::{Program, demangle};

/// Frames are found in steps of this many more, so that whoever looks at few of a deep stack does not
/// wait for all.
const STEP: usize = 64;

/// A thread's frames, or the first of them.
#[derive(Debug)]
pub(super) struct Stack {
    frames: unwind::Stack,
    shown: Vec<FrameInfo>,
}

impl Stack {
    pub(super) fn shown(&self, limit: usize) -> Vec<FrameInfo> {
        self.shown.iter().take(limit).cloned().collect()
    }

    /// All of it.
    pub(super) const fn frames(&self) -> &unwind::Stack {
        &self.frames
    }

    /// A frame by its level.
    pub(super) fn frame(&self, level: usize) -> Option<&Frame> {
        self.frames.frames.get(level)
    }
}

impl Recorded<'_> {
    /// A thread's frames, at least `limit` of them if there are as many.
    pub(super) fn stack(&mut self, tid: u32, limit: usize) -> Result<Arc<Stack>, Failure> {
        if let Some(stack) = self.frames.get(&tid)
            && (stack.shown.len() >= limit || !matches!(stack.frames.end, unwind::End::Limit))
        {
            return Ok(Arc::clone(stack));
        }
        let limit = limit.div_ceil(STEP).saturating_mul(STEP).max(STEP);
        let registers = self.view.registers(tid).map_err(Failure::told)?;
        let registers = registers
            .ok_or_else(|| Failure::told(format!("there is no thread {tid} at this checkpoint")))?;
        let program = Arc::clone(self.view.program());
        let limits = Limits { frames: limit };
        let frames = unwind::stack(&program, self.view.memory(), &registers, limits);
        let shown = frames.frames.iter().map(|f| info(&program, f)).collect();
        let stack = Arc::new(Stack { frames, shown });
        self.frames.insert(tid, Arc::clone(&stack));
        Ok(stack)
    }

    /// The stack that holds a frame.
    pub(super) fn stack_of(&mut self, frame: FrameId) -> Result<Arc<Stack>, Failure> {
        let stack = self.stack(frame.tid, frame.level.saturating_add(1))?;
        match stack.frame(frame.level) {
            Some(_) => Ok(stack),
            None => Err(Failure::told(format!(
                "thread {} has no frame {}",
                frame.tid, frame.level
            ))),
        }
    }

    /// Names of all functions, from symbol tables.
    pub(super) fn function_names(&mut self) -> Arc<BTreeSet<String>> {
        if let Some(names) = &self.functions {
            return Arc::clone(names);
        }
        let mut names = BTreeSet::new();
        for loaded in self.view.program().modules() {
            for symbol in loaded.module.symbols().iter() {
                names.insert(demangle(symbol.name));
            }
        }
        let names = Arc::new(names);
        self.functions = Some(Arc::clone(&names));
        names
    }
}

/// A frame for people.
fn info(program: &Program, frame: &Frame) -> FrameInfo {
    let name = match frame.name() {
        Some(name) => name.to_owned(),
        None if frame.signal => "<signal handler called>".to_owned(),
        None => format!("{:#x}", frame.pc),
    };
    let module = program.module_at(frame.lookup());
    FrameInfo {
        name,
        pc: frame.pc,
        cfa: frame.cfa,
        inlined: frame.inlined,
        place: frame.place().map(|p| Place {
            path: p.file.clone(),
            line: p.line,
            column: p.column,
        }),
        module: module.map(|(module, bias)| module.extent().0.wrapping_add(bias)),
    }
}

/// The symbol that holds an address: its name, and where it begins.
pub(super) fn symbol(program: &Program, address: u64) -> Option<(String, u64)> {
    let (module, bias) = program.module_at(address)?;
    let symbol = module.symbol_at(address.wrapping_sub(bias))?;
    Some((demangle(symbol.name), symbol.address.wrapping_add(bias)))
}
