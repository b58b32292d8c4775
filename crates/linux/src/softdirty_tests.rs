//! Whether the fake does what Linux does is not tested where the kernel has no soft-dirty bits: then
//! the last test says so.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]

use super::*;
use fake::{Fake, Handle, of_file, random};
use std::collections::BTreeMap;

#[path = "softdirty_fake.rs"]
mod fake;

fn p(first: u64, end: u64) -> Range<u64> {
    first * PAGE..end * PAGE
}

fn found(tracker: &mut SoftDirty<Fake>) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    tracker.written_and_clear(&[p(0, 64)], &mut out).unwrap();
    out
}

fn tracker() -> SoftDirty<Fake> {
    let mut fake = Fake::default();
    fake.map(4..40, false);
    (8..20).for_each(|page| fake.store(page));
    SoftDirty::new(fake)
}

#[test]
fn what_was_written_is_found_once() {
    let mut t = tracker();
    assert_eq!(found(&mut t), [p(8, 20)], "at first all that exists");
    assert_eq!(found(&mut t), []);
    t.source.store(9);
    t.source.store(10);
    t.source.store(30);
    t.source.load(15);
    assert_eq!(found(&mut t), [p(9, 11), p(30, 31)]);
    assert_eq!(t.source.cleared, 3);
}

#[test]
fn the_bit_survives_swap_and_a_swapped_page_is_not_new() {
    let mut t = tracker();
    found(&mut t);
    t.source.store(9);
    t.source.swap_out(9);
    t.source.swap_out(12);
    assert_eq!(found(&mut t), [p(9, 10)]);
    t.source.load(9);
    assert_eq!(found(&mut t), []);
}

#[test]
fn what_was_thrown_away_is_found_even_if_it_was_read_again() {
    let mut t = tracker();
    found(&mut t);
    t.source.throw_away(9);
    t.source.throw_away(11);
    t.source.load(11);
    t.source.unmap(13);
    assert_eq!(found(&mut t), [p(9, 10), p(11, 12), p(13, 14)]);
    assert_eq!(found(&mut t), [p(11, 12)], "may be the page of zeroes");
}

#[test]
fn a_page_of_a_file_that_replaces_our_own_is_found() {
    let mut t = tracker();
    t.source.map(8..12, true);
    t.source.store(9);
    found(&mut t);
    t.source.throw_away(9);
    t.source.load(9);
    assert_eq!(found(&mut t), [p(9, 10)]);
    assert_eq!(found(&mut t), []);
}

#[test]
fn new_and_moved_mappings_are_found() {
    let mut t = tracker();
    found(&mut t);
    t.source.map(18..24, false);
    t.source.load(22);
    t.source.remap(8, 50);
    // 18 and 19 are gone; 20 to 23 had nothing and have nothing; 22 may be zeroes.
    assert_eq!(found(&mut t), [p(8, 9), p(18, 20), p(22, 23), p(50, 51)]);
}

#[test]
fn nothing_is_lost_when_clearing_fails() {
    let mut t = tracker();
    found(&mut t);
    t.source.store(9);
    t.source.throw_away(12);
    t.source.fail = true;
    assert!(t.written_and_clear(&[p(0, 64)], &mut Vec::new()).is_err());
    t.source.fail = false;
    assert_eq!(found(&mut t), [p(9, 10), p(12, 13)]);
}

#[test]
fn several_ranges_and_more_pages_than_one_reading_takes() {
    let mut fake = Fake::default();
    let far = 3 * CHUNK / PAGE;
    fake.map(far..far + 4, false);
    fake.map(10..20, false);
    let mut t = SoftDirty::new(fake);
    t.source.store(12);
    t.source.store(far + 1);
    let ranges = [p(10, 20), p(30, far + 4)];
    let mut out = Vec::new();
    t.written_and_clear(&ranges, &mut out).unwrap();
    assert_eq!(out, [p(12, 13), p(far + 1, far + 2)]);
    t.source.throw_away(far + 1);
    out.clear();
    t.written_and_clear(&ranges, &mut out).unwrap();
    assert_eq!(out, [p(far + 1, far + 2)]);
}

/// A copy that is only ever brought up to date where the tracker says so must equal the process at
/// every boundary, whatever the process does.
#[test]
fn a_mirror_kept_by_what_is_found_is_always_true() {
    for seed in 1..200_u64 {
        let mut random = random(seed);
        let mut t = SoftDirty::new(Fake::default());
        let mut mirror: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut out = Vec::new();
        for step in 0..60 {
            for _ in 0..random(8) {
                t.source.anything(&mut random);
            }
            out.clear();
            t.written_and_clear(&[p(0, 30)], &mut out).unwrap();
            assert!(out.windows(2).all(|w| w[0].end < w[1].start));
            for page in out.iter().flat_map(|r| r.start / PAGE..r.end / PAGE) {
                if let (Some(vma), Some(content)) = (t.source.vmas.get(&page), t.source.see(page)) {
                    mirror.insert(page, (vma.generation, content));
                }
            }
            for (page, vma) in &t.source.vmas {
                let plain = if vma.file { of_file(*page) } else { 0 };
                // What was recorded of an earlier mapping is not taken for this one's.
                let known = match mirror.get(page) {
                    Some((generation, content)) if *generation == vma.generation => *content,
                    _ => plain,
                };
                assert_eq!(
                    Some(known),
                    t.source.see(*page),
                    "seed {seed}, step {step}, page {page}"
                );
            }
        }
    }
}

/// Bits that do not behave: always set, or never.
struct Stuck(bool);

impl Source for Stuck {
    fn entries(&mut self, _: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
        out.clear();
        out.push(Entry(1 << 63 | 1 << 56 | u64::from(self.0) << 55));
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        Ok(())
    }

    fn smaps(&mut self) -> Result<Vec<SmapsEntry>> {
        Ok(Vec::new())
    }
}

#[test]
fn a_kernel_that_shows_the_bits_always_or_never_has_none() {
    for set in [false, true] {
        assert!(!probe(&mut Stuck(set), p(0, 1), || {}).unwrap());
    }
    let fake = Handle::default();
    fake.0.borrow_mut().map(3..4, false);
    let write = || fake.0.borrow_mut().store(3);
    assert!(probe(&mut fake.clone(), p(3, 4), write).unwrap());
}

fn doubtful(tracker: &mut SoftDirty<Fake>) -> Vec<Range<u64>> {
    let mut out = Vec::new();
    tracker.written(&[p(0, 64)], &mut out).unwrap();
    out
}

#[test]
fn a_check_tells_what_is_not_sure_and_changes_nothing() {
    let mut t = tracker();
    found(&mut t);
    assert_eq!(doubtful(&mut t), []);
    t.source.store(9);
    t.source.throw_away(11);
    t.source.unmap(13);
    t.source.swap_out(15);
    t.source.store(30);
    let all = [p(9, 10), p(11, 12), p(13, 14), p(30, 31)];
    assert_eq!(doubtful(&mut t), all);
    assert_eq!(doubtful(&mut t), all, "again");
    assert_eq!(found(&mut t), all, "and by the look that follows");
    assert_eq!(doubtful(&mut t), []);
}

#[test]
fn a_mapping_that_replaced_another_is_doubtful_as_a_whole_until_the_next_look() {
    let mut t = tracker();
    found(&mut t);
    // Pages 18 and 19 had content, 20 to 23 had none, and it is all the same to a check.
    t.source.map(18..24, false);
    assert_eq!(doubtful(&mut t), [p(18, 24)]);
    assert_eq!(found(&mut t), [p(18, 20)], "what had content has none");
    assert_eq!(doubtful(&mut t), []);
}

#[test]
fn a_page_that_was_there_only_while_it_was_copied_is_found() {
    let mut t = tracker();
    found(&mut t);
    // It had nothing at the look. It is written, copied, and thrown away.
    t.source.store(30);
    t.copied(&[p(30, 31)]);
    t.copied(&[p(29, 30)]);
    t.source.throw_away(30);
    assert_eq!(doubtful(&mut t), [p(29, 31)], "not what it was at the look");
    assert_eq!(found(&mut t), [p(29, 31)], "not what was copied");
    assert_eq!(found(&mut t), []);
}

/// What comparing the mappings at two looks tells: a page that is unmapped now, or of a file and was
/// not, or the reverse, is other memory. That it is, though it looks the same, it does not tell.
fn forget_other_sorts(
    fake: &Fake,
    sorts: &mut BTreeMap<u64, bool>,
    mirror: &mut BTreeMap<u64, u64>,
) {
    let now: BTreeMap<u64, bool> = fake.vmas.iter().map(|(n, vma)| (*n, vma.file)).collect();
    mirror.retain(|page, _| sorts.get(page) == now.get(page) && now.contains_key(page));
    *sorts = now;
}

/// Pages are copied while the process goes on. What the check lets pass is what the page was at the
/// look before; and a mirror made of all copies, good or bad, is put right by the next look.
#[test]
fn copies_of_a_running_process_are_right_or_reported() {
    let (mut passed, mut refused) = (0, 0);
    for seed in 1..400_u64 {
        let mut random = random(seed);
        let mut t = SoftDirty::new(Fake::default());
        let mut mirror: BTreeMap<u64, u64> = BTreeMap::new();
        let mut sorts: BTreeMap<u64, bool> = BTreeMap::new();
        let mut out = Vec::new();
        for step in 0..40 {
            (0..random(6)).for_each(|_| t.source.anything(&mut random));
            out.clear();
            t.written_and_clear(&[p(0, 30)], &mut out).unwrap();
            forget_other_sorts(&t.source, &mut sorts, &mut mirror);
            let pages = |ranges: &[Range<u64>]| -> Vec<u64> {
                let pages = ranges.iter().flat_map(|r| r.start / PAGE..r.end / PAGE);
                pages.collect()
            };
            let seen: BTreeMap<u64, Option<u64>> = (0..30).map(|n| (n, t.source.see(n))).collect();
            // In the order of address, or another, as two lists of pages are copied.
            let mut dirty = pages(&out);
            if random(2) == 0 {
                dirty.reverse();
            }
            let mut copies = BTreeMap::new();
            for page in dirty {
                (0..random(3)).for_each(|_| t.source.anything(&mut random));
                let content = t.source.see(page);
                copies.insert(page, content);
                t.copied(&[p(page, page + 1)]);
                // To read a page that does not exist makes it one of zeroes, or the file's.
                t.source.load(page);
            }
            (0..random(3)).for_each(|_| t.source.anything(&mut random));
            out.clear();
            t.written(&[p(0, 30)], &mut out).unwrap();
            let doubtful = pages(&out);
            for (page, content) in &copies {
                if doubtful.contains(page) {
                    refused += 1;
                } else {
                    passed += 1;
                    assert_eq!(
                        *content, seen[page],
                        "seed {seed}, step {step}, page {page}"
                    );
                }
            }
            for (page, content) in copies {
                mirror.insert(page, content.unwrap_or(0));
            }
            (0..random(3)).for_each(|_| t.source.anything(&mut random));
            out.clear();
            t.written_and_clear(&[p(0, 30)], &mut out).unwrap();
            forget_other_sorts(&t.source, &mut sorts, &mut mirror);
            for page in pages(&out) {
                if let Some(content) = t.source.see(page) {
                    mirror.insert(page, content);
                }
            }
            for (page, vma) in &t.source.vmas {
                let plain = if vma.file { of_file(*page) } else { 0 };
                assert_eq!(
                    Some(mirror.get(page).copied().unwrap_or(plain)),
                    t.source.see(*page),
                    "seed {seed}, step {step}, page {page}"
                );
            }
        }
    }
    assert!(passed > 1000 && refused > 1000, "{passed} {refused}");
}

/// The only test that asks the kernel.
#[test]
fn on_this_kernel() {
    if !SoftDirty::supported().unwrap() {
        // Not by eprintln!, whose output is kept back when a test passes.
        let _ = io::stderr().write_all(
            b"\nNOT TESTED HERE: this kernel has no soft-dirty bits (CONFIG_MEM_SOFT_DIRTY). \
              The soft-dirty tracker was tested against a fake only.\n",
        );
        return;
    }
    let mut room = vec![1_u8; 9 * PAGE_SIZE];
    let skip = room.as_ptr().align_offset(PAGE_SIZE).min(PAGE_SIZE);
    let start = room[skip..].as_ptr().addr() as u64;
    let all = [start..start + 8 * PAGE];
    let mut t = SoftDirty::open(std::process::id()).unwrap();
    let mut out = Vec::new();
    t.written_and_clear(&all, &mut out).unwrap();
    out.clear();
    room[skip + 3 * PAGE_SIZE] = 2;
    black_box(&mut room);
    t.written_and_clear(&all, &mut out).unwrap();
    assert_eq!(out, [start + 3 * PAGE..start + 4 * PAGE]);
}

#[test]
#[ignore = "prints measurements: cargo test --release -- --ignored --nocapture soft"]
fn measure_reading() {
    let room = vec![1_u8; 1 << 30];
    let start = room.as_ptr().addr() as u64 / PAGE * PAGE;
    let mut t = SoftDirty::open(std::process::id()).unwrap();
    let mut out = Vec::new();
    let mut times: Vec<_> = (0..9)
        .map(|_| {
            out.clear();
            let begun = std::time::Instant::now();
            let all = start..start + (1 << 30);
            t.written_and_clear(&[all], &mut out).unwrap();
            begun.elapsed()
        })
        .collect();
    times.sort();
    println!("reading the entries of 1 GiB: {:?} (median)", times[4]);
    black_box(room);
}
