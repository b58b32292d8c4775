//! From a tree to a value. The tree's depth is bounded, so recursing over it is safe.

use super::arith::{self, Number, number};
use super::ast::{Ask, Binary, Kind as K, Node, TypeName, Unary};
use super::compare::{address, holds};
use super::resolve::{self, Thing, resolve};
use super::{EvalError, Expr, parse};
use crate::dies::Language;
use crate::layer;
use crate::members;
use crate::types::{Encoding, Kind, Type};
use crate::value::{Fault, Scope, Value};

/// Elements that a slice may have.
const MOST_ELEMENTS: u64 = 1 << 32;

/// Evaluates an expression.
///
/// # Errors
/// [`EvalError`] with the part that has no value. A variable that was optimised out, or whose memory
/// cannot be read, is a value until its bytes are asked for.
pub fn evaluate(expression: &Expr, scope: &Scope<'_>) -> Result<Value, EvalError> {
    let evaluator = Evaluator {
        scope,
        language: resolve::language(scope),
    };
    if expression.doubtful.is_empty() {
        return evaluator.node(&expression.root);
    }
    // Now that the program is known, casts can be told from subtractions.
    let is_type = |path: &super::Path| {
        let simple = TypeName::Named {
            tag: None,
            path: path.clone(),
            span: 0..0,
        };
        !matches!(resolve::value(path, scope), Ok(Some(_)))
            && resolve::type_named(&simple, scope).is_ok()
    };
    let parsed = parse::parse(&expression.text, &is_type).map_err(|e| EvalError {
        at: e.at,
        message: e.message,
    })?;
    evaluator.node(&parsed.root)
}

/// The type of a name such as `struct point *`.
///
/// # Errors
/// If it is not understood or there is none.
pub fn type_named(name: &str, scope: &Scope<'_>) -> Result<Type, EvalError> {
    let syntax = parse::parse_type(name).map_err(|e| EvalError {
        at: e.at,
        message: e.message,
    })?;
    resolve::type_named(&syntax, scope).map_err(|message| EvalError {
        at: syntax.named().1.clone(),
        message,
    })
}

struct Evaluator<'a> {
    scope: &'a Scope<'a>,
    language: Language,
}

type Result<T, E = EvalError> = std::result::Result<T, E>;

fn at(node: &Node, message: impl Into<String>) -> EvalError {
    EvalError {
        at: node.span.clone(),
        message: message.into(),
    }
}

/// Puts a place to what went wrong there.
trait Placed<T> {
    fn placed(self, node: &Node) -> Result<T>;
}

impl<T, E: ToString> Placed<T> for std::result::Result<T, E> {
    fn placed(self, node: &Node) -> Result<T> {
        self.map_err(|e| at(node, e.to_string()))
    }
}

impl Evaluator<'_> {
    fn node(&self, node: &Node) -> Result<Value> {
        match &node.kind {
            K::Integer(n) => {
                let n = arith::literal(*n).placed(node)?;
                Ok(arith::value(Language::Other, n))
            }
            K::Float(value, single) => Ok(arith::value(
                Language::Other,
                Number::Float {
                    value: *value,
                    single: *single,
                },
            )),
            K::Char(c) => Ok(self.character(*c)),
            K::Text(text) => {
                let mut bytes = text.clone();
                bytes.push(0);
                let element = Type::number(Language::C, "char", Encoding::SignedChar, 1);
                Ok(Value::of_bytes(
                    element.array(Some(bytes.len() as u64)),
                    bytes,
                ))
            }
            K::Bool(b) => {
                let ty = Type::number(self.language, "bool", Encoding::Bool, 1);
                Ok(Value::of_bytes(ty, vec![u8::from(*b)]))
            }
            K::Path(path) => match resolve(path, self.scope).placed(node)? {
                Thing::Value(value) => Ok(value),
                Thing::Type(ty) => Err(at(
                    node,
                    format!("`{}` is a type; use sizeof, or a cast", ty.name()),
                )),
            },
            K::Register(name) => {
                crate::registers::register(name, self.scope, self.language).placed(node)
            }
            K::Unary(op, inner) => self.unary(node, *op, inner),
            K::Binary(op, a, b) => self.binary(node, *op, a, b),
            K::Choice(condition, yes, no) => {
                let holds = self.node(condition)?.truth(self.scope).placed(condition)?;
                self.node(if holds { yes } else { no })
            }
            K::Cast(to, inner) => {
                let to = self.type_named(to)?;
                let value = self.node(inner)?;
                self.cast(&value, &to).placed(node)
            }
            K::Member(of, name) => {
                let value = self.node(of)?;
                let value = self.object(&value).placed(of)?;
                layer::member(&value, name, self.scope).placed(node)
            }
            K::Index(of, index) => self.index(node, of, index),
            K::Slice(of, from, to) => self.slice(node, of, from.as_deref(), to.as_deref()),
            K::SizeOfType(name) => self.size(node, &self.type_named(name)?),
            K::Ask(ask, inner) => self.ask(node, *ask, inner),
        }
    }

    fn character(&self, c: u32) -> Value {
        if self.language == Language::Rust {
            let ty = Type::number(Language::Rust, "char", Encoding::Unicode, 4);
            return Value::of_bytes(ty, c.to_le_bytes().to_vec());
        }
        if c < 0x100 {
            let ty = Type::number(Language::Other, "char", Encoding::SignedChar, 1);
            return Value::of_bytes(ty, vec![c.to_le_bytes()[0]]);
        }
        let ty = Type::number(Language::C, "char32_t", Encoding::Unicode, 4);
        Value::of_bytes(ty, c.to_le_bytes().to_vec())
    }

    fn type_named(&self, name: &TypeName) -> Result<Type> {
        resolve::type_named(name, self.scope).map_err(|message| EvalError {
            at: name.named().1.clone(),
            message,
        })
    }

    fn size(&self, node: &Node, ty: &Type) -> Result<Value> {
        let ty = resolve::completed(ty, self.scope);
        let size = match ty.kind() {
            Kind::Void | Kind::Function(..) => Some(1),
            Kind::Reference(link, _) => resolve::completed(&ty.follow(link), self.scope).size(),
            _ => ty.size(),
        };
        let size =
            size.ok_or_else(|| at(node, format!("the size of `{}` is not known", ty.name())))?;
        Ok(arith::size_t(self.language, size))
    }

    fn ask(&self, node: &Node, ask: Ask, inner: &Node) -> Result<Value> {
        match ask {
            Ask::SizeOf => {
                if let K::Path(path) = &inner.kind
                    && let Thing::Type(ty) = resolve(path, self.scope).placed(inner)?
                {
                    return self.size(node, &ty);
                }
                let value = self.node(inner)?;
                self.size(node, value.ty())
            }
            Ask::Length => {
                let value = self.node(inner)?.settled(self.scope).placed(inner)?;
                let length = layer::length(&value, self.scope).placed(inner)?;
                Ok(arith::size_t(self.language, length))
            }
            Ask::Variant => {
                let value = self.node(inner)?;
                let value = self.object(&value).placed(inner)?;
                let name = layer::variant_name(&value, self.scope).placed(inner)?;
                let mut bytes = name.into_bytes();
                bytes.push(0);
                let element = Type::number(Language::C, "char", Encoding::SignedChar, 1);
                Ok(Value::of_bytes(
                    element.array(Some(bytes.len() as u64)),
                    bytes,
                ))
            }
        }
    }

    /// What a member is asked of: references, pointers and smart pointers are followed.
    fn object(&self, value: &Value) -> Result<Value, Fault> {
        let mut value = value.settled(self.scope)?;
        for _ in 0..8 {
            let bare = value.ty().bare();
            match bare.kind() {
                Kind::Pointer(_) => value = self.follow(&value)?.settled(self.scope)?,
                _ => return Ok(value),
            }
        }
        Ok(value)
    }

    fn follow(&self, value: &Value) -> Result<Value, Fault> {
        let value = value.settled(self.scope)?;
        let bare = value.ty().bare();
        match bare.kind() {
            Kind::Pointer(link) => {
                let target = bare.follow(link);
                if matches!(target.bare().kind(), Kind::Void) && target.bare().own_name().is_none()
                {
                    return Err(Fault::new("a pointer to void; cast it: *(T *)p"));
                }
                Ok(Value::at(target, value.pointer(self.scope)?))
            }
            Kind::Array(array) => Ok(value.part(bare.follow(&array.element), 0, None)),
            Kind::Function(..) => Ok(value),
            Kind::Unknown => Err(unknown_type()),
            // GDB takes a number for the address of a long.
            Kind::Number(e) if e.integral() => {
                let ty = crate::value::integer_type(self.language, 8, true);
                let address = value.integer(self.scope)?;
                Ok(Value::at(ty, truncated(address)))
            }
            _ => layer::pointee(&value, self.scope)?
                .ok_or_else(|| Fault::new(format!("`{}` is no pointer", value.ty().name()))),
        }
    }

    fn unary(&self, node: &Node, op: Unary, inner: &Node) -> Result<Value> {
        let value = self.node(inner)?;
        match op {
            Unary::Follow => self.follow(&value).placed(node),
            Unary::Address => self.address_of(&value).placed(inner),
            Unary::Not => {
                let holds = !value.truth(self.scope).placed(inner)?;
                let language = arith::language(value.ty().language(), self.language);
                // Rust's `!` turns the bits of a number.
                if language == Language::Rust
                    && value
                        .ty()
                        .encoding()
                        .is_some_and(|e| e.integral() && e != Encoding::Bool)
                    && let Some(n) = number(&value, self.scope).placed(inner)?
                {
                    return Ok(arith::value(language, n.complement().placed(node)?));
                }
                Ok(arith::truth(language, holds))
            }
            Unary::Minus | Unary::Plus | Unary::Complement => {
                let n = self.number(inner, &value)?;
                let n = match op {
                    Unary::Minus => n.negated(),
                    Unary::Plus => n.promoted(),
                    _ => n.complement().placed(node)?,
                };
                Ok(arith::value(value.ty().language(), n))
            }
        }
    }

    fn address_of(&self, value: &Value) -> Result<Value, Fault> {
        let value = value.settled(self.scope)?;
        if value.bits().is_some() {
            return Err(Fault::new("a bitfield has no address"));
        }
        if let Some(fault) = value.fault() {
            return Err(fault.clone());
        }
        let address = value
            .address()
            .ok_or_else(|| Fault::new("this is not in memory and has no address"))?;
        Ok(Value::of_bytes(
            value.ty().pointer(),
            address.to_le_bytes().to_vec(),
        ))
    }

    fn number(&self, node: &Node, value: &Value) -> Result<Number> {
        match number(value, self.scope).placed(node)? {
            Some(n) => Ok(n),
            None if matches!(value.ty().bare().kind(), Kind::Unknown) => {
                Err(at(node, unknown_type().to_string()))
            }
            None => Err(at(node, format!("`{}` is not a number", value.ty().name()))),
        }
    }

    fn binary(&self, node: &Node, op: Binary, left: &Node, right: &Node) -> Result<Value> {
        if matches!(op, Binary::And | Binary::Or) {
            let a = self.node(left)?;
            let first = a.truth(self.scope).placed(left)?;
            if first == (op == Binary::Or) {
                let language = arith::language(a.ty().language(), self.language);
                return Ok(arith::truth(language, first));
            }
            let b = self.node(right)?;
            let language = arith::language(a.ty().language(), b.ty().language());
            let language = arith::language(language, self.language);
            return Ok(arith::truth(language, b.truth(self.scope).placed(right)?));
        }
        let a = self.node(left)?;
        let b = self.node(right)?;
        let language = arith::language(a.ty().language(), b.ty().language());
        match op {
            Binary::Comma => Ok(b),
            Binary::Equal
            | Binary::Unequal
            | Binary::Less
            | Binary::More
            | Binary::AtMost
            | Binary::AtLeast => {
                for (side, value) in [(left, &a), (right, &b)] {
                    if matches!(value.ty().bare().kind(), Kind::Unknown) {
                        return Err(at(side, unknown_type().to_string()));
                    }
                }
                let language = arith::language(language, self.language);
                Ok(arith::truth(
                    language,
                    holds(&a, op, &b, self.scope).placed(node)?,
                ))
            }
            Binary::Repeat => {
                let count = b.integer(self.scope).placed(right)?;
                let count = u64::try_from(count)
                    .ok()
                    .filter(|c| *c > 0 && *c <= MOST_ELEMENTS)
                    .ok_or_else(|| at(right, "the number of elements must be above 0"))?;
                let a = a.settled(self.scope).placed(left)?;
                let address = a
                    .address()
                    .ok_or_else(|| at(left, "only what is in memory has neighbours"))?;
                Ok(Value::at(a.ty().array(Some(count)), address))
            }
            _ => {
                let a = a.settled(self.scope).placed(left)?;
                let b = b.settled(self.scope).placed(right)?;
                if let Some(value) = self.pointers(node, op, &a, &b)? {
                    return Ok(value);
                }
                let (x, y) = (self.number(left, &a)?, self.number(right, &b)?);
                let n = x.apply(op, y).placed(node)?;
                Ok(arith::value(language, n))
            }
        }
    }

    /// `p + n`, `n + p`, `p - n`, `p - q`.
    fn pointers(&self, node: &Node, op: Binary, a: &Value, b: &Value) -> Result<Option<Value>> {
        let pointed = |v: &Value| -> Option<Type> {
            let bare = v.ty().bare();
            match bare.kind() {
                Kind::Pointer(l) => Some(bare.follow(l)),
                Kind::Array(array) => Some(bare.follow(&array.element)),
                _ => None,
            }
        };
        let step = |ty: &Type| {
            let ty = resolve::completed(ty, self.scope);
            match ty.kind() {
                Kind::Void | Kind::Function(..) => 1,
                _ => ty.size().unwrap_or(1),
            }
        };
        let moved = |ty: Type, v: &Value, n: &Value, back: bool| -> Result<Value> {
            let start = address(v, self.scope).placed(node)?;
            let start = start.ok_or_else(|| at(node, "this array is not in memory"))?;
            let n = n.integer(self.scope).placed(node)?;
            let n = if back { n.wrapping_neg() } else { n };
            let to = start.wrapping_add(truncated(n).wrapping_mul(step(&ty)));
            Ok(Value::of_bytes(ty.pointer(), to.to_le_bytes().to_vec()))
        };
        match (pointed(a), pointed(b), op) {
            (Some(ty), None, Binary::Add) => moved(ty, a, b, false).map(Some),
            (None, Some(ty), Binary::Add) => moved(ty, b, a, false).map(Some),
            (Some(ty), None, Binary::Subtract) => moved(ty, a, b, true).map(Some),
            (Some(ty), Some(_), Binary::Subtract) => {
                let (x, y) = (
                    address(a, self.scope).placed(node)?,
                    address(b, self.scope).placed(node)?,
                );
                let (Some(x), Some(y)) = (x, y) else {
                    return Err(at(node, "this array is not in memory"));
                };
                let size = i64::try_from(step(&ty)).unwrap_or(1).max(1);
                let difference = x.wrapping_sub(y).cast_signed() / size;
                let language = ty.language();
                Ok(Some(Value::of_integer(
                    language,
                    i128::from(difference),
                    8,
                    true,
                )))
            }
            (None, None, _) => Ok(None),
            _ => {
                // Bits of a pointer are asked for: masks, alignment.
                let whole = |v: &Value| -> Result<Value> {
                    if pointed(v).is_none() {
                        return Ok(v.clone());
                    }
                    let n = address(v, self.scope).placed(node)?.unwrap_or(0);
                    Ok(Value::of_integer(
                        v.ty().language(),
                        i128::from(n),
                        8,
                        false,
                    ))
                };
                let (x, y) = (whole(a)?, whole(b)?);
                let (x, y) = (self.number(node, &x)?, self.number(node, &y)?);
                let language = arith::language(a.ty().language(), b.ty().language());
                Ok(Some(arith::value(language, x.apply(op, y).placed(node)?)))
            }
        }
    }

    fn index(&self, node: &Node, of: &Node, index: &Node) -> Result<Value> {
        let value = self.node(of)?.settled(self.scope).placed(of)?;
        let index_value = self.node(index)?;
        if let Some(found) =
            layer::index(&value, &index_value, self.scope).map_err(|e| at(node, e.to_string()))?
        {
            return Ok(found);
        }
        let n = index_value.integer(self.scope).placed(index)?;
        let bare = value.ty().bare();
        match bare.kind() {
            Kind::Array(array) => {
                let element = bare.follow(&array.element);
                let size = resolve::completed(&element, self.scope).size().unwrap_or(0);
                let checked = bare.language() == Language::Rust || value.address().is_none();
                if let Some(count) = array.count
                    && checked
                    && u64::try_from(n).map_or(true, |n| n >= count)
                {
                    return Err(at(index, format!("index {n} of an array of {count}")));
                }
                Ok(value.part(element, truncated(n).wrapping_mul(size), None))
            }
            Kind::Pointer(_) => {
                let first = self.follow(&value).placed(of)?;
                let size = resolve::completed(first.ty(), self.scope)
                    .size()
                    .ok_or_else(|| {
                        at(
                            of,
                            format!("the size of `{}` is not known", first.ty().name()),
                        )
                    })?;
                let start = first.address().unwrap_or(0);
                let place = start.wrapping_add(truncated(n).wrapping_mul(size));
                Ok(Value::at(first.ty().clone(), place))
            }
            _ => Err(at(of, format!("`{}` has no elements", value.ty().name()))),
        }
    }

    fn slice(
        &self,
        node: &Node,
        of: &Node,
        from: Option<&Node>,
        to: Option<&Node>,
    ) -> Result<Value> {
        let value = self.node(of)?.settled(self.scope).placed(of)?;
        let limit = |n: Option<&Node>| -> Result<Option<u64>> {
            let Some(n) = n else { return Ok(None) };
            let value = self.node(n)?.integer(self.scope).placed(n)?;
            u64::try_from(value)
                .map(Some)
                .map_err(|_| at(n, format!("a slice cannot begin or end at {value}")))
        };
        let (from, to) = (limit(from)?.unwrap_or(0), limit(to)?);
        let bare = value.ty().bare();
        let (first, length) = match bare.kind() {
            Kind::Array(array) => (
                value.part(bare.follow(&array.element), 0, None),
                array.count,
            ),
            Kind::Pointer(_) => (self.follow(&value).placed(of)?, None),
            _ => match layer::contiguous(&value, self.scope).placed(of)? {
                Some((element, address, length)) => (Value::at(element, address), Some(length)),
                None => return Err(at(of, format!("`{}` cannot be sliced", value.ty().name()))),
            },
        };
        let is_pointer = matches!(bare.kind(), Kind::Pointer(_));
        let to = to
            .or(if is_pointer { None } else { length })
            .ok_or_else(|| at(node, "where the slice ends is not known: p[0..n]"))?;
        if let Some(length) = length
            && to > length
            && !is_pointer
        {
            return Err(at(node, format!("a slice up to {to} of {length} elements")));
        }
        let count = to
            .checked_sub(from)
            .ok_or_else(|| at(node, "a slice that ends before it begins"))?;
        if count > MOST_ELEMENTS {
            return Err(at(
                node,
                format!("a slice of more than {MOST_ELEMENTS} elements"),
            ));
        }
        let size = resolve::completed(first.ty(), self.scope)
            .size()
            .unwrap_or(0);
        let ty = first.ty().array(Some(count));
        Ok(value_at(&first, &value, ty, from.wrapping_mul(size)))
    }

    fn cast(&self, value: &Value, to: &Type) -> Result<Value, Fault> {
        let bare = resolve::completed(to, self.scope);
        if let Kind::Reference(link, _) = bare.kind() {
            let value = value.settled(self.scope)?;
            let address = value
                .address()
                .ok_or_else(|| Fault::new("this is not in memory"))?;
            return Ok(Value::at(bare.follow(link), address));
        }
        let value = value.settled(self.scope)?;
        if let Some(fault) = value.fault() {
            return Err(fault.clone());
        }
        let from = value.ty().bare();
        match (from.kind(), bare.kind()) {
            // A symbol becomes what it is said to be.
            (Kind::Unknown, _) => return Ok(value.with_type(to.clone())),
            (Kind::Record(_) | Kind::Array(_), Kind::Record(_) | Kind::Array(_))
                if value.address().is_some() =>
            {
                if let Kind::Record(_) = bare.kind()
                    && let Some(name) = bare.own_name()
                    && let Some(base) = members::base_named(&value, name, self.scope, 0)
                {
                    return Ok(base);
                }
                return Ok(value.with_type(to.clone()));
            }
            (Kind::Pointer(link), Kind::Pointer(target)) => {
                let (inner, outer) = (from.follow(link), bare.follow(target));
                let start = value.pointer(self.scope)?;
                let moved = self.moved(start, &inner, &outer);
                return Ok(Value::of_bytes(to.clone(), moved.to_le_bytes().to_vec()));
            }
            (
                Kind::Pointer(_),
                Kind::Number(_) | Kind::Enumeration(_) | Kind::MemberPointer(..),
            )
            | (Kind::Array(_) | Kind::Function(..), Kind::Pointer(_) | Kind::Number(_)) => {
                let n = address(&value, self.scope)?
                    .ok_or_else(|| Fault::new("this array is not in memory"))?;
                let n = Number::Integer(arith::Integer::new(i128::from(n), 8, false));
                if let Some(value) = arith::cast(n, to) {
                    return Ok(value);
                }
            }
            _ => {
                if let Some(n) = number(&value, self.scope)?
                    && let Some(value) = arith::cast(n, to)
                {
                    return Ok(value);
                }
                if matches!(bare.kind(), Kind::Void) {
                    return Ok(Value::of_bytes(to.clone(), Vec::new()));
                }
            }
        }
        Err(Fault::new(format!(
            "`{}` cannot be cast to `{}`",
            value.ty().name(),
            to.name()
        )))
    }

    /// A pointer to a class as one to a base of it or from a base: the parts may lie elsewhere.
    fn moved(&self, start: u64, from: &Type, to: &Type) -> u64 {
        if start == 0 {
            return start;
        }
        let (from, to) = (
            resolve::completed(from, self.scope),
            resolve::completed(to, self.scope),
        );
        let (Kind::Record(_), Kind::Record(_)) = (from.kind(), to.kind()) else {
            return start;
        };
        let up = to.own_name().and_then(|name| {
            members::base_named(&Value::at(from.clone(), start), name, self.scope, 0)
        });
        if let Some(base) = up.and_then(|b| b.address()) {
            return base;
        }
        let down = from.own_name().and_then(|name| {
            members::base_named(&Value::at(to.clone(), start), name, self.scope, 0)
        });
        match down.and_then(|b| b.address()) {
            Some(base) => start.wrapping_sub(base.wrapping_sub(start)),
            None => start,
        }
    }
}

fn value_at(first: &Value, whole: &Value, ty: Type, offset: u64) -> Value {
    match first.address() {
        Some(start) => Value::at(ty, start.wrapping_add(offset)),
        None => whole.part(ty, offset, None),
    }
}

/// The low 64 bits.
fn truncated(n: i128) -> u64 {
    (n.cast_unsigned() & u128::from(u64::MAX)) as u64
}

fn unknown_type() -> Fault {
    Fault::new("only its symbol is known, not its type; cast it: (int)x, *(T *)&x")
}
