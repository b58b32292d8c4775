//! Whether a process is the one that was recorded.
//!
//! A number alone does not tell: it is used again. But at any time one process at most has it, so
//! the process that has it now is the recorded one if it had begun before the checkpoint was made.
//! That it still runs the same program, `exec` being no new beginning, is asked on top.

use super::Error;
use std::time::{Duration, SystemTime, UNIX_EPOCH};
use stillframe_image::Process;
use stillframe_linux::proc::{identity, stat::Stat};

/// The kernel tells beginnings to a hundredth of a second.
const SLACK: Duration = Duration::from_millis(50);

/// Checks that process `pid` is the one that `wanted` was read of, at `wall_ns` since the epoch.
///
/// # Errors
/// [`Error::Refused`] with what differs.
pub fn check(pid: u32, wanted: &Process, wall_ns: u64) -> Result<(), Error> {
    if pid != wanted.pid {
        return Err(Error::Refused(format!(
            "process {pid} is not the one recorded, which is {}",
            wanted.pid
        )));
    }
    let stat = Stat::read(pid)?;
    let Some(began) = began(stat.start_time) else {
        return Err(Error::Refused(
            "the clock of this machine cannot be read".to_owned(),
        ));
    };
    if began > Duration::from_nanos(wall_ns) + SLACK {
        return Err(Error::Refused(format!(
            "process {pid} began after that moment: it is another one with the same number"
        )));
    }
    let executable = identity::executable(pid)?;
    if executable.is_empty() {
        return Err(Error::Refused(format!("process {pid} has ended")));
    }
    if plain(&executable) != plain(&wanted.executable) {
        return Err(Error::Refused(format!(
            "process {pid} runs another program now ({}, not {})",
            String::from_utf8_lossy(plain(&executable)).escape_debug(),
            String::from_utf8_lossy(plain(&wanted.executable)).escape_debug(),
        )));
    }
    Ok(())
}

/// A path without the mark of a file that is gone: replacing a program's file does not make the
/// process another one.
fn plain(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}

/// When a process began, since the epoch, by the clock as it goes now.
fn began(ticks: u64) -> Option<Duration> {
    let hz = rustix::param::clock_ticks_per_second().max(1);
    let nanos = u128::from(ticks) * 1_000_000_000 / u128::from(hz);
    let since_boot = Duration::from_nanos(u64::try_from(nanos).ok()?);
    let up = rustix::time::clock_gettime(rustix::time::ClockId::Boottime);
    let up = Duration::new(
        u64::try_from(up.tv_sec).ok()?,
        u32::try_from(up.tv_nsec).ok()?,
    );
    let now = SystemTime::now().duration_since(UNIX_EPOCH).ok()?;
    now.checked_sub(up.saturating_sub(since_boot))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn us() -> Process {
        let pid = std::process::id();
        Process {
            pid,
            executable: identity::executable(pid).unwrap(),
            ..Process::default()
        }
    }

    fn now_ns() -> u64 {
        let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap();
        u64::try_from(now.as_nanos()).unwrap()
    }

    #[test]
    fn we_are_ourselves() {
        check(std::process::id(), &us(), now_ns()).unwrap();
    }

    #[test]
    fn others_are_not() {
        let pid = std::process::id();
        assert!(check(pid, &Process { pid: 1, ..us() }, now_ns()).is_err());
        let hours = 3_600_000_000_000;
        let began = began(Stat::read(pid).unwrap().start_time).unwrap();
        let before = u64::try_from(began.as_nanos()).unwrap() - hours;
        assert!(check(pid, &us(), before).is_err());
        let other = Process {
            executable: b"/bin/other".to_vec(),
            ..us()
        };
        assert!(check(pid, &other, now_ns()).is_err());
    }
}
