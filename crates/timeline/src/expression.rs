//! Expressions in the words of the program's source, as questions.
//!
//! The expression is evaluated through [`Asked`], so what it depends on is what it read: the
//! variable itself, the pointers that led there, and registers only if it looked at any. Where names
//! lead changes only when other files are mapped, which counts as a dependency of its own.

use crate::Error;
use crate::asked::Asked;
use crate::machine::Machine;
use crate::question::{Answer, Number, Question, Truth, Value};
use std::sync::Arc;
use stillframe_symbols::expr::{self, Expr};
use stillframe_symbols::{Program, Registers, Scope, Style};

/// Longest content kept of a value that is no number, bytes.
const LONGEST: usize = 1 << 20;

/// An expression, and where it is evaluated.
#[derive(Clone, Debug)]
pub struct Expression<'m> {
    machine: &'m Machine,
    expression: Expr,
    thread: Option<u32>,
}

impl<'m> Expression<'m> {
    /// Understands a text. `thread` is the tid whose registers it sees; without one, the main
    /// thread's.
    ///
    /// # Errors
    /// [`Error::Question`], which points at the place.
    pub fn parse(machine: &'m Machine, text: &str, thread: Option<u32>) -> Result<Self, Error> {
        let expression = expr::parse(text).map_err(|e| Error::Question {
            text: text.chars().take(200).collect(),
            why: e.to_string(),
        })?;
        Ok(Self {
            machine,
            expression,
            thread,
        })
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
            thread: self.thread,
        };
        let scope = Scope::new(&program, asked, &registers);
        let value = expr::evaluate(&self.expression, &scope).map_err(|e| e.to_string())?;
        use_it(&value, &scope)
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

/// A value with what tells it from others: a number's bytes, else all of its text, and its bytes
/// unless it is shown by what it contains rather than by how it is built.
fn shown(value: &stillframe_symbols::Value, scope: &Scope<'_>) -> Result<Value, String> {
    let text = value.display(scope, &Style::short());
    let number = match value.integer(scope) {
        Ok(n) => Some(Number::Integer(n)),
        Err(_) => value.float(scope).ok().map(Number::Real),
    };
    if number.is_some() {
        let content = value.bytes(scope).map_err(|e| e.to_string())?;
        return Ok(Value {
            text,
            number,
            content,
        });
    }
    if let Some(fault) = value.fault() {
        return Err(fault.to_string());
    }
    let whole = value.display(scope, &Style::default());
    let plain = whole == value.display(scope, &Style::default().raw());
    let mut content = whole.into_bytes();
    if plain && let Ok(bytes) = value.bytes(scope) {
        content.extend_from_slice(bytes.get(..LONGEST).unwrap_or(&bytes));
    }
    Ok(Value {
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
