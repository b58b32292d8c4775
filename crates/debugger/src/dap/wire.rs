//! The envelope of messages: what was asked, and what is said.

use serde::Serialize;
use serde::de::DeserializeOwned;
use serde_json::{Map, Value, json};

/// A request.
#[derive(Clone, Debug, PartialEq)]
pub struct Request {
    /// Its number.
    pub seq: i64,
    /// What is asked.
    pub command: String,
    /// With what; an object or null.
    pub arguments: Value,
}

/// A body that is no request.
#[derive(Clone, Debug, PartialEq)]
pub struct Malformed {
    /// The number it carries, or 0.
    pub seq: i64,
    /// The command it carries, or nothing.
    pub command: String,
    /// What is wrong, one line.
    pub why: String,
}

/// Reads the body of a message. `Ok(None)` is a response of the client to us; we ask it nothing, so
/// that means nothing.
///
/// # Errors
/// If it is no request.
pub fn parse(body: &[u8]) -> Result<Option<Request>, Malformed> {
    let wrong = |seq, command: &str, why: String| {
        Err(Malformed {
            seq,
            command: command.to_owned(),
            why,
        })
    };
    let value: Value = match serde_json::from_slice(body) {
        Ok(value) => value,
        Err(e) => return wrong(0, "", format!("the message is not JSON: {e}")),
    };
    let Value::Object(fields) = value else {
        return wrong(0, "", "the message is not a JSON object".to_owned());
    };
    let seq = fields.get("seq").and_then(Value::as_i64);
    let command = fields
        .get("command")
        .and_then(Value::as_str)
        .map(str::to_owned);
    let shown = command.as_deref().unwrap_or_default();
    match fields.get("type").and_then(Value::as_str) {
        Some("request") => {}
        Some("response" | "event") => return Ok(None),
        _ => {
            return wrong(
                seq.unwrap_or(0),
                shown,
                "the type of the message is not \"request\"".to_owned(),
            );
        }
    }
    let Some(seq) = seq else {
        return wrong(0, shown, "seq is missing or no integer".to_owned());
    };
    let Some(command) = command.clone() else {
        return wrong(seq, "", "command is missing or no string".to_owned());
    };
    let arguments = match fields.get("arguments") {
        None | Some(Value::Null) => Value::Null,
        Some(object @ Value::Object(_)) => object.clone(),
        Some(_) => return wrong(seq, &command, "arguments is not an object".to_owned()),
    };
    Ok(Some(Request {
        seq,
        command,
        arguments,
    }))
}

impl Request {
    /// Its arguments as a type; absent ones count as an empty object.
    ///
    /// # Errors
    /// With what is wrong, as one line for the user.
    pub fn read<T: DeserializeOwned>(&self) -> Result<T, String> {
        let arguments = match &self.arguments {
            Value::Null => Value::Object(Map::new()),
            other => other.clone(),
        };
        T::deserialize(arguments)
            .map_err(|e| format!("the arguments of {} are wrong: {e}", self.command))
    }
}

/// What an adapter sends. Numbers are given out by [`Outbox`].
#[derive(Debug)]
pub struct Outbox<'a> {
    seq: &'a mut i64,
    messages: Sink<'a>,
}

/// Takes whole messages, without header.
pub struct Sink<'a>(pub &'a mut dyn FnMut(Value));

impl std::fmt::Debug for Sink<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str("Sink")
    }
}

impl<'a> Outbox<'a> {
    /// Sends to `sink`, counting on from `seq`.
    pub fn new(seq: &'a mut i64, sink: &'a mut dyn FnMut(Value)) -> Self {
        Self {
            seq,
            messages: Sink(sink),
        }
    }

    fn send(&mut self, mut message: Value) {
        *self.seq += 1;
        message["seq"] = json!(*self.seq);
        (self.messages.0)(message);
    }

    /// An answer. A body of null is left out.
    pub fn respond(&mut self, to: &Request, body: &impl Serialize) {
        let mut message = json!({
            "type": "response",
            "request_seq": to.seq,
            "success": true,
            "command": to.command,
        });
        match serde_json::to_value(body) {
            Ok(Value::Null) => {}
            Ok(body) => message["body"] = body,
            Err(e) => return self.refuse(to, &format!("the answer cannot be written: {e}")),
        }
        self.send(message);
    }

    /// An answer that refuses. `reason` is shown to the user.
    pub fn refuse(&mut self, to: &Request, reason: &str) {
        self.error(to.seq, &to.command, reason, reason);
    }

    /// An answer to a request that was given up.
    pub fn cancelled(&mut self, to: &Request) {
        self.error(
            to.seq,
            &to.command,
            "cancelled",
            "the request was cancelled",
        );
    }

    /// An answer to something that was no request.
    pub fn malformed(&mut self, what: &Malformed) {
        self.error(what.seq, &what.command, &what.why, &what.why);
    }

    /// `short` is for the client; `shown` is for its user, in a format where braces mean variables.
    fn error(&mut self, seq: i64, command: &str, short: &str, shown: &str) {
        self.send(json!({
            "type": "response",
            "request_seq": seq,
            "success": false,
            "command": command,
            "message": short,
            "body": { "error": {
                "id": 1,
                "format": "{reason}",
                "variables": { "reason": shown },
                "showUser": true,
            }},
        }));
    }

    /// An event. A body of null is left out.
    pub fn event(&mut self, name: &str, body: &impl Serialize) {
        let mut message = json!({ "type": "event", "event": name });
        match serde_json::to_value(body) {
            Ok(Value::Null) | Err(_) => {}
            Ok(body) => message["body"] = body,
        }
        self.send(message);
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    #[test]
    fn requests_and_what_is_none() {
        let parsed =
            parse(br#"{"seq":3,"type":"request","command":"next","arguments":{"threadId":1}}"#);
        let request = parsed.unwrap().unwrap();
        assert_eq!((request.seq, request.command.as_str()), (3, "next"));
        assert!(parse(br#"{"seq":3,"type":"response"}"#).unwrap().is_none());
        for (body, seq, why) in [
            (&b"{"[..], 0, "not JSON"),
            (b"\xff\xfe", 0, "not JSON"),
            (b"[]", 0, "object"),
            (b"{}", 0, "type"),
            (br#"{"type":"request","command":"x"}"#, 0, "seq"),
            (br#"{"type":"request","seq":4}"#, 4, "command"),
            (br#"{"type":"request","seq":"4","command":"x"}"#, 0, "seq"),
            (
                br#"{"type":"request","seq":4,"command":"x","arguments":[1]}"#,
                4,
                "arguments",
            ),
        ] {
            let error = parse(body).unwrap_err();
            assert_eq!(error.seq, seq);
            assert!(error.why.contains(why), "{} lacks {why}", error.why);
        }
        let deep = [vec![b'['; 100_000], vec![b']'; 100_000]].concat();
        assert!(parse(&deep).unwrap_err().why.contains("JSON"));
    }

    proptest! {
        #[test]
        fn any_bytes_are_survived(bytes in prop::collection::vec(any::<u8>(), 0..300)) {
            let _ = parse(&bytes);
        }
    }
}
