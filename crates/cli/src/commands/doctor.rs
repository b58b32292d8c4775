//! `still doctor`.

use crate::args::DoctorArgs;

pub fn run(args: &DoctorArgs) -> anyhow::Result<u8> {
    anyhow::bail!("doctor is being written ({args:?})")
}
