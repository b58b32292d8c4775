//! What `prune` keeps.

use crate::Recording;
use std::str::FromStr;
use std::time::Duration;
use stillframe_image::{CheckpointId, Marks};

/// A rule that keeps checkpoints. What no rule keeps goes.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Rule {
    /// Those whose number is a multiple of this.
    Every(u64),
    /// This many, the newest of all.
    Last(u64),
    /// The first of each period of this length, counted from the start of the recording.
    Per(Duration),
}

impl FromStr for Rule {
    type Err = String;

    fn from_str(text: &str) -> Result<Self, String> {
        let wrong = || "a rule looks like every=10, last=100 or per=1s".to_owned();
        let (name, value) = text.split_once('=').ok_or_else(wrong)?;
        let number = || {
            value
                .parse::<u64>()
                .ok()
                .filter(|n| *n > 0)
                .ok_or_else(wrong)
        };
        match name {
            "every" => number().map(Self::Every),
            "last" => number().map(Self::Last),
            "per" => match value.parse() {
                Ok(crate::Moment::At(period)) if !period.is_zero() => Ok(Self::Per(period)),
                _ => Err(wrong()),
            },
            _ => Err(wrong()),
        }
    }
}

/// The checkpoints that the rules do not keep, as half-open ranges of numbers.
///
/// Whatever the rules say, these stay: tagged ones; the first and the last of each program (an
/// `exec` begins another); those taken at a crash or an exit; and those that are not `older` than
/// that before the end.
pub fn select(recording: &Recording, rules: &[Rule], older: Option<Duration>) -> Vec<(u64, u64)> {
    let rows = recording.rows();
    let end = rows.last().map_or(0, |r| r.tick.at_ns);
    let limit = older.map_or(u64::MAX, |age| {
        let age = u64::try_from(age.as_nanos()).unwrap_or(u64::MAX);
        end.saturating_sub(age)
    });
    let tagged: std::collections::HashSet<CheckpointId> =
        recording.tags().values().copied().collect();
    let begins = |i: usize| {
        i == 0
            || rows
                .get(i)
                .is_some_and(|r| r.tick.marks.contains(Marks::EXEC))
    };
    let mut out: Vec<(u64, u64)> = Vec::new();
    let mut period = vec![None; rules.len()];
    for (i, row) in rows.iter().enumerate() {
        let marks = row.tick.marks;
        let mut stays = row.tick.at_ns >= limit && older.is_some()
            || begins(i)
            || i + 1 == rows.len()
            || begins(i + 1)
            || marks.contains(Marks::CRASH)
            || marks.contains(Marks::EXIT)
            || tagged.contains(&row.id);
        for (rule, seen) in rules.iter().zip(&mut period) {
            stays |= match rule {
                Rule::Every(n) => row.id.0.is_multiple_of(*n),
                Rule::Last(n) => (rows.len() - i) as u64 <= *n,
                Rule::Per(length) => {
                    let this = u128::from(row.tick.at_ns) / length.as_nanos().max(1);
                    let new = *seen != Some(this);
                    *seen = Some(this);
                    new
                }
            };
        }
        if stays {
            continue;
        }
        match out.last_mut() {
            Some(last) if last.1 == row.id.0 => last.1 += 1,
            _ => out.push((row.id.0, row.id.0 + 1)),
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn rules_as_they_are_written() {
        assert_eq!("every=10".parse(), Ok(Rule::Every(10)));
        assert_eq!("last=3".parse(), Ok(Rule::Last(3)));
        assert_eq!(
            "per=1.5s".parse(),
            Ok(Rule::Per(Duration::from_millis(1500)))
        );
        for bad in [
            "", "every", "every=", "every=0", "every=x", "per=0s", "per=5", "most=1",
        ] {
            assert!(bad.parse::<Rule>().is_err(), "{bad}");
        }
    }
}
