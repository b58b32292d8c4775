//! Mappings, threads, descriptors and kernel-side state that differ.

use std::collections::BTreeMap;
use stillframe_image::{
    AddressSpace, Descriptor, Descriptors, Mapping, ProcessImage, Registers, Thread,
};

/// What became of a mapping.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum MappingChange {
    /// It came.
    Added(Mapping),
    /// It went.
    Removed(Mapping),
    /// It begins where it began and is not the same: its end, its protection, its name, how it is
    /// captured.
    Changed {
        /// What it was.
        old: Mapping,
        /// What it is.
        new: Mapping,
    },
    /// It looks the same and is other memory, at least in part: unmapped and mapped again.
    Renewed(Mapping),
}

/// Compares mappings.
pub fn mappings(old: &AddressSpace, new: &AddressSpace) -> Vec<MappingChange> {
    let key =
        |space: &AddressSpace, m: &Mapping| (m.start, space.file_of(m).map(|f| f.path.clone()));
    let by_key = |space: &AddressSpace| -> BTreeMap<_, Mapping> {
        let each = space.mappings.iter();
        each.map(|m| (key(space, m), m.clone())).collect()
    };
    let (before, after) = (by_key(old), by_key(new));
    let mut changes: BTreeMap<_, MappingChange> = BTreeMap::new();
    for (k, m) in &before {
        match after.get(k) {
            None => {
                changes.insert((k.clone(), 0), MappingChange::Removed(m.clone()));
            }
            Some(now) if !same(m, now) => {
                let change = MappingChange::Changed {
                    old: m.clone(),
                    new: now.clone(),
                };
                changes.insert((k.clone(), 0), change);
            }
            Some(now) if parts(old, m) != parts(new, now) => {
                changes.insert((k.clone(), 0), MappingChange::Renewed(now.clone()));
            }
            Some(_) => {}
        }
    }
    for (k, m) in after {
        if !before.contains_key(&k) {
            changes.insert((k, 1), MappingChange::Added(m));
        }
    }
    changes.into_values().collect()
}

/// Equal but for its place in the list of files.
fn same(a: &Mapping, b: &Mapping) -> bool {
    let plain = |m: &Mapping| Mapping {
        file: m.file.map(|_| 0),
        ..m.clone()
    };
    plain(a) == plain(b)
}

/// The generations within a mapping.
fn parts(space: &AddressSpace, mapping: &Mapping) -> Vec<(u64, u64, u64)> {
    let begin = space
        .generations
        .partition_point(|g| g.end <= mapping.start);
    let parts = space.generations.get(begin..).unwrap_or_default().iter();
    parts
        .take_while(|g| g.start < mapping.end)
        .map(|g| {
            (
                g.start.max(mapping.start),
                g.end.min(mapping.end),
                g.since.0,
            )
        })
        .collect()
}

/// What became of a thread.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum ThreadChange {
    /// It was started.
    Began(Thread),
    /// It ended.
    Ended(Thread),
    /// It has other registers, another name, or other signals.
    Changed {
        /// What it was.
        old: Box<Thread>,
        /// What it is.
        new: Box<Thread>,
        /// The registers that differ: name, what it was, what it is. Vector registers are one.
        registers: Vec<(&'static str, u64, u64)>,
        /// Whether vector or floating-point registers differ.
        vectors: bool,
    },
}

/// The registers' names, in the kernel's order.
const NAMES: [&str; 27] = [
    "r15", "r14", "r13", "r12", "rbp", "rbx", "r11", "r10", "r9", "r8", "rax", "rcx", "rdx", "rsi",
    "rdi", "orig_rax", "rip", "cs", "rflags", "rsp", "ss", "fs_base", "gs_base", "ds", "es", "fs",
    "gs",
];

fn registers(old: &Registers, new: &Registers) -> Vec<(&'static str, u64, u64)> {
    let both = old.to_words().into_iter().zip(new.to_words());
    NAMES
        .into_iter()
        .zip(both)
        .filter(|(_, (a, b))| a != b)
        .map(|(name, (a, b))| (name, a, b))
        .collect()
}

/// Compares threads.
pub fn threads(old: &[Thread], new: &[Thread]) -> Vec<ThreadChange> {
    let mut changes = Vec::new();
    for was in old {
        match new.iter().find(|t| t.tid == was.tid) {
            None => changes.push(ThreadChange::Ended(was.clone())),
            Some(is) if is != was => changes.push(ThreadChange::Changed {
                old: Box::new(was.clone()),
                new: Box::new(is.clone()),
                registers: registers(&was.registers, &is.registers),
                vectors: was.xstate != is.xstate,
            }),
            Some(_) => {}
        }
    }
    for is in new {
        if !old.iter().any(|t| t.tid == is.tid) {
            changes.push(ThreadChange::Began(is.clone()));
        }
    }
    changes
}

/// What became of a descriptor.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum DescriptorChange {
    /// It was opened.
    Opened(Descriptor),
    /// It was closed.
    Closed(Descriptor),
    /// It refers to something else.
    Replaced {
        /// What it was.
        old: Descriptor,
        /// What it is.
        new: Descriptor,
    },
    /// Its offset, flags, or what the kernel says of it is another.
    Changed {
        /// What it was.
        old: Descriptor,
        /// What it is.
        new: Descriptor,
    },
}

/// Compares descriptors.
pub fn descriptors(old: &Descriptors, new: &Descriptors) -> Vec<DescriptorChange> {
    let mut changes = Vec::new();
    for was in &old.open {
        match new.open.iter().find(|d| d.fd == was.fd) {
            None => changes.push(DescriptorChange::Closed(was.clone())),
            Some(is) if (&is.target, &is.kind, is.inode) != (&was.target, &was.kind, was.inode) => {
                changes.push(DescriptorChange::Replaced {
                    old: was.clone(),
                    new: is.clone(),
                });
            }
            Some(is) if is != was => changes.push(DescriptorChange::Changed {
                old: was.clone(),
                new: is.clone(),
            }),
            Some(_) => {}
        }
    }
    for is in &new.open {
        if !old.open.iter().any(|d| d.fd == is.fd) {
            changes.push(DescriptorChange::Opened(is.clone()));
        }
    }
    changes
}

/// A piece of kernel-side state that differs.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct StateChange {
    /// What it is.
    pub name: String,
    /// What it was.
    pub old: String,
    /// What it is.
    pub new: String,
}

/// Compares kernel-side state, as far as it was read: it may be older than the moment.
pub fn state(old: &ProcessImage, new: &ProcessImage) -> Vec<StateChange> {
    let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
    let (a, b) = (&old.process, &new.process);
    let mut changes = Vec::new();
    let mut compare = |name: &str, old: String, new: String| {
        if old != new {
            changes.push(StateChange {
                name: name.to_owned(),
                old,
                new,
            });
        }
    };
    compare("name", text(&a.name), text(&b.name));
    compare("program", text(&a.executable), text(&b.executable));
    compare("working directory", text(&a.cwd), text(&b.cwd));
    compare("root directory", text(&a.root), text(&b.root));
    compare("parent", a.parent.to_string(), b.parent.to_string());
    compare("process group", a.group.to_string(), b.group.to_string());
    compare("session", a.session.to_string(), b.session.to_string());
    compare(
        "umask",
        format!("{:03o}", a.umask),
        format!("{:03o}", b.umask),
    );
    compare("user ids", format!("{:?}", a.uids), format!("{:?}", b.uids));
    compare(
        "group ids",
        format!("{:?}", a.gids),
        format!("{:?}", b.gids),
    );
    compare("nice value", a.nice.to_string(), b.nice.to_string());
    compare(
        "program break",
        format!("{:#x}", a.layout.brk),
        format!("{:#x}", b.layout.brk),
    );
    compare("seccomp", a.seccomp.to_string(), b.seccomp.to_string());
    let capabilities = |c: &[u64; 5]| format!("{c:x?}");
    compare(
        "capabilities",
        capabilities(&a.capabilities),
        capabilities(&b.capabilities),
    );
    for (number, (x, y)) in a.limits.iter().zip(&b.limits).enumerate() {
        let shown = |l: &stillframe_image::ResourceLimit| format!("{} (hard {})", l.soft, l.hard);
        compare(&format!("limit {number}"), shown(x), shown(y));
    }
    let action = |process: &ProcessImage, signal: u32| {
        let found = process.process.actions.iter().find(|a| a.signal == signal);
        match found.map(|a| (a.handler, a.flags, a.mask)) {
            None => "default".to_owned(),
            Some((1, ..)) => "ignored".to_owned(),
            Some((handler, flags, mask)) => {
                format!("handler {handler:#x}, flags {flags:#x}, mask {mask:#x}")
            }
        }
    };
    for signal in 1..=64 {
        let name = format!(
            "action of {}",
            stillframe_image::signal::name(i64::from(signal))
        );
        compare(&name, action(old, signal), action(new, signal));
    }
    let pending = |process: &ProcessImage| {
        let each = process.process.pending.iter();
        let names: Vec<String> = each
            .map(|s| stillframe_image::signal::name(i64::from(s.signal)))
            .collect();
        names.join(", ")
    };
    compare("pending signals", pending(old), pending(new));
    changes
}
