//! Where thread-local variables are, on x86-64.
//!
//! The executable's lie below the thread pointer at a distance that the file tells (U. Drepper, "ELF
//! handling for thread-local storage", variant II). A library's are found as `__tls_get_addr` finds
//! them: through the thread's vector of blocks, with the module's number from the list of loaded
//! objects. Where glibc keeps that number it tells debuggers in `_thread_db_` symbols.

use crate::memory::Memory;
use crate::module::Module;
use crate::program::Program;
use crate::value::{Fault, Scope};
use std::sync::Arc;

/// DWARF's number of the base of fs.
const FS_BASE: u16 = 58;
/// Objects that are looked at in the list of loaded ones.
const MOST_LOADED: usize = 1 << 14;

/// The address of the byte at `offset` of a module's thread-local segment, in the scope's thread.
pub(crate) fn address(
    scope: &Scope<'_>,
    module: &Arc<Module>,
    bias: u64,
    offset: u64,
) -> Result<u64, Fault> {
    let pointer = scope.registers.get(FS_BASE).ok_or_else(|| {
        Fault::new("thread-local variables need a thread, and its fs base is not known")
    })?;
    let Some(segment) = module.file().thread_local() else {
        return Err(Fault::new(format!(
            "{} has no thread-local storage",
            module.name()
        )));
    };
    let first = scope.program.modules().first();
    let is_executable = first.is_some_and(|f| Arc::ptr_eq(&f.module, module) && f.bias == bias);
    if is_executable {
        return Ok(below(pointer, segment).wrapping_add(offset));
    }
    let number = of_library(scope, bias)?;
    let block = block(scope.memory, pointer, number)?.ok_or_else(|| {
        Fault::new(format!(
            "this thread has not used the thread-local variables of {} yet",
            module.name()
        ))
    })?;
    Ok(block.wrapping_add(offset))
}

/// The address of the byte at `offset` of the thread-local segment of the object whose `link_map` is
/// at `map`, in the thread whose fs base is `pointer`: what debuggers ask for that find objects
/// themselves.
///
/// # Errors
/// If the C library does not say where it keeps modules' numbers, the object has no thread-local
/// storage, or the thread has not used it yet.
pub fn of_link_map(
    program: &Program,
    memory: &dyn Memory,
    pointer: u64,
    map: u64,
    offset: u64,
) -> Result<u64, Fault> {
    let number = memory.word(map.wrapping_add(place(program, memory)?))?;
    if !(1..MOST_LOADED as u64).contains(&number) {
        return Err(Fault::new("this object has no thread-local storage"));
    }
    let block = block(memory, pointer, number)?
        .ok_or_else(|| Fault::new("the thread has not touched its copy yet"))?;
    Ok(block.wrapping_add(offset))
}

/// The block of a module in a thread, from the thread's vector of blocks; `None` if it has none yet.
fn block(memory: &dyn Memory, pointer: u64, number: u64) -> Result<Option<u64>, Fault> {
    // tcbhead_t.dtv; two words each, the first of them the block.
    let vector = memory.word(pointer.wrapping_add(8))?;
    let block = memory.word(vector.wrapping_add(number.wrapping_mul(16)))?;
    Ok(Some(block).filter(|b| *b != u64::MAX && *b != 0))
}

/// Where the module's number stands in a `link_map`.
fn place(program: &Program, memory: &dyn Memory) -> Result<u64, Fault> {
    // { size in bits, elements, offset }.
    let (field, _) = symbol(program, b"_thread_db_link_map_l_tls_modid")
        .ok_or_else(|| unknown("the C library is stripped of its _thread_db_ symbols"))?;
    Ok(memory.word(field.wrapping_add(4))? >> 32)
}

fn unknown(what: &str) -> Fault {
    Fault::new(format!(
        "where this library keeps its thread-local variables is not known: {what}"
    ))
}

/// Where the executable's block begins, as glibc's `_dl_determine_tlsoffset` decides: below the
/// pointer, as far as its size needs, with its image's remainder of the alignment.
fn below(pointer: u64, (size, align, image): (u64, u64, u64)) -> u64 {
    let align = align.max(1);
    let first = image.wrapping_neg() % align;
    let rounded = size
        .saturating_sub(first)
        .checked_next_multiple_of(align)
        .unwrap_or(size);
    pointer.wrapping_sub(rounded.wrapping_add(first))
}

/// The number of a library's block.
fn of_library(scope: &Scope<'_>, bias: u64) -> Result<u64, Fault> {
    let program = scope.program;
    let (list, _) = symbol(program, b"_r_debug").ok_or_else(|| unknown("no _r_debug"))?;
    let place = place(program, scope.memory)?;
    let mut map = scope.memory.word(list.wrapping_add(8))?;
    for _ in 0..MOST_LOADED {
        if map == 0 {
            break;
        }
        // link_map: l_addr, l_name, l_ld, l_next.
        if scope.memory.word(map)? == bias {
            let number = scope.memory.word(map.wrapping_add(place))?;
            if number == 0 {
                return Err(unknown("it has no block"));
            }
            return Ok(number);
        }
        map = scope.memory.word(map.wrapping_add(24))?;
    }
    Err(unknown("it is not in the list of loaded objects"))
}

/// The address of a symbol of any module, and its size.
pub(crate) fn symbol(program: &Program, name: &[u8]) -> Option<(u64, u64)> {
    program.modules().iter().find_map(|loaded| {
        let symbol = loaded.module.symbols().named(name).next()?;
        Some((symbol.address.wrapping_add(loaded.bias), symbol.size))
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn blocks_lie_below_the_pointer() {
        assert_eq!(below(0x1000, (0x14, 8, 0)), 0x1000 - 0x18);
        assert_eq!(below(0x1000, (0x20, 0, 0)), 0x1000 - 0x20);
        assert_eq!(below(0x1000, (0x20, 16, 8)), 0x1000 - 0x28);
        let _ = below(0x1000, (u64::MAX, 16, 1));
    }
}
