//! The beginning of a recording, while its target runs already.
//!
//! Whatever a traced thread reports, a signal it is about to get above all, waits for us. Creating a
//! recording waits for the disk, so it happens on a thread of its own, and the target is seen to
//! meanwhile.

use crate::Error;
use crate::engine::{Happened, Prepared};
use crate::options::Options;
use std::time::{Duration, Instant};
use stillframe_linux::proc::identity;
use stillframe_linux::tracee::{Event, Family, FamilyWake};
use stillframe_store::{Header, Writer, WriterOptions};

/// How long the end of the work can go unnoticed.
const LOOK: Duration = Duration::from_millis(1);

/// Creates the recording of a target. Also gives what happened to the target meanwhile and must be
/// dealt with first.
///
/// # Errors
/// If it cannot be created, or the kernel's.
pub(super) fn create(
    prepared: &mut Prepared,
    pid: u32,
    options: &Options,
) -> Result<(Writer, Option<Happened>), Error> {
    let header = Header {
        program: identity::executable(pid).unwrap_or_default(),
        arguments: identity::arguments(pid).unwrap_or_default(),
        pid,
        started_wall_ns: super::wall_ns(),
        requested_hz: if options.at_points { 0.0 } else { options.hz },
        tracker: prepared.tracker().to_owned(),
        kernel: super::kernel_release(),
        writer_version: env!("CARGO_PKG_VERSION").to_owned(),
        host: stillframe_linux::host::processor(),
        ..Header::default()
    };
    let (writer, happened) = meanwhile(prepared.family(), || {
        Writer::create(
            &options.output,
            &header,
            WriterOptions {
                shadow_bytes: options.shadow_bytes,
                level: options.level,
                keep: options.keep,
                control: true,
                ..WriterOptions::default()
            },
            options.force,
        )
    })?;
    Ok((writer?, happened))
}

/// Does some work while what the target's threads report is passed on. The first thing that someone
/// has to decide about ends that: it is given back, and its thread stands still until then.
fn meanwhile<T: Send>(
    family: &mut Family,
    work: impl FnOnce() -> T + Send,
) -> Result<(T, Option<Happened>), Error> {
    std::thread::scope(|scope| {
        let worker = scope.spawn(work);
        let mut seen = Ok(None);
        while !worker.is_finished() && matches!(seen, Ok(None)) {
            seen = match family.wait(Some(Instant::now() + LOOK), &[]) {
                Ok(FamilyWake::Event {
                    event: Event::ThreadsChanged | Event::JobStopped | Event::JobContinued,
                    ..
                }) => Ok(None),
                Ok(FamilyWake::Event { pid, event }) => Ok(Some((pid, event))),
                Ok(FamilyWake::Deadline | FamilyWake::Descriptor(_)) => Ok(None),
                Err(error) => Err(error),
            };
        }
        let done = match worker.join() {
            Ok(done) => done,
            Err(panic) => std::panic::resume_unwind(panic),
        };
        Ok((done, seen?))
    })
}
