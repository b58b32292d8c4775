//! The DWARF of a module, unit by unit.
//!
//! Headers of units are read at once, since that is a walk over their lengths; what is in a unit,
//! its abbreviations included, only when an address or a name leads there.

use crate::elf::{Elf, ElfError, Slice};
use gimli::{
    AbbreviationsCacheStrategy, DebugInfoOffset, DwarfSections, EndianSlice, LittleEndian,
    SectionId, UnitHeader, UnitOffset,
};
use std::sync::{Arc, OnceLock};

/// DWARF over shared bytes.
pub type Dwarf = gimli::Dwarf<Slice>;
/// A unit of it.
pub type Unit = gimli::Unit<Slice>;
/// A view of shared bytes that is cheaper to walk over.
pub(crate) type Borrowed<'a> = EndianSlice<'a, LittleEndian>;

/// Most units of one file. Firefox has some 20,000.
const MOST_UNITS: usize = 1 << 20;

#[derive(Debug)]
struct Slot {
    offset: usize,
    header: UnitHeader<Slice>,
    unit: OnceLock<Option<Unit>>,
}

/// The debug information of one file, and of the supplementary file it shares with others.
#[derive(Debug)]
pub struct DebugInfo {
    sections: DwarfSections<Slice>,
    dwarf: Arc<Dwarf>,
    units: Vec<Slot>,
    types: Vec<Slot>,
    supplementary: Option<Arc<DebugInfo>>,
    notes: Vec<String>,
}

impl DebugInfo {
    /// Reads the sections of a file. `None` if it has no debug information.
    ///
    /// # Errors
    /// If a section is damaged or too large.
    pub(crate) fn read(
        file: &Elf,
        supplementary: Option<Arc<Self>>,
    ) -> Result<Option<Self>, ElfError> {
        let empty = || Slice::new(Arc::from([]), LittleEndian);
        if file.section(SectionId::DebugInfo.name())?.is_none() {
            return Ok(None);
        }
        let sections = DwarfSections::load(|id| -> Result<Slice, ElfError> {
            match id {
                // Nobody asks for macros or for names by hash.
                SectionId::DebugMacinfo | SectionId::DebugMacro | SectionId::DebugNames => {
                    Ok(empty())
                }
                _ => Ok(file.section(id.name())?.unwrap_or_else(empty)),
            }
        })?;
        let mut dwarf = sections.borrow(Clone::clone);
        dwarf.sup = supplementary.as_ref().map(|s| Arc::clone(&s.dwarf));
        dwarf.populate_abbreviations_cache(AbbreviationsCacheStrategy::Duplicates);
        let mut info = Self {
            sections,
            units: Vec::new(),
            types: Vec::new(),
            dwarf: Arc::new(dwarf),
            supplementary,
            notes: Vec::new(),
        };
        info.find_units();
        Ok(Some(info))
    }

    fn find_units(&mut self) {
        let mut headers = self.dwarf.units();
        loop {
            match headers.next() {
                Ok(Some(_)) if self.units.len() >= MOST_UNITS => {
                    let note = format!("only the first {MOST_UNITS} units are read");
                    return self.notes.push(note);
                }
                Ok(Some(header)) => self.units.extend(slot(header)),
                Ok(None) => break,
                Err(error) => {
                    let note = format!("debug information ends early: {error}");
                    self.notes.push(note);
                    break;
                }
            }
        }
        let mut headers = self.dwarf.type_units();
        while let (Ok(Some(header)), true) = (headers.next(), self.types.len() < MOST_UNITS) {
            self.types.extend(slot(header));
        }
    }

    /// The DWARF itself, supplementary file set.
    pub fn dwarf(&self) -> &Dwarf {
        &self.dwarf
    }

    /// As [`DebugInfo::dwarf`], for walks over much of it.
    pub(crate) fn borrowed(&self) -> gimli::Dwarf<Borrowed<'_>> {
        let supplementary = self.supplementary.as_ref().map(|s| &s.sections);
        self.sections
            .borrow_with_sup(supplementary, |s| Borrowed::new(s.bytes(), LittleEndian))
    }

    /// What two or more files share (dwz), if this one refers to one that was found.
    pub fn supplementary(&self) -> Option<&Arc<Self>> {
        self.supplementary.as_ref()
    }

    /// How many units .debug_info has: compile, partial, and, in DWARF 5, type units.
    pub fn unit_count(&self) -> usize {
        self.units.len()
    }

    /// A unit by its number, parsed once; `None` if there is none or it is damaged.
    pub fn unit(&self, number: usize) -> Option<&Unit> {
        self.parsed(self.units.get(number)?)
    }

    /// Header of a unit, without parsing more of it.
    pub fn header(&self, number: usize) -> Option<&UnitHeader<Slice>> {
        self.units.get(number).map(|s| &s.header)
    }

    /// All units that are whole, parsed as they come.
    pub fn units(&self) -> impl Iterator<Item = (usize, &Unit)> {
        (0..self.units.len()).filter_map(|n| Some((n, self.unit(n)?)))
    }

    /// The number of the unit that begins at an offset into .debug_info.
    pub(crate) fn number_at(&self, offset: DebugInfoOffset) -> Option<usize> {
        self.units
            .binary_search_by_key(&offset.0, |s| s.offset)
            .ok()
    }

    /// Which unit holds an offset into .debug_info, and where in it.
    pub fn unit_at(&self, offset: DebugInfoOffset) -> Option<(usize, &Unit, UnitOffset)> {
        let after = self.units.partition_point(|s| s.offset <= offset.0);
        let number = after.checked_sub(1)?;
        let unit = self.unit(number)?;
        let within = UnitOffset(offset.0.checked_sub(self.units.get(number)?.offset)?);
        let inside = within.0 < unit.header.length_including_self();
        inside.then_some((number, unit, within))
    }

    /// How many type units .debug_types has (DWARF 4).
    pub fn type_unit_count(&self) -> usize {
        self.types.len()
    }

    /// A unit of .debug_types by its number, parsed once.
    pub fn type_unit(&self, number: usize) -> Option<&Unit> {
        self.parsed(self.types.get(number)?)
    }

    /// What is wrong with it, one line each.
    pub fn notes(&self) -> &[String] {
        &self.notes
    }

    fn parsed<'a>(&self, slot: &'a Slot) -> Option<&'a Unit> {
        slot.unit
            .get_or_init(|| self.dwarf.unit(slot.header.clone()).ok())
            .as_ref()
    }
}

fn slot(header: UnitHeader<Slice>) -> Option<Slot> {
    let info = header.debug_info_offset().map(|at| at.0);
    let offset = info.or_else(|| header.debug_types_offset().map(|at| at.0))?;
    Some(Slot {
        offset,
        header,
        unit: OnceLock::new(),
    })
}
