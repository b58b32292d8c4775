//! C's way.

use super::strings::prefixed;
use super::{Printer, character, float};
use crate::dies::Language;
use crate::expr::completed;
use crate::layer;
use crate::members;
use crate::types::{Encoding, Kind, Member, Record, Type};
use crate::value::{Value, integer_of};

impl Printer<'_> {
    pub(super) fn c(&mut self, value: &Value) {
        let ty = completed(value.ty(), self.scope);
        match ty.kind() {
            Kind::Void => self.out.push_str("void"),
            Kind::Number(encoding) => self.number(value, *encoding),
            Kind::Pointer(link) => self.pointer(value, &ty.follow(link)),
            Kind::Reference(..) => self.reference(value, &ty, false),
            Kind::MemberPointer(class, _) => self.member_pointer(value, &ty.follow(class)),
            Kind::Array(array) => self.array(value, &ty.follow(&array.element), array.count),
            Kind::Record(record) => self.record(value, &ty, record),
            Kind::Enumeration(_) => self.enumeration(value, &ty),
            Kind::Function(..) => match value.address() {
                Some(address) => {
                    let name = ty.name();
                    self.out.push_str(&format!("{{{name}}} {address:#x}"));
                    self.symbol(address);
                }
                None => self.out.push_str("{...}"),
            },
            Kind::Unknown => self.out.push_str("<data variable, no debug info>"),
            _ => self.out.push('?'),
        }
    }

    pub(super) fn number(&mut self, value: &Value, encoding: Encoding) {
        let bytes = match value.bytes(self.scope) {
            Ok(bytes) => bytes,
            Err(fault) => return self.fault(&fault),
        };
        let rust = value.ty().bare().language() == Language::Rust;
        if rust && bytes.is_empty() {
            return self.out.push_str("()");
        }
        let text = match encoding {
            Encoding::Float => match crate::value::float_of(&bytes) {
                Some(f) if f.is_nan() => super::number::nan(&bytes),
                Some(f) => float(
                    f,
                    match bytes.len() {
                        2 => 5,
                        4 => 9,
                        8 => 17,
                        _ => 18,
                    },
                ),
                None => "?".to_owned(),
            },
            Encoding::Complex => {
                let (a, b) = bytes.split_at(bytes.len() / 2);
                let digits = if a.len() <= 4 { 9 } else { 17 };
                match (crate::value::float_of(a), crate::value::float_of(b)) {
                    (Some(a), Some(b)) => format!("{} + {}i", float(a, digits), float(b, digits)),
                    _ => "?".to_owned(),
                }
            }
            Encoding::Bool => match integer_of(&bytes, false) {
                0 => "false".to_owned(),
                1 => "true".to_owned(),
                n => n.to_string(),
            },
            Encoding::Signed | Encoding::Unsigned if value.ty().char_name().is_some() => {
                return self.char_number(value, &bytes, encoding);
            }
            Encoding::Signed | Encoding::Unsigned => whole(&bytes, encoding.signed()),
            Encoding::SignedChar | Encoding::UnsignedChar if rust => {
                whole(&bytes, encoding.signed())
            }
            Encoding::SignedChar | Encoding::UnsignedChar | Encoding::Unicode => {
                return self.char_number(value, &bytes, encoding);
            }
            Encoding::Other => format!("{bytes:?}"),
        };
        self.out.push_str(&text);
    }

    fn char_number(&mut self, value: &Value, bytes: &[u8], encoding: Encoding) {
        let rust = value.ty().bare().language() == Language::Rust;
        let number = integer_of(bytes, encoding.signed());
        let low = integer_of(bytes, false);
        let c = u32::try_from(low).unwrap_or(0xfffd);
        let prefix = match (bytes.len(), rust, value.ty().char_name()) {
            (_, true, _) | (1, ..) => "",
            (_, _, Some("wchar_t")) => "L",
            (2, ..) => "u",
            _ => "U",
        };
        let shown = if bytes.len() == 1 && low >= 0x7f {
            format!("'\\{low:03o}'")
        } else {
            character(c, '\'')
        };
        self.out.push_str(&format!("{number} {prefix}{shown}"));
    }

    pub(super) fn enumeration(&mut self, value: &Value, ty: &Type) {
        let number = match value.integer(self.scope) {
            Ok(number) => number,
            Err(fault) => return self.fault(&fault),
        };
        let Kind::Enumeration(e) = ty.kind() else {
            return;
        };
        let prefix = enumerator_prefix(ty);
        if let Some(name) = members::enumerator(ty, number) {
            return self.out.push_str(&format!("{prefix}{name}"));
        }
        let flags =
            !e.values.is_empty() && e.values.iter().all(|(_, v)| *v >= 0 && v.count_ones() <= 1);
        if !flags {
            return self.out.push_str(&number.to_string());
        }
        let mut rest = number;
        let mut names = Vec::new();
        for (name, value) in &e.values {
            if *value != 0 && rest & value == *value {
                names.push(format!("{prefix}{name}"));
                rest &= !value;
            }
        }
        if rest != 0 {
            names.push(format!("unknown: {rest:#x}"));
        }
        if names.is_empty() {
            self.out.push('0');
        } else {
            self.out.push_str(&format!("({})", names.join(" | ")));
        }
    }

    pub(super) fn pointer(&mut self, value: &Value, target: &Type) {
        let address = match value.pointer(self.scope) {
            Ok(address) => address,
            Err(fault) => return self.fault(&fault),
        };
        self.out.push_str(&format!("{address:#x}"));
        if address == 0 {
            return;
        }
        self.symbol(address);
        if target.is_char() {
            let unit = target.size().unwrap_or(1);
            if let Ok(Some((bytes, whole))) =
                layer::terminated(address, unit, self.style.elements as u64, self.scope)
            {
                let shown = prefixed(
                    prefix(target, unit),
                    &bytes,
                    unit.to_le_bytes()[0],
                    true,
                    !whole,
                    self.style,
                );
                self.out.push_str(&format!(" {shown}"));
            } else {
                self.out
                    .push_str(&format!(" <cannot read memory at {address:#x}>"));
            }
        }
    }

    /// ` <name+offset>`, if a symbol holds the address.
    pub(super) fn symbol(&mut self, address: u64) {
        if let Some(name) = layer::symbol_at(address, self.scope) {
            self.out.push_str(&format!(" <{name}>"));
        }
    }

    fn member_pointer(&mut self, value: &Value, class: &Type) {
        let class = completed(class, self.scope);
        let named = |offset: u64| match class.kind() {
            Kind::Record(record) => record
                .members
                .iter()
                .find(|m| !m.base && m.of_class.is_none() && m.at == offset)
                .and_then(|m| m.name.clone()),
            _ => None,
        };
        let all = value
            .ty()
            .bare()
            .size()
            .map_or(u64::MAX, |s| u64::MAX >> (64 - 8 * s.clamp(1, 8)));
        match value.integer(self.scope) {
            Ok(offset) if offset == i128::from(all) => self.out.push_str("NULL"),
            Ok(offset) if named(u64::try_from(offset).unwrap_or(u64::MAX)).is_some() => {
                let name = named(u64::try_from(offset).unwrap_or(u64::MAX)).unwrap_or_default();
                self.out.push_str(&format!("&{}::{name}", class.name()));
            }
            Ok(offset) => {
                let offset = u64::try_from(offset).unwrap_or(u64::MAX);
                let symbol = layer::symbol_at(offset, self.scope);
                match symbol {
                    Some(name) => self.out.push_str(&format!("{offset:#x} <{name}>")),
                    None => self.out.push_str(&format!("{offset:#x}")),
                }
            }
            Err(fault) => self.fault(&fault),
        }
    }

    pub(super) fn array(&mut self, value: &Value, element: &Type, count: Option<u64>) {
        let count = count.unwrap_or(0);
        if element.is_char() && count > 0 && element.language() != Language::Rust {
            return self.characters(value, element, count);
        }
        self.nested(|p| {
            p.out.push('{');
            p.elements(value, element, count);
            p.out.push('}');
        });
    }

    /// An array of characters: a text, with what follows its end if that is not all zero.
    fn characters(&mut self, value: &Value, element: &Type, count: u64) {
        let unit = element.size().unwrap_or(1).max(1);
        let limit = self.style.elements as u64;
        // Runs count as few towards the limit, so more is read than is shown.
        let most = count.min(limit.saturating_mul(20).max(4096));
        let mut bytes = match value.first_bytes(self.scope, most * unit) {
            Ok(bytes) => bytes,
            Err(fault) => return self.fault(&fault),
        };
        let size = usize::try_from(unit).unwrap_or(1);
        let all_zero = bytes.iter().all(|b| *b == 0);
        if most == count && bytes.ends_with(&vec![0; size]) {
            // One zero at the end is part of every text.
            bytes.truncate(bytes.len() - size);
            if all_zero && count > limit {
                bytes.push(0);
            }
        }
        let kept = super::c::shown(&bytes, size, self.style);
        let more = kept < bytes.len() || most < count;
        bytes.truncate(kept);
        let shown = prefixed(
            prefix(element, unit),
            &bytes,
            unit.to_le_bytes()[0],
            true,
            more,
            self.style,
        );
        self.out.push_str(&shown);
    }

    fn record(&mut self, value: &Value, ty: &Type, record: &Record) {
        if record.declaration {
            return self.out.push_str("<incomplete type>");
        }
        let value = value.with_type(ty.clone());
        self.nested(|p| {
            if record.members.is_empty() {
                return p.out.push_str("{<No data fields>}");
            }
            p.out.push('{');
            let mut first = true;
            for member in &record.members {
                if p.seen(&value, ty, member) {
                    continue;
                }
                if !p.member(&value, ty, member, &mut first) {
                    break;
                }
            }
            p.out.push('}');
        });
    }

    /// Whether a virtual base was shown as a part of another base of this object.
    fn seen(&mut self, value: &Value, ty: &Type, member: &Member) -> bool {
        if !(member.base && member.computed) {
            return false;
        }
        let base = members::member(value, ty, member, self.scope);
        let Some(address) = base.ok().and_then(|b| b.address()) else {
            return false;
        };
        if self.virtual_bases.contains(&address) {
            return true;
        }
        self.virtual_bases.push(address);
        false
    }

    fn member(&mut self, value: &Value, ty: &Type, member: &Member, first: &mut bool) -> bool {
        if self.full() {
            self.out.push_str("...");
            return false;
        }
        if !*first {
            self.out.push_str(", ");
        }
        *first = false;
        let part = members::member(value, ty, member, self.scope);
        if member.base {
            let base = ty.follow(&member.ty);
            self.out.push_str(&format!("<{}> = ", base.bare().name()));
        } else if let Some(name) = &member.name {
            if member.of_class.is_some() {
                self.out.push_str("static ");
            }
            self.out.push_str(&format!("{name} = "));
        }
        match part {
            Ok(part) => {
                let bare = part.ty().bare();
                if bare.is_reference() {
                    self.reference(&part, &bare, false);
                } else if member.of_class.is_some()
                    && matches!(bare.kind(), Kind::Record(_))
                    && bare.own_name() == ty.own_name()
                {
                    self.out
                        .push_str("<same as static member of an already seen type>");
                } else {
                    self.value(&part);
                }
            }
            Err(fault) => self.fault(&fault),
        }
        true
    }
}

/// How many bytes are shown under the limit, where a run of equal characters counts as ten.
pub(super) fn shown(bytes: &[u8], size: usize, style: &super::Style) -> usize {
    let mut left = style.elements;
    let mut at = 0;
    while at < bytes.len() && left > 0 {
        let c = &bytes[at..(at + size).min(bytes.len())];
        let same = bytes[at..].chunks(size).take_while(|d| *d == c).count();
        if same > style.repeats {
            at += same * size;
            left = left.saturating_sub(style.repeats);
        } else {
            at += size;
            left -= 1;
        }
    }
    at.min(bytes.len())
}

pub(super) fn whole(bytes: &[u8], signed: bool) -> String {
    let number = integer_of(bytes, signed);
    if signed {
        number.to_string()
    } else {
        number.cast_unsigned().to_string()
    }
}

/// What stands in front of a text of wide characters.
fn prefix(element: &Type, unit: u64) -> &'static str {
    match (unit, element.char_name()) {
        (1, _) => "",
        (_, Some("wchar_t")) => "L",
        (2, _) => "u",
        _ => "U",
    }
}

/// What stands in front of an enumerator.
pub(crate) fn enumerator_prefix(ty: &Type) -> String {
    let Kind::Enumeration(e) = ty.kind() else {
        return String::new();
    };
    let name = ty.own_name().unwrap_or_default();
    if e.scoped || ty.language() == Language::Rust {
        return format!("{name}::");
    }
    let mut segments = crate::expr::names::segments(name);
    segments.pop();
    if segments.is_empty() {
        String::new()
    } else {
        format!("{}::", segments.join("::"))
    }
}
