//! Where names stand in the debug information of a module.
//!
//! One walk over all units, when a name is first asked for, notes variables, types, functions and
//! enumerators with the scopes around them; the bodies of functions are stepped over. Names are kept
//! without their scopes, so that `TABLE` is found as well as `debug_rust::TABLE`.

use crate::debuginfo::DebugInfo;
use crate::dies::{Die, Dies, Part};
use crate::elf::Slice;
use crate::expr::names::canonical;
use crate::globals::Statics;
use crate::module::Module;
use crate::types::Tables;
use gimli::{AttributeValue, EndianSlice, EntriesRaw, LittleEndian};
use std::borrow::Cow;
use std::collections::HashMap;
use std::sync::{Arc, OnceLock};

/// Entries of one module. Beyond them names are not found, which is noted.
const MOST_ENTRIES: usize = 1 << 24;
/// Scopes within scopes.
const MOST_SCOPES: usize = 200;
/// No scope.
const TOP: u32 = u32::MAX;

/// What a name names.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub(crate) enum What {
    Variable,
    Type,
    Function,
    Enumerator,
}

#[derive(Clone, Copy, Debug)]
struct Item {
    die: Die,
    scope: u32,
    name: u32,
    what: What,
    declaration: bool,
}

#[derive(Clone, Copy, Debug)]
struct Scope {
    name: u32,
    parent: u32,
    /// What it is a part of.
    die: Die,
    /// Need not be written: unscoped enums, inline and anonymous namespaces.
    open: bool,
}

/// A name that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(crate) struct Found {
    pub die: Die,
    /// Nothing was left out in front of the name.
    pub whole: bool,
    pub declaration: bool,
}

/// Names of a module, and its types that were looked at.
#[derive(Debug, Default)]
pub(crate) struct Catalog {
    pub tables: Tables,
    /// Variables by address, once it was asked.
    pub statics: OnceLock<Statics>,
    names: Vec<Box<str>>,
    by_name: HashMap<Box<str>, Vec<u32>>,
    items: Vec<Item>,
    scopes: Vec<Scope>,
    by_die: HashMap<Die, u32>,
    /// Something was left out.
    pub cut: bool,
}

struct Builder {
    catalog: Catalog,
    interned: HashMap<Box<str>, u32>,
    /// Definitions whose name and scope stand at their declaration.
    pending: Vec<(Die, Die, What)>,
}

impl Catalog {
    /// Walks over everything.
    pub fn new(info: &DebugInfo) -> Self {
        let mut builder = Builder {
            catalog: Self::default(),
            interned: HashMap::new(),
            pending: Vec::new(),
        };
        let shared = info.supplementary().map_or(0, |s| s.unit_count());
        for (part, count) in [
            (Part::Own, info.unit_count()),
            (Part::Types, info.type_unit_count()),
            (Part::Shared, shared),
        ] {
            for number in 0..count {
                let Ok(number) = u32::try_from(number) else {
                    break;
                };
                if let Some(dies) = Dies::number(info, part, number) {
                    // What follows damage in a unit is lost; other units are not.
                    let _ = builder.unit(&dies);
                }
            }
        }
        builder.finish()
    }

    /// A name with its scopes, as the language writes it.
    pub fn qualified(&self, _: &Arc<Module>, die: Die) -> Option<String> {
        let item = self.items.get(*self.by_die.get(&die)? as usize)?;
        let mut parts = vec![self.text(item.name)];
        let mut at = item.scope;
        for _ in 0..MOST_SCOPES {
            let Some(scope) = self.scopes.get(at as usize) else {
                break;
            };
            parts.push(self.text(scope.name));
            at = scope.parent;
        }
        parts.retain(|p| !p.is_empty());
        parts.reverse();
        Some(parts.join("::"))
    }

    /// The type that an enumerator belongs to.
    pub fn scope_die(&self, die: Die) -> Option<Die> {
        let item = self.items.get(*self.by_die.get(&die)? as usize)?;
        Some(self.scopes.get(item.scope as usize)?.die)
    }

    /// The namespaces around an entry, outermost first.
    pub fn scopes_of(&self, die: Die) -> Vec<&str> {
        let mut parts = Vec::new();
        let item = self
            .by_die
            .get(&die)
            .and_then(|i| self.items.get(*i as usize));
        let mut at = item.map_or(TOP, |i| i.scope);
        for _ in 0..MOST_SCOPES {
            let Some(scope) = self.scopes.get(at as usize) else {
                break;
            };
            parts.push(self.text(scope.name));
            at = scope.parent;
        }
        parts.reverse();
        parts
    }

    /// Everything of a sort that is not only declared.
    pub fn defined(&self, what: What) -> impl Iterator<Item = Die> {
        let items = self.items.iter();
        let wanted = items.filter(move |i| i.what == what && !i.declaration);
        wanted.map(|i| i.die)
    }

    /// Where types of this full name are said: records and enums whole, and other names of them.
    pub fn full_types(&self, name: &str) -> Vec<Die> {
        let segments: Vec<String> = crate::expr::names::segments(name)
            .into_iter()
            .map(str::to_owned)
            .collect();
        let found = self.find(&segments, What::Type).into_iter();
        found
            .filter(|f| f.whole && !f.declaration)
            .map(|f| f.die)
            .collect()
    }

    /// All that has this name, whatever stands in front of it.
    pub fn find(&self, segments: &[String], what: What) -> Vec<Found> {
        let Some((last, front)) = segments.split_last() else {
            return Vec::new();
        };
        let Some(items) = self.by_name.get(canonical(last).as_ref()) else {
            return Vec::new();
        };
        let front: Vec<Cow<'_, str>> = front.iter().map(|s| canonical(s)).collect();
        items
            .iter()
            .filter_map(|i| self.items.get(*i as usize))
            .filter(|item| item.what == what)
            .filter_map(|item| {
                Some(Found {
                    die: item.die,
                    whole: self.matches(item.scope, &front)?,
                    declaration: item.declaration,
                })
            })
            .collect()
    }

    /// Whether `front` ends the scopes; `Some(true)` if it is all of them.
    fn matches(&self, scope: u32, front: &[Cow<'_, str>]) -> Option<bool> {
        let mut wanted = front.iter().rev().peekable();
        let mut at = scope;
        for _ in 0..MOST_SCOPES {
            let Some(scope) = self.scopes.get(at as usize) else {
                return wanted.peek().is_none().then_some(true);
            };
            let Some(next) = wanted.peek() else {
                // Only scopes that need not be written may be left.
                if !scope.open {
                    return Some(false);
                }
                at = scope.parent;
                continue;
            };
            if canonical(self.text(scope.name)) == **next {
                wanted.next();
            } else if !scope.open {
                return None;
            }
            at = scope.parent;
        }
        None
    }

    /// A name that differs from one in lower case only in its case.
    pub fn similar(&self, lower: &str) -> Option<String> {
        let item = self
            .items
            .iter()
            .find(|i| i.what == What::Variable && self.text(i.name).eq_ignore_ascii_case(lower))?;
        Some(self.text(item.name).to_owned())
    }

    fn text(&self, name: u32) -> &str {
        self.names.get(name as usize).map_or("", |n| n)
    }
}

/// What the walk needs of an entry.
#[derive(Default)]
struct Seen<'a> {
    name: Option<AttributeValue<EndianSlice<'a, LittleEndian>>>,
    specification: Option<AttributeValue<EndianSlice<'a, LittleEndian>>>,
    declaration: bool,
    scoped: bool,
    exported: bool,
}

impl Builder {
    fn intern(&mut self, name: &str) -> u32 {
        if let Some(id) = self.interned.get(name) {
            return *id;
        }
        let id = u32::try_from(self.catalog.names.len()).unwrap_or(TOP);
        self.catalog.names.push(name.into());
        self.interned.insert(name.into(), id);
        id
    }

    fn add(&mut self, die: Die, scope: u32, name: u32, what: What, declaration: bool) {
        if self.catalog.items.len() >= MOST_ENTRIES {
            self.catalog.cut = true;
            return;
        }
        let id = u32::try_from(self.catalog.items.len()).unwrap_or(TOP);
        self.catalog.items.push(Item {
            die,
            scope,
            name,
            what,
            declaration,
        });
        self.catalog.by_die.insert(die, id);
    }

    fn unit(&mut self, dies: &Dies<'_>) -> gimli::Result<()> {
        let header = &dies.unit.header;
        let root = header.root_offset();
        let buffer = header.range_from(root..)?;
        let input = EndianSlice::new(buffer.bytes(), LittleEndian);
        let mut raw = EntriesRaw::new(input, header.encoding(), &dies.unit.abbreviations, root);
        // (depth of the children, scope they are in); children below `skip` are stepped over.
        let mut scopes: Vec<(isize, u32)> = Vec::new();
        let mut skip: Option<isize> = None;
        while !raw.is_empty() {
            let depth = raw.next_depth();
            while scopes.last().is_some_and(|(d, _)| *d > depth) {
                scopes.pop();
            }
            if skip.is_some_and(|d| depth <= d) {
                skip = None;
            }
            let offset = raw.next_offset();
            let Some(abbreviation) = raw.read_abbreviation()? else {
                continue;
            };
            let tag = abbreviation.tag();
            if skip.is_some() {
                raw.skip_attributes(abbreviation.attributes())?;
                continue;
            }
            let (what, is_scope) = match tag {
                gimli::DW_TAG_variable => (Some(What::Variable), false),
                // Static members in DWARF 4.
                gimli::DW_TAG_member if !scopes.is_empty() => (Some(What::Variable), false),
                gimli::DW_TAG_subprogram => (Some(What::Function), false),
                gimli::DW_TAG_enumerator => (Some(What::Enumerator), false),
                gimli::DW_TAG_structure_type
                | gimli::DW_TAG_class_type
                | gimli::DW_TAG_union_type
                | gimli::DW_TAG_enumeration_type => (Some(What::Type), true),
                gimli::DW_TAG_base_type
                | gimli::DW_TAG_typedef
                | gimli::DW_TAG_unspecified_type
                | gimli::DW_TAG_template_alias => (Some(What::Type), false),
                // Rust names its pointers.
                gimli::DW_TAG_pointer_type => (Some(What::Type), false),
                gimli::DW_TAG_namespace | gimli::DW_TAG_module => (None, true),
                gimli::DW_TAG_compile_unit
                | gimli::DW_TAG_partial_unit
                | gimli::DW_TAG_type_unit
                | gimli::DW_TAG_skeleton_unit
                | gimli::DW_TAG_variant_part
                | gimli::DW_TAG_variant => {
                    raw.skip_attributes(abbreviation.attributes())?;
                    continue;
                }
                _ => {
                    raw.skip_attributes(abbreviation.attributes())?;
                    if abbreviation.has_children() {
                        skip = Some(depth);
                    }
                    continue;
                }
            };
            let mut seen = Seen::default();
            let mut external = false;
            for spec in abbreviation.attributes() {
                let attribute = raw.read_attribute_inline(*spec)?;
                match attribute.name() {
                    gimli::DW_AT_name => seen.name = Some(attribute.value()),
                    gimli::DW_AT_specification => seen.specification = Some(attribute.value()),
                    gimli::DW_AT_declaration => seen.declaration = true,
                    gimli::DW_AT_external => external = true,
                    gimli::DW_AT_enum_class => seen.scoped = true,
                    gimli::DW_AT_export_symbols => seen.exported = true,
                    _ => {}
                }
            }
            let scope = scopes.last().map_or(TOP, |(_, s)| *s);
            let die = dies.die(offset);
            let is_member = tag == gimli::DW_TAG_member;
            let mut name = seen.name.and_then(|n| text(dies, n));
            if let (Some(what), Some(there)) = (what, &seen.specification)
                && name.is_none()
                && let Some(declared) = reference(dies, there)
            {
                self.pending.push((die, declared, what));
            }
            let nameless = name.is_none();
            if nameless && tag == gimli::DW_TAG_namespace {
                name = Some(Cow::Borrowed("(anonymous namespace)"));
            } else if nameless && tag == gimli::DW_TAG_enumeration_type {
                // Its values have a type all the same.
                name = Some(Cow::Borrowed(""));
            }
            let id = name.map(|n| self.intern(&n));
            if let (Some(what), Some(id)) = (what, id)
                && (!is_member || external || seen.declaration)
            {
                let declaration = seen.declaration || is_member;
                self.add(die, scope, id, what, declaration);
            }
            if !abbreviation.has_children() {
                continue;
            }
            if is_scope && scopes.len() < MOST_SCOPES {
                let open = match tag {
                    gimli::DW_TAG_namespace => seen.exported || seen.name.is_none(),
                    gimli::DW_TAG_enumeration_type => !seen.scoped,
                    _ => nameless,
                };
                let inner = match id {
                    Some(name) => {
                        let inner = u32::try_from(self.catalog.scopes.len()).unwrap_or(TOP);
                        self.catalog.scopes.push(Scope {
                            name,
                            parent: scope,
                            die,
                            open,
                        });
                        inner
                    }
                    None => scope,
                };
                scopes.push((depth + 1, inner));
            } else {
                // Bodies of functions.
                skip = Some(depth);
            }
        }
        Ok(())
    }

    fn finish(mut self) -> Catalog {
        for (die, declared, what) in std::mem::take(&mut self.pending) {
            let Some(item) = self
                .catalog
                .by_die
                .get(&declared)
                .and_then(|i| self.catalog.items.get(*i as usize))
                .copied()
            else {
                continue;
            };
            self.add(die, item.scope, item.name, what, false);
        }
        let mut by_name: HashMap<Box<str>, Vec<u32>> = HashMap::new();
        for (number, item) in self.catalog.items.iter().enumerate() {
            let Ok(number) = u32::try_from(number) else {
                break;
            };
            let name = canonical(self.catalog.text(item.name));
            match by_name.get_mut(name.as_ref()) {
                Some(list) => list.push(number),
                None => {
                    by_name.insert(name.into(), vec![number]);
                }
            }
        }
        self.catalog.by_name = by_name;
        self.catalog
    }
}

type Borrowed<'a> = AttributeValue<EndianSlice<'a, LittleEndian>>;

/// The text of a name, without a copy where it stands in the entry itself.
fn text<'a>(dies: &Dies<'_>, value: Borrowed<'a>) -> Option<Cow<'a, str>> {
    use gimli::Reader as _;
    let owned: AttributeValue<Slice> = match value {
        AttributeValue::String(bytes) => {
            return Some(String::from_utf8_lossy(bytes.slice()));
        }
        AttributeValue::DebugStrRef(at) => AttributeValue::DebugStrRef(at),
        AttributeValue::DebugStrRefSup(at) => AttributeValue::DebugStrRefSup(at),
        AttributeValue::DebugStrOffsetsIndex(at) => AttributeValue::DebugStrOffsetsIndex(at),
        AttributeValue::DebugLineStrRef(at) => AttributeValue::DebugLineStrRef(at),
        _ => return None,
    };
    let text = dies.dwarf.attr_string(dies.unit, owned).ok()?;
    Some(Cow::Owned(text.to_string_lossy().ok()?.into_owned()))
}

fn reference(dies: &Dies<'_>, value: &Borrowed<'_>) -> Option<Die> {
    dies.reference(match value {
        AttributeValue::UnitRef(at) => AttributeValue::UnitRef(*at),
        AttributeValue::DebugInfoRef(at) => AttributeValue::DebugInfoRef(*at),
        AttributeValue::DebugInfoRefSup(at) => AttributeValue::DebugInfoRefSup(*at),
        AttributeValue::DebugTypesRef(at) => AttributeValue::DebugTypesRef(*at),
        _ => return None,
    })
}
