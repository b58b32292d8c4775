//! What a program with a planted history (targets/planted.h) showed at each checkpoint, without
//! asking us.
//!
//! The program wrote down when it made each change, and what that made true. The time of a
//! checkpoint says which changes were made before it; nothing of the recording's memory is needed
//! for that. The counters in the program's memory, read from every checkpoint, say it again, and
//! both must agree. One store lies between the two readings of the clock, some tens of nanoseconds
//! apart; a checkpoint in that gap (seldom) has two possible answers for the variables of that store.

use anyhow::{Context as _, Result, bail, ensure};
use std::path::Path;
use stillframe_image::SpaceId;
use stillframe_store::Recording;

/// Words of `planted.ring`.
const RING: u64 = 1024;

/// One change that the program made.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Change {
    /// Wall clock right before the store, nanoseconds since the epoch.
    pub storing_ns: u64,
    /// Right after it.
    pub stored_ns: u64,
    /// Which expressions had another value from then on, or the same one stored again, and which.
    pub made: Vec<(String, String)>,
    /// Bytes of the line's part that says so.
    length: u64,
}

/// What a program says that it did. The change with number n is at n - 1.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Log {
    /// All changes.
    pub changes: Vec<Change>,
}

impl Log {
    /// Reads a log.
    ///
    /// # Errors
    /// If it is not whole, or its clock went back.
    pub fn read(path: &Path) -> Result<Self> {
        Self::parse(&std::fs::read_to_string(path).with_context(|| path.display().to_string())?)
    }

    fn parse(text: &str) -> Result<Self> {
        let mut changes: Vec<Change> = Vec::new();
        for line in text.lines() {
            let mut words = line.splitn(4, ' ');
            let mut number = || words.next().and_then(|w| w.parse::<u64>().ok());
            let (n, storing_ns, stored_ns) = match (number(), number(), number()) {
                (Some(n), Some(a), Some(b)) => (n, a, b),
                _ => bail!("no line of a log: {line}"),
            };
            let made = words.next().unwrap_or_default();
            let before = changes.last().map_or(0, |c| c.stored_ns);
            ensure!(
                n == changes.len() as u64 + 1,
                "change {n} is missing: {line}"
            );
            ensure!(
                before <= storing_ns && storing_ns <= stored_ns,
                "the clock was set back: {line}"
            );
            changes.push(Change {
                storing_ns,
                stored_ns,
                made: assignments(made).with_context(|| line.to_owned())?,
                length: if made.is_empty() {
                    0
                } else {
                    made.len() as u64 + 1
                },
            });
        }
        ensure!(!changes.is_empty(), "the log is empty");
        Ok(Self { changes })
    }

    /// Changes that were over at a time, and whether the next one was just being stored.
    fn at(&self, wall_ns: u64) -> (usize, bool) {
        let over = self.changes.partition_point(|c| c.stored_ns <= wall_ns);
        let during = self
            .changes
            .get(over)
            .is_some_and(|c| c.storing_ns <= wall_ns);
        (over, during)
    }
}

/// Splits `a=1 b="x y"`.
fn assignments(text: &str) -> Result<Vec<(String, String)>> {
    let mut found = Vec::new();
    let mut rest = text.trim_start();
    while !rest.is_empty() {
        // A name may hold any operator but `=`.
        let (name, after) = rest.split_once('=').context("a name without a value")?;
        let (mut quoted, mut escaped) = (false, false);
        let end = after
            .char_indices()
            .find(|(_, c)| {
                let ends = *c == ' ' && !quoted;
                quoted ^= *c == '"' && !escaped;
                escaped = *c == '\\' && !escaped;
                ends
            })
            .map_or(after.len(), |(i, _)| i);
        found.push((name.to_owned(), after[..end].to_owned()));
        rest = after[end..].trim_start();
    }
    Ok(found)
}

/// What an expression is at a checkpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Known {
    /// Its value, as the program's log has it.
    pub value: String,
    /// What it may be instead, if the checkpoint is in the gap of a store.
    pub or: Option<String>,
}

impl Known {
    /// Whether a value is right.
    pub fn allows(&self, value: &str) -> bool {
        same(&self.value, value) || self.or.as_deref().is_some_and(|o| same(o, value))
    }
}

/// Whether a value that is shown is the true one: long texts are cut, and say so.
fn same(truth: &str, shown: &str) -> bool {
    match shown.strip_suffix("\"...") {
        Some(begin) => truth.starts_with(begin),
        None => truth == shown,
    }
}

/// The truth about a recording.
#[derive(Debug)]
pub struct Truth {
    log: Log,
    /// Changes visible at each checkpoint, and whether it is in the gap of the next.
    visible: Vec<(usize, bool)>,
}

impl Truth {
    /// Finds it: reads the counters from every checkpoint and holds them to the clock.
    ///
    /// # Errors
    /// If the two do not agree: the recording's memory is wrong, or the clock was set.
    pub fn of(recording: &Recording, log: Log, planted: u64) -> Result<Self> {
        let mut visible = Vec::with_capacity(recording.rows().len());
        for row in recording.rows() {
            let (over, during) = log.at(row.tick.wall_ns);
            let memory = recording.memory(row.id, SpaceId(0))?;
            let word = |address: u64| -> Result<u64> {
                let mut bytes = [0; 8];
                memory.read(address, &mut bytes)?;
                Ok(u64::from_le_bytes(bytes))
            };
            let (before, after) = (word(planted)?, word(planted + 8)?);
            let most = over as u64 + u64::from(during);
            ensure!(
                (after == before || after + 1 == before) && after <= most && over as u64 <= before,
                "checkpoint {}: the counters say {after} to {before}, the clock {over} to {most}",
                row.id
            );
            if after > 0 {
                let line = log
                    .changes
                    .get(after as usize - 1)
                    .context("a change without a line")?;
                let check = word(planted + 16 + after % RING * 8)?;
                ensure!(
                    check == after << 32 | line.length,
                    "checkpoint {}: the check of change {after} is {check:#x}",
                    row.id
                );
            }
            visible.push((over, during));
        }
        Ok(Self { log, visible })
    }

    /// Checkpoints.
    pub fn len(&self) -> usize {
        self.visible.len()
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.visible.is_empty()
    }

    /// Changes that are visible at the last checkpoint and were made since the first.
    pub fn changes(&self) -> usize {
        let first = self.visible.first().map_or(0, |v| v.0);
        self.visible.last().map_or(0, |v| v.0).saturating_sub(first)
    }

    /// The names of all expressions that the program told of.
    pub fn names(&self) -> Vec<String> {
        let mut names: Vec<String> = self
            .log
            .changes
            .iter()
            .flat_map(|c| c.made.iter().map(|(n, _)| n.clone()))
            .collect();
        names.sort();
        names.dedup();
        names
    }

    /// What an expression is at every checkpoint.
    ///
    /// # Errors
    /// If the program did not say it before the first one.
    pub fn of_expression(&self, name: &str) -> Result<Vec<Known>> {
        let mut now: Option<&str> = None;
        let mut done = 0;
        let said = |change: &'_ Change| -> Option<usize> {
            change.made.iter().rposition(|(n, _)| n == name)
        };
        let mut known = Vec::with_capacity(self.visible.len());
        for (over, during) in &self.visible {
            for change in self.log.changes.get(done..*over).unwrap_or_default() {
                if let Some(i) = said(change) {
                    now = Some(&change.made[i].1);
                }
            }
            done = done.max(*over);
            let or = self
                .log
                .changes
                .get(*over)
                .filter(|_| *during)
                .and_then(|c| Some(c.made[said(c)?].1.clone()));
            known.push(Known {
                value: now
                    .with_context(|| format!("nothing was said of {name} in time"))?
                    .to_owned(),
                or,
            });
        }
        Ok(known)
    }
}

/// A value without what differs between those who print it: an address before a text, the scope of
/// an enumerator, spaces, the way to write a fraction, a truth value as a number.
pub fn plain(value: &str) -> String {
    let mut value = value.trim();
    // A reference: (int &) @0x55d0: 7
    if let Some((_, to)) = value
        .split_once("&) @0x")
        .and_then(|(_, v)| v.split_once(": "))
    {
        value = to;
    }
    if let Some(at) = value.find(['"', '\'']) {
        return value[at..].replace("\\000", "");
    }
    if value.ends_with("None") {
        return "None".to_owned();
    }
    // What an option holds may be wrapped in structures of one number.
    if let Some((_, inner)) = value.split_once("Some(") {
        let inner = inner.rsplit('(').next().unwrap_or(inner);
        return format!("Some({})", inner.trim_end_matches(')'));
    }
    if let Ok(number) = value.parse::<i128>() {
        return number.to_string();
    }
    if let Ok(number) = value.parse::<f64>() {
        return number.to_string();
    }
    match value {
        "true" => return "1".to_owned(),
        "false" => return "0".to_owned(),
        _ => {}
    }
    let mut out = String::new();
    for word in value.split_inclusive(|c: char| !(c.is_alphanumeric() || c == '_' || c == ':')) {
        out.push_str(word.rsplit("::").next().unwrap_or(word).trim());
    }
    out
}

/// Holds an answer (at which checkpoints the value changed, and to what; the first one with the
/// value it began with) against the truth about every checkpoint.
///
/// # Errors
/// With the first checkpoint at which they differ.
pub fn same_history(truth: &[Known], answer: &[(u64, String)]) -> Result<()> {
    ensure!(
        answer.first().is_some_and(|(id, _)| *id == 0),
        "the answer does not begin at checkpoint 0: {:?}",
        answer.first()
    );
    for pair in answer.windows(2) {
        ensure!(pair[0].0 < pair[1].0, "out of order: {pair:?}");
        ensure!(pair[0].1 != pair[1].1, "a change to the same: {pair:?}");
    }
    let mut reported = answer.iter().peekable();
    let mut now = "";
    for (id, known) in (0u64..).zip(truth) {
        while let Some((_, value)) = reported.next_if(|(at, _)| *at <= id) {
            now = value;
        }
        ensure!(
            known.allows(now),
            "checkpoint {id}: {now} was reported, {}{} is true",
            known.value,
            known
                .or
                .as_ref()
                .map(|o| format!(" or {o}"))
                .unwrap_or_default()
        );
    }
    match reported.next() {
        None => Ok(()),
        Some(beyond) => bail!("a change beyond the end: {beyond:?}"),
    }
}

/// What separates the values in [`both`].
pub const AND: char = '\u{1}';

/// Two expressions at once: their values, with [`AND`] between them.
pub fn both(a: &[Known], b: &[Known]) -> Vec<Known> {
    let pair = |a: &str, b: &str| format!("{a}{AND}{b}");
    let each = a.iter().zip(b).map(|(a, b)| Known {
        value: pair(&a.value, &b.value),
        // One store is in question, so it is there for both of them or for neither.
        or: (a.or.is_some() || b.or.is_some()).then(|| {
            pair(
                a.or.as_ref().unwrap_or(&a.value),
                b.or.as_ref().unwrap_or(&b.value),
            )
        }),
    });
    each.collect()
}

/// At which checkpoints a condition on values holds; `None` where the truth leaves it open.
pub fn holds(truth: &[Known], condition: impl Fn(&str) -> bool) -> Vec<Option<bool>> {
    let each = truth.iter().map(|known| {
        let now = condition(&known.value);
        let other = known.or.as_ref().is_none_or(|o| condition(o) == now);
        other.then_some(now)
    });
    each.collect()
}

/// Holds stretches of checkpoints (first and last of each) to the truth.
///
/// # Errors
/// With the first checkpoint at which they differ, or if stretches overlap or touch.
pub fn same_stretches(truth: &[Option<bool>], stretches: &[(u64, u64)]) -> Result<()> {
    for pair in stretches.windows(2) {
        ensure!(pair[0].1 + 1 < pair[1].0, "they touch or overlap: {pair:?}");
    }
    for (id, known) in (0u64..).zip(truth) {
        let next = stretches.partition_point(|s| s.1 < id);
        let reported = stretches.get(next).is_some_and(|s| s.0 <= id);
        ensure!(
            known.is_none_or(|k| k == reported),
            "checkpoint {id}: reported {reported}"
        );
    }
    ensure!(
        stretches.last().is_none_or(|s| s.1 < truth.len() as u64),
        "beyond the end"
    );
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    const LOG: &str =
        "1 10 12 a=1 s=\"x y\"\n2 20 21\n3 30 33 a=2\n4 40 41 p->b[1]=-5 s=\"q\\\"= \"\n";

    fn truth(times: &[u64]) -> Truth {
        let log = Log::parse(LOG).unwrap();
        let visible = times.iter().map(|t| log.at(*t)).collect();
        Truth { log, visible }
    }

    #[test]
    fn lines_are_understood() {
        let log = Log::parse(LOG).unwrap();
        assert_eq!(log.changes.len(), 4);
        assert_eq!(log.changes[1].made, []);
        let made =
            [("p->b[1]", "-5"), ("s", "\"q\\\"= \"")].map(|(a, b)| (a.to_owned(), b.to_owned()));
        assert_eq!(log.changes[3].made, made);
        assert_eq!(log.changes[0].length, " a=1 s=\"x y\"".len() as u64);
        for bad in ["", "2 1 2", "1 5 4", "1 5", "1 5 6 a", "1 5 6\n2 5 7"] {
            assert!(Log::parse(bad).is_err(), "{bad}");
        }
    }

    #[test]
    fn values_follow_the_clock() {
        let truth = truth(&[12, 25, 31, 33, 50]);
        let a: Vec<(String, Option<String>)> = truth
            .of_expression("a")
            .unwrap()
            .into_iter()
            .map(|k| (k.value, k.or))
            .collect();
        let one = ("1".to_owned(), None);
        assert_eq!(a[0], one);
        assert_eq!(a[1], one);
        assert_eq!(a[2], ("1".to_owned(), Some("2".to_owned())));
        assert_eq!(a[3], ("2".to_owned(), None));
        assert!(truth.of_expression("p->b[1]").is_err());
        assert_eq!(truth.names(), ["a", "p->b[1]", "s"]);
    }

    #[test]
    fn values_are_compared_without_trimmings() {
        for (a, b) in [
            ("0x55 \"alpha :: x\"", "\"alpha :: x\""),
            ("plant::Phase::Running", "Running"),
            ("planted::Shape::Circle{radius: 5}", "Circle{radius:5}"),
            ("core::option::Option<u32>::Some(3)", "Some(3)"),
            ("97 'a'", "'a'"),
            ("(int &) @0x55d0: 7", "7"),
            ("\"ab\\000\"", "\"ab\""),
            (
                "Option<NonZero<u32>> Some(NonZero<u32>(NonZeroU32Inner(3)))",
                "Some(3)",
            ),
            ("Option<NonZero<u32>> None", "None"),
            ("1.50", "1.5"),
            ("true", "1"),
            ("-7", "-7"),
        ] {
            assert_eq!(plain(a), plain(b), "{a}");
        }
        assert_ne!(plain("1"), plain("-1"));
        assert!(same("\"abcd\"", "\"ab\"...") && !same("\"abcd\"", "\"ac\"..."));
    }

    #[test]
    fn answers_are_held_to_the_truth() {
        let truth = truth(&[12, 25, 31, 33, 50]).of_expression("a").unwrap();
        let answer = |changes: &[(u64, &str)]| -> Vec<(u64, String)> {
            changes
                .iter()
                .map(|(at, v)| (*at, (*v).to_owned()))
                .collect()
        };
        for good in [&[(0, "1"), (2, "2")][..], &[(0, "1"), (3, "2")]] {
            same_history(&truth, &answer(good)).unwrap();
        }
        for bad in [
            &[][..],
            &[(0, "1")],
            &[(0, "1"), (1, "2")],
            &[(0, "1"), (4, "2")],
            &[(1, "1"), (3, "2")],
            &[(0, "1"), (1, "1"), (3, "2")],
            &[(0, "1"), (3, "2"), (9, "3")],
        ] {
            assert!(same_history(&truth, &answer(bad)).is_err(), "{bad:?}");
        }
        let held = holds(&truth, |v| v == "2");
        let no = Some(false);
        assert_eq!(held, [no, no, None, Some(true), Some(true)]);
        for good in [(2, 4), (3, 4)] {
            same_stretches(&held, &[good]).unwrap();
        }
        for bad in [&[][..], &[(1, 4)], &[(4, 4)], &[(3, 3), (4, 4)], &[(3, 5)]] {
            assert!(same_stretches(&held, bad).is_err(), "{bad:?}");
        }
    }
}
