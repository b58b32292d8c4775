//! What the page's script is given: figures as they are, points column by column.

use crate::bookmarks::Bookmark;
use crate::figures::Figures;
use crate::gather::Analysis;
use crate::heat::HeatMap;
use crate::seconds::Second;
use crate::series::{PHASES, Point, Slice, Span, Special};
use serde::Serialize;
use std::collections::BTreeMap;

/// The data of a page.
#[derive(Debug, Serialize)]
pub struct Data<'a> {
    /// Version of `still`.
    version: &'static str,
    phases: [&'static str; 7],
    figures: &'a Figures,
    span: Span,
    single: bool,
    points: Columns,
    slices: &'a [Slice],
    special: &'a [Special],
    heat: &'a HeatMap,
    seconds: &'a [Second],
    second: Option<u64>,
    bookmarks: Vec<Noted<'a>>,
    threads: &'a BTreeMap<u32, String>,
    processes: &'a BTreeMap<u32, String>,
}

/// A moment that has a name.
#[derive(Debug, Serialize)]
struct Noted<'a> {
    id: u64,
    at: u64,
    name: &'a str,
    note: &'a str,
}

impl<'a> Noted<'a> {
    /// `None` if its checkpoint was removed.
    fn of(bookmark: &'a Bookmark) -> Option<Self> {
        Some(Self {
            id: bookmark.at.0,
            at: bookmark.at_ns?,
            name: &bookmark.name,
            note: &bookmark.note,
        })
    }
}

/// Columns of the points, each as long as there are points. Times nanoseconds.
#[derive(Debug, Default, Serialize)]
struct Columns {
    at: Vec<u64>,
    id: Vec<u64>,
    n: Vec<u64>,
    phases: [Vec<u64>; 7],
    precopy: Vec<u64>,
    max: Vec<u64>,
    max_id: Vec<u64>,
    dirty: Vec<u64>,
    dirty_max: Vec<u64>,
    precopied: Vec<u64>,
    raw: Vec<u64>,
    stored: Vec<u64>,
    conflicts: Vec<u64>,
}

impl Columns {
    fn of(points: &[Point]) -> Self {
        let column = |of: fn(&Point) -> u64| points.iter().map(of).collect();
        Self {
            at: column(|p| p.at),
            id: column(|p| p.id),
            n: column(|p| p.n),
            phases: std::array::from_fn(|k| points.iter().map(|p| p.phases[k]).collect()),
            precopy: column(|p| p.precopy),
            max: column(|p| p.max),
            max_id: column(|p| p.max_id),
            dirty: column(|p| p.dirty),
            dirty_max: column(|p| p.dirty_max),
            precopied: column(|p| p.precopied),
            raw: column(|p| p.raw),
            stored: column(|p| p.stored),
            conflicts: column(|p| p.conflicts),
        }
    }
}

impl<'a> Data<'a> {
    /// Of an analysis.
    pub fn of(a: &'a Analysis) -> Self {
        Self {
            version: env!("CARGO_PKG_VERSION"),
            phases: PHASES,
            figures: &a.figures,
            span: a.series.span,
            single: a.series.single,
            points: Columns::of(&a.series.points),
            slices: &a.series.slices,
            special: &a.series.special,
            heat: &a.heat,
            seconds: &a.seconds,
            second: a.second,
            bookmarks: a.bookmarks.iter().filter_map(Noted::of).collect(),
            threads: &a.threads,
            processes: &a.processes,
        }
    }
}
