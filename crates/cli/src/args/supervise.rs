//! `still supervise`.

use super::CaptureArgs;
use super::rollback::LiveFiles;
use crate::units;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;

/// `still supervise`.
#[derive(Clone, Debug, Args)]
pub struct SuperviseArgs {
    #[command(flatten)]
    pub capture: CaptureArgs,
    /// Times in a row that it is taken back for a fault that comes again at once, each time further
    /// back, before it is left to its fate.
    #[arg(long, value_name = "N", default_value = "6")]
    pub retries: u32,
    /// Times that it is taken back in all; without it, any number.
    #[arg(long, value_name = "N")]
    pub limit: Option<u64>,
    /// In its second life the connection that data last came in by is broken (ECONNRESET), so that a
    /// server drops the request that it died of.
    #[arg(long)]
    pub on_error_return: bool,
    /// Files that the program writes, when it is taken back: left as they are (ignore), a reason not to
    /// take it back if they are not what they were (check), or put back to what they were (version,
    /// with --yes). What is recorded of them is said by --files, which is version then.
    #[arg(long, value_enum, value_name = "ignore|check|version", default_value_t = LiveFiles::Ignore)]
    pub files_back: LiveFiles,
    /// Agree that --files-back version writes over files.
    #[arg(long)]
    pub yes: bool,
    /// A shell command that tells whether the program is well: it is not if this fails, or takes too
    /// long.
    #[arg(long, value_name = "CMD")]
    pub health: Option<String>,
    /// How often that is asked.
    #[arg(long, value_name = "TIME", default_value = "1s", value_parser = units::time)]
    pub health_every: Duration,
    /// How long it may take: a program that does not answer hangs.
    #[arg(long, value_name = "TIME", default_value = "5s", value_parser = units::time)]
    pub health_timeout: Duration,
    /// Failures in a row before something is done.
    #[arg(long, value_name = "N", default_value = "2")]
    pub health_failures: u32,
    /// Shell command run at every event, with STILL_EVENT (crash, sick, back, gave-up, failed),
    /// STILL_PID, STILL_RECORDING, STILL_CHECKPOINT and STILL_REASON in its environment. It is not
    /// waited for.
    #[arg(long, value_name = "CMD")]
    pub hook: Option<String>,
    /// Figures for Prometheus: an address on loopback (127.0.0.1:9100), or a file that is replaced as
    /// they change.
    #[arg(long, value_name = "ADDRESS|FILE")]
    pub metrics: Option<String>,
    /// A line of JSON for each event, appended to this file.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub log: Option<PathBuf>,
    /// The program and its arguments, after `--`.
    #[arg(
        required = true,
        trailing_var_arg = true,
        value_name = "CMD",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}
