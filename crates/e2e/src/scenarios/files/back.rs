//! Files put back beside the processes that write them.
//!
//! While a process stands, taken back and not yet running, its files must be what the recording holds of
//! that checkpoint, byte for byte, and its descriptors refer to them. Then it goes on, and at its end
//! everything is as without us.

use super::{ASK, Model, Recorded, SQLITE, export, show, steps_at};
use crate::process::{self, PATIENCE, Running, wait_for};
use crate::random::Random;
use crate::{Length, Outcome, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::collections::BTreeMap;
use std::ffi::OsString;
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillframe_image::SpaceId;

/// What `still rollback --json` says of files.
#[derive(serde::Deserialize)]
struct Said {
    files_put_back: u64,
    milliseconds: f64,
}

/// Takes a process back with its files, and leaves it stopped.
fn back(dir: &Path, pid: u32, rec: &Path, to: u64) -> Result<Option<Said>> {
    let mut args: Vec<OsString> = [
        "rollback",
        "--files",
        "version",
        "--yes",
        "--stopped",
        "--json",
    ]
    .map(OsString::from)
    .to_vec();
    args.push(pid.to_string().into());
    args.push(still::moment(rec, &to.to_string()));
    let (status, out, err) = still::run(dir, &args)?;
    // It came to its end meanwhile, and its recorder with it.
    let ending = ["is gone", "is ending", "asking the recorder"];
    if !status.success() && ending.iter().any(|what| err.contains(what)) {
        wait_for("its end", || !process::alive(pid))?;
        return Ok(None);
    }
    ensure!(status.success(), "to {to}: {status}: {}", still::tail(&err));
    wait_for("it stands", || {
        process::state_of(pid) == Some('t') || process::state_of(pid) == Some('T')
    })?;
    Ok(Some(
        serde_json::from_str(&out).with_context(|| out.clone())?,
    ))
}

/// Every file that the recording has of a moment and that has a name, by path.
fn held(dir: &Path, rec: &Path, id: u64) -> Result<BTreeMap<String, Vec<u8>>> {
    let mut all = BTreeMap::new();
    for file in show(dir, rec, id)? {
        let path = file["path"].as_str().context("no path")?;
        if file["content"] == "kept" && file["links"] != 0 {
            all.insert(
                path.to_owned(),
                export(dir, rec, id, path, &dir.join("out"))?,
            );
        }
    }
    Ok(all)
}

/// Compares the files there are with those of a moment; how many were.
fn equal(dir: &Path, work: &Path, rec: &Path, id: u64) -> Result<u64> {
    let mut then = held(dir, rec, id)?;
    // Standard output is the recorder's, too, and left.
    then.retain(|path, _| Path::new(path).starts_with(work));
    for (path, bytes) in &then {
        let now = std::fs::read(path).with_context(|| format!("{path} at {id}"))?;
        ensure!(
            now == *bytes,
            "{path} put back to {id} has {} bytes, the recording {}",
            now.len(),
            bytes.len()
        );
    }
    for entry in std::fs::read_dir(work)? {
        let name = entry?.file_name();
        let name = name.to_string_lossy();
        ensure!(!name.contains(".still-"), "{name} was left behind");
    }
    Ok(then.len() as u64)
}

/// Where a descriptor of a process leads whose link ends so.
fn opened_as(pid: u32, end: &str) -> Result<PathBuf> {
    let list = std::fs::read_dir(format!("/proc/{pid}/fd"))?;
    let mut paths = list.flatten().map(|e| e.path());
    paths
        .find(|p| std::fs::read_link(p).is_ok_and(|l| l.to_string_lossy().ends_with(end)))
        .with_context(|| format!("no descriptor leads to {end}"))
}

/// `writes.c` goes back while it appends, overwrites, cuts, deletes and renames.
pub(super) fn rollback(length: &Length) -> Result<Outcome> {
    let (steps, rounds) = if length.full { (4000, 60) } else { (400, 5) };
    let dir = place::scratch()?;
    let work = dir.path().join("work");
    std::fs::create_dir(&work)?;
    let recording = dir.path().join("r.still");
    let command = [
        place::target("writes.c")?.into(),
        work.clone().into(),
        steps.to_string().into(),
        "3000".into(),
        "0".into(),
    ];
    let options = ["--hz", "50", "--files", "version"];
    let mut run = still::record(dir.path(), &options, &recording, &command)?;
    wait_for("it works", || run.address("done").is_ok())?;
    let r = Recorded {
        work: work.clone(),
        recording: recording.clone(),
        begun: run.address("begun")?,
        done: run.address("done")?,
        big_mib: 0,
        steps,
        dir,
    };
    let dir = r.dir.path();
    let (mut random, seed) = Random::seeded();
    let (mut compared, mut put, mut made) = (0, 0, 0);
    let mut ms: Vec<f64> = Vec::new();
    while made < rounds && run.ended()?.is_none() {
        std::thread::sleep(Duration::from_millis(40 + random.below(200)));
        let Ok(opened) = still::open(&recording) else {
            continue;
        };
        let Some(last) = opened.rows().last().filter(|row| row.id.0 > 3) else {
            continue;
        };
        let pid = opened
            .checkpoint(last.id)?
            .root()
            .map_or(0, |p| p.process.pid);
        let to = 1 + random.below(last.id.0 - 1);
        let Some((begun, done)) = steps_at(&r, &opened, to)? else {
            continue;
        };
        let Some(said) = back(dir, pid, &recording, to)
            .with_context(|| format!("seed {seed}: {}", still::tail(&run.stderr())))?
        else {
            break;
        };
        made += 1;
        put += said.files_put_back;
        ms.push(said.milliseconds);
        compared += equal(dir, &work, &recording, to).with_context(|| format!("seed {seed}"))?;
        let mut model = Model::new(0);
        model.to(done);
        let mut after = model.clone();
        after.to(begun);
        if done >= 3 {
            let gone = std::fs::read(opened_as(pid, "/gone (deleted)")?)?;
            ensure!(
                gone == model.file("gone") || gone == after.file("gone"),
                "the deleted file at {to}, seed {seed}, has {} bytes",
                gone.len()
            );
        }
        // The descriptor leads to the file that has the name.
        let renamed = done >= steps / 2;
        if renamed || begun < steps / 2 {
            let name = work.join(if renamed { "new" } else { "old" });
            let through = std::fs::metadata(opened_as(pid, &name.to_string_lossy())?)?;
            ensure!(
                through.ino() == std::fs::metadata(&name)?.ino(),
                "{} is another file than it writes to at {to}, seed {seed}",
                name.display()
            );
        }
        process::signal(pid, Signal::CONT)?;
    }
    still::ended_with(&mut run, 0, PATIENCE).with_context(|| format!("seed {seed}"))?;
    let mut model = Model::new(0);
    model.to(steps);
    for name in ["log", "data", "cut"] {
        let now = std::fs::read(work.join(name))?;
        ensure!(
            now == model.file(name),
            "{name} at the end, seed {seed}: {} bytes",
            now.len()
        );
    }
    ensure!(
        std::fs::read(work.join("new"))? == model.file("old"),
        "old at the end, seed {seed}"
    );
    still::verify(dir, &recording)?;
    ensure!(
        made > 0 && put > made,
        "{made} rollbacks put {put} files back"
    );
    ms.sort_by(f64::total_cmp);
    passed(format!(
        "rollbacks {made} files put back {put} compared {compared} ms p50 {:.1}",
        ms[ms.len() / 2]
    ))
}

/// What a database says that is as the process left it when it stopped: rows, if it is whole.
fn rows_of(python: &Path, dir: &Path, work: &Path) -> Result<u64> {
    let copy = dir.join("copy");
    let _ = std::fs::remove_dir_all(&copy);
    std::fs::create_dir(&copy)?;
    for entry in std::fs::read_dir(work)? {
        let entry = entry?;
        std::fs::copy(entry.path(), copy.join(entry.file_name()))?;
    }
    let mut c = process::command(python, &["-c", ASK]);
    c.arg(copy.join("app.db"));
    let (status, out, err) = process::run(&mut c, dir)?;
    ensure!(status.success(), "{}", still::tail(&err));
    let said: Vec<&str> = out.lines().collect();
    ensure!(
        said.len() == 3 && said[0] == "ok" && said[2] == "0",
        "{out}"
    );
    Ok(said[1].parse()?)
}

/// sqlite, in the middle of transactions, rolled back and restored with its files.
pub(super) fn sqlite(length: &Length) -> Result<Outcome> {
    let Some(python) = place::program("python3") else {
        return skip("python3 is not installed");
    };
    let (mut backs, mut restores, mut hot) = (0, 0, 0);
    for mode in ["delete", "wal"] {
        let place = place::scratch()?;
        let dir = place.path();
        let work = dir.join("work");
        std::fs::create_dir(&work)?;
        let recording = dir.join("r.still");
        let seconds = if length.full { "20" } else { "2" };
        let program = [
            python.clone().into(),
            "-c".into(),
            SQLITE.into(),
            work.join("app.db").into(),
            mode.into(),
            seconds.into(),
        ];
        let options = ["--hz", "20", "--files", "version"];
        let mut run = still::record(dir, &options, &recording, &program)?;
        wait_for("it works", || run.address("committed").is_ok())?;
        let at = run.address("committed")?;
        let committed = |id| -> Result<Option<u64>> {
            let opened = still::open(&recording)?;
            let memory = opened.memory(stillframe_image::CheckpointId(id), SpaceId(0))?;
            let mut word = [0; 8];
            let found = memory
                .read(at, &mut word)
                .ok()
                .map(|()| u64::from_le_bytes(word));
            Ok(found.filter(|n| (1..1 << 32).contains(n)))
        };
        let whole = |id: u64, n: u64| -> Result<u64> {
            let files = equal(dir, &work, &recording, id).with_context(|| mode.to_owned())?;
            let rows = rows_of(&python, dir, &work).with_context(|| format!("{mode} at {id}"))?;
            // Between the commit and the note of it the database is one ahead.
            ensure!(
                rows == n * 25 || rows == (n + 1) * 25,
                "{mode} at {id}: {rows} rows after {n} transactions"
            );
            Ok(files.saturating_sub(1))
        };
        let (mut random, _) = Random::seeded();
        let rounds = if length.full { 30 } else { 3 };
        let mut made = 0;
        while made < rounds && run.ended()?.is_none() {
            std::thread::sleep(Duration::from_millis(200 + random.below(300)));
            let Some(last) = still::open(&recording)?.rows().last().map(|r| r.id.0) else {
                continue;
            };
            let to = last - random.below(last.min(8));
            let Some(n) = committed(to)? else { continue };
            let opened = still::open(&recording)?;
            let pid = opened
                .checkpoint(stillframe_image::CheckpointId(to))?
                .root()
                .map_or(0, |p| p.process.pid);
            if back(dir, pid, &recording, to)?.is_none() {
                break;
            }
            hot += whole(to, n)?;
            made += 1;
            process::signal(pid, Signal::CONT)?;
        }
        backs += made;
        still::ended_with(&mut run, 0, PATIENCE).with_context(|| mode.to_owned())?;
        let end = rows_of(&python, dir, &work).with_context(|| format!("{mode} at the end"))?;
        ensure!(end > 0, "no rows at the end");
        // And a new process of such a moment, under the number it had: sqlite's mutexes are recursive,
        // and one that was held knows its owner by that.
        if !rustix::process::geteuid().is_root() {
            continue;
        }
        let last = still::open(&recording)?.rows().last().map_or(0, |r| r.id.0);
        for _ in 0..if length.full { 20 } else { 1 } {
            let to = last / 2 + random.below(last / 2 - 1);
            let Some(n) = committed(to)? else { continue };
            let mut args: Vec<OsString> = [
                "restore",
                "--files",
                "version",
                "--yes",
                "--stopped",
                "--detach",
                "--pid",
                "same",
                "-q",
            ]
            .map(OsString::from)
            .to_vec();
            args.push(still::moment(&recording, &to.to_string()));
            let (status, out, err) = still::run(dir, &args)?;
            ensure!(
                status.success(),
                "{mode}, restore {to}: {}",
                still::tail(&err)
            );
            let new: u32 = out.trim().parse().with_context(|| out.clone())?;
            hot += whole(to, n)?;
            process::signal(new, Signal::CONT)?;
            wait_for("the new process ends", || !process::alive(new)).with_context(|| {
                format!("{mode} restored at {to}, {:?}", process::state_of(new))
            })?;
            // Its standard output is the file it was.
            ensure!(
                run.stdout().contains("ok"),
                "{mode} restored at {to}: {} {}",
                still::tail(&run.stdout()),
                still::tail(&run.stderr())
            );
            rows_of(&python, dir, &work).with_context(|| format!("{mode} after restoring {to}"))?;
            restores += 1;
        }
    }
    ensure!(
        backs > 1 && (restores > 0 || !rustix::process::geteuid().is_root()),
        "{backs} rollbacks, {restores} restores"
    );
    passed(format!(
        "rollbacks {backs} restores {restores}, {hot} times with a journal or log"
    ))
}

/// Counts in a file and in memory, and dies when told so; both must be of one instant ever after.
const COUNTER: &str = r#"
import os, signal, struct, sys, time
count = 0
f = open(sys.argv[1], "w+b", buffering=0)
f.write(struct.pack("<Q", 0))
print("ready", os.getpid(), flush=True)
while count < int(sys.argv[3]):
    f.seek(0)
    found = struct.unpack("<Q", f.read(8))[0]
    if found != count:
        sys.exit("the file says %d instead of %d" % (found, count))
    count += 1
    f.seek(0)
    f.write(struct.pack("<Q", count))
    if os.path.exists(sys.argv[2]):
        os.unlink(sys.argv[2])
        os.kill(os.getpid(), signal.SIGSEGV)
    time.sleep(0.001)
print("ok")
"#;

/// A program that dies is taken back with its files.
pub(super) fn supervise(length: &Length) -> Result<Outcome> {
    let Some(python) = place::program("python3") else {
        return skip("python3 is not installed");
    };
    let dir = place::scratch()?;
    let crashes = if length.full { 50 } else { 3 };
    let (file, trigger) = (dir.path().join("file"), dir.path().join("die"));
    let mut c = still::still(&[
        "supervise",
        "--hz",
        "50",
        "--files-back",
        "version",
        "--yes",
        "-o",
    ])?;
    c.arg(dir.path().join("run.still")).arg("--").arg(&python);
    c.args(["-c", COUNTER]).arg(&file).arg(&trigger);
    c.arg((300 + 150 * crashes).to_string());
    let mut run = Running::start(&mut c, dir.path())?;
    run.ready()?;
    for _ in 0..crashes {
        std::thread::sleep(Duration::from_millis(150));
        std::fs::write(&trigger, "")?;
        wait_for("it dies", || {
            !trigger.exists() || !process::alive(run.pid())
        })?;
    }
    let status = run.wait(PATIENCE)?;
    let err = run.stderr();
    ensure!(
        status.success(),
        "{status}: {} {}",
        run.stdout(),
        still::tail(&err)
    );
    let backs = err.lines().filter(|l| l.contains(" is back at")).count();
    let files = err.lines().filter(|l| l.contains("1 files")).count();
    ensure!(
        backs as u64 >= crashes && files > 0,
        "{backs} times back, {files} times with the file: {err}"
    );
    let count = std::fs::read(&file)?;
    ensure!(
        count == (300 + 150 * crashes).to_le_bytes(),
        "the file ends with {count:?}"
    );
    passed(format!(
        "crashes {crashes} rollbacks {backs} with the file {files}"
    ))
}
