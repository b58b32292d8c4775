//! Unwinding by tables: .eh_frame with its index, .debug_frame.

use super::expression::evaluate;
use super::registers::{PRESERVED, RIP, RSP};
use super::{FoundBy, FrameRegisters};
use crate::debuginfo::Borrowed;
use crate::elf::{Elf, Slice};
use crate::intervals::Intervals;
use crate::memory::{Memory, Registers};
use crate::module::Module;
use gimli::{
    BaseAddresses, CfaRule, CieOrFde, DebugFrame, EhFrame, EhFrameHdr, FrameDescriptionEntry,
    LittleEndian, RegisterRule, UnwindContext, UnwindOffset, UnwindSection,
};
use std::sync::OnceLock;

/// Most entries of a table that has to be read whole.
const MOST_ENTRIES: usize = 1 << 22;

/// What one frame's entry says.
pub(crate) struct Found {
    pub cfa: Option<u64>,
    pub signal: bool,
    pub by: FoundBy,
    /// Registers of the caller; none if it has none.
    pub caller: Result<Option<FrameRegisters>, String>,
}

/// The unwind tables of a module.
#[derive(Debug, Default)]
pub(crate) struct UnwindTables {
    eh: Option<Table>,
    /// The sorted index of .eh_frame that the linker made, and its address.
    index: Option<(Slice, u64)>,
    debug: Option<Table>,
}

#[derive(Debug)]
struct Table {
    bytes: Slice,
    address: u64,
    /// Entries by address, if there is no index or it does not know the address.
    entries: OnceLock<Intervals<usize>>,
}

impl Table {
    fn new(bytes: Slice, address: u64) -> Self {
        Self {
            bytes,
            address,
            entries: OnceLock::new(),
        }
    }

    fn borrowed(&self) -> Borrowed<'_> {
        Borrowed::new(self.bytes.bytes(), LittleEndian)
    }
}

impl UnwindTables {
    pub(crate) fn read(module: &Module) -> Self {
        let file = module.file();
        let index = read_index(module, file);
        let eh = match file.section_address(".eh_frame") {
            Some(address) => module
                .section(file, ".eh_frame")
                .map(|bytes| Table::new(bytes, address)),
            // Without a table of sections the index says where it begins, and its segment where it
            // ends.
            None => index.as_ref().and_then(|(bytes, at)| {
                let address = eh_frame_of(bytes, *at)?;
                let bytes = file.rest_of_segment(address).ok()?;
                Some(Table::new(Slice::new(bytes, LittleEndian), address))
            }),
        };
        let own = module.section(file, ".debug_frame");
        let debug = own.or_else(|| {
            // Looked for elsewhere only if the file has nothing itself: it costs opening a file.
            let separate = module.separate().filter(|_| eh.is_none())?;
            module.section(separate, ".debug_frame")
        });
        Self {
            index: index.filter(|_| eh.is_some()),
            eh,
            debug: debug.map(|bytes| Table::new(bytes, 0)),
        }
    }

    /// What the tables say of the frame at an address of the file's own; `None` if nothing.
    pub(crate) fn step(
        &self,
        address: u64,
        memory: &dyn Memory,
        registers: &FrameRegisters,
    ) -> Option<Found> {
        if let Some(table) = &self.eh {
            let section = EhFrame::from(table.borrowed());
            let start = table.address;
            let bases = BaseAddresses::default().set_eh_frame(start);
            let by_index = || {
                let (bytes, at) = self.index.as_ref()?;
                let bases = bases.clone().set_eh_frame_hdr(*at);
                let bytes = Borrowed::new(bytes.bytes(), LittleEndian);
                let header = EhFrameHdr::from(bytes).parse(&bases, 8).ok()?;
                // By hand, because gimli's own way from here overflows on a damaged index.
                let entry = header.table()?.lookup(address, &bases).ok()?;
                let within = entry.direct().ok()?.checked_sub(start)?;
                let offset = usize::try_from(within).ok()?;
                let found = section
                    .fde_from_offset(&bases, offset.into(), |s, b, o| s.cie_from_offset(b, o));
                found.ok().filter(|entry| holds(entry, address))
            };
            let entry = by_index().or_else(|| find(table, &section, &bases, address));
            if let Some(entry) = entry {
                let row = Row {
                    section: &section,
                    bases: &bases,
                    entry: &entry,
                    by: FoundBy::Cfi,
                };
                return Some(row.apply(address, memory, registers));
            }
        }
        let table = self.debug.as_ref()?;
        let mut section = DebugFrame::from(table.borrowed());
        section.set_address_size(8);
        let bases = BaseAddresses::default();
        let entry = find(table, &section, &bases, address)?;
        let row = Row {
            section: &section,
            bases: &bases,
            entry: &entry,
            by: FoundBy::DebugFrame,
        };
        Some(row.apply(address, memory, registers))
    }
}

fn read_index(module: &Module, file: &Elf) -> Option<(Slice, u64)> {
    if let Some(address) = file.section_address(".eh_frame_hdr") {
        return Some((module.section(file, ".eh_frame_hdr")?, address));
    }
    let (address, size) = file.eh_frame_header()?;
    let bytes = file.at_address(address, size).ok()?;
    Some((Slice::new(bytes, LittleEndian), address))
}

fn eh_frame_of(index: &Slice, address: u64) -> Option<u64> {
    let bases = BaseAddresses::default().set_eh_frame_hdr(address);
    let bytes = Borrowed::new(index.bytes(), LittleEndian);
    let header = EhFrameHdr::from(bytes).parse(&bases, 8).ok()?;
    header.eh_frame_ptr().direct().ok()
}

/// The entry of an address, found by reading the table once.
fn find<'a, S>(
    table: &Table,
    section: &S,
    bases: &BaseAddresses,
    address: u64,
) -> Option<FrameDescriptionEntry<Borrowed<'a>>>
where
    S: UnwindSection<Borrowed<'a>>,
    S::Offset: UnwindOffset<usize>,
{
    let all = table.entries.get_or_init(|| {
        let mut found = Vec::new();
        let mut entries = section.entries(bases);
        // Damage ends the table; what came before it stands.
        while let Ok(Some(entry)) = entries.next() {
            let CieOrFde::Fde(partial) = entry else {
                continue;
            };
            if let Ok(entry) = partial.parse(|s, b, o| s.cie_from_offset(b, o)) {
                let begin = entry.initial_address();
                if let Some(end) = begin.checked_add(entry.len()) {
                    found.push((begin, end, entry.offset()));
                }
            }
            if found.len() >= MOST_ENTRIES {
                break;
            }
        }
        Intervals::new(found)
    });
    let (_, _, offset) = all.at(address).next()?;
    let found = section.fde_from_offset(bases, S::Offset::from(offset), |s, b, o| {
        s.cie_from_offset(b, o)
    });
    found.ok()
}

fn holds(entry: &FrameDescriptionEntry<Borrowed<'_>>, address: u64) -> bool {
    let within = address.checked_sub(entry.initial_address());
    within.is_some_and(|within| within < entry.len())
}

struct Row<'t, 'a, S> {
    section: &'t S,
    bases: &'t BaseAddresses,
    entry: &'t FrameDescriptionEntry<Borrowed<'a>>,
    by: FoundBy,
}

impl<'a, S> Row<'_, 'a, S>
where
    S: UnwindSection<Borrowed<'a>>,
{
    fn apply(&self, address: u64, memory: &dyn Memory, registers: &FrameRegisters) -> Found {
        let signal = self.entry.is_signal_trampoline();
        let mut context = UnwindContext::new();
        let found = |cfa, caller| Found {
            cfa,
            signal,
            by: self.by,
            caller,
        };
        let row = match self.entry.unwind_info_for_address(
            self.section,
            self.bases,
            &mut context,
            address,
        ) {
            Ok(row) => row,
            Err(error) => return found(None, Err(format!("its unwind table is damaged: {error}"))),
        };
        let cie = self.entry.cie();
        let evaluate = |expression: &gimli::UnwindExpression<usize>, cfa| {
            let expression = expression
                .get(self.section)
                .map_err(|e| format!("its unwind table is damaged: {e}"))?;
            evaluate(expression, cie.encoding(), cfa, registers, memory)
        };
        let cfa = match row.cfa() {
            CfaRule::RegisterAndOffset { register, offset } => registers
                .get(register.0)
                .map(|base| base.wrapping_add_signed(*offset))
                .ok_or_else(|| format!("register {} is needed and not known", register.0)),
            CfaRule::Expression(expression) => evaluate(expression, None),
        };
        let cfa = match cfa {
            Ok(cfa) => cfa,
            Err(reason) => return found(None, Err(reason)),
        };
        let mut caller = registers.empty_caller();
        for register in PRESERVED {
            caller.set(register, registers.get(register));
        }
        caller.set(RSP, Some(cfa));
        let word = |at: u64| memory.word(at).map_err(|e| e.to_string());
        let back = cie.return_address_register().0;
        let mut returns = Err("its unwind table does not say where it returns to".to_owned());
        for (register, rule) in row.registers() {
            let value = match rule {
                RegisterRule::Undefined => Ok(None),
                RegisterRule::SameValue => Ok(registers.get(register.0)),
                RegisterRule::Offset(n) => word(cfa.wrapping_add_signed(*n)).map(Some),
                RegisterRule::ValOffset(n) => Ok(Some(cfa.wrapping_add_signed(*n))),
                RegisterRule::Register(other) => Ok(registers.get(other.0)),
                RegisterRule::Expression(e) => evaluate(e, Some(cfa)).and_then(word).map(Some),
                RegisterRule::ValExpression(e) => evaluate(e, Some(cfa)).map(Some),
                RegisterRule::Constant(value) => Ok(Some(*value)),
                _ => Ok(None),
            };
            if register.0 == back {
                returns = value;
            } else {
                // A register that cannot be had is unknown; only the way back must be had.
                caller.set(register.0, value.unwrap_or(None));
            }
        }
        match returns {
            // Undefined: the ABI's word for the outermost frame.
            Ok(None) => found(Some(cfa), Ok(None)),
            Ok(pc) => {
                caller.set(RIP, pc);
                found(Some(cfa), Ok(Some(caller)))
            }
            Err(reason) => found(Some(cfa), Err(reason)),
        }
    }
}
