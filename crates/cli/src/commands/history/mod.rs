//! `still history`, `still find`, `still grep`, `still diff`, `still bookmark`: asking the past.
//!
//! Answers are printed as they are found, so that a long search is of use before it is over; with
//! `--json` each is one object on a line of its own, except where the answer is one document. Ctrl-C
//! ends a search with what was found.

mod bookmark;
mod control;
mod diff;
mod find;
mod follow;
mod grep;
mod places;
mod question;

pub use bookmark::run as bookmark;
pub use diff::run as diff;
pub use find::run as find;
pub use follow::run as history;
pub use grep::run as grep;

use crate::args::ProcessArgs;
use crate::args::history::AskArgs;
use crate::exit::{Code, fail};
use crate::open;
use serde::Serialize;
use std::ops::RangeInclusive;
use stillframe_image::{Marks, SpaceId};
use stillframe_store::{Moment, Recording};
use stillframe_timeline::Past;
use stillframe_timeline::past::position;

/// The positions that `--from` and `--to` mean.
fn range(recording: &Recording, args: &AskArgs) -> anyhow::Result<RangeInclusive<usize>> {
    between(recording, &args.from, &args.to)
}

/// The positions of two moments and of all between them; the ends, where none is given.
pub(super) fn between(
    recording: &Recording,
    from: &Option<String>,
    to: &Option<String>,
) -> anyhow::Result<RangeInclusive<usize>> {
    let resolve = |text: &Option<String>| -> anyhow::Result<Option<usize>> {
        let Some(text) = text else { return Ok(None) };
        let moment: Moment = text.parse()?;
        Ok(Some(position(recording, recording.resolve(&moment)?)))
    };
    let last = recording.rows().len().checked_sub(1);
    let last = last.ok_or_else(|| fail(Code::Recording, "the recording holds no checkpoints"))?;
    let range = resolve(from)?.unwrap_or(0)..=resolve(to)?.unwrap_or(last);
    if range.is_empty() {
        return Err(stillframe_timeline::Error::Empty.into());
    }
    Ok(range)
}

/// The process that was chosen, over time. A pid is looked for at the ends of the range and wherever
/// a process appeared in it.
fn past<'a>(
    recording: &'a Recording,
    chosen: &ProcessArgs,
    range: &RangeInclusive<usize>,
) -> anyhow::Result<Past<'a>> {
    if let Some(number) = chosen.process {
        return Ok(Past::new(recording, SpaceId(number))?);
    }
    let rows = recording.rows();
    let ends = [*range.start(), *range.end()];
    let appeared = range.clone().filter(|at| {
        rows.get(*at)
            .is_some_and(|r| chosen.pid.is_some() && r.tick.marks.contains(Marks::FORK))
    });
    let mut failed = None;
    for at in ends.into_iter().chain(appeared) {
        let Some(row) = rows.get(at) else { continue };
        match open::process(recording, row.id, chosen) {
            Ok(process) => return Ok(Past::new(recording, process.id)?),
            Err(error) => failed = failed.or(Some(error)),
        }
    }
    Err(failed.unwrap_or_else(|| fail(Code::Recording, "the recording holds no checkpoints")))
}

/// A moment in JSON.
#[derive(Clone, Copy, Serialize)]
struct At {
    checkpoint: u64,
    at_ns: u64,
}

impl At {
    fn of(past: &Past<'_>, at: usize) -> Self {
        Self {
            checkpoint: past.id(at).0,
            at_ns: past.row(at).map_or(0, |r| r.tick.at_ns),
        }
    }

    fn seconds(self) -> f64 {
        self.at_ns as f64 / 1e9
    }
}
