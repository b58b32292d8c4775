//! Names for numbers: which mapping an address is in, which process a space is, what a thread is
//! called.
//!
//! Reading the mappings of every checkpoint would cost more than all the rest, and they seldom
//! change. So a few checkpoints across the recording are looked at, and the newest that knows an
//! address names it.

use std::collections::{BTreeMap, HashMap};
use stillframe_image::{AddressSpace, Process, SpaceId, Thread};

/// Longest name kept, characters.
const LONGEST: usize = 160;
/// Most threads named.
const THREADS: usize = 8192;
/// Most mappings kept.
const MAPPINGS: usize = 1 << 20;

#[derive(Clone, Debug)]
struct Place {
    start: u64,
    end: u64,
    writable: bool,
    name: u32,
}

/// What is known of names.
#[derive(Clone, Debug, Default)]
pub struct Names {
    /// By space: mappings of each look, the newest last.
    looks: BTreeMap<SpaceId, Vec<Vec<Place>>>,
    mappings: usize,
    texts: Vec<String>,
    by_text: HashMap<String, u32>,
    processes: BTreeMap<SpaceId, String>,
    threads: BTreeMap<u32, String>,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes)
        .chars()
        .take(LONGEST)
        .collect()
}

impl Names {
    /// Takes in a process of a checkpoint. Call in ascending order of checkpoint.
    pub fn look(
        &mut self,
        id: SpaceId,
        space: &AddressSpace,
        process: &Process,
        threads: &[Thread],
    ) {
        let mut places = Vec::new();
        for m in &space.mappings {
            if m.is_empty() || self.mappings >= MAPPINGS {
                continue;
            }
            self.mappings += 1;
            let name = if m.name.is_empty() {
                "anonymous".to_owned()
            } else {
                text(&m.name)
            };
            let name = self.intern(name);
            places.push(Place {
                start: m.start,
                end: m.end,
                writable: m.write,
                name,
            });
        }
        self.looks.entry(id).or_default().push(places);
        let label = format!("{} ({})", text(&process.name), process.pid);
        self.processes.insert(id, label);
        for thread in threads {
            if self.threads.len() < THREADS {
                self.threads.insert(thread.tid, text(&thread.name));
            }
        }
    }

    fn intern(&mut self, name: String) -> u32 {
        if let Some(known) = self.by_text.get(&name) {
            return *known;
        }
        let number = self.texts.len() as u32;
        self.texts.push(name.clone());
        self.by_text.insert(name, number);
        number
    }

    /// What `start..end` of a space mostly is: the name of the mapping with the most of it, writable
    /// ones first, and how many other names are in the range.
    pub fn of_range(&self, space: SpaceId, start: u64, end: u64) -> (String, usize) {
        let looks = self.looks.get(&space).map_or(&[][..], Vec::as_slice);
        for look in looks.iter().rev() {
            let from = look.partition_point(|p| p.end <= start);
            let inside = look[from..].iter().take_while(|p| p.start < end);
            let mut sizes: BTreeMap<(bool, u32), u64> = BTreeMap::new();
            for p in inside {
                let bytes = p.end.min(end).saturating_sub(p.start.max(start));
                *sizes.entry((p.writable, p.name)).or_default() += bytes;
            }
            let best = sizes
                .iter()
                .max_by_key(|((writable, _), bytes)| (*writable, **bytes));
            if let Some(((writable, name), _)) = best {
                let others = sizes
                    .keys()
                    .filter(|(w, n)| *w == *writable && n != name)
                    .count();
                return (self.texts[*name as usize].clone(), others);
            }
        }
        ("unmapped since".to_owned(), 0)
    }

    /// A process: its name and pid.
    pub fn of_process(&self, space: SpaceId) -> String {
        let known = self.processes.get(&space).cloned();
        known.unwrap_or_else(|| format!("process {}", space.0))
    }

    /// A thread's name; empty if not known.
    pub fn of_thread(&self, tid: u32) -> &str {
        self.threads.get(&tid).map_or("", String::as_str)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::{Coverage, Mapping, MappingKind};

    fn mapping(start: u64, end: u64, name: &str, write: bool) -> Mapping {
        Mapping {
            start,
            end,
            read: true,
            write,
            execute: false,
            shared: false,
            offset: 0,
            device: (0, 0),
            inode: 0,
            name: name.as_bytes().to_vec(),
            kind: MappingKind::Anonymous,
            coverage: Coverage::Tracked,
            file: None,
        }
    }

    fn space(mappings: Vec<Mapping>) -> AddressSpace {
        AddressSpace {
            mappings,
            ..AddressSpace::default()
        }
    }

    #[test]
    fn the_newest_look_that_knows_names_a_range() {
        let mut names = Names::default();
        let process = Process {
            name: b"prog".to_vec(),
            pid: 7,
            ..Process::default()
        };
        let first = space(vec![
            mapping(0x1000, 0x9000, "old", true),
            mapping(0x20_0000, 0x30_0000, "gone", true),
        ]);
        names.look(SpaceId(0), &first, &process, &[]);
        let second = space(vec![
            mapping(0x1000, 0x8000, "text", false),
            mapping(0x8000, 0x9000, "[heap]", true),
            mapping(0x9000, 0x9800, "", true),
        ]);
        names.look(SpaceId(0), &second, &process, &[]);
        let of = |a, b| names.of_range(SpaceId(0), a, b);
        assert_eq!(of(0, 0x1_0000), ("[heap]".to_owned(), 1));
        assert_eq!(of(0x1000, 0x2000), ("text".to_owned(), 0));
        assert_eq!(of(0x20_0000, 0x20_1000), ("gone".to_owned(), 0));
        assert_eq!(of(0x9000, 0xa000), ("anonymous".to_owned(), 0));
        assert_eq!(of(1 << 40, u64::MAX).0, "unmapped since");
        assert_eq!(names.of_process(SpaceId(0)), "prog (7)");
        assert_eq!(names.of_process(SpaceId(3)), "process 3");
    }
}
