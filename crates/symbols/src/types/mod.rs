//! What bytes mean.
//!
//! Types are read from debug information when they are first looked at, one at a time: a type holds
//! the places of the types it is made of, not those types, so circles cost nothing and a program's
//! hundred thousand types stay where they are. What was read is kept by its module.

mod load;
mod show;

use crate::dies::{Die, Language};
use crate::module::Module;
use std::sync::Arc;

pub(crate) use load::{Tables, load};

/// Types that stand for types: longer chains are taken for damage.
const MOST_ALIASES: usize = 100;

/// A type.
#[derive(Clone)]
pub struct Type {
    /// Whose debug information the parts refer to; none for types that are nobody's.
    module: Option<Arc<Module>>,
    data: Arc<Data>,
}

impl std::fmt::Debug for Type {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        write!(f, "Type({})", self.name())
    }
}

/// What is known of a type by itself.
#[derive(Debug)]
pub(crate) struct Data {
    pub die: Option<Die>,
    pub language: Language,
    /// With its namespaces.
    pub name: Option<Arc<str>>,
    /// Bytes, if that is written down.
    pub size: Option<u64>,
    pub kind: Kind,
}

/// A type that another type is made of.
#[derive(Clone, Debug)]
pub(crate) enum Link {
    Void,
    At(Die),
    Is(Type),
    /// A type without an entry of its own, from the module of whoever holds the link.
    Row(Arc<Data>),
}

/// How the bytes of a number are to be read.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Encoding {
    /// Two's complement.
    Signed,
    /// Without sign.
    Unsigned,
    /// IEEE 754, or x87 if it has 16 bytes.
    Float,
    /// Zero or not.
    Bool,
    /// A signed number that is also a character.
    SignedChar,
    /// An unsigned number that is also a character.
    UnsignedChar,
    /// A character of Unicode.
    Unicode,
    /// Two floats.
    Complex,
    /// Something else; shown as bytes.
    Other,
}

impl Encoding {
    /// Whether the highest bit is a sign.
    pub fn signed(self) -> bool {
        matches!(self, Self::Signed | Self::SignedChar)
    }

    /// Whether the value is a whole number of any kind.
    pub fn integral(self) -> bool {
        !matches!(self, Self::Float | Self::Complex | Self::Other)
    }
}

/// `struct`, `class` or `union`.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[allow(missing_docs)]
pub enum Keyword {
    Struct,
    Class,
    Union,
}

#[derive(Debug)]
pub(crate) enum Kind {
    Void,
    Number(Encoding),
    Pointer(Link),
    /// `true`: of the kind `T &&`.
    Reference(Link, bool),
    MemberPointer(Link, Link),
    Array(Array),
    Record(Record),
    Enumeration(Enumeration),
    Alias(Link),
    Const(Link),
    Volatile(Link),
    /// Other words in front that change nothing for a reader.
    Atomic(Link),
    Function(Link, Vec<Link>, bool),
    /// A symbol's, of which no debug information is known.
    Unknown,
}

#[derive(Clone, Debug)]
pub(crate) struct Array {
    pub element: Link,
    /// Elements; none for `T x[]`.
    pub count: Option<u64>,
    /// A vector of the processor.
    pub vector: bool,
}

#[derive(Debug)]
pub(crate) struct Record {
    pub keyword: Keyword,
    pub members: Vec<Member>,
    pub variants: Option<Variants>,
    /// What the template was made for.
    pub arguments: Vec<(Arc<str>, Link)>,
    /// Only said to exist; what it holds is said elsewhere.
    pub declaration: bool,
    /// Has a pointer to a table of virtual functions.
    pub dynamic: bool,
}

/// A part of a record.
#[derive(Clone, Debug)]
pub(crate) struct Member {
    pub name: Option<Arc<str>>,
    pub ty: Link,
    /// Bytes from the start of the record.
    pub at: u64,
    /// Bits from the start of the record and their number.
    pub bits: Option<(u64, u64)>,
    /// A class that this one is derived from.
    pub base: bool,
    /// Where it is must be computed from the object (virtual bases); not followed.
    pub computed: bool,
    /// One for all objects: where the variable is declared.
    pub of_class: Option<Die>,
}

/// The variants of a Rust enum.
#[derive(Debug)]
pub(crate) struct Variants {
    pub tag: Option<Member>,
    pub all: Vec<Variant>,
}

#[derive(Debug)]
pub(crate) struct Variant {
    /// Values of the tag, first to last; none for the variant of all others.
    pub values: Vec<(u128, u128)>,
    pub member: Member,
}

#[derive(Debug)]
pub(crate) struct Enumeration {
    pub base: Link,
    pub values: Vec<(Arc<str>, i128)>,
    /// `enum class`: names need the enum's in front.
    pub scoped: bool,
    pub signed: bool,
    pub declaration: bool,
}

impl Type {
    pub(crate) fn new(module: Option<Arc<Module>>, data: Arc<Data>) -> Self {
        Self { module, data }
    }

    /// A type that no debug information has.
    pub(crate) fn made(
        language: Language,
        name: Option<&str>,
        size: Option<u64>,
        kind: Kind,
    ) -> Self {
        let data = Data {
            die: None,
            language,
            name: name.map(Arc::from),
            size,
            kind,
        };
        Self::new(None, Arc::new(data))
    }

    /// A number as every language has it.
    pub(crate) fn number(language: Language, name: &str, encoding: Encoding, size: u64) -> Self {
        Self::made(language, Some(name), Some(size), Kind::Number(encoding))
    }

    pub(crate) fn void(language: Language) -> Self {
        Self::made(language, None, None, Kind::Void)
    }

    /// A pointer to this type.
    #[must_use]
    pub fn pointer(&self) -> Self {
        let mut made = Self::made(
            self.data.language,
            None,
            Some(8),
            Kind::Pointer(Link::Is(self.clone())),
        );
        made.module.clone_from(&self.module);
        made
    }

    pub(crate) fn reference(&self) -> Self {
        let mut made = Self::made(
            self.data.language,
            None,
            Some(8),
            Kind::Reference(Link::Is(self.clone()), false),
        );
        made.module.clone_from(&self.module);
        made
    }

    /// `count` of this type in a row.
    #[must_use]
    pub fn array(&self, count: Option<u64>) -> Self {
        let mut made = Self::made(
            self.data.language,
            None,
            None,
            Kind::Array(Array {
                element: Link::Is(self.clone()),
                count,
                vector: false,
            }),
        );
        made.module.clone_from(&self.module);
        made
    }

    pub(crate) fn function(result: Self, parameters: Vec<Self>) -> Self {
        let language = result.data.language;
        let parameters = parameters.into_iter().map(Link::Is).collect();
        Self::made(
            language,
            None,
            None,
            Kind::Function(Link::Is(result), parameters, false),
        )
    }

    pub(crate) fn data(&self) -> &Data {
        &self.data
    }

    pub(crate) fn kind(&self) -> &Kind {
        &self.data.kind
    }

    /// The module in whose debug information it stands.
    pub fn module(&self) -> Option<&Arc<Module>> {
        self.module.as_ref()
    }

    /// The language it comes from.
    pub fn language(&self) -> Language {
        self.data.language
    }

    /// Its own name with namespaces; none for pointers, arrays, and what has no name.
    pub fn own_name(&self) -> Option<&str> {
        self.data.name.as_deref()
    }

    /// Follows a link of this type.
    pub(crate) fn follow(&self, link: &Link) -> Self {
        match link {
            Link::Void => Self::void(self.data.language),
            Link::Is(ty) => ty.clone(),
            Link::Row(data) => Self::new(self.module.clone(), Arc::clone(data)),
            Link::At(die) => match &self.module {
                Some(module) => load(module, *die),
                None => Self::void(self.data.language),
            },
        }
    }

    /// Without the names and qualifiers around it: what its bytes are. Declarations are replaced by
    /// what the module says elsewhere.
    #[must_use]
    pub fn bare(&self) -> Self {
        let mut at = self.clone();
        for _ in 0..MOST_ALIASES {
            let next = match at.kind() {
                Kind::Alias(l) | Kind::Const(l) | Kind::Volatile(l) | Kind::Atomic(l) => {
                    at.follow(l)
                }
                Kind::Record(Record {
                    declaration: true, ..
                })
                | Kind::Enumeration(Enumeration {
                    declaration: true, ..
                }) => match at.complete() {
                    Some(full) => full,
                    None => return at,
                },
                _ => return at,
            };
            at = next;
        }
        Self::void(self.data.language)
    }

    /// What its module says of a type that is only declared here.
    fn complete(&self) -> Option<Self> {
        let module = self.module.as_ref()?;
        let name = self.data.name.as_deref()?;
        Self::defined(module, name)
    }

    /// The record or enum of a full name, where its module says what it holds. The name may also be
    /// that of an alias, as in `typedef struct queue queue;`, which says no more.
    pub(crate) fn defined(module: &Arc<Module>, name: &str) -> Option<Self> {
        let whole = |ty: &Self| match ty.kind() {
            Kind::Record(r) => !r.declaration,
            Kind::Enumeration(e) => !e.declaration,
            _ => false,
        };
        let mut found = module.catalog()?.full_types(name).into_iter();
        found.find_map(|die| Some(load(module, die)).filter(whole))
    }

    /// Without `const` and `volatile` in front.
    #[must_use]
    pub fn unqualified(&self) -> Self {
        let mut at = self.clone();
        for _ in 0..MOST_ALIASES {
            let next = match at.kind() {
                Kind::Const(l) | Kind::Volatile(l) | Kind::Atomic(l) => at.follow(l),
                _ => return at,
            };
            at = next;
        }
        at
    }

    /// Bytes of a value; `None` if nobody knows.
    pub fn size(&self) -> Option<u64> {
        let mut count: u64 = 1;
        let mut at = self.bare();
        for _ in 0..MOST_ALIASES {
            if let Some(size) = at.data.size {
                return size.checked_mul(count);
            }
            let next = match at.kind() {
                Kind::Array(array) => {
                    count = count.checked_mul(array.count.unwrap_or(0))?;
                    at.follow(&array.element).bare()
                }
                Kind::Enumeration(e) => at.follow(&e.base).bare(),
                Kind::Pointer(_) | Kind::Reference(..) => return count.checked_mul(8),
                _ => return None,
            };
            at = next;
        }
        None
    }

    /// What a pointer or reference leads to.
    pub fn target(&self) -> Option<Self> {
        let bare = self.bare();
        match bare.kind() {
            Kind::Pointer(l) | Kind::Reference(l, _) => Some(bare.follow(l)),
            _ => None,
        }
    }

    /// What an array is made of, and how many.
    pub fn elements(&self) -> Option<(Self, Option<u64>)> {
        let bare = self.bare();
        match bare.kind() {
            Kind::Array(a) => Some((bare.follow(&a.element), a.count)),
            _ => None,
        }
    }

    pub(crate) fn is_reference(&self) -> bool {
        matches!(self.bare().kind(), Kind::Reference(..))
    }

    /// The encoding, if it is a number of the language itself.
    pub fn encoding(&self) -> Option<Encoding> {
        match self.bare().kind() {
            Kind::Number(e) => Some(*e),
            _ => None,
        }
    }

    /// Whether it is a number of one byte that C takes for a character.
    pub(crate) fn is_char(&self) -> bool {
        if self.char_name().is_some() {
            return true;
        }
        let bare = self.bare();
        match bare.kind() {
            Kind::Number(Encoding::SignedChar | Encoding::UnsignedChar) => {
                bare.size() == Some(1) && bare.language() != Language::Rust
            }
            Kind::Number(Encoding::Unicode) => true,
            _ => false,
        }
    }

    /// `wchar_t` and its kin are characters by their names alone.
    pub(crate) fn char_name(&self) -> Option<&'static str> {
        let mut at = self.clone();
        for _ in 0..MOST_ALIASES {
            let found = ["wchar_t", "char16_t", "char32_t"]
                .into_iter()
                .find(|n| at.own_name() == Some(n));
            if found.is_some() {
                return found;
            }
            let next = match at.kind() {
                Kind::Alias(l) | Kind::Const(l) | Kind::Volatile(l) | Kind::Atomic(l) => {
                    at.follow(l)
                }
                _ => return None,
            };
            at = next;
        }
        None
    }

    /// Its name in its own language.
    pub fn name(&self) -> String {
        show::name(self)
    }
}
