//! Files in time: what checkpoints hold of written files is what those files held.
//!
//! The program writes in steps of single calls and counts them in its memory. So at any checkpoint
//! each file must be what the steps done make of it, or those and the one begun: computed here, step by
//! step, and compared byte by byte with what the recording gives out.

mod back;

use crate::process::{self, PATIENCE};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::Value;
use std::path::{Path, PathBuf};
use stillframe_image::SpaceId;
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "files::content",
        about: "every checkpoint gives out what each written file held: appended, overwritten, cut, \
                deleted, renamed",
        run: content,
    },
    Scenario {
        name: "files::big",
        about: "a file too large to be copied in the stop is exact or said to be torn",
        run: big,
    },
    Scenario {
        name: "files::budget",
        about: "beyond its budget nothing is kept, what was kept before stays, and it is said",
        run: budget,
    },
    Scenario {
        name: "files::retention",
        about: "removing checkpoints keeps the files of the others as they were",
        run: retention,
    },
    Scenario {
        name: "files::policies",
        about: "check and ignore keep no content; what is refused and what is said of changed files",
        run: policies,
    },
    Scenario {
        name: "files::sqlite",
        about: "sqlite in the middle of transactions: at every checkpoint a consistent database with \
                the rows committed then",
        run: sqlite,
    },
    Scenario {
        name: "files::rollback",
        about: "a process goes back with its files: byte for byte those of that instant, and goes on",
        run: back::rollback,
    },
    Scenario {
        name: "files::sqlite_back",
        about: "sqlite in the middle of transactions goes back, and lives again, with its files",
        run: back::sqlite,
    },
    Scenario {
        name: "files::supervise",
        about: "a program that dies is taken back with the file that it writes",
        run: back::supervise,
    },
];

struct Recorded {
    dir: tempfile::TempDir,
    work: PathBuf,
    recording: PathBuf,
    begun: u64,
    done: u64,
    big_mib: u64,
    steps: u64,
}

fn record(options: &[&str], steps: u64, step_us: u64, big_mib: u64) -> Result<Recorded> {
    let dir = place::scratch()?;
    let work = dir.path().join("work");
    std::fs::create_dir(&work)?;
    let exe = place::target("writes.c")?;
    let recording = dir.path().join("r.still");
    let command = [
        exe.into(),
        work.clone().into(),
        steps.to_string().into(),
        step_us.to_string().into(),
        big_mib.to_string().into(),
    ];
    let mut run = still::record(dir.path(), options, &recording, &command)?;
    still::ended_with(&mut run, 0, PATIENCE)?;
    let (begun, done) = (run.address("begun")?, run.address("done")?);
    Ok(Recorded {
        dir,
        work,
        recording,
        begun,
        done,
        big_mib,
        steps,
    })
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// The files as a number of steps leaves them.
#[derive(Clone, Default)]
struct Model {
    step: u64,
    log: Vec<u8>,
    data: Vec<u8>,
    cut: Vec<u8>,
    gone: Vec<u8>,
    big: Vec<u8>,
    old: Vec<u8>,
}

fn put(file: &mut Vec<u8>, value: u64, at: u64) {
    let at = at as usize;
    if file.len() < at + 8 {
        file.resize(at + 8, 0);
    }
    file[at..at + 8].copy_from_slice(&value.to_le_bytes());
}

impl Model {
    fn new(big_mib: u64) -> Self {
        let words = big_mib << 17;
        Self {
            big: (0..words).flat_map(|i| mix(i).to_le_bytes()).collect(),
            ..Self::default()
        }
    }

    fn to(&mut self, step: u64) {
        while self.step < step {
            self.step += 1;
            let step = self.step;
            self.log.extend(format!("line {step}\n").bytes());
            put(&mut self.data, mix(step), mix(step) % 32760 * 8);
            if step.is_multiple_of(10) {
                self.cut.resize((mix(step) % 20000) as usize, 0);
            } else {
                let end = self.cut.len() as u64;
                put(&mut self.cut, step, end);
            }
            put(&mut self.gone, step, step * 512);
            if !self.big.is_empty() {
                let words = self.big.len() as u64 / 8;
                put(&mut self.big, step, mix(step) % words * 8);
            }
            put(&mut self.old, step, 0);
        }
    }

    fn file(&self, name: &str) -> &[u8] {
        match name {
            "log" => &self.log,
            "data" => &self.data,
            "cut" => &self.cut,
            "gone" => &self.gone,
            "big" => &self.big,
            _ => &self.old,
        }
    }
}

/// What a checkpoint says of the steps, if the program had begun.
fn steps_at(r: &Recorded, opened: &Recording, id: u64) -> Result<Option<(u64, u64)>> {
    let id = stillframe_image::CheckpointId(id);
    let Ok(memory) = opened.memory(id, SpaceId(0)) else {
        return Ok(None);
    };
    let word = |at: u64| {
        let mut bytes = [0; 8];
        memory.read(at, &mut bytes).ok()?;
        Some(u64::from_le_bytes(bytes))
    };
    // Before exec there is no such memory; before the first step there are files being made.
    Ok(match (word(r.begun), word(r.done)) {
        (Some(begun), Some(done)) if begun > 0 && done <= begun && begun <= r.steps => {
            Some((begun, done))
        }
        _ => None,
    })
}

fn show(dir: &Path, recording: &Path, id: u64) -> Result<Vec<Value>> {
    let moment = still::moment(recording, &id.to_string());
    let args = ["show".into(), moment, "--json".into()];
    let (status, out, err) = still::run(dir, &args)?;
    ensure!(status.success(), "show: {status} {}", still::tail(&err));
    let value: Value = serde_json::from_str(&out)?;
    Ok(value["written_files"]
        .as_array()
        .cloned()
        .unwrap_or_default())
}

fn export(dir: &Path, recording: &Path, id: u64, path: &str, to: &Path) -> Result<Vec<u8>> {
    let mut c = still::still(&["export", "--force", "--file", path, "-o"])?;
    c.arg(to).arg(still::moment(recording, &id.to_string()));
    let (status, _, err) = process::run(&mut c, dir)?;
    ensure!(
        status.success(),
        "export {path} of {id}: {status} {}",
        still::tail(&err)
    );
    Ok(std::fs::read(to)?)
}

/// What was compared.
#[derive(Default)]
struct Counts {
    checkpoints: u64,
    files: u64,
    torn: u64,
    left: u64,
}

/// Compares every file of every `each`th checkpoint with the model.
fn compare(r: &Recorded, each: usize) -> Result<Counts> {
    let opened = Recording::open(&r.recording)?;
    let mut counts = Counts::default();
    let mut model = Model::new(r.big_mib);
    let out = r.dir.path().join("out");
    for row in opened.rows().iter().step_by(each) {
        let id = row.id.0;
        let Some((begun, done)) = steps_at(r, &opened, id)? else {
            continue;
        };
        model.to(done);
        let mut after = model.clone();
        after.to(begun);
        counts.checkpoints += 1;
        for file in show(r.dir.path(), &r.recording, id)? {
            let path = file["path"].as_str().context("no path")?;
            let Some(name) = Path::new(path)
                .strip_prefix(&r.work)
                .ok()
                .and_then(Path::to_str)
            else {
                continue;
            };
            match file["content"].as_str().context("no content")? {
                "kept" => {}
                "torn" if name == "big" => {
                    counts.torn += 1;
                    continue;
                }
                "left" => {
                    counts.left += 1;
                    continue;
                }
                other => bail!("{path} at {id} is {other}"),
            }
            let got = export(r.dir.path(), &r.recording, id, path, &out)?;
            let (old, new) = (model.file(name), after.file(name));
            ensure!(
                got == old || got == new,
                "{name} at checkpoint {id}, step {done}/{begun}: {} bytes instead of {} or {}",
                got.len(),
                old.len(),
                new.len()
            );
            let deleted = name == "gone" && done >= 3;
            ensure!(
                !deleted || file["links"] == 0,
                "{name} at {id} is not said to be deleted: {file}"
            );
            counts.files += 1;
        }
    }
    ensure!(
        counts.checkpoints > 3,
        "only {} checkpoints",
        counts.checkpoints
    );
    Ok(counts)
}

fn content(length: &Length) -> Result<Outcome> {
    let steps = if length.full { 4000 } else { 400 };
    let r = record(&["--hz", "50", "--files", "version"], steps, 3000, 0)?;
    still::verify(r.dir.path(), &r.recording)?;
    let counts = compare(&r, 4)?;
    ensure!(counts.torn + counts.left == 0, "torn or left");
    ensure!(
        counts.files >= 5 * counts.checkpoints,
        "{} files",
        counts.files
    );
    passed(format!(
        "{} files at {} checkpoints",
        counts.files, counts.checkpoints
    ))
}

fn big(_: &Length) -> Result<Outcome> {
    let r = record(&["--hz", "5", "--files", "version"], 30, 100_000, 40)?;
    still::verify(r.dir.path(), &r.recording)?;
    let counts = compare(&r, 3)?;
    passed(format!(
        "{} files at {} checkpoints, {} torn",
        counts.files, counts.checkpoints, counts.torn
    ))
}

fn budget(_: &Length) -> Result<Outcome> {
    let r = record(&["--hz", "50", "--files", "version=400KiB"], 300, 3000, 0)?;
    let counts = compare(&r, 4)?;
    ensure!(counts.left > 0, "nothing was left out");
    ensure!(counts.files > 0, "nothing was kept");
    let opened = Recording::open(&r.recording)?;
    let last = opened.rows().last().context("no checkpoint")?.id.0;
    let files = show(r.dir.path(), &r.recording, last)?;
    let why = files.iter().find_map(|f| f["not_kept"].as_str());
    ensure!(why.is_some_and(|w| w.contains("budget")), "{files:?}");
    let mut c = still::still(&["export", "--file", "data", "-o", "never"])?;
    c.arg(still::moment(&r.recording, "last"));
    let line = still::one_line_failure(&mut c, r.dir.path(), 4)?;
    ensure!(line.contains("budget"), "{line}");
    passed(format!("{} kept, {} left out", counts.files, counts.left))
}

fn retention(_: &Length) -> Result<Outcome> {
    let r = record(&["--hz", "50", "--files", "version"], 500, 3000, 4)?;
    let size = |path: &Path| -> Result<u64> {
        let mut all = 0;
        for entry in std::fs::read_dir(path.join("log"))? {
            all += entry?.metadata()?.len();
        }
        Ok(all)
    };
    let before = size(&r.recording)?;
    let rec = r.recording.to_str().context("a path")?;
    let (status, _, err) = still::run(r.dir.path(), &["prune", rec, "--keep", "every=7"])?;
    ensure!(status.success(), "prune: {}", still::tail(&err));
    still::verify(r.dir.path(), &r.recording)?;
    let counts = compare(&r, 1)?;
    let after = size(&r.recording)?;
    ensure!(after <= before, "{after} bytes after, {before} before");
    // All but the last: what it holds has to stay.
    let (status, _, err) = still::run(r.dir.path(), &["prune", rec, "--keep", "last=5"])?;
    ensure!(status.success(), "prune: {}", still::tail(&err));
    still::verify(r.dir.path(), &r.recording)?;
    compare(&r, 1)?;
    let after = size(&r.recording)?;
    ensure!(after <= before, "{after} bytes after, {before} before");
    passed(format!(
        "{} files, {before} bytes before and {after} after",
        counts.files
    ))
}

/// `still check REC@ID --files POLICY --json`: exit code and, of the file, severity.
fn check(r: &Recorded, id: u64, policy: &str, name: &str) -> Result<(i32, String)> {
    let mut c = still::still(&["check", "--json", "--files", policy])?;
    c.arg(still::moment(&r.recording, &id.to_string()));
    let (status, out, err) = process::run(&mut c, r.dir.path())?;
    let code = status.code().context("killed")?;
    let report: Value =
        serde_json::from_str(&out).with_context(|| format!("{status} {}", still::tail(&err)))?;
    let path = r.work.join(name);
    let path = path.to_str().context("a path")?;
    let findings = report["findings"].as_array().context("no findings")?;
    let of = findings.iter().find(|f| f["subject"] == path);
    let severity = of.and_then(|f| f["severity"].as_str());
    Ok((code, severity.unwrap_or("none").to_owned()))
}

fn policies(_: &Length) -> Result<Outcome> {
    let middle = |r: &Recorded| -> Result<u64> {
        let opened = Recording::open(&r.recording)?;
        let rows = opened.rows();
        // After the deletion, before the renaming.
        for row in rows {
            if let Some((begun, done)) = steps_at(r, &opened, row.id.0)?
                && done > 20
                && begun < r.steps / 2
            {
                return Ok(row.id.0);
            }
        }
        bail!("no checkpoint in the first half")
    };
    // What each policy of a restore makes of each file, by what was recorded.
    let ways = ["ignore", "check", "version", "private"];
    for (recorded, rows) in [
        (
            "version",
            [
                ("log", ["warning", "warning", "ok", "ok"]),
                ("data", ["warning", "refuse", "ok", "ok"]),
                ("cut", ["warning", "refuse", "ok", "ok"]),
                ("gone", ["warning", "warning", "ok", "ok"]),
                ("old", ["refuse", "refuse", "ok", "ok"]),
            ],
        ),
        (
            "check",
            [
                ("log", ["warning", "warning", "refuse", "refuse"]),
                ("data", ["warning", "refuse", "refuse", "refuse"]),
                ("cut", ["warning", "refuse", "refuse", "refuse"]),
                ("gone", ["warning", "refuse", "refuse", "refuse"]),
                ("old", ["refuse", "refuse", "refuse", "refuse"]),
            ],
        ),
    ] {
        let r = record(&["--hz", "50", "--files", recorded], 300, 3000, 0)?;
        let id = middle(&r)?;
        for (name, wanted) in rows {
            for (way, want) in ways.into_iter().zip(wanted) {
                let (code, severity) = check(&r, id, way, name)?;
                ensure!(
                    severity == want,
                    "recorded with {recorded}, checked with {way}: {name} is {severity}, not {want}"
                );
                ensure!(
                    want != "refuse" || code == 11,
                    "{name}: {way}: exit code {code}"
                );
            }
        }
        if recorded == "check" {
            let files = show(r.dir.path(), &r.recording, id)?;
            ensure!(files.iter().all(|f| f["kept_since"].is_null()), "{files:?}");
        }
        // The end of the recording is how the files are now, but for the deleted one.
        let opened = Recording::open(&r.recording)?;
        let last = opened.rows().last().context("no checkpoint")?.id.0;
        for name in ["log", "data", "cut", "new"] {
            let (_, severity) = check(&r, last, "check", name)?;
            ensure!(severity == "ok", "{name} at the end: {severity}");
        }
    }
    let r = record(&["--hz", "50", "--files", "ignore"], 100, 1000, 0)?;
    ensure!(
        show(r.dir.path(), &r.recording, 1)?.is_empty(),
        "files were recorded"
    );
    passed("")
}

/// Transactions of 25 rows, several of them in flight long enough to be met; `committed` says how many
/// are over.
const SQLITE: &str = r#"
import ctypes, os, sqlite3, sys, time
committed = ctypes.c_uint64(0)
print("addr committed %x" % ctypes.addressof(committed), flush=True)
db = sqlite3.connect(sys.argv[1], isolation_level=None)
db.execute("pragma cache_size=10")
db.execute("pragma journal_mode=" + sys.argv[2])
db.execute("create table t(transaction_number integer, text blob)")
end = time.monotonic() + float(sys.argv[3])
n = 0
while time.monotonic() < end:
    n += 1
    db.execute("begin")
    for i in range(25):
        db.execute("insert into t values(?, ?)", (n, os.urandom(3000)))
        if n > 3:
            db.execute("update t set text = ? where rowid = ?", (os.urandom(3000), n * 7 % (25 * (n - 1)) + 1))
        time.sleep(0.002)
    db.execute("commit")
    committed.value = n
print("ok")
"#;

/// What a database says: rows and whether it is whole.
const ASK: &str = r#"
import sqlite3, sys
db = sqlite3.connect(sys.argv[1])
print(db.execute("pragma integrity_check").fetchone()[0])
print(db.execute("select count(*) from t").fetchone()[0])
print(db.execute("select count(*) from (select count(*) c from t group by transaction_number having c != 25)").fetchone()[0])
"#;

fn sqlite(length: &Length) -> Result<Outcome> {
    let Some(python) = place::program("python3") else {
        return skip("python3 is not installed");
    };
    let seconds = if length.full { "8" } else { "3" };
    let (mut moments, mut hot) = (0, 0);
    for mode in ["delete", "wal"] {
        let dir = place::scratch()?;
        let work = dir.path().join("work");
        std::fs::create_dir(&work)?;
        let db = work.join("app.db");
        let recording = dir.path().join("r.still");
        let program = [
            python.clone().into(),
            "-c".into(),
            SQLITE.into(),
            db.clone().into(),
            mode.into(),
            seconds.into(),
        ];
        let options = ["--hz", "20", "--files", "version"];
        let mut run = still::record(dir.path(), &options, &recording, &program)?;
        still::ended_with(&mut run, 0, PATIENCE)?;
        let at = run.address("committed")?;
        let opened = Recording::open(&recording)?;
        let then = dir.path().join("then");
        for row in opened.rows() {
            let memory = opened.memory(row.id, SpaceId(0))?;
            let mut word = [0; 8];
            if memory.read(at, &mut word).is_err() {
                continue;
            }
            let committed = u64::from_le_bytes(word);
            if committed == 0 || committed > 1 << 32 {
                continue;
            }
            let _ = std::fs::remove_dir_all(&then);
            std::fs::create_dir(&then)?;
            for file in show(dir.path(), &recording, row.id.0)? {
                let path = file["path"].as_str().context("no path")?;
                let Some(name) = Path::new(path).strip_prefix(&work).ok() else {
                    continue;
                };
                if file["links"] == 0 {
                    continue;
                }
                ensure!(file["content"] == "kept", "{file}");
                hot += u64::from(path.ends_with("-journal") || path.ends_with("-wal"));
                export(dir.path(), &recording, row.id.0, path, &then.join(name))?;
            }
            let mut c = process::command(&python, &["-c", ASK]);
            c.arg(then.join("app.db"));
            let (status, out, err) = process::run(&mut c, dir.path())?;
            ensure!(
                status.success(),
                "{mode} at {}: {}",
                row.id,
                still::tail(&err)
            );
            let said: Vec<&str> = out.lines().collect();
            let [whole, rows, odd] = said[..] else {
                bail!("{out}")
            };
            ensure!(whole == "ok" && odd == "0", "{mode} at {}: {out}", row.id);
            let rows: u64 = rows.parse()?;
            // Between the commit and the note of it the database is one ahead.
            ensure!(
                rows == committed * 25 || rows == (committed + 1) * 25,
                "{mode} at {}: {rows} rows after {committed} transactions",
                row.id
            );
            moments += 1;
        }
        still::verify(dir.path(), &recording)?;
    }
    ensure!(moments > 20 && hot > 5, "{moments} moments, {hot} journals");
    passed(format!("{moments} moments, {hot} with a journal or log"))
}
