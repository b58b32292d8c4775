//! verify, and reading what is damaged.

use super::{still, synthetic};
use serde_json::Value;
use std::fs;
use std::path::{Path, PathBuf};

fn files(dir: &Path) -> Vec<PathBuf> {
    let mut found = Vec::new();
    for entry in fs::read_dir(dir).unwrap() {
        let path = entry.unwrap().path();
        if path.is_dir() {
            found.extend(files(&path));
        } else {
            found.push(path);
        }
    }
    found.sort();
    found
}

#[test]
fn a_whole_recording_verifies() {
    let made = synthetic::make(true);
    let text = still(&["verify".as_ref(), made.recording.as_os_str()]).ok();
    assert!(text.contains("all is well: 5 checkpoints"), "{text}");
    assert!(text.contains("; finished"), "{text}");
    let text = still(&[
        "verify".as_ref(),
        "--json".as_ref(),
        made.recording.as_os_str(),
    ])
    .ok();
    let json: Value = serde_json::from_str(&text).unwrap();
    assert_eq!(json["ok"], true);
    assert_eq!(json["checkpoints"], 5);
    assert_eq!(json["objects"], 1);
    assert_eq!(json["problems"], serde_json::json!([]));
}

#[test]
fn one_bit_is_found() {
    let made = synthetic::make(true);
    let largest = files(&made.recording)
        .into_iter()
        .max_by_key(|path| fs::metadata(path).unwrap().len())
        .unwrap();
    let mut bytes = fs::read(&largest).unwrap();
    let middle = bytes.len() / 2;
    bytes[middle] ^= 0x10;
    fs::write(&largest, bytes).unwrap();
    let ran = still(&["verify".as_ref(), made.recording.as_os_str()]);
    assert!(ran.out.contains("problem: "), "{}", ran.out);
    let line = ran.refused(5);
    assert!(line.contains("is damaged"), "{line}");
    let ran = still(&[
        "verify".as_ref(),
        "--json".as_ref(),
        made.recording.as_os_str(),
    ]);
    let json: Value = serde_json::from_str(&ran.out).unwrap();
    assert_eq!(json["ok"], false);
    assert!(!json["problems"].as_array().unwrap().is_empty());
    ran.refused(5);
}

#[test]
fn no_damage_ends_in_a_panic() {
    let made = synthetic::make(true);
    for path in files(&made.recording) {
        let whole = fs::read(&path).unwrap();
        for at in [
            0,
            whole.len() / 3,
            whole.len() * 2 / 3,
            whole.len().saturating_sub(1),
        ] {
            if whole.is_empty() {
                continue;
            }
            let mut bytes = whole.clone();
            bytes[at] ^= 0xff;
            for damaged in [&bytes[..], &whole[..at]] {
                fs::write(&path, damaged).unwrap();
                for arguments in [
                    vec!["ls".to_owned(), made.recording.display().to_string()],
                    vec!["verify".to_owned(), made.recording.display().to_string()],
                    vec!["show".to_owned(), made.at(2)],
                ] {
                    let ran = still(&arguments);
                    let known = [0, 4, 5].contains(&ran.code);
                    assert!(known, "{arguments:?}: code {}, {}", ran.code, ran.err);
                    assert!(!ran.err.contains("panicked"), "{}", ran.err);
                }
            }
        }
        fs::write(&path, whole).unwrap();
    }
}
