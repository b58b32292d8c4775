//! Real programs with others connected to them.

use super::back;
use crate::scenarios::loads::Redis;
use crate::{Length, Outcome, passed, place, skip, still};
use anyhow::{Context as _, Result, ensure};
use rustix::process::Signal;
use std::io::{BufRead as _, BufReader, Write as _};
use std::net::TcpStream;
use std::time::Duration;
use stillframe_store::Recording;

/// A connection that stays open.
struct Client {
    stream: TcpStream,
    answers: BufReader<TcpStream>,
}

impl Client {
    fn connect(port: u16) -> Result<Self> {
        let stream = TcpStream::connect(("127.0.0.1", port))?;
        stream.set_read_timeout(Some(Duration::from_secs(20)))?;
        let answers = BufReader::new(stream.try_clone()?);
        Ok(Self { stream, answers })
    }

    /// One command; the first line of the answer, or the value.
    fn ask(&mut self, command: &str) -> Result<String> {
        self.stream.write_all(format!("{command}\r\n").as_bytes())?;
        let mut line = String::new();
        let n = self
            .answers
            .read_line(&mut line)
            .context(command.to_owned())?;
        ensure!(n > 0, "{command}: the connection was closed");
        if line.starts_with('$') && line.trim() != "$-1" {
            line.clear();
            self.answers.read_line(&mut line)?;
        }
        Ok(line.trim().to_owned())
    }
}

/// redis-server goes back under an open connection.
pub(super) fn redis(length: &Length) -> Result<Outcome> {
    let dir = place::scratch()?;
    let Some(mut server) = Redis::start(dir.path())? else {
        return skip("no redis-server on this machine");
    };
    let mut client = Client::connect(server.port())?;
    let rec = still::fresh(dir.path(), "run.still");
    let mut recorder = still::attach(dir.path(), &["--hz", "50"], &rec, server.pid())?;
    let rounds = if length.full { 50 } else { 8 };
    let newest = || Recording::open(&rec).map_or(0, |r| r.rows().len());
    let pass = |from: usize| crate::process::wait_for("more checkpoints", || newest() > from + 3);
    pass(1)?;
    let mut ms: Vec<f64> = Vec::new();
    for round in 0..rounds {
        client.ask(&format!("SET round {round}"))?;
        client.ask("SET key old")?;
        pass(newest())?;
        let good = newest() - 1;
        client.ask("SET key new")?;
        for i in 0..300 {
            client.ask(&format!("SET many:{i} {round}{i}"))?;
        }
        pass(newest())?;
        ensure!(client.ask("GET key")? == "new", "the value was not set");
        let said = back(dir.path(), server.pid(), &rec, &good.to_string())?;
        ms.push(said.milliseconds);
        // The same connection.
        let value = client.ask("GET key")?;
        ensure!(value == "old", "after going back the client sees {value:?}");
        let value = client.ask("GET round")?;
        ensure!(
            value == round.to_string(),
            "and round {value:?}, not {round}"
        );
        let many = client.ask("GET many:7")?;
        ensure!(
            many != format!("{round}7"),
            "what was set since is still there"
        );
        // And others can still connect.
        ensure!(
            Client::connect(server.port())?.ask("PING")? == "+PONG",
            "no PONG"
        );
    }
    recorder.signal(Signal::INT)?;
    still::ended_with(&mut recorder, 0, crate::process::PATIENCE)?;
    still::verify(dir.path(), &rec)?;
    server.load()?;
    server.stop()?;
    ms.sort_by(f64::total_cmp);
    passed(format!(
        "rollbacks {rounds} ms p50 {:.1} max {:.1}",
        ms[ms.len() / 2],
        ms[ms.len() - 1]
    ))
}
