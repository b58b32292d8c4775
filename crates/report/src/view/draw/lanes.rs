//! The lanes: bars over one axis of time, so that what happens at once stands in one column.

use super::super::lanes::{self, Column};
use super::super::layout::{self, Layout};
use super::super::state::{Pane, State};
use super::super::text;
use super::super::theme::Role;
use super::super::watch::{self, Cell, Progress, Watch};
use super::Paint;
use crate::units::{show_ns, show_size};
use ratatui::layout::Rect;

/// Draws lanes, watches and the axis.
pub fn draw(paint: &mut Paint<'_>, layout: &Layout, state: &State) {
    let row = state.row();
    let scale = &state.lanes.scale;
    let short = |text: String| text.replace(' ', "");
    let of = |value: Option<String>, most: String| match value {
        Some(value) => format!("{}/{}", short(value), short(most)),
        None => String::new(),
    };
    let pause = of(row.map(|r| show_ns(lanes::pause(r))), show_ns(scale.pause));
    let dirty = of(
        row.map(|r| r.tick.dirty_pages.to_string()),
        scale.dirty.to_string(),
    );
    let stored = of(
        row.map(|r| show_size(r.stored_bytes)),
        show_size(scale.stored),
    );
    gutter(paint, layout.pause, "pause", &pause, Role::Pause);
    gutter(paint, layout.dirty, "dirty", &dirty, Role::Dirty);
    gutter(paint, layout.stored, "stored", &stored, Role::Stored);
    for (n, column) in state.lanes.columns.iter().enumerate() {
        let c: &Column = column;
        bar(paint, layout.pause, n, c.pause, scale.pause, Role::Pause);
        bar(paint, layout.dirty, n, c.dirty, scale.dirty, Role::Dirty);
        bar(
            paint,
            layout.stored,
            n,
            c.stored,
            scale.stored,
            Role::Stored,
        );
    }
    events(paint, layout.events, state);
    bookmarks(paint, layout.bookmarks, state);
    watches(paint, layout.watches, state);
    axis(paint, layout.axis, state);
    let columns = layout::columns(state.size.0);
    let at = row.and_then(|r| state.window.column(r.tick.at_ns, columns));
    if let Some(at) = at {
        let (x, above) = (first(layout.axis) + at as u16, layout.pause.y);
        for y in above..layout.axis.y {
            let line = Rect {
                y,
                height: 1,
                ..layout.axis
            };
            paint.reverse(line, x, 0, 1);
        }
        let marker = paint.theme.glyph('▲', '^');
        paint.cell(layout.axis, x, 0, marker, Role::Strong);
    }
}

/// The first column of the lanes in a rectangle as wide as the screen.
fn first(rect: Rect) -> u16 {
    layout::gutter(rect.width) + 1
}

/// Name at the left, value at the right, and the line that parts them from the lane.
fn gutter(paint: &mut Paint<'_>, rect: Rect, name: &str, value: &str, role: Role) {
    let wide = layout::gutter(rect.width);
    let value = text::fit(value, usize::from(wide));
    let room = usize::from(wide).saturating_sub(text::width(&value) + 1);
    paint.text(rect, 0, &text::fit(name, room), role);
    let x = usize::from(wide).saturating_sub(text::width(&value));
    paint.text(rect, x as u16, &value, Role::Plain);
    let bar = paint.theme.glyph('│', '|');
    for y in 0..rect.height {
        paint.cell(rect, wide, y, bar, Role::Frame);
    }
}

fn bar(paint: &mut Paint<'_>, rect: Rect, column: usize, value: u64, most: u64, role: Role) {
    let eighths = lanes::height(value, most, rect.height);
    let bars = paint.theme.bars();
    for y in 0..rect.height {
        let below = u32::from(rect.height - 1 - y) * 8;
        let here = eighths.saturating_sub(below).min(8);
        let c = bars.get(here as usize).copied().unwrap_or(' ');
        paint.cell(rect, first(rect) + column as u16, y, c, role);
    }
}

fn events(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    let here = state.row().map(|row| {
        let all = lanes::Happening::ALL.iter();
        let names: Vec<&str> = all.filter(|h| h.of(row)).map(|h| h.name()).collect();
        names.join(",")
    });
    gutter(
        paint,
        rect,
        "events",
        &here.unwrap_or_default(),
        Role::Event,
    );
    for (n, column) in state.lanes.columns.iter().enumerate() {
        if let Some(happening) = column.happening() {
            let role = match happening {
                lanes::Happening::Crash => Role::Bad,
                lanes::Happening::Skip => Role::Dim,
                _ => Role::Event,
            };
            paint.cell(rect, first(rect) + n as u16, 0, happening.letter(), role);
        }
    }
}

fn bookmarks(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    let here: Vec<&str> = state
        .bookmarks
        .iter()
        .filter(|b| Some(b.at) == state.row().map(|r| r.id))
        .map(|b| b.says())
        .collect();
    let here = text::tame(&here.join(", "));
    gutter(paint, rect, "bookmarks", &here, Role::Bookmark);
    let columns = layout::columns(state.size.0);
    let mark = paint.theme.glyph('◆', 'B');
    for bookmark in &state.bookmarks {
        let row = state.rows.get(state.index(bookmark.at));
        let row = row.filter(|r| r.id == bookmark.at);
        let column = row.and_then(|r| state.window.column(r.tick.at_ns, columns));
        if let Some(column) = column {
            paint.cell(rect, first(rect) + column as u16, 0, mark, Role::Bookmark);
        }
    }
}

fn watches(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    let room = usize::from(rect.height).saturating_sub(usize::from(state.search.is_some()));
    let from = scroll(state.watched, state.watches.len(), room);
    let shown = state.watches.iter().enumerate().skip(from).take(room);
    for (y, (n, w)) in shown.enumerate() {
        let line = Rect {
            y: rect.y + y as u16,
            height: 1,
            ..rect
        };
        let value = match (&w.value, &w.progress) {
            (Some(Ok(reading)), _) => reading.text.clone(),
            (Some(Err(_)), _) | (None, Progress::Failed(_)) => "no value".to_owned(),
            (None, _) => "...".to_owned(),
        };
        // Long values give way to the name, and long names to the value.
        let wide = usize::from(layout::gutter(rect.width));
        let name = text::tame(&w.text);
        let named = text::width(&name).min(wide / 2);
        let value = text::fit(&text::tame(&value), wide.saturating_sub(named + 1));
        gutter(paint, line, &name, &value, Role::Watch);
        if n == state.watched && state.pane == Pane::Watches {
            paint.reverse(line, 0, 0, wide as u16);
        }
        cells(paint, line, state, w, false);
    }
    if let Some(search) = &state.search {
        let line = Rect {
            y: rect.y + rect.height.saturating_sub(1),
            height: rect.height.min(1),
            ..rect
        };
        let value = match &search.progress {
            Progress::Failed(_) => "failed",
            Progress::Asked(_) => "looking",
            Progress::Known if search.begins().next().is_none() => "never",
            Progress::Known => "",
        };
        let name = format!("/{}", text::tame(&search.text));
        gutter(paint, line, &name, value, Role::Match);
        cells(paint, line, state, search, true);
    }
}

fn cells(paint: &mut Paint<'_>, rect: Rect, state: &State, watch: &Watch, condition: bool) {
    let columns = layout::columns(state.size.0);
    let time = |id| state.rows.get(state.index(id)).map(|r| r.tick.at_ns);
    let covered = watch.covered.and_then(time);
    let end = state.rows.last().map_or(0, |r| r.tick.at_ns);
    let cells = watch.cells(&state.window, columns, covered, end, condition);
    let heights = watch::heights(&cells);
    let bars = paint.theme.bars();
    for (n, (cell, height)) in cells.iter().zip(heights).enumerate() {
        let (c, role) = match cell {
            Cell::Unknown => (paint.theme.glyph('╌', '.'), Role::Dim),
            Cell::Without => (' ', Role::Dim),
            Cell::Number { negative, .. } => {
                let bar = height.and_then(|h| bars.get(h as usize));
                let role = if *negative { Role::Bad } else { Role::Watch };
                (bar.copied().unwrap_or(' '), role)
            }
            Cell::Other { changed: true } => (paint.theme.glyph('┼', '+'), Role::Watch),
            Cell::Other { changed: false } => (paint.theme.glyph('─', '-'), Role::Dim),
            Cell::Condition { held: true } => (paint.theme.glyph('█', '#'), Role::Match),
            Cell::Condition { held: false } => (paint.theme.glyph('·', '.'), Role::Dim),
        };
        paint.cell(rect, first(rect) + n as u16, 0, c, role);
    }
}

/// The first of `all` lines to show in `room`, so that `chosen` is among them.
pub fn scroll(chosen: usize, all: usize, room: usize) -> usize {
    let last = all.saturating_sub(room);
    chosen.saturating_sub(room / 2).min(last)
}

/// The steps that an axis may have, nanoseconds.
fn step(least: u64) -> u64 {
    let mut step: u64 = 1;
    loop {
        for factor in [1, 2, 5] {
            let candidate = step.saturating_mul(factor);
            if candidate >= least {
                return candidate;
            }
        }
        match step.checked_mul(10) {
            Some(next) => step = next,
            None => return least,
        }
    }
}

fn axis(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    let columns = layout::columns(state.size.0);
    let window = &state.window;
    let shown = if window.whole {
        "all".to_owned()
    } else {
        show_ns(window.length)
    };
    let wide = layout::gutter(rect.width);
    paint.text(rect, 0, "time", Role::Dim);
    let x = usize::from(wide).saturating_sub(text::width(&shown));
    paint.text(rect, x as u16, &shown, Role::Dim);
    // A label takes up to twelve columns.
    let least = (u128::from(window.length) * 13 / columns as u128).max(1);
    let step = step(u64::try_from(least).unwrap_or(u64::MAX));
    let mut at = window.start.div_ceil(step).saturating_mul(step);
    while let Some(column) = window.column(at, columns) {
        let x = first(rect) + column as u16;
        let label = text::seconds(at, step);
        if usize::from(x) + text::width(&label) < usize::from(rect.width) {
            let tick = paint.theme.glyph('╵', '\'');
            paint.cell(rect, x, 0, tick, Role::Dim);
            paint.text(rect, x + 1, &label, Role::Dim);
        }
        let Some(next) = at.checked_add(step) else {
            break;
        };
        at = next;
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps_are_round() {
        let all = [
            (1, 1),
            (3, 5),
            (6, 10),
            (1_300, 2_000),
            (21_000_000, 50_000_000),
        ];
        for (least, want) in all {
            assert_eq!(step(least), want);
        }
        assert!(step(u64::MAX) > 1 << 62);
    }

    #[test]
    fn the_chosen_line_is_in_sight() {
        for all in 0..20 {
            for room in 1..8 {
                for chosen in 0..all {
                    let from = scroll(chosen, all, room);
                    assert!(from <= chosen && chosen < from + room);
                }
            }
        }
    }
}
