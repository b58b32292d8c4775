//! Call stacks.

use crate::args::stacks::{DebugArgs, StackArgs};
use crate::exit::{Code, fail};
use crate::output;
use serde::Serialize;
use std::io::{self, Write};
use stillframe_image::{CheckpointId, ProcessImage, Thread};
use stillframe_symbols::unwind::{End, FoundBy};
use stillframe_symbols::{Frame, Limits, Local, Scope, Stack, Style};
use stillframe_timeline::View;
use stillframe_timeline::machine::Options;

/// How modules are looked for.
pub(super) fn options(args: &DebugArgs) -> Options {
    let mut options = Options::with_directories(args.directories.iter().cloned());
    options.force = args.force;
    options
}

/// The threads that were chosen.
fn chosen<'a>(image: &'a ProcessImage, args: &StackArgs) -> anyhow::Result<Vec<&'a Thread>> {
    let Some(tid) = args.thread else {
        return Ok(image.threads.iter().collect());
    };
    match image.threads.iter().find(|t| t.tid == tid) {
        Some(thread) => Ok(vec![thread]),
        None => Err(fail(
            Code::Recording,
            format!(
                "process {} has no thread {tid} here; --threads shows those it has",
                image.process.pid
            ),
        )),
    }
}

const fn limits(args: &StackArgs) -> Limits {
    Limits { frames: args.depth }
}

/// Prints them.
pub(super) fn print(
    out: &mut impl Write,
    view: &View<'_>,
    image: &ProcessImage,
    args: &StackArgs,
) -> anyhow::Result<()> {
    for thread in chosen(image, args)? {
        let name = output::printable(&thread.name);
        writeln!(out, "\nthread {} {name}", thread.tid)?;
        if let Some(signal) = &thread.signal {
            writeln!(out, "  about to get {}", super::describe_signal(signal))?;
        }
        let stack = view.stack_of(thread, limits(args));
        for (level, frame) in stack.frames.iter().enumerate() {
            self::frame(out, view, level, frame)?;
            if args.locals {
                for local in locals(view, &stack, level) {
                    let hidden = if local.hidden { " (hidden)" } else { "" };
                    let text = local.value.or(local.unknown).unwrap_or_default();
                    let line = format!("{}{hidden} = {text}", local.name);
                    writeln!(out, "          {}", output::printable(line.as_bytes()))?;
                }
            }
        }
        if let Some(end) = ending(&stack) {
            writeln!(out, "  ({end})")?;
        }
    }
    let notes = view.program().notes();
    if !notes.is_empty() {
        writeln!(out)?;
    }
    for note in notes {
        writeln!(out, "note: {}", output::printable(note.as_bytes()))?;
    }
    Ok(())
}

/// A variable of a frame.
#[derive(Serialize)]
struct LocalView {
    name: String,
    argument: bool,
    /// Another of this name in an inner block hides it.
    hidden: bool,
    value: Option<String>,
    /// Why there is no value.
    unknown: Option<String>,
}

/// The arguments and local variables of a frame; long values are cut.
fn locals(view: &View<'_>, stack: &Stack, level: usize) -> Vec<LocalView> {
    let style = Style {
        elements: 40,
        bytes: 4096,
        ..Style::default()
    };
    let Some(frame) = stack.frames.get(level) else {
        return Vec::new();
    };
    let scope = Scope {
        program: view.program(),
        memory: view.memory(),
        registers: &frame.registers,
        here: stack.here(level),
    };
    let shown = |local: Local| {
        let (value, unknown) = match local.value {
            Ok(value) => (Some(value.display(&scope, &style)), None),
            Err(fault) => (None, Some(format!("<{fault}>"))),
        };
        LocalView {
            name: local.name,
            argument: local.argument,
            hidden: local.hidden,
            value,
            unknown,
        }
    };
    stillframe_symbols::locals(&scope)
        .into_iter()
        .map(shown)
        .collect()
}

/// Why a stack ends, if that needs to be said.
fn ending(stack: &Stack) -> Option<String> {
    match &stack.end {
        End::Outermost => None,
        End::Limit => Some("there may be more; --depth shows them".to_owned()),
        End::Lost(reason) => Some(format!("no further: {reason}")),
    }
}

/// `#2  0x5555 in main+0x1f at prog.c:10`.
fn frame(out: &mut impl Write, view: &View<'_>, level: usize, frame: &Frame) -> io::Result<()> {
    write!(out, "  #{level:<3} {:#018x} ", frame.pc)?;
    if frame.signal {
        write!(out, "<signal handler called> ")?;
    }
    let printable = |text: &str| output::printable(text.as_bytes()).into_owned();
    write!(out, "{}", printable(frame.name().unwrap_or("??")))?;
    if frame.inlined {
        write!(out, " (inlined)")?;
    }
    match frame.place() {
        Some(place) => {
            write!(out, " at {}:{}", printable(&place.file), place.line)?;
        }
        None => {
            let location = frame.location.as_ref();
            if let Some((_, offset)) = location.and_then(|l| l.symbol.as_ref()) {
                // Counted from `pc`, as the address is; the look-up may have been one before it.
                write!(out, "+{:#x}", offset + u64::from(frame.called))?;
            }
            let mapping = view.layout().mapping_at(frame.lookup());
            let name = mapping.map(|m| output::printable(&m.name));
            match name.as_deref() {
                Some("") => write!(out, " in anonymous memory")?,
                Some(name) => write!(out, " in {name}")?,
                None => write!(out, " (not mapped)")?,
            }
        }
    }
    writeln!(out)
}

/// Stacks as JSON.
#[derive(Serialize)]
pub(super) struct Stacks {
    checkpoint: u64,
    process: u32,
    pid: u32,
    threads: Vec<ThreadStack>,
    /// What is missing or wrong with modules and their debug information.
    notes: Vec<String>,
}

#[derive(Serialize)]
struct ThreadStack {
    tid: u32,
    name: String,
    /// The innermost first.
    frames: Vec<FrameView>,
    /// `outermost`, `limit`, or why the next frame cannot be found.
    end: String,
}

#[derive(Serialize)]
struct FrameView {
    level: usize,
    pc: String,
    cfa: Option<String>,
    function: Option<String>,
    symbol: Option<String>,
    symbol_offset: Option<u64>,
    module: Option<String>,
    /// The address by the module's own count.
    module_address: Option<String>,
    file: Option<String>,
    line: Option<u64>,
    column: Option<u64>,
    inlined: bool,
    signal: bool,
    found_by: &'static str,
    /// Asked for with --locals.
    #[serde(skip_serializing_if = "Option::is_none")]
    locals: Option<Vec<LocalView>>,
}

/// The stacks of the chosen threads.
pub(super) fn view(
    view: &View<'_>,
    id: CheckpointId,
    image: &ProcessImage,
    args: &StackArgs,
) -> anyhow::Result<Stacks> {
    let threads = chosen(image, args)?
        .into_iter()
        .map(|thread| {
            let stack = view.stack_of(thread, limits(args));
            let frames = stack
                .frames
                .iter()
                .enumerate()
                .map(|(level, frame)| FrameView {
                    locals: args.locals.then(|| locals(view, &stack, level)),
                    ..frame_view(level, frame)
                });
            let frames = frames.collect();
            ThreadStack {
                tid: thread.tid,
                name: String::from_utf8_lossy(&thread.name).into_owned(),
                end: match &stack.end {
                    End::Outermost => "outermost".to_owned(),
                    End::Limit => "limit".to_owned(),
                    End::Lost(reason) => reason.clone(),
                },
                frames,
            }
        })
        .collect();
    Ok(Stacks {
        checkpoint: id.0,
        process: image.id.0,
        pid: image.process.pid,
        threads,
        notes: view.program().notes(),
    })
}

fn frame_view(level: usize, frame: &Frame) -> FrameView {
    let hex = |value: u64| format!("{value:#x}");
    let location = frame.location.as_ref();
    let symbol = location.and_then(|l| l.symbol.as_ref());
    let place = frame.place();
    FrameView {
        level,
        pc: hex(frame.pc),
        cfa: frame.cfa.map(hex),
        function: frame.name().map(str::to_owned),
        symbol: symbol.map(|s| s.0.clone()),
        symbol_offset: symbol.map(|s| s.1 + u64::from(frame.called)),
        module: location.map(|l| l.module.name().to_owned()),
        module_address: location.map(|l| hex(frame.pc.wrapping_sub(l.bias))),
        file: place.map(|p| p.file.clone()),
        line: place.map(|p| p.line),
        column: place.map(|p| p.column).filter(|c| *c != 0),
        inlined: frame.inlined,
        signal: frame.signal,
        found_by: match frame.found_by {
            FoundBy::Context => "context",
            FoundBy::Cfi => "eh_frame",
            FoundBy::DebugFrame => "debug_frame",
            FoundBy::FramePointer => "frame_pointer",
            FoundBy::SignalFrame => "signal_frame",
        },
        locals: None,
    }
}
