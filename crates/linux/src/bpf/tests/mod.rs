//! The log against the scan, on this kernel. What may not be done here is skipped, loudly.

mod calls;
mod measure;

use super::*;
use crate::test_support::{Map, PAGE, Steps, Tracker};
use crate::uffd::{Registration, Userfaultfd};
use std::collections::BTreeSet;
use std::ops::Range;
use std::os::fd::AsRawFd;
use std::sync::atomic::AtomicU64;

/// A log, unless we may not have one or the kernel has none: that is said, and all else fails.
fn open_with(options: Options) -> Option<FaultLog> {
    match FaultLog::open(options) {
        Ok(log) => Some(log),
        Err(e)
            if matches!(e, Error::Unsupported { .. })
                || matches!(e.errno(), Some(libc::EPERM | libc::ENOSYS)) =>
        {
            println!("SKIPPED: {e}");
            None
        }
        Err(e) => panic!("{e}"),
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
    assert!(out.len() >= 300 && out.len() < pages, "{}", out.len());
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

/// Pages that two threads of a child write to at once, over and over.
struct Race {
    base: usize,
    pages: usize,
    /// Only every so many pages.
    step: usize,
    done: usize,
}

/// One thread of the race. Allocates nothing, calls nothing: it has no thread-local storage.
extern "C" fn racer(race: *mut libc::c_void) -> libc::c_int {
    // SAFETY: the child's `Race`, which it keeps until both threads are done; the stores go to its
    // mapping, and the count to a page of shared memory, by atomics.
    unsafe {
        let race = &*race.cast::<Race>();
        let arrived = &*std::ptr::with_exposed_provenance::<AtomicU64>(race.done + 64);
        for page in (0..race.pages).step_by(race.step) {
            // Both at once, one a little later: so that one writes while the other still copies.
            // Not waited for for long: the other may not be running.
            let turn = arrived.fetch_add(1, Ordering::SeqCst);
            for _ in 0..20_000 {
                if arrived.load(Ordering::SeqCst) > turn | 1 {
                    break;
                }
                std::hint::spin_loop();
            }
            if turn & 1 == 1 {
                for n in 0..page % 64 * 48 {
                    std::hint::black_box(n);
                }
            }
            let at = std::ptr::with_exposed_provenance_mut::<u64>(race.base + page * PAGE);
            for word in 0..PAGE / 8 {
                let old = at.add(word).read_volatile();
                at.add(word).write_volatile(!old);
            }
        }
        (*std::ptr::with_exposed_provenance::<AtomicU64>(race.done)).fetch_add(1, Ordering::SeqCst);
    }
    0
}

impl Race {
    fn run(&self) -> bool {
        const STACK: usize = 64 << 10;
        // SAFETY: as in `shared_word`.
        let done = unsafe { &*std::ptr::with_exposed_provenance::<AtomicU64>(self.done) };
        let before = done.load(Ordering::SeqCst);
        for _ in 0..2 {
            // SAFETY: a new mapping for the thread's stack (never unmapped: the child is short-
            // lived), and a thread that runs `racer` alone.
            let tid = unsafe {
                let stack = libc::mmap(
                    std::ptr::null_mut(),
                    STACK,
                    libc::PROT_READ | libc::PROT_WRITE,
                    libc::MAP_PRIVATE | libc::MAP_ANONYMOUS,
                    -1,
                    0,
                );
                if stack == libc::MAP_FAILED {
                    return false;
                }
                libc::clone(
                    racer,
                    stack.byte_add(STACK),
                    libc::CLONE_VM
                        | libc::CLONE_FS
                        | libc::CLONE_FILES
                        | libc::CLONE_SIGHAND
                        | libc::CLONE_THREAD
                        | libc::CLONE_SYSVSEM,
                    std::ptr::from_ref(self).cast_mut().cast(),
                )
            };
            if tid < 0 {
                return false;
            }
        }
        while done.load(Ordering::SeqCst) < before + 2 {
            std::thread::yield_now();
        }
        true
    }
}

/// Memory of another process, as it is.
fn read_all(pid: u32, map: &Map) -> Vec<[u8; PAGE]> {
    use std::os::unix::fs::FileExt;
    let mem = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut pages = vec![[0; PAGE]; map.length / PAGE];
    for (page, at) in pages.iter_mut().zip(map.range().step_by(PAGE)) {
        mem.read_exact_at(page, at).unwrap();
    }
    pages
}

fn pre_images_under_a_race(advice: i32, step: usize) {
    let pages = 1024;
    let options = Options {
        images: 4096,
        ..Options::default()
    };
    let Some(mut log) = open_with(options) else {
        return;
    };
    let map = Map::aligned(pages * PAGE);
    map.advise(0..pages, advice);
    let (_keep, done) = shared_word();
    let race = Race {
        base: map.base.expose_provenance(),
        pages,
        step,
        done: std::ptr::from_ref(done).expose_provenance(),
    };
    // The last quarter is never touched before it is protected.
    let filled = if advice == libc::MADV_HUGEPAGE {
        pages
    } else {
        pages / 4 * 3
    };
    let go = || race.run();
    let child = Steps::fork(&[
        &|| {
            for page in 0..filled {
                for byte in 0..PAGE {
                    // SAFETY: inside the mapping.
                    unsafe {
                        let at = map.base.add(page * PAGE + byte);
                        at.write_volatile((page * 31 + byte * 7) as u8);
                    }
                }
            }
            protect_here(&map)
        },
        &go,
        &go,
        &go,
    ]);
    let pid = child.pid.cast_unsigned();
    log.watch(pid, true).unwrap();
    child.step();
    let mut scanner = crate::pagemap::Scanner::open(pid).unwrap();
    let mut before: Vec<[u8; PAGE]> = (0..pages)
        .map(|page| {
            std::array::from_fn(|byte| match page < filled {
                true => (page * 31 + byte * 7) as u8,
                false => 0,
            })
        })
        .collect();
    for round in 0..3 {
        log.saving(true).unwrap();
        child.step();
        log.saving(false).unwrap();
        let mut written = Vec::new();
        let _ = scanner
            .written_and_protect(map.range(), &mut written)
            .unwrap();
        let written = pages_of(&written);
        assert_eq!(written.len(), pages.div_ceil(step));
        let faults = drain_in(&mut log, &map.range());
        let (lost, kept): (Vec<_>, Vec<_>) = faults.into_iter().partition(|f| f.flags.unsaved());
        // The page tables may change too often while they are read: then it is told, and seldom.
        assert!(lost.len() as u64 <= log.unsaved());
        let lost: BTreeSet<u64> = logged_pages(&lost).into_iter().collect();
        assert!(lost.len() * 20 <= written.len(), "{} were lost", lost.len());
        let mut saved = BTreeSet::new();
        let mut absent = 0;
        for image in log
            .saved()
            .filter(|image| map.range().contains(&image.page))
        {
            assert_eq!(image.tgid, pid);
            let page = ((image.page - map.start()) / PAGE as u64) as usize;
            match image.content {
                Some(content) => assert!(*content == before[page], "round {round} page {page}"),
                None => {
                    assert!(round == 0 && page >= filled, "round {round} page {page}");
                    absent += 1;
                }
            }
            saved.insert(image.page);
        }
        let twice = log.saved().count() - saved.len();
        println!("round {round}: {twice} pages were saved twice");
        let told: BTreeSet<u64> = saved.union(&lost).copied().collect();
        assert!(told.is_superset(&written), "round {round}");
        if round == 0 && filled < pages {
            assert!(absent > 0, "pages that did not exist are told");
        }
        let of_saved: Vec<_> = kept.into_iter().filter(|f| f.flags.saved()).collect();
        let noted: BTreeSet<u64> = logged_pages(&of_saved).into_iter().collect();
        assert!(
            noted
                .union(&lost)
                .copied()
                .collect::<BTreeSet<u64>>()
                .is_superset(&written)
        );
        log.clear_saved().unwrap();
        assert_eq!(log.saved().count(), 0);
        before = read_all(pid, &map);
    }
}

#[test]
fn pre_images_are_what_was_there_before_the_write() {
    pre_images_under_a_race(libc::MADV_NOHUGEPAGE, 1);
}

#[test]
fn pre_images_of_huge_pages_are_what_was_there_before_the_write() {
    pre_images_under_a_race(libc::MADV_HUGEPAGE, 1);
    pre_images_under_a_race(libc::MADV_HUGEPAGE, 7);
}

#[test]
fn pre_images_that_find_no_room_are_counted() {
    let options = Options {
        images: 16,
        ..Options::default()
    };
    let Some(mut log) = open_with(options) else {
        return;
    };
    let map = Map::anonymous(100);
    map.fill(1);
    let write = |value| {
        (0..100).for_each(|page| map.write(page, value));
        true
    };
    let child = Steps::fork(&[&|| write(2) && protect_here(&map), &|| write(3), &|| {
        write(4)
    }]);
    log.watch(child.pid.cast_unsigned(), true).unwrap();
    child.step();
    log.saving(true).unwrap();
    child.step();
    log.saving(false).unwrap();
    let in_map = |log: &FaultLog| {
        log.saved()
            .filter(|s| map.range().contains(&s.page))
            .count()
    };
    // The stack may have taken a few.
    assert!((8..=16).contains(&in_map(&log)));
    assert!(log.unsaved() >= 84);
    let faults = drain_in(&mut log, &map.range());
    assert!(faults.iter().filter(|f| f.flags.unsaved()).count() >= 84);
    log.clear_saved().unwrap();
    assert_eq!(log.unsaved(), 0);
    child.step();
    assert_eq!(in_map(&log), 0, "saving is off");
}

#[test]
fn what_was_not_asked_for_is_refused() {
    let options = Options {
        calls: false,
        ..Options::default()
    };
    let Some(mut log) = open_with(options) else {
        return;
    };
    assert!(log.risky().is_ok(), "nobody is watched");
    log.watch(us(), true).unwrap();
    let e = log.risky().unwrap_err().to_string();
    assert!(e.contains("system calls"), "{e}");
    let e = log.saving(true).unwrap_err().to_string();
    assert!(e.contains("pre-images"), "{e}");
    assert_eq!(log.saved().count(), 0);
}
