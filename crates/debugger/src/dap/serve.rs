//! Bytes in, bytes out.
//!
//! A thread reads and cuts the stream into messages while the caller answers them in order. It looks
//! at each message for what must be known at once: `cancel`, `pause` and `disconnect`.

use super::arguments::Launch;
use super::debuggee::{Debuggee, Failure};
use super::framing::{Framer, FramingError, framed};
use super::interrupt::Interrupt;
use super::session::{Flow, Session};
use super::wire;
use serde_json::Value;
use std::io::{self, Read, Write};
use std::sync::Arc;
use std::sync::mpsc::{Receiver, SyncSender, sync_channel};

/// Requests read ahead. What is behind them waits in the pipe.
const AHEAD: usize = 256;
/// Bytes read at a time.
const CHUNK: usize = 64 << 10;

/// What the reading thread found.
enum Heard {
    Message(Vec<u8>),
    Broken(FramingError),
}

/// Serves one client until it leaves. `input` is read by a thread of its own, which ends when the
/// stream does; a session ended by `disconnect` does not wait for it.
///
/// # Errors
/// If the client cannot be written to, or what it sends is no stream of messages. That it goes away
/// is no error.
pub fn serve<D, O>(
    input: impl Read + Send + 'static,
    output: &mut impl Write,
    open: O,
) -> io::Result<()>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    let interrupt = Arc::new(Interrupt::default());
    let (sender, receiver) = sync_channel(AHEAD);
    let reader = {
        let interrupt = Arc::clone(&interrupt);
        std::thread::Builder::new()
            .name("dap-reader".to_owned())
            .spawn(move || read_all(input, &sender, &interrupt))?
    };
    // Nobody joins it: it may sit in a read of a terminal that never ends.
    drop(reader);
    answer_all(&receiver, output, Session::new(open, interrupt))
}

fn read_all(mut input: impl Read, sender: &SyncSender<Heard>, interrupt: &Interrupt) {
    let mut framer = Framer::default();
    let mut chunk = vec![0; CHUNK];
    loop {
        loop {
            match framer.next_message() {
                Ok(Some(message)) => {
                    look_ahead(&message, interrupt);
                    if sender.send(Heard::Message(message)).is_err() {
                        return;
                    }
                }
                Ok(None) => break,
                Err(error) => {
                    let _ = sender.send(Heard::Broken(error));
                    return;
                }
            }
        }
        match input.read(&mut chunk) {
            Ok(0) => break,
            Ok(n) => framer.push(chunk.get(..n).unwrap_or_default()),
            Err(e) if e.kind() == io::ErrorKind::Interrupted => {}
            Err(_) => break,
        }
    }
    interrupt.close();
}

/// What must be known before the requests in front of it are answered.
fn look_ahead(message: &[u8], interrupt: &Interrupt) {
    // Only short messages can be these; a long one is not worth reading twice.
    const SHORT: usize = 4 << 10;
    if message.len() > SHORT {
        return;
    }
    let Ok(Some(request)) = wire::parse(message) else {
        return;
    };
    match request.command.as_str() {
        "cancel" => {
            let seq = request.arguments.get("requestId").and_then(Value::as_i64);
            if let Some(seq) = seq {
                interrupt.cancel(seq);
            }
        }
        "pause" | "disconnect" | "terminate" => interrupt.pause(),
        _ => {}
    }
}

fn answer_all<D, O>(
    receiver: &Receiver<Heard>,
    output: &mut impl Write,
    mut session: Session<D, O>,
) -> io::Result<()>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    let mut failed: io::Result<()> = Ok(());
    while let Ok(read) = receiver.recv() {
        let mut sink = |message: Value| {
            if failed.is_ok() {
                failed = send(output, &message);
            }
        };
        let flow = match read {
            Heard::Message(body) => session.receive(&body, &mut sink),
            Heard::Broken(error) => {
                session.broken(&error.to_string(), &mut sink);
                let error = io::Error::new(io::ErrorKind::InvalidData, error);
                return gone(failed).and(Err(error));
            }
        };
        if failed.is_err() || flow == Flow::End {
            break;
        }
    }
    gone(failed)
}

/// A client that is no longer there is the end, and no failure.
fn gone(result: io::Result<()>) -> io::Result<()> {
    use io::ErrorKind as Kind;
    match result {
        Err(e) if matches!(e.kind(), Kind::BrokenPipe | Kind::ConnectionReset) => Ok(()),
        other => other,
    }
}

fn send(output: &mut impl Write, message: &Value) -> io::Result<()> {
    let body = serde_json::to_vec(message)?;
    output.write_all(&framed(&body))?;
    output.flush()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pause_and_cancel_are_seen_early() {
        let interrupt = Interrupt::default();
        interrupt.begin(5);
        look_ahead(
            br#"{"seq":6,"type":"request","command":"cancel","arguments":{"requestId":5}}"#,
            &interrupt,
        );
        assert!(interrupt.is_set());
        interrupt.begin(7);
        assert!(!interrupt.is_set());
        look_ahead(
            br#"{"seq":8,"type":"request","command":"pause"}"#,
            &interrupt,
        );
        assert!(interrupt.is_set());
    }
}
