//! Blank processes with the numbers, parents, sessions and groups of a tree.
//!
//! The first one is made by us, or by the first process of a PID namespace of ours; every other one by
//! its parent, while that is still blank. All of them stand still, are traced by us, and are killed if
//! we end.

use super::plan::{Plan, Step};
use crate::error::{Error, Result};
use crate::{blank, space};
use std::collections::BTreeSet;
use std::fs::File;
use std::time::Duration;
use stillframe_image::{Gap, ProcessImage, Registers};
use stillframe_linux::blank::first::{self, First};
use stillframe_linux::remote::{Remote, numbers};
use stillframe_linux::tracee::{Halt, Stop, Tracee, adopt_orphans};

/// How long a process that does nothing may take to stop.
const LIMIT: Duration = Duration::from_secs(10);

const EPERM: i32 = 1;
const EINVAL: i32 = 22;

/// Where a tree gets its numbers from.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// From among those of all processes here.
    Here,
    /// From a PID namespace of its own; `user`: which takes a user namespace.
    Namespace {
        /// We are not privileged.
        user: bool,
    },
}

/// One process, and the means to make calls in it.
#[derive(Debug)]
pub(super) struct One {
    pub(super) tracee: Tracee,
    /// Until it is taken to make more of it.
    pub(super) remote: Option<Remote>,
}

/// The first process of a namespace.
#[derive(Debug)]
pub(super) struct Warden {
    pub(super) one: One,
    pub(super) status: File,
    /// What it does by itself: registers and signal mask.
    own: (Registers, u64),
}

/// Processes that were made so far, by their positions.
#[derive(Debug, Default)]
pub(super) struct Grown {
    pub(super) warden: Option<Warden>,
    pub(super) all: Vec<Option<One>>,
    pub(super) gaps: Vec<Gap>,
}

/// Does something with a process that stands still, and leaves it so.
pub(super) fn standing<T>(
    tracee: &mut Tracee,
    act: impl FnOnce(&mut Halt<'_>) -> Result<T>,
) -> Result<T> {
    let pid = tracee.pid();
    let ended = |how: String| Error::Ended { pid, how };
    let mut halt = match tracee.stop(LIMIT)? {
        Stop::All(halt) => halt,
        Stop::TimedOut { why, .. } => return Err(ended(why)),
        Stop::Event(event) => return Err(ended(format!("{event:?}"))),
    };
    let done = act(&mut halt);
    halt.stay();
    done
}

/// Makes all of them. What was made until something failed is in `grown`.
pub(super) fn grow(
    grown: &mut Grown,
    images: &[&ProcessImage],
    plan: &Plan,
    place: Place,
) -> Result<()> {
    grown.all.resize_with(images.len(), || None);
    grown.gaps.extend(plan.gaps.iter().cloned());
    let wanted: BTreeSet<u32> = images
        .iter()
        .flat_map(|i| i.threads.iter().map(|t| t.tid).chain([i.process.pid]))
        .collect();
    if let Place::Namespace { user } = place {
        let Some(root) = images.first() else {
            return Ok(());
        };
        if wanted.contains(&1) {
            return Err(Error::unsupported(
                "pid 1",
                "it is taken by the first process of the new PID namespace; restore one process with \
                 --process N",
            ));
        }
        grown.warden = Some(warden(root.process.pid, user, &mut grown.gaps)?);
    }
    for step in &plan.steps {
        take(grown, images, &wanted, *step)?;
    }
    Ok(())
}

fn take(
    grown: &mut Grown,
    images: &[&ProcessImage],
    wanted: &BTreeSet<u32>,
    step: Step,
) -> Result<()> {
    let image = |at: usize| {
        let image = images.get(at).copied();
        image.ok_or_else(|| Error::unsupported("a process", "it is not in the checkpoint"))
    };
    match step {
        Step::Root(at) => {
            let image = image(at)?;
            let pid = image.process.pid;
            let tracee = match &mut grown.warden {
                Some(warden) => {
                    let tracee = fork(&mut warden.one, pid)?;
                    // What is sent to our group or by our terminal is not meant for it.
                    if let Err(error) = call(&mut warden.one, numbers::SETSID, [0; 6]) {
                        tracee.put_down()?;
                        return Err(error.into());
                    }
                    tracee
                }
                None => blank::make(Some(pid))?,
            };
            put(grown, at, prepare(tracee, image)?)
        }
        Step::Fork { child, by } => {
            let image = image(child)?;
            let tracee = fork(of(grown, by)?, image.process.pid)?;
            put(grown, child, prepare(tracee, image)?)
        }
        Step::Orphan { child, by } => {
            let image = image(child)?;
            let tracee = orphan(of(grown, by)?, image.process.pid, wanted)?;
            put(grown, child, prepare(tracee, image)?)
        }
        Step::Session(at) => {
            call(of(grown, at)?, numbers::SETSID, [0; 6])
                .map_err(Error::step(format!("session of {}", of_image(image(at)?))))?;
            Ok(())
        }
        Step::Group { process, group } => {
            let args = [0, u64::from(group), 0, 0, 0, 0];
            let image = image(process)?;
            match call(of(grown, process)?, numbers::SETPGID, args) {
                Ok(_) => {}
                Err(error @ stillframe_linux::Error::Call { .. }) => grown.gaps.push(Gap {
                    subject: of_image(image),
                    reason: format!("its process group {group} cannot be had: {error}"),
                }),
                Err(error) => return Err(error.into()),
            }
            Ok(())
        }
    }
}

fn of_image(image: &ProcessImage) -> String {
    format!("process {}", image.process.pid)
}

fn of(grown: &mut Grown, at: usize) -> Result<&mut One> {
    let one = grown.all.get_mut(at).and_then(Option::as_mut);
    one.ok_or_else(|| Error::unsupported("a process", "nobody is there to make it"))
}

fn put(grown: &mut Grown, at: usize, made: One) -> Result<()> {
    match grown.all.get_mut(at) {
        Some(place) => *place = Some(made),
        None => made.tracee.put_down()?,
    }
    Ok(())
}

/// Gets a blank process ready for calls. If that fails it is killed.
fn prepare(mut tracee: Tracee, image: &ProcessImage) -> Result<One> {
    let avoid = space::avoid(image);
    let ready = standing(&mut tracee, |halt| {
        halt.own_offspring(halt.pid())?;
        let mut remote = Remote::prepare(halt, &avoid)?;
        blank::clean(&mut remote, halt)?;
        Ok(remote)
    });
    match ready {
        Ok(remote) => Ok(One {
            tracee,
            remote: Some(remote),
        }),
        Err(error) => {
            let _ = tracee.put_down();
            Err(error)
        }
    }
}

fn call(one: &mut One, number: i64, args: [u64; 6]) -> stillframe_linux::Result<u64> {
    let gone = stillframe_linux::Error::ProcessGone(one.tracee.pid());
    let Some(remote) = &mut one.remote else {
        return Err(gone);
    };
    match one.tracee.stop(LIMIT)? {
        Stop::All(mut halt) => {
            let tid = halt.pid();
            let done = remote.call(&mut halt, tid, number, args);
            halt.stay();
            done
        }
        _ => Err(gone),
    }
}

fn fork(by: &mut One, number: u32) -> Result<Tracee> {
    by.with(|remote, halt| {
        let tid = halt.pid();
        remote
            .fork(halt, tid, number)
            .map_err(|e| blank::not_that(e, Some(number)))
    })
}

/// Made by a helper that ends at once.
fn orphan(by: &mut One, number: u32, wanted: &BTreeSet<u32>) -> Result<Tracee> {
    let (helper, own) = helper(by, wanted)?;
    let mut helper = prepare(helper, &ProcessImage::default())?;
    let made = fork(&mut helper, number);
    helper.tracee.put_down()?;
    let forgotten = by.with(|remote, halt| {
        let tid = halt.pid();
        Ok(remote.reap(halt, tid, own)?)
    });
    match (made, forgotten) {
        (Ok(made), Err(error)) => {
            made.put_down()?;
            Err(error)
        }
        (made, _) => made,
    }
}

/// A child with a number that nobody will want.
fn helper(by: &mut One, wanted: &BTreeSet<u32>) -> Result<(Tracee, u32)> {
    const HIGHEST: u32 = 32_000;
    const TRIES: usize = 200;
    let free = (300..HIGHEST).rev().filter(|n| !wanted.contains(n));
    let mut last = Error::unsupported("a process that has lost its parent", "no pid is free");
    for number in free.take(TRIES) {
        match fork(by, number) {
            Ok(made) => return Ok((made, number)),
            Err(error @ Error::PidTaken(_)) => last = error,
            Err(error) => return Err(error),
        }
    }
    Err(last)
}

fn warden(waited: u32, user: bool, gaps: &mut Vec<Gap>) -> Result<Warden> {
    let First {
        mut tracee,
        status,
        has_proc,
    } = first::make(waited, user).map_err(|e| match e.errno() {
        Some(EPERM | EINVAL | 28) => Error::unsupported(
            "the pids of the tree",
            format!("they take a PID namespace, which is not to be had: {e}; run as root"),
        ),
        _ => e.into(),
    })?;
    if !has_proc {
        gaps.push(Gap {
            subject: "/proc".to_owned(),
            reason: "shows other pids than the processes know each other by".to_owned(),
        });
    }
    let ready = standing(&mut tracee, |halt| {
        let tid = halt.pid();
        halt.own_offspring(tid)?;
        let own = (halt.registers(tid)?, halt.blocked(tid)?);
        Ok((Remote::prepare(halt, &[])?, own))
    });
    match ready {
        Ok((remote, own)) => Ok(Warden {
            one: One {
                tracee,
                remote: Some(remote),
            },
            status,
            own,
        }),
        Err(error) => {
            let _ = tracee.put_down();
            Err(error)
        }
    }
}

impl One {
    fn with<T>(&mut self, act: impl FnOnce(&mut Remote, &mut Halt<'_>) -> Result<T>) -> Result<T> {
        let Some(remote) = &mut self.remote else {
            return Err(stillframe_linux::Error::ProcessGone(self.tracee.pid()).into());
        };
        standing(&mut self.tracee, |halt| act(remote, halt))
    }
}

impl Warden {
    /// Leaves it to what it does by itself: to be let go.
    pub(super) fn settle(&mut self) -> Result<()> {
        let (registers, blocked) = self.own;
        let Some(mut remote) = self.one.remote.take() else {
            return Ok(());
        };
        standing(&mut self.one.tracee, |halt| {
            let tid = halt.pid();
            blank::set_free(&mut remote, halt)?;
            remote.finish(halt, tid)?;
            let nothing = |_: u64, _: &mut [u8]| false;
            halt.put_registers(tid, &crate::threads::resumed(&registers, &nothing))?;
            Ok(halt.put_blocked(tid, blocked)?)
        })
    }
}

impl Grown {
    /// Nothing half-made stays behind.
    pub(super) fn end(self) {
        // Those whose parents end first are to be reaped by somebody.
        let _ = adopt_orphans(true);
        let warden = self.warden.map(|w| w.one);
        let mut ours = Vec::new();
        for one in warden
            .into_iter()
            .chain(self.all.into_iter().flatten())
            .rev()
        {
            ours.push(one.tracee.pid());
            if let Err(error) = one.tracee.put_down() {
                tracing::warn!(%error, "a process could not be ended");
            }
        }
        for pid in ours {
            stillframe_linux::child::forget(pid);
        }
        let _ = adopt_orphans(false);
    }
}

/// Whether a failure says that a number is not to be had where it was looked for.
pub(super) fn is_number(error: &Error) -> bool {
    matches!(error, Error::PidTaken(_))
}
