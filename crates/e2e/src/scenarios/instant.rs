//! One instant: invariants across many pages hold in every checkpoint.
//!
//! `targets/invariants.c` says what the invariants are and why they hold at any instant. Its sizes
//! are repeated here. The checker takes any way of reading memory, so that it can be tried on what
//! must pass (a stopped process) and on what must not (a running one, read page by page).

use crate::process::{PATIENCE, Running, command};
use crate::{Length, Outcome, Scenario, passed, place, skip, still};
use anyhow::{Context as _, Result, bail, ensure};
use std::time::Duration;
use stillframe_image::SpaceId;

/// The scenarios.
pub const SCENARIOS: &[Scenario] = &[
    Scenario {
        name: "instant::invariants",
        about: "counters, transfers, and threads waiting for each other are consistent at every checkpoint",
        run: |length| invariants(&[], length.checkpoints * 2),
    },
    Scenario {
        name: "instant::after_wp_async",
        about: "the same where pages are copied after the stop",
        run: |length| after("wp-async", length),
    },
    Scenario {
        name: "instant::after_bpf",
        about: "the same with the log of faults and pre-images",
        run: |length| after("bpf", length),
    },
];

const PAGE: u64 = 4096;
const PAGES: u64 = 400;
const RING: u64 = 256;
const ACCOUNTS: u64 = 300;
const MOVERS: u64 = 2;
const FUNDS: u64 = 1000;

/// Where the target keeps its words.
#[derive(Clone, Copy, Debug)]
pub struct Places {
    series: u64,
    ring: u64,
    accounts: u64,
    journal: u64,
    ping: u64,
}

impl Places {
    /// As the target printed them.
    ///
    /// # Errors
    /// If it did not.
    pub fn of(target: &Running) -> Result<Self> {
        Ok(Self {
            series: target.address("series")?,
            ring: target.address("ring")?,
            accounts: target.address("accounts")?,
            journal: target.address("journal")?,
            ping: target.address("ping")?,
        })
    }
}

/// Checks all invariants on memory read by `read`, which fills a page. `r12` is that register of
/// the thread that counts in it, if known. Returns a number that grows while the target runs.
///
/// # Errors
/// With the first one broken.
pub fn check(
    places: &Places,
    r12: Option<u64>,
    read: &mut dyn FnMut(u64, &mut [u8; PAGE as usize]) -> Result<()>,
) -> Result<u64> {
    let mut page = [0u8; PAGE as usize];
    let mut word = |base: u64, number: u64, index: u64| -> Result<u64> {
        read(base + number * PAGE, &mut page)?;
        let at = usize::try_from(index)? * 8;
        Ok(u64::from_le_bytes(page[at..at + 8].try_into()?))
    };
    // series: k..k, k-1..k-1
    let first = word(places.series, 0, 0)?;
    let mut behind = false;
    for i in 0..PAGES {
        let value = word(places.series, i, (i * 37) % 512)?;
        behind |= value != first;
        let expected = if behind { first.wrapping_sub(1) } else { first };
        ensure!(
            value == expected,
            "series: word {i} is {value}, word 0 is {first}"
        );
    }
    // ring: the RING newest values, each in the place of its residue
    let mut newest = 0;
    let mut ring = Vec::new();
    for j in 0..RING {
        ring.push(word(places.ring, j, 0)?);
        newest = newest.max(ring[j as usize]);
    }
    for (j, value) in (0..).zip(&ring) {
        let age = (newest % RING + RING - j) % RING;
        ensure!(
            *value == newest - age,
            "ring: word {j} is {value}, the newest is {newest}"
        );
    }
    if let Some(k) = r12.filter(|_| newest > RING) {
        ensure!(
            k == newest || k == newest + 1,
            "registers and memory are of different instants: r12 is {k}, memory has {newest}"
        );
    }
    // transfers: the total, once a move under way is undone
    for t in 0..MOVERS {
        let mut journal = [0u64; 6];
        for (i, entry) in (0..).zip(&mut journal) {
            *entry = word(places.journal, t, i)?;
        }
        let [phase, a, b, x, old_a, old_b] = journal;
        let mut total = 0u64;
        let mut values = Vec::new();
        for i in 0..ACCOUNTS {
            let value = word(places.accounts, i, 8 + t * 64)?;
            values.push(value);
            total = total.wrapping_add(value);
        }
        if phase == 1 {
            ensure!(
                a < ACCOUNTS && b < ACCOUNTS,
                "transfers: journal of mover {t}: {a}, {b}"
            );
            let (now_a, now_b) = (values[a as usize], values[b as usize]);
            let taken = now_a == old_a.wrapping_sub(x);
            let given = now_b == old_b.wrapping_add(x);
            ensure!(
                (taken || now_a == old_a) && (given || now_b == old_b) && (taken || !given),
                "transfers: mover {t} moves {x} from {a} ({old_a}, now {now_a}) to {b} ({old_b}, now {now_b})"
            );
            total = total.wrapping_sub(now_a).wrapping_sub(now_b);
            total = total.wrapping_add(old_a).wrapping_add(old_b);
        }
        ensure!(
            total == ACCOUNTS * FUNDS,
            "transfers: mover {t} has {total} instead of {}",
            ACCOUNTS * FUNDS
        );
    }
    let (a, b) = (word(places.ping, 0, 0)?, word(places.ping, 7, 0)?);
    ensure!(b <= a && a <= b + 1, "pingpong: {a} and {b}");
    Ok(first + newest + a)
}

fn after(tracker: &str, length: &Length) -> Result<Outcome> {
    match super::ways::refused(tracker)? {
        Some(why) => skip(why),
        None => invariants(
            &["--copy", "after", "--tracker", tracker],
            length.checkpoints,
        ),
    }
}

fn invariants(options: &[&str], checkpoints: u64) -> Result<Outcome> {
    let dir = place::scratch()?;
    let exe = place::target("invariants.c")?;
    let mut target = Running::start(&mut command(exe, &["--seconds", "20000"]), dir.path())?;
    let pid = target.ready()?;
    let places = Places::of(&target)?;
    let out = dir.path().join("run.still");
    let count = checkpoints.to_string();
    let args = [options, &["--hz", "100", "--count", &count]].concat();
    let mut recorder = still::attach(dir.path(), &args, &out, pid)?;
    let patience = PATIENCE + Duration::from_secs(checkpoints);
    still::ended_with(&mut recorder, 0, patience)?;
    let recording = still::open(&out)?;
    let mut last = 0;
    let mut moved = 0u64;
    for row in recording.rows() {
        let at = || format!("checkpoint {}", row.id);
        let memory = recording.memory(row.id, SpaceId(0)).with_context(at)?;
        let threads = recording
            .process(row.id, SpaceId(0))
            .with_context(at)?
            .threads;
        let counting = threads.iter().find(|t| t.name == b"in-register");
        ensure!(
            counting.is_some(),
            "{}: the thread in-register is missing",
            at()
        );
        let mut read = |address: u64, page: &mut [u8; PAGE as usize]| -> Result<()> {
            memory.read(address, page)?;
            Ok(())
        };
        let r12 = counting.map(|t| t.registers.r12);
        let progress = check(&places, r12, &mut read).with_context(at)?;
        ensure!(progress >= last, "{}: older than the one before", at());
        moved += u64::from(progress > last);
        last = progress;
    }
    ensure!(
        moved * 2 > recording.rows().len() as u64,
        "the target hardly moved"
    );
    crate::process::left_alone(pid)?;
    target.finish()?;
    if recording.rows().len() as u64 != checkpoints {
        bail!("{} checkpoints instead of {count}", recording.rows().len());
    }
    passed(format!("checkpoints {count}, broken invariants 0"))
}

#[cfg(test)]
mod tests {
    use super::*;
    use rustix::process::Signal;
    use std::os::unix::fs::FileExt as _;

    /// The checker passes on a stopped process and fails on a running one read page by page: it
    /// can tell one instant from several.
    #[test]
    fn torn_copies_are_noticed() {
        let dir = place::scratch().unwrap();
        let exe = place::target("invariants.c").unwrap();
        let mut target =
            Running::start(&mut command(exe, &["--seconds", "100"]), dir.path()).unwrap();
        let pid = target.ready().unwrap();
        let places = Places::of(&target).unwrap();
        let memory = std::fs::File::open(format!("/proc/{pid}/mem")).unwrap();
        let mut read = |address: u64, page: &mut [u8; PAGE as usize]| -> Result<()> {
            Ok(memory.read_exact_at(page, address)?)
        };
        for round in 0..10 {
            crate::process::signal(pid, Signal::STOP).unwrap();
            crate::process::wait_for("it stops", || {
                std::fs::read_dir(format!("/proc/{pid}/task"))
                    .unwrap()
                    .all(|t| {
                        std::fs::read_to_string(t.unwrap().path().join("stat"))
                            .is_ok_and(|s| s.contains(") T "))
                    })
            })
            .unwrap();
            check(&places, None, &mut read).unwrap_or_else(|e| panic!("round {round}: {e:#}"));
            crate::process::signal(pid, Signal::CONT).unwrap();
            std::thread::sleep(Duration::from_millis(10));
        }
        let torn = (0..50)
            .filter(|_| check(&places, None, &mut read).is_err())
            .count();
        assert!(torn > 0, "50 torn copies passed");
        target.finish().unwrap();
    }
}
