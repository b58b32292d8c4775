//! A recording in which every byte is known.

use object::{Object as _, ObjectSegment as _, ObjectSymbol as _};
use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;
use stillframe_image::{
    AddressSpace, Checkpoint, CheckpointId, Coverage, Descriptor, DescriptorKind, Descriptors,
    FileIdentity, Gap, Generation, Mapping, MappingKind, Marks, PAGE_SIZE, PageNumber, Phases,
    Process, ProcessImage, Registers, SigInfo, SignalAction, SpaceId, Thread, Tick,
};
use stillframe_store::{Header, Summary, Writer, WriterOptions};

pub const TEXT: u64 = 0x5555_5555_4000;
pub const DATA: u64 = 0x5555_6000_0000;
pub const HEAP: u64 = 0x5555_7000_0000;
/// 1 TiB that nothing may touch.
pub const RESERVED: u64 = 0x1000_0000_0000;
/// 64 GiB, of which one page was written.
pub const SPARSE: u64 = 0x2000_0000_0000;
pub const DEVICE: u64 = 0x3000_0000_0000;
pub const SPARSE_PAGE: u64 = SPARSE + (20 << 30);
pub const CHECKPOINTS: u64 = 5;

const PROGRAM: &str = "
int counter[1024];
__attribute__((noinline)) int work(int n) { counter[n] += n; return counter[n] * 3; }
int main(int c, char **v) { return work(c) & 1; }
";

/// A recording on disk, with the program it is of.
pub struct Synthetic {
    pub dir: tempfile::TempDir,
    pub recording: PathBuf,
    pub program: PathBuf,
    pub program_bytes: Vec<u8>,
}

impl Synthetic {
    /// `REC@MOMENT`.
    pub fn at(&self, moment: impl std::fmt::Display) -> String {
        format!("{}@{moment}", self.recording.display())
    }
}

/// Content of the heap's first page at a checkpoint.
pub fn heap_page(checkpoint: u64) -> [u8; PAGE_SIZE] {
    std::array::from_fn(|at| (at as u64 * 7 + checkpoint * 13 + 1) as u8)
}

fn mapping(start: u64, length: u64, kind: MappingKind, access: &str) -> Mapping {
    Mapping {
        start,
        end: start + length,
        read: access.contains('r'),
        write: access.contains('w'),
        execute: access.contains('x'),
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: Vec::new(),
        kind,
        coverage: Coverage::Tracked,
        file: None,
    }
}

/// Offset into the file of a function of the program.
fn function(program: &[u8], name: &str) -> u64 {
    let file = object::File::parse(program).unwrap();
    let address = file
        .symbols()
        .find(|s| s.name() == Ok(name))
        .unwrap()
        .address();
    let segment = file
        .segments()
        .find(|s| (s.address()..s.address() + s.size()).contains(&address))
        .unwrap();
    address - segment.address() + segment.file_range().0
}

/// Makes it. With `objects` the program is kept inside.
pub fn make(objects: bool) -> Synthetic {
    let dir = tempfile::tempdir().unwrap();
    let source = dir.path().join("prog.c");
    let program = dir.path().join("prog");
    fs::write(&source, PROGRAM).unwrap();
    let built = Command::new("cc")
        .args(["-O1", "-o"])
        .arg(&program)
        .arg(&source)
        .status();
    assert!(built.expect("cc is needed for this test").success());
    let program_bytes = fs::read(&program).unwrap();
    let recording = dir.path().join("run.still");
    write(&recording, &program, &program_bytes, objects);
    Synthetic {
        dir,
        recording,
        program,
        program_bytes,
    }
}

fn write(recording: &Path, program: &Path, bytes: &[u8], objects: bool) {
    let path = program.to_str().unwrap().as_bytes().to_vec();
    let header = Header {
        program: path.clone(),
        arguments: b"prog\0--fast\0two words\0".to_vec(),
        pid: 4242,
        started_wall_ns: 1_700_000_000_000_000_000,
        requested_hz: 100.0,
        tracker: "synthetic".to_owned(),
        kernel: "6.18-test".to_owned(),
        writer_version: "test".to_owned(),
        ..Header::default()
    };
    let mut writer = Writer::create(recording, &header, WriterOptions::default(), false).unwrap();
    let object = objects.then(|| writer.add_object(&mut &*bytes).unwrap());
    let metadata = fs::metadata(program).unwrap();
    let modified = metadata
        .modified()
        .unwrap()
        .duration_since(std::time::UNIX_EPOCH)
        .unwrap();
    let file = FileIdentity {
        path: path.clone(),
        device: (8, 1),
        inode: 77,
        size: bytes.len() as u64,
        modified_ns: i64::try_from(modified.as_nanos()).unwrap(),
        build_id: None,
        object,
        deleted: false,
    };
    let space = space(&path, file);
    let rip = TEXT + function(bytes, "work") + 3;
    for n in 0..CHECKPOINTS {
        let checkpoint = checkpoint(n, &path, &space, rip);
        writer
            .page(SpaceId(0), PageNumber::of(HEAP), &heap_page(n))
            .unwrap();
        if n == 0 {
            writer
                .page(SpaceId(0), PageNumber::of(DATA), &[0xda; PAGE_SIZE])
                .unwrap();
            writer
                .page(SpaceId(0), PageNumber::of(SPARSE_PAGE), &[0x5a; PAGE_SIZE])
                .unwrap();
            writer
                .zero(SpaceId(0), PageNumber::of(HEAP + 4096))
                .unwrap();
        }
        let mut marks = if n == 0 {
            Marks::FULL
        } else {
            Marks::default()
        };
        if n == CHECKPOINTS - 1 {
            marks = marks.with(Marks::CRASH);
        }
        let tick = Tick {
            at_ns: n * 10_000_000,
            wall_ns: header.started_wall_ns + n * 10_000_000,
            marks,
            threads: 2,
            skipped: u32::from(n == 3),
            dirty_pages: if n == 0 { 3 } else { 1 },
            phases: Phases {
                stop: 100_000,
                copy: n * 1_000,
                ..Phases::default()
            },
            ..Tick::default()
        };
        assert_eq!(
            writer.commit(&checkpoint, &tick).unwrap().id,
            CheckpointId(n)
        );
    }
    let summary = Summary {
        ended_wall_ns: header.started_wall_ns + 50_000_000,
        how: "killed by SIGSEGV".to_owned(),
        skipped: 1,
        notes: vec!["made by a test".to_owned()],
    };
    writer.finish(&summary).unwrap();
}

fn space(path: &[u8], file: FileIdentity) -> AddressSpace {
    let of_file = |start: u64, length: u64, access: &str| Mapping {
        name: path.to_vec(),
        file: Some(0),
        device: (8, 1),
        inode: 77,
        ..mapping(start, length, MappingKind::File, access)
    };
    let length = file.size.next_multiple_of(4096);
    let mut device = mapping(DEVICE, 4096, MappingKind::Device, "rw");
    device.name = b"/dev/nosuch".to_vec();
    device.coverage = Coverage::Omitted("a device".to_owned());
    let mut heap = mapping(HEAP, 16 << 12, MappingKind::Heap, "rw");
    heap.name = b"[heap]".to_vec();
    let mappings = vec![
        mapping(RESERVED, 1 << 40, MappingKind::Anonymous, ""),
        mapping(SPARSE, 64 << 30, MappingKind::Anonymous, "rw"),
        device,
        of_file(TEXT, length, "rx"),
        // Two pages more than the file has.
        of_file(DATA, length + 8192, "rw"),
        heap,
    ];
    let generations = mappings
        .iter()
        .filter(|m| m.kind != MappingKind::Device)
        .map(|m| Generation {
            start: m.start,
            end: m.end,
            since: CheckpointId(0),
        })
        .collect();
    AddressSpace {
        mappings,
        files: vec![file],
        generations,
    }
}

fn checkpoint(n: u64, path: &[u8], space: &AddressSpace, rip: u64) -> Checkpoint {
    let mut raw = vec![0; 128];
    raw[0] = 11;
    raw[8] = 1;
    raw[16..24].copy_from_slice(&0xdead_b000u64.to_le_bytes());
    let fault = SigInfo {
        signal: 11,
        errno: 0,
        code: 1,
        raw,
    };
    let thread = |tid: u32, name: &str, registers: Registers| Thread {
        tid,
        name: name.as_bytes().to_vec(),
        registers,
        xstate: vec![0; 1024],
        blocked: 1 << 9,
        ..Thread::default()
    };
    let mut threads = vec![
        thread(
            4242,
            "prog",
            Registers {
                rip,
                rsp: HEAP + 0x800,
                orig_rax: u64::MAX,
                rbx: n,
                cs: 0x33,
                ss: 0x2b,
                ..Registers::default()
            },
        ),
        thread(
            4243,
            "wai\x1b[2Jter",
            Registers {
                rip: HEAP + 16,
                orig_rax: 202,
                rax: (-512i64).cast_unsigned(),
                rdi: 0x1234,
                cs: 0x33,
                ss: 0x2b,
                ..Registers::default()
            },
        ),
    ];
    if n == CHECKPOINTS - 1 {
        threads[1].signal = Some(fault);
    }
    ProcessImage {
        space: space.clone(),
        threads,
        descriptors: Descriptors {
            open: vec![Descriptor {
                fd: 3,
                kind: DescriptorKind::Regular,
                flags: 0o2_000_002,
                offset: 100 + n,
                target: b"/tmp/data.db".to_vec(),
                mount: 1,
                inode: 9,
                file: Some((5000, 0)),
                detail: Vec::new(),
            }],
        },
        process: Process {
            as_of: CheckpointId(0),
            pid: 4242,
            parent: 1,
            name: b"prog".to_vec(),
            executable: path.to_vec(),
            arguments: b"prog\0--fast\0two words\0".to_vec(),
            auxv: vec![0; 16],
            actions: vec![SignalAction {
                signal: 15,
                handler: rip,
                flags: 0x1000_0000,
                restorer: 0,
                mask: 0,
            }],
            ..Process::default()
        },
        gaps: vec![Gap {
            subject: "fd 9".to_owned(),
            reason: "went away".to_owned(),
        }],
        ..ProcessImage::default()
    }
    .into()
}
