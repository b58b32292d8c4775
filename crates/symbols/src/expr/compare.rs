//! `==`, `<` and their kin: numbers as in C, pointers by address, texts by content.

use super::arith::{Number, number};
use super::ast::Binary;
use crate::layer;
use crate::types::Kind;
use crate::value::{Fault, Scope, Value};
use std::cmp::Ordering;

/// Bytes of a text that are compared.
const MOST_TEXT: u64 = 1 << 20;

/// Whether `a op b` holds.
pub(super) fn holds(a: &Value, op: Binary, b: &Value, scope: &Scope<'_>) -> Result<bool, Fault> {
    let order = compare(a, op, b, scope)?;
    Ok(match op {
        Binary::Equal => order == Some(Ordering::Equal),
        Binary::Unequal => order != Some(Ordering::Equal),
        Binary::Less => order == Some(Ordering::Less),
        Binary::More => order == Some(Ordering::Greater),
        Binary::AtMost => matches!(order, Some(Ordering::Less | Ordering::Equal)),
        _ => matches!(order, Some(Ordering::Greater | Ordering::Equal)),
    })
}

fn compare(a: &Value, op: Binary, b: &Value, scope: &Scope<'_>) -> Result<Option<Ordering>, Fault> {
    let a = a.settled(scope)?;
    let b = b.settled(scope)?;
    if let (Some(x), Some(y)) = (number(&a, scope)?, number(&b, scope)?) {
        return Ok(x.compare(y));
    }
    // A text on one side makes it a comparison of texts; two `char *` are compared as pointers.
    if layer::is_text(&a, scope) || layer::is_text(&b, scope) {
        let text = |v: &Value| layer::text(v, MOST_TEXT, scope);
        if let (Some(x), Some(y)) = (text(&a)?, text(&b)?) {
            return Ok(Some(x.cmp(&y)));
        }
    }
    if let (Some(x), Some(y)) = (address(&a, scope)?, address(&b, scope)?) {
        return Ok(Some(x.cmp(&y)));
    }
    Err(Fault::new(format!(
        "`{}` and `{}` cannot be compared with `{}`",
        a.ty().name(),
        b.ty().name(),
        op.sign()
    )))
}

/// The number that a pointer, an array or a function is for comparisons.
pub(super) fn address(value: &Value, scope: &Scope<'_>) -> Result<Option<u64>, Fault> {
    let bare = value.ty().bare();
    Ok(match bare.kind() {
        Kind::Pointer(_) => Some(value.pointer(scope)?),
        Kind::Array(_) | Kind::Function(..) => value.address(),
        _ => match number(value, scope)? {
            Some(Number::Integer(n)) => u64::try_from(n.value).ok(),
            _ => None,
        },
    })
}
