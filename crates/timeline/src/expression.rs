//! Expressions in the words of the program's source, as questions.
//!
//! The expression is evaluated through [`Asked`], so what it depends on is what it read: the
//! variable itself, the pointers that led there, and registers only if it looked at any. Where names
//! lead changes only when other files are mapped, which counts as a dependency of its own.

use crate::Error;
use crate::asked::Asked;
use crate::machine::Machine;
use crate::question::{Answer, AnyCondition, AnyQuestion, Number, Question, Truth, Value};
use crate::raw::{Comparison, Raw};
use std::sync::Arc;
use stillframe_symbols::expr::{self, Expr};
use stillframe_symbols::locate::is_called;
use stillframe_symbols::{Frame, Limits, Program, Registers, Scope, Stack, Style};

/// DWARF's number of the instruction pointer.
const RIP: u16 = 16;
/// Longest content and longest text kept of a value that is no number, bytes.
const LONGEST: usize = 1 << 20;
/// Elements and characters of one part of it.
const ELEMENTS: usize = 1 << 16;

/// Where an expression is evaluated.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Seen {
    /// The thread whose registers and frames it sees: its tid; none for the main thread.
    pub thread: Option<u32>,
    /// The frame whose variables it sees. Without one it sees none but those that live as long as
    /// the program or the thread, and its answer does not depend on the stack.
    pub frame: Option<InFrame>,
}

/// Which frame of a stack.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum InFrame {
    /// The one of this number, 0 being the innermost.
    Number(usize),
    /// The innermost one of a function of this name: as debug information has it, or its last
    /// part (`parse` for `json::parse`).
    Function(String),
}

impl InFrame {
    fn find(&self, stack: &Stack) -> Result<usize, String> {
        match self {
            Self::Number(n) if *n < stack.frames.len() => Ok(*n),
            Self::Number(n) => Err(format!(
                "there is no frame {n}; the stack has {}",
                stack.frames.len()
            )),
            Self::Function(wanted) => {
                let is = |f: &Frame| f.name().is_some_and(|name| is_called(name, wanted));
                let found = stack.frames.iter().position(is);
                found.ok_or_else(|| format!("`{wanted}` is not being called"))
            }
        }
    }
}

/// The question for a value that a text means: bytes at an address ([`Raw`]), or an expression.
///
/// # Errors
/// [`Error::Question`], which points at the place.
pub fn value<'m>(machine: &'m Machine, text: &str, seen: Seen) -> Result<AnyQuestion<'m>, Error> {
    if Raw::is_meant(text) {
        return Ok(Box::new(text.parse::<Raw>()?));
    }
    Ok(Box::new(Expression::parse(machine, text, seen)?))
}

/// The question whether something holds that a text means: as [`value`].
///
/// # Errors
/// [`Error::Question`], which points at the place.
pub fn condition<'m>(
    machine: &'m Machine,
    text: &str,
    seen: Seen,
) -> Result<AnyCondition<'m>, Error> {
    if Raw::is_meant(text) {
        return Ok(Box::new(text.parse::<Comparison>()?));
    }
    Ok(Box::new(Condition(Expression::parse(machine, text, seen)?)))
}

/// An expression, and where it is evaluated.
#[derive(Clone, Debug)]
pub struct Expression<'m> {
    machine: &'m Machine,
    expression: Expr,
    seen: Seen,
}

impl<'m> Expression<'m> {
    /// Understands a text.
    ///
    /// # Errors
    /// [`Error::Question`], which points at the place.
    pub fn parse(machine: &'m Machine, text: &str, seen: Seen) -> Result<Self, Error> {
        let expression = expr::parse(text).map_err(|e| Error::Question {
            text: text.chars().take(200).collect(),
            why: e.to_string(),
        })?;
        Ok(Self {
            machine,
            expression,
            seen,
        })
    }

    /// What was understood.
    pub const fn expression(&self) -> &Expr {
        &self.expression
    }

    /// Evaluates it and hands over the value and what it is evaluated in.
    fn with<T>(
        &self,
        asked: &Asked<'_, '_>,
        use_it: impl FnOnce(&stillframe_symbols::Value, &Scope<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let program = program(self.machine, asked)?;
        let registers = OfThread {
            asked,
            thread: self.seen.thread,
        };
        let Some(frame) = &self.seen.frame else {
            let scope = Scope::new(&program, asked, &registers);
            return self.evaluate(&scope, use_it);
        };
        if registers
            .tid()
            .is_none_or(|tid| asked.register(tid, RIP).is_none())
        {
            return Err("there is no such thread".to_owned());
        }
        let stack = stillframe_symbols::stack(&program, asked, &registers, Limits::default());
        let level = frame.find(&stack)?;
        let frame = stack.frames.get(level).ok_or("there is no such frame")?;
        let scope = Scope {
            here: stack.here(level),
            ..Scope::new(&program, asked, &frame.registers)
        };
        self.evaluate(&scope, use_it)
    }

    fn evaluate<T>(
        &self,
        scope: &Scope<'_>,
        use_it: impl FnOnce(&stillframe_symbols::Value, &Scope<'_>) -> Result<T, String>,
    ) -> Result<T, String> {
        let value = expr::evaluate(&self.expression, scope).map_err(|e| e.to_string())?;
        use_it(&value, scope)
    }
}

/// The modules at the moment asked about.
fn program(machine: &Machine, asked: &Asked<'_, '_>) -> Result<Arc<Program>, String> {
    // Taken down: which files are mapped where.
    asked.layout().ok_or("the mappings cannot be read")?;
    let view = machine.at(asked.checkpoint(), asked.past().space());
    view.map(|v| Arc::clone(v.program()))
        .map_err(|e| e.to_string())
}

/// The registers of a thread, each taken down when it is looked at.
struct OfThread<'q, 'p, 'a> {
    asked: &'q Asked<'p, 'a>,
    thread: Option<u32>,
}

impl OfThread<'_, '_, '_> {
    fn tid(&self) -> Option<u32> {
        self.thread.or_else(|| self.asked.main_thread())
    }
}

impl Registers for OfThread<'_, '_, '_> {
    fn get(&self, dwarf: u16) -> Option<u64> {
        let bytes = self.asked.register(self.tid()?, dwarf)?;
        bytes
            .first_chunk()
            .filter(|_| bytes.len() == 8)
            .map(|b| u64::from_le_bytes(*b))
    }

    fn bytes(&self, dwarf: u16) -> Option<Vec<u8>> {
        self.asked.register(self.tid()?, dwarf)
    }
}

/// A value with what tells it from others: a number's bytes; else all of its text (a pointer to
/// characters shows them), and its bytes unless it is shown by what it contains rather than by how
/// it is built.
fn shown(value: &stillframe_symbols::Value, scope: &Scope<'_>) -> Result<Value, String> {
    let text = value.display(scope, &Style::short());
    let settled = value.settled(scope).map_err(|e| e.to_string())?;
    // An array has an address where a number is wanted, and that says nothing of it.
    let number = match settled.ty().elements() {
        Some(_) => None,
        None => match settled.integer(scope) {
            Ok(n) => Some(Number::Integer(n)),
            Err(_) => settled.float(scope).ok().map(Number::Real),
        },
    };
    if settled.ty().encoding().is_some() {
        let content = settled.bytes(scope).map_err(|e| e.to_string())?;
        return Ok(Value {
            text,
            whole: None,
            number,
            content,
        });
    }
    if let Some(fault) = value.fault() {
        return Err(fault.to_string());
    }
    let style = Style {
        elements: ELEMENTS,
        bytes: LONGEST,
        ..Style::default()
    };
    let whole = value.display(scope, &style);
    // What is not there as a whole is no value; of a structure some members may be.
    if whole.starts_with('<')
        && let Err(why) = value.bytes(scope)
    {
        return Err(why.to_string());
    }
    let as_built = whole == value.display(scope, &style.raw());
    let mut content = whole.clone().into_bytes();
    if as_built && let Ok(bytes) = value.bytes(scope) {
        content.extend_from_slice(bytes.get(..LONGEST).unwrap_or(&bytes));
    }
    Ok(Value {
        whole: (whole != text).then_some(whole),
        text,
        number,
        content,
    })
}

impl Question for Expression<'_> {
    type Answer = Answer;

    fn ask(&self, asked: &Asked<'_, '_>) -> Answer {
        match self.with(asked, shown) {
            Ok(value) => Answer::Value(value),
            Err(why) => Answer::Missing(why),
        }
    }
}

/// Whether an expression holds: is neither zero nor null.
#[derive(Clone, Debug)]
pub struct Condition<'m>(pub Expression<'m>);

impl Question for Condition<'_> {
    type Answer = Truth;

    fn ask(&self, asked: &Asked<'_, '_>) -> Truth {
        let truth = |value: &stillframe_symbols::Value, scope: &Scope<'_>| {
            value.truth(scope).map_err(|e| e.to_string())
        };
        match self.0.with(asked, truth) {
            Ok(true) => Truth::Holds,
            Ok(false) => Truth::Not,
            Err(why) => Truth::Unknown(why),
        }
    }
}
