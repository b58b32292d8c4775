//! Characters and texts in quotes, as GDB writes them.

use super::Style;

/// A character between `quote`s: printable ones as they are, others as C's escapes.
pub(crate) fn character(c: u32, quote: char) -> String {
    format!("{quote}{}{quote}", escaped(c, quote, false))
}

fn escaped(c: u32, quote: char, digit_follows: bool) -> String {
    match c {
        7 => "\\a".to_owned(),
        8 => "\\b".to_owned(),
        9 => "\\t".to_owned(),
        10 => "\\n".to_owned(),
        11 => "\\v".to_owned(),
        12 => "\\f".to_owned(),
        13 => "\\r".to_owned(),
        27 => "\\033".to_owned(),
        0x5c => "\\\\".to_owned(),
        c if c == u32::from(quote) => format!("\\{quote}"),
        0x20..0x7f => char::from_u32(c).map_or_else(String::new, String::from),
        c if c >= 0xa0 && char::from_u32(c).is_some() => {
            char::from_u32(c).map_or_else(String::new, String::from)
        }
        _ => {
            // Octal always has three digits, so what follows does not matter.
            let _ = digit_follows;
            format!("\\{c:03o}")
        }
    }
}

/// The characters of a text of one, two or four bytes each; what is no character of UTF-8 comes as
/// its bytes.
fn characters(bytes: &[u8], unit: u8, utf8: bool) -> Vec<(u32, bool)> {
    match unit {
        2 => {
            let units = bytes
                .chunks_exact(2)
                .map(|c| u16::from_le_bytes([c[0], c[1]]));
            char::decode_utf16(units)
                .map(|c| match c {
                    Ok(c) => (u32::from(c), false),
                    Err(e) => (u32::from(e.unpaired_surrogate()), false),
                })
                .collect()
        }
        4 => bytes
            .chunks_exact(4)
            .map(|c| (u32::from_le_bytes([c[0], c[1], c[2], c[3]]), false))
            .collect(),
        _ if utf8 => {
            let mut found = Vec::new();
            for chunk in bytes.utf8_chunks() {
                found.extend(chunk.valid().chars().map(|c| (u32::from(c), false)));
                found.extend(chunk.invalid().iter().map(|b| (u32::from(*b), true)));
            }
            found
        }
        _ => bytes.iter().map(|b| (u32::from(*b), true)).collect(),
    }
}

/// A text in double quotes; long runs of one character are taken out and counted:
/// `"abc", '\000' <repeats 12 times>`.
pub(crate) fn quoted(bytes: &[u8], unit: u8, utf8: bool, more: bool, style: &Style) -> String {
    let prefix = match unit {
        2 => "u",
        4 => "U",
        _ => "",
    };
    prefixed(prefix, bytes, unit, utf8, more, style)
}

/// As [`quoted`], with what stands in front of the quotes.
pub(crate) fn prefixed(
    prefix: &str,
    bytes: &[u8],
    unit: u8,
    utf8: bool,
    more: bool,
    style: &Style,
) -> String {
    let all = characters(bytes, unit, utf8);
    if all.is_empty() {
        return format!("{prefix}\"\"{}", if more { "..." } else { "" });
    }
    let mut out = String::new();
    let mut open = false;
    let mut at = 0;
    while at < all.len() {
        let same = all[at..].iter().take_while(|c| **c == all[at]).count();
        let (c, raw) = all[at];
        let show = |quote: char| {
            if raw && c >= 0x7f {
                format!("\\{c:03o}")
            } else {
                escaped(c, quote, false)
            }
        };
        if same > style.repeats {
            if open {
                out.push_str("\", ");
            } else if !out.is_empty() {
                out.push_str(", ");
            }
            open = false;
            out.push_str(&format!("{prefix}'{}' <repeats {same} times>", show('\'')));
            at += same;
        } else {
            if !open {
                if !out.is_empty() {
                    out.push_str(", ");
                }
                out.push_str(prefix);
                out.push('"');
                open = true;
            }
            out.push_str(&show('"'));
            at += 1;
        }
    }
    if open {
        out.push('"');
    }
    if more {
        out.push_str("...");
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn texts() {
        let q = |b: &[u8]| quoted(b, 1, true, false, &Style::default());
        assert_eq!(q(b"abc"), "\"abc\"");
        assert_eq!(q(b""), "\"\"");
        assert_eq!(q(b"a\"b\n\x01"), "\"a\\\"b\\n\\001\"");
        assert_eq!(
            q(b"ab\0\0\0\0\0\0\0\0\0\0\0\0"),
            "\"ab\", '\\000' <repeats 12 times>"
        );
        assert_eq!(q("grün".as_bytes()), "\"grün\"");
        assert_eq!(q(b"\xff"), "\"\\377\"");
        assert_eq!(
            quoted(b"a\0", 2, true, true, &Style::default()),
            "u\"a\"..."
        );
        assert_eq!(character(u32::from('a'), '\''), "'a'");
        assert_eq!(character(39, '\''), "'\\''");
    }
}
