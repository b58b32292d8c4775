//! Descendants that are there before following begins.

use super::super::status::{self, Status};
use super::super::stop::Brought;
use super::super::{AttachError, Event, Guest, State, Tracee};
use super::Family;
use crate::error::{Error, Result, Target};
use crate::proc::stat::Stat;
use crate::ptrace::same_memory;
use std::collections::{BTreeMap, BTreeSet, VecDeque};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// Listings of all processes before giving up on a family that grows faster than it can be attached
/// to. Whoever is attached attaches what it makes, so as many are needed as there are generations.
const ROUNDS: usize = 1000;

impl Family {
    /// Attaches to every descendant that /proc shows, until a listing shows nothing new.
    pub(super) fn attach_descendants(&mut self) -> Result<()> {
        let mut tried: BTreeSet<u32> = self.members.iter().map(Tracee::pid).collect();
        for _ in 0..ROUNDS {
            let mut new = false;
            for (pid, parent) in self.descendants()? {
                if tried.insert(pid) {
                    new = true;
                    self.attach_one(pid, parent)?;
                }
            }
            if !new {
                return Ok(());
            }
        }
        Err(Error::Malformed {
            what: "list of descendants",
            target: Target::Process(self.pid),
            detail: "new processes keep appearing faster than they can be attached to".into(),
        })
    }

    fn attach_one(&mut self, pid: u32, parent: u32) -> Result<()> {
        match Tracee::attach_with(pid, true, Rc::clone(&self.bell)) {
            Ok(mut member) => {
                if same_memory(parent, pid) == Some(true) {
                    let host = self.get(parent).and_then(|p| p.guest);
                    member.guest = Some(Guest {
                        host: host.map_or(parent, |g| g.host),
                        maker: parent,
                        awaited: waits_for_child(parent),
                    });
                    member.queue.push_back(Event::Born {
                        parent,
                        shares_memory: true,
                    });
                }
                self.members.push(member);
                Ok(())
            }
            // A zombie has nothing left, and what we trace already was made meanwhile by a member.
            Err(AttachError::NoSuchProcess(_) | AttachError::Zombie(_)) => Ok(()),
            Err(AttachError::Other(e)) if e.is_gone() => Ok(()),
            Err(AttachError::AlreadyTraced { by, .. }) if is_us(by) => Ok(()),
            Err(e) => {
                tracing::warn!("a descendant is not followed: {e}");
                self.left_out.push((pid, e.to_string()));
                Ok(())
            }
        }
    }

    /// All descendants of all members, each with its parent, parents first. Neither we nor those
    /// below us are among them.
    fn descendants(&self) -> Result<Vec<(u32, u32)>> {
        let listing = std::fs::read_dir("/proc")
            .map_err(|e| Error::syscall("listing", Target::Path("/proc".to_owned()), e))?;
        let mut children: BTreeMap<u32, Vec<u32>> = BTreeMap::new();
        for entry in listing.flatten() {
            let pid = entry.file_name().to_str().and_then(|n| n.parse().ok());
            let Some(stat) = pid.and_then(|pid| Stat::read(pid).ok()) else {
                continue;
            };
            if stat.pid != std::process::id() {
                children.entry(stat.parent).or_default().push(stat.pid);
            }
        }
        let mut found = Vec::new();
        let mut parents: VecDeque<u32> = self.members.iter().map(Tracee::pid).collect();
        let mut seen: BTreeSet<u32> = parents.iter().copied().collect();
        while let Some(parent) = parents.pop_front() {
            for child in children.remove(&parent).into_iter().flatten() {
                if seen.insert(child) {
                    found.push((child, parent));
                    parents.push_back(child);
                }
            }
        }
        Ok(found)
    }
}

fn is_us(tracer: u32) -> bool {
    let us = rustix::thread::gettid().as_raw_nonzero().get();
    tracer == us.cast_unsigned() || tracer == std::process::id()
}

/// Whether a thread of this process waits in the kernel for a child that runs in its memory.
fn waits_for_child(pid: u32) -> bool {
    let waits = |tid: u32| {
        let state = Status::read_thread(pid, tid).ok().and_then(|s| s.state());
        state == Some('D')
            && matches!(
                status::blocked_in(pid, tid),
                Some(libc::SYS_vfork | libc::SYS_clone | libc::SYS_clone3)
            )
    };
    status::list_threads(pid).is_ok_and(|tids| tids.into_iter().any(waits))
}

impl Tracee {
    /// From now on its children are ours.
    pub(super) fn start_following(&mut self, limit: Duration) -> Result<()> {
        if self.follow || self.has_exited() {
            return Ok(());
        }
        let end = Instant::now() + limit;
        let mut events = VecDeque::new();
        loop {
            match self.bring_to_halt(end) {
                Ok(Brought::All) => break,
                // Whatever it is, it is held or over.
                Ok(Brought::Event) if !self.has_exited() => events.append(&mut self.queue),
                Ok(Brought::Event) => break,
                Ok(Brought::TimedOut { tid, .. }) => {
                    self.let_run()?;
                    return Err(Error::Stuck { tid });
                }
                // On its way out.
                Err(e) if e.is_gone() => break,
                Err(e) => {
                    self.let_run()?;
                    return Err(e);
                }
            }
        }
        self.follow = true;
        for thread in &self.threads {
            if let State::Stopped(s) = &thread.state {
                match s.set_options(true, 0) {
                    Err(e) if !e.is_gone() => return Err(e),
                    _ => {}
                }
            }
        }
        events.append(&mut self.queue);
        self.queue = events;
        self.let_run()
    }
}
