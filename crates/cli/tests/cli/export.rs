//! export --core, byte by byte.

use super::synthetic::{self, DATA, DEVICE, HEAP, RESERVED, SPARSE, SPARSE_PAGE, Synthetic, TEXT};
use super::{Ran, still};
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, ProgramHeader as _};
use serde_json::Value;
use std::fs::{self, File};
use std::os::unix::fs::{FileExt as _, MetadataExt as _};
use std::path::{Path, PathBuf};

const PAGE: u64 = 4096;

fn export(made: &Synthetic, moment: &str, to: &Path, more: &[&str]) -> Ran {
    let moment = made.at(moment);
    let mut arguments = vec!["export", "--core", &moment, "-o", to.to_str().unwrap()];
    arguments.extend(more);
    still(&arguments)
}

/// A PT_LOAD segment.
#[derive(Clone, Copy, Debug)]
struct Load {
    start: u64,
    size: u64,
    offset: u64,
    filled: u64,
}

fn loads(core: &Path) -> (Vec<Load>, File) {
    let file = File::open(core).unwrap();
    let mut head = vec![0; 1 << 16];
    let read = file.read_at(&mut head, 0).unwrap();
    head.truncate(read);
    let data = head.as_slice();
    let header = FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    let loads = header
        .program_headers(endian, data)
        .unwrap()
        .iter()
        .filter(|s| s.p_type(endian) == object::elf::PT_LOAD)
        .map(|s| Load {
            start: s.p_vaddr(endian),
            size: s.p_memsz(endian),
            offset: s.p_offset(endian),
            filled: s.p_filesz(endian),
        })
        .collect();
    (loads, file)
}

/// The bytes of a page as a debugger finds them; `None` if the core has none.
fn page(loads: &[Load], file: &File, address: u64) -> Option<[u8; 4096]> {
    let load = loads
        .iter()
        .find(|l| (l.start..l.start + l.size).contains(&address))
        .unwrap();
    let within = address - load.start;
    (within < load.filled).then(|| {
        let mut bytes = [0; 4096];
        file.read_exact_at(&mut bytes, load.offset + within)
            .unwrap();
        bytes
    })
}

fn core_in(made: &Synthetic) -> PathBuf {
    made.dir.path().join("at.core")
}

#[test]
fn the_core_holds_the_memory_of_its_moment() {
    let made = synthetic::make(true);
    for n in [0, 2, 4] {
        let core = core_in(&made);
        export(&made, &n.to_string(), &core, &["--force"]).ok();
        let (loads, file) = loads(&core);
        assert_eq!(page(&loads, &file, HEAP), Some(synthetic::heap_page(n)));
        assert_eq!(page(&loads, &file, HEAP + PAGE), Some([0; 4096]));
        assert_eq!(page(&loads, &file, SPARSE_PAGE), Some([0x5a; 4096]));
        assert_eq!(page(&loads, &file, DATA), Some([0xda; 4096]));
        let mut text = [0; 4096];
        text.copy_from_slice(&made.program_bytes[..4096]);
        assert_eq!(page(&loads, &file, TEXT), Some(text));
        // The second page of the data is the file's, what lies beyond the file is nothing.
        text.copy_from_slice(&made.program_bytes[4096..8192]);
        assert_eq!(page(&loads, &file, DATA + PAGE), Some(text));
        let beyond = DATA + (made.program_bytes.len() as u64).next_multiple_of(PAGE);
        assert_eq!(page(&loads, &file, beyond), None);
        assert_eq!(page(&loads, &file, RESERVED), None);
        assert_eq!(page(&loads, &file, DEVICE), None);
        assert_eq!(page(&loads, &file, SPARSE), None);
    }
}

#[test]
fn size_follows_content() {
    let made = synthetic::make(true);
    let core = core_in(&made);
    export(&made, "last", &core, &[]).ok();
    let metadata = fs::metadata(&core).unwrap();
    // A terabyte is reserved and 64 GiB are mapped; neither shows.
    assert!(metadata.len() < 1 << 20, "{}", metadata.len());
    let disk = metadata.blocks() * 512;
    let content = 2 * made.program_bytes.len() as u64 + (32 << 10);
    assert!(disk <= content, "{disk} on disk, {content} of content");
}

#[test]
fn an_output_is_not_overwritten() {
    let made = synthetic::make(true);
    let core = core_in(&made);
    fs::write(&core, "mine").unwrap();
    let line = export(&made, "0", &core, &[]).refused(6);
    assert!(line.contains("--force"), "{line}");
    assert_eq!(fs::read(&core).unwrap(), b"mine");
    export(&made, "0", &core, &["--force"]).ok();
    assert_eq!(fs::read(&core).unwrap()[..4], *b"\x7fELF");
    export(&made, "0", made.dir.path(), &["--force"]).refused(6);
    let left: Vec<_> = fs::read_dir(made.dir.path())
        .unwrap()
        .map(|e| e.unwrap().file_name().into_string().unwrap())
        .filter(|name| name.contains("partial"))
        .collect();
    assert!(left.is_empty(), "{left:?}");
}

#[test]
fn a_directory_that_is_not_there() {
    let made = synthetic::make(true);
    let core = made.dir.path().join("no/such/dir/core");
    export(&made, "0", &core, &[]).refused(7);
}

#[test]
fn the_command_to_open_it_is_printed() {
    let made = synthetic::make(true);
    let core = core_in(&made);
    let text = export(&made, "1", &core, &[]).ok();
    let expected = format!(
        "open it with: gdb {} {}",
        made.program.display(),
        core.display()
    );
    assert!(text.contains(&expected), "{text}");

    // The program is gone from the machine, not from the recording.
    fs::remove_file(&made.program).unwrap();
    let text = export(&made, "1", &core, &["--force"]).ok();
    assert!(
        text.contains("note: the executable is only in the recording"),
        "{text}"
    );
    assert!(text.contains("gdb -c "), "{text}");
    let text = export(&made, "1", &core, &["--force", "--with-exe", "--json"]).ok();
    let json: Value = serde_json::from_str(&text).unwrap();
    let exe = json["executable"].as_str().unwrap();
    assert_eq!(exe, format!("{}.exe", core.display()));
    assert_eq!(fs::read(exe).unwrap(), made.program_bytes);
    assert_eq!(json["checkpoint"], 1);
    export(&made, "1", &made.dir.path().join("at"), &["--with-exe"]).ok();
    export(&made, "1", &made.dir.path().join("at2"), &[]).ok();
    fs::write(made.dir.path().join("at3.exe"), "mine").unwrap();
    export(&made, "1", &made.dir.path().join("at3"), &["--with-exe"]).refused(6);
}

#[test]
fn what_is_missing_is_missing_and_not_zero() {
    let made = synthetic::make(false);
    fs::write(&made.program, "something else").unwrap();
    let core = core_in(&made);
    let text = export(&made, "2", &core, &[]).ok();
    assert!(
        text.contains("neither in the recording nor unchanged"),
        "{text}"
    );
    let (loads, file) = loads(&core);
    assert_eq!(page(&loads, &file, TEXT), None);
    assert_eq!(page(&loads, &file, DATA), Some([0xda; 4096]));
    assert_eq!(page(&loads, &file, DATA + PAGE), None);
    assert_eq!(page(&loads, &file, HEAP), Some(synthetic::heap_page(2)));
    export(&made, "2", &made.dir.path().join("x"), &["--with-exe"]).refused(4);
}

#[test]
fn the_thread_that_crashed_comes_first() {
    let made = synthetic::make(true);
    let core = core_in(&made);
    export(&made, "crash", &core, &[]).ok();
    let bytes = fs::read(&core).unwrap();
    let data = bytes.as_slice();
    let header = FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    let notes = &header.program_headers(endian, data).unwrap()[0];
    let first = notes
        .notes(endian, data)
        .unwrap()
        .unwrap()
        .next()
        .unwrap()
        .unwrap();
    assert_eq!(first.desc()[32..36], 4243u32.to_le_bytes());
    assert_eq!(first.desc()[12..14], 11u16.to_le_bytes());
}
