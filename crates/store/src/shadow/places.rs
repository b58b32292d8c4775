//! Where in the shadow each page is.
//!
//! Pages are put in ascending order, and neighbours are put together. So they are kept in leaves of
//! 512, as page tables do it, and the leaf found last is where the next page mostly is: finding it
//! costs no hashing and little waiting for memory.

use super::Key;
use std::collections::HashMap;

/// Pages in a leaf.
const LEAF: usize = 512;

/// No place.
const NONE: u32 = u32::MAX;

/// Address space, page number without the bits that number the pages of a leaf.
type LeafKey = (u32, u64);

#[derive(Debug)]
struct Leaf {
    places: Box<[u32; LEAF]>,
    /// Of them, those that are one.
    used: u32,
}

/// See the head of this module.
#[derive(Debug, Default)]
pub struct Places {
    by_key: HashMap<LeafKey, u32>,
    leaves: Vec<Leaf>,
    free: Vec<u32>,
    last: Option<(LeafKey, u32)>,
    pages: usize,
}

const fn split(key: Key) -> (LeafKey, usize) {
    let leaf = (key.0, key.1 / LEAF as u64);
    (leaf, (key.1 % LEAF as u64) as usize)
}

impl Places {
    fn leaf(&mut self, key: LeafKey) -> Option<u32> {
        match self.last {
            Some((last, leaf)) if last == key => Some(leaf),
            _ => {
                let leaf = *self.by_key.get(&key)?;
                self.last = Some((key, leaf));
                Some(leaf)
            }
        }
    }

    /// The place of a page.
    pub fn find(&mut self, key: Key) -> Option<u32> {
        let (leaf, at) = split(key);
        let leaf = self.leaf(leaf)?;
        Some(self.leaves[leaf as usize].places[at]).filter(|place| *place != NONE)
    }

    /// Notes the place of a page that has none.
    pub fn insert(&mut self, key: Key, place: u32) {
        let (leaf, at) = split(key);
        let i = match self.leaf(leaf) {
            Some(i) => i,
            None => {
                let i = self.free.pop().unwrap_or_else(|| {
                    self.leaves.push(Leaf {
                        places: Box::new([NONE; LEAF]),
                        used: 0,
                    });
                    (self.leaves.len() - 1) as u32
                });
                self.by_key.insert(leaf, i);
                self.last = Some((leaf, i));
                i
            }
        };
        let leaf = &mut self.leaves[i as usize];
        if leaf.places[at] == NONE {
            leaf.used += 1;
            self.pages += 1;
        }
        leaf.places[at] = place;
    }

    /// Forgets the place of a page.
    pub fn remove(&mut self, key: Key) {
        let (key, at) = split(key);
        let Some(i) = self.leaf(key) else { return };
        let leaf = &mut self.leaves[i as usize];
        if leaf.places[at] == NONE {
            return;
        }
        leaf.places[at] = NONE;
        leaf.used -= 1;
        self.pages -= 1;
        if leaf.used == 0 {
            self.by_key.remove(&key);
            self.free.push(i);
            self.last = None;
        }
    }

    /// Pages that have a place.
    #[cfg(test)]
    pub const fn len(&self) -> usize {
        self.pages
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.leaves.len() * (size_of::<Leaf>() + LEAF * size_of::<u32>())
            + self.free.capacity() * size_of::<u32>()
            + self.by_key.capacity() * (size_of::<(LeafKey, u32)>() + 1)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;

    proptest! {
        #[test]
        fn as_a_map_does(steps: Vec<(bool, u8, u16, u16)>) {
            let mut places = Places::default();
            let mut model = BTreeMap::new();
            for (insert, space, page, place) in steps {
                let key = (u32::from(space % 3), u64::from(page % 2048));
                if insert {
                    places.insert(key, u32::from(place));
                    model.insert(key, u32::from(place));
                } else {
                    places.remove(key);
                    model.remove(&key);
                }
                prop_assert_eq!(places.len(), model.len());
                prop_assert_eq!(places.find(key), model.get(&key).copied());
            }
            for space in 0..3 {
                for page in 0..2048 {
                    let key = (space, page);
                    prop_assert_eq!(places.find(key), model.get(&key).copied());
                }
            }
        }
    }

    #[test]
    fn empty_leaves_are_used_again() {
        let mut places = Places::default();
        for round in 0..100u64 {
            places.insert((0, round * 512), 7);
            places.remove((0, round * 512));
        }
        assert_eq!(places.leaves.len(), 1);
    }
}
