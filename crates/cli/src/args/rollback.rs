//! `still rollback`.

use clap::{Args, ValueEnum};
use std::ffi::OsString;
use stillframe_restore::rollback::FilesToo;

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
    #[command(flatten)]
    pub files: LiveFilesArgs,
    /// Say what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// What is done with files that a live process has written since, and whether it may be done.
#[derive(Clone, Copy, Debug, Args)]
pub struct LiveFilesArgs {
    /// Files that the process has written since: taken as they are (ignore), a reason to refuse (check),
    /// or put back to what they were (version, with --yes; takes a recording made with --files
    /// version). See docs/files.md.
    #[arg(long, value_enum, default_value_t = LiveFiles::Check)]
    pub files: LiveFiles,
    /// Agree that --files version writes over files.
    #[arg(long)]
    pub yes: bool,
}

impl From<LiveFilesArgs> for FilesToo {
    fn from(typed: LiveFilesArgs) -> Self {
        Self {
            policy: typed.files.into(),
            agreed: typed.yes,
        }
    }
}

/// What is done with files that the live process has written since.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LiveFiles {
    /// They stay as they are.
    Ignore,
    /// One that is not what it was is a reason to refuse.
    Check,
    /// They are put back to what they were.
    Version,
}

impl From<LiveFiles> for stillframe_restore::check::Files {
    fn from(typed: LiveFiles) -> Self {
        match typed {
            LiveFiles::Ignore => Self::Ignore,
            LiveFiles::Check => Self::Check,
            LiveFiles::Version => Self::Version,
        }
    }
}
