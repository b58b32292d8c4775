//! The notes of a core: registers, signals, the process, its files.
//!
//! Order as the kernel's (`fill_note_info`, `write_note_info`): the first thread's PRSTATUS, the
//! notes about the process, the rest of the first thread, then the other threads. Readers attach a
//! note about a thread to the PRSTATUS before it. Structures from `linux/elfcore.h` and
//! `asm/user_64.h`.

use super::CoreError;
use super::xsave::{self, LEGACY};
use crate::{Mapping, MappingKind, PAGE_SIZE, Process, ProcessImage, SigInfo, Thread};

const NT_PRSTATUS: u32 = 1;
const NT_FPREGSET: u32 = 2;
const NT_PRPSINFO: u32 = 3;
const NT_AUXV: u32 = 6;
const NT_X86_XSTATE: u32 = 0x202;
const NT_FILE: u32 = 0x4649_4c45;
const NT_SIGINFO: u32 = 0x5349_4749;

const SIGINFO: usize = 128;

/// All notes, one after the other.
pub(super) fn all(image: &ProcessImage) -> Result<Vec<u8>, CoreError> {
    let mut threads: Vec<&Thread> = image.threads.iter().collect();
    // Stable: the others keep their order.
    threads.sort_by_key(|thread| thread.signal.is_none());
    let Some((first, others)) = threads.split_first() else {
        return Err(CoreError::NoThreads);
    };
    let process = &image.process;
    let mut out = Vec::new();
    push(
        &mut out,
        "CORE",
        NT_PRSTATUS,
        "NT_PRSTATUS",
        &prstatus(first, process),
    )?;
    push(
        &mut out,
        "CORE",
        NT_PRPSINFO,
        "NT_PRPSINFO",
        &prpsinfo(process),
    )?;
    push(
        &mut out,
        "CORE",
        NT_SIGINFO,
        "NT_SIGINFO",
        &siginfo(first.signal.as_ref()),
    )?;
    push(&mut out, "CORE", NT_AUXV, "NT_AUXV", &process.auxv)?;
    push(
        &mut out,
        "CORE",
        NT_FILE,
        "NT_FILE",
        &files(&image.space.mappings),
    )?;
    vector_state(&mut out, first)?;
    for thread in others {
        push(
            &mut out,
            "CORE",
            NT_PRSTATUS,
            "NT_PRSTATUS",
            &prstatus(thread, process),
        )?;
        push(
            &mut out,
            "CORE",
            NT_SIGINFO,
            "NT_SIGINFO",
            &siginfo(thread.signal.as_ref()),
        )?;
        vector_state(&mut out, thread)?;
    }
    Ok(out)
}

/// Appends one note: three words, the owner, the content, each padded to 4 bytes.
fn push(
    out: &mut Vec<u8>,
    owner: &str,
    kind: u32,
    name: &'static str,
    content: &[u8],
) -> Result<(), CoreError> {
    let length = u32::try_from(content.len()).map_err(|_| CoreError::Note(name))?;
    let owner_length = u32::try_from(owner.len() + 1).map_err(|_| CoreError::Note(name))?;
    out.extend_from_slice(&owner_length.to_le_bytes());
    out.extend_from_slice(&length.to_le_bytes());
    out.extend_from_slice(&kind.to_le_bytes());
    out.extend_from_slice(owner.as_bytes());
    out.push(0);
    out.resize(out.len().next_multiple_of(4), 0);
    out.extend_from_slice(content);
    out.resize(out.len().next_multiple_of(4), 0);
    Ok(())
}

/// NT_FPREGSET and NT_X86_XSTATE.
fn vector_state(out: &mut Vec<u8>, thread: &Thread) -> Result<(), CoreError> {
    if let Some(legacy) = thread.xstate.get(..LEGACY) {
        push(out, "CORE", NT_FPREGSET, "NT_FPREGSET", legacy)?;
    }
    if let Some(area) = xsave::canonical(&thread.xstate) {
        push(out, "LINUX", NT_X86_XSTATE, "NT_X86_XSTATE", &area)?;
    }
    Ok(())
}

/// `struct elf_prstatus`, 336 bytes. The four times are not captured and are zero.
pub(super) fn prstatus(thread: &Thread, process: &Process) -> Vec<u8> {
    let mut out = Vec::with_capacity(336);
    let (signal, code, errno) = thread
        .signal
        .as_ref()
        .map_or((0, 0, 0), |info| (info.signal, info.code, info.errno));
    for word in [signal, code, errno] {
        out.extend_from_slice(&word.to_le_bytes());
    }
    out.extend_from_slice(&i16::try_from(signal).unwrap_or(0).to_le_bytes());
    out.extend_from_slice(&[0; 2]);
    let pending = thread
        .pending
        .iter()
        .fold(0, |set, info| set | signal_bit(info.signal));
    out.extend_from_slice(&pending.to_le_bytes());
    out.extend_from_slice(&thread.blocked.to_le_bytes());
    for id in [thread.tid, process.parent, process.group, process.session] {
        out.extend_from_slice(&id.to_le_bytes());
    }
    out.extend_from_slice(&[0; 64]);
    for word in thread.registers.to_words() {
        out.extend_from_slice(&word.to_le_bytes());
    }
    let valid = u32::from(thread.xstate.len() >= LEGACY);
    out.extend_from_slice(&valid.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out
}

/// The bit of a signal in a set; 0 for numbers that name none.
fn signal_bit(signal: i32) -> u64 {
    match signal {
        1..=64 => 1 << (signal - 1),
        _ => 0,
    }
}

/// `struct elf_prpsinfo`, 136 bytes. The scheduling state and the kernel's flags are not captured.
pub(super) fn prpsinfo(process: &Process) -> Vec<u8> {
    let mut out = Vec::with_capacity(136);
    let nice = i8::try_from(process.nice).unwrap_or(0);
    out.extend_from_slice(&[0, b'R', 0]);
    out.extend_from_slice(&nice.to_le_bytes());
    out.extend_from_slice(&[0; 4]);
    out.extend_from_slice(&0u64.to_le_bytes());
    for id in [
        process.uids[0],
        process.gids[0],
        process.pid,
        process.parent,
        process.group,
        process.session,
    ] {
        out.extend_from_slice(&id.to_le_bytes());
    }
    text(&mut out, &process.name, 16);
    // As the kernel writes it: spaces for the terminators, the last one included.
    let arguments: Vec<u8> = process
        .arguments
        .iter()
        .take(79)
        .map(|&b| if b == 0 { b' ' } else { b })
        .collect();
    text(&mut out, &arguments, 80);
    out
}

/// Text in a field of `size` bytes, zero-terminated.
fn text(out: &mut Vec<u8>, text: &[u8], size: usize) {
    let end = out.len() + size;
    out.extend(text.iter().take(size - 1));
    out.resize(end, 0);
}

/// A `siginfo_t` of 128 bytes; zeros for a thread that has none.
fn siginfo(info: Option<&SigInfo>) -> [u8; SIGINFO] {
    let mut out = [0; SIGINFO];
    if let Some(info) = info {
        out[..4].copy_from_slice(&info.signal.to_le_bytes());
        out[4..8].copy_from_slice(&info.errno.to_le_bytes());
        out[8..12].copy_from_slice(&info.code.to_le_bytes());
        if let Some(raw) = info.raw.get(..SIGINFO) {
            out.copy_from_slice(raw);
        }
    }
    out
}

/// NT_FILE: which file is mapped where, offsets in pages.
///
/// Only files that have a name to be opened by. The kernel lists memfds, SysV segments and deleted
/// files too, and debuggers then complain that they cannot open them; their content is in the core.
pub(super) fn files(mappings: &[Mapping]) -> Vec<u8> {
    let named: Vec<&Mapping> = mappings
        .iter()
        .filter(|m| m.kind == MappingKind::File && m.name.first() == Some(&b'/'))
        .filter(|m| !m.name.ends_with(b" (deleted)") && !m.name.contains(&0))
        .collect();
    let mut out = Vec::new();
    out.extend_from_slice(&(named.len() as u64).to_le_bytes());
    out.extend_from_slice(&(PAGE_SIZE as u64).to_le_bytes());
    for mapping in &named {
        for word in [
            mapping.start,
            mapping.end,
            mapping.offset / PAGE_SIZE as u64,
        ] {
            out.extend_from_slice(&word.to_le_bytes());
        }
    }
    for mapping in &named {
        out.extend_from_slice(&mapping.name);
        out.push(0);
    }
    out
}
