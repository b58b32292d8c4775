//! What a code address belongs to: module, function, inlined calls, source line.

use crate::debuginfo::{DebugInfo, Unit};
use crate::demangle;
use crate::functions::{self, Bounds, Functions, borrowed_unit};
use crate::intervals::Intervals;
use crate::lines::{self, Lines, Place};
use crate::module::Module;
use crate::program::Program;
use gimli::UnitOffset;
use std::collections::HashMap;
use std::sync::{Arc, Mutex, OnceLock, PoisonError};

/// A function that holds an address, itself or inlined.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Function {
    /// Its name as people write it: demangled, without parameters.
    pub name: String,
    /// Its name as linkers know it, if it has one that differs.
    pub linkage: Option<String>,
    /// Number of the unit that describes it ([`DebugInfo::unit`]).
    pub unit: usize,
    /// Its entry there: DW_TAG_subprogram, or DW_TAG_inlined_subroutine if it is inlined.
    pub die: UnitOffset,
    /// Where it was called by the function around it, if it is inlined.
    pub call: Option<Place>,
}

/// What an address of code belongs to.
#[derive(Clone, Debug)]
pub struct Location {
    /// The address.
    pub address: u64,
    /// The module that holds it.
    pub module: Arc<Module>,
    /// Added, wrapping, to the file's own addresses.
    pub bias: u64,
    /// The symbol that holds it, demangled, and the distance from its start in bytes.
    pub symbol: Option<(String, u64)>,
    /// The functions that hold it, by debug information: the outermost first, then what is inlined
    /// into it, each into the one before. Empty without debug information.
    pub functions: Vec<Function>,
    /// The source line.
    pub place: Option<Place>,
}

impl Location {
    /// Where in its source the function of a number is: at the address itself for the innermost, at
    /// the inlined call for those around it.
    pub fn place_in(&self, function: usize) -> Option<&Place> {
        match self.functions.get(function.saturating_add(1)) {
            Some(inner) => inner.call.as_ref(),
            None => self.place.as_ref(),
        }
    }

    /// The function that holds it, itself or inlined, and that people mean by `wanted`: its name.
    pub fn within(&self, wanted: &str) -> Option<&str> {
        let functions = self.functions.iter().rev().map(|f| f.name.as_str());
        let symbol = self.symbol.iter().map(|s| s.0.as_str());
        functions.chain(symbol).find(|name| is_called(name, wanted))
    }

    /// Name of the function that holds it, not an inlined one: from debug information, else the
    /// symbol's.
    pub fn name(&self) -> Option<&str> {
        let function = self.functions.first().map(|f| f.name.as_str());
        function.or_else(|| self.symbol.as_ref().map(|s| s.0.as_str()))
    }
}

/// Whether a function of this name is what people mean by `wanted`: its name as debug information
/// has it, or the last part of that (`parse` for `json::parse`).
pub fn is_called(name: &str, wanted: &str) -> bool {
    let rest = name.strip_suffix(wanted);
    rest.is_some_and(|rest| rest.is_empty() || rest.ends_with("::"))
}

/// Tables of a module for finding addresses, made as they are needed.
#[derive(Debug, Default)]
pub(crate) struct Tables {
    /// Units by address, from .debug_aranges.
    quick: OnceLock<Intervals<usize>>,
    /// Units by address that have no .debug_aranges.
    slow: OnceLock<Intervals<usize>>,
    units: Mutex<HashMap<usize, Arc<UnitTables>>>,
}

#[derive(Debug, Default)]
struct UnitTables {
    functions: OnceLock<Functions>,
    lines: OnceLock<Lines>,
}

impl Module {
    /// Whether an address of the file's own can be code.
    pub(crate) fn is_code(&self, address: u64) -> bool {
        let mut segments = self.file().segments().iter();
        segments.any(|s| s.execute && address >= s.address && address - s.address < s.memory)
    }

    /// The number of the unit that describes an address of the file's own.
    pub fn unit_at(&self, address: u64) -> Option<usize> {
        self.units_at(address).into_iter().next()
    }

    /// As [`Module::unit_at`]; several where ranges of units overlap.
    fn units_at(&self, address: u64) -> Vec<usize> {
        let Some(info) = self.info() else {
            return Vec::new();
        };
        let tables = self.tables();
        let quick = tables.quick.get_or_init(|| self.quick(info));
        let few = |ranges: &Intervals<usize>| -> Vec<usize> {
            ranges.at(address).map(|r| r.2).take(8).collect()
        };
        let found = few(quick);
        if !found.is_empty() {
            return found;
        }
        few(tables.slow.get_or_init(|| self.slow(info)))
    }

    /// (unit, its ranges) as .debug_aranges has them.
    fn aranges(&self, info: &DebugInfo) -> HashMap<usize, Vec<(u64, u64)>> {
        let mut found: HashMap<usize, Vec<(u64, u64)>> = HashMap::new();
        let aranges = info.borrowed().debug_aranges;
        let mut headers = aranges.headers();
        while let Ok(Some(header)) = headers.next() {
            let Some(unit) = info.number_at(header.debug_info_offset()) else {
                continue;
            };
            let ranges = found.entry(unit).or_default();
            let mut entries = header.entries();
            while let Ok(Some(entry)) = entries.next() {
                let range = entry.range();
                if self.is_code(range.begin) {
                    ranges.push((range.begin, range.end));
                }
            }
        }
        found
    }

    fn quick(&self, info: &DebugInfo) -> Intervals<usize> {
        let all = self.aranges(info);
        Intervals::new(
            all.into_iter()
                .flat_map(|(unit, ranges)| ranges.into_iter().map(move |r| (r.0, r.1, unit))),
        )
    }

    /// Reads the first entry of every unit that .debug_aranges does not speak of.
    fn slow(&self, info: &DebugInfo) -> Intervals<usize> {
        let known = self.aranges(info);
        let dwarf = info.borrowed();
        let mut left = 1 << 24;
        let mut found = Vec::new();
        for number in 0..info.unit_count() {
            if known.contains_key(&number) || left == 0 {
                continue;
            }
            let Some(unit) = info.unit(number).and_then(|u| borrowed_unit(&dwarf, u)) else {
                continue;
            };
            let mut entries = unit.entries();
            let Ok(Some(root)) = entries.next_dfs() else {
                continue;
            };
            let mut bounds = Bounds::default();
            for attribute in root.attrs() {
                bounds.take(attribute.name(), &attribute.value());
            }
            bounds.each(&dwarf, &unit, &mut left, |begin, end| {
                if self.is_code(begin) {
                    found.push((begin, end, number));
                }
            });
        }
        Intervals::new(found)
    }

    fn unit_tables(&self, unit: usize) -> Arc<UnitTables> {
        let units = &self.tables().units;
        let mut units = units.lock().unwrap_or_else(PoisonError::into_inner);
        Arc::clone(units.entry(unit).or_default())
    }

    /// The functions at an address of the file's own, the outermost first, and its source line.
    fn functions_at(&self, address: u64) -> (Vec<Function>, Option<Place>) {
        let Some(info) = self.info() else {
            return (Vec::new(), None);
        };
        let mut nearest = None;
        for number in self.units_at(address) {
            let Some(unit) = info.unit(number) else {
                continue;
            };
            let tables = self.unit_tables(number);
            let is_code = |address| self.is_code(address);
            let lines = tables
                .lines
                .get_or_init(|| Lines::read(info, unit, &is_code));
            let place = lines.at(address).and_then(|(file, line, column)| {
                let file = lines::file_name(info, unit, file)?;
                Some(Place { file, line, column })
            });
            let functions = tables
                .functions
                .get_or_init(|| Functions::read(info, unit, &is_code));
            if let Some((die, _)) = functions.at(address) {
                return (chain(info, number, unit, die, address), place);
            }
            nearest = nearest.or(place);
        }
        (Vec::new(), nearest)
    }
}

fn chain(
    info: &DebugInfo,
    number: usize,
    unit: &Unit,
    die: UnitOffset,
    address: u64,
) -> Vec<Function> {
    let outermost = function(info, number, unit, die, None);
    let inlined = functions::inlined_at(info, unit, die, address);
    let inlined = inlined.into_iter().map(|call| {
        let file = call.file.and_then(|f| lines::file_name(info, unit, f));
        let place = file.filter(|_| call.line != 0).map(|file| Place {
            file,
            line: call.line,
            column: call.column,
        });
        function(info, number, unit, call.die, place)
    });
    std::iter::once(outermost).chain(inlined).collect()
}

fn function(
    info: &DebugInfo,
    number: usize,
    unit: &Unit,
    die: UnitOffset,
    call: Option<Place>,
) -> Function {
    let names = functions::names(info, unit, die);
    let demangled = names.linkage.as_deref().and_then(demangle::function);
    Function {
        // A linkage name that is not mangled is the more exact one: glibc's __GI_ names. GDB shows
        // it, too.
        name: demangled
            .or_else(|| names.linkage.clone())
            .or(names.plain)
            .unwrap_or_else(|| "??".to_owned()),
        linkage: names.linkage,
        unit: number,
        die,
        call,
    }
}

impl Program {
    /// The symbol that holds an address, demangled, and the distance from its start in bytes.
    /// Needs symbol tables only.
    pub fn symbol(&self, address: u64) -> Option<(String, u64)> {
        let (module, bias) = self.module_at(address)?;
        let own = address.wrapping_sub(bias);
        let symbol = module.symbol_at(own)?;
        Some((
            demangle::demangle(symbol.name),
            own.wrapping_sub(symbol.address),
        ))
    }

    /// Whether any module has a function that people mean by this name. Looks at every symbol if
    /// debug information knows of none.
    pub fn has_function(&self, wanted: &str) -> bool {
        let segments: Vec<String> = crate::expr::names::segments(wanted)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let described = |l: &crate::program::Loaded| {
            let catalog = l.module.catalog();
            catalog.is_some_and(|c| !c.find(&segments, crate::catalog::What::Function).is_empty())
        };
        let symbols = |l: &crate::program::Loaded| {
            let mut symbols = l.module.symbols().iter();
            symbols.any(|s| {
                s.kind != crate::SymbolKind::Object
                    && is_called(&demangle::demangle(s.name), wanted)
            })
        };
        let modules = self.modules();
        modules.iter().any(described) || modules.iter().any(symbols)
    }

    /// What an address of code belongs to; `None` if no module holds it.
    ///
    /// In a frame that has called another, the address to ask for lies inside the call, so one before
    /// the return address: see [`crate::unwind::Frame::lookup`].
    pub fn locate(&self, address: u64) -> Option<Location> {
        let (module, bias) = self.module_at(address)?;
        let own = address.wrapping_sub(bias);
        let (functions, place) = module.functions_at(own);
        let symbol = self.symbol(address);
        Some(Location {
            address,
            module: Arc::clone(module),
            bias,
            symbol,
            functions,
            place,
        })
    }
}

#[cfg(test)]
mod tests {
    use super::is_called;

    #[test]
    fn functions_by_name() {
        assert!(is_called("json::parse", "parse") && is_called("json::parse", "json::parse"));
        assert!(is_called("parse", "parse"));
        assert!(!is_called("json::reparse", "parse") && !is_called("parse", "json::parse"));
    }
}
