//! What may come when, and what should not have come at all.

use super::*;
use proptest::prelude::*;

#[test]
fn the_usual_beginning_and_end() {
    let mut c = Client::new();
    let can = c.good(
        "initialize",
        json!({ "adapterID": "x", "linesStartAt1": true }),
    );
    assert_eq!(can["supportsStepBack"], json!(true));
    assert!(c.events.is_empty());
    c.good(
        "launch",
        json!({ "recording": "fake.still", "moment": "first", "unknown": [1] }),
    );
    assert_eq!(c.events[0]["event"], "initialized");
    c.events.clear();
    c.good("setExceptionBreakpoints", json!({ "filters": [] }));
    c.good("configurationDone", json!({}));
    let names: Vec<&str> = c
        .events
        .iter()
        .filter_map(|e| e["event"].as_str())
        .collect();
    assert_eq!(
        names,
        [
            "process",
            "output",
            "thread",
            "output",
            "stillframe/moment",
            "stopped"
        ]
    );
    let (stop, position) = c.stopped();
    assert_eq!((stop["reason"].as_str(), position), (Some("entry"), 0));
    assert_eq!(stop["allThreadsStopped"], json!(true));
    assert_eq!(stop["threadId"], json!(fake::MAIN));
    c.good("terminate", json!({}));
    assert_eq!(c.events[0]["event"], "terminated");
    assert!(!c.over);
    assert!(c.bad("threads", json!({})).contains("ended"));
    c.good("disconnect", json!({ "restart": false }));
    assert!(c.over);
}

#[test]
fn wrong_order() {
    let mut c = Client::new();
    assert!(c.bad("launch", json!({})).contains("before initialize"));
    assert!(c.bad("threads", json!({})).contains("before initialize"));
    c.good("initialize", json!({}));
    assert!(c.bad("initialize", json!({})).contains("once"));
    assert!(c.bad("threads", json!({})).contains("no recording is open"));
    assert!(
        c.bad("configurationDone", json!({}))
            .contains("no recording")
    );
    assert!(c.bad("launch", json!({})).contains("which recording"));
    assert!(
        c.bad("launch", json!({ "recording": "no.still" }))
            .contains("no recording")
    );
    assert!(
        c.bad(
            "launch",
            json!({ "recording": "fake.still", "moment": "never" })
        )
        .contains("never")
    );
    // A launch that failed may be tried again.
    c.good("attach", json!({ "recording": "fake.still" }));
    assert!(
        c.bad("launch", json!({ "recording": "fake.still" }))
            .contains("new session")
    );
    assert!(
        c.bad("next", json!({ "threadId": 100 }))
            .contains("before configurationDone")
    );
    // Looking does not move, so it need not wait.
    c.good("threads", json!({}));
    c.good("configurationDone", json!({}));
    assert!(c.bad("configurationDone", json!({})).contains("once"));
}

#[test]
fn what_is_not_a_request() {
    let mut c = Client::at(0);
    for body in [
        &b"{"[..],
        b"null",
        b"[1,2]",
        b"\xff",
        br#"{"type":"request"}"#,
        br#"{"seq":1,"type":"request","command":7}"#,
        br#"{"seq":1,"type":"request","command":"next","arguments":"x"}"#,
    ] {
        let said = c.raw(body);
        assert_eq!(said.len(), 1);
        assert_eq!(said[0]["success"], json!(false));
    }
    // A response of the client means nothing to us.
    assert!(
        c.raw(br#"{"seq":1,"type":"response","request_seq":1,"success":true,"command":"x"}"#)
            .is_empty()
    );
    c.good("threads", json!({}));
}

#[test]
fn unknown_requests_and_wrong_arguments() {
    let mut c = Client::at(0);
    assert!(c.bad("makeCoffee", json!({})).contains("makeCoffee"));
    assert!(
        c.bad("setVariable", json!({}))
            .contains("past cannot be changed")
    );
    assert!(c.bad("stackTrace", json!({})).contains("threadId"));
    assert!(
        c.bad("stackTrace", json!({ "threadId": "x" }))
            .contains("stackTrace")
    );
    assert!(
        c.bad("stackTrace", json!({ "threadId": -1 }))
            .contains("-1")
    );
    assert!(
        c.bad("stackTrace", json!({ "threadId": 100, "levels": -3 }))
            .contains("negative")
    );
    assert!(
        c.bad("scopes", json!({ "frameId": 77 }))
            .contains("no frame")
    );
    assert!(
        c.bad("variables", json!({ "variablesReference": 0 }))
            .contains("no variablesReference")
    );
    assert!(
        c.bad("next", json!({ "threadId": 55 }))
            .contains("no thread 55")
    );
    assert!(
        c.bad("goto", json!({ "threadId": 100, "targetId": 1 }))
            .contains("target")
    );
    assert!(
        c.bad("setBreakpoints", json!({ "source": {} }))
            .contains("no path")
    );
    let many: Vec<Value> = (0..10_001).map(|l| json!({ "line": l })).collect();
    let why = c.bad(
        "setBreakpoints",
        json!({ "source": { "path": "/src/main.c" }, "breakpoints": many }),
    );
    assert!(why.contains("10000"));
}

#[test]
fn cancelled_requests_are_not_answered_for_real() {
    let mut c = Client::at(0);
    c.interrupt.cancel(c.seq + 1);
    assert_eq!(c.bad("threads", json!({})), "cancelled");
    c.good("threads", json!({}));
    c.good("cancel", json!({ "requestId": 1 }));
    c.good("pause", json!({ "threadId": 100 }));
}

fn commands() -> impl Strategy<Value = String> {
    prop::sample::select(vec![
        "initialize",
        "launch",
        "attach",
        "configurationDone",
        "threads",
        "stackTrace",
        "scopes",
        "variables",
        "evaluate",
        "setBreakpoints",
        "setFunctionBreakpoints",
        "setDataBreakpoints",
        "dataBreakpointInfo",
        "setExceptionBreakpoints",
        "breakpointLocations",
        "next",
        "stepIn",
        "stepOut",
        "stepBack",
        "continue",
        "reverseContinue",
        "gotoTargets",
        "goto",
        "pause",
        "readMemory",
        "disassemble",
        "modules",
        "loadedSources",
        "source",
        "exceptionInfo",
        "completions",
        "cancel",
        "terminate",
        "stillframe/goto",
        "stillframe/history",
        "stillframe/checkpoints",
        "setVariable",
        "nonsense",
        "",
    ])
    .prop_map(str::to_owned)
}

fn anything() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        (-2i64..40).prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        prop::sample::select(vec![
            "",
            "fake.still",
            "first",
            "counter",
            ":goto +1",
            ":history counter",
            ":",
            ":x",
            "/src/main.c",
            "file:///src/work.c",
            "work",
            "=counter",
            "@0x5000:4 x",
            "0x5000",
            "instruction",
            "repl",
            "indexed",
            "%2",
            "{counter}{{}",
            "crash",
            "-1",
            "+99",
        ])
        .prop_map(Value::from),
        ".{0,12}".prop_map(Value::from),
    ];
    leaf.prop_recursive(3, 24, 5, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::hash_map(
                prop::sample::select(vec![
                    "line",
                    "name",
                    "path",
                    "dataId",
                    "condition",
                    "hitCondition",
                    "logMessage"
                ]),
                inner,
                0..5
            )
            .prop_map(|m| m
                .into_iter()
                .map(|(k, v)| (k.to_owned(), v))
                .collect::<Value>()),
        ]
    })
}

fn arguments() -> impl Strategy<Value = Value> {
    prop::collection::hash_map(
        prop::sample::select(vec![
            "recording",
            "moment",
            "threadId",
            "frameId",
            "variablesReference",
            "start",
            "count",
            "startFrame",
            "levels",
            "expression",
            "context",
            "format",
            "source",
            "breakpoints",
            "line",
            "name",
            "targetId",
            "memoryReference",
            "offset",
            "instructionCount",
            "instructionOffset",
            "filters",
            "filter",
            "text",
            "column",
            "granularity",
            "from",
            "to",
            "limit",
            "requestId",
            "bytes",
            "asAddress",
            "stopOnEntry",
        ]),
        anything(),
        0..6,
    )
    .prop_map(|m| m.into_iter().map(|(k, v)| (k.to_owned(), v)).collect())
}

proptest! {
    /// Whatever is asked, each request gets one answer, and every message fits the schema.
    #[test]
    fn any_requests_are_survived(
        requests in prop::collection::vec((commands(), arguments()), 1..25),
        begun in any::<bool>(),
    ) {
        let mut c = if begun { Client::at(3) } else { Client::new() };
        for (command, arguments) in requests {
            c.ask(&command, arguments);
        }
    }

    #[test]
    fn any_bodies_are_survived(body in prop::collection::vec(any::<u8>(), 0..200)) {
        let mut c = Client::at(0);
        c.raw(&body);
    }
}
