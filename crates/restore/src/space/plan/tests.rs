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
    let steps = plan(&entries, &space(&all), &OURS).unwrap();
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
        let refused = plan(&entries, &space(others), &OURS);
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
    /// Whatever is there: after the steps every page is what it should be, and nothing is mapped where
    /// something is still mapped.
    #[test]
    fn steps_lead_there(from in prop::collection::vec(0u8..5, 24), to in prop::collection::vec(0u8..5, 24)) {
        let (before, after) = (layout(&from), layout(&to));
        let entries: Vec<MapsEntry> = before.iter().map(now).collect();
        let steps = plan(&entries, &space(&after), &OURS).unwrap();
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
                Step::MoveKernel(_) => prop_assert!(false),
            }
        }
        prop_assert_eq!(pages, to);
    }
}
