//! A moment as JSON.
//!
//! Not the image's own encoding: bytes become text, addresses and registers become hexadecimal
//! strings (a JSON number loses bits beyond 2^53), and every field has the unit in its name.

use super::{objects, sections, threads, tree};
use crate::names;
use serde::Serialize;
use std::collections::BTreeMap;
use stillframe_image::{
    CheckpointId, Coverage, Descriptor, FileContent, Mapping, Point, ProcessImage, SigInfo,
    SignalAction, Thread, WrittenFile,
};
use stillframe_store::Recording;
use stillframe_timeline::View;

#[derive(Serialize)]
pub(super) struct Moment {
    checkpoint: u64,
    at_ns: Option<u64>,
    wall_ns: Option<u64>,
    pause_ns: Option<u64>,
    marks: Vec<&'static str>,
    points: Vec<PointView>,
    /// All processes of the moment; what follows is about one of them.
    processes: Vec<tree::Branch>,
    process: ProcessView,
    threads: Vec<ThreadView>,
    mappings: Vec<MappingView>,
    files: Vec<DescriptorView>,
    /// Files that any process of the moment writes.
    written_files: Vec<WrittenView>,
    gaps: Vec<GapView>,
}

/// A file that is written.
#[derive(Serialize)]
struct WrittenView {
    path: String,
    size: u64,
    modified_ns: i64,
    changed_ns: i64,
    inode: u64,
    links: u32,
    open: bool,
    mode: String,
    uid: u32,
    gid: u32,
    /// `checked`, `hashed`, `kept`, `torn` or `left`.
    content: &'static str,
    kept_since: Option<u64>,
    blake3: Option<String>,
    not_kept: Option<String>,
}

impl WrittenView {
    fn of(file: &WrittenFile) -> Self {
        let (content, kept_since) = sections::content(&file.content);
        Self {
            path: text(&file.path),
            size: file.size,
            modified_ns: file.modified_ns,
            changed_ns: file.changed_ns,
            inode: file.inode,
            links: file.links,
            open: file.open,
            mode: format!("{:o}", file.mode),
            uid: file.uid,
            gid: file.gid,
            content,
            kept_since,
            blake3: match &file.content {
                FileContent::Hash(hash) => Some(stillframe_store::objects::hex(hash)),
                _ => None,
            },
            not_kept: match &file.content {
                FileContent::Left(why) => Some(why.clone()),
                _ => None,
            },
        }
    }
}

/// A point that the program marked.
#[derive(Serialize)]
pub(crate) struct PointView {
    process: u32,
    tid: u32,
    name: String,
}

impl PointView {
    pub(crate) fn of(point: &Point) -> Self {
        Self {
            process: point.space.0,
            tid: point.tid,
            name: text(&point.name),
        }
    }
}

#[derive(Serialize)]
struct ProcessView {
    number: u32,
    as_of: u64,
    pid: u32,
    parent: u32,
    group: u32,
    session: u32,
    name: String,
    executable: String,
    arguments: Vec<String>,
    cwd: String,
    root: String,
    umask: u32,
    nice: i32,
    uids: [u32; 4],
    gids: [u32; 4],
    groups: Vec<u32>,
    capabilities: [String; 5],
    no_new_privs: bool,
    seccomp: u32,
    /// Soft and hard; null is unlimited.
    limits: BTreeMap<&'static str, [Option<u64>; 2]>,
    actions: Vec<ActionView>,
    pending: Vec<SignalView>,
    interval_timers_us: Option<Vec<[u64; 2]>>,
    posix_timers: Vec<TimerView>,
}

#[derive(Serialize)]
struct TimerView {
    id: u32,
    clock: i32,
    signal: i32,
    notify: i32,
    interval_ns: Option<u64>,
    left_ns: Option<u64>,
}

#[derive(Serialize)]
struct ActionView {
    signal: String,
    handler: String,
    flags: String,
    blocks: Vec<String>,
}

#[derive(Serialize)]
struct SignalView {
    signal: String,
    number: i32,
    code: i32,
    errno: i32,
}

#[derive(Serialize)]
struct ThreadView {
    tid: u32,
    name: String,
    place: PlaceView,
    syscall: Option<CallView>,
    registers: BTreeMap<&'static str, String>,
    xstate_bytes: usize,
    blocked: Vec<String>,
    pending: Vec<SignalView>,
    about_to_get: Option<SignalView>,
    alt_stack: Option<[String; 2]>,
    robust_list: Option<String>,
    rseq: Option<String>,
    tid_address: Option<String>,
}

#[derive(Serialize)]
struct PlaceView {
    address: String,
    mapping: Option<String>,
    offset: Option<String>,
    symbol: Option<String>,
    symbol_offset: Option<u64>,
}

#[derive(Serialize)]
struct CallView {
    name: String,
    arguments: [String; 6],
    result: Option<i64>,
}

#[derive(Serialize)]
struct MappingView {
    start: String,
    end: String,
    permissions: String,
    kind: &'static str,
    coverage: &'static str,
    omitted_because: Option<String>,
    offset: u64,
    device: String,
    inode: u64,
    name: String,
    build_id: Option<String>,
    file_in_recording: Option<bool>,
}

#[derive(Serialize)]
struct DescriptorView {
    fd: u32,
    kind: String,
    flags: String,
    offset: u64,
    target: String,
    inode: u64,
    mount: u32,
    size: Option<u64>,
    modified_ns: Option<i64>,
    detail: String,
    object: objects::ObjectView,
}

#[derive(Serialize)]
struct GapView {
    subject: String,
    reason: String,
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

fn hex(value: u64) -> String {
    format!("{value:#x}")
}

fn signal(info: &SigInfo) -> SignalView {
    SignalView {
        signal: stillframe_image::signal::name(i64::from(info.signal)),
        number: info.signal,
        code: info.code,
        errno: info.errno,
    }
}

/// The whole moment.
pub(super) fn moment(
    recording: &Recording,
    id: CheckpointId,
    image: &ProcessImage,
    view: &View<'_>,
) -> anyhow::Result<Moment> {
    let tick = recording.row(id).map(|row| row.tick);
    Ok(Moment {
        checkpoint: id.0,
        at_ns: tick.map(|t| t.at_ns),
        wall_ns: tick.map(|t| t.wall_ns),
        pause_ns: tick.map(|t| t.pause_ns()),
        marks: tick.map(|t| t.marks.names().collect()).unwrap_or_default(),
        points: recording.points(id)?.iter().map(PointView::of).collect(),
        processes: tree::read(recording, id)?,
        process: process(image),
        threads: image.threads.iter().map(|t| thread(t, view)).collect(),
        mappings: image
            .space
            .mappings
            .iter()
            .map(|m| mapping(image, m))
            .collect(),
        files: image
            .descriptors
            .open
            .iter()
            .map(|d| descriptor(image, d))
            .collect(),
        written_files: recording.files(id)?.iter().map(WrittenView::of).collect(),
        gaps: image
            .gaps
            .iter()
            .map(|gap| GapView {
                subject: gap.subject.clone(),
                reason: gap.reason.clone(),
            })
            .collect(),
    })
}

fn process(image: &ProcessImage) -> ProcessView {
    let p = &image.process;
    let arguments = p.arguments.strip_suffix(&[0]).unwrap_or(&p.arguments);
    let limit = |value: u64| (value != u64::MAX).then_some(value);
    ProcessView {
        number: image.id.0,
        as_of: p.as_of.0,
        pid: p.pid,
        parent: p.parent,
        group: p.group,
        session: p.session,
        name: text(&p.name),
        executable: text(&p.executable),
        arguments: arguments.split(|b| *b == 0).map(text).collect(),
        cwd: text(&p.cwd),
        root: text(&p.root),
        umask: p.umask,
        nice: p.nice,
        uids: p.uids,
        gids: p.gids,
        groups: p.groups.clone(),
        capabilities: p.capabilities.map(hex),
        no_new_privs: p.no_new_privs,
        seccomp: p.seccomp,
        limits: stillframe_image::process::LIMIT_NAMES
            .iter()
            .zip(&p.limits)
            .map(|(name, l)| (*name, [limit(l.soft), limit(l.hard)]))
            .collect(),
        actions: p.actions.iter().map(action).collect(),
        pending: p.pending.iter().map(signal).collect(),
        interval_timers_us: p
            .interval_timers
            .map(|timers| timers.iter().map(|t| [t.interval_us, t.value_us]).collect()),
        posix_timers: p
            .posix_timers
            .iter()
            .map(|t| TimerView {
                id: t.id,
                clock: t.clock,
                signal: t.signal,
                notify: t.notify,
                interval_ns: t.armed_ns.map(|armed| armed.0),
                left_ns: t.armed_ns.map(|armed| armed.1),
            })
            .collect(),
    }
}

fn action(action: &SignalAction) -> ActionView {
    ActionView {
        signal: stillframe_image::signal::name(i64::from(action.signal)),
        handler: match action.handler {
            0 => "default".to_owned(),
            1 => "ignored".to_owned(),
            SignalAction::UNKNOWN => "unknown".to_owned(),
            address => hex(address),
        },
        flags: names::action_flags(action.flags),
        blocks: names::signals(action.mask),
    }
}

fn thread(thread: &Thread, view: &View<'_>) -> ThreadView {
    let rip = thread.registers.rip;
    let place = threads::locate(view, rip);
    let symbol = place.as_ref().and_then(|p| p.symbol.clone());
    ThreadView {
        tid: thread.tid,
        name: text(&thread.name),
        place: PlaceView {
            address: hex(rip),
            mapping: place.as_ref().map(|p| text(&p.mapping.name)),
            offset: place.as_ref().map(|p| hex(p.offset)),
            symbol: symbol.as_ref().map(|s| s.0.clone()),
            symbol_offset: symbol.map(|s| s.1),
        },
        syscall: threads::call(&thread.registers).map(|call| CallView {
            name: call.name,
            arguments: call.arguments.map(hex),
            result: call.result,
        }),
        registers: threads::ORDER
            .iter()
            .map(|name| (*name, hex(threads::value(&thread.registers, name))))
            .collect(),
        xstate_bytes: thread.xstate.len(),
        blocked: names::signals(thread.blocked),
        pending: thread.pending.iter().map(signal).collect(),
        about_to_get: thread.signal.as_ref().map(signal),
        alt_stack: thread
            .alt_stack
            .map(|stack| [hex(stack.base), hex(stack.size)]),
        robust_list: thread.robust_list.map(|list| hex(list.head)),
        rseq: thread.rseq.map(|rseq| hex(rseq.address)),
        tid_address: thread.tid_address.map(hex),
    }
}

fn mapping(image: &ProcessImage, mapping: &Mapping) -> MappingView {
    let file = image.space.file_of(mapping);
    MappingView {
        start: hex(mapping.start),
        end: hex(mapping.end),
        permissions: sections::permissions(mapping),
        kind: sections::kind(mapping.kind),
        coverage: sections::coverage(&mapping.coverage),
        omitted_because: match &mapping.coverage {
            Coverage::Omitted(reason) => Some(reason.clone()),
            _ => None,
        },
        offset: mapping.offset,
        device: format!("{}:{}", mapping.device.0, mapping.device.1),
        inode: mapping.inode,
        name: text(&mapping.name),
        build_id: file
            .and_then(|f| f.build_id.as_ref())
            .map(|id| id.iter().map(|byte| format!("{byte:02x}")).collect()),
        file_in_recording: file.map(|f| f.object.is_some()),
    }
}

fn descriptor(image: &ProcessImage, descriptor: &Descriptor) -> DescriptorView {
    DescriptorView {
        fd: descriptor.fd,
        kind: names::descriptor(&descriptor.kind).to_owned(),
        flags: names::open_flags(descriptor.flags),
        offset: descriptor.offset,
        target: text(&descriptor.target),
        inode: descriptor.inode,
        mount: descriptor.mount,
        size: descriptor.file.map(|f| f.0),
        modified_ns: descriptor.file.map(|f| f.1),
        detail: text(&descriptor.detail),
        object: objects::view(image, descriptor),
    }
}
