//! Targets compiled on the spot, and what is asked about them.

use std::collections::BTreeMap;
use std::io::{BufRead, BufReader};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdout, Command, Stdio};
use std::sync::OnceLock;
use std::time::{Duration, Instant};
use stillframe_linux::tracee::{Event, Halt, Stop, Tracee, Wake};

/// The compiled targets; `None` without a C compiler.
pub fn targets() -> Option<&'static Path> {
    static DIRECTORY: OnceLock<Option<(tempfile::TempDir, PathBuf)>> = OnceLock::new();
    DIRECTORY
        .get_or_init(|| {
            let directory = tempfile::tempdir().unwrap();
            for name in ["registers", "calls", "scenes", "tree"] {
                let source = format!("{}/tests/targets/{name}.c", env!("CARGO_MANIFEST_DIR"));
                let done = Command::new("cc")
                    .args([
                        "-O1",
                        "-g",
                        "-pthread",
                        "-fno-stack-protector",
                        "-mno-avx",
                        "-o",
                    ])
                    .arg(directory.path().join(name))
                    .arg(source)
                    .status();
                match done {
                    Err(_) => return None,
                    Ok(status) => assert!(status.success(), "{name}.c does not compile"),
                }
            }
            let path = directory.path().to_owned();
            Some((directory, path))
        })
        .as_ref()
        .map(|(_, path)| path.as_path())
}

pub struct Target {
    child: Child,
    out: BufReader<ChildStdout>,
}

impl Target {
    pub fn start(name: &str, args: &[&str]) -> Self {
        let mut child = Command::new(targets().unwrap().join(name))
            .args(args)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap();
        let out = BufReader::new(child.stdout.take().unwrap());
        let mut this = Self { child, out };
        assert_eq!(this.line(), "ready");
        this
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// Next line it prints; empty at the end.
    pub fn line(&mut self) -> String {
        let mut line = String::new();
        self.out.read_line(&mut line).unwrap();
        line.trim_end().to_owned()
    }

    pub fn signal(&self, signal: i32) {
        kill(self.pid(), signal);
    }

    /// Its last line, which must begin with "ok". For targets that are not traced (any more).
    pub fn finish(mut self) -> String {
        let line = self.line();
        assert!(line.starts_with("ok"), "{line:?}");
        let _ = self.child.wait();
        line
    }
}

impl Drop for Target {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

pub fn kill(pid: u32, signal: i32) {
    let pid = rustix::process::Pid::from_raw(pid.cast_signed()).unwrap();
    let signal = rustix::process::Signal::from_named_raw(signal).unwrap();
    let _ = rustix::process::kill_process(pid, signal);
}

/// Lets the target run for a while; events are collected and what is held is released.
pub fn run_for(tracee: &mut Tracee, time: Duration) -> Vec<Event> {
    let mut events = Vec::new();
    let end = Instant::now() + time;
    loop {
        match tracee.wait(Some(end), &[]).unwrap() {
            Wake::Deadline => return events,
            Wake::Descriptor(_) => unreachable!(),
            Wake::Event(event) => {
                let over = matches!(event, Event::Ended(_));
                if matches!(
                    event,
                    Event::Exec | Event::Fatal { .. } | Event::Exiting { .. }
                ) {
                    tracee.release().unwrap();
                }
                events.push(event);
                if over {
                    return events;
                }
            }
        }
    }
}

/// Lets it run until its end.
pub fn run_out(tracee: &mut Tracee) -> Vec<Event> {
    let events = run_for(tracee, Duration::from_secs(60));
    assert!(tracee.has_exited(), "{events:?}");
    events
}

/// Lets it run until an event, which is left for the caller to deal with.
pub fn run_until(tracee: &mut Tracee, wanted: impl Fn(&Event) -> bool) -> Event {
    let end = Instant::now() + Duration::from_secs(30);
    let mut seen = Vec::new();
    loop {
        match tracee.wait(Some(end), &[]).unwrap() {
            Wake::Event(event) if wanted(&event) => return event,
            Wake::Event(event) => seen.push(event),
            other => panic!("{other:?} after {seen:?}"),
        }
    }
}

/// Stops it, whatever it takes; `None` when it has ended.
pub fn with_halt<T>(tracee: &mut Tracee, f: impl FnOnce(&mut Halt<'_>) -> T) -> Option<T> {
    let end = Instant::now() + Duration::from_secs(20);
    loop {
        match tracee.stop(Duration::from_secs(1)) {
            Ok(Stop::All(mut halt)) => {
                let result = f(&mut halt);
                halt.resume().unwrap();
                return Some(result);
            }
            Ok(Stop::TimedOut { tid, why }) => {
                assert!(Instant::now() < end, "thread {tid}: {why}");
            }
            Ok(Stop::Event(Event::Ended(_))) => return None,
            Ok(Stop::Event(_)) => {}
            Err(e) if e.is_gone() => return None,
            Err(e) => panic!("{e}"),
        }
        tracee.release().unwrap();
    }
}

/// What is not to change: descriptors, and mappings but for the stack's size and the heap's.
#[derive(PartialEq, Eq)]
pub struct Looks {
    descriptors: BTreeMap<String, PathBuf>,
    mappings: Vec<String>,
    pub vdso: Vec<u8>,
    threads: BTreeMap<String, (String, String, String)>,
}

impl std::fmt::Debug for Looks {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let vdso = self
            .vdso
            .iter()
            .fold(0u64, |h, b| h.wrapping_mul(31) + u64::from(*b));
        write!(
            f,
            "{:?} {:?} vdso {vdso:x} {:?}",
            self.descriptors, self.mappings, self.threads
        )
    }
}

/// A thread blocks signals while it starts another or is started, so targets are given time.
pub fn looks(pid: u32) -> Looks {
    use std::os::unix::fs::FileExt;
    std::thread::sleep(Duration::from_millis(50));
    let maps = std::fs::read_to_string(format!("/proc/{pid}/maps")).unwrap();
    let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
    let mut vdso = Vec::new();
    if let Some(line) = maps.lines().find(|l| l.ends_with("[vdso]")) {
        let (start, end) = line.split_once(' ').unwrap().0.split_once('-').unwrap();
        let parse = |s| u64::from_str_radix(s, 16).unwrap();
        vdso.resize((parse(end) - parse(start)) as usize, 0);
        memory.read_exact_at(&mut vdso, parse(start)).unwrap();
    }
    let descriptors = std::fs::read_dir(format!("/proc/{pid}/fd"))
        .unwrap()
        .filter_map(|e| {
            let e = e.unwrap();
            let link = std::fs::read_link(e.path()).ok()?;
            Some((e.file_name().into_string().unwrap(), link))
        })
        .collect();
    let threads = std::fs::read_dir(format!("/proc/{pid}/task"))
        .unwrap()
        .filter_map(|e| {
            let e = e.unwrap();
            let status = std::fs::read_to_string(e.path().join("status")).ok()?;
            let get = |key: &str| {
                let line = status.lines().find(|l| l.starts_with(key));
                line.unwrap_or_default().to_owned()
            };
            let name = e.file_name().into_string().unwrap();
            Some((name, (get("SigBlk"), get("SigPnd"), get("TracerPid"))))
        })
        .collect();
    Looks {
        descriptors,
        mappings: maps.lines().map(str::to_owned).collect(),
        vdso,
        threads,
    }
}
