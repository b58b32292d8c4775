//! Runs scenarios one after the other and counts.
//!
//! The output is in the words of the standard test harness (`test NAME ... ok`, `test result: ...`)
//! so that whoever reads those reads these. Skips are loud and counted as `ignored`.

use crate::{Length, Outcome, Scenario, place::NoCompiler};
use std::panic::{AssertUnwindSafe, catch_unwind};
use std::process::ExitCode;
use std::time::Instant;

/// What became of the scenarios.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Counts {
    /// Checks held.
    pub passed: u32,
    /// A check did not hold.
    pub failed: u32,
    /// Not run.
    pub skipped: u32,
}

/// Runs those scenarios whose name contains one of `filters` (all, without filters).
pub fn run(scenarios: &[Scenario], filters: &[String], length: &Length) -> Counts {
    let chosen =
        |s: &&Scenario| filters.is_empty() || filters.iter().any(|f| s.name.contains(f.as_str()));
    let mut counts = Counts::default();
    let mut failures = Vec::new();
    println!(
        "\nrunning {} scenarios",
        scenarios.iter().filter(chosen).count()
    );
    for scenario in scenarios.iter().filter(chosen) {
        let begun = Instant::now();
        let result = catch_unwind(AssertUnwindSafe(|| (scenario.run)(length)))
            .unwrap_or_else(|_| Err(anyhow::anyhow!("the scenario panicked")));
        let took = begun.elapsed().as_secs_f64();
        match result {
            Ok(Outcome::Passed(figures)) => {
                counts.passed += 1;
                println!("test {} ... ok ({took:.1} s) {figures}", scenario.name);
            }
            Ok(Outcome::Skipped(why)) => {
                counts.skipped += 1;
                println!(
                    "test {} ... ignored\nSKIPPED: {}: {why}",
                    scenario.name, scenario.name
                );
            }
            Err(error) if error.downcast_ref::<NoCompiler>().is_some() => {
                counts.skipped += 1;
                println!(
                    "test {} ... ignored\nSKIPPED: {}: {error}",
                    scenario.name, scenario.name
                );
            }
            Err(error) => {
                counts.failed += 1;
                println!(
                    "test {} ... FAILED ({took:.1} s)\n    {error:#}",
                    scenario.name
                );
                failures.push(scenario);
            }
        }
    }
    if !failures.is_empty() {
        println!("\nfailures:");
        for scenario in &failures {
            println!("    {} ({})", scenario.name, scenario.about);
        }
    }
    println!(
        "\ntest result: {}. {} passed; {} failed; {} ignored; 0 measured; 0 filtered out",
        if counts.failed == 0 { "ok" } else { "FAILED" },
        counts.passed,
        counts.failed,
        counts.skipped
    );
    counts
}

/// The entry point of the test binary: understands what `cargo test` passes on.
pub fn test_main(scenarios: &[Scenario]) -> ExitCode {
    let mut filters = Vec::new();
    let mut args = std::env::args().skip(1);
    while let Some(arg) = args.next() {
        match arg.as_str() {
            "--list" => {
                for scenario in scenarios {
                    println!("{}: test", scenario.name);
                }
                return ExitCode::SUCCESS;
            }
            // Options of the standard harness that take a value and mean nothing here.
            "--test-threads" | "--color" | "--format" | "--skip" | "-Z" | "--logfile" => {
                args.next();
            }
            flag if flag.starts_with('-') => {}
            filter => filters.push(filter.to_owned()),
        }
    }
    let counts = run(scenarios, &filters, &Length::SHORT);
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::from(101)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn counting() {
        let all = [
            Scenario {
                name: "a::good",
                about: "",
                run: |_| crate::passed(""),
            },
            Scenario {
                name: "a::bad",
                about: "",
                run: |_| anyhow::bail!("no"),
            },
            Scenario {
                name: "b::none",
                about: "",
                run: |_| crate::skip("not here"),
            },
            Scenario {
                name: "b::panics",
                about: "",
                run: |_| panic!("on purpose"),
            },
        ];
        let counts = run(&all, &[], &Length::SHORT);
        assert_eq!(
            counts,
            Counts {
                passed: 1,
                failed: 2,
                skipped: 1
            }
        );
        let some = run(&all, &["b::".to_owned()], &Length::SHORT);
        assert_eq!(
            some,
            Counts {
                passed: 0,
                failed: 1,
                skipped: 1
            }
        );
    }
}
