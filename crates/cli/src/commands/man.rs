//! `still man DIR`.

use crate::args::{Cli, ManArgs};
use anyhow::Context as _;
use clap::CommandFactory as _;

/// Writes still.1 and one page per command.
pub fn run(args: &ManArgs) -> anyhow::Result<u8> {
    std::fs::create_dir_all(&args.directory)
        .with_context(|| format!("cannot make {}", args.directory.display()))?;
    clap_mangen::generate_to(Cli::command(), &args.directory)
        .with_context(|| format!("cannot write into {}", args.directory.display()))?;
    Ok(0)
}
