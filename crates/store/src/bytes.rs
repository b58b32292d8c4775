//! Integers on disk, and a cursor that cannot run off the end of what it reads.
//!
//! Every decoder of this crate takes its bytes through [`Cursor`], so that "too short" is an
//! ordinary result of one place instead of a possibility everywhere.

use stillframe_image::PAGE_SIZE;

/// Why bytes could not be decoded. Carries no place: the caller knows which file and record.
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("{0}")]
pub struct Malformed(pub &'static str);

/// Appends `value` as a varint.
pub fn put_varint(out: &mut Vec<u8>, mut value: u64) {
    while value >= 0x80 {
        out.push((value & 0x7f) as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// Appends `new - old`, zigzag-coded. Wraps, so any pair of values can be coded.
pub fn put_difference(out: &mut Vec<u8>, old: u64, new: u64) {
    put_varint(out, zigzag(old, new));
}

/// `new - old` as zigzag.
pub const fn zigzag(old: u64, new: u64) -> u64 {
    let d = new.wrapping_sub(old).cast_signed();
    ((d << 1) ^ (d >> 63)).cast_unsigned()
}

/// The inverse of [`zigzag`]: the new value.
pub const fn unzigzag(old: u64, coded: u64) -> u64 {
    old.wrapping_add((coded >> 1) ^ (coded & 1).wrapping_neg())
}

/// A place in a slice of bytes.
#[derive(Clone, Copy, Debug)]
pub struct Cursor<'a> {
    rest: &'a [u8],
}

impl<'a> Cursor<'a> {
    /// At the beginning of `bytes`.
    pub const fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// What has not been taken.
    pub const fn rest(&self) -> &'a [u8] {
        self.rest
    }

    /// Whether everything has been taken.
    pub const fn is_empty(&self) -> bool {
        self.rest.is_empty()
    }

    /// Takes `n` bytes.
    pub fn take(&mut self, n: usize) -> Result<&'a [u8], Malformed> {
        let (head, tail) = self
            .rest
            .split_at_checked(n)
            .ok_or(Malformed("it is too short"))?;
        self.rest = tail;
        Ok(head)
    }

    /// Takes an array.
    pub fn array<const N: usize>(&mut self) -> Result<[u8; N], Malformed> {
        let (head, tail) = self
            .rest
            .split_first_chunk::<N>()
            .ok_or(Malformed("it is too short"))?;
        self.rest = tail;
        Ok(*head)
    }

    /// Takes a byte.
    pub fn u8(&mut self) -> Result<u8, Malformed> {
        self.array::<1>().map(|[b]| b)
    }

    /// Takes a u32.
    pub fn u32(&mut self) -> Result<u32, Malformed> {
        self.array().map(u32::from_le_bytes)
    }

    /// Takes a u64.
    pub fn u64(&mut self) -> Result<u64, Malformed> {
        self.array().map(u64::from_le_bytes)
    }

    /// Takes a varint.
    #[inline]
    pub fn varint(&mut self) -> Result<u64, Malformed> {
        let mut value = 0u64;
        for (i, &byte) in self.rest.iter().take(10).enumerate() {
            let bits = u64::from(byte & 0x7f);
            if i == 9 && byte > 1 {
                return Err(Malformed("a number is too large"));
            }
            value |= bits << (7 * i);
            if byte & 0x80 == 0 {
                self.rest = &self.rest[i + 1..];
                return Ok(value);
            }
        }
        Err(Malformed("a number has no end"))
    }

    /// Takes a varint that must not exceed `limit`.
    pub fn varint_up_to(&mut self, limit: u64) -> Result<usize, Malformed> {
        let value = self.varint()?;
        if value > limit {
            return Err(Malformed("a number is beyond its limit"));
        }
        usize::try_from(value).map_err(|_| Malformed("a number is beyond its limit"))
    }

    /// Takes a zigzag difference and returns the new value.
    pub fn difference(&mut self, old: u64) -> Result<u64, Malformed> {
        self.varint().map(|coded| unzigzag(old, coded))
    }
}

/// A page.
pub type Page = [u8; PAGE_SIZE];

/// The page of zeros.
pub static ZERO_PAGE: Page = [0; PAGE_SIZE];

/// Writes `value` at `at`, which must lie inside `out`; outside it nothing happens.
pub fn set_u64(out: &mut [u8], at: usize, value: u64) {
    if let Some(place) = out.get_mut(at..at + 8) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

/// As [`set_u64`], four bytes.
pub fn set_u32(out: &mut [u8], at: usize, value: u32) {
    if let Some(place) = out.get_mut(at..at + 4) {
        place.copy_from_slice(&value.to_le_bytes());
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    proptest! {
        #[test]
        fn varints_and_differences_come_back(values: Vec<u64>) {
            let mut out = Vec::new();
            let mut last = 0;
            for &v in &values {
                put_varint(&mut out, v);
                put_difference(&mut out, last, v);
                last = v;
            }
            let mut c = Cursor::new(&out);
            let mut last = 0;
            for &v in &values {
                prop_assert_eq!(c.varint(), Ok(v));
                last = c.difference(last).unwrap();
                prop_assert_eq!(last, v);
            }
            prop_assert!(c.is_empty());
        }
    }

    #[test]
    fn small_differences_are_small() {
        assert_eq!(
            [zigzag(5, 5), zigzag(5, 4), zigzag(5, 6), zigzag(5, 3)],
            [0, 1, 2, 3]
        );
    }

    #[test]
    fn overlong_varints_are_refused() {
        assert!(Cursor::new(&[0xff; 10]).varint().is_err());
        assert!(Cursor::new(&[0x80; 3]).varint().is_err());
        assert!(Cursor::new(&[]).varint().is_err());
    }
}
