//! Below the lanes: threads, the stack of one of them, and the source of one frame.

use super::super::asked::{Moment, Place};
use super::super::state::{Pane, State};
use super::super::text;
use super::super::theme::Role;
use super::Paint;
use super::lanes::scroll;
use ratatui::layout::Rect;

/// `function file.c:12`, or `function :12` where there is less room: the function matters most.
fn place(place: &Place, room: usize) -> String {
    let function = text::tame(&place.function);
    let Some(file) = &place.file else {
        return text::fit(&function, room);
    };
    let name = text::tame(file.rsplit('/').next().unwrap_or(file));
    let line = place.line.map(|n| format!(":{n}")).unwrap_or_default();
    let candidates = [
        format!("{function} {name}{line}"),
        format!("{function} {line}"),
    ];
    let found = candidates.into_iter().find(|c| text::width(c) <= room);
    found.unwrap_or_else(|| text::fit(&function, room))
}

/// The moment to show: the one that is asked about, or the one before it until the answer comes.
fn shown(state: &State) -> Option<(&Moment, bool)> {
    let current = state.current();
    let moment = current.or(state.moment.as_ref())?;
    Some((moment, current.is_some()))
}

/// Threads.
pub fn threads(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    if rect.height == 0 {
        return;
    }
    let focus = state.pane == Pane::Threads;
    let Some((moment, current)) = shown(state) else {
        paint.rule(rect, '─', "threads", focus);
        return;
    };
    let all = moment.threads.len() + moment.more_threads;
    paint.rule(rect, '─', &format!("threads {all}"), focus);
    let chosen = state.context.thread.or(moment.thread);
    let at = moment.threads.iter().position(|t| Some(t.id) == chosen);
    let room = usize::from(rect.height - 1);
    let from = scroll(at.unwrap_or(0), moment.threads.len(), room);
    // A tree of processes says which thread is whose.
    let space = moment.threads.first().map(|t| t.id.space);
    let tree = moment.threads.iter().any(|t| Some(t.id.space) != space);
    let plain = if current { Role::Plain } else { Role::Dim };
    for (y, thread) in moment.threads.iter().skip(from).take(room).enumerate() {
        let y = y as u16 + 1;
        let mine = Some(thread.id) == chosen;
        if mine {
            paint.cell(rect, 0, y, '>', Role::Running);
        }
        let name = text::tame(&thread.name);
        let who = if tree {
            let process = text::tame(&thread.process);
            format!(
                "{} {}/{}",
                thread.id.tid,
                text::fit(&process, 10),
                text::fit(&name, 10)
            )
        } else {
            format!("{} {}", thread.id.tid, text::fit(&name, 12))
        };
        let x = paint.line(rect, 2, y, &who, if mine { Role::Strong } else { plain });
        let mut x = x + 1;
        if let Some(signal) = &thread.signal {
            x = paint.line(rect, x, y, signal, Role::Bad) + 1;
        }
        let room = usize::from(rect.width.saturating_sub(x + 1));
        paint.line(rect, x, y, &place(&thread.place, room), plain);
        if mine && focus {
            paint.reverse(rect, 0, y, rect.width.saturating_sub(1));
        }
    }
}

/// The stack.
pub fn stack(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    if rect.height == 0 {
        return;
    }
    let focus = state.pane == Pane::Stack;
    let Some((moment, current)) = shown(state) else {
        paint.rule(rect, '┬', "stack", focus);
        return;
    };
    let title = match moment.thread {
        Some(thread) => format!("stack of {}", thread.tid),
        None => "stack".to_owned(),
    };
    paint.rule(rect, '┬', &title, focus);
    let bar = paint.theme.glyph('│', '|');
    for y in 1..rect.height {
        paint.cell(rect, 0, y, bar, Role::Frame);
    }
    let rect = Rect {
        x: rect.x + 1,
        width: rect.width.saturating_sub(1),
        ..rect
    };
    let room = usize::from(rect.height - 1);
    let chosen = state
        .context
        .frame
        .min(moment.stack.len().saturating_sub(1));
    let from = scroll(chosen, moment.stack.len(), room);
    let plain = if current { Role::Plain } else { Role::Dim };
    for (y, frame) in moment.stack.iter().skip(from).take(room).enumerate() {
        let number = from + y;
        let y = y as u16 + 1;
        let mine = number == chosen;
        let x = paint.line(rect, 1, y, &format!("#{number}"), Role::Dim) + 1;
        let kind = match (frame.signal, frame.inlined) {
            (true, _) => "signal ",
            (_, true) => "inlined ",
            _ => "",
        };
        let x = paint.line(rect, x, y, kind, Role::Dim);
        let room = usize::from(rect.width.saturating_sub(x));
        let role = if mine { Role::Strong } else { plain };
        paint.line(rect, x, y, &place(&frame.place, room), role);
        if mine && focus {
            paint.reverse(rect, 0, y, rect.width);
        }
    }
}

/// Source.
pub fn source(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    if rect.height == 0 {
        return;
    }
    let found = shown(state).and_then(|(moment, _)| moment.source.as_ref());
    let excerpt = match found {
        None => {
            paint.rule(rect, '─', "source", false);
            return;
        }
        Some(Err(why)) => {
            paint.rule(rect, '─', "source", false);
            let why = text::fit(&text::tame(why), usize::from(rect.width).saturating_sub(2));
            paint.line(rect, 2, 1, &why, Role::Dim);
            return;
        }
        Some(Ok(excerpt)) => excerpt,
    };
    let title = format!(
        "#{} {}:{}",
        excerpt.frame,
        text::tame(&excerpt.path),
        excerpt.at
    );
    let room = usize::from(rect.width).saturating_sub(4);
    paint.rule(rect, '─', &text::fit_end(&title, room), false);
    let room = usize::from(rect.height - 1);
    let at = excerpt.at.saturating_sub(excerpt.first) as usize;
    let from = scroll(at, excerpt.lines.len(), room);
    for (y, line) in excerpt.lines.iter().skip(from).take(room).enumerate() {
        let number = excerpt.first as usize + from + y;
        let y = y as u16 + 1;
        let running = number == excerpt.at as usize;
        let (mark, role) = if running {
            ('>', Role::Running)
        } else {
            (' ', Role::Plain)
        };
        paint.cell(rect, 0, y, mark, role);
        let x = paint.line(rect, 1, y, &format!("{number:>5} "), Role::Dim);
        let room = usize::from(rect.width.saturating_sub(x));
        paint.line(rect, x, y, &text::fit(&text::tame(line), room), role);
    }
}
