//! What a checkpoint does not know yet, from those after it, and what it may know wrongly.
//!
//! Some state can only be asked for by a call in the process, which the recorder makes up to a second
//! after it has appeared. A thread without the address that the kernel clears at its end would never
//! be joined, a signal without its handler would kill. Both are the same from when they appear to
//! when they are read, as a rule: so the next checkpoints that know are asked. Where a thread's word
//! is, its memory tells at once: it is at the same distance from the thread pointer in every thread of
//! one C library, and holds the thread's number.

use stillframe_image::{AltStack, CheckpointId, Gap, ProcessImage, SignalAction, Thread};
use stillframe_store::{Memory, Recording};

use crate::rollback::next_asked;

/// Checkpoints looked at, and how much later they may be, ns.
const LOOKED_AT: usize = 2000;
const LATER: u64 = 3_000_000_000;
/// Where glibc has it (2.34 to 2.41), from the thread pointer.
const GLIBC: u64 = 0x2d0;

/// How a doubt begins.
pub(crate) const DOUBT: &str = "was changed";

pub(crate) fn complete(
    recording: &Recording,
    id: CheckpointId,
    memory: &Memory<'_>,
    image: &mut ProcessImage,
) {
    let holds = |address: u64, tid: u32| {
        let mut word = [0u8; 4];
        memory.read(address, &mut word).is_ok() && u32::from_le_bytes(word) == tid
    };
    addresses(&mut image.threads, holds);
    if image.process.as_of < id
        && let Ok(Some(next)) = next_asked(recording, id, image.id)
    {
        doubt(image, &next);
    }
    if is_complete(image) {
        return;
    }
    let from = recording.row(id).map_or(0, |r| r.tick.at_ns);
    let rows = recording.rows();
    let first = rows.partition_point(|r| r.id <= id);
    let later = rows.iter().skip(first).take(LOOKED_AT);
    for row in later.take_while(|r| r.tick.at_ns - from < LATER) {
        let Ok(next) = recording.process(row.id, image.id) else {
            break;
        };
        if next.process.executable != image.process.executable {
            break;
        }
        learn(image, &next);
        if is_complete(image) {
            break;
        }
    }
}

fn is_complete(image: &ProcessImage) -> bool {
    let known = |t: &Thread| t.tid_address.is_some() && t.alt_stack.is_some();
    let handler = |a: &SignalAction| a.handler != SignalAction::UNKNOWN;
    image.threads.iter().all(known) && image.process.actions.iter().all(handler)
}

fn learn(image: &mut ProcessImage, next: &ProcessImage) {
    for thread in &mut image.threads {
        let Some(same) = next
            .threads
            .iter()
            .find(|t| t.tid == thread.tid && t.registers.fs_base == thread.registers.fs_base)
        else {
            continue;
        };
        thread.tid_address = thread.tid_address.or(same.tid_address);
        // Whether it stands on it is its own affair: by its own stack pointer.
        let rsp = thread.registers.rsp;
        thread.alt_stack = thread
            .alt_stack
            .or(same.alt_stack.map(|s| stood_on(s, rsp)));
    }
    for action in &mut image.process.actions {
        if action.handler != SignalAction::UNKNOWN {
            continue;
        }
        let same = |a: &&SignalAction| a.signal == action.signal;
        if let Some(known) = next.process.actions.iter().find(same)
            && known.handler > 1
        {
            *action = *known;
        }
    }
}

/// Names what was otherwise when the process was next asked: at which of the checkpoints between it
/// changed is not known.
fn doubt(image: &mut ProcessImage, next: &ProcessImage) {
    let from = image.process.as_of;
    let when = format!("{DOUBT} after checkpoint {from}, possibly before this one");
    for action in &image.process.actions {
        let mut later = next.process.actions.iter();
        let other = later.any(|a| {
            let known = |a: &SignalAction| a.handler > 1 && a.handler != SignalAction::UNKNOWN;
            a.signal == action.signal && known(a) && known(action) && a != action
        });
        if other {
            image.gaps.push(Gap {
                subject: format!(
                    "action of {}",
                    stillframe_image::signal::name(i64::from(action.signal))
                ),
                reason: when.clone(),
            });
        }
    }
    for thread in &image.threads {
        let place = |t: &Thread| t.alt_stack.map(|s| (s.base, s.size));
        let same = |t: &&Thread| t.tid == thread.tid;
        if let Some(later) = next.threads.iter().find(same)
            && place(later) != place(thread)
        {
            image.gaps.push(Gap {
                subject: format!("alternate stack of thread {}", thread.tid),
                reason: when.clone(),
            });
        }
    }
}

fn stood_on(stack: AltStack, rsp: u64) -> AltStack {
    const SS_ONSTACK: u32 = 1;
    let on = stack.size != 0 && rsp > stack.base && rsp - stack.base <= stack.size;
    let flags = stack.flags & !SS_ONSTACK | if on { SS_ONSTACK } else { 0 };
    AltStack { flags, ..stack }
}

/// Finds the words that are cleared, by their distance from the thread pointer in threads where they
/// are known.
fn addresses(threads: &mut [Thread], holds: impl Fn(u64, u32) -> bool) {
    let mut distances: Vec<u64> = threads
        .iter()
        .filter_map(|t| Some(t.tid_address?.wrapping_sub(t.registers.fs_base)))
        .filter(|d| *d < 1 << 16)
        .collect();
    distances.push(GLIBC);
    distances.dedup();
    for thread in threads.iter_mut().filter(|t| t.tid_address.is_none()) {
        let base = thread.registers.fs_base;
        if base == 0 {
            continue;
        }
        let at = distances.iter().map(|d| base.wrapping_add(*d));
        thread.tid_address = at
            .filter(|a| holds(*a, thread.tid))
            .find(|a| a.is_multiple_of(4));
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::Registers;

    fn thread(tid: u32, fs_base: u64, tid_address: Option<u64>) -> Thread {
        Thread {
            tid,
            tid_address,
            registers: Registers {
                fs_base,
                rsp: 0x5000,
                ..Registers::default()
            },
            ..Thread::default()
        }
    }

    #[test]
    fn the_word_is_where_it_is_in_other_threads_and_holds_the_number() {
        let mut threads = [
            thread(7, 0x1000, Some(0x1038)),
            thread(8, 0x2000, None),
            thread(9, 0x3000, None),
            thread(10, 0x4000, None),
        ];
        let words = [(0x2038, 8), (0x3038, 1), (0x42d0, 10)];
        addresses(&mut threads, |a, tid| words.contains(&(a, tid)));
        let found: Vec<_> = threads.iter().map(|t| t.tid_address).collect();
        assert_eq!(found, [Some(0x1038), Some(0x2038), None, Some(0x42d0)]);
    }

    #[test]
    fn what_is_learned_later_is_taken_and_what_is_known_is_kept() {
        let action = |signal, handler| SignalAction {
            signal,
            handler,
            flags: 0,
            restorer: 0,
            mask: 0,
        };
        let stack = AltStack {
            base: 0x4000,
            flags: 1,
            size: 0x800,
        };
        let mut image = ProcessImage {
            threads: vec![
                thread(7, 1, Some(5)),
                thread(8, 2, None),
                thread(9, 3, None),
            ],
            ..ProcessImage::default()
        };
        image.process.actions = vec![action(10, SignalAction::UNKNOWN), action(12, 0x77)];
        let mut next = image.clone();
        next.threads[0].tid_address = Some(6);
        next.threads[1].tid_address = Some(8);
        next.threads[1].alt_stack = Some(stack);
        // Another thread with that number.
        next.threads[2] = thread(9, 4, Some(9));
        next.process.actions = vec![action(10, 0x99), action(12, 0x88)];
        learn(&mut image, &next);
        let found: Vec<_> = image.threads.iter().map(|t| t.tid_address).collect();
        assert_eq!(found, [Some(5), Some(8), None]);
        // It does not stand on it: its stack pointer is elsewhere.
        assert_eq!(image.threads[1].alt_stack.map(|s| s.flags), Some(0));
        assert_eq!(image.process.actions, [action(10, 0x99), action(12, 0x77)]);
    }
}
