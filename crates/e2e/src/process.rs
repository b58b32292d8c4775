//! Processes started by scenarios, and what /proc says about them.

use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal};
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::process::{CommandExt as _, ExitStatusExt as _};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::atomic::{AtomicU32, Ordering};
use std::time::{Duration, Instant};

/// Longest that anything is waited for unless a scenario says otherwise. Not a measure of speed:
/// it only turns a hang into a failure.
pub const PATIENCE: Duration = Duration::from_secs(60);

/// A child in a process group of its own. Its output goes to files, not pipes, so that what it
/// leaves behind cannot keep us waiting. Dropping kills the group and reaps the child.
#[derive(Debug)]
pub struct Running {
    child: Child,
    group: Pid,
    status: Option<ExitStatus>,
    out: PathBuf,
    err: PathBuf,
    what: String,
}

impl Running {
    /// Starts `command`, keeping its output in `dir`.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(command: &mut Command, dir: &Path) -> Result<Self> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let number = NUMBER.fetch_add(1, Ordering::Relaxed);
        let (out, err) = (
            dir.join(format!("{number}.out")),
            dir.join(format!("{number}.err")),
        );
        let what = command.get_program().to_string_lossy().into_owned();
        command
            .stdin(Stdio::null())
            .stdout(File::create(&out)?)
            .stderr(File::create(&err)?);
        command.process_group(0);
        let child = command
            .spawn()
            .with_context(|| format!("starting {what}"))?;
        let group = pid_of(child.id())?;
        Ok(Self {
            child,
            group,
            status: None,
            out,
            err,
            what,
        })
    }

    /// Its process id.
    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// What it wrote to stdout so far.
    pub fn stdout(&self) -> String {
        read_lossy(&self.out)
    }

    /// What it wrote to stderr so far.
    pub fn stderr(&self) -> String {
        read_lossy(&self.err)
    }

    /// Sends it a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        ensure!(self.status.is_none(), "{} has ended", self.what);
        rustix::process::kill_process(self.group, signal)
            .with_context(|| format!("signalling {}", self.what))
    }

    /// Sends its whole group a signal, as a terminal does.
    ///
    /// # Errors
    /// If the group is empty.
    pub fn signal_group(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process_group(self.group, signal)
            .with_context(|| format!("signalling the group of {}", self.what))
    }

    /// Whether it has ended.
    ///
    /// # Errors
    /// If it cannot be waited for.
    pub fn ended(&mut self) -> Result<Option<ExitStatus>> {
        if self.status.is_none() {
            self.status = self.child.try_wait()?;
        }
        Ok(self.status)
    }

    /// Waits until it ends.
    ///
    /// # Errors
    /// If it takes longer than `patience`; it is killed then.
    pub fn wait(&mut self, patience: Duration) -> Result<ExitStatus> {
        let end = Instant::now() + patience;
        loop {
            if let Some(status) = self.ended()? {
                return Ok(status);
            }
            if Instant::now() > end {
                let state = state_of(self.pid()).unwrap_or('?');
                let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
                bail!(
                    "{} did not end within {patience:?} (state {state}); stderr: {}",
                    self.what,
                    self.stderr().trim()
                );
            }
            std::thread::sleep(Duration::from_millis(3));
        }
    }

    /// Waits for the line `ready PID` of a target, whether it is this child or a descendant, and
    /// returns the PID.
    ///
    /// # Errors
    /// If it does not come.
    pub fn ready(&mut self) -> Result<u32> {
        let end = Instant::now() + PATIENCE;
        loop {
            let text = self.stdout();
            if let Some(pid) = text
                .lines()
                .filter_map(|l| l.strip_prefix("ready "))
                .find_map(|l| l.trim().parse().ok())
            {
                return Ok(pid);
            }
            if let Some(status) = self.ended()? {
                bail!(
                    "{} ended ({status}) before it was ready; stdout: {} stderr: {}",
                    self.what,
                    text.trim(),
                    self.stderr().trim()
                );
            }
            ensure!(Instant::now() < end, "{} was not ready in time", self.what);
            std::thread::sleep(Duration::from_millis(2));
        }
    }

    /// The address that a target printed as `addr NAME HEX`.
    ///
    /// # Errors
    /// If it printed none.
    pub fn address(&self, name: &str) -> Result<u64> {
        let prefix = format!("addr {name} ");
        let text = self.stdout();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&prefix))
            .with_context(|| prefix.clone())?;
        Ok(u64::from_str_radix(line.trim(), 16)?)
    }

    /// Asks a target to finish, and checks its verdict on itself.
    ///
    /// # Errors
    /// If it found something wrong, or does not finish.
    pub fn finish(&mut self) -> Result<()> {
        self.signal(Signal::TERM)?;
        self.verdict()
    }

    /// Waits for a target to end by itself, and checks its verdict.
    ///
    /// # Errors
    /// If it found something wrong, or does not end.
    pub fn verdict(&mut self) -> Result<()> {
        let status = self.wait(PATIENCE)?;
        verdict(&self.what, status, &self.stdout())
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        // The group first: an unreaped leader keeps its number from being used again.
        let _ = rustix::process::kill_process_group(self.group, Signal::KILL);
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}

/// Checks that a target ended with status 0 and said `ok`.
///
/// # Errors
/// With what it said instead.
pub fn verdict(what: &str, status: ExitStatus, stdout: &str) -> Result<()> {
    ensure!(
        status.success() && stdout.lines().any(|l| l == "ok" || l.starts_with("ok ")),
        "the target is wrong: {what} ended with {status}{} and said: {}",
        status
            .signal()
            .map(|s| format!(" (signal {s})"))
            .unwrap_or_default(),
        stdout.trim()
    );
    Ok(())
}

fn read_lossy(path: &Path) -> String {
    std::fs::read(path)
        .map(|b| String::from_utf8_lossy(&b).into_owned())
        .unwrap_or_default()
}

/// A process id as rustix has it.
///
/// # Errors
/// If it is 0 or too large.
pub fn pid_of(pid: u32) -> Result<Pid> {
    i32::try_from(pid)
        .ok()
        .and_then(Pid::from_raw)
        .with_context(|| format!("{pid} is no PID"))
}

/// Sends a process a signal.
///
/// # Errors
/// If it is gone.
pub fn signal(pid: u32, signal: Signal) -> Result<()> {
    rustix::process::kill_process(pid_of(pid)?, signal).with_context(|| format!("signalling {pid}"))
}

/// CPU time of a process in clock ticks.
///
/// # Errors
/// If it is gone.
pub fn cpu_ticks(pid: u32) -> Result<u64> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat"))?;
    let rest = stat.rsplit_once(')').map_or("", |(_, r)| r);
    let fields: Vec<&str> = rest.split_whitespace().collect();
    ensure!(fields.len() > 12, "stat has {} fields", fields.len());
    Ok(fields[11].parse::<u64>()? + fields[12].parse::<u64>()?)
}

/// Whether a process exists and is no zombie.
pub fn alive(pid: u32) -> bool {
    state_of(pid).is_some_and(|s| s != 'Z' && s != 'X')
}

/// The state letter of a process.
pub fn state_of(pid: u32) -> Option<char> {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    stat.rsplit_once(')')?.1.trim_start().chars().next()
}

/// Waits until a condition holds.
///
/// # Errors
/// If it does not within [`PATIENCE`].
pub fn wait_for(what: &str, mut holds: impl FnMut() -> bool) -> Result<()> {
    let end = Instant::now() + PATIENCE;
    while !holds() {
        ensure!(Instant::now() < end, "gave up waiting until {what}");
        std::thread::sleep(Duration::from_millis(2));
    }
    Ok(())
}

/// A value of /proc/PID/status.
///
/// # Errors
/// If the process is gone or has no such line.
pub fn status_value(pid: u32, key: &str) -> Result<String> {
    let text = std::fs::read_to_string(format!("/proc/{pid}/status"))
        .with_context(|| format!("process {pid} is gone"))?;
    text.lines()
        .find_map(|l| l.strip_prefix(key)?.strip_prefix(':'))
        .map(|v| v.trim().to_owned())
        .with_context(|| format!("no {key} in status"))
}

/// What of a process an observer must leave as it was.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Footprint {
    /// Descriptors and what they refer to.
    pub descriptors: Vec<(u32, String)>,
    /// Lines of maps, without the sizes of stack and heap that the program may change.
    pub mappings: Vec<String>,
}

impl Footprint {
    /// Takes it.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn of(pid: u32) -> Result<Self> {
        let mut descriptors = Vec::new();
        for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
            let entry = entry?;
            let number = entry.file_name().to_string_lossy().parse()?;
            let to = std::fs::read_link(entry.path()).unwrap_or_default();
            descriptors.push((number, to.to_string_lossy().into_owned()));
        }
        descriptors.sort();
        let mappings = std::fs::read_to_string(format!("/proc/{pid}/maps"))?
            .lines()
            .map(str::to_owned)
            .collect();
        Ok(Self {
            descriptors,
            mappings,
        })
    }
}

/// Checks that nobody watches a process and nothing of a recorder is left in it.
///
/// # Errors
/// With what is left.
pub fn left_alone(pid: u32) -> Result<()> {
    let tracer = status_value(pid, "TracerPid")?;
    ensure!(tracer == "0", "process {pid} is still traced by {tracer}");
    for entry in std::fs::read_dir(format!("/proc/{pid}/fd"))? {
        let to = std::fs::read_link(entry?.path()).unwrap_or_default();
        ensure!(
            !to.to_string_lossy().contains("userfaultfd"),
            "process {pid} holds a userfaultfd"
        );
    }
    let smaps = std::fs::read_to_string(format!("/proc/{pid}/smaps"))?;
    let mut mapping = "";
    for line in smaps.lines() {
        if line.split(' ').next().is_some_and(|w| w.contains('-')) {
            mapping = line;
        }
        if let Some(flags) = line.strip_prefix("VmFlags:") {
            ensure!(
                !flags
                    .split_whitespace()
                    .any(|f| matches!(f, "uw" | "um" | "ui")),
                "still registered with a userfaultfd: {mapping} ({})",
                flags.trim()
            );
        }
    }
    for thread in std::fs::read_dir(format!("/proc/{pid}/task"))? {
        let stat = std::fs::read_to_string(thread?.path().join("stat")).unwrap_or_default();
        let state = stat
            .rsplit_once(')')
            .and_then(|(_, r)| r.trim_start().chars().next());
        ensure!(
            state != Some('t'),
            "a thread of {pid} is still in a tracing stop"
        );
    }
    Ok(())
}

/// A command with arguments of any string type.
pub fn command<S: AsRef<OsStr>>(program: impl AsRef<OsStr>, args: &[S]) -> Command {
    let mut command = Command::new(program);
    command.args(args);
    command
}

/// Runs a command to its end within [`PATIENCE`]: (status, stdout, stderr).
///
/// # Errors
/// If it cannot be started or does not end.
pub fn run(command: &mut Command, dir: &Path) -> Result<(ExitStatus, String, String)> {
    let mut running = Running::start(command, dir)?;
    let status = running.wait(PATIENCE)?;
    Ok((status, running.stdout(), running.stderr()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_hanging_child_is_a_failure_and_is_killed() {
        let dir = tempfile::tempdir().unwrap();
        let mut sleeper = Running::start(&mut command("sleep", &["100"]), dir.path()).unwrap();
        let pid = sleeper.pid();
        assert!(alive(pid));
        assert!(sleeper.wait(Duration::from_millis(20)).is_err());
        drop(sleeper);
        assert!(!alive(pid));
    }

    #[test]
    fn a_wrong_target_is_noticed() {
        let dir = tempfile::tempdir().unwrap();
        for (script, good) in [
            ("echo ok", true),
            ("echo wrong: x; exit 1", false),
            ("true", false),
            ("echo ok; kill -9 $$", false),
        ] {
            let mut shell =
                Running::start(&mut command("sh", &["-c", script]), dir.path()).unwrap();
            assert_eq!(shell.verdict().is_ok(), good, "{script}");
        }
    }

    #[test]
    fn we_are_left_alone() {
        left_alone(std::process::id()).unwrap();
    }
}
