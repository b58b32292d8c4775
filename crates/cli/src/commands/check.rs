//! `still check`: what would be different if a moment were restored here and now.

use crate::args::check::CheckArgs;
use crate::exit::Code;
use crate::{open, output};
use serde::Serialize;
use std::io::Write as _;
use std::os::unix::ffi::OsStrExt as _;
use stillframe_restore::check::{self, Finding, Findings, Policy, Purpose, Severity};

#[derive(Serialize)]
struct Line<'a> {
    severity: &'static str,
    area: &'static str,
    subject: &'a str,
    text: &'a str,
}

impl<'a> Line<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            severity: finding.severity.name(),
            area: finding.area,
            subject: &finding.subject,
            text: &finding.text,
        }
    }
}

#[derive(Serialize)]
struct Report<'a> {
    recording: String,
    checkpoint: u64,
    /// The worst severity found.
    outcome: &'static str,
    findings: Vec<Line<'a>>,
}

/// Looks, and does nothing; 0 if nothing differs, 12 for warnings, 11 if it would be refused.
pub fn run(args: &CheckArgs) -> anyhow::Result<u8> {
    let opened = open::moment(&args.moment)?;
    let tree = || -> anyhow::Result<bool> {
        let checkpoint = opened.recording.checkpoint(opened.id)?;
        Ok(checkpoint.processes.len() > 1)
    };
    let policy = Policy {
        files: args.files.into(),
        purpose: if args.live {
            Purpose::Live
        } else if !args.same_pids && tree()? {
            Purpose::Tree
        } else {
            Purpose::New {
                same_pids: args.same_pids,
            }
        },
    };
    let findings = check::here(&opened.recording, opened.id, policy)?;
    if args.json {
        output::json(&Report {
            recording: opened.path.to_string_lossy().into_owned(),
            checkpoint: opened.id.0,
            outcome: findings.worst().name(),
            findings: findings.all.iter().map(Line::of).collect(),
        })?;
    } else {
        let name = output::printable(opened.path.as_os_str().as_bytes());
        print(&findings, &format!("{name}@{}", opened.id), args.all)?;
    }
    Ok(match findings.worst() {
        Severity::Ok => 0,
        Severity::Warning => Code::Different as u8,
        Severity::Refuse => Code::Refused as u8,
    })
}

fn print(findings: &Findings, name: &str, all: bool) -> anyhow::Result<()> {
    let mut out = output::stdout();
    for severity in [Severity::Refuse, Severity::Warning, Severity::Ok] {
        if severity == Severity::Ok && !all {
            continue;
        }
        for finding in findings.of(severity) {
            writeln!(out, "{:<8} {finding}", severity.name())?;
        }
    }
    let count = |severity| findings.of(severity).count();
    writeln!(
        out,
        "{name}: {}; {} refused, {} warnings, {} as it was",
        match findings.worst() {
            Severity::Ok => "can be restored here",
            Severity::Warning => "can be restored here, with differences",
            Severity::Refuse => "cannot be restored here",
        },
        count(Severity::Refuse),
        count(Severity::Warning),
        count(Severity::Ok),
    )?;
    out.flush()?;
    Ok(())
}
