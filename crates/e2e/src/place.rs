//! Where things are: the binary under test, compiled targets, scratch directories, programs.

use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock};

/// The directory that holds this crate's `targets/`.
fn sources() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("targets")
}

/// The root of the workspace.
pub fn workspace() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("../..")
}

/// `target/<profile>` of the build that this executable belongs to.
fn profile_directory() -> Result<PathBuf> {
    let exe = std::env::current_exe().context("the path of the test executable")?;
    let dir = exe
        .parent()
        .context("the test executable has no directory")?;
    Ok(if dir.file_name() == Some(OsStr::new("deps")) {
        dir.parent().context("deps has no parent")?.to_path_buf()
    } else {
        dir.to_path_buf()
    })
}

/// The `still` binary: `STILL_BIN`, or the one of this build, brought up to date once.
///
/// # Errors
/// If it cannot be built.
pub fn still() -> Result<&'static Path> {
    static STILL: OnceLock<std::result::Result<PathBuf, String>> = OnceLock::new();
    match STILL.get_or_init(|| find_still().map_err(|e| format!("{e:#}"))) {
        Ok(path) => Ok(path),
        Err(why) => bail!("no `still` to test: {why}"),
    }
}

fn find_still() -> Result<PathBuf> {
    if let Some(path) = std::env::var_os("STILL_BIN") {
        return Ok(PathBuf::from(path));
    }
    let profile = profile_directory()?;
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.args(["build", "--quiet", "-p", "stillframe", "--bin", "still"]);
    cargo.current_dir(Path::new(env!("CARGO_MANIFEST_DIR")));
    if let Some(target) = profile.parent() {
        cargo.arg("--target-dir").arg(target);
    }
    if profile.file_name() == Some(OsStr::new("release")) {
        cargo.arg("--release");
    }
    let out = cargo.output().context("running cargo")?;
    ensure!(
        out.status.success(),
        "cargo build -p stillframe failed: {}",
        String::from_utf8_lossy(&out.stderr)
            .lines()
            .take(3)
            .collect::<Vec<_>>()
            .join(" / ")
    );
    let path = profile.join("still");
    ensure!(path.exists(), "{} was not built", path.display());
    Ok(path)
}

/// A directory of the build for programs that scenarios fetch.
///
/// # Errors
/// If it cannot be made.
pub fn tools() -> Result<PathBuf> {
    let dir = profile_directory()?.join("e2e-tools");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    Ok(dir)
}

/// Compiles `targets/NAME` (with its extension) unless that has been done before, and returns the
/// executable. The name of the executable carries a hash of the sources, so a change is seen.
///
/// # Errors
/// [`NoCompiler`] if the compiler is missing; else what the compiler said.
pub fn target(name: &str) -> Result<PathBuf> {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME
        .lock()
        .unwrap_or_else(std::sync::PoisonError::into_inner);
    let source = sources().join(name);
    let (stem, kind) = name
        .rsplit_once('.')
        .context("a target needs an extension")?;
    // Debug targets are what GDB is asked about: not optimised, as users debug them.
    let level = if stem.starts_with("debug_") {
        "-O0"
    } else {
        "-O2"
    };
    let mut compiler = match kind {
        "c" => {
            let mut c = Command::new("cc");
            c.args([level, "-g", "-pthread", "-I"]);
            c.arg(workspace().join("include"));
            c
        }
        "cpp" => {
            let mut c = Command::new("c++");
            c.args([level, "-g", "-pthread"]);
            c
        }
        "rs" => {
            let mut c = Command::new("rustc");
            c.args(["--edition", "2024", "-g"]);
            if level == "-O2" {
                c.arg("-O");
            }
            c
        }
        _ => bail!("{name}: no compiler is known for .{kind}"),
    };
    let mut text = std::fs::read(&source).with_context(|| source.display().to_string())?;
    for header in ["common.h", "planted.h"] {
        text.extend(std::fs::read(sources().join(header)).unwrap_or_default());
    }
    text.extend(format!("{compiler:?}").bytes());
    let points = workspace().join("crates/points/src");
    for file in [
        workspace().join("include/stillframe/points.h"),
        points.join("lib.rs"),
        points.join("ask.rs"),
    ] {
        text.extend(std::fs::read(file).unwrap_or_default());
    }
    let hash = xxhash_rust::xxh3::xxh3_64(&text);
    let dir = profile_directory()?.join("e2e-targets");
    std::fs::create_dir_all(&dir).with_context(|| dir.display().to_string())?;
    let exe = dir.join(format!("{stem}-{hash:016x}"));
    if exe.exists() {
        return Ok(exe);
    }
    let partial = dir.join(format!("{stem}-{hash:016x}.{}", std::process::id()));
    let library = tempfile::tempdir()?;
    if kind == "rs" && text.windows(17).any(|w| w == b"stillframe_points") {
        // As a program outside of this workspace would have it: a library of its own.
        let mut c = Command::new("rustc");
        c.args(["--edition", "2024", "-O", "--crate-type", "rlib"]);
        c.args(["--crate-name", "stillframe_points", "--out-dir"]);
        c.arg(library.path()).arg(points.join("lib.rs"));
        match c.status() {
            Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
                return Err(NoCompiler("rustc".to_owned()).into());
            }
            status => ensure!(status?.success(), "stillframe_points does not compile"),
        }
        let rlib = library.path().join("libstillframe_points.rlib");
        compiler.arg("--extern");
        compiler.arg(format!("stillframe_points={}", rlib.display()));
    }
    let out = match compiler.arg(&source).arg("-o").arg(&partial).output() {
        Err(e) if e.kind() == std::io::ErrorKind::NotFound => {
            return Err(NoCompiler(compiler.get_program().to_string_lossy().into_owned()).into());
        }
        other => other.context("running the compiler")?,
    };
    ensure!(
        out.status.success(),
        "{name}: {}",
        String::from_utf8_lossy(&out.stderr)
    );
    std::fs::rename(&partial, &exe)?;
    Ok(exe)
}

/// A script among the targets, which needs no compiler.
pub fn script(name: &str) -> PathBuf {
    sources().join(name)
}

/// A compiler that is not installed. The runner turns it into a skip.
#[derive(Debug)]
pub struct NoCompiler(String);

impl std::fmt::Display for NoCompiler {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "no {} on this machine", self.0)
    }
}

impl std::error::Error for NoCompiler {}

/// Where a program is, looking at PATH and the system's directories.
pub fn program(name: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH").unwrap_or_default();
    std::env::split_paths(&path)
        .chain(["/usr/bin", "/usr/sbin", "/bin", "/sbin"].map(PathBuf::from))
        .map(|dir| dir.join(name))
        .find(|p| p.is_file())
}

/// A program, file or directory that `programs.sh` made.
pub fn made(name: &str) -> Option<PathBuf> {
    let dir = std::env::var_os("STILL_E2E_PROGRAMS")
        .map_or_else(|| workspace().join("target/e2e-programs"), PathBuf::from);
    Some(dir.join(name)).filter(|p| p.exists())
}

/// How to have what [`made`] looks for.
pub const HOW_MADE: &str = "run crates/e2e/programs.sh, or set STILL_E2E_PROGRAMS";

/// A directory that is removed when dropped. Under /tmp, open to all, so that a scenario can hand
/// parts of it to another user.
///
/// # Errors
/// If it cannot be made.
pub fn scratch() -> Result<tempfile::TempDir> {
    use std::os::unix::fs::PermissionsExt as _;
    Ok(tempfile::Builder::new()
        .prefix("stillframe-e2e-")
        .permissions(std::fs::Permissions::from_mode(0o755))
        .tempdir()?)
}

/// A TCP port on loopback that was free a moment ago.
///
/// # Errors
/// If none can be had.
pub fn free_port() -> Result<u16> {
    Ok(std::net::TcpListener::bind(("127.0.0.1", 0))?
        .local_addr()?
        .port())
}

/// Whether we are root.
pub fn is_root() -> bool {
    rustix::process::geteuid().is_root()
}
