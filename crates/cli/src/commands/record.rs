//! `still record`.

use crate::args::RecordArgs;

/// Records; the exit status is the result.
pub fn run(args: RecordArgs) -> anyhow::Result<u8> {
    anyhow::bail!("recording is not wired up yet ({:?})", args.capture.output)
}
