//! ELF and DWARF of files that somebody else made: names, lines, types, variables, unwinding.
#![no_main]

use std::sync::Arc;
use stillframe_symbols::globals::globals;
use stillframe_symbols::{
    Limits, Mapped, Memory, Module, NoFiles, NoRegisters, Program, Registers, Scope, Style,
    Unreadable, expr, locals, stack,
};

struct Nothing;

impl Memory for Nothing {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        out.fill(address as u8);
        Ok(())
    }
}

struct At(u64);

impl Registers for At {
    fn get(&self, dwarf: u16) -> Option<u64> {
        Some(if dwarf == 16 { self.0 } else { 0x1000 })
    }
}

libfuzzer_sys::fuzz_target!(|bytes: &[u8]| {
    let source = Arc::new(bytes.to_vec());
    let Ok(module) = Module::open("fuzz", source, None, Arc::new(NoFiles)) else {
        return;
    };
    let module = Arc::new(module);
    let (start, end) = module.extent();
    let mapped = Mapped {
        start: start & !4095,
        end: end.saturating_add(4095) & !4095,
        offset: 0,
        module: Arc::clone(&module),
    };
    let program = Program::new(vec![mapped]);
    let step = (end.saturating_sub(start) / 8).max(1);
    for n in 0..8 {
        let address = start.saturating_add(n * step);
        let _ = program.locate(address);
        if let Some((_, value)) = program.variable_at(address) {
            let scope = Scope::new(&program, &Nothing, &NoRegisters);
            let _ = value.display(&scope, &Style::short());
        }
        let limits = Limits { frames: 16 };
        let found = stack(&program, &Nothing, &At(address), limits);
        for (level, frame) in found.frames.iter().enumerate() {
            let scope = Scope {
                here: found.here(level),
                ..Scope::new(&program, &Nothing, &frame.registers)
            };
            for local in locals(&scope) {
                let _ = local.value.map(|v| v.display(&scope, &Style::short()));
            }
            let _ = globals(&scope);
        }
    }
    let scope = Scope::new(&program, &Nothing, &NoRegisters);
    for text in ["x", "main", "box.first->next", "sizeof(struct box)", "*list"] {
        if let Ok(text) = expr::parse(text)
            && let Ok(value) = expr::evaluate(&text, &scope)
        {
            let _ = value.display(&scope, &Style::short());
        }
    }
});
