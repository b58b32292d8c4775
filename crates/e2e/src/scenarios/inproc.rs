//! Programs that take checkpoints of themselves: real ones, built with `still cc`.
//!
//! sqlite3's and redis's sources come from `crates/e2e/programs.sh`; without them two scenarios skip.

use crate::process::{PATIENCE, Running, command, wait_for};
use crate::random::Random;
use crate::{Length, Outcome, Scenario, passed, place, skip};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::collections::BTreeMap;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::Path;
use std::process::{Command, Output};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "inproc::coverage",
        about: "each compiler here undoes every kind of store but those that are known to be missed",
        run: coverage,
    },
    Scenario {
        name: "inproc::audit",
        about: "an object, a library and a function that write unseen are named",
        run: audit,
    },
    Scenario {
        name: "inproc::library",
        about: "a shared library built with still cc -shared uses the program's runtime",
        run: library,
    },
    Scenario {
        name: "inproc::rust",
        about: "a Rust program with the crate and the printed flags: panics, rollbacks, nesting",
        run: rust,
    },
    Scenario {
        name: "inproc::valgrind",
        about: "random nested rollbacks read and write nothing that memcheck objects to",
        run: valgrind,
    },
    Scenario {
        name: "inproc::sqlite",
        about: "statements of sqlite that are rolled back in their middle were never there",
        run: sqlite,
    },
    Scenario {
        name: "inproc::redis",
        about: "requests of redis that are rolled back and done again answer as if done once",
        run: redis,
    },
];

/// Runs `still` with words, in a directory.
fn still(dir: &Path, words: &[&str]) -> Result<Output> {
    Ok(Command::new(place::still()?)
        .current_dir(dir)
        .args(words)
        .output()?)
}

fn good(dir: &Path, words: &[&str]) -> Result<String> {
    let output = still(dir, words)?;
    ensure!(
        output.status.success(),
        "still {}: {}: {}",
        words.join(" "),
        output.status,
        String::from_utf8_lossy(&output.stderr)
    );
    Ok(String::from_utf8_lossy(&output.stdout).into_owned())
}

fn no_compiler() -> bool {
    !["clang", "gcc"]
        .iter()
        .any(|c| Command::new(c).arg("--version").output().is_ok())
}

/// Builds the pass, if it can be had.
fn with_pass(dir: &Path) -> Result<bool> {
    Ok(still(dir, &["inproc", "pass"])?.status.success())
}

fn coverage(_: &Length) -> Result<Outcome> {
    if no_compiler() {
        return skip("no C compiler");
    }
    let dir = tempfile::tempdir()?;
    let pass = with_pass(dir.path())?;
    let matrices: Vec<Value> =
        serde_json::from_str(&good(dir.path(), &["inproc", "selftest", "--json"])?)?;
    ensure!(!matrices.is_empty(), "no matrix");
    let mut kinds = 0;
    for matrix in &matrices {
        let name = matrix["name"].as_str().unwrap_or_default();
        ensure!(matrix["failed"].is_null(), "{name}: {}", matrix["failed"]);
        kinds += matrix["seen"].as_u64().unwrap_or(0);
        for missed in matrix["missed"]
            .as_array()
            .into_iter()
            .flatten()
            .filter_map(Value::as_str)
        {
            // What docs/inproc.md names, and nothing else.
            let assembly = missed.starts_with("asm_");
            let vector = ["sse_", "avx", "builtin_", "return_by_memory"]
                .iter()
                .any(|p| missed.starts_with(p));
            let allowed = assembly || (vector && !name.contains("pass"));
            ensure!(allowed, "{name} misses {missed}");
        }
    }
    passed(format!(
        "{} matrices, {kinds} kinds undone, pass: {pass}",
        matrices.len()
    ))
}

const PLAIN: &str = "int hidden; void writes_unseen(int *p) { *p = 3; hidden = 4; }\n";
const CALLS: &str = "#include <stillframe/inproc.h>\n#include <stdio.h>\nvoid writes_unseen(int *);\nint n;\n#ifndef READ\n#define READ(p) scanf(\"%d\", p)\n#endif\n\
int main(void) { int k = 0; if (still_checkpoint() == 0) { writes_unseen(&n); READ(&n); k = n; still_commit(); } return k; }\n";

fn audit(_: &Length) -> Result<Outcome> {
    if no_compiler() {
        return skip("no C compiler");
    }
    let dir = tempfile::tempdir()?;
    std::fs::write(dir.path().join("plain.c"), PLAIN)?;
    std::fs::write(dir.path().join("calls.c"), CALLS)?;
    let cc = if Command::new("gcc").arg("--version").output().is_ok() {
        "gcc"
    } else {
        "clang"
    };
    let made = Command::new(cc)
        .current_dir(dir.path())
        .args(["-O1", "-c", "plain.c"])
        .status()?;
    ensure!(made.success(), "the plain object");
    good(
        dir.path(),
        &["cc", "-O1", "-w", "calls.c", "plain.o", "-o", "mixed"],
    )?;
    let output = still(dir.path(), &["inproc", "audit", "mixed", "--json"])?;
    ensure!(
        output.status.code() == Some(1),
        "the audit of a mixed program: {}",
        output.status
    );
    let report: Value = serde_json::from_slice(&output.stdout)?;
    let functions = report["uninstrumented"].to_string();
    ensure!(report["runtime"] == true, "the runtime is not seen");
    ensure!(
        functions.contains("writes_unseen") && !functions.contains("main"),
        "functions: {functions}"
    );
    ensure!(
        report["imports"].to_string().contains("scanf"),
        "imports: {}",
        report["imports"]
    );
    good(dir.path(), &["cc", "-O1", "-c", "plain.c", "-o", "seen.o"])?;
    good(
        dir.path(),
        &[
            "cc",
            "-O1",
            "-w",
            "-DREAD(p)=(*(p) = 0)",
            "calls.c",
            "seen.o",
            "-o",
            "whole",
        ],
    )?;
    let output = still(dir.path(), &["inproc", "audit", "whole"])?;
    ensure!(
        output.status.success(),
        "the audit of a whole program: {}",
        String::from_utf8_lossy(&output.stdout)
    );
    passed("")
}

fn library(_: &Length) -> Result<Outcome> {
    if no_compiler() {
        return skip("no C compiler");
    }
    let dir = tempfile::tempdir()?;
    with_pass(dir.path())?;
    std::fs::write(
        dir.path().join("lib.c"),
        "int kept = 1; void change(int *p) { *p = 7; kept = 8; }\n",
    )?;
    std::fs::write(
        dir.path().join("use.c"),
        "#include <stillframe/inproc.h>\nextern int kept; void change(int *); int n = 5;\n\
         int main(void) { if (still_checkpoint() == STILL_ROLLED_BACK) return n == 5 && kept == 1 ? 0 : 1;\n\
         change(&n); still_rollback(1); }\n",
    )?;
    for options in [&[][..], &["--threads"], &["--hooks"], &["--undo-log"]] {
        let cc = |words: &[&str]| {
            let mut all = vec!["cc"];
            all.extend(options);
            all.extend(words);
            good(dir.path(), &all)
        };
        cc(&["-O2", "-fPIC", "-shared", "lib.c", "-o", "libchange.so"])?;
        cc(&[
            "-O2",
            "use.c",
            "-L.",
            "-lchange",
            "-Wl,-rpath,$ORIGIN",
            "-o",
            "use",
        ])?;
        let status = Command::new(dir.path().join("use")).status()?;
        ensure!(status.success(), "{options:?}: {status}");
        let seen = still(dir.path(), &["inproc", "audit", "use"])?;
        let said = String::from_utf8_lossy(&seen.stdout).into_owned();
        ensure!(!said.contains("libchange"), "{options:?}: {said}");
    }
    passed("")
}

const RUST: &str = r#"
use stillframe_inproc::{Outcome, Reason, checkpoint, depth, figures, rollback};
use std::collections::{BTreeMap, HashMap};

fn main() {
    std::panic::set_hook(Box::new(|_| {}));
    let mut map: HashMap<u64, String> = HashMap::new();
    let mut tree: BTreeMap<u64, Vec<u64>> = BTreeMap::new();
    let mut seed = 88172645463325252u64;
    let mut back = 0;
    for round in 0..3000u64 {
        seed ^= seed << 13;
        seed ^= seed >> 7;
        seed ^= seed << 17;
        let (was, forest) = (map.clone(), tree.clone());
        let r = seed;
        let outcome = checkpoint(|| {
            for i in 0..r % 7 {
                map.insert((r >> i) % 500, format!("{round} {i}"));
                tree.entry(r >> (i + 3) & 63).or_default().push(i);
                if (r >> 40) % 3 == 0 {
                    map.remove(&((r >> 9) % 500));
                }
            }
            let inner = checkpoint(|| {
                tree.clear();
                map.shrink_to_fit();
                if r % 2 == 0 {
                    rollback(5)
                }
                assert_eq!(depth(), 2);
                tree.len()
            });
            match inner {
                Outcome::Committed(n) => assert_eq!((n, tree.len()), (0, 0)),
                Outcome::RolledBack(why) => assert_eq!(why, Reason::Asked(5)),
                Outcome::Refused(why) => panic!("{why:?}"),
            }
            match r % 5 {
                0 => rollback(-3),
                1 => panic!("on purpose"),
                2 => {
                    let v: Vec<u64> = Vec::new();
                    v[r as usize]
                }
                _ => r,
            }
        });
        match outcome {
            Outcome::Committed(value) => assert_eq!(value, r),
            Outcome::RolledBack(why) => {
                assert_eq!(why, if r % 5 == 0 { Reason::Asked(-3) } else { Reason::Panicked });
                assert_eq!((&map, &tree), (&was, &forest), "round {round}");
                back += 1;
            }
            Outcome::Refused(why) => {
                println!("refused: {why:?}");
                return;
            }
        }
    }
    assert!(figures().rollbacks >= back && back > 500);
    println!("{back} rolled back");
}
"#;

fn rust(_: &Length) -> Result<Outcome> {
    let dir = tempfile::tempdir()?;
    let cargo = std::env::var_os("CARGO").unwrap_or_else(|| "cargo".into());
    if !Command::new(&cargo)
        .arg("--version")
        .output()
        .is_ok_and(|o| o.status.success())
    {
        return skip("no cargo");
    }
    std::fs::create_dir(dir.path().join("src"))?;
    std::fs::write(dir.path().join("src/main.rs"), RUST)?;
    std::fs::write(
        dir.path().join("Cargo.toml"),
        format!(
            "[package]\nname = \"tries\"\nversion = \"0.0.0\"\nedition = \"2024\"\n[dependencies]\n\
             stillframe-inproc = {{ path = {:?} }}\n[workspace]\n",
            place::workspace().canonicalize()?.join("crates/inproc")
        ),
    )?;
    let flags = good(dir.path(), &["inproc", "rustflags", "--encoded"])?;
    let host = "x86_64-unknown-linux-gnu";
    let build = |flags: &str| -> Result<String> {
        let output = Command::new(&cargo)
            .current_dir(dir.path())
            .args(["build", "--offline", "--quiet", "--target", host])
            .env("CARGO_ENCODED_RUSTFLAGS", flags)
            .env("CARGO_TARGET_DIR", dir.path().join("target"))
            .output()?;
        ensure!(
            output.status.success(),
            "{}",
            String::from_utf8_lossy(&output.stderr)
        );
        let output =
            Command::new(dir.path().join("target").join(host).join("debug/tries")).output()?;
        ensure!(
            output.status.success(),
            "{}: {}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
        Ok(String::from_utf8_lossy(&output.stdout).trim().to_owned())
    };
    let said = build(&flags)?;
    ensure!(said.ends_with("rolled back"), "{said}");
    let plain = build("")?;
    ensure!(
        plain == "refused: NotInstrumented",
        "without the flags: {plain}"
    );
    passed(said)
}

/// Under valgrind there is no room for tags: the undo log runs, the other builds say why they do not.
/// Its own `malloc` would take blocks away that a rollback needs, so it is told to leave ours.
fn valgrind(length: &Length) -> Result<Outcome> {
    let memcheck = |program: &Path, words: &[&str]| {
        Command::new("valgrind")
            .args(["-q", "--error-exitcode=99"])
            .arg("--soname-synonyms=somalloc=nouserintercepts")
            .arg(program)
            .args(words)
            .output()
    };
    if memcheck(Path::new("/bin/true"), &[]).is_err() {
        return skip("no valgrind");
    }
    if no_compiler() {
        return skip("no C compiler");
    }
    let dir = tempfile::tempdir()?;
    let tests = place::workspace().join("crates/instrument/tests");
    let made = Command::new("cc")
        .args(["-O1", "-fno-builtin", "-w", "-c", "-o"])
        .arg(dir.path().join("model.o"))
        .arg(tests.join("model.c"))
        .status()?;
    ensure!(made.success(), "the model does not compile");
    let source = tests.join("property.c").display().to_string();
    for (options, program) in [(&["--undo-log"][..], "logged"), (&[], "tagged")] {
        let mut words = vec!["cc"];
        words.extend(options);
        // Valgrind's reader gives up on debug information that is younger than it.
        words.extend(["-O2", "-w", "-s", &source, "model.o", "-o", program]);
        good(dir.path(), &words)?;
    }
    let steps = if length.full { "150" } else { "30" };
    for seed in ["1", "2"] {
        let output = memcheck(&dir.path().join("logged"), &[seed, steps])?;
        let said = String::from_utf8_lossy(&output.stdout);
        ensure!(
            output.status.success() && said.contains("rolled back"),
            "seed {seed}: {}: {said}{}",
            output.status,
            String::from_utf8_lossy(&output.stderr)
        );
    }
    let output = memcheck(&dir.path().join("tagged"), &["1", steps])?;
    ensure!(
        String::from_utf8_lossy(&output.stderr).contains("no addresses for the tags"),
        "a program with tags does not say why it cannot run: {}",
        output.status
    );
    passed(format!("2 x {steps} steps"))
}

fn sqlite(length: &Length) -> Result<Outcome> {
    let Some(amalgamation) = place::made("sqlite3.c") else {
        return skip(format!("no sqlite3.c: {}", place::HOW_MADE));
    };
    if no_compiler() {
        return skip("no C compiler");
    }
    let dir = tempfile::tempdir()?;
    let pass = with_pass(dir.path())?;
    let bench = place::workspace().join("crates/instrument/bench");
    let include = format!(
        "-I{}",
        amalgamation.parent().unwrap_or(Path::new(".")).display()
    );
    let program = bench.join("sqlite.c").display().to_string();
    let amalgamation = amalgamation.display().to_string();
    let options = [
        "-O1",
        "-w",
        "-DSQLITE_THREADSAFE=0",
        "-DSQLITE_OMIT_LOAD_EXTENSION",
        &include,
        &program,
        &amalgamation,
        "-lm",
    ];
    let plain = Command::new("clang")
        .arg("--version")
        .output()
        .map_or("gcc", |_| "clang");
    let made = Command::new(plain)
        .current_dir(dir.path())
        .args(options)
        .args(["-o", "plain"])
        .status()?;
    ensure!(made.success(), "sqlite without checkpoints");
    let mut words = vec!["cc", "-DSTILL"];
    words.extend(options);
    words.extend(["-o", "tries"]);
    good(dir.path(), &words)?;
    let statements = if length.full { "20000" } else { "3000" };
    let mut rolled = 0;
    for seed in ["1", "2", "3"] {
        let answers = |name: &str| -> Result<String> {
            let output = Command::new(dir.path().join(name))
                .args(["answers", seed, statements])
                .output()?;
            ensure!(
                output.status.success(),
                "{name}: {}: {}",
                output.status,
                String::from_utf8_lossy(&output.stderr)
            );
            Ok(String::from_utf8_lossy(&output.stdout).into_owned())
        };
        let (expected, found) = (answers("plain")?, answers("tries")?);
        let differs = expected
            .lines()
            .zip(found.lines())
            .position(|(a, b)| a != b);
        ensure!(
            differs.is_none() && expected == found,
            "seed {seed}: answers differ from line {differs:?} on"
        );
        let last = found.lines().last().unwrap_or_default();
        let count = last.split(", ").nth(1).and_then(|t| t.split(' ').next());
        rolled += count
            .and_then(|c| c.parse::<u32>().ok())
            .context("no count")?;
        ensure!(last.starts_with("ok, "), "integrity: {last}");
    }
    ensure!(rolled > 50, "only {rolled} rolled back");
    passed(format!(
        "{rolled} of 3 x {statements} statements rolled back, pass: {pass}"
    ))
}

/// One checkpoint per request; one request in a hundred is done, rolled back, and done again.
const REDIS: &str = r#"#include <stillframe/inproc.h>
static unsigned long still_draw = 88172645463325252ul, still_count[2];
static int still_processCommand(client *c) {
    still_draw ^= still_draw << 13;
    still_draw ^= still_draw >> 7;
    still_draw ^= still_draw << 17;
    int fails = still_draw % 100 == 0;
    still_count[fails]++;
    int taken = still_checkpoint();
    if (taken == STILL_REFUSED) abort();
    int result = processCommand(c);
    if (taken == STILL_TAKEN) {
        if (fails) still_rollback(1);
        still_commit();
    }
    return result;
}
__attribute__((destructor)) static void still_told(void) {
    printf("requests %lu, rolled back and done again %lu\n", still_count[0] + still_count[1],
           still_count[1]);
}
int processCommandAndResetClient(client *c) {"#;

struct Client {
    input: BufReader<TcpStream>,
}

impl Client {
    fn ask(&mut self, words: &[&str]) -> Result<String> {
        let mut request = format!("*{}\r\n", words.len());
        for word in words {
            request.push_str(&format!("${}\r\n{word}\r\n", word.len()));
        }
        self.input.get_mut().write_all(request.as_bytes())?;
        self.answer()
    }

    fn answer(&mut self) -> Result<String> {
        let mut line = String::new();
        self.input.read_line(&mut line)?;
        let line = line.trim_end();
        match line.split_at_checked(1).context("no answer")? {
            ("$", "-1") => Ok("nil".to_owned()),
            ("$", n) => {
                let mut bytes = vec![0; n.parse::<usize>()? + 2];
                self.input.read_exact(&mut bytes)?;
                bytes.truncate(bytes.len() - 2);
                Ok(String::from_utf8(bytes)?)
            }
            ("*", n) => {
                let parts: Result<Vec<String>> =
                    (0..n.parse::<usize>()?).map(|_| self.answer()).collect();
                Ok(parts?.join(" "))
            }
            (_, rest) => Ok(rest.to_owned()),
        }
    }
}

fn redis(length: &Length) -> Result<Outcome> {
    let Some(sources) = place::made("redis-src") else {
        return skip(format!("no redis-src: {}", place::HOW_MADE));
    };
    if no_compiler() || Command::new("make").arg("--version").output().is_err() {
        return skip("no C compiler or make");
    }
    let dir = tempfile::tempdir()?;
    let pass = with_pass(dir.path())?;
    let tree = dir.path().join("redis");
    let copied = Command::new("cp")
        .arg("-a")
        .arg(&sources)
        .arg(&tree)
        .status()?;
    ensure!(copied.success(), "copying redis");
    let file = tree.join("src/networking.c");
    let text = std::fs::read_to_string(&file)?;
    let patched = text
        .replacen(
            "if (processCommand(c) == C_OK) {\n        commandProcessed(c);",
            "if (still_processCommand(c) == C_OK) {\n        commandProcessed(c);",
            1,
        )
        .replacen("int processCommandAndResetClient(client *c) {", REDIS, 1);
    ensure!(
        patched.matches("still_processCommand").count() == 2,
        "this redis is not the one that is known"
    );
    std::fs::write(&file, patched)?;
    let log = std::fs::File::create(dir.path().join("make.log"))?;
    let made = Command::new("make")
        .current_dir(&tree)
        .args([
            "-s",
            "-j2",
            "MALLOC=libc",
            "USE_SYSTEMD=no",
            "OPTIMIZATION=-O1",
            "DEBUG=",
        ])
        .arg(format!("CC={} cc --threads", place::still()?.display()))
        .arg("redis-server")
        .stdout(log.try_clone()?)
        .stderr(log)
        .status()?;
    if !made.success() {
        let said = std::fs::read_to_string(dir.path().join("make.log"))?;
        anyhow::bail!(
            "redis does not build: {}",
            said.lines().rev().take(5).collect::<Vec<_>>().join(" | ")
        );
    }
    let port = {
        let listener = std::net::TcpListener::bind("127.0.0.1:0")?;
        listener.local_addr()?.port()
    };
    let port_text = port.to_string();
    let words = [
        "--port",
        &port_text,
        "--bind",
        "127.0.0.1",
        "--save",
        "",
        "--appendonly",
        "no",
    ];
    let mut server = Running::start(
        &mut command(tree.join("src/redis-server"), &words),
        dir.path(),
    )?;
    let mut stream = None;
    wait_for("redis to listen", || {
        stream = TcpStream::connect(("127.0.0.1", port)).ok();
        stream.is_some()
    })?;
    let stream = stream.context("no connection")?;
    stream.set_read_timeout(Some(PATIENCE))?;
    let mut client = Client {
        input: BufReader::new(stream),
    };
    let requests = if length.full { 200_000 } else { 20_000 };
    play(&mut client, requests)?;
    server.signal(Signal::TERM)?;
    drop(client);
    server.wait(PATIENCE)?;
    let said = server.stdout();
    let told = said
        .lines()
        .find(|l| l.starts_with("requests "))
        .context("redis did not end well")?;
    let again: u64 = told
        .rsplit(' ')
        .next()
        .and_then(|n| n.parse().ok())
        .context("no count")?;
    ensure!(again > requests / 200, "{told}");
    passed(format!("{told}, pass: {pass}"))
}

/// Requests against a model of what redis answers.
fn play(client: &mut Client, requests: u64) -> Result<()> {
    let mut random = Random::new(7);
    let mut values: BTreeMap<String, String> = BTreeMap::new();
    let mut numbers: BTreeMap<String, i64> = BTreeMap::new();
    let mut lists: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for i in 0..requests {
        let r = random.roll();
        let key = r >> 8 & 511;
        let (words, expected): (Vec<String>, String) = match r % 8 {
            0 | 1 => {
                let (key, value) = (
                    format!("v{key}"),
                    "x".repeat((r >> 20 & 1023) as usize) + &i.to_string(),
                );
                values.insert(key.clone(), value.clone());
                (vec!["SET".into(), key, value], "OK".into())
            }
            2 | 3 => {
                let key = format!("v{key}");
                let expected = values.get(&key).cloned().unwrap_or_else(|| "nil".into());
                (vec!["GET".into(), key], expected)
            }
            4 => {
                let key = format!("n{key}");
                let n = numbers.entry(key.clone()).or_default();
                *n += 1;
                (vec!["INCR".into(), key], n.to_string())
            }
            5 => {
                let key = format!("l{}", key & 15);
                let list = lists.entry(key.clone()).or_default();
                list.push(i.to_string());
                (
                    vec!["RPUSH".into(), key, i.to_string()],
                    list.len().to_string(),
                )
            }
            6 => {
                let key = format!("l{}", key & 15);
                let list = lists.get(&key).cloned().unwrap_or_default();
                let from = list.len().saturating_sub(5);
                (
                    vec!["LRANGE".into(), key, "-5".into(), "-1".into()],
                    list[from..].join(" "),
                )
            }
            _ => {
                let key = format!("v{key}");
                let there = values.remove(&key).is_some();
                (vec!["DEL".into(), key], u8::from(there).to_string())
            }
        };
        let words: Vec<&str> = words.iter().map(String::as_str).collect();
        let answer = client.ask(&words)?;
        ensure!(
            answer == expected,
            "request {i}, {}: {answer} instead of {expected}",
            words.join(" ")
        );
    }
    Ok(())
}
