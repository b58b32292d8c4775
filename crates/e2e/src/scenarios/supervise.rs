//! Servers that stay up although requests crash them.

use crate::process::{self, PATIENCE, Running, wait_for};
use crate::{Length, Outcome, Scenario, passed, place, still};
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::Signal;
use std::io::{Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::time::{Duration, Instant};
use stillframe_image::Marks;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "supervise::http",
        about: "an HTTP server under load loses the requests that crash it and no other",
        run: http,
    },
    Scenario {
        name: "supervise::error_return",
        about: "a connection that lasts is broken when it brings a crash, the server goes on",
        run: error_return,
    },
    Scenario {
        name: "supervise::late",
        about: "the fault is in the newest checkpoints already: further back",
        run: late,
    },
    Scenario {
        name: "supervise::gives_up",
        about: "a fault that always comes again ends the program, and all is kept",
        run: gives_up,
    },
    Scenario {
        name: "supervise::hang",
        about: "a server that hangs is found by the health command and taken back",
        run: hang,
    },
];

/// The server under `still supervise`.
struct Served {
    run: Running,
    port: u16,
    metrics: PathBuf,
    log: PathBuf,
    rec: PathBuf,
}

impl Served {
    fn start(dir: &Path, options: &[&str]) -> Result<Self> {
        let port = place::free_port()?;
        let (metrics, log) = (dir.join("metrics.prom"), dir.join("events.log"));
        let rec = still::fresh(dir, "served.still");
        let mut c = still::still(&["supervise", "--hz", "50", "--json"])?;
        c.args(options).arg("--metrics").arg(&metrics);
        c.arg("--log").arg(&log).arg("-o").arg(&rec).arg("--");
        c.arg(place::target("http_crash.c")?);
        c.args(["--port", &port.to_string()]);
        let mut run = Running::start(&mut c, dir)?;
        run.ready()?;
        Ok(Self {
            run,
            port,
            metrics,
            log,
            rec,
        })
    }

    /// A figure of the metrics.
    fn figure(&self, name: &str) -> Result<f64> {
        let text = std::fs::read_to_string(&self.metrics)?;
        let line = text
            .lines()
            .find_map(|l| l.strip_prefix(&format!("still_supervise_{name} ")));
        Ok(line
            .with_context(|| format!("no {name} in {text}"))?
            .parse()?)
    }

    fn end(mut self, dir: &Path) -> Result<()> {
        if let Some(status) = self.run.ended()? {
            bail!(
                "it ended: {status}: {} {}",
                self.run.stdout(),
                still::tail(&self.run.stderr())
            );
        }
        self.run.signal(Signal::TERM)?;
        still::ended_with(&mut self.run, 0, PATIENCE)?;
        still::verify(dir, &self.rec)
    }
}

fn mix(x: u64) -> u64 {
    let x = x.wrapping_add(0x9e37_79b9_7f4a_7c15);
    let x = (x ^ (x >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
    let x = (x ^ (x >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
    x ^ (x >> 31)
}

/// One request on a connection of its own; the body, or why there is none.
fn get(port: u16, path: &str) -> Result<String> {
    let mut stream = TcpStream::connect(("127.0.0.1", port))?;
    stream.set_read_timeout(Some(Duration::from_secs(30)))?;
    write!(stream, "GET /{path} HTTP/1.1\r\nConnection: close\r\n\r\n")?;
    let mut text = String::new();
    stream.read_to_string(&mut text)?;
    let (head, body) = text.split_once("\r\n\r\n").context("no answer")?;
    ensure!(head.starts_with("HTTP/1.1 200"), "{head}");
    Ok(body.to_owned())
}

fn right(port: u16, number: u64) -> Result<()> {
    let body = get(port, &number.to_string()).with_context(|| format!("request {number}"))?;
    ensure!(
        body == format!("{:016x}", mix(number)),
        "request {number}: {body}"
    );
    Ok(())
}

fn http(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let served = Served::start(dir.path(), &["--on-error-return"])?;
    let port = served.port;
    let crashes = if length.full { 1000 } else { 20 };
    let stop = AtomicBool::new(false);
    let good = AtomicU64::new(0);
    let longest = AtomicU64::new(0);
    let failed = std::thread::scope(|scope| -> Result<()> {
        let loaders: Vec<_> = (0..2u64)
            .map(|who| {
                let (stop, good, longest) = (&stop, &good, &longest);
                scope.spawn(move || -> Result<()> {
                    let mut number = who << 32;
                    while !stop.load(Ordering::Relaxed) {
                        let begun = Instant::now();
                        right(port, number)?;
                        let us = u64::try_from(begun.elapsed().as_micros())?;
                        longest.fetch_max(us, Ordering::Relaxed);
                        good.fetch_add(1, Ordering::Relaxed);
                        number += 1;
                        std::thread::sleep(Duration::from_micros(500));
                    }
                    Ok(())
                })
            })
            .collect();
        let crash = || -> Result<()> {
            for n in 0..crashes {
                std::thread::sleep(Duration::from_millis(120));
                let path = if n % 4 == 3 { "abort" } else { "crash" };
                ensure!(
                    get(port, path).is_err(),
                    "a request that crashes was answered"
                );
                wait_for("it is back", || {
                    served
                        .figure("rollbacks_total")
                        .is_ok_and(|b| b >= (n + 1) as f64)
                })?;
                if loaders.iter().any(|l| l.is_finished()) {
                    break;
                }
            }
            Ok(())
        };
        let crashed = crash();
        stop.store(true, Ordering::Relaxed);
        for loader in loaders {
            match loader.join() {
                Ok(result) => result.context("a request that is none of those that crash")?,
                Err(_) => bail!("a loader panicked"),
            }
        }
        crashed
    });
    failed.with_context(|| {
        format!(
            "after {} good requests; {}",
            good.load(Ordering::Relaxed),
            still::tail(&served.run.stderr())
        )
    })?;
    ensure!(
        served.figure("crashes_total")? as u64 >= crashes,
        "not all crashed"
    );
    ensure!(served.figure("gave_up_total")? == 0.0, "it gave up");
    let count = served.figure("rollbacks_total")?;
    let mean = served.figure("recovery_seconds_total")? / count * 1e3;
    let most = served.figure("recovery_seconds_max")? * 1e3;
    let log = std::fs::read_to_string(&served.log)?;
    let mut took = times_back(&log)?;
    ensure!(
        took.len() as f64 == count,
        "the log tells another story: {log}"
    );
    took.sort_by(f64::total_cmp);
    let at = |percent: usize| took[(took.len() - 1) * percent / 100];
    served.end(dir.path())?;
    passed(format!(
        "crashes {crashes} rollbacks {count} other requests {} none lost; fault to service ms mean \
         {mean:.1} p50 {:.1} p99 {:.1} max {most:.1}; longest request ms {:.1}",
        good.load(Ordering::Relaxed),
        at(50),
        at(99),
        longest.load(Ordering::Relaxed) as f64 / 1e3
    ))
}

/// How long each way back took, from fault to service, as the log has it: milliseconds.
fn times_back(log: &str) -> Result<Vec<f64>> {
    let mut all = Vec::new();
    for line in log.lines() {
        let event: serde_json::Value = serde_json::from_str(line)?;
        if event["event"] == "back" {
            let ms = event["took_ms"].as_f64();
            all.push(ms.with_context(|| format!("no time: {line}"))?);
        }
    }
    Ok(all)
}

/// A request on a connection that stays.
fn ask(stream: &mut TcpStream, path: &str) -> Result<String> {
    write!(
        stream,
        "GET /{path} HTTP/1.1\r\nConnection: keep-alive\r\n\r\n"
    )?;
    let mut text = Vec::new();
    let mut chunk = [0; 512];
    loop {
        let n = stream.read(&mut chunk)?;
        ensure!(n > 0, "the connection was closed");
        text.extend(&chunk[..n]);
        let now = String::from_utf8_lossy(&text);
        if let Some((_, body)) = now.split_once("\r\n\r\n")
            && body.len() == 16
        {
            return Ok(body.to_owned());
        }
    }
}

fn error_return(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let served = Served::start(dir.path(), &["--on-error-return"])?;
    let rounds = if length.full { 100 } else { 6 };
    for round in 0..rounds {
        let mut stream = TcpStream::connect(("127.0.0.1", served.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        for n in 0..3u64 {
            ensure!(ask(&mut stream, &n.to_string())? == format!("{:016x}", mix(n)));
        }
        // Long enough that the checkpoint gone back to has this connection, its receiver waiting.
        std::thread::sleep(Duration::from_millis(150));
        ensure!(ask(&mut stream, "crash").is_err(), "it was answered");
        // Nobody else hangs for it.
        right(served.port, round).with_context(|| still::tail(&served.run.stderr()))?;
    }
    // A checkpoint can have fallen between the request's arrival and the crash: then the first way back
    // leads to the crash again, and the second further. The last one is counted once it runs again.
    wait_for("it is back", || {
        served
            .figure("rollbacks_total")
            .is_ok_and(|b| b >= rounds as f64)
    })?;
    ensure!(served.figure("gave_up_total")? == 0.0, "it gave up");
    let back = served.figure("rollbacks_total")?;
    served.end(dir.path())?;
    passed(format!("crashes {rounds} rollbacks {back}"))
}

fn late(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let served = Served::start(dir.path(), &["--on-error-return"])?;
    let rounds = if length.full { 50 } else { 4 };
    for round in 0..rounds {
        for n in 0..5 {
            right(served.port, round * 10 + n)?;
        }
        std::thread::sleep(Duration::from_millis(500));
        ensure!(get(served.port, "late").is_err(), "it was answered");
        right(served.port, round).with_context(|| still::tail(&served.run.stderr()))?;
    }
    let back = served.figure("rollbacks_total")?;
    ensure!(
        back as u64 > rounds,
        "it never had to go further back ({back})"
    );
    ensure!(served.figure("gave_up_total")? == 0.0, "it gave up");
    served.end(dir.path())?;
    passed(format!("crashes {rounds} rollbacks {back}"))
}

fn gives_up(_: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let rec = still::fresh(dir.path(), "run.still");
    let hook = dir.path().join("hook");
    let mut c = still::still(&["supervise", "--hz", "50", "--retries", "3", "-o"])?;
    c.arg(&rec);
    c.args([
        "--hook",
        &format!("echo $STILL_EVENT >> {}", hook.display()),
    ]);
    c.args(["--", "sh", "-c", "sleep 0.3; kill -SEGV $$; sleep 5"]);
    let mut run = Running::start(&mut c, dir.path())?;
    let status = run.wait(PATIENCE)?;
    let err = run.stderr();
    ensure!(
        status.code() == Some(139),
        "it ended with {status}: {}",
        still::tail(&err)
    );
    ensure!(
        err.contains("given up") && err.contains("still debug"),
        "it does not say so: {err}"
    );
    let opened = still::open(&rec)?;
    let crashes = opened
        .rows()
        .iter()
        .filter(|r| r.tick.marks.contains(Marks::CRASH))
        .count();
    ensure!(crashes == 4, "{crashes} checkpoints of crashes");
    still::verify(dir.path(), &rec)?;
    let told = std::fs::read_to_string(&hook)?;
    let count = |what: &str| told.lines().filter(|l| *l == what).count();
    ensure!(
        (count("crash"), count("back"), count("gave-up")) == (4, 3, 1),
        "the hook was told: {told}"
    );
    passed(format!("attempts {}", crashes - 1))
}

fn hang(_: &Length) -> Result<Outcome> {
    let Some(bash) = place::program("bash") else {
        return crate::skip("no bash on this machine");
    };
    let dir = place::scratch()?;
    let port = place::free_port()?;
    let rec = still::fresh(dir.path(), "run.still");
    let ask = format!(
        "{} -c 'exec 3<>/dev/tcp/127.0.0.1/{port}; printf \"GET /1 HTTP/1.0\\r\\n\\r\\n\" >&3; \
         read -t 1 -u 3 line; [[ $line == *200* ]]'",
        bash.display()
    );
    let mut c = still::still(&["supervise", "--hz", "50", "--health-every", "200ms"])?;
    c.args([
        "--health-timeout",
        "1s",
        "--health-failures",
        "1",
        "--health",
        &ask,
    ]);
    c.arg("-o")
        .arg(&rec)
        .arg("--")
        .arg(place::target("http_crash.c")?);
    c.args(["--port", &port.to_string()]);
    let mut run = Running::start(&mut c, dir.path())?;
    run.ready()?;
    right(port, 1)?;
    std::thread::sleep(Duration::from_millis(500));
    let mut hung = TcpStream::connect(("127.0.0.1", port))?;
    write!(hung, "GET /hang HTTP/1.0\r\n\r\n")?;
    std::thread::sleep(Duration::from_millis(100));
    right(port, 2).with_context(|| still::tail(&run.stderr()))?;
    ensure!(run.stderr().contains("is sick"), "{}", run.stderr());
    ensure!(run.ended()?.is_none(), "it ended");
    run.signal(Signal::TERM)?;
    still::ended_with(&mut run, 0, process::PATIENCE)?;
    passed("")
}
