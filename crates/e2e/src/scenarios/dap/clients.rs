//! Clients that others wrote.

use super::Subject;
use crate::process::{self, Running, command, wait_for};
use crate::{Length, Outcome, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::path::PathBuf;
use std::time::Duration;

/// The client library that adapters for Visual Studio Code are tested with, by its authors (MIT).
const LIBRARY: &str = "@vscode/debugadapter-testsupport";
/// Its version.
const VERSION: &str = "1.68.0";

/// Where the library is, fetched by npm once for a build directory; the inner error says why it is
/// not here.
fn fetched() -> Result<Result<PathBuf, String>> {
    let Some(npm) = place::program("npm") else {
        return Ok(Err("no npm on this machine".to_owned()));
    };
    let dir = place::tools()?.join(format!("dap-client-{VERSION}"));
    let modules = dir.join("node_modules");
    if modules.join(LIBRARY).join("package.json").exists() {
        return Ok(Ok(modules));
    }
    std::fs::create_dir_all(&dir)?;
    let mut install = command(
        npm,
        &[
            "install",
            "--silent",
            "--no-audit",
            "--no-fund",
            "--ignore-scripts",
            "--prefix",
        ],
    );
    install.arg(&dir).arg(format!("{LIBRARY}@{VERSION}"));
    let scratch = place::scratch()?;
    let mut running = Running::start(&mut install, scratch.path())?;
    let status = running.wait(Duration::from_secs(60));
    Ok(match status {
        Ok(status) if status.success() => Ok(modules),
        _ => Err(format!(
            "npm could not fetch {LIBRARY}: {}",
            still::tail(&running.stderr())
        )),
    })
}

/// Drives the adapter with the library.
pub fn library(_: &Length) -> Result<Outcome> {
    let Some(node) = place::program("node") else {
        return skip("no node on this machine");
    };
    let modules = match fetched()? {
        Ok(modules) => modules,
        Err(why) => return skip(why),
    };
    let subject = Subject::new()?;
    let script = |port: Option<u16>| -> Result<String> {
        let mut c = command(&node, &[place::script("dap_client.js")]);
        c.env("NODE_PATH", &modules);
        c.arg(place::still()?).arg(&subject.recording);
        c.arg(subject.facts.to_string());
        c.args(port.map(|p| p.to_string()));
        let (status, out, err) = process::run(&mut c, subject.dir.path())?;
        ensure!(status.success(), "{} {}", still::tail(&out), err.trim());
        let said = out.lines().find_map(|l| l.strip_prefix("ok "));
        Ok(said
            .with_context(|| format!("it did not say ok: {out}"))?
            .to_owned())
    };
    let stdio = script(None)?;
    let mut server = Running::start(
        &mut still::still(&["debug", "--dap", "--listen", "127.0.0.1:0"])?,
        subject.dir.path(),
    )?;
    let mut port = None;
    wait_for("the server listens", || {
        let text = server.stdout();
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix("listening on 127.0.0.1:"));
        port = line.and_then(|p| p.trim().parse().ok());
        port.is_some()
    })?;
    // Twice: one session after the other.
    let first = script(port)?;
    let second = script(port)?;
    ensure!(
        stdio == first && first == second,
        "{stdio}, {first} and {second} checks"
    );
    server.signal(rustix::process::Signal::INT)?;
    let status = server.wait(Duration::from_secs(10))?;
    ensure!(status.success(), "the server ended with {status}");
    passed(format!("checks {stdio}, by stdio once and by TCP twice"))
}
