//! What differs between two moments of a process.
//!
//! Memory is compared where the index says that a page got a version in between, and where mappings
//! say that the memory itself is another. Everything else is small and compared as it stands.

pub mod memory;
pub mod state;
pub mod variables;

pub use memory::{Bytes, HeapChange, HeapDifference, MemoryDifference, SizeClass};
pub use state::{
    DescriptorChange, MappingChange, StateChange, ThreadChange, descriptors, mappings, state,
    threads,
};

pub use variables::{VariableChange, Variables, variables};

use crate::Error;
use crate::past::Past;
use stillframe_image::ProcessImage;

/// Everything that differs.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Differences {
    /// Mappings that came, went, or have another protection or name.
    pub mappings: Vec<MappingChange>,
    /// Threads that came, went, or are elsewhere.
    pub threads: Vec<ThreadChange>,
    /// Descriptors that were opened, closed, or moved.
    pub descriptors: Vec<DescriptorChange>,
    /// What else the kernel keeps of the process: signals, directories, identities, limits.
    pub state: Vec<StateChange>,
    /// Bytes.
    pub memory: MemoryDifference,
    /// Blocks of the allocator.
    pub heap: HeapDifference,
}

/// Compares two positions of a process's life. `go_on` is told how many of how many pages have been
/// compared, and says whether to go on; what was found until then is returned, and
/// [`MemoryDifference::stopped`] says so.
///
/// # Errors
/// Damage.
pub fn diff(
    past: &Past<'_>,
    (a, b): (usize, usize),
    go_on: &mut dyn FnMut(u64, u64) -> bool,
) -> Result<Differences, Error> {
    let process = |at: usize| -> Result<ProcessImage, Error> {
        Ok(past.recording().process(past.id(at), past.space())?)
    };
    let (old, new) = (process(a)?, process(b)?);
    let mut memory = memory::compare(past, (a, b), go_on)?;
    let heap = if memory.stopped {
        HeapDifference::default()
    } else {
        memory::heap(past, (a, b), &mut memory)?
    };
    Ok(Differences {
        mappings: mappings(&old.space, &new.space),
        threads: threads(&old.threads, &new.threads),
        descriptors: descriptors(&old.descriptors, &new.descriptors),
        state: state(&old, &new),
        memory,
        heap,
    })
}
