//! The kernel's behaviour that tracking stands on, checked on this kernel. These tests work on our
//! own memory, or on a forked child where layout must not change under them.
#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

use super::*;
use crate::copy::{Copier, PageArena};
use crate::test_support::{Map, PAGE, Steps, Tracker};
use crate::uffd::{Registration, Userfaultfd};
use std::ops::Range;
use std::ptr;

fn pages_in(ranges: &[Range<u64>]) -> u64 {
    ranges.iter().map(|r| (r.end - r.start) / PAGE as u64).sum()
}

#[test]
fn a_write_is_found_once_and_a_read_never() {
    let map = Map::anonymous(64);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    assert_eq!(map.read(5), 1);
    assert!(t.written(map.range()).is_empty());
    map.write(7, 2);
    map.write(8, 2);
    map.write(40, 2);
    let mut seen = Vec::new();
    assert_eq!(
        t.scanner.written(map.range(), &mut seen).unwrap(),
        ScanEnd::Complete
    );
    assert_eq!(
        seen,
        [map.pages(7..9), map.page(40)],
        "a look changes nothing"
    );
    assert_eq!(t.written(map.range()), [map.pages(7..9), map.page(40)]);
    assert!(t.written(map.range()).is_empty());
    assert_eq!(map.read(40), 2);
}

#[test]
fn first_write_to_a_page_that_did_not_exist_is_found() {
    let map = Map::aligned(4 << 20);
    let mut t = Tracker::new();
    t.track(&map);
    map.write(3, 9);
    map.write(700, 9);
    let found = t.written(map.range());
    for page in [3, 700] {
        assert!(
            found
                .iter()
                .any(|r| r.start <= map.page(page).start && r.end >= map.page(page).end)
        );
    }
    // The empty rest of the page tables that came to be may be reported, once.
    assert!(t.written(map.range()).is_empty());
    map.write(4, 9);
    assert_eq!(t.written(map.range()), [map.page(4)]);
}

#[test]
fn many_scattered_pages_pass_through_small_buffers() {
    // More ranges than our buffer and many times the kernel's bounce buffer.
    let pages = 40_000;
    let map = Map::anonymous(pages);
    map.advise(0..pages, libc::MADV_NOHUGEPAGE);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    for page in (0..pages).step_by(2) {
        map.write(page, 2);
    }
    let found = t.written(map.range());
    assert_eq!(found.len(), pages / 2);
    for (index, range) in found.iter().enumerate() {
        assert_eq!(*range, map.page(index * 2));
    }
    assert!(t.written(map.range()).is_empty());
}

#[test]
fn nothing_is_lost_when_an_unregistered_mapping_is_met() {
    // registered | unregistered | registered, as one stretch of addresses.
    for dirty_pages in [3, 1500] {
        let map = Map::anonymous(6000);
        map.advise(0..6000, libc::MADV_NOHUGEPAGE);
        map.fill(1);
        let mut t = Tracker::new();
        for part in [map.pages(0..4000), map.pages(4001..6000)] {
            assert_eq!(t.uffd.register(part).unwrap(), Registration::Registered);
        }
        t.written(map.pages(0..4000));
        t.written(map.pages(4001..6000));

        for page in 0..dirty_pages {
            map.write(page * 2, 2);
        }
        map.write(5000, 2);
        let mut out = Vec::new();
        let end = t
            .scanner
            .written_and_protect(map.range(), &mut out)
            .unwrap();
        assert_eq!(
            end,
            ScanEnd::Unregistered {
                at: map.page(4000).start
            }
        );
        let expected: Vec<_> = (0..dirty_pages).map(|page| map.page(page * 2)).collect();
        assert_eq!(out, expected, "found before the failure, and kept");
        assert!(
            t.written(map.pages(0..4000)).is_empty(),
            "they were protected"
        );
        out.clear();
        let rest = map.page(4001).start..map.range().end;
        assert_eq!(
            t.scanner.written_and_protect(rest, &mut out).unwrap(),
            ScanEnd::Complete
        );
        assert_eq!(out, [map.page(5000)]);
    }
}

#[test]
fn an_unregistered_mapping_right_at_the_start_is_told() {
    let map = Map::anonymous(4);
    let mut scanner = Scanner::open(std::process::id()).unwrap();
    let mut out = Vec::new();
    let end = scanner.written_and_protect(map.range(), &mut out).unwrap();
    assert_eq!(end, ScanEnd::Unregistered { at: map.start() });
    assert!(out.is_empty());
}

#[test]
fn memory_without_page_structures_is_found_as_unregistered() {
    // The vvar area fails the check and is invisible to scans without it: the bisection.
    let maps = crate::proc::maps::Maps::open(std::process::id()).unwrap();
    let vvar = maps
        .entries()
        .iter()
        .find(|e| e.name.starts_with(b"[vvar"))
        .unwrap();
    let mut scanner = Scanner::open(std::process::id()).unwrap();
    let mut out = Vec::new();
    let before = maps
        .entries()
        .iter()
        .take_while(|e| e.end <= vvar.start)
        .last()
        .unwrap()
        .end;
    let end = scanner
        .written_and_protect(before..vvar.end, &mut out)
        .unwrap();
    assert_eq!(end, ScanEnd::Unregistered { at: vvar.start });
}

#[test]
fn a_range_without_mappings_is_complete() {
    let mut scanner = Scanner::open(std::process::id()).unwrap();
    let mut out = Vec::new();
    assert_eq!(
        scanner.written_and_protect(0..0x1000, &mut out).unwrap(),
        ScanEnd::Complete
    );
    assert!(out.is_empty());
}

#[test]
fn new_mappings_are_not_registered_also_beside_old_ones() {
    let map = Map::anonymous(8);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    // Over the middle: MAP_FIXED.
    // SAFETY: replaces two pages of our own mapping, which nothing refers to.
    let over = unsafe {
        libc::mmap(
            map.base.add(2 * PAGE).cast(),
            2 * PAGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED,
            -1,
            0,
        )
    };
    assert_ne!(over, libc::MAP_FAILED);
    map.write(1, 2);
    map.write(2, 2);
    let mut out = Vec::new();
    let end = t
        .scanner
        .written_and_protect(map.range(), &mut out)
        .unwrap();
    assert_eq!(
        end,
        ScanEnd::Unregistered {
            at: map.page(2).start
        }
    );
    assert_eq!(out, [map.page(1)]);
}

#[test]
fn mremap_loses_the_registration() {
    let map = Map::anonymous(4);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    // SAFETY: moves our mapping, which nothing refers to.
    let moved =
        unsafe { libc::mremap(map.base.cast(), map.length, 64 * PAGE, libc::MREMAP_MAYMOVE) };
    assert_ne!(moved, libc::MAP_FAILED);
    std::mem::forget(map);
    let moved = Map {
        base: moved.cast(),
        length: 64 * PAGE,
    };
    let mut out = Vec::new();
    let end = t
        .scanner
        .written_and_protect(moved.range(), &mut out)
        .unwrap();
    // Grown in place or moved: either way a part is not registered.
    assert!(matches!(end, ScanEnd::Unregistered { .. }), "{end:?}");
}

#[test]
fn dontneed_within_a_page_table_is_reported_as_written() {
    let map = Map::aligned(4 << 20);
    map.advise(0..1024, libc::MADV_NOHUGEPAGE);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    map.advise(3..5, libc::MADV_DONTNEED);
    assert_eq!(t.written(map.range()), [map.pages(3..5)]);
    assert_eq!(map.read(3), 0);
}

#[test]
fn dontneed_of_whole_page_tables_is_reported_as_written() {
    for advice in [libc::MADV_NOHUGEPAGE, libc::MADV_HUGEPAGE] {
        let map = Map::aligned(6 << 20);
        map.advise(0..1536, advice);
        map.fill(1);
        let mut t = Tracker::new();
        t.track(&map);
        assert!(t.holes(map.range()).is_empty());
        map.advise(512..1024, libc::MADV_DONTNEED);
        assert_eq!(t.holes(map.range()), [map.pages(512..1024)]);
        assert_eq!(t.written(map.range()), [map.pages(512..1024)]);
        assert_eq!(map.read(600), 0);
    }
}

#[test]
fn what_is_still_protected_is_neither_written_nor_gone_nor_replaced() {
    let map = Map::anonymous(64);
    map.advise(0..64, libc::MADV_NOHUGEPAGE);
    map.fill(1);
    map.advise(60..62, libc::MADV_DONTNEED);
    let mut t = Tracker::new();
    t.track(&map);
    let mut seen = Vec::new();
    t.scanner.protected(map.range(), &mut seen).unwrap();
    assert_eq!(seen, [map.range()], "a page that is not there, too");
    map.write(3, 2);
    map.write(10, 2);
    map.advise(20..24, libc::MADV_DONTNEED);
    let at = |page: usize| map.page(page).start as *mut libc::c_void;
    // SAFETY: the pages lie in our own mapping, to which no reference exists, and are not touched
    // again but through the new mapping put in their place.
    unsafe {
        assert_eq!(libc::munmap(at(10), 4 * PAGE), 0);
        let prot = libc::PROT_READ | libc::PROT_WRITE;
        let flags = libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_FIXED;
        assert_eq!(libc::mmap(at(30), PAGE, prot, flags, -1, 0), at(30));
    }
    seen.clear();
    t.scanner.protected(map.range(), &mut seen).unwrap();
    let rest = [0..3, 4..10, 14..20, 24..30, 31..64].map(|pages| map.pages(pages));
    assert_eq!(seen, rest);
    // Another thread may have been given the hole: it is not ours to unmap.
    std::mem::forget(map);
}

#[test]
fn scanning_for_populated_pages_leaves_the_void_alone() {
    let pages = (1 << 30) / PAGE;
    let map = Map::new(
        1 << 30,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_NORESERVE,
        -1,
    );
    map.advise(0..pages, libc::MADV_NOHUGEPAGE);
    map.write(1000, 1);
    let mut t = Tracker::new();
    assert_eq!(
        t.uffd.register(map.range()).unwrap(),
        Registration::Registered
    );
    let mut populated = |expected: &[Range<u64>]| {
        let mut out = Vec::new();
        assert_eq!(
            t.scanner
                .populated_and_protect(map.range(), &mut out)
                .unwrap(),
            ScanEnd::Complete
        );
        assert_eq!(out, expected);
    };
    populated(&[map.page(1000)]);
    populated(&[]);
    map.write(1000, 2);
    map.write(1001, 2);
    map.write(200_000, 2);
    populated(&[map.pages(1000..1002), map.page(200_000)]);
    populated(&[]);
    map.advise(1000..1001, libc::MADV_DONTNEED);
    populated(&[]);
    let holes = t.holes(map.range());
    assert_eq!(pages_in(&holes), pages as u64 - 2);
    assert!(holes.iter().any(|r| r.contains(&map.page(1000).start)));
}

#[test]
fn mprotect_round_trips_stay_tracked() {
    let map = Map::anonymous(8);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    map.protect(0..8, libc::PROT_READ);
    assert!(t.written(map.range()).is_empty());
    map.protect(0..8, libc::PROT_READ | libc::PROT_WRITE);
    map.write(6, 3);
    assert_eq!(t.written(map.range()), [map.page(6)]);
    // Registered while it cannot be accessed at all.
    map.protect(0..8, libc::PROT_NONE);
    t.track(&map);
    map.protect(0..8, libc::PROT_READ | libc::PROT_WRITE);
    map.write(2, 3);
    assert_eq!(t.written(map.range()), [map.page(2)]);
}

#[test]
fn kernel_writes_are_tracked() {
    let map = Map::anonymous(8);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    let zero = std::fs::File::open("/dev/zero").unwrap();
    // SAFETY: reads into one page of our mapping.
    let read = unsafe {
        libc::read(
            std::os::fd::AsRawFd::as_raw_fd(&zero),
            map.base.add(4 * PAGE).cast(),
            PAGE,
        )
    };
    assert_eq!(read, PAGE as isize);
    assert_eq!(t.written(map.range()), [map.page(4)]);
}

#[test]
fn writeprotect_of_single_pages() {
    let map = Map::anonymous(8);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    map.write(1, 2);
    map.write(2, 2);
    t.uffd.write_protect(map.page(1), true).unwrap();
    assert_eq!(t.written(map.range()), [map.page(2)]);
    t.uffd.write_protect(map.page(5), false).unwrap();
    assert_eq!(t.written(map.range()), [map.page(5)]);
    t.uffd.unregister(map.range()).unwrap();
    assert_eq!(
        t.uffd.write_protect(map.page(1), true).unwrap_err().errno(),
        Some(libc::ENOENT)
    );
}

#[test]
fn huge_pages_are_split_on_write_and_tracked_by_small_ones() {
    let map = Map::aligned(4 << 20);
    map.advise(0..1024, libc::MADV_HUGEPAGE);
    map.fill(1);
    let mut t = Tracker::new();
    let mut regions = Vec::new();
    t.scanner.classify(map.range(), &mut regions).unwrap();
    let huge = regions
        .iter()
        .any(|r| r.categories.contains(Categories::HUGE));
    println!("transparent huge pages: {huge}");
    t.track(&map);
    map.write(100, 2);
    map.write(900, 2);
    assert_eq!(t.written(map.range()), [map.page(100), map.page(900)]);
}

#[test]
fn which_mappings_can_be_registered() {
    let t = Tracker::new();
    let read_write = libc::PROT_READ | libc::PROT_WRITE;
    let outcome = |map: &Map| t.uffd.register(map.range()).unwrap();

    let file = tempfile::tempfile().unwrap();
    file.set_len(4 * PAGE as u64).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let private = Map::new(4 * PAGE, read_write, libc::MAP_PRIVATE, fd);
    assert_eq!(outcome(&private), Registration::Registered);
    let shared = Map::new(4 * PAGE, read_write, libc::MAP_SHARED, fd);
    assert_eq!(outcome(&shared), Registration::Registered);

    let readonly = std::fs::File::open("/proc/self/exe").unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&readonly);
    let readonly = Map::new(4 * PAGE, libc::PROT_READ, libc::MAP_SHARED, fd);
    assert_eq!(outcome(&readonly), Registration::Forbidden);

    let anonymous_shared = Map::new(
        4 * PAGE,
        read_write,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        -1,
    );
    assert_eq!(outcome(&anonymous_shared), Registration::Registered);
    let other = Userfaultfd::for_self().unwrap();
    assert_eq!(
        other.register(anonymous_shared.range()).unwrap(),
        Registration::Busy
    );

    let maps = crate::proc::maps::Maps::open(std::process::id()).unwrap();
    for name in [&b"[vdso]"[..], b"[vvar]"] {
        let entry = maps.entries().iter().find(|e| e.name == name).unwrap();
        assert_eq!(
            t.uffd.register(entry.start..entry.end).unwrap(),
            Registration::NotSupported
        );
    }
}

#[test]
fn classification_tells_present_zero_file_and_guard_pages() {
    let map = Map::anonymous(64);
    map.advise(0..64, libc::MADV_NOHUGEPAGE);
    map.write(10, 1);
    assert_eq!(map.read(20), 0);
    let guarded = map.advise(30..32, 102) == 0; // MADV_GUARD_INSTALL
    let mut scanner = Scanner::open(std::process::id()).unwrap();
    let mut regions = Vec::new();
    scanner.classify(map.range(), &mut regions).unwrap();
    let at = |page: usize| {
        let page = map.page(page);
        regions
            .iter()
            .find(|r| r.start <= page.start && page.end <= r.end)
            .unwrap()
            .categories
    };
    let own = at(10);
    assert!(own.contains(Categories::PRESENT.with(Categories::WRITTEN)));
    assert!(
        !own.intersects(
            Categories::ZERO
                .with(Categories::FILE)
                .with(Categories::TRACKED)
        )
    );
    assert!(at(20).contains(Categories::PRESENT.with(Categories::ZERO)));
    assert!(!at(40).intersects(Categories::PRESENT.with(Categories::SWAPPED)));
    if guarded && scanner.known().contains(Categories::GUARD) {
        assert!(at(30).contains(Categories::GUARD));
    }

    let file = tempfile::tempfile().unwrap();
    file.set_len(4 * PAGE as u64).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let private = Map::new(
        4 * PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_PRIVATE,
        fd,
    );
    private.read(0);
    private.write(1, 1);
    regions.clear();
    scanner.classify(private.range(), &mut regions).unwrap();
    let clean = regions
        .iter()
        .find(|r| r.start == private.start())
        .unwrap()
        .categories;
    assert!(clean.contains(Categories::PRESENT.with(Categories::FILE)));
    let dirty = regions
        .iter()
        .find(|r| r.start <= private.page(1).start && private.page(1).end <= r.end)
        .unwrap()
        .categories;
    assert!(dirty.contains(Categories::PRESENT) && !dirty.contains(Categories::FILE));

    let mut present = Vec::new();
    scanner
        .classify_any(map.range(), Categories::PRESENT, &mut present)
        .unwrap();
    assert_eq!(
        present
            .iter()
            .map(|r| (r.end - r.start) / PAGE as u64)
            .sum::<u64>(),
        2
    );
}

#[test]
fn the_plain_table_agrees() {
    let map = Map::anonymous(8);
    map.advise(0..8, libc::MADV_NOHUGEPAGE);
    map.write(2, 1);
    map.write(3, 1);
    let mut t = Tracker::new();
    t.track(&map);
    map.write(3, 2);
    let mut entries = Vec::new();
    Entries::open(std::process::id())
        .unwrap()
        .read(map.range(), &mut entries)
        .unwrap();
    assert_eq!(entries.len(), 8);
    assert!(entries[2].present() && entries[2].write_protected());
    assert!(entries[3].present() && !entries[3].write_protected());
    assert!(!entries[2].file_or_shared());
    assert!(!entries[5].present());
}

/// Regions with only what the plain table can tell, joined anew.
fn told(regions: &[Region], known: Categories) -> Vec<Region> {
    let mut out: Vec<Region> = Vec::new();
    for region in regions {
        let categories = Categories(region.categories.0 & known.0);
        match out.last_mut() {
            Some(last) if last.end == region.start && last.categories == categories => {
                last.end = region.end;
            }
            _ => out.push(Region {
                categories,
                ..*region
            }),
        }
    }
    out
}

/// Classifies the memory by the scan and by the table; they must say the same.
fn both_ways(range: Range<u64>) -> Vec<Region> {
    let pid = std::process::id();
    let mut scan = Scanner::open(pid).unwrap();
    let mut table = Scanner::by_table(pid).unwrap();
    let known = table.known();
    let any = Categories::PRESENT.with(Categories::SWAPPED);
    for any_of in [any, Categories::FILE, Categories::PRESENT] {
        let (mut a, mut b) = (Vec::new(), Vec::new());
        scan.classify_any(range.clone(), any_of, &mut a).unwrap();
        table.classify_any(range.clone(), any_of, &mut b).unwrap();
        assert_eq!(told(&a, known), b, "any of {any_of:?}");
    }
    let (mut a, mut b) = (Vec::new(), Vec::new());
    scan.holes(range.clone(), &mut a).unwrap();
    table.holes(range.clone(), &mut b).unwrap();
    assert_eq!(a, b, "holes");
    let (mut a, mut b) = (Vec::new(), Vec::new());
    scan.classify(range.clone(), &mut a).unwrap();
    table.classify(range, &mut b).unwrap();
    assert_eq!(told(&a, known), b, "all");
    b
}

#[test]
fn the_scan_and_the_plain_table_classify_alike() {
    let map = Map::anonymous(64);
    map.advise(0..64, libc::MADV_NOHUGEPAGE);
    for page in [3, 10, 11, 12, 40, 63] {
        map.write(page, 1);
    }
    map.read(20);
    map.advise(11..12, libc::MADV_DONTNEED);
    map.protect(40..44, libc::PROT_NONE);
    // Whether it is really swapped out depends on the machine; the answers must agree.
    map.advise(12..13, 21); // MADV_PAGEOUT
    map.advise(50..52, 102); // MADV_GUARD_INSTALL
    let regions = both_ways(map.range());
    assert!(regions.len() > 8, "{regions:?}");
    both_ways(map.pages(11..41));
    both_ways(map.pages(4..9));

    // A hole in the mappings.
    // SAFETY: inside our mapping; nothing refers to it.
    unsafe { libc::munmap(map.base.add(30 * PAGE).cast(), 2 * PAGE) };
    let regions = both_ways(map.range());
    assert!(regions.iter().any(|r| r.end == map.page(30).start));
    assert!(!regions.iter().any(|r| r.start == map.page(30).start));

    // With markers for pages that do not exist, as the scan leaves them.
    let marked = Map::anonymous(32);
    marked.advise(0..32, libc::MADV_NOHUGEPAGE);
    marked.write(5, 1);
    let mut t = Tracker::new();
    t.track(&marked);
    let regions = both_ways(marked.range());
    assert_eq!(regions[0].categories, Categories::SWAPPED);

    let huge = Map::aligned(4 << 20);
    huge.advise(0..1024, libc::MADV_HUGEPAGE);
    // Only written: of the huge page of zeroes newer kernels' tables say that it is a file's. The
    // two come to the same: content that is not the process's own.
    huge.write(0, 1);
    let present = both_ways(huge.range());
    assert!(present[0].categories.contains(Categories::PRESENT));

    let file = tempfile::tempfile().unwrap();
    file.set_len(8 * PAGE as u64).unwrap();
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    for flags in [libc::MAP_PRIVATE, libc::MAP_SHARED] {
        let map = Map::new(8 * PAGE, libc::PROT_READ | libc::PROT_WRITE, flags, fd);
        map.read(0);
        map.write(3, 1);
        let regions = both_ways(map.range());
        let file = |page: usize| {
            let at = map.page(page).start;
            let region = regions.iter().find(|r| r.start <= at && at < r.end);
            region.unwrap().categories.contains(Categories::FILE)
        };
        assert!(file(0));
        assert_eq!(file(3), flags == libc::MAP_SHARED);
    }
    let shared = memfd(8);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&shared);
    let map = Map::new(
        8 * PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED,
        fd,
    );
    map.write(1, 1);
    both_ways(map.range());
}

#[test]
fn the_plain_table_does_not_pretend_to_scan() {
    let map = Map::anonymous(4);
    let mut table = Scanner::by_table(std::process::id()).unwrap();
    assert!(!table.known().intersects(Categories::ZERO));
    let error = table.written(map.range(), &mut Vec::new()).unwrap_err();
    assert!(error.to_string().contains("PAGEMAP_SCAN"), "{error}");
}

fn memfd(pages: usize) -> std::fs::File {
    let fd = rustix::fs::memfd_create("test", rustix::fs::MemfdFlags::CLOEXEC).unwrap();
    let file = std::fs::File::from(fd);
    file.set_len((pages * PAGE) as u64).unwrap();
    file
}

#[test]
fn classification_and_extents_do_not_populate_shared_memory() {
    use std::os::unix::fs::{FileExt, MetadataExt};
    let file = memfd(256);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let map = Map::new(
        256 * PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED,
        fd,
    );
    map.write(100, 1);
    file.write_all_at(b"x", 200 * PAGE as u64).unwrap();
    let before = file.metadata().unwrap().blocks();
    let mut t = Tracker::new();
    t.track(&map);
    let mut regions = Vec::new();
    t.scanner.classify(map.range(), &mut regions).unwrap();
    let mut extents = Vec::new();
    crate::files::data_extents(&file, 0..256 * PAGE as u64, &mut extents).unwrap();
    let at = |page: u64| page * PAGE as u64..(page + 1) * PAGE as u64;
    assert_eq!(extents, [at(100), at(200)]);
    assert_eq!(file.metadata().unwrap().blocks(), before);
    // And that reading a hole does: the reason for all this.
    let mut arena = PageArena::new(1).unwrap();
    let mut copier = Copier::open(std::process::id()).unwrap();
    copier.copy(&[map.page(150)], &mut arena).unwrap();
    assert!(
        file.metadata().unwrap().blocks() > before,
        "reading a hole allocates it"
    );
}

#[test]
fn what_a_scan_of_shared_memory_cannot_see_shows_in_the_stamp() {
    use crate::files::Stamp;
    use std::os::unix::fs::FileExt;
    let file = memfd(2048);
    let fd = std::os::fd::AsRawFd::as_raw_fd(&file);
    let map = Map::new(
        2048 * PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED,
        fd,
    );
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);

    let idle = Stamp::of(&file).unwrap();
    assert_eq!(map.read(9), 1);
    assert_eq!(Stamp::of(&file).unwrap(), idle);

    // A store through the mapping: seen by both.
    map.write(5, 2);
    let stored = Stamp::of(&file).unwrap();
    assert_ne!(stored, idle);
    assert_eq!(t.written(map.range()), [map.page(5)]);

    // Our own write to the file: the stamp alone.
    file.write_all_at(b"x", 7 * PAGE as u64).unwrap();
    assert_eq!(map.read(7), b'x');
    let written = Stamp::of(&file).unwrap();
    assert_ne!(written, stored);
    assert!(
        t.written(map.range()).is_empty(),
        "if this fails, the kernel has become better"
    );

    // A hole: the stamp alone, with fewer blocks.
    assert_eq!(map.advise(10..12, libc::MADV_REMOVE), 0);
    let punched = Stamp::of(&file).unwrap();
    assert!(punched.blocks < written.blocks);
    assert!(
        t.written(map.range()).is_empty(),
        "if this fails, the kernel has become better"
    );
    assert!(t.holes(map.range()).is_empty());
    let mut regions = Vec::new();
    t.scanner.classify(map.range(), &mut regions).unwrap();
    let hole = regions
        .iter()
        .find(|r| r.start == map.page(10).start)
        .unwrap();
    assert_eq!(hole.end, map.page(11).end);
    assert!(!hole.categories.contains(Categories::PRESENT));
    assert_eq!(map.read(10), 0);
}

#[test]
fn heap_growth_is_not_registered() {
    use std::cell::OnceCell;
    use std::sync::atomic::{AtomicU64, Ordering};
    let map = Map::new(
        PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        -1,
    );
    // SAFETY: a page of shared memory that outlives the child, aligned, zeroed.
    let base: &AtomicU64 = unsafe { &*ptr::with_exposed_provenance(map.base.expose_provenance()) };
    let uffd = OnceCell::new();
    let page = PAGE as u64;
    let grow_and_touch = |pages: usize| {
        // SAFETY: moves the child's break, whose heap nobody else uses; stores to what it added.
        unsafe {
            let at = libc::sbrk(0).cast::<u8>();
            let skip = at.align_offset(PAGE);
            if libc::sbrk((skip + pages * PAGE) as isize).addr() == usize::MAX {
                return None;
            }
            for n in 0..pages {
                at.add(skip + n * PAGE).write_volatile(1);
            }
            Some((at.addr() + skip) as u64)
        }
    };
    let child = Steps::fork(&[
        &|| {
            let (Some(start), Ok(own)) = (grow_and_touch(8), Userfaultfd::for_self()) else {
                return false;
            };
            base.store(start, Ordering::SeqCst);
            let ok = matches!(
                own.register(start..start + 8 * page),
                Ok(Registration::Registered)
            );
            uffd.set(own).is_ok() && ok
        },
        &|| {
            // SAFETY: a page of the heap grown in the step before.
            unsafe {
                ptr::with_exposed_provenance_mut::<u8>(
                    (base.load(Ordering::SeqCst) + 2 * page) as usize,
                )
                .write_volatile(2);
            }
            grow_and_touch(4).is_some()
        },
    ]);
    child.step();
    let start = base.load(Ordering::SeqCst);
    let mut scanner = Scanner::open(child.pid.cast_unsigned()).unwrap();
    let mut out = Vec::new();
    let end = scanner
        .written_and_protect(start..start + 8 * page, &mut out)
        .unwrap();
    assert_eq!(end, ScanEnd::Complete);
    child.step();
    out.clear();
    let end = scanner
        .written_and_protect(start..start + 12 * page, &mut out)
        .unwrap();
    assert_eq!(
        end,
        ScanEnd::Unregistered {
            at: start + 8 * page
        }
    );
    assert_eq!(out, [start + 2 * page..start + 3 * page]);
}

#[test]
fn stack_growth_inherits_the_registration() {
    use std::cell::OnceCell;
    let stack = || {
        let maps = crate::proc::maps::Maps::open(std::process::id()).unwrap();
        maps.entries()
            .iter()
            .find(|e| e.name == b"[stack]")
            .unwrap()
            .clone()
    };
    let before = stack();
    let page = PAGE as u64;
    let uffd = OnceCell::new();
    let child = Steps::fork(&[
        &|| {
            let Ok(own) = Userfaultfd::for_self() else {
                return false;
            };
            let ok = matches!(
                own.register(before.start..before.end),
                Ok(Registration::Registered)
            );
            uffd.set(own).is_ok() && ok
        },
        &|| {
            // SAFETY: just below the main thread's stack, which the kernel grows for it; the child
            // runs on another.
            unsafe {
                ptr::with_exposed_provenance_mut::<u8>((before.start - 3 * page) as usize)
                    .write_volatile(1);
            }
            true
        },
    ]);
    child.step();
    let pid = child.pid.cast_unsigned();
    let mut scanner = Scanner::open(pid).unwrap();
    let mut out = Vec::new();
    let end = scanner
        .written_and_protect(before.start..before.end, &mut out)
        .unwrap();
    assert_eq!(end, ScanEnd::Complete);
    child.step();
    let maps = crate::proc::maps::Maps::open(pid).unwrap();
    let after = maps
        .entries()
        .iter()
        .find(|e| e.name == b"[stack]")
        .unwrap();
    assert!(after.start <= before.start - 3 * page);
    out.clear();
    let end = scanner
        .written_and_protect(after.start..after.end, &mut out)
        .unwrap();
    assert_eq!(end, ScanEnd::Complete);
    let touched = before.start - 3 * page;
    assert!(
        out.iter()
            .any(|r| r.start <= touched && touched + page <= r.end)
    );
    assert!(
        out.iter().all(|r| r.end <= before.start),
        "the old part was not written"
    );
}

#[test]
fn a_forked_child_is_not_registered_and_the_parent_stays_exact() {
    let map = Map::anonymous(8);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    let child = Steps::fork(&[&|| {
        map.write(1, 9);
        true
    }]);
    child.step();
    let mut scanner = Scanner::open(child.pid.cast_unsigned()).unwrap();
    let mut out = Vec::new();
    let end = scanner.written_and_protect(map.range(), &mut out).unwrap();
    assert_eq!(end, ScanEnd::Unregistered { at: map.start() });
    assert!(t.written(map.range()).is_empty());
    map.write(3, 2);
    assert_eq!(t.written(map.range()), [map.page(3)]);
}

#[test]
fn protection_ends_with_the_last_descriptor() {
    let map = Map::anonymous(8);
    map.fill(1);
    let mut t = Tracker::new();
    t.track(&map);
    let Tracker { uffd, mut scanner } = t;
    drop(uffd);
    let mut out = Vec::new();
    let end = scanner.written_and_protect(map.range(), &mut out).unwrap();
    assert_eq!(end, ScanEnd::Unregistered { at: map.start() });
    let mut entries = Vec::new();
    Entries::open(std::process::id())
        .unwrap()
        .read(map.range(), &mut entries)
        .unwrap();
    assert!(entries.iter().all(|e| e.present() && !e.write_protected()));
}

#[test]
fn guard_pages_are_unreadable_and_tracked_around() {
    let map = Map::anonymous(8);
    map.fill(1);
    if map.advise(3..5, 102) != 0 {
        println!("no guard pages on this kernel");
        return;
    }
    let mut t = Tracker::new();
    t.track(&map);
    map.write(2, 2);
    map.write(5, 2);
    assert_eq!(t.written(map.range()), [map.page(2), map.page(5)]);
    let mut arena = PageArena::new(8).unwrap();
    let mut copier = Copier::open(std::process::id()).unwrap();
    let report = copier.copy(&[map.range()], &mut arena).unwrap();
    assert_eq!((report.pages, report.unreadable), (8, 2));
    assert_eq!(copier.unreadable(), [map.page(3).start, map.page(4).start]);
}

#[test]
fn hugetlb_is_tracked_by_whole_pages() {
    const HUGE: usize = 2 << 20;
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            ptr::null_mut(),
            2 * HUGE,
            libc::PROT_READ | libc::PROT_WRITE,
            libc::MAP_PRIVATE | libc::MAP_ANONYMOUS | libc::MAP_HUGETLB,
            -1,
            0,
        )
    };
    if base == libc::MAP_FAILED {
        println!("skipped: no huge pages are set aside (vm.nr_hugepages)");
        return;
    }
    let map = Map {
        base: base.cast(),
        length: 2 * HUGE,
    };
    map.write(0, 1);
    map.write(512, 1);
    let mut t = Tracker::new();
    t.track(&map);
    map.write(600, 2);
    assert_eq!(t.written(map.range()), [map.pages(512..1024)]);
}

#[test]
#[ignore = "prints measurements: cargo test --release -- --ignored --nocapture measure"]
fn measure_scans_and_copies() {
    let pages = (1_usize << 30) / PAGE;
    let map = Map::anonymous(pages);
    map.advise(0..pages, libc::MADV_NOHUGEPAGE);
    map.fill(1);
    let mut t = Tracker::new();
    assert_eq!(
        t.uffd.register(map.range()).unwrap(),
        Registration::Registered
    );
    let start = cpu();
    t.written(map.range());
    println!("first protect of 1 GiB: {:?}", cpu() - start);
    let mut out = Vec::with_capacity(pages);
    let mut arena = PageArena::new(pages).unwrap();
    let mut copier = Copier::open(std::process::id()).unwrap();
    for dirty in [0, 100, 1000, 10_000, 100_000] {
        let mut fast = Vec::new();
        let mut slow = Vec::new();
        let mut copy = Vec::new();
        for round in 0..20 {
            let mut seed = round as u64 + 1;
            let mut touch = || {
                for _ in 0..dirty {
                    seed = seed.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1);
                    map.write((seed >> 33) as usize % pages, 3);
                }
            };
            touch();
            out.clear();
            let start = cpu();
            let _ = t
                .scanner
                .written_and_protect(map.range(), &mut out)
                .unwrap();
            fast.push(cpu() - start);
            arena.clear();
            let start = cpu();
            let report = copier.copy(&out, &mut arena).unwrap();
            copy.push((cpu() - start).as_nanos() as u64 / report.pages.max(1) as u64);
            touch();
            out.clear();
            let start = cpu();
            let _ = t
                .scanner
                .populated_and_protect(map.range(), &mut out)
                .unwrap();
            slow.push(cpu() - start);
        }
        fast.sort();
        slow.sort();
        copy.sort_unstable();
        println!(
            "{dirty} dirty: fast {:?} slow {:?} copy {} ns a page (medians)",
            fast[10], slow[10], copy[10]
        );
    }
}

/// Time this thread ran on a CPU: on a busy machine, wall time would measure the others.
fn cpu() -> std::time::Duration {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    std::time::Duration::new(t.tv_sec as u64, t.tv_nsec as u32)
}
