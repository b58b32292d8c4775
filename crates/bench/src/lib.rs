//! What recording costs, measured: `still bench`.
//!
//! The bench is part of the command so that any machine can be measured with the one binary that
//! is on it. Workloads are programs in their own processes ([`targets`], or installed ones,
//! [`load`]); the recorder is the real command in a process of its own ([`recorder`]); what it did
//! is read back from the recording it wrote ([`figures`]); the result is compared with peers
//! ([`peers`]) and with the marks the project set itself ([`marks`]). It reports, and never asserts.
#![forbid(unsafe_code)]

pub mod accounts;
pub mod args;
mod capture;
pub mod figures;
mod history;
pub mod load;
pub mod marks;
pub mod measure;
pub mod peers;
pub mod plan;
mod policies;
pub mod process;
pub mod recorder;
pub mod report;
mod restore;
pub mod stats;
pub mod targets;

pub use args::{BenchArgs, BenchCommand};

/// Runs `still bench`.
///
/// # Errors
/// If something could not be measured. A missed mark is no error.
pub fn run(args: &BenchArgs) -> anyhow::Result<()> {
    match &args.command {
        BenchCommand::Capture(args) => capture::run(args),
        BenchCommand::Policies(args) => policies::run(args),
        BenchCommand::History(args) => history::run(args),
        BenchCommand::Restore(args) => restore::run(args),
        BenchCommand::Inproc(args) => Ok(stillframe_instrument::bench::run(args).map(|_| ())?),
        BenchCommand::Target(args) => targets::serve(args),
    }
}
