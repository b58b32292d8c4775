//! The command `still`.
//!
//! Three layers, kept apart so that each can be read and tested alone: [`args`] is what was typed,
//! [`commands`] is what it means, and this file alone turns errors into exit codes and one line on
//! stderr. A command therefore never exits, and never prints an error itself.
#![forbid(unsafe_code)]

mod args;
mod commands;
mod exit;
mod live;
mod logging;
mod names;
mod open;
mod output;
mod progress;
mod units;
mod usage;
mod world;

use clap::Parser as _;
use std::io::Write as _;
use std::process::ExitCode;

fn main() -> ExitCode {
    let typed = match args::Cli::try_parse() {
        Ok(typed) => typed,
        Err(error) => return usage(&error),
    };
    logging::start(typed.verbose);
    match commands::run(typed.command) {
        Ok(code) => ExitCode::from(code),
        Err(error) if exit::is_broken_pipe(&error) => ExitCode::SUCCESS,
        Err(error) => {
            let mut stderr = std::io::stderr().lock();
            // Nowhere is left to report a failure to write the report.
            let _ = writeln!(stderr, "still: {}", exit::one_line(&error));
            ExitCode::from(exit::code_of(&error) as u8)
        }
    }
}

/// Help and version go to stdout as they are; a wrong command line becomes one line like every
/// other error.
fn usage(error: &clap::Error) -> ExitCode {
    use clap::error::ErrorKind;
    match error.kind() {
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion => {
            let _ = error.print();
            ExitCode::SUCCESS
        }
        ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand => {
            let _ = error.print();
            ExitCode::from(exit::Code::Usage as u8)
        }
        _ => {
            let mut stderr = std::io::stderr().lock();
            let _ = writeln!(stderr, "still: {}", exit::usage_line(&error.to_string()));
            ExitCode::from(exit::Code::Usage as u8)
        }
    }
}
