//! What this kernel and these privileges offer, found by trying.
//!
//! Never by version number: distributions backport and leave out, containers forbid. Each probe
//! does in small what the recorder will do in earnest, and says what it saw. `still doctor` prints
//! them, and which tracker follows from them ([`candidates`]).

mod bpf;
mod probes;
mod setting;

use probes::CATCHES_WRITES;
use std::fmt;

/// One thing tried.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Feature {
    /// Short name.
    pub name: &'static str,
    /// Whether it is there and works.
    pub available: bool,
    /// What was seen; when not available, why, and what to change.
    pub detail: String,
    /// What the product uses it for.
    pub used_for: &'static str,
}

impl Feature {
    fn new(
        name: &'static str,
        used_for: &'static str,
        outcome: Result<impl Into<String>, impl Into<String>>,
    ) -> Self {
        let available = outcome.is_ok();
        let detail = outcome.map_or_else(Into::into, Into::into);
        Self {
            name,
            available,
            detail,
            used_for,
        }
    }
}

/// Everything `still doctor` shows. Takes some tens of milliseconds, and starts one child process
/// for a moment.
pub fn all() -> Vec<Feature> {
    let mut features = probes::tracking();
    features.extend(bpf::all());
    features.push(probes::soft_dirty());
    features.extend(probes::tracing());
    features.extend(setting::all());
    features
}

/// How written pages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracker {
    /// The same as [`Tracker::WriteProtectAsync`], with a log of the faults.
    Bpf,
    /// userfaultfd with asynchronous write protection, and PAGEMAP_SCAN.
    WriteProtectAsync,
    /// Soft-dirty bits.
    SoftDirty,
}

impl fmt::Display for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Bpf => "bpf",
            Self::WriteProtectAsync => "wp-async",
            Self::SoftDirty => "soft-dirty",
        })
    }
}

/// Why nothing can be tracked.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("written pages cannot be tracked here: {missing} is missing ({detail})")]
pub struct NoTracker {
    /// Name of the first feature that is missing.
    pub missing: &'static str,
    /// What was seen, and what to change.
    pub detail: String,
}

impl NoTracker {
    fn of(feature: &Feature) -> Self {
        Self {
            missing: feature.name,
            detail: feature.detail.clone(),
        }
    }

    /// There is no other way, either.
    #[must_use]
    pub fn neither(mut self, other: &dyn fmt::Display) -> Self {
        self.detail = format!("{}; nor is there another way: {other}", self.detail);
        self
    }
}

/// Whether asynchronous write protection works here.
///
/// # Errors
/// The first of the features it stands on that is missing.
pub fn write_protection() -> Result<(), NoTracker> {
    match probes::tracking().iter().find(|f| !f.available) {
        None => Ok(()),
        Some(f) => Err(NoTracker::of(f)),
    }
}

/// A tracker, and whether it can be used.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Candidate {
    /// Which.
    pub tracker: Tracker,
    /// What it lacks, if anything.
    pub lacks: Option<NoTracker>,
}

/// The trackers in the order of preference, and what of `features` (those of [`all`]) each lacks.
pub fn candidates(features: &[Feature]) -> Vec<Candidate> {
    let protection = ["userfaultfd", "wp-async", "pagemap-scan", CATCHES_WRITES];
    let needs = [
        (
            Tracker::Bpf,
            [protection.as_slice(), &[bpf::FAULTS.0]].concat(),
        ),
        (Tracker::WriteProtectAsync, protection.to_vec()),
        (Tracker::SoftDirty, vec![probes::SOFT_DIRTY]),
    ];
    needs
        .into_iter()
        .map(|(tracker, names)| {
            let lacks = names.iter().find_map(|name| {
                let feature = features.iter().find(|f| f.name == *name)?;
                (!feature.available).then(|| NoTracker::of(feature))
            });
            Candidate { tracker, lacks }
        })
        .collect()
}

/// The tracker that a recording uses if nothing else is asked for.
///
/// # Errors
/// If there is none: what the usual one lacks.
pub fn tracker(candidates: &[Candidate]) -> Result<Tracker, NoTracker> {
    if let Some(best) = candidates.iter().find(|c| c.lacks.is_none()) {
        return Ok(best.tracker);
    }
    let lacks = |tracker| {
        let candidate = candidates.iter().find(|c| c.tracker == tracker);
        candidate.and_then(|c| c.lacks.clone())
    };
    let missing = lacks(Tracker::WriteProtectAsync).unwrap_or(NoTracker {
        missing: "everything",
        detail: "nothing was tried".to_owned(),
    });
    Err(match lacks(Tracker::SoftDirty) {
        Some(other) => missing.neither(&other.detail),
        None => missing,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_probe_answers_and_says_something() {
        let features = all();
        for f in &features {
            println!(
                "{:28} {:5} {} [{}]",
                f.name, f.available, f.detail, f.used_for
            );
            assert!(!f.detail.is_empty(), "{}", f.name);
            assert!(!f.detail.contains('\n'), "{}", f.name);
        }
        let mut names: Vec<_> = features.iter().map(|f| f.name).collect();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), features.len());
    }

    fn feature(name: &'static str, available: bool) -> Feature {
        let outcome = if available {
            Ok("there")
        } else {
            Err("not there")
        };
        Feature::new(name, "a test", outcome)
    }

    /// Of the trackers that nothing is lacking for, the first.
    fn picked(missing: &[&str]) -> Result<Tracker, NoTracker> {
        let features: Vec<_> = all()
            .iter()
            .map(|f| feature(f.name, !missing.contains(&f.name)))
            .collect();
        tracker(&candidates(&features))
    }

    #[test]
    fn the_tracker_follows_from_the_features() {
        assert_eq!(picked(&[]), Ok(Tracker::Bpf));
        assert_eq!(picked(&["bpf-fault-log"]), Ok(Tracker::WriteProtectAsync));
        for name in ["userfaultfd", "wp-async", "pagemap-scan", CATCHES_WRITES] {
            assert_eq!(picked(&[name]), Ok(Tracker::SoftDirty), "{name}");
            let none = picked(&[name, "soft-dirty"]).unwrap_err();
            assert_eq!(none.missing, name);
            let text = none.to_string();
            assert!(text.contains("not there; nor is there another"), "{text}");
        }
    }

    #[test]
    fn what_is_here_decides_here() {
        let here = candidates(&all());
        let plain = &here[1];
        assert_eq!(plain.tracker, Tracker::WriteProtectAsync);
        assert_eq!(plain.lacks, write_protection().err());
        assert_eq!(
            here[2].lacks.is_none(),
            crate::softdirty::SoftDirty::supported().unwrap()
        );
    }
}
