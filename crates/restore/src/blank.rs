//! New processes to be made equal to an image.

use crate::error::{Error, Result};
use stillframe_image::Process;
use stillframe_linux::remote::Remote;
use stillframe_linux::remote::numbers::{self, prctl};
use stillframe_linux::tracee::{Halt, Tracee};

/// Makes a process with a number of the kernel's choice, or this one.
///
/// # Errors
/// [`Error::PidTaken`]; [`Error::NotSupported`] if choosing a number is not ours to do.
pub fn make(pid: Option<u32>) -> Result<Tracee> {
    stillframe_linux::blank::make(pid).map_err(|e| not_that(e, pid))
}

/// Why a process with this number could not be made.
pub(crate) fn not_that(error: stillframe_linux::Error, pid: Option<u32>) -> Error {
    const EPERM: i32 = 1;
    const EEXIST: i32 = 17;
    const EINVAL: i32 = 22;
    match (error.errno(), pid) {
        (Some(EEXIST), Some(pid)) => Error::PidTaken(pid),
        (Some(EPERM), Some(pid)) => Error::unsupported(
            format!("pid {pid}"),
            "choosing a pid takes CAP_CHECKPOINT_RESTORE; run as root, or use --pid new",
        ),
        (Some(EINVAL), Some(pid)) => Error::unsupported(
            format!("pid {pid}"),
            "it is above this machine's kernel.pid_max; raise that, or use --pid new",
        ),
        _ => error.into(),
    }
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

/// Takes the user and groups of the image, and what else of its rights it only gives up. To be done
/// when nothing is left that takes privileges.
///
/// # Errors
/// [`Error::Step`] if that is not ours to do.
pub fn become_user(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    now: &Process,
    wanted: &Process,
) -> Result<()> {
    let tid = halt.pid();
    let at = remote.scratch().start;
    let three = |ids: &[u32; 4]| {
        let [real, effective, saved, _] = ids.map(u64::from);
        [real, effective, saved, 0, 0, 0]
    };
    let other = wanted.uids != now.uids || wanted.gids != now.gids;
    if wanted.groups != now.groups && now.uids[1] == 0 {
        let groups = wanted.groups.get(..4096).unwrap_or(&wanted.groups);
        let bytes: Vec<u8> = groups.iter().flat_map(|g| g.to_le_bytes()).collect();
        remote.write(at, &bytes)?;
        let args = [groups.len() as u64, at, 0, 0, 0, 0];
        remote
            .call(halt, tid, numbers::SETGROUPS, args)
            .map_err(Error::step("supplementary groups"))?;
    }
    let mut call = |number, args, what: &str| {
        remote
            .call(halt, tid, number, args)
            .map_err(Error::step(what))
    };
    if other {
        call(numbers::SETRESGID, three(&wanted.gids), "group")?;
        call(numbers::SETRESUID, three(&wanted.uids), "user")?;
        // A program that was started as that user could be looked at by it.
        call(numbers::PRCTL, [prctl::SET_DUMPABLE, 1, 0, 0, 0, 0], "user")?;
    }
    if wanted.no_new_privs && !now.no_new_privs {
        let args = [prctl::SET_NO_NEW_PRIVS, 1, 0, 0, 0, 0];
        call(numbers::PRCTL, args, "no_new_privs")?;
    }
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

/// Gives up the privileges that it has only in a user namespace of ours.
///
/// # Errors
/// The kernel's.
pub fn give_up_privileges(remote: &mut Remote, halt: &mut Halt<'_>) -> Result<()> {
    /// _LINUX_CAPABILITY_VERSION_3.
    const VERSION: u32 = 0x2008_0522;
    let tid = halt.pid();
    let at = remote.scratch().start;
    // struct __user_cap_header_struct, and two of __user_cap_data_struct with nothing in them.
    let mut bytes = VERSION.to_le_bytes().to_vec();
    bytes.resize(8 + 24, 0);
    remote.write(at, &bytes)?;
    remote
        .call(halt, tid, numbers::CAPSET, [at, at + 8, 0, 0, 0, 0])
        .map_err(Error::step("capabilities"))?;
    let args = [prctl::SET_DUMPABLE, 1, 0, 0, 0, 0];
    remote.call(halt, tid, numbers::PRCTL, args)?;
    Ok(())
}
