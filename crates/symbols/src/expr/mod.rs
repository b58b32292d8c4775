//! Expressions: what people ask about a program, in the words of its source.
//!
//! One grammar serves C, C++ and Rust (docs/expressions.md). [`parse`] needs no program and
//! [`evaluate`] no files but the program's: memory and registers come through traits. Texts come from
//! people and from the network, so everything has a limit: their length, the depth of the tree, the
//! bytes that are read for an answer.

mod arith;
mod ast;
mod compare;
mod eval;
mod lex;
pub(crate) mod names;
mod parse;
mod resolve;

pub use ast::{Ask, Binary, Kind, Node, Path, TypeName, Unary};
pub use eval::{evaluate, type_named};
pub(crate) use resolve::completed;

/// The variable of a name.
pub(crate) fn variable(
    path: &Path,
    scope: &crate::value::Scope<'_>,
) -> Result<Option<crate::value::Value>, String> {
    resolve::value(path, scope)
}

use std::fmt::Write as _;
use std::ops::Range;

/// A text that is no expression.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message} (at byte {})", at.start)]
pub struct SyntaxError {
    /// Bytes of the text.
    pub at: Range<usize>,
    /// What is wrong with them.
    pub message: String,
}

/// An expression that has no value here.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{message}")]
pub struct EvalError {
    /// The part of the text that has none.
    pub at: Range<usize>,
    /// Why.
    pub message: String,
}

/// An expression that is understood.
#[derive(Clone, Debug)]
pub struct Expr {
    text: String,
    root: Node,
    /// Names in places where a type means a cast and a value does not.
    doubtful: Vec<Path>,
}

impl Expr {
    /// What was typed.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// The tree.
    pub fn root(&self) -> &Node {
        &self.root
    }
}

impl Expr {
    /// Whether a name in it is that of a local variable or an argument of the scope's frame.
    pub fn names_locals(&self, scope: &crate::value::Scope<'_>) -> bool {
        let mut found = false;
        self.root.each(&mut |node| {
            if let Kind::Path(path) = &node.kind
                && path.file.is_none()
                && !path.global
                && let [name] = path.segments.as_slice()
            {
                // One whose place cannot be told is one, too.
                found |= !matches!(crate::variables::local(scope, name), Ok(None));
            }
        });
        found
    }
}

impl std::str::FromStr for Expr {
    type Err = SyntaxError;

    fn from_str(text: &str) -> Result<Self, SyntaxError> {
        parse(text)
    }
}

/// Understands a text.
///
/// # Errors
/// [`SyntaxError`], with the place.
pub fn parse(text: &str) -> Result<Expr, SyntaxError> {
    let looks_like_a_type = |path: &Path| {
        path.segments.last().is_some_and(|s| {
            s.ends_with("_t")
                || matches!(
                    s.as_str(),
                    "u8" | "u16"
                        | "u32"
                        | "u64"
                        | "u128"
                        | "usize"
                        | "i8"
                        | "i16"
                        | "i32"
                        | "i64"
                        | "i128"
                        | "isize"
                        | "f32"
                        | "f64"
                        | "bool"
                )
        })
    };
    let parsed = parse::parse(text, &looks_like_a_type)?;
    Ok(Expr {
        text: text.to_owned(),
        root: parsed.root,
        doubtful: parsed.doubtful,
    })
}

/// Shows a place in a text: the line that holds it, and carets under it.
pub fn point(text: &str, at: &Range<usize>) -> String {
    let floor = |mut i: usize| {
        i = i.min(text.len());
        while !text.is_char_boundary(i) {
            i -= 1;
        }
        i
    };
    let (start, end) = (floor(at.start), floor(at.end.max(at.start)));
    let begin = text[..start].rfind('\n').map_or(0, |i| i + 1);
    let stop = text[start..].find('\n').map_or(text.len(), |i| start + i);
    let column = text[begin..start].chars().count();
    let width = text[start..end.min(stop).max(start)].chars().count().max(1);
    let mut out = String::new();
    // Tabs would move the carets.
    let line = text[begin..stop].replace('\t', " ");
    let _ = writeln!(out, "  {line}");
    let _ = write!(out, "  {}{}", " ".repeat(column), "^".repeat(width));
    out
}

#[cfg(test)]
mod tests;
