//! Where the fields of kernel structures are, from the kernel's own description of its types.
//!
//! `/sys/kernel/btf/vmlinux` (BTF, `Documentation/bpf/btf.rst`) is read once when a log is opened.
//! A reader of our own because it needs three questions answered and no more: the offset of a
//! field, the id of a function, whether either exists. Every offset in the file is checked, so a
//! damaged or unfriendly file gives an error or a wrong offset, never a panic, and no loop that
//! its size does not bound; wrong offsets are found by trying each program before it is used.

use crate::error::{Error, Result, Target};
use std::fs::File;
use std::io::Read;
use std::ops::Range;

const PATH: &str = "/sys/kernel/btf/vmlinux";

/// Largest file accepted. Distribution kernels have 4-8 MiB.
const LIMIT: u64 = 64 << 20;

/// How deep anonymous structures, typedefs and qualifiers may nest.
const DEPTH: u32 = 16;

const STRUCT: u32 = 4;
const UNION: u32 = 5;
const FUNC: u32 = 12;

/// A kernel's types.
#[derive(Debug)]
pub(super) struct Btf {
    data: Vec<u8>,
    /// Offset of each type; the first has id 1.
    types: Vec<u32>,
    strings: Range<usize>,
}

/// One type's fixed part.
#[derive(Clone, Copy)]
struct Type {
    name: u32,
    kind: u32,
    members: u32,
    /// Members' offsets carry bit-field sizes.
    flagged: bool,
    /// Size, or the id of the type referred to.
    refers: u32,
    at: usize,
}

fn malformed(detail: impl Into<String>) -> Error {
    Error::Malformed {
        what: "the type information",
        target: Target::Path(PATH.to_owned()),
        detail: detail.into(),
    }
}

impl Btf {
    /// Reads the running kernel's.
    ///
    /// # Errors
    /// If the kernel has none, or it cannot be understood.
    pub(super) fn of_the_kernel() -> Result<Self> {
        let mut data = Vec::new();
        let fail = |e| Error::syscall("reading", Target::Path(PATH.to_owned()), e);
        let file = File::open(PATH).map_err(|e| match e.kind() {
            std::io::ErrorKind::NotFound => Error::Unsupported {
                what: "type information in /sys/kernel/btf/vmlinux",
                advice: "use a kernel built with CONFIG_DEBUG_INFO_BTF, and mount /sys",
            },
            _ => fail(e),
        })?;
        file.take(LIMIT + 1).read_to_end(&mut data).map_err(fail)?;
        if data.len() as u64 > LIMIT {
            return Err(malformed("larger than 64 MiB"));
        }
        Self::parse(data)
    }

    /// Takes the bytes of a file, little-endian.
    ///
    /// # Errors
    /// If it is not BTF of version 1, or a part lies outside it.
    pub(super) fn parse(data: Vec<u8>) -> Result<Self> {
        let word = |at| word(&data, at).ok_or_else(|| malformed("shorter than its header"));
        if word(0)? & 0x00ff_ffff != 0x01_eb9f {
            return Err(malformed("not BTF of version 1 in this byte order"));
        }
        let header = word(4)?;
        let part = |offset: u32, length: u32| {
            let start = u64::from(header) + u64::from(offset);
            let end = start + u64::from(length);
            if end > data.len() as u64 {
                return Err(malformed("a part lies outside it"));
            }
            Ok(start as usize..end as usize)
        };
        let records = part(word(8)?, word(12)?)?;
        let strings = part(word(16)?, word(20)?)?;
        let mut types = Vec::new();
        let mut at = records.start;
        while at < records.end {
            let t = read_type(&data, at).ok_or_else(|| malformed("a type is cut off"))?;
            types.push(at as u32);
            let tail = match t.kind {
                2 | 7..=12 | 16 | 18 => 0,
                1 | 14 | 17 => 4,
                3 => 12,
                6 | 13 => 8 * t.members as usize,
                STRUCT | UNION | 15 | 19 => 12 * t.members as usize,
                kind => return Err(malformed(format!("unknown kind of type {kind}"))),
            };
            at += 12 + tail;
        }
        if at != records.end {
            return Err(malformed("the last type is cut off"));
        }
        Ok(Self {
            data,
            types,
            strings,
        })
    }

    fn get(&self, id: u32) -> Option<Type> {
        let at = *self.types.get((id as usize).checked_sub(1)?)?;
        read_type(&self.data, at as usize)
    }

    fn is_named(&self, name: u32, wanted: &str) -> bool {
        self.data
            .get(self.strings.clone())
            .and_then(|strings| strings.get(name as usize..))
            .and_then(|rest| rest.strip_prefix(wanted.as_bytes()))
            .is_some_and(|rest| rest.first() == Some(&0))
    }

    fn find(&self, kinds: &[u32], name: &str) -> Option<(u32, Type)> {
        (1..=self.types.len() as u32)
            .filter_map(|id| Some((id, self.get(id)?)))
            .find(|(_, t)| kinds.contains(&t.kind) && self.is_named(t.name, name))
    }

    /// The id of a structure.
    pub(super) fn structure(&self, name: &str) -> Option<u32> {
        self.find(&[STRUCT], name).map(|(id, _)| id)
    }

    /// The id of a kernel function.
    pub(super) fn function(&self, name: &str) -> Option<u32> {
        self.find(&[FUNC], name).map(|(id, _)| id)
    }

    /// Bytes from the start of `structure` to a field, given as a path through embedded
    /// structures, such as `thread_info.status`. Fields of anonymous members are found like the
    /// structure's own, as in C.
    pub(super) fn field(&self, structure: &str, path: &str) -> Option<u32> {
        let (_, mut inside) = self.find(&[STRUCT, UNION], structure)?;
        let mut offset = 0_u32;
        for (depth, name) in path.split('.').enumerate() {
            if depth > 0 {
                inside = self.strip(inside)?;
            }
            let (bits, kind) = self.member(inside, name, DEPTH)?;
            if bits % 8 != 0 {
                return None;
            }
            offset = offset.checked_add(bits / 8)?;
            inside = self.get(kind)?;
        }
        Some(offset)
    }

    /// As [`Btf::field`], where its absence means that we do not know this kernel.
    ///
    /// # Errors
    /// [`Error::Malformed`] naming the field.
    pub(super) fn need(&self, structure: &str, path: &str) -> Result<i16> {
        self.field(structure, path)
            .and_then(|offset| i16::try_from(offset).ok())
            .ok_or_else(|| malformed(format!("no field {path} in struct {structure}")))
    }

    /// Looks through typedefs and qualifiers.
    fn strip(&self, mut t: Type) -> Option<Type> {
        for _ in 0..DEPTH {
            match t.kind {
                8..=11 | 18 => t = self.get(t.refers)?,
                _ => return Some(t),
            }
        }
        None
    }

    /// Bit offset and type of a member.
    fn member(&self, inside: Type, name: &str, depth: u32) -> Option<(u32, u32)> {
        if !matches!(inside.kind, STRUCT | UNION) || depth == 0 {
            return None;
        }
        for n in 0..inside.members as usize {
            let at = inside.at + 12 + 12 * n;
            let (called, kind) = (word(&self.data, at)?, word(&self.data, at + 4)?);
            let raw = word(&self.data, at + 8)?;
            let (bits, width) = if inside.flagged {
                (raw & 0x00ff_ffff, raw >> 24)
            } else {
                (raw, 0)
            };
            if called == 0 || self.is_named(called, "") {
                let nested = self.get(kind).and_then(|t| self.strip(t));
                if let Some((inner, kind)) = nested.and_then(|t| self.member(t, name, depth - 1)) {
                    return Some((bits.checked_add(inner)?, kind));
                }
            } else if self.is_named(called, name) {
                return (width == 0).then_some((bits, kind));
            }
        }
        None
    }
}

fn word(data: &[u8], at: usize) -> Option<u32> {
    let bytes = data.get(at..at.checked_add(4)?)?;
    Some(u32::from_le_bytes(bytes.try_into().ok()?))
}

fn read_type(data: &[u8], at: usize) -> Option<Type> {
    let info = word(data, at + 4)?;
    Some(Type {
        name: word(data, at)?,
        kind: info >> 24 & 0x1f,
        members: info & 0xffff,
        flagged: info >> 31 == 1,
        refers: word(data, at + 8)?,
        at,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// struct outer { int a; struct { int b; qualified struct inner in; }; };
    /// struct inner { int c; int d : 3; }; and a function `go`.
    fn sample() -> Vec<u8> {
        let strings = b"\0int\0outer\0inner\0a\0b\0in\0c\0d\0go\0";
        let name = |s: &str| {
            let with_end = [b"\0", s.as_bytes(), b"\0"].concat();
            let found = strings.windows(with_end.len()).position(|w| w == with_end);
            found.unwrap() as u32 + 1
        };
        let mut types: Vec<u32> = Vec::new();
        // 1: int
        types.extend([name("int"), 1 << 24, 4, 32]);
        // 2: inner, with bit fields
        types.extend([name("inner"), 1 << 31 | 4 << 24 | 2, 8]);
        types.extend([name("c"), 1, 32, name("d"), 1, 3 << 24 | 64]);
        // 3: const inner
        types.extend([0, 10 << 24, 2]);
        // 4: anonymous
        types.extend([0, 4 << 24 | 2, 16]);
        types.extend([name("b"), 1, 0, name("in"), 3, 64]);
        // 5: outer
        types.extend([name("outer"), 4 << 24 | 2, 24]);
        types.extend([name("a"), 1, 0, 0, 4, 64]);
        // 6: func
        types.extend([name("go"), 12 << 24, 1]);
        let types: Vec<u8> = types.iter().flat_map(|w| w.to_le_bytes()).collect();
        let mut out = 0x0001_eb9f_u32.to_le_bytes().to_vec();
        for w in [24, 0, types.len(), types.len(), strings.len()] {
            out.extend((w as u32).to_le_bytes());
        }
        out.extend(types);
        out.extend(strings);
        out
    }

    #[test]
    fn fields_are_found_through_anonymous_and_qualified_members() {
        let btf = Btf::parse(sample()).unwrap();
        assert_eq!(btf.field("outer", "a"), Some(0));
        assert_eq!(btf.field("outer", "b"), Some(8));
        assert_eq!(btf.field("outer", "in"), Some(16));
        assert_eq!(btf.field("outer", "in.c"), Some(20));
        assert_eq!(btf.field("inner", "d"), None, "a bit field has no offset");
        assert_eq!(btf.field("outer", "x"), None);
        assert_eq!(btf.field("oute", "a"), None);
        assert_eq!(btf.field("outer", "a.c"), None);
        assert_eq!(btf.function("go"), Some(6));
        assert_eq!(btf.function("int"), None);
        let e = btf.need("outer", "x").unwrap_err().to_string();
        assert!(e.contains("no field x in struct outer"), "{e}");
    }

    #[test]
    fn damage_is_an_error_or_an_answer_and_never_a_panic() {
        let whole = sample();
        for length in 0..whole.len() {
            let _ = Btf::parse(whole[..length].to_vec());
        }
        for at in 0..whole.len() {
            for value in [0, 1, 4, 0x7f, 0x80, 0xff] {
                let mut bytes = whole.clone();
                bytes[at] = value;
                if let Ok(btf) = Btf::parse(bytes) {
                    let _ = btf.field("outer", "in.c");
                    let _ = btf.function("go");
                }
            }
        }
    }

    #[test]
    fn a_structure_inside_itself_ends() {
        let mut bytes = sample();
        // The anonymous structure's second member becomes anonymous and of its own type.
        let at = 24 + 16 + 36 + 12 + 12 + 12;
        bytes[at..at + 4].copy_from_slice(&0_u32.to_le_bytes());
        bytes[at + 4..at + 8].copy_from_slice(&4_u32.to_le_bytes());
        let btf = Btf::parse(bytes).unwrap();
        assert_eq!(btf.field("outer", "nowhere"), None);
    }

    #[test]
    fn this_kernel_describes_what_we_ask() {
        let btf = match Btf::of_the_kernel() {
            Ok(btf) => btf,
            Err(e) => return println!("SKIPPED: {e}"),
        };
        for (structure, path) in [
            ("task_struct", "pid"),
            ("task_struct", "tgid"),
            ("task_struct", "mm"),
            ("task_struct", "thread_info.status"),
            ("mm_struct", "pgd"),
        ] {
            assert!(btf.field(structure, path).is_some(), "{structure}.{path}");
        }
        assert_eq!(btf.field("task_struct", "no_such_field"), None);
        assert!(btf.function("do_exit").is_some());
    }
}
