//! The parts of records: members by name, also of bases and of what has no name; Rust's variants.

use crate::expr::completed;
use crate::types::{Kind, Link, Member, Record, Type};
use crate::value::{Fault, Scope, Value, integer_of};

/// Bases of bases, unnamed unions in unnamed structures.
const MOST_NESTED: usize = 32;

/// A member as a value.
pub(crate) fn member(
    value: &Value,
    owner: &Type,
    member: &Member,
    scope: &Scope<'_>,
) -> Result<Value, Fault> {
    let ty = owner.follow(&member.ty);
    if let Some(die) = member.of_class {
        return static_member(owner, die, member, scope);
    }
    if member.computed {
        return virtual_base(value, owner, member, scope);
    }
    Ok(value.part(ty, member.at, member.bits))
}

/// A virtual base is where the table of virtual functions says: 8-byte offsets in front of it
/// (Itanium C++ ABI, 2.5.2); DWARF gives the offset of the entry as an expression.
fn virtual_base(
    value: &Value,
    owner: &Type,
    member: &Member,
    scope: &Scope<'_>,
) -> Result<Value, Fault> {
    let unknown = || Fault::new("where this virtual base is cannot be told");
    let object = value.address().ok_or_else(unknown)?;
    let (module, die) = owner.module().zip(owner.data().die).ok_or_else(unknown)?;
    let dies = module
        .info()
        .and_then(|i| crate::dies::Dies::of(i, die))
        .ok_or_else(unknown)?;
    let wanted = match &member.ty {
        Link::At(die) => *die,
        _ => return Err(unknown()),
    };
    let entry = dies
        .children(die, 1 << 16)
        .into_iter()
        .filter(|c| c.tag() == gimli::DW_TAG_inheritance)
        .find(|c| dies.refers(c, gimli::DW_AT_type) == Some(wanted))
        .ok_or_else(unknown)?;
    let Some(gimli::AttributeValue::Exprloc(expression)) =
        entry.attr_value(gimli::DW_AT_data_member_location)
    else {
        return Err(unknown());
    };
    // The expression wants the object's address on the stack.
    let mut evaluation = expression.evaluation(dies.unit.encoding());
    evaluation.set_max_iterations(100);
    evaluation.set_initial_value(object);
    let damaged = |_| unknown();
    let mut state = evaluation.evaluate().map_err(damaged)?;
    for _ in 0..16 {
        match state {
            gimli::EvaluationResult::Complete => {
                let pieces = evaluation.result();
                let Some(gimli::Location::Address { address }) =
                    pieces.first().map(|p| &p.location)
                else {
                    return Err(unknown());
                };
                return Ok(Value::at(owner.follow(&member.ty), *address));
            }
            gimli::EvaluationResult::RequiresMemory { address, .. } => {
                let word = scope.memory.word(address)?;
                state = evaluation
                    .resume_with_memory(gimli::Value::Generic(word))
                    .map_err(damaged)?;
            }
            _ => return Err(unknown()),
        }
    }
    Err(unknown())
}

/// A variable that all objects of a class share.
fn static_member(
    owner: &Type,
    declared: crate::dies::Die,
    member: &Member,
    scope: &Scope<'_>,
) -> Result<Value, Fault> {
    let name = member.name.as_deref().unwrap_or_default();
    let class = owner.own_name().unwrap_or_default();
    let mut segments: Vec<String> = crate::expr::names::segments(class)
        .into_iter()
        .map(str::to_owned)
        .collect();
    segments.push(name.to_owned());
    let path = crate::expr::Path {
        file: None,
        global: true,
        segments,
    };
    let found = crate::expr::variable(&path, scope).map_err(Fault::new)?;
    if let Some(value) = found {
        return Ok(value);
    }
    // Constants need no definition.
    let module = owner.module().ok_or(Fault::OptimisedOut)?;
    crate::variables::value(scope, module, 0, declared, None)?.ok_or(Fault::OptimisedOut)
}

/// Finds a member by name. Members of bases, of unnamed members and of the present variant count.
///
/// # Errors
/// If there is none; the message lists what there is.
pub(crate) fn find(value: &Value, name: &str, scope: &Scope<'_>) -> Result<Value, Fault> {
    let ty = completed(value.ty(), scope);
    let Kind::Record(record) = ty.kind() else {
        return Err(Fault::new(format!(
            "`{}` has no members",
            value.ty().name()
        )));
    };
    let value = value.with_type(ty.clone());
    if let Some((base, name)) = name.rsplit_once("::") {
        let base = base_named(&value, base, scope, 0)
            .ok_or_else(|| Fault::new(format!("`{}` has no base `{base}`", ty.name())))?;
        return find(&base, name, scope);
    }
    if let Some(found) = search(&value, name, scope, 0)? {
        return Ok(found);
    }
    // Rust's tuples.
    if name.bytes().all(|b| b.is_ascii_digit())
        && let Some(found) = search(&value, &format!("__{name}"), scope, 0)?
    {
        return Ok(found);
    }
    if record.declaration {
        return Err(Fault::new(format!(
            "`{}` is only declared; no module says what it holds",
            ty.name()
        )));
    }
    if let Some(variant) = variant(&value, scope)? {
        return Err(Fault::new(format!(
            "this is `{}`, which has no `{name}`",
            variant.0
        )));
    }
    let mut names: Vec<&str> = record
        .members
        .iter()
        .filter_map(|m| m.name.as_deref())
        .collect();
    let more = if names.len() > 8 { ", ..." } else { "" };
    names.truncate(8);
    let has = if names.is_empty() {
        String::new()
    } else {
        format!("; it has {}{more}", names.join(", "))
    };
    Err(Fault::new(format!(
        "`{}` has no member `{name}`{has}",
        ty.name()
    )))
}

/// As [`find`], but `None` if there is none of this name.
pub(crate) fn own(value: &Value, name: &str, scope: &Scope<'_>) -> Result<Option<Value>, Fault> {
    search(value, name, scope, 0)
}

fn search(
    value: &Value,
    name: &str,
    scope: &Scope<'_>,
    nested: usize,
) -> Result<Option<Value>, Fault> {
    let ty = completed(value.ty(), scope);
    let Kind::Record(record) = ty.kind() else {
        return Ok(None);
    };
    if nested > MOST_NESTED {
        return Ok(None);
    }
    let own = record
        .members
        .iter()
        .find(|m| !m.base && m.name.as_deref() == Some(name));
    if let Some(found) = own {
        return member(value, &ty, found, scope).map(Some);
    }
    if record.variants.is_some()
        && let Some((variant_name, inside)) = variant(value, scope)?
    {
        if variant_name == name {
            return Ok(Some(inside));
        }
        if let Some(found) = search(&inside, name, scope, nested + 1)? {
            return Ok(Some(found));
        }
    }
    for part in &record.members {
        if part.base || part.name.is_none() {
            let inside = member(value, &ty, part, scope);
            let Ok(inside) = inside else { continue };
            if let Some(found) = search(&inside, name, scope, nested + 1)? {
                return Ok(Some(found));
            }
        }
    }
    Ok(None)
}

/// The part of an object that is a base of this name.
pub(crate) fn base_named(
    value: &Value,
    name: &str,
    scope: &Scope<'_>,
    nested: usize,
) -> Option<Value> {
    let ty = completed(value.ty(), scope);
    let Kind::Record(record) = ty.kind() else {
        return None;
    };
    if nested > MOST_NESTED {
        return None;
    }
    let wanted = crate::expr::names::canonical(name);
    for part in record.members.iter().filter(|m| m.base) {
        let Ok(base) = member(value, &ty, part, scope) else {
            continue;
        };
        let own = base.ty().bare();
        let full = own.own_name().unwrap_or_default();
        let full = crate::expr::names::canonical(full);
        let ends = full.strip_suffix(wanted.as_ref());
        if ends.is_some_and(|front| front.is_empty() || front.ends_with("::")) {
            return Some(base);
        }
        if let Some(found) = base_named(&base, name, scope, nested + 1) {
            return Some(found);
        }
    }
    None
}

/// The present variant of a Rust enum: its name and what it holds. `None` if it is no such enum.
///
/// # Errors
/// If the tag cannot be read, or no variant has it.
pub(crate) fn variant(value: &Value, scope: &Scope<'_>) -> Result<Option<(String, Value)>, Fault> {
    let ty = completed(value.ty(), scope);
    let Kind::Record(Record {
        variants: Some(variants),
        ..
    }) = ty.kind()
    else {
        return Ok(None);
    };
    let value = value.with_type(ty.clone());
    let chosen = match &variants.tag {
        None => variants.all.first(),
        Some(tag) => {
            let bytes = member(&value, &ty, tag, scope)?.bytes(scope)?;
            let tag = integer_of(&bytes, false).cast_unsigned();
            let mask = u128::MAX >> (128 - 8 * bytes.len().clamp(1, 16));
            variants
                .all
                .iter()
                .find(|v| {
                    v.values
                        .iter()
                        .any(|(a, b)| (a & mask) <= tag && tag <= (b & mask))
                })
                .or_else(|| variants.all.iter().find(|v| v.values.is_empty()))
        }
    };
    let chosen =
        chosen.ok_or_else(|| Fault::new(format!("no variant of `{}` has this tag", ty.name())))?;
    let inside = member(&value, &ty, &chosen.member, scope)?;
    let name = chosen
        .member
        .name
        .as_deref()
        .map(str::to_owned)
        .or_else(|| {
            let bare = inside.ty().bare();
            bare.own_name().and_then(|n| {
                crate::expr::names::segments(n)
                    .last()
                    .map(|s| (*s).to_owned())
            })
        })
        .unwrap_or_default();
    Ok(Some((name, inside)))
}

/// The name of an enumerator; flags joined by ` | `.
pub(crate) fn enumerator(ty: &Type, number: i128) -> Option<String> {
    let bare = ty.bare();
    let Kind::Enumeration(e) = bare.kind() else {
        return None;
    };
    let (name, _) = e.values.iter().find(|(_, v)| *v == number)?;
    Some(name.to_string())
}
