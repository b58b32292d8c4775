//! Order of steps for new processes.
//!
//! Memory first, because threads are made on stacks that must be there; then descriptors; then what
//! the kernel knows of threads and process; then our pages go, and last the registers are set. Until
//! then the process cannot run an instruction of its own, and a failure ends it.

use crate::blank;
use crate::error::{Error, Result};
use crate::lazy::{self, Server};
use crate::objects::{Policy, Shared};
use crate::part::{self, Part};
use crate::source::Source;
use crate::space::{self, Backing, Fill};
use crate::verify::Verified;
use std::time::{Duration, Instant};
use stillframe_image::Gap;
use stillframe_linux::remote::{Remote, numbers};
use stillframe_linux::sched::Affinity;
use stillframe_linux::tracee::{Halt, Stop, Tracee};

/// How long a process that does nothing may take to stop.
const LIMIT: Duration = Duration::from_secs(10);

/// Which number the process gets.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Pid {
    /// One of the kernel's choice.
    #[default]
    New,
    /// The one it had.
    Same,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Request {
    /// Its number.
    pub pid: Pid,
    /// It is not to run yet: it comes back stopped (SIGSTOP), and goes on with SIGCONT.
    pub stopped: bool,
    /// Its private anonymous memory comes when it is touched: see [`Restored::server`].
    pub lazy: bool,
    /// It is to live on without us: in a session of its own, so that neither our end nor that of our
    /// terminal sends it a signal.
    pub detached: bool,
    /// All of it is read back before its first instruction and compared; not with [`Request::lazy`].
    pub paranoid: bool,
}

/// A process that runs again, or is stopped if that was asked for. It is a child of ours.
#[derive(Debug)]
pub struct Restored<'a> {
    /// Its number.
    pub pid: u32,
    /// What is not as it was.
    pub gaps: Vec<Gap>,
    /// Pages written before it ran.
    pub pages: u64,
    /// Until it could run.
    pub took: Duration,
    /// Who brings the rest of its memory: to be served at once, and then the process be let off
    /// ([`crate::lazy::let_off`]). Until then it is killed when this thread ends.
    pub server: Option<Server<'a>>,
    /// What [`Request::paranoid`] compared.
    pub verified: Option<Verified>,
}

/// What was made.
struct Made<'a> {
    gaps: Vec<Gap>,
    pages: u64,
    server: Option<Server<'a>>,
    verified: Option<Verified>,
}

/// Makes a new process from one process of a checkpoint and lets it go on from there. `backing`: what
/// processes of one tree share; a new one for a process alone.
///
/// # Errors
/// Whatever stands in the way; no process is left behind.
pub fn restore<'a>(
    source: &'a Source<'a>,
    request: Request,
    backing: &mut Backing,
) -> Result<Restored<'a>> {
    let began = Instant::now();
    let processors = Affinity::ours();
    let wanted = source.image().process.pid;
    let mut tracee = blank::make((request.pid == Pid::Same).then_some(wanted))?;
    let pid = tracee.pid();
    let assembled = assemble(&mut tracee, source, request, backing);
    let made = match assembled {
        Ok(done) => done,
        Err(error) => {
            end(tracee);
            return Err(error);
        }
    };
    // Its threads were made while the one that made them was held to one processor.
    for tid in tracee.tids() {
        processors.give(Some(*tid));
    }
    tracee.detach()?;
    Ok(Restored {
        pid,
        gaps: made.gaps,
        pages: made.pages,
        took: began.elapsed(),
        server: made.server,
        verified: made.verified,
    })
}

/// Nothing half-made stays behind.
fn end(tracee: Tracee) {
    let pid = tracee.pid();
    stillframe_linux::child::signal(pid, rustix::process::Signal::KILL);
    drop(tracee);
    stillframe_linux::child::kill(pid);
}

fn assemble<'a>(
    tracee: &mut Tracee,
    source: &'a Source<'a>,
    request: Request,
    backing: &mut Backing,
) -> Result<Made<'a>> {
    let pid = tracee.pid();
    let ended = |how: String| Error::Ended { pid, how };
    let mut halt = match tracee.stop(LIMIT)? {
        Stop::All(halt) => halt,
        Stop::TimedOut { why, .. } => return Err(ended(why)),
        Stop::Event(event) => return Err(ended(format!("{event:?}"))),
    };
    let done = build(&mut halt, source, request, backing);
    // It does not run before it is let go as a whole, whatever came of it.
    halt.stay();
    done
}

fn build<'a>(
    halt: &mut Halt<'_>,
    source: &'a Source<'a>,
    request: Request,
    backing: &mut Backing,
) -> Result<Made<'a>> {
    let image = source.image();
    let main = halt.pid();
    let mut now = stillframe_linux::proc::process::read(main)?;
    part::refuse(&now, &image.process)?;
    let mut remote = Remote::prepare(halt, &space::avoid(image))?;
    blank::clean(&mut remote, halt)?;
    // It lives in our session, and in our group: its own are gone, or another's by now.
    if request.detached {
        remote.call(halt, main, numbers::SETSID, [0; 6])?;
        (now.group, now.session) = (main, main);
    }
    let mut shared = Shared::of(&[image], Policy::default());
    part::offer_memory(&[image], &mut shared, backing)?;
    let mut part = Part::new(remote, now);
    let how = if request.lazy {
        Fill::Lazily
    } else {
        Fill::Everything
    };
    part.fill(halt, source, backing, how)?;
    if request.lazy {
        part.pages += lazy::needed_now(&part.remote, source)?;
    }
    part.equip(halt, image, &mut shared)?;
    part.gaps.extend(shared.finish());
    part.settle(halt, image)?;
    // While it takes no part of its memory from us it may outlive us.
    let mut server = None;
    if request.lazy {
        let missing = lazy::arrange(&mut part.remote, halt)?;
        server = Some(Server::new(source, missing, &part.left)?);
    }
    let now = part.now.clone();
    blank::become_user(&mut part.remote, halt, &now, &image.process)?;
    if server.is_none() {
        blank::set_free(&mut part.remote, halt)?;
    }
    if request.stopped {
        stillframe_linux::child::signal(main, rustix::process::Signal::STOP);
    }
    let paranoid = request.paranoid && !request.lazy;
    let (gaps, pages, verified) = part.finish(halt, source, paranoid)?;
    Ok(Made {
        gaps,
        pages,
        server,
        verified,
    })
}
