//! The command as its users meet it: arguments in, text and an exit code out.
//!
//! Recordings are made here with the store's writer, so that every byte in them is known and no
//! test needs ptrace.
#![allow(
    missing_docs,
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "tests"
)]

mod damage;
mod export;
mod reading;
mod report;
mod synthetic;
mod tree;
mod usage;
mod vector;

use std::ffi::OsStr;
use std::process::Command;

/// What a run gave.
struct Ran {
    code: i32,
    out: String,
    err: String,
}

impl Ran {
    /// Asserts success and gives what was printed.
    fn ok(self) -> String {
        assert_eq!(self.code, 0, "{}{}", self.out, self.err);
        self.out
    }

    /// Asserts a failure in the documented form, and gives the line.
    fn refused(self, code: i32) -> String {
        assert_eq!(self.code, code, "{}{}", self.out, self.err);
        assert_eq!(self.err.lines().count(), 1, "{}", self.err);
        assert!(self.err.starts_with("still: "), "{}", self.err);
        self.err
    }
}

fn still<I: AsRef<OsStr>>(arguments: &[I]) -> Ran {
    let out = Command::new(env!("CARGO_BIN_EXE_still"))
        .args(arguments)
        .env_remove("STILL_LOG")
        .output();
    let out = out.unwrap();
    Ran {
        code: out.status.code().expect("still was killed by a signal"),
        out: String::from_utf8(out.stdout).unwrap(),
        err: String::from_utf8(out.stderr).unwrap(),
    }
}
