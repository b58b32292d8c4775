//! Files that the process writes, while it goes back.
//!
//! A process that goes back beside files that went on reads what it never wrote and overwrites what it
//! does not know of. So before anything of the process is changed its files are compared with those
//! of then, while it stands still: what was found a moment earlier may not hold any more. They are put
//! back first, since descriptors and mappings are opened at them, and are taken forward again if a
//! later step fails.

use super::Error;
use crate::check::{self, Files};
use crate::files::{Live, Putting};
use serde::{Deserialize, Serialize};
use stillframe_image::{Checkpoint, CheckpointId, SpaceId};
use stillframe_store::Recording;

/// What is done with them.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct FilesToo {
    /// The policy; a private copy is of no use to a process that has them open.
    pub policy: Files,
    /// That files are written was agreed to.
    pub agreed: bool,
}

impl FilesToo {
    /// They stay as they are, and nobody looks at them.
    pub const LEFT: Self = Self {
        policy: Files::Ignore,
        agreed: false,
    };
}

/// The files of one process at a checkpoint.
#[derive(Clone, Copy, Debug)]
pub struct Beside<'a> {
    /// Where they are recorded.
    pub recording: &'a Recording,
    /// The checkpoint.
    pub checkpoint: &'a Checkpoint,
    /// Its number.
    pub id: CheckpointId,
    /// The process that goes back.
    pub space: SpaceId,
    /// What is done with them.
    pub how: FilesToo,
}

impl<'a> Beside<'a> {
    /// Looks at them as they are now, and says what is to be done. Nothing is done yet.
    ///
    /// # Errors
    /// [`Error::Refused`] if one is not what it has to be, or would be written without consent.
    pub(super) fn plan(&self, pid: u32) -> Result<Option<Putting<'a>>, Error> {
        let files = self.how.policy;
        if files == Files::Private {
            let why = "a live process has its files open, so it cannot be given copies; \
                       `still restore --files private` makes a new process of that moment";
            return Err(Error::Refused(why.to_owned()));
        }
        if files == Files::Ignore || self.checkpoint.files.is_empty() {
            return Ok(None);
        }
        let findings = check::standing(self.checkpoint, files, pid)?;
        if let Some(why) = findings.refusal() {
            return Err(Error::Refused(why));
        }
        let live = Live {
            pid,
            checkpoint: self.checkpoint,
            space: self.space,
        };
        let directory = std::env::temp_dir().join(format!("still-files-{pid}"));
        let putting = Putting::plan_live(self.recording, self.id, files, &directory, live)
            .map_err(|e| Error::Refused(e.to_string()))?;
        match putting.steps().first() {
            None if putting.left().is_empty() => Ok(None),
            Some(first) if files == Files::Version && !self.how.agreed => {
                Err(Error::Refused(format!(
                    "{} files would be put back, the first of them {}; agree with --yes",
                    putting.steps().len(),
                    stillframe_image::text::printable(&first.file().path)
                )))
            }
            _ => Ok(Some(putting)),
        }
    }
}
