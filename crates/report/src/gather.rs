//! Takes in a recording checkpoint by checkpoint, and makes figures and series of it.

use crate::bookmarks::Bookmark;
use crate::cost::FaultCost;
use crate::dist::{Distribution, histogram};
use crate::figures::{
    After, Checkpoints, Figures, Hot, Overhead, Pages, Pause, Phase, Precopy, Rate, Stall, Subject,
    ThreadStall, Tracking,
};
use crate::heat::{HeatGatherer, HeatMap};
use crate::names::Names;
use crate::seconds::{self, Second, SecondsGatherer};
use crate::series::{PHASES, Series, SeriesGatherer, Span, phases, skipped};
use std::collections::{BTreeMap, BTreeSet};
use stillframe_image::account::{Account, StopKind};
use stillframe_image::{Marks, SpaceId};
use stillframe_store::Row;

/// Threads whose stalls are held.
const THREADS: usize = 4096;
/// Threads listed.
const LISTED: usize = 64;
/// Longest histogram of repeats.
const REPEATS: usize = 64;
/// Cells listed.
const CELLS: usize = 16;

/// What the user asked.
#[derive(Clone, Debug, Default)]
pub struct Options {
    /// Cost of a fault; without it, what was measured for the tracker.
    pub fault_cost_ns: Option<u64>,
    /// Time within a second whose events are to be kept, nanoseconds since the start.
    pub second_ns: Option<u64>,
}

/// Everything that was made of a recording.
#[derive(Clone, Debug)]
pub struct Analysis {
    /// The figures.
    pub figures: Figures,
    /// Over time.
    pub series: Series,
    /// Where.
    pub heat: HeatMap,
    /// Event by event.
    pub seconds: Vec<Second>,
    /// The second asked for.
    pub second: Option<u64>,
    /// Names of the threads that appear in `seconds`: id and name.
    pub threads: BTreeMap<u32, String>,
    /// Names of the processes that appear in `seconds` and `heat`.
    pub processes: BTreeMap<u32, String>,
    /// Bookmarks and tags, in order of time.
    pub bookmarks: Vec<Bookmark>,
}

#[derive(Clone, Debug, Default)]
struct Stalled {
    stops: u64,
    total: u64,
    max: u64,
    first: u64,
    last: u64,
}

/// Gathers an [`Analysis`].
#[derive(Clone, Debug)]
pub struct Gatherer {
    options: Options,
    hz: f64,
    span: Span,
    series: SeriesGatherer,
    heat: HeatGatherer,
    seconds: SecondsGatherer,
    pauses: Vec<u64>,
    full: Vec<u64>,
    precopy_pauses: Vec<u64>,
    by_phase: [Vec<u64>; 7],
    dirty: Vec<u64>,
    stalled: BTreeMap<(SpaceId, u32), Stalled>,
    stalled_left_out: BTreeSet<u32>,
    repeats: Vec<u64>,
    checkpoints: Checkpoints,
    skipped: [u64; 5],
    stall: Stall,
    faults: u64,
    logged: u64,
    pages: Pages,
    steady: (u64, u64),
    precopy: Precopy,
    after: After,
    hot: Hot,
}

fn add(sum: &mut u64, more: u64) {
    *sum = sum.saturating_add(more);
}

fn ratio(a: u64, b: u64) -> Option<f64> {
    (b > 0).then(|| a as f64 / b as f64)
}

impl Gatherer {
    /// For these rows, which must be given to [`Gatherer::add`] in the same order. They are needed
    /// beforehand to divide time, and to choose the seconds whose events are kept.
    pub fn new(rows: &[Row], requested_hz: f64, options: Options) -> Self {
        let span = Span::of(rows);
        let second = options.second_ns.map(|ns| ns / 1_000_000_000);
        let chosen = seconds::choose(rows, second, seconds::BUDGET);
        let partial = rows.iter().filter(|r| !r.tick.marks.contains(Marks::FULL));
        Self {
            hz: requested_hz,
            span,
            series: SeriesGatherer::new(span, rows.len(), requested_hz),
            heat: HeatGatherer::new(partial.count()),
            seconds: SecondsGatherer::new(chosen),
            options,
            pauses: Vec::new(),
            full: Vec::new(),
            precopy_pauses: Vec::new(),
            by_phase: Default::default(),
            dirty: Vec::new(),
            stalled: BTreeMap::new(),
            stalled_left_out: BTreeSet::new(),
            repeats: Vec::new(),
            checkpoints: Checkpoints {
                runtime_ns: span.length_ns(),
                ..Checkpoints::default()
            },
            skipped: [0; 5],
            stall: Stall::default(),
            faults: 0,
            logged: 0,
            pages: Pages::default(),
            steady: (0, 0),
            precopy: Precopy::default(),
            after: After::default(),
            hot: Hot::default(),
        }
    }

    /// Says that the account of the next checkpoint cannot be read.
    pub fn unreadable(&mut self) {
        self.checkpoints.unreadable += 1;
    }

    /// Takes in a checkpoint.
    pub fn add(&mut self, row: &Row, account: &Account) {
        self.series.add(row, account);
        self.seconds.add(row, account);
        let t = &row.tick;
        let full = t.marks.contains(Marks::FULL);
        let c = &mut self.checkpoints;
        c.count += 1;
        c.full += u64::from(full);
        c.accounts += u64::from(*account != Account::default());
        c.first = c.first.or(Some(row.id.0));
        c.last = Some(row.id.0);
        c.threads_max = c.threads_max.max(t.threads);
        c.processes_max = c.processes_max.max(t.processes);
        let first = c.count == 1;
        for (sum, more) in self.skipped.iter_mut().zip(skipped(row, account)) {
            add(sum, more);
        }
        self.add_pause(row, account, full, first);
        add(&mut self.pages.dirty, t.dirty_pages);
        add(&mut self.pages.untracked, t.untracked_pages);
        add(&mut self.pages.raw_bytes, row.raw_bytes);
        add(&mut self.pages.stored_bytes, row.stored_bytes);
        for stall in &account.stalls {
            self.add_stall(stall);
        }
        if !full {
            self.add_steady(row, account);
        }
        add(&mut self.logged, account.faults.logged);
        let a = &mut self.after;
        add(&mut a.copied, account.after.copied);
        add(&mut a.conflicts, account.after.conflicts);
        add(&mut a.pre_images, account.after.pre_images);
        add(&mut a.repairs, u64::from(account.after.repairs));
        let h = &mut self.hot;
        add(&mut h.copied, account.hot.copied);
        add(&mut h.unprotected, account.hot.unprotected);
        add(&mut h.hits, account.hot.hits);
        add(&mut h.misses, account.hot.misses);
    }

    fn add_pause(&mut self, row: &Row, account: &Account, full: bool, first: bool) {
        let t = &row.tick;
        let pause = t.pause_ns();
        add(&mut self.stall.boundary_ns, pause);
        let mut other_ns = 0;
        if first {
            self.stall.first_ns = pause.saturating_add(t.precopy_pause_ns);
        }
        for stop in &account.stops {
            if matches!(stop.kind, StopKind::Conflict | StopKind::Completion) {
                add(&mut other_ns, stop.pause_ns);
            }
            self.after.given_up += u64::from(stop.kind == StopKind::Conflict);
        }
        // The row has all stops but the boundary in one sum.
        let other_ns = other_ns.min(t.precopy_pause_ns);
        add(&mut self.stall.other_ns, other_ns);
        add(&mut self.stall.precopy_ns, t.precopy_pause_ns - other_ns);
        if full {
            self.full.push(pause);
            return;
        }
        self.pauses.push(pause);
        for (list, ns) in self.by_phase.iter_mut().zip(phases(&t.phases)) {
            list.push(ns);
        }
        if t.precopy_stops > 0 {
            self.precopy_pauses.push(t.precopy_pause_ns);
        }
    }

    /// What is counted without full checkpoints, which have everything.
    fn add_steady(&mut self, row: &Row, account: &Account) {
        let t = &row.tick;
        self.heat.add(t.at_ns, &account.heat);
        self.dirty.push(t.dirty_pages);
        add(&mut self.steady.0, row.raw_bytes);
        add(&mut self.steady.1, row.stored_bytes);
        add(&mut self.faults, account.faults.write);
        let p = &mut self.precopy;
        add(&mut p.stops, u64::from(t.precopy_stops));
        add(&mut p.pause_ns, t.precopy_pause_ns);
        add(&mut p.kept, t.precopied_pages);
        for stop in &account.stops {
            if stop.kind == StopKind::Precopy {
                add(&mut p.found, stop.pages);
            }
        }
        for (n, pages) in account.repeats.iter().enumerate() {
            let n = n.min(REPEATS - 1);
            if self.repeats.len() <= n {
                self.repeats.resize(n + 1, 0);
            }
            if let Some(sum) = self.repeats.get_mut(n) {
                add(sum, u64::from(*pages));
            }
        }
    }

    fn add_stall(&mut self, stall: &stillframe_image::account::ThreadStall) {
        let key = (stall.space, stall.tid);
        if !self.stalled.contains_key(&key) && self.stalled.len() >= THREADS {
            if self.stalled_left_out.len() < THREADS {
                self.stalled_left_out.insert(stall.tid);
            }
            return;
        }
        let length = stall.resumed_ns.saturating_sub(stall.stopped_ns);
        let s = self.stalled.entry(key).or_default();
        if s.stops == 0 {
            s.first = stall.stopped_ns;
        }
        s.stops += 1;
        s.last = s.last.max(stall.resumed_ns);
        s.max = s.max.max(length);
        add(&mut s.total, length);
    }

    fn threads(&mut self, names: &Names) {
        let left_out = self.stalled_left_out.len() as u64;
        let mut all: Vec<ThreadStall> = std::mem::take(&mut self.stalled)
            .into_iter()
            .map(|((space, tid), s)| ThreadStall {
                space: space.0,
                tid,
                name: names.of_thread(tid).to_owned(),
                process: names.of_process(space),
                stops: s.stops,
                total_ns: s.total,
                max_ns: s.max,
                share: ratio(s.total, s.last.saturating_sub(s.first)).unwrap_or(0.0),
            })
            .collect();
        all.sort_by_key(|t| (std::cmp::Reverse(t.total_ns), t.space, t.tid));
        self.stall.threads_left_out = left_out + all.len().saturating_sub(LISTED) as u64;
        all.truncate(LISTED);
        self.stall.threads = all;
    }

    fn tracking(&self, tracker: &str) -> Tracking {
        let cost = match self.options.fault_cost_ns {
            Some(ns) => FaultCost::given(ns),
            None => FaultCost::of_tracker(tracker),
        };
        let counted = self.checkpoints.accounts > 0;
        let found = self.dirty.iter().copied().fold(0, u64::saturating_add);
        let faults = if counted { self.faults } else { found };
        let total_ns = faults.saturating_mul(cost.ns);
        let runtime = self.span.length_ns();
        Tracking {
            faults,
            counted,
            logged: self.logged,
            cost,
            total_ns,
            share: ratio(total_ns, runtime).unwrap_or(0.0),
            per_second: ratio(faults, runtime).map(|per_ns| per_ns * 1e9),
            per_checkpoint: ratio(faults, self.dirty.len() as u64),
        }
    }

    fn overhead(&self, tracking: &Tracking) -> Overhead {
        let runtime = self.span.length_ns();
        let count = self.checkpoints.count.saturating_sub(1);
        // The run time begins when the threads stood for the first checkpoint, and so holds what
        // came after that: nearly all of that pause, which is of setting up and not of recording.
        let stalled = self.stall.total_ns.saturating_sub(self.stall.first_ns);
        let total_ns = stalled.saturating_add(tracking.total_ns);
        let per = |ns: u64| ratio(ns, count);
        Overhead {
            total_ns,
            share: ratio(total_ns, runtime).unwrap_or(0.0),
            slowdown: (total_ns < runtime).then(|| runtime as f64 / (runtime - total_ns) as f64),
            stall_per_checkpoint_ns: per(stalled),
            tracking_per_checkpoint_ns: per(tracking.total_ns),
        }
    }

    /// The result.
    pub fn finish(mut self, subject: Subject, names: &Names) -> Analysis {
        self.threads(names);
        let runtime = self.span.length_ns();
        let s = &mut self.stall;
        s.total_ns = s
            .boundary_ns
            .saturating_add(s.precopy_ns)
            .saturating_add(s.other_ns);
        s.share = ratio(s.total_ns.saturating_sub(s.first_ns), runtime).unwrap_or(0.0);
        let tracking = self.tracking(&subject.tracker);
        let overhead = self.overhead(&tracking);
        // A recording of one full checkpoint has only its pause to show.
        if self.pauses.is_empty() {
            self.pauses.clone_from(&self.full);
        }
        let histogram = histogram(&self.pauses);
        let boundary = Distribution::of(&mut self.pauses);
        let by_phase = PHASES.iter().zip(&mut self.by_phase).map(|(name, list)| {
            let ns = Distribution::of(list);
            let share = ratio(ns.total, boundary.total).unwrap_or(0.0);
            Phase { name, ns, share }
        });
        let pause = Pause {
            phases: by_phase.collect(),
            boundary,
            histogram,
            full: Distribution::of(&mut self.full),
            precopy: Distribution::of(&mut self.precopy_pauses),
        };
        let told = self.skipped.iter().copied().fold(0, u64::saturating_add);
        let skipped = subject.skipped.unwrap_or(told);
        // Where the recorder's own count at the end differs from the rows' it is the one to explain.
        let [late, store, not_stopped, budget, _] = self.skipped;
        let explained = late
            .saturating_add(store)
            .saturating_add(not_stopped)
            .saturating_add(budget);
        let rate = Rate {
            asked_hz: self.hz,
            reached_hz: ratio(self.checkpoints.count.saturating_sub(1), runtime)
                .map(|per_ns| per_ns * 1e9),
            skipped,
            late,
            store,
            not_stopped,
            budget,
            unexplained: skipped.saturating_sub(explained),
        };
        let dirty = self.dirty.iter().copied().fold(0, u64::saturating_add);
        let p = &mut self.precopy;
        p.efficiency = ratio(p.kept, p.found);
        p.share = ratio(p.kept, dirty).filter(|_| p.stops > 0);
        p.ns_per_page = ratio(p.pause_ns, p.kept);
        self.pages.per_checkpoint = Distribution::of(&mut self.dirty);
        self.pages.ratio = ratio(self.pages.raw_bytes, self.pages.stored_bytes);
        self.pages.ratio_steady = ratio(self.steady.0, self.steady.1);
        self.after.conflict_rate = ratio(self.after.conflicts, self.after.copied);
        let guessed = self.hot.hits.saturating_add(self.hot.misses);
        self.hot.hit_rate = ratio(self.hot.hits, guessed);
        let cells = self.heat.hottest(CELLS, names);
        let heat = self.heat.finish(self.span.start_ns, names);
        let seconds = self.seconds.finish();
        let lanes = seconds.iter().flat_map(|s| &s.lanes);
        let threads = lanes.clone().map(|(_, tid)| *tid);
        let spaces = lanes
            .map(|(space, _)| *space)
            .chain(heat.rows.iter().map(|r| r.space));
        Analysis {
            threads: threads
                .map(|tid| (tid, names.of_thread(tid).to_owned()))
                .collect(),
            processes: spaces.map(|s| (s, names.of_process(SpaceId(s)))).collect(),
            second: self.options.second_ns.map(|ns| ns / 1_000_000_000),
            bookmarks: Vec::new(),
            figures: Figures {
                subject,
                checkpoints: self.checkpoints,
                rate,
                pause,
                stall: self.stall,
                tracking,
                overhead,
                pages: self.pages,
                precopy: self.precopy,
                after: self.after,
                hot: self.hot,
                repeats: self.repeats,
                cells,
            },
            series: self.series.finish(),
            heat,
            seconds,
        }
    }
}
