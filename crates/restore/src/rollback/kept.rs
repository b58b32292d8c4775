//! Pages as they were before they were written, for putting them back.

use super::Error;
use super::pages::{Bytes, Page};
use std::collections::BTreeMap;
use std::ops::Range;
use stillframe_image::{PAGE_SIZE, PageNumber};

/// Contents of pages. They are read to where they stay; what turns out not to be written over is
/// not named, and its room is used again.
#[derive(Debug, Default)]
pub struct Kept {
    room: Vec<Page>,
    used: usize,
    /// Which of `room` a page is.
    pages: BTreeMap<u64, usize>,
}

impl Kept {
    /// Nothing yet. `room` is memory for it, whose content does not matter; it grows as needed.
    pub const fn new(room: Vec<Page>) -> Self {
        Self {
            room,
            used: 0,
            pages: BTreeMap::new(),
        }
    }

    /// Free room for `count` pages.
    pub fn free(&mut self, count: usize) -> &mut [Page] {
        let end = self.used + count;
        if self.room.len() < end {
            self.room.resize(end, [0; PAGE_SIZE]);
        }
        &mut self.room[self.used..end]
    }

    /// Keeps those of the first pages of the free room that are named, each with its place there,
    /// ascending. The first content of each page counts.
    pub fn keep(&mut self, named: &[(PageNumber, usize)]) {
        for (page, at) in named {
            let at = self.used + at;
            self.pages.entry(page.0).or_insert(at);
        }
        self.used += named.last().map_or(0, |(_, at)| at + 1);
    }

    /// Which pages it has, ascending.
    pub fn pages(&self) -> Vec<PageNumber> {
        self.pages.keys().copied().map(PageNumber).collect()
    }
}

impl Bytes for Kept {
    fn page(&self, page: PageNumber, out: &mut Page) -> Result<(), Error> {
        match self.borrow(page) {
            Some(content) => {
                *out = *content;
                Ok(())
            }
            None => Err(Error::Refused(format!(
                "page {:#x} was not kept",
                page.address()
            ))),
        }
    }

    fn borrow(&self, page: PageNumber) -> Option<&Page> {
        self.room.get(*self.pages.get(&page.0)?)
    }

    fn pages_in(&self, range: Range<PageNumber>) -> Result<Vec<PageNumber>, Error> {
        let range = self.pages.range(range.start.0..range.end.0);
        Ok(range.map(|(page, _)| PageNumber(*page)).collect())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_first_content_counts_and_what_is_not_named_is_used_again() {
        let mut kept = Kept::new(vec![[9; PAGE_SIZE]; 2]);
        for (at, page) in kept.free(3).iter_mut().enumerate() {
            *page = [at as u8; PAGE_SIZE];
        }
        kept.keep(&[(PageNumber(7), 1)]);
        kept.free(2).fill([5; PAGE_SIZE]);
        kept.keep(&[(PageNumber(7), 0), (PageNumber(3), 1)]);
        kept.free(8).fill([6; PAGE_SIZE]);
        kept.keep(&[]);
        kept.free(1).fill([8; PAGE_SIZE]);
        assert_eq!(kept.pages(), [PageNumber(3), PageNumber(7)]);
        let of = |page| kept.borrow(PageNumber(page)).map(|p| p[0]);
        assert_eq!((of(7), of(3), of(4)), (Some(1), Some(5), None));
        let some = kept.pages_in(PageNumber(4)..PageNumber(8)).unwrap();
        assert_eq!(some, [PageNumber(7)]);
    }
}
