//! Process, mappings, open files, gaps.

use super::objects;
use crate::{names, output, units};
use std::io::{self, Write};
use stillframe_image::{
    CheckpointId, Coverage, FileContent, Mapping, MappingKind, ProcessImage, ResourceLimit,
    WrittenFile,
};

/// A kind of mapping in one word.
pub(super) const fn kind(kind: MappingKind) -> &'static str {
    match kind {
        MappingKind::Anonymous => "anonymous",
        MappingKind::Heap => "heap",
        MappingKind::Stack => "stack",
        MappingKind::File => "file",
        MappingKind::SharedMemory => "shared",
        MappingKind::Vdso => "vdso",
        MappingKind::Vvar => "vvar",
        MappingKind::Vsyscall => "vsyscall",
        MappingKind::Device => "device",
        MappingKind::Huge => "huge",
    }
}

/// Coverage in one word.
pub(super) const fn coverage(coverage: &Coverage) -> &'static str {
    match coverage {
        Coverage::Tracked => "tracked",
        Coverage::Copied => "copied",
        Coverage::Omitted(_) => "omitted",
    }
}

/// `rw-p`, as /proc/PID/maps writes it.
pub(in crate::commands) fn permissions(mapping: &Mapping) -> String {
    let bit = |set: bool, letter: char| if set { letter } else { '-' };
    [
        bit(mapping.read, 'r'),
        bit(mapping.write, 'w'),
        bit(mapping.execute, 'x'),
        if mapping.shared { 's' } else { 'p' },
    ]
    .iter()
    .collect()
}

/// Process-wide state.
pub(super) fn process(
    out: &mut impl Write,
    image: &ProcessImage,
    id: CheckpointId,
    detail: bool,
) -> io::Result<()> {
    let p = &image.process;
    let text = |bytes: &[u8]| output::printable(bytes).into_owned();
    write!(out, "\nprocess {} ({})", p.pid, text(&p.name))?;
    if p.as_of == id {
        writeln!(out)?;
    } else {
        writeln!(out, ", as of checkpoint {}", p.as_of)?;
    }
    let arguments: Vec<String> = p
        .arguments
        .strip_suffix(&[0])
        .unwrap_or(&p.arguments)
        .split(|b| *b == 0)
        .map(text)
        .collect();
    writeln!(out, "  executable {}", text(&p.executable))?;
    writeln!(out, "  arguments  {}", arguments.join(" "))?;
    writeln!(
        out,
        "  parent {}, group {}, session {}, umask {:04o}, nice {}",
        p.parent, p.group, p.session, p.umask, p.nice
    )?;
    writeln!(out, "  cwd {}, root {}", text(&p.cwd), text(&p.root))?;
    writeln!(
        out,
        "  uids {:?}, gids {:?}, groups {:?} (real, effective, saved, file system)",
        p.uids, p.gids, p.groups
    )?;
    if !detail {
        return Ok(());
    }
    let [inheritable, permitted, effective, bounding, ambient] = p.capabilities;
    writeln!(
        out,
        "  capabilities: inheritable {inheritable:#x}, permitted {permitted:#x}, effective \
         {effective:#x}, bounding {bounding:#x}, ambient {ambient:#x}"
    )?;
    writeln!(
        out,
        "  no_new_privs {}, seccomp mode {}",
        p.no_new_privs, p.seccomp
    )?;
    for (at, limit) in p.limits.iter().enumerate() {
        let name = stillframe_image::process::LIMIT_NAMES
            .get(at)
            .copied()
            .unwrap_or("unknown");
        writeln!(out, "  limit {name:<10} {}", limit_text(limit))?;
    }
    if let Some(timers) = &p.interval_timers {
        for (name, timer) in ["real", "virtual", "prof"].iter().zip(timers) {
            if timer.value_us != 0 {
                writeln!(
                    out,
                    "  interval timer {name}: {} us left, every {} us",
                    timer.value_us, timer.interval_us
                )?;
            }
        }
    }
    for timer in &p.posix_timers {
        write!(
            out,
            "  timer {} on clock {}: {}",
            timer.id,
            timer.clock,
            stillframe_image::signal::name(i64::from(timer.signal))
        )?;
        match timer.armed_ns {
            Some((interval, left)) => writeln!(
                out,
                ", {} left, every {}",
                units::show_ns(left),
                units::show_ns(interval)
            )?,
            None => writeln!(out)?,
        }
    }
    Ok(())
}

fn limit_text(limit: &ResourceLimit) -> String {
    let one = |value: u64| match value {
        u64::MAX => "unlimited".to_owned(),
        value => value.to_string(),
    };
    format!("{} (hard {})", one(limit.soft), one(limit.hard))
}

/// Mappings, one per line.
pub(super) fn mappings(out: &mut impl Write, image: &ProcessImage) -> io::Result<()> {
    let space = &image.space;
    let total = space
        .mappings
        .iter()
        .map(Mapping::len)
        .fold(0, u64::saturating_add);
    writeln!(
        out,
        "\nmappings: {}, {}",
        space.mappings.len(),
        units::show_size(total)
    )?;
    for mapping in &space.mappings {
        let line = format!(
            "  {:012x}-{:012x} {} {:>9} {:<9} {:<7} {:>8x} {}",
            mapping.start,
            mapping.end,
            permissions(mapping),
            units::show_size(mapping.len()),
            kind(mapping.kind),
            coverage(&mapping.coverage),
            mapping.offset,
            output::printable(&mapping.name),
        );
        write!(out, "{}", line.trim_end())?;
        if let Coverage::Omitted(reason) = &mapping.coverage {
            write!(
                out,
                " [not captured: {}]",
                output::printable(reason.as_bytes())
            )?;
        }
        if space
            .file_of(mapping)
            .is_some_and(|file| file.object.is_none())
        {
            write!(out, " [file not in the recording]")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// Open descriptors, one per line.
pub(super) fn files(out: &mut impl Write, image: &ProcessImage) -> io::Result<()> {
    let open = &image.descriptors.open;
    writeln!(out, "\nopen files: {}", open.len())?;
    for descriptor in open {
        write!(
            out,
            "  {:>5} {:<11} offset {:<10} {} {}",
            descriptor.fd,
            output::printable(names::descriptor(&descriptor.kind).as_bytes()),
            descriptor.offset,
            output::printable(&descriptor.target),
            names::open_flags(descriptor.flags),
        )?;
        if let Some((size, _)) = descriptor.file {
            write!(out, " (size {size})")?;
        }
        let more = objects::describe(image, descriptor);
        if !more.is_empty() {
            write!(out, " [{more}]")?;
        }
        writeln!(out)?;
    }
    Ok(())
}

/// The files that all processes of the moment write.
pub(super) fn written(out: &mut impl Write, files: &[WrittenFile]) -> io::Result<()> {
    if files.is_empty() {
        return Ok(());
    }
    writeln!(out, "\nwritten files: {}", files.len())?;
    for file in files {
        let state = match (file.links, file.open) {
            (0, _) => "deleted",
            (_, true) => "open",
            (_, false) => "closed",
        };
        writeln!(
            out,
            "  {:<7} {:<9} {} {}",
            state,
            content(&file.content).0,
            units::show_size(file.size),
            output::printable(&file.path),
        )?;
        if let FileContent::Left(why) = &file.content {
            writeln!(
                out,
                "          not kept: {}",
                output::printable(why.as_bytes())
            )?;
        }
    }
    Ok(())
}

/// What is known of a file's content, in a word, and since which checkpoint it is kept.
pub(super) fn content(content: &FileContent) -> (&'static str, Option<u64>) {
    match content {
        FileContent::Unknown => ("checked", None),
        FileContent::Hash(_) => ("hashed", None),
        FileContent::Kept { since } => ("kept", Some(since.0)),
        FileContent::Torn { since } => ("torn", Some(since.0)),
        FileContent::Left(_) => ("left", None),
    }
}

/// What was not captured.
pub(super) fn gaps(out: &mut impl Write, image: &ProcessImage) -> io::Result<()> {
    if image.gaps.is_empty() {
        return writeln!(out, "\nnot captured: nothing known to be missing");
    }
    writeln!(out, "\nnot captured: {}", image.gaps.len())?;
    for gap in &image.gaps {
        writeln!(
            out,
            "  {}: {}",
            output::printable(gap.subject.as_bytes()),
            output::printable(gap.reason.as_bytes())
        )?;
    }
    Ok(())
}
