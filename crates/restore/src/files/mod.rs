//! Files put back to what they were at a checkpoint, in their place or as copies.
//!
//! A process put back beside files that went on reads what it never wrote and overwrites what it does
//! not know of. [`Putting`] plans what to do with each file, does it, and can take it back: until the
//! process runs nothing is final. Everything is read from the recording before the first byte of a
//! file of the user's is changed.
//!
//! In place, a file keeps its inode wherever it still has it, so that whoever has it open, the live
//! process of a rollback first of all, sees the old content; only pages that differ are written, and
//! what they held is kept in a file without a name until the end.

mod content;
mod place;
#[cfg(test)]
mod tests;

pub use content::Content;

use crate::check::Files;
use crate::error::{Error, Result};
use place::{Changed, Made};
use std::collections::{HashMap, HashSet};
use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt as _, OsStringExt as _};
use std::path::{Path, PathBuf};
use stillframe_image::{
    Checkpoint, CheckpointId, DescriptorKind, FileContent, Gap, MappingKind, ProcessImage, SpaceId,
    WrittenFile,
};
use stillframe_linux::files::written::{self, Facts};
use stillframe_store::Recording;

const O_ACCMODE: u32 = 3;

/// What happens to one file.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Step {
    /// The content of then is written over what it is now, in the same file. It is opened at its path,
    /// or at this one: a file without a name, which a live process has open.
    Rewrite(WrittenFile, Option<PathBuf>),
    /// A file is made under its path: there is none, or another one, which then has no name any more.
    Make(WrittenFile),
    /// A copy is made at this path, for the process to use instead.
    Copy(WrittenFile, PathBuf),
    /// The file was made by the recorded processes since: its name is taken away.
    Remove(WrittenFile),
}

impl Step {
    /// The file.
    pub const fn file(&self) -> &WrittenFile {
        match self {
            Self::Rewrite(f, _) | Self::Make(f) | Self::Copy(f, _) | Self::Remove(f) => f,
        }
    }

    /// What is done, in a word.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Rewrite(..) => "rewrite",
            Self::Make(_) => "make",
            Self::Copy(..) => "copy",
            Self::Remove(_) => "remove",
        }
    }
}

/// A live process that goes back.
#[derive(Clone, Copy, Debug)]
pub struct Live<'a> {
    /// It.
    pub pid: u32,
    /// What it goes back to, with the others recorded then, which do not.
    pub checkpoint: &'a Checkpoint,
    /// Which of the checkpoint's processes it is.
    pub space: SpaceId,
}

impl Live<'_> {
    /// Whether another process of the checkpoint writes a file.
    fn is_shared(&self, file: &WrittenFile) -> bool {
        let others = self.checkpoint.processes.iter();
        let mut others = others.filter(|p| p.id != self.space);
        others.any(|p| {
            let open = p.descriptors.open.iter().any(|d| {
                d.kind == DescriptorKind::Regular
                    && (d.inode, d.target.as_slice()) == (file.inode, &file.path)
                    && matches!(d.flags & O_ACCMODE, 1 | 2)
            });
            let mut mapped = p.space.mappings.iter().filter(|m| m.shared && m.write);
            open || mapped.any(|m| (m.device, m.inode) == (file.device, file.inode))
        })
    }

    /// Whether nobody else was recorded, so that what was written since was written by it.
    fn is_alone(&self) -> bool {
        self.checkpoint.processes.len() == 1
    }

    /// A descriptor by which it has a file open that has no name.
    fn descriptor_of(&self, file: &WrittenFile) -> Option<PathBuf> {
        let list = std::fs::read_dir(format!("/proc/{}/fd", self.pid)).ok()?;
        list.flatten().map(|entry| entry.path()).find(|path| {
            let held = written::hold(path).and_then(Facts::of);
            held.is_ok_and(|f| (f.device, f.inode) == (file.device, file.inode) && f.links == 0)
        })
    }
}

/// Whether what we write, and what others do who started us, goes to a file, too.
fn is_our_stream(file: &WrittenFile) -> bool {
    let is = |facts: stillframe_linux::Result<Facts>| {
        facts.is_ok_and(|f| (f.device, f.inode) == (file.device, file.inode))
    };
    is(Facts::of(std::io::stdout())) || is(Facts::of(std::io::stderr()))
}

/// Files being put back.
#[derive(Debug)]
pub struct Putting<'a> {
    recording: &'a Recording,
    id: CheckpointId,
    steps: Vec<Step>,
    changed: Vec<Changed>,
    made: Vec<Made>,
    /// What processes use instead of a file, by device and inode.
    instead: HashMap<((u32, u32), u64), (PathBuf, Facts)>,
    /// Directories made for copies, the outermost first.
    directories: Vec<PathBuf>,
    /// What is left as it is although it was written.
    left: Vec<Gap>,
}

/// Files whose birth lies so little before a checkpoint may have been made after it: the kernel's
/// clock for files ticks that coarsely.
const COARSE_NS: i64 = 10_000_000;

impl<'a> Putting<'a> {
    /// Decides what to do with each file of a checkpoint. `directory` is for copies: those of
    /// [`Files::Private`], and those of files that had no name.
    ///
    /// Everything that forbids it is said by [`crate::check`] first; what is left here is refused in
    /// the same way.
    ///
    /// # Errors
    /// If the recording cannot be read, or a file can neither be put back nor left as it is.
    pub fn plan(
        recording: &'a Recording,
        id: CheckpointId,
        files: Files,
        directory: &Path,
    ) -> Result<Self> {
        Self::make_plan(recording, id, files, directory, None)
    }

    /// The same for a live process, while it stands still: what it has open it keeps open, and what
    /// others of a tree write is left to them.
    ///
    /// # Errors
    /// As [`Putting::plan`]; also if a file is served by somebody who may be waiting for the process.
    pub fn plan_live(
        recording: &'a Recording,
        id: CheckpointId,
        files: Files,
        directory: &Path,
        live: Live<'_>,
    ) -> Result<Self> {
        Self::make_plan(recording, id, files, directory, Some(live))
    }

    fn make_plan(
        recording: &'a Recording,
        id: CheckpointId,
        files: Files,
        directory: &Path,
        live: Option<Live<'_>>,
    ) -> Result<Self> {
        let wanted = recording.files(id)?;
        let wall = wall_of(recording, id);
        let mapped = match live {
            Some(live) => mapped(live.checkpoint),
            None => mapped(&recording.checkpoint(id)?),
        };
        let mut steps = Vec::new();
        let mut left = Vec::new();
        for file in &wanted {
            match live.filter(|_| files == Files::Version) {
                Some(live) if live.is_shared(file) => left.push(Gap {
                    subject: name(&file.path),
                    reason: "another process, which does not go back, writes it, too: it is left"
                        .to_owned(),
                }),
                Some(_) if is_our_stream(file) => left.push(Gap {
                    subject: name(&file.path),
                    reason: "it is our standard output, too: it is left".to_owned(),
                }),
                Some(live) if !written::is_local(live.pid, file.device) => {
                    return Err(Error::unsupported(
                        name(&file.path),
                        "its file system is served by others, who may be waiting for the process; \
                         use --files ignore",
                    ));
                }
                _ => {
                    // Stores to mapped memory do not change the time at once, and what is written
                    // within a tick of the clock may not either.
                    let settled =
                        file.modified_ns < wall && !mapped.contains(&(file.device, file.inode));
                    steps.extend(step(file, settled, files, directory, live)?);
                }
            }
        }
        if files == Files::Version && live.is_none_or(|live| live.is_alone()) {
            steps.extend(
                made_since(recording, id, &wanted)?
                    .into_iter()
                    .map(Step::Remove),
            );
        }
        Ok(Self {
            recording,
            id,
            steps,
            changed: Vec::new(),
            made: Vec::new(),
            instead: HashMap::new(),
            directories: Vec::new(),
            left,
        })
    }

    /// What is going to be done.
    pub fn steps(&self) -> &[Step] {
        &self.steps
    }

    /// What is left as it is, although the processes write it.
    pub fn left(&self) -> &[Gap] {
        &self.left
    }

    /// Does it. On an error everything is as it was before.
    ///
    /// # Errors
    /// If the recording is damaged, or a file cannot be written. If taking back what was done fails
    /// as well, the error says so.
    pub fn apply(&mut self) -> Result<()> {
        let steps = std::mem::take(&mut self.steps);
        // Damage must be met before anything is changed.
        for step in &steps {
            if let Step::Rewrite(file, _) | Step::Make(file) | Step::Copy(file, _) = step
                && let Some(content) = Content::of(self.recording, self.id, file)
            {
                content.check()?;
            }
        }
        let done = steps.iter().try_for_each(|step| self.take(step));
        self.steps = steps;
        match done {
            Ok(()) => Ok(()),
            Err(error) => match self.undo() {
                Ok(()) => Err(error),
                Err(second) => Err(Error::io(
                    "put files back, and then to undo what was done to",
                    second.to_string(),
                    std::io::Error::other(error.to_string()),
                )),
            },
        }
    }

    fn take(&mut self, step: &Step) -> Result<()> {
        match step {
            Step::Rewrite(file, at) => {
                let content = self.content(file)?;
                place::rewrite(file, at.as_deref(), &content, &mut self.changed)
            }
            Step::Make(file) => {
                let content = self.content(file)?;
                let (made, facts) = place::make(file, &content)?;
                self.made.push(made);
                let path = Path::new(OsStr::from_bytes(&file.path)).to_path_buf();
                let key = (file.device, file.inode);
                self.instead.insert(key, (path, facts));
                Ok(())
            }
            Step::Remove(file) => {
                self.made.extend(place::remove(file)?);
                Ok(())
            }
            Step::Copy(file, to) => {
                place::directories(to, &mut self.directories)?;
                let content = Content::of(self.recording, self.id, file);
                let facts = place::copy(file, content.as_ref(), to)?;
                self.made.push(Made::new(to.clone()));
                let key = (file.device, file.inode);
                self.instead.insert(key, (to.clone(), facts));
                Ok(())
            }
        }
    }

    fn content(&self, file: &WrittenFile) -> Result<Content<'a>> {
        Content::of(self.recording, self.id, file).ok_or_else(|| {
            Error::unsupported(name(&file.path), "the recording does not keep its content")
        })
    }

    /// Has a process use the copies that were made, and the files made anew: paths, inodes, sizes and
    /// times of its descriptors and shared mappings are changed in its image.
    pub fn redirect(&self, image: &mut ProcessImage) {
        if self.instead.is_empty() {
            return;
        }
        // A descriptor does not tell the device of its file, so path and inode must do.
        let by_inode = |inode: u64| {
            let mut found = self.instead.iter().filter(move |((_, i), _)| *i == inode);
            found.next().map(|(_, to)| to)
        };
        for d in &mut image.descriptors.open {
            if d.kind != DescriptorKind::Regular {
                continue;
            }
            if let Some((path, facts)) = by_inode(d.inode) {
                d.target = path.as_os_str().as_bytes().to_vec();
                d.inode = facts.inode;
                d.file = Some((facts.size, facts.modified_ns));
            }
        }
        for m in &mut image.space.mappings {
            if !(m.shared && m.kind == MappingKind::File) {
                continue;
            }
            if let Some((path, facts)) = self.instead.get(&(m.device, m.inode)) {
                m.name = path.as_os_str().as_bytes().to_vec();
                (m.device, m.inode) = (facts.device, facts.inode);
                m.file = None;
            }
        }
    }

    /// Takes everything back: files are what they were before [`Putting::apply`], copies are gone.
    ///
    /// # Errors
    /// With the first file that could not be; the others are.
    pub fn undo(&mut self) -> Result<()> {
        let mut result = Ok(());
        for made in self.made.drain(..).rev() {
            result = result.and(made.undo());
        }
        for changed in self.changed.drain(..).rev() {
            result = result.and(changed.undo());
        }
        for directory in self.directories.drain(..).rev() {
            // One that is not empty is somebody's.
            let _ = std::fs::remove_dir(directory);
        }
        self.instead.clear();
        result
    }

    /// The processes have their files: what was done is final. Copies of files without a name lose
    /// theirs.
    pub fn finish(&mut self) {
        self.changed.clear();
        self.directories.clear();
        for step in &self.steps {
            if let Step::Copy(file, to) = step
                && file.links == 0
            {
                // It is open by now, or of no use.
                let _ = std::fs::remove_file(to);
            }
        }
        for made in self.made.drain(..) {
            made.keep();
        }
    }
}

/// Files that processes of a checkpoint have mapped to write them.
fn mapped(checkpoint: &Checkpoint) -> HashSet<((u32, u32), u64)> {
    let mappings = checkpoint.processes.iter().flat_map(|p| &p.space.mappings);
    let written = mappings.filter(|m| m.shared && m.write && m.kind == MappingKind::File);
    written.map(|m| (m.device, m.inode)).collect()
}

/// When a checkpoint was taken, by the clock of files, and a tick of that before; ns since the epoch.
fn wall_of(recording: &Recording, id: CheckpointId) -> i64 {
    let wall = recording.row(id).map_or(u64::MAX, |r| r.tick.wall_ns);
    i64::try_from(wall)
        .unwrap_or(i64::MAX)
        .saturating_sub(COARSE_NS)
}

/// What to do with one file; nothing if it is what it was or is to be left alone. `settled`: that its
/// size and times are those of then says that its content is.
fn step(
    file: &WrittenFile,
    settled: bool,
    files: Files,
    directory: &Path,
    live: Option<Live<'_>>,
) -> Result<Option<Step>> {
    let kept = matches!(file.content, FileContent::Kept { .. });
    let now = Facts::named(Path::new(OsStr::from_bytes(&file.path))).ok();
    let same_file = now.is_some_and(|n| {
        (n.device, n.inode) == (file.device, file.inode) && n.born_ns == file.born_ns
    });
    // Of what is not kept nothing better is known.
    let unchanged = (settled || !kept)
        && same_file
        && now.is_some_and(|n| {
            (n.size, n.modified_ns, n.changed_ns) == (file.size, file.modified_ns, file.changed_ns)
        });
    let refused = || {
        let why = match &file.content {
            FileContent::Torn { .. } => "its content was written while it was read",
            FileContent::Left(why) => why,
            _ => "its content is not kept",
        };
        Err(Error::unsupported(name(&file.path), why))
    };
    if file.links == 0 {
        // A live process that still has it open keeps it.
        if file.open
            && let Some(live) = live
            && let Some(at) = live.descriptor_of(file)
        {
            return match (files, kept) {
                (Files::Version, true) => Ok(Some(Step::Rewrite(file.clone(), Some(at)))),
                (Files::Version, false) => refused(),
                _ => Ok(None),
            };
        }
        // It had no name: nothing of the user's is touched by making a copy, whatever the policy.
        return match (file.open, kept) {
            (true, true) => Ok(Some(Step::Copy(file.clone(), beside(file, directory)))),
            (true, false) if matches!(files, Files::Version | Files::Private) => refused(),
            _ => Ok(None),
        };
    }
    match files {
        Files::Ignore | Files::Check => Ok(None),
        Files::Version if unchanged => Ok(None),
        Files::Version if !kept => refused(),
        Files::Version if same_file => Ok(Some(Step::Rewrite(file.clone(), None))),
        Files::Version => Ok(Some(Step::Make(file.clone()))),
        Files::Private if !file.open => Ok(None),
        Files::Private if kept || unchanged => {
            Ok(Some(Step::Copy(file.clone(), beside(file, directory))))
        }
        Files::Private => refused(),
    }
}

/// Where a copy of a file stands: under its own path within the directory, and so beside its
/// neighbours.
fn beside(file: &WrittenFile, directory: &Path) -> PathBuf {
    let mut path = directory.as_os_str().to_owned().into_vec();
    if !file.path.starts_with(b"/") {
        path.push(b'/');
    }
    // Nothing that a recording says may lead out of the directory.
    let inside: Vec<&[u8]> = file
        .path
        .split(|b| *b == b'/')
        .map(|part| match part {
            b".." | b"." => &b"_"[..],
            other => other,
        })
        .collect();
    path.extend_from_slice(&inside.join(&b'/'));
    if file.links == 0 {
        // Its name may be another file's by now.
        path.extend_from_slice(format!(".{}", file.inode).as_bytes());
    }
    PathBuf::from(std::ffi::OsString::from_vec(path))
}

/// Files that the recorded processes made after a checkpoint and that are still there. A journal that
/// stays behind would be played into a database that it does not belong to.
fn made_since(
    recording: &Recording,
    id: CheckpointId,
    wanted: &[WrittenFile],
) -> Result<Vec<WrittenFile>> {
    let wall = wall_of(recording, id);
    let mut found: Vec<WrittenFile> = Vec::new();
    for file in recording.files_after(id)? {
        let known = |f: &&WrittenFile| f.path == file.path || f.space == file.space;
        if wanted.iter().any(|f| known(&f)) || file.born_ns.is_none_or(|b| b <= wall) {
            continue;
        }
        let now = Facts::named(Path::new(OsStr::from_bytes(&file.path)));
        let there = now.is_ok_and(|n| {
            (n.device, n.inode, n.born_ns) == (file.device, file.inode, file.born_ns)
        });
        if there && !found.iter().any(|f| known(&f)) {
            found.push(file);
        }
    }
    Ok(found)
}

/// A path as text.
pub(crate) fn name(path: &[u8]) -> String {
    String::from_utf8_lossy(path).into_owned()
}
