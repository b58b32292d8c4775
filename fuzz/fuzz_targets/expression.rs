//! Expressions of people and of the network: whatever is typed is understood or refused, and what is
//! understood has a value or none.
#![no_main]

use stillframe_symbols::{Memory, NoRegisters, Program, Scope, Style, Unreadable, expr};

/// Memory that holds something everywhere, so that pointers lead on.
struct Everywhere;

impl Memory for Everywhere {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        for (i, byte) in out.iter_mut().enumerate() {
            *byte = (address.wrapping_add(i as u64) % 251) as u8;
        }
        Ok(())
    }
}

libfuzzer_sys::fuzz_target!(|text: &str| {
    let Ok(understood) = expr::parse(text) else {
        return;
    };
    let program = Program::default();
    let scope = Scope::new(&program, &Everywhere, &NoRegisters);
    match expr::evaluate(&understood, &scope) {
        Ok(value) => drop(value.display(&scope, &Style::short())),
        Err(error) => drop(expr::point(text, &error.at)),
    }
});
