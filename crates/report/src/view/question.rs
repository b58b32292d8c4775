//! What is watched and looked for, as questions.

use super::asked::{Context, Reading};
use super::text;
use stillframe_image::{CheckpointId, SpaceId};
use stillframe_symbols::expr::{self, Expr};
use stillframe_symbols::{Limits, Scope};
use stillframe_timeline::machine::ThreadRegisters;
use stillframe_timeline::{
    Answer, AnyQuestion, Asked, Comparison, Expression, InFrame, Machine, Question, Raw, Seen,
    Truth, Value,
};

/// A question, and whether it depends on thread and frame.
pub struct Meaning<'m> {
    /// The question.
    pub question: AnyQuestion<'m>,
    /// It is asked in the words of a thread and frame.
    pub local: bool,
}

/// What a text means.
///
/// # Errors
/// If it means nothing, as a sentence.
pub fn meaning<'m>(
    machine: &'m Machine,
    text: &str,
    context: Context,
) -> Result<Meaning<'m>, String> {
    if Raw::is_meant(text) {
        // A comparison is a condition, and shown as one.
        let question: AnyQuestion<'m> = match text.parse::<Raw>() {
            Ok(raw) => Box::new(raw),
            Err(error) => match text.parse::<Comparison>() {
                Ok(comparison) => Box::new(Condition(comparison)),
                Err(_) => return Err(error.to_string()),
            },
        };
        return Ok(Meaning {
            question,
            local: false,
        });
    }
    let thread = context.thread.map(|t| t.tid);
    let parse = |frame| {
        let seen = Seen { thread, frame };
        Expression::parse(machine, text, seen).map_err(|e| e.to_string())
    };
    let global = parse(None)?;
    let frame = context
        .at
        .and_then(|at| frame_of(machine, global.expression(), context, at));
    Ok(Meaning {
        // Registers are a thread's own.
        local: frame.is_some() || text.contains('$'),
        question: Box::new(match frame {
            Some(frame) => parse(Some(frame))?,
            None => global,
        }),
    })
}

/// The frame that an expression is about, if it is about one: it names a local variable there, or
/// means nothing without it. At other moments it is the innermost call of the same function, so that
/// a local variable has a history beyond one call.
fn frame_of(
    machine: &Machine,
    expression: &Expr,
    context: Context,
    at: CheckpointId,
) -> Option<InFrame> {
    let space = context.thread.map_or(SpaceId(0), |t| t.space);
    let view = machine.at(at, space).ok()?;
    let threads = view.threads().ok()?;
    let thread = match context.thread {
        Some(id) => threads.iter().find(|t| t.tid == id.tid)?,
        None => threads.first()?,
    };
    let limits = Limits {
        frames: context.frame.saturating_add(1),
    };
    let stack = view.stack_of(thread, limits);
    let frame = stack.frames.get(context.frame)?;
    let memory = view.memory();
    let inside = Scope {
        here: stack.here(context.frame),
        ..Scope::new(view.program(), memory, &frame.registers)
    };
    let registers = ThreadRegisters::new(thread);
    let outside = Scope::new(view.program(), memory, &registers);
    let has_value = |scope: &Scope<'_>| expr::evaluate(expression, scope).is_ok();
    if !expression.names_locals(&inside) && (has_value(&outside) || !has_value(&inside)) {
        return None;
    }
    let same = |name: &str| stack.frames.iter().position(|f| f.name() == Some(name));
    Some(match frame.name() {
        Some(name) if same(name) == Some(context.frame) => InFrame::Function(name.to_owned()),
        _ => InFrame::Number(context.frame),
    })
}

/// A condition as a value: `true` or `false`.
struct Condition<Q>(Q);

impl<Q: Question<Answer = Truth>> Question for Condition<Q> {
    type Answer = Answer;

    fn ask(&self, asked: &Asked<'_, '_>) -> Answer {
        let holds = match self.0.ask(asked) {
            Truth::Holds => true,
            Truth::Not => false,
            Truth::Unknown(why) => return Answer::Missing(why),
        };
        Answer::Value(Value {
            text: holds.to_string(),
            whole: None,
            number: None,
            content: vec![u8::from(holds)],
        })
    }
}

/// A value as it is shown; `None` while there is no process.
///
/// # Errors
/// Why there is no value.
pub fn reading(value: Option<&Answer>) -> Result<Reading, String> {
    match value {
        None => Err("the process is not there".to_owned()),
        Some(Answer::Missing(why)) => Err(text::tame(why)),
        Some(Answer::Value(value)) => {
            let number = value.number.map(|n| n.real());
            let truth = match value.text.as_str() {
                "true" => Some(true),
                "false" => Some(false),
                _ => number.map(|n| n != 0.0),
            };
            Ok(Reading {
                text: text::tame(&value.text),
                number,
                truth,
            })
        }
    }
}
