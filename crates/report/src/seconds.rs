//! What happened within single seconds, event by event, for the waveform.
//!
//! All seconds of a short recording are kept. Of a long one those worth a look: with the longest
//! pause, the most written pages, the most skipped ticks, the first and the last, some evenly spread,
//! and the one asked for. Which they are is known from the rows alone, before any account is read, so
//! that nothing has to be held that will not be shown.

use serde::Serialize;
use std::collections::{BTreeMap, BTreeSet};
use stillframe_image::account::{Account, SkipReason, StopKind};
use stillframe_image::{Marks, SpaceId};
use stillframe_store::Row;

/// Nanoseconds in a second.
const SECOND: u64 = 1_000_000_000;
/// Events kept in all, by what the rows promise.
pub const BUDGET: u64 = 120_000;
/// Events kept of one kind in one second.
const PER_SECOND: usize = 20_000;
/// Faults kept in all.
const FAULTS: usize = 200_000;
/// Threads shown in one second.
const LANES: usize = 256;

/// One second.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct Second {
    /// Which, counted from the start of the recording.
    pub second: u64,
    /// Threads seen in it: space and id.
    pub lanes: Vec<(u32, u32)>,
    /// Stops, five numbers each: kind, start, length, pages, checkpoint. Kinds: 0 boundary, 1 pre-copy,
    /// 2 boundary given up, 3 reading state by calls inside the target. Times: microseconds.
    pub stops: Vec<u64>,
    /// Single threads standing still at boundaries, three numbers each: lane, start, length.
    pub stalls: Vec<u64>,
    /// Single faults, two numbers each: lane, time.
    pub faults: Vec<u64>,
    /// Ticks not taken, three numbers each: time, how many, why (0 late, 1 store, 2 not stopped,
    /// 3 budget).
    pub skips: Vec<u64>,
    /// Events left out for lack of room.
    pub dropped: u64,
    #[serde(skip)]
    by_thread: BTreeMap<(u32, u32), u64>,
}

impl Second {
    fn lane(&mut self, space: SpaceId, tid: u32) -> Option<u64> {
        let key = (space.0, tid);
        if let Some(lane) = self.by_thread.get(&key) {
            return Some(*lane);
        }
        if self.lanes.len() >= LANES {
            return None;
        }
        let lane = self.lanes.len() as u64;
        self.lanes.push(key);
        self.by_thread.insert(key, lane);
        Some(lane)
    }

    /// The lane of a thread whose process is not told: that of any process with this thread.
    fn lane_of(&mut self, tid: u32) -> Option<u64> {
        let known = self.by_thread.iter().find(|((_, t), _)| *t == tid);
        match known {
            Some((_, lane)) => Some(*lane),
            None => self.lane(SpaceId(0), tid),
        }
    }
}

fn push<const N: usize>(list: &mut Vec<u64>, dropped: &mut u64, event: [u64; N]) {
    if list.len() < PER_SECOND * N {
        list.extend(event);
    } else {
        *dropped += 1;
    }
}

/// Chooses the seconds whose events are kept, given all rows and the second that the user asked for.
pub fn choose(rows: &[Row], asked: Option<u64>, budget: u64) -> BTreeSet<u64> {
    #[derive(Default)]
    struct Sum {
        events: u64,
        pause: u64,
        dirty: u64,
        skipped: u64,
    }
    let mut sums: BTreeMap<u64, Sum> = BTreeMap::new();
    for row in rows {
        let t = &row.tick;
        let sum = sums.entry(t.at_ns / SECOND).or_default();
        sum.events += 1 + u64::from(t.precopy_stops) + u64::from(t.threads);
        if !t.marks.contains(Marks::FULL) {
            sum.pause = sum.pause.max(t.pause_ns());
            sum.dirty = sum.dirty.saturating_add(t.dirty_pages);
        }
        sum.skipped += u64::from(t.skipped);
    }
    let by = |key: fn(&Sum) -> u64| {
        let mut order: Vec<(u64, u64)> = sums.iter().map(|(s, sum)| (key(sum), *s)).collect();
        order.retain(|(value, _)| *value > 0);
        order.sort_unstable_by_key(|(value, second)| (std::cmp::Reverse(*value), *second));
        order.into_iter().map(|(_, s)| s).collect::<Vec<u64>>()
    };
    let seconds: Vec<u64> = sums.keys().copied().collect();
    let step = seconds.len().div_ceil(24).max(1);
    let mut spread: Vec<u64> = seconds.iter().copied().step_by(step).collect();
    spread.extend(seconds.iter().copied());
    let rankings = [by(|s| s.pause), by(|s| s.dirty), by(|s| s.skipped), spread];
    let mut wanted: Vec<u64> = asked.into_iter().collect();
    wanted.extend(seconds.first());
    wanted.extend(seconds.last());
    for place in 0..seconds.len() * 2 {
        wanted.extend(rankings.iter().filter_map(|order| order.get(place)));
    }
    let mut chosen = BTreeSet::new();
    let mut used = 0u64;
    for second in wanted {
        let Some(sum) = sums.get(&second) else {
            continue;
        };
        if chosen.contains(&second) {
            continue;
        }
        // One second is always kept, whatever it costs: its own limits bound it.
        if used.saturating_add(sum.events) <= budget || chosen.is_empty() {
            used = used.saturating_add(sum.events);
            chosen.insert(second);
        }
    }
    chosen
}

/// Gathers the events of chosen seconds.
#[derive(Clone, Debug, Default)]
pub struct SecondsGatherer {
    seconds: BTreeMap<u64, Second>,
    faults: usize,
}

const fn kind(kind: StopKind) -> u64 {
    match kind {
        StopKind::Boundary => 0,
        StopKind::Precopy => 1,
        StopKind::Conflict => 2,
        StopKind::Completion => 3,
    }
}

const fn reason(reason: SkipReason) -> u64 {
    match reason {
        SkipReason::Late => 0,
        SkipReason::Store => 1,
        SkipReason::NotStopped => 2,
        SkipReason::Budget => 3,
    }
}

/// Microseconds from the beginning of its second.
const fn within(at_ns: u64) -> u64 {
    at_ns % SECOND / 1000
}

const fn micros(ns: u64) -> u64 {
    ns.saturating_add(500) / 1000
}

impl SecondsGatherer {
    /// For these seconds.
    pub fn new(chosen: BTreeSet<u64>) -> Self {
        let seconds = chosen.into_iter().map(|second| {
            let empty = Second {
                second,
                ..Second::default()
            };
            (second, empty)
        });
        Self {
            seconds: seconds.collect(),
            faults: 0,
        }
    }

    fn at(&mut self, at_ns: u64) -> Option<&mut Second> {
        self.seconds.get_mut(&(at_ns / SECOND))
    }

    /// Takes in a checkpoint.
    pub fn add(&mut self, row: &Row, account: &Account) {
        let tick = &row.tick;
        for stop in &account.stops {
            if let Some(s) = self.at(stop.at_ns) {
                let event = [
                    kind(stop.kind),
                    within(stop.at_ns),
                    micros(stop.pause_ns),
                    stop.pages,
                    row.id.0,
                ];
                push(&mut s.stops, &mut s.dropped, event);
            }
        }
        if account.stops.is_empty() {
            // The row alone tells when all threads had stopped, and for how long.
            let began = tick.at_ns.saturating_sub(tick.phases.stop);
            if let Some(s) = self.at(began) {
                let length = micros(tick.pause_ns());
                let event = [0, within(began), length, tick.dirty_pages, row.id.0];
                push(&mut s.stops, &mut s.dropped, event);
            }
        }
        for stall in &account.stalls {
            if let Some(s) = self.at(stall.stopped_ns) {
                let length = micros(stall.resumed_ns.saturating_sub(stall.stopped_ns));
                match s.lane(stall.space, stall.tid) {
                    Some(lane) => {
                        let event = [lane, within(stall.stopped_ns), length];
                        push(&mut s.stalls, &mut s.dropped, event);
                    }
                    None => s.dropped += 1,
                }
            }
        }
        for fault in &account.fault_log {
            let room = self.faults < FAULTS;
            let Some(s) = self.at(fault.at_ns) else {
                continue;
            };
            match s.lane_of(fault.tid) {
                Some(lane) if room => {
                    push(&mut s.faults, &mut s.dropped, [lane, within(fault.at_ns)]);
                    self.faults += 1;
                }
                _ => s.dropped += 1,
            }
        }
        for skip in &account.skips {
            if let Some(s) = self.at(skip.at_ns) {
                let event = [
                    within(skip.at_ns),
                    u64::from(skip.ticks),
                    reason(skip.reason),
                ];
                push(&mut s.skips, &mut s.dropped, event);
            }
        }
    }

    /// The seconds, in order.
    pub fn finish(self) -> Vec<Second> {
        self.seconds.into_values().collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::account::{Fault, StopRecord, ThreadStall};
    use stillframe_image::{CheckpointId, Phases, Tick};

    fn row(n: u64, at_ns: u64, pause: u64) -> Row {
        Row {
            id: CheckpointId(n),
            tick: Tick {
                at_ns,
                threads: 2,
                dirty_pages: 10,
                phases: Phases {
                    stop: pause / 2,
                    copy: pause - pause / 2,
                    ..Phases::default()
                },
                ..Tick::default()
            },
            ..Row::default()
        }
    }

    #[test]
    fn short_recordings_are_kept_whole_and_long_ones_where_it_matters() {
        let rows: Vec<Row> = (0..1000)
            .map(|n| {
                row(
                    n,
                    n * SECOND / 10,
                    if n == 555 { 9_000_000 } else { 100_000 },
                )
            })
            .collect();
        let all = choose(&rows, None, BUDGET);
        assert_eq!(all.len(), 100);
        let some = choose(&rows, Some(71), 30 * 10);
        assert!(some.len() <= 10 && some.len() >= 8, "{some:?}");
        for second in [55, 71, 0, 99] {
            assert!(some.contains(&second), "{second}: {some:?}");
        }
        assert_eq!(choose(&rows, Some(1_000_000), 300).len(), 10);
        assert!(choose(&[], Some(3), 300).is_empty());
        assert_eq!(
            choose(&rows, Some(71), 0).into_iter().collect::<Vec<_>>(),
            [71]
        );
    }

    #[test]
    fn events_lie_in_their_second() {
        let rows = [row(0, 3 * SECOND + 5_000_000, 200_000)];
        let mut g = SecondsGatherer::new(BTreeSet::from([2, 3]));
        let account = Account {
            stops: vec![
                StopRecord {
                    kind: StopKind::Precopy,
                    at_ns: 3 * SECOND - 1_000_000,
                    pause_ns: 80_400,
                    pages: 4,
                },
                StopRecord {
                    kind: StopKind::Boundary,
                    at_ns: 3 * SECOND + 4_900_000,
                    pause_ns: 200_000,
                    pages: 6,
                },
            ],
            stalls: vec![ThreadStall {
                space: SpaceId(1),
                tid: 9,
                stopped_ns: 3 * SECOND + 4_950_000,
                resumed_ns: 3 * SECOND + 5_100_000,
            }],
            fault_log: vec![Fault {
                tid: 9,
                at_ns: 3 * SECOND,
                page: 1,
            }],
            ..Account::default()
        };
        g.add(&rows[0], &account);
        let seconds = g.finish();
        assert_eq!(seconds[0].stops, [1, 999_000, 80, 4, 0]);
        assert_eq!(seconds[1].stops, [0, 4_900, 200, 6, 0]);
        assert_eq!(seconds[1].lanes, [(1, 9)]);
        assert_eq!(seconds[1].stalls, [0, 4_950, 150]);
        assert_eq!(seconds[1].faults, [0, 0]);
    }

    #[test]
    fn without_an_account_the_row_tells_the_stop() {
        let mut g = SecondsGatherer::new(BTreeSet::from([3]));
        g.add(
            &row(7, 3 * SECOND + 5_000_000, 200_000),
            &Account::default(),
        );
        assert_eq!(g.finish()[0].stops, [0, 4_900, 200, 10, 7]);
    }
}
