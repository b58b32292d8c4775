//! `still supervise`.
//!
//! Launches a program, records it, and when it is about to die or ails takes it back to a moment at
//! which it was well. [`policy`] says to which, [`health`] whether it ails, [`outside`] tells others.

mod health;
mod outside;
mod policy;

use super::capture;
use crate::args::rollback::LiveFiles;
use crate::args::{FILES_BUDGET, SuperviseArgs};
use crate::exit::{Code, fail, of_outcome};
use health::Health;
use outside::{Outside, What};
use policy::{Fault, Policy, Sentence};
use std::path::Path;
use std::time::{Duration, Instant};
use stillframe_capture::{Ailment, Case, FilesPolicy, Keeper, Remedy};
use stillframe_linux::launch::Launch;
use stillframe_linux::signals::Interrupts;
use stillframe_restore::rollback::FilesToo;
use stillframe_restore::rollback::ask::Summary;

/// The newest part that is kept if nothing else was said.
const KEEP: Duration = Duration::from_secs(60);

/// Starts a program and keeps it alive; ends as it ends.
///
/// # Errors
/// If the program cannot be started or recorded, or the recording cannot be written.
pub fn run(args: SuperviseArgs) -> anyhow::Result<u8> {
    let (program, arguments) = args
        .command
        .split_first()
        .ok_or_else(|| fail(Code::Usage, "no program given; see still supervise --help"))?;
    let mut options = capture::options(&args.capture, Path::new(program));
    if args.capture.keep.is_none() {
        options.keep.time = Some(KEEP);
    }
    let files = files_back(&args, &mut options.files)?;
    capture::check_output(&options)?;
    let interrupts = Interrupts::new()?;
    let outside = Outside::open(&args, &options.output)?;
    let command = Launch {
        program: program.clone(),
        args: arguments.to_vec(),
        cwd: None,
    };
    let mut supervisor = Supervisor {
        policy: Policy::new(args.retries, args.limit),
        health: args.health.as_deref().map(|command| {
            Health::new(
                command,
                args.health_every,
                args.health_timeout,
                args.health_failures,
            )
        }),
        outside,
        on_error_return: args.on_error_return,
        files,
        pid: 0,
        to: None,
    };
    let (ended, concluded) = capture::program(
        &args.capture,
        &options,
        command,
        interrupts,
        Some(&mut supervisor),
    )?;
    supervisor.outside.end();
    concluded?;
    Ok(of_outcome(ended))
}

/// What is done with files when the program is taken back, and what has to be recorded of them for it.
fn files_back(args: &SuperviseArgs, recorded: &mut FilesPolicy) -> anyhow::Result<FilesToo> {
    if args.files_back == LiveFiles::Version {
        if !args.yes {
            let why = "--files-back version writes over files of the program; agree with --yes";
            return Err(fail(Code::Usage, why));
        }
        if *recorded == FilesPolicy::Check {
            *recorded = FilesPolicy::Version {
                budget: FILES_BUDGET,
            };
        }
    }
    if args.files_back != LiveFiles::Ignore && *recorded == FilesPolicy::Ignore {
        let why = "--files-back needs files to be recorded; leave out --files ignore";
        return Err(fail(Code::Usage, why));
    }
    Ok(FilesToo {
        policy: args.files_back.into(),
        agreed: args.yes,
    })
}

struct Supervisor {
    policy: Policy,
    health: Option<Health>,
    outside: Outside,
    on_error_return: bool,
    files: FilesToo,
    pid: u32,
    to: Option<u64>,
}

impl Keeper for Supervisor {
    fn look(&mut self, pid: u32) -> Option<String> {
        self.pid = pid;
        self.outside.look();
        self.health.as_mut()?.look(pid)
    }

    fn judge(&mut self, case: &Case<'_>) -> Remedy {
        self.pid = case.pid;
        let (fault, reason) = match case.ailment {
            Ailment::Signal { tid, number, at } => {
                let name = stillframe_image::signal::name(i64::from(*number));
                let reason = format!("{name} in thread {tid} at {at:#x}");
                (Fault::Signal(*number, *at), reason)
            }
            Ailment::Health(why) => {
                let health = self.health.as_ref();
                let fault = Fault::Health {
                    unseen: health.map_or(Duration::ZERO, Health::unseen),
                    well: health.is_some_and(Health::was_well),
                };
                (fault, why.clone())
            }
        };
        let first = match fault {
            Fault::Signal(..) => What::Crash,
            Fault::Health { .. } => What::Sick,
        };
        self.outside
            .tell(first, case.pid, Some(case.present.0), &reason);
        match self
            .policy
            .judge(fault, case.present, case.rows, Instant::now())
        {
            Sentence::Back(to) => {
                self.to = Some(to.0);
                Remedy::GoBack {
                    to,
                    break_input: self.on_error_return,
                    files: self.files,
                }
            }
            Sentence::GiveUp(why) => {
                let why = format!("{reason}; {why}");
                self.outside
                    .tell(What::GaveUp, case.pid, Some(case.present.0), &why);
                match fault {
                    Fault::Signal(..) => Remedy::Leave,
                    Fault::Health { .. } => Remedy::Kill,
                }
            }
        }
    }

    fn told(&mut self, outcome: Result<(&Summary, Duration), String>) {
        let pid = self.pid;
        if let Some(health) = &mut self.health {
            health.renew();
        }
        match outcome {
            Ok((summary, took)) => {
                self.outside.back(took, summary.pages);
                let files = match summary.files {
                    0 => String::new(),
                    files => format!(", {files} files"),
                };
                let text = format!(
                    "{} pages{files} in {:.1} ms",
                    summary.pages,
                    took.as_secs_f64() * 1e3
                );
                self.outside.tell(What::Back, pid, self.to, &text);
            }
            Err(why) => self.outside.tell(What::Failed, pid, self.to, &why),
        }
    }
}
