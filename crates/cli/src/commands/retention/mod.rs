//! `still rm`, `still squash`, `still prune`, `still tag`: removing, merging and naming moments.
//!
//! Each is one change, made by us or by the recorder that is writing the recording, in one step that
//! happens or does not. What comes after, giving back space, may be interrupted at any instant and is
//! finished by the next command; so nothing here needs to catch Ctrl-C.

mod prune;
mod rm;
mod squash;
mod tag;

pub use prune::run as prune;
pub use rm::run as rm;
pub use squash::run as squash;
pub use tag::run as tag;
pub(super) use tag::usage_of_name;

use crate::exit::{Code, fail};
use crate::progress::Progress;
use crate::{output, units};
use serde::Serialize;
use std::ffi::OsStr;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use stillframe_store::retention::{self, Change, Changed};
use stillframe_store::{Error, Moment};

/// What was done, as JSON.
#[derive(Serialize)]
struct Done {
    recording: String,
    dry_run: bool,
    removed_checkpoints: u64,
    remaining_checkpoints: u64,
    freed_bytes: u64,
    /// Space is given back later, by the recorder as it goes on.
    pending: bool,
}

/// Makes a change, with progress.
pub(super) fn change(path: &Path, change: &Change) -> anyhow::Result<Changed> {
    let mut progress = Progress::new("giving back space");
    let result = retention::change(path, change, &mut |done, all| {
        progress.show(done, all);
        true
    });
    progress.clear();
    result.map_err(failure)
}

/// An error with its exit code.
fn failure(error: Error) -> anyhow::Error {
    match error {
        Error::Io {
            action: "open" | "read",
            ..
        }
        | Error::NotRecording { .. } => fail(Code::Recording, error.to_string()),
        other => other.into(),
    }
}

/// Says what was done.
fn report(path: &Path, done: Changed, dry_run: bool, json: bool) -> anyhow::Result<u8> {
    if json {
        output::json(&Done {
            recording: path.display().to_string(),
            dry_run,
            removed_checkpoints: done.removed,
            remaining_checkpoints: done.remaining,
            freed_bytes: done.freed,
            pending: done.pending,
        })?;
        return Ok(0);
    }
    let mut out = output::stdout();
    let (removed, freed) = (done.removed, units::show_size(done.freed));
    let plural = if removed == 1 { "" } else { "s" };
    if dry_run {
        writeln!(
            out,
            "{removed} checkpoint{plural} would go, {} would remain, about {freed} would come back",
            done.remaining
        )?;
    } else {
        let later = if done.pending {
            "; more comes back as the recording goes on"
        } else {
            ""
        };
        writeln!(
            out,
            "removed {removed} checkpoint{plural}, {} remain, {freed} given back{later}",
            done.remaining
        )?;
    }
    out.flush()?;
    Ok(0)
}

/// Splits `REC@A..B`.
fn split_range(text: &OsStr) -> anyhow::Result<(PathBuf, Moment, Moment)> {
    let wrong = || {
        fail(
            Code::Usage,
            format!(
                "`{}` is no range; write REC@10..20",
                output::printable(text.as_encoded_bytes())
            ),
        )
    };
    let (path, range) = text
        .to_str()
        .and_then(|t| t.rsplit_once('@'))
        .ok_or_else(wrong)?;
    let (from, to) = range.split_once("..").ok_or_else(wrong)?;
    Ok((path.into(), from.parse()?, to.parse()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn ranges() {
        let (path, from, to) = split_range("a@b/r@-1.5s..last".as_ref()).unwrap();
        assert_eq!(path, Path::new("a@b/r"));
        let back = std::time::Duration::from_millis(1500);
        assert_eq!((from, to), (Moment::FromEnd(back), Moment::Last));
        for bad in ["r", "r@1", "r@1..", "r@..2", "r@1..2..3", "1..2"] {
            assert!(split_range(bad.as_ref()).is_err(), "{bad}");
        }
    }
}
