//! What was typed to see what has changed since a moment.

use clap::Args;
use std::ffi::OsString;
use std::path::PathBuf;

/// What is done with files that the processes write.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum FilesArg {
    /// They are used as they are now, whatever they are.
    Ignore,
    /// They have to be what they were.
    Check,
    /// They are put back to what they were.
    Version,
    /// Copies of what they were are used; they are left alone.
    Private,
}

impl From<FilesArg> for stillframe_restore::check::Files {
    fn from(typed: FilesArg) -> Self {
        match typed {
            FilesArg::Ignore => Self::Ignore,
            FilesArg::Check => Self::Check,
            FilesArg::Version => Self::Version,
            FilesArg::Private => Self::Private,
        }
    }
}

/// What is done with files that the processes write, before they go on.
#[derive(Clone, Debug, Args)]
pub struct FilesArgs {
    /// Files that the process writes: taken as they are (ignore), refused if they have changed since
    /// (check), put back to what they were (version, with --yes), or copied as they were, for the new
    /// process alone (private). The last two take a recording made with --files version; see
    /// docs/files.md.
    #[arg(
        long,
        value_name = "ignore|check|version|private",
        default_value = "check"
    )]
    pub files: FilesArg,
    /// Agree that --files version writes over files.
    #[arg(long)]
    pub yes: bool,
    /// Where the copies of --files private go. One is made in the temporary directory without.
    #[arg(long, value_name = "DIR")]
    pub private_dir: Option<PathBuf>,
}

/// `still check`.
#[derive(Clone, Debug, Args)]
pub struct CheckArgs {
    /// The moment: REC@42 (checkpoint 42), REC@12.5s (that time), REC@-3s (before the end),
    /// REC@first, REC@last, REC@crash, REC@exit.
    #[arg(value_name = "REC@MOMENT")]
    pub moment: OsString,
    /// What would be done with files that the processes write, see docs/files.md.
    #[arg(
        long,
        value_name = "ignore|check|version|private",
        default_value = "check"
    )]
    pub files: FilesArg,
    /// The processes would have their old pids, from among those of this machine. (Those of a tree keep
    /// theirs in any case, in a PID namespace of their own if need be.)
    #[arg(long)]
    pub same_pids: bool,
    /// The live processes would be put back (as `still rollback` does), so only what they do not keep
    /// is looked at.
    #[arg(long, conflicts_with = "same_pids")]
    pub live: bool,
    /// Print what is as it was, too.
    #[arg(short, long)]
    pub all: bool,
    /// All findings as JSON.
    #[arg(long)]
    pub json: bool,
}
