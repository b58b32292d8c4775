//! Evaluates expressions in a running process, one per line of standard input.
//!
//! `cargo run --example evaluate -p stillframe-symbols -- PID`

use std::fs::File;
use std::io::BufRead as _;
use std::os::unix::fs::FileExt as _;
use std::sync::Arc;
use stillframe_symbols::files::OpenFile;
use stillframe_symbols::{
    Files, Mapped, Memory, Module, NoRegisters, Program, Scope, Style, SystemFiles, Unreadable,
    expr,
};

struct Live(File);

impl Memory for Live {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        self.0.read_exact_at(out, address).map_err(|e| Unreadable {
            address,
            reason: e.to_string(),
        })
    }
}

fn main() -> Result<(), Box<dyn std::error::Error>> {
    let pid: u32 = std::env::args().nth(1).ok_or("which process?")?.parse()?;
    let memory = Live(File::open(format!("/proc/{pid}/mem"))?);
    let files: Arc<dyn Files> = Arc::new(SystemFiles::default());
    let mut modules: std::collections::HashMap<String, Arc<Module>> = Default::default();
    let mut mapped = Vec::new();
    for line in std::fs::read_to_string(format!("/proc/{pid}/maps"))?.lines() {
        let mut words = line.split_ascii_whitespace();
        let (Some(range), Some(offset), Some(path)) = (words.next(), words.nth(1), words.nth(2))
        else {
            continue;
        };
        if !path.starts_with('/') {
            continue;
        }
        if !modules.contains_key(path) {
            let Ok(file) = OpenFile::open(path.as_ref()) else {
                continue;
            };
            let Ok(module) = Module::open(path, Arc::new(file), None, Arc::clone(&files)) else {
                continue;
            };
            modules.insert(path.to_owned(), Arc::new(module));
        }
        let (start, end) = range.split_once('-').ok_or("a line of maps")?;
        mapped.push(Mapped {
            start: u64::from_str_radix(start, 16)?,
            end: u64::from_str_radix(end, 16)?,
            offset: u64::from_str_radix(offset, 16)?,
            module: Arc::clone(&modules[path]),
        });
    }
    let program = Program::new(mapped);
    let scope = Scope::new(&program, &memory, &NoRegisters);
    for line in std::io::stdin().lock().lines() {
        let line = line?;
        let answer = match expr::parse(&line) {
            Ok(parsed) => match expr::evaluate(&parsed, &scope) {
                Ok(value) => value.display(&scope, &Style::default()),
                Err(e) => format!("error: {e}\n{}", expr::point(&line, &e.at)),
            },
            Err(e) => format!("syntax: {e}\n{}", expr::point(&line, &e.at)),
        };
        println!("{line}\t{answer}");
    }
    Ok(())
}
