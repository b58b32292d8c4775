//! Pids, credentials, limits, places, and what cannot be brought back.

use super::findings::Findings;
use super::world::Named;
use super::{Purpose, Wanted, World};
use crate::tree::{self, Place};
use stillframe_image::process::LIMIT_NAMES;
use stillframe_image::text::printable;
use stillframe_image::{DescriptorKind, MappingKind, ProcessImage};

/// CAP_SYS_CHROOT, CAP_SYS_RESOURCE.
const CHROOT: u32 = 18;
const RESOURCE: u32 = 24;
/// Position of the limit of descriptors.
const NOFILE: usize = 7;
fn capable(world: &dyn World, capability: u32) -> bool {
    // Inheritable, permitted, effective, ...
    let effective = world.us().capabilities.get(2);
    effective.is_some_and(|set| set >> capability & 1 == 1)
}

fn subject(process: &ProcessImage) -> String {
    format!("process {}", process.process.pid)
}

pub(super) fn pids(wanted: &Wanted, world: &dyn World, purpose: Purpose, out: &mut Findings) {
    let same_pids = match purpose {
        Purpose::New { same_pids } => same_pids,
        Purpose::Tree => return numbers(wanted, world, out),
        Purpose::Live => return,
    };
    if !same_pids {
        out.ok("pid", "pids", "new ones are taken");
        return;
    }
    let mut free = true;
    for process in &wanted.checkpoint.processes {
        let threads = process.threads.iter().map(|t| t.tid);
        for id in threads.chain([process.process.pid]) {
            if world.pid_taken(id) {
                free = false;
                out.refuse(
                    "pid",
                    format!("pid {id}"),
                    "it is taken; end that process, or use --pid new",
                );
            }
        }
    }
    if free {
        out.ok("pid", "pids", "those of then are free");
    }
}

/// Those of a tree, which are kept.
fn numbers(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    let images: Vec<&ProcessImage> = wanted.checkpoint.processes.iter().collect();
    match tree::place(&images, world.us(), &|pid| world.pid_taken(pid)) {
        Place::Here => out.ok("pid", "pids", "those of then are free"),
        Place::Namespace { .. } => {
            match world.namespaces() {
                Ok(()) => out.warn(
                    "pid",
                    "pids",
                    "not all of then are free and ours to choose; the processes have them in a PID \
                     namespace of their own, and other numbers outside",
                ),
                Err(why) => out.refuse(
                    "pid",
                    "pids",
                    format!(
                        "not all of then are free and ours to choose, and no PID namespace is to be had \
                         ({why}); restore it as root"
                    ),
                ),
            }
            let mut threads = images.iter().flat_map(|i| &i.threads);
            if threads.any(|t| t.tid == 1) {
                out.refuse(
                    "pid",
                    "pid 1",
                    "it is taken by the first process of the new PID namespace; restore one process with \
                     --process N",
                );
            }
        }
    }
}

/// Parents, sessions and groups.
pub(super) fn tree(wanted: &Wanted, purpose: Purpose, out: &mut Findings) {
    let processes = &wanted.checkpoint.processes;
    if purpose == Purpose::Tree {
        let images: Vec<&ProcessImage> = processes.iter().collect();
        let gaps = tree::plan(&images, false).gaps;
        if gaps.is_empty() {
            let count = processes.len();
            out.ok("tree", format!("{count} processes"), "come back as a tree");
        }
        for gap in gaps {
            out.warn("tree", gap.subject, gap.reason);
        }
        return;
    }
    for process in processes {
        let mut others = processes.iter();
        if others.any(|p| p.parent == Some(process.id)) {
            out.warn(
                "tree",
                subject(process),
                "its children would not come back with it if it is chosen with --process",
            );
        }
    }
}

pub(super) fn credentials(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    let us = world.us();
    let ours = us.uids.get(1).copied().unwrap_or(u32::MAX);
    let root = ours == 0;
    let mut same = true;
    for process in &wanted.checkpoint.processes {
        let p = &process.process;
        let all_ours = |ids: &[u32; 4], ours: &[u32; 4]| ids.iter().all(|id| ours.contains(id));
        let ours_alone = all_ours(&p.uids, &us.uids) && all_ours(&p.gids, &us.gids);
        if !(root || ours_alone) {
            same = false;
            let uid = p.uids.get(1).copied().unwrap_or(0);
            out.refuse(
                "credentials",
                subject(process),
                format!("it ran as user {uid} and we are user {ours}; restore it as that user"),
            );
            continue;
        }
        let effective = |c: &[u64; 5]| c.get(2).copied().unwrap_or(0);
        let missing = effective(&p.capabilities) & !effective(&us.capabilities);
        if missing != 0 {
            same = false;
            out.warn(
                "credentials",
                subject(process),
                format!("it had capabilities that we have not: {missing:#x}"),
            );
        }
        if p.seccomp != 0 {
            same = false;
            out.warn(
                "credentials",
                subject(process),
                "it had a seccomp filter, which is not put back",
            );
        }
    }
    if let Err(why) = world.namespaces() {
        out.warn(
            "credentials",
            "user namespaces",
            format!("not to be had ({why}): pids of then only as root"),
        );
    }
    if same {
        out.ok(
            "credentials",
            "credentials",
            format!("user {ours} may restore it"),
        );
    }
}

pub(super) fn limits(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    if capable(world, RESOURCE) {
        out.ok("limits", "limits", "all can be set");
        return;
    }
    let ours = &world.us().limits;
    let mut low = false;
    for process in &wanted.checkpoint.processes {
        let highest = process
            .descriptors
            .open
            .last()
            .map_or(0, |d| u64::from(d.fd) + 1);
        let hard = ours.get(NOFILE).map_or(u64::MAX, |l| l.hard);
        if highest > hard {
            low = true;
            out.refuse(
                "limits",
                subject(process),
                format!(
                    "it has descriptor {}, and the limit of descriptors here is {hard}; raise it \
                     (ulimit -Hn)",
                    highest - 1
                ),
            );
        }
        for ((then, now), name) in process.process.limits.iter().zip(ours).zip(LIMIT_NAMES) {
            if then.hard > now.hard {
                low = true;
                let limit = match then.hard {
                    u64::MAX => "unlimited".to_owned(),
                    n => n.to_string(),
                };
                out.warn(
                    "limits",
                    subject(process),
                    format!("its limit {name} was {limit} and stays at {}", now.hard),
                );
            }
        }
    }
    if !low {
        out.ok("limits", "limits", "as high as then");
    }
}

/// Directories: working, root; the terminal.
pub(super) fn places(wanted: &Wanted, world: &dyn World, out: &mut Findings) {
    for process in &wanted.checkpoint.processes {
        let p = &process.process;
        let cwd = p.cwd.strip_suffix(b" (deleted)").unwrap_or(&p.cwd);
        match world.named(cwd) {
            _ if cwd.is_empty() => {}
            Named::Directory if cwd.len() == p.cwd.len() => {
                out.ok("place", printable(cwd), "the working directory is there");
            }
            Named::Hidden(why) => {
                out.refuse(
                    "place",
                    printable(cwd),
                    format!("the working directory: {why}"),
                );
            }
            _ => out.refuse(
                "place",
                printable(cwd),
                "the working directory is gone; make a directory of that name",
            ),
        }
        if !matches!(&p.root[..], b"/" | b"") && !capable(world, CHROOT) {
            out.refuse(
                "place",
                printable(&p.root),
                "it ran with this root directory, which takes CAP_SYS_CHROOT; restore it as root",
            );
        }
        if p.terminal != 0 && world.us().terminal == 0 {
            out.warn(
                "place",
                subject(process),
                "it had a controlling terminal, and there is none here",
            );
        }
    }
}

/// Kinds of descriptors and memory that cannot be brought back.
pub(super) fn descriptors(wanted: &Wanted, out: &mut Findings) {
    for process in &wanted.checkpoint.processes {
        for d in &process.descriptors.open {
            let kind: &str = match &d.kind {
                DescriptorKind::IoUring => "an io_uring",
                DescriptorKind::Userfaultfd => "a userfaultfd",
                DescriptorKind::Fanotify => "a fanotify group",
                DescriptorKind::BlockDevice => "a block device",
                DescriptorKind::Other(name) => name,
                _ => continue,
            };
            out.refuse(
                "unsupported",
                format!("{}, descriptor {}", subject(process), d.fd),
                format!(
                    "it is {}, which cannot be restored",
                    printable(kind.as_bytes())
                ),
            );
        }
        for m in process
            .space
            .mappings
            .iter()
            .filter(|m| m.kind == MappingKind::Device)
        {
            out.refuse(
                "unsupported",
                format!("{}, mapping {:x}-{:x}", subject(process), m.start, m.end),
                format!(
                    "memory of a device ({}) cannot be restored",
                    printable(&m.name)
                ),
            );
        }
    }
}

/// Ends of pipes, connections and terminals that lead out of the tree.
pub(super) fn ends(wanted: &Wanted, out: &mut Findings) {
    // Recordings of earlier builds do not say what stands behind a descriptor.
    let mut processes = wanted.checkpoint.processes.iter();
    if processes.all(|p| p.objects.opened.is_empty()) {
        return;
    }
    for gap in crate::objects::foresee(&wanted.checkpoint, crate::objects::Policy::default()) {
        out.warn("outside", gap.subject, gap.reason);
    }
}

/// What the checkpoint itself says that it does not hold.
pub(super) fn gaps(wanted: &Wanted, out: &mut Findings) {
    for process in &wanted.checkpoint.processes {
        for gap in &process.gaps {
            // The kernel's own, which every process has anew.
            if gap.subject.contains("[vvar") || gap.subject.contains("[vsyscall]") {
                continue;
            }
            out.warn(
                "gap",
                format!("{}, {}", subject(process), gap.subject),
                format!("not in the checkpoint: {}", gap.reason),
            );
        }
    }
}
