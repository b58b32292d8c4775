//! Source files: which there are, which of their lines have code, and where they are now.
//!
//! Line tables of modules are read when a client first asks about a file, and what files they name is
//! kept, so that setting breakpoints in a large program costs one walk over its units.

use super::super::breakpoints::normal;
use super::super::debuggee::SourceAt;
use gimli::Reader as _;
use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::path::Path;
use std::sync::Arc;
use stillframe_symbols::{Module, Program};

/// Largest source file that is read, bytes.
const LARGEST: u64 = 16 << 20;
/// Most rows of one line table that are looked at.
const ROWS: usize = 10_000_000;

/// Finds source files.
#[derive(Debug, Default)]
pub(super) struct Sources {
    /// Prefixes as the debug information has them, and what stands for them here; longest first.
    map: Vec<(String, String)>,
    places: HashMap<String, SourceAt>,
    modules: Vec<(Arc<Module>, Arc<Files>)>,
}

/// The files that a module's line tables name: path, and units whose table names it.
type Files = BTreeMap<String, BTreeSet<usize>>;

impl Sources {
    /// With prefixes as `sourceMap` has them.
    pub(super) fn new(map: &BTreeMap<String, String>) -> Self {
        let mut map: Vec<(String, String)> = map
            .iter()
            .map(|(from, to)| (normal(from), normal(to)))
            .collect();
        map.sort_by_key(|(from, _)| std::cmp::Reverse(from.len()));
        Self {
            map,
            ..Self::default()
        }
    }

    /// Where a file is, given how the debug information or a client calls it.
    pub(super) fn place(&mut self, path: &str) -> SourceAt {
        /// Paths remembered.
        const KEPT: usize = 10_000;
        if let Some(known) = self.places.get(path) {
            return known.clone();
        }
        let plain = normal(path);
        let mapped = self.map.iter().find_map(|(from, to)| {
            let rest = plain.strip_prefix(from.as_str())?;
            (rest.is_empty() || rest.starts_with('/')).then(|| format!("{to}{rest}"))
        });
        let path_here = mapped.unwrap_or(plain);
        let place = SourceAt {
            found: Path::new(&path_here).is_file(),
            path: path_here,
        };
        if self.places.len() < KEPT {
            self.places.insert(path.to_owned(), place.clone());
        }
        place
    }

    /// The text of a file.
    pub(super) fn text(&mut self, path: &str) -> Result<String, String> {
        let place = self.place(path);
        let here = Path::new(&place.path);
        let size = match std::fs::metadata(here) {
            Ok(about) if about.is_file() => about.len(),
            _ => {
                return Err(format!(
                    "{} is not on this machine; name its directory in sourceMap",
                    place.path
                ));
            }
        };
        if size > LARGEST {
            return Err(format!("{} has {size} bytes, too many to show", place.path));
        }
        match std::fs::read(here) {
            Ok(bytes) => Ok(String::from_utf8_lossy(&bytes).into_owned()),
            Err(e) => Err(format!("{} cannot be read: {e}", place.path)),
        }
    }

    /// Every file that the line tables of a program name, as they name it.
    pub(super) fn all(&mut self, program: &Program) -> BTreeSet<String> {
        let mut found = BTreeSet::new();
        for loaded in program.modules() {
            found.extend(self.files(&loaded.module).keys().cloned());
        }
        found
    }

    /// Lines of a file that begin a statement; `None` if no line table names it.
    pub(super) fn lines(&mut self, program: &Program, path: &str) -> Option<Vec<u64>> {
        let wanted = self.place(path).path;
        let mut lines = BTreeSet::new();
        let mut known = false;
        for loaded in program.modules() {
            let files = self.files(&loaded.module);
            for (name, units) in files.iter() {
                if self.place(name).path != wanted {
                    continue;
                }
                known = true;
                for unit in units {
                    lines_of(&loaded.module, *unit, name, &mut lines);
                }
            }
        }
        known.then(|| lines.into_iter().collect())
    }

    fn files(&mut self, module: &Arc<Module>) -> Arc<Files> {
        let same = |(m, _): &&(Arc<Module>, Arc<Files>)| Arc::ptr_eq(m, module);
        if let Some((_, files)) = self.modules.iter().find(same) {
            return Arc::clone(files);
        }
        let mut files = Files::new();
        if let Some(info) = module.info() {
            for (number, unit) in info.units() {
                let Some(program) = &unit.line_program else {
                    continue;
                };
                let header = program.header();
                for file in header.file_names() {
                    if let Some(path) = path_of(info.dwarf(), unit, header, file) {
                        files.entry(path).or_default().insert(number);
                    }
                }
            }
        }
        let files = Arc::new(files);
        self.modules.push((Arc::clone(module), Arc::clone(&files)));
        files
    }
}

/// The lines of one file in one unit.
fn lines_of(module: &Module, unit: usize, path: &str, lines: &mut BTreeSet<u64>) {
    let Some(info) = module.info() else {
        return;
    };
    let Some(unit) = info.unit(unit) else {
        return;
    };
    let Some(program) = unit.line_program.clone() else {
        return;
    };
    let mut names: HashMap<u64, bool> = HashMap::new();
    let mut rows = program.rows();
    let mut left = ROWS;
    while let Ok(Some((header, row))) = rows.next_row() {
        left -= 1;
        if left == 0 {
            break;
        }
        if row.end_sequence() || !row.is_stmt() {
            continue;
        }
        let Some(line) = row.line() else {
            continue;
        };
        let ours = *names.entry(row.file_index()).or_insert_with(|| {
            let file = header.file(row.file_index());
            file.and_then(|f| path_of(info.dwarf(), unit, header, f))
                .is_some_and(|p| p == path)
        });
        if ours {
            lines.insert(line.get());
        }
    }
}

/// The path of a file of a line table: DWARF 5, 6.2.4.1.
fn path_of(
    dwarf: &stillframe_symbols::Dwarf,
    unit: &stillframe_symbols::Unit,
    header: &gimli::LineProgramHeader<stillframe_symbols::Slice>,
    file: &gimli::FileEntry<stillframe_symbols::Slice>,
) -> Option<String> {
    let text = |value| -> Option<String> {
        let string = dwarf.attr_string(unit, value).ok()?;
        Some(string.to_string_lossy().ok()?.into_owned())
    };
    let mut path = text(file.path_name())?;
    if !path.starts_with('/')
        && let Some(directory) = file.directory(header).and_then(text)
    {
        path = format!("{directory}/{path}");
    }
    if !path.starts_with('/')
        && let Some(base) = &unit.comp_dir
    {
        path = format!("{}/{path}", base.to_string_lossy().ok()?);
    }
    Some(normal(&path))
}
