//! Choosing a tracker from what the kernel offers.

use super::{BPF, Bpf, Hub, Tracker, WP_ASYNC, WpAsync};
use crate::Error;
use crate::options::TrackerChoice;
use std::cell::RefCell;
use std::rc::Rc;
use stillframe_linux::Result;
use stillframe_linux::inject::Injector;
use stillframe_linux::pagemap::Scanner;
use stillframe_linux::tracee::Halt;
use stillframe_linux::uffd::Userfaultfd;

/// Makes the trackers of one recording.
#[derive(Debug)]
pub struct Trackers {
    hub: Option<Rc<RefCell<Hub>>>,
}

impl Trackers {
    /// Finds out what can be had.
    ///
    /// # Errors
    /// If the user insists on a tracker that cannot be had.
    pub fn choose(choice: TrackerChoice) -> std::result::Result<Self, Error> {
        let hub = match choice {
            TrackerChoice::WpAsync => None,
            TrackerChoice::Bpf => match Hub::open(true) {
                Ok(hub) => Some(hub),
                Err(source) => {
                    return Err(Error::NoTracker { name: BPF, source });
                }
            },
            TrackerChoice::Auto => Hub::open(true)
                .inspect_err(|error| tracing::debug!("no log of faults: {error}"))
                .ok(),
        };
        Ok(Self {
            hub: hub.map(|hub| Rc::new(RefCell::new(hub))),
        })
    }

    /// Name of the tracker made.
    pub const fn name(&self) -> &'static str {
        if self.hub.is_some() { BPF } else { WP_ASYNC }
    }

    /// Sets one up in a stopped process.
    ///
    /// # Errors
    /// The kernel's.
    pub fn set_up(
        &self,
        pid: u32,
        injector: &mut Injector,
        halt: &mut Halt<'_>,
    ) -> Result<Box<dyn Tracker>> {
        let fd = injector.userfaultfd(halt, Userfaultfd::CREATE_FLAGS)?;
        let uffd = Userfaultfd::handshake(fd)?;
        let plain = WpAsync::new(uffd, Scanner::open(pid)?);
        Ok(match &self.hub {
            Some(hub) => Box::new(Bpf::new(plain, Rc::clone(hub), pid)?),
            None => Box::new(plain),
        })
    }
}
