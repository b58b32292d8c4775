//! What was typed to see a recording in the terminal.

use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;

/// `still view`.
#[derive(Clone, Debug, Args)]
pub struct ViewArgs {
    /// The recording, which may still be growing, or a moment of it to begin with: REC@42,
    /// REC@12.5s, REC@-3s, REC@crash. Without one, the last.
    #[arg(value_name = "REC[@MOMENT]", value_hint = ValueHint::DirPath)]
    pub recording: OsString,
    /// An expression to watch from the start; may be given more than once.
    #[arg(short, long, value_name = "EXPR")]
    pub watch: Vec<String>,
    /// A directory in which source is looked for, if it is not where the program was built; may be
    /// given more than once.
    #[arg(long, value_name = "DIR", value_hint = ValueHint::DirPath)]
    pub source: Vec<PathBuf>,
}
