//! Questions that name an address and a layout, and need to know nothing about the program:
//! `u32@0x7ffd1000`, `i16[4]@0x404010`, `str@0x404100`, `bytes[64]@0x404200`, `0x404200:64`.

use crate::Error;
use crate::asked::Asked;
use crate::past::Missing;
use crate::question::{Answer, Number, Question, Truth, Value};
use std::cmp::Ordering;
use std::fmt::Write as _;

/// Most elements of an array, and most bytes of a stretch.
pub const MOST: u64 = 1 << 20;
/// Most bytes of a string.
const LONGEST: usize = 4096;
/// Elements and bytes shown as text.
const SHOWN: usize = 64;

/// How bytes are read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// An unsigned number of so many bytes: 1, 2, 4 or 8.
    Unsigned(u8),
    /// A signed one.
    Signed(u8),
    /// A real one of 4 or 8 bytes.
    Real(u8),
    /// An address.
    Pointer,
    /// Just bytes.
    Bytes,
    /// Bytes up to a zero.
    Text,
}

impl Form {
    fn parse(text: &str) -> Option<Self> {
        Some(match text {
            "u8" => Self::Unsigned(1),
            "u16" => Self::Unsigned(2),
            "u32" => Self::Unsigned(4),
            "u64" => Self::Unsigned(8),
            "i8" => Self::Signed(1),
            "i16" => Self::Signed(2),
            "i32" => Self::Signed(4),
            "i64" => Self::Signed(8),
            "f32" => Self::Real(4),
            "f64" => Self::Real(8),
            "ptr" => Self::Pointer,
            "bytes" => Self::Bytes,
            "str" => Self::Text,
            _ => return None,
        })
    }

    /// Bytes of one.
    pub const fn size(self) -> u64 {
        match self {
            Self::Unsigned(n) | Self::Signed(n) | Self::Real(n) => n as u64,
            Self::Pointer => 8,
            Self::Bytes | Self::Text => 1,
        }
    }

    /// The number that some bytes are.
    pub fn number(self, bytes: &[u8]) -> Option<Number> {
        let mut word = [0; 8];
        word.get_mut(..bytes.len())?.copy_from_slice(bytes);
        let unsigned = u64::from_le_bytes(word);
        Some(match self {
            Self::Unsigned(_) | Self::Pointer => Number::Integer(i128::from(unsigned)),
            Self::Signed(n) => {
                let unused = 64 - 8 * u32::from(n);
                Number::Integer(i128::from((unsigned << unused).cast_signed() >> unused))
            }
            Self::Real(4) => Number::Real(f64::from(f32::from_bits(unsigned as u32))),
            Self::Real(_) => Number::Real(f64::from_bits(unsigned)),
            Self::Bytes | Self::Text => return None,
        })
    }

    /// The bytes of a number, if it can be one of these.
    pub fn encode(self, number: Number) -> Option<Vec<u8>> {
        let size = self.size() as usize;
        let whole = match number {
            Number::Integer(n) => Some(n),
            Number::Real(_) => None,
        };
        let bits = match self {
            Self::Unsigned(_) | Self::Pointer => u64::try_from(whole?).ok()?,
            Self::Signed(_) => i64::try_from(whole?).ok()?.cast_unsigned(),
            Self::Real(4) => u64::from((number.real() as f32).to_bits()),
            Self::Real(_) => number.real().to_bits(),
            Self::Bytes | Self::Text => return None,
        };
        let bytes = bits.to_le_bytes().get(..size)?.to_vec();
        let same = match (self.number(&bytes)?, number) {
            (Number::Integer(a), Number::Integer(b)) => a == b,
            _ => true,
        };
        same.then_some(bytes)
    }
}

/// A question for bytes at an address.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Raw {
    /// Where.
    pub address: u64,
    /// How they are read.
    pub form: Form,
    /// How many; `None` for one that is no array.
    pub count: Option<u64>,
}

impl Raw {
    /// The bytes from an address on.
    pub const fn bytes(address: u64, length: u64) -> Self {
        Self {
            address,
            form: Form::Bytes,
            count: Some(length),
        }
    }

    /// Whether a text is meant to be such a question rather than an expression: it begins with a form
    /// and an `@`, or with an address and a colon.
    pub fn is_meant(text: &str) -> bool {
        if let Some((form, _)) = text.split_once('@') {
            let name = form.split('[').next().unwrap_or_default();
            return Form::parse(name.trim()).is_some();
        }
        text.split_once(':')
            .is_some_and(|(address, rest)| number(address).is_some() && !rest.starts_with(':'))
    }

    /// Bytes that it asks for; `None` for a string, which ends where it ends.
    pub const fn length(&self) -> Option<u64> {
        match (self.form, self.count) {
            (Form::Text, _) => None,
            (form, Some(n)) => Some(form.size() * n),
            (form, None) => Some(form.size()),
        }
    }

    /// What its bytes say.
    pub fn show(&self, bytes: &[u8]) -> Value {
        let (text, number) = self.text(bytes, SHOWN);
        let long = self.form != Form::Text && bytes.len() / self.form.size() as usize > SHOWN;
        Value {
            text,
            whole: long.then(|| self.text(bytes, usize::MAX).0),
            number,
            content: bytes.to_vec(),
        }
    }

    /// Its bytes as text with so many elements, and as a number if they are one.
    fn text(&self, bytes: &[u8], most: usize) -> (String, Option<Number>) {
        let mut text = String::new();
        let mut shown = None;
        match self.form {
            Form::Text => {
                let _ = write!(text, "\"{}\"", bytes.escape_ascii());
            }
            Form::Bytes => {
                for (i, byte) in bytes.iter().take(most).enumerate() {
                    let _ = write!(text, "{}{byte:02x}", if i > 0 { " " } else { "" });
                }
                if bytes.len() > most {
                    let _ = write!(text, " ... ({} bytes)", bytes.len());
                }
            }
            form => {
                let parts = bytes.chunks_exact(form.size() as usize);
                let count = parts.len();
                for (i, part) in parts.take(most).enumerate() {
                    let Some(n) = form.number(part) else { continue };
                    if i > 0 {
                        text.push_str(", ");
                    }
                    let _ = match (form, n) {
                        (Form::Pointer, Number::Integer(n)) => write!(text, "{n:#x}"),
                        (_, n) => write!(text, "{n}"),
                    };
                    shown = Some(n);
                }
                if count > most {
                    let _ = write!(text, ", ... ({count} values)");
                }
                if self.count.is_some() {
                    text = format!("{{{text}}}");
                    shown = None;
                }
            }
        }
        (text, shown)
    }

    fn read(&self, asked: &Asked<'_, '_>) -> Result<Vec<u8>, (u64, Missing)> {
        if let Some(length) = self.length() {
            let mut bytes = vec![0; length as usize];
            return asked.bytes(self.address, &mut bytes).map(|()| bytes);
        }
        let mut bytes = Vec::new();
        while bytes.len() < LONGEST {
            let at = self
                .address
                .checked_add(bytes.len() as u64)
                .ok_or((u64::MAX, Missing::Unmapped))?;
            let mut byte = [0];
            asked.bytes(at, &mut byte)?;
            if byte == [0] {
                break;
            }
            bytes.push(byte[0]);
        }
        Ok(bytes)
    }
}

fn missing((address, why): (u64, Missing)) -> String {
    format!("{address:#x}: {why}")
}

impl Question for Raw {
    type Answer = Answer;

    fn ask(&self, asked: &Asked<'_, '_>) -> Answer {
        match self.read(asked) {
            Ok(bytes) => Answer::Value(self.show(&bytes)),
            Err(why) => Answer::Missing(missing(why)),
        }
    }
}

fn wrong(text: &str, why: impl Into<String>) -> Error {
    Error::Question {
        text: text.chars().take(80).collect(),
        why: why.into(),
    }
}

/// `0x1f` or `31`.
pub fn number(text: &str) -> Option<u64> {
    let text = text.trim();
    match text.strip_prefix("0x").or_else(|| text.strip_prefix("0X")) {
        Some(digits) => u64::from_str_radix(digits, 16).ok(),
        None if text.bytes().all(|b| b.is_ascii_digit()) => text.parse().ok(),
        None => None,
    }
}

/// `ADDR:LEN`.
///
/// # Errors
/// A sentence that says what is wrong.
pub fn stretch(text: &str) -> Result<(u64, u64), String> {
    let parts = text.split_once(':');
    let (address, length) = parts
        .and_then(|(a, n)| Some((number(a)?, number(n)?)))
        .ok_or("write an address and a length in bytes: 0x7ffd1000:8")?;
    if length == 0 || length > MOST {
        return Err(format!("a length is from 1 to {MOST} bytes"));
    }
    match address.checked_add(length - 1) {
        Some(_) => Ok((address, length)),
        None => Err("it goes beyond the end of the address space".to_owned()),
    }
}

impl std::str::FromStr for Raw {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const HELP: &str = "write u32@ADDRESS (u8 to u64, i8 to i64, f32, f64, ptr, str), \
                            i16[4]@ADDRESS for several, or ADDRESS:LENGTH for bytes";
        let Some((form, address)) = text.split_once('@') else {
            let (address, length) = stretch(text).map_err(|why| wrong(text, why))?;
            return Ok(Self::bytes(address, length));
        };
        let (name, count) = match form.trim().split_once('[') {
            None => (form.trim(), None),
            Some((name, rest)) => {
                let count = rest.strip_suffix(']').and_then(number);
                (name, Some(count.ok_or_else(|| wrong(text, HELP))?))
            }
        };
        let form = Form::parse(name).ok_or_else(|| wrong(text, HELP))?;
        let address = number(address).ok_or_else(|| wrong(text, HELP))?;
        let length = match form {
            Form::Text if count.is_some() => return Err(wrong(text, HELP)),
            _ => form.size().checked_mul(count.unwrap_or(1)),
        };
        match length.filter(|n| (1..=MOST).contains(n)) {
            None => Err(wrong(text, format!("it has from 1 to {MOST} bytes"))),
            Some(n) if address.checked_add(n - 1).is_none() => {
                Err(wrong(text, "it goes beyond the end of the address space"))
            }
            Some(_) => Ok(Self {
                address,
                form,
                count,
            }),
        }
    }
}

/// How a value is compared.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Relation {
    Equal,
    NotEqual,
    Less,
    NotGreater,
    Greater,
    NotLess,
}

/// What it is compared with.
#[derive(Clone, Debug, PartialEq)]
enum Constant {
    Number(Number),
    Text(Vec<u8>),
}

/// A comparison of bytes at an address with a constant: `u32@0x404010 > 1000`,
/// `str@0x404100 == "idle"`; without a comparison, whether any byte is not zero.
#[derive(Clone, Debug, PartialEq)]
pub struct Comparison {
    raw: Raw,
    with: Option<(Relation, Constant)>,
}

impl std::str::FromStr for Comparison {
    type Err = Error;

    fn from_str(text: &str) -> Result<Self, Error> {
        const SIGNS: [(&str, Relation); 6] = [
            ("==", Relation::Equal),
            ("!=", Relation::NotEqual),
            ("<=", Relation::NotGreater),
            (">=", Relation::NotLess),
            ("<", Relation::Less),
            (">", Relation::Greater),
        ];
        let Some(at) = text.find(['=', '!', '<', '>']) else {
            let raw = text.trim().parse()?;
            return Ok(Self { raw, with: None });
        };
        let (left, right) = text.split_at(at);
        let raw: Raw = left.trim().parse()?;
        let sign = SIGNS.iter().find(|(sign, _)| right.starts_with(sign));
        let (sign, relation) =
            sign.ok_or_else(|| wrong(text, "compare with ==, !=, <, <=, > or >="))?;
        let right = right.get(sign.len()..).unwrap_or_default().trim();
        let ordered = !matches!(relation, Relation::Equal | Relation::NotEqual);
        let constant = match raw.form {
            Form::Text | Form::Bytes if ordered => {
                return Err(wrong(text, "these can only be compared with == and !="));
            }
            Form::Text => {
                let inner = right.strip_prefix('"').and_then(|r| r.strip_suffix('"'));
                let inner = inner.ok_or_else(|| wrong(text, "write the text in \"quotes\""))?;
                Constant::Text(inner.as_bytes().to_vec())
            }
            Form::Bytes => Constant::Text(
                hexadecimal(right).ok_or_else(|| wrong(text, "write the bytes as de ad be ef"))?,
            ),
            _ if raw.count.is_some() => {
                return Err(wrong(
                    text,
                    "an array cannot be compared; compare its bytes",
                ));
            }
            _ => Constant::Number(
                constant(right).ok_or_else(|| wrong(text, "write a number to compare with"))?,
            ),
        };
        Ok(Self {
            raw,
            with: Some((*relation, constant)),
        })
    }
}

/// A whole or real number, perhaps negative.
pub fn constant(text: &str) -> Option<Number> {
    let text = text.trim();
    let (negative, digits) = match text.strip_prefix('-') {
        Some(rest) => (true, rest),
        None => (false, text),
    };
    if let Some(n) = number(digits) {
        let n = i128::from(n);
        return Some(Number::Integer(if negative { -n } else { n }));
    }
    let plain = digits
        .bytes()
        .all(|b| b.is_ascii_digit() || b".eE+-".contains(&b));
    let real = text
        .parse::<f64>()
        .ok()
        .filter(|_| plain && !digits.is_empty())?;
    Some(Number::Real(real))
}

/// Bytes written as pairs of hexadecimal digits, with or without spaces between.
pub fn hexadecimal(text: &str) -> Option<Vec<u8>> {
    let text = text.strip_prefix("0x").unwrap_or(text);
    let digits: Vec<u8> = text
        .bytes()
        .filter(|b| !b.is_ascii_whitespace() && *b != b'_')
        .collect();
    if digits.is_empty() || !digits.len().is_multiple_of(2) {
        return None;
    }
    digits
        .chunks_exact(2)
        .map(|pair| {
            let digit = |b: u8| char::from(b).to_digit(16);
            Some((digit(pair[0])? * 16 + digit(pair[1])?) as u8)
        })
        .collect()
}

impl Question for Comparison {
    type Answer = Truth;

    fn ask(&self, asked: &Asked<'_, '_>) -> Truth {
        let bytes = match self.raw.read(asked) {
            Ok(bytes) => bytes,
            Err(why) => return Truth::Unknown(missing(why)),
        };
        let holds = match &self.with {
            None => bytes.iter().any(|b| *b != 0),
            Some((relation, Constant::Text(text))) => {
                (bytes == *text) == (*relation == Relation::Equal)
            }
            Some((relation, Constant::Number(n))) => {
                let order = self.raw.form.number(&bytes).and_then(|v| v.compare(*n));
                match relation {
                    Relation::Equal => order == Some(Ordering::Equal),
                    Relation::NotEqual => order != Some(Ordering::Equal),
                    Relation::Less => order == Some(Ordering::Less),
                    Relation::NotGreater => order.is_some_and(Ordering::is_le),
                    Relation::Greater => order == Some(Ordering::Greater),
                    Relation::NotLess => order.is_some_and(Ordering::is_ge),
                }
            }
        };
        if holds { Truth::Holds } else { Truth::Not }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_people_write() {
        let raw = |address, form, count| {
            Some(Raw {
                address,
                form,
                count,
            })
        };
        for (text, want) in [
            ("u32@0x1000", raw(0x1000, Form::Unsigned(4), None)),
            ("i16[4]@4096", raw(4096, Form::Signed(2), Some(4))),
            ("f64 @ 0x10", raw(0x10, Form::Real(8), None)),
            ("str@0x10", raw(0x10, Form::Text, None)),
            ("ptr@0x10", raw(0x10, Form::Pointer, None)),
            ("bytes[9]@0x10", raw(0x10, Form::Bytes, Some(9))),
            ("0x10:8", raw(0x10, Form::Bytes, Some(8))),
            ("u32@x", None),
            ("u33@0x10", None),
            ("u32[@0x10", None),
            ("u32[0]@0x10", None),
            ("u8[1048577]@0x10", None),
            ("u64@0xfffffffffffffff9", None),
            ("0x10:0", None),
            ("0xffffffffffffffff:2", None),
            ("str[3]@0x10", None),
            ("", None),
            (":", None),
        ] {
            assert_eq!(text.parse::<Raw>().ok(), want, "{text}");
        }
        for (text, want) in [
            ("u32@0x1000", true),
            ("i16[4]@1", true),
            ("0x10:8", true),
            ("std::x", false),
            ("server.x", false),
            ("*(int*)0x10", false),
            ("p@4", false),
        ] {
            assert_eq!(Raw::is_meant(text), want, "{text}");
        }
    }

    #[test]
    fn comparisons() {
        for (text, well) in [
            ("u32@0x10 > 1000", true),
            ("i8@0x10 == -1", true),
            ("f64@0x10<=-1.5e3", true),
            ("str@0x10 == \"idle\"", true),
            ("0x10:2 != beef", true),
            ("u32@0x10", true),
            ("u32@0x10 =! 3", false),
            ("u32@0x10 > x", false),
            ("str@0x10 > \"idle\"", false),
            ("u8[4]@0x10 == 3", false),
            ("u32@0x10 >", false),
            ("u32@0x10 == --1", false),
        ] {
            assert_eq!(text.parse::<Comparison>().is_ok(), well, "{text}");
        }
    }

    #[test]
    fn numbers_and_their_bytes() {
        assert_eq!(
            Form::Signed(2).number(&[0xfe, 0xff]),
            Some(Number::Integer(-2))
        );
        assert_eq!(
            Form::Signed(8).number(&[0xff; 8]),
            Some(Number::Integer(-1))
        );
        assert_eq!(
            Form::Unsigned(1).encode(Number::Integer(255)),
            Some(vec![255])
        );
        assert_eq!(Form::Unsigned(1).encode(Number::Integer(256)), None);
        assert_eq!(Form::Signed(1).encode(Number::Integer(-129)), None);
        assert_eq!(
            Form::Signed(4).encode(Number::Integer(-2)),
            Some(vec![254, 255, 255, 255])
        );
        assert_eq!(Form::Unsigned(4).encode(Number::Integer(-2)), None);
        assert_eq!(
            Form::Real(8).encode(Number::Real(1.5)),
            Some(1.5f64.to_le_bytes().to_vec())
        );
        assert_eq!(
            hexadecimal("de ad_BE ef"),
            Some(vec![0xde, 0xad, 0xbe, 0xef])
        );
        assert_eq!(hexadecimal("abc"), None);
        assert_eq!(hexadecimal("zz"), None);
    }

    #[test]
    fn values_are_shown() {
        let shown = |text: &str, bytes: &[u8]| text.parse::<Raw>().unwrap().show(bytes).text;
        assert_eq!(shown("u16@0x10", &[1, 2]), "513");
        assert_eq!(shown("u16[2]@0x10", &[1, 0, 2, 0]), "{1, 2}");
        assert_eq!(shown("ptr@0x10", &[0, 16, 0, 0, 0, 0, 0, 0]), "0x1000");
        assert_eq!(shown("0x10:3", &[1, 2, 255]), "01 02 ff");
        assert_eq!(shown("str@0x10", b"a\nb"), "\"a\\nb\"");
    }
}
