//! Mappings of a live process put back: what was unmapped since is mapped again, what was mapped
//! since is unmapped, protections are what they were, the heap and the stack have their old ends.
//!
//! [`plan`] compares, and changes nothing. What it finds cannot be had (memory without a path that is
//! gone, a file that is not the same any more) is known before anything is changed. Content is not
//! its business: pages of what it maps anew are written with all others.

use crate::space::protection;
use std::ops::Range;
use std::os::unix::fs::MetadataExt;
use std::path::PathBuf;
use stillframe_image::{Mapping, MappingKind};
use stillframe_linux::remote::{Remote, numbers};
use stillframe_linux::tracee::Halt;
use stillframe_linux::{Error, Result};

/// One change.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// Nothing is there any more.
    Unmap(Range<u64>),
    /// Memory, or a file, is there again; what is there is replaced.
    Map(Box<Mapping>),
    /// Other protection: PROT_* bits.
    Protect(Range<u64>, u64),
    /// The heap ends there.
    Break(u64),
    /// The stack reaches down to there.
    GrowStack(u64),
}

/// The kernel's own, and what has a life of its own: left as it is.
fn is_left(m: &Mapping) -> bool {
    matches!(
        m.kind,
        MappingKind::Vdso | MappingKind::Vvar | MappingKind::Vsyscall
    )
}

/// What is behind an address: equal for the same memory or file.
fn backing(m: &Mapping, at: u64) -> (bool, u64, (u32, u32), u64) {
    if m.inode == 0 {
        (m.shared, 0, (0, 0), 0)
    } else {
        let offset = m.offset.wrapping_add(at - m.start);
        (m.shared, m.inode, m.device, offset)
    }
}

/// The changes that make `now` the mappings `wanted`, both ascending. Addresses of `ours` are not
/// touched.
pub fn plan(now: &[Mapping], wanted: &[Mapping], ours: &Range<u64>) -> Vec<Step> {
    let mut steps: Vec<Step> = heap(now, wanted).into_iter().collect();
    steps.extend(stack(now, wanted));
    let counts = |m: &&Mapping| !is_left(m);
    let now: Vec<&Mapping> = now.iter().filter(counts).collect();
    let wanted: Vec<&Mapping> = wanted.iter().filter(counts).collect();
    let mut edges: Vec<u64> = now
        .iter()
        .chain(&wanted)
        .flat_map(|m| [m.start, m.end])
        .chain([ours.start, ours.end])
        .collect();
    edges.sort_unstable();
    edges.dedup();
    let at = |list: &[&'_ Mapping], address: u64| -> Option<Mapping> {
        let after = list.partition_point(|m| m.start <= address);
        let found = after.checked_sub(1).and_then(|i| list.get(i));
        found.filter(|m| m.contains(address)).map(|m| (*m).clone())
    };
    // What the two steps above will have done.
    let settled = |address: u64| {
        steps.iter().any(|s| match s {
            Step::Break(_) => {
                let heap = |list: &[&Mapping]| {
                    list.iter()
                        .any(|m| m.kind == MappingKind::Heap && m.contains(address))
                };
                heap(&now) != heap(&wanted)
            }
            Step::GrowStack(_) => {
                let stack = |list: &[&Mapping]| {
                    list.iter()
                        .any(|m| m.kind == MappingKind::Stack && m.contains(address))
                };
                stack(&wanted) && !stack(&now)
            }
            _ => false,
        })
    };
    let mut changes: Vec<Step> = Vec::new();
    for pair in edges.windows(2) {
        let &[start, end] = pair else { continue };
        if (start >= ours.start && end <= ours.end) || settled(start) {
            continue;
        }
        let step = match (at(&now, start), at(&wanted, start)) {
            (None, None) => continue,
            (Some(_), None) => Step::Unmap(start..end),
            (Some(n), Some(w)) if backing(&n, start) == backing(&w, start) => {
                if protection(&n) == protection(&w) {
                    continue;
                }
                Step::Protect(start..end, protection(&w))
            }
            (_, Some(w)) => {
                let offset = w.offset.wrapping_add(start - w.start);
                Step::Map(Box::new(Mapping {
                    start,
                    end,
                    offset: if w.inode == 0 { 0 } else { offset },
                    ..w
                }))
            }
        };
        match (changes.last_mut(), &step) {
            (Some(Step::Unmap(last)), Step::Unmap(next)) if last.end == next.start => {
                last.end = next.end;
            }
            (Some(Step::Protect(last, how)), Step::Protect(next, same))
                if last.end == next.start && how == same =>
            {
                last.end = next.end;
            }
            (Some(Step::Map(last)), Step::Map(next))
                if last.end == next.start
                    && protection(last) == protection(next)
                    && backing(last, last.start) == backing(next, next.start)
                    && next.inode == 0 =>
            {
                last.end = next.end;
            }
            _ => changes.push(step),
        }
    }
    steps.extend(changes);
    steps
}

/// Maps anew, each in one piece, what was one mapping and lies in several now that the rest is done.
///
/// A program may treat memory that it mapped at once as one: `mremap` fails over two mappings
/// (`EFAULT`). The kernel joins what is mapped beside what was left only if both are tracked alike and
/// have no pages of different origin. The heap is not the program's to move, and stays as it is.
pub fn joined(now: &[Mapping], wanted: &[Mapping], ours: &Range<u64>) -> Vec<Step> {
    let plain = |m: &Mapping| m.kind == MappingKind::Anonymous && m.inode == 0 && !m.shared;
    let pieces = |w: &Mapping| {
        let first = now.partition_point(|n| n.end <= w.start);
        let after = now.partition_point(|n| n.start < w.end);
        after.saturating_sub(first)
    };
    wanted
        .iter()
        .filter(|w| plain(w) && pieces(w) > 1 && (w.end <= ours.start || ours.end <= w.start))
        .map(|w| Step::Map(Box::new(w.clone())))
        .collect()
}

/// The stretches of a kind, neighbours taken as one: the kernel keeps apart what is tracked and what
/// came since.
fn stretches(list: &[Mapping], kind: MappingKind) -> Vec<Range<u64>> {
    let mut all: Vec<Range<u64>> = Vec::new();
    for m in list.iter().filter(|m| m.kind == kind) {
        match all.last_mut() {
            Some(last) if last.end == m.start => last.end = m.end,
            _ => all.push(m.start..m.end),
        }
    }
    all
}

/// The heap, where it is one piece and begins at the same place, is the kernel's to grow and shrink:
/// it goes on from the end that it knows, whatever is mapped.
fn heap(now: &[Mapping], wanted: &[Mapping]) -> Option<Step> {
    let pieces = |list| stretches(list, MappingKind::Heap);
    match (pieces(now).as_slice(), pieces(wanted).as_slice()) {
        ([n], [w]) if n.start == w.start && n.end != w.end => Some(Step::Break(w.end)),
        ([n], []) => Some(Step::Break(n.start)),
        ([], [w]) => Some(Step::Break(w.end)),
        _ => None,
    }
}

/// A stack that reached further down.
fn stack(now: &[Mapping], wanted: &[Mapping]) -> Option<Step> {
    let last = |list| stretches(list, MappingKind::Stack).pop();
    let (now, wanted) = (last(now)?, last(wanted)?);
    (wanted.end == now.end && wanted.start < now.start).then_some(Step::GrowStack(wanted.start))
}

/// Why a plan cannot be carried out, if it cannot. `pid`: through whose eyes paths are looked at.
pub fn obstacle(pid: u32, steps: &[Step]) -> Option<String> {
    steps.iter().find_map(|step| {
        let Step::Map(m) = step else { return None };
        if m.inode == 0 && !m.shared {
            return None;
        }
        let name = String::from_utf8_lossy(&m.name).escape_debug().to_string();
        let gone = |why: &str| {
            let place = format!("{:x}-{:x}", m.start, m.end);
            Some(format!("it unmapped {place} ({name}) since, and {why}"))
        };
        match m.kind {
            MappingKind::File => {
                let path = seen_from(pid, m);
                match std::fs::metadata(path) {
                    Ok(meta) if meta.ino() == m.inode => None,
                    Ok(_) => gone("its path names another file now"),
                    Err(_) => gone("the file is not to be had any more"),
                }
            }
            MappingKind::SharedMemory if m.name.starts_with(b"/dev/shm/") => {
                match std::fs::metadata(seen_from(pid, m)) {
                    Ok(meta) if meta.ino() == m.inode => None,
                    _ => gone("that memory is not to be had any more"),
                }
            }
            _ => gone("that memory has no name by which it could be had again"),
        }
    })
}

fn seen_from(pid: u32, m: &Mapping) -> PathBuf {
    use std::os::unix::ffi::OsStrExt;
    let name = std::ffi::OsStr::from_bytes(&m.name);
    let mut path = PathBuf::from(format!("/proc/{pid}/root"));
    path.push(name.to_string_lossy().trim_start_matches('/'));
    if name.to_str().is_none() {
        // Not to be shown, but to be opened all the same.
        path = PathBuf::from(name);
    }
    path
}

/// Carries a plan out, by calls in `caller`.
///
/// # Errors
/// [`Error::Call`] with what the kernel says; what was done by then stays.
pub fn apply(remote: &mut Remote, halt: &mut Halt<'_>, caller: u32, steps: &[Step]) -> Result<()> {
    use numbers::map::{ANONYMOUS, FIXED, NORESERVE, PRIVATE, SHARED};
    use numbers::{BRK, CLOSE, MMAP, MPROTECT, MUNMAP, TIMES};
    for step in steps {
        match step {
            Step::Unmap(r) => {
                let args = [r.start, r.end - r.start, 0, 0, 0, 0];
                remote.call(halt, caller, MUNMAP, args)?;
            }
            Step::Protect(r, how) => {
                let args = [r.start, r.end - r.start, *how, 0, 0, 0];
                remote.call(halt, caller, MPROTECT, args)?;
            }
            Step::Break(end) => {
                let got = remote.call(halt, caller, BRK, [*end, 0, 0, 0, 0, 0])?;
                if got != *end {
                    return Err(no_memory("brk", caller));
                }
            }
            // The kernel's own write to it makes a stack grow.
            Step::GrowStack(to) => {
                remote.call(halt, caller, TIMES, [*to, 0, 0, 0, 0, 0])?;
            }
            Step::Map(m) => {
                let fd = match m.inode {
                    0 => u64::MAX,
                    _ => open(remote, halt, caller, m)?,
                };
                let mut flags = FIXED | if m.shared { SHARED } else { PRIVATE };
                if m.inode == 0 {
                    flags |= ANONYMOUS;
                }
                if m.inode == 0 && protection(m) == 0 {
                    flags |= NORESERVE;
                }
                let args = [m.start, m.len(), protection(m), flags, fd, m.offset];
                let got = remote.call(halt, caller, MMAP, args);
                if fd != u64::MAX {
                    remote.call(halt, caller, CLOSE, [fd, 0, 0, 0, 0, 0])?;
                }
                if got? != m.start {
                    return Err(no_memory("mmap", caller));
                }
            }
        }
    }
    Ok(())
}

fn open(remote: &mut Remote, halt: &mut Halt<'_>, caller: u32, m: &Mapping) -> Result<u64> {
    const AT_FDCWD: u64 = (-100i64).cast_unsigned();
    const O_CLOEXEC: u64 = 0o2_000_000;
    const O_RDWR: u64 = 2;
    let mut path = m.name.clone();
    path.push(0);
    let scratch = remote.scratch().start;
    remote.write(scratch, &path)?;
    let how = if m.shared && m.write { O_RDWR } else { 0 };
    let args = [AT_FDCWD, scratch, O_CLOEXEC | how, 0, 0, 0];
    remote.call(halt, caller, numbers::OPENAT, args)
}

fn no_memory(call: &'static str, tid: u32) -> Error {
    Error::Call {
        call,
        tid,
        source: std::io::Error::other("the kernel gave another place, or no memory"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::Coverage;

    fn mapping(start: u64, end: u64, kind: MappingKind) -> Mapping {
        Mapping {
            start,
            end,
            read: true,
            write: true,
            execute: false,
            shared: false,
            offset: 0,
            device: (0, 0),
            inode: 0,
            name: Vec::new(),
            kind,
            coverage: Coverage::Tracked,
            file: None,
        }
    }

    fn anon(start: u64, end: u64) -> Mapping {
        mapping(start, end, MappingKind::Anonymous)
    }

    const NOWHERE: Range<u64> = 0x100_0000..0x100_1000;

    #[test]
    fn the_same_needs_nothing() {
        let a = [anon(0x1000, 0x3000)];
        // However the kernel divides it.
        let b = [anon(0x1000, 0x2000), anon(0x2000, 0x3000)];
        assert!(plan(&a, &b, &NOWHERE).is_empty());
    }

    #[test]
    fn what_came_goes_and_what_went_comes() {
        let now = [
            anon(0x1000, 0x2000),
            anon(0x5000, 0x6000),
            anon(0x100_0000, 0x100_1000),
        ];
        let then = [anon(0x1000, 0x3000)];
        let steps = plan(&now, &then, &NOWHERE);
        assert_eq!(
            steps,
            [
                Step::Map(Box::new(anon(0x2000, 0x3000))),
                Step::Unmap(0x5000..0x6000),
            ]
        );
        let back = plan(&then, &now[..2], &NOWHERE);
        assert_eq!(
            back,
            [
                Step::Unmap(0x2000..0x3000),
                Step::Map(Box::new(anon(0x5000, 0x6000))),
            ]
        );
    }

    #[test]
    fn what_was_one_is_one_again() {
        let now = [
            anon(0x1000, 0x2000),
            anon(0x2000, 0x4000),
            anon(0x5000, 0x7000),
            mapping(0x8000, 0x9000, MappingKind::Heap),
            mapping(0x9000, 0xa000, MappingKind::Heap),
        ];
        let then = [
            anon(0x1000, 0x4000),
            anon(0x5000, 0x6000),
            anon(0x6000, 0x7000),
            mapping(0x8000, 0xa000, MappingKind::Heap),
        ];
        assert_eq!(
            joined(&now, &then, &NOWHERE),
            [Step::Map(Box::new(anon(0x1000, 0x4000)))]
        );
        assert!(joined(&then, &then, &NOWHERE).is_empty());
    }

    #[test]
    fn protections_and_other_files() {
        let mut read_only = anon(0x1000, 0x2000);
        read_only.write = false;
        let now = [anon(0x1000, 0x4000)];
        assert_eq!(
            plan(&now, &[read_only, anon(0x2000, 0x4000)], &NOWHERE),
            [Step::Protect(0x1000..0x2000, 1)]
        );
        let mut file = anon(0x2000, 0x4000);
        (file.inode, file.offset, file.kind) = (7, 0x8000, MappingKind::File);
        assert_eq!(
            plan(&now, &[anon(0x1000, 0x2000), file.clone()], &NOWHERE),
            [Step::Map(Box::new(file))]
        );
    }

    #[test]
    fn heap_and_stack_have_their_own_ways() {
        let heap = |end| mapping(0x1000, end, MappingKind::Heap);
        let stack = |start| mapping(start, 0x9_0000, MappingKind::Stack);
        assert_eq!(
            plan(
                &[heap(0x9000), stack(0x8_0000)],
                &[heap(0x5000), stack(0x8_8000)],
                &NOWHERE
            ),
            [Step::Break(0x5000), Step::Unmap(0x8_0000..0x8_8000)]
        );
        assert_eq!(
            plan(
                &[heap(0x5000), stack(0x8_8000)],
                &[heap(0x9000), stack(0x8_0000)],
                &NOWHERE
            ),
            [Step::Break(0x9000), Step::GrowStack(0x8_0000)]
        );
        // In two pieces, as a tracker leaves it.
        let mut grown = [heap(0x5000), heap(0x9000), stack(0x8_0000)];
        grown[1].start = 0x5000;
        assert_eq!(
            plan(&grown, &[heap(0x3000), stack(0x8_0000)], &NOWHERE),
            [Step::Break(0x3000)]
        );
        let bare = [stack(0x8_0000)];
        let with = [heap(0x5000), stack(0x8_0000)];
        assert_eq!(plan(&with, &bare, &NOWHERE), [Step::Break(0x1000)]);
        assert_eq!(plan(&bare, &with, &NOWHERE), [Step::Break(0x5000)]);
    }
}
