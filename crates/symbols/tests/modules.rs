//! Modules of this machine: our own executable, the C library, and files made for the purpose.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    reason = "a test that cannot go on fails"
)]

use std::path::Path;
use std::sync::Arc;
use stillframe_symbols::files::OpenFile;
use stillframe_symbols::{Mapped, Module, ModuleError, NoFiles, Program, SystemFiles};

fn open(path: &Path) -> Arc<Module> {
    let source = Arc::new(OpenFile::open(path).unwrap());
    let files = Arc::new(SystemFiles::default());
    Arc::new(Module::open(path.to_str().unwrap(), source, None, files).unwrap())
}

#[inline(never)]
fn a_function_to_be_found() {}

#[test]
fn our_own_executable_has_functions_and_units() {
    let exe = open(&std::env::current_exe().unwrap());
    let symbol = exe
        .symbols()
        .iter()
        .find(|s| stillframe_symbols::demangle(s.name).ends_with("a_function_to_be_found"))
        .expect("a function of the test");
    let found = exe.symbol_at(symbol.address).unwrap();
    assert_eq!(found.address, symbol.address);
    let info = exe.info().expect("tests are built with debug information");
    assert!(info.unit_count() > 1 && info.units().count() == info.unit_count());
    a_function_to_be_found();
}

#[test]
fn another_build_is_refused() {
    let path = std::env::current_exe().unwrap();
    let source = Arc::new(OpenFile::open(&path).unwrap());
    let error = Module::open("exe", source, Some(&[1, 2, 3]), Arc::new(NoFiles)).unwrap_err();
    assert!(matches!(error, ModuleError::Mismatch { .. }));
    assert!(error.to_string().contains("010203"), "{error}");
}

#[test]
fn mappings_of_this_process_give_addresses() {
    // Our own mappings, as a recording would have them.
    let maps = std::fs::read_to_string("/proc/self/maps").unwrap();
    let mut modules: Vec<(String, Arc<Module>)> = Vec::new();
    let mut mapped = Vec::new();
    for line in maps.lines() {
        let words: Vec<&str> = line.split_whitespace().collect();
        let Some(path) = words.get(5).filter(|p| p.starts_with('/')) else {
            continue;
        };
        let (start, end) = words[0].split_once('-').unwrap();
        let number = |text| u64::from_str_radix(text, 16).unwrap();
        let known = modules
            .iter()
            .find(|(p, _)| p == path)
            .map(|m| Arc::clone(&m.1));
        let module = known.unwrap_or_else(|| {
            let module = open(Path::new(path));
            modules.push(((*path).to_owned(), Arc::clone(&module)));
            module
        });
        mapped.push(Mapped {
            start: number(start),
            end: number(end),
            offset: number(words[2]),
            module,
        });
    }
    let program = Program::new(mapped);
    assert!(program.modules().len() >= 2);
    let here = a_function_to_be_found as fn() as usize as u64;
    let (module, bias) = program.module_at(here).unwrap();
    let symbol = module.symbol_at(here.wrapping_sub(bias)).unwrap();
    assert!(stillframe_symbols::demangle(symbol.name).contains("a_function_to_be_found"));
    assert!(program.module_at(16).is_none());
    // Every module was found at one place only.
    for (path, module) in &modules {
        let places = program
            .modules()
            .iter()
            .filter(|l| Arc::ptr_eq(&l.module, module));
        assert_eq!(places.count(), 1, "{path}");
    }
}
