//! What was typed to find the last good moment.

use super::ProcessArgs;
use super::check::FilesArgs;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `still last-good`.
#[derive(Clone, Debug, Args)]
pub struct LastGoodArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// The first moment to look at: 42, 12.5s, -3s, a tag. Without it, the first there is.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub from: Option<String>,
    /// The last moment to look at. Without it, the last there is.
    #[arg(long, value_name = "MOMENT", allow_hyphen_values = true)]
    pub to: Option<String>,
    #[command(flatten)]
    pub process: ProcessArgs,
    /// Write an ELF core of the moment to this file before each run; the last one stays.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub core: Option<PathBuf>,
    /// Replace that file if it exists.
    #[arg(long, requires = "core")]
    pub force: bool,
    /// Then bring that moment back to life, as `still restore` does in the foreground, and exit as the
    /// process does.
    #[arg(long, conflicts_with = "json")]
    pub restore: bool,
    #[command(flatten)]
    pub files: FilesArgs,
    /// Print the answer as JSON.
    #[arg(long)]
    pub json: bool,
    /// No line for each run.
    #[arg(short, long)]
    pub quiet: bool,
    /// The command that judges a moment, and its arguments, after `--`; `{}` in them becomes
    /// REC@N. It exits with 0: good, 125: cannot tell, 1 to 127: bad, 128 and more: end the search.
    #[arg(
        required = true,
        last = true,
        value_name = "PREDICATE",
        value_hint = ValueHint::CommandWithArguments
    )]
    pub command: Vec<OsString>,
}
