//! Mapped files of our own: the executable, deleted ones, replaced ones, hostile ones.
#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

use super::*;
use crate::proc::maps::Maps;
use std::io::Write;
use std::os::unix::fs::MetadataExt;

fn entry_for(file: &File, name: &[u8]) -> MapsEntry {
    let m = file.metadata().unwrap();
    MapsEntry {
        start: 0x1000,
        end: 0x2000,
        device: (rustix::fs::major(m.dev()), rustix::fs::minor(m.dev())),
        inode: m.ino(),
        name: name.to_vec(),
        ..MapsEntry::default()
    }
}

#[test]
fn the_own_executable_is_identified() {
    let pid = std::process::id();
    let maps = Maps::open(pid).unwrap();
    let here = the_own_executable_is_identified as fn() as usize as u64;
    let found = identify(pid, maps.at(here).unwrap()).unwrap().unwrap();
    let path = std::env::current_exe().unwrap();
    let m = std::fs::metadata(&path).unwrap();
    let id = found.identity;
    assert_eq!(id.path, path.as_os_str().as_encoded_bytes());
    assert_eq!((id.inode, id.size, id.deleted), (m.ino(), m.size(), false));
    assert_eq!(id.modified_ns, m.mtime() * 1_000_000_000 + m.mtime_nsec());
    assert!(matches!(found.way, Way::MapFiles | Way::Path));
    // libc has a build-id on every distribution; that of the linker's output depends on its flags.
    let libc = maps
        .entries()
        .iter()
        .find(|e| e.name.ends_with(b"/libc.so.6"))
        .unwrap();
    let id = identify(pid, libc)
        .unwrap()
        .unwrap()
        .identity
        .build_id
        .unwrap();
    assert_eq!(id.len(), 20);
    assert!(
        identify(pid, &MapsEntry::default()).unwrap().is_none(),
        "anonymous memory"
    );
}

#[test]
fn names_that_end_like_deleted_ones_are_taken_apart() {
    let pid = std::process::id();
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("x (deleted)");
    let file = File::create(&path).unwrap();
    let name = path.as_os_str().as_encoded_bytes();
    let id = identify(pid, &entry_for(&file, name))
        .unwrap()
        .unwrap()
        .identity;
    assert_eq!(
        (&id.path[..], id.deleted),
        (name, false),
        "really called so"
    );

    std::fs::remove_file(&path).unwrap();
    let kernel = [name, b" (deleted)"].concat();
    let found = identify(pid, &entry_for(&file, &kernel)).unwrap().unwrap();
    assert_eq!(
        found.way,
        Way::Descriptor,
        "only our descriptor still leads to it"
    );
    assert_eq!(
        (&found.identity.path[..], found.identity.deleted),
        (name, true)
    );

    // Another file took its place: it must not be taken for ours.
    File::create(&path).unwrap().write_all(b"impostor").unwrap();
    let found = identify(pid, &entry_for(&file, &kernel)).unwrap().unwrap();
    assert_eq!((found.way, found.identity.size), (Way::Descriptor, 0));
    // To a process without a descriptor for it, nothing leads. (Ours stays open, so that the inode
    // number is not given to somebody else.)
    let mut child = std::process::Command::new("sh")
        .args(["-c", "echo; read line"])
        .stdin(std::process::Stdio::piped())
        .stdout(std::process::Stdio::piped())
        .spawn()
        .unwrap();
    std::io::Read::read_exact(child.stdout.as_mut().unwrap(), &mut [0]).unwrap();
    assert!(
        identify(child.id(), &entry_for(&file, &kernel))
            .unwrap()
            .is_none()
    );
    child.kill().unwrap();
    child.wait().unwrap();
}

#[test]
fn a_fifo_in_the_files_place_does_not_block() {
    let directory = tempfile::tempdir().unwrap();
    let path = directory.path().join("f");
    rustix::fs::mknodat(
        rustix::fs::CWD,
        &path,
        FileType::Fifo,
        Mode::from_raw_mode(0o600),
        0,
    )
    .unwrap();
    let m = std::fs::metadata(&path).unwrap();
    let entry = MapsEntry {
        device: (rustix::fs::major(m.dev()), rustix::fs::minor(m.dev())),
        inode: m.ino(),
        name: path.as_os_str().as_encoded_bytes().to_vec(),
        ..MapsEntry::default()
    };
    assert!(identify(std::process::id(), &entry).unwrap().is_none());
}

#[test]
fn extents_and_stamps_follow_the_file() {
    let fd = rustix::fs::memfd_create("e", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = File::from(fd);
    file.set_len(100 * 4096).unwrap();
    let extents = |range| {
        let mut out = Vec::new();
        data_extents(&file, range, &mut out).unwrap();
        out
    };
    assert!(extents(0..100 * 4096).is_empty());
    let before = Stamp::of(&file).unwrap();
    std::os::unix::fs::FileExt::write_all_at(&file, &[1; 8192], 10 * 4096).unwrap();
    assert_eq!(extents(0..100 * 4096), [10 * 4096..12 * 4096]);
    assert_eq!(
        extents(11 * 4096..50 * 4096),
        [11 * 4096..12 * 4096],
        "cut to what was asked"
    );
    assert!(extents(12 * 4096..50 * 4096).is_empty());
    assert!(extents(200 * 4096..300 * 4096).is_empty(), "behind the end");
    let after = Stamp::of(&file).unwrap();
    assert_eq!(after.blocks, before.blocks + 16);
    assert_eq!(Stamp::of(&file).unwrap(), after);
}

/// A minimal ELF file with one note segment.
fn elf(notes: &[u8], align: u64, change: impl FnOnce(&mut Vec<u8>)) -> File {
    let mut bytes = vec![0; 64 + 56];
    bytes[..6].copy_from_slice(b"\x7fELF\x02\x01");
    bytes[32..40].copy_from_slice(&64_u64.to_le_bytes());
    bytes[54..56].copy_from_slice(&56_u16.to_le_bytes());
    bytes[56..58].copy_from_slice(&1_u16.to_le_bytes());
    bytes[64..68].copy_from_slice(&4_u32.to_le_bytes());
    bytes[72..80].copy_from_slice(&120_u64.to_le_bytes());
    bytes[96..104].copy_from_slice(&(notes.len() as u64).to_le_bytes());
    bytes[112..120].copy_from_slice(&align.to_le_bytes());
    bytes.extend_from_slice(notes);
    change(&mut bytes);
    let mut file = tempfile::tempfile().unwrap();
    file.write_all(&bytes).unwrap();
    file
}

fn note(name: &[u8], sort: u32, content: &[u8], align: usize) -> Vec<u8> {
    let mut out = Vec::new();
    out.extend_from_slice(&(name.len() as u32).to_le_bytes());
    out.extend_from_slice(&(content.len() as u32).to_le_bytes());
    out.extend_from_slice(&sort.to_le_bytes());
    out.extend_from_slice(name);
    out.resize(out.len().next_multiple_of(align), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(align), 0);
    out
}

#[test]
fn build_ids_are_found_among_other_notes() {
    for align in [4, 8] {
        let notes = [
            note(b"GNU\0", 5, &[9; 12], align),
            note(b"other\0", 3, &[8; 20], align),
            note(b"GNU\0", 3, &[7; 20], align),
        ]
        .concat();
        let file = elf(&notes, align as u64, |_| {});
        assert_eq!(build_id(&file).unwrap(), Some(vec![7; 20]), "align {align}");
    }
    assert_eq!(
        build_id(&elf(&note(b"GNU\0", 1, &[7; 20], 4), 4, |_| {})).unwrap(),
        None
    );
    assert_eq!(
        build_id(&elf(&note(b"GNU\0", 3, &[7; 65], 4), 4, |_| {})).unwrap(),
        None
    );
}

#[test]
fn damaged_elf_files_are_harmless() {
    let good = note(b"GNU\0", 3, &[7; 20], 4);
    for at in 0..120 + good.len() {
        for value in [0, 0x7f, 0xff] {
            let file = elf(&good, 4, |bytes| bytes[at] = value);
            if let Some(id) = build_id(&file).unwrap() {
                assert!((1..=LONGEST_SEEN).contains(&id.len()));
            }
        }
        build_id(&elf(&good, 4, |bytes| bytes.truncate(at))).unwrap();
    }
    assert_eq!(build_id(&tempfile::tempfile().unwrap()).unwrap(), None);
}

const LONGEST_SEEN: usize = 64;
