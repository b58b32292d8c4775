//! Seizing all threads of a process.

use super::error::{self, AttachError};
use super::status::{self, Status};
use super::{Bell, Birth, Tracee};
use crate::error::{Error, Result, Target};
use crate::ptrace::Running;
use std::collections::VecDeque;
use std::fs::File;
use std::marker::PhantomData;
use std::rc::Rc;

/// Rounds of listing threads before giving up on a process that makes them faster than they can be
/// seized. Seized threads attach what they make, so two rounds are the rule.
const ROUNDS: usize = 1000;

impl Tracee {
    /// Seizes every thread of a process. It is not stopped by that.
    ///
    /// # Errors
    /// [`AttachError`] tells what stands in the way, and what to do.
    pub fn attach(pid: u32) -> Result<Self, AttachError> {
        Self::attach_with(pid, false, Rc::new(Bell::new()?))
    }

    /// The same; `follow`: for a family.
    pub(super) fn attach_with(pid: u32, follow: bool, bell: Rc<Bell>) -> Result<Self, AttachError> {
        error::examine(pid)?;
        match Running::seize(pid, follow) {
            Ok(first) => {
                let mut this = Self::empty(pid, follow, bell)?;
                this.add(first);
                this.seize_all()?;
                this.queue.clear();
                Ok(this)
            }
            // A first thread that has ended cannot be seized, the others can.
            Err(Error::Syscall { source, .. }) if source.raw_os_error() == Some(libc::EPERM) => {
                if !ended(pid) {
                    return Err(error::explain(pid));
                }
                let mut this = Self::empty(pid, follow, bell)?;
                this.seize_all().map_err(|e| match e.errno() {
                    Some(libc::EPERM) => error::explain(pid),
                    _ => AttachError::Other(e),
                })?;
                if this.threads.is_empty() {
                    Err(AttachError::Zombie(pid))
                } else {
                    Ok(this)
                }
            }
            Err(e) if e.is_gone() => Err(AttachError::NoSuchProcess(pid)),
            Err(e) => Err(e.into()),
        }
    }

    /// A process whose first thread is seized.
    pub(crate) fn with_first(pid: u32, first: Running) -> Result<Self> {
        let mut this = Self::empty(pid, false, Rc::new(Bell::new()?))?;
        this.add(first);
        this.seize_all()?;
        this.queue.clear();
        Ok(this)
    }

    /// A process that the kernel attached when a followed one made it.
    pub(super) fn born(pid: u32, birth: Birth, bell: Rc<Bell>) -> Result<Self> {
        let mut this = Self::empty(pid, true, bell)?;
        this.birth = birth;
        this.add(Running::adopted(pid));
        if let Some(first) = this.threads.first_mut() {
            first.newborn = true;
        }
        Ok(this)
    }

    fn empty(pid: u32, follow: bool, bell: Rc<Bell>) -> Result<Self> {
        let open = |path: String| {
            File::open(&path).map_err(|source| match source.raw_os_error() {
                Some(libc::ENOENT | libc::ESRCH) => Error::ProcessGone(pid),
                _ => Error::Syscall {
                    what: "open",
                    target: Target::Path(path),
                    source,
                },
            })
        };
        Ok(Self {
            pid,
            threads: Vec::new(),
            tids: Vec::new(),
            workers: Vec::new(),
            strays: Vec::new(),
            follow,
            children: Vec::new(),
            made: None,
            birth: Birth::Over,
            guest: None,
            stalls: Vec::new(),
            queue: VecDeque::new(),
            job_stopped: false,
            dying: None,
            doomed: false,
            outcome: None,
            bell,
            status_file: open(format!("/proc/{pid}/status"))?,
            status: Status::default(),
            task_dir: open(format!("/proc/{pid}/task"))?,
            points: super::points::Points::default(),
            _stays_on_its_thread: PhantomData,
        })
    }

    /// Seizes what is not seized yet, until a listing shows nothing new. Also tells the kernel's
    /// helpers from threads.
    pub(super) fn seize_all(&mut self) -> Result<()> {
        for _ in 0..ROUNDS {
            let mut new = false;
            let listed = status::list_threads(self.pid)?;
            self.workers.retain(|w| listed.binary_search(w).is_ok());
            for tid in listed {
                if self.find(tid).is_some() || self.workers.contains(&tid) {
                    continue;
                }
                if status::task_flags(self.pid, tid).is_some_and(|f| f & status::PF_WORKER != 0) {
                    self.workers.push(tid);
                    continue;
                }
                match Running::seize(tid, self.follow) {
                    Ok(running) => {
                        self.add(running);
                        self.tell_change();
                        new = true;
                    }
                    Err(e) if e.is_gone() => {}
                    Err(e) if e.errno() == Some(libc::EPERM) => {
                        // Ended, or attached to us already by the thread that made it.
                        if self.is_ours(tid) {
                            self.add(Running::adopted(tid));
                            self.tell_change();
                            new = true;
                        } else if !ended_thread(self.pid, tid) {
                            return Err(e);
                        }
                    }
                    Err(e) => return Err(e),
                }
            }
            if !new {
                return Ok(());
            }
        }
        Err(Error::Malformed {
            what: "thread list",
            target: Target::Process(self.pid),
            detail: "new threads keep appearing faster than they can be seized".into(),
        })
    }

    /// Whether we trace it.
    pub(super) fn is_ours(&self, tid: u32) -> bool {
        let tracer = Status::read_thread(self.pid, tid)
            .ok()
            .and_then(|s| s.number("TracerPid"));
        let us = rustix::thread::gettid()
            .as_raw_nonzero()
            .get()
            .cast_unsigned();
        tracer.is_some_and(|t| t == us || t == std::process::id())
    }
}

fn ended(pid: u32) -> bool {
    ended_thread(pid, pid)
}

fn ended_thread(pid: u32, tid: u32) -> bool {
    Status::read_thread(pid, tid).map_or(true, |s| matches!(s.state(), Some('Z' | 'X') | None))
}
