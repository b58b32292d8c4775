//! What is read of the recording before the process stands still.
//!
//! Most of a rollback is reading pages: each is put together from differences, and checked. Which pages
//! differ is known but for the last few before anything is stopped, and what they were does not
//! depend on the present. So they are read while the process still runs.

use super::pages::{Bytes, Differ, Page, between};
use super::{Error, next_asked};
use std::collections::HashMap;
use std::ops::Range;
use stillframe_image::{CheckpointId, PAGE_SIZE, PageNumber, ProcessImage, SpaceId};
use stillframe_store::{Memory, Recording};

/// Pages read ahead, at most: 128 MiB.
const MOST: usize = 32_768;

/// What was read.
#[derive(Debug, Default)]
pub struct Ahead {
    pages: HashMap<u64, Box<Page>>,
    room: Vec<Page>,
    /// Which pages differ, as far as it was recorded then.
    pub differ: Option<Differ>,
    /// See [`next_asked`]; none if nothing is known of it.
    pub next: Option<ProcessImage>,
}

impl Ahead {
    /// Reads the pages that differ between `to` and the newest checkpoint there is.
    ///
    /// # Errors
    /// If the recording is damaged.
    pub fn of_recorded(
        recording: &Recording,
        to: CheckpointId,
        space: SpaceId,
    ) -> Result<Self, Error> {
        let Some(last) = recording.rows().last() else {
            return Ok(Self::default());
        };
        let then = recording.memory(to, space)?;
        let now = recording.memory(last.id, space)?;
        let mut this = Self::default();
        let differ = between(recording, &then, &now, None)?;
        this.read(&then, &differ.pages)?;
        this.differ = Some(differ);
        this.next = next_asked(recording, to, space)?;
        Ok(this)
    }

    /// Reads all pages of a moment that are not a file's, unless they are too many.
    ///
    /// # Errors
    /// If the recording is damaged.
    pub fn of_all(then: &Memory<'_>) -> Result<Self, Error> {
        let all = PageNumber(0)..PageNumber(u64::MAX);
        let pages: Vec<PageNumber> = then
            .pages_with_versions(all)?
            .into_iter()
            .filter(|(_, version)| !version.is_zero())
            .map(|(page, _)| page)
            .collect();
        let mut this = Self::default();
        if pages.len() <= MOST {
            this.read(then, &pages)?;
        }
        Ok(this)
    }

    fn read(&mut self, then: &Memory<'_>, pages: &[PageNumber]) -> Result<(), Error> {
        for page in pages.iter().take(MOST) {
            let mut content = Box::new([0; PAGE_SIZE]);
            then.page(*page, &mut content)?;
            self.pages.insert(page.0, content);
        }
        // Written, so that it is there; and some more for what changes until the process stands.
        self.room = vec![[1; PAGE_SIZE]; self.pages.len() * 5 / 4];
        Ok(())
    }

    /// Memory for what these pages replace, in use already: new memory would be dear while the process
    /// stands still.
    pub fn take_room(&mut self) -> Vec<Page> {
        std::mem::take(&mut self.room)
    }

    /// The bytes of the moment, which are `rest`, as far as possible from what was read.
    pub const fn bytes<'a>(&'a self, rest: &'a dyn Bytes) -> ReadAhead<'a> {
        ReadAhead { ahead: self, rest }
    }
}

/// Pages read ahead, and the others.
#[derive(Clone, Copy)]
pub struct ReadAhead<'a> {
    ahead: &'a Ahead,
    rest: &'a dyn Bytes,
}

impl Bytes for ReadAhead<'_> {
    fn page(&self, page: PageNumber, out: &mut Page) -> Result<(), Error> {
        match self.ahead.pages.get(&page.0) {
            Some(content) => {
                *out = **content;
                Ok(())
            }
            None => self.rest.page(page, out),
        }
    }

    fn borrow(&self, page: PageNumber) -> Option<&Page> {
        match self.ahead.pages.get(&page.0) {
            Some(content) => Some(content),
            None => self.rest.borrow(page),
        }
    }

    fn pages_in(&self, range: Range<PageNumber>) -> Result<Vec<PageNumber>, Error> {
        self.rest.pages_in(range)
    }
}
