//! What names mean in a program.
//!
//! Locals first, then the namespaces around the function we are in, then everything by its full
//! name, then everything by the end of its name. Of several modules the one we are in comes first,
//! then the executable. Two variables of one name are an error that says how to tell them apart:
//! the first one would be right half of the time.

use super::ast::{Path, TypeName};
use super::names::canonical;
use crate::catalog::{Catalog, Found, What};
use crate::dies::{Die, Dies, Language};
use crate::module::Module;
use crate::program::Loaded;
use crate::symtab::SymbolKind;
use crate::types::{Encoding, Keyword, Kind, Type, load};
use crate::value::{Fault, Scope, Value, integer_type};
use crate::variables;
use std::sync::Arc;

/// Entries of one name that are looked at.
const MOST_ALIKE: usize = 4096;
/// Entries of a function that are looked at for its static variables.
const MOST_INSIDE: usize = 1 << 16;

/// What a name means.
#[derive(Debug)]
pub(super) enum Thing {
    Value(Value),
    Type(Type),
}

/// Modules in the order in which they are asked, with their catalogs as far as they have any.
fn modules<'a>(scope: &Scope<'a>) -> impl Iterator<Item = (&'a Loaded, &'a Catalog)> {
    let here = scope.here.and_then(|h| scope.program.module_at(h.pc));
    let is_here =
        move |l: &&Loaded| here.is_some_and(|(m, b)| Arc::ptr_eq(m, &l.module) && b == l.bias);
    let all = scope.program.modules();
    let first = all.iter().find(is_here);
    let others = all.iter().filter(move |l| !is_here(l));
    first
        .into_iter()
        .chain(others)
        .filter_map(|l| Some((l, l.module.catalog()?)))
}

/// The language of what was typed: that of the function we are in, or of the program.
pub(super) fn language(scope: &Scope<'_>) -> Language {
    if let Some(language) = variables::language_here(scope) {
        return language;
    }
    let Some(info) = modules(scope).find_map(|(l, _)| l.module.info()) else {
        return Language::C;
    };
    info.units()
        .filter_map(|(n, _)| Dies::number(info, crate::dies::Part::Own, u32::try_from(n).ok()?))
        .map(|d| d.language())
        .find(|l| *l != Language::Other)
        .unwrap_or(Language::C)
}

/// What a name means, as a value or a type.
pub(super) fn resolve(path: &Path, scope: &Scope<'_>) -> Result<Thing, String> {
    if let Some(value) = value(path, scope)? {
        return Ok(Thing::Value(value));
    }
    if path.file.is_none()
        && let Some(ty) = type_by_path(None, path, scope)
    {
        return Ok(Thing::Type(ty));
    }
    if let Some(why) = placeless(path, scope) {
        return Err(why);
    }
    let mut message = format!("nothing is called `{}`", path.text());
    if modules(scope).next().is_none() {
        message.push_str(" (no module has debug information)");
    } else if let Some(alike) = alike(path, scope) {
        message.push_str(&format!("; there is `{alike}`"));
    }
    Err(message)
}

/// The variable, function or enumerator of a name.
pub(super) fn value(path: &Path, scope: &Scope<'_>) -> Result<Option<Value>, String> {
    if path.file.is_none() && !path.global {
        if let [name] = path.segments.as_slice()
            && let Some(local) = variables::local(scope, name).map_err(|e| e.to_string())?
        {
            return Ok(Some(local));
        }
        // The namespaces and classes around the function we are in, innermost first.
        let around = variables::scopes_here(scope);
        for length in (1..=around.len()).rev() {
            let mut segments = around[..length].to_vec();
            segments.extend(path.segments.iter().cloned());
            let inner = Path {
                segments,
                ..path.clone()
            };
            if let Some(value) = global(&inner, scope, true)? {
                return Ok(Some(value));
            }
        }
    }
    for whole in [true, false] {
        if !whole && path.global {
            break;
        }
        if let Some(value) = global(path, scope, whole)? {
            return Ok(Some(value));
        }
    }
    Ok(symbol(path, scope))
}

fn in_file(dies: &Dies<'_>, wanted: &str) -> bool {
    let Some(file) = dies.file() else {
        return false;
    };
    // Rust writes `src/main.rs/@/main.123-cgu.0`.
    let file = file.split("/@/").next().unwrap_or(&file);
    file == wanted
        || file
            .strip_suffix(wanted)
            .is_some_and(|front| front.ends_with('/') || front.is_empty())
}

/// The places of a name in one module.
fn places(loaded: &Loaded, catalog: &Catalog, path: &Path, what: What, whole: bool) -> Vec<Found> {
    let Some(info) = loaded.module.info() else {
        return Vec::new();
    };
    catalog
        .find(&path.segments, what)
        .into_iter()
        .filter(|f| f.whole || !whole)
        .filter(|f| match &path.file {
            Some(file) => Dies::of(info, f.die).is_some_and(|d| in_file(&d, file)),
            None => true,
        })
        .take(MOST_ALIKE)
        .collect()
}

fn global(path: &Path, scope: &Scope<'_>, whole: bool) -> Result<Option<Value>, String> {
    for (loaded, catalog) in modules(scope) {
        if let Some(value) = variable(loaded, catalog, path, scope, whole)? {
            return Ok(Some(value));
        }
        if let Some(value) = static_of_function(loaded, catalog, path, scope, whole)? {
            return Ok(Some(value));
        }
        for found in places(loaded, catalog, path, What::Enumerator, whole) {
            if let Some(value) = enumerator(&loaded.module, catalog, found.die) {
                return Ok(Some(value));
            }
        }
        for found in places(loaded, catalog, path, What::Function, whole) {
            if let Some(value) = function(loaded, found.die) {
                return Ok(Some(value));
            }
        }
    }
    Ok(None)
}

fn variable(
    loaded: &Loaded,
    catalog: &Catalog,
    path: &Path,
    scope: &Scope<'_>,
    whole: bool,
) -> Result<Option<Value>, String> {
    let found = places(loaded, catalog, path, What::Variable, whole);
    let dies = found
        .iter()
        .filter(|f| !f.declaration)
        .map(|f| (f.die, None));
    let defined = choose(loaded, dies.collect(), path, scope)?;
    if defined.is_some() {
        return Ok(defined);
    }
    // `static const int limit = 100;` in a class needs no definition.
    let constant = found.iter().filter(|f| f.declaration).find_map(|f| {
        let value = variables::value(scope, &loaded.module, loaded.bias, f.die, None);
        value.ok().flatten()
    });
    Ok(constant)
}

/// The one variable among several entries.
fn choose(
    loaded: &Loaded,
    dies: Vec<(Die, Option<Die>)>,
    path: &Path,
    scope: &Scope<'_>,
) -> Result<Option<Value>, String> {
    let module = &loaded.module;
    let mut values: Vec<(Die, Value)> = Vec::new();
    let mut fault = None;
    for (die, function) in dies {
        match variables::value(scope, module, loaded.bias, die, function) {
            Ok(Some(value)) => {
                let known = value.address().is_some()
                    && values.iter().any(|(_, v)| v.address() == value.address());
                if !known {
                    values.push((die, value));
                }
            }
            Ok(None) => {}
            Err(Fault::OptimisedOut) => {}
            Err(other) => fault = Some(other.to_string()),
        }
    }
    if values.len() > 1 {
        values.retain(|(_, v)| v.fault().is_none());
    }
    if values.len() > 1
        && let Some(unit) = variables::unit_here(scope, loaded)
        && let Some(at) = values.iter().position(|(d, _)| d.unit == unit)
    {
        return Ok(Some(values.swap_remove(at).1));
    }
    if values.len() > 1 {
        let info = module.info();
        let mut names: Vec<String> = values
            .iter()
            .filter_map(|(die, _)| {
                let dies = Dies::of(info?, *die)?;
                let full = module.catalog()?.qualified(module, *die);
                let full = full.unwrap_or_else(|| path.segments.join("::"));
                if full != path.segments.join("::") {
                    return Some(format!("`{full}`"));
                }
                let file = dies.file()?;
                let file = file.split("/@/").next().unwrap_or(&file).to_owned();
                let short = file.rsplit('/').next().unwrap_or(&file).to_owned();
                Some(format!("`'{short}'::{full}`"))
            })
            .collect();
        names.sort();
        names.dedup();
        let count = values.len();
        let more = if names.len() > 5 { ", ..." } else { "" };
        names.truncate(5);
        return Err(format!(
            "{count} variables are called `{}`: {}{more}",
            path.text(),
            names.join(", ")
        ));
    }
    match (values.pop(), fault) {
        (Some((_, value)), _) => Ok(Some(value)),
        (None, Some(fault)) => Err(fault),
        (None, None) => Ok(None),
    }
}

/// `function::variable`: a static variable inside of a function.
fn static_of_function(
    loaded: &Loaded,
    catalog: &Catalog,
    path: &Path,
    scope: &Scope<'_>,
    whole: bool,
) -> Result<Option<Value>, String> {
    let Some((name, function)) = path.segments.split_last() else {
        return Ok(None);
    };
    if function.is_empty() {
        return Ok(None);
    }
    let Some(info) = loaded.module.info() else {
        return Ok(None);
    };
    let function = Path {
        file: path.file.clone(),
        global: path.global,
        segments: function.to_vec(),
    };
    let mut inside = Vec::new();
    for found in places(loaded, catalog, &function, What::Function, whole) {
        if let Some(dies) = Dies::of(info, found.die) {
            let statics = variables::statics(&dies, found.die, name, MOST_INSIDE);
            inside.extend(statics.into_iter().map(|d| (d, Some(found.die))));
        }
    }
    choose(loaded, inside, path, scope)
}

fn enumerator(module: &Arc<Module>, catalog: &Catalog, die: Die) -> Option<Value> {
    let ty = load(module, catalog.scope_die(die)?);
    let dies = Dies::of(module.info()?, die)?;
    let name = dies.name(&dies.entry(die)?)?;
    let Kind::Enumeration(e) = ty.kind() else {
        return None;
    };
    let (_, value) = e.values.iter().find(|(n, _)| **n == *name)?;
    let mut bytes = value.to_le_bytes().to_vec();
    bytes.truncate(usize::try_from(ty.size()?).ok()?);
    Some(Value::of_bytes(ty.clone(), bytes))
}

fn function(loaded: &Loaded, die: Die) -> Option<Value> {
    let dies = Dies::of(loaded.module.info()?, die)?;
    let entry = dies.entry(die)?;
    let low = dies
        .dwarf
        .attr_address(dies.unit, entry.attr_value(gimli::DW_AT_low_pc)?)
        .ok()??;
    let ty = load(&loaded.module, die);
    Some(Value::at(ty, low.wrapping_add(loaded.bias)))
}

/// What has a symbol but no debug information.
fn symbol(path: &Path, scope: &Scope<'_>) -> Option<Value> {
    let [name] = path.segments.as_slice() else {
        return None;
    };
    if path.file.is_some() {
        return None;
    }
    scope.program.modules().iter().find_map(|loaded| {
        let symbol = loaded
            .module
            .symbols()
            .named(name.as_bytes())
            .find(|s| matches!(s.kind, SymbolKind::Object | SymbolKind::Function))?;
        let kind = if symbol.kind == SymbolKind::Function {
            let result = integer_type(Language::C, 4, true);
            Type::function(result, Vec::new())
        } else {
            let size = (symbol.size > 0).then_some(symbol.size);
            Type::made(Language::C, None, size, Kind::Unknown)
        };
        Some(Value::at(kind, symbol.address.wrapping_add(loaded.bias)))
    })
}

/// Why a variable that the debug information knows of has no value.
fn placeless(path: &Path, scope: &Scope<'_>) -> Option<String> {
    let mut declared = false;
    for whole in [true, false] {
        for (loaded, catalog) in modules(scope) {
            for found in places(loaded, catalog, path, What::Variable, whole) {
                if !found.declaration {
                    return Some(format!(
                        "`{}` has no place in memory: it was optimised away",
                        path.text()
                    ));
                }
                declared = true;
            }
        }
    }
    declared.then(|| {
        format!(
            "`{}` is only declared; no module with debug information says where it is",
            path.text()
        )
    })
}

/// A name that differs in case only, or ends as the one that was not found.
fn alike(path: &Path, scope: &Scope<'_>) -> Option<String> {
    let wanted = path.segments.last()?.to_lowercase();
    modules(scope).find_map(|(_, catalog)| catalog.similar(&wanted))
}

/// The type that was written.
pub(super) fn type_named(name: &TypeName, scope: &Scope<'_>) -> Result<Type, String> {
    Ok(match name {
        TypeName::Named { tag, path, .. } => type_by_path(*tag, path, scope).ok_or_else(|| {
            let tag = tag.map_or(String::new(), |t| format!("{t} "));
            format!("no type is called `{tag}{}`", path.text())
        })?,
        TypeName::Pointer(inner) => type_named(inner, scope)?.pointer(),
        TypeName::Reference(inner) => type_named(inner, scope)?.reference(),
        TypeName::Array(inner, count) => type_named(inner, scope)?.array(*count),
        TypeName::Function(result, parameters) => {
            let parameters: Result<Vec<Type>, String> =
                parameters.iter().map(|p| type_named(p, scope)).collect();
            Type::function(type_named(result, scope)?, parameters?)
        }
    })
}

fn type_by_path(tag: Option<&str>, path: &Path, scope: &Scope<'_>) -> Option<Type> {
    let fits = |ty: &Type| match (tag, ty.kind()) {
        (None, _) => true,
        (Some("enum"), Kind::Enumeration(_)) => true,
        (Some("union"), Kind::Record(r)) => r.keyword == Keyword::Union,
        (Some("struct" | "class"), Kind::Record(r)) => r.keyword != Keyword::Union,
        _ => false,
    };
    let mut around = if path.global {
        Vec::new()
    } else {
        variables::scopes_here(scope)
    };
    if path.file.is_none()
        && !path.global
        && let Some(ty) = variables::local_type(scope, path)
        && fits(&ty)
    {
        return Some(ty);
    }
    // The numbers of the language are made here: programs need not use all of them.
    if tag.is_none()
        && let [name] = path.segments.as_slice()
        && let Some(ty) = builtin(name, language(scope))
    {
        return Some(ty);
    }
    loop {
        let mut segments = around.clone();
        segments.extend(path.segments.iter().cloned());
        let inner = Path {
            segments,
            ..path.clone()
        };
        for (loaded, catalog) in modules(scope) {
            let mut found: Vec<Found> = places(loaded, catalog, &inner, What::Type, true);
            let unit = variables::unit_here(scope, loaded);
            // Whole ones first, and of those the ones of the unit we are in.
            found.sort_by_key(|f| (f.declaration, Some(f.die.unit) != unit));
            let types = found.iter().map(|f| load(&loaded.module, f.die));
            if let Some(ty) = types.clone().find(|t| fits(t) && !is_declared(t)) {
                return Some(ty);
            }
            if let Some(ty) = types.into_iter().find(|t| fits(t)) {
                return Some(ty);
            }
        }
        if around.pop().is_none() {
            break;
        }
    }
    if path.global {
        return None;
    }
    let ending = modules(scope).find_map(|(loaded, catalog)| {
        let mut found = places(loaded, catalog, path, What::Type, false);
        found.sort_by_key(|f| f.declaration);
        found
            .iter()
            .map(|f| load(&loaded.module, f.die))
            .find(|t| fits(t))
    });
    ending.or_else(|| match path.segments.as_slice() {
        [name] if tag.is_none() => fallback(name, scope),
        _ => None,
    })
}

fn is_declared(ty: &Type) -> bool {
    match ty.kind() {
        Kind::Record(r) => r.declaration,
        Kind::Enumeration(e) => e.declaration,
        _ => false,
    }
}

/// A type declared in one module and said in another: looked for in all.
pub(crate) fn completed(ty: &Type, scope: &Scope<'_>) -> Type {
    let bare = ty.bare();
    if !is_declared(&bare) {
        return bare;
    }
    let Some(name) = bare.own_name() else {
        return bare;
    };
    let name = name.to_owned();
    modules(scope)
        .find_map(|(loaded, _)| Type::defined(&loaded.module, &name))
        .unwrap_or(bare)
}

/// Types that every program of a language has.
fn builtin(name: &str, language: Language) -> Option<Type> {
    let number = |encoding, size| Some(Type::number(language, name, encoding, size));
    let rust = language == Language::Rust;
    let canonical = canonical(name);
    match canonical.as_ref() {
        "void" => Some(Type::void(language)),
        "char" if rust => number(Encoding::Unicode, 4),
        "char" => number(Encoding::SignedChar, 1),
        "signed char" => number(Encoding::SignedChar, 1),
        "unsigned char" => number(Encoding::UnsignedChar, 1),
        "bool" | "_Bool" => number(Encoding::Bool, 1),
        "short" => number(Encoding::Signed, 2),
        "unsigned short" => number(Encoding::Unsigned, 2),
        "int" => number(Encoding::Signed, 4),
        "unsigned int" => number(Encoding::Unsigned, 4),
        "long" | "long long" => number(Encoding::Signed, 8),
        "unsigned long" | "unsigned long long" => number(Encoding::Unsigned, 8),
        "__int128" => number(Encoding::Signed, 16),
        "unsigned __int128" => number(Encoding::Unsigned, 16),
        "float" => number(Encoding::Float, 4),
        "double" => number(Encoding::Float, 8),
        "long double" => number(Encoding::Float, 16),
        _ if rust => rust_number(name, language),
        _ => None,
    }
}

fn rust_number(name: &str, language: Language) -> Option<Type> {
    let (encoding, size) = match name {
        "u8" => (Encoding::Unsigned, 1),
        "u16" => (Encoding::Unsigned, 2),
        "u32" => (Encoding::Unsigned, 4),
        "u64" | "usize" => (Encoding::Unsigned, 8),
        "u128" => (Encoding::Unsigned, 16),
        "i8" => (Encoding::Signed, 1),
        "i16" => (Encoding::Signed, 2),
        "i32" => (Encoding::Signed, 4),
        "i64" | "isize" => (Encoding::Signed, 8),
        "i128" => (Encoding::Signed, 16),
        "f32" => (Encoding::Float, 4),
        "f64" => (Encoding::Float, 8),
        _ => return None,
    };
    Some(Type::number(language, name, encoding, size))
}

/// Names that are types although no debug information says so: the other language's numbers and
/// C's fixed-width ones.
fn fallback(name: &str, scope: &Scope<'_>) -> Option<Type> {
    let language = language(scope);
    if let Some(ty) = rust_number(name, language) {
        return Some(ty);
    }
    let (encoding, size) = match name {
        "int8_t" => (Encoding::SignedChar, 1),
        "uint8_t" => (Encoding::UnsignedChar, 1),
        "int16_t" => (Encoding::Signed, 2),
        "uint16_t" => (Encoding::Unsigned, 2),
        "int32_t" => (Encoding::Signed, 4),
        "uint32_t" => (Encoding::Unsigned, 4),
        "int64_t" | "ssize_t" | "intptr_t" | "ptrdiff_t" => (Encoding::Signed, 8),
        "uint64_t" | "size_t" | "uintptr_t" => (Encoding::Unsigned, 8),
        _ => return None,
    };
    Some(Type::number(language, name, encoding, size))
}
