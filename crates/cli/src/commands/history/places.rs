//! Names for addresses of one moment: a variable, or the mapping and how far into it.

use crate::output;
use std::sync::Arc;
use stillframe_image::{AddressSpace, MappingKind};
use stillframe_store::Memory;
use stillframe_symbols::{Program, SymbolKind, demangle};
use stillframe_timeline::{Machine, Past};

/// Names of one moment.
pub struct Places<'a> {
    memory: Memory<'a>,
    layout: Arc<AddressSpace>,
    program: Arc<Program>,
}

/// A symbol at an address.
struct Named {
    name: String,
    module: String,
    start: u64,
    size: u64,
    data: bool,
}

impl<'a> Places<'a> {
    /// Of a position of a process's life.
    ///
    /// # Errors
    /// Damage.
    pub fn new(machine: &Machine, past: &Past<'a>, at: usize) -> anyhow::Result<Self> {
        let view = machine.at(past.id(at), past.space())?;
        let layout = past.layout(at)?;
        let recording = past.recording();
        Ok(Self {
            memory: recording.memory_in(past.id(at), past.space(), Arc::clone(&layout)),
            layout,
            program: Arc::clone(view.program()),
        })
    }

    fn named(&self, address: u64) -> Option<Named> {
        let (module, bias) = self.program.module_at(address)?;
        let symbol = module.symbol_at(address.wrapping_sub(bias))?;
        let file = module.name().rsplit('/').next().unwrap_or_default();
        Some(Named {
            name: demangle(symbol.name),
            module: file.to_owned(),
            start: symbol.address.wrapping_add(bias),
            size: symbol.size,
            data: symbol.kind != SymbolKind::Function,
        })
    }

    /// What an address is called.
    pub fn place(&self, address: u64) -> String {
        if let Some(named) = self.named(address) {
            let offset = address.wrapping_sub(named.start);
            let name = output::printable(named.name.as_bytes());
            return match offset {
                0 => format!("{name} ({})", named.module),
                _ => format!("{name}+{offset:#x} ({})", named.module),
            };
        }
        let Some(mapping) = self.layout.mapping_at(address) else {
            return format!("{address:#x}");
        };
        let offset = address - mapping.start;
        if let Some(file) = self.layout.file_of(mapping) {
            let base = file.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            let offset = mapping.offset.saturating_add(offset);
            return format!("{}+{offset:#x}", output::printable(base));
        }
        match mapping.kind {
            MappingKind::Heap | MappingKind::Stack => {
                format!("{address:#x} {}", output::printable(&mapping.name))
            }
            _ if mapping.name.is_empty() => format!("{address:#x}"),
            _ => format!("{}+{offset:#x}", output::printable(&mapping.name)),
        }
    }

    /// Where the variable that holds an address begins, and its size in bytes, if a symbol says so.
    pub fn variable(&self, address: u64) -> Option<(u64, u64)> {
        let named = self.named(address)?;
        (named.data && named.size > 0).then_some((named.start, named.size))
    }

    /// The number of `size` bytes, at most 8, at an address.
    pub fn number(&self, address: u64, size: u64) -> Option<u64> {
        let mut word = [0; 8];
        let bytes = word.get_mut(..usize::try_from(size).ok()?)?;
        self.memory.read(address, bytes).ok()?;
        Some(u64::from_le_bytes(word))
    }

    /// What the first word of a block points to, if that has a name: a table of virtual functions
    /// says what type of object it is.
    pub fn points_to(&self, address: u64) -> String {
        let word = self.number(address, 8).filter(|w| *w != 0);
        let named = word.and_then(|w| self.named(w));
        named.map_or_else(String::new, |n| {
            output::printable(n.name.as_bytes()).into_owned()
        })
    }
}
