//! `still prune`.

use super::{change, failure, report};
use crate::args::retention::PruneArgs;
use crate::open;
use crate::progress::Progress;
use stillframe_store::retention::{Change, foresee, select};

/// Removes what no rule keeps.
pub fn run(args: &PruneArgs) -> anyhow::Result<u8> {
    let path = &args.recording;
    let recording = open::recording(path)?;
    let request = Change::Remove(select(&recording, &args.keep, args.older));
    drop(recording);
    let done = if args.dry_run {
        let mut progress = Progress::new("looking");
        let result = foresee(path, &request, &mut |done, all| {
            progress.show(done, all);
            true
        });
        progress.clear();
        result.map_err(failure)?
    } else {
        change(path, &request)?
    };
    report(path, done, args.dry_run, args.json)
}
