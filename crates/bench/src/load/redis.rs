//! redis-server under redis-benchmark.

use super::{Load, PATIENCE};
use crate::process::{Running, file, program, tail, wait_for};
use crate::targets::Outcome;
use anyhow::{Context as _, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

/// Requests in a unit of work: a thousand of each kind.
const UNIT: u64 = 1000;

/// Why it cannot run here.
pub fn missing() -> Option<String> {
    ["redis-server", "redis-benchmark"]
        .into_iter()
        .find(|name| program(name).is_none())
        .map(|name| format!("{name} is not installed"))
}

/// The server.
#[derive(Debug)]
pub struct Redis {
    server: Running,
    benchmark: PathBuf,
    port: u16,
    log: PathBuf,
}

impl Redis {
    /// Starts it on a free port and puts 200,000 keys in.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(dir: &Path) -> Result<Self> {
        let benchmark = program("redis-benchmark").context("redis-benchmark is not installed")?;
        let server = program("redis-server").context("redis-server is not installed")?;
        let port = TcpListener::bind(("127.0.0.1", 0))?.local_addr()?.port();
        let log = dir.join("redis.log");
        let mut command = Command::new(server);
        command
            .args(["--bind", "127.0.0.1", "--appendonly", "no", "--save", ""])
            .args(["--port", &port.to_string(), "--dir"])
            .arg(dir)
            .stdin(Stdio::null())
            .stdout(file(&log)?)
            .stderr(Stdio::null());
        let mut server = Running::start(&mut command, "redis-server")?;
        wait_for("redis-server listens", Duration::from_secs(30), || {
            if let Some(status) = server.child().try_wait()? {
                bail!("redis-server ended with {status}: {}", tail(&log));
            }
            Ok(TcpStream::connect(("127.0.0.1", port)).is_ok())
        })?;
        let redis = Self {
            server,
            benchmark,
            port,
            log,
        };
        redis.load("set", 200_000)?;
        Ok(redis)
    }

    fn load(&self, kinds: &str, requests: u64) -> Result<()> {
        let out = Command::new(&self.benchmark)
            .args(["-h", "127.0.0.1", "-p", &self.port.to_string(), "-q"])
            .args(["-c", "20", "-P", "4", "-d", "100", "-r", "200000"])
            .args(["-n", &requests.to_string(), "-t", kinds])
            .stdin(Stdio::null())
            .output()
            .context("cannot start redis-benchmark")?;
        let said = String::from_utf8_lossy(&out.stdout);
        ensure!(
            out.status.success() && !said.contains("rror"),
            "redis-benchmark: {} {}",
            said.trim(),
            String::from_utf8_lossy(&out.stderr).trim()
        );
        Ok(())
    }
}

impl Load for Redis {
    fn pid(&self) -> u32 {
        self.server.pid()
    }

    fn run(&mut self, units: u64) -> Result<Outcome> {
        let begun = Instant::now();
        self.load("set,get,incr,lpush,lpop,hset", units * UNIT)?;
        Ok(Outcome {
            seconds: begun.elapsed().as_secs_f64(),
            units,
            ..Outcome::default()
        })
    }

    fn end(&mut self) -> Result<()> {
        if let Some(pid) = Pid::from_raw(self.server.pid().cast_signed()) {
            kill_process(pid, Signal::TERM)?;
        }
        let status = self.server.wait(PATIENCE)?;
        ensure!(
            status.success(),
            "redis-server ended with {status}: {}",
            tail(&self.log)
        );
        Ok(())
    }
}
