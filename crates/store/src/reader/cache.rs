//! Decoded packs kept in memory, bounded, the least recently used going first.

use crate::Error;
use crate::log::Location;
use crate::log::record::Kind;
use crate::log::scan::LogReader;
use crate::pack::decode::{Pack, Packs};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Bytes of decoded packs kept.
const LIMIT: usize = 64 << 20;

#[derive(Debug, Default)]
struct Held {
    packs: HashMap<u64, (Arc<Pack>, u64)>,
    bytes: usize,
    clock: u64,
}

/// The cache.
#[derive(Debug, Default)]
pub struct PackCache {
    held: Mutex<Held>,
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
        let lock = || {
            self.cache
                .held
                .lock()
                .unwrap_or_else(PoisonError::into_inner)
        };
        {
            let mut held = lock();
            held.clock += 1;
            let now = held.clock;
            if let Some((pack, used)) = held.packs.get_mut(&at.0) {
                *used = now;
                return Ok(Arc::clone(pack));
            }
        }
        let (payload, _) = self.log.read(at, Kind::Pack)?;
        let pack = Pack::decode(at, payload).map_err(LogReader::malformed(at, Kind::Pack))?;
        let pack = Arc::new(pack);
        let mut held = lock();
        held.bytes += pack.memory();
        let now = held.clock;
        if let Some((old, _)) = held.packs.insert(at.0, (Arc::clone(&pack), now)) {
            held.bytes -= old.memory();
        }
        while held.bytes > LIMIT && held.packs.len() > 1 {
            let oldest = held
                .packs
                .iter()
                .min_by_key(|(_, (_, used))| *used)
                .map(|(at, _)| *at);
            let Some((old, _)) = oldest.and_then(|o| held.packs.remove(&o)) else {
                break;
            };
            held.bytes -= old.memory();
        }
        Ok(pack)
    }
}
