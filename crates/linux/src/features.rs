//! What this kernel and these privileges offer, found by trying.
//!
//! Never by version number: distributions backport and leave out, containers forbid. Each probe
//! does in small what the recorder will do in earnest, and says what it saw. `still doctor` prints
//! them; [`tracker`] is what a recording asks before it begins.

mod bpf;
mod probes;
mod setting;

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
    features.extend(probes::tracing());
    features.extend(setting::all());
    features
}

/// How written pages are found.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Tracker {
    /// userfaultfd with asynchronous write protection, and PAGEMAP_SCAN.
    WriteProtectAsync,
}

impl fmt::Display for Tracker {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::WriteProtectAsync => f.write_str("wp-async"),
        }
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

/// The tracker to use. This release has one.
///
/// # Errors
/// If one of the features it stands on is missing.
pub fn tracker() -> Result<Tracker, NoTracker> {
    match probes::tracking().into_iter().find(|f| !f.available) {
        None => Ok(Tracker::WriteProtectAsync),
        Some(f) => Err(NoTracker {
            missing: f.name,
            detail: f.detail,
        }),
    }
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

    #[test]
    fn the_tracker_follows_from_the_features() {
        let missing = all().into_iter().find(|f| {
            [
                "userfaultfd",
                "wp-async",
                "pagemap-scan",
                "wp-catches-writes",
            ]
            .contains(&f.name)
                && !f.available
        });
        match tracker() {
            Ok(tracker) => {
                assert_eq!(missing, None);
                assert_eq!(tracker.to_string(), "wp-async");
            }
            Err(e) => assert_eq!(Some(e.missing), missing.map(|f| f.name)),
        }
    }
}
