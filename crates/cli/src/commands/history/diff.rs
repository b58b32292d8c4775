//! `still diff`.

use super::control::Control;
use super::places::Places;
use super::{At, past, range};
use crate::args::history::{AskArgs, DiffArgs};
use crate::commands::show::permissions;
use crate::exit::{Code, fail};
use crate::{open, output, units};
use serde::Serialize;
use std::io::{self, Write};
use std::path::Path;
use std::sync::Arc;
use stillframe_image::Mapping;
use stillframe_store::Moment;
use stillframe_timeline::diff::{
    self, DescriptorChange, Differences, HeapChange, MappingChange, ThreadChange, VariableChange,
    Variables,
};
use stillframe_timeline::machine::Options;
use stillframe_timeline::{Machine, Past};

/// Lines of one sort that are shown without `--all`.
const SHOWN: usize = 20;

/// Compares two moments.
pub fn run(args: &DiffArgs) -> anyhow::Result<u8> {
    let opened = open::moment(&args.old)?;
    let later = later(args, &opened.path)?;
    let options = Options::with_directories(args.directories.iter().cloned());
    let machine = Machine::new(Arc::new(opened.recording), options);
    let recording = machine.recording();
    let second = recording.resolve(&later)?;
    let everything = AskArgs {
        process: args.process.clone(),
        from: Some(opened.id.to_string()),
        to: Some(second.to_string()),
        limit: None,
        json: args.json,
    };
    if second < opened.id {
        return Err(fail(
            Code::Usage,
            format!(
                "checkpoint {second} is earlier than {}; name the earlier moment first",
                opened.id
            ),
        ));
    }
    let range = range(recording, &everything)?;
    let (a, b) = (*range.start(), *range.end());
    let past = past(recording, &args.process, &range)?;
    for at in [a, b] {
        if !past.life().contains(&at) {
            // Says which processes there are.
            recording.process(past.id(at), past.space())?;
        }
    }
    let mut control = Control::new("comparing", None)?;
    let mut found = diff::diff(&past, (a, b), &mut |done, all| {
        (0..16).all(|_| control.go_on(done, all, "pages"))
    })?;
    // What has a name and a type is told by that, and the rest as bytes.
    let mut named = diff::variables(&machine, &past, (a, b), &found.memory.stretches)?;
    found.memory.stretches = std::mem::take(&mut named.rest);
    let places = (
        Places::new(&machine, &past, a)?,
        Places::new(&machine, &past, b)?,
    );
    let code = control.finish()?;
    if args.json {
        output::json(&Document::new(&past, (a, b), &found, &named, &places))?;
        return Ok(code);
    }
    let mut out = output::stdout();
    let shown = if args.all { usize::MAX } else { SHOWN };
    print(&mut out, &past, (a, b), (&found, &named), &places, shown)?;
    out.flush()?;
    Ok(code)
}

/// The later moment: of the same recording.
fn later(args: &DiffArgs, path: &Path) -> anyhow::Result<Moment> {
    let text = args.new.to_str().unwrap_or_default();
    if let Some(moment) = text.strip_prefix('@') {
        return Ok(moment.parse()?);
    }
    let (other, moment) = stillframe_store::split_moment(text)?;
    let moment = moment.ok_or_else(|| {
        fail(
            Code::Usage,
            format!(
                "which moment of {}? write {text}@last or the like",
                path.display()
            ),
        )
    })?;
    let same = |p: &Path| std::fs::canonicalize(p).ok();
    if same(&other) != same(path) {
        return Err(fail(
            Code::Usage,
            format!(
                "{} and {} are two recordings; only moments of one can be compared",
                path.display(),
                other.display()
            ),
        ));
    }
    Ok(moment)
}

/// Prints the first of some lines, and how many more there are.
fn some<T>(
    out: &mut impl Write,
    title: &str,
    items: &[T],
    shown: usize,
    more: u64,
    mut line: impl FnMut(&T) -> String,
) -> io::Result<()> {
    if items.is_empty() {
        return Ok(());
    }
    writeln!(out, "\n{title}")?;
    for item in items.iter().take(shown) {
        writeln!(out, "  {}", line(item))?;
    }
    let left = items.len().saturating_sub(shown) as u64 + more;
    if left > 0 {
        writeln!(out, "  ... and {left} more")?;
    }
    Ok(())
}

fn print(
    out: &mut impl Write,
    past: &Past<'_>,
    (a, b): (usize, usize),
    (found, named): (&Differences, &Variables),
    places: &(Places<'_>, Places<'_>),
    shown: usize,
) -> io::Result<()> {
    let (old, new) = (At::of(past, a), At::of(past, b));
    writeln!(
        out,
        "checkpoint {} ({:.3} s) -> {} ({:.3} s), process {}",
        old.checkpoint,
        old.seconds(),
        new.checkpoint,
        new.seconds(),
        past.space().0
    )?;
    some(out, "mappings", &found.mappings, shown, 0, mapping_line)?;
    some(out, "threads", &found.threads, shown, 0, |t| {
        thread_line(t, places)
    })?;
    some(
        out,
        "descriptors",
        &found.descriptors,
        shown,
        0,
        descriptor_line,
    )?;
    some(out, "state", &found.state, shown, 0, |s| {
        let text = |t: &str| output::printable(t.as_bytes()).into_owned();
        format!("{}: {} -> {}", s.name, text(&s.old), text(&s.new))
    })?;
    let memory = &found.memory;
    writeln!(
        out,
        "\nmemory: {} pages compared, {} differ, in {} bytes; {} pages of new memory, {} of memory \
         that is gone{}",
        memory.compared_pages,
        memory.differing_pages,
        memory.differing_bytes,
        memory.new_pages,
        memory.gone_pages,
        if memory.stopped {
            "; stopped before all was compared"
        } else {
            ""
        }
    )?;
    let more = named.more_changes;
    some(out, "variables", &named.changes, shown, more, variable_line)?;
    let rows = byte_rows(found, places);
    some(out, "bytes", &rows, shown, memory.more_stretches, |row| {
        format!(
            "{:<40} {:>5} bytes  {} -> {}",
            row.place, row.bytes, row.old, row.new
        )
    })?;
    let heap = &found.heap;
    match &heap.note {
        Some(note) => writeln!(out, "\nheap: {note}")?,
        None if heap.regions.is_empty() && heap.changes.is_empty() => {}
        None => {
            writeln!(
                out,
                "\nheap: {} blocks in use, {} -> {} blocks, {}",
                heap.old_blocks.0,
                units::show_size(heap.old_blocks.1),
                heap.new_blocks.0,
                units::show_size(heap.new_blocks.1)
            )?;
            some(out, "blocks by size", &heap.classes, shown, 0, |c| {
                format!(
                    "{:>10} bytes  {:>8} -> {:<8} {:+}",
                    c.size,
                    c.old,
                    c.new,
                    signed(c.old, c.new)
                )
            })?;
            some(
                out,
                "blocks",
                &heap.changes,
                shown,
                heap.more_changes,
                |change| heap_line(change, places),
            )?;
        }
    }
    Ok(())
}

fn variable_line(change: &VariableChange) -> String {
    let text = |t: &str| output::printable(t.as_bytes()).into_owned();
    format!(
        "{:<40} {}  {} -> {}",
        text(&change.path),
        text(&change.type_name),
        text(&change.old),
        text(&change.new)
    )
}

fn signed(old: u64, new: u64) -> i128 {
    i128::from(new) - i128::from(old)
}

fn mapping_line(change: &MappingChange) -> String {
    let shown = |m: &Mapping| {
        format!(
            "{:012x}-{:012x} {} {:>10}  {}",
            m.start,
            m.end,
            permissions(m),
            units::show_size(m.len()),
            output::printable(&m.name)
        )
    };
    match change {
        MappingChange::Added(m) => format!("+ {}", shown(m)),
        MappingChange::Removed(m) => format!("- {}", shown(m)),
        MappingChange::Renewed(m) => format!("= {}  (mapped again)", shown(m)),
        MappingChange::Changed { old, new } => {
            let mut line = format!("~ {}", shown(new));
            if old.end != new.end {
                line.push_str(&format!("  (ended at {:012x})", old.end));
            }
            if permissions(old) != permissions(new) {
                line.push_str(&format!("  (was {})", permissions(old)));
            }
            line
        }
    }
}

fn thread_line(change: &ThreadChange, (before, after): &(Places<'_>, Places<'_>)) -> String {
    let name = |t: &stillframe_image::Thread| format!("{} {}", t.tid, output::printable(&t.name));
    match change {
        ThreadChange::Began(t) => format!("+ {}  at {}", name(t), after.place(t.registers.rip)),
        ThreadChange::Ended(t) => {
            format!("- {}  was at {}", name(t), before.place(t.registers.rip))
        }
        ThreadChange::Changed { old, new, .. } => {
            let (a, b) = (
                before.place(old.registers.rip),
                after.place(new.registers.rip),
            );
            if a == b {
                format!("~ {}  at {b}", name(new))
            } else {
                format!("~ {}  {a} -> {b}", name(new))
            }
        }
    }
}

fn descriptor_line(change: &DescriptorChange) -> String {
    let target = |d: &stillframe_image::Descriptor| output::printable(&d.target).into_owned();
    match change {
        DescriptorChange::Opened(d) => format!("+ {:>4}  {}", d.fd, target(d)),
        DescriptorChange::Closed(d) => format!("- {:>4}  {}", d.fd, target(d)),
        DescriptorChange::Replaced { old, new } => {
            format!("~ {:>4}  {} -> {}", new.fd, target(old), target(new))
        }
        DescriptorChange::Changed { old, new } if old.offset != new.offset => {
            format!(
                "~ {:>4}  {}  offset {} -> {}",
                new.fd,
                target(new),
                old.offset,
                new.offset
            )
        }
        DescriptorChange::Changed { new, .. } => format!("~ {:>4}  {}", new.fd, target(new)),
    }
}

fn heap_line(change: &HeapChange, (before, after): &(Places<'_>, Places<'_>)) -> String {
    match change {
        HeapChange::Allocated(b) => {
            format!(
                "+ {:#014x} {:>8} bytes  {}",
                b.address,
                b.size,
                after.points_to(b.address)
            )
        }
        HeapChange::Freed(b) => {
            format!(
                "- {:#014x} {:>8} bytes  {}",
                b.address,
                b.size,
                before.points_to(b.address)
            )
        }
        HeapChange::Resized { old, new } => format!(
            "~ {:#014x} {:>8} bytes, was {}  {}",
            new.address,
            new.size,
            old.size,
            after.points_to(new.address)
        ),
        HeapChange::Written { block, bytes } => format!(
            "~ {:#014x} {:>8} bytes, {bytes} of them written  {}",
            block.address,
            block.size,
            after.points_to(block.address)
        ),
    }
}

/// Bytes that differ, by the name of where they are.
#[derive(Serialize)]
struct ByteRow {
    address: String,
    place: String,
    bytes: u64,
    old: String,
    new: String,
}

fn byte_rows(found: &Differences, places: &(Places<'_>, Places<'_>)) -> Vec<ByteRow> {
    let each = found.memory.stretches.iter();
    each.map(|s| {
        // A number is easier to read than bytes, and most of what changes is numbers.
        let (address, old, new) = widened(s, places);
        ByteRow {
            address: format!("{:#x}", s.address),
            place: places.1.place(address),
            bytes: s.new.len() as u64,
            old,
            new,
        }
    })
    .collect()
}

/// The whole variable, if a symbol says where it begins and ends and it has the size of a number.
fn widened(s: &diff::Bytes, (before, after): &(Places<'_>, Places<'_>)) -> (u64, String, String) {
    if let Some((start, size)) = after.variable(s.address)
        && matches!(size, 1 | 2 | 4 | 8)
        && s.address + s.new.len() as u64 <= start + size
        && let (Some(old), Some(new)) = (before.number(start, size), after.number(start, size))
    {
        return (start, old.to_string(), new.to_string());
    }
    (s.address, bytes(&s.old), bytes(&s.new))
}

fn bytes(bytes: &[u8]) -> String {
    const SHOWN: usize = 16;
    let mut text: String = bytes
        .iter()
        .take(SHOWN)
        .map(|b| format!("{b:02x}"))
        .collect();
    if bytes.len() > SHOWN {
        text.push_str("..");
    }
    text
}

#[derive(Serialize)]
struct Document {
    process: u32,
    from: At,
    to: At,
    stopped: bool,
    mappings: Vec<Entry>,
    threads: Vec<Entry>,
    descriptors: Vec<Entry>,
    state: Vec<StateEntry>,
    memory: MemoryEntry,
    heap: HeapEntry,
}

/// A thing that came, went or changed.
#[derive(Serialize)]
struct Entry {
    what: &'static str,
    line: String,
}

#[derive(Serialize)]
struct StateEntry {
    name: String,
    old: String,
    new: String,
}

#[derive(Serialize)]
struct MemoryEntry {
    compared_pages: u64,
    differing_pages: u64,
    differing_bytes: u64,
    new_pages: u64,
    gone_pages: u64,
    variables: Vec<VariableEntry>,
    more_variables: u64,
    stretches: Vec<ByteRow>,
    more_stretches: u64,
}

/// A part of a variable, in the words of the program.
#[derive(Serialize)]
struct VariableEntry {
    path: String,
    #[serde(rename = "type")]
    type_name: String,
    address: String,
    old: String,
    new: String,
}

#[derive(Serialize)]
struct HeapEntry {
    note: Option<String>,
    old_blocks: u64,
    old_bytes: u64,
    new_blocks: u64,
    new_bytes: u64,
    sizes: Vec<SizeEntry>,
    blocks: Vec<BlockEntry>,
    more_blocks: u64,
    bookkeeping_bytes: u64,
}

#[derive(Serialize)]
struct SizeEntry {
    block_bytes: u64,
    old_blocks: u64,
    new_blocks: u64,
}

#[derive(Serialize)]
struct BlockEntry {
    what: &'static str,
    address: String,
    bytes: u64,
    old_bytes: Option<u64>,
    written_bytes: Option<u64>,
}

impl Document {
    fn new(
        past: &Past<'_>,
        (a, b): (usize, usize),
        found: &Differences,
        named: &Variables,
        places: &(Places<'_>, Places<'_>),
    ) -> Self {
        let memory = &found.memory;
        let heap = &found.heap;
        let entry = |what, line: String| Entry {
            what,
            line: line.get(2..).unwrap_or_default().to_owned(),
        };
        Self {
            process: past.space().0,
            from: At::of(past, a),
            to: At::of(past, b),
            stopped: memory.stopped,
            mappings: found
                .mappings
                .iter()
                .map(|m| {
                    let what = match m {
                        MappingChange::Added(_) => "added",
                        MappingChange::Removed(_) => "removed",
                        MappingChange::Changed { .. } => "changed",
                        MappingChange::Renewed(_) => "renewed",
                    };
                    entry(what, mapping_line(m))
                })
                .collect(),
            threads: found
                .threads
                .iter()
                .map(|t| {
                    let what = match t {
                        ThreadChange::Began(_) => "began",
                        ThreadChange::Ended(_) => "ended",
                        ThreadChange::Changed { .. } => "changed",
                    };
                    entry(what, thread_line(t, places))
                })
                .collect(),
            descriptors: found
                .descriptors
                .iter()
                .map(|d| {
                    let what = match d {
                        DescriptorChange::Opened(_) => "opened",
                        DescriptorChange::Closed(_) => "closed",
                        DescriptorChange::Replaced { .. } => "replaced",
                        DescriptorChange::Changed { .. } => "changed",
                    };
                    entry(what, descriptor_line(d))
                })
                .collect(),
            state: found
                .state
                .iter()
                .map(|s| StateEntry {
                    name: s.name.clone(),
                    old: s.old.clone(),
                    new: s.new.clone(),
                })
                .collect(),
            memory: MemoryEntry {
                compared_pages: memory.compared_pages,
                differing_pages: memory.differing_pages,
                differing_bytes: memory.differing_bytes,
                new_pages: memory.new_pages,
                gone_pages: memory.gone_pages,
                variables: named
                    .changes
                    .iter()
                    .map(|v| VariableEntry {
                        path: v.path.clone(),
                        type_name: v.type_name.clone(),
                        address: format!("{:#x}", v.address),
                        old: v.old.clone(),
                        new: v.new.clone(),
                    })
                    .collect(),
                more_variables: named.more_changes,
                stretches: byte_rows(found, places),
                more_stretches: memory.more_stretches,
            },
            heap: HeapEntry {
                note: heap.note.clone(),
                old_blocks: heap.old_blocks.0,
                old_bytes: heap.old_blocks.1,
                new_blocks: heap.new_blocks.0,
                new_bytes: heap.new_blocks.1,
                sizes: heap
                    .classes
                    .iter()
                    .map(|c| SizeEntry {
                        block_bytes: c.size,
                        old_blocks: c.old,
                        new_blocks: c.new,
                    })
                    .collect(),
                blocks: heap.changes.iter().map(BlockEntry::of).collect(),
                more_blocks: heap.more_changes,
                bookkeeping_bytes: heap.bookkeeping_bytes,
            },
        }
    }
}

impl BlockEntry {
    fn of(change: &HeapChange) -> Self {
        let (what, block, old, written) = match change {
            HeapChange::Allocated(b) => ("allocated", b, None, None),
            HeapChange::Freed(b) => ("freed", b, None, None),
            HeapChange::Resized { old, new } => ("resized", new, Some(old.size), None),
            HeapChange::Written { block, bytes } => ("written", block, None, Some(*bytes)),
        };
        Self {
            what,
            address: format!("{:#x}", block.address),
            bytes: block.size,
            old_bytes: old,
            written_bytes: written,
        }
    }
}
