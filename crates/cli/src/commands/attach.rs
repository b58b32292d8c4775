//! `still attach`.

use super::capture;
use crate::args::AttachArgs;
use crate::live::Live;
use std::path::PathBuf;
use stillframe_linux::signals::Interrupts;
use stillframe_linux::tracee::Tracee;

/// Records a process that already runs; it runs on afterwards.
///
/// # Errors
/// If it cannot be recorded, or the recording cannot be written.
pub fn run(args: AttachArgs) -> anyhow::Result<u8> {
    let name = std::fs::read_to_string(format!("/proc/{}/comm", args.pid));
    let name = PathBuf::from(name.as_deref().unwrap_or("run").trim_end());
    let options = capture::options(&args.capture, &name);
    let interrupts = Interrupts::new()?;
    capture::check_output(&options)?;
    let mut live = Live::new(interrupts, false, args.capture.quiet);
    let result = stillframe_capture::record(|| Ok(Tracee::attach(args.pid)?), &options, &mut live);
    live.clear();
    let report = result.map_err(capture::failure)?;
    capture::conclude(&args.capture, &options, report)?;
    Ok(0)
}
