use super::rules::Rule;
use super::*;
use stillframe_image::MappingKind;

fn map(start: u64, end: u64) -> Mapping {
    Mapping {
        start: start * 4096,
        end: end * 4096,
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

fn pages(ranges: &[Range<u64>]) -> Vec<(u64, u64)> {
    ranges
        .iter()
        .map(|r| (r.start / 4096, r.end / 4096))
        .collect()
}

/// What a look changed: addresses to be registered and captured in full, and addresses whose content
/// no longer exists.
#[derive(Debug, Default, PartialEq, Eq)]
struct Changes {
    gone: Vec<Range<u64>>,
    fresh: Vec<Range<u64>>,
}

fn look(layout: &mut Layout, maps: Vec<Mapping>, now: u64) -> Changes {
    let gone = layout.reconcile(maps, CheckpointId(now), 1 << 30);
    let pending = layout
        .extents()
        .iter()
        .filter(|e| e.tracking == Tracking::Pending);
    let fresh = pending.map(Extent::range).collect();
    Changes { gone, fresh }
}

fn tick(layout: &mut Layout, maps: Vec<Mapping>, now: u64) -> Changes {
    let changes = look(layout, maps, now);
    for range in changes.fresh.clone() {
        layout.track(range, &Tracking::Tracked);
    }
    changes
}

fn since(layout: &Layout) -> Vec<(u64, u64, u64)> {
    let image = layout.image();
    image
        .generations
        .iter()
        .map(|g| (g.start / 4096, g.end / 4096, g.since.0))
        .collect()
}

#[test]
fn the_first_look_finds_everything_fresh() {
    let mut layout = Layout::default();
    let changes = tick(&mut layout, vec![map(10, 20), map(30, 40)], 0);
    assert_eq!(pages(&changes.fresh), [(10, 20), (30, 40)]);
    assert!(changes.gone.is_empty());
    assert_eq!(since(&layout), [(10, 20, 0), (30, 40, 0)]);
}

#[test]
fn a_mapping_with_a_new_part_is_new_as_a_whole() {
    let mut layout = Layout::default();
    tick(&mut layout, vec![map(10, 20)], 0);
    let changes = tick(&mut layout, vec![map(8, 25)], 3);
    assert_eq!(pages(&changes.fresh), [(8, 25)]);
    assert_eq!(pages(&changes.gone), [(10, 20)]);
    assert_eq!(since(&layout), [(8, 25, 3)]);
}

#[test]
fn a_neighbour_that_does_not_merge_leaves_the_old_part_alone() {
    let mut layout = Layout::default();
    tick(&mut layout, vec![map(10, 20)], 0);
    let changes = tick(&mut layout, vec![map(10, 20), map(20, 25)], 3);
    assert_eq!(pages(&changes.fresh), [(20, 25)]);
    assert!(changes.gone.is_empty());
    assert_eq!(since(&layout), [(10, 20, 0), (20, 25, 3)]);
}

#[test]
fn a_stack_grows_and_stays() {
    let stack = |s, e| Mapping {
        kind: MappingKind::Stack,
        ..map(s, e)
    };
    let mut layout = Layout::default();
    tick(&mut layout, vec![stack(10, 20)], 0);
    let changes = tick(&mut layout, vec![stack(7, 20)], 3);
    assert_eq!(pages(&changes.fresh), [(7, 10)]);
    assert!(changes.gone.is_empty());
    assert_eq!(since(&layout), [(7, 10, 3), (10, 20, 0)]);
}

#[test]
fn shrinking_and_splitting() {
    let mut layout = Layout::default();
    tick(&mut layout, vec![map(10, 20)], 0);
    let changes = tick(&mut layout, vec![map(10, 12), map(15, 18)], 1);
    assert!(changes.fresh.is_empty());
    assert_eq!(pages(&changes.gone), [(12, 15), (18, 20)]);
    assert_eq!(since(&layout), [(10, 12, 0), (15, 18, 0)]);
}

#[test]
fn a_hole_filled_again_is_new_memory() {
    let mut layout = Layout::default();
    tick(&mut layout, vec![map(10, 20)], 0);
    tick(&mut layout, vec![map(10, 12), map(15, 20)], 1);
    let changes = tick(&mut layout, vec![map(10, 20)], 2);
    assert_eq!(pages(&changes.fresh), [(10, 20)]);
    assert_eq!(since(&layout), [(10, 20, 2)]);
}

#[test]
fn merging_neighbours_changes_nothing() {
    let mut layout = Layout::default();
    tick(&mut layout, vec![map(10, 15), map(15, 20)], 0);
    let changes = tick(&mut layout, vec![map(10, 20)], 1);
    assert_eq!(changes, Changes::default());
    assert_eq!(since(&layout), [(10, 20, 0)]);
}

#[test]
fn another_file_or_offset_at_the_same_place_is_new() {
    let file = |inode, offset| Mapping {
        inode,
        offset,
        device: (8, 1),
        kind: MappingKind::File,
        ..map(10, 20)
    };
    let mut layout = Layout::default();
    tick(&mut layout, vec![file(7, 0)], 0);
    assert_eq!(tick(&mut layout, vec![file(7, 0)], 1), Changes::default());
    let changes = tick(&mut layout, vec![file(7, 4096)], 2);
    assert_eq!(pages(&changes.fresh), [(10, 20)]);
    assert_eq!(pages(&changes.gone), [(10, 20)]);
    let changes = tick(&mut layout, vec![file(8, 4096)], 3);
    assert_eq!(pages(&changes.fresh), [(10, 20)]);
    // Trimmed at the front, the rest is still the same file at the same place.
    let mut trimmed = file(8, 4096 * 3);
    trimmed.start += 2 * 4096;
    let changes = tick(&mut layout, vec![trimmed], 4);
    assert!(changes.fresh.is_empty());
    assert_eq!(pages(&changes.gone), [(10, 12)]);
}

#[test]
fn renewed_memory_starts_a_generation() {
    let mut layout = Layout::default();
    tick(&mut layout, vec![map(10, 20)], 0);
    layout.renew(12 * 4096..14 * 4096, CheckpointId(5));
    assert_eq!(since(&layout), [(10, 12, 0), (12, 14, 5), (14, 20, 0)]);
}

#[test]
fn protection_changes_keep_memory_and_reserved_memory_becomes_fresh() {
    let none = |s, e| Mapping {
        read: false,
        write: false,
        ..map(s, e)
    };
    let mut layout = Layout::default();
    layout.reconcile(vec![map(10, 20), none(20, 90)], CheckpointId(0), 1 << 30);
    layout.track(10 * 4096..20 * 4096, &Tracking::Tracked);
    assert_eq!(layout.extents()[1].tracking, Tracking::Reserved);
    // Tracked memory made inaccessible stays tracked; reserved memory made writable is fresh.
    let changes = look(
        &mut layout,
        vec![none(10, 20), map(20, 30), none(30, 90)],
        1,
    );
    assert_eq!(pages(&changes.fresh), [(20, 30)]);
    assert_eq!(layout.extents()[0].tracking, Tracking::Tracked);
    assert_eq!(layout.extents()[1].tracking, Tracking::Pending);
}

#[test]
fn shared_memory_above_the_limit_is_named() {
    let shared = Mapping {
        shared: true,
        inode: 5,
        kind: MappingKind::SharedMemory,
        ..map(0, 1 << 20)
    };
    assert!(matches!(rule_for(&shared, 1 << 30), Rule::Omit(why) if why.contains("4096 MiB")));
    assert_eq!(rule_for(&shared, 1 << 32), Rule::Copy);
}
