//! Versioned encodings of the parts of a checkpoint.
//!
//! A section is `kind: u8, version: u8`, then the postcard encoding of the part. The store keeps
//! sections as opaque bytes with a checksum, so that an unchanged part is written once; it is this
//! module that knows what is inside. docs/format.md lists the fields.

use crate::file::{self, MAX_FILES, WrittenFile};
use crate::tree::{MAX_PROCESSES, TreeError};
use crate::{
    Account, AddressSpace, Descriptors, Gap, Objects, Point, Process, SpaceId, Thread, Tree,
};
use serde::{Serialize, de::DeserializeOwned};

/// Most points in one checkpoint.
pub const MAX_POINTS: usize = 65_536;

/// The parts of a checkpoint that are encoded apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SectionKind {
    /// [`AddressSpace`] of a process.
    Space = 1,
    /// `Vec<`[`Thread`]`>` of a process.
    Threads = 2,
    /// [`Descriptors`] of a process.
    Descriptors = 3,
    /// [`Process`].
    Process = 4,
    /// `Vec<`[`Gap`]`>` of a process.
    Gaps = 5,
    /// [`Tree`] of the checkpoint.
    Tree = 6,
    /// [`Account`] of the checkpoint.
    Account = 7,
    /// `Vec<`[`Point`]`>` of the checkpoint.
    Points = 8,
    /// [`Objects`] of a process.
    Objects = 9,
    /// `Vec<`[`WrittenFile`]`>` of the checkpoint.
    Files = 10,
}

impl SectionKind {
    /// All kinds, in their order.
    pub const ALL: [Self; 10] = [
        Self::Space,
        Self::Threads,
        Self::Descriptors,
        Self::Process,
        Self::Gaps,
        Self::Tree,
        Self::Account,
        Self::Points,
        Self::Objects,
        Self::Files,
    ];

    /// Those of which each process has one.
    pub const OF_PROCESS: [Self; 6] = [
        Self::Space,
        Self::Threads,
        Self::Descriptors,
        Self::Process,
        Self::Gaps,
        Self::Objects,
    ];

    /// Those of which a checkpoint has one.
    pub const OF_CHECKPOINT: [Self; 4] = [Self::Tree, Self::Account, Self::Points, Self::Files];

    /// Whether it may be missing, and then says nothing.
    pub const fn may_be_absent(self) -> bool {
        matches!(self, Self::Objects | Self::Files)
    }

    /// From its number on disk.
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == byte)
    }
}

/// Which section of a checkpoint: of which process, and of what kind. Sections of the checkpoint as
/// a whole stand under process 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct SectionKey {
    /// The process.
    pub process: SpaceId,
    /// The kind.
    pub kind: SectionKind,
}

impl SectionKey {
    /// A section of a process.
    pub const fn of(process: SpaceId, kind: SectionKind) -> Self {
        Self { process, kind }
    }

    /// A section of the checkpoint as a whole.
    pub const fn whole(kind: SectionKind) -> Self {
        Self::of(SpaceId(0), kind)
    }

    /// As a number: `process << 8 | kind`. Orders as keys do.
    pub const fn to_u64(self) -> u64 {
        (self.process.0 as u64) << 8 | self.kind as u64
    }

    /// From its number; `None` if that is not one.
    pub fn from_u64(number: u64) -> Option<Self> {
        let process = SpaceId(u32::try_from(number >> 8).ok()?);
        let kind = SectionKind::from_u8((number & 0xff) as u8)?;
        let whole = SectionKind::OF_CHECKPOINT.contains(&kind);
        (!whole || process == SpaceId(0)).then_some(Self { process, kind })
    }
}

/// Version that this build writes, for every kind.
pub const VERSION: u8 = 1;

/// A part of a checkpoint that has an encoding.
pub trait Section: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: SectionKind;
    /// Most elements, for a kind that is a list of bounded length. Its encoding begins with their
    /// number, which is looked at before memory is taken for them.
    const MOST: usize = usize::MAX;

    /// Whether the value is one that a checkpoint can hold, beyond what its type says.
    ///
    /// # Errors
    /// If it is not.
    fn check(&self) -> Result<(), SectionError> {
        Ok(())
    }

    /// Encodes it.
    ///
    /// # Errors
    /// [`Section::check`], or if the encoder runs out of memory.
    fn encode(&self) -> Result<Vec<u8>, SectionError> {
        self.check()?;
        postcard::to_extend(self, vec![Self::KIND as u8, VERSION])
            .map_err(|e| SectionError::Malformed(Self::KIND, e))
    }

    /// Decodes it. Trailing bytes are an error, so that damage cannot hide behind a valid prefix.
    ///
    /// # Errors
    /// If the bytes are another section, another version, or not an encoding; [`Section::check`].
    fn decode(bytes: &[u8]) -> Result<Self, SectionError> {
        let [kind, version, body @ ..] = bytes else {
            return Err(SectionError::Truncated);
        };
        if *kind != Self::KIND as u8 {
            return Err(SectionError::Kind {
                expected: Self::KIND,
                found: *kind,
            });
        }
        if *version != VERSION {
            return Err(SectionError::Version {
                kind: Self::KIND,
                found: *version,
            });
        }
        if Self::MOST < usize::MAX {
            let (count, _): (u64, _) = postcard::take_from_bytes(body)
                .map_err(|e| SectionError::Malformed(Self::KIND, e))?;
            if count > Self::MOST as u64 {
                return Err(SectionError::TooMany(Self::KIND, count, Self::MOST));
            }
        }
        let (value, rest): (Self, _) =
            postcard::take_from_bytes(body).map_err(|e| SectionError::Malformed(Self::KIND, e))?;
        if !rest.is_empty() {
            return Err(SectionError::Trailing(Self::KIND));
        }
        value.check()?;
        Ok(value)
    }
}

impl Section for AddressSpace {
    const KIND: SectionKind = SectionKind::Space;
}
impl Section for Vec<Thread> {
    const KIND: SectionKind = SectionKind::Threads;
}
impl Section for Descriptors {
    const KIND: SectionKind = SectionKind::Descriptors;
}
impl Section for Objects {
    const KIND: SectionKind = SectionKind::Objects;
}
impl Section for Process {
    const KIND: SectionKind = SectionKind::Process;
}
impl Section for Vec<Gap> {
    const KIND: SectionKind = SectionKind::Gaps;
}
impl Section for Tree {
    const KIND: SectionKind = SectionKind::Tree;
    const MOST: usize = MAX_PROCESSES;

    fn check(&self) -> Result<(), SectionError> {
        Self::check(self).map_err(SectionError::Tree)
    }
}
impl Section for Account {
    const KIND: SectionKind = SectionKind::Account;
}
impl Section for Vec<Point> {
    const KIND: SectionKind = SectionKind::Points;
    const MOST: usize = MAX_POINTS;

    fn check(&self) -> Result<(), SectionError> {
        match self.len() {
            n if n > MAX_POINTS => Err(SectionError::TooMany(Self::KIND, n as u64, MAX_POINTS)),
            _ => Ok(()),
        }
    }
}

impl Section for Vec<WrittenFile> {
    const KIND: SectionKind = SectionKind::Files;
    const MOST: usize = MAX_FILES;

    fn check(&self) -> Result<(), SectionError> {
        match self.len() {
            n if n > MAX_FILES => Err(SectionError::TooMany(Self::KIND, n as u64, MAX_FILES)),
            _ if file::well_formed(self) => Ok(()),
            _ => Err(SectionError::Files),
        }
    }
}

/// A section that cannot be read.
#[derive(Debug, thiserror::Error)]
pub enum SectionError {
    /// Shorter than its header.
    #[error("section is shorter than its header")]
    Truncated,
    /// Another kind.
    #[error("expected a {expected:?} section, found kind {found}")]
    Kind {
        /// What was asked for.
        expected: SectionKind,
        /// What is there.
        found: u8,
    },
    /// A version this build does not know.
    #[error("{kind:?} section has version {found}, this build reads {VERSION}")]
    Version {
        /// Which section.
        kind: SectionKind,
        /// Its version.
        found: u8,
    },
    /// Not an encoding of the part.
    #[error("{0:?} section is malformed: {1}")]
    Malformed(SectionKind, #[source] postcard::Error),
    /// Bytes after the end.
    #[error("{0:?} section has bytes after its end")]
    Trailing(SectionKind),
    /// Not a tree of processes.
    #[error("the list of processes is wrong: {0}")]
    Tree(#[source] TreeError),
    /// Not a list of files.
    #[error("the list of written files is out of order or names what is none")]
    Files,
    /// More elements than a checkpoint can hold.
    #[error("{0:?} section has {1} elements, and a checkpoint holds {2} at most")]
    TooMany(SectionKind, u64, usize),
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::tree::Node;

    #[test]
    fn keys_come_back_and_order_as_their_numbers() {
        let mut all = Vec::new();
        for process in [0, 1, 7, u32::MAX].map(SpaceId) {
            for kind in SectionKind::ALL {
                let key = SectionKey::of(process, kind);
                let whole = SectionKind::OF_CHECKPOINT.contains(&kind);
                let want = (!whole || process.0 == 0).then_some(key);
                assert_eq!(SectionKey::from_u64(key.to_u64()), want);
                all.push(key);
            }
        }
        assert!(all.is_sorted());
        assert!(all.is_sorted_by_key(|k| k.to_u64()));
        for wrong in [0, 11, 256, 1 << 40 | 1, u64::MAX] {
            assert_eq!(SectionKey::from_u64(wrong), None);
        }
        let mut kinds = SectionKind::OF_PROCESS.to_vec();
        kinds.extend(SectionKind::OF_CHECKPOINT);
        kinds.sort_unstable();
        assert_eq!(kinds, SectionKind::ALL);
    }

    #[test]
    fn what_no_checkpoint_holds_is_neither_written_nor_read() {
        let circle = Tree {
            processes: vec![Node {
                id: SpaceId(0),
                parent: Some(SpaceId(0)),
            }],
        };
        assert!(matches!(circle.encode(), Err(SectionError::Tree(_))));
        let bytes = [6, VERSION, 1, 0, 1, 0];
        assert!(matches!(Tree::decode(&bytes), Err(SectionError::Tree(_))));
        assert!(Tree::decode(&[6, VERSION, 1, 0, 0]).is_ok());
        let many = vec![Point::default(); MAX_POINTS + 1];
        assert!(matches!(many.encode(), Err(SectionError::TooMany(..))));
        let bytes = many[1..].to_vec().encode().unwrap();
        assert_eq!(Vec::<Point>::decode(&bytes).unwrap().len(), MAX_POINTS);
        // A count beyond the bound is refused for what it is, before its elements are looked at.
        for (kind, most) in [(6, MAX_PROCESSES), (8, MAX_POINTS)] {
            let body = postcard::to_allocvec(&(most as u64 + 1)).unwrap();
            let bytes = [&[kind, VERSION], &body[..]].concat();
            let error = match kind {
                6 => Tree::decode(&bytes).map(drop).unwrap_err(),
                _ => Vec::<Point>::decode(&bytes).map(drop).unwrap_err(),
            };
            assert!(matches!(error, SectionError::TooMany(..)), "{error}");
        }
    }
}
