//! Looking around.

use super::*;

fn top_frame(c: &mut Client) -> i64 {
    let body = c.good("stackTrace", json!({ "threadId": fake::MAIN }));
    body["stackFrames"][0]["id"].as_i64().unwrap()
}

#[test]
fn stacks_come_in_pages() {
    let mut c = Client::at(6);
    let body = c.good("stackTrace", json!({ "threadId": fake::MAIN }));
    assert_eq!(body["totalFrames"], json!(3));
    let names: Vec<&str> = body["stackFrames"]
        .as_array()
        .unwrap()
        .iter()
        .map(|f| f["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["read", "work(int)", "main"]);
    let main = &body["stackFrames"][2];
    assert_eq!(main["source"]["path"], json!("/src/main.c"));
    assert_eq!(
        (main["line"].as_i64(), main["column"].as_i64()),
        (Some(11), Some(3))
    );
    assert_eq!(body["stackFrames"][0]["presentationHint"], json!("subtle"));
    let page = c.good(
        "stackTrace",
        json!({ "threadId": fake::MAIN, "startFrame": 1, "levels": 1 }),
    );
    assert_eq!(page["stackFrames"].as_array().unwrap().len(), 1);
    assert_eq!(page["stackFrames"][0]["name"], json!("work(int)"));
    assert!(page["totalFrames"].as_i64().unwrap() > 2);
    // The same frame has the same number.
    assert_eq!(page["stackFrames"][0]["id"], body["stackFrames"][1]["id"]);
    let none = c.good(
        "stackTrace",
        json!({ "threadId": fake::MAIN, "startFrame": 50, "levels": 5 }),
    );
    assert!(none["stackFrames"].as_array().unwrap().is_empty());
}

#[test]
fn lines_and_paths_as_the_client_counts() {
    let mut c = Client::new();
    c.good(
        "initialize",
        json!({ "linesStartAt1": false, "columnsStartAt1": false, "pathFormat": "uri" }),
    );
    c.good("launch", json!({ "recording": "fake.still", "moment": 0 }));
    let set = c.good(
        "setBreakpoints",
        json!({ "source": { "path": "file:///src/%6dain.c" }, "breakpoints": [{ "line": 13 }] }),
    );
    assert_eq!(set["breakpoints"][0]["verified"], json!(true));
    assert_eq!(set["breakpoints"][0]["line"], json!(13));
    c.good("configurationDone", json!({}));
    c.events.clear();
    assert_eq!(c.go("continue"), to("breakpoint", 12));
    let body = c.good("stackTrace", json!({ "threadId": fake::MAIN }));
    let frame = &body["stackFrames"][0];
    assert_eq!(
        (frame["line"].as_i64(), frame["column"].as_i64()),
        (Some(13), Some(2))
    );
    assert_eq!(frame["source"]["path"], json!("file:///src/main.c"));
}

#[test]
fn variables_come_in_pages_and_end_with_the_stop() {
    let mut c = Client::at(0);
    let frame = top_frame(&mut c);
    let scopes = c.good("scopes", json!({ "frameId": frame }));
    let locals = scopes["scopes"][0]["variablesReference"].as_i64().unwrap();
    let body = c.good("variables", json!({ "variablesReference": locals }));
    let big = body["variables"][1].clone();
    assert_eq!(big["indexedVariables"], json!(5_000_000));
    let reference = big["variablesReference"].as_i64().unwrap();
    let page = c.good(
        "variables",
        json!({ "variablesReference": reference, "filter": "indexed", "start": 4_999_998, "count": 100 }),
    );
    let names: Vec<&str> = page["variables"]
        .as_array()
        .unwrap()
        .iter()
        .map(|v| v["name"].as_str().unwrap())
        .collect();
    assert_eq!(names, ["[4999998]", "[4999999]"]);
    // Whoever asks for all gets some, and is told.
    let all = c.good("variables", json!({ "variablesReference": reference }));
    let all = all["variables"].as_array().unwrap();
    assert_eq!(all.len(), 1001);
    assert!(all[1000]["value"].as_str().unwrap().contains("slice"));
    let most = c.good(
        "variables",
        json!({ "variablesReference": reference, "count": i64::MAX }),
    );
    assert_eq!(most["variables"].as_array().unwrap().len(), 100_000);
    c.go("next");
    assert!(
        c.bad("variables", json!({ "variablesReference": reference }))
            .contains("earlier stop")
    );
    assert!(
        c.bad("scopes", json!({ "frameId": frame }))
            .contains("earlier stop")
    );
    assert!(
        c.bad(
            "evaluate",
            json!({ "expression": "counter", "frameId": frame })
        )
        .contains("earlier stop")
    );
}

#[test]
fn evaluation() {
    let mut c = Client::at(5);
    assert_eq!(
        c.good("evaluate", json!({ "expression": "counter" }))["result"],
        json!("7")
    );
    let hex = c.good(
        "evaluate",
        json!({ "expression": "counter", "format": { "hex": true }, "context": "hover" }),
    );
    assert_eq!(hex["result"], json!("0x7"));
    assert_eq!(hex["memoryReference"], json!("0x5000"));
    assert!(
        c.bad(
            "evaluate",
            json!({ "expression": "nothing", "context": "watch" })
        )
        .contains("names nothing")
    );
    // A colon means a command only in the console.
    assert!(
        c.bad(
            "evaluate",
            json!({ "expression": ":where", "context": "watch" })
        )
        .contains("names nothing")
    );
}

#[test]
fn memory() {
    let mut c = Client::at(4);
    let all = c.good(
        "readMemory",
        json!({ "memoryReference": "0x5000", "count": 3 }),
    );
    assert_eq!(all, json!({ "address": "0x5000", "data": "BwAA" }));
    let part = c.good(
        "readMemory",
        json!({ "memoryReference": "0x5000", "offset": 4094, "count": 5 }),
    );
    assert_eq!(part["data"], json!("AAA="));
    assert_eq!(part["unreadableBytes"], json!(3));
    let none = c.good("readMemory", json!({ "memoryReference": "16", "count": 8 }));
    assert_eq!(none, json!({ "address": "0x10", "unreadableBytes": 8 }));
    assert!(
        c.bad(
            "readMemory",
            json!({ "memoryReference": "0x5000", "count": 1u64 << 40 })
        )
        .contains("at most")
    );
    assert!(
        c.bad(
            "readMemory",
            json!({ "memoryReference": "0x5000", "count": -1 })
        )
        .contains("at most")
    );
    assert!(
        c.bad(
            "readMemory",
            json!({ "memoryReference": "0x10", "offset": -17, "count": 1 })
        )
        .contains("out of memory")
    );
    assert!(
        c.bad(
            "readMemory",
            json!({ "memoryReference": "counter", "count": 1 })
        )
        .contains("no address")
    );
    let code = c.good(
        "disassemble",
        json!({ "memoryReference": "0x401000", "instructionCount": 2, "resolveSymbols": true }),
    );
    assert_eq!(code["instructions"].as_array().unwrap().len(), 2);
    assert!(
        c.bad(
            "disassemble",
            json!({ "memoryReference": "0", "instructionCount": 1u64 << 30 })
        )
        .contains("at most")
    );
}

#[test]
fn files() {
    let mut c = Client::at(0);
    assert_eq!(c.good("modules", json!({}))["totalModules"], json!(1));
    assert_eq!(
        c.good("modules", json!({ "startModule": 5 }))["modules"],
        json!([])
    );
    let sources = c.good("loadedSources", json!({}));
    assert_eq!(sources["sources"][0].get("presentationHint"), None);
    assert_eq!(
        sources["sources"][1]["presentationHint"],
        json!("deemphasize")
    );
    let text = c.good(
        "source",
        json!({ "source": { "path": "/src/main.c" }, "sourceReference": 0 }),
    );
    assert_eq!(text["content"], json!("int main() {}\n"));
    assert!(
        c.bad(
            "source",
            json!({ "source": { "path": "/etc/x" }, "sourceReference": 0 })
        )
        .contains("machine")
    );
    assert!(
        c.bad("source", json!({ "sourceReference": 9 }))
            .contains("by path")
    );
    let lines = c.good(
        "breakpointLocations",
        json!({ "source": { "path": "/src/main.c" }, "line": 11, "endLine": 20 }),
    );
    assert_eq!(
        lines["breakpoints"],
        json!([{ "line": 11 }, { "line": 14 }])
    );
}

#[test]
fn a_crash_is_an_exception() {
    let mut c = Client::new();
    c.good("initialize", json!({}));
    c.good(
        "launch",
        json!({ "recording": "fake.still", "moment": "crash" }),
    );
    c.good("configurationDone", json!({}));
    let (stop, _) = c.stopped();
    assert_eq!(stop["reason"], json!("exception"));
    assert_eq!(stop["text"], json!("SIGSEGV at 0x0"));
    let info = c.good("exceptionInfo", json!({ "threadId": fake::MAIN }));
    assert_eq!(info["exceptionId"], json!("SIGSEGV"));
    assert!(
        c.bad("exceptionInfo", json!({ "threadId": fake::LATE }))
            .contains("no signal")
    );
}

#[test]
fn completions() {
    let mut c = Client::at(0);
    let found = c.good("completions", json!({ "text": "1 + cou", "column": 8 }));
    assert_eq!(
        found["targets"],
        json!([{ "label": "counter", "start": 4, "length": 3 }])
    );
    let found = c.good("completions", json!({ "text": ":hi", "column": 4 }));
    assert_eq!(found["targets"][0]["label"], json!(":history"));
    c.good("completions", json!({ "text": "é(é", "column": 4 }));
}

#[test]
fn histories_and_checkpoints() {
    let mut c = Client::at(0);
    let body = c.good("stillframe/history", json!({ "expression": "counter" }));
    assert_eq!(body["complete"], json!(true));
    assert_eq!(
        body["changes"],
        json!([
            { "checkpoint": 0, "seconds": 0.0, "new": "0" },
            { "checkpoint": 8, "seconds": 0.04, "old": "0", "new": "7" },
            { "checkpoint": 18, "seconds": 0.09, "old": "7", "new": "8" },
            { "checkpoint": 30, "seconds": 0.15, "old": "8", "new": "1" },
        ])
    );
    let body = c.good(
        "stillframe/history",
        json!({ "expression": "counter", "from": 8, "to": "last", "limit": 2 }),
    );
    assert_eq!(body["complete"], json!(false));
    assert_eq!(body["changes"].as_array().unwrap().len(), 2);
    assert!(
        c.bad(
            "stillframe/history",
            json!({ "expression": "counter", "from": 9, "to": 8 })
        )
        .contains("empty")
    );
    let body = c.good("stillframe/checkpoints", json!({ "start": 18, "count": 5 }));
    assert_eq!(body["checkpoints"].as_array().unwrap().len(), 2);
    assert_eq!(body["checkpoints"][1]["marks"], json!(["crash"]));
    assert_eq!(body["count"], json!(20));
    assert_eq!(body["current"]["position"], json!(0));
}

#[test]
fn the_console() {
    let mut c = Client::at(3);
    let mut say = |text: &str| {
        let body = c.good("evaluate", json!({ "expression": text, "context": "repl" }));
        body["result"].as_str().unwrap().to_owned()
    };
    assert!(say(":where").starts_with("checkpoint 6 (0.030 s"));
    assert!(say(":history counter").contains("0.040 s  7"));
    assert!(say(":tags").contains("crash"));
    assert!(say(":help").contains(":goto"));
    assert!(say(":goto +2").starts_with("checkpoint 10 "));
    assert_eq!(c.stopped().1, 5);
    assert!(
        c.bad(
            "evaluate",
            json!({ "expression": ":jump", "context": "repl" })
        )
        .contains(":help")
    );
    assert!(
        c.bad(
            "evaluate",
            json!({ "expression": ":goto -9", "context": "repl" })
        )
        .contains("earlier")
    );
    let threads: Vec<&Value> = c.events.iter().filter(|e| e["event"] == "thread").collect();
    assert!(threads.is_empty());
}
