//! `still attach`.

use crate::args::AttachArgs;

/// Records; the exit status is the result.
pub fn run(args: AttachArgs) -> anyhow::Result<u8> {
    anyhow::bail!("recording is not wired up yet ({:?})", args.capture.output)
}
