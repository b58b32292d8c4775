//! Variables: entries with a type and a place.

use crate::dies::{Attr, Die, Dies, Entry, Language, Part};
use crate::elf::Slice;
use crate::location::Context;
use crate::memory::Registers;
use crate::module::Module;
use crate::program::Program;
use crate::types::{Type, load};
use crate::value::{Fault, Scope, Value};
use gimli::{AttributeValue, DwAt, Expression, UnitOffset};
use std::sync::Arc;

/// References from an entry to the one it repeats.
const MOST_ORIGINS: usize = 4;
/// Entries of a function that are looked at.
const MOST_INSIDE: usize = 1 << 16;
/// Blocks within blocks.
const MOST_BLOCKS: usize = 256;
/// Variables of a frame.
const MOST_LOCALS: usize = 4096;

/// The frame that locals belong to, in the words of debug information.
#[derive(Clone, Copy)]
pub struct Here<'a> {
    /// An address inside of the instruction that the frame is at: its own, or in a caller one less
    /// than the return address.
    pub pc: u64,
    /// The canonical frame address.
    pub cfa: Option<u64>,
    /// The function that holds it, not an inlined one: unit and entry.
    pub physical: Option<(usize, UnitOffset)>,
    /// The function of this frame: `physical`, or a call that was inlined into it.
    pub function: Option<(usize, UnitOffset)>,
    /// The frame that called the physical function.
    pub caller: Option<Caller<'a>>,
}

/// As much of a calling frame as is needed to know what it passed.
#[derive(Clone, Copy)]
pub struct Caller<'a> {
    /// Its registers.
    pub registers: &'a dyn Registers,
    /// Its address: where the call returns to.
    pub pc: u64,
    /// The canonical frame address.
    pub cfa: Option<u64>,
    /// The function that holds it, not an inlined one: unit and entry.
    pub physical: Option<(usize, UnitOffset)>,
}

impl std::fmt::Debug for Here<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Here")
            .field("pc", &self.pc)
            .field("cfa", &self.cfa)
            .field("function", &self.function)
            .finish_non_exhaustive()
    }
}

fn own(at: Option<(usize, UnitOffset)>) -> Option<Die> {
    let (unit, offset) = at?;
    Some(Die {
        part: Part::Own,
        unit: u32::try_from(unit).ok()?,
        offset: u32::try_from(offset.0).ok()?,
    })
}

impl Here<'_> {
    /// What the caller's debug information says of the call that we are in: its entry.
    fn call_site<'p>(&self, program: &'p Program) -> Option<(&'p Arc<Module>, u64, Dies<'p>, Die)> {
        let caller = self.caller?;
        let inside = caller.pc.wrapping_sub(1);
        let (module, bias) = program.module_at(inside)?;
        let function = own(caller.physical)?;
        let dies = Dies::of(module.info()?, function)?;
        let wanted = caller.pc.wrapping_sub(bias);
        let site = within(&dies, function, MOST_INSIDE, |entry| {
            let returns = match entry.tag() {
                gimli::DW_TAG_call_site => entry.attr_value(gimli::DW_AT_call_return_pc),
                gimli::DW_TAG_GNU_call_site => entry.attr_value(gimli::DW_AT_low_pc),
                _ => None,
            };
            let address = returns.and_then(|v| dies.dwarf.attr_address(dies.unit, v).ok()?);
            address == Some(wanted)
        })?;
        Some((module, bias, dies, site))
    }

    /// The value of an expression of the caller.
    fn passed(
        &self,
        context: &Context<'_>,
        matches: impl Fn(&Dies<'_>, &crate::dies::Entry) -> bool,
    ) -> Result<u64, Fault> {
        let caller = self.caller.ok_or(Fault::OptimisedOut)?;
        let program = context.scope.program;
        let (module, bias, dies, site) = self.call_site(program).ok_or(Fault::OptimisedOut)?;
        let parameter = dies
            .children(site, 64)
            .into_iter()
            .find(|e| {
                matches!(
                    e.tag(),
                    gimli::DW_TAG_call_site_parameter | gimli::DW_TAG_GNU_call_site_parameter
                ) && matches(&dies, e)
            })
            .ok_or(Fault::OptimisedOut)?;
        let value = parameter
            .attr_value(gimli::DW_AT_call_value)
            .or_else(|| parameter.attr_value(gimli::DW_AT_GNU_call_site_value));
        let Some(AttributeValue::Exprloc(expression)) = value else {
            return Err(Fault::OptimisedOut);
        };
        let scope = Scope {
            program,
            memory: context.scope.memory,
            registers: caller.registers,
            here: Some(Here {
                pc: caller.pc.wrapping_sub(1),
                cfa: caller.cfa,
                physical: caller.physical,
                function: caller.physical,
                caller: None,
            }),
        };
        let inner = Context {
            scope: &scope,
            module,
            bias,
            dies,
            function: own(caller.physical),
            nested: context.nested,
        };
        inner.number(expression)
    }

    pub(crate) fn entry_value(
        &self,
        context: &Context<'_>,
        wanted: &Expression<Slice>,
    ) -> Result<u64, Fault> {
        self.passed(context, |_, entry| {
            matches!(
                entry.attr_value(gimli::DW_AT_location),
                Some(AttributeValue::Exprloc(e)) if e.0.bytes() == wanted.0.bytes()
            )
        })
    }

    pub(crate) fn parameter(&self, context: &Context<'_>, parameter: Die) -> Result<u64, Fault> {
        self.passed(context, |dies, entry| {
            dies.refers(entry, gimli::DW_AT_call_parameter) == Some(parameter)
        })
    }
}

/// The first entry inside of another for which `wanted` holds.
fn within(
    dies: &Dies<'_>,
    root: Die,
    most: usize,
    wanted: impl Fn(&crate::dies::Entry) -> bool,
) -> Option<Die> {
    let mut cursor = dies
        .unit
        .entries_at_offset(UnitOffset(root.offset as usize))
        .ok()?;
    let depth = cursor.next_dfs().ok()??.depth();
    for _ in 0..most {
        match cursor.next_dfs() {
            Ok(Some(entry)) if entry.depth() > depth => {
                if wanted(entry) {
                    return Some(dies.die(entry.offset()));
                }
            }
            _ => return None,
        }
    }
    None
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

/// The module of the scope's frame, and the entries of its function and of the function around it.
struct Place<'a> {
    module: &'a Arc<Module>,
    bias: u64,
    dies: Dies<'a>,
    function: Die,
    physical: Die,
    /// The address by the file's own count.
    pc: u64,
}

fn place<'a>(scope: &Scope<'a>) -> Option<Place<'a>> {
    let here = scope.here?;
    let (module, bias) = scope.program.module_at(here.pc)?;
    let function = own(here.function.or(here.physical))?;
    let physical = own(here.physical).unwrap_or(function);
    Some(Place {
        module,
        bias,
        dies: Dies::of(module.info()?, function)?,
        function,
        physical,
        pc: here.pc.wrapping_sub(bias),
    })
}

impl Place<'_> {
    /// Whether an entry holds the address; one that says nothing does.
    fn holds(&self, entry: &Entry) -> bool {
        if !entry.has_attr(gimli::DW_AT_low_pc) && !entry.has_attr(gimli::DW_AT_ranges) {
            return true;
        }
        let Ok(mut ranges) = self.dies.dwarf.die_ranges(self.dies.unit, entry) else {
            return false;
        };
        for _ in 0..MOST_INSIDE {
            match ranges.next() {
                Ok(Some(range)) if range.begin <= self.pc && self.pc < range.end => return true,
                Ok(Some(_)) => {}
                _ => break,
            }
        }
        false
    }

    /// The function and the blocks around the address, outermost first.
    fn blocks(&self) -> Vec<Die> {
        let mut blocks = vec![self.function];
        let mut at = self.function;
        while blocks.len() < MOST_BLOCKS {
            let inner = self.dies.children(at, MOST_INSIDE).into_iter().find(|e| {
                matches!(
                    e.tag(),
                    gimli::DW_TAG_lexical_block
                        | gimli::DW_TAG_try_block
                        | gimli::DW_TAG_catch_block
                ) && self.holds(e)
            });
            let Some(inner) = inner else { break };
            at = self.dies.die(inner.offset());
            blocks.push(at);
        }
        blocks
    }

    /// The entry that says what the function is called and where it belongs.
    fn origin(&self) -> Die {
        let mut dies = self.dies;
        let mut die = self.function;
        for _ in 0..MOST_ORIGINS {
            let Some(entry) = dies.entry(die) else { break };
            let Some(next) = dies.refers(&entry, gimli::DW_AT_abstract_origin) else {
                break;
            };
            let Some(there) = Dies::of(dies.info, next) else {
                break;
            };
            (dies, die) = (there, next);
        }
        die
    }
}

/// The language of the function we are in.
pub(crate) fn language_here(scope: &Scope<'_>) -> Option<Language> {
    Some(place(scope)?.dies.language())
}

/// A local variable or argument of the scope's frame, or a member of the object that a method works
/// on.
///
/// # Errors
/// If its place cannot be computed.
pub(crate) fn local(scope: &Scope<'_>, name: &str) -> Result<Option<Value>, Fault> {
    let Some(at) = place(scope) else {
        return Ok(None);
    };
    for block in at.blocks().into_iter().rev() {
        // Of two in one block the later one hides the earlier one.
        let found = at
            .dies
            .children(block, MOST_INSIDE)
            .into_iter()
            .filter(is_variable)
            .map(|e| at.dies.die(e.offset()))
            .filter(|die| self::name(&at.dies, *die).as_deref() == Some(name))
            .last();
        if let Some(die) = found {
            // One that is only declared stands elsewhere.
            let value = value(scope, at.module, at.bias, die, Some(at.physical))?;
            if let Some(value) = value {
                return Ok(Some(value));
            }
            let dies = &at.dies;
            let declared = dies
                .entry(die)
                .is_some_and(|e| dies.flag(&e, gimli::DW_AT_declaration));
            if !declared {
                let ty = type_of(dies, at.module, die);
                let ty = ty.unwrap_or_else(|| Type::void(dies.language()));
                return Ok(Some(Value::missing(ty, Fault::OptimisedOut)));
            }
        }
    }
    if name != "this"
        && at.dies.language() == Language::Cpp
        && let Some(this) = local(scope, "this")?
        && let Some(class) = this.ty().target()
        && let Ok(address) = this.pointer(scope)
    {
        let object = Value::at(class, address);
        return crate::members::own(&object, name, scope);
    }
    Ok(None)
}

fn is_variable(entry: &Entry) -> bool {
    matches!(
        entry.tag(),
        gimli::DW_TAG_variable | gimli::DW_TAG_formal_parameter
    )
}

/// A variable of a frame.
#[derive(Clone, Debug)]
pub struct Local {
    /// Its name.
    pub name: String,
    /// Its value, or why it cannot be told.
    pub value: Result<Value, Fault>,
    /// Whether it is an argument.
    pub argument: bool,
    /// Whether another of the same name in an inner block hides it.
    pub hidden: bool,
    /// Blocks around it within the function; 0 for arguments and the outermost variables.
    pub depth: usize,
}

/// The arguments of the scope's frame and its local variables, those of the innermost block last.
pub fn locals(scope: &Scope<'_>) -> Vec<Local> {
    let mut found: Vec<Local> = Vec::new();
    let Some(at) = place(scope) else {
        return found;
    };
    for (depth, block) in at.blocks().into_iter().enumerate() {
        for entry in at.dies.children(block, MOST_INSIDE) {
            if !is_variable(&entry) || found.len() >= MOST_LOCALS {
                continue;
            }
            let die = at.dies.die(entry.offset());
            let Some(name) = self::name(&at.dies, die) else {
                continue;
            };
            if at.dies.flag(&entry, gimli::DW_AT_declaration) {
                continue;
            }
            let value = match value(scope, at.module, at.bias, die, Some(at.physical)) {
                Ok(Some(value)) => Ok(value),
                Ok(None) => {
                    let ty = type_of(&at.dies, at.module, die);
                    let ty = ty.unwrap_or_else(|| Type::void(at.dies.language()));
                    Ok(Value::missing(ty, Fault::OptimisedOut))
                }
                Err(fault) => Err(fault),
            };
            found.push(Local {
                name,
                value,
                argument: entry.tag() == gimli::DW_TAG_formal_parameter,
                hidden: false,
                depth,
            });
        }
    }
    let mut seen = std::collections::HashSet::new();
    for local in found.iter_mut().rev() {
        local.hidden = !seen.insert(local.name.clone());
    }
    found.sort_by_key(|l| !l.argument);
    found
}

/// A type that is known only inside of the function we are in.
pub(crate) fn local_type(scope: &Scope<'_>, path: &crate::expr::Path) -> Option<Type> {
    let [wanted] = path.segments.as_slice() else {
        return None;
    };
    let at = place(scope)?;
    let mut blocks = at.blocks();
    blocks.push(at.origin());
    for block in blocks.into_iter().rev() {
        let dies = Dies::of(at.dies.info, block)?;
        let found = dies.children(block, MOST_INSIDE).into_iter().find(|e| {
            let is_type = matches!(
                e.tag(),
                gimli::DW_TAG_structure_type
                    | gimli::DW_TAG_class_type
                    | gimli::DW_TAG_union_type
                    | gimli::DW_TAG_enumeration_type
                    | gimli::DW_TAG_typedef
                    | gimli::DW_TAG_template_type_parameter
            );
            is_type && dies.name(e).as_ref() == Some(wanted)
        });
        if let Some(entry) = found {
            let die = match entry.tag() {
                gimli::DW_TAG_template_type_parameter => dies.refers(&entry, gimli::DW_AT_type)?,
                _ => dies.die(entry.offset()),
            };
            return Some(load(at.module, die));
        }
    }
    None
}

/// The namespaces and classes around the function we are in, and the function itself.
pub(crate) fn scopes_here(scope: &Scope<'_>) -> Vec<String> {
    let Some(at) = place(scope) else {
        return Vec::new();
    };
    let Some(catalog) = at.module.catalog() else {
        return Vec::new();
    };
    let origin = at.origin();
    let mut scopes: Vec<String> = catalog
        .scopes_of(origin)
        .into_iter()
        .map(str::to_owned)
        .collect();
    scopes.extend(self::name(&at.dies, at.function));
    scopes
}

/// The unit that we are in, if it is one of this module.
pub(crate) fn unit_here(scope: &Scope<'_>, loaded: &crate::program::Loaded) -> Option<u32> {
    let at = place(scope)?;
    (Arc::ptr_eq(at.module, &loaded.module) && at.bias == loaded.bias).then_some(at.function.unit)
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
