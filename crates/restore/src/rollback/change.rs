//! The steps that change a stopped process, towards a moment and, if one fails, back to the present.

use super::foreign::is_left;
use super::holder::Holder;
use super::kept::Kept;
use super::now::{self, Mappings};
use super::pages::{self, KernelWords};
use super::{Differing, Done, Error, Moment, Options, layout};
use crate::objects::{self, Closed, Policy, Shared, Stdio, Way};
use crate::process;
use crate::threads::{self, Guard as _};
use crate::verify;
use stillframe_image::{AltStack, Mapping, PageNumber, ProcessImage, SignalAction};
use stillframe_linux::memory::Door;
use stillframe_linux::remote::{Remote, numbers};
use stillframe_linux::tracee::Halt;

/// What the steps work with.
pub(super) struct Work<'a, 'h> {
    pub(super) remote: &'a mut Remote,
    pub(super) halt: &'a mut Halt<'h>,
    pub(super) holder: &'a mut Holder,
    pub(super) done: &'a mut Done,
    /// Where what is written over is kept; none if that is had elsewhere.
    pub(super) kept: Option<&'a mut Kept>,
    /// The same of descriptors.
    pub(super) closed: Option<&'a mut Closed>,
    /// What is learnt of the present by replacing it.
    pub(super) replaced: &'a mut Replaced,
    pub(super) options: Options,
}

/// State that is only told when it is replaced.
#[derive(Debug, Default)]
pub(super) struct Replaced {
    actions: Vec<SignalAction>,
    stacks: Vec<(u32, AltStack)>,
    ended: Vec<threads::Ended>,
}

impl Replaced {
    /// Completes what was seen from outside.
    pub(super) fn into_image(self, image: &mut ProcessImage) {
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
pub(super) fn change(
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
pub(super) struct Undo {
    pub(super) list: Vec<Mapping>,
    pub(super) kept: Kept,
    pub(super) closed: Closed,
    /// Descriptors of files shared with processes that do not go back.
    pub(super) foreign: Vec<u32>,
}

/// Everything as it was before the first step.
pub(super) fn put_back(
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
