//! `still bookmark`: tags with notes beside them.

use crate::args::history::BookmarkArgs;
use crate::commands::retention::{change, usage_of_name};
use crate::{open, output};
use serde::Serialize;
use std::io::Write as _;
use std::path::Path;
use stillframe_image::CheckpointId;
use stillframe_report::bookmarks;
use stillframe_store::retention::Change;

#[derive(Serialize)]
struct Bookmark<'a> {
    name: &'a str,
    checkpoint: u64,
    at_ns: Option<u64>,
    note: Option<&'a str>,
}

/// Makes a bookmark, takes one away, or lists them.
pub fn run(args: &BookmarkArgs) -> anyhow::Result<u8> {
    let bare = Path::new(&args.moment);
    if args.list {
        return list(args, bare);
    }
    if args.delete {
        change(bare, &Change::Untag(args.name.clone().unwrap_or_default()))?;
        return Ok(0);
    }
    let opened = open::moment(&args.moment)?;
    let at_ns = opened.recording.row(opened.id).map(|r| r.tick.at_ns);
    let (id, path) = (opened.id.0, opened.path);
    drop(opened.recording);
    let note = args.note.clone().unwrap_or_default();
    let name = match &args.name {
        Some(name) => {
            usage_of_name(name)?;
            let (name, fresh) = (name.clone(), false);
            let request = Change::Bookmark {
                name: name.clone(),
                id,
                note: note.clone(),
                fresh,
            };
            change(&path, &request)?;
            name
        }
        None => bookmarks::keep(&path, CheckpointId(id), &note)?,
    };
    if args.json {
        let note = (!note.is_empty()).then_some(note.as_str());
        output::json(&Bookmark {
            name: &name,
            checkpoint: id,
            at_ns,
            note,
        })?;
    } else if args.name.is_none() {
        let mut out = output::stdout();
        writeln!(out, "{}@{name}", path.display())?;
        out.flush()?;
    }
    Ok(0)
}

fn list(args: &BookmarkArgs, path: &Path) -> anyhow::Result<u8> {
    let recording = open::recording(path)?;
    let mut all: Vec<Bookmark<'_>> = recording
        .tags()
        .iter()
        .map(|(name, id)| Bookmark {
            name,
            checkpoint: id.0,
            at_ns: recording.row(*id).map(|r| r.tick.at_ns),
            note: recording.notes().get(name).map(String::as_str),
        })
        .collect();
    all.sort_by_key(|b| b.checkpoint);
    if args.json {
        output::json(&all)?;
        return Ok(0);
    }
    let mut out = output::stdout();
    for mark in &all {
        let seconds = mark.at_ns.unwrap_or(0) as f64 / 1e9;
        write!(
            out,
            "{:>8}  {seconds:10.3} s  {}",
            mark.checkpoint, mark.name
        )?;
        if let Some(note) = mark.note {
            write!(out, "  {}", output::printable(note.as_bytes()))?;
        }
        writeln!(out)?;
    }
    out.flush()?;
    Ok(0)
}
