//! Versioned encodings of the parts of a checkpoint.
//!
//! A section is `kind: u8, version: u8`, then the postcard encoding of the part. The store keeps
//! sections as opaque bytes with a checksum, so that an unchanged part is written once; it is this
//! module that knows what is inside. docs/format.md lists the fields.

use crate::{AddressSpace, Descriptors, Gap, Process, Thread};
use serde::{Serialize, de::DeserializeOwned};

/// The parts of a checkpoint that are encoded apart from each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
#[repr(u8)]
pub enum SectionKind {
    /// [`AddressSpace`].
    Space = 1,
    /// `Vec<`[`Thread`]`>`.
    Threads = 2,
    /// [`Descriptors`].
    Descriptors = 3,
    /// [`Process`].
    Process = 4,
    /// `Vec<`[`Gap`]`>`.
    Gaps = 5,
}

impl SectionKind {
    /// All kinds, in their order.
    pub const ALL: [Self; 5] = [
        Self::Space,
        Self::Threads,
        Self::Descriptors,
        Self::Process,
        Self::Gaps,
    ];

    /// From its number on disk.
    pub fn from_u8(byte: u8) -> Option<Self> {
        Self::ALL.into_iter().find(|k| *k as u8 == byte)
    }
}

/// Version that this build writes, for every kind.
pub const VERSION: u8 = 1;

/// A part of a checkpoint that has an encoding.
pub trait Section: Serialize + DeserializeOwned {
    /// Its kind.
    const KIND: SectionKind;

    /// Encodes it.
    ///
    /// # Errors
    /// Only if the encoder runs out of memory or a collection is not serialisable; none of ours is.
    fn encode(&self) -> Result<Vec<u8>, SectionError> {
        postcard::to_extend(self, vec![Self::KIND as u8, VERSION])
            .map_err(|e| SectionError::Malformed(Self::KIND, e))
    }

    /// Decodes it. Trailing bytes are an error, so that damage cannot hide behind a valid prefix.
    ///
    /// # Errors
    /// If the bytes are another section, another version, or not an encoding.
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
        let (value, rest) =
            postcard::take_from_bytes(body).map_err(|e| SectionError::Malformed(Self::KIND, e))?;
        if rest.is_empty() {
            Ok(value)
        } else {
            Err(SectionError::Trailing(Self::KIND))
        }
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
impl Section for Process {
    const KIND: SectionKind = SectionKind::Process;
}
impl Section for Vec<Gap> {
    const KIND: SectionKind = SectionKind::Gaps;
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
}
