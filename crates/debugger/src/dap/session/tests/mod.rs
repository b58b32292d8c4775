//! A session over a made-up program. Every message sent is held to the protocol's schema.

mod fake;
mod moves;
mod order;
#[path = "../../../../tests/support/schema.rs"]
mod schema;
mod views;

use super::{Flow, Session};
use crate::dap::arguments::Launch;
use crate::dap::debuggee::{Debuggee as _, Failure};
use crate::dap::interrupt::Interrupt;
use fake::Fake;
use schema::Schema;
use serde_json::{Value, json};
use std::sync::Arc;

type Opener = fn(&Launch) -> Result<Fake, Failure>;

struct Client {
    session: Session<Fake, Opener>,
    interrupt: Arc<Interrupt>,
    schema: Schema,
    seq: i64,
    heard: i64,
    events: Vec<Value>,
    over: bool,
}

fn open(launch: &Launch) -> Result<Fake, Failure> {
    let mut fake = Fake::default();
    match launch.recording.as_deref() {
        Some("fake.still") => {
            if let Some(moment) = &launch.moment {
                let to = fake.resolve(&moment.to_string())?;
                fake.go(to)?;
            }
            Ok(fake)
        }
        Some(other) => Err(Failure::told(format!("{other} is no recording"))),
        None => Err(Failure::told("say which recording")),
    }
}

impl Client {
    fn new() -> Self {
        let interrupt = Arc::new(Interrupt::default());
        Self {
            session: Session::new(open as Opener, Arc::clone(&interrupt)),
            interrupt,
            schema: Schema::new(),
            seq: 0,
            heard: 0,
            events: Vec::new(),
            over: false,
        }
    }

    /// A session in which the user looks at a position.
    fn at(moment: u64) -> Self {
        let mut client = Self::new();
        client.good("initialize", json!({ "adapterID": "stillframe" }));
        client.good(
            "launch",
            json!({ "recording": "fake.still", "moment": 2 * moment }),
        );
        client.good("configurationDone", json!({}));
        client.events.clear();
        client
    }

    fn raw(&mut self, body: &[u8]) -> Vec<Value> {
        let mut said = Vec::new();
        let flow = self.session.receive(body, &mut |m| said.push(m));
        self.over = flow == Flow::End;
        for message in &said {
            self.schema.message(message).unwrap();
            self.heard += 1;
            assert_eq!(message["seq"], json!(self.heard));
        }
        said
    }

    /// Sends a request and returns its response; events are kept.
    fn ask(&mut self, command: &str, arguments: Value) -> Value {
        self.seq += 1;
        let request = json!({
            "seq": self.seq, "type": "request", "command": command, "arguments": arguments,
        });
        let said = self.raw(&serde_json::to_vec(&request).unwrap());
        let (responses, events): (Vec<Value>, Vec<Value>) =
            said.into_iter().partition(|m| m["type"] == "response");
        self.events.extend(events);
        assert_eq!(
            responses.len(),
            1,
            "{command} has {} responses",
            responses.len()
        );
        let response = responses[0].clone();
        assert_eq!(response["request_seq"], json!(self.seq));
        assert_eq!(response["command"], json!(command));
        response
    }

    /// The body of a successful response.
    fn good(&mut self, command: &str, arguments: Value) -> Value {
        let response = self.ask(command, arguments);
        assert_eq!(response["success"], json!(true), "{command}: {response}");
        response["body"].clone()
    }

    /// The message of a refusal.
    fn bad(&mut self, command: &str, arguments: Value) -> String {
        let response = self.ask(command, arguments);
        assert_eq!(response["success"], json!(false), "{command}: {response}");
        response["message"].as_str().unwrap().to_owned()
    }

    /// Takes the one `stopped` event of a move, and the checkpoint that came with it.
    fn stopped(&mut self) -> (Value, u64) {
        let stops: Vec<&Value> = self
            .events
            .iter()
            .filter(|e| e["event"] == "stopped")
            .collect();
        assert_eq!(stops.len(), 1, "{:?}", self.events);
        let stop = stops[0]["body"].clone();
        let moments: Vec<&Value> = self
            .events
            .iter()
            .filter(|e| e["event"] == "stillframe/moment")
            .collect();
        assert_eq!(moments.len(), 1);
        let position = moments[0]["body"]["position"].as_u64().unwrap();
        self.events.clear();
        (stop, position)
    }

    /// Moves the main thread; why it stopped, and the position.
    fn go(&mut self, command: &str) -> (String, u64) {
        self.good(command, json!({ "threadId": fake::MAIN }));
        let (stop, position) = self.stopped();
        (stop["reason"].as_str().unwrap().to_owned(), position)
    }
}

fn to(reason: &str, position: u64) -> (String, u64) {
    (reason.to_owned(), position)
}
