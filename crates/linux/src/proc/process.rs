//! The process-wide state of a checkpoint, as far as /proc tells it.

use super::identity;
use super::stat::Stat;
use super::status::Status;
use crate::error::Result;
use stillframe_image::{Process, SignalAction};

/// Reads all of [`Process`] that needs no help from the target. What does, and is left empty here:
/// handlers, flags and masks of caught signals (their `handler` is [`SignalAction::UNKNOWN`]),
/// interval timers, the time POSIX timers have left, `layout.brk`, the queues of pending signals
/// (ptrace reads those), and `as_of`.
///
/// What belongs to a namespace (ids, paths) is as seen from ours.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn read(pid: u32) -> Result<Process> {
    let status = Status::read(pid)?;
    let stat = Stat::read(pid)?;
    Ok(Process {
        pid,
        parent: status.parent,
        group: stat.group,
        session: stat.session,
        terminal: stat.terminal,
        name: identity::thread_name(pid, pid)?,
        executable: identity::executable(pid)?,
        arguments: identity::arguments(pid)?,
        auxv: identity::auxv(pid)?,
        cwd: identity::cwd(pid)?,
        root: identity::root(pid)?,
        umask: status.umask.unwrap_or(0),
        uids: status.uids,
        gids: status.gids,
        capabilities: status.capabilities,
        no_new_privs: status.no_new_privs,
        seccomp: status.seccomp,
        personality: identity::personality(pid).ok(),
        limits: identity::limits(pid)?,
        actions: actions(status.caught, status.ignored),
        posix_timers: identity::posix_timers(pid)?.unwrap_or_default(),
        layout: stat.layout,
        nice: stat.nice,
        groups: status.groups,
        ..Process::default()
    })
}

/// Signals that are not at their default, as far as the masks tell.
pub(super) fn actions(caught: u64, ignored: u64) -> Vec<SignalAction> {
    (1..=64)
        .filter_map(|signal| {
            let bit = 1 << (signal - 1);
            let handler = if caught & bit != 0 {
                SignalAction::UNKNOWN
            } else if ignored & bit != 0 {
                1
            } else {
                return None;
            };
            Some(SignalAction {
                signal,
                handler,
                flags: 0,
                restorer: 0,
                mask: 0,
            })
        })
        .collect()
}
