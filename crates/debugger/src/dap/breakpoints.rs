//! Breakpoints of a program that is not running.
//!
//! Between two checkpoints nothing can be stopped at, so a breakpoint is a question about
//! checkpoints: *does a thread stand there?* Precisely:
//!
//! - A **line** is hit by a thread whose innermost frame stands on it, at every checkpoint where that
//!   is so; and by one with a frame further out that stands on it (it called something from there),
//!   unless that very frame stood there at the checkpoint just left. Otherwise one long call would
//!   stop at each of its checkpoints.
//! - A **function** is hit by a thread with a frame of it that it had not at the checkpoint just left:
//!   going forward the first checkpoint of a call, going backward its last.
//! - A **value** is hit by the two checkpoints between which it changed. Going forward the stop is at
//!   the later one, with the new value; going backward at the earlier one, with the old value. That
//!   two equal values had others between them cannot be seen.

use super::debuggee::{Debuggee, Failure, FrameId, FrameInfo, Watch};
use std::collections::BTreeSet;

/// Most breakpoints of all sorts.
pub const MOST: usize = 10_000;
/// Frames looked at per thread; what is further out is not found by breakpoints and steps.
pub const DEPTH: usize = 512;

/// Where a breakpoint is in the program.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Spot {
    /// A line of a file, by the path that the client uses.
    Line(String, u64),
    /// A function.
    Function(String),
}

/// A breakpoint on code.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Breakpoint {
    /// Its number for the client.
    pub id: i64,
    /// Where.
    pub spot: Spot,
    /// Only where this holds.
    pub condition: Option<String>,
    /// Only at these hits.
    pub hits: Option<HitRule>,
    /// Say this and go on; expressions in braces.
    pub log: Option<String>,
    /// Hits so far.
    pub count: u64,
}

/// A breakpoint on a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct DataBreakpoint {
    /// Its number for the client.
    pub id: i64,
    /// What.
    pub watch: Watch,
    /// For people.
    pub shown: String,
    /// Only where this holds.
    pub condition: Option<String>,
    /// Only at these hits.
    pub hits: Option<HitRule>,
    /// Hits so far.
    pub count: u64,
}

/// Which hits count.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum HitRule {
    /// This one.
    Exactly(u64),
    /// This one and later ones.
    From(u64),
    /// Each of so many.
    Every(u64),
}

impl HitRule {
    /// `5`, `==5`, `>5`, `>=5`, `%5`.
    ///
    /// # Errors
    /// With the forms there are.
    pub fn parse(text: &str) -> Result<Self, String> {
        let text = text.trim();
        let (rule, number) = [">=", "==", ">", "%", ""]
            .into_iter()
            .find_map(|p| text.strip_prefix(p).map(|rest| (p, rest.trim())))
            .unwrap_or(("", text));
        let number: u64 = match number.parse() {
            Ok(n) if n > 0 || rule == ">" || rule == ">=" => n,
            _ => {
                return Err(format!(
                    "{text:?} is no hit condition; write 5, >5, >=5 or %5"
                ));
            }
        };
        Ok(match rule {
            ">=" => Self::From(number),
            ">" => Self::From(number.saturating_add(1)),
            "%" => Self::Every(number),
            _ => Self::Exactly(number),
        })
    }

    /// Whether the `count`th hit counts.
    pub const fn takes(self, count: u64) -> bool {
        match self {
            Self::Exactly(n) => count == n,
            Self::From(n) => count >= n,
            Self::Every(n) => count.is_multiple_of(n),
        }
    }
}

/// A thread at a breakpoint.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Hit {
    /// Position in the list of breakpoints.
    pub breakpoint: usize,
    /// Who and where.
    pub frame: FrameId,
}

/// Frames further out that stand at a breakpoint: (breakpoint, thread, its frame address).
pub type Standing = BTreeSet<(usize, u32, Option<u64>)>;

/// Threads at breakpoints where we stand, and what has to be known of it at the next checkpoint.
///
/// # Errors
/// If threads cannot be read.
pub fn standing<D: Debuggee>(
    debuggee: &mut D,
    breakpoints: &[Breakpoint],
    before: &Standing,
) -> Result<(Vec<Hit>, Standing), Failure> {
    let mut hits = Vec::new();
    let mut now = Standing::new();
    for thread in debuggee.threads()? {
        // A thread whose stack cannot be followed does not hide the others.
        let Ok(frames) = debuggee.frames(thread.tid, DEPTH) else {
            continue;
        };
        for (level, frame) in frames.iter().enumerate() {
            for (i, breakpoint) in breakpoints.iter().enumerate() {
                if !is_at(debuggee, frame, &breakpoint.spot) {
                    continue;
                }
                let key = (i, thread.tid, frame.cfa);
                let always = level == 0 && matches!(breakpoint.spot, Spot::Line(..));
                if always || !before.contains(&key) {
                    let frame = FrameId {
                        tid: thread.tid,
                        level,
                    };
                    if !hits
                        .iter()
                        .any(|h: &Hit| h.breakpoint == i && h.frame.tid == frame.tid)
                    {
                        hits.push(Hit {
                            breakpoint: i,
                            frame,
                        });
                    }
                }
                now.insert(key);
            }
        }
    }
    Ok((hits, now))
}

/// Whether a frame stands at a spot.
fn is_at<D: Debuggee>(debuggee: &mut D, frame: &FrameInfo, spot: &Spot) -> bool {
    match spot {
        Spot::Function(name) => is_called(&frame.name, name),
        Spot::Line(path, line) => match &frame.place {
            Some(place) if place.line == *line => {
                same_path(&debuggee.place_source(&place.path).path, path)
            }
            _ => false,
        },
    }
}

/// Whether a function's full name answers to a name: `f` is `f`, `f(int)` and `f<int>(int)`; `b::f`
/// is `a::b::f(int)`, too; what is between angle brackets or parentheses has no say unless given.
pub fn is_called(full: &str, name: &str) -> bool {
    if full == name {
        return true;
    }
    let bare = bare(full);
    bare == name
        || bare
            .strip_suffix(name)
            .is_some_and(|rest| rest.ends_with("::"))
}

/// A function's name without template arguments and parameters.
fn bare(full: &str) -> String {
    let mut out = String::with_capacity(full.len());
    let mut depth = 0usize;
    for c in full.chars() {
        match c {
            '<' => depth += 1,
            '>' => depth = depth.saturating_sub(1),
            '(' if depth == 0 && !out.is_empty() && !out.ends_with("::") => break,
            _ if depth == 0 => out.push(c),
            _ => {}
        }
    }
    out
}

/// Whether two paths are the same file by their names: without `.`, `..` and doubled slashes.
pub fn same_path(a: &str, b: &str) -> bool {
    a == b || normal(a) == normal(b)
}

/// A path without `.`, `..` and doubled slashes.
pub fn normal(path: &str) -> String {
    let mut parts: Vec<&str> = Vec::new();
    for part in path.split('/') {
        match part {
            "" | "." => {}
            ".." if parts.last().is_some_and(|p| *p != "..") => {
                parts.pop();
            }
            ".." if path.starts_with('/') => {}
            other => parts.push(other),
        }
    }
    let joined = parts.join("/");
    if path.starts_with('/') {
        format!("/{joined}")
    } else {
        joined
    }
}

/// A log message with the expressions in its braces evaluated; `{{` is a brace.
pub fn interpolate<D: Debuggee>(debuggee: &mut D, frame: FrameId, message: &str) -> String {
    let mut out = String::new();
    let mut rest = message;
    while let Some(at) = rest.find(['{', '}']) {
        out.push_str(&rest[..at]);
        let tail = &rest[at..];
        if let Some(after) = tail.strip_prefix("{{") {
            out.push('{');
            rest = after;
        } else if let Some(after) = tail.strip_prefix("}}") {
            out.push('}');
            rest = after;
        } else if let Some(inside) = tail.strip_prefix('{')
            && let Some(end) = inside.find('}')
        {
            match debuggee.evaluate(Some(frame), &inside[..end], false) {
                Ok(item) => out.push_str(&item.value),
                Err(e) => out.push_str(&format!("<{e}>")),
            }
            rest = &inside[end + 1..];
        } else {
            out.push_str(&tail[..1]);
            rest = &tail[1..];
        }
    }
    out.push_str(rest);
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn hit_rules() {
        assert_eq!(HitRule::parse("5"), Ok(HitRule::Exactly(5)));
        assert_eq!(HitRule::parse(" == 5"), Ok(HitRule::Exactly(5)));
        assert_eq!(HitRule::parse(">= 5"), Ok(HitRule::From(5)));
        assert_eq!(HitRule::parse(">5"), Ok(HitRule::From(6)));
        assert_eq!(HitRule::parse("%3"), Ok(HitRule::Every(3)));
        for bad in ["", "0", "%0", "five", "-1", "5 5", "99999999999999999999"] {
            assert!(HitRule::parse(bad).is_err(), "{bad}");
        }
        assert!(HitRule::Every(3).takes(6) && !HitRule::Every(3).takes(7));
        assert!(HitRule::From(3).takes(4) && !HitRule::From(3).takes(2));
    }

    #[test]
    fn names_of_functions() {
        for (full, name) in [
            ("main", "main"),
            ("Box<long>::area(int) const", "area"),
            ("Box<long>::area(int) const", "Box::area"),
            ("a::b::f(int)", "b::f"),
            ("core::ops::FnOnce::call_once<f, ()>", "call_once"),
            ("(anonymous namespace)::f()", "f"),
        ] {
            assert!(is_called(full, name), "{full} is {name}");
        }
        for (full, name) in [("mainly", "main"), ("a::barf()", "f"), ("g(f)", "f")] {
            assert!(!is_called(full, name), "{full} is not {name}");
        }
    }

    #[test]
    fn paths() {
        assert!(same_path("/a/./b//../c.c", "/a/c.c"));
        assert!(!same_path("/a/c.c", "/b/c.c"));
        assert_eq!(normal("/../../x"), "/x");
        assert_eq!(normal("../x"), "../x");
    }
}
