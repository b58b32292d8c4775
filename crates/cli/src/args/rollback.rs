//! `still rollback`.

use clap::Args;
use std::ffi::OsString;

/// `still rollback`.
#[derive(Clone, Debug, Args)]
pub struct RollbackArgs {
    /// The live process: the one that was recorded.
    #[arg(value_parser = clap::value_parser!(u32).range(1..=4_194_304))]
    pub pid: u32,
    /// The moment it goes back to: REC@42 (checkpoint 42), REC@12.5s (that time), REC@-3s (before
    /// the end), REC@first, REC@NAME.
    #[arg(value_name = "REC@MOMENT")]
    pub moment: OsString,
    /// Read all memory, registers and state back before the first instruction, and compare.
    #[arg(long)]
    pub paranoid: bool,
    /// Leave it stopped (SIGCONT lets it go on).
    #[arg(long)]
    pub stopped: bool,
    /// Say what was done as JSON.
    #[arg(long)]
    pub json: bool,
}
