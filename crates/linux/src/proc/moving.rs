//! What of a process's state can be read cheaply from outside, for every boundary.
//!
//! Files stay open, so that a reading costs the kernel's work and no look-up; the rest is asked by
//! system calls that take a process id. Nothing of it needs the target's help. What is left out
//! ([`super::process::read`] has it) changes only with `exec`, or not at all.

use super::identity;
use super::process::actions;
use super::status::Status;
use super::text;
use crate::error::{Error, Result, Target};
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::fs::FileExt;
use stillframe_image::Process;

/// Reads the state of one process again and again.
#[derive(Debug)]
pub struct Moving {
    pid: u32,
    /// The process, or the thread of it, that it is read through.
    via: u32,
    directory: OwnedFd,
    status: File,
    /// None where the kernel does not tell.
    timers: Option<File>,
    buffer: Vec<u8>,
    /// Boundaries at which all limits are read, and the one that was read last.
    restless: u32,
    turn: usize,
}

/// Limits read at a boundary, when none has changed of late.
const LIMITS: usize = 4;
/// Boundaries at which all are read after one has changed; and at the beginning.
const RESTLESS: u32 = 32;

/// Reads a text that the kernel gives in one piece when it is short. Reading on to find its end would
/// cost the kernel all of it once again.
fn read(file: &File, buffer: &mut Vec<u8>) -> std::io::Result<()> {
    const ROOM: usize = 8192;
    const SHORT: usize = 3000;
    buffer.resize(ROOM, 0);
    let length = file.read_at(buffer, 0)?;
    if length < SHORT {
        buffer.truncate(length);
        return Ok(());
    }
    text::read_into(file, buffer)
}

/// The group and the session of a process; 0 for one that is led from another PID namespace, as it is
/// in a container that was entered from outside. The safe wrappers allow no such answer.
fn belongs(pid: u32) -> (u32, u32) {
    let pid = pid.cast_signed();
    // SAFETY: both take a number and touch no memory of ours.
    let ids = unsafe { [libc::getpgid(pid), libc::getsid(pid)] };
    let [group, session] = ids.map(|id| u32::try_from(id).unwrap_or(0));
    (group, session)
}

/// The bits of signals whose disposition is not the default.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Dispositions {
    /// Caught, bit n-1 for signal n.
    pub caught: u64,
    /// Ignored.
    pub ignored: u64,
}

impl Moving {
    /// Of process `pid`, seen through its thread `via`.
    ///
    /// # Errors
    /// If it is gone or not ours to look at.
    pub fn open(pid: u32, via: u32) -> Result<Self> {
        use rustix::fs::{Mode, OFlags};
        let flags = OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC;
        let directory = rustix::fs::open(format!("/proc/{via}"), flags, Mode::empty())
            .map_err(|e| text::error(via, "cwd", e.into()))?;
        Ok(Self {
            pid,
            via,
            directory,
            status: text::open(via, "status")?,
            timers: text::open(via, "timers").ok(),
            buffer: Vec::new(),
            restless: RESTLESS,
            turn: 0,
        })
    }

    /// Brings into `process` everything but its root, terminal, actions, queues, arguments, addresses
    /// and what only the process itself tells. A limit may be some boundaries old. Returns the dispositions of signals.
    ///
    /// # Errors
    /// If the process is gone.
    pub fn read(&mut self, process: &mut Process) -> Result<Dispositions> {
        read(&self.status, &mut self.buffer).map_err(|e| text::error(self.via, "status", e))?;
        let status = Status::parse(&self.buffer)
            .ok_or_else(|| text::malformed(self.via, "status", &self.buffer))?;
        process.parent = status.parent;
        process.umask = status.umask.unwrap_or(process.umask);
        process.uids = status.uids;
        process.gids = status.gids;
        process.groups = status.groups;
        process.capabilities = status.capabilities;
        process.no_new_privs = status.no_new_privs;
        process.seccomp = status.seccomp;
        self.link(c"cwd", &mut process.cwd)?;
        self.read_limits(process)?;
        let number = |pid: u32| rustix::process::Pid::from_raw(pid.cast_signed());
        (process.group, process.session) = belongs(self.pid);
        if let Ok(nice) = rustix::process::getpriority_process(number(self.via)) {
            process.nice = nice;
        }
        self.read_timers(process)?;
        Ok(Dispositions {
            caught: status.caught,
            ignored: status.ignored,
        })
    }

    /// All limits for a while after one has changed, else some of them in turn.
    fn read_limits(&mut self, process: &mut Process) -> Result<()> {
        let all = self.restless > 0 || process.limits.len() != identity::RLIMITS;
        if all {
            self.restless = self.restless.saturating_sub(1);
            let read = identity::limits(self.pid)?;
            if read != process.limits {
                self.restless = RESTLESS;
                process.limits = read;
            }
            return Ok(());
        }
        for _ in 0..LIMITS {
            self.turn = (self.turn + 1) % identity::RLIMITS;
            let read = identity::limit(self.pid, self.turn)?;
            if let Some(known) = process.limits.get_mut(self.turn)
                && *known != read
            {
                *known = read;
                self.restless = RESTLESS;
            }
        }
        // One has changed: others may have at the same time.
        if self.restless > 0 {
            process.limits = identity::limits(self.pid)?;
        }
        Ok(())
    }

    /// Timers; what is known of the time one has left stays.
    fn read_timers(&mut self, process: &mut Process) -> Result<()> {
        let Some(file) = &self.timers else {
            return Ok(());
        };
        read(file, &mut self.buffer).map_err(|e| text::error(self.via, "timers", e))?;
        if self.buffer.is_empty() {
            process.posix_timers.clear();
            return Ok(());
        }
        let mut read = identity::parse_timers(&self.buffer)
            .ok_or_else(|| text::malformed(self.via, "timers", &self.buffer))?;
        for timer in &mut read {
            let known = process.posix_timers.iter().find(|t| t.id == timer.id);
            timer.armed_ns = known.and_then(|t| t.armed_ns);
        }
        process.posix_timers = read;
        Ok(())
    }

    fn link(&mut self, name: &'static std::ffi::CStr, into: &mut Vec<u8>) -> Result<()> {
        let gone = |e: rustix::io::Errno| {
            let path = format!("/proc/{}/{}", self.via, name.to_string_lossy());
            match e {
                rustix::io::Errno::SRCH => Error::ProcessGone(self.pid),
                e => Error::syscall("readlink", Target::Path(path), e),
            }
        };
        let buffer = std::mem::take(&mut self.buffer);
        let read = rustix::fs::readlinkat(&self.directory, name, buffer).map_err(gone)?;
        if read.as_bytes() != into.as_slice() {
            into.clear();
            into.extend_from_slice(read.as_bytes());
        }
        self.buffer = read.into_bytes();
        Ok(())
    }
}

impl Dispositions {
    /// As actions: a caught signal's handler is not known.
    pub fn actions(self) -> Vec<stillframe_image::SignalAction> {
        actions(self.caught, self.ignored)
    }
}

/// The name of a thread, read again and again.
#[derive(Debug)]
pub struct Name(File);

impl Name {
    /// Of a thread.
    ///
    /// # Errors
    /// If it is gone, or no more files can be opened.
    pub fn open(pid: u32, tid: u32) -> std::io::Result<Self> {
        File::open(format!("/proc/{pid}/task/{tid}/comm")).map(Self)
    }

    /// Reads it, without its newline; names may contain newlines.
    ///
    /// # Errors
    /// If the thread is gone.
    pub fn read(&self, into: &mut Vec<u8>) -> std::io::Result<()> {
        // TASK_COMM_LEN is 16, and has been since 1991; kernel threads have longer ones.
        let mut buffer = [0; 64];
        let mut length = self.0.read_at(&mut buffer, 0)?;
        if length > 0 && buffer.get(length - 1) == Some(&b'\n') {
            length -= 1;
        }
        into.clear();
        into.extend_from_slice(buffer.get(..length).unwrap_or_default());
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::proc::process;

    #[test]
    fn what_moves_is_what_is_read_at_leisure() {
        let pid = std::process::id();
        let whole = process::read(pid).unwrap();
        let mut moving = Process {
            cwd: b"/elsewhere/and/longer/than/anything/there".to_vec(),
            umask: 0o777,
            ..whole.clone()
        };
        moving.limits.clear();
        moving.groups = vec![77];
        moving.session = 0;
        let mut reader = Moving::open(pid, pid).unwrap();
        for _ in 0..2 {
            let dispositions = reader.read(&mut moving).unwrap();
            assert_eq!(dispositions.actions(), whole.actions);
            assert_eq!(moving, whole);
        }
    }

    /// There the group and session are led from outside, and have no number.
    #[test]
    fn within_a_container_too() {
        if rustix::process::getpid().as_raw_pid() == 1 {
            return;
        }
        let run = std::process::Command::new("unshare")
            .args(["-Urpf", "--mount-proc"])
            .arg(std::env::current_exe().unwrap())
            .args([
                "--exact",
                "proc::moving::tests::what_moves_is_what_is_read_at_leisure",
            ])
            .output();
        let run = match run {
            Ok(run) => run,
            Err(e) => return eprintln!("skipped: unshare: {e}"),
        };
        let (out, err) = (
            String::from_utf8_lossy(&run.stdout),
            String::from_utf8_lossy(&run.stderr),
        );
        if err.starts_with("unshare: ") {
            return eprintln!("skipped: {err}");
        }
        assert!(out.contains("1 passed"), "{out}{err}");
    }

    #[test]
    fn names_are_read_again() {
        let pid = std::process::id();
        std::thread::scope(|scope| {
            let (to_us, from_it) = std::sync::mpsc::channel();
            let (to_it, from_us) = std::sync::mpsc::channel::<()>();
            scope.spawn(move || {
                for name in [c"first", c"second"] {
                    rustix::thread::set_name(name).unwrap();
                    to_us
                        .send(rustix::thread::gettid().as_raw_pid().cast_unsigned())
                        .unwrap();
                    from_us.recv().unwrap();
                }
            });
            let tid = from_it.recv().unwrap();
            let name = Name::open(pid, tid).unwrap();
            let mut text = Vec::new();
            name.read(&mut text).unwrap();
            assert_eq!(text, b"first");
            to_it.send(()).unwrap();
            let _ = from_it.recv().unwrap();
            name.read(&mut text).unwrap();
            assert_eq!(text, b"second");
            to_it.send(()).unwrap();
        });
    }
}
