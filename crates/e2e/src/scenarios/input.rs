//! Bad input: one line on stderr and the documented exit code, each.

use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use std::ffi::OsString;
use std::os::unix::fs::PermissionsExt as _;
use std::path::{Path, PathBuf};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "input::usage",
        about: "a wrong command line is code 2",
        run: usage,
    },
    Scenario {
        name: "input::unknown_pid",
        about: "an unknown PID is code 3",
        run: unknown_pid,
    },
    Scenario {
        name: "input::kernel_thread",
        about: "a kernel thread is code 3",
        run: kernel_thread,
    },
    Scenario {
        name: "input::already_traced",
        about: "a process that is traced already is code 3, and says by whom",
        run: already_traced,
    },
    Scenario {
        name: "input::foreign",
        about: "a 32-bit or foreign program is code 3",
        run: foreign,
    },
    Scenario {
        name: "input::missing_program",
        about: "a missing program is code 3",
        run: missing,
    },
    Scenario {
        name: "input::output_exists",
        about: "an existing output is code 6, unless --force",
        run: output_exists,
    },
    Scenario {
        name: "input::no_such_moment",
        about: "a moment that does not exist is code 4, and says which do",
        run: no_such_moment,
    },
    Scenario {
        name: "input::doctor",
        about: "doctor prints JSON and is code 0",
        run: doctor,
    },
];

fn usage(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let cases: &[&[&str]] = &[
        &["record", "--hz", "0", "--", "true"],
        &["record", "--hz", "-5", "--", "true"],
        &["record", "--hz", "many", "--", "true"],
        &["record", "--hz", "nan", "--", "true"],
        &["record", "--for", "soon", "--", "true"],
        &["record", "--count", "0", "--", "true"],
        &["record", "--hzz", "5", "--", "true"],
        &["record"],
        &["attach", "abc"],
        &["attach", "-1"],
        &["attach"],
        &["show"],
        &["export", "x.still@0"],
        &["nonsense"],
    ];
    for case in cases {
        still::refused(dir.path(), case, 2)?;
    }
    let (status, out, _) = still::run(dir.path(), &["--help"])?;
    ensure!(
        status.success() && out.contains("Exit codes"),
        "--help: {status}"
    );
    passed(format!("cases {}", cases.len()))
}

fn attach_refused(dir: &Path, pid: u32) -> Result<String> {
    let out = dir.join("refused.still");
    let line = still::refused(
        dir,
        &[
            "attach".into(),
            "--count".into(),
            "1".into(),
            "-o".into(),
            out.clone().into(),
            OsString::from(pid.to_string()),
        ],
        3,
    )?;
    ensure!(!out.exists(), "a refused target left {}", out.display());
    Ok(line)
}

fn unknown_pid(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    // The highest PIDs are given out last.
    let pid = (4_000_000..4_194_304)
        .rev()
        .find(|p| !Path::new(&format!("/proc/{p}")).exists())
        .context("all PIDs are taken")?;
    let line = attach_refused(dir.path(), pid)?;
    ensure!(
        line.contains(&pid.to_string()),
        "the line does not name the PID: {line}"
    );
    // A zombie is no process either.
    let mut child = std::process::Command::new("true").spawn()?;
    process::wait_for("it is a zombie", || {
        process::state_of(child.id()) == Some('Z')
    })?;
    let line = attach_refused(dir.path(), child.id());
    child.wait()?;
    line?;
    passed("")
}

fn kernel_thread(_: &Length) -> Result<Outcome> {
    const PF_KTHREAD: u64 = 0x0020_0000;
    let dir = place::scratch()?;
    for entry in std::fs::read_dir("/proc")? {
        let Ok(pid) = entry?.file_name().to_string_lossy().parse::<u32>() else {
            continue;
        };
        let Ok(stat) = std::fs::read_to_string(format!("/proc/{pid}/stat")) else {
            continue;
        };
        let flags = stat
            .rsplit_once(')')
            .and_then(|(_, rest)| rest.split_whitespace().nth(6)?.parse::<u64>().ok());
        if flags.is_some_and(|f| f & PF_KTHREAD != 0) {
            let line = attach_refused(dir.path(), pid)?;
            ensure!(
                line.contains("kernel"),
                "does not say that it is a kernel thread: {line}"
            );
            return passed("");
        }
    }
    skip("no kernel thread is visible here (a container?)")
}

fn already_traced(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("quiet.c")?;
    let mut target = Running::start(&mut command(exe, &["--seconds", "1000"]), dir.path())?;
    let pid = target.ready()?;
    let first = dir.path().join("first.still");
    let mut tracer = still::attach(dir.path(), &["--hz", "10"], &first, pid)?;
    process::wait_for("the first recorder attaches or ends", || {
        process::status_value(pid, "TracerPid").is_ok_and(|t| t != "0")
            || tracer.ended().is_ok_and(|e| e.is_some())
    })?;
    ensure!(
        tracer.ended()?.is_none(),
        "the first recorder ended: {}",
        tracer.stderr()
    );
    let by = process::status_value(pid, "TracerPid")?;
    let line = attach_refused(dir.path(), pid)?;
    ensure!(
        line.contains(&by),
        "does not say by whom (PID {by}): {line}"
    );
    ensure!(
        tracer.ended()?.is_none(),
        "the first recorder was disturbed: {}",
        tracer.stderr()
    );
    tracer.signal(rustix::process::Signal::INT)?;
    still::ended_with(&mut tracer, 0, PATIENCE)?;
    process::left_alone(pid)?;
    target.finish()?;
    passed("")
}

/// A static 32-bit x86 program that waits for ever: `mov $29, %eax; int $0x80; jmp`.
fn tiny_i386() -> Vec<u8> {
    let code: [u8; 9] = [0xb8, 29, 0, 0, 0, 0xcd, 0x80, 0xeb, 0xf7];
    let (base, headers) = (0x0804_8000u32, 52 + 32u32);
    let mut file = vec![0x7f, b'E', b'L', b'F', 1, 1, 1, 0, 0, 0, 0, 0, 0, 0, 0, 0];
    let half = |file: &mut Vec<u8>, v: u16| file.extend(v.to_le_bytes());
    let word = |file: &mut Vec<u8>, v: u32| file.extend(v.to_le_bytes());
    half(&mut file, 2);
    half(&mut file, 3); // EM_386
    for v in [1, base + headers, 52, 0, 0] {
        word(&mut file, v);
    }
    for v in [52, 32, 1, 0, 0, 0] {
        half(&mut file, v);
    }
    let size = headers + code.len() as u32;
    for v in [1, 0, base, base, size, size, 5, 0x1000] {
        word(&mut file, v);
    }
    file.extend(code);
    file
}

fn executable(dir: &Path, name: &str, bytes: &[u8]) -> Result<PathBuf> {
    let path = dir.join(name);
    std::fs::write(&path, bytes)?;
    std::fs::set_permissions(&path, std::fs::Permissions::from_mode(0o755))?;
    Ok(path)
}

fn record_refused(dir: &Path, program: &Path) -> Result<String> {
    let out = still::fresh(dir, "refused.still");
    let line = still::refused(
        dir,
        &[
            "record".into(),
            "-o".into(),
            out.clone().into(),
            "--".into(),
            OsString::from(program),
        ],
        3,
    )?;
    ensure!(!out.exists(), "a refused program left {}", out.display());
    Ok(line)
}

fn foreign(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let mut arm = tiny_i386();
    arm[4] = 2;
    arm[18] = 183; // EM_AARCH64
    record_refused(dir.path(), &executable(dir.path(), "arm", &arm)?)
        .context("an AArch64 program")?;
    record_refused(
        dir.path(),
        &executable(dir.path(), "text", b"\x01\x02\x03")?,
    )
    .context("a file that is no program")?;
    let small = executable(dir.path(), "i386", &tiny_i386())?;
    match Running::start(&mut command::<&str>(&small, &[]), dir.path()) {
        Ok(mut running) => {
            std::thread::sleep(std::time::Duration::from_millis(50));
            if running.ended()?.is_some() {
                return skip("this kernel runs no 32-bit programs");
            }
            let line = attach_refused(dir.path(), running.pid()).context("a 32-bit process")?;
            ensure!(
                line.contains("x86-64"),
                "does not say what can be recorded: {line}"
            );
            ensure!(running.ended()?.is_none(), "the 32-bit process was harmed");
            process::left_alone(running.pid())?;
            record_refused(dir.path(), &small).context("a 32-bit program")?;
            passed("")
        }
        Err(_) => {
            record_refused(dir.path(), &small).context("a 32-bit program")?;
            skip("this kernel runs no 32-bit programs (starting one was refused as it should be)")
        }
    }
}

fn missing(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let line = record_refused(dir.path(), Path::new("/nonexistent/program"))?;
    ensure!(
        line.contains("/nonexistent/program"),
        "does not name the program: {line}"
    );
    record_refused(dir.path(), Path::new("no-such-program-in-path"))?;
    record_refused(dir.path(), dir.path()).context("a directory")?;
    let plain = dir.path().join("plain");
    std::fs::write(&plain, b"#!/bin/sh\n")?;
    record_refused(dir.path(), &plain).context("a file that is not executable")?;
    passed("")
}

fn output_exists(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let d = dir.path();
    let exe = place::target("quiet.c")?;
    let out = d.join("run.still");
    let cmd = [exe.into_os_string(), "--seconds".into(), "0.2".into()];
    still::ended_with(
        &mut still::record(d, &["--hz", "50"], &out, &cmd)?,
        0,
        PATIENCE,
    )?;
    still::verify(d, &out)?;
    let mut again = still::record(d, &["--hz", "50"], &out, &cmd)?;
    still::ended_with(&mut again, 6, PATIENCE)?;
    ensure!(
        !again.stdout().contains("ready"),
        "the program was started before the refusal"
    );
    ensure!(
        again.stderr().lines().count() == 1,
        "not one line: {}",
        again.stderr()
    );
    still::verify(d, &out).context("the refused recorder touched the recording")?;
    still::ended_with(
        &mut still::record(d, &["--hz", "50", "--force"], &out, &cmd)?,
        0,
        PATIENCE,
    )?;
    still::verify(d, &out)?;
    // --force replaces recordings, not whatever is there.
    let precious = d.join("precious");
    std::fs::create_dir(&precious)?;
    std::fs::write(precious.join("letter"), b"dear")?;
    let mut forced = still::record(d, &["--force"], &precious, &cmd)?;
    still::ended_with(&mut forced, 6, PATIENCE)?;
    ensure!(
        precious.join("letter").exists(),
        "--force removed what is no recording"
    );
    let at = still::moment(&out, "0");
    let core = d.join("x.core");
    let export: Vec<OsString> = vec![
        "export".into(),
        "--core".into(),
        at,
        "-o".into(),
        core.clone().into(),
    ];
    let (status, _, err) = still::run(d, &export)?;
    ensure!(status.success(), "export: {err}");
    still::refused(d, &export, 6)?;
    passed("")
}

fn no_such_moment(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let d = dir.path();
    let exe = place::target("quiet.c")?;
    let out = d.join("run.still");
    let cmd = [exe.into_os_string(), "--seconds".into(), "0.3".into()];
    still::ended_with(
        &mut still::record(d, &["--hz", "50"], &out, &cmd)?,
        0,
        PATIENCE,
    )?;
    let last = still::open(&out)?.rows().last().map_or(0, |r| r.id.0);
    for moment in ["999999", "crash", "18446744073709551615"] {
        let line = still::refused(d, &["show".into(), still::moment(&out, moment)], 4)?;
        ensure!(
            line.contains(&last.to_string()),
            "@{moment}: does not say which moments there are (the last is {last}): {line}"
        );
    }
    for moment in ["", "yesterday", "-", "1.2.3s", "99999999999999999999999"] {
        let (status, _, err) =
            still::run(d, &[OsString::from("show"), still::moment(&out, moment)])?;
        ensure!(
            matches!(status.code(), Some(2 | 4)) && err.lines().count() == 1,
            "@{moment}: {status}: {err}"
        );
    }
    for moment in ["0", "first", "last", "0s", "-0.1s", "exit"] {
        let args = ["show".into(), "--json".into(), still::moment(&out, moment)];
        let (status, text, err) = still::run::<OsString>(d, &args)?;
        ensure!(status.success(), "@{moment}: {status}: {err}");
        serde_json::from_str::<serde_json::Value>(&text).with_context(|| format!("@{moment}"))?;
    }
    passed("")
}

fn doctor(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let (status, out, err) = still::run(dir.path(), &["doctor", "--json"])?;
    ensure!(
        matches!(status.code(), Some(0 | 8)),
        "doctor: {status}: {err}"
    );
    serde_json::from_str::<serde_json::Value>(&out).context("doctor --json")?;
    let (status, out, _) = still::run(dir.path(), &["doctor"])?;
    ensure!(
        matches!(status.code(), Some(0 | 8)) && !out.is_empty(),
        "doctor: {status}"
    );
    passed("")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_32_bit_program_is_a_program() {
        let dir = place::scratch().unwrap();
        let path = executable(dir.path(), "i386", &tiny_i386()).unwrap();
        if let Ok(mut running) = Running::start(&mut command::<&str>(&path, &[]), dir.path()) {
            std::thread::sleep(std::time::Duration::from_millis(50));
            assert_eq!(running.ended().unwrap(), None);
        }
    }
}
