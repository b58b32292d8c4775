//! Removing checkpoints, and giving back the space they took.
//!
//! Three ideas carry it. A removal is one small file replaced ([`ledger`]), so it has happened or
//! it has not. A checkpoint that is removed leaves behind the page versions that the next remaining
//! one still sees ([`view`]), under the numbers they had, so nothing else needs to be told. And
//! records keep their locations when what is beside them goes ([`compact`]), so giving space back
//! rewrites files that hold garbage and nothing else, at any time and in any number of steps.
//!
//! [`Retainer`] does it to a recording that nobody is writing; a [`crate::Writer`] does it to its
//! own, bounded by its options or asked by another process ([`change()`]).

mod change;
pub(crate) mod compact;
pub(crate) mod control;
pub(crate) mod keeper;
pub(crate) mod ledger;
pub(crate) mod mark;
pub(crate) mod ranges;
mod rules;
pub(crate) mod tidy;
pub(crate) mod view;

pub use change::{Change, Changed, LONGEST_NOTE};
pub use keeper::Bound;
pub use rules::{Rule, select};

use crate::files::{Disk, Files};
use crate::writer::create::take_lock;
use crate::{Error, Recording};
use compact::{Compactor, Policy};
use std::fs::File;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

/// zstd level of what is written again.
const LEVEL: i32 = 1;
/// How long to wait for others that are changing a recording.
const PATIENCE: Duration = Duration::from_secs(5);
/// Longest file that is made of several, bytes.
const JOIN: u64 = 256 << 20;

/// Makes a change to the recording in `dir`: itself if nobody is writing it, else by asking its
/// recorder. `progress` as in [`Retainer::change`]; a recorder tells of none.
///
/// Waits a few seconds for others that are changing it, so that of two who name moments at once
/// neither is refused.
///
/// # Errors
/// As [`Retainer::change`]; [`Error::Held`] if it is still held by another that takes no requests.
pub fn change(
    dir: &Path,
    change: &Change,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Changed, Error> {
    let begun = Instant::now();
    loop {
        match Retainer::open(dir) {
            Ok(mut retainer) => return retainer.change(change, progress),
            Err(Error::Busy(dir)) => match control::ask(&dir, change)? {
                Some(changed) => return Ok(changed),
                // Somebody else is changing it, or the recorder ended between the two.
                None if begun.elapsed() > PATIENCE => return Err(Error::Held(dir)),
                None => std::thread::sleep(Duration::from_millis(5)),
            },
            Err(e) => return Err(e),
        }
    }
}

/// What a change would do to the recording in `dir`, without doing it: the bytes are those of the log,
/// about.
///
/// # Errors
/// As [`Retainer::change`]; nothing is locked and nothing written.
pub fn foresee(
    dir: &Path,
    change: &Change,
    progress: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Changed, Error> {
    let mut recording = Recording::open(dir)?;
    let live = recording.is_live();
    let mut ledger = (*recording.list.ledger).clone();
    let removed = change::apply(change, &recording, live, &mut ledger)?;
    recording.list.take_up(ledger);
    let policy = Policy {
        horizon: u32::MAX,
        end: None,
        join: JOIN,
        only: None,
        always: false,
        dry: true,
    };
    let id = recording.header.id;
    let outcome = Compactor::new(dir, Arc::new(Disk), id, LEVEL, false)?
        .run(&recording, &policy, progress)?;
    Ok(Changed {
        removed,
        remaining: recording.rows().len() as u64,
        freed: outcome.freed,
        pending: false,
    })
}

/// A recording that nobody is writing, held for changes.
#[derive(Debug)]
pub struct Retainer {
    dir: PathBuf,
    files: Arc<dyn Files>,
    recording: Recording,
    /// Held for its lock.
    _lock: File,
}

impl Retainer {
    /// Takes the recording in `dir`, and clears away what an interrupted change left.
    ///
    /// # Errors
    /// [`Error::Busy`] if it is being recorded or changed; if it cannot be read or locked.
    pub fn open(dir: &Path) -> Result<Self, Error> {
        Self::open_with(dir, Arc::new(Disk))
    }

    /// As [`Retainer::open`], changing files through `files`: the door for tests.
    ///
    /// # Errors
    /// As [`Retainer::open`].
    pub fn open_with(dir: &Path, files: Arc<dyn Files>) -> Result<Self, Error> {
        // It must be one before a lock file is made in it.
        Recording::open(dir)?;
        let lock = take_lock(dir)?;
        tidy::clean(dir, &*files)?;
        // Nobody listens there while we hold the lock.
        let _ = std::fs::remove_file(dir.join(control::NAME));
        let recording = Recording::open(dir)?;
        Ok(Self {
            dir: dir.into(),
            files,
            recording,
            _lock: lock,
        })
    }

    /// The recording as it is now.
    pub const fn recording(&self) -> &Recording {
        &self.recording
    }

    /// Makes a change and gives back the space. `progress` gets bytes done and bytes in all, and
    /// says whether to go on: what was changed stays changed, and the next change, or
    /// [`Change::Compact`], gives back the rest.
    ///
    /// # Errors
    /// If the change is refused ([`Error::NoMoment`], [`Error::Retention`]), or files cannot be read
    /// or written. The recording is then as before or changed, never in between.
    pub fn change(
        &mut self,
        change: &Change,
        progress: &mut dyn FnMut(u64, u64) -> bool,
    ) -> Result<Changed, Error> {
        let before = tidy::size(&self.dir);
        let mut ledger = (*self.recording.list.ledger).clone();
        let removed = change::apply(change, &self.recording, false, &mut ledger)?;
        if ledger != *self.recording.list.ledger {
            ledger.generation += 1;
            ledger.write(&self.dir, &*self.files, self.recording.log.key())?;
            self.recording = Recording::open(&self.dir)?;
        }
        let mut changed = Changed {
            removed,
            remaining: self.recording.rows().len() as u64,
            ..Changed::default()
        };
        if !change.only_names() {
            changed.pending = !self.compact(progress)?;
        }
        changed.freed = before.saturating_sub(tidy::size(&self.dir));
        Ok(changed)
    }

    /// Gives space back; whether all of it was.
    fn compact(&mut self, progress: &mut dyn FnMut(u64, u64) -> bool) -> Result<bool, Error> {
        if self.recording.list.ledger.removed.is_empty() {
            return Ok(true);
        }
        let id = self.recording.header.id;
        let files = Arc::clone(&self.files);
        let mut compactor = Compactor::new(&self.dir, files, id, LEVEL, false)?;
        let policy = Policy {
            horizon: u32::MAX,
            end: None,
            join: JOIN,
            only: None,
            always: false,
            dry: false,
        };
        // The list and the index first: they are small, and are read while the log is gone through.
        tidy::table(&self.recording, &*self.files)?;
        let outcome = compactor.run(&self.recording, &policy, progress)?;
        if outcome.stopped {
            return Ok(false);
        }
        tidy::index(&self.recording, &*self.files)?;
        tidy::copies(&self.recording, &*self.files)?;
        self.recording = Recording::open(&self.dir)?;
        Ok(true)
    }
}
