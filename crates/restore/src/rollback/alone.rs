//! A rollback of a process that nobody records: attached to for it, and let go afterwards.

use super::ahead::Ahead;
use super::pages;
use super::{
    Beside, Differing, Done, Error, FilesToo, Moment, Options, check_identity, foreign_memory,
    next_asked, roll_back,
};
use crate::objects;
use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, SpaceId};
use stillframe_linux::sched;
use stillframe_linux::tracee::{Event, Halt, Stop, Tracee};
use stillframe_store::Recording;

/// How long the process may take to stop.
const LIMIT: Duration = Duration::from_secs(5);

/// What is to be done once the process is what it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Then {
    /// It runs on.
    Run,
    /// It stays stopped, as by SIGSTOP.
    Stay,
}

/// Rolls back process `pid` to a checkpoint of `space` in a recording. What differs is found by
/// comparing all that exists in its memory.
///
/// # Errors
/// As [`roll_back`]; [`Error::Attach`] if it cannot be attached to, as when somebody traces it.
pub fn roll_back_alone(
    pid: u32,
    recording: &Recording,
    id: CheckpointId,
    space: SpaceId,
    options: Options,
    files: FilesToo,
    then: Then,
) -> Result<Done, Error> {
    let checkpoint = recording.checkpoint(id)?;
    let options = Options {
        foreign: objects::foreign(&checkpoint, space),
        foreign_memory: foreign_memory(&checkpoint, space),
        ..options
    };
    let row = recording.row(id).map(|r| r.tick.wall_ns);
    let image = recording.process(id, space)?;
    check_identity(pid, &image.process, row.unwrap_or(0))?;
    let memory = recording.memory(id, space)?;
    let next = next_asked(recording, id, space)?;
    let mut ahead = Ahead::of_all(&memory)?;
    let options = Options {
        room: ahead.take_room(),
        ..options
    };
    let bytes = ahead.bytes(&memory);
    let begun = Instant::now();
    let mut tracee = Tracee::attach(pid)?;
    // What stands still must not wait for us to get a processor.
    let _ = sched::try_realtime();
    let mut halt = stop(&mut tracee)?;
    let to = Moment {
        image: &image,
        next: next.as_ref().map(|n| &n.process),
        at: id,
        bytes: &bytes,
    };
    let beside = Beside {
        recording,
        checkpoint: &checkpoint,
        id,
        space,
        how: files,
    };
    let mut done = roll_back(
        &mut halt,
        to,
        beside,
        Differing::Find(&mut |_| pages::candidates(pid, &memory)),
        options,
    );
    if done.is_ok() && then == Then::Stay {
        let tid = halt.threads().first().copied().unwrap_or(pid);
        halt.hold(tid)?;
    }
    // Not resumed under us first: what is held takes its stop signal once nobody traces it.
    halt.stay();
    tracee.detach()?;
    if let Ok(done) = &mut done {
        done.took = begun.elapsed();
    }
    done
}

fn stop(tracee: &mut Tracee) -> Result<Halt<'_>, Error> {
    let pid = tracee.pid();
    match tracee.stop(LIMIT)? {
        Stop::All(halt) => Ok(halt),
        Stop::TimedOut { why, .. } => Err(Error::Refused(format!(
            "process {pid} could not be stopped: {why}"
        ))),
        Stop::Event(event) => Err(Error::Refused(match event {
            Event::Exec => format!("process {pid} just began another program"),
            Event::Fatal { .. } => format!("process {pid} is being killed by a signal"),
            _ => format!("process {pid} is ending"),
        })),
    }
}
