//! `still record`.

use super::capture;
use crate::args::RecordArgs;
use crate::exit;
use std::path::Path;
use stillframe_linux::launch::Launch;
use stillframe_linux::signals::Interrupts;

/// Starts a program, records it, and ends as it ends.
///
/// # Errors
/// If the program cannot be started or recorded, or the recording cannot be written.
pub fn run(args: RecordArgs) -> anyhow::Result<u8> {
    let (program, arguments) = args.command.split_first().ok_or_else(|| {
        exit::fail(
            exit::Code::Usage,
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
    let (ended, concluded) = capture::program(&args.capture, &options, command, interrupts, None)?;
    concluded?;
    Ok(exit::of_outcome(ended))
}
