//! Numbers and what operators do to them.
//!
//! The rules are C's with the widths of x86-64 (C11, 6.3.1.8): what is smaller than `int` becomes
//! `int`, then the wider type wins, and of two equally wide ones the unsigned. Results wrap. That is
//! what GDB does for C and C++, and for Rust it differs only where Rust would not compile.

use super::ast::Binary;
use crate::dies::Language;
use crate::types::{Encoding, Kind, Type};
use crate::value::{Fault, Scope, Value, integer_type};

/// A number while it is computed with.
#[derive(Clone, Copy, Debug, PartialEq)]
pub(super) enum Number {
    Integer(Integer),
    Float { value: f64, single: bool },
}

/// A whole number of a width.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Integer {
    /// Wrapped to the width, sign or zero extended.
    pub value: i128,
    /// 1 to 16.
    pub bytes: u64,
    pub signed: bool,
}

impl Integer {
    pub fn new(value: i128, bytes: u64, signed: bool) -> Self {
        let bytes = bytes.clamp(1, 16);
        let value = if bytes == 16 {
            value
        } else {
            let shift = 128 - 8 * u32::try_from(bytes).unwrap_or(16);
            if signed {
                value << shift >> shift
            } else {
                (value.cast_unsigned() << shift >> shift).cast_signed()
            }
        };
        Self {
            value,
            bytes,
            signed,
        }
    }

    /// C's integer promotion.
    fn promoted(self) -> Self {
        if self.bytes < 4 {
            Self::new(self.value, 4, true)
        } else {
            self
        }
    }

    fn bits(self) -> u32 {
        u32::try_from(self.bytes * 8).unwrap_or(128)
    }

    /// The type both become.
    fn common(a: Self, b: Self) -> (u64, bool) {
        let (a, b) = (a.promoted(), b.promoted());
        let bytes = a.bytes.max(b.bytes);
        let unsigned = (!a.signed && a.bytes == bytes) || (!b.signed && b.bytes == bytes);
        (bytes, !unsigned)
    }
}

/// The number that a value is; `None` if it is none.
pub(super) fn number(value: &Value, scope: &Scope<'_>) -> Result<Option<Number>, Fault> {
    let mut value = value.settled(scope)?;
    if let Some(inner) = crate::layer::atomic(&value, scope)? {
        value = inner;
    }
    let bare = value.ty().bare();
    let (signed, bool) = match bare.kind() {
        Kind::Number(Encoding::Float) => {
            let single = bare.size().is_some_and(|s| s <= 4);
            let value = value.float(scope)?;
            return Ok(Some(Number::Float { value, single }));
        }
        Kind::Number(e) if e.integral() => (e.signed(), *e == Encoding::Bool),
        Kind::Enumeration(e) => (e.signed, false),
        _ => return Ok(None),
    };
    let whole = value.integer(scope)?;
    let bytes = if bool { 1 } else { bare.size().unwrap_or(4) };
    // A bitfield that fits into an int is an int: C11, 6.3.1.1.
    let narrow = value.bits().is_some_and(|(_, n)| n < 32);
    Ok(Some(Number::Integer(if narrow && bytes == 4 {
        Integer::new(whole, 4, true)
    } else {
        Integer::new(whole, bytes, signed)
    })))
}

/// The value that a number is.
pub(super) fn value(language: Language, number: Number) -> Value {
    match number {
        Number::Integer(n) => Value::of_integer(language, n.value, n.bytes, n.signed),
        Number::Float { value, single } => float(language, value, single),
    }
}

fn float(language: Language, value: f64, single: bool) -> Value {
    let name = match (language, single) {
        (Language::Rust, true) => "f32",
        (Language::Rust, false) => "f64",
        (_, true) => "float",
        (_, false) => "double",
    };
    #[allow(clippy::cast_possible_truncation)]
    if single {
        let ty = Type::number(language, name, Encoding::Float, 4);
        Value::of_bytes(ty, (value as f32).to_le_bytes().to_vec())
    } else {
        let ty = Type::number(language, name, Encoding::Float, 8);
        Value::of_bytes(ty, value.to_le_bytes().to_vec())
    }
}

/// What is true or not: `bool` in C++ and Rust, `int` in C.
pub(super) fn truth(language: Language, holds: bool) -> Value {
    match language {
        Language::Cpp | Language::Rust => {
            let ty = Type::number(language, "bool", Encoding::Bool, 1);
            Value::of_bytes(ty, vec![u8::from(holds)])
        }
        _ => Value::of_integer(language, i128::from(holds), 4, true),
    }
}

/// The language of a result: a number that was typed in has none of its own.
pub(super) fn language(a: Language, b: Language) -> Language {
    if a == Language::Other { b } else { a }
}

impl Number {
    pub fn negated(self) -> Self {
        match self {
            Self::Integer(n) => {
                let n = n.promoted();
                Self::Integer(Integer::new(n.value.wrapping_neg(), n.bytes, n.signed))
            }
            Self::Float { value, single } => Self::Float {
                value: -value,
                single,
            },
        }
    }

    pub fn promoted(self) -> Self {
        match self {
            Self::Integer(n) => Self::Integer(n.promoted()),
            float @ Self::Float { .. } => float,
        }
    }

    pub fn complement(self) -> Result<Self, String> {
        match self {
            Self::Integer(n) => {
                let n = n.promoted();
                Ok(Self::Integer(Integer::new(!n.value, n.bytes, n.signed)))
            }
            Self::Float { .. } => Err("`~` needs a whole number".to_owned()),
        }
    }

    fn float(self) -> f64 {
        match self {
            #[allow(clippy::cast_precision_loss)]
            Self::Integer(n) if n.signed => n.value as f64,
            #[allow(clippy::cast_precision_loss)]
            Self::Integer(n) => n.value.cast_unsigned() as f64,
            Self::Float { value, .. } => value,
        }
    }

    /// Less, equal, greater, as C compares; `None` with a NaN.
    pub fn compare(self, other: Self) -> Option<std::cmp::Ordering> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => {
                let (bytes, signed) = Integer::common(a, b);
                let a = Integer::new(a.value, bytes, signed).value;
                let b = Integer::new(b.value, bytes, signed).value;
                Some(if signed {
                    a.cmp(&b)
                } else {
                    a.cast_unsigned().cmp(&b.cast_unsigned())
                })
            }
            (a, b) => a.float().partial_cmp(&b.float()),
        }
    }

    /// `self op other`.
    pub fn apply(self, op: Binary, other: Self) -> Result<Self, String> {
        match (self, other) {
            (Self::Integer(a), Self::Integer(b)) => integers(a, op, b).map(Self::Integer),
            (a, b) => {
                let narrow = |n: Self| match n {
                    Self::Float { single, .. } => single,
                    Self::Integer(_) => true,
                };
                let single = narrow(a) && narrow(b);
                let (a, b) = (a.float(), b.float());
                let value = match op {
                    Binary::Add => a + b,
                    Binary::Subtract => a - b,
                    Binary::Multiply => a * b,
                    Binary::Divide => a / b,
                    Binary::Remainder => a % b,
                    _ => return Err(format!("`{}` needs whole numbers", op.sign())),
                };
                #[allow(clippy::cast_possible_truncation)]
                let value = if single {
                    f64::from(value as f32)
                } else {
                    value
                };
                Ok(Self::Float { value, single })
            }
        }
    }
}

fn integers(a: Integer, op: Binary, b: Integer) -> Result<Integer, String> {
    if matches!(op, Binary::ShiftLeft | Binary::ShiftRight) {
        let a = a.promoted();
        let right = op == Binary::ShiftRight;
        if b.signed && b.value < 0 {
            return Err("shifted by a negative number of bits".to_owned());
        }
        let count = u32::try_from(b.value).unwrap_or(u32::MAX);
        let value = if count >= a.bits() {
            if right && a.signed && a.value < 0 {
                -1
            } else {
                0
            }
        } else if !right {
            a.value << count
        } else if a.signed {
            a.value >> count
        } else {
            (a.value.cast_unsigned() >> count).cast_signed()
        };
        return Ok(Integer::new(value, a.bytes, a.signed));
    }
    let (bytes, signed) = Integer::common(a, b);
    let a = Integer::new(a.value, bytes, signed).value;
    let b = Integer::new(b.value, bytes, signed).value;
    let zero = || "division by zero".to_owned();
    let value = match op {
        Binary::Add => a.wrapping_add(b),
        Binary::Subtract => a.wrapping_sub(b),
        Binary::Multiply => a.wrapping_mul(b),
        Binary::Divide | Binary::Remainder if b == 0 => return Err(zero()),
        Binary::Divide if signed => a.wrapping_div(b),
        Binary::Remainder if signed => a.wrapping_rem(b),
        Binary::Divide => (a.cast_unsigned() / b.cast_unsigned()).cast_signed(),
        Binary::Remainder => (a.cast_unsigned() % b.cast_unsigned()).cast_signed(),
        Binary::BitAnd => a & b,
        Binary::BitOr => a | b,
        Binary::BitXor => a ^ b,
        _ => return Err(format!("`{}` computes no number", op.sign())),
    };
    Ok(Integer::new(value, bytes, signed))
}

/// A number as another type of number: what a cast does.
pub(super) fn cast(number: Number, to: &Type) -> Option<Value> {
    let bare = to.bare();
    let size = bare.size()?;
    let raw = match bare.kind() {
        Kind::Number(Encoding::Float) => {
            let value = number.float();
            #[allow(clippy::cast_possible_truncation)]
            return match size {
                4 => Some(Value::of_bytes(
                    to.clone(),
                    (value as f32).to_le_bytes().to_vec(),
                )),
                8 => Some(Value::of_bytes(to.clone(), value.to_le_bytes().to_vec())),
                // What cannot be written as x87's format becomes a double.
                _ => Some(float(bare.language(), value, false)),
            };
        }
        Kind::Number(Encoding::Bool) => i128::from(match number {
            Number::Integer(n) => n.value != 0,
            Number::Float { value, .. } => value != 0.0,
        }),
        Kind::Number(e) if e.integral() => whole(number),
        Kind::Enumeration(_) | Kind::Pointer(_) => whole(number),
        _ => return None,
    };
    let mut bytes = raw.to_le_bytes().to_vec();
    bytes.truncate(usize::try_from(size).ok()?);
    Some(Value::of_bytes(to.clone(), bytes))
}

fn whole(number: Number) -> i128 {
    match number {
        Number::Integer(n) => n.value,
        // Towards zero, and to the nearest end where it does not fit, as Rust does.
        #[allow(clippy::cast_possible_truncation)]
        Number::Float { value, .. } => value as i128,
    }
}

/// The type of a number that was typed in: C11, 6.4.4.1.
pub(super) fn literal(n: super::ast::Integer) -> Result<Number, String> {
    use super::ast::Suffix;
    let fits = |bits: u32, signed: bool| n.value <= (u128::MAX >> (128 - bits + u32::from(signed)));
    let (bytes, signed) = match n.suffix {
        Suffix::Rust { signed, bytes } => {
            if !fits(u32::from(bytes) * 8, signed) {
                return Err("this number does not fit into its type".to_owned());
            }
            (u64::from(bytes), signed)
        }
        Suffix::None if fits(32, true) => (4, true),
        Suffix::None if !n.decimal && fits(32, false) => (4, false),
        Suffix::C {
            unsigned: true,
            long: false,
        } if fits(32, false) => (4, false),
        Suffix::C { unsigned: true, .. } if fits(64, false) => (8, false),
        _ if fits(64, true) => (8, true),
        _ if fits(64, false) => (8, false),
        _ if fits(128, true) => (16, true),
        _ => (16, false),
    };
    Ok(Number::Integer(Integer::new(
        n.value.cast_signed(),
        bytes,
        signed,
    )))
}

pub(super) fn size_t(language: Language, bytes: u64) -> Value {
    Value::of_bytes(
        integer_type(language, 8, false),
        bytes.to_le_bytes().to_vec(),
    )
}

#[cfg(test)]
mod tests {
    use super::*;

    fn int(value: i128, bytes: u64, signed: bool) -> Number {
        Number::Integer(Integer::new(value, bytes, signed))
    }

    #[test]
    fn arithmetic_is_cs() {
        let add = |a: Number, b| a.apply(Binary::Add, b).unwrap();
        assert_eq!(add(int(255, 1, false), int(1, 4, true)), int(256, 4, true));
        assert_eq!(
            add(int(i128::from(i32::MAX), 4, true), int(1, 4, true)),
            int(i128::from(i32::MIN), 4, true)
        );
        assert_eq!(add(int(-1, 4, true), int(1, 4, false)), int(0, 4, false));
        assert_eq!(
            add(int(-1, 4, true), int(0, 4, false)),
            int(0xffff_ffff, 4, false)
        );
        assert_eq!(
            add(int(-1, 4, true), int(0, 8, false)),
            int(i128::from(u64::MAX), 8, false)
        );
        let less = |a: Number, b| a.compare(b) == Some(std::cmp::Ordering::Less);
        assert!(!less(int(-1, 4, true), int(1, 4, false)));
        assert!(less(int(-1, 8, true), int(1, 4, false)));
    }

    #[test]
    fn nothing_overflows() {
        let all = [
            int(i128::MIN, 16, true),
            int(-1, 16, true),
            int(-1, 16, false),
            int(0, 4, true),
            int(i128::from(i64::MIN), 8, true),
            int(200, 1, false),
            Number::Float {
                value: f64::NAN,
                single: false,
            },
            Number::Float {
                value: 1e300,
                single: true,
            },
        ];
        let operators = [
            Binary::Add,
            Binary::Subtract,
            Binary::Multiply,
            Binary::Divide,
            Binary::Remainder,
            Binary::BitAnd,
            Binary::BitOr,
            Binary::BitXor,
            Binary::ShiftLeft,
            Binary::ShiftRight,
        ];
        for a in all {
            let _ = (a.negated(), a.complement(), a.promoted());
            for b in all {
                for op in operators {
                    let _ = a.apply(op, b);
                }
                let _ = a.compare(b);
            }
        }
        assert!(
            int(1, 4, true)
                .apply(Binary::Divide, int(0, 4, true))
                .is_err()
        );
        assert!(
            int(1, 4, true)
                .apply(Binary::Remainder, int(0, 8, false))
                .is_err()
        );
        assert_eq!(
            int(i128::from(i32::MIN), 4, true)
                .apply(Binary::Divide, int(-1, 4, true))
                .unwrap(),
            int(i128::from(i32::MIN), 4, true)
        );
        assert_eq!(
            int(1, 4, true)
                .apply(Binary::ShiftLeft, int(40, 4, true))
                .unwrap(),
            int(0, 4, true)
        );
        assert_eq!(
            int(-8, 4, true)
                .apply(Binary::ShiftRight, int(1, 4, true))
                .unwrap(),
            int(-4, 4, true)
        );
    }
}
