//! How types are written.
//!
//! C and C++ as GDB writes them (`struct point *`, `int (*)(long)`, `char [16]`), Rust as Rust does.
//! Declarators nest around the name in C; a chain of derivations of any length is written without
//! recursion, parameters and template arguments with a bound.

use super::{Keyword, Kind, Type};
use crate::dies::Language;

/// Derivations that are followed.
const MOST: usize = 64;
/// Function types within function types.
const MOST_NESTED: usize = 6;

pub(super) fn name(ty: &Type) -> String {
    named(ty, 0)
}

fn named(ty: &Type, nested: usize) -> String {
    if nested > MOST_NESTED {
        return "...".to_owned();
    }
    if ty.language() == Language::Rust {
        rust(ty, nested)
    } else {
        c(ty, nested)
    }
}

fn c(ty: &Type, nested: usize) -> String {
    // The part behind the name (arrays, parameters) and the part around it grow as we go inwards.
    let mut at = ty.clone();
    let mut inner = String::new();
    let mut qualifiers = String::new();
    for _ in 0..MOST {
        let next = match at.kind() {
            Kind::Pointer(l) => {
                inner = format!("*{}{inner}", take(&mut qualifiers, &inner));
                at.follow(l)
            }
            Kind::Reference(l, both) => {
                let sign = if *both { "&&" } else { "&" };
                inner = format!("{sign}{}{inner}", take(&mut qualifiers, &inner));
                at.follow(l)
            }
            Kind::MemberPointer(class, l) => {
                let class = named(&at.follow(class), nested + 1);
                inner = format!("{class}::*{inner}");
                at.follow(l)
            }
            Kind::Const(l) => {
                qualifiers.push_str("const ");
                at.follow(l)
            }
            Kind::Volatile(l) => {
                qualifiers.push_str("volatile ");
                at.follow(l)
            }
            Kind::Atomic(l) => {
                if at.data().die.is_some() && is_atomic(&at) {
                    qualifiers.push_str("_Atomic ");
                }
                at.follow(l)
            }
            Kind::Array(array) => {
                if inner.starts_with(['*', '&']) {
                    inner = format!("({inner})");
                }
                let count = array.count.map_or_else(String::new, |c| c.to_string());
                inner = if array.vector {
                    format!("{inner} __attribute__ ((vector_size({count})))")
                } else {
                    format!("{inner}[{count}]")
                };
                at.follow(&array.element)
            }
            Kind::Function(result, parameters, open) => {
                if inner.starts_with(['*', '&']) {
                    inner = format!("({inner})");
                }
                let mut list: Vec<String> = parameters
                    .iter()
                    .take(MOST)
                    .map(|p| named(&at.follow(p), nested + 1))
                    .collect();
                if *open {
                    list.push("...".to_owned());
                }
                // What no declaration says has parameters that are not known.
                let unknown = at.data().die.is_none() && at.language() == Language::C;
                if list.is_empty() && !unknown {
                    list.push("void".to_owned());
                }
                inner = format!("{inner}({})", list.join(", "));
                at.follow(result)
            }
            _ => break,
        };
        at = next;
    }
    let base = format!("{qualifiers}{}", base(&at));
    if inner.is_empty() {
        base
    } else {
        format!("{base} {inner}")
    }
}

fn is_atomic(ty: &Type) -> bool {
    let Some((info, die)) = ty.module().and_then(|m| m.info()).zip(ty.data().die) else {
        return false;
    };
    crate::dies::Dies::of(info, die)
        .and_then(|d| d.entry(die))
        .is_some_and(|e| e.tag() == gimli::DW_TAG_atomic_type)
}

/// Qualifiers of a pointer stand behind its star.
fn take(qualifiers: &mut String, inner: &str) -> String {
    let taken = std::mem::take(qualifiers);
    if taken.is_empty() {
        return taken;
    }
    let taken = taken.trim_end();
    if inner.is_empty() {
        format!(" {taken}")
    } else {
        format!(" {taken} ")
    }
}

fn base(ty: &Type) -> String {
    let own = ty.own_name();
    match ty.kind() {
        Kind::Void => own.unwrap_or("void").to_owned(),
        Kind::Record(record) => {
            let word = match record.keyword {
                Keyword::Struct => "struct",
                Keyword::Class => "class",
                Keyword::Union => "union",
            };
            tagged(word, own, ty.language())
        }
        Kind::Enumeration(_) => tagged("enum", own, ty.language()),
        Kind::Unknown => own.unwrap_or("<data variable, no debug info>").to_owned(),
        _ => own.unwrap_or("?").to_owned(),
    }
}

fn tagged(word: &str, own: Option<&str>, language: Language) -> String {
    match (own, language) {
        (Some(name), Language::Cpp) => name.to_owned(),
        (Some(name), _) => format!("{word} {name}"),
        (None, _) => format!("{word} {{...}}"),
    }
}

fn rust(ty: &Type, nested: usize) -> String {
    let mut at = ty.clone();
    let mut front = String::new();
    let mut back = String::new();
    for _ in 0..MOST {
        // Pointers and references have names of their own in Rust's debug information.
        if let Some(own) = at.own_name()
            && !matches!(at.kind(), Kind::Function(..))
        {
            return format!("{front}{own}{back}");
        }
        let next = match at.kind() {
            Kind::Pointer(l) => {
                front.push_str("*mut ");
                at.follow(l)
            }
            Kind::Reference(l, _) => {
                front.push('&');
                at.follow(l)
            }
            Kind::Array(array) => {
                front.push('[');
                let count = array.count.map_or_else(String::new, |c| format!("; {c}"));
                back.insert_str(0, &format!("{count}]"));
                at.follow(&array.element)
            }
            Kind::Const(l) | Kind::Volatile(l) | Kind::Atomic(l) | Kind::Alias(l) => at.follow(l),
            Kind::Function(result, parameters, _) => {
                let list: Vec<String> = parameters
                    .iter()
                    .take(MOST)
                    .map(|p| named(&at.follow(p), nested + 1))
                    .collect();
                let result = at.follow(result);
                let result = if matches!(result.kind(), Kind::Void) && result.own_name().is_none() {
                    String::new()
                } else {
                    format!(" -> {}", named(&result, nested + 1))
                };
                return format!("{front}fn ({}){result}{back}", list.join(", "));
            }
            Kind::Void => return format!("{front}(){back}"),
            _ => return format!("{front}?{back}"),
        };
        at = next;
    }
    format!("{front}...{back}")
}
