//! Symbol tables: names for addresses when there is no debug information, and names of what was
//! written in assembly.

use crate::elf::{Elf, Slice};
use gimli::Reader as _;
use object::LittleEndian as Le;
use object::elf::{self, Sym64};
use object::pod;

/// What a symbol names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum SymbolKind {
    /// Code.
    Function,
    /// Data.
    Object,
    /// A thread-local variable; its address is an offset into the module's thread-local segment.
    ThreadLocal,
    /// Assembly does not say.
    Unknown,
}

/// A symbol.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Symbol<'a> {
    /// As the table has it, mangled; not always UTF-8.
    pub name: &'a [u8],
    /// First address, as the file says.
    pub address: u64,
    /// Bytes; 0 if unknown.
    pub size: u64,
    /// What it names.
    pub kind: SymbolKind,
    /// Whether other modules can see it.
    pub global: bool,
}

#[derive(Clone, Copy, Debug)]
struct Entry {
    address: u64,
    size: u64,
    name: u32,
    table: u8,
    kind: SymbolKind,
    /// 0 global, 1 weak, 2 local.
    binding: u8,
}

/// Symbols of a module, from all its tables.
#[derive(Debug, Default)]
pub struct SymbolTable {
    names: Vec<Slice>,
    /// By address; of several at one address the best name is last. No thread-local ones.
    by_address: Vec<Entry>,
    /// For each of `by_address`: the largest end of it and all before it, so that a search backwards
    /// knows when to stop.
    reach: Vec<u64>,
    thread_local: Vec<Entry>,
}

impl SymbolTable {
    /// Reads the tables of several files that describe one module. Damaged tables are left out, and
    /// said in `notes`.
    pub(crate) fn read<'a>(
        files: impl IntoIterator<Item = &'a Elf>,
        notes: &mut Vec<String>,
    ) -> Self {
        let mut table = Self::default();
        for file in files {
            for (symbols, names) in [(".symtab", ".strtab"), (".dynsym", ".dynstr")] {
                let mut read = |name| match file.section(name) {
                    Ok(found) => Some(found),
                    Err(error) => {
                        notes.push(format!("symbols are missing: {error}"));
                        None
                    }
                };
                if let (Some(Some(symbols)), Some(Some(names))) = (read(symbols), read(names)) {
                    table.add(&symbols, names);
                }
            }
        }
        table.finish();
        table
    }

    fn add(&mut self, symbols: &Slice, names: Slice) {
        let count = symbols.len() / size_of::<Sym64<Le>>();
        let Ok((symbols, _)) = pod::slice_from_bytes::<Sym64<Le>>(symbols.bytes(), count) else {
            return;
        };
        let table = u8::try_from(self.names.len()).unwrap_or(u8::MAX);
        self.names.push(names);
        for s in symbols {
            let kind = match s.st_info.st_type() {
                elf::STT_FUNC | elf::STT_GNU_IFUNC => SymbolKind::Function,
                elf::STT_OBJECT | elf::STT_COMMON => SymbolKind::Object,
                elf::STT_TLS => SymbolKind::ThreadLocal,
                elf::STT_NOTYPE => SymbolKind::Unknown,
                _ => continue,
            };
            let section = s.st_shndx.get(Le);
            if section == elf::SHN_UNDEF || section == elf::SHN_ABS || s.st_name.get(Le) == 0 {
                continue;
            }
            let binding = match s.st_info.st_bind() {
                elf::STB_GLOBAL => 0,
                elf::STB_WEAK => 1,
                _ => 2,
            };
            let entry = Entry {
                address: s.st_value.get(Le),
                size: s.st_size.get(Le),
                name: s.st_name.get(Le),
                table,
                kind,
                binding,
            };
            if kind == SymbolKind::ThreadLocal {
                self.thread_local.push(entry);
            } else {
                self.by_address.push(entry);
            }
        }
    }

    fn finish(&mut self) {
        let names = &self.names;
        let name = |e: &Entry| name_of(names, e);
        // Best last: one with a size before one without, then functions, then the widest bound,
        // then the shortest and first name.
        self.by_address.sort_unstable_by(|a, b| {
            let rank = |e: &Entry| (e.size != 0, e.kind != SymbolKind::Unknown, 2 - e.binding);
            let order = a.address.cmp(&b.address).then(rank(a).cmp(&rank(b)));
            order.then_with(|| {
                let (a, b) = (name(a), name(b));
                b.len().cmp(&a.len()).then_with(|| b.cmp(a))
            })
        });
        let mut furthest = 0;
        self.reach = self
            .by_address
            .iter()
            .map(|e| {
                furthest = furthest.max(e.address.saturating_add(e.size));
                furthest
            })
            .collect();
    }

    fn symbol(&self, entry: &Entry) -> Symbol<'_> {
        Symbol {
            name: name_of(&self.names, entry),
            address: entry.address,
            size: entry.size,
            kind: entry.kind,
            global: entry.binding != 2,
        }
    }

    /// The symbol that holds an address of the file's own. One of unknown size reaches to the next
    /// symbol.
    pub fn at(&self, address: u64) -> Option<Symbol<'_>> {
        let after = self.by_address.partition_point(|e| e.address <= address);
        let before = &self.by_address[..after];
        let nearest = before.last()?;
        // One without a size counts only if nothing with a size holds the address.
        let holds = |e: &Entry| address - e.address < e.size;
        let mut found = None;
        // Symbols can nest; how far is bounded so that odd tables cost little.
        for (back, entry) in before.iter().rev().take(256).enumerate() {
            if holds(entry) {
                found = Some(entry);
                break;
            }
            let reach = self.reach.get(after - 1 - back).copied().unwrap_or(0);
            if reach <= address {
                break;
            }
        }
        let found = found.or_else(|| (nearest.size == 0).then_some(nearest))?;
        Some(self.symbol(found))
    }

    /// All symbols of a name, thread-local ones included. Searches the whole table.
    pub fn named<'a>(&'a self, name: &'a [u8]) -> impl Iterator<Item = Symbol<'a>> {
        self.iter().filter(move |s| s.name == name)
    }

    /// All symbols, in the order of their addresses, thread-local ones last.
    pub fn iter(&self) -> impl Iterator<Item = Symbol<'_>> {
        let all = self.by_address.iter().chain(&self.thread_local);
        all.map(|e| self.symbol(e))
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.by_address.is_empty() && self.thread_local.is_empty()
    }
}

fn name_of<'a>(names: &'a [Slice], entry: &Entry) -> &'a [u8] {
    let Some(names) = names.get(usize::from(entry.table)) else {
        return &[];
    };
    let at = entry.name as usize;
    let name = names.bytes().get(at..).unwrap_or_default();
    // A limit, because hostile tables can let many symbols share one huge name.
    let end = name.iter().take(1 << 16).position(|b| *b == 0).unwrap_or(0);
    &name[..end]
}
