//! What was found, line by line.

use std::fmt;
use stillframe_image::text::printable;

/// How bad a difference is.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Severity {
    /// As it was.
    Ok,
    /// Different, in a way that the process may never notice.
    Warning,
    /// It cannot be restored so, or would do harm.
    Refuse,
}

impl Severity {
    /// In one word.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Ok => "ok",
            Self::Warning => "warning",
            Self::Refuse => "refuse",
        }
    }
}

/// One thing that was looked at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Finding {
    /// How bad.
    pub severity: Severity,
    /// In one word, e.g. `file`, `kernel`, `pid`.
    pub area: &'static str,
    /// What it is about, e.g. a path.
    pub subject: String,
    /// What is so, and what to do.
    pub text: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}: {}", self.subject, self.text)
    }
}

/// All of them, in the order in which they were found.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Findings {
    /// The findings.
    pub all: Vec<Finding>,
}

impl Findings {
    /// The worst of them; `Ok` without any.
    pub fn worst(&self) -> Severity {
        let severities = self.all.iter().map(|f| f.severity);
        severities.max().unwrap_or(Severity::Ok)
    }

    /// Those of one severity.
    pub fn of(&self, severity: Severity) -> impl Iterator<Item = &Finding> {
        self.all.iter().filter(move |f| f.severity == severity)
    }

    /// Why nothing may be started, on one line; `None` if it may.
    pub fn refusal(&self) -> Option<String> {
        let mut refused = self.of(Severity::Refuse);
        let first = refused.next()?;
        Some(match refused.count() {
            0 => first.to_string(),
            more => format!("{first} (and {more} more; `still check` lists them)"),
        })
    }

    /// Adds one.
    pub(super) fn add(
        &mut self,
        severity: Severity,
        area: &'static str,
        subject: impl fmt::Display,
        text: impl fmt::Display,
    ) {
        let finding = Finding {
            severity,
            area,
            subject: printable(subject.to_string().as_bytes()).into_owned(),
            text: printable(text.to_string().as_bytes()).into_owned(),
        };
        // Processes of a tree share much.
        if !self.all.contains(&finding) {
            self.all.push(finding);
        }
    }

    pub(super) fn ok(
        &mut self,
        area: &'static str,
        subject: impl fmt::Display,
        text: impl fmt::Display,
    ) {
        self.add(Severity::Ok, area, subject, text);
    }

    pub(super) fn warn(
        &mut self,
        area: &'static str,
        subject: impl fmt::Display,
        text: impl fmt::Display,
    ) {
        self.add(Severity::Warning, area, subject, text);
    }

    pub(super) fn refuse(
        &mut self,
        area: &'static str,
        subject: impl fmt::Display,
        text: impl fmt::Display,
    ) {
        self.add(Severity::Refuse, area, subject, text);
    }
}
