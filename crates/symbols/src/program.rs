//! The modules of one address space, and which of them holds an address.

use crate::module::Module;
use std::sync::Arc;

/// A stretch of addresses that a module's file is mapped to.
#[derive(Clone, Debug)]
pub struct Mapped {
    /// First address.
    pub start: u64,
    /// Address after the last.
    pub end: u64,
    /// Offset into the file, bytes.
    pub offset: u64,
    /// The file.
    pub module: Arc<Module>,
}

/// A module at the place where it is loaded.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The module.
    pub module: Arc<Module>,
    /// What is added, wrapping, to the file's own addresses.
    pub bias: u64,
}

#[derive(Clone, Copy, Debug)]
struct Range {
    start: u64,
    end: u64,
    loaded: usize,
}

/// The modules of one address space.
#[derive(Clone, Debug, Default)]
pub struct Program {
    loaded: Vec<Loaded>,
    /// Mappings, ascending, not overlapping.
    mapped: Vec<Range>,
    /// Whole extents of modules: what has no file behind it (.bss) is in these only.
    extents: Vec<Range>,
    notes: Vec<String>,
}

impl Program {
    /// Made of the mappings of files that are modules. Those that overlap an earlier one are left
    /// out; that cannot be in a process.
    pub fn new(mut mapped: Vec<Mapped>) -> Self {
        mapped.sort_by_key(|m| m.start);
        let mut program = Self::default();
        let mut end = 0;
        for m in mapped {
            if m.start >= m.end || m.start < end {
                continue;
            }
            end = m.end;
            let Some(loaded) = program.place(&m) else {
                continue;
            };
            program.mapped.push(Range {
                start: m.start,
                end: m.end,
                loaded,
            });
        }
        let of = |(n, l): (usize, &Loaded)| {
            let (start, end) = l.module.extent();
            let (start, end) = (start.wrapping_add(l.bias), end.wrapping_add(l.bias));
            (start < end).then_some(Range {
                start,
                end,
                loaded: n,
            })
        };
        program.extents = program.loaded.iter().enumerate().filter_map(of).collect();
        program.extents.sort_by_key(|e| e.start);
        program
    }

    /// Which loaded module a mapping belongs to; a new one if its place agrees with none.
    fn place(&mut self, m: &Mapped) -> Option<usize> {
        let biases = m
            .module
            .deltas(m.offset)
            .map(|delta| m.start.wrapping_sub(m.offset).wrapping_sub(delta));
        let mut first = None;
        for bias in biases {
            let same = |l: &Loaded| l.bias == bias && Arc::ptr_eq(&l.module, &m.module);
            if let Some(found) = self.loaded.iter().rposition(same) {
                return Some(found);
            }
            first = first.or(Some(bias));
        }
        self.loaded.push(Loaded {
            module: Arc::clone(&m.module),
            bias: first?,
        });
        Some(self.loaded.len() - 1)
    }

    /// As [`Program::new`], with what could not be loaded and why, one line each.
    #[must_use]
    pub fn with_notes(mut self, notes: Vec<String>) -> Self {
        self.notes = notes;
        self
    }

    /// The module that holds an address, and its bias: file address = `address - bias`, wrapping.
    /// Memory of a module that has no file behind it (.bss) counts.
    pub fn module_at(&self, address: u64) -> Option<(&Arc<Module>, u64)> {
        let loaded = self.loaded.get(self.index_at(address)?)?;
        Some((&loaded.module, loaded.bias))
    }

    fn index_at(&self, address: u64) -> Option<usize> {
        let find = |ranges: &[Range]| {
            let after = ranges.partition_point(|r| r.start <= address);
            let last = ranges[..after].last()?;
            (address < last.end).then_some(last.loaded)
        };
        find(&self.mapped).or_else(|| find(&self.extents))
    }

    /// All modules, in ascending order of their first mapping.
    pub fn modules(&self) -> &[Loaded] {
        &self.loaded
    }

    /// What is missing or wrong, as far as it has shown, one line each.
    pub fn notes(&self) -> Vec<String> {
        let mut notes = self.notes.clone();
        let mut seen: Vec<*const Module> = Vec::new();
        for l in &self.loaded {
            let this = Arc::as_ptr(&l.module);
            if !seen.contains(&this) {
                seen.push(this);
                notes.extend(l.module.notes());
            }
        }
        notes
    }
}
