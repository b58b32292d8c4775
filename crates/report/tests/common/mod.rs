//! Recordings that never were: rows and accounts as a recorder would write them, from a seed.
#![allow(dead_code, missing_docs, reason = "shared by tests and the example")]

use stillframe_image::account::{
    Account, After, Fault, Faults, Heat, Hot, Skip, SkipReason, StopKind, StopRecord, ThreadStall,
};
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, Mapping, MappingKind, Marks, Phases, Process, SpaceId,
    Thread, Tick,
};
use stillframe_report::bookmarks::Bookmark;
use stillframe_report::figures::Subject;
use stillframe_report::{Analysis, Gatherer, Names, Options};
use stillframe_store::Row;

/// What to make.
#[derive(Clone, Copy, Debug)]
pub struct Shape {
    pub checkpoints: u64,
    pub hz: u64,
    pub threads: u32,
    pub processes: u32,
    /// Pages written per checkpoint.
    pub dirty: u64,
    /// Cells of 2 MiB that the heap has.
    pub cells: u64,
    pub accounts: bool,
    pub faults: bool,
}

pub const USUAL: Shape = Shape {
    checkpoints: 2_400,
    hz: 100,
    threads: 3,
    processes: 1,
    dirty: 640,
    cells: 60,
    accounts: true,
    faults: false,
};

struct Random(u64);

impl Random {
    fn next(&mut self) -> u64 {
        // Marsaglia, "Xorshift RNGs".
        self.0 ^= self.0 << 13;
        self.0 ^= self.0 >> 7;
        self.0 ^= self.0 << 17;
        self.0
    }
    fn below(&mut self, n: u64) -> u64 {
        self.next() % n.max(1)
    }
    /// About `n`, with a long tail upwards.
    fn about(&mut self, n: u64) -> u64 {
        let base = n / 2 + self.below(n.max(2) / 2 + 1) + self.below(n.max(2) / 2 + 1) / 2;
        match self.below(200) {
            0 => base * (3 + self.below(12)),
            1..=8 => base * 2,
            _ => base,
        }
    }
}

const HEAP: u64 = 0x5555_7000_0000;
const LIBC: u64 = 0x7f3a_1000_0000;
const ARENA: u64 = 0x7f39_8000_0000;
const STACK: u64 = 0x7ffd_4000_0000;

pub fn rows_and_accounts(shape: &Shape) -> Vec<(Row, Account)> {
    let mut r = Random(0x9e37_79b9_7f4a_7c15);
    let period = 1_000_000_000 / shape.hz;
    let mut at = 3_200_000;
    let mut out = Vec::new();
    for n in 0..shape.checkpoints {
        let full = n == 0;
        let mut skipped = 0;
        // A third of the way through, the store falls behind.
        let troubled = shape.checkpoints > 100 && (n * 100 / shape.checkpoints) / 5 == 7;
        if troubled && r.below(4) == 0 {
            skipped = 1 + r.below(4) as u32;
        }
        if n > 0 {
            at += period * u64::from(1 + skipped) + r.below(period / 40 + 1);
        }
        let wave = 1.0 + 0.8 * ((n as f64) / (shape.checkpoints as f64) * 19.0).sin();
        let dirty = if full {
            60_000
        } else {
            (r.about(shape.dirty) as f64 * wave) as u64 + 4
        };
        let rounds = u32::from(!full && shape.accounts) * (1 + u32::from(r.below(3) == 0));
        let precopied = if rounds > 0 { dirty * 6 / 10 } else { 0 };
        let phases = Phases {
            stop: r.about(42_000),
            layout: r.about(9_000),
            scan: r.about(60_000) + dirty * 8,
            threads: r.about(6_000 * u64::from(shape.threads)),
            copy: (dirty - precopied) * 320 + r.about(5_000),
            state: r.about(4_000),
            resume: r.about(22_000),
        };
        let mut marks = Marks::default();
        if full {
            marks = marks.with(Marks::FULL);
        }
        if n + 1 == shape.checkpoints && n > 0 {
            marks = marks.with(Marks::EXIT);
        }
        let tick = Tick {
            at_ns: at,
            wall_ns: 1_790_000_000_000_000_000 + at,
            marks,
            processes: shape.processes,
            threads: shape.threads,
            skipped,
            dirty_pages: dirty,
            precopied_pages: precopied,
            untracked_pages: 2,
            precopy_stops: rounds,
            precopy_pause_ns: u64::from(rounds) * r.about(95_000),
            phases,
        };
        let raw = (dirty + 2) * 4096;
        let row = Row {
            id: CheckpointId(n),
            tick,
            stored_bytes: raw / (9 + r.below(6)) + 900,
            raw_bytes: raw,
        };
        let account = if shape.accounts {
            account(shape, &row, period, troubled, &mut r)
        } else {
            Account::default()
        };
        out.push((row, account));
    }
    out
}

fn account(shape: &Shape, row: &Row, period: u64, troubled: bool, r: &mut Random) -> Account {
    let t = &row.tick;
    let began = t.at_ns - t.phases.stop;
    let mut stops = Vec::new();
    for k in 0..t.precopy_stops {
        stops.push(StopRecord {
            kind: StopKind::Precopy,
            at_ns: began.saturating_sub(period / 5 * u64::from(t.precopy_stops - k)),
            pause_ns: t.precopy_pause_ns / u64::from(t.precopy_stops),
            pages: t.precopied_pages * 12 / 10 / u64::from(t.precopy_stops),
        });
    }
    if r.below(300) == 0 {
        stops.push(StopRecord {
            kind: StopKind::Conflict,
            at_ns: began.saturating_sub(period / 10),
            pause_ns: r.about(200_000),
            pages: 7,
        });
    }
    stops.push(StopRecord {
        kind: StopKind::Boundary,
        at_ns: began,
        pause_ns: t.pause_ns(),
        pages: t.dirty_pages - t.precopied_pages,
    });
    let per = shape.threads.div_ceil(shape.processes);
    let stalls: Vec<ThreadStall> = (0..shape.threads)
        .map(|k| ThreadStall {
            space: SpaceId(k / per),
            tid: 4242 + k,
            stopped_ns: began + t.phases.stop / u64::from(k + 1),
            resumed_ns: began + t.pause_ns() - r.below(t.phases.resume + 1),
        })
        .collect();
    let mut heat = Vec::new();
    let mut left = t.dirty_pages;
    let phase = t.at_ns / 1_000_000_000;
    for space in 0..shape.processes {
        let mut cells: Vec<(u64, u32)> = vec![
            (LIBC >> 21, 3 + r.below(4) as u32),
            (STACK >> 21, 2 + r.below(3) as u32),
        ];
        let count = shape.cells.min(40);
        for k in 0..count {
            // A moving front, a hot beginning, and scattered writes.
            let cell = match k % 4 {
                0 | 1 => (HEAP >> 21) + (phase * 3 + k / 2) % shape.cells,
                2 => (HEAP >> 21) + k % 8 % shape.cells,
                _ => (ARENA >> 21) + r.below(shape.cells),
            };
            let pages = (1 + r.below(t.dirty_pages / count + 2)).min(512).min(left) as u32;
            left -= u64::from(pages);
            cells.push((cell, pages));
        }
        cells.sort_unstable();
        cells.dedup_by_key(|c| c.0);
        heat.extend(
            cells
                .into_iter()
                .filter(|c| c.1 > 0)
                .map(|(cell, pages)| Heat {
                    space: SpaceId(space),
                    cell,
                    pages,
                }),
        );
    }
    let faults = t.dirty_pages + t.dirty_pages / 5;
    let logged = if shape.faults { faults.min(40) } else { 0 };
    let hits = 20 + r.below(10);
    Account {
        hot: Hot {
            copied: 40,
            unprotected: 30,
            hits,
            misses: 30 - hits,
        },
        after: After {
            copied: (t.dirty_pages - t.precopied_pages) / 2,
            conflicts: u64::from(r.below(9) == 0) * (1 + r.below(4)),
            pre_images: 0,
            repairs: u32::from(r.below(200) == 0),
        },
        faults: Faults {
            write: faults,
            logged,
        },
        stops,
        stalls,
        skips: if t.skipped > 0 {
            vec![Skip {
                at_ns: began.saturating_sub(period * u64::from(t.skipped)),
                ticks: t.skipped,
                reason: if troubled && r.below(3) > 0 {
                    SkipReason::Store
                } else {
                    SkipReason::Late
                },
            }]
        } else {
            Vec::new()
        },
        heat,
        repeats: vec![
            t.dirty_pages as u32,
            (t.dirty_pages / 5) as u32,
            u32::from(t.precopy_stops > 1) * (t.dirty_pages / 40) as u32,
        ],
        dirty: Vec::new(),
        fault_log: (0..logged)
            .map(|k| Fault {
                tid: 4242 + (k % u64::from(shape.threads)) as u32,
                at_ns: began.saturating_sub(period - period * k / logged.max(1)),
                page: HEAP >> 12,
            })
            .collect(),
        faults_dropped: 0,
    }
}

fn mapping(start: u64, end: u64, name: &[u8], write: bool) -> Mapping {
    Mapping {
        start,
        end,
        read: true,
        write,
        execute: false,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: name.to_vec(),
        kind: MappingKind::Anonymous,
        coverage: Coverage::Tracked,
        file: None,
    }
}

/// Names of the processes and mappings; `text` stands wherever the target may choose a name.
pub fn names(shape: &Shape, text: Option<&str>) -> Names {
    let mut names = Names::default();
    let or = |usual: &'static str| text.unwrap_or(usual).as_bytes().to_vec();
    for space in 0..shape.processes {
        let per = shape.threads.div_ceil(shape.processes);
        let process = Process {
            name: or(if space == 0 { "anneal" } else { "worker" }),
            pid: 4242 + space * per,
            ..Process::default()
        };
        let mappings = AddressSpace {
            mappings: vec![
                mapping(HEAP, HEAP + (shape.cells << 21), &or("[heap]"), true),
                mapping(ARENA, ARENA + (shape.cells << 21), b"", true),
                mapping(
                    LIBC,
                    LIBC + 0x4000,
                    b"/usr/lib/x86_64-linux-gnu/libc.so.6",
                    true,
                ),
                mapping(STACK, STACK + (1 << 21), b"[stack]", true),
            ],
            ..AddressSpace::default()
        };
        let threads: Vec<Thread> = (0..shape.threads)
            .filter(|k| k / per == space)
            .map(|k| Thread {
                tid: 4242 + k,
                name: or(match k % per {
                    0 => "main",
                    1 => "mover",
                    _ => "cooler",
                }),
                ..Thread::default()
            })
            .collect();
        names.look(SpaceId(space), &mappings, &process, &threads);
    }
    names
}

pub fn subject(shape: &Shape, text: Option<&str>) -> Subject {
    let or = |usual: &str| text.unwrap_or(usual).to_owned();
    Subject {
        recording: or("anneal.still"),
        program: or("/usr/local/bin/anneal"),
        arguments: ["anneal", "--threads", "3", "nets/2500000.nets"]
            .map(or)
            .to_vec(),
        pid: 4242,
        started_wall_ns: 1_790_000_000_000_000_000,
        requested_hz: shape.hz as f64,
        tracker: or("wp-async"),
        kernel: or("6.18.0"),
        writer_version: or("0.1.0"),
        live: false,
        how: Some(or("exited 0")),
        skipped: None,
        notes: text.map(str::to_owned).into_iter().collect(),
        damage: text.map(str::to_owned).into_iter().collect(),
    }
}

pub fn analysis(shape: &Shape, text: Option<&str>, options: Options) -> Analysis {
    let all = rows_and_accounts(shape);
    let rows: Vec<Row> = all.iter().map(|(row, _)| *row).collect();
    let mut gatherer = Gatherer::new(&rows, shape.hz as f64, options);
    for (row, account) in &all {
        gatherer.add(row, account);
    }
    let mut analysis = gatherer.finish(subject(shape, text), &names(shape, text));
    analysis.bookmarks = rows
        .iter()
        .skip(7)
        .step_by(100)
        .enumerate()
        .map(|(n, row)| Bookmark {
            at: row.id,
            at_ns: Some(row.tick.at_ns),
            name: text.map_or_else(|| format!("at-{n}"), str::to_owned),
            note: text.unwrap_or("here it was fine").to_owned(),
        })
        .collect();
    analysis
}
