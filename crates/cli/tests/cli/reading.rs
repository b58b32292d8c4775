//! ls and show.

use super::{still, synthetic};
use serde_json::Value;
use std::io::Read as _;
use std::process::{Command, Stdio};

#[test]
fn ls_lists_every_checkpoint() {
    let made = synthetic::make(true);
    let text = still(&["ls".as_ref(), made.recording.as_os_str()]).ok();
    let lines: Vec<&str> = text.lines().collect();
    assert!(
        lines[0].contains("prog --fast 'two words' (pid 4242)"),
        "{text}"
    );
    assert!(lines[0].contains("100 Hz asked"), "{text}");
    let rows: Vec<Vec<&str>> = lines[2..2 + 5]
        .iter()
        .map(|l| l.split_whitespace().collect())
        .collect();
    for (n, row) in rows.iter().enumerate() {
        assert_eq!(row[0], n.to_string());
        assert_eq!(row[1], format!("0.0{n}00"));
        assert_eq!(row[2], (100 + n).to_string());
    }
    assert!(lines[2].ends_with("full"), "{text}");
    assert!(lines[6].ends_with("crash"), "{text}");
    assert!(text.contains("5 checkpoints in 0.04 s (100.00 Hz reached of 100 asked), 1 ticks"));
    assert!(text.contains("killed by SIGSEGV"), "{text}");
    assert!(text.contains("note: made by a test"), "{text}");
    let wide = still(&["ls".as_ref(), "--all".as_ref(), made.recording.as_os_str()]).ok();
    assert_eq!(wide.lines().count(), lines.len());
    assert!(wide.contains("2023-11-14 22:13:20 UTC"), "{wide}");
}

#[test]
fn ls_as_json() {
    let made = synthetic::make(false);
    let text = still(&["ls".as_ref(), "--json".as_ref(), made.recording.as_os_str()]).ok();
    let json: Value = serde_json::from_str(&text).unwrap();
    let rows = json["checkpoints"].as_array().unwrap();
    assert_eq!(rows.len(), 5);
    assert_eq!(rows[3]["number"], 3);
    assert_eq!(rows[3]["at_ns"], 30_000_000);
    assert_eq!(rows[3]["pause_ns"], 103_000);
    assert_eq!(rows[3]["skipped"], 1);
    assert_eq!(rows[4]["marks"], serde_json::json!(["crash"]));
    assert_eq!(
        json["arguments"],
        serde_json::json!(["prog", "--fast", "two words"])
    );
    assert_eq!(json["totals"]["hz"], 100.0);
    assert_eq!(json["end"]["how"], "killed by SIGSEGV");
}

#[test]
fn a_reader_that_goes_away_is_no_error() {
    let made = synthetic::make(false);
    let mut child = Command::new(env!("CARGO_BIN_EXE_still"))
        .arg("ls")
        .arg(&made.recording)
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    drop(child.stdout.take());
    let mut complaint = String::new();
    child
        .stderr
        .take()
        .unwrap()
        .read_to_string(&mut complaint)
        .unwrap();
    assert!(child.wait().unwrap().success());
    assert_eq!(complaint, "");
}

#[test]
fn show_tells_where_every_thread_is() {
    for objects in [true, false] {
        let made = synthetic::make(objects);
        let text = still(&["show", &made.at(2)]).ok();
        assert!(text.contains("work+0x3 ("), "{text}");
        assert!(text.contains("in futex(0x1234, "), "{text}");
        assert!(text.contains("which goes on"), "{text}");
        assert!(text.contains("[heap]+0x10"), "{text}");
        assert!(
            text.contains("process 4242 (prog), as of checkpoint 0"),
            "{text}"
        );
        assert!(text.contains("offset 102"), "{text}");
        assert!(text.contains("O_RDWR|O_CLOEXEC (size 5000)"), "{text}");
        assert!(text.contains("[not captured: a device]"), "{text}");
        assert!(text.contains("fd 9: went away"), "{text}");
        assert!(text.contains("SIGTERM"), "{text}");
        assert!(text.contains("blocks SIGUSR1"), "{text}");
        assert!(
            !text.contains('\x1b'),
            "a thread's name reached the terminal: {text}"
        );
        assert_eq!(
            text.contains("[file not in the recording]"),
            !objects,
            "{text}"
        );
    }
}

#[test]
fn show_without_the_program_falls_back_to_offsets() {
    let made = synthetic::make(false);
    std::fs::write(&made.program, "changed").unwrap();
    let text = still(&["show", &made.at("first")]).ok();
    assert!(!text.contains("work+"), "{text}");
    assert!(text.contains("/prog+0x"), "{text}");
}

#[test]
fn sections_are_chosen() {
    let made = synthetic::make(false);
    let moment = made.at("last");
    let only = |flag: &str| still(&["show", &moment, flag]).ok();
    let sections = [
        "\nthreads: ",
        "\nmappings: ",
        "\nopen files: ",
        "\nsignals\n",
    ];
    for (flag, own) in ["--threads", "--mappings", "--files", "--signals"]
        .iter()
        .zip(sections)
    {
        let text = only(flag);
        for section in sections {
            assert_eq!(text.contains(section), section == own, "{flag}: {text}");
        }
    }
    assert!(only("--all").contains("capabilities"));
}

#[test]
fn show_as_json() {
    let made = synthetic::make(true);
    let json: Value =
        serde_json::from_str(&still(&["show", "--json", &made.at("crash")]).ok()).unwrap();
    assert_eq!(json["checkpoint"], 4);
    assert_eq!(json["marks"], serde_json::json!(["crash"]));
    assert_eq!(json["threads"][0]["place"]["symbol"], "work");
    assert_eq!(json["threads"][0]["registers"]["rbx"], "0x4");
    assert_eq!(json["threads"][1]["syscall"]["name"], "futex");
    assert_eq!(json["threads"][1]["about_to_get"]["signal"], "SIGSEGV");
    assert_eq!(json["mappings"].as_array().unwrap().len(), 6);
    assert_eq!(json["files"][0]["offset"], 104);
    assert_eq!(json["gaps"][0]["subject"], "fd 9");
}

#[test]
fn moments_that_do_not_exist() {
    let made = synthetic::make(false);
    for moment in ["5", "99", "exit"] {
        let line = still(&["show", &made.at(moment)]).refused(4);
        assert!(
            line.contains('0') && line.contains('4'),
            "which do exist? {line}"
        );
    }
    // It could be a tag; there is none.
    still(&["show", &made.at("yesterday")]).refused(4);
    still(&["show", &made.at("12parsecs")]).refused(2);
    let line = still(&["show".as_ref(), made.recording.as_os_str()]).refused(2);
    assert!(line.contains("from 0 to 4"), "{line}");
}

#[test]
fn moments_by_time_and_name() {
    let made = synthetic::make(false);
    for (moment, number) in [
        ("first", 0),
        ("last", 4),
        ("crash", 4),
        ("0.02s", 2),
        ("25ms", 2),
        ("-10ms", 3),
    ] {
        let text = still(&["show", "--json", &made.at(moment)]).ok();
        let json: Value = serde_json::from_str(&text).unwrap();
        assert_eq!(json["checkpoint"], number, "{moment}");
    }
}
