//! The most recent content of pages, bounded, to diff the next content against.
//!
//! Beside the content the shadow remembers, for each page, which words changed since two earlier
//! versions of it: the *root* (the last keyframe, where its chain of differences begins) and the
//! *anchor* (a version in between). A new version can therefore be stored against any of three
//! bases (previous, anchor, root), and the one that keeps the chain short for little more space is
//! taken. When a chain reaches its limit, the words changed since the root are mostly few, and a
//! difference against the root replaces the keyframe that would otherwise be due.

use crate::VersionRef;
use crate::bytes::Page;
use crate::pack::delta::WordSet;
use places::Places;
use stillframe_image::PAGE_SIZE;

mod arena;
mod places;

use arena::Arena;

/// Key of a page: (address space, page number).
pub type Key = (u32, u64);

/// A version that a new one may be stored against.
#[derive(Clone, Copy, Debug)]
pub struct Point {
    /// The version.
    pub version: VersionRef,
    /// Bases to follow from it to whole content.
    pub depth: u8,
    /// Bytes of the differences of that chain.
    pub bytes: u32,
    /// Words changed since.
    pub words: WordSet,
}

impl Point {
    /// At a version of which nothing has changed yet.
    pub fn at(version: VersionRef, depth: u8, bytes: u32) -> Self {
        Self {
            version,
            depth,
            bytes,
            words: WordSet::default(),
        }
    }
}

/// What is known about a page.
#[derive(Clone, Copy, Debug)]
pub struct Meta {
    key: Key,
    referenced: bool,
    used: bool,
    /// Checkpoint whose page table has the newest entry; `None` if that one was abandoned.
    pub indexed: Option<u64>,
    /// The version that holds the content, and the length of its chain.
    pub current: Point,
    /// See the module.
    pub anchor: Point,
    /// See the module.
    pub root: Point,
}

/// The contents.
#[derive(Debug)]
pub struct Shadow {
    limit: usize,
    places: Places,
    metas: Vec<Meta>,
    contents: Arena,
    free: Vec<u32>,
    hand: usize,
}

impl Shadow {
    /// Bounded by about `bytes` of memory, but never less than one page.
    pub fn new(bytes: u64) -> Self {
        let each = (PAGE_SIZE + size_of::<Meta>() + 32) as u64;
        let limit = usize::try_from(bytes / each).unwrap_or(usize::MAX);
        Self {
            limit: limit.clamp(1, u32::MAX as usize),
            places: Places::default(),
            metas: Vec::new(),
            contents: Arena::default(),
            free: Vec::new(),
            hand: 0,
        }
    }

    /// Finds a page.
    pub fn find(&mut self, key: Key) -> Option<u32> {
        let i = self.places.find(key)?;
        self.metas[i as usize].referenced = true;
        Some(i)
    }

    /// What is known about a page found.
    pub fn meta(&mut self, i: u32) -> &mut Meta {
        &mut self.metas[i as usize]
    }

    /// Content of a page found.
    pub fn content(&self, i: u32) -> &Page {
        self.contents.page(i)
    }

    /// Replaces the content of a page found.
    pub fn set_content(&mut self, i: u32, content: &Page) {
        *self.contents.page_mut(i) = *content;
    }

    /// Replaces those words of the content of a page found that are not those of `content`: `words`.
    pub fn set_words(&mut self, i: u32, words: &WordSet, content: &Page) {
        words.copy(content, self.contents.page_mut(i));
    }

    /// Puts a page that is not there, with a version that begins a chain.
    pub fn insert(&mut self, key: Key, content: &Page, indexed: u64, current: Point) {
        let i = self.place();
        let meta = Meta {
            key,
            // Not yet: a page seen once goes before one seen twice.
            referenced: false,
            used: true,
            indexed: Some(indexed),
            current,
            anchor: current,
            root: current,
        };
        if i as usize == self.metas.len() {
            self.metas.push(meta);
        } else {
            self.metas[i as usize] = meta;
        }
        self.set_content(i, content);
        self.places.insert(key, i);
    }

    /// A place for one more page, taken from another if need be (CLOCK).
    fn place(&mut self) -> u32 {
        if let Some(i) = self.free.pop() {
            return i;
        }
        let n = self.metas.len();
        if n < self.limit {
            self.contents.reach(n as u32, self.limit - n);
            return n as u32;
        }
        loop {
            let i = self.hand;
            self.hand = (i + 1) % n;
            let meta = &mut self.metas[i];
            if meta.referenced {
                meta.referenced = false;
            } else if meta.used {
                self.places.remove(meta.key);
                return i as u32;
            }
        }
    }

    /// After an abandoned checkpoint: the content of this page is in no committed page table.
    pub fn abandon(&mut self, key: Key) {
        if let Some(i) = self.places.find(key) {
            self.metas[i as usize].indexed = None;
        }
    }

    /// Drops all pages of an address space.
    pub fn forget(&mut self, space: u32) {
        for (i, meta) in self.metas.iter_mut().enumerate() {
            if meta.used && meta.key.0 == space {
                meta.used = false;
                meta.referenced = false;
                self.places.remove(meta.key);
                self.free.push(i as u32);
            }
        }
    }

    /// Bytes of memory held.
    pub fn memory(&self) -> usize {
        self.contents.memory() + self.metas.capacity() * size_of::<Meta>() + self.places.memory()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounded_and_the_page_used_twice_stays() {
        let mut s = Shadow::new(8 * (PAGE_SIZE + size_of::<Meta>() + 32) as u64);
        assert_eq!(s.limit, 8);
        let point = Point::at(VersionRef::ZERO, 0, 0);
        for page in 0..8 {
            s.insert((0, page), &[page as u8; PAGE_SIZE], 0, point);
        }
        assert!(s.find((0, 3)).is_some());
        for page in 8..14 {
            s.insert((0, page), &[page as u8; PAGE_SIZE], 0, point);
        }
        assert_eq!(s.places.len(), 8);
        let i = s.find((0, 3)).unwrap();
        assert_eq!(s.content(i)[0], 3);
        assert!(s.find((0, 0)).is_none());
        s.forget(0);
        assert!(s.find((0, 3)).is_none());
        for page in 0..20 {
            s.insert((1, page), &[page as u8; PAGE_SIZE], 0, point);
        }
        assert_eq!((s.places.len(), s.metas.len()), (8, 8));
        let i = s.find((1, 19)).unwrap();
        assert_eq!(s.content(i)[7], 19);
    }
}
