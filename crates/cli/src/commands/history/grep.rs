//! `still grep`.

use super::control::Control;
use super::{At, past, range};
use crate::args::history::GrepArgs;
use crate::exit::{Code, fail};
use crate::{open, output};
use serde::Serialize;
use stillframe_timeline::Past;
use stillframe_timeline::grep::{self, Match, Needle, Progress, Watch};

/// A match.
#[derive(Serialize)]
struct Line {
    address: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    mapping: Option<String>,
    from: At,
    to: At,
}

struct Found<'p, 'a> {
    control: Control,
    past: &'p Past<'a>,
    json: bool,
}

impl Watch for Found<'_, '_> {
    fn found(&mut self, found: Match) -> bool {
        let (from, to) = (At::of(self.past, found.from), At::of(self.past, found.to));
        let mapping = self.past.layout(found.from).ok().and_then(|layout| {
            let mapping = layout.mapping_at(found.address)?;
            let name = layout.file_of(mapping).map_or(&mapping.name, |f| &f.path);
            (!name.is_empty()).then(|| output::printable(name).into_owned())
        });
        if self.json {
            return self.control.json(&Line {
                address: format!("{:#x}", found.address),
                mapping,
                from,
                to,
            });
        }
        self.control.line(&format!(
            "{:#014x}  {:>10} .. {:<10}  {:8.3} s .. {:.3} s  {}",
            found.address,
            from.checkpoint,
            to.checkpoint,
            from.seconds(),
            to.seconds(),
            mapping.unwrap_or_default()
        ))
    }

    fn progress(&mut self, progress: Progress) -> bool {
        let (done, all) = (progress.searched, progress.versions.max(progress.searched));
        // Each call stands for many pages.
        (0..16).all(|_| self.control.go_on(done, all, "pages"))
    }
}

/// Prints each match; exit code 10 if there is none.
pub fn run(args: &GrepArgs) -> anyhow::Result<u8> {
    let needle = Needle::parse(&args.form, &args.needle, args.align)?;
    let recording = open::recording(&args.recording)?;
    let range = range(&recording, &args.ask)?;
    let past = past(&recording, &args.ask.process, &range)?;
    let mut found = Found {
        control: Control::new("searching", args.ask.limit)?,
        past: &past,
        json: args.ask.json,
    };
    let outcome = grep::grep(&past, &needle, range, &mut found)?;
    tracing::info!(
        "searched {} pages; {} pages of files could not be had",
        outcome.searched,
        outcome.missing
    );
    let printed = found.control.printed();
    let code = found.control.finish()?;
    if code == 0 && printed == 0 {
        return Err(fail(
            Code::Nothing,
            format!("`{}` is nowhere in the memory looked at", args.needle),
        ));
    }
    Ok(code)
}
