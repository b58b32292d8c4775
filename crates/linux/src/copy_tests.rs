//! Copies of our own memory, and of a child's, with every sort of page that resists.
#![allow(clippy::single_range_in_vec_init, reason = "lists of ranges are meant")]

use super::*;
use std::os::fd::AsRawFd;

/// `pages` pages of ours, each filled with its number.
struct Source(PageArena);

impl Source {
    fn new(pages: usize) -> Self {
        let mut arena = PageArena::new(pages).unwrap();
        for (number, page) in arena.extend(pages).unwrap().iter_mut().enumerate() {
            page.fill(0xaa);
            page[..8].copy_from_slice(&(number as u64).to_ne_bytes());
        }
        Self(arena)
    }

    fn range(&self, pages: Range<usize>) -> Range<u64> {
        let start = self.0.pages().as_ptr().addr() as u64;
        start + pages.start as u64 * PAGE..start + pages.end as u64 * PAGE
    }

    fn protect(&mut self, pages: Range<usize>, protection: i32) {
        let bytes = pages.len() * PAGE_SIZE;
        // SAFETY: inside the arena's mapping; `&mut self` says nobody refers to it, and tests do
        // not touch what they made inaccessible before they make it accessible again.
        let done = unsafe {
            libc::mprotect(
                self.0.base.as_ptr().add(pages.start).cast(),
                bytes,
                protection,
            )
        };
        assert_eq!(done, 0);
    }
}

fn numbers(arena: &PageArena) -> Vec<u64> {
    let number = |page: &[u8; PAGE_SIZE]| u64::from_ne_bytes(*page.first_chunk().unwrap());
    arena.pages().iter().map(number).collect()
}

fn me() -> Copier {
    Copier::open(std::process::id()).unwrap()
}

#[test]
fn scattered_pages_land_in_the_order_asked_for() {
    let source = Source::new(5000);
    // More ranges than one call takes, of different lengths, not in order of address.
    let mut ranges = Vec::new();
    let mut expected = Vec::new();
    for start in (0..4900).step_by(3).rev() {
        let length = 1 + start % 2;
        ranges.push(source.range(start..start + length));
        expected.extend((start..start + length).map(|n| n as u64));
    }
    assert!(ranges.len() > VECTORS);
    let mut arena = PageArena::new(expected.len() + 7).unwrap();
    arena.extend(7).unwrap();
    let mut copier = me();
    let report = copier.copy(&ranges, &mut arena).unwrap();
    assert_eq!(
        report,
        CopyReport {
            first: 7,
            pages: expected.len(),
            forced: 0,
            unreadable: 0
        }
    );
    assert_eq!(numbers(&arena)[7..], expected);
    assert!(arena.pages()[7..].iter().all(|page| page[4095] == 0xaa));
}

#[test]
fn a_batch_longer_than_one_call_is_split() {
    let pages = (BYTES / PAGE) as usize + 300;
    let source = Source::new(pages);
    let mut arena = PageArena::new(pages).unwrap();
    let ranges = [source.range(0..100), source.range(100..pages)];
    let report = me().copy(&ranges, &mut arena).unwrap();
    assert_eq!(report.pages, pages);
    assert!(numbers(&arena).into_iter().eq(0..pages as u64));
}

#[test]
fn what_has_no_read_permission_is_read_all_the_same() {
    let mut source = Source::new(600);
    source.protect(10..20, libc::PROT_NONE);
    source.protect(300..590, libc::PROT_NONE);
    source.protect(595..596, libc::PROT_WRITE);
    let mut arena = PageArena::new(600).unwrap();
    let mut copier = me();
    let report = copier
        .copy(&[source.range(0..15), source.range(15..600)], &mut arena)
        .unwrap();
    assert_eq!((report.pages, report.unreadable), (600, 0));
    assert!(report.forced >= 300, "{report:?}");
    assert!(numbers(&arena).into_iter().eq(0..600));
    arena.clear();
    let report = copier
        .copy_forced(
            &[
                source.range(12..14),
                source.range(0..1),
                source.range(400..403),
            ],
            &mut arena,
        )
        .unwrap();
    assert_eq!((report.pages, report.forced), (6, 6));
    assert_eq!(numbers(&arena), [12, 13, 0, 400, 401, 402]);
}

#[test]
fn unreadable_pages_are_listed_and_the_rest_is_copied() {
    let source = Source::new(40);
    let hole = source.range(20..23);
    // SAFETY: unmaps the middle of the arena's mapping, which is not touched below; that the
    // arena unmaps the whole range again when dropped is harmless, as nothing is mapped between.
    unsafe {
        libc::munmap(source.0.base.as_ptr().add(20).cast(), 3 * PAGE_SIZE);
    }
    let mut arena = PageArena::new(64).unwrap();
    arena
        .extend(64)
        .unwrap()
        .iter_mut()
        .for_each(|p| p.fill(0xff));
    arena.clear();
    let mut copier = me();
    let report = copier
        .copy(&[source.range(0..30), source.range(38..40)], &mut arena)
        .unwrap();
    assert_eq!((report.pages, report.unreadable), (32, 3));
    assert_eq!(
        copier.unreadable(),
        [hole.start, hole.start + PAGE, hole.start + 2 * PAGE]
    );
    let n = numbers(&arena);
    assert!(n[..20].iter().copied().eq(0..20));
    assert_eq!(n[20..23], [0, 0, 0], "zeroes, not what was there before");
    assert_eq!(arena.pages()[21], [0; PAGE_SIZE]);
    assert!(n[23..30].iter().copied().eq(23..30));
    assert_eq!(n[30..], [38, 39]);
    // The list is that of the last copy.
    arena.clear();
    copier.copy(&[source.range(0..1)], &mut arena).unwrap();
    assert!(copier.unreadable().is_empty());
    // Keep the hole unmapped by others: nothing was mapped there meanwhile by this test.
    std::mem::forget(source);
}

#[test]
fn pages_behind_the_end_of_a_file_are_unreadable() {
    let file = tempfile::tempfile().unwrap();
    file.set_len(PAGE).unwrap();
    // SAFETY: a new mapping at an address of the kernel's choice.
    let base = unsafe {
        libc::mmap(
            std::ptr::null_mut(),
            3 * PAGE_SIZE,
            libc::PROT_READ,
            libc::MAP_PRIVATE,
            file.as_raw_fd(),
            0,
        )
    };
    assert_ne!(base, libc::MAP_FAILED);
    let start = base.addr() as u64;
    let mut arena = PageArena::new(3).unwrap();
    let mut copier = me();
    let report = copier.copy(&[start..start + 3 * PAGE], &mut arena).unwrap();
    assert_eq!((report.pages, report.unreadable), (3, 2));
    assert_eq!(copier.unreadable(), [start + PAGE, start + 2 * PAGE]);
    // SAFETY: our own mapping, to which nothing refers.
    unsafe { libc::munmap(base, 3 * PAGE_SIZE) };
}

#[test]
fn a_full_arena_takes_nothing() {
    let source = Source::new(4);
    let mut arena = PageArena::new(3).unwrap();
    arena.extend(1).unwrap();
    let error = me().copy(&[source.range(0..3)], &mut arena).unwrap_err();
    assert!(matches!(error, Error::NoRoom { .. }), "{error}");
    assert_eq!((arena.len(), arena.free()), (1, 2));
    let report = me().copy(&[], &mut arena).unwrap();
    assert_eq!((report.pages, report.first), (0, 1));
}

#[test]
fn a_process_that_is_gone_is_said_to_be() {
    let mut child = std::process::Command::new("true").spawn().unwrap();
    let mut copier = Copier::open(child.id()).unwrap();
    child.wait().unwrap();
    let mut arena = PageArena::new(1).unwrap();
    let error = copier.copy(&[0x1000..0x2000], &mut arena).unwrap_err();
    assert!(error.is_gone(), "{error}");
    assert!(arena.is_empty());
    assert!(Copier::open(child.id()).unwrap_err().is_gone());
}

#[test]
fn an_arena_keeps_and_releases() {
    let mut arena = PageArena::new(16).unwrap();
    arena.prefault(16).unwrap();
    arena.extend(16).unwrap().iter_mut().for_each(|p| p.fill(7));
    arena.clear();
    assert_eq!(arena.extend(2).unwrap()[1][0], 7);
    arena.release(1);
    assert!(arena.is_empty());
    let pages = arena.extend(3).unwrap();
    assert_eq!((pages[0][0], pages[1][0], pages[2][0]), (7, 0, 0));
}
