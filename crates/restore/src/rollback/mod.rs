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
mod error;
mod holder;
mod identity;
mod kept;
pub mod layout;
mod now;
pub mod pages;

pub use beside::{Beside, FilesToo};
pub use error::Error;
pub use identity::check as check_identity;
pub use kept::Kept;
pub use now::Mappings;

use crate::files::Putting;
use crate::objects::{self, Closed, Policy, Shared, Stdio, Way};
use crate::process;
use crate::threads::{self, Guard, Tids};
use crate::verify::{self, Verified};
use holder::Holder;
use pages::{Bytes, KernelWords, Page};
use std::ops::Range;
use std::time::{Duration, Instant};
use stillframe_image::{
    AltStack, Checkpoint, CheckpointId, Coverage, Gap, Mapping, PageNumber, Process, ProcessImage,
    SignalAction, SpaceId,
};
use stillframe_linux::memory::Door;
use stillframe_linux::remote::{Remote, numbers};
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

/// Why the content of a mapping stays as it is.
const SHARED: &str = "it is shared with another process, which does not go back";

/// Memory that others have, who do not go back, stays as it is.
fn leave_shared(image: &mut ProcessImage, foreign: &[(u32, u32, u64)]) -> Vec<Gap> {
    let mut gaps = Vec::new();
    for mapping in &mut image.space.mappings {
        let file = (mapping.device.0, mapping.device.1, mapping.inode);
        if mapping.shared && mapping.write && mapping.inode != 0 && foreign.contains(&file) {
            mapping.coverage = Coverage::Omitted(SHARED.to_owned());
            gaps.push(Gap {
                subject: crate::space::describe(mapping),
                reason: format!("{SHARED}: its content is left"),
            });
        }
    }
    gaps
}

fn is_left(image: &ProcessImage, page: &PageNumber) -> bool {
    image
        .space
        .mapping_at(page.address())
        .is_some_and(|m| matches!(&m.coverage, Coverage::Omitted(why) if why == SHARED))
}

/// Memory of a process that others of its checkpoint map, too, by device and inode.
pub fn foreign_memory(checkpoint: &Checkpoint, process: SpaceId) -> Vec<(u32, u32, u64)> {
    let of = |own: bool| {
        let images = checkpoint.processes.iter();
        let images = images.filter(move |p| (p.id == process) == own);
        let mappings = images.flat_map(|p| &p.space.mappings);
        mappings
            .filter(|m| m.shared && m.inode != 0)
            .map(|m| (m.device.0, m.device.1, m.inode))
            .collect::<std::collections::BTreeSet<_>>()
    };
    of(true).intersection(&of(false)).copied().collect()
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

/// What the steps work with.
struct Work<'a, 'h> {
    remote: &'a mut Remote,
    halt: &'a mut Halt<'h>,
    holder: &'a mut Holder,
    done: &'a mut Done,
    /// Where what is written over is kept; none if that is had elsewhere.
    kept: Option<&'a mut Kept>,
    /// The same of descriptors.
    closed: Option<&'a mut Closed>,
    /// What is learnt of the present by replacing it.
    replaced: &'a mut Replaced,
    options: Options,
}

/// State that is only told when it is replaced.
#[derive(Debug, Default)]
struct Replaced {
    actions: Vec<SignalAction>,
    stacks: Vec<(u32, AltStack)>,
    ended: Vec<threads::Ended>,
}

impl Replaced {
    /// Completes what was seen from outside.
    fn into_image(self, image: &mut ProcessImage) {
        for action in self.actions {
            let actions = &mut image.process.actions;
            actions.retain(|a| a.signal != action.signal);
            if action.handler != 0 {
                actions.push(action);
            }
        }
        for ended in self.ended {
            let of = |t: &&mut stillframe_image::Thread| t.tid == ended.tid;
            if let Some(thread) = image.threads.iter_mut().find(of) {
                thread.alt_stack = ended.alt_stack;
                thread.tid_address = ended.tid_address;
            }
        }
        for (tid, stack) in self.stacks {
            if let Some(thread) = image.threads.iter_mut().find(|t| t.tid == tid) {
                thread.alt_stack = Some(stack);
            }
        }
    }
}

/// All the changes. Registers are set at the end, and no thread stands at an instruction of ours.
fn change(
    work: &mut Work<'_, '_>,
    to: Moment<'_>,
    present: &ProcessImage,
    differing: Differing<'_>,
) -> Result<(), Error> {
    let Work {
        remote,
        halt,
        holder,
        done,
        kept,
        closed,
        replaced,
        options,
    } = work;
    let pid = halt.pid();
    let plan = threads::plan(halt.threads(), pid, to.image);
    let caller = plan
        .caller()
        .ok_or_else(|| Error::Refused("no thread is left to work with".to_owned()))?;
    for tid in halt.threads().to_vec() {
        if tid != caller {
            holder.hold(halt, tid)?;
        }
    }
    // From its first call on, this one stands at instructions that stop the process.
    holder.allow(halt, caller)?;
    remote.call(halt, caller, numbers::GETPID, [0; 6])?;

    let mut touched = Vec::new();
    for tid in &plan.surplus {
        holder.allow(halt, *tid)?;
        let ended = threads::end(remote, halt, *tid)?;
        touched.extend(ended.rseq);
        replaced.ended.push(ended);
        holder.forget(*tid);
        done.ended += 1;
    }

    let door = Door::open(pid)?;
    let words = to
        .image
        .threads
        .iter()
        .filter(|t| plan.kept.contains(&t.tid) && t.rseq.is_some())
        .filter(|t| {
            present
                .threads
                .iter()
                .any(|p| p.tid == t.tid && p.rseq == t.rseq)
        })
        .filter_map(|t| KernelWords::read(&door, &t.rseq?).ok())
        .collect::<Vec<_>>();
    let ours = remote.pages();
    let list = Mappings::read(pid)?.list;
    let steps = layout::plan(&list, &to.image.space.mappings, &ours);
    if let Some(kept) = kept.as_deref_mut() {
        now::keep_what_goes(pid, &door, &steps, &list, kept)?;
    }
    layout::apply(remote, halt, caller, &steps)?;
    done.mappings = steps.len();
    let mut anew = Vec::new();
    if let Some(kept) = kept.as_deref_mut() {
        let list = Mappings::read(pid)?.list;
        let steps = layout::joined(&list, &to.image.space.mappings, &ours);
        now::keep_what_goes(pid, &door, &steps, &list, kept)?;
        layout::apply(remote, halt, caller, &steps)?;
        done.mappings += steps.len();
        for step in &steps {
            if let layout::Step::Map(m) = step {
                let pages = PageNumber::of(m.start)..PageNumber::of(m.end);
                anew.extend(to.bytes.pages_in(pages)?);
            }
        }
    }

    let mut list = match differing {
        Differing::Known(list) => list,
        Differing::Find(find) => find(&door)?,
    };
    list.append(&mut anew);
    let owned = |page: &PageNumber| {
        let mapping = to.image.space.mapping_at(page.address());
        mapping.is_some_and(pages::is_ours)
    };
    if kept.is_some() {
        // What was kept before is what it was, whoever wrote there since.
        let ends = touched.iter().flat_map(|at| [*at, *at + 31]);
        list.extend(ends.map(PageNumber::of).filter(owned));
    }
    list.retain(|p| !is_left(to.image, p));
    list.sort_unstable();
    list.dedup();
    let mut unkept = Kept::default();
    let over = kept.as_deref_mut().unwrap_or(&mut unkept);
    done.pages = pages::write(&door, &list, to.bytes, &words, over)?;

    let way = Way {
        broken: &options.broken,
        closed: closed.as_deref_mut(),
        foreign: &options.foreign,
    };
    // Streams that led outside are not ours to give.
    let policy = Policy { stdio: Stdio::Null };
    let mut shared = Shared::of(&[to.image], policy);
    let fds = objects::put_back(remote, halt, caller, to.image, &mut shared, way)?;
    drop(shared);
    done.gaps.extend(fds);
    let found = process::conform(
        remote,
        halt,
        caller,
        &present.process,
        &to.image.process,
        &mut replaced.actions,
    )?;
    done.gaps.extend(found);
    threads::permit_tiles(remote, halt, caller, to.image)?;
    let before = halt.threads().len();
    let conformed = threads::conform(remote, halt, caller, to.image, *holder)?;
    done.begun = halt.threads().len().saturating_sub(before);
    done.gaps.extend(conformed.gaps);
    replaced.stacks.extend(conformed.stacks);
    threads::conform_shared(
        remote,
        halt,
        caller,
        &to.image.process.pending,
        &mut done.gaps,
    )?;
    remote.close_channel(halt, caller)?;
    let read = |at: u64, into: &mut [u8]| door.read(at, into).is_ok();
    threads::put(halt, to.image, &conformed.tids, &read)?;
    done.tids.clone_from(&conformed.tids);
    // The caller stands in the open now; until all are let go it must not run either.
    hold_as_it_is(halt, holder, caller)?;
    if options.paranoid {
        done.verified = Some(verify::verify(
            halt,
            to.image,
            to.bytes,
            &conformed.tids,
            &ours,
            &conformed.patched,
        )?);
        if let Some(found) = done.verified.as_ref().filter(|v| v.count > 0) {
            let first = found.differences.first().map_or("", String::as_str);
            return Err(Error::Refused(format!(
                "{} differences after it was put back: {first}",
                found.count
            )));
        }
    }
    Ok(())
}

/// Holds a thread whose mask is what it shall be.
fn hold_as_it_is(halt: &mut Halt<'_>, holder: &mut Holder, tid: u32) -> Result<(), Error> {
    let mask = halt.blocked(tid)?;
    holder.take(halt, tid)?;
    halt.put_blocked(tid, mask)?;
    Ok(())
}

/// What putting back needs.
struct Undo {
    list: Vec<Mapping>,
    kept: Kept,
    closed: Closed,
    /// Descriptors of files shared with processes that do not go back.
    foreign: Vec<u32>,
}

/// Everything as it was before the first step.
fn put_back(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    holder: &mut Holder,
    present: &ProcessImage,
    undo: Undo,
) -> Result<(), Error> {
    let Undo {
        list,
        kept,
        closed,
        foreign,
    } = undo;
    let mut image = present.clone();
    image.space.mappings = list;
    // If they were not reached they are as they were.
    image.objects.opened = match closed.shares.as_slice() {
        [] => objects::shares(halt.pid(), &image.descriptors),
        known => known.to_vec(),
    };
    let plan = threads::plan(halt.threads(), halt.pid(), &image);
    if let Some(caller) = plan.caller() {
        holder.allow(halt, caller)?;
        objects::undo(remote, halt, caller, closed)?;
    }
    let mut done = Done::default();
    let changed = now::read(halt)?;
    let opened = image.objects.opened.iter();
    let foreign = opened
        .filter(|o| foreign.contains(&o.fd))
        .map(|o| o.description)
        .collect();
    change(
        &mut Work {
            remote,
            halt,
            holder,
            done: &mut done,
            kept: None,
            closed: None,
            replaced: &mut Replaced::default(),
            options: Options {
                foreign,
                ..Options::default()
            },
        },
        Moment {
            image: &image,
            next: None,
            at: image.process.as_of,
            bytes: &kept,
        },
        &changed,
        Differing::Known(kept.pages()),
    )
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
