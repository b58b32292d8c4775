//! Decoded packs kept in memory, bounded, the least recently used going first.
//!
//! Packs of differences and packs of whole pages are kept apart: reading memory in order streams
//! through the latter once, and must not push out the former, which every page comes back to.

use crate::Error;
use crate::log::Location;
use crate::log::scan::LogReader;
use crate::pack::decode::{Pack, Packs};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError};

/// Bytes of decoded packs of differences kept.
const DIFFERENCES: usize = 112 << 20;
/// Bytes of decoded packs of whole pages kept.
const PAGES: usize = 16 << 20;

#[derive(Debug, Default)]
struct Held {
    packs: HashMap<u64, (Arc<Pack>, u64)>,
    bytes: usize,
    clock: u64,
}

impl Held {
    fn find(&mut self, at: Location) -> Option<Arc<Pack>> {
        self.clock += 1;
        let (pack, used) = self.packs.get_mut(&at.0)?;
        *used = self.clock;
        Some(Arc::clone(pack))
    }

    fn keep(&mut self, at: Location, pack: &Arc<Pack>, limit: usize) {
        self.bytes += pack.memory();
        if let Some((old, _)) = self.packs.insert(at.0, (Arc::clone(pack), self.clock)) {
            self.bytes -= old.memory();
        }
        if self.bytes <= limit {
            return;
        }
        // A tenth at once, so that the search for the oldest is paid rarely.
        let mut ages: Vec<(u64, u64)> = self
            .packs
            .iter()
            .map(|(place, (_, used))| (*used, *place))
            .collect();
        ages.sort_unstable();
        ages.pop();
        for (_, oldest) in ages {
            if self.bytes <= limit / 10 * 9 {
                break;
            }
            self.bytes -= self
                .packs
                .remove(&oldest)
                .map_or(0, |(old, _)| old.memory());
        }
    }
}

/// The cache.
#[derive(Debug, Default)]
pub struct PackCache {
    differences: Mutex<Held>,
    pages: Mutex<Held>,
}

fn locked(held: &Mutex<Held>) -> MutexGuard<'_, Held> {
    held.lock().unwrap_or_else(PoisonError::into_inner)
}

/// Packs of a log through a cache.
#[derive(Debug)]
pub struct CachedPacks<'a> {
    /// Where they come from.
    pub log: &'a LogReader,
    /// Where they are kept.
    pub cache: &'a PackCache,
}

impl Packs for CachedPacks<'_> {
    fn pack(&self, at: Location) -> Result<Arc<Pack>, Error> {
        let PackCache { differences, pages } = self.cache;
        if let Some(pack) = locked(differences).find(at) {
            return Ok(pack);
        }
        if let Some(pack) = locked(pages).find(at) {
            return Ok(pack);
        }
        let pack = Arc::new(self.log.pack(at)?);
        if pack.is_mostly_whole() {
            locked(pages).keep(at, &pack, PAGES);
        } else {
            locked(differences).keep(at, &pack, DIFFERENCES);
        }
        Ok(pack)
    }
}
