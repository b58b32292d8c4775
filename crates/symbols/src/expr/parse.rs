//! From words to a tree: operator precedence (V. Pratt, "Top down operator precedence", 1973).
//!
//! Two things need more than the next word. `(x)-y` is a cast if `x` is a type and a subtraction
//! otherwise; [`Parser::is_type`] decides, first by the look of the name and, when the program is
//! known, by what the name is. `a<b>::c` is a name if what stands between the angles looks like
//! template arguments and `::` follows.

use super::SyntaxError;
use super::ast::{Ask, Binary, Kind, Node, Path, TypeName, Unary};
use super::lex::{Tok, Token, words};
use super::names::usual;
use std::ops::Range;

/// Longer texts are refused.
const MOST_BYTES: usize = 16 * 1024;
/// Nodes on the way from the root to a leaf.
const MOST_DEPTH: u16 = 200;
/// Derivations of a type: `*`, `&`, `[]`.
const MOST_DERIVED: usize = 32;

type Result<T> = std::result::Result<T, SyntaxError>;

/// A tree, and the names on whose nature it depends.
#[derive(Debug)]
pub(super) struct Parsed {
    pub root: Node,
    pub doubtful: Vec<Path>,
}

/// Understands a text. `is_type` is asked about names in doubtful places.
pub(super) fn parse(text: &str, is_type: &dyn Fn(&Path) -> bool) -> Result<Parsed> {
    if text.len() > MOST_BYTES {
        return Err(SyntaxError {
            at: 0..0,
            message: format!("an expression has at most {MOST_BYTES} bytes"),
        });
    }
    let mut parser = Parser {
        text,
        words: words(text)?,
        at: 0,
        depth: 0,
        is_type,
        doubtful: Vec::new(),
        prefixed: false,
    };
    if parser.peek() == &Tok::End {
        return Err(parser.error("an expression is missing"));
    }
    let root = parser.expression(0)?;
    match parser.peek() {
        Tok::End => Ok(Parsed {
            root,
            doubtful: parser.doubtful,
        }),
        Tok::Sign("=" | "+=" | "-=" | "*=" | "/=" | "<<=" | ">>=") => {
            Err(parser.error("what was recorded cannot be changed; compare with =="))
        }
        _ => Err(parser.error("an operator is expected here")),
    }
}

/// Reads a type and nothing else.
pub(super) fn parse_type(text: &str) -> Result<TypeName> {
    if text.len() > MOST_BYTES {
        return Err(SyntaxError {
            at: 0..0,
            message: format!("a type has at most {MOST_BYTES} bytes"),
        });
    }
    let mut parser = Parser {
        text,
        words: words(text)?,
        at: 0,
        depth: 0,
        is_type: &|_| false,
        doubtful: Vec::new(),
        prefixed: false,
    };
    let (name, _) = parser.type_name(true)?;
    if parser.peek() != &Tok::End {
        return Err(parser.error("the type should end here"));
    }
    Ok(name)
}

struct Parser<'a> {
    text: &'a str,
    words: Vec<Token>,
    at: usize,
    depth: u16,
    is_type: &'a dyn Fn(&Path) -> bool,
    doubtful: Vec<Path>,
    /// Stars and ampersands behind a type do not belong to it.
    prefixed: bool,
}

/// Binding powers: (operator, left). Right is left + 1: all associate to the left.
fn binary(sign: &str) -> Option<(Binary, u8)> {
    Some(match sign {
        "," => (Binary::Comma, 1),
        "||" => (Binary::Or, 5),
        "&&" => (Binary::And, 7),
        "|" => (Binary::BitOr, 9),
        "^" => (Binary::BitXor, 11),
        "&" => (Binary::BitAnd, 13),
        "==" => (Binary::Equal, 15),
        "!=" => (Binary::Unequal, 15),
        "<" => (Binary::Less, 17),
        ">" => (Binary::More, 17),
        "<=" => (Binary::AtMost, 17),
        ">=" => (Binary::AtLeast, 17),
        "<<" => (Binary::ShiftLeft, 19),
        ">>" => (Binary::ShiftRight, 19),
        "@" => (Binary::Repeat, 21),
        "+" => (Binary::Add, 23),
        "-" => (Binary::Subtract, 23),
        "*" => (Binary::Multiply, 25),
        "/" => (Binary::Divide, 25),
        "%" => (Binary::Remainder, 25),
        _ => return None,
    })
}

const CHOICE: u8 = 3;
const AS: u8 = 27;
const PREFIX: u8 = 29;

impl Parser<'_> {
    fn peek(&self) -> &Tok {
        &self.words[self.at.min(self.words.len() - 1)].kind
    }

    fn ahead(&self, n: usize) -> &Tok {
        &self.words[(self.at + n).min(self.words.len() - 1)].kind
    }

    fn span(&self) -> Range<usize> {
        self.words[self.at.min(self.words.len() - 1)].span.clone()
    }

    /// The end of the word before this one.
    fn end(&self) -> usize {
        self.at
            .checked_sub(1)
            .and_then(|i| self.words.get(i))
            .map_or(0, |w| w.span.end)
    }

    fn next(&mut self) -> Tok {
        let kind = self.peek().clone();
        self.at = (self.at + 1).min(self.words.len() - 1);
        kind
    }

    fn eat(&mut self, sign: &str) -> bool {
        let found = matches!(self.peek(), Tok::Sign(s) if *s == sign);
        if found {
            self.at += 1;
        }
        found
    }

    fn expect(&mut self, sign: &str, why: &str) -> Result<()> {
        if self.eat(sign) {
            return Ok(());
        }
        Err(self.error(format!("`{sign}` is missing{why}")))
    }

    fn error(&self, message: impl Into<String>) -> SyntaxError {
        SyntaxError {
            at: self.span(),
            message: message.into(),
        }
    }

    fn node(&self, start: usize, kind: Kind) -> Result<Node> {
        let below = match &kind {
            Kind::Unary(_, a) | Kind::Cast(_, a) | Kind::Member(a, _) | Kind::Ask(_, a) => a.depth,
            Kind::Binary(_, a, b) | Kind::Index(a, b) => a.depth.max(b.depth),
            Kind::Choice(a, b, c) => a.depth.max(b.depth).max(c.depth),
            Kind::Slice(a, b, c) => {
                let end = |n: &Option<Box<Node>>| n.as_ref().map_or(0, |n| n.depth);
                a.depth.max(end(b)).max(end(c))
            }
            _ => 0,
        };
        let span = start..self.end().max(start);
        if below >= MOST_DEPTH {
            return Err(SyntaxError {
                at: span,
                message: format!("more than {MOST_DEPTH} operations within each other"),
            });
        }
        Ok(Node {
            span,
            kind,
            depth: below + 1,
        })
    }

    /// Guards against recursion without end; every way down passes here.
    fn deeper<T>(&mut self, f: impl FnOnce(&mut Self) -> Result<T>) -> Result<T> {
        if self.depth >= MOST_DEPTH {
            return Err(self.error(format!("more than {MOST_DEPTH} parts within each other")));
        }
        self.depth += 1;
        let result = f(self);
        self.depth -= 1;
        result
    }

    fn expression(&mut self, least: u8) -> Result<Node> {
        self.deeper(|p| p.climb(least))
    }

    fn climb(&mut self, least: u8) -> Result<Node> {
        let start = self.span().start;
        let mut left = self.prefix()?;
        loop {
            let kind = match self.peek() {
                Tok::Name(name) if name == "as" && AS >= least => {
                    self.at += 1;
                    // `x as u32 * 2` multiplies.
                    self.prefixed = true;
                    let to = self.type_name(true);
                    self.prefixed = false;
                    Kind::Cast(to?.0, Box::new(left))
                }
                Tok::Sign("?") if CHOICE >= least => {
                    self.at += 1;
                    let yes = self.expression(0)?;
                    self.expect(":", " of `a ? b : c`")?;
                    let no = self.expression(CHOICE)?;
                    Kind::Choice(Box::new(left), Box::new(yes), Box::new(no))
                }
                Tok::Sign(sign) => match binary(sign) {
                    Some((op, power)) if power >= least => {
                        self.at += 1;
                        let right = self.expression(power + 1)?;
                        Kind::Binary(op, Box::new(left), Box::new(right))
                    }
                    _ => return Ok(left),
                },
                _ => return Ok(left),
            };
            left = self.node(start, kind)?;
        }
    }

    fn prefix(&mut self) -> Result<Node> {
        let start = self.span().start;
        let op = match self.peek() {
            Tok::Sign("-") => Unary::Minus,
            Tok::Sign("+") => Unary::Plus,
            Tok::Sign("!") => Unary::Not,
            Tok::Sign("~") => Unary::Complement,
            Tok::Sign("*") => Unary::Follow,
            Tok::Sign("&") => Unary::Address,
            Tok::Sign("&&") => return Err(self.error("something is missing before `&&`")),
            Tok::Sign("(") if !self.is_anonymous() => {
                if let Some(cast) = self.cast(start)? {
                    return Ok(cast);
                }
                return self.postfix();
            }
            Tok::Name(name) if name == "sizeof" => return self.size_of(start),
            _ => return self.postfix(),
        };
        self.at += 1;
        // `&mut x` and `&raw const x` are what Rust calls it.
        if op == Unary::Address && matches!(self.peek(), Tok::Name(n) if n == "mut") {
            self.at += 1;
        }
        let inner = self.expression(PREFIX)?;
        self.node(start, Kind::Unary(op, Box::new(inner)))
    }

    fn size_of(&mut self, start: usize) -> Result<Node> {
        self.at += 1;
        if matches!(self.peek(), Tok::Sign("(")) {
            let back = self.at;
            self.at += 1;
            if let Ok((name, sure)) = self.type_name(false)
                && self.eat(")")
                && sure
            {
                return self.node(start, Kind::SizeOfType(name));
            }
            self.at = back;
        }
        let inner = self.expression(PREFIX)?;
        self.node(start, Kind::Ask(Ask::SizeOf, Box::new(inner)))
    }

    /// `(T)x`, if that is what stands here.
    fn cast(&mut self, start: usize) -> Result<Option<Node>> {
        let back = self.at;
        self.at += 1;
        let Ok((name, sure)) = self.type_name(false) else {
            self.at = back;
            return Ok(None);
        };
        if !self.eat(")") {
            self.at = back;
            return Ok(None);
        }
        let is_cast = sure
            || match self.peek() {
                Tok::Name(n) => n != "as",
                Tok::Integer(_)
                | Tok::Float(..)
                | Tok::Char(_)
                | Tok::Text(_)
                | Tok::Quoted(_)
                | Tok::Register(_)
                | Tok::Sign("(" | "!" | "~" | "::") => true,
                Tok::Sign("-" | "+" | "*" | "&") => {
                    let path = name.named().0.clone();
                    let verdict = (self.is_type)(&path);
                    self.doubtful.push(path);
                    verdict
                }
                _ => false,
            };
        if !is_cast {
            self.at = back;
            return Ok(None);
        }
        let inner = self.expression(PREFIX)?;
        self.node(start, Kind::Cast(name, Box::new(inner)))
            .map(Some)
    }

    fn postfix(&mut self) -> Result<Node> {
        let start = self.span().start;
        let mut left = self.primary()?;
        loop {
            let kind = match self.peek() {
                Tok::Sign("." | "->") => {
                    self.at += 1;
                    let name = match self.peek() {
                        Tok::Name(name) | Tok::Quoted(name) => name.clone(),
                        _ => return Err(self.error("the name of a member is missing")),
                    };
                    self.at += 1;
                    // `x.base::name` names the member of a base.
                    let mut name = self.template(name, false);
                    while self.eat("::") {
                        let (Tok::Name(next) | Tok::Quoted(next)) = self.next() else {
                            return Err(self.error("the name of a member is missing"));
                        };
                        name = format!("{name}::{next}");
                    }
                    Kind::Member(Box::new(left), name)
                }
                Tok::Sign("[") => {
                    self.at += 1;
                    self.index(left)?
                }
                Tok::Sign("(") => {
                    return Err(self.error(
                        "functions cannot be called in what was recorded (there are len(x), variant(x) and sizeof(x))",
                    ));
                }
                _ => return Ok(left),
            };
            left = self.node(start, kind)?;
        }
    }

    /// Behind `[`.
    fn index(&mut self, of: Node) -> Result<Kind> {
        let dots = |p: &mut Self| -> Option<bool> {
            if p.eat("..=") {
                Some(true)
            } else if p.eat("..") {
                Some(false)
            } else {
                None
            }
        };
        let from = match self.peek() {
            Tok::Sign(".." | "..=") => None,
            _ => Some(self.expression(0)?),
        };
        let Some(inclusive) = dots(self) else {
            self.expect("]", "")?;
            let Some(at) = from else {
                return Err(self.error("an index is missing"));
            };
            return Ok(Kind::Index(Box::new(of), Box::new(at)));
        };
        let mut to = match self.peek() {
            Tok::Sign("]") if !inclusive => None,
            _ => Some(self.expression(0)?),
        };
        self.expect("]", "")?;
        if inclusive && let Some(end) = to {
            let start = end.span.start;
            let one = self.node(
                start,
                Kind::Integer(super::ast::Integer {
                    value: 1,
                    decimal: true,
                    suffix: super::ast::Suffix::None,
                }),
            )?;
            let mut sum = self.node(
                start,
                Kind::Binary(Binary::Add, Box::new(end), Box::new(one)),
            )?;
            sum.span.end = sum.span.end.saturating_sub(1).max(start);
            to = Some(sum);
        }
        Ok(Kind::Slice(
            Box::new(of),
            from.map(Box::new),
            to.map(Box::new),
        ))
    }

    fn primary(&mut self) -> Result<Node> {
        let start = self.span().start;
        let kind = match self.peek().clone() {
            Tok::Integer(n) => Kind::Integer(n),
            Tok::Float(x, single) => Kind::Float(x, single),
            Tok::Char(c) => Kind::Char(c),
            Tok::Text(first) => {
                let mut text = first;
                while let Tok::Text(more) = self.ahead(1).clone() {
                    text.extend(more);
                    self.at += 1;
                }
                Kind::Text(text)
            }
            Tok::Register(name) => Kind::Register(name),
            Tok::Sign("(") if self.is_anonymous() => {
                let path = self.path(false)?;
                return self.node(start, Kind::Path(path));
            }
            Tok::Sign("(") => {
                self.at += 1;
                let mut inner = self.expression(0)?;
                self.expect(")", "")?;
                inner.span = start..self.end();
                return Ok(inner);
            }
            Tok::Name(name) => match name.as_str() {
                "true" => Kind::Bool(true),
                "false" => Kind::Bool(false),
                "nullptr" | "NULL" if !matches!(self.ahead(1), Tok::Sign("::")) => {
                    Kind::Integer(super::ast::Integer {
                        value: 0,
                        decimal: true,
                        suffix: super::ast::Suffix::None,
                    })
                }
                "len" | "variant" if self.ahead(1) == &Tok::Sign("(") => {
                    self.at += 2;
                    let ask = if name == "len" {
                        Ask::Length
                    } else {
                        Ask::Variant
                    };
                    let inner = self.expression(0)?;
                    self.expect(")", "")?;
                    return self.node(start, Kind::Ask(ask, Box::new(inner)));
                }
                "reinterpret_cast" | "static_cast" | "const_cast" | "dynamic_cast"
                    if self.ahead(1) == &Tok::Sign("<") =>
                {
                    self.at += 2;
                    let (to, _) = self.type_name(true)?;
                    self.expect(">", " behind the type")?;
                    self.expect("(", "")?;
                    let inner = self.expression(0)?;
                    self.expect(")", "")?;
                    return self.node(start, Kind::Cast(to, Box::new(inner)));
                }
                _ => {
                    let path = self.path(false)?;
                    return self.node(start, Kind::Path(path));
                }
            },
            Tok::Quoted(_) | Tok::Sign("::") => {
                let path = self.path(false)?;
                return self.node(start, Kind::Path(path));
            }
            Tok::End => return Err(self.error("the expression ends too early")),
            _ => return Err(self.error("a value is expected here")),
        };
        self.at += 1;
        self.node(start, kind)
    }

    /// `a::b<c>::d`, `::a`, `'file.c'::a`.
    fn path(&mut self, of_type: bool) -> Result<Path> {
        let mut path = Path {
            file: None,
            global: self.eat("::"),
            segments: Vec::new(),
        };
        loop {
            match self.next() {
                Tok::Quoted(text) => {
                    let first = path.segments.is_empty() && !path.global && path.file.is_none();
                    if first && self.peek() == &Tok::Sign("::") && is_file(&text) {
                        path.file = Some(text);
                    } else {
                        path.segments.extend(split_path(&text));
                    }
                }
                Tok::Name(name) => {
                    let name = self.template(name, of_type);
                    path.segments.push(name);
                    self.parameters();
                }
                Tok::Sign("(") if matches!(self.peek(), Tok::Name(n) if n == "anonymous") => {
                    self.at += 2;
                    self.expect(")", "")?;
                    path.segments.push("(anonymous namespace)".to_owned());
                }
                Tok::Sign("{") => {
                    // Rust: `{impl#0}`, `{closure_env#0}`.
                    let start = self.words[self.at.saturating_sub(1)].span.start;
                    while !matches!(self.peek(), Tok::Sign("}") | Tok::End) {
                        self.at += 1;
                    }
                    self.expect("}", "")?;
                    path.segments.push(self.text[start..self.end()].to_owned());
                }
                _ => {
                    self.at = self.at.saturating_sub(1);
                    return Err(self.error("a name is expected here"));
                }
            }
            let more = matches!(self.peek(), Tok::Sign("::"));
            if !more {
                break;
            }
            self.at += 1;
        }
        if path.segments.is_empty() {
            return Err(self.error("a name is expected here"));
        }
        Ok(path)
    }

    /// `(anonymous namespace)::`.
    fn is_anonymous(&self) -> bool {
        matches!(
            (self.ahead(1), self.ahead(2), self.ahead(3)),
            (Tok::Name(a), Tok::Name(b), Tok::Sign(")")) if a == "anonymous" && b == "namespace"
        )
    }

    /// Steps over the parameters in `f(int)::x`, which are not needed to find `f`.
    fn parameters(&mut self) {
        if self.peek() != &Tok::Sign("(") {
            return;
        }
        let mut depth = 0usize;
        for at in self.at..self.words.len() {
            match &self.words[at].kind {
                Tok::Sign("(") => depth += 1,
                Tok::Sign(")") => depth = depth.saturating_sub(1),
                Tok::End => return,
                _ => {}
            }
            if depth == 0 {
                if matches!(
                    self.words.get(at + 1).map(|w| &w.kind),
                    Some(Tok::Sign("::"))
                ) {
                    self.at = at + 1;
                }
                return;
            }
        }
    }

    /// The name with its template arguments, if that is what follows: in a type always, elsewhere
    /// only if `::` stands behind them.
    fn template(&mut self, name: String, of_type: bool) -> String {
        let turbofish = self.peek() == &Tok::Sign("::") && self.ahead(1) == &Tok::Sign("<");
        let open = self.at + usize::from(turbofish);
        if !matches!(self.words.get(open).map(|w| &w.kind), Some(Tok::Sign("<"))) {
            return name;
        }
        let (mut angles, mut others) = (0usize, 0usize);
        for at in open..self.words.len() {
            match &self.words[at].kind {
                Tok::Sign("<") => angles += 1,
                Tok::Sign(s @ (">" | ">>")) => {
                    angles = angles.saturating_sub(s.len());
                    if angles == 0 && others == 0 {
                        let follows = self.words.get(at + 1).map(|w| &w.kind);
                        if !of_type && !turbofish && follows != Some(&Tok::Sign("::")) {
                            return name;
                        }
                        let inside = self.words[open].span.start..self.words[at].span.end;
                        self.at = at + 1;
                        return format!("{name}{}", &self.text[inside]);
                    }
                }
                Tok::Sign("(" | "[" | "{") => others += 1,
                Tok::Sign(")" | "]" | "}") => match others.checked_sub(1) {
                    Some(n) => others = n,
                    None => return name,
                },
                Tok::Sign("::" | "," | "*" | "&" | "&&" | ";" | "#" | "->" | "+" | "-")
                | Tok::Name(_)
                | Tok::Integer(_)
                | Tok::Char(_)
                | Tok::Quoted(_) => {}
                _ => return name,
            }
        }
        name
    }

    /// A type; `true` if it cannot be anything else. `rust` allows what would be an operator in
    /// front of a value: `*const T`, `&T`, `[T; 4]`.
    fn type_name(&mut self, rust: bool) -> Result<(TypeName, bool)> {
        self.deeper(|p| p.type_inside(rust))
    }

    fn type_inside(&mut self, rust: bool) -> Result<(TypeName, bool)> {
        let start = self.span().start;
        match (self.peek().clone(), self.ahead(1).clone()) {
            (Tok::Sign("*"), Tok::Name(word)) if word == "const" || word == "mut" => {
                self.at += 2;
                let (inner, _) = self.type_name(true)?;
                return Ok((TypeName::Pointer(Box::new(inner)), true));
            }
            (Tok::Sign("&"), _) if rust => {
                self.at += 1;
                if matches!(self.peek(), Tok::Name(n) if n == "mut") {
                    self.at += 1;
                }
                // `&str` and `&[T]` are structures with names of their own.
                let from = self.span().start;
                let (inner, _) = self.type_name(true)?;
                let named = match &inner {
                    TypeName::Named { path, .. } => {
                        path.segments == ["str"] || path.segments[0].starts_with('[')
                    }
                    _ => false,
                };
                if named {
                    let text = format!("&{}", &self.text[from..self.end()]);
                    return Ok((named_type(None, vec![text], start..self.end()), true));
                }
                return Ok((TypeName::Reference(Box::new(inner)), true));
            }
            (Tok::Sign("["), _) if rust => {
                self.at += 1;
                let (inner, _) = self.type_name(true)?;
                if self.eat(";") {
                    let Tok::Integer(n) = self.next() else {
                        return Err(self.error("the length of the array is missing"));
                    };
                    self.expect("]", "")?;
                    let n =
                        u64::try_from(n.value).map_err(|_| self.error("no array is that long"))?;
                    return Ok((TypeName::Array(Box::new(inner), Some(n)), true));
                }
                self.expect("]", "")?;
                let text = self.text[start..self.end()].to_owned();
                return Ok((named_type(None, vec![text], start..self.end()), true));
            }
            (Tok::Sign("("), _) if rust => {
                // A tuple is a structure with a name of its own.
                self.at += 1;
                while !self.eat(")") {
                    self.type_name(true)?;
                    if !self.eat(",") {
                        self.expect(")", "")?;
                        break;
                    }
                }
                let text = self.text[start..self.end()].to_owned();
                return Ok((named_type(None, vec![text], start..self.end()), true));
            }
            _ => {}
        }
        let mut sure = false;
        let mut tag = None;
        let mut words: Vec<String> = Vec::new();
        let mut path: Option<Path> = None;
        while let Tok::Name(word) = self.peek().clone() {
            match word.as_str() {
                "const" | "volatile" | "restrict" | "_Atomic" => sure = true,
                "struct" | "class" | "union" | "enum" if path.is_none() && words.is_empty() => {
                    sure = true;
                    tag = Some(match word.as_str() {
                        "struct" => "struct",
                        "class" => "class",
                        "union" => "union",
                        _ => "enum",
                    });
                }
                "unsigned" | "signed" | "long" | "short" | "int" | "char" | "double" | "float"
                | "void" | "_Bool" | "__int128" | "_Complex"
                    if path.is_none() && tag.is_none() =>
                {
                    sure = true;
                    words.push(word);
                }
                _ if path.is_none() && words.is_empty() && word != "as" => {
                    let found = self.path(true)?;
                    sure |= found.segments.last().is_some_and(|s| s.contains('<'));
                    path = Some(found);
                    continue;
                }
                _ => break,
            }
            self.at += 1;
        }
        if path.is_none() && words.is_empty() {
            // `'name with spaces'`, `::name`.
            if !matches!(self.peek(), Tok::Quoted(_) | Tok::Sign("::" | "{")) {
                return Err(self.error("a type is expected here"));
            }
            path = Some(self.path(true)?);
        }
        let span = start..self.end();
        let named = match path {
            Some(path) => TypeName::Named { tag, path, span },
            None => named_type(None, vec![usual(words.iter().map(String::as_str))], span),
        };
        self.declarator(named, sure)
    }

    /// What stands behind the name of a type.
    fn declarator(&mut self, mut inner: TypeName, mut sure: bool) -> Result<(TypeName, bool)> {
        if self.prefixed {
            return Ok((inner, sure));
        }
        let mut derived = 0;
        loop {
            derived += 1;
            if derived > MOST_DERIVED {
                return Err(self.error(format!("more than {MOST_DERIVED} parts of a type")));
            }
            match self.peek() {
                Tok::Sign("*") => {
                    inner = TypeName::Pointer(Box::new(inner));
                    sure = true;
                }
                Tok::Sign("&" | "&&") => {
                    inner = TypeName::Reference(Box::new(inner));
                    sure = true;
                }
                Tok::Name(word)
                    if matches!(
                        word.as_str(),
                        "const" | "volatile" | "restrict" | "__restrict"
                    ) =>
                {
                    sure = true;
                }
                _ => break,
            }
            self.at += 1;
        }
        // `T (*)(A)`, `T (*)[4]`.
        if self.peek() == &Tok::Sign("(") && matches!(self.ahead(1), Tok::Sign("*" | "&")) {
            let mut pointers = 0;
            self.at += 1;
            while self.eat("*") || self.eat("&") {
                pointers += 1;
            }
            self.expect(")", " behind the pointer")?;
            if pointers > MOST_DERIVED {
                return Err(self.error(format!("more than {MOST_DERIVED} parts of a type")));
            }
            inner = if self.eat("(") {
                let mut parameters = Vec::new();
                while !self.eat(")") {
                    if self.eat(".") || self.eat("..") {
                        continue;
                    }
                    parameters.push(self.type_name(true)?.0);
                    if !self.eat(",") {
                        self.expect(")", " behind the parameters")?;
                        break;
                    }
                }
                if let [TypeName::Named { path, .. }] = parameters.as_slice()
                    && path.segments == ["void"]
                {
                    parameters.clear();
                }
                TypeName::Function(Box::new(inner), parameters)
            } else {
                self.dimensions(inner)?
            };
            for _ in 0..pointers {
                inner = TypeName::Pointer(Box::new(inner));
            }
            return Ok((inner, true));
        }
        // `x[4]` may be an index.
        if sure && self.peek() == &Tok::Sign("[") {
            inner = self.dimensions(inner)?;
        }
        Ok((inner, sure))
    }

    fn dimensions(&mut self, mut inner: TypeName) -> Result<TypeName> {
        let mut counts = Vec::new();
        while self.eat("[") {
            if counts.len() >= MOST_DERIVED {
                return Err(self.error(format!("more than {MOST_DERIVED} dimensions")));
            }
            let count = match self.peek() {
                Tok::Integer(n) => {
                    let n =
                        u64::try_from(n.value).map_err(|_| self.error("no array is that long"))?;
                    self.at += 1;
                    Some(n)
                }
                _ => None,
            };
            self.expect("]", "")?;
            counts.push(count);
        }
        for count in counts.into_iter().rev() {
            inner = TypeName::Array(Box::new(inner), count);
        }
        Ok(inner)
    }
}

fn named_type(tag: Option<&'static str>, segments: Vec<String>, span: Range<usize>) -> TypeName {
    TypeName::Named {
        tag,
        path: Path {
            file: None,
            global: false,
            segments,
        },
        span,
    }
}

/// A file, unlike a name, has an extension or a directory.
fn is_file(text: &str) -> bool {
    text.contains('/')
        || text
            .rsplit_once('.')
            .is_some_and(|(_, e)| !e.is_empty() && e.len() <= 4 && !e.contains(':'))
}

/// The segments of a qualified name that was written in quotes.
fn split_path(text: &str) -> Vec<String> {
    super::names::segments(text)
        .into_iter()
        .map(str::to_owned)
        .collect()
}
