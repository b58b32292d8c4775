//! A small recording for targets that need one to talk about.

use std::path::{Path, PathBuf};
use std::sync::OnceLock;
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, Generation, Mapping, MappingKind, PageNumber,
    ProcessImage, Registers, SpaceId, Thread, Tick,
};
use stillframe_store::{Header, Summary, Writer, WriterOptions};

const BASE: u64 = 0x40_0000;
const PAGES: u64 = 4;

fn make(dir: &Path) {
    let header = Header {
        id: *b"fuzzfuzzfuzzfuzz",
        ..Header::default()
    };
    let mut writer =
        Writer::create(dir, &header, WriterOptions::default(), false).expect("a recording");
    let end = BASE + PAGES * 4096;
    let mapping = |start, end, execute| Mapping {
        start,
        end,
        read: true,
        write: !execute,
        execute,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: Vec::new(),
        kind: MappingKind::Anonymous,
        coverage: Coverage::Tracked,
        file: None,
    };
    for id in 0..6u64 {
        for page in 0..PAGES {
            let mut bytes = [0x90; 4096];
            bytes[8] = (id * page) as u8;
            // A return address and a frame, as far as they go.
            bytes[256..264].copy_from_slice(&(BASE + 16).to_le_bytes());
            let number = PageNumber(BASE / 4096 + page);
            writer.page(SpaceId(0), number, &bytes).expect("a page");
        }
        let thread = |tid: u32| Thread {
            tid,
            name: b"fuzz".to_vec(),
            registers: Registers {
                rip: BASE + 8 * id,
                rsp: BASE + 4096 + 256,
                rbp: BASE + 4096 + 512,
                ..Registers::default()
            },
            ..Thread::default()
        };
        let image = ProcessImage {
            space: AddressSpace {
                mappings: vec![
                    mapping(BASE, BASE + 4096, true),
                    mapping(BASE + 4096, end, false),
                ],
                files: Vec::new(),
                generations: vec![Generation {
                    start: BASE,
                    end,
                    since: CheckpointId(0),
                }],
            },
            threads: vec![thread(1), thread(2)],
            ..ProcessImage::default()
        };
        let tick = Tick {
            at_ns: id * 1_000_000,
            ..Tick::default()
        };
        writer.commit(&image.into(), &tick).expect("a checkpoint");
    }
    writer.finish(&Summary::default()).expect("an end");
}

/// The directory of a recording of six checkpoints, made once in each process.
pub fn recording() -> &'static Path {
    static MADE: OnceLock<PathBuf> = OnceLock::new();
    MADE.get_or_init(|| {
        let dir = std::env::temp_dir().join(format!("still-fuzz-{}", std::process::id()));
        let _ = std::fs::remove_dir_all(&dir);
        make(&dir);
        dir
    })
}
