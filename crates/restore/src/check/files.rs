//! Files: mapped, open, written.

use super::findings::{Findings, Severity};
use super::world::Named;
use super::{Files, Policy, Purpose, Wanted, World};
use std::collections::HashSet;
use stillframe_image::text::printable;
use stillframe_image::{
    Checkpoint, Descriptor, DescriptorKind, FileContent, FileIdentity, MappingKind, WrittenFile,
};

const AREA: &str = "file";
const O_ACCMODE: u32 = 3;
const O_APPEND: u32 = 0o2000;
const O_PATH: u32 = 0o10_000_000;

/// How a file is, compared with how it was.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(crate) enum Change {
    /// The very same, by size and times; or by its content, wherever it is now.
    Same,
    /// The path names nothing.
    Gone,
    /// It names something that is no file.
    NoFile,
    /// It names another file, of other content as far as is known.
    Replaced,
    /// The same file, now shorter.
    Shorter,
    /// The same file, now longer.
    Grown,
    /// The same file and length, changed since.
    Changed,
}

/// Compares a written file with what its path names now.
pub(crate) fn compare(file: &WrittenFile, now: &Named, world: &dyn World) -> Change {
    let facts = match now {
        Named::File(facts) => facts,
        Named::Nothing | Named::Hidden(_) => return Change::Gone,
        Named::Directory | Named::Other => return Change::NoFile,
    };
    let same_file = (facts.device, facts.inode) == (file.device, file.inode)
        && (file.born_ns.is_none() || facts.born_ns == file.born_ns);
    let times = (facts.size, facts.modified_ns, facts.changed_ns)
        == (file.size, file.modified_ns, file.changed_ns);
    if same_file && times {
        return Change::Same;
    }
    // Times can change without the content, and content can be brought to another place.
    if facts.size == file.size
        && let FileContent::Hash(hash) = file.content
        && world
            .hash(&file.path, file.size)
            .is_ok_and(|now| now == hash)
    {
        return Change::Same;
    }
    match facts.size.cmp(&file.size) {
        _ if !same_file => Change::Replaced,
        std::cmp::Ordering::Less => Change::Shorter,
        std::cmp::Ordering::Greater => Change::Grown,
        std::cmp::Ordering::Equal => Change::Changed,
    }
}

/// The executable and libraries, and whatever else is mapped privately.
pub(super) fn mapped(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    let mut seen = HashSet::new();
    let (mut same, mut kept) = (0, 0);
    for process in &wanted.checkpoint.processes {
        let used: HashSet<u32> = process
            .space
            .mappings
            .iter()
            .filter_map(|m| m.file)
            .collect();
        for (number, file) in process.space.files.iter().enumerate() {
            let in_use = u32::try_from(number).is_ok_and(|n| used.contains(&n));
            if !in_use || !seen.insert((file.path.clone(), file.device, file.inode)) {
                continue;
            }
            match identity(file, world) {
                Ok(()) => same += 1,
                Err(what) if file.object.is_some() => {
                    kept += 1;
                    out.warn(
                        AREA,
                        printable(&file.path),
                        format!("{what}; the copy in the recording is used"),
                    );
                }
                Err(what) => out.refuse(
                    AREA,
                    printable(&file.path),
                    format!("{what}, and the recording keeps no copy; put the file of then there"),
                ),
            }
        }
        let shared = process.space.mappings.iter();
        for m in shared.filter(|m| m.shared && m.kind == MappingKind::File) {
            let file = wanted.checkpoint.files.iter();
            let mut file = file.filter(|f| (f.device, f.inode) == (m.device, m.inode));
            if file.next().is_none() && seen.insert((m.name.clone(), m.device, m.inode)) {
                match world.named(&m.name) {
                    Named::File(f) if (f.device, f.inode) == (m.device, m.inode) => same += 1,
                    Named::File(_) => {
                        out.warn(
                            AREA,
                            printable(&m.name),
                            "mapped shared; it is another file now",
                        );
                    }
                    _ => out.refuse(AREA, printable(&m.name), "mapped shared, and gone"),
                }
            }
        }
    }
    if same > 0 {
        let of = if kept > 0 { " others" } else { "" };
        out.ok(AREA, "mapped files", format!("{same}{of} as they were"));
    }
}

/// Whether the file of then stands at its path.
fn identity(file: &FileIdentity, world: &dyn World) -> Result<(), &'static str> {
    if file.deleted {
        return Err("it had been deleted already");
    }
    match world.named(&file.path) {
        Named::File(now) => {
            if (now.size, now.modified_ns) == (file.size, file.modified_ns) {
                return Ok(());
            }
            match &file.build_id {
                Some(id) if world.build_id(&file.path).as_ref() == Some(id) => Ok(()),
                Some(_) => Err("it is another build now"),
                None => Err("it has changed"),
            }
        }
        Named::Nothing => Err("it is gone"),
        Named::Hidden(_) => Err("it cannot be looked at"),
        Named::Directory | Named::Other => Err("its path names something else now"),
    }
}

/// Files that are open and not for writing, directories, devices.
pub(super) fn open(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    let mut seen = HashSet::new();
    let mut same = 0;
    for process in &wanted.checkpoint.processes {
        for d in &process.descriptors.open {
            let writing = matches!(d.flags & O_ACCMODE, 1 | 2) && d.flags & O_PATH == 0;
            let named = d.target.starts_with(b"/");
            if !named || (writing && is_written(wanted, d)) || !seen.insert(&d.target) {
                continue;
            }
            match check_open(d, writing, world) {
                None => {}
                Some((Severity::Ok, _)) => same += 1,
                Some((severity, text)) => out.add(severity, AREA, printable(&d.target), text),
            }
        }
    }
    if same > 0 {
        out.ok(
            AREA,
            "open files and directories",
            format!("{same} as they were"),
        );
    }
}

fn is_written(wanted: &Wanted, d: &Descriptor) -> bool {
    let path = d.target.strip_suffix(b" (deleted)").unwrap_or(&d.target);
    let mut files = wanted.checkpoint.files.iter();
    d.kind == DescriptorKind::Regular && files.any(|f| f.inode == d.inode && f.path == path)
}

/// `None`: it has no name by which it could be opened, and what becomes of it is said elsewhere.
fn check_open(d: &Descriptor, writing: bool, world: &dyn World) -> Option<(Severity, String)> {
    use Severity::{Ok, Refuse, Warning};
    let now = world.named(&d.target);
    let found = match (&d.kind, now) {
        (DescriptorKind::Regular, _) if d.target.ends_with(b" (deleted)") => return None,
        (DescriptorKind::Regular, Named::File(facts)) => {
            let (size, modified) = d.file.unwrap_or((facts.size, facts.modified_ns));
            if facts.inode == d.inode && (facts.size, facts.modified_ns) == (size, modified) {
                (Ok, "")
            } else if !world.may_open(&d.target, writing) {
                (Refuse, "we may not open it")
            } else if facts.size < d.offset {
                (Warning, "it is shorter now than where the process reads on")
            } else if facts.inode != d.inode {
                (
                    Warning,
                    "another file stands there now; the process reads on in that",
                )
            } else {
                (
                    Warning,
                    "it has changed; the process reads on in what it is now",
                )
            }
        }
        (DescriptorKind::Directory, Named::Directory) => (Ok, ""),
        (DescriptorKind::Regular | DescriptorKind::Directory, Named::Nothing) => {
            (Refuse, "it is gone; put it back")
        }
        (DescriptorKind::Regular | DescriptorKind::Directory, Named::Hidden(why)) => {
            return Some((Refuse, why));
        }
        (DescriptorKind::Regular | DescriptorKind::Directory, _) => {
            (Refuse, "its path names something else now")
        }
        (DescriptorKind::Fifo | DescriptorKind::CharDevice, Named::Nothing) => {
            (Refuse, "it is gone; make it again")
        }
        (DescriptorKind::Fifo | DescriptorKind::CharDevice, Named::Other) => (Ok, ""),
        _ => return None,
    };
    Some((found.0, found.1.to_owned()))
}

/// Files of a checkpoint that the processes write.
pub(super) fn written<'a>(
    files: impl Iterator<Item = &'a WrittenFile>,
    checkpoint: &Checkpoint,
    world: &dyn World,
    policy: Policy,
    out: &mut Findings,
) {
    // A live process is to have its files open.
    let ours: Vec<u32> = match policy.purpose {
        Purpose::Live => {
            let processes = checkpoint.processes.iter();
            processes.map(|p| p.process.pid).collect()
        }
        Purpose::New { .. } | Purpose::Tree => Vec::new(),
    };
    for file in files {
        let now = world.named(&file.path);
        let (severity, text) = match policy.files {
            Files::Ignore => as_it_is(file, &now, world, Severity::Warning, checkpoint),
            Files::Check => as_it_is(file, &now, world, Severity::Refuse, checkpoint),
            Files::Version => put_back(file, &now, world, &ours),
            Files::Private => beside(file, &now, world),
        };
        out.add(severity, AREA, printable(&file.path), text);
    }
}

/// The file is used as it is now. `bad`: what a difference is that does harm.
fn as_it_is(
    file: &WrittenFile,
    now: &Named,
    world: &dyn World,
    bad: Severity,
    checkpoint: &Checkpoint,
) -> (Severity, String) {
    use Severity::{Ok, Refuse, Warning};
    // One that was closed is no part of the process; what changed in it may still matter.
    let bad = if file.open { bad } else { Warning };
    if file.links == 0 {
        return match file.content {
            _ if !file.open => (Ok, "it was deleted and closed".to_owned()),
            FileContent::Kept { .. } => (
                Warning,
                "it had no name any more; the content in the recording is used".to_owned(),
            ),
            _ => (
                bad,
                "it had no name any more, and the recording keeps no content of it".to_owned(),
            ),
        };
    }
    let kept = match file.since() {
        Some(_) => "; --files version puts it back, --files private uses a copy",
        None => "",
    };
    let gone = if file.open { Refuse } else { Warning };
    let (severity, text) = match compare(file, now, world) {
        Change::Same => (Ok, "as it was".to_owned()),
        Change::Gone => (gone, "it is gone".to_owned()),
        Change::NoFile => (gone, "its path names something else now".to_owned()),
        Change::Replaced => (bad, "another file stands there now".to_owned()),
        Change::Shorter => (bad, format!("{} bytes then, fewer now", file.size)),
        Change::Grown if is_log(file, checkpoint) => (
            Warning,
            "it has grown; what was added since stays, and the process writes on".to_owned(),
        ),
        Change::Grown => (bad, format!("{} bytes then, more now", file.size)),
        Change::Changed => (bad, "it has been written since".to_owned()),
    };
    let kept = if severity == Ok { "" } else { kept };
    (severity, format!("{text}{kept}"))
}

/// Whether every descriptor of a file only adds to it: by O_APPEND, or standing at its end.
fn is_log(file: &WrittenFile, checkpoint: &Checkpoint) -> bool {
    let mut processes = checkpoint.processes.iter();
    let mapped = processes.any(|p| {
        let mut mappings = p.space.mappings.iter();
        mappings.any(|m| m.shared && m.write && (m.device, m.inode) == (file.device, file.inode))
    });
    let open = checkpoint.processes.iter();
    let open = open.flat_map(|p| &p.descriptors.open);
    let mut ours = open.filter(|d| {
        d.kind == DescriptorKind::Regular && d.inode == file.inode && d.target == file.path
    });
    !mapped && ours.all(|d| d.flags & O_APPEND != 0 || d.offset >= file.size)
}

/// The file is put back in its place.
fn put_back(
    file: &WrittenFile,
    now: &Named,
    world: &dyn World,
    ours: &[u32],
) -> (Severity, String) {
    use Severity::{Ok, Refuse, Warning};
    let change = compare(file, now, world);
    if file.links == 0 {
        return match file.content {
            _ if !file.open => (Ok, "it was deleted and closed".to_owned()),
            FileContent::Kept { .. } => {
                (Ok, "it had no name; a copy without one is made".to_owned())
            }
            _ => (
                Refuse,
                "it had no name any more, and its content is not kept".to_owned(),
            ),
        };
    }
    match (&file.content, change) {
        (_, Change::Same) => (Ok, "as it was".to_owned()),
        (FileContent::Kept { .. }, Change::NoFile) => (
            Refuse,
            "its path names something else now; take that away".to_owned(),
        ),
        (FileContent::Kept { .. }, Change::Gone) => (Ok, "it is gone; it is made again".to_owned()),
        (FileContent::Kept { .. }, _) => {
            if let Named::File(facts) = now {
                if !world.may_open(&file.path, true) {
                    return (
                        Refuse,
                        "we may not write it; restore as its owner".to_owned(),
                    );
                }
                if let Some(pid) = world.writer_of(facts, ours) {
                    return (
                        Warning,
                        format!(
                            "it is put back under process {pid}, which has it open for writing"
                        ),
                    );
                }
            }
            (Ok, "it is put back to what it was".to_owned())
        }
        (content, _) => (Refuse, unkept(content)),
    }
}

/// A copy of the file is used.
fn beside(file: &WrittenFile, now: &Named, world: &dyn World) -> (Severity, String) {
    use Severity::{Ok, Refuse};
    match (&file.content, compare(file, now, world)) {
        _ if !file.open => (Ok, "it was closed: no copy is made".to_owned()),
        (FileContent::Kept { .. }, _) => (Ok, "a copy of what it was is used".to_owned()),
        (_, Change::Same) if file.links > 0 => (Ok, "as it was; a copy is used".to_owned()),
        (content, _) => (Refuse, unkept(content)),
    }
}

/// Why a file cannot be had as it was.
fn unkept(content: &FileContent) -> String {
    match content {
        FileContent::Torn { .. } => {
            "it was written while its content was read, so what is kept is not of one instant; \
             choose another moment"
                .to_owned()
        }
        FileContent::Left(why) => format!("it has changed, and its content is not kept: {why}"),
        _ => "it has changed, and its content is not kept; record with --files version".to_owned(),
    }
}
