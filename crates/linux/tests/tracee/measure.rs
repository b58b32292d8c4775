//! Measurements, run with `--ignored`. They assert nothing about time.

use crate::Test;
use crate::support::{Target, run_for, with_halt};
use std::time::{Duration, Instant};
use stillframe_linux::inject::Injector;
use stillframe_linux::tracee::{Family, FamilyStop, FamilyWake, Stop, Tracee};

pub const TESTS: &[Test] = &[
    ("measure_stop_and_resume", stop),
    ("measure_medians_of_stops", medians),
    ("measure_family_stops", families),
    ("measure_injection", injection),
];

fn quantiles(mut us: Vec<f64>) -> String {
    us.sort_by(f64::total_cmp);
    let at = |q: f64| us[((us.len() - 1) as f64 * q) as usize];
    format!(
        "p50 {:.0} p90 {:.0} p99 {:.0} max {:.0} us",
        at(0.5),
        at(0.9),
        at(0.99),
        at(1.0)
    )
}

fn stop() {
    for realtime in [false, true] {
        let got = if realtime {
            Some(stillframe_linux::sched::try_realtime())
        } else {
            None
        };
        for threads in ["0", "8", "64"] {
            let target = Target::start("scenes", &["spin", threads]);
            let mut tracee = Tracee::attach(target.pid()).unwrap();
            let (mut stops, mut reads, mut resumes) = (vec![], vec![], vec![]);
            let mut thread = stillframe_image::Thread::default();
            for _ in 0..300 {
                run_for(&mut tracee, Duration::from_millis(10));
                let t0 = Instant::now();
                let Stop::All(halt) = tracee.stop(Duration::from_secs(1)).unwrap() else {
                    continue;
                };
                let t1 = Instant::now();
                for i in 0..halt.threads().len() {
                    let tid = halt.threads()[i];
                    halt.thread_state(tid, &mut thread).unwrap();
                }
                let t2 = Instant::now();
                halt.resume().unwrap();
                let t3 = Instant::now();
                stops.push((t1 - t0).as_secs_f64() * 1e6);
                reads.push((t2 - t1).as_secs_f64() * 1e6);
                resumes.push((t3 - t2).as_secs_f64() * 1e6);
            }
            println!("{threads} spinners + main, {got:?}:");
            println!("  stop   {}", quantiles(stops));
            println!("  state  {}", quantiles(reads));
            println!("  resume {}", quantiles(resumes));
        }
    }
}

/// 2,000 stops each.
fn medians() {
    for (scene, threads) in [("spin", "0"), ("spin", "2"), ("spin", "8")] {
        let target = Target::start("scenes", &[scene, threads]);
        let mut tracee = Tracee::attach(target.pid()).unwrap();
        let (mut stops, mut resumes) = (vec![], vec![]);
        while stops.len() < 2000 {
            run_for(&mut tracee, Duration::from_micros(500));
            let t0 = Instant::now();
            let Stop::All(halt) = tracee.stop(Duration::from_secs(1)).unwrap() else {
                continue;
            };
            let t1 = Instant::now();
            halt.resume().unwrap();
            stops.push((t1 - t0).as_secs_f64() * 1e6);
            resumes.push(t1.elapsed().as_secs_f64() * 1e6);
        }
        println!("{scene} {threads}: stop {}", quantiles(stops));
        println!("{scene} {threads}: resume {}", quantiles(resumes));
    }
}

/// The same for families, with the best precedence there is.
fn families() {
    println!("{}", stillframe_linux::sched::try_realtime());
    for (name, args, what) in [
        ("scenes", ["spin", "2"], "1 process, main and 2 spinners"),
        (
            "tree",
            ["spin", "1"],
            "2 processes, main and 1 spinner each",
        ),
        (
            "tree",
            ["spin", "4"],
            "2 processes, main and 4 spinners each",
        ),
        ("tree", ["many", "50"], "51 sleeping processes"),
    ] {
        let target = Target::start(name, &args);
        let tracee = Tracee::attach(target.pid()).unwrap();
        let mut family = Family::new(tracee, true).unwrap();
        let (mut stops, mut resumes, mut longest) = (vec![], vec![], vec![]);
        while stops.len() < 2000 {
            let until = Instant::now() + Duration::from_micros(500);
            while family.wait(Some(until), &[]).unwrap() != FamilyWake::Deadline {}
            let t0 = Instant::now();
            let FamilyStop::All(halt) = family.stop_all(Duration::from_secs(1)).unwrap() else {
                continue;
            };
            let t1 = Instant::now();
            halt.resume().unwrap();
            stops.push((t1 - t0).as_secs_f64() * 1e6);
            resumes.push(t1.elapsed().as_secs_f64() * 1e6);
            let stalls = family.stalls().map(|(_, s)| s.duration().as_secs_f64());
            longest.push(stalls.fold(0.0, f64::max) * 1e6);
        }
        println!("{what}:");
        println!("  stop   {}", quantiles(stops));
        println!("  resume {}", quantiles(resumes));
        println!("  longest stall of a thread {}", quantiles(longest));
    }
}

fn injection() {
    let target = Target::start("registers", &[]);
    let mut tracee = Tracee::attach(target.pid()).unwrap();
    let (mut prepares, mut calls, mut finishes) = (vec![], vec![], vec![]);
    for _ in 0..300 {
        run_for(&mut tracee, Duration::from_millis(2));
        with_halt(&mut tracee, |halt| {
            let t0 = Instant::now();
            let mut injector = Injector::prepare(halt).unwrap();
            let t1 = Instant::now();
            injector.brk(halt).unwrap();
            let t2 = Instant::now();
            injector.finish(halt).unwrap();
            prepares.push((t1 - t0).as_secs_f64() * 1e6);
            calls.push((t2 - t1).as_secs_f64() * 1e6);
            finishes.push(t2.elapsed().as_secs_f64() * 1e6);
        });
    }
    println!("prepare {}", quantiles(prepares));
    println!("call    {}", quantiles(calls));
    println!("finish  {}", quantiles(finishes));
}
