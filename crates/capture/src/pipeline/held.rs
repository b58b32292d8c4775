//! What is copied for a checkpoint whose boundary does not stand yet.
//!
//! A page copied again takes the place of its earlier copy, so rounds of copying need no more memory
//! than there are pages, and the store sees each page once.

use super::{BATCH_PAGES, Batch, Message};
use std::collections::HashMap;
use stillframe_image::PageNumber;

/// Batches that may be held back: 1.25 GiB.
const HELD_BATCHES: usize = 80;

/// Batches kept to be used again: as many as are filled in a stop before they are handed over.
const SPARES: usize = 8;

/// Messages, in the order in which they are to go on.
#[derive(Debug, Default)]
pub(super) struct Held {
    messages: Vec<Message>,
    /// Of them, batches.
    batches: usize,
    /// Where each page is: message, slot. Of the batches since anything else was said of pages, but
    /// for the last of them, which may be the only one.
    places: HashMap<(u32, u64), (usize, usize)>,
    /// The last batch, if it is not among those yet.
    last: Option<usize>,
    /// The one before, which single pages may be added to.
    filler: Option<usize>,
    /// Batches of which nothing was left.
    spares: Vec<Batch>,
}

impl Held {
    /// Whether as much is held back as may be.
    pub const fn is_full(&self) -> bool {
        self.batches >= HELD_BATCHES
    }

    /// Adds a batch.
    pub fn pages(&mut self, mut batch: Batch) {
        self.note_last();
        let (mut moved, mut left) = (0, 0);
        for (n, slot) in batch.pages.iter_mut().enumerate() {
            let Some(page) = *slot else { continue };
            let earlier = self.places.get(&(batch.space.0, page.0));
            let place = earlier.and_then(|(message, at)| match self.messages.get_mut(*message) {
                Some(Message::Pages(earlier)) => earlier.arena.page_mut(*at),
                _ => None,
            });
            match (place, batch.arena.pages().get(n)) {
                (Some(place), Some(content)) => {
                    *place = *content;
                    *slot = None;
                    moved += 1;
                }
                _ => left += 1,
            }
        }
        // A few pages are not worth a batch.
        if left > moved || !self.fill(&mut batch) {
            self.last = Some(self.messages.len());
            self.batches += 1;
            self.messages.push(Message::Pages(batch));
        } else if self.spares.len() < SPARES {
            batch.pages.clear();
            batch.arena.clear();
            self.spares.push(batch);
        }
    }

    /// Moves what is left of a batch to the one before, if there is room.
    fn fill(&mut self, batch: &mut Batch) -> bool {
        let left = batch.pages.iter().flatten().count();
        let filler = self
            .filler
            .and_then(|at| Some((at, self.messages.get_mut(at)?)));
        let Some((message, Message::Pages(filler))) = filler else {
            return left == 0;
        };
        let first = filler.pages.len();
        // A slot for each page: those of the filler are not all in use, but all have one.
        if filler.space != batch.space || first != filler.arena.len() {
            return left == 0;
        }
        let Ok(slots) = filler.arena.extend(left) else {
            return left == 0;
        };
        let pages = batch.pages.iter_mut().zip(batch.arena.pages());
        let left = pages.filter_map(|(page, content)| Some((page.take()?, content)));
        for ((n, (page, content)), slot) in left.enumerate().zip(slots) {
            *slot = *content;
            filler.pages.push(Some(page));
            self.places
                .insert((batch.space.0, page.0), (message, first + n));
        }
        true
    }

    /// Notes where the pages of the last batch are, now that there is another.
    fn note_last(&mut self) {
        let Some(last) = self.last.take() else { return };
        self.filler = Some(last);
        let Some(Message::Pages(batch)) = self.messages.get(last) else {
            return;
        };
        self.places.reserve(batch.pages.len().min(BATCH_PAGES));
        for (at, page) in batch.pages.iter().enumerate() {
            if let Some(PageNumber(page)) = page {
                self.places.insert((batch.space.0, *page), (last, at));
            }
        }
    }

    /// Adds anything else. What was said of pages before it is settled: what comes after it stays
    /// after it.
    pub fn other(&mut self, message: Message) {
        self.places.clear();
        (self.last, self.filler) = (None, None);
        self.messages.push(message);
    }

    /// A batch of which nothing was left, to be used again.
    pub fn spare(&mut self) -> Option<Batch> {
        self.spares.pop()
    }

    /// All of it. Batches of which nothing was left come last: the store gives them back.
    pub fn messages(self) -> Vec<Message> {
        let mut messages = self.messages;
        messages.extend(self.spares.into_iter().map(Message::Pages));
        messages
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use std::collections::BTreeMap;
    use stillframe_image::{PAGE_SIZE, SpaceId};
    use stillframe_linux::copy::PageArena;

    type Contents = BTreeMap<(u32, u64), u8>;

    /// What a store holds after these messages.
    fn store(messages: &[Message]) -> Contents {
        let mut pages = Contents::new();
        for message in messages {
            match message {
                Message::Pages(b) => {
                    for (page, bytes) in b.pages.iter().zip(b.arena.pages()) {
                        if let Some(page) = page {
                            pages.insert((b.space.0, page.0), bytes[17]);
                        }
                    }
                }
                Message::Discard(space, ranges) => {
                    for range in ranges {
                        let gone = PageNumber::of(range.start).0..PageNumber::of(range.end).0;
                        pages.retain(|(s, p), _| *s != space.0 || !gone.contains(p));
                    }
                }
                _ => {}
            }
        }
        pages
    }

    fn batch(space: u32, pages: &[u64], fill: u8) -> Batch {
        let mut arena = PageArena::new(45).unwrap();
        for slot in arena.extend(pages.len()).unwrap() {
            *slot = [fill; PAGE_SIZE];
        }
        Batch {
            space: SpaceId(space),
            pages: pages.iter().map(|p| Some(PageNumber(*p))).collect(),
            arena,
        }
    }

    proptest! {
        #[test]
        fn what_goes_on_comes_to_the_same(
            steps in prop::collection::vec(
                (0u32..2, prop::collection::btree_set(0u64..60, 0..40), any::<bool>()), 0..12),
        ) {
            let (mut held, mut all) = (Held::default(), Vec::new());
            let mut since: BTreeMap<(u32, u64), usize> = BTreeMap::new();
            for (n, (space, pages, discard)) in steps.iter().enumerate() {
                let pages: Vec<u64> = pages.iter().copied().collect();
                held.pages(batch(*space, &pages, n as u8));
                all.push(Message::Pages(batch(*space, &pages, n as u8)));
                since.extend(pages.iter().map(|p| ((*space, *p), n)));
                if *discard {
                    let range = PageNumber(10).address()..PageNumber(30).address();
                    let gone = || Message::Discard(SpaceId(*space), Vec::from([range.clone()]));
                    held.other(gone());
                    all.push(gone());
                    since.clear();
                }
            }
            let messages = held.messages();
            prop_assert_eq!(store(&messages), store(&all));
            let after = messages.iter().rposition(|m| matches!(m, Message::Discard(..)));
            let tail = &messages[after.map_or(0, |at| at + 1)..];
            let copies: usize = tail
                .iter()
                .map(|m| match m {
                    Message::Pages(b) => b.pages.iter().flatten().count(),
                    _ => 0,
                })
                .sum();
            prop_assert_eq!(copies, since.len(), "each page goes on once");
        }
    }

    #[test]
    fn a_batch_that_is_all_there_is_used_again() {
        let mut held = Held::default();
        held.pages(batch(0, &[1, 2, 3], 1));
        held.pages(batch(0, &[2, 3], 2));
        assert!(
            held.spare()
                .is_some_and(|b| b.pages.is_empty() && b.arena.is_empty())
        );
        assert_eq!(held.batches, 1);
    }

    #[test]
    fn few_new_pages_take_no_batch_of_their_own() {
        let mut held = Held::default();
        held.pages(batch(0, &[1, 2, 3], 1));
        for n in 0..10 {
            held.pages(batch(0, &[2, 3, 100 + n], 2));
        }
        assert_eq!(held.batches, 1);
        let contents = store(&held.messages());
        assert_eq!((contents[&(0, 2)], contents[&(0, 109)]), (2, 2));
        assert_eq!(contents.len(), 13);
    }
}
