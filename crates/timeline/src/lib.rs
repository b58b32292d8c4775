//! Moving and searching in time.
//!
//! Questions about the past go to the page-version index first, so that they cost what changed and
//! not what was recorded. [`Past`] is one process over time; a [`Question`] is asked at one moment
//! through [`Asked`], which takes down what it looked at; a [`Walk`] goes from one change of the
//! answer to the next. What else there is stands on these: [`find`] for moments at which something
//! holds, [`writes`](writes()) for changes of bytes, [`grep`] for bytes anywhere in memory at any
//! time, [`diff`] for what differs between two moments. [`Machine`] gives the bytes of a moment their
//! meaning: the modules that are mapped, threads and their registers.
#![forbid(unsafe_code)]

pub mod asked;
pub mod bisect;
pub mod diff;
mod error;
pub mod expression;
pub mod find;
pub mod grep;
pub mod heap;
pub mod machine;
pub mod past;
pub mod question;
pub mod raw;
pub mod walk;
pub mod writes;

pub use asked::{Asked, Depends, Trace};
pub use error::Error;
pub use expression::{Condition, Expression, InFrame, Seen};
pub use machine::{Machine, View};
pub use past::{Kind, Missing, Past};
pub use question::{Answer, AnyCondition, AnyQuestion, Number, Question, Truth, Value};
pub use raw::{Comparison, Raw};
pub use walk::{Change, Direction, Effort, Step, Walk};
pub use writes::{How, Write, writes};
