//! Real programs and the load on them, with checks that they still serve what they should.

use crate::place;
use crate::process::{PATIENCE, Running, command, run, wait_for};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::fmt::Write as _;
use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::time::Duration;

/// The python3 executable itself, behind any wrapper scripts.
pub fn python() -> Option<PathBuf> {
    if let Some(system) = Some(PathBuf::from("/usr/bin/python3")).filter(|p| p.is_file()) {
        return Some(system);
    }
    let out = command(
        place::program("python3")?,
        &["-c", "import sys; print(sys.executable)"],
    )
    .output()
    .ok()?;
    Some(PathBuf::from(String::from_utf8(out.stdout).ok()?.trim())).filter(|p| p.is_file())
}

/// SQL that builds a database of `rows` rows (about 130 bytes each with its indexes), changes it,
/// and prints sums and the verdict of an integrity check.
pub fn sql(rows: u64) -> String {
    format!(
        "create table t(id integer primary key, a integer, b text);
         with recursive n(i) as (select 1 union all select i+1 from n where i<{rows})
         insert into t select i, (i*2654435761)%1000003, hex(i*7919)||'-'||hex(zeroblob(16)) from n;
         create index ta on t(a);
         create index tb on t(b);
         update t set a=a+1, b=b||'x' where id%3=0;
         delete from t where id%97=0;
         select count(*), sum(a), sum(length(b)), max(b) from t;
         pragma integrity_check;"
    )
}

/// redis-server on a free port.
#[derive(Debug)]
pub struct Redis {
    server: Running,
    benchmark: PathBuf,
    dir: PathBuf,
    port: u16,
}

const KEYS: u32 = 500;

impl Redis {
    /// Starts it; `None` if it is not installed.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        let (Some(redis), Some(benchmark)) = (
            place::program("redis-server"),
            place::program("redis-benchmark"),
        ) else {
            return Ok(None);
        };
        let port = place::free_port()?;
        let mut c = command(redis, &["--bind", "127.0.0.1", "--appendonly", "no"]);
        c.args(["--save", "1 20000", "--port", &port.to_string(), "--dir"])
            .arg(dir);
        let server = Running::start(&mut c, dir)?;
        wait_for("redis-server listens", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
        })?;
        Ok(Some(Self {
            server,
            benchmark,
            dir: dir.to_path_buf(),
            port,
        }))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Where it listens.
    pub const fn port(&self) -> u16 {
        self.port
    }

    fn ask(&self, requests: &str, replies: usize) -> Result<Vec<String>> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).context("redis-server")?;
        stream.set_read_timeout(Some(PATIENCE))?;
        stream.write_all(requests.as_bytes())?;
        let mut lines = BufReader::new(stream).lines();
        (0..replies)
            .map(|_| Ok(lines.next().context("redis-server hung up")??))
            .collect()
    }

    /// Puts known values in.
    ///
    /// # Errors
    /// If it does not take them.
    pub fn fill(&self) -> Result<()> {
        let mut requests = String::new();
        for i in 0..KEYS {
            write!(
                requests,
                "SET still:{i} value-{}\r\n",
                i.wrapping_mul(2_654_435_761)
            )?;
        }
        let replies = self.ask(&requests, KEYS as usize)?;
        ensure!(
            replies.iter().all(|r| r == "+OK"),
            "redis-server did not take the values"
        );
        Ok(())
    }

    /// Loads it for a moment.
    ///
    /// # Errors
    /// If a request fails.
    pub fn load(&mut self) -> Result<()> {
        let mut c = command(
            &self.benchmark,
            &["-h", "127.0.0.1", "-p", &self.port.to_string()],
        );
        c.args([
            "-q", "-n", "4000", "-r", "20000", "-c", "10", "-P", "4", "-d", "64",
        ]);
        c.args(["-t", "set,get,incr,lpush,lpop,sadd,hset,zadd"]);
        let (status, out, err) = run(&mut c, &self.dir)?;
        ensure!(
            status.success() && !out.contains("rror") && !err.contains("rror"),
            "redis-benchmark: {out} {err}"
        );
        Ok(())
    }

    /// The known values must be there.
    ///
    /// # Errors
    /// If one is not.
    pub fn check(&self) -> Result<()> {
        let mut requests = String::new();
        for i in 0..KEYS {
            write!(requests, "GET still:{i}\r\n")?;
        }
        let replies = self.ask(&requests, 2 * KEYS as usize)?;
        for i in 0..KEYS {
            let expected = format!("value-{}", i.wrapping_mul(2_654_435_761));
            ensure!(
                replies[2 * i as usize + 1] == expected,
                "key {i} has lost its value"
            );
        }
        Ok(())
    }

    /// Shuts it down in order.
    ///
    /// # Errors
    /// If it does not end with status 0.
    pub fn stop(&mut self) -> Result<()> {
        self.server.signal(Signal::TERM)?;
        let status = self.server.wait(PATIENCE)?;
        ensure!(status.success(), "redis-server ended with {status}");
        Ok(())
    }
}

/// nginx on a free port.
#[derive(Debug)]
pub struct Nginx {
    server: Running,
    ab: PathBuf,
    dir: PathBuf,
    port: u16,
    page: Vec<u8>,
}

impl Nginx {
    /// Starts it; `None` if it is not installed.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start(dir: &Path) -> Result<Option<Self>> {
        Self::start_as(dir, "master_process off;")
    }

    /// The same as a master with two workers.
    ///
    /// # Errors
    /// If it does not come up.
    pub fn start_with_workers(dir: &Path) -> Result<Option<Self>> {
        // As another user the workers could not read the page.
        let user = if place::is_root() { "user root;" } else { "" };
        Self::start_as(
            dir,
            &format!("master_process on; worker_processes 2; {user}"),
        )
    }

    fn start_as(dir: &Path, how: &str) -> Result<Option<Self>> {
        let (Some(nginx), Some(ab)) = (place::program("nginx"), place::program("ab")) else {
            return Ok(None);
        };
        let port = place::free_port()?;
        let www = dir.join("www");
        std::fs::create_dir_all(&www)?;
        let page: Vec<u8> = (0..20_000u32)
            .flat_map(|i| format!("{i:x},").into_bytes())
            .collect();
        std::fs::write(www.join("page.txt"), &page)?;
        let d = dir.display();
        let config = format!(
            "daemon off; {how} pid {d}/nginx.pid; error_log {d}/error.log;
             events {{ worker_connections 256; }}
             http {{ access_log {d}/access.log; gzip on; gzip_types text/plain; gzip_min_length 1;
               client_body_temp_path {d}/t1; proxy_temp_path {d}/t2; fastcgi_temp_path {d}/t3;
               uwsgi_temp_path {d}/t4; scgi_temp_path {d}/t5;
               server {{ listen 127.0.0.1:{port}; location / {{ root {d}/www; }} }} }}"
        );
        let path = dir.join("nginx.conf");
        std::fs::write(&path, config)?;
        let mut c = command(nginx, &["-e"]);
        c.arg(dir.join("error.log"))
            .arg("-p")
            .arg(dir)
            .arg("-c")
            .arg(&path);
        let mut server = Running::start(&mut c, dir)?;
        wait_for("nginx listens or ends", || {
            TcpStream::connect(("127.0.0.1", port)).is_ok()
                || server.ended().is_ok_and(|e| e.is_some())
        })?;
        ensure!(
            server.ended()?.is_none(),
            "nginx does not start: {}",
            server.stderr()
        );
        Ok(Some(Self {
            server,
            ab,
            dir: dir.to_path_buf(),
            port,
            page,
        }))
    }

    /// Its process.
    pub fn pid(&self) -> u32 {
        self.server.pid()
    }

    /// Loads it for a moment.
    ///
    /// # Errors
    /// If a request fails.
    pub fn load(&mut self) -> Result<()> {
        let mut c = command(&self.ab, &["-q", "-n", "400", "-c", "8", "-s", "60", "-H"]);
        c.arg("Accept-Encoding: gzip")
            .arg(format!("http://127.0.0.1:{}/page.txt", self.port));
        let (status, out, err) = run(&mut c, &self.dir)?;
        ensure!(
            status.success()
                && out.contains("Failed requests:        0")
                && !out.contains("Non-2xx"),
            "ab: {out} {err}"
        );
        Ok(())
    }

    /// It must serve the page as it is.
    ///
    /// # Errors
    /// If it does not.
    pub fn check(&self) -> Result<()> {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port))?;
        stream.set_read_timeout(Some(Duration::from_secs(30)))?;
        stream.write_all(b"GET /page.txt HTTP/1.0\r\n\r\n")?;
        let mut answer = Vec::new();
        stream.read_to_end(&mut answer)?;
        ensure!(
            answer.ends_with(&self.page),
            "nginx does not serve the page"
        );
        Ok(())
    }

    /// Shuts it down in order.
    ///
    /// # Errors
    /// If it does not end with status 0.
    pub fn stop(&mut self) -> Result<()> {
        self.server.signal(Signal::QUIT)?;
        let status = self.server.wait(PATIENCE)?;
        ensure!(status.success(), "nginx ended with {status}");
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn servers_serve_without_us() {
        let dir = place::scratch().unwrap();
        if let Some(mut redis) = Redis::start(dir.path()).unwrap() {
            redis.fill().unwrap();
            redis.load().unwrap();
            redis.check().unwrap();
            redis.stop().unwrap();
        }
        let dir = place::scratch().unwrap();
        if let Some(mut nginx) = Nginx::start(dir.path()).unwrap() {
            nginx.load().unwrap();
            nginx.check().unwrap();
            nginx.stop().unwrap();
        }
    }
}
