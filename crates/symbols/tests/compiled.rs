//! Programs made by this machine's compiler, in the forms in which debug information comes: DWARF 4
//! and 5, compressed, in separate files found in every place, missing. And damaged.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test that cannot go on fails"
)]

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::Arc;
use stillframe_symbols::files::OpenFile;
use stillframe_symbols::{
    Mapped, Memory, Module, NoFiles, Program, Registers, Source, SystemFiles, Unreadable,
};

const SOURCE: &str = "\
static inline __attribute__((always_inline)) int inner(volatile int *x) {
    return *x * 3;
}
static inline __attribute__((always_inline)) int middle(volatile int *x) {
    return inner(x) + inner(x + 1);
}
__attribute__((noinline)) int outer(volatile int *x) {
    return middle(x) + 1;
}
int shared[2] = {1, 2};
int main(int argc, char **argv) {
    (void)argv;
    return outer(shared) + argc;
}
";

/// Whether a program is there; a test without it says that it was not run.
fn there(program: &str) -> bool {
    let found = Command::new(program).arg("--version").output().is_ok();
    if !found {
        eprintln!("SKIPPED: no {program} on this machine");
    }
    found
}

fn run(program: &str, args: &[&str], dir: &Path) {
    let out = Command::new(program)
        .args(args)
        .current_dir(dir)
        .output()
        .unwrap();
    assert!(
        out.status.success(),
        "{program} {args:?}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
}

/// Compiles the source; `None` if there is no compiler.
fn compile(dir: &Path, options: &[&str]) -> Option<PathBuf> {
    if !there("cc") {
        return None;
    }
    std::fs::write(dir.join("source.c"), SOURCE).unwrap();
    let mut args = vec!["-O2", "source.c", "-o", "program", "-Wl,--build-id"];
    args.extend(options);
    run("cc", &args, dir);
    Some(dir.join("program"))
}

/// The program as it would be mapped, whole, with its addresses moved by `bias`.
fn program_of(module: &Arc<Module>, bias: u64) -> Program {
    let parts = module.file().segments().iter().map(|s| {
        let begin = s.offset & !4095;
        Mapped {
            start: (s.address & !4095).wrapping_add(bias),
            end: (s.address.wrapping_add(s.file).wrapping_add(4095) & !4095).wrapping_add(bias),
            offset: begin,
            module: Arc::clone(module),
        }
    });
    Program::new(parts.filter(|m| m.start < m.end).collect())
}

fn open(path: &Path, files: SystemFiles) -> Arc<Module> {
    let source = Arc::new(OpenFile::open(path).unwrap());
    Arc::new(Module::open(path.to_str().unwrap(), source, None, Arc::new(files)).unwrap())
}

/// Every instruction of `outer` is of `outer`; some are of `inner` in `middle` in it.
fn check_lines(module: &Arc<Module>) {
    let bias = 0x5500_0000_0000;
    let program = program_of(module, bias);
    let symbol = module.symbols().named(b"outer").next().unwrap();
    let (begin, size) = (symbol.address, symbol.size);
    let mut deepest = 0;
    for address in begin..begin + size {
        let found = program.locate(address + bias).unwrap();
        assert_eq!(
            found.symbol.as_ref().unwrap(),
            &("outer".to_owned(), address - begin)
        );
        assert_eq!(found.functions[0].name, "outer", "{address:x}");
        deepest = deepest.max(found.functions.len());
        if let [_, middle, inner] = found.functions.as_slice() {
            assert_eq!(
                (middle.name.as_str(), inner.name.as_str()),
                ("middle", "inner")
            );
            assert_eq!(middle.call.as_ref().unwrap().line, 8);
            assert_eq!(inner.call.as_ref().unwrap().line, 5);
            let place = found.place.as_ref().unwrap();
            assert!(
                place.file.ends_with("/source.c") && place.file.starts_with('/'),
                "{place:?}"
            );
            assert_eq!(place.line, 2);
            assert_eq!(found.place_in(0).unwrap().line, 8);
            assert_eq!(found.place_in(1).unwrap().line, 5);
        }
    }
    assert_eq!(deepest, 3, "{:?}", program.notes());
    assert!(program.notes().is_empty(), "{:?}", program.notes());
}

#[test]
fn lines_and_inlined_calls_in_every_form() {
    for options in [
        &["-gdwarf-4"][..],
        &["-gdwarf-5"],
        &["-g", "-gz=zlib"],
        &["-g", "-gz=zlib-gnu"],
        &["-gdwarf-4", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-gdwarf-5", "-ffunction-sections", "-Wl,--gc-sections"],
        &["-g", "-no-pie"],
        &["-g", "-fdebug-types-section", "-gdwarf-4"],
        &["-g", "-Wl,-z,noseparate-code"],
    ] {
        let dir = tempfile::tempdir().unwrap();
        let Some(path) = compile(dir.path(), options) else {
            return;
        };
        eprintln!("{options:?}");
        check_lines(&open(&path, SystemFiles::default()));
    }
}

#[test]
fn without_aranges_units_are_found_by_their_first_entries() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = compile(dir.path(), &["-g"]) else {
        return;
    };
    if !there("objcopy") {
        return;
    }
    run(
        "objcopy",
        &["--remove-section=.debug_aranges", "program"],
        dir.path(),
    );
    check_lines(&open(&path, SystemFiles::default()));
}

#[test]
fn separate_files_are_found_and_proved() {
    let dir = tempfile::tempdir().unwrap();
    let Some(path) = compile(dir.path(), &["-g"]) else {
        return;
    };
    if !there("objcopy") || !there("strip") {
        return;
    }
    let at = |name: &str| dir.path().join(name);
    run(
        "objcopy",
        &["--only-keep-debug", "program", "program.dbg"],
        dir.path(),
    );
    run("strip", &["-s", "program"], dir.path());
    run(
        "objcopy",
        &["--add-gnu-debuglink=program.dbg", "program"],
        dir.path(),
    );

    // Beside it.
    check_lines(&open(&path, SystemFiles::default()));

    // In .debug beside it.
    std::fs::create_dir(at(".debug")).unwrap();
    std::fs::rename(at("program.dbg"), at(".debug/program.dbg")).unwrap();
    check_lines(&open(&path, SystemFiles::default()));

    // By build-id.
    let id = open(&path, SystemFiles::default())
        .build_id()
        .unwrap()
        .to_vec();
    let hex: String = id.iter().map(|b| format!("{b:02x}")).collect();
    let place = at("debug").join(".build-id").join(&hex[..2]);
    std::fs::create_dir_all(&place).unwrap();
    let file = place.join(format!("{}.debug", &hex[2..]));
    std::fs::rename(at(".debug/program.dbg"), &file).unwrap();
    check_lines(&open(&path, SystemFiles::new([at("debug")])));

    // Nowhere: symbols are gone too, and it is said.
    let bare = open(&path, SystemFiles::default());
    assert!(bare.info().is_none());
    assert!(
        bare.notes()[0].contains("no debug information"),
        "{:?}",
        bare.notes()
    );

    // Another program's: refused, and it is said.
    std::fs::write(at("source.c"), SOURCE.replace("* 3", "* 5")).unwrap();
    run(
        "cc",
        &["-O2", "-g", "source.c", "-o", "other", "-Wl,--build-id"],
        dir.path(),
    );
    std::fs::copy(at("other"), &file).unwrap();
    let wrong = open(&path, SystemFiles::new([at("debug")]));
    assert!(wrong.info().is_none());
    assert!(
        wrong.notes().iter().any(|n| n.contains("its build-id is")),
        "{:?}",
        wrong.notes()
    );
}

/// Memory of any address: what is there follows from the address.
struct Noise;

impl Memory for Noise {
    fn read(&self, address: u64, out: &mut [u8]) -> Result<(), Unreadable> {
        for (at, byte) in (address..).zip(out) {
            *byte = (at.wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 56) as u8;
        }
        Ok(())
    }
}

struct Fixed(u64);

impl Registers for Fixed {
    fn get(&self, dwarf: u16) -> Option<u64> {
        match dwarf {
            16 => Some(self.0),
            0..16 => Some(0x7ffc_0000_0000 + u64::from(dwarf) * 8),
            _ => None,
        }
    }
}

/// Asks everything of a module, whatever it is.
fn exercise(bytes: Vec<u8>) {
    let source: Arc<dyn Source> = Arc::new(bytes);
    let Ok(module) = Module::open("/damaged", source, None, Arc::new(NoFiles)) else {
        return;
    };
    let module = Arc::new(module);
    let program = program_of(&module, 0x1000_0000);
    let _ = module.symbols().named(b"outer").count();
    if let Some(info) = module.info() {
        for (_, unit) in info.units().take(100) {
            let mut entries = unit.entries();
            for _ in 0..200 {
                if !matches!(entries.next_dfs(), Ok(Some(_))) {
                    break;
                }
            }
        }
    }
    let (begin, end) = module.extent();
    let step = ((end.wrapping_sub(begin)) / 40).max(1);
    for n in 0..40 {
        let address = begin
            .wrapping_add(0x1000_0000)
            .wrapping_add(step.wrapping_mul(n));
        let _ = program.locate(address);
        let stack = stillframe_symbols::stack(
            &program,
            &Noise,
            &Fixed(address),
            stillframe_symbols::Limits { frames: 50 },
        );
        assert!(!stack.frames.is_empty());
    }
    let _ = program.notes();
}

#[test]
fn damaged_files_are_survived() {
    let dir = tempfile::tempdir().unwrap();
    for options in [&["-gdwarf-5"][..], &["-gdwarf-4"], &["-g", "-gz=zlib"]] {
        let Some(path) = compile(dir.path(), options) else {
            return;
        };
        let whole = std::fs::read(path).unwrap();
        exercise(whole.clone());
        let mut state = 0x2545_f491_4f6c_dd1du64;
        let mut random = |below: usize| {
            state ^= state << 13;
            state ^= state >> 7;
            state ^= state << 17;
            (state % below.max(1) as u64) as usize
        };
        for round in 0..300 {
            let mut bytes = whole.clone();
            // A few bytes anywhere, or many in one place, with values that lengths and offsets
            // find hardest.
            let count = 1 + random(12);
            let around = random(bytes.len());
            for _ in 0..count {
                let at = match round % 3 {
                    0 => random(bytes.len()),
                    1 => (around + random(64)).min(bytes.len() - 1),
                    // The table of sections, at the end.
                    _ => bytes.len() - 1 - random(4096.min(bytes.len())),
                };
                bytes[at] = match random(4) {
                    0 => 0xff,
                    1 => 0x7f,
                    2 => 0,
                    _ => random(256) as u8,
                };
            }
            if round % 10 == 0 {
                let length = random(bytes.len());
                bytes.truncate(length);
            }
            exercise(bytes);
        }
    }
}
