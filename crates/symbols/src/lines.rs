//! Source lines of addresses.

use crate::debuginfo::{DebugInfo, Unit};
use crate::functions::borrowed_unit;
use crate::intervals::Intervals;
use gimli::{ColumnType, Reader as _};

/// A place in a source file.
#[derive(Clone, Debug, PartialEq, Eq, Hash, PartialOrd, Ord)]
pub struct Place {
    /// The file as the compiler knew it, made absolute with the directory it ran in.
    pub file: String,
    /// Line, from 1.
    pub line: u64,
    /// Column, from 1; 0 if unknown.
    pub column: u64,
}

#[derive(Clone, Copy, Debug)]
struct Row {
    address: u64,
    file: u32,
    line: u32,
    column: u32,
    statement: bool,
}

/// The line table of a unit.
#[derive(Debug)]
pub(crate) struct Lines {
    rows: Vec<Row>,
    /// Of each stretch of code: its rows, by their positions.
    sequences: Intervals<(usize, usize)>,
}

impl Lines {
    /// Runs the line program of a unit. Sequences of what a linker threw away are left out.
    pub(crate) fn read(info: &DebugInfo, unit: &Unit, is_code: &dyn Fn(u64) -> bool) -> Self {
        let dwarf = info.borrowed();
        let mut lines = Self {
            rows: Vec::new(),
            sequences: Intervals::new([]),
        };
        let mut sequences = Vec::new();
        if let Some(program) = borrowed_unit(&dwarf, unit).and_then(|u| u.line_program) {
            let mut rows = program.rows();
            let mut begin = 0;
            // Damage ends the table; what came before it stands.
            while let Ok(Some((_, row))) = rows.next_row() {
                let address = row.address();
                if row.end_sequence() {
                    let part = lines.rows.get_mut(begin..).unwrap_or_default();
                    part.sort_by_key(|r| r.address);
                    match part.first() {
                        Some(first) if is_code(first.address) => {
                            sequences.push((first.address, address, (begin, lines.rows.len())));
                        }
                        _ => lines.rows.truncate(begin),
                    }
                    begin = lines.rows.len();
                    continue;
                }
                let number = |n: u64| u32::try_from(n).unwrap_or(0);
                lines.rows.push(Row {
                    address,
                    file: number(row.file_index()),
                    line: number(row.line().map_or(0, std::num::NonZeroU64::get)),
                    column: match row.column() {
                        ColumnType::LeftEdge => 0,
                        ColumnType::Column(column) => number(column.get()),
                    },
                    statement: row.is_stmt(),
                });
            }
        }
        lines.rows.shrink_to_fit();
        lines.sequences = Intervals::new(sequences);
        lines
    }

    /// The place of an address: its file by number, line and column. `None` if the compiler says
    /// that it comes from no line.
    pub(crate) fn at(&self, address: u64) -> Option<(u64, u64, u64)> {
        let (_, _, (begin, end)) = self.sequences.at(address).next()?;
        let rows = self.rows.get(begin..end)?;
        let after = rows.partition_point(|r| r.address <= address);
        let last = after.checked_sub(1)?;
        let mut best = rows.get(last)?;
        // Of several rows for one address the last that begins a statement counts, as GDB has it.
        if !best.statement {
            let same = rows[..last]
                .iter()
                .rev()
                .take_while(|r| r.address == best.address && r.line != 0);
            best = same.take(64).find(|r| r.statement).unwrap_or(best);
        }
        let found = (best.file.into(), best.line.into(), best.column.into());
        (best.line != 0).then_some(found)
    }
}

/// The path of a file of a unit's line table.
pub(crate) fn file_name(info: &DebugInfo, unit: &Unit, index: u64) -> Option<String> {
    let header = unit.line_program.as_ref()?.header();
    let entry = header.file(index)?;
    let text = |value| {
        let text = info.dwarf().attr_string(unit, value).ok()?;
        Some(String::from_utf8_lossy(&text.to_slice().ok()?).into_owned())
    };
    let mut path = text(entry.path_name())?;
    if !path.starts_with('/')
        && let Some(dir) = entry.directory(header).and_then(text)
    {
        path = join(dir, &path);
    }
    if !path.starts_with('/')
        && let Some(dir) = &unit.comp_dir
    {
        path = join(String::from_utf8_lossy(dir.bytes()).into_owned(), &path);
    }
    Some(path)
}

fn join(mut dir: String, rest: &str) -> String {
    let rest = rest.strip_prefix("./").unwrap_or(rest);
    if !dir.is_empty() && !dir.ends_with('/') {
        dir.push('/');
    }
    dir.push_str(rest);
    dir
}
