//! From what was typed to a question.

use crate::args::history::ScopeArgs;
use stillframe_timeline::{
    AnyCondition, AnyQuestion, Comparison, Condition, Expression, InFrame, Machine, Raw, Seen,
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
    Ok(Box::new(Expression::parse(machine, text, seen(scope))?))
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
    let expression = Expression::parse(machine, text, seen(scope))?;
    Ok(Box::new(Condition(expression)))
}

fn seen(scope: &ScopeArgs) -> Seen {
    let number = scope.frame.map(|n| InFrame::Number(n as usize));
    let function = scope.function.clone().map(InFrame::Function);
    Seen {
        thread: scope.thread,
        frame: number.or(function),
    }
}
