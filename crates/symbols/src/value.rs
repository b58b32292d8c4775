//! Values: a type and where its bytes are.
//!
//! Nothing is read before it is needed. A value in memory stays an address until somebody looks, so
//! that the tenth element of an array of a million costs one read. Values that have no address (in
//! registers, in pieces, computed) carry their bytes.

use crate::dies::Language;
use crate::memory::{Memory, Registers, Unreadable};
use crate::program::Program;
use crate::types::{Encoding, Kind, Type};
use crate::unwind::Stack;
use crate::variables::Here;
use std::ops::Range;
use std::sync::Arc;

/// Bytes that are read for one value at most; more are looked at in parts.
pub const MOST_BYTES: u64 = 16 << 20;

/// What an expression is evaluated in.
#[derive(Clone, Copy)]
pub struct Scope<'a> {
    /// The modules.
    pub program: &'a Program,
    /// The bytes.
    pub memory: &'a dyn Memory,
    /// The registers of the chosen thread and frame.
    pub registers: &'a dyn Registers,
    /// The chosen frame, which has locals; none for globals alone.
    pub here: Option<Here<'a>>,
}

impl std::fmt::Debug for Scope<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Scope").finish_non_exhaustive()
    }
}

impl<'a> Scope<'a> {
    /// Globals, and the registers of a thread.
    pub fn new(program: &'a Program, memory: &'a dyn Memory, registers: &'a dyn Registers) -> Self {
        Self {
            program,
            memory,
            registers,
            here: None,
        }
    }

    /// A frame of a stack: its registers, its locals, the names around its function. `None` if the
    /// stack has no such frame.
    pub fn in_frame(
        program: &'a Program,
        memory: &'a dyn Memory,
        stack: &'a Stack,
        level: usize,
    ) -> Option<Self> {
        Some(Self {
            program,
            memory,
            registers: &stack.frames.get(level)?.registers,
            here: stack.here(level),
        })
    }
}

/// No registers at all.
#[derive(Clone, Copy, Debug, Default)]
pub struct NoRegisters;

impl Registers for NoRegisters {
    fn get(&self, _: u16) -> Option<u64> {
        None
    }
}

/// Why a value is not there.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum Fault {
    /// Its memory cannot be read.
    #[error(transparent)]
    Unreadable(#[from] Unreadable),
    /// The compiler kept nothing of it.
    #[error("optimised out")]
    OptimisedOut,
    /// Something else.
    #[error("{0}")]
    Other(String),
}

impl Fault {
    pub(crate) fn new(message: impl Into<String>) -> Self {
        Self::Other(message.into())
    }
}

/// Where the bytes of a value are.
#[derive(Clone, Debug)]
pub(crate) enum Content {
    Memory(u64),
    Bytes(Bytes),
    /// Nowhere, and why.
    Missing(Fault),
}

/// Bytes without an address.
#[derive(Clone, Debug)]
pub(crate) struct Bytes {
    pub all: Arc<[u8]>,
    /// The part that is the value's.
    pub part: Range<usize>,
    /// Parts of `all` that are not known.
    pub holes: Arc<[Range<usize>]>,
}

/// A value: typed, perhaps in memory.
#[derive(Clone, Debug)]
pub struct Value {
    ty: Type,
    content: Content,
    /// A bitfield: first bit from the start of the content, and bits.
    bits: Option<(u64, u64)>,
}

impl Value {
    /// The value of a type at an address.
    pub fn at(ty: Type, address: u64) -> Self {
        Self {
            ty,
            content: Content::Memory(address),
            bits: None,
        }
    }

    pub(crate) fn of_bytes(ty: Type, bytes: impl Into<Arc<[u8]>>) -> Self {
        let all = bytes.into();
        let part = 0..all.len();
        Self {
            ty,
            content: Content::Bytes(Bytes {
                all,
                part,
                holes: Arc::from([]),
            }),
            bits: None,
        }
    }

    pub(crate) fn with_holes(ty: Type, bytes: Vec<u8>, holes: Vec<Range<usize>>) -> Self {
        let part = 0..bytes.len();
        Self {
            ty,
            content: Content::Bytes(Bytes {
                all: bytes.into(),
                part,
                holes: holes.into(),
            }),
            bits: None,
        }
    }

    pub(crate) fn missing(ty: Type, fault: Fault) -> Self {
        Self {
            ty,
            content: Content::Missing(fault),
            bits: None,
        }
    }

    /// Its type.
    pub fn ty(&self) -> &Type {
        &self.ty
    }

    /// The same bytes as another type.
    #[must_use]
    pub fn with_type(&self, ty: Type) -> Self {
        Self {
            ty,
            content: self.content.clone(),
            bits: self.bits,
        }
    }

    /// Where it is in memory, if it is there and not a part of a byte.
    pub fn address(&self) -> Option<u64> {
        match self.content {
            Content::Memory(address) if self.bits.is_none() => Some(address),
            _ => None,
        }
    }

    /// First bit of a bitfield from [`Value::storage`], and number of bits.
    pub fn bits(&self) -> Option<(u64, u64)> {
        self.bits
    }

    /// As [`Value::address`], but of the record's start for a bitfield.
    pub fn storage(&self) -> Option<u64> {
        match self.content {
            Content::Memory(address) => Some(address),
            _ => None,
        }
    }

    /// Why it is not there, if that is so.
    pub fn fault(&self) -> Option<&Fault> {
        match &self.content {
            Content::Missing(fault) => Some(fault),
            _ => None,
        }
    }

    /// A part of it: `at` bytes from its start, of type `ty`.
    pub(crate) fn part(&self, ty: Type, at: u64, bits: Option<(u64, u64)>) -> Self {
        let content = match &self.content {
            Content::Memory(address) => Content::Memory(if bits.is_some() {
                *address
            } else {
                address.wrapping_add(at)
            }),
            Content::Bytes(bytes) => {
                let length = match bits {
                    Some(_) => bytes.part.len() as u64,
                    None => ty.size().unwrap_or(0),
                };
                let at = if bits.is_some() { 0 } else { at };
                let from = usize::try_from(at)
                    .ok()
                    .and_then(|at| bytes.part.start.checked_add(at));
                let to = from.and_then(|f| f.checked_add(usize::try_from(length).ok()?));
                match (from, to) {
                    (Some(from), Some(to)) if to <= bytes.part.end => Content::Bytes(Bytes {
                        part: from..to,
                        ..bytes.clone()
                    }),
                    _ => Content::Missing(Fault::OptimisedOut),
                }
            }
            Content::Missing(fault) => Content::Missing(fault.clone()),
        };
        Self { ty, content, bits }
    }

    /// All its bytes. A bitfield gives the bytes of its number.
    ///
    /// # Errors
    /// If they are not there, or more than [`MOST_BYTES`].
    pub fn bytes(&self, scope: &Scope<'_>) -> Result<Vec<u8>, Fault> {
        if let Some((first, count)) = self.bits {
            return self.bitfield(scope, first, count);
        }
        let size = self
            .ty
            .size()
            .ok_or_else(|| Fault::new(format!("the size of `{}` is not known", self.ty.name())))?;
        self.first_bytes(scope, size)
    }

    /// Its first bytes.
    pub(crate) fn first_bytes(&self, scope: &Scope<'_>, size: u64) -> Result<Vec<u8>, Fault> {
        if size > MOST_BYTES {
            return Err(Fault::new(format!(
                "{size} bytes are too many to look at in one go; take a slice: x[0..100]"
            )));
        }
        let length = usize::try_from(size).unwrap_or(0);
        match &self.content {
            Content::Memory(address) => {
                let mut out = vec![0; length];
                scope.memory.read(*address, &mut out)?;
                Ok(out)
            }
            Content::Bytes(bytes) => {
                let part = bytes.part.start..bytes.part.start.saturating_add(length);
                if bytes
                    .holes
                    .iter()
                    .any(|h| h.start < part.end && part.start < h.end)
                {
                    return Err(Fault::OptimisedOut);
                }
                bytes
                    .all
                    .get(part)
                    .filter(|p| p.len() <= bytes.part.len())
                    .map(<[u8]>::to_vec)
                    .ok_or(Fault::OptimisedOut)
            }
            Content::Missing(fault) => Err(fault.clone()),
        }
    }

    fn bitfield(&self, scope: &Scope<'_>, first: u64, count: u64) -> Result<Vec<u8>, Fault> {
        if count > 128 {
            return Err(Fault::new("a bitfield of more than 128 bits"));
        }
        let size = self.ty.size().unwrap_or(8).min(16);
        let from = first / 8;
        let end = first.checked_add(count).map_or(u64::MAX, |e| e.div_ceil(8));
        let whole = Self {
            ty: self.ty.clone(),
            content: self.content.clone(),
            bits: None,
        };
        let raw = match &whole.content {
            Content::Memory(address) => {
                let mut out = vec![0; usize::try_from(end - from).unwrap_or(0).min(17)];
                scope.memory.read(address.wrapping_add(from), &mut out)?;
                out
            }
            _ => {
                let all = whole.first_bytes(scope, end)?;
                all.get(usize::try_from(from).unwrap_or(usize::MAX)..)
                    .unwrap_or_default()
                    .to_vec()
            }
        };
        let mut value: u128 = 0;
        for bit in 0..count {
            let at = bit + first % 8;
            let byte = raw
                .get(usize::try_from(at / 8).unwrap_or(usize::MAX))
                .copied()
                .unwrap_or(0);
            value |= u128::from(byte >> (at % 8) & 1) << bit;
        }
        let signed = match self.ty.bare().kind() {
            Kind::Number(e) => e.signed(),
            Kind::Enumeration(e) => e.signed,
            _ => false,
        };
        if signed && count > 0 && count < 128 && value >> (count - 1) & 1 == 1 {
            value |= u128::MAX << count;
        }
        let mut out = value.to_le_bytes().to_vec();
        out.truncate(usize::try_from(size).unwrap_or(8));
        Ok(out)
    }

    /// As a whole number: integers, characters, truth values, enums, pointers.
    ///
    /// # Errors
    /// If it is none, or not there.
    pub fn integer(&self, scope: &Scope<'_>) -> Result<i128, Fault> {
        let value = self.settled(scope)?;
        let bare = value.ty.bare();
        let signed = match bare.kind() {
            Kind::Number(e) if e.integral() => e.signed(),
            Kind::Enumeration(e) => e.signed,
            Kind::Pointer(_) | Kind::MemberPointer(..) => false,
            Kind::Array(_) | Kind::Function(..) => {
                let address = value.address();
                return address
                    .map(i128::from)
                    .ok_or_else(|| Fault::new("this has no address"));
            }
            _ => {
                return Err(Fault::new(format!("`{}` is not a number", value.ty.name())));
            }
        };
        let bytes = value.bytes(scope)?;
        Ok(integer_of(&bytes, signed))
    }

    /// As a number with a fraction; whole numbers too.
    ///
    /// # Errors
    /// If it is none, or not there.
    pub fn float(&self, scope: &Scope<'_>) -> Result<f64, Fault> {
        let value = self.settled(scope)?;
        if let Kind::Number(Encoding::Float) = value.ty.bare().kind() {
            return float_of(&value.bytes(scope)?)
                .ok_or_else(|| Fault::new("no such format of floating point numbers"));
        }
        #[allow(clippy::cast_precision_loss)]
        Ok(value.integer(scope)? as f64)
    }

    /// Whether it holds: not zero, not null.
    ///
    /// # Errors
    /// If it is neither number nor pointer, or not there.
    pub fn truth(&self, scope: &Scope<'_>) -> Result<bool, Fault> {
        if let Kind::Number(Encoding::Float) = self.settled(scope)?.ty.bare().kind() {
            return Ok(self.float(scope)? != 0.0);
        }
        Ok(self.integer(scope)? != 0)
    }

    /// What a reference refers to; itself if it is none.
    ///
    /// # Errors
    /// If the reference cannot be read.
    pub fn settled(&self, scope: &Scope<'_>) -> Result<Self, Fault> {
        let mut at = self.clone();
        for _ in 0..8 {
            let bare = at.ty.bare();
            let Kind::Reference(link, _) = bare.kind() else {
                return Ok(at);
            };
            let address = at.pointer(scope)?;
            at = Self::at(bare.follow(link), address);
        }
        Ok(at)
    }

    /// The eight bytes of a pointer or reference.
    pub(crate) fn pointer(&self, scope: &Scope<'_>) -> Result<u64, Fault> {
        let bytes = self.first_bytes(scope, 8)?;
        bytes
            .first_chunk::<8>()
            .map(|b| u64::from_le_bytes(*b))
            .ok_or(Fault::OptimisedOut)
    }

    /// A whole number of a type of C.
    pub(crate) fn of_integer(language: Language, value: i128, bytes: u64, signed: bool) -> Self {
        let ty = integer_type(language, bytes, signed);
        let mut raw = value.to_le_bytes().to_vec();
        raw.truncate(usize::try_from(bytes).unwrap_or(8));
        Self::of_bytes(ty, raw)
    }
}

/// The number in little-endian bytes, at most 16.
pub(crate) fn integer_of(bytes: &[u8], signed: bool) -> i128 {
    let length = bytes.len().min(16);
    let negative = signed && length > 0 && bytes[length - 1] & 0x80 != 0;
    let mut wide = [if negative { 0xff } else { 0 }; 16];
    wide[..length].copy_from_slice(&bytes[..length]);
    i128::from_le_bytes(wide)
}

/// The number in 4, 8 or 16 bytes (x87's ten, padded), as far as 53 bits can tell.
pub(crate) fn float_of(bytes: &[u8]) -> Option<f64> {
    Some(match bytes.len() {
        2 => half(u16::from_le_bytes(*bytes.first_chunk()?)),
        4 => f64::from(f32::from_le_bytes(*bytes.first_chunk()?)),
        8 => f64::from_le_bytes(*bytes.first_chunk()?),
        10 | 12 | 16 => {
            let mantissa = u64::from_le_bytes(*bytes.first_chunk()?);
            let top = u16::from_le_bytes([*bytes.get(8)?, *bytes.get(9)?]);
            let sign = if top & 0x8000 == 0 { 1.0 } else { -1.0 };
            let exponent = i32::from(top & 0x7fff);
            if exponent == 0x7fff {
                let infinite = mantissa << 1 == 0;
                return Some(if infinite {
                    sign * f64::INFINITY
                } else {
                    f64::NAN
                });
            }
            #[allow(clippy::cast_precision_loss)]
            let fraction = mantissa as f64;
            // In two steps, since 2^-16445 is no f64.
            let power = exponent - 16383 - 63;
            sign * fraction * 2f64.powi(power / 2) * 2f64.powi(power - power / 2)
        }
        _ => return None,
    })
}

fn half(bits: u16) -> f64 {
    let sign = if bits & 0x8000 == 0 { 1.0 } else { -1.0 };
    let exponent = i32::from(bits >> 10 & 0x1f);
    let fraction = f64::from(bits & 0x3ff);
    match exponent {
        0 => sign * fraction * 2f64.powi(-24),
        31 if fraction == 0.0 => sign * f64::INFINITY,
        31 => f64::NAN,
        e => sign * (fraction + 1024.0) * 2f64.powi(e - 25),
    }
}

/// The type of a computed whole number.
pub(crate) fn integer_type(language: Language, bytes: u64, signed: bool) -> Type {
    let encoding = if signed {
        Encoding::Signed
    } else {
        Encoding::Unsigned
    };
    let name = match (language, bytes, signed) {
        (Language::Rust, 1, true) => "i8",
        (Language::Rust, 1, false) => "u8",
        (Language::Rust, 2, true) => "i16",
        (Language::Rust, 2, false) => "u16",
        (Language::Rust, 4, true) => "i32",
        (Language::Rust, 4, false) => "u32",
        (Language::Rust, 8, true) => "i64",
        (Language::Rust, 8, false) => "u64",
        (Language::Rust, _, true) => "i128",
        (Language::Rust, _, false) => "u128",
        (_, 1, true) => "signed char",
        (_, 1, false) => "unsigned char",
        (_, 2, true) => "short",
        (_, 2, false) => "unsigned short",
        (_, 4, true) => "int",
        (_, 4, false) => "unsigned int",
        (_, 8, true) => "long",
        (_, 8, false) => "unsigned long",
        (_, _, true) => "__int128",
        (_, _, false) => "unsigned __int128",
    };
    Type::number(language, name, encoding, bytes)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn numbers_from_bytes() {
        assert_eq!(integer_of(&[0xff], true), -1);
        assert_eq!(integer_of(&[0xff], false), 255);
        assert_eq!(integer_of(&[], true), 0);
        assert_eq!(float_of(&1.5f32.to_le_bytes()), Some(1.5));
        assert_eq!(float_of(&(-2.25f64).to_le_bytes()), Some(-2.25));
        // 1.0L and -0.1L as gcc writes them.
        let one = [0, 0, 0, 0, 0, 0, 0, 0x80, 0xff, 0x3f, 0, 0, 0, 0, 0, 0];
        assert_eq!(float_of(&one), Some(1.0));
        let tenth = [
            0xcd, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xcc, 0xfb, 0xbf, 0, 0, 0, 0, 0, 0,
        ];
        assert_eq!(float_of(&tenth), Some(-0.1));
        assert_eq!(float_of(&[0x00, 0x3c]), Some(1.0));
        assert_eq!(float_of(&[1, 2, 3]), None);
    }
}
