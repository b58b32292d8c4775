//! With GDB.

use super::{Moves, debug, in_order, listen as serve};
use crate::process::{self, PATIENCE, Running, command};
use crate::{Length, Outcome, passed, place, skip, still};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use std::ffi::OsString;
use std::path::Path;

/// No GDB: the scenario does not run.
pub(super) const NO_GDB: &str = "no gdb on this machine";

pub(super) fn args(first: OsString, commands: &[&str]) -> Vec<OsString> {
    let mut all: Vec<OsString> = vec![first, "--batch".into()];
    for text in commands {
        all.extend(["--command".into(), (*text).into()]);
    }
    // The user's own set-up is not tested.
    all.extend(["--".into(), "-nx".into()]);
    all
}

/// The number after the last ` = ` of the first line after a mark.
pub(super) fn value_after(text: &str, mark: &str) -> Result<i64> {
    let line = format!("\n{text}")
        .split(&format!("\n{mark}\n"))
        .nth(1)
        .and_then(|rest| rest.lines().find(|l| l.contains(" = ")).map(str::to_owned))
        .with_context(|| format!("nothing after {mark} in: {text}"))?;
    let number = line.rsplit(" = ").next().unwrap_or_default();
    number.trim().parse().with_context(|| line.clone())
}

/// What a session does, and what it must show.
pub fn session(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let moves = Moves::record()?;
    let balances = moves.balances()?;
    let last = balances.last().context("an empty recording")?.0;
    // Not at the end, where the threads have gone.
    let start = last * 3 / 4;
    // Where the value changed, the last first: (before, at, old, new).
    let mut changes: Vec<(u64, u64, i64, i64)> = balances
        .windows(2)
        .filter(|w| w[1].0 <= start)
        .filter_map(|w| match (w[0], w[1]) {
            ((a, Some(x)), (b, Some(y))) if x != y => Some((a, b, x, y)),
            _ => None,
        })
        .collect();
    changes.reverse();
    ensure!(changes.len() >= 4, "too few changes: {balances:?}");
    let (out, err) = debug(
        moves.dir.path(),
        &args(
            moves.at(&start.to_string()),
            &[
                "echo \\nAT\\n",
                "print $checkpoint",
                "info threads",
                "echo \\nWATCH\\n",
                "watch account.balance",
                "reverse-continue",
                "echo \\nBACK1\\n",
                "print $checkpoint",
                "reverse-continue",
                "echo \\nBACK2\\n",
                "print $checkpoint",
                "continue",
                "echo \\nFORTH\\n",
                "print $checkpoint",
                "print account.balance",
                "delete",
                "thread find clerk",
                "thread 2",
                "bt",
                "echo \\nOWN\\n",
                "print own",
                "monitor goto 20",
                "echo \\nGONE20\\n",
                "print $checkpoint",
                "echo \\nVALUE20\\n",
                "print account.balance",
                "monitor bookmark here.20",
                "goto -5",
                "echo \\nGONE15\\n",
                "print $checkpoint",
                "stepi",
                "echo \\nSTEP\\n",
                "print $checkpoint",
                "reverse-stepi",
                "echo \\nSTEPBACK\\n",
                "print $checkpoint",
                "goto here.20",
                "echo \\nAGAIN20\\n",
                "print $checkpoint",
                "continue",
                "echo \\nEND\\n",
                "print $checkpoint",
                "reverse-continue",
                "echo \\nBEGIN\\n",
                "print $checkpoint",
                "monitor where",
                "goto last",
                "echo \\nREFUSED\\n",
                "set var account.balance = 1",
                "print settle(&account, 1)",
                "info proc mappings",
                "quit",
            ],
        ),
    )?;
    let both = format!("{out}\n-- stderr:\n{err}");
    let (first, second) = (changes[0], changes[1]);
    in_order(
        &out,
        &[
            "AT",
            "clerk <1>",
            "porter",
            "WATCH",
            &format!("Old value = {}", first.3),
            &format!("New value = {}", first.2),
            "BACK1",
            &format!("Old value = {}", second.3),
            &format!("New value = {}", second.2),
            "BACK2",
            &format!("Old value = {}", second.2),
            &format!("New value = {}", second.3),
            "FORTH",
            "work (p=",
            "OWN",
            "No more reverse-execution history",
            "END",
            "No more reverse-execution history",
            "BEGIN",
            "REFUSED",
            "debug_moves",
        ],
    )
    .with_context(|| both.clone())?;
    // GDB writes to stderr what monitor commands say.
    in_order(
        &err,
        &[
            "checkpoint 20 at",
            "checkpoint 20 is called here.20",
            "checkpoint 0 at",
            "Writing to memory is not allowed",
            "Cannot call functions",
        ],
    )
    .with_context(|| both.clone())?;
    let at20 = balances.iter().find(|b| b.0 == 20).and_then(|b| b.1);
    for (mark, wanted) in [
        ("AT", start),
        ("BACK1", first.0),
        ("BACK2", second.0),
        ("FORTH", second.1),
        ("GONE20", 20),
        ("AGAIN20", 20),
        ("GONE15", 15),
        ("STEP", 16),
        ("STEPBACK", 15),
        ("END", last),
        ("BEGIN", 0),
    ] {
        let found = value_after(&out, mark)?;
        ensure!(
            found == wanted as i64,
            "checkpoint {found} instead of {wanted} after {mark}: {both}"
        );
    }
    ensure!(
        Some(value_after(&out, "VALUE20")?) == at20,
        "{at20:?}: {both}"
    );
    let tagged = still::open(&moves.recording)?;
    ensure!(
        tagged.tags().get("here.20").is_some_and(|id| id.0 == 20),
        "the bookmark is not in the recording"
    );
    let own = value_after(&out, "OWN")?;
    ensure!(own == 11 || own == 22, "thread-local {own}: {both}");
    passed(format!(
        "checkpoints {}, changes {}",
        balances.len(),
        changes.len()
    ))
}

/// A GDB that knows nothing of us but where to connect.
fn plain(dir: &Path, target: &str, commands: &[&str]) -> Result<(String, String)> {
    let gdb = place::program("gdb").context("gdb has gone")?;
    let mut c = command(gdb, &["-nx", "-batch"]);
    c.args(["-iex", "set debuginfod enabled off"]);
    c.args(["-ex", &format!("target remote {target}")]);
    for text in commands {
        c.args(["-ex", text]);
    }
    let (status, out, err) = process::run(&mut c, dir)?;
    ensure!(status.success(), "{target}: {status}: {out} {err}");
    Ok((out, err))
}

pub fn listen(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let moves = Moves::record()?;
    let dir = moves.dir.path();
    let middle = moves.balances()?.len() / 2;
    let at = moves.at(&middle.to_string());
    let mut clients = 0;
    for address in [
        "127.0.0.1:0".to_owned(),
        format!("unix:{}/server", dir.display()),
    ] {
        let (mut server, shown) = serve(dir, std::slice::from_ref(&at), &address)?;
        let target = shown.strip_prefix("unix:").unwrap_or(&shown);
        for _ in 0..3 {
            clients += 1;
            // Moving is no matter of the next client.
            let (out, err) = plain(
                dir,
                target,
                &[
                    "print $checkpoint",
                    "bt",
                    "info sharedlibrary",
                    "stepi",
                    "print $checkpoint",
                    &format!("monitor goto {}", middle + 20),
                    "stepi",
                    "print $checkpoint",
                    "set var quiet = 8",
                    "print quiet",
                ],
            )?;
            in_order(
                &out,
                &[
                    &format!("$1 = {middle}"),
                    "main",
                    "libc.so.6",
                    &format!("$2 = {}", middle + 1),
                    &format!("$3 = {}", middle + 20),
                    "$4 = 7",
                ],
            )
            .with_context(|| err.clone())?;
            in_order(
                &err,
                &[
                    &format!("checkpoint {} at", middle + 20),
                    "Cannot access memory",
                ],
            )?;
        }
        // One that is killed in the middle of things, and one that says nothing.
        let gdb = place::program("gdb").context("gdb has gone")?;
        let mut c = command(gdb, &["-nx", "-batch"]);
        c.args([
            "-ex",
            &format!("target remote {target}"),
            "-ex",
            "shell sleep 60",
        ]);
        let killed = Running::start(&mut c, dir)?;
        std::thread::sleep(std::time::Duration::from_millis(700));
        drop(killed);
        let (out, _) = plain(dir, target, &["print $checkpoint"])?;
        ensure!(out.contains(&format!("$1 = {middle}")), "{out}");
        server.signal(Signal::INT)?;
        still::ended_with(&mut server, 0, PATIENCE)?;
    }
    ensure!(!dir.join("server").exists(), "the socket is left behind");
    let piped = format!(
        "| {} debug {} --stdio",
        place::still()?.display(),
        at.clone().to_string_lossy()
    );
    let (out, _) = plain(dir, &piped, &["print $checkpoint", "bt"])?;
    in_order(&out, &[&format!("$1 = {middle}"), "main"])?;
    for (address, code) in [("0.0.0.0:0", 2), ("7777", 2)] {
        let refusal: [OsString; 4] = [
            "debug".into(),
            at.clone(),
            "--listen".into(),
            address.into(),
        ];
        let line = still::refused(dir, &refusal, code)?;
        ensure!(
            line.contains("127.0.0.1"),
            "the refusal does not say what to do: {line}"
        );
    }
    passed(format!("clients {}", clients + 3))
}

pub fn crash(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let dir = place::scratch()?;
    let exe = place::target("crash.c")?;
    let out = still::fresh(dir.path(), "run.still");
    let mut recorder = still::record(dir.path(), &["--hz", "50"], &out, &[exe.into()])?;
    still::ended_with(&mut recorder, 139, PATIENCE)?;
    let expected = [
        "received signal SIGSEGV",
        "fall (depth=",
        "si_signo = 11",
        "entry=5",
        "run (p=",
        "6674804269631253278",
        "2125299373",
    ];
    // From before it, and at it.
    for (moment, first) in [("0", "continue"), ("crash", "info program")] {
        let (said, err) = debug(
            dir.path(),
            &args(
                still::moment(&out, moment),
                &[
                    first,
                    "print $_siginfo",
                    "bt",
                    "print last_words",
                    "print thread_words",
                ],
            ),
        )?;
        let parts = if moment == "0" {
            &expected[..]
        } else {
            &expected[2..]
        };
        in_order(&said, parts).with_context(|| err.clone())?;
        ensure!(said.contains("SIGSEGV"), "{said} {err}");
    }
    passed("")
}

pub fn registers(_: &Length) -> Result<Outcome> {
    let Some(gdb) = place::program("gdb") else {
        return skip(NO_GDB);
    };
    let mut compared = 0;
    for name in ["debug_c.c", "vector.c"] {
        let dir = place::scratch()?;
        let exe = place::target(name)?;
        let mut target = Running::start(&mut command::<&str>(&exe, &[]), dir.path())?;
        let pid = target.ready()?;
        std::thread::sleep(std::time::Duration::from_millis(300));
        let out = still::fresh(dir.path(), "run.still");
        let mut recorder = still::attach(dir.path(), &["--count", "5", "--hz", "50"], &out, pid)?;
        still::ended_with(&mut recorder, 0, PATIENCE)?;
        process::signal(pid, Signal::KILL)?;
        target.wait(PATIENCE)?;
        let core = dir.path().join("at.core");
        let export: [OsString; 5] = [
            "export".into(),
            "--core".into(),
            still::moment(&out, "3"),
            "-o".into(),
            core.clone().into(),
        ];
        let (status, _, err) = still::run(dir.path(), &export)?;
        ensure!(status.success(), "export: {err}");
        let question = "thread apply all -ascending info all-registers";
        let mut c = command(gdb.clone(), &["-nx", "-batch", "-ex", question]);
        let (_, dead, _) = process::run(c.arg(&exe).arg(&core), dir.path())?;
        let (ours, err) = debug(dir.path(), &args(still::moment(&out, "3"), &[question]))?;
        let (dead, ours) = (by_lwp(&dead)?, by_lwp(&ours)?);
        ensure!(
            dead.len() == ours.len(),
            "threads: core {}, server {}: {err}",
            dead.len(),
            ours.len()
        );
        for ((lwp, a), (other, b)) in dead.iter().zip(&ours) {
            ensure!(lwp == other, "threads {lwp} and {other}");
            for line in a {
                ensure!(
                    b.contains(line),
                    "thread {lwp}: the core has [{line}], the server has {:?}",
                    b.iter()
                        .find(|l| l.split(' ').next() == line.split(' ').next())
                );
                compared += 1;
            }
        }
    }
    ensure!(compared > 200, "only {compared} registers were compared");
    passed(format!("registers {compared}"))
}

/// The register lines of each thread, by LWP. GDB numbers threads as it meets them.
fn by_lwp(text: &str) -> Result<Vec<(u64, Vec<String>)>> {
    let mut all: Vec<(u64, Vec<String>)> = Vec::new();
    for line in text.lines() {
        let number = |mark: &str| -> Option<u64> {
            let digits = line.split(mark).nth(1)?;
            let digits: String = digits.chars().take_while(char::is_ascii_digit).collect();
            digits.parse().ok()
        };
        if line.starts_with("Thread ") && line.contains("):") {
            // `LWP 12` in a core, `Thread 11.12` over a connection.
            let inner = line.split_once('(').map_or(line, |(_, rest)| rest);
            let lwp = number("LWP ").or_else(|| {
                let id = inner.strip_prefix("Thread ")?.split_once('.')?.1;
                let digits: String = id.chars().take_while(char::is_ascii_digit).collect();
                digits.parse().ok()
            });
            all.push((lwp.with_context(|| line.to_owned())?, Vec::new()));
        } else if let Some((_, lines)) = all.last_mut()
            && line.starts_with(|c: char| c.is_ascii_lowercase())
        {
            lines.push(line.trim_end().to_owned());
        }
    }
    if all.is_empty() {
        bail!("GDB shows no thread: {text}");
    }
    all.sort();
    Ok(all)
}

pub fn gone(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let dir = place::scratch()?;
    let exe = dir.path().join("moves");
    std::fs::copy(place::target("debug_moves.c")?, &exe)?;
    let mut recordings = Vec::new();
    for (name, options) in [
        ("with.still", &["--hz", "50"][..]),
        ("without.still", &["--hz", "50", "--no-objects"][..]),
    ] {
        let out = still::fresh(dir.path(), name);
        let cmd: Vec<OsString> = vec![exe.clone().into(), "--seconds".into(), "0.5".into()];
        let mut recorder = still::record(dir.path(), options, &out, &cmd)?;
        still::ended_with(&mut recorder, 0, PATIENCE)?;
        recordings.push(out);
    }
    let question = ["bt", "print account.name", "info sharedlibrary"];
    let ask = |i: usize, extra: &[&str]| -> Result<(String, String)> {
        let mut all = args(still::moment(&recordings[i], "5"), &question);
        for (n, word) in extra.iter().enumerate() {
            all.insert(1 + n, (*word).into());
        }
        debug(dir.path(), &all)
    };
    let shown = ["in main (", "\"first\"", "libc.so.6"];
    for i in 0..2 {
        let (out, err) = ask(i, &[])?;
        in_order(&out, &shown).with_context(|| err)?;
    }
    std::fs::remove_file(&exe)?;
    let (out, err) = ask(0, &[])?;
    in_order(&out, &shown).with_context(|| err)?;
    // Another build in its place: what the recording has is used, where it has it.
    std::fs::copy(place::target("quiet.c")?, &exe)?;
    let (out, err) = ask(0, &[])?;
    in_order(&out, &shown).with_context(|| err)?;
    let (out, err) = ask(1, &[])?;
    ensure!(
        err.contains("is not the file that was recorded") && err.contains("--force"),
        "another build was not refused: {out} {err}"
    );
    ensure!(!out.contains("in main ("), "it was used: {out}");
    let (out, err) = ask(1, &["--force"])?;
    ensure!(
        !err.contains("is not the file that was recorded"),
        "forced, and refused: {out} {err}"
    );
    passed("")
}

pub fn tree(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let dir = place::scratch()?;
    let out = still::fresh(dir.path(), "run.still");
    let cmd: Vec<OsString> = ["sh", "-c", "sleep 1 & sleep 1; wait"]
        .map(OsString::from)
        .to_vec();
    let mut recorder = still::record(dir.path(), &["--hz", "50", "--follow"], &out, &cmd)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let recording = still::open(&out)?;
    let rows = recording.rows();
    let row = rows.get(rows.len() / 2).context("an empty recording")?;
    let tree = recording.checkpoint(row.id)?;
    ensure!(
        tree.processes.len() >= 3,
        "processes: {}",
        tree.processes.len()
    );
    let (root, child) = (&tree.processes[0], &tree.processes[1]);
    let number = child.id.0.to_string();
    let (said, err) = debug(
        dir.path(),
        &args(
            still::moment(&out, &row.id.to_string()),
            &[
                "info inferiors",
                "monitor processes",
                &format!("still-process {number}"),
                "info inferiors",
                "reverse-continue",
                "echo \\nBEGIN\\n",
                "monitor where",
            ],
        ),
    )?;
    in_order(
        &said,
        &[
            &format!("process {}", root.process.pid),
            &format!("process {}", child.process.pid),
            "BEGIN",
        ],
    )
    .with_context(|| err.clone())?;
    in_order(
        &err,
        &[
            &format!("process {number}: pid {}", child.process.pid),
            &format!("process {number} (pid {}", child.process.pid),
        ],
    )
    .with_context(|| said.clone())?;
    // It goes back to where the process began, not to where the recording did.
    ensure!(
        err.contains(", 0 before and") && !err.contains("checkpoint 0 at"),
        "{err}"
    );
    passed(format!("processes {}", tree.processes.len()))
}

pub fn exec(_: &Length) -> Result<Outcome> {
    if place::program("gdb").is_none() {
        return skip(NO_GDB);
    }
    let dir = place::scratch()?;
    let out = still::fresh(dir.path(), "run.still");
    let cmd: Vec<OsString> = ["sh", "-c", "sleep 0.5; exec sleep 0.7"]
        .map(OsString::from)
        .to_vec();
    let mut recorder = still::record(dir.path(), &["--hz", "50"], &out, &cmd)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    let recording = still::open(&out)?;
    let program = |row: &stillframe_store::Row| -> Option<Vec<u8>> {
        let image = recording
            .process(row.id, stillframe_image::SpaceId(0))
            .ok()?;
        (!image.threads.is_empty()).then_some(image.process.executable)
    };
    // The first checkpoint of the shell, and one of what it became.
    let rows = recording.rows();
    let of: Vec<(u64, Vec<u8>)> = rows
        .iter()
        .filter_map(|r| Some((r.id.0, program(r)?)))
        .filter(|(_, path)| path.ends_with(b"sh") || path.ends_with(b"sleep"))
        .collect();
    let (first, before) = of.first().context("no shell")?;
    let (later, after) = of
        .iter()
        .find(|(_, path)| path != before)
        .context("no exec was recorded")?;
    let (said, err) = debug(
        dir.path(),
        &args(
            still::moment(&out, &first.to_string()),
            &[
                "stepi",
                &format!("goto {later}"),
                "print $checkpoint",
                &format!("goto {first}"),
                "print $checkpoint",
            ],
        ),
    )?;
    let both = format!("{said}\n-- stderr:\n{err}");
    let name = |path: &[u8]| String::from_utf8_lossy(path).into_owned();
    let (before, after) = (name(before), name(after));
    in_order(
        &both.replace("-- stderr:", ""),
        &[&format!("$1 = {later}"), &format!("$2 = {first}")],
    )
    .with_context(|| both.clone())?;
    for (now, then) in [(&after, &before), (&before, &after)] {
        ensure!(
            both.contains(&format!("runs {now}, and not {then}")),
            "not told that {now} runs: {both}"
        );
    }
    passed(format!("{before} became {after} by checkpoint {later}"))
}
