//! Variables and expressions.

use super::super::debuggee::{Failure, Filter, FrameId, Item, Page, ScopeInfo, ScopeKind};
use super::{Recorded, registers};
use std::sync::Arc;
use stillframe_image::SpaceId;
use stillframe_symbols::expr::{self, Expr};
use stillframe_symbols::globals::globals;
use stillframe_symbols::unwind::{self, Frame, Limits};
use stillframe_symbols::variables::locals;
use stillframe_symbols::{Fault, NoRegisters, Program, Scope, Style, Value};
use stillframe_timeline::machine::ThreadRegisters;
use stillframe_timeline::{Answer, Asked, Machine, Question};

/// Frames looked at for a call of the past.
const DEPTH: usize = 512;

/// Something with parts.
#[derive(Clone, Debug)]
pub enum Node {
    /// A group of variables of a frame.
    Scope(FrameId, Group),
    /// A value, with an expression for it, seen from a frame.
    Value(Value, Option<String>, Option<FrameId>),
}

/// Groups of variables.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// What the function was called with.
    Arguments,
    /// What it made.
    Locals,
    /// What its unit has outside of functions.
    Globals,
    /// The processor's.
    Registers,
}

/// The scope of a frame.
fn scope<'a>(
    program: &'a Program,
    memory: &'a dyn stillframe_symbols::Memory,
    stack: &'a unwind::Stack,
    level: usize,
) -> Option<Scope<'a>> {
    let frame = stack.frames.get(level)?;
    Some(Scope {
        here: stack.here(level),
        ..Scope::new(program, memory, &frame.registers)
    })
}

/// How values are written: types stand beside them.
fn style() -> Style {
    Style {
        elements: 64,
        depth: 3,
        bytes: 1000,
        types: false,
        ..Style::default()
    }
}

impl Recorded<'_> {
    /// Does something in the scope of a frame, or of globals with the main thread's registers.
    fn within<R>(
        &mut self,
        frame: Option<FrameId>,
        f: impl FnOnce(&Scope<'_>) -> R,
    ) -> Result<R, Failure> {
        let program = Arc::clone(self.view.program());
        if let Some(id) = frame {
            let stack = self.stack_of(id)?;
            return match scope(&program, self.view.memory(), stack.frames(), id.level) {
                Some(scope) => Ok(f(&scope)),
                None => Err(Failure::told("there is no such frame")),
            };
        }
        let memory = self.view.memory();
        match self.view.threads().map_err(Failure::told)?.first() {
            Some(main) => Ok(f(&Scope::new(
                &program,
                memory,
                &ThreadRegisters::new(main),
            ))),
            None => Ok(f(&Scope::new(&program, memory, &NoRegisters))),
        }
    }

    pub(super) fn scopes_of(&mut self, frame: FrameId) -> Result<Vec<ScopeInfo<Node>>, Failure> {
        let (arguments, locals) = self.within(Some(frame), |scope| {
            let all = locals(scope);
            let arguments = all.iter().filter(|l| l.argument).count() as u64;
            (arguments, all.len() as u64 - arguments)
        })?;
        let group = |kind, group, count| ScopeInfo {
            kind,
            node: Node::Scope(frame, group),
            count,
        };
        let mut scopes = Vec::new();
        if arguments > 0 {
            scopes.push(group(
                ScopeKind::Arguments,
                Group::Arguments,
                Some(arguments),
            ));
        }
        scopes.push(group(ScopeKind::Locals, Group::Locals, Some(locals)));
        scopes.push(group(ScopeKind::Globals, Group::Globals, None));
        scopes.push(group(ScopeKind::Registers, Group::Registers, None));
        Ok(scopes)
    }

    pub(super) fn parts_of(&mut self, of: &Node, page: Page) -> Result<Vec<Item<Node>>, Failure> {
        let end = page.start.saturating_add(page.count);
        let cut = |all: Vec<Item<Node>>| {
            let skip = usize::try_from(page.start).unwrap_or(usize::MAX);
            let take = usize::try_from(page.count).unwrap_or(usize::MAX);
            all.into_iter().skip(skip).take(take).collect()
        };
        match of {
            Node::Scope(frame, Group::Registers) => {
                let stack = self.stack_of(*frame)?;
                let registers = stack.frame(frame.level).map(|f| &f.registers);
                Ok(registers.map_or_else(Vec::new, |r| cut(registers::items(r))))
            }
            Node::Scope(frame, Group::Globals) => {
                let id = *frame;
                self.within(Some(id), |scope| {
                    let all = globals(scope).into_iter();
                    let items = all.map(|g| {
                        let path = Some(g.expression);
                        item(scope, &g.name, &g.value, path, Some(id), page.hex)
                    });
                    cut(items.collect())
                })
            }
            Node::Scope(frame, group) => {
                let (id, arguments) = (*frame, *group == Group::Arguments);
                self.within(Some(id), |scope| {
                    let all = locals(scope).into_iter();
                    let wanted = all.filter(|l| l.argument == arguments);
                    let items = wanted.map(|l| {
                        // One that is hidden by another cannot be written.
                        let path = (!l.hidden).then(|| l.name.clone());
                        item(scope, &l.name, &l.value, path, Some(id), page.hex)
                    });
                    cut(items.collect())
                })
            }
            Node::Value(value, expression, frame) => {
                let frame = *frame;
                self.within(frame, |scope| {
                    let numbered = is_numbered(value, scope);
                    let other = match page.filter {
                        Filter::Indexed => !numbered,
                        Filter::Named => numbered,
                        Filter::All => false,
                    };
                    if other {
                        return Vec::new();
                    }
                    let parts = value.children(scope, &style(), page.start..end);
                    let part = |part: stillframe_symbols::Child| {
                        let path = expression.as_deref().and_then(|e| part.expression(e));
                        item(scope, &part.name, &part.value, path, frame, page.hex)
                    };
                    parts.into_iter().map(part).collect()
                })
            }
        }
    }

    pub(super) fn value_of(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
        hex: bool,
    ) -> Result<Item<Node>, Failure> {
        let parsed = expr::parse(expression).map_err(|e| syntax(&e))?;
        self.within(frame, |scope| {
            let value = expr::evaluate(&parsed, scope).map_err(|e| evaluation(expression, &e))?;
            let text = Some(expression.to_owned());
            Ok(item(scope, expression, &Ok(value), text, frame, hex))
        })?
    }

    pub(super) fn truth_of(
        &mut self,
        frame: Option<FrameId>,
        expression: &str,
    ) -> Result<bool, Failure> {
        let parsed = expr::parse(expression).map_err(|e| syntax(&e))?;
        self.within(frame, |scope| {
            let value = expr::evaluate(&parsed, scope).map_err(|e| evaluation(expression, &e))?;
            value.truth(scope).map_err(Failure::told)
        })?
    }

    /// Names in scope that begin so.
    pub(super) fn names(
        &mut self,
        frame: Option<FrameId>,
        prefix: &str,
    ) -> Result<Vec<String>, Failure> {
        let Some(frame) = frame else {
            return Ok(Vec::new());
        };
        self.within(Some(frame), |scope| {
            let mut names: Vec<String> = locals(scope).into_iter().map(|l| l.name).collect();
            names.retain(|n| n.starts_with(prefix));
            names.sort();
            names.dedup();
            names
        })
    }

    /// What tells a frame's call from others, for questions about other moments.
    pub(super) fn call(&mut self, frame: FrameId) -> Result<Call, Failure> {
        let stack = self.stack_of(frame)?;
        let found = stack.frame(frame.level);
        let found = found.ok_or_else(|| Failure::told("there is no such frame"))?;
        Ok(Call {
            tid: frame.tid,
            name: found.name().unwrap_or_default().to_owned(),
            cfa: found.cfa,
        })
    }
}

fn syntax(error: &expr::SyntaxError) -> Failure {
    Failure::told(error)
}

/// The message, and which part of the expression it is about, if that is not all of it.
fn evaluation(text: &str, error: &expr::EvalError) -> Failure {
    match text.get(error.at.clone()) {
        Some(part) if part != text && !part.is_empty() && !error.message.contains(part) => {
            Failure::told(format!("{}: {part}", error.message))
        }
        _ => Failure::told(error),
    }
}

/// Whether its parts have numbers rather than names.
fn is_numbered(value: &Value, scope: &Scope<'_>) -> bool {
    let first = value.children(scope, &style(), 0..1);
    first.first().is_some_and(|part| part.name.starts_with('['))
}

/// A value for people, or why there is none.
fn item(
    scope: &Scope<'_>,
    name: &str,
    value: &Result<Value, Fault>,
    expression: Option<String>,
    frame: Option<FrameId>,
    hex: bool,
) -> Item<Node> {
    let value = match value {
        Ok(value) => value,
        Err(fault) => {
            return Item {
                name: name.to_owned(),
                value: format!("<{fault}>"),
                type_name: None,
                node: None,
                indexed: 0,
                named: 0,
                expression,
                memory: None,
                points_to: None,
            };
        }
    };
    let count = value.child_count(scope, &style());
    let numbered = count > 0 && is_numbered(value, scope);
    let integral = value.ty().encoding().is_some_and(|e| e.integral());
    let text = match value.integer(scope) {
        Ok(number) if hex && integral => hexadecimal(number),
        _ => value.display(scope, &style()),
    };
    Item {
        name: name.to_owned(),
        value: text,
        type_name: Some(value.ty().name()),
        node: (count > 0).then(|| Node::Value(value.clone(), expression.clone(), frame)),
        indexed: if numbered { count } else { 0 },
        named: if numbered { 0 } else { count },
        expression,
        memory: value.address().zip(value.ty().size()),
        points_to: value.memory_reference(scope),
    }
}

fn hexadecimal(number: i128) -> String {
    match number {
        0.. => format!("{number:#x}"),
        _ => format!("-{:#x}", number.unsigned_abs()),
    }
}

/// A call, at whatever moment.
#[derive(Clone, Debug)]
pub(super) struct Call {
    tid: u32,
    name: String,
    cfa: Option<u64>,
}

/// The value of an expression in a call, as long as that lasts.
#[derive(Debug)]
pub(super) struct InCall<'m> {
    machine: &'m Machine,
    process: SpaceId,
    expression: Expr,
    call: Call,
}

impl<'m> InCall<'m> {
    pub(super) fn new(
        machine: &'m Machine,
        process: SpaceId,
        text: &str,
        call: Call,
    ) -> Result<Self, Failure> {
        Ok(Self {
            machine,
            process,
            expression: expr::parse(text).map_err(|e| syntax(&e))?,
            call,
        })
    }

    fn answer(&self, asked: &Asked<'_, '_>) -> Result<Answer, String> {
        let view = self.machine.at(asked.checkpoint(), self.process);
        let view = view.map_err(|e| e.to_string())?;
        // Which modules are where follows from the mappings, and so these are depended on.
        asked.layout();
        let call = &self.call;
        let thread = asked.thread(call.tid).ok_or("the thread is not there")?;
        let limits = Limits { frames: DEPTH };
        let stack = unwind::stack(
            view.program(),
            asked,
            &ThreadRegisters::new(&thread),
            limits,
        );
        let same = |f: &Frame| f.cfa == call.cfa && f.name().unwrap_or_default() == call.name;
        let level = stack.frames.iter().position(same);
        let level = level.ok_or_else(|| format!("{} is not being called", call.name))?;
        let scope = scope(view.program(), asked, &stack, level).ok_or("the frame is not there")?;
        let value = expr::evaluate(&self.expression, &scope).map_err(|e| e.to_string())?;
        let text = value.display(&scope, &style());
        let mut content = text.clone().into_bytes();
        // The text leaves out what is long.
        content.extend(value.bytes(&scope).unwrap_or_default());
        Ok(Answer::Value(stillframe_timeline::Value {
            text,
            whole: None,
            number: None,
            content,
        }))
    }
}

impl Question for InCall<'_> {
    type Answer = Answer;

    fn ask(&self, asked: &Asked<'_, '_>) -> Answer {
        self.answer(asked).unwrap_or_else(Answer::Missing)
    }
}
