//! New processes to be made equal to an image.

use crate::error::{Error, Result};
use stillframe_linux::remote::Remote;
use stillframe_linux::remote::numbers::{self, prctl};
use stillframe_linux::tracee::{Halt, Tracee};

/// Makes a process with a number of the kernel's choice, or this one.
///
/// # Errors
/// [`Error::PidTaken`]; [`Error::NotSupported`] if choosing a number is not ours to do.
pub fn make(pid: Option<u32>) -> Result<Tracee> {
    const EPERM: i32 = 1;
    const EEXIST: i32 = 17;
    const EINVAL: i32 = 22;
    stillframe_linux::blank::make(pid).map_err(|e| match (e.errno(), pid) {
        (Some(EEXIST), Some(pid)) => Error::PidTaken(pid),
        (Some(EPERM), Some(pid)) => Error::unsupported(
            format!("pid {pid}"),
            "choosing a pid takes CAP_CHECKPOINT_RESTORE; run as root, or use --pid new",
        ),
        (Some(EINVAL), Some(pid)) => Error::unsupported(
            format!("pid {pid}"),
            "it is above this machine's kernel.pid_max; raise that, or use --pid new",
        ),
        _ => e.into(),
    })
}

/// Takes away what a blank process has from us and the kernel would go on writing to, or that no
/// image sets.
///
/// # Errors
/// The kernel's.
pub fn clean(remote: &mut Remote, halt: &mut Halt<'_>) -> Result<()> {
    const UNREGISTER: u64 = 1;
    const SS_DISABLE: u64 = 2;
    let tid = halt.pid();
    if let Some(rseq) = halt.rseq(tid)? {
        let args = [
            rseq.address,
            u64::from(rseq.size),
            UNREGISTER,
            u64::from(rseq.signature),
            0,
            0,
        ];
        remote.call(halt, tid, numbers::RSEQ, args)?;
    }
    let at = remote.scratch().start;
    let stack: Vec<u8> = [0, SS_DISABLE, 0]
        .iter()
        .flat_map(|w: &u64| w.to_le_bytes())
        .collect();
    remote.write(at, &stack)?;
    remote.call(halt, tid, numbers::SIGALTSTACK, [at, 0, 0, 0, 0, 0])?;
    Ok(())
}

/// From now on it lives without us: it is not killed any more when we end.
///
/// # Errors
/// The kernel's.
pub fn set_free(remote: &mut Remote, halt: &mut Halt<'_>) -> Result<()> {
    let tid = halt.pid();
    let args = [prctl::SET_PDEATHSIG, 0, 0, 0, 0, 0];
    remote.call(halt, tid, numbers::PRCTL, args)?;
    Ok(())
}
