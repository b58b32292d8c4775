//! A process and its descendants, held under ptrace together.
//!
//! A [`Family`] begins with one [`Tracee`]. If it follows, whatever a member makes with `fork`,
//! `vfork` or `clone` becomes a member: the kernel seizes it before it runs, and its first stop is
//! kept until the caller has seen [`Event::Born`] and released it. Members stay, whoever of their
//! ancestors ends first. If it does not follow, it is its one `Tracee` and costs nothing more.
//!
//! *Guests.* A child of `vfork` runs in its parent's memory, and so does that of a `clone` with
//! CLONE_VM. It is told (`shares_memory`) and let go at once, and belongs to no [`FamilyHalt`] until
//! it execs, when it becomes a process like any other, held for [`Event::Exec`]. That its memory
//! stands still is seen to nevertheless: a guest whose maker does not wait for it is stopped with
//! all others; one whose maker waits in the kernel, where it cannot be stopped, runs on, the maker
//! does not stop before it execs or ends, and there is no halt until then. (Taking the maker for
//! still while its guest stands would give an instant without the maker's registers, and would make
//! it wait for us on top.) If the host of a guest ends, the guest is told again, as its own.
//!
//! *Who is whose child.* A child may report before its maker tells of it. It is kept, and if its
//! maker is killed before it can tell, the parent that /proc shows is taken.
//!
//! *Events first.* A halt is only given while no event of any member waits to be dealt with, so a
//! halt holds exactly the processes that the caller has been told of and that have not ended.
//!
//! Reports of all members come to the one thread that traces them and are given to the member they
//! are about; what they mean for that process is for the `Tracee` to say.

mod births;
mod descendants;
mod leave;
mod points;
mod stop;
mod wait;

pub use stop::{FamilyHalt, FamilyStop};
pub use wait::FamilyWake;

use super::bell::Bell;
use super::events::Mode;
use super::{Event, Outcome, Stall, Tracee};
use crate::error::{Error, Result};
use crate::ptrace::Running;
use std::rc::Rc;
use std::time::{Duration, Instant};

/// How long a process may take to stop so that following can be set up.
const SET_UP_LIMIT: Duration = Duration::from_secs(10);

/// A process and, if they are followed, its descendants.
///
/// As with a [`Tracee`], it stays on the thread that made it, and dropping it detaches.
#[derive(Debug)]
pub struct Family {
    /// The first process.
    pid: u32,
    outcome: Option<Outcome>,
    follow: bool,
    /// In the order in which they became known.
    members: Vec<Tracee>,
    /// Attached by the kernel, and not to be kept.
    strays: Vec<Running>,
    /// Which member is being stopped, if it is one alone.
    alone: Option<u32>,
    /// All members are being stopped for good.
    leaving: bool,
    /// Descendants that could not be attached to.
    left_out: Vec<(u32, String)>,
    bell: Rc<Bell>,
}

impl Family {
    /// A family that begins with this process. If it is to `follow`, descendants that exist already
    /// are attached as well, which takes some milliseconds; [`Family::pids`] has them. Only
    /// guests among them are told of by an event.
    ///
    /// A descendant whose parent ends while this is going on, before it could be attached itself,
    /// is an orphan that nothing connects with the family any more, and is missed. The recorder's
    /// own process is left out, should it be a descendant.
    ///
    /// The soft limit of open files is raised to the hard one: every member takes some.
    ///
    /// # Errors
    /// If the process cannot be stopped so that its options can be changed; else the kernel's. It
    /// runs on, detached.
    pub fn new(tracee: Tracee, follow: bool) -> Result<Self> {
        let mut this = Self {
            pid: tracee.pid,
            outcome: None,
            follow,
            bell: Rc::clone(&tracee.bell),
            members: vec![tracee],
            strays: Vec::new(),
            alone: None,
            leaving: false,
            left_out: Vec::new(),
        };
        if follow {
            raise_file_limit();
            if let Some(first) = this.members.first_mut() {
                first.start_following(SET_UP_LIMIT)?;
            }
            this.attach_descendants()?;
        }
        Ok(this)
    }

    /// The first process.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Whether descendants are followed.
    pub const fn follows(&self) -> bool {
        self.follow
    }

    /// How the first process ended, once its [`Event::Ended`] has been told.
    pub const fn outcome(&self) -> Option<Outcome> {
        self.outcome
    }

    /// Whether every member has ended and all has been told.
    pub fn is_over(&self) -> bool {
        self.members.iter().all(|m| m.is_over())
    }

    /// Its processes, in the order in which they became known; guests are not among them.
    pub fn pids(&self) -> impl Iterator<Item = u32> + '_ {
        self.members
            .iter()
            .filter(|m| !m.is_over() && m.counts())
            .map(Tracee::pid)
    }

    /// One of its processes, guests included.
    pub fn get(&self, pid: u32) -> Option<&Tracee> {
        self.members.iter().find(|m| m.pid == pid && !m.is_over())
    }

    /// Descendants that could not be attached to, and why.
    pub fn left_out(&self) -> &[(u32, String)] {
        &self.left_out
    }

    /// The threads resumed at the end of the last stop, with their process.
    pub fn stalls(&self) -> impl Iterator<Item = (u32, Stall)> + '_ {
        self.members
            .iter()
            .flat_map(|m| m.stalls().iter().map(|s| (m.pid, *s)))
    }

    /// Lets go what is held of one process. One that is not there (any more) is released already.
    ///
    /// # Errors
    /// The kernel's.
    pub fn release(&mut self, pid: u32) -> Result<()> {
        match self.place(pid) {
            Some(at) => self.member(at)?.release(),
            None => Ok(()),
        }
    }

    /// Where a stopped thread stands.
    pub fn instruction(&self, pid: u32, tid: u32) -> Option<u64> {
        let member = self.members.iter().find(|m| m.pid == pid)?;
        let thread = member.threads.get(member.find(tid)?)?;
        match &thread.state {
            super::State::Stopped(s) => s.registers().ok().map(|r| r.rip),
            _ => None,
        }
    }

    /// Where a member is; one that has ended makes way for another with the same number.
    fn place(&self, pid: u32) -> Option<usize> {
        self.members
            .iter()
            .rposition(|m| m.pid == pid && !m.has_exited())
    }

    /// The member at a place.
    fn member(&mut self, at: usize) -> Result<&mut Tracee> {
        // No caller has a place that is none.
        self.members.get_mut(at).ok_or(Error::ProcessGone(self.pid))
    }

    /// The member a thread belongs to.
    fn place_of_thread(&self, tid: u32) -> Option<usize> {
        self.members.iter().position(|m| m.find(tid).is_some())
    }

    /// Whether this member is among those that are being stopped. One that somebody who shall stop
    /// waits for is not.
    fn is_wanted(&self, member: &Tracee) -> bool {
        self.leaving
            || !member.guest.is_some_and(|g| g.awaited)
                && self.alone.is_none_or(|p| p == member.pid)
    }

    /// What reports of the member at `at` are to lead to when `mode` is asked for.
    fn mode_for(&self, at: usize, mode: Mode) -> Mode {
        match self.members.get(at) {
            Some(member) if self.is_wanted(member) => mode,
            _ => Mode::Running,
        }
    }

    /// Its only member, if that is all it will ever have.
    fn single(&mut self) -> Option<&mut Tracee> {
        match self.members.as_mut_slice() {
            [only] if !self.follow => Some(only),
            _ => None,
        }
    }

    /// The next event there is, with its process. Members that have ended and told so are forgotten.
    fn next_event(&mut self) -> Option<(u32, Event)> {
        // What is urgent first, somebody waits for it; but each member's events in their order.
        let urgent = self.take_event(Tracee::has_urgent_event);
        let next = urgent.or_else(|| self.take_event(|_| true));
        if let Some((pid, Event::Ended(outcome))) = &next {
            let (pid, outcome) = (*pid, *outcome);
            if pid == self.pid && self.outcome.is_none() {
                self.outcome = Some(outcome);
            }
        }
        self.members.retain(|m| !m.is_over());
        next
    }

    fn take_event(&mut self, of: impl Fn(&Tracee) -> bool) -> Option<(u32, Event)> {
        self.members
            .iter_mut()
            .filter(|m| of(m))
            .find_map(|m| Some((m.pid, m.queue.pop_front()?)))
    }
}

impl Tracee {
    /// It has ended, and that has been told.
    fn is_over(&self) -> bool {
        self.has_exited() && self.queue.is_empty()
    }

    /// Whether it is a process of its own that has been told of or is about to be.
    fn counts(&self) -> bool {
        self.guest.is_none() && self.birth == super::Birth::Over
    }

    fn has_urgent_event(&self) -> bool {
        self.queue.iter().any(Event::is_urgent)
    }
}

fn raise_file_limit() {
    use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};
    let limit = getrlimit(Resource::Nofile);
    // It only matters to families of hundreds, which are told if it is not enough.
    let _ = setrlimit(
        Resource::Nofile,
        Rlimit {
            current: limit.maximum,
            maximum: limit.maximum,
        },
    );
}

/// The earlier of two times.
fn earlier(a: Option<Instant>, b: Option<Instant>) -> Option<Instant> {
    [a, b].into_iter().flatten().min()
}
