//! The fake does what Linux does with soft-dirty bits, as far as it matters here (fs/proc/task_mmu.c,
//! mm/memory.c, mm/mremap.c of Linux 6.1). Whether it does is not tested where the kernel has no
//! such bits: then the last test says so.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]

use super::*;
use std::collections::BTreeMap;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Place {
    /// In memory, ours alone.
    Memory,
    /// In memory, mapped by a forked child as well.
    SharedByFork,
    /// The shared page of zeroes.
    Zeroes,
    /// The page of the file.
    File,
    Swap,
}

#[derive(Clone, Copy, Debug)]
struct Pte {
    place: Place,
    soft: bool,
}

/// A mapping's page: of a file or not, whether the mapping has VM_SOFTDIRTY, and which one it is.
#[derive(Clone, Copy, Debug)]
struct Vma {
    file: bool,
    soft: bool,
    generation: u64,
}

/// A fake process of a few pages, by page number.
#[derive(Debug, Default)]
struct Fake {
    vmas: BTreeMap<u64, Vma>,
    ptes: BTreeMap<u64, Pte>,
    content: BTreeMap<u64, u64>,
    cleared: u32,
    fail: bool,
    writes: u64,
    generation: u64,
}

/// What a file's page holds.
const fn of_file(page: u64) -> u64 {
    1_000_000 + page
}

impl Fake {
    fn map(&mut self, pages: Range<u64>, file: bool) {
        self.generation += 1;
        let vma = Vma {
            file,
            soft: true,
            generation: self.generation,
        };
        for page in pages {
            self.unmap(page);
            self.vmas.insert(page, vma);
        }
    }

    fn unmap(&mut self, page: u64) {
        self.vmas.remove(&page);
        self.ptes.remove(&page);
        self.content.remove(&page);
    }

    /// What a load sees; loads change no state of ours that matters but by [`Fake::load`].
    fn see(&self, page: u64) -> Option<u64> {
        let vma = self.vmas.get(&page)?;
        let plain = if vma.file { of_file(page) } else { 0 };
        Some(self.content.get(&page).copied().unwrap_or(plain))
    }

    fn load(&mut self, page: u64) {
        let Some(vma) = self.vmas.get(&page) else {
            return;
        };
        let fresh = Pte {
            place: if vma.file { Place::File } else { Place::Zeroes },
            soft: false,
        };
        let pte = self.ptes.entry(page).or_insert(fresh);
        if pte.place == Place::Swap {
            pte.place = Place::Memory;
        }
    }

    fn store(&mut self, page: u64) {
        if self.vmas.contains_key(&page) {
            self.writes += 1;
            self.content.insert(page, self.writes);
            let place = Place::Memory;
            self.ptes.insert(page, Pte { place, soft: true });
        }
    }

    fn throw_away(&mut self, page: u64) {
        self.ptes.remove(&page);
        self.content.remove(&page);
    }

    fn swap_out(&mut self, page: u64) {
        if let Some(pte) = self.ptes.get_mut(&page)
            && pte.place == Place::Memory
        {
            pte.place = Place::Swap;
        }
    }

    fn fork(&mut self) {
        for pte in self.ptes.values_mut() {
            if pte.place == Place::Memory {
                pte.place = Place::SharedByFork;
            }
        }
    }

    fn child_ends(&mut self) {
        for pte in self.ptes.values_mut() {
            if pte.place == Place::SharedByFork {
                pte.place = Place::Memory;
            }
        }
    }

    /// mremap: the page tables move, all marked, and so is the new mapping.
    fn remap(&mut self, from: u64, to: u64) {
        let Some(vma) = self.vmas.remove(&from).filter(|vma| !vma.file) else {
            return;
        };
        self.unmap(to);
        self.generation += 1;
        let moved = Vma {
            soft: true,
            generation: self.generation,
            ..vma
        };
        self.vmas.insert(to, moved);
        if let Some(pte) = self.ptes.remove(&from) {
            self.ptes.insert(to, Pte { soft: true, ..pte });
        }
        if let Some(content) = self.content.remove(&from) {
            self.content.insert(to, content);
        }
    }
}

impl Source for Fake {
    fn entries(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
        out.clear();
        for page in range.start / PAGE..range.end / PAGE {
            let soft = self.vmas.get(&page).is_some_and(|vma| vma.soft);
            let mut bits = u64::from(soft) << 55;
            if let Some(pte) = self.ptes.get(&page) {
                bits |= u64::from(pte.soft) << 55;
                bits |= match pte.place {
                    Place::Memory => 1 << 63 | 1 << 56,
                    Place::SharedByFork | Place::Zeroes => 1 << 63,
                    Place::File => 1 << 63 | 1 << 61,
                    Place::Swap => 1 << 62,
                };
            }
            out.push(Entry(bits));
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        if self.fail {
            return Err(Error::ProcessGone(1));
        }
        self.cleared += 1;
        self.vmas.values_mut().for_each(|vma| vma.soft = false);
        self.ptes.values_mut().for_each(|pte| pte.soft = false);
        Ok(())
    }
}

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
        let mut state = seed;
        let mut random = |n: u64| {
            state = state
                .wrapping_mul(6_364_136_223_846_793_005)
                .wrapping_add(1_442_695_040_888_963_407);
            (state >> 33) % n
        };
        let mut t = SoftDirty::new(Fake::default());
        let mut mirror: BTreeMap<u64, (u64, u64)> = BTreeMap::new();
        let mut out = Vec::new();
        for step in 0..60 {
            for _ in 0..random(8) {
                let page = random(24);
                let fake = &mut t.source;
                match random(12) {
                    0 => fake.map(page..page + 1 + random(4), false),
                    1 => fake.map(page..page + 1 + random(4), true),
                    2 => fake.unmap(page),
                    3 => fake.throw_away(page),
                    4 => fake.swap_out(page),
                    5 => fake.fork(),
                    6 => fake.child_ends(),
                    7 => fake.remap(page, (page + 1 + random(20)) % 24),
                    8 | 9 => fake.load(page),
                    _ => fake.store(page),
                }
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
}

#[test]
fn a_kernel_that_shows_the_bits_always_or_never_has_none() {
    for set in [false, true] {
        assert!(!probe(&mut Stuck(set), p(0, 1), || {}).unwrap());
    }
    let fake = std::cell::RefCell::new(Fake::default());
    fake.borrow_mut().map(3..4, false);
    struct Through<'a>(&'a std::cell::RefCell<Fake>);
    impl Source for Through<'_> {
        fn entries(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
            self.0.borrow_mut().entries(range, out)
        }
        fn clear(&mut self) -> Result<()> {
            self.0.borrow_mut().clear()
        }
    }
    let write = || fake.borrow_mut().store(3);
    assert!(probe(&mut Through(&fake), p(3, 4), write).unwrap());
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
