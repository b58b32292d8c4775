//! Moments as people write them: `42`, `12.5s`, `-3s`, `500ms`, `first`, `last`, `crash`, `exit`,
//! `point:NAME`.

use crate::Error;
use crate::retention::ledger::Ledger;
use crate::rows::Row;
use std::fmt;
use std::path::{Path, PathBuf};
use std::time::Duration;
use stillframe_image::{CheckpointId, Marks};

/// A moment of a recording.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Moment {
    /// The first checkpoint.
    First,
    /// The last.
    Last,
    /// The one with this number.
    Number(u64),
    /// The last one not later than this after the start; the first, if that is later.
    At(Duration),
    /// The last one not later than this before the last.
    FromEnd(Duration),
    /// The one taken as a fatal signal was about to be delivered.
    Crash,
    /// The one taken as the process was exiting.
    Exit,
    /// The one with this name.
    Tag(String),
    /// The one that carries this name, given by the program.
    Point {
        /// The name.
        name: String,
        /// Which of them, counted from 1; the last without it.
        number: Option<u64>,
    },
}

/// Longest name of a moment, bytes.
pub const LONGEST_TAG: usize = 64;

/// Whether a moment may be called this: a letter or `_`, then letters, digits, `_`, `-` or `.`, at
/// most 64 of them; and no word that means a moment already. So no name looks like another form
/// of moment, which begin with a digit, a point or a minus.
pub fn is_tag(text: &str) -> bool {
    let reserved = matches!(text, "first" | "last" | "crash" | "exit");
    let begins = |b: u8| b.is_ascii_alphabetic() || b == b'_';
    let goes_on = |b: u8| b.is_ascii_alphanumeric() || matches!(b, b'_' | b'-' | b'.');
    !reserved
        && text.len() <= LONGEST_TAG
        && text.bytes().next().is_some_and(begins)
        && text.bytes().all(goes_on)
}

/// What comes before the name of a point.
const POINT: &str = "point:";

impl std::str::FromStr for Moment {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        let wrong = || Error::MomentSyntax(text.chars().take(80).collect());
        match text {
            "first" => return Ok(Self::First),
            "last" => return Ok(Self::Last),
            "crash" => return Ok(Self::Crash),
            "exit" => return Ok(Self::Exit),
            _ if is_tag(text) => return Ok(Self::Tag(text.to_owned())),
            _ => {}
        }
        if let Some(name) = text.strip_prefix(POINT) {
            return point(name).ok_or_else(wrong);
        }
        if !text.is_empty() && text.bytes().all(|b| b.is_ascii_digit()) {
            return text.parse().map(Self::Number).map_err(|_| wrong());
        }
        match text.strip_prefix('-') {
            Some(rest) => duration(rest).map(Self::FromEnd),
            None => duration(text).map(Self::At),
        }
        .ok_or_else(wrong)
    }
}

/// `NAME` or `NAME#3`. A name that itself ends so needs a number behind it.
fn point(text: &str) -> Option<Moment> {
    let numbered = text.rsplit_once('#').and_then(|(name, number)| {
        let digits = number.bytes().all(|b| b.is_ascii_digit());
        Some((name, number.parse().ok().filter(|n| digits && *n > 0)?))
    });
    let (name, number) = match numbered {
        Some((name, number)) => (name, Some(number)),
        None => (text, None),
    };
    (!name.is_empty()).then(|| Moment::Point {
        name: name.to_owned(),
        number,
    })
}

/// A number with a unit: ns, us, ms, s, m or h. At most nine decimals count.
fn duration(text: &str) -> Option<Duration> {
    let digits = text
        .bytes()
        .take_while(|b| b.is_ascii_digit() || *b == b'.')
        .count();
    let (number, unit) = text.split_at(digits);
    let unit_ns: u128 = match unit {
        "ns" => 1,
        "us" => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60_000_000_000,
        "h" => 3_600_000_000_000,
        _ => return None,
    };
    let (whole, part) = number.split_once('.').unwrap_or((number, ""));
    if (whole.is_empty() && part.is_empty()) || part.contains('.') || part.len() > 9 {
        return None;
    }
    let whole: u128 = if whole.is_empty() {
        0
    } else {
        u128::from(whole.parse::<u64>().ok()?)
    };
    let billionths: u128 = if part.is_empty() {
        0
    } else {
        u128::from(format!("{part:0<9}").parse::<u64>().ok()?)
    };
    let ns = whole * unit_ns + billionths * unit_ns / 1_000_000_000;
    u64::try_from(ns).ok().map(Duration::from_nanos)
}

impl fmt::Display for Moment {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::First => f.write_str("first"),
            Self::Last => f.write_str("last"),
            Self::Number(n) => write!(f, "{n}"),
            Self::At(d) => write!(f, "{}", Shown(*d)),
            Self::FromEnd(d) => write!(f, "-{}", Shown(*d)),
            Self::Crash => f.write_str("crash"),
            Self::Exit => f.write_str("exit"),
            Self::Tag(name) => f.write_str(name),
            Self::Point { name, number } => {
                write!(f, "{POINT}{name}")?;
                number.map_or(Ok(()), |n| write!(f, "#{n}"))
            }
        }
    }
}

/// A duration that parses back to itself.
struct Shown(Duration);

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (s, ns) = (self.0.as_secs(), self.0.subsec_nanos());
        if ns == 0 {
            return write!(f, "{s}s");
        }
        let part = format!("{ns:09}");
        write!(f, "{s}.{}s", part.trim_end_matches('0'))
    }
}

impl Moment {
    /// The checkpoint it means, among `rows` of a recording of `length_ns`. Points are not in rows,
    /// and not found here.
    pub(crate) fn find(
        &self,
        rows: &[Row],
        length_ns: u64,
        ledger: &Ledger,
    ) -> Option<CheckpointId> {
        let first = rows.first()?;
        let last = rows.last()?;
        let up_to = |ns: u64| {
            let after = rows.partition_point(|r| r.tick.at_ns <= ns);
            after.checked_sub(1).and_then(|i| rows.get(i)).map(|r| r.id)
        };
        let marked = |mark| {
            rows.iter()
                .rfind(|r| r.tick.marks.contains(mark))
                .map(|r| r.id)
        };
        let numbered = |id: CheckpointId| rows.binary_search_by_key(&id, |r| r.id).ok().map(|_| id);
        match self {
            Self::First => Some(first.id),
            Self::Last => Some(last.id),
            Self::Number(n) => numbered(CheckpointId(*n)),
            Self::Tag(name) => ledger.tags.get(name).copied().and_then(numbered),
            Self::At(d) => {
                let ns = u64::try_from(d.as_nanos())
                    .ok()
                    .filter(|ns| *ns <= length_ns)?;
                up_to(ns).or(Some(first.id))
            }
            Self::FromEnd(d) => {
                let back = u64::try_from(d.as_nanos()).ok()?;
                last.tick.at_ns.checked_sub(back).and_then(up_to)
            }
            Self::Crash => marked(Marks::CRASH),
            Self::Exit => marked(Marks::EXIT),
            Self::Point { .. } => None,
        }
    }
}

/// What moments a recording has, as a clause.
pub(crate) fn available(rows: &[Row], ledger: &Ledger, dir: &Path) -> String {
    let (Some(first), Some(last)) = (rows.first(), rows.last()) else {
        return format!("{} has no checkpoint", dir.display());
    };
    let seconds = |ns: u64| format!("{:.3}s", Duration::from_nanos(ns).as_secs_f64());
    let tags: Vec<String> = ledger
        .tags
        .keys()
        .take(20)
        .map(|t| format!(", {t}"))
        .collect();
    let marks: Vec<String> = [
        (Marks::CRASH, "crash"),
        (Marks::EXIT, "exit"),
        (Marks::POINT, "points"),
    ]
    .into_iter()
    .filter(|(mark, _)| rows.iter().any(|r| r.tick.marks.contains(*mark)))
    .map(|(_, name)| format!(", {name}"))
    .collect();
    format!(
        "{} has checkpoints {} to {}, from {} to {}, first, last{}{}",
        dir.display(),
        first.id,
        last.id,
        seconds(first.tick.at_ns),
        seconds(last.tick.at_ns),
        marks.concat(),
        tags.concat()
    )
}

/// What to say of a moment that was removed, if it was: a number, or a name's.
pub(crate) fn removed(number: u64, rows: &[Row], ledger: &Ledger) -> Option<String> {
    if !ledger.removed.contains(number) {
        return None;
    }
    let after = rows.partition_point(|r| r.id.0 < number);
    let before = after.checked_sub(1).and_then(|i| rows.get(i));
    Some(match (before, rows.get(after)) {
        (Some(a), Some(b)) => format!("it was removed, its neighbours are {} and {}", a.id, b.id),
        (Some(a), None) => format!("it was removed, the last before it is {}", a.id),
        (None, Some(b)) => format!("it was removed, the first after it is {}", b.id),
        (None, None) => "it was removed, and nothing is left".to_owned(),
    })
}

/// Splits `REC@42` into the recording's path and the moment. A path that itself has an `@` is taken
/// whole if it exists. The name of a point may have one.
///
/// # Errors
/// If what follows the last `@` is not a moment.
pub fn split_moment(text: &str) -> Result<(PathBuf, Option<Moment>), Error> {
    if let Some((path, name)) = text.split_once("@point:")
        && !name.is_empty()
        && !Path::new(text).exists()
    {
        let moment = text.get(path.len() + 1..).unwrap_or_default().parse()?;
        return Ok((path.into(), Some(moment)));
    }
    match text.rsplit_once('@') {
        None => Ok((text.into(), None)),
        Some((path, moment)) => match moment.parse() {
            Ok(Moment::Tag(_)) if Path::new(text).exists() => Ok((text.into(), None)),
            Ok(moment) => Ok((path.into(), Some(moment))),
            Err(_) if Path::new(text).exists() => Ok((text.into(), None)),
            Err(e) => Err(e),
        },
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stillframe_image::Tick;

    fn rows() -> Vec<Row> {
        [
            (0, 3_000_000, 1),
            (1, 1_000_000_000, 0),
            (2, 2_000_000_000, 0),
            (5, 2_500_000_000, 2),
        ]
        .map(|(id, at_ns, marks)| Row {
            id: CheckpointId(id),
            tick: Tick {
                at_ns,
                marks: Marks(marks),
                ..Tick::default()
            },
            ..Row::default()
        })
        .to_vec()
    }

    fn named(name: &str, number: Option<u64>) -> Moment {
        Moment::Point {
            name: name.to_owned(),
            number,
        }
    }

    #[test]
    fn what_people_write() {
        for (text, want) in [
            ("42", Some(Moment::Number(42))),
            ("12.5s", Some(Moment::At(Duration::from_millis(12_500)))),
            ("500ms", Some(Moment::At(Duration::from_millis(500)))),
            ("-3s", Some(Moment::FromEnd(Duration::from_secs(3)))),
            (".5s", Some(Moment::At(Duration::from_millis(500)))),
            ("2m", Some(Moment::At(Duration::from_secs(120)))),
            ("first", Some(Moment::First)),
            ("last", Some(Moment::Last)),
            ("crash", Some(Moment::Crash)),
            ("exit", Some(Moment::Exit)),
            ("before-42.x_", Some(Moment::Tag("before-42.x_".into()))),
            ("_", Some(Moment::Tag("_".into()))),
            ("a b", None),
            ("point:epoch done", Some(named("epoch done", None))),
            ("point:a#3", Some(named("a", Some(3)))),
            ("point:a#3#1", Some(named("a#3", Some(1)))),
            ("point:a#", Some(named("a#", None))),
            ("point:a#0", Some(named("a#0", None))),
            ("point:a#+1", Some(named("a#+1", None))),
            ("point:", None),
            ("point:#1", None),
            ("", None),
            ("-", None),
            ("s", Some(Moment::Tag("s".into()))),
            (".s", None),
            ("1.2.3s", None),
            ("-3", None),
            ("12parsecs", None),
            ("99999999999999999999", None),
            ("99999999999999999999s", None),
            ("99999999999999999s", None),
        ] {
            assert_eq!(text.parse::<Moment>().ok(), want, "{text}");
        }
    }

    #[test]
    fn what_they_mean() {
        let rows = rows();
        let mut ledger = Ledger::default();
        ledger.removed.add(3, 5);
        ledger.tags.insert("before-it".into(), CheckpointId(2));
        ledger.tags.insert("gone".into(), CheckpointId(3));
        for (text, want) in [
            ("before-it", Some(2)),
            ("gone", None),
            ("nowhere", None),
            ("first", Some(0)),
            ("last", Some(5)),
            ("1", Some(1)),
            ("3", None),
            ("0s", Some(0)),
            ("999ms", Some(0)),
            ("1s", Some(1)),
            ("2.4s", Some(2)),
            ("2.9s", Some(5)),
            ("3.1s", None),
            ("-0s", Some(5)),
            ("-1s", Some(1)),
            ("-3s", None),
            ("crash", Some(5)),
            ("exit", None),
        ] {
            let found = text
                .parse::<Moment>()
                .unwrap()
                .find(&rows, 3_000_000_000, &ledger);
            assert_eq!(found.map(|c| c.0), want, "{text}");
        }
        assert_eq!(
            available(&rows, &ledger, Path::new("r.still")),
            "r.still has checkpoints 0 to 5, from 0.003s to 2.500s, first, last, crash, before-it, \
             gone"
        );
        assert_eq!(
            removed(4, &rows, &ledger).unwrap(),
            "it was removed, its neighbours are 2 and 5"
        );
        assert_eq!(removed(1, &rows, &ledger), None);
    }

    #[test]
    fn splitting() {
        assert_eq!(
            split_moment("a@b/r@7").unwrap(),
            ("a@b/r".into(), Some(Moment::Number(7)))
        );
        assert_eq!(split_moment("r.still").unwrap(), ("r.still".into(), None));
        assert!(split_moment("r@no/where").is_err());
        assert_eq!(
            split_moment("r@here").unwrap(),
            ("r".into(), Some(Moment::Tag("here".into())))
        );
        let (path, moment) = split_moment("a@b/r@point:me@home#2").unwrap();
        assert_eq!(path, Path::new("a@b/r"));
        assert_eq!(moment, Some(named("me@home", Some(2))));
        assert_eq!(moment.unwrap().to_string(), "point:me@home#2");
    }

    proptest! {
        #[test]
        fn shown_moments_parse_back(ns in 0u64..=u64::MAX, back: bool) {
            let d = Duration::from_nanos(ns);
            let m = if back { Moment::FromEnd(d) } else { Moment::At(d) };
            prop_assert_eq!(m.to_string().parse::<Moment>().unwrap(), m);
        }

        #[test]
        fn any_text_is_refused_or_understood(text in ".*") {
            let _ = split_moment(&text);
        }
    }
}
