//! The compiler pass: built on request for the clang that is there, from the source that the command
//! carries, with the headers of the same LLVM. Without it the stock instrumentation serves.

use crate::Error;
use crate::args::PassArgs;
use crate::compiler::{Compiler, Kind, Language};
use crate::embed::Files;
use std::path::{Path, PathBuf};
use std::process::Command;

/// Tells the pass what a granule is.
pub const VARIABLE: &str = "STILL_INPROC_GRANULE";

/// The pass for a compiler, if it was built.
pub fn built(files: &Files, compiler: &Compiler) -> Option<PathBuf> {
    let path = place(files, compiler);
    path.is_file().then_some(path)
}

fn place(files: &Files, compiler: &Compiler) -> PathBuf {
    files
        .root()
        .join(format!("still_pass-{}.so", compiler.version))
}

/// `still inproc pass`.
///
/// # Errors
/// If there is no clang, or no headers of its LLVM, or no C++ compiler.
pub fn run(args: &PassArgs) -> Result<u8, Error> {
    let files = Files::open()?;
    let compiler = match &args.compiler {
        Some(path) => Compiler::ask(path)?,
        None => Compiler::find(Language::C)?,
    };
    let path = build(&files, &compiler)?;
    println!("{}", path.display());
    Ok(0)
}

/// Builds it, or finds it built.
///
/// # Errors
/// As [`run`].
pub fn build(files: &Files, compiler: &Compiler) -> Result<PathBuf, Error> {
    let version = compiler.version;
    let fail = |why: String| Error::Pass { version, why };
    if compiler.kind != Kind::Clang {
        return Err(fail(format!(
            "{} is no clang; gcc has only the stock hooks",
            compiler.path.display()
        )));
    }
    if let Some(path) = built(files, compiler) {
        return Ok(path);
    }
    let config = [
        format!("llvm-config-{version}"),
        "llvm-config".into(),
        format!("/usr/lib/llvm-{version}/bin/llvm-config"),
    ]
    .into_iter()
    .find(|name| {
        Command::new(name).arg("--version").output().is_ok_and(|o| {
            String::from_utf8_lossy(&o.stdout)
                .trim()
                .starts_with(&format!("{version}."))
        })
    })
    .ok_or_else(|| {
        fail(format!(
            "no llvm-config of that version; install llvm-{version}-dev"
        ))
    })?;
    let said = Command::new(&config)
        .arg("--cxxflags")
        .output()
        .map_err(Error::io("running", &config))?;
    let flags = String::from_utf8_lossy(&said.stdout).into_owned();
    // LLVM's own flags forbid what its headers do not need, and name a standard.
    let flags = flags
        .split_whitespace()
        .filter(|f| !f.starts_with("-std=") && !f.starts_with("-W"));
    let cxx = ["g++", "clang++", "c++"]
        .into_iter()
        .find(|name| Command::new(name).arg("--version").output().is_ok())
        .ok_or_else(|| fail("no C++ compiler".into()))?;
    let target = place(files, compiler);
    let draft = tempfile::Builder::new()
        .prefix("pass")
        .suffix(".so")
        .tempfile_in(files.root())
        .map_err(Error::io("writing in", files.root()))?;
    let output = Command::new(cxx)
        .args(flags)
        .args([
            "-std=c++17",
            "-O1",
            "-fPIC",
            "-shared",
            "-fno-rtti",
            "-fno-exceptions",
            "-w",
        ])
        .arg(files.pass_source())
        .arg("-o")
        .arg(draft.path())
        .output()
        .map_err(Error::io("running", Path::new(cxx)))?;
    if !output.status.success() {
        let said = String::from_utf8_lossy(&output.stderr);
        let line = said
            .lines()
            .find(|l| l.contains("error"))
            .or_else(|| said.lines().last());
        return Err(fail(line.unwrap_or("the compiler says nothing").to_owned()));
    }
    draft.persist(&target).map_err(|e| Error::Io {
        what: "writing",
        path: target.clone(),
        error: e.error,
    })?;
    Ok(target)
}
