//! The stretch of time that is on the screen.

use stillframe_store::Row;

/// Shortest window, nanoseconds.
const SHORTEST: u64 = 100_000;

/// A stretch of time, nanoseconds since the recording began.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Window {
    /// Its first instant.
    pub start: u64,
    /// Its length, at least 1.
    pub length: u64,
    /// It is the whole recording, and grows with it.
    pub whole: bool,
}

/// First and last instant of a recording. Times are in order unless the recording is damaged.
fn ends(rows: &[Row]) -> (u64, u64) {
    let first = rows.first().map_or(0, |r| r.tick.at_ns);
    let last = rows.last().map_or(0, |r| r.tick.at_ns);
    (first, last.max(first))
}

impl Window {
    /// All of it.
    pub fn whole(rows: &[Row]) -> Self {
        let (first, last) = ends(rows);
        Self {
            start: first,
            length: (last - first).saturating_add(1),
            whole: true,
        }
    }

    /// The instant after it.
    pub const fn end(&self) -> u64 {
        self.start.saturating_add(self.length)
    }

    /// Makes it shorter or longer around an instant, which stays where it is on the screen.
    #[must_use]
    pub fn zoomed(&self, rows: &[Row], at: u64, closer: bool) -> Self {
        let all = Self::whole(rows);
        let length = if closer {
            (self.length / 2).max(SHORTEST.min(all.length))
        } else {
            self.length.saturating_mul(2)
        };
        if length >= all.length {
            return all;
        }
        let offset = u128::from(at.saturating_sub(self.start).min(self.length));
        let before = (offset * u128::from(length) / u128::from(self.length.max(1))) as u64;
        Self {
            start: at.saturating_sub(before),
            length,
            whole: false,
        }
        .inside(&all)
    }

    fn inside(self, all: &Self) -> Self {
        let latest = all.end().saturating_sub(self.length).max(all.start);
        Self {
            start: self.start.clamp(all.start, latest),
            ..self
        }
    }

    /// Moved as far as needed to show an instant, with a part of it beyond.
    #[must_use]
    pub fn showing(&self, rows: &[Row], at: u64) -> Self {
        if self.whole {
            return Self::whole(rows);
        }
        let margin = self.length / 8;
        let mut moved = *self;
        if at < self.start.saturating_add(margin) {
            moved.start = at.saturating_sub(margin);
        } else if at >= self.end().saturating_sub(margin) {
            moved.start = at
                .saturating_add(margin)
                .saturating_sub(self.length)
                .saturating_add(1);
        }
        moved.inside(&Self::whole(rows))
    }

    /// Which of `columns` equal parts holds an instant.
    pub fn column(&self, at: u64, columns: usize) -> Option<usize> {
        let offset = at.checked_sub(self.start)?;
        if offset >= self.length {
            return None;
        }
        let column = u128::from(offset) * columns as u128 / u128::from(self.length);
        Some(column as usize)
    }

    /// The first instant of a column, or of the one after the last.
    pub fn instant(&self, column: usize, columns: usize) -> u64 {
        // Rounded up: the least instant whose column this is.
        let offset = (u128::from(self.length) * column as u128).div_ceil(columns.max(1) as u128);
        let offset = u64::try_from(offset).unwrap_or(u64::MAX);
        self.start.saturating_add(offset)
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;
    use stillframe_image::{CheckpointId, Tick};

    fn rows(times: &[u64]) -> Vec<Row> {
        let row = |(n, at_ns): (usize, &u64)| Row {
            id: CheckpointId(n as u64),
            tick: Tick {
                at_ns: *at_ns,
                ..Tick::default()
            },
            ..Row::default()
        };
        times.iter().enumerate().map(row).collect()
    }

    #[test]
    fn zooming_keeps_the_cursor_in_place() {
        let rows = rows(&[0, 8_000_000, 16_000_000 - 1]);
        let all = Window::whole(&rows);
        assert_eq!((all.start, all.length), (0, 16_000_000));
        let closer = all.zoomed(&rows, 8_000_000, true);
        assert_eq!((closer.start, closer.length), (4_000_000, 8_000_000));
        let at_the_end = all.zoomed(&rows, 16_000_000 - 1, true);
        assert_eq!(at_the_end.end(), 16_000_000);
        assert_eq!(closer.zoomed(&rows, 8_000_000, false), all);
    }

    proptest! {
        #[test]
        fn any_window_shows_the_cursor(
            times in prop::collection::vec(any::<u64>(), 0..6),
            steps in prop::collection::vec((any::<bool>(), 0usize..6), 0..80),
            columns in 1usize..300,
        ) {
            let mut times = times;
            times.sort_unstable();
            let rows = rows(&times);
            let mut window = Window::whole(&rows);
            for (closer, at) in steps {
                let Some(row) = rows.get(at) else { continue };
                let at = row.tick.at_ns;
                window = window.showing(&rows, at).zoomed(&rows, at, closer);
                prop_assert!(window.length > 0);
                if at < u64::MAX {
                    let column = window.column(at, columns);
                    prop_assert!(column.is_some_and(|c| c < columns));
                    let column = column.unwrap_or(0);
                    prop_assert!(window.instant(column, columns) <= at);
                    prop_assert!(at < window.instant(column + 1, columns));
                }
            }
        }
    }
}
