//! The log against the scan, on this kernel. What may not be done here is skipped, loudly.

use super::*;
use crate::test_support::{Map, PAGE, Steps, Tracker};
use crate::uffd::{Registration, Userfaultfd};
use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;

fn open_with(options: Options) -> Option<FaultLog> {
    match FaultLog::open(options) {
        Ok(log) => Some(log),
        Err(e) => {
            println!("SKIPPED: {e}");
            None
        }
    }
}

fn open() -> Option<FaultLog> {
    open_with(Options::default())
}

fn us() -> u32 {
    std::process::id()
}

/// Our process runs other tests too: only what lies in `range`.
fn drain_in(log: &mut FaultLog, range: &Range<u64>) -> Vec<LoggedFault> {
    let mut out = Vec::new();
    let drained = log.drain(&mut out).unwrap();
    assert_eq!(drained.lost, 0);
    out.retain(|f| range.contains(&f.address));
    out
}

fn pages_of(ranges: &[Range<u64>]) -> BTreeSet<u64> {
    ranges
        .iter()
        .flat_map(|r| (r.start..r.end).step_by(PAGE))
        .collect()
}

fn logged_pages(faults: &[LoggedFault]) -> BTreeSet<u64> {
    faults.iter().map(|f| f.address & !0xfff).collect()
}

fn random(seed: &mut u64) -> usize {
    *seed = seed
        .wrapping_mul(6_364_136_223_846_793_005)
        .wrapping_add(1_442_695_040_888_963_407);
    (*seed >> 33) as usize
}

fn now() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::Monotonic);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

#[test]
fn the_log_agrees_with_the_scan() {
    let Some(mut log) = open() else { return };
    log.watch(us(), true).unwrap();
    let pages = 20_000;
    let map = Map::anonymous(pages);
    map.advise(0..pages, libc::MADV_NOHUGEPAGE);
    map.fill(1);
    let mut tracker = Tracker::new();
    tracker.track(&map);
    for round in 0..3_u64 {
        drain_in(&mut log, &map.range());
        let before = now();
        std::thread::scope(|scope| {
            for thread in 0..4_u64 {
                let base = map.base.expose_provenance();
                scope.spawn(move || {
                    let mut seed = round * 4 + thread;
                    for _ in 0..2500 {
                        let byte = random(&mut seed) % (pages * PAGE);
                        // SAFETY: inside the mapping, which outlives the scope; racing stores of
                        // bytes that nothing reads.
                        unsafe {
                            std::ptr::with_exposed_provenance_mut::<u8>(base + byte)
                                .write_volatile(2);
                        }
                    }
                });
            }
        });
        let after = now();
        let faults = drain_in(&mut log, &map.range());
        let scanned = pages_of(&tracker.written(map.range()));
        assert!(scanned.len() > 5000);
        assert_eq!(logged_pages(&faults), scanned);
        let threads: BTreeSet<u32> = faults.iter().map(|f| f.tid).collect();
        assert_eq!(threads.len(), 4);
        for f in &faults {
            assert_eq!(f.tgid, us());
            assert!(f.flags.write() && f.flags.user() && f.flags.present());
            assert!((before..=after).contains(&f.at_ns));
        }
    }
}

/// A page that a forked child shares with us, for its addresses and results.
fn shared_word() -> (Map, &'static AtomicU64) {
    let map = Map::new(
        PAGE,
        libc::PROT_READ | libc::PROT_WRITE,
        libc::MAP_SHARED | libc::MAP_ANONYMOUS,
        -1,
    );
    // SAFETY: a page of shared memory, aligned and zeroed; the map is leaked by the callers' tests
    // ending with the process or outlives the reference's use in them.
    let word =
        unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(map.base.expose_provenance()) };
    (map, word)
}

/// Protects `map` in the calling process and keeps the descriptor open.
fn protect_here(map: &Map) -> bool {
    let Ok(uffd) = Userfaultfd::for_self() else {
        return false;
    };
    let done = matches!(uffd.register(map.range()), Ok(Registration::Registered))
        && uffd.write_protect(map.range(), true).is_ok();
    std::mem::forget(uffd);
    done
}

#[test]
fn watched_children_are_told_apart_and_others_not_logged() {
    let Some(mut log) = open() else { return };
    let map = Map::anonymous(64);
    map.fill(1);
    let write = |page: usize| {
        map.write(page, 2);
        true
    };
    let children: [Steps; 3] = [0, 1, 2].map(|n| {
        Steps::fork(&[&|| protect_here(&map), &|| write(10 * n), &|| {
            write(10 * n + 1)
        }])
    });
    for child in &children {
        child.step();
    }
    let ids = [0, 1, 2].map(|n: usize| children[n].pid.cast_unsigned());
    log.watch(ids[0], true).unwrap();
    log.watch(ids[1], true).unwrap();
    log.watch(ids[1], true).unwrap();
    for child in &children {
        child.step();
    }
    let seen = |log: &mut FaultLog| -> BTreeSet<(u32, u32, u64)> {
        drain_in(log, &map.range())
            .iter()
            .map(|f| (f.tgid, f.tid, f.address))
            .collect()
    };
    assert_eq!(
        seen(&mut log),
        BTreeSet::from([
            (ids[0], ids[0], map.page(0).start),
            (ids[1], ids[1], map.page(10).start)
        ])
    );
    log.watch(ids[0], false).unwrap();
    log.watch(ids[0], false).unwrap();
    log.watch(ids[2], true).unwrap();
    for child in &children {
        child.step();
    }
    assert_eq!(
        seen(&mut log),
        BTreeSet::from([
            (ids[1], ids[1], map.page(11).start),
            (ids[2], ids[2], map.page(21).start)
        ])
    );
}

#[test]
fn memory_borrowed_by_a_vforked_child_is_logged_as_its_owners() {
    let Some(mut log) = open() else { return };
    log.watch(us(), true).unwrap();
    let map = Map::anonymous(8);
    map.fill(1);
    let mut tracker = Tracker::new();
    tracker.track(&map);
    drain_in(&mut log, &map.range());
    let at = map.base.expose_provenance() + 3 * PAGE;
    let mut stack = vec![0_u64; 4096];
    extern "C" fn child(at: *mut libc::c_void) -> libc::c_int {
        // SAFETY: a byte of the mapping, which we share.
        unsafe { at.cast::<u8>().write_volatile(7) };
        0
    }
    // SAFETY: the child runs `child` alone, on a stack of its own, while we wait for it.
    let pid = unsafe {
        libc::clone(
            child,
            stack.as_mut_ptr().add(4096).cast(),
            libc::CLONE_VM | libc::CLONE_VFORK | libc::SIGCHLD,
            std::ptr::with_exposed_provenance_mut(at),
        )
    };
    assert!(pid > 0);
    // SAFETY: waits for our child.
    unsafe { libc::waitpid(pid, std::ptr::null_mut(), 0) };
    let faults = drain_in(&mut log, &map.range());
    let written = tracker.written(map.range());
    assert_eq!(written, [map.page(3)]);
    assert_eq!(faults.len(), 1, "{faults:?}");
    assert_eq!((faults[0].tgid, faults[0].tid), (us(), pid.cast_unsigned()));
}

#[test]
fn kernel_writes_are_logged() {
    let Some(mut log) = open() else { return };
    log.watch(us(), true).unwrap();
    let map = Map::anonymous(16);
    map.fill(1);
    let mut tracker = Tracker::new();
    tracker.track(&map);
    drain_in(&mut log, &map.range());
    let file = tempfile::tempfile().unwrap();
    file.set_len(1 << 20).unwrap();
    // Half of page 3, all of 4 and 5, a bit of 6.
    let skip = PAGE / 2;
    // SAFETY: reads into pages of our mapping.
    let read = unsafe {
        libc::read(
            file.as_raw_fd(),
            map.base.add(3 * PAGE + skip).cast(),
            3 * PAGE,
        )
    };
    assert_eq!(read, 3 * PAGE as isize);
    let faults = drain_in(&mut log, &map.range());
    let scanned = pages_of(&tracker.written(map.range()));
    assert_eq!(scanned, pages_of(&[map.pages(3..7)]));
    assert_eq!(logged_pages(&faults), scanned);
    assert!(faults.iter().all(|f| !f.flags.user() && f.flags.write()));
    assert_eq!(faults[0].address, map.page(3).start + skip as u64);
}

#[test]
fn reads_are_logged_only_when_asked_for() {
    for reads in [false, true] {
        let options = Options {
            reads,
            ..Options::default()
        };
        let Some(mut log) = open_with(options) else {
            return;
        };
        log.watch(us(), true).unwrap();
        let map = Map::anonymous(4);
        map.advise(0..4, libc::MADV_NOHUGEPAGE);
        map.read(1);
        map.write(2, 1);
        let faults = drain_in(&mut log, &map.range());
        let pages: Vec<u64> = faults.iter().map(|f| f.address).collect();
        if reads {
            assert_eq!(pages, [map.page(1).start, map.page(2).start]);
            assert!(!faults[0].flags.write());
        } else {
            assert_eq!(pages, [map.page(2).start]);
        }
        assert!(faults.iter().all(|f| !f.flags.present()));
    }
}

#[test]
fn what_does_not_fit_is_counted_and_the_log_goes_on() {
    let Some(mut log) = open_with(Options {
        entries: 1,
        ..Options::default()
    }) else {
        return;
    };
    // A child, so that other tests do not fill the rings.
    let pages = 4000;
    let map = Map::anonymous(pages);
    map.advise(0..pages, libc::MADV_NOHUGEPAGE);
    let touch = || {
        (0..pages).for_each(|page| map.write(page, 1));
        true
    };
    let one = || {
        map.write(5, 2);
        true
    };
    let child = Steps::fork(&[&touch, &|| protect_here(&map) && one()]);
    log.watch(child.pid.cast_unsigned(), true).unwrap();
    child.step();
    let mut out = Vec::new();
    let Drained { lost } = log.drain(&mut out).unwrap();
    out.retain(|f| map.range().contains(&f.address));
    // It may have run on several processors.
    assert!(out.len() >= 500 && out.len() < pages, "{}", out.len());
    assert!(out.len() as u64 + lost >= pages as u64);
    child.step();
    out.clear();
    let Drained { lost } = log.drain(&mut out).unwrap();
    assert_eq!(lost, 0);
    out.retain(|f| map.range().contains(&f.address));
    assert_eq!(logged_pages(&out), pages_of(&[map.page(5)]));
}

#[test]
fn the_layout_sequence_changes_with_mappings_and_not_with_faults() {
    let Some(log) = open() else { return };
    let pages = 64;
    let map = Map::anonymous(pages);
    let (_keep, scratch) = shared_word();
    let child = Steps::fork(&[
        &|| true,
        // Faults and scans.
        &|| {
            map.fill(2);
            true
        },
        &|| {
            // SAFETY: a new mapping.
            let at = unsafe {
                libc::mmap(
                    std::ptr::null_mut(),
                    1 << 20,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                )
            };
            scratch.store(at.expose_provenance() as u64, Ordering::SeqCst);
            at != libc::MAP_FAILED
        },
        &|| {
            map.protect(3..5, libc::PROT_READ);
            true
        },
        &|| {
            let at = scratch.load(Ordering::SeqCst) as usize;
            // SAFETY: the mapping made two steps before.
            unsafe { libc::munmap(std::ptr::with_exposed_provenance_mut(at), 1 << 20) == 0 }
        },
        // SAFETY: grows the heap of the child, where nothing else runs.
        &|| unsafe { libc::sbrk(1 << 20).addr() != usize::MAX },
        &|| protect_here(&map),
    ]);
    let pid = child.pid.cast_unsigned();
    let look = || log.layout_sequence(pid);
    child.step();
    let Some(mut last) = look() else {
        return println!("SKIPPED: this kernel has no sequence that can be read");
    };
    assert_eq!(look(), Some(last));
    child.step();
    assert_eq!(look(), Some(last), "faults change nothing");
    let mut scanner = crate::pagemap::Scanner::open(pid).unwrap();
    let _ = scanner.written(map.range(), &mut Vec::new()).unwrap();
    assert_eq!(look(), Some(last), "a scan changes nothing");
    for what in ["mmap", "mprotect", "munmap", "brk", "UFFDIO_REGISTER"] {
        child.step();
        let new = look().unwrap();
        assert_ne!(new, last, "{what}");
        last = new;
    }
    let _ = scanner
        .written_and_protect(map.range(), &mut Vec::new())
        .unwrap();
    println!("after a protecting scan: changed {}", look() != Some(last));
    drop(child);
    assert_eq!(look(), None);
    assert_ne!(log.layout_sequence(us()), None);
}
