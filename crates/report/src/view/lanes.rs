//! What each column of the screen has to show of a recording.
//!
//! A column is a slice of time. It shows the largest pause and the most pages and bytes of any
//! checkpoint in it, so that a single bad one among 20,000 is seen; full checkpoints, which hold
//! everything, do not set the scale.

use super::window::Window;
use stillframe_image::Marks;
use stillframe_store::Row;

/// What happened in a column, the most important first.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Happening {
    /// A fatal signal.
    Crash,
    /// The end of the root process.
    Exit,
    /// It became another program.
    Exec,
    /// A process joined the tree.
    Fork,
    /// A point of the program.
    Point,
    /// Ticks were due and not taken.
    Skip,
}

impl Happening {
    /// All of them in their order.
    pub const ALL: [Self; 6] = [
        Self::Crash,
        Self::Exit,
        Self::Exec,
        Self::Fork,
        Self::Point,
        Self::Skip,
    ];

    /// Its letter.
    pub const fn letter(self) -> char {
        match self {
            Self::Crash => 'X',
            Self::Exit => 'E',
            Self::Exec => 'x',
            Self::Fork => 'f',
            Self::Point => 'p',
            Self::Skip => 's',
        }
    }

    /// What it is called.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Crash => "crash",
            Self::Exit => "exit",
            Self::Exec => "exec",
            Self::Fork => "fork",
            Self::Point => "point",
            Self::Skip => "skip",
        }
    }

    /// Whether a checkpoint has it.
    pub const fn of(self, row: &Row) -> bool {
        let marks = row.tick.marks;
        match self {
            Self::Crash => marks.contains(Marks::CRASH),
            Self::Exit => marks.contains(Marks::EXIT),
            Self::Exec => marks.contains(Marks::EXEC),
            Self::Fork => marks.contains(Marks::FORK),
            Self::Point => marks.contains(Marks::POINT),
            Self::Skip => row.tick.skipped > 0,
        }
    }
}

/// One column.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Column {
    /// Checkpoints in it.
    pub checkpoints: usize,
    /// Longest pause, nanoseconds: the boundary and the stops before it.
    pub pause: u64,
    /// Most pages found written.
    pub dirty: u64,
    /// Most bytes stored.
    pub stored: u64,
    /// What happened: bit n for the nth of [`Happening::ALL`].
    pub happened: u8,
}

impl Column {
    /// The most important happening in it.
    pub fn happening(&self) -> Option<Happening> {
        let mut all = Happening::ALL.iter().enumerate();
        all.find(|(n, _)| self.happened >> n & 1 == 1)
            .map(|(_, h)| *h)
    }
}

/// The largest of each quantity in the window, of checkpoints that are not full.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Scale {
    /// Nanoseconds.
    pub pause: u64,
    /// Pages.
    pub dirty: u64,
    /// Bytes.
    pub stored: u64,
}

/// The columns of a window.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Lanes {
    /// One for each column of the screen.
    pub columns: Vec<Column>,
    /// What the bars are measured by.
    pub scale: Scale,
}

/// How long the target stood still for a checkpoint, nanoseconds.
pub const fn pause(row: &Row) -> u64 {
    row.tick
        .pause_ns()
        .saturating_add(row.tick.precopy_pause_ns)
}

/// The rows within a window.
pub fn within<'a>(rows: &'a [Row], window: &Window) -> &'a [Row] {
    let from = rows.partition_point(|r| r.tick.at_ns < window.start);
    let to = rows.partition_point(|r| r.tick.at_ns < window.end());
    rows.get(from..to).unwrap_or_default()
}

impl Lanes {
    /// Of the rows in a window.
    pub fn of(rows: &[Row], window: &Window, columns: usize) -> Self {
        let mut lanes = Self {
            columns: vec![Column::default(); columns],
            scale: Scale::default(),
        };
        for row in within(rows, window) {
            let column = window.column(row.tick.at_ns, columns);
            let Some(c) = column.and_then(|c| lanes.columns.get_mut(c)) else {
                continue;
            };
            c.checkpoints += 1;
            c.pause = c.pause.max(pause(row));
            c.dirty = c.dirty.max(row.tick.dirty_pages);
            c.stored = c.stored.max(row.stored_bytes);
            for (n, happening) in Happening::ALL.iter().enumerate() {
                c.happened |= u8::from(happening.of(row)) << n;
            }
            if !row.tick.marks.contains(Marks::FULL) {
                let s = &mut lanes.scale;
                s.pause = s.pause.max(pause(row));
                s.dirty = s.dirty.max(row.tick.dirty_pages);
                s.stored = s.stored.max(row.stored_bytes);
            }
        }
        lanes.fill();
        lanes
    }

    /// What was written, and what that took, is of the whole interval that a checkpoint ends: where
    /// checkpoints are farther apart than columns it shows in all of them. A pause is an instant.
    fn fill(&mut self) {
        let mut later: Option<Column> = None;
        for column in self.columns.iter_mut().rev() {
            if column.checkpoints > 0 {
                later = Some(*column);
            } else if let Some(later) = later {
                column.dirty = later.dirty;
                column.stored = later.stored;
            }
        }
    }
}

/// How high a bar is, in eighths of a row, 0 to `8 * rows`. Anything more than nothing shows.
pub fn height(value: u64, most: u64, rows: u16) -> u32 {
    let full = 8 * u32::from(rows);
    if value == 0 {
        return 0;
    }
    if value >= most {
        return full;
    }
    let share = u128::from(value) * u128::from(full) / u128::from(most.max(1));
    (share as u32).clamp(1, full)
}

#[cfg(test)]
mod tests {
    use super::*;
    use stillframe_image::{CheckpointId, Phases, Tick};

    fn row(n: u64, marks: Marks, copy: u64) -> Row {
        Row {
            id: CheckpointId(n),
            tick: Tick {
                at_ns: n * 10,
                marks,
                dirty_pages: n,
                skipped: u32::from(n == 3),
                precopy_pause_ns: 5,
                phases: Phases {
                    copy,
                    ..Phases::default()
                },
                ..Tick::default()
            },
            stored_bytes: 100 * n,
            ..Row::default()
        }
    }

    #[test]
    fn columns_keep_the_worst_and_full_ones_do_not_set_the_scale() {
        let rows = [
            row(0, Marks::FULL, 9000),
            row(1, Marks::default(), 10),
            row(2, Marks::POINT, 70),
            row(3, Marks::FORK.with(Marks::POINT), 20),
        ];
        let lanes = Lanes::of(&rows, &Window::whole(&rows), 2);
        assert_eq!(lanes.scale.pause, 75);
        assert_eq!((lanes.scale.dirty, lanes.scale.stored), (3, 300));
        let [a, b] = lanes.columns[..] else {
            panic!("two columns")
        };
        assert_eq!((a.checkpoints, a.pause, a.happening()), (2, 9005, None));
        assert_eq!((b.pause, b.dirty), (75, 3));
        assert_eq!(b.happening(), Some(Happening::Fork));
        assert_eq!(Lanes::of(&[], &Window::whole(&[]), 3).columns.len(), 3);
        // Wider than there are checkpoints: an interval is filled, an instant is not.
        let lanes = Lanes::of(&rows, &Window::whole(&rows), 31);
        let at = |n: usize| (lanes.columns[n].pause, lanes.columns[n].dirty);
        assert_eq!([at(0), at(1), at(10)], [(9005, 0), (0, 1), (15, 1)]);
        assert_eq!([at(11), at(30)], [(0, 2), (25, 3)]);
    }

    #[test]
    fn bars() {
        assert_eq!(height(0, 100, 1), 0);
        assert_eq!(height(1, 100, 1), 1);
        assert_eq!(height(50, 100, 1), 4);
        assert_eq!(height(50, 100, 2), 8);
        assert_eq!(height(100, 100, 1), 8);
        assert_eq!(height(9000, 100, 1), 8);
        assert_eq!(height(u64::MAX - 1, u64::MAX, 3), 23);
        assert_eq!(height(1, 0, 1), 8);
    }
}
