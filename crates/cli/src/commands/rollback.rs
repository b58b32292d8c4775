//! `still rollback`.

use crate::args::rollback::RollbackArgs;
use crate::exit::{Code, fail};
use crate::open;
use crate::output::{self, printable};
use crate::units::show_ns;
use crate::world;
use serde::Serialize;
use std::io::Write as _;
use stillframe_restore::check::Purpose;
use stillframe_restore::rollback::alone::{Then, roll_back_alone};
use stillframe_restore::rollback::ask::{self, Request, Summary};
use stillframe_restore::rollback::{Error, FilesToo, Options};

/// What was done, for programs.
#[derive(Serialize)]
struct Said {
    pid: u32,
    checkpoint: u64,
    /// The checkpoint of the moment it left, if it is recorded.
    present: Option<u64>,
    pages: u64,
    mappings: u64,
    threads_ended: u64,
    threads_begun: u64,
    milliseconds: f64,
    pages_compared: Option<u64>,
    files_put_back: u64,
    not_put_back: Vec<[String; 2]>,
}

/// Takes a live process back to an earlier moment of itself.
///
/// # Errors
/// If it is not the recorded process, or cannot become what it was; it then runs on. If a step
/// fails, it is left stopped.
pub fn run(args: &RollbackArgs) -> anyhow::Result<u8> {
    let opened = open::moment(&args.moment)?;
    let (dir, recording, id) = (opened.path, opened.recording, opened.id);
    let process = recording
        .checkpoint(id)?
        .by_pid(args.pid)
        .map(|p| p.id)
        .next();
    let Some(space) = process else {
        let why = format!("process {} is not in checkpoint {id}", args.pid);
        return Err(fail(Code::Recording, why));
    };
    let files: FilesToo = args.files.into();
    world::examine(&recording, id, files.policy, Purpose::Live)?;
    let request = Request {
        pid: args.pid,
        to: id.0,
        paranoid: args.paranoid,
        stay: args.stopped,
        files,
    };
    let summary = match ask::ask(&dir, &request).map_err(failure)? {
        Some(summary) => summary,
        None => {
            stillframe_linux::tracee::prepare()?;
            let options = Options {
                paranoid: args.paranoid,
                ..Options::default()
            };
            let then = if args.stopped { Then::Stay } else { Then::Run };
            let done = roll_back_alone(args.pid, &recording, id, space, options, files, then)
                .map_err(failure)?;
            Summary::new(&done, None)
        }
    };
    say(args, id.0, &summary)?;
    Ok(0)
}

fn say(args: &RollbackArgs, to: u64, done: &Summary) -> anyhow::Result<()> {
    if args.json {
        return output::json(&Said {
            pid: args.pid,
            checkpoint: to,
            present: done.present,
            pages: done.pages,
            mappings: done.mappings,
            threads_ended: done.ended,
            threads_begun: done.begun,
            milliseconds: done.took_ns as f64 / 1e6,
            pages_compared: done.compared,
            files_put_back: done.files,
            not_put_back: done.gaps.iter().cloned().map(<[String; 2]>::from).collect(),
        });
    }
    let mut line = format!(
        "process {} is back at checkpoint {to}: {} pages",
        args.pid, done.pages
    );
    for (count, what) in [
        (done.mappings, "mappings"),
        (done.ended, "threads ended"),
        (done.begun, "threads begun"),
        (done.files, "files put back"),
    ] {
        if count > 0 {
            line.push_str(&format!(", {count} {what}"));
        }
    }
    line.push_str(&format!(", in {}", show_ns(done.took_ns)));
    if let Some(present) = done.present {
        line.push_str(&format!("; the moment it left is checkpoint {present}"));
    }
    if let Some(pages) = done.compared {
        line.push_str(&format!("; {pages} pages compared, all equal"));
    }
    let mut out = output::stdout();
    writeln!(out, "{line}")?;
    for (subject, reason) in &done.gaps {
        let gap = format!("{subject}: {reason}");
        writeln!(out, "  {}", printable(gap.as_bytes()))?;
    }
    out.flush()?;
    Ok(())
}

/// An error with its exit code.
pub fn failure(error: Error) -> anyhow::Error {
    let code = match &error {
        Error::Store(e) => crate::exit::of_store(e).unwrap_or(Code::Failure),
        Error::Kernel(e) => crate::exit::of_linux(e).unwrap_or(Code::Failure),
        Error::Refused(_) | Error::Attach(_) => Code::Target,
        _ => Code::Failure,
    };
    fail(code, error.to_string())
}
