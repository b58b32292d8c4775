//! Measurements, run with `--ignored`. They assert nothing about time.

use crate::Test;
use crate::support::{Target, run_for, with_halt};
use std::time::{Duration, Instant};
use stillframe_linux::inject::Injector;
use stillframe_linux::tracee::{Stop, Tracee};

pub const TESTS: &[Test] = &[
    ("measure_stop_and_resume", stop),
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
