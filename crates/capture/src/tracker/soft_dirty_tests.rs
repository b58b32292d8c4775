//! Over the fake of `stillframe_linux::softdirty`'s own tests, for the kernel at hand has no
//! soft-dirty bits. The scanner is a real one, over ourselves: at the fake's addresses nothing is
//! mapped, so to it all pages there are absent.
#![allow(
    clippy::single_range_in_vec_init,
    reason = "lists of one range are meant"
)]

use super::*;
use crate::plan::{Facts, Plan};
use crate::populated::Populated;
use fake::{Fake, Handle};
use stillframe_image::{Coverage, Mapping, PAGE_SIZE, PageNumber};
use stillframe_linux::Error;
use stillframe_linux::pagemap::Entry;
use stillframe_linux::proc::maps::MapsEntry;
use stillframe_linux::proc::smaps::SmapsEntry;

#[path = "../../../linux/src/softdirty_fake.rs"]
#[allow(dead_code, reason = "not all of it is needed here")]
mod fake;

const PAGE: u64 = PAGE_SIZE as u64;
const SHARED_LIMIT: u64 = 1 << 30;

fn p(first: u64, end: u64) -> Range<u64> {
    first * PAGE..end * PAGE
}

fn mapping(pages: Range<u64>) -> Mapping {
    Mapping {
        start: pages.start * PAGE,
        end: pages.end * PAGE,
        read: true,
        write: true,
        execute: false,
        shared: false,
        offset: 0,
        device: (0, 0),
        inode: 0,
        name: Vec::new(),
        kind: MappingKind::Anonymous,
        coverage: Coverage::Tracked,
        file: None,
    }
}

struct Rig {
    fake: Handle,
    tracker: SoftDirtyBits<Handle>,
    layout: Layout,
    now: u64,
}

impl Rig {
    fn new(mappings: Vec<Mapping>) -> Self {
        let fake = Handle::default();
        let scanner = Scanner::for_classifying(std::process::id()).unwrap();
        let tracker = SoftDirtyBits::new(SoftDirty::new(fake.clone()), scanner);
        let layout = Layout::new(tracker.grows_with_its_mapping());
        let mut rig = Self {
            fake,
            tracker,
            layout,
            now: 0,
        };
        for mapping in &mappings {
            rig.fake(|f| f.map(mapping.start / PAGE..mapping.end / PAGE, false));
        }
        rig.remap(mappings);
        rig
    }

    /// Pages 4 to 40, of which 8 to 20 have content.
    fn usual() -> Self {
        let mut rig = Self::new(vec![mapping(4..40)]);
        rig.fake(|f| (8..20).for_each(|page| f.store(page)));
        rig.find(&[]);
        rig
    }

    fn fake<R>(&mut self, act: impl FnOnce(&mut Fake) -> R) -> R {
        act(&mut self.fake.0.borrow_mut())
    }

    fn remap(&mut self, mappings: Vec<Mapping>) -> Vec<Range<u64>> {
        let now = CheckpointId(self.now);
        self.layout.reconcile(mappings, now, SHARED_LIMIT)
    }

    /// A look, as at a boundary.
    fn find(&mut self, skip: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut found = Found::default();
        let refused = self.tracker.register_pending(&mut self.layout).unwrap();
        assert_eq!(refused, []);
        let now = CheckpointId(self.now);
        self.tracker
            .find(&mut self.layout, skip, now, &mut found)
            .unwrap();
        assert_eq!(found.renewed, []);
        self.now += 1;
        found.dirty
    }

    fn check(&mut self, ranges: &[Range<u64>]) -> Vec<Range<u64>> {
        let mut written = Vec::new();
        self.tracker.check(ranges, &mut written).unwrap();
        written
    }
}

#[test]
fn new_memory_counts_as_written_as_a_whole_and_then_what_is_written() {
    let mut rig = Rig::new(vec![mapping(4..40)]);
    rig.fake(|f| f.store(9));
    assert_eq!(rig.find(&[]), [p(4, 40)]);
    assert_eq!(rig.layout.extents()[0].tracking, Tracking::Tracked);
    assert_eq!(rig.find(&[]), []);
    rig.fake(|f| {
        f.store(9);
        f.store(30);
    });
    assert_eq!(rig.find(&[]), [p(9, 10), p(30, 31)]);
}

#[test]
fn memory_that_comes_to_be_tracked_counts_as_written_though_its_bits_are_clear() {
    let mut rig = Rig::usual();
    rig.layout.renew(p(10, 12), CheckpointId(rig.now));
    assert_eq!(rig.find(&[]), [p(10, 12)]);
}

#[test]
fn pages_to_be_left_alone_are_told_once_they_are_not() {
    let mut rig = Rig::usual();
    rig.fake(|f| (9..15).for_each(|page| f.store(page)));
    let skip = [p(10, 11), p(13, 20)];
    assert_eq!(rig.find(&skip), [p(9, 10), p(11, 13)]);
    // Their bits are clear now, as are all.
    assert_eq!(rig.find(&skip), []);
    rig.fake(|f| f.store(17));
    assert_eq!(rig.find(&[p(13, 20)]), [p(10, 11)]);
    assert_eq!(rig.find(&[]), [p(13, 15), p(17, 18)]);
    assert_eq!(rig.find(&[]), []);
    // What is gone in between is owed to nobody.
    rig.fake(|f| f.store(10));
    rig.find(&skip);
    rig.fake(|f| f.unmap(10));
    rig.remap(vec![mapping(4..10), mapping(11..40)]);
    assert_eq!(rig.find(&[]), []);
}

#[test]
fn nothing_is_lost_when_a_look_fails() {
    let mut rig = Rig::usual();
    rig.fake(|f| {
        f.store(9);
        f.store(10);
    });
    rig.find(&[p(10, 11)]);
    rig.fake(|f| {
        f.store(12);
        f.fail = true;
    });
    let (now, mut found) = (CheckpointId(9), Found::default());
    let looked = rig.tracker.find(&mut rig.layout, &[], now, &mut found);
    assert!(looked.is_err());
    rig.fake(|f| f.fail = false);
    assert_eq!(rig.find(&[]), [p(10, 11), p(12, 13)]);
}

#[test]
fn a_check_tells_conflicts_and_leaves_them_to_the_next_look() {
    let mut rig = Rig::usual();
    rig.fake(|f| (8..12).for_each(|page| f.store(page)));
    assert_eq!(rig.find(&[]), [p(8, 12)]);
    rig.fake(|f| f.store(9));
    rig.fake(|f| f.store(15));
    assert_eq!(rig.check(&[p(8, 12)]), [p(9, 10)]);
    rig.fake(|f| f.throw_away(10));
    rig.fake(|f| f.unmap(11));
    assert_eq!(rig.check(&[p(8, 9), p(10, 12)]), [p(10, 12)]);
    assert_eq!(rig.find(&[]), [p(9, 12), p(15, 16)]);
}

#[test]
fn what_existed_only_while_it_was_copied_is_a_conflict_and_found() {
    let mut rig = Rig::usual();
    rig.fake(|f| f.store(30));
    rig.tracker.copied(&[p(30, 31)]);
    rig.fake(|f| f.throw_away(30));
    assert_eq!(rig.check(&[p(30, 31)]), [p(30, 31)]);
    assert_eq!(rig.find(&[]), [p(30, 31)]);
    assert_eq!(rig.find(&[]), []);
}

/// Unmapped and mapped again with equal attributes, between two looks.
#[test]
fn memory_that_replaced_its_like_becomes_zero_where_it_has_no_content() {
    let mut rig = Rig::usual();
    let before = rig.layout.image();
    rig.fake(|f| f.map(4..40, false));
    assert_eq!(rig.remap(vec![mapping(4..40)]), [], "it looks the same");
    assert_eq!(rig.check(&[p(8, 10), p(25, 26)]), [p(8, 10), p(25, 26)]);
    // All that had content, even where nothing was written since.
    let dirty = rig.find(&[]);
    assert_eq!(dirty, [p(8, 20)]);
    assert_eq!(rig.layout.image(), before);

    // What the recording had there becomes zero; nothing is copied, for nothing is there.
    let mut populated = Populated::default();
    (8..20).for_each(|page| populated.insert(PageNumber(page)));
    let mut plan = Plan::default();
    let mut facts = Facts {
        layout: &rig.layout,
        swapping: &mut || true,
        by_value: &|_| false,
        content: &|_| Vec::new(),
        look: rig.tracker.look_before_copying(),
    };
    let pieces = [p(8, 12), p(12, 20)];
    plan.add_dirty(&pieces, &mut facts, &mut populated, rig.tracker.scanner())
        .unwrap();
    assert_eq!(plan.pages(), 0);
    let zeros: Vec<_> = (8..20).map(PageNumber).collect();
    assert_eq!(plan.zeros, zeros);
    assert_eq!(rig.find(&[]), []);
}

#[test]
fn memory_that_replaced_its_like_and_was_written_is_copied() {
    let mut rig = Rig::usual();
    rig.fake(|f| {
        f.map(4..40, false);
        f.store(10);
        f.store(30);
    });
    assert_eq!(rig.find(&[]), [p(8, 20), p(30, 31)]);
}

#[test]
fn a_mapping_that_grew_stays_what_it_was() {
    let mut rig = Rig::usual();
    rig.fake(|f| {
        f.map(40..44, false);
        // The kernel makes one mapping of the two, and marks all of it.
        f.vmas.values_mut().for_each(|vma| vma.soft = true);
        f.store(41);
    });
    assert_eq!(rig.remap(vec![mapping(4..44)]), [], "nothing is gone");
    let dirty = rig.find(&[]);
    assert_eq!(dirty, [p(8, 20), p(40, 44)], "marked, or new");
    let generations = rig.layout.image().generations;
    let since: Vec<_> = generations.iter().map(|g| (g.start, g.since.0)).collect();
    assert_eq!(since, [(4 * PAGE, 0), (40 * PAGE, 1)]);
    assert_eq!(rig.find(&[]), []);
}

fn reserved(pages: Range<u64>) -> Mapping {
    Mapping {
        read: false,
        write: false,
        ..mapping(pages)
    }
}

#[test]
fn reserved_memory_is_tracked_once_it_has_content() {
    let mut rig = Rig::new(vec![reserved(4..40), mapping(50..52)]);
    assert_eq!(rig.find(&[]), [p(50, 52)]);
    rig.fake(|f| f.store(20));
    assert_eq!(rig.find(&[]), [p(4, 40)]);
    assert_eq!(rig.layout.extents()[0].tracking, Tracking::Tracked);
}

fn smaps(pages: Range<u64>, flags: VmFlags, resident: u64) -> SmapsEntry {
    let mapping = MapsEntry {
        start: pages.start * PAGE,
        end: pages.end * PAGE,
        ..MapsEntry::default()
    };
    SmapsEntry {
        mapping,
        flags,
        resident,
        ..SmapsEntry::default()
    }
}

#[test]
fn terabytes_of_reserved_memory_and_the_void_are_not_read_page_by_page() {
    let (low, high) = (1_u64 << 28, 1_u64 << 29);
    let mappings = vec![mapping(4..40), reserved(low..high)];
    let mut rig = Rig::new(vec![mapping(4..40)]);
    rig.remap(mappings);
    rig.fake(|f| f.smaps = vec![smaps(low..high, VmFlags::default(), 0)]);
    rig.find(&[]);
    rig.find(&[]);
    assert_eq!(rig.fake(|f| f.asked), 2 * 36);
    assert_eq!(rig.layout.extents()[1].tracking, Tracking::Reserved);
    rig.fake(|f| f.smaps = vec![smaps(low..high, VmFlags::default(), 4096)]);
    let refused = rig.tracker.register_pending(&mut rig.layout).unwrap();
    assert_eq!(refused, []);
    assert_eq!(rig.layout.extents()[1].tracking, Tracking::Tracked);
}

#[test]
fn hugetlb_pages_are_copied_every_time() {
    let huge = Mapping {
        inode: 7,
        kind: MappingKind::File,
        ..mapping(64..128)
    };
    let mut rig = Rig::new(vec![mapping(4..40), huge]);
    rig.fake(|f| f.smaps = vec![smaps(64..128, VmFlags::HUGETLB, 0)]);
    let refused = rig.tracker.register_pending(&mut rig.layout).unwrap();
    assert_eq!(refused.len(), 1);
    assert_eq!(refused[0].0, p(64, 128));
    let tracking: Vec<_> = rig.layout.extents().iter().map(|e| &e.tracking).collect();
    assert_eq!(tracking, [&Tracking::Tracked, &Tracking::Copied]);
    assert_eq!(rig.find(&[]), [p(4, 40)]);
}
