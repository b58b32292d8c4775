//! What others are told: a line on stderr, a log, a hook, figures.

use crate::args::SuperviseArgs;
use crate::exit::{Code, fail};
use serde::Serialize;
use std::fmt::Write as _;
use std::fs::File;
use std::io::{Read as _, Write as _};
use std::net::{SocketAddr, TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// Hooks that run at once, at most: one that hangs must not cost a process for each event.
const HOOKS: usize = 16;

/// What happened.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum What {
    /// A signal is about to end it.
    Crash,
    /// It was found sick.
    Sick,
    /// It was taken back.
    Back,
    /// Taking it back failed.
    Failed,
    /// It is left to its fate.
    GaveUp,
}

impl What {
    const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Sick => "sick",
            Self::Back => "back",
            Self::Failed => "failed",
            Self::GaveUp => "gave-up",
        }
    }
}

#[derive(Debug, Default)]
struct Figures {
    crashes: u64,
    sick: u64,
    back: u64,
    failed: u64,
    gave_up: u64,
    seconds: f64,
    longest: f64,
    pages: u64,
}

impl Figures {
    /// In Prometheus' text format.
    fn text(&self) -> String {
        let mut out = String::new();
        let mut put = |name: &str, kind: &str, help: &str, value: String| {
            let _ = writeln!(out, "# HELP still_supervise_{name} {help}");
            let _ = writeln!(out, "# TYPE still_supervise_{name} {kind}");
            let _ = writeln!(out, "still_supervise_{name} {value}");
        };
        let counter = "counter";
        put(
            "crashes_total",
            counter,
            "Fatal signals.",
            self.crashes.to_string(),
        );
        put(
            "sick_total",
            counter,
            "Failures of health.",
            self.sick.to_string(),
        );
        put(
            "rollbacks_total",
            counter,
            "Times taken back.",
            self.back.to_string(),
        );
        put(
            "failures_total",
            counter,
            "Times it could not be taken back.",
            self.failed.to_string(),
        );
        put(
            "gave_up_total",
            counter,
            "Times left to its fate.",
            self.gave_up.to_string(),
        );
        put(
            "pages_total",
            counter,
            "Pages written back.",
            self.pages.to_string(),
        );
        let total = format!("{:.6}", self.seconds);
        put(
            "recovery_seconds_total",
            counter,
            "Time from fault to service.",
            total,
        );
        let longest = format!("{:.6}", self.longest);
        put(
            "recovery_seconds_max",
            "gauge",
            "Longest time from fault to service.",
            longest,
        );
        out
    }
}

/// A line of the log.
#[derive(Serialize)]
struct Line<'a> {
    /// Seconds since the epoch.
    time: f64,
    event: &'a str,
    pid: u32,
    checkpoint: Option<u64>,
    reason: &'a str,
    /// From fault to service, if it was taken back.
    #[serde(skip_serializing_if = "Option::is_none")]
    took_ms: Option<f64>,
}

/// All of it.
pub struct Outside {
    quiet: bool,
    recording: PathBuf,
    log: Option<File>,
    hook: Option<String>,
    hooks: Vec<Child>,
    figures: Arc<Mutex<Figures>>,
    file: Option<PathBuf>,
    /// How long the last way back took.
    took: Option<Duration>,
}

impl Outside {
    /// Opens what was asked for, before anything is started.
    ///
    /// # Errors
    /// If an address cannot be listened at or a file not be written.
    pub fn open(args: &SuperviseArgs, recording: &Path) -> anyhow::Result<Self> {
        let log = match &args.log {
            Some(path) => {
                let opened = File::options().create(true).append(true).open(path);
                Some(opened.map_err(|e| fail(Code::Write, format!("{}: {e}", path.display())))?)
            }
            None => None,
        };
        let figures = Arc::new(Mutex::new(Figures::default()));
        let mut file = None;
        match args.metrics.as_deref() {
            None => {}
            Some(place) => match place.parse::<SocketAddr>() {
                Ok(address) => serve(address, Arc::clone(&figures))?,
                Err(_) => file = Some(PathBuf::from(place)),
            },
        }
        let this = Self {
            quiet: args.capture.quiet,
            recording: recording.to_owned(),
            log,
            hook: args.hook.clone(),
            hooks: Vec::new(),
            figures,
            file,
            took: None,
        };
        if let Some(path) = &this.file {
            replace(path, &this.figures().text())
                .map_err(|e| fail(Code::Write, format!("{}: {e}", path.display())))?;
        }
        Ok(this)
    }

    fn figures(&self) -> MutexGuard<'_, Figures> {
        self.figures.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// It was taken back, `took` after the fault.
    pub fn back(&mut self, took: Duration, pages: u64) {
        self.took = Some(took);
        let mut figures = self.figures();
        figures.seconds += took.as_secs_f64();
        figures.longest = figures.longest.max(took.as_secs_f64());
        figures.pages += pages;
    }

    /// Tells everybody.
    pub fn tell(&mut self, what: What, pid: u32, checkpoint: Option<u64>, reason: &str) {
        {
            let mut figures = self.figures();
            let count = match what {
                What::Crash => &mut figures.crashes,
                What::Sick => &mut figures.sick,
                What::Back => &mut figures.back,
                What::Failed => &mut figures.failed,
                What::GaveUp => &mut figures.gave_up,
            };
            *count += 1;
        }
        let recording = self.recording.to_string_lossy().into_owned();
        if !self.quiet {
            let at = checkpoint.map_or(String::new(), |c| format!(" {recording}@{c}"));
            let words = match what {
                What::Crash => format!("process {pid} is about to die ({at} ): {reason}"),
                What::Sick => format!("process {pid} is sick ({at} ): {reason}"),
                What::Back => format!("process {pid} is back at{at}: {reason}"),
                What::Failed => format!("process {pid} could not be taken back to{at}: {reason}"),
                What::GaveUp => format!(
                    "given up: {reason}; all is kept: still debug {recording}@{}",
                    checkpoint.unwrap_or(0)
                ),
            };
            let words = words.replace(" )", ")").replace("( ", "(");
            // Nobody may be reading any more.
            let _ = writeln!(std::io::stderr(), "still: {words}");
        }
        if let Some(log) = &mut self.log {
            let time = SystemTime::now()
                .duration_since(UNIX_EPOCH)
                .unwrap_or_default()
                .as_secs_f64();
            let line = Line {
                time,
                event: what.name(),
                pid,
                checkpoint,
                reason,
                took_ms: (what == What::Back)
                    .then(|| self.took.take())
                    .flatten()
                    .map(|took| took.as_secs_f64() * 1e3),
            };
            if let Ok(mut text) = serde_json::to_string(&line) {
                text.push('\n');
                let _ = log.write_all(text.as_bytes());
            }
        }
        if let Some(path) = &self.file {
            let _ = replace(path, &self.figures().text());
        }
        self.run_hook(what, pid, checkpoint, reason);
    }

    fn run_hook(&mut self, what: What, pid: u32, checkpoint: Option<u64>, reason: &str) {
        self.look();
        let Some(hook) = &self.hook else { return };
        if self.hooks.len() >= HOOKS {
            tracing::warn!("{HOOKS} hooks are running already; this one is left out");
            return;
        }
        let started = Command::new("sh")
            .arg("-c")
            .arg(hook)
            .env("STILL_EVENT", what.name())
            .env("STILL_PID", pid.to_string())
            .env("STILL_RECORDING", &self.recording)
            .env(
                "STILL_CHECKPOINT",
                checkpoint.map_or(String::new(), |c| c.to_string()),
            )
            .env("STILL_REASON", reason)
            .stdin(Stdio::null())
            .spawn();
        match started {
            Ok(child) => self.hooks.push(child),
            Err(e) => tracing::warn!("the hook cannot be started: {e}"),
        }
    }

    /// Takes notice of hooks that have ended.
    pub fn look(&mut self) {
        self.hooks.retain_mut(|c| matches!(c.try_wait(), Ok(None)));
    }

    /// Waits for hooks that still run.
    pub fn end(&mut self) {
        for mut hook in self.hooks.drain(..) {
            let _ = hook.wait();
        }
    }
}

fn replace(path: &Path, text: &str) -> std::io::Result<()> {
    let mut beside = path.as_os_str().to_owned();
    beside.push(".new");
    std::fs::write(&beside, text)?;
    std::fs::rename(beside, path)
}

/// Answers every request at an address with the figures.
fn serve(address: SocketAddr, figures: Arc<Mutex<Figures>>) -> anyhow::Result<()> {
    if !address.ip().is_loopback() {
        let why = format!("{address} is not on loopback; take 127.0.0.1:PORT");
        return Err(fail(Code::Usage, why));
    }
    let listener = TcpListener::bind(address)
        .map_err(|e| fail(Code::Failure, format!("cannot listen at {address}: {e}")))?;
    std::thread::Builder::new()
        .name("still-metrics".into())
        .spawn(move || {
            for stream in listener.incoming().flatten() {
                let text = figures
                    .lock()
                    .unwrap_or_else(PoisonError::into_inner)
                    .text();
                let _ = answer(stream, &text);
            }
        })?;
    Ok(())
}

fn answer(mut stream: TcpStream, text: &str) -> std::io::Result<()> {
    let patience = Some(Duration::from_secs(1));
    stream.set_read_timeout(patience)?;
    stream.set_write_timeout(patience)?;
    // Whatever is asked, there is one answer; the request is read so that closing does not reset.
    let mut request = [0; 4096];
    let _ = stream.read(&mut request)?;
    write!(
        stream,
        "HTTP/1.1 200 OK\r\nContent-Type: text/plain; version=0.0.4\r\nContent-Length: {}\r\n\
         Connection: close\r\n\r\n{text}",
        text.len()
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn figures_are_in_prometheus_words() {
        let figures = Figures {
            crashes: 3,
            ..Figures::default()
        };
        let text = figures.text();
        assert!(text.contains(
            "# TYPE still_supervise_crashes_total counter\nstill_supervise_crashes_total 3\n"
        ));
        assert!(
            text.lines()
                .all(|l| l.starts_with("# ") || l.split(' ').count() == 2)
        );
    }
}
