//! Starting a program under us.
//!
//! The child waits on a pipe until it has been seized, then execs, and is held at the first
//! instruction of the new program. It never depends on us: if we die first, the pipe closes and it
//! goes on to exec, untraced. Between `fork` and `exec` it only makes system calls, on memory made
//! ready before: another thread of ours may have held any lock at the fork.

use crate::error::{Error, Result, Target};
use crate::ptrace::Running;
use crate::tracee::{Event, Tracee, Wake, first_mask};
use std::ffi::{CString, OsStr, OsString, c_char};
use std::io::{self, Read, Write};
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{MetadataExt, PermissionsExt};
use std::path::{Path, PathBuf};

/// What to start. The environment and the open standard descriptors are ours.
#[derive(Clone, Debug, Default)]
pub struct Launch {
    /// A path if it holds a slash, else looked for in PATH.
    pub program: OsString,
    /// Arguments, the program's name not included.
    pub args: Vec<OsString>,
    /// Directory to start in; ours if none.
    pub cwd: Option<PathBuf>,
}

/// Why a program cannot be started.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum LaunchError {
    /// There is none.
    #[error("{0}: no such program; give its path, or see that PATH leads to it")]
    NotFound(String),
    /// It is not a program, or not ours to run.
    #[error("{program}: cannot be executed: {source}")]
    NotExecutable {
        /// Its path.
        program: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It would run without the privileges it is made to have.
    #[error(
        "{0} is setuid or setgid, and would run without its privileges when recorded by an \
         ordinary user; run the recorder as root"
    )]
    Setuid(String),
    /// The directory to start in.
    #[error("{directory}: cannot start there: {source}")]
    Directory {
        /// Which.
        directory: String,
        /// The kernel's reason.
        source: io::Error,
    },
    /// It was killed before it ran.
    #[error("{0} was killed before it started")]
    Killed(String),
    /// Something else.
    #[error(transparent)]
    Other(#[from] Error),
}

/// Everything the child needs, made before the fork.
struct Plan {
    path: CString,
    args: Vec<CString>,
    environment: Vec<CString>,
    cwd: Option<CString>,
    mask: libc::sigset_t,
}

/// What the child failed at, sent as two numbers through a pipe.
const AT_CWD: i32 = 1;
const AT_EXEC: i32 = 2;

impl Tracee {
    /// Starts a program and returns with it held ([`Tracee::release`] lets it go) at its first
    /// instruction.
    ///
    /// # Errors
    /// [`LaunchError`] tells what is wrong with the program.
    pub fn launch(launch: Launch) -> Result<Self, LaunchError> {
        crate::tracee::prepare()?;
        let path = find(&launch.program, launch.cwd.is_some())?;
        let shown = path.display().to_string();
        let plan = Plan::new(&launch, &path)?;
        let (go_read, go_write) = pipe()?;
        let (report_read, report_write) = pipe()?;
        let keep = [go_read.as_raw_fd(), report_write.as_raw_fd()];
        let child = spawn(&plan, keep, go_write.as_raw_fd())?;
        drop((go_read, report_write));
        let first = match Running::seize(child, false) {
            Ok(first) => first,
            Err(e) => {
                reap(child);
                return Err(e.into());
            }
        };
        let mut tracee = Self::with_first(child, first)?;
        // A child that is gone already is found out by what follows.
        let _ = std::fs::File::from(go_write).write_all(b".");
        loop {
            match tracee.wait(None, &[])? {
                Wake::Event(Event::Exec) => return Ok(tracee),
                Wake::Event(Event::Ended(_)) => break,
                Wake::Event(Event::Fatal { .. } | Event::Exiting { .. }) => tracee.release()?,
                _ => {}
            }
        }
        let mut report = Vec::new();
        let _ = std::fs::File::from(report_read)
            .take(8)
            .read_to_end(&mut report);
        let word = |at: usize| {
            report
                .get(at..at + 4)
                .and_then(|b| b.try_into().ok())
                .map(i32::from_ne_bytes)
        };
        Err(match (word(0), word(4).map(io::Error::from_raw_os_error)) {
            (Some(AT_CWD), Some(source)) => LaunchError::Directory {
                directory: launch
                    .cwd
                    .as_deref()
                    .unwrap_or(Path::new("."))
                    .display()
                    .to_string(),
                source,
            },
            (Some(_), Some(source)) => LaunchError::NotExecutable {
                program: shown,
                source,
            },
            _ => LaunchError::Killed(shown),
        })
    }
}

impl Plan {
    fn new(launch: &Launch, path: &Path) -> Result<Self, LaunchError> {
        let c = |s: &OsStr| {
            CString::new(s.as_bytes()).map_err(|_| LaunchError::NotExecutable {
                program: s.to_string_lossy().escape_debug().to_string(),
                source: io::Error::new(io::ErrorKind::InvalidInput, "a NUL byte in an argument"),
            })
        };
        let args = std::iter::once(&launch.program)
            .chain(&launch.args)
            .map(|a| c(a));
        let environment = std::env::vars_os().filter_map(|(key, value)| {
            CString::new([key.as_bytes(), b"=", value.as_bytes()].concat()).ok()
        });
        let mut signals = Vec::new();
        let mask = first_mask();
        signals.extend((1..=64).filter(|s| mask & 1 << (s - 1) != 0));
        Ok(Self {
            path: c(path.as_os_str())?,
            args: args.collect::<Result<_, _>>()?,
            environment: environment.collect(),
            cwd: launch
                .cwd
                .as_deref()
                .map(|d| c(d.as_os_str()))
                .transpose()?,
            mask: crate::tracee::set_of(&signals),
        })
    }
}

/// Finds the program as a shell would, and looks whether it can be run.
fn find(program: &OsStr, elsewhere: bool) -> Result<PathBuf, LaunchError> {
    let shown = || program.to_string_lossy().escape_debug().to_string();
    if program.is_empty() {
        return Err(LaunchError::NotFound("(empty name)".into()));
    }
    if program.as_bytes().contains(&b'/') {
        let path = Path::new(program);
        check(path)?;
        // It is relative to where we are, not to where it will start.
        let absolute = elsewhere.then(|| std::path::absolute(path).ok()).flatten();
        return Ok(absolute.unwrap_or_else(|| path.to_owned()));
    }
    let list = std::env::var_os("PATH").unwrap_or_else(|| "/usr/local/bin:/bin:/usr/bin".into());
    let mut refusal = None;
    for directory in std::env::split_paths(&list) {
        let path = directory.join(program);
        match check(&path) {
            Ok(()) => return Ok(std::path::absolute(&path).unwrap_or(path)),
            Err(LaunchError::NotFound(_)) => {}
            // In a directory that is not ours to look into, as far as we are concerned it is not.
            Err(_) if std::fs::symlink_metadata(&path).is_err() => {}
            Err(other) => refusal = refusal.or(Some(other)),
        }
    }
    Err(refusal.unwrap_or_else(|| LaunchError::NotFound(shown())))
}

fn check(path: &Path) -> Result<(), LaunchError> {
    let shown = path.display().to_string();
    let refuse = |errno| LaunchError::NotExecutable {
        program: shown.clone(),
        source: io::Error::from_raw_os_error(errno),
    };
    let metadata = match std::fs::metadata(path) {
        Ok(metadata) => metadata,
        Err(e) if matches!(e.raw_os_error(), Some(libc::ENOENT | libc::ENOTDIR)) => {
            return Err(LaunchError::NotFound(shown));
        }
        Err(source) => {
            return Err(LaunchError::NotExecutable {
                program: shown,
                source,
            });
        }
    };
    if metadata.is_dir() {
        return Err(refuse(libc::EISDIR));
    }
    if let Err(errno) = rustix::fs::access(path, rustix::fs::Access::EXEC_OK) {
        return Err(refuse(errno.raw_os_error()));
    }
    let mode = metadata.permissions().mode();
    let (user, group) = (rustix::process::geteuid(), rustix::process::getegid());
    let foreign = mode & libc::S_ISUID != 0 && metadata.uid() != user.as_raw()
        || mode & libc::S_ISGID != 0 && mode & 0o010 != 0 && metadata.gid() != group.as_raw();
    if foreign && !user.is_root() {
        return Err(LaunchError::Setuid(shown));
    }
    Ok(())
}

fn pipe() -> Result<(OwnedFd, OwnedFd)> {
    rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)
        .map_err(|e| Error::syscall("pipe2", Target::Us, e))
}

/// Forks. The child waits for a byte, or the end, on `keep[0]`, then execs; what it fails at it
/// writes to `keep[1]`.
fn spawn(plan: &Plan, keep: [RawFd; 2], close: RawFd) -> Result<u32> {
    let pointers = |list: &[CString]| {
        let ends = std::iter::once(std::ptr::null());
        list.iter()
            .map(|s| s.as_ptr())
            .chain(ends)
            .collect::<Vec<*const c_char>>()
    };
    let (args, environment) = (pointers(&plan.args), pointers(&plan.environment));
    // SAFETY: the child runs only `child` below, which makes system calls and touches nothing but
    // its arguments, all made before; it never returns into Rust code that could take a lock or
    // allocate.
    let pid = unsafe { libc::fork() };
    match pid {
        -1 => Err(Error::last("fork", Target::Us)),
        // SAFETY: both lists end with a null and point into `plan`, which outlives the call.
        0 => unsafe { child(plan, &args, &environment, keep, close) },
        pid => Ok(pid.cast_unsigned()),
    }
}

/// The child's life until `exec`.
///
/// # Safety
/// `args` and `environment` must be null-terminated lists of valid C strings. To be called in a new
/// child only.
unsafe fn child(
    plan: &Plan,
    args: &[*const c_char],
    environment: &[*const c_char],
    [go, report]: [RawFd; 2],
    close: RawFd,
) -> ! {
    // SAFETY: async-signal-safe calls on descriptors, strings and lists that the caller vouches
    // for; `byte` and `words` are local.
    unsafe {
        // With our end open, its own copy would keep the pipe from ever closing.
        libc::close(close);
        let mut byte = 0u8;
        while libc::read(go, (&raw mut byte).cast(), 1) < 0
            && *libc::__errno_location() == libc::EINTR
        {}
        for signal in [libc::SIGPIPE, libc::SIGXFSZ] {
            libc::signal(signal, libc::SIG_DFL);
        }
        libc::sigprocmask(
            libc::SIG_SETMASK,
            &raw const plan.mask,
            std::ptr::null_mut(),
        );
        let mut at = AT_EXEC;
        match &plan.cwd {
            Some(cwd) if libc::chdir(cwd.as_ptr()) != 0 => at = AT_CWD,
            _ => {
                libc::execve(plan.path.as_ptr(), args.as_ptr(), environment.as_ptr());
            }
        }
        let words = [at, *libc::__errno_location()];
        libc::write(report, words.as_ptr().cast(), size_of_val(&words));
        libc::_exit(127)
    }
}

fn reap(child: u32) {
    // SAFETY: no status is asked for. The child was started here and is waited for here alone.
    unsafe { libc::waitpid(child.cast_signed(), std::ptr::null_mut(), 0) };
}
