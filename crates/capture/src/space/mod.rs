//! The target's memory as the recorder knows it, and the tools to look at it. What concerns copies
//! made while the target runs is in `after`.

mod after;

pub use after::Conflicts;

use crate::chunks::Chunk;
use crate::hot::HotPages;
use crate::layout::Layout;
use crate::objects::Objects;
use crate::options::Options;
use crate::pipeline::{Batch, Pipeline};
use crate::plan::{Facts, Plan};
use crate::populated::Populated;
use crate::ranges::{Pieces, append, divide, join};
use crate::speculation::{Costs, Policy};
use crate::tracker::{Found, Tracker};
use std::ops::Range;
use stillframe_image::account::{Fault, Hot};
use stillframe_image::{
    AddressSpace, CheckpointId, Coverage, Gap, Mapping, PAGE_SIZE, PageNumber, SpaceId,
};
use stillframe_linux::Result;
use stillframe_linux::copy::{Copier, PageArena};
use stillframe_linux::pagemap::Scanner;
use stillframe_linux::proc::maps::{Maps, MapsChange, MapsEntry};
use stillframe_linux::proc::status::Status;

/// One address space under tracking.
#[derive(Debug)]
pub struct Space {
    id: SpaceId,
    pid: u32,
    maps: Maps,
    tracker: Box<dyn Tracker>,
    copier: Copier,
    layout: Layout,
    populated: Populated,
    objects: Objects,
    found: Found,
    /// Of what was found and what is hot: to be copied while the target stands still.
    now: Vec<Range<u64>>,
    /// The rest: to be copied once it runs again.
    later: Vec<Range<u64>>,
    hot: HotPages,
    written: Vec<Range<u64>>,
    plan: Plan,
    refused: Vec<(Range<u64>, &'static str)>,
    shared_limit: u64,
    /// Whether the layout was ever read.
    known: bool,
    /// Written pages whose early copy failed.
    carried: Vec<Range<u64>>,
}

impl Space {
    /// Over the address space that process `pid` has now. `id`: its number in the recording.
    ///
    /// # Errors
    /// If the process is gone or may not be looked at.
    pub fn new(
        id: SpaceId,
        pid: u32,
        tracker: Box<dyn Tracker>,
        policy: Box<dyn Policy>,
        options: &Options,
    ) -> Result<Self> {
        let layout = Layout::new(tracker.grows_with_its_mapping());
        Ok(Self {
            id,
            pid,
            maps: Maps::open(pid)?,
            tracker,
            copier: Copier::open(pid)?,
            layout,
            populated: Populated::default(),
            objects: Objects::new(pid, options.objects),
            found: Found::default(),
            now: Vec::new(),
            later: Vec::new(),
            hot: HotPages::new(policy),
            written: Vec::new(),
            plan: Plan::default(),
            refused: Vec::new(),
            shared_limit: options.shared_limit,
            known: false,
            carried: Vec::new(),
        })
    }

    /// Its number in the recording.
    pub const fn id(&self) -> SpaceId {
        self.id
    }

    /// From now on the process is looked at through its thread `tid`: /proc shows nothing of a
    /// process through a main thread that has ended.
    ///
    /// # Errors
    /// If that thread is gone, too.
    pub fn look_through(&mut self, tid: u32) -> Result<()> {
        self.pid = tid;
        self.copier = Copier::open(tid)?;
        Ok(())
    }

    /// Reads the mappings, and registers what is new. The target must be stopped. `now` is the
    /// checkpoint being made.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn refresh_layout(&mut self, now: CheckpointId, pipeline: &Pipeline) -> Result<()> {
        if self.known && !self.tracker.layout_may_differ() {
            return Ok(());
        }
        let changed = match self.maps.refresh()? {
            MapsChange::Same => false,
            MapsChange::Changed => true,
            MapsChange::Gone => return Err(stillframe_linux::Error::ProcessGone(self.pid)),
        };
        if changed || !self.known {
            self.known = true;
            let mappings = self.maps.entries().iter().map(MapsEntry::mapping).collect();
            let gone = self.layout.reconcile(mappings, now, self.shared_limit);
            self.forget(gone, pipeline);
            self.objects
                .identify_new(self.maps.entries(), &mut self.layout, pipeline);
            self.refused.retain(|(range, _)| {
                self.layout
                    .mapping_at(range.start)
                    .is_some_and(|m| m.end >= range.end)
            });
        }
        let refused = self.tracker.register_pending(&mut self.layout)?;
        self.refused.extend(refused);
        Ok(())
    }

    /// The memory at these addresses is no longer what it was.
    fn forget(&mut self, gone: Vec<Range<u64>>, pipeline: &Pipeline) {
        for range in &gone {
            self.populated.clear_range(range.clone());
            self.hot.forget(range);
        }
        pipeline.discard(self.id, gone);
    }

    /// Finds and protects what was written. The target must be stopped.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn find(&mut self, now: CheckpointId, pipeline: &Pipeline) -> Result<()> {
        // Protected, and then lost to an error: the tracker will not find it again.
        self.carried.append(&mut self.found.dirty);
        self.tracker.find(
            &mut self.layout,
            self.hot.unprotected(),
            now,
            &mut self.found,
        )?;
        self.tracker.layout_seen();
        self.hot.look(&self.found.dirty);
        let renewed = std::mem::take(&mut self.found.renewed);
        self.forget(renewed, pipeline);
        Ok(())
    }

    /// Pages found written, hot ones that were not looked at left out.
    pub fn dirty(&mut self) -> &[Range<u64>] {
        if !self.carried.is_empty() {
            self.found.dirty.append(&mut self.carried);
            join(&mut self.found.dirty);
        }
        &self.found.dirty
    }

    /// Decides which pages are copied while the target stands still: all, or the hot ones only.
    /// Unprotected pages, which are found written where their memory is new, are not among either:
    /// they are copied at the boundary in any case.
    pub fn divide(&mut self, all: bool) {
        self.dirty();
        let hot = self.hot.unprotected();
        if !hot.is_empty() {
            self.written.clear();
            for range in &self.found.dirty {
                self.written.extend(Pieces::outside(range.clone(), hot));
            }
            std::mem::swap(&mut self.found.dirty, &mut self.written);
        }
        self.now.clear();
        self.later.clear();
        if all {
            self.now.extend_from_slice(&self.found.dirty);
        } else {
            divide(
                &self.found.dirty,
                self.hot.protected(),
                &mut self.now,
                &mut self.later,
            );
        }
    }

    /// Decides what of the written pages must be copied while the target stands still. Returns
    /// their number.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn plan_now(&mut self) -> Result<u64> {
        self.plan.clear();
        let now = take(&mut self.now);
        self.plan_hot();
        let planned = self.plan(|plan, facts, populated, scanner| {
            plan.add_dirty(&now, facts, populated, scanner)
        });
        self.now = now;
        planned.map(|()| self.plan.pages())
    }

    fn plan_hot(&mut self) {
        let hot = self.hot.unprotected();
        self.plan.add_hot(hot, self.layout.mappings());
    }

    /// Decides what of the other written pages must be copied. The target may run:
    /// [`Space::settle_conflicts`] tells which answers were right. Returns the number of pages.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn plan_later(&mut self) -> Result<u64> {
        self.plan.clear();
        let later = take(&mut self.later);
        let planned = self.plan(|plan, facts, populated, scanner| {
            plan.add_dirty(&later, facts, populated, scanner)
        });
        self.later = later;
        planned.map(|()| self.plan.pages())
    }

    /// Before the target is stopped.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn prepare(&mut self) -> Result<()> {
        self.tracker.prepare()
    }

    /// We have written to the target's memory ourselves.
    pub fn touched(&mut self) {
        self.tracker.touched();
    }

    /// Faults that the tracker saw; see [`Tracker::logged`].
    pub fn logged(&mut self, faults: &mut Vec<Fault>, room: usize) -> u64 {
        self.tracker.logged(faults, room)
    }

    /// Adds the memory that is copied at every boundary. Returns its pages.
    ///
    /// # Errors
    /// If the kernel fails.
    pub fn plan_untracked(&mut self) -> Result<u64> {
        self.plan(Plan::add_untracked)
    }

    fn plan<R>(
        &mut self,
        add: impl FnOnce(&mut Plan, &mut Facts<'_>, &mut Populated, &mut Scanner) -> R,
    ) -> R {
        let mut swapping = Swapping {
            pid: self.pid,
            known: None,
        };
        let objects = &self.objects;
        let mut facts = Facts {
            layout: &self.layout,
            swapping: &mut || swapping.any(),
            by_value: &|mapping| objects.by_value(mapping),
            content: &|mapping| objects.content(mapping),
            look: self.tracker.look_before_copying(),
        };
        add(
            &mut self.plan,
            &mut facts,
            &mut self.populated,
            self.tracker.scanner(),
        )
    }

    /// What was found is in the store's hands. Until this is said it is found again.
    pub fn settle(&mut self) {
        self.found.dirty.clear();
    }

    /// The same before a boundary: the hot pages, which are likely to be written again, were not
    /// copied. They are protected now and left to the boundary all the same.
    pub fn settle_early(&mut self) {
        self.found.dirty.clear();
        self.carried.append(&mut self.now);
    }

    /// What was decided, to be given back by [`Space::give_plan`] for its buffers.
    pub fn take_plan(&mut self) -> Plan {
        let zeros = std::mem::take(&mut self.plan.zeros);
        let plan = std::mem::take(&mut self.plan);
        self.plan.zeros = zeros;
        plan
    }

    /// Takes back a plan that was carried out.
    pub fn give_plan(&mut self, mut plan: Plan) {
        plan.zeros = std::mem::take(&mut self.plan.zeros);
        self.plan = plan;
    }

    /// Pages that had content and have none now.
    pub fn take_zeros(&mut self) -> Vec<PageNumber> {
        std::mem::take(&mut self.plan.zeros)
    }

    /// Adds copies of a chunk of the plan to a batch that has room for them. `forced`: of its
    /// pages without PROT_READ.
    ///
    /// # Errors
    /// If the target is gone. Single pages that cannot be read are marked in the batch.
    pub fn copy(&mut self, chunk: &Chunk, forced: bool, batch: &mut Batch) -> Result<()> {
        if forced {
            self.copier.copy_forced(&chunk.ranges, &mut batch.arena)?;
        } else {
            self.copier.copy(&chunk.ranges, &mut batch.arena)?;
        }
        let first = batch.pages.len();
        batch.pages.extend(chunk.pages().map(Some));
        for address in self.copier.unreadable() {
            let page = PageNumber::of(*address);
            if let Some(slot) = batch.pages[first..].iter_mut().find(|p| **p == Some(page)) {
                *slot = None;
            }
        }
        Ok(())
    }

    /// A chunk was copied while the target ran.
    pub fn copied_running(&mut self, chunk: &Chunk) {
        self.tracker.copied(&chunk.ranges);
    }

    /// Pages that were planned and not copied: to be found again at the boundary.
    pub fn carry(&mut self, chunk: &Chunk) {
        self.carried.extend_from_slice(&chunk.ranges);
    }

    /// The pages of the last copy that could not be read: to be found again at the boundary.
    /// Returns their number.
    pub fn carry_unreadable(&mut self) -> u64 {
        for address in self.copier.unreadable() {
            append(&mut self.carried, *address..*address + PAGE_SIZE as u64);
        }
        self.copier.unreadable().len() as u64
    }

    /// The pages of the last copy that could not be read have no content: zero if they had any.
    pub fn drop_unreadable(&mut self) {
        for address in self.copier.unreadable() {
            let range = *address..*address + PAGE_SIZE as u64;
            self.hot.forget(&range);
            self.populated.drain_range(range, &mut self.plan.zeros);
        }
    }

    /// Notes that the pages of a batch have content in the recording.
    pub fn populate(&mut self, batch: &Batch) {
        for page in batch.pages.iter().flatten() {
            self.populated.insert(*page);
        }
    }

    /// Takes out of a batch copied in a stop what is the same as when it was last handed over.
    pub fn thin_out(&mut self, batch: &mut Batch) {
        self.hot.compare(batch);
    }

    /// A checkpoint was made: chooses the hot pages for the next, and gives the account of those
    /// of this one.
    pub fn conclude(&mut self, costs: &Costs) -> Hot {
        self.hot.conclude(costs)
    }

    /// Reads all memory by another way, for `--paranoid`. The target must be stopped.
    ///
    /// # Errors
    /// If the target is gone.
    pub fn witness(&mut self, arena: PageArena) -> Result<crate::paranoid::Witness> {
        let mut swapping = Swapping {
            pid: self.pid,
            known: None,
        };
        crate::witness::take(
            self.id,
            self.layout.mappings(),
            self.tracker.scanner(),
            &mut self.copier,
            &mut || swapping.any(),
            arena,
        )
    }

    /// The mappings, as last read.
    pub fn mappings(&self) -> &[Mapping] {
        self.layout.mappings()
    }

    /// As a checkpoint holds it.
    pub fn image(&self) -> AddressSpace {
        self.layout.image()
    }

    /// What of the memory is not captured, or only at a price worth knowing.
    pub fn gaps(&self, gaps: &mut Vec<Gap>) {
        for mapping in self.layout.mappings() {
            if let Coverage::Omitted(why) = &mapping.coverage {
                gaps.push(Gap {
                    subject: subject(mapping),
                    reason: format!("not captured: {why}"),
                });
            }
        }
        for (range, why) in &self.refused {
            if let Some(mapping) = self.layout.mapping_at(range.start) {
                gaps.push(Gap {
                    subject: subject(mapping),
                    reason: format!("copied whole at every boundary: {why}"),
                });
            }
        }
        self.objects.gaps(gaps);
    }
}

fn take<T: Default>(value: &mut T) -> T {
    std::mem::take(value)
}

fn subject(mapping: &Mapping) -> String {
    let name = String::from_utf8_lossy(&mapping.name);
    let gap = if name.is_empty() { "" } else { " " };
    format!("mapping {:x}-{:x}{gap}{name}", mapping.start, mapping.end)
}

/// Whether the target has pages in swap, asked at most once. Protecting leaves markers that look
/// like swap entries; without any swap in use they are all markers.
struct Swapping {
    pid: u32,
    known: Option<bool>,
}

impl Swapping {
    fn any(&mut self) -> bool {
        *self
            .known
            .get_or_insert_with(|| Status::read(self.pid).map_or(true, |s| s.swapped_kb > 0))
    }
}
