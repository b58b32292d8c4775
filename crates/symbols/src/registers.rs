//! `$rip` and its kin.

use crate::dies::Language;
use crate::types::{Encoding, Kind, Type};
use crate::value::{Scope, Value, integer_type};

/// 64-bit registers in DWARF's order (System V ABI supplement, figure 3.36).
const WIDE: [&str; 17] = [
    "rax", "rdx", "rcx", "rbx", "rsi", "rdi", "rbp", "rsp", "r8", "r9", "r10", "r11", "r12", "r13",
    "r14", "r15", "rip",
];

/// Parts of them: (name, register, first byte, bytes).
fn part(name: &str) -> Option<(u16, usize, usize)> {
    const OLD: [(&str, u16); 8] = [
        ("ax", 0),
        ("dx", 1),
        ("cx", 2),
        ("bx", 3),
        ("si", 4),
        ("di", 5),
        ("bp", 6),
        ("sp", 7),
    ];
    for (word, number) in OLD {
        if name.strip_prefix('e') == Some(word) {
            return Some((number, 0, 4));
        }
        // `$sp` is the whole stack pointer.
        if name == word && word != "sp" {
            return Some((number, 0, 2));
        }
        if number < 4 {
            let letter = &word[..1];
            if name.strip_suffix('l') == Some(letter) {
                return Some((number, 0, 1));
            }
            if name.strip_suffix('h') == Some(letter) {
                return Some((number, 1, 1));
            }
        } else if name.strip_suffix('l') == Some(word) {
            return Some((number, 0, 1));
        }
    }
    for (suffix, bytes) in [("d", 4), ("w", 2), ("l", 1)] {
        if let Some(body) = name.strip_suffix(suffix)
            && let Some(number) = WIDE
                .iter()
                .position(|w| *w == body && body.starts_with('r'))
            && (8..16).contains(&number)
        {
            return Some((u16::try_from(number).ok()?, 0, bytes));
        }
    }
    None
}

/// The value of a register by its name, without the dollar.
///
/// # Errors
/// If there is none of this name, or its content is not known in this frame.
pub(crate) fn register(name: &str, scope: &Scope<'_>, language: Language) -> Result<Value, String> {
    let unknown = || format!("`${name}` is not known in this frame");
    let whole = match name {
        "pc" => Some(16),
        "sp" => Some(7),
        "fp" => Some(6),
        "fs_base" => Some(58),
        "gs_base" => Some(59),
        _ => WIDE
            .iter()
            .position(|w| *w == name)
            .and_then(|n| u16::try_from(n).ok()),
    };
    if let Some(number) = whole {
        let value = scope.registers.get(number).ok_or_else(unknown)?;
        let ty = match number {
            16 => Type::function(Type::void(language), Vec::new()).pointer(),
            6 | 7 => Type::void(language).pointer(),
            _ => integer_type(language, 8, true),
        };
        return Ok(Value::of_bytes(ty, value.to_le_bytes().to_vec()));
    }
    if matches!(name, "eflags" | "rflags") {
        let value = scope.registers.get(49).ok_or_else(unknown)?;
        let ty = integer_type(language, 4, true);
        return Ok(Value::of_bytes(ty, value.to_le_bytes()[..4].to_vec()));
    }
    if let Some((number, from, bytes)) = part(name) {
        let value = scope.registers.get(number).ok_or_else(unknown)?;
        let ty = integer_type(language, bytes as u64, true);
        let raw = value.to_le_bytes();
        return Ok(Value::of_bytes(ty, raw[from..from + bytes].to_vec()));
    }
    let vector = name
        .strip_prefix("xmm")
        .and_then(|n| n.parse::<u16>().ok())
        .filter(|n| *n < 16);
    if let Some(number) = vector {
        let bytes = scope.registers.bytes(17 + number).ok_or_else(unknown)?;
        let element = Type::number(language, "unsigned char", Encoding::Unsigned, 1);
        let count = bytes.len() as u64;
        return Ok(Value::of_bytes(element.array(Some(count)), bytes));
    }
    let st = name
        .strip_prefix("st")
        .and_then(|n| n.parse::<u16>().ok())
        .filter(|n| *n < 8);
    if let Some(number) = st {
        let mut bytes = scope.registers.bytes(33 + number).ok_or_else(unknown)?;
        bytes.resize(16, 0);
        let ty = Type::made(
            language,
            Some("long double"),
            Some(16),
            Kind::Number(Encoding::Float),
        );
        return Ok(Value::of_bytes(ty, bytes));
    }
    Err(format!("there is no register `${name}`"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn parts_of_registers() {
        assert_eq!(part("eax"), Some((0, 0, 4)));
        assert_eq!(part("ax"), Some((0, 0, 2)));
        assert_eq!(part("ah"), Some((0, 1, 1)));
        assert_eq!(part("bl"), Some((3, 0, 1)));
        assert_eq!(part("sil"), Some((4, 0, 1)));
        assert_eq!(part("r10d"), Some((10, 0, 4)));
        assert_eq!(part("r8w"), Some((8, 0, 2)));
        assert_eq!(part("esp"), Some((7, 0, 4)));
        assert_eq!(part("rip"), None);
        assert_eq!(part("x"), None);
    }
}
