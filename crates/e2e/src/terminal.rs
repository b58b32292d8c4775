//! A terminal that a program under test runs in, and what is on its screen.
//!
//! A pseudo-terminal whose other end a small emulator reads (the crate vt100): what it shows is what
//! a user would see.

use crate::process::PATIENCE;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::fs::{Mode, OFlags};
use rustix::process::{Pid, Signal};
use rustix::pty::{OpenptFlags, grantpt, openpt, ptsname, unlockpt};
use rustix::termios::{LocalModes, Winsize, tcgetattr, tcsetwinsize};
use std::ffi::OsString;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::num::NonZeroU16;
use std::os::fd::OwnedFd;
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

/// A program in a terminal of its own. Dropping kills it.
#[derive(Debug)]
pub struct Terminal {
    child: Child,
    /// Our end.
    ours: File,
    /// The program's end, kept open so that the terminal outlives the program and can be looked at.
    theirs: OwnedFd,
    seen: Arc<Mutex<Seen>>,
    status: Option<ExitStatus>,
}

struct Seen {
    parser: vt100::Parser,
    /// Everything that was written.
    raw: Vec<u8>,
}

impl std::fmt::Debug for Seen {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Seen")
            .field("raw", &self.raw.len())
            .finish()
    }
}

/// Rows and columns as the emulator takes them.
fn grid(columns: u16, rows: u16) -> Result<(NonZeroU16, NonZeroU16)> {
    let rows = NonZeroU16::new(rows).context("a terminal without rows")?;
    let columns = NonZeroU16::new(columns).context("a terminal without columns")?;
    Ok((rows, columns))
}

fn size(columns: u16, rows: u16) -> Winsize {
    Winsize {
        ws_row: rows,
        ws_col: columns,
        ws_xpixel: 0,
        ws_ypixel: 0,
    }
}

impl Terminal {
    /// Runs a program in a terminal of so many columns and rows. It is the controlling terminal of a
    /// session of its own, made by setsid(1).
    ///
    /// # Errors
    /// If there is no terminal left, or the program cannot be started.
    pub fn start(
        program: &[OsString],
        environment: &[(&str, &str)],
        columns: u16,
        rows: u16,
    ) -> Result<Self> {
        let ours = openpt(OpenptFlags::RDWR | OpenptFlags::NOCTTY | OpenptFlags::CLOEXEC)?;
        grantpt(&ours)?;
        unlockpt(&ours)?;
        let name = ptsname(&ours, Vec::new())?;
        let flags = OFlags::RDWR | OFlags::NOCTTY | OFlags::CLOEXEC;
        let theirs = rustix::fs::open(name, flags, Mode::empty())?;
        tcsetwinsize(&ours, size(columns, rows))?;
        let mut command = Command::new("setsid");
        command.arg("--ctty").args(program);
        command.env_remove("NO_COLOR").env("TERM", "xterm-256color");
        command.env_remove("LC_ALL").env("LANG", "C.UTF-8");
        command.envs(environment.iter().copied());
        command.stdin(Stdio::from(theirs.try_clone()?));
        command.stdout(Stdio::from(theirs.try_clone()?));
        command.stderr(Stdio::from(theirs.try_clone()?));
        let child = command.spawn().context("starting setsid")?;
        let (r, c) = grid(columns, rows)?;
        let seen = Arc::new(Mutex::new(Seen {
            parser: vt100::Parser::new(r, c, 0),
            raw: Vec::new(),
        }));
        let ours = File::from(ours);
        let (mut from, to) = (ours.try_clone()?, Arc::clone(&seen));
        std::thread::spawn(move || {
            let mut bytes = [0; 4096];
            while let Ok(n @ 1..) = from.read(&mut bytes) {
                let mut seen = to.lock().unwrap_or_else(PoisonError::into_inner);
                seen.parser.process(&bytes[..n]);
                seen.raw.extend_from_slice(&bytes[..n]);
            }
        });
        Ok(Self {
            child,
            ours,
            theirs,
            seen,
            status: None,
        })
    }

    fn seen(&self) -> MutexGuard<'_, Seen> {
        self.seen.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// What is on the screen.
    pub fn screen(&self) -> String {
        self.seen().parser.screen().contents()
    }

    /// One line of it, from 0.
    pub fn line(&self, number: usize) -> String {
        let screen = self.screen();
        screen.lines().nth(number).unwrap_or_default().to_owned()
    }

    /// Whether the alternate screen is shown.
    pub fn alternate(&self) -> bool {
        self.seen().parser.screen().alternate_screen()
    }

    /// Whether the cursor is hidden.
    pub fn cursor_hidden(&self) -> bool {
        self.seen().parser.screen().hide_cursor()
    }

    /// Everything that was written so far.
    pub fn raw(&self) -> Vec<u8> {
        self.seen().raw.clone()
    }

    /// Whether the terminal is as a shell leaves it: lines are edited and shown as they are typed.
    ///
    /// # Errors
    /// If it is gone.
    pub fn cooked(&self) -> Result<bool> {
        let modes = tcgetattr(&self.theirs)?.local_modes;
        Ok(modes.contains(LocalModes::ICANON | LocalModes::ECHO | LocalModes::ISIG))
    }

    /// Types.
    ///
    /// # Errors
    /// If the terminal is gone.
    pub fn type_keys(&mut self, keys: &str) -> Result<()> {
        self.ours.write_all(keys.as_bytes())?;
        Ok(())
    }

    /// Gives it another size.
    ///
    /// # Errors
    /// If it is gone.
    pub fn resize(&mut self, columns: u16, rows: u16) -> Result<()> {
        let (r, c) = grid(columns, rows)?;
        self.seen().parser.screen_mut().set_size(r, c);
        tcsetwinsize(&self.ours, size(columns, rows))?;
        Ok(())
    }

    /// Waits until the screen is as wanted.
    ///
    /// # Errors
    /// If it does not get so; with the screen.
    pub fn until(&mut self, what: &str, holds: impl Fn(&str) -> bool) -> Result<String> {
        let end = Instant::now() + PATIENCE;
        loop {
            let screen = self.screen();
            if holds(&screen) {
                return Ok(screen);
            }
            ensure!(
                Instant::now() < end,
                "waited for {what}; on the screen:\n{screen}"
            );
            if let Some(status) = self.child.try_wait()? {
                self.status = Some(status);
                std::thread::sleep(Duration::from_millis(50));
                let screen = self.screen();
                bail!("waited for {what}, and it ended with {status}; on the screen:\n{screen}");
            }
            std::thread::sleep(Duration::from_millis(5));
        }
    }

    /// Sends the program a signal.
    ///
    /// # Errors
    /// If it is gone.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        rustix::process::kill_process(self.pid()?, signal)?;
        Ok(())
    }

    fn pid(&self) -> Result<Pid> {
        crate::process::pid_of(self.child.id())
    }

    /// Waits until the program has ended.
    ///
    /// # Errors
    /// If it does not.
    pub fn wait(&mut self) -> Result<ExitStatus> {
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.status {
                return Ok(status);
            }
            self.status = self.child.try_wait()?;
            ensure!(
                Instant::now() < end,
                "it does not end; on the screen:\n{}",
                self.screen()
            );
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        if self.status.is_none() {
            let _ = self.child.kill();
            let _ = self.child.wait();
        }
    }
}
