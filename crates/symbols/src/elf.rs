//! ELF files, section by section.
//!
//! Sections are read when they are asked for and not before: a library's debug information may be
//! a hundred times the size of what a question needs. Only what this project can meet is accepted:
//! 64-bit, little-endian, x86-64. Every length is checked against the file before anything is
//! allocated for it.

use crate::files::Source;
use crate::inflate;
use gimli::{EndianArcSlice, LittleEndian};
use object::LittleEndian as Le;
use object::elf::{self, FileHeader64, ProgramHeader64, SectionHeader64};
use object::pod;
use std::io;
use std::sync::{Arc, OnceLock};

/// Bytes of a section, cheap to clone and to cut.
pub type Slice = EndianArcSlice<LittleEndian>;

/// Largest section that is read, bytes, after decompression.
pub const LARGEST_SECTION: u64 = 4 << 30;

/// What is wrong with an object file.
#[derive(Clone, Debug, PartialEq, Eq, thiserror::Error)]
pub enum ElfError {
    /// Another format.
    #[error("it is not an ELF file")]
    NotElf,
    /// Another class, byte order or machine.
    #[error("it is not for x86-64")]
    Machine,
    /// Damage.
    #[error("its {0} is damaged")]
    Damaged(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(String),
    /// A section beyond [`LARGEST_SECTION`].
    #[error("its {name} would be {size} bytes, more than is read")]
    TooLarge {
        /// The section.
        name: String,
        /// Bytes.
        size: u64,
    },
}

impl From<io::Error> for ElfError {
    fn from(error: io::Error) -> Self {
        Self::Io(error.to_string())
    }
}

/// A loadable segment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Segment {
    /// First address, as the file says.
    pub address: u64,
    /// Bytes in memory.
    pub memory: u64,
    /// Where it begins in the file.
    pub offset: u64,
    /// Bytes in the file.
    pub file: u64,
    /// Whether it holds code.
    pub execute: bool,
}

#[derive(Debug)]
struct Section {
    name: String,
    kind: u32,
    compressed: bool,
    address: u64,
    offset: u64,
    size: u64,
    bytes: OnceLock<Result<Slice, ElfError>>,
}

/// A name and a checksum or build-id that lead to another file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Link<T> {
    /// File name or path.
    pub name: Vec<u8>,
    /// What proves that a file is the one meant.
    pub proof: T,
}

/// An ELF file.
#[derive(Debug)]
pub struct Elf {
    source: Arc<dyn Source>,
    segments: Vec<Segment>,
    /// (type, address, offset, bytes in the file) of the other segments that matter.
    others: Vec<(u32, u64, u64, u64)>,
    thread_local: Option<(u64, u64, u64)>,
    sections: Vec<Section>,
    build_id: Option<Vec<u8>>,
    /// Whether its addresses are final: not position-independent.
    fixed: bool,
}

impl Elf {
    /// Reads headers and build-id.
    ///
    /// # Errors
    /// If it is no ELF file for x86-64, or its headers are damaged. Damage to sections shows when
    /// they are read.
    pub fn open(source: Arc<dyn Source>) -> Result<Self, ElfError> {
        let mut head = [0; size_of::<FileHeader64<Le>>()];
        source.read_at(0, &mut head).map_err(|_| ElfError::NotElf)?;
        let (header, _) =
            pod::from_bytes::<FileHeader64<Le>>(&head).map_err(|()| ElfError::NotElf)?;
        if header.e_ident.magic != elf::ELFMAG {
            return Err(ElfError::NotElf);
        }
        let machine = header.e_machine.get(Le);
        if header.e_ident.class != elf::ELFCLASS64
            || header.e_ident.data != elf::ELFDATA2LSB
            || machine != elf::EM_X86_64
        {
            return Err(ElfError::Machine);
        }
        let mut file = Self {
            source,
            segments: Vec::new(),
            others: Vec::new(),
            thread_local: None,
            sections: Vec::new(),
            build_id: None,
            fixed: header.e_type.get(Le) == elf::ET_EXEC,
        };
        file.read_segments(header)?;
        file.read_sections(header)?;
        file.build_id = file.find_build_id();
        Ok(file)
    }

    fn read_segments(&mut self, header: &FileHeader64<Le>) -> Result<(), ElfError> {
        let count = u64::from(header.e_phnum.get(Le));
        let size = size_of::<ProgramHeader64<Le>>() as u64;
        if count == 0 {
            return Ok(());
        }
        if u64::from(header.e_phentsize.get(Le)) != size {
            return Err(ElfError::Damaged("table of segments".to_owned()));
        }
        let table = self.raw("table of segments", header.e_phoff.get(Le), count * size)?;
        let segments = pod::slice_from_all_bytes::<ProgramHeader64<Le>>(&table)
            .map_err(|()| ElfError::Damaged("table of segments".to_owned()))?;
        for s in segments {
            let kind = s.p_type.get(Le);
            let (address, offset) = (s.p_vaddr.get(Le), s.p_offset.get(Le));
            let (memory, file) = (s.p_memsz.get(Le), s.p_filesz.get(Le));
            if kind == elf::PT_LOAD {
                let fits = address.checked_add(memory).is_some()
                    && offset.checked_add(file).is_some()
                    && file <= memory;
                if !fits {
                    return Err(ElfError::Damaged("table of segments".to_owned()));
                }
                self.segments.push(Segment {
                    address,
                    memory,
                    offset,
                    file,
                    execute: s.p_flags.get(Le).contains(elf::PF_X),
                });
            } else {
                if kind == elf::PT_TLS {
                    self.thread_local = Some((memory, s.p_align.get(Le), address));
                }
                self.others.push((kind.0, address, offset, file));
            }
        }
        Ok(())
    }

    fn read_sections(&mut self, header: &FileHeader64<Le>) -> Result<(), ElfError> {
        let damaged = || ElfError::Damaged("table of sections".to_owned());
        let at = header.e_shoff.get(Le);
        let size = size_of::<SectionHeader64<Le>>() as u64;
        if at == 0 {
            return Ok(());
        }
        if u64::from(header.e_shentsize.get(Le)) != size {
            return Err(damaged());
        }
        let mut count = u64::from(header.e_shnum.get(Le));
        let mut names = u64::from(header.e_shstrndx.get(Le).0);
        // Numbers that do not fit stand in the first entry.
        if count == 0 || names == u64::from(elf::SHN_XINDEX.0) {
            let first = self.raw("table of sections", at, size)?;
            let (first, _) =
                pod::from_bytes::<SectionHeader64<Le>>(&first).map_err(|()| damaged())?;
            if count == 0 {
                count = first.sh_size.get(Le);
            }
            if names == u64::from(elf::SHN_XINDEX.0) {
                names = u64::from(first.sh_link.get(Le));
            }
        }
        let bytes = count.checked_mul(size).ok_or_else(damaged)?;
        let table = self.raw("table of sections", at, bytes)?;
        let headers =
            pod::slice_from_all_bytes::<SectionHeader64<Le>>(&table).map_err(|()| damaged())?;
        let names = usize::try_from(names)
            .ok()
            .and_then(|n| headers.get(n))
            .ok_or_else(damaged)?;
        let names = self.raw(
            "section names",
            names.sh_offset.get(Le),
            names.sh_size.get(Le),
        )?;
        for h in headers {
            let at = h.sh_name.get(Le) as usize;
            let name = names.get(at..).unwrap_or_default();
            // Real names are short; without a limit, many sections could share one huge name.
            let end = name.iter().take(256).position(|b| *b == 0);
            let name = name.get(..end.unwrap_or(0)).unwrap_or_default();
            self.sections.push(Section {
                name: String::from_utf8_lossy(name).into_owned(),
                kind: h.sh_type.get(Le).0,
                compressed: h.sh_flags.get(Le).contains(elf::SHF_COMPRESSED),
                address: h.sh_addr.get(Le),
                offset: h.sh_offset.get(Le),
                size: h.sh_size.get(Le),
                bytes: OnceLock::new(),
            });
        }
        Ok(())
    }

    /// Bytes of the file as they stand in it.
    fn raw(&self, what: &str, offset: u64, size: u64) -> Result<Arc<[u8]>, ElfError> {
        let end = offset.checked_add(size);
        if end.is_none_or(|end| end > self.source.len()) {
            return Err(ElfError::Damaged(what.to_owned()));
        }
        if size > LARGEST_SECTION {
            let name = what.to_owned();
            return Err(ElfError::TooLarge { name, size });
        }
        let length = usize::try_from(size).map_err(|_| ElfError::Damaged(what.to_owned()))?;
        let mut bytes: Arc<[u8]> = std::iter::repeat_n(0, length).collect();
        // Nobody else has it yet.
        if let Some(out) = Arc::get_mut(&mut bytes) {
            self.source.read_at(offset, out)?;
        }
        Ok(bytes)
    }

    /// Loadable segments, in the order of the file.
    pub fn segments(&self) -> &[Segment] {
        &self.segments
    }

    /// Whether its addresses are final: an executable that is not position-independent.
    pub const fn is_fixed(&self) -> bool {
        self.fixed
    }

    /// GNU build-id.
    pub fn build_id(&self) -> Option<&[u8]> {
        self.build_id.as_deref()
    }

    /// Where its bytes come from.
    pub const fn source(&self) -> &Arc<dyn Source> {
        &self.source
    }

    /// A section, decompressed; `None` if the file has none of that name with content.
    ///
    /// # Errors
    /// If it is damaged or too large.
    pub fn section(&self, name: &str) -> Result<Option<Slice>, ElfError> {
        match self.find(name) {
            Some((section, old)) => self.load(section, old).map(Some),
            None => Ok(None),
        }
    }

    /// Address of a section, whether it has content or not.
    pub fn section_address(&self, name: &str) -> Option<u64> {
        let found = self.sections.iter().find(|s| s.name == name);
        found.map(|s| s.address).filter(|a| *a != 0)
    }

    /// The section of a name, or its form from before compression was standard (`.zdebug_`).
    fn find(&self, name: &str) -> Option<(&Section, bool)> {
        let there = |s: &&Section| s.kind != elf::SHT_NOBITS.0 && s.kind != elf::SHT_NULL.0;
        let mut sections = self.sections.iter().filter(there);
        if let Some(found) = sections.clone().find(|s| s.name == name) {
            return Some((found, false));
        }
        let rest = name.strip_prefix(".debug_")?;
        let old = sections.find(|s| s.name.strip_prefix(".zdebug_") == Some(rest))?;
        Some((old, true))
    }

    fn load(&self, section: &Section, old: bool) -> Result<Slice, ElfError> {
        let load = || {
            let bytes = self.raw(&section.name, section.offset, section.size)?;
            let bytes = if old {
                inflate::gnu(&bytes, &section.name)?
            } else if section.compressed {
                inflate::section(&bytes, &section.name)?
            } else {
                bytes
            };
            Ok(Slice::new(bytes, LittleEndian))
        };
        section.bytes.get_or_init(load).clone()
    }

    /// Bytes at an address of the file's own, as far as one segment has them in the file.
    ///
    /// # Errors
    /// If no segment has them all.
    pub fn at_address(&self, address: u64, size: u64) -> Result<Arc<[u8]>, ElfError> {
        for s in &self.segments {
            let within = match address.checked_sub(s.address) {
                Some(within) if within <= s.file && size <= s.file - within => within,
                _ => continue,
            };
            return self.raw("segment", s.offset.saturating_add(within), size);
        }
        Err(ElfError::Damaged("segment".to_owned()))
    }

    /// Bytes from an address of the file's own to the end of what its segment has in the file.
    ///
    /// # Errors
    /// If no segment has them.
    pub fn rest_of_segment(&self, address: u64) -> Result<Arc<[u8]>, ElfError> {
        let mut segments = self.segments.iter();
        let rest = segments.find_map(|s| {
            let within = address.checked_sub(s.address)?;
            s.file.checked_sub(within).filter(|rest| *rest > 0)
        });
        match rest {
            Some(rest) => self.at_address(address, rest),
            None => Err(ElfError::Damaged("segment".to_owned())),
        }
    }

    /// (address, bytes) of the segment PT_GNU_EH_FRAME.
    pub fn eh_frame_header(&self) -> Option<(u64, u64)> {
        let mut others = self.others.iter();
        let found = others.find(|o| o.0 == elf::PT_GNU_EH_FRAME.0)?;
        Some((found.1, found.3))
    }

    /// The block of thread-local variables that every thread has: (bytes, alignment, address of its
    /// image).
    pub const fn thread_local(&self) -> Option<(u64, u64, u64)> {
        self.thread_local
    }

    fn find_build_id(&self) -> Option<Vec<u8>> {
        // Far beyond any note there is; a file that claims more has no build-id for us.
        const LONGEST: u64 = 1 << 20;
        let segments = self
            .others
            .iter()
            .filter(|o| o.0 == elf::PT_NOTE.0)
            .map(|o| (o.2, o.3));
        let sections = self
            .sections
            .iter()
            .filter(|s| s.kind == elf::SHT_NOTE.0)
            .map(|s| (s.offset, s.size));
        // Separate debug files keep the table of segments of their originals, whose offsets mean
        // nothing in them, so sections come first.
        sections
            .chain(segments)
            .filter(|(_, size)| *size <= LONGEST)
            .take(64)
            .filter_map(|(offset, size)| self.raw("note", offset, size).ok())
            .find_map(|notes| build_id_of(&notes))
    }

    /// Name and CRC-32 of a separate debug file (`.gnu_debuglink`).
    pub fn debug_link(&self) -> Option<Link<u32>> {
        let bytes = self.section(".gnu_debuglink").ok()??;
        let bytes = bytes.bytes();
        let end = bytes.iter().position(|b| *b == 0)?;
        let at = (end + 4) & !3;
        let proof = u32::from_le_bytes(bytes.get(at..at.checked_add(4)?)?.try_into().ok()?);
        let name = bytes[..end].to_vec();
        (!name.is_empty()).then_some(Link { name, proof })
    }

    /// Path and build-id of the file with what several debug files share
    /// (`.gnu_debugaltlink`, made by dwz).
    pub fn supplementary_link(&self) -> Option<Link<Vec<u8>>> {
        let bytes = self.section(".gnu_debugaltlink").ok()??;
        let bytes = bytes.bytes();
        let end = bytes.iter().position(|b| *b == 0)?;
        Some(Link {
            name: bytes[..end].to_vec(),
            proof: bytes[end + 1..].to_vec(),
        })
    }
}

/// The build-id among notes.
fn build_id_of(mut notes: &[u8]) -> Option<Vec<u8>> {
    let word = |at: usize, b: &[u8]| -> Option<usize> {
        let bytes = b.get(at..at + 4)?.try_into().ok()?;
        usize::try_from(u32::from_le_bytes(bytes)).ok()
    };
    loop {
        let (name, desc, kind) = (word(0, notes)?, word(4, notes)?, word(8, notes)?);
        let at = 12usize.checked_add(name.checked_next_multiple_of(4)?)?;
        let content = notes.get(at..at.checked_add(desc)?)?;
        if kind == 3 && notes.get(12..16) == Some(b"GNU\0") && name == 4 {
            return (!content.is_empty()).then(|| content.to_vec());
        }
        notes = notes.get(at.checked_add(desc.checked_next_multiple_of(4)?)?..)?;
    }
}
