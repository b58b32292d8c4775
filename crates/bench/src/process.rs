//! Child processes that end with their handle, and what /proc says of them.

use anyhow::{Context as _, Result, bail};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus};
use std::time::{Duration, Instant};

/// Longest that one command may take.
pub const PATIENCE: Duration = Duration::from_secs(600);

/// A child that is killed on drop.
#[derive(Debug)]
pub struct Running {
    child: Child,
    what: String,
}

impl Running {
    /// Starts `command`, called `what` in messages.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command, what: &str) -> Result<Self> {
        let child = command
            .spawn()
            .with_context(|| format!("cannot start {what}"))?;
        Ok(Self {
            child,
            what: what.to_owned(),
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The child itself.
    pub fn child(&mut self) -> &mut Child {
        &mut self.child
    }

    /// Waits for its end.
    ///
    /// # Errors
    /// If it does not end within `patience`.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let begun = Instant::now();
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            if begun.elapsed() > patience {
                bail!("{} did not end within {patience:?}", self.what);
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // Not waited for yet, or already: both are fine.
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Waits until `done`, looking every 5 ms.
///
/// # Errors
/// If it is not within `patience`, or `done` fails.
pub fn wait_for(
    what: &str,
    patience: Duration,
    mut done: impl FnMut() -> Result<bool>,
) -> Result<()> {
    let begun = Instant::now();
    while !done()? {
        if begun.elapsed() > patience {
            bail!("waited {patience:?} in vain: {what}");
        }
        std::thread::sleep(Duration::from_millis(5));
    }
    Ok(())
}

/// CPU time of a process so far, seconds: all threads, user and system.
///
/// # Errors
/// If there is no such process.
pub fn cpu_seconds(pid: u32) -> Result<f64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))
        .with_context(|| format!("process {pid} is gone"))?;
    cpu_ticks(&stat)
        .map(|ticks| ticks as f64 / rustix::param::clock_ticks_per_second() as f64)
        .with_context(|| format!("/proc/{pid}/stat has another form"))
}

/// utime + stime of a line of /proc/PID/stat.
fn cpu_ticks(stat: &str) -> Option<u64> {
    // The name may hold spaces and brackets; what follows its last bracket does not.
    let rest = stat.rsplit_once(')')?.1;
    let mut fields = rest.split_whitespace().skip(11);
    let user: u64 = fields.next()?.parse().ok()?;
    let system: u64 = fields.next()?.parse().ok()?;
    Some(user + system)
}

/// A size from /proc/PID/status, e.g. `VmRSS`, bytes; 0 if it is not there.
pub fn status_bytes(pid: u32, field: &str) -> u64 {
    let status = std::fs::read_to_string(format!("/proc/{pid}/status")).unwrap_or_default();
    kib(&status, field) * 1024
}

/// A number in KiB after `field:` in /proc text.
pub fn kib(text: &str, field: &str) -> u64 {
    text.lines()
        .find_map(|line| line.strip_prefix(field)?.strip_prefix(':'))
        .and_then(|rest| rest.split_whitespace().next()?.parse().ok())
        .unwrap_or(0)
}

/// Where a program is, looking at PATH and the system's directories.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/bin", "/sbin", "/usr/local/bin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// The last lines of a file on one line, for messages.
pub fn tail(path: &Path) -> String {
    let text = std::fs::read(path).unwrap_or_default();
    let text = String::from_utf8_lossy(&text);
    let lines: Vec<&str> = text
        .lines()
        .map(str::trim)
        .filter(|l| !l.is_empty())
        .collect();
    lines[lines.len().saturating_sub(4)..].join(" / ")
}

/// A file for the output of a child.
///
/// # Errors
/// If it cannot be made.
pub fn file(path: &Path) -> Result<File> {
    File::create(path).with_context(|| format!("cannot write {}", path.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_with_brackets_do_not_shift_the_fields() {
        let stat = "7 (a) b) R 1 2 3 4 5 6 7 8 9 10 30 12 0 0 20 0 3 0";
        assert_eq!(cpu_ticks(stat), Some(42));
        assert_eq!(cpu_ticks("7 (a"), None);
    }

    #[test]
    fn sizes_of_proc() {
        let text = "Name:\tx\nVmRSSX:\t 9 kB\nVmRSS:\t  12 kB\n";
        assert_eq!(kib(text, "VmRSS"), 12);
        assert_eq!(kib(text, "VmHWM"), 0);
        assert!(status_bytes(std::process::id(), "VmRSS") > 100_000);
    }

    #[test]
    fn a_dropped_child_is_gone() {
        let running = Running::start(Command::new("sleep").arg("100"), "sleep").unwrap();
        let pid = running.pid();
        assert!(cpu_seconds(pid).is_ok());
        drop(running);
        assert!(cpu_seconds(pid).is_err());
    }
}
