//! Editors: `still debug --dap` with a client library that others wrote, and with one of our own
//! that holds every message to the protocol's schema.

mod clients;
mod driver;
mod own;
#[path = "../../../../debugger/tests/support/schema.rs"]
mod schema;

use crate::process::Running;
use crate::{Scenario, place, still};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillframe_image::{CheckpointId, Marks};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "dap::client",
        about: "Visual Studio Code's client library debugs a recording, over stdio and over TCP",
        run: clients::library,
    },
    Scenario {
        name: "dap::schema",
        about: "every message of a session through every moment fits the protocol's schema",
        run: own::through_everything,
    },
    Scenario {
        name: "dap::hostile",
        about: "what is no request, or not now, is answered with an error, and nothing breaks",
        run: own::hostile,
    },
];

/// A recording of `debug_dap`, and what is known of it.
struct Subject {
    dir: tempfile::TempDir,
    recording: PathBuf,
    /// Numbers of checkpoints and lines, for scripts.
    facts: Value,
}

impl Subject {
    fn new() -> Result<Self> {
        let dir = place::scratch()?;
        let exe = place::target("debug_dap.c")?;
        let recording = dir.path().join("run.still");
        let mut recorder = still::record(dir.path(), &["--at-points"], &recording, &[exe.into()])?;
        // It ends with a null pointer: 128 + SIGSEGV.
        still::ended_with(&mut recorder, 139, Duration::from_secs(60))?;
        let facts = facts(&recording, &recorder)?;
        Ok(Self {
            dir,
            recording,
            facts,
        })
    }

    fn number(&self, name: &str) -> Result<u64> {
        self.facts[name]
            .as_u64()
            .with_context(|| format!("no {name}"))
    }

    fn line(&self, name: &str) -> Result<u64> {
        self.facts["lines"][name]
            .as_u64()
            .with_context(|| format!("no line {name}"))
    }
}

/// Where things are in the recording and in the source.
fn facts(recording: &Path, recorder: &Running) -> Result<Value> {
    let opened = still::open(recording)?;
    let mut named = Vec::new();
    for row in opened.rows() {
        for point in opened.points(row.id)? {
            named.push((String::from_utf8_lossy(&point.name).into_owned(), row.id));
        }
    }
    let all = |name: &str| -> Vec<u64> {
        let of = named.iter().filter(|(n, _)| n == name);
        of.map(|(_, CheckpointId(id))| *id).collect()
    };
    let crash = opened
        .rows()
        .iter()
        .rfind(|r| r.tick.marks.contains(Marks::CRASH));
    let crash = crash.with_context(|| format!("no crash: {}", recorder.stderr()))?;
    let (waiting, changes, second) = (all("waiting"), all("changed"), all("second"));
    ensure!(
        waiting.len() == 3 && changes.len() == 2 && second.len() == 1,
        "the points are {named:?}"
    );
    let source = place::script("debug_dap.c");
    let text = std::fs::read_to_string(&source)?;
    let mut lines = serde_json::Map::new();
    for (number, line) in text.lines().enumerate() {
        for word in ["NOTE", "CHANGED", "LOOP", "FALL", "FIRST", "SECOND"] {
            if line.contains(&format!("/* {word} */")) {
                lines.insert(word.to_owned(), json!(number + 1));
            }
        }
    }
    let process = opened.process(crash.id, stillframe_image::SpaceId(0))?;
    Ok(json!({
        "start": waiting[0],
        "changes": changes,
        "second": second[0],
        "crash": crash.id.0,
        "pid": process.process.pid,
        "source": source,
        "lines": lines,
    }))
}
