//! `still report`.

use super::{still, synthetic};
use serde_json::Value;
use std::ffi::OsStr;

#[test]
fn text_is_the_default_and_names_every_overhead() {
    let made = synthetic::make(false);
    let rec = made.recording.as_os_str();
    let text = still(&["report".as_ref(), rec]).ok();
    assert_eq!(
        text,
        still(&["report".as_ref(), "--text".as_ref(), rec]).ok()
    );
    for part in [
        "prog --fast 'two words' (pid 4242)",
        "ended: killed by SIGSEGV",
        "note: made by a test",
        "checkpoints       5 (1 full) in 40.00 ms",
        "reached           100.00 Hz of 100 asked",
        "ticks not taken   1: 1 reason not recorded",
        "full checkpoints     100 us",
        "found written     7 pages",
        "write faults      4 (at most: pages found written)",
        "slowdown",
    ] {
        assert!(text.contains(part), "{part}: {text}");
    }
}

#[test]
fn json_agrees_with_ls() {
    let made = synthetic::make(false);
    let rec = made.recording.as_os_str();
    let parse = |text: String| serde_json::from_str::<Value>(&text).unwrap();
    let report = parse(still(&["report".as_ref(), "--json".as_ref(), rec]).ok());
    let ls = parse(still(&["ls".as_ref(), "--json".as_ref(), rec]).ok());
    let totals = &ls["totals"];
    assert_eq!(report["pages"]["dirty"], totals["dirty_pages"]);
    assert_eq!(report["pages"]["raw_bytes"], totals["raw_bytes"]);
    assert_eq!(report["pages"]["stored_bytes"], totals["stored_bytes"]);
    assert_eq!(report["rate"]["skipped"], totals["skipped"]);
    let max = report["pause"]["boundary"]["max"].as_f64().unwrap() / 1e3;
    assert_eq!(Some(max), totals["pause_max_us"].as_f64());
    let given = still(&[
        "report".as_ref(),
        "--json".as_ref(),
        "--fault-cost".as_ref(),
        "2us".as_ref(),
        rec,
    ]);
    assert_eq!(parse(given.ok())["tracking"]["total_ns"], 8_000);
}

#[test]
fn a_page_appears_whole_and_replaces_only_when_told() {
    let made = synthetic::make(false);
    let rec = made.recording.as_os_str();
    let file = made.dir.path().join("report.html");
    let html = |more: &[&str]| {
        let mut args: Vec<&OsStr> =
            vec!["report".as_ref(), "--html".as_ref(), file.as_os_str(), rec];
        args.extend(more.iter().map(OsStr::new));
        still(&args)
    };
    let said = html(&[]).ok();
    assert!(
        said.starts_with("wrote ") && said.lines().count() == 1,
        "{said}"
    );
    let page = std::fs::read_to_string(&file).unwrap();
    assert!(page.starts_with("<!doctype html>") && page.ends_with("</html>\n"));
    html(&[]).refused(6);
    std::fs::write(&file, "old").unwrap();
    let text = html(&["--force", "--text", "--second", "0"]).ok();
    assert!(text.contains("OVERHEAD"), "{text}");
    assert_eq!(
        std::fs::read_to_string(&file).unwrap().len(),
        page.replace("\"second\":null", "\"second\":0").len()
    );
    let nowhere = made.dir.path().join("none/report.html");
    still(&[
        "report".as_ref(),
        rec,
        "--html".as_ref(),
        nowhere.as_os_str(),
    ])
    .refused(7);
    still(&["report".as_ref(), rec, "--json".as_ref(), "--text".as_ref()]).refused(2);
    still(&["report".as_ref(), rec, "--second".as_ref(), "soon".as_ref()]).refused(2);
    still(&["report", "/nonexistent.still"]).refused(4);
}
