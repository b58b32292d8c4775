//! The event account of the interval that ends with a moment.

use crate::units;
use serde::Serialize;
use std::io::{self, Write};
use stillframe_image::account::{HEAT_PAGES, Heat, ThreadStall};
use stillframe_image::{Account, CheckpointId, PAGE_SIZE};
use stillframe_store::{Error, Recording};

/// Entries of a list printed; all are in the JSON.
const SHOWN: usize = 20;

/// The account as JSON: the unit is the end of every name.
#[derive(Serialize)]
pub(super) struct View {
    checkpoint: u64,
    at_ns: Option<u64>,
    hot_copied_pages: u64,
    hot_unprotected_pages: u64,
    hot_hit_pages: u64,
    hot_missed_pages: u64,
    after_copied_pages: u64,
    after_conflict_pages: u64,
    after_pre_image_pages: u64,
    after_repair_stops: u32,
    write_faults: u64,
    logged_faults: u64,
    stops: Vec<StopView>,
    stalls: Vec<StallView>,
    skips: Vec<SkipView>,
    heat: Vec<HeatView>,
    /// Pages found written in one look, in two, and so on.
    repeated_pages: Vec<u32>,
    dirty: Vec<DirtyView>,
    faults: Vec<FaultView>,
    faults_dropped: u64,
}

#[derive(Serialize)]
struct StopView {
    kind: &'static str,
    at_ns: u64,
    pause_ns: u64,
    written_pages: u64,
}

#[derive(Serialize)]
struct StallView {
    process: u32,
    tid: u32,
    stopped_ns: u64,
    resumed_ns: u64,
    stall_ns: u64,
}

#[derive(Serialize)]
struct SkipView {
    at_ns: u64,
    ticks: u32,
    reason: &'static str,
}

#[derive(Serialize)]
struct HeatView {
    process: u32,
    start: String,
    written_pages: u32,
}

#[derive(Serialize)]
struct DirtyView {
    process: u32,
    start: String,
    pages: u64,
}

#[derive(Serialize)]
struct FaultView {
    tid: u32,
    at_ns: u64,
    page: String,
}

/// Address of a page; hostile numbers wrap.
fn address(page: u64) -> u64 {
    page.wrapping_mul(PAGE_SIZE as u64)
}

fn cell(heat: &Heat) -> u64 {
    address(heat.cell.wrapping_mul(HEAT_PAGES))
}

const fn stalled(stall: &ThreadStall) -> u64 {
    stall.resumed_ns.saturating_sub(stall.stopped_ns)
}

/// The account of a checkpoint.
///
/// # Errors
/// If it is damaged.
pub(super) fn view(recording: &Recording, id: CheckpointId) -> Result<View, Error> {
    let account = recording.account(id)?;
    let hex = |value: u64| format!("{value:#x}");
    let Account {
        hot,
        after,
        faults,
        stops,
        stalls,
        skips,
        heat,
        repeats,
        dirty,
        fault_log,
        faults_dropped,
    } = account;
    Ok(View {
        checkpoint: id.0,
        at_ns: recording.row(id).map(|row| row.tick.at_ns),
        hot_copied_pages: hot.copied,
        hot_unprotected_pages: hot.unprotected,
        hot_hit_pages: hot.hits,
        hot_missed_pages: hot.misses,
        after_copied_pages: after.copied,
        after_conflict_pages: after.conflicts,
        after_pre_image_pages: after.pre_images,
        after_repair_stops: after.repairs,
        write_faults: faults.write,
        logged_faults: faults.logged,
        stops: stops
            .iter()
            .map(|s| StopView {
                kind: s.kind.name(),
                at_ns: s.at_ns,
                pause_ns: s.pause_ns,
                written_pages: s.pages,
            })
            .collect(),
        stalls: stalls
            .iter()
            .map(|s| StallView {
                process: s.space.0,
                tid: s.tid,
                stopped_ns: s.stopped_ns,
                resumed_ns: s.resumed_ns,
                stall_ns: stalled(s),
            })
            .collect(),
        skips: skips
            .iter()
            .map(|s| SkipView {
                at_ns: s.at_ns,
                ticks: s.ticks,
                reason: s.reason.name(),
            })
            .collect(),
        heat: heat
            .iter()
            .map(|h| HeatView {
                process: h.space.0,
                start: hex(cell(h)),
                written_pages: h.pages,
            })
            .collect(),
        repeated_pages: repeats,
        dirty: dirty
            .iter()
            .map(|run| DirtyView {
                process: run.space.0,
                start: hex(address(run.first)),
                pages: run.pages,
            })
            .collect(),
        faults: fault_log
            .iter()
            .map(|f| FaultView {
                tid: f.tid,
                at_ns: f.at_ns,
                page: hex(address(f.page)),
            })
            .collect(),
        faults_dropped,
    })
}

/// Prints it for people.
pub(super) fn print(out: &mut impl Write, account: &Account) -> io::Result<()> {
    if *account == Account::default() {
        return writeln!(out, "\naccount: none was kept");
    }
    writeln!(out, "\naccount of the interval that ends here")?;
    stops(out, account)?;
    stalls(out, account)?;
    for s in &account.skips {
        writeln!(
            out,
            "  {} not taken from {} on: {}",
            counted(s.ticks.into(), "tick"),
            units::show_ns(s.at_ns),
            s.reason.describe()
        )?;
    }
    let (hot, after, faults) = (&account.hot, &account.after, &account.faults);
    writeln!(
        out,
        "  hot pages: {} copied inside the stop, {} left unprotected (written {}, not {})",
        hot.copied, hot.unprotected, hot.hits, hot.misses
    )?;
    writeln!(
        out,
        "  after the stop: {} copied, {} written before their copy was sure ({} of them saved at \
         the fault), {} made for them",
        counted(after.copied, "page"),
        after.conflicts,
        after.pre_images,
        counted(after.repairs.into(), "more stop")
    )?;
    writeln!(
        out,
        "  write faults: {}, {} of them seen as they happened",
        faults.write, faults.logged
    )?;
    if !account.repeats.is_empty() {
        let looks: Vec<String> = (1..)
            .zip(&account.repeats)
            .take(SHOWN)
            .map(|(n, pages)| format!("{pages} in {}", counted(n, "look")))
            .collect();
        writeln!(out, "  pages found written: {}", looks.join(", "))?;
    }
    heat(out, account)?;
    if !account.dirty.is_empty() {
        let pages = account.dirty.iter().map(|run| run.pages);
        writeln!(
            out,
            "  written pages on record: {} in {} (listed with --json)",
            pages.fold(0, u64::saturating_add),
            counted(account.dirty.len() as u64, "run")
        )?;
    }
    if !account.fault_log.is_empty() || account.faults_dropped > 0 {
        writeln!(
            out,
            "  single faults on record: {}, not kept {} (listed with --json)",
            account.fault_log.len(),
            account.faults_dropped
        )?;
    }
    Ok(())
}

/// `1 page`, `2 pages`.
fn counted(n: u64, thing: &str) -> String {
    format!("{n} {thing}{}", if n == 1 { "" } else { "s" })
}

/// Says how many of a list were left out.
fn rest(out: &mut impl Write, all: usize, thing: &str) -> io::Result<()> {
    match all.checked_sub(SHOWN) {
        Some(more @ 1..) => writeln!(
            out,
            "    and {} more (all with --json)",
            counted(more as u64, thing)
        ),
        _ => Ok(()),
    }
}

fn stops(out: &mut impl Write, account: &Account) -> io::Result<()> {
    let pauses = account.stops.iter().map(|s| s.pause_ns);
    writeln!(
        out,
        "  stops: {}, {} in all",
        account.stops.len(),
        units::show_ns(pauses.fold(0, u64::saturating_add))
    )?;
    for s in account.stops.iter().take(SHOWN) {
        writeln!(
            out,
            "    {:<10} at {:>10}, {:>9} long, {} found written",
            s.kind.name(),
            units::show_ns(s.at_ns),
            units::show_ns(s.pause_ns),
            counted(s.pages, "page")
        )?;
    }
    rest(out, account.stops.len(), "stop")
}

fn stalls(out: &mut impl Write, account: &Account) -> io::Result<()> {
    if account.stalls.is_empty() {
        return Ok(());
    }
    writeln!(out, "  threads that stood still, longest first:")?;
    let mut longest: Vec<&ThreadStall> = account.stalls.iter().collect();
    longest.sort_by_key(|s| (std::cmp::Reverse(stalled(s)), s.space, s.tid));
    for s in longest.iter().take(SHOWN) {
        writeln!(
            out,
            "    thread {:<8} of process {:<4} {:>9} from {}",
            s.tid,
            s.space.0,
            units::show_ns(stalled(s)),
            units::show_ns(s.stopped_ns)
        )?;
    }
    rest(out, longest.len(), "thread")
}

fn heat(out: &mut impl Write, account: &Account) -> io::Result<()> {
    if account.heat.is_empty() {
        return Ok(());
    }
    let pages = account.heat.iter().map(|h| u64::from(h.pages)).sum::<u64>();
    writeln!(
        out,
        "  {} found written in {} of 2 MiB, most first:",
        counted(pages, "page"),
        counted(account.heat.len() as u64, "cell")
    )?;
    let mut hottest: Vec<&Heat> = account.heat.iter().collect();
    hottest.sort_by_key(|h| (std::cmp::Reverse(h.pages), h.space, h.cell));
    for h in hottest.iter().take(SHOWN) {
        let process = h.space.0;
        writeln!(
            out,
            "    {:#014x} of process {process:<4} {}",
            cell(h),
            counted(h.pages.into(), "page")
        )?;
    }
    rest(out, hottest.len(), "cell")
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::SpaceId;
    use stillframe_image::account::{DirtyRun, Hot, Skip, SkipReason, StopKind, StopRecord};

    fn printed(account: &Account) -> String {
        let mut out = Vec::new();
        print(&mut out, account).unwrap();
        String::from_utf8(out).unwrap()
    }

    #[test]
    fn nothing_is_said_of_nothing() {
        assert_eq!(printed(&Account::default()), "\naccount: none was kept\n");
    }

    #[test]
    fn long_lists_are_cut_and_begin_with_what_matters() {
        let account = Account {
            hot: Hot {
                copied: 100,
                unprotected: 80,
                hits: 70,
                misses: 10,
            },
            stops: vec![
                StopRecord {
                    kind: StopKind::Precopy,
                    at_ns: 1_000_000,
                    pause_ns: 100_000,
                    pages: 1,
                },
                StopRecord {
                    kind: StopKind::Boundary,
                    at_ns: 2_000_000,
                    pause_ns: 200_000,
                    pages: 7,
                },
            ],
            stalls: (0..30u32)
                .map(|n| ThreadStall {
                    space: SpaceId(n % 2),
                    tid: 1000 + n,
                    stopped_ns: 2_000_000,
                    resumed_ns: 2_000_000 + u64::from(n) * 1000,
                })
                .collect(),
            skips: vec![Skip {
                at_ns: 1_500_000,
                ticks: 1,
                reason: SkipReason::Store,
            }],
            heat: vec![Heat {
                space: SpaceId(1),
                cell: 5,
                pages: 8,
            }],
            repeats: vec![6, 2],
            dirty: vec![DirtyRun {
                space: SpaceId(1),
                first: u64::MAX,
                pages: u64::MAX,
            }],
            faults_dropped: 3,
            ..Account::default()
        };
        let text = printed(&account);
        for part in [
            "stops: 2, 300 us in all",
            "precopy    at",
            "boundary   at",
            "1 tick not taken from",
            "the store had no room",
            "100 copied inside the stop, 80 left unprotected (written 70, not 10)",
            "6 in 1 look, 2 in 2 looks",
            "8 pages found written in 1 cell of 2 MiB",
            "0x000000a00000 of process 1    8 pages",
            "and 10 threads more (all with --json)",
            "not kept 3",
        ] {
            assert!(text.contains(part), "{part}: {text}");
        }
        let longest = text.find("thread 1029").unwrap();
        assert!(longest < text.find("thread 1028").unwrap(), "{text}");
        assert!(!text.contains("thread 1009 "), "{text}");
    }

    #[test]
    fn hostile_numbers_are_printed_too() {
        let account = Account {
            stalls: vec![ThreadStall {
                stopped_ns: 5,
                resumed_ns: 4,
                ..ThreadStall::default()
            }],
            heat: vec![Heat {
                cell: u64::MAX,
                pages: u32::MAX,
                ..Heat::default()
            }],
            ..Account::default()
        };
        assert!(printed(&account).contains("4294967295 pages"));
    }
}
