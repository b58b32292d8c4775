//! With a client of our own.

use super::Subject;
use super::driver::Driver;
use crate::{Length, Outcome, passed};
use anyhow::{Context as _, Result, ensure};
use serde_json::{Value, json};

/// How deep variables are opened.
const DEPTH: usize = 4;

/// Opens every variable of every frame of every thread at every moment.
pub fn through_everything(_: &Length) -> Result<Outcome> {
    let subject = Subject::new()?;
    let mut d = Driver::start(subject.dir.path())?;
    d.open(&subject.recording, "first")?;
    let (mut moments, mut frames, mut variables) = (0, 0, 0);
    loop {
        moments += 1;
        let threads = d.good("threads", json!({}))?;
        let threads: Vec<i64> = numbers(&threads["threads"], "id");
        for thread in &threads {
            let stack = d.good("stackTrace", json!({ "threadId": thread }))?;
            let total = stack["totalFrames"].as_u64().context("totalFrames")?;
            let ids = numbers(&stack["stackFrames"], "id");
            ensure!(ids.len() as u64 == total, "{total} frames: {stack}");
            // A page is a part of the whole.
            let page = d.good(
                "stackTrace",
                json!({ "threadId": thread, "startFrame": 1, "levels": 1 }),
            )?;
            ensure!(
                numbers(&page["stackFrames"], "id").first() == ids.get(1),
                "{page}"
            );
            for frame in ids {
                frames += 1;
                let scopes = d.good("scopes", json!({ "frameId": frame }))?;
                for scope in numbers(&scopes["scopes"], "variablesReference") {
                    variables += open(&mut d, scope, DEPTH)?;
                }
            }
        }
        let thread = threads.first().context("no thread")?;
        let here = d.good("stillframe/checkpoints", json!({ "count": 0 }))?;
        if here["current"]["position"].as_u64() == here["count"].as_u64().map(|n| n - 1) {
            break;
        }
        d.go(
            "next",
            json!({ "threadId": thread, "granularity": "instruction" }),
        )?;
    }
    ensure!(
        frames > moments && variables > 100,
        "{frames} frames, {variables} variables"
    );
    d.good("disconnect", json!({}))?;
    let status = d.end()?;
    ensure!(status.success(), "the adapter ended with {status}");
    passed(format!(
        "moments {moments}, frames {frames}, variables {variables}"
    ))
}

fn numbers(list: &Value, key: &str) -> Vec<i64> {
    let list = list.as_array().into_iter().flatten();
    list.filter_map(|v| v[key].as_i64()).collect()
}

fn open(d: &mut Driver, reference: i64, depth: usize) -> Result<u64> {
    let body = d.good(
        "variables",
        json!({ "variablesReference": reference, "count": 40 }),
    )?;
    let mut count = 0;
    for variable in body["variables"].as_array().context("variables")? {
        count += 1;
        let inner = variable["variablesReference"].as_i64().unwrap_or(0);
        if inner > 0 && depth > 0 {
            count += open(d, inner, depth - 1)?;
        }
    }
    Ok(count)
}

/// Malformed and misplaced messages.
pub fn hostile(_: &Length) -> Result<Outcome> {
    let subject = Subject::new()?;
    let dir = subject.dir.path();
    let mut d = Driver::start(dir)?;
    let mut checks = 0;
    d.bad("threads", json!({}), "before initialize")?;
    d.good("initialize", json!({}))?;
    d.bad(
        "stackTrace",
        json!({ "threadId": 1 }),
        "no recording is open",
    )?;
    d.bad("launch", json!({}), "which recording")?;
    d.bad("launch", json!({ "recording": "/nowhere" }), "/nowhere")?;
    d.bad(
        "launch",
        json!({ "recording": subject.recording, "moment": "never!" }),
        "never!",
    )?;
    d.bad(
        "launch",
        json!({ "recording": subject.recording, "process": 99 }),
        "99",
    )?;
    d.bad(
        "launch",
        json!({ "recording": subject.recording, "pid": 1 }),
        "pid 1",
    )?;
    d.good(
        "launch",
        json!({ "recording": subject.recording, "moment": subject.number("start")? }),
    )?;
    d.event("initialized")?;
    d.bad("continue", json!({ "threadId": 1 }), "configurationDone")?;
    d.go("configurationDone", json!({}))?;
    for body in [
        &b"{"[..],
        b"",
        b"null",
        b"\xff\x00",
        br#"{"seq":"x","type":"request","command":"threads"}"#,
        br#"{"seq":9,"type":"request","command":"threads","arguments":[]}"#,
        &[b'['; 100_000],
    ] {
        d.body(body)?;
        let answer = d.next()?;
        ensure!(answer["success"] == json!(false), "{answer}");
        checks += 1;
    }
    let deep = format!("{}1{}", "(".repeat(100_000), ")".repeat(100_000));
    for expression in [
        "",
        "(",
        "1 +",
        "nothing",
        "*(int*)0",
        "counter.x",
        "box.numbers[99999999999]",
        deep.as_str(),
    ] {
        let seq = d.send("evaluate", &json!({ "expression": expression }))?;
        let answer = d.response(seq)?;
        let told = answer["message"]
            .as_str()
            .or(answer["body"]["result"].as_str());
        ensure!(told.is_some_and(|t| !t.is_empty()), "{answer}");
        checks += 1;
    }
    for (command, arguments, with) in [
        ("frobnicate", json!({}), "frobnicate"),
        ("writeMemory", json!({}), "past cannot be changed"),
        (
            "variables",
            json!({ "variablesReference": 4_000_000 }),
            "no variablesReference",
        ),
        (
            "readMemory",
            json!({ "memoryReference": "0", "count": 1u64 << 50 }),
            "at most",
        ),
        (
            "disassemble",
            json!({ "memoryReference": "0", "instructionCount": 1 << 30 }),
            "at most",
        ),
        ("stackTrace", json!({ "threadId": i64::MIN }), "no thread"),
        ("stillframe/goto", json!({ "moment": "999999" }), "999999"),
        ("stillframe/history", json!({ "expression": "((" }), ""),
    ] {
        d.bad(command, arguments, with)?;
        checks += 1;
    }
    // Nothing at all is at these addresses.
    let none = d.good(
        "readMemory",
        json!({ "memoryReference": "0xffffffffffffffff", "count": 8 }),
    )?;
    ensure!(none["unreadableBytes"] == json!(8), "{none}");
    let code = d.good(
        "disassemble",
        json!({ "memoryReference": "0x10", "instructionOffset": -5, "instructionCount": 9 }),
    )?;
    ensure!(
        code["instructions"]
            .as_array()
            .is_some_and(|i| i.len() == 9),
        "{code}"
    );
    // After all that it still works; lines of the source say so.
    let threads = d.good("threads", json!({}))?;
    let main = threads["threads"][0]["id"].clone();
    let stack = d.good("stackTrace", json!({ "threadId": main }))?;
    ensure!(
        stack["stackFrames"][0]["line"] == json!(subject.line("FIRST")?),
        "{stack}"
    );
    drop(d);

    // A stream that is none is said to be so, and is the end.
    for (stream, with) in [
        (&b"Content-Length: 99999999999\r\n\r\n"[..], "longest"),
        (b"Content-Length: -5\r\n\r\n", "number"),
        (b"GET / HTTP/1.1\r\nHost: x\r\n\r\n", "no Content-Length"),
        (&[b'a'; 10_000], "header"),
    ] {
        let mut d = Driver::start(dir)?;
        d.raw(stream)?;
        let answer = d.next()?;
        let message = answer["message"].as_str().unwrap_or_default().to_owned();
        ensure!(message.contains(with), "{answer}");
        let status = d.end()?;
        ensure!(status.code() == Some(1), "the adapter ended with {status}");
        checks += 1;
    }
    // A client that goes away in the middle of a message is no failure.
    let mut d = Driver::start(dir)?;
    d.raw(b"Content-Length: 50\r\n\r\n{")?;
    let status = d.end()?;
    ensure!(status.success(), "the adapter ended with {status}");
    passed(format!("checks {checks}"))
}
