//! Address spaces: mappings and the bytes of their pages.
//!
//! What is mapped now is compared with what the checkpoint maps ([`plan`]). Equal parts stay, so that
//! a live process that is put back loses nothing it shares; of a blank one nothing is equal. Then
//! everything else is unmapped, the kernel's pages (vDSO and its data) are moved to where they were,
//! and the rest is mapped and filled.
//!
//! Pages are written through /proc/PID/mem, which honours no protection, so every mapping is made
//! with its final one at once.

mod apply;
mod files;
mod fill;
mod kernel;
mod plan;

pub use files::Backing;
pub(crate) use fill::is_lazy;
pub use fill::populated;
pub use plan::{Step, plan};

use crate::error::{Error, Result};
use crate::source::Source;
use std::ops::Range;
use stillframe_image::{Gap, Mapping, MappingKind, PageNumber, ProcessImage};
use stillframe_linux::proc::maps::Maps;
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

/// Which bytes are written.
#[derive(Clone, Copy, Debug)]
pub enum Fill<'a> {
    /// All of them; nothing that is mapped now stays.
    Everything,
    /// As [`Fill::Everything`], but private anonymous memory stays empty, for someone who fills it
    /// while the process runs.
    Lazily,
    /// Of memory that stays mapped, these pages (ascending); of what is mapped anew, all.
    Pages {
        /// The pages that may differ.
        pages: &'a [PageNumber],
        /// Addresses that look the same as then and are other memory: mapped anew.
        replaced: &'a [Range<u64>],
    },
}

impl Fill<'_> {
    /// Whether anything that is mapped now may stay.
    const fn keeps(&self) -> bool {
        matches!(self, Self::Pages { .. })
    }
}

/// What was done.
#[derive(Clone, Debug, Default)]
pub struct Done {
    /// Stretches unmapped.
    pub unmapped: u64,
    /// Stretches mapped.
    pub mapped: u64,
    /// Stretches whose protection changed.
    pub protected: u64,
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
    how: Fill<'_>,
) -> Result<Done> {
    let mut done = Done::default();
    refuse(wanted, &mut done)?;
    let mut maps = Maps::open(halt.pid())?;
    let _ = maps.refresh()?;
    let replaced: &[Range<u64>] = match &how {
        Fill::Pages { replaced, .. } => replaced,
        _ => &[],
    };
    let ours = remote.pages();
    let steps = plan(maps.entries(), &wanted.space, &ours, how.keeps(), replaced)?;
    kernel::check_vdso(remote, maps.entries(), source)?;
    backing.open_all(source, &steps, &mut done.gaps)?;
    apply::apply(remote, halt, &steps, source, backing, &mut done)?;
    fill::fill(remote, source, backing, &steps, how, &mut done)?;
    kernel::set_layout(remote, halt, source, backing, how.keeps(), &mut done)?;
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
