use super::*;
use proptest::prelude::*;
use stillframe_image::Coverage;

const PAGE: u64 = 4096;

fn wanted(start: u64, end: u64, kind: MappingKind, name: &str) -> Mapping {
    Mapping {
        start,
        end,
        read: true,
        write: true,
        execute: false,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: name.into(),
        kind,
        coverage: Coverage::Tracked,
        file: None,
    }
}

fn file(start: u64, end: u64, inode: u64, offset: u64) -> Mapping {
    Mapping {
        offset,
        device: (8, 1),
        inode,
        write: false,
        ..wanted(start, end, MappingKind::File, "/lib/x.so")
    }
}

fn now(m: &Mapping) -> MapsEntry {
    MapsEntry {
        start: m.start,
        end: m.end,
        read: m.read,
        write: m.write,
        execute: m.execute,
        shared: m.shared,
        offset: m.offset,
        device: m.device,
        inode: m.inode,
        name: m.name.clone(),
    }
}

fn space(mappings: &[Mapping]) -> AddressSpace {
    AddressSpace {
        mappings: mappings.to_vec(),
        ..AddressSpace::default()
    }
}

const OURS: Range<u64> = 0x7000_0000..0x7001_2000;

#[test]
fn what_is_equal_stays() {
    let heap = wanted(0x10_0000, 0x20_0000, MappingKind::Heap, "[heap]");
    let library = file(0x40_0000, 0x48_0000, 5, 0x1000);
    let stack = wanted(0x7f00_0000, 0x7f02_0000, MappingKind::Stack, "[stack]");
    let all = [heap.clone(), library.clone(), stack.clone()];
    let mut entries: Vec<MapsEntry> = all.iter().map(now).collect();
    assert_eq!(plan(&entries, &space(&all), &OURS, true, &[]).unwrap(), []);

    // The heap has grown since, the stack too, and a part of the library is another protection.
    entries[0].end += PAGE * 3;
    entries[2].start -= PAGE * 9;
    entries[1].end = 0x44_0000;
    let mut second = entries[1].clone();
    (second.start, second.end) = (0x44_0000, 0x48_0000);
    second.offset += 0x4_0000;
    second.execute = true;
    entries.insert(2, second);
    let steps = plan(&entries, &space(&all), &OURS, true, &[]).unwrap();
    assert_eq!(
        steps,
        [
            Step::Unmap(0x20_0000..0x20_3000),
            Step::Unmap(0x7eff_7000..0x7f00_0000),
            Step::Protect {
                mapping: 1,
                range: 0x44_0000..0x48_0000
            },
        ]
    );
    // Replaced memory is not kept though it looks the same.
    let replaced: Vec<_> = std::iter::once(0x18_0000..0x18_2000).collect();
    entries[0].end = 0x20_0000;
    let steps = plan(&entries[..1], &space(&all[..1]), &OURS, true, &replaced).unwrap();
    assert_eq!(
        steps,
        [
            Step::Unmap(0x18_0000..0x18_2000),
            Step::Map {
                mapping: 0,
                range: 0x18_0000..0x18_2000
            },
        ]
    );
}

#[test]
fn other_memory_at_the_same_place_is_replaced() {
    let library = file(0x40_0000, 0x48_0000, 5, 0x1000);
    for other in [
        file(0x40_0000, 0x48_0000, 6, 0x1000),
        file(0x40_0000, 0x48_0000, 5, 0x2000),
        wanted(0x40_0000, 0x48_0000, MappingKind::Anonymous, ""),
    ] {
        let steps = plan(
            &[now(&other)],
            &space(std::slice::from_ref(&library)),
            &OURS,
            true,
            &[],
        );
        assert_eq!(
            steps.unwrap(),
            [
                Step::Unmap(0x40_0000..0x48_0000),
                Step::Map {
                    mapping: 0,
                    range: 0x40_0000..0x48_0000
                },
            ]
        );
    }
}

#[test]
fn a_blank_process_keeps_only_what_is_the_kernels() {
    let entries = [
        now(&file(0x1_0000, 0x2_0000, 9, 0)),
        now(&wanted(0x5_0000, 0x6_0000, MappingKind::Heap, "[heap]")),
        now(&wanted(OURS.start, OURS.end, MappingKind::Anonymous, "")),
        now(&wanted(
            0x7fff_0000,
            0x7fff_4000,
            MappingKind::Vvar,
            "[vvar]",
        )),
        now(&wanted(
            0x7fff_4000,
            0x7fff_6000,
            MappingKind::Vdso,
            "[vdso]",
        )),
    ];
    let all = [
        wanted(0x5_0000, 0x6_0000, MappingKind::Heap, "[heap]"),
        wanted(0x7ffe_0000, 0x7ffe_4000, MappingKind::Vvar, "[vvar]"),
        wanted(0x7ffe_4000, 0x7ffe_6000, MappingKind::Vdso, "[vdso]"),
    ];
    let steps = plan(&entries, &space(&all), &OURS, false, &[]).unwrap();
    assert_eq!(
        steps,
        [
            // One call for both, over the hole between them.
            Step::Unmap(0x1_0000..0x6_0000),
            Step::MoveKernel(vec![
                (0x7fff_0000..0x7fff_4000, 0x7ffe_0000),
                (0x7fff_4000..0x7fff_6000, 0x7ffe_4000)
            ]),
            Step::Map {
                mapping: 0,
                range: 0x5_0000..0x6_0000
            },
        ]
    );
    // Of another kernel.
    let wider = [wanted(
        0x7ffe_4000,
        0x7ffe_7000,
        MappingKind::Vdso,
        "[vdso]",
    )];
    for others in [&all[1..2], &wider] {
        let refused = plan(&entries, &space(others), &OURS, false, &[]);
        assert!(matches!(refused, Err(Error::Kernel)), "{refused:?}");
    }
}

/// An address space of a few pages, as what is at each: 0 nothing, else a sort of memory.
fn layout(kinds: &[u8]) -> Vec<Mapping> {
    let mut out: Vec<Mapping> = Vec::new();
    for (page, kind) in kinds.iter().enumerate() {
        let at = 0x10_0000 + page as u64 * PAGE;
        let mapping = match kind {
            0 => continue,
            1 => wanted(at, at + PAGE, MappingKind::Anonymous, ""),
            2 => Mapping {
                write: false,
                ..wanted(at, at + PAGE, MappingKind::Anonymous, "")
            },
            n => file(at, at + PAGE, u64::from(*n), page as u64 * PAGE),
        };
        out.push(mapping);
    }
    out
}

proptest! {
    /// Whatever is there: after the steps every page is what it should be, nothing that is right has
    /// been touched, and nothing is mapped where something is still mapped.
    #[test]
    fn steps_lead_there(from in prop::collection::vec(0u8..5, 24), to in prop::collection::vec(0u8..5, 24), keep: bool) {
        let (before, after) = (layout(&from), layout(&to));
        let entries: Vec<MapsEntry> = before.iter().map(now).collect();
        let steps = plan(&entries, &space(&after), &OURS, keep, &[]).unwrap();
        let mut pages = from.clone();
        let index = |at: u64| ((at - 0x10_0000) / PAGE) as usize;
        for step in steps {
            match step {
                Step::Unmap(r) => pages[index(r.start)..index(r.end)].fill(0),
                Step::Map { mapping, range } => for page in index(range.start)..index(range.end) {
                    prop_assert_eq!(pages[page], 0);
                    prop_assert!(after[mapping].contains(range.start));
                    pages[page] = to[page];
                },
                Step::Protect { mapping, range } => {
                    let page = index(range.start);
                    prop_assert!(keep && matches!(pages[page], 1 | 2));
                    prop_assert_eq!(after[mapping].start, range.start);
                    pages[page] = to[page];
                }
                Step::MoveKernel(_) => prop_assert!(false),
            }
        }
        prop_assert_eq!(pages, to);
    }
}
