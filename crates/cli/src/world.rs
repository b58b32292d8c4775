//! What is done about the world before a process goes on: it is looked at, what would do harm is
//! refused, and files are put back.

use crate::args::check::{FilesArg, FilesArgs};
use crate::exit::{Code, fail};
use crate::output::printable;
use std::path::PathBuf;
use stillframe_image::CheckpointId;
use stillframe_restore::check::{self, Files, Policy, Purpose, Severity};
use stillframe_restore::files::Putting;
use stillframe_store::Recording;

/// Looks. Warnings go to the log.
///
/// # Errors
/// With exit code 11 if the moment cannot be restored here and now.
pub fn examine(
    recording: &Recording,
    id: CheckpointId,
    files: Files,
    purpose: Purpose,
) -> anyhow::Result<()> {
    let findings = check::here(recording, id, Policy { files, purpose })?;
    if let Some(why) = findings.refusal() {
        return Err(fail(Code::Refused, why));
    }
    for finding in findings.of(Severity::Warning) {
        tracing::info!("{finding}");
    }
    Ok(())
}

/// Plans what to do with files. `copy`: which of several copies of the process it is for.
///
/// # Errors
/// With exit code 2 if files would be written and that was not agreed to; with the recording's.
pub fn plan<'a>(
    recording: &'a Recording,
    id: CheckpointId,
    args: &FilesArgs,
    copy: u32,
) -> anyhow::Result<Putting<'a>> {
    let putting = Putting::plan(recording, id, args.files.into(), &directory(args, copy))?;
    if args.files == FilesArg::Version
        && !args.yes
        && let Some(first) = putting.steps().first()
    {
        return Err(fail(
            Code::Usage,
            format!(
                "{} files would be put back, the first of them {}; agree with --yes, or use copies \
                 with --files private",
                putting.steps().len(),
                printable(&first.file().path)
            ),
        ));
    }
    Ok(putting)
}

/// Where copies go.
fn directory(args: &FilesArgs, copy: u32) -> PathBuf {
    let directory = match &args.private_dir {
        Some(directory) => directory.clone(),
        None => std::env::temp_dir().join(format!("still-files-{}", std::process::id())),
    };
    match copy {
        0 => directory,
        copy => directory.join(copy.to_string()),
    }
}
