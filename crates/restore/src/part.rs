//! The steps by which one blank process becomes one of a checkpoint.
//!
//! In an order that a process of a tree goes through together with the others: what is made before
//! the next step of any of them begins.

use crate::error::{Error, Result};
use crate::objects::{self, Shared};
use crate::source::Source;
use crate::space::{self, Backing, Fill};
use crate::verify::{self, Verified};
use crate::{process, rollback, threads};
use std::ops::Range;
use stillframe_image::{Gap, Mapping, MappingKind, PAGE_SIZE, PageNumber, Process, ProcessImage};
use stillframe_linux::remote::Remote;
use stillframe_linux::tracee::Halt;

/// A process on its way.
#[derive(Debug)]
pub(crate) struct Part {
    pub(crate) remote: Remote,
    /// What it was when its descriptors and threads were about to be made.
    pub(crate) now: Process,
    /// What is not as it was.
    pub(crate) gaps: Vec<Gap>,
    /// Pages written.
    pub(crate) pages: u64,
    /// Memory that is still to come.
    pub(crate) left: Vec<Range<u64>>,
    pub(crate) threads: threads::Conformed,
}

impl Part {
    /// A blank process. Its group and session are those that it keeps.
    pub(crate) fn new(remote: Remote, now: Process) -> Self {
        Self {
            remote,
            now,
            gaps: Vec::new(),
            pages: 0,
            left: Vec::new(),
            threads: threads::Conformed::default(),
        }
    }

    /// Its memory.
    pub(crate) fn fill(
        &mut self,
        halt: &mut Halt<'_>,
        source: &Source<'_>,
        backing: &mut Backing,
        how: Fill,
    ) -> Result<()> {
        let image = source.image();
        let done = space::conform(&mut self.remote, halt, image, source, backing, how)?;
        self.gaps.extend(done.gaps);
        self.gaps
            .extend(image.gaps.iter().filter(|g| is_doubt(g)).cloned());
        self.pages += done.pages;
        self.left = done.left;
        Ok(())
    }

    /// Its descriptors and threads.
    pub(crate) fn equip(
        &mut self,
        halt: &mut Halt<'_>,
        image: &ProcessImage,
        shared: &mut Shared,
    ) -> Result<()> {
        let main = halt.pid();
        let remote = &mut self.remote;
        self.gaps
            .extend(objects::conform(remote, halt, image, shared)?);
        threads::permit_tiles(remote, halt, main, image)?;
        self.threads = threads::conform(remote, halt, main, image, &mut threads::Unguarded)?;
        self.gaps.extend(self.threads.gaps.iter().cloned());
        // None of them is taken before the process has its own mask.
        halt.put_blocked(main, threads::ALL_BLOCKED)?;
        let pending = &image.process.pending;
        threads::conform_shared(remote, halt, main, pending, &mut self.gaps)?;
        Ok(())
    }

    /// What its threads share; its timers begin.
    pub(crate) fn settle(&mut self, halt: &mut Halt<'_>, image: &ProcessImage) -> Result<()> {
        let main = halt.pid();
        let now = &self.now;
        let groups = match now.uids[1] {
            // They are set with the user, as the last thing.
            0 => &now.groups,
            _ => &image.process.groups,
        };
        let wanted = Process {
            groups: groups.clone(),
            group: now.group,
            session: now.session,
            capabilities: now.capabilities,
            ..image.process.clone()
        };
        let mut replaced = Vec::new();
        let set = process::conform(&mut self.remote, halt, main, now, &wanted, &mut replaced)?;
        self.gaps.extend(set);
        Ok(())
    }

    /// Takes our pages away and sets the registers: it is ready to go on. What was compared, if that
    /// is asked for.
    pub(crate) fn finish(
        self,
        halt: &mut Halt<'_>,
        source: &Source<'_>,
        paranoid: bool,
    ) -> Result<(Vec<Gap>, u64, Option<Verified>)> {
        let main = halt.pid();
        self.remote.finish(halt, main)?;
        let memory = |address: u64, into: &mut [u8]| read(source, address, into);
        threads::put(halt, source.image(), &self.threads.tids, &memory)?;
        let verified = match paranoid {
            true => Some(compare(halt, source, &self.threads)?),
            false => None,
        };
        Ok((self.gaps, self.pages, verified))
    }
}

/// Reads back what was made; any difference is an error.
fn compare(halt: &Halt<'_>, source: &Source<'_>, made: &threads::Conformed) -> Result<Verified> {
    let (image, memory) = (source.image(), source.memory());
    let ours = 0..0;
    let found = verify::verify(halt, image, memory, &made.tids, &ours, &made.patched);
    let found = found.map_err(|error| match error {
        rollback::Error::Store(e) => Error::Store(e),
        rollback::Error::Kernel(e) => Error::Linux(e),
        rollback::Error::Part(e) => e,
        other => Error::Ended {
            pid: halt.pid(),
            how: other.to_string(),
        },
    })?;
    match found.differences.first() {
        Some(first) => Err(Error::Differs {
            count: found.count,
            first: first.clone(),
        }),
        None => Ok(found),
    }
}

/// Whether a gap of a checkpoint says that something may come back otherwise than it was, rather than
/// that it is not there.
fn is_doubt(gap: &Gap) -> bool {
    gap.reason.starts_with(crate::source::complete::DOUBT)
}

/// Memory that is mapped shared and open as a descriptor is one: both get the same file, in all
/// processes.
pub(crate) fn offer_memory(
    images: &[&ProcessImage],
    shared: &mut Shared,
    backing: &mut Backing,
) -> Result<()> {
    let mappings = || images.iter().flat_map(|i| &i.space.mappings);
    let of = |m: &&Mapping| m.kind == MappingKind::SharedMemory && m.inode != 0;
    for mapping in mappings().filter(of) {
        let same = |m: &&Mapping| (m.device, m.inode) == (mapping.device, mapping.inode);
        if backing.get(mapping).is_some() {
            continue;
        }
        let end = |m: &Mapping| m.offset.saturating_add(m.len());
        let length = mappings().filter(same).map(end).max().unwrap_or(0);
        let file = shared
            .memory(mapping.inode, &mapping.name, length)?
            .try_clone_to_owned()
            .map_err(|e| Error::io("taking", space::describe(mapping), e))?;
        backing.offer(mapping.device, mapping.inode, file.into(), true);
    }
    Ok(())
}

/// What a new process of ours cannot be.
pub(crate) fn refuse(now: &Process, wanted: &Process) -> Result<()> {
    if wanted.seccomp != now.seccomp {
        return Err(Error::unsupported(
            "its filter of system calls (seccomp)",
            "it is not recorded, and without it the process would be free",
        ));
    }
    if wanted.root != now.root {
        let root = String::from_utf8_lossy(&wanted.root);
        return Err(Error::unsupported(
            format!("its root directory {}", root.escape_debug()),
            "run `still restore` in a shell that has the same root (chroot)",
        ));
    }
    if (wanted.uids, wanted.gids) != (now.uids, now.gids) && now.uids != [0; 4] {
        let (then, us) = (wanted.uids[1], now.uids[1]);
        return Err(Error::unsupported(
            format!("a process of user {then}"),
            format!("this is user {us}; run it as that user, or as root"),
        ));
    }
    Ok(())
}

/// Reads bytes of the checkpoint's memory; whether they are there.
fn read(source: &Source<'_>, address: u64, into: &mut [u8]) -> bool {
    debug_assert!(into.len() <= PAGE_SIZE);
    source.memory().layout().mapping_at(address).is_some()
        && PageNumber::of(address).address() <= address
        && source.memory().read(address, into).is_ok()
}
