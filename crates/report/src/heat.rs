//! Where memory is written, over time.
//!
//! Columns are runs of neighbouring checkpoints, each as wide as the time they cover; rows are cells
//! of 2 MiB. A value is the number of pages found written, summed over the checkpoints of the column,
//! so that cells and columns can be merged without losing any. When a target writes in more places
//! than rows may be held, neighbouring cells are merged, all to the same size.

use crate::names::Names;
use serde::Serialize;
use std::collections::BTreeMap;
use stillframe_image::account::{HEAT_PAGES, Heat};
use stillframe_image::{PAGE_SIZE, SpaceId};

/// Most columns.
pub const COLUMNS: usize = 480;
/// Most rows held while gathering.
const HELD: usize = 2048;
/// Most rows shown.
pub const ROWS: usize = 640;
/// Bytes of a cell.
const CELL: u64 = HEAT_PAGES * PAGE_SIZE as u64;
/// Highest cell that an address can be in.
const LAST_CELL: u64 = u64::MAX / CELL;

#[derive(Clone, Debug, Default)]
struct Gathered {
    columns: Vec<u32>,
    pages: u64,
    checkpoints: u64,
    last: Option<u64>,
}

impl Gathered {
    fn add(&mut self, column: usize, checkpoint: u64, pages: u32) {
        if self.columns.len() <= column {
            self.columns.resize(column + 1, 0);
        }
        if let Some(value) = self.columns.get_mut(column) {
            *value = value.saturating_add(pages);
        }
        self.pages = self.pages.saturating_add(u64::from(pages));
        if self.last != Some(checkpoint) {
            self.last = Some(checkpoint);
            self.checkpoints += 1;
        }
    }

    fn merge(&mut self, other: &Self) {
        if self.columns.len() < other.columns.len() {
            self.columns.resize(other.columns.len(), 0);
        }
        for (value, more) in self.columns.iter_mut().zip(&other.columns) {
            *value = value.saturating_add(*more);
        }
        self.pages = self.pages.saturating_add(other.pages);
        // In how many checkpoints either was written is not known exactly any more.
        self.checkpoints = self.checkpoints.max(other.checkpoints);
        self.last = self.last.max(other.last);
    }
}

/// Gathers a heat map.
#[derive(Clone, Debug)]
pub struct HeatGatherer {
    rows: BTreeMap<(SpaceId, u64), Gathered>,
    /// Cells per row, as a power of two.
    shift: u32,
    /// For each column, when it ends and how many checkpoints it has.
    ends: Vec<(u64, u32)>,
    expected: usize,
    seen: usize,
}

/// One row of the map.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HeatRow {
    /// Address space.
    pub space: u32,
    /// First address.
    pub start: u64,
    /// Mapping that has most of it.
    pub name: String,
    /// Further mappings in it.
    pub others: usize,
    /// Pages found written, all checkpoints together.
    pub pages: u64,
    /// Checkpoints in which any was (at least, if cells were merged).
    pub checkpoints: u64,
    /// Values by column; -n stands for n columns of zero, the end of the row for zeros.
    pub values: Vec<i64>,
}

/// A heat map.
#[derive(Clone, Debug, Default, PartialEq, Serialize)]
pub struct HeatMap {
    /// Bytes of addresses per row.
    pub row_bytes: u64,
    /// When the first column begins, nanoseconds since the start.
    pub start_ns: u64,
    /// When each column ends.
    pub ends_ns: Vec<u64>,
    /// Checkpoints in each column.
    pub counts: Vec<u32>,
    /// Rows in ascending order of space and address; those never written are left out.
    pub rows: Vec<HeatRow>,
}

/// A cell that was written much.
#[derive(Clone, Debug, PartialEq, Serialize)]
pub struct HotCell {
    /// Address space.
    pub space: u32,
    /// The process.
    pub process: String,
    /// First address.
    pub start: u64,
    /// Address after the last byte.
    pub end: u64,
    /// Mapping that has most of it.
    pub name: String,
    /// Further mappings in it.
    pub others: usize,
    /// Pages found written, all checkpoints together.
    pub pages: u64,
    /// Checkpoints in which any was.
    pub checkpoints: u64,
    /// Share of all pages found written, 0 to 1.
    pub share: f64,
}

impl HeatGatherer {
    /// For a number of checkpoints, which only decides how many share a column.
    pub fn new(expected: usize) -> Self {
        Self {
            rows: BTreeMap::new(),
            shift: 0,
            ends: Vec::new(),
            expected: expected.max(1),
            seen: 0,
        }
    }

    /// Takes in what one checkpoint found written.
    pub fn add(&mut self, at_ns: u64, heat: &[Heat]) {
        let columns = self.expected.min(COLUMNS);
        let column = (self.seen as u128 * columns as u128 / self.expected as u128)
            .min(columns as u128 - 1) as usize;
        let checkpoint = self.seen as u64;
        self.seen += 1;
        if self.ends.len() <= column {
            self.ends.resize(column + 1, (at_ns, 0));
        }
        if let Some((end, count)) = self.ends.get_mut(column) {
            *end = at_ns.max(*end);
            *count += 1;
        }
        for cell in heat {
            if cell.cell > LAST_CELL || cell.pages == 0 {
                continue;
            }
            let pages = cell.pages.min(HEAT_PAGES as u32);
            let key = (cell.space, cell.cell >> self.shift);
            self.rows
                .entry(key)
                .or_default()
                .add(column, checkpoint, pages);
            if self.rows.len() > HELD {
                self.coarsen();
            }
        }
    }

    /// Merges rows in pairs until at most half of what may be held is left, or nothing more is gained
    /// because every space has one row.
    fn coarsen(&mut self) {
        while self.rows.len() > HELD / 2 && self.shift < 63 {
            self.halve();
        }
        while self.rows.len() > HELD {
            // More address spaces than rows: the newest are not shown.
            self.rows.pop_last();
        }
    }

    fn halve(&mut self) {
        self.shift += 1;
        let mut merged: BTreeMap<(SpaceId, u64), Gathered> = BTreeMap::new();
        for ((space, row), gathered) in std::mem::take(&mut self.rows) {
            merged
                .entry((space, row >> 1))
                .and_modify(|g| g.merge(&gathered))
                .or_insert(gathered);
        }
        self.rows = merged;
    }

    fn row_bytes(&self) -> u64 {
        CELL.checked_shl(self.shift)
            .filter(|b| *b >= CELL)
            .unwrap_or(1 << 63)
    }

    fn bounds(&self, row: u64) -> (u64, u64) {
        let start = row.saturating_mul(self.row_bytes());
        (start, start.saturating_add(self.row_bytes()))
    }

    /// The cells with the most pages, hottest first.
    pub fn hottest(&self, most: usize, names: &Names) -> Vec<HotCell> {
        let all: u64 = self
            .rows
            .values()
            .map(|g| g.pages)
            .fold(0, u64::saturating_add);
        let mut by_pages: Vec<_> = self.rows.iter().collect();
        by_pages.sort_by_key(|(key, g)| (std::cmp::Reverse(g.pages), **key));
        let shown = by_pages.into_iter().take(most);
        shown
            .map(|((space, row), g)| {
                let (start, end) = self.bounds(*row);
                let (name, others) = names.of_range(*space, start, end);
                HotCell {
                    space: space.0,
                    process: names.of_process(*space),
                    start,
                    end,
                    name,
                    others,
                    pages: g.pages,
                    checkpoints: g.checkpoints,
                    share: g.pages as f64 / all.max(1) as f64,
                }
            })
            .collect()
    }

    /// The map, beginning at `start_ns`.
    pub fn finish(mut self, start_ns: u64, names: &Names) -> HeatMap {
        while self.rows.len() > ROWS && self.shift < 63 {
            self.halve();
        }
        let rows = self.rows.iter().take(ROWS).map(|((space, row), g)| {
            let (start, end) = self.bounds(*row);
            let (name, others) = names.of_range(*space, start, end);
            HeatRow {
                space: space.0,
                start,
                name,
                others,
                pages: g.pages,
                checkpoints: g.checkpoints,
                values: pack(&g.columns),
            }
        });
        HeatMap {
            row_bytes: self.row_bytes(),
            start_ns,
            rows: rows.collect(),
            ends_ns: self.ends.iter().map(|(end, _)| *end).collect(),
            counts: self.ends.iter().map(|(_, count)| *count).collect(),
        }
    }
}

/// Runs of zeros as one negative number.
fn pack(values: &[u32]) -> Vec<i64> {
    let mut out = Vec::new();
    for &v in values {
        match out.last_mut() {
            Some(last) if v == 0 && *last < 0 => *last -= 1,
            _ => out.push(if v == 0 { -1 } else { i64::from(v) }),
        }
    }
    if out.last().is_some_and(|v| *v < 0) {
        out.pop();
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    fn heat(cell: u64, pages: u32) -> Heat {
        Heat {
            space: SpaceId(0),
            cell,
            pages,
        }
    }

    #[test]
    fn pages_are_neither_lost_nor_invented_by_merging() {
        let mut g = HeatGatherer::new(3000);
        let mut total = 0;
        for n in 0..3000u64 {
            let cells: Vec<Heat> = (0..8).map(|k| heat((n * 8 + k) * 37 % 9001, 3)).collect();
            total += 3 * cells.len() as u64;
            g.add(n * 1000, &cells);
        }
        let hottest = g.hottest(5, &Names::default());
        assert_eq!(hottest.len(), 5);
        assert!(hottest.windows(2).all(|w| w[0].pages >= w[1].pages));
        let map = g.finish(0, &Names::default());
        assert!(map.rows.len() <= ROWS && map.row_bytes > CELL);
        assert_eq!(map.rows.iter().map(|r| r.pages).sum::<u64>(), total);
        let values = map.rows.iter().flat_map(|r| &r.values).filter(|v| **v > 0);
        assert_eq!(values.sum::<i64>(), total as i64);
        assert_eq!(map.counts.iter().sum::<u32>(), 3000);
        assert_eq!((map.counts.len(), map.ends_ns.len()), (COLUMNS, COLUMNS));
        assert!(map.ends_ns.is_sorted());
    }

    #[test]
    fn a_hostile_account_is_bounded() {
        let mut g = HeatGatherer::new(1);
        let cells: Vec<Heat> = (0..20_000u32)
            .map(|k| Heat {
                space: SpaceId(k),
                cell: u64::MAX - u64::from(k),
                pages: u32::MAX,
            })
            .collect();
        g.add(u64::MAX, &cells);
        let cells: Vec<Heat> = (0..20_000u32)
            .map(|k| Heat {
                space: SpaceId(k),
                cell: LAST_CELL,
                pages: u32::MAX,
            })
            .collect();
        g.add(0, &cells);
        g.add(0, &[]);
        let map = g.finish(u64::MAX, &Names::default());
        assert!(map.rows.len() <= ROWS);
    }

    #[test]
    fn packing() {
        assert_eq!(pack(&[0, 0, 5, 0, 7, 0, 0]), [-2, 5, -1, 7]);
        assert!(pack(&[0, 0]).is_empty());
    }
}
