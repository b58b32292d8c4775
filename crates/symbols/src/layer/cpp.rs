//! libstdc++ (bits/basic_string.h, bits/stl_vector.h, bits/stl_tree.h, bits/hashtable.h ... of GCC 5
//! to 14), in the words of its own printers for GDB.

use super::{List, Map, Text, View, Walk};
use crate::expr::completed;
use crate::members::find;
use crate::types::{Kind, Type};
use crate::value::{Fault, Scope, Value};

/// The name of a template without its arguments and inline namespaces.
fn template(name: &str) -> &str {
    let name = name.strip_prefix("std::").unwrap_or(name);
    let name = name.split('<').next().unwrap_or(name);
    for inline in ["__cxx11::", "__cxx1998::", "__debug::", "__1::"] {
        if let Some(rest) = name.strip_prefix(inline) {
            return rest;
        }
    }
    name
}

fn argument(ty: &Type, number: usize) -> Option<Type> {
    let Kind::Record(record) = ty.kind() else {
        return None;
    };
    let (_, link) = record.arguments.get(number)?;
    Some(ty.follow(link))
}

fn path(value: &Value, names: &[&str], scope: &Scope<'_>) -> Option<Value> {
    let mut at = value.clone();
    for name in names {
        at = find(&at, name, scope).ok()?;
    }
    Some(at)
}

fn word(value: &Value, names: &[&str], scope: &Scope<'_>) -> Result<Option<u64>, Fault> {
    match path(value, names, scope) {
        Some(found) => Ok(u64::try_from(found.integer(scope)?).ok()),
        None => Ok(None),
    }
}

fn size_of(ty: &Type, scope: &Scope<'_>) -> u64 {
    completed(ty, scope).size().unwrap_or(0)
}

/// Alignment, as far as it can be told from the parts.
fn align_of(ty: &Type, scope: &Scope<'_>, nested: usize) -> u64 {
    let ty = completed(ty, scope);
    match ty.kind() {
        Kind::Record(record) if nested < 16 => record
            .members
            .iter()
            .filter(|m| m.of_class.is_none())
            .map(|m| align_of(&ty.follow(&m.ty), scope, nested + 1))
            .max()
            .unwrap_or(1),
        Kind::Array(array) if nested < 16 => {
            align_of(&ty.follow(&array.element), scope, nested + 1)
        }
        _ => ty.size().unwrap_or(1).clamp(1, 16),
    }
}

macro_rules! some {
    ($e:expr) => {
        match $e {
            Some(value) => value,
            None => return Ok(None),
        }
    };
}

pub(super) fn view(value: &Value, name: &str, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let ty = value.ty().clone();
    let kind = template(name);
    match kind {
        "basic_string" => {
            let unit = some!(argument(&ty, 0)).size().unwrap_or(1);
            let address = some!(word(value, &["_M_dataplus", "_M_p"], scope)?);
            let length = some!(word(value, &["_M_string_length"], scope)?);
            text(address, length, unit)
        }
        "basic_string_view" => {
            let unit = some!(argument(&ty, 0)).size().unwrap_or(1);
            let address = some!(word(value, &["_M_str"], scope)?);
            let length = some!(word(value, &["_M_len"], scope)?);
            text(address, length, unit)
        }
        "vector" => vector(value, &ty, scope),
        "array" => Ok(path(value, &["_M_elems"], scope).map(View::Plain)),
        "pair" => {
            let parts = ["first", "second"];
            let mut fields = Vec::new();
            for name in parts {
                fields.push((name.to_owned(), some!(path(value, &[name], scope))));
            }
            Ok(Some(View::Pointer {
                head: String::new(),
                fields,
            }))
        }
        "atomic" => {
            let inner = path(value, &["_M_i"], scope);
            let inner = inner.or_else(|| path(value, &["_M_b", "_M_p"], scope));
            Ok(inner.map(|value| View::Wrapped {
                head: ty.name(),
                value,
            }))
        }
        "map" | "multimap" | "set" | "multiset" => tree(value, kind, scope),
        "unordered_map" | "unordered_multimap" | "unordered_set" | "unordered_multiset" => {
            hashed(value, kind, scope)
        }
        "list" => {
            let element = some!(argument(&ty, 0));
            let header = some!(path(value, &["_M_impl", "_M_node"], scope));
            let end = some!(header.address());
            let length = some!(word(&header, &["_M_size"], scope)?);
            let at = 16u64.next_multiple_of(align_of(&element, scope, 0));
            let head = if length == 0 {
                "empty std::__cxx11::list".to_owned()
            } else {
                "std::__cxx11::list".to_owned()
            };
            let first = scope.memory.word(end)?;
            Ok(Some(View::List(List {
                head,
                length,
                head_alone: true,
                square: false,
                indexed: true,
                element,
                walk: Walk::Chain { first, end, at },
            })))
        }
        "deque" => deque(value, &ty, scope),
        "unique_ptr" | "shared_ptr" | "weak_ptr" => smart(value, kind, scope),
        "optional" => {
            let element = some!(argument(&ty, 0));
            let engaged = some!(path(value, &["_M_payload", "_M_engaged"], scope));
            if !engaged.truth(scope)? {
                return Ok(Some(View::Pointer {
                    head: format!("std::optional<{}> [no contained value]", element.name()),
                    fields: Vec::new(),
                }));
            }
            let inner = some!(path(
                value,
                &["_M_payload", "_M_payload", "_M_value"],
                scope
            ));
            Ok(Some(View::Pointer {
                head: format!("std::optional<{}>", element.name()),
                fields: vec![("[contained value]".to_owned(), inner)],
            }))
        }
        _ => Ok(None),
    }
}

fn text(address: u64, length: u64, unit: u64) -> Result<Option<View>, Fault> {
    Ok(Some(View::Text(Text {
        address,
        length,
        unit: u8::try_from(unit).unwrap_or(1),
        utf8: true,
    })))
}

fn vector(value: &Value, ty: &Type, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let element = some!(argument(ty, 0));
    let parts = some!(path(value, &["_M_impl"], scope));
    if let Some(first) = path(&parts, &["_M_start", "_M_p"], scope) {
        // vector<bool> counts bits.
        let start = first.pointer(scope)?;
        let first = some!(word(&parts, &["_M_start", "_M_offset"], scope)?);
        let end = some!(word(&parts, &["_M_finish", "_M_p"], scope)?);
        let last = some!(word(&parts, &["_M_finish", "_M_offset"], scope)?);
        let storage = some!(word(&parts, &["_M_end_of_storage"], scope)?);
        let length = (end.wrapping_sub(start))
            .wrapping_mul(8)
            .wrapping_add(last)
            .wrapping_sub(first);
        let capacity = storage.wrapping_sub(start).wrapping_mul(8);
        return Ok(Some(View::List(List {
            head: format!("std::vector<bool> of length {length}, capacity {capacity}"),
            length,
            head_alone: true,
            square: false,
            indexed: false,
            element,
            walk: Walk::Bits {
                address: start,
                first,
            },
        })));
    }
    let start = some!(word(&parts, &["_M_start"], scope)?);
    let end = some!(word(&parts, &["_M_finish"], scope)?);
    let storage = some!(word(&parts, &["_M_end_of_storage"], scope)?);
    let size = size_of(&element, scope).max(1);
    if end < start || storage < end || (end - start) % size != 0 {
        return Ok(None);
    }
    let length = (end - start) / size;
    let capacity = (storage - start) / size;
    Ok(Some(View::List(List {
        head: format!("std::vector of length {length}, capacity {capacity}"),
        length,
        head_alone: true,
        square: false,
        indexed: false,
        element,
        walk: Walk::Row {
            address: start,
            size,
        },
    })))
}

fn deque(value: &Value, ty: &Type, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let element = some!(argument(ty, 0));
    let size = size_of(&element, scope).max(1);
    let per_block = if size < 512 { 512 / size } else { 1 };
    let get = |side: &str, part: &str| word(value, &["_M_impl", side, part], scope);
    let node = some!(get("_M_start", "_M_node")?);
    let current = some!(get("_M_start", "_M_cur")?);
    let first = some!(get("_M_start", "_M_first")?);
    let last_node = some!(get("_M_finish", "_M_node")?);
    let last_current = some!(get("_M_finish", "_M_cur")?);
    let last_first = some!(get("_M_finish", "_M_first")?);
    let blocks = last_node.wrapping_sub(node) / 8;
    let length = blocks
        .wrapping_mul(per_block)
        .wrapping_add(last_current.wrapping_sub(last_first) / size)
        .wrapping_sub(current.wrapping_sub(first) / size);
    let head = if length == 0 {
        "empty std::deque".to_owned()
    } else {
        format!(
            "std::deque with {length} element{}",
            if length == 1 { "" } else { "s" }
        )
    };
    Ok(Some(View::List(List {
        head,
        length,
        head_alone: true,
        square: false,
        indexed: false,
        element,
        walk: Walk::Blocks {
            node,
            current,
            first,
            size,
            per_block,
        },
    })))
}

/// `std::map with 2 elements`.
fn counted(kind: &str, length: u64) -> String {
    format!(
        "std::{kind} with {length} element{}",
        if length == 1 { "" } else { "s" }
    )
}

fn tree(value: &Value, kind: &str, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let inner = some!(path(value, &["_M_t"], scope));
    let header = some!(path(&inner, &["_M_impl", "_M_header"], scope));
    let length = some!(word(&inner, &["_M_impl", "_M_node_count"], scope)?);
    let header = some!(header.address());
    let payload = some!(argument(&completed(inner.ty(), scope), 1));
    let at = 32u64.next_multiple_of(align_of(&payload, scope, 0));
    let walk = Walk::Tree { header, at };
    containers(kind, length, &payload, walk, scope)
}

fn hashed(value: &Value, kind: &str, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let inner = some!(path(value, &["_M_h"], scope));
    let first = some!(word(&inner, &["_M_before_begin", "_M_nxt"], scope)?);
    let length = some!(word(&inner, &["_M_element_count"], scope)?);
    let payload = some!(argument(&completed(inner.ty(), scope), 1));
    let at = 8u64.next_multiple_of(align_of(&payload, scope, 0));
    let walk = Walk::Chain { first, end: 0, at };
    containers(kind, length, &payload, walk, scope)
}

fn containers(
    kind: &str,
    length: u64,
    payload: &Type,
    walk: Walk,
    scope: &Scope<'_>,
) -> Result<Option<View>, Fault> {
    let head = counted(kind, length);
    if kind.contains("map") {
        let pair = Value::at(payload.clone(), 0);
        let key = some!(path(&pair, &["first"], scope));
        let value = some!(path(&pair, &["second"], scope));
        let part = |v: &Value| (v.ty().clone(), v.address().unwrap_or(0));
        return Ok(Some(View::Map(Map {
            head,
            length,
            head_alone: true,
            key: part(&key),
            value: part(&value),
            walk,
        })));
    }
    Ok(Some(View::List(List {
        head,
        length,
        head_alone: true,
        square: false,
        indexed: true,
        element: payload.clone(),
        walk,
    })))
}

/// The pointer inside.
fn inner_pointer(value: &Value, kind: &str, scope: &Scope<'_>) -> Option<Value> {
    if kind == "unique_ptr" {
        let tuple =
            path(value, &["_M_t", "_M_t"], scope).or_else(|| path(value, &["_M_t"], scope))?;
        let head = base_starting(&tuple, "std::_Head_base<0", scope)?;
        return path(&head, &["_M_head_impl"], scope);
    }
    path(value, &["_M_ptr"], scope)
}

/// A base, or base of a base, whose name begins so.
fn base_starting(value: &Value, start: &str, scope: &Scope<'_>) -> Option<Value> {
    let mut open = vec![value.clone()];
    for _ in 0..64 {
        let at = open.pop()?;
        let ty = completed(at.ty(), scope);
        let Kind::Record(record) = ty.kind() else {
            continue;
        };
        for part in record.members.iter().filter(|m| m.base) {
            let Ok(base) = crate::members::member(&at, &ty, part, scope) else {
                continue;
            };
            let own = base.ty().bare();
            if own.own_name().is_some_and(|n| n.starts_with(start)) {
                return Some(base);
            }
            open.push(base);
        }
    }
    None
}

fn smart(value: &Value, kind: &str, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let pointer = some!(inner_pointer(value, kind, scope));
    let target = argument(value.ty(), 0).map_or_else(String::new, |t| t.name());
    if kind == "unique_ptr" {
        return Ok(Some(View::Pointer {
            head: format!("std::unique_ptr<{target}>"),
            fields: vec![("get()".to_owned(), pointer)],
        }));
    }
    let counts = path(value, &["_M_refcount", "_M_pi"], scope);
    let control = match &counts {
        Some(pi) => pi.pointer(scope)?,
        None => 0,
    };
    let state = if control == 0 {
        " (empty)".to_owned()
    } else {
        let block = counts.and_then(|pi| {
            let target = pi.ty().target()?;
            Some(Value::at(target, control))
        });
        let count = |name: &str| match &block {
            Some(block) => word(block, &[name], scope),
            None => Ok(None),
        };
        match (count("_M_use_count")?, count("_M_weak_count")?) {
            (Some(0), Some(weak)) => format!(" (expired, weak count {weak})"),
            (Some(used), Some(weak)) => {
                format!(" (use count {used}, weak count {})", weak.saturating_sub(1))
            }
            _ => String::new(),
        }
    };
    Ok(Some(View::Pointer {
        head: format!("std::{kind}<{target}>{state}"),
        fields: vec![("get()".to_owned(), pointer)],
    }))
}

pub(super) fn pointee(
    value: &Value,
    name: &str,
    scope: &Scope<'_>,
) -> Result<Option<Value>, Fault> {
    let kind = template(name);
    match kind {
        "unique_ptr" | "shared_ptr" | "weak_ptr" => {
            let pointer = some!(inner_pointer(value, kind, scope));
            let address = pointer.pointer(scope)?;
            if address == 0 {
                return Err(Fault::new("this pointer is null"));
            }
            Ok(pointer.ty().target().map(|t| Value::at(t, address)))
        }
        "optional" => {
            let engaged = some!(path(value, &["_M_payload", "_M_engaged"], scope));
            if !engaged.truth(scope)? {
                return Err(Fault::new("this optional is empty"));
            }
            Ok(path(
                value,
                &["_M_payload", "_M_payload", "_M_value"],
                scope,
            ))
        }
        "reference_wrapper" => {
            let pointer = some!(path(value, &["_M_data"], scope));
            let address = pointer.pointer(scope)?;
            Ok(pointer.ty().target().map(|t| Value::at(t, address)))
        }
        "atomic" => {
            Ok(path(value, &["_M_i"], scope).or_else(|| path(value, &["_M_b", "_M_p"], scope)))
        }
        _ => Ok(None),
    }
}
