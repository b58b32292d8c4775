//! `still show`.

use crate::args::ShowArgs;

pub fn run(args: &ShowArgs) -> anyhow::Result<u8> {
    anyhow::bail!("show is being written ({args:?})")
}
