//! Questions about one moment, whose answers are followed through time.

use crate::asked::Asked;
use std::fmt;

/// A question about one moment of a process.
pub trait Question {
    /// What it is answered with. Answers that are equal are no change.
    type Answer: Clone + PartialEq;

    /// Answers it from what `asked` shows, and from nothing else: what is not read through it is
    /// taken to stay the same for ever.
    fn ask(&self, asked: &Asked<'_, '_>) -> Self::Answer;
}

impl<Q: Question + ?Sized> Question for Box<Q> {
    type Answer = Q::Answer;

    fn ask(&self, asked: &Asked<'_, '_>) -> Self::Answer {
        (**self).ask(asked)
    }
}

impl<Q: Question + ?Sized> Question for &Q {
    type Answer = Q::Answer;

    fn ask(&self, asked: &Asked<'_, '_>) -> Self::Answer {
        (**self).ask(asked)
    }
}

/// A number.
#[derive(Clone, Copy, Debug, PartialEq)]
pub enum Number {
    /// A whole one.
    Integer(i128),
    /// A real one.
    Real(f64),
}

impl Number {
    /// As a real number.
    pub const fn real(self) -> f64 {
        match self {
            Self::Integer(n) => n as f64,
            Self::Real(x) => x,
        }
    }

    /// How it compares with another; `None` if one is not a number.
    pub fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => Some(a.cmp(&b)),
            (a, b) => a.real().partial_cmp(&b.real()),
        }
    }
}

impl fmt::Display for Number {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Integer(n) => write!(f, "{n}"),
            Self::Real(x) => write!(f, "{x}"),
        }
    }
}

/// A value as it is shown.
#[derive(Clone, Debug)]
pub struct Value {
    /// For people, in one line; of what is long it has the beginning.
    pub text: String,
    /// All of the text, up to 65,536 elements or characters of a part and 1 MiB, if `text` leaves
    /// something out.
    pub whole: Option<String>,
    /// What it is as a number, if it is one.
    pub number: Option<Number>,
    /// What tells it from other values: the text may leave things out.
    pub content: Vec<u8>,
}

impl PartialEq for Value {
    fn eq(&self, other: &Self) -> bool {
        self.content == other.content
    }
}

/// The answer to a question for a value.
#[derive(Clone, Debug, PartialEq)]
pub enum Answer {
    /// The value.
    Value(Value),
    /// There is none at that moment, for the reason given: memory that is not there, a variable that
    /// is out of scope.
    Missing(String),
}

impl Answer {
    /// The value, if there is one.
    pub const fn value(&self) -> Option<&Value> {
        match self {
            Self::Value(value) => Some(value),
            Self::Missing(_) => None,
        }
    }
}

/// The answer to a question whether something holds.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Truth {
    /// It holds.
    Holds,
    /// It does not.
    Not,
    /// It cannot be said, for the reason given.
    Unknown(String),
}

/// A question for a value, whatever sort of question it is.
pub type AnyQuestion<'m> = Box<dyn Question<Answer = Answer> + 'm>;
/// A question whether something holds, whatever sort of question it is.
pub type AnyCondition<'m> = Box<dyn Question<Answer = Truth> + 'm>;
