//! `still completions SHELL`.

use crate::args::{Cli, CompletionsArgs};
use crate::output;
use clap::CommandFactory as _;
use std::io::Write as _;

/// Prints the script. It is made in memory first: the generator panics where it cannot write.
pub fn run(args: &CompletionsArgs) -> anyhow::Result<u8> {
    let mut script = Vec::new();
    clap_complete::generate(args.shell, &mut Cli::command(), "still", &mut script);
    let mut out = output::stdout();
    out.write_all(&script)?;
    out.flush()?;
    Ok(0)
}
