//! A pure Python workload.

use super::served::Served;
use crate::process::program;
use anyhow::{Context as _, Result};
use std::path::{Path, PathBuf};
use std::process::Command;

/// The program: dictionaries, lists and strings, with the protocol of [`crate::targets`].
const SCRIPT: &str = include_str!("workload.py");

/// The interpreter itself, not a wrapper script that would be recorded in its place.
fn interpreter() -> Option<PathBuf> {
    let system = PathBuf::from("/usr/bin/python3");
    if system.is_file() {
        return Some(system);
    }
    let out = Command::new(program("python3")?)
        .args(["-c", "import sys; print(sys.executable)"])
        .output()
        .ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim())).filter(|p| p.is_file())
}

/// Why it cannot run here.
pub fn missing() -> Option<String> {
    interpreter()
        .is_none()
        .then(|| "python3 is not installed".to_owned())
}

/// Starts it.
///
/// # Errors
/// If it does not come up.
pub fn start(dir: &Path) -> Result<Served> {
    let mut command = Command::new(interpreter().context("python3 is not installed")?);
    command.args(["-u", "-c", SCRIPT]);
    Served::start(command, "python", dir)
}
