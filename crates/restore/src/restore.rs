//! Order of steps for new processes.
//!
//! Memory first, because threads are made on stacks that must be there; then descriptors; then what
//! the kernel knows of threads and process; then our pages go, and last the registers are set. Until
//! then the process cannot run an instruction of its own, and a failure ends it.

use crate::error::{Error, Result};
use crate::lazy::{self, Server};
use crate::objects::{self, Policy, Shared};
use crate::source::Source;
use crate::space::{self, Backing, Fill};
use crate::verify::{self, Verified};
use crate::{blank, process, rollback, threads};
use std::time::{Duration, Instant};
use stillframe_image::{Gap, Mapping, MappingKind, PAGE_SIZE, PageNumber, Process, ProcessImage};
use stillframe_linux::remote::{Remote, numbers};
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
    refuse(&now, &image.process)?;
    let mut remote = Remote::prepare(halt, &space::avoid(image))?;
    blank::clean(&mut remote, halt)?;
    if request.detached {
        remote.call(halt, main, numbers::SETSID, [0; 6])?;
        (now.group, now.session) = (main, main);
    }
    let mut shared = Shared::of(&[image], Policy::default());
    offer_memory(image, &mut shared, backing)?;
    let how = if request.lazy {
        Fill::Lazily
    } else {
        Fill::Everything
    };
    let done = space::conform(&mut remote, halt, image, source, backing, how)?;
    let mut gaps = done.gaps;
    gaps.extend(image.gaps.iter().filter(|g| is_doubt(g)).cloned());
    let mut pages = done.pages;
    if request.lazy {
        pages += lazy::needed_now(&remote, source)?;
    }
    gaps.extend(objects::conform(&mut remote, halt, image, &mut shared)?);
    threads::permit_tiles(&mut remote, halt, main, image)?;
    let made = threads::conform(&mut remote, halt, main, image, &mut threads::Unguarded)?;
    gaps.extend(made.gaps.iter().cloned());
    // None of them is taken before the process has its own mask.
    halt.put_blocked(main, threads::ALL_BLOCKED)?;
    threads::conform_shared(&mut remote, halt, main, &image.process.pending, &mut gaps)?;
    gaps.extend(shared.finish());
    // It lives in our session, and in our group: its own are gone, or another's by now.
    let wanted = Process {
        group: now.group,
        session: now.session,
        capabilities: now.capabilities,
        ..image.process.clone()
    };
    let mut replaced = Vec::new();
    let set = process::conform(&mut remote, halt, main, &now, &wanted, &mut replaced)?;
    gaps.extend(set);
    // While it takes no part of its memory from us it may outlive us.
    let mut server = None;
    if request.lazy {
        let missing = lazy::arrange(&mut remote, halt)?;
        server = Some(Server::new(source, missing, &done.left)?);
    }
    blank::become_user(&mut remote, halt, &now, &image.process)?;
    if server.is_none() {
        blank::set_free(&mut remote, halt)?;
    }
    if request.stopped {
        stillframe_linux::child::signal(main, rustix::process::Signal::STOP);
    }
    remote.finish(halt, main)?;
    let memory = |address: u64, into: &mut [u8]| read(source, address, into);
    threads::put(halt, image, &made.tids, &memory)?;
    let verified = match request.paranoid && !request.lazy {
        true => Some(compare(halt, source, &made)?),
        false => None,
    };
    Ok(Made {
        gaps,
        pages,
        server,
        verified,
    })
}

/// Reads back what was made; any difference is an error.
fn compare(halt: &Halt<'_>, source: &Source<'_>, made: &threads::Conformed) -> Result<Verified> {
    let (image, memory) = (source.image(), source.memory());
    let ours = 0..0;
    let found = verify::verify(halt, image, memory, &made.tids, &ours, &made.patched);
    let found = found.map_err(|error| match error {
        rollback::Error::Store(e) => Error::Store(e),
        rollback::Error::Kernel(e) => Error::Linux(e),
        rollback::Error::Part(e) => e,
        other => Error::Ended {
            pid: halt.pid(),
            how: other.to_string(),
        },
    })?;
    match found.differences.first() {
        Some(first) => Err(Error::Differs {
            count: found.count,
            first: first.clone(),
        }),
        None => Ok(found),
    }
}

/// Whether a gap of a checkpoint says that something may come back otherwise than it was, rather than
/// that it is not there.
fn is_doubt(gap: &Gap) -> bool {
    gap.reason.starts_with(crate::source::complete::DOUBT)
}

/// Memory that is mapped shared and open as a descriptor is one: both get the same file.
fn offer_memory(image: &ProcessImage, shared: &mut Shared, backing: &mut Backing) -> Result<()> {
    let mappings = &image.space.mappings;
    let of = |m: &&Mapping| m.kind == MappingKind::SharedMemory && m.inode != 0;
    for mapping in mappings.iter().filter(of) {
        let same = |m: &&Mapping| (m.device, m.inode) == (mapping.device, mapping.inode);
        let end = |m: &Mapping| m.offset.saturating_add(m.len());
        let length = mappings.iter().filter(same).map(end).max().unwrap_or(0);
        let file = shared
            .memory(mapping.inode, &mapping.name, length)?
            .try_clone_to_owned()
            .map_err(|e| Error::io("taking", space::describe(mapping), e))?;
        backing.offer(mapping.device, mapping.inode, file.into(), true);
    }
    Ok(())
}

/// What a new process of ours cannot be.
fn refuse(now: &Process, wanted: &Process) -> Result<()> {
    if wanted.seccomp != now.seccomp {
        return Err(Error::unsupported(
            "its filter of system calls (seccomp)",
            "it is not recorded, and without it the process would be free",
        ));
    }
    if wanted.root != now.root {
        let root = String::from_utf8_lossy(&wanted.root);
        return Err(Error::unsupported(
            format!("its root directory {}", root.escape_debug()),
            "run `still restore` in a shell that has the same root (chroot)",
        ));
    }
    if (wanted.uids, wanted.gids) != (now.uids, now.gids) && now.uids != [0; 4] {
        let (then, us) = (wanted.uids[1], now.uids[1]);
        return Err(Error::unsupported(
            format!("a process of user {then}"),
            format!("this is user {us}; run it as that user, or as root"),
        ));
    }
    Ok(())
}

/// Reads bytes of the checkpoint's memory; whether they are there.
fn read(source: &Source<'_>, address: u64, into: &mut [u8]) -> bool {
    debug_assert!(into.len() <= PAGE_SIZE);
    source.memory().layout().mapping_at(address).is_some()
        && PageNumber::of(address).address() <= address
        && source.memory().read(address, into).is_ok()
}
