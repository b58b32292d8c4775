//! `still export`.

mod content;
mod file;
pub mod place;

use crate::args::ExportArgs;
use crate::exit::{Code, fail};
use crate::{open, output, units};
use anyhow::Context as _;
use content::{Export, Written};
use place::Partial;
use serde::Serialize;
use std::ffi::OsString;
use std::io::Write as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use stillframe_image::{CheckpointId, FileIdentity, ProcessImage};
use stillframe_store::Recording;

/// What was written.
#[derive(Serialize)]
struct Report {
    core: String,
    checkpoint: u64,
    at_ns: u64,
    process: u32,
    pid: u32,
    /// How many processes the checkpoint has.
    processes: u32,
    threads: usize,
    bytes: u64,
    content_bytes: u64,
    executable: Option<String>,
    command: String,
    notes: Vec<String>,
}

/// Writes a core. It appears under its name only when it is whole.
pub fn run(args: &ExportArgs) -> anyhow::Result<u8> {
    let opened = open::moment(&args.moment)?;
    let (recording, id) = (&opened.recording, opened.id);
    let exe_path = {
        let mut name = OsString::from(args.output.as_os_str());
        name.push(".exe");
        PathBuf::from(name)
    };
    place::refuse_existing(&args.output, args.force)?;
    if let Some(name) = &args.file {
        return file::run(&opened, name, args);
    }
    if args.with_exe {
        place::refuse_existing(&exe_path, args.force)?;
    }

    let image = &open::process(recording, id, &args.process)?;
    let mut notes = Vec::new();
    let executable = executable_of(image);
    let extracted = match (args.with_exe, executable) {
        (false, _) => None,
        (
            true,
            Some(FileIdentity {
                object: Some(hash), ..
            }),
        ) => {
            extract(recording, hash, &exe_path, args.force)?;
            Some(exe_path)
        }
        (true, _) => {
            return Err(fail(
                Code::Recording,
                "the executable is not in the recording; leave --with-exe out",
            ));
        }
    };

    let written = core(recording, id, image, &args.output, args.force)?;
    notes.extend(written.notes);
    let local = executable.and_then(stillframe_timeline::machine::unchanged);
    let shown_exe = extracted.as_deref().or(local);
    if shown_exe.is_none() {
        notes.push(match executable {
            Some(FileIdentity {
                object: Some(_), ..
            }) => {
                "the executable is only in the recording, not on this machine: add --with-exe to \
                 extract it"
                    .to_owned()
            }
            Some(file) => format!(
                "the executable {} is neither in the recording nor unchanged on this machine",
                output::printable(&file.path)
            ),
            None => "the recording does not say which file the executable was".to_owned(),
        });
    }
    let quoted = |path: &Path| quote(&path.to_string_lossy());
    let command = match shown_exe {
        Some(exe) => format!("gdb {} {}", quoted(exe), quoted(&args.output)),
        None => format!("gdb -c {}", quoted(&args.output)),
    };
    let tick = recording.row(id).map(|row| row.tick).unwrap_or_default();
    let report = Report {
        core: args.output.to_string_lossy().into_owned(),
        checkpoint: id.0,
        at_ns: tick.at_ns,
        process: image.id.0,
        pid: image.process.pid,
        processes: tick.processes,
        threads: image.threads.len(),
        bytes: written.bytes,
        content_bytes: written.content_bytes,
        executable: shown_exe.map(|path| path.to_string_lossy().into_owned()),
        command,
        notes,
    };
    if args.json {
        output::json(&report)?;
    } else {
        print(&report)?;
    }
    Ok(0)
}

/// Writes the core of one process, under its name only when it is whole.
pub fn core(
    recording: &Recording,
    id: CheckpointId,
    image: &ProcessImage,
    output: &Path,
    force: bool,
) -> anyhow::Result<Written> {
    let memory = recording.memory(id, image.id)?;
    let partial = Partial::create(output)?;
    let written = Export::new(image, &memory)
        .write(partial.file())
        .with_context(|| format!("cannot write {}", output.display()))?;
    partial.publish(force)?;
    Ok(written)
}

fn print(report: &Report) -> anyhow::Result<()> {
    let mut out = output::stdout();
    writeln!(
        out,
        "wrote {}: checkpoint {} at {}, {}threads: {}, {} of which {} hold content",
        output::printable(report.core.as_bytes()),
        report.checkpoint,
        units::show_ns(report.at_ns),
        if report.processes > 1 {
            format!("process {} of {}, ", report.pid, report.processes)
        } else {
            String::new()
        },
        report.threads,
        units::show_size(report.bytes),
        units::show_size(report.content_bytes),
    )?;
    for note in &report.notes {
        writeln!(out, "note: {note}")?;
    }
    writeln!(
        out,
        "open it with: {}",
        output::printable(report.command.as_bytes())
    )?;
    out.flush()?;
    Ok(())
}

/// A word of a shell command.
fn quote(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || "/._-+=@%:,".contains(c);
    if !text.is_empty() && text.chars().all(plain) {
        text.to_owned()
    } else {
        format!("'{}'", text.replace('\'', "'\\''"))
    }
}

/// The file that was executed, as far as mappings tell.
fn executable_of(image: &ProcessImage) -> Option<&FileIdentity> {
    let path = &image.process.executable;
    image.space.files.iter().find(|file| file.path == *path)
}

/// Copies a recorded file out.
fn extract(recording: &Recording, hash: &[u8; 32], to: &Path, force: bool) -> anyhow::Result<()> {
    let object = recording.object(hash)?;
    let partial = Partial::create(to)?;
    let mut buffer = vec![0; 1 << 20];
    let mut at = 0;
    while at < object.len() {
        let read = object.read_at(at, &mut buffer)?;
        if read == 0 {
            return Err(fail(
                Code::Damaged,
                "the executable in the recording is cut short",
            ));
        }
        partial
            .file()
            .write_all_at(&buffer[..read], at)
            .with_context(|| format!("cannot write {}", to.display()))?;
        at += read as u64;
    }
    partial.publish(force)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn commands_can_be_pasted() {
        assert_eq!(quote("/tmp/at.core"), "/tmp/at.core");
        assert_eq!(quote("a b"), "'a b'");
        assert_eq!(quote("it's"), "'it'\\''s'");
        assert_eq!(quote(""), "''");
    }
}
