//! A small client: sends requests to `still debug --dap`, keeps events, and holds every message that
//! comes to the schema of the protocol.

use super::schema::Schema;
use crate::still;
use anyhow::{Context as _, Result, bail, ensure};
use serde_json::{Value, json};
use std::collections::VecDeque;
use std::io::{BufRead as _, BufReader, Read, Write as _};
use std::path::Path;
use std::process::{Child, ChildStdin, ExitStatus, Stdio};
use std::sync::mpsc::{Receiver, RecvTimeoutError, channel};
use std::time::{Duration, Instant};

/// How long an answer may take.
const PATIENCE: Duration = Duration::from_secs(60);

/// A running adapter.
pub struct Driver {
    child: Child,
    input: Option<ChildStdin>,
    messages: Receiver<Value>,
    schema: Schema,
    seq: i64,
    heard: i64,
    /// Events that nobody has taken yet.
    pub events: VecDeque<Value>,
}

impl Driver {
    /// Starts `still debug --dap` in a directory.
    ///
    /// # Errors
    /// If it cannot be started.
    pub fn start(dir: &Path) -> Result<Self> {
        let mut command = still::still(&["debug", "--dap"])?;
        command.current_dir(dir);
        command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .stderr(Stdio::inherit());
        let mut child = command.spawn().context("starting still debug --dap")?;
        let output = child.stdout.take().context("no stdout")?;
        let input = child.stdin.take();
        let (sender, messages) = channel();
        std::thread::spawn(move || {
            let mut output = BufReader::new(output);
            while let Some(message) = next(&mut output) {
                if sender.send(message).is_err() {
                    break;
                }
            }
        });
        Ok(Self {
            child,
            input,
            messages,
            schema: Schema::new(),
            seq: 0,
            heard: 0,
            events: VecDeque::new(),
        })
    }

    /// Sends bytes as they are.
    ///
    /// # Errors
    /// If it is gone.
    pub fn raw(&mut self, bytes: &[u8]) -> Result<()> {
        let input = self.input.as_mut().context("its input was closed")?;
        input.write_all(bytes)?;
        Ok(input.flush()?)
    }

    /// Sends a body with its header.
    ///
    /// # Errors
    /// If it is gone.
    pub fn body(&mut self, body: &[u8]) -> Result<()> {
        let header = format!("Content-Length: {}\r\n\r\n", body.len());
        self.raw(&[header.as_bytes(), body].concat())
    }

    /// Sends a request; its number.
    ///
    /// # Errors
    /// If it is gone.
    pub fn send(&mut self, command: &str, arguments: &Value) -> Result<i64> {
        self.seq += 1;
        let request = json!({
            "seq": self.seq, "type": "request", "command": command, "arguments": arguments,
        });
        self.body(&serde_json::to_vec(&request)?)?;
        Ok(self.seq)
    }

    /// The next message, checked.
    ///
    /// # Errors
    /// If none comes, or it does not fit the schema.
    pub fn next(&mut self) -> Result<Value> {
        let message = match self.messages.recv_timeout(PATIENCE) {
            Ok(message) => message,
            Err(RecvTimeoutError::Timeout) => bail!("nothing was said for {PATIENCE:?}"),
            Err(RecvTimeoutError::Disconnected) => bail!("the adapter has ended"),
        };
        self.heard += 1;
        ensure!(
            message["seq"] == json!(self.heard),
            "out of order: {message}"
        );
        if let Err(why) = self.schema.message(&message) {
            bail!("against the protocol: {why}: {message}");
        }
        Ok(message)
    }

    /// The response to a request.
    ///
    /// # Errors
    /// If none comes.
    pub fn response(&mut self, seq: i64) -> Result<Value> {
        loop {
            let message = self.next()?;
            if message["type"] == "response" && message["request_seq"] == json!(seq) {
                return Ok(message);
            }
            ensure!(message["type"] == "event", "another answer: {message}");
            self.events.push_back(message);
        }
    }

    /// Asks, and wants success; the body.
    ///
    /// # Errors
    /// With what was said instead.
    pub fn good(&mut self, command: &str, arguments: Value) -> Result<Value> {
        let seq = self.send(command, &arguments)?;
        let response = self.response(seq)?;
        ensure!(
            response["success"] == json!(true),
            "{command} {arguments}: {response}"
        );
        Ok(response["body"].clone())
    }

    /// Asks, and wants to be refused with words that contain `with`.
    ///
    /// # Errors
    /// With what was said instead.
    pub fn bad(&mut self, command: &str, arguments: Value, with: &str) -> Result<()> {
        let seq = self.send(command, &arguments)?;
        let response = self.response(seq)?;
        let message = response["message"].as_str().unwrap_or_default();
        ensure!(
            response["success"] == json!(false) && message.contains(with),
            "{command} {arguments}: {response} does not say {with:?}"
        );
        Ok(())
    }

    /// Waits for an event; its body.
    ///
    /// # Errors
    /// If it does not come.
    pub fn event(&mut self, name: &str) -> Result<Value> {
        loop {
            if let Some(at) = self.events.iter().position(|e| e["event"] == name) {
                let event = self.events.remove(at).unwrap_or_default();
                return Ok(event["body"].clone());
            }
            let message = self.next()?;
            ensure!(
                message["type"] == "event",
                "an answer to nothing: {message}"
            );
            self.events.push_back(message);
        }
    }

    /// Moves; the `stopped` event and the checkpoint.
    ///
    /// # Errors
    /// If it does not stop.
    pub fn go(&mut self, command: &str, arguments: Value) -> Result<(Value, u64)> {
        self.events.clear();
        self.good(command, arguments)?;
        let moment = self.event("stillframe/moment")?;
        let stopped = self.event("stopped")?;
        let at = moment["checkpoint"].as_u64().context("no checkpoint")?;
        Ok((stopped, at))
    }

    /// Opens a recording; where it stopped.
    ///
    /// # Errors
    /// If that fails.
    pub fn open(&mut self, recording: &Path, moment: &str) -> Result<u64> {
        self.good("initialize", json!({ "adapterID": "stillframe" }))?;
        self.good(
            "launch",
            json!({ "recording": recording, "moment": moment }),
        )?;
        self.event("initialized")?;
        let (_, at) = self.go("configurationDone", json!({}))?;
        Ok(at)
    }

    /// Closes its input and waits for its end.
    ///
    /// # Errors
    /// If it does not end.
    pub fn end(mut self) -> Result<ExitStatus> {
        self.input = None;
        let end = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            ensure!(Instant::now() < end, "the adapter does not end");
            std::thread::sleep(Duration::from_millis(5));
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// Reads one message.
fn next(output: &mut impl std::io::BufRead) -> Option<Value> {
    let mut length = None;
    loop {
        let mut line = String::new();
        if output.by_ref().take(4096).read_line(&mut line).ok()? == 0 {
            return None;
        }
        match line.trim_end() {
            "" => break,
            line => {
                if let Some(n) = line.strip_prefix("Content-Length: ") {
                    length = n.parse::<usize>().ok();
                }
            }
        }
    }
    let mut body = vec![0; length?];
    output.read_exact(&mut body).ok()?;
    serde_json::from_slice(&body).ok()
}
