//! Setting up tracking in a target.

use super::member::Member;
use crate::Error;
use crate::options::Options;
use crate::space::Space;
use crate::speculation;
use crate::state::State;
use crate::tracker::WpAsync;
use std::time::Duration;
use stillframe_image::SpaceId;
use stillframe_linux::inject::Injector;
use stillframe_linux::pagemap::Scanner;
use stillframe_linux::tracee::{Stop, Tracee};
use stillframe_linux::uffd::Userfaultfd;

/// Calls made inside the target, at most: about a hundred microseconds each.
const CALLS: usize = 256;

/// How long a target may take to stop.
const LIMIT: Duration = Duration::from_secs(10);

/// A target in which tracking is set up.
#[derive(Debug)]
pub struct Prepared {
    pub(super) tracee: Tracee,
    pub(super) member: Member,
}

impl Prepared {
    /// Sets up tracking in a target that has just been attached to or launched.
    ///
    /// # Errors
    /// If the target cannot be stopped, or tracking cannot be set up in it; it then runs on
    /// untouched.
    pub fn set_up(mut tracee: Tracee, options: &Options) -> Result<Self, Error> {
        let member = member(&mut tracee, options)?;
        Ok(Self { tracee, member })
    }
}

/// Stops the target, gets its userfaultfd, and reads the state that needs injected calls.
pub(super) fn member(tracee: &mut Tracee, options: &Options) -> Result<Member, Error> {
    let pid = tracee.pid();
    let mut state = State::new(pid)?;
    if !tracee.is_x86_64() {
        return Err(Error::NotX86_64(pid));
    }
    let setup = |source| Error::Setup { pid, source };
    let mut halt = match tracee.stop(LIMIT)? {
        Stop::All(halt) => halt,
        Stop::TimedOut { why, .. } => return Err(Error::NotStopped { pid, why }),
        Stop::Event(event) => return Err(Error::EndedEarly { pid, event }),
    };
    let mut injector = Injector::prepare(&mut halt).map_err(setup)?;
    let fd = injector
        .userfaultfd(&mut halt, Userfaultfd::CREATE_FLAGS)
        .map_err(setup)?;
    let uffd = Userfaultfd::handshake(fd).map_err(setup)?;
    state.inject(&mut injector, &mut halt, CALLS);
    injector.finish(&mut halt).map_err(setup)?;
    let scanner = Scanner::open(pid).map_err(setup)?;
    let tracker = Box::new(WpAsync::new(uffd, scanner));
    let policy = speculation::by_name(&options.speculate)
        .ok_or_else(|| Error::NoPolicy(options.speculate.clone()))?;
    let space = Space::new(SpaceId(0), pid, tracker, policy, options).map_err(setup)?;
    halt.resume()?;
    Ok(Member::new(pid, space, state))
}
