//! What is looked for, and where it stands in one page.

use crate::Error;
use crate::past::Page;
use crate::raw::{Form, constant, hexadecimal};
use memchr::memmem::Finder;
use stillframe_image::PAGE_SIZE;

/// Bytes to look for.
#[derive(Debug)]
pub struct Needle {
    finder: Finder<'static>,
    align: u64,
    /// What it shows in a page of zeros.
    zero: Hits,
}

/// Where a needle stands in a page.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Hits {
    /// Offsets at which it stands whole.
    pub whole: Vec<u16>,
    /// Lengths of its beginnings with which the page ends.
    pub tails: Vec<u16>,
    /// Lengths of its beginnings whose remainders the page begins with.
    pub heads: Vec<u16>,
}

impl Hits {
    /// Whether there is nothing at all.
    pub const fn is_empty(&self) -> bool {
        self.whole.is_empty() && self.tails.is_empty() && self.heads.is_empty()
    }
}

impl Needle {
    /// Looks for these bytes at addresses that are multiples of `align`.
    ///
    /// # Errors
    /// If there are none or more than a page of them, if all are zero, or if `align` is no power of
    /// two up to a page.
    pub fn new(bytes: &[u8], align: u64) -> Result<Self, Error> {
        let wrong = |why: &str| Err(Error::Needle(why.to_owned()));
        if bytes.is_empty() || bytes.len() > PAGE_SIZE {
            return wrong("what is looked for has from 1 to 4096 bytes");
        }
        if bytes.iter().all(|b| *b == 0) {
            return wrong("zeros are nearly everywhere; look for something that is not only zeros");
        }
        if !align.is_power_of_two() || align > PAGE_SIZE as u64 {
            return wrong("an alignment is a power of two from 1 to 4096");
        }
        let mut needle = Self {
            finder: Finder::new(bytes).into_owned(),
            align,
            zero: Hits::default(),
        };
        needle.zero = needle.search(&[0; PAGE_SIZE]);
        Ok(needle)
    }

    /// Of a text in a form: `text`, `hex`, or a number as `u32`, `i64`, `f64`, `ptr` and the like,
    /// which is looked for where numbers of its size stand, unless `align` says otherwise.
    ///
    /// # Errors
    /// As [`Needle::new`]; if the text is nothing of that form.
    pub fn parse(form: &str, text: &str, align: Option<u64>) -> Result<Self, Error> {
        let wrong = |why: String| Error::Needle(why);
        let shown: String = text.chars().take(80).collect();
        match form {
            "text" => Self::new(text.as_bytes(), align.unwrap_or(1)),
            "hex" => {
                let bytes = hexadecimal(text)
                    .ok_or_else(|| wrong(format!("`{shown}` is not bytes; write de ad be ef")))?;
                Self::new(&bytes, align.unwrap_or(1))
            }
            number => {
                let raw: crate::Raw = format!("{number}@0").parse().map_err(|_| {
                    wrong(format!(
                        "`{number}` is no form; take text, hex, u8 to u64, i8 to i64, f32, f64 or ptr"
                    ))
                })?;
                let encoded = constant(text).and_then(|n| raw.form.encode(n));
                let bytes = encoded.filter(|_| raw.count.is_none());
                let bytes = bytes
                    .ok_or_else(|| wrong(format!("`{shown}` is no number of form {number}")))?;
                let natural = match raw.form {
                    Form::Text | Form::Bytes => 1,
                    form => form.size(),
                };
                Self::new(&bytes, align.unwrap_or(natural))
            }
        }
    }

    /// The bytes.
    pub fn bytes(&self) -> &[u8] {
        self.finder.needle()
    }

    /// What it shows in a page of zeros.
    pub const fn in_zeros(&self) -> &Hits {
        &self.zero
    }

    /// Searches a page.
    pub fn search(&self, page: &Page) -> Hits {
        let needle = self.finder.needle();
        let mut hits = Hits::default();
        let mut from = 0;
        while let Some(found) = page.get(from..).and_then(|rest| self.finder.find(rest)) {
            let at = from + found;
            if (at as u64).is_multiple_of(self.align) {
                hits.whole.push(at as u16);
            }
            from = at + 1;
        }
        let (Some(first), Some(last)) = (needle.first(), needle.last()) else {
            return hits;
        };
        // Only where the byte at the border agrees is the rest worth comparing.
        let longest = needle.len() - 1;
        let end = &page[PAGE_SIZE - longest..];
        for at in memchr::memchr_iter(*first, end) {
            let length = longest - at;
            let aligned = ((PAGE_SIZE - length) as u64).is_multiple_of(self.align);
            if aligned && needle.starts_with(&end[at..]) {
                hits.tails.push(length as u16);
            }
        }
        for at in memchr::memchr_iter(*last, &page[..longest]) {
            let length = needle.len() - (at + 1);
            let aligned = (length as u64).wrapping_neg().is_multiple_of(self.align);
            if aligned && needle.ends_with(&page[..=at]) {
                hits.heads.push(length as u16);
            }
        }
        hits
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn search(needle: &[u8], at: &[(usize, &[u8])]) -> Hits {
        let mut page = [b'.'; PAGE_SIZE];
        for (at, bytes) in at {
            page[*at..at + bytes.len()].copy_from_slice(bytes);
        }
        Needle::new(needle, 1).unwrap().search(&page)
    }

    #[test]
    fn inside_and_at_the_borders() {
        let hits = search(b"abab", &[(10, b"ababab"), (0, b"bab"), (4093, b"aba")]);
        assert_eq!(hits.whole, [10, 12]);
        // `bab` may end one that began with `a`, and its `b` one that began with `aba`.
        assert_eq!(hits.heads, [3, 1]);
        // `aba` and `a` both may go on.
        assert_eq!(hits.tails, [3, 1]);
        assert!(search(b"x", &[]).is_empty());
        assert_eq!(search(b"x", &[(0, b"x"), (4095, b"x")]).whole, [0, 4095]);
    }

    #[test]
    fn numbers_stand_where_numbers_stand() {
        let needle = Needle::parse("u32", "258", None).unwrap();
        assert_eq!(needle.bytes(), [2, 1, 0, 0]);
        let mut page = [0; PAGE_SIZE];
        page[4] = 2;
        page[5] = 1;
        page[9] = 2;
        page[10] = 1;
        assert_eq!(needle.search(&page).whole, [4]);
        let anywhere = Needle::parse("u32", "258", Some(1)).unwrap();
        assert_eq!(anywhere.search(&page).whole, [4, 9]);
        for (form, text) in [
            ("u8", "256"),
            ("u8[2]", "1"),
            ("i8", "-200"),
            ("u16", "x"),
            ("hex", "abc"),
            ("text", ""),
            ("bytes", "1"),
            ("u32", "0"),
            ("nonsense", "1"),
        ] {
            assert!(Needle::parse(form, text, None).is_err(), "{form} {text}");
        }
    }

    #[test]
    fn zeros_may_be_part_of_it() {
        let needle = Needle::new(&[0, 0, 1, 0], 1).unwrap();
        assert_eq!(needle.in_zeros().tails, [2, 1]);
        assert_eq!(needle.in_zeros().heads, [3]);
    }
}
