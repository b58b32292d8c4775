//! Functions of a unit, and what is inlined into them.
//!
//! The table of a unit is made by one walk over its entries, when an address first leads there;
//! what is inlined at an address is found by a walk over the one function, so nothing is kept of
//! the many inlined calls that nobody asks for.

use crate::debuginfo::{Borrowed, DebugInfo, Unit};
use crate::intervals::Intervals;
use gimli::{AttributeValue, UnitOffset, constants as dw};

type BorrowedUnit<'a> = gimli::Unit<Borrowed<'a>>;
type BorrowedDwarf<'a> = gimli::Dwarf<Borrowed<'a>>;

/// Most ranges read for one table: lists can be shared, and so be long for few bytes.
const MOST_RANGES: usize = 1 << 22;
/// Deepest chain of inlined calls.
const DEEPEST: usize = 512;
/// Longest chain of references from an entry to the one that has its name.
const HOPS: usize = 16;

/// Addresses of an entry: DW_AT_low_pc, DW_AT_high_pc, DW_AT_ranges.
#[derive(Default)]
pub(crate) struct Bounds<'a> {
    low: Option<AttributeValue<Borrowed<'a>>>,
    high: Option<AttributeValue<Borrowed<'a>>>,
    ranges: Option<AttributeValue<Borrowed<'a>>>,
}

impl<'a> Bounds<'a> {
    /// Takes an attribute if it is one of its own.
    pub(crate) fn take(&mut self, name: gimli::DwAt, value: &AttributeValue<Borrowed<'a>>) {
        match name {
            dw::DW_AT_low_pc => self.low = Some(*value),
            dw::DW_AT_high_pc => self.high = Some(*value),
            dw::DW_AT_ranges => self.ranges = Some(*value),
            _ => {}
        }
    }

    /// Calls `each` with every range, until `left`, the ranges still to be read, is 0.
    pub(crate) fn each(
        &self,
        dwarf: &BorrowedDwarf<'a>,
        unit: &BorrowedUnit<'a>,
        left: &mut usize,
        mut each: impl FnMut(u64, u64),
    ) {
        if let Some(ranges) = self.ranges {
            let Ok(Some(mut list)) = dwarf.attr_ranges(unit, ranges) else {
                return;
            };
            while *left > 0 {
                *left -= 1;
                match list.next() {
                    Ok(Some(range)) => each(range.begin, range.end),
                    Ok(None) | Err(_) => return,
                }
            }
            return;
        }
        let address = |value| dwarf.attr_address(unit, value).ok().flatten();
        let Some(low) = self.low.and_then(address) else {
            return;
        };
        let high = match self.high {
            Some(value) => match value.udata_value() {
                Some(size) => low.checked_add(size),
                None => address(value),
            },
            None => None,
        };
        if let (Some(high), true) = (high, *left > 0) {
            *left -= 1;
            each(low, high);
        }
    }

    /// Whether it says anything.
    pub(crate) const fn is_some(&self) -> bool {
        self.low.is_some() || self.ranges.is_some()
    }
}

/// The unit of a number, for walks.
pub(crate) fn borrowed_unit<'a>(
    dwarf: &BorrowedDwarf<'a>,
    unit: &Unit,
) -> Option<BorrowedUnit<'a>> {
    let header = dwarf.unit_header(unit.header.debug_info_offset()?).ok()?;
    let abbreviations = std::sync::Arc::clone(&unit.abbreviations);
    gimli::Unit::new_with_abbreviations(dwarf, header, abbreviations).ok()
}

/// The functions of a unit by address.
#[derive(Debug)]
pub(crate) struct Functions {
    ranges: Intervals<UnitOffset>,
}

impl Functions {
    /// Reads a unit. `is_code` says whether an address can be code of this module; what a linker
    /// threw away cannot.
    pub(crate) fn read(info: &DebugInfo, unit: &Unit, is_code: &dyn Fn(u64) -> bool) -> Self {
        let dwarf = info.borrowed();
        let mut found = Vec::new();
        if let Some(unit) = borrowed_unit(&dwarf, unit) {
            // Damage ends the walk; what came before it stands.
            let _ = walk(&dwarf, &unit, is_code, &mut found);
        }
        Self {
            ranges: Intervals::new(found),
        }
    }

    /// The innermost function that holds an address, and the first address of that part of it.
    pub(crate) fn at(&self, address: u64) -> Option<(UnitOffset, u64)> {
        let (begin, _, offset) = self.ranges.at(address).next()?;
        Some((offset, begin))
    }
}

fn walk<'a>(
    dwarf: &BorrowedDwarf<'a>,
    unit: &BorrowedUnit<'a>,
    is_code: &dyn Fn(u64) -> bool,
    found: &mut Vec<(u64, u64, UnitOffset)>,
) -> gimli::Result<()> {
    let mut left = MOST_RANGES;
    let mut entries = unit.entries_raw(None)?;
    while !entries.is_empty() {
        let offset = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if abbreviation.tag() != dw::DW_TAG_subprogram {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        let mut bounds = Bounds::default();
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            bounds.take(attribute.name(), &attribute.value());
        }
        bounds.each(dwarf, unit, &mut left, |begin, end| {
            if is_code(begin) {
                found.push((begin, end, offset));
            }
        });
    }
    Ok(())
}

/// A call that was inlined.
#[derive(Clone, Copy, Debug)]
pub(crate) struct InlinedCall {
    /// Its DW_TAG_inlined_subroutine.
    pub die: UnitOffset,
    /// Position of the caller's file in the unit's line table.
    pub file: Option<u64>,
    /// Line of the call; 0 if unknown.
    pub line: u64,
    /// Column of the call; 0 if unknown.
    pub column: u64,
}

/// The calls inlined at an address of a function, the outermost first.
pub(crate) fn inlined_at(
    info: &DebugInfo,
    unit: &Unit,
    function: UnitOffset,
    address: u64,
) -> Vec<InlinedCall> {
    let dwarf = info.borrowed();
    let mut chain = Vec::new();
    if let Some(unit) = borrowed_unit(&dwarf, unit) {
        let _ = descend(&dwarf, &unit, function, address, &mut chain);
    }
    chain
}

fn descend<'a>(
    dwarf: &BorrowedDwarf<'a>,
    unit: &BorrowedUnit<'a>,
    function: UnitOffset,
    address: u64,
    chain: &mut Vec<InlinedCall>,
) -> gimli::Result<()> {
    let mut left = MOST_RANGES;
    let mut entries = unit.entries_raw(Some(function))?;
    // What lies deeper than this is inside something that does not hold the address.
    let mut skipped: Option<isize> = None;
    let mut innermost = 0;
    let mut first = true;
    while !entries.is_empty() && chain.len() < DEEPEST {
        let depth = entries.next_depth();
        if !first && depth <= innermost {
            // The end of the innermost call that holds the address, or of the function.
            break;
        }
        let die = entries.next_offset();
        let Some(abbreviation) = entries.read_abbreviation()? else {
            continue;
        };
        if skipped.is_some_and(|above| depth > above) {
            entries.skip_attributes(abbreviation.attributes())?;
            continue;
        }
        skipped = None;
        let tag = abbreviation.tag();
        let call = tag == dw::DW_TAG_inlined_subroutine;
        let block = matches!(
            tag,
            dw::DW_TAG_lexical_block | dw::DW_TAG_try_block | dw::DW_TAG_catch_block
        );
        if first || !(call || block) {
            entries.skip_attributes(abbreviation.attributes())?;
            if !first {
                skipped = Some(depth);
            }
            first = false;
            continue;
        }
        let mut bounds = Bounds::default();
        let mut found = InlinedCall {
            die,
            file: None,
            line: 0,
            column: 0,
        };
        for spec in abbreviation.attributes() {
            let attribute = entries.read_attribute(*spec)?;
            let value = attribute.value();
            match attribute.name() {
                dw::DW_AT_call_file => {
                    found.file = match value {
                        AttributeValue::FileIndex(index) => Some(index),
                        other => other.udata_value(),
                    }
                }
                dw::DW_AT_call_line => found.line = value.udata_value().unwrap_or(0),
                dw::DW_AT_call_column => found.column = value.udata_value().unwrap_or(0),
                name => bounds.take(name, &value),
            }
        }
        let mut holds = block && !bounds.is_some();
        bounds.each(dwarf, unit, &mut left, |begin, end| {
            holds |= begin <= address && address < end;
        });
        if !holds {
            skipped = Some(depth);
        } else if call {
            chain.push(found);
            innermost = depth;
        }
    }
    Ok(())
}

/// Names of a function.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub(crate) struct Names {
    /// DW_AT_name.
    pub plain: Option<String>,
    /// DW_AT_linkage_name, mangled.
    pub linkage: Option<String>,
}

/// The names of an entry, from itself or from the entries that it stands for.
pub(crate) fn names(info: &DebugInfo, unit: &Unit, die: UnitOffset) -> Names {
    let mut names = Names::default();
    let (mut info, mut unit, mut die) = (info, unit, die);
    for _ in 0..HOPS {
        let Ok(entry) = unit.entry(die) else { break };
        let text = |name| {
            let value = entry.attr_value(name)?;
            let text = info.dwarf().attr_string(unit, value).ok()?;
            Some(String::from_utf8_lossy(text.bytes()).into_owned())
        };
        if names.plain.is_none() {
            names.plain = text(dw::DW_AT_name);
        }
        if names.linkage.is_none() {
            names.linkage =
                text(dw::DW_AT_linkage_name).or_else(|| text(dw::DW_AT_MIPS_linkage_name));
        }
        if names.linkage.is_some() {
            break;
        }
        let next = entry
            .attr_value(dw::DW_AT_abstract_origin)
            .or_else(|| entry.attr_value(dw::DW_AT_specification));
        let found = match next {
            Some(AttributeValue::UnitRef(offset)) => {
                die = offset;
                continue;
            }
            Some(AttributeValue::DebugInfoRef(offset)) => info.unit_at(offset).map(|u| (info, u)),
            Some(AttributeValue::DebugInfoRefSup(offset)) => info
                .supplementary()
                .and_then(|shared| Some((&**shared, shared.unit_at(offset)?))),
            _ => None,
        };
        let Some((there, (_, there_unit, offset))) = found else {
            break;
        };
        (info, unit, die) = (there, there_unit, offset);
    }
    names
}
