//! Programs under load, as the bench sees them: started, given work, timed, ended.

mod python;
mod redis;
mod served;
mod sqlite;

use crate::args::{TargetName, WorkloadName};
use crate::plan::Setting;
use crate::targets::Outcome;
use anyhow::Result;
use std::path::Path;
use std::time::Duration;

/// Longest that one run may take before it counts as hung.
pub const PATIENCE: Duration = Duration::from_secs(1800);

/// A program that does a given amount of work when told to.
pub trait Load: Send {
    /// The process that is recorded.
    fn pid(&self) -> u32;

    /// Does `units` of work and says how long that took.
    ///
    /// # Errors
    /// If the program fails at it or ends.
    fn run(&mut self, units: u64) -> Result<Outcome>;

    /// Lets it end in order.
    ///
    /// # Errors
    /// If it ends with another status than 0.
    fn end(&mut self) -> Result<()>;
}

/// Why a workload cannot run here; `None` if it can.
pub fn missing(workload: WorkloadName, setting: &Setting) -> Option<String> {
    match workload {
        WorkloadName::Redis => redis::missing(),
        WorkloadName::Sqlite => sqlite::missing(),
        WorkloadName::Python => python::missing(),
        _ => {
            let need = u64::from(setting.memory_mib()) * 3 / 2;
            let info = std::fs::read_to_string("/proc/meminfo").unwrap_or_default();
            let free = crate::process::kib(&info, "MemAvailable") / 1024;
            (free < need + 1024).then(|| {
                format!(
                    "it needs {} MiB of memory and {free} are available",
                    need + 1024
                )
            })
        }
    }
}

/// Starts the program of a setting; its files go to `dir`. `fork_hz`: it takes fork snapshots of
/// itself (random only).
///
/// # Errors
/// If it does not come up.
pub fn start(setting: &Setting, dir: &Path, fork_hz: Option<f64>) -> Result<Box<dyn Load>> {
    let ours = |name: TargetName, more: Vec<String>| -> Result<Box<dyn Load>> {
        Ok(Box::new(served::Served::ours(
            name,
            setting.threads,
            more,
            dir,
        )?))
    };
    match setting.workload {
        WorkloadName::Pricing => ours(TargetName::Pricing, setting.count_args()),
        WorkloadName::Market => ours(TargetName::Market, setting.count_args()),
        WorkloadName::Annealing => ours(TargetName::Annealing, setting.count_args()),
        WorkloadName::Random => {
            let mut more = vec!["--mib".to_owned(), setting.mib.to_string()];
            match setting.closed_rounds {
                Some(rounds) => more.extend(["--closed".to_owned(), rounds.to_string()]),
                None => more.extend(["--rate".to_owned(), setting.pages_per_second().to_string()]),
            }
            if let Some(hz) = fork_hz {
                more.extend(["--fork-hz".to_owned(), hz.to_string()]);
            }
            ours(TargetName::Random, more)
        }
        WorkloadName::Redis => Ok(Box::new(redis::Redis::start(dir)?)),
        WorkloadName::Sqlite => Ok(Box::new(sqlite::Sqlite::start(dir)?)),
        WorkloadName::Python => Ok(Box::new(python::start(dir)?)),
    }
}
