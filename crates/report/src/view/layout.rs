//! Where things stand on a screen of any size.

use ratatui::layout::Rect;

/// Narrowest and lowest terminal on which anything can be shown.
pub const LEAST: (u16, u16) = (40, 10);

/// Where each part stands. Parts for which there is no room have no height.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Layout {
    /// First line: what was recorded.
    pub title: Rect,
    /// Pauses.
    pub pause: Rect,
    /// Written pages.
    pub dirty: Rect,
    /// Bytes stored.
    pub stored: Rect,
    /// Events.
    pub events: Rect,
    /// Bookmarks.
    pub bookmarks: Rect,
    /// Watched expressions, one line each, and the condition looked for.
    pub watches: Rect,
    /// The axis of time.
    pub axis: Rect,
    /// The checkpoint.
    pub moment: Rect,
    /// Threads, with a line above.
    pub threads: Rect,
    /// The stack, with a line above.
    pub stack: Rect,
    /// Source, with a line above.
    pub source: Rect,
    /// Last line: messages, what is typed, keys.
    pub status: Rect,
}

/// Columns of the gutter, in which lanes are named.
pub fn gutter(width: u16) -> u16 {
    (u32::from(width) * 3 / 10).clamp(16, 44) as u16
}

/// Columns of the lanes.
pub fn columns(width: u16) -> usize {
    usize::from(width.saturating_sub(gutter(width) + 1)).max(1)
}

impl Layout {
    /// For a screen and so many watches.
    pub fn of(area: Rect, watches: usize) -> Self {
        let mut y = area.y;
        let mut left = area.height;
        let mut take = |lines: u16| {
            let lines = lines.min(left);
            left -= lines;
            let rect = Rect::new(area.x, y, area.width, lines);
            y += lines;
            rect
        };
        let lane = match area.height {
            0..30 => 1,
            30..45 => 2,
            _ => 3,
        };
        // What stays: first line, events, bookmarks, axis, checkpoint, last line.
        let spare = area.height.saturating_sub(6 + 3 * lane);
        let watched = u16::try_from(watches).unwrap_or(u16::MAX);
        let watched = watched.min((spare / 3).max(1));
        let mut layout = Self {
            title: take(1),
            pause: take(lane),
            dirty: take(lane),
            stored: take(lane),
            events: take(1),
            bookmarks: take(1),
            watches: take(watched),
            axis: take(1),
            moment: take(1),
            ..Self::default()
        };
        let panes = spare.saturating_sub(watched);
        let source = if panes >= 7 { panes / 2 } else { 0 };
        let panes = take(panes - source);
        let half = (u32::from(panes.width) * 9 / 20) as u16;
        layout.threads = Rect {
            width: half,
            ..panes
        };
        layout.stack = Rect {
            x: panes.x + half,
            width: panes.width - half,
            ..panes
        };
        layout.source = take(source);
        layout.status = take(1);
        layout
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn nothing_overlaps_and_nothing_is_left_on_any_size() {
        for height in 0..80 {
            for width in [0, 1, 39, 40, 80, 300] {
                for watches in [0, 1, 3, 40] {
                    let area = Rect::new(0, 0, width, height);
                    let l = Layout::of(area, watches);
                    let parts = [
                        l.title,
                        l.pause,
                        l.dirty,
                        l.stored,
                        l.events,
                        l.bookmarks,
                        l.watches,
                        l.axis,
                        l.moment,
                        l.threads,
                        l.source,
                        l.status,
                    ];
                    let mut y = 0;
                    for part in parts {
                        if part.height > 0 {
                            assert_eq!(part.y, y, "{width}x{height}: {l:?}");
                        }
                        y += part.height;
                    }
                    assert_eq!(y, height, "{width}x{height} {watches}: {l:?}");
                    assert_eq!(l.threads.width + l.stack.width, width);
                    if height >= LEAST.1 {
                        assert_eq!(l.status.height, 1);
                    }
                }
            }
        }
    }
}
