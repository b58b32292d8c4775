//! Questions about the past of real programs: redis, sqlite3, python3, a service in Rust.
//!
//! Each has a number that only grows, and somebody outside who knows when: a client that notes the
//! time before it asks for a change and after it was told of it. So every checkpoint has bounds for
//! what the number was, and they are narrow. `crates/e2e/programs.sh` makes the programs with their
//! debug information; without them these scenarios skip.

use crate::process::{PATIENCE, Running, command, wait_for};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use serde_json::Value;
use std::ffi::OsString;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, SystemTime, UNIX_EPOCH};

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "past::redis",
        about: "server.stat_numcommands of redis-server is what its client did",
        run: redis,
    },
    Scenario {
        name: "past::sqlite",
        about: "the connection's count of changes in sqlite3 is what was inserted",
        run: sqlite,
    },
    Scenario {
        name: "past::python",
        about: "when a counter of a Python program passed a value, through the C structures of CPython",
        run: python,
    },
    Scenario {
        name: "past::rust",
        about: "the state of a service in Rust, behind a mutex, is what its client did",
        run: rust,
    },
];

fn wall() -> u64 {
    SystemTime::now()
        .duration_since(UNIX_EPOCH)
        .map_or(0, |t| t.as_nanos() as u64)
}

/// The number was made `value` at some time from `before` to `after`.
#[derive(Clone, Copy, Debug)]
struct Event {
    before: u64,
    after: u64,
    value: u64,
}

/// Makes a change, and notes when.
fn noted(events: &mut Vec<Event>, value: u64, change: impl FnOnce() -> Result<()>) -> Result<()> {
    let before = wall();
    change()?;
    let after = wall();
    events.push(Event {
        before,
        after,
        value,
    });
    // So that there are several checkpoints to a change, and changes without a checkpoint between.
    if value.is_multiple_of(3) {
        std::thread::sleep(Duration::from_millis(4));
    }
    Ok(())
}

/// A recording, and what was changed meanwhile.
struct Told<'a> {
    dir: &'a Path,
    recording: PathBuf,
    events: Vec<Event>,
    options: Vec<OsString>,
}

impl Told<'_> {
    fn ask(&self, command: &str, more: &[&str], text: &str) -> Result<Vec<Value>> {
        let mut args: Vec<OsString> = vec![command.into(), (&self.recording).into()];
        args.push("--json".into());
        args.extend(self.options.iter().cloned());
        args.extend(more.iter().map(OsString::from));
        args.extend(["--".into(), text.into()]);
        let (status, out, err) = still::run(self.dir, &args)?;
        ensure!(
            status.success(),
            "{command} {text}: {status}: {}",
            still::tail(&err)
        );
        out.lines().map(|l| Ok(serde_json::from_str(l)?)).collect()
    }

    /// Holds the history of a number to what was done, and the moment at which it passed a value.
    fn check(&self, expression: &str) -> Result<String> {
        let opened = still::open(&self.recording)?;
        let lines = self.ask("history", &[], expression)?;
        let mut changes = Vec::new();
        for line in &lines {
            let at = line["checkpoint"].as_u64().context("no checkpoint")?;
            let value = line["new"]["number"]
                .as_u64()
                .with_context(|| format!("{expression} is no number: {line}"))?;
            changes.push((at, value));
        }
        let mut rest = changes.iter().peekable();
        let mut now = 0;
        let mut narrow = 0usize;
        for row in opened.rows() {
            while let Some((_, value)) = rest.next_if(|c| c.0 <= row.id.0) {
                ensure!(
                    *value >= now,
                    "checkpoint {}: {expression} went back from {now} to {value}",
                    row.id
                );
                now = *value;
            }
            let wall = row.tick.wall_ns;
            let most = |done: &dyn Fn(&Event) -> bool| {
                self.events
                    .iter()
                    .filter(|e| done(e))
                    .map(|e| e.value)
                    .max()
                    .unwrap_or(0)
            };
            let (low, high) = (most(&|e| e.after <= wall), most(&|e| e.before <= wall));
            ensure!(
                (low..=high).contains(&now),
                "checkpoint {}: {expression} is {now}, and was {low} to {high}",
                row.id
            );
            narrow += usize::from(low == high);
        }
        ensure!(rest.peek().is_none(), "a change beyond the end");
        let all = self.events.iter().map(|e| e.value).max().unwrap_or(0);
        ensure!(
            now == all && changes.len() > 20,
            "{expression} ends with {now} of {all} after {} changes",
            changes.len()
        );
        let limit = all / 2;
        let passed = changes
            .iter()
            .find(|c| c.1 > limit)
            .context("it was passed")?;
        for how in [&[][..], &["--bisect"]] {
            let found = self.ask("find", how, &format!("{expression} > {limit}"))?;
            ensure!(
                found.len() == 1 && found[0]["checkpoint"].as_u64() == Some(passed.0),
                "{expression} > {limit} {how:?}: {found:?} instead of checkpoint {}",
                passed.0
            );
        }
        Ok(format!(
            "checkpoints {}, changes {}, exactly known at {narrow}",
            opened.rows().len(),
            changes.len() - 1
        ))
    }

    /// What `diff` says of a number that grew is what `history` says.
    fn difference(&self, expression: &str) -> Result<()> {
        let lines = self.ask("history", &[], expression)?;
        let mut changes = Vec::new();
        for line in &lines {
            let at = line["checkpoint"].as_u64().context("no checkpoint")?;
            changes.push((at, line["new"]["number"].to_string()));
        }
        let (a, b) = (changes.len() / 3, changes.len() / 3 * 2);
        let (a, b) = changes.get(a).zip(changes.get(b)).context("no changes")?;
        let json = super::diff::diff(self.dir, &self.recording, (a.0, b.0), &["--json"])?;
        let told = super::diff::told(&serde_json::from_str(&json)?)?;
        let (_, old, new) = told
            .get(expression)
            .with_context(|| format!("{expression} is not among {:?}", told.keys()))?;
        ensure!(
            (old, new) == (&a.1, &b.1),
            "{expression}: diff says {old} -> {new}, history {} -> {}",
            a.1,
            b.1
        );
        Ok(())
    }

    /// The stacks of the last checkpoint name these functions.
    fn stacks(&self, names: &[&str]) -> Result<()> {
        let mut args: Vec<OsString> = vec!["show".into(), still::moment(&self.recording, "last")];
        args.push("--bt".into());
        args.extend(self.options.iter().cloned());
        let (status, out, err) = still::run(self.dir, &args)?;
        ensure!(
            status.success(),
            "show --bt: {status}: {}",
            still::tail(&err)
        );
        for name in names {
            ensure!(out.contains(name), "no {name} in the stacks: {out}");
        }
        Ok(())
    }
}

/// Records `pid` while `work` is done.
fn recorded<'a>(
    dir: &'a Path,
    pid: u32,
    work: impl FnOnce(&mut Vec<Event>) -> Result<()>,
) -> Result<Told<'a>> {
    let recording = still::fresh(dir, "run.still");
    let mut recorder = still::attach(dir, &["--hz", "500"], &recording, pid)?;
    wait_for("the first checkpoint", || {
        stillframe_store::Recording::open(&recording).is_ok_and(|r| !r.rows().is_empty())
    })?;
    let mut events = Vec::new();
    work(&mut events)?;
    // The end of it is seen by some checkpoint.
    std::thread::sleep(Duration::from_millis(100));
    recorder.signal(Signal::INT)?;
    still::ended_with(&mut recorder, 0, PATIENCE)?;
    Ok(Told {
        dir,
        recording,
        events,
        options: Vec::new(),
    })
}

/// A client of a service with a line to each answer.
struct Client {
    out: TcpStream,
    lines: std::io::Lines<BufReader<TcpStream>>,
}

impl Client {
    fn to(port: u16) -> Result<Self> {
        let out = TcpStream::connect(("127.0.0.1", port))?;
        out.set_read_timeout(Some(PATIENCE))?;
        out.set_nodelay(true)?;
        let lines = BufReader::new(out.try_clone()?).lines();
        Ok(Self { out, lines })
    }

    fn ask(&mut self, request: &str) -> Result<String> {
        self.out.write_all(request.as_bytes())?;
        Ok(self.lines.next().context("the service hung up")??)
    }
}

fn count(length: &Length) -> u64 {
    if length.full { 5000 } else { 300 }
}

fn redis(length: &Length) -> Result<Outcome> {
    let Some(exe) = place::made("redis-server") else {
        return skip(format!(
            "no redis-server with debug information; {}",
            place::HOW_MADE
        ));
    };
    let dir = place::scratch()?;
    let port = place::free_port()?;
    let mut c = command(exe, &["--bind", "127.0.0.1", "--save", "", "--port"]);
    c.arg(port.to_string()).arg("--dir").arg(dir.path());
    let mut server = Running::start(&mut c, dir.path())?;
    wait_for("redis-server listens", || {
        TcpStream::connect(("127.0.0.1", port)).is_ok()
    })?;
    let mut client = Client::to(port)?;
    let told = recorded(dir.path(), server.pid(), |events| {
        for i in 1..=count(length) {
            noted(events, i, || {
                let reply = client.ask(&format!("SET key:{i} value-{i}\r\n"))?;
                ensure!(reply == "+OK", "redis-server says {reply}");
                Ok(())
            })?;
        }
        Ok(())
    })?;
    server.signal(Signal::TERM)?;
    server.wait(PATIENCE)?;
    let figures = told.check("server.stat_numcommands")?;
    // Each command made a key.
    let keys = told.ask(
        "history",
        &[],
        "server.db[0].dict->ht_used[0] + server.db[0].dict->ht_used[1]",
    )?;
    let last = keys.last().and_then(|l| l["new"]["number"].as_u64());
    ensure!(last == Some(count(length)), "{last:?} keys at last");
    told.stacks(&["aeMain", "main"])?;
    told.difference("server.stat_numcommands")?;
    passed(figures)
}

/// A child with pipes, that ends with its handle.
struct Piped(Child);

impl Drop for Piped {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

fn sqlite(length: &Length) -> Result<Outcome> {
    let Some(exe) = place::made("sqlite3") else {
        return skip(format!(
            "no sqlite3 with debug information; {}",
            place::HOW_MADE
        ));
    };
    let Some(stdbuf) = place::program("stdbuf") else {
        return skip("no stdbuf on this machine");
    };
    let dir = place::scratch()?;
    // It writes its answers when a block of them is full, unless told otherwise.
    let mut shell = Piped(
        Command::new(stdbuf)
            .arg("-oL")
            .arg(exe)
            .args(["-batch", ":memory:"])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()?,
    );
    let pid = shell.0.id();
    let mut input = shell.0.stdin.take().context("no stdin")?;
    let output = shell.0.stdout.take().context("no stdout")?;
    let mut lines = BufReader::new(output).lines();
    let mut ask = |text: &str| -> Result<String> {
        writeln!(input, "{text}")?;
        input.flush()?;
        Ok(lines.next().context("sqlite3 ended")??)
    };
    ask("create table t(a integer primary key, b text); create index i on t(b); select 'begun';")?;
    let told = recorded(dir.path(), pid, |events| {
        for i in 1..=count(length) {
            noted(events, i, || {
                let said = ask(&format!(
                    "insert into t(b) values('row {i}'); select total_changes();"
                ))?;
                ensure!(said == i.to_string(), "sqlite3 says {said} after {i}");
                Ok(())
            })?;
        }
        Ok(())
    })?;
    drop(shell);
    // shell.c knows the structure only by name; its members come from the unit that defines it.
    told.check("((struct sqlite3 *)globalDb)->nTotalChange")?;
    let figures = told.check("globalDb->nTotalChange")?;
    told.stacks(&["main", "process_input"])?;
    passed(figures)
}

fn python(_: &Length) -> Result<Outcome> {
    let Some(home) = place::made("python/usr") else {
        return skip(format!(
            "no python3 with debug information; {}",
            place::HOW_MADE
        ));
    };
    let dir = place::scratch()?;
    let log = dir.path().join("counter.log");
    let mut c = command(home.join("bin/python3"), &[place::script("counter.py")]);
    c.arg(&log).env("PYTHONHOME", &home);
    let mut target = Running::start(&mut c, dir.path())?;
    let pid = target.ready()?;
    let mut told = recorded(dir.path(), pid, |_| {
        std::thread::sleep(Duration::from_millis(1500));
        // From here on it stands still, so that the last checkpoints show the last value.
        target.signal(Signal::TERM)?;
        wait_for("the counter stops", || target.stdout().contains("\nok "))
    })?;
    for line in std::fs::read_to_string(&log)?.lines() {
        let numbers: Vec<u64> = line.split(' ').filter_map(|w| w.parse().ok()).collect();
        let [before, after, value] = numbers[..] else {
            anyhow::bail!("no line of a log: {line}");
        };
        told.events.push(Event {
            before,
            after,
            value,
        });
    }
    told.options = vec!["--debug-dir".into(), home.join("lib/debug").into()];
    let list = target.address("box")?;
    let figures = told.check(&format!(
        "((PyLongObject *)((PyListObject *){list:#x})->ob_item[0])->ob_digit[0]"
    ))?;
    passed(figures)
}

fn rust(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("service.rs")?;
    let mut server = Running::start(&mut command::<&str>(exe, &[]), dir.path())?;
    let pid = server.ready()?;
    let text = server.stdout();
    let port = text
        .lines()
        .find_map(|l| l.strip_prefix("port "))
        .and_then(|p| p.parse().ok())
        .context("the service said no port")?;
    let mut client = Client::to(port)?;
    let told = recorded(dir.path(), pid, |events| {
        for i in 1..=count(length) {
            noted(events, i, || {
                let reply = client.ask(&format!("add account-{} 1\n", i % 40))?;
                ensure!(reply == i.to_string(), "the service says {reply} after {i}");
                Ok(())
            })?;
        }
        Ok(())
    })?;
    server.signal(Signal::KILL)?;
    server.wait(PATIENCE)?;
    told.check("STATE.data.value.total")?;
    let figures = told.check("SERVED.v.value")?;
    told.stacks(&["service::main", "service::serve"])?;
    passed(figures)
}
