//! Values as text, as GDB prints them: C's way for C and C++, Rust's for Rust.
//!
//! Everything has a limit: elements, characters, depth, and the text as a whole, so that a pointer
//! into nowhere or a list that bites its tail ends as `...`.

mod c;
mod number;
mod rust;
mod strings;

use crate::dies::Language;
use crate::layer::{self, View};
use crate::types::{Kind, Type};
use crate::value::{Fault, Scope, Value};

pub(crate) use number::float;
pub(crate) use strings::{character, quoted};

/// How much is shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Style {
    /// Elements of an array, entries of a container, characters of a text.
    pub elements: usize,
    /// Equal neighbours beyond this number become one with a count.
    pub repeats: usize,
    /// Records within records.
    pub depth: usize,
    /// Bytes of the whole text, about.
    pub bytes: usize,
    /// Containers are shown by what they contain, not by how they are built.
    pub layers: bool,
    /// The type in front of pointers and references, as GDB does at the top.
    pub types: bool,
}

impl Default for Style {
    fn default() -> Self {
        Self {
            elements: 200,
            repeats: 10,
            depth: 20,
            bytes: 1 << 20,
            layers: true,
            types: true,
        }
    }
}

impl Style {
    /// For one line among others: a table, a sparkline's label.
    pub fn short() -> Self {
        Self {
            elements: 16,
            depth: 3,
            bytes: 400,
            ..Self::default()
        }
    }

    /// As much as can tell two values apart, for comparing one value at two moments.
    pub fn whole() -> Self {
        Self {
            elements: 1 << 16,
            bytes: 4 << 20,
            types: false,
            ..Self::default()
        }
    }

    /// Containers as they are built.
    #[must_use]
    pub fn raw(self) -> Self {
        Self {
            layers: false,
            ..self
        }
    }
}

impl Value {
    /// As text. What cannot be read is said in its place.
    pub fn display(&self, scope: &Scope<'_>, style: &Style) -> String {
        let mut printer = Printer {
            out: String::new(),
            scope,
            style,
            depth: 0,
            virtual_bases: Vec::new(),
        };
        printer.top(self);
        printer.out
    }
}

pub(crate) struct Printer<'a> {
    pub out: String,
    pub scope: &'a Scope<'a>,
    pub style: &'a Style,
    depth: usize,
    /// Virtual bases of this object that were shown.
    virtual_bases: Vec<u64>,
}

impl Printer<'_> {
    fn full(&self) -> bool {
        self.out.len() >= self.style.bytes
    }

    fn fault(&mut self, fault: &Fault) {
        match fault {
            Fault::OptimisedOut => self.out.push_str("<optimized out>"),
            Fault::Unreadable(u) => {
                self.out
                    .push_str(&format!("<cannot read memory at {:#x}>", u.address));
            }
            Fault::Other(message) => self.out.push_str(&format!("<{message}>")),
        }
    }

    fn top(&mut self, value: &Value) {
        let bare = value.ty().bare();
        if self.style.types {
            match bare.kind() {
                Kind::Pointer(link) => {
                    let target = bare.follow(link);
                    let own = value.ty().unqualified();
                    let plain_text = own.own_name().is_none()
                        && target.unqualified().own_name() == Some("char")
                        && matches!(own.kind(), Kind::Pointer(_));
                    let shown = self.style.layers
                        && layer::view(value, self.scope).is_ok_and(|v| v.is_some());
                    if !plain_text && !shown && value.fault().is_none() {
                        self.out.push_str(&format!("({}) ", value.ty().name()));
                    }
                }
                Kind::Reference(..) if value.fault().is_none() && self.viewed(value).is_none() => {
                    self.out.push_str(&format!("({}) ", value.ty().name()));
                    return self.reference(value, &bare, true);
                }
                _ => {}
            }
        }
        self.value(value);
    }

    /// What a reference refers to, if that is shown by what it contains.
    fn viewed(&self, value: &Value) -> Option<Value> {
        if !self.style.layers {
            return None;
        }
        let there = value.settled(self.scope).ok()?;
        let view = layer::view(&there, self.scope).ok()?;
        view.is_some().then_some(there)
    }

    /// `@0x...: value`.
    fn reference(&mut self, value: &Value, bare: &Type, follow: bool) {
        let Kind::Reference(link, _) = bare.kind() else {
            return;
        };
        match value.pointer(self.scope) {
            Ok(address) => {
                self.out.push_str(&format!("@{address:#x}"));
                if follow {
                    self.out.push_str(": ");
                    self.value(&Value::at(bare.follow(link), address));
                }
            }
            Err(fault) => self.fault(&fault),
        }
    }

    pub(crate) fn value(&mut self, value: &Value) {
        if self.full() {
            return self.out.push_str("...");
        }
        if let Some(fault) = value.fault() {
            let fault = fault.clone();
            return self.fault(&fault);
        }
        if value.ty().is_reference()
            && let Some(there) = self.viewed(value)
        {
            return self.value(&there);
        }
        if self.style.layers {
            match layer::view(value, self.scope) {
                Ok(Some(view)) => return self.view(&view),
                Ok(None) => {}
                Err(fault) => return self.fault(&fault),
            }
        }
        if value.ty().bare().language() == Language::Rust {
            self.rust(value);
        } else {
            self.c(value);
        }
    }

    /// Runs `f` one level deeper, or says that it would be too deep.
    fn nested(&mut self, f: impl FnOnce(&mut Self)) {
        if self.depth >= self.style.depth {
            return self.out.push_str("{...}");
        }
        self.depth += 1;
        f(self);
        self.depth -= 1;
    }

    fn view(&mut self, view: &View) {
        match view {
            View::Text(text) => match text.read(self.style.elements as u64, self.scope) {
                Ok((bytes, whole)) => {
                    let shown = quoted(&bytes, text.unit, text.utf8, !whole, self.style);
                    self.out.push_str(&shown);
                }
                Err(fault) => self.fault(&fault),
            },
            View::Plain(value) => self.nested(|p| p.value(value)),
            View::Wrapped { head, value } => {
                self.out.push_str(&format!("{head} = {{ "));
                self.nested(|p| p.value(value));
                self.out.push_str(" }");
            }
            View::Pointer { head, fields } => {
                self.out.push_str(head);
                if fields.is_empty() {
                    return;
                }
                if !head.is_empty() {
                    self.out.push_str(" = ");
                }
                self.nested(|p| p.fields(fields));
            }
            View::List(list) => {
                self.out.push_str(&list.head);
                if list.length == 0 && list.head_alone {
                    return;
                }
                let (open, close) = if list.square { ("[", "]") } else { ("{", "}") };
                if list.square {
                    self.out.push(' ');
                } else if !list.head.is_empty() {
                    self.out.push_str(" = ");
                }
                self.nested(|p| {
                    p.out.push_str(open);
                    p.list(list);
                    p.out.push_str(close);
                });
            }
            View::Map(map) => {
                self.out.push_str(&map.head);
                if map.length == 0 && map.head_alone {
                    return;
                }
                if !map.head.is_empty() {
                    self.out.push_str(" = ");
                }
                self.nested(|p| {
                    p.out.push('{');
                    p.map(map);
                    p.out.push('}');
                });
            }
        }
    }

    fn fields(&mut self, fields: &[(String, Value)]) {
        self.out.push('{');
        for (i, (name, value)) in fields.iter().enumerate() {
            if i > 0 {
                self.out.push_str(", ");
            }
            self.out.push_str(name);
            self.out.push_str(" = ");
            self.value(value);
        }
        self.out.push('}');
    }

    fn list(&mut self, list: &layer::List) {
        let most = (self.style.elements as u64).min(list.length);
        match list.items(0..most, self.scope) {
            Ok(items) if list.indexed => {
                for (i, item) in items.iter().enumerate() {
                    if self.full() {
                        break;
                    }
                    let comma = if i > 0 { ", " } else { "" };
                    self.out.push_str(&format!("{comma}[{i}] = "));
                    self.value(item);
                }
                if list.length > items.len() as u64 {
                    self.out.push_str("...");
                }
            }
            Ok(items) => {
                let more = list.length > items.len() as u64;
                self.items(&items, more);
            }
            Err(fault) => self.fault(&fault),
        }
    }

    fn map(&mut self, map: &layer::Map) {
        let most = (self.style.elements as u64 / 2).min(map.length);
        match map.entries(0..most, self.scope) {
            Ok(entries) => {
                for (i, (key, value)) in entries.iter().enumerate() {
                    if self.full() {
                        return self.out.push_str("...");
                    }
                    if i > 0 {
                        self.out.push_str(", ");
                    }
                    self.out.push('[');
                    self.value(key);
                    self.out.push_str("] = ");
                    self.value(value);
                }
                if map.length > entries.len() as u64 {
                    self.out.push_str("...");
                }
            }
            Err(fault) => self.fault(&fault),
        }
    }

    /// Items with equal neighbours counted. Each is made only when its turn comes.
    pub(crate) fn items(&mut self, items: &[Value], more: bool) {
        let texts = self.texts(items);
        let mut at = 0;
        let mut first = true;
        while at < texts.len() {
            if self.full() {
                return self.out.push_str("...");
            }
            let same = texts[at..].iter().take_while(|t| **t == texts[at]).count();
            if !first {
                self.out.push_str(", ");
            }
            first = false;
            if same >= self.style.repeats {
                self.out
                    .push_str(&format!("{} <repeats {same} times>", texts[at]));
                at += same;
            } else {
                self.out.push_str(&texts[at]);
                at += 1;
            }
        }
        if more {
            self.out.push_str("...");
        }
    }

    fn texts(&mut self, items: &[Value]) -> Vec<String> {
        let mut texts = Vec::new();
        let mut used = self.out.len();
        for item in items {
            if used >= self.style.bytes {
                break;
            }
            let mut inner = Printer {
                out: String::new(),
                scope: self.scope,
                style: self.style,
                depth: self.depth,
                virtual_bases: Vec::new(),
            };
            inner.value(item);
            used += inner.out.len();
            texts.push(inner.out);
        }
        texts
    }

    /// The elements of an array, up to `limit`.
    pub(crate) fn elements(&mut self, value: &Value, element: &Type, count: u64) {
        let size = crate::expr::completed(element, self.scope)
            .size()
            .unwrap_or(0);
        // Equal neighbours count as one towards the limit, so look at more than are shown.
        let limit = self.style.elements as u64;
        let mut shown = 0u64;
        let mut at = 0u64;
        let budget = limit.saturating_mul(64).max(1 << 16);
        while at < count && shown < limit && !self.full() {
            if at > 0 {
                self.out.push_str(", ");
            }
            let item = value.part(element.clone(), at.wrapping_mul(size), None);
            let same = self.run(
                value,
                element,
                size,
                at,
                count.min(at.saturating_add(budget)),
            );
            self.value(&item);
            if same >= self.style.repeats as u64 {
                self.out.push_str(&format!(" <repeats {same} times>"));
                at += same;
                shown += self.style.repeats as u64;
            } else {
                at += 1;
                shown += 1;
            }
        }
        if at < count {
            self.out.push_str("...");
        }
    }

    /// How many elements from `at` on have the same bytes.
    fn run(&self, value: &Value, element: &Type, size: u64, at: u64, count: u64) -> u64 {
        if size == 0 || size > 4096 {
            return 1;
        }
        let part = |from: u64, n: u64| {
            value
                .part(element.array(Some(n)), from.wrapping_mul(size), None)
                .first_bytes(self.scope, n * size)
        };
        let Ok(first) = part(at, 1) else { return 1 };
        let mut same = 1;
        let mut step = 16u64;
        while at + same < count {
            let n = step.min(count - at - same);
            let Ok(block) = part(at + same, n) else {
                // The block may reach beyond what can be read.
                match part(at + same, 1) {
                    Ok(next) if next == first => {
                        same += 1;
                        step = 1;
                        continue;
                    }
                    _ => return same,
                }
            };
            for chunk in block.chunks(first.len()) {
                if chunk != first {
                    return same;
                }
                same += 1;
            }
            step = (step * 2).min(4096 / size.min(4096)).max(1);
        }
        same
    }
}
