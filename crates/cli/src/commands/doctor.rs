//! `still doctor`.

use crate::args::DoctorArgs;
use crate::exit::{Code, fail};
use crate::output::{self, printable};
use serde::Serialize;
use std::io::Write as _;
use stillframe_linux::features::{self, Candidate, Feature};

/// What was found, as JSON.
#[derive(Serialize)]
struct Report<'a> {
    /// Name of the tracker that a recording would use; null if none works here.
    tracker: Option<String>,
    /// All trackers, the preferred one first.
    trackers: Vec<TrackerRow>,
    features: Vec<Row<'a>>,
}

#[derive(Serialize)]
struct TrackerRow {
    name: String,
    usable: bool,
    /// Name of the feature it lacks; null if usable.
    lacks: Option<&'static str>,
}

#[derive(Serialize)]
struct Row<'a> {
    name: &'a str,
    available: bool,
    detail: &'a str,
    used_for: &'a str,
}

/// Tries everything and says what it means; exit code 8 if nothing can be recorded here.
pub fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    let found = features::all();
    let candidates = features::candidates(&found);
    let tracker = features::tracker(&candidates);
    if args.json {
        output::json(&Report {
            tracker: tracker.as_ref().ok().map(ToString::to_string),
            trackers: candidates
                .iter()
                .map(|c| TrackerRow {
                    name: c.tracker.to_string(),
                    usable: c.lacks.is_none(),
                    lacks: c.lacks.as_ref().map(|l| l.missing),
                })
                .collect(),
            features: found
                .iter()
                .map(|f| Row {
                    name: f.name,
                    available: f.available,
                    detail: &f.detail,
                    used_for: f.used_for,
                })
                .collect(),
        })?;
    } else {
        print(
            &found,
            &candidates,
            tracker.as_ref().ok().map(ToString::to_string),
        )?;
    }
    match tracker {
        Ok(_) => Ok(0),
        Err(missing) => Err(fail(Code::Kernel, missing.to_string())),
    }
}

fn print(
    found: &[Feature],
    candidates: &[Candidate],
    tracker: Option<String>,
) -> anyhow::Result<()> {
    let mut out = output::stdout();
    let width = found.iter().map(|f| f.name.len()).max().unwrap_or(0);
    for feature in found {
        let available = if feature.available { "yes" } else { "no" };
        writeln!(
            out,
            "{:width$}  {available:<3}  {}",
            feature.name,
            printable(feature.detail.as_bytes())
        )?;
        writeln!(out, "{:width$}       for {}", "", feature.used_for)?;
    }
    writeln!(out)?;
    for candidate in candidates {
        let name = format!("tracker {}", candidate.tracker);
        let state = match &candidate.lacks {
            None if tracker.as_ref() == Some(&candidate.tracker.to_string()) => {
                "yes  will be used".to_owned()
            }
            None => "yes  with --tracker".to_owned(),
            Some(lacks) => format!("no   lacks {}", lacks.missing),
        };
        writeln!(out, "{name:width$}  {state}")?;
    }
    match tracker {
        Some(tracker) => {
            writeln!(
                out,
                "\nwritten pages will be found by {tracker}; recording works here"
            )?;
        }
        None => writeln!(out, "\nno way to find written pages works here")?,
    }
    out.flush()?;
    Ok(())
}
