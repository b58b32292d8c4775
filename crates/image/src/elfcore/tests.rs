//! Cores are parsed back with a reader that shares no code with the writer.

use super::*;
use crate::*;
use object::Endianness;
use object::elf::FileHeader64;
use object::read::elf::{FileHeader as _, ProgramHeader as _};

fn mapping(start: u64, end: u64, name: &str, kind: MappingKind) -> Mapping {
    Mapping {
        start,
        end,
        read: true,
        write: kind == MappingKind::Anonymous,
        execute: kind == MappingKind::File,
        shared: false,
        offset: if kind == MappingKind::File { 0x3000 } else { 0 },
        device: (8, 1),
        inode: 7,
        name: name.as_bytes().to_vec(),
        kind,
        coverage: Coverage::Tracked,
        file: None,
    }
}

/// An area that is laid out as debuggers expect already: x87, SSE, AVX, all in use.
fn xstate() -> Vec<u8> {
    let mut area: Vec<u8> = (0..832).map(|at| (at % 251) as u8).collect();
    for at in [464, 512] {
        area[at..at + 8].copy_from_slice(&7u64.to_le_bytes());
    }
    area
}

fn thread(tid: u32) -> Thread {
    let mut words = [0; 27];
    for (at, word) in words.iter_mut().enumerate() {
        *word = u64::from(tid) << 32 | at as u64;
    }
    Thread {
        tid,
        registers: Registers::from_words(&words),
        xstate: xstate(),
        blocked: 0xf00,
        ..Thread::default()
    }
}

fn checkpoint() -> ProcessImage {
    ProcessImage {
        space: AddressSpace {
            mappings: vec![
                mapping(0x40_0000, 0x40_3000, "/usr/bin/prog", MappingKind::File),
                mapping(0x60_0000, 0x60_4000, "", MappingKind::Anonymous),
                mapping(
                    0x70_0000,
                    0x70_1000,
                    "/memfd:x (deleted)",
                    MappingKind::SharedMemory,
                ),
            ],
            ..AddressSpace::default()
        },
        threads: vec![thread(100), thread(101), thread(102)],
        process: Process {
            pid: 100,
            parent: 1,
            group: 100,
            session: 99,
            name: b"prog".to_vec(),
            arguments: b"prog\0-x\0".to_vec(),
            auxv: vec![6, 0, 0, 0, 0, 0, 0, 0, 0, 16, 0, 0, 0, 0, 0, 0],
            nice: -5,
            ..Process::default()
        },
        ..ProcessImage::default()
    }
}

/// A note: owner without its terminator, kind, content.
type Note = (Vec<u8>, u32, Vec<u8>);

/// A segment: type, address, size in memory, offset, size in the file, flags.
type Load = (u32, u64, u64, u64, u64, u32);

fn parse(plan: &Plan) -> (Vec<Load>, Vec<Note>) {
    let data = plan.head.as_slice();
    let header = FileHeader64::<Endianness>::parse(data).unwrap();
    let endian = header.endian().unwrap();
    assert_eq!(header.e_type(endian), object::elf::ET_CORE);
    assert_eq!(header.e_machine(endian), object::elf::EM_X86_64);
    let mut loads = Vec::new();
    let mut notes = Vec::new();
    for segment in header.program_headers(endian, data).unwrap() {
        if let Some(mut iterator) = segment.notes(endian, data).unwrap() {
            while let Some(note) = iterator.next().unwrap() {
                notes.push((
                    note.name().to_vec(),
                    note.n_type(endian).0,
                    note.desc().to_vec(),
                ));
            }
        } else {
            loads.push((
                segment.p_type(endian).0,
                segment.p_vaddr(endian),
                segment.p_memsz(endian),
                segment.p_offset(endian),
                segment.p_filesz(endian),
                segment.p_flags(endian).0,
            ));
        }
    }
    (loads, notes)
}

#[test]
fn structures_have_the_kernels_sizes() {
    let c = checkpoint();
    assert_eq!(note::prstatus(&c.threads[0], &c.process).len(), 336);
    assert_eq!(note::prpsinfo(&c.process).len(), 136);
}

#[test]
fn a_reader_finds_what_was_put_in() {
    let c = checkpoint();
    let plan = plan(&c, |m| {
        if m.kind == MappingKind::Anonymous {
            Content::Whole
        } else {
            Content::Nothing
        }
    })
    .unwrap();
    assert_eq!(plan.head.len() % PAGE_SIZE, 0);
    let (loads, notes) = parse(&plan);
    let head = plan.head.len() as u64;
    assert_eq!(
        loads,
        [
            (1, 0x40_0000, 0x3000, head, 0, 5),
            (1, 0x60_0000, 0x4000, head, 0x4000, 6),
            (1, 0x70_0000, 0x1000, head + 0x4000, 0, 4),
        ]
    );
    assert_eq!(plan.file_size, head + 0x4000);

    let kinds: Vec<u32> = notes.iter().map(|n| n.1).collect();
    let rest = [1, 0x5349_4749, 2, 0x202];
    let mut expected = vec![1, 3, 0x5349_4749, 6, 0x4649_4c45, 2, 0x202];
    expected.extend(rest);
    expected.extend(rest);
    assert_eq!(kinds, expected);
    for (owner, kind, _) in &notes {
        assert_eq!(
            owner.as_slice(),
            if *kind == 0x202 {
                &b"LINUX"[..]
            } else {
                b"CORE"
            }
        );
    }

    let status = &notes[0].2;
    assert_eq!(status[32..36], 100u32.to_le_bytes());
    assert_eq!(status[24..32], 0xf00u64.to_le_bytes());
    assert_eq!(
        status[112 + 16 * 8..112 + 17 * 8],
        (100 << 32 | 16u64).to_le_bytes()
    );
    assert_eq!(status[328..332], 1u32.to_le_bytes());
    let info = &notes[1].2;
    assert_eq!(info[3].cast_signed(), -5);
    assert_eq!(&info[40..45], b"prog\0");
    assert_eq!(&info[56..65], b"prog -x \0");
    assert_eq!(notes[5].2, c.threads[0].xstate[..512]);
    assert_eq!(notes[6].2, c.threads[0].xstate);

    // One file: the memfd has no name that could be opened.
    let files = &notes[4].2;
    let mut expected = Vec::new();
    for word in [1u64, 4096, 0x40_0000, 0x40_3000, 3] {
        expected.extend(word.to_le_bytes());
    }
    expected.extend(b"/usr/bin/prog\0");
    assert_eq!(*files, expected);
}

#[test]
fn the_crashed_thread_comes_first() {
    let mut c = checkpoint();
    let mut raw = vec![0; 128];
    raw[0] = 11;
    raw[16] = 0x44;
    c.threads[1].signal = Some(SigInfo {
        signal: 11,
        errno: 0,
        code: 1,
        raw: raw.clone(),
    });
    let plan = plan(&c, |_| Content::Nothing).unwrap();
    let (_, notes) = parse(&plan);
    let ids: Vec<u32> = notes
        .iter()
        .filter(|n| n.1 == 1)
        .map(|n| u32::from_le_bytes(n.2[32..36].try_into().unwrap()))
        .collect();
    assert_eq!(ids, [101, 100, 102]);
    assert_eq!(notes[0].2[..4], 11u32.to_le_bytes());
    assert_eq!(notes[0].2[12..14], 11u16.to_le_bytes());
    assert_eq!(notes[2].2, raw);
}

#[test]
fn parts_become_segments() {
    let mut c = checkpoint();
    c.space.mappings = vec![mapping(0x10000, 0x20000, "", MappingKind::Anonymous)];
    // Cut to the mapping, rounded to pages, overlaps merged away.
    let parts = vec![
        0..0x10800,
        0x12000..0x14000,
        0x13000..0x15000,
        0x1f000..u64::MAX,
    ];
    let plan = plan(&c, |_| Content::Parts(parts.clone())).unwrap();
    let got: Vec<_> = plan
        .segments
        .iter()
        .map(|s| (s.start, s.end, s.file_size))
        .collect();
    assert_eq!(
        got,
        [
            (0x10000, 0x11000, 0x1000),
            (0x11000, 0x12000, 0),
            (0x12000, 0x14000, 0x2000),
            (0x14000, 0x15000, 0x1000),
            (0x15000, 0x1f000, 0),
            (0x1f000, 0x20000, 0x1000),
        ]
    );
    let mut at = plan.head.len() as u64;
    for segment in &plan.segments {
        assert_eq!(segment.file_offset, at);
        at += segment.file_size;
    }
    assert_eq!(plan.file_size, at);
}

#[test]
fn more_segments_than_a_half_word_counts() {
    for count in [65_533u64, 65_534, 65_535, 70_000] {
        let mut c = checkpoint();
        c.space.mappings = (0..count)
            .map(|n| {
                let start = 0x10_0000 + n * 0x2000;
                mapping(start, start + 0x1000, "", MappingKind::Anonymous)
            })
            .collect();
        let plan = plan(&c, |_| Content::Whole).unwrap();
        let (loads, notes) = parse(&plan);
        assert_eq!(loads.len() as u64, count);
        assert_eq!(notes.len(), 15);
        let extended = plan.head[56..58] == [0xff, 0xff];
        assert_eq!(extended, count + 1 >= 65_535, "{count}");
    }
}

#[test]
fn impossible_checkpoints_are_refused() {
    let mut c = checkpoint();
    c.threads.clear();
    assert_eq!(plan(&c, |_| Content::Nothing), Err(CoreError::NoThreads));

    let mut c = checkpoint();
    c.space.mappings.swap(0, 1);
    assert!(matches!(
        plan(&c, |_| Content::Whole),
        Err(CoreError::Mapping { .. })
    ));

    let mut c = checkpoint();
    c.space.mappings[0].end = c.space.mappings[0].start;
    assert!(matches!(
        plan(&c, |_| Content::Whole),
        Err(CoreError::Mapping { .. })
    ));

    let mut c = checkpoint();
    c.space.mappings = vec![mapping(0, u64::MAX - 0xfff, "", MappingKind::Anonymous)];
    assert_eq!(plan(&c, |_| Content::Whole), Err(CoreError::TooLarge));
}

#[test]
fn a_thread_without_vector_state_has_none_in_the_core() {
    let mut c = checkpoint();
    c.threads = vec![Thread {
        tid: 5,
        ..Thread::default()
    }];
    let plan = plan(&c, |_| Content::Nothing).unwrap();
    let (_, notes) = parse(&plan);
    assert!(notes.iter().all(|n| n.1 != 2 && n.1 != 0x202));
    assert_eq!(notes[0].2[328..332], [0; 4]);
}
