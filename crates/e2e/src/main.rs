//! `still-e2e`: scenarios by hand and at full length. `cargo xtask` calls it.
#![forbid(unsafe_code)]

use clap::{Parser, Subcommand};
use std::process::ExitCode;
use stillframe_e2e::scenarios;
use stillframe_e2e::{Length, Scenario, runner};

/// Runs end-to-end scenarios of stillframe.
#[derive(Debug, Parser)]
#[command(name = "still-e2e")]
struct Cli {
    #[command(subcommand)]
    command: Command,
}

#[derive(Debug, Subcommand)]
enum Command {
    /// List the scenarios.
    List,
    /// Run the short forms.
    Run {
        /// Parts of names; all without.
        names: Vec<String>,
    },
    /// Run the full-length forms.
    Soak {
        /// Parts of names; all without.
        names: Vec<String>,
        /// Checkpoints of each bit-exactness scenario.
        #[arg(long, default_value_t = Length::SOAK.checkpoints)]
        checkpoints: u64,
    },
    /// Kill recorders at random instants.
    Survive {
        /// How many.
        #[arg(long, default_value_t = Length::SOAK.kills)]
        kills: u32,
    },
    /// Open damaged recordings.
    Torn {
        /// How many of each kind.
        #[arg(long, default_value_t = Length::SOAK.cases)]
        cases: u32,
    },
}

fn main() -> ExitCode {
    let all = scenarios::all();
    let (names, length): (Vec<String>, Length) = match Cli::parse().command {
        Command::List => {
            for scenario in &all {
                println!("{:28} {}", scenario.name, scenario.about);
            }
            return ExitCode::SUCCESS;
        }
        Command::Run { names } => (names, Length::SHORT),
        Command::Soak { names, checkpoints } => (
            names,
            Length {
                checkpoints,
                ..Length::SOAK
            },
        ),
        Command::Survive { kills } => (
            vec!["survive::".to_owned()],
            Length {
                kills,
                ..Length::SOAK
            },
        ),
        Command::Torn { cases } => (
            vec!["torn::".to_owned()],
            Length {
                cases,
                ..Length::SOAK
            },
        ),
    };
    report(&all, &names, &length)
}

fn report(all: &[Scenario], names: &[String], length: &Length) -> ExitCode {
    let counts = runner::run(all, names, length);
    println!(
        "{} passed, {} failed, {} skipped",
        counts.passed, counts.failed, counts.skipped
    );
    if counts.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    }
}
