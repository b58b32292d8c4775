//! `still inproc audit`: what of a program is not covered.
//!
//! Three things write where nobody looks: functions that were not instrumented (an object or an
//! archive compiled without `still cc`), libraries that were not, and functions of the C library
//! that write memory and are not interposed. Each is found in the file itself: functions by looking
//! for stores without a check beside them, libraries by whether they ask for a hook, imports by name.

use crate::Error;
use crate::args::AuditArgs;
use crate::compiler::Granule;
use crate::embed::Files;
use iced_x86::{
    Code, Decoder, DecoderOptions, FlowControl, InstructionInfoFactory, OpAccess, Register,
};
use object::{Object as _, ObjectSection as _, ObjectSymbol as _, SymbolKind};
use std::collections::{BTreeMap, BTreeSet};
use std::path::{Path, PathBuf};

/// What was found.
#[derive(Clone, Debug, Default, PartialEq, Eq, serde::Serialize)]
pub struct Report {
    /// The runtime is linked in.
    pub runtime: bool,
    /// Granules of 8 bytes.
    pub threads: Option<bool>,
    /// Functions with a check, or a call of a hook.
    pub instrumented: usize,
    /// Functions that store and have neither, by the file they were compiled from where it is known.
    pub uninstrumented: BTreeMap<String, Vec<String>>,
    /// Libraries that call no hook.
    pub libraries: Vec<String>,
    /// Functions of the C library that write memory of the program unseen.
    pub imports: Vec<String>,
    /// Why functions were not looked at.
    pub unknown: Option<String>,
}

/// Functions of glibc that write memory of their caller and that the runtime does not interpose.
const WRITERS: &[&str] = &[
    "scanf",
    "fscanf",
    "vscanf",
    "vfscanf",
    "vsscanf",
    "__isoc99_scanf",
    "__isoc99_fscanf",
    "__isoc99_vsscanf",
    "getaddrinfo",
    "gethostbyname_r",
    "getpwnam_r",
    "getpwuid_r",
    "getgrnam_r",
    "getgrgid_r",
    "readdir_r",
    "ftw",
    "glob",
    "wordexp",
    "regcomp",
    "hsearch_r",
    "tsearch",
    "tdelete",
    "lfind",
    "qsort_s",
    "getitimer",
    "setitimer",
    "timer_create",
    "timer_gettime",
    "sched_getaffinity",
    "sched_getparam",
    "pthread_getattr_np",
    "process_vm_readv",
    "mincore",
    "getgroups",
    "getresuid",
    "msgrcv",
    "shmctl",
    "semctl",
    "mq_receive",
    "aio_read",
    "io_uring_enter",
    "syscall",
    "swprintf",
    "vswprintf",
    "mbsrtowcs",
    "wcsrtombs",
    "strfromd",
    "ecvt_r",
    "fcvt_r",
    "crypt_r",
    "getopt_long",
    "memfrob",
    "fgetws",
    "getwline",
    "obstack_printf",
    "argz_add",
    "envz_add",
    "getdents",
    "signalfd_read",
    "mremap",
    "brk",
    "sbrk",
    "dlmopen",
    "swapcontext",
    "getcontext",
    "makecontext",
    "vfork",
];

/// Libraries whose writes are the runtime's business by name.
const KNOWN: &[&str] = &[
    "libc.so",
    "libm.so",
    "libdl.so",
    "libpthread.so",
    "librt.so",
    "ld-linux",
    "libgcc_s.so",
    "libstdc++.so",
    "libatomic.so",
];

/// Runs it. The exit status is 1 if anything is not covered.
///
/// # Errors
/// If the file cannot be read, or is no program for x86-64.
pub fn run(args: &AuditArgs) -> Result<u8, Error> {
    let report = audit(&args.binary)?;
    if args.json {
        println!(
            "{}",
            serde_json::to_string_pretty(&report).unwrap_or_default()
        );
    } else {
        tell(&args.binary, &report);
    }
    let clean = report.runtime
        && report.uninstrumented.is_empty()
        && report.libraries.is_empty()
        && report.imports.is_empty();
    Ok(u8::from(!clean))
}

fn tell(path: &Path, r: &Report) {
    let granule = match r.threads {
        Some(true) => ", granules of 8 bytes",
        Some(false) => ", granules of 64 bytes",
        None => "",
    };
    match r.runtime {
        true => println!("{}: the runtime is linked in{granule}", path.display()),
        false => println!(
            "{}: no runtime: it was not linked with still cc",
            path.display()
        ),
    }
    match &r.unknown {
        Some(why) => println!("functions: not looked at: {why}"),
        None => println!("functions with checks: {}", r.instrumented),
    }
    for (file, functions) in &r.uninstrumented {
        let shown = functions
            .iter()
            .take(8)
            .cloned()
            .collect::<Vec<_>>()
            .join(", ");
        let more = functions.len().saturating_sub(8);
        let more = if more > 0 {
            format!(" and {more} more")
        } else {
            String::new()
        };
        println!("stores without checks in {file}: {shown}{more}");
    }
    for library in &r.libraries {
        println!("not instrumented: {library}: what it writes itself is not undone");
    }
    for import in &r.imports {
        println!(
            "not interposed: {import}: what it writes is not undone (call still_range before it)"
        );
    }
}

/// Looks at a program.
///
/// # Errors
/// As [`run`].
pub fn audit(path: &Path) -> Result<Report, Error> {
    let data = std::fs::read(path).map_err(Error::io("reading", path))?;
    let fail = |why: String| Error::Binary {
        path: path.into(),
        why,
    };
    let file = object::File::parse(&*data).map_err(|e| fail(format!("no program: {e}")))?;
    if file.architecture() != object::Architecture::X86_64
        || file.format() != object::BinaryFormat::Elf
    {
        return Err(fail("not a program for x86-64 Linux".into()));
    }
    let mut report = Report::default();
    let defined = |name: &str| {
        file.symbols()
            .chain(file.dynamic_symbols())
            .any(|s| s.is_definition() && s.name() == Ok(name))
    };
    report.runtime = defined("still_inproc_checkpoint_at");
    report.threads = report.runtime.then(|| !defined("__still_line"));
    let interposed = interposed()?;
    functions(&file, &interposed, &mut report);
    for symbol in file.dynamic_symbols().filter(|s| s.is_undefined()) {
        let name = symbol.name().unwrap_or_default();
        if WRITERS.contains(&name) && !interposed.contains(name) {
            report.imports.push(name.to_owned());
        }
    }
    for library in needed(&data).map_err(fail)? {
        if !KNOWN.iter().any(|k| library.starts_with(k)) && !instrumented_library(&library, path) {
            report.libraries.push(library);
        }
    }
    Ok(report)
}

/// What the runtime interposes: its weak functions.
fn interposed() -> Result<BTreeSet<String>, Error> {
    let path = Files::open()?.runtime(Granule::Line);
    let data = std::fs::read(&path).map_err(Error::io("reading", &path))?;
    let file = object::File::parse(&*data).map_err(|e| Error::Binary {
        path: path.clone(),
        why: e.to_string(),
    })?;
    Ok(file
        .symbols()
        .filter(|s| s.is_weak() && s.is_definition())
        .filter_map(|s| s.name().ok().map(str::to_owned))
        .collect())
}

fn is_hook(name: &str) -> bool {
    (name.starts_with("__asan_") && (name.contains("store") || name.contains("mem")))
        || name.starts_with("__tsan_")
        || name.starts_with("__still_")
        || name == "still_inproc_range"
}

/// Whether the code is the runtime's or the start files'.
fn is_ours(name: &str) -> bool {
    name.starts_with("__still_")
        || name.starts_with("still_inproc_")
        || name.starts_with("__asan_")
        || name.starts_with("__tsan_")
        || name.contains("still_inproc")
        || name.contains("stillframe_inproc")
        || [
            "_start",
            "_init",
            "_fini",
            "frame_dummy",
            "register_tm_clones",
            "deregister_tm_clones",
            "__do_global_dtors_aux",
            "_dl_relocate_static_pie",
        ]
        .contains(&name)
}

/// Finds functions that store and never check.
fn functions(file: &object::File<'_>, interposed: &BTreeSet<String>, report: &mut Report) {
    let mut hooks = BTreeSet::new();
    let mut all = Vec::new();
    let mut source = String::from("an unnamed file");
    let mut runtime_file = None;
    for symbol in file.symbols() {
        let name = symbol.name().unwrap_or_default();
        match symbol.kind() {
            SymbolKind::File => {
                source = if name.is_empty() {
                    "an unnamed file".to_owned()
                } else {
                    name.to_owned()
                };
            }
            SymbolKind::Text if symbol.is_definition() && symbol.size() > 0 => {
                if name.contains("still_inproc") && symbol.is_local() {
                    runtime_file = Some(source.clone());
                }
                if is_hook(name) {
                    hooks.insert(symbol.address());
                }
                let file = if symbol.is_local() {
                    source.clone()
                } else {
                    String::from("global functions")
                };
                if !is_ours(name) && !interposed.contains(name) {
                    all.push((symbol.address(), symbol.size(), name.to_owned(), file));
                }
            }
            // Assembly gives its entry points no size.
            _ if is_hook(name) && symbol.is_definition() => {
                hooks.insert(symbol.address());
            }
            _ => {}
        }
    }
    if all.is_empty() {
        report.unknown = Some("it has no symbols (stripped)".to_owned());
        return;
    }
    let plt = plt(file);
    all.sort();
    all.dedup_by_key(|f| f.0);
    for (address, size, name, source) in all {
        if Some(&source) == runtime_file.as_ref() {
            continue;
        }
        let Some(bytes) = code(file, address, size) else {
            continue;
        };
        match look(bytes, address, &hooks, &plt) {
            Look::Checked => report.instrumented += 1,
            Look::Stores => report.uninstrumented.entry(source).or_default().push(name),
            Look::Nothing => {}
        }
    }
}

fn code<'a>(file: &object::File<'a>, address: u64, size: u64) -> Option<&'a [u8]> {
    file.sections()
        .find_map(|s| s.data_range(address, size).ok().flatten())
}

/// Stubs through which a library's program calls hooks, by address.
fn plt(file: &object::File<'_>) -> BTreeSet<u64> {
    let mut slots = BTreeSet::new();
    if let Some(relocations) = file.dynamic_relocations() {
        for (offset, relocation) in relocations {
            if let object::RelocationTarget::Symbol(index) = relocation.target()
                && let Some(table) = file.dynamic_symbol_table()
                && let Ok(symbol) = object::ObjectSymbolTable::symbol_by_index(&table, index)
                && symbol.name().is_ok_and(is_hook)
            {
                slots.insert(offset);
            }
        }
    }
    slots
}

enum Look {
    Checked,
    Stores,
    Nothing,
}

/// The tags' address, as compiled-in checks hold it.
const SHADOW: u64 = 0x7fff_8000;

fn look(bytes: &[u8], address: u64, hooks: &BTreeSet<u64>, slots: &BTreeSet<u64>) -> Look {
    let mut stores = false;
    let mut info = InstructionInfoFactory::new();
    for i in Decoder::with_ip(64, bytes, address, DecoderOptions::NONE).iter() {
        if i.code() == Code::INVALID {
            continue;
        }
        let shadow = i.memory_displacement64() == SHADOW
            || (i.is_ip_rel_memory_operand() && slots.contains(&i.ip_rel_memory_address()));
        let calls = matches!(
            i.flow_control(),
            FlowControl::Call | FlowControl::UnconditionalBranch
        ) && hooks.contains(&i.near_branch_target());
        if shadow
            || calls
            || (0..i.op_count())
                .any(|n| i.op_kind(n) == iced_x86::OpKind::Immediate64 && i.immediate64() == SHADOW)
        {
            return Look::Checked;
        }
        if stores || i.mnemonic() == iced_x86::Mnemonic::Nop {
            continue;
        }
        for memory in info.info(&i).used_memory() {
            let writes = matches!(
                memory.access(),
                OpAccess::Write
                    | OpAccess::ReadWrite
                    | OpAccess::ReadCondWrite
                    | OpAccess::CondWrite
            );
            let local = matches!(memory.base(), Register::RSP | Register::RBP)
                && memory.index() == Register::None;
            if writes && !local {
                stores = true;
            }
        }
    }
    if stores { Look::Stores } else { Look::Nothing }
}

/// The libraries a program asks for.
fn needed(data: &[u8]) -> Result<Vec<String>, String> {
    use object::read::elf::{Dyn as _, FileHeader as _};
    let header =
        object::elf::FileHeader64::<object::Endianness>::parse(data).map_err(|e| e.to_string())?;
    let endian = header.endian().map_err(|e| e.to_string())?;
    let sections = header.sections(endian, data).map_err(|e| e.to_string())?;
    let Some((entries, link)) = sections.dynamic(endian, data).map_err(|e| e.to_string())? else {
        return Ok(Vec::new());
    };
    let strings = sections
        .strings(endian, data, link)
        .map_err(|e| e.to_string())?;
    Ok(entries
        .iter()
        .filter(|d| d.tag(endian) == object::elf::DT_NEEDED)
        .filter_map(|d| d.string(endian, strings).ok())
        .map(|s| String::from_utf8_lossy(s).into_owned())
        .collect())
}

/// Whether a library, where it is found, asks for hooks.
fn instrumented_library(name: &str, program: &Path) -> bool {
    let mut places: Vec<PathBuf> = program
        .parent()
        .map(Path::to_path_buf)
        .into_iter()
        .collect();
    if let Some(paths) = std::env::var_os("LD_LIBRARY_PATH") {
        places.extend(std::env::split_paths(&paths));
    }
    places.extend(
        [
            "/lib/x86_64-linux-gnu",
            "/usr/lib/x86_64-linux-gnu",
            "/lib64",
            "/usr/lib64",
            "/usr/lib",
            "/usr/local/lib",
        ]
        .map(PathBuf::from),
    );
    let Some(data) = places.iter().find_map(|p| std::fs::read(p.join(name)).ok()) else {
        return false;
    };
    object::File::parse(&*data).is_ok_and(|f| {
        f.dynamic_symbols()
            .any(|s| s.is_undefined() && s.name().is_ok_and(is_hook))
    })
}
