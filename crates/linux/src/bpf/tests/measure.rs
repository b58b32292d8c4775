//! The figures of the module's documentation. CPU time of the thread, since others may use the
//! machine; medians over rounds that take turns.

use super::*;

/// Time this thread ran, in ns.
fn cpu() -> u64 {
    let t = rustix::time::clock_gettime(rustix::time::ClockId::ThreadCPUTime);
    t.tv_sec as u64 * 1_000_000_000 + t.tv_nsec as u64
}

fn median(mut values: Vec<f64>) -> f64 {
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// ns for each of `count`.
fn each(count: usize, mut run: impl FnMut(usize)) -> f64 {
    let start = cpu();
    (0..count).for_each(&mut run);
    (cpu() - start) as f64 / count as f64
}

#[derive(Default)]
struct Figures {
    fault: [Vec<f64>; 4],
    call: [Vec<f64>; 3],
    empty: Vec<f64>,
    read: [Vec<f64>; 3],
    drain: Vec<f64>,
    empty_drain: Vec<f64>,
    sequence: Vec<f64>,
    risky: Vec<f64>,
    switch: Vec<f64>,
}

#[test]
#[ignore = "prints measurements: cargo test --release -- --ignored --nocapture measure"]
fn measure_the_log() {
    let zero = std::fs::File::open("/dev/zero").unwrap();
    let call = || {
        // SAFETY: takes nothing and only answers.
        each(20_000, |_| unsafe {
            libc::syscall(libc::SYS_getppid);
        })
    };
    let read = || {
        let mut byte = [0];
        each(20_000, |_| {
            let _ = rustix::io::read(&zero, &mut byte);
        })
    };
    for pages in [1000, 20_000] {
        let map = Map::anonymous(pages);
        map.advise(0..pages, libc::MADV_NOHUGEPAGE);
        map.fill(1);
        let mut tracker = Tracker::new();
        tracker.track(&map);
        let mut seen = Figures::default();
        let mut out = Vec::with_capacity(1 << 20);
        let faults = |tracker: &mut Tracker| {
            tracker.written(map.range());
            each(pages, |page| map.write(page, 2))
        };
        for _ in 0..15 {
            seen.fault[0].push(faults(&mut tracker));
            seen.call[0].push(call());
            seen.read[0].push(read());
            let mut nothing = asm::Asm::new();
            nothing.mov(asm::Reg::R0, 0);
            nothing.exit();
            let nothing = Program::load(Kind::RawTracepoint, "nothing", nothing).unwrap();
            let link = nothing.attach(c"sys_enter").unwrap();
            seen.empty.push(call());
            drop(link);
            let Some(mut log) = open_with(Options {
                images: 32_768,
                ..Options::default()
            }) else {
                return;
            };
            seen.fault[1].push(faults(&mut tracker));
            seen.call[1].push(call());
            seen.read[1].push(read());
            log.watch(us(), true).unwrap();
            let _ = log.drain(&mut out).unwrap();
            out.clear();
            seen.fault[2].push(faults(&mut tracker));
            let start = cpu();
            let _ = log.drain(&mut out).unwrap();
            seen.drain.push((cpu() - start) as f64 / out.len() as f64);
            out.clear();
            seen.empty_drain.push(each(1000, |_| {
                let _ = log.drain(&mut out).unwrap();
            }));
            out.clear();
            seen.call[2].push(call());
            seen.read[2].push(read());
            tracker.written(map.range());
            seen.switch.push(each(1000, |_| {
                log.saving(true).unwrap();
                log.saving(false).unwrap();
            }));
            log.saving(true).unwrap();
            seen.fault[3].push(faults(&mut tracker));
            log.saving(false).unwrap();
            assert_eq!(log.unsaved(), 0);
            seen.sequence.push(each(1000, |_| {
                std::hint::black_box(log.layout_sequence(us()));
            }));
            seen.risky.push(each(1000, |_| {
                let _ = log.risky().unwrap();
            }));
        }
        let [none, other, log, saving] = seen.fault.map(median);
        println!(
            "{pages} pages, ns a fault: no log {none:.0}, of others {other:.0}, logged {log:.0}, \
             saved {saving:.0}"
        );
        println!("getppid: empty program {:.0}", median(seen.empty));
        println!(
            "getppid: none, other, watched: {:.0?}",
            seen.call.map(median)
        );
        println!("read: none, other, watched: {:.0?}", seen.read.map(median));
        println!(
            "drain {:.1} ns an entry, {:.0} empty; sequence {:.0}; risky {:.0}; saving on and off {:.0}",
            median(seen.drain),
            median(seen.empty_drain),
            median(seen.sequence),
            median(seen.risky),
            median(seen.switch)
        );
    }
}
