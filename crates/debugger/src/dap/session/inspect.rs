//! Looking around at one moment.

use super::super::arguments::{
    Completions, Disassemble, Evaluate, Format, Launch, Modules, OfFrame, OfThread, ReadMemory,
    SourceArguments, StackTrace, Variables,
};
use super::super::bodies::{Instruction, Module, Scope, StackFrame, Thread, Variable};
use super::super::debuggee::{Debuggee, Failure, Filter, FrameId, Page, ScopeKind};
use super::super::wire::{Outbox, Request};
use super::answers::{address, base64};
use super::{Session, read, tid_of};
use serde_json::json;

/// Frames of a stack that are ever given out. A stack deeper than that is not read to its end.
const FRAMES: usize = 10_000;
/// Parts given out when a client asks for all of them, and at most.
const PARTS: (u64, u64) = (1_000, 100_000);
/// Most bytes of memory in one answer.
const BYTES: i64 = 1 << 20;
/// Most instructions in one answer.
const INSTRUCTIONS: i64 = 10_000;
/// Most modules and sources in one answer.
const FILES: usize = 20_000;

fn amount(of: Option<i64>, name: &str) -> Result<u64, Failure> {
    u64::try_from(of.unwrap_or(0)).map_err(|_| Failure::told(format!("{name} is negative")))
}

impl<D, O> Session<D, O>
where
    D: Debuggee,
    O: FnMut(&Launch) -> Result<D, Failure>,
{
    pub(super) fn threads(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let threads = self.debuggee()?.threads()?;
        self.threads.extend(threads.iter().map(|t| t.tid));
        let threads: Vec<Thread> = threads
            .into_iter()
            .map(|t| Thread {
                id: i64::from(t.tid),
                name: match &t.signal {
                    Some(signal) => format!("{} ({}, {})", t.name, t.tid, signal.name),
                    None => format!("{} ({})", t.name, t.tid),
                },
            })
            .collect();
        out.respond(request, &json!({ "threads": threads }));
        Ok(())
    }

    pub(super) fn stack_trace(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: StackTrace = read(request)?;
        let tid = tid_of(asked.thread_id)?;
        let start = usize::try_from(amount(asked.start_frame, "startFrame")?).unwrap_or(FRAMES);
        let levels = match usize::try_from(amount(asked.levels, "levels")?) {
            Ok(0) | Err(_) => FRAMES,
            Ok(n) => n,
        };
        let end = start.saturating_add(levels).min(FRAMES);
        // One more than wanted tells whether there are more.
        let frames = self.debuggee()?.frames(tid, end.saturating_add(1))?;
        let complete = frames.len() <= end;
        let total = if complete { frames.len() } else { end + 1 };
        let mut shown = Vec::new();
        for (level, frame) in frames.iter().enumerate().take(end).skip(start) {
            let source = match &frame.place {
                Some(place) => Some(self.source_out(&place.path)?),
                None => None,
            };
            let place = frame.place.as_ref();
            shown.push(StackFrame {
                id: self.handles.frame(FrameId { tid, level })?,
                name: if frame.inlined {
                    format!("{} [inlined]", frame.name)
                } else {
                    frame.name.clone()
                },
                presentation_hint: source.is_none().then_some("subtle"),
                source,
                line: place.map_or(0, |p| self.line_out(p.line)),
                column: place.map_or(0, |p| self.column_out(p.column)),
                instruction_pointer_reference: format!("{:#x}", frame.pc),
                module_id: frame.module.and_then(|m| i64::try_from(m).ok()),
            });
        }
        self.focus = Some(tid);
        out.respond(
            request,
            &json!({ "stackFrames": shown, "totalFrames": total }),
        );
        Ok(())
    }

    pub(super) fn scopes(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: OfFrame = read(request)?;
        let frame = self.handles.frame_of(asked.frame_id)?;
        let mut shown = Vec::new();
        for scope in self.debuggee()?.scopes(frame)? {
            let (name, presentation_hint, expensive) = match scope.kind {
                ScopeKind::Arguments => ("Arguments", Some("arguments"), false),
                ScopeKind::Locals => ("Locals", Some("locals"), false),
                ScopeKind::Globals => ("Globals", None, true),
                ScopeKind::Registers => ("Registers", Some("registers"), true),
            };
            shown.push(Scope {
                name,
                presentation_hint,
                variables_reference: self.handles.node(scope.node)?,
                named_variables: scope.count,
                expensive,
            });
        }
        out.respond(request, &json!({ "scopes": shown }));
        Ok(())
    }

    pub(super) fn variables(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: Variables = read(request)?;
        let node = self.handles.node_of(asked.variables_reference)?;
        let wanted = amount(asked.count, "count")?;
        let (some, most) = PARTS;
        let count = if wanted == 0 { some } else { wanted.min(most) };
        let page = Page {
            filter: match asked.filter.as_deref() {
                Some("indexed") => Filter::Indexed,
                Some("named") => Filter::Named,
                _ => Filter::All,
            },
            start: amount(asked.start, "start")?,
            // One more than wanted tells whether there are more.
            count: count + u64::from(wanted == 0),
            hex: asked.format.unwrap_or_default().hex,
        };
        let mut items = self.debuggee()?.parts(&node, page)?;
        let more = items.len() as u64 > count;
        items.truncate(usize::try_from(count).unwrap_or(usize::MAX));
        let mut shown = Vec::with_capacity(items.len());
        for item in &items {
            self.handles.show(asked.variables_reference, item);
            shown.push(self.variable_out(item)?);
        }
        if more && wanted == 0 {
            shown.push(Variable {
                name: "...".to_owned(),
                value: format!(
                    "more than {count}; evaluate a slice such as x[{count}..{}]",
                    2 * count
                ),
                ..Variable::default()
            });
        }
        out.respond(request, &json!({ "variables": shown }));
        Ok(())
    }

    pub(super) fn evaluate(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: Evaluate = read(request)?;
        let frame = self.frame(asked.frame_id)?;
        let text = asked.expression.trim();
        if asked.context.as_deref() == Some("repl")
            && let Some(command) = text.strip_prefix(':')
        {
            return self.command(request, command, frame, out);
        }
        let Format { hex } = asked.format.unwrap_or_default();
        let item = self.debuggee()?.evaluate(frame, text, hex)?;
        let body = self.evaluated_out(&item)?;
        out.respond(request, &body);
        Ok(())
    }

    pub(super) fn completions(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        const MOST: usize = 200;
        let asked: Completions = read(request)?;
        let frame = self.frame(asked.frame_id)?;
        let column = asked.column.saturating_sub(self.client.first_column);
        let column = usize::try_from(column).unwrap_or(0);
        let typed: String = asked.text.chars().take(column).collect();
        let begun = typed
            .rfind(|c: char| !(c.is_alphanumeric() || matches!(c, '_' | ':' | '$')))
            .map_or(0, |at| {
                at + typed[at..].chars().next().map_or(1, char::len_utf8)
            });
        let prefix = &typed[begun..];
        let commands = super::own::COMMANDS
            .iter()
            .map(|(name, _)| format!(":{name}"))
            .filter(|c| begun == 0 && prefix.starts_with(':') && c.starts_with(prefix));
        let mut found: Vec<String> = commands.collect();
        if found.is_empty() && !prefix.starts_with(':') {
            found = self.debuggee()?.completions(frame, prefix)?;
        }
        let start = typed[..begun].chars().count();
        let targets: Vec<_> = found
            .iter()
            .take(MOST)
            .map(
                |label| json!({ "label": label, "start": start, "length": prefix.chars().count() }),
            )
            .collect();
        out.respond(request, &json!({ "targets": targets }));
        Ok(())
    }

    pub(super) fn read_memory(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: ReadMemory = read(request)?;
        let from = address(&asked.memory_reference)?
            .checked_add_signed(asked.offset)
            .ok_or_else(|| Failure::told("the offset leads out of memory"))?;
        if !(0..=BYTES).contains(&asked.count) {
            return Err(Failure::told(format!(
                "count is {}; at most {BYTES} bytes are read at a time",
                asked.count
            )));
        }
        let mut bytes = vec![0; usize::try_from(asked.count).unwrap_or(0)];
        let readable = self.debuggee()?.read(from, &mut bytes);
        let mut body = json!({ "address": format!("{from:#x}") });
        if readable > 0 {
            body["data"] = json!(base64(bytes.get(..readable).unwrap_or_default()));
        }
        if readable < bytes.len() {
            body["unreadableBytes"] = json!(bytes.len() - readable);
        }
        out.respond(request, &body);
        Ok(())
    }

    pub(super) fn disassemble(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: Disassemble = read(request)?;
        let from = address(&asked.memory_reference)?
            .checked_add_signed(asked.offset)
            .ok_or_else(|| Failure::told("the offset leads out of memory"))?;
        if !(0..=INSTRUCTIONS).contains(&asked.instruction_count)
            || asked.instruction_offset.unsigned_abs() > INSTRUCTIONS.unsigned_abs()
        {
            return Err(Failure::told(format!(
                "at most {INSTRUCTIONS} instructions are disassembled at a time"
            )));
        }
        let count = asked.instruction_count.unsigned_abs();
        let found = self
            .debuggee()?
            .disassemble(from, asked.instruction_offset, count)?;
        let instructions: Vec<Instruction> = found
            .into_iter()
            .map(|i| {
                let hex: Vec<String> = i.bytes.iter().map(|b| format!("{b:02x}")).collect();
                Instruction {
                    address: format!("{:#x}", i.address),
                    presentation_hint: i.bytes.is_empty().then_some("invalid"),
                    instruction_bytes: (!i.bytes.is_empty()).then(|| hex.join(" ")),
                    instruction: i.text,
                    symbol: i.symbol.filter(|_| asked.resolve_symbols),
                }
            })
            .collect();
        out.respond(request, &json!({ "instructions": instructions }));
        Ok(())
    }

    pub(super) fn modules(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: Modules = read(request)?;
        let start = usize::try_from(amount(asked.start_module, "startModule")?).unwrap_or(FILES);
        let count = match usize::try_from(amount(asked.module_count, "moduleCount")?) {
            Ok(0) | Err(_) => FILES,
            Ok(n) => n.min(FILES),
        };
        let all = self.debuggee()?.modules()?;
        let modules: Vec<Module> = all
            .iter()
            .skip(start)
            .take(count)
            .map(|m| Module {
                id: i64::try_from(m.start).unwrap_or(i64::MAX),
                name: m.path.rsplit('/').next().unwrap_or_default().to_owned(),
                path: Some(m.path.clone()),
                symbol_status: Some(m.status.clone()),
                address_range: Some(format!("{:#x}-{:#x}", m.start, m.end)),
            })
            .collect();
        out.respond(
            request,
            &json!({ "modules": modules, "totalModules": all.len() }),
        );
        Ok(())
    }

    pub(super) fn loaded_sources(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let mut sources = Vec::new();
        for path in self.debuggee()?.sources()?.iter().take(FILES) {
            sources.push(self.source_out(path)?);
        }
        out.respond(request, &json!({ "sources": sources }));
        Ok(())
    }

    pub(super) fn source(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: SourceArguments = read(request)?;
        let path = match asked.source.as_ref().and_then(|s| s.path.as_deref()) {
            Some(path) => self.path_in(Some(path))?,
            None => {
                return Err(Failure::told(format!(
                    "no source has the number {}; ask by path",
                    asked.source_reference
                )));
            }
        };
        let content = self.debuggee()?.source(&path)?;
        out.respond(request, &json!({ "content": content }));
        Ok(())
    }

    pub(super) fn exception_info(
        &mut self,
        request: &Request,
        out: &mut Outbox<'_>,
    ) -> Result<(), Failure> {
        let asked: OfThread = read(request)?;
        let tid = tid_of(asked.thread_id)?;
        let threads = self.debuggee()?.threads()?;
        let signal = threads
            .into_iter()
            .find(|t| t.tid == tid)
            .and_then(|t| t.signal)
            .ok_or_else(|| {
                Failure::told(format!(
                    "no signal is about to be delivered to thread {tid}"
                ))
            })?;
        out.respond(
            request,
            &json!({
                "exceptionId": signal.name,
                "description": signal.description,
                "breakMode": "always",
                "details": { "message": signal.description, "typeName": signal.name },
            }),
        );
        Ok(())
    }
}
