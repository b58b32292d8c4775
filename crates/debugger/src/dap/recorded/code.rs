//! Disassembly, from the recorded memory.
//!
//! x86 code can only be decoded forward, so what stands before an address is found by decoding from
//! the beginning of its function, as editors expect whole functions.

use super::super::debuggee::Disassembled;
use iced_x86::{Decoder, DecoderOptions, Formatter as _, GasFormatter, Instruction};

/// Longest instruction, bytes.
const LONGEST: u64 = 15;
/// How far back a function's beginning is believed.
const BACK: u64 = 64 << 10;
/// Bytes read at a time.
const CHUNK: usize = 4096;

/// Where bytes and names come from.
pub(super) trait Code {
    /// Reads memory; how many bytes could be read before the first that cannot.
    fn read(&mut self, address: u64, out: &mut [u8]) -> usize;
    /// The function that holds an address: its name, and where it begins.
    fn function(&mut self, address: u64) -> Option<(String, u64)>;
}

/// Exactly `count` instructions, the first of them `offset` instructions from `address`. Where
/// nothing can be read or decoded, each byte stands for one without bytes.
pub(super) fn disassemble(
    code: &mut dyn Code,
    address: u64,
    offset: i64,
    count: u64,
) -> Vec<Disassembled> {
    let count = usize::try_from(count).unwrap_or(0);
    let mut list = Vec::new();
    if offset < 0 {
        let wanted = usize::try_from(offset.unsigned_abs()).unwrap_or(usize::MAX);
        let mut before = leading(code, address, wanted);
        // What is missing in front lies where nothing is known.
        let first = before.first().map_or(address, |i| i.address);
        let missing = (wanted - before.len()) as u64;
        list.extend((0..missing).map(|n| nothing(first.saturating_sub(missing - n))));
        list.append(&mut before);
    }
    let skipped = usize::try_from(offset.max(0)).unwrap_or(usize::MAX);
    let after = forward(code, address, u64::MAX, skipped.saturating_add(count));
    list.extend(after.into_iter().skip(skipped));
    list.truncate(count);
    while list.len() < count {
        let next = list.last().map_or(address, |i| {
            i.address.saturating_add(i.bytes.len().max(1) as u64)
        });
        list.push(nothing(next));
    }
    list
}

fn nothing(address: u64) -> Disassembled {
    Disassembled {
        address,
        bytes: Vec::new(),
        text: "(not readable)".to_owned(),
        symbol: None,
    }
}

/// Up to `wanted` instructions that end right before `address`.
fn leading(code: &mut dyn Code, address: u64, wanted: usize) -> Vec<Disassembled> {
    let far = LONGEST.saturating_mul(wanted as u64).saturating_add(64);
    let begin = match address.checked_sub(1).and_then(|a| code.function(a)) {
        Some((_, begin)) if address - begin <= BACK => begin,
        _ => address.saturating_sub(far.min(BACK)),
    };
    let mut all = forward(code, begin, address, usize::MAX);
    // Decoding that began in the middle of one may run over the address.
    while all
        .last()
        .is_some_and(|i| i.address.saturating_add(i.bytes.len() as u64) > address)
    {
        all.pop();
    }
    let surplus = all.len().saturating_sub(wanted);
    all.drain(..surplus);
    all
}

/// Decodes from `from`, up to `until` and at most `most` instructions.
fn forward(code: &mut dyn Code, from: u64, until: u64, most: usize) -> Vec<Disassembled> {
    let mut out = Vec::new();
    let mut formatter = GasFormatter::new();
    let mut at = from;
    let mut bytes = vec![0; CHUNK];
    while out.len() < most && at < until {
        let read = code.read(at, &mut bytes);
        let held = bytes.get(..read).unwrap_or_default();
        let mut decoder = Decoder::with_ip(64, held, at, DecoderOptions::NONE);
        let mut instruction = Instruction::default();
        let mut moved = false;
        while out.len() < most && at < until && decoder.can_decode() {
            let position = decoder.position();
            // One at the end of what is held may be cut off; read on from there.
            let rest = held.len() - position;
            if rest < LONGEST as usize && moved && read == CHUNK {
                break;
            }
            decoder.decode_out(&mut instruction);
            let end = decoder.position();
            let own = held.get(position..end).unwrap_or_default();
            let mut text = String::new();
            match instruction.is_invalid() {
                true => text.push_str("(bad)"),
                false => formatter.format(&instruction, &mut text),
            }
            let symbol = code
                .function(at)
                .map(|(name, begin)| match at.saturating_sub(begin) {
                    0 => name,
                    within => format!("{name}+{within}"),
                });
            out.push(Disassembled {
                address: at,
                bytes: own.to_vec(),
                text,
                symbol,
            });
            at = at.saturating_add(own.len() as u64);
            moved = true;
        }
        if !moved {
            if until != u64::MAX {
                break;
            }
            return out;
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    /// push %rbp; mov %rsp,%rbp; nop; pop %rbp; ret at 0x1000, then nothing.
    struct Small;

    impl Code for Small {
        fn read(&mut self, address: u64, out: &mut [u8]) -> usize {
            let code = [0x55, 0x48, 0x89, 0xe5, 0x90, 0x5d, 0xc3];
            let from = match address.checked_sub(0x1000) {
                Some(from) if from < 7 => usize::try_from(from).unwrap(),
                _ => return 0,
            };
            let n = out.len().min(code.len() - from);
            out[..n].copy_from_slice(&code[from..from + n]);
            n
        }

        fn function(&mut self, address: u64) -> Option<(String, u64)> {
            (0x1000..0x1007)
                .contains(&address)
                .then(|| ("f".to_owned(), 0x1000))
        }
    }

    #[test]
    fn exactly_what_was_asked_for() {
        let list = disassemble(&mut Small, 0x1004, -2, 5);
        let shown: Vec<(u64, &str)> = list.iter().map(|i| (i.address, i.text.as_str())).collect();
        assert_eq!(
            shown,
            [
                (0x1000, "push %rbp"),
                (0x1001, "mov %rsp,%rbp"),
                (0x1004, "nop"),
                (0x1005, "pop %rbp"),
                (0x1006, "ret"),
            ]
        );
        assert_eq!(list[1].symbol.as_deref(), Some("f+1"));
        assert_eq!(list[1].bytes, [0x48, 0x89, 0xe5]);
        let list = disassemble(&mut Small, 0x1005, -5, 8);
        assert_eq!(list.len(), 8);
        assert_eq!(list[0].address, 0xffe);
        assert!(list[0].bytes.is_empty() && !list[2].bytes.is_empty());
        assert_eq!(list[7].address, 0x1007);
        assert!(list[7].bytes.is_empty());
        let list = disassemble(&mut Small, 0x1000, 2, 1);
        assert_eq!(list[0].text, "nop");
        assert_eq!(disassemble(&mut Small, 0, -3, 2).len(), 2);
        assert_eq!(disassemble(&mut Small, u64::MAX, 0, 3).len(), 3);
        assert!(disassemble(&mut Small, 0x1000, 0, 0).is_empty());
    }
}
