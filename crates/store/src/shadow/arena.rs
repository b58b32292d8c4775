//! Memory for the contents of pages, in huge pages where the system has them: with small ones, every
//! page compared costs a walk through the page tables as well.

use crate::bytes::{Page, ZERO_PAGE};
use memmap2::{Advice, MmapMut};
use stillframe_image::PAGE_SIZE;

/// Pages in one piece: a huge page.
const CHUNK: usize = 512;

/// A piece: memory of its own, or of the heap where there is none.
#[derive(Debug)]
enum Chunk {
    Mapped(MmapMut),
    Heap(Vec<Page>),
}

impl Chunk {
    fn new(pages: usize) -> Self {
        match MmapMut::map_anon(CHUNK * PAGE_SIZE) {
            Ok(memory) if pages == CHUNK => {
                // Without huge pages it is as good, only slower.
                if let Err(error) = memory.advise(Advice::HugePage) {
                    tracing::debug!("no huge pages: {error}");
                }
                Self::Mapped(memory)
            }
            _ => Self::Heap(vec![ZERO_PAGE; pages]),
        }
    }

    fn pages(&self) -> &[Page] {
        match self {
            Self::Mapped(memory) => memory.as_chunks().0,
            Self::Heap(pages) => pages,
        }
    }

    fn pages_mut(&mut self) -> &mut [Page] {
        match self {
            Self::Mapped(memory) => memory.as_chunks_mut().0,
            Self::Heap(pages) => pages,
        }
    }
}

/// Contents by number.
#[derive(Debug, Default)]
pub struct Arena {
    chunks: Vec<Chunk>,
    pages: usize,
}

impl Arena {
    /// Makes room for page `i`, the next, if there is none. `most`: pages that may still come, with it.
    pub fn reach(&mut self, i: u32, most: usize) {
        if (i as usize).is_multiple_of(CHUNK) {
            let pages = CHUNK.min(most);
            self.chunks.push(Chunk::new(pages));
            self.pages += pages;
        }
    }

    /// One of them.
    pub fn page(&self, i: u32) -> &Page {
        &self.chunks[i as usize / CHUNK].pages()[i as usize % CHUNK]
    }

    /// The same, to be changed.
    pub fn page_mut(&mut self, i: u32) -> &mut Page {
        &mut self.chunks[i as usize / CHUNK].pages_mut()[i as usize % CHUNK]
    }

    /// Bytes of memory held.
    pub const fn memory(&self) -> usize {
        self.pages * PAGE_SIZE
    }
}
