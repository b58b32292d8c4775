//! Peers, measured in the same run on the same programs: CRIU, DMTCP, snapshots by `fork`.

mod criu;
mod fork;

use crate::args::WorkloadName;
use crate::load;
use crate::measure::{Bench, Cell};
use crate::plan::Setting;
use crate::process::program;
use anyhow::Result;
use serde::Serialize;

/// What a peer did to one program.
#[derive(Clone, Debug, Serialize)]
pub struct PeerCase {
    /// The program, as tables call it.
    pub target: String,
    /// What was done, e.g. `dump`.
    pub what: String,
    /// How long the program stood still, microseconds: median.
    pub frozen_us: f64,
    /// Our own pause for the same program in this run: median, microseconds; `None` if it was not
    /// recorded.
    pub our_pause_us: Option<f64>,
    /// Elapsed time with the peer over without, where it works all the time.
    pub slowdown: Option<f64>,
    /// How often it was done per second.
    pub hz: Option<f64>,
    /// What else there is to say.
    pub note: String,
}

impl PeerCase {
    /// Our pause over the peer's.
    pub fn ratio(&self) -> Option<f64> {
        self.our_pause_us
            .filter(|_| self.frozen_us > 0.0)
            .map(|ours| ours / self.frozen_us)
    }
}

/// A peer.
#[derive(Clone, Debug, Serialize)]
pub struct Peer {
    /// Its name, with its version where it says one.
    pub name: String,
    /// Why it was not measured, or what went wrong with it, in its own words.
    pub trouble: Vec<String>,
    /// What it did.
    pub cases: Vec<PeerCase>,
}

/// Measures the peers on programs like those of `cells`.
///
/// # Errors
/// If one of our own programs fails; a peer that does is no error.
pub fn measure(bench: &Bench, cells: &[Cell], say: &mut dyn FnMut(&str)) -> Result<Vec<Peer>> {
    let settings = programs(cells);
    let mut peers = vec![criu::measure(bench, &settings, cells, say)?];
    peers.push(Peer {
        name: "DMTCP".to_owned(),
        trouble: vec![match program("dmtcp_launch") {
            None => "not installed (no dmtcp_launch in PATH)".to_owned(),
            Some(path) => format!(
                "{} is installed; this bench attaches to running programs, which DMTCP cannot",
                path.display()
            ),
        }],
        cases: Vec::new(),
    });
    peers.push(fork::measure(bench, &settings, cells, say)?);
    Ok(peers)
}

/// One setting per program among the measured ones that peers are tried on: those with two threads,
/// of moderate size.
fn programs(cells: &[Cell]) -> Vec<Setting> {
    let mut found: Vec<Setting> = Vec::new();
    for setting in cells.iter().map(|c| c.setting) {
        let ours = matches!(
            setting.workload,
            WorkloadName::Random | WorkloadName::Pricing | WorkloadName::Annealing
        );
        let like = |s: &Setting| s.label() == setting.label();
        if ours
            && setting.threads == 2
            && setting.memory_mib() <= 2048
            && setting.dirty <= 1000
            && !setting.long
            && load::missing(setting.workload, &setting).is_none()
            && !found.iter().any(like)
        {
            found.push(setting);
        }
    }
    found
}

/// Our pause for the program of `setting`: that of the cell recorded nearest to 100 Hz.
fn our_pause_us(cells: &[Cell], setting: &Setting) -> Option<f64> {
    cells
        .iter()
        .filter(|c| c.label == setting.label())
        .min_by(|a, b| {
            let far = |c: &Cell| (c.setting.hz / 100.0).ln().abs();
            far(a).total_cmp(&far(b))
        })?
        .default_way()
        .map(|f| f.pause_us.p50)
}
