//! What a page costs the writer: `cargo bench -p stillframe-store`.
//!
//! Pages of a large array are put in ascending order, as boundaries put them, with one word changed
//! (*sparse*), unchanged (*same*), or new (*noise*), and committed in checkpoints of 500 pages.
//! Medians of five rounds, nanoseconds per page, commits included.
#![allow(
    clippy::unwrap_used,
    reason = "a benchmark that cannot write its file has nothing to say"
)]

use std::time::Instant;
use stillframe_image::{
    AddressSpace, Checkpoint, CheckpointId, PAGE_SIZE, PageNumber, ProcessImage, SpaceId, Tick,
};
use stillframe_store::{Header, Writer, WriterOptions};

type Page = [u8; PAGE_SIZE];

const PER_CHECKPOINT: usize = 500;
const PUT: usize = 100_000;

struct Rng(u64);

impl Rng {
    fn draw(&mut self) -> u64 {
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
}

fn fill(page: &mut Page, rng: &mut Rng) {
    for word in page.as_chunks_mut::<8>().0 {
        *word = rng.draw().to_le_bytes();
    }
}

fn main() {
    for mib in [64, 512] {
        array(mib);
    }
}

fn array(mib: usize) {
    let dir = tempfile::tempdir().unwrap();
    let options = WriterOptions {
        sync_every: None,
        ..WriterOptions::default()
    };
    let path = dir.path().join("bench.still");
    let mut writer = Writer::create(&path, &Header::default(), options, false).unwrap();
    let mut rng = Rng(0x9e37_79b9_7f4a_7c15);
    let mut pages = vec![[0; PAGE_SIZE]; mib << 8];
    for page in &mut pages {
        page[..8].copy_from_slice(&rng.draw().to_le_bytes());
    }
    let all: Vec<usize> = (0..pages.len()).collect();
    put(&mut writer, &pages, &all);
    type Change = fn(&mut Page, &mut Rng);
    let kinds: [(&str, Change); 3] = [
        ("sparse", |page, rng| {
            let at = rng.draw() as usize % 512 * 8;
            page[at..at + 8].copy_from_slice(&rng.draw().to_le_bytes());
        }),
        ("same", |_, _| {}),
        ("noise", fill),
    ];
    for (name, change) in kinds {
        let mut rounds: Vec<f64> = (0..5)
            .map(|_| {
                let mut spent = 0.0;
                for _ in 0..PUT / PER_CHECKPOINT {
                    let mut chosen: Vec<usize> = (0..PER_CHECKPOINT)
                        .map(|_| rng.draw() as usize % pages.len())
                        .collect();
                    chosen.sort_unstable();
                    chosen.dedup();
                    for at in &chosen {
                        change(&mut pages[*at], &mut rng);
                    }
                    let begun = Instant::now();
                    put(&mut writer, &pages, &chosen);
                    spent += begun.elapsed().as_secs_f64() / chosen.len() as f64;
                }
                spent * 1e9 / (PUT / PER_CHECKPOINT) as f64
            })
            .collect();
        rounds.sort_by(f64::total_cmp);
        println!("{mib:>5} MiB  {name:<6} {:>6.0} ns a page", rounds[2]);
    }
}

fn put(writer: &mut Writer, pages: &[Page], chosen: &[usize]) {
    for at in chosen {
        writer
            .page(SpaceId(0), PageNumber(0x7f_0000 + *at as u64), &pages[*at])
            .unwrap();
    }
    let process = ProcessImage {
        id: SpaceId(0),
        space: AddressSpace::default(),
        ..ProcessImage::default()
    };
    let checkpoint = Checkpoint {
        processes: vec![process],
        ..Checkpoint::default()
    };
    let committed = writer.commit(&checkpoint, &Tick::default()).unwrap();
    assert!(committed.id >= CheckpointId(0));
}
