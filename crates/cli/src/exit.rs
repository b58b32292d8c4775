//! Exit codes, and errors that carry one.
//!
//! Scripts decide by the code, people by the line. The table is part of the interface: it is
//! printed by `still --help` and stands in docs/commands.md.

use std::fmt;
use stillframe_linux::tracee::Outcome;

/// What the exit status of `still` says.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub enum Code {
    /// Any failure without a code of its own.
    Failure = 1,
    /// The command line is wrong.
    Usage = 2,
    /// The target cannot be recorded.
    Target = 3,
    /// The recording cannot be opened, or the moment or the process does not exist.
    Recording = 4,
    /// The recording is damaged.
    Damaged = 5,
    /// The output exists.
    Exists = 6,
    /// The output cannot be written.
    Write = 7,
    /// The kernel lacks a feature.
    Kernel = 8,
    /// `--paranoid` found differences.
    Paranoid = 9,
    /// A search found nothing.
    Nothing = 10,
    /// A moment cannot be restored here.
    Refused = 11,
    /// `check` found differences, none of which forbids a restore.
    Different = 12,
    /// Ctrl-C ended a search.
    Interrupted = 130,
}

/// The table, for `--help`.
pub const TABLE: &str = "\
Exit codes:
  0  success
  1  any failure not named below
  2  the command line is wrong
  3  the target cannot be recorded: no such process, not permitted, a kernel thread, already
     traced, not a 64-bit x86 program
  4  the recording cannot be opened, or the moment or the process does not exist
  5  the recording is damaged
  6  the output exists; --force replaces it
  7  the output cannot be written: no space left, file-size limit, no permission
  8  the kernel lacks a feature that is needed; `still doctor` lists them
  9  --paranoid found a checkpoint that differs from the target's memory
  10  a search found nothing
  11  a moment cannot be restored here and now; `still check` says why
  12  `still check` found differences, none of which forbids a restore
  130  a search was ended by Ctrl-C; what it had found is printed
  `still record` exits like the program it ran: with its status, or 128 + the number of the
  signal that killed it.";

/// The exit status by which the end of a program is told, as shells do.
pub fn of_outcome(outcome: Outcome) -> u8 {
    match outcome {
        Outcome::Exited(code) => u8::try_from(code & 0xff).unwrap_or(1),
        Outcome::Killed { signal, .. } => u8::try_from(128 + signal).unwrap_or(255),
    }
}

/// An error with an exit code. Made by [`fail`], found again by [`code_of`].
#[derive(Debug)]
pub struct Failure {
    code: Code,
    message: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)
    }
}

impl std::error::Error for Failure {}

/// An error that makes `still` exit with `code`. The message is one line and says what to do.
pub fn fail(code: Code, message: impl Into<String>) -> anyhow::Error {
    anyhow::Error::new(Failure {
        code,
        message: message.into(),
    })
}

/// The exit code of an error: that of the first cause which has one.
pub fn code_of(error: &anyhow::Error) -> Code {
    error
        .chain()
        .find_map(|cause| {
            if let Some(failure) = cause.downcast_ref::<Failure>() {
                return Some(failure.code);
            }
            if let Some(error) = cause.downcast_ref::<stillframe_store::Error>() {
                return of_store(error);
            }
            if let Some(error) = cause.downcast_ref::<stillframe_timeline::Error>() {
                return of_timeline(error);
            }
            if let Some(error) = cause.downcast_ref::<stillframe_linux::Error>() {
                return of_linux(error);
            }
            if let Some(error) = cause.downcast_ref::<stillframe_restore::Error>() {
                return of_restore(error);
            }
            cause.downcast_ref::<std::io::Error>().and_then(of_io)
        })
        .unwrap_or(Code::Failure)
}

/// The code of an I/O error that speaks for itself wherever it comes up.
pub fn of_io(error: &std::io::Error) -> Option<Code> {
    use std::io::ErrorKind as Kind;
    match error.kind() {
        Kind::StorageFull | Kind::QuotaExceeded | Kind::FileTooLarge | Kind::ReadOnlyFilesystem => {
            Some(Code::Write)
        }
        Kind::AlreadyExists => Some(Code::Exists),
        _ => None,
    }
}

/// The code of an error about a recording.
pub fn of_store(error: &stillframe_store::Error) -> Option<Code> {
    use stillframe_store::Error as E;
    match error {
        E::Io { source, .. } => of_io(source),
        E::Exists(_) | E::Busy(_) | E::Held(_) => Some(Code::Exists),
        E::NotRecording { .. }
        | E::Changed(_)
        | E::NoMoment { .. }
        | E::NoProcess { .. }
        | E::Unmapped { .. } => Some(Code::Recording),
        E::MomentSyntax(_) => Some(Code::Usage),
        E::Damaged(_) | E::NoObject(_) | E::Section(_) => Some(Code::Damaged),
        E::Unavailable { .. } => Some(Code::Recording),
        E::Removed(_) | E::Stopped(_) | E::TooLarge(_) => Some(Code::Write),
        _ => None,
    }
}

/// The code of an error about a question.
pub fn of_timeline(error: &stillframe_timeline::Error) -> Option<Code> {
    use stillframe_timeline::Error as E;
    match error {
        E::Store(error) => of_store(error),
        E::NoProcess(_) => Some(Code::Recording),
        E::Empty | E::Question { .. } | E::Needle(_) => Some(Code::Usage),
        _ => None,
    }
}

/// The code of an error about restoring.
pub fn of_restore(error: &stillframe_restore::Error) -> Option<Code> {
    use stillframe_restore::Error as E;
    match error {
        E::Store(error) => of_store(error),
        E::Linux(error) | E::Step { source: error, .. } => of_linux(error),
        E::Io { source, .. } => of_io(source),
        E::File { .. } | E::NotSupported { .. } | E::Kernel | E::PidTaken(_) => Some(Code::Refused),
        _ => None,
    }
}

/// The code of a refusal by the kernel.
pub fn of_linux(error: &stillframe_linux::Error) -> Option<Code> {
    use stillframe_linux::Error as E;
    // EPERM, ESRCH, EACCES: what ptrace says of targets that are not ours.
    let refused = matches!(error.errno(), Some(1 | 3 | 13));
    match error {
        E::Unsupported { .. } => Some(Code::Kernel),
        E::ThreadGone(_)
        | E::ProcessGone(_)
        | E::NoSafeThread { .. }
        | E::NoRoom { .. }
        | E::Seccomp { .. }
        | E::ShadowStack { .. } => Some(Code::Target),
        _ if refused => Some(Code::Target),
        _ => None,
    }
}

/// Whether the reader of our output went away, as in `still ls | head`. That is no failure.
pub fn is_broken_pipe(error: &anyhow::Error) -> bool {
    error.chain().any(|cause| {
        cause
            .downcast_ref::<std::io::Error>()
            .is_some_and(|e| e.kind() == std::io::ErrorKind::BrokenPipe)
    })
}

/// An error and its causes on one line, without saying twice what a cause already said.
pub fn one_line(error: &anyhow::Error) -> String {
    let mut line = String::new();
    for cause in error.chain() {
        let text = cause.to_string();
        if line.contains(&text) {
            continue;
        }
        if !line.is_empty() {
            line.push_str(": ");
        }
        line.push_str(&text);
    }
    line.replace(['\n', '\r'], " ")
}

/// clap's message as one line: its first paragraph, its tip, and where to read more.
pub fn usage_line(message: &str) -> String {
    let joined = |paragraph: &str| {
        paragraph
            .lines()
            .map(str::trim)
            .filter(|l| !l.is_empty())
            .collect::<Vec<_>>()
            .join(" ")
    };
    let mut paragraphs = message.split("\n\n");
    let first = joined(paragraphs.next().unwrap_or_default());
    let mut line = first.strip_prefix("error: ").unwrap_or(&first).to_owned();
    if let Some(tip) = paragraphs.map(joined).find(|p| p.starts_with("tip: ")) {
        line.push_str("; ");
        line.push_str(tip.strip_prefix("tip: ").unwrap_or(&tip));
    }
    line.push_str(" (see --help)");
    line
}

#[cfg(test)]
mod tests {
    use super::*;
    use anyhow::Context as _;

    #[test]
    fn the_code_survives_context() {
        let error = Err::<(), _>(fail(Code::Damaged, "bits are missing"))
            .context("reading run.still")
            .unwrap_err();
        assert_eq!(code_of(&error), Code::Damaged);
        assert_eq!(one_line(&error), "reading run.still: bits are missing");
    }

    #[test]
    fn a_cause_is_not_said_twice() {
        let error = anyhow::anyhow!("no space").context("cannot write: no space");
        assert_eq!(one_line(&error), "cannot write: no space");
    }

    #[test]
    fn usage_is_one_line() {
        let text = "error: unexpected argument '--hzz' found\n\n  tip: a similar argument exists: \
                    '--hz'\n\nUsage: still record --hz <N>\n\nFor more, try '--help'.\n";
        assert_eq!(
            usage_line(text),
            "unexpected argument '--hzz' found; a similar argument exists: '--hz' (see --help)"
        );
    }

    #[test]
    fn the_table_names_every_code() {
        for code in (0..=12).chain([130]) {
            assert!(TABLE.contains(&format!("\n  {code}  ")), "{code}");
        }
    }
}
