//! What was typed after `still cc`, `still c++` and `still inproc`.

use clap::{Args, Subcommand, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `still cc` and `still c++`.
#[derive(Clone, Debug, Args)]
pub struct CcArgs {
    /// Arguments of the compiler, and before or between them ours: --print (say what is run, and do
    /// not run it), --threads (granules of 8 bytes, for programs with threads), --undo-log (no tags:
    /// every store is logged), --hooks (the compiler's own instrumentation even if there is a pass),
    /// --compiler=PATH. STILL_CC_OPTIONS may hold them, too.
    #[arg(
        trailing_var_arg = true,
        allow_hyphen_values = true,
        value_name = "ARG",
        value_hint = ValueHint::FilePath
    )]
    pub arguments: Vec<OsString>,
}

/// `still inproc`.
#[derive(Clone, Debug, Args)]
pub struct InprocArgs {
    /// What to do.
    #[command(subcommand)]
    pub command: InprocCommand,
}

/// The parts of `still inproc`.
#[derive(Clone, Debug, Subcommand)]
pub enum InprocCommand {
    /// Compile and run every kind of store with each compiler here, and say which are missed.
    Selftest(SelftestArgs),
    /// Say what of a program is not covered: libraries, objects and functions that write unseen.
    Audit(AuditArgs),
    /// Build the compiler pass for the clang that is installed; later builds use it.
    Pass(PassArgs),
    /// Print the flags for rustc (one line for RUSTFLAGS, or one a line).
    Rustflags(RustflagsArgs),
}

/// `still inproc selftest`.
#[derive(Clone, Debug, Args)]
pub struct SelftestArgs {
    /// Only this compiler (a name as it prints).
    #[arg(long, value_name = "NAME")]
    pub compiler: Option<String>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still inproc audit`.
#[derive(Clone, Debug, Args)]
pub struct AuditArgs {
    /// The program.
    #[arg(value_name = "BINARY", value_hint = ValueHint::FilePath)]
    pub binary: PathBuf,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still inproc pass`.
#[derive(Clone, Debug, Args)]
pub struct PassArgs {
    /// The clang it is for; without it, the one that `still cc` uses.
    #[arg(long, value_name = "PATH", value_hint = ValueHint::FilePath)]
    pub compiler: Option<PathBuf>,
}

/// `still inproc rustflags`.
#[derive(Clone, Debug, Args)]
pub struct RustflagsArgs {
    /// For CARGO_ENCODED_RUSTFLAGS: separated by the unit separator (0x1f) instead of one a line.
    #[arg(long)]
    pub encoded: bool,
}

/// `still bench inproc`.
#[derive(Clone, Debug, Args)]
pub struct BenchArgs {
    /// Pairs of runs that each figure is the median of.
    #[arg(long, value_name = "N", default_value_t = 5, value_parser = clap::value_parser!(u32).range(1..=99))]
    pub pairs: u32,
    /// Only these: empty, kv, server, sqlite, kernels.
    #[arg(long, value_name = "NAME", value_delimiter = ',')]
    pub only: Vec<String>,
    /// The amalgamation's sqlite3.c, sqlite3.h beside it; without it sqlite is skipped.
    #[arg(long, value_name = "FILE", value_hint = ValueHint::FilePath)]
    pub sqlite: Option<PathBuf>,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}
