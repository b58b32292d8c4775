//! Requests that set breakpoints. What they mean is in [`super::super::breakpoints`].

use super::super::arguments::{
    DataBreakpointInfo, FunctionBreakpoint, Launch, OfLine, SetBreakpoints, SetDataBreakpoints,
    SetExceptionBreakpoints, SetFunctionBreakpoints, SourceBreakpoint,
};
use super::super::bodies;
use super::super::breakpoints::{Breakpoint, DataBreakpoint, HitRule, MOST, Spot};
use super::super::debuggee::{Debuggee, Failure, Watch};
use super::super::wire::{Outbox, Request};
use super::answers::address;
use super::capabilities::FILTERS;
use super::handles::Shown;
use super::{Session, read};
use serde_json::{Value, json};
use stillframe_image::Marks;

/// How far below a line without code the breakpoint may slide.
const SLIDE: u64 = 100;
/// Most bytes watched by one breakpoint.
const WATCHED: u64 = 1 << 20;

/// What breakpoints on code mean, in short, for clients that show it.
const MEANING: &str = "stops at checkpoints where a thread stands here";

impl<D, O> Session<D, O>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    fn number(&mut self) -> i64 {
        let number = self.next_breakpoint;
        self.next_breakpoint = number.saturating_add(1);
        number
    }

    /// Puts breakpoints of all files and functions into one list.
    fn gather(&mut self) {
        let lines = self.files.values().flatten();
        self.stops.code = lines.chain(&self.functions).cloned().collect();
    }

    pub(super) fn set_breakpoints(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: SetBreakpoints = read(request)?;
        let path = self.path_in(asked.source.path.as_deref())?;
        let wanted = match asked.breakpoints {
            Some(wanted) => wanted,
            None => {
                let line = |line| SourceBreakpoint {
                    line,
                    ..SourceBreakpoint::default()
                };
                asked.lines.into_iter().map(line).collect()
            }
        };
        too_many(wanted.len())?;
        let lines = self.debuggee()?.lines(&path)?;
        let mut set = Vec::new();
        let mut shown = Vec::new();
        for one in wanted {
            let id = self.number();
            let mut body = bodies::Breakpoint {
                id,
                line: Some(one.line),
                ..bodies::Breakpoint::default()
            };
            match self.on_line(id, &path, lines.as_deref(), one) {
                Ok(breakpoint) => {
                    if let Spot::Line(_, line) = &breakpoint.spot {
                        body.line = Some(self.line_out(*line));
                    }
                    body.verified = true;
                    body.message = Some(MEANING.to_owned());
                    body.source = Some(self.source_out(&path)?);
                    set.push(breakpoint);
                }
                Err(why) => body.message = Some(why),
            }
            shown.push(body);
        }
        match set.is_empty() {
            true => self.files.remove(&path),
            false => self.files.insert(path, set),
        };
        self.gather();
        out.respond(request, &json!({ "breakpoints": shown }));
        Ok(())
    }

    fn on_line(
        &self,
        id: i64,
        path: &str,
        lines: Option<&[u64]>,
        one: SourceBreakpoint,
    ) -> Result<Breakpoint, String> {
        let line = self.line_in(one.line);
        let lines = lines.ok_or("the debug information of this process has no such file")?;
        let code = lines.get(lines.partition_point(|l| *l < line)).copied();
        let line = code
            .filter(|l| *l - line <= SLIDE)
            .ok_or("there is no code on this line or just below it")?;
        Ok(Breakpoint {
            id,
            spot: Spot::Line(path.to_owned(), line),
            condition: worth(one.condition),
            hits: rule(one.hit_condition)?,
            log: worth(one.log_message),
            count: 0,
        })
    }

    pub(super) fn set_function_breakpoints(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: SetFunctionBreakpoints = read(request)?;
        too_many(asked.breakpoints.len())?;
        let mut set = Vec::new();
        let mut shown = Vec::new();
        for one in asked.breakpoints {
            let id = self.number();
            let mut body = bodies::Breakpoint {
                id,
                ..bodies::Breakpoint::default()
            };
            match self.on_function(id, one)? {
                Ok(breakpoint) => {
                    body.verified = true;
                    body.message = Some(MEANING.to_owned());
                    set.push(breakpoint);
                }
                Err(why) => body.message = Some(why),
            }
            shown.push(body);
        }
        self.functions = set;
        self.gather();
        out.respond(request, &json!({ "breakpoints": shown }));
        Ok(())
    }

    fn on_function(
        &mut self,
        id: i64,
        one: FunctionBreakpoint,
    ) -> Result<Result<Breakpoint, String>, Failure> {
        let name = one.name.trim().to_owned();
        if name.is_empty() || !self.debuggee()?.has_function(&name)? {
            return Ok(Err(format!(
                "no function of this process is called {name:?}"
            )));
        }
        Ok(rule(one.hit_condition).map(|hits| Breakpoint {
            id,
            spot: Spot::Function(name),
            condition: worth(one.condition),
            hits,
            log: None,
            count: 0,
        }))
    }

    pub(super) fn set_exception_breakpoints(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: SetExceptionBreakpoints = read(request)?;
        let mut marks = Marks::default();
        let mut tags = false;
        let mut shown = Vec::new();
        for name in &asked.filters {
            let known = FILTERS.iter().find(|(filter, _)| filter == name);
            match known {
                Some((_, Some(mark))) => marks = marks.with(*mark),
                Some((_, None)) => tags = true,
                None => {}
            }
            shown.push(bodies::Breakpoint {
                id: self.number(),
                verified: known.is_some(),
                message: known
                    .is_none()
                    .then(|| format!("{name:?} is no sort of moment")),
                ..bodies::Breakpoint::default()
            });
        }
        self.stops.marks = marks;
        self.stops.tags = tags;
        out.respond(request, &json!({ "breakpoints": shown }));
        Ok(())
    }

    pub(super) fn breakpoint_locations(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: OfLine = read(request)?;
        let path = self.path_in(asked.source.path.as_deref())?;
        let from = self.line_in(asked.line);
        let to = asked.end_line.map_or(from, |line| self.line_in(line));
        let lines = self.debuggee()?.lines(&path)?.unwrap_or_default();
        let found: Vec<Value> = lines
            .into_iter()
            .filter(|line| (from..=to).contains(line))
            .map(|line| json!({ "line": self.line_out(line) }))
            .collect();
        out.respond(request, &json!({ "breakpoints": found }));
        Ok(())
    }

    pub(super) fn data_breakpoint_info(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: DataBreakpointInfo = read(request)?;
        let (watch, shown) = match self.watchable(&asked)? {
            Ok(found) => found,
            Err(why) => {
                out.respond(request, &json!({ "dataId": null, "description": why }));
                return Ok(());
            }
        };
        // An address is one of this recording; an expression may be of any.
        let persists = matches!(watch, Watch::Expression(_));
        out.respond(
            request,
            &json!({
                "dataId": data_id(&watch, &shown),
                "description": shown,
                "accessTypes": ["write"],
                "canPersist": persists,
            }),
        );
        Ok(())
    }

    /// What of a request can be watched; the inner error is for the user, and no failure.
    fn watchable(
        &mut self,
        asked: &DataBreakpointInfo,
    ) -> Result<Result<(Watch, String), String>, Failure> {
        let length = asked.bytes.and_then(|n| u64::try_from(n).ok());
        if asked.as_address {
            let length = length.unwrap_or(8);
            if length == 0 || length > WATCHED {
                return Ok(Err(format!("1 to {WATCHED} bytes can be watched")));
            }
            let address = address(&asked.name)?;
            let shown = format!("{length} bytes at {address:#x}");
            return Ok(Ok((Watch::Bytes { address, length }, shown)));
        }
        let container = asked.variables_reference.filter(|r| *r != 0);
        let shown = match container {
            Some(container) => {
                self.handles.node_of(container)?;
                let shown = self.handles.was_shown(container, &asked.name).cloned();
                match shown {
                    Some(shown) => shown,
                    None => return Ok(Err(format!("{:?} was not shown there", asked.name))),
                }
            }
            None => {
                let frame = self.frame(asked.frame_id)?;
                let item = self.debuggee()?.evaluate(frame, &asked.name, false)?;
                Shown {
                    memory: item.memory,
                    expression: Some(asked.name.clone()),
                }
            }
        };
        // An expression of globals keeps its meaning whatever the frame, and follows pointers.
        if let Some(expression) = &shown.expression
            && let Ok(item) = self.debuggee()?.evaluate(None, expression, false)
            && item.memory == shown.memory
        {
            return Ok(Ok((
                Watch::Expression(expression.clone()),
                expression.clone(),
            )));
        }
        Ok(match shown.memory {
            Some((address, size @ 1..=WATCHED)) => {
                let length = length.filter(|n| (1..=WATCHED).contains(n)).unwrap_or(size);
                let name = shown.expression.as_ref().unwrap_or(&asked.name);
                Ok((
                    Watch::Bytes { address, length },
                    format!("{name} ({length} bytes at {address:#x})"),
                ))
            }
            Some((_, size)) => Err(format!(
                "{} has {size} bytes; 1 to {WATCHED} can be watched",
                asked.name
            )),
            None => Err(format!(
                "{} is not in memory; only what has an address can be watched",
                asked.name
            )),
        })
    }

    pub(super) fn set_data_breakpoints(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: SetDataBreakpoints = read(request)?;
        too_many(asked.breakpoints.len())?;
        let mut set = Vec::new();
        let mut shown = Vec::new();
        for one in asked.breakpoints {
            let id = self.number();
            let mut body = bodies::Breakpoint {
                id,
                ..bodies::Breakpoint::default()
            };
            let parsed = watched(&one.data_id).and_then(|(watch, name)| {
                if one.access_type.as_deref() == Some("read") {
                    return Err("reads leave no trace in a recording".to_owned());
                }
                Ok((watch, name, rule(one.hit_condition)?))
            });
            match parsed {
                Ok((watch, name, hits)) => {
                    body.verified = true;
                    body.message = Some(format!("stops where the value of {name} changed"));
                    set.push(DataBreakpoint {
                        id,
                        watch,
                        shown: name,
                        condition: worth(one.condition),
                        hits,
                        count: 0,
                    });
                }
                Err(why) => body.message = Some(why),
            }
            shown.push(body);
        }
        self.stops.data = set;
        out.respond(request, &json!({ "breakpoints": shown }));
        Ok(())
    }
}

fn too_many(count: usize) -> Result<(), Failure> {
    match count {
        0..=MOST => Ok(()),
        _ => Err(Failure::told(format!(
            "at most {MOST} breakpoints can be set"
        ))),
    }
}

fn worth(text: Option<String>) -> Option<String> {
    text.filter(|t| !t.trim().is_empty())
}

fn rule(text: Option<String>) -> Result<Option<HitRule>, String> {
    worth(text).map(|t| HitRule::parse(&t)).transpose()
}

/// What is watched, as a client keeps it: `=EXPRESSION`, or `@ADDRESS:LENGTH NAME`.
fn data_id(watch: &Watch, shown: &str) -> String {
    match watch {
        Watch::Expression(text) => format!("={text}"),
        Watch::Bytes { address, length } => format!("@{address:#x}:{length} {shown}"),
    }
}

fn watched(data_id: &str) -> Result<(Watch, String), String> {
    let wrong = || {
        let shown: String = data_id.chars().take(60).collect();
        format!("{shown:?} is no dataId of this adapter; ask dataBreakpointInfo")
    };
    if let Some(text) = data_id.strip_prefix('=') {
        return Ok((Watch::Expression(text.to_owned()), text.to_owned()));
    }
    let rest = data_id.strip_prefix('@').ok_or_else(wrong)?;
    let (place, shown) = rest.split_once(' ').unwrap_or((rest, rest));
    let (at, length) = place.split_once(':').ok_or_else(wrong)?;
    let at = address(at).map_err(|_| wrong())?;
    let length: u64 = length.parse().map_err(|_| wrong())?;
    if length == 0 || length > WATCHED || at.checked_add(length).is_none() {
        return Err(wrong());
    }
    Ok((
        Watch::Bytes {
            address: at,
            length,
        },
        shown.to_owned(),
    ))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn data_ids_come_back() {
        for (watch, shown) in [
            (Watch::Expression("a.b[1]".to_owned()), "a.b[1]"),
            (
                Watch::Bytes {
                    address: 0x7f00,
                    length: 4,
                },
                "count (4 bytes at 0x7f00)",
            ),
        ] {
            let id = data_id(&watch, shown);
            assert_eq!(watched(&id), Ok((watch, shown.to_owned())));
        }
        for bad in [
            "",
            "x",
            "@",
            "@0x10",
            "@0x10:",
            "@0x10:0",
            "@zz:4",
            "@0xffffffffffffffff:8",
        ] {
            assert!(watched(bad).is_err(), "{bad}");
        }
    }
}
