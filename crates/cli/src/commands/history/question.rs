//! From what was typed to a question.

use crate::args::history::ScopeArgs;
use stillframe_timeline::{
    AnyCondition, AnyQuestion, Comparison, Condition, Expression, Machine, Raw,
};

/// A question for a value.
pub fn value<'m>(
    machine: &'m Machine,
    text: &str,
    scope: &ScopeArgs,
) -> anyhow::Result<AnyQuestion<'m>> {
    if Raw::is_meant(text) {
        return Ok(Box::new(text.parse::<Raw>()?));
    }
    Ok(Box::new(Expression::parse(machine, text, scope.thread)?))
}

/// A question whether something holds.
pub fn condition<'m>(
    machine: &'m Machine,
    text: &str,
    scope: &ScopeArgs,
) -> anyhow::Result<AnyCondition<'m>> {
    if Raw::is_meant(text) {
        return Ok(Box::new(text.parse::<Comparison>()?));
    }
    let expression = Expression::parse(machine, text, scope.thread)?;
    Ok(Box::new(Condition(expression)))
}
