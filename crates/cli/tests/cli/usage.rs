//! Wrong command lines, help, completions, manual pages.

use super::still;

#[test]
fn wrong_command_lines_are_one_line_and_code_2() {
    let cases: &[&[&str]] = &[
        &["nonsense"],
        &["record"],
        &["record", "--hz", "0", "--", "true"],
        &["record", "--hz", "1001", "--", "true"],
        &["record", "--hz", "nan", "--", "true"],
        &["record", "--hz=-5", "--", "true"],
        &["record", "--hzz", "5", "--", "true"],
        &["record", "--for", "soon", "--", "true"],
        &["record", "--count", "0", "--", "true"],
        &["record", "--shadow", "much", "--", "true"],
        &["record", "--level", "20", "--", "true"],
        &["record", "--precopy", "sometimes", "--", "true"],
        &["attach"],
        &["attach", "abc"],
        &["attach", "-1"],
        &["attach", "0"],
        &["ls"],
        &["show"],
        &["show", "x@0", "--all", "--threads"],
        &["export", "x@0", "-o", "y"],
        &["export", "--core", "x@0"],
        &["verify", "a", "b"],
        &["completions", "command.com"],
    ];
    for case in cases {
        let line = still(case).refused(2);
        assert!(line.ends_with("(see --help)\n"), "{case:?}: {line}");
    }
}

#[test]
fn messages_say_what_would_be_right() {
    let line = still(&["record", "--hz", "1e3", "--", "true"]).refused(2);
    assert!(
        line.contains("a number of checkpoints per second"),
        "{line}"
    );
    let line = still(&["record", "--hz", "5000", "--", "true"]).refused(2);
    assert!(line.contains("at most 1000"), "{line}");
    let line = still(&["attach", "--for", "1d", "1"]).refused(2);
    assert!(line.contains("500ms, 30s, 2m or 1h"), "{line}");
    let line = still(&["veryfi", "x"]).refused(2);
    assert!(line.contains("verify"), "{line}");
}

#[test]
fn help_names_commands_and_exit_codes() {
    let help = still(&["--help"]).ok();
    for word in [
        "record",
        "attach",
        "ls",
        "show",
        "export",
        "verify",
        "doctor",
        "Exit codes:",
    ] {
        assert!(help.contains(word), "{word}");
    }
    assert!(still(&["-V"]).ok().starts_with("still "));
    let nothing = still::<&str>(&[]);
    assert_eq!(nothing.code, 2);
    assert!(nothing.err.contains("Usage:"), "{}", nothing.err);
}

#[test]
fn completions_for_every_shell() {
    for shell in ["bash", "zsh", "fish", "elvish", "powershell"] {
        assert!(
            still(&["completions", shell]).ok().contains("still"),
            "{shell}"
        );
    }
}

#[test]
fn a_page_for_every_command() {
    let dir = tempfile::tempdir().unwrap();
    let pages = dir.path().join("man1");
    still(&["man".as_ref(), pages.as_os_str()]).ok();
    for page in [
        "still",
        "still-record",
        "still-attach",
        "still-ls",
        "still-export",
    ] {
        let text = std::fs::read_to_string(pages.join(format!("{page}.1"))).unwrap();
        assert!(text.contains(".TH"), "{page}");
    }
    assert!(
        std::fs::read_to_string(pages.join("still.1"))
            .unwrap()
            .contains("Exit codes")
    );
}

#[test]
fn what_is_no_recording_is_code_4() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("file");
    std::fs::write(&file, "nothing").unwrap();
    let missing = dir.path().join("missing");
    for path in [dir.path(), file.as_path(), missing.as_path()] {
        for command in ["ls", "verify"] {
            let line = still(&[command.as_ref(), path.as_os_str()]).refused(4);
            assert!(line.contains(path.to_str().unwrap()), "{line}");
        }
        let moment = format!("{}@0", path.display());
        still(&["show", &moment]).refused(4);
        let core = dir.path().join("core");
        still(&["export", "--core", &moment, "-o", core.to_str().unwrap()]).refused(4);
        assert!(!core.exists());
    }
}
