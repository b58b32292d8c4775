//! What was typed to remove, merge and name moments.

use crate::units;
use clap::{Args, ValueHint};
use std::ffi::OsString;
use std::path::PathBuf;
use std::time::Duration;
use stillframe_store::retention::{Bound, Rule};

/// `still rm`.
#[derive(Clone, Debug, Args)]
pub struct RmArgs {
    /// The moments to remove, all of one recording: REC@42 REC@43.
    #[arg(required = true, value_name = "REC@MOMENT")]
    pub moments: Vec<OsString>,
    /// Say what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still squash`.
#[derive(Clone, Debug, Args)]
pub struct SquashArgs {
    /// The range: REC@10..20 merges 10 to 20 into 20. Both ends may be any form of moment.
    #[arg(value_name = "REC@A..B")]
    pub range: OsString,
    /// Say what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

/// `still prune`.
#[derive(Clone, Debug, Args)]
pub struct PruneArgs {
    /// The recording.
    #[arg(value_name = "REC", value_hint = ValueHint::DirPath)]
    pub recording: PathBuf,
    /// What to keep: every=10 (numbers that are multiples of ten), last=100 (the newest hundred),
    /// per=1s (the first of each second). Of several rules each keeps what it keeps.
    #[arg(long, required = true, value_name = "RULE", value_parser = rule)]
    pub keep: Vec<Rule>,
    /// Keep everything that is not older than this before the end.
    #[arg(long, value_name = "TIME", value_parser = units::time)]
    pub older: Option<Duration>,
    /// Only say what would go, and how many bytes.
    #[arg(short = 'n', long)]
    pub dry_run: bool,
    /// Say what was done as JSON.
    #[arg(long)]
    pub json: bool,
}

fn rule(text: &str) -> Result<Rule, String> {
    text.parse()
}

/// `still tag`.
#[derive(Clone, Debug, Args)]
pub struct TagArgs {
    /// The moment, REC@42; only the recording, with --list and --delete.
    #[arg(value_name = "REC[@MOMENT]")]
    pub moment: OsString,
    /// The name: a letter or `_`, then letters, digits, `_`, `-`, `.`; at most 64.
    #[arg(required_unless_present = "list")]
    pub name: Option<String>,
    /// List the names of a recording.
    #[arg(short, long, conflicts_with_all = ["name", "delete"])]
    pub list: bool,
    /// Take the name away.
    #[arg(short, long)]
    pub delete: bool,
    /// As JSON.
    #[arg(long)]
    pub json: bool,
}

/// `--keep` of `record` and `attach`.
///
/// # Errors
/// A sentence saying what a bound looks like.
pub fn bound(text: &str) -> Result<Bound, String> {
    let wrong = || {
        "a bound is a time (60s), a size (2GiB), a number of checkpoints (1000), or several of \
         them: 60s,2GiB"
            .to_owned()
    };
    let mut bound = Bound::default();
    for part in text.split(',') {
        if !part.is_empty() && part.bytes().all(|b| b.is_ascii_digit()) {
            let n = part.parse::<u64>().ok().filter(|n| *n > 0);
            bound.count = Some(n.ok_or_else(wrong)?);
        } else if let Ok(time) = units::time(part) {
            bound.time = Some(time);
        } else {
            let size = units::size(part).map_err(|_| wrong())?;
            if size < SMALLEST {
                return Err("a recording is bounded to at least 16MiB".to_owned());
            }
            bound.bytes = Some(size);
        }
    }
    Ok(bound)
}

/// Least bytes that a recording may be bounded to: below, the space that is on its way back would be
/// most of it.
const SMALLEST: u64 = 16 << 20;

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn bounds() {
        let of = |time, bytes, count| Bound { time, bytes, count };
        let minute = Some(Duration::from_secs(60));
        assert_eq!(bound("60s"), Ok(of(minute, None, None)));
        assert_eq!(bound("1m,2GiB"), Ok(of(minute, Some(2 << 30), None)));
        assert_eq!(bound("1000"), Ok(of(None, None, Some(1000))));
        for bad in ["", "0", "60s,", "1MiB", "fast", "-1s", "60q"] {
            assert!(bound(bad).is_err(), "{bad}");
        }
    }
}
