//! Children of members, from their maker's report or their own first one to their first event.

use super::super::events::{Mode, poll_stray};
use super::super::status::Status;
use super::super::{Birth, Child, Event, Guest, Tracee};
use super::Family;
use crate::error::Result;
use crate::ptrace::{Running, StopKind, same_memory};
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a child that has reported waits for its maker's report. The kernel makes both at once,
/// so that a maker who is not killed is late by as long as it waits for a CPU.
const CLAIM_LIMIT: Duration = Duration::from_millis(100);

impl Family {
    /// Asks one thread of the member at `at`. Returns whether it had a report.
    pub(super) fn poll(&mut self, at: usize, tid: u32, mode: Mode) -> Result<bool> {
        let mode = self.mode_for(at, mode);
        let taken = self.member(at)?.poll(tid, mode)?;
        if taken {
            self.digest(at)?;
        }
        Ok(taken)
    }

    /// Asks every thread that is not stopped. Returns whether any had a report.
    pub(super) fn poll_all(&mut self, mode: Mode) -> Result<bool> {
        let mut any = false;
        let mut at = 0;
        while at < self.members.len() {
            let mode = self.mode_for(at, mode);
            any |= self.member(at)?.poll_all(mode)?;
            self.digest(at)?;
            at += 1;
        }
        for tid in self.strays.iter().map(Running::tid).collect::<Vec<_>>() {
            any |= poll_stray(&mut self.strays, tid)?;
        }
        Ok(any)
    }

    /// What a member's reports mean for the others: children, and what a guest needs.
    fn digest(&mut self, at: usize) -> Result<()> {
        let maker = self.member(at)?.pid;
        while let Some(child) = self.member(at)?.children.pop() {
            self.claim(maker, child)?;
        }
        let member = self.member(at)?;
        if member.has_exited() || member.queue.contains(&Event::Exec) {
            self.promote_guests(maker);
        }
        self.member(at)?.free_guest()
    }

    /// Takes in children told of while a member was stopped alone.
    pub(super) fn digest_all(&mut self) -> Result<()> {
        for at in 0..self.members.len() {
            if !self.member(at)?.children.is_empty() {
                self.digest(at)?;
            }
        }
        Ok(())
    }

    /// Decides what exit stops seen so far mean.
    pub(super) fn consider_deaths(&mut self) -> Result<()> {
        for member in &mut self.members {
            member.consider_death()?;
            member.free_guest()?;
        }
        Ok(())
    }

    /// The memory of these guests is nobody else's any more.
    fn promote_guests(&mut self, host: u32) {
        for guest in &mut self.members {
            if let Some(g) = &mut guest.guest
                && g.maker == host
            {
                g.awaited = false;
            }
            // One that has not been told of yet will be, as its own.
            if guest.guest.take_if(|g| g.host == host).is_some()
                && guest.birth == Birth::Over
                && !guest.has_exited()
            {
                guest.queue.push_back(Event::Born {
                    parent: host,
                    shares_memory: false,
                });
            }
        }
    }

    /// A report of a thread that no member has.
    pub(super) fn meet(&mut self, tid: u32) -> Result<()> {
        let leader = Status::read(tid).ok().and_then(|s| s.number("Tgid"));
        match leader.map(|pid| (pid, self.place(pid))) {
            Some((_, Some(at))) => {
                let member = self.member(at)?;
                member.add(Running::adopted(tid));
                member.tell_change();
            }
            Some((pid, None)) if self.follow && pid == tid => {
                let since = Instant::now();
                self.take_in(pid, Birth::Unclaimed { since });
            }
            _ => self.strays.push(Running::adopted(tid)),
        }
        Ok(())
    }

    /// A member has told of a child.
    fn claim(&mut self, maker: u32, child: Child) -> Result<()> {
        let Some(at) = self
            .place(child.pid)
            .or_else(|| self.take_in(child.pid, Birth::Expected { parent: maker }))
        else {
            return Ok(());
        };
        let shares = same_memory(maker, child.pid)
            .unwrap_or(matches!(child.how, StopKind::Vfork | StopKind::Clone));
        let host = self.place(maker).and_then(|at| {
            let maker = self.members.get(at)?;
            Some(maker.guest.map_or(maker.pid, |g| g.host))
        });
        let member = self.member(at)?;
        if member.birth == Birth::Over {
            return Ok(());
        }
        member.birth = Birth::Expected { parent: maker };
        member.guest = shares.then_some(Guest {
            host: host.unwrap_or(maker),
            maker,
            awaited: child.how == StopKind::Vfork,
        });
        member.tell_birth()
    }

    /// Makes a member of a process that the kernel attached. One for which there is no room (no
    /// descriptor left) is let go.
    fn take_in(&mut self, pid: u32, birth: Birth) -> Option<usize> {
        match Tracee::born(pid, birth, Rc::clone(&self.bell)) {
            Ok(member) => {
                self.members.push(member);
                Some(self.members.len() - 1)
            }
            Err(error) => {
                tracing::warn!(pid, %error, "a child is not followed");
                self.left_out.push((pid, error.to_string()));
                self.strays.push(Running::adopted(pid));
                None
            }
        }
    }

    /// Gives children whose maker was killed before it could tell of them the parent that /proc
    /// shows.
    pub(super) fn settle_births(&mut self) -> Result<()> {
        for at in 0..self.members.len() {
            let member = self.member(at)?;
            let Birth::Unclaimed { since } = member.birth else {
                continue;
            };
            if since.elapsed() < CLAIM_LIMIT {
                continue;
            }
            let pid = member.pid;
            let parent = Status::read(pid).ok().and_then(|s| s.number("PPid"));
            let parent = parent.unwrap_or(0);
            let hosts: Vec<u32> = self.pids().filter(|other| *other != pid).collect();
            let host = hosts
                .into_iter()
                .find(|other| same_memory(*other, pid) == Some(true));
            let member = self.member(at)?;
            member.birth = Birth::Expected { parent };
            // Its maker is dead and does not wait.
            member.guest = host.map(|host| Guest {
                host,
                maker: parent,
                awaited: false,
            });
            member.tell_birth()?;
        }
        Ok(())
    }

    /// When [`Family::settle_births`] has something to do.
    pub(super) fn next_birth(&self) -> Option<Instant> {
        self.members
            .iter()
            .filter_map(|m| match m.birth {
                Birth::Unclaimed { since } => Some(since + CLAIM_LIMIT),
                _ => None,
            })
            .min()
    }
}

impl Tracee {
    /// Lets go what is held of a guest: nothing of it is recorded, so nothing of it has to wait.
    fn free_guest(&mut self) -> Result<()> {
        if self.guest.is_none() {
            return Ok(());
        }
        let before = self.queue.len();
        self.queue
            .retain(|e| !matches!(e, Event::Fatal { .. } | Event::Exiting { .. }));
        if self.queue.len() == before {
            Ok(())
        } else {
            self.release()
        }
    }
}
