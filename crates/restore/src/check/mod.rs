//! What would be different if a checkpoint were restored here and now.
//!
//! A checkpoint holds a process and not the world around it: files, ports, processors and kernels go
//! their own way. What has changed is found *before* anything is started, and each difference is one
//! line with what to do, so that nothing surprises after the start. [`examine`] compares and does
//! nothing else; what there is now it asks of a [`World`], which tests play.

mod files;
mod findings;
mod machine;
mod process;
#[cfg(test)]
mod tests;
pub mod world;

pub use findings::{Finding, Findings, Severity};
pub use world::{Here, World};

use crate::error::Result;
use crate::source::complete::complete;
use serde::{Deserialize, Serialize};
use stillframe_image::{Checkpoint, CheckpointId, MappingKind, PAGE_SIZE, PageNumber};
use stillframe_store::{Header, Recording};

/// What is to be done with files that recorded processes write.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub enum Files {
    /// They are used as they are now.
    Ignore,
    /// They are used as they are now, and have to be what they were.
    #[default]
    Check,
    /// They are put back to what they were.
    Version,
    /// Copies of what they were are used, and they are left alone.
    Private,
}

/// What the checkpoint is to become.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// New processes, with their old pids or new ones.
    New {
        /// The pids of then.
        same_pids: bool,
    },
    /// New processes, all of a tree, which keep their pids: in a PID namespace if need be.
    Tree,
    /// The live processes, put back.
    Live,
}

/// What is asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Policy {
    /// Of files.
    pub files: Files,
    /// Of processes.
    pub purpose: Purpose,
}

impl Default for Policy {
    fn default() -> Self {
        Self {
            files: Files::default(),
            purpose: Purpose::New { same_pids: false },
        }
    }
}

/// What is wanted: a checkpoint, with all that does not need its pages.
#[derive(Clone, Debug, Default)]
pub struct Wanted {
    /// What was recorded, and where.
    pub header: Header,
    /// The checkpoint.
    pub checkpoint: Checkpoint,
    /// The vDSO of its first process, if that is held.
    pub vdso: Option<Vec<u8>>,
}

/// Most bytes of a vDSO.
const VDSO: u64 = 64 << 10;

impl Wanted {
    /// Reads it.
    ///
    /// # Errors
    /// If there is no such checkpoint, or it is damaged.
    pub fn read(recording: &Recording, id: CheckpointId) -> Result<Self> {
        let mut checkpoint = recording.checkpoint(id)?;
        for process in &mut checkpoint.processes {
            let memory = recording.memory(id, process.id)?;
            complete(recording, id, &memory, process);
        }
        let mut vdso = None;
        if let Some(process) = checkpoint.root() {
            let mut mappings = process.space.mappings.iter();
            if let Some(mapping) = mappings.find(|m| m.kind == MappingKind::Vdso) {
                let memory = recording.memory(id, process.id)?;
                let mut bytes = Vec::new();
                let end = mapping.end.min(mapping.start.saturating_add(VDSO));
                for page in PageNumber::of(mapping.start).0..PageNumber::of(end).0 {
                    let mut out = [0; PAGE_SIZE];
                    memory.page(PageNumber(page), &mut out)?;
                    bytes.extend_from_slice(&out);
                }
                vdso = Some(bytes);
            }
        }
        Ok(Self {
            header: recording.header().clone(),
            checkpoint,
            vdso,
        })
    }
}

/// Compares what is wanted with what is there.
pub fn examine(wanted: &Wanted, world: &dyn World, policy: Policy) -> Findings {
    let mut findings = Findings::default();
    let new = matches!(policy.purpose, Purpose::New { .. } | Purpose::Tree);
    if new {
        machine::kernel(wanted, world, &mut findings);
        machine::processor(wanted, world, &mut findings);
        process::pids(wanted, world, policy.purpose, &mut findings);
        process::tree(wanted, policy.purpose, &mut findings);
        process::credentials(wanted, world, &mut findings);
        process::limits(wanted, world, &mut findings);
        process::places(wanted, world, &mut findings);
        files::mapped(wanted, world, &mut findings);
        process::ends(wanted, &mut findings);
    }
    files::open(wanted, world, &mut findings);
    let written = wanted.checkpoint.files.iter();
    files::written(written, &wanted.checkpoint, world, policy, &mut findings);
    process::descriptors(wanted, &mut findings);
    process::gaps(wanted, &mut findings);
    findings
}

/// [`examine`] for a checkpoint of a recording and the machine we are on.
///
/// # Errors
/// If there is no such checkpoint, or it is damaged.
pub fn here(recording: &Recording, id: CheckpointId, policy: Policy) -> Result<Findings> {
    let wanted = Wanted::read(recording, id)?;
    Ok(examine(&wanted, &Here::new()?, policy))
}

/// Looks at files that recorded processes write, and at nothing else, while process `pid` stands still.
/// Files that are served by others are left out, since their server may be waiting for it.
///
/// # Errors
/// If /proc cannot be read.
pub fn standing(checkpoint: &Checkpoint, files: Files, pid: u32) -> Result<Findings> {
    let mut findings = Findings::default();
    let policy = Policy {
        files,
        purpose: Purpose::Live,
    };
    let local = checkpoint.files.iter();
    let local = local.filter(|f| stillframe_linux::files::written::is_local(pid, f.device));
    files::written(local, checkpoint, &Here::hasty()?, policy, &mut findings);
    Ok(findings)
}
