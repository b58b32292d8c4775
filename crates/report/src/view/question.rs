//! What is watched and looked for, as questions.

use super::asked::{Context, Reading};
use super::text;
use stillframe_timeline::{
    Answer, AnyQuestion, Asked, Comparison, Expression, Machine, Question, Raw, Seen, Truth, Value,
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
    let seen = Seen {
        thread,
        frame: None,
    };
    let expression = Expression::parse(machine, text, seen).map_err(|e| e.to_string())?;
    Ok(Meaning {
        question: Box::new(expression),
        // Registers are a thread's own.
        local: text.contains('$'),
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
