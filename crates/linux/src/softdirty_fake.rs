//! A process without a kernel: does what Linux does with soft-dirty bits, as far as it matters here
//! (fs/proc/task_mmu.c, mm/memory.c, mm/mremap.c of Linux 6.1). For tests, of other crates too: who
//! includes it has the names it takes from `super`.

use super::{Entry, Error, PAGE, Result, SmapsEntry, Source};
use std::cell::RefCell;
use std::collections::BTreeMap;
use std::ops::Range;
use std::rc::Rc;

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In memory, ours alone.
    Memory,
    /// In memory, mapped by a forked child as well.
    SharedByFork,
    /// The shared page of zeroes.
    Zeroes,
    /// The page of the file.
    File,
    Swap,
}

#[derive(Clone, Copy, Debug)]
pub struct Pte {
    pub place: Place,
    pub soft: bool,
}

/// A mapping's page: of a file or not, whether the mapping has VM_SOFTDIRTY, and which one it is.
#[derive(Clone, Copy, Debug)]
pub struct Vma {
    pub file: bool,
    pub soft: bool,
    pub generation: u64,
}

/// A fake process of a few pages, by page number.
#[derive(Debug, Default)]
pub struct Fake {
    pub vmas: BTreeMap<u64, Vma>,
    pub ptes: BTreeMap<u64, Pte>,
    pub content: BTreeMap<u64, u64>,
    pub cleared: u32,
    pub fail: bool,
    pub writes: u64,
    pub generation: u64,
    /// Entries read.
    pub asked: u64,
    /// What smaps is to say.
    pub smaps: Vec<SmapsEntry>,
}

/// What a file's page holds.
pub const fn of_file(page: u64) -> u64 {
    1_000_000 + page
}

impl Fake {
    pub fn map(&mut self, pages: Range<u64>, file: bool) {
        self.generation += 1;
        let vma = Vma {
            file,
            soft: true,
            generation: self.generation,
        };
        for page in pages {
            self.unmap(page);
            self.vmas.insert(page, vma);
        }
    }

    pub fn unmap(&mut self, page: u64) {
        self.vmas.remove(&page);
        self.ptes.remove(&page);
        self.content.remove(&page);
    }

    /// What a load sees; loads change no state of ours that matters but by [`Fake::load`].
    pub fn see(&self, page: u64) -> Option<u64> {
        let vma = self.vmas.get(&page)?;
        let plain = if vma.file { of_file(page) } else { 0 };
        Some(self.content.get(&page).copied().unwrap_or(plain))
    }

    pub fn load(&mut self, page: u64) {
        let Some(vma) = self.vmas.get(&page) else {
            return;
        };
        let fresh = Pte {
            place: if vma.file { Place::File } else { Place::Zeroes },
            soft: false,
        };
        let pte = self.ptes.entry(page).or_insert(fresh);
        if pte.place == Place::Swap {
            pte.place = Place::Memory;
        }
    }

    pub fn store(&mut self, page: u64) {
        if self.vmas.contains_key(&page) {
            self.writes += 1;
            self.content.insert(page, self.writes);
            let place = Place::Memory;
            self.ptes.insert(page, Pte { place, soft: true });
        }
    }

    pub fn throw_away(&mut self, page: u64) {
        self.ptes.remove(&page);
        self.content.remove(&page);
    }

    pub fn swap_out(&mut self, page: u64) {
        if let Some(pte) = self.ptes.get_mut(&page)
            && pte.place == Place::Memory
        {
            pte.place = Place::Swap;
        }
    }

    pub fn fork(&mut self) {
        for pte in self.ptes.values_mut() {
            if pte.place == Place::Memory {
                pte.place = Place::SharedByFork;
            }
        }
    }

    pub fn child_ends(&mut self) {
        for pte in self.ptes.values_mut() {
            if pte.place == Place::SharedByFork {
                pte.place = Place::Memory;
            }
        }
    }

    /// mremap: the page tables move, all marked, and so is the new mapping.
    pub fn remap(&mut self, from: u64, to: u64) {
        let Some(vma) = self.vmas.get(&from).copied().filter(|vma| !vma.file) else {
            return;
        };
        self.vmas.remove(&from);
        self.unmap(to);
        self.generation += 1;
        let moved = Vma {
            soft: true,
            generation: self.generation,
            ..vma
        };
        self.vmas.insert(to, moved);
        if let Some(pte) = self.ptes.remove(&from) {
            self.ptes.insert(to, Pte { soft: true, ..pte });
        }
        if let Some(content) = self.content.remove(&from) {
            self.content.insert(to, content);
        }
    }
}

impl Fake {
    /// Does one thing that a process may do to its first 24 pages, as `random` (below its argument)
    /// says.
    pub fn anything(&mut self, random: &mut impl FnMut(u64) -> u64) {
        let page = random(24);
        match random(12) {
            0 => self.map(page..page + 1 + random(4), false),
            1 => self.map(page..page + 1 + random(4), true),
            2 => self.unmap(page),
            3 => self.throw_away(page),
            4 => self.swap_out(page),
            5 => self.fork(),
            6 => self.child_ends(),
            7 => self.remap(page, (page + 1 + random(20)) % 24),
            8 | 9 => self.load(page),
            _ => self.store(page),
        }
    }
}

/// Numbers below what is asked for, the same for the same seed.
pub fn random(seed: u64) -> impl FnMut(u64) -> u64 {
    let mut state = seed;
    move |below| {
        state = state
            .wrapping_mul(6_364_136_223_846_793_005)
            .wrapping_add(1_442_695_040_888_963_407);
        (state >> 33) % below
    }
}

impl Source for Fake {
    fn entries(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
        out.clear();
        self.asked += (range.end - range.start) / PAGE;
        for page in range.start / PAGE..range.end / PAGE {
            let soft = self.vmas.get(&page).is_some_and(|vma| vma.soft);
            let mut bits = u64::from(soft) << 55;
            if let Some(pte) = self.ptes.get(&page) {
                bits |= u64::from(pte.soft) << 55;
                bits |= match pte.place {
                    Place::Memory => 1 << 63 | 1 << 56,
                    Place::SharedByFork | Place::Zeroes => 1 << 63,
                    Place::File => 1 << 63 | 1 << 61,
                    Place::Swap => 1 << 62,
                };
            }
            out.push(Entry(bits));
        }
        Ok(())
    }

    fn clear(&mut self) -> Result<()> {
        if self.fail {
            return Err(Error::ProcessGone(1));
        }
        self.cleared += 1;
        self.vmas.values_mut().for_each(|vma| vma.soft = false);
        self.ptes.values_mut().for_each(|pte| pte.soft = false);
        Ok(())
    }

    fn smaps(&mut self) -> Result<Vec<SmapsEntry>> {
        Ok(self.smaps.clone())
    }
}

/// The fake in several hands: the tracker's and the test's.
#[derive(Clone, Debug, Default)]
pub struct Handle(pub Rc<RefCell<Fake>>);

impl Source for Handle {
    fn entries(&mut self, range: Range<u64>, out: &mut Vec<Entry>) -> Result<()> {
        self.0.borrow_mut().entries(range, out)
    }

    fn clear(&mut self) -> Result<()> {
        self.0.borrow_mut().clear()
    }

    fn smaps(&mut self) -> Result<Vec<SmapsEntry>> {
        self.0.borrow_mut().smaps()
    }
}
