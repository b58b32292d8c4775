//! Choosing a tracker from what the kernel offers.

use super::{BPF, Bpf, Hub, SOFT_DIRTY, SoftDirtyBits, Tracker, WP_ASYNC, WpAsync};
use crate::Error;
use crate::options::TrackerChoice;
use std::cell::RefCell;
use std::rc::Rc;
use stillframe_linux::Result;
use stillframe_linux::features;
use stillframe_linux::inject::Injector;
use stillframe_linux::pagemap::Scanner;
use stillframe_linux::softdirty::SoftDirty;
use stillframe_linux::tracee::Halt;
use stillframe_linux::uffd::Userfaultfd;

/// Makes the trackers of one recording.
#[derive(Debug)]
pub struct Trackers {
    kind: Kind,
}

#[derive(Debug)]
enum Kind {
    WpAsync,
    Bpf(Rc<RefCell<Hub>>),
    SoftDirty,
}

impl Trackers {
    /// Finds out what can be had.
    ///
    /// # Errors
    /// If the user insists on a tracker that cannot be had, or none can.
    pub fn choose(choice: TrackerChoice) -> std::result::Result<Self, Error> {
        let no = |name, source| Error::NoTracker { name, source };
        let bpf = |hub| Kind::Bpf(Rc::new(RefCell::new(hub)));
        let kind = match choice {
            TrackerChoice::WpAsync => Kind::WpAsync,
            TrackerChoice::Bpf => bpf(Hub::open(true).map_err(|e| no(BPF, e))?),
            TrackerChoice::SoftDirty => {
                SoftDirty::require().map_err(|e| no(SOFT_DIRTY, e))?;
                Kind::SoftDirty
            }
            TrackerChoice::Auto => match features::write_protection() {
                Ok(()) => match Hub::open(true) {
                    Ok(hub) => bpf(hub),
                    Err(error) => {
                        tracing::debug!("no log of faults: {error}");
                        Kind::WpAsync
                    }
                },
                Err(missing) => match SoftDirty::require() {
                    Ok(()) => {
                        tracing::debug!("soft-dirty bits instead: {missing}");
                        Kind::SoftDirty
                    }
                    Err(error) => return Err(missing.neither(&error).into()),
                },
            },
        };
        Ok(Self { kind })
    }

    /// Name of the tracker made.
    pub const fn name(&self) -> &'static str {
        match self.kind {
            Kind::WpAsync => WP_ASYNC,
            Kind::Bpf(_) => BPF,
            Kind::SoftDirty => SOFT_DIRTY,
        }
    }

    /// Whether pages written before they are copied are had from what the tracker saved.
    pub const fn saves(&self) -> bool {
        matches!(self.kind, Kind::Bpf(_))
    }

    /// Whether what was written is known without looking at everything.
    pub fn logs(&self) -> bool {
        match &self.kind {
            Kind::Bpf(hub) => hub.borrow().is_complete(),
            Kind::WpAsync | Kind::SoftDirty => false,
        }
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
        if matches!(self.kind, Kind::SoftDirty) {
            let scanner = Scanner::for_classifying(pid)?;
            return Ok(Box::new(SoftDirtyBits::new(SoftDirty::open(pid)?, scanner)));
        }
        let fd = injector.userfaultfd(halt, Userfaultfd::CREATE_FLAGS)?;
        let uffd = Userfaultfd::handshake(fd)?;
        let plain = WpAsync::new(uffd, Scanner::open(pid)?);
        Ok(match &self.kind {
            Kind::Bpf(hub) => Box::new(Bpf::new(plain, Rc::clone(hub), pid)?),
            Kind::WpAsync | Kind::SoftDirty => Box::new(plain),
        })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_cannot_be_had_is_refused_in_one_line_that_says_why() {
        match (
            SoftDirty::supported().unwrap(),
            Trackers::choose(TrackerChoice::SoftDirty),
        ) {
            (true, Ok(trackers)) => assert_eq!(trackers.name(), SOFT_DIRTY),
            (false, Err(error)) => {
                let text = error.to_string();
                assert!(text.contains("tracker soft-dirty"), "{text}");
                assert!(text.contains("CONFIG_MEM_SOFT_DIRTY"), "{text}");
                assert!(!text.contains('\n'), "{text}");
            }
            (supported, chosen) => panic!("{supported} {chosen:?}"),
        }
    }

    #[test]
    fn write_protection_goes_before_soft_dirty_bits() {
        let chosen = Trackers::choose(TrackerChoice::Auto).map(|t| t.name());
        if features::write_protection().is_ok() {
            assert!(matches!(chosen, Ok(WP_ASYNC | BPF)), "{chosen:?}");
        } else {
            assert!(!matches!(chosen, Ok(WP_ASYNC | BPF)), "{chosen:?}");
        }
    }
}
