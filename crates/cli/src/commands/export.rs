//! `still export`.

use crate::args::ExportArgs;

pub fn run(args: &ExportArgs) -> anyhow::Result<u8> {
    anyhow::bail!("export is being written ({args:?})")
}
