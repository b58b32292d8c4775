//! From what was typed to a question.

use crate::args::history::ScopeArgs;
use crate::exit::{Code, fail};
use stillframe_timeline::{AnyCondition, AnyQuestion, Comparison, Past, Raw};

/// A question for a value.
pub fn value(past: &Past<'_>, text: &str, scope: &ScopeArgs) -> anyhow::Result<AnyQuestion> {
    if Raw::is_meant(text) {
        return Ok(Box::new(text.parse::<Raw>()?));
    }
    expression(past, text, scope)
}

/// A question whether something holds.
pub fn condition(past: &Past<'_>, text: &str, scope: &ScopeArgs) -> anyhow::Result<AnyCondition> {
    if Raw::is_meant(text) {
        return Ok(Box::new(text.parse::<Comparison>()?));
    }
    expression(past, text, scope)
}

fn expression<T>(_: &Past<'_>, text: &str, _: &ScopeArgs) -> anyhow::Result<T> {
    Err(fail(
        Code::Usage,
        format!("`{text}` is no address; write u32@0x404010 or 0x404010:8"),
    ))
}
