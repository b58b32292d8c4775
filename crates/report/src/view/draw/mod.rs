//! The screen, drawn from the state.

mod lanes;
mod over;
mod panes;

use super::layout::{LEAST, Layout};
use super::state::{Asked, Life, State};
use super::text;
use super::theme::{Role, Theme};
use ratatui::Frame;
use ratatui::buffer::Buffer;
use ratatui::layout::{Position, Rect};
use ratatui::style::Modifier;

/// A screen being drawn. Nothing is drawn outside of it.
struct Paint<'a> {
    buffer: &'a mut Buffer,
    theme: Theme,
}

impl Paint<'_> {
    /// Writes a text into the first line of a rectangle, from `x` columns on, cut at its end.
    /// Returns the column after it.
    fn text(&mut self, rect: Rect, x: u16, text: &str, role: Role) -> u16 {
        self.line(rect, x, 0, text, role)
    }

    /// As [`Paint::text`], `y` lines down.
    fn line(&mut self, rect: Rect, x: u16, y: u16, text: &str, role: Role) -> u16 {
        let rect = rect.intersection(self.buffer.area);
        if x >= rect.width || y >= rect.height {
            return x;
        }
        let room = usize::from(rect.width - x);
        let text = self.theme.words(text);
        let style = self.theme.style(role);
        let (end, _) = self
            .buffer
            .set_stringn(rect.x + x, rect.y + y, text, room, style);
        end.saturating_sub(rect.x)
    }

    /// Sets one cell.
    fn cell(&mut self, rect: Rect, x: u16, y: u16, c: char, role: Role) {
        let rect = rect.intersection(self.buffer.area);
        if x < rect.width && y < rect.height {
            let style = self.theme.style(role);
            if let Some(cell) = self.buffer.cell_mut((rect.x + x, rect.y + y)) {
                cell.set_char(c).set_style(style);
            }
        }
    }

    /// Turns a part of a rectangle's line around.
    fn reverse(&mut self, rect: Rect, x: u16, y: u16, width: u16) {
        let rect = rect.intersection(self.buffer.area);
        for x in x..x.saturating_add(width).min(rect.width) {
            if let Some(cell) = self.buffer.cell_mut((rect.x + x, rect.y + y))
                && y < rect.height
            {
                cell.modifier.toggle(Modifier::REVERSED);
            }
        }
    }

    /// A rule with a title in it.
    fn rule(&mut self, rect: Rect, begin: char, title: &str, focus: bool) {
        let rule = self.theme.glyph('─', '-');
        for x in 0..rect.width {
            self.cell(rect, x, 0, rule, Role::Frame);
        }
        let begin = if self.theme.ascii && begin != '─' {
            '+'
        } else {
            begin
        };
        let begin = if begin == '─' { rule } else { begin };
        self.cell(rect, 0, 0, begin, Role::Frame);
        let role = if focus { Role::Focus } else { Role::Strong };
        let room = usize::from(rect.width).saturating_sub(4);
        let title = format!(" {} ", text::fit(title, room));
        self.text(rect, 1, &title, role);
        if focus {
            // What has the keys is told without colours, too.
            self.reverse(rect, 1, 0, text::width(&title) as u16);
        }
    }
}

/// Draws it all. Call [`State::prepare`] before, with the size of the frame.
pub fn screen(frame: &mut Frame<'_>, state: &State, theme: Theme) {
    let area = frame.area();
    if area.width < LEAST.0 || area.height < LEAST.1 {
        let mut paint = Paint {
            buffer: frame.buffer_mut(),
            theme,
        };
        let text = format!("still view needs {} x {}", LEAST.0, LEAST.1);
        paint.text(area, 0, &text, Role::Plain);
        return;
    }
    let lines = state.watches.len() + usize::from(state.search.is_some());
    let layout = Layout::of(area, lines);
    let mut paint = Paint {
        buffer: frame.buffer_mut(),
        theme,
    };
    title(&mut paint, layout.title, state);
    lanes::draw(&mut paint, &layout, state);
    moment(&mut paint, layout.moment, state);
    panes::threads(&mut paint, layout.threads, state);
    panes::stack(&mut paint, layout.stack, state);
    panes::source(&mut paint, layout.source, state);
    let cursor = status(&mut paint, layout.status, state);
    over::draw(&mut paint, area, state);
    if let Some(x) = cursor {
        frame.set_cursor_position(Position::new(x, layout.status.y));
    }
}

fn title(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    let s = &state.subject;
    let life = match &state.life {
        Life::Live => "recording".to_owned(),
        Life::Ended(Some(how)) => text::tame(how),
        Life::Ended(None) => "end not recorded".to_owned(),
    };
    let length = match (state.rows.first(), state.rows.last()) {
        (Some(a), Some(b)) => b.tick.at_ns.saturating_sub(a.tick.at_ns),
        _ => 0,
    };
    let right = format!(
        "{}, {} in {}",
        text::fit(&life, 24),
        state.rows.len(),
        text::seconds(length, 1_000_000)
    );
    let left = format!("{}  {} ({})", s.recording, s.command, s.pid);
    let line = text::apart(&text::tame(&left), &right, usize::from(rect.width));
    paint.text(rect, 0, &line, Role::Strong);
}

/// The time of day, UTC.
fn clock(ns: u64) -> String {
    let s = ns / 1_000_000_000;
    format!(
        "{:02}:{:02}:{:02}.{:03} UTC",
        s / 3600 % 24,
        s / 60 % 60,
        s % 60,
        ns / 1_000_000 % 1000
    )
}

fn moment(paint: &mut Paint<'_>, rect: Rect, state: &State) {
    let Some(row) = state.row() else {
        paint.text(rect, 0, "no checkpoint yet", Role::Dim);
        return;
    };
    let mut parts = vec![
        format!("checkpoint {}", row.id),
        text::seconds(row.tick.at_ns, 1_000_000),
        clock(row.tick.wall_ns),
    ];
    let named = state.current().map_or(&[][..], |m| m.points.as_slice());
    let marks: Vec<String> = row
        .tick
        .marks
        .names()
        .map(|name| match name {
            "point" if !named.is_empty() => format!("point {}", named.join(", ")),
            name => name.to_owned(),
        })
        .collect();
    if !marks.is_empty() {
        parts.push(marks.join(", "));
    }
    if let Some(trouble) = state.current().and_then(|m| m.trouble.clone()) {
        parts.push(trouble);
    }
    if row.tick.skipped > 0 {
        parts.push(format!("{} skipped before", row.tick.skipped));
    }
    if state.follow {
        parts.push("following".to_owned());
    }
    let line = text::fit(&text::tame(&parts.join("  ")), usize::from(rect.width));
    paint.text(rect, 0, &line, Role::Strong);
}

/// The last line. Where the cursor belongs while something is typed.
fn status(paint: &mut Paint<'_>, rect: Rect, state: &State) -> Option<u16> {
    if let Some((asked, line)) = &state.prompt {
        let label = match asked {
            Asked::GoTo => "go to: ",
            Asked::Find => "find: ",
            Asked::Watch => "watch: ",
            Asked::Change(_) => "watch instead: ",
            Asked::Note => "bookmark (a name, or what to note, or nothing): ",
        };
        let label = if text::width(label) * 2 > usize::from(rect.width) {
            "> "
        } else {
            label
        };
        let x = paint.text(rect, 0, label, Role::Focus);
        let room = usize::from(rect.width.saturating_sub(x + 1));
        let (all, before) = (line.text(), line.before());
        // What stands before the cursor stays in sight.
        let hidden = text::width(&before).saturating_sub(room);
        let skipped = skip(&all, hidden);
        paint.text(rect, x, skipped, Role::Plain);
        let at = text::width(&before).saturating_sub(hidden);
        return Some(rect.x + x + at as u16);
    }
    if let Some(message) = &state.message {
        let role = if message.bad { Role::Bad } else { Role::Plain };
        let line = text::fit(&text::tame(&message.text), usize::from(rect.width));
        paint.text(rect, 0, &line, role);
        return None;
    }
    let mut x = 0;
    for (key, what) in [
        ("?", "keys"),
        ("q", "quit"),
        ("+-", "zoom"),
        ("g", "go to"),
        ("w", "watch"),
        ("/", "find"),
        ("n", "next"),
        ("b", "bookmark"),
        ("t", "thread"),
        ("tab", "pane"),
    ] {
        let wide = text::width(key) + text::width(what) + 3;
        if usize::from(x) + wide > usize::from(rect.width) {
            break;
        }
        x = paint.text(rect, x, key, Role::Strong);
        x = paint.text(rect, x + 1, what, Role::Dim) + 2;
    }
    None
}

/// A text without what takes its first columns.
fn skip(text: &str, columns: usize) -> &str {
    let mut left = columns;
    let mut at = text.len();
    for (n, c) in text.char_indices() {
        if left == 0 {
            at = n;
            break;
        }
        let end = n + c.len_utf8();
        left = left.saturating_sub(text::width(text.get(n..end).unwrap_or_default()).max(1));
    }
    if columns == 0 {
        text
    } else {
        text.get(at..).unwrap_or_default()
    }
}
