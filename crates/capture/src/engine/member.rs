//! One recorded process.

use crate::Error;
use crate::points::Points;
use crate::space::Space;
use crate::state::State;
use stillframe_image::{Gap, Objects, ProcessImage, SpaceId, objects};
use stillframe_linux::tracee::Family;

/// What is kept of one recorded process.
#[derive(Debug)]
pub struct Member {
    /// Its process id.
    pub pid: u32,
    /// Who made it, if that is recorded.
    pub parent: Option<SpaceId>,
    /// Its memory.
    pub space: Space,
    /// Everything else.
    pub state: State,
    /// How it knows that it is recorded.
    pub points: Points,
    /// Whether it stood still at the last boundary, and so is in that checkpoint.
    pub stands: bool,
    /// The thread through which /proc is read.
    pub(super) via: u32,
}

impl Member {
    /// Of a process that is looked at through its main thread.
    pub fn new(pid: u32, parent: Option<SpaceId>, space: Space, state: State) -> Self {
        Self {
            pid,
            parent,
            space,
            state,
            points: Points::new(pid),
            stands: false,
            via: pid,
        }
    }

    /// Keeps looking at the process when its main thread has ended before the others.
    ///
    /// # Errors
    /// If no thread of it can be looked at.
    pub fn follow_threads(&mut self, family: &Family) -> Result<(), Error> {
        let Some(tracee) = family.get(self.pid) else {
            return Ok(());
        };
        let tids = tracee.tids();
        if tids.binary_search(&self.via).is_ok() {
            return Ok(());
        }
        if let Some(tid) = tids.first().copied() {
            self.space.look_through(tid)?;
            self.state.look_through(tid)?;
            self.via = tid;
        }
        Ok(())
    }

    /// As the checkpoint just made holds it. `objects`: what stands behind its descriptors.
    pub fn image(&self, objects: Objects) -> ProcessImage {
        let mut gaps = self.gaps();
        objects::gaps(self.state.descriptors(), &objects, &mut gaps);
        ProcessImage {
            id: self.space.id(),
            parent: self.parent,
            space: self.space.image(),
            threads: self.state.threads().to_vec(),
            descriptors: self.state.descriptors().clone(),
            process: self.state.process().clone(),
            gaps,
            objects,
        }
    }

    /// What its last checkpoint does not hold.
    pub fn gaps(&self) -> Vec<Gap> {
        let mut gaps = Vec::new();
        self.space.gaps(&mut gaps);
        self.state.gaps(&mut gaps);
        gaps
    }
}
