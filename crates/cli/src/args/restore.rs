//! What was typed to bring a moment back to life.

use super::check::FilesArgs;
use clap::{Args, ValueEnum};
use std::ffi::OsString;

/// `still restore`.
#[derive(Clone, Debug, Args)]
pub struct RestoreArgs {
    /// The moment: REC@42 (checkpoint 42), REC@12.5s (that time), REC@-3s (before the end),
    /// REC@first, REC@last, REC@crash.
    #[arg(value_name = "REC@MOMENT")]
    pub moment: OsString,
    /// Only this process of a recorded tree, by its number in the recording; `still show` lists them.
    /// Without it, all of them come back.
    #[arg(long, value_name = "N")]
    pub process: Option<u32>,
    /// Which pid the new process gets: one of the kernel's choice (new), or the one it had (same), which
    /// takes CAP_CHECKPOINT_RESTORE and must be free. The processes of a tree always keep theirs: in a
    /// PID namespace of their own, if one is taken or we are not privileged. One process: new.
    #[arg(long, value_enum)]
    pub pid: Option<PidChoice>,
    /// Do not wait for it: print its pid (of a tree, that of the root) and leave it running.
    #[arg(short, long)]
    pub detach: bool,
    /// Leave it stopped at its first instruction; SIGCONT lets it go on. Each process of a tree is
    /// stopped; --json lists their pids.
    #[arg(long)]
    pub stopped: bool,
    /// Let it run before its memory is there: pages come when they are touched, and the others
    /// meanwhile. With --detach, `still` ends when all are there. Takes CAP_SYS_PTRACE.
    #[arg(long)]
    pub lazy: bool,
    /// Read all memory, registers and state back before the first instruction, and compare; a
    /// difference ends it.
    #[arg(long, conflicts_with = "lazy")]
    pub paranoid: bool,
    #[command(flatten)]
    pub files: FilesArgs,
    /// How many independent copies to start.
    #[arg(short = 'n', long, value_name = "COUNT", default_value_t = 1,
          value_parser = clap::value_parser!(u32).range(1..=4096))]
    pub count: u32,
    /// What came back otherwise than it was is no reason to warn.
    #[arg(short, long)]
    pub quiet: bool,
    /// Print pids, times and differences as JSON, on stderr unless --detach is given.
    #[arg(long)]
    pub json: bool,
}

/// Which pid.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum PidChoice {
    /// One of the kernel's choice.
    New,
    /// The one it had.
    Same,
}
