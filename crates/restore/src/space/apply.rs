//! The steps, made in the process.

use super::files::{Backing, has_backing};
use super::{Done, Step, describe};
use crate::error::{Error, Result};
use crate::source::Source;
use std::collections::HashMap;
use std::ops::Range;
use std::os::fd::AsFd;
use stillframe_image::{Mapping, MappingKind};
use stillframe_linux::remote::Remote;
use stillframe_linux::remote::numbers::{self, map};
use stillframe_linux::tracee::Halt;

/// Private writable mappings larger than this are made without reserving memory for them: a process
/// that maps so much relies on that, and the image does not say.
const UNRESERVED: u64 = 4 << 30;

pub(super) fn apply(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    steps: &[Step],
    source: &Source<'_>,
    backing: &Backing,
    done: &mut Done,
) -> Result<()> {
    let tid = halt.threads().first().copied().unwrap_or(halt.pid());
    let mut hands = Hands {
        remote,
        halt,
        tid,
        sent: HashMap::new(),
    };
    let mappings = &source.image().space.mappings;
    let result = (|| {
        for step in steps {
            match step {
                Step::Unmap(range) => {
                    hands.call("unmapping", range, numbers::MUNMAP, |r| {
                        [r.start, r.end - r.start, 0, 0, 0, 0]
                    })?;
                    done.unmapped += 1;
                }
                Step::MoveKernel(moves) => hands.move_kernel(moves)?,
                Step::Map { mapping, range } => {
                    let Some(mapping) = mappings.get(*mapping) else {
                        continue;
                    };
                    hands.map(mapping, range, backing)?;
                    done.mapped += 1;
                }
            }
        }
        Ok(())
    })();
    let closed = hands.close_all();
    result.and(closed)
}

/// PROT_* of a mapping.
pub(crate) const fn protection(mapping: &Mapping) -> u64 {
    let mut bits = 0;
    if mapping.read {
        bits |= map::READ;
    }
    if mapping.write {
        bits |= map::WRITE;
    }
    if mapping.execute {
        bits |= map::EXECUTE;
    }
    bits
}

/// Calls in one thread, and files that are open in the process while mappings are made.
struct Hands<'r, 'h, 't> {
    remote: &'r mut Remote,
    halt: &'h mut Halt<'t>,
    tid: u32,
    /// Device and inode to descriptor in the target.
    sent: HashMap<((u32, u32), u64), u32>,
}

impl Hands<'_, '_, '_> {
    fn call(
        &mut self,
        what: &str,
        range: &Range<u64>,
        number: i64,
        args: impl Fn(&Range<u64>) -> [u64; 6],
    ) -> Result<u64> {
        self.remote
            .call(self.halt, self.tid, number, args(range))
            .map_err(Error::step(format!(
                "{what} {:x}-{:x}",
                range.start, range.end
            )))
    }

    fn map(&mut self, mapping: &Mapping, range: &Range<u64>, backing: &Backing) -> Result<()> {
        let mut flags = map::FIXED_NOREPLACE;
        flags |= if mapping.shared {
            map::SHARED
        } else {
            map::PRIVATE
        };
        let (mut fd, mut offset) = (u64::MAX, 0);
        if has_backing(mapping) {
            fd = u64::from(self.descriptor(mapping, backing)?);
            offset = mapping.offset + (range.start - mapping.start);
        } else {
            flags |= map::ANONYMOUS;
            if mapping.kind == MappingKind::Stack {
                flags |= map::GROWSDOWN | map::STACK;
            }
            if mapping.len() > UNRESERVED {
                flags |= map::NORESERVE;
            }
        }
        let length = range.end - range.start;
        let args = [range.start, length, protection(mapping), flags, fd, offset];
        let at = self
            .remote
            .call(self.halt, self.tid, numbers::MMAP, args)
            .map_err(Error::step(describe(mapping)))?;
        if at == range.start {
            Ok(())
        } else {
            Err(Error::unsupported(
                describe(mapping),
                "the kernel does not map at a given place (it is older than 4.17)",
            ))
        }
    }

    /// A file of ours, in the process.
    fn descriptor(&mut self, mapping: &Mapping, backing: &Backing) -> Result<u32> {
        let key = (mapping.device, mapping.inode);
        if let Some(fd) = self.sent.get(&key) {
            return Ok(*fd);
        }
        let opened = backing.get(mapping).ok_or_else(|| {
            Error::unsupported(describe(mapping), "the file behind it is not open")
        })?;
        let fd = self
            .remote
            .send_fd(self.halt, self.tid, opened.file.as_fd())
            .map_err(Error::step(describe(mapping)))?;
        self.sent.insert(key, fd);
        Ok(fd)
    }

    fn close_all(&mut self) -> Result<()> {
        for (_, fd) in std::mem::take(&mut self.sent) {
            let args = [u64::from(fd), 0, 0, 0, 0, 0];
            self.remote
                .call(self.halt, self.tid, numbers::CLOSE, args)?;
        }
        Ok(())
    }

    /// Moves the kernel's mappings. If the new place overlaps with the old, by way of a third.
    fn move_kernel(&mut self, moves: &[(Range<u64>, u64)]) -> Result<()> {
        let (Some(first), Some(last)) = (moves.first(), moves.last()) else {
            return Ok(());
        };
        let whole = first.0.start..last.0.end;
        let length = whole.end - whole.start;
        let to = first.1;
        if to < whole.end && whole.start < to + length {
            let away = self.reserve(length)?;
            self.shift(moves.iter().map(|(r, _)| {
                let target = away + (r.start - whole.start);
                (r.clone(), target)
            }))?;
            self.shift(moves.iter().map(|(r, target)| {
                let start = away + (r.start - whole.start);
                (start..start + (r.end - r.start), *target)
            }))
        } else {
            self.shift(moves.iter().cloned())
        }
    }

    /// A free place of the kernel's choice.
    fn reserve(&mut self, length: u64) -> Result<u64> {
        let args = [0, length, 0, map::PRIVATE | map::ANONYMOUS, u64::MAX, 0];
        self.remote
            .call(self.halt, self.tid, numbers::MMAP, args)
            .map_err(Error::step("room to move the vDSO"))
    }

    fn shift(&mut self, moves: impl Iterator<Item = (Range<u64>, u64)>) -> Result<()> {
        for (from, to) in moves {
            let length = from.end - from.start;
            let flags = map::MREMAP_MAYMOVE | map::MREMAP_FIXED;
            self.call("moving the kernel's mapping", &from, numbers::MREMAP, |r| {
                [r.start, length, length, flags, to, 0]
            })?;
        }
        Ok(())
    }
}
