//! Debugging information entries, named by small copies.
//!
//! A [`Die`] is a place in the debug information of a module: in its own .debug_info, its
//! .debug_types, or the file that it shares with others (dwz). References lead from one to another
//! whatever their form; one that leads nowhere is none, so damaged files lose what they damage.

use crate::debuginfo::{DebugInfo, Dwarf, Unit};
use crate::elf::Slice;
use gimli::{AttributeValue, DebugInfoOffset, DwAt, Reader as _, UnitOffset};
use std::sync::Arc;

/// An entry as gimli gives it.
pub(crate) type Entry = gimli::DebuggingInformationEntry<Slice>;
/// The value of an attribute.
pub(crate) type Attr = AttributeValue<Slice>;

/// Which units a number counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub(crate) enum Part {
    /// .debug_info of the module's debug file.
    Own,
    /// .debug_types of it.
    Types,
    /// .debug_info of the supplementary file.
    Shared,
}

/// A place in the debug information of a module.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Die {
    pub(crate) part: Part,
    pub(crate) unit: u32,
    /// From the start of the unit.
    pub(crate) offset: u32,
}

/// A unit and what its values refer to.
#[derive(Clone, Copy)]
pub(crate) struct Dies<'a> {
    pub info: &'a DebugInfo,
    pub part: Part,
    pub number: u32,
    pub unit: &'a Unit,
    pub dwarf: &'a Dwarf,
}

impl<'a> Dies<'a> {
    /// The unit of an entry.
    pub fn of(info: &'a DebugInfo, die: Die) -> Option<Self> {
        Self::number(info, die.part, die.unit)
    }

    /// A unit by its number.
    pub fn number(info: &'a DebugInfo, part: Part, number: u32) -> Option<Self> {
        let (unit, dwarf) = match part {
            Part::Own => (info.unit(number as usize)?, info.dwarf()),
            Part::Types => (info.type_unit(number as usize)?, info.dwarf()),
            Part::Shared => {
                let shared = info.supplementary()?;
                (shared.unit(number as usize)?, shared.dwarf())
            }
        };
        Some(Self {
            info,
            part,
            number,
            unit,
            dwarf,
        })
    }

    /// The entry at a place of this unit.
    pub fn entry(&self, die: Die) -> Option<Entry> {
        self.unit.entry(UnitOffset(die.offset as usize)).ok()
    }

    /// Names an offset into this unit.
    pub fn die(&self, offset: UnitOffset) -> Die {
        Die {
            part: self.part,
            unit: self.number,
            offset: u32::try_from(offset.0).unwrap_or(u32::MAX),
        }
    }

    /// The entry of the unit itself.
    pub fn root(&self) -> Option<Entry> {
        self.unit.entry(self.unit.header.root_offset()).ok()
    }

    /// The direct children of an entry, at most `most` of them.
    pub fn children(&self, die: Die, most: usize) -> Vec<Entry> {
        let mut found = Vec::new();
        let Ok(mut cursor) = self.unit.entries_at_offset(UnitOffset(die.offset as usize)) else {
            return found;
        };
        match cursor.next_dfs() {
            Ok(Some(entry)) if entry.has_children() => {}
            _ => return found,
        }
        let base = cursor.depth();
        let Ok(Some(first)) = cursor.next_dfs() else {
            return found;
        };
        if first.depth() <= base {
            return found;
        }
        found.push(first.clone());
        while found.len() < most {
            match cursor.next_sibling() {
                Ok(Some(entry)) => found.push(entry.clone()),
                _ => break,
            }
        }
        found
    }

    /// What an attribute refers to.
    pub fn reference(&self, value: Attr) -> Option<Die> {
        match value {
            AttributeValue::UnitRef(offset) => Some(self.die(offset)),
            AttributeValue::DebugInfoRef(at) => match self.part {
                Part::Shared => shared_at(self.info, at),
                _ => own_at(self.info, at),
            },
            AttributeValue::DebugInfoRefSup(at) => shared_at(self.info, at),
            AttributeValue::DebugTypesRef(signature) => self.info.signature(signature.0),
            _ => None,
        }
    }

    /// What an attribute of an entry refers to.
    pub fn refers(&self, entry: &Entry, name: DwAt) -> Option<Die> {
        self.reference(entry.attr_value(name)?)
    }

    /// The text of an attribute.
    pub fn text(&self, entry: &Entry, name: DwAt) -> Option<String> {
        let value = entry.attr_value(name)?;
        let text = self.dwarf.attr_string(self.unit, value).ok()?;
        Some(text.to_string_lossy().ok()?.into_owned())
    }

    /// Its name.
    pub fn name(&self, entry: &Entry) -> Option<String> {
        self.text(entry, gimli::DW_AT_name)
    }

    /// A number, if it is given as a constant.
    pub fn number_of(&self, entry: &Entry, name: DwAt) -> Option<u64> {
        entry.attr_value(name)?.udata_value()
    }

    /// Whether a flag is set.
    pub fn flag(&self, entry: &Entry, name: DwAt) -> bool {
        matches!(entry.attr_value(name), Some(AttributeValue::Flag(true)))
    }

    /// The source file that the unit was made from.
    pub fn file(&self) -> Option<String> {
        let name = self.unit.name.as_ref()?;
        Some(name.to_string_lossy().ok()?.into_owned())
    }

    /// The programming language of the unit.
    pub fn language(&self) -> Language {
        let value = self
            .root()
            .and_then(|r| r.attr_value(gimli::DW_AT_language));
        match value {
            Some(AttributeValue::Language(l)) => Language::of(l),
            _ => Language::Other,
        }
    }
}

fn own_at(info: &DebugInfo, at: DebugInfoOffset) -> Option<Die> {
    let (unit, _, offset) = info.unit_at(at)?;
    named(Part::Own, unit, offset)
}

fn shared_at(info: &DebugInfo, at: DebugInfoOffset) -> Option<Die> {
    let (unit, _, offset) = info.supplementary()?.unit_at(at)?;
    named(Part::Shared, unit, offset)
}

fn named(part: Part, unit: usize, offset: UnitOffset) -> Option<Die> {
    Some(Die {
        part,
        unit: u32::try_from(unit).ok()?,
        offset: u32::try_from(offset.0).ok()?,
    })
}

impl DebugInfo {
    /// The type that a type unit of this signature describes.
    pub(crate) fn signature(&self, signature: u64) -> Option<Die> {
        let mut found = None;
        for (part, count) in [
            (Part::Types, self.type_unit_count()),
            (Part::Own, self.unit_count()),
        ] {
            for number in 0..count {
                let header = match part {
                    Part::Types => self.type_unit(number).map(|u| &u.header),
                    _ => self.header(number),
                };
                let Some(header) = header else { continue };
                if let gimli::UnitType::Type {
                    type_signature,
                    type_offset,
                } = header.type_()
                    && type_signature.0 == signature
                {
                    found = named(part, number, type_offset);
                    break;
                }
            }
            if found.is_some() {
                break;
            }
        }
        found
    }
}

/// The languages that are told apart.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Hash)]
pub enum Language {
    /// C, and whatever has no rules of its own here.
    #[default]
    C,
    /// C++.
    Cpp,
    /// Rust.
    Rust,
    /// Another one; treated as C.
    Other,
}

impl Language {
    fn of(language: gimli::DwLang) -> Self {
        match language {
            gimli::DW_LANG_Rust => Self::Rust,
            gimli::DW_LANG_C_plus_plus
            | gimli::DW_LANG_C_plus_plus_03
            | gimli::DW_LANG_C_plus_plus_11
            | gimli::DW_LANG_C_plus_plus_14
            | gimli::DW_LANG_C_plus_plus_17
            | gimli::DW_LANG_C_plus_plus_20 => Self::Cpp,
            gimli::DW_LANG_C
            | gimli::DW_LANG_C89
            | gimli::DW_LANG_C99
            | gimli::DW_LANG_C11
            | gimli::DW_LANG_C17 => Self::C,
            _ => Self::Other,
        }
    }
}

/// A text that many hold.
pub(crate) fn shared(text: impl AsRef<str>) -> Arc<str> {
    Arc::from(text.as_ref())
}
