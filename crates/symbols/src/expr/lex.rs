//! From text to words.

use super::SyntaxError;
use super::ast::{Integer, Suffix};
use std::ops::Range;

/// A word and where it stands.
#[derive(Clone, Debug, PartialEq)]
pub(super) struct Token {
    pub kind: Tok,
    pub span: Range<usize>,
}

/// What a word is.
#[derive(Clone, Debug, PartialEq)]
pub(super) enum Tok {
    Integer(Integer),
    Float(f64, bool),
    Char(u32),
    Text(Vec<u8>),
    /// More than a character in single quotes: a file or a name that is none otherwise.
    Quoted(String),
    Name(String),
    Register(String),
    Sign(&'static str),
    End,
}

/// Longest first where one is the beginning of another.
const SIGNS: &[&str] = &[
    "..=", "<<=", ">>=", "->", "::", "..", "<<", ">>", "<=", ">=", "==", "!=", "&&", "||", "+=",
    "-=", "*=", "/=", "(", ")", "[", "]", "{", "}", "+", "-", "*", "/", "%", "&", "|", "^", "~",
    "!", "<", ">", "=", "?", ":", ".", ",", ";", "@", "#",
];

fn error(at: Range<usize>, message: impl Into<String>) -> SyntaxError {
    SyntaxError {
        at,
        message: message.into(),
    }
}

/// Splits a text; the last word is [`Tok::End`].
pub(super) fn words(text: &str) -> Result<Vec<Token>, SyntaxError> {
    let mut words: Vec<Token> = Vec::new();
    let bytes = text.as_bytes();
    let mut at = 0;
    while at < bytes.len() {
        let c = bytes[at];
        if c.is_ascii_whitespace() {
            at += 1;
            continue;
        }
        let start = at;
        let behind_value = matches!(
            words.last().map(|w| &w.kind),
            Some(Tok::Name(_) | Tok::Sign(")" | "]") | Tok::Register(_) | Tok::Quoted(_))
        );
        let behind_dot = matches!(words.last().map(|w| &w.kind), Some(Tok::Sign("." | "->")));
        let fraction = c == b'.'
            && !behind_value
            && bytes.get(at + 1).is_some_and(u8::is_ascii_digit)
            // `x.0.1`: the second dot follows a number.
            && !matches!(words.last().map(|w| (&w.kind, w.span.end)), Some((Tok::Integer(_), end)) if end == at);
        let kind = if c.is_ascii_digit() && behind_dot {
            while bytes.get(at).is_some_and(u8::is_ascii_digit) {
                at += 1;
            }
            Tok::Name(text[start..at].to_owned())
        } else if c.is_ascii_digit() || fraction {
            number(text, &mut at)?
        } else if is_name(c) {
            at = end_of_name(bytes, at);
            let name = &text[start..at];
            match (bytes.get(at), name) {
                (Some(b'"'), "b") => {
                    at += 1;
                    Tok::Text(quoted_text(text, &mut at, start)?)
                }
                (Some(b'\''), "b" | "L" | "u" | "U") if closes(bytes, at) => {
                    at += 1;
                    single(text, &mut at, start)?
                }
                (Some(b'#'), "r") if bytes.get(at + 1).copied().is_some_and(is_name) => {
                    let from = at + 1;
                    at = end_of_name(bytes, from);
                    Tok::Name(text[from..at].to_owned())
                }
                _ => Tok::Name(name.to_owned()),
            }
        } else if c == b'$' {
            at = end_of_name(bytes, at + 1);
            if at == start + 1 {
                return Err(error(start..at, "a register's name is missing: $rip"));
            }
            Tok::Register(text[start + 1..at].to_owned())
        } else if c == b'"' {
            at += 1;
            Tok::Text(quoted_text(text, &mut at, start)?)
        } else if c == b'\'' {
            at += 1;
            single(text, &mut at, start)?
        } else if let Some(sign) = SIGNS.iter().find(|s| text[at..].starts_with(**s)) {
            at += sign.len();
            Tok::Sign(sign)
        } else {
            let end = text[at..]
                .chars()
                .next()
                .map_or(at + 1, |c| at + c.len_utf8());
            return Err(error(at..end, "this means nothing in an expression"));
        };
        words.push(Token {
            kind,
            span: start..at,
        });
    }
    words.push(Token {
        kind: Tok::End,
        span: text.len()..text.len(),
    });
    Ok(words)
}

fn is_name(c: u8) -> bool {
    c.is_ascii_alphabetic() || c == b'_' || c >= 0x80
}

fn end_of_name(bytes: &[u8], mut at: usize) -> usize {
    while bytes
        .get(at)
        .is_some_and(|c| is_name(*c) || c.is_ascii_digit() || *c == b'$')
    {
        at += 1;
    }
    at
}

/// Is there a closing quote a character behind this one?
fn closes(bytes: &[u8], at: usize) -> bool {
    bytes[at + 1..].iter().take(12).any(|c| *c == b'\'')
}

fn number(text: &str, at: &mut usize) -> Result<Tok, SyntaxError> {
    let bytes = text.as_bytes();
    let start = *at;
    let (base, prefix) = match (bytes[start], bytes.get(start + 1)) {
        (b'0', Some(b'x' | b'X')) => (16, 2),
        (b'0', Some(b'b' | b'B')) => (2, 2),
        (b'0', Some(b'o')) => (8, 2),
        (b'0', Some(c)) if c.is_ascii_digit() => (8, 1),
        _ => (10, 0),
    };
    *at += prefix;
    let digits = *at;
    while bytes.get(*at).is_some_and(|c| {
        *c == b'_'
            || if base == 16 {
                c.is_ascii_hexdigit()
            } else {
                c.is_ascii_digit()
            }
    }) {
        *at += 1;
    }
    let mut float = false;
    if base == 10 || (base == 8 && prefix == 1) {
        // `0..n` is a range, `1.max` would be a call.
        let behind = bytes.get(*at + 1);
        if bytes.get(*at) == Some(&b'.')
            && behind.is_none_or(|c| *c != b'.' && !is_name(*c) || matches!(c, b'e' | b'f'))
        {
            float = true;
            *at += 1;
            while bytes.get(*at).is_some_and(u8::is_ascii_digit) {
                *at += 1;
            }
        }
        if matches!(bytes.get(*at), Some(b'e' | b'E')) {
            let mut end = *at + 1;
            if matches!(bytes.get(end), Some(b'+' | b'-')) {
                end += 1;
            }
            if bytes.get(end).is_some_and(u8::is_ascii_digit) {
                float = true;
                while bytes.get(end).is_some_and(u8::is_ascii_digit) {
                    end += 1;
                }
                *at = end;
            }
        }
    }
    let body = *at;
    *at = end_of_name(bytes, body);
    let suffix = text[body..*at].to_ascii_lowercase();
    let plain: String = text[digits..body].chars().filter(|c| *c != '_').collect();
    if float || matches!(suffix.as_str(), "f32" | "f64") || (base == 10 && suffix == "f") {
        let plain: String = text[start..body].chars().filter(|c| *c != '_').collect();
        let single = match suffix.as_str() {
            "" | "l" | "f64" => false,
            "f" | "f32" => true,
            _ => return Err(error(body..*at, "no such type of number")),
        };
        let value: f64 = plain
            .parse()
            .map_err(|_| error(start..*at, "not a number"))?;
        return Ok(Tok::Float(value, single));
    }
    let suffix = match suffix.as_str() {
        "" => Suffix::None,
        "u" => c_suffix(true, false),
        "l" | "ll" => c_suffix(false, true),
        "ul" | "ull" | "lu" | "llu" => c_suffix(true, true),
        "u8" => rust_suffix(false, 1),
        "u16" => rust_suffix(false, 2),
        "u32" => rust_suffix(false, 4),
        "u64" | "usize" => rust_suffix(false, 8),
        "u128" => rust_suffix(false, 16),
        "i8" => rust_suffix(true, 1),
        "i16" => rust_suffix(true, 2),
        "i32" => rust_suffix(true, 4),
        "i64" | "isize" => rust_suffix(true, 8),
        "i128" => rust_suffix(true, 16),
        _ => return Err(error(body..*at, "no such type of number")),
    };
    if plain.is_empty() {
        return Err(error(start..*at, "digits are missing"));
    }
    let value = u128::from_str_radix(&plain, base).map_err(|e| {
        let why = if *e.kind() == std::num::IntErrorKind::PosOverflow {
            "this number does not fit into 128 bits".to_owned()
        } else {
            format!("not a number of base {base}")
        };
        error(start..*at, why)
    })?;
    Ok(Tok::Integer(Integer {
        value,
        decimal: base == 10,
        suffix,
    }))
}

fn c_suffix(unsigned: bool, long: bool) -> Suffix {
    Suffix::C { unsigned, long }
}

fn rust_suffix(signed: bool, bytes: u8) -> Suffix {
    Suffix::Rust { signed, bytes }
}

/// The rest of a text in double quotes.
fn quoted_text(text: &str, at: &mut usize, start: usize) -> Result<Vec<u8>, SyntaxError> {
    let mut out = Vec::new();
    let bytes = text.as_bytes();
    loop {
        match bytes.get(*at) {
            None => return Err(error(start..text.len(), "the closing \" is missing")),
            Some(b'"') => {
                *at += 1;
                return Ok(out);
            }
            Some(b'\\') => match escape(text, at)? {
                Escape::Byte(b) => out.push(b),
                Escape::Char(c) => {
                    let c =
                        char::from_u32(c).ok_or_else(|| error(start..*at, "no such character"))?;
                    out.extend_from_slice(c.encode_utf8(&mut [0; 4]).as_bytes());
                }
            },
            Some(b) => {
                out.push(*b);
                *at += 1;
            }
        }
    }
}

/// The rest of what stands in single quotes: a character or a name.
fn single(text: &str, at: &mut usize, start: usize) -> Result<Tok, SyntaxError> {
    let open = *at;
    let bytes = text.as_bytes();
    if bytes.get(open) == Some(&b'\\') {
        let c = match escape(text, at)? {
            Escape::Byte(b) => u32::from(b),
            Escape::Char(c) => c,
        };
        if bytes.get(*at) != Some(&b'\'') {
            return Err(error(start..*at, "the closing ' is missing"));
        }
        *at += 1;
        return Ok(Tok::Char(c));
    }
    let Some(length) = text[open..].find('\'') else {
        return Err(error(start..text.len(), "the closing ' is missing"));
    };
    *at = open + length + 1;
    let inside = &text[open..open + length];
    let mut chars = inside.chars();
    match (chars.next(), chars.next()) {
        (None, _) => Err(error(start..*at, "nothing between the quotes")),
        // A file may have a name of one letter.
        (Some(c), None) if !text[*at..].trim_start().starts_with("::") => {
            Ok(Tok::Char(u32::from(c)))
        }
        _ => Ok(Tok::Quoted(inside.to_owned())),
    }
}

enum Escape {
    Byte(u8),
    Char(u32),
}

/// What stands behind a backslash.
fn escape(text: &str, at: &mut usize) -> Result<Escape, SyntaxError> {
    let bytes = text.as_bytes();
    let start = *at;
    *at += 1;
    let digits = |at: &mut usize, most: usize, base: u32| -> Option<u32> {
        let from = *at;
        while *at < from + most
            && bytes
                .get(*at)
                .is_some_and(|c| char::from(*c).is_digit(base))
        {
            *at += 1;
        }
        u32::from_str_radix(&text[from..*at], base).ok()
    };
    let plain = match bytes.get(*at) {
        Some(b'n') => b'\n',
        Some(b't') => b'\t',
        Some(b'r') => b'\r',
        Some(b'a') => 7,
        Some(b'b') => 8,
        Some(b'f') => 12,
        Some(b'v') => 11,
        Some(b'e') => 27,
        Some(b'\\') => b'\\',
        Some(b'\'') => b'\'',
        Some(b'"') => b'"',
        Some(b'0'..=b'7') => {
            let value = digits(at, 3, 8).unwrap_or(0);
            return u8::try_from(value)
                .map(Escape::Byte)
                .map_err(|_| error(start..*at, "more than a byte"));
        }
        Some(b'x') => {
            *at += 1;
            let value = digits(at, 2, 16);
            return value
                .and_then(|v| u8::try_from(v).ok())
                .map(Escape::Byte)
                .ok_or_else(|| error(start..*at, "digits are missing"));
        }
        Some(b'u') => {
            *at += 1;
            let braces = bytes.get(*at) == Some(&b'{');
            *at += usize::from(braces);
            let value = digits(at, if braces { 6 } else { 4 }, 16);
            if braces && bytes.get(*at) != Some(&b'}') {
                return Err(error(start..*at, "the closing } is missing"));
            }
            *at += usize::from(braces);
            return value
                .map(Escape::Char)
                .ok_or_else(|| error(start..*at, "digits are missing"));
        }
        _ => {
            return Err(error(
                start..(start + 1).min(text.len()),
                "no such escape: use \\n, \\t, \\\\, \\x41, \\101",
            ));
        }
    };
    *at += 1;
    Ok(Escape::Byte(plain))
}
