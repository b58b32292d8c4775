//! Options about call stacks and where debug information is.

use clap::{Args, ValueHint};
use std::path::PathBuf;

/// Where debug information is looked for.
#[derive(Clone, Debug, Default, Args)]
pub struct DebugArgs {
    /// Look for separate debug files here before /usr/lib/debug; the directory is laid out alike.
    /// May be given several times.
    #[arg(long = "debug-dir", value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub directories: Vec<PathBuf>,
    /// Use programs and libraries of this machine although they are not those that were recorded.
    #[arg(long)]
    pub force: bool,
}

/// Call stacks of `still show`.
#[derive(Clone, Debug, Args)]
pub struct StackArgs {
    /// Only the call stacks of the threads, the innermost frame first.
    #[arg(long, conflicts_with = "account")]
    pub bt: bool,
    /// With the arguments and local variables of each frame.
    #[arg(long, requires = "bt")]
    pub locals: bool,
    /// Only this thread's call stack.
    #[arg(long, value_name = "TID", requires = "bt")]
    pub thread: Option<u32>,
    /// Most frames of one stack, inlined ones not counted.
    #[arg(long, value_name = "N", requires = "bt", default_value_t = 1024,
        value_parser = clap::builder::RangedU64ValueParser::<usize>::new().range(1..=1_000_000))]
    pub depth: usize,
    #[command(flatten)]
    pub debug: DebugArgs,
}
