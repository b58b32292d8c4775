//! Types from debugging information entries.

use super::{
    Array, Data, Encoding, Enumeration, Keyword, Kind, Link, Member, Record, Type, Variant,
    Variants,
};
use crate::dies::{Attr, Die, Dies, Entry, Language, shared};
use crate::expr::names::numbers;
use crate::module::Module;
use gimli::{AttributeValue, DwAt, DwTag, Operation};
use std::collections::HashMap;
use std::sync::{Arc, Mutex, PoisonError};

/// Members of a record, values of an enum: more are taken for damage.
const MOST_MEMBERS: usize = 1 << 16;
/// Types that are kept; then all are forgotten.
const MOST_KEPT: usize = 1 << 18;

/// The types of a module that have been looked at.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    types: Mutex<HashMap<Die, Arc<Data>>>,
}

/// The type at a place; something without parts if there is none.
pub(crate) fn load(module: &Arc<Module>, die: Die) -> Type {
    let nothing = || Type::new(Some(Arc::clone(module)), Arc::new(none(Language::Other)));
    let (Some(info), Some(catalog)) = (module.info(), module.catalog()) else {
        return nothing();
    };
    let tables = &catalog.tables.types;
    let kept = tables
        .lock()
        .unwrap_or_else(PoisonError::into_inner)
        .get(&die)
        .map(Arc::clone);
    if let Some(data) = kept {
        return Type::new(Some(Arc::clone(module)), data);
    }
    let Some(dies) = Dies::of(info, die) else {
        return nothing();
    };
    let Some(entry) = dies.entry(die) else {
        return nothing();
    };
    // The names of type units and declarations lead to where the parts are said.
    if let Some(other) = dies.refers(&entry, gimli::DW_AT_signature)
        && other != die
        && let Some(there) = Dies::of(info, other)
        && let Some(entry) = there.entry(other)
    {
        let name = catalog.qualified(module, other);
        let data = Arc::new(read(&there, other, &entry, name));
        keep(tables, die, &data);
        return Type::new(Some(Arc::clone(module)), data);
    }
    let name = dies
        .name(&entry)
        .and_then(|own| catalog.qualified(module, die).or(Some(own)));
    let data = Arc::new(read(&dies, die, &entry, name));
    keep(tables, die, &data);
    Type::new(Some(Arc::clone(module)), data)
}

fn keep(tables: &Mutex<HashMap<Die, Arc<Data>>>, die: Die, data: &Arc<Data>) {
    let mut types = tables.lock().unwrap_or_else(PoisonError::into_inner);
    if types.len() >= MOST_KEPT {
        types.clear();
    }
    types.insert(die, Arc::clone(data));
}

fn none(language: Language) -> Data {
    Data {
        die: None,
        language,
        name: None,
        size: None,
        kind: Kind::Void,
    }
}

fn read(dies: &Dies<'_>, die: Die, entry: &Entry, name: Option<String>) -> Data {
    let size = dies.number_of(entry, gimli::DW_AT_byte_size);
    let inner = || link(dies, entry, gimli::DW_AT_type);
    let language = dies.language();
    let kind = match entry.tag() {
        gimli::DW_TAG_base_type => Kind::Number(encoding(entry)),
        gimli::DW_TAG_pointer_type => Kind::Pointer(inner()),
        gimli::DW_TAG_reference_type => Kind::Reference(inner(), false),
        gimli::DW_TAG_rvalue_reference_type => Kind::Reference(inner(), true),
        gimli::DW_TAG_ptr_to_member_type => {
            Kind::MemberPointer(link(dies, entry, gimli::DW_AT_containing_type), inner())
        }
        gimli::DW_TAG_array_type => array(dies, die, entry, language),
        gimli::DW_TAG_structure_type => record(dies, die, entry, Keyword::Struct),
        gimli::DW_TAG_class_type => record(dies, die, entry, Keyword::Class),
        gimli::DW_TAG_union_type => record(dies, die, entry, Keyword::Union),
        gimli::DW_TAG_enumeration_type => enumeration(dies, die, entry),
        gimli::DW_TAG_typedef | gimli::DW_TAG_template_alias => Kind::Alias(inner()),
        gimli::DW_TAG_const_type => Kind::Const(inner()),
        gimli::DW_TAG_volatile_type => Kind::Volatile(inner()),
        gimli::DW_TAG_atomic_type
        | gimli::DW_TAG_restrict_type
        | gimli::DW_TAG_shared_type
        | gimli::DW_TAG_packed_type
        | gimli::DW_TAG_immutable_type => Kind::Atomic(inner()),
        gimli::DW_TAG_subroutine_type | gimli::DW_TAG_subprogram => function(dies, die, entry),
        gimli::DW_TAG_unspecified_type => Kind::Void,
        _ => Kind::Unknown,
    };
    let size = match kind {
        Kind::Pointer(_) | Kind::Reference(..) => size.or(Some(8)),
        Kind::MemberPointer(..) => size.or(Some(8)),
        _ => size,
    };
    let name = name.map(|n| match language {
        // Compilers write `Box<long int>`, people and GDB `Box<long>`.
        Language::Cpp if n.contains(' ') => shared(numbers(&n)),
        _ => shared(n),
    });
    Data {
        die: Some(die),
        language,
        name,
        size,
        kind,
    }
}

fn link(dies: &Dies<'_>, entry: &Entry, name: DwAt) -> Link {
    dies.refers(entry, name).map_or(Link::Void, Link::At)
}

fn encoding(entry: &Entry) -> Encoding {
    match entry.attr_value(gimli::DW_AT_encoding) {
        Some(AttributeValue::Encoding(e)) => match e {
            gimli::DW_ATE_signed => Encoding::Signed,
            gimli::DW_ATE_unsigned | gimli::DW_ATE_address => Encoding::Unsigned,
            gimli::DW_ATE_float => Encoding::Float,
            gimli::DW_ATE_boolean => Encoding::Bool,
            gimli::DW_ATE_signed_char => Encoding::SignedChar,
            gimli::DW_ATE_unsigned_char => Encoding::UnsignedChar,
            gimli::DW_ATE_UTF | gimli::DW_ATE_UCS | gimli::DW_ATE_ASCII => Encoding::Unicode,
            gimli::DW_ATE_complex_float => Encoding::Complex,
            _ => Encoding::Other,
        },
        _ => Encoding::Other,
    }
}

fn array(dies: &Dies<'_>, die: Die, entry: &Entry, language: Language) -> Kind {
    let element = link(dies, entry, gimli::DW_AT_type);
    let vector = dies.flag(entry, gimli::DW_AT_GNU_vector);
    let mut counts: Vec<Option<u64>> = Vec::new();
    for child in dies.children(die, 32) {
        if child.tag() != gimli::DW_TAG_subrange_type {
            continue;
        }
        let count = dies.number_of(&child, gimli::DW_AT_count).or_else(|| {
            // The upper bound of `T x[0]` is -1, in whatever width.
            let upper = child.attr_value(gimli::DW_AT_upper_bound)?;
            let upper = constant(&upper)?;
            let lower = child
                .attr_value(gimli::DW_AT_lower_bound)
                .and_then(|v| constant(&v))
                .unwrap_or(0);
            u64::try_from(upper.checked_sub(lower)?.checked_add(1)?).ok()
        });
        // A bound that is an expression belongs to a variable-length array.
        counts.push(count.filter(|c| *c < u64::from(u32::MAX) << 8));
    }
    let mut rest = counts.into_iter().rev();
    let mut made = Array {
        element,
        count: rest.next().flatten(),
        vector,
    };
    for count in rest {
        let inner = Data {
            die: None,
            language,
            name: None,
            size: None,
            kind: Kind::Array(made),
        };
        made = Array {
            // The rows of a matrix have no entry of their own; they get their module from their
            // reader (see `Link::Row`).
            element: Link::Row(Arc::new(inner)),
            count,
            vector: false,
        };
    }
    Kind::Array(made)
}

/// A constant in any form, with its sign as far as the form has one.
pub(crate) fn constant(value: &Attr) -> Option<i128> {
    Some(match value {
        AttributeValue::Data1(v) => i128::from(*v),
        AttributeValue::Data2(v) => i128::from(*v),
        AttributeValue::Data4(v) => i128::from(*v),
        AttributeValue::Data8(v) | AttributeValue::Udata(v) => i128::from(*v),
        AttributeValue::Sdata(v) => i128::from(*v),
        AttributeValue::Data16(v) => i128::try_from(*v).ok()?,
        _ => return None,
    })
}

fn record(dies: &Dies<'_>, die: Die, entry: &Entry, keyword: Keyword) -> Kind {
    let mut record = Record {
        keyword,
        members: Vec::new(),
        variants: None,
        arguments: Vec::new(),
        declaration: dies.flag(entry, gimli::DW_AT_declaration),
        dynamic: entry.has_attr(gimli::DW_AT_containing_type),
    };
    for child in dies.children(die, MOST_MEMBERS) {
        match child.tag() {
            gimli::DW_TAG_member | gimli::DW_TAG_inheritance => {
                record.members.push(member(dies, &child));
            }
            // DWARF 5 has static members as variables.
            gimli::DW_TAG_variable => {
                let mut made = member(dies, &child);
                made.of_class = Some(dies.die(child.offset()));
                record.members.push(made);
            }
            gimli::DW_TAG_variant_part => {
                record.variants = Some(variants(dies, &child));
            }
            gimli::DW_TAG_template_type_parameter => {
                let name = dies.name(&child).unwrap_or_default();
                record
                    .arguments
                    .push((shared(name), link(dies, &child, gimli::DW_AT_type)));
            }
            gimli::DW_TAG_subprogram if child.has_attr(gimli::DW_AT_vtable_elem_location) => {
                record.dynamic = true;
            }
            _ => {}
        }
    }
    Kind::Record(record)
}

fn member(dies: &Dies<'_>, entry: &Entry) -> Member {
    let mut at = 0;
    let mut computed = false;
    match entry.attr_value(gimli::DW_AT_data_member_location) {
        None => {}
        Some(AttributeValue::Exprloc(expression)) => {
            let mut operations = expression.operations(dies.unit.encoding());
            match (operations.next(), operations.next()) {
                (Ok(Some(Operation::PlusConstant { value })), Ok(None)) => at = value,
                _ => computed = true,
            }
        }
        Some(value) => match value.udata_value() {
            Some(value) => at = value,
            None => computed = true,
        },
    }
    if dies
        .number_of(entry, gimli::DW_AT_virtuality)
        .is_some_and(|v| v != 0)
        || matches!(
            entry.attr_value(gimli::DW_AT_virtuality),
            Some(AttributeValue::Virtuality(v)) if v != gimli::DW_VIRTUALITY_none
        )
    {
        computed = true;
    }
    let size = dies.number_of(entry, gimli::DW_AT_bit_size);
    let bits = size.and_then(|size| {
        let start = if let Some(start) = dies.number_of(entry, gimli::DW_AT_data_bit_offset) {
            start.checked_add(at.checked_mul(8)?)?
        } else if let Some(from_top) = dies.number_of(entry, gimli::DW_AT_bit_offset) {
            // DWARF 2 and 3 count from the highest bit of the storage unit.
            let storage = dies
                .number_of(entry, gimli::DW_AT_byte_size)
                .or_else(|| storage_of(dies, entry))?;
            at.checked_mul(8)?
                .checked_add(storage.checked_mul(8)?)?
                .checked_sub(from_top)?
                .checked_sub(size)?
        } else {
            at.checked_mul(8)?
        };
        Some((start, size))
    });
    // A field without a place of its own in DWARF 5 is given in bits alone.
    if bits.is_none()
        && !entry.has_attr(gimli::DW_AT_data_member_location)
        && let Some(start) = dies.number_of(entry, gimli::DW_AT_data_bit_offset)
    {
        at = start / 8;
    }
    let is_static = entry.tag() == gimli::DW_TAG_member
        && (dies.flag(entry, gimli::DW_AT_external) || dies.flag(entry, gimli::DW_AT_declaration));
    Member {
        name: dies.name(entry).map(shared),
        ty: link(dies, entry, gimli::DW_AT_type),
        at,
        bits,
        base: entry.tag() == gimli::DW_TAG_inheritance,
        computed,
        of_class: is_static.then(|| dies.die(entry.offset())),
    }
}

/// Bytes of the type of a bitfield of old DWARF.
fn storage_of(dies: &Dies<'_>, entry: &Entry) -> Option<u64> {
    let mut die = dies.refers(entry, gimli::DW_AT_type)?;
    for _ in 0..20 {
        let there = Dies::of(dies.info, die)?;
        let entry = there.entry(die)?;
        if let Some(size) = there.number_of(&entry, gimli::DW_AT_byte_size) {
            return Some(size);
        }
        die = there.refers(&entry, gimli::DW_AT_type)?;
    }
    None
}

fn variants(dies: &Dies<'_>, part: &Entry) -> Variants {
    let place = dies.die(part.offset());
    let tag = dies
        .refers(part, gimli::DW_AT_discr)
        .and_then(|die| Some(member(dies, &dies.entry(die)?)));
    let mut all = Vec::new();
    for child in dies.children(place, MOST_MEMBERS) {
        if child.tag() != gimli::DW_TAG_variant {
            continue;
        }
        let mut values = Vec::new();
        if let Some(value) = child.attr_value(gimli::DW_AT_discr_value) {
            if let Some(value) = unsigned(&value) {
                values.push((value, value));
            }
        } else if let Some(AttributeValue::Block(list)) = child.attr_value(gimli::DW_AT_discr_list)
        {
            values = ranges(list);
        }
        let inside = dies.children(dies.die(child.offset()), 4);
        if let Some(entry) = inside.iter().find(|e| e.tag() == gimli::DW_TAG_member) {
            all.push(Variant {
                values,
                member: member(dies, entry),
            });
        }
    }
    Variants { tag, all }
}

/// A discriminant as the bits it is compared with.
fn unsigned(value: &Attr) -> Option<u128> {
    Some(match value {
        AttributeValue::Sdata(v) => u128::from(v.cast_unsigned()),
        AttributeValue::Data16(v) => *v,
        AttributeValue::Block(bytes) => {
            use gimli::Reader as _;
            let bytes = bytes.to_slice().ok()?;
            let mut wide = [0; 16];
            wide.get_mut(..bytes.len())?.copy_from_slice(&bytes);
            u128::from_le_bytes(wide)
        }
        other => u128::from(other.udata_value()?),
    })
}

/// DW_AT_discr_list: DWARF 5, 5.7.10.
fn ranges(mut list: crate::elf::Slice) -> Vec<(u128, u128)> {
    use gimli::Reader as _;
    let mut found = Vec::new();
    while found.len() < MOST_MEMBERS {
        match list.read_u8() {
            Ok(0) => match list.read_uleb128() {
                Ok(v) => found.push((u128::from(v), u128::from(v))),
                Err(_) => break,
            },
            Ok(1) => match (list.read_uleb128(), list.read_uleb128()) {
                (Ok(a), Ok(b)) => found.push((u128::from(a), u128::from(b))),
                _ => break,
            },
            _ => break,
        }
    }
    found
}

fn enumeration(dies: &Dies<'_>, die: Die, entry: &Entry) -> Kind {
    let base = link(dies, entry, gimli::DW_AT_type);
    let size = dies.number_of(entry, gimli::DW_AT_byte_size).unwrap_or(4);
    let unsigned = base_unsigned(dies, entry);
    let mut values = Vec::new();
    let mut signed = false;
    for child in dies.children(die, MOST_MEMBERS) {
        if child.tag() != gimli::DW_TAG_enumerator {
            continue;
        }
        let Some(attr) = child.attr_value(gimli::DW_AT_const_value) else {
            continue;
        };
        let value = match attr {
            // Fixed forms have no sign of their own; the base says.
            AttributeValue::Data1(v) if unsigned == Some(false) => i128::from(v.cast_signed()),
            AttributeValue::Data2(v) if unsigned == Some(false) => i128::from(v.cast_signed()),
            AttributeValue::Data4(v) if unsigned == Some(false) => i128::from(v.cast_signed()),
            AttributeValue::Data8(v) if unsigned == Some(false) => i128::from(v.cast_signed()),
            AttributeValue::Sdata(v) if unsigned == Some(true) && v < 0 => {
                i128::from(v) + (1i128 << (8 * size.min(8)))
            }
            other => match constant(&other) {
                Some(v) => v,
                None => continue,
            },
        };
        signed |= value < 0;
        values.push((shared(dies.name(&child).unwrap_or_default()), value));
    }
    Kind::Enumeration(Enumeration {
        base,
        values,
        scoped: dies.flag(entry, gimli::DW_AT_enum_class),
        signed: unsigned.map_or(signed, |u| !u),
        declaration: dies.flag(entry, gimli::DW_AT_declaration),
    })
}

/// Whether the type under an enum has no sign; `None` if it has none.
fn base_unsigned(dies: &Dies<'_>, entry: &Entry) -> Option<bool> {
    let mut die = dies.refers(entry, gimli::DW_AT_type)?;
    for _ in 0..20 {
        let there = Dies::of(dies.info, die)?;
        let entry = there.entry(die)?;
        if entry.tag() == gimli::DW_TAG_base_type {
            return Some(!encoding(&entry).signed());
        }
        die = there.refers(&entry, gimli::DW_AT_type)?;
    }
    None
}

fn function(dies: &Dies<'_>, die: Die, entry: &Entry) -> Kind {
    let mut parameters = Vec::new();
    let mut open = false;
    for child in dies.children(die, 1 << 12) {
        const PARAMETER: DwTag = gimli::DW_TAG_formal_parameter;
        match child.tag() {
            PARAMETER => parameters.push(link(dies, &child, gimli::DW_AT_type)),
            gimli::DW_TAG_unspecified_parameters => open = true,
            _ => {}
        }
    }
    // A method that is defined outside of its class has its type at the declaration.
    let result = crate::variables::attribute(dies, die, gimli::DW_AT_type)
        .and_then(|(there, value)| there.reference(value))
        .map_or_else(|| link(dies, entry, gimli::DW_AT_type), Link::At);
    Kind::Function(result, parameters, open)
}
