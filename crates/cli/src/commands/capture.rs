//! What `record`, `attach` and `supervise` share: options, the program that is launched, and the report
//! at the end.

use crate::args::{AccountDepth, CaptureArgs, Copy, Precopy, Rate, Tracker};
use crate::exit::{Code, fail};
use crate::live::Live;
use crate::output::{self, printable};
use crate::units::{self, show_ns, show_size};
use crate::usage;
use serde::Serialize;
use std::io::Write as _;
use std::path::{Path, PathBuf};
use stillframe_capture::{Copying, Error, Findings, Keeper, Options, Report, TrackerChoice};
use stillframe_linux::child;
use stillframe_linux::launch::Launch;
use stillframe_linux::signals::Interrupts;
use stillframe_linux::tracee::{Outcome, Tracee};

/// Share of the target's speed that `--hz auto` may cost if nothing else is said.
const AUTO_BUDGET: f64 = 0.03;

/// The options meant by what was typed. `name`: what the recording is called if nothing was said.
pub fn options(args: &CaptureArgs, name: &Path) -> Options {
    let stem = name.file_name().unwrap_or("run".as_ref());
    let output = args.output.clone().unwrap_or_else(|| {
        let mut file = stem.to_owned();
        file.push(".still");
        PathBuf::from(file)
    });
    let defaults = Options::default();
    Options {
        output,
        force: args.force,
        hz: match args.hz {
            Rate::Fixed(hz) => hz,
            Rate::Auto => units::MAX_HZ,
        },
        budget: match args.hz {
            Rate::Auto if args.max_pause.is_none() => args.budget.or(Some(AUTO_BUDGET)),
            _ => args.budget,
        },
        max_pause: args.max_pause,
        at_points: args.at_points,
        duration: args.duration,
        count: args.count,
        keep: args.keep.unwrap_or_default(),
        precopy: match args.precopy {
            Precopy::Auto => stillframe_capture::Precopy::Auto,
            Precopy::Rounds(rounds) => stillframe_capture::Precopy::Fixed(rounds),
        },
        copying: match args.copy {
            Copy::Auto => Copying::Auto,
            Copy::Now => Copying::Now,
            Copy::After => Copying::After,
        },
        tracker: match args.tracker {
            Tracker::Auto => TrackerChoice::Auto,
            Tracker::WpAsync => TrackerChoice::WpAsync,
            Tracker::Bpf => TrackerChoice::Bpf,
            Tracker::SoftDirty => TrackerChoice::SoftDirty,
        },
        follow: args.follow,
        speculate: args.speculate.clone(),
        exact_account: args.account == AccountDepth::Full,
        paranoid: args.paranoid,
        objects: !args.no_objects,
        files: args.files,
        shadow_bytes: args.shadow.unwrap_or(defaults.shadow_bytes),
        level: args.level.unwrap_or(defaults.level),
        shared_limit: args.shared_limit.unwrap_or(defaults.shared_limit),
    }
}

/// Refuses an output that exists before anything is started or stopped.
pub fn check_output(options: &Options) -> anyhow::Result<()> {
    if !options.force && options.output.symlink_metadata().is_ok() {
        return Err(failure(Error::Exists(options.output.clone())));
    }
    Ok(())
}

/// An error of the recorder with its exit code.
pub fn failure(error: Error) -> anyhow::Error {
    use stillframe_linux::Error as Kernel;
    use stillframe_store::Error as Store;
    let code = match &error {
        Error::Attach(_) | Error::NotStopped { .. } | Error::EndedEarly { .. } => Code::Target,
        Error::Launch(_) | Error::NotX86_64(_) => Code::Target,
        Error::Exists(_)
        | Error::Store(Store::Exists(_) | Store::NotRecording { .. } | Store::Busy(_)) => {
            Code::Exists
        }
        Error::Store(_) => Code::Write,
        Error::Setup {
            source: Kernel::Unsupported { .. },
            ..
        }
        | Error::Kernel(Kernel::Unsupported { .. })
        | Error::NoTracker { .. }
        | Error::NoTrackerAtAll(_) => Code::Kernel,
        Error::Setup { .. } => Code::Target,
        _ => Code::Failure,
    };
    fail(code, error.to_string())
}

/// Microseconds.
#[derive(Serialize)]
struct Pauses {
    p50: f64,
    p99: f64,
    max: f64,
}

#[derive(Serialize)]
struct Paranoid {
    checkpoints: u64,
    pages_compared: u64,
    differences: u64,
    described: Vec<String>,
}

/// The closing summary for programs.
#[derive(Serialize)]
struct Summary<'a> {
    recording: String,
    pid: u32,
    checkpoints: u64,
    skipped: u64,
    seconds: f64,
    rate: f64,
    pause_us: Pauses,
    stalled_share: f64,
    dirty_pages: u64,
    raw_bytes: u64,
    stored_bytes: u64,
    paranoid: Option<Paranoid>,
    recorder_cpu_seconds: f64,
    recorder_peak_bytes: u64,
    writer_peak_bytes: u64,
    how: &'a str,
    notes: &'a [String],
}

/// Launches a program, records it, perhaps under the eyes of a keeper, and waits for its end: how it
/// ended, and what the recording came to.
///
/// # Errors
/// If it cannot be started or recorded.
pub fn program(
    args: &CaptureArgs,
    options: &Options,
    command: Launch,
    interrupts: Interrupts,
    keeper: Option<&mut dyn Keeper>,
) -> anyhow::Result<(Outcome, anyhow::Result<()>)> {
    let mut pid = None;
    let launch = || {
        let target = Tracee::launch(command)?;
        pid = Some(target.pid());
        Ok(target)
    };
    let mut live = Live::new(interrupts, true, args.quiet);
    // Named anew, so that it need live no longer than the recording.
    let keeper = keeper.map(|keeper| keeper as &mut dyn Keeper);
    let result = stillframe_capture::record_kept(launch, options, &mut live, keeper);
    live.clear();
    let report = result.map_err(|error| {
        // It has not run a single instruction: better no program than one that nobody looks after.
        pid.into_iter().for_each(child::kill);
        failure(error)
    })?;
    let (ended, report_pid) = (report.ended, report.pid);
    let concluded = conclude(args, options, report);
    // The recording is over; the program, perhaps, is not. We stay its wrapper.
    let ended = match ended {
        Some(ended) => ended,
        None => child::wait(report_pid, live.interrupts())?,
    };
    Ok((ended, concluded))
}

/// Prints the report, and gives the error that the recording ended with, if any.
pub fn conclude(args: &CaptureArgs, options: &Options, report: Report) -> anyhow::Result<()> {
    let (cpu, peak) = usage::ours();
    let stats = &report.stats;
    if args.json {
        output::json(&Summary {
            recording: options.output.to_string_lossy().into_owned(),
            pid: report.pid,
            checkpoints: stats.checkpoints,
            skipped: stats.skipped,
            seconds: report.elapsed.as_secs_f64(),
            rate: stats.rate(report.elapsed),
            pause_us: Pauses {
                p50: stats.pauses.quantile(0.5) as f64 / 1e3,
                p99: stats.pauses.quantile(0.99) as f64 / 1e3,
                max: stats.pauses.max() as f64 / 1e3,
            },
            stalled_share: stalled_share(&report),
            dirty_pages: stats.dirty_pages,
            raw_bytes: stats.raw_bytes,
            stored_bytes: stats.stored_bytes,
            paranoid: report.paranoid.as_ref().map(|found| Paranoid {
                checkpoints: found.checkpoints,
                pages_compared: found.pages,
                differences: found.differences,
                described: found.described.clone(),
            }),
            recorder_cpu_seconds: cpu,
            recorder_peak_bytes: peak,
            writer_peak_bytes: report.writer_bytes,
            how: &report.how,
            notes: &report.notes,
        })?;
    } else if !args.quiet {
        human(options, &report)?;
    }
    if let Some(error) = report.failure {
        return Err(failure(error));
    }
    match &report.paranoid {
        Some(found) if found.differences > 0 => Err(differences(found)),
        _ => Ok(()),
    }
}

fn differences(found: &Findings) -> anyhow::Error {
    fail(
        Code::Paranoid,
        format!(
            "{} pages differ from the target's memory; please report this: {}",
            found.differences,
            found.described.first().map_or("", String::as_str)
        ),
    )
}

fn stalled_share(report: &Report) -> f64 {
    let elapsed = report.elapsed.as_secs_f64();
    if elapsed > 0.0 {
        report.stats.stalled_ns as f64 / 1e9 / elapsed
    } else {
        0.0
    }
}

/// A launched program's own output goes to stdout; ours goes beside it, to stderr.
fn human(options: &Options, report: &Report) -> anyhow::Result<()> {
    let mut out = std::io::stderr().lock();
    let stats = &report.stats;
    let path = options.output.to_string_lossy();
    let path = printable(path.as_bytes());
    writeln!(
        out,
        "still: {} checkpoints of process {} in {:.1} s ({:.1}/s, {} ticks skipped); {}",
        stats.checkpoints,
        report.pid,
        report.elapsed.as_secs_f64(),
        stats.rate(report.elapsed),
        stats.skipped,
        report.how
    )?;
    writeln!(
        out,
        "still: pause p50 {} p99 {} max {}; target stood still {:.2} % of the time; {} for {} of \
         written pages",
        show_ns(stats.pauses.quantile(0.5)),
        show_ns(stats.pauses.quantile(0.99)),
        show_ns(stats.pauses.max()),
        stalled_share(report) * 100.0,
        show_size(stats.stored_bytes),
        show_size(stats.raw_bytes),
    )?;
    if let Some(found) = &report.paranoid {
        writeln!(
            out,
            "still: paranoid: {} checkpoints, {} pages compared, {} differences",
            found.checkpoints, found.pages, found.differences
        )?;
    }
    for note in &report.notes {
        writeln!(out, "still: note: {}", printable(note.as_bytes()))?;
    }
    if stats.checkpoints > 0 {
        writeln!(out, "still: see them with: still ls {path}")?;
    }
    Ok(())
}
