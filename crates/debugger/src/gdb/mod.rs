//! A server of GDB's remote protocol over a recording, for GDB and LLDB.
//!
//! A debugger connects and finds the process stopped at a moment: its threads, registers, memory,
//! libraries, files. It moves in time with its own commands for executing forwards and backwards;
//! one step is one checkpoint. docs/debugging.md says what that means for the user.
//!
//! Layers: [`packet`] makes packets of bytes and [`link`] carries them; [`session`] says what each
//! asks; [`scene`] is the process at a moment, [`travel`] goes to another. Only [`listen`] and
//! [`link`] do I/O on connections.

mod documents;
mod error;
mod files;
mod libraries;
mod link;
mod listen;
mod lldb;
mod monitor;
mod packet;
mod registers;
mod scene;
mod session;
mod signals;
mod travel;
mod vfile;

pub use error::Error;
pub use listen::{Address, Connection, Listener};

use scene::Scene;
use session::Session;
use std::ffi::OsStr;
use std::fs::File;
use std::os::unix::ffi::OsStrExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use stillframe_image::{CheckpointId, FileIdentity, ProcessImage, SpaceId};
use stillframe_store::Recording;
use stillframe_timeline::Machine;
use stillframe_timeline::machine::Options;

/// How debuggers are served.
#[derive(Clone, Debug, Default)]
pub struct Settings {
    /// The directory of the recording, which bookmarks are written to.
    pub recording: PathBuf,
    /// Use files of this machine that are not those that were recorded.
    pub force: bool,
    /// Where `monitor` commands look for separate debug files first.
    pub debug_dirs: Vec<PathBuf>,
}

/// Serves one process of a recording to debuggers, one after the other.
#[derive(Debug)]
pub struct Server {
    machine: Machine,
    at: CheckpointId,
    process: SpaceId,
    settings: Settings,
}

impl Server {
    /// A server whose clients begin at a checkpoint. What takes long at first (the index of a long
    /// recording) is done here, because debuggers wait for a reply for seconds only.
    ///
    /// # Errors
    /// If there is no such checkpoint, no such process in it, or it is damaged.
    pub fn new(
        recording: Recording,
        at: CheckpointId,
        process: SpaceId,
        settings: Settings,
    ) -> Result<Self, Error> {
        let scene = Scene::new(&recording, at, process)?;
        let stack = scene.image().threads.first().map(|t| t.registers.rsp);
        let _ = scene.read(stack.unwrap_or_default(), &mut [0; 8]);
        let mut options = Options::with_directories(settings.debug_dirs.iter().cloned());
        options.force = settings.force;
        Ok(Self {
            machine: Machine::new(Arc::new(recording), options),
            at,
            process,
            settings,
        })
    }

    /// The process as it is where clients begin.
    ///
    /// # Errors
    /// If it cannot be read.
    pub fn image(&self) -> Result<ProcessImage, Error> {
        Ok(self.machine.recording().process(self.at, self.process)?)
    }

    /// Whether every file with code that the process had mapped is on this machine as it was.
    ///
    /// # Errors
    /// If the process cannot be read.
    pub fn all_files_are_here(&self) -> Result<bool, Error> {
        let image = self.image()?;
        let code = image.space.mappings.iter().filter(|m| m.execute);
        let mut files: Vec<&FileIdentity> = code.filter_map(|m| image.space.file_of(m)).collect();
        files.sort_unstable_by(|a, b| a.path.cmp(&b.path));
        files.dedup();
        Ok(files.into_iter().all(files::is_here))
    }

    /// Where the executable is on this machine: under its own name if it is still the same, else at
    /// `copy`, which is then written from the recording. `None` if neither has it.
    ///
    /// # Errors
    /// If it is in the recording and cannot be read, or the copy cannot be written.
    pub fn executable(&self, copy: &Path) -> Result<Option<PathBuf>, Error> {
        let scene = Scene::new(self.machine.recording(), self.at, self.process)?;
        let path = &scene.image().process.executable;
        let Some(file) = files::find(&scene, path) else {
            return Ok(None);
        };
        if files::is_here(file) {
            return Ok(Some(OsStr::from_bytes(&file.path).into()));
        }
        match files::content(&scene, file, self.settings.force) {
            Ok(content) => {
                content.copy_to(&mut File::create_new(copy)?)?;
                Ok(Some(copy.into()))
            }
            Err(files::Refused::Unknown) => Ok(None),
            Err(files::Refused::Other(why)) => {
                tracing::warn!("{why}");
                Ok(None)
            }
        }
    }

    /// Serves one debugger until it leaves. The next one begins where this one did, in the process
    /// that this one chose for it.
    ///
    /// # Errors
    /// If the connection fails, or the recording cannot be read at all.
    pub fn serve(&mut self, connection: &Connection) -> Result<(), Error> {
        if self.machine.recording().is_live() {
            let fresh = Recording::open(&self.settings.recording)?;
            self.machine.renew(Arc::new(fresh));
        }
        let scene = Scene::new(self.machine.recording(), self.at, self.process)?;
        let (input, output) = connection.halves()?;
        let mut link = link::Link::new(input, output)?;
        let mut session = Session::new(scene, &self.machine, &self.settings);
        let ended = session.run(&mut link);
        let chosen = session
            .next_process
            .map(|p| (p, session.scene.checkpoint()));
        connection.close();
        if let Some((process, at)) = chosen {
            (self.process, self.at) = (process, at);
        }
        ended
    }
}
