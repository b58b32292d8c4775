//! The processor's registers, by the names people know.

use super::super::debuggee::Item;
use stillframe_symbols::Registers;

/// General registers: name, and number in DWARF.
const GENERAL: [(&str, u16); 20] = [
    ("rax", 0),
    ("rbx", 3),
    ("rcx", 2),
    ("rdx", 1),
    ("rsi", 4),
    ("rdi", 5),
    ("rbp", 6),
    ("rsp", 7),
    ("r8", 8),
    ("r9", 9),
    ("r10", 10),
    ("r11", 11),
    ("r12", 12),
    ("r13", 13),
    ("r14", 14),
    ("r15", 15),
    ("rip", 16),
    ("eflags", 49),
    ("fs_base", 58),
    ("gs_base", 59),
];
/// DWARF's number of xmm0.
const XMM0: u16 = 17;

/// All registers of a frame. What is not known there says so.
pub(super) fn items<N>(registers: &dyn Registers) -> Vec<Item<N>> {
    let general = GENERAL.iter().map(|(name, number)| {
        let value = registers.get(*number);
        item(name, value.map(|v| format!("{v:#x}")), "u64", value)
    });
    let vectors = (0..16).map(|n| {
        let bytes = registers.bytes(XMM0 + n);
        // As one number, the way debuggers show them.
        let text = bytes.map(|b| {
            let hex: String = b.iter().rev().map(|byte| format!("{byte:02x}")).collect();
            let digits = hex.trim_start_matches('0');
            format!("0x{}", if digits.is_empty() { "0" } else { digits })
        });
        item(&format!("xmm{n}"), text, "vector", None)
    });
    general.chain(vectors).collect()
}

fn item<N>(name: &str, value: Option<String>, kind: &str, word: Option<u64>) -> Item<N> {
    Item {
        name: name.to_owned(),
        value: value.unwrap_or_else(|| "not known in this frame".to_owned()),
        type_name: Some(kind.to_owned()),
        node: None,
        indexed: 0,
        named: 0,
        expression: word.map(|_| format!("${name}")),
        memory: None,
        points_to: word.filter(|_| kind == "u64"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    struct Few;

    impl Registers for Few {
        fn get(&self, dwarf: u16) -> Option<u64> {
            (dwarf == 16).then_some(0x401000)
        }

        fn bytes(&self, dwarf: u16) -> Option<Vec<u8>> {
            (dwarf == 18).then(|| vec![1, 2, 0, 0])
        }
    }

    #[test]
    fn names_and_gaps() {
        let all = items::<()>(&Few);
        let value = |name: &str| all.iter().find(|i| i.name == name).unwrap().value.clone();
        assert_eq!(value("rip"), "0x401000");
        assert_eq!(value("rax"), "not known in this frame");
        assert_eq!(value("xmm1"), "0x201");
        assert_eq!(all.len(), 36);
    }
}
