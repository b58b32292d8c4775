//! From the content of a page to its version: nothing, zero, duplicate, difference or keyframe.

use super::{Unchanged, Writer};
use crate::bytes::{Page, ZERO_PAGE};
use crate::dedup::Digest;
use crate::pack::delta::{self, WordSet};
use crate::shadow::{Key, Point};
use crate::{Error, VersionRef};
use stillframe_image::{PAGE_SIZE, PageNumber, SpaceId};

/// A chain's differences, and a single one, may take this many bytes; beyond, whole content is
/// stored.
const HALF: usize = PAGE_SIZE / 2;
/// A difference longer than this is worth asking whether the content is stored already.
const WORTH_HASHING: usize = 768;

/// Which base a difference is stored against.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Against {
    Current,
    Anchor,
    Root,
}

impl Writer {
    pub(super) fn put(
        &mut self,
        space: SpaceId,
        page: PageNumber,
        new: &Page,
    ) -> Result<(), Error> {
        let key = (space.0, page.0);
        self.counts.raw_bytes += PAGE_SIZE as u64;
        let Some(i) = self.shadow.find(key) else {
            return self.unknown(key, new);
        };
        if !self.may_refer(key, i) {
            return self.renew(key, i, new);
        }
        let words = delta::changed(self.shadow.content(i), new);
        if words.is_empty() {
            self.same(key, i);
            return Ok(());
        }
        if *new == ZERO_PAGE {
            self.counts.zeros += 1;
            self.keep_version(key, i, new, Point::at(VersionRef::ZERO, 0, 0));
            return Ok(());
        }
        self.changed(key, i, new, &words)
    }

    /// A page of which what is known may be let go of: as if it were not known.
    fn renew(&mut self, key: Key, i: u32, new: &Page) -> Result<(), Error> {
        let point = if *new == ZERO_PAGE {
            self.counts.zeros += 1;
            Point::at(VersionRef::ZERO, 0, 0)
        } else {
            self.whole(new, true)?
        };
        self.keep_version(key, i, new, point);
        Ok(())
    }

    /// The version in which a content is stored already, if it may be referred to.
    fn duplicate(&self, digest: Digest) -> Option<(VersionRef, u8)> {
        let found = self.dedup.find(digest);
        found.filter(|(version, depth)| {
            *depth <= self.options.chain_limit
                && self.keeper.as_ref().is_none_or(|k| k.stays(*version))
        })
    }

    /// The page has the content it had.
    fn same(&mut self, key: Key, i: u32) {
        let next = self.next;
        let meta = self.shadow.meta(i);
        let entry = Self::entry(key.0, key.1, meta.current.version);
        match meta.indexed {
            Some(indexed) if indexed == next => {}
            Some(indexed) => self.unchanged.push(Unchanged { entry, indexed }),
            None => {
                meta.indexed = Some(next);
                self.pending.push(entry);
            }
        }
    }

    /// A page that is not in the shadow.
    fn unknown(&mut self, key: Key, new: &Page) -> Result<(), Error> {
        let point = if *new == ZERO_PAGE {
            self.counts.zeros += 1;
            Point::at(VersionRef::ZERO, 0, 0)
        } else {
            self.whole(new, true)?
        };
        self.pending.push(Self::entry(key.0, key.1, point.version));
        self.shadow.insert(key, new, self.next, point);
        Ok(())
    }

    /// Stores whole content, or finds it.
    fn whole(&mut self, new: &Page, may_be_sparse: bool) -> Result<Point, Error> {
        let digest = self.dedup.digest(new);
        if let Some((version, depth)) = self.duplicate(digest) {
            self.counts.duplicates += 1;
            return Ok(Point::at(version, depth, 0));
        }
        self.begin_version();
        let mut point = None;
        if may_be_sparse && self.options.chain_limit > 0 {
            let words = delta::changed(&ZERO_PAGE, new);
            if words.count() <= 64 {
                self.scratch.clear();
                delta::encode(&words, Some(&ZERO_PAGE), new, &mut self.scratch);
                let version = self.pack.delta(VersionRef::ZERO, &self.scratch, new);
                point = Some(Point::at(version, 1, self.scratch.len() as u32));
            }
        }
        let point = point.unwrap_or_else(|| Point::at(self.pack.keyframe(new), 0, 0));
        self.dedup.insert(digest, point.version, point.depth);
        self.end_version()?;
        Ok(point)
    }

    /// A page in the shadow with other content.
    fn changed(&mut self, key: Key, i: u32, new: &Page, words: &WordSet) -> Result<(), Error> {
        let limit = self.options.chain_limit;
        let meta = self.shadow.meta(i);
        meta.anchor.words.add(words);
        meta.root.words.add(words);
        let (current, anchor, root) = (meta.current, meta.anchor, meta.root);
        let (now, since_anchor, since_root) =
            (words.count(), anchor.words.count(), root.words.count());
        // A shorter chain is worth as many words again, and two.
        let close = 2 * now + 2;
        let choice = if since_root <= close && root.depth < limit {
            Some(Against::Root)
        } else if since_anchor <= close && anchor.depth < limit {
            Some(Against::Anchor)
        } else if current.depth < limit && current.bytes + 10 * now <= HALF as u32 {
            Some(Against::Current)
        } else if since_root as usize * 8 <= HALF && root.depth < limit {
            Some(Against::Root)
        } else {
            None
        };
        if let Some(against) = choice {
            let (base, set) = match against {
                Against::Current => (&current, words),
                Against::Anchor => (&anchor, &anchor.words),
                Against::Root => (&root, &root.words),
            };
            // Bytes of words can be left out only where the base's content is at hand.
            let known = set == words && base.version == current.version;
            self.scratch.clear();
            let old = known.then(|| self.shadow.content(i));
            delta::encode(set, old, new, &mut self.scratch);
            if self.scratch.len() <= HALF {
                return self.difference(key, i, new, against, words);
            }
        }
        let point = self.whole(new, false)?;
        self.keep_version(key, i, new, point);
        Ok(())
    }

    /// Stores the difference in `scratch`. `words`: in which the content differs from that before.
    fn difference(
        &mut self,
        key: Key,
        i: u32,
        new: &Page,
        against: Against,
        words: &WordSet,
    ) -> Result<(), Error> {
        let length = self.scratch.len();
        let digest = (length > WORTH_HASHING).then(|| self.dedup.digest(new));
        if let Some((version, depth)) = digest.and_then(|d| self.duplicate(d)) {
            self.counts.duplicates += 1;
            self.keep_version(key, i, new, Point::at(version, depth, 0));
            return Ok(());
        }
        self.begin_version();
        let meta = self.shadow.meta(i);
        let base = match against {
            Against::Current => meta.current,
            Against::Anchor => meta.anchor,
            Against::Root => meta.root,
        };
        let version = self.pack.delta(base.version, &self.scratch, new);
        let point = Point::at(version, base.depth + 1, base.bytes + length as u32);
        match against {
            // It is the cheapest place to measure from for what comes next.
            Against::Current => meta.anchor = point,
            Against::Root => meta.anchor = meta.root,
            Against::Anchor => {}
        }
        meta.current = point;
        meta.indexed = Some(self.next);
        self.shadow.set_words(i, words, new);
        self.counts.new_versions += 1;
        self.pending.push(Self::entry(key.0, key.1, version));
        if let Some(digest) = digest {
            self.dedup.insert(digest, version, point.depth);
        }
        self.end_version_uncounted()
    }

    /// The page's content is now that of a version that begins a chain.
    fn keep_version(&mut self, key: Key, i: u32, new: &Page, point: Point) {
        let next = self.next;
        let meta = self.shadow.meta(i);
        meta.current = point;
        meta.anchor = point;
        meta.root = point;
        meta.indexed = Some(next);
        self.shadow.set_content(i, new);
        self.pending.push(Self::entry(key.0, key.1, point.version));
    }

    /// An empty pack will stand where the log ends now.
    fn begin_version(&mut self) {
        if self.pack.is_empty() {
            self.pack.place(self.log.next());
        }
    }

    fn end_version(&mut self) -> Result<(), Error> {
        self.counts.new_versions += 1;
        self.end_version_uncounted()
    }

    fn end_version_uncounted(&mut self) -> Result<(), Error> {
        if self.pack.is_full(self.options.pack_bytes) {
            self.flush_pack()
        } else {
            Ok(())
        }
    }
}
