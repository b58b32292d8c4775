//! `still ls`.

use crate::args::LsArgs;

pub fn run(args: &LsArgs) -> anyhow::Result<u8> {
    anyhow::bail!("ls is being written ({args:?})")
}
