//! Torn and hostile files, through the command line.
//!
//! A good recording is copied, damaged, and opened by every reading command. Each must end by
//! itself with status 0, 4 or 5, within its memory; what it still gives must be what the good
//! recording gave. The store's own tests damage it more often; this one holds the command to it.

use crate::process::{PATIENCE, Running, command};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, ensure};
use std::collections::HashMap;
use std::ffi::OsString;
use std::os::unix::process::ExitStatusExt as _;
use std::path::{Path, PathBuf};
use stillframe_image::{CheckpointId, SpaceId};
use stillframe_store::Recording;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "torn::truncated",
        about: "a recording cut at random places gives every checkpoint up to the cut",
        run: truncated,
    },
    Scenario {
        name: "torn::flipped",
        about: "a recording with flipped bits gives right data or a clear error",
        run: flipped,
    },
    Scenario {
        name: "torn::nonsense",
        about: "empty files, foreign files and missing files are refused in one line",
        run: nonsense,
    },
];

/// Address space that a reading command may take.
const MEMORY_KIB: u32 = 4 << 20;

struct Good {
    dir: tempfile::TempDir,
    path: PathBuf,
    /// All files of the recording with their lengths, as relative paths.
    files: Vec<(PathBuf, u64)>,
    /// For each checkpoint, a hash of all memory that the target can write.
    hashes: HashMap<u64, u64>,
}

fn good() -> Result<Good> {
    let dir = place::scratch()?;
    let path = dir.path().join("good.still");
    let mut target = Running::start(
        &mut command(
            place::target("random_writes.c")?,
            &["--mib", "2", "--spin", "2000"],
        ),
        dir.path(),
    )?;
    let pid = target.ready()?;
    let mut recorder = still::attach(dir.path(), &["--hz", "100", "--count", "20"], &path, pid)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    target.finish()?;
    let mut files = Vec::new();
    list(&path, Path::new(""), &mut files)?;
    files.retain(|(_, length)| *length > 0);
    let recording = still::open(&path)?;
    let mut hashes = HashMap::new();
    for row in recording.rows() {
        hashes.insert(row.id.0, hash(&recording, row.id)?);
    }
    Ok(Good {
        dir,
        path,
        files,
        hashes,
    })
}

fn list(root: &Path, below: &Path, files: &mut Vec<(PathBuf, u64)>) -> Result<()> {
    for entry in std::fs::read_dir(root.join(below))? {
        let entry = entry?;
        let path = below.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            list(root, &path, files)?;
        } else {
            files.push((path, entry.metadata()?.len()));
        }
    }
    files.sort();
    Ok(())
}

/// Hash of all writable memory of a checkpoint and of its other parts.
fn hash(recording: &Recording, id: CheckpointId) -> Result<u64> {
    let checkpoint = recording.process(id, SpaceId(0))?;
    let memory = recording.memory(id, SpaceId(0))?;
    let mut hasher = xxhash_rust::xxh3::Xxh3::new();
    for mapping in checkpoint
        .space
        .mappings
        .iter()
        .filter(|m| m.write && m.read)
    {
        if matches!(mapping.coverage, stillframe_image::Coverage::Omitted(_)) {
            continue;
        }
        let mut bytes = vec![0; usize::try_from(mapping.len())?];
        memory.read(mapping.start, &mut bytes)?;
        hasher.update(&bytes);
    }
    hasher.update(format!("{:?}", checkpoint.threads).as_bytes());
    hasher.update(format!("{:?}", checkpoint.descriptors).as_bytes());
    Ok(hasher.digest())
}

fn copy(from: &Path, to: &Path) -> Result<()> {
    std::fs::create_dir_all(to)?;
    for entry in std::fs::read_dir(from)? {
        let entry = entry?;
        let target = to.join(entry.file_name());
        if entry.file_type()?.is_dir() {
            copy(&entry.path(), &target)?;
        } else {
            std::fs::copy(entry.path(), target)?;
        }
    }
    Ok(())
}

/// Runs `still ARGS` with bounded memory; its status must be one of `allowed`.
fn bounded(dir: &Path, args: &[OsString], allowed: &[i32]) -> Result<(i32, String)> {
    let script = format!("ulimit -v {MEMORY_KIB}; exec \"$0\" \"$@\"");
    let mut c = command("sh", &["-c", &script]);
    c.arg(place::still()?).args(args);
    let mut run = Running::start(&mut c, dir)?;
    let status = run.wait(PATIENCE)?;
    let err = run.stderr();
    let shown: Vec<_> = args.iter().map(|a| a.to_string_lossy()).collect();
    ensure!(
        status.code().is_some_and(|c| allowed.contains(&c)) && !err.contains("panicked"),
        "still {} ended with {status}{}: {}",
        shown.join(" "),
        status
            .signal()
            .map(|s| format!(" (signal {s})"))
            .unwrap_or_default(),
        still::tail(&err)
    );
    let code = status.code().unwrap_or(-1);
    ensure!(
        code == 0 || !err.trim().is_empty() || !run.stdout().trim().is_empty(),
        "still {} failed without a word",
        shown.join(" ")
    );
    Ok((code, run.stdout() + &err))
}

/// Opens a damaged copy by all commands and by the library. Returns how many checkpoints it still
/// has, and whether `verify` noticed the damage.
fn examine(good: &Good, bad: &Path, random: &mut Random) -> Result<(u64, bool)> {
    let dir = good.dir.path();
    let as_arg = |s: &str| OsString::from(s);
    bounded(
        dir,
        &[as_arg("ls"), as_arg("--json"), bad.into()],
        &[0, 4, 5],
    )?;
    let (verdict, words) = bounded(dir, &[as_arg("verify"), bad.into()], &[0, 4, 5])?;
    // Damage to what can be rebuilt from the log is told and is no failure.
    let noticed = verdict != 0 || words.contains("note:");
    let id = random.below(good.hashes.len() as u64);
    let core = dir.join("damaged.core");
    let _ = std::fs::remove_file(&core);
    let at = still::moment(bad, &id.to_string());
    bounded(
        dir,
        &[as_arg("show"), as_arg("--json"), at.clone()],
        &[0, 4, 5],
    )?;
    bounded(
        dir,
        &[
            as_arg("export"),
            as_arg("--core"),
            at,
            as_arg("-o"),
            core.into(),
        ],
        &[0, 4, 5],
    )?;
    let mut right = 0;
    if let Ok(recording) = Recording::open(bad) {
        for row in recording.rows() {
            let expected = good.hashes.get(&row.id.0);
            let expected =
                expected.with_context(|| format!("checkpoint {} is invented", row.id))?;
            if let Ok(found) = hash(&recording, row.id) {
                ensure!(found == *expected, "checkpoint {} has wrong data", row.id);
                right += 1;
            }
        }
    }
    Ok((right, noticed))
}

fn cases(
    length: &Length,
    damage: impl Fn(&Path, u64, &mut Random) -> Result<String>,
    accept: impl Fn(u64, bool) -> Result<()>,
) -> Result<Outcome> {
    let (mut random, seed) = Random::seeded();
    let good = good()?;
    let bytes: u64 = good.files.iter().map(|(_, n)| n).sum();
    let bad = good.dir.path().join("bad.still");
    let (mut kept, mut seen) = (0, 0);
    for case in 0..length.cases {
        let _ = std::fs::remove_dir_all(&bad);
        copy(&good.path, &bad)?;
        // A file by its share of the bytes, or any file: small ones matter as much.
        let mut at = random.below(bytes);
        let (mut file, mut size) =
            good.files[random.below(good.files.len() as u64) as usize].clone();
        if random.below(2) == 0 {
            for (path, n) in &good.files {
                if at < *n {
                    (file, size) = (path.clone(), *n);
                    break;
                }
                at -= n;
            }
        }
        let what = damage(&bad.join(&file), size, &mut random)?;
        let context = || {
            format!(
                "case {case}, seed {seed}: {} of {size} bytes, {what}",
                file.display()
            )
        };
        let (right, noticed) = examine(&good, &bad, &mut random).with_context(context)?;
        accept(right, noticed).with_context(context)?;
        kept += right;
        seen += good.hashes.len() as u64;
    }
    passed(format!(
        "cases {}, checkpoints still right {kept} of {seen}, wrong 0, seed {seed}",
        length.cases
    ))
}

fn truncated(length: &Length) -> Result<Outcome> {
    cases(
        length,
        |path, size, random| {
            let cut = random.below(size);
            std::fs::OpenOptions::new()
                .write(true)
                .open(path)?
                .set_len(cut)?;
            Ok(format!("cut at {cut}"))
        },
        |_, _| Ok(()),
    )
}

fn flipped(length: &Length) -> Result<Outcome> {
    cases(
        length,
        |path, _, random| {
            let mut bytes = std::fs::read(path)?;
            let flips = 1 + random.below(3);
            let mut told = String::new();
            let mut flipped = std::collections::HashSet::new();
            for _ in 0..flips {
                let bit = random.below(bytes.len() as u64 * 8);
                if flipped.insert(bit) {
                    bytes[(bit / 8) as usize] ^= 1 << (bit % 8);
                    told += &format!(" {bit}");
                }
            }
            std::fs::write(path, bytes)?;
            Ok(format!("bits{told} flipped"))
        },
        |_, noticed| {
            ensure!(
                noticed,
                "verify finds nothing wrong although it reads every byte"
            );
            Ok(())
        },
    )
}

fn nonsense(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let d = dir.path();
    std::fs::create_dir(d.join("empty"))?;
    std::fs::write(d.join("file"), b"not a recording")?;
    for what in ["empty", "file", "missing"] {
        for sub in ["ls", "verify"] {
            still::refused(d, &[OsString::from(sub), d.join(what).into()], 4)?;
        }
        let at = still::moment(&d.join(what), "0");
        still::refused(d, &[OsString::from("show"), at.clone()], 4)?;
        let core = d.join("x.core");
        still::refused(
            d,
            &[
                "export".into(),
                "--core".into(),
                at,
                "-o".into(),
                core.clone().into(),
            ],
            4,
        )?;
        ensure!(!core.exists(), "a failed export left a file");
    }
    passed("")
}
