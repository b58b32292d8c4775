//! `cargo xtask`: the repeated actions of this project.
//!
//! Small on purpose: the scenarios live in `crates/e2e`, and this only calls cargo with the right
//! words and adds up what comes out.
#![forbid(unsafe_code)]

mod tally;

use anyhow::{Context as _, Result, bail, ensure};
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::path::{Path, PathBuf};
use std::process::{Command, ExitCode, Stdio};
use tally::Tally;

const HELP: &str = "\
cargo xtask COMMAND

  test [FILTER]                    all tests; the last line says N passed, N failed, N skipped
  run [NAME..]                     end-to-end scenarios by name, short forms
  soak [NAME..] [--checkpoints N]  full-length bit-exactness and all other scenarios (hours)
  survive [--kills N]              kill recorders with SIGKILL at random instants
  torn [--cases N]                 open damaged recordings
  support                          runs the matrix of states and writes docs/support.md from it
  cost [OPTIONS]                   `still bench capture OPTIONS`, optimised: what recording costs
  fuzz [TARGET] [--seconds N]      every fuzz target, or one, for N seconds (default 60)
";

fn main() -> ExitCode {
    match run(std::env::args_os().skip(1).collect()) {
        Ok(code) => code,
        Err(error) => {
            eprintln!("xtask: {error:#}");
            ExitCode::FAILURE
        }
    }
}

fn run(mut args: Vec<OsString>) -> Result<ExitCode> {
    if args.is_empty() {
        print!("{HELP}");
        return Ok(ExitCode::from(2));
    }
    let command = args.remove(0);
    match command.to_str() {
        Some("test") => test(&args),
        Some("run") => scenarios("run", &args, false),
        Some(long @ ("soak" | "survive" | "torn")) => scenarios(long, &args, true),
        Some("support") => support(),
        Some("cost") => cost(&args),
        Some("fuzz") => fuzz(&args),
        Some("help" | "--help" | "-h") => {
            print!("{HELP}");
            Ok(ExitCode::SUCCESS)
        }
        _ => bail!(
            "{} is no command; see cargo xtask help",
            command.to_string_lossy()
        ),
    }
}

fn root() -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR"))
        .parent()
        .unwrap_or(Path::new("."))
        .to_path_buf()
}

fn cargo() -> Command {
    let mut cargo = Command::new(std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into()));
    cargo.current_dir(root());
    cargo
}

/// Runs all tests, shows them as they come, and adds up.
fn test(filter: &[OsString]) -> Result<ExitCode> {
    let mut cargo = cargo();
    cargo
        .args(["test", "--workspace", "--no-fail-fast"])
        .args(filter);
    let mut child = cargo
        .stdout(Stdio::piped())
        .spawn()
        .context("running cargo")?;
    let output = child.stdout.take().context("cargo has no output")?;
    let mut tally = Tally::default();
    let mut out = std::io::stdout();
    for line in BufReader::new(output).split(b'\n') {
        let line = line?;
        let line = String::from_utf8_lossy(&line);
        writeln!(out, "{line}")?;
        tally.read(&line);
    }
    let status = child.wait()?;
    if !status.success() && tally.failed == 0 {
        // Something did not compile, or a test binary died before it could report.
        println!("cargo test ended with {status} although no test reported a failure");
        tally.failed = 1;
    }
    println!("{tally}");
    Ok(if tally.failed == 0 {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Hands over to the scenarios' own program, optimised where length or figures matter.
fn scenarios(command: &str, args: &[OsString], release: bool) -> Result<ExitCode> {
    let mut cargo = cargo();
    cargo.args([
        "run",
        "--quiet",
        "-p",
        "stillframe-e2e",
        "--bin",
        "still-e2e",
    ]);
    if release {
        cargo.arg("--release");
    }
    let status = cargo
        .arg("--")
        .arg(command)
        .args(args)
        .status()
        .context("running cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs the matrix of states, which writes its table.
fn support() -> Result<ExitCode> {
    let status = cargo()
        .args([
            "run",
            "--quiet",
            "-p",
            "stillframe-e2e",
            "--bin",
            "still-e2e",
        ])
        .args(["--", "run", "state::matrix"])
        .env("STILL_WRITE_SUPPORT", "1")
        .status()
        .context("running cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Hands over to the bench of an optimised `still`.
fn cost(args: &[OsString]) -> Result<ExitCode> {
    let status = cargo()
        .args([
            "run",
            "--quiet",
            "--release",
            "-p",
            "stillframe",
            "--bin",
            "still",
        ])
        .args(["--", "bench", "capture"])
        .args(args)
        .status()
        .context("running cargo")?;
    Ok(if status.success() {
        ExitCode::SUCCESS
    } else {
        ExitCode::FAILURE
    })
}

/// Runs cargo-fuzz on the targets in fuzz/fuzz_targets, one after the other.
fn fuzz(args: &[OsString]) -> Result<ExitCode> {
    let mut seconds = "60".to_owned();
    let mut only = None;
    let mut args = args.iter();
    while let Some(arg) = args.next() {
        if arg == "--seconds" {
            let value = args.next().context("--seconds needs a number")?;
            seconds = value.to_string_lossy().into_owned();
            ensure!(
                seconds.parse::<u32>().is_ok(),
                "{seconds} is no number of seconds"
            );
        } else {
            only = Some(arg.to_string_lossy().into_owned());
        }
    }
    let dir = root().join("fuzz/fuzz_targets");
    let mut names: Vec<String> = std::fs::read_dir(&dir)
        .with_context(|| format!("no fuzz targets in {}", dir.display()))?
        .filter_map(|e| {
            e.ok()?
                .file_name()
                .to_str()?
                .strip_suffix(".rs")
                .map(str::to_owned)
        })
        .filter(|name| only.as_ref().is_none_or(|o| o == name))
        .collect();
    names.sort();
    ensure!(!names.is_empty(), "no such fuzz target");
    let installed = cargo()
        .args(["fuzz", "--version"])
        .output()?
        .status
        .success();
    ensure!(installed, "cargo-fuzz is missing: cargo install cargo-fuzz");
    for name in &names {
        println!("fuzzing {name} for {seconds} s");
        let status = cargo()
            // Sanitizers are unstable options; this allows them on the stable compiler.
            .env("RUSTC_BOOTSTRAP", "1")
            .args(["fuzz", "run", name, "--"])
            .args([
                &format!("-max_total_time={seconds}"),
                "-rss_limit_mb=2048",
                "-timeout=10",
            ])
            .status()?;
        ensure!(
            status.success(),
            "{name} found something: see fuzz/artifacts/{name}"
        );
    }
    println!(
        "{} fuzz targets found nothing in {seconds} s each",
        names.len()
    );
    Ok(ExitCode::SUCCESS)
}
