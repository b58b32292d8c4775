//! The parts of a value, some at a time: what a tree of variables shows when it is opened.

use crate::expr::completed;
use crate::format::{Style, quoted};
use crate::layer::{self, View};
use crate::members;
use crate::types::{Kind, Member, Type};
use crate::value::{Fault, Scope, Value};
use std::ops::Range;

/// A part of a value.
#[derive(Clone, Debug)]
pub struct Child {
    /// What it is called in its parent: `x`, `[3]`, `["key"]`, `<Base>`.
    pub name: String,
    /// Its value, or why it cannot be told.
    pub value: Result<Value, Fault>,
    step: Step,
}

/// How a part is written behind its parent.
#[derive(Clone, Debug)]
enum Step {
    Member(String),
    Index(String),
    Follow,
    /// A base or a member without name: its parts are found in the parent.
    Inside,
    None,
}

impl Child {
    fn new(name: impl Into<String>, value: Result<Value, Fault>, step: Step) -> Self {
        Self {
            name: name.into(),
            value,
            step,
        }
    }

    /// The expression for it, given its parent's; `None` if the grammar has none.
    pub fn expression(&self, parent: &str) -> Option<String> {
        let simple = parent.bytes().all(|b| {
            b.is_ascii_alphanumeric() || matches!(b, b'_' | b':' | b'.' | b'$' | b'[' | b']')
        });
        let enclosed = parent.starts_with('(') && closes_at_end(parent);
        let parent = if simple || enclosed {
            parent.to_owned()
        } else {
            format!("({parent})")
        };
        match &self.step {
            Step::Member(name) => Some(format!("{parent}.{name}")),
            Step::Index(index) => Some(format!("{parent}[{index}]")),
            Step::Follow => Some(format!("(*{parent})")),
            Step::Inside => Some(parent),
            Step::None => None,
        }
    }
}

/// Whether the bracket that a text begins with is closed by its last character.
fn closes_at_end(text: &str) -> bool {
    let mut depth = 0usize;
    for (i, b) in text.bytes().enumerate() {
        match b {
            b'(' => depth += 1,
            b')' => depth = depth.saturating_sub(1),
            // Quotes could hold brackets.
            b'"' | b'\'' => return false,
            _ => {}
        }
        if depth == 0 {
            return i + 1 == text.len();
        }
    }
    false
}

impl Value {
    /// How many parts it has: members, elements, what it points to.
    pub fn child_count(&self, scope: &Scope<'_>, style: &Style) -> u64 {
        let Ok(value) = self.settled(scope) else {
            return 0;
        };
        if value.fault().is_some() {
            return 0;
        }
        if style.layers {
            match layer::view(&value, scope) {
                Ok(Some(view)) => return counted(&view, scope, style),
                Ok(None) => {}
                Err(_) => return 0,
            }
        }
        let ty = completed(value.ty(), scope);
        match ty.kind() {
            Kind::Array(array) => array.count.unwrap_or(0),
            Kind::Pointer(link) => u64::from(leads_on(&value, &ty.follow(link), scope)),
            Kind::Record(_) => fields(&value, &ty, scope).len() as u64,
            _ => 0,
        }
    }

    /// The parts of a range of positions, as many of them as there are.
    pub fn children(&self, scope: &Scope<'_>, style: &Style, range: Range<u64>) -> Vec<Child> {
        let Ok(value) = self.settled(scope) else {
            return Vec::new();
        };
        if value.fault().is_some() {
            return Vec::new();
        }
        if style.layers {
            match layer::view(&value, scope) {
                Ok(Some(view)) => return parts(&view, scope, style, range),
                Ok(None) => {}
                Err(fault) => {
                    return vec![Child::new("?", Err(fault), Step::None)];
                }
            }
        }
        let ty = completed(value.ty(), scope);
        match ty.kind() {
            Kind::Array(array) => {
                let element = ty.follow(&array.element);
                let size = completed(&element, scope).size().unwrap_or(0);
                let end = range.end.min(array.count.unwrap_or(0));
                (range.start..end)
                    .map(|i| {
                        let item = value.part(element.clone(), i.wrapping_mul(size), None);
                        Child::new(format!("[{i}]"), Ok(item), Step::Index(i.to_string()))
                    })
                    .collect()
            }
            Kind::Pointer(link) => {
                let target = ty.follow(link);
                if range.start > 0 || range.is_empty() || !leads_on(&value, &target, scope) {
                    return Vec::new();
                }
                let there = value.pointer(scope).map(|a| Value::at(target, a));
                vec![Child::new("*", there, Step::Follow)]
            }
            Kind::Record(_) => {
                let all = fields(&value, &ty, scope);
                let position = |n: u64| usize::try_from(n).unwrap_or(usize::MAX).min(all.len());
                let (from, to) = (position(range.start), position(range.end));
                all.get(from..to.max(from)).unwrap_or_default().to_vec()
            }
            _ => Vec::new(),
        }
    }

    /// The address that a memory view of it begins at: where a pointer points to, else where the
    /// value is.
    pub fn memory_reference(&self, scope: &Scope<'_>) -> Option<u64> {
        let value = self.settled(scope).ok()?;
        if let Ok(Some((_, address, _))) = layer::contiguous(&value, scope) {
            return Some(address);
        }
        match value.ty().bare().kind() {
            Kind::Pointer(_) => value.pointer(scope).ok(),
            _ => value.address(),
        }
    }
}

/// Whether a pointer can be opened.
fn leads_on(value: &Value, target: &Type, scope: &Scope<'_>) -> bool {
    let opaque = matches!(
        completed(target, scope).kind(),
        Kind::Void | Kind::Function(..) | Kind::Unknown
    );
    !opaque && value.pointer(scope).is_ok_and(|p| p != 0)
}

fn counted(view: &View, scope: &Scope<'_>, style: &Style) -> u64 {
    match view {
        View::Text(_) => 0,
        View::Plain(value) => value.child_count(scope, style),
        View::Wrapped { .. } => 1,
        View::Pointer { fields, .. } => fields.len() as u64,
        View::List(list) => list.length,
        View::Map(map) => map.length,
    }
}

fn parts(view: &View, scope: &Scope<'_>, style: &Style, range: Range<u64>) -> Vec<Child> {
    let start = range.start;
    match view {
        View::Text(_) => Vec::new(),
        View::Plain(value) => value.children(scope, style, range),
        View::Wrapped { value, .. } => {
            if range.contains(&0) {
                vec![Child::new("value", Ok(value.clone()), Step::Follow)]
            } else {
                Vec::new()
            }
        }
        View::Pointer { fields, head } => fields
            .iter()
            .zip(0u64..)
            .filter(|(_, i)| range.contains(i))
            .map(|((name, value), _)| {
                // A pair has its members; what a pointer holds is what it leads to.
                let step = match name.as_str() {
                    _ if head.is_empty() => Step::Member(name.clone()),
                    "get()" => Step::None,
                    _ => Step::Follow,
                };
                Child::new(name.clone(), Ok(value.clone()), step)
            })
            .collect(),
        View::List(list) => match list.items(range, scope) {
            Ok(items) => items
                .into_iter()
                .zip(start..)
                .map(|(item, i)| Child::new(format!("[{i}]"), Ok(item), Step::Index(i.to_string())))
                .collect(),
            Err(fault) => vec![Child::new("?", Err(fault), Step::None)],
        },
        View::Map(map) => match map.entries(range, scope) {
            Ok(entries) => entries
                .into_iter()
                .map(|(key, value)| entry(&key, value, scope))
                .collect(),
            Err(fault) => vec![Child::new("?", Err(fault), Step::None)],
        },
    }
}

fn entry(key: &Value, value: Value, scope: &Scope<'_>) -> Child {
    const MOST_KEY: u64 = 200;
    let text = if layer::is_text(key, scope) {
        layer::text(key, MOST_KEY, scope).ok().flatten()
    } else {
        None
    };
    if let Some(text) = text {
        let plain = Style {
            repeats: usize::MAX,
            ..Style::default()
        };
        let shown = quoted(&text, 1, true, false, &plain);
        return Child::new(format!("[{shown}]"), Ok(value), Step::Index(shown));
    }
    if let Ok(number) = key.integer(scope) {
        let shown = key.display(scope, &Style::short());
        return Child::new(
            format!("[{shown}]"),
            Ok(value),
            Step::Index(number.to_string()),
        );
    }
    let shown = key.display(scope, &Style::short());
    Child::new(format!("[{shown}]"), Ok(value), Step::None)
}

/// The members of a record, or of the present variant of an enum.
fn fields(value: &Value, ty: &Type, scope: &Scope<'_>) -> Vec<Child> {
    let value = value.with_type(ty.clone());
    match members::variant(&value, scope) {
        Ok(Some((_, inside))) => {
            let inner = completed(inside.ty(), scope);
            return fields_of(&inside, &inner, scope);
        }
        Ok(None) => {}
        Err(fault) => return vec![Child::new("?", Err(fault), Step::None)],
    }
    fields_of(&value, ty, scope)
}

fn fields_of(value: &Value, ty: &Type, scope: &Scope<'_>) -> Vec<Child> {
    let Kind::Record(record) = ty.kind() else {
        return Vec::new();
    };
    record
        .members
        .iter()
        .map(|m| field(value, ty, m, scope))
        .collect()
}

fn field(value: &Value, ty: &Type, member: &Member, scope: &Scope<'_>) -> Child {
    let part = members::member(value, ty, member, scope);
    if member.base {
        let base = ty.follow(&member.ty).bare().name();
        return Child::new(format!("<{base}>"), part, Step::Inside);
    }
    match member.name.as_deref() {
        Some(name) => {
            let digits = name
                .strip_prefix("__")
                .filter(|d| !d.is_empty() && d.bytes().all(|b| b.is_ascii_digit()));
            let name = digits.unwrap_or(name);
            // `_vptr.Shape` and the like cannot be written plainly.
            let plain = name
                .bytes()
                .all(|b| b.is_ascii_alphanumeric() || b == b'_' || b >= 0x80);
            let written = if plain {
                name.to_owned()
            } else {
                format!("'{name}'")
            };
            Child::new(name, part, Step::Member(written))
        }
        None => Child::new("{...}", part, Step::Inside),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn child(step: Step) -> Child {
        Child::new("x", Err(Fault::OptimisedOut), step)
    }

    #[test]
    fn expressions_for_parts() {
        let member = child(Step::Member("y".into()));
        assert_eq!(member.expression("a.b[1]").unwrap(), "a.b[1].y");
        assert_eq!(member.expression("*p").unwrap(), "(*p).y");
        assert_eq!(member.expression("(*p)").unwrap(), "(*p).y");
        assert_eq!(member.expression("(a)+(b)").unwrap(), "((a)+(b)).y");
        assert_eq!(member.expression("m[\"k)\"]").unwrap(), "(m[\"k)\"]).y");
        assert_eq!(child(Step::Follow).expression("p").unwrap(), "(*p)");
        assert_eq!(child(Step::Inside).expression("p").unwrap(), "p");
        assert!(child(Step::None).expression("p").is_none());
        for text in ["(*p)", "(m[\"k)\"]).y", "((a)+(b)).y"] {
            assert!(crate::expr::parse(text).is_ok(), "{text}");
        }
    }
}
