//! Snapshots by `fork`, taken by the program itself.

use super::{Peer, PeerCase, our_pause_us};
use crate::args::WorkloadName;
use crate::load;
use crate::measure::{Bench, Cell};
use crate::plan::Setting;
use crate::stats::{Distribution, median};
use anyhow::Result;

/// Measures them on the random writers among `settings`, at the rate of each but at most 100 Hz.
///
/// # Errors
/// If the program fails.
pub fn measure(
    bench: &Bench,
    settings: &[Setting],
    cells: &[Cell],
    say: &mut dyn FnMut(&str),
) -> Result<Peer> {
    let mut peer = Peer {
        name: "fork snapshots".to_owned(),
        trouble: Vec::new(),
        cases: Vec::new(),
    };
    let random = settings
        .iter()
        .filter(|s| s.workload == WorkloadName::Random && s.closed_rounds.is_none());
    for setting in random {
        let hz = setting.hz.min(100.0);
        let mut run = *setting;
        run.seconds = run.seconds.min(3.0);
        say(&format!("{}: fork snapshots at {hz} Hz", setting.label()));
        let units = bench.calibrate(&mut run)?;
        let (mut ratios, mut took) = (Vec::new(), Vec::new());
        for _ in 0..setting.pairs.min(3) {
            let (bare, _) = bench.bare(&run, units)?;
            let dir = bench.scratch()?;
            let mut load = load::start(&run, dir.path(), Some(hz))?;
            let outcome = load.run(units)?;
            load.end()?;
            ratios.push(outcome.seconds / bare.seconds);
            took.push((
                outcome.fork_us.len() as f64 / outcome.seconds,
                outcome.fork_us,
            ));
        }
        let reached: Vec<f64> = took.iter().map(|(hz, _)| *hz).collect();
        let us = Distribution::of(took.into_iter().flat_map(|(_, us)| us).collect());
        if us.max <= 0.0 {
            peer.trouble
                .push(format!("{}: no fork succeeded", setting.label()));
            continue;
        }
        peer.cases.push(PeerCase {
            target: setting.label(),
            what: format!("fork at {hz} Hz"),
            frozen_us: us.p50,
            our_pause_us: our_pause_us(cells, setting),
            slowdown: median(&ratios),
            hz: median(&reached),
            note: format!(
                "p99 {:.0} us, max {:.0} us; nothing is stored",
                us.p99, us.max
            ),
        });
    }
    if peer.cases.is_empty() && peer.trouble.is_empty() {
        peer.trouble
            .push("no paced random writer with 2 threads was measured".to_owned());
    }
    Ok(peer)
}
