//! `still record`.

use super::capture;
use crate::args::RecordArgs;
use crate::live::Live;
use std::path::Path;
use stillframe_linux::child;
use stillframe_linux::launch::Launch;
use stillframe_linux::signals::Interrupts;
use stillframe_linux::tracee::{Outcome, Tracee};

/// Starts a program, records it, and ends as it ends.
///
/// # Errors
/// If the program cannot be started or recorded, or the recording cannot be written.
pub fn run(args: RecordArgs) -> anyhow::Result<u8> {
    let (program, arguments) = args.command.split_first().ok_or_else(|| {
        crate::exit::fail(
            crate::exit::Code::Usage,
            "no program given; see still record --help",
        )
    })?;
    let options = capture::options(&args.capture, Path::new(program));
    capture::check_output(&options)?;
    let interrupts = Interrupts::new()?;
    let command = Launch {
        program: program.clone(),
        args: arguments.to_vec(),
        cwd: None,
    };
    let mut pid = None;
    let launch = || {
        let target = Tracee::launch(command)?;
        pid = Some(target.pid());
        Ok(target)
    };
    let mut live = Live::new(interrupts, true, args.capture.quiet);
    let result = stillframe_capture::record(launch, &options, &mut live);
    live.clear();
    let report = result.map_err(|error| {
        // It has not run a single instruction: better no program than an unrecorded one.
        pid.into_iter().for_each(child::kill);
        capture::failure(error)
    })?;
    let (ended, report_pid) = (report.ended, report.pid);
    let concluded = capture::conclude(&args.capture, &options, report);
    // The recording is over; the program, perhaps, is not. We stay its wrapper.
    let ended = match ended {
        Some(ended) => ended,
        None => child::wait(report_pid, live.interrupts())?,
    };
    concluded?;
    Ok(match ended {
        Outcome::Exited(code) => u8::try_from(code & 0xff).unwrap_or(1),
        Outcome::Killed { signal, .. } => u8::try_from(128 + signal).unwrap_or(255),
    })
}
