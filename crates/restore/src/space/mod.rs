//! Address spaces: mappings and the bytes of their pages.
//!
//! For new processes: everything that a blank one has is unmapped, the kernel's pages (vDSO and its
//! data) are moved to where they were, and what the checkpoint maps is mapped and filled ([`plan`]).
//! A live process keeps what is the same: [`crate::rollback::layout`].
//!
//! Pages are written through /proc/PID/mem, which honours no protection, so every mapping is made
//! with its final one at once.

mod apply;
mod files;
mod fill;
mod kernel;
mod plan;

pub(crate) use apply::protection;
pub use files::Backing;
pub(crate) use fill::is_lazy;
pub use fill::populated;
pub use plan::{Step, plan};

use crate::error::{Error, Result};
use crate::source::Source;
use std::ops::Range;
use stillframe_image::{Gap, Mapping, MappingKind, ProcessImage};
use stillframe_linux::proc::maps::Maps;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

/// Which bytes are written.
#[derive(Clone, Copy, Debug)]
pub enum Fill {
    /// All of them.
    Everything,
    /// As [`Fill::Everything`], but private anonymous memory stays empty, for someone who fills it
    /// while the process runs.
    Lazily,
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Stretches unmapped.
    pub unmapped: u64,
    /// Stretches mapped.
    pub mapped: u64,
    /// Pages written.
    pub pages: u64,
    /// Address ranges of private anonymous memory left to be filled ([`Fill::Lazily`]), ascending.
    pub left: Vec<Range<u64>>,
    /// What is not as it was.
    pub gaps: Vec<Gap>,
}

/// Addresses that [`Remote::prepare`] is to avoid for a process that is to become `wanted`.
pub fn avoid(wanted: &ProcessImage) -> Vec<Range<u64>> {
    let mappings = wanted.space.mappings.iter();
    let mut ranges: Vec<Range<u64>> = mappings.map(|m| m.start..m.end).collect();
    let layout = &wanted.process.layout;
    ranges.push(layout.start_brk..layout.brk.max(layout.start_brk));
    ranges
}

/// Makes the address space of a stopped process equal to the image's. Calls are made in its first
/// thread.
///
/// # Errors
/// [`Error::NotSupported`], [`Error::Kernel`] and [`Error::File`] come before anything is changed;
/// others may leave a process that can only be thrown away or conformed again.
pub fn conform(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    wanted: &ProcessImage,
    source: &Source<'_>,
    backing: &mut Backing,
    how: Fill,
) -> Result<Done> {
    let mut done = Done::default();
    refuse(wanted, &mut done)?;
    let mut maps = Maps::open(halt.pid())?;
    let _ = maps.refresh()?;
    let steps = plan(maps.entries(), &wanted.space, &remote.pages())?;
    kernel::check_vdso(remote, maps.entries(), source)?;
    backing.open_all(source, &steps, &mut done.gaps)?;
    apply::apply(remote, halt, &steps, source, backing, &mut done)?;
    fill::fill(remote, source, backing, &steps, how, &mut done)?;
    kernel::set_layout(remote, halt, source, backing, &mut done)?;
    Ok(done)
}

/// What cannot be made, before anything is.
fn refuse(wanted: &ProcessImage, done: &mut Done) -> Result<()> {
    for mapping in &wanted.space.mappings {
        match mapping.kind {
            MappingKind::Device => {
                return Err(Error::unsupported(
                    describe(mapping),
                    "it is memory of a device or of a kernel ring, whose state is not recorded",
                ));
            }
            MappingKind::Huge => done.gaps.push(Gap {
                subject: describe(mapping),
                reason: "huge pages came back as ordinary ones".into(),
            }),
            _ => {}
        }
    }
    Ok(())
}

/// A mapping, for messages.
pub(crate) fn describe(mapping: &Mapping) -> String {
    let name = String::from_utf8_lossy(&mapping.name);
    let name = name.escape_debug();
    format!("mapping {:x}-{:x} {name}", mapping.start, mapping.end)
        .trim_end()
        .to_owned()
}
