//! Rust's standard library (1.60 to 1.95) and hashbrown, which it uses.

use super::{List, Map, Text, View, Walk, walk::BTree};
use crate::expr::completed;
use crate::members::find;
use crate::types::{Kind, Type};
use crate::value::{Fault, Scope, Value};

macro_rules! some {
    ($e:expr) => {
        match $e {
            Some(value) => value,
            None => return Ok(None),
        }
    };
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

/// A number, through the wrappers that the library has around some of them.
fn word(value: &Value, names: &[&str], scope: &Scope<'_>) -> Result<Option<u64>, Fault> {
    let mut at = some!(path(value, names, scope));
    for _ in 0..8 {
        let ty = completed(at.ty(), scope);
        let Kind::Record(record) = ty.kind() else {
            return Ok(u64::try_from(at.integer(scope)?).ok());
        };
        let inner = some!(record.members.iter().find(|m| {
            completed(&ty.follow(&m.ty), scope)
                .size()
                .is_some_and(|s| s > 0)
        }));
        at = crate::members::member(&at, &ty, inner, scope)?;
    }
    Ok(None)
}

/// The first raw pointer inside of wrappers such as `Unique` and `NonNull`.
fn pointer(value: &Value, scope: &Scope<'_>) -> Option<Value> {
    let mut at = value.clone();
    for _ in 0..12 {
        let ty = completed(at.ty(), scope);
        match ty.kind() {
            Kind::Pointer(_) => return Some(at),
            Kind::Record(record) => {
                let inner = record.members.iter().find(|m| {
                    completed(&ty.follow(&m.ty), scope)
                        .size()
                        .is_some_and(|s| s > 0)
                })?;
                at = crate::members::member(&at, &ty, inner, scope).ok()?;
            }
            _ => return None,
        }
    }
    None
}

fn size_of(ty: &Type, scope: &Scope<'_>) -> u64 {
    completed(ty, scope).size().unwrap_or(0)
}

pub(super) fn view(value: &Value, name: &str, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let ty = value.ty().clone();
    let base = name.split('<').next().unwrap_or(name);
    match base {
        "&str" | "&mut str" => return slice_text(value, scope),
        "alloc::string::String" => {
            let bytes = some!(path(value, &["vec"], scope));
            let (address, length) = some!(buffer(&bytes, scope)?);
            return Ok(Some(View::Text(Text {
                address,
                length,
                unit: 1,
                utf8: true,
            })));
        }
        "alloc::vec::Vec" => {
            let element = some!(argument(&ty, 0));
            let (address, length) = some!(buffer(value, scope)?);
            return Ok(Some(row(
                format!("Vec(size={length})"),
                &element,
                address,
                length,
                scope,
            )));
        }
        "alloc::collections::vec_deque::VecDeque" => {
            let element = some!(argument(&ty, 0));
            let inner = some!(path(value, &["buf"], scope));
            let buffer = some!(inner_pointer(&inner, scope)).pointer(scope)?;
            let capacity = some!(capacity(&inner, scope)?);
            let head = some!(word(value, &["head"], scope)?);
            let length = some!(word(value, &["len"], scope)?);
            let size = size_of(&element, scope);
            return Ok(Some(View::List(List {
                head: format!("VecDeque(size={length})"),
                length,
                head_alone: false,
                square: false,
                indexed: false,
                element,
                walk: Walk::Ring {
                    buffer,
                    capacity,
                    head,
                    size,
                },
            })));
        }
        "std::collections::hash::map::HashMap" | "std::collections::hash::set::HashSet" => {
            return match path(value, &["base"], scope) {
                Some(inner) => swiss(&inner, base.ends_with("Set"), scope),
                None => Ok(None),
            };
        }
        "hashbrown::map::HashMap" => return swiss(value, false, scope),
        "hashbrown::set::HashSet" => return swiss(value, true, scope),
        "alloc::collections::btree::map::BTreeMap" => return btree(value, false, scope),
        "alloc::collections::btree::set::BTreeSet" => {
            return match path(value, &["map"], scope) {
                Some(map) => btree(&map, true, scope),
                None => Ok(None),
            };
        }
        "alloc::rc::Rc" | "alloc::sync::Arc" => return counted(value, &ty, base, scope),
        "core::cell::Cell" | "core::cell::UnsafeCell" => {
            return Ok(None);
        }
        _ => {}
    }
    if name.starts_with("&[") || name.starts_with("&mut [") {
        let data = some!(path(value, &["data_ptr"], scope));
        let length = some!(word(value, &["length"], scope)?);
        let element = some!(data.ty().target());
        let address = data.pointer(scope)?;
        let mut view = row(name.to_owned(), &element, address, length, scope);
        if let View::List(list) = &mut view {
            list.square = true;
        }
        return Ok(Some(view));
    }
    if base == "alloc::boxed::Box" {
        // Of what has no size of its own; others are plain pointers.
        if name.starts_with("alloc::boxed::Box<str") {
            return slice_text(value, scope);
        }
        if name.starts_with("alloc::boxed::Box<[") {
            let data = some!(path(value, &["data_ptr"], scope));
            let length = some!(word(value, &["length"], scope)?);
            let element = some!(data.ty().target());
            let address = data.pointer(scope)?;
            return Ok(Some(row(
                format!("Box<[_]>(size={length})"),
                &element,
                address,
                length,
                scope,
            )));
        }
    }
    Ok(None)
}

fn slice_text(value: &Value, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let address = some!(path(value, &["data_ptr"], scope)).pointer(scope)?;
    let length = some!(word(value, &["length"], scope)?);
    Ok(Some(View::Text(Text {
        address,
        length,
        unit: 1,
        utf8: true,
    })))
}

fn row(head: String, element: &Type, address: u64, length: u64, scope: &Scope<'_>) -> View {
    View::List(List {
        head,
        length,
        head_alone: false,
        square: false,
        indexed: false,
        element: element.clone(),
        walk: Walk::Row {
            address,
            size: size_of(element, scope),
        },
    })
}

/// The raw pointer of a `RawVec`, which since 1.79 has an inner part.
fn inner_pointer(buf: &Value, scope: &Scope<'_>) -> Option<Value> {
    let ptr = path(buf, &["inner", "ptr"], scope).or_else(|| path(buf, &["ptr"], scope))?;
    pointer(&ptr, scope)
}

fn capacity(buf: &Value, scope: &Scope<'_>) -> Result<Option<u64>, Fault> {
    match word(buf, &["inner", "cap"], scope)? {
        Some(found) => Ok(Some(found)),
        None => word(buf, &["cap"], scope),
    }
}

/// Address and length of a `Vec`.
fn buffer(value: &Value, scope: &Scope<'_>) -> Result<Option<(u64, u64)>, Fault> {
    let buf = some!(path(value, &["buf"], scope));
    let address = some!(inner_pointer(&buf, scope)).pointer(scope)?;
    let length = some!(word(value, &["len"], scope)?);
    Ok(Some((address, length)))
}

fn swiss(value: &Value, set: bool, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    // A set holds a map from its elements to nothing.
    let map = match (set, path(value, &["map"], scope)) {
        (true, Some(map)) => map,
        _ => value.clone(),
    };
    let table = some!(path(&map, &["table"], scope));
    let inner = path(&table, &["table"], scope).unwrap_or_else(|| table.clone());
    let mask = some!(word(&inner, &["bucket_mask"], scope)?);
    let length = some!(word(&inner, &["items"], scope)?);
    let control = some!(some!(
        path(&inner, &["ctrl"], scope).map(|c| pointer(&c, scope))
    ))
    .pointer(scope)?;
    let pair = some!(argument(&completed(table.ty(), scope), 0));
    let walk = Walk::Swiss {
        control,
        buckets: mask.wrapping_add(1),
        size: size_of(&pair, scope),
    };
    let entry = Value::at(pair.clone(), 0);
    let key = some!(path(&entry, &["0"], scope));
    if set {
        let at = key.address().unwrap_or(0);
        if at != 0 {
            return Ok(None);
        }
        return Ok(Some(View::List(List {
            head: format!("HashSet(size={length})"),
            length,
            head_alone: false,
            square: false,
            indexed: false,
            element: key.ty().clone(),
            walk,
        })));
    }
    let held = some!(path(&entry, &["1"], scope));
    Ok(Some(View::Map(Map {
        head: format!("HashMap(size={length})"),
        length,
        head_alone: false,
        key: (key.ty().clone(), key.address().unwrap_or(0)),
        value: (held.ty().clone(), held.address().unwrap_or(0)),
        walk,
    })))
}

fn btree(value: &Value, set: bool, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let ty = completed(value.ty(), scope);
    let (key, held) = (some!(argument(&ty, 0)), some!(argument(&ty, 1)));
    let length = some!(word(value, &["length"], scope)?);
    let (what, head_word) = if set {
        ("BTreeSet", "BTreeSet")
    } else {
        ("BTreeMap", "BTreeMap")
    };
    let _ = what;
    let head = format!("{head_word}(size={length})");
    let root = some!(path(value, &["root"], scope));
    let mut tree = BTree {
        root: 0,
        height: 0,
        keys: (0, size_of(&key, scope)),
        values: (0, size_of(&held, scope)),
        length_at: 0,
        edges_at: 0,
    };
    if length > 0
        && let Some((name, inside)) = crate::members::variant(&root, scope)?
        && name == "Some"
    {
        let node = some!(path(&inside, &["0"], scope).or_else(|| path(&inside, &["__0"], scope)));
        tree.height = some!(word(&node, &["height"], scope)?);
        let leaf = some!(some!(
            path(&node, &["node"], scope).map(|n| pointer(&n, scope))
        ));
        tree.root = leaf.pointer(scope)?;
        let leaf_type = some!(leaf.ty().target());
        let leaf = Value::at(leaf_type.clone(), 0);
        let offset = |name: &str| path(&leaf, &[name], scope).and_then(|v| v.address());
        tree.keys.0 = some!(offset("keys"));
        tree.values.0 = some!(offset("vals"));
        tree.length_at = some!(offset("len"));
        // An inner node is a leaf with edges behind it.
        tree.edges_at = size_of(&leaf_type, scope).next_multiple_of(8);
    }
    let walk = Walk::BTree(tree);
    if set {
        return Ok(Some(View::List(List {
            head,
            length,
            head_alone: false,
            square: false,
            indexed: false,
            element: key,
            walk,
        })));
    }
    Ok(Some(View::Map(Map {
        head,
        length,
        head_alone: false,
        key: (key, 0),
        value: (held, 0),
        walk,
    })))
}

fn counted(value: &Value, ty: &Type, base: &str, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let inner = some!(control(value, scope)?);
    let (strong, weak) = match (
        word(&inner, &["strong"], scope)?,
        word(&inner, &["weak"], scope)?,
    ) {
        (Some(strong), Some(weak)) => (strong, weak),
        _ => return Ok(None),
    };
    let held = some!(path(&inner, &["value"], scope).or_else(|| path(&inner, &["data"], scope)));
    let _ = ty;
    let word = if base.ends_with("Rc") { "Rc" } else { "Arc" };
    // All strong pointers together count as one weak one.
    let weak = weak.saturating_sub(1);
    Ok(Some(View::Pointer {
        head: format!("{word}(strong={strong}, weak={weak})"),
        fields: vec![("value".to_owned(), held)],
    }))
}

/// The block that `Rc`s and `Arc`s share.
fn control(value: &Value, scope: &Scope<'_>) -> Result<Option<Value>, Fault> {
    let ptr = some!(path(value, &["ptr"], scope));
    let pointer = some!(pointer(&ptr, scope));
    let address = pointer.pointer(scope)?;
    Ok(pointer.ty().target().map(|t| Value::at(t, address)))
}

pub(super) fn pointee(
    value: &Value,
    name: &str,
    scope: &Scope<'_>,
) -> Result<Option<Value>, Fault> {
    let base = name.split('<').next().unwrap_or(name);
    match base {
        "alloc::rc::Rc" | "alloc::sync::Arc" => {
            let inner = some!(control(value, scope)?);
            Ok(path(&inner, &["value"], scope).or_else(|| path(&inner, &["data"], scope)))
        }
        "core::cell::Cell"
        | "core::cell::RefCell"
        | "core::cell::UnsafeCell"
        | "core::mem::manually_drop::ManuallyDrop"
        | "core::mem::maybe_uninit::MaybeUninit"
        | "core::num::wrapping::Wrapping" => {
            let inner = path(value, &["value"], scope).or_else(|| path(value, &["0"], scope));
            Ok(inner.map(|v| uncovered(v, scope)))
        }
        "std::sync::poison::mutex::Mutex"
        | "std::sync::mutex::Mutex"
        | "std::sync::poison::rwlock::RwLock"
        | "std::sync::rwlock::RwLock" => {
            Ok(path(value, &["data"], scope).map(|v| uncovered(v, scope)))
        }
        _ if base.starts_with("core::sync::atomic::Atomic") => {
            Ok(path(value, &["v"], scope).map(|v| uncovered(v, scope)))
        }
        _ if base.starts_with("core::num::nonzero::") => Ok(path(value, &["0"], scope)),
        _ => Ok(None),
    }
}

/// What lies under the cells that the library's types are made of.
fn uncovered(value: Value, scope: &Scope<'_>) -> Value {
    let mut value = value;
    for _ in 0..4 {
        let bare = value.ty().bare();
        let cell = bare
            .own_name()
            .is_some_and(|n| n.starts_with("core::cell::UnsafeCell<"));
        match cell.then(|| path(&value, &["value"], scope)).flatten() {
            Some(inner) => value = inner,
            None => break,
        }
    }
    value
}
