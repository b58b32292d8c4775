//! What lies over the screen: the keys, the bookmarks, a value in full.

use super::super::keys::HELP;
use super::super::state::{Over, State};
use super::super::text;
use super::super::theme::Role;
use super::super::watch::{Progress, Watch};
use super::Paint;
use super::lanes::scroll;
use ratatui::layout::Rect;

/// Draws it, if there is anything.
pub fn draw(paint: &mut Paint<'_>, area: Rect, state: &State) {
    match &state.over {
        None => {}
        Some(Over::Help) => help(paint, area),
        Some(Over::Bookmarks(at)) => bookmarks(paint, area, state, *at),
        Some(Over::Value(from)) => {
            if let Some(watch) = state.watches.get(state.watched) {
                value(paint, area, state, watch, *from);
            }
        }
    }
}

/// An empty box with a title; what is inside of it.
fn boxed(paint: &mut Paint<'_>, area: Rect, width: u16, lines: usize, title: &str) -> Rect {
    let width = width.min(area.width.saturating_sub(2));
    let lines = u16::try_from(lines).unwrap_or(u16::MAX);
    let height = lines.saturating_add(2).min(area.height.saturating_sub(2));
    let rect = Rect {
        x: area.x + (area.width - width) / 2,
        y: area.y + (area.height - height) / 2,
        width,
        height,
    };
    for y in 0..rect.height {
        for x in 0..rect.width {
            if let Some(cell) = paint.buffer.cell_mut((rect.x + x, rect.y + y)) {
                cell.reset();
            }
        }
    }
    let (right, bottom) = (rect.width.saturating_sub(1), rect.height.saturating_sub(1));
    let (line, side) = (paint.theme.glyph('─', '-'), paint.theme.glyph('│', '|'));
    for x in 0..rect.width {
        paint.cell(rect, x, 0, line, Role::Focus);
        paint.cell(rect, x, bottom, line, Role::Focus);
    }
    for y in 1..bottom {
        paint.cell(rect, 0, y, side, Role::Focus);
        paint.cell(rect, right, y, side, Role::Focus);
    }
    let corners = [
        (0, 0, '┌'),
        (right, 0, '┐'),
        (0, bottom, '└'),
        (right, bottom, '┘'),
    ];
    for (x, y, c) in corners {
        let c = paint.theme.glyph(c, '+');
        paint.cell(rect, x, y, c, Role::Focus);
    }
    let title = text::fit(title, usize::from(width).saturating_sub(6));
    paint.text(rect, 2, &format!(" {title} "), Role::Strong);
    Rect {
        x: rect.x + 2,
        y: rect.y + 1,
        width: rect.width.saturating_sub(4),
        height: rect.height.saturating_sub(2),
    }
}

fn help(paint: &mut Paint<'_>, area: Rect) {
    let inside = boxed(paint, area, 100, HELP.len(), "keys");
    for (y, (keys, what)) in HELP.iter().enumerate() {
        paint.line(inside, 0, y as u16, keys, Role::Strong);
        let what = text::fit(what, usize::from(inside.width).saturating_sub(17));
        paint.line(inside, 17, y as u16, &what, Role::Plain);
    }
}

fn bookmarks(paint: &mut Paint<'_>, area: Rect, state: &State, at: usize) {
    let all = &state.bookmarks;
    let title = format!(
        "bookmarks {}: Enter goes there, d removes, Esc closes",
        all.len()
    );
    let inside = boxed(paint, area, 76, all.len().max(1), &title);
    if all.is_empty() {
        paint.text(inside, 0, "none yet: b makes one", Role::Dim);
        return;
    }
    let room = usize::from(inside.height);
    let from = scroll(at, all.len(), room);
    for (y, bookmark) in all.iter().skip(from).take(room).enumerate() {
        let time = match bookmark.at_ns {
            Some(at) => text::seconds(at, 1_000_000),
            None => "removed".to_owned(),
        };
        let line = format!(
            "{:>8}  {time:>12}  {}  {}",
            bookmark.at.0,
            text::tame(&bookmark.name),
            text::tame(&bookmark.note)
        );
        let line = text::fit(&line, usize::from(inside.width));
        paint.line(inside, 0, y as u16, &line, Role::Plain);
        if from + y == at {
            paint.reverse(inside, 0, y as u16, inside.width);
        }
    }
}

/// Breaks a text into lines of at most so many columns.
fn wrap(text: &str, room: usize) -> Vec<String> {
    let mut lines = vec![String::new()];
    let mut used = 0;
    let mut buffer = [0; 4];
    for c in text.chars() {
        let wide = text::width(c.encode_utf8(&mut buffer));
        if used + wide > room.max(2) {
            lines.push(String::new());
            used = 0;
        }
        if let Some(line) = lines.last_mut() {
            line.push(c);
        }
        used += wide;
    }
    lines
}

fn value(paint: &mut Paint<'_>, area: Rect, state: &State, watch: &Watch, from: usize) {
    let width = area.width.saturating_sub(8).clamp(36, 120);
    let room = usize::from(width.saturating_sub(4));
    let mut lines = match &watch.value {
        Some(Ok(reading)) => wrap(&text::tame(&reading.text), room),
        Some(Err(why)) => wrap(&text::tame(why), room),
        None => vec!["...".to_owned()],
    };
    lines.push(String::new());
    let here = state.row().map(|r| r.id).unwrap_or_default();
    lines.push(match (&watch.progress, watch.at(here)) {
        (Progress::Failed(why), _) => text::tame(why),
        (_, None) => "its history is not known yet".to_owned(),
        (_, Some(since)) => format!(
            "since checkpoint {}, {}",
            since.id,
            text::seconds(since.at_ns, 1_000_000)
        ),
    });
    let changes = watch.changes.len().saturating_sub(1);
    let more = if matches!(watch.progress, Progress::Asked(_)) {
        " so far"
    } else {
        ""
    };
    let plural = if changes == 1 { "" } else { "s" };
    lines.push(format!("{changes} change{plural}{more}"));
    if watch.local {
        lines.push("depends on the chosen thread and frame".to_owned());
    }
    let inside = boxed(paint, area, width, lines.len(), &text::tame(&watch.text));
    let from = from.min(lines.len().saturating_sub(usize::from(inside.height)));
    for (y, line) in lines.iter().skip(from).enumerate() {
        paint.line(inside, 0, y as u16, line, Role::Plain);
    }
}
