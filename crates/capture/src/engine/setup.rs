//! Setting up tracking in processes.

use super::member::Member;
use crate::Error;
use crate::options::Options;
use crate::space::Space;
use crate::speculation;
use crate::state::State;
use crate::tracker::Trackers;
use std::time::Duration;
use stillframe_image::SpaceId;
use stillframe_linux::inject::Injector;
use stillframe_linux::proc::status::Status;
use stillframe_linux::tracee::{Family, Stop, Tracee};

/// Calls made inside the target, at most: about a hundred microseconds each.
const CALLS: usize = 256;

/// How long a target may take to stop.
const LIMIT: Duration = Duration::from_secs(10);

/// Processes in which tracking is set up.
#[derive(Debug)]
pub struct Prepared {
    pub(super) family: Family,
    pub(super) trackers: Trackers,
    pub(super) members: Vec<Member>,
}

impl Prepared {
    /// Sets up tracking in a target that has just been attached to or launched, and in its
    /// descendants if they are followed.
    ///
    /// # Errors
    /// If the target cannot be stopped, or tracking cannot be set up in it; it then runs on
    /// untouched.
    pub fn set_up(tracee: Tracee, trackers: Trackers, options: &Options) -> Result<Self, Error> {
        let root = tracee.pid();
        let mut family = Family::new(tracee, options.follow)?;
        let mut members: Vec<Member> = Vec::new();
        let pids: Vec<u32> = family.pids().collect();
        for pid in pids {
            let id = SpaceId(u32::try_from(members.len()).unwrap_or(u32::MAX));
            let made_by = Status::read(pid).map_or(0, |s| s.parent);
            let parent = members.iter().find(|m| m.pid == made_by);
            let parent = parent.map(|m| m.space.id());
            match member(&mut family, pid, id, parent, &trackers, options) {
                Ok(member) => members.push(member),
                Err(error) if pid == root => return Err(error),
                Err(error) => tracing::warn!("process {pid} is not recorded: {error}"),
            }
        }
        Ok(Self {
            family,
            trackers,
            members,
        })
    }

    /// The processes.
    pub const fn family(&mut self) -> &mut Family {
        &mut self.family
    }

    /// Name of the tracker in use.
    pub fn tracker(&self) -> &'static str {
        self.trackers.name()
    }
}

/// Stops a process, sets up its tracker, and reads the state that needs injected calls.
pub(super) fn member(
    family: &mut Family,
    pid: u32,
    id: SpaceId,
    parent: Option<SpaceId>,
    trackers: &Trackers,
    options: &Options,
) -> Result<Member, Error> {
    let mut state = State::new(pid)?;
    if !family.get(pid).is_some_and(Tracee::is_x86_64) {
        return Err(Error::NotX86_64(pid));
    }
    let setup = |source| Error::Setup { pid, source };
    let mut halt = match family.stop_one(pid, LIMIT)? {
        Stop::All(halt) => halt,
        Stop::TimedOut { why, .. } => return Err(Error::NotStopped { pid, why }),
        Stop::Event(event) => return Err(Error::EndedEarly { pid, event }),
    };
    let mut injector = Injector::prepare(&mut halt).map_err(setup)?;
    let tracker = trackers
        .set_up(pid, &mut injector, &mut halt)
        .map_err(setup)?;
    state.inject(&mut injector, &mut halt, CALLS);
    injector.finish(&mut halt).map_err(setup)?;
    let policy = speculation::by_name(&options.speculate)
        .ok_or_else(|| Error::NoPolicy(options.speculate.clone()))?;
    let space = Space::new(id, pid, tracker, policy, options).map_err(setup)?;
    halt.resume()?;
    Ok(Member::new(pid, parent, space, state))
}
