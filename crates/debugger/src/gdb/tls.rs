//! Where a thread's own variables are.
//!
//! GDB asks its target, because the answer lies in the C library's data. glibc describes its own
//! layout to debuggers in symbols called `_thread_db_*`; the one that says where a `link_map` keeps
//! the module's number is all that is needed besides the ABI: the thread's vector of modules (DTV)
//! is at fs:8, and its entries are 16 bytes.

use super::files::{self, Content};
use super::libraries;
use super::scene::Scene;
use object::{Object as _, ObjectSection as _, ObjectSymbol as _};
use std::collections::HashMap;

/// Largest loader or C library looked into, bytes.
const LARGEST: u64 = 64 << 20;
/// The symbol: three 32-bit words, of which the first is a size in bits and the last an offset.
const SYMBOL: &str = "_thread_db_link_map_l_tls_modid";

/// Offsets found, by the file's path.
#[derive(Default)]
pub struct Offsets(HashMap<Vec<u8>, Option<u64>>);

impl Offsets {
    /// The address of a thread's copy of what stands `offset` into the thread-local part of the
    /// object whose `link_map` is at `map`.
    ///
    /// # Errors
    /// Why there is none, in one line.
    pub fn address(
        &mut self,
        scene: &Scene<'_>,
        tid: u32,
        offset: u64,
        map: u64,
    ) -> Result<u64, &'static str> {
        let thread = scene.thread(tid).ok_or("there is no such thread")?;
        let place = self
            .place(scene)
            .ok_or("the C library does not describe its thread-local storage")?;
        let unreadable = "the C library's data cannot be read";
        let module = map
            .checked_add(place)
            .and_then(|at| scene.word(at))
            .filter(|m| (1..1 << 20).contains(m))
            .ok_or("this object has no thread-local storage")?;
        let vector = thread
            .registers
            .fs_base
            .checked_add(8)
            .and_then(|at| scene.word(at))
            .ok_or(unreadable)?;
        let block = vector
            .checked_add(module * 16)
            .and_then(|at| scene.word(at))
            .ok_or(unreadable)?;
        if block == u64::MAX || block == 0 {
            return Err("the thread has not touched its copy yet");
        }
        block.checked_add(offset).ok_or(unreadable)
    }

    /// Where the module's number stands in a `link_map`.
    fn place(&mut self, scene: &Scene<'_>) -> Option<u64> {
        for object in libraries::loaded(scene) {
            let Some(file) = libraries::file_of(scene, &object) else {
                continue;
            };
            let name = file.path.rsplit(|b| *b == b'/').next().unwrap_or_default();
            if !(name.starts_with(b"libc.")
                || name.starts_with(b"libc-")
                || name.starts_with(b"ld")
                || name.starts_with(b"libpthread"))
            {
                continue;
            }
            let known = self.0.entry(file.path.clone()).or_insert_with(|| {
                let content = files::content(scene, file, false).ok()?;
                described(&content)
            });
            if known.is_some() {
                return *known;
            }
        }
        None
    }
}

/// What the symbol says in a file.
fn described(content: &Content) -> Option<u64> {
    let length = Some(content.len()).filter(|n| *n <= LARGEST)?;
    let mut bytes = vec![0; usize::try_from(length).ok()?];
    content.read(0, &mut bytes).ok()?;
    let file = object::File::parse(&*bytes).ok()?;
    let symbol = file
        .dynamic_symbols()
        .chain(file.symbols())
        .find(|s| s.name() == Ok(SYMBOL))?;
    let section = file.section_by_index(symbol.section_index()?).ok()?;
    let data = section.data_range(symbol.address(), 12).ok()??;
    let word = |i: usize| {
        Some(u32::from_le_bytes(
            data.get(4 * i..4 * i + 4)?.try_into().ok()?,
        ))
    };
    (word(0)? == 64).then_some(u64::from(word(2)?))
}
