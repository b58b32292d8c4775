//! The view layer: containers as what they contain.
//!
//! Which types are seen this way, and by which members, is a table in docs/expressions.md. The
//! layouts are those of libstdc++ since GCC 5 and of Rust's standard library; members are found by
//! their names in the debug information, so a type of that name with other members is shown as it is
//! built. Lengths come from the program's memory and are not believed further than the limits.

mod cpp;
mod rust;
mod walk;

use crate::dies::Language;
use crate::expr::completed;
use crate::members;
use crate::types::{Kind, Type};
use crate::value::{Fault, Scope, Value};
use std::ops::Range;
pub(crate) use walk::Walk;

/// Bytes until the end of a text is given up.
const MOST_TEXT: u64 = 1 << 20;

/// A value as it is meant.
#[derive(Debug)]
pub(crate) enum View {
    Text(Text),
    /// Another value stands for it.
    Plain(Value),
    /// One value with a name in front.
    Wrapped {
        head: String,
        value: Value,
    },
    /// A smart pointer: what it is called, and what it holds.
    Pointer {
        head: String,
        fields: Vec<(String, Value)>,
    },
    List(List),
    Map(Map),
}

/// Characters in a row.
#[derive(Clone, Debug)]
pub(crate) struct Text {
    pub address: u64,
    /// Characters.
    pub length: u64,
    /// Bytes of each.
    pub unit: u8,
    pub utf8: bool,
}

impl Text {
    /// The first `most` characters, and whether that is all.
    pub fn read(&self, most: u64, scope: &Scope<'_>) -> Result<(Vec<u8>, bool), Fault> {
        let count = self.length.min(most).min(MOST_TEXT);
        let bytes = usize::try_from(count * u64::from(self.unit)).unwrap_or(0);
        let mut out = vec![0; bytes];
        if bytes > 0 {
            scope.memory.read(self.address, &mut out)?;
        }
        if self.utf8 && count < self.length && self.unit == 1 {
            // Not in the middle of a character.
            let end = match std::str::from_utf8(&out) {
                Err(e) if e.error_len().is_none() => e.valid_up_to(),
                _ => out.len(),
            };
            out.truncate(end);
        }
        Ok((out, count == self.length))
    }
}

/// Elements, in the order of the container.
#[derive(Clone, Debug)]
pub(crate) struct List {
    pub head: String,
    pub length: u64,
    /// Nothing follows the head if it is empty.
    pub head_alone: bool,
    pub square: bool,
    /// Elements are shown with their numbers.
    pub indexed: bool,
    pub element: Type,
    pub walk: Walk,
}

impl List {
    pub fn items(&self, range: Range<u64>, scope: &Scope<'_>) -> Result<Vec<Value>, Fault> {
        let range = range.start..range.end.min(self.length);
        let places = self.walk.places(range, scope)?;
        Ok(places
            .into_iter()
            .map(|place| match place {
                walk::Place::At(address) => Value::at(self.element.clone(), address),
                walk::Place::Bit(bit) => Value::of_bytes(self.element.clone(), vec![bit]),
            })
            .collect())
    }
}

/// Keys and their values.
#[derive(Clone, Debug)]
pub(crate) struct Map {
    pub head: String,
    pub length: u64,
    pub head_alone: bool,
    pub key: (Type, u64),
    pub value: (Type, u64),
    pub walk: Walk,
}

impl Map {
    pub fn entries(
        &self,
        range: Range<u64>,
        scope: &Scope<'_>,
    ) -> Result<Vec<(Value, Value)>, Fault> {
        let range = range.start..range.end.min(self.length);
        Ok(self
            .walk
            .pairs(range, (self.key.1, self.value.1), scope)?
            .into_iter()
            .map(|(k, v)| {
                (
                    Value::at(self.key.0.clone(), k),
                    Value::at(self.value.0.clone(), v),
                )
            })
            .collect())
    }
}

/// What a value is meant to be; `None` if it is what it is.
///
/// # Errors
/// If it is a container whose members cannot be read.
pub(crate) fn view(value: &Value, scope: &Scope<'_>) -> Result<Option<View>, Fault> {
    let bare = value.ty().bare();
    let Some(name) = bare.own_name() else {
        return Ok(None);
    };
    if !matches!(bare.kind(), Kind::Record(_)) {
        return Ok(None);
    }
    let ty = completed(&bare, scope);
    let value = value.with_type(ty.clone());
    match ty.language() {
        Language::Rust => rust::view(&value, name, scope),
        _ if name.starts_with("std::") => cpp::view(&value, name, scope),
        _ => Ok(None),
    }
}

/// A member, of what a smart pointer points to if the pointer has none of that name.
pub(crate) fn member(value: &Value, name: &str, scope: &Scope<'_>) -> Result<Value, Fault> {
    let mut at = value.clone();
    let mut first = None;
    for _ in 0..8 {
        match members::find(&at, name, scope) {
            Ok(found) => return Ok(found),
            Err(fault) => {
                first.get_or_insert(fault);
            }
        }
        match pointee(&at, scope)? {
            Some(inner) => at = inner.settled(scope)?,
            None => break,
        }
    }
    Err(first.unwrap_or_else(|| Fault::new(format!("no member `{name}`"))))
}

/// What a smart pointer or an optional leads to; `None` if the value is neither.
///
/// # Errors
/// If it is empty.
pub(crate) fn pointee(value: &Value, scope: &Scope<'_>) -> Result<Option<Value>, Fault> {
    let bare = value.ty().bare();
    if let Kind::Pointer(link) = bare.kind() {
        let address = value.pointer(scope)?;
        return Ok(Some(Value::at(bare.follow(link), address)));
    }
    let Some(name) = bare.own_name() else {
        return Ok(None);
    };
    let ty = completed(&bare, scope);
    let value = value.with_type(ty.clone());
    match ty.language() {
        Language::Rust => rust::pointee(&value, name, scope),
        _ if name.starts_with("std::") => cpp::pointee(&value, name, scope),
        _ => Ok(None),
    }
}

/// The number that an atomic variable holds.
pub(crate) fn atomic(value: &Value, scope: &Scope<'_>) -> Result<Option<Value>, Fault> {
    let bare = value.ty().bare();
    let name = bare.own_name().unwrap_or_default();
    if name.starts_with("core::sync::atomic::Atomic") || name.starts_with("std::atomic<") {
        return pointee(value, scope);
    }
    Ok(None)
}

/// `value[index]` where the value is a container; `None` if it is none.
///
/// # Errors
/// If there is no such element.
pub(crate) fn index(
    value: &Value,
    index: &Value,
    scope: &Scope<'_>,
) -> Result<Option<Value>, Fault> {
    match view(value, scope)? {
        Some(View::List(list)) => {
            let n = index.integer(scope)?;
            let n = u64::try_from(n)
                .ok()
                .filter(|n| *n < list.length)
                .ok_or_else(|| Fault::new(format!("index {n} of {} elements", list.length)))?;
            let found = list.items(n..n + 1, scope)?;
            Ok(found.into_iter().next())
        }
        Some(View::Map(map)) => {
            let wanted = Style::key();
            let text = is_text(index, scope)
                .then(|| self::text(index, MOST_TEXT, scope))
                .transpose()?
                .flatten();
            for (key, value) in map.entries(0..map.length, scope)? {
                let same = match &text {
                    Some(text) => self::text(&key, MOST_TEXT, scope)?.as_ref() == Some(text),
                    None => match (key.integer(scope), index.integer(scope)) {
                        (Ok(a), Ok(b)) => a == b,
                        _ => key.display(scope, &wanted) == index.display(scope, &wanted),
                    },
                };
                if same {
                    return Ok(Some(value));
                }
            }
            Err(Fault::new(format!(
                "none of {} entries has this key",
                map.length
            )))
        }
        Some(View::Text(text)) => {
            let n = index.integer(scope)?;
            let n = u64::try_from(n)
                .ok()
                .filter(|n| *n < text.length)
                .ok_or_else(|| Fault::new(format!("index {n} of {} characters", text.length)))?;
            let language = value.ty().bare().language();
            let address = text.address.wrapping_add(n * u64::from(text.unit));
            Ok(Some(Value::at(char_type(language, text.unit), address)))
        }
        Some(View::Plain(inner) | View::Wrapped { value: inner, .. }) => {
            self::index(&inner, index, scope)
        }
        Some(View::Pointer { .. }) => match pointee(value, scope)? {
            Some(inner) if matches!(inner.ty().bare().kind(), Kind::Record(_)) => {
                self::index(&inner, index, scope)
            }
            _ => Ok(None),
        },
        None => Ok(None),
    }
}

use crate::format::Style;

impl Style {
    fn key() -> Self {
        Self {
            bytes: 4096,
            ..Self::default()
        }
    }
}

fn char_type(language: Language, unit: u8) -> Type {
    use crate::types::Encoding;
    match (language, unit) {
        (Language::Rust, _) => Type::number(language, "u8", Encoding::Unsigned, 1),
        (_, 1) => Type::number(language, "char", Encoding::SignedChar, 1),
        (_, 2) => Type::number(language, "char16_t", Encoding::Unicode, 2),
        _ => Type::number(language, "char32_t", Encoding::Unicode, 4),
    }
}

/// The elements of a container that lie in a row: (type, address, number).
pub(crate) fn contiguous(
    value: &Value,
    scope: &Scope<'_>,
) -> Result<Option<(Type, u64, u64)>, Fault> {
    Ok(match view(value, scope)? {
        Some(View::List(List {
            element,
            length,
            walk: Walk::Row { address, .. },
            ..
        })) => Some((element, address, length)),
        Some(View::Text(text)) => {
            let language = value.ty().bare().language();
            Some((char_type(language, text.unit), text.address, text.length))
        }
        Some(View::Plain(inner)) => match inner.ty().elements() {
            Some((element, Some(count))) => inner.address().map(|a| (element, a, count)),
            _ => None,
        },
        _ => None,
    })
}

/// Elements of an array or container, bytes of a text.
///
/// # Errors
/// If it has no length.
pub(crate) fn length(value: &Value, scope: &Scope<'_>) -> Result<u64, Fault> {
    match view(value, scope)? {
        Some(View::Text(text)) => return Ok(text.length),
        Some(View::List(list)) => return Ok(list.length),
        Some(View::Map(map)) => return Ok(map.length),
        Some(View::Plain(inner) | View::Wrapped { value: inner, .. }) => {
            return length(&inner, scope);
        }
        Some(View::Pointer { .. }) => {
            if let Some(inner) = pointee(value, scope)? {
                return length(&inner.settled(scope)?, scope);
            }
        }
        None => {}
    }
    let bare = value.ty().bare();
    match bare.kind() {
        Kind::Array(array) => {
            let element = bare.follow(&array.element);
            // A literal's closing zero is not part of it.
            let literal = value.address().is_none() && element.is_char();
            Ok(array.count.unwrap_or(0) - u64::from(literal && array.count > Some(0)))
        }
        Kind::Pointer(link) => {
            let target = bare.follow(link);
            if !target.is_char() {
                let inner = Value::at(target.clone(), value.pointer(scope)?);
                if matches!(
                    completed(&target, scope).kind(),
                    Kind::Record(_) | Kind::Array(_)
                ) {
                    return length(&inner, scope);
                }
                return Err(Fault::new("a pointer does not tell how much it points to"));
            }
            let unit = target.size().unwrap_or(1).max(1);
            let (bytes, whole) = terminated(value.pointer(scope)?, unit, MOST_TEXT, scope)?
                .ok_or_else(|| Fault::new("this text cannot be read"))?;
            if !whole {
                return Err(Fault::new(format!("no end within {MOST_TEXT} characters")));
            }
            Ok(bytes.len() as u64 / unit)
        }
        _ => Err(Fault::new(format!("`{}` has no length", value.ty().name()))),
    }
}

/// The name of the present variant of an enum, or of the enumerator.
///
/// # Errors
/// If it is no enum.
pub(crate) fn variant_name(value: &Value, scope: &Scope<'_>) -> Result<String, Fault> {
    if let Some((name, _)) = members::variant(value, scope)? {
        return Ok(name);
    }
    let ty = completed(value.ty(), scope);
    if let Kind::Enumeration(_) = ty.kind() {
        let number = value.integer(scope)?;
        return Ok(members::enumerator(&ty, number).unwrap_or_else(|| number.to_string()));
    }
    Err(Fault::new(format!("`{}` is no enum", value.ty().name())))
}

/// Whether a value is a text by itself: not just a pointer to characters.
pub(crate) fn is_text(value: &Value, scope: &Scope<'_>) -> bool {
    let bare = value.ty().bare();
    match bare.kind() {
        Kind::Array(array) => bare.follow(&array.element).is_char(),
        Kind::Record(_) => matches!(view(value, scope), Ok(Some(View::Text(_)))),
        _ => false,
    }
}

/// The bytes of a text, up to its end or `most`; `None` if it is no text.
///
/// # Errors
/// If it cannot be read.
pub(crate) fn text(value: &Value, most: u64, scope: &Scope<'_>) -> Result<Option<Vec<u8>>, Fault> {
    let bare = value.ty().bare();
    match bare.kind() {
        Kind::Array(array) if bare.follow(&array.element).is_char() => {
            let unit = bare.follow(&array.element).size().unwrap_or(1).max(1);
            let count = array.count.unwrap_or(0).min(most);
            let mut bytes = value.first_bytes(scope, count * unit)?;
            let end = end_of(&bytes, unit);
            bytes.truncate(end);
            Ok(Some(bytes))
        }
        Kind::Pointer(link) if bare.follow(link).is_char() => {
            let unit = bare.follow(link).size().unwrap_or(1).max(1);
            Ok(terminated(value.pointer(scope)?, unit, most, scope)?.map(|(b, _)| b))
        }
        Kind::Record(_) => match view(value, scope)? {
            Some(View::Text(text)) => Ok(Some(text.read(most, scope)?.0)),
            _ => Ok(None),
        },
        _ => Ok(None),
    }
}

fn end_of(bytes: &[u8], unit: u64) -> usize {
    let unit = usize::try_from(unit).unwrap_or(1).max(1);
    bytes
        .chunks_exact(unit)
        .position(|c| c.iter().all(|b| *b == 0))
        .map_or(bytes.len(), |n| n * unit)
}

/// The characters at an address up to a zero, at most `most` of them, and whether the zero was
/// found. `None` if not even the first can be read.
///
/// # Errors
/// None beyond that; what cannot be read ends the text.
pub(crate) fn terminated(
    address: u64,
    unit: u64,
    most: u64,
    scope: &Scope<'_>,
) -> Result<Option<(Vec<u8>, bool)>, Fault> {
    let limit = most.min(MOST_TEXT).saturating_mul(unit);
    let mut out: Vec<u8> = Vec::new();
    // Up to the end of a page at a time: the next one may not be there.
    while (out.len() as u64) < limit + unit {
        let at = address.wrapping_add(out.len() as u64);
        let here = 4096 - at % 4096;
        let chunk = here
            .min(256.max(out.len() as u64))
            .min(limit + unit - out.len() as u64);
        let mut bytes = vec![0; usize::try_from(chunk).unwrap_or(1)];
        if scope.memory.read(at, &mut bytes).is_err() {
            return Ok(if out.is_empty() {
                None
            } else {
                Some((out, false))
            });
        }
        out.extend_from_slice(&bytes);
        let end = end_of(&out, unit);
        if end < out.len() && out.len() - end >= usize::try_from(unit).unwrap_or(1) {
            let whole = end as u64 <= limit;
            out.truncate(end.min(usize::try_from(limit).unwrap_or(usize::MAX)));
            return Ok(Some((out, whole)));
        }
    }
    out.truncate(usize::try_from(limit).unwrap_or(usize::MAX));
    Ok(Some((out, false)))
}

/// `name+offset` of the symbol that holds an address.
pub(crate) fn symbol_at(address: u64, scope: &Scope<'_>) -> Option<String> {
    let (module, bias) = scope.program.module_at(address)?;
    let symbol = module.symbol_at(address.wrapping_sub(bias))?;
    let mut name = crate::demangle::demangle(symbol.name);
    for (short, long) in [
        ("{vtable(", "vtable for "),
        ("{vtt(", "VTT for "),
        ("{typeinfo(", "typeinfo for "),
        ("{typeinfo name(", "typeinfo name for "),
    ] {
        if let Some(inner) = name.strip_prefix(short).and_then(|n| n.strip_suffix(")}")) {
            name = format!("{long}{inner}");
            break;
        }
    }
    let offset = address.wrapping_sub(bias).wrapping_sub(symbol.address);
    Some(if offset == 0 {
        name.to_string()
    } else {
        format!("{name}+{offset}")
    })
}
