//! A process tree comes back as one.
//!
//! First the tree is made of blank processes, with their numbers, parents, sessions and groups
//! ([`plan`], [`grow`]), then each becomes what it was, all of them one step after the other, so that what
//! they share is made once. None runs before all are complete; if anything fails, none is left.
//!
//! Processes of a tree keep each other's numbers in their memory, to wait for and to signal. So they come
//! back with the numbers they had: those of this machine, if all are free and to be chosen by us, else
//! in a PID namespace of their own.

mod grow;
mod plan;

pub use grow::Place;
pub use plan::{Plan, Step, plan};

use crate::blank;
use crate::error::{Error, Result};
use crate::objects::{Policy, Shared};
use crate::part::{self, Part};
use crate::source::Source;
use crate::space::{Backing, Fill};
use crate::verify::Verified;
use grow::{Grown, is_number, standing};
use std::fs::File;
use std::path::Path;
use std::time::{Duration, Instant};
use stillframe_image::{Gap, Process, ProcessImage, SpaceId};
use stillframe_linux::sched::Affinity;

/// CAP_CHECKPOINT_RESTORE and CAP_SYS_ADMIN.
const CHECKPOINT_RESTORE: u32 = 40;
const SYS_ADMIN: u32 = 21;

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// None of them is to run yet: all come back stopped (SIGSTOP), and each goes on with SIGCONT.
    pub stopped: bool,
    /// They are to live on without us: the root has a session of its own.
    pub detached: bool,
    /// All of them are read back before their first instruction and compared.
    pub paranoid: bool,
    /// In a PID namespace of their own even if their numbers are free.
    pub apart: bool,
}

/// One process of a tree that runs again.
#[derive(Clone, Debug)]
pub struct Member {
    /// Its number in the recording.
    pub id: SpaceId,
    /// Its pid here.
    pub pid: u32,
    /// Its pid as it sees it.
    pub number: u32,
    /// Pages written before it ran.
    pub pages: u64,
    /// What [`Request::paranoid`] compared.
    pub verified: Option<Verified>,
}

/// A tree that runs again, or is stopped if that was asked for.
#[derive(Debug)]
pub struct Restored {
    /// The processes, the root first.
    pub members: Vec<Member>,
    /// What is not as it was.
    pub gaps: Vec<Gap>,
    /// Until they could run.
    pub took: Duration,
    /// The first process of their PID namespace, a child of ours, if they have one; and where it
    /// tells how the root ended. Else the root is a child of ours.
    pub warden: Option<(u32, File)>,
}

/// Where the numbers of these processes can be had. `us`: ourselves. `taken`: whether a number is.
pub fn place(images: &[&ProcessImage], us: &Process, taken: &dyn Fn(u32) -> bool) -> Place {
    let capable = |capability: u32| {
        // Inheritable, permitted, effective, ...
        let effective = us.capabilities.get(2);
        effective.is_some_and(|set| set >> capability & 1 == 1)
    };
    let user = !capable(SYS_ADMIN);
    let choose = capable(CHECKPOINT_RESTORE) || capable(SYS_ADMIN);
    let mut numbers = images
        .iter()
        .flat_map(|i| i.threads.iter().map(|t| t.tid).chain([i.process.pid]));
    if choose && !numbers.any(taken) {
        Place::Here
    } else {
        Place::Namespace { user }
    }
}

/// Whether a process or thread has this number now.
pub fn is_taken(number: u32) -> bool {
    Path::new(&format!("/proc/{number}")).exists()
}

/// Makes new processes from all of those of a checkpoint (`sources`, the root first) and lets them go
/// on from there.
///
/// # Errors
/// Whatever stands in the way; no process is left behind.
pub fn restore(sources: &[Source<'_>], request: Request) -> Result<Restored> {
    let began = Instant::now();
    let images: Vec<&ProcessImage> = sources.iter().map(Source::image).collect();
    let us = stillframe_linux::proc::process::read(std::process::id())?;
    let apart = place(&images, &us, &|_| true);
    let place = match request.apart {
        true => apart,
        false => place(&images, &us, &is_taken),
    };
    match attempt(sources, &images, request, place, began) {
        // Somebody took it meanwhile, or it is the number of a group that outlived its leader.
        Err(error) if is_number(&error) && place == Place::Here => {
            attempt(sources, &images, request, apart, began)
        }
        done => done,
    }
}

fn attempt(
    sources: &[Source<'_>],
    images: &[&ProcessImage],
    request: Request,
    place: Place,
    began: Instant,
) -> Result<Restored> {
    let processors = Affinity::ours();
    let mut grown = Grown::default();
    let made = complete(&mut grown, sources, images, request, place);
    // Each of them was held to one processor, and with them we.
    processors.give(None);
    let done = match made {
        Ok(done) => done,
        Err(error) => {
            grown.end();
            return Err(error);
        }
    };
    let mut members = Vec::new();
    let mut tracees = Vec::new();
    let made = grown.all.into_iter().flatten().zip(sources).zip(done);
    for ((one, source), (pages, verified)) in made {
        members.push(Member {
            id: source.image().id,
            pid: one.tracee.pid(),
            number: source.image().process.pid,
            pages,
            verified,
        });
        tracees.push(one.tracee);
    }
    let warden = grown.warden.map(|warden| {
        let pid = warden.one.tracee.pid();
        tracees.push(warden.one.tracee);
        (pid, warden.status)
    });
    for tracee in &tracees {
        for tid in tracee.tids() {
            processors.give(Some(*tid));
        }
    }
    if request.stopped {
        // Taken when they are let go: a child that stops before is told to its parent.
        for tracee in &tracees {
            if Some(tracee.pid()) != warden.as_ref().map(|(pid, _)| *pid) {
                stillframe_linux::child::signal(tracee.pid(), rustix::process::Signal::STOP);
            }
        }
    }
    // Children first: what they do at once finds a parent that is about to run.
    for tracee in tracees.into_iter().rev() {
        tracee.detach()?;
    }
    Ok(Restored {
        members,
        gaps: grown.gaps,
        took: began.elapsed(),
        warden,
    })
}

/// Makes them complete: pages written and compared of each.
fn complete(
    grown: &mut Grown,
    sources: &[Source<'_>],
    images: &[&ProcessImage],
    request: Request,
    place: Place,
) -> Result<Vec<(u64, Option<Verified>)>> {
    grow::grow(grown, images, &plan(images, request.detached), place)?;
    let Grown { warden, all, gaps } = grown;
    let mut making = Vec::new();
    for (one, source) in all.iter_mut().flatten().zip(sources) {
        let now = stillframe_linux::proc::process::read(one.tracee.pid())?;
        part::refuse(&now, &source.image().process)?;
        let remote = one.remote.take();
        let remote = remote.ok_or_else(|| Error::unsupported("a process", "it was made twice"))?;
        making.push((&mut one.tracee, Part::new(remote, now), source));
    }
    let mut shared = Shared::of(images, Policy::default());
    let mut backing = Backing::default();
    part::offer_memory(images, &mut shared, &mut backing)?;
    for (tracee, part, source) in &mut making {
        standing(tracee, |halt| {
            part.fill(halt, source, &mut backing, Fill::Everything)
        })?;
    }
    for (tracee, part, source) in &mut making {
        standing(tracee, |halt| part.equip(halt, source.image(), &mut shared))?;
    }
    gaps.extend(shared.finish());
    // What they hold one end of, we must not hold the other of.
    drop((shared, backing));
    for (tracee, part, source) in &mut making {
        standing(tracee, |halt| {
            let image = source.image();
            part.settle(halt, image)?;
            let now = part.now.clone();
            blank::become_user(&mut part.remote, halt, &now, &image.process)?;
            if place == (Place::Namespace { user: true }) {
                blank::give_up_privileges(&mut part.remote, halt)?;
            }
            Ok(())
        })?;
    }
    let mut done = Vec::new();
    // The root last: until it is free, all end with us.
    for (tracee, mut part, source) in making.into_iter().rev() {
        let (more, pages, verified) = standing(tracee, |halt| {
            blank::set_free(&mut part.remote, halt)?;
            part.finish(halt, source, request.paranoid)
        })?;
        let name = |gap: Gap| Gap {
            subject: format!("process {}, {}", source.image().process.pid, gap.subject),
            ..gap
        };
        gaps.extend(more.into_iter().map(name));
        done.push((pages, verified));
    }
    done.reverse();
    if let Some(warden) = warden {
        warden.settle()?;
    }
    Ok(done)
}
