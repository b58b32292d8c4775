//! `still tag`.

use super::change;
use crate::args::retention::TagArgs;
use crate::exit::{Code, fail};
use crate::{open, output};
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use stillframe_store::retention::Change;

#[derive(Serialize)]
struct Tag<'a> {
    name: &'a str,
    checkpoint: u64,
    at_ns: Option<u64>,
}

/// Names a moment, takes a name away, or lists the names.
pub fn run(args: &TagArgs) -> anyhow::Result<u8> {
    let bare = Path::new(&args.moment);
    if args.list {
        return list(args, bare);
    }
    let name = args.name.clone().unwrap_or_default();
    if args.delete {
        change(bare, &Change::Untag(name))?;
        return Ok(0);
    }
    let opened = open::moment(&args.moment)?;
    usage_of_name(&name)?;
    let id = opened.id.0;
    drop(opened.recording);
    change(&opened.path, &Change::Tag { name, id })?;
    Ok(0)
}

/// Refuses what is no name.
pub fn usage_of_name(name: &str) -> anyhow::Result<()> {
    if stillframe_store::moment::is_tag(name) {
        return Ok(());
    }
    Err(fail(
        Code::Usage,
        format!(
            "`{}` is no name; take letters, digits, `_`, `-` and `.`, a letter first, and none of \
             first, last, crash, exit",
            output::printable(name.as_bytes())
        ),
    ))
}

fn list(args: &TagArgs, path: &Path) -> anyhow::Result<u8> {
    let recording = open::recording(path)?;
    let tags: Vec<Tag<'_>> = recording
        .tags()
        .iter()
        .map(|(name, id)| Tag {
            name,
            checkpoint: id.0,
            at_ns: recording.row(*id).map(|r| r.tick.at_ns),
        })
        .collect();
    if args.json {
        output::json(&tags)?;
        return Ok(0);
    }
    let mut out = output::stdout();
    for tag in &tags {
        let seconds = tag.at_ns.unwrap_or(0) as f64 / 1e9;
        writeln!(out, "{:>8}  {seconds:10.3} s  {}", tag.checkpoint, tag.name)?;
    }
    out.flush()?;
    Ok(0)
}
