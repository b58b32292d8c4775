//! Finding written files in the stop.

use super::{Content, FilesPolicy, HASHED, LARGEST, STOP_ALL, STOP_FILE, Taken};
use std::collections::HashMap;
use std::fs::File;
use std::os::fd::OwnedFd;
use std::os::unix::ffi::OsStrExt as _;
use std::os::unix::fs::FileExt as _;
use std::path::{Path, PathBuf};
use std::time::{Duration, Instant};
use stillframe_image::file::{FILE_SPACES, MAX_FILES};
use stillframe_image::{
    Descriptor, DescriptorKind, FileContent, Mapping, MappingKind, SpaceId, WrittenFile,
};
use stillframe_linux::files::written::{self, Facts};

/// Closed files that stay watched.
const CLOSED: usize = 256;
/// Times may be as coarse as this: a file changed so shortly before a look is taken for changed at
/// the next one.
const COARSE_NS: i64 = 20_000_000;
/// How often files are hashed that are not kept.
const HASH_EVERY: Duration = Duration::from_secs(1);
const O_PATH: u32 = 0o10_000_000;

/// The files known, and what was had of them.
#[derive(Debug)]
pub struct Look {
    policy: FilesPolicy,
    /// Where clones are made.
    directory: PathBuf,
    /// Ascending by number.
    files: Vec<Watched>,
    /// Where a descriptor's file stands, by mount and inode: quicker than asking for the device.
    known: HashMap<(u32, u64), SpaceId>,
    next: u32,
    hashed: Option<Instant>,
    /// Whether the file systems met so far are local, by device.
    local: HashMap<(u32, u32), bool>,
    /// Numbers of files that are watched no more, to be forgotten by the keeper.
    dropped: Vec<SpaceId>,
}

#[derive(Debug)]
struct Watched {
    space: SpaceId,
    held: OwnedFd,
    readable: Option<File>,
    /// Whether this machine alone answers for it, so that it can be read in the stop: the server of
    /// another one may be slow, or even be the target, and then we would wait for each other.
    local: bool,
    path: Vec<u8>,
    facts: Facts,
    open: bool,
    mapped: bool,
    leased: bool,
    /// How it was when its content was last had, and when that was.
    seen: Option<(Facts, i64)>,
    /// Whether the file system has refused to clone it.
    no_clone: bool,
}

impl Look {
    /// Nothing known yet. Clones of files are made in `directory`, the recording's.
    pub fn new(policy: FilesPolicy, directory: &Path) -> Self {
        Self {
            policy,
            directory: directory.into(),
            files: Vec::new(),
            known: HashMap::new(),
            next: FILE_SPACES,
            hashed: None,
            local: HashMap::new(),
            dropped: Vec::new(),
        }
    }

    /// Begins a boundary.
    pub fn begin(&mut self) {
        for file in &mut self.files {
            (file.open, file.mapped) = (false, false);
        }
    }

    /// Takes up what a process, looked at through its thread `via`, writes.
    pub fn process(&mut self, via: u32, descriptors: &[Descriptor], mappings: &[Mapping]) {
        if self.policy == FilesPolicy::Ignore {
            return;
        }
        for descriptor in descriptors.iter().filter(|d| writes(d)) {
            let key = (descriptor.mount, descriptor.inode);
            let position = match self.known.get(&key).and_then(|space| self.position(*space)) {
                Some(at) => Some(at),
                None => {
                    let held = written::hold_descriptor(via, descriptor.fd).ok();
                    let at = held.and_then(|held| self.watch(via, held, &descriptor.target));
                    if let Some(file) = at.and_then(|at| self.files.get(at)) {
                        self.known.insert(key, file.space);
                    }
                    at
                }
            };
            if let Some(file) = position.and_then(|at| self.files.get_mut(at)) {
                file.open = true;
                file.leased |= descriptor.detail.windows(5).any(|w| w == b"LEASE");
                let path = undeleted(&descriptor.target);
                if file.path != path {
                    file.path = path.to_vec();
                }
            }
        }
        for mapping in mappings.iter().filter(|m| stores(m)) {
            let same =
                |f: &Watched| (f.facts.device, f.facts.inode) == (mapping.device, mapping.inode);
            let position = self.files.iter().position(same).or_else(|| {
                if !self.is_local(via, mapping.device) {
                    return None;
                }
                let path = Path::new(std::ffi::OsStr::from_bytes(&mapping.name));
                let held = written::hold(path).ok()?;
                let facts = Facts::of(&held).ok()?;
                ((facts.device, facts.inode) == (mapping.device, mapping.inode))
                    .then(|| self.watch(via, held, &mapping.name))?
            });
            if let Some(file) = position.and_then(|at| self.files.get_mut(at)) {
                (file.open, file.mapped) = (true, true);
            }
        }
    }

    fn position(&self, space: SpaceId) -> Option<usize> {
        self.files.binary_search_by_key(&space, |f| f.space).ok()
    }

    /// Whether a file system that a process sees is local.
    fn is_local(&mut self, via: u32, device: (u32, u32)) -> bool {
        *self
            .local
            .entry(device)
            .or_insert_with(|| written::is_local(via, device))
    }

    /// Begins to watch a file, or finds that it is watched. `None` if it is none to be watched.
    fn watch(&mut self, via: u32, held: OwnedFd, path: &[u8]) -> Option<usize> {
        let facts = Facts::of(&held).ok()?;
        if !facts.is_regular() {
            return None;
        }
        if let Some(at) = self.files.iter().position(|f| f.facts.is_file_of(&facts)) {
            return Some(at);
        }
        if self.files.len() >= MAX_FILES || self.next == u32::MAX {
            return None;
        }
        let local = self.is_local(via, facts.device);
        let space = SpaceId(self.next);
        self.next += 1;
        self.files.push(Watched {
            space,
            held,
            readable: None,
            local,
            path: undeleted(path).to_vec(),
            facts,
            open: true,
            mapped: false,
            leased: false,
            seen: None,
            no_clone: false,
        });
        Some(self.files.len() - 1)
    }

    /// Asks the kernel about each file, and takes hold of the content of those that have changed.
    /// `special`: the checkpoint is a special one. `full`: no more content is kept.
    pub fn take(&mut self, special: bool, full: bool) -> Vec<Taken> {
        self.let_go();
        let due = special || self.hashed.is_none_or(|at| at.elapsed() >= HASH_EVERY);
        let mut room = STOP_ALL;
        let mut all = Vec::with_capacity(self.files.len());
        for file in &mut self.files {
            // A file that cannot be looked at is as it was, for all we know.
            file.facts = Facts::of(&file.held).unwrap_or(file.facts);
            let content = match self.policy {
                FilesPolicy::Ignore => Content::Unknown,
                FilesPolicy::Version { .. } if full => Content::Unknown,
                FilesPolicy::Check => file.recognised(due),
                FilesPolicy::Version { .. } => file.content(&mut room, &self.directory),
            };
            all.push(Taken {
                file: file.image(),
                facts: file.facts,
                content,
            });
        }
        if due {
            self.hashed = Some(Instant::now());
        }
        all
    }

    /// What was taken is kept: what has not changed since need not be taken again.
    pub fn handed_over(&mut self, wall_ns: i64, all: &[Taken]) {
        for taken in all {
            let Some(file) = self.position(taken.file.space) else {
                continue;
            };
            let Some(file) = self.files.get_mut(file) else {
                continue;
            };
            match taken.content {
                Content::Copy(_) | Content::Clone(_) | Content::Later { .. } | Content::Hash(_) => {
                    file.seen = Some((taken.facts, wall_ns));
                }
                _ => {}
            }
        }
    }

    /// Files that are watched no more since this was last asked.
    pub fn dropped(&mut self) -> Vec<SpaceId> {
        std::mem::take(&mut self.dropped)
    }

    /// Lets go of files that are closed and have no name, so that their space becomes free, and of the
    /// oldest of too many closed ones.
    fn let_go(&mut self) {
        let closed = self.files.iter().filter(|f| !f.open).count();
        let mut surplus = closed.saturating_sub(CLOSED);
        let dropped = &mut self.dropped;
        self.files.retain(|file| {
            let nameless = || Facts::of(&file.held).is_ok_and(|f| f.links == 0);
            let go = !file.open && (surplus > 0 || nameless());
            if go {
                surplus = surplus.saturating_sub(1);
                dropped.push(file.space);
            }
            !go
        });
        if !dropped.is_empty() {
            self.known.retain(|_, space| !dropped.contains(space));
        }
    }
}

impl Watched {
    fn image(&self) -> WrittenFile {
        let f = &self.facts;
        WrittenFile {
            space: self.space,
            path: self.path.clone(),
            device: f.device,
            inode: f.inode,
            links: f.links,
            open: self.open,
            mode: f.mode,
            uid: f.uid,
            gid: f.gid,
            size: f.size,
            modified_ns: f.modified_ns,
            changed_ns: f.changed_ns,
            born_ns: f.born_ns,
            content: FileContent::Unknown,
        }
    }

    /// Whether its content is what was had last. Of a file that is mapped only its content could
    /// tell.
    fn is_seen(&self) -> bool {
        self.seen.is_some_and(|(facts, at)| {
            facts.says_the_same(&self.facts)
                && !self.mapped
                && facts.changed_ns.saturating_add(COARSE_NS) < at
        })
    }

    /// For a file that is not kept: to be hashed or not.
    fn recognised(&mut self, due: bool) -> Content {
        if self.is_seen() {
            return Content::Unchanged;
        }
        if !due || self.mapped || self.leased || self.facts.size > HASHED {
            return Content::Unknown;
        }
        match self.held.try_clone() {
            Ok(held) => Content::Hash(held),
            Err(_) => Content::Unknown,
        }
    }

    /// For a file that is kept.
    fn content(&mut self, room: &mut u64, directory: &Path) -> Content {
        if self.is_seen() {
            return Content::Unchanged;
        }
        if self.facts.size > LARGEST {
            return Content::Refused("it is too large".to_owned());
        }
        if !self.local {
            return self.later();
        }
        if self.readable.is_none() {
            match written::open_held(&self.held, false) {
                Ok(file) => self.readable = Some(file),
                Err(error) => return Content::Refused(format!("it cannot be read: {error}")),
            }
        }
        let Some(readable) = &self.readable else {
            return Content::Unknown;
        };
        if self.facts.size > STOP_FILE && !self.no_clone {
            match written::clone_of(readable, directory) {
                Ok(clone) => return Content::Clone(clone),
                Err(_) => self.no_clone = true,
            }
        }
        if self.facts.size <= STOP_FILE.min(*room) {
            return match copy(readable, self.facts.size) {
                Ok(bytes) => {
                    *room -= self.facts.size;
                    Content::Copy(bytes)
                }
                Err(error) => Content::Refused(format!("it cannot be read: {error}")),
            };
        }
        self.later()
    }

    /// To be read while the target runs.
    fn later(&self) -> Content {
        match self.held.try_clone() {
            Ok(held) => Content::Later {
                held,
                stores: self.mapped,
            },
            Err(error) => Content::Refused(format!("it cannot be read: {error}")),
        }
    }
}

/// All bytes of a file, at most `size`; zeros where it has become shorter since it was looked at,
/// which only others can do.
fn copy(file: &File, size: u64) -> std::io::Result<Vec<u8>> {
    let mut bytes = vec![0; size as usize];
    let mut done = 0;
    while done < bytes.len() {
        match file.read_at(&mut bytes[done..], done as u64) {
            Ok(0) => break,
            Ok(n) => done += n,
            Err(e) if e.kind() == std::io::ErrorKind::Interrupted => {}
            Err(e) => return Err(e),
        }
    }
    Ok(bytes)
}

/// Whether a descriptor is of a file that can be written through it, and is no door into the kernel.
fn writes(d: &Descriptor) -> bool {
    d.kind == DescriptorKind::Regular
        && matches!(d.flags & 3, 1 | 2)
        && d.flags & O_PATH == 0
        && ![&b"/proc/"[..], b"/sys/"]
            .iter()
            .any(|p| d.target.starts_with(p))
}

/// Whether stores into a mapping change a file.
fn stores(m: &Mapping) -> bool {
    m.shared && m.write && m.kind == MappingKind::File && m.inode != 0
}

/// A path as the kernel shows it, without what it appends to that of a deleted file.
fn undeleted(path: &[u8]) -> &[u8] {
    path.strip_suffix(b" (deleted)").unwrap_or(path)
}
