//! What buttons do.

use super::*;

fn on_lines(c: &mut Client, path: &str, breakpoints: Value) -> Value {
    let body = c.good(
        "setBreakpoints",
        json!({ "source": { "path": path }, "breakpoints": breakpoints }),
    );
    body["breakpoints"].clone()
}

fn watch_counter(c: &mut Client, more: Value) {
    let info = c.good("dataBreakpointInfo", json!({ "name": "counter" }));
    assert_eq!(info["accessTypes"], json!(["write"]));
    let mut one = json!({ "dataId": info["dataId"] });
    for (k, v) in more.as_object().into_iter().flatten() {
        one[k] = v.clone();
    }
    let body = c.good("setDataBreakpoints", json!({ "breakpoints": [one] }));
    assert_eq!(body["breakpoints"][0]["verified"], json!(true));
}

#[test]
fn next_goes_over_calls_to_another_line() {
    let mut c = Client::at(0);
    assert_eq!(c.go("next"), to("step", 3));
    // work() is called from line 11 and does not stop it.
    assert_eq!(c.go("next"), to("step", 12));
    assert_eq!(c.go("next"), to("pause", 19).with_crash());
}

trait WithCrash {
    fn with_crash(self) -> Self;
}
impl WithCrash for (String, u64) {
    /// The last checkpoint is a crash, which is told as an exception.
    fn with_crash(self) -> Self {
        ("exception".to_owned(), self.1)
    }
}

#[test]
fn step_back_is_next_backward() {
    let mut c = Client::at(13);
    assert_eq!(c.go("stepBack"), to("step", 11));
    // There it is in the second call of work(), from line 11.
    assert_eq!(c.go("stepBack"), to("step", 9));
    assert_eq!(c.go("stepBack"), to("step", 2));
    assert_eq!(c.go("stepBack"), to("pause", 0));
    assert_eq!(c.go("stepBack"), to("pause", 0));
}

#[test]
fn step_in_and_out() {
    let mut c = Client::at(3);
    assert_eq!(c.go("stepIn"), to("step", 5));
    // Two frames from the inside is the line: 30, and from position 7 on 31.
    assert_eq!(c.go("stepIn"), to("step", 7));
    assert_eq!(c.go("stepOut"), to("step", 9));
    assert_eq!(c.go("stepIn"), to("step", 10));
    assert_eq!(c.go("next"), to("step", 12));
}

#[test]
fn single_checkpoints() {
    let mut c = Client::at(5);
    let by_one = json!({ "threadId": fake::MAIN, "granularity": "instruction" });
    c.good("next", by_one.clone());
    assert_eq!(c.stopped().1, 6);
    c.good("stepBack", by_one);
    assert_eq!(c.stopped().1, 5);
}

#[test]
fn a_thread_that_had_not_begun() {
    let mut c = Client::at(9);
    c.good("stepBack", json!({ "threadId": fake::LATE }));
    let (stop, position) = c.stopped();
    assert_eq!(position, 4);
    assert!(
        stop["description"]
            .as_str()
            .unwrap()
            .contains("had not begun")
    );
    assert_eq!(stop["threadId"], json!(fake::MAIN));
    c.good("continue", json!({ "threadId": fake::MAIN }));
    c.events.clear();
    c.good("stillframe/goto", json!({ "moment": "first" }));
    let gone: Vec<&Value> = c.events.iter().filter(|e| e["event"] == "thread").collect();
    assert_eq!(
        gone[0]["body"],
        json!({ "reason": "exited", "threadId": fake::LATE })
    );
}

#[test]
fn line_breakpoints() {
    let mut c = Client::at(0);
    let set = on_lines(
        &mut c,
        "/src/work.c",
        json!([{ "line": 12 }, { "line": 30 }, { "line": 51 }, { "line": 30, "hitCondition": "x" }]),
    );
    // The first slides down to code.
    assert_eq!(set[0]["line"], json!(30));
    assert_eq!(set[1]["verified"], json!(true));
    assert!(set[2]["message"].as_str().unwrap().contains("no code"));
    assert!(
        set[3]["message"]
            .as_str()
            .unwrap()
            .contains("hit condition")
    );
    let missing = on_lines(&mut c, "/src/other.c", json!([{ "line": 1 }]));
    assert!(
        missing[0]["message"]
            .as_str()
            .unwrap()
            .contains("no such file")
    );
    c.good("continue", json!({ "threadId": fake::MAIN }));
    let (stop, position) = c.stopped();
    assert_eq!((stop["reason"].as_str(), position), (Some("breakpoint"), 5));
    assert_eq!(
        stop["hitBreakpointIds"],
        json!([set[0]["id"], set[1]["id"]])
    );
    // Position 6 is the same call on the same line, not innermost: not a new hit.
    on_lines(
        &mut c,
        "/src/work.c",
        json!([{ "line": 30 }, { "line": 32 }]),
    );
    assert_eq!(c.go("continue"), to("breakpoint", 10));
    // Innermost on the line: each checkpoint counts.
    assert_eq!(c.go("continue"), to("breakpoint", 11));
    assert_eq!(c.go("reverseContinue"), to("breakpoint", 10));
    assert_eq!(c.go("reverseContinue"), to("breakpoint", 6));
    on_lines(&mut c, "/src/work.c", json!([]));
    assert_eq!(c.go("reverseContinue"), to("pause", 0));
}

#[test]
fn conditions_counts_and_messages() {
    let mut c = Client::at(0);
    on_lines(
        &mut c,
        "/src/work.c",
        json!([{ "line": 32, "condition": "counter == 7" }]),
    );
    assert_eq!(c.go("continue"), to("exception", 19));
    c.good("stillframe/goto", json!({ "moment": "first" }));
    c.events.clear();
    on_lines(
        &mut c,
        "/src/main.c",
        json!([{ "line": 14, "hitCondition": "%3" }]),
    );
    assert_eq!(c.go("continue"), to("breakpoint", 14));
    assert_eq!(c.go("continue"), to("breakpoint", 17));
    c.good("stillframe/goto", json!({ "moment": "first" }));
    c.events.clear();
    on_lines(
        &mut c,
        "/src/main.c",
        json!([{ "line": 14, "logMessage": "{{c}} is {counter}{oops", "condition": "counter == 8" }]),
    );
    c.good("continue", json!({ "threadId": fake::MAIN }));
    let said: Vec<&str> = c
        .events
        .iter()
        .filter_map(|e| e["body"]["output"].as_str())
        .collect();
    assert_eq!(said.iter().filter(|s| **s == "{c} is 8{oops\n").count(), 3);
}

#[test]
fn function_breakpoints_are_hit_once_a_call() {
    let mut c = Client::at(0);
    let body = c.good(
        "setFunctionBreakpoints",
        json!({ "breakpoints": [{ "name": "work" }, { "name": "play" }] }),
    );
    assert_eq!(body["breakpoints"][1]["verified"], json!(false));
    assert_eq!(c.go("continue"), to("function breakpoint", 5));
    assert_eq!(c.go("continue"), to("function breakpoint", 10));
    assert_eq!(c.go("continue"), to("exception", 19));
    assert_eq!(c.go("reverseContinue"), to("function breakpoint", 11));
    assert_eq!(c.go("reverseContinue"), to("function breakpoint", 8));
}

#[test]
fn watched_values_stop_on_both_sides_of_a_change() {
    let mut c = Client::at(0);
    watch_counter(&mut c, json!({}));
    assert_eq!(c.go("continue"), to("data breakpoint", 4));
    assert_eq!(c.go("continue"), to("data breakpoint", 9));
    assert_eq!(c.go("reverseContinue"), to("data breakpoint", 8));
    c.good("reverseContinue", json!({ "threadId": fake::MAIN }));
    let (stop, position) = c.stopped();
    assert_eq!(position, 3);
    let told = stop["description"].as_str().unwrap();
    assert!(
        told.contains("counter was 0, became 7, between checkpoints 6 and 8"),
        "{told}"
    );
    assert_eq!(c.go("reverseContinue"), to("pause", 0));
    // A step ends there, too, though the line is the same.
    assert_eq!(c.go("next"), to("step", 3));
    assert_eq!(c.go("next"), to("data breakpoint", 4));
}

#[test]
fn watched_values_need_no_visits() {
    let mut c = Client::at(0);
    watch_counter(&mut c, json!({}));
    let before = c.session.debuggee.as_ref().unwrap().visits;
    c.go("continue");
    let visits = c.session.debuggee.as_ref().unwrap().visits - before;
    assert!(visits <= 4, "{visits} checkpoints were visited");
}

#[test]
fn watches_with_conditions_and_counts() {
    let mut c = Client::at(0);
    watch_counter(&mut c, json!({ "condition": "counter == 1" }));
    assert_eq!(c.go("continue"), to("data breakpoint", 15));
    watch_counter(&mut c, json!({ "hitCondition": "2" }));
    assert_eq!(c.go("reverseContinue"), to("data breakpoint", 8));
}

#[test]
fn what_can_be_watched() {
    let mut c = Client::at(0);
    let frame =
        c.good("stackTrace", json!({ "threadId": fake::MAIN }))["stackFrames"][0]["id"].clone();
    let scopes = c.good("scopes", json!({ "frameId": frame }));
    let locals = scopes["scopes"][0]["variablesReference"].clone();
    c.good("variables", json!({ "variablesReference": locals }));
    let info = c.good(
        "dataBreakpointInfo",
        json!({ "variablesReference": locals, "name": "local" }),
    );
    assert_eq!(info["dataId"], json!("@0x7ff0:4 local (4 bytes at 0x7ff0)"));
    assert_eq!(info["canPersist"], json!(false));
    let info = c.good(
        "dataBreakpointInfo",
        json!({ "variablesReference": locals, "name": "nothing" }),
    );
    assert_eq!(info["dataId"], Value::Null);
    let info = c.good(
        "dataBreakpointInfo",
        json!({ "name": "0x5000", "asAddress": true, "bytes": 4 }),
    );
    assert_eq!(info["dataId"], json!("@0x5000:4 4 bytes at 0x5000"));
    let set = c.good(
        "setDataBreakpoints",
        json!({ "breakpoints": [
            { "dataId": info["dataId"] }, { "dataId": "junk" }, { "dataId": "=counter", "accessType": "read" },
        ] }),
    );
    let verified: Vec<&Value> = set["breakpoints"]
        .as_array()
        .unwrap()
        .iter()
        .map(|b| &b["verified"])
        .collect();
    assert_eq!(verified, [&json!(true), &json!(false), &json!(false)]);
    c.good("continue", json!({ "threadId": fake::MAIN }));
    let (stop, position) = c.stopped();
    assert_eq!(position, 4);
    assert!(
        stop["description"]
            .as_str()
            .unwrap()
            .contains("was 0x0, became 0x7")
    );
}

#[test]
fn sorts_of_moments() {
    let mut c = Client::at(0);
    let set = c.good(
        "setExceptionBreakpoints",
        json!({ "filters": ["crash", "point", "tag", "rain"] }),
    );
    assert_eq!(set["breakpoints"][3]["verified"], json!(false));
    assert_eq!(c.go("continue"), to("pause", 6));
    assert_eq!(c.go("continue"), to("pause", 8));
    assert_eq!(c.go("continue"), to("exception", 19));
    assert_eq!(c.go("reverseContinue"), to("pause", 8));
}

#[test]
fn goto_a_line_is_goto_a_moment() {
    let mut c = Client::at(7);
    let body = c.good(
        "gotoTargets",
        json!({ "source": { "path": "/src/main.c" }, "line": 12 }),
    );
    let targets = body["targets"].as_array().unwrap();
    assert_eq!(targets.len(), 1);
    assert!(
        targets[0]["label"]
            .as_str()
            .unwrap()
            .starts_with("later: checkpoint 24")
    );
    // Looking did not move us, and invalidated nothing.
    c.good(
        "goto",
        json!({ "threadId": fake::MAIN, "targetId": targets[0]["id"] }),
    );
    let (stop, position) = c.stopped();
    assert_eq!((stop["reason"].as_str(), position), (Some("goto"), 12));
    let none = c.good(
        "gotoTargets",
        json!({ "source": { "path": "/none" }, "line": 12 }),
    );
    assert_eq!(none["targets"], json!([]));
}

#[test]
fn moments_of_our_own() {
    let mut c = Client::at(0);
    let body = c.good("stillframe/goto", json!({ "moment": "here" }));
    assert_eq!(body["checkpoint"], json!(16));
    assert_eq!(c.stopped().1, 8);
    c.good(
        "stillframe/goto",
        json!({ "moment": "+1", "threadId": fake::LATE }),
    );
    let (stop, position) = c.stopped();
    assert_eq!(
        (position, stop["threadId"].as_u64()),
        (9, Some(u64::from(fake::LATE)))
    );
    assert!(
        c.bad("stillframe/goto", json!({ "moment": 7 }))
            .contains("no checkpoint 7")
    );
    assert!(
        c.bad("stillframe/goto", json!({ "moment": "soon" }))
            .contains("no moment")
    );
    assert!(c.bad("stillframe/goto", json!({})).contains("moment"));
}

#[test]
fn stop_on_entry_can_be_left_out() {
    let mut c = Client::new();
    c.good("initialize", json!({}));
    c.good(
        "launch",
        json!({ "recording": "fake.still", "moment": 0, "stopOnEntry": false }),
    );
    on_lines(&mut c, "/src/main.c", json!([{ "line": 14 }]));
    c.good("configurationDone", json!({}));
    let (stop, position) = c.stopped();
    assert_eq!(
        (stop["reason"].as_str(), position),
        (Some("breakpoint"), 12)
    );
}

#[test]
fn a_way_is_given_up_when_told() {
    let mut c = Client::at(0);
    on_lines(&mut c, "/src/main.c", json!([{ "line": 14 }]));
    c.interrupt.close();
    assert_eq!(c.go("continue"), to("pause", 0));
}
