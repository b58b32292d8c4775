//! Commit records, and the fixed encoding of ticks that they share with the checkpoint table.

use super::Location;
use crate::bytes::{Cursor, Malformed, set_u32, set_u64};
use stillframe_image::section::{SectionKey, SectionKind};
use stillframe_image::tree::MAX_PROCESSES;
use stillframe_image::{CheckpointId, Marks, Phases, Tick};

/// Bytes of an encoded tick.
pub const TICK: usize = 128;

/// Most sections of a commit.
const SECTIONS: usize =
    MAX_PROCESSES * SectionKind::OF_PROCESS.len() + SectionKind::OF_CHECKPOINT.len();

/// Encodes a tick.
pub fn encode_tick(t: &Tick) -> [u8; TICK] {
    let mut out = [0u8; TICK];
    let Tick {
        at_ns,
        wall_ns,
        marks,
        processes,
        threads,
        skipped,
        dirty_pages,
        precopied_pages,
        untracked_pages,
        precopy_stops,
        precopy_pause_ns,
        phases,
    } = *t;
    let Phases {
        stop,
        layout,
        scan,
        threads: threads_ns,
        copy,
        state,
        resume,
    } = phases;
    set_u64(&mut out, 0, at_ns);
    set_u64(&mut out, 8, wall_ns);
    set_u32(&mut out, 16, marks.0);
    set_u32(&mut out, 20, threads);
    set_u32(&mut out, 24, skipped);
    set_u32(&mut out, 28, precopy_stops);
    let rest = [
        dirty_pages,
        precopied_pages,
        untracked_pages,
        precopy_pause_ns,
        stop,
        layout,
        scan,
        threads_ns,
        copy,
        state,
        resume,
    ];
    for (i, v) in rest.into_iter().enumerate() {
        set_u64(&mut out, 32 + 8 * i, v);
    }
    set_u32(&mut out, 120, processes);
    out
}

/// Decodes a tick.
///
/// # Errors
/// If there are fewer than [`TICK`] bytes.
pub fn decode_tick(c: &mut Cursor<'_>) -> Result<Tick, Malformed> {
    let mut c = Cursor::new(c.take(TICK)?);
    let (at_ns, wall_ns) = (c.u64()?, c.u64()?);
    let (marks, threads, skipped, precopy_stops) = (Marks(c.u32()?), c.u32()?, c.u32()?, c.u32()?);
    let mut tick = Tick {
        at_ns,
        wall_ns,
        marks,
        threads,
        skipped,
        dirty_pages: c.u64()?,
        precopied_pages: c.u64()?,
        untracked_pages: c.u64()?,
        precopy_stops,
        precopy_pause_ns: c.u64()?,
        phases: Phases {
            stop: c.u64()?,
            layout: c.u64()?,
            scan: c.u64()?,
            threads: c.u64()?,
            copy: c.u64()?,
            state: c.u64()?,
            resume: c.u64()?,
        },
        processes: 0,
    };
    tick.processes = c.u32()?;
    Ok(tick)
}

/// A commit record.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Commit {
    /// Number of the checkpoint.
    pub id: CheckpointId,
    /// Payload check of the previous commit.
    pub previous_check: u64,
    /// Where the previous commit is.
    pub previous: Location,
    /// The tick.
    pub tick: Tick,
    /// Bytes of log since the previous commit.
    pub stored_bytes: u64,
    /// Bytes of pages put.
    pub raw_bytes: u64,
    /// New versions.
    pub new_versions: u64,
    /// Duplicates.
    pub duplicates: u64,
    /// Zero pages.
    pub zeros: u64,
    /// Where the sections are, ascending by key.
    pub sections: Vec<(SectionKey, Location)>,
    /// Where the tables are, and how many entries each has.
    pub tables: Vec<(Location, u32)>,
}

impl Commit {
    /// Encodes it.
    pub fn encode(&self) -> Vec<u8> {
        let mut out = Vec::with_capacity(200 + 16 * (self.sections.len() + self.tables.len()));
        for v in [self.id.0, self.previous_check, self.previous.0] {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out.extend_from_slice(&encode_tick(&self.tick));
        for v in [
            self.stored_bytes,
            self.raw_bytes,
            self.new_versions,
            self.duplicates,
            self.zeros,
        ] {
            out.extend_from_slice(&v.to_le_bytes());
        }
        out.extend_from_slice(&(self.sections.len() as u32).to_le_bytes());
        out.extend_from_slice(&(self.tables.len() as u32).to_le_bytes());
        for (key, at) in &self.sections {
            out.extend_from_slice(&key.to_u64().to_le_bytes());
            out.extend_from_slice(&at.0.to_le_bytes());
        }
        for (at, entries) in &self.tables {
            out.extend_from_slice(&at.0.to_le_bytes());
            out.extend_from_slice(&u64::from(*entries).to_le_bytes());
        }
        out
    }

    /// Decodes it.
    ///
    /// # Errors
    /// If it is not a commit.
    pub fn decode(payload: &[u8]) -> Result<Self, Malformed> {
        let mut c = Cursor::new(payload);
        let mut commit = Self {
            id: CheckpointId(c.u64()?),
            previous_check: c.u64()?,
            previous: Location(c.u64()?),
            tick: decode_tick(&mut c)?,
            stored_bytes: c.u64()?,
            raw_bytes: c.u64()?,
            new_versions: c.u64()?,
            duplicates: c.u64()?,
            zeros: c.u64()?,
            sections: Vec::new(),
            tables: Vec::new(),
        };
        let (sections, tables) = (c.u32()? as usize, c.u32()? as usize);
        if sections > SECTIONS || c.rest().len() != (sections + tables) * 16 {
            return Err(Malformed("its lists have another length"));
        }
        for _ in 0..sections {
            let key = SectionKey::from_u64(c.u64()?).ok_or(Malformed("a section is unknown"))?;
            if commit.sections.last().is_some_and(|(last, _)| *last >= key) {
                return Err(Malformed("its sections are out of order"));
            }
            commit.sections.push((key, Location(c.u64()?)));
        }
        for _ in 0..tables {
            let at = Location(c.u64()?);
            let entries = c.u32()?;
            c.u32()?;
            commit.tables.push((at, entries));
        }
        Ok(commit)
    }

    /// Where a section is.
    pub fn section(&self, key: SectionKey) -> Option<Location> {
        let found = self.sections.binary_search_by_key(&key, |(k, _)| *k).ok()?;
        self.sections.get(found).map(|(_, at)| *at)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::SpaceId;

    #[test]
    fn commits_and_ticks_come_back() {
        let commit = Commit {
            id: CheckpointId(9),
            previous_check: 1,
            previous: Location(2),
            tick: Tick {
                at_ns: 1,
                wall_ns: 2,
                marks: Marks(3),
                processes: 18,
                threads: 4,
                skipped: 5,
                dirty_pages: 6,
                precopied_pages: 7,
                untracked_pages: 8,
                precopy_stops: 9,
                precopy_pause_ns: 10,
                phases: Phases {
                    stop: 11,
                    layout: 12,
                    scan: 13,
                    threads: 14,
                    copy: 15,
                    state: 16,
                    resume: 17,
                },
            },
            stored_bytes: 3,
            raw_bytes: 4,
            new_versions: 5,
            duplicates: 6,
            zeros: 7,
            sections: vec![
                (SectionKey::whole(SectionKind::Space), Location(48)),
                (SectionKey::whole(SectionKind::Points), Location(56)),
                (SectionKey::of(SpaceId(3), SectionKind::Gaps), Location(40)),
            ],
            tables: vec![(Location(64), 8)],
        };
        let bytes = commit.encode();
        assert_eq!(Commit::decode(&bytes).unwrap(), commit);
        for cut in 0..bytes.len() {
            assert!(Commit::decode(&bytes[..cut]).is_err());
        }
        for (key, at) in &commit.sections {
            assert_eq!(commit.section(*key), Some(*at));
        }
        let other = SectionKey::of(SpaceId(1), SectionKind::Space);
        assert_eq!(commit.section(other), None);
    }

    #[test]
    fn sections_stand_in_order_and_once() {
        let key = |n| SectionKey::of(SpaceId(n), SectionKind::Space);
        for (keys, well) in [([0, 1], true), ([1, 0], false), ([1, 1], false)] {
            let commit = Commit {
                sections: keys.map(|n| (key(n), Location(48))).to_vec(),
                ..Commit::default()
            };
            assert_eq!(Commit::decode(&commit.encode()).is_ok(), well, "{keys:?}");
        }
        let mut unknown = Commit {
            sections: vec![(key(0), Location(48))],
            ..Commit::default()
        }
        .encode();
        unknown[200] = 99;
        assert!(Commit::decode(&unknown).is_err());
    }
}
