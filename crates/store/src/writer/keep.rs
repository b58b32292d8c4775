//! What retention needs of the writer: what it may still refer to, and a table without old rows.

use super::{Writer, WriterOptions};
use crate::files::Files;
use crate::log::Location;
use crate::log::segment;
use crate::retention::keeper::{Keeper, Note, Shared};
use crate::rows::{self, ROW};
use crate::shadow::Point;
use crate::{Error, VersionRef};
use std::collections::HashMap;
use std::path::Path;
use std::sync::Arc;
use stillframe_image::{Checkpoint, Generation, PageNumber, SpaceId, Tick, WrittenFile};

/// The table is written again when it is this many times as long as it has to be.
const TWICE: u64 = 2;
/// ... and has this many rows.
const ROWS: u64 = 512;

/// The keeper, and what the last checkpoint could see.
#[derive(Debug)]
pub struct Kept {
    keeper: Keeper,
    /// Of each process at the last checkpoint: which memory is how old.
    generations: HashMap<u32, Vec<Generation>>,
    /// Segment in which the records of the next checkpoint begin.
    segment: u32,
}

impl Kept {
    /// Starts retention if the options ask for it.
    ///
    /// # Errors
    /// If there is no thread to be had.
    pub fn start(
        dir: &Path,
        files: &Arc<dyn Files>,
        id: [u8; 16],
        options: &WriterOptions,
    ) -> Result<Option<Self>, Error> {
        if options.keep.is_none() && !options.control {
            return Ok(None);
        }
        let keeper = Keeper::start(
            dir,
            Arc::clone(files),
            id,
            options.level,
            options.segment_bytes,
            options.keep,
        )?;
        Ok(Some(Self {
            keeper,
            generations: HashMap::new(),
            segment: 1,
        }))
    }

    /// What is shared with the keeper.
    pub fn shared(&self) -> Arc<Shared> {
        self.keeper.shared()
    }

    /// Ends it.
    pub fn stop(&mut self) {
        self.keeper.stop();
    }

    /// Whether a version may be referred to whatever becomes of older checkpoints.
    pub fn stays(&self, version: VersionRef) -> bool {
        version.is_zero() || Location(version.pack).segment() >= self.keeper.horizon()
    }

    /// Whether the last checkpoint sees what page `page` of `space` got at checkpoint `indexed`.
    fn sees(&self, space: u32, page: u64, indexed: u64) -> bool {
        let address = PageNumber(page).address();
        self.generations.get(&space).is_some_and(|list| {
            let after = list.partition_point(|g| g.start <= address);
            let found = after.checked_sub(1).and_then(|i| list.get(i));
            found.is_some_and(|g| address < g.end && g.since.0 <= indexed)
        })
    }
}

impl Writer {
    /// Whether new references to what the shadow knows of a page may begin: to versions after the
    /// horizon, and to older ones that the last checkpoint sees, or the one being built.
    pub(super) fn may_refer(&mut self, key: (u32, u64), i: u32) -> bool {
        let next = self.next;
        let Some(kept) = &self.keeper else {
            return true;
        };
        let meta = *self.shadow.meta(i);
        let stays = |p: &Point| kept.stays(p.version);
        if stays(&meta.current) && stays(&meta.anchor) && stays(&meta.root) {
            return true;
        }
        meta.indexed
            .is_some_and(|at| at == next || kept.sees(key.0, key.1, at))
    }

    /// After a commit: tells the keeper, and keeps the table short.
    pub(super) fn keep(&mut self, checkpoint: &Checkpoint, tick: &Tick, bytes: u64) {
        let end = self.log.next();
        let filled = self.log.filled();
        let Some(kept) = &mut self.keeper else { return };
        kept.generations.retain(|space, _| {
            let space = SpaceId(*space);
            checkpoint.process(space).is_some() || checkpoint.files.iter().any(|f| f.space == space)
        });
        for file in &checkpoint.files {
            let list = file.since().map(WrittenFile::generation);
            kept.generations
                .insert(file.space.0, list.into_iter().collect());
        }
        for process in &checkpoint.processes {
            let list = kept.generations.entry(process.id.0).or_default();
            if *list != process.space.generations {
                list.clone_from(&process.space.generations);
            }
        }
        let note = Note {
            id: self.next - 1,
            at_ns: tick.at_ns,
            bytes,
            segment: kept.segment,
        };
        kept.segment = end.segment();
        if kept.keeper.committed(note, end, filled) {
            self.log.close_segment();
            kept.segment = self.log.next().segment();
        }
        self.shorten_table();
    }

    /// Writes the table again without the rows of removed checkpoints, once they are the half of it.
    /// Each row is copied once on the average. That it cannot be written is a warning: the old one
    /// goes on.
    fn shorten_table(&mut self) {
        let Some(kept) = &self.keeper else { return };
        if self.rows_written < ROWS {
            return;
        }
        let shared = kept.shared();
        let ledger = shared.ledger();
        let removed: u64 = ledger.removed.iter().map(|(a, b)| b - a).sum();
        let remaining = self.next.saturating_sub(removed);
        if self.rows_written < TWICE * remaining {
            return;
        }
        if let Err(e) = self.try_shorten(&ledger.removed) {
            tracing::warn!("the list of checkpoints cannot be shortened: {e}");
        }
    }

    fn try_shorten(&mut self, removed: &crate::retention::ranges::Ranges) -> Result<(), Error> {
        let path = self.dir.join(rows::NAME);
        let old = std::fs::read(&path).map_err(Error::io("read", &path))?;
        let (head, body) = old.split_at_checked(segment::HEADER).unwrap_or((&old, &[]));
        let mut new = head.to_vec();
        for row in body.chunks_exact(ROW) {
            let full = rows::decode_any(self.key, row);
            if full.is_ok_and(|f| !removed.contains(f.row.id.0)) {
                new.extend_from_slice(row);
            }
        }
        let temporary = self.dir.join(rows::TEMPORARY);
        let file = self
            .files
            .create(&temporary)
            .map_err(Error::io("create", &temporary))?;
        file.write_at(0, &new)
            .map_err(Error::io("write", &temporary))?;
        self.files
            .rename(&temporary, &path)
            .map_err(Error::io("create", &path))?;
        self.rows_written = ((new.len() - segment::HEADER.min(new.len())) / ROW) as u64;
        self.sync.replace(path, Arc::clone(&file));
        self.rows = file;
        Ok(())
    }
}
