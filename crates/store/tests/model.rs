//! Random histories against a model: every page of every checkpoint, however the limits are set,
//! finished or killed, with the index or without it, opened late or followed live.
#![allow(clippy::unwrap_used, clippy::panic, reason = "tests")]

mod common;

use common::*;
use proptest::prelude::*;
use stillframe_image::*;
use stillframe_store::*;

fn step() -> impl Strategy<Value = Step> {
    let page = || 0..PAGES;
    prop_oneof![
        8 => (page(), any::<u16>(), any::<u8>(), 1u8..20)
            .prop_map(|(page, at, value, n)| Step::Poke { page, at, value, n }),
        2 => (page(), 0u32..6).prop_map(|(page, seed)| Step::Noise { page, seed }),
        2 => (page(), page()).prop_map(|(page, from)| Step::Copy { page, from }),
        1 => page().prop_map(|page| Step::Zero { page }),
        1 => page().prop_map(|page| Step::Again { page }),
        1 => (page(), 1u64..8).prop_map(|(page, n)| Step::Remap { page, n }),
        1 => Just(Step::Forget),
        1 => Just(Step::Abandon),
        6 => Just(Step::Commit),
    ]
}

fn options() -> impl Strategy<Value = WriterOptions> {
    (
        prop_oneof![Just(0u64), Just(20_000), Just(64 << 10), Just(1 << 20)],
        prop_oneof![Just(1u64), Just(3000), Just(16 << 10), Just(1 << 20)],
        prop_oneof![Just(1usize), Just(500), Just(8 << 10), Just(128 << 10)],
        prop_oneof![Just(1usize), Just(10), Just(50), Just(10_000)],
        0u8..6,
        prop_oneof![Just(0usize), Just(64)],
    )
        .prop_map(
            |(shadow, segment, pack, flush, chain, dedup)| WriterOptions {
                shadow_bytes: shadow,
                segment_bytes: segment,
                pack_bytes: pack,
                flush_entries: flush,
                chain_limit: chain,
                dedup_entries: dedup,
                sync_every: None,
                ..WriterOptions::default()
            },
        )
}

fn all(rec: &Recording, model: &Model) {
    assert_eq!(rec.rows().len(), model.committed.len());
    for (id, want) in model.committed.iter().enumerate() {
        compare(rec, id as u64, want).unwrap();
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(96))]

    #[test]
    fn every_page_of_every_checkpoint(
        steps in prop::collection::vec(step(), 1..120),
        options in options(),
        finish: bool,
    ) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let mut model = Model::new(&dir, options);
        let mut live = Recording::open(&dir).unwrap();
        let mut seen = 0;
        for (i, step) in steps.iter().enumerate() {
            model.step(step).unwrap();
            if i % 7 == 0 {
                seen += live.refresh().unwrap();
                prop_assert_eq!(seen, model.committed.len());
                if let Some(want) = model.committed.last() {
                    compare(&live, seen as u64 - 1, want).unwrap();
                }
            }
        }
        live.refresh().unwrap();
        all(&live, &model);
        if finish {
            model.finish().unwrap();
        } else {
            // As if killed: nothing is sealed.
            drop(model.writer.take());
        }
        let rec = Recording::open(&dir).unwrap();
        prop_assert_eq!(rec.damage(), &[] as &[String]);
        prop_assert_eq!(rec.summary().is_some(), finish);
        all(&rec, &model);
        let report = verify(&dir, &mut |_, _| {}).unwrap();
        prop_assert_eq!(&report.problems, &Vec::<String>::new());
        prop_assert_eq!(report.checkpoints as usize, model.committed.len());
        prop_assert_eq!(report.finished, finish);

        // The same without what only saves time.
        std::fs::remove_dir_all(dir.join("index")).unwrap();
        let rec = Recording::open(&dir).unwrap();
        all(&rec, &model);
        std::fs::remove_file(dir.join("checkpoints.tab")).unwrap();
        let rec = Recording::open(&dir).unwrap();
        all(&rec, &model);
        let report = verify(&dir, &mut |_, _| {}).unwrap();
        prop_assert_eq!(&report.problems, &Vec::<String>::new());
    }

    #[test]
    fn when_a_page_changed(pokes in prop::collection::vec((0u64..4, any::<u8>()), 1..60)) {
        let tmp = tempfile::tempdir().unwrap();
        let dir = tmp.path().join("r.still");
        let mut model = Model::new(&dir, small());
        let mut want = [const { Vec::new() }; 4];
        let mut last = [None; 4];
        for (i, (page, value)) in pokes.iter().enumerate() {
            model.step(&Step::Poke { page: *page, at: 8, value: *value, n: 1 }).unwrap();
            model.commit().unwrap();
            let p = *page as usize;
            if last[p] != Some(*value) {
                want[p].push(CheckpointId(i as u64));
                last[p] = Some(*value);
            }
        }
        model.finish().unwrap();
        let rec = Recording::open(&dir).unwrap();
        let end = CheckpointId(pokes.len() as u64);
        for page in 0..4u64 {
            let number = PageNumber(BASE + page);
            let found = rec.changes(SpaceId(0), number, CheckpointId(0)..end).unwrap();
            prop_assert_eq!(&found, &want[page as usize]);
            let part = rec.changes(SpaceId(0), number, CheckpointId(3)..CheckpointId(9)).unwrap();
            let some: Vec<_> = found.iter().filter(|c| (3..9).contains(&c.0)).copied().collect();
            prop_assert_eq!(part, some);
        }
    }
}
