//! What the kernel knows of an address space beside its mappings: the vDSO, the boundaries of
//! program, heap, stack and arguments, names.

use super::files::Backing;
use super::{Done, describe};
use crate::error::{Error, Result};
use crate::source::{Page, Source};
use std::os::fd::AsFd;
use stillframe_image::{Gap, Mapping, MappingKind, PAGE_SIZE, PageNumber};
use stillframe_linux::proc::maps::MapsEntry;
use stillframe_linux::remote::Remote;
use stillframe_linux::remote::numbers::{self, prctl};
use stillframe_linux::tracee::Halt;

/// Bytes at the end of the vDSO that no program uses; a recorder may have left some there.
const SLACK: usize = 128;
/// Most bytes of a vDSO that are looked at.
const LARGEST: u64 = 64 << 10;

/// Refuses a process whose vDSO is another one: its code would call into the middle of ours.
pub(super) fn check_vdso(remote: &Remote, now: &[MapsEntry], source: &Source<'_>) -> Result<()> {
    let wanted = source.image().space.mappings.iter();
    let Some(wanted) = wanted.clone().find(|m| m.kind == MappingKind::Vdso) else {
        return Ok(());
    };
    let Some(now) = now.iter().find(|n| n.name == b"[vdso]") else {
        return Err(Error::unsupported(
            "[vdso]",
            "this kernel gives processes none; start it without vdso=0",
        ));
    };
    let length = wanted.len();
    if now.len() != length || length > LARGEST {
        return Err(Error::Kernel);
    }
    let mut ours = vec![0u8; usize::try_from(length).unwrap_or(0)];
    remote.read(now.start, &mut ours)?;
    let mut theirs: Vec<u8> = Vec::with_capacity(ours.len());
    let mut page: Page = [0; PAGE_SIZE];
    for number in PageNumber::of(wanted.start).0..PageNumber::of(wanted.end).0 {
        source.page(PageNumber(number), &mut page)?;
        theirs.extend_from_slice(&page);
    }
    let upto = ours.len().saturating_sub(SLACK);
    if ours.get(..upto) == theirs.get(..upto) {
        Ok(())
    } else {
        Err(Error::Kernel)
    }
}

/// Sets the boundaries (PR_SET_MM_MAP), with them which mapping is the heap and which the stack, the
/// auxiliary vector as /proc shows it, and, where that is allowed, the executable; and gives
/// anonymous memory its names.
pub(super) fn set_layout(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    source: &Source<'_>,
    backing: &mut Backing,
    done: &mut Done,
) -> Result<()> {
    let tid = halt.threads().first().copied().unwrap_or(halt.pid());
    let image = source.image();
    let layout = &image.process.layout;
    let heap = image
        .space
        .mappings
        .iter()
        .filter(|m| m.kind == MappingKind::Heap)
        .map(|m| m.end)
        .max();
    let brk = program_break(layout.start_brk, layout.brk, heap);
    let at = remote.scratch().start;
    let auxv_at = at + 512;
    let auxv = image
        .process
        .auxv
        .get(..1024)
        .unwrap_or(&image.process.auxv);
    remote.write(auxv_at, auxv)?;
    let executable = executable(source, backing);
    let mut fd = None;
    if let Some(file) = executable {
        fd = Some(remote.send_fd(halt, tid, file.as_fd())?);
    }
    let mut set = |fd: Option<u32>| {
        let words = [
            layout.start_code,
            layout.end_code,
            layout.start_data,
            layout.end_data,
            layout.start_brk,
            brk,
            layout.start_stack,
            layout.arg_start,
            layout.arg_end,
            layout.env_start,
            layout.env_end,
            auxv_at,
        ];
        let mut bytes: Vec<u8> = words.iter().flat_map(|w| w.to_le_bytes()).collect();
        let size = u32::try_from(auxv.len()).unwrap_or(0);
        bytes.extend_from_slice(&size.to_le_bytes());
        bytes.extend_from_slice(&fd.unwrap_or(u32::MAX).to_le_bytes());
        remote.write(at, &bytes)?;
        let length = bytes.len() as u64;
        let args = [prctl::SET_MM, prctl::SET_MM_MAP, at, length, 0, 0];
        remote.call(halt, tid, numbers::PRCTL, args)
    };
    let mut result = set(fd);
    if fd.is_some() && result.is_err() {
        result = set(None);
        if result.is_ok() {
            unset(done);
        }
    } else if fd.is_none() {
        unset(done);
    }
    if let Err(e) = result {
        done.gaps.push(Gap {
            subject: "boundaries of program, heap and stack".into(),
            reason: format!("the kernel refuses them: {e}"),
        });
    }
    if let Some(fd) = fd {
        let args = [u64::from(fd), 0, 0, 0, 0, 0];
        remote.call(halt, tid, numbers::CLOSE, args)?;
    }
    names(remote, halt, tid, source, done)
}

/// The program break. The recorded one is read once a second and may be that of a moment before; the
/// heap's mapping is of this moment, and ends in the break's page.
fn program_break(start: u64, recorded: u64, heap: Option<u64>) -> u64 {
    match heap {
        Some(end) if recorded.next_multiple_of(PAGE_SIZE as u64) == end => recorded,
        Some(end) => end,
        None => start,
    }
}

fn unset(done: &mut Done) {
    done.gaps.push(Gap {
        subject: "/proc/PID/exe".into(),
        reason: "it shows the program that restored: setting it takes CAP_CHECKPOINT_RESTORE"
            .into(),
    });
}

/// The file of the executable, if it is mapped.
fn executable<'b>(source: &Source<'_>, backing: &'b Backing) -> Option<&'b std::fs::File> {
    let image = source.image();
    let path = &image.process.executable;
    let path = path.strip_suffix(b" (deleted)").unwrap_or(path);
    let mapping = image
        .space
        .mappings
        .iter()
        .find(|m| !m.shared && m.inode != 0 && m.name == path)?;
    backing.get(mapping).map(|o| &o.file)
}

/// Names that the program gave to anonymous memory (PR_SET_VMA_ANON_NAME).
fn names(
    remote: &mut Remote,
    halt: &mut Halt<'_>,
    tid: u32,
    source: &Source<'_>,
    done: &mut Done,
) -> Result<()> {
    let at = remote.scratch().start;
    for mapping in &source.image().space.mappings {
        let Some(name) = anonymous_name(mapping) else {
            continue;
        };
        let mut bytes = name.to_vec();
        bytes.push(0);
        remote.write(at, &bytes)?;
        let args = [
            prctl::SET_VMA,
            prctl::SET_VMA_ANON_NAME,
            mapping.start,
            mapping.len(),
            at,
            0,
        ];
        if let Err(e) = remote.call(halt, tid, numbers::PRCTL, args) {
            done.gaps.push(Gap {
                subject: describe(mapping),
                reason: format!("it has no name: {e}"),
            });
            break;
        }
    }
    Ok(())
}

fn anonymous_name(mapping: &Mapping) -> Option<&[u8]> {
    if mapping.shared || mapping.inode != 0 {
        return None;
    }
    let name = mapping.name.strip_prefix(b"[anon:")?.strip_suffix(b"]")?;
    (name.len() < 80).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::program_break;

    #[test]
    fn the_heap_knows_better_than_an_old_break() {
        assert_eq!(program_break(0x1010, 0x5010, Some(0x6000)), 0x5010);
        assert_eq!(program_break(0x1010, 0x6000, Some(0x6000)), 0x6000);
        assert_eq!(program_break(0x1010, 0x5010, Some(0x9000)), 0x9000);
        assert_eq!(program_break(0x1010, 0, Some(0x9000)), 0x9000);
        assert_eq!(program_break(0x1010, 0x5010, None), 0x1010);
    }
}
