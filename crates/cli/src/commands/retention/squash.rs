//! `still squash`.

use super::{change, report, split_range};
use crate::args::retention::SquashArgs;
use crate::open;
use stillframe_store::retention::Change;

/// Merges a range of moments into its last.
pub fn run(args: &SquashArgs) -> anyhow::Result<u8> {
    let (path, from, to) = split_range(&args.range)?;
    let recording = open::recording(&path)?;
    let from = recording.resolve(&from)?.0;
    let to = recording.resolve(&to)?.0;
    drop(recording);
    let done = change(&path, &Change::Squash { from, to })?;
    report(&path, done, false, args.json)
}
