//! Tests of tracing and injection on real targets.
//!
//! They have their own `main`, since SIGCHLD must be blocked in every thread of a tracer, and since
//! one of them kills tracers: those are this program again, with an argument.

#![allow(
    clippy::unwrap_used,
    clippy::panic,
    missing_docs,
    reason = "a test, though without the usual harness"
)]

mod attaching;
mod events;
mod family;
mod injecting;
mod killed;
mod measure;
mod remoting;
mod support;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;

/// A name and what it does.
pub type Test = (&'static str, fn());

fn main() -> ExitCode {
    stillframe_linux::tracee::prepare().unwrap();
    let args: Vec<String> = std::env::args().skip(1).collect();
    if let [mode, pid] = args.as_slice()
        && mode == "--be-a-tracer"
    {
        killed::be_a_tracer(pid.parse().unwrap());
    }
    if let [mode, pid] = args.as_slice()
        && mode == "--be-a-follower"
    {
        family::be_a_follower(pid.parse().unwrap());
    }
    let filters: Vec<&String> = args.iter().filter(|a| !a.starts_with('-')).collect();
    let ignored = args
        .iter()
        .any(|a| a == "--ignored" || a == "--include-ignored");
    let mut all: Vec<Test> = [
        attaching::TESTS,
        events::TESTS,
        injecting::TESTS,
        remoting::TESTS,
        killed::TESTS,
        family::TESTS,
    ]
    .concat();
    if ignored {
        all.extend(measure::TESTS);
    }
    if args.iter().any(|a| a == "--list") {
        all.iter().for_each(|(name, _)| println!("{name}: test"));
        return ExitCode::SUCCESS;
    }
    if support::targets().is_none() {
        eprintln!("SKIPPED: all tests of tracing, since there is no C compiler (`cc`)");
        return ExitCode::SUCCESS;
    }
    let mut failed = Vec::new();
    for (name, test) in all {
        if !filters.is_empty() && !filters.iter().any(|f| name.contains(f.as_str())) {
            continue;
        }
        let start = std::time::Instant::now();
        // A thread each: when it ends, the kernel lets go whatever it traced.
        let result = std::thread::spawn(move || catch_unwind(AssertUnwindSafe(test))).join();
        let ok = matches!(result, Ok(Ok(())));
        let verdict = if ok { "ok" } else { "FAILED" };
        println!(
            "test {name} ... {verdict} ({:.1} s)",
            start.elapsed().as_secs_f64()
        );
        if !ok {
            failed.push(name);
        }
    }
    if failed.is_empty() {
        return ExitCode::SUCCESS;
    }
    println!("failed: {failed:?}");
    ExitCode::FAILURE
}
