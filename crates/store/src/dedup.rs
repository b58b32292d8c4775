//! Which content is stored already.
//!
//! A program under record may be hostile and choose its pages, so equal hashes must mean equal
//! bytes even against someone who looks for collisions: BLAKE3, keyed with a random key that never
//! leaves the recorder, cut to 128 bits. The memory is bounded: sets of eight, the oldest of a set
//! goes first.

use crate::VersionRef;
use crate::bytes::Page;

const WAYS: usize = 8;

/// A digest of a page.
pub type Digest = u128;

#[derive(Clone, Copy, Debug)]
struct Known {
    digest: Digest,
    version: VersionRef,
    depth: u8,
}

/// Contents stored lately.
#[derive(Debug)]
pub struct Dedup {
    key: [u8; 32],
    sets: Vec<Vec<Known>>,
    held: usize,
}

impl Dedup {
    /// Remembers up to about `entries`; `key` is secret and random.
    pub fn new(entries: usize, key: [u8; 32]) -> Self {
        let sets = (entries / WAYS).max(1).next_power_of_two();
        Self {
            key,
            sets: vec![Vec::new(); sets],
            held: 0,
        }
    }

    /// The digest of a page.
    pub fn digest(&self, page: &Page) -> Digest {
        let hash = blake3::keyed_hash(&self.key, page);
        let (first, _) = hash.as_bytes().split_at(16);
        first.iter().rev().fold(0, |d, b| d << 8 | u128::from(*b))
    }

    /// The version that has this content, and the length of its chain.
    pub fn find(&self, digest: Digest) -> Option<(VersionRef, u8)> {
        let set = &self.sets[digest as usize & (self.sets.len() - 1)];
        set.iter()
            .find(|k| k.digest == digest)
            .map(|k| (k.version, k.depth))
    }

    /// Remembers a content.
    pub fn insert(&mut self, digest: Digest, version: VersionRef, depth: u8) {
        let mask = self.sets.len() - 1;
        let set = &mut self.sets[digest as usize & mask];
        if set.len() >= WAYS {
            set.remove(0);
            self.held -= 1;
        }
        set.push(Known {
            digest,
            version,
            depth,
        });
        self.held += 1;
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.sets.len() * size_of::<Vec<Known>>() + self.held * size_of::<Known>()
    }
}
