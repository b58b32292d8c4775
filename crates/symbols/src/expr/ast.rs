//! What an expression is once it is understood: a tree of bounded depth with places in the text.

use std::ops::Range;

/// A part of an expression.
#[derive(Clone, Debug, PartialEq)]
pub struct Node {
    /// The bytes of the text it stands for.
    pub span: Range<usize>,
    /// What it is.
    pub kind: Kind,
    /// Nodes on the longest way down, itself included. The parser keeps it below a limit, so
    /// recursing over a tree is safe.
    pub(super) depth: u16,
}

impl Node {
    /// Calls `visit` with every part, this one first.
    pub(super) fn each(&self, visit: &mut dyn FnMut(&Self)) {
        visit(self);
        match &self.kind {
            Kind::Integer(_)
            | Kind::Float(..)
            | Kind::Char(_)
            | Kind::Text(_)
            | Kind::Bool(_)
            | Kind::Path(_)
            | Kind::Register(_)
            | Kind::SizeOfType(_) => {}
            Kind::Unary(_, a) | Kind::Cast(_, a) | Kind::Member(a, _) | Kind::Ask(_, a) => {
                a.each(visit);
            }
            Kind::Binary(_, a, b) | Kind::Index(a, b) => {
                a.each(visit);
                b.each(visit);
            }
            Kind::Choice(a, b, c) => {
                a.each(visit);
                b.each(visit);
                c.each(visit);
            }
            Kind::Slice(a, from, to) => {
                a.each(visit);
                for end in [from, to].into_iter().flatten() {
                    end.each(visit);
                }
            }
        }
    }
}

/// What a part of an expression is.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// A number without a fraction.
    Integer(Integer),
    /// A number with a fraction; `true` if it is single precision.
    Float(f64, bool),
    /// A character.
    Char(u32),
    /// Text in double quotes.
    Text(Vec<u8>),
    /// `true` or `false`.
    Bool(bool),
    /// A name.
    Path(Path),
    /// `$rip`, without the dollar.
    Register(String),
    /// An operator in front.
    Unary(Unary, Box<Node>),
    /// An operator between.
    Binary(Binary, Box<Node>, Box<Node>),
    /// `a ? b : c`.
    Choice(Box<Node>, Box<Node>, Box<Node>),
    /// `(T)x`, `x as T`, `static_cast<T>(x)`.
    Cast(TypeName, Box<Node>),
    /// `x.name`, `x->name`, `x.0`.
    Member(Box<Node>, String),
    /// `x[i]`.
    Index(Box<Node>, Box<Node>),
    /// `x[from..to]`; both ends may be missing.
    Slice(Box<Node>, Option<Box<Node>>, Option<Box<Node>>),
    /// `sizeof(T)`.
    SizeOfType(TypeName),
    /// `sizeof x`, `len(x)`, `variant(x)`.
    Ask(Ask, Box<Node>),
}

/// A number without a fraction.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Integer {
    /// Its value.
    pub value: u128,
    /// Written in base ten, which decides what type it gets in C.
    pub decimal: bool,
    /// What was written behind it.
    pub suffix: Suffix,
}

/// The type that is written behind a number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Suffix {
    /// Nothing.
    None,
    /// C: `u`, `l`, `ul`, `ll`, `ull`.
    C {
        /// `u`.
        unsigned: bool,
        /// `l` or `ll`.
        long: bool,
    },
    /// Rust: `u8`, `i64`, `usize`...
    Rust {
        /// `i`.
        signed: bool,
        /// 1 to 16.
        bytes: u8,
    },
}

/// Operators in front.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unary {
    /// `-x`
    Minus,
    /// `+x`
    Plus,
    /// `!x`
    Not,
    /// `~x`
    Complement,
    /// `*x`
    Follow,
    /// `&x`
    Address,
}

/// Operators between.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[allow(missing_docs)]
pub enum Binary {
    Or,
    And,
    BitOr,
    BitXor,
    BitAnd,
    Equal,
    Unequal,
    Less,
    More,
    AtMost,
    AtLeast,
    ShiftLeft,
    ShiftRight,
    /// `x@n`: `n` neighbours from `x` on, as in GDB.
    Repeat,
    Add,
    Subtract,
    Multiply,
    Divide,
    Remainder,
    /// `a, b`.
    Comma,
}

impl Binary {
    /// How it is written.
    pub fn sign(self) -> &'static str {
        match self {
            Self::Or => "||",
            Self::And => "&&",
            Self::BitOr => "|",
            Self::BitXor => "^",
            Self::BitAnd => "&",
            Self::Equal => "==",
            Self::Unequal => "!=",
            Self::Less => "<",
            Self::More => ">",
            Self::AtMost => "<=",
            Self::AtLeast => ">=",
            Self::ShiftLeft => "<<",
            Self::ShiftRight => ">>",
            Self::Repeat => "@",
            Self::Add => "+",
            Self::Subtract => "-",
            Self::Multiply => "*",
            Self::Divide => "/",
            Self::Remainder => "%",
            Self::Comma => ",",
        }
    }
}

/// Questions about a value that are written like calls.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Ask {
    /// `sizeof x`: bytes.
    SizeOf,
    /// `len(x)`: elements of an array, a slice, a container; bytes of a text.
    Length,
    /// `variant(x)`: the name of an enum's variant, or of an enumerator.
    Variant,
}

/// A name, perhaps qualified.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct Path {
    /// The source file that it is to be looked for in: `'file.c'::x`.
    pub file: Option<String>,
    /// Written with `::` in front.
    pub global: bool,
    /// `a::b::c`; never empty. Template arguments belong to their segment.
    pub segments: Vec<String>,
}

impl Path {
    /// As it is shown.
    pub fn text(&self) -> String {
        let mut text = String::new();
        if let Some(file) = &self.file {
            text.push_str(&format!("'{file}'::"));
        } else if self.global {
            text.push_str("::");
        }
        text.push_str(&self.segments.join("::"));
        text
    }
}

/// A type as it is written.
#[derive(Clone, Debug, PartialEq)]
pub enum TypeName {
    /// `struct point`, `unsigned long`, `ns::Box<long>`, `u32`, `&[u8]`.
    Named {
        /// `struct`, `union`, `class` or `enum` was written.
        tag: Option<&'static str>,
        /// The name; several words of C are one segment in their usual order.
        path: Path,
        /// Where it stands.
        span: Range<usize>,
    },
    /// `T *`, `*const T`.
    Pointer(Box<TypeName>),
    /// `T &`, `&T`.
    Reference(Box<TypeName>),
    /// `T[4]`, `[T; 4]`.
    Array(Box<TypeName>, Option<u64>),
    /// `T (*)(A, B)` without the pointer.
    Function(Box<TypeName>, Vec<TypeName>),
}

impl TypeName {
    /// The name in its middle.
    pub(super) fn named(&self) -> (&Path, &Range<usize>) {
        let mut at = self;
        loop {
            match at {
                Self::Named { path, span, .. } => return (path, span),
                Self::Pointer(t)
                | Self::Reference(t)
                | Self::Array(t, _)
                | Self::Function(t, _) => {
                    at = t;
                }
            }
        }
    }
}
