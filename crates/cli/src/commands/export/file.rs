//! `still export --file`: what a file held at a moment.

use super::place::Partial;
use crate::args::ExportArgs;
use crate::exit::{Code, fail};
use crate::open::Opened;
use crate::{output, units};
use anyhow::Context as _;
use serde::Serialize;
use std::ffi::OsStr;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use stillframe_image::{FileContent, PAGE_SIZE, PageNumber, WrittenFile};

/// Pages read at once.
const PAGES: usize = 256;

#[derive(Serialize)]
struct Report {
    output: String,
    checkpoint: u64,
    path: String,
    bytes: u64,
    /// Whether it was written while it was read, so that it is not of one instant.
    torn: bool,
}

/// Writes the content of a file of the moment.
pub fn run(opened: &Opened, name: &OsStr, args: &ExportArgs) -> anyhow::Result<u8> {
    let (recording, id) = (&opened.recording, opened.id);
    let files = recording.files(id)?;
    let file = choose(&files, name.as_bytes())
        .map_err(|why| fail(Code::Recording, format!("checkpoint {id} {why}")))?;
    let shown = output::printable(&file.path).into_owned();
    let Some(memory) = recording.file_memory(id, file) else {
        let why = match &file.content {
            FileContent::Left(why) => why,
            _ => "record with --files version",
        };
        return Err(fail(
            Code::Recording,
            format!("the content of {shown} is not kept at checkpoint {id}: {why}"),
        ));
    };
    let partial = Partial::create(&args.output)?;
    let failed = || format!("cannot write {}", args.output.display());
    let mut buffer = vec![0; PAGES * PAGE_SIZE];
    let all = PageNumber(0)..PageNumber(file.size.div_ceil(PAGE_SIZE as u64));
    let pages = memory.pages_with_versions(all)?;
    // What was never written stays a hole.
    for run in pages.chunk_by(|(a, _), (b, _)| b.0 == a.0 + 1) {
        for run in run.chunks(PAGES) {
            let Some((first, _)) = run.first() else {
                continue;
            };
            let rest = file.size.saturating_sub(first.address());
            let length = (run.len() * PAGE_SIZE).min(usize::try_from(rest).unwrap_or(usize::MAX));
            let bytes = &mut buffer[..length];
            memory.read(first.address(), bytes)?;
            partial
                .file()
                .write_all_at(bytes, first.address())
                .with_context(failed)?;
        }
    }
    partial.file().set_len(file.size).with_context(failed)?;
    partial.publish(args.force)?;
    let torn = matches!(file.content, FileContent::Torn { .. });
    if args.json {
        output::json(&Report {
            output: args.output.to_string_lossy().into_owned(),
            checkpoint: id.0,
            path: shown,
            bytes: file.size,
            torn,
        })?;
    } else {
        let mut out = output::stdout();
        let to = args.output.to_string_lossy();
        writeln!(
            out,
            "wrote {}: {shown} at checkpoint {id}, {}",
            output::printable(to.as_bytes()),
            units::show_size(file.size)
        )?;
        if torn {
            writeln!(
                out,
                "note: it was written while it was read: some of it may be later than the checkpoint"
            )?;
        }
        out.flush()?;
    }
    Ok(0)
}

/// The file of this path, or the only one whose path ends so; of several, the one that has a name.
fn choose<'a>(files: &'a [WrittenFile], name: &[u8]) -> Result<&'a WrittenFile, String> {
    let shown = output::printable(name);
    let end = [b"/", name].concat();
    let exact: Vec<_> = files.iter().filter(|f| f.path == name).collect();
    let found = if exact.is_empty() {
        files.iter().filter(|f| f.path.ends_with(&end)).collect()
    } else {
        exact
    };
    let named: Vec<_> = found.iter().copied().filter(|f| f.links > 0).collect();
    match (&found[..], &named[..]) {
        ([only], _) | (_, [only]) => Ok(only),
        ([], _) => Err(format!(
            "has no written file {shown}; `still show --files` lists them"
        )),
        _ => Err(format!(
            "has several files {shown}; name one by its whole path"
        )),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn file(path: &str, links: u32) -> WrittenFile {
        WrittenFile {
            path: path.into(),
            links,
            ..WrittenFile::default()
        }
    }

    #[test]
    fn files_are_chosen_by_path_or_its_end() {
        let files = [
            file("/a/x.db", 1),
            file("/b/x.db", 1),
            file("/b/log", 1),
            file("/c/old", 0),
            file("/c/old", 1),
        ];
        let at = |name: &str| {
            choose(&files, name.as_bytes())
                .ok()
                .map(|f| (f.path.clone(), f.links))
        };
        assert_eq!(at("/a/x.db"), Some((b"/a/x.db".to_vec(), 1)));
        assert_eq!(at("a/x.db"), Some((b"/a/x.db".to_vec(), 1)));
        assert_eq!(at("log"), Some((b"/b/log".to_vec(), 1)));
        assert_eq!(at("x.db"), None);
        assert_eq!(at("og"), None);
        assert_eq!(at("old"), Some((b"/c/old".to_vec(), 1)));
    }
}
