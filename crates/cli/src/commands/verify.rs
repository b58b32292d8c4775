//! `still verify`.

use crate::args::VerifyArgs;

pub fn run(args: &VerifyArgs) -> anyhow::Result<u8> {
    anyhow::bail!("verify is being written ({args:?})")
}
