//! A live process goes back to an earlier moment of itself.
//!
//! It keeps its number, its parent, its open connections; what differs from the checkpoint is put
//! back, and nothing else. Order of steps:
//!
//! 0. *Read ahead*, while the process still runs: contents of pages ([`ahead`]).
//! 1. *Files* that it writes are compared, and put back if that was asked for ([`beside`]).
//! 2. *Look*. Is it the recorded process, can it become what it was, and what differs? Nothing is
//!    changed, and a refusal leaves the process running.
//! 3. *Hold*. Every thread has a SIGSTOP queued for it alone, and the one in which calls are made
//!    stands at instructions of ours that stop the process ([`holder`]). From here on, if we are
//!    killed, the process does not run on half changed: it stands stopped, and can be rolled back
//!    again.
//! 4. *Change*. Threads that began since end; mappings; pages; descriptors; process-wide state;
//!    threads that ended since begin again; registers last.
//! 5. *Verify*, if asked to, before the first instruction.
//! 6. *Let go*.
//!
//! If a step fails, the same steps are taken towards the present, whose pages are at hand, and the
//! process is left stopped for whoever looks after it.

pub mod ahead;
pub mod alone;
pub mod ask;
mod beside;
mod change;
mod error;
mod foreign;
mod holder;
mod identity;
mod kept;
pub mod layout;
mod now;
pub mod pages;

pub use beside::{Beside, FilesToo};
pub use error::Error;
pub use foreign::foreign_memory;
pub use identity::check as check_identity;
pub use kept::Kept;
pub use now::Mappings;

use crate::files::Putting;
use crate::objects::Closed;
use crate::process;
use crate::threads::{self, Guard as _, Tids};
use crate::verify::Verified;
use change::{Replaced, Undo, Work, change, put_back};
use foreign::leave_shared;
use holder::Holder;
use pages::{Bytes, Page};
use std::ops::Range;
use std::time::{Duration, Instant};
use stillframe_image::{CheckpointId, Gap, Mapping, PageNumber, Process, ProcessImage, SpaceId};
use stillframe_linux::memory::Door;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;
use stillframe_store::Recording;

/// A moment of a process: its state, and its bytes.
#[derive(Clone, Copy)]
pub struct Moment<'a> {
    /// State.
    pub image: &'a ProcessImage,
    /// The process-wide state of when the process was next asked for what only it can tell, if the
    /// image's answers are of an earlier moment: what differs between the two is left alone. Without
    /// it, the present counts.
    pub next: Option<&'a Process>,
    /// The checkpoint.
    pub at: CheckpointId,
    /// Memory.
    pub bytes: &'a dyn Bytes,
}

/// The process at the first checkpoint after `id` for which it was asked again what only it can tell;
/// `None` if it was asked at `id`, or not again.
///
/// # Errors
/// If the recording is damaged.
pub fn next_asked(
    recording: &Recording,
    id: CheckpointId,
    space: SpaceId,
) -> Result<Option<ProcessImage>, Error> {
    let rows = recording.rows();
    let read = |at: usize| recording.process(rows.get(at)?.id, space).ok();
    let first = rows.partition_point(|r| r.id < id);
    if read(first).is_none_or(|p| p.process.as_of >= id) {
        return Ok(None);
    }
    // It is asked at later and later checkpoints, so the first such can be searched for.
    let (mut low, mut high) = (first, rows.len());
    while low + 1 < high {
        let middle = usize::midpoint(low, high);
        match read(middle) {
            Some(p) if p.process.as_of < id => low = middle,
            _ => high = middle,
        }
    }
    Ok(read(high).filter(|p| p.process.as_of >= id))
}

/// How to roll back.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Read everything back and compare before the first instruction.
    pub paranoid: bool,
    /// Connections, by descriptor, that come back broken though they are still there: reading says
    /// ECONNRESET.
    pub broken: Vec<u32>,
    /// Open files, by their number in the recording, that it shares with processes which do not go
    /// back ([`objects::foreign`]).
    pub foreign: Vec<u32>,
    /// Memory that it shares with such processes ([`foreign_memory`]).
    pub foreign_memory: Vec<(u32, u32, u64)>,
    /// Memory for what is written over ([`ahead::Ahead::take_room`]); may be empty.
    pub room: Vec<Page>,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Pages written.
    pub pages: u64,
    /// Threads ended.
    pub ended: usize,
    /// Threads that began again.
    pub begun: usize,
    /// Changes of mappings.
    pub mappings: usize,
    /// How long the process stood still for it. Of [`roll_back`]: from the first look to the last step.
    pub took: Duration,
    /// The threads of the checkpoint, as they are numbered now.
    pub tids: Tids,
    /// What was not put back.
    pub gaps: Vec<Gap>,
    /// What [`Options::paranoid`] compared.
    pub verified: Option<Verified>,
    /// Files put back.
    pub files: usize,
}

/// Which pages may differ: known, or to be found.
pub enum Differing<'a> {
    /// These, ascending.
    Known(Vec<PageNumber>),
    /// Asked once mappings are as they were then.
    Find(&'a mut dyn FnMut(&Door) -> Result<Vec<PageNumber>, Error>),
}

/// Makes a stopped process what it was in `to`.
///
/// Afterwards all its threads stand still, about to go on from there; whoever has the halt resumes
/// them. Whether it is the recorded process was asked before ([`check_identity`]).
///
/// # Errors
/// [`Error::Refused`]: nothing was changed. [`Error::PutBack`], [`Error::Mixed`]: every thread has a
/// stop signal queued, so that the process stops when it is resumed or released.
pub fn roll_back(
    halt: &mut Halt<'_>,
    to: Moment<'_>,
    beside: Beside<'_>,
    differing: Differing<'_>,
    options: Options,
) -> Result<Done, Error> {
    let begun = Instant::now();
    let Some(mut putting) = beside.plan(halt.pid())? else {
        return put_process_back(halt, to, differing, options, None, begun);
    };
    if let Err(error) = putting.apply() {
        return Err(Error::Refused(error.to_string()));
    }
    let mut image = to.image.clone();
    putting.redirect(&mut image);
    let to = Moment {
        image: &image,
        ..to
    };
    let done = put_process_back(halt, to, differing, options, Some(&mut putting), begun);
    match done {
        Ok(mut done) => {
            done.files = putting.steps().len();
            done.gaps.extend(putting.left().iter().cloned());
            Ok(done)
        }
        // A refusal; after the first step it was done already.
        Err(error) => match putting.undo() {
            Ok(()) => Err(error),
            Err(second) => Err(Error::Mixed {
                step: error.to_string(),
                undo: second.to_string(),
            }),
        },
    }
}

/// [`roll_back`] without the files; `files` are taken forward again if a step fails.
fn put_process_back(
    halt: &mut Halt<'_>,
    to: Moment<'_>,
    differing: Differing<'_>,
    mut options: Options,
    files: Option<&mut Putting<'_>>,
    begun: Instant,
) -> Result<Done, Error> {
    let mut present = now::read(halt)?;
    let list = std::mem::take(&mut present.space.mappings);
    let mut replaced = Replaced::default();
    let mut image = to.image.clone();
    if image.process.as_of < to.at {
        let now = &present.process;
        let pending = std::mem::take(&mut image.process.pending);
        image.process = process::between(&image.process, to.next.unwrap_or(now), now);
        image.process.pending = pending;
    }
    let left = leave_shared(&mut image, &options.foreign_memory);
    let to = Moment {
        image: &image,
        ..to
    };
    look(halt, &list, &present, to)?;
    // A thread about to die of a signal does not: the signal is of the future.
    for tid in halt.threads().to_vec() {
        let registers = halt.registers(tid)?;
        halt.put_registers(tid, &registers)?;
    }
    let mut avoid: Vec<Range<u64>> = to
        .image
        .space
        .mappings
        .iter()
        .map(|m| m.start..m.end)
        .collect();
    avoid.extend(list.iter().map(|m| m.start..m.end));
    let mut remote = Remote::prepare_safely(halt, &avoid)?;

    let foreign = options.foreign.clone();
    let mut holder = Holder::default();
    let mut done = Done {
        gaps: left,
        ..Done::default()
    };
    let mut kept = Kept::new(std::mem::take(&mut options.room));
    let mut closed = Closed::default();
    let changed = change(
        &mut Work {
            remote: &mut remote,
            halt,
            holder: &mut holder,
            done: &mut done,
            kept: Some(&mut kept),
            closed: Some(&mut closed),
            replaced: &mut replaced,
            options,
        },
        to,
        &present,
        differing,
    );
    if let Err(step) = changed {
        replaced.into_image(&mut present);
        let opened = to.image.objects.opened.iter();
        let foreign = opened
            .filter(|o| foreign.contains(&o.description))
            .map(|o| o.fd)
            .collect();
        let kept = Undo {
            list,
            kept,
            closed,
            foreign,
        };
        // Before what is mapped of them.
        let forward = files.map_or(Ok(()), Putting::undo).map_err(Error::from);
        let back = put_back(&mut remote, halt, &mut holder, &present, kept).and(forward);
        let stopped = match back {
            Ok(()) => close(remote, halt, &mut holder),
            Err(e) => Err(e),
        };
        // Whoever resumes or releases it now finds it stopping.
        if let Some(tid) = halt.threads().first().copied() {
            holder.hold(halt, tid)?;
        }
        return Err(match stopped {
            Ok(()) => Error::PutBack(step.to_string()),
            Err(undo) => Error::Mixed {
                step: step.to_string(),
                undo: undo.to_string(),
            },
        });
    }
    if let Some(files) = files {
        files.finish();
    }
    close(remote, halt, &mut holder)?;
    done.took = begun.elapsed();
    Ok(done)
}

/// Whether it can become what it was.
fn look(
    halt: &Halt<'_>,
    list: &[Mapping],
    present: &ProcessImage,
    to: Moment<'_>,
) -> Result<(), Error> {
    let mut obstacles = process::obstacles(&present.process, &to.image.process);
    let plan = threads::plan(halt.threads(), halt.pid(), to.image);
    obstacles.extend(plan.obstacle(to.image));
    let nowhere = 0..0;
    let steps = layout::plan(list, &to.image.space.mappings, &nowhere);
    obstacles.extend(layout::obstacle(halt.pid(), &steps));
    match obstacles.first() {
        Some(first) => Err(Error::Refused(first.clone())),
        None => Ok(()),
    }
}

/// Lets all threads go, and takes our pages out. No instruction of the process runs.
fn close(remote: Remote, halt: &mut Halt<'_>, holder: &mut Holder) -> Result<(), Error> {
    holder.let_all_go(halt)?;
    if let Err(error) = remote.finish_safely(halt) {
        // They lie where nothing is, and nothing refers to them.
        tracing::warn!(pid = halt.pid(), %error, "pages of ours stay in the process");
    }
    Ok(())
}
