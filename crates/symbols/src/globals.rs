//! Variables that live as long as the program: those of a unit, and the one that holds an address.
//!
//! Which variable an address belongs to is answered from a table of a module's variables, made when
//! it is first asked; which part of the variable it is, by going down into its type.

use crate::catalog::What;
use crate::dies::{Die, Dies};
use crate::expr::completed;
use crate::format::Style;
use crate::intervals::Intervals;
use crate::layer;
use crate::module::Module;
use crate::program::Program;
use crate::types::Kind;
use crate::value::{Fault, Scope, Value};
use crate::variables::{self, locals};
use gimli::{AttributeValue, Operation};
use std::collections::HashSet;
use std::ops::Range;
use std::sync::Arc;

/// Most variables of a unit.
const MOST_OF_UNIT: usize = 1 << 16;
/// Parts within parts.
const MOST_NESTED: usize = 32;

/// A variable of a unit.
#[derive(Clone, Debug)]
pub struct Global {
    /// Its name, with its namespaces.
    pub name: String,
    /// An expression for it.
    pub expression: String,
    /// Its value, or why it cannot be told.
    pub value: Result<Value, Fault>,
}

/// The variables outside of functions of the unit that the scope's frame is in, by name. What was
/// optimised away is left out.
pub fn globals(scope: &Scope<'_>) -> Vec<Global> {
    let here = scope.program.modules().iter().find_map(|loaded| {
        let unit = variables::unit_here(scope, loaded)?;
        Some((loaded, unit, loaded.module.catalog()?))
    });
    let Some((loaded, unit, catalog)) = here else {
        return Vec::new();
    };
    let hidden: HashSet<String> = locals(scope).into_iter().map(|l| l.name).collect();
    let mut found: Vec<Global> = Vec::new();
    for die in catalog.defined(What::Variable).filter(|d| d.unit == unit) {
        if found.len() >= MOST_OF_UNIT {
            break;
        }
        let Some(name) = catalog.qualified(&loaded.module, die) else {
            continue;
        };
        let value = match variables::value(scope, &loaded.module, loaded.bias, die, None) {
            Ok(Some(value)) if value.fault() == Some(&Fault::OptimisedOut) => continue,
            Ok(Some(value)) => Ok(value),
            Ok(None) | Err(Fault::OptimisedOut) => continue,
            Err(fault) => Err(fault),
        };
        found.push(Global {
            expression: match hidden.contains(&name) {
                true => format!("::{name}"),
                false => name.clone(),
            },
            name,
            value,
        });
    }
    found.sort_by(|a, b| a.name.cmp(&b.name));
    // A definition and what completes it are one variable.
    found.dedup_by(|a, b| {
        let address = |g: &Global| g.value.as_ref().ok().and_then(Value::address);
        a.name == b.name && address(a) == address(b)
    });
    found
}

/// The variables of a module by address.
#[derive(Debug)]
pub(crate) struct Statics(Intervals<Die>);

impl Statics {
    /// Of all units.
    pub(crate) fn read(module: &Arc<Module>) -> Self {
        let Some((info, catalog)) = module.info().zip(module.catalog()) else {
            return Self(Intervals::new([]));
        };
        let place = |die: Die| {
            let dies = Dies::of(info, die)?;
            let (there, location) = variables::attribute(&dies, die, gimli::DW_AT_location)?;
            let start = address(&there, &location)?;
            let size = variables::type_of(&dies, module, die)?.size()?;
            Some((start, start.checked_add(size)?, die))
        };
        let all = catalog.defined(What::Variable).filter_map(place);
        Self(Intervals::new(all.collect::<Vec<_>>()))
    }
}

/// The address that a location says for every frame, if that is all it says.
fn address(dies: &Dies<'_>, location: &crate::dies::Attr) -> Option<u64> {
    let AttributeValue::Exprloc(expression) = location else {
        return None;
    };
    let mut operations = expression.clone().operations(dies.unit.encoding());
    let address = match operations.next().ok()?? {
        Operation::Address { address } => address,
        Operation::AddressIndex { index } => dies.dwarf.address(dies.unit, index).ok()?,
        _ => return None,
    };
    operations.next().ok()?.is_none().then_some(address)
}

impl Program {
    /// The variable outside of functions that holds an address: its name with its namespaces, and
    /// itself.
    pub fn variable_at(&self, address: u64) -> Option<(String, Value)> {
        let (module, bias) = self.module_at(address)?;
        let catalog = module.catalog()?;
        let statics = catalog.statics.get_or_init(|| Statics::read(module));
        let (start, _, die) = statics.0.at(address.wrapping_sub(bias)).next()?;
        let dies = Dies::of(module.info()?, die)?;
        let ty = variables::type_of(&dies, module, die)?;
        let name = catalog.qualified(module, die)?;
        Some((name, Value::at(ty, start.wrapping_add(bias))))
    }
}

/// The smallest parts of a value that have bytes in a range of addresses, at most `most`, each with
/// an expression for it: numbers, pointers, enums, texts, and containers as they are shown. `name` is
/// that of the whole.
pub fn parts_in(
    scope: &Scope<'_>,
    name: &str,
    value: &Value,
    range: &Range<u64>,
    most: usize,
) -> Vec<(String, Value)> {
    let mut found = Vec::new();
    descend(scope, name, value, range, most, 0, &mut found);
    found
}

fn descend(
    scope: &Scope<'_>,
    name: &str,
    value: &Value,
    range: &Range<u64>,
    most: usize,
    depth: usize,
    found: &mut Vec<(String, Value)>,
) {
    if found.len() >= most || !touches(value, range) {
        return;
    }
    let style = Style::default().raw();
    let ty = completed(value.ty(), scope);
    let parts = match ty.kind() {
        _ if depth >= MOST_NESTED => None,
        Kind::Array(array) => {
            let element = ty.follow(&array.element);
            let size = element.size().filter(|s| *s > 0);
            let start = value.address();
            match size.zip(start).filter(|_| !element.is_char()) {
                Some((size, start)) => {
                    let from = range.start.saturating_sub(start) / size;
                    let to = range.end.saturating_sub(start).div_ceil(size);
                    let to = to.min(from.saturating_add(most as u64));
                    Some(value.children(scope, &style, from..to))
                }
                None => None,
            }
        }
        Kind::Record(_) if matches!(layer::view(value, scope), Ok(None)) => {
            Some(value.children(scope, &style, 0..u64::MAX))
        }
        _ => None,
    };
    let before = found.len();
    for part in parts.unwrap_or_default() {
        // What is shared by all objects lies elsewhere.
        if let Ok(inner) = &part.value {
            let path = part.expression(name);
            let path = path.unwrap_or_else(|| format!("{name}.{}", part.name));
            descend(scope, &path, inner, range, most, depth + 1, found);
        }
    }
    // Padding, the tag of an enum: the whole says it.
    if found.len() == before {
        found.push((name.to_owned(), value.clone()));
    }
}

/// Whether a value has bytes in a range.
fn touches(value: &Value, range: &Range<u64>) -> bool {
    let Some(start) = value.storage() else {
        return false;
    };
    let (from, length) = match value.bits() {
        Some((first, count)) => (
            start.wrapping_add(first / 8),
            (first % 8 + count).div_ceil(8),
        ),
        None => (start, value.ty().size().unwrap_or(0)),
    };
    from < range.end && from.saturating_add(length) > range.start
}
