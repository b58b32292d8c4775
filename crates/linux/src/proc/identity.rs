//! Who a process is: names, paths, arguments, threads, limits, timers.

use super::text::{self, decimal, fields, hexadecimal, split_once};
use crate::error::{Error, Result, Target};
use std::os::unix::ffi::OsStringExt;
use stillframe_image::{PosixTimer, ResourceLimit};

/// Arguments as /proc/PID/cmdline holds them: NUL after each. Empty for a zombie or kernel thread.
///
/// # Errors
/// If the process is gone.
pub fn arguments(pid: u32) -> Result<Vec<u8>> {
    text::read(pid, "cmdline")
}

/// The foreground process group of a process's controlling terminal; 0 if it has none or is gone.
pub fn foreground(pid: u32) -> u32 {
    let text = text::read(pid, "stat").unwrap_or_default();
    // Fields by their number in proc_pid_stat(5): the name is the second, the group the eighth.
    let name_ends = text.iter().rposition(|b| *b == b')').unwrap_or(0);
    let field = fields(text.get(name_ends + 1..).unwrap_or_default()).nth(5);
    field
        .and_then(decimal)
        .and_then(|n| u32::try_from(n).ok())
        .unwrap_or(0)
}

/// The auxiliary vector, raw: pairs of 8-byte words.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn auxv(pid: u32) -> Result<Vec<u8>> {
    text::read(pid, "auxv")
}

/// Name (`comm`) of a thread, without its newline. Names may contain newlines.
///
/// # Errors
/// If the thread is gone.
pub fn thread_name(pid: u32, tid: u32) -> Result<Vec<u8>> {
    let path = format!("/proc/{pid}/task/{tid}/comm");
    let mut name = std::fs::read(&path).map_err(|e| match e.raw_os_error() {
        Some(libc::ENOENT | libc::ESRCH) => Error::ThreadGone(tid),
        _ => Error::syscall("comm", Target::Path(path), e),
    })?;
    if name.last() == Some(&b'\n') {
        name.pop();
    }
    Ok(name)
}

/// The executable's path; ` (deleted)` follows when it has none any more. Empty for a kernel
/// thread.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn executable(pid: u32) -> Result<Vec<u8>> {
    match link(pid, "exe") {
        // A kernel thread, or a zombie, has no executable but exists.
        Err(Error::Syscall { source, .. }) if source.raw_os_error() == Some(libc::ENOENT) => {
            Ok(Vec::new())
        }
        other => other,
    }
}

/// The working directory's path.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn cwd(pid: u32) -> Result<Vec<u8>> {
    link(pid, "cwd")
}

/// The root directory's path.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn root(pid: u32) -> Result<Vec<u8>> {
    link(pid, "root")
}

fn link(pid: u32, name: &'static str) -> Result<Vec<u8>> {
    let path =
        std::fs::read_link(format!("/proc/{pid}/{name}")).map_err(|e| text::error(pid, name, e))?;
    Ok(path.into_os_string().into_vec())
}

/// Personality flags.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn personality(pid: u32) -> Result<u32> {
    let text = text::read(pid, "personality")?;
    hexadecimal(text.trim_ascii())
        .and_then(|v| u32::try_from(v).ok())
        .ok_or_else(|| text::malformed(pid, "personality", &text))
}

/// Ids of all threads, the main thread first, then in ascending order.
///
/// # Errors
/// If the process is gone.
pub fn threads(pid: u32) -> Result<Vec<u32>> {
    let entries =
        std::fs::read_dir(format!("/proc/{pid}/task")).map_err(|e| text::error(pid, "task", e))?;
    let mut threads = Vec::new();
    for entry in entries {
        let entry = entry.map_err(|e| text::error(pid, "task", e))?;
        let name = entry.file_name();
        threads.extend(decimal(name.as_encoded_bytes()).and_then(|n| u32::try_from(n).ok()));
    }
    threads.sort_unstable_by_key(|tid| (*tid != pid, *tid));
    Ok(threads)
}

/// All resource limits, RLIMIT_* by position.
///
/// # Errors
/// If the process is gone or not ours to look at.
pub fn limits(pid: u32) -> Result<Vec<ResourceLimit>> {
    (0..RLIMITS).map(|resource| limit(pid, resource)).collect()
}

/// One resource limit, RLIMIT_* by number.
pub(super) fn limit(pid: u32, resource: usize) -> Result<ResourceLimit> {
    let mut old = libc::rlimit {
        rlim_cur: 0,
        rlim_max: 0,
    };
    // SAFETY: with no new limit the call only writes the old one to `old`, which is one
    // `rlimit`.
    let done = unsafe {
        libc::prlimit(
            pid.cast_signed(),
            resource as libc::__rlimit_resource_t,
            std::ptr::null(),
            &raw mut old,
        )
    };
    if done != 0 {
        let e = std::io::Error::last_os_error();
        return Err(match e.raw_os_error() {
            Some(libc::ESRCH) => Error::ProcessGone(pid),
            _ => Error::syscall("prlimit", Target::Process(pid), e),
        });
    }
    Ok(ResourceLimit {
        soft: old.rlim_cur,
        hard: old.rlim_max,
    })
}

/// RLIMIT_NLIMITS, the same since Linux 2.6.25.
pub(super) const RLIMITS: usize = 16;

/// POSIX timers, without the time they have left (only the process itself may ask). `None` if this
/// kernel does not tell (no CONFIG_CHECKPOINT_RESTORE).
///
/// # Errors
/// If the process is gone, not ours to look at, or the text is not understood.
pub fn posix_timers(pid: u32) -> Result<Option<Vec<PosixTimer>>> {
    match text::read(pid, "timers") {
        Ok(text) => parse_timers(&text)
            .map(Some)
            .ok_or_else(|| text::malformed(pid, "timers", &text)),
        Err(e) if e.errno() == Some(libc::ENOENT) => Ok(None),
        Err(e) => Err(e),
    }
}

/// Parses /proc/PID/timers.
pub fn parse_timers(text: &[u8]) -> Option<Vec<PosixTimer>> {
    let mut timers: Vec<PosixTimer> = Vec::new();
    for line in text.split(|b| *b == b'\n').filter(|line| !line.is_empty()) {
        let (key, value) = split_once(line, b':')?;
        let value = fields(value).next()?;
        if key == b"ID" {
            timers.push(PosixTimer {
                id: u32::try_from(decimal(value)?).ok()?,
                clock: 0,
                signal: 0,
                value: 0,
                notify: 0,
                target: 0,
                armed_ns: None,
            });
            continue;
        }
        let timer = timers.last_mut()?;
        match key {
            // Number, then sigev_value as a pointer.
            b"signal" => {
                let (signal, value) = split_once(value, b'/')?;
                timer.signal = i32::try_from(decimal(signal)?).ok()?;
                timer.value = hexadecimal(value.strip_prefix(b"0x").unwrap_or(value))?;
            }
            // E.g. `signal/pid.123`, `none/pid.123`, `signal/tid.124`, `thread/pid.123`.
            b"notify" => {
                let (how, whom) = split_once(value, b'/')?;
                let (whom, id) = split_once(whom, b'.')?;
                timer.notify = match (how, whom) {
                    (_, b"tid") => libc::SIGEV_THREAD_ID,
                    (b"signal", _) => libc::SIGEV_SIGNAL,
                    (b"none", _) => libc::SIGEV_NONE,
                    (b"thread", _) => libc::SIGEV_THREAD,
                    _ => return None,
                };
                timer.target = u32::try_from(decimal(id)?).ok()?;
            }
            b"ClockID" => timer.clock = i32::try_from(text::signed(value)?).ok()?,
            _ => {}
        }
    }
    Some(timers)
}
