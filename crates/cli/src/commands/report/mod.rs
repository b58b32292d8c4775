//! `still report`.

mod text;

use super::export::place::{self, Partial};
use crate::args::ReportArgs;
use crate::{open, output, units};
use anyhow::Context as _;
use std::io::{IsTerminal as _, Write as _};
use stillframe_report::{Options, html};

/// Checkpoints between two updates of the progress line.
const EVERY: usize = 5000;

/// Prints figures, writes a page, or both.
pub fn run(args: &ReportArgs) -> anyhow::Result<u8> {
    if let Some(path) = &args.html {
        place::refuse_existing(path, args.force)?;
    }
    let recording = open::recording(&args.recording)?;
    let ns = |d: std::time::Duration| u64::try_from(d.as_nanos()).unwrap_or(u64::MAX);
    let options = Options {
        fault_cost_ns: args.fault_cost.map(ns),
        second_ns: args.second.map(ns),
    };
    let all = recording.rows().len();
    let shown = all >= 2 * EVERY && std::io::stderr().is_terminal();
    let analysis = stillframe_report::read(&args.recording, &recording, options, |n| {
        if shown && (n % EVERY == 0 || n == all) {
            let end = if n == all { "\r\x1b[K" } else { "" };
            // Progress that cannot be shown is none.
            let _ = write!(std::io::stderr(), "\r{n} of {all} checkpoints read{end}");
        }
    });
    if let Some(path) = &args.html {
        let page = html::page(&analysis).context("cannot make the page")?;
        let partial = Partial::create(path)?;
        partial
            .file()
            .write_all(page.as_bytes())
            .with_context(|| format!("cannot write {}", path.display()))?;
        partial.publish(args.force)?;
        if !args.json && !args.text {
            let mut out = output::stdout();
            let name = path.to_string_lossy();
            writeln!(
                out,
                "wrote {}: {}, {all} checkpoints; open it in a browser",
                output::printable(name.as_bytes()),
                units::show_size(page.len() as u64),
            )?;
            out.flush()?;
            return Ok(0);
        }
    }
    if args.json {
        output::json(&analysis.figures)?;
    } else {
        let mut out = output::stdout();
        text::write(&mut out, &analysis.figures)?;
        out.flush()?;
    }
    Ok(0)
}
