//! What there is now.

use crate::error::Result;
use std::ffi::OsStr;
use std::fs::File;
use std::io::{self, Read as _};
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use stillframe_image::Process;
use stillframe_image::host::Host;
use stillframe_linux::files::written::{self, Facts};
use stillframe_linux::host;
use stillframe_linux::proc::sharers;

/// What a path names now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Named {
    /// Nothing.
    Nothing,
    /// A regular file.
    File(Facts),
    /// A directory.
    Directory,
    /// Something else.
    Other,
    /// It cannot be told, for this reason.
    Hidden(String),
}

/// What there is, as far as a restored process would meet it.
pub trait World {
    /// What a path names.
    fn named(&self, path: &[u8]) -> Named;
    /// The BLAKE3 of the first `length` bytes of a file.
    ///
    /// # Errors
    /// If they cannot be read.
    fn hash(&self, path: &[u8], length: u64) -> io::Result<[u8; 32]>;
    /// The GNU build-id of a file.
    fn build_id(&self, path: &[u8]) -> Option<Vec<u8>>;
    /// Whether we may open a file, for writing or only reading.
    fn may_open(&self, path: &[u8], write: bool) -> bool;
    /// Release of the kernel.
    fn kernel(&self) -> String;
    /// The vDSO that it gives processes; empty for none.
    fn vdso(&self) -> Vec<u8>;
    /// The processor.
    fn processor(&self) -> Host;
    /// Whether a process has this pid.
    fn pid_taken(&self, pid: u32) -> bool;
    /// Ourselves: credentials, capabilities, limits, terminal.
    fn us(&self) -> &Process;
    /// Whether namespaces of our own can be had, or why not.
    ///
    /// # Errors
    /// The reason.
    fn namespaces(&self) -> std::result::Result<(), String>;
    /// Who listens on a TCP port now, if anybody does.
    fn listens(&self, port: u16) -> bool;
    /// A process other than `ours` that has this file open for writing.
    fn writer_of(&self, facts: &Facts, ours: &[u32]) -> Option<u32>;
}

/// The machine we are on.
#[derive(Debug)]
pub struct Here {
    us: Process,
    /// Somebody stands still meanwhile.
    hasty: bool,
}

impl Here {
    /// Looks at ourselves.
    ///
    /// # Errors
    /// If /proc cannot be read.
    pub fn new() -> Result<Self> {
        Ok(Self {
            us: stillframe_linux::proc::process::read(std::process::id())?,
            hasty: false,
        })
    }

    /// The same, without what takes long: who else has files open.
    ///
    /// # Errors
    /// As [`Here::new`].
    pub fn hasty() -> Result<Self> {
        Ok(Self {
            hasty: true,
            ..Self::new()?
        })
    }
}

pub(crate) fn path(bytes: &[u8]) -> &Path {
    Path::new(OsStr::from_bytes(bytes))
}

/// Bytes read at once.
const CHUNK: usize = 1 << 20;

/// Opens a regular file for reading, and nothing else: no pipe to wait for, no device to wake.
fn open(bytes: &[u8]) -> io::Result<File> {
    let held = written::hold(path(bytes)).map_err(other)?;
    if !Facts::of(&held).map_err(other)?.is_regular() {
        return Err(io::ErrorKind::InvalidInput.into());
    }
    written::open_held(&held, false).map_err(other)
}

fn other(error: stillframe_linux::Error) -> io::Error {
    match error.errno() {
        Some(number) => io::Error::from_raw_os_error(number),
        None => io::Error::other(error.to_string()),
    }
}

impl World for Here {
    fn named(&self, bytes: &[u8]) -> Named {
        match Facts::named(path(bytes)) {
            Ok(facts) if facts.is_regular() => Named::File(facts),
            Ok(_) if path(bytes).is_dir() => Named::Directory,
            Ok(_) => Named::Other,
            Err(e)
                if matches!(
                    e.kind(),
                    io::ErrorKind::NotFound | io::ErrorKind::NotADirectory
                ) =>
            {
                Named::Nothing
            }
            Err(e) => Named::Hidden(e.to_string()),
        }
    }

    fn hash(&self, path: &[u8], length: u64) -> io::Result<[u8; 32]> {
        let file = open(path)?;
        let mut hasher = blake3::Hasher::new();
        let mut buffer = vec![0; CHUNK];
        let mut at = 0;
        while at < length {
            let want = (length - at).min(CHUNK as u64) as usize;
            match file.read_at(&mut buffer[..want], at) {
                Ok(0) => return Err(io::ErrorKind::UnexpectedEof.into()),
                Ok(n) => {
                    hasher.update(&buffer[..n]);
                    at += n as u64;
                }
                Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
                Err(e) => return Err(e),
            }
        }
        Ok(*hasher.finalize().as_bytes())
    }

    fn build_id(&self, path: &[u8]) -> Option<Vec<u8>> {
        stillframe_linux::files::build_id(&open(path).ok()?).ok()?
    }

    fn may_open(&self, bytes: &[u8], write: bool) -> bool {
        use rustix::fs::{Access, AtFlags};
        let access = if write {
            Access::READ_OK | Access::WRITE_OK
        } else {
            Access::READ_OK
        };
        rustix::fs::accessat(rustix::fs::CWD, path(bytes), access, AtFlags::EACCESS).is_ok()
    }

    fn kernel(&self) -> String {
        host::kernel()
    }

    fn vdso(&self) -> Vec<u8> {
        host::vdso().unwrap_or_default()
    }

    fn processor(&self) -> Host {
        host::processor()
    }

    fn pid_taken(&self, pid: u32) -> bool {
        PathBuf::from(format!("/proc/{pid}")).exists()
    }

    fn us(&self) -> &Process {
        &self.us
    }

    fn namespaces(&self) -> std::result::Result<(), String> {
        let setting = |path: &str| {
            let mut text = String::new();
            File::open(path).ok()?.read_to_string(&mut text).ok()?;
            text.trim().parse::<u64>().ok()
        };
        if setting("/proc/sys/user/max_user_namespaces") == Some(0) {
            return Err("user.max_user_namespaces is 0".to_owned());
        }
        let privileged = self.us.uids.get(1) == Some(&0);
        if !privileged && setting("/proc/sys/kernel/unprivileged_userns_clone") == Some(0) {
            return Err("kernel.unprivileged_userns_clone is 0".to_owned());
        }
        if !privileged
            && setting("/proc/sys/kernel/apparmor_restrict_unprivileged_userns") == Some(1)
        {
            return Err("kernel.apparmor_restrict_unprivileged_userns is 1".to_owned());
        }
        Ok(())
    }

    fn listens(&self, port: u16) -> bool {
        let suffix = format!(":{port:04X}");
        ["/proc/net/tcp", "/proc/net/tcp6"].iter().any(|table| {
            let text = std::fs::read_to_string(table).unwrap_or_default();
            text.lines().skip(1).any(|line| {
                let mut fields = line.split_ascii_whitespace().skip(1);
                let local = fields.next().unwrap_or_default();
                // State 0A is LISTEN.
                local.ends_with(&suffix) && fields.nth(1) == Some("0A")
            })
        })
    }

    fn writer_of(&self, facts: &Facts, ours: &[u32]) -> Option<u32> {
        if self.hasty {
            return None;
        }
        let except = std::process::id();
        let found = sharers::sharers(facts.device, facts.inode, except);
        let writer = |s: &&sharers::Sharer| !ours.contains(&s.pid) && (s.writes || s.maps);
        found.ok()?.found.iter().find(writer).map(|s| s.pid)
    }
}
