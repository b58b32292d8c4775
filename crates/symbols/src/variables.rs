//! Variables: entries with a type and a place.

use crate::dies::{Attr, Die, Dies};
use crate::elf::Slice;
use crate::location::Context;
use crate::module::Module;
use crate::types::{Type, load};
use crate::value::{Fault, Scope, Value};
use gimli::{AttributeValue, DwAt, Expression};
use std::sync::Arc;

/// References from an entry to the one it repeats.
const MOST_ORIGINS: usize = 4;

/// The frame that locals belong to.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// An address inside of the instruction that the frame is at: its own, or in a caller one less
    /// than the return address.
    pub pc: u64,
    /// The canonical frame address.
    pub cfa: Option<u64>,
    pub(crate) marker: std::marker::PhantomData<&'a ()>,
}

impl Here<'_> {
    pub(crate) fn entry_value(&self, _: &Context<'_>, _: &Expression<Slice>) -> Result<u64, Fault> {
        Err(Fault::OptimisedOut)
    }

    pub(crate) fn parameter(&self, _: &Context<'_>, _: Die) -> Result<u64, Fault> {
        Err(Fault::OptimisedOut)
    }
}

/// An attribute of an entry or of the entry that it completes.
pub(crate) fn attribute<'a>(dies: &Dies<'a>, die: Die, name: DwAt) -> Option<(Dies<'a>, Attr)> {
    let mut dies = *dies;
    let mut die = die;
    for _ in 0..=MOST_ORIGINS {
        let entry = dies.entry(die)?;
        if let Some(value) = entry.attr_value(name) {
            return Some((dies, value));
        }
        let next = dies
            .refers(&entry, gimli::DW_AT_abstract_origin)
            .or_else(|| dies.refers(&entry, gimli::DW_AT_specification))?;
        dies = Dies::of(dies.info, next)?;
        die = next;
    }
    None
}

/// The name of an entry, wherever it is said.
pub(crate) fn name(dies: &Dies<'_>, die: Die) -> Option<String> {
    use gimli::Reader as _;
    let (there, value) = attribute(dies, die, gimli::DW_AT_name)?;
    let text = there.dwarf.attr_string(there.unit, value).ok()?;
    Some(text.to_string_lossy().ok()?.into_owned())
}

/// The type of an entry, wherever it is said.
pub(crate) fn type_of(dies: &Dies<'_>, module: &Arc<Module>, die: Die) -> Option<Type> {
    let (there, value) = attribute(dies, die, gimli::DW_AT_type)?;
    Some(load(module, there.reference(value)?))
}

/// The value of a variable. `Ok(None)` if this entry says not where it is: a declaration.
///
/// # Errors
/// If its place cannot be computed. A variable that was optimised out is a value without bytes.
pub(crate) fn value(
    scope: &Scope<'_>,
    module: &Arc<Module>,
    bias: u64,
    die: Die,
    function: Option<Die>,
) -> Result<Option<Value>, Fault> {
    let damaged = || Fault::new("damaged debug information");
    let dies = module
        .info()
        .and_then(|info| Dies::of(info, die))
        .ok_or_else(damaged)?;
    let ty = type_of(&dies, module, die).unwrap_or_else(|| Type::void(dies.language()));
    if let Some((there, location)) = attribute(&dies, die, gimli::DW_AT_location) {
        let context = Context {
            scope,
            module,
            bias,
            dies: there,
            function,
            nested: 0,
        };
        return match context.value(location, &ty) {
            Ok(value) => Ok(Some(value)),
            Err(fault @ Fault::OptimisedOut) => Ok(Some(Value::missing(ty, fault))),
            Err(fault) => Err(fault),
        };
    }
    if let Some((there, constant)) = attribute(&dies, die, gimli::DW_AT_const_value) {
        return Ok(constant_value(&there, &constant, &ty));
    }
    Ok(None)
}

fn constant_value(dies: &Dies<'_>, constant: &Attr, ty: &Type) -> Option<Value> {
    let size = usize::try_from(ty.size()?).ok().filter(|s| *s <= 1 << 16)?;
    let mut bytes = match constant {
        AttributeValue::Block(bytes) => bytes.bytes().to_vec(),
        AttributeValue::Exprloc(expression) => expression.0.bytes().to_vec(),
        AttributeValue::Data16(v) => v.to_le_bytes().to_vec(),
        AttributeValue::Sdata(v) => i128::from(*v).to_le_bytes().to_vec(),
        AttributeValue::String(_) | AttributeValue::DebugStrRef(_) => {
            use gimli::Reader as _;
            let text = dies.dwarf.attr_string(dies.unit, constant.clone()).ok()?;
            text.to_slice().ok()?.to_vec()
        }
        other => other.udata_value()?.to_le_bytes().to_vec(),
    };
    bytes.resize(size, 0);
    Some(Value::of_bytes(ty.clone(), bytes))
}

/// The language of the unit that holds an address.
pub(crate) fn language_at(_: &Arc<Module>, _: u64, _: u64) -> Option<crate::dies::Language> {
    None
}

/// A local variable or argument of the scope's frame.
///
/// # Errors
/// If its place cannot be computed.
pub(crate) fn local(_: &Scope<'_>, _: &str) -> Result<Option<Value>, Fault> {
    Ok(None)
}

/// A type that is known only inside of the function we are in.
pub(crate) fn local_type(_: &Scope<'_>, _: &crate::expr::Path) -> Option<Type> {
    None
}

/// The namespaces and classes around the function we are in.
pub(crate) fn scopes_here(_: &Scope<'_>) -> Vec<String> {
    Vec::new()
}

/// The unit that we are in, if it is one of this module.
pub(crate) fn unit_here(_: &Scope<'_>, _: &crate::program::Loaded) -> Option<u32> {
    None
}

/// Static variables of a name inside of a function.
pub(crate) fn statics(dies: &Dies<'_>, function: Die, name: &str, most: usize) -> Vec<Die> {
    let mut found = Vec::new();
    let Ok(mut cursor) = dies
        .unit
        .entries_at_offset(gimli::UnitOffset(function.offset as usize))
    else {
        return found;
    };
    let Ok(Some(first)) = cursor.next_dfs() else {
        return found;
    };
    let depth = first.depth();
    for _ in 0..most {
        match cursor.next_dfs() {
            Ok(Some(entry)) if entry.depth() > depth => {
                if entry.tag() == gimli::DW_TAG_variable {
                    let die = dies.die(entry.offset());
                    let fixed = entry
                        .attr_value(gimli::DW_AT_location)
                        .is_some_and(|l| crate::location::is_static(dies, &l));
                    if fixed && self::name(dies, die).as_deref() == Some(name) {
                        found.push(die);
                    }
                }
            }
            _ => break,
        }
    }
    found
}
